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
    assert!(compared.reasons[0].contains("5 sound blocks"), "{:?}", compared.reasons);
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
