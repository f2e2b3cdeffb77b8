//! Requests of one kind that share a statement, without a timer.
//!
//! Decides: which requests go together. While a statement is under way the next requests gather; as soon as its answer is
//! there, all that wait go in the next one. A request that comes alone goes at once and alone. No request joins a statement
//! that has been sent, so each sees what was committed before it was asked; and no statement has two requests that change
//! one task.
//!
//! One that fails makes no other fail: where a statement fails as a whole because of some of them, it is split in halves, and
//! so on. Who still meets others when alone is told so, and goes on by itself.
//!
//! Never decides what is asked, nor what is asked again.

use std::{
    collections::{HashSet, VecDeque},
    future::Future,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use soloist::{Key, limits};
use tokio::{runtime::Handle, sync::oneshot, time::Instant};

use crate::{
    db::Db,
    error::{SqlError, SqlResult},
};

/// What can be asked together with others of its kind.
pub(crate) trait Request: Sized + Send + Sync + 'static {
    /// What one of them is told.
    type Answer: Send + 'static;

    /// Where those of its kind wait.
    fn gather(db: &Db) -> &Gather<Self>;

    /// The task that it may change, where it names one.
    fn task(&self) -> Option<&Key>;

    /// Asks for all of them; the answers are in their order.
    fn carry_out(db: &Db, group: &[&Self]) -> impl Future<Output = SqlResult<Vec<Self::Answer>>> + Send;
}

/// Requests that wait for a statement, and how many statements there are at a time.
pub(crate) struct Gather<R: Request> {
    lanes: usize,
    inner: Mutex<Inner<R>>,
    runtime: Handle,
}

struct Inner<R: Request> {
    waiting: VecDeque<Waiting<R>>,
    /// Statements that are under way.
    busy: usize,
}

struct Waiting<R: Request> {
    request: R,
    since: Instant,
    reply: oneshot::Sender<SqlResult<R::Answer>>,
}

impl<R: Request> Gather<R> {
    /// Statements are sent on the runtime on which it is made, so many at a time.
    pub(crate) fn new(lanes: usize) -> Self {
        let inner = Mutex::new(Inner { waiting: VecDeque::new(), busy: 0 });
        Self { lanes, inner, runtime: Handle::current() }
    }

    /// What is guarded here is whole between any two steps.
    fn lock(&self) -> MutexGuard<'_, Inner<R>> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Those that go next; none where nobody waits, and then a statement less is under way. Whoever has gone is left out;
    /// whoever has waited too long is told so.
    fn next(&self) -> Option<Vec<Waiting<R>>> {
        let mut inner = self.lock();
        let (mut group, mut left, mut tasks) = (Vec::new(), VecDeque::new(), HashSet::new());
        for waiting in inner.waiting.drain(..) {
            if waiting.reply.is_closed() {
                continue;
            }
            if waiting.since.elapsed() >= limits::POSTGRES_WAIT_MAX {
                let late = "the database answers too slowly; ask again".to_owned();
                let _ = waiting.reply.send(Err(SqlError::Away(late)));
                continue;
            }
            let fits = group.len() < limits::POSTGRES_GATHER_MAX_REQUESTS;
            if fits && waiting.request.task().is_none_or(|task| tasks.insert(task.clone())) {
                group.push(waiting);
            } else {
                left.push_back(waiting);
            }
        }
        inner.waiting = left;
        if group.is_empty() {
            inner.busy -= 1;
            return None;
        }
        Some(group)
    }
}

/// Asks in the next statement that is sent.
pub(crate) async fn ask<R: Request>(db: &Arc<Db>, request: R) -> SqlResult<R::Answer> {
    let gather = R::gather(db);
    let (reply, answer) = oneshot::channel();
    let is_lane_free = {
        let mut inner = gather.lock();
        if inner.waiting.len() >= limits::POSTGRES_WAITING_MAX {
            return Err(SqlError::Away("too many requests wait for the database; ask again".to_owned()));
        }
        inner.waiting.push_back(Waiting { request, since: Instant::now(), reply });
        let is_lane_free = inner.busy < gather.lanes;
        inner.busy += usize::from(is_lane_free);
        is_lane_free
    };
    if is_lane_free {
        gather.runtime.spawn(serve::<R>(db.clone()));
    }
    let broken = || SqlError::Broken("what has sent it to the database broke off".to_owned());
    answer.await.unwrap_or_else(|_| Err(broken()))
}

/// Sends statement after statement until nobody waits.
async fn serve<R: Request>(db: Arc<Db>) {
    let mut lane = Lane { gather: R::gather(&db), through: false };
    while let Some(group) = lane.gather.next() {
        carry_out(&db, group).await;
    }
    lane.through = true;
}

/// A statement that may be under way.
struct Lane<'a, R: Request> {
    gather: &'a Gather<R>,
    through: bool,
}

impl<R: Request> Drop for Lane<'_, R> {
    /// One that broke off holds up nobody.
    fn drop(&mut self) {
        if !self.through {
            self.gather.lock().busy -= 1;
        }
    }
}

async fn carry_out<R: Request>(db: &Db, group: Vec<Waiting<R>>) {
    let mut parts = VecDeque::from([group]);
    while let Some(mut part) = parts.pop_front() {
        let all: Vec<&R> = part.iter().map(|waiting| &waiting.request).collect();
        match R::carry_out(db, &all).await {
            Ok(answers) => {
                for (waiting, answer) in part.into_iter().zip(answers) {
                    let _ = waiting.reply.send(Ok(answer));
                }
            }
            Err(SqlError::Conflict(_) | SqlError::Corrupt(_) | SqlError::Double(_)) if part.len() > 1 => {
                let half = part.split_off(part.len() / 2);
                parts.extend([part, half]);
            }
            Err(error) => {
                for waiting in part {
                    let _ = waiting.reply.send(Err(error.clone()));
                }
            }
        }
    }
}
