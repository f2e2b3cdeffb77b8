//! What becomes of the number of a run that was promised to a start.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use soloist::{
    CancelOptions, Coordinator, Delete, Error, Failure, IdempotencyKey, Json, Key, MemoryStore, ModelKey,
    ModelOptions, NewTask, NextRun, Policy, Runner, Start, StartOptions, Status, Store, Timestamp,
    idempotency::{Call, Idempotency},
    state::Place,
    store::{Claim, ClaimRequest, StoreResult},
};
use soloist_store_contract::line::{Between, Line};
use tokio::sync::Semaphore;

/// A line on which a claim for a run that was promised waits for a permit.
struct Late {
    store: MemoryStore,
    arrived: Semaphore,
    goes_on: Semaphore,
}

#[async_trait]
impl Between for Late {
    fn store(&self) -> &dyn Store {
        &self.store
    }

    async fn claim(&self, request: ClaimRequest) -> StoreResult<Claim> {
        if request.after.is_some() {
            self.arrived.add_permits(1);
            self.goes_on.acquire().await.unwrap().forget();
        }
        self.store.claim(request).await
    }
}

/// Work that lets go where the test says so, whatever it is asked.
struct Held(Semaphore);

#[async_trait]
impl Runner for Held {
    fn kind(&self) -> &'static str {
        "held"
    }

    fn check(&self, _: &Json) -> soloist::Result<()> {
        Ok(())
    }

    async fn run(&self, _: Json, _: soloist::Context) -> Result<Json, Failure> {
        self.0.acquire().await.unwrap().forget();
        Ok(Json::null())
    }
}

struct World {
    store: MemoryStore,
    line: Arc<Line<Late>>,
    work: Arc<Held>,
    node: Coordinator,
    key: Key,
}

impl World {
    /// A task that runs at a node whose claims for promised runs wait.
    async fn new() -> Self {
        let store = MemoryStore::new();
        let late = Late { store: store.clone(), arrived: Semaphore::new(0), goes_on: Semaphore::new(0) };
        let (line, work) = (Arc::new(Line(late)), Arc::new(Held(Semaphore::new(0))));
        let node = open(line.clone(), &work).await;
        let key = model().with_id("1").unwrap();
        node.create(NewTask::named(key.clone(), Json::null())).await.unwrap();
        assert_eq!(start(&node, &key, Policy::Restart).await.unwrap(), Start::Started { run: 1 });
        Self { store, line, work, node, key }
    }

    async fn until_cancelling(&self) {
        let cancelling = async {
            while self.node.task(&self.key).await.unwrap().status != Status::Cancelling {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(60), cancelling).await.expect("it is asked to stop");
    }

    async fn cancel(&self) {
        self.node.cancel(&self.key, CancelOptions::default()).await.unwrap();
    }

    async fn end(&self) {
        self.work.0.add_permits(1);
        self.node.ended(&self.key, 1).await.unwrap();
    }
}

fn model() -> ModelKey {
    ModelKey::new("t", "Held").unwrap()
}

async fn open(store: Arc<dyn Store>, work: &Arc<Held>) -> Coordinator {
    let builder = Coordinator::builder(store).linger(Duration::from_millis(50));
    builder.runner(model(), work.clone(), ModelOptions::default()).open().await.unwrap()
}

async fn start(at: &Coordinator, key: &Key, policy: Policy) -> soloist::Result<Start> {
    at.start(key, StartOptions { policy, ..StartOptions::default() }).await
}

#[tokio::test]
async fn s1_a_replace_whose_promise_was_taken_back_is_never_told_of_the_run_that_another_start_began() {
    for is_deleted in [false, true] {
        let world = World::new().await;
        let (node, key) = (world.node.clone(), world.key.clone());
        let replace = tokio::spawn(async move { start(&node, &key, Policy::Replace).await });
        world.until_cancelling().await;
        if is_deleted {
            world.end().await;
            world.line.arrived.acquire().await.unwrap().forget();
            assert_eq!(world.node.delete(&world.key, None).await.unwrap(), Delete::Deleted);
            world.node.create(NewTask::named(world.key.clone(), Json::null())).await.unwrap();
        } else {
            world.cancel().await;
            world.end().await;
            world.line.arrived.acquire().await.unwrap().forget();
        }
        let other = open(Arc::new(world.store.clone()), &world.work).await;
        let won = start(&other, &world.key, Policy::Restart).await.unwrap();
        assert_eq!(won, Start::Started { run: 3 }, "run 2 was promised; deleted: {is_deleted}");
        world.line.goes_on.add_permits(Semaphore::MAX_PERMITS / 2);
        match replace.await.unwrap() {
            Ok(Start::AlreadyActive { run: 3, status: Status::Running, .. }) => {}
            // It looked while the task was not there.
            Err(Error::NotFound { .. }) if is_deleted => {}
            told => panic!("deleted: {is_deleted}: {told:?}"),
        }
        // Whoever waits for what never begins does not wait.
        let seen = other.ended(&world.key, 2).await.unwrap();
        assert_eq!((seen.run, seen.status), (3, Status::Running));
        world.work.0.add_permits(1);
        assert_eq!(other.ended(&world.key, 3).await.unwrap().status, Status::Completed);
        for node in [&world.node, &other] {
            node.shutdown(Duration::ZERO).await;
        }
    }
}

#[tokio::test]
async fn a_replace_whose_promise_was_taken_back_is_told_how_the_task_ended() {
    let world = World::new().await;
    world.line.goes_on.add_permits(Semaphore::MAX_PERMITS / 2);
    let (node, key) = (world.node.clone(), world.key.clone());
    let replace = tokio::spawn(async move { start(&node, &key, Policy::Replace).await });
    world.until_cancelling().await;
    world.cancel().await;
    world.end().await;
    let told = replace.await.unwrap().unwrap();
    assert_eq!(told, Start::AlreadyFinished { run: 1, status: Status::Completed });
    let task = world.node.task(&world.key).await.unwrap();
    assert_eq!((task.run, task.following_run(), task.next_run), (1, 3, NextRun::None));
    let next = start(&world.node, &world.key, Policy::Restart).await.unwrap();
    assert_eq!(next, Start::Started { run: 3 });
    world.work.0.add_permits(1);
    world.node.shutdown(Duration::from_secs(10)).await;
}

/// The first use of the key came no further than to the promise; a promise of before was taken back, so the active run is not
/// the one before the promised one.
#[tokio::test]
async fn a_replace_that_is_sent_again_goes_on_where_its_first_use_stopped() {
    let world = World::new().await;
    world.line.goes_on.add_permits(Semaphore::MAX_PERMITS / 2);
    assert!(matches!(start(&world.node, &world.key, Policy::Rerun).await, Ok(Start::Next { run: 2, .. })));
    world.cancel().await;
    let idempotency = IdempotencyKey::new("k").unwrap();
    let promise = ClaimRequest {
        key: world.key.clone(),
        node: world.node.node(),
        policy: Policy::Replace,
        place: Place::Here,
        after: None,
        max_total: None,
        idempotency: Some(Idempotency::start(&idempotency, Call::Start, Policy::Replace)),
        trace: None,
        at: Timestamp::now(),
    };
    let Claim::Rerun { current, first: true } = world.store.claim(promise).await.unwrap() else {
        panic!("a run is active")
    };
    assert_eq!((current.run, current.following_run()), (1, 3));
    let options =
        StartOptions { policy: Policy::Replace, idempotency: Some(idempotency), ..StartOptions::default() };
    let again = world.node.start(&world.key, options.clone());
    let (again, ()) = tokio::join!(again, async { world.work.0.add_permits(1) });
    assert!(matches!(again.unwrap(), Start::Replayed { started: false, run: 3, .. }));
    let task = world.node.task(&world.key).await.unwrap();
    assert_eq!((task.run, task.status), (3, Status::Running), "it has begun when the answer comes");
    // And once more, when there is nothing left to do.
    let again = world.node.start(&world.key, options).await.unwrap();
    assert!(matches!(again, Start::Replayed { started: false, run: 3, .. }));
    assert_eq!(world.node.task(&world.key).await.unwrap().status, Status::Running);
    world.work.0.add_permits(1);
    world.node.shutdown(Duration::from_secs(10)).await;
}
