//! Two things measured in turns: from the logarithms of their ratios, one for each block, to a median with
//! an interval, a verdict, and whether to go on. Pure.
//!
//! A block is the replicate: slices within one share the state of the machine, so that only what differs
//! between blocks counts as chance. Below [`BOOTSTRAP_FROM`] blocks an interval is a pair of order
//! statistics, whose confidence is a sum of binomials and needs no assumption about the noise; from there
//! on the bootstrap's percentiles.
//!
//! Looking again and again until a difference shows finds one where there is none. What ends a comparison
//! here therefore does not depend on which side is ahead (the intervals are narrow, the time is spent), or
//! asks for far more than the verdict does ([`SURE`]). `in_synthetic_experiments` holds that to numbers.

use fastrand::Rng;
use std::collections::BTreeMap;

/// How much of the time an interval has to cover the truth.
pub const CONFIDENCE: f64 = 0.95;
/// The same, for ending before the time because the difference is plain.
pub const SURE: f64 = 0.999;
/// Blocks from which on intervals are the bootstrap's.
pub const BOOTSTRAP_FROM: usize = 20;
/// Resamples of a bootstrap.
pub const RESAMPLES: usize = 10_000;

/// A median and where it lies, on the scale of the values.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Interval {
    /// The median.
    pub median: f64,
    /// The lower end.
    pub low: f64,
    /// The upper end.
    pub high: f64,
    /// How much of the time such an interval covers the truth.
    pub confidence: f64,
    /// How it was found.
    pub method: Method,
}

impl Interval {
    /// How far from nought it goes.
    const fn reach(&self) -> f64 {
        self.low.abs().max(self.high.abs())
    }
}

/// How an interval was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// The values themselves, so many from each end.
    OrderStatistics,
    /// Percentiles of medians of resamples.
    Bootstrap,
}

/// What was measured of a number that a verdict rests on, as logarithms.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Series {
    /// Ratios of the two, one for each block: [`block`].
    pub ratios: Vec<f64>,
    /// Ratios of equals, of the same blocks: [`floor_of`].
    pub floor: Vec<f64>,
}

impl Series {
    /// What it comes to; `None` without blocks.
    #[must_use]
    pub fn headline(&self, resamples: &mut Resamples) -> Option<Headline> {
        let interval = interval(&self.ratios, resamples)?;
        Some(Headline { interval, floor: self::interval(&self.floor, resamples) })
    }
}

/// A number that a verdict rests on.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Headline {
    /// Its ratios, of the blocks.
    pub interval: Interval,
    /// The same of a thing against itself, where that is known.
    pub floor: Option<Interval>,
}

impl Headline {
    /// How far a thing may be from itself.
    fn reach(&self) -> f64 {
        self.floor.as_ref().map_or(0.0, Interval::reach)
    }
}

/// What two things come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finding {
    /// Less.
    Less,
    /// More.
    More,
    /// Within the band.
    Same,
    /// It cannot be said.
    Undecided,
}

/// Why a comparison need not go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Enough {
    /// Every headline's interval is as narrow as was wanted.
    Narrow,
    /// Every headline says the same, and so plainly that no look too many can have made it.
    Plain,
}

/// What a verdict and an end are held to. Differences are logarithms, about shares: 0.02 is 2 %.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rule {
    /// A difference within this is none.
    pub band: f64,
    /// Half the length of an interval that is narrow enough.
    pub half_width: f64,
    /// Blocks before which nothing is said: of fewer than six no interval has 95 %.
    pub blocks_min: usize,
}

impl Default for Rule {
    /// Intervals half as wide as the band: what is the same can then be told from what is not.
    fn default() -> Self {
        Self { band: 0.02, half_width: 0.01, blocks_min: 6 }
    }
}

/// A widened band beyond this share is no band any more: the machine is too noisy to call anything the same.
pub const BAND_MAX: f64 = 0.05;

impl Rule {
    /// The band on this machine: as wide at least as a thing differs from itself in any of the headlines.
    #[must_use]
    pub fn band(&self, headlines: &[Headline]) -> f64 {
        headlines.iter().map(Headline::reach).fold(self.band, f64::max)
    }

    /// What the headlines come to together; the first is what is asked for, the others stand guard over it.
    ///
    /// Less and more need every interval on the same side of nought, and the first median beyond the band. A
    /// guard need not be so far out: what costs one end more costs both together a smaller share more. The same
    /// needs every interval within the band, and a band that is not too wide ([`BAND_MAX`]).
    #[must_use]
    pub fn judge(&self, headlines: &[Headline], blocks: usize) -> Finding {
        if headlines.is_empty() || blocks < self.blocks_min {
            return Finding::Undecided;
        }
        let band = self.band(headlines);
        let all = |holds: &dyn Fn(&Interval) -> bool| headlines.iter().all(|one| holds(&one.interval));
        let differs = headlines[0].interval.median.abs() > band;
        if differs && all(&|one| one.high < 0.0) {
            Finding::Less
        } else if differs && all(&|one| one.low > 0.0) {
            Finding::More
        } else if band <= BAND_MAX && all(&|one| one.low >= -band && one.high <= band) {
            Finding::Same
        } else {
            Finding::Undecided
        }
    }

    /// Whether enough is known of these headlines.
    #[must_use]
    pub fn enough(&self, headlines: &[Series]) -> Option<Enough> {
        let blocks = headlines.iter().map(|one| one.ratios.len()).min()?;
        if blocks < self.blocks_min {
            return None;
        }
        let at = |confidence: f64| -> Vec<Interval> {
            headlines.iter().filter_map(|one| order_statistics(&one.ratios, confidence)).collect()
        };
        let usual = at(CONFIDENCE);
        if usual.iter().all(|one| one.high - one.low <= 2.0 * self.half_width) {
            return Some(Enough::Narrow);
        }
        let sure = at(SURE);
        let is_sure = sure.iter().all(|one| one.confidence >= SURE);
        // As in a verdict, the band is for the first, and the guards have to be on its side.
        let floors = headlines.iter().filter_map(|one| order_statistics(&one.floor, CONFIDENCE));
        let band = floors.map(|floor| floor.reach()).fold(self.band, f64::max);
        let beyond = |edge: &dyn Fn(&Interval) -> f64| {
            let mut edges = sure.iter().map(edge);
            edges.next().is_some_and(|first| first > band) && edges.all(|guard| guard > 0.0)
        };
        let plain = beyond(&|one| -one.high) || beyond(&|one| one.low);
        (is_sure && plain).then_some(Enough::Plain)
    }
}

/// What a block says: the logarithm of the ratio of the means of its slices.
#[must_use]
pub fn block(variant: [f64; 2], reference: [f64; 2]) -> f64 {
    ((variant[0] + variant[1]) / (reference[0] + reference[1])).ln()
}

/// The same of numbers that must not be added up: the mean of the logarithms of neighbours' ratios.
#[must_use]
pub fn block_of_neighbours(variant: [f64; 2], reference: [f64; 2]) -> f64 {
    f64::midpoint((variant[0] / reference[0]).ln(), (variant[1] / reference[1]).ln())
}

/// What a block says of things against themselves: the logarithms of the ratios of its equal slices. Which
/// of them is on top alternates from block to block, so that a drift cancels.
#[must_use]
pub fn floor_of(block: usize, variant: [f64; 2], reference: [f64; 2]) -> [f64; 2] {
    let sign = if block.is_multiple_of(2) { 1.0 } else { -1.0 };
    [sign * (variant[0] / variant[1]).ln(), -sign * (reference[0] / reference[1]).ln()]
}

/// The median of some values with its 95 % interval; `None` without values.
#[must_use]
pub fn interval(values: &[f64], resamples: &mut Resamples) -> Option<Interval> {
    if values.len() < BOOTSTRAP_FROM {
        order_statistics(values, CONFIDENCE)
    } else {
        resamples.bootstrap(values, CONFIDENCE)
    }
}

/// The middle value, or the mean of the two in the middle; `None` without values.
#[must_use]
pub fn median(values: &[f64]) -> Option<f64> {
    middle(&sorted(values))
}

fn sorted(values: &[f64]) -> Vec<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted
}

fn middle(sorted: &[f64]) -> Option<f64> {
    let last = sorted.len().checked_sub(1)?;
    Some(f64::midpoint(sorted[last / 2], sorted[sorted.len() / 2]))
}

/// The narrowest pair of order statistics that covers the median at least so often; of too few values the
/// whole range, with the confidence that has.
#[must_use]
pub fn order_statistics(values: &[f64], confidence: f64) -> Option<Interval> {
    let sorted = sorted(values);
    let median = middle(&sorted)?;
    let (from_the_end, confidence) = ranks(sorted.len(), confidence);
    Some(Interval {
        median,
        low: sorted[from_the_end],
        high: sorted[sorted.len() - 1 - from_the_end],
        confidence,
        method: Method::OrderStatistics,
    })
}

/// How many values may be left out at each end, and the confidence of the rest: the chance that more than
/// these, and fewer than all but these, of so many fair coins fall on one side.
fn ranks(count: usize, confidence: f64) -> (usize, f64) {
    // The chance of exactly `heads` heads, from 0 on.
    let mut exactly = 0.5f64.powi(i32::try_from(count).unwrap_or(i32::MAX));
    let mut tail = exactly;
    let mut best = (0, 1.0 - 2.0 * tail);
    for heads in 1..count / 2 {
        exactly *= (count - heads + 1) as f64 / heads as f64;
        tail += exactly;
        if 1.0 - 2.0 * tail < confidence {
            break;
        }
        best = (heads, 1.0 - 2.0 * tail);
    }
    (best.0, best.1.max(0.0))
}

/// What a bootstrap draws. Which ranks the middle of a resample has depends on how many values there are
/// and not on the values, so that they are drawn once for each number of them.
#[derive(Clone, Debug)]
pub struct Resamples {
    seed: u64,
    /// By number of values, the ranks of the two in the middle of each resample.
    middles: BTreeMap<usize, Vec<(u32, u32)>>,
}

impl Resamples {
    /// To be drawn from this seed.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self { seed, middles: BTreeMap::new() }
    }

    /// Percentiles of the medians of [`RESAMPLES`] resamples; `None` without values.
    #[must_use]
    pub fn bootstrap(&mut self, values: &[f64], confidence: f64) -> Option<Interval> {
        let sorted = sorted(values);
        let median = middle(&sorted)?;
        let seed = self.seed;
        let middles = self.middles.entry(sorted.len()).or_insert_with(|| draw(sorted.len(), seed));
        let of = |(low, high): &(u32, u32)| f64::midpoint(sorted[*low as usize], sorted[*high as usize]);
        let mut medians: Vec<f64> = middles.iter().map(of).collect();
        let mut at = |share: f64| {
            let rank = ((RESAMPLES - 1) as f64 * share).round() as usize;
            *medians.select_nth_unstable_by(rank, f64::total_cmp).1
        };
        let (low, high) = (at((1.0 - confidence) / 2.0), at((1.0 + confidence) / 2.0));
        Some(Interval { median, low, high, confidence, method: Method::Bootstrap })
    }
}

/// The ranks of the two in the middle of each resample of so many values.
fn draw(values: usize, seed: u64) -> Vec<(u32, u32)> {
    let mut random = Rng::with_seed(seed);
    let mut counts = vec![0u32; values];
    let mut resample = || {
        counts.fill(0);
        (0..values).for_each(|_| counts[random.usize(..values)] += 1);
        (ranked(&counts, (values - 1) / 2), ranked(&counts, values / 2))
    };
    (0..RESAMPLES).map(|_| resample()).collect()
}

/// Which value stands at this rank, where each occurs so often.
fn ranked(counts: &[u32], rank: usize) -> u32 {
    let mut up_to = 0;
    let beyond = counts.iter().position(|&count| {
        up_to += count;
        up_to as usize > rank
    });
    beyond.expect("the rank is below the sum") as u32
}

#[cfg(test)]
mod tests;
