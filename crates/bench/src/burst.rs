//! A run of `demo/BurstTask` that viewers wait for.
//!
//! Decides: how it is made sure that all viewers are there before the first event is sent, on any server: the first viewer
//! of a pending task would start it, so the task is cancelled first, the viewers wait behind the event of that for the next
//! run, and then that is started.

use serde_json::{Value, json};

use crate::{Error, Result, control, http::Connection, server::Server, viewers::Target};

/// What a run sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Load {
    /// How many events.
    pub events: u64,
    /// How many bytes of data each.
    pub bytes: u64,
    /// How many in a second; 0 is as fast as the server can.
    pub rate: u64,
}

/// A task that has not sent anything yet.
#[derive(Debug)]
pub struct Burst {
    connection: Connection,
    path: String,
    target: Target,
}

impl Burst {
    /// Makes the task ready.
    pub fn prepare(server: &Server, load: Load) -> Result<Self> {
        let mut connection = server.connect()?;
        let input = json!({"events": load.events, "bytes": load.bytes, "rate": load.rate});
        let path = create(&mut connection, "BurstTask", &input)?;
        expect(&mut connection, "POST", &format!("/tasks{path}/cancel"), "", 202)?;
        let task = expect(&mut connection, "GET", &format!("/tasks{path}"), "", 200)?;
        let Some(after) = task["last_seq"].as_u64() else {
            return Err(Error::Wrong(format!("a task without last_seq: {task}")));
        };
        let target = Target { address: server.address(), path: format!("/stream{path}?follow=true"), after };
        Ok(Self { connection, path, target })
    }

    /// Where its viewers wait.
    #[must_use]
    pub fn target(&self) -> &Target {
        &self.target
    }

    /// Starts the run.
    pub fn start(&mut self) -> Result<()> {
        let path = format!("/tasks{}/start", self.path);
        let answer = expect(&mut self.connection, "POST", &path, r#"{"policy":"restart"}"#, 202)?;
        match answer["started"] {
            Value::Bool(true) => Ok(()),
            _ => Err(Error::Wrong(format!("nothing runs, and yet a start did not win: {answer}"))),
        }
    }
}

/// Creates a task of a demo model; its path below `/tasks` and `/stream`.
pub(crate) fn create(connection: &mut Connection, model: &str, input: &Value) -> Result<String> {
    let body = json!({"input": input}).to_string();
    Ok(format!("/{}", control::create(connection, &format!("demo/{model}"), &body)?))
}

/// A call that has to be answered with this status.
pub(crate) fn expect(
    connection: &mut Connection,
    method: &str,
    path: &str,
    body: &str,
    status: u16,
) -> Result<Value> {
    let (answered, answer) = connection.call(method, path, body)?;
    if answered == status {
        return Ok(answer);
    }
    Err(Error::Wrong(format!("{method} {path} was answered with {answered} and not with {status}: {answer}")))
}
