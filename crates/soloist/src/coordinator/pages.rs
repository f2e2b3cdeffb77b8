//! The log, page by page, for readers who cannot or will not keep a stream open.
//!
//! Decides: what a page says of how its task stands, and how long a reader waits for one. Never decides when there is
//! something to read: it takes a viewer's wake-up, and reads the store.

use std::time::Duration;

use super::Coordinator;
use crate::{
    Error, Key, Result,
    event::Event,
    limits,
    state::Status,
    store::EventRange,
    subscription::{SubscribeOptions, Subscribed},
    task::{Seq, Task},
};

/// A page of a task's log.
#[derive(Debug, Clone)]
pub struct EventPage {
    /// The events.
    pub events: Vec<Event>,
    /// The seq of the task's newest event.
    pub last_seq: Seq,
    /// Where the task stood when its newest event was that one. Never ahead of the events: where it is finished and there
    /// are no more events after this page, nothing comes without another start.
    pub status: Status,
}

impl Coordinator {
    /// A page of a task's log after a seq, at most `limit` events (and [`limits::PAGE_MAX_EVENTS`]).
    ///
    /// # Errors
    /// [`Error::NotFound`] `unknown_task`; [`Error::Unavailable`].
    pub async fn events(&self, key: &Key, after: Seq, limit: usize) -> Result<EventPage> {
        // The row first, for both the status and the end of the log: a status that is finished is written together with its
        // last event, so that event lies within what is read next. Read after the events, the status could be that of a
        // run whose end came in between, and a reader would leave without it.
        let Task { last_seq, status, .. } = self.task(key).await?;
        let range = EventRange {
            after,
            until: last_seq,
            max_events: limit.clamp(1, limits::PAGE_MAX_EVENTS),
            max_bytes: limits::PAGE_MAX_BYTES,
        };
        Ok(EventPage { events: self.inner.store.events(key, range).await?, last_seq, status })
    }

    /// The same page as soon as there is anything in it, whichever process writes it: for readers who cannot keep a stream
    /// open. It is empty where the task is finished and nothing stands after `after` (nothing comes then without another
    /// run), where `wait` is over, and where this process begins to shut down. Who comes while it shuts down waits like
    /// the others for what its runs still write, unless another process can serve him: then he is sent away.
    ///
    /// Dropped while it waits, it leaves nothing behind.
    ///
    /// ```
    /// # use std::{sync::Arc, time::Duration};
    /// # use soloist::{Context, Coordinator, Failure, Json, MemoryStore, NewTask, StartOptions, StreamTask};
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
    /// # coordinator.start(&key, StartOptions::default()).await?;
    /// // The whole log of a task until it is finished, without a stream.
    /// let mut seen = 0;
    /// loop {
    ///     let page = coordinator.next_events(&key, seen, 100, Duration::from_secs(30)).await?;
    ///     let Some(last) = page.events.last() else {
    ///         if page.status.is_finished() {
    ///             break;
    ///         }
    ///         continue; // nothing for 30 s
    ///     };
    ///     seen = last.seq;
    /// }
    /// assert_eq!(seen, 1, "the event that ended the run");
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`Error::NotFound`] `unknown_task`, also where the task is deleted meanwhile; [`Error::Closed`] where there is nothing
    /// yet, and another process serves who waits; [`Error::Unavailable`].
    pub async fn next_events(
        &self,
        key: &Key,
        after: Seq,
        limit: usize,
        wait: Duration,
    ) -> Result<EventPage> {
        let over = tokio::time::sleep(wait);
        tokio::pin!(over);
        let sent_away = match self.draining().is_cancelled() {
            // Answered at once he would ask again at once, until the last run here has ended.
            true => self.leaving(),
            false => self.draining(),
        };
        // The wake-up first, then the page, then the wait: what is written in between wakes this viewer. He stands at the
        // tail whatever `after` is, and stays for the next runs: he is there to be woken, the page is read for itself.
        let options = SubscribeOptions { from: crate::From::Tail, follow: true, autostart: false };
        let mut viewer = match self.subscribe(key, options).await? {
            Subscribed::Stream(viewer) => viewer,
            Subscribed::Ended => return self.events(key, after, limit).await,
        };
        loop {
            let page = self.events(key, after, limit).await?;
            if !page.events.is_empty() || page.status.is_finished() {
                return Ok(page);
            }
            let is_over = tokio::select! {
                biased;
                // Somebody has written, or (none) the task is gone or this process through with its work.
                woken = viewer.next() => woken?.is_none(),
                () = sent_away.cancelled() => true,
                () = &mut over => true,
            };
            if is_over {
                // Read once more: a wake-up may have been lost, and the status may be another one.
                let page = self.events(key, after, limit).await?;
                let is_sent_away = self.leaving().is_cancelled() && page.events.is_empty();
                // Whoever got an empty page would ask again at once.
                return if is_sent_away { Err(Error::Closed) } else { Ok(page) };
            }
        }
    }
}
