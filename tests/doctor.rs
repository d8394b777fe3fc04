//! `c10k doctor` against the kernel the tests run on: as it is, with io_uring forbidden by a seccomp filter,
//! and with a filter that kills a single try.

use crate::server::{Ended, Launch};
use crate::skip::{Need, unless_missing};
use libtest_mimic::{Failed, Trial};
use nix::errno::Errno;
use nix::libc;
use seccompiler::{BpfProgram, SeccompAction, SeccompFilter, apply_filter};
use serde_json::Value;
use std::thread;

/// The three calls of io_uring: what a container's profile forbids.
const URING: &[i64] = &[libc::SYS_io_uring_setup, libc::SYS_io_uring_enter, libc::SYS_io_uring_register];

/// The trials.
pub fn trials() -> Vec<Trial> {
    type Body = fn();
    let rows: [(&str, Body, &[Need]); 9] = [
        ("every_feature_is_answered_where_io_uring_runs", every_feature, &[Need::Uring]),
        ("what_the_server_says_of_a_feature_is_what_the_try_says", agrees_with_help, &[Need::Uring]),
        ("the_page_begins_with_the_verdict_and_is_no_wider_than_a_terminal", page, &[Need::Uring]),
        ("a_filter_that_forbids_io_uring_is_named", || barred(Errno::EPERM), &[]),
        ("a_filter_that_hides_io_uring_is_told_from_a_kernel_without_it", hidden, &[Need::Uring]),
        ("a_filter_that_lets_rings_be_made_and_not_used_is_named", half_barred, &[Need::Uring]),
        ("a_try_that_kills_its_process_costs_one_row", killed, &[Need::Uring]),
        ("a_format_that_is_none_is_a_usage_error", format, &[]),
        ("a_closed_standard_output_is_no_panic", closed, &[]),
    ];
    rows.into_iter()
        .map(|(name, body, needs)| {
            unless_missing(format!("doctor::{name}"), needs, move || {
                body();
                Ok::<(), Failed>(())
            })
        })
        .collect()
}

fn launch(words: &[&str]) -> Launch {
    Launch::new(["doctor"].iter().chain(words))
}

/// What it printed as JSON, and its exit code.
#[track_caller]
fn report(ended: &Ended) -> Value {
    assert_eq!(ended.signal, None, "{ended:?}");
    let report: Value = serde_json::from_str(&ended.lines.join("\n"))
        .unwrap_or_else(|error| panic!("{error}: {}", ended.said()));
    assert_eq!(report["exit_code"], ended.code.expect("a code"), "{}", ended.said());
    report
}

fn features(report: &Value) -> &Vec<Value> {
    report["features"].as_array().expect("a list")
}

#[track_caller]
fn row<'a>(report: &'a Value, name: &str) -> &'a Value {
    let found = features(report).iter().find(|row| row["name"] == name);
    found.unwrap_or_else(|| panic!("no row {name}"))
}

fn every_feature() {
    let report = report(&launch(&["--format", "json"]).end());
    assert_eq!((&report["exit_code"], &report["backend"]), (&0.into(), &"uring".into()));
    assert!(report["verdict"].as_str().unwrap().starts_with("uring would run here"), "{}", report["verdict"]);
    assert!(features(&report).len() > 90, "{} rows", features(&report).len());
    for row in features(&report) {
        assert!(!row["detail"].as_str().expect("a text").is_empty(), "{row}");
        // Nothing that was accepted may have done something else, whatever this kernel is.
        assert_ne!(row["outcome"], "wrong", "{row}");
        let refused = row["outcome"] == "refused" || row["outcome"] == "blocked";
        assert_eq!(row["errno"].is_string(), refused, "{row}");
        // A kernel that does not know an opcode or a flag cannot do what it is for.
        assert!(row["said"] != false || row["outcome"] != "works", "{row}");
    }
    for name in ["multishot receive", "buffer ring", "single issuer", "send", "accept"] {
        assert!(["works", "known_bad"].contains(&row(&report, name)["outcome"].as_str().unwrap()), "{name}");
    }
    for limit in report["limits"].as_array().expect("a list") {
        assert_eq!(limit["scales"].as_array().map(Vec::len), Some(3), "{limit}");
    }
    assert!(report["idle_connection"]["how"].as_str().is_some_and(|how| !how.is_empty()));
}

/// `--uring help` says yes or no to the values the server has; both asked this kernel, in their own way.
fn agrees_with_help() {
    let report = report(&launch(&["--format", "json"]).end());
    let help = Launch::new(["--uring", "help"]).end();
    let (mut dimension, mut compared) = (String::new(), 0);
    for line in &help.lines {
        if let (Some((name, _)), false) = (line.split_once(" - "), line.starts_with(' ')) {
            dimension = name.into();
        }
        let value = line.trim_start_matches([' ', '*']).split(' ').next().unwrap_or_default();
        let (yes, no) = (line.ends_with(" yes"), line.contains(" no ("));
        if !line.starts_with(' ') || !(yes || no) {
            continue;
        }
        let typed = format!("{dimension}={value}");
        let rows: Vec<&Value> = features(&report).iter().filter(|row| row["dimension"] == *typed).collect();
        let works = rows.iter().all(|row| ["works", "known_bad"].contains(&row["outcome"].as_str().unwrap()));
        assert!(rows.is_empty() || works == yes, "{line}: {rows:?}");
        compared += rows.len();
    }
    assert!(compared >= 8, "only {compared} rows were compared:\n{}", help.lines.join("\n"));
}

fn page() {
    let ended = launch(&[]).end();
    assert_eq!(ended.code, Some(0), "{}", ended.said());
    assert!(ended.lines[0].starts_with("uring would run here"), "{}", ended.lines[0]);
    for line in &ended.lines {
        assert!(line.chars().count() <= 100 && !line.contains('\u{1b}'), "{line}");
    }
    for heading in ["FEATURES", "LIMITS", "AN IDLE CONNECTION"] {
        assert!(ended.lines.iter().any(|line| line == heading), "no {heading}");
    }
}

/// Starts it under a filter that answers these calls so. A filter is for the thread that applies it and
/// for whom it starts, so it has one of its own.
fn under_filter(calls: &[i64], action: SeccompAction, words: &[&str]) -> Ended {
    let rules = calls.iter().map(|&call| (call, Vec::new())).collect();
    let architecture = std::env::consts::ARCH.try_into().expect("an architecture filters are made for");
    let filter = SeccompFilter::new(rules, SeccompAction::Allow, action, architecture).expect("a filter");
    let program: BpfProgram = filter.try_into().expect("a program");
    thread::scope(|scope| {
        let started = scope.spawn(|| {
            apply_filter(&program).expect("anybody may filter himself");
            launch(words).end()
        });
        started.join().expect("it was started")
    })
}

fn barred(errno: Errno) {
    let action = SeccompAction::Errno(errno as u32);
    let ended = under_filter(URING, action.clone(), &["--format", "json"]);
    let report = report(&ended);
    assert_eq!((&report["exit_code"], &report["backend"]), (&6.into(), &"epoll".into()));
    assert_eq!(report["barrier"]["by"], "seccomp", "{}", report["barrier"]);
    let remedy = report["remedies"][0].as_str().expect("a remedy");
    assert!(remedy.contains("seccomp") && remedy.contains("io_uring_setup"), "{remedy}");
    assert!(features(&report).iter().all(|row| row["outcome"] == "not_tried"), "{}", ended.said());
    // The limits do not depend on it.
    assert_eq!(report["limits"][0]["scales"][0]["needed"], 10_064);
    let page = under_filter(URING, action, &[]);
    assert_eq!(page.code, Some(6), "{}", page.said());
    assert!(page.lines[0].starts_with("Only epoll would run here: "), "{}", page.lines[0]);
    assert!(page.lines[..3].join(" ").contains("seccomp"), "{:?}", &page.lines[..3]);
}

/// Only a kernel with the switch (Linux 6.6) shows that it has io_uring all the same.
fn hidden() {
    if std::path::Path::new("/proc/sys/kernel/io_uring_disabled").exists() {
        barred(Errno::ENOSYS);
    }
}

fn half_barred() {
    let action = SeccompAction::Errno(Errno::EPERM as u32);
    let ended = under_filter(&[libc::SYS_io_uring_register], action, &["--format", "json"]);
    let report = report(&ended);
    assert_eq!(report["exit_code"], 6, "{}", ended.said());
    assert_eq!(report["barrier"]["by"], "seccomp", "{}", report["barrier"]);
    // What needs no register call works all the same; what needs one says what is in its way.
    assert_eq!(row(&report, "receive")["outcome"], "works", "{}", row(&report, "receive"));
    let blocked = row(&report, "buffer ring");
    assert_eq!((&blocked["outcome"], &blocked["errno"]), (&"blocked".into(), &"EPERM".into()), "{blocked}");
    assert!(blocked["detail"].as_str().unwrap().contains("seccomp"), "{blocked}");
}

/// The call that only one of the tries makes kills who makes it.
fn killed() {
    let ended = under_filter(&[libc::SYS_epoll_create1], SeccompAction::KillProcess, &["--format", "json"]);
    let report = report(&ended);
    assert_eq!(report["exit_code"], 0, "{}", ended.said());
    let victim = row(&report, "wait for epoll");
    assert_eq!(victim["outcome"], "wrong", "{victim}");
    assert!(victim["detail"].as_str().unwrap().contains("signal"), "{victim}");
    for name in ["multishot poll", "timeout", "probe"] {
        assert_eq!(row(&report, name)["outcome"], "works", "{}", row(&report, name));
    }
}

fn format() {
    let ended = launch(&["--format", "xml"]).end();
    assert_eq!(ended.code, Some(2), "{}", ended.said());
    assert!(
        ended.stderr.contains("--format") && ended.stderr.contains("text or json would do"),
        "{}",
        ended.stderr
    );
    let unknown = launch(&["--fromat", "json"]).end();
    assert_eq!(unknown.code, Some(2), "{}", unknown.said());
}

fn closed() {
    let ended = launch(&[]).through(&["sh", "-c", "exec \"$@\" >&-", "sh"]).end();
    assert!(matches!(ended.code, Some(0 | 6)), "{}", ended.said());
    assert_eq!(ended.stderr, "");
}
