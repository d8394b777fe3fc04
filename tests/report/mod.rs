//! The report as its users see it: the command line against results with invented numbers, and the page
//! in a real browser.

mod browser;

use crate::server::{Ended, Launch, Output};
use crate::skip::unless_missing;
use libtest_mimic::Trial;
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

/// The trials.
pub fn trials() -> Vec<Trial> {
    let rows: [(&str, fn()); 9] = [
        ("one_result_is_printed_as_text", text),
        ("the_name_of_the_file_decides_the_form", forms),
        ("a_report_as_json_is_of_the_schema", json),
        ("a_breached_gate_exits_with_3_and_the_report_is_there", gates),
        ("every_result_that_cannot_be_read_is_said_at_once", refusals),
        ("a_damaged_result_fails", damaged),
        ("wrong_options_are_usage_errors", wrong_options),
        ("a_closed_standard_output_is_no_failure", closed_output),
        ("clients_are_told_where_the_folder_tells_them", clients),
    ];
    let trial = |(name, body): (&str, fn())| {
        unless_missing(format!("report::{name}"), &[], move || {
            body();
            Ok(())
        })
    };
    rows.into_iter().map(trial).chain(browser::trials()).collect()
}

/// A result with invented numbers.
fn fixture(name: &str) -> String {
    format!("{}/tests/fixtures/bench/{name}", env!("CARGO_MANIFEST_DIR"))
}

/// A new folder of its own, removed at the end.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("c10k-report-{}-{number}", std::process::id()));
        fs::create_dir_all(&path).expect("a folder");
        Self(path)
    }

    fn file(&self, name: &str) -> String {
        self.0.join(name).to_str().expect("a plain name").into()
    }

    fn write(&self, name: &str, text: &str) -> String {
        fs::write(self.0.join(name), text).expect("written");
        self.file(name)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn report(words: &[&str]) -> Ended {
    Launch::new(std::iter::once("report").chain(words.iter().copied())).end()
}

/// Ended with this code; all of these words stand in what it said on standard error.
#[track_caller]
fn ended(ended: &Ended, code: i32, words: &[&str]) {
    assert_eq!((ended.code, ended.signal), (Some(code), None), "{}", ended.said());
    for word in words {
        assert!(ended.stderr.contains(word), "{word:?} is not in: {}", ended.stderr);
    }
    assert!(!ended.stderr.contains("panicked"), "{}", ended.stderr);
}

fn text() {
    // The folder, and the file in it.
    for name in [fixture("newer"), fixture("newer") + "/result.json"] {
        let printed = report(&[&name]);
        ended(&printed, 0, &[]);
        assert_eq!(printed.stderr, "");
        assert!(printed.lines[0].contains("Linux 6.18.44"), "{}", printed.lines[0]);
        assert!(printed.lines.iter().any(|line| line == "VERDICT"), "{}", printed.said());
        assert!(printed.lines.iter().all(|line| line.starts_with("    ") || line.chars().count() <= 100));
    }
}

fn forms() {
    let folder = Folder::new();
    let signs = [
        ("a.html", "<!DOCTYPE html>"),
        ("a.md", "\n## Verdict\n"),
        ("a.json", "\"sources\": ["),
        ("a.txt", "\nVERDICT\n"),
        ("b", "\nVERDICT\n"),
    ];
    for (name, sign) in signs {
        let file = folder.file(name);
        let written = report(&[&fixture("newer"), &fixture("older"), "-o", &file]);
        ended(&written, 0, &[]);
        assert!(written.lines.is_empty(), "{}", written.said());
        assert!(fs::read_to_string(&file).expect("written").contains(sign), "{name} has no {sign:?}");
    }
    // What is typed goes before the name.
    let file = folder.file("c.html");
    ended(&report(&[&fixture("newer"), "-o", &file, "--format", "markdown"]), 0, &[]);
    assert!(fs::read_to_string(&file).expect("written").contains("\n## Verdict\n"));
}

fn json() {
    let printed =
        report(&[&fixture("older"), &fixture("newer"), "--format", "json", "--fail-if", "change>5"]);
    ended(&printed, 0, &[]);
    let value: Value = serde_json::from_str(&printed.lines.join("\n")).expect("JSON");
    let text = include_str!("../../schema/report.json");
    let schema = jsonschema::validator_for(&serde_json::from_str(text).expect("JSON")).expect("a schema");
    let problems: Vec<String> = schema.iter_errors(&value).map(|problem| problem.to_string()).collect();
    assert!(problems.is_empty(), "{problems:#?}");
    assert_eq!((&value["version"], &value["exit_code"]), (&1.into(), &0.into()));
    assert_eq!(value["sources"][1]["label"], "[2] 6.18.44");
    assert_eq!(value["changes"].as_array().map(Vec::len), Some(3));
    // What is reported once is no result.
    let folder = Folder::new();
    let file = folder.write("report.json", &value.to_string());
    ended(&report(&[&file]), 2, &["it is a report, not a result"]);
}

fn gates() {
    let breached = report(&[&fixture("newer"), "--fail-if", "uring/epoll>1.00", "--format", "json"]);
    ended(&breached, 3, &["--fail-if: uring/epoll>1.00 holds in c4: "]);
    let value: Value = serde_json::from_str(&breached.lines.join("\n")).expect("JSON");
    assert_eq!(value["exit_code"], 3);
    let quiet = report(&[&fixture("newer"), "--fail-if", "uring/epoll>1.00", "-q"]);
    ended(&quiet, 3, &[]);
    assert_eq!(quiet.stderr, "");
    ended(&report(&[&fixture("newer"), "--fail-if", "uring/epoll>1.5"]), 0, &[]);
    let change = report(&[&fixture("newer"), &fixture("older"), "--fail-if", "change>1.02"]);
    ended(
        &change,
        3,
        &["change>1.02 holds in pingpong:64:100, uring against epoll, [2] 6.12.9 over [1] 6.18.44"],
    );
}

fn refusals() {
    let folder = Folder::new();
    let other =
        folder.write("other.json", r#"{"version": 9, "comparisons": [], "plan": {"program": "c10k 4.0"}}"#);
    let load = folder.write("load.json", r#"{"version": 1, "rates": {}, "ramp": {}}"#);
    let nothing = folder.file("nothing");
    let empty = Folder::new();
    folder.write("plan.json", "{}");
    let empty_name = empty.0.to_str().expect("plain");
    let unfinished = folder.0.to_str().expect("plain");
    let all = report(&[&other, &load, &nothing, empty_name, unfinished, &fixture("newer")]);
    let said = [
        "other.json: it is a result of version 9, written by c10k 4.0, and this program reads version 1",
        "load.json: it is the result of one c10k load",
        "nothing: there is no such file or folder",
        "there is no result.json in it",
        "c10k bench --resume",
    ];
    ended(&all, 2, &said);
    assert_eq!(all.stderr.lines().count(), 5, "{}", all.stderr);
    assert!(all.lines.is_empty(), "nothing is reported of the rest");
}

fn damaged() {
    let folder = Folder::new();
    let whole = fs::read_to_string(Path::new(&fixture("newer")).join("result.json")).expect("the fixture");
    let half = folder.write("half.json", &whole[..whole.len() / 2]);
    ended(&report(&[&half]), 1, &["half.json: it is damaged", "c10k bench --resume"]);
    let binary = folder.file("binary.json");
    fs::write(&binary, [0xff, 0xfe, 0x00]).expect("written");
    ended(&report(&[&binary]), 2, &["it is no text"]);
}

fn wrong_options() {
    ended(&report(&[]), 2, &["RESULT: none is named"]);
    let newer = fixture("newer");
    let all = report(&[&newer, "--format", "pdf", "--fail-if", "faster", "--fail-if", "a/b>x"]);
    ended(
        &all,
        2,
        &["text, markdown, html or json would do", "\"faster\" compares nothing", "\"x\" is no ratio"],
    );
    ended(&report(&[&newer, "--fail-if", "tokio/epoll>1"]), 2, &["it was not compared; uring/epoll or"]);
    let result = format!("{newer}/result.json");
    ended(&report(&[&newer, "-o", &result]), 2, &["--output: it would overwrite"]);
    ended(&report(&[&newer, "-o", "/nowhere/at/all.html"]), 1, &["cannot be written", "would do"]);
    ended(&report(&[&newer, "--colour"]), 2, &["--colour: there is no such option"]);
}

fn closed_output() {
    let launch = Launch::new(["report", &fixture("newer"), "--format", "html"]);
    let process = launch.output(Output::ClosedAfterFirstLine).spawn();
    assert!(process.next_line().is_some());
    ended(&process.wait(), 0, &[]);
}

fn clients() {
    let folder = Folder::new();
    let whole = fs::read_to_string(Path::new(&fixture("newer")).join("result.json")).expect("the fixture");
    let result: Value = serde_json::from_str(&whole).expect("JSON");
    let slice = &result["comparisons"][0]["slices"][0];
    let line =
        serde_json::json!({"slice": slice, "client": "c10k load told-here", "load": null, "histogram": null});
    folder.write("slices.ndjson", &format!("{line}\n{line}\nhalf a line"));
    folder.write("result.json", &whole);
    let printed = report(&[folder.0.to_str().expect("plain"), "--details"]);
    ended(&printed, 0, &[]);
    let told = printed.lines.iter().filter(|line| line.contains("c10k load told-here")).count();
    assert_eq!(told, 1, "{}", printed.said());
}
