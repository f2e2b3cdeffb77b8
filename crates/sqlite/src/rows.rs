//! Rows as the values that they are.
//!
//! Decides: how a column reads. What no write of ours can have left (a word that is no status, a key that is none) is
//! told as a broken store, with the column's name and never with its value.

use std::sync::Arc;

use rusqlite::Row;
use soloist::{
    Data, Epoch, Event, EventType, Failure, Json, Key, Losses, NextRun, NodeId, RunTerms, Status, Task,
    Timestamp, TraceContext,
    store::{Current, Signal, Signalled, Won},
};

use crate::error::{SqlError, SqlResult};

/// What `active.sql` tells.
pub(crate) struct Active {
    /// The part of the row that decides.
    pub(crate) current: Current,
    /// The task's number.
    pub(crate) number: i64,
    /// Whether the node that asked is alive.
    pub(crate) alive: bool,
}

pub(crate) fn active(row: &Row<'_>) -> SqlResult<Active> {
    Ok(Active { current: current(row)?, number: row.get("number")?, alive: row.get("alive")? })
}

pub(crate) fn current(row: &Row<'_>) -> SqlResult<Current> {
    Ok(Current {
        status: status(row)?,
        run: row.get("run")?,
        attempt: row.get("attempt")?,
        epoch: Epoch(row.get("epoch")?),
        node: node(row)?,
        started_at: time(row, "started_at")?,
        last_seq: row.get("last_seq")?,
        cancellation_reason: row.get("cancellation_reason")?,
        retry_count: row.get("retry_count")?,
        max_retries: row.get("max_retries")?,
        losses: losses(row)?,
        next_run: next_run(row)?,
        taken_back: row.get("taken_back")?,
    })
}

/// What a claim has won.
pub(crate) fn won(row: &Row<'_>) -> SqlResult<Won> {
    Ok(Won {
        run: row.get("run")?,
        attempt: row.get("attempt")?,
        epoch: Epoch(row.get("epoch")?),
        last_seq: row.get("last_seq")?,
        started_at: Timestamp::from_micros(row.get("started_at")?),
        retry_count: row.get("retry_count")?,
        terms: terms(row)?,
        losses: losses(row)?,
        input: Json::from_store(text(row, "input")?),
        trace: trace(row)?,
    })
}

pub(crate) fn key(row: &Row<'_>) -> SqlResult<Key> {
    let (app, model, id) =
        (row.get_ref("app")?.as_str()?, row.get_ref("model")?.as_str()?, row.get_ref("id")?);
    Key::new(app, model, id.as_str()?).map_err(|_| SqlError::Corrupt("a task's key is none".to_owned()))
}

pub(crate) fn task(row: &Row<'_>) -> SqlResult<Task> {
    Ok(Task {
        key: key(row)?,
        input: Json::from_store(text(row, "input")?),
        status: status(row)?,
        run: row.get("run")?,
        attempt: row.get("attempt")?,
        epoch: Epoch(row.get("epoch")?),
        owner: row.get("owner")?,
        created_at: Timestamp::from_micros(row.get("created_at")?),
        updated_at: Timestamp::from_micros(row.get("updated_at")?),
        started_at: time(row, "started_at")?,
        completed_at: time(row, "completed_at")?,
        failed_at: time(row, "failed_at")?,
        cancelled_at: time(row, "cancelled_at")?,
        final_value: row.get_ref("final_value")?.as_str_or_null()?.map(Json::from_store),
        failure: failure(row)?,
        cancellation_reason: row.get("cancellation_reason")?,
        retry_count: row.get("retry_count")?,
        max_retries: row.get("max_retries")?,
        losses: losses(row)?,
        timeout_seconds: row.get("timeout_seconds")?,
        deadline_seconds: row.get("deadline_seconds")?,
        run_at: time(row, "run_at")?,
        due_at: time(row, "due_at")?,
        position: None,
        next_run: next_run(row)?,
        taken_back: row.get("taken_back")?,
        node: node(row)?,
        last_seq: row.get("last_seq")?,
        run_start_seq: row.get("run_start_seq")?,
        trace: trace(row)?,
    })
}

/// What is said of runs.
pub(crate) fn terms(row: &Row<'_>) -> SqlResult<RunTerms> {
    Ok(RunTerms {
        max_retries: row.get("max_retries")?,
        timeout_seconds: row.get("timeout_seconds")?,
        deadline_seconds: row.get("deadline_seconds")?,
    })
}

fn losses(row: &Row<'_>) -> SqlResult<Losses> {
    Ok(Losses { node: row.get("node_losses")?, store: row.get("store_losses")? })
}

/// The trace of the newest run.
fn trace(row: &Row<'_>) -> SqlResult<Option<TraceContext>> {
    let Some(parent) = row.get_ref("trace_parent")?.as_str_or_null()? else { return Ok(None) };
    let trace = TraceContext::new(parent, row.get_ref("trace_state")?.as_str_or_null()?);
    trace.map(Some).ok_or_else(|| SqlError::Corrupt("a task's trace is none".to_owned()))
}

fn next_run(row: &Row<'_>) -> SqlResult<NextRun> {
    NextRun::from_number(row.get("next_run")?)
        .ok_or_else(|| SqlError::Corrupt("a task's next run is none".to_owned()))
}

/// A row of `events.sql`, by the places of its columns: thousands are read at a time. Where its type is that of the event
/// before, as it mostly is, they share it.
pub(crate) fn event(row: &Row<'_>, before: Option<&Event>) -> SqlResult<Event> {
    let event_type = row.get_ref(4)?.as_str()?;
    let event_type = match before.map(|event| &event.event_type).filter(|of| of.as_str() == event_type) {
        Some(same) => same.clone(),
        None => EventType::from_store(event_type),
    };
    let data: Arc<str> = row.get_ref(6)?.as_str()?.into();
    Ok(Event {
        seq: row.get(0)?,
        run: row.get(1)?,
        epoch: Epoch(row.get(2)?),
        timestamp: Timestamp::from_micros(row.get(3)?),
        event_type,
        data: if row.get(5)? { Data::Json(Json::from_store(data)) } else { Data::Text(data) },
    })
}

/// Whether an event's data are JSON, as the column `json` says.
pub(crate) fn is_json(data: &Data) -> bool {
    match data {
        Data::Json(_) => true,
        Data::Text(_) => false,
    }
}

pub(crate) fn signal(row: &Row<'_>) -> SqlResult<Signal> {
    Ok(Signal {
        number: row.get("number")?,
        name: row.get("name")?,
        data: Json::from_store(text(row, "data")?),
    })
}

pub(crate) fn recorded(row: &Row<'_>) -> SqlResult<Signalled> {
    Ok(Signalled::Recorded { run: row.get("run")?, number: row.get("number")? })
}

pub(crate) fn status(row: &Row<'_>) -> SqlResult<Status> {
    Status::parse(row.get_ref("status")?.as_str()?)
        .ok_or_else(|| SqlError::Corrupt("a task's status is none".to_owned()))
}

fn failure(row: &Row<'_>) -> SqlResult<Option<Failure>> {
    let Some(error_type) = row.get("error_type")? else { return Ok(None) };
    Ok(Some(Failure {
        error_type,
        message: row.get("error_message")?,
        traceback: row.get("error_traceback")?,
        retryable: true,
        retry_after: None,
    }))
}

fn node(row: &Row<'_>) -> SqlResult<Option<NodeId>> {
    Ok(row.get_ref("node")?.as_str_or_null()?.map(NodeId::from_store))
}

pub(crate) fn time(row: &Row<'_>, column: &str) -> SqlResult<Option<Timestamp>> {
    Ok(row.get::<_, Option<i64>>(column)?.map(Timestamp::from_micros))
}

fn text(row: &Row<'_>, column: &str) -> SqlResult<Arc<str>> {
    Ok(row.get_ref(column)?.as_str()?.into())
}
