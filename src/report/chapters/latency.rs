//! Latency by percentile at the same offered rate, both sides.

use super::Matter;
use crate::report::compare::Group;
use crate::report::document::{Figure, Part, Table};
use crate::report::numbers;
use crate::report::pictures::curves::{self, Series};
use crate::result::bench::{Curve, LatencyComparison};

pub(super) fn parts(matter: &Matter<'_>) -> Vec<Part> {
    let figures: Vec<Part> = matter
        .groups
        .iter()
        .enumerate()
        .filter_map(|(index, group)| figure(matter, index, group))
        .map(Part::Figure)
        .collect();
    if figures.is_empty() {
        return figures;
    }
    let text = "Counted from the time a message should have been sent, at the same offered rate for both sides; \
         the samples of all slices together, never an average of percentiles. A percentile with fewer \
         than ten samples beyond it is not there.";
    std::iter::once(Part::paragraph(text)).chain(figures).collect()
}

fn figure(matter: &Matter<'_>, index: usize, group: &Group<'_>) -> Option<Figure> {
    let measured: Vec<(usize, &LatencyComparison)> = group
        .members
        .iter()
        .filter_map(|&(source, comparison)| Some((source, comparison.latency.as_ref()?)))
        .collect();
    let mut rates = Vec::new();
    let mut curves: Vec<(String, &Curve)> = Vec::new();
    for &(source, latency) in &measured {
        let rate = numbers::plain(Some(latency.offered_per_second));
        rates.push(matter.of(&format!("{rate} messages a second offered"), source));
        let [variant, reference] = group.sides();
        curves.push((matter.of(variant, source), &latency.variant));
        curves.push((matter.of(reference, source), &latency.reference));
    }
    if curves.is_empty() {
        return None;
    }
    let id = format!("latency-{}", group.slug(index));
    let title = group.title();
    let description = format!("{}. Lower is better.", rates.join("; "));
    let series: Vec<Series> = curves
        .iter()
        .map(|(name, curve)| Series { name: name.clone(), points: curve.points.clone() })
        .collect();
    let svg = curves::svg(&id, &title, &description, &series);
    Some(Figure { svg, id, title, description, drawing: Vec::new(), table: table(&curves) })
}

fn table(curves: &[(String, &Curve)]) -> Table {
    let mut table = Table::new("Latency in microseconds", &["percentile"]);
    for (name, _) in curves {
        table.column(&format!("#{name}"));
    }
    let mut percentiles: Vec<f64> =
        curves.iter().flat_map(|(_, curve)| &curve.points).map(|point| point.percentile).collect();
    percentiles.sort_by(f64::total_cmp);
    percentiles.dedup();
    for percentile in percentiles {
        let at = |curve: &Curve| {
            let point = curve.points.iter().find(|point| point.percentile == percentile);
            numbers::plain(point.map(|point| point.us))
        };
        let name = std::iter::once(numbers::percentile(percentile));
        table.row(name.chain(curves.iter().map(|(_, curve)| at(curve))).collect());
    }
    let samples = curves.iter().map(|(_, curve)| numbers::whole(curve.samples));
    table.row(std::iter::once("samples".to_string()).chain(samples).collect());
    table
}
