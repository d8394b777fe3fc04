//! The chapters of a report, in the order they are read: the verdict first, what everybody may doubt last.

mod cells;
mod commands;
mod connections;
mod costs;
pub mod environment;
mod health;
mod latency;
mod lines;
mod raw;
mod reading;
mod verdict;

use super::compare::{self, Group};
use super::document::{Chapter, Document, Part};
use super::numbers;
use super::read::Source;
use crate::result::bench::{Comparison, Judgement, Purpose};
use crate::result::report::Report;

/// What chapters are made of.
pub(super) struct Matter<'a> {
    /// The results.
    sources: &'a [Source],
    /// What was found between them, and the gates.
    report: &'a Report,
    /// The cells of all.
    groups: Vec<Group<'a>>,
}

/// Everything there is to say.
#[must_use]
pub fn document(sources: &[Source], report: &Report) -> Document {
    let matter = Matter { sources, report, groups: compare::groups(sources) };
    let chapters = [
        ("verdict", "Verdict", verdict::parts(&matter)),
        ("cells", "What was compared", cells::parts(&matter)),
        ("latency", "Latency", latency::parts(&matter)),
        ("connections", "Cost against connections", connections::parts(&matter)),
        ("costs", "What explains it", costs::parts(&matter)),
        ("health", "Health counters", health::parts(&matter)),
        ("environment", "Environment", environment::parts(&matter)),
        ("reading", "How to read this, and what it does not show", reading::parts(&matter)),
        ("commands", "The exact commands", commands::parts(&matter)),
        ("raw", "Every block and slice", raw::parts(&matter)),
    ];
    let chapters = chapters.into_iter().filter(|(_, _, parts)| !parts.is_empty());
    let chapter =
        |(id, title, parts): (&str, &str, Vec<Part>)| Chapter { id: id.into(), title: title.into(), parts };
    Document {
        title: title(sources),
        lead: lead(sources),
        chapters: chapters.map(chapter).collect(),
        lines: if matter.are_many() { lines::lines(&matter) } else { Vec::new() },
    }
}

fn title(sources: &[Source]) -> String {
    let mut names: Vec<String> = Vec::new();
    for source in sources {
        for comparison in &source.result.comparisons {
            let cell = &comparison.cell;
            let pair = format!("{} against {}", cell.variant.name, cell.reference.name);
            if !names.contains(&pair) {
                names.push(pair);
            }
        }
    }
    let what = match names.as_slice() {
        [only] => only.clone(),
        [] => "nothing compared".into(),
        several => format!("{} comparisons", several.len()),
    };
    match sources {
        [source] => format!("{what} on Linux {}", source.label),
        several => format!("{what}, {} results", several.len()),
    }
}

/// What a slice is for, in a word.
fn purpose(purpose: Purpose) -> &'static str {
    match purpose {
        Purpose::Cost => "cost",
        Purpose::Latency => "latency",
        Purpose::Capacity => "capacity",
    }
}

fn lead(sources: &[Source]) -> Vec<String> {
    let line = |(index, source): (usize, &Source)| {
        let plan = &source.result.plan;
        let machine = plan.environment.cpu_model.as_deref().unwrap_or("an unknown processor");
        // Of one the title has the kernel.
        let kernel = plan.environment.kernel.as_deref().unwrap_or("of an unknown release");
        let label = match sources.len() {
            1 => String::new(),
            _ => format!("[{}] {}, Linux {kernel}, ", index + 1, source.name),
        };
        format!(
            "{label}{}, {} CPUs, {}; suite {}, took {}, seed {}",
            machine,
            plan.environment.cpus.len(),
            numbers::date(plan.began_unix_seconds),
            plan.suite,
            numbers::duration(source.result.took_us),
            plan.seed
        )
    };
    sources.iter().enumerate().map(line).collect()
}

impl Matter<'_> {
    /// Whether there is something to tell apart.
    fn several(&self) -> bool {
        self.sources.len() > 1
    }

    /// Whether there are more comparisons than somebody reads one by one.
    fn are_many(&self) -> bool {
        const FEW: usize = 4;
        let ran = |(_, one): &&(usize, &Comparison)| one.verdict != Judgement::LeftOut;
        self.groups.iter().flat_map(|group| &group.members).filter(ran).count() > FEW
    }

    /// A name, with the result it belongs to where there are several.
    fn of(&self, name: &str, source: usize) -> String {
        match self.several() {
            true => format!("{name} {}", self.sources[source].label),
            false => name.into(),
        }
    }
}
