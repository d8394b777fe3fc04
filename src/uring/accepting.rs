//! How connections come in: accept is armed on every listener while there is room, cancelled when
//! there is none, and armed again when a permit or a descriptor is free. Part of the event loop.

use super::buffers::Ownership;
use super::connection::Connection;
use super::ending::{Stopping, VISITS};
use super::event_loop::{EventLoop, Own};
use super::token::{self, Kind};
use crate::conn::accepting::Answer;
use crate::conn::machine::Refusal;
use crate::conn::{Accepting, ConnId};
use crate::ring::{Completion, Listening, Operation, Socket};
use crate::worker;
use nix::errno::Errno;

/// What the kernel has been asked of a listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Listener {
    /// Nothing.
    Idle,
    /// An accept is armed.
    Armed,
    /// An accept is armed and its cancel is under way.
    Cancelling,
    /// It is closed: the server stops.
    Closed,
}

/// The listeners of a worker, and whether connections are taken.
#[derive(Debug)]
pub(super) struct Entrance {
    pub(super) listeners: Vec<Listener>,
    /// How many may still be taken from each at the stop.
    queued: Vec<u32>,
    pub(super) accepting: Accepting,
    /// True when a permit or a descriptor may have come free since the last turn.
    pub(super) room_heard_of: bool,
    /// True when a queue was left, at the stop, with somebody in it.
    pub(super) has_more: bool,
}

impl Entrance {
    /// For so many listeners, in whose queues there are at most `queued_max` each.
    pub(super) fn new(listeners: usize, queued_max: u32) -> Self {
        Self {
            listeners: vec![Listener::Idle; listeners],
            queued: vec![queued_max; listeners],
            accepting: Accepting::new(),
            room_heard_of: false,
            has_more: false,
        }
    }

    pub(super) fn all_closed(&self) -> bool {
        self.listeners.iter().all(|&listener| listener == Listener::Closed)
    }
}

impl<R: Listening, K: Ownership> EventLoop<'_, R, K> {
    pub(super) fn arm_accepts(&mut self) {
        if self.entrance.accepting.is_paused() || self.stopping != Stopping::No {
            return;
        }
        for index in 0..self.entrance.listeners.len() {
            if self.entrance.listeners[index] == Listener::Idle {
                self.entrance.listeners[index] = Listener::Armed;
                self.in_flight_other += 1;
                self.count(Own::AcceptsArmed, 1);
                let token = token::of_listener(Kind::Accept, index);
                self.ring.push(Operation::Accept { listener: index }, token);
            }
        }
    }

    pub(super) fn on_accepted(&mut self, index: usize, done: Completion) {
        if !done.more {
            self.entrance.listeners[index] = Listener::Idle;
            self.in_flight_other -= 1;
        }
        match done.outcome() {
            // Whatever the state, a socket that was accepted is ours to serve or to close.
            Ok(result) => {
                self.entrance.accepting.went_well();
                let socket = self.ring.accepted(result);
                self.admit(socket);
            }
            Err(Errno::ECANCELED) => {}
            Err(error) => self.on_accept_failed(error),
        }
        if !done.more {
            self.arm_accepts();
        }
    }

    fn on_accept_failed(&mut self, error: Errno) {
        let answer = worker::accept_failed(error, self.worker.counters);
        if self.stopping == Stopping::No
            && self.entrance.accepting.failed(answer, self.now, self.worker.admission)
        {
            self.pause();
        }
    }

    /// Serves `socket`, or closes it at once when every permit is taken, or every place of this worker.
    ///
    /// The permits are looked at once, because another worker may give one back at any moment: who has no
    /// place here gets none of them, and the look says only why.
    pub(super) fn admit(&mut self, socket: Socket) {
        let cutting = matches!(self.stopping, Stopping::Cutting { .. });
        let no_place = self.is_full_here() && !self.may_pass_through();
        if !cutting && no_place {
            return self.turn_away(socket, self.worker.admission.is_full());
        }
        if cutting || !self.worker.admission.try_enter() {
            return self.turn_away(socket, true);
        }
        self.place(socket);
        if self.worker.admission.is_full() {
            self.on_full();
        } else if self.passage_is_crowded() {
            self.on_worker_full();
        }
    }

    /// Refuses `socket`: nobody is served any more, or every permit is taken; if not `by_all`, others may have
    /// a place.
    fn turn_away(&mut self, socket: Socket, by_all: bool) {
        if !by_all {
            self.refuse(socket, Refusal::Descriptors);
            return self.on_worker_full();
        }
        let stopping = self.stopping != Stopping::No;
        self.refuse(socket, if stopping { Refusal::Stopping } else { Refusal::Full });
        self.on_full();
    }

    /// Whether this worker can serve nobody more; those on their way to others have a name here too.
    pub(super) fn is_full_here(&self) -> bool {
        self.names_in_use() >= self.worker.room
    }

    /// Sockets this worker has a name for, but those it is closing.
    pub(super) fn names_in_use(&self) -> u32 {
        (self.connections.len() + self.leaving.len()) as u32
    }

    /// Serves `socket`, which holds a permit.
    pub(super) fn serve(&mut self, socket: Socket) {
        self.worker.counters.accepted.add(1);
        let inserted = self.connections.insert(Connection::new(socket, self.now));
        let id = inserted.expect("the worker had room");
        self.schedule(id);
        self.begin_drain(id);
        self.advance(id);
    }

    pub(super) fn refuse(&mut self, socket: Socket, cause: Refusal) {
        self.worker.counters.refused.at(cause as usize).add(1);
        self.close_other(socket);
    }

    /// Closes a socket that is no connection here.
    pub(super) fn close_other(&mut self, socket: Socket) {
        self.in_flight_other += 1;
        self.ring.push(Operation::Close { socket }, token::of_listener(Kind::CloseRefused, 0));
    }

    /// Its table of direct descriptors is used up, while others may have room: a pause like that for
    /// want of descriptors, which whoever leaves ends, and who has passed through.
    fn on_worker_full(&mut self) {
        if self.stopping == Stopping::No && self.entrance.accepting.starved(self.now, self.worker.admission) {
            self.pause();
        }
    }

    fn on_full(&mut self) {
        if self.stopping == Stopping::No && self.entrance.accepting.full(self.now, self.worker.admission) {
            self.pause();
        }
    }

    fn pause(&mut self) {
        self.count(Own::AcceptPauses, 1);
        self.cancel_accepts();
    }

    pub(super) fn cancel_accepts(&mut self) {
        for index in 0..self.entrance.listeners.len() {
            if self.entrance.listeners[index] == Listener::Armed {
                self.entrance.listeners[index] = Listener::Cancelling;
                self.in_flight_other += 1;
                let target = token::of_listener(Kind::Accept, index);
                self.ring.push(Operation::Cancel { target }, token::of_listener(Kind::CancelOther, index));
            }
        }
    }

    /// Accepts again when there may be room.
    pub(super) fn resume_accepting(&mut self) {
        let heard = std::mem::take(&mut self.entrance.room_heard_of);
        let accepting = &mut self.entrance.accepting;
        let due = accepting.retry().is_some_and(|retry| retry <= self.now);
        if accepting.is_paused() && (heard || due) && accepting.resume(self.now, self.worker.admission) {
            self.arm_accepts();
        }
    }

    /// At the stop: takes what the listener still has queued, so that completed handshakes are not
    /// reset, and closes it.
    pub(super) fn close_out(&mut self, index: usize) {
        if self.empty_queue(index) {
            self.ring.close_listener(index);
            self.entrance.listeners[index] = Listener::Closed;
        }
    }

    /// True when the listener may be closed: nobody is queued any more, or nothing that they lack will
    /// come free. While there is no room and somebody may still leave, of whichever worker, the queue
    /// waits: it is asked for again every turn, and who leaves elsewhere wakes us.
    fn empty_queue(&mut self, index: usize) -> bool {
        let draining = matches!(self.stopping, Stopping::Draining { .. });
        if draining {
            // Before anything is looked at, so that nobody can leave in between unnoticed.
            self.worker.admission.wait();
        }
        for _ in 0..VISITS {
            let somebody_leaves = draining && self.worker.admission.open() > 0;
            if self.entrance.queued[index] == 0 {
                return true;
            }
            if somebody_leaves && (self.worker.admission.is_full() || self.is_full_here()) {
                return false;
            }
            self.entrance.queued[index] -= 1;
            match self.ring.accept_queued(index) {
                Ok(socket) => self.admit(socket),
                Err(error) => match worker::accept_failed(error, self.worker.counters) {
                    Answer::Nobody => return true,
                    Answer::Next(_) => {}
                    Answer::Starved(_) => return !somebody_leaves,
                },
            }
        }
        self.entrance.has_more = true;
        false
    }

    /// Nobody reads what the wake-ups write, so a watch that is armed after the first of them reports at
    /// once. That does not spin: a watch ends only when there is no place for its report, and what took
    /// the place was news of something that happened; one report alone fits into every queue.
    pub(super) fn watch_wakeups(&mut self) {
        self.in_flight_other += 1;
        let token = token::of(Kind::Wakeups, ConnId { slot: 0, generation: 0 });
        self.ring.push(Operation::Wakeups, token);
    }

    /// Somebody woke us: the phase has changed, or there may be room for connections.
    pub(super) fn on_woken(&mut self, done: Completion) {
        self.entrance.room_heard_of = true;
        if !done.more {
            self.in_flight_other -= 1;
            if !self.finishing() {
                self.watch_wakeups();
            }
        }
    }
}
