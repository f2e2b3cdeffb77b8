//! `std::sync::mpsc`, where a wait with a bound ends when tests let that much time pass.

use std::{fmt, time::Duration};

use futures_channel::mpsc::{UnboundedReceiver, UnboundedSender, unbounded};
use futures_util::{
    StreamExt as _,
    future::{Either, select},
};
use shuttle::{future::block_on, sync::Mutex};

use crate::{switch, time::sleep};

pub use std::sync::mpsc::{RecvError, RecvTimeoutError, SendError};

/// The sending half.
pub struct Sender<T>(UnboundedSender<T>);

/// The receiving half.
pub struct Receiver<T>(Mutex<UnboundedReceiver<T>>);

/// Both halves.
#[must_use]
pub fn channel<T>() -> (Sender<T>, Receiver<T>) {
    let (sender, receiver) = unbounded();
    (Sender(sender), Receiver(Mutex::new(receiver)))
}

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<T> Sender<T> {
    /// Sends.
    ///
    /// # Errors
    /// Where nobody can receive it.
    pub fn send(&self, value: T) -> Result<(), SendError<T>> {
        switch();
        self.0.unbounded_send(value).map_err(|error| SendError(error.into_inner()))
    }
}

impl<T> Receiver<T> {
    fn inner(&self) -> shuttle::sync::MutexGuard<'_, UnboundedReceiver<T>> {
        self.0.lock().expect("no code panics while it receives")
    }

    /// Waits for the next value.
    ///
    /// # Errors
    /// Where nobody can send one.
    pub fn recv(&self) -> Result<T, RecvError> {
        block_on(self.inner().next()).ok_or(RecvError)
    }

    /// The same, for so long.
    ///
    /// # Errors
    /// Where nobody can send one, or the time is over.
    pub fn recv_timeout(&self, timeout: Duration) -> Result<T, RecvTimeoutError> {
        let mut inner = self.inner();
        match block_on(select(inner.next(), sleep(timeout))) {
            Either::Left((value, _)) => value.ok_or(RecvTimeoutError::Disconnected),
            Either::Right(_) => Err(RecvTimeoutError::Timeout),
        }
    }
}

impl<T> fmt::Debug for Sender<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sender")
    }
}

impl<T> fmt::Debug for Receiver<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Receiver")
    }
}
