//! A viewer: a cursor in the log of one task.
//!
//! Decides: where a viewer begins, and when it waits. It takes the wake-up first, then looks, then waits; so nothing that is
//! committed in between is missed. What it gets next is decided in `audience.rs`, for one viewer as for a thousand.
//!
//! Never: holds a queue, holds a read transaction, slows the run, or reads the store while it waits at the tail.

use std::sync::Arc;

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::{
    Result,
    audience::{Audience, Looked, Place, Viewed},
    event::{Event, Slice},
    hub::{Hub, TopicUse},
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
    audience: Audience,
    place: Place,
    viewed: Viewed,
    closing: CancellationToken,
    task: Box<Task>,
    /// This process is shutting down, and what was there by then is handed out.
    last_look: bool,
}

impl std::fmt::Debug for Subscription {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Subscription({} after {})", self.task.key, self.place.cursor())
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
        let is_over = task.status.is_finished() && cursor >= task.last_seq && !follow;
        Ok(Subscribed::Stream(Subscription {
            place: Place::new(cursor, follow, gap, is_over),
            viewed: Viewed::new(self.hub),
            audience: Audience::new(task.key.clone(), self.topic, versions, self.store),
            closing: self.closing,
            task: Box::new(task),
            last_look: false,
        }))
    }
}

impl Subscription {
    /// The seq of the last event that was handed out (or after which the viewer began).
    #[must_use]
    pub fn cursor(&self) -> Seq {
        self.place.cursor()
    }

    /// The task as it was on record when the viewer came.
    #[must_use]
    pub fn task(&self) -> &Task {
        &self.task
    }

    /// The parts of this viewer, for a loop that serves many: see [`Audience`].
    #[must_use]
    pub fn into_parts(self) -> (Audience, Place, Viewed) {
        (self.audience, self.place, self.viewed)
    }

    /// What comes next, as soon as it is on record. None once the stream is over: the run has ended (unless the
    /// viewer follows), the task was deleted, or this process is shutting down.
    ///
    /// May be dropped while it waits; nothing is lost.
    ///
    /// # Errors
    /// [`crate::Error::Unavailable`] where the store cannot be asked; call again to go on.
    pub async fn next(&mut self) -> Result<Option<Delivery>> {
        loop {
            self.audience.mark_woken();
            match self.audience.look(&mut self.place) {
                Looked::Delivery(delivery) => return Ok(Some(delivery)),
                Looked::Over => return Ok(None),
                Looked::Nothing => {}
                Looked::InStore(until) => {
                    if let Some(page) = self.audience.read(self.place.cursor(), until).await? {
                        return Ok(Some(self.place.take(&page)));
                    }
                }
            }
            tokio::select! {
                biased;
                // The end of a run and the end of this process may come together: one more look, then it is over.
                () = self.closing.cancelled() => {
                    if std::mem::replace(&mut self.last_look, true) {
                        self.place.leave();
                    }
                }
                () = self.audience.woken() => {}
            }
        }
    }
}
