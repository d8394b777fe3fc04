//! Sockets that come from another worker, which accepts for all: it takes whom it finds queued as it likes,
//! and has each served here, or elsewhere. What it does itself is not looked at; see `handing` for this
//! worker in its place.

use super::super::{Completion, Name, Operation, Socket, Token};
use super::completions::Posted;
use super::kernel::{Kernel, Planned};
use super::network::{Ending, Handed};
use super::odds::happens;
use super::outcome::Outcome;
use super::{External, Sim};
use nix::errno::Errno;
use std::rc::Rc;

/// How long the neighbour takes to notice a stop, and a connection stays elsewhere, microseconds.
const NOTICES_MAX: u64 = 5_000;
const STAY_MAX: u64 = 20_000;

/// The worker that accepts for all, and the accounts it keeps with this one.
pub struct Neighbour {
    /// The index of this worker.
    pub here: usize,
    /// The token of what it sends here.
    pub arrival: Token,
    /// The index of the worker that is to have the next connection, which holds a permit from then on; none
    /// where there is no permit.
    pub places: Box<dyn Fn() -> Option<usize>>,
    /// One could not be sent here; whether the neighbour serves it itself.
    pub turned_back: Box<dyn Fn(bool)>,
    /// One that another worker served, of this index, is gone.
    pub left: Rc<dyn Fn(usize)>,
    /// From now on it sends nobody.
    pub ends: Rc<dyn Fn()>,
}

impl Sim {
    /// Another worker accepts from the listeners, which are not this one's; how often it cannot send
    /// something here, in a thousand.
    pub fn beside(&self, neighbour: Neighbour, error: u32) {
        let mut kernel = self.kernel.borrow_mut();
        kernel.odds.hand_error = error;
        kernel.neighbour = Some(Rc::new(neighbour));
    }
}

impl Kernel {
    /// The neighbour takes some of those who are queued, each with this chance in a thousand, where somebody
    /// can be taken. Whether it took one.
    pub(super) fn neighbour_accepts(&mut self, chance: u32) -> bool {
        let Some(neighbour) = self.neighbour.clone() else { return false };
        let mut took = false;
        for listener in 0..self.network.listeners.len() {
            while let Some(&number) = self.network.listeners[listener].queue.front()
                && happens(&mut self.random, chance)
                && (self.setup.direct || !self.network.descriptors.is_full())
                && let Some(worker) = (neighbour.places)()
            {
                self.network.listeners[listener].queue.pop_front();
                took = true;
                if worker == neighbour.here {
                    self.send_here(&neighbour, number);
                } else {
                    self.serve_elsewhere(&neighbour, number, worker);
                }
            }
        }
        took
    }

    /// Sends a connection to this worker, or finds that it cannot.
    fn send_here(&mut self, neighbour: &Neighbour, number: usize) {
        if self.stopped_at.is_some() {
            self.coverage.note(Outcome::ArrivalAtStop);
        }
        let fails = happens(&mut self.random, self.odds.hand_error);
        if fails && !(self.setup.direct && self.random.bool()) {
            self.coverage.note(Outcome::ArrivalFails);
            (neighbour.turned_back)(true);
            return self.serve_elsewhere(neighbour, number, 0);
        }
        let Some(name) = self.name(number, self.setup.direct) else {
            self.coverage.note(Outcome::ArrivalTableFull);
            (neighbour.turned_back)(true);
            return self.serve_elsewhere(neighbour, number, 0);
        };
        if fails {
            self.coverage.note(Outcome::ArrivalStranded);
            (neighbour.turned_back)(false);
            return self.strand(number);
        }
        self.network.connections[number].active_at = self.now;
        let result = match name {
            Name::Descriptor(descriptor) => descriptor,
            Name::Slot(slot) => slot as i32,
        };
        let arrival = neighbour.arrival;
        let operation = Operation::Hand { socket: Socket(name), worker: neighbour.here, arrival };
        let completion = Completion::bare(arrival, result, false);
        let posted = Posted { completion, operation, connection: None, notice: false };
        if self.queue_is_full() {
            self.coverage.note(Outcome::ArrivalQueueFull);
            self.facts.overflows += 1;
            self.overflow.push_back(posted);
        } else {
            self.coverage.note(Outcome::Arrival);
            self.completions.push_back(posted);
        }
    }

    /// A connection stands in the table here, nobody was told, and its peer has the neighbour's FIN.
    fn strand(&mut self, number: usize) {
        self.network.connections[number].name = None;
        self.away += 1;
        self.gone(number);
    }

    fn gone(&mut self, number: usize) {
        let connection = &mut self.network.connections[number];
        connection.broken = Some(Errno::ECONNRESET);
        connection.ending = Ending::Closed;
        self.peers.on_closed(number, &self.network);
    }

    /// Another worker serves a connection, and closes it a while later.
    fn serve_elsewhere(&mut self, neighbour: &Neighbour, number: usize, worker: usize) {
        self.network.connections[number].handed = Handed::Away;
        self.facts.elsewhere += 1;
        let left = Rc::clone(&neighbour.left);
        let at = self.now + self.random.u64(0..STAY_MAX);
        let action = Box::new(move || {
            left(worker);
            External::Left(number)
        });
        self.planned.push(Planned { at: Some(at), action });
    }

    /// The server stops: the neighbour hears of it too, in its own time.
    pub(super) fn tell_neighbour(&mut self) {
        let Some(neighbour) = &self.neighbour else { return };
        let ends = Rc::clone(&neighbour.ends);
        let at = self.now + self.random.u64(0..NOTICES_MAX);
        let action = Box::new(move || {
            ends();
            External::NobodyComes
        });
        self.planned.push(Planned { at: Some(at), action });
    }

    /// The neighbour sends nobody any more; who is still queued is its own.
    pub(super) fn neighbour_ends(&mut self) {
        for listener in &mut self.network.listeners {
            listener.closed = true;
        }
        let queues = self.network.listeners.iter_mut().map(|listener| std::mem::take(&mut listener.queue));
        let queued: Vec<usize> = queues.flatten().collect();
        queued.into_iter().for_each(|number| self.gone(number));
        self.wake();
    }
}
