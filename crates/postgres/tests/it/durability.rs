//! What waits for the disk, seen at the moment of the commit.

use std::sync::Arc;

use async_trait::async_trait;
use soloist::Store;
use soloist_postgres::{Durability, PgOptions, PgStore};
use soloist_store_contract::{
    Harness, ManualBootClock,
    stage::{Stage, completed},
};

use crate::stage::{plain, schema};

struct With<const RELAXED: bool>(String);

#[async_trait]
impl<const RELAXED: bool> Harness for With<RELAXED> {
    async fn fresh() -> Self {
        Self(schema())
    }

    async fn open(&self, clock: ManualBootClock) -> Arc<dyn Store> {
        let durability = if RELAXED { Durability::Relaxed } else { Durability::Full };
        let clock = Some(Arc::new(clock) as Arc<_>);
        let options = PgOptions { schema: self.0.clone(), durability, clock, ..PgOptions::default() };
        Arc::new(PgStore::open_with(&plain().url(), options).await.unwrap())
    }
}

/// Settings under which a claim, an event and an ending were committed.
async fn settings<const RELAXED: bool>() -> String {
    let stage = Stage::<With<RELAXED>>::new().await;
    let schema = &stage.harness.0;
    plain().sql(&format!(
        "CREATE TABLE {schema}.seen (number serial, setting text);
         CREATE FUNCTION {schema}.see() RETURNS trigger LANGUAGE plpgsql AS $$
             BEGIN
                 INSERT INTO {schema}.seen (setting) VALUES (current_setting('synchronous_commit'));
                 RETURN NULL;
             END $$;
         CREATE CONSTRAINT TRIGGER see AFTER UPDATE ON {schema}.task
             DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION {schema}.see()"
    ));
    let lease = stage.running("1").await;
    stage.append(&lease, 0, 1).await;
    stage.finish(&lease, 1, completed("1")).await;
    plain().sql(&format!("SELECT string_agg(setting, ' ' ORDER BY number) FROM {schema}.seen"))
}

#[tokio::test(flavor = "multi_thread")]
async fn only_events_and_only_where_it_is_relaxed_go_without_the_disk() {
    assert_eq!(settings::<false>().await, "on on on");
    assert_eq!(settings::<true>().await, "on off on");
}
