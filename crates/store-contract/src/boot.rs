//! The clock that leases are measured by, moved by hand.
//!
//! Decides: nothing moves unless a promise moves it, so no lease runs out because a test machine is slow.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use soloist::BootClock;

/// A [`BootClock`] that stands still until it is moved. Clones share the time; each says of itself which boot it is of.
#[derive(Debug, Clone)]
pub struct ManualBootClock {
    now_us: Arc<AtomicU64>,
    boot_id: Arc<str>,
}

impl ManualBootClock {
    /// A clock that shows this time since the boot `boot-1`.
    #[must_use]
    pub fn at(now: Duration) -> Self {
        let clock = Self { now_us: Arc::default(), boot_id: "boot-1".into() };
        clock.set(now);
        clock
    }

    /// The same time, of another boot: the clock of a host that was started again.
    #[must_use]
    pub fn of_boot(&self, boot_id: &str) -> Self {
        Self { now_us: self.now_us.clone(), boot_id: boot_id.into() }
    }

    /// Moves every clone on.
    pub fn advance(&self, by: Duration) {
        self.now_us.fetch_add(micros(by), Ordering::SeqCst);
    }

    /// Sets every clone, as no clock of a host should ever be.
    pub fn set(&self, now: Duration) {
        self.now_us.store(micros(now), Ordering::SeqCst);
    }
}

impl BootClock for ManualBootClock {
    fn now(&self) -> Duration {
        Duration::from_micros(self.now_us.load(Ordering::SeqCst))
    }

    fn boot_id(&self) -> &str {
        &self.boot_id
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).expect("a test takes no 500,000 years")
}
