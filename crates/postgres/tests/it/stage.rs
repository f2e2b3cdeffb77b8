//! Databases of the one cluster that all tests here share, and stores in them.
//!
//! Decides: that a test has a schema to itself, in a database that it shares with others of the same settings. A schema is
//! made in a few milliseconds; that stores in several schemas of one database do not meet is tested by the way.

use std::sync::{
    OnceLock,
    atomic::{AtomicUsize, Ordering},
};

use soloist_postgres::{PgOptions, PgStore};
use soloist_test_postgres::{Cluster, Database};

/// The database for everything that needs no other settings.
pub(crate) fn plain() -> &'static Database<'static> {
    static PLAIN: OnceLock<Database<'static>> = OnceLock::new();
    PLAIN.get_or_init(|| Cluster::shared().database("plain"))
}

/// The name of a schema that no other test uses.
pub(crate) fn schema() -> String {
    static SCHEMAS: AtomicUsize = AtomicUsize::new(0);
    format!("test_{}", SCHEMAS.fetch_add(1, Ordering::Relaxed))
}

/// A store in a schema of the plain database.
pub(crate) async fn open(schema: &str) -> PgStore {
    let options = PgOptions { schema: schema.to_owned(), ..PgOptions::default() };
    PgStore::open_with(&plain().url(), options).await.unwrap()
}
