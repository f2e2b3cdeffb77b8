//! What callers are told, and what viewers are shown.

use soloist::{Event, Key, Seq, Start};

use super::Oracle;

impl Oracle {
    pub(crate) fn answered(
        &mut self,
        key: &Key,
        idem: Option<&str>,
        replaces: bool,
        asked: u64,
        answer: &Start,
        by: u64,
    ) {
        let now = self.tick();
        self.judged.answers += 1;
        let mut wrong = Vec::new();
        let shadow = self.keys.entry(key.clone()).or_default();
        match answer {
            Start::Started { run } => {
                match shadow.runs.get(run) {
                    Some(of) if (of.begun >= asked || replaces) && (1..=now).contains(&of.begun) => {}
                    of => wrong.push(format!("told that it has started run {run}, asked at {asked}: {of:?}")),
                }
                if let Some(other) = shadow.started.insert(*run, by)
                    && other != by
                {
                    wrong.push(format!("run {run} was told to two starts, {other} and {by}"));
                }
            }
            Start::AlreadyActive { run, .. } => {
                let of = shadow.runs.get(run);
                if of.is_none_or(|of| of.begun > now || of.ended.is_some_and(|ended| ended < asked)) {
                    wrong.push(format!("told that run {run} is active, asked at {asked}: {of:?}"));
                }
            }
            Start::Next { run, active, .. } => {
                let has_begun = shadow.runs.get(active).is_some_and(|of| (1..=now).contains(&of.begun));
                if !has_begun || run <= active || !shadow.promised.contains(run) {
                    wrong.push(format!("told that run {run} comes after {active}"));
                }
            }
            Start::AlreadyFinished { run, status } => {
                let was = shadow.statuses.iter().enumerate().any(|(n, (since, of, its))| {
                    let until = shadow.statuses.get(n + 1).map_or(u64::MAX, |(next, ..)| *next);
                    (of, its) == (status, run) && *since <= now && until >= asked
                });
                if !was {
                    wrong.push(format!("told that run {run} is {status}, asked at {asked}"));
                }
            }
            Start::Replayed { .. } => {}
        }
        let told = match answer {
            Start::Started { run } => (true, *run),
            Start::Replayed { started, run, .. } => (*started, *run),
            Start::AlreadyActive { run, .. }
            | Start::Next { run, .. }
            | Start::AlreadyFinished { run, .. } => (false, *run),
        };
        if let Some(idem) = idem
            && !replaces
        {
            let first = self.keyed.entry((key.clone(), idem.to_owned())).or_insert(told);
            if *first != told {
                wrong.push(format!("one idempotency key was told {told:?} after {first:?}"));
            }
        }
        for what in wrong {
            self.break_of("starts", key, what);
        }
    }

    /// Whether a run, or the record itself, begins right after this event.
    pub(crate) fn is_run_start(&self, key: &Key, seq: Seq) -> bool {
        let Some(shadow) = self.keys.get(key) else { return false };
        shadow.created.contains(&seq) || shadow.runs.values().any(|run| run.start_seq == seq)
    }

    /// A viewer is shown an event after its cursor.
    pub(crate) fn shown(&mut self, key: &Key, viewer: u64, cursor: Seq, event: &Event) {
        self.judged.shown += 1;
        let log = self.keys.get(key).map_or(&[][..], |shadow| &shadow.log);
        let on_record = usize::try_from(event.seq).ok().and_then(|seq| log.get(seq.checked_sub(1)?));
        let what = if event.seq != cursor + 1 {
            format!("viewer {viewer} is shown {} after {cursor}", event.seq)
        } else if on_record != Some(event) {
            format!("viewer {viewer} is shown {event:?}, and on record is {on_record:?}")
        } else {
            return;
        };
        self.break_of("S5", key, what);
    }

    pub(crate) fn was_deleted(&self, key: &Key) -> bool {
        self.keys.get(key).is_some_and(|shadow| !shadow.deleted.is_empty())
    }

    pub(crate) fn is_terminal(&self, key: &Key, seq: Seq) -> bool {
        let log = self.keys.get(key).map_or(&[][..], |shadow| &shadow.log);
        usize::try_from(seq)
            .ok()
            .and_then(|seq| log.get(seq.checked_sub(1)?))
            .is_some_and(|e| e.event_type.is_terminal())
    }
}
