//! Known answers, and a thousand synthetic experiments through the very rule the bench stops and judges by.

use super::*;
use crate::seeds;

#[test]
fn order_statistics_have_the_confidence_of_the_textbook() {
    // n, values left out at each end, confidence: tables of the sign test.
    for (count, out, confidence) in [
        (5, 0, 0.9375),
        (6, 0, 0.96875),
        (8, 0, 0.992_187_5),
        (9, 1, 0.9609),
        (10, 1, 0.9785),
        (19, 4, 0.9808),
    ] {
        let (found, exact) = ranks(count, 0.95);
        assert_eq!(found, out, "{count}");
        assert!((exact - confidence).abs() < 1e-4, "{count}: {exact}");
    }
    assert_eq!((ranks(1, 0.95), ranks(2, 0.95)), ((0, 0.0), (0, 0.5)));
}

#[test]
fn the_median_and_its_ends_are_values_of_the_middle() {
    assert_eq!((median(&[]), median(&[3.0]), median(&[4.0, 1.0])), (None, Some(3.0), Some(2.5)));
    assert_eq!((median(&[9.0, 1.0, 2.0]), median(&[1.0, 2.0, 4.0, 99.0])), (Some(2.0), Some(3.0)));
    let values: Vec<f64> = (1..=9).rev().map(f64::from).collect();
    let found = interval(&values, &mut Resamples::new(7)).unwrap();
    assert_eq!((found.low, found.median, found.high), (2.0, 5.0, 8.0));
    assert_eq!(found.method, Method::OrderStatistics);
    assert!(interval(&[], &mut Resamples::new(7)).is_none());
}

#[test]
fn a_bootstrap_is_drawn_from_its_seed_and_agrees_with_what_is_known() {
    let values: Vec<f64> = (0..41).map(f64::from).collect();
    let found = interval(&values, &mut Resamples::new(7)).unwrap();
    assert_eq!(found.method, Method::Bootstrap);
    assert_eq!(found, interval(&values, &mut Resamples::new(7)).unwrap());
    assert_eq!(found.median, 20.0);
    // The order statistics of 41 values leave out 13 at each end.
    assert!((found.low - 14.0).abs() <= 1.0 && (found.high - 26.0).abs() <= 1.0, "{found:?}");
}

#[test]
fn an_interval_covers_the_truth_as_often_as_it_says() {
    let mut random = fastrand::Rng::with_seed(seeds::one(11));
    let mut resamples = Resamples::new(3);
    for (blocks, least) in [(6, 950), (12, 950), (30, 920)] {
        let mut covers = |_: &i32| {
            let values: Vec<f64> = (0..blocks).map(|_| normal(&mut random)).collect();
            let found = interval(&values, &mut resamples).unwrap();
            found.low <= 0.0 && found.high >= 0.0
        };
        let covered = (0..1_000).filter(&mut covers).count();
        assert!(covered >= least, "{covered} of 1000 with {blocks} blocks");
    }
}

fn at(low: f64, median: f64, high: f64) -> Interval {
    Interval { median, low, high, confidence: 0.95, method: Method::OrderStatistics }
}

/// A headline of a machine that puts nothing beside itself.
fn still(interval: Interval) -> Headline {
    Headline { interval, floor: None }
}

#[test]
fn better_and_worse_need_both_headlines_on_the_same_side_and_the_first_beyond_the_band() {
    let rule = Rule::default();
    let judge = |one: Interval, other: Interval| rule.judge(&[one, other].map(still), 6);
    let less = at(-0.10, -0.05, -0.01);
    let more = at(0.01, 0.05, 0.10);
    assert_eq!(judge(less, less), Finding::Less);
    assert_eq!(judge(more, more), Finding::More);
    assert_eq!(judge(less, more), Finding::Undecided);
    assert_eq!(judge(less, at(-0.10, -0.05, 0.01)), Finding::Undecided);
    // A guard has to be on that side, by however little; what it guards has to be beyond the band.
    let little = at(-0.03, -0.015, -0.01);
    assert_eq!(judge(less, little), Finding::Less);
    assert_eq!(judge(little, less), Finding::Undecided);
    assert_eq!(judge(at(0.01, 0.03, 0.05), at(0.001, 0.01, 0.02)), Finding::More);
    assert_eq!(judge(at(-0.015, -0.01, -0.005), at(-0.015, 0.0, 0.02)), Finding::Same);
    assert_eq!(judge(at(-0.021, 0.0, 0.0), at(0.0, 0.0, 0.0)), Finding::Undecided);
    assert_eq!(rule.judge(&[less, less].map(still), 5), Finding::Undecided);
}

#[test]
fn a_noisy_machine_calls_neither_a_difference_nor_the_same() {
    let rule = Rule::default();
    let less = at(-0.10, -0.05, -0.01);
    let quiet = at(-0.02, 0.0, 0.02);
    let judge = |interval: Interval, floors: [Interval; 2]| {
        rule.judge(&floors.map(|floor| Headline { interval, floor: Some(floor) }), 9)
    };
    assert_eq!(judge(less, [quiet, quiet]), Finding::Less);
    for noise in [at(-0.06, 0.0, 0.02), at(-0.02, 0.0, 0.06)] {
        assert_eq!(judge(less, [noise, quiet]), Finding::Undecided);
        assert_eq!(judge(less, [quiet, noise]), Finding::Undecided);
    }
    let same = at(-0.03, 0.0, 0.03);
    assert_eq!(judge(same, [at(-0.06, 0.0, 0.02); 2]), Finding::Undecided);
    assert_eq!(judge(same, [at(-0.01, 0.0, 0.04), quiet]), Finding::Same);
    assert_eq!(judge(same, [quiet, quiet]), Finding::Undecided);
}

#[test]
fn it_ends_when_both_intervals_are_narrow_or_the_difference_is_plain_and_never_before_six_blocks() {
    let rule = Rule::default();
    let series = |ratios: Vec<f64>| Series { ratios, floor: Vec::new() };
    let narrow = |count: usize| series((0..count).map(|index| index as f64 * 0.001).collect());
    let wide = |count: usize, from: f64| series((0..count).map(|index| from + index as f64 * 0.02).collect());
    assert_eq!(rule.enough(&[narrow(5), narrow(5)]), None);
    assert_eq!(rule.enough(&[narrow(6), narrow(6)]), Some(Enough::Narrow));
    assert_eq!(rule.enough(&[narrow(6), wide(6, 0.0)]), None);
    // Ten blocks cannot be sure of anything at 99.9 %, eleven can.
    assert_eq!(rule.enough(&[wide(10, 0.1), wide(10, 0.1)]), None);
    assert_eq!(rule.enough(&[wide(11, 0.1), wide(11, 0.1)]), Some(Enough::Plain));
    assert_eq!(rule.enough(&[wide(11, 0.1), wide(11, -0.5)]), None);
    // The band is for the first of them.
    assert_eq!(rule.enough(&[wide(11, 0.01), wide(11, 0.1)]), None);
    assert_eq!(rule.enough(&[wide(11, 0.1), wide(11, 0.01)]), Some(Enough::Plain));
    assert_eq!(rule.enough(&[wide(11, 0.1), wide(11, -0.01)]), None);
    assert_eq!(rule.enough(&[wide(11, -0.5), wide(11, -0.21)]), Some(Enough::Plain));
    // What is not beyond the machine's own noise is not plain.
    let noisy = Series { floor: vec![0.2; 11], ..wide(11, 0.1) };
    assert_eq!(rule.enough(&[wide(11, 0.1), noisy]), None);
    assert_eq!(rule.enough(&[]), None);
}

/// A machine as it was seen: each slice deviates by 4 %, one in fifty takes 30 % more, and within ten
/// minutes everything gets 1.5 times as slow.
struct Machine {
    random: fastrand::Rng,
    slice: usize,
}

/// Of forty blocks, in all ten minutes.
const SLICES: f64 = 160.0;
const BLOCKS: usize = 40;

impl Machine {
    /// What a slice of something measures that costs so much: its server's part, and both ends'.
    fn slice(&mut self, cost: [f64; 2]) -> [f64; 2] {
        let drift = 1.5f64.powf(self.slice as f64 / SLICES);
        self.slice += 1;
        let spike = if self.random.f64() < 0.02 { 1.3 } else { 1.0 };
        // Most of what disturbs a slice disturbs both ends.
        let (shared, own) = (normal(&mut self.random), normal(&mut self.random));
        let noise = |share: f64| (0.04 * (share.sqrt() * shared + (1.0 - share).sqrt() * own)).exp();
        [cost[0] * drift * spike * noise(1.0), cost[1] * drift * spike * noise(0.9)]
    }
}

fn normal(random: &mut fastrand::Rng) -> f64 {
    let (radius, angle) = ((-2.0 * (1.0 - random.f64()).ln()).sqrt(), std::f64::consts::TAU * random.f64());
    radius * angle.cos()
}

/// One comparison of a thing whose server, and whose both ends, cost so much of the other's, as the bench does it.
fn experiment(ratio: [f64; 2], seed: u64, resamples: &mut Resamples) -> Finding {
    let rule = Rule::default();
    let mut machine = Machine { random: fastrand::Rng::with_seed(seed), slice: 0 };
    let mut headlines = [Series::default(), Series::default()];
    while headlines[0].ratios.len() < BLOCKS && rule.enough(&headlines).is_none() {
        let first = machine.random.bool();
        let (variant, reference) = (ratio, [1.0; 2]);
        let order = match first {
            true => [variant, reference, reference, variant],
            false => [reference, variant, variant, reference],
        };
        let slices = order.map(|cost| machine.slice(cost));
        for (headline, Series { ratios, floor }) in headlines.iter_mut().enumerate() {
            let at = |place: usize| slices[place][headline];
            let (outer, inner) = ([at(0), at(3)], [at(1), at(2)]);
            let (variant, reference) = if first { (outer, inner) } else { (inner, outer) };
            ratios.push(block(variant, reference));
            floor.extend(floor_of(ratios.len(), variant, reference));
        }
    }
    let judged: Vec<Headline> = headlines.iter().filter_map(|one| one.headline(resamples)).collect();
    rule.judge(&judged, headlines[0].ratios.len())
}

fn in_synthetic_experiments(ratio: [f64; 2], counts: impl Fn(Finding) -> bool + Sync) -> usize {
    let from = seeds::one(1) * 1_000_000;
    let part = |range: std::ops::Range<u64>| {
        let mut resamples = Resamples::new(from);
        range.filter(|seed| counts(experiment(ratio, from + seed, &mut resamples))).count()
    };
    let part = &part;
    std::thread::scope(|scope| {
        let parts: Vec<_> =
            (0..4).map(|quarter| scope.spawn(move || part(quarter * 250..(quarter + 1) * 250))).collect();
        parts.into_iter().map(|part| part.join().expect("no experiment panics")).sum()
    })
}

#[test]
fn of_a_thousand_things_compared_with_themselves_at_most_one_in_twenty_is_called_different() {
    let is_wrong = |found| !matches!(found, Finding::Same | Finding::Undecided);
    let wrong = in_synthetic_experiments([1.0; 2], is_wrong);
    assert!(wrong <= 50, "{wrong} of 1000");
}

#[test]
fn of_a_thousand_that_only_move_work_to_the_other_end_at_most_one_in_twenty_is_called_different() {
    let is_wrong = |found| !matches!(found, Finding::Same | Finding::Undecided);
    let wrong = in_synthetic_experiments([0.95, 1.0], is_wrong);
    assert!(wrong <= 50, "{wrong} of 1000");
}

#[test]
fn nine_in_ten_true_differences_of_five_per_cent_are_found() {
    let found = in_synthetic_experiments([1.05; 2], |found| found == Finding::More);
    assert!(found >= 900, "{found} of 1000");
}

#[test]
fn most_true_differences_of_five_per_cent_on_one_end_are_found_though_they_are_two_of_both() {
    let found = in_synthetic_experiments([1.05, 1.0225], |found| found == Finding::More);
    assert!(found >= 600, "{found} of 1000");
}
