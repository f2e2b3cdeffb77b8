//! The tables, brought up to date by whoever comes first.
//!
//! Decides: which nodes may use which tables. Each migration is a numbered file and says since which version of the tables
//! a program may go on beside it (`compatible_from`). Within a minor version of the program migrations only add, so that
//! older nodes go on beside newer ones during a rolling deploy; a node that is too old is told so when it opens the store.
//!
//! Any number of nodes may start at once: one transaction under an advisory lock brings the tables up to date, the others
//! wait for it and find nothing left to do. A transaction keeps its connection also behind a pooler.

use std::time::Duration;

use soloist::{fault, limits};
use tokio::time::Instant;

use crate::{
    db::{Again, Fate},
    error::{SqlError, SqlResult},
    open::OpenError,
    pool::{Pool, Taken},
    rows,
    sql::{Statement, args, in_schema},
};

/// A version of the tables.
struct Migration {
    /// The oldest program that may use them, by the newest version that it knows.
    compatible_from: i32,
    sql: &'static str,
}

/// Number n brings the tables from version n - 1 to n. What has been released never changes.
const MIGRATIONS: &[Migration] = &[
    Migration { compatible_from: 1, sql: include_str!("migrations/0001_tables.sql") },
    Migration { compatible_from: 1, sql: include_str!("migrations/0002_queue_of_model.sql") },
    // A program that knows no due times and no slots would run what waits for its time, and more at once than may.
    Migration { compatible_from: 3, sql: include_str!("migrations/0003_lifecycle.sql") },
    // A program that knows no traces goes on: the runs that it starts may be told an earlier one's, and nothing is decided by it.
    Migration { compatible_from: 3, sql: include_str!("migrations/0004_trace.sql") },
    // A program that does not know which numbers were taken back goes on as it did: it gives them to other starts.
    Migration { compatible_from: 3, sql: include_str!("migrations/0005_taken_back.sql") },
];

/// Where versions are kept; of one form for ever.
const TABLE: &str = "CREATE TABLE IF NOT EXISTS soloist.migration (
    version         integer     NOT NULL PRIMARY KEY,
    compatible_from integer     NOT NULL,
    applied_at      timestamptz NOT NULL DEFAULT now()
)";

/// What stands in the table of versions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Found {
    version: i32,
    compatible_from: i32,
}

fn known() -> i32 {
    i32::try_from(MIGRATIONS.len()).expect("migrations are few")
}

/// Brings the tables of a schema up to date, or finds that they are.
pub(crate) async fn migrate(pool: &Pool, schema: &str) -> Result<(), OpenError> {
    let mut again = Again::new(Fate::Repeat);
    loop {
        match attempt(pool, schema).await {
            Ok(Some(found)) => return judge(found),
            Ok(None) => return Ok(()),
            Err(error) => again.after(error).await.map_err(OpenError::database)?,
        }
    }
}

fn judge(found: Found) -> Result<(), OpenError> {
    if found.compatible_from > known() {
        return Err(OpenError::NewerVersion { found: found.version, known: known() });
    }
    Ok(())
}

/// What was found, where that is at least what this program knows; none where it was brought up to date.
async fn attempt(pool: &Pool, schema: &str) -> SqlResult<Option<Found>> {
    let mut taken = pool.take().await?;
    if let Some(found) = versions(&mut taken, schema).await?.filter(|found| found.version >= known()) {
        return Ok(Some(found));
    }
    let migrated = bring_up_to_date(&mut taken, schema).await;
    match migrated {
        Ok(found) => Ok(found),
        Err(error) => {
            // The database undoes what a closed connection has begun.
            taken.close();
            Err(error)
        }
    }
}

async fn bring_up_to_date(taken: &mut Taken<'_>, schema: &str) -> SqlResult<Option<Found>> {
    let deadline = Instant::now() + limits::POSTGRES_MIGRATE_MAX;
    let left = || deadline.saturating_duration_since(Instant::now());
    // Each statement sees what the lock has waited for, whatever is usual in this database. The disk is waited for, too.
    let begin = "BEGIN ISOLATION LEVEL READ COMMITTED; SET LOCAL synchronous_commit = on";
    taken.run(begin, left()).await?;
    fault::point("postgres:migrate-begun");
    // Schemas of one database wait for each other; that is rare, and asks for no name that could be taken.
    taken.run("SELECT pg_advisory_xact_lock(hashtext('soloist'), hashtext('migration'))", left()).await?;
    fault::point("postgres:migrate-locked");
    let found = versions(taken, schema).await?;
    if found.is_some_and(|found| found.version >= known()) {
        taken.run("ROLLBACK", left()).await?;
        return Ok(found);
    }
    if found.is_none() {
        prepare(taken, schema, left()).await?;
    }
    let from = found.map_or(0, |found| found.version);
    for (version, migration) in (1..).zip(MIGRATIONS).filter(|(version, _)| *version > from) {
        taken.run(&in_schema(migration.sql, schema), left()).await?;
        fault::point("postgres:migrate-tables");
        let kept = format!(
            "INSERT INTO soloist.migration (version, compatible_from) VALUES ({version}, {})",
            migration.compatible_from
        );
        taken.run(&in_schema(&kept, schema), left()).await?;
        fault::point("postgres:migrate-numbered");
    }
    taken.run("COMMIT", left()).await?;
    fault::point("postgres:migrate-after");
    Ok(None)
}

/// Makes the schema, where it is not there (whoever may not make one may be given one), and the table of versions.
async fn prepare(taken: &mut Taken<'_>, schema: &str, deadline: Duration) -> SqlResult<()> {
    let there = Statement::new("SELECT 1 FROM pg_namespace WHERE nspname = :schema", schema);
    if taken.ask(&there, args! { schema: TEXT = schema }).await?.is_empty() {
        taken.run(&format!("CREATE SCHEMA \"{schema}\""), deadline).await?;
        fault::point("postgres:migrate-schema");
    }
    taken.run(&in_schema(TABLE, schema), deadline).await?;
    fault::point("postgres:migrate-versions");
    Ok(())
}

/// The newest version of the tables, and what it asks of a program.
async fn versions(taken: &mut Taken<'_>, schema: &str) -> SqlResult<Option<Found>> {
    // Asked of the catalogue itself, with the snapshot of this statement: what a name means is remembered by a connection,
    // also that it meant nothing before the lock was waited for.
    let there = "SELECT 1 FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace
                  WHERE nspname = :schema AND relname = 'migration'";
    if taken.ask(&Statement::new(there, schema), args! { schema: TEXT = schema }).await?.is_empty() {
        return Ok(None);
    }
    let newest =
        "SELECT coalesce(max(version), 0) AS version, coalesce(max(compatible_from), 0) AS compatible_from
                    FROM soloist.migration";
    let found = taken.ask(&Statement::new(newest, schema), args! {}).await?;
    let Some(row) = found.first() else {
        return Err(SqlError::Corrupt("the table of versions cannot be read".to_owned()));
    };
    let (version, compatible_from) = (rows::get(row, "version")?, rows::get(row, "compatible_from")?);
    Ok(Some(Found { version, compatible_from }))
}
