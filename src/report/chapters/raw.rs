//! Every block and every slice, also those that do not count, for who wants to reckon himself.

use super::Matter;
use crate::report::compare::{self, SERVER, TOTAL};
use crate::report::document::{Part, Table};
use crate::report::numbers;
use crate::result::bench::{Comparison, Purpose, Side, Slice};

pub(super) fn parts(matter: &Matter<'_>) -> Vec<Part> {
    let mut parts = Vec::new();
    for group in &matter.groups {
        for &(source, comparison) in &group.members {
            let tables: Vec<Table> = [pairs(comparison), slices(comparison)].into_iter().flatten().collect();
            if tables.is_empty() {
                continue;
            }
            let what = format!("{}: {} slices", group.title(), comparison.slices.len());
            parts.push(Part::Details { summary: matter.of(&what, source), tables });
        }
    }
    parts
}

fn pairs(comparison: &Comparison) -> Option<Table> {
    let ratio = |name| compare::ratio(comparison, name).map_or(&[][..], |ratio| &ratio.pairs);
    let (server, total) = (ratio(SERVER), ratio(TOTAL));
    let mut table = Table::new("Ratios block by block", &["#block", "#server CPU", "#server + client CPU"]);
    for index in 0..server.len().max(total.len()) {
        let at = |pairs: &[f64]| pairs.get(index).map_or("–".into(), |pair| format!("{pair:.4}"));
        table.row(vec![index.to_string(), at(server), at(total)]);
    }
    (!table.rows.is_empty()).then_some(table)
}

fn slices(comparison: &Comparison) -> Option<Table> {
    let columns = [
        "#block",
        "#place",
        "side",
        "for",
        "#try",
        "#server CPU, ns",
        "#server + client CPU, ns",
        "#units/s",
        "#client busy",
        "#second half",
        "#steal",
        "#slowest canary, us",
        "#padding, bytes",
        "counts",
    ];
    let mut table = Table::new("Slices, in the order they were measured", &columns);
    for slice in &comparison.slices {
        let numbers = slice.numbers.as_ref();
        let share =
            |share: Option<f64>| share.map_or("–".into(), |share| format!("{:.1} %", share * 100.0));
        table.row(vec![
            slice.block.to_string(),
            slice.position.to_string(),
            if slice.side == Side::A { "variant" } else { "reference" }.into(),
            super::purpose(slice.purpose).into(),
            (slice.attempt + 1).to_string(),
            numbers::plain(numbers.map(|numbers| numbers.server_cpu_ns)),
            numbers::plain(numbers.map(|numbers| numbers.total_cpu_ns)),
            numbers::plain(numbers.map(|numbers| numbers.units_per_second)),
            share(numbers.map(|numbers| numbers.client_busy)),
            numbers::plain(numbers.and_then(|numbers| numbers.second_half)),
            share(numbers.and_then(|numbers| numbers.steal)),
            numbers::plain(slowest_canary(slice)),
            slice.server_padding_bytes.map_or("–".into(), |bytes| bytes.to_string()),
            counts(slice) + &near(comparison, slice),
        ]);
    }
    (!table.rows.is_empty()).then_some(table)
}

/// Of the CPUs the one that took longest for the same work.
fn slowest_canary(slice: &Slice) -> Option<f64> {
    let canaries = slice.before.iter().flat_map(|before| &before.canaries);
    canaries.map(|canary| canary.cpu_us).max_by(f64::total_cmp)
}

/// The mark of a slice whose client was nearer to its ceiling than 1.5 times.
fn near(comparison: &Comparison, slice: &Slice) -> String {
    const TIMES: f64 = 1.5;
    let rate = slice.numbers.as_ref().map(|numbers| numbers.units_per_second).filter(|rate| *rate > 0.0);
    let ceiling = comparison.client_ceiling.as_ref().filter(|_| slice.purpose == Purpose::Cost);
    let times = ceiling.zip(rate).map(|(ceiling, rate)| ceiling.units_per_second / rate);
    times
        .filter(|times| *times < TIMES)
        .map_or(String::new(), |times| format!("; the client's ceiling is {times:.2} times its rate"))
}

/// Whether a slice counts, and why not.
fn counts(slice: &Slice) -> String {
    let why: Vec<&str> = slice.invalid.iter().chain(&slice.disturbed).map(String::as_str).collect();
    match (slice.invalid.is_empty(), slice.disturbed.is_empty(), slice.numbers.is_some()) {
        (false, _, _) => format!("no, invalid: {}", why.join("; ")),
        (true, false, _) => format!("disturbed: {}", why.join("; ")),
        (true, true, false) => "no: nothing was measured".into(),
        (true, true, true) => "yes".into(),
    }
}
