//! The guard of the claim with all that a claim may bring, held against the store.
//!
//! Decides: which combinations there are: (status, one more run owed, one that was owed taken back, or none, claimer alive or dead, policy, place,
//! idempotency key none, fresh, used by this very request, used by another, and the run named that it is to come after:
//! none, the newest, another). Each is asked of a row of its own, and what it left is asked for again.

use futures_util::{StreamExt, stream};
use soloist::{
    Ending, IdempotencyKey, Key, NextRun, NodeId, Policy, Status,
    idempotency::{Call, Idempotency},
    lease::RunLease,
    state::Place,
    store::{Claim, ClaimRequest, Current, guard},
};

use crate::{
    Harness,
    stage::{Stage, committed, completed, finish},
    table::compare_claim,
};

/// The key that a claim brings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Used {
    /// None.
    None,
    /// Nobody has used it.
    Fresh,
    /// This very request has.
    Same,
    /// Another has.
    Other,
}

/// What became of one more run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum More {
    /// Nobody has asked for it.
    None,
    /// It is to begin.
    Owed,
    /// It was to begin, and the whole task was cancelled or deleted.
    TakenBack,
}

impl More {
    /// What there may be of a task in a status.
    fn all(status: Status) -> &'static [Self] {
        match status {
            Status::Pending => &[Self::None, Self::TakenBack],
            Status::Queued | Status::Running | Status::Failed => &[Self::None, Self::Owed],
            Status::Cancelling | Status::Completed | Status::Cancelled => {
                &[Self::None, Self::Owed, Self::TakenBack]
            }
        }
    }
}

/// Which run a claim is to come after.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum After {
    /// Any.
    Any,
    /// The newest one.
    Newest,
    /// Another one.
    Another,
}

#[derive(Debug, Clone, Copy)]
struct Case {
    status: Status,
    more: More,
    is_alive: bool,
    policy: Policy,
    place: Place,
    used: Used,
    after: After,
}

fn cases() -> Vec<Case> {
    let mut all = Vec::new();
    for status in Status::ALL {
        for more in More::all(status) {
            for is_alive in [true, false] {
                for policy in Policy::ALL {
                    for used in [Used::None, Used::Fresh, Used::Same, Used::Other] {
                        // A key is used where something was decided, so of a run.
                        if status == Status::Pending && matches!(used, Used::Same | Used::Other) {
                            continue;
                        }
                        for after in [After::Any, After::Newest, After::Another] {
                            // Where a run is active, or a key was used, or the claimer is dead, it goes nowhere.
                            let is_used = matches!(used, Used::Same | Used::Other);
                            let goes_nowhere = status.is_active() || is_used || !is_alive;
                            let places = if goes_nowhere { 1 } else { 2 };
                            for place in [Place::Here, Place::Queue].into_iter().take(places) {
                                all.push(Case { status, more: *more, is_alive, policy, place, used, after });
                            }
                        }
                    }
                }
            }
        }
    }
    all
}

fn key(policy: Policy) -> Idempotency {
    Idempotency::start(&IdempotencyKey::new("k").expect("a valid key"), Call::Start, policy)
}

/// Another policy makes another request.
fn another(policy: Policy) -> Policy {
    if policy == Policy::Restart { Policy::Once } else { Policy::Restart }
}

/// Every one of them.
pub async fn every_claim_with_all_that_it_may_bring_is_answered_as_the_guard_says<H: Harness>() {
    let stage = Stage::<H>::new().await;
    let dead = stage.join().await;
    stage.bury(&dead).await;
    let cases = cases();
    assert!(cases.len() > 1_000, "{} cases", cases.len());
    let asked = stream::iter(cases.into_iter().enumerate()).map(|(n, case)| ask(&stage, n, case, &dead));
    asked.buffer_unordered(256).collect::<()>().await;
}

/// A task with one run. Where a key is used, it was used to start that run.
async fn row<H: Harness>(stage: &Stage<H>, n: usize, case: Case) -> Key {
    let task = stage.pending(&format!("{n}")).await;
    if case.status == Status::Pending {
        if case.more == More::TakenBack {
            let lease = stage.won(&task).await;
            ask_for_more(stage, &task).await;
            committed(&stage.finish(&lease, 0, completed("1")).await);
            assert_eq!(stage.delete(&task).await, soloist::Delete::Deleted);
            stage.pending(task.id()).await;
        }
        return task;
    }
    let by = match case.used {
        Used::None | Used::Fresh => None,
        Used::Same => Some(case.policy),
        Used::Other => Some(another(case.policy)),
    };
    let place = if case.status == Status::Queued { Place::Queue } else { Place::Here };
    let start = ClaimRequest {
        policy: by.unwrap_or_default(),
        idempotency: by.map(key),
        place,
        ..stage.request(&task)
    };
    let lease = match stage.ask(start).await {
        Claim::Won(won) => Some(RunLease::from_claim(task.clone(), stage.node.clone(), &won)),
        Claim::Queued(_) => None,
        lost => panic!("it is pending: {lost:?}"),
    };
    if case.more != More::None {
        ask_for_more(stage, &task).await;
    }
    let Some(lease) = lease else { return task };
    let is_taken_back = case.more == More::TakenBack;
    let stop = async || match is_taken_back {
        true => committed(&stage.cancel_all(&lease, "stop").await),
        false => committed(&stage.cancel(&lease, "stop").await),
    };
    let end = async |from, ending| {
        committed(&stage.apply(finish(&lease, 0, from, ending, stage.now())).await);
    };
    match case.status {
        Status::Pending | Status::Queued | Status::Running => {}
        Status::Cancelling => drop(stop().await),
        Status::Completed if is_taken_back => {
            stop().await;
            end(Status::Cancelling, completed("1")).await;
        }
        Status::Completed => end(Status::Running, completed("1")).await,
        Status::Failed => drop(committed(&stage.apply(stage.lost(&lease)).await)),
        Status::Cancelled => {
            stop().await;
            end(Status::Cancelling, Ending::Cancelled { reason: "stop".into() }).await;
        }
    }
    task
}

async fn ask_for_more<H: Harness>(stage: &Stage<H>, task: &Key) {
    let more = stage.claim(task, Policy::Rerun).await;
    assert!(matches!(more, Claim::Rerun { first: true, .. }), "{more:?}");
}

async fn look<H: Harness>(stage: &Stage<H>, task: &Key) -> Current {
    Current::from(&stage.task(task).await)
}

async fn ask<H: Harness>(stage: &Stage<H>, n: usize, case: Case, dead: &NodeId) {
    let task = row(stage, n, case).await;
    let before = look(stage, &task).await;
    let (is_owed, taken_back) = (case.more == More::Owed, u64::from(case.more == More::TakenBack));
    assert_eq!((before.status, before.next_run != NextRun::None), (case.status, is_owed), "{case:?}");
    assert_eq!(before.taken_back, taken_back, "{case:?}");
    let request = ClaimRequest {
        node: if case.is_alive { stage.node.clone() } else { dead.clone() },
        policy: case.policy,
        place: case.place,
        after: match case.after {
            After::Any => None,
            After::Newest => Some(before.run),
            After::Another => Some(before.run + 1),
        },
        idempotency: (case.used != Used::None).then(|| key(case.policy)),
        ..stage.request(&task)
    };
    let said = format!("{case:?} on {before:?}");
    let answer = stage.ask(request.clone()).await;
    let after = look(stage, &task).await;
    if matches!(case.used, Used::Same | Used::Other) {
        let by = if case.used == Used::Same { case.policy } else { another(case.policy) };
        let digest = key(by).digest;
        let first = guard::FirstUse { digest: &digest, started: true, run: 1 };
        let expected = guard::repeated(first, &request, before.clone());
        assert_eq!(format!("{answer:?}"), format!("{expected:?}"), "{said}");
        return assert_eq!(after, before, "{said}");
    }
    let first_use = guard::first_use(&answer, after.run);
    let expected = guard::lost_claim(Some(before.clone()), case.policy, request.after, case.is_alive);
    let asks = (case.policy, case.place);
    compare_claim(&Some(before), expected, asks, answer.clone(), &Some(after.clone()), &said);
    if case.used != Used::Fresh {
        return;
    }
    // Sent again: what its first use has left.
    let again = stage.ask(request.clone()).await;
    let expected = match first_use {
        Some((started, run)) => Claim::Replayed { started, run, current: after.clone() },
        None => answer,
    };
    assert_eq!(format!("{again:?}"), format!("{expected:?}"), "{said}");
    assert_eq!(look(stage, &task).await, after, "{said}");
}
