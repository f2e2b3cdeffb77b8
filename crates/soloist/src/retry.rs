//! When a run is tried again.
//!
//! Decides: how long the next attempt waits, by how often the run was tried ([`delay`]): it doubles, up to
//! [`limits::RETRY_DELAY_MAX`], and is moved at random, so that what failed together does not come back together. Never
//! decides whether there is a next attempt: [`crate::state`] does. Work that knows better asks for a longer wait
//! ([`crate::Failure::retry_after`]).

use std::time::Duration;

use crate::{chance, limits};

/// The wait before the `nth` retry of a run, from 1, where the first one waits about `base`.
///
/// ```
/// use std::time::Duration;
/// let wait = soloist::retry::delay(Duration::from_secs(2), 3);
/// assert!(wait >= Duration::from_millis(6_400) && wait <= Duration::from_millis(9_600)); // 8 s, give or take a fifth
/// ```
#[must_use]
pub fn delay(base: Duration, nth: u32) -> Duration {
    let jitter = f64::from(limits::RETRY_JITTER_PERCENT) / 100.0;
    scaled(base, nth, chance::random_range(1.0 - jitter..=1.0 + jitter))
}

/// The same, moved by a factor.
fn scaled(base: Duration, nth: u32, factor: f64) -> Duration {
    let doublings = nth.saturating_sub(1).min(32);
    let mean =
        base.saturating_mul(1_u32.checked_shl(doublings).unwrap_or(u32::MAX)).min(limits::RETRY_DELAY_MAX);
    mean.mul_f64(factor).min(limits::RETRY_DELAY_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wait_doubles_from_its_base_up_to_five_minutes() {
        let waits =
            [1, 2, 3, 7, 8, 9, 100, u32::MAX].map(|nth| scaled(limits::RETRY_DELAY, nth, 1.0).as_secs());
        assert_eq!(waits, [2, 4, 8, 128, 256, 300, 300, 300]);
    }

    #[test]
    fn waits_differ_and_stay_within_their_bounds() {
        let waits: Vec<_> = (0..200).map(|_| delay(Duration::from_secs(10), 1)).collect();
        assert!(waits.iter().all(|wait| (8_000..=12_000).contains(&wait.as_millis())), "{waits:?}");
        assert!(waits.iter().any(|wait| *wait != waits[0]));
    }
}
