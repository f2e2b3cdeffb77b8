//! Group commit without a timer.
//!
//! Decides: what is committed together. One task takes all transitions that wait, up to a bound, and carries them out, one
//! statement a kind; while the database is busy with them the next ones gather. A group holds at most one transition of
//! each task, so that a statement meets each row once, and those of one task keep their order.
//!
//! One that is refused fails no other. Where PostgreSQL refuses a whole statement (one of its values cannot be stored, one of
//! its rows is written by others all the time), it is split until only the transition that it is about fails or waits.

use std::{
    collections::{HashSet, VecDeque},
    sync::Arc,
};

use soloist::{
    Key, fault, limits,
    store::{Applied, StoreResult},
};
use tokio::sync::{mpsc, oneshot};

use crate::{
    db::{Again, Db, Fate},
    error::{SqlError, SqlResult, gone},
    hints::Hints,
    queries::{
        self,
        apply::{self, Done, Kind, Prepared},
    },
};

/// The task that carries out transitions. It ends when this is dropped, after all that it has taken.
pub(crate) struct Writer {
    queue: mpsc::Sender<Queued>,
}

struct Queued {
    prepared: Prepared,
    reply: oneshot::Sender<StoreResult<Applied>>,
}

impl Writer {
    pub(crate) fn spawn(db: Arc<Db>, hints: Arc<Hints>, relaxed: bool) -> Self {
        let (queue, waiting) = mpsc::channel(limits::POSTGRES_QUEUE_MAX_REQUESTS);
        tokio::spawn(serve(db, hints, relaxed, waiting));
        Self { queue }
    }

    /// Applies a transition in the next group; returns when that is on record.
    pub(crate) async fn apply(&self, prepared: Prepared) -> StoreResult<Applied> {
        let (reply, answer) = oneshot::channel();
        self.queue.send(Queued { prepared, reply }).await.map_err(|_| gone())?;
        answer.await.map_err(|_| gone())?
    }
}

async fn serve(db: Arc<Db>, hints: Arc<Hints>, relaxed: bool, mut queue: mpsc::Receiver<Queued>) {
    let mut waiting = VecDeque::new();
    loop {
        if waiting.is_empty() {
            let Some(first) = queue.recv().await else { return };
            waiting.push_back(first);
        }
        while waiting.len() < limits::POSTGRES_QUEUE_MAX_REQUESTS {
            let Ok(next) = queue.try_recv() else { break };
            waiting.push_back(next);
        }
        let (mut group, mut is_freed) = (next_group(&mut waiting), false);
        for kind in Kind::ALL {
            let (of_kind, rest) = group.into_iter().partition(|queued| queued.prepared.kind() == kind);
            group = rest;
            is_freed |= carry_out(&db, &hints, kind, of_kind, relaxed).await;
        }
        if is_freed {
            tokio::spawn(tell_waiting(db.clone(), hints.clone()));
        }
    }
}

/// Takes the first transition of each task, up to a bound; what is left keeps its order.
fn next_group(waiting: &mut VecDeque<Queued>) -> Vec<Queued> {
    let (mut group, mut left) = (Vec::new(), VecDeque::new());
    let (mut tasks, mut bytes) = (HashSet::<Key>::new(), 0);
    for queued in waiting.drain(..) {
        let is_full =
            group.len() >= limits::POSTGRES_GROUP_MAX_REQUESTS || bytes >= limits::POSTGRES_GROUP_MAX_BYTES;
        if is_full || !tasks.insert(queued.prepared.transition.key.clone()) {
            left.push_back(queued);
        } else {
            bytes += queued.prepared.bytes();
            group.push(queued);
        }
    }
    *waiting = left;
    group
}

/// Carries out those of one kind, and answers each as soon as it is decided. A statement that fails as a whole because of
/// some of them (they meet others at REPEATABLE READ or SERIALIZABLE, or hold what cannot be stored) is split in halves, the
/// halves again, and so on; those that still meet others are carried out last, each alone and with all patience. True where one
/// of them has made room for a run of a model of which only so many may run at a time.
async fn carry_out(db: &Db, hints: &Hints, kind: Kind, group: Vec<Queued>, relaxed: bool) -> bool {
    let mut is_freed = false;
    let (mut parts, mut hot) = (VecDeque::from([group]), VecDeque::new());
    while let Some(mut part) = parts.pop_front() {
        if part.is_empty() {
            continue;
        }
        match apply_to(db, Again::briefly(Fate::Repeat), kind, &part, relaxed).await {
            Err(SqlError::Conflict(_) | SqlError::Corrupt(_) | SqlError::Double(_)) if part.len() > 1 => {
                let half = part.split_off(part.len() / 2);
                parts.extend([part, half]);
            }
            Err(SqlError::Conflict(_)) => hot.push_back(part),
            answer => is_freed |= reply(hints, kind, part, answer),
        }
    }
    for part in hot {
        let answer = apply_to(db, Again::new(Fate::Repeat), kind, &part, relaxed).await;
        is_freed |= reply(hints, kind, part, answer);
    }
    is_freed
}

async fn apply_to(db: &Db, again: Again, kind: Kind, part: &[Queued], relaxed: bool) -> SqlResult<Vec<Done>> {
    let all: Vec<&Prepared> = part.iter().map(|queued| &queued.prepared).collect();
    // Sent again after a lost answer, what is there is found to be there.
    apply::apply(db, again, kind, &all, relaxed).await
}

fn reply(hints: &Hints, kind: Kind, part: Vec<Queued>, answer: SqlResult<Vec<Done>>) -> bool {
    let answers: Vec<SqlResult<Done>> = match answer {
        Ok(done) => done.into_iter().map(Ok).collect(),
        Err(error) => part.iter().map(|_| Err(error.clone())).collect(),
    };
    tell(hints, kind, &answers);
    fault::point("postgres:group-told");
    let is_freed = answers.iter().flatten().any(|done| done.is_bounded);
    for (queued, answer) in part.into_iter().zip(answers) {
        let _ = queued.reply.send(answer.map(|done| done.applied).map_err(Into::into));
    }
    is_freed
}

/// Wakes up everybody where a run may wait for the room that an ending has made. Looked for after that ending is on record:
/// whoever queues a run after this look tells of it himself.
async fn tell_waiting(db: Arc<Db>, hints: Arc<Hints>) {
    // Where it cannot be known, they look once for nothing.
    if queries::waiting(&db).await.is_ok_and(|waiting| !waiting.ready) {
        return;
    }
    hints.everybody();
}

/// Wakes up whoever looks at what was committed.
fn tell(hints: &Hints, kind: Kind, answers: &[SqlResult<Done>]) {
    let done = || answers.iter().flatten();
    hints.tasks(done().filter_map(|done| done.number));
    for node in done().filter_map(|done| done.node.as_ref()) {
        hints.node(node);
    }
    if kind == Kind::Requeue && done().any(|done| done.number.is_some()) {
        hints.everybody();
    }
}

#[cfg(test)]
mod tests {
    use soloist::{
        Epoch, NodeId, Status, Timestamp,
        store::{Change, Transition, Writer as By},
    };

    use super::*;

    fn queued(id: &str, after: u64) -> Queued {
        let (node, epoch) = (NodeId::from_store("n"), Epoch(1));
        let transition = Transition {
            key: Key::new("a", "B", id).unwrap(),
            writer: By::Holder { node, epoch, events: Vec::new(), after },
            from: Status::Running,
            change: Change::Append,
            epoch_after: epoch,
            at: Timestamp::from_micros(0),
        };
        Queued { prepared: Prepared::new(transition), reply: oneshot::channel().0 }
    }

    #[test]
    fn a_group_holds_each_task_once_and_tasks_keep_their_order() {
        let order = [("1", 0), ("2", 0), ("1", 1), ("3", 0), ("2", 1), ("1", 2)];
        let mut waiting: VecDeque<_> = order.iter().map(|(id, after)| queued(id, *after)).collect();
        let mut groups = Vec::new();
        while !waiting.is_empty() {
            let group = next_group(&mut waiting).into_iter().map(|q| match &q.prepared.transition.writer {
                By::Holder { after, .. } => (q.prepared.transition.key.id().to_owned(), *after),
                By::Outsider { .. } => panic!("all are holders"),
            });
            groups.push(group.collect::<Vec<_>>());
        }
        let expected = [vec![("1", 0), ("2", 0), ("3", 0)], vec![("1", 1), ("2", 1)], vec![("1", 2)]];
        let expected =
            expected.map(|group| group.into_iter().map(|(id, n)| (id.to_owned(), n)).collect::<Vec<_>>());
        assert_eq!(groups, expected);
    }
}
