//! Who waits for a session's heartbeats and watches its clock.
//!
//! Decides: that two OS threads do, so that neither a busy runtime nor a store that hangs can hold either up: one renews
//! the lease, the other watches the clock. In a simulation two tasks do the same (see [`crate::simulation`]). What an answer
//! or a look means is decided in `node`, for both.

use std::{io, ops::ControlFlow, sync::Arc};

use tokio::sync::{mpsc as task_mpsc, oneshot};

use super::node::{Beats, Session, Watch};
use crate::{
    Error, Result, fault,
    lease::OnLeaseLost,
    limits,
    simulation::SlowHeartbeat,
    store::{Heartbeat, Renewal, StoreError, StoreResult},
    sync::{mpsc, thread},
};

/// What keeps a node alive, by who waits for its answers.
pub(super) enum Pulse {
    Thread(Box<dyn Heartbeat>),
    Task(Box<dyn SlowHeartbeat>),
}

/// The way to who has the heartbeat. Hung up, the heartbeat stops.
#[derive(Clone)]
pub(super) enum Leave {
    Thread(mpsc::Sender<mpsc::Sender<()>>),
    Task(task_mpsc::UnboundedSender<oneshot::Sender<()>>),
}

impl Leave {
    /// The way to nobody.
    pub(super) fn nobody() -> Self {
        Self::Thread(mpsc::channel().0)
    }

    /// Asks to leave the store. Returns when that is done, or cannot be.
    pub(super) async fn leave(self) {
        match self {
            Self::Thread(heartbeat) => {
                let asking = move || {
                    let (said, answer) = mpsc::channel();
                    if heartbeat.send(said).is_ok() {
                        let _ = answer.recv_timeout(limits::GIVE_UP_WAIT);
                    }
                };
                let _ = tokio::task::spawn_blocking(asking).await;
            }
            Self::Task(heartbeat) => {
                let (said, answer) = oneshot::channel();
                if heartbeat.send(said).is_ok() {
                    let _ = tokio::time::timeout(limits::GIVE_UP_WAIT, answer).await;
                }
            }
        }
    }
}

impl Pulse {
    pub(super) fn of(mut heartbeat: Box<dyn Heartbeat>) -> Self {
        match heartbeat.simulated() {
            Some(simulated) => Self::Task(simulated),
            None => Self::Thread(heartbeat),
        }
    }

    /// One renewal before anybody keeps it.
    pub(super) async fn renew(self) -> Result<(StoreResult<Renewal>, Self)> {
        match self {
            Self::Thread(mut heartbeat) => {
                let renewing = tokio::task::spawn_blocking(move || (heartbeat.renew(), heartbeat));
                let (renewal, heartbeat) = renewing.await.map_err(|_| Error::Closed)?;
                Ok((renewal, Self::Thread(heartbeat)))
            }
            Self::Task(mut heartbeat) => Ok((heartbeat.renew().await, Self::Task(heartbeat))),
        }
    }

    /// Keeps a session alive and watches over it, until it is told to leave, hung up on, or dead.
    pub(super) fn keep(self, session: Arc<Session>, on_lease_lost: OnLeaseLost) -> io::Result<Leave> {
        let (beating, watched, watch) = (session.clone(), session, Watch::new(on_lease_lost));
        match self {
            Self::Thread(heartbeat) => {
                let (leave, asked) = mpsc::channel();
                let thread = |name: &str| thread::Builder::new().name(name.to_owned());
                thread("soloist-beat").spawn(move || beat(&beating, heartbeat, &asked))?;
                thread("soloist-lease").spawn(move || look(&watched, watch))?;
                Ok(Leave::Thread(leave))
            }
            Self::Task(heartbeat) => {
                let (leave, asked) = task_mpsc::unbounded_channel();
                tokio::spawn(beat_in_task(beating, heartbeat, asked));
                tokio::spawn(look_in_task(watched, watch));
                Ok(Leave::Task(leave))
            }
        }
    }
}

fn beat(session: &Session, mut heartbeat: Box<dyn Heartbeat>, asked: &mpsc::Receiver<mpsc::Sender<()>>) {
    let (mut beats, mut wait) = (Beats::default(), Beats::first(session));
    loop {
        match asked.recv_timeout(wait) {
            Ok(said) => {
                fault::point("core:leave-before");
                left(session, heartbeat.leave());
                fault::point("core:leave-after");
                let _ = said.send(());
                return;
            }
            Err(mpsc::RecvTimeoutError::Disconnected) => return,
            Err(mpsc::RecvTimeoutError::Timeout) => {}
        }
        beats.send(session);
        fault::point("core:heartbeat-before");
        let renewal = heartbeat.renew();
        fault::point("core:heartbeat-after");
        match beats.answered(session, renewal) {
            ControlFlow::Continue(next) => wait = next,
            ControlFlow::Break(()) => return,
        }
    }
}

async fn beat_in_task(
    session: Arc<Session>,
    mut heartbeat: Box<dyn SlowHeartbeat>,
    mut asked: task_mpsc::UnboundedReceiver<oneshot::Sender<()>>,
) {
    let (mut beats, mut wait) = (Beats::default(), Beats::first(&session));
    loop {
        match tokio::time::timeout(wait, asked.recv()).await {
            Ok(Some(said)) => {
                left(&session, heartbeat.leave().await);
                let _ = said.send(());
                return;
            }
            Ok(None) => return,
            Err(_) => {}
        }
        beats.send(&session);
        match beats.answered(&session, heartbeat.renew().await) {
            ControlFlow::Continue(next) => wait = next,
            ControlFlow::Break(()) => return,
        }
    }
}

fn left(session: &Session, answer: Result<(), StoreError>) {
    if let Err(error) = answer {
        tracing::warn!(node = %session.node, %error, "could not leave the store; the lease will run out");
    }
}

fn look(session: &Arc<Session>, mut watch: Watch) {
    while let ControlFlow::Continue(wait) = watch.look(session) {
        thread::sleep(wait);
    }
}

async fn look_in_task(session: Arc<Session>, mut watch: Watch) {
    while let ControlFlow::Continue(wait) = watch.look(&session) {
        tokio::time::sleep(wait).await;
    }
}
