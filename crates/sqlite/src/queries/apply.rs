//! A transition: compare and set the task's row, then write the events that the row has made room for.
//!
//! Decides: nothing. The compare stands in the `WHERE` of the statement that sets; whether it matched decides whether
//! events are written. Where it did not, the row is read under the same write lock, and `guard::refused` says why.

use rusqlite::{Connection, OptionalExtension, Row, ToSql, named_params};
use soloist::{
    Event, Failure, Json, Seq, fault,
    store::{Applied, Change, Rerun, Transition, Writer, guard},
};

use super::{int, read, write};
use crate::{
    error::SqlResult,
    rows::{self, Active},
};

/// The row after it was set.
struct Set {
    number: i64,
    run: u64,
    last_seq: Seq,
}

pub(crate) fn apply(conn: &Connection, t: &Transition) -> SqlResult<Applied> {
    let set = match &t.change {
        Change::Append => compare_and_set(conn, t, include_str!("../sql/append.sql"), &[])?,
        Change::Cancelling { reason, rerun } => {
            let set = named_params! {
                ":from": t.from.as_str(), ":reason": reason, ":at": t.at.as_micros(),
                ":forget": *rerun == Rerun::Forget,
            };
            compare_and_set(conn, t, include_str!("../sql/cancel.sql"), set)?
        }
        Change::Requeued { attempt, retry_count, losses, due_at } => {
            let set = named_params! {
                ":from": t.from.as_str(), ":attempt": attempt, ":retry_count": retry_count, ":at": t.at.as_micros(),
                ":node_losses": losses.node, ":store_losses": losses.store,
                ":due_at": due_at.map(soloist::Timestamp::as_micros),
            };
            compare_and_set(conn, t, include_str!("../sql/requeue.sql"), set)?
        }
        Change::Completed { final_value } => finish(conn, t, Some(final_value), None, None)?,
        Change::Failed { failure } => finish(conn, t, None, Some(failure), None)?,
        Change::Cancelled { reason, .. } => finish(conn, t, None, None, Some(reason))?,
    };
    let Some(set) = set else { return refused(conn, t) };
    let [row, events] = places(&t.change);
    fault::point(row);
    match &t.writer {
        Writer::Holder { events, .. } => insert(conn, set.number, events)?,
        Writer::Outsider { event: Some(event), .. } => {
            insert(conn, set.number, &[event.clone().at(set.last_seq, set.run, t.epoch_after)])?;
        }
        Writer::Outsider { event: None, .. } => {}
    }
    if let Change::Cancelling { .. } = t.change {
        write::notify(conn, &t.key)?;
    }
    fault::point(events);
    if t.change.to().is_some_and(|to| to.is_finished()) {
        conn.prepare_cached(include_str!("../sql/silence.sql"))?
            .execute(named_params! { ":task": set.number })?;
        fault::point("sqlite:finish-silenced");
    }
    Ok(Applied::Committed { last_seq: set.last_seq })
}

/// The fault points behind the task's row, and behind what is written beside it.
fn places(change: &Change) -> [&'static str; 2] {
    match change {
        Change::Append => ["sqlite:append-row", "sqlite:append-events"],
        Change::Cancelling { .. } => ["sqlite:cancel-row", "sqlite:cancel-told"],
        Change::Requeued { .. } => ["sqlite:requeue-row", "sqlite:requeue-events"],
        Change::Completed { .. } | Change::Failed { .. } | Change::Cancelled { .. } => {
            ["sqlite:finish-row", "sqlite:finish-events"]
        }
    }
}

fn finish(
    conn: &Connection,
    t: &Transition,
    final_value: Option<&Json>,
    failure: Option<&Failure>,
    reason: Option<&String>,
) -> SqlResult<Option<Set>> {
    let is_forgotten = matches!(t.change, Change::Cancelled { rerun: Rerun::Forget, .. });
    let set = named_params! {
        ":forget": is_forgotten, ":from": t.from.as_str(), ":to": t.change.to().map(|to| to.as_str()), ":at": t.at.as_micros(),
        ":final_value": final_value.map(Json::as_str), ":reason": reason,
        ":error_type": failure.map(|f| &f.error_type), ":error_message": failure.map(|f| &f.message),
        ":error_traceback": failure.and_then(|f| f.traceback.as_ref()),
    };
    compare_and_set(conn, t, include_str!("../sql/finish.sql"), set)
}

/// Binds what every transition is compared by, beside what this one sets.
fn compare_and_set(
    conn: &Connection,
    t: &Transition,
    sql: &str,
    set: &[(&str, &dyn ToSql)],
) -> SqlResult<Option<Set>> {
    let (node, after, run, count) = match &t.writer {
        Writer::Holder { node, events, after, .. } => {
            (Some(node.as_str()), Some(int(*after)), None, events.len())
        }
        Writer::Outsider { run, event, .. } => (None, None, Some(int(*run)), usize::from(event.is_some())),
    };
    let (epoch, epoch_after, count) = (int(t.writer.epoch().0), int(t.epoch_after.0), int(count));
    let mut params: Vec<(&str, &dyn ToSql)> = vec![
        (":node", &node),
        (":after", &after),
        (":run", &run),
        (":count", &count),
        (":epoch", &epoch),
        (":epoch_after", &epoch_after),
    ];
    let (app, model, id) = (t.key.app(), t.key.model(), t.key.id());
    params.extend([(":app", &app as &dyn ToSql), (":model", &model), (":id", &id)]);
    params.extend(set);
    let read = |row: &Row<'_>| Ok(Set { number: row.get(0)?, run: row.get(1)?, last_seq: row.get(2)? });
    Ok(conn.prepare_cached(sql)?.query_row(&*params, read).optional()?)
}

fn insert(conn: &Connection, number: i64, events: &[Event]) -> SqlResult<()> {
    let mut insert = conn.prepare_cached(include_str!("../sql/event.sql"))?;
    for event in events {
        insert.execute((
            number,
            int(event.seq),
            int(event.run),
            int(event.epoch.0),
            event.timestamp.as_micros(),
            event.event_type.as_str(),
            rows::is_json(&event.data),
            event.data.as_str(),
        ))?;
    }
    Ok(())
}

fn refused(conn: &Connection, t: &Transition) -> SqlResult<Applied> {
    let Some(Active { current, number, .. }) = read::active(conn, &t.key, None)? else {
        return Ok(guard::refused(None, t, |_| None));
    };
    let last = match &t.writer {
        Writer::Holder { events, .. } => events.last().map(|event| event.seq),
        Writer::Outsider { .. } => None,
    };
    let epoch = match last {
        Some(seq) => conn
            .prepare_cached(include_str!("../sql/epoch.sql"))?
            .query_row(named_params! { ":task": number, ":seq": int(seq) }, |row| row.get(0))
            .optional()?
            .map(soloist::Epoch),
        None => None,
    };
    Ok(guard::refused(Some(current), t, |_| epoch))
}
