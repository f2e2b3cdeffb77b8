//! The one writer: group commit without a timer.
//!
//! Decides: what is committed together. The writer takes all that waits, up to a bound, carries it out in one
//! transaction, commits, and only then answers: while the disk is busy with one group the next one gathers, so a
//! lonely write waits for nobody and a thousand share a commit.
//!
//! Each request stands in a savepoint of its own, so that one that fails takes nothing of the others with it. Where the
//! commit itself fails (a full disk), all of the group are told that nothing was done, and the writer goes on. A
//! request whose caller has gone is carried out all the same.

use std::{
    fmt, io,
    panic::{AssertUnwindSafe, catch_unwind},
    thread::{self, JoinHandle},
};

use rusqlite::Connection;
use soloist::{
    limits,
    store::{StoreError, StoreResult},
};
use tokio::sync::{mpsc, oneshot};

use crate::{
    error::{SqlError, SqlResult},
    gone,
};

/// The thread that writes. Dropping it ends the thread, after every request that it has taken.
pub(crate) struct Writer {
    queue: Option<mpsc::Sender<Queued>>,
    thread: Option<JoinHandle<()>>,
}

struct Queued {
    bytes: usize,
    request: Box<dyn Request>,
}

/// What waits to be written, whatever its answer is.
trait Request: Send {
    /// Writes; its outcome is kept until the commit. False where it failed, so that it is undone.
    fn carry_out(&mut self, conn: &Connection) -> bool;
    /// Tells the caller, once the fate of the commit is known.
    fn answer(self: Box<Self>, commit: StoreResult<()>);
}

struct Verb<F, T> {
    act: Option<F>,
    outcome: Option<StoreResult<T>>,
    reply: oneshot::Sender<StoreResult<T>>,
}

impl<F, T> Request for Verb<F, T>
where
    F: FnOnce(&Connection) -> SqlResult<T> + Send,
    T: Send,
{
    fn carry_out(&mut self, conn: &Connection) -> bool {
        let act = self.act.take().expect("a request is carried out once");
        // A defect in one request must not end the thread that all others need.
        let outcome = catch_unwind(AssertUnwindSafe(|| act(conn))).map_or_else(
            |_| Err(StoreError::Corrupt("a defect broke this write off; see the log".to_owned())),
            |outcome| outcome.map_err(StoreError::from),
        );
        self.outcome.insert(outcome).is_ok()
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
    pub(crate) fn spawn(conn: Connection) -> io::Result<Self> {
        let (queue, waiting) = mpsc::channel(limits::SQLITE_QUEUE_MAX_REQUESTS);
        let thread = thread::Builder::new().name("soloist-write".to_owned());
        let thread = thread.spawn(move || serve(&conn, waiting))?;
        Ok(Self { queue: Some(queue), thread: Some(thread) })
    }

    /// Writes in the next group; returns when that is on disk. `bytes` is about what it writes.
    pub(crate) async fn write<T: Send + 'static>(
        &self,
        bytes: usize,
        act: impl FnOnce(&Connection) -> SqlResult<T> + Send + 'static,
    ) -> StoreResult<T> {
        let (reply, answer) = oneshot::channel();
        let request = Box::new(Verb { act: Some(act), outcome: None, reply });
        let queue = self.queue.as_ref().expect("taken only when dropped");
        queue.send(Queued { bytes, request }).await.map_err(|_| gone())?;
        answer.await.map_err(|_| gone())?
    }
}

fn serve(conn: &Connection, mut waiting: mpsc::Receiver<Queued>) {
    let mut group = Vec::new();
    while let Some(first) = waiting.blocking_recv() {
        let mut bytes = first.bytes;
        group.push(first.request);
        while group.len() < limits::SQLITE_GROUP_MAX_REQUESTS && bytes < limits::SQLITE_GROUP_MAX_BYTES {
            let Ok(next) = waiting.try_recv() else { break };
            bytes += next.bytes;
            group.push(next.request);
        }
        let fate = commit(conn, &mut group).map_err(|error| match error.into() {
            // What a constraint or a broken file says of a commit; nothing of it was done either.
            StoreError::Corrupt(message) => StoreError::Corrupt(message),
            StoreError::Unavailable(message) => StoreError::Unavailable(format!("not committed: {message}")),
        });
        for request in group.drain(..) {
            request.answer(fate.clone());
        }
    }
}

/// One transaction around a group. An error means that nothing of it is on record.
fn commit(conn: &Connection, group: &mut [Box<dyn Request>]) -> SqlResult<()> {
    run(conn, "BEGIN IMMEDIATE")?;
    let done = carry_out(conn, group).and_then(|()| run(conn, "COMMIT"));
    if done.is_err() && !conn.is_autocommit() {
        // Fails only where SQLite has rolled back by itself.
        let _ = run(conn, "ROLLBACK");
    }
    done
}

fn carry_out(conn: &Connection, group: &mut [Box<dyn Request>]) -> SqlResult<()> {
    for request in group {
        run(conn, "SAVEPOINT request")?;
        let kept = request.carry_out(conn);
        if conn.is_autocommit() {
            // A full disk or a failed read ends the whole transaction, not only the statement that met it.
            return Err(SqlError::Undone);
        }
        if !kept {
            run(conn, "ROLLBACK TO request")?;
        }
        run(conn, "RELEASE request")?;
    }
    Ok(())
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
mod tests {
    use std::{future::poll_fn, pin::Pin, sync::mpsc as std_mpsc, task::Poll};

    use super::*;

    fn writer(dir: &tempfile::TempDir) -> (Writer, Connection) {
        let path = dir.path().join("test.db");
        let conn = Connection::open(&path).unwrap();
        conn.execute_batch("PRAGMA journal_mode = wal; CREATE TABLE t (n INTEGER PRIMARY KEY) STRICT")
            .unwrap();
        (Writer::spawn(conn).unwrap(), Connection::open(path).unwrap())
    }

    fn insert(n: i64) -> impl FnOnce(&Connection) -> SqlResult<()> + Send + 'static {
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
