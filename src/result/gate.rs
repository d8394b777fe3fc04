//! A condition that must not hold: `uring/epoll>1.00`, held against the ratio of server CPU in each
//! comparison of the two. It is breached only where the whole interval meets it, and that interval is one of
//! 95 % at least: a gate that cries at noise is switched off soon. A gate that was held against nothing
//! guards nothing, and says so. The bench and the report hold the same one. Pure.

use super::bench::{BenchGate, Cell, Comparison, Judgement, Ratio};
use crate::units::Relation;

/// How sure an interval has to be that breaches a gate.
const CONFIDENCE: f64 = 0.95;

/// A condition.
#[derive(Clone, Debug, PartialEq)]
pub struct Condition {
    /// As it was typed.
    pub text: String,
    /// What stands before the sign: `uring/epoll`.
    pub subject: String,
    relation: Relation,
    bound: f64,
}

impl Condition {
    /// Reads a condition. Blanks around the sign do not matter. `example` is one that would do here.
    ///
    /// # Errors
    /// A sentence that begins with the text, says what is wrong with it and what would do.
    pub fn parse(text: &str, example: &str) -> Result<Self, String> {
        // The last sign: the command of somebody's server may have others in it.
        let Some(at) = text.rfind(['<', '>']) else {
            return Err(format!("{text:?} compares nothing; '{example}' would do"));
        };
        let relation = Relation::leading(&text[at..]).expect("one of them is there");
        let (subject, number) = (text[..at].trim(), text[at + relation.sign().len()..].trim());
        let plain = number.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
        let bound = number.parse::<f64>().ok().filter(|bound| plain && bound.is_finite() && *bound > 0.0);
        let Some(bound) = bound else {
            return Err(format!("{text:?}: {number:?} is no ratio like 1.00; '{example}' would do"));
        };
        Ok(Self { text: text.trim().into(), subject: subject.into(), relation, bound })
    }

    /// Whether it is about this cell.
    #[must_use]
    pub fn names(&self, cell: &Cell) -> bool {
        let references = names(&cell.reference.name);
        let pair = |variant: &str| {
            references.iter().any(|reference| self.subject == format!("{variant}/{reference}"))
        };
        names(&cell.variant.name).into_iter().any(pair)
    }

    /// Holds it against every comparison it is about, which are called what `what` says. Those that were
    /// left out do not count, unless there is no other.
    #[must_use]
    pub fn hold<'a>(&self, about: impl Iterator<Item = (String, &'a Comparison)>) -> Vec<BenchGate> {
        let about = about.filter(|(_, one)| self.names(&one.cell) && one.verdict != Judgement::LeftOut);
        let held: Vec<BenchGate> =
            about.map(|(what, one)| self.against(Some(what), server_cpu(one))).collect();
        if held.is_empty() { vec![self.against(None, None)] } else { held }
    }

    /// What it says of a measured ratio, which belongs to `what`.
    #[must_use]
    pub fn against(&self, what: Option<String>, ratio: Option<&Ratio>) -> BenchGate {
        BenchGate {
            condition: self.text.clone(),
            cell: what,
            measured: ratio.map(measured),
            breached: ratio.is_some_and(|ratio| {
                ratio.confidence >= CONFIDENCE && self.meets(ratio.low) && self.meets(ratio.high)
            }),
        }
    }

    fn meets(&self, number: f64) -> bool {
        self.relation.holds(number, self.bound)
    }
}

/// Whether some gate was held against nothing that was measured: what it guards is not known.
#[must_use]
pub fn is_one_unmeasured(gates: &[BenchGate]) -> bool {
    gates.iter().any(|gate| gate.measured.is_none())
}

/// What a server may be called by: its whole name, and the word before its command.
fn names(variant: &str) -> Vec<&str> {
    let word = variant.split_once('=').map(|(word, _)| word).filter(|word| !word.contains(':'));
    std::iter::once(variant).chain(word).collect()
}

fn server_cpu(comparison: &Comparison) -> Option<&Ratio> {
    comparison.metrics.iter().find(|one| one.name == "server_cpu_ns")?.ratio.as_ref()
}

fn measured(ratio: &Ratio) -> String {
    let sure = match ratio.confidence >= CONFIDENCE {
        true => String::new(),
        false => format!(", {:.0} % sure: too few blocks to breach a gate", ratio.confidence * 100.0),
    };
    format!("{:.3} ({:.3}–{:.3}{sure})", ratio.median, ratio.low, ratio.high)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ratio(low: f64, high: f64, confidence: f64) -> Ratio {
        let (median, method) = (f64::midpoint(low, high), "bootstrap".into());
        Ratio { median, low, high, confidence, method, pairs: vec![] }
    }

    fn breached(text: &str, ratio: &Ratio) -> bool {
        Condition::parse(text, "a/b>1").unwrap().against(None, Some(ratio)).breached
    }

    #[test]
    fn a_gate_is_breached_only_where_the_whole_interval_is_beyond_it() {
        assert!(breached("uring/a>1.00", &ratio(1.01, 1.10, 0.95)));
        assert!(!breached("uring/a>1.00", &ratio(0.99, 1.30, 0.95)));
        assert!(breached("uring/a < 0.9", &ratio(0.7, 0.89, 0.95)));
        assert!(!breached("uring/a<0.9", &ratio(0.7, 0.91, 0.95)));
        assert!(
            breached("uring/a<=0.9", &ratio(0.7, 0.9, 0.95)) && !breached("u/a<0.9", &ratio(0.7, 0.9, 0.95))
        );
        assert!(breached("uring/a>=1", &ratio(1.0, 1.2, 0.95)) && !breached("u/a>1", &ratio(1.0, 1.2, 0.95)));
    }

    #[test]
    fn an_interval_that_is_not_sure_enough_breaches_nothing_and_says_so() {
        let few = ratio(1.5, 1.6, 0.94);
        assert!(!breached("uring/a>1.00", &few));
        let gate = Condition::parse("uring/a>1.00", "").unwrap().against(None, Some(&few));
        assert!(gate.measured.unwrap().contains("94 % sure: too few blocks"));
    }

    #[test]
    fn what_is_no_condition_is_refused_with_what_would_do() {
        for text in ["", "uring/a", "uring/a>", "uring/a>x", "uring/a>-1", "uring/a>1e3", "u/a>inf", "u/a>0"]
        {
            let sentence = Condition::parse(text, "uring/a>1.00").unwrap_err();
            assert!(
                sentence.starts_with(&format!("{text:?}")) && sentence.ends_with("'uring/a>1.00' would do"),
                "{sentence}"
            );
        }
    }

    #[test]
    fn a_gate_held_against_nothing_is_not_measured() {
        let gates = Condition::parse("uring/epoll>1.00", "").unwrap().hold(std::iter::empty());
        assert_eq!((gates.len(), gates[0].breached), (1, false));
        assert!(is_one_unmeasured(&gates));
    }
}
