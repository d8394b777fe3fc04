//! Blocks, floors and verdicts from slices that are made here.

use super::*;
use crate::bench::{suite, variant, workload};

/// uring against epoll.
pub(in crate::bench) fn cell() -> Cell {
    let variant = |text| variant::parse(text, &[0]).unwrap();
    suite::cell(&workload::parse("pingpong").unwrap(), &variant("uring"), &variant("epoll"))
}

/// A sound slice whose unit costs so many microseconds.
pub(in crate::bench) fn slice(purpose: Purpose, block: u32, position: u8, side: Side, cost: f64) -> Slice {
    let numbers = Numbers {
        units: 1_000.0,
        units_per_second: 100_000.0,
        server_cpu_ns: cost * 1e3,
        total_cpu_ns: cost * 2e3,
        ..Numbers::default()
    };
    Slice {
        cell: cell().id,
        block,
        position,
        side,
        purpose,
        attempt: 0,
        began_us: 0,
        measured_us: 400_000,
        before: None,
        server_padding_bytes: None,
        invalid: Vec::new(),
        disturbed: Vec::new(),
        numbers: Some(numbers),
    }
}

/// A B B A, each at its cost.
pub(in crate::bench) fn block(purpose: Purpose, block: u32, variant: f64, reference: f64) -> [Slice; 4] {
    let at = |position, side, cost| slice(purpose, block, position, side, cost);
    [at(0, Side::A, variant), at(1, Side::B, reference), at(2, Side::B, reference), at(3, Side::A, variant)]
}

fn compared(slices: &[Slice]) -> Comparison {
    let cell = cell();
    let material =
        Material { cell: &cell, slices, histograms: &[], ended: "narrow_enough", kernel: Some("6.18") };
    compare(&material, Rule::default(), &mut Resamples::new(7))
}

#[test]
fn a_cheaper_variant_is_better_with_the_ratio_it_has() {
    let slices: Vec<Slice> = (0..8)
        .flat_map(|number| block(Purpose::Cost, number, 0.87 + f64::from(number) * 1e-3, 1.0))
        .collect();
    let compared = compared(&slices);
    assert_eq!((compared.verdict, compared.blocks), (Judgement::Better, 8));
    let ratio = compared.metrics[0].ratio.as_ref().unwrap();
    assert!((ratio.median - 0.8735).abs() < 1e-4 && ratio.pairs.len() == 8, "{ratio:?}");
    assert_eq!(compared.metrics[0].floor.as_ref().unwrap().median, 1.0);
    assert_eq!(
        compared.sentence,
        "on Linux 6.18, for 64-byte ping-pong on 100 connections, uring costs 0.87 (0.87–0.88) of epoll's CPU per \
         message, and 0.87 (0.87–0.88) with the client's counted: uring is the cheaper one"
    );
    assert!(compared.reasons.is_empty(), "{:?}", compared.reasons);
}

#[test]
fn a_drift_of_the_machine_falls_on_both_sides() {
    let mut slices: Vec<Slice> = (0..8).flat_map(|number| block(Purpose::Cost, number, 1.0, 1.0)).collect();
    for (index, slice) in slices.iter_mut().enumerate() {
        let numbers = slice.numbers.as_mut().unwrap();
        numbers.server_cpu_ns *= 1.0 + index as f64 * 0.02;
        numbers.total_cpu_ns *= 1.0 + index as f64 * 0.02;
    }
    assert_eq!(compared(&slices).verdict, Judgement::Same);
}

#[test]
fn an_invalid_slice_is_averaged_nowhere_and_takes_its_block_along() {
    let mut slices: Vec<Slice> = (0..7).flat_map(|number| block(Purpose::Cost, number, 1.0, 1.0)).collect();
    slices[5].invalid.push("the client failed".into());
    slices[5].numbers.as_mut().unwrap().server_cpu_ns = 1e9;
    let compared = compared(&slices);
    assert_eq!((compared.blocks, compared.invalid), (6, 1));
    assert_eq!(compared.metrics[0].ratio.as_ref().unwrap().high, 1.0);
    assert!(compared.reasons[0].starts_with("1 of 28 slices counted nowhere"), "{:?}", compared.reasons);
}

#[test]
fn of_a_position_that_was_measured_again_the_last_attempt_counts() {
    let mut slices: Vec<Slice> = block(Purpose::Cost, 0, 1.0, 1.0).into();
    slices[1].disturbed.push("tasks waited".into());
    slices[1].numbers.as_mut().unwrap().server_cpu_ns = 9e9;
    slices.insert(2, Slice { attempt: 1, ..slice(Purpose::Cost, 0, 1, Side::B, 1.0) });
    let compared = compared(&slices);
    assert_eq!((compared.blocks, compared.repeated), (1, 1));
    assert_eq!(compared.metrics[0].ratio.as_ref().unwrap().median, 1.0);
    assert!(!compared.reasons.iter().any(|reason| reason.contains("disturbed")), "{:?}", compared.reasons);
}

#[test]
fn fewer_than_six_blocks_decide_nothing_however_far_apart() {
    let slices: Vec<Slice> = (0..5).flat_map(|number| block(Purpose::Cost, number, 0.5, 1.0)).collect();
    let compared = compared(&slices);
    assert_eq!(compared.verdict, Judgement::Undecided);
    assert!(compared.reasons[0].starts_with("sound blocks: 5, "), "{:?}", compared.reasons);
    assert!(compared.sentence.contains("94 % sure"), "{}", compared.sentence);
}

#[test]
fn headlines_that_contradict_each_other_decide_nothing_and_that_is_said() {
    let mut slices: Vec<Slice> = (0..8).flat_map(|number| block(Purpose::Cost, number, 0.8, 1.0)).collect();
    for slice in slices.iter_mut().filter(|slice| slice.side == Side::A) {
        slice.numbers.as_mut().unwrap().total_cpu_ns = 3e3;
    }
    let compared = compared(&slices);
    assert_eq!(compared.verdict, Judgement::Undecided);
    assert!(compared.reasons[0].contains("different sides"), "{:?}", compared.reasons);
}

#[test]
fn health_is_summed_by_side_over_what_counts() {
    let mut slices: Vec<Slice> = block(Purpose::Cost, 0, 1.0, 1.0).into();
    for slice in &mut slices {
        slice.numbers.as_mut().unwrap().health.insert("empty_pool".into(), 2);
    }
    slices[3].invalid.push("the client failed".into());
    let compared = compared(&slices);
    assert_eq!((compared.variant_health["empty_pool"], compared.reference_health["empty_pool"]), (2, 4));
}

#[test]
fn a_question_is_answered_in_its_own_words() {
    let slices: Vec<Slice> = (0..8).flat_map(|number| block(Purpose::Cost, number, 1.2, 1.0)).collect();
    let cell = Cell { question: Some("baseline + recv=multishot".into()), ..cell() };
    let material = Material { cell: &cell, slices: &slices, histograms: &[], ended: "plain", kernel: None };
    let compared = compare(&material, Rule::default(), &mut Resamples::new(7));
    assert_eq!(compared.verdict, Judgement::Worse);
    assert!(
        compared.sentence.contains("baseline + recv=multishot costs 1.20 (1.20–1.20) of baseline's CPU")
            && compared.sentence.ends_with("baseline is the cheaper one"),
        "{}",
        compared.sentence
    );
}

#[test]
fn a_machine_that_was_busy_most_of_the_time_makes_it_suspect() {
    let mut slices: Vec<Slice> = (0..8).flat_map(|number| block(Purpose::Cost, number, 1.0, 1.0)).collect();
    slices.iter_mut().take(8).for_each(|slice| slice.disturbed.push("tasks waited".into()));
    assert!(!words::is_suspect(&compared(&slices)));
    slices[8].disturbed.push("tasks waited".into());
    let compared = compared(&slices);
    assert!(words::is_suspect(&compared));
    assert!(
        compared.reasons.iter().any(|reason| reason.starts_with("suspect: 9 slices")),
        "{:?}",
        compared.reasons
    );
}

#[test]
fn the_headline_is_the_median_of_blocks_and_no_mean() {
    let slices: Vec<Slice> = [0.9, 0.9, 0.9, 0.9, 0.9, 0.9, 3.0]
        .into_iter()
        .enumerate()
        .flat_map(|(number, cost)| block(Purpose::Cost, number as u32, cost, 1.0))
        .collect();
    let compared = compared(&slices);
    let metric = &compared.metrics[0];
    assert!((metric.ratio.as_ref().unwrap().median - 0.9).abs() < 1e-9, "{metric:?}");
    assert_eq!((metric.variant, metric.reference), (Some(900.0), Some(1_000.0)));
}

#[test]
fn the_least_slice_of_a_cost_stands_beside_its_median_and_decides_nothing() {
    let mut slices: Vec<Slice> = (0..8).flat_map(|number| block(Purpose::Cost, number, 1.0, 1.0)).collect();
    // One lucky slice of the variant, and one that does not count.
    slices[4].numbers.as_mut().unwrap().server_cpu_ns = 400.0;
    slices[8].numbers.as_mut().unwrap().server_cpu_ns = 1.0;
    slices[8].invalid.push("the client failed".into());
    let lucky = compared(&slices);
    let server = &lucky.metrics[0];
    assert_eq!((server.variant, server.reference), (Some(1_000.0), Some(1_000.0)));
    assert_eq!((server.variant_least, server.reference_least), (Some(400.0), Some(1_000.0)));
    assert_eq!(server.ratio.as_ref().unwrap().median, 1.0);
    assert!(!matches!(lucky.verdict, Judgement::Better | Judgement::Worse), "{:?}", lucky.verdict);
    let rate = words::metric(&lucky, "units_per_second").unwrap();
    assert_eq!((rate.variant_least, rate.reference_least), (None, None), "a rate has no such side");
}

#[test]
fn slices_that_had_not_settled_are_counted_and_told_where_they_are_many() {
    let mut slices: Vec<Slice> = (0..8).flat_map(|number| block(Purpose::Cost, number, 1.0, 1.0)).collect();
    let drift = |slice: &mut Slice, ratio| slice.numbers.as_mut().unwrap().second_half = Some(ratio);
    slices.iter_mut().for_each(|slice| drift(slice, 1.05));
    slices.iter_mut().take(8).for_each(|slice| drift(slice, 0.85));
    let few = compared(&slices);
    assert_eq!((few.drifted, few.reasons.len()), (8, 0));
    drift(&mut slices[8], 1.2);
    let many = compared(&slices);
    assert_eq!(many.drifted, 9);
    assert!(many.reasons[0].starts_with("it had not settled: in 9 slices"), "{:?}", many.reasons);
    // A thousand messages by chance: 500 and 500 and some 130 more or fewer.
    slices.iter_mut().for_each(|slice| slice.numbers.as_mut().unwrap().offered_per_second = Some(1e4));
    assert_eq!(compared(&slices).drifted, 0);
    slices.iter_mut().for_each(|slice| slice.numbers.as_mut().unwrap().units = 1e6);
    assert_eq!(compared(&slices).drifted, 9);
}

#[test]
fn percentiles_of_neighbours_are_divided_and_never_averaged() {
    let mut slices: Vec<Slice> = block(Purpose::Cost, 0, 1.0, 1.0).into();
    for (slice, p99) in slices.iter_mut().zip([1.0, 1.0, 1.0, 100.0]) {
        slice.numbers.as_mut().unwrap().p99_us = Some(p99);
    }
    let compared = compared(&slices);
    let p99 = words::metric(&compared, "p99_us").unwrap();
    // The mean of 1 and 100 would be 50.5 times that of the others.
    assert!((p99.ratio.as_ref().unwrap().median - 10.0).abs() < 1e-9, "{p99:?}");
    assert_eq!(p99.words, "p99 of a slice, us, closed loop");
}

/// Eight blocks of equal cost, in which every second slice of a side has its number changed.
fn noisy(change: impl Fn(&mut Numbers)) -> Comparison {
    let mut slices: Vec<Slice> = (0..8).flat_map(|number| block(Purpose::Cost, number, 0.95, 1.0)).collect();
    // Of equal slices always the one that is put on top.
    for slice in slices.iter_mut().filter(|slice| slice.position == if slice.block % 2 == 0 { 0 } else { 3 })
    {
        change(slice.numbers.as_mut().unwrap());
    }
    compared(&slices)
}

#[test]
fn the_last_sound_attempt_counts_and_where_none_is_the_last() {
    let attempts = |sound: [bool; 3]| {
        let mut slices: Vec<Slice> = block(Purpose::Cost, 0, 1.0, 1.0).into();
        let first = slices.remove(0);
        slices.extend((0..3).map(|attempt| {
            let invalid = if sound[attempt as usize] { Vec::new() } else { vec!["it failed".into()] };
            Slice { attempt, invalid, ..first.clone() }
        }));
        settled(&slices).find(|one| one.position == 0).unwrap().attempt
    };
    assert_eq!(attempts([true, true, true]), 2);
    assert_eq!(attempts([true, true, false]), 1);
    assert_eq!(attempts([true, false, false]), 0);
    assert_eq!(attempts([false, false, false]), 2);
}

#[test]
fn the_wider_floor_of_the_two_is_the_band() {
    let quiet = noisy(|_| {});
    assert_eq!((quiet.verdict, quiet.band), (Judgement::Better, 0.02));
    let server = noisy(|numbers| numbers.server_cpu_ns *= 1.12);
    let total = noisy(|numbers| numbers.total_cpu_ns *= 1.12);
    for compared in [server, total] {
        assert_eq!(compared.verdict, Judgement::Undecided);
        assert!((compared.band - 1.12f64.ln()).abs() < 1e-9, "{}", compared.band);
    }
}

#[test]
fn a_headline_that_was_nought_decides_nothing() {
    let mut slices: Vec<Slice> = (0..8).flat_map(|number| block(Purpose::Cost, number, 0.5, 1.0)).collect();
    for slice in slices.iter_mut().filter(|slice| slice.block > 1) {
        slice.numbers.as_mut().unwrap().server_cpu_ns = 0.0;
    }
    let few = compared(&slices);
    assert_eq!((few.verdict, few.blocks), (Judgement::Undecided, 8));
    assert!(few.reasons[0].ends_with("took no CPU that could be measured: 6"), "{:?}", few.reasons);
    assert!(few.reasons[1].starts_with("sound blocks: 2, and fewer than 6"), "{:?}", few.reasons);
    slices.iter_mut().for_each(|slice| slice.numbers.as_mut().unwrap().server_cpu_ns = 0.0);
    let none = compared(&slices);
    assert_eq!(none.verdict, Judgement::Undecided, "the client's CPU alone is no verdict");
    assert!(none.sentence.contains("neither uring nor epoll took CPU"), "{}", none.sentence);
}

#[test]
fn a_rate_that_was_the_clients_is_called_so() {
    let mut slices: Vec<Slice> = block(Purpose::Capacity, 0, 1.0, 1.0).into();
    slices.extend(block(Purpose::Cost, 0, 1.0, 1.0));
    let words =
        |slices: &[Slice]| words::metric(&compared(slices), "units_per_second").unwrap().words.clone();
    assert_eq!(words(&slices), "messages per second, closed loop");
    slices[2].numbers.as_mut().unwrap().client_busy = 0.97;
    assert_eq!(words(&slices), "messages per second, closed loop, the client's limit");
}

#[test]
fn a_latency_curve_has_the_slices_that_count_and_no_others() {
    let histogram = |us: u64| {
        use base64::Engine as _;
        use hdrhistogram::serialization::{Serializer as _, V2DeflateSerializer};
        let mut latencies = hdrhistogram::Histogram::<u64>::new(3).unwrap();
        latencies.record_n(us * 1_000, 100).unwrap();
        let mut bytes = Vec::new();
        V2DeflateSerializer::new().serialize(&latencies, &mut bytes).unwrap();
        Some(base64::engine::general_purpose::STANDARD.encode(bytes))
    };
    let mut slices: Vec<Slice> = (0..2).flat_map(|number| block(Purpose::Cost, number, 1.0, 1.0)).collect();
    slices.iter_mut().for_each(|one| one.numbers.as_mut().unwrap().offered_per_second = Some(1e4));
    slices[0].invalid.push("the client failed".into());
    slices[1].numbers.as_mut().unwrap().offered_per_second = Some(2e4);
    let histograms: Vec<Option<String>> =
        (0..8).map(|index| histogram(if index < 2 { 900 } else { 50 })).collect();
    let cell = cell();
    let material =
        Material { cell: &cell, slices: &slices, histograms: &histograms, ended: "plain", kernel: None };
    let latency = compare(&material, Rule::default(), &mut Resamples::new(7)).latency.unwrap();
    assert_eq!((latency.variant.samples, latency.reference.samples), (300, 300));
    for curve in [&latency.variant, &latency.reference] {
        assert!(curve.points.iter().all(|point| (point.us - 50.0).abs() < 1.0), "{curve:?}");
    }
}

#[test]
fn a_client_that_was_near_its_ceiling_is_told_and_changes_no_verdict() {
    let mut slices: Vec<Slice> = (0..8).flat_map(|number| block(Purpose::Cost, number, 0.8, 1.0)).collect();
    slices.iter_mut().for_each(|one| one.numbers.as_mut().unwrap().client_busy = 0.8);
    let near = compared(&slices);
    assert_eq!((near.verdict, near.client_ceiling.as_ref().unwrap().times), (Judgement::Better, 1.25));
    let told =
        |one: &Comparison| one.reasons.iter().filter(|reason| reason.contains("1.25 times the")).count();
    assert_eq!(told(&near), 1, "{:?}", near.reasons);
    // One that was the limit has a sentence of its own, and no second one.
    slices.iter_mut().for_each(|one| one.numbers.as_mut().unwrap().client_busy = 0.97);
    let limited = compared(&slices);
    assert!(
        limited.reasons.iter().filter(|reason| reason.contains("client")).count() == 1,
        "{:?}",
        limited.reasons
    );
    slices.iter_mut().for_each(|one| one.numbers.as_mut().unwrap().client_busy = 0.5);
    assert_eq!(compared(&slices).reasons, Vec::<String>::new());
}
