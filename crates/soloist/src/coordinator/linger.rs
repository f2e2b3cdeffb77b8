//! What is kept of finished runs, for viewers that come late.
//!
//! Decides: when a finished run's topic is let go: after the linger, or earlier where more than
//! [`limits::LINGER_MAX_TASKS`] tasks or [`limits::LINGER_MAX_BYTES`] are kept (the oldest go first). Never decides what a
//! viewer gets: whoever comes later is served from the store.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use tokio::time::Instant;

use crate::{
    hub::TopicUse,
    limits,
    sync::{Mutex, MutexGuard},
};

pub(super) struct Linger {
    duration: Duration,
    kept: Arc<Mutex<Kept>>,
}

#[derive(Default)]
struct Kept {
    /// In the order in which they are let go.
    topics: VecDeque<(Instant, usize, TopicUse)>,
    bytes: usize,
    /// Whether somebody waits to let the next one go.
    watched: bool,
}

impl Linger {
    pub(super) fn new(duration: Duration) -> Self {
        Self { duration, kept: Arc::default() }
    }

    /// Keeps the topic of a run that is over.
    pub(super) fn keep(&self, topic: TopicUse) {
        if self.duration.is_zero() {
            return;
        }
        let bytes = topic.bytes();
        let mut gone = Vec::new();
        let mut kept = lock(&self.kept);
        kept.topics.push_back((Instant::now() + self.duration, bytes, topic));
        kept.bytes += bytes;
        while kept.topics.len() > limits::LINGER_MAX_TASKS || kept.bytes > limits::LINGER_MAX_BYTES {
            gone.extend(kept.pop());
        }
        if !kept.watched && !kept.topics.is_empty() {
            kept.watched = true;
            tokio::spawn(let_go(self.kept.clone()));
        }
        drop(kept);
        // Let go after the lock: the last use of a topic takes the hub's.
        drop(gone);
    }

    pub(super) fn clear(&self) {
        let mut kept = lock(&self.kept);
        kept.bytes = 0;
        let gone = std::mem::take(&mut kept.topics);
        drop(kept);
        drop(gone);
    }
}

impl Kept {
    fn pop(&mut self) -> Option<TopicUse> {
        let (_, bytes, topic) = self.topics.pop_front()?;
        self.bytes -= bytes;
        Some(topic)
    }
}

fn lock(kept: &Mutex<Kept>) -> MutexGuard<'_, Kept> {
    kept.lock().expect("no code panics while it holds what is kept")
}

async fn let_go(kept: Arc<Mutex<Kept>>) {
    loop {
        let mut gone = Vec::new();
        let next = {
            let mut kept = lock(&kept);
            let now = Instant::now();
            while kept.topics.front().is_some_and(|(until, ..)| *until <= now) {
                gone.extend(kept.pop());
            }
            let next = kept.topics.front().map(|(until, ..)| *until);
            kept.watched = next.is_some();
            next
        };
        drop(gone);
        let Some(next) = next else { return };
        tokio::time::sleep_until(next).await;
    }
}
