//! The bench as it happens: whose turn it is, servers and clients started and ended, every slice put on disk,
//! until each cell is done, the time is spent, or a signal comes.

use super::canary;
use super::check::Facts;
use super::child::Log;
use super::client::{self, Idle, Ran, Signals, Task};
use super::environment::slab_bytes;
use super::order::{self, SLICES};
use super::pace::{self, Ended, Next, Pace};
use super::progress::Progress;
use super::server::Server;
use super::store::{Done, Store};
use super::suite;
use super::variant;
use super::{disturbance, measure};
use crate::host;
use crate::result::bench::{Before, BenchPlan, Cell, Purpose, RawSlice, Side, Slice, Unit, Variant};
use crate::statistics::paired::Rule;
use nix::sys::signal::Signal;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// How often a block's disturbed slices are measured again, all together.
const REPEATS_PER_BLOCK: usize = 2;
/// One repeat for so many slices, over the whole bench: where the disturbance is lasting, repeating does not
/// help, and the time is better spent on more blocks.
const SLICES_PER_REPEAT: usize = 5;
/// What is left of the budget for ending servers and writing the result.
const RESERVE: Duration = Duration::from_millis(1500);
/// Blocks a cell's share of the budget has room for at least, beside the one that finds its rate out: enough
/// above six for an interval that is no whole range.
const BLOCKS_WANTED: u32 = 10;
/// How long a slice is measured at least, and at most where it is not cost that is asked for. A cost has
/// [`WINDOW_COST`], or as long as the slice takes beside, whichever is more.
const WINDOW_MIN: Duration = Duration::from_millis(200);
const WINDOW_MAX: Duration = Duration::from_secs(3);
/// What disturbs a machine mostly lasts for seconds, and neighbours within a second share it: in the same
/// time many short slices make a narrower interval than few long ones. docs/truth.md has what that came to.
const WINDOW_COST: Duration = Duration::from_millis(250);
/// A capacity is needed to a few per cent only.
const CAPACITY_WINDOW_MAX: Duration = Duration::from_millis(400);
/// What a slice takes beside its warm-up and window: start, grace, end; and for each connection.
const SLICE_OVERHEAD: Duration = Duration::from_millis(120);
const CONNECTION_OVERHEAD: Duration = Duration::from_micros(60);
/// What it takes to start and end the servers of a block.
const SERVERS_OVERHEAD: Duration = Duration::from_millis(200);

/// One cell while it is measured.
#[derive(Debug)]
pub struct State {
    /// What is compared; learns what really ran.
    pub cell: Cell,
    /// Every slice.
    pub slices: Vec<Slice>,
    /// The histograms of each, in the same order.
    pub histograms: Vec<Option<String>>,
    /// Why it ended; `None` while it goes on.
    pub ended: Option<&'static str>,
    pace: Pace,
    /// Why an earlier sitting could not run it.
    could_not: Option<String>,
    /// Why it could not go on, though some of it was measured.
    pub broke_off: Option<String>,
    /// How long its last block took.
    took: Option<Duration>,
}

/// How a bench ended.
#[derive(Debug, Default)]
pub struct Conducted {
    /// Every cell, in the order of the plan.
    pub states: Vec<State>,
    /// How long it took, all sittings together.
    pub took: Duration,
    /// The signal that ended it.
    pub signal: Option<Signal>,
    /// Whether bytes were wrong.
    pub wrong_bytes: bool,
    /// Whether some variant is not available here.
    pub unavailable: bool,
    /// Why it could not go on, a sentence.
    pub failure: Option<String>,
}

/// Why a block stopped.
enum Stopped {
    Signal,
    WrongBytes(String),
    Failed(String),
    /// The cell cannot be run.
    LeftOut(String, bool),
}

/// A bench that runs.
pub struct Bench<'a> {
    plan: &'a BenchPlan,
    /// For all sittings together.
    budget: Duration,
    store: &'a mut Store,
    progress: &'a Progress,
    signals: Signals,
    log: Log,
    rule: Rule,
    keeps_servers: bool,
    /// When this sitting began.
    began: Instant,
    /// How long earlier ones took.
    before: Duration,
    servers: Vec<Kept>,
    /// Servers that are not ours and were found to echo.
    gated: BTreeSet<String>,
    /// Servers that were started, those of earlier sittings at most.
    starts: u32,
    states: Vec<State>,
}

/// A server, and whose it is.
struct Kept {
    side: Side,
    name: String,
    idle_connections: u32,
    server: Server,
    _idle: Option<Idle>,
}

impl<'a> Bench<'a> {
    /// Prepares to go on from these slices.
    ///
    /// # Errors
    /// A sentence.
    pub fn new(
        plan: &'a BenchPlan,
        budget: Duration,
        store: &'a mut Store,
        progress: &'a Progress,
        Done { slices: done, cells: before }: Done,
    ) -> Result<Self, String> {
        let signals = Signals::take().map_err(|error| format!("the signals cannot be taken: {error}"))?;
        let log = Log::new(store.directory().join("children.log"));
        // No slice took more than a server of each side, so that no draw is used twice.
        let starts = 2 * done.len() as u32;
        let end = |raw: &RawSlice| raw.slice.began_us + raw.slice.measured_us;
        let took = Duration::from_micros(done.iter().map(end).max().unwrap_or(0));
        let rule = Rule { band: plan.same_band, ..Rule::default() };
        let state = |cell: &Cell| {
            let known = before.iter().find(|one| one.id == cell.id);
            let mut cell = cell.clone();
            // A server that had started and had no turn yet has told what it runs with, in no slice.
            if let Some(known) = known {
                cell.variant.features.clone_from(&known.variant.features);
                cell.reference.features.clone_from(&known.reference.features);
            }
            State::of(cell, &plan.pace, known.and_then(|known| known.left_out.clone()))
        };
        let mut states: Vec<State> = plan.cells.iter().map(state).collect();
        for raw in done {
            if let Some(state) = states.iter_mut().find(|state| state.cell.id == raw.slice.cell) {
                state.learn(raw.slice.side, raw.features);
                state.slices.push(raw.slice);
                state.histograms.push(raw.histogram);
            }
        }
        let began = Instant::now();
        Ok(Self {
            plan,
            budget,
            store,
            progress,
            signals,
            log,
            rule,
            keeps_servers: suite::keeps_servers(&plan.suite),
            gated: BTreeSet::new(),
            began,
            before: took,
            servers: Vec::new(),
            starts,
            states,
        })
    }

    /// Measures until it is over.
    #[must_use]
    pub fn conduct(mut self) -> Conducted {
        let mut conducted = Conducted::default();
        let mut round = self
            .states
            .iter()
            .flat_map(|state| state.slices.last())
            .map(|one| one.block + 1)
            .max()
            .unwrap_or(0);
        'rounds: loop {
            let open = (0..self.states.len()).filter(|&cell| self.states[cell].ended.is_none()).collect();
            let turns = order::mixed(self.plan.seed, round, open);
            round += 1;
            if turns.is_empty() {
                break;
            }
            for cell in turns {
                match self.turn(cell) {
                    Ok(()) => {}
                    Err(Stopped::LeftOut(sentence, unavailable)) => {
                        self.states[cell].end_for(sentence);
                        conducted.unavailable |= unavailable;
                    }
                    Err(stopped) => {
                        match stopped {
                            Stopped::Signal => conducted.signal = self.signals.came(),
                            Stopped::WrongBytes(sentence) => {
                                conducted.wrong_bytes = true;
                                conducted.failure = Some(sentence);
                            }
                            Stopped::Failed(sentence) => conducted.failure = Some(sentence),
                            Stopped::LeftOut(..) => {}
                        }
                        break 'rounds;
                    }
                }
            }
        }
        let ended = if conducted.signal.is_some() { "interrupted" } else { "failed" };
        self.states.iter_mut().for_each(|state| {
            state.ended.get_or_insert(ended);
        });
        self.servers.clear();
        conducted.took = self.elapsed();
        conducted.states = self.states;
        conducted
    }

    /// All sittings together.
    fn elapsed(&self) -> Duration {
        self.before + self.began.elapsed()
    }

    fn left(&self) -> Duration {
        self.budget.saturating_sub(self.elapsed()).saturating_sub(RESERVE)
    }

    /// One block of a cell, or the end of it.
    fn turn(&mut self, cell: usize) -> Result<(), Stopped> {
        let state = &self.states[cell];
        let (purpose, block, rate) = match pace::next(state.pace, &state.cell, &state.slices, self.rule) {
            Next::Block { purpose, block, rate } => (purpose, block, rate),
            Next::Done(ended) => {
                self.states[cell].ended = Some(match ended {
                    Ended::Narrow => "narrow_enough",
                    Ended::Plain => "plain",
                    Ended::Failed => "failed",
                });
                return Ok(());
            }
        };
        let expected = state.took.unwrap_or_else(|| self.expected(cell, purpose));
        if expected > self.left() {
            let state = &mut self.states[cell];
            state.ended = Some("budget_spent");
            // What could not be run before, and has no time to be tried again, could not be run.
            state.could_not.take().into_iter().for_each(|sentence| state.end_for(sentence));
            return Ok(());
        }
        let begun = Instant::now();
        let done = self.block(cell, purpose, block, rate);
        if !self.keeps_servers {
            self.servers.clear();
        }
        self.states[cell].took = Some(begun.elapsed());
        done
    }

    /// How long a block of a cell takes that never had one.
    fn expected(&self, cell: usize, purpose: Purpose) -> Duration {
        let slice = self.warmup(cell) + self.window(cell, purpose) + self.overhead(cell);
        slice * u32::from(SLICES) + SERVERS_OVERHEAD
    }

    fn overhead(&self, cell: usize) -> Duration {
        let workload = &self.states[cell].cell.workload;
        SLICE_OVERHEAD + CONNECTION_OVERHEAD * workload.connections
    }

    fn warmup(&self, cell: usize) -> Duration {
        // Long enough that every connection had its turn a few times.
        match self.states[cell].cell.workload.connections {
            0..=1_000 => Duration::from_millis(100),
            _ => Duration::from_millis(300),
        }
    }

    /// How long a slice is measured: so that the budget holds the blocks that are wanted of every cell. It
    /// follows from the plan alone, so that one that is resumed has the same.
    fn window(&self, cell: usize, purpose: Purpose) -> Duration {
        let cells = self.plan.cells.iter().filter(|cell| cell.left_out.is_none()).count().max(1) as u32;
        let share = Duration::from_micros(self.plan.budget_us).saturating_sub(RESERVE) / cells;
        let servers = if self.keeps_servers { Duration::ZERO } else { SERVERS_OVERHEAD };
        let slice = (share / (BLOCKS_WANTED + 1)).saturating_sub(servers) / u32::from(SLICES);
        let beside = self.warmup(cell) + self.overhead(cell);
        let window = slice.saturating_sub(beside);
        let most = match purpose {
            Purpose::Capacity => CAPACITY_WINDOW_MAX,
            // Who only holds connections has few messages to tell of.
            Purpose::Cost if self.states[cell].cell.workload.unit != Unit::IdleSecond => {
                WINDOW_COST.max(beside)
            }
            Purpose::Cost | Purpose::Latency => WINDOW_MAX,
        };
        // Whole milliseconds read better in the commands.
        Duration::from_millis(window.clamp(WINDOW_MIN, most).as_millis() as u64)
    }

    fn block(&mut self, cell: usize, purpose: Purpose, block: u32, rate: Option<f64>) -> Result<(), Stopped> {
        let sides = order::sides(self.plan.seed, cell, purpose, block);
        for side in [Side::A, Side::B] {
            self.server(cell, side)?;
        }
        let mut repeats = 0;
        for (position, side) in sides.into_iter().enumerate() {
            let position = position as u8;
            let place = |one: &Slice| (one.purpose, one.block, one.position) == (purpose, block, position);
            let mut attempt = self.states[cell].slices.iter().filter(|one| place(one)).count() as u32;
            if attempt > 0 {
                continue;
            }
            loop {
                self.progress.turn(&self.states, cell, self.left());
                let slice = Slice {
                    cell: self.states[cell].cell.id.clone(),
                    block,
                    position,
                    side,
                    purpose,
                    attempt,
                    began_us: self.elapsed().as_micros() as u64,
                    measured_us: 0,
                    before: None,
                    server_padding_bytes: None,
                    invalid: Vec::new(),
                    disturbed: Vec::new(),
                    numbers: None,
                };
                let again = self.slice(cell, slice, rate)?;
                if !again || repeats == REPEATS_PER_BLOCK || !self.may_repeat() || self.left().is_zero() {
                    break;
                }
                (attempt, repeats) = (attempt + 1, repeats + 1);
            }
        }
        Ok(())
    }

    fn may_repeat(&self) -> bool {
        let slices = || self.states.iter().flat_map(|state| &state.slices);
        let repeated = slices().filter(|one| one.attempt > 0).count();
        repeated < REPEATS_PER_BLOCK + slices().count() / SLICES_PER_REPEAT
    }

    /// Measures one slice and keeps it. Whether it was disturbed.
    fn slice(&mut self, cell: usize, mut slice: Slice, rate: Option<f64>) -> Result<bool, Stopped> {
        let now = self.look_before();
        slice.disturbed = self.disturbed_before(&now);
        slice.before = Some(now);
        let kept = self.servers.iter().find(|kept| kept.is_for(&self.states[cell].cell, slice.side));
        slice.server_padding_bytes = kept.map(|kept| kept.server.padding);
        let looks = self.plan.suite == "scale";
        let before = looks.then(slab_bytes).flatten();
        let ran = self.load(cell, &slice, rate, looks)?;
        let state = &self.states[cell];
        let variant = side_of(&state.cell, slice.side);
        let wrong = measure::fill(&mut slice, &state.cell.workload, variant, &ran);
        if let (Some(numbers), Some(before), Some(most)) = (&mut slice.numbers, before, ran.slabs) {
            let connections = f64::from(state.cell.workload.connections);
            numbers.kernel_bytes_per_connection = Some(most.saturating_sub(before) as f64 / connections);
        }
        let dead = self.servers.iter_mut().position(|kept| !kept.server.is_alive());
        if let Some(dead) = dead {
            let kept = self.servers.swap_remove(dead);
            slice.invalid.push(format!("the server {} ended", kept.name));
        }
        let features = side_of(&self.states[cell].cell, slice.side).features.clone();
        let Ran { command: client, result: load, histogram, .. } = ran;
        let raw = RawSlice { slice, features, client, load, histogram };
        self.store.keep(&raw).map_err(Stopped::Failed)?;
        let RawSlice { slice, histogram, .. } = raw;
        let side = slice.side;
        let again = disturbance::calls_for_repeat(&slice);
        let state = &mut self.states[cell];
        state.slices.push(slice);
        state.histograms.push(histogram);
        if wrong {
            let slice = state.slices.last();
            let what = slice.and_then(|one| one.invalid.first()).map_or("", String::as_str);
            let name = variant::short(side_of(&state.cell, side));
            return Err(Stopped::WrongBytes(format!("{name}: {what}")));
        }
        if dead.is_some() {
            // The next slice finds a fresh one; a server that ends each time makes every block unsound.
            for side in [Side::A, Side::B] {
                self.server(cell, side)?;
            }
        }
        Ok(again)
    }

    /// What the machine is like while nothing is measured.
    fn look_before(&self) -> Before {
        let cpus = [self.plan.server_cpus.as_slice(), &self.plan.client_cpus].concat();
        let first = host::runnable();
        let canaries = canary::canaries(&cpus);
        // A task that only passed by is not there at the second look.
        let fewest = first.into_iter().chain(host::runnable()).min();
        Before { canaries, runnable_others: fewest.map(|tasks| tasks.saturating_sub(1)) }
    }

    /// What disturbs a slice that begins now.
    fn disturbed_before(&self, now: &Before) -> Vec<String> {
        let slices = self.states.iter().flat_map(|state| &state.slices);
        let mut reasons = canary::slow(&now.canaries, slices);
        // The kernel polls for some servers, and for others nobody knows.
        let polled = |kept: &&Kept| {
            let taskrun = kept.server.features.as_ref().map(|features| features.get("taskrun"));
            taskrun.is_none_or(|value| value.is_some_and(|value| value == "sqpoll"))
        };
        let own = self.servers.iter().filter(polled).count() as u32;
        if let Some(others) = now.runnable_others.filter(|&others| others > own) {
            reasons.push(format!("{} before it began: {others}", disturbance::RUNNABLE));
        }
        reasons
    }

    fn load(&mut self, cell: usize, slice: &Slice, rate: Option<f64>, looks: bool) -> Result<Ran, Stopped> {
        let task = Task {
            workload: &self.states[cell].cell.workload,
            cpus: &self.plan.client_cpus,
            rate,
            warmup: self.warmup(cell),
            window: self.window(cell, slice.purpose),
            seed: order::client_seed(self.plan.seed, cell, slice.purpose, slice.block),
            histograms: &self.store.directory().join("slice.hlog"),
        };
        let kept = self.servers.iter().find(|kept| kept.is_for(&self.states[cell].cell, slice.side));
        let Some(kept) = kept else { return Err(Stopped::Failed("a server is missing".into())) };
        let look: Option<fn() -> Option<u64>> = if looks { Some(slab_bytes) } else { None };
        let ran =
            client::run(&task, &kept.server, &mut self.signals, &self.log, look).map_err(Stopped::Failed)?;
        ran.ok_or(Stopped::Signal)
    }

    /// Sees to it that the server of a side runs.
    fn server(&mut self, cell: usize, side: Side) -> Result<(), Stopped> {
        let runs = self.servers.iter().find(|kept| kept.is_for(&self.states[cell].cell, side));
        if let Some(kept) = runs {
            let features = kept.server.features.clone();
            self.states[cell].learn(side, features);
            return Ok(());
        }
        if self.signals.came().is_some() {
            return Err(Stopped::Signal);
        }
        let idle = self.states[cell].cell.workload.idle_connections;
        let variant = side_of(&self.states[cell].cell, side).clone();
        let padding = order::padding(self.plan.seed, self.starts);
        self.starts += 1;
        let server =
            Server::start(&variant, &self.plan.server_cpus, padding, &self.log).map_err(|error| {
                Stopped::LeftOut(
                    format!("{}: {}", variant::short(&variant), error.sentence),
                    error.unavailable,
                )
            })?;
        if !variant::is_ours(&variant) && !self.gated.contains(&variant.name) {
            client::gate(&server, &self.plan.client_cpus, &mut self.signals, &self.log).map_err(
                |(sentence, wrong)| match wrong {
                    true => Stopped::WrongBytes(format!("{}: {sentence}", variant::short(&variant))),
                    false => Stopped::LeftOut(format!("{}: {sentence}", variant::short(&variant)), false),
                },
            )?;
            self.gated.insert(variant.name.clone());
        }
        let held = match idle {
            0 => None,
            count => {
                let cpus = &self.plan.client_cpus;
                let held = Idle::hold(count, &server, cpus, &mut self.signals, &self.log)
                    .map_err(|sentence| Stopped::LeftOut(sentence, false))?;
                Some(held.ok_or(Stopped::Signal)?)
            }
        };
        self.states[cell].learn(side, server.features.clone());
        self.servers.push(Kept { side, name: variant.name, idle_connections: idle, server, _idle: held });
        Ok(())
    }
}

impl State {
    /// Nothing is measured. `could_not` is why an earlier sitting left it out.
    fn of(cell: Cell, pace: &str, could_not: Option<String>) -> Self {
        Self {
            ended: cell.left_out.is_some().then_some("left_out"),
            pace: Pace::of(pace, &cell),
            cell,
            slices: Vec::new(),
            histograms: Vec::new(),
            could_not,
            broke_off: None,
            took: None,
        }
    }

    /// It cannot be run, or not any more: what was measured before still counts.
    fn end_for(&mut self, sentence: String) {
        match self.slices.is_empty() {
            true => (self.cell.left_out, self.ended) = (Some(sentence), Some("left_out")),
            false => (self.broke_off, self.ended) = (Some(sentence), Some("failed")),
        }
    }

    /// What really runs on a side.
    fn learn(&mut self, side: Side, features: Option<BTreeMap<String, String>>) {
        match side {
            Side::A => self.cell.variant.features = features,
            Side::B => self.cell.reference.features = features,
        }
    }
}

impl Kept {
    fn is_for(&self, cell: &Cell, side: Side) -> bool {
        self.side == side
            && self.name == side_of(cell, side).name
            && self.idle_connections == cell.workload.idle_connections
    }
}

const fn side_of(cell: &Cell, side: Side) -> &Variant {
    match side {
        Side::A => &cell.variant,
        Side::B => &cell.reference,
    }
}

/// A directory that has not been there.
#[must_use]
pub fn new_directory(facts: &Facts) -> PathBuf {
    PathBuf::from(format!("c10k-bench-{:.0}", facts.now))
}
