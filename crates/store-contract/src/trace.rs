//! The trace of a start is the trace of its run: every attempt is given it, and so is told when the run began; the next run
//! is given its own.

use soloist::{
    IdempotencyKey, Policy, TraceContext,
    idempotency::{Call, Idempotency},
    state::Place,
    store::{Claim, ClaimRequest},
};

use crate::{
    Harness,
    stage::{Stage, committed, completed},
};

fn trace(parent_id: u8, state: Option<&str>) -> Option<TraceContext> {
    let parent = format!("00-4bf92f3577b34da6a3ce929d0e0e4736-{parent_id:016x}-01");
    Some(TraceContext::new(&parent, state).expect("a valid trace"))
}

/// Whether it is run at once or waits for a node, under an idempotency key or none.
fn ways<H: Harness>(stage: &Stage<H>, key: &soloist::Key) -> Vec<ClaimRequest> {
    let mut ways = Vec::new();
    for place in [Place::Here, Place::Queue] {
        for text in [None, Some("k")] {
            let text = text.map(|text| format!("{text}-{place:?}"));
            let idempotency = text.map(|text| {
                let key = IdempotencyKey::new(text).expect("a valid key");
                Idempotency::start(&key, Call::Start, Policy::Restart)
            });
            ways.push(ClaimRequest { place, idempotency, ..stage.request(key) });
        }
    }
    ways
}

/// The claim that begins it, the one from the queue, and those after takeovers; on record, too.
pub async fn every_attempt_of_a_run_is_given_the_trace_of_its_start<H: Harness>() {
    let stage = Stage::<H>::new().await;
    let key = stage.retried("1", 5).await;
    for (way, state) in
        ways(&stage, &key).into_iter().zip([Some("rojo=1,congo=2"), None, Some("a=1"), Some("b=\"2\"")])
    {
        let given = trace(7, state);
        let (lease, mut since) = match stage.ask(ClaimRequest { trace: given.clone(), ..way }).await {
            Claim::Won(won) => {
                let lease = soloist::lease::RunLease::from_claim(key.clone(), stage.node.clone(), &won);
                (Some(lease), Some(won.started_at))
            }
            Claim::Queued(row) => (None, row.started_at),
            lost => panic!("{lost:?}"),
        };
        assert_eq!(stage.task(&key).await.trace, given, "also while it waits");
        let mut lease = match lease {
            Some(lease) => lease,
            None => stage.next_queued().await.expect("it waits").0,
        };
        let mut last = lease.start_seq();
        for attempt in 1..=3 {
            assert_eq!((lease.attempt(), lease.trace()), (attempt, given.as_ref()));
            assert_eq!(lease.since(), *since.get_or_insert(lease.since()), "the run began once");
            let task = stage.task(&key).await;
            assert_eq!((&task.trace, task.started_at), (&given, since));
            if attempt < 3 {
                last = committed(&stage.apply(stage.requeued(&lease)).await);
                assert_eq!(stage.task(&key).await.trace, given);
                lease = stage.next_queued().await.expect("it waits").0;
            }
        }
        committed(&stage.finish(&lease, last, completed("1")).await);
    }
}

/// Neither where it names another, nor where it names none.
pub async fn the_next_run_does_not_inherit_a_trace<H: Harness>() {
    let stage = Stage::<H>::new().await;
    let key = stage.pending("1").await;
    for (way, next) in ways(&stage, &key).into_iter().zip([None, trace(9, None), None, trace(9, None)]) {
        let first = ClaimRequest { trace: trace(8, Some("a=1")), ..stage.request(&key) };
        let Claim::Won(won) = stage.ask(first).await else { panic!("it can be started") };
        let lease = soloist::lease::RunLease::from_claim(key.clone(), stage.node.clone(), &won);
        let lost = ClaimRequest { trace: trace(10, None), ..stage.request(&key) };
        assert!(matches!(stage.ask(lost).await, Claim::Active(_)));
        assert_eq!(stage.task(&key).await.trace, trace(8, Some("a=1")), "a start that loses leaves nothing");
        committed(&stage.finish(&lease, won.last_seq, completed("1")).await);
        let lease = match stage.ask(ClaimRequest { trace: next.clone(), ..way }).await {
            Claim::Won(won) => soloist::lease::RunLease::from_claim(key.clone(), stage.node.clone(), &won),
            Claim::Queued(_) => stage.next_queued().await.expect("it waits").0,
            lost => panic!("{lost:?}"),
        };
        assert_eq!((lease.trace(), &stage.task(&key).await.trace), (next.as_ref(), &next));
        committed(&stage.finish(&lease, lease.start_seq(), completed("2")).await);
    }
    stage.delete(&key).await;
    stage.pending("1").await;
    assert_eq!(stage.task(&key).await.trace, None, "nor does a new task of that key");
}
