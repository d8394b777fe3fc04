//! How a connection ends, and how the worker ends. Part of the event loop.
//!
//! One rule carries both: what a call has done is done. A connection's socket and slot are free in the
//! moment it is closed; what is still in the batch for it has an old generation.

use super::event_loop::EventLoop;
use super::sockets::Sockets;
use crate::conn::accepting::Answer;
use crate::conn::machine::Refusal;
use crate::conn::{CloseReason, ConnId};
use crate::stop::Phase;
use crate::worker::Ending;
use std::time::Duration;

/// Connections visited, or taken from a queue, per turn when the server stops, so that new events are not kept waiting.
pub(super) const VISITS: u32 = 256;

/// The stop, once it has begun.
pub(super) struct Stopping {
    /// The next slot to visit.
    pub(super) next: u32,
    /// When what is left is cut.
    pub(super) deadline: Duration,
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
        let begin = || Stopping { next: 0, deadline: now + drain_timeout };
        let deadline = self.stopping.get_or_insert_with(begin).deadline;
        self.accepting.stop();
        let visited = self.visit_some();
        for index in (0..self.listeners.len()).rev() {
            if self.empty_queue(index, visited) {
                let listening = self.listeners.swap_remove(index);
                self.tools.call().close_listener(listening.listener);
            }
        }
        if visited && self.connections.is_empty() && self.listeners.is_empty() {
            return Some(Ending::Drained);
        }
        (now >= deadline).then(|| self.cut())
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

    /// Takes who is queued, so that no finished handshake is reset. True when the listener may be
    /// closed: nobody is queued any more, or, when `visited`, nothing that they lack will come free.
    fn empty_queue(&mut self, index: usize, visited: bool) -> bool {
        for _ in 0..VISITS {
            if self.listeners[index].queued == 0 {
                return true;
            }
            let permit = self.admission.try_enter();
            if !permit && !visited {
                return false;
            }
            self.listeners[index].queued -= 1;
            match self.accept(index) {
                Ok(socket) if permit => {
                    if let Some(id) = self.admit(socket) {
                        self.visit(id);
                    }
                }
                Ok(socket) => {
                    self.tools.call().close(socket);
                    self.tools.counters.refused.at(Refusal::Stopping as usize).add(1);
                }
                Err(answer) => {
                    if permit {
                        self.leave();
                    }
                    match answer {
                        Answer::Nobody => return true,
                        Answer::Next(_) => {}
                        Answer::Starved(_) => return visited,
                    }
                }
            }
        }
        false
    }

    /// Closes everything at once.
    fn cut(&mut self) -> Ending {
        for slot in 0..self.connections.high_water() {
            if let Some(id) = self.connections.id_at(slot) {
                self.close(id, CloseReason::Cut);
            }
        }
        for listening in std::mem::take(&mut self.listeners) {
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

    /// Gives a permit back, and says so to those who wait for one.
    pub(super) fn leave(&self) {
        if self.admission.leave() {
            self.tools.call().wake_others();
        }
    }
}
