//! The queries that only read.
//!
//! Decides: where a page ends; it always holds at least one row where there is one.

use std::sync::Arc;

use soloist::{
    Event, Key, ModelKey, NodeId, Run, RunTerms, Status, Task, TaskFilter, TaskPage, limits,
    store::{Current, EventRange, Held, Signal, Waiting},
};
use tokio_postgres::{Row, types::ToSql, types::Type};

use super::int;
use crate::{
    db::Db,
    error::SqlResult,
    gather::{self, Gather, Request},
    rows::{self, Active},
    sql::{self, args},
    text,
};

/// The part of a task's row that decides, and whether the node that asks is alive.
pub(crate) async fn active(db: &Db, key: &Key, asking: Option<&NodeId>) -> SqlResult<Option<Active>> {
    let (app, model, id) = (key.app(), key.model(), key.id());
    let found = db
        .read(
            &db.sql.active,
            args! { app: TEXT = app, model: TEXT = model, id: TEXT = id, asking: TEXT = asking.map(NodeId::as_str) },
        )
        .await?;
    found.first().map(rows::active).transpose()
}

/// A look of a claim at its task's row.
pub(crate) struct Looking {
    pub(super) key: Key,
    pub(super) asking: NodeId,
}

impl Request for Looking {
    type Answer = Option<Active>;

    fn gather(db: &Db) -> &Gather<Self> {
        &db.looks
    }

    fn task(&self) -> Option<&Key> {
        None
    }

    async fn carry_out(db: &Db, group: &[&Self]) -> SqlResult<Vec<Option<Active>>> {
        if let [alone] = group {
            return Ok(vec![active(db, &alone.key, Some(&alone.asking)).await?]);
        }
        let part = |of: fn(&Self) -> &str| group.iter().map(|look| of(look)).collect::<Vec<_>>();
        let (apps, models, ids) =
            (part(|look| look.key.app()), part(|look| look.key.model()), part(|look| look.key.id()));
        let askings = part(|look| look.asking.as_str());
        let args = args! {
            apps: TEXT_ARRAY = apps, models: TEXT_ARRAY = models, ids: TEXT_ARRAY = ids, askings: TEXT_ARRAY = askings,
        };
        let found = db.read(&db.sql.active_many, args).await?;
        rows::in_places(&found, group.len(), rows::active)
    }
}

/// The rows of some tasks, in their order, each with its number.
pub(crate) async fn rows(db: &Db, keys: &[&Key]) -> SqlResult<Vec<Option<(i64, Current)>>> {
    if keys.is_empty() {
        return Ok(Vec::new());
    }
    let part = |of: fn(&Key) -> &str| keys.iter().map(|key| of(key)).collect::<Vec<_>>();
    let (apps, models, ids) = (part(Key::app), part(Key::model), part(Key::id));
    let args = args! { apps: TEXT_ARRAY = apps, models: TEXT_ARRAY = models, ids: TEXT_ARRAY = ids };
    let found = db.read(&db.sql.rows, args).await?;
    rows::in_places(&found, keys.len(), |row| Ok((rows::get(row, "number")?, rows::current(row)?)))
}

pub(crate) async fn orphans(db: &Db, limit: usize) -> SqlResult<Vec<Held>> {
    // As every look of a sweeper (node.rs).
    let look = args! { limit: INT8 = int(limit) };
    let found = db.sweeps.ask_once(&db.sql.orphans, look, limits::POSTGRES_REQUEST_MAX).await?;
    all_held(&found)
}

pub(crate) async fn held(db: &Db, node: &NodeId, status: Status) -> SqlResult<Vec<Held>> {
    let (node, status) = (node.as_str(), status.as_str());
    all_held(&db.read(&db.sql.held, args! { node: TEXT = node, status: TEXT = status }).await?)
}

fn all_held(found: &[Row]) -> SqlResult<Vec<Held>> {
    found.iter().map(|row| Ok(Held { key: rows::key(row)?, current: rows::current(row)? })).collect()
}

pub(crate) async fn inbox(db: &Db, node: &NodeId) -> SqlResult<u64> {
    let found = db.read(&db.sql.inbox, args! { node: TEXT = node.as_str() }).await?;
    Ok(found.first().map(|row| rows::count(row, "count")).transpose()?.unwrap_or_default())
}

pub(crate) async fn waiting(db: &Db) -> SqlResult<Waiting> {
    let found = db.read(&db.sql.waiting, args! {}).await?;
    found.first().map_or(Ok(Waiting::default()), rows::waiting)
}

pub(crate) async fn owed(db: &Db, limit: usize) -> SqlResult<Vec<(Key, Run)>> {
    let found = db.read(&db.sql.owed, args! { limit: INT8 = int(limit) }).await?;
    found.iter().map(|row| Ok((rows::key(row)?, rows::count(row, "run")?))).collect()
}

pub(crate) async fn serves(db: &Db, model: &ModelKey) -> SqlResult<Option<RunTerms>> {
    let (app, model) = (model.app(), model.model());
    let found = db.read(&db.sql.serves, args! { app: TEXT = app, model: TEXT = model }).await?;
    found.first().map(rows::terms).transpose()
}

pub(crate) async fn beside(db: &Db, node: &NodeId) -> SqlResult<bool> {
    told(&db.read(&db.sql.beside, args! { node: TEXT = node.as_str() }).await?, "beside")
}

/// The answer of a question that has one row.
pub(super) fn told(found: &[Row], column: &str) -> SqlResult<bool> {
    found.first().map_or(Ok(false), |row| rows::get(row, column))
}

pub(crate) async fn task(db: &Db, key: &Key) -> SqlResult<Option<Task>> {
    let (app, model, id) = (key.app(), key.model(), key.id());
    let found = db.read(&db.sql.task, args! { app: TEXT = app, model: TEXT = model, id: TEXT = id }).await?;
    found.first().map(rows::task).transpose()
}

/// A task's record that is asked for.
pub(crate) struct Reading(Key);

impl Request for Reading {
    type Answer = Option<Task>;

    fn gather(db: &Db) -> &Gather<Self> {
        &db.records
    }

    fn task(&self) -> Option<&Key> {
        None
    }

    async fn carry_out(db: &Db, group: &[&Self]) -> SqlResult<Vec<Option<Task>>> {
        if let [Self(key)] = group {
            return Ok(vec![task(db, key).await?]);
        }
        let part = |of: fn(&Key) -> &str| group.iter().map(|reading| of(&reading.0)).collect::<Vec<_>>();
        let (apps, models, ids) = (part(Key::app), part(Key::model), part(Key::id));
        let args = args! { apps: TEXT_ARRAY = apps, models: TEXT_ARRAY = models, ids: TEXT_ARRAY = ids };
        let found = db.read(&db.sql.task_many, args).await?;
        rows::in_places(&found, group.len(), rows::task)
    }
}

/// The same, with its place in the queue where it waits there.
pub(crate) async fn task_in_queue(db: &Arc<Db>, key: &Key) -> SqlResult<Option<Task>> {
    let Some(mut found) = gather::ask(db, Reading(key.clone())).await? else { return Ok(None) };
    if found.status == Status::Queued && found.due_at.is_none() {
        // A hint: it has a snapshot of its own, in which the task may have moved on.
        let (app, model, id, max) = (key.app(), key.model(), key.id(), limits::POSITION_MAX);
        let args = args! { app: TEXT = app, model: TEXT = model, id: TEXT = id, max: INT8 = int(max + 1) };
        let told = db.read(&db.sql.position, args).await?;
        let position = told.first().map(|row| rows::count(row, "position")).transpose()?;
        found.position = position.filter(|position| (1..=int(max)).contains(&int(*position)));
    }
    Ok(Some(found))
}

pub(crate) async fn list(db: &Db, filter: &TaskFilter) -> SqlResult<TaskPage> {
    let limit = filter.limit.clamp(1, limits::LIST_MAX_TASKS);
    let words = |text: &Option<String>| text.as_deref().map(|text| text::stored(text).into_owned());
    let (app, model, owner) = (words(&filter.app), words(&filter.model), words(&filter.owner));
    let status = filter.status.map(|status| status.as_str());
    let (before, one_more) = (int(filter.before.unwrap_or(u64::MAX)), int(limit + 1));
    let max_bytes = int(limits::LIST_MAX_BYTES);
    type Arg<'a> = (&'static str, &'a (dyn ToSql + Sync), Type);
    let mut args: Vec<Arg<'_>> = vec![
        ("before", &before, Type::INT8),
        ("limit", &one_more, Type::INT8),
        ("max_bytes", &max_bytes, Type::INT8),
    ];
    let parts: [(&str, Arg<'_>, bool); 4] = [
        ("AND app = :app", ("app", &app, Type::TEXT), app.is_some()),
        ("AND model = :model", ("model", &model, Type::TEXT), model.is_some()),
        ("AND status = :status", ("status", &status, Type::TEXT), status.is_some()),
        ("AND owner = :owner", ("owner", &owner, Type::TEXT), owner.is_some()),
    ];
    let mut conditions = Vec::new();
    for (condition, arg, is_set) in parts {
        if is_set {
            conditions.push(condition);
            args.push(arg);
        }
    }
    let found = db.read(&sql::list(&db.schema, &conditions.join(" ")), &args).await?;
    let all = found.first().map(|row| rows::count(row, "found")).transpose()?.unwrap_or_default();
    let shown = found.len().min(limit);
    let tasks = found[..shown].iter().map(rows::task).collect::<SqlResult<_>>()?;
    let more = (shown as u64) < all;
    let last = found[..shown].last().filter(|_| more);
    Ok(TaskPage { tasks, next_cursor: last.map(|row| rows::count(row, "number")).transpose()? })
}

pub(crate) async fn events(db: &Db, key: &Key, range: EventRange) -> SqlResult<Vec<Event>> {
    let (app, model, id) = (key.app(), key.model(), key.id());
    let (max_events, max_bytes) = (range.max_events.max(1), range.max_bytes.max(1));
    let found = db
        .read(
            &db.sql.events,
            args! {
                app: TEXT = app, model: TEXT = model, id: TEXT = id, after: INT8 = int(range.after),
                until: INT8 = int(range.until), limit: INT8 = int(max_events), max_bytes: INT8 = int(max_bytes),
            },
        )
        .await?;
    let (mut events, mut bytes) = (Vec::new(), 0);
    for row in &found {
        for event in rows::batch(row)?.events()? {
            if event.seq <= range.after {
                continue;
            }
            if event.seq > range.until
                || events.len() == max_events
                || (bytes >= max_bytes && !events.is_empty())
            {
                return Ok(events);
            }
            bytes += event.data.as_str().len();
            events.push(event);
        }
    }
    Ok(events)
}

pub(crate) async fn signals(
    db: &Db,
    key: &Key,
    run: Run,
    after: u64,
    limit: usize,
) -> SqlResult<Vec<Signal>> {
    let (app, model, id) = (key.app(), key.model(), key.id());
    let found = db
        .read(
            &db.sql.signals,
            args! {
                app: TEXT = app, model: TEXT = model, id: TEXT = id, run: INT8 = int(run), after: INT8 = int(after),
                limit: INT8 = int(limit),
            },
        )
        .await?;
    found.iter().map(rows::signal).collect()
}
