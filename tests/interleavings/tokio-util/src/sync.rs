//! `tokio_util::sync`.

use std::future::Future;

use interleaved::switch;
use tokio_util::sync as real;

/// A signal that is given once.
#[derive(Debug, Clone, Default)]
pub struct CancellationToken(real::CancellationToken);

/// Gives the signal when it is dropped.
#[derive(Debug)]
pub struct DropGuard(Option<CancellationToken>);

impl CancellationToken {
    /// One that was not given yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// One that is given with this one, or by itself.
    #[must_use]
    pub fn child_token(&self) -> Self {
        Self(self.0.child_token())
    }

    /// Gives it.
    pub fn cancel(&self) {
        switch();
        self.0.cancel();
        switch();
    }

    /// Whether it was given.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        switch();
        self.0.is_cancelled()
    }

    /// Ready once it was given.
    pub async fn cancelled(&self) {
        self.0.cancelled().await;
    }

    /// The same, on its own.
    pub async fn cancelled_owned(self) {
        self.0.cancelled_owned().await;
    }

    /// Runs something, unless and until it is given.
    pub async fn run_until_cancelled_owned<F: Future>(self, future: F) -> Option<F::Output> {
        self.0.run_until_cancelled_owned(future).await
    }

    /// Gives it when what is returned is dropped.
    #[must_use]
    pub fn drop_guard(self) -> DropGuard {
        DropGuard(Some(self))
    }
}

impl Drop for DropGuard {
    fn drop(&mut self) {
        if let Some(token) = self.0.take() {
            token.cancel();
        }
    }
}
