//! Sends that go on reading the caller's bytes after they were answered, until the peer has them: a second
//! completion says so.

use super::super::Operation;
use super::kernel::{InFlight, Kernel};
use super::network::Ending;
use super::odds::happens;
use super::outcome::Outcome;

impl Kernel {
    /// Answers a send; one that may keep its bytes mostly does.
    pub(super) fn post_sent(&mut self, op: &InFlight, result: i32) {
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
