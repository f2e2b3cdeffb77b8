//! What a command writes becomes events, whatever it writes.

use serde_json::json;
use soloist::{Status, limits};
use soloist_runners::exec::ExecOptions;

use crate::world::{command, run, shell, world};

#[tokio::test]
async fn lines_become_output_and_log_events_also_the_last_one_without_its_end() {
    let ran = run(shell("echo a; echo; echo oops >&2; printf b")).await;
    assert_eq!(ran.lines(), ["a", "", "b"]);
    assert_eq!(ran.of_type("log"), [json!({"line": "oops"})]);
    assert_eq!(ran.task.status, Status::Completed);
}

#[tokio::test]
async fn what_a_command_writes_just_before_it_exits_is_read_to_its_end() {
    // As much as the pipe holds, in more events than the pipeline does: the command is long gone when they are sent.
    let ran = run(shell("head -c 60000 /dev/zero | tr '\\0' '\\n'; printf end")).await;
    let lines = ran.lines();
    assert_eq!((lines.len(), lines[60_000].as_str()), (60_001, "end"));
}

#[tokio::test]
async fn a_progress_bar_that_goes_back_by_cr_is_one_event_a_piece() {
    let ran = run(shell(r"printf '10%%\r50%%\r100%%\r\ndone\n'")).await;
    assert_eq!(ran.lines(), ["10%", "50%", "100%", "done"]);
}

#[tokio::test]
async fn invalid_utf8_is_replaced() {
    let ran = run(shell(r"printf 'a\377b\n\303\050\n'; printf '\376\n' >&2")).await;
    assert_eq!(ran.lines(), ["a\u{fffd}b", "\u{fffd}("]);
    assert_eq!(ran.of_type("log"), [json!({"line": "\u{fffd}"})]);
    assert_eq!(ran.task.status, Status::Completed);
}

#[tokio::test]
async fn json_lines_become_the_events_that_they_name_with_their_exact_data() {
    let ran = run(shell(
        r#"echo '{"event":"start","data":{"n": 1.0,  "m":123456789012345678901234567890}}'
           echo '{"event":"bare"}'
           echo '{"event":5}'
           echo '["no object"]'"#,
    ))
    .await;
    let events: Vec<_> = ran.events.iter().map(|e| (e.event_type.as_str(), e.data.as_str())).collect();
    assert_eq!(
        events[..4],
        [
            ("start", r#"{"n": 1.0,  "m":123456789012345678901234567890}"#),
            ("bare", "null"),
            ("progress", r#"{"event":5}"#),
            ("output", r#"{"line":"[\"no object\"]"}"#),
        ]
    );
    assert_eq!(events.len(), 5);
}

#[tokio::test]
async fn an_event_that_is_not_allowed_is_shown_as_output_that_says_why() {
    let ran = run(shell(
        r#"echo '{"event":"gap","data":1}'
           printf '%s\n' '{"event":"a\nb","data":2}'
           echo '{"event":"","data":3}'
           echo '{"event":"fine","data":4}'"#,
    ))
    .await;
    let output = ran.of_type("output");
    assert_eq!(output.len(), 3);
    assert_eq!(output[0]["line"], r#"{"event":"gap","data":1}"#);
    assert!(output[0]["error"].as_str().unwrap().contains("gap"));
    assert!(output[1]["error"].as_str().unwrap().contains("LF"));
    assert_eq!(ran.final_value(), "4");
}

#[tokio::test]
async fn an_event_may_be_as_large_as_events_may_be_and_a_larger_one_is_cut_output() {
    let max = limits::EVENT_DATA_MAX_BYTES;
    let script = |bytes: usize| {
        let fill = format!("head -c {} /dev/zero | tr '\\0' x", bytes - 2);
        shell(&format!(r#"printf '{{"event":"big","data":"'; {fill}; echo '"}}'"#))
    };
    let ran = run(script(max)).await;
    assert_eq!(ran.events[0].event_type.as_str(), "big");
    assert_eq!(ran.final_value().len(), max);

    let ran = run(script(max + 1)).await;
    let output = ran.of_type("output").pop().unwrap();
    assert_eq!(
        (&output["truncated"], output["line"].as_str().unwrap().len()),
        (&json!(true), limits::EXEC_LINE_MAX_BYTES)
    );
    assert!(output["error"].as_str().unwrap().contains("at most"));
    assert_eq!(ran.final_value(), "null");
}

#[tokio::test]
async fn s8_300_mb_on_one_line_are_cut_and_take_no_memory() {
    let before = peak_bytes();
    let ran = run(shell("head -c 300000000 /dev/zero | tr '\\0' x; echo; echo next")).await;
    // The kernel counts pages in batches, so the peak may seem to shrink by a few of them.
    let grown = peak_bytes().saturating_sub(before);
    assert!(grown < 64 << 20, "grew by {grown} bytes");
    let output = ran.of_type("output");
    assert_eq!(output[0]["line"].as_str().unwrap().len(), limits::EXEC_LINE_MAX_BYTES);
    assert_eq!(output[0]["truncated"], true);
    assert_eq!(output[1], json!({"line": "next"}));
    assert_eq!(ran.task.status, Status::Completed);
}

/// The most memory that this process has ever had.
fn peak_bytes() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<usize>().unwrap() << 10
}

#[tokio::test]
async fn input_goes_through_a_command_unchanged_in_both_directions_at_once() {
    // Larger than both pipes together: whoever waited for one of them before the other would hang.
    let input = format!(r#"{{"pad": "{}",  "n":1.50}}"#, "y".repeat(900_000));
    let ran = world(command(&["cat"])).await.run("t/Model", &input).await;
    assert_eq!(ran.final_value(), input);
}

#[tokio::test]
async fn input_that_the_command_never_reads_does_no_harm() {
    let input = format!(r#"{{"pad":"{}"}}"#, "y".repeat(900_000));
    for script in ["echo out", "exec 0<&-; echo out"] {
        let ran = world(ExecOptions { ..shell(script) }).await.run("t/Model", &input).await;
        assert_eq!((ran.task.status, ran.lines()), (Status::Completed, vec!["out".to_owned()]), "{script}");
    }
}
