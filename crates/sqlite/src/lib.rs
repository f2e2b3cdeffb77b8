//! Soloist's store in one SQLite file.
//!
//! Decides: how the promises of [`Store`] are kept in SQL. All writes of the file take turns on one thread (see
//! `writer`), which commits whatever waits as soon as the last commit is on disk; reads have connections and
//! threads of their own and never wait for a write. Each query is one file in `src/sql`, and the start race is decided
//! by one of them, `claim.sql`.
//!
//! Never decides: what moves a task. A statement compares what a [`Transition`] says with the task's row and sets it;
//! where none matched, [`soloist::store::guard`] words the answer.

#![forbid(unsafe_code)]

mod backup;
mod error;
mod lock;
mod node;
mod open;
mod queries;
mod readers;
mod rows;
mod watch;
mod writer;

use std::{
    collections::VecDeque,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard},
};

use async_trait::async_trait;
use rusqlite::Connection;
use soloist::{
    Create, Delete, Event, HostBootClock, Json, Key, ModelKey, NewTask, NodeId, Run, RunTerms, Status, Store,
    Task, TaskFilter, TaskPage, Timestamp,
    clock::SharedBootClock,
    fault, limits,
    store::{
        Applied, Change, Claim, ClaimRequest, Current, EventRange, Evidence, FirstClaim, Heartbeat, Held,
        NewNode, Prune, QueuedClaim, Signal, Signalled, StoreError, StoreResult, Transition, Waiting, Won,
        Writer as By, guard,
    },
};

pub use soloist::store::Durability;

pub use crate::backup::{BackupDone, BackupError, BackupProgress, backup};
pub use crate::open::OpenError;
use crate::{
    lock::{Line, NodeLock, Turns},
    node::{Beat, Boot},
    readers::Readers,
    watch::Watch,
    writer::{Flush, Writer},
};

/// How a file is opened.
#[derive(Clone)]
pub struct SqliteOptions {
    /// What survives a power cut.
    pub durability: Durability,
    /// What leases are measured by. All processes of a file read the same one.
    pub boot_clock: SharedBootClock,
}

impl Default for SqliteOptions {
    fn default() -> Self {
        Self { durability: Durability::default(), boot_clock: Arc::new(HostBootClock) }
    }
}

impl std::fmt::Debug for SqliteOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SqliteOptions").field("durability", &self.durability).finish_non_exhaustive()
    }
}

/// A [`Store`] in one SQLite file, shared by any number of processes of one host.
///
/// Dropping it ends its threads after every write that it has taken; that waits for the disk, so drop the last handle
/// where blocking for a moment does no harm.
///
/// ```
/// # let dir = tempfile::tempdir().unwrap();
/// # let path = dir.path().join("soloist.db");
/// use soloist_sqlite::{OpenError, SqliteStore};
/// let store = SqliteStore::open(&path)?;
/// let beside = SqliteStore::open(&path)?; // as another process would
/// # Ok::<(), OpenError>(())
/// ```
pub struct SqliteStore {
    // In the order in which they go: the last connection to close is the writer's, which folds the write-ahead log
    // into the file.
    watch: Watch,
    readers: Readers,
    writer: Writer,
    path: Arc<PathBuf>,
    boot: Boot,
    durability: Durability,
    fresh: Fresh,
    /// How far the old idempotency keys were looked through.
    walk: Mutex<queries::Walk>,
}

impl SqliteStore {
    /// Opens a file, or makes it, readable by its owner only. Blocks until that is done.
    ///
    /// # Errors
    /// [`OpenError`], which says what to do.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, OpenError> {
        Self::open_with(path, SqliteOptions::default())
    }

    /// The same, with options.
    ///
    /// # Errors
    /// [`OpenError`], which says what to do.
    pub fn open_with(path: impl AsRef<Path>, options: SqliteOptions) -> Result<Self, OpenError> {
        open::open(path.as_ref(), options)
    }

    fn walk(&self) -> MutexGuard<'_, queries::Walk> {
        self.walk.lock().expect("no code panics while it holds the place")
    }

    /// The next page of old idempotency keys, where it is time to look. It is read where no write waits for it: there may
    /// be as many as tasks.
    async fn outlived(&self, at: Timestamp) -> StoreResult<queries::Page> {
        let Some(after) = self.walk().next(at) else { return Ok(queries::Page::default()) };
        self.readers.read(move |conn| queries::outlived(conn, &after, at)).await
    }
}

impl std::fmt::Debug for SqliteStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("SqliteStore").field(&self.path).finish()
    }
}

/// The tasks that this process has created last and not started yet: their first claims go to the writer at once. A hint,
/// bounded, and wrong without any effect but the time that a loser takes.
#[derive(Default)]
struct Fresh(Mutex<VecDeque<Key>>);

impl Fresh {
    fn lock(&self) -> MutexGuard<'_, VecDeque<Key>> {
        self.0.lock().expect("no code panics while it holds the keys")
    }

    fn note(&self, key: &Key) {
        let mut keys = self.lock();
        keys.truncate(limits::SQLITE_FRESH_MAX_TASKS - 1);
        keys.push_front(key.clone());
    }

    fn take(&self, key: &Key) -> bool {
        let mut keys = self.lock();
        let found = keys.iter().position(|fresh| fresh == key);
        found.is_some_and(|index| keys.remove(index).is_some())
    }
}

/// Whether a change waits for the disk.
fn flush(durability: Durability, change: &Change) -> Flush {
    match (durability, change) {
        (Durability::Relaxed, Change::Append) => Flush::Later,
        _ => Flush::Now,
    }
}

#[async_trait]
impl Store for SqliteStore {
    async fn join(&self, new: NewNode) -> StoreResult<Box<dyn Heartbeat>> {
        let io = |error: std::io::Error| {
            StoreError::Unavailable(format!(
                "cannot make the lock file of this process beside {}: {error}; check that its directory may be written to",
                self.path.display()
            ))
        };
        let turns = Turns::open(&self.path, Line::Heartbeats).map_err(io)?;
        let conn = open::heartbeat(&self.path).map_err(error::SqlError::from)?;
        // Locked before anybody can read of it.
        let lock = NodeLock::create(&self.path, &new.id).map_err(io)?;
        fault::point("sqlite:join-locked");
        let (identity, durability) = (lock.identity, self.durability);
        // What stands in its way may be dead, and nobody there to say so.
        for _ in 0..2 {
            let (node, boot) = (new.clone(), self.boot.clone());
            let join = move |conn: &Connection| node::join(conn, &node, identity, &boot, durability);
            let joined = match self.writer.write(0, join).await {
                Ok(false) => self.bury(Evidence::Lease).await.map(|_| false),
                joined => joined,
            };
            match joined {
                Ok(true) => {
                    fault::point("sqlite:join-after");
                    return Ok(Box::new(Beat::new(conn, turns, self.boot.clone(), &new, lock)));
                }
                Ok(false) => {}
                // Nobody else would find the file: there is no row that names it.
                Err(error) => {
                    lock.remove();
                    return Err(error);
                }
            }
        }
        lock.remove();
        Err(StoreError::Unavailable(format!(
            "processes with another durability than {durability:?} use {}; stop those, or give this one the same",
            self.path.display()
        )))
    }

    async fn bury(&self, evidence: Evidence) -> StoreResult<Vec<NodeId>> {
        let (path, boot) = (self.path.clone(), self.boot.clone());
        let suspects = self.readers.read(move |conn| node::suspects(conn, &path, evidence, &boot)).await?;
        if suspects.is_empty() {
            return Ok(Vec::new());
        }
        fault::point("sqlite:bury-found");
        let (boot, suspects) = (self.boot.clone(), Arc::new(suspects));
        let marked = suspects.clone();
        let buried = self.writer.write(0, move |conn| node::bury(conn, &marked, evidence, &boot)).await?;
        if !buried.is_empty() {
            fault::point("sqlite:bury-marked");
        }
        for suspect in suspects.iter().filter(|suspect| buried.contains(&suspect.node)) {
            // The death is on disk: nobody asks this lock any more.
            suspect.lock.iter().for_each(NodeLock::remove);
            fault::point("sqlite:bury-unlinked");
        }
        Ok(buried)
    }

    async fn beside(&self, node: &NodeId) -> StoreResult<bool> {
        let node = node.clone();
        self.readers.read(move |conn| queries::beside(conn, &node)).await
    }

    async fn serves(&self, model: &ModelKey) -> StoreResult<Option<RunTerms>> {
        let model = model.clone();
        self.readers.read(move |conn| queries::serves(conn, &model)).await
    }

    async fn create(&self, new: NewTask, at: Timestamp) -> StoreResult<Create> {
        let bytes = new.input.as_str().len();
        let created = self.writer.write(bytes, move |conn| queries::create(conn, &new, None, at)).await?;
        if let Create::Created(task) = &created {
            self.fresh.note(&task.key);
        }
        Ok(created)
    }

    async fn create_claimed(&self, new: NewTask, claim: FirstClaim, at: Timestamp) -> StoreResult<Create> {
        let bytes = new.input.as_str().len();
        self.writer.write(bytes, move |conn| queries::create(conn, &new, Some(&claim), at)).await
    }

    async fn claim(&self, request: ClaimRequest) -> StoreResult<Claim> {
        // A loser is told from a fresh snapshot and never stands in line for the write lock. What looks startable here
        // is decided by the one statement in `claim.sql`, whoever got there in between. Under an idempotency key the
        // first answer counts, whatever the row says. A task that this process has just created will hardly be lost.
        if request.idempotency.is_none() && !self.fresh.take(&request.key) {
            let asked = request.clone();
            let seen =
                self.readers.read(move |conn| queries::active(conn, &asked.key, Some(&asked.node))).await?;
            let alive = seen.as_ref().is_some_and(|row| row.alive);
            let seen = seen.map(|row| row.current);
            if let Some(lost) = guard::lost_claim(seen, request.policy, request.after, alive) {
                return Ok(lost);
            }
        }
        self.writer.write(0, move |conn| queries::claim(conn, &request)).await
    }

    async fn claim_queued(&self, request: QueuedClaim) -> StoreResult<Option<(Key, Won)>> {
        self.writer.write(0, move |conn| queries::claim_queued(conn, &request)).await
    }

    async fn waiting(&self) -> StoreResult<Waiting> {
        self.readers.read(queries::waiting).await
    }

    async fn ripen(&self, at: Timestamp) -> StoreResult<bool> {
        self.writer.write(0, move |conn| queries::ripen(conn, at)).await
    }

    async fn owed(&self, limit: usize) -> StoreResult<Vec<(Key, Run)>> {
        self.readers.read(move |conn| queries::owed(conn, limit)).await
    }

    async fn prune(&self, request: Prune, at: Timestamp) -> StoreResult<Vec<Key>> {
        self.writer.write(0, move |conn| queries::prune(conn, &request, at)).await
    }

    async fn apply(&self, transition: Transition) -> StoreResult<Applied> {
        guard::well_formed(&transition)?;
        let bytes = match &transition.writer {
            By::Holder { events, .. } => events.iter().map(|e| e.data.as_str().len()).sum(),
            By::Outsider { .. } => 0,
        };
        let flush = flush(self.durability, &transition.change);
        self.writer.write_with(flush, bytes, move |conn| queries::apply(conn, &transition)).await
    }

    async fn held(&self, node: &NodeId, status: Status) -> StoreResult<Vec<Held>> {
        let node = node.clone();
        self.readers.read(move |conn| queries::held(conn, &node, status)).await
    }

    async fn rows(&self, keys: Vec<Key>) -> StoreResult<Vec<Option<Current>>> {
        self.readers
            .read(move |conn| {
                let row = |key| Ok(queries::active(conn, key, None)?.map(|row| row.current));
                keys.iter().map(row).collect()
            })
            .await
    }

    async fn inbox(&self, node: &NodeId) -> StoreResult<u64> {
        let node = node.clone();
        self.readers.read(move |conn| queries::inbox(conn, &node)).await
    }

    fn changes(&self) -> tokio::sync::watch::Receiver<u64> {
        self.watch.changes.subscribe()
    }

    async fn tidy(&self, at: Timestamp) -> StoreResult<bool> {
        let path = self.path.clone();
        let dead = self.readers.read(queries::dead).await?;
        let gone: Vec<NodeId> = dead.into_iter().filter(|node| lock::remove_left(&path, node)).collect();
        if !gone.is_empty() {
            fault::point("sqlite:tidy-unlinked");
        }
        let page = self.outlived(at).await?;
        let is_there_more = self.walk().read_to(page.last);
        let left = self.writer.write(0, move |conn| {
            queries::forget(conn, &gone)?;
            queries::outlive(conn, &page.gone, at)?;
            queries::tidy(conn, at)
        });
        Ok(left.await? || is_there_more)
    }

    async fn orphans(&self, limit: usize) -> StoreResult<Vec<Held>> {
        self.readers.read(move |conn| queries::orphans(conn, limit)).await
    }

    async fn task(&self, key: &Key) -> StoreResult<Option<Task>> {
        let key = key.clone();
        self.readers.read(move |conn| queries::task(conn, &key)).await
    }

    async fn list(&self, filter: TaskFilter) -> StoreResult<TaskPage> {
        self.readers.read(move |conn| queries::list(conn, &filter)).await
    }

    async fn events(&self, key: &Key, range: EventRange) -> StoreResult<Vec<Event>> {
        let key = key.clone();
        self.readers.read(move |conn| queries::events(conn, &key, range)).await
    }

    async fn delete(&self, key: &Key, run: Option<Run>, at: Timestamp) -> StoreResult<Delete> {
        let key = key.clone();
        self.writer.write(0, move |conn| queries::delete(conn, &key, run, at)).await
    }

    async fn signal(&self, key: &Key, name: &str, data: Json, at: Timestamp) -> StoreResult<Signalled> {
        let (key, name) = (key.clone(), name.to_owned());
        self.writer
            .write(data.as_str().len(), move |conn| queries::signal(conn, &key, &name, &data, at))
            .await
    }

    async fn signals(&self, key: &Key, run: Run, after: u64, limit: usize) -> StoreResult<Vec<Signal>> {
        let key = key.clone();
        self.readers.read(move |conn| queries::signals(conn, &key, run, after, limit)).await
    }
}

/// What a caller is told whose request a thread took with it.
fn gone() -> StoreError {
    StoreError::Unavailable(
        "the thread that serves this SQLite file has ended; restart this process".to_owned(),
    )
}

#[cfg(test)]
mod tests {
    use soloist::{Failure, Losses, store::Rerun};

    use super::*;

    #[test]
    fn relaxed_durability_lets_events_alone_go_without_the_disk() {
        let reason = || "r".to_owned();
        let states = [
            Change::Cancelling { reason: reason(), rerun: Rerun::Keep },
            Change::Requeued { attempt: 2, retry_count: 1, losses: Losses::default(), due_at: None },
            Change::Completed { final_value: Json::parse("1").unwrap() },
            Change::Failed { failure: Failure::new("E", "m") },
            Change::Cancelled { reason: reason(), rerun: Rerun::Forget },
        ];
        for durability in [Durability::Full, Durability::Relaxed] {
            for change in &states {
                assert_eq!(flush(durability, change), Flush::Now, "{change:?}");
            }
        }
        assert_eq!(flush(Durability::Full, &Change::Append), Flush::Now);
        assert_eq!(flush(Durability::Relaxed, &Change::Append), Flush::Later);
    }
}
