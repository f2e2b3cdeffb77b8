//! The time to look again: a thread that asks SQLite whether anybody has committed.
//!
//! Decides: how often it asks: often while there are commits, seldom while there are none. `PRAGMA data_version` changes
//! with every commit of another connection, of this process or any other, and costs no query. Never decides what changed.

use std::{
    io,
    sync::mpsc,
    thread::{self, JoinHandle},
    time::Instant,
};

use rusqlite::Connection;
use soloist::limits;
use tokio::sync::watch;

/// The thread that watches. Dropping it ends it.
pub(crate) struct Watch {
    pub(crate) changes: watch::Sender<u64>,
    stop: Option<mpsc::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Watch {
    pub(crate) fn spawn(conn: Connection) -> io::Result<Self> {
        let changes = watch::Sender::new(0);
        let (stop, stopped) = mpsc::channel();
        let told = changes.clone();
        let thread = thread::Builder::new().name("soloist-watch".to_owned());
        let thread = thread.spawn(move || run(&conn, &told, &stopped))?;
        Ok(Self { changes, stop: Some(stop), thread: Some(thread) })
    }
}

fn run(conn: &Connection, changes: &watch::Sender<u64>, stopped: &mpsc::Receiver<()>) {
    let (mut seen, mut changed_at) = (None, Instant::now());
    loop {
        let version = conn
            .prepare_cached("PRAGMA data_version")
            .and_then(|mut version| version.query_row([], |row| row.get::<_, i64>(0)));
        // Where it cannot be asked, those who look anyway find out why.
        if let Ok(version) = version
            && seen.replace(version) != Some(version)
        {
            changed_at = Instant::now();
            changes.send_modify(|version| *version += 1);
        }
        let busy = changed_at.elapsed() < limits::SQLITE_WATCH_BUSY;
        let wait = if busy { limits::SQLITE_WATCH_OFTEN } else { limits::SQLITE_WATCH_SELDOM };
        if stopped.recv_timeout(wait) != Err(mpsc::RecvTimeoutError::Timeout) {
            return;
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.stop.take();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl std::fmt::Debug for Watch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Watch")
    }
}
