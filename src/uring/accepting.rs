//! How connections come in: accept is armed on every listener while there is room, cancelled when
//! there is none, and armed again when a permit or a descriptor is free. Part of the event loop.

use super::ending::Stopping;
use super::event_loop::{Connection, EventLoop, Own};
use super::token::{self, Kind};
use crate::conn::machine::Refusal;
use crate::conn::{ConnId, Tick};
use crate::ring::{Completion, Operation, Ring, Socket};
use nix::errno::Errno;

/// A shortage that nobody may ever tell us the end of is looked at again after this long,
/// milliseconds: an accept on a process without free descriptors fails at once, and would spin.
const RETRY: Tick = 1000;
/// Errors in a row after which a listener is left alone until the retry.
const FAILURES_MAX: u32 = 16;
/// Connections taken from one listener at the stop, at most: more than any backlog holds.
const QUEUED_MAX: u32 = 1 << 17;

/// What the kernel has been asked of a listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Listener {
    /// Nothing.
    Idle,
    /// An accept is armed.
    Armed,
    /// An accept is armed and its cancel is under way.
    Cancelling,
    /// It is closed: the server stops.
    Closed,
}

/// The state of accepting over all listeners of a worker.
#[derive(Debug)]
pub(super) struct Accepting {
    pub(super) listeners: Vec<Listener>,
    /// True while nothing is accepted for want of a permit, a descriptor or memory.
    pub(super) paused: bool,
    /// When to try again although nobody said that there is room.
    retry_at: Option<Tick>,
    /// True when a permit or a descriptor may have come free since the last turn.
    pub(super) room_heard_of: bool,
    failures: u32,
}

impl Accepting {
    pub(super) fn new(listeners: usize) -> Self {
        Self {
            listeners: vec![Listener::Idle; listeners],
            paused: false,
            retry_at: None,
            room_heard_of: false,
            failures: 0,
        }
    }

    pub(super) const fn retry_at(&self) -> Option<Tick> {
        self.retry_at
    }

    pub(super) const fn retry_at_never(&mut self) {
        self.retry_at = None;
    }

    pub(super) fn all_closed(&self) -> bool {
        self.listeners.iter().all(|&listener| listener == Listener::Closed)
    }
}

impl<R: Ring> EventLoop<'_, R> {
    pub(super) fn arm_accepts(&mut self) {
        if self.accepting.paused || self.stopping != Stopping::No {
            return;
        }
        for index in 0..self.accepting.listeners.len() {
            if self.accepting.listeners[index] == Listener::Idle {
                self.accepting.listeners[index] = Listener::Armed;
                self.in_flight_other += 1;
                self.count(Own::AcceptsRearmed, 1);
                let token = token::of_listener(Kind::Accept, index);
                self.ring.push(Operation::Accept { listener: index }, token);
            }
        }
    }

    pub(super) fn on_accepted(&mut self, index: usize, done: Completion) {
        if !done.more {
            self.accepting.listeners[index] = Listener::Idle;
            self.in_flight_other -= 1;
        }
        match done.outcome() {
            // Whatever the state, a socket that was accepted is ours to serve or to close.
            Ok(result) => {
                self.accepting.failures = 0;
                let socket = self.ring.accepted(result);
                self.admit(socket);
            }
            Err(Errno::ECANCELED | Errno::EINTR | Errno::EAGAIN) => {}
            Err(error) => self.on_accept_failed(error),
        }
        if !done.more {
            match self.stopping {
                Stopping::No => self.arm_accepts(),
                _ => self.close_out(index),
            }
        }
    }

    fn on_accept_failed(&mut self, error: Errno) {
        self.worker.counters.accept_errors.add(1);
        match error {
            // With direct descriptors the kernel takes the peer first and drops it when the table
            // is full; ordinary descriptors are reserved first, and the peer stays in the backlog.
            Errno::ENFILE => {
                self.refused(Refusal::Descriptors);
                self.pause(true);
            }
            Errno::EMFILE => self.pause(true),
            Errno::ENOMEM | Errno::ENOBUFS => {
                self.refused(Refusal::Memory);
                self.pause(true);
            }
            _ => {
                self.refused(Refusal::Aborted);
                self.accepting.failures += 1;
                if self.accepting.failures >= FAILURES_MAX {
                    self.accepting.failures = 0;
                    self.pause(true);
                }
            }
        }
    }

    /// Serves `socket`, or closes it at once when every permit is taken.
    pub(super) fn admit(&mut self, socket: Socket) {
        let cutting = matches!(self.stopping, Stopping::Cutting { .. });
        if cutting || !self.worker.admission.try_enter() {
            let stopping = self.stopping != Stopping::No;
            self.refused(if stopping { Refusal::Stopping } else { Refusal::Full });
            self.in_flight_other += 1;
            let token = token::of_listener(Kind::CloseRefused, 0);
            self.ring.push(Operation::Close { socket }, token);
            return self.pause(false);
        }
        self.worker.counters.accepted.add(1);
        let inserted = self.connections.insert(Connection::new(socket, self.now));
        let id = inserted.expect("the table has room for every permit");
        let connection = self.connections.get(id).expect("just inserted");
        if let Some(deadline) = connection.machine.deadline(&self.limits) {
            self.deadlines.schedule(id.slot, deadline);
        }
        self.begin_drain(id);
        self.advance(id);
        if self.worker.admission.is_full() {
            self.pause(false);
        }
    }

    fn refused(&self, cause: Refusal) {
        self.worker.counters.refused.at(cause as usize).add(1);
    }

    /// Stops accepting until somebody leaves; on a `shortage` also until the retry.
    fn pause(&mut self, shortage: bool) {
        if self.stopping != Stopping::No {
            return;
        }
        if shortage {
            self.accepting.retry_at = Some(self.now + RETRY);
        }
        if self.accepting.paused {
            return;
        }
        self.accepting.paused = true;
        self.count(Own::AcceptPauses, 1);
        self.worker.admission.wait();
        // Who left before we said that we wait told nobody.
        self.accepting.room_heard_of |= !shortage && !self.worker.admission.is_full();
        self.cancel_accepts();
    }

    pub(super) fn cancel_accepts(&mut self) {
        for index in 0..self.accepting.listeners.len() {
            if self.accepting.listeners[index] == Listener::Armed {
                self.accepting.listeners[index] = Listener::Cancelling;
                self.in_flight_other += 1;
                let target = token::of_listener(Kind::Accept, index);
                self.ring.push(Operation::Cancel { target }, token::of_listener(Kind::CancelOther, index));
            }
        }
    }

    /// Accepts again when there may be room.
    pub(super) fn resume_accepting(&mut self) {
        let heard = std::mem::take(&mut self.accepting.room_heard_of);
        if !self.accepting.paused {
            return;
        }
        let retry = self.accepting.retry_at.is_some_and(|at| at <= self.now);
        if !heard && !retry {
            return;
        }
        self.accepting.retry_at = None;
        if self.worker.admission.is_full() {
            // Somebody else was faster. Wait for the next one to leave, and look once more.
            self.worker.admission.wait();
            if self.worker.admission.is_full() {
                return;
            }
        }
        self.accepting.paused = false;
        self.arm_accepts();
    }

    /// At the stop: takes what the listener still has queued, so that completed handshakes are not
    /// reset, and closes it. While there is no room and somebody may still leave, the queue waits: it
    /// is asked for again every turn.
    pub(super) fn close_out(&mut self, index: usize) {
        let draining = matches!(self.stopping, Stopping::Draining { .. });
        for _ in 0..QUEUED_MAX {
            let somebody_leaves = draining && !self.connections.is_empty();
            if somebody_leaves && self.worker.admission.is_full() {
                return;
            }
            match self.ring.accept_queued(index) {
                Ok(Some(socket)) => self.admit(socket),
                Ok(None) => break,
                Err(error) => {
                    self.worker.counters.accept_errors.add(1);
                    let shortage = [Errno::EMFILE, Errno::ENFILE, Errno::ENOMEM, Errno::ENOBUFS];
                    if shortage.iter().any(|errno| error.raw_os_error() == Some(*errno as i32)) {
                        if somebody_leaves {
                            return;
                        }
                        break;
                    }
                    self.refused(Refusal::Aborted);
                }
            }
        }
        self.ring.close_listener(index);
        self.accepting.listeners[index] = Listener::Closed;
    }

    pub(super) fn watch_wakeups(&mut self) {
        self.in_flight_other += 1;
        let token = token::of(Kind::Wakeups, ConnId { slot: 0, generation: 0 });
        self.ring.push(Operation::Wakeups, token);
    }

    /// Somebody woke us: the phase has changed, or there may be room for connections.
    pub(super) fn on_woken(&mut self, done: Completion) {
        self.accepting.room_heard_of = true;
        if !done.more {
            self.in_flight_other -= 1;
            if !self.finishing() {
                self.watch_wakeups();
            }
        }
    }
}
