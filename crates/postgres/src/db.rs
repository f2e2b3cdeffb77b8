//! One question to the database, asked until it has an answer or a bound is reached.
//!
//! Decides: what is asked again. A statement that gave way to another one (at REPEATABLE READ and SERIALIZABLE every second
//! of two does) has done nothing, and goes round again with a back-off and jitter. One whose connection broke may have been
//! done: it is asked again only where that is harmless ([`Fate::Repeat`]), on a fresh connection and for a bounded time. One
//! that could not be sent is not asked again: its caller is told at once.

use std::time::Duration;

use soloist::limits;
use tokio::time::{Instant, sleep};
use tokio_postgres::Row;

use crate::{
    error::{SqlError, SqlResult},
    gather::Gather,
    pool::Pool,
    queries::{Claiming, Creating, Looking, Reading, Slots},
    sql::{Args, Statement, Statements},
};

/// What may be done about a statement whose answer was lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    /// It reads, or does the same once as twice: it is asked again.
    Repeat,
    /// Twice would be once too often: its caller is told that it may have been done.
    Once,
}

/// The ways to the database.
pub(crate) struct Db {
    /// For what only reads.
    pub(crate) readers: Pool,
    /// For creates, claims, deletes and the like.
    pub(crate) writers: Pool,
    /// For the group commit.
    pub(crate) groups: Pool,
    /// For the looks after dead nodes and what they held, which go on however much others write.
    pub(crate) sweeps: Pool,
    /// Claims that wait for those under way.
    pub(crate) claims: Gather<Claiming>,
    /// The looks of claims.
    pub(crate) looks: Gather<Looking>,
    /// Looks at records.
    pub(crate) records: Gather<Reading>,
    /// Creates of tasks that are named.
    pub(crate) named: Gather<Creating<true>>,
    /// Creates of tasks whose names the store assigns, which follow each other in any case.
    pub(crate) assigned: Gather<Creating<false>>,
    /// The statements, for the schema of this store.
    pub(crate) sql: Statements,
    /// That schema.
    pub(crate) schema: String,
    /// What is known of the slots there.
    pub(crate) slots: Slots,
}

impl Db {
    /// Asks a question that only reads.
    pub(crate) async fn read(&self, statement: &Statement, args: Args<'_>) -> SqlResult<Vec<Row>> {
        ask(&self.readers, Fate::Repeat, statement, args).await
    }

    /// Writes.
    pub(crate) async fn write(
        &self,
        fate: Fate,
        statement: &Statement,
        args: Args<'_>,
    ) -> SqlResult<Vec<Row>> {
        ask(&self.writers, fate, statement, args).await
    }
}

/// Asks on a connection of a pool, as this module says.
pub(crate) async fn ask(
    pool: &Pool,
    fate: Fate,
    statement: &Statement,
    args: Args<'_>,
) -> SqlResult<Vec<Row>> {
    ask_while(pool, Again::new(fate), statement, args).await
}

/// The same, as long as that allows.
pub(crate) async fn ask_while(
    pool: &Pool,
    mut again: Again,
    statement: &Statement,
    args: Args<'_>,
) -> SqlResult<Vec<Row>> {
    loop {
        let asked = match pool.take().await {
            Ok(mut taken) => taken.ask(statement, args).await,
            Err(error) => Err(error),
        };
        match asked {
            Ok(rows) => return Ok(rows),
            Err(error) => again.after(error).await?,
        }
    }
}

/// Whether, and when, something is asked again.
pub(crate) struct Again {
    fate: Fate,
    begun: Instant,
    wait: Duration,
    conflicts: u32,
    conflicts_max: u32,
    doubles: u32,
    doubles_max: u32,
    /// Since when it is not known whether it was done, and why.
    broken: Option<(Instant, String)>,
}

impl Again {
    pub(crate) fn new(fate: Fate) -> Self {
        Self {
            fate,
            begun: Instant::now(),
            wait: limits::POSTGRES_AGAIN_MIN,
            conflicts: 0,
            conflicts_max: u32::MAX,
            doubles: 0,
            doubles_max: limits::POSTGRES_DOUBLES_MAX,
            broken: None,
        }
    }

    /// For a statement that goes round a few times only, as its caller can do better than that.
    pub(crate) fn briefly(fate: Fate) -> Self {
        let (conflicts_max, doubles_max) =
            (limits::POSTGRES_GROUP_CONFLICTS_MAX, limits::POSTGRES_GROUP_DOUBLES_MAX);
        Self { conflicts_max, doubles_max, ..Self::new(fate) }
    }

    /// Waits until it may be asked again after an error.
    ///
    /// # Errors
    /// That error, where it may not.
    pub(crate) async fn after(&mut self, error: SqlError) -> SqlResult<()> {
        let over = match (&error, &self.broken) {
            (SqlError::Conflict(_), _) => {
                self.conflicts += 1;
                self.conflicts > self.conflicts_max || self.begun.elapsed() >= limits::POSTGRES_CONFLICT_MAX
            }
            (SqlError::Double(_), _) => {
                self.doubles += 1;
                self.doubles > self.doubles_max
            }
            (SqlError::Broken(why), broken) => {
                let since = broken.as_ref().map_or_else(Instant::now, |(since, _)| *since);
                self.broken = Some((since, why.clone()));
                self.fate == Fate::Once || since.elapsed() >= limits::POSTGRES_RESOLVE_MAX
            }
            // Nothing can be asked now; but what was asked before may have been done, which is worth a wait.
            (SqlError::Away(_), Some((since, _))) => since.elapsed() >= limits::POSTGRES_RESOLVE_MAX,
            _ => true,
        };
        if !over {
            self.pause().await;
            return Ok(());
        }
        Err(self.word(error))
    }

    /// Whether something was sent of which it is not known whether it was done.
    pub(crate) fn is_unknown(&self) -> bool {
        self.broken.is_some()
    }

    /// An error that is not asked about again, where what was sent before may have been done.
    pub(crate) fn word(&self, error: SqlError) -> SqlError {
        match (&self.broken, error) {
            (Some((_, why)), SqlError::Away(_)) => SqlError::Broken(why.clone()),
            (_, error) => error,
        }
    }

    /// Waits a little, longer from time to time; true as long as it makes sense to look again.
    pub(crate) async fn look(&mut self) -> bool {
        self.pause().await;
        self.begun.elapsed() < limits::POSTGRES_CONFLICT_MAX
    }

    async fn pause(&mut self) {
        let jitter: f64 = rand::random();
        sleep(self.wait.mul_f64(0.5 + jitter)).await;
        self.wait = (self.wait * 2).min(limits::POSTGRES_AGAIN_MAX);
    }
}
