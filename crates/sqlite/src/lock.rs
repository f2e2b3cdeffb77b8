//! Locks that the operating system lets go of when a process ends, however it ends.
//!
//! Decides: who opens and upgrades a database ([`Opening`]), whose turn it is to write ([`Turns`]), and whether the
//! process of a node is certainly dead ([`NodeLock`]). All are `flock`s on files of their own beside the database: never
//! the database itself (closing any descriptor of that would drop SQLite's own locks), and opened close-on-exec (a child
//! that inherited one would hold it beyond our death). They belong to an open file, not to a process, so two nodes of one
//! process tell each other apart as those of two.

use std::{
    ffi::OsString,
    fs::{self, File, OpenOptions},
    io,
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc::{self, RecvTimeoutError, SyncSender},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use soloist::{NodeId, limits};

/// The right to open and upgrade a database; dropping it lets go.
pub(crate) struct Opening {
    _file: File,
}

impl Opening {
    /// Waits for the lock of a database, whose path has no symbolic link in it; `None` where somebody keeps it.
    ///
    /// Any number of processes may begin at one moment, so they stand in the system's own line for it. That wait cannot
    /// be given up, so a thread has it; where it comes to its end too late, the thread lets go of what it got.
    pub(crate) fn take(database: &Path) -> io::Result<Option<Self>> {
        let file = open(&beside(database, "-lock"))?;
        let (told, taken) = mpsc::channel();
        let waiting = move || {
            let _ = told.send(file.lock().map(|()| Self { _file: file }));
        };
        thread::Builder::new().name("soloist-open".to_owned()).spawn(waiting)?;
        taken.recv_timeout(limits::SQLITE_OPEN_WAIT).ok().transpose()
    }
}

/// The turnstile of all that write to a database: two locks, and a line in the system for each. A writer that waits for
/// the turn holds `next` meanwhile, so that a process which writes without pause has to queue behind it after every turn.
/// So one writer waits for the turn at a time, however many there are, and heartbeats, which wait for nothing but the turn
/// itself, pass by all the others.
///
/// A wait in the system's line cannot be given up, and the process whose turn it is may have been stopped. So a thread
/// stands in the line, and its owner (one thread at a time) waits for that thread no longer than it wants to.
pub(crate) struct Turns {
    locks: Arc<Locks>,
    /// To the thread: stand in the line, and hand the turn over here.
    wanted: Option<mpsc::Sender<SyncSender<()>>>,
    thread: Option<JoinHandle<()>>,
}

/// Who stands in line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Line {
    /// What is to be written.
    Writers,
    /// What keeps nodes alive.
    Heartbeats,
}

struct Locks {
    /// What has to be passed before the turn.
    next: Option<File>,
    turn: File,
    /// The thread stands in the line for somebody who has gone on without a turn.
    stuck: AtomicBool,
}

/// A turn; dropping it passes it on.
pub(crate) struct Turn<'a>(Option<&'a File>);

impl Turns {
    pub(crate) fn open(database: &Path, line: Line) -> io::Result<Self> {
        let next = match line {
            Line::Writers => Some(open(&beside(database, "-next"))?),
            Line::Heartbeats => None,
        };
        let turn = open(&beside(database, "-turn"))?;
        let locks = Arc::new(Locks { next, turn, stuck: AtomicBool::new(false) });
        let (wanted, asked) = mpsc::channel();
        let line = locks.clone();
        let thread = thread::Builder::new().name("soloist-turn".to_owned());
        let thread = thread.spawn(move || line.stand(&asked))?;
        Ok(Self { locks, wanted: Some(wanted), thread: Some(thread) })
    }

    /// Waits for a turn, though no longer than `most`. Turns are for fairness; what is written at a time SQLite's own lock
    /// decides. Where a wait was in vain, nobody waits before the line has moved again.
    pub(crate) fn take(&self, most: Duration) -> Turn<'_> {
        let Locks { next, turn, stuck } = &*self.locks;
        if stuck.load(Ordering::Acquire) {
            return Turn(None);
        }
        // Nobody stands in the line, and nobody has the turn.
        if next.as_ref().is_none_or(|next| next.try_lock().is_ok()) {
            let free = turn.try_lock().is_ok();
            next.as_ref().map(File::unlock);
            if free {
                return Turn(Some(turn));
            }
        }
        let (hand_over, taken) = mpsc::sync_channel(0);
        let wanted = self.wanted.as_ref().expect("taken only when dropped");
        if wanted.send(hand_over).is_err() {
            return Turn(None);
        }
        match taken.recv_timeout(most) {
            Ok(()) => Turn(Some(turn)),
            Err(RecvTimeoutError::Timeout) => {
                stuck.store(true, Ordering::Release);
                Turn(None)
            }
            // The system has no locks to give.
            Err(RecvTimeoutError::Disconnected) => Turn(None),
        }
    }
}

impl Drop for Turns {
    fn drop(&mut self) {
        self.wanted.take();
        // One that stands in a line which does not move is left there, and ends with the line or the process.
        if let Some(thread) = self.thread.take().filter(|_| !self.locks.stuck.load(Ordering::Acquire)) {
            let _ = thread.join();
        }
    }
}

impl Locks {
    /// Stands in the line whenever somebody wants a turn, until nobody can any more.
    fn stand(&self, asked: &mpsc::Receiver<SyncSender<()>>) {
        while let Ok(hand_over) = asked.recv() {
            self.next.as_ref().map(File::lock);
            let taken = self.turn.lock();
            self.next.as_ref().map(File::unlock);
            if taken.is_err() {
                continue;
            }
            // Whoever wanted it may have given up in between, and then waits for this line no more until it has moved.
            if hand_over.send(()).is_err() {
                let _ = self.turn.unlock();
                self.stuck.store(false, Ordering::Release);
            }
        }
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        if let Some(turn) = self.0 {
            let _ = turn.unlock();
        }
    }
}

/// The file that a node's process holds locked as long as it lives.
#[derive(Debug)]
pub(crate) struct NodeLock {
    _file: File,
    path: PathBuf,
    /// The file as the node's row names it.
    pub(crate) identity: Identity,
}

/// Which file it is, whatever its name leads to later.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) device: i64,
    pub(crate) inode: i64,
}

impl Identity {
    fn of(file: &File) -> io::Result<Self> {
        let metadata = file.metadata()?;
        // Kept bit by bit; SQLite has no unsigned numbers.
        Ok(Self { device: metadata.dev().cast_signed(), inode: metadata.ino().cast_signed() })
    }
}

impl NodeLock {
    /// Makes the lock file of a node that is about to join, locked.
    pub(crate) fn create(database: &Path, node: &NodeId) -> io::Result<Self> {
        let path = of_node(database, node);
        let file = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(&path)?;
        file.try_lock().map_err(io::Error::from)?;
        let identity = Identity::of(&file)?;
        Ok(Self { _file: file, path, identity })
    }

    /// The lock of a node whose process has let go of it, and so is dead. None where it is held, and where the file is
    /// gone or another one: that says nothing, and the lease decides.
    pub(crate) fn of_dead(database: &Path, node: &NodeId, identity: Identity) -> Option<Self> {
        let path = of_node(database, node);
        let file = OpenOptions::new().read(true).write(true).open(&path).ok()?;
        let same = Identity::of(&file).ok()? == identity;
        (same && file.try_lock().is_ok()).then_some(Self { _file: file, path, identity })
    }

    /// Removes the file, before the lock is let go.
    pub(crate) fn remove(&self) {
        let _ = fs::remove_file(&self.path);
    }
}

/// Removes what a dead node's lock file has left. False where its process still holds it.
pub(crate) fn remove_left(database: &Path, node: &NodeId) -> bool {
    let path = of_node(database, node);
    match OpenOptions::new().read(true).write(true).open(&path) {
        Ok(file) if file.try_lock().is_ok() => fs::remove_file(&path).is_ok(),
        Ok(_) => false,
        Err(_) => true,
    }
}

fn of_node(database: &Path, node: &NodeId) -> PathBuf {
    beside(database, &format!("-{node}"))
}

fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)
}

/// `<database><suffix>`.
fn beside(database: &Path, suffix: &str) -> PathBuf {
    let mut name = OsString::from(database);
    name.push(suffix);
    name.into()
}
