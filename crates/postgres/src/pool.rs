//! Connections to the database: few, opened when they are needed, used for one request at a time.
//!
//! Decides: who waits for a connection and who is refused. A connection on which anything went wrong is closed and another
//! one takes its place. Where none can be opened, one request after another tries again, with a back-off; all others are
//! refused at once, so that a database that is away costs a caller no wait.
//!
//! Requests are not pipelined: a pooler between here and the database gives one server to several clients, and may close
//! it under a client that has more than one request on its way.

use std::{
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use soloist::limits;
use tokio::{
    sync::{Semaphore, SemaphorePermit},
    time::{Instant, timeout},
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
    permits: Semaphore,
    waiting: AtomicUsize,
    idle: Mutex<Vec<Client>>,
    health: Mutex<Health>,
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
    /// At most so many connections; none is opened yet.
    pub(crate) fn new(target: Target, connections: usize) -> Self {
        Self {
            target,
            permits: Semaphore::new(connections),
            waiting: AtomicUsize::new(0),
            idle: Mutex::default(),
            health: Mutex::default(),
        }
    }

    /// A connection for one request.
    pub(crate) async fn take(&self) -> SqlResult<Taken<'_>> {
        let permit = self.permit().await?;
        let idle = {
            let mut idle = lock(&self.idle);
            idle.retain(|client| !client.is_closed());
            idle.pop()
        };
        let client = match idle {
            Some(client) => client,
            None => self.connect().await?,
        };
        Ok(Taken { pool: self, client: Some(client), _permit: permit })
    }

    /// Where one connection was given up, others that lie idle are not trusted either: in a network that swallows
    /// everything each would cost its user the longest wait, while a new one finds out for all.
    fn judge<T>(&self, asked: &SqlResult<T>) {
        if matches!(asked, Err(SqlError::Broken(_))) {
            lock(&self.idle).clear();
        }
    }

    async fn permit(&self) -> SqlResult<SemaphorePermit<'_>> {
        if let Ok(permit) = self.permits.try_acquire() {
            return Ok(permit);
        }
        let _waits = Waits::new(&self.waiting)
            .ok_or_else(|| SqlError::Away("too many requests wait for the database; ask again".to_owned()))?;
        match timeout(limits::POSTGRES_WAIT_MAX, self.permits.acquire()).await {
            Ok(permit) => permit.map_err(|_| SqlError::Away("this store is closed".to_owned())),
            Err(_) => Err(SqlError::Away("the database answers too slowly; ask again".to_owned())),
        }
    }

    async fn connect(&self) -> SqlResult<Client> {
        let trial = Trial::begin(&self.health)?;
        let connected = self.target.connect(None).await;
        trial.end(&connected);
        Ok(connected?.0)
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
    client: Option<Client>,
    _permit: SemaphorePermit<'a>,
}

impl Taken<'_> {
    /// Asks, and waits for the whole answer. A connection on which that failed, or whose caller went away before, is not
    /// used again.
    pub(crate) async fn ask(&mut self, statement: &Statement, args: Args<'_>) -> SqlResult<Vec<Row>> {
        let client =
            self.client.take().ok_or_else(|| SqlError::Broken("its connection broke before".to_owned()))?;
        let asked = ask(&client, statement, args, limits::POSTGRES_REQUEST_MAX).await;
        self.pool.judge(&asked);
        if asked.as_ref().err().is_none_or(SqlError::spares_connection) {
            self.client = Some(client);
        }
        asked
    }

    /// The same for plain commands.
    pub(crate) async fn run(&mut self, commands: &str, deadline: Duration) -> SqlResult<()> {
        let client =
            self.client.take().ok_or_else(|| SqlError::Broken("its connection broke before".to_owned()))?;
        let run = match timeout(deadline, client.batch_execute(commands)).await {
            Ok(run) => run.map_err(SqlError::from),
            Err(_) => Err(late()),
        };
        self.pool.judge(&run);
        if run.as_ref().err().is_none_or(SqlError::spares_connection) {
            self.client = Some(client);
        }
        run
    }

    /// Closes the connection: what it has begun is undone by the database.
    pub(crate) fn close(mut self) {
        self.client = None;
    }
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        if let Some(client) = self.client.take() {
            lock(&self.pool.idle).push(client);
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
