//! Group commits of several processes that meet on the same rows.

use std::time::Duration;

use futures_util::future::join_all;
use soloist::{
    Data,
    store::{Applied, StoreError},
};
use soloist_store_contract::stage::{Stage, append, committed, events, sent};

use crate::stage::Private;

#[tokio::test(flavor = "multi_thread")]
async fn groups_over_the_same_rows_in_opposite_orders_never_wait_for_each_other_in_a_circle() {
    const TASKS: usize = 10;
    let stage = Stage::<Private>::new().await;
    let other = stage.another().await;
    let ids: Vec<String> = (0..TASKS).map(|n| n.to_string()).collect();
    let leases = join_all(ids.iter().map(|id| stage.running(id))).await;
    for round in 0..60 {
        let write = |n: usize| append(&leases[n], round, events(&leases[n], round, 1, stage.now()));
        let forth = join_all((0..TASKS).map(|n| stage.store.apply(write(n))));
        let back = join_all((0..TASKS).rev().map(|n| other.apply(write(n))));
        let (forth, back) = futures_util::join!(forth, back);
        for (one, another) in forth.into_iter().zip(back.into_iter().rev()) {
            let answers = [one.unwrap(), another.unwrap()];
            assert!(answers.contains(&Applied::Committed { last_seq: round + 1 }), "{answers:?}");
            assert!(answers.contains(&Applied::AlreadyThere), "{answers:?}");
        }
    }
    let deadlocks =
        stage.harness.0.sql("SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()");
    assert_eq!(deadlocks, "0");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_value_that_the_database_refuses_fails_its_own_write_alone() {
    let stage = Stage::<Private>::new().await;
    stage.harness.0.sql("ALTER TABLE soloist.event_batch ADD CHECK (events NOT LIKE '%forbidden%')");
    let ids: Vec<String> = (0..20).map(|n| n.to_string()).collect();
    let leases = join_all(ids.iter().map(|id| stage.running(id))).await;
    let answers = join_all(leases.iter().enumerate().map(|(n, lease)| {
        let text = if n == 7 { "forbidden" } else { "fine" };
        let event = sent("note", Data::Text(text.into()), stage.now()).at(1, lease.run(), lease.epoch());
        stage.store.apply(append(lease, 0, vec![event]))
    }))
    .await;
    for (n, answer) in answers.into_iter().enumerate() {
        match answer {
            Err(error) => {
                assert_eq!(n, 7, "{error}");
                assert!(!error.to_string().contains("forbidden"), "{error}");
            }
            Ok(answer) => assert_eq!(committed(&answer), 1),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_that_gives_way_again_and_again_holds_up_no_other_of_its_group() {
    let stage = Stage::<Private>::new().await;
    let ids: Vec<String> = (0..20).map(|n| n.to_string()).collect();
    let leases = join_all(ids.iter().map(|id| stage.running(id))).await;
    let database = &stage.harness.0;
    database.sql(
        "CREATE FUNCTION soloist.give_way() RETURNS trigger LANGUAGE plpgsql AS $$
             BEGIN
                 IF NEW.id = '7' THEN
                     RAISE EXCEPTION 'it meets others' USING ERRCODE = 'serialization_failure';
                 END IF;
                 RETURN NEW;
             END $$;
         CREATE TRIGGER give_way BEFORE UPDATE ON soloist.task FOR EACH ROW EXECUTE FUNCTION soloist.give_way()",
    );
    let writes: Vec<_> = leases
        .iter()
        .map(|lease| {
            let (store, write) = (stage.store.clone(), append(lease, 0, events(lease, 0, 1, stage.now())));
            tokio::spawn(async move { store.apply(write).await })
        })
        .collect();
    let mut hot = None;
    for (n, write) in writes.into_iter().enumerate() {
        if n == 7 {
            hot = Some(write);
            continue;
        }
        let answer =
            tokio::time::timeout(Duration::from_secs(5), write).await.expect("it waits for no other");
        assert_eq!(committed(&answer.unwrap().unwrap()), 1);
    }
    let hot = hot.unwrap();
    assert!(!hot.is_finished(), "it goes on trying");
    database.sql("DROP TRIGGER give_way ON soloist.task");
    assert_eq!(committed(&hot.await.unwrap().unwrap()), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_log_fails_its_own_write_after_a_few_tries() {
    let stage = Stage::<Private>::new().await;
    let lease = stage.running("1").await;
    let database = &stage.harness.0;
    database.sql(
        "INSERT INTO soloist.event_batch SELECT number, 1, 1, 1, 99, 1, '[]' FROM soloist.task;
         CREATE SEQUENCE soloist.tries;
         CREATE FUNCTION soloist.try() RETURNS trigger LANGUAGE plpgsql AS $$
             BEGIN
                 PERFORM nextval('soloist.tries');
                 RETURN NEW;
             END $$;
         CREATE TRIGGER try BEFORE INSERT ON soloist.event_batch FOR EACH ROW EXECUTE FUNCTION soloist.try()",
    );
    let write = append(&lease, 0, events(&lease, 0, 1, stage.now()));
    let told = stage.store.apply(write).await;
    assert!(matches!(told, Err(StoreError::Corrupt(_))), "{told:?}");
    assert_eq!(database.sql("SELECT last_value FROM soloist.tries"), "3");
}
