//! Claims, and the answers of those that lost.
//!
//! Decides: how often a claim goes round. The race itself is one statement; who loses it is told by a second one with its
//! own snapshot, and where that reads a startable task (the winner has not committed yet, or the run is over already) the
//! claim goes round again.
//!
//! Every claim draws a number and leaves it on the row that it wins, and wins only the run that follows the one that its
//! look has seen. Where the answer was lost, the claim is sent again under that number and for that run: it wins, or finds
//! its own number (then it has won before), or finds that the task has gone on. Then its run may have come and gone (whoever
//! claims a queued run leaves another number there), and it is told what is there: one start never makes two runs.
//!
//! A claim that finds a run active, and asks for one more, notes that on the row for the very run that it has seen; where
//! that one has ended meanwhile, it goes round as well.
//!
//! Looks, and claims where they are sent for the first time, go with those of others that wait. A claim that was passed by,
//! or met others, goes on alone; so do those of models whose runs are bounded over all nodes, each of which takes a slot.

use std::sync::Arc;

use soloist::{
    Key, NodeId, Task, TraceContext, fault,
    idempotency::Idempotency,
    limits,
    state::Place,
    store::{Claim, ClaimRequest, Current, QueuedClaim, Won, guard},
    task::NextRun,
};
use tokio_postgres::Row;

use super::{Looking, active, int, slots, small, task};
use crate::{
    db::{Again, Db, Fate, ask_while},
    error::{SqlError, SqlResult},
    gather::{self, Gather, Request},
    rows::{self, Active},
    sql::args,
    text,
};

/// The answer, and the number of the task where the claim has changed its row.
pub(crate) type Answer = (Claim, Option<i64>);

pub(crate) async fn claim(db: &Arc<Db>, request: &ClaimRequest) -> SqlResult<Answer> {
    let claim_id: i64 = rand::random();
    slots::make_lacking(db, [(request.key.model_key(), request.max_total)].into_iter()).await?;
    match &request.idempotency {
        Some(key) => claim_keyed(db, request, key, claim_id).await,
        None => claim_unkeyed(db, request, claim_id).await,
    }
}

/// A loser is told from a snapshot before anything is locked or written.
async fn claim_unkeyed(db: &Arc<Db>, request: &ClaimRequest, claim_id: i64) -> SqlResult<Answer> {
    let (mut again, mut is_alone) = (Again::new(Fate::Repeat), request.max_total.is_some());
    let mut seen = match look(db, request, claim_id).await? {
        Look::Told(answer) => return Ok(answer),
        Look::Undecided(row) => row,
    };
    loop {
        let decided = if seen.status.is_active() {
            want(db, request, seen.run).await
        } else {
            let claiming = Claiming { request: request.clone(), claim_id, run: seen.run };
            if std::mem::replace(&mut is_alone, true) {
                decide(db, Again::new(Fate::Once), &[&claiming]).await.map(|mut answers| answers.remove(0))
            } else {
                gather::ask(db, claiming).await
            }
        };
        match decided {
            Ok(Some(answer)) => return Ok(answer),
            Ok(None) => {}
            Err(error) => {
                again.after(error).await?;
                continue;
            }
        }
        match look(db, request, claim_id).await.map_err(|error| again.word(error))? {
            Look::Told(answer) => return Ok(answer),
            // What was sent before and not answered may have been that run.
            Look::Undecided(row) if row.run != seen.run && again.is_unknown() => {
                return gone_on(request, row);
            }
            Look::Undecided(row) => seen = row,
        }
        if !again.look().await {
            return Err(locked(request));
        }
    }
}

/// The answer where the task has gone on since a claim was sent that was never answered.
fn gone_on(request: &ClaimRequest, row: Current) -> SqlResult<Answer> {
    if row.status.is_finished() {
        return Ok((Claim::Finished(row), None));
    }
    if row.status.is_active() {
        return Ok((Claim::Active(row), None));
    }
    Err(SqlError::Broken(format!("{} was created anew since it was claimed", request.key)))
}

fn locked(request: &ClaimRequest) -> SqlError {
    SqlError::Conflict(format!("{} is startable, and others have it locked", request.key))
}

/// Under a key the first answer counts, whatever the row says; so a claim that is sent again finds its own key. A key that was
/// used stays so: whoever repeats a start is told from a snapshot, and locks nothing. That it was not used yet is no answer.
async fn claim_keyed(db: &Db, request: &ClaimRequest, key: &Idempotency, claim_id: i64) -> SqlResult<Answer> {
    let mut again = Again::new(Fate::Repeat);
    if let Some(first) = used(db, &request.key.to_string(), key).await? {
        let seen = active(db, &request.key, Some(&request.node)).await?;
        return repeated(db, request, claim_id, key, first, seen).await;
    }
    loop {
        if let Some(answer) = decide_keyed(db, request, key, claim_id).await? {
            return Ok(answer);
        }
        if let Some(answer) = look_keyed(db, request, key, claim_id).await? {
            return Ok(answer);
        }
        if !again.look().await {
            return Err(locked(request));
        }
    }
}

/// A claim of the run after the one that its look has seen.
pub(crate) struct Claiming {
    request: ClaimRequest,
    claim_id: i64,
    run: u64,
}

impl Request for Claiming {
    type Answer = Option<Answer>;

    fn gather(db: &Db) -> &Gather<Self> {
        &db.claims
    }

    fn task(&self) -> Option<&Key> {
        Some(&self.request.key)
    }

    async fn carry_out(db: &Db, group: &[&Self]) -> SqlResult<Vec<Option<Answer>>> {
        decide(db, Again::briefly(Fate::Once), group).await
    }
}

/// The race. Sent once: whoever asks again looks what it has seen first.
async fn decide(db: &Db, again: Again, group: &[&Claiming]) -> SqlResult<Vec<Option<Answer>>> {
    fault::point("postgres:claim-before");
    let decided = match group {
        [Claiming { request, claim_id, run }] => {
            let (app, model, id) = (request.key.app(), request.key.model(), request.key.id());
            let (node, at) = (request.node.as_str(), request.at.as_micros());
            let (trace_parent, trace_state) = trace(request);
            let args = args! {
                app: TEXT = app, model: TEXT = model, id: TEXT = id, node: TEXT = node, claim_id: INT8 = claim_id,
                run: INT8 = int(*run), owed: BOOL = request.after.is_some(), restart: BOOL = request.policy.restarts(),
                here: BOOL = request.place == Place::Here, at: INT8 = at, max_total: INT4 = request.max_total.map(small), trace_parent: TEXT = trace_parent, trace_state: TEXT = trace_state,
            };
            let claimed = ask_while(&db.writers, again, &db.sql.claim, args).await?;
            vec![claimed.first().map(made).transpose()?]
        }
        _ => decide_many(db, again, group).await?,
    };
    fault::point("postgres:claim-after");
    Ok(decided)
}

async fn decide_many(db: &Db, again: Again, group: &[&Claiming]) -> SqlResult<Vec<Option<Answer>>> {
    let part = |of: fn(&ClaimRequest) -> &str| column(group, |claiming| of(&claiming.request));
    let (apps, models, ids) = (part(|r| r.key.app()), part(|r| r.key.model()), part(|r| r.key.id()));
    let (nodes, claim_ids) = (part(|r| r.node.as_str()), column(group, |claiming| claiming.claim_id));
    let runs = column(group, |claiming| int(claiming.run));
    let oweds = column(group, |claiming| claiming.request.after.is_some());
    let restarts = column(group, |claiming| claiming.request.policy.restarts());
    let heres = column(group, |claiming| claiming.request.place == Place::Here);
    let ats = column(group, |claiming| claiming.request.at.as_micros());
    let trace_parents = column(group, |claiming| trace(&claiming.request).0);
    let trace_states = column(group, |claiming| trace(&claiming.request).1);
    let args = args! {
        apps: TEXT_ARRAY = apps, models: TEXT_ARRAY = models, ids: TEXT_ARRAY = ids, nodes: TEXT_ARRAY = nodes,
        claim_ids: INT8_ARRAY = claim_ids, runs: INT8_ARRAY = runs, oweds: BOOL_ARRAY = oweds, restarts: BOOL_ARRAY = restarts,
        heres: BOOL_ARRAY = heres, ats: INT8_ARRAY = ats, trace_parents: TEXT_ARRAY = trace_parents, trace_states: TEXT_ARRAY = trace_states,
    };
    let claimed = ask_while(&db.writers, again, &db.sql.claim_many, args).await?;
    rows::in_places(&claimed, group.len(), made)
}

/// One value of each.
fn column<'a, T>(group: &[&'a Claiming], of: impl Fn(&'a Claiming) -> T) -> Vec<T> {
    group.iter().map(|claiming| of(claiming)).collect()
}

/// The trace that goes on record with the run.
fn trace(request: &ClaimRequest) -> (Option<&str>, Option<&str>) {
    let trace = request.trace.as_ref();
    (trace.map(TraceContext::traceparent), trace.and_then(TraceContext::tracestate))
}

/// Notes that one more run is wanted after `run`, which is active. Sent once, as `decide` is: whoever asks again looks first,
/// so that it asks for no run after the one that it has asked for.
async fn want(db: &Db, request: &ClaimRequest, run: u64) -> SqlResult<Option<Answer>> {
    let (app, model, id) = (request.key.app(), request.key.model(), request.key.id());
    let wanted = i16::from(NextRun::wanted(request.policy).as_number());
    fault::point("postgres:want-before");
    let noted = db
        .write(
            Fate::Once,
            &db.sql.want,
            args! { app: TEXT = app, model: TEXT = model, id: TEXT = id, run: INT8 = int(run), wanted: INT2 = wanted },
        )
        .await?;
    fault::point("postgres:want-after");
    noted.first().map(noted_by).transpose()
}

/// What the row says on which a claim has noted that one more run is wanted.
fn noted_by(row: &Row) -> SqlResult<Answer> {
    Ok((Claim::Rerun { current: rows::current(row)?, first: true }, Some(rows::get(row, "number")?)))
}

/// What the row says that a claim has made.
fn made(row: &Row) -> SqlResult<Answer> {
    let (number, current) = (rows::get(row, "number")?, rows::current(row)?);
    let claim = if current.status.is_held() { Claim::Won(rows::won(row)?) } else { Claim::Queued(current) };
    Ok((claim, Some(number)))
}

/// What a look has seen.
enum Look {
    /// The answer of a loser.
    Told(Answer),
    /// The task can be started; or it is active, and one more run after that is still to be asked for.
    Undecided(Current),
}

/// Words the answer of a loser, where there is one.
async fn look(db: &Arc<Db>, request: &ClaimRequest, claim_id: i64) -> SqlResult<Look> {
    let looking = Looking { key: request.key.clone(), asking: request.node.clone() };
    let Some(seen) = gather::ask(db, looking).await? else {
        return Ok(Look::Told((Claim::Missing, None)));
    };
    if let Some(won) = before(db, request, claim_id, Some(&seen)).await? {
        return Ok(Look::Told(won));
    }
    let lost = guard::lost_claim(Some(seen.current.clone()), request.policy, request.after, seen.alive);
    Ok(lost.map_or(Look::Undecided(seen.current), |lost| Look::Told((lost, None))))
}

/// The answer of a claim that finds its own number on the row: it has won before, and its answer was lost. What became of
/// its run since is told as to anybody else, and it wins nothing a second time.
async fn before(
    db: &Db,
    request: &ClaimRequest,
    claim_id: i64,
    seen: Option<&Active>,
) -> SqlResult<Option<Answer>> {
    let Some(row) = seen.filter(|row| row.claim_id == Some(claim_id)).map(|row| &row.current) else {
        return Ok(None);
    };
    // Whoever claims from the queue leaves his own number: so this run was queued, and nobody has taken it since.
    if row.started_at.is_none() {
        return Ok(Some((Claim::Queued(row.clone()), None)));
    }
    if row.status.is_held() && row.node.as_ref() == Some(&request.node) {
        let Some(task) = task(db, &request.key).await? else { return Ok(Some((Claim::Missing, None))) };
        return Ok(Some((Claim::Won(won(row, task, request)), None)));
    }
    let lost =
        if row.status.is_finished() { Claim::Finished(row.clone()) } else { Claim::Active(row.clone()) };
    Ok(Some((lost, None)))
}

fn won(row: &Current, task: Task, request: &ClaimRequest) -> Won {
    Won {
        run: row.run,
        attempt: row.attempt,
        epoch: row.epoch,
        last_seq: row.last_seq,
        started_at: row.started_at.unwrap_or(request.at),
        retry_count: row.retry_count,
        terms: task.terms(),
        losses: row.losses,
        input: task.input,
        trace: task.trace,
    }
}

/// The race under a key, which is kept in the same step.
async fn decide_keyed(
    db: &Db,
    request: &ClaimRequest,
    key: &Idempotency,
    claim_id: i64,
) -> SqlResult<Option<Answer>> {
    let (app, model, id) = (request.key.app(), request.key.model(), request.key.id());
    let (node, at, target) = (request.node.as_str(), request.at.as_micros(), request.key.to_string());
    let wanted = i16::from(NextRun::wanted(request.policy).as_number());
    let (trace_parent, trace_state) = trace(request);
    fault::point("postgres:claim-keyed-before");
    let decided = db
        .write(
            Fate::Repeat,
            &db.sql.claim_keyed,
            args! {
                app: TEXT = app, model: TEXT = model, id: TEXT = id, node: TEXT = node, claim_id: INT8 = claim_id,
                restart: BOOL = request.policy.restarts(), here: BOOL = request.place == Place::Here, at: INT8 = at,
                max_total: INT4 = request.max_total.map(small), after: INT8 = request.after.map(int), wanted: INT2 = wanted,
                subject: TEXT = text::stored(&key.subject), call: TEXT = key.call.as_str(), target: TEXT = target,
                key: TEXT = key.key, digest: TEXT = key.digest, trace_parent: TEXT = trace_parent,
                trace_state: TEXT = trace_state,
            },
        )
        .await?;
    fault::point("postgres:claim-keyed-after");
    let Some(row) = decided.first() else { return Ok(None) };
    let (started, has_won): (bool, bool) = (rows::get(row, "started")?, rows::get(row, "won")?);
    if started != has_won {
        return Err(SqlError::Corrupt(format!("a start of {} was kept that did not happen", request.key)));
    }
    if has_won {
        return made(row).map(Some);
    }
    if rows::get(row, "noted")? {
        return noted_by(row).map(Some);
    }
    let row = rows::current(row)?;
    guard::lost_claim(Some(row), request.policy, request.after, true)
        .map(|lost| Some((lost, None)))
        .ok_or_else(|| SqlError::Corrupt(format!("{} is startable, and yet its claim lost", request.key)))
}

/// Words the answer where nothing was decided: the key was used before, there is no such task, or the node is dead.
async fn look_keyed(
    db: &Db,
    request: &ClaimRequest,
    key: &Idempotency,
    claim_id: i64,
) -> SqlResult<Option<Answer>> {
    let first = used(db, &request.key.to_string(), key).await?;
    let seen = active(db, &request.key, Some(&request.node)).await?;
    if let Some(first) = first {
        return repeated(db, request, claim_id, key, first, seen).await.map(Some);
    }
    let alive = seen.as_ref().is_some_and(|row| row.alive);
    let nothing = guard::lost_claim(seen.map(|row| row.current), request.policy, request.after, alive);
    // A task that is active or finished is decided on, and kept, under its lock.
    Ok(nothing
        .filter(|answer| matches!(answer, Claim::Missing | Claim::NodeDead))
        .map(|answer| (answer, None)))
}

/// The answer to a claim whose key was used before.
async fn repeated(
    db: &Db,
    request: &ClaimRequest,
    claim_id: i64,
    key: &Idempotency,
    first: Used,
    seen: Option<Active>,
) -> SqlResult<Answer> {
    let Some(row) = seen else { return Ok((Claim::Missing, None)) };
    if first.digest != key.digest {
        return Ok((Claim::KeyReused, None));
    }
    if let Some(won) = before(db, request, claim_id, Some(&row)).await? {
        return Ok(won);
    }
    Ok((Claim::Replayed { started: first.started, run: first.run, current: row.current }, None))
}

/// The first use of an idempotency key.
pub(super) struct Used {
    pub(super) digest: String,
    pub(super) task: Key,
    pub(super) started: bool,
    pub(super) run: u64,
    /// Whether its task is still there.
    pub(super) there: bool,
}

/// Looks up what the first use of a key was told.
pub(super) async fn used(db: &Db, target: &str, key: &Idempotency) -> SqlResult<Option<Used>> {
    let found = db
        .read(
            &db.sql.used,
            args! {
                subject: TEXT = text::stored(&key.subject), call: TEXT = key.call.as_str(), target: TEXT = target,
                key: TEXT = key.key,
            },
        )
        .await?;
    let Some(row) = found.first() else { return Ok(None) };
    let name: &str = rows::get(row, "name")?;
    let task =
        name.parse().map_err(|_| SqlError::Corrupt("the task of an idempotency key is none".to_owned()))?;
    Ok(Some(Used {
        digest: rows::get(row, "digest")?,
        task,
        started: rows::get(row, "started")?,
        run: rows::count(row, "run")?,
        there: rows::get(row, "there")?,
    }))
}

/// The run that was queued first, with its task's number.
pub(crate) async fn claim_queued(db: &Db, request: &QueuedClaim) -> SqlResult<Option<(Key, Won, i64)>> {
    if request.models.is_empty() {
        return Ok(None);
    }
    let claim_id: i64 = rand::random();
    let bounds = || request.models.iter().map(|(model, max_total)| (model, *max_total));
    slots::make_lacking(db, bounds()).await?;
    let apps: Vec<&str> = bounds().map(|(model, _)| model.app()).collect();
    let models: Vec<&str> = bounds().map(|(model, _)| model.model()).collect();
    let max_totals: Vec<Option<i32>> = bounds().map(|(_, max_total)| max_total.map(small)).collect();
    let (node, at) = (NodeId::as_str(&request.node), int(request.at.as_micros()));
    // Not asked again where its answer is lost: what it has claimed this node finds when it next compares what the store
    // says it holds with what it runs.
    let (mut again, mut heads) = (Again::new(Fate::Once), limits::POSTGRES_QUEUE_HEADS_MIN);
    loop {
        fault::point("postgres:queued-claim-before");
        let claimed = db
            .write(
                Fate::Once,
                &db.sql.claim_queued,
                args! {
                    apps: TEXT_ARRAY = apps, models: TEXT_ARRAY = models, max_totals: INT4_ARRAY = max_totals,
                    node: TEXT = node, claim_id: INT8 = claim_id, at: INT8 = at, heads: INT8 = int(heads),
                },
            )
            .await?;
        fault::point("postgres:queued-claim-after");
        let Some(row) = claimed.first() else { return Ok(None) };
        if let Some(number) = rows::get(row, "number")? {
            return Ok(Some((rows::key(row)?, rows::won(row)?, number)));
        }
        // Others are at work on all of these, and there may be more behind them; or they have taken the last slots, which
        // the next look sees.
        if rows::get(row, "more")? {
            heads = (heads * 4).min(limits::POSTGRES_QUEUE_HEADS_MAX);
        }
        if !again.look().await {
            return Ok(None);
        }
    }
}
