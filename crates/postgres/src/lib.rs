//! Soloist's store in a PostgreSQL database, for any number of nodes on any number of hosts.
//!
//! Decides: how the promises of [`Store`] are kept in SQL that others write to at the same moment. Every verb is one
//! statement that commits by itself, so nothing is open while anything waits; each is right at every isolation level. Each
//! query is one file in `src/sql`, and the start race is decided by one of them, `claim.sql`. Holders' writes go through one
//! group commit (`writer.rs`), creates, claims and looks share statements (`gather.rs`); others are told of what was written
//! after the commit (`hints.rs`).
//!
//! Never decides: what moves a task. A statement compares what a [`Transition`] says with the task's row and sets it;
//! where none matched, [`soloist::store::guard`] words the answer.

#![forbid(unsafe_code)]

mod db;
mod error;
mod gather;
mod hints;
mod log;
mod migrate;
mod node;
mod open;
mod pool;
mod queries;
mod rows;
mod sql;
mod target;
mod text;
mod tls;
mod writer;

use std::{fmt, sync::Arc};

use async_trait::async_trait;
use soloist::{
    Create, Delete, Event, Json, Key, ModelKey, NewTask, NodeId, Run, RunTerms, Status, Store, Task,
    TaskFilter, TaskPage, Timestamp,
    clock::SharedBootClock,
    limits,
    store::{
        Applied, Claim, ClaimRequest, Current, EventRange, Evidence, FirstClaim, Heartbeat, Held, NewNode,
        Prune, QueuedClaim, Signal, Signalled, StoreError, StoreResult, Transition, Waiting, Won, guard,
    },
};
use tokio::{sync::watch, task::AbortHandle};

pub use soloist::store::Durability;

pub use crate::open::OpenError;
use crate::{
    db::Db,
    hints::Hints,
    node::{Beat, Now},
    queries::apply::Prepared,
    target::Target,
    writer::Writer,
};

/// How a database is opened.
///
/// ```
/// use soloist_postgres::{Durability, PgOptions};
/// let options = PgOptions {
///     // Through a pooler in transaction mode nobody hears of others' writes; this way does not lead through it.
///     listen_url: Some("postgres://app@db.internal:5432/app".to_owned()),
///     durability: Durability::Relaxed,
///     ..PgOptions::default()
/// };
/// assert_eq!(options.schema, "soloist");
/// ```
#[derive(Clone)]
pub struct PgOptions {
    /// Where the tables are. It is made where it is not there, and holds nothing else.
    pub schema: String,
    /// The database by a way that keeps each connection for itself, past a pooler: wake-ups come by it, and heartbeats go
    /// by it; by default that of the store.
    pub listen_url: Option<String>,
    /// What survives a power cut.
    pub durability: Durability,
    /// What leases are judged by in a test. None is the database's own clock.
    pub clock: Option<SharedBootClock>,
}

impl Default for PgOptions {
    fn default() -> Self {
        Self {
            schema: "soloist".to_owned(),
            listen_url: None,
            durability: Durability::default(),
            clock: None,
        }
    }
}

impl fmt::Debug for PgOptions {
    /// Without the URL: it may hold a password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PgOptions")
            .field("schema", &self.schema)
            .field("listen_url", &self.listen_url.as_ref().map(|_| "..."))
            .field("durability", &self.durability)
            .finish_non_exhaustive()
    }
}

/// A [`Store`] in a schema of a PostgreSQL database, shared by any number of processes.
///
/// It lives on the tokio runtime on which it was opened. Dropping it closes its connections after every write that it has
/// taken.
///
/// ```no_run
/// # async fn example() -> Result<(), soloist_postgres::OpenError> {
/// use soloist_postgres::PgStore;
/// let store = PgStore::open("postgres://app:secret@db.internal/app?sslmode=verify-full&sslrootcert=ca.pem").await?;
/// # Ok(())
/// # }
/// ```
pub struct PgStore {
    writer: Writer,
    db: Arc<Db>,
    hints: Arc<Hints>,
    listening: AbortHandle,
    target: Target,
    /// The way that wake-ups and heartbeats take.
    direct: Target,
    durability: Durability,
    now: Now,
}

impl PgStore {
    /// Opens a database, and makes the tables where they are not there yet.
    ///
    /// # Errors
    /// [`OpenError`], which says what to do.
    pub async fn open(url: &str) -> Result<Self, OpenError> {
        Self::open_with(url, PgOptions::default()).await
    }

    /// The same, with options.
    ///
    /// # Errors
    /// [`OpenError`], which says what to do.
    pub async fn open_with(url: &str, options: PgOptions) -> Result<Self, OpenError> {
        open::open(url, options).await
    }
}

/// Whether [`PgStore::open`] could use a URL, by the URL alone.
///
/// ```
/// assert!(soloist_postgres::check_url("postgres://app:secret@db.internal/app?sslmode=require").is_ok());
/// assert!(soloist_postgres::check_url("mysql://db.internal/app").is_err());
/// ```
///
/// # Errors
/// What is wrong with it, as the end of a sentence that does not quote it.
pub fn check_url(url: &str) -> Result<(), String> {
    Target::parse(url).map(drop)
}

impl fmt::Debug for PgStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("PgStore").field(&self.target).field(&self.db.schema).finish()
    }
}

impl Drop for PgStore {
    fn drop(&mut self) {
        self.listening.abort();
    }
}

#[async_trait]
impl Store for PgStore {
    async fn join(&self, new: NewNode) -> StoreResult<Box<dyn Heartbeat>> {
        let beat =
            Beat::spawn(self.direct.clone(), self.db.clone(), self.hints.clone(), self.now.clone(), &new)?;
        let is_relaxed = self.durability == Durability::Relaxed;
        if !node::join(&self.db, &new, is_relaxed, &self.now).await? {
            return Err(StoreError::Unavailable(format!(
                "processes with another durability than {:?} use the schema {} of {}; stop those (one that was killed counts until its lease is over), or give this one the same",
                self.durability, self.db.schema, self.target
            )));
        }
        self.hints.everybody();
        Ok(Box::new(beat))
    }

    async fn bury(&self, evidence: Evidence) -> StoreResult<Vec<NodeId>> {
        let buried = node::bury(&self.db, evidence, &self.now).await?;
        if !buried.is_empty() {
            self.hints.everybody();
        }
        Ok(buried)
    }

    fn can_be_away(&self) -> bool {
        true
    }

    async fn serves(&self, model: &ModelKey) -> StoreResult<Option<RunTerms>> {
        Ok(queries::serves(&self.db, model).await?)
    }

    async fn beside(&self, node: &NodeId) -> StoreResult<bool> {
        Ok(queries::beside(&self.db, node).await?)
    }

    async fn create(&self, new: NewTask, at: Timestamp) -> StoreResult<Create> {
        Ok(queries::create(&self.db, &new, at).await?)
    }

    async fn create_claimed(&self, new: NewTask, claim: FirstClaim, at: Timestamp) -> StoreResult<Create> {
        let created = queries::create_claimed(&self.db, &new, claim, at).await?;
        if let Create::Created(task) = &created
            && task.status == Status::Queued
        {
            self.hints.everybody();
        }
        Ok(created)
    }

    async fn claim(&self, request: ClaimRequest) -> StoreResult<Claim> {
        let (claim, number) = queries::claim(&self.db, &request).await?;
        self.hints.tasks(number.into_iter());
        if matches!(claim, Claim::Queued(_)) {
            self.hints.everybody();
        }
        Ok(claim)
    }

    async fn claim_queued(&self, request: QueuedClaim) -> StoreResult<Option<(Key, Won)>> {
        let Some((key, won, number)) = queries::claim_queued(&self.db, &request).await? else {
            return Ok(None);
        };
        self.hints.tasks([number].into_iter());
        Ok(Some((key, won)))
    }

    async fn waiting(&self) -> StoreResult<Waiting> {
        Ok(queries::waiting(&self.db).await?)
    }

    async fn ripen(&self, at: Timestamp) -> StoreResult<bool> {
        let ripe = queries::ripen(&self.db, at).await?;
        if ripe > 0 {
            self.hints.everybody();
        }
        Ok(ripe == limits::RIPEN_MAX_RUNS)
    }

    async fn owed(&self, limit: usize) -> StoreResult<Vec<(Key, Run)>> {
        Ok(queries::owed(&self.db, limit).await?)
    }

    async fn apply(&self, transition: Transition) -> StoreResult<Applied> {
        guard::well_formed(&transition)?;
        self.writer.apply(Prepared::new(transition)).await
    }

    async fn orphans(&self, limit: usize) -> StoreResult<Vec<Held>> {
        Ok(queries::orphans(&self.db, limit).await?)
    }

    async fn held(&self, node: &NodeId, status: Status) -> StoreResult<Vec<Held>> {
        Ok(queries::held(&self.db, node, status).await?)
    }

    async fn rows(&self, keys: Vec<Key>) -> StoreResult<Vec<Option<Current>>> {
        let found = queries::rows(&self.db, &keys.iter().collect::<Vec<_>>()).await?;
        self.hints.read(found.iter().flatten().map(|(number, _)| *number));
        Ok(found.into_iter().map(|row| row.map(|(_, current)| current)).collect())
    }

    async fn inbox(&self, node: &NodeId) -> StoreResult<u64> {
        Ok(queries::inbox(&self.db, node).await?)
    }

    fn changes(&self) -> watch::Receiver<u64> {
        self.hints.changes()
    }

    async fn tidy(&self, at: Timestamp) -> StoreResult<bool> {
        Ok(queries::tidy(&self.db, at).await?)
    }

    async fn task(&self, key: &Key) -> StoreResult<Option<Task>> {
        Ok(queries::task_in_queue(&self.db, key).await?)
    }

    async fn list(&self, filter: TaskFilter) -> StoreResult<TaskPage> {
        Ok(queries::list(&self.db, &filter).await?)
    }

    async fn events(&self, key: &Key, range: EventRange) -> StoreResult<Vec<Event>> {
        Ok(queries::events(&self.db, key, range).await?)
    }

    async fn delete(&self, key: &Key, run: Option<Run>, at: Timestamp) -> StoreResult<Delete> {
        let (deleted, number) = queries::delete(&self.db, key, run, at).await?;
        self.hints.tasks(number.into_iter());
        Ok(deleted)
    }

    async fn prune(&self, request: Prune, at: Timestamp) -> StoreResult<Vec<Key>> {
        let (keys, numbers): (Vec<Key>, Vec<i64>) =
            queries::prune(&self.db, &request, at).await?.into_iter().unzip();
        self.hints.tasks(numbers.into_iter());
        Ok(keys)
    }

    async fn signal(&self, key: &Key, name: &str, data: Json, at: Timestamp) -> StoreResult<Signalled> {
        let (signalled, sent) = queries::signal(&self.db, key, name, &data, at).await?;
        if let Some((number, node)) = sent {
            self.hints.tasks([number].into_iter());
            if let Some(node) = node {
                self.hints.node(&node);
            }
        }
        Ok(signalled)
    }

    async fn signals(&self, key: &Key, run: Run, after: u64, limit: usize) -> StoreResult<Vec<Signal>> {
        Ok(queries::signals(&self.db, key, run, after, limit).await?)
    }
}
