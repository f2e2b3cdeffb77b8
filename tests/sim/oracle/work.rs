//! Where work is done, and beside what.

use soloist::{Key, NodeId};

use super::{LATE_MS, Oracle, TRUSTED_PERCENT, Work};

impl Oracle {
    pub(crate) fn work_begins(&mut self, key: &Key, epoch: u64, life: u64) -> usize {
        self.judged.works += 1;
        let beside: Vec<u64> = self
            .works
            .values()
            .filter(|work| work.key == *key && self.is_awake(work.life))
            .map(|work| work.epoch)
            .collect();
        if !beside.is_empty() {
            self.break_of("S1", key, format!("work of epoch {epoch} begins beside that of {beside:?}"));
        }
        let its = |work: &&Work| work.life == life && work.key.model_key() == key.model_key();
        let (at_work, model) = (self.works.values().filter(its).count(), key.model_key().to_string());
        if self.slots.get(&model).is_some_and(|most| at_work >= *most) {
            self.break_of("slots", key, format!("{} works of {model} at a time on one node", at_work + 1));
        }
        let shadow = self.keys.entry(key.clone()).or_default();
        shadow.worked = shadow.worked.max(epoch);
        let row = shadow.row.as_ref().filter(|row| row.epoch == epoch);
        let node = row.and_then(|row| row.node.clone());
        let number = usize::try_from(self.judged.works).unwrap();
        self.works.insert(number, Work { key: key.clone(), epoch, life, node });
        number
    }

    /// Whether a process goes on, and has had the time to look at the clock.
    fn is_awake(&self, life: u64) -> bool {
        let of = self.lives.get(&life).copied().unwrap_or_default();
        !of.gone && !of.paused && self.now_ms >= of.resumed_ms + LATE_MS
    }

    /// Whoever has work under way has its lease: others may begin the same work when that is over.
    pub(crate) fn judge_leases(&mut self) {
        let is_over =
            |node: &NodeId| self.nodes.get(node).is_none_or(|node| node.lease_until_ms <= self.now_ms);
        let over: Vec<_> = self
            .works
            .values()
            .filter(|work| work.node.as_ref().is_some_and(is_over) && self.is_awake(work.life))
            .map(|work| (work.key.clone(), work.epoch))
            .collect();
        for (key, epoch) in over {
            self.break_of(
                "lease",
                &key,
                format!("work of epoch {epoch} goes on, and the lease of its node is over"),
            );
        }
    }

    /// Work does something; it `is_asked` to stop, or not.
    pub(crate) fn work_acts(&mut self, key: &Key, epoch: u64, life: u64, is_asked: bool) {
        let worked = self.keys.get(key).map_or(0, |shadow| shadow.worked);
        if worked > epoch && self.is_awake(life) {
            self.break_of("S1", key, format!("work of epoch {epoch} acts after that of {worked} has begun"));
        }
        if is_asked || !self.is_awake(life) {
            return;
        }
        let row = self.keys.get(key).and_then(|shadow| shadow.row.as_ref()).filter(|row| row.epoch == epoch);
        let Some(node) = row.and_then(|row| self.nodes.get(row.node.as_ref()?)) else { return };
        let since = self.now_ms.saturating_sub(node.sent_ms);
        if since > node.lease_ms * TRUSTED_PERCENT / 100 + LATE_MS {
            let what =
                format!("work is not asked to stop {since} ms after its node's last good heartbeat was sent");
            self.break_of("lease", key, what);
        }
    }

    pub(crate) fn work_ends(&mut self, work: usize) {
        self.works.remove(&work);
    }
}
