//! The engine over the fake kernel, seed by seed: all workloads, open and closed, honest servers, rough
//! ones and liars, ended by time, by number, by a signal at any moment. After every run nothing is in
//! flight and every socket is closed; every byte is in the account, and every message in it once; whoever
//! was lied to is named, and nobody else.
//!
//! `C10K_SEED=n` runs that seed alone; `C10K_TRACE=1` prints every question and answer.

mod allocation;
mod memory;
mod scenario;

use super::super::control::{Control, Phase, Report};
use super::super::pace::Pace;
use super::super::payload::Kind as What;
use super::super::plan::{Arrivals, End, Workload};
use super::super::tally::{Ended, Interval};
use super::super::trouble::Phase::Open;
use super::super::trouble::{Cause, Troubles};
use super::connection::State;
use super::*;
use crate::ring::Ring as _;
use crate::ring::sim::{Coverage, External, Facts, Lie, Sim, Standing, Told};
use crate::statistics::Latencies;
use scenario::{Scenario, World};
use std::rc::Rc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, channel};
use std::time::Instant;

/// What `cargo test` runs of each kind of servers.
const SEEDS: u64 = 800;

/// How one seed ended.
struct Ran {
    scenario: Scenario,
    ended: Ended,
    intervals: Vec<Interval>,
    total: Interval,
    window: (u64, u64),
    load_began: u64,
    /// Connections that had something to send that was due in the window when it was over.
    caught_up: u64,
    left: Vec<Left>,
    given_up: u32,
    facts: Facts,
    standing: Standing,
    told: Vec<Told>,
    coverage: Coverage,
    seen: Seen,
}

/// How a connection was left.
#[derive(Clone, Copy, Debug)]
struct Left {
    /// Bytes that came back, and that should have.
    received: u64,
    asked: u64,
}

/// What the engine went through.
#[derive(Clone, Copy, Debug, Default)]
struct Seen {
    full: u64,
    starved: u64,
    silent: u64,
    without_scratch: u64,
    timed_out: u64,
    given_up: u64,
    stuck: u64,
    wrong: u64,
    lives: u64,
    /// Most connections that were behind their schedule when the window was over.
    caught_up: u64,
    unsent: u64,
    unanswered: u64,
    /// Times a connection had as many messages on their way as it may; and runs in which a schedule's
    /// longest response was longer than its longest service.
    deep: u64,
    waited: u64,
}

impl Seen {
    fn look<R: Dialing>(&mut self, engine: &Engine<'_, R>) {
        self.full += u64::from(engine.connections.iter().any(|one| one.full));
        self.starved = self.starved.max(engine.ended.empty_pool);
        self.silent += u64::from(!engine.silent.is_empty());
        self.without_scratch += u64::from(!engine.touched.is_empty());
        self.caught_up = self.caught_up.max(u64::from(engine.behind));
        let depth = u64::from(engine.depth);
        let most = engine.connections.iter().map(Connection::outstanding).max().unwrap_or(0);
        assert!(depth == 0 || most <= depth, "{most} messages are on their way at depth {depth}");
        self.deep += u64::from(depth > 1 && most == depth);
    }

    fn add(&mut self, ran: &Ran) {
        let other = ran.seen;
        self.full += other.full;
        self.starved += other.starved;
        self.silent += other.silent;
        self.without_scratch += other.without_scratch;
        self.caught_up += other.caught_up;
        self.deep += other.deep;
        self.waited += u64::from(ran.total.response.max() > ran.total.service.max());
        self.unsent += ran.total.unsent;
        self.unanswered += ran.total.unanswered;
        let troubles = ran.troubles();
        let of = |cause| troubles.most_first().iter().filter(|(_, why, _)| *why == cause).count() as u64;
        self.timed_out += of(Cause::TimedOut);
        self.given_up += u64::from(ran.given_up);
        self.stuck += ran.ended.stuck.count;
        self.wrong += ran.ended.wrong_connections;
        self.lives += if ran.scenario.plan.workload == Workload::Churn { ran.facts.accepted } else { 0 };
    }
}

impl Ran {
    fn troubles(&self) -> Troubles {
        let mut all = self.ended.ramp.troubles.clone();
        all.add(&self.total.troubles);
        all.add(&self.ended.after.troubles);
        all
    }

    fn sum(&self, of: impl Fn(&Interval) -> u64) -> u64 {
        of(&self.ended.ramp) + of(&self.total) + of(&self.ended.after)
    }
}

impl<'a> Share<'a> {
    /// The share of one thread that does everything, without a clock of its CPU time.
    fn of_all(plan: &'a Plan, control: &'a Control, reports: Reports) -> Self {
        Self { thread: 0, plan, control, connections: 0..plan.connections, reports, cpu: || Duration::ZERO }
    }
}

/// Runs one seed.
fn run(seed: u64, world: World) -> Ran {
    let scenario = Scenario::draw(seed, world);
    let plan = &scenario.plan;
    let (count, size) = (scenario.client.buffers, scenario.client.buffer_size);
    let arena = Arena::new(count, size, scenario.scratch).unwrap();
    let sim = scenario.client.clone().kernel(arena.memory());
    let messages = if let End::Messages(messages) = plan.end { messages } else { 0 };
    let control = Rc::new(Control::new(Instant::now(), messages));
    let (sender, reports) = channel();
    let share = Share::of_all(plan, &control, sender);
    let mut seen = Seen::default();
    plan_interruption(&scenario, &sim, &control);
    let mut engine = Engine::new(sim.clone(), &arena, share, channel().1);
    let mut intervals = Vec::new();
    let ending = loop {
        let ended = engine.turn();
        assert!(!sim.failed(), "seed {seed}: {:?}\n{scenario:#?}", sim.facts().violations);
        conduct(&scenario, &sim, &control, &reports, &mut intervals);
        seen.look(&engine);
        if let Some(ending) = ended {
            break ending;
        }
    };
    assert_eq!(ending, Ending::Closed, "seed {seed}: {:?}", engine.ended.failure);
    look_at_the_engine(seed, &engine);
    let load_began = engine.load_began;
    let caught_up = seen.caught_up;
    let left = |one: &Connection| Left { received: one.verifier.count(), asked: one.asked_end };
    let left = engine.connections.iter().map(left).collect();
    let ended = engine.finish();
    // Buffers that were given back last are shown to the kernel.
    engine.ring.publish();
    drop(engine);
    conduct(&scenario, &sim, &control, &reports, &mut intervals);
    let mut total = Interval::default();
    intervals.iter().for_each(|interval| total.add(interval));
    Ran {
        ended,
        intervals,
        total,
        window: control.window(),
        load_began,
        caught_up,
        left,
        given_up: control.given_up.load(Ordering::Relaxed),
        facts: sim.facts(),
        standing: sim.standing(),
        told: sim.told(),
        coverage: sim.coverage(),
        seen,
        scenario,
    }
}

/// What the main thread would do: hears the reports, opens the window, closes it when all is sent.
fn conduct(
    scenario: &Scenario,
    sim: &Sim,
    control: &Rc<Control>,
    reports: &Receiver<Report>,
    intervals: &mut Vec<Interval>,
) {
    for report in reports.try_iter() {
        match report {
            Report::Ramped { .. } => {
                let (control, plan) = (Rc::clone(control), scenario.plan.clone());
                let at = sim.clone().now().as_micros() as u64 + 50;
                sim.at(at, move || {
                    let begin = at * 1_000 + plan.warmup.as_nanos() as u64;
                    let end = match plan.end {
                        End::After(time) => begin + time.as_nanos() as u64,
                        End::Messages(_) => u64::MAX,
                    };
                    control.open(begin, end);
                    control.advance(Phase::Load);
                    External::Wake
                });
            }
            Report::Interval { interval, .. } => intervals.push(*interval),
            Report::Ended { .. } => unreachable!("the thread says that, not the engine"),
        }
    }
    if let Some(at) = control.finished_at()
        && control.phase() == Phase::Load
    {
        close_window(control, at + 1);
        sim.at(sim.clone().now().as_micros() as u64 + 20, || External::Wake);
    }
}

/// A signal at some moment; one at the end of time for those that would wait for ever.
fn plan_interruption(scenario: &Scenario, sim: &Sim, control: &Rc<Control>) {
    for at in [scenario.interrupted_at, Some(scenario.given_up_at)].into_iter().flatten() {
        let control = Rc::clone(control);
        sim.at(at, move || {
            close_window(&control, at * 1_000);
            External::Wake
        });
    }
}

fn close_window(control: &Control, at: u64) {
    let (begin, end) = control.window();
    if begin != u64::MAX {
        control.open(begin.min(at), end.min(at));
    }
    control.advance(Phase::Grace);
}

fn look_at_the_engine<R: Dialing>(seed: u64, engine: &Engine<'_, R>) {
    let zeros =
        (engine.in_flight, engine.in_flight_other, engine.outstanding, engine.open, engine.buffers.lent());
    assert_eq!(zeros, (0, 0, 0, 0, 0), "seed {seed}");
    for (slot, one) in engine.connections.iter().enumerate() {
        assert!(one.state == State::Gone && one.socket.is_none(), "seed {seed}: slot {slot}: {one:?}");
    }
    assert_eq!(engine.share.control.connected.load(Ordering::Relaxed), 0, "seed {seed}");
}

/// What must hold whatever happened.
fn look_at_the_end(seed: u64, ran: &Ran) {
    let replay =
        format!("seed {seed}: replay with C10K_SEED={seed}, trace with C10K_TRACE=1\n{:#?}", ran.scenario);
    assert!(ran.facts.violations.is_empty(), "{:?}\n{replay}", ran.facts.violations);
    let Standing { outstanding, lent, open, .. } = ran.standing;
    assert_eq!((outstanding, lent, open), (0, 0, 0), "{replay}");
    assert_eq!(ran.facts.accepted, ran.facts.closed, "{replay}");
    assert_eq!(ran.ended.stale, 0, "{replay}");
    // The kernel's account and ours.
    assert_eq!(ran.sum(|interval| interval.bytes_received), ran.facts.received, "{replay}");
    assert_eq!(ran.sum(|interval| interval.bytes_sent), ran.facts.sent, "{replay}");
    look_at_the_schedule(ran, &replay);
    // The sum over the connections is the sum over the intervals.
    assert_eq!(ran.ended.spread.sum as u64, ran.total.messages, "{replay}");
    assert!(ran.intervals.windows(2).all(|two| two[0].number < two[1].number), "{replay}");
}

/// Of an open loop every message that was due in the window is in the response exactly once: as it came
/// back, or with the time it had waited for nothing. A thread that failed has left before.
fn look_at_the_schedule(ran: &Ran, replay: &str) {
    let Interval { response, service, unsent, unanswered, .. } = &ran.total;
    if !ran.scenario.plan.latency {
        for interval in [&ran.ended.ramp, &ran.total, &ran.ended.after] {
            let Interval { response, service, connect, close, lag, .. } = interval;
            let samples = [response, service, connect, close, lag].map(Latencies::samples);
            assert_eq!(samples, [0; 5], "{replay}");
        }
        return;
    }
    if !ran.is_open() {
        assert_eq!((response.samples(), *unsent), (0, 0), "{replay}");
        return;
    }
    assert_eq!(response.samples(), service.samples() + unsent + unanswered, "{replay}");
    let timed = matches!(ran.scenario.plan.end, End::After(_));
    if timed && ran.window.0 != u64::MAX && ran.ended.failure.is_none() {
        assert_eq!(response.samples(), ran.due(), "{unsent} unsent, {unanswered} unanswered: {replay}");
    }
}

impl Ran {
    fn is_open(&self) -> bool {
        let stream = self.scenario.plan.workload == Workload::Stream;
        matches!(self.scenario.plan.arrivals, Arrivals::Open { .. }) && !stream
    }

    /// Messages that were due in the window.
    fn due(&self) -> u64 {
        let plan = &self.scenario.plan;
        let Arrivals::Open { rate, spacing } = plan.arrivals else { panic!("a closed loop has no schedule") };
        let pace = Pace::new(rate, spacing, plan.connections, plan.seed);
        let mut all = 0;
        for connection in 0..plan.connections {
            let mut time = pace.first(connection);
            while self.load_began + time < self.window.1 {
                all += u64::from(self.load_began + time >= self.window.0);
                time = pace.next(connection, time);
            }
        }
        all
    }
}

#[test]
fn honest_servers_give_back_every_message_and_none_is_counted_twice() {
    let mut coverage: Option<Coverage> = None;
    let (mut messages, mut counted, mut late) = (0, 0, 0);
    let mut seen = Seen::default();
    for seed in crate::seeds::several(SEEDS) {
        let ran = run(seed, World::Honest);
        look_at_the_end(seed, &ran);
        let replay = format!("seed {seed}: {:#?}", ran.scenario);
        assert_eq!(ran.troubles().total(), 0, "{:?}\n{replay}", ran.troubles());
        assert_eq!((ran.given_up, ran.ended.wrong_connections, ran.ended.stuck.count), (0, 0, 0), "{replay}");
        let churn = ran.scenario.plan.workload == Workload::Churn;
        if churn || ran.scenario.interrupted_at.is_none() {
            assert_eq!(ran.facts.received, ran.facts.sent, "{replay}");
        }
        if let (End::Messages(messages), None) = (ran.scenario.plan.end, ran.scenario.interrupted_at) {
            assert_eq!(ran.total.messages, messages, "{replay}");
            if ran.scenario.plan.workload != Workload::Stream && ran.scenario.plan.latency {
                assert_eq!(ran.total.service.samples(), messages, "{replay}");
            }
            counted += 1;
        }
        // Whoever gives everything back within the grace is asked for everything that was due.
        assert_eq!((ran.total.unsent, ran.total.unanswered), (0, 0), "{replay}");
        late += u64::from(ran.caught_up > 0);
        messages += ran.sum(|interval| interval.messages);
        seen.add(&ran);
        match &mut coverage {
            Some(coverage) => coverage.merge(&ran.coverage),
            None => coverage = Some(ran.coverage),
        }
    }
    println!(
        "{messages} messages, {counted} runs by number, {late} behind their schedule at the end\n{seen:#?}"
    );
    assert!(late > 0 || one_seed(), "no run was behind at the end of its window");
    assert!((seen.deep > 0 && seen.waited > 0) || one_seed(), "{seen:#?}");
    println!("{}", coverage.expect("there is at least one seed").table());
}

#[test]
fn whatever_breaks_is_counted_by_its_cause_and_nothing_stays_behind() {
    let mut seen = Seen::default();
    for seed in crate::seeds::several(SEEDS) {
        let ran = run(seed, World::Rough);
        look_at_the_end(seed, &ran);
        let replay = format!("seed {seed}: {:?}\n{:#?}", ran.troubles(), ran.scenario);
        for (phase, cause, _) in ran.troubles().most_first() {
            let legal = match cause {
                Cause::Errno(errno) => errno != libc::ECANCELED && errno != libc::ENOBUFS || phase == Open,
                Cause::ClosedEarly | Cause::TimedOut | Cause::Stuck => true,
                Cause::WrongBytes => false,
            };
            assert!(legal, "{phase:?} {cause:?}: {replay}");
        }
        seen.add(&ran);
    }
    println!("{seen:#?}");
    let Seen { full, starved, silent, without_scratch, timed_out, given_up, stuck, lives, .. } = seen;
    let all = [full, starved, silent, without_scratch, timed_out, given_up, stuck, lives];
    let missed = [seen.unsent, seen.unanswered];
    assert!(all.iter().chain(&missed).all(|&times| times > 0) || one_seed(), "{seen:#?}");
}

/// Whether one seed is replayed, which need not show everything.
fn one_seed() -> bool {
    std::env::var_os("C10K_SEED").is_some()
}

#[test]
fn whoever_is_lied_to_is_named_and_nobody_else() {
    let mut seen = Seen::default();
    let mut named = 0;
    for seed in crate::seeds::several(SEEDS) {
        let ran = run(seed, World::Lying);
        look_at_the_end(seed, &ran);
        let replay =
            format!("seed {seed}: told {:?}\nwrong {:?}\n{:#?}", ran.told, ran.ended.wrong, ran.scenario);
        for told in &ran.told {
            let wrong = ran.ended.wrong.iter().find(|wrong| wrong.connection as usize == told.connection);
            let stuck = ran.ended.stuck.first.iter().any(|&(number, _)| number as usize == told.connection);
            let closed = ran.troubles().most_first().iter().any(|(_, cause, _)| *cause == Cause::ClosedEarly);
            let shows = match (told.lie, wrong) {
                (Lie::Stall, None) => stuck == ran.is_owed(told),
                (Lie::Finish, None) => closed || ran.broke() || !ran.is_owed(told),
                (_, Some(wrong)) => is_named(told, wrong.offset, wrong.kind),
                // What is missing at the end has not come yet.
                (Lie::Drop { .. }, None) => ran.was_not_heard(told) && stuck == ran.is_owed(told),
                (_, None) => ran.was_not_heard(told),
            };
            assert!(shows, "{told:?} does not show: {replay}");
            named += u64::from(wrong.is_some());
        }
        for wrong in &ran.ended.wrong {
            let told = ran.told.iter().any(|told| told.connection == wrong.connection as usize);
            assert!(told, "nobody lied about {wrong:?}: {replay}");
        }
        seen.add(&ran);
    }
    println!("{named} lies were named\n{seen:#?}");
}

/// Whether `kind` at `offset` is what a verifier may say of the lie.
fn is_named(told: &Told, offset: u64, kind: What) -> bool {
    let near = offset >= told.offset;
    match told.lie {
        Lie::Flip { .. } => offset == told.offset && kind == What::Flipped { bits: 1 },
        _ => near,
    }
}

impl Ran {
    /// Whether nothing of the lie came before the run was over for the connection.
    fn was_not_heard(&self, told: &Told) -> bool {
        self.left[told.connection].received <= told.offset
    }

    fn is_owed(&self, told: &Told) -> bool {
        self.left[told.connection].received < self.left[told.connection].asked
    }

    fn broke(&self) -> bool {
        self.troubles().most_first().iter().any(|(_, cause, _)| matches!(cause, Cause::Errno(_)))
    }
}

#[test]
fn a_seed_ends_the_same_way_twice() {
    for seed in [3, 18, 101] {
        let (one, other) = (run(seed, World::Rough), run(seed, World::Rough));
        assert_eq!(one.facts.received, other.facts.received);
        assert_eq!(one.troubles(), other.troubles());
        assert_eq!(one.coverage.table(), other.coverage.table());
    }
}
