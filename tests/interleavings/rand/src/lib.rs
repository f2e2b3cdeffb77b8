//! What the product uses of rand. The numbers come from the schedule, so that they are the same when it is repeated.

#![forbid(unsafe_code)]

use rand::{
    distr::{Distribution, StandardUniform},
    rngs::StdRng,
};
use shuttle::rand::RngCore as _;

pub use rand::{Rng, RngExt, SeedableRng, distr, rngs};

/// A source of numbers.
#[must_use]
pub fn rng() -> StdRng {
    StdRng::seed_from_u64(shuttle::rand::thread_rng().next_u64())
}

/// Any value.
#[must_use]
pub fn random<T>() -> T
where
    StandardUniform: Distribution<T>,
{
    rng().random()
}
