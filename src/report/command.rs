//! `c10k report` from what was typed to the exit code: read, compare, hold the gates, write.

use super::chapters;
use super::compare;
use super::gate;
use super::read::{self, Source};
use super::{markdown, page, text};
use crate::result::bench::BenchGate;
use crate::result::gate::{Condition, is_one_unmeasured};
use crate::result::report::{REPORT_VERSION, Report, ReportSource};
use crate::units;
use std::fs;
use std::io::{self, Write};
use std::path::Path;

/// What was typed, not yet checked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Typed {
    /// RESULT...
    pub results: Vec<String>,
    /// `--format`
    pub format: Option<String>,
    /// `-o`
    pub output: Option<String>,
    /// `--fail-if`
    pub fail_if: Vec<String>,
    /// `--details`
    pub details: bool,
    /// `-q`
    pub quiet: bool,
}

const DONE: u8 = 0;
const FAILED: u8 = 1;
const USAGE: u8 = 2;
const BREACHED: u8 = 3;
const NOT_VALID: u8 = 4;

/// A form of the report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Format {
    Text,
    Markdown,
    Html,
    Json,
}

const FORMATS: [(&str, &str, Format); 4] = [
    ("text", ".txt", Format::Text),
    ("markdown", ".md", Format::Markdown),
    ("html", ".html", Format::Html),
    ("json", ".json", Format::Json),
];

/// Does what was typed. The exit code.
#[must_use]
pub fn report(typed: &Typed) -> u8 {
    match made(typed) {
        Ok((rendered, report)) => {
            if let Err(sentence) = write(typed, &rendered) {
                complain(&sentence);
                return FAILED;
            }
            if !typed.quiet {
                report.gates.iter().filter_map(said).for_each(|sentence| complain(&sentence));
            }
            report.exit_code
        }
        Err((problems, code)) => {
            problems.iter().for_each(|problem| complain(problem));
            code
        }
    }
}

/// What is to be said of a gate that did not pass.
fn said(gate: &BenchGate) -> Option<String> {
    let cell = gate.cell.as_ref().map_or(String::new(), |cell| format!(" in {cell}"));
    match &gate.measured {
        Some(measured) if gate.breached => {
            Some(format!("--fail-if: {} holds{cell}: {measured}", gate.condition))
        }
        Some(_) => None,
        None => Some(format!(
            "--fail-if: {} guards nothing{cell}: no ratio was measured; a result with sound blocks would do",
            gate.condition
        )),
    }
}

/// A sentence on standard error. One that is closed has no reader.
fn complain(sentence: &str) {
    let _ = writeln!(io::stderr(), "c10k: {sentence}");
}

/// The rendered report and what is in it; or every problem, and the exit code.
fn made(typed: &Typed) -> Result<(String, Report), (Vec<String>, u8)> {
    let (format, gates, mut problems) = checked(typed);
    let mut code = if problems.is_empty() { FAILED } else { USAGE };
    let sources = match read::read_all(&typed.results) {
        Ok(sources) => sources,
        Err(refusals) => {
            if refusals.iter().any(|refusal| refusal.usage) {
                code = USAGE;
            }
            problems.extend(refusals.into_iter().map(|refusal| refusal.sentence));
            Vec::new()
        }
    };
    if !problems.is_empty() {
        return Err((problems, code));
    }
    let report = compared(&sources, &gates).map_err(|problems| (problems, USAGE))?;
    Ok((rendered(format, typed.details, &sources, &report), report))
}

/// What can be checked before a file is read: the form, the gates, and every problem so far.
fn checked(typed: &Typed) -> (Format, Vec<Condition>, Vec<String>) {
    let mut problems = Vec::new();
    if typed.results.is_empty() {
        let what = "RESULT: none is named; a folder that c10k bench -o wrote, or its result.json, would do";
        problems.push(what.to_string());
    }
    let format = match &typed.format {
        None => by_name(typed.output.as_deref()),
        Some(name) => match FORMATS.iter().find(|(known, _, _)| known == name) {
            Some((_, _, format)) => *format,
            None => {
                let known: Vec<&str> = FORMATS.iter().map(|(name, _, _)| *name).collect();
                let would_do = units::alternatives(&known);
                problems.push(format!("--format: {name:?} is no form of a report; {would_do} would do"));
                Format::Text
            }
        },
    };
    let output = typed.output.as_deref().filter(|output| *output != "-");
    let same = |result: &&String| {
        output.is_some_and(|output| {
            match (fs::canonicalize(output), fs::canonicalize(read::file_of(result))) {
                (Ok(output), Ok(result)) => output == result,
                _ => false,
            }
        })
    };
    if let Some(result) = typed.results.iter().find(same) {
        problems
            .push(format!("--output: it would overwrite {result}, which it reads; another name would do"));
    }
    let (mut gates, mut wrong) = (Vec::new(), Vec::new());
    for text in &typed.fail_if {
        match gate::parse(text) {
            Ok(gate) => gates.push(gate),
            Err(why) => wrong.push(format!("--fail-if: {why}")),
        }
    }
    problems.extend(wrong);
    (format, gates, problems)
}

/// The form a file's name asks for; text where it asks for none.
fn by_name(output: Option<&str>) -> Format {
    let ends = |ending: &str| output.is_some_and(|name| name.ends_with(ending));
    FORMATS.iter().find(|(_, ending, _)| ends(ending)).map_or(Format::Text, |(_, _, format)| *format)
}

/// What is found between the results.
fn compared(sources: &[Source], gates: &[Condition]) -> Result<Report, Vec<String>> {
    let changes = compare::changes(sources);
    let held = gate::hold(gates, sources, &changes);
    let gates =
        held.map_err(|problems| problems.iter().map(|why| format!("--fail-if: {why}")).collect::<Vec<_>>())?;
    let source = |source: &Source| ReportSource {
        name: source.name.clone(),
        label: source.label.clone(),
        result: source.result.clone(),
    };
    let exit_code = match () {
        () if is_one_unmeasured(&gates) => NOT_VALID,
        () if gates.iter().any(|gate| gate.breached) => BREACHED,
        () => DONE,
    };
    Ok(Report {
        version: REPORT_VERSION,
        program: concat!("c10k ", env!("CARGO_PKG_VERSION")).into(),
        sources: sources.iter().map(source).collect(),
        differences: compare::differences(sources),
        changes,
        gates,
        exit_code,
    })
}

fn rendered(format: Format, details: bool, sources: &[Source], report: &Report) -> String {
    let document = || chapters::document(sources, report);
    match format {
        Format::Text if details => text::render(&document()),
        Format::Text => text::brief(&document()),
        Format::Markdown => markdown::render(&document()),
        Format::Html => page::render(&document()),
        Format::Json => serde_json::to_string_pretty(report).expect("numbers and texts") + "\n",
    }
}

/// Writes to where it was asked for. Nobody reads a standard output that is closed; that is no failure.
fn write(typed: &Typed, rendered: &str) -> Result<(), String> {
    match typed.output.as_deref() {
        None | Some("-") => {
            let mut out = io::stdout().lock();
            let _ = out.write_all(rendered.as_bytes()).and_then(|()| out.flush());
            Ok(())
        }
        Some(path) => fs::write(Path::new(path), rendered).map_err(|error| {
            format!("--output: {path} cannot be written ({error}); a file in a folder that is there would do")
        }),
    }
}
