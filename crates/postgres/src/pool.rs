//! Connections to the database: few, opened when they are needed, used for one request at a time.
//!
//! Decides: who waits for a connection and who is refused. A connection on which anything went wrong is closed and another
//! one takes its place. Where none can be opened, one request after another tries again, with a back-off; all others are
//! refused at once, so that a database that is away costs a caller no wait.
//!
//! A request whose answer is waited for no more, because it is late or its caller went away, is cancelled in the database,
//! in the background. Its connection counts until it has ended, or a bound is reached: so what is given up neither piles up
//! in the database nor is done long after its caller was told that it may not be.
//!
//! Requests are not pipelined: a pooler between here and the database gives one server to several clients, and may close
//! it under a client that has more than one request on its way.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use soloist::{fault, limits};
use tokio::{
    runtime::Handle,
    sync::{OwnedSemaphorePermit, Semaphore},
    task::JoinHandle,
    time::{Instant, sleep, timeout},
};
use tokio_postgres::{Client, Row};

use crate::{
    error::{SqlError, SqlResult},
    sql::{Args, Statement},
    target::Target,
};

/// Some connections to one database.
pub(crate) struct Pool {
    target: Target,
    permits: Arc<Semaphore>,
    waiting: AtomicUsize,
    idle: Mutex<Vec<Line>>,
    health: Mutex<Health>,
    /// Where given up connections are ended.
    runtime: Handle,
}

/// A connection, and what ends with it.
struct Line {
    client: Client,
    ended: JoinHandle<()>,
}

/// Whether connections can be opened.
#[derive(Default)]
struct Health {
    /// Why not, where not.
    away: Option<String>,
    /// Until then nobody tries.
    until: Option<Instant>,
    backoff: Duration,
    /// Somebody is trying.
    trying: bool,
}

impl Pool {
    /// At most so many connections; none is opened yet. It lives on the runtime on which it is made.
    pub(crate) fn new(target: Target, connections: usize) -> Self {
        Self {
            target,
            permits: Arc::new(Semaphore::new(connections)),
            waiting: AtomicUsize::new(0),
            idle: Mutex::default(),
            health: Mutex::default(),
            runtime: Handle::current(),
        }
    }

    /// A connection for one request.
    pub(crate) async fn take(&self) -> SqlResult<Taken<'_>> {
        let permit = self.permit().await?;
        let idle = {
            let mut idle = lock(&self.idle);
            idle.retain(|line| !line.client.is_closed());
            idle.pop()
        };
        let line = match idle {
            Some(line) => line,
            None => self.connect().await?,
        };
        Ok(Taken { pool: self, line: Some(line), permit: Some(permit), is_unanswered: false })
    }

    /// Asks once, or again where it only met another statement, and waits no longer than a deadline for all of it. That a
    /// connection has ended since it was last used is told as well: whoever asks so wants to know of every outage.
    pub(crate) async fn ask_once(
        &self,
        statement: &Statement,
        args: Args<'_>,
        deadline: Duration,
    ) -> SqlResult<Vec<Row>> {
        let is_broken = {
            let mut idle = lock(&self.idle);
            let known = idle.len();
            idle.retain(|line| !line.client.is_closed());
            idle.len() < known
        };
        if is_broken {
            return Err(SqlError::Broken("the connection to the database has ended".to_owned()));
        }
        let asked = async {
            loop {
                match self.take().await?.ask(statement, args).await {
                    Err(SqlError::Conflict(_)) => sleep(limits::POSTGRES_AGAIN_MIN).await,
                    answer => return answer,
                }
            }
        };
        timeout(deadline, asked).await.unwrap_or_else(|_| Err(late()))
    }

    /// Where one connection was given up, others that lie idle are not trusted either: in a network that swallows
    /// everything each would cost its user the longest wait, while a new one finds out for all.
    fn judge<T>(&self, asked: &SqlResult<T>) {
        if matches!(asked, Err(SqlError::Broken(_))) {
            lock(&self.idle).clear();
        }
    }

    async fn permit(&self) -> SqlResult<OwnedSemaphorePermit> {
        if let Ok(permit) = self.permits.clone().try_acquire_owned() {
            return Ok(permit);
        }
        let _waits = Waits::new(&self.waiting)
            .ok_or_else(|| SqlError::Away("too many requests wait for the database; ask again".to_owned()))?;
        match timeout(limits::POSTGRES_WAIT_MAX, self.permits.clone().acquire_owned()).await {
            Ok(permit) => permit.map_err(|_| SqlError::Away("this store is closed".to_owned())),
            Err(_) => Err(SqlError::Away("the database answers too slowly; ask again".to_owned())),
        }
    }

    async fn connect(&self) -> SqlResult<Line> {
        let trial = Trial::begin(&self.health)?;
        let connected = self.target.connect(None).await;
        trial.end(&connected);
        let (client, ended) = connected?;
        Ok(Line { client, ended })
    }

    /// Has the database give up what it was asked on a connection, and keeps the permit until that is so.
    fn abandon(&self, line: Line, permit: Option<OwnedSemaphorePermit>) {
        let target = self.target.clone();
        self.runtime.spawn(async move {
            let Line { client, mut ended } = line;
            let token = client.cancel_token();
            // It ends by itself once the answer is there.
            drop(client);
            let end = async {
                if !ended.is_finished() {
                    target.cancel(&token).await;
                }
                let _ = (&mut ended).await;
            };
            if timeout(limits::POSTGRES_GIVE_UP_MAX, end).await.is_err() {
                ended.abort();
            }
            drop(permit);
        });
    }
}

/// One of those who wait for a connection.
struct Waits<'a>(&'a AtomicUsize);

impl<'a> Waits<'a> {
    fn new(count: &'a AtomicUsize) -> Option<Self> {
        let waits = Self(count);
        (count.fetch_add(1, Ordering::AcqRel) < limits::POSTGRES_WAITING_MAX).then_some(waits)
    }
}

impl Drop for Waits<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

/// One attempt to connect.
struct Trial<'a>(&'a Mutex<Health>);

impl<'a> Trial<'a> {
    fn begin(health: &'a Mutex<Health>) -> SqlResult<Self> {
        let mut now = lock(health);
        if let Some(why) = &now.away {
            if now.trying || now.until.is_some_and(|until| Instant::now() < until) {
                return Err(SqlError::Away(why.clone()));
            }
            now.trying = true;
        }
        drop(now);
        Ok(Self(health))
    }

    fn end<T>(self, connected: &SqlResult<T>) {
        let mut health = lock(self.0);
        match connected {
            Ok(_) => *health = Health::default(),
            Err(error) => {
                let (SqlError::Away(why) | SqlError::Broken(why) | SqlError::Corrupt(why)) = error else {
                    return;
                };
                let longer = (health.backoff * 2).clamp(limits::POSTGRES_AWAY_MIN, limits::POSTGRES_AWAY_MAX);
                let until = Some(Instant::now() + longer);
                *health = Health { away: Some(why.clone()), until, backoff: longer, trying: false };
            }
        }
    }
}

impl Drop for Trial<'_> {
    /// Also where the caller has gone in the middle of it.
    fn drop(&mut self) {
        lock(self.0).trying = false;
    }
}

/// A connection that one request has for itself.
pub(crate) struct Taken<'a> {
    pool: &'a Pool,
    line: Option<Line>,
    permit: Option<OwnedSemaphorePermit>,
    /// Something was asked, and the answer has not come.
    is_unanswered: bool,
}

impl Taken<'_> {
    /// Asks, and waits for the whole answer. A connection on which that failed, or whose caller went away before, is not
    /// used again.
    pub(crate) async fn ask(&mut self, statement: &Statement, args: Args<'_>) -> SqlResult<Vec<Row>> {
        let params = statement.bind(args);
        self.answer(limits::POSTGRES_REQUEST_MAX, async |client| {
            client.query_typed(&statement.text, &params).await
        })
        .await
    }

    /// The same for plain commands.
    pub(crate) async fn run(&mut self, commands: &str, deadline: Duration) -> SqlResult<()> {
        self.answer(deadline, async |client| client.batch_execute(commands).await).await
    }

    async fn answer<T>(
        &mut self,
        deadline: Duration,
        ask: impl AsyncFnOnce(&Client) -> Result<T, tokio_postgres::Error>,
    ) -> SqlResult<T> {
        let Some(line) = self.line.as_ref().filter(|_| !self.is_unanswered) else {
            return Err(SqlError::Broken("its connection broke before".to_owned()));
        };
        fault::point("postgres:ask-before");
        self.is_unanswered = true;
        let answer = match timeout(deadline, ask(&line.client)).await {
            Ok(answer) => {
                self.is_unanswered = false;
                answer.map_err(SqlError::from)
            }
            Err(_) => Err(late()),
        };
        fault::point("postgres:ask-after");
        self.pool.judge(&answer);
        if !self.is_unanswered && answer.as_ref().is_err_and(|error| !error.spares_connection()) {
            self.line = None;
        }
        answer
    }

    /// Closes the connection: what it has begun is undone by the database.
    pub(crate) fn close(mut self) {
        if !self.is_unanswered {
            self.line = None;
        }
    }
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        match self.line.take() {
            Some(line) if self.is_unanswered => self.pool.abandon(line, self.permit.take()),
            Some(line) => lock(&self.pool.idle).push(line),
            None => {}
        }
    }
}

/// Asks on a connection, within a deadline.
pub(crate) async fn ask(
    client: &Client,
    statement: &Statement,
    args: Args<'_>,
    deadline: Duration,
) -> SqlResult<Vec<Row>> {
    let params = statement.bind(args);
    match timeout(deadline, client.query_typed(&statement.text, &params)).await {
        Ok(rows) => rows.map_err(SqlError::from),
        Err(_) => Err(late()),
    }
}

fn late() -> SqlError {
    SqlError::Broken("the database has not answered in time".to_owned())
}

/// What a lock guards here is whole between any two steps.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
