//! The stop, where all threads share the connections. Whoever hears of it first begins it and empties
//! the listeners' queues; where there is no room, whoever makes some goes on with that. All who are awake
//! visit connections, some slots at a time.

use super::super::ending::{Queue, VISITS};
use super::super::sockets::Sockets;
use super::entrance::Entrance;
use super::{NEVER, Thread, lock};
use crate::conn::accepting::Answer;
use crate::conn::{CloseReason, Tick};
use crate::stop::Phase;
use crate::worker::Ending;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering::SeqCst};

/// How far the stop has come.
pub(super) struct Stopping {
    /// Set under the entrance's lock: whoever accepts afterwards knows of the stop.
    begun: AtomicBool,
    /// The thread that looks after the queues: the one that began it, then whoever makes room for those who wait.
    doorman: AtomicUsize,
    /// When what is left is cut.
    pub(super) deadline: AtomicU64,
    /// The next slot to visit, the slot to end before, and how many have been visited.
    next: AtomicU32,
    end: AtomicU32,
    visited: AtomicU32,
    listeners_closed: AtomicBool,
    /// Every queue that is left waits for room, and nobody has left since.
    waits: AtomicBool,
    /// True from the moment one thread closes everything.
    cutting: AtomicBool,
    /// Set once; all threads say the same.
    ending: OnceLock<Ending>,
}

impl Stopping {
    pub(super) fn new() -> Self {
        Self {
            begun: AtomicBool::new(false),
            doorman: AtomicUsize::new(usize::MAX),
            deadline: AtomicU64::new(NEVER),
            next: AtomicU32::new(0),
            end: AtomicU32::new(0),
            visited: AtomicU32::new(0),
            listeners_closed: AtomicBool::new(false),
            waits: AtomicBool::new(false),
            cutting: AtomicBool::new(false),
            ending: OnceLock::new(),
        }
    }

    pub(super) fn has_begun(&self) -> bool {
        self.begun.load(SeqCst)
    }

    fn all_visited(&self) -> bool {
        self.visited.load(SeqCst) == self.end.load(SeqCst)
    }
}

impl<S: Sockets> Thread<'_, S> {
    /// Whether the stop has work for this thread that no event announces.
    pub(super) fn has_to_stop_more(&self) -> bool {
        let stopping = &self.state.stopping;
        if !stopping.has_begun() || stopping.cutting.load(SeqCst) {
            return false;
        }
        let is_doorman = stopping.doorman.load(SeqCst) == self.index;
        stopping.next.load(SeqCst) < stopping.end.load(SeqCst)
            || (is_doorman && !stopping.listeners_closed.load(SeqCst) && !stopping.waits.load(SeqCst))
    }

    /// Stops as far as it was told to. `Some` when it is over.
    pub(super) fn obey_stop(&mut self) -> Option<Ending> {
        match self.stop.phase() {
            Phase::Running => return None,
            Phase::Draining => self.drain(),
            Phase::Cut => self.cut(),
        }
        self.state.stopping.ending.get().copied()
    }

    /// It is over: everybody is woken for good.
    fn end(&self, ending: Ending) {
        if self.state.stopping.ending.set(ending).is_ok() {
            self.tools.call().wake_for_good();
        }
    }

    /// One turn of the stop: visit some, take who is queued, look whether all are gone.
    fn drain(&mut self) {
        self.begin();
        let stopping = &self.state.stopping;
        self.visit_some();
        if stopping.doorman.load(SeqCst) == self.index && !stopping.listeners_closed.load(SeqCst) {
            self.empty_queues();
        }
        // Whoever did the last of the three sees the other two.
        let done = stopping.all_visited()
            && stopping.listeners_closed.load(SeqCst)
            && self.state.live.load(SeqCst) == 0
            // Asked last: those who are cut leave, too.
            && !stopping.cutting.load(SeqCst);
        if done {
            self.end(Ending::Drained);
        } else if self.tools.now >= stopping.deadline.load(SeqCst) {
            self.cut();
        }
    }

    fn begin(&mut self) {
        let state = self.state;
        let stopping = &state.stopping;
        if stopping.has_begun() {
            return;
        }
        let _entrance = lock(&state.entrance);
        if stopping.has_begun() {
            return;
        }
        let timeout = state.setting.drain_timeout.as_millis() as Tick;
        stopping.deadline.store(self.tools.now + timeout, SeqCst);
        stopping.end.store(state.high_water.load(SeqCst), SeqCst);
        // A pause is over, too: its end would be waited for in vain.
        state.retry.store(NEVER, SeqCst);
        stopping.doorman.store(self.index, SeqCst);
        stopping.begun.store(true, SeqCst);
    }

    /// Tells the next connections of the stop.
    fn visit_some(&mut self) {
        let stopping = &self.state.stopping;
        let end = stopping.end.load(SeqCst);
        let advance = |next| (next < end).then(|| end.min(next + VISITS));
        let Ok(first) = stopping.next.fetch_update(SeqCst, SeqCst, advance) else { return };
        let slots = first..end.min(first + VISITS);
        let count = slots.len() as u32;
        slots.for_each(|slot| self.visit(slot));
        stopping.visited.fetch_add(count, SeqCst);
    }

    /// Its watch is armed again, whether its event is in somebody's hands or not: an event too many
    /// does no harm, one too few would.
    fn visit(&mut self, slot: u32) {
        let mut taken = self.take(slot);
        if let Some(connection) = &mut taken.connection {
            let served = connection.on_stop(&mut self.tools);
            self.settle(slot, taken, &served);
        }
    }

    /// Takes who is queued, so that no finished handshake is reset, then closes the listeners.
    fn empty_queues(&mut self) {
        let state = self.state;
        let entrance = &mut *lock(&state.entrance);
        // Both before anything is looked at: whoever leaves afterwards looks at the queues in turn.
        state.stopping.waits.store(true, SeqCst);
        self.admission.wait();
        for index in 0..entrance.listeners.len() {
            if entrance.listeners[index].is_none() {
                continue;
            }
            match self.empty_queue(entrance, index) {
                Queue::Over => {
                    let listener = entrance.listeners[index].take().expect("just seen");
                    self.tools.call().close_listener(listener);
                }
                Queue::Waits => {}
                Queue::More => self.look_at_queues(),
            }
        }
        let closed = entrance.listeners.iter().all(Option::is_none);
        state.stopping.listeners_closed.store(closed, SeqCst);
    }

    /// As in a loop of its own: without room the queue waits for whoever leaves.
    fn empty_queue(&mut self, entrance: &mut Entrance<S::Listener>, index: usize) -> Queue {
        for _ in 0..VISITS {
            if entrance.queued[index] == 0 {
                return Queue::Over;
            }
            if self.admission.is_full() {
                return Queue::Waits;
            }
            match self.accept(entrance, index) {
                Ok(socket) => self.take_in(socket),
                Err(Answer::Nobody) => return Queue::Over,
                Err(Answer::Next(_)) => {}
                Err(Answer::Starved(_)) => return Queue::starved(self.admission),
            }
            entrance.queued[index] -= 1;
        }
        Queue::More
    }

    /// Serves one that was queued; or refuses it, when the last permit has just been taken.
    fn take_in(&mut self, socket: S::Socket) {
        if !self.admission.try_enter() {
            return self.tools.refuse_stopping(socket);
        }
        if let Some(slot) = self.admit(socket) {
            self.visit(slot);
        }
    }

    /// Somebody may have left. If a queue waits for that, this thread is the one that looks after it, before
    /// the end of its turn: nobody needs to be woken.
    pub(super) fn look_at_queues(&self) {
        let stopping = &self.state.stopping;
        if stopping.waits.load(SeqCst) && stopping.waits.swap(false, SeqCst) {
            stopping.doorman.store(self.index, SeqCst);
        }
    }

    /// Closes everything at once. One thread does it; the others hear of its end.
    fn cut(&mut self) {
        let state = self.state;
        if state.stopping.ending.get().is_some() || state.stopping.cutting.swap(true, SeqCst) {
            return;
        }
        let mut locked = lock(&state.entrance);
        state.stopping.begun.store(true, SeqCst);
        state.stopping.deadline.store(NEVER, SeqCst);
        state.retry.store(NEVER, SeqCst);
        let entrance = &mut *locked;
        for (listener, &queued) in entrance.listeners.iter_mut().zip(&entrance.queued) {
            let Some(listener) = listener.take() else { continue };
            self.tools.refuse_queued(&listener, queued);
            self.tools.call().close_listener(listener);
        }
        drop(locked);
        for slot in 0..state.high_water.load(SeqCst) {
            let taken = self.take(slot);
            if taken.connection.is_some() {
                self.close(slot, taken, CloseReason::Cut);
            }
        }
        self.end(Ending::Cut);
    }
}
