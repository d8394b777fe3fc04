//! Where it was measured, in full; of several results first what differs.

use super::Matter;
use crate::report::document::{Part, Table};
use crate::report::numbers;
use crate::result;
use crate::result::bench::BenchPlan;
use crate::units;
use std::time::Duration;

pub(super) fn parts(matter: &Matter<'_>) -> Vec<Part> {
    let mut parts = Vec::new();
    if matter.several() {
        parts.push(differences(matter));
        parts.push(Part::heading("In full"));
    }
    let mut table = Table::new("Host, build and plan", &["fact"]);
    for source in matter.sources {
        table.column(if matter.several() { &source.label } else { "value" });
    }
    let all: Vec<Vec<(String, String)>> =
        matter.sources.iter().map(|source| facts(&source.result.plan)).collect();
    let mut names: Vec<&String> = Vec::new();
    for (name, _) in all.iter().flatten() {
        if !names.contains(&name) {
            names.push(name);
        }
    }
    for name in names {
        let value = |facts: &Vec<(String, String)>| {
            let found = facts.iter().find(|(other, _)| other == name);
            found.map_or("–".into(), |(_, value)| value.clone())
        };
        table.row(std::iter::once(name.clone()).chain(all.iter().map(value)).collect());
    }
    parts.push(Part::Table(table));
    parts.push(Part::Table(variants(matter)));
    parts
}

fn differences(matter: &Matter<'_>) -> Part {
    if matter.report.differences.is_empty() {
        return Part::paragraph("The results differ in nothing but their numbers.");
    }
    let mut table = Table::new("What differs", &["fact"]);
    for source in matter.sources {
        table.column(&source.label);
    }
    for difference in &matter.report.differences {
        let what = std::iter::once(difference.what.clone());
        table.row(what.chain(difference.values.iter().cloned()).collect());
    }
    Part::Table(table)
}

/// The servers and what was in force in them.
fn variants(matter: &Matter<'_>) -> Table {
    let mut table = Table::new("Features in force, by the servers' own ready lines", &["server", "features"]);
    let mut known: Vec<(usize, &str)> = Vec::new();
    for (index, source) in matter.sources.iter().enumerate() {
        let cells = source.result.comparisons.iter().map(|comparison| &comparison.cell);
        for variant in cells.flat_map(|cell| [&cell.variant, &cell.reference]) {
            if known.contains(&(index, &variant.name)) {
                continue;
            }
            known.push((index, &variant.name));
            let features = variant.features.as_ref().map_or("not told".to_string(), |features| {
                let typed: Vec<String> =
                    features.iter().map(|(dimension, value)| format!("{dimension}={value}")).collect();
                typed.join(", ")
            });
            table.row(vec![matter.of(&variant.name, index), features]);
        }
    }
    table
}

/// All that is known of the host, the build and the plan, by name.
pub(in crate::report) fn facts(plan: &BenchPlan) -> Vec<(String, String)> {
    let host = &plan.environment;
    let told = |value: &Option<String>| value.clone().unwrap_or_else(|| "not known".into());
    let bytes = |value: Option<u64>| value.map_or("not known".into(), result::bytes_roughly);
    let count = |value: Option<u64>| value.map_or("not known".into(), numbers::whole);
    let mut facts = vec![
        ("kernel".to_string(), told(&host.kernel)),
        ("kernel build".into(), told(&host.kernel_build)),
        ("processor".into(), told(&host.cpu_model)),
        ("CPUs".into(), units::print_cpus(&host.cpus)),
        ("memory".into(), bytes(host.memory_bytes)),
        ("clock source".into(), told(&host.clock_source)),
        (
            "virtual machine".into(),
            host.virtual_machine.map_or("not known".into(), |is| if is { "yes" } else { "no" }.into()),
        ),
        ("descriptors of a process".into(), count(host.descriptors)),
        (
            "memory a user may lock".into(),
            host.locked_bytes.map_or("no limit, or none found".into(), result::bytes_roughly),
        ),
        (
            "local ports".into(),
            host.local_ports.map_or("not known".into(), |(first, last)| format!("{first} to {last}")),
        ),
        ("largest backlog".into(), count(host.backlog_max)),
        (
            "load average before".into(),
            host.load_average
                .map_or("not known".into(), |load| load.map(|one| format!("{one:.2}")).join(", ")),
        ),
    ];
    facts.extend(host.mitigations.iter().map(|(fault, what)| (format!("mitigation: {fault}"), what.clone())));
    facts.extend(host.build.iter().map(|(name, what)| (format!("build: {name}"), what.clone())));
    facts.extend([
        ("program".to_string(), plan.program.clone()),
        ("suite".into(), plan.suite.clone()),
        ("began".into(), numbers::date(plan.began_unix_seconds)),
        ("CPUs of servers".into(), units::print_cpus(&plan.server_cpus)),
        ("CPUs of clients".into(), units::print_cpus(&plan.client_cpus)),
        ("budget".into(), units::print_time(Duration::from_micros(plan.budget_us))),
        ("pace".into(), plan.pace.clone()),
        ("seed".into(), plan.seed.to_string()),
        ("called the same".into(), format!("{} to {}", 1.0 - plan.same_band, 1.0 + plan.same_band)),
    ]);
    facts
}
