//! Every promise of every store at each isolation level that a database may have as its usual one; at one of them through a
//! pooler in transaction mode, at one over TLS, and at one with relaxed durability. A process is an open store, beside others
//! in the same schema.

use std::sync::{Arc, OnceLock};

use async_trait::async_trait;
use soloist::Store;
use soloist_postgres::{Durability, PgOptions, PgStore};
use soloist_store_contract::{Harness, ManualBootClock, contract};
use soloist_test_postgres::{Bouncer, Cluster, Database, Options};

use crate::stage::schema;

/// Where a storage is.
struct Place {
    url: String,
    options: PgOptions,
}

impl Place {
    fn new(url: String) -> Self {
        Self { url, options: PgOptions { schema: schema(), ..PgOptions::default() } }
    }

    async fn open(&self, clock: ManualBootClock) -> Arc<dyn Store> {
        let options = PgOptions { clock: Some(Arc::new(clock)), ..self.options.clone() };
        Arc::new(PgStore::open_with(&self.url, options).await.unwrap())
    }
}

macro_rules! harness {
    ($module:ident, $place:expr) => {
        mod $module {
            use super::*;

            struct Pg(Place);

            #[async_trait]
            impl Harness for Pg {
                async fn fresh() -> Self {
                    Self($place)
                }

                async fn open(&self, clock: ManualBootClock) -> Arc<dyn Store> {
                    self.0.open(clock).await
                }
            }

            contract!(Pg);
        }
    };
}

harness!(read_committed_through_pgbouncer, through_pgbouncer());
harness!(repeatable_read_over_tls, over_tls());
harness!(serializable_and_relaxed, serializable());

/// Wake-ups come by a connection of their own, past the pooler.
fn through_pgbouncer() -> Place {
    static POOLED: OnceLock<(Bouncer, Database<'static>)> = OnceLock::new();
    let (bouncer, database) =
        POOLED.get_or_init(|| (Bouncer::start(Cluster::shared()), Cluster::shared().database("pooled")));
    let mut place = Place::new(bouncer.url(database.name()));
    place.options.listen_url = Some(database.url());
    place
}

/// In a cluster that takes nobody without TLS, verified by host and authority.
fn over_tls() -> Place {
    static SECURE: OnceLock<(&Cluster, Database<'static>)> = OnceLock::new();
    let (cluster, database) = SECURE.get_or_init(|| {
        // It goes with the process.
        let cluster: &Cluster =
            Box::leak(Box::new(Cluster::start(&Options { tls: true, ..Options::default() })));
        let database = cluster.database("secure");
        database.set("default_transaction_isolation = 'repeatable read'");
        (cluster, database)
    });
    let (url, authority) = (cluster.url(database.name()), cluster.authority());
    Place::new(format!("{url}?sslmode=verify-full&sslrootcert={}", authority.display()))
}

fn serializable() -> Place {
    static STRICT: OnceLock<Database<'static>> = OnceLock::new();
    let database = STRICT.get_or_init(|| {
        let database = Cluster::shared().database("strict");
        database.set("default_transaction_isolation = 'serializable'");
        database
    });
    let mut place = Place::new(database.url());
    place.options.durability = Durability::Relaxed;
    place
}
