//! A node and its runs on any store, by the clocks of this host: for tests and benchmarks that need no stage, because
//! they have real processes.
//!
//! Decides: nothing.

use soloist::{
    Json, Key, NewTask, NodeId, Policy, Store, Timestamp,
    lease::RunLease,
    limits,
    state::Place,
    store::{Claim, ClaimRequest, Heartbeat, NewNode},
};

/// A fresh node that serves nothing, and what keeps it alive.
///
/// # Panics
/// Where the store does not take it.
pub async fn join(store: &dyn Store) -> (NodeId, Box<dyn Heartbeat>) {
    let id = NodeId::random();
    let new = NewNode { id: id.clone(), lease: limits::LEASE, models: Vec::new(), at: Timestamp::now() };
    (id, store.join(new).await.expect("the store works"))
}

/// A run of a new task, under a key of its own, that a node has won.
///
/// # Panics
/// Where it is not won.
pub async fn won(store: &dyn Store, node: &NodeId) -> RunLease {
    let key: Key = format!("app/Model/{}", NodeId::random()).parse().expect("a valid key");
    store.create(NewTask::named(key.clone(), Json::null()), Timestamp::now()).await.expect("created");
    let request = ClaimRequest {
        key: key.clone(),
        node: node.clone(),
        policy: Policy::Restart,
        place: Place::Here,
        after: None,
        max_total: None,
        idempotency: None,
        trace: None,
        at: Timestamp::now(),
    };
    match store.claim(request).await.expect("the store works") {
        Claim::Won(won) => RunLease::from_claim(key, node.clone(), &won),
        lost => panic!("nobody else claims {key}: {lost:?}"),
    }
}
