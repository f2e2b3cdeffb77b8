//! One connection pool to one server, over TCP, TLS or a Unix socket.
//!
//! Decides: what a server's URL may be, and what an answer that is no success becomes.

use std::{error::Error as _, time::Duration};

use reqwest::{Method, Response, StatusCode, redirect};
use soloist_wire::{Problem, problem};

use crate::Error;

/// How long a connection may take to be made.
const CONNECT_MAX: Duration = Duration::from_secs(10);
/// How long an answer (not a stream) may take, beside the time that the server was asked to wait.
pub(crate) const ANSWER_MAX: Duration = Duration::from_secs(30);

#[derive(Debug, Clone)]
pub(crate) struct Transport {
    http: reqwest::Client,
    /// Without a slash at its end.
    base: String,
    /// As its user named it.
    server: String,
}

impl Transport {
    pub(crate) fn new(url: &str) -> Result<Self, Error> {
        // A provider may be installed already; then that one is used.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let builder =
            reqwest::Client::builder().connect_timeout(CONNECT_MAX).redirect(redirect::Policy::none());
        let (builder, base) = match url.strip_prefix("unix:") {
            Some("") => {
                return Err(Error::Invalid("the path of the socket is missing after unix:".to_owned()));
            }
            Some(path) => (builder.unix_socket(path), "http://localhost".to_owned()),
            None => {
                let base = base_of(url)?;
                // What listens on this very machine is never behind a proxy.
                (
                    if is_local(&base) { builder.no_proxy() } else { builder },
                    base.as_str().trim_end_matches('/').to_owned(),
                )
            }
        };
        let http = builder
            .build()
            .map_err(|e| Error::Invalid(format!("cannot make a client for {url}: {}", causes(&e))))?;
        Ok(Self { http, base, server: url.to_owned() })
    }

    pub(crate) fn request(&self, method: Method, path: &str) -> reqwest::RequestBuilder {
        self.http.request(method, format!("{}{path}", self.base))
    }

    /// Sends a request; an answer that is no success is an error.
    pub(crate) async fn send(&self, request: reqwest::RequestBuilder) -> Result<Response, Error> {
        let response = request.send().await.map_err(|e| self.broken(&e))?;
        if response.status().is_success() {
            return Ok(response);
        }
        let status = response.status();
        let is_problem = has_media_type(&response, problem::MEDIA_TYPE);
        let body = response.bytes().await.map_err(|e| self.broken(&e))?;
        match serde_json::from_slice::<Problem>(&body) {
            Ok(problem) if is_problem => Err(Error::Problem(Box::new(problem))),
            // A proxy has lost the server, which may have done it.
            _ if matches!(status, StatusCode::BAD_GATEWAY | StatusCode::GATEWAY_TIMEOUT) => {
                Err(Error::Broke { server: self.server.clone(), cause: what(status) })
            }
            _ => Err(self.unexpected(what(status))),
        }
    }

    /// Why no whole answer came.
    pub(crate) fn broken(&self, error: &reqwest::Error) -> Error {
        let (server, cause) = (self.server.clone(), causes(error));
        if error.is_connect() { Error::Unreachable { server, cause } } else { Error::Broke { server, cause } }
    }

    pub(crate) fn unexpected(&self, what: impl Into<String>) -> Error {
        Error::Unexpected { server: self.server.clone(), what: what.into() }
    }
}

fn what(status: StatusCode) -> String {
    format!("status {status} without a problem that it names")
}

pub(crate) fn has_media_type(response: &Response, wanted: &str) -> bool {
    let header = response.headers().get(reqwest::header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    header.is_some_and(|value| {
        value.split(';').next().is_some_and(|kind| kind.trim().eq_ignore_ascii_case(wanted))
    })
}

fn base_of(url: &str) -> Result<reqwest::Url, Error> {
    let wrong = |why: &str| {
        Error::Invalid(format!(
            "{url:?} is no server: {why}; it is http://HOST:PORT, https://HOST or unix:PATH"
        ))
    };
    let base = reqwest::Url::parse(url).map_err(|e| wrong(&e.to_string()))?;
    if !matches!(base.scheme(), "http" | "https") || !base.has_host() {
        return Err(wrong("its scheme is not known"));
    }
    if base.query().is_some() || base.fragment().is_some() {
        return Err(wrong("it has a query or a fragment"));
    }
    Ok(base)
}

fn is_local(url: &reqwest::Url) -> bool {
    url.host_str().is_some_and(|host| {
        let address = host.trim_start_matches('[').trim_end_matches(']').parse::<std::net::IpAddr>();
        host == "localhost" || address.is_ok_and(|address| address.is_loopback())
    })
}

/// The innermost causes say what happened; the outer ones repeat the URL.
pub(crate) fn causes(error: &reqwest::Error) -> String {
    if error.is_timeout() {
        return "no answer in time".to_owned();
    }
    let mut text = String::new();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = error.to_string();
        cause = error.source();
    }
    if text.is_empty() { error.to_string() } else { text }
}
