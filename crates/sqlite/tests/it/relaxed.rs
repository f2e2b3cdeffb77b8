//! Relaxed durability breaks no promise but that about power cuts.

use std::sync::Arc;

use async_trait::async_trait;
use soloist::Store;
use soloist_sqlite::{Durability, SqliteOptions, SqliteStore};
use soloist_store_contract::{Harness, ManualBootClock, contract, host_contract};
use tempfile::TempDir;

struct Relaxed {
    dir: TempDir,
}

#[async_trait]
impl Harness for Relaxed {
    async fn fresh() -> Self {
        Self { dir: tempfile::tempdir().unwrap() }
    }

    async fn open(&self, clock: ManualBootClock) -> Arc<dyn Store> {
        let options = SqliteOptions { boot_clock: Arc::new(clock), durability: Durability::Relaxed };
        Arc::new(SqliteStore::open_with(self.dir.path().join("soloist.db"), options).unwrap())
    }
}

contract!(Relaxed);
host_contract!(Relaxed);
