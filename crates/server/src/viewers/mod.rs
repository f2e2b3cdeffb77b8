//! The viewers that [`serve`](crate::serve) has: a few threads for thousands of them, and no task for any.
//!
//! Decides: which thread serves a viewer, and when all are sent away. A connection comes here once its answer is known to be a
//! stream (`connection.rs`), with the head of that answer; the loop that takes it writes the head and all that follows.
//!
//! Never decides what a viewer may see or gets next (`guard.rs` and the routes do, and [`soloist::Audience`]), and never
//! asks the store on a thread that serves viewers: pages are read by tasks of the runtime.

mod socket;
#[cfg(test)]
mod tests;
mod turn;
mod viewer;

use std::{
    io,
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use soloist::{Audience, Result, Seq, event::Batch};
use tokio::runtime::Handle;
use tokio_util::{
    sync::{CancellationToken, DropGuard},
    task::TaskTracker,
};

pub(crate) use self::socket::{IntoSocket, Socket};
use self::{
    turn::Turn,
    viewer::{Admitted, Leave},
};
use crate::frames::{Frames, Stops};

/// The threads, as those see them who bring viewers.
pub(crate) struct Viewers {
    inboxes: Vec<Arc<Inbox>>,
    /// Every viewer that is served.
    tracker: TaskTracker,
    /// Where the next one goes.
    next: AtomicUsize,
    /// Ends the task that listens for the end.
    _listens: DropGuard,
}

/// What a loop is told by others.
enum Message {
    /// Here is a viewer.
    Admit(Box<Newcomer>),
    /// There may be something new for a group of viewers.
    Woken(usize),
    /// What was read for a group.
    Read(Box<Page>),
    /// Viewers may not stay any more.
    Leave(Leave),
    /// Cut all off.
    Quit,
    /// Break, as a bug would.
    #[cfg(test)]
    Break,
}

/// A viewer whose stream begins.
struct Newcomer {
    socket: Socket,
    admitted: Admitted,
    audience: Audience,
}

/// What the store said.
struct Page {
    group: usize,
    audience: Audience,
    after: Seq,
    until: Seq,
    read: Result<Option<Arc<Batch>>>,
}

/// Where messages to a loop wait.
struct Inbox {
    /// None once nobody will look any more; what is brought then is dropped, and a connection with it.
    messages: Mutex<Option<Vec<Message>>>,
    /// The loop was woken and has not looked yet.
    is_woken: AtomicBool,
    waker: mio::Waker,
}

impl Inbox {
    fn lock(&self) -> MutexGuard<'_, Option<Vec<Message>>> {
        self.messages.lock().expect("no code panics while it holds the messages")
    }

    fn tell(&self, message: Message) {
        match &mut *self.lock() {
            Some(messages) => messages.push(message),
            None => return,
        }
        if !self.is_woken.swap(true, Ordering::AcqRel)
            && let Err(error) = self.waker.wake()
        {
            tracing::error!(%error, "the thread that serves viewers cannot be woken");
        }
    }

    /// All messages. What comes from now on wakes the loop again.
    fn take(&self) -> Vec<Message> {
        self.is_woken.store(false, Ordering::Release);
        self.lock().as_mut().map(std::mem::take).unwrap_or_default()
    }

    fn close(&self) {
        // Dropped without the lock: a waker that goes may be what brings messages.
        let messages = self.lock().take();
        drop(messages);
    }
}

impl Viewers {
    /// Starts the threads: one for two cores, since the work and the store need theirs.
    ///
    /// # Errors
    /// What the system says.
    pub(crate) fn start(heartbeat: Duration, stops: Stops) -> io::Result<Self> {
        let cores = thread::available_parallelism().map_or(1, usize::from);
        let runtime = Handle::current();
        let mut inboxes = Vec::new();
        for _ in 0..cores.div_ceil(2) {
            let (turn, inbox) = Turn::new(heartbeat, runtime.clone())?;
            thread::Builder::new().name("soloist-view".to_owned()).spawn(move || turn.stay())?;
            inboxes.push(inbox);
        }
        let over = CancellationToken::new();
        let (told, until) = (inboxes.clone(), over.clone());
        runtime.spawn(async move { until.run_until_cancelled(listen(stops, &told)).await });
        let viewers = Self {
            inboxes,
            tracker: TaskTracker::new(),
            next: AtomicUsize::new(0),
            _listens: over.drop_guard(),
        };
        Ok(viewers)
    }

    /// Goes on with a stream: writes this head, and the events after it.
    pub(crate) fn admit(&self, socket: Socket, head: Vec<u8>, frames: Frames) {
        let (format, ids, subscription) = frames.into_parts();
        let (audience, place, viewed) = subscription.into_parts();
        let admitted = Admitted { format, ids, place, viewed, counted: self.tracker.token(), head };
        let newcomer = Newcomer { socket, admitted, audience };
        let inbox = &self.inboxes[self.next.fetch_add(1, Ordering::Relaxed) % self.inboxes.len()];
        inbox.tell(Message::Admit(Box::new(newcomer)));
    }

    /// Returns once no viewer is left.
    pub(crate) async fn left(&self) {
        self.tracker.close();
        self.tracker.wait().await;
    }
}

impl Drop for Viewers {
    fn drop(&mut self) {
        self.inboxes.iter().for_each(|inbox| inbox.tell(Message::Quit));
    }
}

/// Tells the loops when viewers may not stay.
async fn listen(stops: Stops, inboxes: &[Arc<Inbox>]) {
    let tell = |leave| inboxes.iter().for_each(|inbox| inbox.tell(Message::Leave(leave)));
    let Stops { stop, leaving, closing } = stops;
    tokio::select! {
        biased;
        () = leaving.cancelled() => return tell(Leave::Now),
        () = stop.cancelled() => tell(Leave::AfterReading),
        () = closing.cancelled() => tell(Leave::AfterReading),
    }
    leaving.cancelled().await;
    tell(Leave::Now);
}
