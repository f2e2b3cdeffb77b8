//! Watching a task over cuts.
//!
//! Decides: when to come back, from where, and when it is over. Every event is handed out exactly once and in order: a
//! stream that leaves one out or repeats one is reported as [`Error::Broken`], never passed on.
//!
//! - A stream that was cut is asked for again after the last event that was handed out (`Last-Event-ID`).
//! - It comes back after the time that the server named (`retry:`), doubled with each try that brought nothing, with
//!   jitter, so that the viewers of a server that was restarted do not return in one instant.
//! - A stream that was cut right after a gap is asked for again from the event that the gap announced.
//! - It is over after the terminal event, or when the server says that there is nothing left (204).
//! - A server that cannot be reached at the very first try is an error; later it is waited for.

use std::{collections::VecDeque, fmt, pin::Pin, time::Duration};

use reqwest::{Method, Response, StatusCode, header};
use soloist_wire::sse::{self, Decoder, Frame};
use tokio::time::{Instant, sleep_until, timeout_at};

use crate::{
    Cursor, Error, Event, Gap,
    path::query,
    transport::{Transport, causes, has_media_type},
};

/// The wait before coming back where the server names none.
const RETRY: Duration = Duration::from_secs(2);
/// The longest wait before coming back, unless the server names a longer one.
const RETRY_MAX: Duration = Duration::from_secs(15);
/// Silence after which a connection counts as dead: three heartbeats of the server.
const SILENCE_MAX: Duration = Duration::from_secs(45);
/// How long a caller that was away for longer than that still waits for what has come meanwhile.
const LATE_MAX: Duration = Duration::from_secs(1);

/// What is watched.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct WatchOptions {
    /// Only events after this one; none: from the beginning of the current run.
    pub after: Option<Cursor>,
    /// Stay for the next runs too.
    pub follow: bool,
}

/// What a stream brings.
#[derive(Debug, Clone)]
pub enum Update {
    /// An event.
    Event(Event),
    /// Events are missing before the next one, and the server says why.
    Gap(Gap),
    /// The stream was cut; it is asked for again after `wait`.
    Cut {
        /// Why, for people.
        cause: String,
        /// How long until then.
        wait: Duration,
    },
}

/// A task's events. See [`Client::watch`](crate::Client::watch).
#[derive(Debug)]
pub struct EventStream {
    transport: Transport,
    path: String,
    options: WatchOptions,
    link: Link,
    /// The last event that was handed out, or the position that was asked for.
    last: Option<Cursor>,
    /// Nothing was handed out since a gap that announced this seq.
    announced: Option<u64>,
    /// The next event must have this seq, where it is known.
    expected: Option<u64>,
    retry: Duration,
    /// Tries in a row that brought no event.
    tries: u32,
    state: State,
}

#[derive(Debug, PartialEq, Eq)]
enum State {
    /// No answer yet.
    New,
    /// The server answered once; from now on a cut is waited out.
    Known,
    Over,
}

/// How far the way to the server is. All waiting has its end here and not in the future that waits, so that a caller which
/// cancels that again and again comes as far as one that does not.
#[derive(Debug)]
enum Link {
    /// There is none; it is asked for then.
    Down { until: Instant },
    /// Asked for and not answered yet.
    Asked(Asked),
    /// Brings events.
    Open(Box<Connection>),
}

struct Asked {
    answer: Pin<Box<dyn Future<Output = Result<Response, Error>> + Send>>,
    silence: Silence,
}

impl fmt::Debug for Asked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Asked").field("silence", &self.silence).finish_non_exhaustive()
    }
}

#[derive(Debug)]
struct Connection {
    response: Response,
    decoder: Decoder,
    frames: VecDeque<Frame>,
    /// What the server said last in a comment: why it sends its viewers away.
    comment: String,
    silence: Silence,
}

/// How long the server may say nothing.
#[derive(Debug)]
struct Silence {
    until: Instant,
    is_late: bool,
}

impl EventStream {
    pub(crate) fn new(transport: Transport, path: String, options: WatchOptions) -> Self {
        Self {
            transport,
            path,
            options,
            link: Link::Down { until: Instant::now() },
            last: options.after,
            announced: None,
            expected: options.after.map(|after| after.seq.saturating_add(1)),
            retry: RETRY,
            tries: 0,
            state: State::New,
        }
    }

    /// The last event that was handed out, or the position that the stream began after: what a program stores to go on
    /// after its own restart (as [`WatchOptions::after`]). None before the first event of a stream that began with the
    /// current run, and after the gap `unknown_cursor` until an event follows, for there the stream goes on with the
    /// current run as well.
    #[must_use]
    pub fn cursor(&self) -> Option<Cursor> {
        self.last
    }

    /// The next update; none once the stream is over.
    ///
    /// Cancel-safe, also where that is done regularly (in a `select!` with a tick): an update is handed out or stays, and
    /// what is waited for goes on from where it was.
    ///
    /// # Errors
    /// [`Error::Unreachable`] only where the server never answered; [`Error::Problem`] where it refuses for good (no
    /// such task); [`Error::Broken`].
    pub async fn next(&mut self) -> Result<Option<Update>, Error> {
        loop {
            if self.state == State::Over {
                return Ok(None);
            }
            let cut = match &mut self.link {
                Link::Down { until } => {
                    sleep_until(*until).await;
                    self.link = Link::Asked(self.ask());
                    continue;
                }
                Link::Asked(asked) => {
                    let answer = asked.silence.wait_for(&mut asked.answer).await;
                    self.link = Link::Down { until: Instant::now() };
                    let answer =
                        answer.unwrap_or_else(|| Err(self.transport.unexpected("no answer in time")));
                    match answer.and_then(|response| self.open(response)) {
                        Ok(()) => continue,
                        Err(error) => self.cut_or_error(error)?,
                    }
                }
                Link::Open(connection) => {
                    if let Some(frame) = connection.frames.pop_front() {
                        if let Some(update) = self.take(frame)? {
                            return Ok(Some(update));
                        }
                        continue;
                    }
                    match connection.read().await? {
                        None => continue,
                        Some(cut) => cut,
                    }
                }
            };
            return Ok(Some(self.cut(cut)));
        }
    }

    /// Asks for the stream.
    fn ask(&self) -> Asked {
        let (after, follow) = match self.announced {
            // From just before what was announced, whatever that is by now. Where it begins a run, the one before it ended
            // the run before, and only who follows is not told that there is nothing left.
            Some(first_seq) => (Some(Cursor::from(first_seq.saturating_sub(1))), true),
            None => (self.last, self.options.follow),
        };
        let path = query(&self.path, &[("follow", follow.then(|| "true".to_owned()))]);
        let mut request = self.transport.request(Method::GET, &path).header(header::ACCEPT, sse::MEDIA_TYPE);
        if let Some(after) = after {
            request = request.header("last-event-id", after.to_string());
        }
        let transport = self.transport.clone();
        let answer = Box::pin(async move { transport.send(request).await });
        Asked { answer, silence: Silence::begin() }
    }

    /// Takes the answer; nothing follows where the stream is over.
    fn open(&mut self, response: Response) -> Result<(), Error> {
        if response.status() == StatusCode::NO_CONTENT {
            self.state = State::Over;
            return Ok(());
        }
        if !has_media_type(&response, sse::MEDIA_TYPE) {
            return Err(self
                .transport
                .unexpected(format!("status {} that is no event stream", response.status())));
        }
        self.state = State::Known;
        self.link = Link::Open(Box::new(Connection {
            response,
            decoder: Decoder::new(),
            frames: VecDeque::new(),
            comment: String::new(),
            silence: Silence::begin(),
        }));
        Ok(())
    }

    /// Whether a failed try is waited out.
    fn cut_or_error(&self, error: Error) -> Result<String, Error> {
        match &error {
            Error::Unreachable { .. } | Error::Broke { .. } if self.state == State::Known => {
                Ok(error.to_string())
            }
            Error::Problem(problem) if matches!(problem.status, 429 | 502..=504) => Ok(error.to_string()),
            // A proxy that stands before a server which is being restarted.
            Error::Unexpected { .. } if self.state == State::Known => Ok(error.to_string()),
            _ => Err(error),
        }
    }

    /// Sets the time of the next try.
    fn cut(&mut self, cause: String) -> Update {
        let doubled = self.retry.saturating_mul(1 << self.tries.min(10));
        let wait = doubled.min(RETRY_MAX.max(self.retry)).mul_f64(rand::random_range(0.5..=1.0));
        self.tries += 1;
        self.link = Link::Down { until: Instant::now() + wait };
        Update::Cut { cause, wait }
    }

    fn take(&mut self, frame: Frame) -> Result<Option<Update>, Error> {
        match frame {
            Frame::Retry(milliseconds) => self.retry = Duration::from_millis(milliseconds),
            Frame::Comment(text) => {
                if let Link::Open(connection) = &mut self.link {
                    connection.comment = text;
                }
            }
            Frame::Event(message) if message.id.is_none() && message.event_type == "gap" => {
                let gap: Gap =
                    serde_json::from_str(&message.data).map_err(|e| Error::Broken(format!("a gap: {e}")))?;
                self.expected = Some(gap.first_seq);
                self.announced = Some(gap.first_seq);
                if gap.reason != "pruned" {
                    // The log has no such position; another event may take its place.
                    self.last = None;
                }
                return Ok(Some(Update::Gap(gap)));
            }
            Frame::Event(message) => {
                let event = Event::read(message).map_err(Error::Broken)?;
                return self.event(event).map(Some);
            }
        }
        Ok(None)
    }

    fn event(&mut self, event: Event) -> Result<Update, Error> {
        if let Some(expected) = self.expected
            && event.seq != expected
        {
            let last = self.last.map_or_else(|| "nothing".to_owned(), |last| format!("event {}", last.seq));
            return Err(Error::Broken(format!(
                "event {} came after {last}; {expected} was to come",
                event.seq
            )));
        }
        self.last = Some(event.cursor());
        self.announced = None;
        self.expected = Some(event.seq + 1);
        self.tries = 0;
        if event.is_terminal() && !self.options.follow {
            self.state = State::Over;
            self.link = Link::Down { until: Instant::now() };
        }
        Ok(Update::Event(event))
    }
}

impl Connection {
    /// Reads a chunk and takes it apart, or says why there is none.
    async fn read(&mut self) -> Result<Option<String>, Error> {
        let chunk = match self.silence.wait_for(self.response.chunk()).await {
            Some(Ok(Some(chunk))) => chunk,
            Some(Ok(None)) if self.comment.is_empty() => {
                return Ok(Some("the server closed the stream".to_owned()));
            }
            Some(Ok(None)) => return Ok(Some(format!("the server closed the stream: {}", self.comment))),
            Some(Err(e)) => return Ok(Some(format!("the stream broke off: {}", causes(&e)))),
            None => return Ok(Some(format!("nothing came for {} s", SILENCE_MAX.as_secs()))),
        };
        self.silence = Silence::begin();
        let mut frames = Vec::new();
        self.decoder.feed(&chunk, &mut frames).map_err(|e| Error::Broken(e.to_string()))?;
        self.frames.extend(frames);
        Ok(None)
    }
}

impl Silence {
    fn begin() -> Self {
        Self { until: Instant::now() + SILENCE_MAX, is_late: false }
    }

    /// What comes, or none where nothing came for too long.
    async fn wait_for<T>(&mut self, what: impl Future<Output = T>) -> Option<T> {
        let now = Instant::now();
        if now > self.until && !self.is_late {
            self.is_late = true;
            self.until = now + LATE_MAX;
        }
        timeout_at(self.until, what).await.ok()
    }
}
