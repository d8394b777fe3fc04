//! The doctor against the kernel the tests run on, in this process, and the two forms it prints.

use super::*;
use crate::result::doctor::{BarredBy, Barrier};
use crate::ring::attempts;
use std::path::Path;

fn in_this_process() -> Vec<attempts::Outcome> {
    attempts::all().map(|(_, feature)| feature.attempt()).collect()
}

fn schema() -> serde_json::Value {
    serde_json::to_value(schemars::schema_for!(Doctor)).unwrap()
}

/// `C10K_WRITE_SCHEMA=1 cargo test schema` writes it anew.
#[test]
fn the_schema_in_the_repository_is_that_of_the_types() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("schema/doctor.json");
    let text = serde_json::to_string_pretty(&schema()).unwrap() + "\n";
    if std::env::var_os("C10K_WRITE_SCHEMA").is_some() {
        std::fs::write(&path, &text).unwrap();
    }
    let committed = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(committed == text, "schema/doctor.json is not what the types say; C10K_WRITE_SCHEMA=1 writes it");
}

#[test]
fn what_is_printed_as_json_obeys_the_schema_and_reads_back() {
    let doctor = examine(in_this_process);
    let text = serde_json::to_string(&doctor).unwrap();
    let value: serde_json::Value = serde_json::from_str(&text).unwrap();
    let validator = jsonschema::validator_for(&schema()).unwrap();
    let errors: Vec<String> =
        validator.iter_errors(&value).map(|error| format!("{}: {error}", error.instance_path())).collect();
    assert!(errors.is_empty(), "{errors:#?}");
    let read: Doctor = serde_json::from_str(&text).unwrap();
    assert_eq!(serde_json::to_value(&read).unwrap(), value);
    assert!(!validator.is_valid(&serde_json::json!({"version": 1})));
    assert_eq!(read.features.len(), attempts::count());
}

fn doctor_of(feature: Feature, barrier: Option<Barrier>) -> Doctor {
    Doctor {
        version: DOCTOR_VERSION,
        program: "c10k 0".into(),
        kernel: Some("6.14.3".into()),
        exit_code: 0,
        backend: "uring".into(),
        verdict: "uring would run here.".into(),
        barrier,
        query: None,
        features: vec![feature],
        limits: Vec::new(),
        idle_connection: Default::default(),
        remedies: vec!["one ".repeat(60)],
    }
}

fn working(name: &'static str) -> Vec<Feature> {
    let outcomes = attempts::all().map(|_| attempts::Outcome::Works("seen".into())).collect();
    let rows = features(&attempts::Asked::default(), outcomes, Some("6.14.3-generic"));
    rows.into_iter().filter(|row| row.name == name).collect()
}

#[test]
fn what_works_on_a_release_that_is_known_for_losing_bytes_is_called_bad_with_the_report() {
    let row = working("receive bundle").remove(0);
    assert_eq!(row.tried.outcome, Outcome::KnownBad);
    let page = text::page(&doctor_of(row, None));
    assert!(page.contains("KNOWN BAD") && page.contains("liburing/issues/1409"), "{page}");
    assert_eq!(working("send").remove(0).tried.outcome, Outcome::Works);
}

#[test]
fn what_a_known_bad_release_refuses_stays_refused() {
    let outcomes = attempts::all().map(|_| attempts::Outcome::Refused("EINVAL".into())).collect();
    let rows = features(&attempts::Asked::default(), outcomes, Some("6.14.3"));
    assert!(rows.iter().all(|row| row.tried.outcome == Outcome::Refused));
    assert!(rows.iter().any(|row| row.known_bad.is_some()));
}

#[test]
fn no_line_is_longer_than_a_hundred_columns_and_the_verdict_is_the_first() {
    let page = text::page(&examine(in_this_process));
    for line in page.lines() {
        assert!(line.chars().count() <= 100, "{line}");
    }
    let first = page.lines().next().unwrap();
    assert!(
        first.starts_with("uring would run here") || first.starts_with("Only epoll would run"),
        "{first}"
    );
    let long = text::page(&doctor_of(working("send").remove(0), None));
    assert!(long.lines().all(|line| line.chars().count() <= 100), "{long}");
}

#[test]
fn a_barrier_makes_epoll_the_verdict_and_its_remedy_the_first() {
    let barrier = Barrier { by: BarredBy::Seccomp, sentence: "a filter.".into(), remedy: "allow it".into() };
    let mut doctor = doctor_of(working("send").remove(0), Some(barrier));
    doctor.verdict = verdict(&doctor, &Answers::default());
    assert!(doctor.verdict.starts_with("Only epoll would run here: a filter."), "{}", doctor.verdict);
    assert_eq!(remedies(&doctor)[0], "allow it");
}

#[test]
fn a_remedy_of_many_is_told_once() {
    let why = "a filter.".to_string();
    let outcomes = attempts::all()
        .map(|_| attempts::Outcome::Blocked { errno: "EPERM".into(), why: why.clone() })
        .collect();
    let mut doctor = doctor_of(working("send").remove(0), None);
    doctor.features = features(&attempts::Asked::default(), outcomes, None);
    let told = remedies(&doctor);
    assert_eq!(told, [format!("receive and {} more: a filter.", attempts::count() - 1)]);
    let scale = |connections, remedy: &str| Scale {
        connections,
        needed: Some(1),
        verdict: Sufficiency::Short,
        remedy: Some(remedy.into()),
    };
    doctor.features.clear();
    doctor.limits = vec![crate::result::doctor::Limit {
        name: "backlog".into(),
        about: String::new(),
        unit: String::new(),
        found: Some(0),
        scales: vec![scale(10_000, "a"), scale(100_000, "b"), scale(1_000_000, "b")],
    }];
    assert_eq!(
        remedies(&doctor),
        ["backlog, 10,000 connections: a", "backlog, 100,000 connections and more: b"]
    );
}
