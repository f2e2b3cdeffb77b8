//! What a session believes of its lease, from its own source, under every order that the memory model allows.
//!
//! Time stands still in each of these: what is asked is what one thread may see of what another one does.

#![allow(missing_docs, clippy::unwrap_used, dead_code)]

// What the source takes from there is below.
extern crate self as tokio_util;

#[path = "../../../../crates/soloist/src/coordinator/trust.rs"]
mod trust;

pub mod sync {
    pub(crate) use loom::sync::atomic;
    use loom::sync::{Arc, Mutex};

    /// The token of tokio-util: a flag under a lock.
    #[derive(Clone)]
    pub struct CancellationToken(Arc<Mutex<bool>>);

    impl CancellationToken {
        pub fn new() -> Self {
            Self(Arc::new(Mutex::new(false)))
        }

        pub fn cancel(&self) {
            *self.0.lock().unwrap() = true;
        }

        pub fn is_cancelled(&self) -> bool {
            *self.0.lock().unwrap()
        }
    }
}

use std::time::Duration;

use loom::{sync::Arc, thread};

use soloist::{
    lease::{self, Stage},
    limits::LEASE,
};

use crate::{sync::CancellationToken, trust::Trust};

fn at(percent: u32) -> Duration {
    Duration::from_secs(100) + LEASE * percent / 100
}

/// A session whose first heartbeat was sent at the beginning of its lease.
fn session() -> (Arc<Trust>, CancellationToken) {
    let stop = CancellationToken::new();
    (Arc::new(Trust::new(LEASE, at(0), stop.clone())), stop)
}

#[test]
fn a_heartbeat_that_comes_too_late_is_believed_by_nobody() {
    loom::model(|| {
        let (trust, _) = session();
        let beats = {
            let trust = trust.clone();
            thread::spawn(move || trust.renewed(at(65), || at(70)))
        };
        let asks = {
            let trust = trust.clone();
            thread::spawn(move || {
                assert!(!trust.is_held(|| at(70)));
                assert!(!trust.is_held(|| at(70)));
            })
        };
        beats.join().unwrap();
        asks.join().unwrap();
        assert!(!trust.is_held(|| at(70)), "and never again");
    });
}

#[test]
fn a_heartbeat_in_time_is_believed_before_it_comes_and_after() {
    loom::model(|| {
        let (trust, stop) = session();
        let beats = {
            let trust = trust.clone();
            thread::spawn(move || trust.renewed(at(30), || at(31)))
        };
        assert!(trust.is_held(|| at(31)));
        beats.join().unwrap();
        assert!(trust.is_held(|| at(89)) && !stop.is_cancelled());
        assert!(!trust.is_held(|| at(90)));
    });
}

#[test]
fn of_two_heartbeats_the_one_that_was_sent_later_counts() {
    loom::model(|| {
        let (trust, _) = session();
        let beats = [10, 20].map(|sent| {
            let trust = trust.clone();
            thread::spawn(move || trust.renewed(at(sent), || at(21)))
        });
        for beats in beats {
            beats.join().unwrap();
        }
        assert!(trust.is_held(|| at(79)));
        assert_eq!(trust.stage(|| at(80)), Stage::Stop);
    });
}

#[test]
fn a_session_that_was_stopped_is_not_believed_whatever_heartbeat_comes() {
    loom::model(|| {
        let (trust, stop) = session();
        let beats = {
            let trust = trust.clone();
            thread::spawn(move || trust.renewed(at(50), || at(55)))
        };
        let asks = {
            let trust = trust.clone();
            thread::spawn(move || {
                // Whoever has seen it stopped once sees it so from then on.
                let first = trust.is_held(|| at(55));
                assert!(first || !trust.is_held(|| at(55)));
            })
        };
        stop.cancel();
        assert!(!trust.is_held(|| at(55)));
        beats.join().unwrap();
        asks.join().unwrap();
        assert!(!trust.is_held(|| at(55)));
    });
}
