//! Places where a test may have this process killed.
//!
//! Decides: nothing, unless the crate is built with `fault-points`: then `FAULT_POINT=<name>:<n>` kills the
//! process at the n-th pass of the place of that name, as `kill -9` does. Without that feature nothing of it is there.

#[cfg(not(feature = "fault-points"))]
pub(crate) fn point(_name: &str) {}

#[cfg(feature = "fault-points")]
pub(crate) fn point(name: &str) {
    use std::sync::{
        LazyLock,
        atomic::{AtomicU64, Ordering},
    };
    static ASKED: LazyLock<Option<(String, u64)>> = LazyLock::new(|| {
        let asked = std::env::var("FAULT_POINT").ok()?;
        let (name, pass) = asked.rsplit_once(':')?;
        Some((name.to_owned(), pass.parse().ok()?))
    });
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
