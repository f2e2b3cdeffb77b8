//! `tokio::sync`.

pub use shuttle_tokio::sync::{
    Mutex, MutexGuard, Notify, OwnedSemaphorePermit, Semaphore, SemaphorePermit, mpsc, oneshot,
};

/// The channel that keeps the last value, with what it has learnt since.
pub mod watch {
    use shuttle_tokio::sync::watch;

    pub use shuttle_tokio::sync::watch::{Ref, error};

    /// The sending half.
    #[derive(Debug)]
    pub struct Sender<T>(watch::Sender<T>);

    /// The receiving half.
    #[derive(Debug)]
    pub struct Receiver<T>(watch::Receiver<T>);

    /// Both halves.
    #[must_use]
    pub fn channel<T>(first: T) -> (Sender<T>, Receiver<T>) {
        let (sender, receiver) = watch::channel(first);
        (Sender(sender), Receiver(receiver))
    }

    impl<T> Sender<T> {
        /// A channel that nobody receives from yet.
        #[must_use]
        pub fn new(first: T) -> Self {
            channel(first).0
        }

        /// A receiver that has seen what is there.
        #[must_use]
        pub fn subscribe(&self) -> Receiver<T> {
            Receiver(self.0.subscribe())
        }

        /// Changes the value.
        pub fn send_modify(&self, modify: impl FnOnce(&mut T)) {
            interleaved::switch();
            self.0.send_modify(modify);
        }

        /// How many receive.
        #[must_use]
        pub fn receiver_count(&self) -> usize {
            interleaved::switch();
            self.0.receiver_count()
        }
    }

    impl<T> Clone for Sender<T> {
        fn clone(&self) -> Self {
            Self(self.0.clone())
        }
    }

    impl<T> Clone for Receiver<T> {
        fn clone(&self) -> Self {
            Self(self.0.clone())
        }
    }

    impl<T> Receiver<T> {
        /// The value.
        #[must_use]
        pub fn borrow(&self) -> Ref<'_, T> {
            self.0.borrow()
        }

        /// The value, seen.
        #[must_use]
        pub fn borrow_and_update(&mut self) -> Ref<'_, T> {
            self.0.borrow_and_update()
        }

        /// Whatever is there counts as seen.
        pub fn mark_unchanged(&mut self) {
            drop(self.0.borrow_and_update());
        }

        /// Ready when there is a value that was not seen.
        ///
        /// # Errors
        /// Where nobody can send one.
        pub async fn changed(&mut self) -> Result<(), error::RecvError> {
            self.0.changed().await
        }
    }
}
