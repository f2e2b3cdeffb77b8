//! `text/event-stream`: each event as the standard has it, its data as the text that came.

use soloist::Status;
use soloist_runners::http::HttpOptions;

use super::{SSE, answered, call, events, failure, in_chunks, options, upstream::Upstream, whole};
use crate::world::data;

/// Everything that the standard says of lines, in one stream.
const LINES: &str = "\u{feff}: a comment\n\
    event: start\r\ndata: {\"n\": 1.50,  \"b\":1, \"a\":2}\r\nid: 7\r\n\r\n\
    data:no space\r\r\
    data:  two\n\n\
    retry: 10\nunknown: x\nevent\ndata\n\n\
    event: dropped\n\n\
    event: pretty\rdata: {\rdata:   \"a\": 1\rdata: }\r\r\n\
    data: a: b\ndata:\ndata: c\n\n\
    data: caf\u{e9} \u{1f600}\n\n\
    data: [DONE]\r\n\r\n\
    data: 1e400\n\n\
    data: half";

const SEEN: [&str; 9] = [
    "start json {\"n\": 1.50,  \"b\":1, \"a\":2}",
    "message text no space",
    "message text  two",
    "message text ",
    "pretty json {\n  \"a\": 1\n}",
    "message text a: b\n\nc",
    "message text caf\u{e9} \u{1f600}",
    "message text [DONE]",
    // No number that a double holds.
    "message text 1e400",
];

#[tokio::test]
async fn lines_are_read_as_the_standard_says_however_they_are_cut() {
    for bytes in [1, 2, 3, 7, LINES.len()] {
        let ran = answered(in_chunks(SSE, LINES, bytes)).await;
        assert_eq!(events(&ran), SEEN, "in chunks of {bytes}");
        assert_eq!((ran.task.status, ran.final_value()), (Status::Completed, r#""1e400""#));
    }
    let ran = answered(whole("Text/Event-Stream ; charset=utf-8", LINES)).await;
    assert_eq!(events(&ran), SEEN);
}

#[tokio::test]
async fn bytes_that_are_no_utf8_are_replaced() {
    let ran = answered(whole(SSE, b"event: e\xff\ndata: a\xfeb\xc3\n\n")).await;
    assert_eq!(events(&ran), ["e\u{fffd} text a\u{fffd}b\u{fffd}"]);
}

#[tokio::test]
async fn the_final_value_keeps_the_digits_and_spaces_of_the_last_event() {
    let ran =
        answered(whole(SSE, "data: {\"a\": 1.50}\n\nevent: end\ndata: { \"z\":1.0, \"a\":2e0 }\n\n")).await;
    assert_eq!(ran.final_value(), "{ \"z\":1.0, \"a\":2e0 }");
}

#[tokio::test]
async fn an_id_is_kept_in_the_field_that_is_named_for_it() {
    let body = "id: 1\ndata: {\"a\":1}\n\nid: \"2\"\\\ndata: {}\n\nid: 3\ndata:  { \"a\":[] } \n\nid: 4\ndata: [1]\n\n\
        id: 5\ndata: text\n\ndata: {\"b\":2}\n\nid\ndata: {}\n\nid: a\0b\ndata: {}\n\n";
    let upstream = Upstream::saying(whole(SSE, body)).await;
    let ran = call(HttpOptions { event_id_field: Some("the \"id\"".into()), ..options(&upstream) }).await;
    assert_eq!(
        events(&ran),
        [
            r#"message json {"a":1,"the \"id\"":"1"}"#,
            r#"message json {"the \"id\"":"\"2\"\\"}"#,
            r#"message json  { "a":[] ,"the \"id\"":"3"}"#,
            "message json [1]",
            "message text text",
            r#"message json {"b":2}"#,
            r#"message json {"the \"id\"":""}"#,
            "message json {}",
        ]
    );
}

#[tokio::test]
async fn terminal_data_are_what_the_endpoint_sent_also_where_its_id_is_kept() {
    let body = "data: {\"n\":1}\n\nid: 2\ndata: {\"done\":true}\n\ndata: {\"n\":3}\n\n";
    let upstream = Upstream::saying(whole(SSE, body)).await;
    let ran = call(HttpOptions {
        event_id_field: Some("id".into()),
        terminal_data: Some(r#"{"done":true}"#.into()),
        ..options(&upstream)
    })
    .await;
    assert_eq!(events(&ran).len(), 2);
    assert_eq!(ran.final_value(), r#"{"n":1}"#);
}

#[tokio::test]
async fn events_of_a_terminal_type_become_part_of_the_ending() {
    let ran = answered(whole(
        SSE,
        "data: 1\n\nevent: complete\ndata: {\"tokens\":5}\n\nevent: cancelled\ndata: {\"x\":6,\"final_value\":1}\n\n",
    ))
    .await;
    assert_eq!(events(&ran), ["message json 1"]);
    let ending = ran.events.last().unwrap();
    assert_eq!((ending.event_type.as_str(), ran.task.status), ("complete", Status::Completed));
    assert_eq!(ran.final_value(), r#"{"x":6,"final_value":1}"#);
    let ending = data(ending);
    assert_eq!((&ending["x"], &ending["_system"]), (&6.into(), &true.into()));
    assert_eq!(ending["final_value"], serde_json::json!({"x": 6, "final_value": 1}));
}

#[tokio::test]
async fn a_type_that_is_not_allowed_fails_in_a_way_that_can_be_read_and_is_not_tried_again() {
    for (name, shown) in [("gap", "gap"), ("a\0b", "NUL"), (&*"x".repeat(129), "128 bytes")] {
        let upstream = Upstream::saying(whole(SSE, format!("data: 1\n\nevent: {name}\ndata: 2\n\n"))).await;
        let ran = super::call_trying(options(&upstream), 2).await;
        let (error_type, message) = failure(&ran);
        assert_eq!((error_type, upstream.connections()), ("HttpContent", 1));
        assert!(message.contains(shown), "{message}");
        assert_eq!(events(&ran), ["message json 1"]);
    }
}

#[tokio::test]
async fn an_error_of_the_endpoint_is_a_failure_in_its_words() {
    let ran = answered(whole(
        SSE,
        "data: 1\n\nevent: error\ndata: {\"error\":{\"message\":\"overloaded\",\"code\":529}}\n\ndata: 2\n\n",
    ))
    .await;
    assert_eq!(failure(&ran), ("HttpEndpoint", "overloaded"));
    assert_eq!(events(&ran), ["message json 1"]);
    let ending = data(ran.events.last().unwrap());
    assert_eq!(ending["error"]["code"], 529);

    let long = format!("event: error\ndata: {}\n\n", "w".repeat(100_000));
    let ran = answered(whole(SSE, long)).await;
    assert!(failure(&ran).1.len() < 1100);
}

#[tokio::test]
async fn what_an_attempt_said_of_its_failure_is_no_part_of_the_ending_of_the_next() {
    let upstream = Upstream::of(|mut call| async move {
        let body = if call.nth == 0 {
            "event: error\ndata: {\"message\":\"no\",\"code\":5}\n\n"
        } else {
            "data: 1\n\n"
        };
        call.send(whole(SSE, body)).await
    })
    .await;
    let ran = super::call_trying(options(&upstream), 1).await;
    assert_eq!((ran.task.status, ran.task.attempt), (Status::Completed, 2));
    let ending = ran.events.last().unwrap().data.as_str();
    assert!(!ending.contains("code"), "{ending}");
}

#[tokio::test]
async fn an_event_of_another_name_can_be_the_one_that_says_error() {
    let body = "event: error\ndata: {\"a\":1}\n\nevent: failed\ndata: {\"detail\":\"broke\"}\n\n";
    let upstream = Upstream::saying(whole(SSE, body)).await;
    let ran = call(HttpOptions { error_event: Some("failed".into()), ..options(&upstream) }).await;
    assert_eq!(failure(&ran), ("HttpEndpoint", "broke"));
    assert_eq!(events(&ran), [r#"failed json {"detail":"broke"}"#]);
    let ran = call(HttpOptions { error_event: None, ..options(&upstream) }).await;
    assert_eq!((ran.task.status, ran.final_value()), (Status::Completed, r#"{"detail":"broke"}"#));
}
