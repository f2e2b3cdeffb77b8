//! The store that the configuration names.
//!
//! Decides: which of them is opened, and how. Nothing else in the program knows that there is more than one.

use std::sync::Arc;

use soloist::{MemoryStore, Store};
use soloist_postgres::{PgOptions, PgStore};
use soloist_sqlite::{SqliteOptions, SqliteStore};

use crate::{
    config::{Config, types::StoreUrl},
    exit::{Exit, Stop},
};

/// Opens it. Blocks for a moment where it is a file.
pub(crate) async fn open(config: &Config) -> Result<Arc<dyn Store>, Stop> {
    let stop = |why: String| Stop::new(Exit::Unreachable, format!("store: {why}"));
    Ok(match &config.store {
        StoreUrl::Memory => Arc::new(MemoryStore::new()),
        StoreUrl::Sqlite(path) => {
            let options = SqliteOptions { durability: config.durability, ..SqliteOptions::default() };
            Arc::new(SqliteStore::open_with(path, options).map_err(|e| stop(e.to_string()))?)
        }
        StoreUrl::Postgres(url) => {
            let options = PgOptions {
                listen_url: config.listen_url.as_ref().map(|url| url.reveal().to_owned()),
                durability: config.durability,
                ..PgOptions::default()
            };
            let open = PgStore::open_with(url.reveal(), options);
            Arc::new(open.await.map_err(|e| stop(e.to_string()))?)
        }
    })
}

/// The store that another process on this host, or another host, can find as well.
pub(crate) fn is_shared(config: &Config) -> bool {
    match config.store {
        StoreUrl::Memory => false,
        StoreUrl::Sqlite(_) | StoreUrl::Postgres(_) => true,
    }
}
