//! Requests that may be sent again.
//!
//! Decides: what makes two requests the same one. A caller whose answer was lost sends its request again under the same
//! key and gets the answer of the first use: "only one now" (the claim) and "this very request" (the key) are two
//! different promises, and both hold. The key is looked up and kept in the same atomic step as what it guards, by the
//! store; it belongs to a subject, a call and a task or model, so that nobody meets another's.
//!
//! Never decides how long a key is kept: as long as its task, and at least [`crate::limits::IDEMPOTENCY_KEPT`].

use std::fmt;

use sha2::{Digest as _, Sha256};

use crate::{
    Error, Result, limits,
    state::Policy,
    task::{NewId, NewTask},
};

/// A key that a caller made up for one request: 1 to [`limits::IDEMPOTENCY_KEY_MAX_BYTES`] visible ASCII characters,
/// such as a UUID.
///
/// ```
/// let key = soloist::IdempotencyKey::new("8e03978e-40d5-43e8-bc93-6894a57f9324")?;
/// assert!(soloist::IdempotencyKey::new("").is_err());
/// # Ok::<(), soloist::Error>(())
/// ```
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct IdempotencyKey {
    key: String,
    subject: String,
}

impl IdempotencyKey {
    /// Checks a key.
    ///
    /// # Errors
    /// [`Error::Invalid`] `invalid_idempotency_key`.
    pub fn new(key: impl Into<String>) -> Result<Self> {
        let key = key.into();
        let fits = !key.is_empty() && key.len() <= limits::IDEMPOTENCY_KEY_MAX_BYTES;
        if fits && key.bytes().all(|byte| byte.is_ascii_graphic() || byte == b' ') {
            return Ok(Self { key, subject: String::new() });
        }
        Err(Error::invalid(
            "invalid_idempotency_key",
            format!(
                "an idempotency key has 1 to {} printable ASCII characters; a UUID is a good one",
                limits::IDEMPOTENCY_KEY_MAX_BYTES
            ),
        ))
    }

    /// The same key, of a subject: who sends the request. Another subject's key is another key.
    #[must_use]
    pub fn of(mut self, subject: impl Into<String>) -> Self {
        self.subject = subject.into();
        self
    }
}

impl fmt::Debug for IdempotencyKey {
    /// Not the key: whoever knows it can read the answer.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("IdempotencyKey")
    }
}

/// What a key is used for; the same key of another call is another key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Call {
    /// Create a task.
    Create,
    /// Start a task.
    #[default]
    Start,
    /// Start a task in the same request that creates it.
    CreateAndStart,
    /// Start a task in the same request that creates it and watches it.
    StartOrAttach,
}

impl Call {
    /// The word on record.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Start => "start",
            Self::CreateAndStart => "create_and_start",
            Self::StartOrAttach => "start_or_attach",
        }
    }
}

/// A use of a key, as a store compares it: the key with whose it is and what for, and a digest of the request.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Idempotency {
    /// The key.
    pub key: String,
    /// Whose it is; empty where callers are not told apart.
    pub subject: String,
    /// What it is used for.
    pub call: Call,
    /// SHA-256 of the request, in hexadecimal; equal for requests that mean the same.
    pub digest: String,
}

impl fmt::Debug for Idempotency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Idempotency({})", self.call.as_str())
    }
}

impl Idempotency {
    /// The use of a key to create a task: the same request names the same id, owner, retries and times, an input of the
    /// same value, and what is to be done with the task besides (`then`, such as `start`).
    #[must_use]
    pub fn create(key: &IdempotencyKey, task: &NewTask, then: &str) -> Self {
        let id = match &task.id {
            NewId::Named(key) => key.to_string(),
            NewId::Assigned(model) => model.to_string(),
        };
        let owner = task.owner.as_deref().unwrap_or_default();
        let retries = task.max_retries.unwrap_or_default().to_string();
        let mut parts = vec![&*id, owner, &retries, then];
        // Said only where it is said: what was kept before there was any of it stays what it was.
        let said = [
            ("timeout", task.timeout_seconds.map(i64::from)),
            ("deadline", task.deadline_seconds.map(i64::from)),
            ("run_at", task.run_at.map(crate::Timestamp::as_micros)),
        ];
        let said: Vec<String> =
            said.iter().filter_map(|(name, value)| Some(format!("{name}={}", (*value)?))).collect();
        let input = task.input.canonical();
        parts.extend(said.iter().map(String::as_str));
        parts.push(&input);
        Self::new(key, Call::Create, &parts)
    }

    /// The use of a key to start a task.
    #[must_use]
    pub fn start(key: &IdempotencyKey, call: Call, policy: Policy) -> Self {
        Self::new(key, call, &[policy.as_str()])
    }

    fn new(key: &IdempotencyKey, call: Call, parts: &[&str]) -> Self {
        let mut digest = Sha256::new();
        for part in parts {
            digest.update(u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes());
            digest.update(part);
        }
        let digest = digest.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
        Self { key: key.key.clone(), subject: key.subject.clone(), call, digest }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Json, Key};

    #[test]
    fn a_request_is_the_same_where_it_means_the_same() {
        let key = IdempotencyKey::new("k").unwrap();
        let create = |input: &str, id: &str| {
            let id: Key = id.parse().unwrap();
            Idempotency::create(&key, &NewTask::named(id, Json::parse(input).unwrap()), "")
        };
        let first = create(r#"{"a": 1, "b": ["x"]}"#, "a/B/1");
        assert_eq!(first, create(r#"{"b":["\u0078"],"a":1}"#, "a/B/1"));
        assert_ne!(first, create(r#"{"a": 1.0, "b": ["x"]}"#, "a/B/1"));
        assert_ne!(first, create(r#"{"a": 1, "b": ["x"]}"#, "a/B/2"));
        let start = |policy| Idempotency::start(&key, Call::Start, policy);
        assert_ne!(start(Policy::Once), start(Policy::Restart));
    }

    #[test]
    fn a_key_is_short_printable_text() {
        for bad in ["", "a\nb", "ü", &"x".repeat(limits::IDEMPOTENCY_KEY_MAX_BYTES + 1)] {
            assert_eq!(IdempotencyKey::new(bad).unwrap_err().code(), "invalid_idempotency_key", "{bad:?}");
        }
        assert!(IdempotencyKey::new("x".repeat(limits::IDEMPOTENCY_KEY_MAX_BYTES)).is_ok());
    }
}
