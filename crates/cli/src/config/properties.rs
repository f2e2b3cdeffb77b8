//! Configurations of whatever text: each is an error or a configuration, and what was written is what counts.
//!
//! `PROPTEST_CASES` says how many are tried.

use std::time::Duration;

use proptest::prelude::*;
use soloist::{OnTimeout, Retention, limits, store::Durability};
use soloist_runners::http::{Method, Redirects};

use super::{
    Config, Loaded, Model, Runner, Sources, each, flag_of, load, models,
    settings::SERVER,
    show,
    types::{Listen, LogFormat, StoreUrl},
    variable_of,
};

const SECRET: &str = "hunter2";

fn config() -> ProptestConfig {
    ProptestConfig { failure_persistence: None, ..ProptestConfig::default() }
}

fn from(
    file: &str,
    variables: Vec<(String, String)>,
    flags: Vec<(&'static str, String)>,
) -> Result<Loaded, String> {
    let lookup = |name: &str| (name == "SECRET").then(|| SECRET.to_owned());
    load(Sources { file: Some(("f".to_owned(), file.to_owned())), variables, flags, lookup: &lookup })
        .map_err(|error| error.0)
}

fn keys() -> Vec<&'static str> {
    SERVER.iter().map(|s| s.key).chain(each(models::ALL).map(|s| s.key)).collect()
}

/// A text as a TOML string, every character of it that could mean something written as an escape.
fn toml(text: &str) -> String {
    let text = text.replace("${", "$${");
    let letters = text.chars().map(|c| match c {
        c if c.is_alphanumeric() || "$ {}./:-_,=".contains(c) => c.to_string(),
        c => format!("\\U{:08X}", u32::from(c)),
    });
    format!("\"{}\"", letters.collect::<String>())
}

/// What a configuration is nearly made of.
fn anything() -> impl Strategy<Value = String> {
    let value = prop_oneof![
        prop::sample::select(vec![
            "1",
            "0",
            "-1",
            "1.5",
            "true",
            "\"\"",
            "\"${SECRET}\"",
            "\"x${SECRET}y\"",
            "\"${NOPE}\"",
            "\"$${\"",
            "[]",
            "{}",
            "[1]",
            "[\"a\", \"${SECRET}\"]",
            "{ a = \"${SECRET}\" }",
            "{ a = 1 }",
            "[[\"${SECRET}\"]]",
            "1979-05-27",
            "inf",
            "99999999999999999999",
            "0xff",
            "\"\\u0000\"",
            "\"exec\"",
            "\"http\"",
            "\"http://${SECRET}/\"",
            "\"unix:\"",
            "\"{input.a}\"",
            "\"{${SECRET}\"",
            "\"postgres://a:${SECRET}@h/d\"",
            "\"sqlite://${SECRET}\"",
            "[\"{${SECRET}}\"]",
            "{ completed = \"${SECRET}\" }",
            "\"${\"",
            "'''\n${SECRET}'''",
        ])
        .prop_map(str::to_owned),
        any::<i64>().prop_map(|number| number.to_string()),
        any::<String>().prop_map(|text| toml(&text)),
        "\\PC{0,8}",
    ];
    let key = prop_oneof![
        8 => prop::sample::select(keys()).prop_map(str::to_owned),
        1 => "[a-z_.]{0,8}",
        1 => prop::sample::select(vec!["model", "auth", "tombstone_days", "headers.a", "env.B", "retention.failed", "\"\""])
            .prop_map(str::to_owned),
    ];
    let line = prop_oneof![
        6 => (key, value).prop_map(|(key, value)| format!("{key} = {value}\n")),
        2 => Just("[[model]]\napp = \"a\"\nmodel = \"M\"\nrunner = \"exec\"\ncommand = [\"true\"]\n".to_owned()),
        1 => Just("[[model]]\napp = \"a\"\nmodel = \"H\"\nrunner = \"http\"\nurl = \"http://h/\"\n".to_owned()),
        1 => prop::sample::select(vec!["[[model]]\n", "[model]\n", "[auth]\n", "#", "\n", "[[", "\u{feff}", "\r"])
            .prop_map(str::to_owned),
        1 => "\\PC{0,12}",
    ];
    prop::collection::vec(line, 0..7).prop_map(|lines| lines.concat())
}

/// A path or a word: any characters but NUL, and none that would be taken for the password of a URL.
fn word() -> impl Strategy<Value = String> {
    prop_oneof!["[a-z./ -]{1,8}", "\\PC{1,6}", "[\"'\\\\${}#=\t\r\n\u{7f}a]{1,6}"]
        .prop_map(|text| text.replace(['@', '?', '\0'], "_"))
}

/// Lines of the file, and what they make of the defaults.
type Lines<T> = (String, T);

fn server() -> impl Strategy<Value = Lines<Config>> {
    let seconds = (
        prop::option::of(0..=86_400_u64),
        prop::option::of(0..=3_600_u64),
        prop::option::of(1..=3_600_u64),
        prop::option::of(any::<bool>()),
        prop::option::of(any::<bool>()),
        prop::option::of(any::<bool>()),
    );
    let texts = (
        prop::option::of(prop_oneof![
            (any::<u16>()).prop_map(|port| format!("127.0.0.1:{port}")),
            word().prop_map(|path| format!("unix:{path}"))
        ]),
        prop::option::of(prop_oneof![
            Just("memory:".to_owned()),
            word().prop_map(|path| format!("sqlite://{path}"))
        ]),
        prop::option::of(prop::collection::vec("[a-z0-9.-]{1,8}", 0..3)),
        prop::option::of(prop::collection::vec("https://[a-z]{1,5}(:[1-3][0-9]{3})?", 0..3)),
        prop::option::of(prop::sample::select(vec!["off", "debug", "warn,soloist=trace"])),
    );
    (seconds, texts).prop_map(
        |((linger, grace, lease, autostart, relaxed, json), (listen, store, hosts, origins, log))| {
            let (mut lines, mut config) = (Vec::new(), Config::default());
            let list = |texts: &[String]| {
                format!("[{}]", texts.iter().map(|text| toml(text)).collect::<Vec<_>>().join(","))
            };
            if let Some(seconds) = linger {
                lines.push(format!("linger_seconds = {seconds}"));
                config.linger = Duration::from_secs(seconds);
            }
            if let Some(seconds) = grace {
                lines.push(format!("shutdown_grace_seconds=0x{seconds:x} # in another base"));
                config.shutdown_grace = Duration::from_secs(seconds);
            }
            if let Some(seconds) = lease {
                lines.push(format!("\"lease_seconds\" = +{seconds}"));
                config.lease = Duration::from_secs(seconds);
            }
            if let Some(is_on) = autostart {
                lines.push(format!("autostart = {is_on}"));
                config.autostart = is_on;
            }
            if let Some(is_relaxed) = relaxed {
                lines.push(format!("durability = '{}'", if is_relaxed { "relaxed" } else { "full" }));
                config.durability = if is_relaxed { Durability::Relaxed } else { Durability::Full };
            }
            if let Some(is_json) = json {
                lines.push(format!("log_format = {}", toml(if is_json { "json" } else { "text" })));
                config.log_format = if is_json { LogFormat::Json } else { LogFormat::Text };
            }
            if let Some(listen) = listen {
                lines.push(format!("listen = {}", toml(&listen)));
                config.listen = match listen.strip_prefix("unix:") {
                    Some(path) => Listen::Unix(path.into()),
                    None => Listen::Tcp(listen.parse().unwrap()),
                };
            }
            if let Some(store) = store {
                lines.push(format!("store = {}", toml(&store)));
                config.store = match store.strip_prefix("sqlite://") {
                    Some(path) => StoreUrl::Sqlite(path.into()),
                    None => StoreUrl::Memory,
                };
            }
            if let Some(hosts) = hosts {
                lines.push(format!("allowed_hosts = {}", list(&hosts)));
                config.allowed_hosts = hosts;
            }
            if let Some(origins) = origins {
                lines.push(format!("cors_origins = {}", list(&origins)));
                config.cors_origins = origins;
            }
            if let Some(log) = log {
                lines.push(format!("log = {}", toml(log)));
                config.log = log.to_owned();
            }
            (lines.join("\n") + "\n", config)
        },
    )
}

fn model(number: usize) -> impl Strategy<Value = Lines<Model>> {
    let runs = (
        prop::option::of(1..=100_000_usize),
        prop::option::of(1..=10_000_u32),
        prop::option::of(0..=1_000_u32),
        prop::option::of(0..=300_u64),
        prop::option::of(1..=31_622_400_u32),
        prop::option::of(any::<bool>()),
        prop::option::of((
            1..=1_000_u64,
            prop::sample::select(vec![('s', 1), ('m', 60), ('h', 3_600), ('d', 86_400)]),
        )),
    );
    let own = (
        any::<bool>(),
        prop::collection::vec(word(), 1..4),
        any::<bool>(),
        prop::collection::vec(1..=255_u8, 0..3),
        prop::sample::select(vec![(Method::Get, "GET"), (Method::Post, "POST"), (Method::Patch, "PATCH")]),
        1..=86_400_u64,
        any::<bool>(),
    );
    (runs, own).prop_map(move |(runs, (is_http, words, dash, codes, method, idle, follows))| {
        let runner = if is_http { Runner::Http } else { Runner::Exec };
        let mut model = Model::of(runner);
        (model.app, model.model) = ("app".to_owned(), format!("M{number}"));
        let mut lines = vec![
            "[[model]]".to_owned(),
            format!("app = \"app\"\nmodel = \"M{number}\"\nrunner = \"{}\"", runner.as_str()),
        ];
        if is_http {
            model.http.url = format!("http://h.example:9/{}{{input.a}}", "x".repeat(words.len()));
            model.http.method = method.0;
            model.http.idle_timeout = Duration::from_secs(idle);
            model.http.redirects = if follows { Redirects::SameOrigin } else { Redirects::None };
            model.http.headers = [("Authorization".to_owned(), format!("Bearer {SECRET}"))].into();
            lines.push(format!("url = {}\nmethod = \"{}\"", toml(&model.http.url), method.1));
            lines.push(format!("idle_timeout_seconds = {idle}"));
            lines.push(format!("redirects = \"{}\"", if follows { "same-origin" } else { "none" }));
            lines.push("headers = { Authorization = \"Bearer ${SECRET}\" }".to_owned());
        } else {
            // No template: braces are doubled.
            model.exec.command =
                words.iter().map(|word| word.replace('{', "{{").replace('}', "}}")).collect();
            model.exec.allow_dash = dash;
            model.exec.final_exit_codes.clone_from(&codes);
            model.exec.env = [("TOKEN".to_owned(), SECRET.to_owned())].into();
            let words: Vec<_> = model.exec.command.iter().map(|word| toml(word)).collect();
            lines.push(format!("command = [{},]\nallow_dash = {dash}", words.join(", ")));
            lines.push(format!("final_exit_codes = {codes:?}\n[model.env]\nTOKEN = \"${{SECRET}}\""));
        }
        // What follows a table of the model would be part of that, so it stands before.
        let mut before = Vec::new();
        let (concurrent, total, retries, delay, timeout, on_timeout, kept) = runs;
        if let Some(most) = concurrent {
            before.push(format!("max_concurrent = {most}"));
            model.max_concurrent = most;
        }
        if let Some(most) = total {
            before.push(format!("max_concurrent_total = {most}"));
            model.max_concurrent_total = Some(most);
        }
        if let Some(most) = retries {
            before.push(format!("max_retries = {most}"));
            model.terms.max_retries = most;
        }
        if let Some(seconds) = delay {
            before.push(format!("retry_delay_seconds = {seconds}"));
            model.retry_delay = Duration::from_secs(seconds);
        }
        if let Some(seconds) = timeout {
            before.push(format!("timeout_seconds = {seconds}\ndeadline_seconds = {seconds}"));
            (model.terms.timeout_seconds, model.terms.deadline_seconds) = (Some(seconds), Some(seconds));
        }
        if let Some(retry) = on_timeout {
            before.push(format!("retry_on_timeout = {retry}"));
            model.on_timeout = if retry { OnTimeout::Retry } else { OnTimeout::Cancel };
        }
        if let Some((number, (unit, seconds))) = kept {
            before.push(format!("retention = {{ failed = \"{number}{unit}\", cancelled = \"forever\" }}"));
            let failed = Some(Duration::from_secs(number * seconds));
            model.retention = Retention { completed: Some(limits::RETENTION), failed, cancelled: None };
        }
        lines.insert(1, before.join("\n"));
        (lines.join("\n") + "\n", model)
    })
}

/// A value of a key for each source, where that says it: in the file, in the environment, by a flag.
fn said() -> impl Strategy<Value = [Option<u64>; 3]> {
    prop::array::uniform3(prop::option::of(1..=3_600_u64))
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn any_text_is_an_error_of_one_line_or_a_configuration_and_no_secret_is_shown(
        text in anything(), value in "\\PC{0,8}", key in prop::sample::select(keys()), by_flag in any::<bool>(),
    ) {
        let server = SERVER.iter().any(|setting| setting.key == key);
        let (variables, flags) = match (server, by_flag) {
            (true, true) => (Vec::new(), vec![(key, value)]),
            (true, false) => (vec![(variable_of(key), value)], Vec::new()),
            (false, _) => (Vec::new(), Vec::new()),
        };
        match from(&text, variables, flags) {
            Ok(loaded) => {
                for shown in [show::as_toml(&loaded), show::as_json(&loaded), format!("{loaded:?}")] {
                    prop_assert!(!shown.contains(SECRET), "{} shows what came from the environment: {}", text, shown);
                }
                prop_assert!(serde_json::from_str::<serde_json::Value>(&show::as_json(&loaded)).is_ok());
            }
            Err(error) => {
                prop_assert!(!error.contains('\n') && !error.is_empty(), "{:?} of {:?}", error, text);
                prop_assert!(!error.contains(SECRET), "{} of {}", error, text);
            }
        }
    }

    #[test]
    fn what_is_written_is_what_counts_and_what_is_shown_says_the_same(
        (text, expected) in server(), one in model(1), other in model(2), is_first in any::<bool>(),
    ) {
        let models = if is_first { [one, other] } else { [other, one] };
        let text = format!("{text}{}{}", models[0].0, models[1].0);
        let expected = Config { models: models.map(|(_, model)| model).to_vec(), ..expected };
        let loaded = from(&text, Vec::new(), Vec::new()).map_err(|error| TestCaseError::fail(format!("{error} of {text}")))?;
        prop_assert_eq!(&loaded.config, &expected, "{}", text);
        for (loaded, expected) in loaded.config.models.iter().zip(&expected.models) {
            prop_assert!(loaded == expected, "{:?}", expected);
        }
        // What came from the environment stands there by its name, unless something stands beside it.
        let shown = show::as_toml(&loaded).replace("Authorization = \"********\"", "Authorization = \"Bearer ${SECRET}\"");
        prop_assert!(!shown.contains(SECRET));
        let again = from(&shown, Vec::new(), Vec::new()).map_err(|error| TestCaseError::fail(format!("{error} of {shown}")))?;
        prop_assert_eq!(again.config, expected, "{}", shown);
    }

    #[test]
    fn a_key_with_one_letter_wrong_is_refused_by_name_with_one_that_is_near(
        key in prop::sample::select(keys()), at in any::<prop::sample::Index>(), letter in "[a-z_]", kind in 0..3_u8,
    ) {
        let at = at.index(key.len());
        let wrong = match kind {
            0 => format!("{}{letter}{}", &key[..at], &key[at..]),
            1 => format!("{}{letter}{}", &key[..at], &key[at + 1..]),
            _ => format!("{}{}", &key[..at], &key[at + 1..]),
        };
        prop_assume!(!keys().contains(&wrong.as_str()) && !["model", "auth", "tombstone_days", ""].contains(&wrong.as_str()));
        let is_server = SERVER.iter().any(|setting| setting.key == key);
        let text = if is_server { format!("\n{wrong} = 1\n") } else { format!("[[model]]\n{wrong} = 1\n") };
        let error = from(&text, Vec::new(), Vec::new()).unwrap_err();
        prop_assert!(error.starts_with(&format!("f line 2: unknown key \"{wrong}\"; did you mean ")), "{}", error);
        let meant = error.trim_end_matches('?').rsplit(' ').next().unwrap();
        prop_assert!(keys().contains(&meant), "{}", error);
        prop_assert!(strsim::damerau_levenshtein(meant, &wrong) <= 1, "{} is not as near as {}", error, key);
        if is_server {
            let error = from("", vec![(variable_of(&wrong), "1".to_owned())], Vec::new()).unwrap_err();
            prop_assert!(error.contains(&variable_of(&wrong)) && error.contains("did you mean SOLOIST_"), "{}", error);
        }
    }

    #[test]
    fn a_flag_counts_before_a_variable_and_that_before_the_file(
        linger in said(), grace in said(), lease in said(),
    ) {
        let settings = [("linger_seconds", linger), ("shutdown_grace_seconds", grace), ("lease_seconds", lease)];
        let (mut file, mut variables, mut flags) = (String::new(), Vec::new(), Vec::new());
        for (key, [by_file, by_variable, by_flag]) in settings {
            file.extend(by_file.map(|seconds| format!("{key} = {seconds}\n")));
            variables.extend(by_variable.map(|seconds| (variable_of(key), seconds.to_string())));
            flags.extend(by_flag.map(|seconds| (key, seconds.to_string())));
        }
        let loaded = from(&file, variables, flags).map_err(TestCaseError::fail)?;
        let default = Config::default();
        let Config { linger: is_linger, shutdown_grace, lease: is_lease, .. } = loaded.config;
        let defaults = [default.linger, default.shutdown_grace, default.lease];
        for (((key, [by_file, by_variable, by_flag]), got), default) in
            settings.into_iter().zip([is_linger, shutdown_grace, is_lease]).zip(defaults)
        {
            let expected = by_flag.or(by_variable).or(by_file).map_or(default, Duration::from_secs);
            prop_assert_eq!(got, expected, "{}", key);
            let origin = match (by_file, by_variable, by_flag) {
                (_, _, Some(_)) => format!("--{}", flag_of(key)),
                (_, Some(_), None) => format!("${}", variable_of(key)),
                (Some(_), None, None) => "f line ".to_owned(),
                (None, None, None) => "default".to_owned(),
            };
            let shown = loaded.server.iter().find(|shown| shown.key == key).unwrap();
            prop_assert!(shown.origin.to_string().starts_with(&origin), "{:?} of {}", shown, key);
        }
    }
}
