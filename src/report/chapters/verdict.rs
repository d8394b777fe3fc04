//! What somebody should do, and whether a condition was breached.

use super::Matter;
use crate::report::document::{Part, Verdict};
use crate::report::numbers;
use crate::result::bench::{BenchGate, Judgement};
use crate::result::report::CellChange;

/// More sentences of a result than these are one for each cell.
const SENTENCES_MAX: usize = 12;

pub(super) fn parts(matter: &Matter<'_>) -> Vec<Part> {
    let mut items = Vec::new();
    for source in matter.sources {
        let word = if matter.several() { source.label.clone() } else { String::new() };
        // A sentence for each of many cells stands cell by cell; here it would bury what matters.
        let told = source.result.verdict.len() <= SENTENCES_MAX;
        let sentences = source.result.verdict.iter().filter(|_| told);
        items.extend(sentences.map(|text| Verdict { word: word.clone(), text: text.clone() }));
    }
    let mut parts = Vec::new();
    if !items.is_empty() {
        parts.push(Part::Verdicts { items });
    }
    let changed: Vec<Verdict> = matter.report.changes.iter().map(|change| said(matter, change)).collect();
    if !changed.is_empty() {
        parts.push(Part::heading("Between the results"));
        parts.push(Part::Verdicts { items: changed });
    }
    let tally = tally(matter);
    if !tally.is_empty() {
        parts.push(Part::paragraph(tally));
    }
    let remarks: Vec<String> =
        matter.sources.iter().enumerate().flat_map(|(at, _)| remarks(matter, at)).collect();
    if !remarks.is_empty() {
        parts.push(Part::List { items: remarks });
    }
    gates(matter, &mut parts);
    parts
}

/// A cell in two results, as a sentence.
fn said(matter: &Matter<'_>, change: &CellChange) -> Verdict {
    let CellChange { workload, variant, reference, from, to, verdict, .. } = change;
    let word = match verdict {
        Judgement::Better => "cheaper",
        Judgement::Worse => "dearer",
        other => numbers::word(*other),
    };
    let (first, later) = (&matter.sources[*from].label, &matter.sources[*to].label);
    let text = match (&change.server_cpu, &change.total_cpu) {
        (None, None) => format!(
            "{workload}: {variant} against {reference} has too few blocks in {first} or {later} to be compared"
        ),
        (server, total) => format!(
            "{workload}: the ratio of {variant} to {reference} is {} times in {later} what it is in {first} \
             (server CPU; server + client: {})",
            numbers::ratio(server.as_ref()),
            numbers::ratio(total.as_ref())
        ),
    };
    Verdict { word: word.into(), text }
}

/// How many cells came to what, where there are enough of them to be counted.
fn tally(matter: &Matter<'_>) -> String {
    let all: Vec<Judgement> =
        matter.sources.iter().flat_map(|source| &source.result.comparisons).map(|one| one.verdict).collect();
    if all.len() < 3 {
        return String::new();
    }
    let words =
        [Judgement::Better, Judgement::Worse, Judgement::Same, Judgement::Undecided, Judgement::LeftOut];
    let counted = words.into_iter().filter_map(|word| {
        let count = all.iter().filter(|other| **other == word).count();
        (count > 0).then(|| format!("{count} {}", numbers::word(word)))
    });
    format!("Of {} cells: {}.", all.len(), counted.collect::<Vec<_>>().join(", "))
}

/// What weakens a result as a whole.
fn remarks(matter: &Matter<'_>, at: usize) -> Vec<String> {
    let result = &matter.sources[at].result;
    let mut remarks = Vec::new();
    if result.interrupted {
        let what = matter.of("The bench", at);
        remarks.push(format!("{what} was interrupted before its time; what follows is what it had."));
    }
    if result.exit_code != 0 {
        let what = matter.of("The bench", at);
        remarks.push(format!("{what} ended with exit code {}.", result.exit_code));
    }
    remarks
}

fn gates(matter: &Matter<'_>, parts: &mut Vec<Part>) {
    let mut items: Vec<Verdict> = matter.report.gates.iter().map(gate).collect();
    for (at, source) in matter.sources.iter().enumerate() {
        items.extend(source.result.gates.iter().map(|held| {
            let verdict = gate(held);
            Verdict { text: format!("{} (when it was measured)", matter.of(&verdict.text, at)), ..verdict }
        }));
    }
    if !items.is_empty() {
        parts.push(Part::heading("Conditions that must not hold"));
        parts.push(Part::Verdicts { items });
    }
}

fn gate(gate: &BenchGate) -> Verdict {
    let word = match (&gate.measured, gate.breached) {
        (_, true) => "breached",
        (Some(_), false) => "passed",
        (None, false) => "not measured",
    };
    let cell = gate.cell.as_ref().map_or(String::new(), |cell| format!(" in {cell}"));
    let measured = gate.measured.as_deref().unwrap_or("nothing was measured");
    Verdict { word: word.into(), text: format!("{}{cell}: {measured}", gate.condition) }
}
