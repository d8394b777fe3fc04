//! A RESULT as it is typed: a folder that `c10k bench` wrote, or the `result.json` in it. What cannot be
//! read, is of another version, or is something else, is refused with what would do.

use crate::result::bench::{BENCH_VERSION, BenchResult, Comparison, Purpose, Ratio, Side, Slice};
use serde::Deserialize;
use serde_json::Value;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// A result and where it is from.
#[derive(Clone, Debug, PartialEq)]
pub struct Source {
    /// As it was typed.
    pub name: String,
    /// What it is called beside others: a number and the kernel.
    pub label: String,
    /// What was measured.
    pub result: BenchResult,
    /// What the clients ran, the first time for each cell, side and purpose; empty where the folder
    /// does not tell.
    pub clients: Vec<Client>,
}

/// What a client ran.
#[derive(Clone, Debug, PartialEq)]
pub struct Client {
    /// The cell's id.
    pub cell: String,
    /// Against whom.
    pub side: Side,
    /// For what.
    pub purpose: Purpose,
    /// Its command.
    pub command: String,
}

/// Why a RESULT cannot be reported.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The sentence: what, why, and what would do.
    pub sentence: String,
    /// Whether something else should have been typed; otherwise the file is damaged.
    pub usage: bool,
}

/// The file that is meant: itself, or `result.json` where it is a folder.
#[must_use]
pub fn file_of(name: &str) -> PathBuf {
    let path = Path::new(name);
    if path.is_dir() { path.join("result.json") } else { path.to_path_buf() }
}

/// Reads all of them.
///
/// # Errors
/// Every one that cannot be reported.
pub fn read_all(names: &[String]) -> Result<Vec<Source>, Vec<Refusal>> {
    let (mut sources, mut refusals) = (Vec::new(), Vec::new());
    for name in names {
        match read(name) {
            Ok(source) => sources.push(source),
            Err(refusal) => refusals.push(refusal),
        }
    }
    if !refusals.is_empty() {
        return Err(refusals);
    }
    label(&mut sources);
    Ok(sources)
}

/// Calls several by their numbers, and by their kernels too where these differ.
pub(super) fn label(sources: &mut [Source]) {
    let kernels: Vec<String> = sources
        .iter()
        .map(|source| source.result.plan.environment.kernel.clone().unwrap_or("unknown kernel".into()))
        .collect();
    let alike = kernels.windows(2).all(|pair| pair[0] == pair[1]);
    for (index, (source, kernel)) in sources.iter_mut().zip(kernels.iter()).enumerate() {
        source.label = match kernels.len() {
            1 => kernel.clone(),
            _ if alike => format!("[{}]", index + 1),
            _ => format!("[{}] {kernel}", index + 1),
        };
    }
}

fn read(name: &str) -> Result<Source, Refusal> {
    let file = file_of(name);
    let text = fs::read_to_string(&file).map_err(|error| unreadable(name, &file, &error))?;
    let result =
        parse(&text).map_err(|(why, usage)| Refusal { sentence: format!("{name}: {why}"), usage })?;
    let beside = file.with_file_name("slices.ndjson");
    let clients = fs::read_to_string(beside).map(|lines| clients(&lines)).unwrap_or_default();
    Ok(Source { name: name.into(), label: String::new(), result, clients })
}

fn unreadable(name: &str, file: &Path, error: &io::Error) -> Refusal {
    let folder = file != Path::new(name);
    let unfinished = folder && file.with_file_name("plan.json").exists();
    let sentence = match error.kind() {
        io::ErrorKind::NotFound if unfinished => format!(
            "{name}: the bench in it has come to no result yet; c10k bench --resume {name} goes on with it"
        ),
        io::ErrorKind::NotFound if folder => {
            format!("{name}: there is no result.json in it; a folder that c10k bench -o wrote would do")
        }
        io::ErrorKind::NotFound => format!(
            "{name}: there is no such file or folder; a folder that c10k bench -o wrote, or its result.json, would do"
        ),
        io::ErrorKind::InvalidData => {
            format!("{name}: it is no text ({error}); the result.json that c10k bench wrote would do")
        }
        _ => format!("{name}: it cannot be read ({error}); a file this user may read would do"),
    };
    Refusal { sentence, usage: true }
}

/// A result from its JSON.
///
/// # Errors
/// The rest of a sentence that begins with the name; and whether another file should have been typed.
pub fn parse(text: &str) -> Result<BenchResult, (String, bool)> {
    let damaged = |why: String| {
        let sentence = format!(
            "it is damaged: {why}; c10k bench --resume writes the result of its folder anew from the slices"
        );
        (sentence, false)
    };
    let value: Value = serde_json::from_str(text).map_err(|error| damaged(format!("no JSON ({error})")))?;
    if let Some(other) = something_else(&value) {
        return Err((other, true));
    }
    let version = value.get("version").and_then(Value::as_u64);
    match version {
        Some(version) if version == u64::from(BENCH_VERSION) => {}
        Some(version) => {
            let program = value.pointer("/plan/program").and_then(Value::as_str).unwrap_or("another program");
            return Err((
                format!(
                    "it is a result of version {version}, written by {program}, and this program reads version \
                     {BENCH_VERSION}; the report of the program that wrote it would do"
                ),
                true,
            ));
        }
        None => return Err(damaged("it says no version".into())),
    }
    let result: BenchResult =
        serde_json::from_value(value).map_err(|error| damaged(format!("it is not all there ({error})")))?;
    check(&result).map_err(damaged)?;
    Ok(result)
}

/// What a JSON is that is no bench result.
fn something_else(value: &Value) -> Option<String> {
    let has = |name: &str| value.get(name).is_some();
    let what = match () {
        () if has("comparisons") => return None,
        () if has("rates") && has("ramp") => {
            "it is the result of one c10k load, which compares nothing; c10k load prints its own, and a folder \
             that c10k bench wrote would do"
        }
        () if has("cells") => {
            "it is the plan of a bench, not its result; the result.json beside it, or the folder, would do"
        }
        () if has("sources") && has("changes") => {
            "it is a report, not a result; the results it was made of would do"
        }
        () => {
            "it is not the result of a bench; a folder that c10k bench -o wrote, or its result.json, would do"
        }
    };
    Some(what.into())
}

/// What no measurement can have come to.
fn check(result: &BenchResult) -> Result<(), String> {
    for comparison in &result.comparisons {
        for (metric, ratio) in ratios(comparison) {
            let numbers = [ratio.low, ratio.median, ratio.high];
            let positive =
                numbers.iter().chain(&ratio.pairs).all(|number| *number > 0.0 && number.is_finite());
            if !positive || ratio.low > ratio.median || ratio.median > ratio.high {
                let Ratio { median, low, high, .. } = ratio;
                let cell = &comparison.cell.id;
                return Err(format!("the ratio {median} ({low} to {high}) of {metric} in {cell} cannot be"));
            }
        }
    }
    Ok(())
}

fn ratios(comparison: &Comparison) -> impl Iterator<Item = (&str, &Ratio)> {
    comparison.metrics.iter().flat_map(|metric| {
        metric.ratio.iter().chain(&metric.floor).map(|ratio| (metric.name.as_str(), ratio))
    })
}

/// The part of a line of `slices.ndjson` that is wanted here.
#[derive(Deserialize)]
struct Line {
    slice: Slice,
    client: String,
}

/// The first command for each cell, side and purpose. A line that cannot be read is of no use here, and
/// no reason to refuse: the result stands in a file of its own.
fn clients(lines: &str) -> Vec<Client> {
    let mut clients: Vec<Client> = Vec::new();
    for line in lines.lines().filter_map(|line| serde_json::from_str::<Line>(line).ok()) {
        let Line { slice: Slice { cell, side, purpose, .. }, client: command } = line;
        let same = |known: &Client| (&known.cell, known.side, known.purpose) == (&cell, side, purpose);
        if !clients.iter().any(same) {
            clients.push(Client { cell, side, purpose, command });
        }
    }
    clients
}
