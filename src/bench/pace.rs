//! What a cell does next, and at which rate: from the slices that were measured. It knows no clock, so that a
//! bench that is resumed goes on where it was. Pure.

use super::compare;
use super::order::SLICES;
use super::workload::can_be_paced;
use crate::result::bench::{Cell, Purpose, Side, Slice};
use crate::statistics::paired::{Enough, Rule};
use std::collections::BTreeSet;

/// What sets the pace of messages.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Pace {
    /// The server: a closed loop.
    Closed,
    /// Half of what the slower side manages in a closed loop: far enough from the limit of the client, which
    /// works more for a message than its server, that chance does not reach it.
    Half,
    /// So many messages a second.
    Rate(f64),
}

/// The share of the slower side's closed loop that is offered.
const SHARE: f64 = 0.5;
/// What is left of a rate that could not be kept.
const LOWERED: f64 = 0.8;
const LOWERED_MAX: i32 = 4;
/// Blocks without a single sound one after which a cell is given up.
const HOPELESS: u32 = 12;
/// How reasons begin that say the rate was too much; [`super::measure`] writes them.
pub const RATE_MISSED: &str = "the client could not keep the offered rate";
/// See [`RATE_MISSED`].
pub const CLIENT_FULL: &str = "the client was near its limit at the offered rate";

/// Whether a slice is invalid because more was asked of its client than it can do.
#[must_use]
pub fn is_too_fast(reason: &str) -> bool {
    [RATE_MISSED, CLIENT_FULL].iter().any(|begins| reason.starts_with(begins))
}

/// What a cell does next.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Next {
    /// A block.
    Block {
        /// What for.
        purpose: Purpose,
        /// Which.
        block: u32,
        /// Messages a second; `None`: a closed loop.
        rate: Option<f64>,
    },
    /// It is done, and why.
    Done(Ended),
}

/// Why a cell is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// The intervals are narrow.
    Narrow,
    /// The difference is plain.
    Plain,
    /// No sound block came of it.
    Failed,
}

impl Pace {
    /// The pace of a cell under this plan.
    #[must_use]
    pub fn of(plan: &str, cell: &Cell) -> Self {
        match plan {
            _ if !can_be_paced(&cell.workload) => Self::Closed,
            "closed" => Self::Closed,
            rate => rate.parse().map_or(Self::Half, Self::Rate),
        }
    }
}

/// What a cell with these slices does next.
#[must_use]
pub fn next(pace: Pace, cell: &Cell, slices: &[Slice], rule: Rule) -> Next {
    if pace == Pace::Half && first_open(slices, Purpose::Capacity) == 0 {
        return Next::Block { purpose: Purpose::Capacity, block: 0, rate: None };
    }
    let rate = rate(pace, slices);
    if pace == Pace::Half && rate.is_none() {
        return Next::Done(Ended::Failed);
    }
    let block = first_open(slices, Purpose::Cost);
    let blocks = compare::blocks(slices, Purpose::Cost);
    if blocks.is_empty() && block >= HOPELESS {
        return Next::Done(Ended::Failed);
    }
    // A closed loop says nothing about latency at a rate both sides can keep.
    let wants_latency = pace == Pace::Closed && can_be_paced(&cell.workload);
    if wants_latency && blocks.len() >= rule.blocks_min && first_open(slices, Purpose::Latency) == 0 {
        let rate = slowest(slices, Purpose::Cost).map(|rate| rate * SHARE);
        return Next::Block { purpose: Purpose::Latency, block: 0, rate };
    }
    match rule.enough(&compare::headlines(&blocks)) {
        Some(Enough::Narrow) => Next::Done(Ended::Narrow),
        Some(Enough::Plain) => Next::Done(Ended::Plain),
        None => Next::Block { purpose: Purpose::Cost, block, rate },
    }
}

/// The first block of which a position was not measured; whatever came of those that were.
fn first_open(slices: &[Slice], purpose: Purpose) -> u32 {
    let of_purpose = slices.iter().filter(|one| one.purpose == purpose);
    let measured: BTreeSet<(u32, u8)> = of_purpose.map(|one| (one.block, one.position)).collect();
    let is_open = |block: &u32| (0..SLICES).any(|position| !measured.contains(&(*block, position)));
    (0..).find(is_open).expect("there are fewer slices than numbers")
}

/// The rate that is offered next.
#[must_use]
pub fn rate(pace: Pace, slices: &[Slice]) -> Option<f64> {
    let first = match pace {
        Pace::Closed => return None,
        // What somebody typed is not lowered.
        Pace::Rate(rate) => return Some(rate.max(1.0).round()),
        Pace::Half => slowest(slices, Purpose::Capacity)? * SHARE,
    };
    // Also where a disturbance was the cause: if it lasts, nothing sound would come of any block.
    let missed = compare::settled(slices)
        .filter(|one| one.purpose == Purpose::Cost && one.invalid.iter().any(|reason| is_too_fast(reason)));
    let blocks: BTreeSet<u32> = missed.map(|one| one.block).collect();
    let lowered = (blocks.len() as i32).min(LOWERED_MAX);
    Some((first * LOWERED.powi(lowered)).max(1.0).round())
}

/// Units a second of the slower side.
fn slowest(slices: &[Slice], purpose: Purpose) -> Option<f64> {
    let of = |side: Side| {
        let sound = compare::settled(slices)
            .filter(|one| one.purpose == purpose && one.side == side && one.invalid.is_empty());
        let rates: Vec<f64> = sound.filter_map(|one| Some(one.numbers.as_ref()?.units_per_second)).collect();
        crate::statistics::paired::median(&rates)
    };
    Some(of(Side::A)?.min(of(Side::B)?)).filter(|rate| *rate > 0.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::compare::tests::{block, cell, slice};

    #[test]
    fn the_rate_is_half_of_what_the_slower_side_manages() {
        let mut slices = Vec::new();
        let first = Next::Block { purpose: Purpose::Capacity, block: 0, rate: None };
        assert_eq!(next(Pace::Half, &cell(), &slices, Rule::default()), first);
        slices.extend(block(Purpose::Capacity, 0, 1.0, 1.0));
        for slice in &mut slices {
            let rate = if slice.side == Side::A { 90_000.0 } else { 110_000.0 };
            slice.numbers.as_mut().unwrap().units_per_second = rate;
        }
        let cost = Next::Block { purpose: Purpose::Cost, block: 0, rate: Some(45_000.0) };
        assert_eq!(next(Pace::Half, &cell(), &slices, Rule::default()), cost);
        // The slower one, whichever it is.
        for slice in slices.iter_mut().filter(|slice| slice.side == Side::B) {
            slice.numbers.as_mut().unwrap().units_per_second = 60_000.0;
        }
        assert_eq!(rate(Pace::Half, &slices), Some(30_000.0));
    }

    #[test]
    fn a_rate_that_cannot_be_kept_is_lowered_unless_it_was_typed() {
        let mut slices: Vec<Slice> = block(Purpose::Capacity, 0, 1.0, 1.0).into();
        let before = rate(Pace::Half, &slices).unwrap();
        let mut missed = block(Purpose::Cost, 0, 1.0, 1.0);
        missed[2].invalid.push(format!("{RATE_MISSED}: 80 of 100"));
        missed[3].invalid.push(format!("{CLIENT_FULL}: busy 96 %"));
        slices.extend(missed);
        assert_eq!(rate(Pace::Half, &slices).unwrap(), (before * 0.8).round());
        assert_eq!(rate(Pace::Rate(7.0), &slices), Some(7.0));
    }

    #[test]
    fn a_block_that_was_cut_short_is_finished_first() {
        let mut slices: Vec<Slice> = block(Purpose::Cost, 0, 1.0, 1.0).into();
        slices.push(slice(Purpose::Cost, 1, 0, Side::A, 1.0));
        let next = next(Pace::Rate(9.0), &cell(), &slices, Rule::default());
        assert_eq!(next, Next::Block { purpose: Purpose::Cost, block: 1, rate: Some(9.0) });
    }

    #[test]
    fn a_closed_loop_has_its_latency_measured_apart() {
        let mut slices: Vec<Slice> =
            (0..6).flat_map(|number| block(Purpose::Cost, number, 1.0, 1.0)).collect();
        let latency = next(Pace::Closed, &cell(), &slices, Rule::default());
        assert!(
            matches!(latency, Next::Block { purpose: Purpose::Latency, rate: Some(_), .. }),
            "{latency:?}"
        );
        slices.extend(block(Purpose::Latency, 0, 1.0, 1.0));
        assert_eq!(next(Pace::Closed, &cell(), &slices, Rule::default()), Next::Done(Ended::Narrow));
    }

    #[test]
    fn a_cell_of_which_nothing_is_sound_is_given_up() {
        let mut slices: Vec<Slice> =
            (0..HOPELESS).flat_map(|number| block(Purpose::Cost, number, 1.0, 1.0)).collect();
        slices.iter_mut().for_each(|slice| slice.invalid.push("the client failed".into()));
        assert_eq!(next(Pace::Rate(9.0), &cell(), &slices, Rule::default()), Next::Done(Ended::Failed));
    }
}
