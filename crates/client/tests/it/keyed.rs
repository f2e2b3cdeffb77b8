//! A request under a key is sent again until it is answered, and is the same request each time.

use soloist_client::{Client, Error, IdempotencyKey};
use soloist_wire::StartBody;

use super::cutting::{Server, json, problem};

const STARTED: &str = r#"{"started":true,"run":1,"status":"running"}"#;
const REPLAYED: &str = "idempotent-replayed: true\r\n";

#[tokio::test]
async fn s1_a_start_whose_answers_are_cut_is_sent_again_as_the_same_request() {
    let whole = json(200, REPLAYED, STARTED);
    // Lost before its head, in its head, in its body.
    let cuts = [0, 20, whole.len() - 5].map(|end| whole[..end].to_vec());
    let server = Server::in_turn([cuts.to_vec(), vec![whole]].concat()).await;
    let client = Client::new(&server.url).unwrap();
    let key = IdempotencyKey::new("order-4711").unwrap();
    let start = client.keyed(&key).start("a/B/1", &StartBody::default()).await.unwrap();
    assert_eq!((start.answer.started, start.answer.run, start.is_replayed), (true, 1, true));
    let seen = server.seen();
    assert_eq!(seen.len(), 4);
    assert_eq!(seen[0].line, "POST /tasks/a/B/1/start HTTP/1.1");
    assert_eq!(seen[0].idempotency_key.as_deref(), Some("order-4711"));
    assert!(seen.iter().all(|request| *request == seen[0]), "{seen:?}");
}

#[tokio::test]
async fn after_a_copy_that_broke_off_only_an_answer_of_the_server_ends_it() {
    let bare = |status: u16| {
        format!("HTTP/1.1 {status} X\r\ncontent-length: 0\r\nconnection: close\r\n\r\n").into_bytes()
    };
    let between =
        [bare(502), bare(504), bare(500), problem(503, "shutting_down"), problem(503, "store_full")];
    let answers = [vec![bare(502)], between.to_vec(), vec![json(200, REPLAYED, STARTED)]].concat();
    let server = Server::in_turn(answers).await;
    let key = IdempotencyKey::random();
    let client = Client::new(&server.url).unwrap();
    let start = client.keyed(&key).start("a/B/1", &StartBody::default()).await.unwrap();
    assert!(start.is_replayed && server.seen().len() == 7);
    // A refusal of the request itself is such an answer.
    let server = Server::in_turn(vec![Vec::new(), problem(404, "unknown_task")]).await;
    let client = Client::new(&server.url).unwrap();
    let error = client.keyed(&key).start("a/B/1", &StartBody::default()).await.unwrap_err();
    assert_eq!((error.code(), server.seen().len()), (Some("unknown_task"), 2));
}

#[tokio::test]
async fn a_refusal_is_an_answer_and_nothing_is_asked_twice() {
    for (status, code) in [(503, "full"), (422, "idempotency_key_reused"), (404, "unknown_task")] {
        let server = Server::in_turn(vec![problem(status, code)]).await;
        let key = IdempotencyKey::random();
        let client = Client::new(&server.url).unwrap();
        let error = client.keyed(&key).start("a/B/1", &StartBody::default()).await.unwrap_err();
        assert_eq!((error.code(), server.seen().len()), (Some(code), 1));
    }
}

#[tokio::test]
async fn a_server_that_was_never_reached_is_told_at_once() {
    let free = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = free.local_addr().unwrap();
    drop(free);
    let client = Client::new(&format!("http://{address}")).unwrap();
    let key = IdempotencyKey::random();
    let error = client.keyed(&key).start("a/B/1", &StartBody::default()).await.unwrap_err();
    assert!(matches!(error, Error::Unreachable { .. }), "{error}");
}

#[tokio::test]
async fn a_call_without_a_key_whose_answer_is_cut_is_not_sent_again() {
    let server = Server::in_turn(vec![Vec::new()]).await;
    let error = Client::new(&server.url).unwrap().start("a/B/1", &StartBody::default()).await.unwrap_err();
    assert!(matches!(error, Error::Broke { .. }), "{error}");
    assert!(error.to_string().contains("not known"), "{error}");
    assert_eq!((server.seen().len(), server.seen()[0].idempotency_key.clone()), (1, None));
}

#[test]
fn a_key_is_what_fits_a_header_and_is_not_printed() {
    for bad in ["", " a", "a ", "a\n", "é", &"x".repeat(256)] {
        assert!(IdempotencyKey::new(bad).is_err(), "{bad:?}");
    }
    let key = IdempotencyKey::new("x".repeat(255)).unwrap();
    assert!(!format!("{key:?}").contains("xx"));
    assert_ne!(IdempotencyKey::random(), IdempotencyKey::random());
}
