//! The load generator as a child process, and what it printed.

use crate::server::{Ended, GUARD, Launch, Process};
use crate::skip::Need;
use nix::sys::signal::Signal;
use serde_json::Value;
use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, Instant};

/// What carries the messages of a load.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Engine {
    /// By completion.
    Uring,
    /// By readiness.
    Epoll,
}

/// Both.
pub const ENGINES: [Engine; 2] = [Engine::Uring, Engine::Epoll];

impl Engine {
    /// Its name, in the command line too.
    pub fn name(self) -> &'static str {
        match self {
            Engine::Uring => "uring",
            Engine::Epoll => "epoll",
        }
    }

    /// What it needs.
    pub fn needs(self) -> Vec<Need> {
        if self == Engine::Uring { vec![Need::Uring] } else { Vec::new() }
    }
}

/// The command line of a load, its result printed as one object; `words` are separated by blanks.
pub fn load(engine: Engine, workload: &str, target: SocketAddr, words: &str) -> Launch {
    load_as("json", engine, workload, target, words)
}

/// The same, its result printed as asked.
pub fn load_as(format: &str, engine: Engine, workload: &str, target: SocketAddr, words: &str) -> Launch {
    let target = target.to_string();
    let fixed = ["load", workload, &target, "--engine", engine.name(), "--format", format];
    Launch::new(fixed.into_iter().chain(words.split_whitespace()))
}

/// A load that runs and prints a line for each interval; the first have been read, up to one that tells of a
/// message.
#[track_caller]
pub fn running(engine: Engine, workload: &str, target: SocketAddr, words: &str) -> Process {
    running_until(1, engine, workload, target, words)
}

/// The same, up to the line with which they tell of so many messages.
#[track_caller]
pub fn running_until(
    messages: u64,
    engine: Engine,
    workload: &str,
    target: SocketAddr,
    words: &str,
) -> Process {
    let process = load_as("ndjson", engine, workload, target, &format!("-i 50ms {words}")).spawn();
    let mut told = 0;
    while told < messages {
        let line = line(&process);
        assert_eq!(line["event"], "interval", "{line}");
        told += line["messages"].as_u64().expect("a number");
    }
    process
}

/// The next line it prints.
#[track_caller]
pub fn line(process: &Process) -> Value {
    let line = process.next_line().unwrap_or_else(|| panic!("no line: {}", process.stderr()));
    serde_json::from_str(&line).expect("a JSON line")
}

/// The end of a load that prints lines: the last one is the result.
#[track_caller]
pub fn end(process: Process) -> Ran {
    let mut ended = process.wait();
    let last = ended.lines.pop().unwrap_or_else(|| panic!("no result: {ended:?}"));
    ended.lines = vec![last];
    let ran = Ran::of(ended);
    assert_eq!(ran.at("event"), "result");
    ran
}

/// Waits until a load takes its signals itself; until then they would end it.
pub fn wait_for_signals(process: &Process) {
    wait_for_mask(process, "SigBlk:", Signal::SIGUSR1, true);
}

/// Sends a signal, and waits until the load has taken it: two that wait are one.
pub fn signal_and_see(process: &Process, signal: Signal) {
    process.signal(signal);
    wait_for_mask(process, "ShdPnd:", signal, false);
}

/// Waits until a signal is in a mask of the process, or is not.
fn wait_for_mask(process: &Process, name: &str, signal: Signal, set: bool) {
    let bit = 1u64 << (signal as u32 - 1);
    let mask = || {
        let status = std::fs::read_to_string(format!("/proc/{}/status", process.pid)).ok()?;
        let mask = status.lines().find_map(|line| line.strip_prefix(name))?.trim().to_owned();
        u64::from_str_radix(&mask, 16).ok()
    };
    let from = Instant::now();
    while mask().is_none_or(|mask| (mask & bit != 0) != set) {
        assert!(from.elapsed() < GUARD && process.is_alive(), "takes no signals: {}", process.stderr());
        thread::sleep(Duration::from_millis(2));
    }
}

/// A load that has ended, and its result.
pub struct Ran {
    /// How it ended.
    pub ended: Ended,
    /// The object it printed.
    pub result: Value,
}

/// Runs it to its end, which has to come with a result.
#[track_caller]
pub fn run(launch: Launch) -> Ran {
    Ran::of(launch.end())
}

impl Ran {
    /// Reads what it printed.
    #[track_caller]
    pub fn of(ended: Ended) -> Self {
        assert!(!ended.stderr.contains("panicked"), "{}", ended.said());
        let text = ended.lines.join("\n");
        let result = serde_json::from_str(&text)
            .unwrap_or_else(|error| panic!("the result is not JSON ({error}): {}", ended.said()));
        Self { ended, result }
    }

    /// It ended with this code, by its own account too.
    #[track_caller]
    pub fn code(self, code: i32) -> Self {
        assert_eq!((self.ended.code, self.ended.signal), (Some(code), None), "{}", self.ended.said());
        assert_eq!(self.result["exit_code"], code, "the result says another exit code");
        self
    }

    /// Its standard error contains all of these.
    #[track_caller]
    pub fn says(self, words: &[&str]) -> Self {
        says(&self.ended, words);
        self
    }

    /// A number of the result, by its path.
    #[track_caller]
    pub fn number(&self, path: &str) -> u64 {
        self.at(path).as_u64().unwrap_or_else(|| panic!("{path} is no whole number: {}", self.at(path)))
    }

    /// A number of the result, by its path.
    #[track_caller]
    pub fn float(&self, path: &str) -> f64 {
        self.at(path).as_f64().unwrap_or_else(|| panic!("{path} is no number: {}", self.at(path)))
    }

    /// What stands at a path, as `rates/messages`.
    #[track_caller]
    pub fn at(&self, path: &str) -> &Value {
        let pointer = format!("/{path}");
        self.result.pointer(&pointer).unwrap_or_else(|| panic!("no {path} in {}", self.result))
    }

    /// How often this went wrong, by phase and cause or name of the kernel's error.
    pub fn errors(&self, phase: &str, cause: &str) -> u64 {
        let all = self.at("errors").as_array().expect("a list").iter();
        let these = all
            .filter(|error| error["phase"] == phase && (error["cause"] == cause || error["errno"] == cause));
        these.map(|error| error["count"].as_u64().expect("a number")).sum()
    }

    /// Nothing went wrong: so many messages, each byte compared.
    #[track_caller]
    pub fn is_clean(&self) {
        assert_eq!(self.ended.code, Some(0), "{}", self.ended.said());
        assert_eq!(self.at("errors"), &serde_json::json!([]), "{}", self.ended.said());
        assert_eq!((self.number("verification/wrong_connections"), self.number("stuck/count")), (0, 0));
        assert!(
            self.number("rates/messages") > 0 && self.number("verification/bytes") > 0,
            "{}",
            self.result
        );
    }
}

/// It ended with this code and a sentence that contains all of these words.
#[track_caller]
pub fn refused(ended: &Ended, code: i32, words: &[&str]) {
    assert_eq!((ended.code, ended.signal), (Some(code), None), "{}", ended.said());
    says(ended, words);
}

#[track_caller]
fn says(ended: &Ended, words: &[&str]) {
    for word in words {
        assert!(ended.stderr.contains(word), "{word:?} is not in: {}", ended.stderr);
    }
    assert!(!ended.stderr.contains("panicked"), "{}", ended.stderr);
}
