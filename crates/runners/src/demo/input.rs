//! Input: the numbers that a demo model takes, read with their bounds.

use serde::{Deserialize, Deserializer, de::Error};

/// Reads a number up to `MAX`.
pub(super) fn at_most<'de, const MAX: u64, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    let number = u64::deserialize(deserializer)?;
    if number > MAX {
        return Err(D::Error::custom(format!("{number} is too large; at most {MAX} is allowed")));
    }
    Ok(number)
}
