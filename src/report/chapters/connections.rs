//! Cost against the number of connections, where the same workload ran with three numbers of them or more.

use super::Matter;
use crate::report::compare::{self, SERVER, TOTAL};
use crate::report::document::{Figure, Part, Table};
use crate::report::numbers;
use crate::report::pictures::connections::{self, Count, Frame};
use crate::result::bench::{Comparison, Judgement};

/// From here on a curve says more than its numbers.
const COUNTS_MIN: usize = 3;

pub(super) fn parts(matter: &Matter<'_>) -> Vec<Part> {
    let mut figures = Vec::new();
    for (source, result) in matter.sources.iter().enumerate() {
        for series in series(&result.result.comparisons) {
            figures.push(Part::Figure(figure(matter, source, figures.len(), &series)));
        }
    }
    figures
}

/// Comparisons that differ in nothing but the number of connections, that number rising.
fn series(comparisons: &[Comparison]) -> Vec<Vec<&Comparison>> {
    let key = |comparison: &Comparison| {
        let (cell, workload) = (&comparison.cell, &comparison.cell.workload);
        let what = (workload.kind.clone(), workload.size_bytes, workload.depth);
        (what, cell.variant.name.clone(), cell.reference.name.clone(), cell.question.clone())
    };
    let mut all: Vec<Vec<&Comparison>> = Vec::new();
    for comparison in comparisons.iter().filter(|one| one.verdict != Judgement::LeftOut) {
        match all.iter_mut().find(|series| key(series[0]) == key(comparison)) {
            Some(series) => series.push(comparison),
            None => all.push(vec![comparison]),
        }
    }
    for series in &mut all {
        series.sort_by_key(|comparison| connections_of(comparison));
        series.dedup_by_key(|comparison| connections_of(comparison));
    }
    all.retain(|series| series.len() >= COUNTS_MIN);
    all
}

fn connections_of(comparison: &Comparison) -> u32 {
    let workload = &comparison.cell.workload;
    workload.connections.saturating_add(workload.idle_connections)
}

fn figure(matter: &Matter<'_>, source: usize, index: usize, series: &[&Comparison]) -> Figure {
    let cell = &series[0].cell;
    let workload = &cell.workload;
    let depth = if workload.depth > 1 { format!(", depth {}", workload.depth) } else { String::new() };
    let what = format!(
        "{} of {} bytes{depth}: {} against {}",
        workload.kind,
        numbers::whole(workload.size_bytes.into()),
        cell.variant.name,
        cell.reference.name
    );
    let title = matter.of(&what, source);
    let id = format!("connections-{}", index + 1);
    let description = "Above, server CPU for a unit of work, both servers; below, the ratio of the two with \
         its interval.";
    let names = (cell.variant.name.as_str(), cell.reference.name.as_str());
    let band = matter.sources[source].result.plan.same_band;
    let frame = Frame { id: &id, title: &title, description, names, band };
    let svg = connections::svg(&frame, &counts(series));
    let table = table(series);
    Figure {
        svg,
        id: id.clone(),
        title: title.clone(),
        description: description.into(),
        drawing: Vec::new(),
        table,
    }
}

fn counts(series: &[&Comparison]) -> Vec<Count> {
    let count = |comparison: &&Comparison| {
        let server = compare::metric(comparison, SERVER);
        Count {
            connections: connections_of(comparison),
            variant: server.and_then(|metric| metric.variant),
            reference: server.and_then(|metric| metric.reference),
            ratio: server.and_then(|metric| metric.ratio.clone()),
        }
    };
    series.iter().map(count).collect()
}

fn table(series: &[&Comparison]) -> Table {
    let cell = &series[0].cell;
    let (variant, reference) = (&cell.variant.name, &cell.reference.name);
    let mut table = Table::new("Server CPU for a unit, ns, and memory, bytes", &["#connections"]);
    for name in [variant, reference] {
        table.column(&format!("#{name}"));
    }
    for name in ["server CPU", "server + client CPU"] {
        table.column(&format!("#{name}"));
    }
    for name in [variant, reference] {
        table.column(&format!("#{name}, resident"));
    }
    table.column("#kernel, for a connection");
    for comparison in series {
        let metric = |name| compare::metric(comparison, name);
        let (server, resident) = (metric(SERVER), metric("server_resident_bytes"));
        let kernel = metric("kernel_bytes_per_connection").and_then(|metric| metric.variant);
        table.row(vec![
            numbers::whole(connections_of(comparison).into()),
            numbers::plain(server.and_then(|metric| metric.variant)),
            numbers::plain(server.and_then(|metric| metric.reference)),
            numbers::ratio(compare::ratio(comparison, SERVER)),
            numbers::ratio(compare::ratio(comparison, TOTAL)),
            numbers::plain(resident.and_then(|metric| metric.variant)),
            numbers::plain(resident.and_then(|metric| metric.reference)),
            numbers::plain(kernel),
        ]);
    }
    table
}
