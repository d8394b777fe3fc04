//! The readiness loop of one worker (`threads=per-core`): an epoll instance, a table and listeners of
//! its own. Read it next to the event loop in `src/uring`.
//!
//! The life of a connection, in steps: 1. `on_acceptable` takes it, under a permit, and has it
//! watched, once. 2. `on_ready` receives and sends; what the kernel would not take is copied, and the
//! connection stands among the stuck. 3. It ends by its machine's word, by its deadline, by the spill
//! limit or by the stop: `close` frees its slot with its socket; an event still in the batch has an
//! old generation and is counted.
//!
//! Absent on purpose: system calls and the clock (they are behind [`Sockets`]), and any choice that
//! is policy. Accepting is in `accepting`, receiving and sending in `connection`, the end in `ending`.

use super::accepting::{LISTENER, Listening};
use super::connection::{Connection, Served, Tools};
use super::ending::Stopping;
use super::setting::Setting;
use super::sockets::{EpollFlags, Events, Kernel, Sockets, Token};
use super::{Own, counter};
use crate::conn::{Accepting, Admission, CloseReason, ConnId, Deadlines, Queue, Step, Table, Tick};
use crate::counters::Counters;
use crate::stop::Stop;
use crate::worker::{Ending, Failure, Worker};
use nix::errno::Errno;
use std::time::Duration;

/// Events taken from the kernel at once. More would make batches longer than the first-level cache
/// remembers; fewer would make more waits.
const EVENTS_PER_WAIT: usize = 256;

/// Serves until told to stop.
///
/// # Errors
/// When epoll cannot be set up.
pub fn run(worker: Worker<'_>) -> Result<Ending, Failure> {
    let failed = super::cannot_be_set_up;
    let kernel = Kernel::of_worker(worker.stop, worker.index).map_err(failed)?;
    super::tune(&kernel, &worker)?;
    let setting = Setting::of(worker.config, worker.limits(), worker.spill_limit());
    let mut event_loop =
        EventLoop::new(&kernel, worker.listeners, &setting, worker.admission, worker.counters, worker.stop)
            .map_err(failed)?;
    (worker.ready)(setting.laid(worker.index, EVENTS_PER_WAIT));
    loop {
        if let Some(ending) = event_loop.turn() {
            return Ok(ending);
        }
    }
}

/// The loop of one worker.
pub(super) struct EventLoop<'a, S: Sockets> {
    pub(super) tools: Tools<'a, S>,
    pub(super) edge: bool,
    pub(super) drain_timeout: Duration,
    pub(super) spill_limit: u64,
    pub(super) admission: &'a Admission,
    pub(super) stop: &'a Stop,
    pub(super) connections: Table<Connection<S::Socket>>,
    /// Who has more to read than an event may cost.
    pub(super) ready: Queue,
    /// Who is stuck, the longest without progress first.
    pub(super) stuck: Queue,
    pub(super) spilled: u64,
    pub(super) deadlines: Deadlines,
    pub(super) listeners: Vec<Listening<S::Listener>>,
    pub(super) accepting: Accepting,
    pub(super) stopping: Option<Stopping>,
    pub(super) events: Events,
    /// Whether the kernel had nothing to report.
    pub(super) quiet: bool,
    /// When the last wait began. Only what was due then may expire: the process may have been stopped
    /// between the kernel's answer and the clock, while bytes arrived.
    pub(super) asked: Tick,
}

impl<'a, S: Sockets> EventLoop<'a, S> {
    /// Lays everything out, and has the listeners watched.
    ///
    /// # Errors
    /// When the kernel has no memory or no room for another watch.
    pub(super) fn new(
        sockets: &'a S,
        listeners: Vec<S::Listener>,
        setting: &Setting,
        admission: &'a Admission,
        counters: &'a Counters,
        stop: &'a Stop,
    ) -> Result<Self, Errno> {
        for (index, listener) in listeners.iter().enumerate() {
            sockets.watch_listener(listener, Token::Listener(index), LISTENER)?;
        }
        let tools = Tools::new(sockets, setting.limits, counters, setting.buffer_size, setting.read);
        let capacity = setting.max_connections;
        Ok(Self {
            edge: setting.is_edge(),
            drain_timeout: setting.drain_timeout,
            spill_limit: setting.spill_limit,
            admission,
            stop,
            connections: Table::new(capacity),
            ready: Queue::new(capacity),
            stuck: Queue::new(capacity),
            spilled: 0,
            deadlines: Deadlines::new(capacity, tools.now),
            listeners: listeners
                .into_iter()
                .map(|listener| Listening { listener, acceptable: true, queued: setting.queued_max })
                .collect(),
            accepting: Accepting::new(),
            stopping: None,
            events: Events::new(EVENTS_PER_WAIT),
            quiet: false,
            asked: 0,
            tools,
        })
    }

    /// One turn: wait, dispatch, look after what has no event. `Some` when it is over.
    pub(super) fn turn(&mut self) -> Option<Ending> {
        self.wait();
        self.dispatch_all();
        self.serve_ready();
        self.expire();
        // After everything that closes: who leaves in this turn makes room in this turn.
        self.accept_all();
        self.obey_stop()
    }

    /// The only place that blocks.
    fn wait(&mut self) {
        let until = self.wake_at();
        self.asked = self.tools.now;
        counter(self.tools.counters, Own::Waits).add(1);
        let waited = self.tools.call().wait(&mut self.events, until);
        assert!(matches!(waited, Ok(()) | Err(Errno::EINTR)), "epoll_wait: {waited:?}");
        counter(self.tools.counters, Own::Events).add(self.events.len() as u64);
        self.quiet = waited.is_ok() && self.events.is_empty();
        self.tools.now = self.tools.sockets.now().as_millis() as Tick;
    }

    /// When to wake even if nothing happens; at once when something is to be done.
    pub(super) fn wake_at(&self) -> Option<Duration> {
        let accepting = self.stopping.is_none() && !self.accepting.is_paused();
        let acceptable = accepting && self.listeners.iter().any(|one| one.acceptable);
        let visiting = self.stopping.as_ref().is_some_and(|stopping| {
            stopping.next < self.connections.high_water() || !(self.listeners.is_empty() || stopping.waits)
        });
        if acceptable || visiting || !self.ready.is_empty() {
            return Some(Duration::ZERO);
        }
        let ticks = [self.deadlines.next(), self.accepting.retry()].into_iter().flatten().min();
        let deadline = self.stopping.as_ref().map(|stopping| stopping.deadline);
        [ticks.map(Duration::from_millis), deadline].into_iter().flatten().min()
    }

    fn dispatch_all(&mut self) {
        for index in 0..self.events.len() {
            let (token, ready) = self.events.at(index);
            match token {
                Token::Connection(id) => self.on_ready(id, ready),
                Token::Listener(index) => self.on_acceptable(index),
                // The end of the turn looks for what the wake-up was about.
                Token::Waker => {}
            }
        }
    }

    /// Something may be done for this connection, unless it is gone.
    fn on_ready(&mut self, id: ConnId, ready: EpollFlags) {
        let Some(connection) = self.connections.get_mut(id) else {
            self.tools.counters.stale_events.add(1);
            return;
        };
        let served = connection.on_ready(ready, &mut self.tools);
        self.settle(id, &served);
    }

    /// Who had more to read than an event may cost has another turn, in order.
    fn serve_ready(&mut self) {
        for _ in 0..self.ready.len() {
            let Some(slot) = self.ready.pop_front() else { return };
            let id = self.connections.id_at(slot).expect("who is closed leaves the ready list");
            self.tools.count(Own::ReadyList);
            self.on_ready(id, EpollFlags::empty());
        }
    }

    /// Keeps the books after a connection was served. A healthy one touches none of them.
    pub(super) fn settle(&mut self, id: ConnId, served: &Served) {
        if served.unsent_before != served.unsent {
            self.spilled = self.spilled - served.unsent_before as u64 + served.unsent as u64;
            self.tools.counters.spilled.set(self.spilled);
        }
        if let Step::Close(reason) = served.step {
            self.close(id, reason);
            return;
        }
        if served.unsent_before + served.unsent > 0 {
            self.queue_stuck(id, served);
        }
        if self.stopping.is_some() {
            self.schedule(id);
        }
        let Some(connection) = self.connections.get_mut(id) else { return };
        if !self.edge {
            // The kernel reports again what is still there.
            connection.forget_readable();
            self.follow_interest(id);
        } else if connection.has_more(&self.tools.limits) && !self.ready.contains(id.slot) {
            self.ready.push_back(id.slot);
        }
    }

    /// A connection is or was stuck: the queue of the stuck and its deadline follow, and whoever has
    /// been stuck longest makes room when they hold too much together.
    fn queue_stuck(&mut self, id: ConnId, served: &Served) {
        let stood = self.stuck.contains(id.slot);
        if stood && (served.progress || served.unsent == 0) {
            self.stuck.remove(id.slot);
        }
        if served.unsent > 0 && (!stood || served.progress) {
            self.stuck.push_back(id.slot);
        }
        // Also when it is no longer stuck: without a write timeout it stood nowhere in the wheel.
        self.schedule(id);
        while self.spilled > self.spill_limit {
            let slot = self.stuck.front().expect("spilled bytes belong to the stuck");
            let longest = self.connections.id_at(slot).expect("who is closed leaves the stuck");
            self.close(longest, CloseReason::SpillFull);
        }
    }

    /// By level, the kernel is told when something else is worth a report. Only the stuck are.
    fn follow_interest(&mut self, id: ConnId) {
        let Some(connection) = self.connections.get_mut(id) else { return };
        let wanted = connection.wanted(&self.tools.limits);
        if wanted == connection.interest {
            return;
        }
        connection.interest = wanted;
        self.tools.count(Own::InterestChanges);
        if self.tools.call().watch_again(&connection.socket, Token::Connection(id), wanted).is_err() {
            self.close(id, CloseReason::Failed);
        }
    }

    /// Closes whoever's time has come.
    fn expire(&mut self) {
        // When the server stops, nobody waits for quiet: those who linger would never let it come.
        let quiet = (self.quiet && self.ready.is_empty()) || self.stopping.is_some();
        if !self.deadlines.ripe(self.asked, quiet) {
            return;
        }
        while let Some(slot) = self.deadlines.pop(self.asked) {
            let id = self.connections.id_at(slot).expect("who is closed leaves the wheel");
            let connection = self.connections.get_mut(id).expect("just found");
            if connection.machine.expired(self.asked, &self.tools.limits).is_some() {
                let served = connection.on_overdue(self.asked, &mut self.tools);
                self.settle(id, &served);
            }
            self.schedule(id);
        }
        counter(self.tools.counters, Own::DeadlineSteps).set(self.deadlines.steps());
    }

    /// Has the deadline looked at, if there is one.
    pub(super) fn schedule(&mut self, id: ConnId) {
        let Some(connection) = self.connections.get(id) else { return };
        if let Some(due) = connection.machine.deadline(&self.tools.limits) {
            self.deadlines.schedule(id.slot, due);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::COUNTERS;
    use super::*;
    use crate::conn::machine::Refusal;
    use crate::stop::Phase;
    use std::io::{Read as _, Write as _};
    use std::net::{TcpListener, TcpStream};

    const SETTING: Setting = Setting::FOR_TESTS;

    fn listener() -> TcpListener {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        listener
    }

    fn connect(listener: &TcpListener) -> TcpStream {
        TcpStream::connect(listener.local_addr().unwrap()).unwrap()
    }

    fn with_loop(
        listeners: Vec<TcpListener>,
        test: impl FnOnce(EventLoop<'_, Kernel<'_>>, &Counters, &Stop),
    ) {
        let admission = Admission::new(SETTING.max_connections);
        let counters = Counters::new(CloseReason::NAMES, Refusal::NAMES, COUNTERS);
        let stop = Stop::new(1).unwrap();
        let kernel = Kernel::of_worker(&stop, 0).unwrap();
        let event_loop = EventLoop::new(&kernel, listeners, &SETTING, &admission, &counters, &stop).unwrap();
        test(event_loop, &counters, &stop);
    }

    #[test]
    fn bytes_that_no_event_has_told_of_keep_a_connection_from_being_idled_out() {
        let listener = listener();
        let mut peer = connect(&listener);
        with_loop(vec![listener], |mut event_loop, counters, _| {
            event_loop.accept_all();
            assert_eq!(counters.accepted.get(), 1);
            // Its time has come, and the batch that would tell of its bytes has not been fetched.
            peer.write_all(b"late").unwrap();
            let mut overdue = || {
                event_loop.tools.now += 1000;
                (event_loop.asked, event_loop.quiet) = (event_loop.tools.now, true);
                event_loop.expire();
                counters.closed.at(CloseReason::IdleTimeout as usize).get()
            };
            assert_eq!(overdue(), 0);
            let mut echo = [0; 4];
            peer.read_exact(&mut echo).unwrap();
            assert_eq!(&echo, b"late");
            assert_eq!(overdue(), 1, "now it is silent");
        });
    }

    #[test]
    fn at_the_stop_each_listener_has_a_queue_of_its_own_to_empty() {
        let listeners = [listener(), listener()];
        let peers: Vec<_> = listeners.iter().flat_map(|one| [connect(one), connect(one)]).collect();
        with_loop(listeners.into(), |mut event_loop, counters, stop| {
            stop.advance(Phase::Draining);
            let _ = event_loop.obey_stop();
            assert_eq!(counters.accepted.get(), peers.len() as u64);
            assert!(event_loop.listeners.is_empty());
        });
    }
}
