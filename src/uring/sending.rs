//! How bytes go out: one send in flight for each connection, from the front of its queue, as much as
//! fits now; of several leases at once where the ring offers that and several wait. A connection whose peer takes less is stuck: its bytes leave the shared buffers for the
//! spill area, and are sent from there as room comes. Part of the event loop.

use super::buffers::Ownership;
use super::connection::{Kept, Watching};
use super::event_loop::{EventLoop, Own};
use super::token::{self, Kind};
use crate::conn::machine::CloseReason;
use crate::conn::{ConnId, Tick};
use crate::ring::{Completion, Listening, Operation};
use nix::errno::Errno;

/// A send whose success the kernel does not report: over without a word once the kernel is known to
/// have answered everything up to its number.
#[derive(Clone, Copy, Debug)]
pub(super) struct Silent {
    number: u64,
    id: ConnId,
}

/// How long the buffers of silent sends may wait to be given back when nothing else happens,
/// milliseconds. Long beside a batch under load, and nobody waits for it: while somebody lacks a
/// buffer, or a connection can go on only after its send, the loop does not block at all.
pub(super) const SILENCE_MAX: Tick = 2;

impl<R: Listening, K: Ownership> EventLoop<'_, R, K> {
    pub(super) fn send_next(&mut self, id: ConnId) {
        let connection = self.connections.get_mut(id).expect("the caller looked it up");
        if connection.sending || connection.full {
            return;
        }
        let Some(span) = self.buffers.front(&connection.queue) else { return };
        let lends = self.ring.lends() > 1 && !connection.copies && connection.queue.has_several();
        let offered = if lends { self.lend(id) } else { span.length };
        let connection = self.connections.get_mut(id).expect("just looked up");
        (connection.lends, connection.offered) = (lends, offered);
        connection.sending = true;
        connection.in_flight += 1;
        self.in_flight += 1;
        if self.ring.skips_sent() {
            connection.send_number = self.ring.pushed();
            self.silent.push_back(Silent { number: connection.send_number, id });
        }
        let socket = connection.socket;
        if connection.lends {
            let operation = Operation::SendLent { socket, group: id.slot };
            return self.ring.push(operation, token::of(Kind::Send, id));
        }
        let keeps = self.ring.keeps_sent() && connection.kept == Kept::Nothing && !connection.copies;
        if keeps && self.buffers.may_be_kept(&connection.queue) {
            connection.kept = Kept::Sending(self.buffers.keep(&connection.queue));
            return self.ring.push(Operation::SendKept { socket, span }, token::of(Kind::SendKept, id));
        }
        self.ring.push(Operation::Send { socket, span }, token::of(Kind::Send, id));
    }

    /// Lends what is queued to the ring, as many leases as one send may take; how many bytes that is.
    fn lend(&mut self, id: ConnId) -> u32 {
        let connection = self.connections.get(id).expect("the caller looked it up");
        let mut offered = 0;
        for span in self.buffers.spans(&connection.queue).take(self.ring.lends()) {
            offered += span.length;
            self.ring.lend(id.slot, span);
        }
        offered
    }

    /// Either how much the kernel took of a send that it may go on reading, or that it reads no more.
    pub(super) fn on_sent_kept(&mut self, id: ConnId, done: Completion) {
        let Some(connection) = self.connections.get_mut(id) else { return self.on_left_behind(id, done) };
        match connection.kept {
            Kept::Sending(buffer) if done.more => {
                connection.kept = Kept::Taken(buffer);
                // That it is done is still to be heard: `on_sent` counts a send as answered.
                connection.in_flight += 1;
                self.in_flight += 1;
            }
            Kept::Sending(buffer) => {
                connection.kept = Kept::Nothing;
                self.buffers.kept_no_more(buffer, &mut self.ring);
            }
            Kept::Taken(buffer) => {
                connection.kept = Kept::Nothing;
                connection.in_flight -= 1;
                self.in_flight -= 1;
                self.buffers.kept_no_more(buffer, &mut self.ring);
                return self.advance(id);
            }
            Kept::Nothing => return self.on_stale(done),
        }
        self.on_sent(id, done);
    }

    /// The kernel is done with a buffer of a connection that was closed before.
    fn on_left_behind(&mut self, id: ConnId, done: Completion) {
        let Some(index) = self.left_behind.iter().position(|(left, _)| *left == id) else {
            return self.on_stale(done);
        };
        let (_, buffer) = self.left_behind.swap_remove(index);
        self.in_flight -= 1;
        self.buffers.kept_no_more(buffer, &mut self.ring);
    }

    pub(super) fn on_sent(&mut self, id: ConnId, done: Completion) {
        let Some(connection) = self.connections.get_mut(id) else { return self.on_stale(done) };
        if connection.lends && done.more {
            return self.on_part_taken(id, done.result.max(0) as u32);
        }
        let was_kept = self.ring.keeps_sent() && !connection.copies;
        connection.in_flight -= 1;
        self.in_flight -= 1;
        connection.sending = false;
        let lent = std::mem::take(&mut connection.lends);
        if lent && done.outcome() != Ok(connection.offered) {
            self.ring.take_back(id.slot);
        }
        match done.outcome() {
            // It may have stopped between two leases though there was room: the next send finds out.
            Ok(bytes) if lent => drop(self.on_all_taken(id, bytes)),
            // Every byte of it had been taken before.
            Err(_) if lent && connection.offered == 0 => {}
            Ok(bytes) => self.on_taken(id, bytes),
            Err(Errno::EAGAIN) => self.on_blocked(id),
            Err(Errno::EINTR | Errno::ECANCELED) => {}
            // No memory may be locked for it, or none is left for several at once, or this socket cannot: what
            // is copied may go.
            Err(Errno::ENOMEM | Errno::ENOBUFS | Errno::EOPNOTSUPP) if was_kept || lent => {
                connection.copies = true;
            }
            Err(error) => connection.machine.close(CloseReason::of(error)),
        }
        self.advance(id);
    }

    /// The kernel took the first `bytes` of several leases, and goes on with the others.
    fn on_part_taken(&mut self, id: ConnId, bytes: u32) {
        self.on_bytes_taken(id, bytes);
        let connection = self.connections.get_mut(id).expect("the caller looked it up");
        connection.offered -= bytes;
        self.touch(id);
    }

    /// There may be room again in a socket that was full.
    pub(super) fn on_room_made(&mut self, id: ConnId, done: Completion) {
        let Some(connection) = self.connections.get_mut(id) else { return self.on_stale(done) };
        if !done.more {
            connection.room = Watching::Idle;
            connection.in_flight -= 1;
            self.in_flight -= 1;
        }
        // Whatever it says, the next send finds out, and watches again if it has to.
        connection.full = false;
        self.advance(id);
    }

    fn await_room(&mut self, id: ConnId) {
        let connection = self.connections.get_mut(id).expect("the caller looked it up");
        if connection.room != Watching::Idle {
            return; // It reports every time.
        }
        connection.room = Watching::Armed;
        connection.in_flight += 1;
        self.in_flight += 1;
        let operation = Operation::AwaitRoom { socket: connection.socket };
        self.ring.push(operation, token::of(Kind::Room, id));
    }

    /// Ends the sends that the kernel has answered by saying nothing.
    pub(super) fn settle_silent(&mut self) {
        let answered = self.ring.answered();
        while let Some(&Silent { number, id }) = self.silent.front()
            && number < answered
        {
            self.silent.pop_front();
            let Some(connection) = self.connections.get_mut(id) else { continue };
            // One that failed was heard of, and its connection may have sent again since.
            if connection.sending && connection.send_number == number {
                connection.in_flight -= 1;
                self.in_flight -= 1;
                connection.sending = false;
                connection.lends = false;
                let bytes = connection.offered;
                self.on_taken(id, bytes);
                self.touch(id);
            }
        }
    }

    /// The kernel took `bytes` of what it was offered, and there is no room for more where it is less.
    fn on_taken(&mut self, id: ConnId, bytes: u32) {
        if self.on_all_taken(id, bytes) {
            self.on_blocked(id);
        }
    }

    /// The send is over, and the kernel took `bytes` of what it was offered. Whether that was not all.
    fn on_all_taken(&mut self, id: ConnId, bytes: u32) -> bool {
        self.on_bytes_taken(id, bytes);
        let counters = self.worker.counters;
        counters.sends.add(1);
        let connection = self.connections.get(id).expect("the caller looked it up");
        let short = bytes < connection.offered;
        counters.short_sends.add(short.into());
        short
    }

    fn on_bytes_taken(&mut self, id: ConnId, bytes: u32) {
        let connection = self.connections.get_mut(id).expect("the caller looked it up");
        assert!(bytes <= connection.offered, "more was sent than was offered");
        self.worker.counters.bytes_sent.add(u64::from(bytes));
        let was_stuck = connection.machine.is_stuck();
        connection.machine.sent(bytes, self.now, &self.limits);
        self.buffers.advance(&mut connection.queue, bytes, &mut self.ring);
        if was_stuck && !connection.is_ending() {
            // It made progress: it is no longer among those who have been stuck longest.
            self.stuck.remove(id.slot);
            if connection.machine.is_stuck() {
                self.stuck.push_back(id.slot);
            } else {
                self.unspilled.remove(id.slot);
                // The idle timeout may be the shorter one; and without a write timeout it stood nowhere.
                self.schedule(id);
            }
        }
    }

    /// The kernel took less than it was offered. What is owed leaves the shared buffers at once, so
    /// that a peer that does not read takes nothing from those who do.
    fn on_blocked(&mut self, id: ConnId) {
        let connection = self.connections.get_mut(id).expect("the caller looked it up");
        if connection.is_ending() {
            return;
        }
        connection.full = true;
        if connection.machine.blocked(self.now) {
            self.stuck.push_back(id.slot);
            self.schedule(id);
        }
        self.spill(id);
        self.await_room(id);
    }

    /// Moves what a stuck connection holds in pool buffers to the spill area, or lets it wait for room.
    pub(super) fn spill(&mut self, id: ConnId) {
        let connection = self.connections.get_mut(id).expect("the caller looked it up");
        let before = self.buffers.spilled();
        let complete = self.buffers.spill(&mut connection.queue, &mut self.ring);
        self.count(Own::BytesSpilled, self.buffers.spilled() - before);
        if !complete && !self.unspilled.contains(id.slot) {
            self.unspilled.push_back(id.slot);
            self.count(Own::WaitsForSpill, 1);
        }
    }

    /// Gives room in the spill area to those who wait for it, in order; closes the longest stuck
    /// when there is none.
    pub(super) fn spill_the_waiting(&mut self) {
        while let Some(slot) = self.unspilled.front() {
            let id = self.connections.id_at(slot).expect("who waits for spill is in the table");
            let connection = self.connections.get_mut(id).expect("just looked up");
            if !connection.full {
                // It is sending again, perhaps from the very buffer: that is not to be moved.
                self.unspilled.remove(slot);
                continue;
            }
            if !self.buffers.spill(&mut connection.queue, &mut self.ring) {
                self.close_longest_stuck();
                // Its chunks come back when the kernel has answered its send.
                if self.unspilled.front() == Some(slot) {
                    break;
                }
            } else {
                self.unspilled.remove(slot);
                self.advance(id);
            }
        }
    }

    fn close_longest_stuck(&mut self) {
        if self.chunks_awaited > 0 {
            return; // One is ending already: its chunks are on their way back.
        }
        let Some(slot) = self.stuck.front() else { return };
        let id = self.connections.id_at(slot).expect("who is stuck is in the table");
        let connection = self.connections.get_mut(id).expect("just looked up");
        connection.machine.close(CloseReason::SpillFull);
        self.advance(id);
    }
}
