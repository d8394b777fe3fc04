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
    let mut parts: Vec<Part> = std::iter::once(Part::paragraph(text)).chain(tables).collect();
    if let Some(table) = ceilings(matter) {
        parts.extend([Part::heading("How far the client was from its limit"), Part::paragraph(CEILING)]);
        parts.push(Part::Table(table));
    }
    parts
}

const CEILING: &str = "The client's ceiling was reached in a closed loop against the faster of the two servers, with \
     the same pinning, or is reckoned from how busy the client was. Where it is below 1.5 times what was \
     measured it is not proved that the client was not the limit: costs hold, rates and latencies are in doubt.";

/// The row below a cost: the least slice of each side.
fn least(group: &Group<'_>, name: &str) -> Option<Vec<String>> {
    let mut row = vec!["… its least slice, by which nothing is judged".to_string()];
    let mut known = false;
    for (_, comparison) in &group.members {
        let metric = comparison.metrics.iter().find(|metric| metric.name == name);
        let sides = metric.map_or([None, None], |metric| [metric.variant_least, metric.reference_least]);
        known |= sides.iter().any(Option::is_some);
        row.extend(sides.map(numbers::plain));
        row.extend([String::new(), String::new()]);
    }
    known.then_some(row)
}

/// What the client could have done beside what it was asked for.
fn ceilings(matter: &Matter<'_>) -> Option<Table> {
    let columns = ["cell", "#measured", "#ceiling", "how known", "#times", "1.5 or more"];
    let mut table = Table::new("The client's ceiling beside what was measured, units a second", &columns);
    for group in &matter.groups {
        for &(source, comparison) in &group.members {
            let Some(ceiling) = &comparison.client_ceiling else { continue };
            table.row(vec![
                matter.of(&group.title(), source),
                numbers::plain(Some(ceiling.measured_units_per_second)),
                numbers::plain(Some(ceiling.units_per_second)),
                ceiling.known.clone(),
                format!("{:.2}", ceiling.times),
                if ceiling.enough { "yes" } else { "NO" }.into(),
            ]);
        }
    }
    (!table.rows.is_empty()).then_some(table)
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
        table.rows.extend(least(group, name));
    }
    table
}
