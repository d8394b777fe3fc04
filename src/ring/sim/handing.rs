//! Sockets that are handed to other workers: what the kernel may answer, and the other worker, which
//! closes each a while later. What it does with them in between is not looked at.

use super::super::{Name, Operation};
use super::External;
use super::kernel::{InFlight, Kernel, Planned};
use super::network::{Ending, Handed};
use super::odds::happens;
use super::operations::failure;
use super::outcome::Outcome;
use nix::errno::Errno;
use std::rc::Rc;

/// Told which worker had a connection that has left it.
pub(super) type Elsewhere = Rc<dyn Fn(usize)>;

/// The longest another worker keeps a connection, microseconds.
const STAY_MAX: u64 = 20_000;

impl Kernel {
    /// Holds an operation for a socket that is another worker's, or nobody's, against the rules.
    pub(super) fn check_handed(&mut self, number: usize, operation: Operation) -> Result<(), String> {
        let connection = &mut self.network.connections[number];
        let copied = matches!(connection.name, Some(Name::Slot(_)));
        let legal = match operation {
            Operation::Close { .. } => copied && connection.in_flight == 0,
            Operation::Shutdown { .. } => connection.handed == Handed::Stranded,
            _ => false,
        };
        if !legal || connection.ending == Ending::Closing {
            return Err(format!("I10: {operation:?} on a socket that is {:?}", connection.handed));
        }
        if matches!(operation, Operation::Close { .. }) && connection.handed == Handed::Stranded {
            connection.ending = Ending::Closing;
        }
        connection.in_flight += 1;
        Ok(())
    }

    /// Gives a socket to another worker, or not.
    pub(super) fn run_hand(&mut self, op: &InFlight, name: Name, worker: usize) {
        let number = op.connection.expect("a hand names a socket");
        if self.stopped_at.is_some() {
            self.coverage.note(Outcome::HandAtStop);
        }
        if happens(&mut self.random, self.odds.hand_error) {
            return self.fail_hand(op.id, number, name);
        }
        let slot = matches!(name, Name::Slot(_));
        self.coverage.note(if slot { Outcome::HandShared } else { Outcome::HandGiven });
        let connection = &mut self.network.connections[number];
        connection.handed = Handed::Away;
        if !slot {
            connection.name = None;
            self.away += 1;
        }
        self.facts.elsewhere += 1;
        let leaves = self.elsewhere.clone().expect("sockets may be handed on");
        let at = self.now + self.random.u64(0..STAY_MAX);
        let action = Box::new(move || {
            leaves(worker);
            External::Left(number)
        });
        self.planned.push(Planned { at: Some(at), action });
        self.post(op.id, 0, false, None);
    }

    fn fail_hand(&mut self, id: u64, number: usize, name: Name) {
        let slot = matches!(name, Name::Slot(_));
        let (outcome, errno) = match self.random.u8(0..5) {
            0 if slot => (Outcome::HandStranded, Errno::EOVERFLOW),
            0 => (Outcome::HandOverflow, Errno::EOVERFLOW),
            1 => (Outcome::HandDisabled, Errno::EBADFD),
            2 => (Outcome::HandMemory, Errno::ENOMEM),
            3 if slot => (Outcome::HandTableFull, Errno::ENFILE),
            _ => (Outcome::HandOwnerGone, Errno::EOWNERDEAD),
        };
        if outcome == Outcome::HandStranded {
            self.network.connections[number].handed = Handed::Stranded;
        }
        self.coverage.note(outcome);
        self.post(id, failure(errno), false, None);
    }

    /// Another worker closes a connection it was given.
    pub(super) fn leave_elsewhere(&mut self, number: usize) {
        self.facts.elsewhere -= 1;
        let enter = self.enters;
        let connection = &mut self.network.connections[number];
        connection.broken = Some(Errno::ECONNRESET);
        connection.ending = Ending::Closed;
        if connection.name.is_none() && self.away > 0 {
            let held = self.network.descriptors.number_of(number);
            if let Some(descriptor) = held {
                self.network.descriptors.give_back(descriptor, enter);
                self.away -= 1;
            }
        }
        self.accepts_in_vain = 0;
        self.peers.on_closed(number, &self.network);
        self.wake();
    }

    /// Closes what names a connection here that is another worker's.
    pub(super) fn close_copy(&mut self, op: &InFlight, number: usize, name: Name) {
        let enter = self.enters;
        let (numbers, index) = self.network.numbers(name);
        numbers.give_back(index, enter);
        self.network.connections[number].name = None;
        self.accepts_in_vain = 0;
        self.post(op.id, 0, false, None);
    }
}
