//! Everything that was measured of each cell: what explains the headlines.

use super::Matter;
use crate::report::compare::Group;
use crate::report::document::{Part, Table};
use crate::report::numbers;

pub(super) fn parts(matter: &Matter<'_>) -> Vec<Part> {
    let tables: Vec<Part> = matter
        .groups
        .iter()
        .filter(|group| group.members.iter().any(|(_, comparison)| !comparison.metrics.is_empty()))
        .map(|group| Part::Table(table(matter, group)))
        .collect();
    if tables.is_empty() {
        return tables;
    }
    let text = "The median slice of each side; the ratio is of pairs within a block, so it need not be the quotient \
         of the two medians. The floor is the same server against itself. Arrows say which way is better; \
         what has none only explains.";
    std::iter::once(Part::paragraph(text)).chain(tables).collect()
}

/// A row for each quantity; for each result the two sides, the ratio, the floor.
fn table(matter: &Matter<'_>, group: &Group<'_>) -> Table {
    let mut table = Table::new(group.title(), &["quantity"]);
    let [variant, reference] = group.sides();
    let mut names: Vec<(&str, String)> = Vec::new();
    for &(source, comparison) in &group.members {
        for column in [variant, reference, "ratio", "floor"] {
            table.column(&format!("#{}", matter.of(column, source)));
        }
        for metric in &comparison.metrics {
            let arrow = match metric.less_is_better {
                Some(true) => " ↓",
                Some(false) => " ↑",
                None => "",
            };
            if !names.iter().any(|(name, _)| *name == metric.name) {
                names.push((&metric.name, format!("{}{arrow}", metric.words)));
            }
        }
    }
    for (name, words) in &names {
        let mut row = vec![words.clone()];
        for (_, comparison) in &group.members {
            let metric = comparison.metrics.iter().find(|metric| metric.name == *name);
            row.push(numbers::plain(metric.and_then(|metric| metric.variant)));
            row.push(numbers::plain(metric.and_then(|metric| metric.reference)));
            row.push(numbers::ratio(metric.and_then(|metric| metric.ratio.as_ref())));
            row.push(numbers::ratio(metric.and_then(|metric| metric.floor.as_ref())));
        }
        table.row(row);
    }
    table
}
