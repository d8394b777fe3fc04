//! What the servers counted about themselves while they were measured.

use super::Matter;
use crate::report::compare::Group;
use crate::report::document::{Part, Table};
use crate::report::numbers;
use std::collections::{BTreeMap, BTreeSet};

pub(super) fn parts(matter: &Matter<'_>) -> Vec<Part> {
    let tables = matter.groups.iter().filter_map(|group| table(matter, group)).map(Part::Table);
    let tables: Vec<Part> = tables.collect();
    if tables.is_empty() {
        return tables;
    }
    let text = "The servers' own account over all slices that count. A dash: this server has no such counter. What \
                begins with client is the load's own: receives that found no buffer were begun again at once and \
                cost it an operation; an overflow of its queue makes a slice invalid.";
    std::iter::once(Part::paragraph(text)).chain(tables).collect()
}

fn table(matter: &Matter<'_>, group: &Group<'_>) -> Option<Table> {
    let [variant, reference] = group.sides();
    let mut table = Table::new(group.title(), &["counter"]);
    let mut accounts: Vec<&BTreeMap<String, u64>> = Vec::new();
    for &(source, comparison) in &group.members {
        table.column(&format!("#{}", matter.of(variant, source)));
        table.column(&format!("#{}", matter.of(reference, source)));
        accounts.extend([&comparison.variant_health, &comparison.reference_health]);
    }
    let names: BTreeSet<&String> = accounts.iter().flat_map(|account| account.keys()).collect();
    for name in &names {
        let counts = accounts
            .iter()
            .map(|account| account.get(*name).map_or("–".into(), |count| numbers::whole(*count)));
        table.row(std::iter::once(name.replace('_', " ")).chain(counts).collect());
    }
    (!names.is_empty()).then_some(table)
}
