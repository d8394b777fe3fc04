//! The one test binary: every row of the fault list against the built server on every variant of it,
//! the comparison with a plain server, the rules about the sources, and the checks of the client.
//!
//! What cannot run here is listed as ignored, with the reason; see [`skip`]. `C10K_REQUIRE_URING=1`
//! turns a missing io_uring into a failure, `C10K_SEED` replays, `C10K_LONG=1` runs everything at full
//! size (`scripts/long-tests`), `C10K_BINARY` names another build.

mod client;
mod differential;
mod liar;
mod rooms;
mod rows;
mod server;
mod skip;

use libtest_mimic::Arguments;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use std::process::ExitCode;

fn main() -> ExitCode {
    // Thousands of peers live in this process.
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).expect("a limit");
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard).expect("the soft limit may rise to the hard one");

    liar::hide_expected_panics();

    let mut trials = rooms::trials();
    trials.extend(liar::trials());
    trials.extend(rows::trials());
    trials.extend(differential::trials());
    let skipped: Vec<_> = trials
        .iter()
        .filter(|trial| trial.has_ignored_flag())
        .map(|trial| format!("skipped: {}: {}", trial.name(), trial.kind()))
        .collect();
    let arguments = Arguments::from_args();
    let conclusion = libtest_mimic::run(&arguments, trials);
    if !arguments.list {
        skipped.iter().for_each(|line| println!("{line}"));
    }
    conclusion.exit_code()
}
