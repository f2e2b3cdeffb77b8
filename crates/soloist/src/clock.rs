//! The one place that reads local time.
//!
//! Decides: what a point in time is on record ([`Timestamp`]: UTC, microseconds), and what a lease is measured by
//! ([`BootClock`]: it never steps, and it counts the time for which the host was suspended). Never decides an order:
//! events are ordered by their `seq` and tasks by their number, whatever the clock does.

use std::{
    fmt,
    str::FromStr,
    sync::{Arc, LazyLock},
    time::Duration,
};

/// A point in time in UTC, in whole microseconds; written as RFC 3339.
///
/// ```
/// let t: soloist::Timestamp = "2026-11-23T12:00:00.123456Z".parse()?;
/// assert_eq!(t.to_string(), "2026-11-23T12:00:00.123456Z");
/// # Ok::<(), soloist::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(i64);

impl Timestamp {
    /// The present by the host's wall clock.
    #[must_use]
    pub fn now() -> Self {
        Self(jiff::Timestamp::now().as_microsecond())
    }

    /// From microseconds since the Unix epoch, as stores keep it. What lies outside the years 1 to 9999 is moved to
    /// the nearest that RFC 3339 can write.
    #[must_use]
    pub fn from_micros(micros: i64) -> Self {
        const YEAR_1: i64 = -62_135_596_800_000_000;
        const NEAR_YEAR_10000: i64 = 253_402_207_200_000_000;
        Self(micros.clamp(YEAR_1, NEAR_YEAR_10000))
    }

    /// Microseconds since the Unix epoch.
    #[must_use]
    pub fn as_micros(self) -> i64 {
        self.0
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let t = jiff::Timestamp::from_microsecond(self.0).expect("clamped to the valid range when made");
        write!(f, "{t:.6}")
    }
}

impl FromStr for Timestamp {
    type Err = crate::Error;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let t: jiff::Timestamp = text.parse().map_err(|e| {
            crate::Error::invalid("invalid_time", format!("not an RFC 3339 time: {text:?}: {e}"))
        })?;
        // What lies outside is moved here as well: a store gives back the time that it was given.
        Ok(Self::from_micros(t.as_microsecond()))
    }
}

impl From<Timestamp> for std::time::SystemTime {
    fn from(timestamp: Timestamp) -> Self {
        let since = std::time::Duration::from_micros(timestamp.0.unsigned_abs());
        if timestamp.0 < 0 { Self::UNIX_EPOCH - since } else { Self::UNIX_EPOCH + since }
    }
}

/// The host's wall clock in nanoseconds since the Unix epoch, for measurements that compare two processes of one host.
#[must_use]
pub fn wall_clock_ns() -> i64 {
    i64::try_from(jiff::Timestamp::now().as_nanosecond()).unwrap_or(i64::MAX)
}

/// Where "now" comes from. Tests hand in a clock of their own; everything else uses [`SystemClock`].
pub trait Clock: Send + Sync + 'static {
    /// The present.
    fn now(&self) -> Timestamp;
}

/// The host's wall clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        Timestamp::now()
    }
}

/// A shared clock.
pub type SharedClock = Arc<dyn Clock>;

/// The clock of a lease on one host: the time since the host was booted, suspension included. Nobody can set it, and all
/// processes of the host read the same one. Tests hand in one of their own; everything else uses [`HostBootClock`].
pub trait BootClock: Send + Sync + 'static {
    /// The time since the boot.
    fn now(&self) -> Duration;

    /// Which boot it counts from. What was written under another one is of processes that are gone.
    fn boot_id(&self) -> &str;
}

/// A shared clock of leases.
pub type SharedBootClock = Arc<dyn BootClock>;

/// The host's own: `CLOCK_BOOTTIME` and the kernel's boot id. Where the system has neither (not Linux) its monotonic
/// clock, which does not count suspension.
#[derive(Debug, Clone, Copy, Default)]
pub struct HostBootClock;

impl BootClock for HostBootClock {
    fn now(&self) -> Duration {
        #[cfg(target_os = "linux")]
        let clock = rustix::time::ClockId::Boottime;
        #[cfg(not(target_os = "linux"))]
        let clock = rustix::time::ClockId::Monotonic;
        let now = rustix::time::clock_gettime(clock);
        let seconds = u64::try_from(now.tv_sec).expect("the time since the boot is not negative");
        Duration::new(seconds, u32::try_from(now.tv_nsec).expect("a second has less than 2^32 nanoseconds"))
    }

    fn boot_id(&self) -> &str {
        static ID: LazyLock<String> = LazyLock::new(|| {
            let id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
            id.trim().to_owned()
        });
        &ID
    }
}

#[cfg(test)]
mod tests {
    use super::Timestamp;

    #[test]
    fn times_are_written_with_microseconds_and_read_back() {
        for micros in [0, 1, 1_700_000_000_000_000, -1, i64::MAX, i64::MIN] {
            let t = Timestamp::from_micros(micros);
            assert_eq!(t.to_string().parse::<Timestamp>().unwrap(), t);
        }
    }
}
