//! What a seed makes of a world: how many nodes, how slow and lossy the lines to the store, how often something breaks.

use crate::draw::Dice;

#[derive(Debug, Clone)]
pub(crate) struct Weather {
    pub(crate) nodes: usize,
    pub(crate) lease_ms: u64,
    pub(crate) linger_ms: u64,
    /// How long things break, before they are left to settle.
    pub(crate) stormy_ms: u64,
    /// Whether the store says of itself that it can be away.
    pub(crate) can_be_away: bool,
    /// Out of a thousand calls, so many take no time on their way.
    pub(crate) at_once: u64,
    /// How long the others take, at the most.
    pub(crate) usual_ms: u64,
    /// Out of a thousand ways, so many are slow: up to half a lease.
    pub(crate) slow: u64,
    /// Out of a thousand ways, so many take about a lease, or longer.
    pub(crate) endless: u64,
    pub(crate) lose_request: u64,
    pub(crate) lose_answer: u64,
    pub(crate) twice: u64,
    pub(crate) lose_wake: u64,
    /// The mean time between two; none where it is 0.
    pub(crate) crash_every_ms: u64,
    pub(crate) pause_every_ms: u64,
    pub(crate) outage_every_ms: u64,
    pub(crate) drain_every_ms: u64,
    pub(crate) skew_every_ms: u64,
    pub(crate) ask_every_ms: u64,
    pub(crate) watch_every_ms: u64,
    pub(crate) keys: u64,
    /// Out of a hundred models on a node, so many are not served there.
    pub(crate) unserved: u64,
    /// How long finished tasks of one model are kept; for ever where it is 0.
    pub(crate) prune_after_ms: u64,
    /// Whether half of the creates start their tasks as well.
    pub(crate) creates_start: bool,
}

impl Weather {
    pub(crate) fn of(seed: u64) -> Self {
        let mut dice = Dice::new(seed, &[1]);
        let d = &mut dice;
        let lossy = d.of(&[0, 0, 5, 30]);
        let breaking = |d: &mut Dice, every: &[u64]| d.of(every);
        Self {
            nodes: usize::try_from(d.between(2, 4)).unwrap(),
            lease_ms: d.of(&[600, 1000, 1000, 1600]),
            linger_ms: d.of(&[0, 100, 400]),
            stormy_ms: d.between(1500, 4000),
            can_be_away: d.per_mille(400),
            at_once: d.of(&[100, 500, 900]),
            usual_ms: d.of(&[3, 8, 30]),
            slow: d.of(&[0, 5, 20, 60]),
            endless: d.of(&[0, 0, 2, 8]),
            lose_request: lossy,
            lose_answer: if lossy == 0 { d.of(&[0, 10]) } else { lossy },
            twice: d.of(&[0, 10, 50]),
            lose_wake: d.of(&[0, 50, 300]),
            crash_every_ms: breaking(d, &[0, 700, 1500, 3000]),
            pause_every_ms: breaking(d, &[0, 600, 1500, 3000]),
            outage_every_ms: breaking(d, &[0, 700, 1500, 3000]),
            drain_every_ms: breaking(d, &[0, 1500, 3000]),
            skew_every_ms: breaking(d, &[0, 500]),
            ask_every_ms: d.of(&[15, 30, 60]),
            watch_every_ms: d.of(&[150, 300]),
            keys: d.between(3, 9),
            unserved: d.of(&[0, 0, 25]),
            prune_after_ms: d.of(&[0, 0, 400]),
            // Those that once found something did so in histories without it.
            creates_start: !crate::FOUND.iter().any(|(found, _)| *found == seed),
        }
    }
}
