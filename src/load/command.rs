//! `c10k load` from what was typed to the exit code: check, open the files, run, judge, print.

use super::agent;
use super::check::{self, Checked, FIND_RATE_FIRST, Facts};
use super::find_rate;
use super::outcome::{Observer, Outcome};
use super::output::{Files, Printer};
use super::plan::{Plan, StatsFrom};
use super::run::run;
use super::summary;
use super::typed::Typed;
use super::verdict::{self, FAILED, UNAVAILABLE, USAGE, WRONG_BYTES};
use crate::host;
use crate::result::load as result;
use std::io::{self, Write};
use std::net::{IpAddr, SocketAddr, TcpStream, ToSocketAddrs, UdpSocket};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Does what was typed. The exit code.
#[must_use]
pub fn load(typed: &Typed) -> u8 {
    let alone = Typed { agent: typed.agent.clone(), quiet: typed.quiet, ..Typed::default() };
    if let (Some(address), true) = (&typed.agent, *typed == alone) {
        return agent::command(address);
    }
    let environment = environment();
    let checked = match check(typed, &environment) {
        Ok(checked) => checked,
        Err(refused) => {
            refused.problems.iter().for_each(|problem| complain(problem));
            return if refused.unavailable { UNAVAILABLE } else { USAGE };
        }
    };
    if !checked.outputs.quiet {
        checked.notes.iter().for_each(|note| complain(note));
    }
    let mut files = match Files::open(&checked.outputs) {
        Ok(files) => files,
        Err(problems) => {
            problems.iter().for_each(|problem| complain(problem));
            return USAGE;
        }
    };
    measured(&checked, environment, &mut files, run)
}

/// A sentence on standard error. One that is closed has no reader.
fn complain(sentence: &str) {
    let _ = writeln!(io::stderr(), "c10k: {sentence}");
}

/// Runs, judges and prints. `run` makes one measurement.
fn measured(
    checked: &Checked,
    environment: result::Environment,
    files: &mut Files,
    mut run: impl FnMut(&Plan, &mut dyn Observer) -> Outcome,
) -> u8 {
    let mut printer = Printer::new(checked, files);
    let mut checked = checked.clone();
    let (outcome, found) = match &checked.find_rate {
        None => (run(&checked.plan, &mut printer), None),
        Some(condition) => {
            let found = find_rate::find(&checked.plan, condition, FIND_RATE_FIRST, &mut printer, run);
            checked.plan = found.plan;
            (found.outcome, Some(found.find_rate))
        }
    };
    if checked.plan.server_stats != StatsFrom::None && outcome.server.is_none() {
        printer.notice("--server-stats: nothing was learned of the server");
    }
    let judged = verdict::judge(&checked, &outcome, found);
    let exit_code = judged.exit_code;
    let environment = result::Environment { loopback: checked.plan.target.ip().is_loopback(), ..environment };
    let result = summary::result(&checked, &outcome, environment, judged);
    let written = printer.finish(&result, verdict::main_latency(&outcome));
    result.failures.iter().for_each(|failure| complain(failure));
    match written {
        Ok(()) => exit_code,
        Err(sentence) => {
            complain(&sentence);
            if exit_code == WRONG_BYTES { exit_code } else { FAILED }
        }
    }
}

fn check(typed: &Typed, environment: &result::Environment) -> Result<Checked, check::Refused> {
    let facts = Facts {
        cpus: environment.cpus.clone(),
        descriptors: environment.descriptors,
        ports: environment.local_ports,
        memory: environment.memory_bytes,
        uring_unavailable: crate::ring::probe::probe().unavailable(),
        seed: seed(),
        lookup: &lookup,
        owns: &owns,
    };
    check::check(typed, &facts)
}

/// What the host says of itself; also raises the soft limit of descriptors.
fn environment() -> result::Environment {
    result::Environment {
        kernel: host::kernel_release(),
        cpu_model: host::cpu_model(),
        cpus: host::cpus(),
        memory_bytes: host::memory_bytes(),
        descriptors: host::raise_descriptors(),
        local_ports: host::local_ports(),
        load_average: host::load_average(),
        loopback: false,
        client: result::Client::default(),
    }
}

/// A seed short enough to be typed again.
fn seed() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::from(now.subsec_nanos() ^ now.as_secs() as u32)
}

/// The addresses of a name. Of several, the first that lets itself be connected to comes first, so that
/// a server that listens on 127.0.0.1 is found under `localhost`, which may be `::1` before.
fn lookup(host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    const PATIENCE: Duration = Duration::from_secs(1);
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let mut addresses: Vec<SocketAddr> = (host, port).to_socket_addrs()?.collect();
    let answers = |address: &SocketAddr| TcpStream::connect_timeout(address, PATIENCE).is_ok();
    if addresses.len() > 1
        && let Some(first) = addresses.iter().position(answers)
    {
        addresses.swap(0, first);
    }
    Ok(addresses)
}

/// Whether an address is this host's: one may bind to it.
fn owns(address: IpAddr) -> bool {
    UdpSocket::bind((address, 0)).is_ok()
}
