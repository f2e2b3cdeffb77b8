//! The table of settings: the one place that knows every key.
//!
//! Decides: which keys there are, what each may say, what it is where nobody says it. Parsing, checking, the flags of
//! `serve`, `config check` and `docs/configuration.md` are all read from here; no key is named twice.

use std::time::Duration;

use soloist::{ModelKey, OnTimeout, Retention, limits, store::Durability};
use soloist_runners::exec::Signals;
use tracing_subscriber::EnvFilter;

use self::Preset::{Is, Needed};
use super::{
    Config, Model,
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

/// The keys of one `[[model]]`.
pub(crate) const MODEL: &[Setting<Model>] = &[
    Setting {
        key: "app",
        kind: Kind::Text,
        about: "The app that the model belongs to.",
        allowed: "a letter or '_', then up to 63 letters, digits, '_', '.' or '-'",
        set: |model, value| {
            let app = value.text()?;
            if ModelKey::new(app, "_").map_err(|_| Wrong::default())?.is_own() {
                return Err(Wrong("its tasks are those of `soloist run`; choose another name".to_owned()));
            }
            model.app = app.to_owned();
            Ok(())
        },
        default: Needed,
    },
    Setting {
        key: "model",
        kind: Kind::Text,
        about: "The name of the model within its app.",
        allowed: "a letter or '_', then up to 63 letters, digits, '_', '.' or '-'",
        set: |model, value| {
            let name = value.text()?;
            ModelKey::new("_", name).map_err(|_| Wrong::default())?;
            model.model = name.to_owned();
            Ok(())
        },
        default: Needed,
    },
    Setting {
        key: "runner",
        kind: Kind::Text,
        about: "What executes a task of this model: \"exec\" is a command.",
        allowed: "\"exec\"",
        set: |_, value| match value.text()? {
            "exec" => Ok(()),
            "http" => Err(Wrong::not_supported("the http runner is")),
            _ => Err(Wrong::default()),
        },
        default: Needed,
    },
    Setting {
        key: "command",
        kind: Kind::List,
        about: "The program and its arguments. `{input.field}` in an argument stands for that field of the task's \
                input; it fills one argument and never splits it.",
        allowed: "a list of texts with the program first",
        set: |model, value| value.list().map(|given| model.command = given),
        default: Needed,
    },
    Setting {
        key: "shell",
        kind: Kind::Switch,
        about: "Runs the command's one text by /bin/sh. No `{input.field}` then: read SOLOIST_TASK_INPUT or standard \
                input.",
        allowed: "true or false",
        set: |model, value| value.switch().map(|given| model.shell = given),
        default: Is(|model| Some(model.shell.to_string())),
    },
    Setting {
        key: "allow_dash",
        kind: Kind::Switch,
        about: "Whether a value that stands for `{input.field}` at the beginning of an argument may begin with '-', \
                where a program would take it for an option.",
        allowed: "true or false",
        set: |model, value| value.switch().map(|given| model.allow_dash = given),
        default: Is(|model| Some(model.allow_dash.to_string())),
    },
    Setting {
        key: "env",
        kind: Kind::Texts,
        about: "Variables that the command gets beside PATH, HOME, LANG, TZ and SOLOIST_TASK_*. `config check` hides \
                their texts.",
        allowed: "a table of names and texts, such as { MODE = \"fast\", TOKEN = \"${TOKEN}\" }",
        set: |model, value| value.texts().map(|given| model.env = given),
        default: Is(|_| Some("{}".to_owned())),
    },
    Setting {
        key: "pass_env",
        kind: Kind::List,
        about: "Names of variables that the command gets from the server's own environment.",
        allowed: "a list of names of variables",
        set: |model, value| value.list().map(|given| model.pass_env = given),
        default: Is(|model| Some(list(&model.pass_env))),
    },
    Setting {
        key: "dir",
        kind: Kind::Text,
        about: "The directory that the command runs in; empty: where the server was started.",
        allowed: "the path of a directory",
        set: |model, value| {
            let dir = value.text()?;
            if !dir.is_empty() && !std::path::Path::new(dir).is_dir() {
                return Err(Wrong("there is no such directory".to_owned()));
            }
            model.dir = (!dir.is_empty()).then(|| dir.into());
            Ok(())
        },
        default: Is(|_| Some(quoted(""))),
    },
    Setting {
        key: "max_concurrent",
        kind: Kind::Number,
        about: "Most runs of this model at a time; a start beyond them waits in the queue.",
        allowed: "a whole number from 1 to 100000",
        set: |model, value| {
            let number = value.number(1..=limits::CONCURRENT_MAX as u64)?;
            model.max_concurrent = usize::try_from(number).expect("held to CONCURRENT_MAX");
            Ok(())
        },
        default: Is(|model| Some(model.max_concurrent.to_string())),
    },
    Setting {
        key: "max_concurrent_total",
        kind: Kind::Number,
        about: "Most runs of this model at a time over all servers that share the store, which should all say the same; \
                not bounded where nobody says it.",
        allowed: "a whole number from 1 to 10000",
        set: |model, value| {
            model.max_concurrent_total = Some(number(value, 1, limits::CONCURRENT_TOTAL_MAX)?);
            Ok(())
        },
        default: Is(|model| model.max_concurrent_total.map(|most| most.to_string())),
    },
    Setting {
        key: "max_retries",
        kind: Kind::Number,
        about: "How often a run is tried again whose attempt has failed or whose server was lost, where its task does not say.",
        allowed: "a whole number from 0 to 1000",
        set: |model, value| {
            number(value, 0, limits::RETRIES_MAX).map(|given| model.terms.max_retries = given)
        },
        default: Is(|model| Some(model.terms.max_retries.to_string())),
    },
    Setting {
        key: "retry_delay_seconds",
        kind: Kind::Number,
        about: "The wait before the first retry of a run. It doubles with each further one, up to five minutes.",
        allowed: "a whole number of seconds from 0 to 300",
        set: |model, value| {
            seconds(value, limits::RETRY_DELAY_MAX.as_secs()).map(|given| model.retry_delay = given)
        },
        default: Is(|model| Some(model.retry_delay.as_secs().to_string())),
    },
    Setting {
        key: "timeout_seconds",
        kind: Kind::Number,
        about: "How long one attempt may take before it is stopped, where its task does not say; as long as it likes \
                where nobody says it.",
        allowed: "a whole number of seconds from 1 to 31622400",
        set: |model, value| {
            model.terms.timeout_seconds = Some(number(value, 1, limits::RUN_MAX_SECONDS)?);
            Ok(())
        },
        default: Is(|model| model.terms.timeout_seconds.map(|most| most.to_string())),
    },
    Setting {
        key: "deadline_seconds",
        kind: Kind::Number,
        about: "How long a run may take with all its attempts and the waits between them, from the start of the first one, \
                where its task does not say; as long as it likes where nobody says it.",
        allowed: "a whole number of seconds from 1 to 31622400",
        set: |model, value| {
            model.terms.deadline_seconds = Some(number(value, 1, limits::RUN_MAX_SECONDS)?);
            Ok(())
        },
        default: Is(|model| model.terms.deadline_seconds.map(|most| most.to_string())),
    },
    Setting {
        key: "retry_on_timeout",
        kind: Kind::Switch,
        about: "Whether a run whose attempt has taken longer than timeout_seconds is tried again, where it has a retry \
                left. Off: it ends as cancelled.",
        allowed: "true or false",
        set: |model, value| {
            model.on_timeout = if value.switch()? { OnTimeout::Retry } else { OnTimeout::Cancel };
            Ok(())
        },
        default: Is(|model| Some((model.on_timeout == OnTimeout::Retry).to_string())),
    },
    Setting {
        key: "final_exit_codes",
        kind: Kind::Numbers,
        about: "Exit codes by which the command says that another attempt would fail as well: no retry follows them.",
        allowed: "a list of whole numbers from 1 to 255, such as [64, 65]",
        set: |model, value| {
            let codes = value.numbers(1..=u64::from(u8::MAX))?;
            model.final_exit_codes =
                codes.into_iter().map(|code| u8::try_from(code).expect("held to 255")).collect();
            Ok(())
        },
        default: Is(|model| Some(format!("{:?}", model.final_exit_codes))),
    },
    Setting {
        key: "signals",
        kind: Kind::Text,
        about: "How the command hears of signals that its task is sent: \"none\" is not at all; \"stdin\" is by lines \
                `{\"signal\":\"NAME\",\"number\":N,\"data\":...}` on its standard input, after the input on one line. \
                Standard input then stays open until the command exits or closes it, and each attempt hears all signals of \
                its run from the first.",
        allowed: "\"none\" or \"stdin\"",
        set: |model, value| {
            model.signals = match value.text()? {
                "none" => Signals::None,
                "stdin" => Signals::Stdin,
                _ => return Err(Wrong::default()),
            };
            Ok(())
        },
        default: Is(|model| {
            Some(quoted(match model.signals {
                Signals::None => "none",
                Signals::Stdin => "stdin",
            }))
        }),
    },
    Setting {
        key: "retention",
        kind: Kind::Times,
        about: "How long finished tasks of this model are kept, by how they ended. What is left out is kept for 30 days.",
        allowed: "a table of completed, failed and cancelled with times such as { completed = \"7d\", failed = \"30d\", \
                  cancelled = \"12h\" }: a whole number from 1 with s, m, h or d, at most \"36500d\", or \"forever\"",
        set: |model, value| {
            let mut given = Retention::default();
            for (name, time) in value.times()? {
                let kept = match name {
                    "completed" => &mut given.completed,
                    "failed" => &mut given.failed,
                    "cancelled" => &mut given.cancelled,
                    _ => return Err(Wrong(format!("{} is no way to end", quoted(name)))),
                };
                *kept = types::kept(time).map_err(|_| Wrong(format!("{name} is no such time")))?;
            }
            model.retention = given;
            Ok(())
        },
        default: Is(|model| {
            let Retention { completed, failed, cancelled } = model.retention;
            let [completed, failed, cancelled] =
                [completed, failed, cancelled].map(|time| quoted(&types::kept_as_text(time)));
            Some(format!("{{ completed = {completed}, failed = {failed}, cancelled = {cancelled} }}"))
        }),
    },
];

/// Keys of the whole server that are not there yet.
pub(crate) const SERVER_NOT_YET: &[NotYet] = &[
    NotYet { key: "auth", what: "authentication is" },
    NotYet { key: "tombstone_days", what: "retention of tombstones is" },
];

/// Keys of a `[[model]]` that are not there yet.
pub(crate) const MODEL_NOT_YET: &[NotYet] = &[
    NotYet { key: "headers", what: "the http runner is" },
    NotYet { key: "method", what: "the http runner is" },
    NotYet { key: "url", what: "the http runner is" },
];

fn seconds(value: &Value, max: u64) -> Taken<Duration> {
    value.number(0..=max).map(Duration::from_secs)
}

fn number(value: &Value, min: u32, max: u32) -> Taken<u32> {
    let number = value.number(u64::from(min)..=u64::from(max))?;
    Ok(u32::try_from(number).expect("held to max"))
}

fn each(value: &Value, check: fn(String) -> Taken<String>) -> Taken<Vec<String>> {
    value.list()?.into_iter().map(check).collect()
}

fn list(parts: &[String]) -> String {
    format!("[{}]", parts.iter().map(|part| quoted(part)).collect::<Vec<_>>().join(", "))
}
