//! Rows as the values that they are.
//!
//! Decides: how a column reads. What no write of ours can have left (a word that is no status, a key that is none) is
//! told as a broken store, with the column's name and never with its value.

use soloist::{
    Epoch, Failure, Json, Key, Losses, NextRun, NodeId, RunTerms, Status, Task, Timestamp, TraceContext,
    store::{Current, Signal, Waiting, Won},
};
use tokio_postgres::{Row, types::FromSql};

use crate::{
    error::{SqlError, SqlResult},
    log, text,
};

/// What `active.sql` tells.
pub(crate) struct Active {
    /// The part of the row that decides.
    pub(crate) current: Current,
    /// Drawn by whoever claimed it last.
    pub(crate) claim_id: Option<i64>,
    /// How many signals its run keeps.
    pub(crate) signals: u64,
    /// Whether the node that asked is alive.
    pub(crate) alive: bool,
}

pub(crate) fn active(row: &Row) -> SqlResult<Active> {
    Ok(Active {
        current: current(row)?,
        claim_id: get(row, "claim_id")?,
        signals: count(row, "signals")?,
        alive: get(row, "alive")?,
    })
}

pub(crate) fn current(row: &Row) -> SqlResult<Current> {
    Ok(Current {
        status: status(row)?,
        run: count(row, "run")?,
        attempt: small(row, "attempt")?,
        epoch: Epoch(count(row, "epoch")?),
        node: node(row)?,
        started_at: time(row, "started_at")?,
        last_seq: count(row, "last_seq")?,
        cancellation_reason: words(row, "cancellation_reason")?,
        retry_count: small(row, "retry_count")?,
        max_retries: small(row, "max_retries")?,
        losses: losses(row)?,
        next_run: next_run(row)?,
        taken_back: count(row, "taken_back")?,
    })
}

/// What a claim has won.
pub(crate) fn won(row: &Row) -> SqlResult<Won> {
    Ok(Won {
        run: count(row, "run")?,
        attempt: small(row, "attempt")?,
        epoch: Epoch(count(row, "epoch")?),
        last_seq: count(row, "last_seq")?,
        started_at: Timestamp::from_micros(get(row, "started_at")?),
        retry_count: small(row, "retry_count")?,
        terms: terms(row)?,
        losses: losses(row)?,
        input: json(row, "input")?,
        trace: trace(row)?,
    })
}

/// What a task says of its runs, or a model.
pub(crate) fn terms(row: &Row) -> SqlResult<RunTerms> {
    Ok(RunTerms {
        max_retries: small(row, "max_retries")?,
        timeout_seconds: optional_small(row, "timeout_seconds")?,
        deadline_seconds: optional_small(row, "deadline_seconds")?,
    })
}

fn losses(row: &Row) -> SqlResult<Losses> {
    Ok(Losses { node: small(row, "node_losses")?, store: small(row, "store_losses")? })
}

/// The trace of the newest run.
fn trace(row: &Row) -> SqlResult<Option<TraceContext>> {
    let Some(parent) = get::<Option<&str>>(row, "trace_parent")? else { return Ok(None) };
    let trace = TraceContext::new(parent, get(row, "trace_state")?);
    trace.map(Some).ok_or_else(|| unreadable("trace_parent"))
}

fn next_run(row: &Row) -> SqlResult<NextRun> {
    let number: i16 = get(row, "next_run")?;
    NextRun::from_number(number.into()).ok_or_else(|| unreadable("next_run"))
}

pub(crate) fn waiting(row: &Row) -> SqlResult<Waiting> {
    Ok(Waiting { ready: get(row, "ready")?, next_due: time(row, "next_due")?, owed: get(row, "owed")? })
}

pub(crate) fn key(row: &Row) -> SqlResult<Key> {
    let (app, model, id): (&str, &str, &str) = (get(row, "app")?, get(row, "model")?, get(row, "id")?);
    Key::new(app, model, id).map_err(|_| SqlError::Corrupt("a task's key is none".to_owned()))
}

pub(crate) fn task(row: &Row) -> SqlResult<Task> {
    let RunTerms { max_retries, timeout_seconds, deadline_seconds } = terms(row)?;
    Ok(Task {
        key: key(row)?,
        input: json(row, "input")?,
        status: status(row)?,
        run: count(row, "run")?,
        attempt: small(row, "attempt")?,
        epoch: Epoch(count(row, "epoch")?),
        owner: words(row, "owner")?,
        created_at: Timestamp::from_micros(get(row, "created_at")?),
        updated_at: Timestamp::from_micros(get(row, "updated_at")?),
        started_at: time(row, "started_at")?,
        completed_at: time(row, "completed_at")?,
        failed_at: time(row, "failed_at")?,
        cancelled_at: time(row, "cancelled_at")?,
        final_value: get::<Option<&str>>(row, "final_value")?.map(Json::from_store),
        failure: failure(row)?,
        cancellation_reason: words(row, "cancellation_reason")?,
        retry_count: small(row, "retry_count")?,
        max_retries,
        losses: losses(row)?,
        timeout_seconds,
        deadline_seconds,
        run_at: time(row, "run_at")?,
        due_at: time(row, "due_at")?,
        // Told only where one task is asked for.
        position: None,
        next_run: next_run(row)?,
        taken_back: count(row, "taken_back")?,
        node: node(row)?,
        last_seq: count(row, "last_seq")?,
        run_start_seq: count(row, "run_start_seq")?,
        trace: trace(row)?,
    })
}

pub(crate) fn batch(row: &Row) -> SqlResult<log::Row> {
    Ok(log::Row {
        first_seq: count(row, "first_seq")?,
        last_seq: count(row, "last_seq")?,
        run: count(row, "run")?,
        epoch: Epoch(count(row, "epoch")?),
        events: get(row, "events")?,
    })
}

pub(crate) fn signal(row: &Row) -> SqlResult<Signal> {
    Ok(Signal {
        number: count(row, "number")?,
        name: words(row, "name")?.unwrap_or_default(),
        data: json(row, "data")?,
    })
}

pub(crate) fn status(row: &Row) -> SqlResult<Status> {
    Status::parse(get(row, "status")?).ok_or_else(|| SqlError::Corrupt("a task's status is none".to_owned()))
}

pub(crate) fn node(row: &Row) -> SqlResult<Option<NodeId>> {
    Ok(get::<Option<&str>>(row, "node")?.map(NodeId::from_store))
}

fn failure(row: &Row) -> SqlResult<Option<Failure>> {
    let Some(error_type) = words(row, "error_type")? else { return Ok(None) };
    let message = words(row, "error_message")?.unwrap_or_default();
    let traceback = words(row, "error_traceback")?;
    // Whether and when another attempt may help was decided by when it came on record.
    Ok(Some(Failure { error_type, message, traceback, retryable: true, retry_after: None }))
}

fn json(row: &Row, column: &str) -> SqlResult<Json> {
    Ok(Json::from_store(get::<&str>(row, column)?))
}

/// Text that may hold a NUL.
fn words(row: &Row, column: &str) -> SqlResult<Option<String>> {
    get::<Option<String>>(row, column)?.map(text::loaded).transpose()
}

fn time(row: &Row, column: &str) -> SqlResult<Option<Timestamp>> {
    Ok(get::<Option<i64>>(row, column)?.map(Timestamp::from_micros))
}

/// The rows of a statement for so many, in the places in which they were asked for.
pub(crate) fn in_places<T>(
    found: &[Row],
    asked: usize,
    read: impl Fn(&Row) -> SqlResult<T>,
) -> SqlResult<Vec<Option<T>>> {
    let mut answers: Vec<Option<T>> = (0..asked).map(|_| None).collect();
    for row in found {
        let place = usize::try_from(count(row, "asked")?).unwrap_or(usize::MAX);
        if let Some(answer) = answers.get_mut(place.wrapping_sub(1)) {
            *answer = Some(read(row)?);
        }
    }
    Ok(answers)
}

/// A number that is never negative.
pub(crate) fn count(row: &Row, column: &str) -> SqlResult<u64> {
    u64::try_from(get::<i64>(row, column)?).map_err(|_| unreadable(column))
}

fn small(row: &Row, column: &str) -> SqlResult<u32> {
    u32::try_from(get::<i32>(row, column)?).map_err(|_| unreadable(column))
}

fn optional_small(row: &Row, column: &str) -> SqlResult<Option<u32>> {
    get::<Option<i32>>(row, column)?.map(|n| u32::try_from(n).map_err(|_| unreadable(column))).transpose()
}

/// A column.
pub(crate) fn get<'a, T: FromSql<'a>>(row: &'a Row, column: &str) -> SqlResult<T> {
    row.try_get(column).map_err(|_| unreadable(column))
}

fn unreadable(column: &str) -> SqlError {
    SqlError::Corrupt(format!("the column {column} cannot be read"))
}
