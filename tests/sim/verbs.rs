//! The writes, as the store carries them out under the eyes of the judge.
//!
//! Decides: nothing but what a [`Broken`] store does wrong.

use soloist::{
    Create, Delete, Json, Key, NewId, NewTask, NodeId, Run, Store as _, Timestamp,
    store::{
        Applied, Change, Claim, ClaimRequest, Evidence, FirstClaim, Heartbeat, NewNode, Prune, QueuedClaim,
        Renewal, Signalled, StoreResult, Transition, Won, Writer,
    },
};

use crate::{
    broken::{self, Broken},
    draw::{Dice, number},
    ground::{Ground, now},
    oracle::Act,
};

impl Ground {
    fn breaks(&self, rule: Broken) -> bool {
        self.broken == Some(rule)
    }

    pub(crate) fn join(&self, node: usize, life: u64, new: NewNode) -> StoreResult<Box<dyn Heartbeat>> {
        self.note(node, "joins as", new.id.as_str(), String::new);
        self.oracle().joined(life, &new);
        let heartbeat = now(self.store.join(new))?;
        self.changed();
        Ok(heartbeat)
    }

    pub(crate) fn renew(
        &self,
        node: usize,
        id: &NodeId,
        heartbeat: &mut dyn Heartbeat,
    ) -> StoreResult<Renewal> {
        let renewal = heartbeat.renew()?;
        self.note(node, "renews", "", || format!("{renewal:?}"));
        self.oracle().renewed(id, renewal);
        Ok(renewal)
    }

    pub(crate) fn leave(&self, node: usize, id: &NodeId, heartbeat: &mut dyn Heartbeat) -> StoreResult<()> {
        heartbeat.leave()?;
        self.note(node, "leaves", id.as_str(), String::new);
        self.oracle().left(id);
        self.changed();
        Ok(())
    }

    pub(crate) fn bury(&self, node: usize, evidence: Evidence) -> StoreResult<Vec<NodeId>> {
        let buried = match evidence {
            Evidence::Lease if self.breaks(Broken::DeathTooEarly) => {
                let hasty =
                    self.store.clone().with_boot_clock(Hasty(self.now_ms() + self.weather.lease_ms / 3));
                now(hasty.bury(evidence))?
            }
            _ => now(self.store.bury(evidence))?,
        };
        for id in &buried {
            self.note(node, "buries", id.as_str(), String::new);
            self.oracle().buried(id);
        }
        if !buried.is_empty() {
            self.changed();
        }
        Ok(buried)
    }

    pub(crate) fn create(&self, node: usize, task: NewTask, at: Timestamp) -> StoreResult<Create> {
        let NewId::Named(key) = task.id.clone() else { unreachable!("all tasks have names here") };
        let answer = now(self.store.create(task, at))?;
        self.note(node, "creates", &key.to_string(), || short(&answer));
        let act = if matches!(answer, Create::Created(_)) { Act::Created } else { Act::Nothing };
        self.observe(&key, |oracle, task, events| oracle.committed(&key, &act, task, events));
        self.changed();
        Ok(answer)
    }

    pub(crate) fn create_claimed(
        &self,
        node: usize,
        task: NewTask,
        claim: FirstClaim,
        at: Timestamp,
    ) -> StoreResult<Create> {
        let NewId::Named(key) = task.id.clone() else { unreachable!("all tasks have names here") };
        let claimer = claim.node.clone();
        let answer = now(self.store.create_claimed(task, claim, at))?;
        self.note(node, "creates and claims", &key.to_string(), || short(&answer));
        let act = match &answer {
            Create::Created(task) if task.status == soloist::Status::Running => Act::Claimed(claimer),
            Create::Created(task) if task.status == soloist::Status::Queued => Act::Queued,
            Create::Created(_) => Act::Created,
            _ => Act::Nothing,
        };
        self.observe(&key, |oracle, task, events| {
            if let (Act::Claimed(_) | Act::Queued, Some(task)) = (&act, &task) {
                let before = oracle.before_its_claim(task);
                oracle.committed(&key, &Act::Created, Some(before), Vec::new());
            }
            oracle.committed(&key, &act, task, events);
        });
        self.changed();
        Ok(answer)
    }

    pub(crate) fn claim(&self, node: usize, mut request: ClaimRequest) -> StoreResult<Claim> {
        if self.breaks(Broken::ForgetsKeys) {
            request.idempotency = None;
        }
        let (key, claimer) = (request.key.clone(), request.node.clone());
        let mut answer = now(self.store.claim(request.clone()))?;
        if let Claim::Active(row) = &answer
            && self.breaks(Broken::CheckThenAct)
            && row.status == soloist::Status::Running
            && row.node.as_ref() != Some(&claimer)
            && Dice::new(self.seed, &[4, self.now_ms()]).per_mille(300)
            && let Some(task) = now(self.store.task(&key))?
        {
            answer = broken::believes_to_have_won(row, task);
        }
        self.note(node, "claims", &key.to_string(), || format!("{:?} {}", request.policy, short(&answer)));
        let act = match &answer {
            Claim::Won(_) => Act::Claimed(claimer),
            Claim::Queued(_) => Act::Queued,
            Claim::Rerun { first: true, .. } => Act::Wanted,
            _ => Act::Nothing,
        };
        self.observe(&key, |oracle, task, events| oracle.committed(&key, &act, task, events));
        if act != Act::Nothing {
            self.changed();
        }
        Ok(answer)
    }

    pub(crate) fn claim_queued(&self, node: usize, request: QueuedClaim) -> StoreResult<Option<(Key, Won)>> {
        let claimer = request.node.clone();
        let answer = now(self.store.claim_queued(request))?;
        if let Some((key, won)) = &answer {
            self.note(node, "takes", &key.to_string(), || format!("run {} epoch {}", won.run, won.epoch));
            self.observe(key, |oracle, task, events| {
                oracle.committed(key, &Act::Taken(claimer), task, events);
            });
            self.changed();
        }
        Ok(answer)
    }

    pub(crate) fn apply(&self, node: usize, life: u64, mut transition: Transition) -> StoreResult<Applied> {
        if self.breaks(Broken::RequeueKeepsEpoch) && matches!(transition.change, Change::Requeued { .. }) {
            transition.epoch_after = transition.writer.epoch();
        }
        if self.breaks(Broken::AnswerBeforeCommit)
            && let (Change::Append, Writer::Holder { after, events, .. }) =
                (&transition.change, &transition.writer)
            && Dice::new(self.seed, &[5, self.now_ms()]).per_mille(300)
        {
            let last_seq = after + events.len() as u64;
            let late = move |ground: &Ground| drop(ground.commit(node, life, &transition));
            self.send(5, 0, Box::new(late));
            return Ok(Applied::Committed { last_seq });
        }
        self.commit(node, life, &transition)
    }

    fn commit(&self, node: usize, life: u64, transition: &Transition) -> StoreResult<Applied> {
        let key = &transition.key;
        let mut answer = now(self.store.apply(transition.clone()))?;
        if self.breaks(Broken::OldEpochWrites)
            && let Some(accepted) = broken::under_the_present_epoch(transition, &answer)
        {
            answer = now(self.store.apply(accepted))?;
        }
        if self.breaks(Broken::EndsTwice)
            && answer == Applied::AlreadyThere
            && let Some(again) = self.ending_again(transition)
        {
            answer = now(self.store.apply(again))?;
        }
        self.note(node, "writes", &key.to_string(), || {
            let by = if matches!(transition.writer, Writer::Holder { .. }) { "holder" } else { "outsider" };
            let to = transition.change.to().map_or("more", soloist::Status::as_str);
            format!("{to} as {by} of epoch {}: {}", transition.writer.epoch(), short(&answer))
        });
        let committed = matches!(answer, Applied::Committed { .. });
        let act = if committed { Act::Applied(Box::new(transition.clone()), life) } else { Act::Nothing };
        self.observe(key, |oracle, task, events| oracle.committed(key, &act, task, events));
        if committed {
            self.changed();
        }
        Ok(answer)
    }

    /// The ending of a run that has ended, as one more event of whatever runs now.
    fn ending_again(&self, transition: &Transition) -> Option<Transition> {
        let Writer::Holder { events, .. } = &transition.writer else { return None };
        if !events.iter().any(|event| event.event_type.is_terminal()) {
            return None;
        }
        let row = now(self.store.task(&transition.key)).ok()??;
        let (node, epoch, after) = (row.node?, row.epoch, row.last_seq);
        let events = events.iter().map(|event| soloist::Event { seq: after + 1, epoch, ..event.clone() });
        let writer = Writer::Holder { node, epoch, events: events.collect(), after };
        Some(Transition { writer, change: Change::Append, epoch_after: epoch, ..transition.clone() })
    }

    pub(crate) fn delete(
        &self,
        node: usize,
        key: &Key,
        run: Option<Run>,
        at: Timestamp,
    ) -> StoreResult<Delete> {
        let answer = now(self.store.delete(key, run, at))?;
        self.note(node, "deletes", &key.to_string(), || format!("{answer:?}"));
        let act = if answer == Delete::Deleted { Act::Deleted } else { Act::Nothing };
        self.observe(key, |oracle, task, events| oracle.committed(key, &act, task, events));
        self.changed();
        Ok(answer)
    }

    pub(crate) fn prune(&self, node: usize, request: Prune, at: Timestamp) -> StoreResult<Vec<Key>> {
        let gone = now(self.store.prune(request, at))?;
        for key in &gone {
            self.note(node, "prunes", &key.to_string(), String::new);
            self.observe(key, |oracle, task, events| oracle.committed(key, &Act::Deleted, task, events));
            self.changed();
        }
        Ok(gone)
    }

    pub(crate) fn signal(
        &self,
        node: usize,
        key: &Key,
        name: &str,
        data: Json,
        at: Timestamp,
    ) -> StoreResult<Signalled> {
        let mut answer = now(self.store.signal(key, name, data.clone(), at))?;
        if self.breaks(Broken::SignalsWithGaps)
            && let Signalled::Recorded { number, .. } = &mut answer
            && Dice::new(self.seed, &[6, number_of(&data)]).per_mille(333)
        {
            *number += 1;
        }
        self.note(node, "signals", &key.to_string(), || format!("{} {answer:?}", data.as_str()));
        if let Signalled::Recorded { run, number } = answer {
            self.oracle().signalled(key, run, number, name, data.as_str());
            self.changed();
        }
        Ok(answer)
    }
}

fn number_of(data: &Json) -> u64 {
    number(data.as_str())
}

/// The first word of an answer and what decides in it.
fn short(answer: &impl std::fmt::Debug) -> String {
    let text = format!("{answer:?}");
    let end = text.find(['(', '{']).unwrap_or(text.len());
    text[..end].trim().to_owned()
}

/// A clock that runs ahead.
struct Hasty(u64);

impl soloist::BootClock for Hasty {
    fn now(&self) -> std::time::Duration {
        std::time::Duration::from_millis(self.0)
    }

    fn boot_id(&self) -> &str {
        "simulated"
    }
}
