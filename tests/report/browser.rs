//! The page in a real Chromium without a window: what it complains of, what it asks the network for, and
//! what the document is once it is read.
//!
//! Chromium asks for things of its own account; what a page asks for has the page as its initiator. No name
//! is resolved, so nothing leaves the machine in either case. A page that does everything wrong proves that
//! these eyes see.

use super::{Folder, ended, fixture, report};
use crate::skip::{Need, unless_missing};
use libtest_mimic::Trial;
use serde_json::Value;
use std::fs;
use std::process::{Command, Stdio};

/// The trials.
pub fn trials() -> Vec<Trial> {
    let rows: [(&str, fn()); 2] = [
        ("a_browser_shows_the_page_without_complaint_or_request", page),
        ("a_page_that_complains_and_asks_is_noticed", planted),
    ];
    let trial = |(name, body): (&str, fn())| {
        unless_missing(format!("report::{name}"), &[Need::Chromium], move || {
            body();
            Ok(())
        })
    };
    rows.into_iter().map(trial).collect()
}

/// What became of a page.
struct Visit {
    /// The document as the browser has it, written out again.
    document: String,
    /// What was said on the page's console.
    console: Vec<String>,
    /// The addresses the page asked for.
    requests: Vec<String>,
}

fn visit(folder: &Folder, file: &str) -> Visit {
    let (profile, log) = (folder.file("profile"), folder.file("net-log.json"));
    let output = Command::new("timeout")
        .args([
            "60",
            "chromium",
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
        ])
        .args(["--no-first-run", "--disable-background-networking", "--disable-component-update"])
        .args(["--disable-sync", "--disable-extensions", "--host-resolver-rules=MAP * ~NOTFOUND"])
        .args(["--enable-logging=stderr", "--dump-dom"])
        .arg(format!("--user-data-dir={profile}"))
        .arg(format!("--log-net-log={log}"))
        .arg(format!("file://{file}"))
        .stdin(Stdio::null())
        .output()
        .expect("it is installed");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{}: {said}", output.status);
    let console = said.lines().filter(|line| line.contains(":CONSOLE")).map(String::from).collect();
    let log = fs::read_to_string(log).expect("the log of the network");
    let document = String::from_utf8(output.stdout).expect("a text");
    Visit { document, console, requests: requests(&log) }
}

/// The addresses that have a page as their initiator: an event a line, as the browser writes them.
fn requests(log: &str) -> Vec<String> {
    let events =
        log.lines().filter_map(|line| serde_json::from_str::<Value>(line.trim_end_matches(',')).ok());
    let asked = events.filter_map(|event| {
        let parameters = &event["params"];
        let (url, initiator) = (parameters["url"].as_str()?, parameters["initiator"].as_str()?);
        (initiator != "not an origin").then(|| url.to_string())
    });
    asked.collect()
}

fn page() {
    let folder = Folder::new();
    for (name, results) in
        [("one.html", vec![fixture("newer")]), ("two.html", vec![fixture("older"), fixture("newer")])]
    {
        let file = folder.file(name);
        let mut words: Vec<&str> = results.iter().map(String::as_str).collect();
        words.extend(["-o", &file]);
        ended(&report(&words), 0, &[]);
        let visit = visit(&folder, &file);
        assert_eq!(visit.console, Vec::<String>::new(), "{name}: the browser complains");
        assert_eq!(visit.requests, Vec::<String>::new(), "{name}: a request leaves the file");
        assert!(visit.document.contains("</footer>"), "{name}: it was read to its end");
        let figures: Vec<&str> = visit.document.split("<figure").skip(1).collect();
        assert!(figures.len() >= 4, "{name}: {} figures", figures.len());
        for figure in figures {
            let figure = figure.split("</figure>").next().expect("something");
            let rows = figure.split("<tbody>").nth(1).map_or(0, |rows| rows.matches("<tr>").count());
            assert!(figure.contains("<svg") && rows > 0, "{name}: a picture without its numbers: {figure}");
        }
    }
}

fn planted() {
    let folder = Folder::new();
    let wrong =
        r#"<!DOCTYPE html><img src="http://outside.invalid/pixel.png"><script>nothing.here()</script>"#;
    let visit = visit(&folder, &folder.write("wrong.html", wrong));
    assert!(visit.console.iter().any(|line| line.contains("nothing is not defined")), "{:?}", visit.console);
    assert_eq!(visit.requests, ["http://outside.invalid/pixel.png"]);
}
