//! What is wrong with a configuration stops the start with one line and exit code 2.

use std::fs;

use super::program::{Done, soloist};

fn check(file: &str, variables: &[(&str, &str)], args: &[&str]) -> Done {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("soloist.toml"), file).unwrap();
    let output = soloist(dir.path()).args(args).envs(variables.iter().copied()).output().unwrap();
    let done = Done::of(output);
    assert!(!dir.path().join("soloist.db").exists(), "nothing is touched: {done:?}");
    done
}

#[test]
fn a_configuration_that_is_wrong_starts_nothing_and_says_what_to_write() {
    for (file, variables, flags, said) in [
        (
            "\nlissten = \"127.0.0.1:0\"",
            &[][..],
            &[][..],
            "soloist.toml line 2: unknown key \"lissten\"; did you mean listen?",
        ),
        (
            "linger_seconds = \"long\"",
            &[],
            &[],
            "linger_seconds = \"long\" is refused: allowed is a whole number of seconds",
        ),
        (
            "lease_seconds = 0",
            &[],
            &[],
            "lease_seconds = 0 is refused: allowed is a whole number of seconds from 1 to 3600",
        ),
        ("[auth]\n", &[], &[], "auth: authentication is not supported yet"),
        (
            "store = \"postgres://u:hunter2@h/d?sslmode=maybe\"",
            &[],
            &[],
            "\"postgres://***@h/d?sslmode=maybe\" is refused: sslmode is disable, prefer, require, verify-ca or verify-full",
        ),
        ("durability = \"none\"", &[], &[], "allowed is \"full\" or \"relaxed\""),
        ("", &[("SOLOIST_LISTN", "x")], &[], "did you mean SOLOIST_LISTEN?"),
        ("", &[("SOLOIST_LOG", "a=b=c")], &[], "$SOLOIST_LOG: log = \"a=b=c\" is refused"),
        (
            "",
            &[],
            &["--listen", "0.0.0.0:0"],
            "--listen: listen = \"0.0.0.0:0\" is refused: other machines could reach it",
        ),
        ("", &[], &["--config", "not-there.toml"], "cannot read the configuration not-there.toml"),
        (
            "[[model]]\napp = \"a\"\nmodel = \"M\"\nrunner = \"exec\"\ncommand = [\"echo\", \"{input\"]",
            &[],
            &[],
            "soloist.toml line 1: command[1]",
        ),
    ] {
        for command in [&["serve"][..], &["config", "check"]] {
            let done = check(file, variables, &[command, flags].concat()).exits(2);
            assert!(done.err.contains(said), "{file:?} {variables:?} {flags:?}: {}", done.err);
            assert!(
                done.err.starts_with("error: ") && done.err.trim_end().lines().count() == 1,
                "{}",
                done.err
            );
            assert!(!done.err.contains("hunter2") && done.out.is_empty(), "{done:?}");
        }
    }
    check("", &[], &["serve", "--lissten", "x"]).exits(2);
}

#[test]
fn config_check_shows_what_counts_without_secrets() {
    let file = "linger_seconds = 5\n[[model]]\napp = \"a\"\nmodel = \"M\"\nrunner = \"exec\"\n\
                command = [\"echo\", \"${WORD}\"]\nenv = { TOKEN = \"${TOKEN}\", PIN = \"1234567\" }\npass_env = [\"HOME\"]\n";
    let secrets = [("WORD", "swordfish"), ("TOKEN", "hunter2"), ("SOLOIST_LINGER_SECONDS", "7")];
    let done = check(file, &secrets, &["config", "check", "--listen", "127.0.0.1:0"]).exits(0);
    for line in [
        "listen = \"127.0.0.1:0\"",
        "# --listen",
        "linger_seconds = 7",
        "# $SOLOIST_LINGER_SECONDS",
        "command = [\"echo\", \"${WORD}\"]",
        "PIN = \"********\"",
        "TOKEN = \"${TOKEN}\"",
    ] {
        assert!(done.out.contains(line), "{line} in\n{}", done.out);
    }
    let json = check(file, &secrets, &["config", "check", "--json"]).exits(0);
    assert_eq!(json.json()["linger_seconds"]["value"], "7");
    assert_eq!(json.json()["model"][0]["app"]["from"], "soloist.toml line 3");
    for secret in ["swordfish", "hunter2", "1234567"] {
        assert!(!done.out.contains(secret) && !json.out.contains(secret), "{secret}");
    }
}

#[test]
fn another_file_is_named_by_the_environment_and_a_flag_wins_over_it() {
    let dir = tempfile::tempdir().unwrap();
    for (name, seconds) in [("one.toml", 1), ("two.toml", 2)] {
        fs::write(dir.path().join(name), format!("linger_seconds = {seconds}")).unwrap();
    }
    let value = |args: &[&str]| {
        let command = &mut soloist(dir.path());
        let done = Done::of(
            command
                .args(["config", "check", "--json"])
                .args(args)
                .env("SOLOIST_CONFIG", "one.toml")
                .output()
                .unwrap(),
        );
        done.exits(0).json()["linger_seconds"]["value"].as_str().unwrap().to_owned()
    };
    assert_eq!(value(&[]), "1");
    assert_eq!(value(&["--config", "two.toml"]), "2");
}
