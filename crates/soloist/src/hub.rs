//! Wake-ups and recent events, inside one process.
//!
//! Decides: what a viewer can read from memory, and when it should look again. A [`Topic`] is what this process keeps
//! for one task: a bounded window of the newest batches, and a version that rises whenever a viewer should look. It
//! stays while a run, a viewer or the linger uses it, and goes with its last use.
//!
//! Never decides: what is true. The log in the store is; a topic may lag, may have forgotten, may be gone. A batch
//! comes here only after its commit. While a run of this process is under way nobody reads past what was shown here, so
//! that the terminal event reaches no viewer before this process has forgotten the run.

use std::{collections::VecDeque, sync::Arc};

use tokio::sync::watch;

use crate::{
    Key,
    chance::Map,
    event::{Batch, Slice},
    limits,
    sync::{
        Mutex, MutexGuard,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Epoch, Seq},
};

/// All topics of this process.
#[derive(Debug, Default)]
pub(crate) struct Hub {
    topics: Mutex<Topics>,
    pub(crate) viewers: AtomicUsize,
}

#[derive(Debug, Default)]
struct Topics {
    held: Map<Key, Held>,
    /// Those with viewers: few, where thousands are kept of what has ended.
    watched: Map<Key, Arc<Topic>>,
}

#[derive(Debug)]
struct Held {
    topic: Arc<Topic>,
    uses: usize,
    /// How many of the uses are viewers'.
    viewers: usize,
}

/// What a topic is used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum For {
    /// To write to it, to keep it, or to look once.
    Run,
    /// To follow what is written to it.
    Viewer,
}

/// What this process keeps of one task's log.
#[derive(Debug)]
pub(crate) struct Topic {
    state: Mutex<State>,
    /// Rises whenever a viewer should look again.
    version: watch::Sender<u64>,
    /// Held by who reads the store for the viewers here.
    reading: tokio::sync::Mutex<()>,
}

#[derive(Debug, Default)]
struct State {
    /// Batches that follow each other without a hole.
    window: VecDeque<Arc<Batch>>,
    events: usize,
    bytes: usize,
    /// While a run of this process is under way: its epoch, and the last seq that viewers may see.
    shown: Option<(Epoch, Seq)>,
    /// While no run of this process is under way: the end of the log, as far as it was seen. What lies beyond it is
    /// read once for all viewers, and then shown.
    known: Seq,
    /// Pages of the log that were read for a viewer behind the window, the newest last.
    pages: VecDeque<Arc<Batch>>,
    deleted: bool,
}

/// What a topic says to a viewer that stands at a cursor.
#[derive(Debug)]
pub(crate) enum Look {
    /// The events after the cursor are here.
    Here(Slice),
    /// They are not here; the store may have some, up to this seq.
    InStore(Seq),
    /// There is nothing after the cursor yet.
    Nothing,
    /// The task was deleted.
    Deleted,
}

impl Hub {
    fn lock(&self) -> MutexGuard<'_, Topics> {
        self.topics.lock().expect("no code panics while it holds the topics")
    }

    /// The topic of a task, kept at least as long as what is returned.
    pub(crate) fn topic(self: &Arc<Self>, key: &Key, used_for: For) -> TopicUse {
        let mut topics = self.lock();
        if !topics.held.contains_key(key) {
            let topic = Arc::new(Topic {
                state: Mutex::default(),
                version: watch::Sender::new(0),
                reading: tokio::sync::Mutex::default(),
            });
            topics.held.insert(key.clone(), Held { topic, uses: 0, viewers: 0 });
        }
        topics.take(self, key, used_for).expect("it is held")
    }

    /// The topic of a task where something uses it already.
    pub(crate) fn existing(self: &Arc<Self>, key: &Key) -> Option<TopicUse> {
        self.lock().take(self, key, For::Run)
    }

    /// The task is gone, and its events with it: its viewers are told, and a new task of that key gets a topic of its
    /// own. Where a run of this process is under way, the answer to the delete was late: the topic is that of a newer
    /// task, and stays.
    pub(crate) fn delete(&self, key: &Key) {
        let mut topics = self.lock();
        let Some(held) = topics.held.get(key) else { return };
        let mut state = held.topic.lock();
        if state.shown.is_some() {
            return;
        }
        state.deleted = true;
        drop(state);
        held.topic.wake();
        topics.held.remove(key);
        topics.watched.remove(key);
    }

    /// The tasks that somebody here watches and no run of this process writes to.
    pub(crate) fn watched(self: &Arc<Self>) -> Vec<(Key, TopicUse)> {
        let mut topics = self.lock();
        let followed = topics.watched.iter().filter(|(_, topic)| topic.is_followed());
        let keys: Vec<Key> = followed.map(|(key, _)| key.clone()).collect();
        keys.into_iter().filter_map(|key| topics.take(self, &key, For::Run).map(|used| (key, used))).collect()
    }

    /// How many tasks something is kept for.
    pub(crate) fn kept(&self) -> usize {
        self.lock().held.len()
    }

    pub(crate) fn viewers(&self) -> usize {
        self.viewers.load(Ordering::Relaxed)
    }
}

impl Topics {
    fn take(&mut self, hub: &Arc<Hub>, key: &Key, used_for: For) -> Option<TopicUse> {
        let held = self.held.get_mut(key)?;
        held.uses += 1;
        if used_for == For::Viewer {
            held.viewers += 1;
            if held.viewers == 1 {
                self.watched.insert(key.clone(), held.topic.clone());
            }
        }
        Some(TopicUse { hub: hub.clone(), key: key.clone(), topic: held.topic.clone(), used_for })
    }
}

/// A use of a topic. The topic goes with the last of them.
#[derive(Debug)]
pub(crate) struct TopicUse {
    hub: Arc<Hub>,
    key: Key,
    topic: Arc<Topic>,
    used_for: For,
}

impl std::ops::Deref for TopicUse {
    type Target = Topic;

    fn deref(&self) -> &Topic {
        &self.topic
    }
}

impl TopicUse {
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.topic, &other.topic)
    }
}

impl Drop for TopicUse {
    fn drop(&mut self) {
        let mut topics = self.hub.lock();
        let Some(held) = topics.held.get_mut(&self.key) else { return };
        if !Arc::ptr_eq(&held.topic, &self.topic) {
            return;
        }
        held.uses -= 1;
        held.viewers -= usize::from(self.used_for == For::Viewer);
        let (is_unused, is_unwatched) = (held.uses == 0, held.viewers == 0);
        if is_unwatched && self.used_for == For::Viewer {
            topics.watched.remove(&self.key);
        }
        if is_unused {
            topics.held.remove(&self.key);
        }
    }
}

impl Topic {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no code panics while it holds the window")
    }

    fn wake(&self) {
        self.version.send_modify(|version| *version += 1);
    }

    /// To be told when to look again. Take it before looking.
    pub(crate) fn versions(&self) -> watch::Receiver<u64> {
        self.version.subscribe()
    }

    /// Bytes that are kept in memory.
    pub(crate) fn bytes(&self) -> usize {
        let state = self.lock();
        state.bytes + state.pages.iter().map(|page| page.held_bytes()).sum::<usize>()
    }

    /// Whether viewers wait for what a run of another process writes. One that has just arrived has not read the task yet,
    /// which somebody may be about to create: it takes the wake-up when it has, and until then nobody finds the task missing
    /// on its behalf.
    fn is_followed(&self) -> bool {
        self.version.receiver_count() > 0 && self.lock().shown.is_none()
    }

    /// The end of the log, as far as it was seen here.
    pub(crate) fn seen(&self) -> Seq {
        self.lock().known
    }

    /// The log is on record up to this seq: whoever is not there yet should look.
    pub(crate) fn known(&self, last_seq: Seq) {
        let mut state = self.lock();
        if last_seq > state.known {
            state.known = last_seq;
            drop(state);
            self.wake();
        }
    }

    /// The end of what was seen of the log, where that is before `last_seq` and no run of this process goes on.
    pub(crate) fn behind(&self, last_seq: Seq) -> Option<Seq> {
        let state = self.lock();
        (state.shown.is_none() && state.known < last_seq).then_some(state.known)
    }

    /// A run of this process begins under this epoch; its log so far ends at `last_seq`. Where the news of its claim are so late
    /// that a newer one has begun, that one goes on.
    pub(crate) fn run_begins(&self, epoch: Epoch, last_seq: Seq) {
        let mut state = self.lock();
        if state.shown.is_none_or(|(of, _)| of < epoch) {
            state.shown = Some((epoch, last_seq));
        }
        state.known = last_seq.max(state.known);
        drop(state);
        self.wake();
    }

    /// A batch is on record; show it.
    pub(crate) fn show(&self, batch: Arc<Batch>) {
        let mut state = self.lock();
        if let Some((_, shown)) = &mut state.shown {
            *shown = batch.last_seq().max(*shown);
        }
        state.known = batch.last_seq().max(state.known);
        state.push(batch, self.window_max_bytes());
        drop(state);
        self.wake();
    }

    /// How much of the log is kept for viewers. Without any it is what one needs who comes in a moment: ten thousand runs
    /// that nobody watches do not fill the memory.
    fn window_max_bytes(&self) -> usize {
        match self.version.receiver_count() {
            0 => limits::WINDOW_UNWATCHED_MAX_BYTES,
            _ => limits::WINDOW_MAX_BYTES,
        }
    }

    /// The run of this epoch is over and forgotten; show its last batch, if there is one. A newer run of this process
    /// that has begun meanwhile goes on.
    pub(crate) fn run_ends(&self, epoch: Epoch, last: Option<Arc<Batch>>) {
        let mut state = self.lock();
        if state.shown.is_some_and(|(of, _)| of == epoch) {
            state.shown = None;
        }
        if let Some(batch) = last {
            state.known = batch.last_seq().max(state.known);
            state.push(batch, self.window_max_bytes());
        }
        drop(state);
        self.wake();
    }

    /// Waits until nobody else here reads the store.
    pub(crate) async fn reading(&self) -> tokio::sync::MutexGuard<'_, ()> {
        self.reading.lock().await
    }

    /// The page with the event after a cursor, if it was read lately.
    pub(crate) fn page(&self, cursor: Seq) -> Option<Arc<Batch>> {
        self.lock().page(cursor).cloned()
    }

    /// Keeps a page for the others who want it.
    pub(crate) fn keep(&self, page: Arc<Batch>) {
        let mut state = self.lock();
        state.pages.push_back(page);
        let mut bytes: usize = state.pages.iter().map(|page| page.held_bytes()).sum();
        while state.pages.len() > 1 && bytes > limits::PAGES_SHARED_MAX_BYTES {
            bytes -= state.pages.pop_front().expect("there is more than one").held_bytes();
        }
    }

    /// What there is after a cursor.
    pub(crate) fn look(&self, cursor: Seq) -> Look {
        let mut state = self.lock();
        if state.deleted {
            return Look::Deleted;
        }
        let in_window = match (state.window.front(), state.window.back()) {
            (Some(first), Some(last)) => first.first_seq() <= cursor + 1 && cursor < last.last_seq(),
            _ => false,
        };
        if in_window {
            let index = state.window.partition_point(|batch| batch.last_seq() <= cursor);
            let slice = Slice::after(state.window[index].clone(), cursor);
            return Look::Here(slice.expect("the batch ends after the cursor"));
        }
        if let Some(page) = state.page(cursor) {
            return Look::Here(Slice::after(page.clone(), cursor).expect("the page ends after the cursor"));
        }
        let end = state.shown.map_or(state.known, |(_, shown)| shown);
        if cursor < end {
            return Look::InStore(end);
        }
        // Somebody is through with the log: pages that were read for those behind are not kept for nobody.
        state.pages.clear();
        Look::Nothing
    }
}

impl State {
    fn page(&self, cursor: Seq) -> Option<&Arc<Batch>> {
        self.pages.iter().rev().find(|page| page.first_seq() <= cursor + 1 && cursor < page.last_seq())
    }

    /// Keeps the window dense and within its bounds. A batch that comes late (a newer one is here) stays in the store
    /// alone; one after a hole begins the window anew.
    fn push(&mut self, batch: Arc<Batch>, max_bytes: usize) {
        if let Some(last) = self.window.back().map(|b| b.last_seq()) {
            if batch.last_seq() <= last {
                return;
            }
            if batch.first_seq() <= last {
                let rest = batch.events().iter().filter(|event| event.seq > last).cloned().collect();
                return self.push(Arc::new(Batch::new(rest)), max_bytes);
            }
            if batch.first_seq() != last + 1 {
                self.window.clear();
                (self.events, self.bytes) = (0, 0);
            }
        }
        self.events += batch.events().len();
        self.bytes += batch.held_bytes();
        self.window.push_back(batch);
        while self.window.len() > 1 && (self.events > limits::WINDOW_MAX_EVENTS || self.bytes > max_bytes) {
            let old = self.window.pop_front().expect("the window has more than one batch");
            self.events -= old.events().len();
            self.bytes -= old.held_bytes();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        Timestamp,
        event::{Data, NewEvent},
    };

    fn batch(seqs: std::ops::RangeInclusive<Seq>, bytes: usize) -> Arc<Batch> {
        Arc::new(Batch::new(
            seqs.map(|seq| {
                let data = Data::Text("x".repeat(bytes).into());
                NewEvent::from_work("a", data, Timestamp::from_micros(0)).unwrap().at(seq, 1, Epoch(1))
            })
            .collect(),
        ))
    }

    fn here(look: Look) -> (Seq, Seq) {
        match look {
            Look::Here(slice) => (slice.events()[0].seq, slice.last_seq()),
            other => panic!("not in the window: {other:?}"),
        }
    }

    #[test]
    fn a_viewer_reads_the_window_and_is_sent_to_the_store_before_it() {
        let hub = Arc::new(Hub::default());
        let topic = hub.topic(&"a/b/c".parse().unwrap(), For::Run);
        topic.run_begins(Epoch(1), 10);
        assert!(matches!(topic.look(10), Look::Nothing));
        topic.show(batch(11..=12, 1));
        topic.show(batch(13..=15, 1));
        assert_eq!(here(topic.look(10)), (11, 12));
        assert_eq!(here(topic.look(11)), (12, 12));
        assert_eq!(here(topic.look(12)), (13, 15));
        assert!(matches!(topic.look(15), Look::Nothing));
        assert!(matches!(topic.look(9), Look::InStore(15)));
        topic.run_begins(Epoch(2), 16);
        topic.run_ends(Epoch(1), Some(batch(16..=16, 1)));
        assert!(matches!(topic.look(16), Look::Nothing), "a newer run goes on");
        topic.run_begins(Epoch(1), 10);
        assert!(
            matches!(topic.look(16), Look::Nothing),
            "an older one whose claim is answered late changes nothing"
        );
        topic.run_ends(Epoch(2), None);
        assert_eq!(here(topic.look(15)), (16, 16));
        assert!(matches!(topic.look(16), Look::Nothing));
    }

    #[test]
    fn s8_the_window_is_bounded_in_bytes_and_events_and_never_has_a_hole() {
        let hub = Arc::new(Hub::default());
        let topic = hub.topic(&"a/b/c".parse().unwrap(), For::Run);
        let viewer = topic.versions();
        topic.run_begins(Epoch(1), 0);
        for i in 0..64 {
            topic.show(batch(i * 4 + 1..=i * 4 + 4, 1 << 14));
        }
        assert!(topic.bytes() <= limits::WINDOW_MAX_BYTES);
        assert!(matches!(topic.look(0), Look::InStore(256)));
        topic.show(batch(300..=301, 1));
        assert!(
            matches!(topic.look(255), Look::InStore(301)),
            "what was before the hole is read from the store"
        );
        assert_eq!(here(topic.look(299)), (300, 301));
        topic.show(batch(257..=257, 1));
        assert_eq!(here(topic.look(300)), (301, 301), "a late batch changes nothing");
        drop(viewer);
        for i in 0..8 {
            topic.show(batch(302 + i..=302 + i, 1 << 16));
        }
        let one = batch(1..=1, 1 << 16).held_bytes();
        assert!(topic.bytes() <= limits::WINDOW_UNWATCHED_MAX_BYTES.max(one), "nobody watches");
    }

    #[test]
    fn a_topic_goes_with_its_last_use() {
        let hub = Arc::new(Hub::default());
        let key: Key = "a/b/c".parse().unwrap();
        assert!(hub.existing(&key).is_none());
        let first = hub.topic(&key, For::Run);
        let second = hub.existing(&key).unwrap();
        drop(first);
        assert_eq!(hub.kept(), 1);
        second.run_begins(Epoch(1), 0);
        hub.delete(&key);
        assert!(
            matches!(second.look(0), Look::Nothing),
            "a delete that is answered late leaves a newer task alone"
        );
        drop(second);
        assert_eq!(hub.kept(), 0);
    }
}
