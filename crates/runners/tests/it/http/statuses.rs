//! Answers that refuse a call: which are tried again and when, and what is kept of them.

use std::time::Duration;

use soloist::{Status, limits};
use soloist_runners::http::HttpOptions;

use super::{SSE, call, call_trying, chunk, events, failure, options, upstream::Upstream, whole};

fn refusal(status: &str, headers: &str, body: &str) -> String {
    format!("HTTP/1.1 {status}\r\n{headers}Content-Length: {}\r\n\r\n{body}", body.len())
}

fn traceback(ran: &crate::world::Ran) -> &str {
    ran.task.failure.as_ref().unwrap().traceback.as_deref().unwrap_or("")
}

#[tokio::test]
async fn an_endpoint_that_breaks_is_called_again_and_its_words_are_kept() {
    let upstream = Upstream::of(|mut call| async move {
        let answer = refusal("500 Oh No", "", "broke\n");
        call.send(if call.nth < 2 { answer.into_bytes() } else { whole(SSE, "data: 1\n\n") }).await
    })
    .await;
    let ran = call_trying(options(&upstream), 3).await;
    assert_eq!((ran.task.status, ran.task.attempt, upstream.connections()), (Status::Completed, 3, 3));
    let retries = ran.of_type("retry");
    assert_eq!(retries.len(), 2);
    assert_eq!(retries[0]["error"], "the endpoint answered 500 Internal Server Error");
    assert_eq!((&retries[1]["attempt"], &retries[1]["error_type"]), (&3.into(), &"HttpStatus".into()));

    let upstream = Upstream::saying(refusal("503 x", "", "{\"why\": \"\u{e9}\"}")).await;
    let ran = call_trying(options(&upstream), 1).await;
    assert_eq!(failure(&ran), ("HttpStatus", "the endpoint answered 503 Service Unavailable"));
    assert_eq!((traceback(&ran), upstream.connections()), ("{\"why\": \"\u{e9}\"}", 2));
}

#[tokio::test]
async fn retry_after_is_the_least_wait() {
    let upstream = Upstream::of(|mut call| async move {
        let answer = refusal("429 Too Many Requests", "Retry-After: 1\r\n", "");
        call.send(if call.nth == 0 { answer.into_bytes() } else { whole(SSE, "data: 1\n\n") }).await
    })
    .await;
    let begun = std::time::Instant::now();
    let ran = call_trying(options(&upstream), 1).await;
    assert_eq!(ran.task.status, Status::Completed);
    assert!(begun.elapsed() >= Duration::from_secs(1));
    let delay = ran.of_type("retry")[0]["delay_seconds"].as_f64().unwrap();
    assert!((1.0..2.0).contains(&delay), "{delay}");
}

#[tokio::test]
async fn a_retry_after_that_nobody_can_keep_to_does_no_harm() {
    let text = u64::MAX.to_string();
    for after in [&*text, "99999999999999999999999999", "-1", "", "\u{7f}"] {
        let header = format!("Retry-After: {after}\r\n");
        let upstream = Upstream::saying(refusal("503 x", &header, "")).await;
        let ran = call_trying(options(&upstream), 0).await;
        assert_eq!(ran.task.status, Status::Failed, "{after}");
    }
}

#[tokio::test]
async fn a_status_that_is_final_is_not_tried_again() {
    for (status, final_statuses, calls) in [
        ("404 Not Found", None, 1),
        ("401 x", None, 1),
        ("422 x", None, 1),
        ("408 x", None, 3),
        ("425 x", None, 3),
        ("502 x", None, 3),
        ("502 x", Some(vec![502]), 1),
        ("404 x", Some(vec![502]), 3),
        ("404 x", Some(vec![]), 3),
        ("599 x", Some(vec![599]), 1),
        ("999 x", None, 3),
    ] {
        let upstream = Upstream::saying(refusal(status, "", "why")).await;
        let mut options = options(&upstream);
        options.final_statuses = final_statuses.unwrap_or(options.final_statuses);
        let ran = call_trying(options, 2).await;
        let (error_type, message) = failure(&ran);
        assert_eq!((error_type, upstream.connections()), ("HttpStatus", calls), "{status}");
        assert!(message.contains(&status[..3]), "{message}");
        assert_eq!((events(&ran).len(), traceback(&ran)), (calls - 1, "why"));
    }
}

#[tokio::test]
async fn a_refusal_that_never_ends_is_cut() {
    let upstream = Upstream::of(|mut call| async move {
        call.send("HTTP/1.1 500 x\r\nTransfer-Encoding: chunked\r\n\r\n").await?;
        let more = chunk(&[b'x'; 1000]);
        while call.send(&more).await.is_ok() {}
        call.hung_up().await
    })
    .await;
    let ran = call(options(&upstream)).await;
    assert_eq!(failure(&ran).0, "HttpStatus");
    assert_eq!(traceback(&ran).trim_end_matches(" [cut]").len(), limits::HTTP_REFUSAL_MAX_BYTES);
    upstream.left().await;
}

#[tokio::test]
async fn what_a_refusal_said_is_kept_also_where_it_hangs_or_breaks_off() {
    let upstream = Upstream::of(|mut call| async move {
        call.send("HTTP/1.1 500 x\r\nContent-Length: 100\r\n\r\nfirst words").await?;
        if call.nth == 0 { Ok(()) } else { call.hung_up().await }
    })
    .await;
    for _ in 0..2 {
        let ran = call(options(&upstream)).await;
        assert_eq!((failure(&ran).0, traceback(&ran)), ("HttpStatus", "first words"));
    }
    upstream.left().await;
}

#[tokio::test]
async fn an_answer_that_is_compressed_or_no_text_is_no_traceback_that_hides_its_status() {
    let upstream =
        Upstream::saying(refusal("500 x", "Content-Type: image/png\r\nContent-Encoding: br\r\n", "\0\u{1}"))
            .await;
    let ran = call(options(&upstream)).await;
    assert_eq!(failure(&ran).0, "HttpStatus");
}

#[tokio::test]
async fn a_refusal_that_comes_before_the_body_was_read_is_heard() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let hasty = tokio::spawn(async move {
        let (socket, _) = listener.accept().await.unwrap();
        socket.readable().await.unwrap();
        socket.try_write(refusal("413 x", "Connection: close\r\n", "too much").as_bytes()).unwrap();
        socket
    });
    let url = format!("http://127.0.0.1:{port}/generate");
    let input = format!(r#"{{"pad":"{}"}}"#, "y".repeat(1_000_000));
    let ran = super::world(HttpOptions { url, ..HttpOptions::default() }).await.run("t/Model", &input).await;
    assert_eq!((failure(&ran).0, traceback(&ran)), ("HttpStatus", "too much"));
    drop(hasty.await.unwrap());
}

#[tokio::test]
async fn statuses_of_other_conversations_are_failures_that_name_them() {
    for (answer, status) in [
        ("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n", "101"),
        ("HTTP/1.1 304 Not Modified\r\n\r\n", "304"),
        ("HTTP/1.1 300 Multiple Choices\r\nContent-Length: 0\r\n\r\n", "300"),
    ] {
        let ran = super::answered(answer).await;
        let (error_type, message) = failure(&ran);
        assert!(message.contains(status) && !message.contains("leads"), "{message}");
        assert_eq!(error_type, "HttpStatus");
    }
}
