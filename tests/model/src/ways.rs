//! The ways that lead on: whether what must come about in the end can come about from wherever one has got to.
//!
//! Decides: nothing about the protocol. The checker's `eventually` sees no cycles and takes states that were met on another way
//! for done, so this is a pass of its own over the whole graph: forward over every step, then backward over those that are
//! not adverse ([`State::is_adverse`]) from the states in which the goal is reached. Where every reachable state
//! is met on the way back, then any run in which nothing adverse happens any more, and in which a step that is possible again and
//! again is taken some time, reaches the goal: the graph is finite.

use std::{
    collections::{HashMap, VecDeque},
    hash::{DefaultHasher, Hash, Hasher},
};

use stateright::Model;

use crate::{promises::Protocol, steps::State};

/// What was found.
#[derive(Debug)]
pub struct Ways<const N: usize> {
    /// States that can be reached.
    pub states: usize,
    /// Those of them in which the goal is reached.
    pub goals: usize,
    /// Those from which it is not reached within the bounds, and from which a way leads out of them.
    pub leave_the_bounds: usize,
    /// Those from which nothing leads there: how many, and the first.
    pub stuck: usize,
    pub first_stuck: Option<State<N>>,
}

/// Looks at every state.
pub fn ways<const N: usize>(model: &Protocol<N>, is_goal: impl Fn(&State<N>) -> bool) -> Ways<N> {
    let mut numbers = HashMap::new();
    let mut waiting = VecDeque::new();
    let (mut back, mut goals, mut leaving) = (Vec::new(), Vec::new(), Vec::new());
    let mut number_of = |state: State<N>, waiting: &mut VecDeque<(u32, State<N>)>| -> u32 {
        let mut hasher = DefaultHasher::new();
        state.hash(&mut hasher);
        let next = u32::try_from(numbers.len()).expect("fewer states");
        *numbers.entry(hasher.finish()).or_insert_with(|| {
            waiting.push_back((next, state));
            next
        })
    };
    for state in model.init_states() {
        number_of(state, &mut waiting);
    }
    let mut steps = Vec::new();
    let mut states = 0;
    while let Some((number, state)) = waiting.pop_front() {
        states += 1;
        if is_goal(&state) {
            goals.push(number);
        }
        model.actions(&state, &mut steps);
        for step in steps.drain(..) {
            let Some(next) = model.next_state(&state, step) else { continue };
            let is_within = model.within_boundary(&next);
            if is_within {
                let next = number_of(next, &mut waiting);
                if !state.is_adverse(step, &model.bounds) {
                    back.push((next, number));
                }
            } else if !state.is_adverse(step, &model.bounds) {
                leaving.push(number);
            }
        }
    }
    let back = Backward::new(back, states);
    let mut reached = vec![Reached::No; states];
    back.mark(&goals, Reached::Goal, &mut reached);
    back.mark(&leaving, Reached::Bounds, &mut reached);
    let count = |what: Reached| reached.iter().filter(|is| **is == what).count();
    let stuck = reached.iter().position(|is| *is == Reached::No);
    Ways {
        states,
        goals: goals.len(),
        leave_the_bounds: count(Reached::Bounds),
        stuck: count(Reached::No),
        first_stuck: stuck.and_then(|number| find(model, number)),
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reached {
    No,
    Goal,
    Bounds,
}

/// The steps, from their ends.
struct Backward {
    first: Vec<usize>,
    edges: Vec<(u32, u32)>,
}

impl Backward {
    fn new(mut edges: Vec<(u32, u32)>, states: usize) -> Self {
        edges.sort_unstable();
        let mut first = vec![0; states + 1];
        edges.iter().for_each(|(to, _)| first[*to as usize + 1] += 1);
        for n in 0..states {
            first[n + 1] += first[n];
        }
        Self { first, edges }
    }

    fn mark(&self, from: &[u32], as_what: Reached, reached: &mut [Reached]) {
        let mut waiting = from.to_vec();
        while let Some(number) = waiting.pop() {
            let at = number as usize;
            if reached[at] != Reached::No {
                continue;
            }
            reached[at] = as_what;
            let before = &self.edges[self.first[at]..self.first[at + 1]];
            waiting.extend(before.iter().map(|(_, from)| *from));
        }
    }
}

/// A state by its number: the same walk once more.
fn find<const N: usize>(model: &Protocol<N>, number: usize) -> Option<State<N>> {
    let mut met = std::collections::HashSet::new();
    let mut waiting: VecDeque<State<N>> = model.init_states().into();
    met.extend(waiting.iter().copied());
    let mut steps = Vec::new();
    let mut n = 0;
    while let Some(state) = waiting.pop_front() {
        if n == number {
            return Some(state);
        }
        n += 1;
        model.actions(&state, &mut steps);
        for step in steps.drain(..) {
            let next = model.next_state(&state, step).filter(|next| model.within_boundary(next));
            if let Some(next) = next
                && met.insert(next)
            {
                waiting.push_back(next);
            }
        }
    }
    None
}

/// A run is in the end finished.
pub fn is_finished<const N: usize>(s: &State<N>) -> bool {
    s.record.row.status.is_finished() || s.record.row.status == soloist::Status::Pending
}

/// No run is adrift: it is finished, or it runs on a node that lives, and that knows of it.
pub fn is_finished_or_runs<const N: usize>(s: &State<N>) -> bool {
    let row = &s.record.row;
    let runs = |(p, name): (u8, u8)| {
        let process = &s.processes[usize::from(p)];
        let is_known = process.live.is_some_and(|live| live.held.epoch == row.epoch);
        process.is_up && process.name == name && !process.stop && is_known
    };
    is_finished(s) || row.node.is_some_and(runs)
}
