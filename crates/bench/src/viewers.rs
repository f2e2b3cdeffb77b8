//! Viewers of one task, as many as there are sockets, on one thread.
//!
//! Decides: what a load client reads, and what it holds every viewer to while it measures: the ids are dense, the run
//! comes to its end, and so does the stream. It is made to cost little beside the server that it measures: raw sockets
//! under one `epoll`, one buffer for all of them, and nothing allocated for an event.
//!
//! Never: sends anything but the request.

mod body;
mod frames;

use std::{
    io::{self, ErrorKind, Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use mio::{Events, Interest, Poll, Token, Waker};
use rustix::time::{ClockId, clock_gettime};

use self::{
    body::Body,
    frames::{Frames, Tally},
};
use crate::{Error, Result, latency::Latencies};

/// What one read takes at most.
const READ_BYTES: usize = 256 << 10;
/// How many sockets one look at the poll names at most.
const READY_MAX: usize = 1_024;
/// How long an answer to a request may take, and how long no event may come where some must.
const PATIENCE: Duration = Duration::from_secs(60);
const POLL: &str = "cannot poll the sockets of the viewers";

/// What viewers look at.
#[derive(Debug, Clone)]
pub struct Target {
    /// Where the server listens.
    pub address: SocketAddr,
    /// The path with its query: `/stream/demo/BurstTask/1`.
    pub path: String,
    /// The seq of the newest event that they have seen: the next one has to be the one after it.
    pub after: u64,
}

/// The wall clock in nanoseconds, which is that of the events' times of sending.
pub type Clock = fn() -> i64;

/// When a viewer has seen enough.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Until {
    /// With the event that ends the run.
    Terminal,
    /// With the end of the stream, which the event that ends the run must come before.
    End,
    /// Never, but when it is told to stop.
    Stopped,
}

/// What a viewer got that it must not get.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Broken {
    /// The server did not send a stream.
    #[error("the server answered {0:?}")]
    Refused(String),
    /// Events did not come.
    #[error("events are missing: {to} came where {from} was due")]
    Hole {
        /// What had to come.
        from: u64,
        /// What came.
        to: u64,
    },
    /// An event came again.
    #[error("event {seq} came again after {last_seq}")]
    Double {
        /// What came.
        seq: u64,
        /// The newest so far.
        last_seq: u64,
    },
    /// Something came after the event that ended the run.
    #[error("event {seq} came after the end of the run")]
    AfterTheEnd {
        /// What came.
        seq: u64,
    },
    /// An event that must not come: another end than `complete`, or a gap.
    #[error("{word:?} came after event {after}")]
    Event {
        /// Its type.
        word: String,
        /// The newest before it.
        after: u64,
    },
    /// The stream ended too soon.
    #[error("the stream was cut after event {after}")]
    Cut {
        /// The newest that came.
        after: u64,
    },
    /// Nothing came any more.
    #[error("no event came for {} s after event {after}", PATIENCE.as_secs())]
    Silent {
        /// The newest that came.
        after: u64,
    },
    /// The bytes are no event stream.
    #[error("the answer is malformed: {0}")]
    Malformed(&'static str),
}

/// What all viewers have seen.
#[derive(Debug)]
pub struct Seen {
    /// Events, of all viewers together.
    pub events: u64,
    /// Bytes of the answers.
    pub bytes: u64,
    /// How many reads brought them.
    pub reads: u64,
    /// From the sending of an event to the read that brought it, where it was asked for.
    pub latency: Option<Latencies>,
    /// When the last event had come.
    pub last_event: Instant,
    /// What the reading has cost.
    pub cpu: Duration,
}

/// How far the reading is, for others to see.
#[derive(Debug, Default)]
struct Progress {
    events: AtomicU64,
    /// Viewers that have seen enough.
    done: AtomicUsize,
    is_stopped: AtomicBool,
}

/// Viewers that have asked and do not read yet.
#[derive(Debug)]
pub struct Viewers {
    sockets: Vec<TcpStream>,
    after: u64,
}

impl Viewers {
    /// Connects so many viewers and sends their requests.
    ///
    /// # Errors
    /// Where the server takes no more connections.
    pub fn connect(target: &Target, viewers: usize) -> Result<Self> {
        let cursor = match target.after {
            0 => String::new(),
            seq => format!("Last-Event-ID: {seq}\r\n"),
        };
        let request = format!(
            "GET {} HTTP/1.1\r\nHost: {}\r\nAccept: text/event-stream\r\n{cursor}\r\n",
            target.path, target.address
        );
        let mut sockets = Vec::with_capacity(viewers);
        for _ in 0..viewers {
            let socket = ask(target.address, request.as_bytes());
            sockets.push(
                socket
                    .map_err(|source| Error::Unreachable { address: target.address.to_string(), source })?,
            );
        }
        Ok(Self { sockets, after: target.after })
    }

    /// Waits until each of them has been answered, and reads nothing.
    ///
    /// # Errors
    /// Where one is not answered in time.
    pub fn answered(&self) -> Result<()> {
        for (i, socket) in self.sockets.iter().enumerate() {
            let peeked = socket.set_read_timeout(Some(PATIENCE)).and_then(|()| socket.peek(&mut [0]));
            if peeked.map_err(Error::io("a viewer was not answered"))? == 0 {
                return Err(broken(i, self.len(), &Broken::Cut { after: self.after }));
            }
        }
        Ok(())
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.sockets.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.sockets.is_empty()
    }

    /// Begins to read, on a thread of its own. With a clock the latency of each event is taken.
    ///
    /// # Errors
    /// Where the sockets cannot be polled.
    pub fn read(self, until: Until, latency_by: Option<Clock>) -> Result<Reading> {
        let viewers = self.len();
        let poll = Poll::new().map_err(Error::io(POLL))?;
        let waker = Waker::new(poll.registry(), Token(viewers)).map_err(Error::io(POLL))?;
        let mut reader = Reader {
            poll,
            viewers: Vec::with_capacity(viewers),
            until,
            shared: Shared {
                buffer: vec![0; READ_BYTES],
                clock: latency_by,
                tally: Tally::new(latency_by.map(|_| Latencies::default())),
                bytes: 0,
                reads: 0,
            },
            progress: Arc::default(),
        };
        for (i, socket) in self.sockets.into_iter().enumerate() {
            socket.set_nonblocking(true).map_err(Error::io(POLL))?;
            let mut socket = mio::net::TcpStream::from_std(socket);
            reader
                .poll
                .registry()
                .register(&mut socket, Token(i), Interest::READABLE)
                .map_err(Error::io(POLL))?;
            reader.viewers.push(Viewer {
                socket,
                has_enough: false,
                body: Body::new(),
                frames: Frames::after(self.after),
            });
        }
        let progress = reader.progress.clone();
        let thread = thread::Builder::new().name("viewers".to_owned());
        let thread = thread.spawn(move || reader.run()).map_err(Error::io("cannot start a thread"))?;
        Ok(Reading { progress, waker, thread })
    }
}

/// Viewers that read.
#[derive(Debug)]
pub struct Reading {
    progress: Arc<Progress>,
    waker: Waker,
    thread: JoinHandle<Result<Seen>>,
}

impl Reading {
    /// How many events have come so far, to all viewers together.
    #[must_use]
    pub fn events(&self) -> u64 {
        self.progress.events.load(Ordering::Relaxed)
    }

    /// How many viewers have seen enough.
    #[must_use]
    pub fn done(&self) -> usize {
        self.progress.done.load(Ordering::Relaxed)
    }

    /// Waits until all of them have seen enough.
    ///
    /// # Errors
    /// What the first of them got that it must not get.
    pub fn finish(self) -> Result<Seen> {
        self.thread.join().expect("the viewers do not panic")
    }

    /// Has them hang up.
    ///
    /// # Errors
    /// As of [`Reading::finish`].
    pub fn stop(self) -> Result<Seen> {
        self.progress.is_stopped.store(true, Ordering::Relaxed);
        self.waker.wake().map_err(Error::io(POLL))?;
        self.finish()
    }
}

#[derive(Debug)]
struct Viewer {
    /// It stays open once the viewer has seen enough, so that no hanging up is measured.
    socket: mio::net::TcpStream,
    has_enough: bool,
    body: Body,
    frames: Frames,
}

/// What all viewers count and read into.
#[derive(Debug)]
struct Shared {
    buffer: Vec<u8>,
    clock: Option<Clock>,
    tally: Tally,
    bytes: u64,
    reads: u64,
}

impl Viewer {
    /// Reads all that can be read now. Whether this viewer has seen enough.
    fn drain(&mut self, may_be_closed: bool, until: Until, shared: &mut Shared) -> Result<bool, Failed> {
        if self.has_enough {
            return Ok(false);
        }
        loop {
            let len = match self.socket.read(&mut shared.buffer) {
                Ok(len) => len,
                Err(error) => match error.kind() {
                    ErrorKind::WouldBlock => return Ok(false),
                    ErrorKind::Interrupted => continue,
                    ErrorKind::ConnectionReset => return Err(self.cut()),
                    _ => return Err(Failed::Io(error)),
                },
            };
            if let Some(clock) = shared.clock {
                shared.tally.now_ns = clock().unsigned_abs();
            }
            shared.reads += 1;
            shared.bytes += len as u64;
            let (frames, tally) = (&mut self.frames, &mut shared.tally);
            self.body.take(&shared.buffer[..len], |bytes| frames.take(bytes, tally))?;
            let is_closed = len == 0 || matches!(self.body, Body::Ended);
            if is_closed && !(self.body.may_close() && self.frames.is_whole() && self.frames.is_over()) {
                return Err(self.cut());
            }
            if is_closed || (until == Until::Terminal && self.frames.is_over()) {
                self.has_enough = true;
                return Ok(true);
            }
            // The poll names a socket again when more comes after a read that did not fill the buffer. Only the end of one
            // that it has named already it does not name again.
            if len < shared.buffer.len() && !may_be_closed {
                return Ok(false);
            }
        }
    }

    fn cut(&self) -> Failed {
        Broken::Cut { after: self.frames.last_seq() }.into()
    }
}

/// Why a viewer failed.
#[derive(Debug)]
enum Failed {
    Broken(Broken),
    Io(io::Error),
}

impl From<Broken> for Failed {
    fn from(broken: Broken) -> Self {
        Self::Broken(broken)
    }
}

#[derive(Debug)]
struct Reader {
    poll: Poll,
    viewers: Vec<Viewer>,
    until: Until,
    shared: Shared,
    progress: Arc<Progress>,
}

impl Reader {
    fn run(mut self) -> Result<Seen> {
        let mut ready = Events::with_capacity(READY_MAX);
        let (mut done, mut events, mut last_event) = (0, 0, Instant::now());
        while done < self.viewers.len() && !self.progress.is_stopped.load(Ordering::Relaxed) {
            match self.poll.poll(&mut ready, Some(Duration::from_secs(1))) {
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                polled => polled.map_err(Error::io(POLL))?,
            }
            for event in &ready {
                let Token(i) = event.token();
                let Some(viewer) = self.viewers.get_mut(i) else { continue };
                match viewer.drain(event.is_read_closed() || event.is_error(), self.until, &mut self.shared) {
                    Ok(is_enough) => done += usize::from(is_enough),
                    Err(Failed::Broken(what)) => return Err(broken(i, self.viewers.len(), &what)),
                    Err(Failed::Io(error)) => return Err(Error::io("a viewer cannot read")(error)),
                }
            }
            let all = self.shared.tally.events;
            self.progress.events.store(all, Ordering::Relaxed);
            self.progress.done.store(done, Ordering::Relaxed);
            if all > events {
                (events, last_event) = (all, Instant::now());
            } else if self.until != Until::Stopped && last_event.elapsed() > PATIENCE {
                let silent = self.viewers.iter().position(|viewer| !viewer.has_enough).unwrap_or_default();
                let what = Broken::Silent { after: self.viewers[silent].frames.last_seq() };
                return Err(broken(silent, self.viewers.len(), &what));
            }
        }
        let Shared { tally, bytes, reads, .. } = self.shared;
        Ok(Seen { events: tally.events, bytes, reads, latency: tally.latency, last_event, cpu: thread_cpu() })
    }
}

/// A connection whose request was sent.
fn ask(address: SocketAddr, request: &[u8]) -> io::Result<TcpStream> {
    let mut socket = TcpStream::connect(address)?;
    socket.write_all(request)?;
    Ok(socket)
}

fn broken(i: usize, viewers: usize, what: &Broken) -> Error {
    Error::Wrong(format!("viewer {} of {viewers}: {what}", i + 1))
}

/// What this thread has cost so far.
pub(crate) fn thread_cpu() -> Duration {
    let spent = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(spent.tv_sec.unsigned_abs(), u32::try_from(spent.tv_nsec).unwrap_or_default())
}
