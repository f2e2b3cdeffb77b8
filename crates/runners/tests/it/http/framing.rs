//! How an answer ends: which ends are good, and which are a connection that broke.

use soloist::Status;
use soloist_runners::http::HttpOptions;

use super::{
    SSE, answered, call, call_trying, chunk, chunked_head, events, failure, head, in_chunks, options,
    upstream::Upstream, whole,
};

const BODY: &str = "data: 1\n\ndata: 2\n\n";

#[tokio::test]
async fn a_length_a_last_chunk_or_the_end_of_the_connection_is_a_good_end() {
    for answer in [
        whole(SSE, BODY),
        in_chunks(SSE, BODY, 4),
        (head(SSE) + BODY).into_bytes(),
        (head(SSE).replace("1.1", "1.0") + BODY).into_bytes(),
        // Extensions of chunks, and trailers.
        [chunked_head(SSE), format!("12;a=b\r\n{BODY}\r\n0\r\nX-Sum: 1\r\n\r\n")].concat().into_bytes(),
        // What stands behind the end is no part of the answer.
        [whole(SSE, BODY), b"data: 3\n\n".to_vec()].concat(),
        ["HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n".into(), whole(SSE, BODY)].concat(),
    ] {
        let shown = String::from_utf8_lossy(&answer).into_owned();
        let ran = answered(answer).await;
        assert_eq!(events(&ran), ["message json 1", "message json 2"], "{shown}");
        assert_eq!((ran.task.status, ran.final_value()), (Status::Completed, "2"), "{shown}");
    }
}

#[tokio::test]
async fn an_answer_that_breaks_off_fails_and_what_came_stays_on_record() {
    let cut = |answer: Vec<u8>, at: usize| answer[..answer.len() - at].to_vec();
    for answer in [
        cut(whole(SSE, format!("{BODY}data: 3\n\n")), 9),
        cut(whole(SSE, format!("{BODY}data: 3\n\n")), 4),
        // Without the last chunk, within one, and within its length.
        cut(in_chunks(SSE, format!("{BODY}data: 3\n\n"), 9), 5),
        [chunked_head(SSE).into_bytes(), chunk(BODY.as_bytes()), b"9\r\ndata".to_vec()].concat(),
        [chunked_head(SSE).into_bytes(), chunk(BODY.as_bytes()), b"9".to_vec()].concat(),
        [chunked_head(SSE).into_bytes(), chunk(BODY.as_bytes()), b"no length\r\n".to_vec()].concat(),
        [chunked_head(SSE).into_bytes(), chunk(BODY.as_bytes()), b"fffffffffffffffff\r\n".to_vec()].concat(),
        // Nothing tells the end of these from a connection that broke.
        (head(SSE) + BODY + "data: 3\n").into_bytes(),
        (head(SSE) + BODY + "data").into_bytes(),
        (head(SSE).replace("1.1", "1.0") + BODY + "event: x\n").into_bytes(),
        (head(SSE).replace("\r\n\r\n", "\r\nTransfer-Encoding: identity\r\nContent-Length: 99\r\n\r\n")
            + BODY
            + "data")
            .into_bytes(),
    ] {
        let shown = String::from_utf8_lossy(&answer).into_owned();
        let ran = answered(answer).await;
        assert_eq!(ran.task.status, Status::Failed, "{shown}");
        assert_eq!(failure(&ran).0, "HttpCutOff", "{shown}");
        assert_eq!(events(&ran)[..2], ["message json 1", "message json 2"], "{shown}");
    }
}

#[tokio::test]
async fn an_event_without_its_blank_line_is_none_where_the_answer_ends_well() {
    for rest in ["data: 3", "data: 3\n", ": a comment", "event: x\nid: 1\n"] {
        for answer in [in_chunks(SSE, format!("{BODY}{rest}"), 6), whole(SSE, format!("{BODY}{rest}"))] {
            let ran = answered(answer).await;
            assert_eq!(events(&ran), ["message json 1", "message json 2"], "{rest}");
            assert_eq!(ran.final_value(), "2");
        }
    }
}

#[tokio::test]
async fn a_head_that_is_none_or_breaks_off_is_a_failure_and_no_second_call() {
    for (answer, shown) in [
        ("", "closed"),
        ("HTTP/1.1 200 OK\r\nContent-Ty", "closed"),
        ("SSH-2.0-OpenSSH_9.6\r\n", "HTTP"),
        ("HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd", "length"),
        ("HTTP/1.1 200 OK\r\nA header without a colon\r\n\r\n", "header"),
    ] {
        let upstream = Upstream::saying(answer).await;
        let ran = call(options(&upstream)).await;
        let (error_type, message) = failure(&ran);
        assert_eq!((error_type, upstream.connections()), ("HttpCutOff", 1), "{answer}");
        assert!(message.contains(shown), "{message}");
        let ran = call_trying(options(&upstream), 1).await;
        assert_eq!((ran.task.attempt, upstream.connections()), (2, 3));
    }
}

/// Sends some events of a stream that never ends by itself.
async fn endless(body: &'static str) -> Upstream {
    Upstream::of(move |mut call| async move {
        call.send(chunked_head(SSE)).await?;
        call.send(chunk(body.as_bytes())).await?;
        call.hung_up().await
    })
    .await
}

#[tokio::test]
async fn the_event_that_ends_a_stream_ends_it_although_the_connection_stays_open() {
    let upstream = endless("data: 1\n\nevent: end\ndata: {\"n\":2}\n\ndata: 3\n\n").await;
    let ran = call(HttpOptions { terminal_event: Some("end".into()), ..options(&upstream) }).await;
    assert_eq!(events(&ran), ["message json 1", "end json {\"n\":2}"]);
    assert_eq!((ran.task.status, ran.final_value()), (Status::Completed, "{\"n\":2}"));
    upstream.left().await;

    let upstream = endless("data: {\"n\":1}\n\ndata: [DONE]\n\ndata: 3\n\n").await;
    let ran = call(HttpOptions { terminal_data: Some("[DONE]".into()), ..options(&upstream) }).await;
    assert_eq!(events(&ran), ["message json {\"n\":1}", "message text [DONE]"]);
    assert_eq!((ran.task.status, ran.final_value()), (Status::Completed, "{\"n\":1}"));
    upstream.left().await;

    let upstream = endless("event: complete\ndata: {\"n\":1}\n\n").await;
    let ran = call(HttpOptions { terminal_event: Some("complete".into()), ..options(&upstream) }).await;
    assert_eq!((ran.events.len(), ran.final_value()), (1, "{\"n\":1}"));
    upstream.left().await;

    let upstream = endless("event: error\ndata: {\"message\":\"broke\"}\n\n").await;
    assert_eq!(failure(&call(options(&upstream)).await), ("HttpEndpoint", "broke"));
    upstream.left().await;
}

#[tokio::test]
async fn a_stream_that_ends_without_the_event_that_ends_it_was_cut_off() {
    for answer in [whole(SSE, BODY), in_chunks(SSE, BODY, 3), (head(SSE) + BODY).into_bytes(), whole(SSE, "")]
    {
        let upstream = Upstream::saying(answer).await;
        let ran = call(HttpOptions { terminal_event: Some("end".into()), ..options(&upstream) }).await;
        assert_eq!(failure(&ran).0, "HttpCutOff");
        let ran = call(HttpOptions { terminal_data: Some("[DONE]".into()), ..options(&upstream) }).await;
        assert_eq!(failure(&ran).0, "HttpCutOff");
    }
    // The last line of NDJSON may be the one, without its end.
    let upstream = Upstream::saying(whole("application/x-ndjson", "1\n[DONE]")).await;
    let ran = call(HttpOptions { terminal_data: Some("[DONE]".into()), ..options(&upstream) }).await;
    assert_eq!(ran.final_value(), "1");
}

#[tokio::test]
async fn the_final_event_is_the_final_value_and_the_last_of_them_counts() {
    let body = "event: result\ndata: 1\n\nevent: result\ndata: {\"r\": 2.0}\n\nevent: usage\ndata: 3\n\n";
    let upstream = Upstream::saying(whole(SSE, body)).await;
    let ran = call(HttpOptions { final_event: Some("result".into()), ..options(&upstream) }).await;
    assert_eq!(ran.final_value(), "{\"r\": 2.0}");
    let ran = call(HttpOptions { final_event: Some("other".into()), ..options(&upstream) }).await;
    assert_eq!((ran.task.status, ran.final_value()), (Status::Completed, "null"));
    let ran = call(options(&upstream)).await;
    assert_eq!(ran.final_value(), "3");
}
