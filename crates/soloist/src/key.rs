//! What a task is called: `app/model/id`.
//!
//! Decides: which names are valid. A [`Key`] or [`ModelKey`] is valid from birth and never changes.

use std::{fmt, str::FromStr, sync::Arc};

use crate::{Error, Result, limits};

/// The kind of a task: `app/model`. Both match `[A-Za-z_][A-Za-z0-9_.-]{0,63}`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ModelKey {
    app: Arc<str>,
    model: Arc<str>,
}

impl ModelKey {
    /// The app whose tasks only the process runs that starts them, such as those of `soloist run`. A process that
    /// serves a model of it offers that to nobody else: no start made elsewhere reaches it, and nothing of it is queued.
    pub const OWN_APP: &str = "cli";

    /// Whether it is of [`ModelKey::OWN_APP`].
    ///
    /// ```
    /// assert!(soloist::ModelKey::new("cli", "run")?.is_own());
    /// # Ok::<(), soloist::Error>(())
    /// ```
    #[must_use]
    pub fn is_own(&self) -> bool {
        &*self.app == Self::OWN_APP
    }

    /// Checks and takes both names.
    ///
    /// # Errors
    /// [`Error::Invalid`] with the code `invalid_key`.
    pub fn new(app: &str, model: &str) -> Result<Self> {
        check_name("app", app)?;
        check_name("model", model)?;
        Ok(Self { app: app.into(), model: model.into() })
    }

    /// The app.
    #[must_use]
    pub fn app(&self) -> &str {
        &self.app
    }

    /// The model.
    #[must_use]
    pub fn model(&self) -> &str {
        &self.model
    }
}

impl fmt::Display for ModelKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.app, self.model)
    }
}

/// The name of one task: `app/model/id`. The id matches `[A-Za-z0-9][A-Za-z0-9._~-]{0,127}`.
///
/// ```
/// let key: soloist::Key = "media/Transcode/42".parse()?;
/// assert_eq!((key.app(), key.model(), key.id()), ("media", "Transcode", "42"));
/// assert!("media/Transcode/../etc".parse::<soloist::Key>().is_err());
/// # Ok::<(), soloist::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key {
    model_key: ModelKey,
    id: Arc<str>,
}

impl Key {
    /// Checks and takes the three parts.
    ///
    /// # Errors
    /// [`Error::Invalid`] with the code `invalid_key`, naming the part and what is allowed.
    pub fn new(app: &str, model: &str, id: &str) -> Result<Self> {
        ModelKey::new(app, model)?.with_id(id)
    }

    /// The app.
    #[must_use]
    pub fn app(&self) -> &str {
        &self.model_key.app
    }

    /// The model.
    #[must_use]
    pub fn model(&self) -> &str {
        &self.model_key.model
    }

    /// The id within app and model.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// `app/model`.
    #[must_use]
    pub fn model_key(&self) -> &ModelKey {
        &self.model_key
    }

    /// The id as a number where it is canonical decimal (no sign, no leading zero) up to 2^53 - 1, which every JSON
    /// reader keeps exact.
    #[must_use]
    pub fn numeric_id(&self) -> Option<u64> {
        let n: u64 = self.id.parse().ok()?;
        (n < (1 << 53) && n.to_string() == *self.id).then_some(n)
    }
}

impl ModelKey {
    /// The key of the task `id` of this model.
    ///
    /// # Errors
    /// [`Error::Invalid`] with the code `invalid_key`.
    pub fn with_id(&self, id: &str) -> Result<Key> {
        check_id(id)?;
        Ok(Key { model_key: self.clone(), id: id.into() })
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.model_key, self.id)
    }
}

impl FromStr for Key {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let mut parts = text.split('/');
        match (parts.next(), parts.next(), parts.next(), parts.next()) {
            (Some(app), Some(model), Some(id), None) => Self::new(app, model, id),
            _ => Err(Error::invalid(
                "invalid_key",
                format!("a key is app/model/id, not {:?}", limits::cut(text, limits::ID_MAX_BYTES)),
            )),
        }
    }
}

fn check_name(what: &str, name: &str) -> Result<()> {
    let mut bytes = name.bytes();
    let first = bytes.next().is_some_and(|b| b.is_ascii_alphabetic() || b == b'_');
    let rest = bytes.all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-'));
    if first && rest && name.len() <= limits::NAME_MAX_BYTES {
        return Ok(());
    }
    Err(Error::invalid(
        "invalid_key",
        format!(
            "the {what} {:?} is not valid: a letter or '_', then up to {} letters, digits, '_', '.' or '-'",
            limits::cut(name, limits::NAME_MAX_BYTES),
            limits::NAME_MAX_BYTES - 1
        ),
    ))
}

fn check_id(id: &str) -> Result<()> {
    let mut bytes = id.bytes();
    let first = bytes.next().is_some_and(|b| b.is_ascii_alphanumeric());
    let rest = bytes.all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'~' | b'-'));
    if first && rest && id.len() <= limits::ID_MAX_BYTES {
        return Ok(());
    }
    Err(Error::invalid(
        "invalid_key",
        format!(
            "the id {:?} is not valid: a letter or digit, then up to {} letters, digits, '.', '_', '~' or '-'",
            limits::cut(id, limits::ID_MAX_BYTES),
            limits::ID_MAX_BYTES - 1
        ),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_checked_at_their_edges() {
        let longest = format!("{}/{}/{}", "a".repeat(64), "_".repeat(64), "0".repeat(128));
        assert_eq!(longest.parse::<Key>().unwrap().to_string(), longest);
        for bad in [
            "",
            "a",
            "a/b",
            "a/b/",
            "/b/c",
            "a//c",
            "a/b/c/d",
            "1a/b/c",
            "a/b/.c",
            "a/b/..",
            "a/b/c d",
            "a/b/\u{e9}",
            "a/b/c\n",
            "a/-b/c",
            "a/b/c%2F",
            "a/b/~c",
        ] {
            assert_eq!(bad.parse::<Key>().unwrap_err().code(), "invalid_key", "{bad:?}");
        }
        assert!(Key::new(&"a".repeat(65), "b", "c").is_err());
        assert!(Key::new("a", &"b".repeat(65), "c").is_err());
        assert!(Key::new("a", "b", &"c".repeat(129)).is_err());
    }

    #[test]
    fn only_canonical_decimal_ids_are_numbers() {
        let number = |id: &str| Key::new("a", "b", id).unwrap().numeric_id();
        assert_eq!(number("0"), Some(0));
        assert_eq!(number("9007199254740991"), Some(9_007_199_254_740_991));
        for id in ["9007199254740992", "01", "1e3", "1.0", "99999999999999999999999"] {
            assert_eq!(number(id), None, "{id}");
        }
    }
}
