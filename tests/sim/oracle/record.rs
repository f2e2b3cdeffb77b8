//! What is on record: every commit against what was there before it.

use soloist::{
    Event, Key, Run, Seq, Status, Task,
    store::{Change, Rerun, Transition, Writer},
};

use super::{Act, Oracle, Row};

impl Oracle {
    /// Holds a commit against what was on record before it.
    pub(crate) fn committed(&mut self, key: &Key, act: &Act, task: Option<Task>, events: Vec<Event>) {
        let tick = self.tick();
        self.judged.commits += 1;
        self.judged.events += events.len() as u64;
        let mut wrong: Vec<(&str, String)> = Vec::new();
        let shadow = self.keys.entry(key.clone()).or_default();
        let (before, after) = (shadow.row.clone(), task.as_ref().map(Row::from));
        let mut fault = |promise, what: String| wrong.push((promise, what));
        let (next_run, mut is_taken_back) = (shadow.next_run(), false);
        match (act, &before, &after) {
            (Act::Nothing, before, after) => {
                if before != after || !events.is_empty() {
                    fault("S6", format!("a write that was refused has changed {before:?} to {after:?}"));
                }
            }
            (Act::Created, None, Some(row)) => {
                let (run, seq) = (shadow.runs.keys().last().copied().unwrap_or(0), shadow.log.len() as Seq);
                if row.status != Status::Pending || row.run != run || row.last_seq != seq {
                    fault("S3", format!("created as {row:?}, after run {run} and seq {seq}"));
                }
                shadow.created.push(seq);
            }
            (Act::Deleted, Some(row), None) => {
                if row.status.is_active() {
                    fault("S7", format!("deleted while it is {}", row.status));
                }
                shadow.deleted.push(tick);
                is_taken_back = true;
                let run = row.run;
                shadow.runs.retain(|of, _| *of <= run);
            }
            (Act::Claimed(_) | Act::Queued, Some(old), Some(new)) => {
                judge_claim(act, old, new, next_run, &mut fault);
                shadow.is_owed = false;
            }
            (Act::Taken(node), Some(old), Some(new)) => {
                let is_right = old.status == Status::Queued
                    && new.status == Status::Running
                    && new.node.as_ref() == Some(node)
                    && new.epoch == old.epoch + 1
                    && new.run == old.run;
                if !is_right {
                    fault("S1, S2", format!("taken from the queue: {old:?} became {new:?}"));
                }
            }
            (Act::Wanted, Some(old), Some(new)) => {
                if old != new || !events.is_empty() {
                    fault("S1", format!("one more run is wanted, and {old:?} became {new:?}"));
                }
                shadow.promised.insert(next_run);
                shadow.is_owed = true;
            }
            (Act::Applied(transition, life), Some(old), Some(new)) => {
                judge_move(transition, old, new, &events, &mut fault);
                if matches!(
                    transition.change,
                    Change::Cancelling { rerun: Rerun::Forget, .. }
                        | Change::Cancelled { rerun: Rerun::Forget, .. }
                ) {
                    is_taken_back = true;
                }
                let is_taken = matches!(transition.writer, Writer::Outsider { .. })
                    && old.status.is_held()
                    && !new.status.is_held();
                if is_taken {
                    let holder = old.node.as_ref().and_then(|node| self.nodes.get(node));
                    if holder.is_none_or(|holder| !holder.dead && holder.life != *life) {
                        fault("S1", format!("taken from {:?}, which lives", old.node));
                    }
                    self.judged.takeovers += 1;
                }
            }
            (act, before, after) => fault("S1", format!("{act:?} made {after:?} of {before:?}")),
        }
        // Who begins a run holds it, and is alive by the store's word.
        if let Act::Claimed(node) | Act::Taken(node) = act
            && self.nodes.get(node).is_none_or(|node| node.dead)
        {
            fault("S1", format!("{node} is dead, and has claimed it"));
        }
        if let Some(row) = &after {
            if row.status.is_held() != row.node.is_some() {
                fault("S1", format!("it is {} and its node is {:?}", row.status, row.node));
            }
            if before.as_ref().is_some_and(|before| row.run > before.run) {
                shadow.runs.entry(row.run).or_default().begun = tick;
                shadow.runs.entry(row.run).or_default().start_seq = shadow.log.len() as Seq;
                self.judged.runs += 1;
            }
        }
        for event in events {
            let seq = shadow.log.len() as Seq + 1;
            if event.seq != seq {
                fault("S3", format!("event {} follows {}", event.seq, seq - 1));
            }
            // What is cancelled before it has begun ends no run; its number is that of the one before.
            if before.as_ref().is_none_or(|before| before.status != Status::Pending) {
                let run = shadow.runs.entry(event.run).or_default();
                if run.ended.is_some() {
                    fault("S4, S7", format!("event {seq} of run {} comes after its end", event.run));
                }
                if event.event_type.is_terminal() {
                    run.ended = Some(tick);
                }
            }
            if event.event_type.is_terminal()
                && !after.as_ref().is_some_and(|row| row.status.is_finished() && row.run == event.run)
            {
                fault("S7", format!("the end of run {} is in the log, and it is {after:?}", event.run));
            }
            if shadow.log.last().is_some_and(|last| last.epoch > event.epoch) {
                fault("S6", format!("event {seq} is of epoch {}, older than the one before", event.epoch));
            }
            shadow.log.push(event);
        }
        if let Some(row) = &after {
            if row.last_seq != shadow.log.len() as Seq {
                fault(
                    "S3",
                    format!("the row says {} and the log ends at {}", row.last_seq, shadow.log.len()),
                );
            }
            let ended = shadow.runs.get(&row.run).is_some_and(|run| run.ended.is_some());
            if row.run > 0 && row.status != Status::Pending && row.status.is_finished() != ended {
                fault(
                    "S7",
                    format!("it is {}, and the end of run {} is logged: {ended}", row.status, row.run),
                );
            }
            if row.status.is_finished() {
                // What nobody has read goes with the task.
                shadow.runs.retain(|of, _| *of <= row.run);
            }
            if shadow.statuses.last().is_none_or(|(_, status, run)| (*status, *run) != (row.status, row.run))
            {
                shadow.statuses.push((tick, row.status, row.run));
            }
        }
        if is_taken_back && std::mem::take(&mut shadow.is_owed) {
            self.judged.promises_taken_back += 1;
        }
        shadow.row.clone_from(&after);
        let is_held = |row: &Option<Row>| row.as_ref().is_some_and(|row| row.status.is_held());
        if is_held(&before) != is_held(&after) {
            let model = key.model_key().to_string();
            let held = self.held.entry(model.clone()).or_default();
            if is_held(&after) {
                *held += 1
            } else {
                *held -= 1
            }
            if self.totals.get(&model).is_some_and(|most| *held > *most) {
                wrong.push(("slots", format!("{held} runs of {model} are held")));
            }
        }
        for (promise, what) in wrong {
            self.break_of(promise, key, what);
        }
    }

    pub(crate) fn signalled(&mut self, key: &Key, run: Run, number: u64, name: &str, data: &str) {
        self.judged.signals += 1;
        let signals = &mut self.keys.entry(key.clone()).or_default().runs.entry(run).or_default().signals;
        signals.push((name.to_owned(), data.to_owned()));
        let expected = signals.len() as u64;
        if number != expected {
            self.break_of("signals", key, format!("signal {number} of run {run} comes as the {expected}th"));
        }
    }

    /// What an attempt was handed by now: the signals of its run from the first, in order.
    pub(crate) fn read_signals(&mut self, key: &Key, run: Run, read: &[(String, String)]) {
        let empty = Vec::new();
        let sent =
            self.keys.get(key).and_then(|shadow| shadow.runs.get(&run)).map_or(&empty, |run| &run.signals);
        if !sent.starts_with(read) {
            let what = format!("an attempt of run {run} was handed {read:?}, and sent were {sent:?}");
            self.break_of("signals", key, what);
        }
    }

    /// The whole log of every task as it is on record, against what was committed.
    pub(crate) fn hold_against(&mut self, key: &Key, log: &[Event]) {
        let shadow = self.keys.entry(key.clone()).or_default();
        let first = log.first().map_or(0, |event| event.seq - 1);
        let kept = usize::try_from(first).map_or(&[][..], |first| &shadow.log[first.min(shadow.log.len())..]);
        if !log.is_empty() && kept != log {
            self.break_of("S3", key, "the log has changed since it was committed");
        }
    }
}

fn judge_claim(act: &Act, old: &Row, new: &Row, next_run: Run, fault: &mut impl FnMut(&'static str, String)) {
    let is_right = !old.status.is_active()
        && new.run == next_run
        && match act {
            Act::Claimed(node) => {
                new.status == Status::Running && new.node.as_ref() == Some(node) && new.epoch == old.epoch + 1
            }
            _ => new.status == Status::Queued && new.node.is_none() && new.epoch == old.epoch,
        };
    if !is_right {
        fault("S1, S2", format!("a claim that won made {new:?} of {old:?}, and the next run is {next_run}"));
    }
}

/// A move of a run: who may make it, and what becomes of its epoch.
fn judge_move(
    transition: &Transition,
    old: &Row,
    new: &Row,
    events: &[Event],
    fault: &mut impl FnMut(&'static str, String),
) {
    let risen = new.epoch == old.epoch + 1;
    if new.run != old.run || (new.epoch != old.epoch && !risen) {
        fault("S2", format!("a move made {new:?} of {old:?}"));
    }
    if new.status.is_held() && (risen || new.node != old.node || !old.status.is_held()) {
        fault("S1", format!("a move gave it a holder: {new:?} of {old:?}"));
    }
    match &transition.writer {
        Writer::Holder { node, epoch, .. } => {
            if !old.status.is_held() || old.epoch != epoch.0 || old.node.as_ref() != Some(node) {
                fault("S6", format!("{node} wrote under epoch {epoch}, and it was {old:?}"));
            }
            if events.iter().any(|event| event.epoch != *epoch) {
                fault("S6", format!("events of other epochs than {epoch}"));
            }
            // Lost other than by its own act, it can never be written to under that epoch again.
            let given_up = ["StoreLost", "Drained"];
            let is_given_up =
                events.iter().any(|event| given_up.iter().any(|why| event.data.as_str().contains(why)));
            if is_given_up && !risen {
                fault("S2", format!("given up, and its epoch is still {}", new.epoch));
            }
        }
        Writer::Outsider { .. } => {
            if events.len() > 1 {
                fault("S3", format!("{} events by somebody who does not hold it", events.len()));
            }
            if old.status.is_held() && new.status.is_held() && !events.is_empty() {
                fault("S6", "an event by somebody who does not hold it".to_owned());
            }
            if old.status.is_held() && !new.status.is_held() && !risen {
                fault("S2", format!("taken from its holder, and its epoch is still {}", new.epoch));
            }
            if !old.status.is_held() && risen {
                fault("S2", format!("nobody held it, and its epoch rose: {old:?} to {new:?}"));
            }
        }
    }
    if matches!(transition.change, Change::Append) && new.status != old.status {
        fault("S6", format!("an append made {new:?} of {old:?}"));
    }
}
