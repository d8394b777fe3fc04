//! What becomes of each operation: the draws among everything the kernel may legally answer.

use super::super::{Name, Operation, Token};
use super::buffers::Picked;
use super::kernel::{InFlight, Kernel};
use super::network::{Dialed, Ending, Handed, payload};
use super::odds::happens;
use super::outcome::Outcome;
use nix::errno::Errno;

pub(super) fn failure(errno: Errno) -> i32 {
    -(errno as i32)
}

impl Kernel {
    /// Whether an operation has something to answer now.
    pub(super) fn can_go_on(&self, op: &InFlight) -> bool {
        let connection = || &self.network.connections[op.connection.expect("it names a socket")];
        op.doomed
            || match op.operation {
                Operation::Accept { listener } => !self.network.listeners[listener].queue.is_empty(),
                Operation::Receive { .. } | Operation::ReceiveInto { waits: true, .. } => {
                    connection().readable()
                }
                Operation::AwaitRoom { .. } => {
                    !op.told && (connection().room_to_echo() > 0 || connection().broken.is_some())
                }
                Operation::Watch { .. } => self.has_news(op),
                Operation::SendKept { .. } if op.told => self.is_read(op),
                Operation::Wakeups => self.wakes > 0,
                Operation::Connect { .. } => {
                    matches!(connection().dialed, Dialed::Connecting { at, .. } if at <= self.now)
                }
                _ => true,
            }
    }

    /// Whether a watch reports without reason now, as it does at the peer's FIN.
    pub(super) fn may_be_spurious(&mut self, op: &InFlight) -> bool {
        matches!(op.operation, Operation::AwaitRoom { .. } | Operation::Watch { .. })
            && happens(&mut self.random, self.odds.room_spurious)
    }

    /// What an operation answers in the moment it is submitted.
    pub(super) fn arm(&mut self, id: u64) {
        let Some(index) = self.position(id) else { return };
        match self.flying[index].operation {
            // The descriptor is reserved before anybody is looked for.
            Operation::Accept { listener } if self.out_of_descriptors() => {
                self.accept_without_descriptor(id, listener);
            }
            Operation::Connect { .. } => self.start_connect(index),
            Operation::Watch { .. } => self.arm_watch(index),
            Operation::Receive { .. } if self.buffers.free() == 0 && self.setup.buffers_at_arming => {
                self.coverage.note(Outcome::ReceiveNoBuffersArming);
                self.post(id, failure(Errno::ENOBUFS), false, None);
            }
            Operation::Receive { .. } if !self.can_go_on(&self.flying[index].clone()) => {
                self.coverage.note(Outcome::ReceiveIdleArmed);
            }
            _ => {}
        }
    }

    /// Takes an operation one completion further.
    pub(super) fn run(&mut self, id: u64) {
        let Some(index) = self.position(id) else { return };
        let op = self.flying[index];
        self.interfere(&op);
        match op.operation {
            Operation::Accept { listener } => self.run_accept(&op, listener),
            Operation::Receive { limit, .. } => self.run_receive(&op, limit),
            Operation::ReceiveNow { limit, .. } => self.run_receive_now(&op, limit),
            Operation::ReceiveInto { span, waits, .. } => self.run_receive_into(&op, span, waits),
            Operation::SendKept { .. } if op.told => self.run_notice(&op),
            Operation::Send { span, .. } | Operation::SendKept { span, .. } => self.run_send(&op, span),
            Operation::SendLent { group, .. } => self.run_lent(&op, group),
            Operation::AwaitRoom { .. } => self.run_room(&op),
            Operation::Watch { .. } => self.run_watch(&op),
            Operation::Cancel { target } => self.run_cancel(&op, target),
            Operation::CountArrived { .. } => self.run_count(&op),
            Operation::Shutdown { .. } => self.run_shutdown(&op),
            Operation::Hand { socket, worker, .. } => self.run_hand(&op, socket.0, worker),
            Operation::Close { socket } => self.run_close(&op, socket.0),
            Operation::Connect { .. } => self.run_connect(&op),
            Operation::Wakeups => self.run_wakeups(&op),
        }
    }

    /// What a peer does in the very moment of an operation that comes only with an end.
    fn interfere(&mut self, op: &InFlight) {
        let Some(number) = op.connection else { return };
        let odds = self.odds.at_the_end;
        let (resets, finishes) = match op.operation {
            Operation::Shutdown { .. } => (2 * odds, 0),
            Operation::ReceiveNow { .. } => (odds / 10, odds),
            Operation::Receive { .. } | Operation::ReceiveInto { .. } if op.doomed => {
                (odds / 10, odds * 3 / 4)
            }
            _ => return,
        };
        self.end_peer(number, resets, finishes);
    }

    /// The peer resets the connection or finishes now, or neither; chances in a thousand.
    pub(super) fn end_peer(&mut self, number: usize, resets: u32, finishes: u32) {
        if happens(&mut self.random, resets) {
            self.network.connections[number].broken.get_or_insert(Errno::ECONNRESET);
        } else if happens(&mut self.random, finishes) {
            self.peers.finish(number, &mut self.network);
        }
    }

    fn run_receive(&mut self, op: &InFlight, limit: u32) {
        let number = op.connection.expect("a receive names a socket");
        let connection = &self.network.connections[number];
        let late = op.doomed
            && connection.readable()
            && connection.broken.is_none()
            && self.buffers.free() > 0
            && happens(&mut self.random, self.odds.cancel_late);
        if op.doomed && !late {
            self.coverage.note(Outcome::ReceiveCancelled);
            self.post(op.id, failure(Errno::ECANCELED), false, None);
            return;
        }
        if self.broken_before_bytes(number) {
            return self.fail_receive(op.id, number, Outcome::ReceiveReset);
        }
        if self.network.connections[number].unread() == 0 && !self.network.connections[number].finished {
            return;
        }
        if self.buffers.free() == 0 {
            self.coverage.note(Outcome::ReceiveNoBuffersData);
            self.post(op.id, failure(Errno::ENOBUFS), false, None);
            return;
        }
        if self.network.connections[number].unread() == 0 {
            let kinds = [Outcome::ReceiveEnd, Outcome::ReceiveEndBuffer];
            if late {
                self.coverage.note(Outcome::ReceiveCancelledEnd);
            }
            return self.end_receive(op.id, number, kinds);
        }
        self.receive_bytes(op, number, limit, late);
    }

    /// Whether a broken connection says so now: before what is unread, or after it.
    pub(super) fn broken_before_bytes(&mut self, number: usize) -> bool {
        let connection = &self.network.connections[number];
        connection.broken.is_some() && (connection.unread() == 0 || self.random.bool())
    }

    pub(super) fn fail_receive(&mut self, id: u64, number: usize, reset: Outcome) {
        let errno = self.network.connections[number].broken.unwrap_or(Errno::ECONNRESET);
        self.coverage.note(if errno == Errno::ETIMEDOUT { Outcome::ReceiveTimedOut } else { reset });
        self.post(id, failure(errno), false, None);
    }

    fn end_receive(&mut self, id: u64, number: usize, [plain, with_buffer]: [Outcome; 2]) {
        if self.network.connections[number].received_in == self.enters {
            self.coverage.note(Outcome::ReceiveEndWithData);
        }
        let buffer =
            if happens(&mut self.random, self.odds.end_buffer) { self.buffers.pick(0) } else { None };
        self.coverage.note(if buffer.is_some() { with_buffer } else { plain });
        self.post(id, 0, false, buffer);
    }

    fn receive_bytes(&mut self, op: &InFlight, number: usize, limit: u32, late: bool) {
        let multishot = self.setup.receive_multishot;
        let limited = !multishot || self.setup.obeys_limit;
        let passes = happens(&mut self.random, self.odds.limit_passed);
        let allowed = match () {
            () if !limited => u32::MAX,
            () if passes => limit.max(self.buffers.size()),
            () => limit.saturating_sub(op.received).max(1),
        };
        let (before, bytes, buffer) = self.fill_several(op, number, allowed);
        let received = op.received + before + bytes;
        if let Some(index) = self.position(op.id) {
            self.flying[index].received = received;
        }
        let at_limit = multishot && limited && received >= limit;
        let ends = happens(&mut self.random, self.odds.ends);
        // What was cancelled may have several completions under way.
        let over = !multishot || at_limit || ends || (op.doomed && self.random.bool());
        self.coverage.note(match () {
            () if late && over => Outcome::ReceiveCancelledData,
            () if !multishot => Outcome::ReceiveOnce,
            () if at_limit && received > limit => Outcome::ReceiveLimitPassed,
            () if at_limit => Outcome::ReceiveLimit,
            () if ends => Outcome::ReceiveEnds,
            () if self.queue_is_full() => Outcome::ReceiveQueueFull,
            () => Outcome::ReceiveMore,
        });
        self.post(op.id, bytes as i32, !over, Some(buffer));
    }

    /// Where one receive may fill several buffers, all but the last of them are answered here. How many bytes
    /// that were, and the last with its own.
    fn fill_several(&mut self, op: &InFlight, number: usize, allowed: u32) -> (u32, u32, Picked) {
        let (mut before, allowed) = (0, self.capped(allowed));
        loop {
            let bytes = self.size_of_receive(number, allowed - before);
            let picked = self.fill(number, bytes);
            let goes_on = self.setup.bundle
                && bytes == self.buffers.size()
                && before + bytes < allowed
                && self.network.connections[number].unread() > 0
                && self.buffers.free() > 0;
            if !goes_on || self.queue_is_full() {
                return (before, bytes, picked);
            }
            self.coverage.note(Outcome::ReceiveSeveral);
            self.post(op.id, bytes as i32, true, Some(picked));
            before += bytes;
        }
    }

    /// The most bytes one receive takes of as many.
    pub(super) fn capped(&self, bytes: u32) -> u32 {
        self.setup.receive_most.map_or(bytes, |most| bytes.min(most))
    }

    pub(super) fn size_of_receive(&mut self, number: usize, allowed: u32) -> u32 {
        let unread = self.network.connections[number].unread().min(u64::from(u32::MAX)) as u32;
        let most = unread.min(self.buffers.room()).min(allowed);
        let short = happens(&mut self.random, self.odds.receive_short);
        let bytes = match () {
            () if short && self.random.bool() => 1,
            () if short => self.random.u32(1..=most),
            () => most,
        };
        if bytes == self.buffers.size() {
            self.coverage.note(Outcome::ReceiveWhole);
        } else if bytes == 1 && most > 1 {
            self.coverage.note(Outcome::ReceiveByte);
        }
        bytes
    }

    fn fill(&mut self, number: usize, bytes: u32) -> Picked {
        let connection = &mut self.network.connections[number];
        let (key, start) = (connection.key, connection.read);
        let picked = match &mut self.peers.servers {
            Some(servers) => self.buffers.fill(bytes, |_| servers.receive(number)),
            None => self.buffers.fill(bytes, |index| payload(key, start + index)),
        };
        let picked = picked.expect("a free buffer was seen");
        if self.setup.incremental {
            self.coverage.note(if picked.1 { Outcome::PieceMore } else { Outcome::PieceLast });
        }
        connection.read += u64::from(bytes);
        connection.received_in = self.enters;
        self.peers.on_received(number, self.now, &self.network);
        picked
    }

    fn run_receive_now(&mut self, op: &InFlight, limit: u32) {
        let number = op.connection.expect("a receive names a socket");
        if self.buffers.free() == 0 {
            self.coverage.note(Outcome::ReceiveNowNoBuffers);
            self.post(op.id, failure(Errno::ENOBUFS), false, None);
        } else if self.broken_before_bytes(number) {
            self.fail_receive(op.id, number, Outcome::ReceiveNowReset);
        } else if self.network.connections[number].unread() > 0 {
            let bytes = self.size_of_receive(number, self.capped(limit));
            let buffer = self.fill(number, bytes);
            self.coverage.note(Outcome::ReceiveNowData);
            self.post(op.id, bytes as i32, false, Some(buffer));
        } else if self.network.connections[number].finished {
            let kinds = [Outcome::ReceiveNowEnd, Outcome::ReceiveNowEndBuffer];
            self.end_receive(op.id, number, kinds);
        } else {
            self.coverage.note(Outcome::ReceiveNowEmpty);
            self.post(op.id, failure(Errno::EAGAIN), false, None);
        }
    }

    /// News of room, or of nothing. It is told once until a send finds the socket full again.
    fn run_room(&mut self, op: &InFlight) {
        if op.doomed {
            self.coverage.note(Outcome::RoomCancelled);
            self.post(op.id, failure(Errno::ECANCELED), false, None);
            return;
        }
        let connection = &self.network.connections[op.connection.expect("a watch names a socket")];
        let reason = connection.room_to_echo() > 0 || connection.broken.is_some();
        let ends = happens(&mut self.random, self.odds.ends);
        self.coverage.note(match (reason, ends) {
            (false, _) => Outcome::RoomSpurious,
            (true, true) => Outcome::RoomEnds,
            (true, false) => Outcome::RoomMore,
        });
        if let Some(index) = self.position(op.id) {
            self.flying[index].told |= reason;
        }
        self.post(op.id, 1, !ends, None);
    }

    /// Every watch for room in this socket has news again when there is some.
    pub(super) fn found_full(&mut self, number: usize) {
        let watches = |op: &&mut InFlight| {
            matches!(op.operation, Operation::AwaitRoom { .. } | Operation::Watch { .. })
        };
        for op in self.flying.iter_mut().filter(|op| op.connection == Some(number)).filter(watches) {
            op.told = false;
        }
    }

    fn run_cancel(&mut self, op: &InFlight, target: Token) {
        let found = self.flying.iter().find(|one| one.token == target && one.id != op.id).map(|one| one.id);
        let Some(found) = found else {
            self.coverage.note(Outcome::CancelMissingAfter);
            self.post(op.id, failure(Errno::ENOENT), false, None);
            return;
        };
        if let Some(index) = self.position(found) {
            self.flying[index].doomed = true;
        }
        let (result, before, after) = match self.random.u8(0..4) {
            0 | 1 => (0, Outcome::CancelDoneBefore, Outcome::CancelDoneAfter),
            2 => (failure(Errno::ENOENT), Outcome::CancelMissingBefore, Outcome::CancelMissingAfter),
            _ => (failure(Errno::EALREADY), Outcome::CancelBusyBefore, Outcome::CancelBusyAfter),
        };
        if self.random.bool() {
            self.coverage.note(before);
            self.post(op.id, result, false, None);
            return;
        }
        while self.position(found).is_some() {
            self.run(found);
        }
        self.coverage.note(after);
        self.post(op.id, result, false, None);
    }

    /// Never too few: a byte that has arrived stays until it is received. An urgent one is counted
    /// though no receive brings it.
    fn run_count(&mut self, op: &InFlight) {
        let number = op.connection.expect("a count names a socket");
        let unread = self.network.connections[number].unread() as i32;
        let (outcome, result) = match () {
            () if happens(&mut self.random, self.odds.count_fails) => {
                if self.random.bool() {
                    (Outcome::CountUnsupported, failure(Errno::EOPNOTSUPP))
                } else {
                    (Outcome::CountFailed, failure(Errno::EINVAL))
                }
            }
            () if happens(&mut self.random, self.odds.count_more) => {
                (Outcome::CountTooMany, unread + self.random.i32(1..200))
            }
            () if unread == 0 => (Outcome::CountNothing, 0),
            () => (Outcome::CountExact, unread),
        };
        self.coverage.note(outcome);
        self.post(op.id, result, false, None);
    }

    fn run_shutdown(&mut self, op: &InFlight) {
        let number = op.connection.expect("a shutdown names a socket");
        let result = self.shut(number).map_or_else(failure, |()| 0);
        self.post(op.id, result, false, None);
    }

    /// Our FIN goes out.
    pub(super) fn shut(&mut self, number: usize) -> Result<(), Errno> {
        let connection = &mut self.network.connections[number];
        connection.shut_at = Some(self.now);
        if connection.broken.is_some() {
            self.coverage.note(Outcome::ShutdownUnconnected);
            return Err(Errno::ENOTCONN);
        }
        self.coverage.note(Outcome::ShutdownDone);
        let now = self.now;
        let (peers, mut world) = self.world();
        peers.on_shut(number, now, 500, &mut world);
        Ok(())
    }

    fn run_close(&mut self, op: &InFlight, name: Name) {
        let number = op.connection.expect("a close names a socket");
        if self.network.connections[number].handed == Handed::Away {
            return self.close_copy(op, number, name);
        }
        self.close_down(number, name);
        self.post(op.id, 0, false, None);
    }

    /// The caller's side of a connection is gone.
    pub(super) fn close_down(&mut self, number: usize, name: Name) {
        let enter = self.enters;
        if self.gives_back_at_close(name) {
            let (numbers, index) = self.network.numbers(name);
            numbers.give_back(index, enter);
        }
        self.accepts_in_vain = 0;
        if let Err(what) = self.judge_close(number) {
            self.violation(format!("connection {number} was closed {what}"));
        }
        let connection = &mut self.network.connections[number];
        let unread = connection.unread() > 0 && connection.broken.is_none();
        self.coverage.note(if unread { Outcome::CloseUnread } else { Outcome::CloseClean });
        if unread {
            connection.broken = Some(Errno::ECONNRESET);
        }
        connection.ending = Ending::Closed;
        connection.name = None;
        self.facts.closed += 1;
        self.peers.on_closed(number, &self.network);
    }

    fn run_wakeups(&mut self, op: &InFlight) {
        if op.doomed {
            self.post(op.id, failure(Errno::ECANCELED), false, None);
            return;
        }
        if self.wakes > 1 {
            self.coverage.note(Outcome::WakeupsMerged);
        }
        self.wakes = 0;
        self.accepts_in_vain = 0;
        let ends = happens(&mut self.random, self.odds.ends);
        self.coverage.note(if ends { Outcome::WakeupEnds } else { Outcome::WakeupMore });
        self.post(op.id, 1, !ends, None);
    }

    /// Whether a time of the loop, whose clock has milliseconds, may have passed.
    fn waited(&self, since: u64, timeout: Option<u64>) -> bool {
        timeout.is_some_and(|timeout| self.now.saturating_sub(since) + 1000 >= timeout)
    }

    /// Whether a connection has taken nothing of what it is owed for the write timeout, as far as the loop
    /// knows.
    pub(super) fn is_stuck(&self, number: usize) -> bool {
        let connection = &self.network.connections[number];
        connection.read_taken > connection.echoed_taken
            && self.waited(connection.progress_at, self.setup.write_timeout)
    }

    /// Whether the loop had a reason to close this connection now, as far as the kernel can tell.
    fn judge_close(&mut self, number: usize) -> Result<(), &'static str> {
        if self.peers.servers.is_some() {
            return Ok(()); // A client closes when it likes.
        }
        let connection = &self.network.connections[number];
        let owed = connection.read - connection.echoed.min(connection.read);
        let waited = |since: u64, timeout: Option<u64>| self.waited(since, timeout);
        let overdue = self.stopped_at.is_some_and(|at| waited(at, Some(self.setup.drain_timeout)));
        if connection.end_taken && (owed == 0 || connection.shut_at.is_some()) {
            self.facts.complete += 1;
            return Ok(());
        }
        if connection.handed == Handed::Stranded {
            return if connection.shut_at.is_some() { Ok(()) } else { Err("stranded, without its FIN") };
        }
        if connection.error_taken || self.cut || overdue {
            return Ok(());
        }
        if !connection.ever_received && connection.read == 0 {
            // Refused at the limit, or stopped before it was looked at.
            self.facts.untouched += 1;
            return Ok(());
        }
        let idle = waited(connection.active_at, self.setup.idle_timeout);
        let stuck = connection.stuck_at_cancel
            || owed > 0 && waited(connection.progress_at, self.setup.write_timeout);
        let lingered = connection.shut_at.is_some_and(|at| waited(at, Some(self.setup.linger)));
        if idle || stuck || lingered {
            return Ok(());
        }
        let reason = match (self.stopped_at, connection.shut_at) {
            (None, _) => "for no reason",
            (_, Some(_)) => "while it lingered",
            _ if connection.owes_what_had_arrived() => "before what had arrived was echoed",
            _ if owed > 0 => "with bytes owed",
            _ => return Ok(()),
        };
        if connection.was_blocked && self.setup.spill_bounded {
            self.facts.excused_by_spill += 1;
            return Ok(());
        }
        Err(reason)
    }
}
