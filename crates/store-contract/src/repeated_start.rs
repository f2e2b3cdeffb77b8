//! A start that is sent again under its key begins one run, and is answered as the first time.

use std::sync::Arc;

use futures_util::future::join_all;
use soloist::{
    Create, IdempotencyKey, Key, NewTask, NodeId, Policy, Run, Status,
    idempotency::{Call, Idempotency},
    state::Place,
    store::{Claim, ClaimRequest, Current},
};
use tokio::sync::Barrier;

use crate::{
    Harness, repeated_create,
    stage::{Stage, committed, completed, json, key},
};

fn named(text: &str) -> IdempotencyKey {
    IdempotencyKey::new(text).expect("a valid key")
}

/// A start of a task under a key.
fn under<H: Harness>(stage: &Stage<H>, task: &Key, text: &str) -> ClaimRequest {
    let idempotency = Idempotency::start(&named(text), Call::Start, Policy::Restart);
    ClaimRequest { idempotency: Some(idempotency), ..stage.request(task) }
}

/// Sends a start again: the first answer, and the task as it is now; nothing is written.
async fn replayed<H: Harness>(stage: &Stage<H>, request: ClaimRequest, started: bool, run: Run) {
    let before = stage.task(&request.key).await;
    let answer = stage.ask(request.clone()).await;
    let Claim::Replayed { started: first, run: of, current: now } = answer else {
        panic!("sent again it was told {answer:?}")
    };
    assert_eq!((first, of), (started, run));
    assert_eq!(now, Current::from(&before));
    assert_eq!(format!("{:?}", stage.task(&request.key).await), format!("{before:?}"));
}

/// Before, during and after its run, over another handle, by another node, and in later runs of others.
pub async fn a_start_sent_again_begins_no_second_run<H: Harness>() {
    let stage = Stage::<H>::new().await;
    let task = stage.pending("1").await;
    let start = ClaimRequest { place: Place::Queue, ..under(&stage, &task, "k") };
    assert!(matches!(stage.ask(start.clone()).await, Claim::Queued(_)));
    replayed(&stage, start.clone(), true, 1).await;
    let (lease, _) = stage.next_queued().await.expect("it waits");
    replayed(&stage, start.clone(), true, 1).await;
    stage.cancel(&lease, "stop").await;
    replayed(&stage, ClaimRequest { node: stage.join().await, ..start.clone() }, true, 1).await;
    committed(&stage.apply(stage.lost_while_cancelling(&lease)).await);
    replayed(&stage, ClaimRequest { place: Place::Here, ..start.clone() }, true, 1).await;
    stage.won(&task).await;
    replayed(&stage, start.clone(), true, 1).await;

    let stage = stage.restarted().await;
    replayed(&stage, ClaimRequest { node: stage.node.clone(), ..start.clone() }, true, 1).await;
    // It is looked up before anything else.
    replayed(&stage, ClaimRequest { node: NodeId::random(), ..start }, true, 1).await;
}

/// The one thing that a loser writes: sent again after the run, it starts nothing.
pub async fn a_start_that_lost_has_lost_for_good<H: Harness>() {
    let stage = Stage::<H>::new().await;
    let lease = stage.running("1").await;
    let loser = under(&stage, lease.key(), "k");
    assert!(matches!(stage.ask(loser.clone()).await, Claim::Active(_)));
    replayed(&stage, loser.clone(), false, 1).await;
    stage.finish(&lease, 0, completed("1")).await;
    replayed(&stage, loser.clone(), false, 1).await;

    let policy = Policy::Once;
    let idempotency = Some(Idempotency::start(&named("once"), Call::Start, policy));
    let once = ClaimRequest { policy, idempotency, ..stage.request(lease.key()) };
    assert!(matches!(stage.ask(once.clone()).await, Claim::Finished(_)));
    stage.won(lease.key()).await;
    replayed(&stage, once, false, 1).await;
    replayed(&stage, loser, false, 1).await;
}

/// Whatever the task does by then.
pub async fn a_key_used_for_another_start_is_refused<H: Harness>() {
    let stage = Stage::<H>::new().await;
    let task = stage.pending("1").await;
    let start = under(&stage, &task, "k");
    let policy = Policy::Once;
    let other = ClaimRequest {
        policy,
        idempotency: Some(Idempotency::start(&named("k"), Call::Start, policy)),
        ..stage.request(&task)
    };
    assert!(matches!(stage.ask(start.clone()).await, Claim::Won(_)));
    assert!(matches!(stage.ask(other).await, Claim::KeyReused));
    replayed(&stage, start, true, 1).await;
    assert_eq!(stage.task(&task).await.run, 1);
}

/// Another subject's, another task's, another call's.
pub async fn nobody_meets_the_key_of_another<H: Harness>() {
    let stage = Stage::<H>::new().await;
    let (first, second) = (stage.pending("1").await, stage.pending("2").await);
    let start = |task: &Key, key: &IdempotencyKey, call| {
        let idempotency = Some(Idempotency::start(key, call, Policy::Restart));
        stage.ask(ClaimRequest { idempotency, ..stage.request(task) })
    };
    let (ada, bob) = (named("k").of("ada"), named("k").of("bob"));
    assert!(matches!(start(&first, &ada, Call::Start).await, Claim::Won(_)));
    assert!(matches!(start(&first, &bob, Call::Start).await, Claim::Active(_)));
    assert!(matches!(start(&first, &ada, Call::CreateAndStart).await, Claim::Active(_)));
    assert!(matches!(start(&second, &ada, Call::Start).await, Claim::Won(_)));
    assert!(matches!(start(&first, &ada, Call::Start).await, Claim::Replayed { started: true, .. }));
    assert!(matches!(start(&first, &bob, Call::Start).await, Claim::Replayed { started: false, .. }));
}

/// The same key creates a task and starts it, as a caller with one key for one intent may do.
pub async fn a_create_and_a_start_do_not_share_keys<H: Harness>() {
    let stage = Stage::<H>::new().await;
    let new = repeated_create::create("k", NewTask::named(key("1"), json("1")));
    assert!(matches!(stage.store.create(new.clone(), stage.now()).await, Ok(Create::Created(_))));
    assert!(matches!(stage.ask(under(&stage, &key("1"), "k")).await, Claim::Won(_)));
    assert!(matches!(stage.store.create(new, stage.now()).await, Ok(Create::Replayed(_))));
    replayed(&stage, under(&stage, &key("1"), "k"), true, 1).await;
}

/// 64 at once, over two handles, 20 rounds: one begins the run, all others are told that they have.
pub async fn s1_of_many_repeats_of_one_start_one_begins_the_run<H: Harness>() {
    let stage = Stage::<H>::new().await;
    for round in 0..20 {
        let task = stage.pending(&round.to_string()).await;
        let (mut won, mut repeats) = (0, 0);
        for answer in race(&stage, |_| under(&stage, &task, "k")).await {
            match answer {
                Claim::Won(_) => won += 1,
                Claim::Replayed { started: true, run: 1, current } => {
                    repeats += 1;
                    assert_eq!((current.status, current.run), (Status::Running, 1));
                }
                other => panic!("a repeat was told {other:?}"),
            }
        }
        assert_eq!((won, repeats), (1, 63));
    }
}

/// 64 at once, of 8 requests: one wins, and each of the 64 is told the same again.
pub async fn s1_of_many_starts_under_several_keys_one_wins<H: Harness>() {
    let stage = Stage::<H>::new().await;
    let task = stage.pending("1").await;
    let request = |n: usize| under(&stage, &task, &format!("k{}", n % 8));
    let answers = race(&stage, request).await;
    let winners: Vec<_> =
        (0..64).filter(|n| matches!(answers[*n], Claim::Won(_))).map(|winner| winner % 8).collect();
    assert_eq!(winners.len(), 1);
    for (n, answer) in answers.iter().enumerate() {
        match answer {
            Claim::Won(_) => {}
            Claim::Active(row) => assert!(row.run == 1 && n % 8 != winners[0]),
            Claim::Replayed { started, run: 1, .. } => assert_eq!(*started, n % 8 == winners[0]),
            other => panic!("start {n} was told {other:?}"),
        }
        replayed(&stage, request(n), n % 8 == winners[0], 1).await;
    }
}

/// 64 starts that leave one barrier together; the answers are in the order of the requests.
async fn race<H: Harness>(stage: &Stage<H>, request: impl Fn(usize) -> ClaimRequest) -> Vec<Claim> {
    let handles = [stage.store.clone(), stage.another().await];
    let start = Arc::new(Barrier::new(64));
    let racers = (0..64).map(|n| {
        let (store, start, request) = (handles[n % 2].clone(), start.clone(), request(n));
        tokio::spawn(async move {
            start.wait().await;
            store.claim(request).await.expect("the store works")
        })
    });
    let answers = join_all(racers.collect::<Vec<_>>()).await;
    answers.into_iter().map(|answer| answer.expect("no racer panics")).collect()
}

/// Where nothing was decided: the task is not there yet, or the node is dead. The request may be sent again.
pub async fn a_start_that_was_not_decided_uses_no_key<H: Harness>() {
    let stage = Stage::<H>::new().await;
    let start = under(&stage, &key("1"), "k");
    assert!(matches!(stage.ask(start.clone()).await, Claim::Missing));
    stage.pending("1").await;
    let dead = ClaimRequest { node: NodeId::random(), ..start.clone() };
    assert!(matches!(stage.ask(dead).await, Claim::NodeDead));
    assert!(matches!(stage.ask(start).await, Claim::Won(_)));
}

/// The task is gone; sent again within the day, also to its successor, the start begins nothing.
pub async fn a_start_sent_again_after_a_delete_begins_nothing<H: Harness>() {
    let stage = Stage::<H>::new().await;
    let task = stage.pending("1").await;
    let start = under(&stage, &task, "k");
    let Claim::Won(won) = stage.ask(start.clone()).await else { panic!("it is pending") };
    let lease = soloist::lease::RunLease::from_claim(task.clone(), stage.node.clone(), &won);
    stage.finish(&lease, 0, completed("1")).await;
    stage.delete(&task).await;
    assert!(matches!(stage.ask(start.clone()).await, Claim::Missing));
    stage.pending("1").await;
    replayed(&stage, start, true, 1).await;
    assert!(matches!(stage.ask(under(&stage, &task, "another")).await, Claim::Won(_)));
}
