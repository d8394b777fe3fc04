//! A result for people: the machine, a table for each cell, the verdicts, what they leave open, the command
//! that repeats it. Pure.

use super::disturbance;
use super::matrix::{self, WIDTH};
use super::words::{ONE_PROCESS, ceiling_in_words, interval, names};
use crate::result::bench::{BenchResult, Comparison, Curve, Judgement, Metric};
use crate::units::{approximate_bytes, print_cpus, whole, wrapped};
use comfy_table::presets::NOTHING;
use comfy_table::{CellAlignment, Table};
use std::fmt::Write as _;

/// The result.
#[must_use]
pub fn text(result: &BenchResult, directory: &str) -> String {
    let mut out = environment(result);
    let (left_out, run): (Vec<_>, Vec<_>) =
        result.comparisons.iter().partition(|one| one.verdict == Judgement::LeftOut);
    let many = run.len() > matrix::FULL_MAX;
    match many {
        true => lines(&mut out, &matrix::matrix(&run, result.plan.same_band)),
        false => run.iter().for_each(|comparison| out.push_str(&cell(comparison))),
    }
    if !left_out.is_empty() {
        out.push_str("\nleft out\n");
        lines(&mut out, &matrix::left_out(&left_out));
    }
    for gate in &result.gates {
        let measured = gate.measured.as_deref().unwrap_or("so that it guards nothing");
        let holds = match (gate.breached, gate.measured.is_some()) {
            (true, _) => "BREACHED",
            (false, true) => "kept",
            (false, false) => "NOT MEASURED",
        };
        let _ = writeln!(
            out,
            "\ngate {}: {holds}, {measured} in {}",
            gate.condition,
            gate.cell.as_deref().unwrap_or("-")
        );
    }
    out.push_str("\nverdict\n");
    let sentence = |sentence: &String| wrapped("  ", &format!("{sentence}."), WIDTH);
    lines(&mut out, &result.verdict.iter().flat_map(sentence).collect::<Vec<_>>());
    out.push('\n');
    // The others are no less true, and the same for every bench: they stand in the report.
    let told = result.caveats.iter().enumerate().filter(|(place, one)| *place == 0 || *one == ONE_PROCESS);
    for (place, caveat) in told {
        let name = if place == 0 { "not shown: " } else { "           " };
        lines(&mut out, &wrapped(name, caveat, WIDTH));
    }
    let _ = writeln!(out, "repeat:    {}", result.plan.command);
    let _ = writeln!(out, "kept in:   {directory}");
    if many {
        let _ = writeln!(out, "details:   c10k report {directory} --details");
    }
    out
}

fn lines(out: &mut String, lines: &[String]) {
    lines.iter().for_each(|line| {
        let _ = writeln!(out, "{line}");
    });
}

fn environment(result: &BenchResult) -> String {
    let (plan, place) = (&result.plan, &result.plan.environment);
    let known = |text: &Option<String>| text.clone().unwrap_or_else(|| "n/a".into());
    let memory = place.memory_bytes.map_or("n/a".into(), approximate_bytes);
    format!(
        "{}  {}  Linux {}, {}, {} CPUs, {memory}{}\nserver on CPU {}, client on CPU {}, pace {}, seed {}; {:.0} s{}\n",
        plan.program,
        plan.suite,
        known(&place.kernel),
        known(&place.cpu_model),
        place.cpus.len(),
        if place.virtual_machine == Some(true) { ", a virtual machine" } else { "" },
        print_cpus(&plan.server_cpus),
        print_cpus(&plan.client_cpus),
        plan.pace,
        plan.seed,
        result.took_us as f64 / 1e6,
        if result.interrupted { ", interrupted" } else { "" },
    )
}

fn cell(comparison: &Comparison) -> String {
    let cell = &comparison.cell;
    let (variant, reference) = names(cell);
    let mut out = format!("\n{}: {variant} against {reference}\n", cell.workload.words);
    let mut table = Table::new();
    table.load_style(NOTHING);
    // The names of features are longer than what stands below them.
    let header = if cell.question.is_some() { ["with", "without"] } else { [variant, reference] };
    table.set_header(["", header[0], header[1], "ratio (95 %)", "floor"]);
    for metric in &comparison.metrics {
        table.add_row(row(metric));
        if metric.variant_least.is_some() || metric.reference_least.is_some() {
            let side = |value: Option<f64>| value.map_or("-".into(), number);
            let sides = [side(metric.variant_least), side(metric.reference_least)];
            table.add_row([vec![LEAST.to_string()], sides.into(), vec![String::new(); 2]].concat());
        }
    }
    if let Some(latency) = &comparison.latency {
        for percentile in [50.0, 99.0, 99.9] {
            let at = |curve: &Curve| {
                let point = curve.points.iter().find(|point| point.percentile == percentile);
                point.map_or("-".into(), |point| number(point.us))
            };
            let words =
                format!("p{percentile} of all at {} a second, us", number(latency.offered_per_second));
            table.add_row([
                words,
                at(&latency.variant),
                at(&latency.reference),
                String::new(),
                String::new(),
            ]);
        }
    }
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table.lines().for_each(|line| {
        let _ = writeln!(out, "{}", line.trim_end());
    });
    let _ = writeln!(
        out,
        "  sound blocks of 4 slices: {}; {} slices repeated{}, {} counted nowhere; ended: {}; band {:.1} %",
        comparison.blocks,
        comparison.repeated,
        disturbed(comparison),
        comparison.invalid,
        comparison.ended.replace('_', " "),
        comparison.band * 100.0
    );
    if let Some(ceiling) = &comparison.client_ceiling {
        lines(&mut out, &wrapped("  ", &ceiling_in_words(ceiling), WIDTH));
    }
    let reasons = comparison.reasons.iter().flat_map(|reason| wrapped("  ", reason, WIDTH));
    lines(&mut out, &reasons.collect::<Vec<_>>());
    let health = |name: &str, counts: &std::collections::BTreeMap<String, u64>| {
        let told = counts.iter().filter(|(name, _)| HEALTH.contains(&name.as_str()));
        let told: Vec<String> = told.map(|(name, count)| format!("{name} {count}")).collect();
        if told.is_empty() { String::new() } else { format!("  {name}: {}\n", told.join(", ")) }
    };
    out.push_str(&health(variant, &comparison.variant_health));
    out.push_str(&health(reference, &comparison.reference_health));
    out
}

/// What disturbed slices, in brackets.
fn disturbed(comparison: &Comparison) -> String {
    match disturbance::in_words(&comparison.disturbances) {
        none if none.is_empty() => none,
        some => format!(" (disturbed: {some})"),
    }
}

/// The row below a cost.
const LEAST: &str = "  its least slice, by which nothing is judged";

/// What is worth a line where it happened at all.
const HEALTH: [&str; 9] = [
    "overflows",
    "empty_pool",
    "receives_rearmed_after_empty_pool",
    "short_sends",
    "stale_events",
    "bytes_spilled",
    "kernel_workers_cpu_us",
    "client_queue_overflows",
    "client_empty_pool",
];

fn row(metric: &Metric) -> [String; 5] {
    let side = |value: Option<f64>| value.map_or("-".into(), number);
    let ratio = |ratio: &Option<crate::result::bench::Ratio>| ratio.as_ref().map_or("-".into(), interval);
    let floor = metric.floor.as_ref().map_or("-".into(), |one| format!("{:.2}–{:.2}", one.low, one.high));
    [metric.words.clone(), side(metric.variant), side(metric.reference), ratio(&metric.ratio), floor]
}

/// Three digits that say something, thousands apart.
pub(super) fn number(value: f64) -> String {
    match value {
        value if value.abs() < 10.0 => format!("{value:.3}"),
        value if value.abs() < 100.0 => format!("{value:.1}"),
        value => {
            let digits = whole(value.abs().round_ties_even() as u64);
            format!("{}{}", if value < 0.0 { "-" } else { "" }, digits)
        }
    }
}

/// What somebody should do: a sentence for each of a few comparisons, and on many what they say together.
#[must_use]
pub fn verdicts(comparisons: &[Comparison], kernel: Option<&str>) -> Vec<String> {
    let asked = || comparisons.iter().filter(|one| one.verdict != Judgement::LeftOut);
    match asked().count() {
        0 => comparisons.iter().map(|one| one.sentence.clone()).collect(),
        1..=matrix::FULL_MAX => asked().map(verdict).collect(),
        _ => matrix::summary(comparisons, kernel),
    }
}

fn verdict(one: &Comparison) -> String {
    let reason = one.reasons.first().filter(|_| one.verdict == Judgement::Undecided);
    reason.map_or_else(|| one.sentence.clone(), |reason| format!("{}; {reason}", one.sentence))
}
