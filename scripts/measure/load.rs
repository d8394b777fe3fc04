//! The figures of `c10k load`: what a message costs the client beside what it costs our own server, and
//! beside a client with a thread per connection; how many connections one process holds; what measuring
//! costs; how true an open loop is. Every ratio is taken within one run.
//!
//! The server has CPU 0 and the client CPU 1, each for itself. What the hypervisor took much of is
//! measured again, and how often is printed.

mod threads;

use crate::compare::Spread;
use crate::server::{Server, binary};
use serde_json::Value;
use std::io;
use std::process::{Command, Stdio};

/// What may be typed.
#[derive(clap::Args)]
pub struct Arguments {
    /// Which figures.
    #[arg(value_enum, default_values = ["cost", "measuring", "pace", "scale"])]
    figures: Vec<Figure>,
    /// Rounds of each ratio.
    #[arg(long, default_value_t = 9)]
    rounds: usize,
    /// Seconds of a slice.
    #[arg(long, default_value_t = 2)]
    seconds: u32,
}

/// One figure.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Figure {
    /// Client CPU per message beside the server's, and beside a client with a thread per connection.
    Cost,
    /// What verification, latencies and interval lines cost.
    Measuring,
    /// How true an open loop is at half of what the server can do.
    Pace,
    /// 19,000 connections on defaults, 100,000 with direct descriptors.
    Scale,
}

/// Measures and prints.
pub fn run(arguments: &Arguments) -> io::Result<()> {
    for figure in &arguments.figures {
        match figure {
            Figure::Cost => cost(arguments)?,
            Figure::Measuring => measuring(arguments)?,
            Figure::Pace => pace(arguments)?,
            Figure::Scale => scale()?,
        }
    }
    Ok(())
}

const SERVER: &str = "--backend uring --workers 1 --cpus 0";

/// One run of `c10k load` on CPU 1: its result.
fn load(server: &Server, arguments: &str) -> io::Result<Value> {
    let mut words = arguments.split_whitespace();
    let workload = words.next().expect("a workload comes first").to_string();
    let mut command = Command::new(binary()?);
    command.args(["load", &workload, &server.address.to_string(), "--cpus", "1", "--format", "json", "-q"]);
    let output = command.args(words).stdin(Stdio::null()).stderr(Stdio::inherit()).output()?;
    let result: Value = serde_json::from_slice(&output.stdout)
        .map_err(|error| io::Error::other(format!("load {arguments}: no result: {error}")))?;
    match output.status.code() {
        Some(0) => Ok(result),
        code => Err(io::Error::other(format!("load {arguments}: exit {code:?}: {}", result["failures"]))),
    }
}

/// Share of the machine the hypervisor may take from a slice that counts.
const STEAL_MAX: f64 = 0.02;

/// What `measured` gives in an undisturbed slice: at most five are tried, the quietest counts. Every one
/// that does not count is added to `repeated`.
fn undisturbed(
    repeated: &mut u32,
    mut measured: impl FnMut() -> io::Result<(Vec<Value>, f64)>,
) -> io::Result<f64> {
    let mut quietest = (f64::INFINITY, 0.0);
    for attempt in 0..5 {
        let (results, ratio) = measured()?;
        let steals = results.iter().map(|result| number(result, "/cost/machine/steal"));
        let steal = steals.collect::<io::Result<Vec<_>>>()?.into_iter().fold(0.0, f64::max);
        if steal < quietest.0 {
            quietest = (steal, ratio);
        }
        if steal <= STEAL_MAX {
            break;
        }
        *repeated += u32::from(attempt < 4);
    }
    Ok(quietest.1)
}

fn number(value: &Value, pointer: &str) -> io::Result<f64> {
    let found = value.pointer(pointer).and_then(Value::as_f64);
    found.ok_or_else(|| io::Error::other(format!("the result has no number {pointer}")))
}

/// Client CPU per message over the server's, in the same slices; then over that of a client with a
/// thread per connection, in slices that alternate with ours.
fn cost(arguments: &Arguments) -> io::Result<()> {
    for connections in [100, 9000] {
        let server = Server::start(SERVER)?;
        let words = format!(
            "pingpong -c {connections} -s 64 -t 1 -w 500ms -d {}s --server-stats {}",
            arguments.seconds,
            server.id()
        );
        let (mut beside_server, mut beside_threads) = (Vec::new(), Vec::new());
        for round in 0..arguments.rounds {
            // As many threads as connections are bearable only for some hundreds.
            let threads_first = round % 2 == 1;
            let threads =
                || (connections <= 1000).then(|| threads::slice(&server, connections, arguments.seconds));
            let before = threads_first.then(threads).flatten().transpose()?;
            let result = load(&server, &words)?;
            let after = (!threads_first).then(threads).flatten().transpose()?;
            let client = number(&result, "/cost/client_cpu_ns_per_message")?;
            beside_server.push(client / number(&result, "/cost/server/cpu_ns_per_message")?);
            if let Some(theirs) = before.or(after) {
                beside_threads.push(client / theirs);
            }
        }
        println!(
            "cost       {connections:>6} connections, 64 bytes, verified: client CPU per message over the uring \
             server's {}",
            Spread::of(beside_server.into_iter())
        );
        if !beside_threads.is_empty() {
            println!(
                "           {connections:>6} connections: over that of a client with a thread per connection, \
                 which verifies nothing {}",
                Spread::of(beside_threads.into_iter())
            );
        }
    }
    Ok(())
}

/// Throughput with everything on over throughput with everything off, in pairs.
fn measuring(arguments: &Arguments) -> io::Result<()> {
    let server = Server::start(SERVER)?;
    let contest = |workload: &str, pointer: &str| -> io::Result<Spread> {
        let words = format!("{workload} -t 1 -w 500ms -d {}s", arguments.seconds);
        let on = || load(&server, &format!("{words} -i 1s"));
        let off = || load(&server, &format!("{words} --no-verify --no-latency -i 1m"));
        let (mut ratios, mut repeated) = (Vec::new(), 0);
        for round in 0..arguments.rounds {
            ratios.push(undisturbed(&mut repeated, || {
                let first = if round % 2 == 0 { on()? } else { off()? };
                let second = if round % 2 == 0 { off()? } else { on()? };
                let ratio = number(&first, pointer)? / number(&second, pointer)?;
                let ratio = if round % 2 == 0 { ratio } else { 1.0 / ratio };
                Ok((vec![first, second], ratio))
            })?);
        }
        println!("           {repeated} pairs measured again");
        Ok(Spread::of(ratios.into_iter()))
    };
    let ratio = contest("pingpong -c 100 -s 64", "/rates/messages_per_second")?;
    println!("measuring  ping-pong, 100 connections: messages a second with everything on over off {ratio}");
    let ratio = contest("stream -c 16 -s 64Ki", "/rates/bytes_received_per_second")?;
    println!("           stream, 16 connections: bytes a second with everything on over off {ratio}");
    Ok(())
}

/// An open loop at half of the closed loop's rate.
fn pace(arguments: &Arguments) -> io::Result<()> {
    let server = Server::start(SERVER)?;
    let seconds = arguments.seconds;
    let closed = load(&server, &format!("pingpong -c 100 -s 64 -t 1 -w 500ms -d {seconds}s"))?;
    let rate = (number(&closed, "/rates/messages_per_second")? / 2.0) as u64;
    for arrival in ["uniform", "poisson"] {
        let words = format!("pingpong -c 100 -s 64 -t 1 -w 1s -d 10s -R {rate} --arrival {arrival}");
        let mut result = load(&server, &words)?;
        for _ in 0..4 {
            if number(&result, "/cost/machine/steal")? <= STEAL_MAX {
                break;
            }
            result = load(&server, &words)?;
        }
        println!(
            "pace       {rate}/s intended ({arrival}): achieved {:.3} %, schedule lag p99 {:.0} us, max {:.0} us, \
             response p99 {:.0} us, steal {:.1} %; {}",
            100.0 * number(&result, "/rates/achieved_of_intended")?,
            number(&result, "/schedule_lag_us/p99")?,
            number(&result, "/schedule_lag_us/max")?,
            number(&result, "/response_latency_us/p99")?,
            100.0 * number(&result, "/cost/machine/steal")?,
            result["verdict"]["word"]
        );
    }
    Ok(())
}

/// Many connections from one process, every one of which must echo.
fn scale() -> io::Result<()> {
    let runs = [
        (19_000, format!("{SERVER} --max-connections 19500"), "idle -c 19000 --every 5s -d 6s"),
        (
            100_000,
            "--backend uring --workers 6 --uring files=direct --max-connections 100k --cpus 0".to_string(),
            "idle -c 100k --every 10s -d 11s",
        ),
    ];
    for (connections, server, words) in runs {
        let server = Server::start(&server)?;
        let result = load(&server, words)?;
        println!(
            "scale      {connections} connections: {} stand after {:.2} s, {} echoed, {} stuck, {} bytes verified, \
             {} threads on one CPU",
            result["ramp"]["connected"],
            number(&result, "/ramp/took_us")? / 1e6,
            number(&result, "/spread/connections")? - number(&result, "/spread/silent")?,
            result["stuck"]["count"],
            result["verification"]["bytes"],
            result["plan"]["threads"]
        );
    }
    Ok(())
}
