//! `std::thread`, where a thread that nobody joins does not keep the program alive, and a sleep ends when tests let that
//! much time pass.

use std::{io, time::Duration};

use futures_channel::oneshot;
use shuttle::future::{block_on, spawn as spawn_task};

/// How a thread is begun.
#[derive(Debug, Default)]
pub struct Builder(());

/// A thread that can be joined.
#[derive(Debug)]
pub struct JoinHandle<T>(oneshot::Receiver<T>);

impl Builder {
    /// As usual.
    #[must_use]
    pub fn new() -> Self {
        Self(())
    }

    /// Names are not kept.
    #[must_use]
    pub fn name(self, _name: String) -> Self {
        self
    }

    /// Begins it.
    ///
    /// # Errors
    /// None.
    pub fn spawn<F, T>(self, run: F) -> io::Result<JoinHandle<T>>
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        let (said, result) = oneshot::channel();
        // Without its handle it is a task that nobody has to wait for.
        drop(spawn_task(async move { drop(said.send(run())) }));
        Ok(JoinHandle(result))
    }
}

impl<T> JoinHandle<T> {
    /// Waits for its end.
    ///
    /// # Errors
    /// Where it has not come to its end.
    pub fn join(self) -> std::thread::Result<T> {
        block_on(self.0).map_err(|error| Box::new(error) as _)
    }
}

/// Sleeps.
pub fn sleep(duration: Duration) {
    block_on(crate::time::sleep(duration));
}
