//! Sends. Some go on reading the caller's bytes after they were answered, until the peer has them: a second
//! completion says so.

use super::super::{Operation, Span};
use super::kernel::{InFlight, Kernel};
use super::network::{Ending, payload};
use super::odds::happens;
use super::operations::failure;
use super::outcome::Outcome;
use nix::errno::Errno;

impl Kernel {
    pub(super) fn run_send(&mut self, op: &InFlight, span: Span) {
        let number = op.connection.expect("a send names a socket");
        let Some((outcome, errno)) = self.refusal(number) else {
            return self.send_bytes(op, number, span);
        };
        self.found_full(number);
        self.coverage.note(outcome);
        self.post_sent(op, failure(errno));
    }

    /// Why a send takes nothing now, if it does not.
    pub(super) fn refusal(&mut self, number: usize) -> Option<(Outcome, Errno)> {
        let connection = &self.network.connections[number];
        let (room, broken) = (connection.room_to_echo(), connection.broken.is_some());
        let refused = room == 0 || happens(&mut self.random, self.odds.send_full);
        Some(match () {
            () if broken && self.random.bool() => (Outcome::SendBroken, Errno::EPIPE),
            () if broken => (Outcome::SendReset, Errno::ECONNRESET),
            () if happens(&mut self.random, self.odds.send_interrupted) => {
                if self.random.bool() {
                    (Outcome::SendInterrupted, Errno::EINTR)
                } else {
                    (Outcome::SendCancelledUnasked, Errno::ECANCELED)
                }
            }
            () if refused => (Outcome::SendFull, Errno::EAGAIN),
            () => return None,
        })
    }

    fn send_bytes(&mut self, op: &InFlight, number: usize, span: Span) {
        let bytes = self.take_bytes_of(number, span);
        let whole = bytes == span.length as usize;
        self.coverage.note(if whole { Outcome::SendWhole } else { Outcome::SendShort });
        if !whole {
            self.found_full(number);
        }
        self.post_sent(op, bytes as i32);
    }

    /// Takes as much of it as fits, or less; how many bytes that is.
    pub(super) fn take_bytes_of(&mut self, number: usize, span: Span) -> usize {
        let room = self.network.connections[number].room_to_echo();
        let most = room.min(u64::from(span.length)) as u32;
        let short = most > 1 && happens(&mut self.random, self.odds.send_short);
        let bytes = if short { self.random.u32(1..most) } else { most };
        self.look_at(number, span, bytes);
        let connection = &mut self.network.connections[number];
        connection.echoed += u64::from(bytes);
        if connection.peer_gone {
            connection.broken = Some(Errno::ECONNRESET);
        }
        self.peers.on_echoed(number, self.now, &self.network);
        bytes as usize
    }

    /// Holds what is echoed against what was sent: this is where a wrong byte shows.
    pub(super) fn look_at(&mut self, number: usize, span: Span, bytes: u32) {
        if let Err(what) = self.buffers.check_sendable(span) {
            self.violation(what);
            return;
        }
        if let Some(servers) = &mut self.peers.servers {
            return servers.on_sent(number, (0..bytes).map(|index| self.buffers.read(span, index)));
        }
        let connection = &self.network.connections[number];
        let (key, start) = (connection.key, connection.echoed);
        let wrong = (0..bytes)
            .find(|&index| self.buffers.read(span, index) != payload(key, start + u64::from(index)));
        if let Some(index) = wrong {
            self.violation(format!(
                "I1: connection {number} got a wrong byte at {}",
                start + u64::from(index)
            ));
        } else if start + u64::from(bytes) > connection.read {
            self.violation(format!("I1: connection {number} got more than it sent"));
        }
    }

    /// Answers a send; one that may keep its bytes mostly does.
    fn post_sent(&mut self, op: &InFlight, result: i32) {
        let may = matches!(op.operation, Operation::SendKept { .. });
        // An error may have a notice behind it too.
        let keeps = may && happens(&mut self.random, if result > 0 { 900 } else { 300 });
        if may {
            self.coverage.note(if keeps { Outcome::KeptMore } else { Outcome::KeptNot });
        }
        if let Some(index) = self.position(op.id).filter(|_| keeps) {
            (self.flying[index].told, self.flying[index].at_once) = (true, false);
        }
        self.post(op.id, result, keeps, None);
    }

    /// Whether the kernel needs the bytes of a send no more.
    pub(super) fn is_read(&self, op: &InFlight) -> bool {
        let connection = &self.network.connections[op.connection.expect("a send names a socket")];
        connection.echoed == connection.peer_read
            || connection.broken.is_some()
            || matches!(connection.ending, Ending::Closed)
    }

    pub(super) fn run_notice(&mut self, op: &InFlight) {
        self.coverage.note(Outcome::KeptNotice);
        self.post_notice(op.id);
    }
}
