//! Transitions: many at once, each a compare and set of its own task's row, with the events that the row makes room for.
//!
//! Decides: nothing. One statement a kind carries them out; whether the compare matched decides whether events are written.
//! Where it did not, the row is read again, and `guard::refused` says why.

use std::collections::HashMap;

use soloist::{
    Epoch, Failure, Json, Key, Losses, NodeId, Seq, Timestamp, fault,
    store::{Applied, Change, Rerun, Transition, Writer, guard},
};
use tokio_postgres::{
    Row,
    types::{ToSql, Type},
};

use super::{int, small};
use crate::{
    db::{Again, Db, ask_while},
    error::SqlResult,
    log::{self, Chunk},
    rows,
    sql::{Statement, args},
    text,
};

/// A transition, with its events as they are stored.
#[derive(Debug)]
pub(crate) struct Prepared {
    pub(crate) transition: Transition,
    chunks: Vec<Chunk>,
    count: i64,
}

impl Prepared {
    pub(crate) fn new(transition: Transition) -> Self {
        let (chunks, count) = match &transition.writer {
            Writer::Holder { events, .. } => {
                let all = events.iter().map(|event| (&event.event_type, &event.data, event.timestamp));
                (log::chunks(all), events.len())
            }
            Writer::Outsider { event, .. } => {
                let all = event.iter().map(|event| (&event.event_type, &event.data, event.timestamp));
                (log::chunks(all), usize::from(event.is_some()))
            }
        };
        Self { transition, chunks, count: int(count) }
    }

    /// What it is about to write.
    pub(crate) fn bytes(&self) -> usize {
        self.chunks.iter().map(|chunk| chunk.events.len()).sum()
    }

    pub(crate) fn kind(&self) -> Kind {
        match (&self.transition.change, &self.transition.writer) {
            (Change::Append, Writer::Holder { .. }) => Kind::Append,
            (Change::Append, Writer::Outsider { .. }) => Kind::AppendByOther,
            (Change::Cancelling { .. }, _) => Kind::Cancel,
            (Change::Requeued { .. }, _) => Kind::Requeue,
            (Change::Completed { .. } | Change::Failed { .. } | Change::Cancelled { .. }, _) => Kind::Finish,
        }
    }
}

/// Which statement carries a transition out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Events of a holder, which alone may be lost with the last moments before a power cut, where that is allowed.
    Append,
    /// Events of somebody else.
    AppendByOther,
    Cancel,
    Requeue,
    Finish,
}

impl Kind {
    pub(crate) const ALL: [Self; 5] =
        [Self::Append, Self::AppendByOther, Self::Cancel, Self::Requeue, Self::Finish];

    /// The fault points around its statement.
    fn places(self) -> [&'static str; 2] {
        match self {
            Self::Append | Self::AppendByOther => ["postgres:append-before", "postgres:append-after"],
            Self::Cancel => ["postgres:cancel-before", "postgres:cancel-after"],
            Self::Requeue => ["postgres:requeue-before", "postgres:requeue-after"],
            Self::Finish => ["postgres:finish-before", "postgres:finish-after"],
        }
    }

    fn statement(self, db: &Db) -> &Statement {
        match self {
            Self::Append | Self::AppendByOther => &db.sql.append,
            Self::Cancel => &db.sql.cancel,
            Self::Requeue => &db.sql.requeue,
            Self::Finish => &db.sql.finish,
        }
    }
}

/// What became of one transition.
pub(crate) struct Done {
    pub(crate) applied: Applied,
    /// The number of its task, where it was committed.
    pub(crate) number: Option<i64>,
    /// The node that was asked to stop, if one was.
    pub(crate) node: Option<NodeId>,
    /// It has ended a run of which others may wait for the end, as those of its model are bounded over all nodes.
    pub(crate) is_bounded: bool,
}

/// One kind of statement of all that a group holds of it.
type Column = (&'static str, Box<dyn ToSql + Sync + Send>, Type);

/// Carries out transitions of one kind, of a task each, in one statement. The answers are in their order. Where it meets
/// others it goes round as long as `again` allows.
pub(crate) async fn apply(
    db: &Db,
    again: Again,
    kind: Kind,
    group: &[&Prepared],
    relaxed: bool,
) -> SqlResult<Vec<Done>> {
    let mut columns = compared(group);
    columns.extend(appended(group));
    columns.extend(set(kind, group));
    if matches!(kind, Kind::Append | Kind::AppendByOther) {
        columns.push(("relaxed", Box::new(relaxed && kind == Kind::Append), Type::BOOL));
    }
    let args: Vec<(&'static str, &(dyn ToSql + Sync), Type)> = columns
        .iter()
        .map(|(name, values, of_type)| (*name, &**values as &(dyn ToSql + Sync), of_type.clone()))
        .collect();
    let [before, after] = kind.places();
    fault::point(before);
    let set = ask_while(&db.groups, again, kind.statement(db), &args).await?;
    fault::point(after);
    let mut done: Vec<Option<Done>> = group.iter().map(|_| None).collect();
    for row in &set {
        let place = usize::try_from(rows::count(row, "asked")?).unwrap_or(usize::MAX).wrapping_sub(1);
        let node = if kind == Kind::Cancel { rows::node(row)? } else { None };
        if let Some(done) = done.get_mut(place) {
            let applied = Applied::Committed { last_seq: rows::count(row, "last_seq")? };
            let is_bounded = kind == Kind::Finish && rows::get(row, "is_bounded")?;
            *done = Some(Done { applied, number: Some(rows::get(row, "number")?), node, is_bounded });
        }
    }
    let refused: Vec<usize> = (0..group.len()).filter(|n| done[*n].is_none()).collect();
    let transitions: Vec<&Transition> = refused.iter().map(|n| &group[*n].transition).collect();
    for (n, applied) in refused.into_iter().zip(refusals(db, &transitions).await?) {
        done[n] = Some(Done { applied, number: None, node: None, is_bounded: false });
    }
    Ok(done.into_iter().flatten().collect())
}

/// What every transition is compared by.
fn compared(group: &[&Prepared]) -> Vec<Column> {
    let part =
        |of: fn(&Key) -> &str| group.iter().map(|p| of(&p.transition.key).to_owned()).collect::<Vec<_>>();
    let holder = |p: &&Prepared| match &p.transition.writer {
        Writer::Holder { node, after, .. } => (Some(node.as_str().to_owned()), Some(int(*after))),
        Writer::Outsider { .. } => (None, None),
    };
    let run = |p: &&Prepared| match &p.transition.writer {
        Writer::Holder { .. } => None,
        Writer::Outsider { run, .. } => Some(int(*run)),
    };
    let (nodes, afters): (Vec<_>, Vec<_>) = group.iter().map(holder).unzip();
    let numbers = |of: fn(&Prepared) -> i64| group.iter().map(|p| of(p)).collect::<Vec<_>>();
    vec![
        ("apps", Box::new(part(Key::app)), Type::TEXT_ARRAY),
        ("models", Box::new(part(Key::model)), Type::TEXT_ARRAY),
        ("ids", Box::new(part(Key::id)), Type::TEXT_ARRAY),
        ("epochs", Box::new(numbers(|p| int(p.transition.writer.epoch().0))), Type::INT8_ARRAY),
        ("nodes", Box::new(nodes), Type::TEXT_ARRAY),
        ("afters", Box::new(afters), Type::INT8_ARRAY),
        ("runs", Box::new(group.iter().map(run).collect::<Vec<_>>()), Type::INT8_ARRAY),
        ("counts", Box::new(numbers(|p| p.count)), Type::INT8_ARRAY),
        ("epochs_after", Box::new(numbers(|p| int(p.transition.epoch_after.0))), Type::INT8_ARRAY),
    ]
}

/// The events of all of them, in rows of the log, each with the place of its transition.
fn appended(group: &[&Prepared]) -> Vec<Column> {
    let rows: Vec<(i64, i64, &Chunk)> = (1_i64..)
        .zip(group)
        .flat_map(|(place, p)| {
            // A holder's events stay under its epoch, also where it gives the run back; those of others are of the next.
            let epoch = match &p.transition.writer {
                Writer::Holder { epoch, .. } => epoch,
                Writer::Outsider { .. } => &p.transition.epoch_after,
            };
            let epoch = int(epoch.0);
            p.chunks.iter().map(move |chunk| (place, epoch, chunk))
        })
        .collect();
    let numbers = |of: fn(&(i64, i64, &Chunk)) -> i64| rows.iter().map(of).collect::<Vec<_>>();
    let bytes: Vec<i32> = rows.iter().map(|(_, _, chunk)| chunk.bytes).collect();
    let events: Vec<String> = rows.iter().map(|(_, _, chunk)| chunk.events.clone()).collect();
    vec![
        ("batch_places", Box::new(numbers(|(place, ..)| *place)), Type::INT8_ARRAY),
        ("batch_firsts", Box::new(numbers(|(_, _, chunk)| chunk.first)), Type::INT8_ARRAY),
        ("batch_lasts", Box::new(numbers(|(_, _, chunk)| chunk.last)), Type::INT8_ARRAY),
        ("batch_epochs", Box::new(numbers(|(_, epoch, _)| *epoch)), Type::INT8_ARRAY),
        ("batch_bytes", Box::new(bytes), Type::INT4_ARRAY),
        ("batch_events", Box::new(events), Type::TEXT_ARRAY),
    ]
}

/// What those of one kind set beside the log.
fn set(kind: Kind, group: &[&Prepared]) -> Vec<Column> {
    if matches!(kind, Kind::Append | Kind::AppendByOther) {
        return Vec::new();
    }
    let changes = || group.iter().map(|p| &p.transition.change);
    let froms: Vec<&'static str> = group.iter().map(|p| p.transition.from.as_str()).collect();
    let ats: Vec<i64> = group.iter().map(|p| p.transition.at.as_micros()).collect();
    let words = |of: &dyn Fn(&Change) -> Option<&str>| -> Vec<Option<String>> {
        changes().map(|change| of(change).map(|text| text::stored(text).into_owned())).collect()
    };
    let reasons = words(&|change| match change {
        Change::Cancelling { reason, .. } | Change::Cancelled { reason, .. } => Some(reason),
        _ => None,
    });
    let forget = |change: &Change| match change {
        Change::Cancelling { rerun, .. } | Change::Cancelled { rerun, .. } => *rerun == Rerun::Forget,
        _ => false,
    };
    let forgets: Vec<bool> = changes().map(forget).collect();
    let failed = |of: fn(&Failure) -> Option<&str>| {
        words(&move |change| match change {
            Change::Failed { failure } => of(failure),
            _ => None,
        })
    };
    let mut columns: Vec<Column> =
        vec![("froms", Box::new(froms), Type::TEXT_ARRAY), ("ats", Box::new(ats), Type::INT8_ARRAY)];
    match kind {
        Kind::Append | Kind::AppendByOther => {}
        Kind::Cancel => {
            columns.push(("reasons", Box::new(reasons), Type::TEXT_ARRAY));
            columns.push(("forgets", Box::new(forgets), Type::BOOL_ARRAY));
        }
        Kind::Requeue => {
            let numbers = |of: fn(u32, u32, Losses) -> u32| {
                let number = |change: &Change| match change {
                    Change::Requeued { attempt, retry_count, losses, .. } => {
                        small(of(*attempt, *retry_count, *losses))
                    }
                    _ => 0,
                };
                Box::new(changes().map(number).collect::<Vec<i32>>())
            };
            let due_at = |change: &Change| match change {
                Change::Requeued { due_at, .. } => due_at.map(Timestamp::as_micros),
                _ => None,
            };
            columns.push(("attempts", numbers(|attempt, _, _| attempt), Type::INT4_ARRAY));
            columns.push(("retry_counts", numbers(|_, retry_count, _| retry_count), Type::INT4_ARRAY));
            columns.push(("node_losses", numbers(|_, _, losses| losses.node), Type::INT4_ARRAY));
            columns.push(("store_losses", numbers(|_, _, losses| losses.store), Type::INT4_ARRAY));
            columns.push(("due_ats", Box::new(changes().map(due_at).collect::<Vec<_>>()), Type::INT8_ARRAY));
        }
        Kind::Finish => {
            let tos: Vec<Option<&'static str>> = changes().map(|c| c.to().map(|to| to.as_str())).collect();
            let final_values: Vec<Option<String>> = changes()
                .map(|change| match change {
                    Change::Completed { final_value } => Some(Json::as_str(final_value).to_owned()),
                    _ => None,
                })
                .collect();
            columns.push(("tos", Box::new(tos), Type::TEXT_ARRAY));
            columns.push(("final_values", Box::new(final_values), Type::TEXT_ARRAY));
            columns.push(("error_types", Box::new(failed(|f| Some(&f.error_type))), Type::TEXT_ARRAY));
            columns.push(("error_messages", Box::new(failed(|f| Some(&f.message))), Type::TEXT_ARRAY));
            columns.push((
                "error_tracebacks",
                Box::new(failed(|f| f.traceback.as_deref())),
                Type::TEXT_ARRAY,
            ));
            columns.push(("reasons", Box::new(reasons), Type::TEXT_ARRAY));
            columns.push(("forgets", Box::new(forgets), Type::BOOL_ARRAY));
        }
    }
    columns
}

/// Why some transitions were not committed.
async fn refusals(db: &Db, refused: &[&Transition]) -> SqlResult<Vec<Applied>> {
    if refused.is_empty() {
        return Ok(Vec::new());
    }
    let keys: Vec<&Key> = refused.iter().map(|t| &t.key).collect();
    let found = super::rows(db, &keys).await?;
    let last = |t: &Transition| match &t.writer {
        Writer::Holder { events, .. } => events.last().map(|event| event.seq),
        Writer::Outsider { .. } => None,
    };
    let asked: Vec<(i64, i64)> =
        refused.iter().zip(&found).filter_map(|(t, row)| Some((row.as_ref()?.0, int(last(t)?)))).collect();
    let epochs = epochs(db, &asked).await?;
    let answers = refused.iter().zip(found).map(|(t, row)| {
        let number = row.as_ref().map(|(number, _)| *number);
        let epoch_at = |seq: Seq| epochs.get(&(number?, int(seq))).copied();
        guard::refused(row.map(|(_, current)| current), t, epoch_at)
    });
    Ok(answers.collect())
}

/// The epochs under which some events were written.
async fn epochs(db: &Db, asked: &[(i64, i64)]) -> SqlResult<HashMap<(i64, i64), Epoch>> {
    if asked.is_empty() {
        return Ok(HashMap::new());
    }
    let (tasks, seqs): (Vec<i64>, Vec<i64>) = asked.iter().copied().unzip();
    let found = db.read(&db.sql.epoch, args! { tasks: INT8_ARRAY = tasks, seqs: INT8_ARRAY = seqs }).await?;
    let epoch = |row: &Row| {
        Ok(((rows::get(row, "task")?, rows::get(row, "seq")?), Epoch(rows::count(row, "epoch")?)))
    };
    found.iter().map(epoch).collect()
}
