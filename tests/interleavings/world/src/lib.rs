//! What the standard library gives a program, as the scheduler of the interleavings runs it.
//!
//! Decides: where another task may go on (at every lock, atomic and channel), and that time stands still until a test
//! lets it pass. Never decides who goes on: the scheduler of [`shuttle`] does, and can do it again from what it prints.

#![forbid(unsafe_code)]

pub mod mpsc;
pub mod thread;
pub mod time;

pub use shuttle::sync;

/// A place where another task may go on.
///
/// A sleep is nothing else to the scheduler; a yield would also ask to be put behind all others.
pub fn switch() {
    shuttle::thread::sleep(std::time::Duration::ZERO);
}

/// The same for a future, which may be dropped here.
pub async fn pause() {
    let mut is_first = true;
    std::future::poll_fn(|cx| {
        if !std::mem::take(&mut is_first) {
            return std::task::Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        std::task::Poll::Pending
    })
    .await;
}
