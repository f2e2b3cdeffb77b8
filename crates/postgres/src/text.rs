//! Text that may hold a NUL, in a database whose text cannot.
//!
//! Decides: how such a text is stored. One without a NUL is stored as it is, so that whoever reads the table reads it.
//! One with a NUL, or one that begins with the mark itself, is stored as the mark and the text as a JSON string. Both
//! ways give back what came, and equal texts are stored alike, so they can be compared in SQL.

use std::borrow::Cow;

use crate::error::{SqlError, SqlResult};

/// Begins a text that is stored as a JSON string.
const MARK: char = '\u{1}';

/// A text as it is stored.
pub(crate) fn stored(text: &str) -> Cow<'_, str> {
    if !text.contains('\0') && !text.starts_with(MARK) {
        return Cow::Borrowed(text);
    }
    let json = serde_json::to_string(text).expect("a string can be written");
    Cow::Owned(format!("{MARK}{json}"))
}

/// The text that was stored.
pub(crate) fn loaded(stored: String) -> SqlResult<String> {
    match stored.strip_prefix(MARK) {
        None => Ok(stored),
        Some(json) => serde_json::from_str(json)
            .map_err(|_| SqlError::Corrupt("a stored text cannot be read".to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_text_comes_back_and_holds_no_nul_where_it_is_stored() {
        for text in ["", "plain \\ \" text", "\0", "a\0b", "\u{1}", "\u{1}\"x\"", "\u{2028}\u{1}\0"] {
            let kept = stored(text);
            assert!(!kept.contains('\0'), "{text:?}");
            assert_eq!(loaded(kept.into_owned()).unwrap(), text);
        }
        assert_eq!(stored("plain"), "plain");
    }
}
