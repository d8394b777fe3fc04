//! How connections come in: a listener's report is remembered, and after the batch some of those who are
//! queued are taken, while there is room. A pause costs no system call: nobody asks while it lasts. Part
//! of the event loop.

use super::connection::Connection;
use super::event_loop::EventLoop;
use super::sockets::{EpollFlags, Sockets, Token};
use super::{Own, counter};
use crate::conn::ConnId;
use crate::conn::accepting::Answer;
use crate::conn::machine::Refusal;
use crate::worker;

/// Connections taken per listener and turn, so that a burst of new peers does not hold up the old.
pub(super) const ACCEPTS_PER_TURN: u32 = 64;

/// Registered once and never modified. OUT has an edge only after the kernel refused bytes.
const EDGE: EpollFlags = EpollFlags::EPOLLIN
    .union(EpollFlags::EPOLLOUT)
    .union(EpollFlags::EPOLLRDHUP)
    .union(EpollFlags::EPOLLPRI)
    .union(EpollFlags::EPOLLET);
/// What a healthy connection is watched for. Anything else is asked for only while it is stuck.
const LEVEL: EpollFlags = EpollFlags::EPOLLIN.union(EpollFlags::EPOLLRDHUP);
/// A listener is edge-triggered in both modes: while accepting pauses, a level would have to be
/// switched off and on again, and an edge is simply remembered.
pub(super) const LISTENER: EpollFlags = EpollFlags::EPOLLIN.union(EpollFlags::EPOLLET);

/// A listener, and what is known of its queue.
pub(super) struct Listening<L> {
    pub(super) listener: L,
    /// True from the kernel's report until nobody was queued.
    pub(super) acceptable: bool,
    /// How many may still be taken at the stop.
    pub(super) queued: u32,
}

impl<S: Sockets> EventLoop<'_, S> {
    /// Remembered, and done after the batch: those who are here come first.
    pub(super) fn on_acceptable(&mut self, index: usize) {
        if let Some(listening) = self.listeners.get_mut(index) {
            listening.acceptable = true;
        }
    }

    /// Takes whoever is queued, unless accepting pauses.
    pub(super) fn accept_all(&mut self) {
        if self.stopping.is_none() && self.accepting.resume(self.tools.now, self.admission) {
            (0..self.listeners.len()).for_each(|index| self.accept_some(index));
        }
    }

    /// Takes some of those who are queued on one listener, until accepting pauses.
    fn accept_some(&mut self, index: usize) {
        for _ in 0..ACCEPTS_PER_TURN {
            if self.accepting.is_paused() || !self.listeners[index].acceptable {
                return;
            }
            if !self.admission.try_enter() {
                return self.on_full();
            }
            match self.accept(index) {
                Ok(socket) => match self.admit(socket) {
                    Some(_) => self.accepting.went_well(),
                    None => self.on_no_room(),
                },
                Err(answer) => {
                    self.leave();
                    self.listeners[index].acceptable = answer != Answer::Nobody;
                    self.on_accept_failed(answer);
                }
            }
        }
    }

    /// One accept, and the account of its errors.
    pub(super) fn accept(&self, index: usize) -> Result<S::Socket, Answer> {
        let counters = self.tools.counters;
        let listener = &self.listeners[index].listener;
        self.tools.call().accept(listener).map_err(|error| worker::accept_failed(error, counters))
    }

    /// A connection that has its permit gets its slot and its watch; `None` when the kernel has no
    /// room for the watch, and the connection is closed.
    pub(super) fn admit(&mut self, socket: S::Socket) -> Option<ConnId> {
        let interest = if self.edge { EDGE } else { LEVEL };
        let connection = Connection::new(socket, interest, self.tools.now);
        let id = self.connections.insert(connection).ok().expect("a permit without a slot");
        let socket = &self.connections.get(id).expect("just put in").socket;
        if self.tools.call().watch(socket, Token::Connection(id), interest).is_err() {
            let connection = self.connections.remove(id).expect("just put in");
            self.tools.call().close(connection.socket);
            self.tools.counters.refused.at(Refusal::Memory as usize).add(1);
            self.leave();
            return None;
        }
        self.tools.counters.accepted.add(1);
        self.tools.counters.open.add(1);
        self.schedule(id);
        Some(id)
    }

    fn on_full(&mut self) {
        let paused = self.accepting.full(self.tools.now, self.admission);
        self.count_pause(paused);
    }

    /// The kernel has no room for another watch.
    fn on_no_room(&mut self) {
        let paused = self.accepting.starved(self.tools.now, self.admission);
        self.count_pause(paused);
    }

    fn on_accept_failed(&mut self, answer: Answer) {
        let paused = self.accepting.failed(answer, self.tools.now, self.admission);
        self.count_pause(paused);
    }

    fn count_pause(&self, paused: bool) {
        counter(self.tools.counters, Own::AcceptPauses).add(u64::from(paused));
    }
}
