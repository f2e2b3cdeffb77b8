//! Soloist's store in one SQLite file.
//!
//! Decides: how the promises of [`Store`] are kept in SQL. All writes of the file take turns on one thread (see
//! `writer`), which commits whatever waits as soon as the last commit is on disk; reads have connections and
//! threads of their own and never wait for a write. Each query is one file in `src/sql`, and the start race is decided
//! by one of them, `claim.sql`.
//!
//! Never decides: what moves a task. A statement compares what a [`Transition`] says with the task's row and sets it;
//! where none matched, [`soloist::store::guard`] words the answer.

mod error;
mod lock;
mod open;
mod queries;
mod readers;
mod rows;
mod writer;

use std::path::Path;

use async_trait::async_trait;
use soloist::{
    Create, Delete, Event, Json, Key, NewTask, NodeId, Run, Store, Task, TaskFilter, TaskPage, Timestamp,
    store::{
        Applied, Claim, ClaimRequest, EventRange, Orphan, Signal, Signalled, StoreError, StoreResult,
        Transition, Writer as By, guard,
    },
};

pub use crate::open::OpenError;
use crate::{lock::FileLock, readers::Readers, writer::Writer};

/// A [`Store`] in one SQLite file, of one process at a time.
///
/// Dropping it ends its threads after every write that it has taken; that waits for the disk, so drop the last handle
/// where blocking for a moment does no harm.
///
/// ```
/// # let dir = tempfile::tempdir().unwrap();
/// # let path = dir.path().join("soloist.db");
/// use soloist_sqlite::{OpenError, SqliteStore};
/// let store = SqliteStore::open(&path)?;
/// assert!(matches!(SqliteStore::open(&path), Err(OpenError::InUse { .. })));
/// drop(store);
/// SqliteStore::open(&path)?;
/// # Ok::<(), OpenError>(())
/// ```
#[derive(Debug)]
pub struct SqliteStore {
    // In the order in which they go: the last connection to close is the writer's, which folds the write-ahead log
    // into the file; the file is given up after that.
    readers: Readers,
    writer: Writer,
    _lock: FileLock,
}

impl SqliteStore {
    /// Opens a file, or makes it, readable by its owner only. Blocks until that is done.
    ///
    /// # Errors
    /// [`OpenError`], which says what to do.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, OpenError> {
        open::open(path.as_ref())
    }
}

#[async_trait]
impl Store for SqliteStore {
    async fn join(&self, node: &NodeId, at: Timestamp) -> StoreResult<()> {
        let node = node.clone();
        self.writer.write(0, move |conn| queries::join(conn, &node, at)).await
    }

    async fn create(&self, new: NewTask, at: Timestamp) -> StoreResult<Create> {
        let input = new.input.clone();
        let created =
            self.writer.write(new.input.as_str().len(), move |conn| queries::create(conn, &new, at)).await?;
        Ok(match created {
            queries::Created::New(task) => Create::Created(task),
            queries::Created::There(task) if task.input.same_value(&input) => Create::Exists(task),
            queries::Created::There(task) => Create::Differs(task),
        })
    }

    async fn claim(&self, request: ClaimRequest) -> StoreResult<Claim> {
        // A loser is told from a fresh snapshot and never stands in line for the write lock. What looks startable here
        // is decided by the one statement in `claim.sql`, whoever got there in between.
        let asked = request.clone();
        let seen =
            self.readers.read(move |conn| queries::active(conn, &asked.key, Some(&asked.node))).await?;
        let alive = seen.as_ref().is_some_and(|row| row.alive);
        if let Some(lost) = guard::lost_claim(seen.map(|row| row.current), request.policy, alive) {
            return Ok(lost);
        }
        self.writer.write(0, move |conn| queries::claim(conn, &request)).await
    }

    async fn apply(&self, transition: Transition) -> StoreResult<Applied> {
        guard::well_formed(&transition)?;
        let bytes = match &transition.writer {
            By::Holder { events, .. } => events.iter().map(|e| e.data.as_str().len()).sum(),
            By::Outsider { .. } => 0,
        };
        self.writer.write(bytes, move |conn| queries::apply(conn, &transition)).await
    }

    async fn orphans(&self, limit: usize) -> StoreResult<Vec<Orphan>> {
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

    async fn delete(&self, key: &Key) -> StoreResult<Delete> {
        let key = key.clone();
        self.writer.write(0, move |conn| queries::delete(conn, &key)).await
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
