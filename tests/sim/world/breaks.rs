//! What breaks, and when.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use super::{Due, World};

impl World {
    pub(super) fn break_something(&mut self) {
        let (age, weather) = (self.ground.age_ms(), self.ground.weather.clone());
        let (fail, later): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.fails).into_iter().partition(|(at, ..)| *at <= age);
        self.fails = later;
        for (_, n, for_ms) in fail {
            self.ground.note(n, "has no store", "", || format!("for {for_ms} ms"));
            self.ground.takes_away(Some(n), for_ms);
        }
        let due: Vec<Due> = self.due.iter().filter(|(_, at)| **at <= age).map(|(what, _)| *what).collect();
        for what in due {
            let every = match what {
                Due::Crash => weather.crash_every_ms,
                Due::Pause => weather.pause_every_ms,
                Due::Outage => weather.outage_every_ms,
                Due::Drain => weather.drain_every_ms,
                Due::Skew => weather.skew_every_ms,
                Due::Ask => weather.ask_every_ms,
                Due::Watch => weather.watch_every_ms,
            };
            self.due.insert(what, age + self.dice.between(1, every * 2));
            let n = usize::try_from(self.dice.below(self.nodes.len() as u64)).unwrap();
            match what {
                Due::Crash => {
                    if self.nodes[n].life.is_some() {
                        self.totals.crashes += 1;
                        self.ground.note(n, "is killed", "", String::new);
                        self.end(n);
                        self.nodes[n].begins_ms = age + self.dice.of(&[0, 50, 400, 1500]);
                    }
                }
                Due::Pause => {
                    let lease = weather.lease_ms;
                    let pause = self.dice.of(&[30, lease / 4, lease * 7 / 10, lease, lease * 5 / 2]);
                    let until = self.ground.now_ms() + self.dice.between(pause / 2, pause);
                    if let Some(life) = &mut self.nodes[n].life {
                        self.totals.pauses += 1;
                        self.ground
                            .note(n, "is stopped", "", || format!("for {} ms", until - self.ground.now_ms()));
                        life.paused_until = Some(until);
                        self.ground.oracle().life_pauses(life.number);
                    }
                }
                Due::Outage => {
                    self.totals.outages += 1;
                    let node = self.dice.per_mille(700).then_some(n);
                    let for_ms = self.dice.between(20, weather.lease_ms * 3 / 2);
                    if self.dice.per_mille(600) {
                        // First it is slow, then it is gone.
                        self.ground.note(n, "has a slow line", "", || format!("for {for_ms} ms"));
                        self.ground.slows(n, for_ms);
                        self.fails.push((age + for_ms, n, self.dice.between(20, weather.lease_ms * 3 / 2)));
                        continue;
                    }
                    self.ground.note(node.unwrap_or(9), "has no store", "", || format!("for {for_ms} ms"));
                    self.ground.takes_away(node, for_ms);
                }
                Due::Drain => self.drain(n),
                Due::Skew => {
                    let ahead = i64::try_from(self.dice.below(160)).unwrap() - 80;
                    if let Some(life) = &self.nodes[n].life {
                        life.ahead_ms.store(ahead, Relaxed);
                    }
                }
                Due::Ask => self.ask(),
                Due::Watch => self.watch(),
            }
        }
    }

    fn drain(&mut self, n: usize) {
        let grace = Duration::from_millis(self.dice.of(&[0, 100, 1000]));
        let Some(life) = &mut self.nodes[n].life else { return };
        let Some(handle) = life.handle.lock().unwrap().clone() else { return };
        if life.drained.is_some() {
            return;
        }
        self.totals.drains += 1;
        self.ground.note(n, "shuts down", "", || format!("{grace:?}"));
        let drained = Arc::new(AtomicBool::new(false));
        life.drained = Some(drained.clone());
        life.runtime.spawn(async move {
            handle.shutdown(grace).await;
            drained.store(true, Relaxed);
        });
    }
}
