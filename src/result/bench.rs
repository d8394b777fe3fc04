//! The versioned types of what `c10k bench` writes and `c10k report` reads. Units stand in the names, as
//! in the lines of a load; a ratio is always variant over reference, and below 1 the variant costs less.
//! What could not be found out is `null`. The schema of all of it is `schema/bench.json`.
//!
//! A bench directory holds `plan.json` (a [`BenchPlan`]), `slices.ndjson` (a [`RawSlice`] a line, each on
//! disk before the next begins) and, once something can be said, `result.json` (a [`BenchResult`]).

use super::load::LoadResult;
use super::mark::Mark;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The version of the objects below. A field is never given another meaning under the same version.
pub const BENCH_VERSION: u32 = 1;

/// What the files of a bench directory hold; of each line of `slices.ndjson`, a [`RawSlice`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum BenchFile {
    /// `result.json`.
    Result(Box<BenchResult>),
    /// `plan.json`.
    Plan(Box<BenchPlan>),
    /// A line of `slices.ndjson`.
    Slice(Box<RawSlice>),
}

/// What a bench is about to do: all of it is known before the first slice.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct BenchPlan {
    /// The version of this object.
    pub version: u32,
    /// The program and its version.
    pub program: String,
    /// The command that repeats it, every default resolved.
    pub command: String,
    /// `quick`, `workloads`, `features`, `scale`, or `custom` where variants or workloads were typed.
    pub suite: String,
    /// When it began, seconds since 1970.
    pub began_unix_seconds: f64,
    /// What the order of slices and the bootstrap were drawn from.
    pub seed: u64,
    /// How long it may take.
    pub budget_us: u64,
    /// What sets the pace of messages while cost is measured: `half` of what the slower side managed in a
    /// closed loop, `closed`, or a fixed number a second. What cannot be paced is always closed.
    pub pace: String,
    /// The CPUs of servers.
    pub server_cpus: Vec<usize>,
    /// The CPUs of clients.
    pub client_cpus: Vec<usize>,
    /// Both ends of a ratio this near to 1 are called the same: 0.02 stands for 0.98 to 1.02.
    pub same_band: f64,
    /// Where it is done.
    pub environment: BenchEnvironment,
    /// What is compared, in the order it is printed in.
    pub cells: Vec<Cell>,
}

/// One workload, and one variant against a reference on it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Cell {
    /// What names it in files, gates and pictures, unique within a plan.
    pub id: String,
    /// What is done.
    pub workload: Workload,
    /// What is judged. In slices this side is `a`.
    pub variant: Variant,
    /// What it is judged by. In slices this side is `b`.
    pub reference: Variant,
    /// What question it answers, where it belongs to a suite: `baseline + recv=multishot`.
    pub question: Option<String>,
    /// Why it is not run, a sentence; `null` where it is.
    pub left_out: Option<String>,
}

/// What a client does to a server.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Workload {
    /// As it is typed: `pingpong:64:100` and the like.
    pub name: String,
    /// In words: `64-byte ping-pong on 100 connections`.
    pub words: String,
    /// `pingpong`, `stream`, `churn` or `idle`.
    pub kind: String,
    /// Connections that do it.
    pub connections: u32,
    /// Connections held beside them that send nothing.
    pub idle_connections: u32,
    /// Bytes of a message.
    pub size_bytes: u32,
    /// Messages a connection may have on their way.
    pub depth: u32,
    /// What costs are counted for.
    pub unit: Unit,
}

/// What costs are counted for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Unit {
    /// A message that came back whole.
    Message,
    /// 1,048,576 bytes that came back.
    Mebibyte,
    /// A connection made, used and closed.
    Connection,
    /// A second of one connection that sends nothing.
    IdleSecond,
}

/// A server that is started.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Variant {
    /// As it was typed: `uring`, `epoll:trigger=edge`, `tokio=./tokio-echo {port}`; what it is called.
    pub name: String,
    /// What is executed, word by word, the program first; `{port}` and `{addr}` not yet replaced.
    pub command: Vec<String>,
    /// What its ready line said of the features in force; `null` before it was started, and for a server
    /// that is no c10k.
    pub features: Option<BTreeMap<String, String>>,
}

/// Where it was done.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct BenchEnvironment {
    /// The kernel's release.
    pub kernel: Option<String>,
    /// The kernel's build, as `uname -v` has it.
    pub kernel_build: Option<String>,
    /// What the processor calls itself.
    pub cpu_model: Option<String>,
    /// The CPUs this process may run on.
    pub cpus: Vec<usize>,
    /// Bytes of memory there are.
    pub memory_bytes: Option<u64>,
    /// Where the kernel takes the time from: `tsc`.
    pub clock_source: Option<String>,
    /// Whether a hypervisor is below.
    pub virtual_machine: Option<bool>,
    /// What the kernel does against faults of the processor, by fault.
    pub mitigations: BTreeMap<String, String>,
    /// Descriptors a process may have.
    pub descriptors: Option<u64>,
    /// Bytes a user may lock in memory; `null`: no limit, or none found.
    pub locked_bytes: Option<u64>,
    /// First and last port the kernel gives to who connects.
    pub local_ports: Option<(u16, u16)>,
    /// `net.core.somaxconn`.
    pub backlog_max: Option<u64>,
    /// Tasks that ran or waited before the run, averaged over 1, 5 and 15 minutes.
    pub load_average: Option<[f64; 3]>,
    /// Facts of the build: profile, compiler, revision.
    pub build: BTreeMap<String, String>,
}

/// Which side of a cell.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Side {
    /// The variant.
    A,
    /// The reference.
    B,
}

/// What a slice is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Purpose {
    /// What a unit costs.
    Cost,
    /// Latency at an offered rate that is the same for both sides, where cost was not measured at one.
    Latency,
    /// How much a closed loop gets done: the offered rate follows from it.
    Capacity,
}

/// One slice: one client against one server, and what became of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Slice {
    /// The cell's id.
    pub cell: String,
    /// Which block of the cell, from 0.
    pub block: u32,
    /// Which slice of the block, 0 to 3.
    pub position: u8,
    /// Whose.
    pub side: Side,
    /// For what.
    pub purpose: Purpose,
    /// How often this position was tried before.
    pub attempt: u32,
    /// When it began, from the beginning of the bench.
    pub began_us: u64,
    /// How long was measured.
    pub measured_us: u64,
    /// What the machine was like just before; `null` in earlier results.
    #[serde(default)]
    pub before: Option<Before>,
    /// Bytes of padding in the environment of the server's process, drawn anew for each one that is started, so
    /// that its stack lies elsewhere; `null` in earlier results.
    #[serde(default)]
    pub server_padding_bytes: Option<u32>,
    /// Why it is counted nowhere: the client was the limit, bytes were wrong, the ring overflowed. Never
    /// repeated.
    pub invalid: Vec<String>,
    /// Why it was done again: steal, pressure, another process, a slow canary.
    pub disturbed: Vec<String>,
    /// What was measured; `null` where nothing came of it.
    pub numbers: Option<Numbers>,
}

/// What a machine was like just before a slice.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Before {
    /// The same small work on each CPU of servers and clients, timed.
    pub canaries: Vec<Canary>,
    /// Tasks beside the bench itself that ran or were ready to run: the fewer of two looks.
    pub runnable_others: Option<u32>,
}

/// How long a CPU took for a fixed piece of work.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Canary {
    /// Which CPU.
    pub cpu: usize,
    /// CPU time it took: what is judged.
    pub cpu_us: f64,
    /// The time that passed meanwhile.
    pub took_us: f64,
}

/// What a slice measured.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Numbers {
    /// Units done in the window.
    pub units: f64,
    /// The same a second.
    pub units_per_second: f64,
    /// Messages a second that were offered; `null` in a closed loop.
    pub offered_per_second: Option<f64>,
    /// CPU time of the server, all its threads and kernel workers, for a unit.
    pub server_cpu_ns: f64,
    /// The same of server and client together.
    pub total_cpu_ns: f64,
    /// Busy time of the whole machine for a unit.
    pub machine_cpu_ns: Option<f64>,
    /// How busy the busiest client thread was, from 0 to 1.
    pub client_busy: f64,
    /// How busy the server's CPUs were with it, from 0 to 1.
    pub server_busy: f64,
    /// System calls of the server for a unit.
    pub server_system_calls: Option<f64>,
    /// Times the server's threads gave up the CPU or lost it, for a unit.
    pub server_context_switches: Option<f64>,
    /// Completions (or events) the server was given each time it asked.
    pub completions_per_enter: Option<f64>,
    /// Bytes of memory the server has resident.
    pub server_resident_bytes: Option<u64>,
    /// Bytes the kernel's sockets and slabs grew by, for a connection, both ends.
    pub kernel_bytes_per_connection: Option<f64>,
    /// Half of the round trips were not longer: from the schedule in a latency slice, else from the send.
    pub p50_us: Option<f64>,
    /// 99 % were not longer.
    pub p99_us: Option<f64>,
    /// What the server's own account counted in the window.
    pub health: BTreeMap<String, u64>,
    /// Share of all CPUs the hypervisor took.
    pub steal: Option<f64>,
    /// Units a second in the second half of the slice over those in the first; `null` where there were none, and
    /// in earlier results.
    #[serde(default)]
    pub second_half: Option<f64>,
}

/// A slice with all its client said; a line of `slices.ndjson`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct RawSlice {
    /// What became of it.
    pub slice: Slice,
    /// What the server's ready line said of the features in force; `null` of a server that is no c10k.
    #[serde(default)]
    pub features: Option<BTreeMap<String, String>>,
    /// The client's command.
    pub client: String,
    /// The client's own result; `null` where it gave none.
    pub load: Option<Box<LoadResult>>,
    /// The distributions of its latencies, nanoseconds: compressed HdrHistograms V2 in base64, one for each
    /// interval, a blank between them; `null` where there are none.
    pub histogram: Option<String>,
}

/// What a bench came to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct BenchResult {
    /// The version of this object.
    pub version: u32,
    /// What was planned.
    pub plan: BenchPlan,
    /// How long it took.
    pub took_us: u64,
    /// Whether a signal ended it before its time.
    pub interrupted: bool,
    /// What somebody should do, a sentence for each workload; also where it declines to judge.
    pub verdict: Vec<String>,
    /// What each cell came to, in the order of the plan.
    pub comparisons: Vec<Comparison>,
    /// The conditions that must not hold.
    pub gates: Vec<BenchGate>,
    /// What has to be said beside every number taken on one machine.
    pub caveats: Vec<String>,
    /// What the program exits with.
    pub exit_code: u8,
}

/// What a cell came to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Comparison {
    /// What was compared, with the features that really ran.
    pub cell: Cell,
    /// In one word.
    pub verdict: Judgement,
    /// The same as a sentence, with the numbers.
    pub sentence: String,
    /// Why it is undecided, or what weakens it, a sentence each.
    pub reasons: Vec<String>,
    /// The same as marks; `null` in earlier results.
    #[serde(default)]
    pub marks: Option<Vec<Mark>>,
    /// Why it ended: `narrow_enough`, `plain` (so large a difference needs no narrower interval),
    /// `budget_spent`, `interrupted`, `failed`, `left_out`.
    pub ended: String,
    /// Headlines that differ by no more than this are the same: the plan's band, or the wider of their floors where
    /// that is wider.
    pub band: f64,
    /// Blocks of which every slice counted.
    pub blocks: u32,
    /// Slices that were done again because something disturbed them.
    pub repeated: u32,
    /// Slices that were disturbed, by what: `steal`, `pressure`, `other_programs`, `runnable`, `canary`.
    #[serde(default)]
    pub disturbances: BTreeMap<String, u32>,
    /// Slices that count though their rate was not the same in both halves.
    #[serde(default)]
    pub drifted: u32,
    /// Slices that counted nowhere.
    pub invalid: u32,
    /// What the client could have done; `null` where no rate was measured, and in earlier results.
    #[serde(default)]
    pub client_ceiling: Option<ClientCeiling>,
    /// What was measured, the two headlines first: `server_cpu_ns`, `total_cpu_ns`.
    pub metrics: Vec<Metric>,
    /// Latency at an offered rate.
    pub latency: Option<LatencyComparison>,
    /// The variant's account over all slices that count.
    pub variant_health: BTreeMap<String, u64>,
    /// The reference's account over all slices that count.
    pub reference_health: BTreeMap<String, u64>,
    /// Every slice, also those that do not count, without what clients said.
    pub slices: Vec<Slice>,
}

/// How far the client was from its own limit.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ClientCeiling {
    /// Units a second that the client can do at least: the faster side's median.
    pub units_per_second: f64,
    /// `reached` in a closed loop with the same pinning, or `reckoned` from how busy the client was.
    pub known: String,
    /// Units a second while cost was measured: the faster side's median.
    pub measured_units_per_second: f64,
    /// The first over the second.
    pub times: f64,
    /// Whether that is 1.5 or more, so that the client was not the limit.
    pub enough: bool,
}

/// A verdict in one word. Better and worse need both headlines on the same side, and the server's beyond the band.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Judgement {
    /// The variant costs less.
    Better,
    /// The variant costs more.
    Worse,
    /// Both intervals lie inside the band.
    Same,
    /// It cannot be said.
    Undecided,
    /// It was not run.
    LeftOut,
}

/// One quantity on both sides.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Metric {
    /// What it is called: the name of a field of [`Numbers`].
    pub name: String,
    /// In words, with its unit: `server CPU per message, ns`.
    pub words: String,
    /// Whether less of it is better; `null`: it only explains.
    pub less_is_better: Option<bool>,
    /// The median slice of the variant.
    pub variant: Option<f64>,
    /// The median slice of the reference.
    pub reference: Option<f64>,
    /// The least slice of the variant, where it is a cost: others on the machine can only add to it. No verdict
    /// rests on it.
    #[serde(default)]
    pub variant_least: Option<f64>,
    /// The least slice of the reference.
    #[serde(default)]
    pub reference_least: Option<f64>,
    /// Variant over reference, block by block.
    pub ratio: Option<Ratio>,
    /// The same of equal slices within a block: how far from 1 this machine puts a thing against itself.
    pub floor: Option<Ratio>,
}

/// A ratio with its interval.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Ratio {
    /// The median.
    pub median: f64,
    /// The lower end of the interval.
    pub low: f64,
    /// The upper end of the interval.
    pub high: f64,
    /// How much of the time such an interval covers the truth, at least: 0.95; less where there were
    /// fewer than six pairs, for which the whole range is given.
    pub confidence: f64,
    /// `order_statistics` or `bootstrap`.
    pub method: String,
    /// Every pair, in the order they were measured.
    pub pairs: Vec<f64>,
}

/// Latency of both sides at the same offered rate, from the schedule.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct LatencyComparison {
    /// Messages a second, over all connections.
    pub offered_per_second: f64,
    /// The variant's.
    pub variant: Curve,
    /// The reference's.
    pub reference: Curve,
}

/// A distribution of latencies: histograms of all slices, merged.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Curve {
    /// How many there are.
    pub samples: u64,
    /// Rising percentiles; none with fewer than ten samples beyond it.
    pub points: Vec<CurvePoint>,
}

/// One percentile.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct CurvePoint {
    /// 0 to 100.
    pub percentile: f64,
    /// So many per cent were not longer.
    pub us: f64,
}

/// A condition that must not hold.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct BenchGate {
    /// As it was typed.
    pub condition: String,
    /// The cell it was held against.
    pub cell: Option<String>,
    /// What the measurement says, in words; `null` where it says nothing.
    pub measured: Option<String>,
    /// Whether it holds, and the run fails.
    pub breached: bool,
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    #[test]
    fn the_schema_in_the_repository_is_what_the_types_say() {
        let schema = serde_json::to_value(schemars::schema_for!(BenchFile)).unwrap();
        let text = serde_json::to_string_pretty(&schema).unwrap() + "\n";
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("schema/bench.json");
        if std::env::var_os("C10K_WRITE_SCHEMA").is_some() {
            std::fs::write(&path, &text).unwrap();
        }
        let committed = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(
            committed == text,
            "schema/bench.json is not what the types say; C10K_WRITE_SCHEMA=1 writes it"
        );
    }
}
