//! The engine of a load thread: one event loop over a [`Dialing`] kernel for all four workloads, open and
//! closed. It connects, sends, receives, compares, counts, and closes.
//!
//! It needs a ring and nothing else: no clock, system call or pointer stands here. All times are
//! nanoseconds since the origin of the run. Bytes that came back are stamped after the enter that brought
//! them, and messages before the enter that submits them: at most a batch too late and too early, so that
//! a time is never told shorter than it was.
//!
//! Absent on purpose: threads, signals and the phases of the run (`run`), the judgement (`judge`), and any
//! allocation, clock or map on the path of a message.

mod account;
mod closing;
mod connection;
mod dialing;
mod missed;
mod receiving;
mod sending;
mod stages;
#[cfg(test)]
mod tests;
mod times;
mod token;

use super::buffers::{Arena, Buffers};
use super::control::{Control, Reports, Spares};
use super::draw::message_size;
use super::pace::Pace;
use super::payload::Key;
use super::plan::{Arrivals, End, Plan, Workload};
use super::tally::Ended;
use crate::ring::{Completion, Dialing, Entered, Operation};
use account::{Account, Cost};
use connection::{Connection, Stamp};
use dialing::Dialer;
use sending::Silent;
use stages::Stage;
use std::collections::VecDeque;
use std::ops::Range;
use std::time::Duration;
use times::Times;
use token::Kind;

/// One thread's share of a load.
#[derive(Clone)]
pub struct Share<'a> {
    /// Its number, from 0.
    pub thread: usize,
    /// What is to be done.
    pub plan: &'a Plan,
    /// How far the run has come.
    pub control: &'a Control,
    /// Its connections, numbered over the whole load.
    pub connections: Range<u32>,
    /// Where it reports to.
    pub reports: Reports,
    /// CPU time of the calling thread so far.
    pub cpu: fn() -> Duration,
}

/// How the messages of a connection follow each other.
#[derive(Clone, Debug)]
enum Loop {
    /// As soon as one has come back.
    Closed,
    /// At their times.
    Open(Pace),
    /// As soon as the kernel has taken the one before.
    Stream,
}

/// One load thread's loop over its ring.
pub struct Engine<'a, R> {
    // The ring stands before the buffers: it is dropped first, and the kernel writes no more.
    ring: R,
    buffers: Buffers<'a>,
    share: Share<'a>,
    key: Key,
    order: Loop,
    churns: bool,
    /// Whether a number of messages ends the run.
    counted: bool,
    connections: Vec<Connection>,
    /// Of the messages on their way: message `m` of slot `s` has place `s * depth + m % depth`.
    stamps: Vec<Stamp>,
    depth: u32,
    times: Times,
    /// Who is to be looked at in this turn or, where there was no scratch, in the next.
    touched: Vec<u32>,
    touched_before: Vec<u32>,
    /// Who met an empty pool.
    starved: VecDeque<u32>,
    /// Sends not yet known to be over, in the order of their numbers.
    silent: VecDeque<Silent>,
    dialer: Dialer,
    account: Account,
    stage: Stage,
    /// After the last enter.
    now: u64,
    /// At most a few messages ago, and how many until it is read again.
    sending_at: u64,
    stamps_left: u32,
    /// When the load began, before the measurement.
    load_began: u64,
    /// When a message or a connection last came to its good end.
    succeeded_at: u64,
    /// Messages on their way.
    outstanding: u64,
    /// Connections that have something to send that was due in the window; known in the grace alone.
    behind: u32,
    /// When something was last begun after the window.
    caught_up_at: u64,
    /// Places among the counted messages that this thread has taken and not used.
    permits: u64,
    /// Counted messages that came back, or never will, since it was last said.
    finished: u64,
    /// Connections that stand.
    open: u32,
    /// Slots before this one have been told to end, once everything is being closed.
    closing: u32,
    /// Operations in flight for connections.
    in_flight: u64,
    /// Operations in flight for the thread itself.
    in_flight_other: u64,
    ended: Ended,
}

/// How a thread ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// Every connection is closed, and nothing is in flight.
    Closed,
    /// At once, with whatever was in flight: the memory has to stay.
    Cut,
}

impl<'a, R: Dialing> Engine<'a, R> {
    /// An engine over `ring`, which has been set up with the memory of `arena`. Everything it will need
    /// is laid out here. `spares` brings back the intervals that were reported, cleared.
    pub fn new(mut ring: R, arena: &'a Arena, share: Share<'a>, spares: Spares) -> Self {
        let plan = share.plan;
        let slots = share.connections.len() as u32;
        assert!(slots < token::SLOTS_MAX, "more connections than a thread can number");
        let stream = plan.workload == Workload::Stream;
        let depth = if stream { 0 } else { plan.depth.max(1) };
        let timed = matches!(plan.arrivals, Arrivals::Open { .. }) || plan.workload == Workload::Churn;
        let counted = matches!(plan.end, End::Messages(_));
        let order = match plan.arrivals {
            _ if stream => Loop::Stream,
            Arrivals::Closed => Loop::Closed,
            Arrivals::Open { rate, spacing } => {
                Loop::Open(Pace::new(rate, spacing, plan.connections, plan.seed))
            }
        };
        let mut this = Self {
            buffers: Buffers::new(arena, &mut ring),
            ring,
            key: Key::of(plan.seed),
            order,
            churns: plan.workload == Workload::Churn,
            counted,
            connections: share.connections.clone().map(Connection::new).collect(),
            stamps: vec![Stamp::default(); slots as usize * depth as usize],
            depth,
            // In a closed loop only who has to connect again has a time to wait for.
            times: Times::new(if timed { slots } else { 0 }),
            touched: Vec::with_capacity(slots as usize),
            touched_before: Vec::with_capacity(slots as usize),
            starved: VecDeque::with_capacity(slots as usize),
            // One at most for each connection, and one that failed and was not yet passed.
            silent: VecDeque::with_capacity(2 * slots as usize),
            dialer: Dialer::new(plan, slots),
            account: Account::new(share.thread, share.reports.clone(), spares, plan.interval, counted),
            stage: Stage::Ramping,
            now: 0,
            sending_at: 0,
            stamps_left: 0,
            load_began: u64::MAX,
            succeeded_at: 0,
            outstanding: 0,
            behind: 0,
            caught_up_at: 0,
            permits: 0,
            finished: 0,
            open: 0,
            closing: 0,
            in_flight: 0,
            in_flight_other: 0,
            ended: Ended::default(),
            share,
        };
        this.watch_wakeups();
        this
    }

    /// Loads until told to end, and says its last word.
    pub fn run(&mut self) -> (Ending, Ended) {
        loop {
            if let Some(ending) = self.turn() {
                return (ending, self.finish());
            }
        }
    }

    /// One turn: wait, pass edges, dispatch, time, send, repeat.
    pub fn turn(&mut self) -> Option<Ending> {
        if let Err(sentence) = self.enter() {
            self.ended.failure.get_or_insert(sentence);
            return Some(Ending::Cut);
        }
        self.now = self.ring.now().as_nanos() as u64;
        (self.sending_at, self.stamps_left) = (self.now, STAMPS);
        // Before what has come is counted: it has come after the edges.
        if let Some(ending) = self.obey() {
            return Some(ending);
        }
        while let Some(done) = self.ring.next_completion() {
            self.dispatch(done);
        }
        self.settle_silent();
        self.on_times();
        self.dial();
        self.close_some();
        self.advance_touched();
        self.ring.publish();
        self.rearm_starved();
        self.say_finished();
        None
    }

    /// The only place that blocks.
    fn enter(&mut self) -> Result<(), String> {
        let busy = !self.touched.is_empty() || self.has_to_close() || self.can_dial() || self.stage_is_over();
        let until = self.wake_at().map(Duration::from_nanos);
        match self.ring.enter(u32::from(!busy), until) {
            Entered::Done | Entered::Interrupted | Entered::Busy => Ok(()),
            Entered::CompletionsLost => Err("the kernel lost completions of the ring (EBADR: it was out of \
                 memory for them); use fewer connections, more threads, or --engine epoll"
                .into()),
            Entered::Failed(error) => Err(format!(
                "the kernel refuses to be entered: {} ({error:?}); use --engine epoll",
                error.desc()
            )),
        }
    }

    /// When to wake even if nothing happens.
    fn wake_at(&self) -> Option<u64> {
        let silence = if self.silent.is_empty() { u64::MAX } else { self.now + SILENCE_MAX };
        let time = if self.takes_times() { self.times.next().unwrap_or(u64::MAX) } else { u64::MAX };
        let wake = silence.min(time).min(self.next_to_dial()).min(self.account.next()).min(self.stage_ends());
        (wake != u64::MAX).then_some(wake)
    }

    fn dispatch(&mut self, done: Completion) {
        let Some((kind, id)) = token::read(done.token) else { return self.on_stale(done) };
        match kind {
            Kind::Wakeups => return self.on_woken(done),
            Kind::CancelWakeups => return self.in_flight_other -= 1,
            _ => {}
        }
        if self.connections.get(id.slot as usize).is_none_or(|connection| connection.life != id.life) {
            return self.on_stale(done);
        }
        if !done.more {
            self.connections[id.slot as usize].in_flight -= 1;
            self.in_flight -= 1;
        }
        match kind {
            Kind::Receive => self.on_received(id.slot, done),
            Kind::Send => self.on_sent(id.slot, done),
            Kind::Room => self.on_room(id.slot, done),
            Kind::Connect => self.on_connected(id.slot, done),
            Kind::Cancel => self.advance(id.slot),
            Kind::Close => self.on_closed(id.slot, done),
            Kind::Wakeups | Kind::CancelWakeups => unreachable!("dispatched above"),
        }
    }

    /// A completion for a life that is over: it must not happen, since a life ends only when nothing is
    /// in flight. It is counted, and what it brought goes back.
    #[cold]
    fn on_stale(&mut self, done: Completion) {
        self.ended.stale += 1;
        if let Some(buffer) = done.buffer {
            let received = self.buffers.take(buffer, 0);
            self.buffers.give_back(received, &mut self.ring);
        }
    }

    fn on_woken(&mut self, done: Completion) {
        if !done.more {
            self.in_flight_other -= 1;
            if self.stage != Stage::Leaving {
                self.watch_wakeups();
            }
        }
    }

    fn watch_wakeups(&mut self) {
        self.in_flight_other += 1;
        self.ring.push(Operation::Wakeups, token::of(Kind::Wakeups, token::NOBODY));
    }

    /// Asks the kernel for something of a connection.
    fn push(&mut self, operation: Operation, kind: Kind, slot: u32) {
        let connection = &mut self.connections[slot as usize];
        connection.in_flight += 1;
        self.in_flight += 1;
        self.ring.push(operation, token::of(kind, connection.id(slot)));
    }

    /// Asks the kernel to end something that it does for a connection.
    fn cancel(&mut self, kind: Kind, slot: u32) {
        let connection = &mut self.connections[slot as usize];
        connection.in_flight += 1;
        self.in_flight += 1;
        let (id, socket) = (connection.id(slot), connection.socket.expect("it does something with a socket"));
        self.ring.cancel(socket, token::of(kind, id), token::of(Kind::Cancel, id));
    }

    /// Has the connection looked at when the batch has been taken.
    fn touch(&mut self, slot: u32) {
        let connection = &mut self.connections[slot as usize];
        if !connection.touched {
            connection.touched = true;
            self.touched.push(slot);
        }
    }

    fn advance_touched(&mut self) {
        // Who finds no scratch is touched again, for the next turn.
        std::mem::swap(&mut self.touched, &mut self.touched_before);
        for index in 0..self.touched_before.len() {
            let slot = self.touched_before[index];
            self.connections[slot as usize].touched = false;
            self.advance(slot);
        }
        self.touched_before.clear();
    }

    /// Lets the connection's time come at `time`.
    fn schedule(&mut self, slot: u32, time: u64) {
        let connection = &mut self.connections[slot as usize];
        if !connection.scheduled {
            connection.scheduled = true;
            self.times.push(time, slot);
        }
    }

    fn on_times(&mut self) {
        if !self.takes_times() {
            return;
        }
        while let Some(slot) = self.times.pop(self.now) {
            let connection = &mut self.connections[slot as usize];
            connection.scheduled = false;
            if connection.state == connection::State::Waiting {
                self.connect(slot);
            } else {
                self.advance(slot);
            }
        }
    }

    /// Bytes of a message of a connection.
    #[inline]
    fn size(&self, connection: u32, message: u64) -> u64 {
        let plan = self.share.plan;
        u64::from(message_size(plan.seed, &plan.size, connection, message))
    }

    /// What the thread has spent so far.
    fn cost(ring: &R, share: &Share<'_>) -> Cost {
        Cost { cpu: (share.cpu)(), enters: ring.enters() }
    }
}

/// The numbers a connection's payload is made of: as many as a word can tell apart.
const NUMBERS: u32 = (1 << 28) - 1;
/// How long silent sends may go without being known to be over when nothing else happens, nanoseconds.
const SILENCE_MAX: u64 = 2_000_000;
/// Messages that may share one reading of the clock. A message takes about a microsecond.
const STAMPS: u32 = 32;
