//! Time that passes when tests say so.
//!
//! Decides: which timers are over. All of an execution share one clock; it stands still while the program runs, and moves
//! by [`pass`] and [`pass_to_a_timer`]. So a hang is a deadlock, which the scheduler finds, and no run depends on the host's clock.

use std::{
    cell::RefCell,
    collections::BTreeMap,
    future::Future,
    pin::Pin,
    task::{Context, Poll, Waker},
    time::Duration,
};

use shuttle::{
    current::{TaskId, get_current_task},
    rand::{Rng as _, thread_rng},
};

thread_local! {
    static CLOCK: RefCell<Clock> = RefCell::default();
}

#[derive(Default)]
struct Clock {
    now: Duration,
    next: u64,
    timers: BTreeMap<(Duration, u64), Waker>,
    /// The task in which time passes while nothing else goes on.
    idle: Option<TaskId>,
}

/// Sets the clock to its beginning: once, before anything else of an execution.
pub fn begin() {
    let before = CLOCK.take();
    drop(before);
}

/// The time since the beginning.
#[must_use]
pub fn now() -> Duration {
    CLOCK.with_borrow(|clock| clock.now)
}

/// How many timers wait.
#[must_use]
pub fn timers() -> usize {
    CLOCK.with_borrow(|clock| clock.timers.len())
}

fn pass_until(then: Duration) {
    let due = CLOCK.with_borrow_mut(|clock| {
        clock.now = clock.now.max(then);
        let later = clock.timers.split_off(&(clock.now, u64::MAX));
        std::mem::replace(&mut clock.timers, later)
    });
    due.into_values().for_each(Waker::wake);
}

/// Lets time pass. Nobody else goes on meanwhile.
pub fn pass(time: Duration) {
    pass_until(now() + time);
}

/// Lets time pass until one of the timers that wait is over, and with it all that are over before. False where none waits.
pub fn pass_to_a_timer() -> bool {
    let count = timers();
    if count == 0 {
        return false;
    }
    let chosen = thread_rng().gen_range(0..count);
    let then = CLOCK.with_borrow(|clock| clock.timers.keys().nth(chosen).map(|(then, _)| *then));
    pass_until(then.unwrap_or_default());
    true
}

/// Lets time pass, from timer to timer, and for so long at most, while nothing else goes on: to be run as a task, which
/// the scheduler of the test has to hold back where it [`is_idle_time`].
pub async fn pass_while_idle(most: Duration) {
    CLOCK.with_borrow_mut(|clock| clock.idle = get_current_task());
    loop {
        crate::pause().await;
        let next = CLOCK.with_borrow(|clock| clock.timers.keys().next().map(|(next, _)| *next));
        match next.filter(|next| *next <= most) {
            Some(next) => pass_until(next),
            None => return,
        }
    }
}

/// Whether this is the task in which time passes while nothing else goes on.
#[must_use]
pub fn is_idle_time(task: TaskId) -> bool {
    CLOCK.with_borrow(|clock| clock.idle == Some(task))
}

/// A timer.
#[derive(Debug)]
pub struct Sleep {
    until: Duration,
    number: Option<u64>,
}

/// A timer that is over after so much time.
#[must_use]
pub fn sleep(time: Duration) -> Sleep {
    sleep_until(now().saturating_add(time))
}

/// A timer that is over at this time.
#[must_use]
pub fn sleep_until(until: Duration) -> Sleep {
    Sleep { until, number: None }
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        CLOCK.with_borrow_mut(|clock| {
            if clock.now >= self.until {
                return Poll::Ready(());
            }
            let number = *self.number.get_or_insert(clock.next);
            clock.next = clock.next.max(number + 1);
            clock.timers.insert((self.until, number), cx.waker().clone());
            Poll::Pending
        })
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        let Some(number) = self.number else { return };
        // Not there where the thread itself ends.
        let _ = CLOCK.try_with(|clock| clock.borrow_mut().timers.remove(&(self.until, number)));
    }
}
