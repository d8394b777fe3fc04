//! How connections are made: in the ramp as many at once as the server answers quickly, or at a given
//! rate; again, later, where it failed; at once where a slot churns. Part of the engine.

use super::super::plan::{Plan, Workload};
use super::super::sentences::sentence;
use super::super::trouble::{Cause, Phase};
use super::connection::{State, Then};
use super::stages::Stage;
use super::token::Kind;
use super::{Engine, Loop};
use crate::ring::{Completion, Dialing, Operation};
use nix::errno::Errno;
use std::net::IpAddr;
use std::sync::atomic::Ordering;

/// Connects under way at once, at first and at most.
const ALLOWED_FIRST: u32 = 16;
const ALLOWED_MAX: u32 = 4096;
/// A connect that takes no longer lets one more run beside it, nanoseconds.
const QUICK: u64 = 50_000_000;
/// One that takes longer halves how many run, nanoseconds. A SYN that the server dropped is sent again
/// after a second.
const SLOW: u64 = 200_000_000;
/// Attempts at one connection of the ramp.
const ATTEMPTS: u8 = 5;
/// The pause after a first failure, doubled at each further one, nanoseconds.
const PAUSE: u64 = 10_000_000;
/// A churning slot that found nobody tries again at least this often: every `PAUSE << PAUSE_DOUBLED_MAX`.
const PAUSE_DOUBLED_MAX: u8 = 4;

/// No slot has this number.
const NOBODY: u32 = u32::MAX;

/// Who connects when.
#[derive(Debug)]
pub(super) struct Dialer {
    /// The first slot whose first attempt is still to come, and how many there are.
    next_slot: u32,
    slots: u32,
    /// Connects under way.
    connecting: u32,
    /// How many may be, where no rate is given.
    allowed: u32,
    /// When `allowed` was last halved: connects that began before say nothing new.
    halved_at: u64,
    /// Nanoseconds from one first attempt to the next, where a rate is given, and when the next one is.
    gap: Option<u64>,
    next_at: u64,
    /// How long a connect may take.
    timeout: u64,
    /// The slots that connect, a list from the first that began to the last; each knows its neighbours.
    first: u32,
    last: u32,
    /// Slots that stand or were given up.
    pub(super) settled: u32,
}

impl Dialer {
    pub(super) fn new(plan: &Plan, slots: u32) -> Self {
        let gap = plan.connect_rate.map(|rate| (1e9 * plan.threads as f64 / rate) as u64);
        // A slot that churns connects under load, in its own time.
        let first = if plan.workload == Workload::Churn { slots } else { 0 };
        Self {
            next_slot: first,
            slots,
            connecting: 0,
            allowed: ALLOWED_FIRST,
            halved_at: 0,
            gap,
            next_at: 0,
            timeout: plan.connect_timeout.as_nanos() as u64,
            first: NOBODY,
            last: NOBODY,
            settled: first,
        }
    }

    /// Whether every slot has had its turn.
    pub(super) const fn done(&self) -> bool {
        self.settled == self.slots
    }

    /// Gives up what has not begun.
    pub(super) const fn stop(&mut self) {
        self.next_slot = self.slots;
    }

    const fn has_room(&self) -> bool {
        self.next_slot < self.slots
            && self.connecting < if self.gap.is_some() { u32::MAX } else { self.allowed }
    }

    /// Learns from a connect that began at `began` and succeeded.
    fn learn(&mut self, began: u64, now: u64) {
        match now - began {
            ..QUICK => self.allowed = (self.allowed + 1).min(ALLOWED_MAX),
            SLOW.. => self.halve(began, now),
            _ => {}
        }
    }

    fn halve(&mut self, began: u64, now: u64) {
        if began >= self.halved_at {
            self.allowed = (self.allowed / 2).max(1);
            self.halved_at = now;
        }
    }
}

impl<R: Dialing> Engine<'_, R> {
    /// Whether another slot may have its turn at once.
    pub(super) fn can_dial(&self) -> bool {
        self.dialer.has_room() && (self.dialer.gap.is_none() || self.dialer.next_at <= self.now)
    }

    /// When something has to be done here even if nothing happens.
    pub(super) fn next_to_dial(&self) -> u64 {
        let dialer = &self.dialer;
        let paced = if dialer.gap.is_some() && dialer.has_room() { dialer.next_at } else { u64::MAX };
        paced.min(self.deadline())
    }

    /// When the connect that began first runs out of time.
    fn deadline(&self) -> u64 {
        let first = self.connections.get(self.dialer.first as usize);
        first.map_or(u64::MAX, |first| first.began.saturating_add(self.dialer.timeout))
    }

    /// Lets slots have their first turn, and ends connects that take too long.
    pub(super) fn dial(&mut self) {
        while self.deadline() <= self.now {
            self.on_connect_timeout(self.dialer.first);
        }
        while self.can_dial() && !self.has_failed() {
            let slot = self.dialer.next_slot;
            self.dialer.next_slot += 1;
            if let Some(gap) = self.dialer.gap {
                // Behind by more than a moment: what was missed is not made up for in a burst.
                self.dialer.next_at = (self.dialer.next_at + gap).max(self.now.saturating_sub(QUICK));
            }
            self.connect(slot);
        }
    }

    /// The slot connects from now on: it is the last in the list.
    fn enlist(&mut self, slot: u32) {
        let before = std::mem::replace(&mut self.dialer.last, slot);
        self.connections[slot as usize].before = before;
        match self.connections.get_mut(before as usize) {
            Some(before) => before.behind = slot,
            None => self.dialer.first = slot,
        }
    }

    /// The slot connects no more, whatever came of it.
    pub(super) fn delist(&mut self, slot: u32) {
        let connection = &mut self.connections[slot as usize];
        let before = std::mem::replace(&mut connection.before, NOBODY);
        let behind = std::mem::replace(&mut connection.behind, NOBODY);
        match self.connections.get_mut(before as usize) {
            Some(before) => before.behind = behind,
            None => self.dialer.first = behind,
        }
        match self.connections.get_mut(behind as usize) {
            Some(behind) => behind.before = before,
            None => self.dialer.last = before,
        }
    }

    /// Makes a socket for the slot and connects it.
    pub(super) fn connect(&mut self, slot: u32) {
        if self.churns && !self.may_live(slot) {
            return;
        }
        let source = self.source(slot);
        match self.ring.open(0, source) {
            Ok(socket) => {
                let began = self.stamp();
                let connection = &mut self.connections[slot as usize];
                connection.socket = Some(socket);
                connection.state = State::Connecting;
                connection.began = began;
                let (due, first) = (connection.due, connection.failed == 0);
                self.dialer.connecting += 1;
                // What an attempt that failed has cost is not the client's own delay.
                if self.churns && first && matches!(self.order, Loop::Open(_)) {
                    self.record_lag(slot, due, began);
                }
                self.enlist(slot);
                self.push(Operation::Connect { socket, target: 0 }, Kind::Connect, slot);
            }
            Err(error) => {
                let errno = Errno::from_raw(error.raw_os_error().unwrap_or(0));
                self.on_connect_failed(slot, Phase::Open, Cause::of(errno));
                self.try_again(slot);
            }
        }
    }

    /// Whether a churning slot may begin another life now; where its time is still to come, it is called
    /// then.
    fn may_live(&mut self, slot: u32) -> bool {
        if !self.may_begin() {
            return false;
        }
        let connection = &self.connections[slot as usize];
        let (permitted, due) = (connection.permitted, connection.due);
        let open = matches!(self.order, Loop::Open(_));
        if open && !permitted && due >= self.account.window().1 {
            return false; // The window is over before.
        }
        if open && !permitted && due > self.now {
            self.schedule(slot, due);
            return false;
        }
        let time = if open { due } else { self.now };
        if !permitted && !self.permit(slot, time) {
            return false;
        }
        self.connections[slot as usize].permitted = true;
        true
    }

    /// The address to connect from: the sources in turn, another one at each attempt.
    fn source(&self, slot: u32) -> Option<IpAddr> {
        let sources = &self.share.plan.sources;
        if sources.is_empty() {
            return None;
        }
        let connection = &self.connections[slot as usize];
        let turn = connection.number as usize + usize::from(connection.failed);
        Some(sources[turn % sources.len()])
    }

    pub(super) fn on_connected(&mut self, slot: u32, done: Completion) {
        self.dialer.connecting -= 1;
        let connection = &mut self.connections[slot as usize];
        if connection.state != State::Connecting {
            return self.advance(slot); // It is ending: its time had run out, or the run's.
        }
        match done.outcome() {
            Ok(_) => self.on_standing(slot),
            Err(error) => {
                self.on_connect_failed(slot, Phase::Connect, Cause::of(error));
                self.end(slot, Then::TryAgain);
            }
        }
    }

    fn on_standing(&mut self, slot: u32) {
        // It may have begun in this very turn, as late as the last stamp.
        let now = self.sending_at;
        self.delist(slot);
        let connection = &mut self.connections[slot as usize];
        let began = connection.began;
        connection.state = State::Standing;
        let latency = self.share.plan.latency;
        if self.churns {
            let counts = connection.counts();
            if let Some(interval) = self.account.samples(began, counts).filter(|_| latency) {
                interval.connect.record(now - began);
            }
        } else {
            connection.failed = 0;
            if latency {
                self.account.now().connect.record(now - began);
            }
            self.dialer.learn(began, now);
            self.settle();
        }
        self.open += 1;
        self.share.control.connected.fetch_add(1, Ordering::Relaxed);
        self.share.control.stood.store(true, Ordering::Relaxed);
        self.arm_receive(slot);
        if self.stage == Stage::Loading && !self.churns {
            self.set_due_first(slot);
        }
        self.advance(slot);
    }

    /// One slot more has come to its end of the ramp.
    const fn settle(&mut self) {
        self.dialer.settled += 1;
    }

    fn on_connect_timeout(&mut self, slot: u32) {
        let began = self.connections[slot as usize].began;
        self.dialer.halve(began, self.now);
        self.on_connect_failed(slot, Phase::Connect, Cause::TimedOut);
        self.end(slot, Then::TryAgain);
    }

    fn on_connect_failed(&mut self, slot: u32, phase: Phase, cause: Cause) {
        self.account.now().troubles.count(phase, cause);
        let connection = &mut self.connections[slot as usize];
        connection.failed = connection.failed.saturating_add(1);
        let stood = self.share.control.stood.load(Ordering::Relaxed);
        let hopeless = !stood && is_hopeless(phase, cause);
        if hopeless || (self.churns && stood && self.is_deserted()) {
            self.fail(phase, cause);
        }
    }

    /// Whether nothing has come to a good end for so long that the server must be gone.
    fn is_deserted(&self) -> bool {
        let since = self.succeeded_at.max(self.load_began);
        self.now.saturating_sub(since) > self.share.plan.grace.as_nanos() as u64
    }

    /// The run cannot go on.
    fn fail(&mut self, phase: Phase, cause: Cause) {
        let plan = self.share.plan;
        self.ended.failure.get_or_insert_with(|| sentence(phase, cause, plan).to_string());
    }

    /// What becomes of a slot without a socket whose attempt has failed.
    pub(super) fn try_again(&mut self, slot: u32) {
        let connection = &mut self.connections[slot as usize];
        let number = connection.number;
        connection.renew(number);
        if !self.churns && connection.failed >= ATTEMPTS {
            connection.state = State::Gone;
            self.share.control.given_up.fetch_add(1, Ordering::Relaxed);
            return self.settle();
        }
        let doubled = connection.failed.saturating_sub(1).min(PAUSE_DOUBLED_MAX);
        self.schedule(slot, self.now + (PAUSE << doubled));
    }
}

/// Whether the first attempt of a run tells all: nobody listens, or there is no way.
const fn is_hopeless(phase: Phase, cause: Cause) -> bool {
    let Cause::Errno(errno) = cause else { return false };
    match phase {
        Phase::Connect => matches!(
            errno,
            libc::ECONNREFUSED | libc::ENETUNREACH | libc::EHOSTUNREACH | libc::EACCES | libc::EPERM
        ),
        Phase::Open => matches!(errno, libc::EADDRNOTAVAIL | libc::EAFNOSUPPORT | libc::EINVAL),
        _ => false,
    }
}
