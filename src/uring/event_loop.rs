//! The server by completion: what is asked of the kernel, and what happens when it answers. Read it
//! beside the event loop of `epoll_baseline`, which has the same parts in the same order.
//!
//! The life of a connection, in steps: 1. `on_accepted` takes it, under a permit, and has a receive
//! armed. 2. `on_received` queues the buffer with its bytes, and after the batch a send of the first is
//! pushed; without a buffer it waits among the starved. 3. `on_sent` gives the buffer back; what the
//! kernel would not take is copied, and the connection stands among the stuck. 4. It ends by its
//! machine's word, by its deadline, by the spill limit or by the stop: `end` cancels what it has in
//! flight, and closes it when all of that is answered. 5. `on_closed` frees its slot; a completion that
//! is still to come has an old generation and is counted.
//!
//! Absent on purpose: system calls, the clock and pointers (they are behind
//! [`Ring`](crate::ring::Ring)), any choice that is policy, and the names of features: whether a receive
//! or an accept is multishot shows only in [`Completion::more`]. Accepting is in `accepting` and `handing`, sending in `sending`, the end in `ending`.

use super::accepting::Entrance;
use super::buffers::{Buffers, Lease, Ownership, Room, Shared};
use super::connection::{Connection, Receiving};
use super::ending::Stopping;
use super::handing::{self, Leaving};
use super::sending::{SILENCE_MAX, Silent};
use super::token::{self, Kind};
use crate::conn::machine::CloseReason;
use crate::conn::{ConnId, Deadlines, Limits, Queue, Step, Table, Tick};
use crate::ring::{Completion, Entered, Listening, Operation};
use crate::worker::{Ending, Failure, Worker, queued_max};
use nix::errno::Errno;
use std::collections::VecDeque;
use std::time::Duration;

/// What only this backend counts.
pub const COUNTERS: &[&str] = &[
    "enters",
    "completions",
    "overflows",
    "empty_pool",
    "receives_armed",
    "receives_rearmed_after_empty_pool",
    "accepts_armed",
    "receives_cancelled",
    "enters_interrupted",
    "enters_busy",
    "bytes_spilled",
    "waits_for_spill",
    "deadline_steps",
    "accept_pauses",
    "handed_on",
    "hands_failed",
];

/// The index of a name in [`COUNTERS`].
#[derive(Clone, Copy, Debug)]
pub(super) enum Own {
    /// Times the ring was entered.
    Enters,
    /// Completions taken.
    Completions,
    /// Times there were more completions than the queue could hold.
    Overflows,
    /// Receives that were answered by an empty pool.
    EmptyPool,
    /// Receives armed, for the first time or again.
    ReceivesArmed,
    /// Of these, for connections that had waited for a buffer.
    ReceivesRearmedAfterEmptyPool,
    /// Accepts armed, for the first time or again.
    AcceptsArmed,
    /// Receives that were told to end.
    ReceivesCancelled,
    /// Enters that a signal or a passing shortage cut short.
    EntersInterrupted,
    /// Enters that were refused because the completion queue was full.
    EntersBusy,
    /// Bytes copied to the spill area.
    BytesSpilled,
    /// Times a stuck connection found no room there.
    WaitsForSpill,
    /// Connections looked at for their deadline.
    DeadlineSteps,
    /// Times accepting paused, for want of permits, descriptors or memory.
    AcceptPauses,
    /// Connections given to other workers.
    HandedOn,
    /// Connections that were to be, and could not.
    HandsFailed,
}

/// One worker's loop over its ring.
pub struct EventLoop<'w, R, K = Shared> {
    // The ring stands before the buffers: it is dropped first, and the kernel writes no more.
    pub(super) ring: R,
    pub(super) buffers: Buffers<'w, K>,
    pub(super) worker: &'w Worker<'w>,
    pub(super) limits: Limits,
    pub(super) connections: Table<Connection>,
    pub(super) deadlines: Deadlines,
    /// Who met an empty pool, first come first served.
    pub(super) starved: Queue,
    /// Who is stuck, longest first.
    pub(super) stuck: Queue,
    /// Who is stuck with bytes in pool buffers, because the spill area was full.
    pub(super) unspilled: Queue,
    /// Who is to be looked at after the batch.
    touched: Vec<ConnId>,
    /// True when somebody can go on only after a silent send is known to be over.
    hurry: bool,
    /// Sends not yet known to be over, in the order of their numbers.
    pub(super) silent: VecDeque<Silent>,
    pub(super) entrance: Entrance,
    /// Sockets on their way to other workers.
    pub(super) leaving: Table<Leaving>,
    pub(super) stopping: Stopping,
    /// Buffers that the kernel reads for connections that are gone.
    pub(super) left_behind: Vec<(ConnId, u32)>,
    /// How many are ending while a send from the spill area is still in flight.
    pub(super) chunks_awaited: u32,
    /// Operations in flight for connections.
    pub(super) in_flight: u64,
    /// Operations in flight for listeners, refused sockets and wake-ups.
    pub(super) in_flight_other: u64,
    pub(super) now: Tick,
}

impl<'w, R: Listening, K: Ownership> EventLoop<'w, R, K> {
    /// A loop over `ring`, which has been set up with the memory of `buffers`. Everything it will
    /// need is laid out here.
    pub fn new(mut ring: R, buffers: Buffers<'w, K>, worker: &'w Worker<'w>, listeners: usize) -> Self {
        let capacity = worker.room;
        let now = ring.now().as_millis() as Tick;
        buffers.provide_all(&mut ring);
        let mut this = Self {
            ring,
            buffers,
            worker,
            limits: worker.limits(),
            connections: Table::new(capacity),
            deadlines: Deadlines::new(capacity, now),
            starved: Queue::new(capacity),
            stuck: Queue::new(capacity),
            unspilled: Queue::new(capacity),
            touched: Vec::with_capacity(capacity as usize),
            hurry: false,
            // One at most for each connection, and one that failed and was not yet passed.
            silent: VecDeque::with_capacity(2 * capacity as usize),
            entrance: Entrance::new(listeners, queued_max(worker.config)),
            leaving: Table::new(handing::leaving_max(worker)),
            stopping: Stopping::No,
            left_behind: Vec::new(),
            chunks_awaited: 0,
            in_flight: 0,
            in_flight_other: 0,
            now,
        };
        this.watch_wakeups();
        if let Some(handover) = worker.handover {
            handover.open(worker.index, capacity);
        }
        this.arm_accepts();
        this
    }

    /// Bytes reserved for the tables of `capacity` connections.
    #[must_use]
    pub const fn table_bytes(capacity: u32) -> u64 {
        // The deadline wheel's entry, the links of three queues, and the lists of who is to be looked
        // at and of silent sends, beside the table itself.
        let lists = size_of::<ConnId>() + 2 * size_of::<Silent>();
        Table::<Connection>::bytes(capacity) + capacity as u64 * (16 + 3 * 8 + lists as u64)
    }

    /// Bytes reserved beside them where connections are handed on.
    #[must_use]
    pub fn leaving_bytes(worker: &Worker<'_>) -> u64 {
        Table::<Leaving>::bytes(handing::leaving_max(worker))
    }

    /// Serves until stopped.
    ///
    /// # Errors
    /// When the kernel lost completions, or refuses to be entered.
    pub fn run(&mut self) -> Result<Ending, Failure> {
        loop {
            if let Some(ending) = self.turn()? {
                return Ok(ending);
            }
        }
    }

    /// One turn: wait, dispatch, time, repeat.
    ///
    /// # Errors
    /// As [`run`](Self::run).
    pub fn turn(&mut self) -> Result<Option<Ending>, Failure> {
        // Only what was due before the kernel was asked may expire: the process may have been stopped
        // between the answer and the clock, while bytes arrived.
        let asked = self.now;
        let entered = self.enter()?;
        self.now = self.ring.now().as_millis() as Tick;
        let completions = self.dispatch_all();
        self.settle_silent();
        self.advance_touched();
        self.spill_the_waiting();
        // Before anything is armed: a full submission queue is submitted in the middle of a batch.
        self.ring.publish();
        self.rearm_starved();
        // When the server stops nobody waits for quiet: those who linger would never let it come.
        let quiet = (entered && completions == 0) || self.stopping != Stopping::No;
        self.expire(asked, quiet);
        self.resume_accepting();
        let ending = self.obey_stop();
        self.ring.publish();
        self.account(completions);
        Ok(ending)
    }

    /// The only place that blocks. False where it was cut short: an interrupted enter may bring nothing
    /// although bytes arrived while the process was stopped, so it says nothing about silence.
    fn enter(&mut self) -> Result<bool, Failure> {
        let until = self.wake_at();
        let busy = std::mem::take(&mut self.hurry)
            || self.somebody_can_be_rearmed()
            || (!self.silent.is_empty() && !self.starved.is_empty())
            || self.stopping.has_more_to_visit()
            || std::mem::take(&mut self.entrance.has_more)
            || until.is_some_and(|until| until <= self.now);
        let entered = self.ring.enter(u32::from(!busy), until.map(Duration::from_millis));
        match entered {
            Entered::Done => {}
            Entered::Interrupted => self.count(Own::EntersInterrupted, 1),
            Entered::Busy => self.count(Own::EntersBusy, 1),
            Entered::CompletionsLost => {
                return Err(Failure::Failed(
                    "the kernel lost completions of the ring (EBADR: it was out of memory for them); \
                     what became of the connections cannot be known. Start again with a larger cq=, \
                     fewer connections, or --backend epoll"
                        .into(),
                ));
            }
            Entered::Failed(error) => {
                return Err(Failure::Failed(format!(
                    "io_uring_enter failed: {} ({error:?}); use --backend epoll",
                    error.desc()
                )));
            }
        }
        Ok(entered == Entered::Done)
    }

    /// When to wake even if nothing happens.
    fn wake_at(&self) -> Option<Tick> {
        let silence = (!self.silent.is_empty()).then_some(self.now + SILENCE_MAX);
        let times =
            [self.deadlines.next(), self.entrance.accepting.retry(), self.stopping.deadline(), silence];
        times.into_iter().flatten().min()
    }

    fn dispatch_all(&mut self) -> u64 {
        let mut completions = 0;
        while let Some(done) = self.ring.next_completion() {
            completions += 1;
            self.dispatch(done);
        }
        completions
    }

    fn dispatch(&mut self, done: Completion) {
        let Some((kind, id)) = token::read(done.token) else { return self.on_stale(done) };
        match kind {
            Kind::Receive => self.on_received(id, done),
            Kind::Send => self.on_sent(id, done),
            Kind::SendKept => self.on_sent_kept(id, done),
            Kind::Room => self.on_room_made(id, done),
            Kind::Accept => self.on_accepted(id.slot as usize, done),
            Kind::Close => self.on_closed(id, done),
            Kind::Cancel => self.on_cancelled(id, done),
            Kind::Count => self.on_counted(id, done),
            Kind::Shutdown => self.on_shut_down(id, done),
            Kind::CloseRefused | Kind::CancelOther => self.in_flight_other -= 1,
            Kind::Wakeups => self.on_woken(done),
            Kind::Hand => self.on_handed(id, done),
            Kind::Arrival => self.on_arrived(done),
        }
    }

    /// A completion for a connection that is gone, or for nobody.
    pub(super) fn on_stale(&mut self, done: Completion) {
        self.worker.counters.stale_events.add(1);
        // One of nobody's own: nothing is received into a buffer whose connection is gone.
        if done.buffer.is_some()
            && let Some(lease) = self.buffers.received(0, &done, &mut self.ring)
        {
            self.buffers.give_back(lease, &mut self.ring);
        }
    }

    fn on_received(&mut self, id: ConnId, done: Completion) {
        if self.connections.get(id).is_none() {
            return self.on_stale(done);
        }
        // Leased whatever the result says: an end of stream or an error may carry a buffer too.
        let lease = self.buffers.received(id.slot, &done, &mut self.ring);
        let connection = self.connections.get_mut(id).expect("looked up above");
        if !done.more {
            connection.receiving = Receiving::Idle;
            connection.in_flight -= 1;
            self.in_flight -= 1;
        }
        let unused = match (done.outcome(), lease) {
            (Ok(0), lease) => {
                connection.machine.peer_finished();
                lease
            }
            (Ok(bytes), Some(lease)) => self.take(id, bytes, lease),
            (Ok(_), None) => panic!("the kernel received bytes into no buffer of ours"),
            (Err(error), lease) => {
                self.on_receive_failed(id, error);
                lease
            }
        };
        if let Some(lease) = unused {
            self.buffers.give_back(lease, &mut self.ring);
        }
        if !done.more {
            self.begin_drain(id);
        }
        self.touch(id);
    }

    /// Queues `bytes` for the echo; gives the lease back when nobody is owed them.
    fn take(&mut self, id: ConnId, bytes: u32, lease: Lease) -> Option<Lease> {
        let connection = self.connections.get_mut(id).expect("the caller looked it up");
        let counters = self.worker.counters;
        counters.receives.add(1);
        counters.bytes_received.add(u64::from(bytes));
        if connection.machine.discards() {
            connection.machine.discarded(bytes);
            counters.bytes_discarded.add(u64::from(bytes));
            return Some(lease);
        }
        connection.machine.received(bytes, self.now, &self.limits);
        if !self.buffers.append(&mut connection.queue, lease, &mut self.ring) {
            connection.machine.close(CloseReason::SpillFull);
        }
        if connection.full {
            self.spill(id);
        }
        None
    }

    fn on_receive_failed(&mut self, id: ConnId, error: Errno) {
        if error == Errno::ENOBUFS {
            self.ring.found_no_buffer();
        }
        let connection = self.connections.get_mut(id).expect("the caller looked it up");
        match error {
            // Who is ending has left every queue for good.
            Errno::ENOBUFS if connection.is_ending() => {}
            Errno::ENOBUFS => {
                self.count(Own::EmptyPool, 1);
                self.starve(id);
            }
            Errno::EAGAIN => connection.machine.would_block(),
            Errno::ECANCELED | Errno::EINTR => {}
            error => connection.machine.close(CloseReason::of(error)),
        }
    }

    fn on_cancelled(&mut self, id: ConnId, done: Completion) {
        let Some(connection) = self.connections.get_mut(id) else { return self.on_stale(done) };
        connection.in_flight -= 1;
        self.in_flight -= 1;
        self.advance(id);
    }

    /// Has the connection looked at when the batch has been taken.
    pub(super) fn touch(&mut self, id: ConnId) {
        let connection = self.connections.get_mut(id).expect("the caller looked it up");
        if !connection.touched {
            connection.touched = true;
            self.touched.push(id);
        }
    }

    /// Looks at the connections of the batch, the last received first: its socket is still in the
    /// fastest cache. In the order of arrival each would just have been pushed out by the others.
    fn advance_touched(&mut self) {
        while let Some(id) = self.touched.pop() {
            if let Some(connection) = self.connections.get_mut(id) {
                connection.touched = false;
                self.advance(id);
            }
        }
    }

    /// Does whatever the state of the connection asks for now. Called after every change.
    pub(super) fn advance(&mut self, id: ConnId) {
        let Some(connection) = self.connections.get_mut(id) else { return };
        match connection.machine.step() {
            Step::Close(reason) => return self.end(id, reason),
            Step::FinishWriting => self.finish_writing(id),
            Step::Continue => {}
        }
        self.send_next(id);
        self.receive_more(id);
        self.note_hurry(id);
    }

    /// A connection that is not receiving, or has more to send than the send in flight, has nothing
    /// else to wait for than the end of that send.
    fn note_hurry(&mut self, id: ConnId) {
        let connection = self.connections.get(id).expect("the caller looked it up");
        let offered_all = connection.machine.owed() == u64::from(connection.offered);
        let goes_on_by_itself = connection.receiving == Receiving::Armed && offered_all;
        self.hurry |= connection.sending && self.ring.skips_sent() && !goes_on_by_itself;
    }

    fn receive_more(&mut self, id: ConnId) {
        let connection = self.connections.get_mut(id).expect("the caller looked it up");
        let credit = connection.machine.credit(&self.limits);
        match connection.receiving {
            Receiving::Idle if credit > 0 && !self.starved.contains(id.slot) => {
                match self.buffers.room_for(id.slot) {
                    Room::Free if self.starved.is_empty() => self.arm_receive(id),
                    Room::Free | Room::Short => self.starve(id),
                    // It is looked at again when its bytes have been sent.
                    Room::Held => {}
                }
            }
            // Without a limit the kernel would go on: it has to be told.
            Receiving::Armed if credit == 0 && !self.ring.obeys_limit() => self.cancel_receive(id),
            _ => {}
        }
    }

    fn arm_receive(&mut self, id: ConnId) {
        let connection = self.connections.get_mut(id).expect("the caller looked it up");
        let (socket, limit) = (connection.socket, connection.machine.credit(&self.limits));
        let waits = !connection.machine.reads_only_what_arrived();
        let operation = self.buffers.receive(id.slot, socket, limit, waits);
        connection.receiving = Receiving::Armed;
        connection.in_flight += 1;
        self.in_flight += 1;
        self.count(Own::ReceivesArmed, 1);
        self.ring.push(operation, token::of(Kind::Receive, id));
    }

    pub(super) fn cancel_receive(&mut self, id: ConnId) {
        let connection = self.connections.get_mut(id).expect("the caller looked it up");
        assert_eq!(connection.receiving, Receiving::Armed);
        connection.receiving = Receiving::Cancelling;
        connection.in_flight += 1;
        self.in_flight += 1;
        self.count(Own::ReceivesCancelled, 1);
        let target = token::of(Kind::Receive, id);
        self.ring.push(Operation::Cancel { target }, token::of(Kind::Cancel, id));
    }

    fn starve(&mut self, id: ConnId) {
        if !self.starved.contains(id.slot) {
            self.starved.push_back(id.slot);
        }
    }

    fn somebody_can_be_rearmed(&self) -> bool {
        !self.starved.is_empty() && self.buffers.free() > 0
    }

    /// Re-arms as many of the starved as there are free buffers. One that is answered by an empty
    /// pool again goes to the back; one that is not answered has left the queue and passed the turn
    /// on: the loop does not block while somebody waits and a buffer is free.
    fn rearm_starved(&mut self) {
        for _ in 0..self.buffers.free().min(self.starved.len()) {
            let slot = self.starved.pop_front().expect("counted above");
            let id = self.connections.id_at(slot).expect("who is starved is in the table");
            let connection = self.connections.get_mut(id).expect("just looked up");
            connection.machine.kept_waiting(self.now);
            if connection.machine.credit(&self.limits) > 0 {
                self.count(Own::ReceivesRearmedAfterEmptyPool, 1);
                self.arm_receive(id);
            }
        }
    }

    /// Closes whoever's time has come.
    fn expire(&mut self, asked: Tick, quiet: bool) {
        if !self.deadlines.ripe(asked, quiet) {
            return;
        }
        while let Some(slot) = self.deadlines.pop(asked) {
            self.count(Own::DeadlineSteps, 1);
            let Some(id) = self.connections.id_at(slot) else { continue };
            let connection = self.connections.get_mut(id).expect("just looked up");
            if self.starved.contains(slot) {
                connection.machine.kept_waiting(self.now);
            }
            if let Some(reason) = connection.machine.expired(asked, &self.limits) {
                connection.machine.close(reason);
                self.advance(id);
            } else {
                self.schedule(id);
            }
        }
    }

    /// Has the deadline looked at, if there is one.
    pub(super) fn schedule(&mut self, id: ConnId) {
        let connection = self.connections.get(id).expect("the caller looked it up");
        if let Some(due) = connection.machine.deadline(&self.limits) {
            self.deadlines.schedule(id.slot, due);
        }
    }

    pub(super) fn count(&self, own: Own, amount: u64) {
        self.worker.counters.own.at(own as usize).add(amount);
    }

    fn account(&self, completions: u64) {
        let counters = self.worker.counters;
        counters.system_calls.set(self.ring.enters());
        counters.own.at(Own::Enters as usize).set(self.ring.enters());
        counters.own.at(Own::Overflows as usize).set(self.ring.overflows());
        self.count(Own::Completions, completions);
        counters.open.set(self.connections.len() as u64);
        counters.lent.set(u64::from(self.buffers.lent()));
        counters.in_flight.set(self.in_flight);
        counters.waiting.set(u64::from(self.starved.len()));
        counters.spilled.set(self.buffers.spilled());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_counter_has_its_name() {
        let names = |own: &[Own]| own.iter().map(|&own| COUNTERS[own as usize]).collect::<Vec<_>>();
        let receives = [Own::EmptyPool, Own::ReceivesArmed, Own::ReceivesRearmedAfterEmptyPool];
        let told = ["empty_pool", "receives_armed", "receives_rearmed_after_empty_pool"];
        assert_eq!(names(&receives), told);
        assert_eq!(
            names(&[Own::Enters, Own::Completions, Own::Overflows]),
            ["enters", "completions", "overflows"]
        );
        let cancelled = [Own::AcceptsArmed, Own::ReceivesCancelled, Own::EntersInterrupted, Own::EntersBusy];
        let told = ["accepts_armed", "receives_cancelled", "enters_interrupted", "enters_busy"];
        assert_eq!(names(&cancelled), told);
        let last = [Own::BytesSpilled, Own::WaitsForSpill, Own::DeadlineSteps, Own::AcceptPauses];
        let told = ["bytes_spilled", "waits_for_spill", "deadline_steps", "accept_pauses"];
        assert_eq!(names(&last), told);
        assert_eq!(names(&[Own::HandedOn, Own::HandsFailed]), ["handed_on", "hands_failed"]);
        assert_eq!(COUNTERS.len(), Own::HandsFailed as usize + 1);
    }
}
