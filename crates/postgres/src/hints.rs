//! Wake-ups: who is told that there is something new to read.
//!
//! Decides: what is worth a look here, and what others are told. A commit of this process wakes its own readers at once,
//! and those of others by a NOTIFY, after the commit and on a connection of its own, never in the transaction that writes:
//! there it would queue all writers behind one lock, and a payload that is too long would fail the write. What is to be
//! told is merged: at most one NOTIFY in two milliseconds, tasks by their numbers, "all" where they do not fit.
//!
//! A process hears of tasks whose rows it was asked for lately ([`Hints::read`]): those that have viewers here. It hears of
//! its own nodes on a channel for each, and of the queue and of nodes that come and go with everybody else.
//!
//! Never decides what is true. A wake-up may be lost or doubled; while the connection is down all are, and when it is back
//! everybody here looks again.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use soloist::{NodeId, fault, limits};
use tokio::{
    sync::{Notify, watch},
    time::{Instant, MissedTickBehavior, interval, sleep, timeout},
};
use tokio_postgres::{Client, Notification};

use crate::{
    error::SqlError,
    pool,
    sql::{Statement, args},
    target::Target,
};

/// Says that more tasks have changed than can be named.
const ALL: &str = "all";
/// Says that something waits in the queue, or that a node came or went.
const EVERYBODY: &str = "queue";

/// What is new, here and elsewhere.
pub(crate) struct Hints {
    changes: watch::Sender<u64>,
    /// The channel of all processes on this schema; that of a node begins with it.
    channel: String,
    inner: Mutex<Inner>,
    /// There is something to tell, or to listen to.
    wake: Notify,
}

#[derive(Default)]
struct Inner {
    /// The tasks whose rows were read here, and when.
    viewed: HashMap<i64, Instant>,
    forgotten_at: Option<Instant>,
    /// The nodes that joined here.
    joined: HashSet<NodeId>,
    /// What the connection listens to is not up to date.
    is_changed: bool,
    pending: Pending,
}

/// What others are to be told.
#[derive(Default)]
struct Pending {
    tasks: HashSet<i64>,
    nodes: HashSet<NodeId>,
    is_for_everybody: bool,
    is_all: bool,
}

impl Pending {
    /// Channels and what is said there.
    fn messages(self, channel: &str) -> Vec<(String, String)> {
        let mut words: Vec<String> =
            self.is_for_everybody.then(|| EVERYBODY.to_owned()).into_iter().collect();
        words.extend(self.tasks.iter().map(ToString::to_string));
        let mut payload = words.join(" ");
        if self.is_all || payload.len() > limits::POSTGRES_NOTIFY_MAX_BYTES {
            payload = format!("{EVERYBODY} {ALL}");
        }
        let mut messages: Vec<_> =
            self.nodes.iter().map(|node| (of_node(channel, node), String::new())).collect();
        if !payload.is_empty() {
            messages.push((channel.to_owned(), payload));
        }
        messages
    }
}

impl Hints {
    pub(crate) fn new(schema: &str) -> Arc<Self> {
        Arc::new(Self {
            changes: watch::Sender::new(0),
            channel: format!("soloist_{:016x}", fnv(schema)),
            inner: Mutex::default(),
            wake: Notify::new(),
        })
    }

    /// Rises when it is time to look again.
    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// The rows of these tasks were read here: from now on this process hears of them. Where it did not before, what was
    /// committed between the read and now went unheard, so it is time to look once more.
    pub(crate) fn read(&self, tasks: impl Iterator<Item = i64>) {
        let now = Instant::now();
        let mut is_new = false;
        {
            let mut inner = self.lock();
            for task in tasks {
                is_new |= inner.viewed.insert(task, now).is_none();
            }
            if inner.forgotten_at.is_none_or(|at| now - at >= limits::POSTGRES_VIEWED) {
                inner.forgotten_at = Some(now);
                inner.viewed.retain(|_, read| now - *read < limits::POSTGRES_VIEWED);
            }
        }
        if is_new {
            self.rise();
        }
    }

    /// This process has committed changes of these tasks.
    pub(crate) fn tasks(&self, tasks: impl Iterator<Item = i64>) {
        let (mut is_any, mut is_viewed) = (false, false);
        {
            let mut inner = self.lock();
            for task in tasks {
                is_any = true;
                is_viewed |= inner.viewed.contains_key(&task);
                inner.pending.tasks.insert(task);
            }
            // More than fit into one message are not kept one by one.
            if inner.pending.tasks.len() > limits::POSTGRES_NOTIFY_MAX_BYTES {
                inner.pending.tasks.clear();
                inner.pending.is_all = true;
            }
        }
        if is_any {
            self.wake.notify_one();
        }
        if is_viewed {
            self.rise();
        }
    }

    /// This process has written for a run of this node.
    pub(crate) fn node(&self, node: &NodeId) {
        let is_ours = {
            let mut inner = self.lock();
            inner.pending.nodes.insert(node.clone());
            inner.joined.contains(node)
        };
        self.wake.notify_one();
        if is_ours {
            self.rise();
        }
    }

    /// This process has queued a run, or a node came or went.
    pub(crate) fn everybody(&self) {
        self.lock().pending.is_for_everybody = true;
        self.wake.notify_one();
        self.rise();
    }

    /// A node joins here: what is written for its runs is heard.
    pub(crate) fn joins(&self, node: &NodeId) {
        self.changed(|joined| joined.insert(node.clone()));
    }

    /// A node that joined here is gone.
    pub(crate) fn is_gone(&self, node: &NodeId) {
        self.changed(|joined| joined.remove(node));
    }

    fn changed(&self, change: impl FnOnce(&mut HashSet<NodeId>) -> bool) {
        let mut inner = self.lock();
        let is_changed = change(&mut inner.joined);
        inner.is_changed |= is_changed;
        drop(inner);
        self.wake.notify_one();
    }

    /// What another process has said.
    fn hear(&self, channel: &str, payload: &str) {
        let is_for_us = channel != self.channel || {
            let inner = self.lock();
            payload.split(' ').any(|word| match word {
                ALL | EVERYBODY => true,
                number => number.parse().is_ok_and(|number: i64| inner.viewed.contains_key(&number)),
            })
        };
        if is_for_us {
            self.rise();
        }
    }

    fn rise(&self) {
        self.changes.send_modify(|count| *count += 1);
    }

    /// What is guarded here is whole between any two steps.
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Keeps a connection for wake-ups, for ever: connects, listens, tells; and again, with a back-off, when it is lost.
pub(crate) async fn serve(hints: Arc<Hints>, target: Target) {
    let mut backoff = Duration::ZERO;
    loop {
        let begun = Instant::now();
        let Err(error) = listen(&hints, &target).await else { continue };
        // What could not be told is told in one word later; what was said meanwhile was not heard.
        hints.lock().pending.is_all = true;
        if begun.elapsed() > limits::POSTGRES_AWAY_MAX * 2 {
            backoff = Duration::ZERO;
        }
        if backoff == Duration::ZERO {
            tracing::warn!(error = ?error, "the connection for wake-ups is lost; others' writes are seen a little later until it is back");
        }
        backoff = (backoff * 2).clamp(limits::POSTGRES_AWAY_MIN, limits::POSTGRES_AWAY_MAX);
        sleep(backoff).await;
    }
}

async fn listen(hints: &Arc<Hints>, target: &Target) -> Result<(), SqlError> {
    // Set before the connection can hear anything.
    let own = Arc::new(std::sync::OnceLock::new());
    let (hearing, pid) = (hints.clone(), own.clone());
    let hear = move |said: &Notification| {
        // This process knows what it has committed itself.
        if pid.get() != Some(&said.process_id()) {
            hearing.hear(said.channel(), said.payload());
        }
    };
    let (client, mut ended) = target.connect(Some(Box::new(hear))).await?;
    let pid = Statement::new("SELECT pg_backend_pid() AS pid", "soloist");
    let rows = pool::ask(&client, &pid, args! {}, limits::POSTGRES_REQUEST_MAX).await?;
    if let Some(row) = rows.first() {
        let _ = own.set(crate::rows::get(row, "pid")?);
    }
    let mut listening = HashSet::new();
    follow(hints, &client, &mut listening).await?;
    // Only now: what was committed before is seen by this look, what comes later is heard.
    hints.rise();
    let mut check = interval(limits::POSTGRES_LISTEN_CHECK);
    check.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = hints.wake.notified() => {}
            _ = &mut ended => return Err(SqlError::Broken("the connection for wake-ups has ended".to_owned())),
            _ = check.tick() => {
                run(&client, "").await?;
                continue;
            }
        }
        follow(hints, &client, &mut listening).await?;
        tell(hints, &client).await?;
        sleep(limits::POSTGRES_NOTIFY_EVERY).await;
    }
}

/// Brings what the connection listens to up to date.
async fn follow(hints: &Hints, client: &Client, listening: &mut HashSet<String>) -> Result<(), SqlError> {
    let wanted: HashSet<String> = {
        let mut inner = hints.lock();
        if !inner.is_changed && !listening.is_empty() {
            return Ok(());
        }
        inner.is_changed = false;
        let nodes = inner.joined.iter().map(|node| of_node(&hints.channel, node));
        nodes.chain([hints.channel.clone()]).collect()
    };
    let mut commands = String::new();
    for channel in wanted.difference(listening) {
        commands.push_str(&format!("LISTEN {channel};"));
    }
    for channel in listening.difference(&wanted) {
        commands.push_str(&format!("UNLISTEN {channel};"));
    }
    if !commands.is_empty() {
        fault::point("postgres:listen-before");
        run(client, &commands).await?;
        fault::point("postgres:listen-after");
    }
    *listening = wanted;
    Ok(())
}

async fn tell(hints: &Hints, client: &Client) -> Result<(), SqlError> {
    let pending = std::mem::take(&mut hints.lock().pending);
    let (channels, payloads): (Vec<String>, Vec<String>) =
        pending.messages(&hints.channel).into_iter().unzip();
    if channels.is_empty() {
        return Ok(());
    }
    let notify =
        "SELECT pg_notify(channel, payload) FROM unnest(:channels, :payloads) AS said (channel, payload)";
    let notify = Statement::new(notify, "soloist");
    let args = args! { channels: TEXT_ARRAY = channels, payloads: TEXT_ARRAY = payloads };
    fault::point("postgres:notify-before");
    let told = pool::ask(client, &notify, args, limits::POSTGRES_REQUEST_MAX).await;
    fault::point("postgres:notify-after");
    told.map(drop)
}

async fn run(client: &Client, commands: &str) -> Result<(), SqlError> {
    match timeout(limits::POSTGRES_REQUEST_MAX, client.batch_execute(commands)).await {
        Ok(run) => Ok(run?),
        Err(_) => Err(SqlError::Broken("the database has not answered in time".to_owned())),
    }
}

/// The channel of a node. Hashed, as PostgreSQL cuts a name off after 63 bytes.
fn of_node(channel: &str, node: &NodeId) -> String {
    format!("{channel}_{:016x}", fnv(node.as_str()))
}

/// FNV-1a: every version of this program must come to the same names.
fn fnv(text: &str) -> u64 {
    text.bytes()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tasks_that_do_not_fit_into_a_message_are_told_in_one_word() {
        let tasks =
            |n: i64| Pending { tasks: (0..n).map(|t| t + 1_000_000_000).collect(), ..Pending::default() };
        let few = tasks(2).messages("c");
        assert!(few.len() == 1 && few[0].0 == "c" && few[0].1.split(' ').count() == 2, "{few:?}");
        let many = tasks(10_000).messages("c");
        assert_eq!(many, [("c".to_owned(), "queue all".to_owned())]);
        assert!(Pending::default().messages("c").is_empty());
    }

    #[test]
    fn a_process_hears_of_what_it_has_read_and_of_what_is_for_everybody() {
        let hints = Hints::new("soloist");
        let mut changes = hints.changes();
        let mut risen = |what: &str| {
            hints.hear(&hints.channel, what);
            let risen = changes.has_changed().unwrap();
            changes.mark_unchanged();
            risen
        };
        assert!(!risen("7 8") && risen("queue") && risen("queue all"));
        hints.read([7].into_iter());
        assert!(risen(""), "the first read of a task is a reason to look again");
        assert!(risen("9 7 8") && !risen("8 77"));
        hints.read([7].into_iter());
        assert!(!risen(""));
    }
}
