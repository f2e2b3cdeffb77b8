//! Leases by the database's clock, and what becomes of them where it was set back.

use std::time::Duration;

use soloist::store::{Evidence, NewNode, Renewal};
use soloist::{NodeId, Store, Timestamp};
use soloist_postgres::PgStore;
use soloist_store_contract::stage::{LEASE, Stage};

use crate::stage::{Private, plain, schema, within};

const SECOND: Duration = Duration::from_secs(1);

#[tokio::test(flavor = "multi_thread")]
async fn where_the_clock_was_set_back_a_lease_counts_a_whole_one_from_then_at_most() {
    let stage = Stage::<Private>::new().await;
    let dies = stage.join().await;
    stage.boot.set(5 * SECOND);
    // Its lease would last for an hour; the sweeper cuts it to a whole one from now.
    assert!(stage.store.bury(Evidence::Lease).await.unwrap().is_empty());
    stage.boot.advance(LEASE / 2);
    assert_eq!(stage.nodes.renew(&stage.node), Renewal::Renewed);
    stage.boot.advance(LEASE / 2);
    assert_eq!(stage.store.bury(Evidence::Lease).await.unwrap(), [dies]);
    assert_eq!(stage.nodes.renew(&stage.node), Renewal::Renewed);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_renewal_is_taken_where_the_clock_was_set_back() {
    let stage = Stage::<Private>::new().await;
    stage.boot.set(5 * SECOND);
    assert_eq!(stage.nodes.renew(&stage.node), Renewal::Renewed);
    stage.boot.advance(LEASE);
    assert_eq!(stage.store.bury(Evidence::Lease).await.unwrap(), std::slice::from_ref(&stage.node));
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_clock_for_tests_the_database_reads_its_own() {
    let store = PgStore::open_with(&plain().url(), within(&schema())).await.unwrap();
    let lease = Duration::from_secs(2);
    let node = |id: &NodeId| NewNode { id: id.clone(), lease, models: Vec::new(), at: Timestamp::now() };
    let [first, second] = [NodeId::random(), NodeId::random()];
    let mut living = store.join(node(&first)).await.unwrap();
    let _dying = store.join(node(&second)).await.unwrap();
    assert_eq!(living.renew(), Ok(Renewal::Renewed));
    let mut buried = Vec::new();
    while buried.is_empty() {
        // What is waited for is the database's own time.
        tokio::time::sleep(Duration::from_millis(50)).await;
        match living.renew() {
            Ok(Renewal::Renewed) => buried = store.bury(Evidence::Lease).await.unwrap(),
            other => panic!("it was renewed in time: {other:?}"),
        }
    }
    assert_eq!(buried, [second]);
}
