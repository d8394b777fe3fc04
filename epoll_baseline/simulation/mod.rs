//! Both ways to use threads over the fake kernel, seed by seed. Every seed draws features, sizes,
//! limits, peers and faults. What runs is the production code; threads are virtual: the seed decides
//! which of them takes its next step (one wait, one event, or the end of a turn), and only threads
//! that the kernel would wake can. After every step:
//!
//! I1 bytes and their order, I10 a socket is closed once and not used again: by the kernel, as they
//! happen (`sim`). I2 and I3 the account of each connection, I5 what is owed is bounded, I10 the sums,
//! and that every reason for a close was a good one: in `watch`. I15: a stale event that was taken for
//! its successor's is seen as wrong bytes or as an end without a reason. I16: whenever nobody is awake
//! and nothing will be reported, nobody may be left for whom something could be done, or whose time
//! has passed; nobody who is queued at the stop may be left while somebody may make room;
//! nobody may be awake for long without achieving anything; and once the faults are over
//! everything ends within 50 steps per outstanding byte.
//!
//! `C10K_SEED=n` runs that seed alone, `C10K_SEEDS=n` that many; `C10K_TRACE=1` prints every batch.

mod allocation;
mod planted;
mod scenario;
mod watch;

use super::COUNTERS;
use super::event_loop::EventLoop;
use super::shared::{State, Thread};
use super::sim::{Coverage, Listener, Sim, Socket};
use super::sockets::Sockets;
use crate::conn::Admission;
use crate::counters::Counters;
use crate::seeds;
use crate::stop::{Phase, Stop};
use crate::worker::{self, Ending};
use fastrand::Rng;
use scenario::Scenario;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;
use watch::Watch;

/// What `cargo test` runs.
const SEEDS: u64 = 2_000;

/// How one seed ended.
struct Outcome {
    coverage: Coverage,
    steps: u64,
    echoed: u64,
    now: u64,
    /// What went wrong, if something did.
    fault: Option<String>,
}

/// The numbers and switches of one run, which the loops borrow.
struct Run<'a> {
    scenario: &'a Scenario,
    sim: &'a Sim,
    counters: Vec<Counters>,
    admission: Admission,
    stop: Stop,
}

/// A thread over the shared instance, between two of its steps.
struct Virtual<'a, S: Sockets> {
    thread: Thread<'a, S>,
    /// Until when it waits; `None` while it has a batch in hand.
    waits: Option<Option<Duration>>,
    ended: Option<Ending>,
}

enum Loops<'a, S: Sockets> {
    PerCore(Box<EventLoop<'a, S>>, Option<Ending>),
    Shared(Vec<Virtual<'a, S>>),
}

impl<S: Sockets> Loops<'_, S> {
    /// When `index` is to be woken, where it waits: `Some(None)` is never. `None` is: it is awake.
    fn waits(&self, index: usize) -> Option<Option<Duration>> {
        match self {
            Self::PerCore(event_loop, _) => Some(event_loop.wake_at()),
            Self::Shared(threads) => threads[index].waits,
        }
    }

    fn ending(&self, index: usize) -> Option<Ending> {
        match self {
            Self::PerCore(_, ending) => *ending,
            Self::Shared(threads) => threads[index].ended,
        }
    }

    fn count(&self) -> usize {
        if let Self::Shared(threads) = self { threads.len() } else { 1 }
    }

    fn step(&mut self, index: usize) {
        match self {
            Self::PerCore(event_loop, ending) => *ending = event_loop.turn(),
            Self::Shared(threads) => threads[index].step(),
        }
    }
}

impl<S: Sockets> Virtual<'_, S> {
    fn step(&mut self) {
        if let Some(until) = self.waits.take() {
            self.thread.wait(until);
        } else if !self.thread.dispatch() {
            self.ended = self.thread.look_after();
            if self.ended.is_none() {
                self.waits = Some(self.thread.wake_at());
            }
        }
    }
}

/// Runs one seed, with what `plant` puts between the loops and the kernel.
fn run_seed<S>(seed: u64, plant: impl FnOnce(Sim) -> S) -> Outcome
where
    S: Sockets<Socket = Socket, Listener = Listener>,
{
    let scenario = Scenario::draw(seed);
    let sim = Sim::new(seed, scenario.peers, scenario.listeners, scenario.descriptors);
    let run = Run {
        scenario: &scenario,
        sim: &sim,
        counters: (0..scenario.threads.unwrap_or(1)).map(|_| worker::counters(COUNTERS)).collect(),
        admission: Admission::new(scenario.setting.max_connections),
        stop: Stop::new(0).expect("no eventfd is made"),
    };
    let mut steps = 0;
    let ran = catch_unwind(AssertUnwindSafe(|| run.all(&plant(sim.clone()), &mut steps)));
    let result = ran.unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(ToString::to_string));
        Err(format!("panicked: {}", text.unwrap_or_default()))
    });
    let world = sim.world();
    let fault = world.violation().cloned().or(result.err());
    let fault = fault.map(|fault| format!("seed {seed}, step {steps}: {fault}\n{scenario:#?}"));
    let (echoed, now) = (world.facts().taken, world.now());
    Outcome { coverage: world.coverage().clone(), steps, echoed, now, fault }
}

impl Run<'_> {
    fn all<S>(&self, sockets: &S, steps: &mut u64) -> Result<(), String>
    where
        S: Sockets<Socket = Socket, Listener = Listener>,
    {
        let Run { scenario, sim, counters, admission, stop } = self;
        let listeners = sim.listeners();
        let setting = scenario.setting.clone();
        match scenario.threads {
            None => {
                let event_loop =
                    EventLoop::new(sockets, listeners, &setting, admission, &counters[0], stop).unwrap();
                self.drive(Loops::PerCore(Box::new(event_loop), None), steps)
            }
            Some(threads) => {
                let state = State::new(sockets, listeners, setting).unwrap();
                let virtual_one = |index| {
                    let mut thread = Thread::new(sockets, &state, index, admission, &counters[index], stop);
                    let waits = Some(thread.wake_at());
                    Virtual { thread, waits, ended: None }
                };
                self.drive(Loops::Shared((0..threads).map(virtual_one).collect()), steps)
            }
        }
    }

    fn drive<S: Sockets>(&self, mut loops: Loops<'_, S>, steps: &mut u64) -> Result<(), String> {
        let mut random = Rng::with_seed(self.scenario.seed ^ 0x0d1c_e000);
        let mut watch = Watch::new(self);
        let mut bound = u64::MAX;
        while (0..loops.count()).any(|index| loops.ending(index).is_none()) {
            *steps += 1;
            if *steps == self.scenario.heal_at {
                self.sim.world_mut().heal();
                watch.healed();
            }
            if *steps >= self.scenario.heal_at && bound == u64::MAX {
                bound = *steps + 50 * self.sim.world().outstanding() + 5_000;
            }
            if *steps > bound {
                return Err(format!("I16: {bound} steps were not enough"));
            }
            self.outside(*steps, &mut random, &mut watch);
            self.step(&mut loops, &mut random, *steps, &mut watch)?;
            let ends = (0..loops.count()).any(|index| loops.ending(index).is_some());
            watch.after_step(ends)?;
            let pace = self.scenario.pace;
            let now = self.sim.world().now() + random.u64(0..=pace);
            self.sim.world_mut().advance(now);
        }
        watch.at_the_end((0..loops.count()).filter_map(|index| loops.ending(index)))
    }

    /// What comes from other threads of the program.
    fn outside(&self, step: u64, random: &mut Rng, watch: &mut Watch<'_>) {
        if self.scenario.stop_at == Some(step) {
            self.advance(Phase::Draining);
        }
        if self.scenario.cut_at == Some(step) {
            self.advance(Phase::Cut);
        }
        if self.scenario.rival && step < self.scenario.heal_at && random.u8(0..20) == 0 {
            watch.rival(random.bool());
        }
    }

    fn advance(&self, phase: Phase) {
        self.stop.advance(phase);
        self.sim.wake();
    }

    /// One step of somebody who can take one.
    fn step<S: Sockets>(
        &self,
        loops: &mut Loops<'_, S>,
        random: &mut Rng,
        step: u64,
        watch: &mut Watch<'_>,
    ) -> Result<(), String> {
        let now = self.sim.world().now();
        let reports = self.sim.would_report();
        let due = |until: Option<Duration>| until.is_some_and(|until| until.as_micros() as u64 <= now);
        let can = |index: &usize| {
            loops.ending(*index).is_none() && loops.waits(*index).is_none_or(|until| reports || due(until))
        };
        let awake: Vec<usize> = (0..loops.count()).filter(can).collect();
        let world_at = self.sim.world().next_step();
        if world_at.is_some_and(|at| at <= now) && (awake.is_empty() || random.bool()) {
            self.sim.world_mut().step();
            return Ok(());
        }
        if !awake.is_empty() {
            loops.step(awake[random.usize(0..awake.len())]);
            return watch.for_nothing();
        }
        // Nobody is awake, and nothing happens at this moment.
        watch.asleep()?;
        let running = (0..loops.count()).filter(|&index| loops.ending(index).is_none());
        let wakes = running.filter_map(|index| loops.waits(index).flatten());
        let wakes = wakes.map(|until| until.as_micros() as u64).min();
        let next = [wakes, world_at].into_iter().flatten().min();
        match next {
            Some(at) => self.sim.world_mut().advance(at),
            None => return self.at_rest(step),
        }
        Ok(())
    }

    /// Nothing will happen any more unless it comes from outside.
    fn at_rest(&self, step: u64) -> Result<(), String> {
        if self.sim.world().could_accept() && !self.admission.is_full() {
            return Err("I16: somebody is queued, and nobody will accept".into());
        }
        if self.stop.phase() != Phase::Running {
            return Err("I16: it was told to stop, and everybody sleeps".into());
        }
        if step < self.scenario.heal_at {
            return Ok(());
        }
        if !self.sim.world().all_done() && !self.scenario.rival {
            return Err("I16: peers are left, and everybody sleeps".into());
        }
        self.advance(Phase::Draining);
        Ok(())
    }
}

#[test]
fn every_seed_keeps_the_invariants_and_every_outcome_is_drawn() {
    let mut coverage = Coverage::default();
    let (mut steps, mut echoed) = (0, 0);
    let seeds = seeds::several(SEEDS);
    let count = seeds.end - seeds.start;
    for seed in seeds {
        let outcome = run_seed(seed, |sim| sim);
        if let Some(fault) = outcome.fault {
            panic!(
                "{fault}\nreplay: C10K_SEED={seed} cargo test --lib epoll_baseline::simulation::every_seed"
            );
        }
        coverage.merge(&outcome.coverage);
        steps += outcome.steps;
        echoed += outcome.echoed;
    }
    println!("{count} seeds: {steps} steps, {echoed} bytes echoed");
    println!("{}", coverage.table());
    if count >= SEEDS {
        let missed = coverage.below(100);
        assert!(missed.is_empty(), "drawn fewer than 100 times: {missed:#?}");
    }
}

#[test]
fn a_seed_ends_the_same_way_twice() {
    for seed in [3, 17, 101, 102, 103, 104] {
        let (one, other) = (run_seed(seed, |sim| sim), run_seed(seed, |sim| sim));
        assert_eq!((one.steps, one.echoed, one.now), (other.steps, other.echoed, other.now));
        assert_eq!(one.coverage.table(), other.coverage.table());
    }
}
