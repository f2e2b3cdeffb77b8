//! A copy of a database in use.
//!
//! Decides: what a copy holds, and when it has its name. It holds the one moment at which it began: a read transaction
//! keeps that moment while pages are copied, however long that takes and whatever is written meanwhile (the write-ahead
//! log grows by what is written until then). In the copy every node is dead, for none of them runs there: whoever
//! serves it ends or takes over their runs like those of any process that died. It gets its name when it is whole and
//! on disk, and never the name of a file that is there.

use std::{
    fs::File,
    io,
    path::{Path, PathBuf},
};

use rusqlite::{
    Connection, OpenFlags, TransactionBehavior,
    backup::{Backup, StepResult},
};
use soloist::limits;

use crate::open::{self, OpenError};

/// How far a copy is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BackupProgress {
    /// Bytes that are copied.
    pub done: u64,
    /// Bytes that the copy will have.
    pub total: u64,
}

/// What was copied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BackupDone {
    /// How large the copy is.
    pub bytes: u64,
    /// How many tasks it holds.
    pub tasks: u64,
}

/// Why there is no copy.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BackupError {
    /// The database cannot be read as ours.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// There is a file of that name. It was not touched.
    #[error("{path} is there already; name another file, or move that one away")]
    Exists {
        /// The copy's file.
        path: PathBuf,
    },
    /// The copy cannot be written.
    #[error("cannot write {path}: {source}; check that its directory exists, may be written to and has room")]
    Io {
        /// The copy's file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// SQLite cannot copy it.
    #[error("cannot copy {path}: sqlite says: {source}; check that there is room for the copy")]
    Sqlite {
        /// The database.
        path: PathBuf,
        /// Why.
        source: rusqlite::Error,
    },
}

/// Copies a database, in use or not, to a new file that only its owner can read; blocks until that is on disk. The file
/// is a database of its own: open it with [`SqliteStore::open`](crate::SqliteStore::open). Where this is broken off,
/// there is no such file; a process that is killed leaves a part of it in a directory whose name begins with a dot.
///
/// ```
/// # let dir = tempfile::tempdir().unwrap();
/// # let (path, copy) = (dir.path().join("soloist.db"), dir.path().join("copy.db"));
/// use soloist_sqlite::{SqliteStore, backup};
/// let in_use = SqliteStore::open(&path)?;
/// backup(&path, &copy, |progress| println!("{} of {} bytes", progress.done, progress.total))?;
/// let copied = SqliteStore::open(&copy)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// [`BackupError`], which says what to do.
pub fn backup(
    from: &Path,
    to: &Path,
    mut progress: impl FnMut(BackupProgress),
) -> Result<BackupDone, BackupError> {
    let sqlite = |source| BackupError::Sqlite { path: from.to_owned(), source };
    let io = |source| BackupError::Io { path: to.to_owned(), source };
    let exists = || BackupError::Exists { path: to.to_owned() };
    let source = open::existing(from)?;
    // Told early, for people; what counts is that the copy is given its name only where nobody has it.
    if to.symlink_metadata().is_ok() {
        return Err(exists());
    }
    let directory = to.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    // A directory, so that what SQLite keeps beside a database goes with it wherever this is broken off.
    let room = tempfile::Builder::new().prefix(".soloist-backup-").tempdir_in(directory).map_err(io)?;
    let part = tempfile::NamedTempFile::new_in(room.path()).map_err(io)?;
    let copied = copy(source, part.path(), &mut progress).map_err(sqlite)?;
    part.as_file().sync_all().map_err(io)?;
    part.persist_noclobber(to).map_err(|refused| match refused.error.kind() {
        io::ErrorKind::AlreadyExists => exists(),
        _ => io(refused.error),
    })?;
    File::open(directory).and_then(|directory| directory.sync_all()).map_err(io)?;
    Ok(copied)
}

fn copy(
    mut source: Connection,
    part: &Path,
    progress: &mut impl FnMut(BackupProgress),
) -> rusqlite::Result<BackupDone> {
    // The backup reads by this connection, and so what the transaction sees. Without it, the first commit of somebody
    // else would make it begin anew, again and again.
    let moment = source.transaction_with_behavior(TransactionBehavior::Deferred)?;
    let tasks = moment.query_row("SELECT count(*) FROM task", [], |row| row.get(0))?;
    let page: u64 = moment.pragma_query_value(None, "page_size", |row| row.get(0))?;
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut target = Connection::open_with_flags(part, flags)?;
    let backup = Backup::new(&moment, &mut target)?;
    loop {
        let step = backup.step(limits::SQLITE_BACKUP_STEP_PAGES)?;
        let at = backup.progress();
        let bytes = |pages: i32| page * u64::try_from(pages).unwrap_or_default();
        progress(BackupProgress { done: bytes(at.pagecount - at.remaining), total: bytes(at.pagecount) });
        match step {
            StepResult::Done => break,
            // Whoever writes to the source at this moment will be through soon.
            StepResult::Busy | StepResult::Locked => std::thread::sleep(limits::SQLITE_BACKUP_LOOK),
            _ => {}
        }
    }
    drop(backup);
    drop(moment);
    target.execute("UPDATE node SET dead = 1", [])?;
    // What the copy's own log holds goes into it, so that it is one file.
    target.pragma_update_and_check(None, "wal_checkpoint", "truncate", |row| row.get::<_, i64>(0))?;
    target.close().map_err(|(_, error)| error)?;
    let bytes = std::fs::metadata(part).map_or(0, |metadata| metadata.len());
    Ok(BackupDone { bytes, tasks })
}
