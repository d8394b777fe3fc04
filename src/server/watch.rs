//! The main thread while the workers serve: it hears signals and the workers, prints, and sees to it
//! that the end comes in time.
//!
//! A stop in steps: 1. the first SIGTERM or SIGINT drains; 2. a second one, or the drain time, cuts;
//! 3. who has not come back 150 ms after a cut is left behind.

use super::account::{account, text as account_text};
use super::print::Printer;
use super::ready::{Plan, laid_out, text as ready_text};
use super::{Exit, exit_of, shares_listeners};
use crate::config::Format;
use crate::counters::Counters;
use crate::result::{Account, Event, Summary};
use crate::stop::{Phase, Stop};
use crate::worker::{Ending, Failure, Laid};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::eventfd::{EfdFlags, EventFd};
use nix::sys::signal::Signal;
use nix::sys::signalfd::SignalFd;
use std::io;
use std::os::fd::AsFd;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

/// Workers enforce the drain time themselves; this much later they are told.
const DRAIN_GRACE: Duration = Duration::from_millis(200);
/// Workers are given this long after a cut.
const CUT_GRACE: Duration = Duration::from_millis(150);
/// The last lines are given this long, and after a cut only what is left of `CUT_END`.
const OUTPUT_GRACE: Duration = Duration::from_millis(200);
/// From a cut to the end of the program.
const CUT_END: Duration = Duration::from_millis(190);
/// What the last lines are given even after that: this thread came to them late, so the machine
/// is crowded, and an account is worth more than a promise that is broken already.
const LAST_WORDS: Duration = Duration::from_millis(40);

/// What a worker's thread says.
#[derive(Debug)]
pub(super) enum Said {
    /// The worker accepts.
    Ready(Laid),
    /// The worker is over.
    Ended(usize, Result<Ending, Failure>),
    /// Something it does without.
    Warning(usize, String),
    /// Its thread could not be started, with the sentence.
    NotStarted(usize, String),
}

/// How workers' threads wake the main thread.
#[derive(Debug)]
pub(super) struct Bell {
    said: Sender<Said>,
    rung: EventFd,
}

impl Bell {
    pub(super) fn new() -> io::Result<(Self, Receiver<Said>)> {
        let (said, hear) = channel();
        let rung = EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?;
        Ok((Self { said, rung }, hear))
    }

    pub(super) fn say(&self, said: Said) {
        // Fails only when nobody listens any more, and then nobody has to know.
        let _ = self.said.send(said);
        let _ = self.rung.write(1);
    }
}

/// What the main thread knows.
pub(super) struct Watch<'a> {
    plan: Plan<'a>,
    counters: &'a [Counters],
    stop: &'a Stop,
    output: Printer,
    errors: Printer,
    /// Workers that were started and have not ended.
    running: usize,
    laid: Vec<Laid>,
    /// When the ready line was printed.
    ready_at: Option<Instant>,
    next_stats: Option<Instant>,
    /// When the drain is cut from here.
    drain_until: Option<Instant>,
    /// When the end began.
    stop_at: Option<Instant>,
    cut_at: Option<Instant>,
    failure: Option<(Exit, String)>,
}

impl<'a> Watch<'a> {
    pub(super) fn new(
        plan: Plan<'a>,
        counters: &'a [Counters],
        stop: &'a Stop,
        output: Printer,
        errors: Printer,
        running: usize,
    ) -> Self {
        Self {
            plan,
            counters,
            stop,
            output,
            errors,
            running,
            laid: Vec::new(),
            ready_at: None,
            next_stats: None,
            drain_until: None,
            stop_at: None,
            cut_at: None,
            failure: None,
        }
    }

    /// Watches until every worker has ended or is left behind, then prints the last lines. In the
    /// second case the program ends here: threads that do not come back cannot be waited for.
    pub(super) fn until_the_end(mut self, signals: &SignalFd, bell: &Bell, said: &Receiver<Said>) -> Exit {
        while self.running > 0 && !self.left_behind() {
            self.wait(signals, bell);
            while let Ok(Some(signal)) = signals.read_signal() {
                self.on_signal(signal.ssi_signo);
            }
            let _ = bell.rung.read();
            said.try_iter().for_each(|said| self.on_said(said));
            self.on_time();
        }
        // The last words of the last worker, and of a thread that could not start.
        said.try_iter().for_each(|said| self.on_said(said));
        let all_came_back = self.running == 0;
        let exit = self.end();
        if !all_came_back {
            std::process::exit(exit as i32);
        }
        exit
    }

    fn wait(&self, signals: &SignalFd, bell: &Bell) {
        let cut_until = self.cut_at.map(|moment| moment + CUT_GRACE);
        let next = [self.next_stats, self.drain_until, cut_until].into_iter().flatten().min();
        let timeout = next.map_or(PollTimeout::NONE, |moment| {
            // Rounded up, so that what is waited for has come when the wait is over.
            let left = moment.saturating_duration_since(Instant::now()) + Duration::from_micros(999);
            PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX)
        });
        let heard = [signals.as_fd(), bell.rung.as_fd()];
        // An interrupted wait is followed by a look at everything, like any other.
        let _ = poll(&mut heard.map(|descriptor| PollFd::new(descriptor, PollFlags::POLLIN)), timeout);
    }

    fn on_signal(&mut self, number: u32) {
        match Signal::try_from(number as i32) {
            Ok(Signal::SIGTERM | Signal::SIGINT) if self.stop.phase() == Phase::Running => self.drain(),
            Ok(Signal::SIGTERM | Signal::SIGINT) => self.cut(),
            Ok(Signal::SIGUSR1) => self.print_stats(),
            _ => {}
        }
    }

    fn on_said(&mut self, said: Said) {
        match said {
            Said::Ready(laid) => {
                self.laid.push(laid);
                if self.laid.len() == self.counters.len() && self.failure.is_none() {
                    self.on_ready();
                }
            }
            Said::Ended(worker, ending) => {
                self.running -= 1;
                // Whether anything was cut is in the account: a worker may be told to when it has nothing left.
                if let Err(failure) = ending {
                    self.on_failure(exit_of(&failure), worker, failure.to_string());
                }
            }
            Said::Warning(worker, sentence) => {
                self.tell(0, || format!("warning: worker {worker} {sentence}"));
            }
            Said::NotStarted(worker, sentence) => self.on_failure(Exit::Failed, worker, sentence),
        }
    }

    fn on_time(&mut self) {
        let now = Instant::now();
        if self.next_stats.is_some_and(|moment| moment <= now) {
            self.print_stats();
            let every = self.plan.config().stats_every;
            // From now on, not from when it was due: after a halt there is no burst of lines.
            self.next_stats = every.and_then(|every| now.checked_add(every));
        }
        if self.drain_until.is_some_and(|moment| moment <= now) {
            self.drain_until = None;
            self.cut();
        }
    }

    /// Every worker accepts.
    fn on_ready(&mut self) {
        let ready = self.plan.ready(&self.laid);
        self.tell(1, || laid_out(&ready));
        ready.notes.iter().for_each(|note| self.tell(0, || format!("note: {note}")));
        let now = Instant::now();
        self.ready_at = Some(now);
        self.next_stats = self.plan.config().stats_every.and_then(|every| now.checked_add(every));
        let line = match self.plan.config().format {
            Format::Text => ready_text(&ready),
            Format::Json => json(&Event::Ready(ready)),
        };
        self.output.line(line);
    }

    /// A worker ended with an error. The others have done nothing wrong: they drain where they serve.
    fn on_failure(&mut self, exit: Exit, worker: usize, sentence: String) {
        // Workers fail for the same reason in the same words; once is enough.
        if self.failure.as_ref().is_none_or(|(_, first)| *first != sentence) {
            self.errors.line(format!("c10k: worker {worker}: {sentence}"));
        }
        self.failure.get_or_insert((exit, sentence));
        if self.ready_at.is_none() {
            self.cut();
        } else if self.stop.phase() == Phase::Running {
            self.drain();
        }
    }

    fn drain(&mut self) {
        self.stop_at.get_or_insert_with(Instant::now);
        self.tell(0, || {
            let open: u64 = self.counters.iter().fold(0, |sum, worker| sum.wrapping_add(worker.open.get()));
            format!("stopping: {open} open; a second signal cuts them")
        });
        self.drain_until = Instant::now().checked_add(self.plan.config().drain_timeout + DRAIN_GRACE);
        self.stop.advance(Phase::Draining);
    }

    fn cut(&mut self) {
        let now = *self.cut_at.get_or_insert_with(Instant::now);
        self.stop_at.get_or_insert(now);
        self.stop.advance(Phase::Cut);
    }

    fn left_behind(&self) -> bool {
        self.cut_at.is_some_and(|moment| moment.elapsed() >= CUT_GRACE)
    }

    fn print_stats(&self) {
        let Some(ready_at) = self.ready_at else { return };
        let account = self.account(ready_at);
        self.output.line(match self.plan.config().format {
            Format::Text => account_text(&account),
            Format::Json => json(&Event::Stats(account)),
        });
    }

    fn account(&self, ready_at: Instant) -> Account {
        let shared = shares_listeners(self.plan.config());
        account(self.counters, shared, ready_at.elapsed(), self.output.dropped())
    }

    /// Says something about the program, when somebody wants to hear as much.
    fn tell(&self, verbosity: i8, text: impl FnOnce() -> String) {
        if self.plan.config().verbosity >= verbosity {
            self.errors.line(format!("c10k: {}", text()));
        }
    }

    /// The last lines, and how it ended.
    fn end(self) -> Exit {
        let left_behind = self.running > 0;
        if left_behind {
            self.tell(0, || {
                format!("{} workers did not come back in time and were left behind", self.running)
            });
        }
        let account = self.account(self.ready_at.unwrap_or_else(Instant::now));
        let exit = match &self.failure {
            Some((exit, _)) => *exit,
            None if lost_any(&account, left_behind) => Exit::Cut,
            None => Exit::Done,
        };
        let summary = self.ready_at.map(|_| self.summary(account, exit));
        let now = Instant::now();
        let cut_end = self.cut_at.map(|moment| (moment + CUT_END).max(now + LAST_WORDS));
        let until = cut_end.unwrap_or(now + OUTPUT_GRACE).min(now + OUTPUT_GRACE);
        self.output.finish(summary, until);
        self.errors.finish(None, until);
        exit
    }

    fn summary(&self, account: Account, exit: Exit) -> String {
        let stop = self.stop_at.map(|moment| moment.elapsed());
        let seconds = stop.unwrap_or_default().as_secs_f64();
        let (ended, how) = match exit {
            Exit::Done => ("drained", "drained in"),
            Exit::Cut => ("cut", "cut after"),
            _ => ("failed", "failed, stopped in"),
        };
        let failure = self.failure.as_ref().map(|(_, sentence)| sentence.clone());
        let stop_us = stop.map(|stop| stop.as_micros() as u64);
        match self.plan.config().format {
            Format::Text => format!("{how} {seconds:.2}s, served {}", account_text(&account)),
            Format::Json => json(&Event::Summary(Summary { ended: ended.into(), stop_us, failure, account })),
        }
    }
}

/// Whether a connection did not get what it was owed: it was cut, or left behind with its worker.
fn lost_any(account: &Account, workers_left_behind: bool) -> bool {
    let some = |value: Option<&u64>| value.is_some_and(|&count| count > 0);
    some(account.closed.get("cut")) || workers_left_behind && some(account.gauges.get("open"))
}

fn json(event: &Event) -> String {
    serde_json::to_string(event).expect("names and numbers are always JSON")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::worker;

    #[test]
    fn only_a_connection_that_was_cut_or_left_behind_counts_as_cut() {
        let workers = [worker::counters(&[]), worker::counters(&[])];
        let lost = |left_behind| lost_any(&account(&workers, false, Duration::ZERO, 0), left_behind);
        assert!(!lost(false) && !lost(true));
        workers[0].open.add(1);
        assert!(!lost(false) && lost(true));
        workers[0].open.subtract(1);
        let cut = workers[1].closed.iter().position(|(name, _)| name == "cut").unwrap();
        workers[1].closed.at(cut).add(1);
        assert!(lost(false) && lost(true));
    }
}
