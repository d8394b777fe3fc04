//! A fake kernel behind the seam of [`super::sockets`], for tests. Everything it does is drawn from a
//! seed, among all that the real one may legally do: see [`Outcome`]. It knows every byte, so it
//! judges the server by itself: what is sent must be what was received, a socket is closed once.
//!
//! Edge, level and one-shot are the kernel's own: a ready list which a socket joins when something
//! happens to it, and on which only a level stays.
//!
//! Absent on purpose: time passes only when the test says so ([`Sim::advance`]), and `wait` never
//! blocks: the test asks [`Sim::would_report`] which thread the kernel would wake.

mod answers;
mod network;
mod outcome;
mod peers;
mod readiness;

pub(super) use super::sockets::{EpollFlags, Events, Sockets, Token};
pub(super) use outcome::{Coverage, Outcome};

use crate::conn::Limits;
use fastrand::Rng;
use network::{Connection, Watch};
use nix::errno::Errno;
use std::cell::{Ref, RefCell, RefMut};
use std::collections::VecDeque;
use std::rc::Rc;
use std::time::Duration;

/// A handle to the fake kernel; all clones are the same one.
#[derive(Clone)]
pub(super) struct Sim(Rc<RefCell<World>>);

/// A connected socket. The number is what the real kernel would know it by.
#[derive(Debug)]
pub(super) struct Socket {
    pub(super) descriptor: u32,
    serial: usize,
}

impl Socket {
    /// The same number once more: a mistake, to be planted.
    pub(super) fn duplicate(&self) -> Self {
        Self { ..*self }
    }
}

/// A listening socket.
#[derive(Debug)]
pub(super) struct Listener(usize);

/// How likely the faults are, per mille; drawn per seed, so that a run can have none or many.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Odds {
    spurious: u32,
    stale: u32,
    interrupted: u32,
    cut_short: u32,
    accept: u32,
    watch: u32,
    memory: u32,
    partial: u32,
    meanwhile: u32,
    urgent: u32,
}

impl Odds {
    fn draw(random: &mut Rng) -> Self {
        let mut one = || [0, 10, 60, 300][random.usize(0..4)];
        Self {
            spurious: one(),
            stale: one(),
            interrupted: one(),
            cut_short: one(),
            accept: one(),
            watch: one() / 4,
            memory: one(),
            partial: one(),
            meanwhile: one() * 2,
            urgent: one() * 2,
        }
    }

    const NONE: Self = Self {
        spurious: 0,
        stale: 0,
        interrupted: 0,
        cut_short: 0,
        accept: 0,
        watch: 0,
        memory: 0,
        partial: 0,
        meanwhile: 0,
        urgent: 0,
    };
}

struct Queue {
    waiting: VecDeque<usize>,
    closed: bool,
    watch: Option<Watch>,
}

/// Something an event can be about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Source {
    Connection(usize),
    Listener(usize),
    Waker,
}

/// What is known of a connection when it is closed.
#[derive(Clone, Debug)]
pub(super) struct Closed {
    /// Whether it was ever watched: served, not refused.
    pub(super) served: bool,
    pub(super) complete: bool,
    pub(super) error_seen: bool,
    pub(super) owed: u64,
    /// Bytes that had arrived and were not received.
    pub(super) unread: u64,
    pub(super) promise_kept: bool,
    /// Whether it was told of the stop.
    pub(super) told: bool,
    pub(super) our_fin: bool,
    /// Microseconds since bytes were received, since progress in sending, since our FIN.
    pub(super) silent: u64,
    pub(super) stuck: u64,
    pub(super) lingering: u64,
}

/// Sums the loop's own are held against.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Facts {
    pub(super) received: u64,
    pub(super) taken: u64,
    pub(super) discarded: u64,
    pub(super) accepted: u64,
    pub(super) closed: u64,
    /// Events made up for connections that are gone.
    pub(super) stale: u64,
}

pub(super) struct World {
    random: Rng,
    odds: Odds,
    coverage: Coverage,
    /// Microseconds.
    now: u64,
    connections: Vec<Connection>,
    /// Peers that have not connected yet: when, and to which listener.
    to_come: VecDeque<(u64, usize)>,
    queues: Vec<Queue>,
    descriptors: Vec<Option<usize>>,
    descriptors_used: u32,
    ready: Vec<Source>,
    over: bool,
    gone: Vec<Token>,
    facts: Facts,
    closed_lately: Vec<Closed>,
    /// How many were open when a listener was closed with somebody in its queue.
    left_queued: Option<usize>,
    violation: Option<String>,
    /// Whether every batch of events is printed.
    trace: bool,
}

impl Sim {
    pub(super) fn new(seed: u64, peers: usize, listeners: usize, descriptors: usize) -> Self {
        let mut random = Rng::with_seed(seed);
        let odds = Odds::draw(&mut random);
        let mut at = 0;
        let to_come = (0..peers)
            .map(|_| {
                at += if random.bool() { 0 } else { random.u64(0..5_000) };
                (at, random.usize(0..listeners))
            })
            .collect();
        let queue = || Queue { waiting: VecDeque::new(), closed: false, watch: None };
        Self(Rc::new(RefCell::new(World {
            random,
            odds,
            coverage: Coverage::default(),
            now: 0,
            connections: Vec::new(),
            to_come,
            queues: (0..listeners).map(|_| queue()).collect(),
            descriptors: vec![None; descriptors],
            descriptors_used: 0,
            ready: Vec::new(),
            over: false,
            gone: Vec::new(),
            facts: Facts::default(),
            closed_lately: Vec::new(),
            left_queued: None,
            violation: None,
            trace: std::env::var_os("C10K_TRACE").is_some(),
        })))
    }

    pub(super) fn listeners(&self) -> Vec<Listener> {
        (0..self.world().queues.len()).map(Listener).collect()
    }

    pub(super) fn world(&self) -> Ref<'_, World> {
        self.0.borrow()
    }

    pub(super) fn world_mut(&self) -> RefMut<'_, World> {
        self.0.borrow_mut()
    }

    /// A write to a waker's eventfd.
    pub(super) fn wake(&self) {
        self.world_mut().wake();
    }

    /// Whether a thread that waits would be woken now.
    pub(super) fn would_report(&self) -> bool {
        let mut world = self.world_mut();
        world.over || world.ready.clone().into_iter().any(|source| !world.report(source).is_empty())
    }
}

impl World {
    fn happens(&mut self, per_mille: u32) -> bool {
        per_mille > 0 && self.random.u32(0..1000) < per_mille
    }

    fn note(&mut self, outcome: Outcome) {
        self.coverage.note(outcome);
    }

    pub(super) fn violate(&mut self, what: String) {
        self.violation.get_or_insert(what);
    }

    pub(super) fn violation(&self) -> Option<&String> {
        self.violation.as_ref()
    }

    pub(super) fn coverage(&self) -> &Coverage {
        &self.coverage
    }

    pub(super) fn facts(&self) -> Facts {
        self.facts
    }

    pub(super) fn now(&self) -> u64 {
        self.now
    }

    pub(super) fn advance(&mut self, to: u64) {
        self.now = self.now.max(to);
    }

    /// Connections the server has open, and what they are owed together, and the most one is owed.
    pub(super) fn standing(&self) -> (u64, u64, u64) {
        let open = self.connections.iter().filter(|one| !one.closed && one.watch.is_some());
        open.fold((0, 0, 0), |(count, sum, most), one| (count + 1, sum + one.owed(), one.owed().max(most)))
    }

    /// Whether every peer has come and gone.
    pub(super) fn all_done(&self) -> bool {
        self.to_come.is_empty() && self.connections.iter().all(|one| one.closed)
    }

    /// While nobody is awake and nothing will be reported: somebody for whom something could be done,
    /// or whose time came more than `slack` microseconds ago.
    pub(super) fn left_behind(&self, limits: &Limits, slack: u64) -> Option<String> {
        let late = |since: u64, timeout: u64| timeout > 0 && self.now > since + timeout * 1000 + slack;
        let behind = |one: &&Connection| {
            let to_read = one.unread() > 0 || (one.fin_arrived && !one.end_seen);
            let could_act = if one.broken {
                !one.error_seen
            } else {
                (to_read && (one.owed() == 0 || one.our_fin)) || (one.owed() > 0 && one.is_writable())
            };
            let overdue = if one.our_fin {
                late(one.fin_at, limits.linger)
            } else if one.owed() > 0 {
                late(one.progress_at, limits.write_timeout)
            } else {
                late(one.active_at.max(one.progress_at), limits.idle_timeout)
            };
            // It was told of the stop, everything that had arrived is echoed: our FIN is due.
            let finished =
                one.promised.is_some_and(|promised| one.taken >= promised) && one.owed() == 0 && !one.our_fin;
            !one.closed && one.watch.is_some() && (could_act || overdue || finished)
        };
        self.connections
            .iter()
            .find(behind)
            .map(|one| format!("I16: nobody will be told of this, or it is late at {}: {one:?}", self.now))
    }

    /// A sum that grows with everything the server achieves.
    pub(super) fn progress(&self) -> u64 {
        self.facts.received + self.facts.taken + self.facts.accepted + self.facts.closed
    }

    /// Whether somebody is queued on a listener who could be accepted.
    pub(super) fn could_accept(&self) -> bool {
        self.queues.iter().any(|queue| !queue.closed && !queue.waiting.is_empty())
            && self.descriptors.iter().any(Option::is_none)
    }

    pub(super) fn descriptors_open(&self) -> usize {
        self.descriptors.iter().flatten().count()
    }

    /// How many were open when a listener was closed with somebody in its queue, if one was.
    pub(super) fn take_left_queued(&mut self) -> Option<usize> {
        self.left_queued.take()
    }

    pub(super) fn take_closed(&mut self) -> Vec<Closed> {
        std::mem::take(&mut self.closed_lately)
    }

    fn wake(&mut self) {
        self.list(Source::Waker);
    }
}

impl Sockets for Sim {
    type Socket = Socket;
    type Listener = Listener;

    fn now(&self) -> Duration {
        Duration::from_micros(self.world().now)
    }

    fn wait(&self, events: &mut Events, _until: Option<Duration>) -> Result<(), Errno> {
        let world = &mut *self.world_mut();
        events.clear();
        if world.happens(world.odds.interrupted) {
            world.note(Outcome::WaitInterrupted);
            return Err(Errno::EINTR);
        }
        world.harvest(events);
        world.mislead(events);
        if world.over {
            events.push(Token::Waker, EpollFlags::EPOLLIN);
        }
        if world.trace {
            let all: Vec<_> = (0..events.len()).map(|index| events.at(index)).collect();
            println!("{:>10} us: {all:?}", world.now);
        }
        Ok(())
    }

    fn watch_listener(&self, listener: &Listener, token: Token, on: EpollFlags) -> Result<(), Errno> {
        self.world_mut().set_watch(Source::Listener(listener.0), token, on);
        Ok(())
    }

    fn accept(&self, listener: &Listener) -> Result<Socket, Errno> {
        self.world_mut().accept(listener.0)
    }

    fn watch(&self, socket: &Socket, token: Token, on: EpollFlags) -> Result<(), Errno> {
        let mut world = self.world_mut();
        let Some(serial) = world.connection(socket, "watch") else { return Err(Errno::EBADF) };
        let odds = world.odds.watch;
        if world.happens(odds) {
            world.note(Outcome::WatchOutOfMemory);
            return Err(Errno::ENOMEM);
        }
        world.set_watch(Source::Connection(serial), token, on);
        Ok(())
    }

    fn receive(&self, socket: &Socket, into: &mut [u8]) -> Result<usize, Errno> {
        let mut world = self.world_mut();
        let Some(serial) = world.connection(socket, "receive") else { return Err(Errno::EBADF) };
        assert!(!into.is_empty(), "a receive of nothing would look like the end");
        world.receive(serial, into)
    }

    fn send(&self, socket: &Socket, bytes: &[u8]) -> Result<usize, Errno> {
        let mut world = self.world_mut();
        let Some(serial) = world.connection(socket, "send") else { return Err(Errno::EBADF) };
        assert!(!bytes.is_empty(), "a send of nothing");
        world.send(serial, bytes)
    }

    fn watch_again(&self, socket: &Socket, token: Token, on: EpollFlags) -> Result<(), Errno> {
        let mut world = self.world_mut();
        let Some(serial) = world.connection(socket, "watch again") else { return Err(Errno::EBADF) };
        world.set_watch(Source::Connection(serial), token, on);
        Ok(())
    }

    fn watch_listener_again(&self, listener: &Listener, token: Token, on: EpollFlags) -> Result<(), Errno> {
        let mut world = self.world_mut();
        let odds = world.odds.watch;
        if world.happens(odds) {
            world.note(Outcome::WatchOutOfMemory);
            return Err(Errno::ENOMEM);
        }
        world.set_watch(Source::Listener(listener.0), token, on);
        Ok(())
    }

    fn arrived(&self, socket: &Socket) -> u32 {
        let mut world = self.world_mut();
        let Some(serial) = world.connection(socket, "arrived") else { return 0 };
        let one = &mut world.connections[serial];
        one.promised.get_or_insert(one.arrived);
        let unread = one.unread() as u32;
        // It counts bytes of the sequence: an urgent one is skipped by a receive.
        if unread > 0 && world.odds.meanwhile > 0 && world.random.bool() {
            world.note(Outcome::ArrivedCountsTooMany);
            return unread + 1;
        }
        unread
    }

    fn shutdown_write(&self, socket: &Socket) -> Result<(), Errno> {
        let mut world = self.world_mut();
        let Some(serial) = world.connection(socket, "shutdown") else { return Err(Errno::EBADF) };
        world.shutdown(serial)
    }

    fn close(&self, socket: Socket) {
        self.world_mut().close(&socket);
    }

    fn close_listener(&self, listener: Listener) {
        let world = &mut *self.world_mut();
        let queue = &mut world.queues[listener.0];
        if std::mem::replace(&mut queue.closed, true) {
            world.violate(format!("listener {} is closed twice", listener.0));
            return;
        }
        queue.watch = None;
        let waiting = std::mem::take(&mut queue.waiting);
        if !waiting.is_empty() {
            let open = world.descriptors_open();
            world.left_queued.get_or_insert(open);
        }
        for serial in waiting {
            world.connections[serial].done = true;
            world.connections[serial].closed = true;
        }
    }

    fn wake_others(&self) {}

    fn wake_for_good(&self) {
        self.world_mut().over = true;
    }
}
