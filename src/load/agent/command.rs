//! `c10k load --agent`, from what was typed to the exit code.

use super::{Agent, DEFAULT_ADDRESS};
use crate::load::verdict::{FAILED, USAGE};
use crate::stop;
use nix::sys::signal::Signal;
use nix::sys::signalfd::SignalFd;
use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::os::fd::AsFd as _;

/// Serves at the address that was typed, or the default one, until SIGTERM or SIGINT. The exit code.
#[must_use]
pub fn command(address: &str) -> u8 {
    let Ok(address) = address.parse::<SocketAddr>() else {
        let sentence =
            format!("--agent: {address:?} is no ADDR:PORT; {DEFAULT_ADDRESS} or 10.0.0.2:8889 would do");
        return complain(&sentence, USAGE);
    };
    match serve(address) {
        Ok(()) => 0,
        Err(sentence) => complain(&format!("--agent: {sentence}"), FAILED),
    }
}

fn serve(address: SocketAddr) -> Result<(), String> {
    // Before any thread: threads inherit the blocked set.
    let signals = stop::signals().map_err(|error| format!("signals cannot be taken: {error}"))?;
    let agent = Agent::listen(address)?;
    // Whoever closed standard output or error does not want to know.
    let _ = writeln!(io::stdout(), "c10k agent on {}", agent.address());
    if let Some(remark) = agent.remark() {
        let _ = writeln!(io::stderr(), "c10k: note: {remark}");
    }
    while !told_to_stop(&signals) {
        agent.serve(signals.as_fd())?;
    }
    Ok(())
}

fn told_to_stop(signals: &SignalFd) -> bool {
    let heard = std::iter::from_fn(|| signals.read_signal().ok().flatten());
    let ends = |number: u32| matches!(Signal::try_from(number as i32), Ok(Signal::SIGTERM | Signal::SIGINT));
    heard.filter(|signal| ends(signal.ssi_signo)).count() > 0
}

fn complain(sentence: &str, exit_code: u8) -> u8 {
    let _ = writeln!(io::stderr(), "c10k: {sentence}");
    exit_code
}
