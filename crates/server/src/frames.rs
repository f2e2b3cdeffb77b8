//! The stream of one viewer, and its body where the server is part of another app.
//!
//! Decides: when a viewer gets a heartbeat, and how it is sent away. Pull only: nothing is asked of the subscription
//! before the connection has room, so that a viewer which does not read costs its socket's buffer and nothing else.
//! Events are handed on as views of the bytes that were encoded once for all viewers.
//!
//! Where [`serve`](crate::serve) has the connection itself, the stream leaves the body for the loop that serves many viewers
//! ([`Handover`]); what stands in it is the same.

use std::{
    convert::Infallible,
    pin::Pin,
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::body::Body;
use bytes::Bytes;
use futures_util::stream;
use rand::RngExt as _;
use soloist::{Coordinator, Delivery, Subscription, limits};
use soloist_wire::sse::{self, Format, Source};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

use crate::{
    convert,
    problem::Problem,
    state::{Ids, ServerOptions},
};

/// What a viewer is told who is sent away.
pub(crate) const STOPPING: &str = "the server is stopping";

/// What ends the streams of a server.
pub(crate) struct Stops {
    /// The server was told to stop.
    pub(crate) stop: CancellationToken,
    /// The server shuts down, and another one serves its viewers.
    pub(crate) leaving: CancellationToken,
    /// The process is through with its work.
    pub(crate) closing: CancellationToken,
}

impl Stops {
    pub(crate) fn of(coordinator: &Coordinator, options: &ServerOptions) -> Self {
        Self { stop: options.stop.clone(), leaving: coordinator.leaving(), closing: coordinator.closing() }
    }
}

/// The stream of an answer, for whoever takes it first: the body of the answer, or the owner of the connection.
#[derive(Clone)]
pub(crate) struct Handover(Arc<Mutex<Option<Box<Frames>>>>);

impl Handover {
    pub(crate) fn new(frames: Frames) -> Self {
        Self(Arc::new(Mutex::new(Some(Box::new(frames)))))
    }

    pub(crate) fn take(&self) -> Option<Box<Frames>> {
        self.0.lock().expect("no code panics while it holds the stream").take()
    }

    /// The stream as a body, should nobody take it before it is read.
    pub(crate) fn body(&self) -> Body {
        let frames = futures_util::future::Either::Left(self.clone());
        Body::from_stream(stream::unfold(frames, |frames| async {
            use futures_util::future::Either::{Left, Right};
            let mut frames = match frames {
                Left(handover) => handover.take()?,
                Right(frames) => frames,
            };
            let chunk = frames.next().await?;
            Some((Ok::<_, Infallible>(chunk), Right(frames)))
        }))
    }
}

/// The frames of one viewer.
pub(crate) struct Frames {
    subscription: Subscription,
    source: Source,
    format: Format,
    ids: Ids,
    heartbeat: Duration,
    /// The server was told to stop.
    stop: Pin<Box<WaitForCancellationFutureOwned>>,
    /// The server shuts down, and another one serves its viewers.
    leaving: Pin<Box<WaitForCancellationFutureOwned>>,
    /// The process is through with its work.
    closing: CancellationToken,
    place: Place,
    /// What was written last ended a run.
    ended: bool,
    /// The store could not be asked; from then on it is asked again.
    again_at: Option<Instant>,
}

/// How far a stream is.
enum Place {
    /// Nothing was written yet.
    Beginning,
    /// Events and heartbeats.
    Open,
    /// Its last bytes were written.
    Over,
}

impl Frames {
    pub(crate) fn new(
        subscription: Subscription,
        format: Format,
        coordinator: &Coordinator,
        options: &ServerOptions,
    ) -> Self {
        Self {
            source: convert::source(&subscription.task().key),
            subscription,
            format,
            ids: options.ids,
            heartbeat: options.heartbeat,
            stop: Box::pin(options.stop.clone().cancelled_owned()),
            leaving: Box::pin(coordinator.leaving().cancelled_owned()),
            closing: coordinator.closing(),
            place: Place::Beginning,
            ended: false,
            again_at: None,
        }
    }

    /// What a loop needs that serves many.
    pub(crate) fn into_parts(self) -> (Format, Ids, Subscription) {
        (self.format, self.ids, self.subscription)
    }

    /// What is to be written next; none where the stream is over.
    async fn next(&mut self) -> Option<Bytes> {
        match self.place {
            Place::Beginning => {
                self.place = Place::Open;
                let mut out = Vec::new();
                sse::retry(&mut out, limits::SSE_RETRY_MS);
                Some(out.into())
            }
            Place::Open => self.next_delivery().await,
            Place::Over => None,
        }
    }

    async fn next_delivery(&mut self) -> Option<Bytes> {
        let silent_until = Instant::now() + self.heartbeat;
        let delivery = loop {
            let next = async {
                if let Some(at) = self.again_at {
                    sleep_until(at).await;
                }
                self.subscription.next().await
            };
            let delivery = tokio::select! {
                biased;
                // Another server has all that is there, and a viewer that catches up would never come to an end here.
                () = &mut self.leaving => return Some(self.leave(STOPPING)),
                // What is there goes out before anybody is sent away: the end of a run may come with the end of the server.
                delivery = next => delivery,
                () = &mut self.stop => return Some(self.leave(STOPPING)),
                () = sleep_until(silent_until) => {
                    let mut out = Vec::new();
                    sse::comment(&mut out, "heartbeat");
                    return Some(out.into());
                }
            };
            // Nothing is lost while the store is away, and nothing is gained by sending the viewer to another door of it.
            match delivery {
                Err(soloist::Error::Unavailable { .. } | soloist::Error::Full { .. }) => {
                    self.again_at = Some(Instant::now() + limits::STORE_RETRY_MAX);
                }
                delivery => break delivery,
            }
        };
        self.again_at = None;
        match delivery {
            Ok(Some(delivery)) => {
                self.ended = matches!(&delivery, Delivery::Events(events) if events.ends_run());
                Some(self.write(&delivery))
            }
            Ok(None) if self.closing.is_cancelled() && !self.ended => Some(self.leave(STOPPING)),
            Ok(None) => None,
            Err(error) => Some(self.leave(&Problem::from(error).detail)),
        }
    }

    fn write(&self, delivery: &Delivery) -> Bytes {
        match delivery {
            Delivery::Events(events) => events.encoded(convert::slot(self.format), |event, out| {
                convert::frame(&self.source, self.format, self.ids, event, out);
            }),
            Delivery::Gap { reason, first_seq } => {
                let mut out = Vec::new();
                self.source.gap(&mut out, self.format, reason.as_str(), *first_seq);
                out.into()
            }
        }
    }

    fn leave(&mut self, why: &str) -> Bytes {
        self.place = Place::Over;
        farewell(why)
    }
}

/// The last bytes for a viewer that should come back, with its id, after a time that is not the same for all.
pub(crate) fn farewell(why: &str) -> Bytes {
    let least = limits::SSE_COME_BACK_MS;
    let mut out = Vec::new();
    sse::retry(&mut out, rand::rng().random_range(least..=2 * least));
    sse::comment(&mut out, why);
    out.into()
}
