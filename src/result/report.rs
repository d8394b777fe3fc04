//! The versioned type of what `c10k report --format json` prints: the results it was given, and what was
//! found between them. Its schema is `schema/report.json`.

use super::bench::{BenchGate, BenchResult, Judgement, Ratio};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The version of the object below. A field is never given another meaning under the same version.
pub const REPORT_VERSION: u32 = 1;

/// A report.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Report {
    /// The version of this object.
    pub version: u32,
    /// The program and its version.
    pub program: String,
    /// The results, in the order they were named.
    pub sources: Vec<ReportSource>,
    /// Every cell that stands in several results: each later one against the first.
    pub changes: Vec<CellChange>,
    /// In what the results differ besides their numbers.
    pub differences: Vec<Difference>,
    /// The conditions that must not hold.
    pub gates: Vec<BenchGate>,
    /// What the program exits with.
    pub exit_code: u8,
}

/// A result and where it is from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ReportSource {
    /// As it was typed.
    pub name: String,
    /// What it is called in the report.
    pub label: String,
    /// All of it.
    pub result: BenchResult,
}

/// How far a cell's ratio in a later result differs from its ratio in the first.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct CellChange {
    /// The workload, as it is typed.
    pub workload: String,
    /// The variant's name.
    pub variant: String,
    /// The reference's name.
    pub reference: String,
    /// Which of the sources is the first, from 0.
    pub from: usize,
    /// Which is the later one.
    pub to: usize,
    /// The later ratio of server CPU over the first; `method` is `hodges_lehmann`, and `pairs` is empty:
    /// those it is computed from stand with the results.
    pub server_cpu: Option<Ratio>,
    /// The same for server and client together.
    pub total_cpu: Option<Ratio>,
    /// `better`: the variant costs less, measured by its reference, than it did in the first.
    pub verdict: Judgement,
}

/// A fact that is not the same in all results.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Difference {
    /// What it is.
    pub what: String,
    /// What it is in each of the sources.
    pub values: Vec<String>,
}
