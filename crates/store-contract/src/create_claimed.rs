//! A task and its first run are made in one step, and that is what a create and a claim right after it come to.

use futures_util::future::join_all;
use soloist::{
    Create, NewId, NewTask, NodeId, Policy, Status, Task, Timestamp, TraceContext,
    lease::RunLease,
    state::Place,
    store::{Applied, Claim, FirstClaim, Won},
};

use crate::{
    Harness,
    stage::{Stage, committed, completed, json, key, model},
};

fn first<H: Harness>(stage: &Stage<H>) -> FirstClaim {
    FirstClaim { node: stage.node.clone(), place: Place::Here, trace: None }
}

async fn made<H: Harness>(stage: &Stage<H>, new: NewTask, claim: FirstClaim, at: Timestamp) -> Task {
    match stage.store.create_claimed(new, claim, at).await {
        Ok(Create::Created(task)) => task,
        other => panic!("it is new: {other:?}"),
    }
}

/// A key after which a new task begins anew, or goes on from a deleted one: that has never run, has run, or has promised a run.
async fn after<H: Harness>(stage: &Stage<H>, left: &str, id: &str) -> soloist::Key {
    let key = key(id);
    match left {
        "nothing" => {}
        "a pending task" => drop(stage.pending(id).await),
        _ => {
            let lease = stage.running(id).await;
            committed(&stage.append(&lease, 0, 3).await);
            if left == "a promise" {
                assert!(matches!(stage.claim(&key, Policy::Rerun).await, Claim::Rerun { .. }));
            }
            committed(&stage.finish(&lease, 3, completed("1")).await);
        }
    }
    if left != "nothing" {
        assert_eq!(stage.delete(&key).await, soloist::Delete::Deleted);
    }
    key
}

/// By every place, time, claimer and trace, and after whatever a deleted task of the key has left: the record, as it is
/// returned and as it is kept.
pub async fn it_is_what_a_create_and_a_claim_come_to<H: Harness>() {
    let stage = Stage::<H>::new().await;
    let buried = stage.join().await;
    stage.bury(&buried).await;
    let nodes = [stage.node.clone(), buried, NodeId::random()];
    let trace = TraceContext::new("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", Some("a=1"));
    let traces = [None, Some(trace.expect("a valid trace"))];
    let mut cases = 0;
    for left in ["nothing", "a pending task", "a run", "a promise"] {
        for node in &nodes {
            for place in [Place::Here, Place::Queue] {
                for ahead in [None, Some(-1), Some(0), Some(1_000_000)] {
                    for trace in &traces {
                        cases += 1;
                        let one = after(&stage, left, &format!("one-{cases}")).await;
                        let two = after(&stage, left, &format!("two-{cases}")).await;
                        let at = stage.now();
                        let run_at = ahead.map(|micros| Timestamp::from_micros(at.as_micros() + micros));
                        let new = |key| NewTask {
                            run_at,
                            owner: Some("ada".into()),
                            max_retries: Some(2),
                            timeout_seconds: Some(3),
                            deadline_seconds: Some(4),
                            ..NewTask::named(key, json(r#"{ "n": 1 }"#))
                        };
                        let claim = FirstClaim { node: node.clone(), place, trace: trace.clone() };
                        let mut in_one = made(&stage, new(one.clone()), claim.clone(), at).await;
                        stage.store.create(new(two.clone()), at).await.expect("created");
                        // A store may leave the claim of a key that was deleted before to a step of its own.
                        if in_one.status == Status::Pending && left != "nothing" {
                            let kept = stage.task(&one).await;
                            assert_eq!(format!("{in_one:?}"), format!("{kept:?}"));
                            stage.ask(claim.clone().of(one.clone(), at)).await;
                            in_one = stage.task(&one).await;
                            in_one.position = None;
                        }
                        let answer = stage.ask(claim.of(two.clone(), at)).await;
                        let mut in_two = stage.task(&two).await;
                        let what = format!("{left} {node} {place:?} {ahead:?}: {answer:?}");
                        assert_eq!(matches!(answer, Claim::NodeDead), node != &stage.node, "{what}");
                        in_two.key = one.clone();
                        // A place in the queue is told of what is read alone, and two stand in it here.
                        in_two.position = None;
                        let mut kept = stage.task(&one).await;
                        kept.position = None;
                        for record in [in_one, kept] {
                            assert_eq!(format!("{record:?}"), format!("{in_two:?}"), "{what}");
                        }
                        for key in [&one, &two] {
                            let row = stage.task(key).await;
                            if row.status == Status::Running {
                                let lease = RunLease::from_claim(
                                    key.clone(),
                                    stage.node.clone(),
                                    &Won::of(row.clone()),
                                );
                                committed(&stage.finish(&lease, row.last_seq, completed("1")).await);
                            }
                        }
                    }
                }
            }
        }
    }
}

/// 64 at one moment, over two handles, beside plain creates and claims: whoever is told that it has made the task running
/// holds it, and nobody else does.
pub async fn s1_of_many_for_one_key_one_makes_it_and_one_holds_it<H: Harness>() {
    let stage = Stage::<H>::new().await;
    let another = stage.another().await;
    for round in 0..8 {
        let (stage, another, id) = (&stage, &another, round.to_string());
        let racers = (0..64).map(|n| {
            let (key, store) = (key(&id), if n % 2 == 0 { &stage.store } else { another });
            async move {
                let (new, at) = (NewTask::named(key.clone(), json("1")), stage.now());
                match n % 8 {
                    0 => store.create(new, at).await.map(|answer| (answer, false)),
                    1 => {
                        let claim = store.claim(stage.request(&key)).await.expect("the store works");
                        let task = matches!(claim, Claim::Won(_)).then_some(Create::KeyReused);
                        Ok((task.unwrap_or(Create::ReplayedDeleted(key)), matches!(claim, Claim::Won(_))))
                    }
                    _ => store.create_claimed(new, first(stage), at).await.map(|answer| (answer, true)),
                }
            }
        });
        let (mut created, mut holders) = (0, 0);
        for answer in join_all(racers).await {
            let (answer, claims) = answer.expect("the store works");
            match answer {
                Create::Created(task) => {
                    created += 1;
                    assert_eq!(task.status == Status::Running, claims, "{task:?}");
                    holders += u32::from(claims);
                }
                Create::KeyReused => holders += 1,
                Create::Exists(_) | Create::ReplayedDeleted(_) => {}
                other => panic!("{other:?}"),
            }
        }
        let task = stage.task(&key(&id)).await;
        assert_eq!(created, 1);
        // The plain create may have made it, and every claim have come before that.
        assert_eq!(holders, u32::from(task.status == Status::Running), "{task:?}");
        assert_eq!((task.run, task.epoch.0), (holders.into(), holders.into()));
    }
}

/// Whatever it asks for, a task that is there is not claimed, and stays as it was.
pub async fn a_task_that_is_there_stays_as_it_was<H: Harness>() {
    let stage = Stage::<H>::new().await;
    let lease = stage.running("running").await;
    let finished = stage.running("finished").await;
    committed(&stage.finish(&finished, 0, completed("1")).await);
    for key in [
        stage.pending("pending").await,
        stage.queued("queued").await,
        lease.key().clone(),
        finished.key().clone(),
    ] {
        let before = format!("{:?}", stage.task(&key).await);
        for (input, same) in [("{ }", true), ("1", false)] {
            let new = NewTask::named(key.clone(), json(input));
            let answer = stage.store.create_claimed(new, first(&stage), stage.now()).await;
            let told = match (answer, same) {
                (Ok(Create::Exists(task)), true) | (Ok(Create::Differs(task)), false) => task,
                (other, _) => panic!("{other:?}"),
            };
            assert_eq!((told.status, told.run), (stage.task(&key).await.status, stage.task(&key).await.run));
            assert_eq!(format!("{:?}", stage.task(&key).await), before);
        }
    }
}

/// The ids that the store assigns are all different, and each run is its claimer's.
pub async fn an_assigned_id_comes_with_its_run<H: Harness>() {
    let stage = Stage::<H>::new().await;
    stage.pending("3").await;
    let new = || NewTask::of(NewId::Assigned(model("Model")), json("1"));
    let made = join_all((0..20).map(|_| made(&stage, new(), first(&stage), stage.now()))).await;
    let mut ids: Vec<u64> = made.iter().map(|task| task.key.id().parse().expect("a number")).collect();
    ids.sort_unstable();
    assert_eq!(ids, (1..=21).filter(|id| *id != 3).collect::<Vec<_>>());
    for task in made {
        assert_eq!((task.status, task.run, task.attempt), (Status::Running, 1, 1));
        let lease = RunLease::from_claim(task.key.clone(), stage.node.clone(), &Won::of(task));
        committed(&stage.append(&lease, 0, 2).await);
        assert!(matches!(stage.finish(&lease, 2, completed("1")).await, Applied::Committed { last_seq: 3 }));
    }
}

/// Behind those that were queued before it; and it outlives the process that has asked.
pub async fn a_run_that_waits_is_taken_from_the_queue<H: Harness>() {
    let stage = Stage::<H>::new().await;
    stage.queued("before").await;
    let claim = FirstClaim { place: Place::Queue, ..first(&stage) };
    let task = made(&stage, NewTask::named(key("1"), json("1")), claim, stage.now()).await;
    assert_eq!((task.status, task.node, task.started_at), (Status::Queued, None, None));
    stage.queued("after").await;
    let stage = stage.restarted().await;
    for id in ["before", "1", "after"] {
        let (lease, won) = stage.next_queued().await.expect("it waits");
        assert_eq!((lease.key(), won.run, won.attempt), (&key(id), 1, 1));
    }
}

/// What its process held when it died is an orphan like any other.
pub async fn a_run_that_was_begun_with_its_task_outlives_its_process<H: Harness>() {
    let stage = Stage::<H>::new().await;
    let task = made(&stage, NewTask::named(key("1"), json("1")), first(&stage), stage.now()).await;
    let lease = RunLease::from_claim(task.key.clone(), stage.node.clone(), &Won::of(task));
    let stage = stage.restarted().await;
    let orphans = stage.store.orphans(10).await.expect("the store works");
    assert_eq!(orphans.iter().map(|held| &held.key).collect::<Vec<_>>(), [&key("1")]);
    committed(&stage.apply(stage.requeued(&lease)).await);
    assert!(matches!(stage.append(&lease, 0, 1).await, Applied::Fenced(_)), "its epoch is over");
    let (next, _) = stage.next_queued().await.expect("it waits");
    assert_eq!((next.run(), next.attempt()), (1, 2));
}
