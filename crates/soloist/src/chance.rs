//! The one place that draws random numbers.
//!
//! Decides: where they come from: the thread's own generator, and in a simulation ([`crate::simulation`]) one that the
//! simulation has seeded, so that a seed gives the same history again. For the same reason the order in which a [`Map`] is
//! gone through follows there from what was put in, while anywhere else nobody can know it, nor aim at it with keys of his
//! own.

use std::{
    cell::RefCell,
    collections::HashMap,
    hash::{BuildHasher, DefaultHasher, RandomState},
};

use rand::{
    RngExt as _, SeedableRng as _,
    distr::{
        Distribution, StandardUniform,
        uniform::{SampleRange, SampleUniform},
    },
    rngs::StdRng,
};

thread_local! {
    /// What a simulation on this thread draws from.
    static SEEDED: RefCell<Option<StdRng>> = const { RefCell::new(None) };
}

/// Everything that is drawn on this thread follows from a seed, until it is none.
pub(crate) fn seed(seed: Option<u64>) {
    SEEDED.set(seed.map(StdRng::seed_from_u64));
}

/// Any value of its type.
pub(crate) fn random<T>() -> T
where
    StandardUniform: Distribution<T>,
{
    SEEDED.with_borrow_mut(|seeded| seeded.as_mut().map(StdRng::random)).unwrap_or_else(rand::random)
}

/// A value within a range.
pub(crate) fn random_range<T: SampleUniform>(range: impl SampleRange<T> + Clone) -> T {
    SEEDED
        .with_borrow_mut(|seeded| seeded.as_mut().map(|rng| rng.random_range(range.clone())))
        .unwrap_or_else(|| rand::rng().random_range(range))
}

/// A map by hashes.
pub(crate) type Map<K, V> = HashMap<K, V, Hashes>;

/// How a [`Map`] hashes.
#[derive(Debug, Clone)]
pub(crate) enum Hashes {
    Random(RandomState),
    /// The same in every simulation.
    Fixed,
}

impl Default for Hashes {
    fn default() -> Self {
        if SEEDED.with_borrow(Option::is_some) { Self::Fixed } else { Self::Random(RandomState::new()) }
    }
}

impl BuildHasher for Hashes {
    type Hasher = DefaultHasher;

    fn build_hasher(&self) -> DefaultHasher {
        match self {
            Self::Random(state) => state.build_hasher(),
            Self::Fixed => DefaultHasher::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_drawn_follows_from_a_seed_where_there_is_one() {
        let draw = || (random::<[u32; 3]>(), random_range(0.0..1.0));
        let of = |seeded| {
            seed(Some(seeded));
            draw()
        };
        assert_eq!(of(1), of(1));
        assert_ne!(of(1), of(2));
        seed(None);
        assert_ne!(draw(), draw());
    }
}
