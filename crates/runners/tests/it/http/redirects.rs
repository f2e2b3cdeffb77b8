//! Redirects: not followed, or to the same origin only.

use soloist::{Status, limits};
use soloist_runners::http::{HttpOptions, Method, Redirects};

use super::{SSE, call, call_trying, failure, options, upstream::Upstream, whole};

fn to(status: u16, location: &str) -> String {
    format!("HTTP/1.1 {status} x\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n")
}

/// Answers `/generate` with a redirect and everything else with an event.
async fn redirecting(status: u16, location: &'static str) -> Upstream {
    Upstream::of(move |mut call| async move {
        let is_first = call.request.line.contains("/generate");
        call.send(if is_first { to(status, location).into_bytes() } else { whole(SSE, "data: 1\n\n") }).await
    })
    .await
}

#[tokio::test]
async fn a_redirect_is_not_followed_and_not_tried_again() {
    let other = Upstream::saying(whole(SSE, "data: 1\n\n")).await;
    let location = other.url("/elsewhere?secret");
    for status in [301, 302, 303, 307, 308] {
        for redirects in [Redirects::None, Redirects::SameOrigin] {
            let upstream = Upstream::saying(to(status, &location)).await;
            let ran = call_trying(HttpOptions { redirects, ..options(&upstream) }, 2).await;
            let (error_type, message) = failure(&ran);
            assert_eq!((error_type, upstream.connections()), ("HttpStatus", 1));
            assert!(message.contains(&status.to_string()) && message.contains("redirects"), "{message}");
        }
    }
    let upstream = redirecting(302, "/other").await;
    assert_eq!(failure(&call(options(&upstream)).await).0, "HttpStatus");
    assert_eq!((upstream.connections(), other.connections()), (1, 0));
}

#[tokio::test]
async fn a_redirect_to_the_same_origin_is_followed_where_that_is_wanted() {
    for (status, method) in [(307, Method::Post), (308, Method::Post), (303, Method::Get), (302, Method::Get)]
    {
        let upstream = redirecting(status, "/other?a=1").await;
        let options = HttpOptions { redirects: Redirects::SameOrigin, method, ..options(&upstream) };
        let ran = call(options).await;
        let method = method.as_str();
        assert_eq!((ran.task.status, ran.final_value()), (Status::Completed, "1"));
        let requests = upstream.requests();
        let (first, second) = (&requests[0], &requests[1]);
        assert_eq!((requests.len(), &*second.line), (2, &*format!("{method} /other?a=1 HTTP/1.1")));
        let body: &[u8] = if method == "POST" { b"{}" } else { b"" };
        assert_eq!(second.body, body);
        for name in ["authorization", "idempotency-key", "soloist-epoch"] {
            assert_eq!(first.header(name), second.header(name));
            assert!(second.header(name).is_some());
        }
        assert_eq!(second.header("referer"), None);
    }
}

#[tokio::test]
async fn a_redirect_that_would_drop_the_input_is_not_followed() {
    for status in [301, 302, 303] {
        let upstream = redirecting(status, "/other").await;
        let ran =
            call_trying(HttpOptions { redirects: Redirects::SameOrigin, ..options(&upstream) }, 2).await;
        assert_eq!((ran.task.status, upstream.requests().len()), (Status::Failed, 1), "{status}");
    }
}

#[tokio::test]
async fn another_host_name_or_scheme_is_another_origin_and_what_is_no_address_leads_nowhere() {
    for location in [
        "https://127.0.0.1/other",
        "http://localhost/other",
        "//127.0.0.1:1/other",
        "file:///etc/passwd",
        "http://[",
        "",
    ] {
        let upstream = Upstream::saying(to(307, location)).await;
        let ran = call(HttpOptions { redirects: Redirects::SameOrigin, ..options(&upstream) }).await;
        let (_, message) = failure(&ran);
        assert!(
            message.contains("307") && upstream.requests().iter().all(|call| call.line.contains("/generate"))
        );
    }
}

#[tokio::test]
async fn a_loop_of_redirects_ends() {
    let upstream = Upstream::saying(to(307, "/generate")).await;
    let ran = call_trying(HttpOptions { redirects: Redirects::SameOrigin, ..options(&upstream) }, 2).await;
    assert_eq!(failure(&ran).0, "HttpStatus");
    assert_eq!(upstream.connections(), 1 + limits::HTTP_REDIRECTS_MAX);
}

#[tokio::test]
async fn a_user_that_a_redirect_names_takes_the_place_of_no_header() {
    let upstream = Upstream::of(|mut call| async move {
        let host = call.request.header("host").unwrap_or("").to_owned();
        let is_first = call.request.line.contains("/generate");
        let location = format!("http://me:pass@{host}/other");
        call.send(if is_first { to(307, &location).into_bytes() } else { whole(SSE, "data: 1\n\n") }).await
    })
    .await;
    call(HttpOptions { redirects: Redirects::SameOrigin, ..options(&upstream) }).await;
    for request in upstream.requests() {
        assert_eq!(request.header("authorization"), Some("Bearer secret-header"));
    }
}
