//! How a connection ends, and how the worker ends. Part of the event loop.
//!
//! One rule carries both: nothing is freed while the kernel may touch it. A connection is closed
//! when everything it has in flight has been answered, its slot is free when the close has been
//! answered, and the worker is done when nothing at all is in flight.

use super::accepting::Listener;
use super::buffers::Ownership;
use super::connection::{Kept, Receiving, Stage, Watching};
use super::event_loop::EventLoop;
use super::token::{self, Kind};
use crate::conn::machine::{CloseReason, Phase};
use crate::conn::{ConnId, Tick};
use crate::ring::{Completion, Listening, Operation};
use crate::stop;
use crate::worker::Ending;

/// Connections visited, or taken from a queue, per turn when the server stops, so that their completions are taken in
/// between and the completion queue does not fill up.
pub(super) const VISITS: u32 = 256;
/// How long closing everything may take once the server is told to cut, milliseconds. The kernel
/// closes the rest with the process.
const CUT_MAX: Tick = 100;
/// What is taken to have arrived where the kernel cannot be asked (before Linux 6.7 a direct descriptor
/// has no SIOCINQ): the default maximum of a receive buffer (net.ipv4.tcp_rmem). Reading ends earlier,
/// at would-block.
const ARRIVED_MAX: u32 = 6 * 1024 * 1024;

/// How far the stop of this worker has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stopping {
    /// It serves.
    No,
    /// What had arrived is echoed, then every connection is closed.
    Draining {
        /// The next slot to visit.
        next: u32,
        /// When connections are cut.
        deadline: Tick,
    },
    /// Every connection is closed, whatever it is owed.
    Cutting {
        /// The next slot to visit.
        next: u32,
        /// When the rest is left to the end of the process.
        deadline: Tick,
    },
    /// Everything is closed; only the wake-ups are still to be cancelled.
    Finishing {
        /// What is to be told.
        ending: Ending,
    },
}

impl Stopping {
    /// When the worker has to wake for it.
    pub(super) const fn deadline(self) -> Option<Tick> {
        match self {
            Self::Draining { deadline, .. } | Self::Cutting { deadline, .. } => Some(deadline),
            Self::No | Self::Finishing { .. } => None,
        }
    }

    /// Whether connections are still to be visited, so that the loop must not block.
    pub(super) const fn has_more_to_visit(self) -> bool {
        matches!(self, Self::Draining { next, .. } | Self::Cutting { next, .. } if next != u32::MAX)
    }
}

impl<R: Listening, K: Ownership> EventLoop<'_, R, K> {
    /// Ends a connection: its operations are cancelled, then awaited, then it is closed. Called
    /// again after each of their completions.
    pub(super) fn end(&mut self, id: ConnId, reason: CloseReason) {
        let connection = self.connections.get_mut(id).expect("the caller looked it up");
        connection.machine.close(reason);
        if !connection.is_ending() {
            self.forget(id);
            self.cancel_all(id);
        }
        let connection = self.connections.get_mut(id).expect("still there");
        if connection.in_flight == connection.awaits_notice() && connection.stage != Stage::Closing {
            if connection.stage == (Stage::Ending { holds_chunk: true }) {
                connection.stage = Stage::Ending { holds_chunk: false };
                self.chunks_awaited -= 1;
            }
            self.buffers.clear(&mut connection.queue, 0, &mut self.ring);
            connection.stage = Stage::Closing;
            connection.in_flight += 1;
            self.in_flight += 1;
            let operation = Operation::Close { socket: connection.socket };
            self.ring.push(operation, token::of(Kind::Close, id));
        }
    }

    /// Takes it out of every queue, and gives back what the kernel is not reading.
    fn forget(&mut self, id: ConnId) {
        self.starved.remove(id.slot);
        self.stuck.remove(id.slot);
        self.unspilled.remove(id.slot);
        self.deadlines.remove(id.slot);
        let connection = self.connections.get_mut(id).expect("the caller looked it up");
        let kept = if connection.sending { connection.offered } else { 0 };
        self.buffers.clear(&mut connection.queue, kept, &mut self.ring);
        connection.stage = Stage::Ending { holds_chunk: connection.sending };
        self.chunks_awaited += u32::from(connection.sending);
    }

    fn cancel_all(&mut self, id: ConnId) {
        let connection = self.connections.get_mut(id).expect("the caller looked it up");
        // A send is answered by the next enter anyway.
        if connection.room == Watching::Armed {
            connection.room = Watching::Cancelling;
            connection.in_flight += 1;
            self.in_flight += 1;
            let target = token::of(Kind::Room, id);
            self.ring.push(Operation::Cancel { target }, token::of(Kind::Cancel, id));
        }
        if connection.receiving == Receiving::Armed {
            self.cancel_receive(id);
        }
    }

    pub(super) fn on_closed(&mut self, id: ConnId, done: Completion) {
        let Some(connection) = self.connections.remove(id) else { return self.on_stale(done) };
        assert_eq!(connection.in_flight, 1 + connection.awaits_notice(), "closed with operations in flight");
        if let Kept::Taken(buffer) = connection.kept {
            self.left_behind.push((id, buffer));
        }
        let Phase::Closing(reason) = connection.machine.phase() else { panic!("closed without a reason") };
        self.in_flight -= 1;
        self.worker.counters.closed.at(reason as usize).add(1);
        if let Some(handover) = self.worker.handover {
            handover.left(self.worker.index);
        }
        self.give_back_permit();
    }

    /// Everything it is owed has been sent after a stop: our FIN goes out.
    pub(super) fn finish_writing(&mut self, id: ConnId) {
        let connection = self.connections.get_mut(id).expect("the caller looked it up");
        if connection.stage != Stage::Serving {
            return;
        }
        connection.stage = Stage::Finishing;
        connection.in_flight += 1;
        self.in_flight += 1;
        let operation = Operation::Shutdown { socket: connection.socket };
        self.ring.push(operation, token::of(Kind::Shutdown, id));
    }

    pub(super) fn on_shut_down(&mut self, id: ConnId, done: Completion) {
        let Some(connection) = self.connections.get_mut(id) else { return self.on_stale(done) };
        connection.in_flight -= 1;
        self.in_flight -= 1;
        if done.outcome().is_ok() {
            connection.machine.finished_writing(self.now);
            self.schedule(id);
        } else {
            connection.machine.close(CloseReason::PeerReset);
        }
        self.advance(id);
    }

    /// Does what the phase of the stop asks for. Says how the worker ended when it has.
    pub(super) fn obey_stop(&mut self) -> Option<Ending> {
        let phase = self.worker.stop.phase();
        if phase != stop::Phase::Running && self.stopping == Stopping::No {
            self.start_draining();
        }
        if let Stopping::Draining { deadline, .. } = self.stopping
            && (phase == stop::Phase::Cut || deadline <= self.now)
        {
            self.stopping = Stopping::Cutting { next: 0, deadline: self.now + CUT_MAX };
        }
        if self.stopping != Stopping::No {
            self.close_out_idle();
        }
        self.visit_some();
        self.finish()
    }

    fn start_draining(&mut self) {
        let timeout = self.worker.config.drain_timeout.as_millis() as Tick;
        self.stopping = Stopping::Draining { next: 0, deadline: self.now + timeout };
        self.entrance.accepting.stop();
        self.cancel_accepts();
        self.end_handing();
    }

    fn close_out_idle(&mut self) {
        for index in 0..self.entrance.listeners.len() {
            if self.entrance.listeners[index] == Listener::Idle {
                self.close_out(index);
            }
        }
    }

    fn visit_some(&mut self) {
        let (Stopping::Draining { next, .. } | Stopping::Cutting { next, .. }) = self.stopping else {
            return;
        };
        if next == u32::MAX {
            return;
        }
        let cutting = matches!(self.stopping, Stopping::Cutting { .. });
        let end = next.saturating_add(VISITS).min(self.connections.high_water());
        for slot in next..end {
            let Some(id) = self.connections.id_at(slot) else { continue };
            if cutting {
                let connection = self.connections.get_mut(id).expect("just looked up");
                connection.machine.close(CloseReason::Cut);
            } else {
                self.begin_drain(id);
            }
            self.advance(id);
        }
        let reached = if end >= self.connections.high_water() { u32::MAX } else { end };
        if let Stopping::Draining { next, .. } | Stopping::Cutting { next, .. } = &mut self.stopping {
            *next = reached;
        }
    }

    /// When the server drains: ends the armed receive first, then asks what has arrived, so that
    /// nothing comes in between. Does nothing for who is ending in another way already.
    pub(super) fn begin_drain(&mut self, id: ConnId) {
        if !matches!(self.stopping, Stopping::Draining { .. }) {
            return;
        }
        let connection = self.connections.get_mut(id).expect("the caller looked it up");
        if connection.machine.phase() != Phase::Open {
            return;
        }
        match connection.receiving {
            Receiving::Armed => self.cancel_receive(id),
            Receiving::Cancelling | Receiving::Counting => {}
            Receiving::Idle => {
                self.starved.remove(id.slot);
                self.count_arrived(id);
            }
        }
    }

    /// Asks how much has arrived: at once where the socket is a descriptor, else through the ring.
    fn count_arrived(&mut self, id: ConnId) {
        let connection = self.connections.get_mut(id).expect("the caller looked it up");
        let socket = connection.socket;
        match self.ring.arrived(socket) {
            None if self.ring.counts_arrived() => {
                connection.receiving = Receiving::Counting;
                connection.in_flight += 1;
                self.in_flight += 1;
                self.ring.push(Operation::CountArrived { socket }, token::of(Kind::Count, id));
            }
            arrived => connection.machine.stop(arrived.unwrap_or(ARRIVED_MAX), self.now),
        }
    }

    /// The kernel has counted what had arrived, or cannot.
    pub(super) fn on_counted(&mut self, id: ConnId, done: Completion) {
        let Some(connection) = self.connections.get_mut(id) else { return self.on_stale(done) };
        connection.receiving = Receiving::Idle;
        connection.in_flight -= 1;
        self.in_flight -= 1;
        connection.machine.stop(done.outcome().unwrap_or(ARRIVED_MAX), self.now);
        self.advance(id);
    }

    pub(super) const fn finishing(&self) -> bool {
        matches!(self.stopping, Stopping::Finishing { .. })
    }

    /// Waits for the kernel to be done with everything, the wake-ups last.
    fn finish(&mut self) -> Option<Ending> {
        let (ending, overdue) = match self.stopping {
            Stopping::No => return None,
            Stopping::Draining { .. } => (Ending::Drained, false),
            Stopping::Cutting { deadline, .. } => {
                let overdue = deadline <= self.now;
                let cut = self.worker.counters.closed.at(CloseReason::Cut as usize).get() > 0;
                (if cut || overdue { Ending::Cut } else { Ending::Drained }, overdue)
            }
            Stopping::Finishing { ending } => return (self.in_flight_other == 0).then_some(ending),
        };
        if overdue {
            return Some(ending);
        }
        let only_wakeups = self.in_flight_other == 1;
        let nobody = self.connections.is_empty() && self.left_behind.is_empty();
        if self.entrance.all_closed() && nobody && only_wakeups && self.nobody_comes() {
            self.stopping = Stopping::Finishing { ending };
            self.in_flight_other += 1;
            let target = token::of(Kind::Wakeups, ConnId { slot: 0, generation: 0 });
            self.ring.push(Operation::Cancel { target }, token::of_listener(Kind::CancelOther, 0));
        }
        None
    }
}
