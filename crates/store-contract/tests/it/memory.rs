//! The memory store. Its storage is the process: a handle is a reference to it.

use std::sync::Arc;

use async_trait::async_trait;
use soloist::{MemoryStore, Store};
use soloist_store_contract::{Harness, ManualBootClock, contract, host_contract};

struct Memory(MemoryStore);

#[async_trait]
impl Harness for Memory {
    async fn fresh() -> Self {
        Self(MemoryStore::new())
    }

    async fn open(&self, clock: ManualBootClock) -> Arc<dyn Store> {
        Arc::new(self.0.clone().with_boot_clock(clock))
    }
}

contract!(Memory);
host_contract!(Memory);
