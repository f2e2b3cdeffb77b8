//! The guards, held against the store: every row, every question, the same answer as the pure functions give.
//!
//! Decides: which combinations there are. Rows come about through the store's own verbs.

use std::collections::BTreeMap;

use futures_util::{StreamExt, stream};
use soloist::{
    Ending, Epoch, Event, Failure, Key, Losses, NextRun, NodeId, Policy, Seq, Status,
    event::terminal,
    state::Place,
    store::{Applied, Change, Claim, ClaimRequest, Current, Rerun, Transition, Writer, guard},
};

use crate::{
    Harness,
    stage::{Stage, change, completed, finish, json, key, outsider, sent},
};

/// Brings a new task into a status: but for a pending one, a run of three events and a second of two or three, so that
/// there are older epochs and events of theirs in the log.
async fn row<H: Harness>(stage: &Stage<H>, id: &str, status: Status) -> Key {
    let key = stage.pending(id).await;
    if status == Status::Pending {
        return key;
    }
    let first = stage.won(&key).await;
    stage.append(&first, 0, 2).await;
    stage.finish(&first, 2, completed("1")).await;
    let lease = stage.won(&key).await;
    stage.append(&lease, 3, 2).await;
    match status {
        Status::Pending => unreachable!("it was never started"),
        Status::Queued => drop(stage.apply(stage.requeued(&lease)).await),
        Status::Running => {}
        Status::Cancelling => drop(stage.cancel(&lease, "stop").await),
        Status::Completed => drop(stage.finish(&lease, 5, completed("2")).await),
        Status::Failed => {
            let failure = Failure::new("Boom", "it broke");
            stage.finish(&lease, 5, Ending::Failed { failure }).await;
        }
        Status::Cancelled => {
            stage.cancel(&lease, "stop").await;
            let ending = Ending::Cancelled { reason: "stop".into() };
            stage.apply(finish(&lease, 5, Status::Cancelling, ending, stage.now())).await;
        }
    }
    assert_eq!(stage.task(&key).await.status, status);
    key
}

/// Every (row or none, policy, place, claimer alive, never joined or dead).
pub async fn every_claim_is_answered_as_the_guard_says<H: Harness>() {
    let stage = Stage::<H>::new().await;
    let mut questions = Vec::new();
    for policy in Policy::ALL {
        for place in [Place::Here, Place::Queue] {
            questions.push((key("none"), policy, place));
            for status in Status::ALL {
                let id = format!("{status}-{policy:?}-{place:?}");
                questions.push((row(&stage, &id, status).await, policy, place));
            }
        }
    }
    let dead = stage.node.clone();
    stage.bury(&dead).await;
    let living = stage.join().await;
    // The living one last: its claims may win.
    for (claimer, alive) in [(NodeId::random(), false), (dead, false), (living, true)] {
        for (key, policy, place) in &questions {
            let case = format!("{key} {policy:?} {place:?} alive: {alive}");
            let seen = stage.store.task(key).await.expect("the store works").as_ref().map(Current::from);
            let expected = guard::lost_claim(seen.clone(), *policy, None, alive);
            let (node, policy, place) = (claimer.clone(), *policy, *place);
            let answer = stage.ask(ClaimRequest { node, policy, place, ..stage.request(key) }).await;
            let after = stage.store.task(key).await.expect("the store works").as_ref().map(Current::from);
            compare_claim(&seen, expected, (policy, place), answer, &after, &case);
        }
    }
}

/// Holds an answer, and what became of the row, to what the guard says of the row before; `None` where it says that the
/// claim must be tried.
pub(crate) fn compare_claim(
    seen: &Option<Current>,
    expected: Option<Claim>,
    (policy, place): (Policy, Place),
    answer: Claim,
    after: &Option<Current>,
    case: &str,
) {
    let Some(expected) = expected else {
        let row = seen.as_ref().expect("a row that was won");
        return match (place, answer) {
            (_, Claim::Rerun { current, first: true }) => {
                assert!(row.status.is_active() && policy.asks_for_more(), "{case}");
                assert_eq!(current, Current { next_run: NextRun::wanted(policy), ..row.clone() }, "{case}");
                assert_eq!(Some(current), *after, "{case}");
            }
            (Place::Here, Claim::Won(won)) => {
                let begun = (row.following_run(), row.epoch.next(), 1);
                assert_eq!((won.run, won.epoch, won.attempt), begun, "{case}");
                assert_eq!(won.last_seq, row.last_seq, "{case}");
            }
            (Place::Queue, Claim::Queued(queued)) => {
                let begun = (row.following_run(), row.epoch, 1);
                assert_eq!(
                    (queued.run, queued.epoch, queued.attempt, queued.taken_back),
                    (begun.0, begun.1, begun.2, 0),
                    "{case}"
                );
                assert_eq!((queued.status, queued.last_seq), (Status::Queued, row.last_seq), "{case}");
                assert_eq!(Some(queued), *after, "{case}");
            }
            (place, answer) => panic!("{case}: {answer:?} where it wins {place:?}"),
        };
    };
    assert_eq!(seen, after, "{case}");
    match (expected, answer) {
        (Claim::Active(expected), Claim::Active(row)) => assert_eq!(row, expected, "{case}"),
        (Claim::Rerun { current: expected, .. }, Claim::Rerun { current: row, first: false }) => {
            assert_eq!(row, expected, "{case}");
        }
        (Claim::Finished(expected), Claim::Finished(row)) => assert_eq!(row, expected, "{case}"),
        (Claim::Missing, Claim::Missing) | (Claim::NodeDead, Claim::NodeDead) => {}
        (expected, answer) => panic!("{case}: {answer:?} where the guard says {expected:?}"),
    }
}

/// Every (row or none, writer, epoch, place in the log, events, change, status believed in).
pub async fn every_transition_is_answered_as_the_guard_says<H: Harness>() {
    transitions::<H>(false).await;
}

/// The same where the holder's node is dead: until its runs were ended for it, its epoch is the newest.
pub async fn every_transition_of_a_dead_nodes_run_is_answered_as_the_guard_says<H: Harness>() {
    transitions::<H>(true).await;
}

async fn transitions<H: Harness>(bury: bool) {
    let stage = Stage::<H>::new().await;
    let (mut refused, mut admitted) = (Vec::new(), Vec::new());
    for status in Status::ALL {
        let probes = stream::iter(0..PROBES).map(|n| {
            let (stage, id) = (&stage, format!("{status}-probe-{n}"));
            async move { row(stage, &id, status).await }
        });
        let probes: Vec<Key> = probes.buffered(PROBES).collect().await;
        let seen = Current::from(&stage.task(&probes[0]).await);
        let (yes, no): (Vec<_>, Vec<_>) = questions(&stage, &seen)
            .into_iter()
            .partition(|t| guard::well_formed(t).is_ok() && guard::admits(&seen, t));
        assert!(!yes.is_empty() && !no.is_empty());
        refused.extend(no.into_iter().enumerate().map(|(n, t)| (probes[n % PROBES].clone(), t)));
        // Each that is to be committed needs a row of its own.
        let rows = stream::iter(yes.into_iter().enumerate()).map(|(n, t)| {
            let (stage, id) = (&stage, format!("{status}-{n}"));
            async move { (row(stage, &id, status).await, t) }
        });
        admitted.extend(rows.buffer_unordered(64).collect::<Vec<_>>().await);
    }
    let missing = Current::from(&stage.task(&key("running-probe-0")).await);
    refused.extend(questions(&stage, &missing).into_iter().map(|t| (key("none"), t)));
    if bury {
        stage.bury(&stage.node).await;
    }
    assert!(refused.len() > 100 && admitted.len() > 100, "{} and {} cases", refused.len(), admitted.len());
    ask_refused(&stage, refused).await;
    let asked = stream::iter(admitted).map(|(key, t)| ask(&stage, Transition { key, ..t }));
    asked.buffer_unordered(64).collect::<()>().await;
}

/// How many rows of each status are asked what is to be refused.
const PROBES: usize = 16;

/// Asks what is to be refused of rows that stay as they are; what became of them is looked at once, at the end.
async fn ask_refused<H: Harness>(stage: &Stage<H>, cases: Vec<(Key, Transition)>) {
    let mut before = BTreeMap::new();
    for (key, _) in &cases {
        if !before.contains_key(key) {
            before.insert(key.clone(), look(stage, key).await);
        }
    }
    // The rows take turns.
    let mut by_row = BTreeMap::<&Key, Vec<&Transition>>::new();
    cases.iter().for_each(|(key, t)| by_row.entry(key).or_default().push(t));
    let most = by_row.values().map(Vec::len).max().unwrap_or_default();
    let in_turns =
        (0..most).flat_map(|n| by_row.iter().filter_map(move |(key, all)| Some((*key, *all.get(n)?))));
    let before = &before;
    let asked = stream::iter(in_turns).map(|(key, t)| async move {
        let t = Transition { key: key.clone(), ..t.clone() };
        let answer = stage.store.apply(t.clone()).await;
        let (row, log) = &before[key];
        let epoch_at = |seq: Seq| log.iter().find(|event| event.seq == seq).map(|event| event.epoch);
        let expected = match guard::well_formed(&t) {
            Ok(()) => Ok(guard::refused(row.clone(), &t, epoch_at)),
            Err(refusal) => Err(refusal),
        };
        assert_eq!(answer, expected, "{t:?} on {row:?}");
    });
    asked.buffer_unordered(512).collect::<()>().await;
    for (key, as_it_was) in before {
        assert_eq!(&look(stage, key).await, as_it_was, "what was refused left {key} as it was");
    }
}

async fn look<H: Harness>(stage: &Stage<H>, key: &Key) -> (Option<Current>, Vec<Event>) {
    let task = stage.store.task(key).await.expect("the store works");
    (task.as_ref().map(Current::from), stage.log(key).await)
}

/// Asks one question of a row that is to be committed, and looks at what became of the row.
async fn ask<H: Harness>(stage: &Stage<H>, t: Transition) {
    let (before, log) = look(stage, &t.key).await;
    let answer = stage.store.apply(t.clone()).await;
    let (after, log_after) = look(stage, &t.key).await;
    let case = format!("{t:?} on {before:?}");
    let row = before.filter(|row| guard::admits(row, &t)).expect("it is to be committed");
    let events = appended(&t, &row);
    let last_seq = row.last_seq + events.len() as u64;
    assert_eq!(answer, Ok(Applied::Committed { last_seq }), "{case}");
    assert_eq!(after, Some(set(&t, row, last_seq)), "{case}");
    assert_eq!(log_after, [log, events].concat(), "{case}");
}

/// The events that a committed transition leaves in the log.
fn appended(t: &Transition, row: &Current) -> Vec<Event> {
    match &t.writer {
        Writer::Holder { events, .. } => events.clone(),
        Writer::Outsider { event, .. } => {
            event.iter().map(|event| event.clone().at(row.last_seq + 1, row.run, t.epoch_after)).collect()
        }
    }
}

/// The row that a committed transition leaves.
fn set(t: &Transition, row: Current, last_seq: Seq) -> Current {
    let status = t.change.to().unwrap_or(row.status);
    let cancellation_reason = match &t.change {
        Change::Append | Change::Requeued { .. } => row.cancellation_reason,
        Change::Cancelling { reason, .. } | Change::Cancelled { reason, .. } => Some(reason.clone()),
        Change::Completed { .. } | Change::Failed { .. } => None,
    };
    let (attempt, retry_count, losses) = match t.change {
        Change::Requeued { attempt, retry_count, losses, .. } => (attempt, retry_count, losses),
        _ => (row.attempt, row.retry_count, row.losses),
    };
    let node = row.node.filter(|_| status.is_held());
    let epoch = t.epoch_after;
    Current { status, attempt, epoch, last_seq, node, cancellation_reason, retry_count, losses, ..row }
}

/// All that anybody might ask of a row like this one.
fn questions<H: Harness>(stage: &Stage<H>, row: &Current) -> Vec<Transition> {
    let changes = [
        Change::Append,
        Change::Cancelling { reason: "asked".into(), rerun: Rerun::Forget },
        Change::Requeued {
            attempt: row.attempt + 1,
            retry_count: row.retry_count + 1,
            losses: Losses { node: row.losses.node + 1, store: row.losses.store + 2 },
            due_at: None,
        },
        change(completed("3")),
        Change::Failed { failure: Failure::new("Other", "broken").with_traceback("there") },
        Change::Cancelled { reason: "dropped".into(), rerun: Rerun::Keep },
    ];
    let epochs = [row.epoch.0.checked_sub(1), Some(row.epoch.0), Some(row.epoch.0 + 1)];
    let mut all = Vec::new();
    for epoch in epochs.into_iter().flatten().map(Epoch) {
        for from in Status::ALL {
            for change in &changes {
                for writer in writers(stage, row, epoch) {
                    let kept =
                        outsider(&key("any"), (epoch, row.run), from, change.clone(), None, stage.now());
                    let risen =
                        Transition { epoch_after: epoch.next(), writer: writer.clone(), ..kept.clone() };
                    all.push(Transition { writer, ..kept });
                    // Whoever does not hold it may raise the epoch.
                    if matches!(risen.writer, Writer::Outsider { .. }) {
                        all.push(risen);
                    }
                }
            }
        }
    }
    all
}

/// Its own node and another one, at, behind and ahead of the end of the log, with 0 to 2 events; and somebody else,
/// with an event and without.
fn writers<H: Harness>(stage: &Stage<H>, row: &Current, epoch: Epoch) -> Vec<Writer> {
    let event = sent("note", soloist::Data::Json(json("1")), stage.now());
    let ends = terminal(&Ending::Cancelled { reason: "dropped".into() }, None, stage.now());
    let run = row.run;
    let mut all = vec![
        Writer::Outsider { epoch, run, event: None },
        Writer::Outsider { epoch, run, event: Some(ends) },
        Writer::Outsider { epoch, run: run + 1, event: None },
    ];
    let places = [
        row.last_seq.checked_sub(2),
        row.last_seq.checked_sub(1),
        Some(row.last_seq),
        Some(row.last_seq + 1),
    ];
    for node in [stage.node.clone(), NodeId::random()] {
        for after in places.into_iter().flatten() {
            for count in 0..=2 {
                let events =
                    (after + 1..=after + count).map(|seq| event.clone().at(seq, row.run, epoch)).collect();
                all.push(Writer::Holder { node: node.clone(), epoch, events, after });
            }
        }
    }
    all
}
