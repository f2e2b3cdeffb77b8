//! Creates and claims that share a statement.

use std::collections::BTreeSet;

use futures_util::future::join_all;
use soloist::{
    Create, Json, ModelKey, NewTask,
    store::{Claim, StoreError},
};
use soloist_store_contract::stage::{Stage, key};

use crate::stage::Private;

fn assigned() -> NewTask {
    NewTask::assigned(ModelKey::new("app", "Model").unwrap(), Json::null())
}

fn created(create: Create) -> soloist::Task {
    let Create::Created(task) = create else { panic!("{create:?}") };
    task
}

/// How many transactions have written the rows of the tasks as they are now.
fn commits(stage: &Stage<Private>) -> usize {
    stage.harness.0.sql("SELECT count(DISTINCT xmin::text) FROM soloist.task").parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn creates_at_once_share_commits_and_are_numbered_in_the_order_of_their_ids() {
    const TASKS: usize = 200;
    let stage = Stage::<Private>::new().await;
    let all = join_all((0..TASKS).map(|_| stage.store.create(assigned(), stage.now()))).await;
    let ids: BTreeSet<usize> =
        all.into_iter().map(|create| created(create.unwrap()).key.id().parse().unwrap()).collect();
    assert_eq!(ids, (1..=TASKS).collect());
    let commits = commits(&stage);
    println!("{commits} commits");
    assert!(commits < TASKS / 4, "{commits} commits");
    let unordered = "SELECT count(*) FROM (SELECT id::int - lag(id::int) OVER (ORDER BY number) AS step
                                             FROM soloist.task) AS step WHERE step <> 1";
    assert_eq!(stage.harness.0.sql(unordered), "0");
    assert_eq!(stage.harness.0.sql("SELECT count(*) FROM soloist.input"), TASKS.to_string());
}

#[tokio::test(flavor = "multi_thread")]
async fn ids_that_are_taken_are_skipped_by_creates_at_once_and_those_of_deleted_tasks_go_on_from_there() {
    const TASKS: u64 = 60;
    let stage = Stage::<Private>::new().await;
    for id in [3, 7, 50] {
        stage.pending(&id.to_string()).await;
    }
    stage.running("5").await;
    let gone = stage.pending("40").await;
    stage.store.delete(&gone, None, stage.now()).await.unwrap();
    let all = join_all((0..TASKS).map(|_| stage.store.create(assigned(), stage.now()))).await;
    let ids: BTreeSet<u64> =
        all.into_iter().map(|create| created(create.unwrap()).key.id().parse().unwrap()).collect();
    assert_eq!(ids.len() as u64, TASKS, "each has a name of its own");
    assert!([3, 5, 7, 50].iter().all(|id| !ids.contains(id)) && ids.contains(&40), "{ids:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_name_that_many_create_at_once_is_created_once() {
    let stage = Stage::<Private>::new().await;
    let other = stage.another().await;
    let new = |n: usize| NewTask::named(key(&(n % 20).to_string()), Json::null());
    let here = join_all((0..60).map(|n| stage.store.create(new(n), stage.now())));
    let there = join_all((0..60).rev().map(|n| other.create(new(n), stage.now())));
    let (here, there) = futures_util::join!(here, there);
    let mut made = Vec::new();
    for create in here.into_iter().chain(there) {
        match create.unwrap() {
            Create::Created(task) => made.push(task.key),
            Create::Exists(_) => {}
            other => panic!("{other:?}"),
        }
    }
    made.sort_by_key(|key| key.id().parse::<u32>().unwrap());
    assert_eq!(made, (0..20).map(|n| key(&n.to_string())).collect::<Vec<_>>());
    let deadlocks =
        stage.harness.0.sql("SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()");
    assert_eq!(deadlocks, "0");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_create_that_the_database_refuses_fails_alone() {
    let stage = Stage::<Private>::new().await;
    stage.harness.0.sql("ALTER TABLE soloist.task ADD CHECK (id <> '7')");
    let new = |n: usize| NewTask::named(key(&n.to_string()), Json::null());
    let all = join_all((0..30).map(|n| stage.store.create(new(n), stage.now()))).await;
    for (n, create) in all.into_iter().enumerate() {
        match create {
            Ok(create) => assert_eq!(created(create).key.id(), n.to_string()),
            Err(error) => assert!(n == 7 && matches!(error, StoreError::Corrupt(_)), "{n}: {error}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn claims_at_once_share_commits_and_each_task_has_one_winner() {
    const TASKS: usize = 100;
    let stage = Stage::<Private>::new().await;
    let ids: Vec<String> = (0..TASKS).map(|n| n.to_string()).collect();
    let keys = join_all(ids.iter().map(|id| stage.pending(id))).await;
    let other = stage.another().await;
    let here = join_all(keys.iter().chain(&keys).map(|key| stage.store.claim(stage.request(key))));
    let there = join_all(keys.iter().rev().map(|key| other.claim(stage.request(key))));
    let nobody = stage.store.claim(stage.request(&key("nobody")));
    let (here, there, nobody) = futures_util::join!(here, there, nobody);
    assert!(matches!(nobody.unwrap(), Claim::Missing));
    let mut won = 0;
    for claim in here.into_iter().chain(there) {
        match claim.unwrap() {
            Claim::Won(run) => {
                won += 1;
                assert_eq!((run.run, run.attempt, run.input.as_str()), (1, 1, "{}"));
            }
            Claim::Active(row) => assert_eq!(row.run, 1),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(won, TASKS);
    let commits = commits(&stage);
    println!("{commits} commits");
    assert!(commits < TASKS / 2, "{commits} commits");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_claim_whose_row_is_locked_is_passed_by_and_holds_up_no_other() {
    let stage = Stage::<Private>::new().await;
    let ids: Vec<String> = (0..20).map(|n| n.to_string()).collect();
    let keys = join_all(ids.iter().map(|id| stage.pending(id))).await;
    let (client, connection) =
        tokio_postgres::connect(&stage.harness.0.url(), tokio_postgres::NoTls).await.unwrap();
    tokio::spawn(connection);
    client.batch_execute("BEGIN; SELECT 1 FROM soloist.task WHERE id = '7' FOR UPDATE").await.unwrap();
    let locked = {
        let (store, request) = (stage.store.clone(), stage.request(&keys[7]));
        tokio::spawn(async move { store.claim(request).await })
    };
    let free = keys.iter().filter(|key| key.id() != "7");
    for claim in join_all(free.map(|key| stage.store.claim(stage.request(key)))).await {
        assert!(matches!(claim.unwrap(), Claim::Won(_)));
    }
    client.batch_execute("COMMIT").await.unwrap();
    assert!(matches!(locked.await.unwrap().unwrap(), Claim::Won(_)));
}

#[tokio::test(flavor = "multi_thread")]
async fn claims_of_a_node_that_is_dead_win_nothing_beside_those_of_one_that_lives() {
    let stage = Stage::<Private>::new().await;
    let dead = stage.join().await;
    stage.bury(&dead).await;
    let ids: Vec<String> = (0..20).map(|n| n.to_string()).collect();
    let keys = join_all(ids.iter().map(|id| stage.pending(id))).await;
    let claims = keys.iter().enumerate().map(|(n, key)| {
        let mut request = stage.request(key);
        if n % 2 == 0 {
            request.node = dead.clone();
        }
        stage.store.claim(request)
    });
    for (n, claim) in join_all(claims).await.into_iter().enumerate() {
        match claim.unwrap() {
            Claim::Won(_) => assert_eq!(n % 2, 1),
            Claim::NodeDead => assert_eq!(n % 2, 0),
            other => panic!("{other:?}"),
        }
    }
}
