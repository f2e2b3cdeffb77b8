//! Panics of the work, caught where they happen.
//!
//! Decides: what a panic of the work becomes, a [`Failure`] with the message and the place. Never decides for any other
//! panic: those go to the hook that the process had before.

use std::{
    any::Any,
    backtrace::Backtrace,
    cell::{Cell, RefCell},
    future::Future,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    sync::Once,
    task::{Context, Poll},
};

use crate::Failure;

thread_local! {
    /// Whether this thread is polling work right now.
    static IN_WORK: Cell<bool> = const { Cell::new(false) };
    /// Where the work of this thread panicked last.
    static PLACE: RefCell<Option<String>> = const { RefCell::new(None) };
}

static HOOK: Once = Once::new();

/// A future whose panic becomes a failure. After one it is not polled again.
pub(crate) struct Caught<F> {
    inner: Pin<Box<F>>,
}

impl<F> Caught<F> {
    pub(crate) fn new(inner: F) -> Self {
        HOOK.call_once(install_hook);
        Self { inner: Box::pin(inner) }
    }
}

impl<F, T> Future for Caught<F>
where
    F: Future<Output = Result<T, Failure>>,
{
    type Output = Result<T, Failure>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let before = IN_WORK.replace(true);
        let polled = catch_unwind(AssertUnwindSafe(|| self.inner.as_mut().poll(cx)));
        IN_WORK.set(before);
        polled.unwrap_or_else(|payload| Poll::Ready(Err(failure(&*payload))))
    }
}

/// Work that panics says so on the record of its task, with the message; a message may hold payloads, so it does not
/// go to stderr as well.
fn install_hook() {
    let before = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        if !IN_WORK.get() {
            return before(info);
        }
        let place = info.location().map(|l| format!("at {}:{}:{}\n", l.file(), l.line(), l.column()));
        let backtrace = Backtrace::force_capture();
        PLACE.set(Some(format!("{}{backtrace}", place.unwrap_or_default())));
    }));
}

fn failure(payload: &(dyn Any + Send)) -> Failure {
    let message = payload
        .downcast_ref::<&str>()
        .map(|s| (*s).to_owned())
        .or_else(|| payload.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "the work panicked with a payload that is no text".to_owned());
    let failure = Failure::new("Panic", message);
    match PLACE.take() {
        Some(place) => failure.with_traceback(place),
        None => failure,
    }
}
