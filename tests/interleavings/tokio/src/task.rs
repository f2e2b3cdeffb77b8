//! `tokio::task`.
//!
//! No task but the test itself keeps an execution going: what goes on in the background is left where it stands when the
//! test has come to its end, and a test that waits while nothing goes on is a deadlock.

use std::{
    collections::VecDeque,
    fmt,
    future::Future,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard},
    task::{Context, Poll, Waker},
};

use shuttle::future as scheduled;

pub use shuttle::future::yield_now;

/// Why a task has no result: it was aborted. (One that panics fails the whole execution.)
#[derive(Debug)]
pub struct JoinError(());

impl fmt::Display for JoinError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the task was aborted")
    }
}

impl std::error::Error for JoinError {}

/// A task that can be waited for.
#[derive(Debug)]
pub struct JoinHandle<T> {
    end: Arc<End<T>>,
    task: scheduled::AbortHandle,
}

#[derive(Debug)]
struct End<T>(Mutex<Ending<T>>);

#[derive(Debug)]
struct Ending<T> {
    result: Option<Result<T, JoinError>>,
    is_over: bool,
    waker: Option<Waker>,
}

impl<T> End<T> {
    fn lock(&self) -> MutexGuard<'_, Ending<T>> {
        self.0.lock().expect("no code panics while it holds an ending")
    }

    fn set(&self, result: Result<T, JoinError>) {
        let mut ending = self.lock();
        if !std::mem::replace(&mut ending.is_over, true) {
            ending.result = Some(result);
        }
        let waker = ending.waker.take();
        drop(ending);
        waker.into_iter().for_each(Waker::wake);
    }
}

/// A task, and what becomes known of its end.
struct Told<F: Future> {
    future: Option<Pin<Box<F>>>,
    end: Arc<End<F::Output>>,
}

impl<F: Future> Future for Told<F> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let future = self.future.as_mut().expect("a task that is over is not polled");
        let Poll::Ready(output) = future.as_mut().poll(cx) else { return Poll::Pending };
        self.future = None;
        self.end.set(Ok(output));
        Poll::Ready(())
    }
}

impl<F: Future> Drop for Told<F> {
    fn drop(&mut self) {
        // What it held goes before anybody is told.
        self.future = None;
        self.end.set(Err(JoinError(())));
    }
}

/// Begins a task.
pub fn spawn<F>(future: F) -> JoinHandle<F::Output>
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    let ending = Ending { result: None, is_over: false, waker: None };
    let end = Arc::new(End(Mutex::new(ending)));
    let task = scheduled::spawn(Told { future: Some(Box::pin(future)), end: end.clone() });
    JoinHandle { end, task: task.abort_handle() }
}

/// Begins work that blocks its thread.
pub fn spawn_blocking<F, T>(run: F) -> JoinHandle<T>
where
    F: FnOnce() -> T + Send + 'static,
    T: Send + 'static,
{
    spawn(async move { run() })
}

impl<T> JoinHandle<T> {
    /// Drops it at its next await.
    pub fn abort(&self) {
        self.task.abort();
    }

    /// Whether it has come to its end.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        interleaved::switch();
        self.end.lock().is_over
    }
}

impl<T> Future for JoinHandle<T> {
    type Output = Result<T, JoinError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        interleaved::switch();
        let mut ending = self.end.lock();
        if ending.is_over {
            return Poll::Ready(ending.result.take().expect("a handle is not polled after it has answered"));
        }
        ending.waker = Some(cx.waker().clone());
        Poll::Pending
    }
}

/// Tasks that end with their set.
#[derive(Debug)]
pub struct JoinSet<T> {
    tasks: VecDeque<JoinHandle<T>>,
}

impl<T> JoinSet<T> {
    /// An empty one.
    #[must_use]
    pub fn new() -> Self {
        Self { tasks: VecDeque::new() }
    }

    /// Begins a task.
    pub fn spawn(&mut self, task: impl Future<Output = T> + Send + 'static)
    where
        T: Send + 'static,
    {
        self.tasks.push_back(spawn(task));
    }

    /// A task that has come to its end.
    pub fn try_join_next(&mut self) -> Option<Result<T, JoinError>> {
        let index = self.tasks.iter().position(JoinHandle::is_finished)?;
        let task = self.tasks.remove(index)?;
        let result = task.end.lock().result.take();
        result
    }
}

impl<T> Default for JoinSet<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> Drop for JoinSet<T> {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}
