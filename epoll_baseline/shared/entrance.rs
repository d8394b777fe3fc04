//! Accepting, where all threads share the listeners. A listener's watch is one-shot like any other:
//! one thread at a time accepts, and a pause is a listener that is not armed again.

use super::super::Own;
use super::super::accepting::ACCEPTS_PER_TURN;
use super::super::connection::Connection;
use super::super::sockets::{EpollFlags, Sockets, Token};
use super::{NEVER, Thread, lock};
use crate::conn::accepting::Answer;
use crate::conn::machine::Refusal;
use crate::conn::{Accepting, ConnId};
use crate::worker;
use nix::errno::Errno;
use std::sync::atomic::Ordering::SeqCst;

/// The listeners, and whether connections are taken.
pub(super) struct Entrance<Listener> {
    /// By index; a closed one is gone.
    pub(super) listeners: Vec<Option<Listener>>,
    /// Listeners whose event came in vain: they are to be armed when the pause is over.
    unarmed: Vec<bool>,
    /// How many may still be taken from each at the stop.
    pub(super) queued: Vec<u32>,
    accepting: Accepting,
}

const LISTENER: EpollFlags = EpollFlags::EPOLLIN.union(EpollFlags::EPOLLONESHOT);
const NEWCOMER: EpollFlags = EpollFlags::EPOLLIN.union(EpollFlags::EPOLLRDHUP);

impl<Listener> Entrance<Listener> {
    /// Has the listeners watched.
    pub(super) fn new<S: Sockets<Listener = Listener>>(
        sockets: &S,
        listeners: Vec<Listener>,
        queued_max: u32,
    ) -> Result<Self, Errno> {
        for (index, listener) in listeners.iter().enumerate() {
            sockets.watch_listener(listener, Token::Listener(index), LISTENER)?;
        }
        Ok(Self {
            unarmed: vec![false; listeners.len()],
            queued: vec![queued_max; listeners.len()],
            listeners: listeners.into_iter().map(Some).collect(),
            accepting: Accepting::new(),
        })
    }
}

impl<S: Sockets> Thread<'_, S> {
    /// Takes some of those who are queued on this listener, then lets the next thread have it.
    pub(super) fn on_acceptable(&mut self, index: usize) {
        let state = self.state;
        let entrance = &mut *lock(&state.entrance);
        if state.stopping.has_begun() {
            return; // The thread that began the stop empties the queues.
        }
        entrance.unarmed[index] = true;
        if !entrance.accepting.is_paused() {
            self.accept_some(entrance, index);
        }
        if !entrance.accepting.is_paused() {
            self.arm_all(entrance);
        }
    }

    fn accept_some(&mut self, entrance: &mut Entrance<S::Listener>, index: usize) {
        for _ in 0..ACCEPTS_PER_TURN {
            if entrance.accepting.is_paused() {
                return;
            }
            if !self.admission.try_enter() {
                return self.on_full(entrance);
            }
            match self.accept(entrance, index) {
                Ok(socket) => match self.admit(socket) {
                    Some(_) => entrance.accepting.went_well(),
                    None => self.on_no_room(entrance),
                },
                Err(answer) => {
                    self.leave();
                    self.on_accept_failed(entrance, answer);
                    if answer == Answer::Nobody {
                        return;
                    }
                }
            }
        }
    }

    /// One accept, and the account of its errors.
    pub(super) fn accept(&self, entrance: &Entrance<S::Listener>, index: usize) -> Result<S::Socket, Answer> {
        let counters = self.tools.counters;
        let Some(listener) = &entrance.listeners[index] else { return Err(Answer::Nobody) };
        self.tools.call().accept(listener).map_err(|error| worker::accept_failed(error, counters))
    }

    /// A connection that has its permit gets its slot and its watch; `None` when the kernel has no
    /// room for the watch, and the connection is closed.
    pub(super) fn admit(&mut self, socket: S::Socket) -> Option<u32> {
        let slot = self.state.free_slot();
        let mut taken = self.take(slot);
        let id = ConnId { slot, generation: taken.generation };
        let interest = self.one_shot(NEWCOMER);
        // From here on there may be events; whoever gets one waits until the slot is let go.
        if self.tools.call().watch(&socket, Token::Connection(id), interest).is_err() {
            self.tools.call().close(socket);
            self.tools.counters.refused.at(Refusal::Memory as usize).add(1);
            drop(taken);
            lock(&self.state.free).slots.push(slot);
            self.leave();
            return None;
        }
        assert!(taken.connection.is_none(), "slot {slot} was free and taken at once");
        taken.connection = Some(Connection::new(socket, interest, self.tools.now));
        self.tools.counters.accepted.add(1);
        self.tools.counters.open.add(1);
        self.state.live.fetch_add(1, SeqCst);
        self.schedule(slot, &mut taken);
        Some(slot)
    }

    fn on_full(&self, entrance: &mut Entrance<S::Listener>) {
        let paused = entrance.accepting.full(self.tools.now, self.admission);
        self.note_pause(entrance, paused);
    }

    /// The kernel has no room for another watch.
    fn on_no_room(&self, entrance: &mut Entrance<S::Listener>) {
        let paused = entrance.accepting.starved(self.tools.now, self.admission);
        self.note_pause(entrance, paused);
    }

    fn on_accept_failed(&self, entrance: &mut Entrance<S::Listener>, answer: Answer) {
        let paused = entrance.accepting.failed(answer, self.tools.now, self.admission);
        self.note_pause(entrance, paused);
    }

    fn note_pause(&self, entrance: &Entrance<S::Listener>, paused: bool) {
        if paused {
            self.tools.count(Own::AcceptPauses);
            self.state.retry.store(entrance.accepting.retry().unwrap_or(NEVER), SeqCst);
        }
    }

    /// Ends a pause, if its reason is gone. No slot may be in hand.
    pub(super) fn resume(&mut self) {
        let state = self.state;
        let entrance = &mut *lock(&state.entrance);
        if state.stopping.has_begun() || !entrance.accepting.is_paused() {
            return;
        }
        let resumed = entrance.accepting.resume(self.tools.now, self.admission);
        // Also where it goes on for want of a permit: nobody is to be woken by a time then.
        state.retry.store(entrance.accepting.retry().unwrap_or(NEVER), SeqCst);
        if resumed {
            self.arm_all(entrance);
        }
    }

    /// Lets threads hear again of listeners whose event has been handled.
    fn arm_all(&mut self, entrance: &mut Entrance<S::Listener>) {
        for index in 0..entrance.listeners.len() {
            let (true, Some(listener)) = (entrance.unarmed[index], &entrance.listeners[index]) else {
                continue;
            };
            self.tools.count(Own::Rearmed);
            if self.tools.call().watch_listener_again(listener, Token::Listener(index), LISTENER).is_err() {
                return self.on_no_room(entrance);
            }
            entrance.unarmed[index] = false;
        }
    }
}
