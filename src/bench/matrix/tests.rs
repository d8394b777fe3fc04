//! The page of many comparisons, from comparisons that are made here.

use super::*;
use crate::bench::compare::tests::{block, cell};
use crate::bench::compare::{Material, compare};
use crate::bench::text;
use crate::result::bench::{Purpose, Slice};
use crate::statistics::paired::Resamples;

fn compared(cell: &Cell, slices: &[Slice]) -> Comparison {
    let material = Material { cell, slices, histograms: &[], ended: "budget_spent", kernel: Some("6.18") };
    compare(&material, Rule::default(), &mut Resamples::new(7))
}

/// A question whose variant costs so much of its reference, in so many blocks that differ a little.
fn asked(question: &str, cost: f64, blocks: u32) -> Comparison {
    let cell = Cell { question: Some(question.into()), ..cell() };
    let at = |number: u32| block(Purpose::Cost, number, cost + f64::from(number) * 1e-3, 1.0);
    compared(&cell, &(0..blocks).flat_map(at).collect::<Vec<Slice>>())
}

/// One of each kind.
fn several() -> Vec<Comparison> {
    let mut noisy: Vec<Slice> = (0..8).flat_map(|number| block(Purpose::Cost, number, 0.9, 1.0)).collect();
    for slice in noisy.iter_mut().filter(|slice| slice.position == (slice.block % 2) as u8) {
        let numbers = slice.numbers.as_mut().unwrap();
        numbers.server_cpu_ns *= 1.15;
        numbers.total_cpu_ns *= 1.15;
    }
    noisy[0].disturbed.push("tasks waited".into());
    let question = Cell { question: Some("baseline + files=direct".into()), ..cell() };
    let left_out = |what: &str| {
        let question = Some(format!("baseline + {what}"));
        compared(&Cell { left_out: Some("not built".into()), question, ..cell() }, &[])
    };
    vec![
        asked("baseline + recv=multishot (buffers=ring on both sides)", 0.9, 8),
        asked("baseline + recv-cap=16Ki (recv=multishot, buffers=ring on both sides)", 1.0, 8),
        compared(&question, &noisy),
        asked("baseline + taskrun=coop", 0.95, 3),
        asked("recommended with taskrun=sqpoll", 2.0, 8),
        left_out("bundle=send"),
        left_out("bundle=both"),
    ]
}

fn page() -> String {
    let all = several();
    let (out, run): (Vec<&Comparison>, Vec<&Comparison>) =
        all.iter().partition(|one| one.verdict == Judgement::LeftOut);
    [matrix(&run, 0.02), left_out(&out), summary(&all, Some("6.18"))].concat().join("\n")
}

#[test]
fn each_comparison_has_a_line_with_both_ratios_its_verdict_and_what_weakens_it() {
    let page = page();
    let line = |name: &str| page.lines().find(|line| line.trim_start().starts_with(name)).unwrap_or("");
    for (name, rest) in [
        ("recv=multishot [buffers=ring] ", "0.90 (0.90–0.91)  0.90 (0.90–0.91)  better"),
        ("recv-cap=16Ki [recv=multishot, buffers=ring] ", "1.00 (1.00–1.01)  1.00 (1.00–1.01)  same"),
        ("taskrun=coop ", "0.95 (0.95–0.95)  0.95 (0.95–0.95)  undecided  s"),
        ("taskrun=sqpoll ", "2.00 (2.00–2.01)  2.00 (2.00–2.01)  worse"),
    ] {
        assert!(line(name).ends_with(rest), "{name}: {page}");
    }
    assert!(line("files=direct").ends_with("undecided  nd"), "{page}");
    assert_eq!(page.lines().filter(|line| line.ends_with(": baseline +")).count(), 1, "{page}");
}

#[test]
fn the_legend_tells_the_band_once_and_only_the_marks_that_are_used() {
    let page = page();
    assert_eq!(page.matches("band: differences below 2.0 % are none").count(), 1);
    for (mark, used) in [("s: ", true), ("n: ", true), ("d: ", true), ("D: ", false), ("x: ", false)] {
        assert_eq!(page.lines().any(|line| line.trim_start().starts_with(mark)), used, "{mark}{page}");
    }
    assert!(page.contains("  bundle=send, bundle=both: not built"), "{page}");
}

#[test]
fn what_many_say_together_is_a_few_sentences() {
    let said = summary(&several(), Some("6.18"));
    assert_eq!(
        said,
        [
            "on Linux 6.18, for 64-byte ping-pong on 100 connections, of 5 comparisons 1 cost less, 1 more, 1 the \
             same, and 2 are undecided; 2 were left out",
            "cost less: baseline + recv=multishot [buffers=ring] 0.90 (0.90–0.91)",
            "cost more: recommended with taskrun=sqpoll 2.00 (2.00–2.01)",
            "the same within the band: baseline + recv-cap=16Ki [recv=multishot, buffers=ring] 1.00 (1.00–1.01)",
            "undecided: 1 clear of 1, and by no more than the band (baseline + \
             files=direct), 1 with fewer than 6 sound blocks; a longer --budget, or a quiet machine, would do",
            "of 10 intervals of 95 % about 1 miss the truth by chance: what is to be acted on is worth asking \
             again alone, with --variant and a longer --budget",
        ]
    );
}

#[test]
fn no_line_of_the_page_is_wider_than_a_hundred_columns() {
    let page = page();
    assert!(page.lines().take_while(|line| !line.starts_with("on Linux")).all(|line| length(line) <= WIDTH));
}

#[test]
fn few_comparisons_have_a_sentence_each_and_many_have_not() {
    let all = several();
    assert_eq!(text::verdicts(&all[..2], None).len(), 2);
    assert!(text::verdicts(&all[..2], None)[0].contains("is the cheaper one"));
    assert!(text::verdicts(&all, None)[0].contains("of 5 comparisons"));
}

#[test]
fn workloads_of_one_pair_stand_under_its_name_and_several_pairs_under_their_workload() {
    use crate::bench::{suite, variant, workload};
    let cell = |workload: &str, other: &str| {
        let side = |text| variant::parse(text, &[0]).unwrap();
        let cell = suite::cell(&workload::parse(workload).unwrap(), &side(other), &side("epoll"));
        compared(&cell, &[])
    };
    let lines = |all: &[Comparison]| matrix(&all.iter().collect::<Vec<_>>(), 0.02);
    let one = lines(&[cell("pingpong:64:1", "uring"), cell("churn", "uring")]);
    assert_eq!(one[2], "uring / epoll");
    assert!(one[3].starts_with("  pingpong:64:1 ") && one[4].starts_with("  churn:1Ki:17 "), "{one:?}");
    let two = lines(&[cell("churn", "uring"), cell("churn", "uring:recv=single")]);
    assert_eq!(two[2], "1-KiB connect-echo-close, 17 at once");
    assert!(two[4].starts_with("  uring:recv=single / epoll "), "{two:?}");
}

#[test]
fn a_client_near_its_ceiling_has_a_mark_and_one_at_its_limit_another() {
    let mut one = asked("baseline + recv=multishot", 0.9, 8);
    let marks = |one: &Comparison| Row::of(one, false).marks;
    assert_eq!(marks(&one), "");
    for slice in &mut one.slices {
        slice.numbers.as_mut().unwrap().client_busy = 0.8;
    }
    one.client_ceiling = crate::bench::ceiling::ceiling(&one.cell, &one.slices);
    assert_eq!(marks(&one), "h");
    one.slices[0].numbers.as_mut().unwrap().client_busy = 0.99;
    assert_eq!(marks(&one), "c");
}
