//! Who asks for what, and who watches; and where each goes on when its node is gone.

use std::sync::{Arc, Mutex};

use soloist::{From, Key, Policy};

use super::World;
use crate::{
    clients::{Ask, Heard, Viewer, Watching, What, watch},
    draw::Dice,
    ground::SimulatedWall,
    work::Script,
};

impl World {
    /// Somebody asks for something.
    pub(super) fn ask(&mut self) {
        let key = self.keys[usize::try_from(self.dice.below(self.keys.len() as u64)).unwrap()].clone();
        self.totals.asks += 1;
        let number = self.totals.asks;
        let run = self.ground.oracle().run_of(&key);
        let what = match self.dice.below(100) {
            0..10 => self.create(),
            10..60 => {
                let policies = [
                    Policy::Restart,
                    Policy::Restart,
                    Policy::Restart,
                    Policy::Once,
                    Policy::Rerun,
                    Policy::Replace,
                ];
                let idempotency = self.dice.per_mille(350).then(|| format!("key-{number}"));
                What::Start { policy: self.dice.of(&policies), idempotency }
            }
            60..72 => What::Cancel { run: self.dice.per_mille(400).then_some(run) },
            72..92 => What::Signal { name: self.dice.of(&["go", "stop"]) },
            92..95 => What::Delete,
            _ => self.create(),
        };
        self.put(Ask { number, key, what, is_repeat: false });
    }

    pub(super) fn create(&mut self) -> What {
        let script = Script::drawn(&mut self.dice);
        let run_at = self.dice.per_mille(150).then(|| {
            let wall = SimulatedWall { ground: self.ground.clone(), ahead_ms: Arc::default() };
            let in_ms = i64::try_from(self.dice.between(1, 800)).unwrap();
            soloist::Timestamp::from_micros(soloist::Clock::now(&wall).as_micros() + in_ms * 1000)
        });
        // By a dice of its own, so that the histories of seeds in which none does stay what they are.
        let starts = self.ground.weather.creates_start
            && Dice::new(self.ground.seed, &[9, self.totals.asks]).per_mille(500);
        What::Create { script, run_at, starts }
    }

    fn put(&mut self, mut ask: Ask) {
        let Some((n, life, handle)) = self.living() else {
            if ask.is_repeatable() {
                self.again.push(ask);
            }
            return;
        };
        // It waits for the end of a run as a viewer does; several at one node would be woken in any order.
        if ask.is_replacing() && (self.replaces(n, &ask.key) || self.watches(life, &ask.key)) {
            match &mut ask.what {
                What::Start { policy, idempotency: None } => *policy = Policy::Restart,
                _ if self.ground.is_calm() => return,
                _ => return self.again.push(ask),
            }
        }
        self.ground.note(n, "is asked", &ask.key.to_string(), || format!("{} {:?}", ask.number, ask.what));
        let heard = Arc::new(Mutex::new(Heard::Nothing));
        let asking = ask.clone().put(self.ground.clone(), n, handle, heard.clone());
        let runtime = &self.nodes[n].life.as_ref().expect("it lives").runtime;
        runtime.spawn(asking);
        self.asks.push((ask, n, life, heard));
    }

    /// Whether a start that replaces is under way there.
    fn replaces(&self, n: usize, key: &Key) -> bool {
        self.asks.iter().any(|(ask, at, ..)| *at == n && ask.key == *key && ask.is_replacing())
    }

    pub(super) fn watch(&mut self) {
        let key = self.keys[usize::try_from(self.dice.below(self.keys.len() as u64)).unwrap()].clone();
        self.totals.viewers += 1;
        let from = self.dice.of(&[From::RunStart, From::After(0.into()), From::Latest, From::Tail]);
        let kind = self.dice.below(5);
        let viewer = Viewer {
            number: self.totals.viewers,
            key,
            follow: kind == 0,
            polls: kind == 1,
            from,
            seen: None,
            state: Watching::Cut,
        };
        self.viewers.push((Arc::new(Mutex::new(viewer)), 0, 0));
    }

    /// What was heard since; who was cut off goes on elsewhere.
    pub(super) fn hear(&mut self) {
        let lives: Vec<u64> = self.nodes.iter().filter_map(|node| Some(node.life.as_ref()?.number)).collect();
        let mut again = std::mem::take(&mut self.again);
        self.asks.retain(|(ask, _, life, heard)| {
            let heard = *heard.lock().unwrap();
            let failed = heard == Heard::Failure || (heard == Heard::Nothing && !lives.contains(life));
            // Also who has heard an answer may ask once more.
            let once_more = heard == Heard::Answer && ask.is_keyed() && !ask.is_repeat;
            if (failed && ask.is_repeatable()) || (once_more && self.dice.per_mille(300)) {
                again.push(Ask { is_repeat: once_more, ..ask.clone() });
            }
            heard == Heard::Nothing && !failed
        });
        for ask in again {
            // Not all at once.
            if self.dice.per_mille(100) { self.put(ask) } else { self.again.push(ask) }
        }
        for i in 0..self.viewers.len() {
            let (viewer, _, life) = &mut self.viewers[i];
            let viewer = viewer.clone();
            {
                let mut viewer = viewer.lock().unwrap();
                if viewer.state == Watching::Here && !lives.contains(life) {
                    viewer.state = Watching::Cut;
                }
                if viewer.state != Watching::Cut {
                    continue;
                }
            }
            if !self.dice.per_mille(200) {
                continue;
            }
            let Some((n, life, handle)) = self.living() else { continue };
            if handle.closing().is_cancelled() {
                continue;
            }
            // Several at one node would be woken in any order.
            let key = viewer.lock().unwrap().key.clone();
            if self.watches(life, &key) || self.replaces(n, &key) {
                continue;
            }
            self.totals.resumes += u64::from(viewer.lock().unwrap().seen.is_some());
            viewer.lock().unwrap().state = Watching::Here;
            (self.viewers[i].1, self.viewers[i].2) = (n, life);
            let runtime = &self.nodes[n].life.as_ref().expect("it lives").runtime;
            runtime.spawn(watch(self.ground.clone(), n, handle, viewer));
        }
    }
}
