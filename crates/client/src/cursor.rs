//! A position in a task's log, as a client keeps it.
//!
//! Decides: what is a position. It is the `id` of an event as the server sent it, and it survives being written down:
//! a program that stores its cursor resumes after its own restart as exactly as one that was cut off.

use std::{fmt, str::FromStr};

use crate::Error;

/// The last event that a viewer has seen: its `seq`, and where the server names it the epoch under which it was written.
/// A server with `durability = "relaxed"` does; only with the epoch can it tell that a power cut has taken that event,
/// and that another one stands in its place. So store all of it.
///
/// ```
/// use soloist_client::{Cursor, WatchOptions};
/// let stored = "12-3";
/// let cursor: Cursor = stored.parse()?;
/// assert_eq!(cursor, Cursor { seq: 12, epoch: Some(3) });
/// assert_eq!(cursor.to_string(), stored);
/// let options = WatchOptions { after: Some(cursor), ..WatchOptions::default() };
/// # Ok::<(), soloist_client::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Cursor {
    /// The event's seq; 0 is before the first.
    pub seq: u64,
    /// The event's epoch, where it is known.
    pub epoch: Option<u64>,
}

impl From<u64> for Cursor {
    fn from(seq: u64) -> Self {
        Self { seq, epoch: None }
    }
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.epoch {
            Some(epoch) => write!(f, "{}-{epoch}", self.seq),
            None => write!(f, "{}", self.seq),
        }
    }
}

impl FromStr for Cursor {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let read = || match text.split_once('-') {
            Some((seq, epoch)) => Some(Self { seq: number(seq)?, epoch: Some(number(epoch)?) }),
            None => Some(Self { seq: number(text)?, epoch: None }),
        };
        read().ok_or_else(|| {
            Error::Invalid(format!(
                "{text:?} is no position in a log; it is the id of an event, such as 12 or 12-3"
            ))
        })
    }
}

/// A decimal number that every store can hold.
fn number(text: &str) -> Option<u64> {
    let is_decimal = text.bytes().all(|b| b.is_ascii_digit());
    text.parse().ok().filter(|number| is_decimal && i64::try_from(*number).is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_is_read_back_as_it_was_written_and_what_is_none_is_refused() {
        for text in ["0", "12", "12-3", "9223372036854775807-9223372036854775807"] {
            assert_eq!(text.parse::<Cursor>().unwrap().to_string(), text);
        }
        for text in ["", "-", "-3", "12-", "12-3-4", "+1", "1-+1", " 1", "1.0", "x", "9223372036854775808"] {
            assert!(matches!(text.parse::<Cursor>(), Err(Error::Invalid(_))), "{text:?}");
        }
    }

    use proptest::prelude::*;

    fn config() -> ProptestConfig {
        ProptestConfig { failure_persistence: None, ..ProptestConfig::default() }
    }

    proptest! {
        #![proptest_config(config())]

        #[test]
        fn every_position_is_read_back_and_any_other_text_refused(
            seq in 0..=i64::MAX as u64, epoch in prop::option::of(0..=i64::MAX as u64),
            text in prop_oneof!["[0-9]{0,3}-?[0-9]{0,3}", "[0-9]{18,20}(-[0-9]{18,20})?", "[-+0-9 .x]{0,6}", "\\PC{0,6}"],
        ) {
            let cursor = Cursor { seq, epoch };
            prop_assert_eq!(cursor.to_string().parse::<Cursor>().unwrap(), cursor);
            // What a store can hold has no more digits than this, and is no greater.
            let is_number = |text: &str| {
                let digits = text.trim_start_matches('0');
                let fits = digits.len() < 19 || (digits.len() == 19 && digits <= "9223372036854775807");
                !text.is_empty() && text.chars().all(|c| c.is_ascii_digit()) && fits
            };
            let parts: Vec<_> = text.split('-').collect();
            let is_position = parts.len() <= 2 && parts.into_iter().all(is_number);
            let read = text.parse::<Cursor>();
            prop_assert_eq!(read.is_ok(), is_position, "{:?}", text);
            if let Ok(read) = read {
                prop_assert_eq!(read.to_string().parse::<Cursor>().unwrap(), read);
            }
        }
    }
}
