//! One more run, asked for while another is active.

use std::sync::Arc;

use soloist::{
    Ending, IdempotencyKey, Key, NextRun, Policy, Status,
    event::terminal,
    idempotency::{Call, Idempotency},
    store::{Applied, Change, Claim, ClaimRequest, Rerun},
};
use tokio::sync::Barrier;

use crate::{
    Harness,
    stage::{Stage, change, committed, completed, outsider},
};

async fn owed<H: Harness>(stage: &Stage<H>) -> Vec<(Key, u64)> {
    let owed = stage.store.owed(10).await.expect("the store works");
    assert_eq!(stage.store.waiting().await.expect("the store works").owed, !owed.is_empty());
    owed
}

/// 64 ask while a run is active: one is the first; when it has ended one more is owed, until it is begun.
pub async fn of_many_who_ask_for_one_more_run_one_is_the_first<H: Harness>() {
    let stage = Stage::<H>::new().await;
    let handles = [stage.store.clone(), stage.another().await];
    for (round, policy) in [Policy::Rerun, Policy::Replace].into_iter().cycle().take(10).enumerate() {
        let lease = stage.running(&round.to_string()).await;
        let start = Arc::new(Barrier::new(64));
        let askers: Vec<_> = (0..64)
            .map(|n| {
                let (store, start) = (handles[n % 2].clone(), start.clone());
                let request = ClaimRequest { policy, ..stage.request(lease.key()) };
                tokio::spawn(async move {
                    start.wait().await;
                    store.claim(request).await.expect("the store works")
                })
            })
            .collect();
        let mut firsts = 0;
        for asker in askers {
            let Claim::Rerun { current, first } = asker.await.expect("no panic") else {
                panic!("a run is active")
            };
            assert_eq!((current.run, current.status), (1, Status::Running));
            firsts += u32::from(first);
        }
        assert_eq!(firsts, 1);
        assert_eq!(stage.task(lease.key()).await.next_run, NextRun::wanted(policy));
        assert!(owed(&stage).await.is_empty(), "it runs still");
        committed(&stage.finish(&lease, 0, completed("1")).await);
        assert_eq!(owed(&stage).await, [(lease.key().clone(), 1)]);
        // Of many that begin it one does.
        let begin = || ClaimRequest { after: Some(1), ..stage.request(lease.key()) };
        let Claim::Won(won) = stage.ask(begin()).await else { panic!("it is owed") };
        assert_eq!(won.run, 2);
        assert!(matches!(stage.ask(begin()).await, Claim::Active(row) if row.run == 2));
        assert!(owed(&stage).await.is_empty());
        assert_eq!(stage.task(lease.key()).await.next_run, NextRun::None);
    }
}

/// A claim that names the run after which it is to begin begins no other, and nothing where none is owed.
pub async fn a_claim_after_a_run_wins_only_what_is_owed_after_it<H: Harness>() {
    let stage = Stage::<H>::new().await;
    let key = stage.pending("1").await;
    let ask = async |after| stage.ask(ClaimRequest { after: Some(after), ..stage.request(&key) }).await;
    assert!(matches!(ask(0).await, Claim::Finished(row) if row.status == Status::Pending));
    for run in 1..=2 {
        let lease = stage.won(&key).await;
        if run == 2 {
            assert!(matches!(stage.claim(&key, Policy::Rerun).await, Claim::Rerun { first: true, .. }));
        }
        committed(&stage.finish(&lease, run - 1, completed("1")).await);
        if run == 1 {
            assert!(matches!(ask(1).await, Claim::Finished(row) if row.run == 1));
        }
    }
    for after in [1, 3, 0] {
        assert!(matches!(ask(after).await, Claim::Finished(row) if row.run == 2), "{after}");
    }
    assert!(matches!(ask(2).await, Claim::Won(won) if won.run == 3));
}

/// Nobody is told of what nobody would run.
pub async fn what_nobody_serves_is_owed_when_somebody_does<H: Harness>() {
    let stage = Stage::<H>::new().await;
    let other = crate::stage::model("Other").with_id("1").expect("a valid id");
    let new = soloist::NewTask::named(other.clone(), crate::stage::json("{}"));
    stage.store.create(new, stage.now()).await.expect("created");
    let lease = stage.won(&other).await;
    assert!(matches!(stage.claim(&other, Policy::Rerun).await, Claim::Rerun { first: true, .. }));
    committed(&stage.finish(&lease, 0, completed("1")).await);
    assert!(owed(&stage).await.is_empty());
    let models = vec![crate::stage::served("Other")];
    let node = soloist::store::NewNode { models, ..stage.new_node() };
    let id = node.id.clone();
    stage.nodes.keep(&id, stage.store.join(node).await.expect("joined"));
    assert_eq!(owed(&stage).await, [(other, 1)]);
}

/// Of a task that is not active a run just begins. While one is owed, whoever starts the task is told of that one.
pub async fn what_is_owed_is_begun_by_a_claim_that_names_the_run_before_it<H: Harness>() {
    let stage = Stage::<H>::new().await;
    for policy in [Policy::Rerun, Policy::Replace] {
        let key = stage.pending(&format!("{policy:?}")).await;
        let Claim::Won(won) = stage.claim(&key, policy).await else { panic!("it is pending") };
        let lease = soloist::lease::RunLease::from_claim(key.clone(), stage.node.clone(), &won);
        assert!(matches!(stage.claim(&key, policy).await, Claim::Rerun { first: true, .. }));
        committed(&stage.finish(&lease, 0, completed("1")).await);
        assert!(matches!(stage.claim(&key, Policy::Once).await, Claim::Finished(_)));
        for other in [Policy::Restart, Policy::Rerun, Policy::Replace] {
            let Claim::Rerun { current, first: false } = stage.claim(&key, other).await else {
                panic!("one is owed")
            };
            assert_eq!((current.run, current.status), (1, Status::Completed));
            let idempotency = IdempotencyKey::new(format!("{policy:?}{other:?}")).expect("a valid key");
            let keyed = || ClaimRequest {
                policy: other,
                idempotency: Some(Idempotency::start(&idempotency, Call::Start, other)),
                ..stage.request(&key)
            };
            assert!(matches!(stage.ask(keyed()).await, Claim::Rerun { first: false, .. }));
            assert!(matches!(stage.ask(keyed()).await, Claim::Replayed { started: false, run: 2, .. }));
        }
        assert_eq!(owed(&stage).await.len(), 1);
        let Claim::Won(won) = stage.ask(ClaimRequest { after: Some(1), ..stage.request(&key) }).await else {
            panic!("it is owed")
        };
        assert_eq!(won.run, 2);
        assert!(owed(&stage).await.is_empty());
    }
}

/// To replace is more than to ask for one more.
pub async fn to_replace_is_to_ask_for_more_than_one_more<H: Harness>() {
    let stage = Stage::<H>::new().await;
    let lease = stage.running("1").await;
    for (policy, is_first, next) in [
        (Policy::Rerun, true, NextRun::Rerun),
        (Policy::Rerun, false, NextRun::Rerun),
        (Policy::Replace, true, NextRun::Replace),
        (Policy::Rerun, false, NextRun::Replace),
        (Policy::Replace, false, NextRun::Replace),
    ] {
        let Claim::Rerun { current, first } = stage.claim(lease.key(), policy).await else {
            panic!("a run is active")
        };
        assert_eq!((first, current.next_run), (is_first, next), "{policy:?}");
    }
}

/// Whatever the attempt comes to; it goes with a task that is cancelled, and not with a run that is.
pub async fn one_more_run_outlives_attempts_and_goes_with_a_cancelled_task<H: Harness>() {
    let stage = Stage::<H>::new().await;
    let lease = stage.won(&stage.retried("1", 3).await).await;
    assert!(matches!(stage.claim(lease.key(), Policy::Rerun).await, Claim::Rerun { first: true, .. }));
    committed(&stage.apply(stage.requeued(&lease)).await);
    let (lease, won) = stage.next_queued().await.expect("it waits");
    assert_eq!(stage.task(lease.key()).await.next_run, NextRun::Rerun);
    let asked = |rerun| {
        let change = Change::Cancelling { reason: "stop".into(), rerun };
        outsider(lease.key(), (lease.epoch(), 1), Status::Running, change, None, stage.now())
    };
    committed(&stage.apply(asked(Rerun::Keep)).await);
    assert_eq!(stage.task(lease.key()).await.next_run, NextRun::Rerun);
    let ending = Ending::Cancelled { reason: "stop".into() };
    let end = crate::stage::finish(&lease, won.last_seq, Status::Cancelling, ending, stage.now());
    committed(&stage.apply(end).await);
    assert_eq!(owed(&stage).await, [(lease.key().clone(), 1)]);

    let Claim::Won(won) = stage.ask(ClaimRequest { after: Some(1), ..stage.request(lease.key()) }).await
    else {
        panic!("it is owed")
    };
    let lease = soloist::lease::RunLease::from_claim(lease.key().clone(), stage.node.clone(), &won);
    assert!(matches!(stage.claim(lease.key(), Policy::Rerun).await, Claim::Rerun { first: true, .. }));
    let change = Change::Cancelling { reason: "stop".into(), rerun: Rerun::Forget };
    let cancel = outsider(lease.key(), (lease.epoch(), 2), Status::Running, change, None, stage.now());
    committed(&stage.apply(cancel).await);
    assert_eq!(stage.task(lease.key()).await.next_run, NextRun::None);
}

/// A queued run that is cancelled with its whole task leaves nothing owed; cancelled alone it does.
pub async fn a_queued_run_that_is_cancelled_leaves_what_was_asked_for<H: Harness>() {
    let stage = Stage::<H>::new().await;
    for (id, rerun, is_owed) in [("keep", Rerun::Keep, true), ("forget", Rerun::Forget, false)] {
        let key = stage.queued(id).await;
        assert!(matches!(stage.claim(&key, Policy::Rerun).await, Claim::Rerun { first: true, .. }));
        let task = stage.task(&key).await;
        let ending = Ending::Cancelled { reason: "stop".into() };
        let event = terminal(&ending, None, stage.now());
        let Change::Cancelled { reason, .. } = change(ending) else { panic!("it is cancelled") };
        let change = Change::Cancelled { reason, rerun };
        let cancel = outsider(&key, (task.epoch, task.run), Status::Queued, change, Some(event), stage.now());
        assert!(matches!(stage.apply(cancel).await, Applied::Committed { .. }));
        assert_eq!(owed(&stage).await.iter().any(|(owed, _)| *owed == key), is_owed);
    }
}

/// The key of a start that was told of the next run is told of it for ever.
pub async fn a_start_sent_again_is_told_of_the_same_next_run<H: Harness>() {
    let stage = Stage::<H>::new().await;
    let lease = stage.running("1").await;
    let key = IdempotencyKey::new("k").expect("a valid key");
    let request = || ClaimRequest {
        policy: Policy::Rerun,
        idempotency: Some(Idempotency::start(&key, Call::Start, Policy::Rerun)),
        ..stage.request(lease.key())
    };
    assert!(matches!(stage.ask(request()).await, Claim::Rerun { first: true, .. }));
    for _ in 0..2 {
        assert!(matches!(stage.ask(request()).await, Claim::Replayed { started: false, run: 2, .. }));
    }
    committed(&stage.finish(&lease, 0, completed("1")).await);
    assert!(matches!(stage.ask(request()).await, Claim::Replayed { started: false, run: 2, .. }));
    assert_eq!(owed(&stage).await.len(), 1);
}

/// What a start under a policy that asks for one more run is promised, and whether it is the first.
async fn promised<H: Harness>(stage: &Stage<H>, key: &Key, policy: Policy) -> (u64, bool) {
    match stage.claim(key, policy).await {
        Claim::Rerun { current, first } => (current.following_run(), first),
        other => panic!("a run of {key} is active: {other:?}"),
    }
}

/// However often the whole task is cancelled while one run stops: each start that asks for one more is promised a number of
/// its own, and so is the start that begins a run in the end.
pub async fn a_number_that_was_promised_and_taken_back_is_never_another_starts<H: Harness>() {
    let stage = Stage::<H>::new().await;
    for (n, last) in [NextRun::None, NextRun::Rerun, NextRun::Replace].into_iter().enumerate() {
        for is_keyed in [false, true] {
            let lease = stage.running(&format!("{n}-{is_keyed}")).await;
            let key = lease.key();
            assert_eq!(promised(&stage, key, Policy::Replace).await, (2, true));
            assert_eq!(promised(&stage, key, Policy::Replace).await, (2, false));
            committed(&stage.cancel_all(&lease, "stop").await);
            assert_eq!(
                promised(&stage, key, Policy::Rerun).await,
                (3, true),
                "the run that is stopped is active"
            );
            assert_eq!(promised(&stage, key, Policy::Replace).await, (3, true), "it asks for more than that");
            take_back_again(&stage, &lease).await;
            // Nothing was promised since, so nothing is taken back.
            take_back_again(&stage, &lease).await;
            let (policy, is_owed) = match last {
                NextRun::None => (Policy::Restart, false),
                NextRun::Rerun => (Policy::Rerun, true),
                NextRun::Replace => (Policy::Replace, true),
            };
            if is_owed {
                assert_eq!(promised(&stage, key, policy).await, (4, true));
            }
            let ending = Ending::Cancelled { reason: "stop".into() };
            let end = crate::stage::finish(&lease, 0, Status::Cancelling, ending, stage.now());
            committed(&stage.apply(end).await);
            let task = stage.task(key).await;
            assert_eq!((task.run, task.following_run(), task.next_run), (1, 4, last));
            let idempotency = IdempotencyKey::new("k").expect("a valid key");
            let request = || ClaimRequest {
                after: is_owed.then_some(1),
                idempotency: is_keyed.then(|| Idempotency::start(&idempotency, Call::Start, Policy::Restart)),
                ..stage.request(key)
            };
            let Claim::Won(won) = stage.ask(request()).await else { panic!("{last:?}: it may begin") };
            assert_eq!(won.run, 4, "{last:?}");
            if is_keyed {
                assert!(matches!(stage.ask(request()).await, Claim::Replayed { started: true, run: 4, .. }));
            }
            let task = stage.task(key).await;
            assert_eq!((task.run, task.following_run(), task.next_run), (4, 5, NextRun::None));
        }
    }
}

/// The whole task is cancelled once more, while its run stops.
async fn take_back_again<H: Harness>(stage: &Stage<H>, lease: &soloist::lease::RunLease) {
    let change = Change::Cancelling { reason: "stop".into(), rerun: Rerun::Forget };
    let row = (lease.epoch(), lease.run());
    committed(&stage.apply(outsider(lease.key(), row, Status::Cancelling, change, None, stage.now())).await);
}

/// Of what runs, and of what waits; a cancel that names the run takes nothing back. Where the start was sent under a key, that
/// tells of the number for ever.
pub async fn a_number_is_taken_back_with_every_kind_of_cancel_of_the_task<H: Harness>() {
    let stage = Stage::<H>::new().await;
    let idempotency = IdempotencyKey::new("k").expect("a valid key");
    for (id, is_queued, rerun, following) in [
        ("runs", false, Rerun::Forget, 3),
        ("run", false, Rerun::Keep, 2),
        ("waits", true, Rerun::Forget, 3),
        ("waiting run", true, Rerun::Keep, 2),
    ] {
        let id = id.replace(' ', "-");
        let key = if is_queued { stage.queued(&id).await } else { stage.running(&id).await.key().clone() };
        let request = || ClaimRequest {
            policy: Policy::Rerun,
            idempotency: Some(Idempotency::start(&idempotency, Call::Start, Policy::Rerun)),
            ..stage.request(&key)
        };
        assert!(matches!(stage.ask(request()).await, Claim::Rerun { first: true, .. }));
        let task = stage.task(&key).await;
        let ending = Ending::Cancelled { reason: "stop".into() };
        let event = terminal(&ending, None, stage.now());
        let change = Change::Cancelled { reason: "stop".into(), rerun };
        // A run that is held is ended by somebody else where its node has died.
        let mut end = outsider(&key, (task.epoch, task.run), task.status, change, Some(event), stage.now());
        if !is_queued {
            end.epoch_after = task.epoch.next();
        }
        committed(&stage.apply(end).await);
        assert_eq!(stage.task(&key).await.following_run(), following, "{id}");
        let after = (rerun == Rerun::Keep).then_some(1);
        let Claim::Won(won) = stage.ask(ClaimRequest { after, ..stage.request(&key) }).await else {
            panic!("{id}: it may begin")
        };
        assert_eq!(won.run, following, "{id}");
        assert!(matches!(stage.ask(request()).await, Claim::Replayed { started: false, run: 2, .. }), "{id}");
    }
}

/// Deleted while one more run was owed, or after it was taken back, by a delete or by age: the task that is created anew goes
/// on behind all that was promised, over restarts, and so do its signals.
pub async fn a_deleted_task_keeps_what_it_had_promised_from_its_successor<H: Harness>() {
    let mut stage = Stage::<H>::new().await;
    for (id, is_cancelled, is_pruned) in
        [("owed", false, false), ("cancelled", true, false), ("pruned", true, true)]
    {
        let lease = stage.running(id).await;
        assert_eq!(promised(&stage, lease.key(), Policy::Replace).await, (2, true));
        let mut from = Status::Running;
        if is_cancelled {
            committed(&stage.cancel_all(&lease, "stop").await);
            from = Status::Cancelling;
        }
        let end = crate::stage::finish(&lease, 0, from, completed("1"), stage.now());
        committed(&stage.apply(end).await);
        if is_pruned {
            let (model, before) = (lease.key().model_key().clone(), stage.now());
            let old = soloist::store::Prune { model, status: Status::Completed, before, limit: 10 };
            let gone = stage.store.prune(old, stage.now()).await.expect("the store works");
            assert_eq!(gone, [lease.key().clone()]);
        } else {
            assert_eq!(stage.delete(lease.key()).await, soloist::Delete::Deleted);
        }
        assert!(owed(&stage).await.is_empty());
        stage = stage.restarted().await;
        let key = stage.pending(id).await;
        let task = stage.task(&key).await;
        assert_eq!((task.run, task.following_run(), task.next_run), (1, 3, NextRun::None), "{id}");
        let data = crate::stage::json("1");
        let sent = stage.store.signal(&key, "go", data.clone(), stage.now()).await.expect("the store works");
        assert_eq!(sent, soloist::store::Signalled::Recorded { run: 3, number: 1 }, "{id}");
        // Deleted again without having run, it forgets nothing.
        assert_eq!(stage.delete(&key).await, soloist::Delete::Deleted);
        stage.pending(id).await;
        stage.store.signal(&key, "go", data, stage.now()).await.expect("the store works");
        let lease = stage.won(&key).await;
        assert_eq!((lease.run(), stage.task(&key).await.following_run()), (3, 4), "{id}");
        let signals = stage.store.signals(&key, 3, 0, 10).await.expect("the store works");
        assert_eq!(signals.len(), 1, "{id}");
        committed(&stage.finish(&lease, 1, completed("1")).await);
        assert_eq!(stage.delete(&key).await, soloist::Delete::Deleted);
    }
}
