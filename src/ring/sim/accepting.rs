//! Accepts: what becomes of those that are out, of who is queued, and of the queue of a listener that closes.

use super::super::Name;
use super::kernel::{InFlight, Kernel};
use super::network::Ending;
use super::odds::happens;
use super::operations::failure;
use super::outcome::Outcome;
use nix::errno::Errno;

impl Kernel {
    pub(super) fn out_of_descriptors(&self) -> bool {
        !self.setup.direct && self.network.descriptors.is_full()
    }

    pub(super) fn accept_without_descriptor(&mut self, id: u64, listener: usize) {
        self.accepts_in_vain += 1;
        let idle = self.network.listeners[listener].queue.is_empty();
        self.coverage.note(if idle {
            Outcome::AcceptDescriptorsIdle
        } else {
            Outcome::AcceptDescriptorsQueued
        });
        self.post(id, failure(Errno::EMFILE), false, None);
    }

    pub(super) fn run_accept(&mut self, op: &InFlight, listener: usize) {
        let late = op.doomed && happens(&mut self.random, self.odds.cancel_late);
        let queued = self.network.listeners[listener].queue.front().copied();
        let Some(number) = queued.filter(|_| !op.doomed || late) else {
            if op.doomed {
                self.coverage.note(Outcome::AcceptCancelled);
                self.post(op.id, failure(Errno::ECANCELED), false, None);
            }
            return;
        };
        if self.out_of_descriptors() {
            return self.accept_without_descriptor(op.id, listener);
        }
        self.network.listeners[listener].queue.pop_front();
        if happens(&mut self.random, self.odds.accept_error) {
            return self.fail_accept(op.id, number);
        }
        let Some(name) = self.name(number, self.setup.direct) else {
            self.coverage.note(Outcome::AcceptTableDrops);
            self.drop_queued(number);
            self.post(op.id, failure(Errno::ENFILE), false, None);
            return;
        };
        let result = match name {
            Name::Descriptor(descriptor) => descriptor,
            Name::Slot(slot) => slot as i32,
        };
        let ends = happens(&mut self.random, self.odds.ends);
        self.note_accepted(op, number, late, ends);
        let more = self.setup.accept_multishot && !op.doomed && !ends;
        if self.post(op.id, result, more, None) && self.out_of_descriptors() {
            self.accept_without_descriptor(op.id, listener);
        }
    }

    fn note_accepted(&mut self, op: &InFlight, number: usize, late: bool, ends: bool) {
        let connection = &mut self.network.connections[number];
        connection.active_at = self.now;
        if connection.broken.is_some() {
            self.coverage.note(Outcome::AcceptResetPeer);
        } else if connection.unread() > 0 {
            self.coverage.note(Outcome::AcceptDataWaiting);
        }
        self.coverage.note(match () {
            () if late && op.doomed => Outcome::AcceptCancelledSocket,
            () if !self.setup.accept_multishot => Outcome::AcceptOnce,
            () if ends => Outcome::AcceptEnds,
            () if self.queue_is_full() => Outcome::AcceptQueueFull,
            () => Outcome::AcceptMore,
        });
    }

    fn fail_accept(&mut self, id: u64, number: usize) {
        let (outcome, errno) = match self.random.u8(0..3) {
            0 => (Outcome::AcceptAborted, Errno::ECONNABORTED),
            1 => (Outcome::AcceptProtocol, Errno::EPROTO),
            _ => (Outcome::AcceptMemory, Errno::ENOMEM),
        };
        self.coverage.note(outcome);
        self.drop_queued(number);
        self.post(id, failure(errno), false, None);
    }

    /// A connection that was never accepted is gone.
    fn drop_queued(&mut self, number: usize) {
        let connection = &mut self.network.connections[number];
        connection.broken = Some(Errno::ECONNRESET);
        connection.ending = Ending::Closed;
        self.facts.dropped += 1;
        self.peers.on_closed(number, &self.network);
    }

    /// Takes a queued connection outside of the ring.
    pub(super) fn accept_queued(&mut self, listener: usize) -> Result<Name, Errno> {
        self.call();
        if self.accept_is_out(listener) {
            self.violation("a queued connection was taken beside an armed accept");
        }
        if self.network.descriptors.is_full() {
            self.network.listeners[listener].starved = true;
            return Err(Errno::EMFILE);
        }
        let Some(number) = self.network.listeners[listener].queue.pop_front() else {
            return Err(Errno::EAGAIN);
        };
        if happens(&mut self.random, self.odds.accept_error) {
            self.drop_queued(number);
            return Err(Errno::ECONNABORTED);
        }
        self.network.connections[number].active_at = self.now;
        self.facts.accepted += 1;
        Ok(self.name(number, false).expect("a number was seen to be free"))
    }

    pub(super) fn close_listener(&mut self, listener: usize) {
        self.call();
        if self.accept_is_out(listener) {
            self.violation("a listener was closed beside an armed accept");
        }
        let left = std::mem::take(&mut self.network.listeners[listener].queue);
        if !left.is_empty() && !self.network.listeners[listener].starved && !self.cut {
            self.violation(format!("{} queued connections were reset", left.len()));
        }
        self.network.listeners[listener].closed = true;
        left.into_iter().for_each(|number| self.drop_queued(number));
    }
}
