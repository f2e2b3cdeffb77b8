//! What is wrong with the options of a model.

/// Why options are not allowed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{key}: {message}")]
pub struct OptionError {
    /// The key, such as `command[2]` or `env.PATH`.
    pub key: String,
    /// What is wrong and what is allowed.
    pub message: String,
}

impl OptionError {
    pub(crate) fn at(key: impl Into<String>, message: impl Into<String>) -> Self {
        Self { key: key.into(), message: message.into() }
    }
}
