//! What is left to do once nothing breaks any more, and what must hold when nothing is.

use soloist::{Key, Store as _};

use super::{SETTLES_WITHIN_MS, World};
use crate::{
    clients::{Viewer, Watching},
    ground::now,
};

impl World {
    pub(super) fn is_at_rest(&self) -> bool {
        if !self.ground.oracle().is_at_rest() || !self.asks.is_empty() || !self.again.is_empty() {
            return false;
        }
        let is_through = |viewer: &Viewer| {
            viewer.state == Watching::Done
                || self.is_waiting(viewer)
                || (viewer.follow && self.has_seen_all(viewer))
        };
        if !self.viewers.iter().all(|(viewer, ..)| is_through(&viewer.lock().unwrap())) {
            return false;
        }
        let waiting = now(self.ground.store.waiting()).unwrap();
        if waiting.owed || waiting.ready || waiting.next_due.is_some() {
            return false;
        }
        self.nodes.iter().all(|node| {
            let Some(life) = &node.life else { return false };
            let handle = life.handle.lock().unwrap();
            handle.as_ref().is_some_and(|handle| {
                let stats = handle.stats();
                let followed = self.viewers.iter().filter(|(_, _, of)| *of == life.number);
                let followed =
                    followed.filter(|(viewer, ..)| viewer.lock().unwrap().state == Watching::Here).count();
                stats.running == 0
                    && stats.starting == 0
                    && stats.stuck == 0
                    && stats.kept <= followed
                    && stats.viewers == followed
            })
        })
    }

    /// Somebody who watches a task that nobody starts waits for it; and who finds a place taken everywhere, for that.
    fn is_waiting(&self, viewer: &Viewer) -> bool {
        if viewer.state == Watching::Cut {
            let lives: Vec<u64> =
                self.nodes.iter().filter_map(|node| Some(node.life.as_ref()?.number)).collect();
            return lives.iter().all(|life| self.watches(*life, &viewer.key));
        }
        viewer.state == Watching::Here
            && now(self.ground.store.task(&viewer.key))
                .unwrap()
                .is_some_and(|task| task.status == soloist::Status::Pending)
    }

    /// Whether somebody watches the task there.
    pub(super) fn watches(&self, life: u64, key: &Key) -> bool {
        self.viewers.iter().filter(|(_, _, of)| *of == life).any(|(other, ..)| {
            // It may be the one that asks.
            other.try_lock().is_ok_and(|other| other.key == *key && other.state == Watching::Here)
        })
    }

    /// At rest: the log is as it was committed.
    pub(super) fn judge_rest(&mut self) {
        for key in &self.keys {
            let range = soloist::store::EventRange {
                after: 0,
                until: u64::MAX,
                max_events: 100_000,
                max_bytes: usize::MAX,
            };
            let log = now(self.ground.store.events(key, range)).unwrap();
            self.ground.oracle().hold_against(key, &log);
        }
    }

    fn has_seen_all(&self, viewer: &Viewer) -> bool {
        let last_seq = now(self.ground.store.task(&viewer.key)).unwrap().map_or(0, |task| task.last_seq);
        viewer.state == Watching::Here && viewer.seen.is_some_and(|seen| seen >= last_seq)
    }

    /// What has not come true.
    pub(super) fn complain(&mut self) {
        let mut open = self.ground.oracle().active();
        open.extend(self.asks.iter().map(|(ask, node, ..)| format!("no answer from node {node}: {ask:?}")));
        open.extend(self.again.iter().map(|ask| format!("not asked again: {ask:?}")));
        for (viewer, node, _) in &self.viewers {
            let viewer = viewer.lock().unwrap();
            let is_through = viewer.follow && self.has_seen_all(&viewer);
            if !is_through && viewer.state != Watching::Done && !self.is_waiting(&viewer) {
                open.push(format!("node {node}: {viewer:?}"));
            }
        }
        for (n, node) in self.nodes.iter().enumerate() {
            let handle = node.life.as_ref().and_then(|life| life.handle.lock().unwrap().clone());
            open.push(format!("node {n}: {:?}", handle.map(|handle| handle.stats())));
        }
        open.push(format!("{:?}", now(self.ground.store.waiting()).unwrap()));
        let found =
            format!("liveness: after {SETTLES_WITHIN_MS} ms of calm there is still: {}", open.join("; "));
        self.ground.oracle().found.push(found);
    }
}
