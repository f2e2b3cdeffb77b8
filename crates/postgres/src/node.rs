//! Nodes: how a process joins, stays alive, and is found dead.
//!
//! Decides: what is written of a node, and by whom. Every lease is judged by the database's clock, read in the statement
//! that compares it. A node's lease is renewed on a connection of its own, past a pooler where there is a way past it, from
//! a thread of its own, so that neither a busy runtime nor a busy pool can hold it up; each renewal is one write, and has a deadline well within the lease, so that a
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
    fault, limits,
    store::{Evidence, Heartbeat, NewNode, Renewal, StoreError, StoreResult},
};
use tokio::{
    sync::mpsc::{UnboundedSender, unbounded_channel},
    task::JoinSet,
    time::timeout,
};
use tokio_postgres::Client;

use crate::{
    db::{Db, Fate, ask},
    error::{SqlError, SqlResult},
    hints::Hints,
    pool,
    queries::{self, int, small},
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

/// Puts a node on record, alive. False where living nodes have another durability.
pub(crate) async fn join(db: &Db, node: &NewNode, is_relaxed: bool, now: &Now) -> SqlResult<bool> {
    // Nobody is held up by slots, also where it does not come to the join.
    queries::make(db, node.models.iter().map(|served| (&served.model, served.max_total))).await?;
    let apps: Vec<&str> = node.models.iter().map(|served| served.model.app()).collect();
    let models: Vec<&str> = node.models.iter().map(|served| served.model.model()).collect();
    let terms = || node.models.iter().map(|served| served.terms);
    let max_retries: Vec<i32> = terms().map(|terms| small(terms.max_retries)).collect();
    let timeouts: Vec<Option<i32>> = terms().map(|terms| terms.timeout_seconds.map(small)).collect();
    let deadlines: Vec<Option<i32>> = terms().map(|terms| terms.deadline_seconds.map(small)).collect();
    let args = args! {
        node: TEXT = node.id.as_str(), at: INT8 = node.at.as_micros(), lease: INT8 = int(node.lease.as_micros()),
        now: INT8 = now.micros(), apps: TEXT_ARRAY = apps, models: TEXT_ARRAY = models, max_retries: INT4_ARRAY = max_retries,
        timeouts: INT4_ARRAY = timeouts, deadlines: INT4_ARRAY = deadlines, relaxed: BOOL = is_relaxed,
    };
    fault::point("postgres:join-before");
    db.write(Fate::Repeat, &db.sql.join, args).await?;
    fault::point("postgres:join-row");
    // Of two that join at once each has joined before it looks, so that one of them at least sees the other.
    let (id, now) = (node.id.as_str(), now.micros());
    let others = args! { node: TEXT = id, now: INT8 = now, relaxed: BOOL = is_relaxed };
    let is_alone = db.read(&db.sql.others, others).await?.is_empty();
    fault::point("postgres:join-looked");
    if !is_alone {
        db.write(Fate::Repeat, &db.sql.leave, args! { node: TEXT = id }).await?;
    }
    Ok(is_alone)
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
    fault::point("postgres:bury-before");
    let buried = ask(&db.sweeps, Fate::Once, &db.sql.bury, args! { now: INT8 = now.micros() }).await?;
    fault::point("postgres:bury-after");
    buried.iter().map(|row| Ok(NodeId::from_store(rows::get::<&str>(row, "id")?))).collect()
}

/// What keeps a node alive: the way to the thread that has its connection.
pub(crate) struct Beat {
    asks: UnboundedSender<(Ask, mpsc::Sender<StoreResult<Renewal>>)>,
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
    /// Under way, also between two renewals: one takes longer than a renewal may where the network is slow, and one that
    /// was begun while it swallowed everything may never come about, so the next renewal begins another beside it.
    connecting: JoinSet<SqlResult<Client>>,
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
        let (asks, mut asked) = unbounded_channel::<(Ask, mpsc::Sender<StoreResult<Renewal>>)>();
        let (id, lease) = (node.id.clone(), node.lease);
        let mut line =
            Line { target, db, now, node: id.clone(), lease, client: None, connecting: JoinSet::new() };
        let serve = async move {
            // Ahead of the first renewal, which has little time.
            line.connect();
            // Ends with the heartbeat.
            while let Some((ask, answer)) = asked.recv().await {
                let _ = answer.send(line.serve(ask).await.map_err(Into::into));
            }
        };
        thread::Builder::new()
            .name("soloist-pg-beat".to_owned())
            .spawn(move || runtime.block_on(serve))
            .map_err(no_thread)?;
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
        if let Ok(written) = timeout(deadline, self.write(ask)).await {
            return written;
        }
        // A connection that missed the deadline is not used again; the next one is under way when it is needed.
        if self.client.is_some() {
            self.give_up();
            self.connect();
        }
        Err(SqlError::Away("the database has not answered within a part of the lease".to_owned()))
    }

    async fn write(&mut self, ask: Ask) -> SqlResult<Renewal> {
        loop {
            let taken = self.client.take().filter(|client| !client.is_closed());
            let was_there = taken.is_some();
            let client = match taken {
                Some(client) => client,
                None => self.connected().await?,
            };
            let (db, client) = (&self.db, self.client.insert(client));
            let (node, now) = (self.node.as_str(), self.now.micros());
            let [before, after] = match ask {
                Ask::Renew => ["postgres:heartbeat-before", "postgres:heartbeat-after"],
                Ask::Leave => ["postgres:leave-before", "postgres:leave-after"],
            };
            fault::point(before);
            let asked = match ask {
                Ask::Renew => one(client, &db.sql.renew, args! { node: TEXT = node, now: INT8 = now }).await,
                Ask::Leave => one(client, &db.sql.leave, args! { node: TEXT = node }).await,
            };
            fault::point(after);
            match asked {
                Ok(is_found) => {
                    let is_dead = matches!(ask, Ask::Renew) && !is_found;
                    return Ok(if is_dead { Renewal::Dead } else { Renewal::Renewed });
                }
                // It gave way to another write (a burial, say): nothing was done, and the answer decides.
                Err(SqlError::Conflict(_)) => {}
                Err(error) => {
                    self.give_up();
                    match error {
                        // Done twice it does the same.
                        SqlError::Broken(_) if was_there => {}
                        SqlError::Broken(why) => return Err(SqlError::Away(why)),
                        error => return Err(error),
                    }
                }
            }
        }
    }

    /// Begins to connect, beside what is under way.
    fn connect(&mut self) {
        if self.connecting.len() < limits::POSTGRES_BEAT_CONNECTS {
            let target = self.target.clone();
            self.connecting.spawn(async move { target.connect(None).await.map(|(client, _)| client) });
        }
    }

    /// The first connection that comes about. What is given up while it waits here stays under way.
    async fn connected(&mut self) -> SqlResult<Client> {
        self.connect();
        let mut why = SqlError::Away("the connection for heartbeats was given up".to_owned());
        while let Some(connected) = self.connecting.join_next().await {
            match connected {
                Ok(Ok(client)) if !client.is_closed() => {
                    self.connecting = JoinSet::new();
                    fault::point("postgres:heartbeat-connected");
                    return Ok(client);
                }
                Ok(Err(error)) => why = error,
                _ => {}
            }
        }
        Err(why)
    }

    /// Closes the connection, and has the database give up what it still does for it.
    fn give_up(&mut self) {
        let Some(client) = self.client.take().filter(|client| !client.is_closed()) else { return };
        let (target, token) = (self.target.clone(), client.cancel_token());
        tokio::spawn(async move { timeout(limits::POSTGRES_GIVE_UP_MAX, target.cancel(&token)).await });
    }
}

/// Asks, and tells whether there was a row.
async fn one(client: &Client, statement: &Statement, args: Args<'_>) -> SqlResult<bool> {
    Ok(!pool::ask(client, statement, args, limits::POSTGRES_REQUEST_MAX).await?.is_empty())
}
