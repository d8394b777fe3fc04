//! The event loop over the fake kernel, seed by seed. Every seed draws sizes, features, limits,
//! peers and faults; after every turn the loop is held against the invariants I1 to I16:
//!
//! I1 bytes and their order, I4 one send, I6 nothing in flight at a close, I7 one receive, I8 and I9
//! who owns a buffer, I10 a socket closed once, I16 nobody left behind: by the kernel, as they
//! happen (`ring/sim`). I2 and I3 (the account of each connection), I5 (what is owed is bounded),
//! I8 again (the sum), I11 (operations), I12 (overflows), I13 (accept armed), I14 (who has no
//! buffer waits in the queue), I15 (nothing is stale): in `invariants`, from both sides.
//!
//! `C10K_SEED=n` runs that seed alone, `C10K_SEEDS=n` that many; `C10K_TRACE=1` prints
//! every question and answer.

mod allocation;
mod combination;
mod front;
mod invariants;
mod planted;
mod planted_below;
mod scenario;
mod scripted;

use super::event_loop::EventLoop;
use crate::ring::calls::Calls;
use crate::ring::sim::{Coverage, External, Facts, Sim};
use crate::ring::{Listening, Memory};
use crate::seeds;
use crate::uring::buffers::{Arena, Buffers, Incremental, Owned, Ownership, Shared};
use crate::worker::Worker;
use combination::{Combination, Pairs};
use front::{Front, notifier};
use invariants::{Watch, at_the_end};
use scenario::Scenario;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;

/// What `cargo test` runs.
const SEEDS: u64 = 2_000;

/// How often each two values of the dimensions that go together are drawn together, at least.
const PAIRS_LEAST: u64 = 10;

/// How one seed ended.
struct Outcome {
    combination: Combination,
    coverage: Coverage,
    facts: Facts,
    turns: u64,
    /// What went wrong, if something did.
    fault: Option<String>,
}

/// Who looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Eyes {
    /// The kernel alone: what the peers got, and how the rules of the seam were kept.
    Kernel,
    /// Also the accounts, compared from both sides after every turn.
    Both,
}

/// Runs one seed, with `plant` between the loop and what it talks to.
fn run_seed<R: Listening>(seed: u64, eyes: Eyes, plant: impl FnOnce(Front) -> R) -> Outcome {
    let scenario = Scenario::draw(seed);
    run(&scenario, eyes, |memory, sim| plant(Front::of(&scenario, memory, sim)))
}

/// Runs one seed where it has `recv=poll`, with `plant` between the ring that only notifies and the kernel.
fn run_polled_seed<R: Calls>(seed: u64, eyes: Eyes, plant: impl FnOnce(Sim) -> R) -> Option<Outcome> {
    let scenario = Scenario::draw(seed);
    let ran = || run(&scenario, eyes, |memory, sim| notifier(&scenario, plant(sim.clone()), memory, sim));
    scenario.polled.then(ran)
}

fn run<R: Listening>(scenario: &Scenario, eyes: Eyes, front: impl FnOnce(Memory, &Sim) -> R) -> Outcome {
    let seed = scenario.seed;
    let arena = Arena::new(scenario.buffers, scenario.buffer_size, scenario.spill_limit).unwrap();
    let sim = Sim::new(scenario.setup(arena.memory()));
    let mut turns = 0;
    let ran = catch_unwind(AssertUnwindSafe(|| drive(scenario, &arena, &sim, eyes, front, &mut turns)));
    let panicked = ran.unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(ToString::to_string));
        Err(format!("panicked: {}", text.unwrap_or_default()))
    });
    let facts = sim.facts();
    let fault = facts.violations.first().cloned().or(panicked.err());
    let fault = fault.map(|fault| format!("seed {seed}, turn {turns}: {fault}\n{scenario:#?}"));
    Outcome { combination: scenario.combination.clone(), coverage: sim.coverage(), facts, turns, fault }
}

fn drive<R: Listening>(
    scenario: &Scenario,
    arena: &Arena,
    sim: &Sim,
    eyes: Eyes,
    front: impl FnOnce(Memory, &Sim) -> R,
    turns: &mut u64,
) -> Result<(), String> {
    let (config, counters) = (scenario.config(), scenario.counters());
    let (admission, stop) = (scenario.admission(), Rc::new(scenario.stop()));
    scenario.plan(sim, &admission, &stop);
    let handover = scenario.handover();
    if let Some(handover) = &handover {
        if scenario.arrives.is_some() {
            scenario.plan_neighbour(sim, &admission, handover);
        } else {
            scenario.plan_others(sim, &admission, handover);
        }
    }
    let handover = handover.as_deref();
    let index = scenario.index();
    let room = scenario.room.unwrap_or(scenario.max_connections);
    let worker = Worker { handover, room, index, ..Worker::for_tests(&config, &admission, &counters, &stop) };
    // The worker that accepts for all has them.
    let listeners = if index == 0 { scenario.listeners } else { 0 };
    let ring = front(arena.memory(), sim);
    if scenario.owned {
        let event_loop = EventLoop::new(ring, Buffers::<Owned>::new(arena), &worker, listeners);
        return turn_to_the_end(event_loop, scenario, sim, eyes, turns);
    }
    if scenario.incremental {
        let event_loop = EventLoop::new(ring, Buffers::<Incremental>::new(arena), &worker, listeners);
        return turn_to_the_end(event_loop, scenario, sim, eyes, turns);
    }
    let event_loop = EventLoop::new(ring, Buffers::<Shared>::new(arena), &worker, listeners);
    turn_to_the_end(event_loop, scenario, sim, eyes, turns)
}

fn turn_to_the_end<R: Listening, K: Ownership>(
    mut event_loop: EventLoop<'_, R, K>,
    scenario: &Scenario,
    sim: &Sim,
    eyes: Eyes,
    turns: &mut u64,
) -> Result<(), String> {
    event_loop.limits = scenario.limits;
    let mut watch = Watch::default();
    loop {
        *turns += 1;
        match event_loop.turn() {
            Err(failure) => return Err(format!("the loop gave up: {failure}")),
            Ok(_) if sim.failed() => return Ok(()),
            Ok(None) if eyes == Eyes::Both => watch.after_turn(&event_loop, sim, scenario)?,
            Ok(None) => {}
            Ok(Some(_)) if eyes == Eyes::Kernel => return Ok(()),
            Ok(Some(ending)) => return at_the_end(&event_loop, sim, scenario, ending),
        }
    }
}

#[test]
fn every_seed_keeps_the_invariants_and_every_outcome_is_drawn() {
    let (mut coverage, mut pairs) = (Coverage::default(), Pairs::default());
    let (mut turns, mut bytes, mut connections) = (0, 0, 0);
    let mut slowest = 0.0f64;
    let seeds = seeds::several(SEEDS);
    let count = seeds.end - seeds.start;
    for seed in seeds {
        let outcome = run_seed(seed, Eyes::Both, |front| front);
        if let Some(fault) = outcome.fault {
            panic!("{fault}\nreplay: C10K_SEED={seed} cargo test --lib every_seed");
        }
        coverage.merge(&outcome.coverage);
        pairs.note(&outcome.combination);
        turns += outcome.turns;
        bytes += outcome.facts.sent;
        connections += outcome.facts.accepted;
        slowest = slowest.max(outcome.facts.recovery as f64 / outcome.facts.outstanding.max(1) as f64);
    }
    println!("{count} seeds: {turns} turns, {connections} connections, {bytes} bytes echoed");
    println!("after the faults at most {slowest:.1} enters for each outstanding thing");
    println!("{}\n{}", coverage.table(), pairs.table());
    if count >= SEEDS {
        let missed = coverage.below(100);
        assert!(missed.is_empty(), "drawn fewer than 100 times: {missed:#?}");
        let missed = pairs.below(PAIRS_LEAST);
        assert!(missed.is_empty(), "drawn together fewer than {PAIRS_LEAST} times: {missed:#?}");
    }
}

#[test]
fn a_seed_ends_the_same_way_twice() {
    for seed in [3, 17, 101] {
        let (one, other) =
            (run_seed(seed, Eyes::Both, |front| front), run_seed(seed, Eyes::Both, |front| front));
        assert_eq!((one.turns, one.facts.sent), (other.turns, other.facts.sent));
        assert_eq!(one.coverage.table(), other.coverage.table());
    }
}

/// Something from outside that the kernel does not see.
const NOTHING: External = External::Nothing;
