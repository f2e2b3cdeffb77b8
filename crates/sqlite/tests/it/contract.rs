//! Every promise of every store. A process is an open file; one at a time.

use std::{path::PathBuf, sync::Arc};

use async_trait::async_trait;
use soloist::Store;
use soloist_sqlite::SqliteStore;
use soloist_store_contract::{Harness, contract};
use tempfile::TempDir;

struct Sqlite {
    dir: TempDir,
}

impl Sqlite {
    fn path(&self) -> PathBuf {
        self.dir.path().join("soloist.db")
    }
}

#[async_trait]
impl Harness for Sqlite {
    async fn fresh() -> Self {
        Self { dir: tempfile::tempdir().unwrap() }
    }

    async fn open(&self) -> Arc<dyn Store> {
        Arc::new(SqliteStore::open(self.path()).unwrap())
    }

    async fn another(&self, living: &Arc<dyn Store>) -> Arc<dyn Store> {
        living.clone()
    }
}

contract!(Sqlite);
