//! The orders in which claims meet at the slots of a model whose runs are bounded, and in which due times, old tasks and one
//! more run meet the other writes of their tasks; driven as in `interleavings.rs`, at every isolation level.

use std::time::{Duration, Instant};

use crate::interleavings::{By, LEVELS, READ_COMMITTED, STATE, Session, World, meet};

const HELD: &str = "SELECT count(*) FROM soloist.task WHERE node IS NOT NULL";
const NEXT: &str = "SELECT status, run, next_run FROM soloist.task WHERE id = '1'";

/// A slot is free, and a claim under a key, which waits for its task's row, has seen it so.
const RECHECK: &str = "AND model_slot.task IS NOT DISTINCT FROM vacant.task AND model_slot.epoch IS NOT DISTINCT FROM vacant.epoch";

/// Two connections in a new world with two pending tasks of a model with some slots.
async fn bounded(level: &str, slots: u32) -> (World, Session, Session) {
    let (world, a, b) = meet(level, "pending").await;
    world.task("2", "pending").await;
    world.slots(slots).await;
    (world, a, b)
}

impl World {
    async fn slots(&self, slots: u32) {
        let made = format!(
            "INSERT INTO soloist.model_slot (app, model, slot) SELECT 'a', 'M', n FROM generate_series(1, {slots}) AS n"
        );
        self.setup.run(&self.sql(&made, &[])).await.unwrap();
    }

    async fn set(&self, set: &str, id: &str) {
        let set = format!("UPDATE soloist.task SET {set} WHERE id = '{id}'");
        self.setup.run(&self.sql(&set, &[])).await.unwrap();
    }

    /// Of task 1, under the key k.
    fn start(&self) -> String {
        self.claim_keyed_of(&[("max_total", "1")])
    }

    /// Task 2 takes the slot, while the claim of task 1 waits for its row, and sees it free. What that one has then become.
    async fn meet_at_a_slot(&self, (a, b): (&Session, &Session), start: &str) -> String {
        let lock = Session::open(READ_COMMITTED).await;
        lock.run("BEGIN").await.unwrap();
        lock.run(&self.sql("SELECT 1 FROM soloist.task WHERE id = '1' FOR UPDATE", &[])).await.unwrap();
        let started = b.waits(start).await;
        assert_eq!(a.ask(&self.claim_of("2", &[("max_total", "1")])).await[0][1].as_deref(), Some("running"));
        lock.run("COMMIT").await.unwrap();
        let told = started.await.unwrap();
        assert_eq!(told.len(), 1);
        told[0][1].clone().unwrap()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_claim_that_has_seen_a_slot_free_finds_under_its_lock_who_has_taken_it_since() {
    for level in LEVELS {
        let (world, a, b) = bounded(level, 1).await;
        let status = world.meet_at_a_slot((&a, &b), &world.start()).await;
        assert_eq!((status.as_str(), world.look(HELD).await.as_str()), ("queued", "1"), "{level}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slot_that_is_judged_by_the_snapshot_alone_is_taken_twice() {
    let (world, a, b) = bounded(READ_COMMITTED, 1).await;
    let naive = world.start().replace(RECHECK, "");
    assert_ne!(naive, world.start());
    let status = world.meet_at_a_slot((&a, &b), &naive).await;
    assert_eq!((status.as_str(), world.look(HELD).await.as_str()), ("running", "2"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slot_that_a_claim_takes_now_is_passed_by() {
    for level in LEVELS {
        let (world, a, b) = bounded(level, 2).await;
        world.task("3", "pending").await;
        a.run("BEGIN").await.unwrap();
        let claim = |id: &str| world.claim_of(id, &[("max_total", "2")]);
        assert_eq!(a.run(&claim("1")).await.unwrap()[0][1].as_deref(), Some("running"), "{level}");
        assert_eq!(b.ask(&claim("2")).await[0][1].as_deref(), Some("running"), "{level}: the other one");
        assert_eq!(b.ask(&claim("3")).await[0][1].as_deref(), Some("queued"), "{level}");
        let take = world.claim_queued_of(&[("max_totals", "ARRAY[2]")]);
        let told = b.ask(&take).await;
        assert!(told.len() == 1 && told[0][0].is_none(), "{level}: it goes round: {told:?}");
        // Where the level forbids that they have passed each other by, one of them gives way: it then stands behind the one
        // that waits, which takes the slot.
        if a.run("COMMIT").await.is_err() {
            assert_eq!(a.ask(&claim("1")).await[0][1].as_deref(), Some("queued"), "{level}");
            assert_eq!(b.ask(&take).await.len(), 1, "{level}: a slot is free");
        }
        assert!(b.ask(&take).await.is_empty(), "{level}: it is full");
        assert_eq!(b.ask(&world.claim_queued()).await.len(), 1, "{level}: unless it is not bounded");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slot_is_free_whatever_has_ended_its_run() {
    let ways = [
        ("SELECT 1", "1 n1 6"),
        ("UPDATE soloist.task SET status = 'completed', node = NULL WHERE id = '1'", "2 n1 6"),
        (
            "UPDATE soloist.task SET status = 'queued', place = 99, node = NULL, epoch = 7 WHERE id = '1'",
            "2 n1 6",
        ),
        ("DELETE FROM soloist.task WHERE id = '1'", "2 n1 6"),
    ];
    for level in LEVELS {
        for (way, held) in ways {
            let (world, a, b) = bounded(level, 1).await;
            assert_eq!(a.ask(&world.claim_of("1", &[("max_total", "1")])).await.len(), 1, "{level}");
            assert_eq!(a.ask(&world.claim_of("2", &[("max_total", "1"), ("here", "false")])).await.len(), 1);
            a.ask(&world.sql(way, &[])).await;
            b.ask(&world.claim_queued_of(&[("max_totals", "ARRAY[1]")])).await;
            let look = "SELECT id, node, epoch FROM soloist.task WHERE node IS NOT NULL";
            assert_eq!(world.look(look).await, held, "{level}: {way}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn runs_that_were_claimed_while_none_were_bounded_count() {
    for level in LEVELS {
        let (world, a, b) = bounded(level, 2).await;
        assert_eq!(a.ask(&world.claim("n1", "7")).await.len(), 1, "{level}");
        let queued = b.ask(&world.claim_of("2", &[("max_total", "1")])).await.remove(0);
        assert_eq!(queued[1].as_deref(), Some("queued"), "{level}");
        assert!(b.ask(&world.claim_queued_of(&[("max_totals", "ARRAY[1]")])).await.is_empty(), "{level}");
        assert_eq!(b.ask(&world.claim_queued_of(&[("max_totals", "ARRAY[2]")])).await.len(), 1, "{level}");
    }
}

/// Six connections start, take from the queue and end for a while; another looks how many run.
#[tokio::test(flavor = "multi_thread")]
async fn however_many_claim_at_once_no_more_run_than_may() {
    const MAX: &str = "3";
    for level in LEVELS {
        let (world, ..) = meet(level, "pending").await;
        for n in 2..=12 {
            world.task(&n.to_string(), "pending").await;
        }
        world.slots(3).await;
        let until = Instant::now() + Duration::from_secs(2);
        let mut working = Vec::new();
        for worker in 0..6_u64 {
            let session = Session::open(level).await;
            let take = world.claim_queued_of(&[("max_totals", "ARRAY[3]")]);
            let starts: Vec<String> = (1..=12)
                .map(|n| {
                    world.claim_of(&n.to_string(), &[("max_total", MAX)]).replace("run = 1", "run = run")
                })
                .collect();
            let end = |n: u64| {
                format!(
                    "UPDATE soloist.task SET status = 'completed', node = NULL WHERE id = '{n}' AND node IS NOT NULL"
                )
            };
            let ends: Vec<String> = (1..=12).map(|n| world.sql(&end(n), &[])).collect();
            let held = world.sql(HELD, &[]);
            working.push(tokio::spawn(async move {
                let (mut n, mut most, mut won) = (worker * 5, 0, 0);
                while Instant::now() < until {
                    n += 7;
                    let place = usize::try_from(n % 12).unwrap();
                    // Who gives way has done nothing.
                    won += session.run(&starts[place]).await.map_or(0, |rows| rows.len());
                    won += session.run(&take).await.map_or(0, |rows| rows.len());
                    if let Ok(rows) = session.run(&held).await {
                        most = most.max(rows[0][0].as_deref().unwrap().parse::<u32>().unwrap());
                    }
                    let _ = session.run(&ends[(place + 3) % 12]).await;
                }
                (most, won)
            }));
        }
        let (mut most, mut won) = (0, 0);
        for work in working {
            let (seen, some) = work.await.unwrap();
            (most, won) = (most.max(seen), won + some);
        }
        println!("{level}: {won} claims, {most} at a time");
        assert!(most == 3 && won > 20, "{level}: {won} claims, {most} at a time");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_more_run_is_noted_for_the_run_that_was_seen_or_not_at_all() {
    for level in LEVELS {
        let (world, a, b) = meet(level, "running").await;
        a.run("BEGIN").await.unwrap();
        a.run(&world.finish(By::Holder, "running", "completed")).await.unwrap();
        let want = b.waits(&world.want("1")).await;
        a.run("COMMIT").await.unwrap();
        assert!(want.await.unwrap().is_empty(), "{level}: it goes round, and starts");
        assert_eq!(world.look(NEXT).await, "completed 1 0", "{level}");

        let (world, a, b) = meet(level, "running").await;
        a.run("BEGIN").await.unwrap();
        assert_eq!(a.run(&world.want("1")).await.unwrap().len(), 1);
        let second = b.waits(&world.want("1")).await;
        a.run("COMMIT").await.unwrap();
        assert!(second.await.unwrap().is_empty(), "{level}: one is the first");
        assert_eq!(b.ask(&world.want("2")).await.len(), 1, "{level}: also to replace it");
        b.ask(&world.finish(By::Holder, "running", "completed")).await;
        assert_eq!(world.look(NEXT).await, "completed 1 2", "{level}: it is owed");
        assert!(b.ask(&world.claim("n1", "7")).await.is_empty(), "{level}: it has not seen that one is owed");
        assert_eq!(b.ask(&world.claim_of("1", &[("owed", "true")])).await.len(), 1, "{level}");
        assert_eq!(world.look(NEXT).await, "running 2 0", "{level}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancel_of_the_task_takes_back_what_was_asked_for_before_it_and_of_one_run_does_not() {
    for level in LEVELS {
        for (forgets, next) in [("ARRAY[true]", "cancelling 1 0"), ("ARRAY[false]", "cancelling 1 1")] {
            let (world, a, b) = meet(level, "running").await;
            a.run("BEGIN").await.unwrap();
            assert_eq!(a.run(&world.want("1")).await.unwrap().len(), 1);
            let more = [("froms", "ARRAY['running']"), ("forgets", forgets)];
            let cancel = world.group(include_str!("../../src/sql/cancel.sql"), &["1"], By::Other, &more);
            let cancel = b.waits(&cancel).await;
            a.run("COMMIT").await.unwrap();
            assert_eq!(cancel.await.unwrap().len(), 1, "{level}");
            assert_eq!(world.look(NEXT).await, next, "{level}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_under_a_key_that_asks_for_one_more_run_keeps_the_number_of_that_run() {
    for level in LEVELS {
        let (world, a, b) = meet(level, "running").await;
        a.run("BEGIN").await.unwrap();
        let start = world.claim_keyed_of(&[("wanted", "1")]);
        assert_eq!(a.run(&start).await.unwrap().len(), 1);
        let again = b.waits(&start).await;
        a.run("COMMIT").await.unwrap();
        assert!(again.await.unwrap().is_empty(), "{level}: the key was used");
        assert_eq!(world.look(NEXT).await, "running 1 1", "{level}");
        assert_eq!(world.look("SELECT started, run FROM soloist.idempotency").await, "f 2", "{level}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_for_its_time_is_made_ready_once_and_is_claimed_from_then_on() {
    for level in LEVELS {
        let (world, a, b) = meet(level, "queued").await;
        world.set("due_at = 10", "1").await;
        assert!(b.ask(&world.claim_queued()).await.is_empty(), "{level}");
        assert!(b.ask(&world.ripen("9")).await.is_empty(), "{level}");
        a.run("BEGIN").await.unwrap();
        assert_eq!(a.run(&world.ripen("10")).await.unwrap().len(), 1);
        assert!(b.ask(&world.ripen("10")).await.is_empty(), "{level}: it is passed by");
        assert!(b.ask(&world.claim_queued()).await.is_empty(), "{level}");
        a.run("COMMIT").await.unwrap();
        assert_eq!(world.look("SELECT place, due_at FROM soloist.task").await, "1 -", "{level}");
        assert_eq!(b.ask(&world.claim_queued()).await.len(), 1, "{level}");
        assert_eq!(world.look(STATE).await, "running 1 6 n1 0", "{level}");

        // One that is cancelled while it waits.
        let (world, a, b) = meet(level, "queued").await;
        world.set("due_at = 10", "1").await;
        a.run("BEGIN").await.unwrap();
        assert_eq!(a.run(&world.finish(By::Other, "queued", "cancelled")).await.unwrap().len(), 1);
        assert!(b.ask(&world.ripen("10")).await.is_empty(), "{level}");
        a.run("COMMIT").await.unwrap();
        assert!(b.ask(&world.ripen("10")).await.is_empty(), "{level}");
        assert_eq!(world.look(STATE).await, "cancelled 1 5 - 1", "{level}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_old_task_is_pruned_or_started_again_and_never_both() {
    for level in LEVELS {
        let (world, a, b) = meet(level, "completed").await;
        world.set("completed_at = 4", "1").await;
        a.run("BEGIN").await.unwrap();
        assert_eq!(a.run(&world.claim("n1", "7")).await.unwrap().len(), 1);
        assert!(b.ask(&world.prune()).await.is_empty(), "{level}: it is passed by");
        a.run("COMMIT").await.unwrap();
        assert!(b.ask(&world.prune()).await.is_empty(), "{level}");
        assert_eq!(world.look(STATE).await, "running 2 6 n1 0", "{level}");

        let (world, a, b) = meet(level, "completed").await;
        world.set("completed_at = 4", "1").await;
        a.run("BEGIN").await.unwrap();
        assert_eq!(a.run(&world.prune()).await.unwrap().len(), 1);
        assert!(b.ask(&world.claim("n1", "7")).await.is_empty(), "{level}: not decided, it goes round");
        a.run("COMMIT").await.unwrap();
        assert!(b.ask(&world.claim("n1", "7")).await.is_empty(), "{level}");
        assert!(b.ask(&world.active()).await.is_empty(), "{level}: it is gone");
        assert_eq!(world.look("SELECT count(*) FROM soloist.input").await, "0", "{level}");
    }
}
