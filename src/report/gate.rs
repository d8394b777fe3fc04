//! Conditions of a report that must not hold: those of a bench, held against every result, and
//! `change>1.02`, which is about two: the later ratio of a cell over that in the first. What they are, and
//! when they are breached, stands with the results. Pure.

use super::read::Source;
use crate::result::bench::BenchGate;
use crate::result::gate::Condition;
use crate::result::report::CellChange;

/// What the ratio of ratios is called.
const CHANGE: &str = "change";

/// Reads a condition.
///
/// # Errors
/// A sentence that begins with the text, says what is wrong with it and what would do.
pub fn parse(text: &str) -> Result<Condition, String> {
    let condition = Condition::parse(text, "uring/epoll>1.00")?;
    match condition.subject == CHANGE || condition.subject.contains('/') {
        true => Ok(condition),
        false => Err(format!(
            "{text:?} names no two sides; VARIANT/REFERENCE as in 'uring/epoll>1.00', or 'change>1.02', would do"
        )),
    }
}

/// Holds every gate against every cell it names.
///
/// # Errors
/// A sentence for each gate that names none: a gate that cannot be breached guards nothing.
pub fn hold(
    gates: &[Condition],
    sources: &[Source],
    changes: &[CellChange],
) -> Result<Vec<BenchGate>, Vec<String>> {
    let (mut held, mut problems) = (Vec::new(), Vec::new());
    for gate in gates {
        let found = match gate.subject.as_str() {
            CHANGE => between(gate, sources, changes),
            _ => within(gate, sources),
        };
        if found.is_empty() {
            problems.push(no_cell(gate, sources));
        }
        held.extend(found);
    }
    if problems.is_empty() { Ok(held) } else { Err(problems) }
}

fn between(gate: &Condition, sources: &[Source], changes: &[CellChange]) -> Vec<BenchGate> {
    let against = |change: &CellChange| {
        let what = format!(
            "{}, {} against {}, {} over {}",
            change.workload,
            change.variant,
            change.reference,
            sources[change.to].label,
            sources[change.from].label
        );
        gate.against(Some(what), change.server_cpu.as_ref())
    };
    changes.iter().map(against).collect()
}

fn within(gate: &Condition, sources: &[Source]) -> Vec<BenchGate> {
    let about = |source: &&Source| source.result.comparisons.iter().any(|one| gate.names(&one.cell));
    let held = |source: &Source| {
        let comparisons = source.result.comparisons.iter();
        gate.hold(comparisons.map(|one| match sources.len() {
            1 => (one.cell.id.clone(), one),
            _ => (format!("{} in {}", one.cell.id, source.label), one),
        }))
    };
    sources.iter().filter(about).flat_map(held).collect()
}

fn no_cell(gate: &Condition, sources: &[Source]) -> String {
    let text = &gate.text;
    if gate.subject == CHANGE {
        return format!("{text:?}: no cell stands in two results; two results of the same bench would do");
    }
    let mut known: Vec<String> = Vec::new();
    for cell in sources.iter().flat_map(|source| &source.result.comparisons).map(|one| &one.cell) {
        let pair = format!("{}/{}", cell.variant.name, cell.reference.name);
        if !known.contains(&pair) {
            known.push(pair);
        }
    }
    match known.is_empty() {
        true => format!("{text:?}: nothing was compared; a result with cells would do"),
        false => {
            format!("{text:?}: it was not compared; {} would do", crate::units::alternatives(&known))
        }
    }
}
