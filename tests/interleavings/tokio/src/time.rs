//! `tokio::time`, over the time of the tests.

use std::{
    future::Future,
    ops::{Add, Sub},
};

use futures_util::future::{Either, select};
use interleaved::time;

pub use interleaved::time::{Sleep, sleep};
pub use std::time::Duration;

/// A moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Instant(Duration);

impl Instant {
    /// The present.
    #[must_use]
    pub fn now() -> Self {
        Self(time::now())
    }

    /// The time since then.
    #[must_use]
    pub fn elapsed(&self) -> Duration {
        time::now().saturating_sub(self.0)
    }
}

impl Add<Duration> for Instant {
    type Output = Self;

    fn add(self, time: Duration) -> Self {
        Self(self.0 + time)
    }
}

impl Sub for Instant {
    type Output = Duration;

    fn sub(self, earlier: Self) -> Duration {
        self.0.saturating_sub(earlier.0)
    }
}

/// Sleeps until then.
#[must_use]
pub fn sleep_until(until: Instant) -> Sleep {
    time::sleep_until(until.0)
}

/// What was bounded took longer.
#[derive(Debug, PartialEq, Eq)]
pub struct Elapsed(());

/// Waits, for so long.
///
/// # Errors
/// Where it takes longer.
pub async fn timeout<F: Future>(time: Duration, future: F) -> Result<F::Output, Elapsed> {
    let future = std::pin::pin!(future);
    match select(future, sleep(time)).await {
        Either::Left((output, _)) => Ok(output),
        Either::Right(_) => Err(Elapsed(())),
    }
}
