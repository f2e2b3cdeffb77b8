//! Creates, deletes and signals.
//!
//! Decides: nothing; where the one statement that decides matched no row, the row is read and tells why.

use std::sync::Arc;

use soloist::{
    Create, Delete, Json, Key, NewId, NewTask, NodeId, Run, Task, Timestamp, TraceContext, fault,
    idempotency::Idempotency,
    limits,
    state::Place,
    store::{FirstClaim, Signalled, guard},
};
use tokio_postgres::{
    Row,
    types::{ToSql, Type},
};

use super::{active, claim::used, int, small, task};
use crate::{
    db::{Again, Db, Fate, ask_while},
    error::{SqlError, SqlResult},
    gather::{self, Gather, Request},
    rows,
    sql::args,
    text,
};

pub(crate) async fn create(db: &Arc<Db>, new: &NewTask, at: Timestamp) -> SqlResult<Create> {
    match &new.idempotency {
        Some(key) => create_keyed(db, new, key, at).await,
        None => create_new(db, Creation { new: new.clone(), first: None, at }).await,
    }
}

/// The same with its first run. A task whose key was deleted before is pending: what is claimed over a tombstone is claimed by
/// a step of its own, which says after which run.
pub(crate) async fn create_claimed(
    db: &Arc<Db>,
    new: &NewTask,
    claim: FirstClaim,
    at: Timestamp,
) -> SqlResult<Create> {
    debug_assert!(new.idempotency.is_none(), "what brings a key is claimed by a step of its own");
    let first = First { claim, claim_id: rand::random() };
    create_new(db, Creation { new: new.clone(), first: Some(first), at }).await
}

/// A create that is sent once: where its task is there it locks and writes nothing. The first time it goes with others.
async fn create_new(db: &Arc<Db>, mut creation: Creation) -> SqlResult<Create> {
    let (mut again, mut is_alone) = (Again::new(Fate::Repeat), false);
    let claim_id = creation.first.as_ref().map(|first| first.claim_id);
    loop {
        let new = &creation.new;
        if let NewId::Named(key) = &new.id
            && let Some((task, claimed_by)) = claimed_task(db, key).await?
        {
            // It has made it itself, and the answer was lost: nobody else has drawn that number, and nobody has claimed the
            // run since.
            if claim_id.is_some() && claimed_by == claim_id {
                return Ok(Create::Created(task));
            }
            return Ok(if task.input.same_value(&new.input) {
                Create::Exists(task)
            } else {
                Create::Differs(task)
            });
        }
        let made = match (is_alone, &new.id) {
            (false, NewId::Named(_)) => gather::ask(db, Creating::<true>(creation.clone())).await,
            (false, NewId::Assigned(_)) => gather::ask(db, Creating::<false>(creation.clone())).await,
            (true, _) => {
                make(db, again_for(new, Again::new), &[&creation]).await.map(|mut made| made.remove(0))
            }
        };
        let was_alone = std::mem::replace(&mut is_alone, true);
        if matches!((&made, &creation.new.id), (Ok(None), NewId::Named(_))) {
            creation.first = None;
        }
        match made {
            Ok(Some(task)) => return Ok(Create::Created(task)),
            // An assigned id that is taken is skipped; a name that was taken since is looked at again.
            Ok(None) if matches!(creation.new.id, NewId::Assigned(_)) || again.look().await => {}
            Ok(None) => return Err(SqlError::Conflict("a task comes and goes under this name".to_owned())),
            // It meets others, and has more patience than those that it went with.
            Err(SqlError::Conflict(_) | SqlError::Double(_)) if !was_alone => {}
            Err(error) => return Err(error),
        }
    }
}

/// A create, when, and the run that it begins.
#[derive(Clone)]
struct Creation {
    new: NewTask,
    first: Option<First>,
    at: Timestamp,
}

/// A first run, and the number by which it finds itself again.
#[derive(Clone)]
struct First {
    claim: FirstClaim,
    claim_id: i64,
}

/// A create that waits for others.
pub(crate) struct Creating<const NAMED: bool>(Creation);

impl<const NAMED: bool> Request for Creating<NAMED>
where
    Self: Lane,
{
    type Answer = Option<Task>;

    fn gather(db: &Db) -> &Gather<Self> {
        Self::lane(db)
    }

    fn task(&self) -> Option<&Key> {
        match &self.0.new.id {
            NewId::Named(key) => Some(key),
            NewId::Assigned(_) => None,
        }
    }

    async fn carry_out(db: &Db, group: &[&Self]) -> SqlResult<Vec<Option<Task>>> {
        let group: Vec<_> = group.iter().map(|creating| &creating.0).collect();
        let Some(one) = group.first() else { return Ok(Vec::new()) };
        make(db, again_for(&one.new, Again::briefly), &group).await
    }
}

/// Where creates of one kind wait.
pub(crate) trait Lane: Sized {
    /// That place.
    fn lane(db: &Db) -> &Gather<Self>
    where
        Self: Request;
}

impl Lane for Creating<true> {
    fn lane(db: &Db) -> &Gather<Self> {
        &db.named
    }
}

impl Lane for Creating<false> {
    fn lane(db: &Db) -> &Gather<Self> {
        &db.assigned
    }
}

/// Twice it would make two tasks where the store gives the name.
fn again_for(new: &NewTask, again: fn(Fate) -> Again) -> Again {
    again(if matches!(new.id, NewId::Named(_)) { Fate::Repeat } else { Fate::Once })
}

/// Makes tasks in one statement; none where a name is taken.
async fn make(db: &Db, again: Again, group: &[&Creation]) -> SqlResult<Vec<Option<Task>>> {
    fault::point("postgres:create-before");
    let made = match group {
        [creation] => {
            let (words, at, first) =
                (Words::of(&creation.new), creation.at.as_micros(), FirstWords::of(creation));
            let mut args = words.args(&at).to_vec();
            args.extend(first.args());
            let made = ask_while(&db.writers, again, &db.sql.create, &args).await?;
            vec![made.first().map(rows::task).transpose()?]
        }
        _ => {
            let all: Vec<_> = group.iter().map(|creation| Words::of(&creation.new)).collect();
            let (apps, models, ids) =
                (column(&all, |w| w.app), column(&all, |w| w.model), column(&all, |w| w.id));
            let owners = column(&all, |w| w.owner.as_deref());
            let (max_retries, timeout_seconds, deadline_seconds) = (
                column(&all, |w| w.max_retries),
                column(&all, |w| w.timeout_seconds),
                column(&all, |w| w.deadline_seconds),
            );
            let (run_ats, inputs) = (column(&all, |w| w.run_at), column(&all, |w| w.input));
            let ats: Vec<i64> = group.iter().map(|creation| creation.at.as_micros()).collect();
            let firsts: Vec<_> = group.iter().map(|creation| FirstWords::of(creation)).collect();
            let (nodes, claim_ids, heres) =
                (column(&firsts, |w| w.node), column(&firsts, |w| w.claim_id), column(&firsts, |w| w.here));
            let (trace_parents, trace_states) =
                (column(&firsts, |w| w.trace_parent), column(&firsts, |w| w.trace_state));
            let args = args! {
                apps: TEXT_ARRAY = apps, models: TEXT_ARRAY = models, ids: TEXT_ARRAY = ids, owners: TEXT_ARRAY = owners,
                max_retries: INT4_ARRAY = max_retries, timeout_seconds: INT4_ARRAY = timeout_seconds,
                deadline_seconds: INT4_ARRAY = deadline_seconds, run_ats: INT8_ARRAY = run_ats,
                inputs: TEXT_ARRAY = inputs, ats: INT8_ARRAY = ats, nodes: TEXT_ARRAY = nodes,
                claim_ids: INT8_ARRAY = claim_ids, heres: BOOL_ARRAY = heres, trace_parents: TEXT_ARRAY = trace_parents,
                trace_states: TEXT_ARRAY = trace_states,
            };
            let made = ask_while(&db.writers, again, &db.sql.create_many, args).await?;
            rows::in_places(&made, group.len(), rows::task)?
        }
    };
    fault::point("postgres:create-after");
    Ok(made)
}

/// One value of each.
fn column<'a, W, T>(all: &'a [W], of: impl Fn(&'a W) -> T) -> Vec<T> {
    all.iter().map(of).collect()
}

/// What `create.sql` is given of a first run; nothing where none is begun.
#[derive(Default)]
struct FirstWords<'a> {
    node: Option<&'a str>,
    claim_id: Option<i64>,
    here: Option<bool>,
    trace_parent: Option<&'a str>,
    trace_state: Option<&'a str>,
}

impl<'a> FirstWords<'a> {
    fn of(creation: &'a Creation) -> Self {
        let Some(First { claim, claim_id }) = &creation.first else { return Self::default() };
        let trace = claim.trace.as_ref();
        Self {
            node: Some(claim.node.as_str()),
            claim_id: Some(*claim_id),
            here: Some(claim.place == Place::Here),
            trace_parent: trace.map(TraceContext::traceparent),
            trace_state: trace.and_then(TraceContext::tracestate),
        }
    }

    fn args(&self) -> [(&'static str, &(dyn ToSql + Sync), Type); 5] {
        [
            ("node", &self.node, Type::TEXT),
            ("claim_id", &self.claim_id, Type::INT8),
            ("here", &self.here, Type::BOOL),
            ("trace_parent", &self.trace_parent, Type::TEXT),
            ("trace_state", &self.trace_state, Type::TEXT),
        ]
    }
}

/// What `create.sql` is given, as it is stored.
struct Words<'a> {
    app: &'a str,
    model: &'a str,
    id: Option<&'a str>,
    owner: Option<String>,
    max_retries: i32,
    timeout_seconds: Option<i32>,
    deadline_seconds: Option<i32>,
    run_at: Option<i64>,
    input: &'a str,
}

impl<'a> Words<'a> {
    fn of(new: &'a NewTask) -> Self {
        let (model, terms) = (new.id.model_key(), new.terms());
        Self {
            app: model.app(),
            model: model.model(),
            id: match &new.id {
                NewId::Named(key) => Some(key.id()),
                NewId::Assigned(_) => None,
            },
            owner: new.owner.as_deref().map(|owner| text::stored(owner).into_owned()),
            max_retries: small(terms.max_retries),
            timeout_seconds: terms.timeout_seconds.map(small),
            deadline_seconds: terms.deadline_seconds.map(small),
            run_at: new.run_at.map(Timestamp::as_micros),
            input: new.input.as_str(),
        }
    }

    fn args<'b>(&'b self, at: &'b i64) -> [(&'static str, &'b (dyn ToSql + Sync), Type); 10] {
        [
            ("app", &self.app, Type::TEXT),
            ("model", &self.model, Type::TEXT),
            ("id", &self.id, Type::TEXT),
            ("owner", &self.owner, Type::TEXT),
            ("max_retries", &self.max_retries, Type::INT4),
            ("timeout_seconds", &self.timeout_seconds, Type::INT4),
            ("deadline_seconds", &self.deadline_seconds, Type::INT4),
            ("run_at", &self.run_at, Type::INT8),
            ("input", &self.input, Type::TEXT),
            ("at", at, Type::INT8),
        ]
    }
}

/// Under an idempotency key, which makes it harmless to send it again: then it finds its own key.
async fn create_keyed(db: &Db, new: &NewTask, key: &Idempotency, at: Timestamp) -> SqlResult<Create> {
    let target = match &new.id {
        NewId::Named(key) => key.to_string(),
        NewId::Assigned(model) => model.to_string(),
    };
    let mut again = Again::new(Fate::Repeat);
    loop {
        if let Some(first) = used(db, &target, key).await.map_err(|error| again.word(error))? {
            if first.digest != key.digest {
                return Ok(Create::KeyReused);
            }
            let there = if first.there { task(db, &first.task).await? } else { None };
            return Ok(there.map_or(Create::ReplayedDeleted(first.task), Create::Replayed));
        }
        match try_create_keyed(db, new, (&target, key), at).await {
            Ok(Some(created)) => return Ok(created),
            // An assigned id that is taken is skipped.
            Ok(None) if matches!(new.id, NewId::Assigned(_)) => {}
            // Somebody used the key, or the task came or went, in between.
            Ok(None) | Err(SqlError::Double(_)) if again.look().await => {}
            Ok(None) | Err(SqlError::Double(_)) => {
                return Err(SqlError::Conflict("a task comes and goes under this name".to_owned()));
            }
            Err(error) => again.after(error).await?,
        }
    }
}

/// None where something came in between, and nothing was decided.
async fn try_create_keyed(
    db: &Db,
    new: &NewTask,
    (target, key): (&str, &Idempotency),
    at: Timestamp,
) -> SqlResult<Option<Create>> {
    let (subject, call, at) = (text::stored(&key.subject), key.call.as_str(), at.as_micros());
    if let NewId::Named(name) = &new.id {
        let (app, model, id) = (name.app(), name.model(), name.id());
        let found =
            db.read(&db.sql.task, args! { app: TEXT = app, model: TEXT = model, id: TEXT = id }).await?;
        if let Some(row) = found.first() {
            let (task, number) = (rows::task(row)?, row_number(row)?);
            if !task.input.same_value(&new.input) {
                // Nothing was decided, and the key is as good as new.
                return Ok(Some(Create::Differs(task)));
            }
            let args = args! {
                subject: TEXT = subject, call: TEXT = call, target: TEXT = target, key: TEXT = key.key,
                digest: TEXT = key.digest, task: INT8 = number, at: INT8 = at,
            };
            fault::point("postgres:use-key-before");
            let kept = db.write(Fate::Once, &db.sql.use_key, args).await?;
            fault::point("postgres:use-key-after");
            return Ok((!kept.is_empty()).then_some(Create::Exists(task)));
        }
    }
    let words = Words::of(new);
    let mut args = words.args(&at).to_vec();
    args.extend_from_slice(args! {
        subject: TEXT = subject, call: TEXT = call, target: TEXT = target, key: TEXT = key.key,
        digest: TEXT = key.digest,
    });
    // Not asked again here: that the key is there twice is an answer.
    fault::point("postgres:create-keyed-before");
    let made = db.writers.take().await?.ask(&db.sql.create_keyed, &args).await?;
    fault::point("postgres:create-keyed-after");
    made.first().map(|row| rows::task(row).map(Create::Created)).transpose()
}

/// A record, and the number that whoever claimed its newest run has drawn.
async fn claimed_task(db: &Db, key: &Key) -> SqlResult<Option<(Task, Option<i64>)>> {
    let (app, model, id) = (key.app(), key.model(), key.id());
    let found = db.read(&db.sql.task, args! { app: TEXT = app, model: TEXT = model, id: TEXT = id }).await?;
    found.first().map(|row| Ok((rows::task(row)?, rows::get(row, "claim_id")?))).transpose()
}

fn row_number(row: &Row) -> SqlResult<i64> {
    rows::get(row, "number")
}

pub(crate) async fn delete(
    db: &Db,
    key: &Key,
    run: Option<Run>,
    at: Timestamp,
) -> SqlResult<(Delete, Option<i64>)> {
    let (app, model, id) = (key.app(), key.model(), key.id());
    let mut again = Again::new(Fate::Repeat);
    loop {
        // Twice it would delete a task that somebody has created under this key in between.
        fault::point("postgres:delete-before");
        let gone = db
            .write(
                Fate::Once,
                &db.sql.delete,
                args! {
                    app: TEXT = app, model: TEXT = model, id: TEXT = id, run: INT8 = run.map(int),
                    at: INT8 = at.as_micros(),
                },
            )
            .await?;
        fault::point("postgres:delete-after");
        if let Some(row) = gone.first() {
            return Ok((Delete::Deleted, Some(row_number(row)?)));
        }
        let Some(row) = active(db, key, None).await? else { return Ok((Delete::Missing, None)) };
        if let Some(kept) = guard::kept(&row.current, run) {
            return Ok((kept, None));
        }
        // It has ended in between.
        if !again.look().await {
            return Err(SqlError::Conflict(format!("{key} is started again and again")));
        }
    }
}

/// How many runs were made ready whose time has come.
pub(crate) async fn ripen(db: &Db, at: Timestamp) -> SqlResult<usize> {
    let args = args! { at: INT8 = at.as_micros(), limit: INT8 = int(limits::RIPEN_MAX_RUNS) };
    fault::point("postgres:ripen-before");
    let ripe = db.write(Fate::Repeat, &db.sql.ripen, args).await?;
    fault::point("postgres:ripen-after");
    Ok(ripe.len())
}

/// A signal, with the task's number and the node that holds it.
pub(crate) async fn signal(
    db: &Db,
    key: &Key,
    name: &str,
    data: &Json,
    at: Timestamp,
) -> SqlResult<(Signalled, Option<(i64, Option<NodeId>)>)> {
    let (app, model, id) = (key.app(), key.model(), key.id());
    let mut again = Again::new(Fate::Repeat);
    loop {
        // Twice it would be two signals.
        fault::point("postgres:signal-before");
        let sent = db
            .write(
                Fate::Once,
                &db.sql.signal,
                args! {
                    app: TEXT = app, model: TEXT = model, id: TEXT = id, name: TEXT = text::stored(name),
                    data: TEXT = data.as_str(), at: INT8 = at.as_micros(), max: INT8 = int(limits::SIGNALS_MAX_PER_RUN),
                },
            )
            .await?;
        fault::point("postgres:signal-after");
        if let Some(row) = sent.first() {
            let recorded =
                Signalled::Recorded { run: rows::count(row, "run")?, number: rows::count(row, "number")? };
            return Ok((recorded, Some((rows::get(row, "task")?, rows::node(row)?))));
        }
        let Some(row) = active(db, key, None).await? else { return Ok((Signalled::Missing, None)) };
        if row.current.status.is_finished() {
            return Ok((Signalled::NotRunning(row.current.status), None));
        }
        // Full, unless a new run has begun since.
        if row.signals >= limits::SIGNALS_MAX_PER_RUN {
            return Ok((Signalled::Full, None));
        }
        if !again.look().await {
            return Err(SqlError::Conflict(format!("{key} is started again and again")));
        }
    }
}
