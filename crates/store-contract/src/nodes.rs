//! What keeps the nodes of a stage alive.
//!
//! Decides: whose heartbeats the suite holds. Dropping them all is the death of their process.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard},
};

use soloist::{
    NodeId,
    store::{Heartbeat, Renewal},
};

type Heartbeats = HashMap<NodeId, Box<dyn Heartbeat>>;

/// The heartbeats of living nodes.
#[derive(Default)]
pub struct Nodes(Mutex<Heartbeats>);

impl Nodes {
    /// Holds a node's heartbeat.
    pub fn keep(&self, node: &NodeId, heartbeat: Box<dyn Heartbeat>) {
        self.lock().insert(node.clone(), heartbeat);
    }

    /// Gives a node's heartbeat away; dropping it is its death.
    ///
    /// # Panics
    /// Where it is not held here.
    pub fn take(&self, node: &NodeId) -> Box<dyn Heartbeat> {
        self.lock().remove(node).expect("its heartbeat is held here")
    }

    /// Renews the lease of a node.
    ///
    /// # Panics
    /// Where its heartbeat is not held here, or the store does not work.
    pub fn renew(&self, node: &NodeId) -> Renewal {
        let mut heartbeats = self.lock();
        let heartbeat = heartbeats.get_mut(node).expect("its heartbeat is held here");
        heartbeat.renew().expect("the store works")
    }

    /// Renews all leases but one; those of dead nodes stay over.
    ///
    /// # Panics
    /// Where the store does not work.
    pub fn renew_all_but(&self, node: &NodeId) {
        for (_, heartbeat) in self.lock().iter_mut().filter(|(id, _)| *id != node) {
            heartbeat.renew().expect("the store works");
        }
    }

    fn lock(&self) -> MutexGuard<'_, Heartbeats> {
        self.0.lock().expect("no promise goes on after a panic")
    }
}
