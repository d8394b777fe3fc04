//! What one seed runs with: sizes, features, limits, and what happens from outside when.

use super::NOTHING;
use super::combination::Combination;
use crate::config::Config;
use crate::conn::{Admission, Handover, Limits};
use crate::counters::Counters;
use crate::features::{Accept, Buffers, Files, Recv, Spread, Taskrun, Uring, Wait};
use crate::ring::Memory;
use crate::ring::sim::{External, Neighbour, Setup, Sim};
use crate::stop::{Phase, Stop};
use crate::uring::COUNTERS;
use crate::uring::buffers::CHUNK;
use crate::uring::handing::PASSAGE;
use crate::uring::token::{self, Kind};
use crate::worker;
use fastrand::Rng;
use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

/// All choices of a seed.
#[derive(Clone, Debug)]
pub(super) struct Scenario {
    pub(super) seed: u64,
    /// The values that the flags below stand for.
    pub(super) combination: Combination,
    pub(super) buffers: u32,
    pub(super) buffer_size: u32,
    pub(super) sq: usize,
    pub(super) cq: usize,
    pub(super) max_connections: u32,
    pub(super) descriptors: u32,
    pub(super) direct: bool,
    pub(super) accept_multishot: bool,
    pub(super) receive_multishot: bool,
    /// `recv=poll`: the ring only notifies, and plain calls receive and send.
    pub(super) polled: bool,
    pub(super) obeys_limit: bool,
    pub(super) skips_sent: bool,
    /// `taskrun=sqpoll`: what is pushed is taken when the kernel's thread comes to it.
    pub(super) thread_submits: bool,
    /// `buffers=owned`: each connection receives into a buffer of its own, once each time.
    pub(super) owned: bool,
    /// `buffers=incremental`: a buffer is filled bit by bit.
    pub(super) incremental: bool,
    /// `buffers=classic`: buffers are provided by requests.
    pub(super) classic: bool,
    /// `bundle=recv`: one receive may fill several buffers.
    pub(super) bundle: bool,
    /// `recv-cap`: the most bytes of one receive.
    pub(super) receive_cap: Option<u32>,
    /// `send=zc`: the kernel may go on reading what it took.
    pub(super) keeps_sent: bool,
    /// `bundle=send`: so many buffers at most are sent at once.
    pub(super) lends: usize,
    /// `wait=min:COUNT:TIME`.
    pub(super) wait: Wait,
    /// `spread=msg-ring`, of the worker that accepts: how often a hand fails, in a thousand.
    pub(super) hands_on: Option<u32>,
    /// `spread=msg-ring`, of another worker: how often something cannot be sent to it, in a thousand.
    pub(super) arrives: Option<u32>,
    /// How many connections the table of the worker that accepts is for, where that is not all of them.
    pub(super) room: Option<u32>,
    pub(super) arrived_known: bool,
    pub(super) counts_arrived: bool,
    pub(super) buffers_at_arming: bool,
    pub(super) listeners: usize,
    pub(super) peers: usize,
    pub(super) spill_limit: u64,
    pub(super) limits: Limits,
    pub(super) drain_timeout: Duration,
    /// Whether another worker takes permits of the same limit.
    pub(super) rival: bool,
    /// When the faults end, microseconds.
    pub(super) heal_at: u64,
    /// When the server is told to stop, if that is before everything has come to rest.
    pub(super) stop_at: Option<u64>,
    /// When it is told to end at once.
    pub(super) cut_at: Option<u64>,
}

impl Scenario {
    pub(super) fn draw(seed: u64) -> Self {
        // Another stream of numbers than the kernel's.
        let mut random = Rng::with_seed(seed ^ 0x5eed_0000_0000_0000);
        let random = &mut random;
        let peers_most = [3, 12, 40, 64][random.usize(0..4)];
        let peers = random.usize(1..=peers_most);
        let max_connections = random.u32(1..=peers as u32 + 4);
        let heal_at = random.u64(1_000..150_000);
        // Drawn from a stream of their own, so that the rest of a seed stays when values come.
        let later = &mut Rng::with_seed(seed ^ 0xfea7_0000_0000_0000);
        let combination = Combination::draw(later);
        let has = |text| combination.has(text);
        // Half of the stops come while most peers are busy, and all that are to find somebody on the way.
        let stop_most = match random.bool() {
            _ if has("spread=msg-ring") => 8_000,
            true => 20_000,
            false => 200_000,
        };
        let spread = &mut Rng::with_seed(seed ^ 0x5b1e_ad00_0000_0000);
        let second = has("spread=msg-ring") && spread.u8(0..3) == 0;
        let hands_on = has("spread=msg-ring") && !second;
        let stops = random.bool() || (hands_on && spread.u8(0..3) == 0);
        let stop_at = stops.then(|| random.u64(0..stop_most));
        let cut = stop_at.filter(|_| random.u8(0..4) == 0);
        let (owned, direct) = (has("buffers=owned"), has("files=direct"));
        let minimum = Wait::Minimum { count: later.u32(1..=12), time: later.u32(1..=2_000) };
        let sends_several = has("bundle=send") || has("bundle=both");
        let lends = if sends_several { later.usize(2..=8) } else { 0 };
        Self {
            seed,
            buffers: match 2 << random.u32(0..7).saturating_sub(1) {
                _ if owned => max_connections,
                buffers => buffers,
            },
            buffer_size: [16, 17, 32, 64, 100, 256][random.usize(0..6)],
            sq: [1, 2, 4, 8, 64, 256][random.usize(0..6)],
            cq: [1, 2, 3, 4, 8, 16, 64, 512][random.usize(0..8)],
            max_connections,
            descriptors: match random.u8(0..3) {
                0 => random.u32(1..=max_connections + 1),
                // Somebody else accepts, and there are more than this worker can name.
                _ if second && direct && spread.bool() => 1 + max_connections / 8,
                _ => max_connections + 64,
            },
            direct,
            accept_multishot: has("accept=multishot"),
            receive_multishot: has("recv=multishot"),
            polled: has("recv=poll"),
            owned,
            incremental: has("buffers=incremental"),
            classic: has("buffers=classic"),
            bundle: has("bundle=recv") || has("bundle=both"),
            receive_cap: has("recv-cap=64").then(|| later.u32(1..=100)),
            keeps_sent: has("send=zc"),
            lends,
            obeys_limit: random.bool(),
            skips_sent: has("cqe-skip=on"),
            thread_submits: has("taskrun=sqpoll"),
            wait: if has("wait=one") { Wait::One } else { minimum },
            hands_on: hands_on.then(|| [0, 200, 600, 1000][later.usize(0..4)]),
            arrives: second.then(|| [100, 300, 700][spread.usize(0..3)]),
            room: (direct && hands_on && later.bool()).then(|| later.u32(1..=max_connections)),
            arrived_known: !direct,
            counts_arrived: random.u8(0..3) > 0,
            buffers_at_arming: random.u8(0..8) > 0,
            listeners: random.usize(1..=2),
            peers,
            spill_limit: u64::from(CHUNK) * [0, 1, 2, 3, 64][random.usize(0..5)],
            limits: limits(random),
            drain_timeout: Duration::from_millis([20, 200, 5_000][random.usize(0..3)]),
            rival: random.u8(0..3) == 0,
            heal_at,
            stop_at,
            cut_at: cut.map(|at| at + random.u64(0..20_000)),
            combination,
        }
    }

    pub(super) fn setup(&self, memory: Memory) -> Setup {
        let microseconds = |milliseconds: u64| (milliseconds > 0).then_some(milliseconds * 1000);
        Setup {
            seed: self.seed,
            memory,
            buffers: self.buffers as u16,
            buffer_size: self.buffer_size,
            incremental: self.incremental,
            classic: self.classic,
            bundle: self.bundle,
            receive_most: self.receive_cap,
            sq: self.sq,
            cq: self.cq,
            // The margin of a table is as small as it ever is.
            descriptors: self.room.map_or(self.descriptors, |room| self.descriptors.min(room + PASSAGE)),
            direct: self.direct,
            accept_multishot: self.accept_multishot,
            receive_multishot: self.receive_multishot,
            obeys_limit: self.obeys_limit,
            skips_sent: self.skips_sent,
            thread_submits: self.thread_submits,
            notifies_only: self.polled,
            keeps_sent: self.keeps_sent,
            lends: self.lends,
            minimum_wait: match self.wait {
                Wait::One => None,
                Wait::Minimum { count, time } => Some((count as usize, time.into())),
            },
            arrived_known: self.arrived_known,
            counts_arrived: self.counts_arrived,
            buffers_at_arming: self.buffers_at_arming,
            listeners: self.listeners,
            peers: self.peers,
            idle_timeout: microseconds(self.limits.idle_timeout),
            write_timeout: microseconds(self.limits.write_timeout),
            linger: self.limits.linger * 1000,
            drain_timeout: self.drain_timeout.as_micros() as u64,
            spill_bounded: self.spill_limit < 64 * u64::from(CHUNK),
            enters_max: 200_000,
            trace: std::env::var_os("C10K_TRACE").is_some().then_some(|line| println!("{line}")),
        }
    }

    pub(super) fn admission(&self) -> Rc<Admission> {
        Rc::new(Admission::new(self.max_connections))
    }

    /// Which worker this is: the first is the one that accepts for all, where one does.
    pub(super) fn index(&self) -> usize {
        usize::from(self.arrives.is_some())
    }

    /// Two other workers, who have been there from the beginning.
    pub(super) fn handover(&self) -> Option<Rc<Handover>> {
        self.hands_on.or(self.arrives).map(|_| {
            let handover = Handover::new(3);
            // Where others accept, they are full before this one is.
            let room = if self.arrives.is_some() { self.max_connections / 4 } else { self.max_connections };
            let others = (0..3).filter(|&worker| worker != self.index());
            others.for_each(|other| handover.open(other, room));
            Rc::new(handover)
        })
    }

    /// Has the others close what they were given, a while later.
    pub(super) fn plan_others(&self, sim: &Sim, admission: &Rc<Admission>, handover: &Rc<Handover>) {
        let (admission, handover) = (Rc::clone(admission), Rc::clone(handover));
        sim.hands_on(self.hands_on.unwrap_or(0), move |worker| {
            handover.arrived(worker);
            handover.left(worker);
            // The kernel wakes this worker in any case.
            let _ = admission.leave();
        });
    }

    /// Has another worker accept for all, serve some, and send the others here or to a third.
    pub(super) fn plan_neighbour(&self, sim: &Sim, admission: &Rc<Admission>, handover: &Rc<Handover>) {
        let (Some(error), here) = (self.arrives, self.index()) else { return };
        let share = || (Rc::clone(admission), Rc::clone(handover));
        let (permits, places) = share();
        let places = move || {
            let chosen = permits.try_enter().then(|| places.choose(0))?;
            if chosen == 0 {
                places.stays(0)
            } else {
                places.sent(chosen)
            }
            Some(chosen)
        };
        let (permits, turned) = share();
        let turned_back = move |stays: bool| {
            turned.turned_back(here);
            if stays {
                turned.stays(0);
            } else {
                // Nobody here waits for it: another worker accepts.
                let _ = permits.leave();
            }
        };
        let (permits, gone) = share();
        let left = move |worker: usize| {
            if worker != 0 {
                gone.arrived(worker);
            }
            gone.left(worker);
            let _ = permits.leave();
        };
        let over = Rc::clone(handover);
        let neighbour = Neighbour {
            here,
            arrival: token::of_listener(Kind::Arrival, 0),
            places: Box::new(places),
            turned_back: Box::new(turned_back),
            left: Rc::new(left),
            ends: Rc::new(move || over.end()),
        };
        sim.beside(neighbour, error);
    }

    pub(super) fn stop(&self) -> Stop {
        Stop::new(1).expect("an eventfd")
    }

    pub(super) fn counters(&self) -> Counters {
        worker::counters(COUNTERS)
    }

    /// Says what happens from outside: wake-ups for nothing, another worker's connections, the end
    /// of the faults, the stop.
    pub(super) fn plan(&self, sim: &Sim, admission: &Rc<Admission>, stop: &Rc<Stop>) {
        let mut random = Rng::with_seed(self.seed ^ 0x0017_51de_0000_0000);
        for _ in 0..random.u8(0..6) {
            sim.at(random.u64(0..self.heal_at), || External::Wake);
        }
        if self.rival {
            for _ in 0..random.u8(1..8) {
                let arrives = random.u64(0..self.heal_at);
                plan_rival(sim, admission, arrives, random.u64(arrives..=self.heal_at));
            }
        }
        sim.at(self.heal_at, || External::Heal);
        if let Some(at) = self.stop_at {
            let stop = Rc::clone(stop);
            sim.at(at, move || {
                stop.advance(Phase::Draining);
                External::Stop
            });
        }
        if let Some(at) = self.cut_at {
            let stop = Rc::clone(stop);
            sim.at(at, move || {
                stop.advance(Phase::Cut);
                External::Cut
            });
        }
        if self.stop_at.is_none() {
            let stop = Rc::clone(stop);
            sim.when_quiet(move || {
                stop.advance(Phase::Draining);
                External::Stop
            });
        }
    }

    pub(super) fn config(&self) -> Config {
        Config {
            max_connections: self.max_connections,
            write_timeout: None,
            drain_timeout: self.drain_timeout,
            backlog: 128,
            spill_limit: self.spill_limit,
            uring: self.features(),
            ..Config::for_tests()
        }
    }

    fn features(&self) -> Uring {
        Uring {
            accept: if self.accept_multishot { Accept::Multishot } else { Accept::Single },
            recv: match (self.polled, self.receive_multishot) {
                (true, _) => Recv::Poll,
                (_, true) => Recv::Multishot,
                _ => Recv::Single,
            },
            buffers: match (self.owned, self.incremental) {
                (true, _) => Buffers::Owned,
                (_, true) => Buffers::Incremental,
                _ if self.classic => Buffers::Classic,
                _ => Buffers::Ring,
            },
            bundle_receive: self.bundle,
            groups: if self.lends > 0 { self.max_connections } else { 0 },
            cqe_skip: self.skips_sent,
            zero_copy: self.keeps_sent,
            files: if self.direct { Files::Direct } else { Files::Normal },
            taskrun: if self.thread_submits { Taskrun::Sqpoll } else { Taskrun::Defer },
            wait: self.wait,
            spread: if self.hands_on.or(self.arrives).is_some() {
                Spread::MsgRing
            } else {
                Spread::Reuseport
            },
            poll_first: false,
            receive_cap: self.receive_cap,
            no_iowait: false,
            napi: None,
            ring_fd_registered: true,
            sqarray: false,
            sq: self.sq as u32,
            cq: self.cq as u32,
            sizes_typed: true,
            buffer_count: self.buffers,
            buffer_size: self.buffer_size,
            receive_limit: self.obeys_limit,
            counts_arrived: self.counts_arrived,
        }
    }
}

/// A connection of another worker comes, if there is a permit, and goes.
fn plan_rival(sim: &Sim, admission: &Rc<Admission>, arrives: u64, leaves: u64) {
    let entered = Rc::new(Cell::new(false));
    let (come, go) = (Rc::clone(admission), Rc::clone(admission));
    let came = Rc::clone(&entered);
    sim.at(arrives, move || {
        came.set(come.try_enter());
        NOTHING
    });
    sim.at(leaves, move || if entered.get() && go.leave() { External::Wake } else { NOTHING });
}

fn limits(random: &mut Rng) -> Limits {
    let window = [20, 100, 400, 4_000][random.usize(0..4)];
    let mut timeout = || if random.bool() { 0 } else { random.u64(20..300) };
    let (idle_timeout, write_timeout) = (timeout(), timeout());
    Limits {
        window,
        window_at_first: random.u32(1..=window),
        trust_after: random.u64(0..300),
        idle_timeout,
        write_timeout,
        linger: random.u64(5..80),
    }
}
