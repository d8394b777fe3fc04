//! One epoll instance served by many threads (`threads=shared`). Every watch is one-shot: an event
//! goes to one thread, which arms the watch again when it is done. A connection stands in a slot
//! with a lock of its own, taken once per event and never held while waiting.
//!
//! Locks are taken in this order and never the other way: entrance, slot, then one of free slots,
//! stuck, wheel. What would need an earlier lock (closing somebody else for the spill limit, arming
//! the listeners again) waits until the slot is free; see `Thread::afterwards`.
//!
//! Nobody's wake-up may be lost, though any thread can receive any event:
//! - A deadline: before a thread waits it compares the next one with the time at which some thread
//!   will wake anyway (`Shared::watched`); if it is earlier, this thread wakes then. One thread at a
//!   time sweeps.
//! - A permit or descriptor that comes free: who gives it back arms the listeners again. At the stop it
//!   looks after the queues that wait for it.
//! - The stop: whoever hears of it first does the work; threads that sleep on are not needed for it.
//!   The end wakes them all, by a level-triggered event that nobody takes away.
//!
//! Absent on purpose: `epoll_wait` under a lock; a table per thread, and its locality. That is what
//! `per-core` is for.

mod entrance;
mod stopping;

use super::connection::{Connection, Served, Tools};
use super::setting::Setting;
use super::sockets::{EpollFlags, Events, Kernel, Sockets, Token};
use super::{Own, counter};
use crate::config::Config;
use crate::conn::{Admission, CloseReason, ConnId, Deadlines, Queue, Step, Tick};
use crate::counters::Counters;
use crate::features::Trigger;
use crate::stop::Stop;
use crate::worker::{self, Ending, Failure, Laid, Worker};
use entrance::Entrance;
use nix::errno::Errno;
use std::net::TcpListener;
use std::ops::{Deref, DerefMut};
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::SeqCst};
use std::sync::{Mutex, MutexGuard, PoisonError, TryLockError};
use std::time::Duration;
use stopping::Stopping;

/// Events a thread takes at once: few, because what one thread holds no other can serve.
const EVENTS_PER_WAIT: usize = 16;
/// No time at all.
const NEVER: Tick = Tick::MAX;

/// The server that all threads share.
pub struct Shared {
    kernel: Kernel<'static>,
    state: State<TcpListener, OwnedFd>,
}

impl Shared {
    /// Lays everything out and has the listeners watched.
    ///
    /// # Errors
    /// When epoll cannot be set up.
    pub fn new(config: &Config, listeners: Vec<TcpListener>) -> Result<Self, Failure> {
        let kernel = Kernel::of_all().map_err(super::cannot_be_set_up)?;
        let setting = Setting::of(config, worker::limits(config), config.spill_limit);
        let state = State::new(&kernel, listeners, setting).map_err(super::cannot_be_set_up)?;
        Ok(Self { kernel, state })
    }

    /// Serves as one of the threads until told to stop. The worker's own listeners are not looked at.
    ///
    /// # Errors
    /// When the worker's waker cannot be watched.
    pub fn run(&self, worker: Worker<'_>) -> Result<Ending, Failure> {
        self.kernel.hear(worker.stop.waker(worker.index)).map_err(super::cannot_be_set_up)?;
        // Said once for each thread, of the one instance: the same again changes nothing.
        super::tune(&self.kernel, &worker)?;
        let (admission, counters, stop) = (worker.admission, worker.counters, worker.stop);
        let mut thread = Thread::new(&self.kernel, &self.state, worker.index, admission, counters, stop);
        (worker.ready)(self.state.laid(worker.index));
        loop {
            if let Some(ending) = thread.turn() {
                return Ok(ending);
            }
        }
    }
}

/// What all threads see.
pub(super) struct State<Listener, Socket> {
    setting: Setting,
    slots: Box<[Mutex<Slot<Socket>>]>,
    free: Mutex<Free>,
    /// Slots ever used: those beyond were never touched.
    high_water: AtomicU32,
    /// Connections in slots.
    live: AtomicU32,
    stuck: Mutex<Stuck>,
    wheel: Mutex<Deadlines>,
    /// When the wheel next wants to be looked at.
    next_due: AtomicU64,
    /// When some thread will wake at the latest.
    watched: AtomicU64,
    /// True while a thread sweeps the wheel.
    sweeping: AtomicBool,
    entrance: Mutex<Entrance<Listener>>,
    /// When to try again to accept, if a time is set.
    retry: AtomicU64,
    stopping: Stopping,
}

/// A place for one connection. Two never share a cache line.
#[repr(align(64))]
struct Slot<Socket> {
    generation: u32,
    /// Whether its deadline stands, or stood, in the wheel.
    timed: bool,
    /// Its unsent bytes, as far as they are in the books of the stuck.
    counted: usize,
    /// The thread that has it in hand.
    owner: Option<usize>,
    connection: Option<Connection<Socket>>,
}

/// Slots that can be used. Freed ones first, so that memory follows the most there ever were.
struct Free {
    slots: Vec<u32>,
}

/// Who is stuck, the longest without progress first, and what they hold together.
struct Stuck {
    queue: Queue,
    spilled: u64,
}

/// A lock whose holder cannot fail: a thread that panics ends the program.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A slot in a thread's hands: locked, and marked.
struct Taken<'a, Socket>(MutexGuard<'a, Slot<Socket>>);

impl<'a, Socket> Taken<'a, Socket> {
    fn new(mut slot: MutexGuard<'a, Slot<Socket>>, thread: usize) -> Self {
        assert_eq!(slot.owner, None, "two threads have one connection in hand");
        slot.owner = Some(thread);
        Self(slot)
    }
}

impl<Socket> Drop for Taken<'_, Socket> {
    fn drop(&mut self) {
        self.0.owner = None;
    }
}

impl<Socket> Deref for Taken<'_, Socket> {
    type Target = Slot<Socket>;
    fn deref(&self) -> &Slot<Socket> {
        &self.0
    }
}

impl<Socket> DerefMut for Taken<'_, Socket> {
    fn deref_mut(&mut self) -> &mut Slot<Socket> {
        &mut self.0
    }
}

impl<Listener, Socket> State<Listener, Socket> {
    pub(super) fn new<S>(sockets: &S, listeners: Vec<Listener>, setting: Setting) -> Result<Self, Errno>
    where
        S: Sockets<Listener = Listener, Socket = Socket>,
    {
        let capacity = setting.max_connections;
        let empty =
            || Mutex::new(Slot { generation: 0, timed: false, counted: 0, owner: None, connection: None });
        let now = sockets.now().as_millis() as Tick;
        Ok(Self {
            slots: (0..capacity).map(|_| empty()).collect(),
            free: Mutex::new(Free { slots: Vec::with_capacity(capacity as usize) }),
            high_water: AtomicU32::new(0),
            live: AtomicU32::new(0),
            stuck: Mutex::new(Stuck { queue: Queue::new(capacity), spilled: 0 }),
            wheel: Mutex::new(Deadlines::new(capacity, now)),
            next_due: AtomicU64::new(NEVER),
            watched: AtomicU64::new(NEVER),
            sweeping: AtomicBool::new(false),
            entrance: Mutex::new(Entrance::new(sockets, listeners, setting.queued_max)?),
            retry: AtomicU64::new(NEVER),
            stopping: Stopping::new(),
            setting,
        })
    }

    fn laid(&self, worker: usize) -> Laid {
        let mut memory = vec![("buffers", self.setting.buffers(EVENTS_PER_WAIT))];
        if worker == 0 {
            let slots = self.slots.len() as u64;
            memory.push(("connections", slots * size_of::<Mutex<Slot<Socket>>>() as u64));
            // One queue of 8 bytes a slot, a wheel of 16, a list of 4.
            memory.push(("queues", slots * (8 + 16 + 4)));
            memory.push(("spill", self.setting.spill_limit));
        }
        Laid { worker, memory, sizes: vec![("events", EVENTS_PER_WAIT as u64)], notes: Vec::new() }
    }

    /// A slot for one more connection. There is one for each permit.
    fn free_slot(&self) -> u32 {
        lock(&self.free).slots.pop().unwrap_or_else(|| {
            let slot = self.high_water.fetch_add(1, SeqCst);
            assert!((slot as usize) < self.slots.len(), "a permit without a slot");
            slot
        })
    }

    /// Has `slot` looked at when `due` has come.
    fn schedule(&self, slot: u32, due: Tick) {
        let mut wheel = lock(&self.wheel);
        wheel.schedule(slot, due);
        // A sweep says so itself at its end, under the same lock.
        if !self.sweeping.load(SeqCst) {
            self.next_due.store(wheel.next().unwrap_or(NEVER), SeqCst);
        }
    }
}

/// What waits until the thread has no slot in hand.
#[derive(Default)]
struct Afterwards {
    /// Stuck peers hold too much together.
    evict: bool,
    /// Somebody left for whom a listener waits.
    resume: bool,
}

/// One thread's part.
pub(super) struct Thread<'a, S: Sockets> {
    tools: Tools<'a, S>,
    state: &'a State<S::Listener, S::Socket>,
    index: usize,
    edge: bool,
    admission: &'a Admission,
    stop: &'a Stop,
    events: Events,
    /// The next event of the batch.
    next: usize,
    /// The deadline this thread wakes for.
    watching: Option<Tick>,
    afterwards: Afterwards,
}

impl<'a, S: Sockets> Thread<'a, S> {
    pub(super) fn new(
        sockets: &'a S,
        state: &'a State<S::Listener, S::Socket>,
        index: usize,
        admission: &'a Admission,
        counters: &'a Counters,
        stop: &'a Stop,
    ) -> Self {
        let setting = &state.setting;
        Self {
            tools: Tools::new(sockets, setting.limits, counters, setting.buffer_size, setting.read),
            state,
            index,
            edge: setting.trigger == Trigger::Edge,
            admission,
            stop,
            events: Events::new(EVENTS_PER_WAIT),
            next: 0,
            watching: None,
            afterwards: Afterwards::default(),
        }
    }

    /// One turn: wait, dispatch, look after what has no event. `Some` when it is over.
    pub(super) fn turn(&mut self) -> Option<Ending> {
        let until = self.wake_at();
        self.wait(until);
        while self.dispatch() {}
        self.look_after()
    }

    /// When to wake even if nothing happens: at the next deadline, if nobody else wakes in time for it.
    pub(super) fn wake_at(&mut self) -> Option<Duration> {
        if self.has_to_stop_more() {
            return Some(Duration::ZERO);
        }
        let state = self.state;
        let times = [&state.next_due, &state.retry, &state.stopping.deadline];
        let due = times.map(|time| time.load(SeqCst)).into_iter().min().unwrap_or(NEVER);
        let watches = |watched| (due < watched).then_some(due);
        state.watched.fetch_update(SeqCst, SeqCst, watches).ok()?;
        self.watching = Some(due);
        Some(Duration::from_millis(due))
    }

    /// The only place that blocks. No lock is held.
    pub(super) fn wait(&mut self, until: Option<Duration>) {
        counter(self.tools.counters, Own::Waits).add(1);
        let waited = self.tools.call().wait(&mut self.events, until);
        assert!(matches!(waited, Ok(()) | Err(Errno::EINTR)), "epoll_wait: {waited:?}");
        self.next = 0;
        if let Some(due) = self.watching.take() {
            // Unless somebody watches for an earlier time by now.
            let _ = self.state.watched.compare_exchange(due, NEVER, SeqCst, SeqCst);
        }
        counter(self.tools.counters, Own::Events).add(self.events.len() as u64);
        self.tools.now = self.tools.sockets.now().as_millis() as Tick;
    }

    /// Handles the next event of the batch; false when there is none.
    pub(super) fn dispatch(&mut self) -> bool {
        if self.next == self.events.len() {
            return false;
        }
        let (token, ready) = self.events.at(self.next);
        self.next += 1;
        match token {
            Token::Connection(id) => self.on_ready(id, ready),
            Token::Listener(index) => self.on_acceptable(index),
            // A permit may be free; the end of the turn looks for the stop.
            Token::Waker => {
                self.afterwards.resume = true;
                self.look_at_queues();
            }
        }
        self.afterwards();
        true
    }

    /// What has no event: deadlines, a pause that is over, the stop.
    pub(super) fn look_after(&mut self) -> Option<Ending> {
        self.sweep();
        if self.tools.now >= self.state.retry.load(SeqCst) {
            self.resume();
        }
        let ending = self.obey_stop();
        self.afterwards();
        ending
    }

    /// Something may be done for this connection, unless it is gone.
    fn on_ready(&mut self, id: ConnId, ready: EpollFlags) {
        let mut taken = self.take(id.slot);
        match &mut *taken {
            Slot { generation, connection: Some(connection), .. } if *generation == id.generation => {
                let served = connection.on_ready(ready, &mut self.tools);
                self.settle(id.slot, taken, &served);
            }
            _ => self.tools.counters.stale_events.add(1),
        }
    }

    /// Takes a slot in hand: the one lock of an event.
    fn take(&self, slot: u32) -> Taken<'a, S::Socket> {
        let mutex = &self.state.slots[slot as usize];
        let slot = match mutex.try_lock() {
            Ok(slot) => slot,
            Err(TryLockError::WouldBlock) => {
                self.tools.count(Own::LocksAwaited);
                lock(mutex)
            }
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
        };
        Taken::new(slot, self.index)
    }

    /// Keeps the books after a connection was served, and arms its watch again.
    fn settle(&mut self, slot: u32, mut taken: Taken<'a, S::Socket>, served: &Served) {
        if let Step::Close(reason) = served.step {
            return self.close(slot, taken, reason);
        }
        if taken.counted + served.unsent > 0 {
            self.queue_stuck(slot, &mut taken, served);
        }
        if self.state.stopping.has_begun() {
            self.schedule(slot, &mut taken);
        }
        let id = ConnId { slot, generation: taken.generation };
        let connection = taken.connection.as_mut().expect("it was just served");
        connection.forget_readable();
        connection.interest = self.one_shot(connection.wanted(&self.tools.limits));
        self.tools.count(Own::Rearmed);
        let call = self.tools.call();
        if call.watch_again(&connection.socket, Token::Connection(id), connection.interest).is_err() {
            self.close(slot, taken, CloseReason::Failed);
        }
    }

    /// What a watch is armed with. Arming reports what is ready already, by edge too; so an urgent
    /// mark needs no flag of its own here, and would be reported again and again to a peer that is
    /// not read.
    fn one_shot(&self, wanted: EpollFlags) -> EpollFlags {
        let trigger = if self.edge { EpollFlags::EPOLLET } else { EpollFlags::empty() };
        wanted | trigger | EpollFlags::EPOLLONESHOT
    }

    /// A connection is or was stuck: the books of the stuck and its deadline follow.
    fn queue_stuck(&mut self, slot: u32, taken: &mut Taken<'_, S::Socket>, served: &Served) {
        let before = std::mem::replace(&mut taken.counted, served.unsent) as u64;
        let spilled = &self.tools.counters.spilled;
        spilled.add(served.unsent as u64);
        spilled.subtract(before);
        let mut stuck = lock(&self.state.stuck);
        stuck.spilled = stuck.spilled - before + served.unsent as u64;
        let stood = stuck.queue.contains(slot);
        if stood && (served.progress || served.unsent == 0) {
            stuck.queue.remove(slot);
        }
        if served.unsent > 0 && (!stood || served.progress) {
            stuck.queue.push_back(slot);
        }
        self.afterwards.evict |= stuck.spilled > self.state.setting.spill_limit;
        drop(stuck);
        // Also when it is no longer stuck: without a write timeout it stood nowhere in the wheel.
        self.schedule(slot, taken);
    }

    /// Has the deadline looked at, if there is one.
    fn schedule(&self, slot: u32, taken: &mut Taken<'_, S::Socket>) {
        let deadline =
            taken.connection.as_ref().and_then(|connection| connection.machine.deadline(&self.tools.limits));
        if let Some(due) = deadline {
            taken.timed = true;
            self.state.schedule(slot, due);
        }
    }

    /// With no slot in hand: what could not be done with one.
    fn afterwards(&mut self) {
        if std::mem::take(&mut self.afterwards.evict) {
            self.evict();
        }
        if std::mem::take(&mut self.afterwards.resume) {
            self.resume();
        }
    }

    /// Closes the longest stuck until the rest is within the limit.
    fn evict(&mut self) {
        let too_much = |stuck: &Stuck| stuck.spilled > self.state.setting.spill_limit;
        loop {
            let stuck = lock(&self.state.stuck);
            let longest = if too_much(&stuck) { stuck.queue.front() } else { None };
            drop(stuck);
            let Some(slot) = longest else { return };
            let taken = self.take(slot);
            // Somebody may have been quicker, or the peer may have read: look again.
            let stuck = lock(&self.state.stuck);
            let still = too_much(&stuck) && stuck.queue.front() == Some(slot);
            drop(stuck);
            if still {
                self.close(slot, taken, CloseReason::SpillFull);
            }
        }
    }

    /// Closes whoever's time has come. One thread at a time.
    fn sweep(&mut self) {
        if self.tools.now < self.state.next_due.load(SeqCst) || self.state.sweeping.swap(true, SeqCst) {
            return;
        }
        // Nobody else needs to wake for what is being done.
        self.state.next_due.store(NEVER, SeqCst);
        while let Some(slot) = self.due() {
            self.tools.count(Own::DeadlineSteps);
            self.expire(slot);
        }
    }

    /// The next slot whose time may have come; when there is none, the sweep is over.
    fn due(&self) -> Option<u32> {
        let mut wheel = lock(&self.state.wheel);
        let popped = wheel.pop(self.tools.now);
        if popped.is_none() {
            self.state.next_due.store(wheel.next().unwrap_or(NEVER), SeqCst);
            self.state.sweeping.store(false, SeqCst);
        }
        popped
    }

    /// Looks at one whose time may have come.
    fn expire(&mut self, slot: u32) {
        let mut taken = self.take(slot);
        let Some(connection) = &mut taken.connection else { return };
        if connection.machine.expired(self.tools.now, &self.tools.limits).is_none() {
            return self.schedule(slot, &mut taken);
        }
        let served = connection.on_overdue(self.tools.now, &mut self.tools);
        self.schedule(slot, &mut taken);
        self.settle(slot, taken, &served);
    }

    /// Ends a connection and its socket. The slot is free once nobody has it in hand.
    fn close(&mut self, slot: u32, mut taken: Taken<'a, S::Socket>, reason: CloseReason) {
        let connection = taken.connection.take().expect("a connection is closed once");
        taken.generation = taken.generation.wrapping_add(1);
        self.forget(slot, &mut taken);
        self.tools.counters.closed.at(reason as usize).add(1);
        self.tools.counters.open.subtract(1);
        let socket = connection.end(&mut self.tools.spares);
        self.tools.call().close(socket);
        drop(taken);
        lock(&self.state.free).slots.push(slot);
        self.state.live.fetch_sub(1, SeqCst);
        self.leave();
    }

    /// Gives a permit back, and remembers who waits for it.
    pub(super) fn leave(&mut self) {
        self.afterwards.resume |= self.admission.leave();
        self.look_at_queues();
    }

    /// Takes a connection that ends out of the books.
    fn forget(&self, slot: u32, taken: &mut Taken<'_, S::Socket>) {
        let counted = std::mem::take(&mut taken.counted);
        if counted > 0 {
            self.tools.counters.spilled.subtract(counted as u64);
            let mut stuck = lock(&self.state.stuck);
            stuck.spilled -= counted as u64;
            stuck.queue.remove(slot);
        }
        if std::mem::take(&mut taken.timed) {
            lock(&self.state.wheel).remove(slot);
        }
    }
}
