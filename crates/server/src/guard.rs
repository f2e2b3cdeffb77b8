//! Who may call.
//!
//! Decides: by the headers that browsers add and pages cannot forge, whether a request that changes something comes
//! from this server's own pages, from a configured site, or from no page at all; and whether `Host` is one of this
//! server's names. Never decides who somebody is: there is no authentication here.

use axum::{
    extract::{Request, State},
    http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri, header},
    middleware::Next,
    response::{IntoResponse, Response},
};
use soloist_wire::problem;

use crate::{
    problem::Problem,
    rest,
    state::{AppState, HostCheck, ServerOptions},
};

const SEC_FETCH_SITE: &str = "sec-fetch-site";
const PREFLIGHT_METHODS: &str = "GET, HEAD, POST, PUT, DELETE";
const PREFLIGHT_HEADERS: &str =
    "accept, cache-control, content-type, last-event-id, idempotency-key, traceparent, tracestate";
const EXPOSED_HEADERS: &str = "location, retry-after, idempotent-replayed";

/// Stands before every call.
pub(crate) async fn guard(State(state): State<AppState>, request: Request, next: Next) -> Response {
    let options = &state.options;
    let allowed_origin = configured_origin(request.headers(), options);
    let (request, rest) = rest::lend(request);
    let mut response = match check(request.method(), request.uri(), request.headers(), options) {
        Err(problem) => {
            drop(request);
            problem.into_response()
        }
        Ok(()) if is_preflight(&request) && allowed_origin.is_some() => {
            drop(request);
            preflight()
        }
        Ok(()) => next.run(request).await,
    };
    response = rest.settle(response).await;
    finish(response.headers_mut(), allowed_origin, options);
    response
}

fn check(method: &Method, uri: &Uri, headers: &HeaderMap, options: &ServerOptions) -> Result<(), Problem> {
    check_host(uri, headers, options)?;
    let reads = [Method::GET, Method::HEAD, Method::OPTIONS].contains(method);
    if reads { Ok(()) } else { may_change(headers, options) }
}

/// Whether this request may change something, a start by watching included.
pub(crate) fn may_change(headers: &HeaderMap, options: &ServerOptions) -> Result<(), Problem> {
    if is_cross_site(headers, options) {
        return Err(Problem::new(
            problem::CROSS_SITE,
            "a page of another site may not do this; add its origin to cors_origins if it should",
        ));
    }
    let purpose = |name: &str| {
        headers
            .get(name)
            .and_then(|v| v.to_str().ok())
            .is_some_and(|v| v.to_ascii_lowercase().contains("prefetch"))
    };
    if purpose("sec-purpose") || purpose("purpose") {
        return Err(Problem::new(problem::PREFETCH, "a prefetch starts nothing"));
    }
    Ok(())
}

fn is_cross_site(headers: &HeaderMap, options: &ServerOptions) -> bool {
    if headers.contains_key(header::ORIGIN) {
        return !is_own_origin(headers) && configured_origin(headers, options).is_none();
    }
    let site = headers.get(SEC_FETCH_SITE).map(HeaderValue::as_bytes);
    matches!(site, Some(b"cross-site" | b"same-site"))
}

/// Whether `Origin` names this server as `Host` does. A proxy may have ended TLS before us, so the scheme may be
/// `https` although we were spoken to in the clear; host and port must be the same, a port left out being the
/// scheme's own.
fn is_own_origin(headers: &HeaderMap) -> bool {
    let origin = single(headers, header::ORIGIN).and_then(|origin| origin.split_once("://"));
    let (Some((scheme, origin)), Some(host)) = (origin, single(headers, header::HOST)) else { return false };
    let default_port = match scheme {
        "http" => 80,
        "https" => 443,
        _ => return false,
    };
    match (host_and_port(origin), host_and_port(host)) {
        (Some((a, a_port)), Some((b, b_port))) => {
            a.eq_ignore_ascii_case(b) && a_port.unwrap_or(default_port) == b_port.unwrap_or(default_port)
        }
        _ => false,
    }
}

fn configured_origin(headers: &HeaderMap, options: &ServerOptions) -> Option<HeaderValue> {
    let origin = single(headers, header::ORIGIN)?;
    let known = options.cors_origins.iter().any(|own| own.eq_ignore_ascii_case(origin));
    known.then(|| headers.get(header::ORIGIN).cloned()).flatten()
}

fn check_host(uri: &Uri, headers: &HeaderMap, options: &ServerOptions) -> Result<(), Problem> {
    if options.host_check == HostCheck::Off {
        return Ok(());
    }
    // A request line with a full address counts as well as the header; where both are there, both must pass.
    let in_uri = uri.authority().map(|authority| authority.as_str());
    let in_header = single(headers, header::HOST);
    let passes = |host: &str| host_and_port(host).is_some_and(|(name, _)| is_own_name(name, host, options));
    if in_uri.is_none_or(passes) && in_header.map_or(in_uri.is_some(), passes) {
        return Ok(());
    }
    Err(Problem::new(
        problem::FOREIGN_HOST,
        "this server listens on loopback and answers to localhost and to addresses; add the name to allowed_hosts",
    ))
}

fn is_own_name(name: &str, with_port: &str, options: &ServerOptions) -> bool {
    let name = name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase();
    let address = name.strip_prefix('[').and_then(|n| n.strip_suffix(']')).unwrap_or(&name);
    name == "localhost"
        || name.ends_with(".localhost")
        || address.parse::<std::net::IpAddr>().is_ok()
        || options
            .allowed_hosts
            .iter()
            .any(|own| own.eq_ignore_ascii_case(&name) || own.eq_ignore_ascii_case(with_port))
}

/// `host`, `host:port`, `[v6]` or `[v6]:port`.
fn host_and_port(text: &str) -> Option<(&str, Option<u16>)> {
    let after_v6 = text.rfind(']').map_or(0, |end| end + 1);
    match text[after_v6..].find(':') {
        None => (!text.is_empty()).then_some((text, None)),
        Some(at) => {
            let (host, port) = text.split_at(after_v6 + at);
            Some((host, Some(port[1..].parse().ok()?)))
        }
    }
}

/// The value of a header that stands there once.
fn single(headers: &HeaderMap, name: HeaderName) -> Option<&str> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (Some(value), None) => value.to_str().ok(),
        _ => None,
    }
}

fn is_preflight(request: &Request) -> bool {
    request.method() == Method::OPTIONS
        && request.headers().contains_key(header::ACCESS_CONTROL_REQUEST_METHOD)
}

fn preflight() -> Response {
    let headers = [
        (header::ACCESS_CONTROL_ALLOW_METHODS, PREFLIGHT_METHODS),
        (header::ACCESS_CONTROL_ALLOW_HEADERS, PREFLIGHT_HEADERS),
        (header::ACCESS_CONTROL_MAX_AGE, "600"),
    ];
    (StatusCode::NO_CONTENT, headers).into_response()
}

/// What every answer says: nobody stores it, nobody guesses its type, and which page may read it.
fn finish(headers: &mut HeaderMap, allowed_origin: Option<HeaderValue>, options: &ServerOptions) {
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    if !options.cors_origins.is_empty() {
        headers.append(header::VARY, HeaderValue::from_static("origin"));
    }
    if let Some(origin) = allowed_origin {
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static(EXPOSED_HEADERS));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs.iter().map(|(n, v)| (HeaderName::from_static(n), HeaderValue::from_str(v).unwrap())).collect()
    }

    #[test]
    fn a_page_is_its_own_site_whatever_ended_tls_before_us() {
        for (origin, host, own) in [
            ("http://127.0.0.1:8888", "127.0.0.1:8888", true),
            ("https://tasks.example.com", "tasks.example.com", true),
            ("https://tasks.example.com", "TASKS.example.com:443", true),
            ("http://tasks.example.com:80", "tasks.example.com", true),
            ("http://[::1]:8888", "[::1]:8888", true),
            ("http://127.0.0.1:3000", "127.0.0.1:8888", false),
            ("http://localhost:8888", "127.0.0.1:8888", false),
            ("https://tasks.example.com:8443", "tasks.example.com", false),
            ("https://evil.example.com", "tasks.example.com", false),
            ("https://tasks.example.com.evil.com", "tasks.example.com", false),
            ("chrome-extension://tasks.example.com", "tasks.example.com", false),
            ("null", "tasks.example.com", false),
            ("", "tasks.example.com", false),
        ] {
            let cross =
                is_cross_site(&headers(&[("origin", origin), ("host", host)]), &ServerOptions::default());
            assert_eq!(!cross, own, "{origin} at {host}");
        }
    }

    #[test]
    fn without_an_origin_the_browsers_own_word_counts() {
        for (site, cross) in
            [("cross-site", true), ("same-site", true), ("same-origin", false), ("none", false)]
        {
            let headers = headers(&[("sec-fetch-site", site), ("host", "a")]);
            assert_eq!(is_cross_site(&headers, &ServerOptions::default()), cross, "{site}");
        }
        assert!(!is_cross_site(&headers(&[("host", "a")]), &ServerOptions::default()));
        let mut twice = headers(&[("origin", "http://a"), ("host", "a")]);
        twice.append(header::ORIGIN, HeaderValue::from_static("http://b"));
        assert!(is_cross_site(&twice, &ServerOptions::default()));
    }

    #[test]
    fn on_loopback_only_names_of_this_machine_pass() {
        let options = ServerOptions {
            host_check: HostCheck::On,
            allowed_hosts: vec!["box.lan".into(), "other.lan:99".into()],
            ..Default::default()
        };
        for (host, passes) in [
            ("localhost:8888", true),
            ("LOCALHOST", true),
            ("localhost.", true),
            ("app.localhost:8888", true),
            ("127.0.0.1:8888", true),
            ("[::1]:8888", true),
            ("[::1]", true),
            ("192.168.1.7", true),
            ("box.lan:8888", true),
            ("other.lan:99", true),
            ("other.lan:98", false),
            ("evil.com", false),
            ("localhost.evil.com", false),
            ("127.0.0.1.evil.com:8888", false),
            ("evil.com:localhost", false),
            ("", false),
        ] {
            let answer = check_host(&Uri::from_static("/"), &headers(&[("host", host)]), &options);
            assert_eq!(answer.is_ok(), passes, "{host}");
        }
        assert!(check_host(&Uri::from_static("/"), &HeaderMap::new(), &options).is_err());
        let full = Uri::from_static("http://evil.com/");
        assert!(check_host(&full, &headers(&[("host", "localhost")]), &options).is_err());
    }
}
