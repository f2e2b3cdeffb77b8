//! What a command is given: its arguments, its environment, its descriptors, and nothing else.

use std::collections::BTreeMap;

use soloist::{Error, Json, Key, NewTask, Status, TaskFilter, limits};
use soloist_runners::exec::{ExecOptions, ExecRunner};

use crate::world::{World, command, guard, run, shell, world};

#[tokio::test]
async fn a_template_fills_one_argument_and_never_splits_it() {
    let world = world(command(&["printf", "<%s>\\n", "{input.a}", "b={input.b.c}", "", "{{x}}"])).await;
    let ran = world.run("t/Model", r#"{"a":"x y; $(id) * \"'","b":{"c":2.50}}"#).await;
    assert_eq!(ran.lines(), [r#"<x y; $(id) * "'>"#, "<b=2.50>", "<>", "<{x}>"]);
}

#[tokio::test]
async fn input_that_does_not_fit_is_refused_by_the_name_of_its_field_and_nothing_is_created() {
    let world = world(command(&["printf", "%s", "{input.a}"])).await;
    for input in
        ["{}", r#"{"a":null}"#, r#"{"a":[1]}"#, r#"{"a":{}}"#, r#"{"a":"-n"}"#, r#"{"a":"\u0000"}"#, "7"]
    {
        let key: Key = "t/Model/1".parse().unwrap();
        let error =
            world.coordinator.create(NewTask::named(key, Json::parse(input).unwrap())).await.unwrap_err();
        assert!(matches!(error, Error::Invalid { code: "invalid_input", .. }), "{input}");
        assert!(error.to_string().contains("\"a\""), "{error}");
    }
    let all = world.coordinator.list(TaskFilter { limit: 10, ..TaskFilter::default() }).await.unwrap();
    assert!(all.tasks.is_empty());
}

#[tokio::test]
async fn a_dash_is_taken_where_the_model_allows_it() {
    let options = ExecOptions { allow_dash: true, ..command(&["printf", "%s", "{input.a}"]) };
    let ran = world(options).await.run("t/Model", r#"{"a":"-n"}"#).await;
    assert_eq!(ran.lines(), ["-n"]);
}

#[tokio::test]
async fn the_environment_is_clean() {
    let options = ExecOptions {
        env: [("MINE".to_owned(), "a b".to_owned()), ("LANG".to_owned(), "C".to_owned())].into(),
        pass_env: vec!["CARGO_PKG_NAME".to_owned(), "SOLOIST_NOT_SET".to_owned()],
        ..command(&["env"])
    };
    let ran = world(options).await.run("t/Model", r#"{"k": "v"}"#).await;
    let lines = ran.lines();
    let env: BTreeMap<&str, &str> = lines.iter().map(|line| line.split_once('=').unwrap()).collect();
    for (name, value) in [
        ("MINE", "a b"),
        ("LANG", "C"),
        ("CARGO_PKG_NAME", "soloist-runners"),
        ("PYTHONUNBUFFERED", "1"),
        ("SOLOIST_TASK_APP", "t"),
        ("SOLOIST_TASK_MODEL", "Model"),
        ("SOLOIST_TASK_ID", "1"),
        ("SOLOIST_TASK_RUN", "1"),
        ("SOLOIST_TASK_ATTEMPT", "1"),
        ("SOLOIST_TASK_EPOCH", "1"),
        ("SOLOIST_TASK_INPUT", r#"{"k": "v"}"#),
    ] {
        assert_eq!(env.get(name), Some(&value), "{name}");
    }
    // Cargo sets many more for this process; none of them is handed on.
    assert!(std::env::var_os("CARGO_MANIFEST_DIR").is_some());
    let other: Vec<_> = env
        .keys()
        .filter(|name| !name.starts_with("SOLOIST_TASK_"))
        .filter(|name| {
            !["MINE", "LANG", "CARGO_PKG_NAME", "PYTHONUNBUFFERED", "PATH", "HOME", "TZ"].contains(name)
        })
        .collect();
    assert!(other.is_empty(), "{other:?}");
}

#[tokio::test]
async fn input_over_its_bound_is_on_stdin_only() {
    for (bytes, set) in
        [(limits::EXEC_ENV_INPUT_MAX_BYTES, "yes"), (limits::EXEC_ENV_INPUT_MAX_BYTES + 1, "no")]
    {
        let input = format!("\"{}\"", "x".repeat(bytes - 2));
        let script = r#"if [ "${SOLOIST_TASK_INPUT+set}" ]; then echo yes; else echo no; fi; wc -c"#;
        let ran = world(shell(script)).await.run("t/Model", &input).await;
        assert_eq!(ran.task.status, Status::Completed);
        assert_eq!(ran.lines(), [set, &bytes.to_string()]);
    }
}

#[tokio::test]
async fn no_descriptor_but_0_to_2_reaches_the_command_not_even_one_that_nobody_marked() {
    let file = tempfile::tempfile().unwrap();
    rustix::io::fcntl_setfd(&file, rustix::io::FdFlags::empty()).unwrap();
    // The descriptor by which the shell reads the directory is gone again when the links are read.
    let options = shell("for f in /proc/$$/fd/*; do readlink $f; done; true");
    // A guard that is started while the file is open inherits it.
    let ran = World::of(ExecRunner::new(options, &guard()).unwrap()).await.run("t/Model", "{}").await;
    let lines = ran.lines();
    assert_eq!(lines.len(), 3, "{lines:?}");
    assert!(lines.iter().all(|line| line.starts_with("pipe:") || line.starts_with("socket:")), "{lines:?}");
}

#[tokio::test]
async fn a_command_runs_in_the_directory_of_its_model() {
    let dir = tempfile::tempdir().unwrap();
    let ran = run(ExecOptions { dir: Some(dir.path().to_owned()), ..command(&["pwd", "-P"]) }).await;
    assert_eq!(ran.lines(), [dir.path().canonicalize().unwrap().to_str().unwrap()]);
}

#[tokio::test]
async fn a_command_begins_with_the_usual_limit_of_descriptors_whatever_the_server_raised_its_own_to() {
    let world = world(shell("ulimit -S -n")).await;
    let ran = world.run("t/Model", "{}").await;
    let limit: u64 = ran.lines()[0].parse().unwrap();
    assert!(limit <= limits::EXEC_DESCRIPTORS, "{limit}");
}

#[tokio::test]
async fn a_command_begins_with_every_signal_as_the_server_was_given_it() {
    let ran = run(command(&["grep", "-E", "Sig(Blk|Ign)", "/proc/self/status"])).await;
    let masks: Vec<_> = ran.lines().iter().map(|line| line.rsplit('\t').next().unwrap().to_owned()).collect();
    // What it ignores may be inherited from whoever runs the tests; the end of a child is none of that.
    let ignored = u64::from_str_radix(&masks[1], 16).unwrap();
    assert_eq!((masks[0].as_str(), ignored & 1 << (libc::SIGCHLD - 1)), ("0000000000000000", 0));
    assert_eq!(ignored & 1 << (libc::SIGPIPE - 1), 0);
}
