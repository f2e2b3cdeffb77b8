//! What waits for the disk, seen at the moment of the commit.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use soloist::{
    NodeId, Store, Timestamp,
    store::{NewNode, StoreError},
};
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

#[tokio::test(flavor = "multi_thread")]
async fn nodes_of_another_durability_are_refused_while_there_are_living_ones() {
    let (schema, clock) = (schema(), ManualBootClock::at(Duration::from_secs(1)));
    let open = async |durability| {
        let clock = Some(Arc::new(clock.clone()) as Arc<_>);
        let options = PgOptions { schema: schema.clone(), durability, clock, ..PgOptions::default() };
        PgStore::open_with(&plain().url(), options).await.unwrap()
    };
    let (full, relaxed) = (open(Durability::Full).await, open(Durability::Relaxed).await);
    let lease = Duration::from_secs(10);
    let node = || NewNode { id: NodeId::random(), lease, models: Vec::new(), at: Timestamp::now() };
    let mut leaves = full.join(node()).await.unwrap();
    full.join(node()).await.unwrap();
    let told = relaxed.join(node()).await.err();
    let Some(StoreError::Unavailable(why)) = &told else { panic!("{told:?}") };
    assert!(why.contains("durability") && why.contains("give this one the same"), "{why}");
    leaves.leave().unwrap();
    assert!(relaxed.join(node()).await.is_err(), "one is there");
    clock.advance(lease);
    relaxed.join(node()).await.unwrap();
    assert!(full.join(node()).await.is_err());
    // What was refused leaves nothing alive.
    let living = format!("SELECT count(*) FROM {schema}.node WHERE NOT dead AND lease_until_us > 11000000");
    assert_eq!(plain().sql(&living), "1");
}

#[tokio::test(flavor = "multi_thread")]
async fn of_nodes_of_two_durabilities_that_join_at_once_never_two_stay() {
    let schema = schema();
    let open = async |durability| {
        let options = PgOptions { schema: schema.clone(), durability, ..PgOptions::default() };
        PgStore::open_with(&plain().url(), options).await.unwrap()
    };
    let (full, relaxed) = (open(Durability::Full).await, open(Durability::Relaxed).await);
    let lease = Duration::from_secs(10);
    let node = || NewNode { id: NodeId::random(), lease, models: Vec::new(), at: Timestamp::now() };
    for _ in 0..20 {
        let (one, another) = tokio::join!(full.join(node()), relaxed.join(node()));
        assert!(one.is_err() || another.is_err());
        for mut joined in [one, another].into_iter().flatten() {
            joined.leave().unwrap();
        }
    }
}
