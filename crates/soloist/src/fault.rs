//! Places where a test may have this process killed, at every step that the core and its stores take.
//!
//! Decides: nothing, unless it is built with `fault-points`: then `FAULT_POINT=<name>:<n>` kills the process at the n-th
//! pass of the place of that name, as `kill -9` does. Without that feature nothing of it is there. Whoever adds a place
//! names it here: a name that is listed and stands nowhere, or the other way round, fails the checks of the tree, and one
//! that is never passed fails `tests/faults`.

/// The names of all places: the crate, the verb, and which step of it.
pub const POINTS: &[&str] = &[
    // The core: before a request to the store, after its answer, and after what this process then does with it.
    "core:open-joined",
    "core:open-buried",
    "core:open-settled",
    "core:create-before",
    "core:create-after",
    "core:create-claimed-before",
    "core:create-claimed-after",
    "core:claim-before",
    "core:claim-won",
    "core:claim-queued",
    "core:claim-noted",
    "core:claim-held",
    "core:next-before",
    "core:next-begun",
    "core:replace-cancelled",
    "core:queued-claim-before",
    "core:queued-claim-won",
    "core:ripen-before",
    "core:ripen-after",
    "core:append-before",
    "core:append-after",
    "core:append-shown",
    "core:timeout-before",
    "core:timeout-after",
    "core:requeue-before",
    "core:requeue-after",
    "core:finish-before",
    "core:finish-after",
    "core:finish-forgotten",
    "core:finish-shown",
    "core:cancel-before",
    "core:cancel-after",
    "core:signal-before",
    "core:signal-after",
    "core:delete-before",
    "core:delete-after",
    "core:heartbeat-before",
    "core:heartbeat-after",
    "core:rejoin-before",
    "core:rejoin-after",
    "core:takeover-buried",
    "core:takeover-found",
    "core:takeover-settled",
    "core:prune-before",
    "core:prune-after",
    "core:tidy-before",
    "core:tidy-after",
    "core:drain-begun",
    "core:drain-before",
    "core:drain-after",
    "core:drain-waited",
    "core:leave-before",
    "core:leave-after",
    // SQLite: between the statements of a transaction, around commits, and around the lock files beside the database.
    "sqlite:open-made",
    "sqlite:open-locked",
    "sqlite:open-settled",
    "sqlite:migrate-before",
    "sqlite:migrate-begun",
    "sqlite:migrate-tables",
    "sqlite:migrate-marked",
    "sqlite:migrate-numbered",
    "sqlite:migrate-after",
    "sqlite:join-locked",
    "sqlite:join-row",
    "sqlite:join-served",
    "sqlite:join-after",
    "sqlite:commit-begun",
    "sqlite:commit-before",
    "sqlite:commit-after",
    "sqlite:create-row",
    "sqlite:create-input",
    "sqlite:create-revived",
    "sqlite:create-key",
    "sqlite:claim-row",
    "sqlite:claim-noted",
    "sqlite:claim-decided",
    "sqlite:claim-key",
    "sqlite:queued-claim-row",
    "sqlite:ripen-rows",
    "sqlite:append-row",
    "sqlite:append-events",
    "sqlite:requeue-row",
    "sqlite:requeue-events",
    "sqlite:finish-row",
    "sqlite:finish-events",
    "sqlite:finish-silenced",
    "sqlite:cancel-row",
    "sqlite:cancel-told",
    "sqlite:signal-row",
    "sqlite:signal-told",
    "sqlite:delete-row",
    "sqlite:prune-rows",
    "sqlite:entomb-tombstone",
    "sqlite:entomb-events",
    "sqlite:tidy-unlinked",
    "sqlite:tidy-forgotten",
    "sqlite:tidy-cleared",
    "sqlite:tidy-expired",
    "sqlite:tidy-outlived",
    "sqlite:heartbeat-before",
    "sqlite:heartbeat-begun",
    "sqlite:heartbeat-row",
    "sqlite:heartbeat-after",
    "sqlite:bury-found",
    "sqlite:bury-row",
    "sqlite:bury-marked",
    "sqlite:bury-unlinked",
    "sqlite:leave-unlinked",
    // PostgreSQL: before a statement is sent, and after its answer, which is lost then; between those of a transaction.
    "postgres:ask-before",
    "postgres:ask-after",
    "postgres:migrate-begun",
    "postgres:migrate-locked",
    "postgres:migrate-schema",
    "postgres:migrate-versions",
    "postgres:migrate-tables",
    "postgres:migrate-numbered",
    "postgres:migrate-after",
    "postgres:join-before",
    "postgres:join-row",
    "postgres:join-looked",
    "postgres:create-before",
    "postgres:create-after",
    "postgres:create-keyed-before",
    "postgres:create-keyed-after",
    "postgres:use-key-before",
    "postgres:use-key-after",
    "postgres:claim-before",
    "postgres:claim-after",
    "postgres:claim-keyed-before",
    "postgres:claim-keyed-after",
    "postgres:want-before",
    "postgres:want-after",
    "postgres:queued-claim-before",
    "postgres:queued-claim-after",
    "postgres:ripen-before",
    "postgres:ripen-after",
    "postgres:append-before",
    "postgres:append-after",
    "postgres:requeue-before",
    "postgres:requeue-after",
    "postgres:finish-before",
    "postgres:finish-after",
    "postgres:cancel-before",
    "postgres:cancel-after",
    "postgres:group-told",
    "postgres:signal-before",
    "postgres:signal-after",
    "postgres:delete-before",
    "postgres:delete-after",
    "postgres:prune-before",
    "postgres:prune-after",
    "postgres:tidy-emptied",
    "postgres:tidy-cleared",
    "postgres:tidy-expired",
    "postgres:tidy-forgotten",
    "postgres:slots-before",
    "postgres:slots-after",
    "postgres:bury-before",
    "postgres:bury-after",
    "postgres:heartbeat-connected",
    "postgres:heartbeat-before",
    "postgres:heartbeat-after",
    "postgres:leave-before",
    "postgres:leave-after",
    "postgres:listen-before",
    "postgres:listen-after",
    "postgres:notify-before",
    "postgres:notify-after",
];

/// A place. Nothing is done here.
#[cfg(not(feature = "fault-points"))]
#[inline(always)]
pub fn point(_name: &'static str) {}

/// How often something is done in the background.
#[cfg(not(feature = "fault-points"))]
pub(crate) fn every(usual: std::time::Duration) -> std::time::Duration {
    usual
}

#[cfg(feature = "fault-points")]
pub use asked::point;

#[cfg(feature = "fault-points")]
pub(crate) use asked::every;

#[cfg(feature = "fault-points")]
mod asked {
    use std::{
        sync::{
            LazyLock,
            atomic::{AtomicU64, Ordering},
        },
        time::Duration,
    };

    /// The place, and at which pass.
    static ASKED: LazyLock<Option<(String, u64)>> = LazyLock::new(|| {
        let asked = std::env::var("FAULT_POINT").ok()?;
        let (name, pass) = asked.rsplit_once(':').expect("FAULT_POINT is <name>:<n>");
        assert!(super::POINTS.contains(&name), "there is no fault point {name}");
        Some((name.to_owned(), pass.parse().expect("FAULT_POINT is <name>:<n>")))
    });

    /// A place.
    pub fn point(name: &'static str) {
        static PASSES: AtomicU64 = AtomicU64::new(0);
        if let Some((asked, pass)) = &*ASKED
            && asked == name
            && PASSES.fetch_add(1, Ordering::SeqCst) + 1 == *pass
        {
            let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
            loop {
                std::thread::park();
            }
        }
    }

    /// Where a test waits to see it killed in the middle, what is done in the background is done all the time.
    pub(crate) fn every(usual: Duration) -> Duration {
        if ASKED.is_some() { Duration::from_secs(1) } else { usual }
    }
}
