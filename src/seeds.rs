//! Which seeds the tests run, for tests only: those they were written with, or those of the
//! environment. `C10K_SEED=n` runs that one alone, `C10K_SEEDS=n` so many from 0 on.

use std::ops::Range;

/// The seeds of a test that runs `count` of them.
pub(crate) fn several(count: u64) -> Range<u64> {
    match number("C10K_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("C10K_SEEDS").unwrap_or(count),
    }
}

/// The seed of a test that runs one.
pub(crate) fn one(usual: u64) -> u64 {
    number("C10K_SEED").unwrap_or(usual)
}

fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name}={text}: it is no number")))
}
