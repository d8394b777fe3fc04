//! What the loop of a seed talks to: the fake kernel's ring, or with `recv=poll` the ring that only notifies,
//! over the same kernel, which goes on judging what the loop asks and hears.

use super::scenario::Scenario;
use crate::ring::calls::Calls;
use crate::ring::polled::PolledRing;
use crate::ring::sim::{Judged, Sim};
use crate::ring::{Completion, Entered, Listening, Memory, Operation, Ring, Socket, Span, Token};
use nix::errno::Errno;
use std::time::Duration;

/// Either of them.
pub(super) enum Front {
    Ring(Sim),
    Notifier(Box<Notifier<Sim>>),
}

/// The ring that only notifies, judged.
pub(super) type Notifier<R> = Judged<PolledRing<R>>;

/// One over `ring`, which is `sim` or stands before it.
pub(super) fn notifier<R: Calls>(scenario: &Scenario, ring: R, memory: Memory, sim: &Sim) -> Notifier<R> {
    let features = scenario.config().uring;
    Judged::new(PolledRing::new(ring, memory, &features, scenario.max_connections), sim.clone())
}

impl Front {
    pub(super) fn of(scenario: &Scenario, memory: Memory, sim: &Sim) -> Self {
        if scenario.polled {
            return Self::Notifier(Box::new(notifier(scenario, sim.clone(), memory, sim)));
        }
        Self::Ring(sim.clone())
    }

    /// The buffer that a byte of the memory lies in, where the kernel picks buffers.
    pub(super) fn buffer_at(&self, offset: u64) -> Option<u16> {
        match self {
            Self::Ring(sim) => sim.buffer_at(offset),
            Self::Notifier(_) => None,
        }
    }
}

/// Asks whichever it is.
macro_rules! either {
    ($front:expr, $ring:ident => $what:expr) => {
        match $front {
            Front::Ring($ring) => $what,
            Front::Notifier($ring) => $what,
        }
    };
}

impl Ring for Front {
    fn push(&mut self, operation: Operation, token: Token) {
        either!(self, ring => ring.push(operation, token));
    }

    fn enter(&mut self, wait_for: u32, until: Option<Duration>) -> Entered {
        either!(self, ring => ring.enter(wait_for, until))
    }

    fn next_completion(&mut self) -> Option<Completion> {
        either!(self, ring => ring.next_completion())
    }

    fn provide(&mut self, buffer: u16) {
        either!(self, ring => ring.provide(buffer));
    }

    fn publish(&mut self) {
        either!(self, ring => ring.publish());
    }

    fn now(&mut self) -> Duration {
        either!(self, ring => ring.now())
    }

    fn obeys_limit(&self) -> bool {
        either!(self, ring => ring.obeys_limit())
    }

    fn skips_sent(&self) -> bool {
        either!(self, ring => ring.skips_sent())
    }

    fn keeps_sent(&self) -> bool {
        either!(self, ring => ring.keeps_sent())
    }

    fn lends(&self) -> usize {
        either!(self, ring => ring.lends())
    }

    fn lend(&mut self, group: u32, span: Span) {
        either!(self, ring => ring.lend(group, span));
    }

    fn take_back(&mut self, group: u32) {
        either!(self, ring => ring.take_back(group));
    }

    fn pushed(&self) -> u64 {
        either!(self, ring => ring.pushed())
    }

    fn answered(&mut self) -> u64 {
        either!(self, ring => ring.answered())
    }

    fn overflows(&self) -> u64 {
        either!(self, ring => ring.overflows())
    }

    fn enters(&self) -> u64 {
        either!(self, ring => ring.enters())
    }
}

impl Listening for Front {
    fn accepted(&self, result: u32) -> Socket {
        either!(self, ring => ring.accepted(result))
    }

    fn accept_queued(&mut self, listener: usize) -> Result<Socket, Errno> {
        either!(self, ring => ring.accept_queued(listener))
    }

    fn close_listener(&mut self, listener: usize) {
        either!(self, ring => ring.close_listener(listener));
    }

    fn arrived(&mut self, socket: Socket) -> Option<u32> {
        either!(self, ring => ring.arrived(socket))
    }

    fn counts_arrived(&self) -> bool {
        either!(self, ring => ring.counts_arrived())
    }

    fn wake_others(&mut self) {
        either!(self, ring => ring.wake_others());
    }
}
