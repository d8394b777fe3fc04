//! From slices to a comparison: blocks, ratios with their intervals, the floor, the verdict. Pure.
//!
//! Of each position of a block the last sound attempt counts. A block counts where all four of its slices do.

use super::histogram::curve;
use super::{ceiling, disturbance, matrix, words, workload};
use crate::result::bench::{
    Cell, Comparison, Judgement, LatencyComparison, Metric, Numbers, Purpose, Ratio, Side, Slice,
};
use crate::statistics::paired::{self, BOOTSTRAP_FROM, Finding, Headline, Method, Resamples, Rule, Series};
use std::collections::BTreeMap;

/// One sound block: the numbers of the variant's two slices and the reference's two, each in their order.
#[derive(Clone, Debug)]
pub struct Block<'a> {
    variant: [&'a Numbers; 2],
    reference: [&'a Numbers; 2],
}

/// The slice that counts at each position, its last sound attempt, else its last; in the order they were measured.
pub fn settled(slices: &[Slice]) -> impl Iterator<Item = &Slice> {
    let mut counts: BTreeMap<(Purpose, u32, u8), usize> = BTreeMap::new();
    for (index, one) in slices.iter().enumerate() {
        let kept = counts.entry((one.purpose, one.block, one.position)).or_insert(index);
        if one.invalid.is_empty() || !slices[*kept].invalid.is_empty() {
            *kept = index;
        }
    }
    let mut indices: Vec<usize> = counts.into_values().collect();
    indices.sort_unstable();
    indices.into_iter().map(|index| &slices[index])
}

/// The sound blocks for a purpose, in their order.
#[must_use]
pub fn blocks(slices: &[Slice], purpose: Purpose) -> Vec<Block<'_>> {
    let mut by_number: BTreeMap<u32, Vec<&Slice>> = BTreeMap::new();
    for slice in settled(slices).filter(|one| one.purpose == purpose) {
        by_number.entry(slice.block).or_default().push(slice);
    }
    let sound = |slices: &mut Vec<&'_ Slice>| slices.sort_by_key(|one| one.position);
    by_number.values_mut().for_each(sound);
    by_number.values().filter_map(|slices| pair(slices)).collect()
}

fn pair<'a>(slices: &[&'a Slice]) -> Option<Block<'a>> {
    let of = |side: Side| -> Option<[&'a Numbers; 2]> {
        let sound = slices.iter().filter(|one| one.side == side && one.invalid.is_empty());
        let numbers: Vec<&Numbers> = sound.filter_map(|one| one.numbers.as_ref()).collect();
        numbers.try_into().ok()
    };
    Some(Block { variant: of(Side::A)?, reference: of(Side::B)? })
}

type Read = fn(&Numbers) -> Option<f64>;

/// What decides.
#[must_use]
pub fn headlines(blocks: &[Block<'_>]) -> Vec<Series> {
    let series = |one: &Described| Series { ratios: ratios(blocks, one), floor: floor(blocks, one.read) };
    HEADLINES.iter().map(series).collect()
}

struct Described {
    name: &'static str,
    words: &'static str,
    less_is_better: Option<bool>,
    read: Read,
    /// A percentile is never averaged: a block says the mean of the logarithms of its neighbours' ratios.
    is_percentile: bool,
}

const HEADLINES: [Described; 2] = [
    Described {
        name: "server_cpu_ns",
        words: "server CPU per UNIT, ns",
        less_is_better: Some(true),
        read: |numbers| Some(numbers.server_cpu_ns),
        is_percentile: false,
    },
    Described {
        name: "total_cpu_ns",
        words: "server + client CPU per UNIT, ns",
        less_is_better: Some(true),
        read: |numbers| Some(numbers.total_cpu_ns),
        is_percentile: false,
    },
];

const RATE: Described = Described {
    name: "units_per_second",
    words: "UNITS per second, closed loop",
    less_is_better: Some(false),
    read: |numbers| Some(numbers.units_per_second),
    is_percentile: false,
};

const BESIDE: [Described; 8] = [
    Described {
        name: "machine_cpu_ns",
        words: "busy time of the machine per UNIT, ns",
        less_is_better: Some(true),
        read: |numbers| numbers.machine_cpu_ns,
        is_percentile: false,
    },
    Described {
        name: "p50_us",
        words: "p50 of a slice, us",
        less_is_better: Some(true),
        read: |numbers| numbers.p50_us,
        is_percentile: true,
    },
    Described {
        name: "p99_us",
        words: "p99 of a slice, us",
        less_is_better: Some(true),
        read: |numbers| numbers.p99_us,
        is_percentile: true,
    },
    Described {
        name: "server_system_calls",
        words: "system calls of the server per UNIT",
        less_is_better: None,
        read: |numbers| numbers.server_system_calls,
        is_percentile: false,
    },
    Described {
        name: "server_context_switches",
        words: "context switches of the server per UNIT",
        less_is_better: None,
        read: |numbers| numbers.server_context_switches,
        is_percentile: false,
    },
    Described {
        name: "completions_per_enter",
        words: "completions or events each time the server asks",
        less_is_better: None,
        read: |numbers| numbers.completions_per_enter,
        is_percentile: false,
    },
    Described {
        name: "server_resident_bytes",
        words: "memory of the server, bytes",
        less_is_better: Some(true),
        read: |numbers| numbers.server_resident_bytes.map(|bytes| bytes as f64),
        is_percentile: false,
    },
    Described {
        name: "kernel_bytes_per_connection",
        words: "memory of the kernel per connection, both ends, bytes",
        less_is_better: Some(true),
        read: |numbers| numbers.kernel_bytes_per_connection,
        is_percentile: false,
    },
];

/// Logarithms of the ratios, block by block; of blocks that do not have the number, none.
fn ratios(blocks: &[Block<'_>], one: &Described) -> Vec<f64> {
    let block = if one.is_percentile { paired::block_of_neighbours } else { paired::block };
    values(blocks, one.read).into_iter().map(|(variant, reference)| block(variant, reference)).collect()
}

fn values(blocks: &[Block<'_>], read: Read) -> Vec<([f64; 2], [f64; 2])> {
    let both = |numbers: [&Numbers; 2]| {
        let read = |numbers| read(numbers).filter(|value| *value > 0.0);
        Some([read(numbers[0])?, read(numbers[1])?])
    };
    blocks.iter().filter_map(|block| Some((both(block.variant)?, both(block.reference)?))).collect()
}

fn floor(blocks: &[Block<'_>], read: Read) -> Vec<f64> {
    let values = values(blocks, read);
    let pairs = values.iter().enumerate();
    pairs.flat_map(|(block, (variant, reference))| paired::floor_of(block, *variant, *reference)).collect()
}

/// What a comparison is made from.
#[derive(Clone, Copy, Debug)]
pub struct Material<'a> {
    /// What was compared, with the features that really ran.
    pub cell: &'a Cell,
    /// Every slice, in the order they were measured.
    pub slices: &'a [Slice],
    /// Histograms by slice.
    pub histograms: &'a [Option<String>],
    /// Why it ended.
    pub ended: &'a str,
    /// The kernel's release.
    pub kernel: Option<&'a str>,
}

/// The comparison.
#[must_use]
pub fn compare(material: &Material<'_>, rule: Rule, resamples: &mut Resamples) -> Comparison {
    let (cell, slices) = (material.cell, material.slices);
    let blocks = blocks(slices, Purpose::Cost);
    let metrics = metrics(cell, slices, &blocks, resamples);
    let headlines = headlines(&blocks);
    // A block in which a headline was nought has no ratio: it is none of those a verdict rests on.
    let judged = headlines.iter().map(|one| one.ratios.len()).min().unwrap_or(0);
    let headlines: Vec<Headline> = headlines.iter().filter_map(|one| one.headline(resamples)).collect();
    let verdict = match rule.judge(&headlines, judged) {
        _ if cell.left_out.is_some() => Judgement::LeftOut,
        Finding::Less => Judgement::Better,
        Finding::More => Judgement::Worse,
        Finding::Same => Judgement::Same,
        Finding::Undecided => Judgement::Undecided,
    };
    let mut comparison = Comparison {
        cell: cell.clone(),
        verdict,
        sentence: String::new(),
        reasons: Vec::new(),
        marks: None,
        ended: material.ended.into(),
        band: rule.band(&headlines),
        blocks: blocks.len() as u32,
        repeated: slices.iter().filter(|one| one.attempt > 0).count() as u32,
        disturbances: disturbance::counted(slices),
        drifted: words::drifted(slices) as u32,
        invalid: slices.iter().filter(|one| !one.invalid.is_empty()).count() as u32,
        client_ceiling: ceiling::ceiling(cell, slices),
        metrics,
        latency: latency(material),
        variant_health: health(slices, Side::A),
        reference_health: health(slices, Side::B),
        slices: slices.to_vec(),
    };
    comparison.reasons = words::reasons(&comparison, rule);
    comparison.marks = Some(matrix::marks(&comparison));
    comparison.sentence = words::sentence(&comparison, material.kernel);
    comparison
}

fn metrics(cell: &Cell, slices: &[Slice], blocks: &[Block<'_>], resamples: &mut Resamples) -> Vec<Metric> {
    let capacity = self::blocks(slices, Purpose::Capacity);
    let closed = if capacity.is_empty() { blocks } else { &capacity };
    let latency = self::blocks(slices, Purpose::Latency);
    let mut metrics: Vec<Metric> = Vec::new();
    let described = HEADLINES.iter().chain([&RATE]).chain(&BESIDE);
    for one in described {
        let blocks = match one.name {
            "units_per_second" => closed,
            "p50_us" | "p99_us" if !latency.is_empty() => &latency,
            _ => blocks,
        };
        metrics.extend(metric(cell, one, blocks, resamples).map(|metric| told(metric, slices)));
    }
    metrics
}

/// A metric that says in its words where it does not show what it seems to.
fn told(mut metric: Metric, slices: &[Slice]) -> Metric {
    let measured = |purpose: Purpose| slices.iter().any(|one| one.purpose == purpose);
    let closed = if measured(Purpose::Capacity) { Purpose::Capacity } else { Purpose::Cost };
    let is_open = |one: &Numbers| one.offered_per_second.is_some();
    match metric.name.as_str() {
        "units_per_second" if words::client_was_the_limit(slices, closed) => {
            metric.words.push_str(", the client's limit");
        }
        "p50_us" | "p99_us" if !slices.iter().filter_map(|one| one.numbers.as_ref()).any(is_open) => {
            metric.words.push_str(", closed loop");
        }
        _ => {}
    }
    metric
}

fn metric(cell: &Cell, one: &Described, blocks: &[Block<'_>], resamples: &mut Resamples) -> Option<Metric> {
    let read = one.read;
    let variant: Vec<f64> = blocks.iter().flat_map(|block| block.variant).filter_map(read).collect();
    let reference: Vec<f64> = blocks.iter().flat_map(|block| block.reference).filter_map(read).collect();
    // Of a cost alone: a rate or a latency has no side from which the truth is only ever left.
    let is_cost = one.name.ends_with("_cpu_ns");
    let least = |values: &[f64]| values.iter().copied().min_by(f64::total_cmp).filter(|_| is_cost);
    let (variant_least, reference_least) = (least(&variant), least(&reference));
    let (variant, reference) = (paired::median(&variant), paired::median(&reference));
    if variant.is_none() && reference.is_none() {
        return None;
    }
    Some(Metric {
        name: one.name.into(),
        words: one
            .words
            .replace("UNITS", workload::units(cell.workload.unit))
            .replace("UNIT", workload::unit(cell.workload.unit)),
        less_is_better: one.less_is_better,
        variant,
        reference,
        variant_least,
        reference_least,
        ratio: ratio(&ratios(blocks, one), resamples),
        floor: ratio(&floor(blocks, read), resamples),
    })
}

fn ratio(logarithms: &[f64], resamples: &mut Resamples) -> Option<Ratio> {
    let interval = paired::interval(logarithms, resamples)?;
    debug_assert_eq!(interval.method == Method::Bootstrap, logarithms.len() >= BOOTSTRAP_FROM);
    Some(Ratio {
        median: interval.median.exp(),
        low: interval.low.exp(),
        high: interval.high.exp(),
        confidence: interval.confidence,
        method: match interval.method {
            Method::OrderStatistics => "order_statistics".into(),
            Method::Bootstrap => "bootstrap".into(),
        },
        pairs: logarithms.iter().map(|value| value.exp()).collect(),
    })
}

/// The latencies at the last rate that was offered to both.
fn latency(material: &Material<'_>) -> Option<LatencyComparison> {
    let offered = |slice: &Slice| slice.numbers.as_ref().and_then(|numbers| numbers.offered_per_second);
    let counts = |slice: &&Slice| slice.purpose != Purpose::Capacity && slice.invalid.is_empty();
    let last = settled(material.slices).filter(counts).filter_map(offered).last()?;
    let place = |one: &Slice| (one.purpose, one.block, one.position, one.attempt);
    let of = |side: Side| {
        let same = settled(material.slices).filter(counts).filter(move |one| {
            one.side == side && offered(one).is_some_and(|rate| (rate / last - 1.0).abs() < 0.01)
        });
        let index = |one: &Slice| material.slices.iter().position(|other| place(other) == place(one));
        let kept = same.filter_map(|one| material.histograms.get(index(one)?)?.as_deref());
        curve(kept)
    };
    let (variant, reference) = (of(Side::A), of(Side::B));
    (variant.samples > 0 && reference.samples > 0).then_some(LatencyComparison {
        offered_per_second: last,
        variant,
        reference,
    })
}

fn health(slices: &[Slice], side: Side) -> BTreeMap<String, u64> {
    let mut sum = BTreeMap::new();
    let counted = settled(slices)
        .filter(|one| one.side == side && one.purpose == Purpose::Cost && one.invalid.is_empty());
    for (name, count) in counted.filter_map(|one| one.numbers.as_ref()).flat_map(|numbers| &numbers.health) {
        *sum.entry(name.clone()).or_insert(0) += count;
    }
    sum
}

#[cfg(test)]
pub(super) mod tests;
