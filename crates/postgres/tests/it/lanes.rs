//! What is given up here is given up in the database, and what finds dead nodes waits for nobody.

use std::{
    sync::atomic::Ordering,
    time::{Duration, Instant},
};

use soloist::{
    Json, ModelKey, Store,
    store::{Evidence, QueuedClaim, StoreError},
};
use soloist_postgres::PgStore;
use soloist_store_contract::stage::{LEASE, Stage, key};
use soloist_test_postgres::Database;
use tokio::time::{sleep, timeout};
use tokio_postgres::{Client, NoTls};

use crate::{
    broken::Network,
    stage::{Private, plain, schema, within},
};

/// Somebody who has locked every task, in a transaction that is still open.
async fn locker(database: &Database<'_>) -> Client {
    let (client, connection) = tokio_postgres::connect(&database.url(), NoTls).await.unwrap();
    tokio::spawn(connection);
    client.batch_execute("BEGIN; SELECT 1 FROM soloist.task FOR UPDATE").await.unwrap();
    client
}

fn waiting(database: &Database<'_>) -> u32 {
    let waiting = "SELECT count(*) FROM pg_stat_activity
                    WHERE datname = current_database() AND state = 'active' AND wait_event_type = 'Lock'";
    database.sql(waiting).parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_waited_for_no_more_is_cancelled_in_the_database_and_never_done() {
    let stage = Stage::<Private>::new().await;
    stage.running("1").await;
    let database = &stage.harness.0;
    let locker = locker(database).await;
    let connections = || -> u32 {
        let of_soloist = "SELECT count(*) FROM pg_stat_activity
                           WHERE datname = current_database() AND application_name = 'soloist'";
        database.sql(of_soloist).parse().unwrap()
    };
    let (mut most, key) = (0, key("1"));
    for _ in 0..20 {
        let signal = stage.store.signal(&key, "n", Json::null(), stage.now());
        assert!(timeout(Duration::from_millis(100), signal).await.is_err(), "its row is locked");
        most = most.max(connections());
    }
    println!("{most} connections at the most");
    assert!(most <= 14, "{most} connections");
    let begun = Instant::now();
    while waiting(database) > 0 {
        assert!(begun.elapsed() < Duration::from_secs(3), "the database goes on with what nobody waits for");
        sleep(Duration::from_millis(20)).await;
    }
    locker.batch_execute("COMMIT").await.unwrap();
    sleep(Duration::from_millis(200)).await;
    assert_eq!(database.sql("SELECT sum(signals) FROM soloist.task"), "0");
    stage.store.signal(&key, "n", Json::null(), stage.now()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn dead_nodes_and_what_they_held_are_found_while_every_writer_waits() {
    let stage = Stage::<Private>::new().await;
    stage.running("1").await;
    let locker = locker(&stage.harness.0).await;
    let signals: Vec<_> = (0..6)
        .map(|_| {
            let store = stage.store.clone();
            tokio::spawn(async move {
                store.signal(&key("1"), "n", Json::null(), soloist::Timestamp::now()).await
            })
        })
        .collect();
    while waiting(&stage.harness.0) < 6 {
        sleep(Duration::from_millis(10)).await;
    }
    stage.boot.advance(LEASE);
    let begun = Instant::now();
    assert_eq!(stage.store.bury(Evidence::Lease).await.unwrap(), std::slice::from_ref(&stage.node));
    assert_eq!(stage.store.orphans(10).await.unwrap().len(), 1);
    assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());
    locker.batch_execute("COMMIT").await.unwrap();
    for signal in signals {
        signal.await.unwrap().unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sweeper_learns_of_every_outage_however_short() {
    let stage = Stage::<Private>::new().await;
    assert!(stage.store.bury(Evidence::Lease).await.unwrap().is_empty());
    stage.harness.cut();
    sleep(Duration::from_millis(100)).await;
    let told = stage.store.bury(Evidence::Lease).await;
    assert!(matches!(told, Err(StoreError::Unavailable(_))), "{told:?}");
    assert!(stage.store.bury(Evidence::Lease).await.unwrap().is_empty());
    stage.harness.cut();
    sleep(Duration::from_millis(100)).await;
    let told = stage.store.orphans(10).await;
    assert!(matches!(told, Err(StoreError::Unavailable(_))), "{told:?}");
    assert!(stage.store.orphans(10).await.unwrap().is_empty());
}

/// At SERIALIZABLE a look may meet a write, which is no outage.
#[tokio::test(flavor = "multi_thread")]
async fn a_sweeper_that_meets_a_write_looks_again() {
    let stage = Stage::<Private>::new().await;
    let database = &stage.harness.0;
    // The first two looks fail.
    database.sql(
        "CREATE SEQUENCE soloist.looks;
         CREATE FUNCTION soloist.meets() RETURNS bigint LANGUAGE plpgsql AS $$
             BEGIN
                 IF nextval('soloist.looks') <= 2 THEN
                     RAISE EXCEPTION 'it meets a write' USING ERRCODE = 'serialization_failure';
                 END IF;
                 RETURN 0;
             END $$;
         ALTER TABLE soloist.node RENAME TO node_table;
         CREATE VIEW soloist.node AS
             SELECT id, joined_at, lease_us, lease_until_us + soloist.meets() AS lease_until_us, dead, relaxed
               FROM soloist.node_table",
    );
    assert!(stage.store.bury(Evidence::Lease).await.unwrap().is_empty());
    assert_eq!(database.sql("SELECT last_value > 2 FROM soloist.looks"), "t");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sweeper_is_told_soon_that_the_database_does_not_answer() {
    let network = Network::before_the_database();
    let way = format!("postgres://postgres@127.0.0.1:{}", network.port);
    let url = format!("{way}/{}?sslmode=disable", plain().name());
    let store = PgStore::open_with(&url, within(&schema())).await.unwrap();
    store.bury(Evidence::Lease).await.unwrap();
    network.is_cut.store(true, Ordering::Relaxed);
    let begun = Instant::now();
    let told = store.bury(Evidence::Lease).await;
    assert!(matches!(told, Err(StoreError::Unavailable(_))), "{told:?}");
    assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_queued_run_is_claimed_however_many_before_it_others_have_locked() {
    let stage = Stage::<Private>::new().await;
    let database = &stage.harness.0;
    database.sql(
        "INSERT INTO soloist.task (app, model, id, status, run, place, created_at, updated_at)
         SELECT 'app', 'Model', n::text, 'queued', 1, n, 0, 0 FROM generate_series(1, 200) AS n;
         INSERT INTO soloist.input SELECT number, '1' FROM soloist.task",
    );
    let (client, connection) = tokio_postgres::connect(&database.url(), NoTls).await.unwrap();
    tokio::spawn(connection);
    client.batch_execute("BEGIN; SELECT 1 FROM soloist.task WHERE place <= 150 FOR UPDATE").await.unwrap();
    let take = || QueuedClaim {
        node: stage.node.clone(),
        models: vec![(ModelKey::new("app", "Model").unwrap(), None)],
        at: stage.now(),
    };
    let (key, _) = stage.store.claim_queued(take()).await.unwrap().expect("50 are free");
    assert_eq!(key.id(), "151");
    client.batch_execute("COMMIT").await.unwrap();
    let (key, _) = stage.store.claim_queued(take()).await.unwrap().expect("199 wait");
    assert_eq!(key.id(), "1");
}
