//! Receives into memory of the caller's own: the kernel has it from the push to the last completion, and
//! nothing else may be done with it meanwhile.

use super::super::Span;
use super::kernel::{InFlight, Kernel};
use super::network::payload;
use super::odds::happens;
use super::operations::failure;
use super::outcome::Outcome;
use nix::errno::Errno;

impl Kernel {
    /// Takes the buffer for the kernel.
    pub(super) fn check_receivable(&mut self, span: Span) -> Result<(), String> {
        let wanted = self.buffers.within(span);
        let lent = self.sending.iter().find(|(_, sent)| {
            let sent = self.buffers.within(*sent);
            sent.start < wanted.end && wanted.start < sent.end
        });
        match lent {
            Some((_, sent)) => Err(format!("I8: {span:?} is received into while {sent:?} is being sent")),
            None => self.buffers.lend_to_kernel(span),
        }
    }

    pub(super) fn run_receive_into(&mut self, op: &InFlight, span: Span, waits: bool) {
        let number = op.connection.expect("a receive names a socket");
        let connection = &self.network.connections[number];
        let late = op.doomed
            && connection.readable()
            && connection.broken.is_none()
            && happens(&mut self.random, self.odds.cancel_late);
        if op.doomed && !late {
            self.coverage.note(Outcome::ReceiveCancelled);
            self.post(op.id, failure(Errno::ECANCELED), false, None);
        } else if self.broken_before_bytes(number) {
            let reset = if waits { Outcome::ReceiveReset } else { Outcome::ReceiveNowReset };
            self.fail_receive(op.id, number, reset);
        } else if self.network.connections[number].unread() > 0 {
            self.coverage.note(match () {
                () if late => Outcome::ReceiveCancelledData,
                () if waits => Outcome::ReceiveOnce,
                () => Outcome::ReceiveNowData,
            });
            let bytes = self.size_of_receive(number, self.capped(span.length));
            self.fill_span(number, span, bytes);
            self.post(op.id, bytes as i32, false, None);
        } else if self.network.connections[number].finished {
            self.coverage.note(if waits { Outcome::ReceiveEnd } else { Outcome::ReceiveNowEnd });
            self.post(op.id, 0, false, None);
        } else if !waits {
            self.coverage.note(Outcome::ReceiveNowEmpty);
            self.post(op.id, failure(Errno::EAGAIN), false, None);
        }
    }

    fn fill_span(&mut self, number: usize, span: Span, bytes: u32) {
        let connection = &mut self.network.connections[number];
        let (key, start) = (connection.key, connection.read);
        self.buffers.write(span.offset, bytes, |index| payload(key, start + index));
        connection.read += u64::from(bytes);
        connection.received_in = self.enters;
        self.peers.on_received(number, self.now, &self.network);
    }
}
