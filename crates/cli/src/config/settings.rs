//! The table of settings: with [`models`](super::models) the one place that knows every key.
//!
//! Decides: which keys there are, what each may say, what it is where nobody says it. Parsing, checking, the flags of
//! `serve`, `config check` and `docs/configuration.md` are all read from here; no key is named twice.

use std::time::Duration;

use soloist::{limits, store::Durability};
use tracing_subscriber::EnvFilter;

use self::Preset::Is;
use super::{
    Config,
    types::{self, Listen, LogFormat, PgUrl, StoreUrl},
    value::{Kind, Taken, Value, Wrong, quoted},
};

/// One key of a `T`.
pub(crate) struct Setting<T> {
    pub(crate) key: &'static str,
    pub(crate) kind: Kind,
    /// What it is for, as a sentence.
    pub(crate) about: &'static str,
    /// What it may say, to stand after "allowed is".
    pub(crate) allowed: &'static str,
    /// Checks a value and keeps it.
    pub(crate) set: fn(&mut T, &Value) -> Taken,
    /// What `T` holds where nobody said it.
    pub(crate) default: Preset<T>,
}

/// What counts where nobody says a key.
pub(crate) enum Preset<T> {
    /// Somebody must say it.
    Needed,
    /// This, as TOML; nothing is set where it is none.
    Is(fn(&T) -> Option<String>),
}

impl<T> Preset<T> {
    /// What `target` holds of it, as TOML.
    pub(crate) fn of(&self, target: &T) -> Option<String> {
        match self {
            Self::Needed => None,
            Self::Is(text) => text(target),
        }
    }
}

/// A key of a part of the product that is not there yet. It is refused by name, never accepted and ignored.
pub(crate) struct NotYet {
    pub(crate) key: &'static str,
    /// What it belongs to, to stand before "not supported yet".
    pub(crate) what: &'static str,
}

/// The keys of the whole server, in the order in which they are shown.
pub(crate) const SERVER: &[Setting<Config>] = &[
    Setting {
        key: "allow_anonymous",
        kind: Kind::Switch,
        about: "Whether the server may listen where other machines reach it, although it asks nobody who they are. Whoever \
                reaches it may then do everything: say it where only a load balancer or a proxy that asks does.",
        allowed: "true or false",
        set: |config, value| value.switch().map(|given| config.allow_anonymous = given),
        default: Is(|config| Some(config.allow_anonymous.to_string())),
    },
    Setting {
        key: "listen",
        kind: Kind::Text,
        about: "Where the server listens. Port 0 takes any free port, which is then printed.",
        allowed: "a loopback ADDRESS:PORT (127.0.0.1:8888, [::1]:8888) or unix:PATH; any ADDRESS:PORT with allow_anonymous",
        set: |config, value| {
            let given = Listen::parse(value.text()?)?;
            if !(given.is_local() || config.allow_anonymous) {
                return Err(Wrong(
                    "other machines could reach it, and nobody would be asked who they are: authentication is not \
                     supported yet, so put a proxy that asks in front of a loopback address or a Unix socket, or say \
                     allow_anonymous = true where nobody else can reach it"
                        .to_owned(),
                ));
            }
            config.listen = given;
            Ok(())
        },
        default: Is(|config| Some(quoted(&config.listen.to_string()))),
    },
    Setting {
        key: "store",
        kind: Kind::Text,
        about: "Where everything is on record: a SQLite file (a relative path begins where the server was started; \
                any number of servers of one host may share it), a PostgreSQL database (any number of servers of any \
                number of hosts may share it; its tables are made in the schema `soloist`), or memory, which is gone \
                when the server stops. `sslmode` and `sslrootcert` mean what they mean to psql.",
        allowed: "sqlite://PATH, postgres://USER:PASSWORD@HOST:PORT/DATABASE?sslmode=verify-full&sslrootcert=FILE or memory:",
        set: |config, value| StoreUrl::parse(value.text()?).map(|given| config.store = given),
        default: Is(|config| Some(quoted(&config.store.to_string()))),
    },
    Setting {
        key: "listen_url",
        kind: Kind::Text,
        about: "The same PostgreSQL database by a way that keeps a connection, on which servers wake each other. Say it where \
                `store` leads through a pooler in transaction mode, such as PgBouncer; it is `store` itself by default.",
        allowed: "postgres://USER:PASSWORD@HOST:PORT/DATABASE",
        set: |config, value| PgUrl::parse(value.text()?).map(|given| config.listen_url = Some(given)),
        default: Is(|config| config.listen_url.as_ref().map(|url| quoted(&url.to_string()))),
    },
    Setting {
        key: "durability",
        kind: Kind::Text,
        about: "What survives a power cut: \"full\" is everything that was answered or shown; \"relaxed\" is every change \
                of a task's state, but not the last moments of events, which are then committed without waiting for the \
                disk. A crash of the server alone takes nothing either way. Viewers of a relaxed server get ids of the \
                form seq-epoch. All processes that use a store at a time must say the same.",
        allowed: "\"full\" or \"relaxed\"",
        set: |config, value| {
            config.durability = match value.text()? {
                "full" => Durability::Full,
                "relaxed" => Durability::Relaxed,
                _ => return Err(Wrong::default()),
            };
            Ok(())
        },
        default: Is(|config| {
            Some(quoted(match config.durability {
                Durability::Full => "full",
                Durability::Relaxed => "relaxed",
            }))
        }),
    },
    Setting {
        key: "lease_seconds",
        kind: Kind::Number,
        about: "How long this process lives on record without renewing its lease; other processes take over from one that \
                hangs after it. It is renewed at 30 % of it, and at 60 % without a renewal work is asked to stop: so a \
                store that is away for less than 30 % of it costs nothing, and one that is away for more than 60 % costs \
                the attempts that run.",
        allowed: "a whole number of seconds from 1 to 3600",
        set: |config, value| {
            let given = seconds(value, limits::LEASE_MAX_SECONDS)?;
            if given.as_secs() < limits::LEASE_MIN_SECONDS {
                return Err(Wrong::default());
            }
            config.lease = given;
            Ok(())
        },
        default: Is(|config| Some(config.lease.as_secs().to_string())),
    },
    Setting {
        key: "linger_seconds",
        kind: Kind::Number,
        about: "How long a finished run stays in memory for late viewers.",
        allowed: "a whole number of seconds from 0 to 86400",
        set: |config, value| seconds(value, limits::LINGER_MAX_SECONDS).map(|given| config.linger = given),
        default: Is(|config| Some(config.linger.as_secs().to_string())),
    },
    Setting {
        key: "shutdown_grace_seconds",
        kind: Kind::Number,
        about: "How long a stop waits for running work before it ends it.",
        allowed: "a whole number of seconds from 0 to 3600",
        set: |config, value| {
            seconds(value, limits::SHUTDOWN_GRACE_MAX_SECONDS).map(|given| config.shutdown_grace = given)
        },
        default: Is(|config| Some(config.shutdown_grace.as_secs().to_string())),
    },
    Setting {
        key: "autostart",
        kind: Kind::Switch,
        about: "Whether the first viewer of a pending task starts it. Off: viewers wait for the start.",
        allowed: "true or false",
        set: |config, value| value.switch().map(|given| config.autostart = given),
        default: Is(|config| Some(config.autostart.to_string())),
    },
    Setting {
        key: "cors_origins",
        kind: Kind::List,
        about: "Origins of web pages, beside the server's own, that may call it.",
        allowed: "a list of origins such as \"https://app.example.com\"",
        set: |config, value| each(value, types::origin).map(|given| config.cors_origins = given),
        default: Is(|config| Some(list(&config.cors_origins))),
    },
    Setting {
        key: "allowed_hosts",
        kind: Kind::List,
        about: "Host names, beside loopback names and addresses, that requests may name; for a proxy that keeps the \
                outer name.",
        allowed: "a list of host names such as \"tasks.example.com\"",
        set: |config, value| each(value, types::host).map(|given| config.allowed_hosts = given),
        default: Is(|config| Some(list(&config.allowed_hosts))),
    },
    Setting {
        key: "log",
        kind: Kind::Text,
        about: "Which log lines are written to standard error: a level, or directives such as \
                \"warn,soloist_server=debug\".",
        allowed: "off, error, warn, info, debug, trace, or directives TARGET=LEVEL between commas",
        set: |config, value| {
            let text = value.text()?;
            EnvFilter::builder().parse(text).map_err(|_| Wrong::default())?;
            config.log = text.to_owned();
            Ok(())
        },
        default: Is(|config| Some(quoted(&config.log))),
    },
    Setting {
        key: "log_format",
        kind: Kind::Text,
        about: "How log lines look: text for people, json for machines.",
        allowed: "\"text\" or \"json\"",
        set: |config, value| LogFormat::parse(value.text()?).map(|given| config.log_format = given),
        default: Is(|config| Some(quoted(config.log_format.as_str()))),
    },
];

/// Keys of the whole server that are not there yet.
pub(crate) const SERVER_NOT_YET: &[NotYet] = &[
    NotYet { key: "auth", what: "authentication is" },
    NotYet { key: "tombstone_days", what: "retention of tombstones is" },
];

pub(super) fn seconds(value: &Value, max: u64) -> Taken<Duration> {
    value.number(0..=max).map(Duration::from_secs)
}

pub(super) fn number(value: &Value, min: u32, max: u32) -> Taken<u32> {
    let number = value.number(u64::from(min)..=u64::from(max))?;
    Ok(u32::try_from(number).expect("held to max"))
}

fn each(value: &Value, check: fn(String) -> Taken<String>) -> Taken<Vec<String>> {
    value.list()?.into_iter().map(check).collect()
}

pub(super) fn list(parts: &[String]) -> String {
    format!("[{}]", parts.iter().map(|part| quoted(part)).collect::<Vec<_>>().join(", "))
}
