//! Opening the store: the database is reached, the tables are brought up to date, the settings are checked.
//!
//! Decides: when a database is not to be used: it cannot be reached, is too new, or would lose what was answered.

use std::sync::Arc;

use soloist::limits;

use crate::{
    Durability, PgOptions, PgStore,
    db::{Db, Fate, ask},
    error::SqlError,
    gather::Gather,
    hints::{self, Hints},
    migrate::migrate,
    node::Now,
    pool::Pool,
    queries::Slots,
    rows,
    sql::{Statement, Statements, args},
    target::Target,
    writer::Writer,
};

/// Why a database was not opened. No message holds a password.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// What was given is no URL of a database.
    #[error("the {what} of the store cannot be used: {why}")]
    InvalidUrl {
        /// Which one: `url` or `listen_url`.
        what: &'static str,
        /// Why.
        why: String,
    },
    /// The name cannot be one of a schema.
    #[error(
        "{schema:?} is no schema for a store: a lower-case letter or '_', then letters, digits or '_', {} bytes at most",
        limits::POSTGRES_SCHEMA_MAX_BYTES
    )]
    InvalidSchema {
        /// The name.
        schema: String,
    },
    /// A newer Soloist has changed the tables in a way that this one cannot go on beside.
    #[error(
        "the tables have version {found}, and this soloist, which knows versions up to {known}, is too old for them; use a newer soloist, or name another schema"
    )]
    NewerVersion {
        /// Their version.
        found: i32,
        /// The newest version that this program knows.
        known: i32,
    },
    /// A commit would be answered before it is on disk.
    #[error(
        "the database has synchronous_commit = {found}, with which a power cut takes what was answered; set it to on (for this user, say: ALTER ROLE ... SET synchronous_commit = on)"
    )]
    NotDurable {
        /// What it is set to.
        found: String,
    },
    /// It cannot be reached, or refuses.
    #[error("cannot open the store in {database}: {why}")]
    Database {
        /// The database, without its password.
        database: String,
        /// Why.
        why: String,
    },
}

impl OpenError {
    /// The database is named by [`open`].
    pub(crate) fn database(error: SqlError) -> Self {
        let why = match error {
            SqlError::Away(why)
            | SqlError::Broken(why)
            | SqlError::Conflict(why)
            | SqlError::Double(why)
            | SqlError::Full(why)
            | SqlError::Corrupt(why) => why,
        };
        Self::Database { database: String::new(), why }
    }

    fn of(self, target: &Target) -> Self {
        match self {
            Self::Database { why, .. } => Self::Database { database: target.to_string(), why },
            other => other,
        }
    }
}

pub(crate) async fn open(url: &str, options: PgOptions) -> Result<PgStore, OpenError> {
    let target = Target::parse(url).map_err(|why| OpenError::InvalidUrl { what: "url", why })?;
    let direct = match &options.listen_url {
        Some(url) => Target::parse(url).map_err(|why| OpenError::InvalidUrl { what: "listen_url", why })?,
        None => target.clone(),
    };
    let schema = options.schema;
    if !is_schema(&schema) {
        return Err(OpenError::InvalidSchema { schema });
    }
    let db = Arc::new(Db {
        readers: Pool::new(target.clone(), limits::POSTGRES_READERS),
        writers: Pool::new(target.clone(), limits::POSTGRES_WRITERS),
        groups: Pool::new(target.clone(), 1),
        sweeps: Pool::new(target.clone(), 1),
        claims: Gather::new(limits::POSTGRES_GATHER_LANES),
        looks: Gather::new(limits::POSTGRES_GATHER_LANES),
        records: Gather::new(limits::POSTGRES_GATHER_LANES),
        named: Gather::new(limits::POSTGRES_GATHER_LANES),
        assigned: Gather::new(1),
        sql: Statements::of(&schema),
        schema,
        slots: Slots::default(),
    });
    migrate(&db.writers, &db.schema).await.map_err(|error| error.of(&target))?;
    check_durability(&db).await.map_err(|error| error.of(&target))?;
    let hints = Hints::new(&db.schema);
    let listening = tokio::spawn(hints::serve(hints.clone(), direct.clone())).abort_handle();
    let writer = Writer::spawn(db.clone(), hints.clone(), options.durability == Durability::Relaxed);
    let (durability, now) = (options.durability, Now(options.clock));
    Ok(PgStore { writer, db, hints, listening, target, direct, durability, now })
}

/// Relaxed durability sets what it relaxes itself; everything else is to wait for the disk in any case.
async fn check_durability(db: &Db) -> Result<(), OpenError> {
    let setting = Statement::new("SELECT current_setting('synchronous_commit') AS found", &db.schema);
    let found = ask(&db.writers, Fate::Repeat, &setting, args! {}).await.map_err(OpenError::database)?;
    let Some(row) = found.first() else { return Ok(()) };
    match rows::get::<String>(row, "found").map_err(OpenError::database)?.as_str() {
        found @ ("off" | "local") => Err(OpenError::NotDurable { found: found.to_owned() }),
        _ => Ok(()),
    }
}

fn is_schema(name: &str) -> bool {
    let mut bytes = name.bytes();
    bytes.next().is_some_and(|b| b.is_ascii_lowercase() || b == b'_')
        && bytes.all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
        && name.len() <= limits::POSTGRES_SCHEMA_MAX_BYTES
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_schema_is_a_plain_name() {
        for good in ["soloist", "_a1", &"a".repeat(63)] {
            assert!(is_schema(good), "{good}");
        }
        for bad in ["", "1a", "A", "a-b", "a\"", "a.b", &"a".repeat(64)] {
            assert!(!is_schema(bad), "{bad}");
        }
    }
}
