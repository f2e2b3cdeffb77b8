//! Requests that are sent again until they are answered.
//!
//! Decides: when a request whose answer was lost is sent again, and when it is given up. A create or start that broke
//! off may have been carried out or not; under its idempotency key the server answers every copy of it like the first,
//! so sending it once more is never a second task or a second run.
//!
//! - A server that cannot be reached at the very first try is an error at once: nothing was sent, nothing is unknown.
//! - Once a copy has broken off, it is sent again, with growing pauses, until a server has told what became of it or
//!   [`RESEND_WITHIN`] is over: a server that is away by then, or takes nothing now, may have carried the first one out.
//!   What is still unknown is [`Error::Broke`]: whoever has the key can go on asking.
//! - Any other answer, also a refusal, ends it.

use std::{
    fmt,
    time::{Duration, Instant},
};

use reqwest::{Method, StatusCode};
use serde::{Serialize, de::DeserializeOwned};
use soloist_wire::{CreateBody, StartAnswer, StartBody, TaskRecord};

use crate::{
    Client, Created, Error,
    path::{of_model, of_task},
    transport::ANSWER_MAX,
};

/// How long after its first sending a request is sent again.
const RESEND_WITHIN: Duration = Duration::from_secs(30);
/// The first pause before sending it again; doubled each time, with jitter.
const PAUSE: Duration = Duration::from_millis(100);
/// The longest pause.
const PAUSE_MAX: Duration = Duration::from_secs(2);
/// The longest key that a server takes.
const KEY_MAX_BYTES: usize = 255;

/// A key that makes copies of a request one request (header `Idempotency-Key`).
///
/// ```
/// use soloist_client::IdempotencyKey;
/// let order = IdempotencyKey::new("order-4711")?; // known to the caller, also after a crash of the caller
/// let fresh = IdempotencyKey::random(); // for a request that only this process will send
/// assert_ne!(order, fresh);
/// # Ok::<(), soloist_client::Error>(())
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct IdempotencyKey(String);

impl IdempotencyKey {
    /// A key of the caller's own: 1 to 255 printable ASCII characters, no space at either end.
    ///
    /// # Errors
    /// [`Error::Invalid`] where it is none.
    pub fn new(key: impl Into<String>) -> Result<Self, Error> {
        let key = key.into();
        let printable = key.bytes().all(|byte| byte.is_ascii_graphic() || byte == b' ');
        if printable && (1..=KEY_MAX_BYTES).contains(&key.len()) && key.trim() == key {
            return Ok(Self(key));
        }
        Err(Error::Invalid(format!(
            "an idempotency key has 1 to {KEY_MAX_BYTES} printable ASCII characters and no space at either end"
        )))
    }

    /// A key that nobody else has: 128 random bits.
    #[must_use]
    pub fn random() -> Self {
        Self(format!("{:032x}", rand::random::<u128>()))
    }

    /// The key. Whoever knows it can read the answers given under it.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for IdempotencyKey {
    /// Not the key: whoever knows it can read the answer.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("IdempotencyKey")
    }
}

/// An answer, and whether it is that of an earlier copy of the request.
#[derive(Debug, Clone)]
pub struct Answered<T> {
    /// The answer.
    pub answer: T,
    /// Whether the server had carried the request out before this copy came (`Idempotent-Replayed: true`).
    pub is_replayed: bool,
}

/// The calls that take a key. See [`Client::keyed`].
#[derive(Debug, Clone, Copy)]
pub struct Keyed<'a> {
    client: &'a Client,
    key: &'a IdempotencyKey,
}

impl Client {
    /// Calls under an idempotency key, sent again for up to 30 s where their answers are lost.
    ///
    /// ```no_run
    /// # async fn example() -> Result<(), soloist_client::Error> {
    /// use soloist_client::{Client, IdempotencyKey};
    /// let client = Client::new("http://127.0.0.1:8888")?;
    /// let key = IdempotencyKey::random();
    /// let start = client.keyed(&key).start("demo/ExampleTask/1", &Default::default()).await?;
    /// println!("run {}, asked before: {}", start.answer.run, start.is_replayed);
    /// # Ok(()) }
    /// ```
    #[must_use]
    pub fn keyed<'a>(&'a self, key: &'a IdempotencyKey) -> Keyed<'a> {
        Keyed { client: self, key }
    }
}

impl Keyed<'_> {
    /// [`Client::create`] under the key: every copy of it gives back the one task that the first made.
    ///
    /// # Errors
    /// [`Error`]; the code `idempotency_key_reused` where the key was used for another request.
    pub async fn create(self, model: &str, body: &CreateBody) -> Result<Answered<TaskRecord>, Error> {
        let sent = self.send(Method::POST, &of_model("tasks", model)?, body).await?;
        Ok(Answered { answer: sent.answer, is_replayed: sent.is_replayed })
    }

    /// [`Client::put`] under the key: with `start` in the body, however many copies of it start one run.
    ///
    /// # Errors
    /// [`Error`]; the codes `input_differs` and `idempotency_key_reused`.
    pub async fn put(self, key: &str, body: &CreateBody) -> Result<Answered<Created>, Error> {
        let sent = self.send(Method::PUT, &of_task("tasks", key, &[])?, body).await?;
        let answer = match sent.status {
            StatusCode::CREATED => Created::New(sent.answer),
            _ => Created::Exists(sent.answer),
        };
        Ok(Answered { answer, is_replayed: sent.is_replayed })
    }

    /// [`Client::start`] under the key: every copy of it gets the answer of the first, also after that run has ended.
    ///
    /// # Errors
    /// [`Error`]; the code `idempotency_key_reused` where the key was used for another request.
    pub async fn start(self, key: &str, body: &StartBody) -> Result<Answered<StartAnswer>, Error> {
        let sent = self.send(Method::POST, &of_task("tasks", key, &["start"])?, body).await?;
        Ok(Answered { answer: sent.answer, is_replayed: sent.is_replayed })
    }

    async fn send<T: DeserializeOwned>(
        self,
        method: Method,
        path: &str,
        body: &impl Serialize,
    ) -> Result<Sent<T>, Error> {
        let begun = Instant::now();
        let mut pause = PAUSE;
        // From the first copy that broke off on, only a server's own answer says what became of the request.
        let mut broke = None;
        loop {
            let within = ANSWER_MAX.min(RESEND_WITHIN.saturating_sub(begun.elapsed()).max(pause));
            let sent = self.client.call_keyed(method.clone(), path, Some(body), within, Some(self.key)).await;
            match sent {
                Err(error) if leaves_it_open(&error, broke.is_some()) => broke = broke.or(Some(error)),
                answered => return answered,
            }
            if let Some(error) = broke.take_if(|_| begun.elapsed() + pause >= RESEND_WITHIN) {
                return Err(error);
            }
            tokio::time::sleep(pause.mul_f64(rand::random_range(0.5..=1.0))).await;
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }
}

/// Whether an error leaves open what became of the request; `has_broken`: whether an earlier copy of it broke off. Then
/// also who cannot be reached now, or takes nothing now, may have carried that one out.
fn leaves_it_open(error: &Error, has_broken: bool) -> bool {
    match error {
        Error::Broke { .. } => true,
        Error::Unreachable { .. } | Error::Unexpected { .. } => has_broken,
        Error::Problem(problem) => has_broken && matches!(problem.status, 429 | 503),
        Error::Invalid(_) | Error::Broken(_) => false,
    }
}

/// What came back.
pub(crate) struct Sent<T> {
    pub(crate) status: StatusCode,
    pub(crate) answer: T,
    pub(crate) is_replayed: bool,
}
