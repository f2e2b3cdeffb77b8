//! One process per file.
//!
//! Decides: whether this process may use a database, by an exclusive `flock` on a file of its own beside it. The
//! operating system lets go of that lock when the process ends, however it ends. The lock file is never the database
//! (closing any descriptor of that would drop SQLite's own locks), is opened close-on-exec (a child that inherited it
//! would hold it beyond our death), and is never removed (two processes could then lock two files of one name).

use std::{
    ffi::OsString,
    fs::{File, OpenOptions, TryLockError},
    io,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

/// The lock; dropping it lets go.
#[derive(Debug)]
pub(crate) struct FileLock {
    _file: File,
}

impl FileLock {
    /// Takes the lock of a database, whose path has no symbolic link in it; `None` where another holds it.
    pub(crate) fn take(database: &Path) -> io::Result<Option<Self>> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(beside(database))?;
        match file.try_lock() {
            Ok(()) => Ok(Some(Self { _file: file })),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }
}

/// `<database>-lock`.
fn beside(database: &Path) -> PathBuf {
    let mut name = OsString::from(database);
    name.push("-lock");
    name.into()
}
