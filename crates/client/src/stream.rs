//! Watching a task over cuts.
//!
//! Decides: when to come back, from where, and when it is over. Every event is handed out exactly once and in order: a
//! stream that leaves one out or repeats one is reported as [`Error::Broken`], never passed on.
//!
//! - A stream that was cut is asked for again after the last event that was handed out (`Last-Event-ID`).
//! - It comes back after the time that the server named (`retry:`), doubled with each try that brought nothing, with
//!   jitter, so that the viewers of a server that was restarted do not return in one instant.
//! - It is over after the terminal event, or when the server says that there is nothing left (204).
//! - A server that cannot be reached at the very first try is an error; later it is waited for.

use std::{collections::VecDeque, time::Duration};

use reqwest::{Method, Response, StatusCode, header};
use soloist_wire::sse::{self, Decoder, Frame};

use crate::{
    Cursor, Error, Event, Gap,
    path::query,
    transport::{Transport, has_media_type},
};

/// The wait before coming back where the server names none.
const RETRY: Duration = Duration::from_secs(2);
/// The longest wait before coming back, unless the server names a longer one.
const RETRY_MAX: Duration = Duration::from_secs(15);
/// Silence after which a connection counts as dead: three heartbeats of the server.
const SILENCE_MAX: Duration = Duration::from_secs(45);

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
    connection: Option<Connection>,
    /// The last event that was handed out, or the position that was asked for.
    last: Option<Cursor>,
    /// The next event must have this seq, where it is known.
    expected: Option<u64>,
    retry: Duration,
    /// Tries in a row that brought no event.
    tries: u32,
    /// When to come back.
    wait: Option<Duration>,
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

#[derive(Debug)]
struct Connection {
    response: Response,
    decoder: Decoder,
    frames: VecDeque<Frame>,
    /// What the server said last in a comment: why it sends its viewers away.
    comment: String,
}

impl EventStream {
    pub(crate) fn new(transport: Transport, path: String, options: WatchOptions) -> Self {
        Self {
            transport,
            path: query(&path, &[("follow", options.follow.then(|| "true".to_owned()))]),
            options,
            connection: None,
            last: options.after,
            expected: options.after.map(|after| after.seq.saturating_add(1)),
            retry: RETRY,
            tries: 0,
            wait: None,
            state: State::New,
        }
    }

    /// The last event that was handed out, or the position that the stream began after: what a program stores to go on
    /// after its own restart (as [`WatchOptions::after`]).
    #[must_use]
    pub fn cursor(&self) -> Option<Cursor> {
        self.last
    }

    /// The next update; none once the stream is over. Cancel-safe: an update is handed out or stays.
    ///
    /// # Errors
    /// [`Error::Unreachable`] only where the server never answered; [`Error::Problem`] where it refuses for good (no
    /// such task); [`Error::Broken`].
    pub async fn next(&mut self) -> Result<Option<Update>, Error> {
        loop {
            if self.state == State::Over {
                return Ok(None);
            }
            if let Some(frame) = self.connection.as_mut().and_then(|connection| connection.frames.pop_front())
            {
                if let Some(update) = self.take(frame)? {
                    return Ok(Some(update));
                }
                continue;
            }
            let cut = match &mut self.connection {
                Some(connection) => match connection.read(&self.transport).await? {
                    None => continue,
                    Some(cut) => cut,
                },
                None => {
                    if let Some(wait) = self.wait {
                        tokio::time::sleep(wait).await;
                        self.wait = None;
                    }
                    match self.connect().await {
                        Ok(connection) => {
                            self.connection = connection;
                            continue;
                        }
                        Err(error) => self.cut_or_error(error)?,
                    }
                }
            };
            self.connection = None;
            return Ok(Some(self.cut(cut)));
        }
    }

    /// Asks for the stream; nothing where it is over.
    async fn connect(&mut self) -> Result<Option<Connection>, Error> {
        let mut request =
            self.transport.request(Method::GET, &self.path).header(header::ACCEPT, sse::MEDIA_TYPE);
        if let Some(last) = self.last {
            request = request.header("last-event-id", last.to_string());
        }
        let answer = tokio::time::timeout(SILENCE_MAX, self.transport.send(request)).await;
        let response = answer.unwrap_or_else(|_| Err(self.transport.unexpected("no answer in time")))?;
        if response.status() == StatusCode::NO_CONTENT {
            self.state = State::Over;
            return Ok(None);
        }
        if !has_media_type(&response, sse::MEDIA_TYPE) {
            return Err(self
                .transport
                .unexpected(format!("status {} that is no event stream", response.status())));
        }
        self.state = State::Known;
        let (decoder, frames, comment) = (Decoder::new(), VecDeque::new(), String::new());
        Ok(Some(Connection { response, decoder, frames, comment }))
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
        self.wait = Some(wait);
        Update::Cut { cause, wait }
    }

    fn take(&mut self, frame: Frame) -> Result<Option<Update>, Error> {
        match frame {
            Frame::Retry(milliseconds) => self.retry = Duration::from_millis(milliseconds),
            Frame::Comment(text) => {
                if let Some(connection) = &mut self.connection {
                    connection.comment = text;
                }
            }
            Frame::Event(message) if message.id.is_none() && message.event_type == "gap" => {
                let gap: Gap =
                    serde_json::from_str(&message.data).map_err(|e| Error::Broken(format!("a gap: {e}")))?;
                self.expected = Some(gap.first_seq);
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
        self.expected = Some(event.seq + 1);
        self.tries = 0;
        if event.is_terminal() && !self.options.follow {
            self.state = State::Over;
            self.connection = None;
        }
        Ok(Update::Event(event))
    }
}

impl Connection {
    /// Reads a chunk and takes it apart, or says why there is none.
    async fn read(&mut self, transport: &Transport) -> Result<Option<String>, Error> {
        let chunk = match tokio::time::timeout(SILENCE_MAX, self.response.chunk()).await {
            Ok(Ok(Some(chunk))) => chunk,
            Ok(Ok(None)) if self.comment.is_empty() => {
                return Ok(Some("the server closed the stream".to_owned()));
            }
            Ok(Ok(None)) => return Ok(Some(format!("the server closed the stream: {}", self.comment))),
            Ok(Err(e)) => return Ok(Some(transport.broken(&e).to_string())),
            Err(_) => return Ok(Some(format!("nothing came for {} s", SILENCE_MAX.as_secs()))),
        };
        let mut frames = Vec::new();
        self.decoder.feed(&chunk, &mut frames).map_err(|e| Error::Broken(e.to_string()))?;
        self.frames.extend(frames);
        Ok(None)
    }
}
