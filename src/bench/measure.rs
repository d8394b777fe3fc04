//! From what a load said to a slice: its numbers, whether it counts, and whether something disturbed it. Pure.
//!
//! | disturbed (done again, within a bound) | why there |
//! |---|---|
//! | steal above 1 %, and at least two ticks | one tick of a short slice is more than 1 % already |
//! | some task waited for a CPU in 20 % of the time | server and client have CPUs of their own: whoever waits there is kept by a third |
//! | a canary just before it took a quarter longer than canaries do mostly ([`super::canary`]) | its CPU is slow for a reason that no account tells |
//! | others were ready to run just before it began, more than our own kernel threads can be | the same as the next line, seen earlier |
//! | others took a tenth of a CPU, beyond what counting ticks leaves to chance | the machine's busy time is sampled, the server's and the client's is not |
//!
//! | invalid (counted nowhere) | |
//! |---|---|
//! | bytes were wrong | it also ends the bench |
//! | the load failed, or connections were left owed bytes | |
//! | the client was the limit: it could not keep the offered rate, or was busy 95 % of the time at it | a closed loop always has a limit: there the rate is called the client's, and the cost holds |
//! | the server's completion queue overflowed though nobody asked for a small one | |
//! | the client's completion queue overflowed | nobody can ask for a small one: the client got its answers late, and they cost it more than they would |
//!
//! That the client's receives found no buffer is shown and invalidates nothing: they are begun again in the same
//! turn, on both sides of a comparison alike.

use super::client::Ran;
use super::disturbance::{OTHERS, PRESSURE as WAITED, STEAL as STOLEN};
use super::pace::{CLIENT_FULL, RATE_MISSED};
use super::variant;
use crate::result::bench::{Numbers, Slice, Unit, Variant, Workload};
use crate::result::load::{Interval, LoadResult, VerdictWord};
use crate::result::server_stats::ServerStats;
use std::collections::BTreeMap;

const STEAL: f64 = 0.01;
const STEAL_TICKS: f64 = 1.5;
const PRESSURE: f64 = 0.20;
const OTHERS_CPUS: f64 = 0.10;
/// Standard deviations that are left to chance.
const CHANCE: f64 = 3.0;
/// Ticks in which the kernel counts what CPUs do.
const TICKS_PER_SECOND: f64 = 100.0;
const CLIENT_BUSY: f64 = 0.95;
const RATE_KEPT: f64 = 0.99;
/// What the load exits with where it is only not valid or suspect.
const SOUND: [u8; 2] = [0, 4];
/// What it exits with where bytes were wrong.
const WRONG_BYTES: u8 = 5;

/// Fills in what a load said about a slice. Whether bytes were wrong.
pub fn fill(slice: &mut Slice, workload: &Workload, variant: &Variant, ran: &Ran) -> bool {
    let Some(load) = &ran.result else {
        let said = if ran.said.is_empty() { "it ended without a result" } else { &ran.said };
        slice.invalid.push(format!("the client failed: {said}"));
        return false;
    };
    slice.measured_us = load.window.measured_us;
    let wrong = load.exit_code == WRONG_BYTES || load.verification.wrong_connections > 0;
    if wrong {
        let what = load.verification.wrong.first().map_or("", |first| &first.what);
        slice.invalid.push(format!("bytes were wrong: {what}"));
    } else if !SOUND.contains(&load.exit_code) {
        let why = load.failures.first().map_or(ran.said.as_str(), String::as_str);
        slice.invalid.push(format!("the client failed: {why}"));
    }
    slice.numbers = numbers(workload, load);
    if slice.numbers.is_none() && slice.invalid.is_empty() {
        let missing = load.cost.server.as_ref().and_then(|server| server.missing.clone());
        slice.invalid.push(format!(
            "nothing was measured: {}",
            missing.unwrap_or_else(|| "no message came back".into())
        ));
    }
    if let Some(numbers) = &slice.numbers {
        slice.invalid.extend(limits(numbers, load, variant));
        slice.disturbed.extend(disturbed(load));
    }
    wrong
}

fn limits(numbers: &Numbers, load: &LoadResult, variant: &Variant) -> Vec<String> {
    let mut reasons = Vec::new();
    if let Some(offered) = numbers.offered_per_second {
        let seconds = load.window.measured_us as f64 / 1e6;
        let chance = CHANCE * (offered / seconds.max(1e-3)).sqrt();
        let kept = load.rates.messages_per_second;
        if kept < offered * RATE_KEPT - chance {
            reasons.push(format!("{RATE_MISSED}: {kept:.0} of {offered:.0} messages a second"));
        } else if numbers.client_busy >= CLIENT_BUSY {
            reasons.push(format!("{CLIENT_FULL}: busy {:.0} %", numbers.client_busy * 100.0));
        }
    }
    let overflows = numbers.health.get("overflows").copied().unwrap_or(0);
    if overflows > 0 && !variant::sizes_its_queues(variant) {
        reasons.push(format!("the server's completion queue overflowed {overflows} times"));
    }
    let overflows = load.cost.client_queue_overflows;
    if overflows > 0 {
        reasons.push(format!("the client's completion queue overflowed {overflows} times"));
    }
    if load.verdict.word == VerdictWord::Invalid && load.plan.workload != "idle" {
        reasons.extend(load.verdict.reasons.iter().map(|reason| format!("the client says: {reason}")));
    }
    reasons
}

fn numbers(workload: &Workload, load: &LoadResult) -> Option<Numbers> {
    let server = load.cost.server.as_ref()?.stats.as_ref()?;
    let measured = load.window.measured_us as f64;
    let units = match workload.unit {
        Unit::Message => load.rates.messages as f64,
        Unit::Mebibyte => load.rates.bytes_received as f64 / f64::from(1 << 20),
        Unit::Connection => load.rates.connections as f64,
        Unit::IdleSecond => f64::from(load.ramp.connected) * measured / 1e6,
    };
    if units <= 0.0 || measured <= 0.0 || server.window_us == 0 {
        return None;
    }
    // The two looks at the server are not exactly the window's edges; its own clock says how far apart.
    let server_units = units * server.window_us as f64 / measured;
    let client_cpu_us = load.cost.client_process_cpu_us.unwrap_or(load.cost.client_cpu_us) as f64;
    let server_cpu_ns = server.cpu_us as f64 * 1e3 / server_units;
    let counters = server.account.as_ref().map(|account| &account.counters);
    let counter = |name: &str| counters.and_then(|counters| counters.get(name)).map(|&count| count as f64);
    let asked = counter("enters").or(counter("waits")).filter(|&asked| asked > 0.0);
    let latency = load.response_latency_us.as_ref().or(load.service_latency_us.as_ref());
    let machine = load.cost.machine.as_ref();
    let switches = (server.voluntary_switches + server.involuntary_switches) as f64;
    Some(Numbers {
        units,
        units_per_second: units / measured * 1e6,
        offered_per_second: load.plan.intended_messages_per_second.filter(|_| load.plan.workload != "idle"),
        server_cpu_ns,
        total_cpu_ns: server_cpu_ns + client_cpu_us * 1e3 / units,
        machine_cpu_ns: machine.map(|one| one.busy * one.cpus as f64 * measured * 1e3 / units),
        client_busy: load.cost.client_threads_busy.iter().copied().fold(0.0, f64::max),
        server_busy: server.cpus_busy,
        server_system_calls: counter("system_calls").map(|calls| calls / server_units),
        server_context_switches: Some(switches / server_units),
        completions_per_enter: counter("completions")
            .or(counter("events"))
            .zip(asked)
            .map(|(got, asked)| got / asked),
        server_resident_bytes: server.resident_bytes,
        kernel_bytes_per_connection: None,
        p50_us: latency.and_then(|latency| latency.p50),
        p99_us: latency.and_then(|latency| latency.p99),
        health: health(server, load),
        steal: machine.map(|one| one.steal),
        second_half: second_half(workload, load),
    })
}

/// The rate of the second half of the window over that of the first.
fn second_half(workload: &Workload, load: &LoadResult) -> Option<f64> {
    let [first, second, ..] = load.intervals.as_slice() else { return None };
    if workload.unit == Unit::IdleSecond {
        return None;
    }
    let rate = |half: &Interval| {
        let count = if workload.unit == Unit::Mebibyte { half.bytes_received } else { half.messages };
        (count > 0 && half.length_us > 0).then(|| count as f64 / half.length_us as f64)
    };
    Some(rate(second)? / rate(first)?)
}

/// What the server counted beside its work, what it refused and why it closed; what never happened is left out.
fn health(server: &ServerStats, load: &LoadResult) -> BTreeMap<String, u64> {
    const WORK: [&str; 5] = ["accepted", "bytes_received", "bytes_sent", "receives", "sends"];
    let mut health = BTreeMap::new();
    if let Some(account) = &server.account {
        let all = [&account.counters, &account.closed, &account.refused];
        for (name, count) in all.into_iter().flat_map(|named| &named.0) {
            if *count > 0 && !WORK.contains(&name.as_str()) {
                health.insert(name.clone(), *count);
            }
        }
    }
    if server.kernel_workers_cpu_us > 0 {
        health.insert("kernel_workers_cpu_us".into(), server.kernel_workers_cpu_us);
    }
    let client = [
        ("client_queue_overflows", load.cost.client_queue_overflows),
        ("client_empty_pool", load.cost.client_empty_pool),
    ];
    health
        .extend(client.into_iter().filter(|(_, count)| *count > 0).map(|(name, count)| (name.into(), count)));
    health
}

fn disturbed(load: &LoadResult) -> Vec<String> {
    let mut reasons = Vec::new();
    let (Some(machine), Some(server)) =
        (&load.cost.machine, load.cost.server.as_ref().and_then(|one| one.stats.as_ref()))
    else {
        return reasons;
    };
    let (cpus, seconds) = (machine.cpus as f64, load.window.measured_us as f64 / 1e6);
    let ticks = (cpus * seconds * TICKS_PER_SECOND).max(1.0);
    if machine.steal > STEAL && machine.steal * ticks > STEAL_TICKS {
        reasons.push(format!("{STOLEN} {:.1} % of the CPU time to others", machine.steal * 100.0));
    }
    if let Some(pressure) = machine.pressure.filter(|&share| share > PRESSURE) {
        reasons.push(format!("{WAITED} in {:.0} % of the time", pressure * 100.0));
    }
    let client = load.cost.client_process_cpu_us.unwrap_or(load.cost.client_cpu_us) as f64 / 1e6 / seconds;
    let others = machine.busy * cpus - server.cpus_busy - client;
    let chance = CHANCE * cpus * (machine.busy * (1.0 - machine.busy) / ticks).max(0.0).sqrt();
    if others > OTHERS_CPUS + chance {
        reasons.push(format!("{OTHERS} {others:.2} CPUs"));
    }
    reasons
}

#[cfg(test)]
mod tests;
