//! What waits between the work of a run and the store: bounded, in order.
//!
//! What the system itself has to say of a run that goes on (its time is over) goes the same way, after all that waits.
//!
//! Decides: when `send_event` has to wait (both bounds of [`limits`] count), and what the writer takes at once: all
//! that waits. There is no flush timer: while one batch is being committed the next one gathers here.
//!
//! Never decides a `seq`, and never drops an event: a sender waits, or is told that the run is over.

use std::collections::VecDeque;

use tokio::sync::Notify;

use crate::{
    Error, Result,
    event::NewEvent,
    limits,
    sync::{Mutex, MutexGuard},
};

#[derive(Debug)]
pub(crate) struct Pipeline {
    buffer: Mutex<Buffer>,
    /// Told when something was put in, or nothing will be any more.
    filled: Notify,
    /// Told when there is room again, or nobody will take any more.
    room: Notify,
}

#[derive(Debug, Default)]
struct Buffer {
    events: VecDeque<NewEvent>,
    bytes: usize,
    /// The last event of a terminal type that the work sent: it becomes part of the real ending.
    held_back: Option<NewEvent>,
    /// The run's time is over; to be written once, after so many of the events that wait.
    timed_out: Option<(usize, TimedOut)>,
    closed: Option<Closed>,
}

/// The time of an attempt, or of its run, is over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TimedOut {
    /// What was over, as the reason of the ending.
    pub(crate) reason: String,
    /// Whether the run goes on with another attempt.
    pub(crate) is_retried: bool,
}

/// What is to be written next.
#[derive(Debug)]
pub(crate) enum Taken {
    /// What the work has sent.
    Events(VecDeque<NewEvent>),
    /// The time is over.
    TimedOut(TimedOut),
}

/// Why nothing more is taken in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Closed {
    /// The work has returned (or was dropped); what waits is still written.
    Ended,
    /// Somebody else holds the task; what waits is lost with the run.
    Fenced,
}

impl Pipeline {
    pub(crate) fn new() -> Self {
        Self { buffer: Mutex::default(), filled: Notify::new(), room: Notify::new() }
    }

    fn lock(&self) -> MutexGuard<'_, Buffer> {
        self.buffer.lock().expect("no code panics while it holds the buffer")
    }

    /// Puts an event in, as soon as there is room. An event larger than the byte bound goes in alone.
    pub(crate) async fn send(&self, event: NewEvent) -> Result<()> {
        let bytes = event.data.as_str().len();
        loop {
            let room = self.room.notified();
            tokio::pin!(room);
            {
                let mut buffer = self.lock();
                match buffer.closed {
                    Some(Closed::Ended) => {
                        return Err(Error::refused("run_over", "the run is over; nothing more can be sent"));
                    }
                    Some(Closed::Fenced) => {
                        return Err(Error::Fenced {
                            message: "another epoch holds the task; stop the work".into(),
                        });
                    }
                    None => {}
                }
                if event.event_type.is_terminal() {
                    buffer.held_back = Some(event);
                    return Ok(());
                }
                let full = buffer.events.len() >= limits::PIPELINE_MAX_EVENTS
                    || buffer.bytes + bytes > limits::PIPELINE_MAX_BYTES;
                if !full || buffer.events.is_empty() {
                    buffer.bytes += bytes;
                    buffer.events.push_back(event);
                    drop(buffer);
                    self.filled.notify_one();
                    return Ok(());
                }
                // Registered under the lock, so that a take between here and the await is not missed.
                room.as_mut().enable();
            }
            room.await;
        }
    }

    /// The time is over: to be written after what waits by now, where the pipeline is not closed yet.
    pub(crate) fn time_out(&self, what: TimedOut) {
        let mut buffer = self.lock();
        if buffer.closed.is_none() {
            buffer.timed_out = Some((buffer.events.len(), what));
        }
        drop(buffer);
        self.filled.notify_one();
    }

    /// All that waits, as soon as something does. None once it is closed and empty.
    pub(crate) async fn take(&self) -> Option<Taken> {
        loop {
            {
                let mut buffer = self.lock();
                // Work that sends without a pause never lets the buffer be empty; its time is over all the same.
                let before = buffer.timed_out.as_ref().map(|(before, _)| *before);
                if before == Some(0) {
                    return buffer.timed_out.take().map(|(_, what)| Taken::TimedOut(what));
                }
                if !buffer.events.is_empty() {
                    let count = before.unwrap_or(buffer.events.len());
                    let events: VecDeque<NewEvent> = buffer.events.drain(..count).collect();
                    buffer.bytes = buffer.events.iter().map(|event| event.data.as_str().len()).sum();
                    if let Some((before, _)) = &mut buffer.timed_out {
                        *before = 0;
                    }
                    drop(buffer);
                    self.room.notify_waiters();
                    return Some(Taken::Events(events));
                }
                if buffer.closed.is_some() {
                    return None;
                }
            }
            // One writer: a permit that was stored in between wakes it at once.
            self.filled.notified().await;
        }
    }

    /// Takes nothing more in. The first reason stays.
    pub(crate) fn close(&self, why: Closed) {
        let mut buffer = self.lock();
        buffer.closed.get_or_insert(why);
        if why == Closed::Fenced {
            buffer.events.clear();
            buffer.bytes = 0;
            buffer.timed_out = None;
        }
        drop(buffer);
        self.room.notify_waiters();
        self.filled.notify_one();
    }

    /// The last event of a terminal type that the work sent.
    pub(crate) fn held_back(&self) -> Option<NewEvent> {
        self.lock().held_back.take()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::{Timestamp, event::Data};

    async fn taken(pipeline: &Pipeline) -> Option<usize> {
        match pipeline.take().await? {
            Taken::Events(events) => Some(events.len()),
            Taken::TimedOut(_) => panic!("nothing times out here"),
        }
    }

    fn event(event_type: &str, bytes: usize) -> NewEvent {
        let data = Data::Text("x".repeat(bytes).into());
        NewEvent::from_work(event_type, data, Timestamp::from_micros(0)).unwrap()
    }

    #[tokio::test]
    async fn s8_a_sender_waits_at_either_bound_and_goes_on_when_there_is_room() {
        for (bytes, fits) in [(0, limits::PIPELINE_MAX_EVENTS), (1 << 16, limits::PIPELINE_MAX_BYTES >> 16)] {
            let pipeline = Arc::new(Pipeline::new());
            for _ in 0..fits {
                pipeline.send(event("a", bytes)).await.unwrap();
            }
            let mut blocked = Box::pin(pipeline.send(event("b", bytes)));
            assert!(futures_util::poll!(blocked.as_mut()).is_pending());
            assert_eq!(taken(&pipeline).await, Some(fits));
            blocked.await.unwrap();
            assert_eq!(taken(&pipeline).await, Some(1));
        }
    }

    #[tokio::test]
    async fn what_waits_is_still_taken_after_the_work_ended_and_not_after_it_was_fenced() {
        for (why, left) in [(Closed::Ended, Some(1)), (Closed::Fenced, None)] {
            let pipeline = Pipeline::new();
            pipeline.send(event("a", 1)).await.unwrap();
            pipeline.close(why);
            assert!(pipeline.send(event("b", 1)).await.is_err());
            assert_eq!(taken(&pipeline).await, left);
            assert!(pipeline.take().await.is_none());
        }
    }

    #[tokio::test]
    async fn the_end_of_the_time_is_taken_in_its_place_however_much_is_sent_after_it() {
        let pipeline = Pipeline::new();
        let over = TimedOut { reason: "over".into(), is_retried: false };
        pipeline.send(event("a", 1)).await.unwrap();
        pipeline.time_out(over.clone());
        for _ in 0..3 {
            pipeline.send(event("b", 1)).await.unwrap();
        }
        assert_eq!(taken(&pipeline).await, Some(1));
        assert!(matches!(pipeline.take().await, Some(Taken::TimedOut(what)) if what == over));
        assert_eq!(taken(&pipeline).await, Some(3));
    }

    #[tokio::test]
    async fn the_last_event_of_a_terminal_type_is_held_back() {
        let pipeline = Pipeline::new();
        for event_type in ["error", "a", "complete"] {
            pipeline.send(event(event_type, 1)).await.unwrap();
        }
        assert_eq!(taken(&pipeline).await, Some(1));
        assert_eq!(pipeline.held_back().unwrap().event_type.as_str(), "complete");
        assert!(pipeline.held_back().is_none());
    }
}
