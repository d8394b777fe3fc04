//! What a load is: every setting, decided. Made from what was typed by `check`; nothing here is an
//! `Option` that stands for a default. Pure.

use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

/// One load.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// What the connections do.
    pub workload: Workload,
    /// Where to.
    pub target: SocketAddr,
    /// Connections held at once.
    pub connections: u32,
    /// Bytes of a message; each message's size is drawn from it.
    pub size: RangeInclusive<u32>,
    /// Messages a connection may have on their way at once.
    pub depth: u32,
    /// When messages are sent.
    pub arrivals: Arrivals,
    /// What ends the measurement.
    pub end: End,
    /// Load before the measurement.
    pub warmup: Duration,
    /// How long after the window answers are awaited, and an open loop still sends what was due in it; a
    /// connection that is owed bytes so long after the window and after the last send is stuck.
    pub grace: Duration,
    /// Threads, each with a ring of its own.
    pub threads: usize,
    /// The CPUs the threads are pinned to in turn; none: not pinned.
    pub cpus: Vec<usize>,
    /// What carries the messages.
    pub engine: Engine,
    /// Whether sockets are slots of the ring's table instead of descriptors.
    pub direct: bool,
    /// Addresses to connect from, in turn; none: the kernel's choice.
    pub sources: Vec<IpAddr>,
    /// New connections a second; `None` adapts.
    pub connect_rate: Option<f64>,
    /// How long one connection may take to be made.
    pub connect_timeout: Duration,
    /// Whether every byte received is compared. Off only to measure what it costs.
    pub verify: bool,
    /// Whether times are recorded. Off only to measure what it costs.
    pub latency: bool,
    /// What the payload and the schedule are drawn from.
    pub seed: u64,
    /// Time between two lines of progress and between two intervals of the result.
    pub interval: Duration,
    /// Who tells what the server spends.
    pub server_stats: StatsFrom,
}

/// What the connections do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Workload {
    /// A message, its echo, the next message.
    PingPong,
    /// Both directions full.
    Stream,
    /// Connect, send, receive, close, over and over.
    Churn,
    /// Connections that are held, each of which echoes now and then.
    Idle,
}

impl Workload {
    /// As it is typed.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::PingPong => "pingpong",
            Self::Stream => "stream",
            Self::Churn => "churn",
            Self::Idle => "idle",
        }
    }
}

/// When messages are sent.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Arrivals {
    /// When the answer has come: the server sets the pace (a closed loop).
    Closed,
    /// At times fixed beforehand: messages a second over all connections (an open loop).
    Open {
        /// Messages a second, over all connections and threads.
        rate: f64,
        /// How the times lie.
        spacing: Spacing,
    },
}

/// How the times of an open loop lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spacing {
    /// At equal distances.
    Uniform,
    /// As independent users would: exponential distances.
    Poisson,
}

/// What ends the measurement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// A time.
    After(Duration),
    /// So many messages, over all connections.
    Messages(u64),
}

/// What carries the messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Engine {
    /// By completion: io_uring.
    Uring,
    /// By readiness: epoll.
    Epoll,
}

/// Who tells what the server spends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum StatsFrom {
    /// Nobody.
    #[default]
    None,
    /// /proc, and the account of a process of this host.
    Pid(u32),
    /// Somebody on the server's host.
    Agent(SocketAddr),
    /// /proc, for the process of this host that listens at the target.
    Auto,
}

/// Where the result goes.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Outputs {
    /// How it is printed.
    pub format: Format,
    /// Whether each interval gets a line.
    pub interval_lines: bool,
    /// The percentiles of the table, ascending, in per cent.
    pub percentiles: Vec<f64>,
    /// Whether standard error stays empty but for why it failed.
    pub quiet: bool,
    /// The file for the result instead of standard output.
    pub file: Option<PathBuf>,
    /// The file for the percentiles of the response time, as HdrHistogram prints them.
    pub hdr: Option<PathBuf>,
    /// The file for the interval histograms, as an HdrHistogram V2 log.
    pub hlog: Option<PathBuf>,
}

/// How the result is printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// A table for people.
    #[default]
    Text,
    /// One object.
    Json,
    /// One object a line: each interval, then the result.
    Ndjson,
    /// A line of names and a line of values for each interval and the result.
    Csv,
}

/// The connections of one thread, numbered over the whole load.
#[must_use]
pub fn share(connections: u32, threads: usize, thread: usize) -> std::ops::Range<u32> {
    let edge = |thread: usize| (u64::from(connections) * thread as u64 / threads as u64) as u32;
    edge(thread)..edge(thread + 1)
}
