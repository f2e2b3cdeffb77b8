//! Options of an http model: what the configuration says, checked once.
//!
//! Decides: which options are allowed, with an error that names the key and never shows a value, which may hold a secret.
//! Never looks at the network: whether anybody answers is seen when an attempt begins.

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use reqwest::{Url, header::HeaderName};
use soloist::{EventType, limits};

use super::address::Address;
use crate::{
    OptionError,
    template::{Part, Template},
};

/// What the configuration says of an http model.
///
/// ```
/// use soloist_runners::http::HttpOptions;
///
/// let options = HttpOptions {
///     url: "http://127.0.0.1:9000/chats/{input.chat}/generate".to_owned(),
///     terminal_data: Some("[DONE]".to_owned()),
///     ..HttpOptions::default()
/// };
/// options.validate()?;
///
/// let error = HttpOptions { url: "http://{input.host}/".to_owned(), ..options }.validate().unwrap_err();
/// assert_eq!(error.key, "url");
/// # Ok::<(), soloist_runners::OptionError>(())
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct HttpOptions {
    /// The address of the endpoint, `http` or `https`. `{input.field}` in its path or query stands for that field of the
    /// input (a string, a number or a bool), percent-encoded; scheme, host and port are fixed.
    pub url: String,
    /// How it is called. All but `GET` send the input as their body.
    pub method: Method,
    /// Headers that are sent, with `{input.field}` in their values where wanted.
    pub headers: BTreeMap<String, String>,
    /// Longest time until a connection stands, TLS included.
    pub connect_timeout: Duration,
    /// Longest time from the beginning of an attempt until the head of the answer is there.
    pub first_byte_timeout: Duration,
    /// Longest silence within the answer. Whatever comes counts, comments too; while events wait for the store, nothing
    /// does.
    pub idle_timeout: Duration,
    /// Which redirects are followed.
    pub redirects: Redirects,
    /// By which proxy the endpoint is reached.
    pub proxy: Proxy,
    /// A file of PEM certificates that are trusted beside those of the system.
    pub ca_file: Option<PathBuf>,
    /// The type of the event that ends the stream well; it needs data, without which nothing is an event. Where this or `terminal_data` is said, a stream that ends without
    /// it was cut off.
    pub terminal_event: Option<String>,
    /// The data of the event that ends the stream well, such as `[DONE]`. It is a mark, and never the final value.
    pub terminal_data: Option<String>,
    /// The type of the event by which the endpoint says that it has failed.
    pub error_event: Option<String>,
    /// The type of the event whose data are the final value, the last of them; any event where none is named.
    pub final_event: Option<String>,
    /// Statuses (300 to 599) after which another attempt would fail as well: such a failure is never tried again.
    pub final_statuses: Vec<u16>,
    /// The field of object data under which the endpoint's own event id is kept; it is dropped where none is named.
    pub event_id_field: Option<String>,
}

impl Default for HttpOptions {
    fn default() -> Self {
        Self {
            url: String::new(),
            method: Method::default(),
            headers: BTreeMap::new(),
            connect_timeout: limits::HTTP_CONNECT_WAIT,
            first_byte_timeout: limits::HTTP_FIRST_BYTE_WAIT,
            idle_timeout: limits::HTTP_IDLE_WAIT,
            redirects: Redirects::default(),
            proxy: Proxy::default(),
            ca_file: None,
            terminal_event: None,
            terminal_data: None,
            error_event: Some("error".to_owned()),
            final_event: None,
            final_statuses: FINAL_STATUSES.to_vec(),
            event_id_field: None,
        }
    }
}

/// Statuses by which a server says that the request itself is wrong.
const FINAL_STATUSES: [u16; 12] = [400, 401, 403, 404, 405, 406, 410, 411, 413, 414, 415, 422];

/// A method of HTTP.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Method {
    /// `GET`, without a body.
    Get,
    /// `POST`.
    #[default]
    Post,
    /// `PUT`.
    Put,
    /// `PATCH`.
    Patch,
}

impl Method {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Get, Self::Post, Self::Put, Self::Patch];

    /// The word on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Post => "POST",
            Self::Put => "PUT",
            Self::Patch => "PATCH",
        }
    }
}

/// Which redirects are followed. One that is not is a failure, as every status that is no success.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Redirects {
    /// None.
    #[default]
    None,
    /// Those to the same scheme, host and port by which the call stays what it is: of a call with a body only 307 and 308.
    SameOrigin,
}

/// By which proxy an endpoint is reached.
#[derive(Clone, PartialEq, Eq, Default)]
pub enum Proxy {
    /// By none, whatever the environment says.
    #[default]
    None,
    /// By those that `HTTP_PROXY`, `HTTPS_PROXY`, `ALL_PROXY` and `NO_PROXY` name.
    Environment,
    /// By this one, an `http` address.
    Address(String),
}

/// Options that were checked.
pub(super) struct Checked {
    pub(super) address: Address,
    pub(super) method: Method,
    pub(super) headers: Vec<(HeaderName, Template)>,
    pub(super) given: HttpOptions,
}

/// Headers that belong to the connection or to the runner.
const OURS: [&str; 11] = [
    "accept-encoding",
    "connection",
    "content-length",
    "expect",
    "host",
    "keep-alive",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "proxy-connection",
];

impl HttpOptions {
    /// Whether a runner can be made of the options, without calling anybody.
    ///
    /// # Errors
    /// The first key that is not allowed, and why.
    pub fn validate(&self) -> Result<(), OptionError> {
        super::HttpRunner::new(self.clone()).map(drop)
    }

    pub(super) fn check(self) -> Result<Checked, OptionError> {
        let address = Address::parse(&self.url).map_err(|message| OptionError::at("url", message))?;
        let headers =
            self.headers.iter().map(|(name, value)| header(name, value)).collect::<Result<_, _>>()?;
        if let Proxy::Address(address) = &self.proxy
            && !Url::parse(address).is_ok_and(|url| url.scheme() == "http" && url.has_host())
        {
            return Err(OptionError::at("proxy", "name an address such as http://proxy.example.com:3128"));
        }
        for (key, name) in [
            ("terminal_event", &self.terminal_event),
            ("error_event", &self.error_event),
            ("final_event", &self.final_event),
        ] {
            if let Some(name) = name {
                EventType::new(name).map_err(|error| OptionError::at(key, error.to_string()))?;
            }
        }
        if let Some(i) = self.final_statuses.iter().position(|status| !(300..600).contains(status)) {
            return Err(OptionError::at(format!("final_statuses[{i}]"), "name statuses from 300 to 599"));
        }
        if self.event_id_field.as_deref().is_some_and(|name| name.is_empty() || name.starts_with('_')) {
            return Err(OptionError::at("event_id_field", "name a field that does not begin with '_'"));
        }
        Ok(Checked { address, method: self.method, headers, given: self })
    }
}

fn header(name: &str, value: &str) -> Result<(HeaderName, Template), OptionError> {
    let at = |message: &str| OptionError::at(format!("headers.{name}"), message);
    let known = HeaderName::from_bytes(name.as_bytes()).map_err(|_| at("this is no name of a header"))?;
    if OURS.contains(&known.as_str()) {
        return Err(at("this header belongs to the connection; take it out"));
    }
    if known.as_str().starts_with("soloist-") {
        return Err(at("the headers soloist-* are set for every call; choose another name"));
    }
    let template = Template::parse(value).map_err(|message| at(&message))?;
    for part in template.parts() {
        if let Part::Text(text) = part
            && !is_header_text(text)
        {
            return Err(at("a header holds visible ASCII characters and spaces only"));
        }
    }
    Ok((known, template))
}

/// Whether a text can stand in a header: all servers read visible ASCII characters and spaces alike, and nothing else.
pub(super) fn is_header_text(text: &str) -> bool {
    text.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key_of(options: HttpOptions) -> Option<String> {
        options.validate().err().map(|error| {
            assert!(!error.message.is_empty() && !error.message.contains("secret"), "{error}");
            error.key
        })
    }

    #[test]
    fn options_that_are_not_allowed_are_named_by_their_key_and_show_no_value() {
        let fine = || HttpOptions { url: "http://127.0.0.1:9/x".into(), ..HttpOptions::default() };
        let header = |name: &str, value: &str| HttpOptions {
            headers: [(name.to_owned(), value.to_owned())].into(),
            ..fine()
        };
        assert_eq!(key_of(fine()), None);
        assert_eq!(key_of(header("Authorization", "Bearer {input.token} of {{x}}")), None);
        for (options, key) in [
            (HttpOptions::default(), "url"),
            (header("a b", "x"), "headers.a b"),
            (header("Host", "x"), "headers.Host"),
            (header("content-length", "1"), "headers.content-length"),
            (header("Soloist-Epoch", "1"), "headers.Soloist-Epoch"),
            (header("X", "secret\r\nY: 1"), "headers.X"),
            (header("X", "secret{"), "headers.X"),
            (header("X", "{secret}"), "headers.X"),
            (header("X", "secret\u{fc}"), "headers.X"),
            (HttpOptions { proxy: Proxy::Address("secret".into()), ..fine() }, "proxy"),
            (HttpOptions { proxy: Proxy::Address("ftp://secret/".into()), ..fine() }, "proxy"),
            (HttpOptions { terminal_event: Some("a\nb".into()), ..fine() }, "terminal_event"),
            (HttpOptions { error_event: Some(String::new()), ..fine() }, "error_event"),
            (HttpOptions { final_event: Some("x".repeat(129)), ..fine() }, "final_event"),
            (HttpOptions { final_statuses: vec![404, 200], ..fine() }, "final_statuses[1]"),
            (HttpOptions { event_id_field: Some("_run".into()), ..fine() }, "event_id_field"),
        ] {
            assert_eq!(key_of(options).as_deref(), Some(key));
        }
    }
}
