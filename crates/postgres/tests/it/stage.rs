//! Databases of the one cluster that all tests here share, and stores in them.
//!
//! Decides: that a test has a schema to itself, in a database that it shares with others of the same settings: a schema is
//! made in a few milliseconds. What is about connections or statistics has a database to itself.

use std::sync::{
    Arc, OnceLock,
    atomic::{AtomicUsize, Ordering},
};

use async_trait::async_trait;
use soloist::Store;
use soloist_postgres::{PgOptions, PgStore};
use soloist_store_contract::{Harness, ManualBootClock};
use soloist_test_postgres::{Cluster, Database};

/// The database for everything that needs none of its own.
pub(crate) fn plain() -> &'static Database<'static> {
    static PLAIN: OnceLock<Database<'static>> = OnceLock::new();
    PLAIN.get_or_init(|| Cluster::shared().database("plain"))
}

/// The name of a schema that no other test uses.
pub(crate) fn schema() -> String {
    static SCHEMAS: AtomicUsize = AtomicUsize::new(0);
    format!("test_{}", SCHEMAS.fetch_add(1, Ordering::Relaxed))
}

/// Options for a schema.
pub(crate) fn within(schema: &str) -> PgOptions {
    PgOptions { schema: schema.to_owned(), ..PgOptions::default() }
}

/// A database of its own for one test.
pub(crate) struct Private(pub(crate) Database<'static>);

impl Private {
    /// Ends every connection to it, as an operator or a failover would.
    pub(crate) fn cut(&self) {
        self.0.sql(
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
              WHERE datname = current_database() AND pid <> pg_backend_pid()",
        );
    }
}

#[async_trait]
impl Harness for Private {
    async fn fresh() -> Self {
        Self(Cluster::shared().database("private"))
    }

    async fn open(&self, clock: ManualBootClock) -> Arc<dyn Store> {
        let options = PgOptions { clock: Some(Arc::new(clock)), ..PgOptions::default() };
        Arc::new(PgStore::open_with(&self.0.url(), options).await.unwrap())
    }
}
