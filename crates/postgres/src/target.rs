//! Where the database is, and how to get there.
//!
//! Decides: what a URL may say (that of libpq, with `sslmode` and `sslrootcert`), and how a connection is made from it, each
//! step within a deadline. Shows itself without its password, which stands in nothing that is ever printed.

use std::{fmt, future::poll_fn};

use percent_encoding::percent_decode_str;
use soloist::limits;
use tokio_postgres::{
    AsyncMessage, CancelToken, Client, Config, Connection, Notification, Socket, config::Host,
    config::SslMode,
};
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::{
    error::{SqlError, SqlResult},
    tls::{self, Check},
};

/// A database that can be connected to.
#[derive(Clone)]
pub(crate) struct Target {
    config: Config,
    tls: Option<MakeRustlsConnect>,
    shown: String,
}

/// What is done with what the server says by itself.
pub(crate) type Hear = Box<dyn Fn(&Notification) + Send>;

impl Target {
    /// Reads a URL. An error says what to do, and quotes nothing of the URL.
    pub(crate) fn parse(url: &str) -> Result<Self, String> {
        if !(url.starts_with("postgres://") || url.starts_with("postgresql://")) {
            return Err("it does not begin with postgres://".to_owned());
        }
        // A question mark before the host belongs to the password.
        let host = url.find('@').unwrap_or(0);
        let question = url[host..].find('?').map_or(url.len(), |n| host + n);
        let (address, query) = (&url[..question], url[question..].trim_start_matches('?'));
        let (mut others, mut mode, mut roots) = (Vec::new(), "prefer".to_owned(), None);
        for parameter in query.split('&').filter(|parameter| !parameter.is_empty()) {
            let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
            let value = || percent_decode_str(value).decode_utf8_lossy().into_owned();
            match name {
                "sslmode" => mode = value(),
                "sslrootcert" => roots = Some(value()),
                _ => others.push(parameter),
            }
        }
        // What is special in a password and not written as %XX makes it look like a host, a port or a parameter.
        let not_a_url = "it is not postgres://USER:PASSWORD@HOST:PORT/DATABASE with parameters that are known; what is \
                         special in a password is written as %XX";
        let mut config: Config =
            format!("{address}?{}", others.join("&")).parse().map_err(|_| not_a_url.to_owned())?;
        let check = match (mode.as_str(), &roots) {
            ("disable", _) => None,
            ("allow" | "prefer", _) | ("require", None) => Some(Check::Nothing),
            ("require", Some(_)) | ("verify-ca", _) => Some(Check::Authority),
            ("verify-full", _) => Some(Check::AuthorityAndHost),
            _ => return Err("sslmode is disable, prefer, require, verify-ca or verify-full".to_owned()),
        };
        config.ssl_mode(match mode.as_str() {
            "disable" => SslMode::Disable,
            "allow" | "prefer" => SslMode::Prefer,
            _ => SslMode::Require,
        });
        if config.get_application_name().is_none() {
            config.application_name("soloist");
        }
        config.connect_timeout(limits::POSTGRES_CONNECT_MAX);
        config.tcp_user_timeout(limits::POSTGRES_TCP_MAX);
        config.keepalives(true).keepalives_idle(limits::POSTGRES_TCP_MAX);
        config.keepalives_interval(limits::POSTGRES_TCP_MAX / 4).keepalives_retries(3);
        // A Unix socket is not encrypted, whatever the mode, as libpq has it.
        let local = config.get_hosts().iter().all(|host| matches!(host, Host::Unix(_)));
        if local {
            config.ssl_mode(SslMode::Disable);
        }
        let tls = match check {
            Some(check) if !local => Some(MakeRustlsConnect::new(tls::config(check, roots.as_deref())?)),
            _ => None,
        };
        let shown = shown(&config);
        Ok(Self { config, tls, shown })
    }

    /// Connects, and has what the server says by itself heard until the connection ends. What is returned first ends with
    /// the connection.
    pub(crate) async fn connect(
        &self,
        hear: Option<Hear>,
    ) -> SqlResult<(Client, tokio::task::JoinHandle<()>)> {
        let away = |why: String| SqlError::Away(format!("cannot connect to {}: {why}", self.shown));
        let connect = async {
            match &self.tls {
                Some(tls) => {
                    self.config.connect(tls.clone()).await.map(|(client, c)| (client, drive(c, hear)))
                }
                None => self
                    .config
                    .connect(tokio_postgres::NoTls)
                    .await
                    .map(|(client, c)| (client, drive(c, hear))),
            }
        };
        match tokio::time::timeout(limits::POSTGRES_CONNECT_MAX, connect).await {
            Ok(Ok(connected)) => Ok(connected),
            Ok(Err(error)) => Err(away(why(&error))),
            Err(_) => Err(away("it does not answer in time".to_owned())),
        }
    }

    /// Asks the database to give up what it does for a connection, by one that is as well protected. The database does not
    /// say whether it has.
    pub(crate) async fn cancel(&self, token: &CancelToken) {
        let asked = match &self.tls {
            Some(tls) => token.cancel_query(tls.clone()).await,
            None => token.cancel_query(tokio_postgres::NoTls).await,
        };
        if let Err(error) = asked {
            tracing::debug!(
                error = why(&error),
                "a statement that is waited for no more could not be cancelled"
            );
        }
    }
}

/// Why no connection came about: what the database says, or the network. Neither holds a password.
fn why(error: &tokio_postgres::Error) -> String {
    if let Some(said) = error.as_db_error() {
        return format!("the database says: {} ({})", said.message(), said.code().code());
    }
    let (mut why, mut source) = (error.to_string(), std::error::Error::source(error));
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !why.contains(&cause_text) {
            why = format!("{why}: {cause_text}");
        }
        source = cause.source();
    }
    why
}

fn drive<S>(mut connection: Connection<Socket, S>, hear: Option<Hear>) -> tokio::task::JoinHandle<()>
where
    S: tokio_postgres::tls::TlsStream + Unpin + Send + 'static,
{
    tokio::spawn(async move {
        // Its end is told to whoever asks on it.
        while let Some(Ok(message)) = poll_fn(|cx| connection.poll_message(cx)).await {
            if let (AsyncMessage::Notification(notification), Some(hear)) = (&message, &hear) {
                hear(notification);
            }
        }
    })
}

fn shown(config: &Config) -> String {
    let ports = config.get_ports();
    let hosts: Vec<String> = config
        .get_hosts()
        .iter()
        .enumerate()
        .map(|(n, host)| {
            let port = ports.get(n).or(ports.first()).copied().unwrap_or(5432);
            match host {
                Host::Tcp(name) => format!("{name}:{port}"),
                Host::Unix(path) => format!("{}:{port}", path.display()),
            }
        })
        .collect();
    let user = config.get_user().map_or(String::new(), |user| format!("{user}@"));
    format!("postgres://{user}{}/{}", hosts.join(","), config.get_dbname().unwrap_or_default())
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown)
    }
}

impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_never_shown() {
        let target = Target::parse("postgres://ada:s3cr%40t@db.example:6432/app?sslmode=disable").unwrap();
        assert_eq!(format!("{target} {target:?}"), ["postgres://ada@db.example:6432/app"; 2].join(" "));
        let question = Target::parse("postgres://ada:s3cr?et@db/app?sslmode=disable").unwrap();
        assert_eq!(question.to_string(), "postgres://ada@db:5432/app");
        for bad in [
            "postgres://ada:s3cret@db/app?sslmode=s3cret",
            "postgres://ada:s3cret@db:s3cret/app",
            "postgres://ada:s3cret@db/app?s3cret=1",
            "mysql://ada:s3cret@db/app",
            "s3cret",
        ] {
            let said = Target::parse(bad).unwrap_err();
            assert!(!said.contains("s3cr"), "{said}");
        }
    }

    #[test]
    fn what_must_be_verified_needs_something_to_verify_it_by() {
        for mode in ["verify-ca", "verify-full"] {
            let said = Target::parse(&format!("postgres://db/app?sslmode={mode}")).unwrap_err();
            assert!(said.contains("sslrootcert"), "{said}");
            let said =
                Target::parse(&format!("postgres://db/app?sslmode={mode}&sslrootcert=/none")).unwrap_err();
            assert!(said.contains("/none"), "{said}");
        }
        for mode in ["disable", "allow", "prefer", "require"] {
            assert!(Target::parse(&format!("postgres://db/app?sslmode={mode}")).is_ok());
        }
        assert!(Target::parse("postgres:///app?host=/run/postgresql&sslmode=require").is_ok());
    }
}
