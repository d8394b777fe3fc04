//! `--fail-if 'uring/epoll>1.00'`: a condition on the ratio of server CPU for a unit, held against every cell
//! that compares the two. It is breached only where the whole 95 % interval lies beyond the number: a gate
//! that fails by chance is soon ignored. Pure.

use super::variant::short;
use crate::result::bench::{BenchGate, Cell, Comparison, Ratio};

/// A condition that must not hold.
#[derive(Clone, Debug, PartialEq)]
pub struct Condition {
    /// As it was typed.
    pub text: String,
    /// `uring/epoll`.
    pair: String,
    /// Whether more than the bound breaches it; else less.
    more: bool,
    bound: f64,
}

impl Condition {
    /// Reads a condition, which must be about a pair that is compared.
    ///
    /// # Errors
    /// A sentence without the flag.
    pub fn parse(text: &str, cells: &[Cell]) -> Result<Self, String> {
        let would_do = || {
            let pair = cells.first().map_or("uring/epoll".into(), pair);
            format!("'{pair}>1.00' would do")
        };
        // The relation stands behind the names, which may be commands.
        let Some(at) = text.rfind(['<', '>']) else {
            return Err(format!("{text:?} compares nothing; {}", would_do()));
        };
        let (names, bound) = (text[..at].trim(), text[at + 1..].trim());
        let number = bound.parse::<f64>().ok().filter(|bound| bound.is_finite() && *bound > 0.0);
        let Some(bound) = number else {
            return Err(format!("{text:?}: {bound:?} is no ratio; {}", would_do()));
        };
        if !cells.iter().any(|cell| pair(cell) == names) {
            return Err(format!("{text:?}: {names:?} is not compared here; {}", would_do()));
        }
        Ok(Self { text: text.into(), pair: names.into(), more: text[at..].starts_with('>'), bound })
    }

    /// Holds it against every comparison it is about.
    #[must_use]
    pub fn hold(&self, comparisons: &[Comparison]) -> Vec<BenchGate> {
        let about =
            comparisons.iter().filter(|one| pair(&one.cell) == self.pair && one.cell.left_out.is_none());
        about
            .map(|comparison| {
                let ratio = comparison.metrics.iter().find(|one| one.name == "server_cpu_ns");
                let ratio = ratio.and_then(|metric| metric.ratio.as_ref());
                BenchGate {
                    condition: self.text.clone(),
                    cell: Some(comparison.cell.id.clone()),
                    measured: ratio.map(|one| format!("{:.3} ({:.3}–{:.3})", one.median, one.low, one.high)),
                    breached: ratio.is_some_and(|ratio| self.is_breached(ratio)),
                }
            })
            .collect()
    }

    fn is_breached(&self, ratio: &Ratio) -> bool {
        // The range of fewer than six pairs is no 95 %.
        let sure = ratio.confidence >= crate::statistics::paired::CONFIDENCE;
        sure && if self.more { ratio.low > self.bound } else { ratio.high < self.bound }
    }
}

fn pair(cell: &Cell) -> String {
    format!("{}/{}", short(&cell.variant), short(&cell.reference))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::{suite, variant, workload};

    fn cells() -> Vec<Cell> {
        let variant = |text| variant::parse(text, &[0]).unwrap();
        let workload = workload::parse("pingpong").unwrap();
        vec![suite::cell(&workload, &variant("uring"), &variant("a=b/c {port}"))]
    }

    fn ratio(low: f64, high: f64, confidence: f64) -> Ratio {
        Ratio {
            median: f64::midpoint(low, high),
            low,
            high,
            confidence,
            method: "bootstrap".into(),
            pairs: vec![],
        }
    }

    #[test]
    fn a_gate_is_breached_only_where_the_whole_interval_is_beyond_it() {
        let more = Condition::parse("uring/a>1.00", &cells()).unwrap();
        assert!(more.is_breached(&ratio(1.01, 1.10, 0.95)));
        assert!(!more.is_breached(&ratio(0.99, 1.30, 0.95)));
        assert!(!more.is_breached(&ratio(1.01, 1.10, 0.94)));
        let less = Condition::parse("uring/a < 0.9", &cells()).unwrap();
        assert!(less.is_breached(&ratio(0.7, 0.89, 0.95)) && !less.is_breached(&ratio(0.7, 0.91, 0.95)));
    }

    #[test]
    fn a_gate_about_nothing_is_refused_with_what_would_do() {
        for text in ["", "uring/a", "uring/a>", "uring/a>x", "uring/a>-1", "uring/epoll>1"] {
            let sentence = Condition::parse(text, &cells()).unwrap_err();
            assert!(sentence.contains("'uring/a>1.00' would do"), "{sentence}");
        }
    }
}
