//! The table of settings of a `[[model]]`.
//!
//! Decides: which keys a model has, by what executes it, what each may say, and what it is where nobody says it. See
//! [`settings`](super::settings) for what is read from here.

use std::time::Duration;

use soloist::{ModelKey, OnTimeout, Retention, limits};
use soloist_runners::{
    exec::Signals,
    http::{Method, Proxy, Redirects},
};

use super::{
    Model, Runner,
    settings::{
        Preset::{Is, Needed},
        Setting, list, number, seconds,
    },
    types,
    value::{Kind, Taken, Value, Wrong, quoted},
};

/// The keys of every model that say which one it is.
pub(crate) const NAMES: &[Setting<Model>] = &[
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
        about: "What executes a task of this model: \"exec\" is a command, \"http\" an endpoint that streams.",
        allowed: "\"exec\" or \"http\"",
        set: |model, value| {
            model.runner = Runner::parse(value.text()?).ok_or_else(Wrong::default)?;
            Ok(())
        },
        default: Needed,
    },
];

/// The keys of a model that a command executes.
pub(crate) const EXEC: &[Setting<Model>] = &[
    Setting {
        key: "command",
        kind: Kind::List,
        about: "The program and its arguments. `{input.field}` in an argument stands for that field of the task's \
                input; it fills one argument and never splits it.",
        allowed: "a list of texts with the program first",
        set: |model, value| value.list().map(|given| model.exec.command = given),
        default: Needed,
    },
    Setting {
        key: "shell",
        kind: Kind::Switch,
        about: "Runs the command's one text by /bin/sh. No `{input.field}` then: read SOLOIST_TASK_INPUT or standard \
                input.",
        allowed: "true or false",
        set: |model, value| value.switch().map(|given| model.exec.shell = given),
        default: Is(|model| Some(model.exec.shell.to_string())),
    },
    Setting {
        key: "allow_dash",
        kind: Kind::Switch,
        about: "Whether a value that stands for `{input.field}` at the beginning of an argument may begin with '-', \
                where a program would take it for an option.",
        allowed: "true or false",
        set: |model, value| value.switch().map(|given| model.exec.allow_dash = given),
        default: Is(|model| Some(model.exec.allow_dash.to_string())),
    },
    Setting {
        key: "env",
        kind: Kind::Texts,
        about: "Variables that the command gets beside PATH, HOME, LANG, TZ and SOLOIST_TASK_*. `config check` hides \
                their texts.",
        allowed: "a table of names and texts, such as { MODE = \"fast\", TOKEN = \"${TOKEN}\" }",
        set: |model, value| value.texts().map(|given| model.exec.env = given.into_iter().collect()),
        default: Is(|_| Some("{}".to_owned())),
    },
    Setting {
        key: "pass_env",
        kind: Kind::List,
        about: "Names of variables that the command gets from the server's own environment.",
        allowed: "a list of names of variables",
        set: |model, value| value.list().map(|given| model.exec.pass_env = given),
        default: Is(|model| Some(list(&model.exec.pass_env))),
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
            model.exec.dir = (!dir.is_empty()).then(|| dir.into());
            Ok(())
        },
        default: Is(|_| Some(quoted(""))),
    },
    Setting {
        key: "final_exit_codes",
        kind: Kind::Numbers,
        about: "Exit codes by which the command says that another attempt would fail as well: no retry follows them.",
        allowed: "a list of whole numbers from 1 to 255, such as [64, 65]",
        set: |model, value| {
            let codes = value.numbers(1..=u64::from(u8::MAX))?;
            model.exec.final_exit_codes =
                codes.into_iter().map(|code| u8::try_from(code).expect("held to 255")).collect();
            Ok(())
        },
        default: Is(|model| Some(format!("{:?}", model.exec.final_exit_codes))),
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
            model.exec.signals = match value.text()? {
                "none" => Signals::None,
                "stdin" => Signals::Stdin,
                _ => return Err(Wrong::default()),
            };
            Ok(())
        },
        default: Is(|model| {
            Some(quoted(match model.exec.signals {
                Signals::None => "none",
                Signals::Stdin => "stdin",
            }))
        }),
    },
];

/// The keys of a model that an endpoint executes.
pub(crate) const HTTP: &[Setting<Model>] = &[
    Setting {
        key: "url",
        kind: Kind::Text,
        about: "The address of the endpoint. `{input.field}` in its path or query stands for that field of the task's input, \
                percent-encoded; scheme, host and port are fixed, and a value makes no step (`.`, `..`) in the path.",
        allowed: "an http or https address such as \"http://127.0.0.1:9000/chats/{input.chat}/generate\"",
        set: |model, value| {
            model.http.url = value.template()?.to_owned();
            Ok(())
        },
        default: Needed,
    },
    Setting {
        key: "method",
        kind: Kind::Text,
        about: "How the endpoint is called. All but GET send the task's input as their body.",
        allowed: "\"GET\", \"POST\", \"PUT\" or \"PATCH\"",
        set: |model, value| {
            let given = value.text()?;
            let method = Method::ALL.into_iter().find(|method| method.as_str() == given);
            model.http.method = method.ok_or_else(Wrong::default)?;
            Ok(())
        },
        default: Is(|model| Some(quoted(model.http.method.as_str()))),
    },
    Setting {
        key: "headers",
        kind: Kind::Texts,
        about: "Headers that the endpoint is sent beside its own: Accept, Content-Type, User-Agent (which may be said here), \
                Idempotency-Key, traceparent, and Soloist-Task, -Run, -Attempt and -Epoch. `{input.field}` in a value stands for \
                that field of the input. `config check` hides their texts.",
        allowed: "a table of names and texts, such as { Authorization = \"Bearer ${TOKEN}\", X-User = \"{input.user}\" }",
        set: |model, value| value.templates().map(|given| model.http.headers = given.into_iter().collect()),
        default: Is(|_| Some("{}".to_owned())),
    },
    Setting {
        key: "connect_timeout_seconds",
        kind: Kind::Number,
        about: "Longest wait for a connection to the endpoint, TLS included.",
        allowed: "a whole number of seconds from 1 to 86400",
        set: |model, value| wait(value).map(|given| model.http.connect_timeout = given),
        default: Is(|model| Some(model.http.connect_timeout.as_secs().to_string())),
    },
    Setting {
        key: "first_byte_timeout_seconds",
        kind: Kind::Number,
        about: "Longest wait for the head of the answer, from the beginning of the attempt.",
        allowed: "a whole number of seconds from 1 to 86400",
        set: |model, value| wait(value).map(|given| model.http.first_byte_timeout = given),
        default: Is(|model| Some(model.http.first_byte_timeout.as_secs().to_string())),
    },
    Setting {
        key: "idle_timeout_seconds",
        kind: Kind::Number,
        about: "Longest silence within the answer. Comments count as life.",
        allowed: "a whole number of seconds from 1 to 86400",
        set: |model, value| wait(value).map(|given| model.http.idle_timeout = given),
        default: Is(|model| Some(model.http.idle_timeout.as_secs().to_string())),
    },
    Setting {
        key: "redirects",
        kind: Kind::Text,
        about: "Which redirects are followed: of a call with a body only 307 and 308, since any other one would drop the body. \
                One that is not followed is a failure that is not tried again.",
        allowed: "\"none\" or \"same-origin\" (the same scheme, host and port)",
        set: |model, value| {
            model.http.redirects = match value.text()? {
                "none" => Redirects::None,
                "same-origin" => Redirects::SameOrigin,
                _ => return Err(Wrong::default()),
            };
            Ok(())
        },
        default: Is(|model| {
            Some(quoted(match model.http.redirects {
                Redirects::None => "none",
                Redirects::SameOrigin => "same-origin",
            }))
        }),
    },
    Setting {
        key: "proxy",
        kind: Kind::Text,
        about: "By which proxy the endpoint is reached: \"none\", whatever the environment says; \"environment\": those that \
                HTTP_PROXY, HTTPS_PROXY, ALL_PROXY and NO_PROXY name; or an address.",
        allowed: "\"none\", \"environment\" or an address such as \"http://proxy.example.com:3128\"",
        set: |model, value| {
            model.http.proxy = match value.text()? {
                "none" => Proxy::None,
                "environment" => Proxy::Environment,
                address => Proxy::Address(address.to_owned()),
            };
            Ok(())
        },
        default: Is(|_| Some(quoted("none"))),
    },
    Setting {
        key: "ca_file",
        kind: Kind::Text,
        about: "A file of PEM certificates that are trusted beside those of the system.",
        allowed: "the path of a file",
        set: |model, value| {
            let path = value.text()?;
            if !std::path::Path::new(path).is_file() {
                return Err(Wrong("there is no such file".to_owned()));
            }
            model.http.ca_file = Some(path.into());
            Ok(())
        },
        default: Is(|model| model.http.ca_file.as_ref().map(|path| quoted(&path.to_string_lossy()))),
    },
    Setting {
        key: "terminal_event",
        kind: Kind::Text,
        about: "The type of the event that ends the stream well (without data it is no event). Where this or terminal_data is said, a stream that ends \
                without it was cut off; else the end of the answer ends it well.",
        allowed: "a type of event, such as \"done\"",
        set: |model, value| {
            model.http.terminal_event = Some(value.text()?.to_owned());
            Ok(())
        },
        default: Is(|model| model.http.terminal_event.as_deref().map(quoted)),
    },
    Setting {
        key: "terminal_data",
        kind: Kind::Text,
        about: "The data of the event that ends the stream well. It is a mark, and never the final value.",
        allowed: "the text of an event's data, such as \"[DONE]\"",
        set: |model, value| {
            model.http.terminal_data = Some(value.text()?.to_owned());
            Ok(())
        },
        default: Is(|model| model.http.terminal_data.as_deref().map(quoted)),
    },
    Setting {
        key: "error_event",
        kind: Kind::Text,
        about: "The type of the event by which the endpoint says that it has failed; empty: no event says so. Events of \
                the types complete, error and cancelled become part of the event that ends the run, the last one that came, \
                and are not shown before.",
        allowed: "a type of event, or an empty text",
        set: |model, value| {
            let given = value.text()?;
            model.http.error_event = (!given.is_empty()).then(|| given.to_owned());
            Ok(())
        },
        default: Is(|model| Some(quoted(model.http.error_event.as_deref().unwrap_or_default()))),
    },
    Setting {
        key: "final_event",
        kind: Kind::Text,
        about: "The type of the event whose data are the final value of the run, the last of them. Where nobody says it, it is \
                the last event, whatever its type.",
        allowed: "a type of event, such as \"result\"",
        set: |model, value| {
            model.http.final_event = Some(value.text()?.to_owned());
            Ok(())
        },
        default: Is(|model| model.http.final_event.as_deref().map(quoted)),
    },
    Setting {
        key: "final_statuses",
        kind: Kind::Numbers,
        about: "Statuses of an answer after which another attempt would fail as well: no retry follows them.",
        allowed: "a list of whole numbers from 300 to 599, such as [400, 404, 422]",
        set: |model, value| {
            let statuses = value.numbers(300..=599)?;
            model.http.final_statuses =
                statuses.into_iter().map(|status| u16::try_from(status).expect("held to 599")).collect();
            Ok(())
        },
        default: Is(|model| Some(format!("{:?}", model.http.final_statuses))),
    },
    Setting {
        key: "event_id_field",
        kind: Kind::Text,
        about: "The field of an event's object data under which the endpoint's own event id is kept; where nobody says it, \
                that id is dropped, because viewers resume by Soloist's own.",
        allowed: "the name of a field that does not begin with '_', such as \"id\"",
        set: |model, value| {
            model.http.event_id_field = Some(value.text()?.to_owned());
            Ok(())
        },
        default: Is(|model| model.http.event_id_field.as_deref().map(quoted)),
    },
];

/// The keys of every model that say how its runs are run.
pub(crate) const RUNS: &[Setting<Model>] = &[
    Setting {
        key: "max_concurrent",
        kind: Kind::Number,
        about: "Most runs of this model at a time in this server, 64 by default for \"exec\" and 1000 for \"http\"; a start \
                beyond them waits in the queue.",
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

/// All of them, in the order in which they are shown.
pub(crate) const ALL: &[&[Setting<Model>]] = &[NAMES, EXEC, HTTP, RUNS];

/// The keys of a model that this executes.
pub(crate) const fn of(runner: Runner) -> &'static [&'static [Setting<Model>]] {
    match runner {
        Runner::Exec => &[NAMES, EXEC, RUNS],
        Runner::Http => &[NAMES, HTTP, RUNS],
    }
}

fn wait(value: &Value) -> Taken<Duration> {
    value.number(1..=limits::HTTP_WAIT_MAX_SECONDS).map(Duration::from_secs)
}
