//! How work is run: the seam between the coordinator and whatever does the work.
//!
//! Decides: what a [`Runner`] is given ([`Context`]) and what it gives back (a final value, or a
//! [`Failure`]). A runner holds no rule of the protocol: it cannot write a status, choose a `seq` or
//! end a run other than by returning.

use std::{future::Future, sync::Arc, time::Duration};

use async_trait::async_trait;
use futures_util::{Stream, StreamExt};
use serde::{Serialize, de::DeserializeOwned};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::{
    Error, Failure, Json, Key, Result, Timestamp,
    clock::SharedClock,
    event::{Data, NewEvent},
    lease::RunLease,
    pipeline::Pipeline,
    store::{Signal, Store},
    task::{Epoch, Run},
    trace::TraceContext,
};

/// Executes the tasks of one model.
#[async_trait]
pub trait Runner: Send + Sync + 'static {
    /// The kind, for people and logs: `native`, `exec`.
    fn kind(&self) -> &'static str;

    /// Whether this runner can read an input. Asked before anything is created.
    ///
    /// # Errors
    /// [`Error::Invalid`] with the code `invalid_input`, saying what does not fit.
    fn check(&self, input: &Json) -> Result<()>;

    /// Does the work of one attempt. Returns its final value, or why it failed. Once `context.cancelled()` is ready
    /// it should let go; after a grace the future is dropped, and whatever it started must end with it.
    async fn run(&self, input: Json, context: Context) -> Result<Json, Failure>;

    /// The lease of this process was renewed: all work of this runner must have been ended at `work_ends_at`, a moment
    /// of the boot clock ([`crate::HostBootClock`], unless the builder was handed another one), unless a later one is
    /// named until then. The coordinator drops attempts then, but it cannot where its own process is stopped; a runner
    /// whose work goes on outside of the process has whatever watches that work end it then.
    ///
    /// Called on the thread that keeps this process alive on record: it must neither wait nor panic.
    fn lease_renewed(&self, work_ends_at: Duration) {
        let _ = work_ends_at;
    }
}

/// What the work of an attempt may use. Cheap to clone.
#[derive(Clone)]
pub struct Context {
    shared: Arc<Shared>,
}

struct Shared {
    lease: RunLease,
    pipeline: Arc<Pipeline>,
    cancel: CancellationToken,
    signals: Signals,
    clock: SharedClock,
}

/// What `wait_signal` reads from.
pub(crate) struct Signals {
    pub(crate) store: Arc<dyn Store>,
    /// Rises with every signal that was recorded; a hint, the store is the truth.
    pub(crate) wake: watch::Receiver<u64>,
    /// The number of the last signal that this attempt was handed, of each name.
    pub(crate) read: tokio::sync::Mutex<std::collections::HashMap<String, u64>>,
    /// The same, of those that were asked for whatever their name.
    pub(crate) read_any: tokio::sync::Mutex<u64>,
}

impl Context {
    pub(crate) fn new(
        lease: RunLease,
        pipeline: Arc<Pipeline>,
        cancel: CancellationToken,
        signals: Signals,
        clock: SharedClock,
    ) -> Self {
        Self { shared: Arc::new(Shared { lease, pipeline, cancel, signals, clock }) }
    }

    /// The task.
    #[must_use]
    pub fn key(&self) -> &Key {
        self.shared.lease.key()
    }

    /// The number of this run.
    #[must_use]
    pub fn run(&self) -> Run {
        self.shared.lease.run()
    }

    /// The number of this attempt of the run, from 1.
    #[must_use]
    pub fn attempt(&self) -> u32 {
        self.shared.lease.attempt()
    }

    /// When this run began: its first attempt, so it is the same for all of them, whichever node carries them out. What is
    /// to end a while after that counts from here.
    #[must_use]
    pub fn started_at(&self) -> Timestamp {
        self.shared.lease.since()
    }

    /// The trace that the start of this run was part of, where whoever started it named one: the same for every attempt of
    /// the run, on whatever node. Hand it on to what the work calls.
    #[must_use]
    pub fn trace(&self) -> Option<&TraceContext> {
        self.shared.lease.trace()
    }

    /// The fencing token of this attempt. Hand it on to systems outside that can refuse an older one.
    #[must_use]
    pub fn epoch(&self) -> Epoch {
        self.shared.lease.epoch()
    }

    /// Sends an event with any value that can be written as JSON. Waits only for room in a bounded pipeline; the event
    /// is on record (and shown to viewers) a little later, in order.
    ///
    /// An event of a terminal type (`complete`, `error`, `cancelled`) is held back: its data become part of the real
    /// terminal event, which the system writes when the run ends. The last one counts.
    ///
    /// # Errors
    /// [`Error::Invalid`] and [`Error::LimitReached`] for an event that is not allowed; [`Error::Fenced`] and
    /// [`Error::Refused`] once this attempt may not write any more.
    pub async fn send_event<T: Serialize + ?Sized>(&self, event_type: &str, data: &T) -> Result<()> {
        self.send(event_type, Data::Json(Json::of(data)?)).await
    }

    /// Sends an event whose data are JSON text or any other text as it is.
    ///
    /// # Errors
    /// As [`Context::send_event`].
    pub async fn send(&self, event_type: &str, data: Data) -> Result<()> {
        let event = NewEvent::from_work(event_type, data, self.shared.clock.now())?;
        self.shared.pipeline.send(event).await
    }

    /// Sends each item of a stream as a `progress` event and returns the last one, the result.
    ///
    /// # Errors
    /// As [`Context::send_event`].
    pub async fn stream<S>(&self, items: S) -> Result<Option<S::Item>>
    where
        S: Stream,
        S::Item: Serialize,
    {
        let mut items = std::pin::pin!(items);
        let mut last = None;
        while let Some(item) = items.next().await {
            self.send_event("progress", &item).await?;
            last = Some(item);
        }
        Ok(last)
    }

    /// Sends each item of an iterator as a `progress` event and returns the last one, the result.
    ///
    /// # Errors
    /// As [`Context::send_event`].
    pub async fn iter<I>(&self, items: I) -> Result<Option<I::Item>>
    where
        I: IntoIterator,
        I::Item: Serialize,
    {
        self.stream(futures_util::stream::iter(items)).await
    }

    /// Ready once the work is asked to stop.
    pub async fn cancelled(&self) {
        self.shared.cancel.cancelled().await;
    }

    /// Whether the work is asked to stop.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.shared.cancel.is_cancelled()
    }

    /// The next signal of that name that this attempt has not been handed yet, as soon as there is one; none after
    /// `timeout`. Signals are durable: one that was sent before the work listened is handed out at once, and a new
    /// attempt is handed all signals of its run again, from the first.
    ///
    /// # Errors
    /// [`Error::Unavailable`] where the store cannot be asked.
    pub async fn wait_signal(&self, name: &str, timeout: Duration) -> Result<Option<Json>> {
        tokio::time::timeout(timeout, self.next_of_name(name)).await.unwrap_or(Ok(None))
    }

    /// The next signal, whatever its name, that this call has not handed out to this attempt yet, as soon as there is one: all
    /// signals of the run, in the order in which they were sent, from the first. Apart from [`Context::wait_signal`]: what one
    /// of the two has handed out the other one still does.
    ///
    /// May be dropped while it waits; nothing is lost.
    ///
    /// # Errors
    /// [`Error::Unavailable`] where the store cannot be asked; [`Error::Closed`] where nobody waits for the run any more.
    pub async fn next_signal(&self) -> Result<Signal> {
        let signals = &self.shared.signals;
        let mut last = signals.read_any.lock().await;
        let mut wake = signals.wake.clone();
        loop {
            wake.mark_unchanged();
            let next = signals.store.signals(self.key(), self.run(), *last, 1).await?;
            if let Some(signal) = next.into_iter().next() {
                *last = signal.number;
                return Ok(signal);
            }
            wake.changed().await.map_err(|_| Error::Closed)?;
        }
    }

    async fn next_of_name(&self, name: &str) -> Result<Option<Json>> {
        let signals = &self.shared.signals;
        let mut read = signals.read.lock().await;
        let last = read.entry(name.to_owned()).or_default();
        let mut wake = signals.wake.clone();
        // How far this call has looked; signals of other names are passed over, not taken.
        let mut looked = *last;
        loop {
            wake.mark_unchanged();
            loop {
                let page = signals
                    .store
                    .signals(self.key(), self.run(), looked, crate::limits::PAGE_MAX_EVENTS)
                    .await?;
                let Some(end) = page.last().map(|signal| signal.number) else { break };
                if let Some(signal) = page.into_iter().find(|signal| signal.name == name) {
                    *last = signal.number;
                    return Ok(Some(signal.data));
                }
                looked = end;
            }
            if wake.changed().await.is_err() {
                return Ok(None);
            }
        }
    }
}

impl std::fmt::Debug for Context {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Context").field(&self.shared.lease).finish()
    }
}

/// A kind of task written in Rust. Its fields are the task's input.
///
/// ```
/// use soloist::{Context, Failure, StreamTask};
///
/// #[derive(serde::Serialize, serde::Deserialize)]
/// struct Count { to: u32 }
///
/// impl StreamTask for Count {
///     const MODEL: &'static str = "Count";
///     type Output = u32;
///
///     async fn process(self, context: Context) -> Result<u32, Failure> {
///         for i in 1..=self.to {
///             context.send_event("progress", &serde_json::json!({"step": i, "total": self.to})).await?;
///         }
///         Ok(self.to)
///     }
/// }
/// ```
pub trait StreamTask: Serialize + DeserializeOwned + Send + 'static {
    /// The name of the model.
    const MODEL: &'static str;

    /// What the work returns: the task's `final_value`.
    type Output: Serialize;

    /// Does the work. An error, a panic and an early return all end the attempt as a failure or a result; none leaves
    /// the task running. Work that blocks its thread cannot be stopped: let go at an `.await`, or when
    /// [`Context::is_cancelled`] says so.
    fn process(self, context: Context) -> impl Future<Output = Result<Self::Output, Failure>> + Send;
}

/// The [`Runner`] of a [`StreamTask`].
pub(crate) struct Native<T>(std::marker::PhantomData<fn() -> T>);

impl<T> Native<T> {
    pub(crate) fn new() -> Self {
        Self(std::marker::PhantomData)
    }
}

#[async_trait]
impl<T: StreamTask> Runner for Native<T> {
    fn kind(&self) -> &'static str {
        "native"
    }

    fn check(&self, input: &Json) -> Result<()> {
        input.read::<T>().map(drop).map_err(|e| {
            Error::invalid("invalid_input", format!("the input does not fit the model {}: {e}", T::MODEL))
        })
    }

    async fn run(&self, input: Json, context: Context) -> Result<Json, Failure> {
        let task: T = input.read()?;
        let output = task.process(context).await?;
        Ok(Json::of(&output)?)
    }
}
