//! The head of an answer.
//!
//! Decides: whether it is one that can be relayed, and what a refusal means: its status, what the endpoint says of it,
//! whether another attempt may help, and when. Never puts an address or a header into a failure.

use std::time::Duration;

use reqwest::{
    Response, StatusCode,
    header::{
        CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, DATE, HeaderMap, HeaderName, LOCATION, RETRY_AFTER,
        TRANSFER_ENCODING,
    },
};
use soloist::{Failure, limits};
use tokio::time::timeout;

use super::{options::HttpOptions, relay::End};

/// The answer, if it can be relayed.
pub(super) async fn accepted(mut answer: Response, options: &HttpOptions) -> Result<Response, Failure> {
    let status = answer.status();
    if !status.is_success() {
        let mut body = Vec::new();
        // What has come by then is what it says.
        let _ = timeout(limits::HTTP_REFUSAL_WAIT, beginning(&mut answer, &mut body)).await;
        return Err(refused(status, &String::from_utf8_lossy(&body), answer.headers(), options));
    }
    let encodings = codings(answer.headers(), CONTENT_ENCODING);
    let transfers =
        codings(answer.headers(), TRANSFER_ENCODING).into_iter().filter(|coding| coding != "chunked");
    if let Some(encoding) = encodings.into_iter().chain(transfers).find(|coding| coding != "identity") {
        return Err(Failure::new(
            "HttpContent",
            format!(
                "the endpoint compressed its answer ({encoding:?}), although nobody asked for that; let it send streams as \
                 they are"
            ),
        )
        .is_final());
    }
    Ok(answer)
}

/// The media type of an answer; empty where it names none.
pub(super) fn media_type(answer: &Response) -> String {
    text(answer.headers(), CONTENT_TYPE).to_owned()
}

/// How the end of its body can be told.
pub(super) fn end(answer: &Response) -> End {
    let transfers = codings(answer.headers(), TRANSFER_ENCODING);
    let is_told = match transfers.last() {
        Some(last) => last == "chunked",
        None => answer.headers().contains_key(CONTENT_LENGTH),
    };
    if is_told { End::Told } else { End::ByClose }
}

fn refused(status: StatusCode, body: &str, headers: &HeaderMap, options: &HttpOptions) -> Failure {
    let reason = status.canonical_reason().map_or_else(String::new, |reason| format!(" {reason}"));
    let more = if status.is_redirection() && headers.contains_key(LOCATION) {
        "; it leads to another address, which is not followed: correct url, or see redirects"
    } else {
        ""
    };
    let mut failure =
        Failure::new("HttpStatus", format!("the endpoint answered {}{reason}{more}", status.as_u16()));
    if !body.is_empty() {
        failure = failure.with_traceback(body);
    }
    if status.is_redirection() || options.final_statuses.contains(&status.as_u16()) {
        return failure.is_final();
    }
    match retry_after(headers) {
        Some(wait) => failure.retry_after(wait),
        None => failure,
    }
}

/// When another attempt makes sense, as RFC 9110 section 10.2.3 has it. A date counts from the endpoint's own.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let given = text(headers, RETRY_AFTER);
    if let Ok(seconds) = given.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let [at, now] = [given, text(headers, DATE)].map(|date| httpdate::parse_http_date(date).ok());
    at?.duration_since(now?).ok()
}

async fn beginning(answer: &mut Response, body: &mut Vec<u8>) {
    while let Ok(Some(chunk)) = answer.chunk().await {
        let room = limits::HTTP_REFUSAL_MAX_BYTES - body.len();
        body.extend_from_slice(&chunk[..chunk.len().min(room)]);
        if body.len() == limits::HTTP_REFUSAL_MAX_BYTES {
            break;
        }
    }
}

/// The codings that a header names, in order, in lower case.
fn codings(headers: &HeaderMap, name: HeaderName) -> Vec<String> {
    let values = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
    let codings = values.flat_map(|value| value.split(',')).map(|coding| coding.trim().to_ascii_lowercase());
    codings.filter(|coding| !coding.is_empty()).collect()
}

fn text(headers: &HeaderMap, name: HeaderName) -> &str {
    headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or("").trim()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retry_after_is_a_number_of_seconds_or_a_date_by_the_clock_of_the_endpoint() {
        let of = |after: &str, date: &str| {
            let headers = [(RETRY_AFTER, after), (DATE, date)];
            retry_after(&headers.into_iter().map(|(n, v)| (n, v.parse().unwrap())).collect())
        };
        let date = "Wed, 21 Oct 2015 07:28:00 GMT";
        assert_eq!(of("120", ""), Some(Duration::from_secs(120)));
        assert_eq!(of("Wed, 21 Oct 2015 07:29:30 GMT", date), Some(Duration::from_secs(90)));
        for (after, date) in
            [("", date), ("-1", date), ("1.5", date), ("soon", date), (date, ""), (date, "now")]
        {
            assert_eq!(of(after, date), None, "{after:?} {date:?}");
        }
        assert_eq!(of("Wed, 21 Oct 2015 07:27:00 GMT", date), None);
    }
}
