//! Answers that are no event stream, by their media type.

use soloist::{Status, limits};

use super::{
    answered, call_trying, chunk, chunked_head, events, failure, head, in_chunks, options,
    upstream::Upstream, whole,
};

#[tokio::test]
async fn lines_of_json_are_an_event_each_also_the_last_one_without_its_end() {
    let body = "{\"a\": 1.50}\r\n\n  \r\nno json\n[1]\n\u{e9}\n{\"last\":true}";
    let seen = [
        "message json {\"a\": 1.50}",
        "message text no json",
        "message json [1]",
        "message text \u{e9}",
        "message json {\"last\":true}",
    ];
    for media in ["application/x-ndjson", "application/ndjson; charset=utf-8", "application/jsonl"] {
        for bytes in [1, 2, 5, 1000] {
            let ran = answered(in_chunks(media, body, bytes)).await;
            assert_eq!(events(&ran), seen);
            assert_eq!((ran.task.status, ran.final_value()), (Status::Completed, "{\"last\":true}"));
        }
    }
    let ran = answered(head("application/x-ndjson") + "{\"a\":1}\n{\"b\":2}").await;
    assert_eq!(ran.final_value(), "{\"b\":2}");
}

#[tokio::test]
async fn a_document_or_a_line_that_only_a_closed_connection_ends_in_its_middle_was_cut_off() {
    for media in ["application/x-ndjson", "application/json"] {
        let ran = answered(head(media) + "{\"a\":1,\"b\":").await;
        assert_eq!(failure(&ran).0, "HttpCutOff", "{media}");
        // A mark that is no JSON is whole.
        let ran = answered(head(media) + "[DONE]").await;
        assert_eq!(events(&ran), ["message text [DONE]"]);
        let ran = answered(whole(media, "{\"a\":1,\"b\":")).await;
        assert_eq!(events(&ran), ["message text {\"a\":1,\"b\":"], "{media}: so it was meant");
    }
}

#[tokio::test]
async fn a_json_document_is_one_event_as_it_was_written() {
    let body = "{\n  \"n\": 1.50,\n  \"z\": [], \"a\": 1\n}\n";
    for (media, bytes) in
        [("application/json", 1), ("application/problem+json", 3), ("APPLICATION/JSON", 999)]
    {
        let ran = answered(in_chunks(media, body, bytes)).await;
        assert_eq!(events(&ran), [format!("message json {body}")]);
        assert_eq!(ran.final_value(), body);
    }
    let ran = answered(whole("application/json", "oops")).await;
    assert_eq!(events(&ran), ["message text oops"]);
}

#[tokio::test]
async fn text_is_output_chunk_by_chunk_and_no_character_is_cut() {
    let mut answer = chunked_head("text/plain; charset=utf-8").into_bytes();
    for part in [b"a\xc3".as_slice(), b"\xa9", b"\xff b\n", b"\xf0\x9f", b"\x98\x80", b"\xf0\x9f"] {
        answer.extend(chunk(part));
    }
    answer.extend(b"0\r\n\r\n");
    let ran = answered(answer).await;
    assert_eq!(
        events(&ran),
        [
            "output text a",
            "output text \u{e9}",
            "output text \u{fffd} b\n",
            "output text \u{1f600}",
            "output text \u{fffd}",
        ]
    );
    assert_eq!(ran.final_value(), "\"\u{fffd}\"");
}

#[tokio::test]
async fn text_that_comes_faster_than_it_is_taken_fails_at_no_size() {
    // Each of these bytes becomes three.
    let ran = answered(whole("text/plain", vec![0xff; 8 << 20])).await;
    assert_eq!(ran.task.status, Status::Completed);
    let sizes: Vec<_> = ran
        .events
        .iter()
        .filter(|e| e.event_type.as_str() == "output")
        .map(|e| e.data.as_str().len())
        .collect();
    assert_eq!(sizes.iter().sum::<usize>(), 24 << 20);
    println!("the largest of {} events has {} bytes", sizes.len(), sizes.iter().max().unwrap());
}

#[tokio::test]
async fn an_answer_that_names_no_media_type_is_text() {
    let ran = answered("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n{1}").await;
    assert_eq!(events(&ran), ["output text {1}"]);
    assert_eq!((ran.task.status, ran.final_value()), (Status::Completed, r#""{1}""#));
}

#[tokio::test]
async fn what_is_no_text_is_refused_and_not_tried_again() {
    let coded = |name: &str, value: &str| {
        format!(
            "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n{name}: {value}\r\nConnection: close\r\n\r\n1\r\nx\r\n0\r\n\r\n"
        )
    };
    for (answer, shown) in [
        (head("image/png") + "\u{1}", "image/png"),
        (head("application/octet-stream") + "x", "octet-stream"),
        (coded("Content-Encoding", "gzip"), "gzip"),
        (coded("Content-Encoding", "br"), "br"),
        (coded("Transfer-Encoding", "gzip, chunked"), "gzip"),
    ] {
        let upstream = Upstream::saying(answer).await;
        let ran = call_trying(options(&upstream), 2).await;
        let (error_type, message) = failure(&ran);
        assert_eq!((error_type, upstream.connections()), ("HttpContent", 1), "{shown}");
        assert!(message.contains(shown), "{message}");
    }
    let ran = answered(
        "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Encoding: Identity\r\n\r\ndata: 1\n\n",
    )
    .await;
    assert_eq!(ran.final_value(), "1");
}

#[tokio::test]
async fn an_empty_answer_completes_with_null() {
    for answer in [
        b"HTTP/1.1 204 No Content\r\n\r\n".to_vec(),
        whole(super::SSE, ""),
        whole("application/json", ""),
        whole("application/x-ndjson", ""),
        whole("text/plain", ""),
        in_chunks(super::SSE, "", 1),
        head(super::SSE).into_bytes(),
        b"HTTP/1.0 200 OK\r\n\r\n".to_vec(),
    ] {
        let shown = String::from_utf8_lossy(&answer).into_owned();
        let ran = answered(answer).await;
        assert_eq!(
            (ran.task.status, ran.final_value(), ran.events.len()),
            (Status::Completed, "null", 1),
            "{shown}"
        );
    }
}

#[tokio::test]
async fn a_final_value_that_is_too_large_as_json_fails_in_a_way_that_can_be_read() {
    // Each quote takes two bytes in JSON.
    let ran =
        answered(whole(super::SSE, format!("data: {}\n\n", "\"".repeat(limits::FINAL_VALUE_MAX_BYTES / 2))))
            .await;
    let (_, message) = failure(&ran);
    assert!(message.contains("at most"), "{message}");
}
