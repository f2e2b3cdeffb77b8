//! Viewers on sockets that take as much as they like: a client gets the frames of the log, in chunks that hold what they
//! promise, whatever was ready when.

#![allow(clippy::unwrap_used)]

use std::{
    io::{self, ErrorKind, Read, Write},
    os::unix::net::UnixStream,
    sync::Arc,
};

use proptest::prelude::*;
use soloist::{
    Context, Coordinator, Cursor, Data, Event, Failure, From as Begin, Json, Key, MemoryStore, ModelKey,
    ModelOptions, NewTask, Runner, Seq, StartOptions, Store as _, SubscribeOptions, Subscribed, Subscription,
    event::Batch, limits, store::EventRange,
};
use soloist_wire::sse::{self, Format};
use tokio::{
    io::AsyncReadExt as _,
    sync::{Mutex, mpsc},
};
use tokio_util::task::TaskTracker;

use super::{
    Message, Socket, Viewers,
    viewer::{Admitted, Frames, Leave, Served, Viewer},
};
use crate::{
    convert,
    frames::{self, Stops},
    state::{Ids, ServerOptions},
};

const HEAD: &[u8] = b"HTTP/1.1 200 OK\r\n\r\n";

/// A socket that takes so many bytes and then no more.
struct Narrow {
    out: Vec<u8>,
    room: usize,
}

impl Read for Narrow {
    fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
        Err(ErrorKind::WouldBlock.into())
    }
}

impl Write for Narrow {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let taken = bytes.len().min(self.room);
        if taken == 0 && !bytes.is_empty() {
            return Err(ErrorKind::WouldBlock.into());
        }
        self.out.extend_from_slice(&bytes[..taken]);
        self.room -= taken;
        Ok(taken)
    }

    fn write_vectored(&mut self, pieces: &[io::IoSlice<'_>]) -> io::Result<usize> {
        let all: Vec<u8> = pieces.iter().flat_map(|piece| piece.iter().copied()).collect();
        self.write(&all)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Sends events of the lengths that it is told, until there is nobody to tell it.
struct Talk(Mutex<mpsc::UnboundedReceiver<Vec<usize>>>);

#[async_trait::async_trait]
impl Runner for Talk {
    fn kind(&self) -> &'static str {
        "test"
    }

    fn check(&self, _: &Json) -> soloist::Result<()> {
        Ok(())
    }

    async fn run(&self, _: Json, context: Context) -> Result<Json, Failure> {
        let mut told = self.0.lock().await;
        while let Some(lengths) = told.recv().await {
            for length in lengths {
                context.send_event("part", &"x".repeat(length)).await?;
            }
        }
        Ok(Json::null())
    }
}

async fn node(store: &Arc<MemoryStore>) -> (Coordinator, mpsc::UnboundedSender<Vec<usize>>) {
    let (tell, told) = mpsc::unbounded_channel();
    let coordinator = Coordinator::builder(store.clone())
        .runner(
            ModelKey::new("demo", "Talk").unwrap(),
            Arc::new(Talk(Mutex::new(told))),
            ModelOptions::default(),
        )
        .open()
        .await
        .unwrap();
    (coordinator, tell)
}

/// A log of which one run was written elsewhere, so that it has to be read, and one goes on here.
struct World {
    key: Key,
    store: Arc<MemoryStore>,
    here: Coordinator,
    tell: mpsc::UnboundedSender<Vec<usize>>,
}

impl World {
    async fn new(before: Vec<usize>) -> Self {
        let key: Key = "demo/Talk/1".parse().unwrap();
        let store = Arc::new(MemoryStore::new());
        let (elsewhere, tell) = node(&store).await;
        elsewhere.create(NewTask::named(key.clone(), Json::parse("{}").unwrap())).await.unwrap();
        elsewhere.start(&key, StartOptions::default()).await.unwrap();
        tell.send(before).unwrap();
        drop(tell);
        elsewhere.ended(&key, 1).await.unwrap();
        let (here, tell) = node(&store).await;
        Self { key, store, here, tell }
    }

    async fn subscribe(&self, from: Begin, follow: bool) -> Subscription {
        let options = SubscribeOptions { from, follow, autostart: false };
        match self.here.subscribe(&self.key, options).await.unwrap() {
            Subscribed::Stream(subscription) => subscription,
            Subscribed::Ended => panic!("nothing follows"),
        }
    }

    async fn viewer(&self, format: Format, from: Begin, follow: bool) -> (Viewer<Narrow>, Frames) {
        let (audience, place, viewed) = self.subscribe(from, follow).await.into_parts();
        let admitted = Admitted {
            format,
            ids: Ids::Seq,
            place,
            viewed,
            counted: TaskTracker::new().token(),
            head: HEAD.to_vec(),
        };
        let viewer = Viewer::new(Narrow { out: Vec::new(), room: 0 }, admitted, 0, 0, 0);
        (viewer, Frames { source: convert::source(&self.key), audience, ids: Ids::Seq })
    }

    async fn log(&self, mut after: Seq) -> Vec<Event> {
        let mut log = Vec::new();
        loop {
            let range = EventRange { after, until: Seq::MAX, max_events: 1_000, max_bytes: 1 << 20 };
            let page = self.store.events(&self.key, range).await.unwrap();
            let Some(last) = page.last() else { return log };
            after = last.seq;
            log.extend(page);
        }
    }
}

/// The chunks of an answer, and whether it came to its end. Whatever is not exactly a chunk fails.
fn chunks(out: &[u8]) -> (Vec<&[u8]>, bool) {
    let mut rest = out.strip_prefix(HEAD).expect("the head comes first");
    let mut chunks = Vec::new();
    while !rest.is_empty() {
        let line = rest.windows(2).position(|end| end == b"\r\n").expect("a line that ends");
        let digits = std::str::from_utf8(&rest[..line]).unwrap();
        let length = usize::from_str_radix(digits, 16).unwrap_or_else(|_| panic!("{digits:?} is no length"));
        assert_eq!(format!("{length:x}"), digits);
        let (chunk, after) = rest[line + 2..].split_at(length);
        rest = after.strip_prefix(b"\r\n").expect("a chunk ends where it says");
        if length == 0 {
            assert!(rest.is_empty(), "nothing follows the last chunk");
            return (chunks, true);
        }
        chunks.push(chunk);
    }
    (chunks, false)
}

#[derive(Debug, Clone)]
enum Step {
    Send(Vec<usize>),
    /// This viewer's socket takes so many bytes more.
    Room(usize, usize),
    Beat(usize),
    Serve,
    Read,
}

fn lengths() -> impl Strategy<Value = Vec<usize>> {
    prop::collection::vec(prop_oneof![8 => 0_usize..40, 1 => 200_usize..4_000, 1 => Just(30_000)], 1..12)
}

fn step() -> impl Strategy<Value = Step> {
    let room = prop_oneof![1_usize..8, 8_usize..600, 1_000_usize..100_000];
    prop_oneof![
        2 => lengths().prop_map(Step::Send),
        5 => (0_usize..6, room).prop_map(|(viewer, room)| Step::Room(viewer, room)),
        1 => (0_usize..6).prop_map(Step::Beat),
        4 => Just(Step::Serve),
        2 => Just(Step::Read),
    ]
}

fn watcher() -> impl Strategy<Value = (Format, u8, bool)> {
    let format = prop_oneof![Just(Format::Full), Just(Format::Raw), Just(Format::Message)];
    (format, 0_u8..3, any::<bool>())
}

struct Watcher {
    viewer: Viewer<Narrow>,
    wish: (Format, u8, bool),
    /// It waits for a page up to there.
    until: Option<Seq>,
    is_gone: bool,
}

impl Watcher {
    fn note(&mut self, served: Served) {
        match served {
            Served::Behind(until) => self.until = Some(until),
            Served::Blocked => self.viewer.is_blocked = true,
            Served::Gone => self.is_gone = true,
            Served::Resting | Served::Hungry => {}
        }
    }
}

/// As the loop does it: one after the other, each may be given what the one before was.
fn serve(watchers: &mut [Watcher], frames: &Frames, leave: Leave) {
    let mut shared = None;
    for watcher in watchers.iter_mut().filter(|w| !w.is_gone && !w.viewer.is_blocked && w.until.is_none()) {
        let served = watcher.viewer.serve(frames, &mut shared, None, leave);
        watcher.note(served);
    }
}

/// As the loop does it: the page of the one furthest behind, for all whom it serves.
async fn read(watchers: &mut [Watcher], frames: &Frames, leave: Leave) {
    let behind = watchers.iter().filter(|w| !w.is_gone).filter_map(|w| Some((w.viewer.cursor(), w.until?)));
    let Some((after, until)) = behind.min() else { return };
    let page = frames.audience.read(after, until).await.unwrap().unwrap();
    let mut shared = None;
    for watcher in watchers.iter_mut().filter(|w| !w.is_gone && w.until.is_some()) {
        if watcher.viewer.cursor() < page.last_seq() {
            watcher.until = None;
            let served = watcher.viewer.serve(frames, &mut shared, Some(&page), leave);
            watcher.note(served);
        }
    }
}

async fn play(before: Vec<usize>, wishes: Vec<(Format, u8, bool)>, steps: Vec<Step>) {
    let world = World::new(before).await;
    world.here.start(&world.key, StartOptions::default()).await.unwrap();
    let run_start = world.here.task(&world.key).await.unwrap().run_start_seq;
    let mut watchers = Vec::new();
    let mut frames = None;
    for wish in wishes {
        let from = match wish.1 {
            0 => Begin::After(Cursor { seq: 0, epoch: None }),
            1 => Begin::RunStart,
            _ => Begin::After(Cursor { seq: 1 << 40, epoch: None }),
        };
        let (viewer, of_log) = world.viewer(wish.0, from, wish.2).await;
        frames.get_or_insert(of_log);
        watchers.push(Watcher { viewer, wish, until: None, is_gone: false });
    }
    let frames = frames.unwrap();
    let count = watchers.len();
    for step in steps {
        match step {
            Step::Send(lengths) => {
                world.tell.send(lengths).unwrap();
                for _ in 0..8 {
                    tokio::task::yield_now().await;
                }
            }
            Step::Room(of, bytes) => {
                let viewer = &mut watchers[of % count].viewer;
                (viewer.socket.room, viewer.is_blocked) = (viewer.socket.room + bytes, false);
            }
            Step::Beat(of) => {
                let watcher = &mut watchers[of % count];
                if !watcher.is_gone && !watcher.viewer.is_blocked {
                    // One that waits for a page goes on to do so.
                    let served = watcher.viewer.beat(&frames);
                    watcher.note(served);
                }
            }
            Step::Serve => serve(&mut watchers, &frames, Leave::Stay),
            Step::Read => read(&mut watchers, &frames, Leave::Stay).await,
        }
    }
    let World { key, store, here, tell } = world;
    drop(tell);
    here.ended(&key, 2).await.unwrap();
    for round in 0.. {
        assert!(round < 1_000_000, "viewers that come to no end");
        let leave = if round < 3 { Leave::Stay } else { Leave::AfterReading };
        for watcher in watchers.iter_mut().filter(|watcher| !watcher.is_gone) {
            watcher.viewer.socket.room += 1 + round * 37;
            watcher.viewer.is_blocked = false;
        }
        serve(&mut watchers, &frames, leave);
        read(&mut watchers, &frames, leave).await;
        if watchers.iter().all(|watcher| watcher.is_gone) {
            break;
        }
    }
    let world = World { key, store, here, tell: mpsc::unbounded_channel().0 };
    let log = world.log(0).await;
    for Watcher { viewer, wish: (format, begin, follow), .. } in watchers {
        let source = convert::source(&world.key);
        let mut expected = Vec::new();
        sse::retry(&mut expected, limits::SSE_RETRY_MS);
        if begin == 2 {
            source.gap(&mut expected, format, "unknown_cursor", run_start + 1);
        }
        let after = if begin == 0 { 0 } else { run_start };
        for event in log.iter().filter(|event| event.seq > after) {
            convert::frame(&source, format, Ids::Seq, event, &mut expected);
            if event.event_type.is_terminal() && !follow {
                break;
            }
        }
        let mut heartbeat = Vec::new();
        sse::comment(&mut heartbeat, "heartbeat");
        let (chunks, is_ended) = chunks(&viewer.socket.out);
        assert!(is_ended);
        assert!(chunks.iter().all(|chunk| chunk.ends_with(b"\n\n")), "a chunk is whole frames");
        let got = chunks.into_iter().filter(|chunk| *chunk != heartbeat).collect::<Vec<_>>().concat();
        let (got, expected) = (String::from_utf8(got).unwrap(), String::from_utf8(expected).unwrap());
        assert!(got == expected, "{format:?}, begun at {begin}, follows: {follow}\n{got}\n---\n{expected}");
    }
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn s5_every_viewer_gets_the_frames_of_the_log_whatever_its_socket_takes(
        before in prop_oneof![3 => lengths(), 1 => prop::collection::vec(0_usize..300, 900..1_500)],
        wishes in prop::collection::vec(watcher(), 1..6),
        steps in prop::collection::vec(step(), 0..80),
    ) {
        block_on(play(before, wishes, steps));
    }
}

#[tokio::test]
async fn who_follows_and_who_does_not_are_each_given_their_own() {
    for order in [[true, false], [false, true]] {
        let wishes = order.map(|follow| (Format::Full, 0, follow)).to_vec();
        play(vec![10; 3], wishes.clone(), vec![Step::Room(0, 1 << 20), Step::Room(1, 1 << 20)]).await;
        let world = vec![Step::Send(vec![5; 3]), Step::Serve, Step::Read, Step::Serve, Step::Read];
        play(vec![10; 3], wishes, world).await;
    }
}

/// A viewer that stands in the middle of a chunk, of a log that has to be read.
async fn in_the_middle_of_a_chunk() -> (World, Viewer<Narrow>, Frames) {
    let world = World::new(vec![500; 300]).await;
    let (mut viewer, frames) = world.viewer(Format::Full, Begin::RunStart, false).await;
    viewer.socket.room = 6_000;
    let served = viewer.serve(&frames, &mut None, None, Leave::Stay);
    let Served::Behind(until) = served else { panic!("{served:?}") };
    let page = frames.audience.read(0, until).await.unwrap().unwrap();
    assert_eq!(viewer.serve(&frames, &mut None, Some(&page), Leave::Stay), Served::Blocked);
    assert!(viewer.is_in_chunk());
    // Somebody is through with the log: what was read of it is not kept.
    let (audience, mut tail, _viewed) = world.subscribe(Begin::Tail, true).await.into_parts();
    assert!(matches!(audience.look(&mut tail), soloist::Looked::Nothing));
    viewer.socket.room = 1 << 20;
    assert!(matches!(viewer.serve(&frames, &mut None, None, Leave::Stay), Served::Behind(_)));
    (world, viewer, frames)
}

fn is_cut(viewer: &Viewer<Narrow>, sent: usize) {
    assert_eq!(viewer.socket.out.len(), sent, "nothing more was sent");
}

#[tokio::test]
async fn a_viewer_that_does_not_read_keeps_no_buffer_and_gets_no_heartbeat_in_a_chunk() {
    let (_world, mut viewer, frames) = in_the_middle_of_a_chunk().await;
    assert_eq!(viewer.owed_capacity(), 0);
    let sent = viewer.socket.out.len();
    assert_eq!(viewer.beat(&frames), Served::Resting);
    is_cut(&viewer, sent);
}

#[tokio::test]
async fn nobody_is_told_goodbye_in_the_middle_of_a_chunk() {
    let (_world, mut viewer, frames) = in_the_middle_of_a_chunk().await;
    assert!(!viewer.send_away("the log is broken"));
    for page in [None, frames.audience.read(viewer.cursor(), 301).await.unwrap()] {
        viewer.serve(&frames, &mut None, page.as_ref(), Leave::Now);
    }
    // What was begun comes first, and the goodbye after it.
    let (chunks, is_ended) = chunks(&viewer.socket.out);
    assert!(is_ended);
    assert!(chunks.last().unwrap().ends_with(format!(": {}\n\n", frames::STOPPING).as_bytes()));
}

#[tokio::test]
async fn a_chunk_whose_events_were_pruned_is_cut_off() {
    let (world, mut viewer, frames) = in_the_middle_of_a_chunk().await;
    let sent = viewer.socket.out.len();
    let rest = Arc::new(Batch::new(world.log(viewer.cursor() + 5).await));
    assert_eq!(viewer.serve(&frames, &mut None, Some(&rest), Leave::Stay), Served::Gone);
    is_cut(&viewer, sent);
}

#[tokio::test]
async fn a_chunk_in_whose_place_other_events_stand_now_is_cut_off() {
    for length in [0, 100, 501, 20_000] {
        let (world, mut viewer, frames) = in_the_middle_of_a_chunk().await;
        let mut others = world.log(viewer.cursor()).await;
        others[0].data = Data::Text("y".repeat(length).into());
        let others = Arc::new(Batch::new(others));
        assert_eq!(viewer.serve(&frames, &mut None, Some(&others), Leave::Stay), Served::Gone, "{length}");
        assert!(!viewer.socket.out.ends_with(b"0\r\n\r\n"), "the client is not told that this was all");
    }
}

/// Brings a viewer of a finished log; what the loop sends it, to the end of the connection.
async fn brought(world: &World, viewers: &Viewers) -> Vec<u8> {
    let (ours, client) = UnixStream::pair().unwrap();
    ours.set_nonblocking(true).unwrap();
    client.set_nonblocking(true).unwrap();
    let subscription = world.subscribe(Begin::RunStart, false).await;
    let stream = frames::Frames::new(subscription, Format::Full, &world.here, &ServerOptions::default());
    viewers.admit(Socket::Unix(mio::net::UnixStream::from_std(ours)), HEAD.to_vec(), stream);
    let mut got = Vec::new();
    tokio::net::UnixStream::from_std(client).unwrap().read_to_end(&mut got).await.unwrap();
    got
}

#[tokio::test]
async fn a_loop_that_breaks_serves_those_who_come_next_and_goes_with_its_server() {
    let world = World::new(vec![10; 3]).await;
    let options = ServerOptions::default();
    let viewers = Viewers::start(options.heartbeat, Stops::of(&world.here, &options)).unwrap();
    for _ in 0..3 {
        let got = brought(&world, &viewers).await;
        let (chunks, is_ended) = chunks(&got);
        assert!(is_ended && chunks.concat().windows(15).any(|bytes| bytes == b"event: complete"));
        viewers.inboxes.iter().for_each(|inbox| inbox.tell(Message::Break));
    }
    viewers.left().await;
    assert_eq!(world.here.stats().viewers, 0);
    let inboxes: Vec<_> = viewers.inboxes.iter().map(Arc::downgrade).collect();
    drop(viewers);
    while inboxes.iter().any(|inbox| inbox.strong_count() > 0) {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_connection_that_is_brought_to_a_loop_that_has_gone_is_closed() {
    let world = World::new(vec![10; 3]).await;
    let options = ServerOptions::default();
    let viewers = Viewers::start(options.heartbeat, Stops::of(&world.here, &options)).unwrap();
    viewers.inboxes.iter().for_each(|inbox| inbox.tell(Message::Quit));
    assert_eq!(brought(&world, &viewers).await, b"");
    viewers.left().await;
    assert_eq!(world.here.stats().viewers, 0);
}
