//! How a command ends is how its run ends, with an error that a person can read.

use soloist::Status;

use crate::world::{command, run, shell};

#[tokio::test]
async fn an_exit_code_is_a_failure_with_the_end_of_stderr_as_its_traceback() {
    let ran = run(shell("echo first >&2; echo last words >&2; exit 3")).await;
    assert_eq!(ran.failure(), ("ExitCode", "exit code 3"));
    assert_eq!(ran.task.failure.as_ref().unwrap().traceback.as_deref(), Some("first\nlast words"));
    assert_eq!(ran.of_type("log").len(), 2);
    let error = ran.of_type("error").pop().unwrap();
    assert_eq!((&error["message"], &error["error_type"]), (&"exit code 3".into(), &"ExitCode".into()));
}

#[tokio::test]
async fn a_signal_is_a_failure_that_names_it() {
    let ran = run(shell("kill -SEGV $$")).await;
    assert_eq!(ran.failure(), ("Signal", "killed by signal 11 (SIGSEGV)"));
    assert_eq!(ran.task.failure.as_ref().unwrap().traceback, None);
}

#[tokio::test]
async fn a_command_that_cannot_begin_is_a_failure_that_says_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str, mode: u32| {
        let path = dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(mode)).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let mut in_no_dir = command(&["true"]);
    in_no_dir.dir = Some(dir.path().join("missing"));
    for (options, says) in [
        (command(&["soloist-no-such-command", "x"]), "install it"),
        (command(&["/nowhere/at/all"]), "no such file"),
        (command(&[&file("plain", "text", 0o600)]), "executable"),
        (command(&[&file("script", "#!/no/such/interpreter\n", 0o700)]), "interpreter"),
        (in_no_dir, "no directory"),
    ] {
        let ran = run(options).await;
        let (error_type, message) = ran.failure();
        assert_eq!(error_type, "SpawnFailed");
        assert!(message.starts_with("cannot run \"") && message.contains(says), "{message}");
    }
}

#[tokio::test]
async fn exit_code_0_completes_with_the_last_result_else_the_last_event_else_null() {
    for (script, value) in [
        ("true", "null"),
        ("echo text; echo log >&2", "null"),
        (r#"echo '{"step": 1}'; echo '{"step": 2}'; echo text"#, r#"{"step": 2}"#),
        (r#"echo '{"event":"result","data":[1.50]}'; echo '{"event":"note","data":2}'"#, "[1.50]"),
        (r#"echo '{"event":"note"}'; echo '{"event":"output","data":3}'"#, "null"),
        (
            r#"echo '{"event":"note","data":1}'; echo '{"event":"complete","data":{"message":"m"}}'"#,
            r#"{"message":"m"}"#,
        ),
    ] {
        let ran = run(shell(script)).await;
        assert_eq!(ran.task.status, Status::Completed, "{script}");
        assert_eq!(ran.final_value(), value, "{script}");
    }
}

#[tokio::test]
async fn an_ending_that_the_command_sends_becomes_part_of_the_one_real_ending() {
    let ran = run(shell(
        r#"echo '{"event":"complete","data":{"message":"done"}}'; echo '{"event":"result","data":7}'"#,
    ))
    .await;
    let ends = ran.of_type("complete");
    assert_eq!(ends, [serde_json::json!({"message": "done", "final_value": 7, "_system": true})]);

    let ran = run(shell(r#"echo '{"event":"complete","data":{"message":"done"}}'; exit 1"#)).await;
    assert_eq!(ran.failure(), ("ExitCode", "exit code 1"));
    assert!(ran.of_type("complete").is_empty());
}
