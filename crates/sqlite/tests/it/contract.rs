//! Every promise of every store. A process is an open file, beside others.

use std::sync::Arc;

use async_trait::async_trait;
use soloist::Store;
use soloist_sqlite::{SqliteOptions, SqliteStore};
use soloist_store_contract::{Harness, ManualBootClock, contract, host_contract};
use tempfile::TempDir;

struct Full {
    dir: TempDir,
}

#[async_trait]
impl Harness for Full {
    async fn fresh() -> Self {
        Self { dir: tempfile::tempdir().unwrap() }
    }

    async fn open(&self, clock: ManualBootClock) -> Arc<dyn Store> {
        let options = SqliteOptions { boot_clock: Arc::new(clock), ..SqliteOptions::default() };
        Arc::new(SqliteStore::open_with(self.dir.path().join("soloist.db"), options).unwrap())
    }
}

contract!(Full);
host_contract!(Full);
