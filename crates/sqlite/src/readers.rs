//! Reads, beside the writer.
//!
//! Decides: that a read never waits for a write. A few threads take requests from one bounded queue, each with a
//! connection that cannot write; every read is one statement, so that no snapshot outlives a page and the write-ahead
//! log can always be folded back.

use std::{
    fmt, io,
    sync::{Arc, Mutex},
    thread::{self, JoinHandle},
};

use rusqlite::Connection;
use soloist::{limits, store::StoreResult};
use tokio::sync::{mpsc, oneshot};

use crate::{error::SqlResult, gone};

type Read = Box<dyn FnOnce(&Connection) + Send>;

/// The threads that read. Dropping it ends them.
pub(crate) struct Readers {
    queue: Option<mpsc::Sender<Read>>,
    threads: Vec<JoinHandle<()>>,
}

impl Readers {
    pub(crate) fn spawn(connections: Vec<Connection>) -> io::Result<Self> {
        let (queue, waiting) = mpsc::channel::<Read>(limits::SQLITE_READS_MAX_WAITING);
        let waiting = Arc::new(Mutex::new(waiting));
        let mut readers = Self { queue: Some(queue), threads: Vec::new() };
        for conn in connections {
            let waiting = waiting.clone();
            let thread = thread::Builder::new().name("soloist-read".to_owned());
            readers.threads.push(thread.spawn(move || {
                while let Some(read) = next(&waiting) {
                    read(&conn);
                }
            })?);
        }
        Ok(readers)
    }

    /// Reads on one of the threads. A caller that has gone by then is not read for.
    pub(crate) async fn read<T: Send + 'static>(
        &self,
        query: impl FnOnce(&Connection) -> SqlResult<T> + Send + 'static,
    ) -> StoreResult<T> {
        let (reply, answer) = oneshot::channel();
        let read: Read = Box::new(move |conn| {
            if !reply.is_closed() {
                let _ = reply.send(query(conn).map_err(Into::into));
            }
        });
        let queue = self.queue.as_ref().expect("taken only when dropped");
        queue.send(read).await.map_err(|_| gone())?;
        answer.await.map_err(|_| gone())?
    }
}

/// The next request; one idle thread waits for it, the others wait for their turn to wait.
fn next(waiting: &Mutex<mpsc::Receiver<Read>>) -> Option<Read> {
    waiting.lock().ok()?.blocking_recv()
}

impl Drop for Readers {
    fn drop(&mut self) {
        self.queue.take();
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

impl fmt::Debug for Readers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Readers({})", self.threads.len())
    }
}
