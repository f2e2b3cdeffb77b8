//! The promises, as properties of every state, and what must be seen somewhere so that the model is of something.

use soloist::Status;
use stateright::{Model, Property};

use crate::{
    process::{Trip, Writing},
    record::{Answer, Fault, Kind, NOBODY, Told},
    rules::Broken,
    steps::{Bounds, State, Step},
};

/// The protocol with `N` processes.
#[derive(Debug, Clone, Copy)]
pub struct Protocol<const N: usize> {
    pub bounds: Bounds,
}

pub const ONE_LIVE_EPOCH: &str = "S1 one live epoch";
pub const EPOCHS_GROW_BY_ONE: &str = "S2 epochs grow by one and none is given twice";
pub const LOG_IS_DENSE: &str = "S3 the log is dense and holds nothing twice";
pub const NOTHING_AFTER_THE_END: &str = "S4, S7 a run ends once and nothing follows";
pub const OLD_EPOCHS_NEVER_WRITE: &str = "S6 an old epoch never writes";
pub const BEGUN_ONCE: &str = "a run is begun by one claim, and a start begins one run";
pub const TOLD_ONCE: &str = "one start is told that it has won a run";
pub const KEYS_ARE_TOLD_ONE_THING: &str = "a start under a key is told one thing";
pub const WRITES_ARE_TOLD_TRULY: &str = "what a writer is told to be on record is";
pub const TRUST_IS_KEPT: &str = "a node that has not yet dropped its work is not taken for dead";
pub const DEAD_IS_DEAD: &str = "who is dead on record neither renews nor claims";
pub const MEMORY_TELLS_THE_TRUTH: &str = "a start that is answered from memory is told the truth";

/// Seen where the bounds let it.
pub const GOES_ON_ELSEWHERE: &str = "a run is taken over, and goes on elsewhere";

/// Seen where the bounds let it.
pub const ZOMBIE_IS_FENCED: &str = "the write of a zombie is fenced";

/// Seen where the bounds let it.
pub const TWO_WORK: &str = "two processes work, and one of them is trusted at most";

/// Seen where the bounds let it.
pub const TOLD_DEAD: &str = "a process is told that it is dead";

impl<const N: usize> Protocol<N> {
    fn memory_tells_the_truth(&self, s: &State<N>) -> bool {
        let terms = &self.bounds.terms;
        s.has_jumped
            || s.processes.iter().all(|process| {
                let is_sure = process.is_trusted(terms.lease)
                    || (process.is_up && terms.is(Broken::MemoryAnswersBeyondTrust));
                let after_ending = terms.is(Broken::MemoryAnswersAfterTheEnding);
                let live = process.live.filter(|live| !live.is_ending || after_ending);
                let is_true = |run: u8| s.record.row.run == run && s.record.row.status.is_active();
                !is_sure || live.is_none_or(|live| is_true(live.held.run))
            })
    }

    /// Of those that work and trust their lease there is one at most, and the record says the same.
    fn has_one_live_epoch(&self, s: &State<N>) -> bool {
        let lease = self.bounds.terms.lease;
        let broken = self.bounds.terms.is(Broken::WorkBeginsBeyondTrust);
        let working =
            s.processes.iter().filter(|process| process.is_trusted(lease) || (broken && process.is_up));
        let mut working = working.filter_map(|process| process.works());
        let Some(held) = working.next() else { return true };
        let row = &s.record.row;
        let is_on_record = row.epoch == held.epoch && row.node == Some(held.name) && row.status.is_held();
        s.has_jumped || (working.next().is_none() && is_on_record)
    }
}

fn has<const N: usize>(s: &State<N>, faults: &[Fault]) -> bool {
    faults.iter().any(|fault| s.record.faults & *fault as u16 != 0)
}

fn log_is_dense<const N: usize>(s: &State<N>) -> bool {
    let log = &s.record.log;
    let is_twice = |n: usize| {
        let entry = log.iter().nth(n).expect("an entry");
        let same = |other: &&crate::record::Entry| other.by == entry.by && other.epoch == entry.epoch;
        entry.by.0 != NOBODY && log.iter().take(n).any(|other| same(&other))
    };
    s.record.row.last_seq == log.events()
        && log.iter().zip(1..).all(|(entry, seq)| entry.seq == seq)
        && !(0..usize::from(log.events()).min(log.iter().count())).any(is_twice)
}

/// The log says what the row says: each run but an active newest one has one terminal event, and it is its last.
fn runs_end_once<const N: usize>(s: &State<N>) -> bool {
    let row = &s.record.row;
    let mut ended = 0;
    for entry in s.record.log.iter() {
        if entry.run <= ended {
            return false;
        }
        if entry.kind == Kind::Ending {
            ended = entry.run;
        }
    }
    row.status == Status::Pending || row.status.is_finished() == (ended == row.run)
}

fn epochs_of_the_log_grow<const N: usize>(s: &State<N>) -> bool {
    let mut last = 0;
    s.record.log.iter().all(|entry| std::mem::replace(&mut last, entry.epoch) <= entry.epoch)
}

impl<const N: usize> Model for Protocol<N> {
    type State = State<N>;
    type Action = Step;

    fn init_states(&self) -> Vec<Self::State> {
        vec![State::first(&self.bounds)]
    }

    fn actions(&self, state: &Self::State, actions: &mut Vec<Self::Action>) {
        state.steps(&self.bounds, actions);
    }

    fn next_state(&self, state: &Self::State, step: Self::Action) -> Option<Self::State> {
        state.after(step, &self.bounds)
    }

    fn within_boundary(&self, s: &Self::State) -> bool {
        s.record.row.epoch <= self.bounds.epochs
            && usize::from(s.record.log.events()) <= crate::record::LOG_MAX
    }

    fn properties(&self) -> Vec<Property<Self>> {
        let mut all = promises();
        all.extend(sights(&self.bounds));
        all
    }
}

fn promises<const N: usize>() -> Vec<Property<Protocol<N>>> {
    use Fault::{
        DeadClaimed, DeadRenewed, EpochRepeated, EpochSkipped, HolderLostKeepsEpoch, KeyToldTwoThings,
        Malformed, OldEpochWrote, RunBegunTwice, StartBeganTwo, ToldUntrue, TrustedTakenOver, WinToldTwice,
    };
    vec![
        Property::always(ONE_LIVE_EPOCH, |model: &Protocol<N>, s: &State<N>| model.has_one_live_epoch(s)),
        Property::always(EPOCHS_GROW_BY_ONE, |_, s: &State<N>| {
            !has(s, &[EpochSkipped, EpochRepeated, HolderLostKeepsEpoch])
        }),
        Property::always(LOG_IS_DENSE, |_, s: &State<N>| log_is_dense(s) && !has(s, &[Malformed])),
        Property::always(NOTHING_AFTER_THE_END, |_, s: &State<N>| runs_end_once(s)),
        Property::always(OLD_EPOCHS_NEVER_WRITE, |_, s: &State<N>| {
            !has(s, &[OldEpochWrote]) && epochs_of_the_log_grow(s)
        }),
        Property::always(BEGUN_ONCE, |_, s: &State<N>| !has(s, &[RunBegunTwice, StartBeganTwo])),
        Property::always(TOLD_ONCE, |_, s: &State<N>| !has(s, &[WinToldTwice])),
        Property::always(KEYS_ARE_TOLD_ONE_THING, |_, s: &State<N>| !has(s, &[KeyToldTwoThings])),
        Property::always(WRITES_ARE_TOLD_TRULY, |_, s: &State<N>| !has(s, &[ToldUntrue])),
        Property::always(TRUST_IS_KEPT, |_, s: &State<N>| !has(s, &[TrustedTakenOver])),
        Property::always(DEAD_IS_DEAD, |_, s: &State<N>| !has(s, &[DeadRenewed, DeadClaimed])),
        Property::always(MEMORY_TELLS_THE_TRUTH, |model: &Protocol<N>, s: &State<N>| {
            model.memory_tells_the_truth(s)
        }),
    ]
}

fn answered<const N: usize>(s: &State<N>, answer: Answer) -> bool {
    s.processes.iter().any(|p| matches!(p.writing, Writing::Answered(_, given) if given == answer))
}

fn told<const N: usize>(s: &State<N>, is: fn(&Told) -> bool) -> bool {
    s.processes.iter().any(|p| matches!(&p.trip, Trip::Answered(_, told) if is(told)))
}

/// What must come about somewhere.
fn sights<const N: usize>(bounds: &Bounds) -> Vec<Property<Protocol<N>>> {
    let mut all: Vec<Property<Protocol<N>>> = vec![
        Property::sometimes("a run completes", |_, s: &State<N>| s.record.row.status == Status::Completed),
        Property::sometimes(GOES_ON_ELSEWHERE, |_, s: &State<N>| {
            s.record.row.epoch > 2 && s.record.row.run == 1 && s.record.row.status.is_held()
        }),
        Property::sometimes("a run is taken over, and fails", |_, s: &State<N>| {
            s.record.log.iter().any(|entry| entry.by.0 == NOBODY && entry.kind == Kind::Ending)
                && s.record.row.status == Status::Failed
        }),
        Property::sometimes(ZOMBIE_IS_FENCED, |_, s: &State<N>| answered(s, Answer::Fenced)),
        Property::sometimes(TWO_WORK, |_, s: &State<N>| {
            s.processes.iter().filter(|p| p.works().is_some()).count() > 1
        }),
        Property::sometimes(TOLD_DEAD, |_, s: &State<N>| {
            s.processes
                .iter()
                .any(|p| matches!(p.beat, crate::process::Beat::Answered { is_renewed: false, .. }))
        }),
    ];
    if bounds.has_breaks {
        all.push(Property::sometimes("a claim lands that nobody waits for", |_, s: &State<N>| {
            let unknown = |(p, _): (u8, u8)| !s.processes[usize::from(p)].knows();
            s.record.row.node.is_some_and(unknown) && s.processes.iter().all(|p| p.is_up)
        }));
        all.push(Property::sometimes(
            "a claim that is sent again finds that it has won",
            |_, s: &State<N>| told(s, |told| matches!(told, Told::Won { again: true, .. })),
        ));
        all.push(Property::sometimes("a write that is sent again is there already", |_, s: &State<N>| {
            answered(s, Answer::AlreadyThere)
        }));
        all.push(Property::sometimes("a run is taken up that was not known here", |_, s: &State<N>| {
            s.processes.iter().any(|p| matches!(p.compared, crate::process::Compared::Found(..)))
        }));
    }
    if bounds.keyed > 1 {
        all.push(Property::sometimes("a start under a key is told the same again", |_, s: &State<N>| {
            told(s, |told| matches!(told, Told::Replayed { started: true, .. }))
        }));
    }
    if bounds.cancels > 0 {
        all.push(Property::sometimes("an ending finds that the run is to stop", |_, s: &State<N>| {
            answered(s, Answer::Moved(Status::Cancelling))
        }));
    }
    all
}
