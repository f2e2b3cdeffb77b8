//! What a configuration may say, line by line.

use soloist_runners::http::{HttpOptions, Method, Proxy, Redirects};

use super::{Config, Loaded, Sources, load, models, settings, show};

fn from(file: &str, variables: &[(&str, &str)], flags: &[(&'static str, &str)]) -> Result<Loaded, String> {
    let lookup = |name: &str| (name == "SECRET").then(|| "hunter2".to_owned());
    load(Sources {
        file: Some(("soloist.toml".to_owned(), file.to_owned())),
        variables: variables.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect(),
        flags: flags.iter().map(|(k, v)| (*k, v.to_string())).collect(),
        lookup: &lookup,
    })
    .map_err(|e| e.0)
}

fn error(file: &str) -> String {
    from(file, &[], &[]).expect_err(file)
}

const MODEL: &str = "[[model]]\napp = \"a\"\nmodel = \"M\"\nrunner = \"exec\"\ncommand = [\"true\"]\n";

#[test]
fn the_later_source_wins() {
    let file = "listen = \"127.0.0.1:1\"\nlinger_seconds = 1\nautostart = false\n";
    let loaded = from(
        file,
        &[("SOLOIST_LISTEN", "127.0.0.1:2"), ("SOLOIST_LINGER_SECONDS", "2")],
        &[("listen", "[::1]:3")],
    )
    .unwrap();
    assert_eq!(loaded.config.listen.to_string(), "[::1]:3");
    assert_eq!(loaded.config.linger.as_secs(), 2);
    assert!(!loaded.config.autostart);
    let shown = show::as_toml(&loaded);
    for line in ["# --listen", "# $SOLOIST_LINGER_SECONDS", "# soloist.toml line 3", "# default"] {
        assert!(shown.contains(line), "{line} in\n{shown}");
    }
}

#[test]
fn an_empty_configuration_is_the_defaults_and_they_pass_their_own_checks() {
    let loaded = from("", &[], &[]).unwrap();
    assert_eq!(loaded.config, Config::default());
    let shown = show::as_toml(&loaded);
    assert_eq!(from(&shown, &[], &[]).unwrap().config, Config::default(), "{shown}");
    let shown = show::as_toml(&from(MODEL, &[], &[]).unwrap());
    assert_eq!(from(&shown, &[], &[]).unwrap().config.models, from(MODEL, &[], &[]).unwrap().config.models);
}

#[test]
fn a_misspelt_key_is_named_with_its_line_and_the_key_that_was_meant() {
    assert_eq!(
        error("# a comment\nlisten = \"127.0.0.1:1\"\nligner_seconds = 3\n"),
        "soloist.toml line 3: unknown key \"ligner_seconds\"; did you mean linger_seconds?"
    );
    assert!(error("zebra = 1").contains("known are allow_anonymous, listen, store"));
    assert!(
        error(&format!("{MODEL}comand = []\n"))
            .ends_with("line 6: unknown key \"comand\"; did you mean command?")
    );
    let variable = from("", &[("SOLOIST_LISTN", "x")], &[]).unwrap_err();
    assert_eq!(variable, "$SOLOIST_LISTN: unknown key \"SOLOIST_LISTN\"; did you mean SOLOIST_LISTEN?");
}

#[test]
fn a_wrong_value_is_told_with_what_is_allowed() {
    assert_eq!(
        error("linger_seconds = \"a while\""),
        "soloist.toml line 1: linger_seconds = \"a while\" is refused: allowed is a whole number of seconds from 0 to 86400"
    );
    for (file, word) in [
        ("linger_seconds = 86401", "from 0 to 86400"),
        ("linger_seconds = -1", "from 0 to 86400"),
        ("shutdown_grace_seconds = 1.5", "whole number"),
        ("autostart = \"yes\"", "true or false"),
        ("cors_origins = \"https://a.com\"", "a list of origins"),
        ("cors_origins = [\"*\"]", "not an origin"),
        ("allowed_hosts = [\"a b\"]", "not a host name"),
        ("log = \"loud=very\"", "log = \"loud=very\""),
        ("log_format = \"xml\"", "\"text\" or \"json\""),
        ("store = \"mysql://x\"", "sqlite://PATH, postgres://"),
        ("store = \"sqlite://\"", "path of the file is missing"),
        ("listen = \"0.0.0.0:80\"", "authentication"),
        ("model = 3", "[[model]]"),
        ("listen = ", "line 1"),
        ("listen = \"${NOT_THERE}\"", "no variable \"NOT_THERE\""),
    ] {
        assert!(error(file).contains(word), "{file}: {}", error(file));
    }
}

#[test]
fn the_bounds_in_the_table_are_those_of_the_limits() {
    use soloist::limits;
    let allowed = |key: &str| settings::SERVER.iter().find(|s| s.key == key).unwrap().allowed.to_owned();
    assert!(allowed("linger_seconds").ends_with(&format!("to {}", limits::LINGER_MAX_SECONDS)));
    assert!(
        allowed("shutdown_grace_seconds").ends_with(&format!("to {}", limits::SHUTDOWN_GRACE_MAX_SECONDS))
    );
    let concurrent = model_setting("max_concurrent").allowed;
    assert!(concurrent.ends_with(&format!("to {}", limits::CONCURRENT_MAX)));
    for (key, max) in [
        ("max_concurrent_total", u64::from(limits::CONCURRENT_TOTAL_MAX)),
        ("max_retries", u64::from(limits::RETRIES_MAX)),
        ("retry_delay_seconds", limits::RETRY_DELAY_MAX.as_secs()),
        ("timeout_seconds", u64::from(limits::RUN_MAX_SECONDS)),
        ("deadline_seconds", u64::from(limits::RUN_MAX_SECONDS)),
    ] {
        let allowed = model_setting(key).allowed;
        assert!(allowed.ends_with(&format!("to {max}")), "{key}: {allowed}");
    }
    let days = limits::RETENTION_MAX.as_secs() / (24 * 60 * 60);
    let retention = model_setting("retention");
    assert!(retention.allowed.contains(&format!("at most \"{days}d\"")), "{}", retention.allowed);
    let kept = soloist::limits::RETENTION.as_secs() / (24 * 60 * 60);
    assert!(retention.about.contains(&format!("for {kept} days")), "{}", retention.about);
}

#[test]
fn what_is_not_there_yet_is_refused_by_name() {
    for file in ["[auth]\ntokens = []", "tombstone_days = 400"] {
        assert!(error(file).contains("not supported yet"), "{file}: {}", error(file));
        let key = file.trim_start_matches('[').split([' ', ']']).next().unwrap();
        assert!(error(file).contains(key), "{file}: {}", error(file));
    }
    assert!(!error("store = \"postgres://u:hunter2@h/d?sslmode=maybe\"").contains("hunter2"));
}

fn model_setting(key: &str) -> &'static settings::Setting<super::Model> {
    super::each(models::ALL).find(|setting| setting.key == key).unwrap()
}

const HTTP: &str =
    "[[model]]\napp = \"a\"\nmodel = \"H\"\nrunner = \"http\"\nurl = \"http://127.0.0.1:9/x\"\n";

#[test]
fn each_runner_has_keys_of_its_own() {
    let error_of = |model: &str, entry: &str| error(&format!("{model}{entry}\n"));
    for (key, entry) in [("url", "url = \"http://x\""), ("final_statuses", "final_statuses = []")] {
        let error = error_of(MODEL, entry);
        assert!(
            error.starts_with(&format!("soloist.toml line 6: {key}: the runner \"exec\" has no")),
            "{error}"
        );
    }
    assert!(error_of(HTTP, "command = [\"true\"]").contains("the runner \"http\" has no such key"));
    assert!(error(&HTTP.replace("url", "# url")).contains("has no url"));
    assert!(error(&MODEL.replace("\"exec\"", "\"https\"")).contains("allowed is \"exec\" or \"http\""));
    assert_eq!(model("").max_concurrent, soloist::limits::EXEC_MAX_CONCURRENT);
    assert_eq!(http("").max_concurrent, soloist::limits::HTTP_MAX_CONCURRENT);
    assert_eq!(http("max_concurrent = 5").max_concurrent, 5);
    assert!(
        model_setting("max_concurrent").about.contains(&soloist::limits::HTTP_MAX_CONCURRENT.to_string())
    );
}

#[test]
fn an_endpoint_is_configured_line_by_line() {
    let given = http(
        "method = \"PUT\"\nheaders = { A = \"b\" }\nconnect_timeout_seconds = 1\nfirst_byte_timeout_seconds = 2\n\
         idle_timeout_seconds = 3\nredirects = \"same-origin\"\nproxy = \"http://p:1\"\n\
         terminal_event = \"done\"\nterminal_data = \"[DONE]\"\nerror_event = \"\"\nfinal_event = \"result\"\n\
         final_statuses = [404]\nevent_id_field = \"id\"",
    );
    let seconds = std::time::Duration::from_secs;
    let expected = HttpOptions {
        url: "http://127.0.0.1:9/x".into(),
        method: Method::Put,
        headers: [("A".to_owned(), "b".to_owned())].into(),
        connect_timeout: seconds(1),
        first_byte_timeout: seconds(2),
        idle_timeout: seconds(3),
        redirects: Redirects::SameOrigin,
        proxy: Proxy::Address("http://p:1".into()),
        ca_file: None,
        terminal_event: Some("done".into()),
        terminal_data: Some("[DONE]".into()),
        error_event: None,
        final_event: Some("result".into()),
        final_statuses: vec![404],
        event_id_field: Some("id".into()),
    };
    assert!(given.http == expected);
    let loaded = from(HTTP, &[], &[]).unwrap();
    assert!(loaded.config.models[0].http == HttpOptions { url: expected.url, ..HttpOptions::default() });
    assert_eq!(from(&show::as_toml(&loaded), &[], &[]).unwrap().config.models, loaded.config.models);
    for (entry, word) in [
        ("url = \"http://{input.host}/\"", "the host and the port may not come from the input"),
        ("url = \"ftp://x/\"", "url"),
        ("method = \"DELETE\"", "\"GET\", \"POST\""),
        ("headers = { Host = \"x\" }", "headers.Host"),
        ("idle_timeout_seconds = 0", "from 1 to 86400"),
        ("redirects = \"all\"", "same-origin"),
        ("proxy = \"squid\"", "proxy"),
        ("ca_file = \"/not/there.pem\"", "no such file"),
        ("ca_file = \"Cargo.toml\"", "ca_file: Cargo.toml: it holds no certificate"),
        ("final_statuses = [200]", "from 300 to 599"),
        ("event_id_field = \"_id\"", "event_id_field"),
    ] {
        let model = if entry.starts_with("url") { HTTP.replace("url", "# url") } else { HTTP.to_owned() };
        let error = error(&format!("{model}{entry}\n"));
        assert!(error.contains(word), "{entry}: {error}");
    }
}

#[test]
fn what_the_environment_holds_is_no_template_and_is_not_shown() {
    let lookup = |name: &str| (name == "SECRET").then(|| "hun{input.x}ter}2".to_owned());
    let file = format!("{HTTP}headers = {{ Authorization = \"Bearer ${{SECRET}} {{input.user}}\" }}\n");
    let loaded = load(Sources {
        file: Some(("f".into(), file)),
        variables: Vec::new(),
        flags: Vec::new(),
        lookup: &lookup,
    })
    .unwrap();
    let header = &loaded.config.models[0].http.headers["Authorization"];
    assert_eq!(header, "Bearer hun{{input.x}}ter}}2 {input.user}");
    for text in [show::as_toml(&loaded), show::as_json(&loaded), format!("{loaded:?}")] {
        assert!(!text.contains("hun") && !text.contains("Bearer"), "{text}");
    }
}

#[test]
fn models_are_checked_and_named_once() {
    assert!(error(&format!("{MODEL}{MODEL}")).contains("a/M stands in soloist.toml line 1 already"));
    assert!(error("[[model]]\napp = \"a\"\nmodel = \"M\"\nrunner = \"exec\"\n").contains("has no command"));
    assert!(error(&MODEL.replace("[\"true\"]", "[]")).contains("line 1: command: it is empty"));
    assert!(error(&MODEL.replace("\"a\"", "\"1a\"")).contains("app = \"1a\""));
    for (entry, word) in [
        ("dir = \"/not/there\"", "no such directory"),
        ("max_concurrent = 0", "from 1 to"),
        ("env = { SOLOIST_TASK_ID = \"1\" }", "set for every command"),
        ("pass_env = [\"A=B\"]", "is no name of a variable"),
        ("env = { A = 1 }", "a table of names and texts"),
    ] {
        let error = error(&format!("{MODEL}{entry}\n"));
        assert!(error.contains(word), "{entry}: {error}");
    }
}

#[test]
fn secrets_are_used_and_never_shown() {
    let file = format!(
        "{}env = {{ TOKEN = \"${{SECRET}}\", KEY = \"letmein\", MIX = \"x${{SECRET}}\" }}\n",
        MODEL.replace("\"true\"", "\"echo\", \"--token=${SECRET}\"")
    );
    let loaded = from(&file, &[], &[]).unwrap();
    assert_eq!(loaded.config.models[0].exec.command[1], "--token=hunter2");
    assert!(loaded.config.models[0].exec.env["MIX"] == "xhunter2");
    for text in [show::as_toml(&loaded), show::as_json(&loaded), format!("{loaded:?}")] {
        assert!(!text.contains("hunter2") && !text.contains("letmein"), "{text}");
    }
    let shown = show::as_toml(&loaded);
    assert!(shown.contains("TOKEN = \"${SECRET}\"") && shown.contains("KEY = \"********\""), "{shown}");
    assert!(!error("listen = \"${SECRET}\"").contains("hunter2"));
}

#[test]
fn lists_and_switches_are_read_from_variables() {
    let loaded =
        from("", &[("SOLOIST_ALLOWED_HOSTS", "a.com, B.com"), ("SOLOIST_AUTOSTART", "false")], &[]).unwrap();
    assert_eq!(loaded.config.allowed_hosts, ["a.com", "b.com"]);
    assert!(!loaded.config.autostart);
    assert!(from("", &[("SOLOIST_AUTOSTART", "off")], &[]).unwrap_err().contains("true or false"));
    assert!(
        from("", &[("SOLOIST_URL", "x"), ("SOLOIST_TASK_ID", "1"), ("SOLOIST_CONFIG", "f")], &[]).is_ok()
    );
}

fn model(entries: &str) -> super::Model {
    only(&format!("{MODEL}{entries}\n"))
}

fn http(entries: &str) -> super::Model {
    only(&format!("{HTTP}{entries}\n"))
}

fn only(file: &str) -> super::Model {
    from(file, &[], &[]).unwrap_or_else(|e| panic!("{file}: {e}")).config.models[0].clone()
}

#[test]
fn what_a_model_says_of_its_runs_is_how_they_are_run() {
    use soloist::{OnTimeout, Retention, RunTerms};
    use soloist_runners::exec::Signals;
    use std::time::Duration;

    let said = model(
        "max_concurrent_total = 10000\nmax_retries = 1000\nretry_delay_seconds = 300\ntimeout_seconds = 1\n\
         deadline_seconds = 31622400\nretry_on_timeout = true\nfinal_exit_codes = [1, 64, 255]\n\
         signals = \"stdin\"\nretention = { completed = \"7d\", failed = \"forever\", cancelled = \"12h\" }",
    );
    let options = said.terms();
    assert_eq!(options.max_concurrent_total, Some(10_000));
    let terms = RunTerms { max_retries: 1_000, timeout_seconds: Some(1), deadline_seconds: Some(31_622_400) };
    assert_eq!(options.terms, terms);
    assert_eq!(options.retry_delay, Duration::from_secs(300));
    assert_eq!(options.on_timeout, OnTimeout::Retry);
    let hours = |hours: u64| Some(Duration::from_secs(hours * 3_600));
    assert_eq!(options.retention, Retention { completed: hours(7 * 24), failed: None, cancelled: hours(12) });
    assert_eq!(said.exec.final_exit_codes, [1, 64, 255]);
    assert_eq!(said.exec.signals, Signals::Stdin);

    let silent = model("");
    let options = silent.terms();
    assert_eq!((options.max_concurrent_total, options.terms), (None, RunTerms::default()));
    assert_eq!((options.retry_delay, options.on_timeout), (Duration::from_secs(2), OnTimeout::Cancel));
    assert_eq!(options.retention, Retention::default());
    assert_eq!(silent.exec.signals, Signals::None);
    assert!(silent.exec.final_exit_codes.is_empty());
}

#[test]
fn the_smallest_and_the_plain_values_are_taken_as_well() {
    for entry in [
        "max_concurrent_total = 1",
        "max_retries = 0",
        "retry_delay_seconds = 0",
        "timeout_seconds = 31622400",
        "deadline_seconds = 1",
        "retry_on_timeout = false",
        "final_exit_codes = []",
        "signals = \"none\"",
        "retention = {}",
        "retention = { failed = \"1s\" }",
        "retention = { failed = \"90m\", completed = \"36500d\" }",
    ] {
        model(entry);
    }
    let partly = model("retention = { failed = \"90m\" }").retention;
    assert_eq!(partly.failed.unwrap().as_secs(), 90 * 60);
    assert_eq!(partly.completed, soloist::Retention::default().completed);
}

#[test]
fn a_wrong_value_of_a_model_is_told_with_its_key_and_what_is_allowed() {
    for (entry, allowed) in [
        ("max_concurrent_total = 0", "from 1 to 10000"),
        ("max_concurrent_total = 10001", "from 1 to 10000"),
        ("max_retries = 1001", "from 0 to 1000"),
        ("max_retries = -1", "from 0 to 1000"),
        ("max_retries = \"3\"", "from 0 to 1000"),
        ("retry_delay_seconds = 301", "from 0 to 300"),
        ("timeout_seconds = 0", "from 1 to 31622400"),
        ("timeout_seconds = 31622401", "from 1 to 31622400"),
        ("deadline_seconds = 0", "from 1 to 31622400"),
        ("deadline_seconds = 4294967297", "from 1 to 31622400"),
        ("retry_on_timeout = \"yes\"", "true or false"),
        ("final_exit_codes = [0]", "from 1 to 255"),
        ("final_exit_codes = [1, 256]", "from 1 to 255"),
        ("final_exit_codes = [\"1\"]", "from 1 to 255"),
        ("final_exit_codes = 1", "a list of whole numbers"),
        ("signals = \"stdout\"", "\"none\" or \"stdin\""),
        ("signals = true", "\"none\" or \"stdin\""),
        ("retention = \"7d\"", "a table of completed, failed and cancelled"),
        ("retention = { failed = 7 }", "a table of completed, failed and cancelled"),
        ("retention = { done = \"7d\" }", "\"done\" is no way to end"),
        ("retention = { failed = \"7\" }", "failed is no such time"),
        ("retention = { failed = \"7w\" }", "failed is no such time"),
        ("retention = { failed = \"0d\" }", "failed is no such time"),
        ("retention = { failed = \"+7d\" }", "failed is no such time"),
        ("retention = { failed = \"1.5d\" }", "failed is no such time"),
        ("retention = { failed = \"d\" }", "failed is no such time"),
        ("retention = { failed = \"36501d\" }", "at most \"36500d\""),
        ("retention = { failed = \"99999999999999999999d\" }", "failed is no such time"),
        ("retention = { failed = \"999999999999999999d\" }", "failed is no such time"),
    ] {
        let error = error(&format!("{MODEL}{entry}\n"));
        let start = format!("soloist.toml line 6: {entry} is refused: ");
        assert!(error.starts_with(&start) && error.contains(allowed), "{entry}: {error}");
        assert!(error.contains("allowed is "), "{entry}: {error}");
    }
}

#[test]
fn a_model_is_shown_as_it_would_be_written() {
    let file = format!(
        "{MODEL}timeout_seconds = 5\nfinal_exit_codes = [7, 9]\nretention = {{ failed = \"90m\", completed = \"forever\" }}\n"
    );
    let loaded = from(&file, &[], &[]).unwrap();
    let shown = show::as_toml(&loaded);
    assert_eq!(from(&shown, &[], &[]).unwrap().config.models, loaded.config.models, "{shown}");
}
