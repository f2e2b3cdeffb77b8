//! The values that a setting can take, each valid from birth.
//!
//! Decides: what `listen`, `store`, `log`, the origins and times may say.

use std::{fmt, net::SocketAddr, path::PathBuf, time::Duration};

use soloist::limits;

use super::value::{Taken, Wrong, without_password};

/// Where the server listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Listen {
    Tcp(SocketAddr),
    Unix(PathBuf),
}

impl Listen {
    pub(crate) fn parse(text: &str) -> Taken<Self> {
        if let Some(path) = text.strip_prefix("unix:") {
            return match path {
                "" => Err(Wrong("the path of the socket is missing".to_owned())),
                path => Ok(Self::Unix(PathBuf::from(path))),
            };
        }
        let numeric = text.strip_prefix("localhost:").map(|port| format!("127.0.0.1:{port}"));
        numeric.as_deref().unwrap_or(text).parse().map(Self::Tcp).map_err(|_| Wrong::default())
    }

    /// Whether only this machine can reach it.
    pub(crate) fn is_local(&self) -> bool {
        match self {
            Self::Tcp(address) => address.ip().to_canonical().is_loopback(),
            Self::Unix(_) => true,
        }
    }
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// Where everything is on record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum StoreUrl {
    Memory,
    Sqlite(PathBuf),
    Postgres(PgUrl),
}

/// The URL of a PostgreSQL database. Shows itself without its password.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct PgUrl(String);

impl PgUrl {
    pub(crate) fn parse(text: &str) -> Taken<Self> {
        soloist_postgres::check_url(text).map_err(Wrong)?;
        Ok(Self(text.to_owned()))
    }

    /// The whole of it.
    pub(crate) fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for PgUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&without_password(&self.0))
    }
}

impl fmt::Debug for PgUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl StoreUrl {
    pub(crate) fn parse(text: &str) -> Taken<Self> {
        if text == "memory:" {
            return Ok(Self::Memory);
        }
        if text.starts_with("postgres:") || text.starts_with("postgresql:") {
            return PgUrl::parse(text).map(Self::Postgres);
        }
        match text.strip_prefix("sqlite://") {
            Some("") => Err(Wrong("the path of the file is missing".to_owned())),
            Some(path) if path.contains('?') => Err(Wrong("options after '?' are not supported".to_owned())),
            Some(path) => Ok(Self::Sqlite(PathBuf::from(path))),
            None => Err(Wrong::default()),
        }
    }
}

impl fmt::Display for StoreUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Memory => f.write_str("memory:"),
            Self::Sqlite(path) => write!(f, "sqlite://{}", path.display()),
            Self::Postgres(url) => url.fmt(f),
        }
    }
}

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LogFormat {
    Text,
    Json,
}

impl LogFormat {
    pub(crate) fn parse(text: &str) -> Taken<Self> {
        match text {
            "text" => Ok(Self::Text),
            "json" => Ok(Self::Json),
            _ => Err(Wrong::default()),
        }
    }

    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Json => "json",
        }
    }
}

/// An origin as browsers send it: `https://app.example.com`, a port only where it is not the scheme's own.
pub(crate) fn origin(text: String) -> Taken<String> {
    let wrong = |why: &str| Err(Wrong(format!("not an origin: {why}")));
    let Some((scheme @ ("http" | "https"), host)) = text.split_once("://") else {
        return wrong("it begins with http:// or https://");
    };
    if host.is_empty() || host.contains(['/', '?', '#', '@', '*', ' ']) {
        return wrong("after the scheme come a host and perhaps a port, nothing else");
    }
    if text.bytes().any(|b| b.is_ascii_uppercase() || !b.is_ascii_graphic()) {
        return wrong("browsers send it in lower case and ASCII");
    }
    let own_port = if scheme == "http" { ":80" } else { ":443" };
    if host.ends_with(own_port) {
        return wrong("browsers leave the scheme's own port out");
    }
    Ok(text)
}

/// A host name as it stands in a `Host` header, without its port.
pub(crate) fn host(text: String) -> Taken<String> {
    let fits = !text.is_empty()
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_'));
    if fits {
        Ok(text.to_ascii_lowercase())
    } else {
        Err(Wrong("not a host name (it is written without a port)".to_owned()))
    }
}

/// The units of a length of time, the largest first, with their seconds.
const UNITS: [(char, u64); 4] = [('d', 24 * 60 * 60), ('h', 60 * 60), ('m', 60), ('s', 1)];

/// How long something is kept: a whole number with its unit; none is for ever.
pub(crate) fn kept(text: &str) -> Taken<Option<Duration>> {
    if text == "forever" {
        return Ok(None);
    }
    let time = UNITS.iter().find_map(|(unit, seconds)| {
        // Only digits: a number may be read with a sign as well.
        let number = text.strip_suffix(*unit).filter(|n| n.bytes().all(|b| b.is_ascii_digit()))?;
        number.parse::<u64>().ok()?.checked_mul(*seconds).map(Duration::from_secs)
    });
    time.filter(|time| !time.is_zero() && *time <= limits::RETENTION_MAX).map(Some).ok_or_else(Wrong::default)
}

/// The same as text, in its largest unit.
pub(crate) fn kept_as_text(time: Option<Duration>) -> String {
    let Some(time) = time.map(|time| time.as_secs()) else { return "forever".to_owned() };
    let (unit, seconds) = UNITS.into_iter().find(|(_, seconds)| time % seconds == 0).unwrap_or(('s', 1));
    format!("{}{unit}", time / seconds)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_other_machines_can_reach_is_known() {
        for good in [
            "127.0.0.1:0",
            "127.8.8.8:80",
            "[::1]:8888",
            "localhost:8888",
            "[::ffff:127.0.0.1]:1",
            "unix:s.sock",
        ] {
            assert!(Listen::parse(good).unwrap().is_local(), "{good}");
        }
        for beyond in ["0.0.0.0:8888", "[::]:8888", "192.168.1.1:8888", "[::ffff:10.0.0.1]:1"] {
            assert!(!Listen::parse(beyond).unwrap().is_local(), "{beyond}");
        }
        for bad in ["", "8888", "127.0.0.1", "localhost", "example.com:80", "127.0.0.1:99999", "unix:"] {
            assert!(Listen::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn origins_are_taken_as_browsers_send_them_and_no_other_way() {
        for good in ["https://app.example.com", "http://localhost:3000", "http://[::1]:8080"] {
            assert!(origin(good.to_owned()).is_ok(), "{good}");
        }
        for bad in [
            "*",
            "app.example.com",
            "https://a/",
            "https://A.com",
            "https://a.com:443",
            "https://*.a.com",
            "https://",
        ] {
            assert!(origin(bad.to_owned()).is_err(), "{bad}");
        }
    }
}
