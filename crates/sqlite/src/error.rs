//! What SQLite says went wrong, in the words of the store.
//!
//! Decides: which failures mean that the file breaks an invariant, and which only that it cannot be asked now. Never
//! carries a value from a row or a parameter, only SQLite's own words, which name tables and columns.

use rusqlite::ErrorCode;
use soloist::store::StoreError;

/// A result of a query.
pub(crate) type SqlResult<T> = Result<T, SqlError>;

/// Why a query was not carried out.
#[derive(Debug)]
pub(crate) enum SqlError {
    /// SQLite, or the way between it and Rust.
    Sql(rusqlite::Error),
    /// A row that no write of ours can have left.
    Corrupt(String),
    /// SQLite has undone the whole transaction because of another request in it.
    Undone,
    /// The same, because the disk is full.
    Full,
}

impl From<rusqlite::Error> for SqlError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sql(error)
    }
}

impl From<rusqlite::types::FromSqlError> for SqlError {
    fn from(error: rusqlite::types::FromSqlError) -> Self {
        Self::Corrupt(format!("a column cannot be read: {error}"))
    }
}

impl From<SqlError> for StoreError {
    fn from(error: SqlError) -> Self {
        match error {
            SqlError::Corrupt(message) => Self::Corrupt(message),
            SqlError::Full => Self::Full("a write in the same group found no room".to_owned()),
            SqlError::Undone => Self::Unavailable("a write in the same group could not be done".to_owned()),
            SqlError::Sql(rusqlite::Error::SqliteFailure(failure, message)) => {
                let message = message.unwrap_or_else(|| failure.to_string());
                match failure.code {
                    ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase | ErrorCode::ConstraintViolation => {
                        Self::Corrupt(message)
                    }
                    ErrorCode::DiskFull => Self::Full(message),
                    _ => Self::Unavailable(message),
                }
            }
            SqlError::Sql(other) => Self::Corrupt(other.to_string()),
        }
    }
}
