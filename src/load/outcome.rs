//! What a run came to, all threads added up, and who is told while it runs. It is what the judge, the
//! printed table and the files are made of, so it holds facts and no opinion. All times of the run are
//! nanoseconds since its origin. Pure.

use super::payload::Wrong;
use super::tally::{Interval, Spread, Stuck};
use crate::result::server_stats::ServerStats;
use std::time::{Duration, SystemTime};

/// A run that is over, in order or not. What could not be found out is `None`; whatever was measured
/// before a failure or a signal stands in it.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The wall clock at the origin of the run.
    pub began: SystemTime,
    /// From the origin until the last connection stood or was given up.
    pub ramp_took: Duration,
    /// Connections that stood at the end of the ramp.
    pub connected: u32,
    /// Connections that were given up in the ramp.
    pub given_up: u32,
    /// The window, first and last edge; equal where none was opened. The last edge is where it was really
    /// closed: by its time, by the last message, or by a signal.
    pub window: (u64, u64),
    /// How long each connection of the ramp took, and what went wrong in it.
    pub ramp: Interval,
    /// Everything of the window, completions of the grace that belong to it included.
    pub total: Interval,
    /// What went wrong, and was finished, after the window: in the grace and while closing.
    pub after: Interval,
    /// What each interval of the window came to, in order; without its distributions, so that a long run
    /// stays small. The distributions go to the [`Observer`] as they come.
    pub rows: Vec<Row>,
    /// What each thread cost in the window.
    pub threads: Vec<ThreadCost>,
    /// What the whole process cost in the window, threads that only watch included.
    pub process_cpu: Option<Duration>,
    /// How evenly the connections were served.
    pub spread: Spread,
    /// Connections still owed bytes when the grace was over.
    pub stuck: Stuck,
    /// Bytes that were wrong: the first few of each thread.
    pub wrong: Vec<Wrong>,
    /// Connections on which bytes were wrong.
    pub wrong_connections: u64,
    /// Times completions did not fit in a queue.
    pub overflows: u64,
    /// Times a receive found no buffer.
    pub empty_pool: u64,
    /// Completions for connections that were over, which must not happen.
    pub stale: u64,
    /// What carried the messages: the features in force, by name; empty where no thread came so far.
    pub features: Vec<(&'static str, String)>,
    /// What the machine did in the window; `None` where /proc cannot be read.
    pub machine: Option<Machine>,
    /// What the server says of itself, over the same window.
    pub server: Option<ServerCost>,
    /// The signal that ended the run before its time: SIGINT or SIGTERM.
    pub interrupted: Option<i32>,
    /// Why the run failed as a whole, a sentence: nobody listened, a thread gave up, no connection stood.
    pub failure: Option<String>,
}

/// One interval of the window, in numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Row {
    /// First edge, nanoseconds since the origin.
    pub begin: u64,
    /// Last edge.
    pub end: u64,
    /// Messages whose last byte came back in it.
    pub messages: u64,
    /// Bytes the kernel took.
    pub bytes_sent: u64,
    /// Bytes that came back.
    pub bytes_received: u64,
    /// Connections made and ended (churn).
    pub connections: u64,
    /// Connections open at its end.
    pub open: u32,
    /// Troubles, of whatever kind.
    pub troubles: u64,
    /// Percentiles of the interval, nanoseconds: of the response in an open loop, else of the service.
    pub p50: Option<u64>,
    /// See `p50`.
    pub p99: Option<u64>,
    /// The longest one.
    pub max: Option<u64>,
}

/// What one thread cost in the window.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ThreadCost {
    /// CPU time.
    pub cpu: Duration,
    /// System calls.
    pub system_calls: u64,
}

/// What the machine did in the window. Shares are of all CPUs together, from 0 to 1.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Machine {
    /// Time that was not idle and not stolen.
    pub busy: f64,
    /// Time in soft interrupts.
    pub softirq: f64,
    /// Time the hypervisor gave to others.
    pub steal: f64,
    /// Share of the window in which some task waited for a CPU (pressure stall information).
    pub pressure: Option<f64>,
    /// CPUs that were counted.
    pub cpus: usize,
}

/// What the server spent in the window, by its own account and the kernel's.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ServerCost {
    /// The numbers.
    pub stats: Option<ServerStats>,
    /// What was asked for and could not be had, a sentence.
    pub missing: Option<String>,
}

impl ServerCost {
    /// CPU time, all its threads.
    #[must_use]
    pub fn cpu(&self) -> Option<Duration> {
        self.stats.as_ref().map(|stats| Duration::from_micros(stats.cpu_us))
    }

    /// System calls, by its own account.
    #[must_use]
    pub fn system_calls(&self) -> Option<u64> {
        self.stats.as_ref()?.account.as_ref()?.counters.get("system_calls").copied()
    }
}

impl From<Result<ServerStats, String>> for ServerCost {
    fn from(observed: Result<ServerStats, String>) -> Self {
        match observed {
            Ok(stats) => Self { stats: Some(stats), missing: None },
            Err(sentence) => Self { stats: None, missing: Some(format!("--server-stats: {sentence}")) },
        }
    }
}

/// Who is told what happens while it happens. Called by the main thread, never by a thread that measures.
pub trait Observer {
    /// Several times a second during the ramp: connections that stand, and that were given up.
    fn ramping(&mut self, connected: u32, given_up: u32) {
        let _ = (connected, given_up);
    }

    /// The ramp is over and the load begins; `ramp` is what the connections took.
    fn ramped(&mut self, connected: u32, given_up: u32, took: Duration, ramp: &Interval) {
        let _ = (connected, given_up, took, ramp);
    }

    /// Several times a second during the load: time since the window opened (`None` in the warm-up) and
    /// connections that are open now.
    fn passing(&mut self, measured: Option<Duration>, open: u32) {
        let _ = (measured, open);
    }

    /// An interval is over on all threads: its numbers, and all its distributions.
    fn interval(&mut self, row: &Row, interval: &Interval) {
        let _ = (row, interval);
    }

    /// Somebody asked for a snapshot (SIGUSR1): everything of the window so far, and the time it covers.
    fn snapshot(&mut self, measured: Duration, total: &Interval) {
        let _ = (measured, total);
    }

    /// Something worth a line on standard error: a sentence.
    fn notice(&mut self, sentence: &str) {
        let _ = sentence;
    }
}

/// Watches nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct Unobserved;

impl Observer for Unobserved {}

impl Outcome {
    /// Length of the window.
    #[must_use]
    pub fn measured(&self) -> Duration {
        Duration::from_nanos(self.window.1.saturating_sub(self.window.0))
    }

    /// Messages a second over the window; 0 where there was none.
    #[must_use]
    pub fn rate(&self) -> f64 {
        per_second(self.total.messages, self.measured())
    }

    /// CPU time of all load threads in the window.
    #[must_use]
    pub fn cpu(&self) -> Duration {
        self.threads.iter().map(|thread| thread.cpu).sum()
    }

    /// Everything that went wrong: in the ramp, in the window, after it.
    #[must_use]
    pub fn troubles(&self) -> super::trouble::Troubles {
        let mut all = self.ramp.troubles.clone();
        all.add(&self.total.troubles);
        all.add(&self.after.troubles);
        all
    }
}

impl Row {
    /// The numbers of `interval`, which lay between these edges.
    #[must_use]
    pub fn of(begin: u64, end: u64, interval: &Interval) -> Self {
        let times = if interval.response.samples() > 0 { &interval.response } else { &interval.service };
        Self {
            begin,
            end,
            messages: interval.messages,
            bytes_sent: interval.bytes_sent,
            bytes_received: interval.bytes_received,
            connections: interval.connections,
            open: interval.open,
            troubles: interval.troubles.total(),
            p50: times.percentile(50.0),
            p99: times.percentile(99.0),
            max: times.max(),
        }
    }
}

/// `count` a second over `time`; 0 over no time.
#[must_use]
pub fn per_second(count: u64, time: Duration) -> f64 {
    let seconds = time.as_secs_f64();
    if seconds > 0.0 { count as f64 / seconds } else { 0.0 }
}
