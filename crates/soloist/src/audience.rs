//! The viewers of one task: what each gets next, whether one waits for it or a loop serves a thousand.
//!
//! Decides: which events follow a [`Place`]. It goes strictly by `seq`: what is handed out begins right after the place's
//! cursor, from the window in memory where that reaches back far enough, from a page that was read for somebody else,
//! and from the store where there is neither; a hole is announced as a [`Delivery::Gap`]. So there is no seam between
//! replay and live.
//!
//! One wake-up serves a whole audience, and a page of the store is read once for all who want it at that time. A look is
//! free of waiting and changes nothing but the place that it was given: who has not sent what it was handed keeps its
//! place as it was, and looks again. So nothing is kept for a viewer that does not read.
//!
//! Never: knows who the viewers are, or holds anything for one of them.

use std::{fmt, sync::Arc};

use tokio::sync::watch;

use crate::{
    Key, Result,
    event::{Batch, Slice},
    hub::{Hub, Look, TopicUse},
    limits,
    store::{EventRange, Store},
    subscription::{Delivery, GapReason},
    sync::atomic::Ordering,
    task::Seq,
};

/// Where one viewer stands in a log, and what ends its stream. A copy of it is a place of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    cursor: Seq,
    follow: bool,
    gap: Option<(GapReason, Seq)>,
    is_over: bool,
}

impl Place {
    pub(crate) fn new(cursor: Seq, follow: bool, gap: Option<(GapReason, Seq)>, is_over: bool) -> Self {
        Self { cursor, follow, gap, is_over }
    }

    /// The seq of the last event that was handed out (or after which the viewer began).
    #[must_use]
    pub fn cursor(&self) -> Seq {
        self.cursor
    }

    /// Whether nothing follows: the run has ended (and the viewer does not stay for the next), or the task was deleted.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.is_over
    }

    /// Whether the next thing that it is handed is events: no gap has to be told, and the stream is not over.
    #[must_use]
    pub fn expects_events(&self) -> bool {
        self.gap.is_none() && !self.is_over
    }

    /// The place of a viewer that got the events up to this one and no further, of those that it was just handed.
    #[must_use]
    pub fn stopped_after(mut self, seq: Seq) -> Self {
        debug_assert!(seq >= self.cursor, "a viewer never goes back");
        self.cursor = seq;
        self
    }

    /// Nothing more is handed out.
    pub(crate) fn leave(&mut self) {
        self.is_over = true;
    }

    /// What a page that was read after this place's cursor has for it: its next events, or the gap before them.
    ///
    /// # Panics
    /// Where the page ends at or before the cursor: it was read for another place.
    #[must_use]
    pub fn take(&mut self, page: &Arc<Batch>) -> Delivery {
        if page.first_seq() > self.cursor + 1 {
            self.cursor = page.first_seq() - 1;
            return Delivery::Gap { reason: GapReason::Pruned, first_seq: page.first_seq() };
        }
        self.hand_out(Slice::after(page.clone(), self.cursor).expect("the page ends after the cursor"))
    }

    fn hand_out(&mut self, slice: Slice) -> Delivery {
        debug_assert_eq!(slice.events()[0].seq, self.cursor + 1, "a viewer gets a gapless run of the log");
        self.cursor = slice.last_seq();
        self.is_over = slice.ends_run() && !self.follow;
        Delivery::Events(slice)
    }
}

/// A viewer that is counted as long as this lives.
pub struct Viewed(Arc<Hub>);

impl Viewed {
    pub(crate) fn new(hub: Arc<Hub>) -> Self {
        hub.viewers.fetch_add(1, Ordering::Relaxed);
        Self(hub)
    }
}

impl Drop for Viewed {
    fn drop(&mut self) {
        self.0.viewers.fetch_sub(1, Ordering::Relaxed);
    }
}

impl fmt::Debug for Viewed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Viewed")
    }
}

/// What there is for a place.
#[derive(Debug)]
pub enum Looked {
    /// The next events, or a gap; the place stands behind them.
    Delivery(Delivery),
    /// Nothing yet. Who took the wake-up before it looked misses nothing.
    Nothing,
    /// What follows is in the store alone, up to this seq at the most: [`Audience::read`] it.
    InStore(Seq),
    /// Nothing more will come.
    Over,
}

/// The log of one task as its viewers in this process see it.
///
/// ```
/// # use std::sync::Arc;
/// # use soloist::{Context, Coordinator, Delivery, Failure, Json, MemoryStore, NewTask, StreamTask};
/// # use soloist::{Looked, SubscribeOptions, Subscribed};
/// # #[derive(serde::Serialize, serde::Deserialize)] struct Greet {}
/// # impl StreamTask for Greet {
/// #     const MODEL: &'static str = "Greet";
/// #     type Output = ();
/// #     async fn process(self, _: Context) -> Result<(), Failure> { Ok(()) }
/// # }
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> soloist::Result<()> {
/// # let coordinator =
/// #     Coordinator::builder(Arc::new(MemoryStore::new())).register::<Greet>("app").open().await?;
/// # let key: soloist::Key = "app/Greet/1".parse()?;
/// # coordinator.create(NewTask::named(key.clone(), Json::parse("{}")?)).await?;
/// let options = SubscribeOptions { autostart: true, ..Default::default() };
/// let Subscribed::Stream(viewer) = coordinator.subscribe(&key, options).await? else { unreachable!() };
/// let (mut audience, place, _viewed) = viewer.into_parts();
/// let mut places = [place; 3]; // three viewers, and one wake-up for all of them
/// while !places.iter().all(|place| place.is_over()) {
///     audience.mark_woken();
///     for place in &mut places {
///         while let Looked::Delivery(Delivery::Events(events)) = audience.look(place) {
///             println!("{} events", events.events().len());
///         }
///     }
///     if !places.iter().all(|place| place.is_over()) {
///         audience.woken().await;
///     }
/// }
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct Audience {
    key: Key,
    topic: Arc<TopicUse>,
    versions: watch::Receiver<u64>,
    store: Arc<dyn Store>,
}

impl fmt::Debug for Audience {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Audience({})", self.key)
    }
}

impl Audience {
    pub(crate) fn new(
        key: Key,
        topic: TopicUse,
        versions: watch::Receiver<u64>,
        store: Arc<dyn Store>,
    ) -> Self {
        Self { key, topic: Arc::new(topic), versions, store }
    }

    /// The task.
    #[must_use]
    pub fn key(&self) -> &Key {
        &self.key
    }

    /// Whether both are the audience of the same log: a task that was deleted and created anew has another one.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        self.topic.is_same(&other.topic)
    }

    /// Takes the wake-ups so far. To be called before looking.
    pub fn mark_woken(&mut self) {
        self.versions.mark_unchanged();
    }

    /// Returns once there may be something new since the last [`mark_woken`](Self::mark_woken).
    pub fn woken(&self) -> impl Future<Output = ()> + Send + 'static {
        let mut versions = self.versions.clone();
        async move {
            // The topic outlives its uses; where it is gone all the same there is nothing to wait for.
            let _ = versions.changed().await;
        }
    }

    /// What there is for a place, without waiting.
    pub fn look(&self, place: &mut Place) -> Looked {
        if let Some((reason, first_seq)) = place.gap.take() {
            return Looked::Delivery(Delivery::Gap { reason, first_seq });
        }
        if place.is_over {
            return Looked::Over;
        }
        match self.topic.look(place.cursor) {
            Look::Here(slice) => Looked::Delivery(place.hand_out(slice)),
            Look::Nothing => Looked::Nothing,
            Look::InStore(until) => Looked::InStore(until),
            Look::Deleted => {
                place.is_over = true;
                Looked::Over
            }
        }
    }

    /// The page of the log after a cursor, or what is left of it; none where it is gone. Who asks while it is read for
    /// another viewer gets the same.
    ///
    /// # Errors
    /// [`crate::Error::Unavailable`] where the store cannot be asked; call again to go on.
    pub async fn read(&self, after: Seq, until: Seq) -> Result<Option<Arc<Batch>>> {
        let _reading = self.topic.reading().await;
        if let Some(page) = self.topic.page(after) {
            return Ok(Some(page));
        }
        let range = EventRange {
            after,
            until,
            max_events: limits::PAGE_MAX_EVENTS,
            max_bytes: limits::PAGE_MAX_BYTES,
        };
        let events = self.store.events(&self.key, range).await?;
        if events.is_empty() {
            return Ok(None);
        }
        let page = Arc::new(Batch::new(events));
        self.topic.keep(page.clone());
        Ok(Some(page))
    }
}
