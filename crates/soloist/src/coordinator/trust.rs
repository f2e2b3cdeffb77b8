//! What a session believes of its lease, without a lock.
//!
//! Decides: whether this node's runs are certainly its own ([`Trust::is_held`]): the last good heartbeat is young, and the
//! session was not asked to stop. What is read and written here, and in which order, is the promise: whoever sees a
//! heartbeat that came too late sees as well that the session is over, so that it is never believed again.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::{
    lease::Stage,
    sync::atomic::{AtomicU64, Ordering},
};

pub(super) struct Trust {
    lease: Duration,
    /// When the last good heartbeat was sent, in nanoseconds since the boot.
    sent: AtomicU64,
    /// Given once the session is over.
    stop: CancellationToken,
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

impl Trust {
    /// Of a session whose first heartbeat was sent then.
    pub(super) fn new(lease: Duration, sent: Duration, stop: CancellationToken) -> Self {
        Self { lease, sent: AtomicU64::new(nanos(sent)), stop }
    }

    /// How far the lease has run out by now; the clock is read after what it is compared with.
    pub(super) fn stage(&self, now: impl FnOnce() -> Duration) -> Stage {
        let sent = Duration::from_nanos(self.sent.load(Ordering::Acquire));
        Stage::of(now().saturating_sub(sent), self.lease)
    }

    /// Whether this node's runs are certainly its own.
    pub(super) fn is_held(&self, now: impl FnOnce() -> Duration) -> bool {
        self.stage(now) == Stage::Trusted && !self.stop.is_cancelled()
    }

    /// A heartbeat that was sent then has come through.
    pub(super) fn renewed(&self, sent: Duration, now: impl FnOnce() -> Duration) {
        // Who was stopped for so long has left its trust window unseen, and others have acted on that.
        if self.stage(now) >= Stage::Stop {
            self.stop.cancel();
        }
        self.sent.fetch_max(nanos(sent), Ordering::AcqRel);
    }
}
