//! Creates under an idempotency key.

use soloist::{Create, IdempotencyKey, Json, ModelKey, NewTask, idempotency::Idempotency};
use soloist_store_contract::stage::Stage;

use crate::stage::Private;

#[tokio::test(flavor = "multi_thread")]
async fn a_create_under_a_key_is_one_statement_so_that_a_node_that_stops_in_it_locks_nothing() {
    let stage = Stage::<Private>::new().await;
    let see = |table: &str| {
        format!(
            "CREATE TRIGGER see AFTER INSERT OR UPDATE ON soloist.{table} FOR EACH ROW EXECUTE FUNCTION soloist.see();"
        )
    };
    let database = &stage.harness.0;
    database.sql(&format!(
        "CREATE TABLE soloist.seen (source text, said text);
         CREATE FUNCTION soloist.see() RETURNS trigger LANGUAGE plpgsql AS $$
             BEGIN
                 INSERT INTO soloist.seen VALUES (TG_TABLE_NAME, current_query());
                 RETURN NULL;
             END $$;
         {}{}{}",
        see("model_id"),
        see("task"),
        see("idempotency")
    ));
    let plain = NewTask::assigned(ModelKey::new("app", "Model").unwrap(), Json::null());
    let key = Idempotency::create(&IdempotencyKey::new("k").unwrap(), &plain, "");
    let new = || NewTask { idempotency: Some(key.clone()), ..plain.clone() };
    let Create::Created(task) = stage.store.create(new(), stage.now()).await.unwrap() else {
        panic!("the key is fresh")
    };
    let seen = "SELECT string_agg(source, ' ' ORDER BY source), count(DISTINCT said) FROM soloist.seen";
    assert_eq!(database.sql(seen), "idempotency model_id task|1");
    let Create::Replayed(again) = stage.store.create(new(), stage.now()).await.unwrap() else {
        panic!("the key was used")
    };
    assert_eq!(again.key, task.key);
    assert_eq!(database.sql("SELECT count(*) FROM soloist.seen"), "3", "a repeat writes nothing");
}
