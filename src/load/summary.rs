//! From what a run came to to its result, the object all outputs are made of. Pure.

use super::check::Checked;
use super::outcome::{Machine, Outcome, Row, ServerCost, per_second};
use super::payload::Wrong;
use super::plan::{Arrivals, End, Engine, Plan, Spacing, Workload};
use super::sentences::{self, Sentence};
use super::tally::{Interval, Spread};
use super::trouble::Troubles;
use crate::result::Named;
use crate::result::load as result;
use crate::statistics::{Latencies, jain};
use std::time::{Duration, UNIX_EPOCH};

/// What stands in a result beside the run itself.
#[derive(Clone, Debug)]
pub struct Judged {
    /// How far the numbers can be believed.
    pub verdict: result::Verdict,
    /// The conditions that must not hold.
    pub gates: Vec<result::Gate>,
    /// The search, where there was one; the run is then that of its best step.
    pub find_rate: Option<result::FindRate>,
    /// What the program exits with.
    pub exit_code: u8,
}

/// The result of a run.
#[must_use]
pub fn result(
    checked: &Checked,
    outcome: &Outcome,
    environment: result::Environment,
    judged: Judged,
) -> result::LoadResult {
    let (plan, total) = (&checked.plan, &outcome.total);
    let asked = &checked.outputs.percentiles;
    let times = |latencies: &Latencies| (latencies.samples() > 0).then(|| latency(latencies, asked));
    let began = outcome.began.duration_since(UNIX_EPOCH).unwrap_or_default();
    result::LoadResult {
        version: result::LOAD_VERSION,
        program: concat!("c10k ", env!("CARGO_PKG_VERSION")).into(),
        command: checked.command.clone(),
        began_unix_seconds: (began.as_millis() as f64) / 1000.0,
        verdict: judged.verdict,
        exit_code: judged.exit_code,
        interrupted: outcome.interrupted.is_some(),
        failures: failures(plan, outcome),
        plan: plan_of(plan),
        environment: result::Environment { client: client(plan, outcome), ..environment },
        ramp: ramp(outcome, asked),
        window: result::Window {
            begin_us: outcome.window.0.min(outcome.window.1) / 1000,
            measured_us: micros(outcome.measured()),
        },
        rates: rates(plan, outcome),
        response_latency_us: times(&total.response),
        service_latency_us: times(&total.service),
        connect_latency_us: times(&total.connect),
        close_latency_us: times(&total.close),
        schedule_lag_us: times(&total.lag),
        cost: cost(outcome),
        spread: spread(&outcome.spread),
        errors: errors(&outcome.troubles(), plan),
        verification: verification(plan, outcome),
        stuck: stuck(outcome),
        fail_if: judged.gates,
        find_rate: judged.find_rate,
        intervals: outcome.rows.iter().map(|row| interval(row, outcome.window.0)).collect(),
    }
}

/// Why the run failed, a sentence each; empty when it did not.
#[must_use]
pub fn failures(plan: &Plan, outcome: &Outcome) -> Vec<String> {
    let mut failures: Vec<String> = outcome.failure.iter().cloned().collect();
    if outcome.given_up > 0 && outcome.failure.is_none() {
        failures.push(format!(
            "{} of {} connections could not be made; the errors say why",
            outcome.given_up, plan.connections
        ));
    }
    if outcome.stuck.count > 0 {
        let first = outcome.stuck.first.first().map_or_else(String::new, |(connection, owed)| {
            format!(", the first of them connection {connection} ({owed} bytes)")
        });
        failures.push(format!(
            "{} still owed bytes {} after the window (--grace){first}",
            connections_are(outcome.stuck.count),
            crate::units::print_time(plan.grace)
        ));
    }
    let lost = lost(outcome);
    if lost > 0 && outcome.failure.is_none() {
        failures.push(format!("{} lost while loaded; the errors say why", connections_were(lost)));
    }
    failures
}

/// Connections that were lost once they stood, or in a churn could not be made. Those that were tried
/// again for want of a port, and what the end of the run did to idle ones, are no failures.
fn lost(outcome: &Outcome) -> u64 {
    use super::trouble::{Cause, Phase};
    use nix::errno::Errno;
    let failed = |troubles: &Troubles, phases: &[Phase]| -> u64 {
        let kinds = troubles.most_first().into_iter().filter(|(phase, cause, _)| {
            let own = *cause == Cause::of(Errno::EADDRNOTAVAIL);
            phases.contains(phase) && !own && !matches!(cause, Cause::Stuck | Cause::WrongBytes)
        });
        kinds.map(|(.., count)| count).sum()
    };
    let loaded = [Phase::Open, Phase::Connect, Phase::Send, Phase::Receive];
    let standing = [Phase::Send, Phase::Receive];
    failed(&outcome.total.troubles, &loaded)
        + failed(&outcome.ramp.troubles, &standing)
        + failed(&outcome.after.troubles, &standing)
}

fn connections_are(count: u64) -> String {
    if count == 1 { "1 connection is".into() } else { format!("{count} connections are") }
}

fn connections_were(count: u64) -> String {
    if count == 1 { "1 connection was".into() } else { format!("{count} connections were") }
}

fn plan_of(plan: &Plan) -> result::Plan {
    let open = match plan.arrivals {
        Arrivals::Open { rate, spacing } => Some((rate, spacing)),
        Arrivals::Closed => None,
    };
    let spacing = |spacing| if spacing == Spacing::Poisson { "poisson" } else { "uniform" };
    let (duration, messages) = match plan.end {
        End::After(duration) => (Some(micros(duration)), None),
        End::Messages(messages) => (None, Some(messages)),
    };
    result::Plan {
        workload: plan.workload.name().into(),
        target: plan.target.to_string(),
        connections: plan.connections,
        size_min_bytes: *plan.size.start(),
        size_max_bytes: *plan.size.end(),
        depth: plan.depth,
        kind_of_loop: if open.is_some() { "open" } else { "closed" }.into(),
        arrival: open.map(|(_, kind)| spacing(kind).into()),
        intended_messages_per_second: open.map(|(rate, _)| rate),
        duration_us: duration,
        messages,
        warmup_us: micros(plan.warmup),
        grace_us: micros(plan.grace),
        threads: plan.threads,
        cpus: plan.cpus.clone(),
        engine: engine(plan).into(),
        direct: plan.direct,
        sources: plan.sources.len(),
        verify: plan.verify,
        seed: plan.seed,
    }
}

fn engine(plan: &Plan) -> &'static str {
    if plan.engine == Engine::Uring { "uring" } else { "epoll" }
}

fn client(plan: &Plan, outcome: &Outcome) -> result::Client {
    let features = outcome.features.iter().map(|(name, value)| (name.to_string(), value.clone()));
    result::Client { engine: engine(plan).into(), features: Named(features.collect()) }
}

fn ramp(outcome: &Outcome, asked: &[f64]) -> result::Ramp {
    let connect = &outcome.ramp.connect;
    result::Ramp {
        took_us: micros(outcome.ramp_took),
        connected: outcome.connected,
        given_up: outcome.given_up,
        connections_per_second: per_second(outcome.connected.into(), outcome.ramp_took),
        connect_latency_us: (connect.samples() > 0).then(|| latency(connect, asked)),
    }
}

fn rates(plan: &Plan, outcome: &Outcome) -> result::Rates {
    let (total, measured) = (&outcome.total, outcome.measured());
    let rate = outcome.rate();
    let achieved = match plan.arrivals {
        Arrivals::Open { rate: intended, .. } if plan.workload != Workload::Stream => Some(rate / intended),
        _ => None,
    };
    result::Rates {
        messages: total.messages,
        messages_per_second: rate,
        achieved_of_intended: achieved,
        unsent: total.unsent,
        unanswered: total.unanswered,
        worst_interval_messages_per_second: worst(plan, outcome),
        bytes_sent: total.bytes_sent,
        bytes_received: total.bytes_received,
        bytes_sent_per_second: per_second(total.bytes_sent, measured),
        bytes_received_per_second: per_second(total.bytes_received, measured),
        connections: total.connections,
        connections_per_second: per_second(total.connections, measured),
    }
}

/// The slowest whole interval; the last one is often cut short.
fn worst(plan: &Plan, outcome: &Outcome) -> Option<f64> {
    let length = |row: &Row| Duration::from_nanos(row.end.saturating_sub(row.begin));
    let whole = outcome.rows.iter().filter(|row| length(row) >= plan.interval.mul_f64(0.99));
    whole.map(|row| per_second(row.messages, length(row))).min_by(f64::total_cmp)
}

/// The result's form of a distribution: microseconds, with what was asked for besides the usual.
#[must_use]
pub fn latency(latencies: &Latencies, asked: &[f64]) -> result::Latency {
    const USUAL: [f64; 5] = [50.0, 90.0, 99.0, 99.9, 99.99];
    let at = |percent| latencies.percentile(percent).map(thousandth);
    let more = asked.iter().filter(|percent| !USUAL.contains(percent));
    result::Latency {
        p50: at(50.0),
        p90: at(90.0),
        p99: at(99.0),
        p99_9: at(99.9),
        p99_99: at(99.99),
        max: latencies.max().map(thousandth),
        mean: latencies.mean().map(|mean| thousandth(mean.round() as u64)),
        samples: latencies.samples(),
        more: more.map(|&percent| (percentile_name(percent), at(percent))).collect(),
    }
}

/// A percentile's name, as `p99_9`.
#[must_use]
pub fn percentile_name(percent: f64) -> String {
    format!("p{percent}").replace('.', "_")
}

fn thousandth(nanoseconds: u64) -> f64 {
    nanoseconds as f64 / 1000.0
}

fn cost(outcome: &Outcome) -> result::Cost {
    let (messages, measured) = (outcome.total.messages, outcome.measured());
    let cpu = outcome.cpu();
    let calls: u64 = outcome.threads.iter().map(|thread| thread.system_calls).sum();
    let kib = outcome.total.bytes_received / 1024;
    let busy = |cpu: Duration| {
        if measured.is_zero() { 0.0 } else { cpu.as_secs_f64() / measured.as_secs_f64() }
    };
    result::Cost {
        client_cpu_ns_per_message: nanos_each(cpu, messages),
        client_cpu_ns_per_kib: nanos_each(cpu, kib),
        client_cpu_us: micros(cpu),
        client_process_cpu_us: outcome.process_cpu.map(micros),
        client_system_calls: calls,
        client_system_calls_per_message: each(calls as f64, messages),
        client_threads_busy: outcome.threads.iter().map(|thread| busy(thread.cpu)).collect(),
        client_queue_overflows: outcome.overflows,
        client_empty_pool: outcome.empty_pool,
        client_stale_completions: outcome.stale,
        machine: outcome.machine.map(|machine| machine_of(machine, measured, messages)),
        server: outcome.server.as_ref().map(|server| server_of(server, messages)),
    }
}

fn machine_of(machine: Machine, measured: Duration, messages: u64) -> result::Machine {
    let busy = measured.as_nanos() as f64 * machine.cpus as f64 * machine.busy;
    result::Machine {
        cpus: machine.cpus,
        busy: machine.busy,
        softirq: machine.softirq,
        steal: machine.steal,
        pressure: machine.pressure,
        cpu_ns_per_message: each(busy, messages),
    }
}

fn server_of(server: &ServerCost, messages: u64) -> result::Server {
    let calls = server.system_calls();
    result::Server {
        missing: server.missing.clone(),
        cpu_ns_per_message: server.cpu().and_then(|cpu| nanos_each(cpu, messages)),
        system_calls: calls,
        system_calls_per_message: calls.and_then(|calls| each(calls as f64, messages)),
        stats: server.stats.clone(),
    }
}

fn nanos_each(time: Duration, count: u64) -> Option<f64> {
    each(time.as_nanos() as f64, count)
}

fn each(amount: f64, count: u64) -> Option<f64> {
    (count > 0).then(|| amount / count as f64)
}

fn spread(spread: &Spread) -> result::Spread {
    let count = spread.connections as f64;
    result::Spread {
        connections: spread.connections,
        silent: spread.silent,
        least: spread.least,
        mean: (spread.connections > 0).then(|| spread.sum / count),
        most: spread.most,
        jain: jain(spread.connections, spread.sum, spread.sum_of_squares),
    }
}

fn errors(troubles: &Troubles, plan: &Plan) -> Vec<result::Trouble> {
    let of = |(phase, cause, count): (_, super::trouble::Cause, u64)| {
        let Sentence { explanation, remedy } = sentences::sentence(phase, cause, plan);
        result::Trouble {
            phase: phase.name().into(),
            cause: cause.name().into(),
            errno: cause.errno_name(),
            count,
            explanation,
            remedy,
        }
    };
    troubles.most_first().into_iter().map(of).collect()
}

fn verification(plan: &Plan, outcome: &Outcome) -> result::Verification {
    result::Verification {
        on: plan.verify,
        bytes: if plan.verify { outcome.total.bytes_received } else { 0 },
        wrong_connections: outcome.wrong_connections,
        wrong: outcome.wrong.iter().map(wrong).collect(),
    }
}

fn wrong(wrong: &Wrong) -> result::WrongBytes {
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    result::WrongBytes {
        connection: wrong.connection,
        offset: wrong.offset,
        expected: hex(&wrong.expected),
        got: hex(&wrong.got),
        what: wrong.kind.to_string(),
    }
}

fn stuck(outcome: &Outcome) -> result::Stuck {
    let first = outcome.stuck.first.iter();
    result::Stuck {
        count: outcome.stuck.count,
        first: first
            .map(|&(connection, owed_bytes)| result::StuckConnection { connection, owed_bytes })
            .collect(),
    }
}

/// An interval's line; its edges count from the beginning of the window.
#[must_use]
pub fn interval(row: &Row, window_begin: u64) -> result::Interval {
    let length = row.end.saturating_sub(row.begin);
    result::Interval {
        begin_us: row.begin.saturating_sub(window_begin) / 1000,
        length_us: length / 1000,
        messages: row.messages,
        messages_per_second: per_second(row.messages, Duration::from_nanos(length)),
        bytes_sent: row.bytes_sent,
        bytes_received: row.bytes_received,
        connections: row.connections,
        open: row.open,
        errors: row.troubles,
        p50_us: row.p50.map(thousandth),
        p99_us: row.p99.map(thousandth),
        max_us: row.max.map(thousandth),
    }
}

/// The window so far.
#[must_use]
pub fn snapshot(measured: Duration, total: &Interval, asked: &[f64]) -> result::Snapshot {
    let times = if total.response.samples() > 0 { &total.response } else { &total.service };
    result::Snapshot {
        measured_us: micros(measured),
        messages: total.messages,
        messages_per_second: per_second(total.messages, measured),
        bytes_received: total.bytes_received,
        errors: total.troubles.total(),
        latency_us: latency(times, asked),
    }
}

fn micros(time: Duration) -> u64 {
    time.as_micros() as u64
}
