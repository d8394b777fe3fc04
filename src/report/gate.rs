//! Conditions that must not hold: `uring/epoll>1.00`. They are held against the ratio of server CPU, and
//! breached only where its whole interval meets them: a gate that cries at noise is switched off soon.
//! `change>1.02` is about two results: the later ratio of a cell over that in the first. Pure.

use super::compare::{self, SERVER};
use super::numbers;
use super::read::Source;
use crate::result::bench::{BenchGate, Cell, Ratio};
use crate::result::report::CellChange;

/// A condition.
#[derive(Clone, Debug, PartialEq)]
pub struct Gate {
    /// As it was typed.
    text: String,
    /// What stands before the sign.
    subject: String,
    relation: Relation,
    bound: f64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Relation {
    Below,
    AtMost,
    Above,
    AtLeast,
}

/// Longer signs first: `<=` begins with `<`.
const RELATIONS: [(&str, Relation); 4] =
    [("<=", Relation::AtMost), (">=", Relation::AtLeast), ("<", Relation::Below), (">", Relation::Above)];
/// What the ratio of ratios is called.
const CHANGE: &str = "change";

impl Gate {
    /// Reads a condition. Blanks around the sign do not matter.
    ///
    /// # Errors
    /// A sentence that begins with the text, says what is wrong with it and what would do.
    pub fn parse(text: &str) -> Result<Self, String> {
        // The last sign: the command of somebody's server may have others in it.
        let Some(at) = text.rfind(['<', '>']) else {
            return Err(format!("{text:?} compares nothing; write it like 'uring/epoll>1.00'"));
        };
        let (symbol, relation) = RELATIONS
            .iter()
            .find(|(symbol, _)| text[at..].starts_with(symbol))
            .expect("one of them is there");
        let subject = text[..at].trim();
        let number = text[at + symbol.len()..].trim();
        if subject != CHANGE && !subject.contains('/') {
            return Err(format!(
                "{text:?} names no two sides; VARIANT/REFERENCE as in 'uring/epoll>1.00', or 'change>1.02', would do"
            ));
        }
        let plain = number.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
        let bound = number.parse::<f64>().ok().filter(|bound| plain && bound.is_finite() && *bound > 0.0);
        let Some(bound) = bound else {
            return Err(format!("{text:?}: {number:?} is no ratio; a number like 1.00 or 0.95 would do"));
        };
        Ok(Self { text: text.trim().into(), subject: subject.into(), relation: *relation, bound })
    }

    fn names(&self, cell: &Cell) -> bool {
        let variants = names(&cell.variant.name);
        let references = names(&cell.reference.name);
        let pair = |variant: &str| {
            references.iter().any(|reference| self.subject == format!("{variant}/{reference}"))
        };
        variants.iter().any(|variant| pair(variant))
    }

    /// What it says of a measured ratio, which belongs to `what`.
    fn held(&self, what: String, ratio: Option<&Ratio>) -> BenchGate {
        let meets = |number: f64| match self.relation {
            Relation::Below => number < self.bound,
            Relation::AtMost => number <= self.bound,
            Relation::Above => number > self.bound,
            Relation::AtLeast => number >= self.bound,
        };
        BenchGate {
            condition: self.text.clone(),
            cell: Some(what),
            measured: ratio.map(|ratio| numbers::ratio(Some(ratio))),
            breached: ratio.is_some_and(|ratio| meets(ratio.low) && meets(ratio.high)),
        }
    }
}

/// What a server may be called by: its whole name, and the word before its command.
fn names(variant: &str) -> Vec<&str> {
    let word = variant.split_once('=').map(|(word, _)| word).filter(|word| !word.contains(':'));
    std::iter::once(variant).chain(word).collect()
}

/// Holds every gate against every cell it names.
///
/// # Errors
/// A sentence for each gate that names none: a gate that cannot be breached guards nothing.
pub fn hold(
    gates: &[Gate],
    sources: &[Source],
    changes: &[CellChange],
) -> Result<Vec<BenchGate>, Vec<String>> {
    let (mut held, mut problems) = (Vec::new(), Vec::new());
    for gate in gates {
        let before = held.len();
        if gate.subject == CHANGE {
            held.extend(changes.iter().map(|change| {
                let what = format!(
                    "{}, {} against {}, {} over {}",
                    change.workload,
                    change.variant,
                    change.reference,
                    sources[change.to].label,
                    sources[change.from].label
                );
                gate.held(what, change.server_cpu.as_ref())
            }));
        }
        for source in sources {
            for comparison in source.result.comparisons.iter().filter(|other| gate.names(&other.cell)) {
                let cell = &comparison.cell.id;
                let what =
                    if sources.len() > 1 { format!("{cell} in {}", source.label) } else { cell.clone() };
                held.push(gate.held(what, compare::ratio(comparison, SERVER)));
            }
        }
        if held.len() == before {
            problems.push(no_cell(gate, sources));
        }
    }
    if problems.is_empty() { Ok(held) } else { Err(problems) }
}

fn no_cell(gate: &Gate, sources: &[Source]) -> String {
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
