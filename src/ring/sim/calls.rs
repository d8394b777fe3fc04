//! Plain system calls, and the watches that say when one is worth making: what a ring that only notifies asks
//! for. A call is answered at once. A watch tells of what is new since it last spoke, as late as it likes, by
//! what it sees then: it may be of no use any more, or of nothing, but what came is never left out.

use super::super::calls::Calls;
use super::super::{Name, Operation, Socket};
use super::Sim;
use super::completions::Posted;
use super::kernel::{InFlight, Kernel};
use super::network::{Ending, Handed, Heard, payload};
use super::odds::happens;
use super::operations::failure;
use super::outcome::Outcome;
use nix::errno::Errno;

const IN: i32 = libc::POLLIN as i32;
const OUT: i32 = libc::POLLOUT as i32;
const URGENT: i32 = libc::POLLPRI as i32;
const ENDED: i32 = libc::POLLRDHUP as i32;
/// How far ahead of its bytes a peer's urgent mark may be, before it is sent.
const MARK_MAX: u64 = 100;
const FAILED: i32 = (libc::POLLERR | libc::POLLHUP) as i32 | ENDED;

impl Calls for Sim {
    fn receive(&mut self, socket: Socket, room: &mut [u8]) -> Result<usize, Errno> {
        self.kernel.borrow_mut().call_receive(socket.0, room)
    }

    fn send(&mut self, socket: Socket, bytes: &[u8]) -> Result<usize, Errno> {
        self.kernel.borrow_mut().call_send(socket.0, bytes)
    }

    fn shut_down(&mut self, socket: Socket) -> Result<(), Errno> {
        self.kernel.borrow_mut().call_shut_down(socket.0)
    }

    fn close(&mut self, socket: Socket) -> Result<(), Errno> {
        self.kernel.borrow_mut().call_close(socket.0)
    }

    fn has_queued(&mut self) -> bool {
        !self.kernel.borrow().submission.is_empty()
    }
}

impl Kernel {
    /// Holds what is asked of a ring that only notifies against the rules.
    pub(super) fn check_notifying(&self, operation: Operation) -> Result<(), String> {
        let number = operation.socket().map(|socket| self.network.find(socket.0));
        let watched = number.flatten().is_some_and(|number| self.is_watched(number));
        match (operation, number.flatten()) {
            (Operation::Accept { .. } | Operation::Cancel { .. } | Operation::Wakeups, _) => Ok(()),
            (Operation::Watch { .. } | Operation::Hand { .. }, None) => {
                Err(format!("{operation:?}: no such socket"))
            }
            (Operation::Watch { .. }, Some(_)) if watched => Err(format!("{operation:?} beside another")),
            (Operation::Watch { .. }, Some(number)) => {
                let connection = &self.network.connections[number];
                if connection.handed == Handed::Not && connection.ending == Ending::Open {
                    return Ok(());
                }
                Err(format!("I10: {operation:?} on a socket that is being closed, or another's"))
            }
            (Operation::Hand { .. }, Some(_)) if watched => Err(format!("I6: {operation:?} while watched")),
            (Operation::Hand { .. }, Some(_)) => Ok(()),
            _ => Err(format!("{operation:?} of a ring that only notifies")),
        }
    }

    /// Whether a watch of it is with the kernel, or on its way.
    fn is_watched(&self, number: usize) -> bool {
        let watches = |operation: Operation| matches!(operation, Operation::Watch { .. });
        let names = |operation: Operation| {
            operation.socket().and_then(|socket| self.network.find(socket.0)) == Some(number)
        };
        self.flying.iter().any(|op| watches(op.operation) && op.connection == Some(number))
            || self.submission.iter().any(|&(operation, _)| watches(operation) && names(operation))
    }

    /// A watch begins, and will tell of everything that it finds, or there is no memory for it.
    pub(super) fn arm_watch(&mut self, index: usize) {
        let op = self.flying[index];
        let number = op.connection.expect("a watch names a socket");
        if happens(&mut self.random, self.odds.ends / 4) {
            self.coverage.note(Outcome::WatchMemory);
            self.post(op.id, failure(Errno::ENOMEM), false, None);
            return;
        }
        let marks = happens(&mut self.random, self.odds.receive_short / 2);
        let connection = &mut self.network.connections[number];
        connection.heard = Heard { written: connection.read, ..Heard::default() };
        if marks && connection.urgent.is_none() {
            connection.urgent = Some(connection.written + self.random.u64(0..MARK_MAX));
        }
    }

    /// Whether something has become ready since the watch last spoke.
    pub(super) fn has_news(&self, op: &InFlight) -> bool {
        let connection = &self.network.connections[op.connection.expect("a watch names a socket")];
        connection.written > connection.heard.written
            || connection.finished != connection.heard.end
            || connection.broken.is_some() != connection.heard.error
            || (!op.told && connection.room_to_echo() > 0)
    }

    /// What poll(2) would say.
    fn readiness(&self, number: usize) -> i32 {
        let connection = &self.network.connections[number];
        let mut mask = 0;
        for (ready, bits) in [
            (connection.unread() > 0, IN),
            (connection.urgent.is_some_and(|mark| mark < connection.written), URGENT),
            (connection.finished, IN | ENDED),
            (connection.room_to_echo() > 0, OUT),
            (connection.broken.is_some(), IN | OUT | FAILED),
        ] {
            mask |= if ready { bits } else { 0 };
        }
        mask
    }

    /// News, or none.
    pub(super) fn run_watch(&mut self, op: &InFlight) {
        let number = op.connection.expect("a watch names a socket");
        let (news, found) = (self.has_news(op), self.readiness(number));
        let connection = &mut self.network.connections[number];
        let taken = connection.read > 0 && found & IN == 0;
        let late = op.doomed && found != 0 && happens(&mut self.random, self.odds.cancel_late);
        if op.doomed && !late {
            self.coverage.note(Outcome::WatchCancelled);
            self.post(op.id, failure(Errno::ECANCELED), false, None);
            return;
        }
        connection.heard = Heard {
            written: connection.written,
            end: connection.finished,
            error: connection.broken.is_some(),
        };
        // What was there when it was written down may have been taken before it is heard of.
        let stale = news && taken && self.random.u8(0..4) == 0;
        let mask = match () {
            () if stale => found | IN,
            () if !news => found | [IN, OUT, IN | OUT][self.random.usize(0..3)],
            () => found,
        };
        let ends = op.doomed || happens(&mut self.random, self.odds.ends);
        if let Some(index) = self.position(op.id) {
            self.flying[index].told |= found & OUT != 0;
        }
        if mask != 0 {
            self.note_watch(op, (news, stale, ends), mask);
            self.post(op.id, mask, !ends, None);
        }
    }

    fn note_watch(&mut self, op: &InFlight, (news, stale, ends): (bool, bool, bool), mask: i32) {
        let unread = self.network.connections[op.connection.expect("a watch names a socket")].unread();
        self.coverage.note(match () {
            () if op.doomed => Outcome::WatchCancelledNews,
            () if !news => Outcome::WatchSpurious,
            () if stale => Outcome::WatchStale,
            () if ends => Outcome::WatchEnds,
            () if self.queue_is_full() => Outcome::WatchQueueFull,
            () => Outcome::WatchMore,
        });
        if mask & URGENT != 0 {
            self.coverage.note(Outcome::WatchUrgent);
        }
        if mask & FAILED == FAILED {
            self.coverage.note(Outcome::WatchFailed);
        } else if mask & ENDED != 0 && unread > 0 {
            self.coverage.note(Outcome::WatchEndWithData);
        }
    }

    /// The caller takes a completion: one of a watch is a reason to try again.
    pub(super) fn hear_watch(&mut self, posted: &Posted) {
        if let (Operation::Watch { .. }, Some(number)) = (posted.operation, posted.connection) {
            self.network.connections[number].dry = false;
        }
    }

    /// The connection of a socket that a call names.
    fn called(&mut self, name: Name) -> Result<usize, Errno> {
        self.call();
        let number = self.network.find(name);
        if number.is_none() {
            self.violation(format!("I10: a call on {name:?}, which is no socket of the caller's"));
        }
        number.ok_or(Errno::EBADF)
    }

    fn call_receive(&mut self, name: Name, room: &mut [u8]) -> Result<usize, Errno> {
        let number = self.called(name)?;
        let buffer = match self.buffers.free_buffer(room) {
            Ok(buffer) => buffer,
            Err(what) => {
                self.violation(what);
                return Err(Errno::EFAULT);
            }
        };
        let odds = &self.odds;
        let (resets, finishes) = match self.stopped_at {
            Some(_) => (odds.at_the_end / 10, odds.at_the_end / 2),
            None => (odds.lost, odds.lost),
        };
        self.end_peer(number, resets, finishes);
        // When the server stops, what has arrived is asked for whatever a watch said.
        if self.network.connections[number].dry && self.stopped_at.is_none() {
            self.violation(format!("connection {number} was found empty, and is received from once more"));
        }
        let received = self.try_to_receive(number, room);
        self.network.connections[number].dry = received == Err(Errno::EAGAIN);
        if received.is_ok_and(|bytes| bytes > 0) {
            self.buffers.post(buffer);
        }
        self.trace(|| format!("receive from connection {number}: {received:?}"));
        received
    }

    fn try_to_receive(&mut self, number: usize, room: &mut [u8]) -> Result<usize, Errno> {
        if happens(&mut self.random, self.odds.send_interrupted) {
            self.coverage.note(Outcome::CallReceiveInterrupted);
            return Err(Errno::EINTR);
        }
        if self.broken_before_bytes(number) {
            self.coverage.note(Outcome::CallReceiveFailed);
            return Err(self.network.connections[number].broken.unwrap_or(Errno::ECONNRESET));
        }
        let connection = &self.network.connections[number];
        if connection.unread() == 0 {
            let ended = connection.finished;
            self.coverage.note(if ended { Outcome::CallReceiveEnd } else { Outcome::CallReceiveEmpty });
            return if ended { Ok(0) } else { Err(Errno::EAGAIN) };
        }
        let most = self.up_to_the_mark(number, connection.unread().min(room.len() as u64)) as usize;
        let bytes = self.arrived_by_now(number, most);
        if bytes == 0 {
            return Err(Errno::EAGAIN);
        }
        let connection = &mut self.network.connections[number];
        for (byte, offset) in room[..bytes].iter_mut().zip(connection.read..) {
            *byte = payload(connection.key, offset);
        }
        connection.read += bytes as u64;
        connection.received_in = self.enters;
        // The rest arrives later, and a watch tells of it.
        if bytes < most {
            connection.heard.written = connection.read;
        }
        self.peers.on_received(number, self.now, &self.network);
        Ok(bytes)
    }

    /// How many of so many bytes come in one receive: none from behind an urgent mark together with those
    /// before it. The urgent byte itself is skipped.
    fn up_to_the_mark(&mut self, number: usize, most: u64) -> u64 {
        let connection = &mut self.network.connections[number];
        match connection.urgent {
            Some(mark) if mark <= connection.read => connection.urgent = None,
            Some(mark) if mark < connection.read + most => {
                self.coverage.note(Outcome::CallReceiveUpToMark);
                return mark - connection.read;
            }
            _ => {}
        }
        most
    }

    /// How many of the bytes that the peer wrote are there in the moment of the call: they may arrive a moment
    /// after it, as long as nothing behind them has, and nobody counted them.
    fn arrived_by_now(&mut self, number: usize, most: usize) -> usize {
        let connection = &mut self.network.connections[number];
        let all = connection.finished || connection.broken.is_some() || self.stopped_at.is_some();
        if all || !happens(&mut self.random, self.odds.receive_short) {
            self.coverage.note(Outcome::CallReceiveData);
            return most;
        }
        let bytes = self.random.usize(0..most);
        if bytes == 0 {
            connection.heard.written = connection.read;
        }
        self.coverage.note(if bytes == 0 { Outcome::CallReceiveEarly } else { Outcome::CallReceivePart });
        bytes
    }

    fn call_send(&mut self, name: Name, bytes: &[u8]) -> Result<usize, Errno> {
        let number = self.called(name)?;
        let span = match self.buffers.span_of(bytes) {
            Ok(span) => span,
            Err(what) => {
                self.violation(what);
                return Err(Errno::EFAULT);
            }
        };
        let sent = match self.refusal(number) {
            Some((_, errno)) => Err(if errno == Errno::ECANCELED { Errno::EINTR } else { errno }),
            None => Ok(self.take_bytes_of(number, span)),
        };
        let whole = sent == Ok(bytes.len());
        self.coverage.note(match sent {
            Ok(_) if whole => Outcome::CallSendWhole,
            Ok(_) => Outcome::CallSendShort,
            Err(Errno::EAGAIN) => Outcome::CallSendFull,
            Err(Errno::EINTR) => Outcome::CallSendInterrupted,
            Err(_) => Outcome::CallSendFailed,
        });
        if !whole && matches!(sent, Ok(_) | Err(Errno::EAGAIN)) {
            self.found_full(number);
        }
        self.trace(|| format!("send {span:?} to connection {number}: {sent:?}"));
        sent
    }

    fn call_shut_down(&mut self, name: Name) -> Result<(), Errno> {
        let number = self.called(name)?;
        self.end_peer(number, 2 * self.odds.at_the_end, 0);
        self.shut(number)
    }

    fn call_close(&mut self, name: Name) -> Result<(), Errno> {
        let number = self.called(name)?;
        if self.is_watched(number) {
            self.violation(format!("connection {number} was closed while the ring watches it"));
        }
        if self.network.connections[number].ending != Ending::Closing {
            self.violation(format!("I10: connection {number} was closed, and nobody had asked for that"));
        }
        self.close_down(number, name);
        Ok(())
    }
}
