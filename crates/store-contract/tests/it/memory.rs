//! The memory store. Its storage is the process: a handle is a reference to it.

use std::sync::Arc;

use async_trait::async_trait;
use soloist::{MemoryStore, Store};
use soloist_store_contract::{Harness, contract};

struct Memory(Arc<MemoryStore>);

#[async_trait]
impl Harness for Memory {
    async fn fresh() -> Self {
        Self(Arc::new(MemoryStore::new()))
    }

    async fn open(&self) -> Arc<dyn Store> {
        self.0.clone()
    }

    async fn another(&self, _living: &Arc<dyn Store>) -> Arc<dyn Store> {
        self.0.clone()
    }
}

contract!(Memory);
