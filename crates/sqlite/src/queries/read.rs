//! The queries that only read.
//!
//! Decides: where a page ends; it always holds at least one row where there is one.

use rusqlite::{Connection, OptionalExtension, Rows, ToSql, named_params};
use soloist::{
    Event, Key, ModelKey, NodeId, Run, RunTerms, Status, Task, TaskFilter, TaskPage, limits,
    store::{EventRange, Held, Signal, Waiting},
};

use super::int;
use crate::{
    error::{SqlError, SqlResult},
    rows::{self, Active},
};

/// The part of a task's row that decides, and whether the node that asks is alive.
pub(crate) fn active(conn: &Connection, key: &Key, asking: Option<&NodeId>) -> SqlResult<Option<Active>> {
    let mut query = conn.prepare_cached(include_str!("../sql/active.sql"))?;
    let mut found = query.query(named_params! {
        ":app": key.app(), ":model": key.model(), ":id": key.id(), ":asking": asking.map(NodeId::as_str),
    })?;
    found.next()?.map(rows::active).transpose()
}

pub(crate) fn orphans(conn: &Connection, limit: usize) -> SqlResult<Vec<Held>> {
    let mut query = conn.prepare_cached(include_str!("../sql/orphans.sql"))?;
    all_held(query.query(named_params! { ":limit": int(limit) })?)
}

pub(crate) fn held(conn: &Connection, node: &NodeId, status: Status) -> SqlResult<Vec<Held>> {
    let mut query = conn.prepare_cached(include_str!("../sql/held.sql"))?;
    all_held(query.query(named_params! { ":node": node.as_str(), ":status": status.as_str() })?)
}

fn all_held(mut found: Rows<'_>) -> SqlResult<Vec<Held>> {
    let mut held = Vec::new();
    while let Some(row) = found.next()? {
        held.push(Held { key: rows::key(row)?, current: rows::current(row)? });
    }
    Ok(held)
}

pub(crate) fn inbox(conn: &Connection, node: &NodeId) -> SqlResult<u64> {
    let mut query = conn.prepare_cached(include_str!("../sql/inbox.sql"))?;
    let inbox = query.query_row(named_params! { ":node": node.as_str() }, |row| row.get(0)).optional()?;
    Ok(inbox.unwrap_or_default())
}

pub(crate) fn waiting(conn: &Connection) -> SqlResult<Waiting> {
    let mut query = conn.prepare_cached(include_str!("../sql/waiting.sql"))?;
    let mut found = query.query([])?;
    let row = found.next()?.ok_or_else(|| SqlError::Corrupt("nothing is told of the queue".to_owned()))?;
    Ok(Waiting { ready: row.get("ready")?, next_due: rows::time(row, "next_due")?, owed: row.get("owed")? })
}

pub(crate) fn owed(conn: &Connection, limit: usize) -> SqlResult<Vec<(Key, Run)>> {
    let mut query = conn.prepare_cached(include_str!("../sql/owed.sql"))?;
    let mut found = query.query(named_params! { ":limit": int(limit) })?;
    let mut owed = Vec::new();
    while let Some(row) = found.next()? {
        owed.push((rows::key(row)?, row.get("run")?));
    }
    Ok(owed)
}

pub(crate) fn serves(conn: &Connection, model: &ModelKey) -> SqlResult<Option<RunTerms>> {
    let mut query = conn.prepare_cached(include_str!("../sql/serves.sql"))?;
    let mut found = query.query(named_params! { ":app": model.app(), ":model": model.model() })?;
    found.next()?.map(rows::terms).transpose()
}

pub(crate) fn beside(conn: &Connection, node: &NodeId) -> SqlResult<bool> {
    let mut query = conn.prepare_cached(include_str!("../sql/beside.sql"))?;
    Ok(query.query_row(named_params! { ":node": node.as_str() }, |row| row.get(0))?)
}

/// A record, without its position in the queue.
pub(crate) fn record(conn: &Connection, key: &Key) -> SqlResult<Option<(i64, Task)>> {
    let mut query = conn.prepare_cached(include_str!("../sql/task.sql"))?;
    let mut found =
        query.query(named_params! { ":app": key.app(), ":model": key.model(), ":id": key.id() })?;
    found.next()?.map(|row| Ok((row.get("number")?, rows::task(row)?))).transpose()
}

pub(crate) fn task(conn: &Connection, key: &Key) -> SqlResult<Option<Task>> {
    let Some((number, mut task)) = record(conn, key)? else { return Ok(None) };
    if task.status == Status::Queued {
        let mut query = conn.prepare_cached(include_str!("../sql/position.sql"))?;
        let params = named_params! { ":number": number, ":max": int(limits::POSITION_MAX + 1) };
        let position: Option<u64> = query.query_row(params, |row| row.get(0)).optional()?;
        task.position = position.filter(|position| *position <= limits::POSITION_MAX as u64);
    }
    Ok(Some(task))
}

pub(crate) fn list(conn: &Connection, filter: &TaskFilter) -> SqlResult<TaskPage> {
    let limit = filter.limit.clamp(1, limits::LIST_MAX_TASKS);
    let (before, one_more) = (int(filter.before.unwrap_or(u64::MAX)), int(limit + 1));
    let mut params: Vec<(&str, &dyn ToSql)> = vec![(":before", &before), (":limit", &one_more)];
    let status = filter.status.map(|status| status.as_str());
    let mut conditions = String::new();
    let parts: [(&str, &str, &dyn ToSql, bool); 4] = [
        (":app", "AND app = :app", &filter.app, filter.app.is_some()),
        (":model", "AND model = :model", &filter.model, filter.model.is_some()),
        (":status", "AND status = :status", &status, status.is_some()),
        (":owner", "AND owner = :owner", &filter.owner, filter.owner.is_some()),
    ];
    for (name, condition, value, set) in parts {
        if set {
            conditions.push_str(condition);
            conditions.push(' ');
            params.push((name, value));
        }
    }
    let sql = include_str!("../sql/list.sql").replace("-- filter", &conditions);
    let mut query = conn.prepare_cached(&sql)?;
    let mut found = query.query(&*params)?;
    let mut page = TaskPage { tasks: Vec::new(), next_cursor: None };
    let (mut bytes, mut last_number) = (0, 0_i64);
    while let Some(row) = found.next()? {
        if page.tasks.len() == limit || bytes >= limits::LIST_MAX_BYTES {
            page.next_cursor = u64::try_from(last_number).ok();
            break;
        }
        let task = rows::task(row)?;
        bytes += task.input.as_str().len() + task.final_value.as_ref().map_or(0, |v| v.as_str().len());
        last_number = row.get("number")?;
        page.tasks.push(task);
    }
    Ok(page)
}

pub(crate) fn events(conn: &Connection, key: &Key, range: EventRange) -> SqlResult<Vec<Event>> {
    let mut query = conn.prepare_cached(include_str!("../sql/events.sql"))?;
    let mut found = query.query(named_params! {
        ":app": key.app(), ":model": key.model(), ":id": key.id(),
        ":after": int(range.after), ":until": int(range.until), ":limit": int(range.max_events.max(1)),
    })?;
    let (mut events, mut bytes) = (Vec::<Event>::new(), 0);
    while let Some(row) = found.next()? {
        let event = rows::event(row, events.last())?;
        bytes += event.data.as_str().len();
        events.push(event);
        if bytes >= range.max_bytes {
            break;
        }
    }
    Ok(events)
}

pub(crate) fn signals(
    conn: &Connection,
    key: &Key,
    run: Run,
    after: u64,
    limit: usize,
) -> SqlResult<Vec<Signal>> {
    let mut query = conn.prepare_cached(include_str!("../sql/signals.sql"))?;
    let mut found = query.query(named_params! {
        ":app": key.app(), ":model": key.model(), ":id": key.id(),
        ":run": int(run), ":after": int(after), ":limit": int(limit),
    })?;
    let mut signals = Vec::new();
    while let Some(row) = found.next()? {
        signals.push(rows::signal(row)?);
    }
    Ok(signals)
}
