//! Opening a file: ours, of a version that we know, durable.
//!
//! Decides: who may open which file ([`OpenError`] says why not), and the settings of every connection. The order
//! matters: the lock comes first, and a file that is not ours is refused before anything is written to it.

use std::{
    fs::{self, OpenOptions},
    io,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    sync::Arc,
};

use rusqlite::{Connection, ErrorCode, OpenFlags, TransactionBehavior, config::DbConfig, params};
use soloist::{fault, limits};

use crate::{
    SqliteOptions, SqliteStore,
    lock::{Line, Opening, Turns},
    node::Boot,
    readers::Readers,
    watch::Watch,
    writer::Writer,
};

/// Marks a file as ours in its header: "Solo".
const APPLICATION_ID: i32 = 0x536f_6c6f;
/// Events of a KiB must fit into a page of the log's tree; with 4 KiB pages each would take a page of its own beside it.
const PAGE_BYTES: usize = 8 << 10;
/// Number n brings a file from version n - 1 to n. What has been released never changes.
const MIGRATIONS: &[&str] = &[
    include_str!("migrations/0001_tables.sql"),
    include_str!("migrations/0002_nodes.sql"),
    include_str!("migrations/0003_durability.sql"),
    include_str!("migrations/0004_lifecycle.sql"),
    include_str!("migrations/0005_trace.sql"),
    include_str!("migrations/0006_taken_back.sql"),
    include_str!("migrations/0007_owner.sql"),
];

/// Why a file was not opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// Another process keeps it locked: an older Soloist, which shares a file with nobody, or one that was stopped while
    /// it opened it.
    #[error(
        "{path} is kept locked by another process, such as an older soloist that shares a file with nobody; stop that one, or name another file"
    )]
    InUse {
        /// The file.
        path: PathBuf,
    },
    /// A newer Soloist wrote it.
    #[error(
        "{path} has version {found}, and this soloist knows versions up to {known}; use the newer soloist that wrote it, or name another file"
    )]
    NewerVersion {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: i32,
        /// The newest version that this program knows.
        known: i32,
    },
    /// It is something else. It was not changed.
    #[error("{path} is no soloist database; name another file")]
    NotSoloist {
        /// The file.
        path: PathBuf,
    },
    /// The file system does not allow it.
    #[error("cannot open {path}: {source}; check that its directory exists and may be written to")]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// SQLite does not allow it.
    #[error("cannot open {path}: sqlite says: {source}")]
    Sqlite {
        /// The file.
        path: PathBuf,
        /// Why.
        source: rusqlite::Error,
    },
}

pub(crate) fn open(path: &Path, options: SqliteOptions) -> Result<SqliteStore, OpenError> {
    let io = |source| OpenError::Io { path: path.to_owned(), source };
    let sqlite = |source| refusal(path, source);
    // Made here and not by SQLite, so that it never was readable by others; SQLite gives the same mode to the files that
    // it puts beside it. Only ever made new: closing a descriptor of a database in use would drop SQLite's locks.
    match OpenOptions::new().write(true).create_new(true).mode(0o600).open(path) {
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        Err(error) => return Err(io(error)),
    }
    fault::point("sqlite:open-made");
    // The same locks, by whichever links the file was named.
    let real = fs::canonicalize(path).map_err(io)?;
    let Some(opening) = Opening::take(&real).map_err(io)? else {
        return Err(OpenError::InUse { path: path.to_owned() });
    };
    fault::point("sqlite:open-locked");
    let mut conn = connect(&real, OpenFlags::SQLITE_OPEN_READ_WRITE).map_err(sqlite)?;
    let version = version(&conn, path)?;
    settle(&conn).map_err(sqlite)?;
    conn.pragma_update(None, "cache_size", -kib(limits::SQLITE_WRITER_CACHE_MAX_BYTES)).map_err(sqlite)?;
    fault::point("sqlite:open-settled");
    migrate(&mut conn, version).map_err(sqlite)?;
    drop(opening);
    // A connection per reader, opened now, so that a store that is open can be read.
    let readers: Vec<Connection> = (0..limits::SQLITE_READERS)
        .map(|_| connect(&real, OpenFlags::SQLITE_OPEN_READ_ONLY))
        .collect::<Result<_, _>>()
        .map_err(sqlite)?;
    let readers = Readers::spawn(readers).map_err(io)?;
    let writer = Writer::spawn(conn, Turns::open(&real, Line::Writers).map_err(io)?).map_err(io)?;
    let watching = connect(&real, OpenFlags::SQLITE_OPEN_READ_ONLY).map_err(sqlite)?;
    let watch = Watch::spawn(watching).map_err(io)?;
    let boot = Boot(options.boot_clock);
    let (path, durability) = (Arc::new(real), options.durability);
    Ok(SqliteStore {
        watch,
        readers,
        writer,
        path,
        boot,
        durability,
        fresh: Default::default(),
        walk: Default::default(),
    })
}

/// A connection that reads a file which must be there, and ours; nothing is made, locked or brought up to date.
pub(crate) fn existing(path: &Path) -> Result<Connection, OpenError> {
    let real = fs::canonicalize(path).map_err(|source| OpenError::Io { path: path.to_owned(), source })?;
    let conn = connect(&real, OpenFlags::SQLITE_OPEN_READ_ONLY).map_err(|source| refusal(path, source))?;
    match version(&conn, path)? {
        0 => Err(OpenError::NotSoloist { path: path.to_owned() }),
        _ => Ok(conn),
    }
}

/// The connection by which a node is kept alive. A lease need not survive a power cut: none of another boot counts.
pub(crate) fn heartbeat(path: &Path) -> rusqlite::Result<Connection> {
    let conn = connect(path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    conn.busy_timeout(limits::SQLITE_BEAT_TIMEOUT)?;
    conn.pragma_update(None, "synchronous", "normal")?;
    Ok(conn)
}

fn connect(path: &Path, flags: OpenFlags) -> rusqlite::Result<Connection> {
    let conn = Connection::open_with_flags(path, flags | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
    conn.busy_timeout(limits::SQLITE_BUSY_TIMEOUT)?;
    conn.set_prepared_statement_cache_capacity(64);
    // A plan depends on no value that is bound: otherwise SQLite prepares a statement anew whenever a value changes that it
    // has compared with the condition of an index.
    conn.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
    conn.pragma_update(None, "trusted_schema", false)?;
    conn.pragma_update(None, "foreign_keys", true)?;
    conn.pragma_update(None, "cache_size", -kib(limits::SQLITE_CACHE_MAX_BYTES))?;
    Ok(conn)
}

/// The version of a file that is ours; 0 for one that is still empty. Writes nothing.
fn version(conn: &Connection, path: &Path) -> Result<usize, OpenError> {
    let not_soloist = || OpenError::NotSoloist { path: path.to_owned() };
    let read = |sql: &str| {
        conn.query_row(sql, params![], |row| row.get::<_, i32>(0)).map_err(|source| refusal(path, source))
    };
    let tables = read("SELECT count(*) FROM sqlite_schema")?;
    let found = read("PRAGMA user_version")?;
    match read("PRAGMA application_id")? {
        0 if tables == 0 && found == 0 => return Ok(0),
        APPLICATION_ID => {}
        _ => return Err(not_soloist()),
    }
    let version = usize::try_from(found).map_err(|_| not_soloist())?;
    if version > MIGRATIONS.len() {
        let known = i32::try_from(MIGRATIONS.len()).expect("migrations are few");
        return Err(OpenError::NewerVersion { path: path.to_owned(), found, known });
    }
    Ok(version)
}

fn refusal(path: &Path, source: rusqlite::Error) -> OpenError {
    let path = path.to_owned();
    match source.sqlite_error_code() {
        Some(ErrorCode::NotADatabase) => OpenError::NotSoloist { path },
        _ => OpenError::Sqlite { path, source },
    }
}

/// A file of the newest version, without a lock or threads: for the tests of single statements.
#[cfg(test)]
pub(crate) fn file(path: &Path) -> rusqlite::Result<Connection> {
    let mut conn = connect(path, OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE)?;
    settle(&conn)?;
    migrate(&mut conn, 0)?;
    Ok(conn)
}

/// The settings of the file and of the connection that writes it.
fn settle(conn: &Connection) -> rusqlite::Result<()> {
    conn.pragma_update(None, "page_size", PAGE_BYTES)?;
    // Only a file that is still empty takes it: pages that are free are given back to the file system (see `tidy`).
    conn.pragma_update(None, "auto_vacuum", "incremental")?;
    let mode: String = conn.pragma_update_and_check(None, "journal_mode", "wal", |row| row.get(0))?;
    if mode != "wal" {
        let message = "its file system cannot share memory, which a write-ahead log needs; use a local disk";
        let failure = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_IOERR);
        return Err(rusqlite::Error::SqliteFailure(failure, Some(message.to_owned())));
    }
    // What is undone alone is noted in memory, and not in a file of its own.
    conn.pragma_update(None, "temp_store", "memory")?;
    // A commit that was answered survives a power cut.
    conn.pragma_update(None, "synchronous", "full")?;
    conn.pragma_update(None, "journal_size_limit", limits::SQLITE_WAL_KEPT_BYTES)?;
    conn.pragma_update(None, "wal_autocheckpoint", limits::SQLITE_CHECKPOINT_BYTES / PAGE_BYTES)
}

/// Brings a file up to date, each version in a transaction of its own.
fn migrate(conn: &mut Connection, from: usize) -> rusqlite::Result<()> {
    for (number, sql) in (1..).zip(MIGRATIONS).skip(from) {
        fault::point("sqlite:migrate-before");
        let migration = conn.transaction_with_behavior(TransactionBehavior::Immediate)?;
        fault::point("sqlite:migrate-begun");
        migration.execute_batch(sql)?;
        fault::point("sqlite:migrate-tables");
        migration.pragma_update(None, "application_id", APPLICATION_ID)?;
        fault::point("sqlite:migrate-marked");
        migration.pragma_update(None, "user_version", number)?;
        fault::point("sqlite:migrate-numbered");
        migration.commit()?;
        fault::point("sqlite:migrate-after");
    }
    Ok(())
}

fn kib(bytes: usize) -> i64 {
    i64::try_from(bytes / 1024).expect("limits fit")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_commit_waits_for_the_disk() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.db");
        let conn = file(&path).unwrap();
        let setting = |name| conn.pragma_query_value(None, name, |row| row.get::<_, i64>(0)).unwrap();
        assert_eq!((setting("synchronous"), setting("foreign_keys"), setting("page_size")), (2, 1, 8_192));
    }

    #[test]
    fn a_reader_cannot_write() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.db");
        drop(open(&path, SqliteOptions::default()).unwrap());
        let reader = connect(&path, OpenFlags::SQLITE_OPEN_READ_ONLY).unwrap();
        let refusal = reader.execute("DELETE FROM task", []).unwrap_err();
        assert_eq!(refusal.sqlite_error_code(), Some(ErrorCode::ReadOnly));
    }
}
