//! Opening: many nodes at once, older ones beside newer tables, and what is refused, in words that hold no secret.

use std::time::{Duration, Instant};

use soloist::{
    Store, TaskFilter,
    store::{Prune, QueuedClaim},
};
use soloist_postgres::{OpenError, PgOptions, PgStore};
use soloist_test_postgres::Cluster;

use crate::stage::{plain, schema, within};

#[tokio::test(flavor = "multi_thread")]
async fn of_eight_nodes_that_open_at_once_one_makes_the_tables_and_all_use_them() {
    for _ in 0..5 {
        let schema = schema();
        let opening: Vec<_> = (0..8)
            .map(|_| {
                let options = within(&schema);
                tokio::spawn(async move { PgStore::open_with(&plain().url(), options).await.unwrap() })
            })
            .collect();
        for store in opening {
            let store = store.await.unwrap();
            let all = TaskFilter { limit: 1, ..TaskFilter::default() };
            assert!(store.list(all).await.unwrap().tasks.is_empty());
        }
        assert_eq!(
            plain().sql(&format!(
                "SELECT string_agg(version::text, ' ' ORDER BY version) FROM {schema}.migration"
            )),
            "1 2 3 4 5"
        );
    }
}

#[tokio::test]
async fn an_older_node_goes_on_beside_newer_tables_that_only_add_and_is_told_of_others() {
    let schema = schema();
    PgStore::open_with(&plain().url(), within(&schema)).await.unwrap();
    let migrated = |version: i32, compatible_from: i32| {
        let values = format!("({version}, {compatible_from})");
        plain().sql(&format!("INSERT INTO {schema}.migration (version, compatible_from) VALUES {values}"));
    };
    migrated(998, 1);
    plain().sql(&format!("ALTER TABLE {schema}.task ADD COLUMN colour text"));
    let store = PgStore::open_with(&plain().url(), within(&schema)).await.unwrap();
    let new = soloist::NewTask::named("a/B/1".parse().unwrap(), soloist::Json::null());
    store.create(new, soloist::Timestamp::now()).await.unwrap();
    assert!(store.task(&"a/B/1".parse().unwrap()).await.unwrap().is_some());
    migrated(999, 998);
    let refused = PgStore::open_with(&plain().url(), within(&schema)).await.unwrap_err();
    assert!(matches!(refused, OpenError::NewerVersion { found: 999, .. }), "{refused}");
}

/// What stood in the tables before runs had due times, and models slots.
#[tokio::test]
async fn tables_of_an_older_version_are_brought_up_to_date_with_what_they_hold() {
    let schema = schema();
    let tables = [
        include_str!("../../src/migrations/0001_tables.sql"),
        include_str!("../../src/migrations/0002_queue_of_model.sql"),
        "CREATE TABLE soloist.migration (version integer PRIMARY KEY, compatible_from integer NOT NULL,
                                         applied_at timestamptz NOT NULL DEFAULT now());
         INSERT INTO soloist.migration VALUES (1, 1), (2, 1);
         INSERT INTO soloist.node (id, joined_at, lease_us, lease_until_us) VALUES ('n', 0, 1, 1);
         INSERT INTO soloist.node_model (app, model, node) VALUES ('a', 'B', 'n');
         INSERT INTO soloist.task (app, model, id, status, run, attempt, epoch, node, place, created_at, updated_at,
                                   completed_at, started_at)
         VALUES ('a', 'B', '1', 'queued', 1, 1, 0, NULL, 1, 0, 0, NULL, NULL),
                ('a', 'B', '2', 'running', 1, 1, 1, 'n', NULL, 0, 0, NULL, 0),
                ('a', 'B', '3', 'completed', 1, 1, 1, NULL, NULL, 0, 0, 5, 0);
         INSERT INTO soloist.input SELECT number, '{}' FROM soloist.task",
    ];
    plain().sql(&format!(
        "CREATE SCHEMA {schema}; {}",
        tables.join(";").replace("soloist.", &format!("{schema}."))
    ));
    let store = PgStore::open_with(&plain().url(), within(&schema)).await.unwrap();
    let (model, at) = (soloist::ModelKey::new("a", "B").unwrap(), soloist::Timestamp::from_micros(9));
    let waits = store.task(&model.with_id("1").unwrap()).await.unwrap().unwrap();
    assert_eq!((waits.position, waits.due_at, waits.next_run), (Some(1), None, soloist::NextRun::None));
    assert_eq!((waits.taken_back, waits.following_run()), (0, 2));
    assert_eq!(store.serves(&model).await.unwrap(), Some(soloist::RunTerms::default()));
    let node = soloist::NodeId::from_store("n");
    let take = |max| QueuedClaim { node: node.clone(), models: vec![(model.clone(), Some(max))], at };
    assert!(store.claim_queued(take(1)).await.unwrap().is_none(), "one runs, without a slot");
    assert_eq!(store.claim_queued(take(2)).await.unwrap().map(|(key, _)| key), Some(waits.key));
    let (status, before) = (soloist::Status::Completed, at);
    let old = Prune { model: model.clone(), status, before, limit: 10 };
    assert_eq!(store.prune(old, at).await.unwrap(), [model.with_id("3").unwrap()]);
}

#[tokio::test]
async fn stores_in_two_schemas_of_one_database_do_not_meet() {
    let (first, second) = (schema(), schema());
    let key: soloist::Key = "a/B/1".parse().unwrap();
    let new = || soloist::NewTask::named(key.clone(), soloist::Json::null());
    let first = PgStore::open_with(&plain().url(), within(&first)).await.unwrap();
    let second = PgStore::open_with(&plain().url(), within(&second)).await.unwrap();
    first.create(new(), soloist::Timestamp::now()).await.unwrap();
    assert!(second.task(&key).await.unwrap().is_none());
}

#[tokio::test]
async fn what_cannot_be_opened_is_told_without_the_password() {
    let secret = "s3cr3t";
    let unused = soloist_test_postgres::free_port();
    let mut said = Vec::new();
    for url in [
        format!("postgres://ada:{secret}@localhost:{unused}/app"),
        format!("postgres://ada:{secret}@localhost:port/app"),
        format!("postgres://ada:{secret}@localhost/app?sslmode=verify-full"),
        plain().url().replace("postgres@", &format!("nobody_of_that_name:{secret}@")),
    ] {
        let begun = Instant::now();
        let error = PgStore::open(&url).await.unwrap_err();
        assert!(begun.elapsed() < Duration::from_secs(3), "{url}");
        said.push(format!("{error} {error:?}"));
    }
    assert!(said.iter().all(|text| !text.contains(secret)), "{said:?}");
    assert!(said[0].contains(&format!("postgres://ada@localhost:{unused}/app")), "{}", said[0]);
    let bad = PgStore::open_with(&plain().url(), within("a\"b")).await.unwrap_err();
    assert!(matches!(bad, OpenError::InvalidSchema { .. }));
}

#[tokio::test]
async fn neither_a_store_nor_its_options_show_a_password() {
    let url = plain().url().replace("postgres@", "postgres:s3cr3t@");
    let options = PgOptions { listen_url: Some(url.clone()), ..within(&schema()) };
    let store = PgStore::open_with(&url, options.clone()).await.unwrap();
    let shown = format!("{store:?} {options:?}");
    assert!(!shown.contains("s3cr3t"), "{shown}");
    assert!(shown.contains(plain().name()), "{shown}");
}

#[tokio::test]
async fn a_database_that_answers_before_the_disk_is_refused() {
    for setting in ["off", "local"] {
        let database = Cluster::shared().database("lazy");
        database.set(&format!("synchronous_commit = {setting}"));
        let refused = PgStore::open(&database.url()).await.unwrap_err();
        assert!(matches!(&refused, OpenError::NotDurable { found } if found == setting), "{refused}");
    }
}
