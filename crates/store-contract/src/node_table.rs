//! The guards of nodes and of the queue, held against the store: every node, every question, the same answer as the pure
//! functions give.
//!
//! Decides: which combinations there are. What a node's row must look like is kept beside it as the guards have it.

use std::{collections::BTreeSet, time::Duration};

use soloist::{
    NewTask, NodeId, Policy, Status, Timestamp,
    lease::RunLease,
    state::Place,
    store::{
        Claim, ClaimRequest, Current, Evidence, NewNode, QueuedClaim, Renewal,
        guard::{self, NodeRow, Now},
    },
};

use crate::{
    Harness,
    stage::{Stage, committed, json, model},
};

/// How a node came to be as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Its lease is good.
    Living,
    /// Its lease ends now.
    Ending,
    /// Its lease ended before, and nobody has buried it.
    Over,
    /// It was buried.
    Dead,
    /// It has left.
    Left,
    /// It never joined.
    Unknown,
}

const KINDS: [Kind; 6] = [Kind::Living, Kind::Ending, Kind::Over, Kind::Dead, Kind::Left, Kind::Unknown];

/// A node, and its row as the guards have it.
struct Node {
    kind: Kind,
    id: NodeId,
    row: Option<NodeRow>,
}

impl Kind {
    /// Its lease, where the clock will have moved by [`DYING`] and then by [`PASSED`].
    fn lease(self) -> Duration {
        match self {
            Self::Living | Self::Left | Self::Unknown => 10 * (DYING + PASSED),
            Self::Ending => DYING + PASSED,
            Self::Over => DYING + PASSED / 2,
            Self::Dead => DYING,
        }
    }
}

/// After so long those are buried that are to be dead.
const DYING: Duration = Duration::from_secs(10);
/// After so long again questions are asked.
const PASSED: Duration = Duration::from_secs(10);

fn now<H>(stage: &Stage<H>) -> Now<'static> {
    use soloist::BootClock as _;
    Now { boot_id: "boot", time: stage.boot.now() }
}

/// So many nodes of each kind, all joined; those that are to be dead, or to have left, are so only after [`pass`].
async fn nodes<H: Harness>(stage: &Stage<H>, of_each: usize) -> Vec<Node> {
    let mut all = Vec::new();
    for kind in KINDS {
        for _ in 0..of_each {
            let new = NewNode { lease: kind.lease(), ..stage.new_node() };
            let (id, row) = (new.id.clone(), NodeRow::joined(new.lease, now(stage)));
            if kind != Kind::Unknown {
                stage.nodes.keep(&id, stage.store.join(new).await.expect("joined"));
            }
            all.push(Node { kind, id, row: (kind != Kind::Unknown).then_some(row) });
        }
    }
    all
}

/// Time passes, some are buried, and some leave.
async fn pass<H: Harness>(stage: &Stage<H>, nodes: &mut [Node]) {
    stage.boot.advance(DYING);
    bury(stage, nodes, Evidence::Lease).await;
    for node in nodes.iter_mut().filter(|node| node.kind == Kind::Left) {
        let mut heartbeat = stage.nodes.take(&node.id);
        heartbeat.leave().expect("the store works");
        stage.nodes.keep(&node.id, heartbeat);
        node.row.as_mut().expect("it has joined").dead = true;
    }
    stage.boot.advance(PASSED);
}

/// Those are buried that the guard buries.
async fn bury<H: Harness>(stage: &Stage<H>, nodes: &mut [Node], evidence: Evidence) {
    let buried: BTreeSet<_> =
        stage.store.bury(evidence).await.expect("the store works").into_iter().collect();
    for Node { kind, id, row } in nodes {
        let expected = row.as_ref().is_some_and(|row| guard::buries(row, evidence, now(stage)));
        assert_eq!(buried.contains(id), expected, "{kind:?} by {evidence:?}: {row:?}");
        if let (Some(row), true) = (row, expected) {
            row.dead = true;
        }
    }
}

/// Their heartbeats are answered as the guard says.
fn renew<H: Harness>(stage: &Stage<H>, nodes: &mut [Node]) {
    for Node { kind, id, row } in nodes {
        let Some(row) = row else { continue };
        let expected = guard::renews(Some(row), now(stage));
        assert_eq!(stage.nodes.renew(id), expected, "{kind:?}: {row:?}");
        if expected == Renewal::Renewed {
            row.lease_until = now(stage).time + row.lease;
        }
    }
}

/// Every (living, lease ending, over, dead, left; heartbeat, burial by each evidence; before and after one another).
pub async fn every_heartbeat_and_every_burial_is_answered_as_the_guard_says<H: Harness>() {
    for order in 0..3 {
        let stage = Stage::<H>::new().await;
        let mut all = nodes(&stage, 3).await;
        pass(&stage, &mut all).await;
        if order == 0 {
            renew(&stage, &mut all);
        }
        bury(&stage, &mut all, Evidence::Certain).await;
        if order == 1 {
            renew(&stage, &mut all);
        }
        bury(&stage, &mut all, Evidence::Lease).await;
        renew(&stage, &mut all);
        bury(&stage, &mut all, Evidence::Lease).await;
        let lives = |node: &&Node| guard::is_alive(node.row.as_ref());
        assert_eq!(all.iter().filter(lives).count(), 3, "the living ones alone");
    }
}

/// Every (node, status of what it holds): an orphan or none.
pub async fn every_orphan_is_one_that_the_guard_calls_so<H: Harness>() {
    let stage = Stage::<H>::new().await;
    let mut all = nodes(&stage, 1).await;
    let mut held = Vec::new();
    for (n, node) in all.iter().enumerate().filter(|(_, node)| node.row.is_some()) {
        for status in [Status::Running, Status::Cancelling, Status::Queued, Status::Failed] {
            let key = stage.pending(&format!("{n}-{status}")).await;
            let Claim::Won(won) =
                stage.ask(ClaimRequest { node: node.id.clone(), ..stage.request(&key) }).await
            else {
                panic!("it is pending")
            };
            let lease = RunLease::from_claim(key.clone(), node.id.clone(), &won);
            match status {
                Status::Cancelling => drop(committed(&stage.cancel(&lease, "stop").await)),
                Status::Queued => drop(committed(&stage.apply(stage.requeued(&lease)).await)),
                Status::Failed => drop(committed(&stage.apply(stage.lost(&lease)).await)),
                _ => {}
            }
            held.push((n, key));
        }
    }
    pass(&stage, &mut all).await;
    for is_buried in [false, true] {
        if is_buried {
            bury(&stage, &mut all, Evidence::Lease).await;
        }
        let orphans = stage.store.orphans(1_000).await.expect("the store works");
        let orphans: BTreeSet<_> = orphans.into_iter().map(|orphan| orphan.key).collect();
        for (n, key) in &held {
            let row = Current::from(&stage.task(key).await);
            let expected = guard::is_orphaned(&row, all[*n].row.as_ref());
            assert_eq!(orphans.contains(key), expected, "{key} of {:?}", all[*n].kind);
        }
    }
}

/// Every (claimer, status, its time has come or not, as many of its model run as may or not).
pub async fn every_claim_from_the_queue_is_answered_as_the_guard_says<H: Harness>() {
    let stage = Stage::<H>::new().await;
    let mut all = nodes(&stage, 1).await;
    let mut cases = Vec::new();
    for n in 0..all.len() {
        for status in Status::ALL {
            for (is_due, is_full) in [(true, false), (true, true), (false, false), (false, true)] {
                let name = format!("{status}-{n}-{is_due}-{is_full}");
                let key = in_status(&stage, &name, status, is_due).await;
                if is_full {
                    let beside = model(&name).with_id("beside").expect("a valid id");
                    stage
                        .store
                        .create(NewTask::named(beside.clone(), json("1")), stage.now())
                        .await
                        .expect("created");
                    let taken = ClaimRequest { max_total: None, ..stage.request(&beside) };
                    assert!(matches!(stage.ask(taken).await, Claim::Won(_)));
                }
                cases.push((n, key, is_due, is_full));
            }
        }
    }
    pass(&stage, &mut all).await;
    for (n, key, is_due, is_full) in cases {
        let before = Current::from(&stage.task(&key).await);
        let node = &all[n];
        let expected = guard::takes_from_queue(&before, is_due, is_full, node.row.as_ref());
        // Of what is not to be full there is room for one more, whatever is held.
        let max_total = if is_full { Some(1) } else { Some(2) };
        let models = vec![(key.model_key().clone(), max_total)];
        let request = QueuedClaim { node: node.id.clone(), models, at: stage.now() };
        let taken = stage.store.claim_queued(request).await.expect("the store works");
        let case = format!("{key} by {:?}", node.kind);
        assert_eq!(taken.as_ref().map(|(key, _)| key), expected.then_some(&key), "{case}");
        let after = Current::from(&stage.task(&key).await);
        match taken {
            None => assert_eq!(after, before, "{case}"),
            Some((_, won)) => {
                assert_eq!((won.epoch, won.run), (before.epoch.next(), before.run), "{case}");
                assert_eq!((after.status, after.node), (Status::Running, Some(node.id.clone())), "{case}");
            }
        }
    }
}

/// A task of a model of its own. One whose time has not come waits in the queue in any case.
async fn in_status<H: Harness>(stage: &Stage<H>, name: &str, status: Status, is_due: bool) -> soloist::Key {
    let key = model(name).with_id("1").expect("a valid id");
    let later = Timestamp::from_micros(stage.now().as_micros() + 3_600_000_000);
    let is_delayed = status == Status::Queued && !is_due;
    let new = NewTask { run_at: is_delayed.then_some(later), ..NewTask::named(key.clone(), json("1")) };
    stage.store.create(new, stage.now()).await.expect("created");
    let place = if status == Status::Queued { Place::Queue } else { Place::Here };
    let start = ClaimRequest { place, policy: Policy::Restart, ..stage.request(&key) };
    let lease = match status {
        Status::Pending => return key,
        _ => match stage.ask(start).await {
            Claim::Won(won) => RunLease::from_claim(key.clone(), stage.node.clone(), &won),
            Claim::Queued(_) => return key,
            lost => panic!("it is pending: {lost:?}"),
        },
    };
    match status {
        Status::Pending | Status::Queued | Status::Running => {}
        Status::Cancelling => drop(committed(&stage.cancel(&lease, "stop").await)),
        Status::Completed => {
            committed(&stage.finish(&lease, 0, crate::stage::completed("1")).await);
        }
        Status::Failed => drop(committed(&stage.apply(stage.lost(&lease)).await)),
        Status::Cancelled => {
            stage.cancel(&lease, "stop").await;
            committed(&stage.apply(stage.lost_while_cancelling(&lease)).await);
        }
    }
    key
}
