//! `c10k doctor`: what this kernel and these limits allow, tried, not guessed. Every feature of io_uring
//! that concerns networking, the limits that stop many connections, and what one of them costs.
//!
//! The tries run in another process of this program (`tries`): a kernel that kills or hangs one of them
//! costs one row. Changes nothing on the machine, and connects to nothing but loopback.

mod barred;
mod idle;
mod known_bad;
mod limits;
mod text;
mod tries;

use crate::features::Answers;
use crate::host;
use crate::result::doctor::{DOCTOR_VERSION, Doctor, Feature, Outcome, Query, Scale, Sufficiency};
use crate::ring::{attempts, probe};
use std::io::{self, Write};

/// What may be typed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Typed {
    /// `text` or `json`.
    pub format: Option<String>,
    /// Not for people: try the features from this one on, and print what comes of each.
    pub tries_from: Option<usize>,
}

/// Does what was typed. The exit code: 0 where uring would run, 6 where only epoll would, 2 for wrong
/// usage.
#[must_use]
pub fn doctor(typed: &Typed) -> u8 {
    const USAGE: u8 = 2;
    if let Some(first) = typed.tries_from {
        return tries::child(first);
    }
    let json = match typed.format.as_deref() {
        None | Some("text") => false,
        Some("json") => true,
        Some(other) => {
            let sentence = format!("c10k: --format: {other:?} is no format; text or json would do");
            let _ = writeln!(io::stderr(), "{sentence}");
            return USAGE;
        }
    };
    let doctor = examine(tries::by_child);
    let page = match json {
        true => serde_json::to_string(&doctor).expect("plain data") + "\n",
        false => text::page(&doctor),
    };
    // Nobody reads a standard output that is closed; the exit code says it then.
    let _ = io::stdout().write_all(page.as_bytes()).and_then(|()| io::stdout().flush());
    doctor.exit_code
}

/// Everything the doctor finds. `try_all` tries every feature, in order.
fn examine(try_all: fn() -> Vec<attempts::Outcome>) -> Doctor {
    const UNAVAILABLE: u8 = 6;
    let answers = probe::probe();
    let barrier = barred::barrier(&answers);
    let asked = attempts::ask();
    let tried = match &barrier {
        Some(barrier) if answers.barred.is_some() => tries::none(&barrier.sentence),
        _ => try_all(),
    };
    let features = features(&asked, tried, host::kernel_release().as_deref());
    let idle_connection = idle::measure();
    let limits = limits::all(&host::limits::limits(), &limits::Needs::of(&answers, &idle_connection));
    let mut doctor = Doctor {
        version: DOCTOR_VERSION,
        program: format!("c10k {}", env!("CARGO_PKG_VERSION")),
        kernel: host::kernel_release(),
        exit_code: if barrier.is_some() { UNAVAILABLE } else { 0 },
        backend: if barrier.is_some() { "epoll" } else { "uring" }.into(),
        verdict: String::new(),
        query: asked.query.map(|query| Query {
            request_opcodes: query.requests,
            register_opcodes: query.registers,
            features: query.features,
            setup_flags: query.setup,
            enter_flags: query.enter,
            entry_flags: query.entry,
        }),
        barrier,
        features,
        limits,
        idle_connection,
        remedies: Vec::new(),
    };
    doctor.verdict = verdict(&doctor, &answers);
    doctor.remedies = remedies(&doctor);
    doctor
}

/// The rows: what the kernel said, what came of the try, what is known of the release.
fn features(asked: &attempts::Asked, tried: Vec<attempts::Outcome>, release: Option<&str>) -> Vec<Feature> {
    let release = release.and_then(known_bad::release);
    let row = |((group, feature), outcome): ((&'static str, &attempts::Feature), attempts::Outcome)| {
        let said = asked.said(feature.ask);
        let known_bad = release.and_then(|release| known_bad::known_bad(feature.name, release));
        let mut tried = tries::tried(outcome);
        // What is refused does no harm; what works may be what loses bytes once in a million.
        if known_bad.is_some() && tried.outcome == Outcome::Works {
            tried.outcome = Outcome::KnownBad;
        }
        Feature {
            group: group.into(),
            name: feature.name.into(),
            dimension: feature.carries.map(str::to_string),
            since: feature.since.into(),
            asked_by: said.map(|(by, _)| by.to_lowercase()),
            said: said.map(|(_, yes)| yes),
            tried,
            known_bad,
        }
    };
    attempts::all().zip(tried).map(row).collect()
}

/// The first line: which server would run, and what there is to compare.
fn verdict(doctor: &Doctor, answers: &Answers) -> String {
    if let Some(barrier) = &doctor.barrier {
        return format!(
            "Only epoll would run here: {} c10k bench can compare variants of epoll, and other programs.",
            barrier.sentence
        );
    }
    let mut works: Vec<&str> = Vec::new();
    let mut missing: Vec<&str> = Vec::new();
    for feature in &doctor.features {
        let Some(value) = feature.dimension.as_deref() else { continue };
        let list = if feature.tried.outcome == Outcome::Works { &mut works } else { &mut missing };
        list.push(value);
    }
    works.retain(|value| !missing.contains(value));
    works.sort_unstable();
    works.dedup();
    missing.sort_unstable();
    missing.dedup();
    let but = match missing.as_slice() {
        [] => String::new(),
        missing => format!(" Not among them: {}.", missing.join(", ")),
    };
    let default = crate::features::uring(&crate::features::Typed::default(), answers, 10_000);
    let notes = default.map(|resolved| resolved.notes).unwrap_or_default();
    let instead = notes.iter().map(|note| format!(" {note}.")).collect::<String>();
    format!(
        "uring would run here; c10k bench can compare it with epoll, and {} values of its features.{but}{instead}",
        works.len()
    )
}

/// What would change what is refused or short, each once.
fn remedies(doctor: &Doctor) -> Vec<String> {
    let mut remedies: Vec<String> = doctor.barrier.iter().map(|barrier| barrier.remedy.clone()).collect();
    let blocked = || doctor.features.iter().filter(|feature| feature.tried.outcome == Outcome::Blocked);
    let mut whys: Vec<&str> = blocked().map(|feature| feature.tried.detail.as_str()).collect();
    whys.sort_unstable();
    whys.dedup();
    for why in whys {
        let names: Vec<&str> =
            blocked().filter(|feature| feature.tried.detail == why).map(|feature| &*feature.name).collect();
        let more = if names.len() > 1 { format!(" and {} more", names.len() - 1) } else { String::new() };
        remedies.push(format!("{}{more}: {why}", names[0]));
    }
    for limit in &doctor.limits {
        let mut last = "";
        for (index, scale) in limit.scales.iter().enumerate() {
            let Some(remedy) = scale.remedy.as_deref().filter(|&remedy| remedy != last) else { continue };
            last = remedy;
            let slower = if scale.verdict == Sufficiency::Slower { ", to be quick" } else { "" };
            let same = |other: &Scale| other.remedy.as_deref() == Some(remedy);
            let more = if limit.scales[index + 1..].iter().any(same) { " and more" } else { "" };
            let connections = text::whole(scale.connections);
            remedies.push(format!("{}, {connections} connections{more}{slower}: {remedy}", limit.name));
        }
    }
    remedies
}

#[cfg(test)]
mod tests;
