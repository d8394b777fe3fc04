//! `--fail-if 'uring/epoll>1.00'` of a bench: a condition that has to be about a pair that is compared, and
//! that is held against every cell that compares it. What it is, and when it is breached, stands with the
//! results. Pure.

use super::variant::short;
use crate::result::bench::{BenchGate, Cell, Comparison};
use crate::result::gate::Condition;

/// Reads a condition, which must be about a pair that is compared.
///
/// # Errors
/// A sentence without the flag.
pub fn parse(text: &str, cells: &[Cell]) -> Result<Condition, String> {
    let example = format!("{}>1.00", cells.first().map_or("uring/epoll".into(), pair));
    let condition = Condition::parse(text, &example)?;
    match cells.iter().any(|cell| condition.names(cell)) {
        true => Ok(condition),
        false => Err(format!("{text:?}: {:?} is not compared here; '{example}' would do", condition.subject)),
    }
}

/// Holds conditions against what was compared.
#[must_use]
pub fn hold(conditions: &[Condition], comparisons: &[Comparison]) -> Vec<BenchGate> {
    let named = || comparisons.iter().map(|one| (one.cell.id.clone(), one));
    conditions.iter().flat_map(|condition| condition.hold(named())).collect()
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

    #[test]
    fn a_gate_about_nothing_is_refused_with_what_would_do() {
        for text in ["", "uring/a", "uring/a>", "uring/a>x", "uring/a>-1", "uring/epoll>1"] {
            let sentence = parse(text, &cells()).unwrap_err();
            assert!(sentence.contains("'uring/a>1.00' would do"), "{sentence}");
        }
        assert!(parse("uring/a>1.00", &cells()).is_ok() && parse("uring/a=b/c {port} < 1", &cells()).is_ok());
    }
}
