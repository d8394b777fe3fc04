//! How a connection ends, and how the worker ends. Part of the event loop.
//!
//! One rule carries both: what a call has done is done. A connection's socket and slot are free in the
//! moment it is closed; what is still in the batch for it has an old generation.

use super::connection::Tools;
use super::event_loop::EventLoop;
use super::sockets::Sockets;
use crate::conn::accepting::Answer;
use crate::conn::machine::Refusal;
use crate::conn::{Admission, CloseReason, ConnId};
use crate::stop::Phase;
use crate::worker::{self, Ending};
use std::time::Duration;

/// Connections visited, or taken from a queue, per turn when the server stops, so that new events are not kept waiting.
pub(super) const VISITS: u32 = 256;

/// The stop, once it has begun.
pub(super) struct Stopping {
    /// The next slot to visit.
    pub(super) next: u32,
    /// When what is left is cut.
    pub(super) deadline: Duration,
    /// Every queue that is left waits for room, and nobody has left here since.
    pub(super) waits: bool,
}

/// What became of a listener's queue at the stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Queue {
    /// The listener may be closed: nobody is queued any more, or nothing that they lack will come free.
    Over,
    /// There is no room until somebody leaves.
    Waits,
    /// There may be more, and the others have their turn.
    More,
}

impl Queue {
    /// The kernel has no descriptor or no memory for another. Whoever is served will give some back.
    pub(super) fn starved(admission: &Admission) -> Self {
        if admission.open() > 0 { Self::Waits } else { Self::Over }
    }
}

impl<S: Sockets> EventLoop<'_, S> {
    /// Stops as far as it was told to. `Some` when it is over.
    pub(super) fn obey_stop(&mut self) -> Option<Ending> {
        match self.stop.phase() {
            Phase::Running => None,
            Phase::Cut => Some(self.cut()),
            Phase::Draining => self.drain(),
        }
    }

    /// One turn of the stop: visit some, take who is queued, look whether all are gone.
    fn drain(&mut self) -> Option<Ending> {
        let now = self.tools.sockets.now();
        let drain_timeout = self.drain_timeout;
        let begin = || Stopping { next: 0, deadline: now + drain_timeout, waits: false };
        let deadline = self.stopping.get_or_insert_with(begin).deadline;
        self.accepting.stop();
        let visited = self.visit_some();
        self.empty_queues();
        if visited && self.connections.is_empty() && self.listeners.is_empty() {
            return Some(Ending::Drained);
        }
        (now >= deadline).then(|| self.cut())
    }

    /// One look at each queue that is left.
    fn empty_queues(&mut self) {
        // Said first: whoever leaves while the other queues are looked at takes it back.
        self.say_whether_queues_wait(true);
        for index in (0..self.listeners.len()).rev() {
            match self.empty_queue(index) {
                Queue::Over => {
                    let listening = self.listeners.swap_remove(index);
                    self.tools.call().close_listener(listening.listener);
                }
                Queue::Waits => {}
                Queue::More => self.say_whether_queues_wait(false),
            }
        }
    }

    fn say_whether_queues_wait(&mut self, waits: bool) {
        if let Some(stopping) = &mut self.stopping {
            stopping.waits = waits;
        }
    }

    /// Tells the next connections of the stop; true when all know.
    fn visit_some(&mut self) -> bool {
        let Some(stopping) = &mut self.stopping else { return false };
        let first = stopping.next;
        stopping.next = self.connections.high_water().min(first + VISITS);
        let end = stopping.next;
        for slot in first..end {
            if let Some(id) = self.connections.id_at(slot) {
                self.visit(id);
            }
        }
        end == self.connections.high_water()
    }

    fn visit(&mut self, id: ConnId) {
        let Some(connection) = self.connections.get_mut(id) else { return };
        let served = connection.on_stop(&mut self.tools);
        self.settle(id, &served);
    }

    /// Takes who is queued, so that no finished handshake is reset. Without room the queue waits for whoever
    /// leaves, of whichever worker: who leaves elsewhere wakes us, and who leaves here says so in [`Stopping`].
    pub(super) fn empty_queue(&mut self, index: usize) -> Queue {
        // Before anything is looked at, so that nobody can leave in between unnoticed.
        self.admission.wait();
        for _ in 0..VISITS {
            if self.listeners[index].queued == 0 {
                return Queue::Over;
            }
            if self.admission.is_full() {
                return Queue::Waits;
            }
            // No permit is taken before somebody is there: to give it back would wake others in vain, and
            // they us.
            match self.accept(index) {
                Ok(socket) => self.take_in(socket),
                Err(Answer::Nobody) => return Queue::Over,
                Err(Answer::Next(_)) => {}
                Err(Answer::Starved(_)) => return Queue::starved(self.admission),
            }
            self.listeners[index].queued -= 1;
        }
        Queue::More
    }

    /// Serves one that was queued; or refuses it, when another worker has just taken the last permit.
    fn take_in(&mut self, socket: S::Socket) {
        if !self.admission.try_enter() {
            return self.tools.refuse_stopping(socket);
        }
        if let Some(id) = self.admit(socket) {
            self.visit(id);
        }
    }

    /// Closes everything at once.
    fn cut(&mut self) -> Ending {
        for slot in 0..self.connections.high_water() {
            if let Some(id) = self.connections.id_at(slot) {
                self.close(id, CloseReason::Cut);
            }
        }
        for listening in std::mem::take(&mut self.listeners) {
            self.tools.refuse_queued(&listening.listener, listening.queued);
            self.tools.call().close_listener(listening.listener);
        }
        Ending::Cut
    }

    /// Ends a connection, its socket and its place everywhere. The slot is free at once: what is still
    /// in the batch for it carries the old generation.
    pub(super) fn close(&mut self, id: ConnId, reason: CloseReason) {
        let connection = self.connections.remove(id).expect("a connection is closed once");
        self.ready.remove(id.slot);
        self.stuck.remove(id.slot);
        self.deadlines.remove(id.slot);
        self.spilled -= connection.unsent_len() as u64;
        let counters = self.tools.counters;
        counters.spilled.set(self.spilled);
        counters.closed.at(reason as usize).add(1);
        counters.open.subtract(1);
        let socket = connection.end(&mut self.tools.spares);
        self.tools.call().close(socket);
        self.leave();
    }

    /// Gives a permit back, and says so to those who wait for one. Only the others are woken: a queue of our
    /// own that waits is looked at again before the next sleep.
    pub(super) fn leave(&mut self) {
        self.say_whether_queues_wait(false);
        if self.admission.leave() {
            self.tools.call().wake_others();
        }
    }
}

impl<S: Sockets> Tools<'_, S> {
    /// Closes one that was queued at the stop and cannot be served.
    pub(super) fn refuse_stopping(&self, socket: S::Socket) {
        self.call().close(socket);
        self.counters.refused.at(Refusal::Stopping as usize).add(1);
    }

    /// Refuses who is still queued when everything is cut, by the account: no more than one turn takes, as
    /// everything is to end at once.
    pub(super) fn refuse_queued(&self, listener: &S::Listener, queued: u32) {
        for _ in 0..queued.min(VISITS) {
            match self.call().accept(listener).map_err(|error| worker::accept_failed(error, self.counters)) {
                Ok(socket) => self.refuse_stopping(socket),
                Err(Answer::Next(_)) => {}
                Err(Answer::Nobody | Answer::Starved(_)) => return,
            }
        }
    }
}
