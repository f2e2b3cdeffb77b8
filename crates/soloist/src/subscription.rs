//! A viewer: a cursor in the log of one task.
//!
//! Decides: which events a viewer gets next. It takes the wake-up first, then looks, then waits; so nothing that is
//! committed in between is missed. It goes strictly by `seq`: what it hands out begins right after its cursor, from the
//! window in memory where that reaches back far enough and from the store where it does not, and a hole is announced
//! as a [`Delivery::Gap`]. So there is no seam between replay and live.
//!
//! Never: holds a queue, holds a read transaction, slows the run, or reads the store while it waits at the tail.

use std::sync::{Arc, atomic::Ordering};

use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

use crate::{
    Result,
    event::{Batch, Event, Slice},
    hub::{Hub, Look, TopicUse},
    limits,
    store::{EventRange, Store},
    task::{Epoch, Seq, Task},
};

/// A position in a task's log: the last event that a viewer has seen. With the epoch under which that event was written
/// it names one event for ever, also where a power cut has taken the end of the log and another event stands there now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cursor {
    /// The event's seq; 0 is before the first.
    pub seq: Seq,
    /// The event's epoch, where the viewer knows it.
    pub epoch: Option<Epoch>,
}

impl std::convert::From<Seq> for Cursor {
    fn from(seq: Seq) -> Self {
        Self { seq, epoch: None }
    }
}

/// Where a viewer begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum From {
    /// Right after this event: the last one that the viewer has seen.
    After(Cursor),
    /// With the first event of the newest run.
    #[default]
    RunStart,
    /// With the newest event.
    Latest,
    /// After the newest event.
    Tail,
}

/// How a viewer wants to watch.
#[derive(Debug, Clone, Copy, Default)]
pub struct SubscribeOptions {
    /// Where it begins.
    pub from: From,
    /// Stay for the next runs, too.
    pub follow: bool,
    /// Start the task where it is pending. A finished task is never started by a viewer.
    pub autostart: bool,
}

/// How a subscribe was answered.
#[derive(Debug)]
pub enum Subscribed {
    /// Here are the events.
    Stream(Subscription),
    /// The cursor names the event that ended a run: the viewer has seen it all.
    Ended,
}

/// Why a viewer cannot be resumed exactly.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GapReason {
    /// The events after its cursor are no longer kept; it goes on with the oldest that is.
    Pruned,
    /// Its cursor does not match the log; it goes on with the first event of the newest run.
    UnknownCursor,
}

impl GapReason {
    /// The word on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pruned => "pruned",
            Self::UnknownCursor => "unknown_cursor",
        }
    }
}

/// What a viewer gets.
#[derive(Debug)]
pub enum Delivery {
    /// The next events.
    Events(Slice),
    /// The events that follow do not follow the cursor.
    Gap {
        /// Why.
        reason: GapReason,
        /// The seq of the first event that follows.
        first_seq: Seq,
    },
}

/// A viewer of one task. Dropping it forgets the viewer.
pub struct Subscription {
    topic: TopicUse,
    hub: Arc<Hub>,
    store: Arc<dyn Store>,
    versions: watch::Receiver<u64>,
    closing: CancellationToken,
    task: Box<Task>,
    cursor: Seq,
    follow: bool,
    gap: Option<(GapReason, Seq)>,
    /// What was read from the store and reaches beyond the cursor.
    page: Option<Arc<Batch>>,
    /// This process is shutting down, and what was there by then is handed out.
    last_look: bool,
    over: bool,
}

impl std::fmt::Debug for Subscription {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Subscription({} after {})", self.task.key, self.cursor)
    }
}

/// A viewer that has been let in and told nothing yet: its wake-up is taken, its place is not known.
pub(crate) struct Arrival {
    pub(crate) topic: TopicUse,
    pub(crate) hub: Arc<Hub>,
    pub(crate) store: Arc<dyn Store>,
    /// Asks for a look at what others write.
    pub(crate) look: Arc<Notify>,
    pub(crate) closing: CancellationToken,
}

impl Arrival {
    /// Finds the viewer's place in the log of a task that was read after the arrival.
    pub(crate) async fn place(self, task: Task, from: From, follow: bool) -> Result<Subscribed> {
        // What was on record by now is in reach. What comes later is shown, whoever writes it: a look that was too early
        // for this viewer is followed by another.
        let versions = self.topic.versions();
        self.topic.known(task.last_seq);
        self.look.notify_one();
        let mut gap = None;
        let cursor = match from {
            From::RunStart => task.run_start_seq,
            From::Latest => task.last_seq.saturating_sub(1).max(task.run_start_seq),
            From::Tail => task.last_seq,
            From::After(Cursor { seq: 0, .. }) => 0,
            From::After(Cursor { seq, epoch }) => {
                let named = EventRange { after: seq - 1, until: seq, max_events: 1, max_bytes: 1 };
                let named = self.store.events(&task.key, named).await?;
                let is_other = |event: &Event| epoch.is_some_and(|epoch| epoch != event.epoch);
                let is_terminal = |event: &Event| event.event_type.is_terminal();
                if seq > task.last_seq || named.first().is_some_and(is_other) {
                    gap = Some((GapReason::UnknownCursor, task.run_start_seq + 1));
                    task.run_start_seq
                } else if !follow && (seq == task.run_start_seq || named.first().is_some_and(is_terminal)) {
                    // A run begins right after the end of the one before, also where that one's events are gone.
                    return Ok(Subscribed::Ended);
                } else {
                    seq
                }
            }
        };
        let over = task.status.is_finished() && cursor >= task.last_seq && !follow;
        self.hub.viewers.fetch_add(1, Ordering::Relaxed);
        Ok(Subscribed::Stream(Subscription {
            versions,
            topic: self.topic,
            hub: self.hub,
            store: self.store,
            closing: self.closing,
            task: Box::new(task),
            cursor,
            follow,
            gap,
            page: None,
            last_look: false,
            over,
        }))
    }
}

impl Subscription {
    /// The seq of the last event that was handed out (or after which the viewer began).
    #[must_use]
    pub fn cursor(&self) -> Seq {
        self.cursor
    }

    /// The task as it was on record when the viewer came.
    #[must_use]
    pub fn task(&self) -> &Task {
        &self.task
    }

    /// What comes next, as soon as it is on record. None once the stream is over: the run has ended (unless the
    /// viewer follows), the task was deleted, or this process is shutting down.
    ///
    /// May be dropped while it waits; nothing is lost.
    ///
    /// # Errors
    /// [`crate::Error::Unavailable`] where the store cannot be asked; call again to go on.
    pub async fn next(&mut self) -> Result<Option<Delivery>> {
        if let Some((reason, first_seq)) = self.gap.take() {
            return Ok(Some(Delivery::Gap { reason, first_seq }));
        }
        loop {
            if self.over {
                return Ok(None);
            }
            self.versions.mark_unchanged();
            if let Some(slice) = self.page.take().and_then(|page| self.rest_of(page)) {
                return Ok(Some(self.hand_out(slice)));
            }
            match self.topic.look(self.cursor) {
                Look::Here(slice) => return Ok(Some(self.hand_out(slice))),
                Look::Deleted => self.over = true,
                Look::Nothing => self.wait().await,
                Look::InStore(until) => {
                    let range = EventRange {
                        after: self.cursor,
                        until,
                        max_events: limits::PAGE_MAX_EVENTS,
                        max_bytes: limits::PAGE_MAX_BYTES,
                    };
                    let events = self.store.events(&self.task.key, range).await?;
                    let Some(first) = events.first().map(|event| event.seq) else {
                        self.wait().await;
                        continue;
                    };
                    self.page = Some(Arc::new(Batch::new(events)));
                    if first != self.cursor + 1 {
                        self.cursor = first - 1;
                        return Ok(Some(Delivery::Gap { reason: GapReason::Pruned, first_seq: first }));
                    }
                }
            }
        }
    }

    /// What a page still has after the cursor; the page is kept for what follows a terminal event in it.
    fn rest_of(&mut self, page: Arc<Batch>) -> Option<Slice> {
        let slice = Slice::after(page.clone(), self.cursor)?;
        if slice.last_seq() < page.last_seq() {
            self.page = Some(page);
        }
        Some(slice)
    }

    fn hand_out(&mut self, slice: Slice) -> Delivery {
        debug_assert_eq!(slice.events()[0].seq, self.cursor + 1, "a viewer gets a gapless run of the log");
        self.cursor = slice.last_seq();
        self.over = slice.ends_run() && !self.follow;
        Delivery::Events(slice)
    }

    async fn wait(&mut self) {
        tokio::select! {
            changed = self.versions.changed() => {
                changed.expect("the topic outlives its use");
            }
            // The end of a run and the end of this process may come together: one more look, then it is over.
            () = self.closing.cancelled() => self.over = std::mem::replace(&mut self.last_look, true),
        }
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.hub.viewers.fetch_sub(1, Ordering::Relaxed);
    }
}
