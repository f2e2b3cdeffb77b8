//! The one writer: group commit without a timer.
//!
//! Decides: what is committed together. The writer takes all that waits, up to a bound, carries it out in one
//! transaction, commits, and only then answers: while the disk is busy with one group the next one gathers, so a
//! lonely write waits for nobody and a thousand share a commit.
//!
//! Several processes write to one file: before each group the writer waits for its turn, and a group is cut off after a
//! few milliseconds, so that a process which writes without pause holds up no other.
//!
//! One that fails takes nothing of the others with it: failures are rare, so a group is carried out as one, and where a
//! request of it fails all is undone and carried out again, each request in a savepoint of its own. (A savepoint for each
//! from the start would copy every page that a request is the first to change.) So what a request does may be done twice,
//! and the first time counts for nothing. Where the commit itself fails (a full disk), all of the group are told that nothing
//! was done, and the writer goes on. A request whose caller has gone is carried out all the same.

use std::{
    collections::VecDeque,
    fmt, io,
    panic::{AssertUnwindSafe, catch_unwind},
};
#[cfg(not(shuttle))]
use std::{
    thread::{self, JoinHandle},
    time::Instant,
};

// In the tests of interleavings (`tests/interleavings`) a scheduler runs the thread, and time is theirs.
#[cfg(shuttle)]
use interleaved::thread::{self, JoinHandle};

use rusqlite::Connection;
use soloist::{
    fault, limits,
    store::{StoreError, StoreResult},
};
use tokio::sync::{mpsc, oneshot};
#[cfg(shuttle)]
use tokio::time::Instant;

use crate::{
    error::{SqlError, SqlResult},
    gone,
    lock::Turns,
};

/// The thread that writes. Dropping it ends the thread, after every request that it has taken.
pub(crate) struct Writer {
    queue: Option<mpsc::Sender<Queued>>,
    thread: Option<JoinHandle<()>>,
}

struct Queued {
    bytes: usize,
    flush: Flush,
    request: Box<dyn Request>,
}

/// Whether a commit waits for the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Flush {
    /// The system writes it when it likes; a power cut may take it.
    Later,
    /// It is on disk before it is answered, and all that was committed before it.
    Now,
}

impl Flush {
    fn pragma(self) -> &'static str {
        match self {
            Self::Later => "PRAGMA synchronous = normal",
            Self::Now => "PRAGMA synchronous = full",
        }
    }
}

/// What waits to be written, whatever its answer is.
trait Request: Send {
    /// Writes; its outcome is kept until the commit, or until it is carried out again. False where it failed, so that it is
    /// undone.
    fn carry_out(&mut self, conn: &Connection) -> bool;
    /// Whether it failed because there is no room.
    fn has_no_room(&self) -> bool;
    /// Tells the caller, once the fate of the commit is known.
    fn answer(self: Box<Self>, commit: StoreResult<()>);
}

struct Verb<F, T> {
    act: F,
    outcome: Option<StoreResult<T>>,
    reply: oneshot::Sender<StoreResult<T>>,
}

impl<F, T> Request for Verb<F, T>
where
    F: Fn(&Connection) -> SqlResult<T> + Send,
    T: Send,
{
    fn carry_out(&mut self, conn: &Connection) -> bool {
        // A defect in one request must not end the thread that all others need.
        let outcome = catch_unwind(AssertUnwindSafe(|| (self.act)(conn))).map_or_else(
            |_| Err(StoreError::Corrupt("a defect broke this write off; see the log".to_owned())),
            |outcome| outcome.map_err(StoreError::from),
        );
        self.outcome.insert(outcome).is_ok()
    }

    fn has_no_room(&self) -> bool {
        matches!(self.outcome, Some(Err(StoreError::Full(_))))
    }

    fn answer(self: Box<Self>, commit: StoreResult<()>) {
        // One that failed by itself keeps its own reason; one that was not reached has that of its group.
        let answer = match (self.outcome, commit) {
            (Some(Err(own)), _) => Err(own),
            (Some(Ok(_)) | None, Err(of_group)) => Err(of_group),
            (Some(Ok(outcome)), Ok(())) => Ok(outcome),
            (None, Ok(())) => unreachable!("a group is committed after all of it was carried out"),
        };
        let _ = self.reply.send(answer);
    }
}

impl Writer {
    pub(crate) fn spawn(conn: Connection, turns: Turns) -> io::Result<Self> {
        let (queue, waiting) = mpsc::channel(limits::SQLITE_QUEUE_MAX_REQUESTS);
        let thread = thread::Builder::new().name("soloist-write".to_owned());
        let thread = thread.spawn(move || serve(&conn, &turns, waiting))?;
        Ok(Self { queue: Some(queue), thread: Some(thread) })
    }

    /// Writes in the next group; returns when that is on disk. `bytes` is about what it writes.
    pub(crate) async fn write<T: Send + 'static>(
        &self,
        bytes: usize,
        act: impl Fn(&Connection) -> SqlResult<T> + Send + 'static,
    ) -> StoreResult<T> {
        self.write_with(Flush::Now, bytes, act).await
    }

    /// The same; returns when the group is committed. It is on disk then where anything in the group has to be.
    pub(crate) async fn write_with<T: Send + 'static>(
        &self,
        flush: Flush,
        bytes: usize,
        act: impl Fn(&Connection) -> SqlResult<T> + Send + 'static,
    ) -> StoreResult<T> {
        let (reply, answer) = oneshot::channel();
        let request = Box::new(Verb { act, outcome: None, reply });
        let queue = self.queue.as_ref().expect("taken only when dropped");
        queue.send(Queued { bytes, flush, request }).await.map_err(|_| gone())?;
        answer.await.map_err(|_| gone())?
    }
}

fn serve(conn: &Connection, turns: &Turns, mut waiting: mpsc::Receiver<Queued>) {
    let mut group = VecDeque::new();
    let mut flush = None;
    while let Some(first) = if group.is_empty() { waiting.blocking_recv() } else { group.pop_front() } {
        group.push_front(first);
        let mut bytes: usize = group.iter().map(|queued| queued.bytes).sum();
        while group.len() < limits::SQLITE_GROUP_MAX_REQUESTS && bytes < limits::SQLITE_GROUP_MAX_BYTES {
            let Ok(next) = waiting.try_recv() else { break };
            bytes += next.bytes;
            group.push_back(next);
        }
        let turn = turns.take(limits::SQLITE_TURN_MAX);
        let mut done = Vec::new();
        let fate = commit(conn, &mut flush, &mut group, &mut done).map_err(|error| match error.into() {
            // What a constraint or a broken file says of a commit; nothing of it was done either.
            StoreError::Corrupt(message) => StoreError::Corrupt(message),
            StoreError::Full(message) => StoreError::Full(message),
            StoreError::Unavailable(message) => StoreError::Unavailable(format!("not committed: {message}")),
        });
        drop(turn);
        if fate.is_err() && done.is_empty() {
            // Not even begun: those who wait are told, and may ask again.
            done.extend(group.drain(..));
        }
        for queued in done {
            queued.request.answer(fate.clone());
        }
    }
}

/// One transaction around the first of those who wait, for a few milliseconds; they go to `done`. An error means that
/// nothing of it is on record. `flushes` is how the connection waits for the disk now.
fn commit(
    conn: &Connection,
    flushes: &mut Option<Flush>,
    group: &mut VecDeque<Queued>,
    done: &mut Vec<Queued>,
) -> SqlResult<()> {
    let flush = group.iter().map(|queued| queued.flush).max().unwrap_or(Flush::Now);
    if *flushes != Some(flush) {
        *flushes = None;
        run(conn, flush.pragma())?;
        *flushes = Some(flush);
    }
    run(conn, "BEGIN IMMEDIATE")?;
    fault::point("sqlite:commit-begun");
    let carried_out = carry_out(conn, group, done, Each::Unguarded).and_then(|carried_out| {
        if carried_out == CarriedOut::Whole {
            return Ok(());
        }
        run(conn, "ROLLBACK")?;
        run(conn, "BEGIN IMMEDIATE")?;
        done.drain(..).rev().for_each(|queued| group.push_front(queued));
        carry_out(conn, group, done, Each::InSavepoint).map(|_| ())
    });
    let committed = carried_out.and_then(|()| {
        fault::point("sqlite:commit-before");
        run(conn, "COMMIT")
    });
    if committed.is_err() && !conn.is_autocommit() {
        // Fails only where SQLite has rolled back by itself.
        let _ = run(conn, "ROLLBACK");
    }
    fault::point("sqlite:commit-after");
    committed
}

/// Whether a request can be undone alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Each {
    Unguarded,
    InSavepoint,
}

/// What became of a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum CarriedOut {
    /// All that was taken of it can be committed.
    Whole,
    /// One of it failed and has left something behind: all is to be undone.
    Broken,
}

fn carry_out(
    conn: &Connection,
    group: &mut VecDeque<Queued>,
    done: &mut Vec<Queued>,
    each: Each,
) -> SqlResult<CarriedOut> {
    let begun = Instant::now();
    while let Some(queued) = group.pop_front() {
        done.push(queued);
        let request = &mut done.last_mut().expect("it was just put there").request;
        if each == Each::InSavepoint {
            run(conn, "SAVEPOINT request")?;
        }
        let is_kept = request.carry_out(conn);
        if conn.is_autocommit() {
            // A full disk or a failed read ends the whole transaction, not only the statement that met it.
            return Err(if request.has_no_room() { SqlError::Full } else { SqlError::Undone });
        }
        match each {
            Each::Unguarded if !is_kept => return Ok(CarriedOut::Broken),
            Each::Unguarded => {}
            Each::InSavepoint => {
                if !is_kept {
                    run(conn, "ROLLBACK TO request")?;
                }
                run(conn, "RELEASE request")?;
            }
        }
        if begun.elapsed() >= limits::SQLITE_GROUP_MAX_TIME {
            break;
        }
    }
    Ok(CarriedOut::Whole)
}

fn run(conn: &Connection, sql: &str) -> SqlResult<()> {
    conn.prepare_cached(sql)?.execute([])?;
    Ok(())
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.queue.take();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl fmt::Debug for Writer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Writer")
    }
}

#[cfg(test)]
#[cfg(not(shuttle))]
mod tests {
    use std::{future::poll_fn, pin::Pin, sync::mpsc as std_mpsc, task::Poll};

    use super::*;
    use crate::lock::Line;

    fn writer(dir: &tempfile::TempDir) -> (Writer, Connection) {
        let path = dir.path().join("test.db");
        let conn = Connection::open(&path).unwrap();
        conn.execute_batch("PRAGMA journal_mode = wal; CREATE TABLE t (n INTEGER PRIMARY KEY) STRICT")
            .unwrap();
        let turns = Turns::open(&path, Line::Writers).unwrap();
        (Writer::spawn(conn, turns).unwrap(), Connection::open(path).unwrap())
    }

    fn insert(n: i64) -> impl Fn(&Connection) -> SqlResult<()> + Send + 'static {
        move |conn| {
            conn.execute("INSERT INTO t VALUES (?1)", [n])?;
            Ok(())
        }
    }

    fn rows(conn: &Connection) -> Vec<i64> {
        let mut all = conn.prepare("SELECT n FROM t ORDER BY n").unwrap();
        all.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect()
    }

    /// A request that has entered the writer and stays there until the sender goes, so that what is queued meanwhile
    /// shares the next group.
    async fn hold(
        writer: &Writer,
    ) -> (std_mpsc::Sender<()>, Pin<Box<impl Future<Output = StoreResult<()>>>>) {
        let (go, wait) = std_mpsc::channel::<()>();
        let (enter, entered) = std_mpsc::channel();
        let mut held = Box::pin(writer.write(0, move |_| {
            enter.send(()).unwrap();
            let _ = wait.recv();
            Ok(())
        }));
        queue(held.as_mut()).await;
        entered.recv().unwrap();
        (go, held)
    }

    /// Polls a write once: from then on it stands in the queue.
    async fn queue<F: Future>(mut write: Pin<&mut F>) {
        let pending = poll_fn(|cx| Poll::Ready(write.as_mut().poll(cx).is_pending())).await;
        assert!(pending);
    }

    #[tokio::test]
    async fn a_request_that_fails_is_undone_whole_and_takes_nothing_of_its_group_with_it() {
        let dir = tempfile::tempdir().unwrap();
        let (writer, reader) = writer(&dir);
        let (go, held) = hold(&writer).await;
        let mut before = Box::pin(writer.write(0, insert(1)));
        let mut failing = Box::pin(writer.write(0, |conn| {
            conn.execute("INSERT INTO t VALUES (7)", [])?;
            conn.execute("INSERT INTO t VALUES (1)", [])?;
            Ok(())
        }));
        let mut after = Box::pin(writer.write(0, insert(2)));
        queue(before.as_mut()).await;
        queue(failing.as_mut()).await;
        queue(after.as_mut()).await;
        drop(go);
        held.await.unwrap();
        before.await.unwrap();
        assert!(matches!(failing.await, Err(StoreError::Corrupt(_))));
        after.await.unwrap();
        assert_eq!(rows(&reader), [1, 2]);
    }

    #[tokio::test]
    async fn what_waits_shares_one_commit() {
        let dir = tempfile::tempdir().unwrap();
        let (writer, reader) = writer(&dir);
        let (go, held) = hold(&writer).await;
        let mut waiting: Vec<_> = (1..=100).map(|n| Box::pin(writer.write(0, insert(n)))).collect();
        for write in &mut waiting {
            queue(write.as_mut()).await;
        }
        drop(go);
        held.await.unwrap();
        waiting.remove(0).await.unwrap();
        assert_eq!(rows(&reader).len(), 100, "the first answer of a group says that all of it is there");
        for write in waiting {
            write.await.unwrap();
        }
    }

    #[tokio::test]
    async fn a_commit_waits_for_the_disk_unless_nothing_in_it_has_to() {
        let dir = tempfile::tempdir().unwrap();
        let (writer, _) = writer(&dir);
        // As SQLite has it while the group is carried out.
        let waits = |conn: &Connection| {
            Ok(conn.pragma_query_value(None, "synchronous", |row| Ok(row.get::<_, i64>(0)? == 2))?)
        };
        assert!(writer.write(0, waits).await.unwrap());
        assert!(!writer.write_with(Flush::Later, 0, waits).await.unwrap());
        let (go, held) = hold(&writer).await;
        let mut event = Box::pin(writer.write_with(Flush::Later, 0, waits));
        let mut state = Box::pin(writer.write(0, waits));
        queue(event.as_mut()).await;
        queue(state.as_mut()).await;
        drop(go);
        held.await.unwrap();
        assert!(event.await.unwrap() && state.await.unwrap(), "one that has to makes all of its group wait");
    }

    #[tokio::test]
    async fn a_request_whose_caller_has_gone_is_carried_out() {
        let dir = tempfile::tempdir().unwrap();
        let (writer, reader) = writer(&dir);
        let (go, held) = hold(&writer).await;
        let mut left = Box::pin(writer.write(0, insert(1)));
        queue(left.as_mut()).await;
        drop(left);
        drop(go);
        held.await.unwrap();
        writer.write(0, insert(2)).await.unwrap();
        assert_eq!(rows(&reader), [1, 2]);
    }

    #[tokio::test]
    async fn dropping_the_writer_finishes_what_it_took() {
        let dir = tempfile::tempdir().unwrap();
        let (writer, reader) = writer(&dir);
        let (go, held) = hold(&writer).await;
        let mut left = Box::pin(writer.write(0, insert(1)));
        queue(left.as_mut()).await;
        drop((held, left, go));
        drop(writer);
        assert_eq!(rows(&reader), [1]);
    }

    #[tokio::test]
    async fn a_defect_in_one_request_fails_that_one_alone() {
        let dir = tempfile::tempdir().unwrap();
        let (writer, reader) = writer(&dir);
        let broken = writer.write(0, |_: &Connection| -> SqlResult<()> { panic!("a defect") }).await;
        assert!(matches!(broken, Err(StoreError::Corrupt(_))), "{broken:?}");
        writer.write(0, insert(1)).await.unwrap();
        assert_eq!(rows(&reader), [1]);
    }
}
