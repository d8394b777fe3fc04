//! How connections go from the worker that accepts to the one that serves them, where one accepts for
//! all. Part of the event loop.
//!
//! The life of one, in steps: 1. it is accepted, under a permit, and the worker that holds the fewest is
//! to have it; 2. that worker's ring is given the socket, and until the answer it stands in the list of
//! those on their way; 3. there it arrives, and is served like one of its own. What cannot be given away
//! is served here: no socket is lost, and nothing is tried twice. At the stop nobody is sent any more,
//! and no worker ends while somebody is on the way to it.
//!
//! Where the table of this worker is full and another has room, who comes passes through: into a name of
//! the table's margin, and on. Accepting pauses before the margin is used up, until some have passed.
//!
//! Absent on purpose: whether the kernel copies a name or a number (it is behind
//! [`Listening::handed`]), and who is chosen (it is in [`crate::conn::Handover`]).

use super::buffers::Ownership;
use super::ending::Stopping;
use super::event_loop::{EventLoop, Own};
use super::token::{self, Kind};
use crate::conn::ConnId;
use crate::conn::machine::Refusal;
use crate::ring::{Completion, Handed, Listening, Operation, Socket};
use crate::worker::Worker;

/// Names of sockets that the table of a worker has beyond those it can serve, at least. Who only passes
/// through may use them.
pub(super) const PASSAGE: u32 = 64;
/// Of these so many may be in use before accepting pauses: the kernel drops whom a full table cannot name.
const PASSING_MAX: u32 = PASSAGE / 2;

/// A socket on its way to another worker.
#[derive(Debug)]
pub(super) struct Leaving {
    socket: Socket,
    worker: usize,
    /// It is stranded: its FIN has been asked for, and then it is closed and its permit given back. Not
    /// before: whoever holds a place here holds a permit.
    stranded: bool,
}

#[cfg(any(test, feature = "sim"))]
impl Leaving {
    pub(super) const fn is_stranded(&self) -> bool {
        self.stranded
    }
}

/// How many may be on their way from this worker at once: as many as it can name, and as there are permits.
pub(super) fn leaving_max(worker: &Worker<'_>) -> u32 {
    let named = worker.room.saturating_add(PASSAGE).min(worker.admission.limit());
    if worker.handover.is_some() { named } else { 0 }
}

impl<R: Listening, K: Ownership> EventLoop<'_, R, K> {
    /// Has `socket`, which holds a permit, served by whoever is to have it.
    pub(super) fn place(&mut self, socket: Socket) {
        let (here, handover) = (self.worker.index, self.worker.handover);
        // Others may have ended, or end, when the server stops.
        let handover = handover.filter(|_| self.stopping == Stopping::No);
        let chosen = handover.map_or(here, |handover| handover.choose(here));
        let Some(handover) = handover.filter(|_| chosen != here) else { return self.serve_here(socket) };
        let leaving = Leaving { socket, worker: chosen, stranded: false };
        let id = self.leaving.insert(leaving).expect("as many as there are permits");
        handover.sent(chosen);
        self.in_flight_other += 1;
        let arrival = token::of_listener(Kind::Arrival, 0);
        self.ring.push(Operation::Hand { socket, worker: chosen, arrival }, token::of(Kind::Hand, id));
    }

    /// Whether this worker, though it can serve nobody more, can name one until another worker has it. Only
    /// one that still serves passes connections on.
    pub(super) fn may_pass_through(&self) -> bool {
        let beside = self.worker.handover.filter(|_| self.stopping == Stopping::No);
        self.names_in_use() < self.worker.room + PASSAGE
            && beside.is_some_and(|handover| handover.has_room_beside(self.worker.index))
    }

    /// Whether so many pass through a full table that the next burst might not fit.
    pub(super) fn passage_is_crowded(&self) -> bool {
        self.worker.handover.is_some() && self.names_in_use() >= self.worker.room + PASSING_MAX
    }

    fn serve_here(&mut self, socket: Socket) {
        if let Some(handover) = self.worker.handover {
            handover.stays(self.worker.index);
        }
        self.serve(socket);
    }

    /// The kernel has answered what is on its way.
    pub(super) fn on_handed(&mut self, id: ConnId, done: Completion) {
        let Some(leaving) = self.leaving.get_mut(id) else { return self.on_stale(done) };
        self.in_flight_other -= 1;
        let (socket, worker) = (leaving.socket, leaving.worker);
        if leaving.stranded {
            self.leaving.remove(id);
            self.give_back_permit();
            return self.close_other(socket);
        }
        let handed = self.ring.handed(socket, done.outcome());
        if handed == Handed::Stranded {
            leaving.stranded = true;
            self.in_flight_other += 1;
            self.ring.push(Operation::Shutdown { socket }, token::of(Kind::Hand, id));
        } else {
            self.leaving.remove(id);
        }
        match handed {
            Handed::Given => self.count(Own::HandedOn, 1),
            Handed::Shared => {
                self.count(Own::HandedOn, 1);
                self.close_other(socket);
                // Its name here is free when accepting goes on: the close is ahead in the queue.
                if !self.passage_is_crowded() {
                    self.entrance.accepting.relieved();
                }
            }
            Handed::Stranded => {
                self.turn_back(worker);
                self.worker.counters.refused.at(Refusal::Memory as usize).add(1);
            }
            Handed::Kept => {
                self.turn_back(worker);
                self.keep(socket);
            }
        }
    }

    /// One that was on its way never arrives.
    fn turn_back(&mut self, worker: usize) {
        self.count(Own::HandsFailed, 1);
        self.worker.handover.expect("somebody was sent").turned_back(worker);
        if self.stopping != Stopping::No {
            // That worker may wait for nothing else.
            self.ring.wake_others();
        }
    }

    /// One that holds a permit and could not be given away.
    fn keep(&mut self, socket: Socket) {
        if matches!(self.stopping, Stopping::Cutting { .. }) {
            self.refuse(socket, Refusal::Stopping);
            self.give_back_permit();
        } else if self.connections.len() as u32 >= self.worker.room {
            self.refuse(socket, Refusal::Descriptors);
            self.give_back_permit();
        } else {
            self.serve_here(socket);
        }
    }

    /// A socket from another worker, with its permit.
    pub(super) fn on_arrived(&mut self, done: Completion) {
        let handover = self.worker.handover.expect("sockets arrive only where they are handed on");
        let result = done.outcome().expect("a message of ours tells of a socket");
        let socket = self.ring.accepted(result);
        handover.arrived(self.worker.index);
        if matches!(self.stopping, Stopping::Cutting { .. }) {
            self.refuse(socket, Refusal::Stopping);
            self.give_back_permit();
            return handover.left(self.worker.index);
        }
        self.serve(socket);
    }

    /// A connection, or one that never became one, is gone.
    pub(super) fn give_back_permit(&mut self) {
        self.entrance.room_heard_of = true;
        if self.worker.admission.leave() {
            self.ring.wake_others();
        }
    }

    /// The server stops: nobody is sent any more. Only the worker with the listeners sends.
    pub(super) fn end_handing(&mut self) {
        if let Some(handover) = self.worker.handover.filter(|_| !self.entrance.listeners.is_empty()) {
            handover.end();
            self.ring.wake_others();
        }
    }

    /// Whether nobody may arrive any more.
    pub(super) fn nobody_comes(&self) -> bool {
        self.worker.handover.is_none_or(|handover| handover.nobody_comes(self.worker.index))
    }
}
