//! The versioned types of what `c10k load` prints as JSON: each interval, snapshots, and the result.
//! Units stand in the names: `_us` microseconds, `_ns` nanoseconds, `_bytes`, `_per_second`. What could
//! not be found out, and a percentile that too few samples back, is `null`. The schema of all of it is
//! `schema/load.json`.

use super::Named;
use super::server_stats::ServerStats;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The version of the lines below. A field is never given another meaning under the same version.
pub const LOAD_VERSION: u32 = 1;

/// One line of `c10k load --format ndjson`; with `--format json` the result alone.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum LoadLine {
    /// One interval of the window.
    Interval(Interval),
    /// The window so far: somebody sent SIGUSR1.
    Snapshot(Snapshot),
    /// What it came to. The last line.
    Result(Box<LoadResult>),
}

/// What a load came to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct LoadResult {
    /// The version of this object.
    pub version: u32,
    /// The program and its version.
    pub program: String,
    /// The command that repeats it, every default resolved.
    pub command: String,
    /// When it began, seconds since 1970.
    pub began_unix_seconds: f64,
    /// How far the numbers can be believed.
    pub verdict: Verdict,
    /// What the program exits with.
    pub exit_code: u8,
    /// Whether a signal ended it before its time.
    pub interrupted: bool,
    /// Why it failed, a sentence each; empty when it did not.
    pub failures: Vec<String>,
    /// What was done.
    pub plan: Plan,
    /// Where it was done.
    pub environment: Environment,
    /// Making the connections, outside the window.
    pub ramp: Ramp,
    /// When was measured, counted from the beginning of the run.
    pub window: Window,
    /// How much was done in the window.
    pub rates: Rates,
    /// From the time a message should have been sent, by the schedule, to its last byte; `null` in a closed
    /// loop, which has no schedule. Every message that was due in the window is in it, exactly once, however
    /// late it was sent: what was due in the window is still sent in the grace after it, and awaited. Those
    /// that had not come back even then (`rates.unsent` and `rates.unanswered`) are in it with the time they
    /// had waited when the run gave up; their true ones are longer, so that a percentile among them is a
    /// lower bound.
    pub response_latency_us: Option<Latency>,
    /// From the time a message was sent to its last byte; in a closed loop that is the closed-loop round
    /// trip, which hides the time a slow server kept later messages from being sent. `null` for stream.
    pub service_latency_us: Option<Latency>,
    /// From the SYN to the connection that stands (churn).
    pub connect_latency_us: Option<Latency>,
    /// From the close to the kernel's answer (churn).
    pub close_latency_us: Option<Latency>,
    /// How late messages were sent though their connection was free: the client's own fault (open loop).
    pub schedule_lag_us: Option<Latency>,
    /// What it cost.
    pub cost: Cost,
    /// How evenly the connections were served.
    pub spread: Spread,
    /// What went wrong with connections, the most frequent first.
    pub errors: Vec<Trouble>,
    /// What came of comparing the bytes.
    pub verification: Verification,
    /// Connections still owed bytes when the grace was over.
    pub stuck: Stuck,
    /// The conditions that must not hold.
    pub fail_if: Vec<Gate>,
    /// The search for the highest rate, where one was asked for.
    pub find_rate: Option<FindRate>,
    /// What each interval of the window came to.
    pub intervals: Vec<Interval>,
}

/// How far the numbers can be believed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Verdict {
    /// In one word.
    pub word: VerdictWord,
    /// Why not, a sentence each with cause and remedy.
    pub reasons: Vec<String>,
}

/// The verdict in one word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum VerdictWord {
    /// Nothing speaks against the numbers.
    Valid,
    /// The client was the limit, or the run was disturbed.
    Suspect,
    /// There is nothing to be judged: nothing was measured.
    Invalid,
}

/// What was done: every setting in force.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Plan {
    /// `pingpong`, `stream`, `churn` or `idle`.
    pub workload: String,
    /// Address and port.
    pub target: String,
    /// Connections held at once.
    pub connections: u32,
    /// Bytes of the smallest message.
    pub size_min_bytes: u32,
    /// Bytes of the largest message.
    pub size_max_bytes: u32,
    /// Messages a connection may have on their way.
    pub depth: u32,
    /// `open` (by a schedule) or `closed` (the server sets the pace).
    #[serde(rename = "loop")]
    pub kind_of_loop: String,
    /// `poisson` or `uniform`; `null` in a closed loop.
    pub arrival: Option<String>,
    /// What the schedule asks for, in a churn connections with a message each; `null` in a closed loop.
    pub intended_messages_per_second: Option<f64>,
    /// How long was to be measured; `null` where messages were counted.
    pub duration_us: Option<u64>,
    /// How many messages were to be measured; `null` where it was a time.
    pub messages: Option<u64>,
    /// Load before the window.
    pub warmup_us: u64,
    /// How long the last answers were awaited.
    pub grace_us: u64,
    /// Threads.
    pub threads: usize,
    /// The CPUs they were pinned to in turn; empty: not pinned.
    pub cpus: Vec<usize>,
    /// `uring` or `epoll`.
    pub engine: String,
    /// Whether sockets were slots of the rings.
    pub direct: bool,
    /// How many source addresses connections came from; 0: the kernel's choice.
    pub sources: usize,
    /// Whether every byte was compared.
    pub verify: bool,
    /// What payload and schedule were drawn from.
    pub seed: u64,
}

/// Where it was done.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Environment {
    /// The kernel's release.
    pub kernel: Option<String>,
    /// What the processor calls itself.
    pub cpu_model: Option<String>,
    /// The CPUs this process may run on.
    pub cpus: Vec<usize>,
    /// Bytes of memory there are.
    pub memory_bytes: Option<u64>,
    /// Descriptors this process may have.
    pub descriptors: Option<u64>,
    /// First and last port the kernel gives to who connects.
    pub local_ports: Option<(u16, u16)>,
    /// Tasks that ran or waited before the run, averaged over 1, 5 and 15 minutes.
    pub load_average: Option<[f64; 3]>,
    /// Whether server and client share this machine: then only ratios of runs on it mean something.
    pub loopback: bool,
    /// What carried the messages.
    #[serde(default)]
    pub client: Client,
}

/// What carried the messages: the client's engine, and what it was set up with, the same on each thread.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Client {
    /// `uring` or `epoll`.
    pub engine: String,
    /// The features and sizes in force, by the names they have in the server; empty where the run ended
    /// before the engine was set up.
    pub features: Named<String>,
}

/// Making the connections.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Ramp {
    /// How long it took.
    pub took_us: u64,
    /// Connections that stood at its end.
    pub connected: u32,
    /// Connections that were given up.
    pub given_up: u32,
    /// Connections a second.
    pub connections_per_second: f64,
    /// From the SYN to the connection that stands.
    pub connect_latency_us: Option<Latency>,
}

/// When was measured.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Window {
    /// Its first edge.
    pub begin_us: u64,
    /// How long it was.
    pub measured_us: u64,
}

/// How much was done in the window.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Rates {
    /// Messages whose last byte came back.
    pub messages: u64,
    /// The same a second.
    pub messages_per_second: f64,
    /// The same over what the schedule asked for; `null` in a closed loop.
    pub achieved_of_intended: Option<f64>,
    /// Messages that were due in the window by the schedule and had not been sent when the grace ended; 0 in
    /// a closed loop, which has no schedule. Each is in the response latency with the time it had waited when
    /// the run gave up.
    #[serde(default)]
    pub unsent: u64,
    /// Messages of the window that were sent and not answered: their connection was still owed them when the
    /// run gave up, or was lost (a life that a churn lost is in `errors` alone). In an open loop each is in
    /// the response latency with the time it had waited by then.
    #[serde(default)]
    pub unanswered: u64,
    /// The fewest messages a second of a whole interval.
    pub worst_interval_messages_per_second: Option<f64>,
    /// Bytes the kernel took.
    pub bytes_sent: u64,
    /// Bytes that came back.
    pub bytes_received: u64,
    /// Bytes sent a second.
    pub bytes_sent_per_second: f64,
    /// Bytes received a second.
    pub bytes_received_per_second: f64,
    /// Connections made, used and closed (churn).
    pub connections: u64,
    /// The same a second.
    pub connections_per_second: f64,
}

/// A distribution of times, microseconds. A percentile with fewer than ten samples beyond it is `null`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Latency {
    /// Half of the samples are not longer.
    pub p50: Option<f64>,
    /// 90 % are not longer.
    pub p90: Option<f64>,
    /// 99 % are not longer.
    pub p99: Option<f64>,
    /// 99.9 % are not longer.
    pub p99_9: Option<f64>,
    /// 99.99 % are not longer.
    pub p99_99: Option<f64>,
    /// The longest.
    pub max: Option<f64>,
    /// The mean.
    pub mean: Option<f64>,
    /// How many there are.
    pub samples: u64,
    /// Other percentiles that were asked for, by name, such as `p75`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub more: BTreeMap<String, Option<f64>>,
}

/// What it cost in the window.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Cost {
    /// CPU time of the load threads for a message.
    pub client_cpu_ns_per_message: Option<f64>,
    /// CPU time of the load threads for a KiB received.
    pub client_cpu_ns_per_kib: Option<f64>,
    /// CPU time of the load threads.
    pub client_cpu_us: u64,
    /// CPU time of the whole process.
    pub client_process_cpu_us: Option<u64>,
    /// System calls of the load threads.
    pub client_system_calls: u64,
    /// The same for a message.
    pub client_system_calls_per_message: Option<f64>,
    /// How busy each load thread was, from 0 to 1.
    pub client_threads_busy: Vec<f64>,
    /// Times completions did not fit in a queue of the client: its queue was too small, and the run is suspect.
    /// (Earlier results have one sum of this and the next, `client_overflows`, which is read no more.)
    #[serde(default)]
    pub client_queue_overflows: u64,
    /// Times a receive of the client found no buffer and was begun again in the same turn. Nothing is lost and
    /// nothing waits longer for it; it costs the client an operation.
    #[serde(default)]
    pub client_empty_pool: u64,
    /// Completions for connections that were over, which must not happen: the client, or the kernel, is at
    /// fault, and the run is suspect.
    #[serde(default)]
    pub client_stale_completions: u64,
    /// What the machine did; `null` where /proc cannot be read.
    pub machine: Option<Machine>,
    /// What the server spent; `null` where nobody was asked.
    pub server: Option<Server>,
}

/// What the machine did. Shares are of all its CPUs, from 0 to 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Machine {
    /// CPUs.
    pub cpus: usize,
    /// Time that was neither idle nor stolen.
    pub busy: f64,
    /// Time in soft interrupts.
    pub softirq: f64,
    /// Time the hypervisor gave to others.
    pub steal: f64,
    /// Share of the window in which some task waited for a CPU.
    pub pressure: Option<f64>,
    /// Busy time of all CPUs for a message.
    pub cpu_ns_per_message: Option<f64>,
}

/// What the server spent, over the same window.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Server {
    /// What was asked for and could not be had, a sentence.
    pub missing: Option<String>,
    /// CPU time for a message, all threads of the server.
    pub cpu_ns_per_message: Option<f64>,
    /// System calls, by its own account; not known of a server that is no c10k.
    pub system_calls: Option<u64>,
    /// The same for a message.
    pub system_calls_per_message: Option<f64>,
    /// The numbers themselves.
    #[serde(flatten)]
    pub stats: Option<ServerStats>,
}

/// How evenly the connections were served.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Spread {
    /// Connections that count.
    pub connections: u64,
    /// Connections that finished no message.
    pub silent: u64,
    /// Fewest messages of a connection.
    pub least: u64,
    /// Mean of messages of a connection.
    pub mean: Option<f64>,
    /// Most messages of a connection.
    pub most: u64,
    /// Jain's index: 1 when all had the same, 1/n when one had all.
    pub jain: Option<f64>,
}

/// One kind of trouble and how often it happened.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Trouble {
    /// What the connection was doing: `open`, `connect`, `send`, `receive`, `close`.
    pub phase: String,
    /// What happened: `errno`, `closed_early`, `timed_out`, `stuck`, `wrong_bytes`.
    pub cause: String,
    /// The name of the kernel's error, where it was one.
    pub errno: Option<String>,
    /// How often.
    pub count: u64,
    /// What it means, a sentence.
    pub explanation: String,
    /// What to do about it.
    pub remedy: String,
}

/// What came of comparing the bytes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Verification {
    /// Whether bytes were compared.
    pub on: bool,
    /// Bytes that were compared in the window.
    pub bytes: u64,
    /// Connections on which bytes were wrong.
    pub wrong_connections: u64,
    /// The first few.
    pub wrong: Vec<WrongBytes>,
}

/// Bytes that were wrong.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct WrongBytes {
    /// The connection's number.
    pub connection: u32,
    /// The first wrong byte, from the beginning of the connection's stream.
    pub offset: u64,
    /// What belongs there, hexadecimal.
    pub expected: String,
    /// What came, hexadecimal.
    pub got: String,
    /// What it was, a sentence.
    pub what: String,
}

/// Connections still owed bytes when the grace was over.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Stuck {
    /// How many.
    pub count: u64,
    /// The first few.
    pub first: Vec<StuckConnection>,
}

/// One connection that was still owed bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct StuckConnection {
    /// Its number.
    pub connection: u32,
    /// Bytes it was owed.
    pub owed_bytes: u64,
}

/// A condition that must not hold.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Gate {
    /// As it was typed.
    pub condition: String,
    /// What the measurement says, in words; `null` where it says nothing.
    pub measured: Option<String>,
    /// Whether it holds, and the run fails.
    pub breached: bool,
}

/// The search for the highest rate.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct FindRate {
    /// What has to hold, as it was typed.
    pub condition: String,
    /// The highest rate at which it held; `null` when it held at none.
    pub highest_messages_per_second: Option<f64>,
    /// The lowest rate at which it did not; `null` when it held at all.
    pub lowest_failed_messages_per_second: Option<f64>,
    /// Every rate that was tried, in order.
    pub steps: Vec<Step>,
}

/// One rate that was tried.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Step {
    /// What the schedule asked for.
    pub intended_messages_per_second: f64,
    /// What was achieved.
    pub achieved_messages_per_second: f64,
    /// Whether the condition held.
    pub held: bool,
    /// Whether nothing speaks against its numbers.
    pub verdict: VerdictWord,
    /// From the schedule to the last byte.
    pub response_latency_us: Latency,
    /// CPU time of the load threads for a message.
    pub client_cpu_ns_per_message: Option<f64>,
    /// CPU time of the server for a message, where it was asked.
    pub server_cpu_ns_per_message: Option<f64>,
}

/// What one interval of the window came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Interval {
    /// Its first edge, from the beginning of the window.
    pub begin_us: u64,
    /// How long it was.
    pub length_us: u64,
    /// Messages whose last byte came back in it.
    pub messages: u64,
    /// The same a second.
    pub messages_per_second: f64,
    /// Bytes the kernel took.
    pub bytes_sent: u64,
    /// Bytes that came back.
    pub bytes_received: u64,
    /// Connections made, used and closed in it (churn).
    pub connections: u64,
    /// Connections open at its end.
    pub open: u32,
    /// What went wrong with connections, how often.
    pub errors: u64,
    /// Half of its times are not longer: response in an open loop, else service.
    pub p50_us: Option<f64>,
    /// 99 % are not longer.
    pub p99_us: Option<f64>,
    /// The longest.
    pub max_us: Option<f64>,
}

/// The window so far.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Snapshot {
    /// How long it has been open.
    pub measured_us: u64,
    /// Messages whose last byte came back.
    pub messages: u64,
    /// The same a second.
    pub messages_per_second: f64,
    /// Bytes that came back.
    pub bytes_received: u64,
    /// What went wrong with connections, how often.
    pub errors: u64,
    /// From the schedule in an open loop, else from the send.
    pub latency_us: Latency,
}
