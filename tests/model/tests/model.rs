//! The protocol in every order of steps: what is promised holds in every state, what is adrift comes to its end, and each
//! rule that is broken on purpose is found out.
//!
//! Every play with two processes is checked completely within its bounds; those with three up to a number of states.
//! `SOLOIST_MODEL_BOUND=1` (or more) widens all bounds by so much, for runs by hand, which then take minutes to hours.

#![allow(missing_docs, clippy::unwrap_used)]

use std::{collections::BTreeSet, time::Instant};

use protocol_model::{
    promises::{self, GOES_ON_ELSEWHERE, Protocol, TOLD_DEAD, TWO_WORK, ZOMBIE_IS_FENCED},
    record::Terms,
    rules::Broken,
    steps::Bounds,
    ways::{is_finished, is_finished_or_runs, ways},
};
use stateright::{Checker, Expectation, HasDiscoveries, Model};

/// Threads of each check; tests run side by side as well.
const THREADS: usize = 2;

/// How much wider than usual all bounds are to be.
fn wider() -> u8 {
    std::env::var("SOLOIST_MODEL_BOUND").map_or(0, |text| text.parse().expect("a small number"))
}

/// One start of a task without retries. Nothing breaks, but that any process does nothing for any time, any number of times.
const CALM: Bounds = Bounds {
    terms: Terms { lease: 2, max_retries: 0, broken: None },
    starts: 1,
    keyed: 0,
    appends: 0,
    faults: 0,
    cancels: 0,
    has_drains: false,
    has_breaks: false,
    has_jump: false,
    absences: None,
    epochs: 2,
};

/// It has a retry.
const RETRIED: Terms = Terms { max_retries: 1, ..CALM.terms };

/// No bound but what can happen: each fault and each absence costs one epoch at most.
const ANY: u8 = 20;

fn broken(bounds: Bounds, broken: Broken) -> Bounds {
    Bounds { terms: Terms { broken: Some(broken), ..bounds.terms }, ..bounds }
}

fn widened(bounds: Bounds) -> Bounds {
    let more = wider();
    Bounds {
        faults: bounds.faults + more * u8::from(bounds.faults > 0),
        absences: bounds.absences.map(|absences| absences + more),
        epochs: bounds.epochs + more,
        ..bounds
    }
}

/// Checks all of a play, and that all was seen in it that can be, but for what is named.
fn holds(name: &str, bounds: Bounds, unseen: &[&str]) {
    check::<2>(name, widened(bounds), None, unseen);
}

fn check<const N: usize>(name: &str, bounds: Bounds, states: Option<usize>, unseen: &[&str]) {
    let begun = Instant::now();
    let mut builder = Protocol::<N> { bounds }.checker().threads(THREADS);
    if let Some(states) = states {
        builder = builder.target_state_count(states).finish_when(HasDiscoveries::AnyFailures);
    }
    let checker = builder.spawn_bfs().join();
    println!(
        "{name}: {} states, {} steps, depth {}, {:.1} s",
        checker.unique_state_count(),
        checker.state_count(),
        checker.max_depth(),
        begun.elapsed().as_secs_f64()
    );
    let found = checker.discoveries();
    let mut missing = BTreeSet::new();
    for property in checker.model().properties() {
        match (property.expectation, found.get(property.name)) {
            (Expectation::Sometimes, None) => drop(missing.insert(property.name)),
            (Expectation::Always, Some(path)) => {
                let steps = path.clone().into_actions();
                panic!("{name}: not so: {}\n{steps:#?}\n{:#?}", property.name, path.last_state());
            }
            _ => {}
        }
    }
    let unseen = unseen.iter().copied().collect();
    assert!(states.is_some() || wider() > 0 || missing == unseen, "{name}: unseen: {missing:#?}");
}

#[test]
fn what_is_promised_holds_while_processes_stop_and_go_on_at_any_time() {
    holds("absences", Bounds { appends: 1, epochs: 3, ..CALM }, &[TOLD_DEAD, TWO_WORK]);
}

#[test]
fn what_is_promised_holds_while_attempts_are_lost_and_begun_again() {
    holds("retries", Bounds { terms: RETRIED, epochs: 3, ..CALM }, &[TOLD_DEAD]);
}

#[test]
fn what_is_promised_holds_while_processes_crash_and_connections_break() {
    holds(
        "breaks",
        Bounds { appends: 1, faults: 1, has_breaks: true, ..CALM },
        &[GOES_ON_ELSEWHERE, TOLD_DEAD, TWO_WORK],
    );
}

#[test]
fn what_is_promised_holds_between_two_starts_while_claims_land_late() {
    let bounds = Bounds { starts: 2, faults: 1, has_breaks: true, absences: Some(0), epochs: ANY, ..CALM };
    holds("two starts", bounds, &[GOES_ON_ELSEWHERE, TOLD_DEAD, TWO_WORK, ZOMBIE_IS_FENCED]);
}

#[test]
fn what_is_promised_holds_of_a_start_that_is_sent_again_under_its_key() {
    let bounds = Bounds { starts: 0, keyed: 2, faults: 1, has_breaks: true, ..CALM };
    holds(
        "a key",
        Bounds { absences: Some(0), epochs: ANY, ..bounds },
        &[GOES_ON_ELSEWHERE, TOLD_DEAD, TWO_WORK, ZOMBIE_IS_FENCED],
    );
}

#[test]
fn what_is_promised_holds_while_a_run_is_cancelled() {
    holds("a cancel", Bounds { appends: 1, cancels: 1, ..CALM }, &[GOES_ON_ELSEWHERE, TOLD_DEAD, TWO_WORK]);
}

#[test]
fn what_is_promised_holds_while_processes_shut_down() {
    let bounds =
        Bounds { terms: RETRIED, faults: 1, has_drains: true, absences: Some(0), epochs: ANY, ..CALM };
    holds("shutdowns", bounds, &[TOLD_DEAD, TWO_WORK, ZOMBIE_IS_FENCED]);
}

/// What is on record is right whatever the store's clock does; what a node believes is not.
#[test]
fn the_record_is_right_though_the_clock_of_the_store_jumps() {
    holds("a jump", Bounds { appends: 1, has_jump: true, ..CALM }, &[GOES_ON_ELSEWHERE, TWO_WORK]);
}

/// A longer lease, so that heartbeats are answered late and count all the same.
#[test]
fn a_node_that_trusts_its_lease_keeps_it_however_late_heartbeats_are_answered() {
    let terms = Terms { lease: 4, ..CALM.terms };
    holds("heartbeats", Bounds { terms, ..CALM }, &[GOES_ON_ELSEWHERE, TOLD_DEAD, TWO_WORK]);
}

#[test]
fn what_is_promised_holds_among_three_processes_as_far_as_was_looked() {
    let bounds = Bounds { starts: 2, appends: 1, faults: 1, has_breaks: true, epochs: 4, ..CALM };
    check::<3>("three processes", bounds, Some(400_000 << (wider() * 3)), &[]);
}

/// From wherever one has got to: when nothing adverse happens any more, the run comes to its end.
fn ends(name: &str, bounds: Bounds) {
    let (bounds, begun) = (widened(bounds), Instant::now());
    let found = ways(&Protocol::<2> { bounds }, is_finished);
    println!(
        "{name}: {} states, {} of them finished, 0 of {} without a way there, {:.1} s",
        found.states,
        found.goals,
        found.states,
        begun.elapsed().as_secs_f64()
    );
    assert_eq!((found.leave_the_bounds, found.stuck), (0, 0), "{:#?}", found.first_stuck);
    assert!(found.goals > 0 && found.goals < found.states);
}

#[test]
fn a_run_ends_whatever_crashed_broke_or_landed_late() {
    let bounds = Bounds { faults: 1, has_breaks: true, absences: Some(1), epochs: ANY, ..CALM };
    ends("the end of a run", bounds);
}

#[test]
fn a_run_that_was_cancelled_ends() {
    let bounds = Bounds { cancels: 1, appends: 1, absences: Some(1), epochs: ANY, ..CALM };
    ends("the end of a cancelled run", bounds);
}

#[test]
fn a_run_ends_over_attempts() {
    let bounds = Bounds { terms: RETRIED, faults: 1, absences: Some(0), epochs: ANY, ..CALM };
    ends("the end of a run with a retry", bounds);
}

/// A broken rule is found out by the property that it stands for.
fn is_found(rule: Broken, bounds: Bounds, property: &'static str) {
    let begun = Instant::now();
    let model = Protocol::<2> { bounds: broken(bounds, rule) };
    let only = HasDiscoveries::AnyOf(BTreeSet::from([property]));
    let checker = model.checker().threads(THREADS).finish_when(only).spawn_bfs().join();
    let found = checker.discoveries();
    let path = found.get(property).unwrap_or_else(|| panic!("{rule:?} is not found out by: {property}"));
    println!(
        "{rule:?}: found after {} states, {:.1} s, by {} steps: {property}",
        checker.unique_state_count(),
        begun.elapsed().as_secs_f64(),
        path.clone().into_actions().len(),
    );
}

/// A broken rule is found out because what is adrift stays so.
fn leaves_adrift(rule: Broken, bounds: Bounds) {
    let found = ways(&Protocol::<2> { bounds: broken(bounds, rule) }, is_finished_or_runs);
    println!("{rule:?}: {} of {} states are stuck", found.stuck, found.states);
    assert!(found.stuck > 0);
}

const BREAKS: Bounds = Bounds { appends: 1, faults: 1, has_breaks: true, epochs: 3, ..CALM };
const TWO_STARTS: Bounds = Bounds { starts: 2, epochs: 4, ..CALM };

macro_rules! found {
    ($($test:ident: $rule:ident, $bounds:expr => $property:ident;)+) => {
        mod without_the_rule {
            use super::*;
            $(#[test]
            fn $test() {
                is_found(Broken::$rule, $bounds, promises::$property);
            })+
        }
    };
}

found! {
    a_claim_that_is_check_then_act_begins_a_run_twice:
        ClaimIsCheckThenAct, TWO_STARTS => BEGUN_ONCE;
    a_claim_that_is_sent_again_and_not_recognised_begins_two_runs:
        ResentClaimBeginsAnew, BREAKS => BEGUN_ONCE;
    a_key_that_is_read_before_the_claim_begins_two_runs:
        KeyIsReadBeforeTheClaim, Bounds { starts: 0, keyed: 2, ..TWO_STARTS } => BEGUN_ONCE;
    a_dead_node_claims: DeadNodeClaims, CALM => DEAD_IS_DEAD;
    a_fence_that_is_a_read_lets_an_old_epoch_write:
        FenceIsARead, Bounds { appends: 1, ..CALM } => OLD_EPOCHS_NEVER_WRITE;
    an_ending_without_its_epoch_is_written_by_a_zombie:
        FinishWithoutEpoch, TWO_STARTS => OLD_EPOCHS_NEVER_WRITE;
    a_takeover_that_keeps_the_epoch_takes_it_from_nobody:
        TakeoverKeepsTheEpoch, CALM => EPOCHS_GROW_BY_ONE;
    a_takeover_that_keeps_the_epoch_tells_a_zombie_that_its_event_is_there:
        TakeoverKeepsTheEpoch, Bounds { appends: 1, ..CALM } => WRITES_ARE_TOLD_TRULY;
    a_takeover_without_compare_takes_a_run_from_a_living_node:
        TakeoverWithoutCompare, TWO_STARTS => TRUST_IS_KEPT;
    a_death_that_is_a_read_takes_a_run_from_a_living_node: DeathIsARead, CALM => TRUST_IS_KEPT;
    a_lease_that_counts_from_the_answer_is_trusted_too_long:
        LeaseCountsFromTheAnswer, Bounds { terms: Terms { lease: 4, ..CALM.terms }, ..CALM } => TRUST_IS_KEPT;
    a_dead_node_renews: DeadNodeRenews, Bounds { has_jump: true, ..CALM } => DEAD_IS_DEAD;
    a_batch_that_is_sent_again_and_not_recognised_is_there_twice: ResentBatchIsNew, BREAKS => LOG_IS_DENSE;
    memory_that_answers_after_the_ending_is_wrong: MemoryAnswersAfterTheEnding, CALM => MEMORY_TELLS_THE_TRUTH;
    memory_that_answers_beyond_trust_is_wrong: MemoryAnswersBeyondTrust, CALM => MEMORY_TELLS_THE_TRUTH;
    work_that_begins_beyond_trust_runs_beside_another: WorkBeginsBeyondTrust, CALM => ONE_LIVE_EPOCH;
}

#[test]
fn without_the_rule_a_claim_that_lands_late_is_adrift_for_ever() {
    let bounds = Bounds { faults: 1, has_breaks: true, absences: Some(0), epochs: ANY, ..CALM };
    leaves_adrift(Broken::LateClaimIsForgotten, bounds);
}

#[test]
fn without_the_rule_an_orphan_that_was_looked_for_once_is_adrift_for_ever() {
    let bounds = Bounds { faults: 2, absences: Some(0), epochs: ANY, ..CALM };
    leaves_adrift(Broken::OrphansAreLookedForOnce, bounds);
}
