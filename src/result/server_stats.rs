//! What a server spent and counted over the measured window of a load, as the result of the load says it.

use super::Named;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The difference between two looks at a server, one at each edge of the window. Times are microseconds.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ServerStats {
    /// Whose numbers these are, and how they came: `process 4711`, `process 4711, through the agent at …`.
    pub source: String,
    /// The process.
    pub pid: u32,
    /// From one look to the other, by the clock of the server's machine. What is a rate refers to this.
    pub window_us: u64,
    /// CPU time of the process: user and system, every thread, the kernel's workers included.
    pub cpu_us: u64,
    /// `clock`: exact; `ticks`: in steps of a tick, 10 ms as a rule.
    pub cpu_from: String,
    /// CPUs it kept busy: CPU time over the window.
    pub cpus_busy: f64,
    /// The part of the CPU time that is known to be of the kernel's workers for rings.
    pub kernel_workers_cpu_us: u64,
    /// Times a thread gave up its CPU. Those of threads that ended in the window are missing.
    pub voluntary_switches: u64,
    /// Times a thread's CPU was taken away; the same holds.
    pub involuntary_switches: u64,
    /// Threads at the end, the kernel's workers included.
    pub threads: u64,
    /// Threads that were not there at the beginning.
    pub threads_started: u64,
    /// Threads that were not there at the end.
    pub threads_ended: u64,
    /// The kernel's workers for rings, at the end.
    pub kernel_workers: u64,
    /// Bytes of memory it had resident at the beginning and at the end, and the most it ever had.
    pub resident_begin_bytes: Option<u64>,
    /// At the end.
    pub resident_bytes: Option<u64>,
    /// The most it ever had.
    pub resident_peak_bytes: Option<u64>,
    /// What the server counted itself; only of a c10k.
    pub account: Option<AccountChange>,
    /// How long it took to ask and be answered; only through an agent.
    pub round_trip_us: Option<u64>,
    /// How much later than the window's beginning the first look was taken.
    pub late_begin_us: u64,
    /// How much later than the window's end the second look was taken.
    pub late_end_us: u64,
    /// What is to be known about these numbers, a sentence each.
    pub notes: Vec<String>,
}

/// What a server counted between two looks.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct AccountChange {
    /// By how much each counter grew, by the names of the server's own lines.
    pub counters: Named<u64>,
    /// Connections closed, by reason.
    pub closed: Named<u64>,
    /// Connections refused, by cause.
    pub refused: Named<u64>,
    /// The gauges at the beginning. Workers are not read at one instant, so that one may be below zero.
    pub gauges_begin: Named<i64>,
    /// The gauges at the end.
    pub gauges: Named<i64>,
}
