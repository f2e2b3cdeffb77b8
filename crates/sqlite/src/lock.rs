//! Locks that the operating system lets go of when a process ends, however it ends.
//!
//! Decides: who opens and upgrades a database ([`Opening`]), whose turn it is to write ([`Turns`]), and whether the
//! process of a node is certainly dead ([`NodeLock`]). All are `flock`s on files of their own beside the database: never
//! the database itself (closing any descriptor of that would drop SQLite's own locks), and opened close-on-exec (a child
//! that inherited one would hold it beyond our death). They belong to an open file, not to a process, so two nodes of one
//! process tell each other apart as those of two.

use std::{
    ffi::OsString,
    fs::{self, File, OpenOptions, TryLockError},
    io,
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::mpsc,
    thread,
    time::{Duration, Instant},
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

/// The turnstile of all that write to a database. Whoever waits for the turn holds `next` meanwhile, so that a process
/// which writes without pause has to queue behind it after every turn.
pub(crate) struct Turns {
    next: File,
    turn: File,
}

/// A turn; dropping it passes it on.
pub(crate) struct Turn<'a>(Option<&'a File>);

impl Turns {
    pub(crate) fn open(database: &Path) -> io::Result<Self> {
        Ok(Self { next: open(&beside(database, "-next"))?, turn: open(&beside(database, "-turn"))? })
    }

    /// Waits for a turn, though not for ever: the process that has it may have been stopped. Turns are for fairness;
    /// what is written at a time SQLite's own lock decides.
    pub(crate) fn take(&self) -> Turn<'_> {
        if !take_within(&self.next, limits::SQLITE_TURN_MAX).unwrap_or(false) {
            return Turn(None);
        }
        let taken = take_within(&self.turn, limits::SQLITE_TURN_MAX).unwrap_or(false);
        let _ = self.next.unlock();
        Turn(taken.then_some(&self.turn))
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
    pub(crate) fn remove(self) {
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

/// Takes a lock by asking again and again: a wait in the system could not be given up.
fn take_within(file: &File, most: Duration) -> io::Result<bool> {
    let begun = Instant::now();
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(true),
            Err(TryLockError::WouldBlock) if begun.elapsed() < most => {
                thread::sleep(limits::SQLITE_TURN_LOOK)
            }
            Err(TryLockError::WouldBlock) => return Ok(false),
            Err(TryLockError::Error(error)) => return Err(error),
        }
    }
}

/// `<database><suffix>`.
fn beside(database: &Path, suffix: &str) -> PathBuf {
    let mut name = OsString::from(database);
    name.push(suffix);
    name.into()
}
