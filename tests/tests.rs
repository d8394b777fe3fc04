//! The one test binary: every row of the fault list against the built server on every variant of it,
//! the comparison with a plain server, the rules about the sources, and the checks of the client.
//!
//! What cannot run here is listed as ignored, with the reason; see [`skip`]. `C10K_REQUIRE_URING=1`
//! turns a missing io_uring into a failure, `C10K_REQUIRE_CHROMIUM=1` a missing browser, `C10K_SEED`
//! replays, `C10K_LONG=1` runs everything at full size (`scripts/long-tests`), `C10K_BINARY` names another
//! build.

mod bench;
mod client;
mod differential;
mod doctor;
mod kernel_log;
mod liar;
mod load;
mod queues;
mod report;
mod rooms;
mod rows;
mod server;
mod skip;
mod times;

use kernel_log::KernelLog;
use libtest_mimic::Arguments;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use std::collections::BTreeMap;
use std::process::ExitCode;
use std::time::Duration;

fn main() -> ExitCode {
    bench::be_a_liar_if_asked();
    // Thousands of peers live in this process.
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).expect("a limit");
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard).expect("the soft limit may rise to the hard one");

    liar::hide_expected_panics();

    let mut trials = rooms::trials();
    trials.extend(liar::trials());
    trials.extend(kernel_log::trials());
    trials.extend(rows::trials());
    trials.extend(differential::trials());
    trials.extend(load::trials());
    trials.extend(report::trials());
    trials.extend(doctor::trials());
    trials.extend(bench::trials());
    let mut skipped: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for trial in trials.iter().filter(|trial| trial.has_ignored_flag()) {
        skipped.entry(trial.kind().into()).or_default().push(trial.name().into());
    }
    let mut arguments = Arguments::from_args();
    // The rows wait for timeouts and for each other's processes more than they compute.
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let have_descriptors = usize::try_from(hard / rows::descriptors_of_a_row()).unwrap_or(usize::MAX);
    arguments.test_threads.get_or_insert((2 * cores).min(have_descriptors).max(1));
    let log = KernelLog::from_now_on();
    let conclusion = libtest_mimic::run(&arguments, trials);
    if arguments.list {
        return conclusion.exit_code();
    }
    for (reason, names) in skipped {
        println!("{} tests {reason}\n    {}\n", names.len(), names.join("\n    "));
    }
    times::print(Duration::from_secs(if rows::is_long() { 1 } else { 5 }));
    if is_alarmed(log) { ExitCode::FAILURE } else { conclusion.exit_code() }
}

/// Whether the kernel found a fault of its own meanwhile; says so, or why it is not known.
fn is_alarmed(log: KernelLog) -> bool {
    let alarms = match log.alarms() {
        Ok(alarms) => alarms,
        Err(reason) => {
            println!("skipped: the kernel's own warnings: {reason}\n");
            return false;
        }
    };
    if !alarms.is_empty() {
        println!("FAILED: the kernel warned while the tests ran:\n    {}\n", alarms.join("\n    "));
    }
    !alarms.is_empty()
}
