//! The main thread of a load: it opens and closes the window, adds up what the threads report, and obeys
//! signals. Nothing here is on the path of a message.

use super::super::control::{Control, Phase, Report, Spares};
use super::super::outcome::{Machine, Observer, Outcome, Row, ThreadCost};
use super::super::plan::{End, Plan, Workload};
use super::super::sentences::sentence;
use super::super::server_stats::Lookout;
use super::super::tally::{Ended, Interval, Spread, Stuck};
use crate::host::{self, CpuTimes};
use crate::stop::Stop;
use nix::sys::signal::Signal;
use nix::sys::signalfd::SignalFd;
use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::time::{Duration, Instant, SystemTime};

/// How long the main thread sleeps at most.
const PULSE: Duration = Duration::from_millis(10);
/// How long threads may take to close what they have, beyond the grace, before they are cut.
const LEAVING_MAX: Duration = Duration::from_secs(10);
/// What is said of threads that took longer.
const CUT: &str = "connections could not be closed in time and were cut; fewer connections, or more threads (-t), \
                   would do";
/// How long nothing may come back while there is more to send, where a number of messages ends the run.
const SILENCE_MAX: Duration = Duration::from_secs(10);

/// What the machine and this process have used so far.
#[derive(Clone, Copy, Debug)]
struct Sample {
    process: Duration,
    times: Option<CpuTimes>,
    pressure: Option<Duration>,
}

pub(super) struct Conductor<'a> {
    plan: &'a Plan,
    control: &'a Control,
    observer: &'a mut dyn Observer,
    /// Who looks at the server at both edges of the window, where that was asked for.
    pub(super) lookout: Option<Lookout>,
    began: SystemTime,
    /// Threads that run, that have made their connections, and what each one said last.
    running: usize,
    ramped: usize,
    ended: Vec<Option<Ended>>,
    ramp: Interval,
    ramp_took: Duration,
    connected: u32,
    /// Intervals that not all threads have reported, and up to which one each has.
    pending: BTreeMap<u64, Interval>,
    passed: Vec<u64>,
    /// Where each thread gets its intervals back, for the next ones.
    returns: Vec<Sender<Box<Interval>>>,
    next_row: u64,
    rows: Vec<Row>,
    total: Interval,
    at_begin: Option<Sample>,
    at_end: Option<Sample>,
    /// Where a number of messages ends the run: what was left, and since when that has not changed.
    left: (u64, u64),
    left_since: u64,
    /// When the threads were first seen to await what is on its way.
    grace_since: Option<u64>,
    interrupted: Option<i32>,
    failure: Option<String>,
}

impl<'a> Conductor<'a> {
    pub(super) fn new(plan: &'a Plan, control: &'a Control, observer: &'a mut dyn Observer) -> Self {
        Self {
            plan,
            control,
            observer,
            lookout: None,
            began: SystemTime::now(),
            running: plan.threads,
            ramped: 0,
            ended: (0..plan.threads).map(|_| None).collect(),
            ramp: Interval::default(),
            ramp_took: Duration::ZERO,
            connected: 0,
            pending: BTreeMap::new(),
            passed: vec![0; plan.threads],
            returns: Vec::new(),
            next_row: 0,
            rows: Vec::new(),
            total: Interval::default(),
            at_begin: None,
            at_end: None,
            left: (0, 0),
            left_since: 0,
            grace_since: None,
            interrupted: None,
            failure: None,
        }
    }

    /// The outcome of a run that could not begin.
    pub(super) fn give_up(mut self, sentence: String) -> Outcome {
        self.failure = Some(sentence);
        self.outcome()
    }

    /// Where the next thread gets its intervals from. Two are there from the start: one is with the main
    /// thread while the next is filled.
    pub(super) fn next_spares(&mut self) -> Spares {
        let (sender, spares) = mpsc::channel();
        for _ in 0..2 {
            let _ = sender.send(Box::default());
        }
        self.returns.push(sender);
        spares
    }

    /// A thread could not be started: the run ends before it begins.
    pub(super) fn thread_missing(&mut self, sentence: String) {
        self.running -= 1;
        self.failure.get_or_insert(sentence);
    }

    /// Until every thread has said its last word.
    pub(super) fn conduct(&mut self, reports: &Receiver<Report>, signals: &SignalFd, stop: &Stop) {
        if self.failure.is_some() {
            self.close_window(stop);
        }
        while self.running > 0 {
            match reports.recv_timeout(self.pause()) {
                Ok(report) => self.on_report(report, stop),
                Err(RecvTimeoutError::Timeout) => {}
                // A thread that ended without a last word has panicked; the scope tells.
                Err(RecvTimeoutError::Disconnected) => break,
            }
            reports.try_iter().for_each(|report| self.on_report(report, stop));
            while let Ok(Some(signal)) = signals.read_signal() {
                self.on_signal(signal.ssi_signo as i32, stop);
            }
            self.on_time(stop);
        }
        self.complete_rows();
    }

    /// Until the next edge, and no longer than a pulse.
    fn pause(&self) -> Duration {
        let now = self.control.now();
        let (begin, end) = self.control.window();
        let next = [begin, end].into_iter().filter(|&edge| edge > now && edge != u64::MAX).min();
        next.map_or(PULSE, |edge| PULSE.min(Duration::from_nanos(edge - now)))
    }

    fn on_report(&mut self, report: Report, stop: &Stop) {
        match report {
            Report::Ramped { ramp, .. } => {
                self.ramp.add(&ramp);
                self.ramped += 1;
                if self.ramped == self.plan.threads && self.control.phase() == Phase::Ramp {
                    self.begin_load(stop);
                }
            }
            Report::Interval { thread, mut interval } => {
                self.passed[thread] = interval.number + 1;
                self.pending.entry(interval.number).or_default().add(&interval);
                interval.clear();
                // The thread may have ended.
                let _ = self.returns[thread].send(interval);
                self.complete_rows();
            }
            Report::Ended { thread, last } => {
                self.running -= 1;
                self.passed[thread] = u64::MAX;
                if let Some(sentence) = &last.failure {
                    self.failure.get_or_insert_with(|| sentence.clone());
                    self.close_window(stop);
                }
                self.ended[thread] = Some(*last);
            }
        }
    }

    /// All connections stand or were given up: the window is set, and the threads begin.
    fn begin_load(&mut self, stop: &Stop) {
        let now = self.control.now();
        let given_up = self.control.given_up.load(Ordering::Relaxed);
        self.connected = self.control.connected.load(Ordering::Relaxed);
        self.ramp_took = Duration::from_nanos(now);
        if self.connected == 0 && self.plan.workload != Workload::Churn {
            let troubles = self.ramp.troubles.most_first();
            let sentence =
                troubles.first().map(|&(phase, cause, _)| sentence(phase, cause, self.plan).to_string());
            self.failure.get_or_insert(sentence.unwrap_or_else(|| "no connection could be made".into()));
            return self.close_window(stop);
        }
        self.observer.ramped(self.connected, given_up, self.ramp_took, &self.ramp);
        let begin = now.saturating_add(self.plan.warmup.as_nanos() as u64);
        let end = match self.plan.end {
            End::After(time) => begin.saturating_add(time.as_nanos() as u64),
            End::Messages(_) => u64::MAX,
        };
        self.control.open(begin, end);
        if let Some(lookout) = &self.lookout {
            lookout.begin(self.moment(begin));
        }
        self.look_out_at(end);
        self.left_since = begin;
        self.advance(Phase::Load, stop);
    }

    fn advance(&self, phase: Phase, stop: &Stop) {
        self.control.advance(phase);
        (0..self.plan.threads).for_each(|thread| stop.wake(thread));
    }

    /// Closes the window now, if it has not been closed before; the threads await what is on its way.
    fn close_window(&mut self, stop: &Stop) {
        self.close_window_at(self.control.now(), stop);
    }

    fn close_window_at(&mut self, now: u64, stop: &Stop) {
        let (begin, end) = self.control.window();
        if begin != u64::MAX {
            self.control.open(begin.min(now), end.min(now));
            self.look_out_at(end.min(now));
        }
        self.advance(Phase::Grace, stop);
    }

    /// The window ends then, as far as the server's numbers are concerned.
    fn look_out_at(&self, end: u64) {
        if let Some(lookout) = self.lookout.as_ref().filter(|_| end != u64::MAX) {
            lookout.end(self.moment(end));
        }
    }

    /// A time of the run as one of this machine.
    fn moment(&self, nanoseconds: u64) -> Instant {
        self.control.origin + Duration::from_nanos(nanoseconds)
    }

    /// SIGINT and SIGTERM end the measurement, a second one ends everything; SIGUSR1 asks for a snapshot.
    fn on_signal(&mut self, signal: i32, stop: &Stop) {
        if signal == Signal::SIGUSR1 as i32 {
            // What it covers: the intervals that every thread has passed.
            let (begin, end) = self.control.window();
            let passed = self.next_row.saturating_mul(self.plan.interval.as_nanos() as u64);
            let measured = passed.min(end.saturating_sub(begin));
            self.observer.snapshot(Duration::from_nanos(measured), &self.total);
        } else if signal == Signal::SIGINT as i32 || signal == Signal::SIGTERM as i32 {
            if self.interrupted.replace(signal).is_some() {
                return self.advance(Phase::Over, stop);
            }
            self.close_window(stop);
        }
    }

    /// What the clock brings.
    fn on_time(&mut self, stop: &Stop) {
        let now = self.control.now();
        let (begin, end) = self.control.window();
        let open = self.control.connected.load(Ordering::Relaxed);
        if self.at_begin.is_none() && now >= begin {
            self.at_begin = Some(Sample::take());
        }
        if self.at_end.is_none() && now >= end {
            self.at_end = Some(Sample::take());
        }
        match self.control.phase() {
            Phase::Ramp => self.observer.ramping(open, self.control.given_up.load(Ordering::Relaxed)),
            Phase::Load if now >= end => self.advance(Phase::Grace, stop),
            Phase::Load => {
                self.observer.passing(now.checked_sub(begin).map(Duration::from_nanos), open);
                self.end_early(now, open, stop);
            }
            Phase::Grace => {
                let since = *self.grace_since.get_or_insert(now);
                // What an open loop sends late it awaits for as long again.
                let most = (2 * self.plan.grace + LEAVING_MAX).as_nanos() as u64;
                if now - since > most {
                    self.failure.get_or_insert_with(|| CUT.into());
                    self.advance(Phase::Over, stop);
                }
            }
            Phase::Over => {}
        }
    }

    /// Ends a run that has nothing more to do, or can do nothing more.
    fn end_early(&mut self, now: u64, open: u32, stop: &Stop) {
        if open == 0 && self.plan.workload != Workload::Churn {
            self.failure
                .get_or_insert_with(|| "the server closed every connection; look at the troubles".into());
            return self.close_window(stop);
        }
        if !matches!(self.plan.end, End::Messages(_)) {
            return;
        }
        if let Some(finished) = self.control.finished_at() {
            return self.close_window_at(finished + 1, stop);
        }
        let left = self.control.left();
        if left != self.left {
            (self.left, self.left_since) = (left, now);
        }
        let most = if left.0 == 0 { self.plan.grace } else { self.plan.grace.max(SILENCE_MAX) };
        if now.saturating_sub(self.left_since) > most.as_nanos() as u64 {
            self.close_window(stop);
        }
    }

    /// Takes the intervals that every thread has passed.
    fn complete_rows(&mut self) {
        let passed = self.passed.iter().copied().min().unwrap_or(0);
        let last = self.pending.keys().next_back().map_or(0, |number| number + 1);
        let (begin, end) = self.control.window();
        let length = (self.plan.interval.as_nanos() as u64).max(1);
        while self.next_row < passed.min(last) {
            let number = self.next_row;
            let interval =
                self.pending.remove(&number).unwrap_or_else(|| Interval { number, ..Interval::default() });
            let edge = |number: u64| begin.saturating_add(number.saturating_mul(length)).min(end);
            let row = Row::of(edge(number), edge(number + 1), &interval);
            self.total.add(&interval);
            self.total.open = interval.open;
            self.observer.interval(&row, &interval);
            self.rows.push(row);
            self.next_row += 1;
        }
    }

    /// Everything added up.
    pub(super) fn outcome(self) -> Outcome {
        let (begin, end) = self.control.window();
        let window = if begin == u64::MAX { (0, 0) } else { (begin, end.min(self.control.now())) };
        let mut outcome = Outcome {
            began: self.began,
            ramp_took: self.ramp_took,
            connected: self.connected,
            given_up: self.control.given_up.load(Ordering::Relaxed),
            window,
            ramp: Interval::default(),
            total: self.total,
            after: Interval::default(),
            rows: self.rows,
            threads: Vec::new(),
            process_cpu: None,
            spread: Spread::default(),
            stuck: Stuck::default(),
            wrong: Vec::new(),
            wrong_connections: 0,
            overflows: 0,
            empty_pool: 0,
            stale: 0,
            features: Vec::new(),
            machine: None,
            server: self.lookout.map(|lookout| lookout.finish().into()),
            interrupted: self.interrupted,
            failure: self.failure,
        };
        if let (Some(first), Some(last)) = (self.at_begin, self.at_end) {
            outcome.process_cpu = Some(last.process.saturating_sub(first.process));
            outcome.machine = machine(&first, &last, outcome.measured());
        }
        self.ended.into_iter().flatten().for_each(|ended| add(&mut outcome, ended));
        outcome
    }
}

impl Sample {
    fn take() -> Self {
        Self { process: host::process_cpu(), times: host::cpu_times(), pressure: host::cpu_pressure() }
    }
}

/// What the machine did between two samples.
fn machine(first: &Sample, last: &Sample, measured: Duration) -> Option<Machine> {
    let (first_times, last_times) = (first.times?, last.times?);
    let total = last_times.total.checked_sub(first_times.total).filter(|&total| total > 0)?;
    let share =
        |of: fn(&CpuTimes) -> u64| of(&last_times).saturating_sub(of(&first_times)) as f64 / total as f64;
    let (idle, steal) = (share(|times| times.idle), share(|times| times.steal));
    let waited = last.pressure.zip(first.pressure).map(|(last, first)| last.saturating_sub(first));
    Some(Machine {
        busy: (1.0 - idle - steal).max(0.0),
        softirq: share(|times| times.softirq),
        steal,
        pressure: waited.map(|waited| (waited.as_secs_f64() / measured.as_secs_f64().max(1e-9)).min(1.0)),
        cpus: last_times.cpus,
    })
}

/// Adds the last word of a thread.
fn add(outcome: &mut Outcome, ended: Ended) {
    outcome.ramp.add(&ended.ramp);
    outcome.after.add(&ended.after);
    outcome.threads.push(ThreadCost { cpu: ended.cpu, system_calls: ended.system_calls });
    let spread = &mut outcome.spread;
    if ended.spread.connections > 0 {
        let first = spread.connections == 0;
        spread.least = if first { ended.spread.least } else { spread.least.min(ended.spread.least) };
        spread.most = spread.most.max(ended.spread.most);
        spread.connections += ended.spread.connections;
        spread.silent += ended.spread.silent;
        spread.sum += ended.spread.sum;
        spread.sum_of_squares += ended.spread.sum_of_squares;
    }
    outcome.stuck.count += ended.stuck.count;
    outcome.stuck.first.extend(ended.stuck.first);
    outcome.wrong.extend(ended.wrong);
    outcome.wrong_connections += ended.wrong_connections;
    outcome.overflows += ended.overflows;
    outcome.empty_pool += ended.empty_pool;
    outcome.stale += ended.stale;
    // The same on every thread, but for one that could not be set up.
    if outcome.features.is_empty() {
        outcome.features = ended.features;
    }
}
