//! The same cell in several results, and by how much its ratio differs between them. A cell is the same
//! where workload, variant and reference are written the same. Pure.

use super::read::Source;
use crate::result::bench::{Comparison, Judgement, Metric, Ratio};
use crate::result::report::{CellChange, Difference};
use crate::statistics;
use crate::statistics::paired::{CONFIDENCE, Finding, Headline, Interval, Method, Rule};
use std::collections::{BTreeMap, BTreeSet};

/// The first headline: what the server spends.
pub const SERVER: &str = "server_cpu_ns";
/// The second: what server and client spend.
pub const TOTAL: &str = "total_cpu_ns";

/// A cell and what each result says of it.
#[derive(Clone, Debug)]
pub struct Group<'a> {
    /// What each says, with the index of the result; never empty.
    pub members: Vec<(usize, &'a Comparison)>,
}

impl<'a> Group<'a> {
    /// One that stands for all where they are alike.
    #[must_use]
    pub fn first(&self) -> &'a Comparison {
        self.members[0].1
    }

    /// What is done in it, and between whom.
    #[must_use]
    pub fn title(&self) -> String {
        let cell = &self.first().cell;
        // Names of a suite's own variants are longer than what they are there for.
        if let Some(question) = &cell.question {
            return format!("{}: {question}", cell.workload.words);
        }
        format!("{}: {} against {}", cell.workload.words, cell.variant.name, cell.reference.name)
    }

    /// What its two sides are called where their numbers stand side by side.
    #[must_use]
    pub fn sides(&self) -> [&'a str; 2] {
        let cell = &self.first().cell;
        match cell.question {
            Some(_) => ["with", "without"],
            // A thing against itself: its name tells nobody apart.
            None if cell.variant.name == cell.reference.name => ["variant", "reference"],
            None => [short(&cell.variant.name), short(&cell.reference.name)],
        }
    }

    /// What names its pictures within a page.
    #[must_use]
    pub fn slug(&self, index: usize) -> String {
        format!("cell-{}", index + 1)
    }
}

/// A server with a command is called by its word.
fn short(variant: &str) -> &str {
    variant.split_once('=').map_or(variant, |(word, _)| if word.contains(':') { variant } else { word })
}

/// The cells of all results, in the order they first stand in.
#[must_use]
pub fn groups(sources: &[Source]) -> Vec<Group<'_>> {
    let mut groups: Vec<Group<'_>> = Vec::new();
    for (index, source) in sources.iter().enumerate() {
        for comparison in &source.result.comparisons {
            // A thing compared with itself twice stands twice in one result.
            let same = |group: &&mut Group<'_>| {
                is_same(group.first(), comparison) && group.members.iter().all(|(other, _)| *other != index)
            };
            match groups.iter_mut().find(same) {
                Some(group) => group.members.push((index, comparison)),
                None => groups.push(Group { members: vec![(index, comparison)] }),
            }
        }
    }
    groups
}

fn is_same(one: &Comparison, other: &Comparison) -> bool {
    let key = |comparison: &Comparison| {
        let cell = &comparison.cell;
        (cell.workload.name.clone(), cell.variant.name.clone(), cell.reference.name.clone())
    };
    key(one) == key(other)
}

/// What was measured under this name.
#[must_use]
pub fn metric<'a>(comparison: &'a Comparison, name: &str) -> Option<&'a Metric> {
    comparison.metrics.iter().find(|metric| metric.name == name)
}

/// The ratio of what was measured under this name.
#[must_use]
pub fn ratio<'a>(comparison: &'a Comparison, name: &str) -> Option<&'a Ratio> {
    metric(comparison, name)?.ratio.as_ref()
}

/// Every cell that stands in several results: each later one against the first.
#[must_use]
pub fn changes(sources: &[Source]) -> Vec<CellChange> {
    let mut changes = Vec::new();
    for group in groups(sources) {
        let (from, first) = group.members[0];
        for &(to, later) in &group.members[1..] {
            let server = change(first, later, SERVER);
            let total = change(first, later, TOTAL);
            changes.push(CellChange {
                workload: first.cell.workload.name.clone(),
                variant: first.cell.variant.name.clone(),
                reference: first.cell.reference.name.clone(),
                from,
                to,
                verdict: judge(server.as_ref(), total.as_ref(), first.band.max(later.band)),
                server_cpu: server,
                total_cpu: total,
            });
        }
    }
    changes
}

/// The ratio of ratios, with an interval from the pairs of both.
fn change(first: &Comparison, later: &Comparison, name: &str) -> Option<Ratio> {
    let (first, later) = (ratio(first, name)?, ratio(later, name)?);
    let factor = statistics::factor(&later.pairs, &first.pairs)?;
    Some(Ratio {
        median: factor.median,
        low: factor.low,
        high: factor.high,
        confidence: factor.confidence,
        method: "hodges_lehmann".into(),
        pairs: Vec::new(),
    })
}

/// By the rule of the bench.
fn judge(server: Option<&Ratio>, total: Option<&Ratio>, band: f64) -> Judgement {
    // The band has the floors in it already.
    let headline = |factor: Option<&Ratio>| {
        let factor = factor.filter(|factor| factor.confidence >= CONFIDENCE)?;
        Some(Headline { interval: logarithms(factor), floor: None })
    };
    let [Some(server), Some(total)] = [server, total].map(headline) else { return Judgement::Undecided };
    // How many blocks there were has its say in the confidence.
    let rule = Rule { band, blocks_min: 0, ..Rule::default() };
    match rule.judge(&[server, total], 0) {
        Finding::Less => Judgement::Better,
        Finding::More => Judgement::Worse,
        Finding::Same => Judgement::Same,
        Finding::Undecided => Judgement::Undecided,
    }
}

fn logarithms(ratio: &Ratio) -> Interval {
    Interval {
        median: ratio.median.ln(),
        low: ratio.low.ln(),
        high: ratio.high.ln(),
        confidence: ratio.confidence,
        method: Method::OrderStatistics,
    }
}

/// In what the results differ besides their numbers: host, build, plan, features in force.
#[must_use]
pub fn differences(sources: &[Source]) -> Vec<Difference> {
    let mut differences: Vec<Difference> = Vec::new();
    let facts: Vec<Vec<(String, String)>> =
        sources.iter().map(|source| super::chapters::environment::facts(&source.result.plan)).collect();
    let mut names: Vec<&str> = Vec::new();
    for (name, _) in facts.iter().flatten() {
        if !names.contains(&name.as_str()) {
            names.push(name);
        }
    }
    for name in names {
        let value = |facts: &Vec<(String, String)>| {
            let found = facts.iter().find(|(other, _)| other == name);
            found.map_or("–".to_string(), |(_, value)| value.clone())
        };
        let values: Vec<String> = facts.iter().map(value).collect();
        if values.iter().any(|value| *value != values[0]) {
            differences.push(Difference { what: name.into(), values });
        }
    }
    differences.extend(features(sources));
    differences
}

/// What was in force in a server: values by dimension.
type Features = BTreeMap<String, String>;

/// Dimensions that were in force otherwise for the same variant.
fn features(sources: &[Source]) -> Vec<Difference> {
    let mut known: Vec<(String, Vec<Option<&Features>>)> = Vec::new();
    for (index, source) in sources.iter().enumerate() {
        for comparison in &source.result.comparisons {
            for variant in [&comparison.cell.variant, &comparison.cell.reference] {
                let at = known.iter().position(|(name, _)| *name == variant.name).unwrap_or_else(|| {
                    known.push((variant.name.clone(), vec![None; sources.len()]));
                    known.len() - 1
                });
                known[at].1[index] = known[at].1[index].or(variant.features.as_ref());
            }
        }
    }
    let mut differences = Vec::new();
    for (variant, features) in known {
        let present: Vec<_> = features.iter().flatten().collect();
        let dimensions: BTreeSet<&String> = present.iter().flat_map(|features| features.keys()).collect();
        for dimension in dimensions {
            let values: Vec<String> = features
                .iter()
                .map(|features| features.and_then(|features| features.get(dimension)))
                .map(|value| value.cloned().unwrap_or_else(|| "–".into()))
                .collect();
            let told: Vec<&String> = values.iter().filter(|value| *value != "–").collect();
            if told.windows(2).any(|pair| pair[0] != pair[1]) {
                differences.push(Difference { what: format!("{variant}: {dimension}"), values });
            }
        }
    }
    differences
}
