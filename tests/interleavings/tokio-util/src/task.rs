//! `tokio_util::task`.

use std::future::Future;

use interleaved::switch;
use tokio::task::{JoinHandle, spawn};
use tokio_util::task as real;

/// Knows which of its tasks are still there.
#[derive(Debug, Clone, Default)]
pub struct TaskTracker(real::TaskTracker);

impl TaskTracker {
    /// One without tasks.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Begins a task.
    pub fn spawn<F>(&self, task: F) -> JoinHandle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        switch();
        spawn(self.0.track_future(task))
    }

    /// From now on a wait may end.
    pub fn close(&self) -> bool {
        switch();
        self.0.close()
    }

    /// Ready once it is closed and none of its tasks is there.
    pub async fn wait(&self) {
        self.0.wait().await;
    }
}
