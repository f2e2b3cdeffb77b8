//! Work that does what its input says, and tells the judge of every step.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use soloist::{Context, Failure, Json, Result, Runner};

use crate::{draw::Dice, ground::Ground};

/// What an attempt does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Script {
    /// Events that it sends.
    pub(crate) events: u64,
    /// The pause after each.
    pub(crate) pause_ms: u64,
    pub(crate) end: End,
    /// How long it goes on when it is asked to stop.
    pub(crate) stubborn_ms: u64,
    /// How many signals it waits for.
    pub(crate) signals: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    Returns,
    Fails,
    /// Only the first two attempts do.
    FailsAtFirst,
    FailsForGood,
    Panics,
    /// With an event of a terminal type, which becomes part of the real ending.
    SaysComplete,
}

const ENDS: [End; 6] =
    [End::Returns, End::Fails, End::FailsAtFirst, End::FailsForGood, End::Panics, End::SaysComplete];

impl Script {
    pub(crate) fn drawn(dice: &mut Dice) -> Self {
        let mostly = |dice: &mut Dice| match dice.below(20) {
            0..10 => End::Returns,
            10..12 => End::Fails,
            12..16 => End::FailsAtFirst,
            16 => End::FailsForGood,
            17 => End::Panics,
            _ => End::SaysComplete,
        };
        Self {
            events: dice.of(&[0, 1, 3, 8, 20]),
            pause_ms: dice.of(&[0, 5, 20, 80, 200]),
            end: mostly(dice),
            stubborn_ms: dice.of(&[0, 0, 30, 400]),
            signals: dice.of(&[0, 0, 0, 2]),
        }
    }

    pub(crate) fn input(self) -> Json {
        let end = ENDS.iter().position(|end| *end == self.end).unwrap();
        let numbers = [self.events, self.pause_ms, end as u64, self.stubborn_ms, self.signals];
        Json::of(&numbers).unwrap()
    }

    fn of(input: &Json) -> Result<Self> {
        let [events, pause_ms, end, stubborn_ms, signals] = input
            .read::<[u64; 5]>()
            .map_err(|error| soloist::Error::invalid("invalid_input", error.to_string()))?;
        Ok(Self { events, pause_ms, end: ENDS[usize::try_from(end).unwrap()], stubborn_ms, signals })
    }
}

/// Carries scripts out on one life of a node.
pub(crate) struct Scripted {
    pub(crate) ground: Arc<Ground>,
    pub(crate) node: usize,
    pub(crate) life: u64,
}

/// Work that goes on, until this is dropped.
struct AtWork {
    ground: Arc<Ground>,
    number: usize,
    life: u64,
    context: Context,
    read: Vec<(String, String)>,
}

impl AtWork {
    fn acts(&self) {
        let (key, epoch, is_asked) =
            (self.context.key(), self.context.epoch().0, self.context.is_cancelled());
        self.ground.oracle().work_acts(key, epoch, self.life, is_asked);
    }

    /// A pause, unless the work is asked to stop in it. Then it goes on for as long as it is stubborn.
    async fn pauses(&self, script: Script, ms: u64) -> Result<(), Failure> {
        if !self.context.is_cancelled() {
            let pause = tokio::time::sleep(Duration::from_millis(ms));
            tokio::select! {
                biased;
                () = self.context.cancelled() => {}
                () = pause => return Ok(()),
            }
        }
        tokio::time::sleep(Duration::from_millis(script.stubborn_ms)).await;
        self.acts();
        Err(Failure::new("Stopped", "it was asked to"))
    }
}

impl Drop for AtWork {
    fn drop(&mut self) {
        self.ground.oracle().work_ends(self.number);
    }
}

#[async_trait]
impl Runner for Scripted {
    fn kind(&self) -> &'static str {
        "scripted"
    }

    fn check(&self, input: &Json) -> Result<()> {
        Script::of(input).map(drop)
    }

    async fn run(&self, input: Json, context: Context) -> Result<Json, Failure> {
        let script = Script::of(&input)?;
        let (key, epoch) = (context.key().clone(), context.epoch().0);
        self.ground.note(self.node, "works", &key.to_string(), || {
            format!("run {} attempt {} epoch {epoch}", context.run(), context.attempt())
        });
        let number = self.ground.oracle().work_begins(&key, epoch, self.life);
        let (ground, life) = (self.ground.clone(), self.life);
        let mut work = AtWork { ground, number, life, context, read: Vec::new() };
        for n in 0..script.events {
            work.acts();
            work.context.send_event("progress", &(n, epoch)).await?;
            work.pauses(script, script.pause_ms).await?;
        }
        for _ in 0..script.signals {
            let signal = {
                let next = tokio::time::timeout(Duration::from_millis(500), work.context.next_signal());
                tokio::select! {
                    biased;
                    () = work.context.cancelled() => None,
                    next = next => next.ok(),
                }
            };
            match signal {
                Some(Ok(signal)) => {
                    work.read.push((signal.name, signal.data.as_str().to_owned()));
                    work.ground.oracle().read_signals(&key, work.context.run(), &work.read);
                    let (name, data) = work.read.last().unwrap().clone();
                    work.context.send_event("signal", &(name, data)).await?;
                }
                Some(Err(error)) => return Err(error.into()),
                None => work.pauses(script, 0).await?,
            }
        }
        work.acts();
        match script.end {
            End::Returns => {}
            End::Fails => return Err(Failure::new("Broken", "it fails")),
            End::FailsAtFirst if work.context.attempt() <= 2 => {
                return Err(Failure::new("Broken", "it fails at first"));
            }
            End::FailsAtFirst => {}
            End::FailsForGood => {
                return Err(Failure { retryable: false, ..Failure::new("Broken", "it fails for good") });
            }
            End::Panics => panic!("it panics"),
            End::SaysComplete => work.context.send_event("complete", "by itself").await?,
        }
        Ok(Json::of(&(work.context.run(), epoch))?)
    }
}
