//! What PostgreSQL says went wrong, in the words of the store.
//!
//! Decides: what a failure means for the statement that met it: not done, not done because it met another one, perhaps
//! done, or a defect. Never carries a value from a row or a parameter, a password, or a detail of PostgreSQL's, which may
//! quote one; only its own words, which name tables and columns.

use std::error::Error as _;

use soloist::store::StoreError;
use tokio_postgres::error::{DbError, Severity, SqlState};

/// A result of a query.
pub(crate) type SqlResult<T> = Result<T, SqlError>;

/// Why a query was not carried out, or may not have been.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum SqlError {
    /// It could not be asked. Nothing was done.
    Away(String),
    /// It was asked, and no answer came: the connection broke. It may have been done.
    Broken(String),
    /// It met another statement, and gave way. Nothing was done; asked again it will do.
    Conflict(String),
    /// What must not be there twice is there. Nothing was done.
    Double(String),
    /// There is no room. Nothing was done.
    Full(String),
    /// PostgreSQL refuses what was asked, or gave what no write of ours can have left.
    Corrupt(String),
}

impl SqlError {
    /// Whether the connection on which it came can be used further.
    pub(crate) fn spares_connection(&self) -> bool {
        matches!(self, Self::Conflict(_) | Self::Double(_) | Self::Full(_) | Self::Corrupt(_))
    }
}

impl From<tokio_postgres::Error> for SqlError {
    fn from(error: tokio_postgres::Error) -> Self {
        match error.as_db_error() {
            Some(said) => of_database(said),
            None if error.is_closed() => Self::Broken("the connection to the database is closed".to_owned()),
            None => {
                let source = error.source().and_then(|source| source.downcast_ref::<std::io::Error>());
                match source {
                    Some(io) => Self::Broken(format!("the connection to the database broke: {io}")),
                    None => Self::Corrupt(format!("the database was not understood: {error}")),
                }
            }
        }
    }
}

fn of_database(said: &DbError) -> SqlError {
    let message = format!("the database says: {} ({})", said.message(), said.code().code());
    let code = said.code();
    let class = &code.code()[..2.min(code.code().len())];
    let fatal = matches!(said.parsed_severity(), Some(Severity::Fatal | Severity::Panic));
    if *code == SqlState::T_R_SERIALIZATION_FAILURE || *code == SqlState::T_R_DEADLOCK_DETECTED {
        SqlError::Conflict(message)
    } else if *code == SqlState::UNIQUE_VIOLATION {
        SqlError::Double(message)
    } else if *code == SqlState::DISK_FULL {
        SqlError::Full(message)
    } else if fatal || class == "08" || class == "57" {
        SqlError::Broken(message)
    } else if class == "22" || class == "23" || class == "XX" {
        SqlError::Corrupt(message)
    } else {
        SqlError::Away(message)
    }
}

impl From<SqlError> for StoreError {
    fn from(error: SqlError) -> Self {
        match error {
            SqlError::Away(message) => Self::Unavailable(message),
            SqlError::Conflict(message) => {
                Self::Unavailable(format!("too many others write the same: {message}; ask again"))
            }
            SqlError::Broken(message) => Self::Unavailable(format!(
                "{message}; what was asked may have been done, and what became of it could not be found out yet"
            )),
            SqlError::Full(message) => Self::Full(message),
            SqlError::Double(message) | SqlError::Corrupt(message) => Self::Corrupt(message),
        }
    }
}

/// What a caller is told whose request was lost with the task that served it.
pub(crate) fn gone() -> StoreError {
    StoreError::Unavailable("this store is closed; open it again".to_owned())
}
