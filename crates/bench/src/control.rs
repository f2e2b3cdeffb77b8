//! What every measurement asks beside the load: creates, counts, the record.

use std::time::{Duration, Instant};

use crate::{
    error::{Error, Result},
    http::{Answer, Connection},
    server::Server,
};

/// How long something may take that is not measured.
pub(crate) const PATIENCE: Duration = Duration::from_secs(600);

/// An answer that must not be.
pub(crate) fn wrong(what: &str, answer: Answer<'_>) -> Error {
    let body = String::from_utf8_lossy(&answer.body[..answer.body.len().min(400)]);
    Error::Wrong(format!("{what} was answered {} {body}", answer.status))
}

/// Creates a task; its key.
pub(crate) fn create(connection: &mut Connection, model: &str, body: &str) -> Result<String> {
    let (status, task) = connection.call("POST", &format!("/tasks/{model}"), body)?;
    match task["id"].as_str() {
        Some(id) if status == 201 => Ok(format!("{model}/{id}")),
        _ => Err(Error::Wrong(format!("a create of {model} was answered {status} {task}"))),
    }
}

/// The first start of a task must have won.
pub(crate) fn won(answer: Answer<'_>) -> Result<()> {
    let is_first = answer.body.starts_with(br#"{"started":true,"run":1,"#);
    if answer.status == 202 && is_first { Ok(()) } else { Err(wrong("the first start of a task", answer)) }
}

/// Waits until nothing runs or starts.
pub(crate) fn at_rest(servers: &[Server]) -> Result<()> {
    let begun = Instant::now();
    for server in servers {
        let mut connection = server.connect()?;
        loop {
            let (_, stats) = connection.call("GET", "/stats", "")?;
            if stats["running"] == 0 && stats["starting"] == 0 {
                break;
            }
            if begun.elapsed() > PATIENCE {
                return Err(Error::Wrong(format!("what was started does not end: {stats}")));
            }
            // Nothing tells of it but asking; a request is small beside what runs.
            std::thread::sleep(Duration::from_millis(2));
        }
    }
    Ok(())
}

/// Reads the whole log of a task of one run, which must be `1, 2, 3 ...` up to `last`; how many events it has.
pub(crate) fn read_log(connection: &mut Connection, key: &str, last: u64) -> Result<u64> {
    let mut after = 0;
    while after < last {
        let (status, page) =
            connection.call("GET", &format!("/tasks/{key}/events?after={after}&limit=1000"), "")?;
        let events = page["events"].as_array().map_or(&[][..], Vec::as_slice);
        for event in events {
            after += 1;
            if event["seq"] != after || event["run"] != 1 {
                return Err(Error::Wrong(format!("event {after} of {key} is {event}")));
            }
        }
        if status != 200 || events.is_empty() {
            return Err(Error::Wrong(format!(
                "the log of {key} ends after {after} of {last} events ({status})"
            )));
        }
    }
    Ok(after)
}
