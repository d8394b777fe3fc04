//! The server around the event loops: facts, configuration, listeners, worker threads, the ONE match on
//! the backend, and the end. From here on, what a person sees of the program.

mod account;
mod listen;
mod print;
mod ready;
mod shared_account;
mod watch;

use crate::config::{self, Backend, Checked, Config, Facts, Typed};
use crate::features::{Answers, Kind, Problem, Threads};
use crate::ring::probe;
use crate::stop::{self, Stop};
use crate::worker::{self, Ending, Failure, Worker};
use crate::{epoll_baseline, features, host, sys, uring};
use nix::sys::signalfd::SignalFd;
use print::{Printer, Stream};
use std::io::Write as _;
use std::net::TcpListener;
use std::sync::Arc;
use std::thread;
use watch::{Bell, Said, Watch};

/// How the program ends, as its exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// Done.
    Done = 0,
    /// It failed.
    Failed = 1,
    /// Wrong usage or configuration.
    Usage = 2,
    /// The backend or a feature is not available here.
    Unavailable = 6,
    /// Connections were cut.
    Cut = 7,
}

impl From<Exit> for std::process::ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// Serves with what was typed, until told to stop.
#[must_use]
pub fn serve(typed: &Typed) -> Exit {
    // Before any thread: threads inherit the blocked set.
    let signals = match stop::signals() {
        Ok(signals) => signals,
        Err(error) => return failed(&format!("signals cannot be taken: {error}")),
    };
    let facts = facts(typed);
    match config::resolve(typed, &facts) {
        Ok(checked) => run(&checked, &facts, &signals).unwrap_or_else(|sentence| failed(&sentence)),
        Err(problems) => report(&problems),
    }
}

/// What `--uring help` prints: the table, and what this kernel says to it.
#[must_use]
pub fn uring_help() -> String {
    features::help_uring(&probe::probe())
}

/// What the host and the kernel say. The kernel is asked about rings only where the answer matters.
#[must_use]
pub fn facts(typed: &Typed) -> Facts {
    let rings = typed.backend.as_deref() != Some(Backend::Epoll.name());
    Facts {
        cpus: host::cpus(),
        descriptors: host::raise_descriptors(),
        memory: host::memory_bytes(),
        locked_memory: host::locked_memory(),
        page: host::page_bytes(),
        backlog_max: host::backlog_max(),
        congestion_controls: host::congestion_controls(),
        answers: if rings { probe::probe() } else { Answers::default() },
    }
}

/// Prints every problem. What was typed wrong comes before what is missing here.
fn report(problems: &[Problem]) -> Exit {
    for problem in problems {
        complain(&problem.text);
    }
    let usage = problems.iter().any(|problem| problem.kind == Kind::Usage);
    if usage { Exit::Usage } else { Exit::Unavailable }
}

fn failed(sentence: &str) -> Exit {
    complain(sentence);
    Exit::Failed
}

fn complain(sentence: &str) {
    // Whoever closed standard error does not want to know.
    let _ = writeln!(std::io::stderr(), "c10k: {sentence}");
}

/// What a worker's thread does.
type Body<'a> = Box<dyn Fn(Worker<'_>) -> Result<Ending, Failure> + Sync + 'a>;

/// What the backend is, where it matters to the rest of the program.
struct Server<'a> {
    body: Body<'a>,
    own_counters: &'static [&'static str],
}

/// The one match on the backend. Takes the listeners that all workers share, where they do.
fn backend(config: &Config, shared: Vec<TcpListener>) -> Result<Server<'_>, Failure> {
    Ok(match (config.backend, config.epoll.threads) {
        (Backend::Uring, _) => {
            let rings = Arc::new(uring::Rings::new(config.workers));
            Server { body: Box::new(move |worker| uring::run(worker, &rings)), own_counters: uring::COUNTERS }
        }
        (Backend::Epoll, Threads::PerCore) => {
            Server { body: Box::new(epoll_baseline::run), own_counters: epoll_baseline::COUNTERS }
        }
        (Backend::Epoll, Threads::Shared) => {
            let server = epoll_baseline::Shared::new(config, shared)?;
            Server {
                body: Box::new(move |worker| server.run(worker)),
                own_counters: epoll_baseline::COUNTERS,
            }
        }
    })
}

/// Whether all workers wait on the same listeners.
fn shares_listeners(config: &Config) -> bool {
    config.backend == Backend::Epoll && config.epoll.threads == Threads::Shared
}

fn run(checked: &Checked, facts: &Facts, signals: &SignalFd) -> Result<Exit, String> {
    let config = &checked.config;
    let output = Printer::start(Stream::Output).map_err(no_thread)?;
    let errors = Printer::start(Stream::Error).map_err(no_thread)?;
    let one_accepts = shares_listeners(config) || config.hands_on();
    let sets = if one_accepts { 1 } else { config.workers };
    let mut listening = listen::listen(config, sets, &|text| errors.line(format!("c10k: {text}")))?;
    let shared = if shares_listeners(config) { listening.sets.remove(0) } else { Vec::new() };
    listening.sets.resize_with(config.workers, Vec::new);
    let server = match backend(config, shared) {
        Ok(server) => server,
        Err(failure) => {
            complain(&failure.to_string());
            return Ok(exit_of(&failure));
        }
    };
    let new = || worker::counters(server.own_counters);
    let (counters, unread) = shared_account::lay_out(config, &listening.addresses, new);
    if let Some(note) = unread.filter(|_| config.verbosity >= 1) {
        errors.line(format!("c10k: {note}"));
    }
    let stop = Stop::new(config.workers).map_err(|error| format!("no eventfd for each worker: {error}"))?;
    let admission = worker::admission(config);
    let handover = worker::handover(config);
    let (bell, said) = Bell::new().map_err(|error| format!("no eventfd: {error}"))?;
    let ready = |laid| bell.say(Said::Ready(laid));
    let notes = checked.notes.iter().chain(&listening.notes).cloned().collect();
    let plan = ready::Plan { checked, facts, addresses: &listening.addresses, notes };

    thread::scope(|scope| {
        let mut started = 0;
        for (index, listeners) in listening.sets.into_iter().enumerate() {
            let counters = &counters[index];
            let (admission, handover, stop, ready) = (&admission, handover.as_ref(), &stop, &ready);
            let worker = Worker {
                index,
                config,
                listeners,
                admission,
                handover,
                room: config.max_connections,
                counters,
                stop,
                ready,
                busy_poll: sys::poll_card,
            };
            let (body, bell) = (&server.body, &bell);
            match start(scope, worker, body, bell) {
                Ok(()) => started += 1,
                Err(error) => {
                    bell.say(Said::NotStarted(index, no_thread(error)));
                    break;
                }
            }
        }
        Ok(Watch::new(plan, counters, &stop, output, errors, started).until_the_end(signals, &bell, &said))
    })
}

/// Starts the thread of a worker, pinned first: what it lays out shall be near its CPU.
fn start<'scope, 'env: 'scope>(
    scope: &'scope thread::Scope<'scope, 'env>,
    worker: Worker<'scope>,
    body: &'scope Body<'_>,
    bell: &'scope Bell,
) -> std::io::Result<()> {
    let (index, stop) = (worker.index, worker.stop);
    let handover = worker.handover.filter(|_| !worker.listeners.is_empty());
    let thread = thread::Builder::new().name(format!("c10k-worker-{index}"));
    let spawned = thread.spawn_scoped(scope, move || {
        pin(worker.config, index, bell);
        let ending = body(worker);
        if let Some(handover) = handover {
            // However it ended, it sends nobody any more: the others must not wait for its word.
            handover.end();
            stop.wake_others(index);
        }
        bell.say(Said::Ended(index, ending));
    });
    spawned.map(drop)
}

fn pin(config: &Config, index: usize, bell: &Bell) {
    if config.cpus.is_empty() {
        return;
    }
    if let Err(sentence) = host::pin(config.cpus[index % config.cpus.len()]) {
        bell.say(Said::Warning(index, sentence));
    }
}

fn exit_of(failure: &Failure) -> Exit {
    match failure {
        Failure::Unavailable(_) => Exit::Unavailable,
        Failure::Failed(_) => Exit::Failed,
    }
}

fn no_thread(error: std::io::Error) -> String {
    format!(
        "no thread could be started ({error}): the limit of processes or memory is used up; fewer --workers or a \
         higher ulimit -u would do"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli;

    /// The configuration of a command line, on this host, with rings that can do everything.
    pub(super) fn config(arguments: &[&str]) -> Config {
        let arguments = std::iter::once("c10k").chain(arguments.iter().copied()).map(Into::into);
        let cli::Asked::Serve(typed) = cli::parse(arguments).unwrap() else { panic!("not to serve") };
        config::resolve(&typed, &Facts::for_tests()).unwrap().config
    }
}
