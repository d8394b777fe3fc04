//! The form for people: what is done, a line for each interval, and the table at the end. A bad run
//! reads otherwise at once.

use super::figures::{amount, bytes, nanoseconds, share, time, whole};
use super::{histogram, server};
use crate::load::plan::{Arrivals, End, Plan, Spacing, Workload};
use crate::load::summary::percentile_name;
use crate::result::load::{Interval, Latency, LoadResult, Snapshot, VerdictWord};
use crate::statistics::Latencies;
use crate::units::{print_bytes, print_cpus, print_time};
use comfy_table::presets::NOTHING;
use comfy_table::{CellAlignment, Table};
use std::io::{self, Write};

/// What is going to be done: two lines.
///
/// # Errors
/// When it cannot be written.
pub(super) fn heading(plan: &Plan, out: &mut dyn Write) -> io::Result<()> {
    let (least, most) = (u64::from(*plan.size.start()), u64::from(*plan.size.end()));
    let size = match least == most {
        true => print_bytes(least),
        false => format!("{}..{}", print_bytes(least), print_bytes(most)),
    };
    let depth = if plan.depth > 1 { format!(" x depth {}", plan.depth) } else { String::new() };
    let pace = match plan.arrivals {
        Arrivals::Closed if plan.workload == Workload::PingPong => "  closed loop".into(),
        Arrivals::Closed => String::new(),
        Arrivals::Open { rate, .. } if plan.workload == Workload::Idle => {
            format!("  {} msg/s, each connection in turn", amount(rate))
        }
        Arrivals::Open { rate, spacing } => {
            let spacing = if spacing == Spacing::Poisson { "Poisson" } else { "uniform" };
            format!("  {} {}/s open loop ({spacing})", amount(rate), unit(plan.workload == Workload::Churn))
        }
    };
    let warmup = match plan.warmup.is_zero() {
        true => String::new(),
        false => format!(" + {} warm-up", print_time(plan.warmup)),
    };
    let end = match plan.end {
        End::After(duration) => print_time(duration),
        End::Messages(messages) => format!("{} messages", whole(messages)),
    };
    writeln!(
        out,
        "c10k {}  {} to {}  {} connections{depth}  {size} bytes{pace}  {end}{warmup}",
        env!("CARGO_PKG_VERSION"),
        plan.workload.name(),
        plan.target,
        whole(plan.connections.into()),
    )?;
    writeln!(out, "client  {}", client(plan))?;
    out.flush()
}

/// What a rate counts.
fn unit(churn: bool) -> &'static str {
    if churn { "conn" } else { "msg" }
}

fn client(plan: &Plan) -> String {
    let threads = if plan.threads == 1 { "1 thread".into() } else { format!("{} threads", plan.threads) };
    let cpus = match plan.cpus.as_slice() {
        [] => "not pinned".into(),
        cpus => format!("on CPU {}", print_cpus(cpus)),
    };
    let slots = if plan.direct { ", sockets are slots" } else { "" };
    let sources = match plan.sources.len() {
        0 => String::new(),
        1 => format!("  from {}", plan.sources[0]),
        count => format!("  from {count} addresses, {} and on", plan.sources[0]),
    };
    let engine = if plan.engine == crate::load::plan::Engine::Uring { "uring" } else { "epoll" };
    let verify = if plan.verify { "every byte verified" } else { "bytes not verified" };
    format!("{threads}, {cpus}  engine {engine}{slots}{sources}  {verify}")
}

/// The names over the interval lines.
///
/// # Errors
/// When it cannot be written.
pub(super) fn interval_names(out: &mut dyn Write) -> io::Result<()> {
    writeln!(
        out,
        "\n{:>9} {:>10} {:>12} {:>10} {:>10} {:>10} {:>8} {:>7}",
        "time", "open", "per second", "p50", "p99", "max", "in/s", "errors"
    )?;
    out.flush()
}

/// What an interval did a second.
pub(super) fn interval_rate(workload: Workload, interval: &Interval) -> String {
    let seconds = interval.length_us as f64 / 1e6;
    match workload {
        Workload::Churn if seconds > 0.0 => {
            format!("{} conn", amount(interval.connections as f64 / seconds))
        }
        Workload::Churn => "- conn".into(),
        _ => format!("{} msg", amount(interval.messages_per_second)),
    }
}

/// An interval's line.
///
/// # Errors
/// When it cannot be written.
pub(super) fn interval(workload: Workload, interval: &Interval, out: &mut dyn Write) -> io::Result<()> {
    let seconds = interval.length_us as f64 / 1e6;
    let per_second = |count: u64| if seconds > 0.0 { count as f64 / seconds } else { 0.0 };
    let rate = interval_rate(workload, interval);
    writeln!(
        out,
        "{:>7.1} s {:>10} {rate:>12} {:>10} {:>10} {:>10} {:>8} {:>7}",
        (interval.begin_us + interval.length_us) as f64 / 1e6,
        whole(interval.open.into()),
        time(interval.p50_us),
        time(interval.p99_us),
        time(interval.max_us),
        bytes(per_second(interval.bytes_received)),
        interval.errors
    )?;
    out.flush()
}

/// The window so far, in a line.
pub(super) fn snapshot(snapshot: &Snapshot) -> String {
    let latency = &snapshot.latency_us;
    format!(
        "so far {}: {} messages, {} msg/s, p50 {}, p99 {}, max {}, {} errors",
        time(Some(snapshot.measured_us as f64)),
        whole(snapshot.messages),
        amount(snapshot.messages_per_second),
        time(latency.p50),
        time(latency.p99),
        time(latency.max),
        snapshot.errors
    )
}

/// The table at the end. `times` is the distribution whose shape is drawn.
///
/// # Errors
/// When it cannot be written.
pub(super) fn result(
    result: &LoadResult,
    times: &Latencies,
    asked: &[f64],
    out: &mut dyn Write,
) -> io::Result<()> {
    writeln!(out)?;
    ramp(result, out)?;
    if result.window.measured_us > 0 {
        latencies(result, asked, out)?;
        shape(result, times, out)?;
        rate(result, out)?;
        cost(result, out)?;
        spread(result, out)?;
    }
    engine(result, out)?;
    errors(result, out)?;
    search(result, out)?;
    gates(result, out)?;
    if result.window.measured_us > 0 {
        health(result, out)?;
    }
    ending(result, out)?;
    writeln!(out, "\n repeat    {}", result.command)?;
    out.flush()
}

/// A line that begins with `head`, and goes on below in the same column where it is too long.
pub(super) fn wrapped(head: &str, text: &str, out: &mut dyn Write) -> io::Result<()> {
    const WIDTH: usize = 110;
    let indent = head.chars().count();
    let mut line = head.to_string();
    let mut length = indent;
    for word in text.split(' ') {
        let added = word.chars().count() + 1;
        if length + added > WIDTH && length > indent {
            writeln!(out, "{}", line.trim_end())?;
            (line, length) = (" ".repeat(indent), indent);
        }
        line.push_str(word);
        line.push(' ');
        length += added;
    }
    writeln!(out, "{}", line.trim_end())
}

/// Where the second column begins.
const INDENT: &str = "           ";

fn ramp(result: &LoadResult, out: &mut dyn Write) -> io::Result<()> {
    let ramp = &result.ramp;
    // A churn has no ramp: connecting is what it does.
    if result.plan.workload == "churn" && ramp.given_up == 0 {
        return Ok(());
    }
    let p99 = ramp.connect_latency_us.as_ref().and_then(|connect| connect.p99);
    let p99 = p99.map_or_else(String::new, |p99| format!("   p99 {}", time(Some(p99))));
    let given_up = match ramp.given_up {
        0 => String::new(),
        count => format!("   {} GIVEN UP", whole(count.into())),
    };
    writeln!(
        out,
        " CONNECT   {} in {}   {}/s{p99}{given_up}",
        whole(ramp.connected.into()),
        time(Some(ramp.took_us as f64)),
        amount(ramp.connections_per_second)
    )
}

const RESPONSE: &str = "response (from the schedule)";

/// What the time from the send to the last byte is called.
fn service(result: &LoadResult) -> &'static str {
    match (result.plan.workload.as_str(), result.plan.kind_of_loop == "closed") {
        ("churn", _) => "exchange (from the send)",
        (_, true) => "closed-loop round trip",
        (_, false) => "service (from the send)",
    }
}

fn latencies(result: &LoadResult, asked: &[f64], out: &mut dyn Write) -> io::Result<()> {
    let rows = [
        (RESPONSE, &result.response_latency_us),
        (service(result), &result.service_latency_us),
        ("connect (from the SYN)", &result.connect_latency_us),
        ("close", &result.close_latency_us),
        ("lag of the client itself", &result.schedule_lag_us),
    ];
    let mut table = Table::new();
    table.load_style(NOTHING);
    let names = asked.iter().map(|percent| format!("p{percent}"));
    let names = names.chain(["max", "mean", "samples"].map(String::from));
    table.set_header(std::iter::once("LATENCY".to_string()).chain(names));
    for (name, latency) in rows {
        let Some(latency) = latency else { continue };
        let values = asked.iter().map(|percent| time(percentile(latency, *percent)));
        let rest = [time(latency.max), time(latency.mean), whole(latency.samples)];
        table.add_row(std::iter::once(format!("  {name}")).chain(values).chain(rest));
    }
    if table.is_empty() {
        return Ok(());
    }
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table.lines().try_for_each(|line| writeln!(out, "{}", line.trim_end()))
}

fn percentile(latency: &Latency, percent: f64) -> Option<f64> {
    match percent {
        50.0 => latency.p50,
        90.0 => latency.p90,
        99.0 => latency.p99,
        99.9 => latency.p99_9,
        99.99 => latency.p99_99,
        percent => latency.more.get(&percentile_name(percent)).copied().flatten(),
    }
}

fn shape(result: &LoadResult, times: &Latencies, out: &mut dyn Write) -> io::Result<()> {
    const WIDTH: u64 = 40;
    let bars = histogram::bars(times);
    if !bars.is_empty() {
        let of = if result.response_latency_us.is_some() { RESPONSE } else { service(result) };
        writeln!(out, " SHAPE     how many took how long: {of}")?;
    }
    let most = bars.iter().map(|(_, count)| *count).max().unwrap_or(1);
    for (ceiling, count) in bars {
        let bar = match count * WIDTH / most {
            0 => ".".to_string(),
            length => "#".repeat(length as usize),
        };
        writeln!(out, " {:>14} |{bar}", format!("< {}", nanoseconds(Some(ceiling as f64))))?;
    }
    Ok(())
}

fn rate(result: &LoadResult, out: &mut dyn Write) -> io::Result<()> {
    let (rates, plan) = (&result.rates, &result.plan);
    let mut line = String::from(" RATE     ");
    let mut say = |text: String| line.push_str(&format!(" {text}  "));
    match plan.workload.as_str() {
        "stream" => {}
        "churn" => {
            if let Some(intended) = plan.intended_messages_per_second {
                say(format!("target {} conn/s", amount(intended)));
            }
            let achieved = rates.achieved_of_intended.map(|of| format!("{}, ", share(of)));
            say(format!(
                "{} connections/s ({}{} made, used and closed)",
                amount(rates.connections_per_second),
                achieved.unwrap_or_default(),
                whole(rates.connections)
            ));
        }
        _ => {
            if let Some(intended) = plan.intended_messages_per_second {
                say(format!("target {} msg/s", amount(intended)));
            }
            let achieved = rates.achieved_of_intended.map(|of| format!(" ({})", share(of)));
            say(format!(
                "achieved {} msg/s{}",
                amount(rates.messages_per_second),
                achieved.unwrap_or_default()
            ));
            if let Some(worst) = rates.worst_interval_messages_per_second {
                say(format!("worst interval {}", amount(worst)));
            }
        }
    }
    let (sent, received) = (rates.bytes_sent_per_second, rates.bytes_received_per_second);
    say(format!("{}/s out  {}/s in", bytes(sent), bytes(received)));
    writeln!(out, "{}", line.trim_end())?;
    missed(result, out)
}

/// What should have come back and did not.
fn missed(result: &LoadResult, out: &mut dyn Write) -> io::Result<()> {
    let rates = &result.rates;
    let mut parts = Vec::new();
    if rates.unsent > 0 {
        parts.push(format!("{} due messages NOT SENT", whole(rates.unsent)));
    }
    if rates.unanswered > 0 {
        parts.push(format!("{} sent messages NOT ANSWERED", whole(rates.unanswered)));
    }
    if parts.is_empty() {
        return Ok(());
    }
    let counted = match result.response_latency_us {
        Some(_) => "; in the response with the time they had waited when the run gave up",
        None => "",
    };
    wrapped(INDENT, &format!("{}{counted}", parts.join(", ")), out)
}

fn cost(result: &LoadResult, out: &mut dyn Write) -> io::Result<()> {
    let cost = &result.cost;
    let stream = result.plan.workload == "stream";
    let mut parts = Vec::new();
    let server = cost.server.as_ref();
    if let Some(server) = server.and_then(|server| server.cpu_ns_per_message) {
        parts.push(format!("server {}", nanoseconds(Some(server))));
    }
    if let Some(client) = if stream { cost.client_cpu_ns_per_kib } else { cost.client_cpu_ns_per_message } {
        parts.push(format!("client {}", nanoseconds(Some(client))));
    }
    let machine = cost.machine.as_ref();
    if let Some(each) = machine.and_then(|machine| machine.cpu_ns_per_message).filter(|_| !stream) {
        parts.push(format!("machine {}", nanoseconds(Some(each))));
    }
    if parts.is_empty() {
        return Ok(());
    }
    // A churn's message is a connection, made and closed for it.
    let one = if result.plan.workload == "churn" { "connection" } else { "message" };
    let each = if stream { "KiB received" } else { one };
    writeln!(out, " COST      CPU per {each}: {}", parts.join("   "))?;
    let calls = [
        ("server", server.and_then(|server| server.system_calls_per_message)),
        ("client", cost.client_system_calls_per_message),
    ];
    let calls = calls.into_iter().filter_map(|(who, calls)| Some(format!("{who} {:.2}", calls?)));
    let calls: Vec<String> = calls.filter(|_| !stream).collect();
    if !calls.is_empty() {
        writeln!(out, "{INDENT}system calls per {one}: {}", calls.join("   "))?;
    }
    let stats = server.and_then(|server| server.stats.as_ref());
    if let Some(stats) = stats {
        wrapped(" SERVER    ", &server::line(stats), out)?;
    }
    let missing = server.and_then(|server| server.missing.as_ref());
    let notes = stats.into_iter().flat_map(|stats| &stats.notes);
    missing.into_iter().chain(notes).try_for_each(|said| wrapped(INDENT, said, out))
}

/// What carried the messages.
fn engine(result: &LoadResult, out: &mut dyn Write) -> io::Result<()> {
    let client = &result.environment.client;
    if client.features.0.is_empty() {
        return Ok(());
    }
    let features = client.features.0.iter().map(|(name, value)| format!("{name}={value}"));
    let features: Vec<String> = features.collect();
    wrapped(" ENGINE    ", &format!("{}: {}", client.engine, features.join(" ")), out)
}

fn spread(result: &LoadResult, out: &mut dyn Write) -> io::Result<()> {
    let spread = &result.spread;
    let (Some(mean), Some(jain)) = (spread.mean, spread.jain) else { return Ok(()) };
    if result.plan.workload == "idle" {
        let echoed = spread.connections - spread.silent;
        return writeln!(
            out,
            " SPREAD    {} of {} connections echoed in the window",
            whole(echoed),
            whole(spread.connections)
        );
    }
    let what = if result.plan.workload == "churn" { "place" } else { "connection" };
    writeln!(
        out,
        " SPREAD    messages of a {what}: least {}   mean {}   most {}   Jain {jain:.3}   silent {}",
        whole(spread.least),
        amount(mean),
        whole(spread.most),
        whole(spread.silent)
    )
}

fn errors(result: &LoadResult, out: &mut dyn Write) -> io::Result<()> {
    let verified = match (result.verification.on, result.verification.wrong_connections) {
        (false, _) => "bytes were not verified".into(),
        (true, 0) if result.verification.bytes == 0 => "nothing came back to be verified".into(),
        (true, 0) => format!("{} verified, none wrong", bytes(result.verification.bytes as f64)),
        (true, wrong) => format!("BYTES WERE WRONG on {} connections", whole(wrong)),
    };
    if result.errors.is_empty() {
        writeln!(out, " ERRORS    none; {verified}")?;
    } else {
        writeln!(out, " ERRORS    {verified}")?;
    }
    for trouble in &result.errors {
        let name = trouble.errno.as_deref().unwrap_or(&trouble.cause);
        let head = format!("   {:>8} x {} {name}: ", whole(trouble.count), trouble.phase);
        wrapped(&head, &format!("{}; {}", trouble.explanation, trouble.remedy), out)?;
    }
    for wrong in &result.verification.wrong {
        writeln!(
            out,
            "   connection {}, byte {}: expected {}, got {}: {}",
            wrong.connection,
            whole(wrong.offset),
            wrong.expected,
            if wrong.got.is_empty() { "nothing" } else { &wrong.got },
            wrong.what
        )?;
    }
    for stuck in &result.stuck.first {
        writeln!(out, "   connection {} is owed {} bytes", stuck.connection, whole(stuck.owed_bytes))?;
    }
    Ok(())
}

fn search(result: &LoadResult, out: &mut dyn Write) -> io::Result<()> {
    let Some(search) = &result.find_rate else { return Ok(()) };
    for step in &search.steps {
        let mark = if step.held { "holds" } else { "does not hold" };
        let suspect = if step.verdict == VerdictWord::Valid { "" } else { "   suspect" };
        writeln!(
            out,
            "   {:>9} msg/s   achieved {:>9}   p50 {:>8}   p99 {:>8}   client {:>8}   {mark}{suspect}",
            amount(step.intended_messages_per_second),
            amount(step.achieved_messages_per_second),
            time(step.response_latency_us.p50),
            time(step.response_latency_us.p99),
            nanoseconds(step.client_cpu_ns_per_message)
        )?;
    }
    match (search.highest_messages_per_second, search.lowest_failed_messages_per_second) {
        (Some(highest), Some(failed)) => writeln!(
            out,
            " KNEE      {} msg/s is the highest rate at which {} holds; at {} it does not",
            amount(highest),
            search.condition,
            amount(failed)
        ),
        (Some(highest), None) => {
            writeln!(
                out,
                " KNEE      {} holds at every rate that was tried, up to {} msg/s",
                search.condition,
                amount(highest)
            )
        }
        (None, _) => writeln!(out, " KNEE      {} holds at no rate that was tried", search.condition),
    }
}

fn gates(result: &LoadResult, out: &mut dyn Write) -> io::Result<()> {
    for gate in &result.fail_if {
        let measured = gate.measured.as_deref().unwrap_or("nothing was measured");
        let word = if gate.breached { "BREACHED" } else { "passed" };
        writeln!(out, " FAIL-IF   {}: {word} ({measured})", gate.condition)?;
    }
    Ok(())
}

fn health(result: &LoadResult, out: &mut dyn Write) -> io::Result<()> {
    let busiest = result.cost.client_threads_busy.iter().copied().fold(0.0, f64::max);
    let mut facts = format!("client {} busy", share(busiest));
    let counted = [
        ("overflows of its queue", result.cost.client_queue_overflows),
        ("receives without a buffer", result.cost.client_empty_pool),
        ("stale completions", result.cost.client_stale_completions),
    ];
    for (name, count) in counted.into_iter().filter(|(_, count)| *count > 0) {
        facts.push_str(&format!("   {name} {}", whole(count)));
    }
    if let Some(machine) = &result.cost.machine {
        facts.push_str(&format!("   steal {}", share(machine.steal)));
        if let Some(pressure) = machine.pressure {
            facts.push_str(&format!("   CPU pressure {}", share(pressure)));
        }
    }
    let word = match result.verdict.word {
        VerdictWord::Valid => "VALID",
        VerdictWord::Suspect => "SUSPECT",
        VerdictWord::Invalid => "INVALID",
    };
    writeln!(out, " HEALTH    {word}   {facts}")?;
    for reason in &result.verdict.reasons {
        wrapped(INDENT, reason, out)?;
    }
    if result.environment.loopback {
        writeln!(out, "{INDENT}both ends share this machine: compare runs on it, not with others")?;
    }
    Ok(())
}

fn ending(result: &LoadResult, out: &mut dyn Write) -> io::Result<()> {
    for failure in &result.failures {
        wrapped(" FAILED    ", failure, out)?;
    }
    if result.interrupted {
        writeln!(out, " INTERRUPTED before its time; the numbers are those of the time until then")?;
    }
    Ok(())
}
