//! The queries that write, but for what a run says of itself (see `apply`).
//!
//! Decides: nothing; where the one statement that decides matched no row, `active.sql` is read under the same write
//! lock and tells why.

use rusqlite::{Connection, OptionalExtension, Row, named_params};
use soloist::{
    Create, Delete, Epoch, Json, Key, NewId, NewTask, NextRun, Run, Status, Task, Timestamp, TraceContext,
    fault,
    idempotency::Idempotency,
    limits,
    state::Place,
    store::{Claim, ClaimRequest, Current, FirstClaim, QueuedClaim, Signalled, Won, guard},
};

use super::{int, read};
use crate::{
    error::{SqlError, SqlResult},
    rows,
};

/// The first use of an idempotency key.
struct Used {
    digest: String,
    task: Key,
    started: bool,
    run: u64,
    /// Whether its task is still there.
    there: bool,
}

/// Looks a key up, before anything else in the transaction.
fn used(conn: &Connection, target: &str, key: &Idempotency) -> SqlResult<Option<Used>> {
    let mut query = conn.prepare_cached(include_str!("../sql/used.sql"))?;
    let mut found = query.query(named_params! {
        ":subject": key.subject, ":call": key.call.as_str(), ":target": target, ":key": key.key,
    })?;
    let Some(row) = found.next()? else { return Ok(None) };
    let name: String = row.get("name")?;
    let task =
        name.parse().map_err(|_| SqlError::Corrupt("the task of an idempotency key is none".to_owned()))?;
    Ok(Some(Used {
        digest: row.get("digest")?,
        task,
        started: row.get("started")?,
        run: row.get("run")?,
        there: row.get("there")?,
    }))
}

/// Keeps what the first use of a key is told.
fn use_key(
    conn: &Connection,
    target: &str,
    key: &Idempotency,
    task: (i64, &Key),
    told: (bool, u64),
    at: Timestamp,
) -> SqlResult<()> {
    conn.prepare_cached(include_str!("../sql/use.sql"))?.execute(named_params! {
        ":subject": key.subject, ":call": key.call.as_str(), ":target": target, ":key": key.key,
        ":digest": key.digest, ":task": task.0, ":name": task.1.to_string(),
        ":started": told.0, ":run": int(told.1), ":at": at.as_micros(),
    })?;
    Ok(())
}

pub(crate) fn create(
    conn: &Connection,
    new: &NewTask,
    claim: Option<&FirstClaim>,
    at: Timestamp,
) -> SqlResult<Create> {
    let target = match &new.id {
        NewId::Named(key) => key.to_string(),
        NewId::Assigned(model_key) => model_key.to_string(),
    };
    let record = |key: &Key| {
        let found = read::record(conn, key)?.map(|(_, task)| task);
        found.ok_or_else(|| SqlError::Corrupt(format!("{key} is on record without its input")))
    };
    if let Some(key) = &new.idempotency
        && let Some(first) = used(conn, &target, key)?
    {
        return Ok(match first {
            Used { digest, .. } if digest != key.digest => Create::KeyReused,
            Used { there: true, task, .. } => Create::Replayed(record(&task)?),
            Used { task, .. } => Create::ReplayedDeleted(task),
        });
    }
    let (key, made) = match &new.id {
        NewId::Named(key) => (key.clone(), insert(conn, key, new, claim, at)?),
        NewId::Assigned(model_key) => loop {
            let id: i64 = conn
                .prepare_cached(include_str!("../sql/assign.sql"))?
                .query_row(named_params! { ":app": model_key.app(), ":model": model_key.model() }, |row| {
                    row.get(0)
                })?;
            let key = model_key.with_id(&id.to_string()).expect("a decimal number is a valid id");
            if let Some(made) = insert(conn, &key, new, claim, at)? {
                break (key, Some(made));
            }
        },
    };
    let number = made.as_ref().map(|(number, _)| *number);
    if let Some(number) = number {
        fault::point("sqlite:create-row");
        conn.prepare_cached(include_str!("../sql/input.sql"))?
            .execute(named_params! { ":task": number, ":input": new.input.as_str() })?;
        fault::point("sqlite:create-input");
        conn.prepare_cached(include_str!("../sql/revive.sql"))?
            .execute(named_params! { ":app": key.app(), ":model": key.model(), ":id": key.id() })?;
        fault::point("sqlite:create-revived");
    }
    let created = match made {
        Some((_, task)) => Create::Created(task),
        None => {
            let task = record(&key)?;
            if !task.input.same_value(&new.input) {
                return Ok(Create::Differs(task));
            }
            Create::Exists(task)
        }
    };
    if let Some(used) = &new.idempotency {
        let row = read::active(conn, &key, None)?;
        let number = row.ok_or_else(|| SqlError::Corrupt(format!("{key} has no row")))?.number;
        use_key(conn, &target, used, (number, &key), (false, 0), at)?;
        fault::point("sqlite:create-key");
    }
    Ok(created)
}

/// The number and the record of a new task; none where its key is taken.
fn insert(
    conn: &Connection,
    key: &Key,
    new: &NewTask,
    claim: Option<&FirstClaim>,
    at: Timestamp,
) -> SqlResult<Option<(i64, Task)>> {
    let mut create = conn.prepare_cached(include_str!("../sql/create.sql"))?;
    let terms = new.terms();
    let trace = claim.and_then(|claim| claim.trace.as_ref());
    let mut created = create.query(named_params! {
        ":app": key.app(), ":model": key.model(), ":id": key.id(),
        ":owner": new.owner, ":max_retries": terms.max_retries, ":timeout_seconds": terms.timeout_seconds,
        ":deadline_seconds": terms.deadline_seconds, ":run_at": new.run_at.map(Timestamp::as_micros),
        ":at": at.as_micros(), ":node": claim.map(|claim| claim.node.as_str()),
        ":here": claim.map(|claim| claim.place == Place::Here),
        ":trace_parent": trace.map(TraceContext::traceparent),
        ":trace_state": trace.and_then(TraceContext::tracestate),
    })?;
    let Some(row) = created.next()? else { return Ok(None) };
    let mut task = Task {
        status: rows::status(row)?,
        run: row.get("run")?,
        epoch: Epoch(row.get("epoch")?),
        last_seq: row.get("last_seq")?,
        taken_back: row.get("taken_back")?,
        ..Task::created(key.clone(), new.clone(), at)
    };
    task.run_start_seq = task.last_seq;
    if let (Some(claim), true) = (claim, task.status.is_active()) {
        (task.attempt, task.trace) = (1, claim.trace.clone());
        match task.status {
            Status::Running => (task.node, task.started_at) = (Some(claim.node.clone()), Some(at)),
            _ => task.due_at = task.run_at.filter(|run_at| *run_at > at),
        }
    }
    Ok(Some((row.get("number")?, task)))
}

pub(crate) fn claim(conn: &Connection, request: &ClaimRequest) -> SqlResult<Claim> {
    let key = &request.key;
    let Some(idempotency) = &request.idempotency else { return decide(conn, request) };
    let target = key.to_string();
    if let Some(first) = used(conn, &target, idempotency)? {
        let Some(row) = read::active(conn, key, None)? else { return Ok(Claim::Missing) };
        return Ok(if first.digest == idempotency.digest {
            Claim::Replayed { started: first.started, run: first.run, current: row.current }
        } else {
            Claim::KeyReused
        });
    }
    let answer = decide(conn, request)?;
    if matches!(answer, Claim::Missing | Claim::NodeDead) {
        return Ok(answer);
    }
    let row = read::active(conn, key, None)?;
    let row = row.ok_or_else(|| SqlError::Corrupt(format!("{key} has no row")))?;
    fault::point("sqlite:claim-decided");
    if let Some(told) = guard::first_use(&answer, row.current.run) {
        use_key(conn, &target, idempotency, (row.number, key), told, request.at)?;
    }
    fault::point("sqlite:claim-key");
    Ok(answer)
}

/// The race itself: one conditional statement.
fn decide(conn: &Connection, request: &ClaimRequest) -> SqlResult<Claim> {
    let key = &request.key;
    let here = request.place == Place::Here;
    let mut claim = conn.prepare_cached(include_str!("../sql/claim.sql"))?;
    let mut claimed = claim.query(named_params! {
        ":app": key.app(), ":model": key.model(), ":id": key.id(), ":node": request.node.as_str(),
        ":restart": request.policy.restarts(), ":here": here, ":after": request.after.map(int),
        ":max_total": request.max_total, ":at": request.at.as_micros(),
        ":trace_parent": request.trace.as_ref().map(TraceContext::traceparent),
        ":trace_state": request.trace.as_ref().and_then(TraceContext::tracestate),
    })?;
    let won = match claimed.next()? {
        Some(row) if rows::status(row)? == Status::Running => {
            fault::point("sqlite:claim-row");
            return Ok(Claim::Won(rows::won(row)?));
        }
        row => row.is_some(),
    };
    drop(claimed);
    let row = read::active(conn, key, Some(&request.node))?;
    if won {
        let row = row.ok_or_else(|| SqlError::Corrupt(format!("{key} has no row")))?;
        return Ok(Claim::Queued(row.current));
    }
    let alive = row.as_ref().is_some_and(|row| row.alive);
    let row = row.map(|row| row.current);
    if let Some(lost) = guard::lost_claim(row.clone(), request.policy, request.after, alive) {
        return Ok(lost);
    }
    let wanted = NextRun::wanted(request.policy);
    let params = named_params! {
        ":app": key.app(), ":model": key.model(), ":id": key.id(), ":wanted": wanted.as_number(),
    };
    let noted = conn.prepare_cached(include_str!("../sql/want.sql"))?.query_row(params, |_| Ok(()));
    match (noted.optional()?, row) {
        (Some(()), Some(row)) => {
            fault::point("sqlite:claim-noted");
            Ok(Claim::Rerun { current: Current { next_run: wanted, ..row }, first: true })
        }
        _ => {
            Err(SqlError::Corrupt(format!("{key} is startable on record, and yet its claim matched no row")))
        }
    }
}

/// Makes ready what waits for a time that has come. True where there may be more.
pub(crate) fn ripen(conn: &Connection, at: Timestamp) -> SqlResult<bool> {
    let mut ripen = conn.prepare_cached(include_str!("../sql/ripen.sql"))?;
    let params = named_params! { ":at": at.as_micros(), ":limit": int(limits::RIPEN_MAX_RUNS) };
    let ripe = ripen.execute(params)?;
    fault::point("sqlite:ripen-rows");
    Ok(ripe == limits::RIPEN_MAX_RUNS)
}

pub(crate) fn claim_queued(conn: &Connection, request: &QueuedClaim) -> SqlResult<Option<(Key, Won)>> {
    // Names of models hold nothing that JSON would have to escape.
    let models = request.models.iter().map(|(model, max_total)| {
        let max_total = max_total.map_or_else(|| "null".to_owned(), |max| max.to_string());
        format!("[\"{}\",\"{}\",{max_total}]", model.app(), model.model())
    });
    let models = format!("[{}]", models.collect::<Vec<_>>().join(","));
    let mut claim = conn.prepare_cached(include_str!("../sql/claim_queued.sql"))?;
    let mut claimed = claim.query(named_params! {
        ":models": models, ":node": request.node.as_str(), ":at": request.at.as_micros(),
    })?;
    let Some(row) = claimed.next()? else { return Ok(None) };
    fault::point("sqlite:queued-claim-row");
    Ok(Some((rows::key(row)?, rows::won(row)?)))
}

pub(crate) fn delete(conn: &Connection, key: &Key, run: Option<Run>, at: Timestamp) -> SqlResult<Delete> {
    let params = named_params! {
        ":app": key.app(), ":model": key.model(), ":id": key.id(), ":run": run,
    };
    let gone =
        conn.prepare_cached(include_str!("../sql/delete.sql"))?.query_row(params, Left::read).optional()?;
    let Some(left) = gone else {
        let row = read::active(conn, key, None)?;
        let kept =
            |row: rows::Active| guard::kept(&row.current, run).expect("delete.sql says what the guard says");
        return Ok(row.map_or(Delete::Missing, kept));
    };
    fault::point("sqlite:delete-row");
    entomb(conn, key, &left, at)?;
    Ok(Delete::Deleted)
}

/// What a task leaves that is removed.
pub(super) struct Left {
    number: i64,
    run: i64,
    epoch: i64,
    last_seq: i64,
    taken_back: i64,
}

impl Left {
    pub(super) fn read(row: &Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self {
            number: row.get("number")?,
            run: row.get("run")?,
            epoch: row.get("epoch")?,
            last_seq: row.get("last_seq")?,
            taken_back: row.get("taken_back")?,
        })
    }
}

/// Keeps the numbers from which a new task of the key goes on, and remembers that events are to be cleared away.
pub(super) fn entomb(conn: &Connection, key: &Key, left: &Left, at: Timestamp) -> SqlResult<()> {
    conn.prepare_cached(include_str!("../sql/entomb.sql"))?.execute(named_params! {
        ":app": key.app(), ":model": key.model(), ":id": key.id(),
        ":run": left.run, ":epoch": left.epoch, ":last_seq": left.last_seq, ":taken_back": left.taken_back,
        ":at": at.as_micros(),
    })?;
    fault::point("sqlite:entomb-tombstone");
    conn.prepare_cached(include_str!("../sql/deleted.sql"))?
        .execute(named_params! { ":task": left.number })?;
    fault::point("sqlite:entomb-events");
    Ok(())
}

/// Tells the node that holds a task, if one does, that somebody has written for its run.
pub(crate) fn notify(conn: &Connection, key: &Key) -> SqlResult<()> {
    conn.prepare_cached(include_str!("../sql/notify.sql"))?
        .execute(named_params! { ":app": key.app(), ":model": key.model(), ":id": key.id() })?;
    Ok(())
}

pub(crate) fn signal(
    conn: &Connection,
    key: &Key,
    name: &str,
    data: &Json,
    at: Timestamp,
) -> SqlResult<Signalled> {
    let mut signal = conn.prepare_cached(include_str!("../sql/signal.sql"))?;
    let mut recorded = signal.query(named_params! {
        ":app": key.app(), ":model": key.model(), ":id": key.id(), ":name": name, ":data": data.as_str(),
        ":at": at.as_micros(), ":max": int(limits::SIGNALS_MAX_PER_RUN),
    })?;
    if let Some(row) = recorded.next()? {
        let recorded = rows::recorded(row)?;
        fault::point("sqlite:signal-row");
        notify(conn, key)?;
        fault::point("sqlite:signal-told");
        return Ok(recorded);
    }
    Ok(match read::active(conn, key, None)?.map(|row| row.current.status) {
        None => Signalled::Missing,
        Some(status) if status.is_finished() => Signalled::NotRunning(status),
        Some(_) => Signalled::Full,
    })
}

#[cfg(test)]
mod tests {
    use soloist::{NodeId, Policy};

    use super::*;
    use crate::open;

    /// `claim.sql` by itself, without the snapshot that spares most losers the write lock: every status, policy and
    /// claimer (alive, dead, never joined), answered as the guard says.
    #[test]
    fn s1_the_claim_statement_alone_answers_every_row_as_the_guard_says() {
        let dir = tempfile::tempdir().unwrap();
        let conn = open::file(&dir.path().join("a.db")).unwrap();
        let at = Timestamp::from_micros(0);
        let [dead, alive, gone] = [NodeId::random(), NodeId::random(), NodeId::random()];
        conn.execute(
            "INSERT INTO node (id, joined_at, dead) VALUES (?1, 0, 1), (?2, 0, 0)",
            [dead.as_str(), alive.as_str()],
        )
        .unwrap();
        for status in Status::ALL {
            for policy in Policy::ALL {
                for node in [&dead, &gone, &alive] {
                    let key: Key = format!("a/B/{status}-{policy:?}-{node}").parse().unwrap();
                    let new = NewTask::named(key.clone(), Json::null());
                    create(&conn, &new, None, at).unwrap();
                    let holder = status.is_held().then_some(dead.as_str());
                    conn.execute(
                        "UPDATE task SET status = ?1, node = ?2, run = 4, epoch = 6, last_seq = 9 WHERE id = ?3",
                        (status.as_str(), holder, key.id()),
                    )
                    .unwrap();
                    let row = read::active(&conn, &key, Some(node)).unwrap().unwrap();
                    assert_eq!(row.alive, node == &alive);
                    let expected = guard::lost_claim(Some(row.current), policy, None, node == &alive);
                    let request = ClaimRequest {
                        key: key.clone(),
                        node: node.clone(),
                        policy,
                        place: Place::Here,
                        after: None,
                        max_total: None,
                        idempotency: None,
                        trace: None,
                        at,
                    };
                    let answer = claim(&conn, &request).unwrap();
                    match (&expected, &answer) {
                        (None, Claim::Won(won)) => {
                            assert_eq!((won.run, won.epoch, won.last_seq), (5, Epoch(7), 9))
                        }
                        (None, Claim::Rerun { current, first: true }) => {
                            assert!(
                                current.status.is_active() && policy.asks_for_more(),
                                "{key}: {answer:?}"
                            );
                        }
                        (Some(expected), answer) => {
                            assert_eq!(format!("{answer:?}"), format!("{expected:?}"), "{key}")
                        }
                        (None, lost) => panic!("{key}: {lost:?} where the guard lets it win"),
                    }
                }
            }
        }
    }
}
