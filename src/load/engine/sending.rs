//! How messages go out: begun when their time has come and a place is free, sent as far as fits now, one
//! send in flight for each connection. Bytes are written into scratch that is used again after the enter
//! that submitted them; what the kernel did not take is written again. Part of the engine.

use super::super::payload::Stream;
use super::super::trouble::{Cause, Phase};
use super::connection::{Asked, Stamp, State};
use super::stages::Stage;
use super::token::Kind;
use super::{Engine, Loop, STAMPS};
use crate::ring::{Completion, Dialing, Operation};
use nix::errno::Errno;

/// A send whose success the kernel does not report: over without a word once the kernel is known to have
/// answered everything up to its number, which is told to 32 bits: so many are never in flight.
#[derive(Clone, Copy, Debug)]
pub(super) struct Silent {
    number: u32,
    slot: u32,
}

/// The most bytes of one send: what a loopback socket takes at once.
const SEND_MAX: u64 = 256 * 1024;
/// Places among the counted messages that a thread takes at once, at most.
const PERMITS: u64 = 64;

impl<R: Dialing> Engine<'_, R> {
    /// Begins what may be begun, sends what may be sent, closes what may be closed.
    pub(super) fn advance(&mut self, slot: u32) {
        match self.connections[slot as usize].state {
            State::Standing => {
                // Where a send has found it broken nothing more can be sent.
                if self.connections[slot as usize].broken == 0 && self.may_begin() {
                    self.begin_messages(slot);
                }
                self.send_next(slot);
            }
            State::Ending => self.close_if_quiet(slot),
            _ => {}
        }
    }

    fn begin_messages(&mut self, slot: u32) {
        if self.churns {
            // One message a life; that it may be sent was decided at the connect.
            let connection = &self.connections[slot as usize];
            if connection.asked == 0 {
                let intended = matches!(self.order, Loop::Open(_)).then_some(connection.due);
                self.begin(slot, intended);
            }
            return;
        }
        match self.order {
            Loop::Closed => {
                while self.has_place(slot) && self.permit(slot, self.now) {
                    self.begin(slot, None);
                }
            }
            Loop::Open(_) => self.begin_due(slot),
            Loop::Stream => {
                let connection = &self.connections[slot as usize];
                if connection.handed() == connection.asked_end && self.permit(slot, self.now) {
                    self.begin(slot, None);
                }
            }
        }
    }

    fn has_place(&self, slot: u32) -> bool {
        self.connections[slot as usize].outstanding() < u64::from(self.depth)
    }

    /// Begins what is due, and lets the connection's time come again for what is not.
    fn begin_due(&mut self, slot: u32) {
        loop {
            let connection = &self.connections[slot as usize];
            let due = connection.due;
            if due >= self.account.window().1 {
                return; // The window is over before.
            }
            if due > self.now {
                return self.schedule(slot, due);
            }
            if !self.has_place(slot) || !self.permit(slot, due) {
                return;
            }
            self.begin(slot, Some(due));
            self.set_due(slot);
        }
    }

    /// Sets when the connection's next message is due, after the one that is due now.
    pub(super) fn set_due(&mut self, slot: u32) {
        if let Loop::Open(pace) = &self.order {
            let connection = &mut self.connections[slot as usize];
            let index = self.share.connections.start + slot;
            let before = connection.due;
            connection.due = self.load_began.saturating_add(pace.next(index, before - self.load_began));
            let end = self.account.window().1;
            if self.stage == Stage::Grace && before < end && end <= connection.due {
                self.behind -= 1;
            }
        }
    }

    /// Sets when the connection's first message is due.
    pub(super) fn set_due_first(&mut self, slot: u32) {
        if let Loop::Open(pace) = &self.order {
            let connection = &mut self.connections[slot as usize];
            let index = self.share.connections.start + slot;
            connection.due = self.load_began.saturating_add(pace.first(index));
        }
    }

    /// Whether a message of this time may be sent. Where their number ends the run, the ones from the
    /// beginning of the window on each take a place among them.
    pub(super) fn permit(&mut self, slot: u32, time: u64) -> bool {
        let (begin, end) = self.account.window();
        if !self.counted || time < begin {
            return time < end;
        }
        if self.permits == 0 {
            self.permits = self.share.control.take_permits(PERMITS, self.share.plan.threads as u64);
        }
        if self.permits == 0 {
            return false;
        }
        self.permits -= 1;
        let connection = &mut self.connections[slot as usize];
        connection.first_counted = connection.first_counted.min(connection.asked);
        true
    }

    /// A message is on its way from now on. `intended` is when it should have been.
    fn begin(&mut self, slot: u32, intended: Option<u64>) {
        let sent = self.stamp();
        let connection = &self.connections[slot as usize];
        let size = self.size(connection.number, connection.asked);
        let connection = &mut self.connections[slot as usize];
        if connection.asked == connection.answered {
            connection.answer_end = connection.asked_end + size;
        }
        if self.depth > 0 {
            let place =
                slot as usize * self.depth as usize + (connection.asked % u64::from(self.depth)) as usize;
            self.stamps[place] = Stamp { intended: intended.unwrap_or(sent), sent };
        }
        connection.asked += 1;
        connection.asked_end += size;
        self.outstanding += 1;
        if self.stage == Stage::Grace {
            self.caught_up_at = self.now;
        }
        // What a connect takes is not the client's doing: a churning slot is late when that begins late.
        if let Some(intended) = intended.filter(|_| !self.churns) {
            self.record_lag(slot, intended, sent);
        }
    }

    /// How late something was begun although there was a place for it.
    pub(super) fn record_lag(&mut self, slot: u32, intended: u64, begun: u64) {
        if !self.share.plan.latency {
            return;
        }
        let connection = &self.connections[slot as usize];
        let free = intended.max(connection.free_since);
        if let Some(interval) = self.account.samples(intended, connection.counts()) {
            interval.lag.record(begun.saturating_sub(free));
        }
    }

    /// The time, at most a few messages old: a reading of the clock costs as much as a message's words.
    pub(super) fn stamp(&mut self) -> u64 {
        if self.stamps_left == 0 {
            self.sending_at = self.ring.now().as_nanos() as u64;
            self.stamps_left = STAMPS;
        }
        self.stamps_left -= 1;
        self.sending_at
    }

    pub(super) fn send_next(&mut self, slot: u32) {
        let connection = &mut self.connections[slot as usize];
        let left = connection.asked_end - connection.sent;
        if left == 0 || connection.sending || connection.full || connection.broken != 0 {
            return;
        }
        let (stream, offset) = (Stream::new(self.key, connection.number), connection.sent);
        let Some(span) = self.buffers.lend(left.min(SEND_MAX), |bytes| stream.fill(offset, bytes)) else {
            return self.touch(slot);
        };
        connection.offered = span.length;
        connection.sending = true;
        let socket = connection.socket.expect("a connection that stands has a socket");
        if self.ring.skips_sent() {
            connection.send_number = self.ring.pushed() as u32;
            self.silent.push_back(Silent { number: connection.send_number, slot });
        }
        self.push(Operation::Send { socket, span }, Kind::Send, slot);
    }

    pub(super) fn on_sent(&mut self, slot: u32, done: Completion) {
        self.end_send(slot);
        let connection = &mut self.connections[slot as usize];
        let offered = std::mem::take(&mut connection.offered);
        match done.outcome() {
            Ok(bytes) => {
                self.on_taken(slot, bytes);
                if bytes < offered {
                    self.await_room(slot);
                }
            }
            Err(Errno::EAGAIN) => self.await_room(slot),
            Err(Errno::EINTR | Errno::ECANCELED) => {}
            Err(error) => self.on_send_failed(slot, error),
        }
        self.advance(slot);
    }

    /// The connection is broken. What came before that is still to be received, and may be wrong: the receive
    /// tells when there is no more. Another error says nothing of the receive, which might never end.
    fn on_send_failed(&mut self, slot: u32, error: Errno) {
        match error {
            Errno::ECONNRESET | Errno::EPIPE | Errno::ETIMEDOUT => {
                self.connections[slot as usize].broken = error as u8;
            }
            _ => self.on_broken(slot, Phase::Send, Cause::of(error)),
        }
    }

    fn end_send(&mut self, slot: u32) {
        self.buffers.returned();
        self.connections[slot as usize].sending = false;
    }

    fn on_taken(&mut self, slot: u32, bytes: u32) {
        self.connections[slot as usize].sent += u64::from(bytes);
        self.account.now().bytes_sent += u64::from(bytes);
    }

    /// Ends the sends that the kernel has answered by saying nothing.
    pub(super) fn settle_silent(&mut self) {
        let answered = self.ring.answered() as u32;
        while let Some(&Silent { number, slot }) = self.silent.front()
            && answered.wrapping_sub(number).cast_signed() > 0
        {
            self.silent.pop_front();
            let connection = &mut self.connections[slot as usize];
            // One that failed was heard of, and its slot may have sent again since, under another number.
            if connection.sending && connection.send_number == number {
                connection.in_flight -= 1;
                self.in_flight -= 1;
                let bytes = std::mem::take(&mut connection.offered);
                self.end_send(slot);
                self.on_taken(slot, bytes);
                self.advance(slot);
            }
        }
    }

    /// The kernel took less than it was offered.
    fn await_room(&mut self, slot: u32) {
        let connection = &mut self.connections[slot as usize];
        if connection.state != State::Standing {
            return;
        }
        connection.full = true;
        if connection.room == Asked::Idle {
            connection.room = Asked::Armed;
            let socket = connection.socket.expect("a connection that stands has a socket");
            self.push(Operation::AwaitRoom { socket }, Kind::Room, slot);
        }
    }

    /// There may be room again in a socket that was full.
    pub(super) fn on_room(&mut self, slot: u32, done: Completion) {
        let connection = &mut self.connections[slot as usize];
        if !done.more {
            connection.room = Asked::Idle;
        }
        // Whatever it says, the next send finds out, and watches again if it has to.
        connection.full = false;
        self.advance(slot);
    }
}
