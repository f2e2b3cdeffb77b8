//! Nodes: how a process joins, stays alive, and is found dead.
//!
//! Decides: what is written of a node, and by whom. Every lease is judged by the database's clock, read in the statement
//! that compares it. A node's lease is renewed on a connection of its own, from a thread of its own, so that neither a busy
//! runtime nor a busy pool can hold it up; each renewal is one write, and has a deadline well within the lease, so that a
//! network that swallows everything is noticed while there is time to try again.
//!
//! Never decides that somebody is dead by anything but the lease: that a connection is gone means nothing.

use std::{
    sync::{Arc, mpsc},
    thread,
    time::Duration,
};

use soloist::{
    NodeId,
    clock::SharedBootClock,
    limits,
    store::{Evidence, Heartbeat, NewNode, Renewal, StoreError, StoreResult},
};
use tokio_postgres::Client;

use crate::{
    db::{Db, Fate, ask},
    error::{SqlError, SqlResult},
    hints::Hints,
    pool,
    queries::int,
    rows,
    sql::{Args, Statement, args},
    target::Target,
};

/// The time by which leases are judged, where it is not the database's own: for tests.
#[derive(Clone)]
pub(crate) struct Now(pub(crate) Option<SharedBootClock>);

impl Now {
    /// None where the database reads its clock.
    fn micros(&self) -> Option<i64> {
        self.0.as_ref().map(|clock| int(clock.now().as_micros()))
    }
}

/// Puts a node on record, alive.
pub(crate) async fn join(db: &Db, node: &NewNode, now: &Now) -> SqlResult<()> {
    let apps: Vec<&str> = node.models.iter().map(|model| model.app()).collect();
    let models: Vec<&str> = node.models.iter().map(|model| model.model()).collect();
    let args = args! {
        node: TEXT = node.id.as_str(), at: INT8 = node.at.as_micros(), lease: INT8 = int(node.lease.as_micros()),
        now: INT8 = now.micros(), apps: TEXT_ARRAY = apps, models: TEXT_ARRAY = models,
    };
    db.write(Fate::Repeat, &db.sql.join, args).await.map(drop)
}

/// Marks those dead that are. Looks first, so that a sweep that finds nobody writes nothing. Nothing here is asked again: a
/// sweeper must learn of every outage, however short, as those who could not renew their leases in it are not dead.
pub(crate) async fn bury(db: &Db, evidence: Evidence, now: &Now) -> SqlResult<Vec<NodeId>> {
    let look = args! { now: INT8 = now.micros() };
    let looked = db.sweeps.ask_once(&db.sql.living, look, limits::POSTGRES_LOOK_MAX).await?;
    let Some(suspects) = looked.first() else { return Ok(Vec::new()) };
    // Across hosts nothing but the lease tells that a process is dead. The look is worth it all the same: it tells the
    // sweeper whether the store can be asked at all.
    if evidence == Evidence::Certain {
        return Ok(Vec::new());
    }
    if rows::get(suspects, "late")? {
        ask(&db.sweeps, Fate::Once, &db.sql.clamp, args! { now: INT8 = now.micros() }).await?;
    }
    if !rows::get::<bool>(suspects, "over")? {
        return Ok(Vec::new());
    }
    // Where its answer is lost nobody names those that it has buried; the next look for orphans finds what they held all the
    // same.
    let buried = ask(&db.sweeps, Fate::Once, &db.sql.bury, args! { now: INT8 = now.micros() }).await?;
    buried.iter().map(|row| Ok(NodeId::from_store(rows::get::<&str>(row, "id")?))).collect()
}

/// What keeps a node alive: the way to the thread that has its connection.
pub(crate) struct Beat {
    asks: mpsc::Sender<(Ask, mpsc::Sender<StoreResult<Renewal>>)>,
    /// When an answer is certainly late; the thread gives up before.
    patience: Duration,
    node: NodeId,
    hints: Arc<Hints>,
}

#[derive(Clone, Copy)]
enum Ask {
    Renew,
    Leave,
}

/// The connection of one node.
struct Line {
    target: Target,
    db: Arc<Db>,
    now: Now,
    node: NodeId,
    lease: Duration,
    client: Option<Client>,
}

impl Beat {
    pub(crate) fn spawn(
        target: Target,
        db: Arc<Db>,
        hints: Arc<Hints>,
        now: Now,
        node: &NewNode,
    ) -> StoreResult<Self> {
        let no_thread = |error: std::io::Error| {
            StoreError::Unavailable(format!("cannot start the thread of a heartbeat: {error}"))
        };
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(no_thread)?;
        let (asks, asked) = mpsc::channel::<(Ask, mpsc::Sender<StoreResult<Renewal>>)>();
        let (id, lease) = (node.id.clone(), node.lease);
        let mut line = Line { target, db, now, node: id.clone(), lease, client: None };
        let serve = move || {
            // Ahead of the first renewal, which has little time. Where it fails, that one tries again.
            line.client = runtime.block_on(line.target.connect(None)).ok().map(|(client, _)| client);
            // Ends with the heartbeat.
            while let Ok((ask, answer)) = asked.recv() {
                let _ = answer.send(runtime.block_on(line.serve(ask)).map_err(Into::into));
            }
        };
        thread::Builder::new().name("soloist-pg-beat".to_owned()).spawn(serve).map_err(no_thread)?;
        hints.joins(&id);
        let patience = limits::POSTGRES_LEAVE_MAX + lease;
        Ok(Self { asks, patience, node: id, hints })
    }

    fn ask(&self, ask: Ask) -> StoreResult<Renewal> {
        let gone = || StoreError::Unavailable("the thread of this heartbeat has ended".to_owned());
        let (reply, answer) = mpsc::channel();
        self.asks.send((ask, reply)).map_err(|_| gone())?;
        answer.recv_timeout(self.patience).map_err(|_| gone())?
    }
}

impl Heartbeat for Beat {
    fn renew(&mut self) -> StoreResult<Renewal> {
        self.ask(Ask::Renew)
    }

    fn leave(&mut self) -> StoreResult<()> {
        self.ask(Ask::Leave)?;
        self.hints.everybody();
        Ok(())
    }
}

impl Drop for Beat {
    fn drop(&mut self) {
        self.hints.is_gone(&self.node);
    }
}

impl Line {
    /// One write, within its deadline; on a fresh connection where the one that was there is broken.
    async fn serve(&mut self, ask: Ask) -> SqlResult<Renewal> {
        let deadline = match ask {
            Ask::Renew => self.lease * limits::POSTGRES_BEAT_PERCENT / 100,
            Ask::Leave => limits::POSTGRES_LEAVE_MAX,
        };
        // Taken while it is in use: a connection that missed the deadline is not used again.
        let taken = self.client.take();
        let (client, renewal) = match tokio::time::timeout(deadline, self.write(ask, taken)).await {
            Ok(written) => written?,
            Err(_) => {
                let why = "the database has not answered within a part of the lease";
                return Err(SqlError::Away(why.to_owned()));
            }
        };
        self.client = Some(client);
        Ok(renewal)
    }

    async fn write(&self, ask: Ask, mut client: Option<Client>) -> SqlResult<(Client, Renewal)> {
        let db = &self.db;
        loop {
            let was_there = client.is_some();
            let connected = match client.take() {
                Some(client) if !client.is_closed() => client,
                _ => self.target.connect(None).await?.0,
            };
            let (node, now) = (self.node.as_str(), self.now.micros());
            let asked = match ask {
                Ask::Renew => {
                    one(&connected, &db.sql.renew, args! { node: TEXT = node, now: INT8 = now }).await
                }
                Ask::Leave => one(&connected, &db.sql.leave, args! { node: TEXT = node }).await,
            };
            match asked {
                Ok(is_found) => {
                    let is_dead = matches!(ask, Ask::Renew) && !is_found;
                    return Ok((connected, if is_dead { Renewal::Dead } else { Renewal::Renewed }));
                }
                // It gave way to another write (a burial, say): nothing was done, and the answer decides.
                Err(SqlError::Conflict(_)) => client = Some(connected),
                // Done twice it does the same.
                Err(SqlError::Broken(_)) if was_there => {}
                Err(SqlError::Broken(why)) => return Err(SqlError::Away(why)),
                Err(error) => return Err(error),
            }
        }
    }
}

/// Asks, and tells whether there was a row.
async fn one(client: &Client, statement: &Statement, args: Args<'_>) -> SqlResult<bool> {
    Ok(!pool::ask(client, statement, args, limits::POSTGRES_REQUEST_MAX).await?.is_empty())
}
