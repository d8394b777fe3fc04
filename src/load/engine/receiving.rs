//! How bytes come back: compared where they lie, counted to messages, and their buffer shown to the kernel
//! again at once. Part of the engine.

use super::super::buffers::Received;
use super::super::payload::{Ending, Kind, Stream, Verdict, Wrong};
use super::super::trouble::{Cause, Phase};
use super::connection::{Asked, Connection, State, Then};
use super::token;
use super::{Engine, Loop};
use crate::ring::{Completion, Dialing, Operation};
use nix::errno::Errno;

/// Wrong bytes that are kept for the report, of one thread.
const WRONG_MAX: usize = 8;

impl<R: Dialing> Engine<'_, R> {
    /// Receives until further notice, also where one answer is all that is awaited: whoever asked for no
    /// more than that would never see what comes behind it.
    pub(super) fn arm_receive(&mut self, slot: u32) {
        let connection = &mut self.connections[slot as usize];
        connection.receiving = Asked::Armed;
        let socket = connection.socket.expect("a connection that stands has a socket");
        self.push(Operation::Receive { socket, limit: u32::MAX }, token::Kind::Receive, slot);
    }

    pub(super) fn on_received(&mut self, slot: u32, done: Completion) {
        if !done.more {
            self.connections[slot as usize].receiving = Asked::Idle;
        }
        // Taken whatever the result says: an end of stream or an error may carry a buffer too.
        let received = done.buffer.map(|buffer| self.buffers.take(buffer, done.result.max(0) as u32));
        match (done.outcome(), &received) {
            (Ok(0), _) => self.on_finished(slot),
            (Ok(bytes), Some(received)) => self.on_bytes(slot, bytes, received),
            (Ok(_), None) => panic!("the kernel received bytes into no buffer of ours"),
            (Err(Errno::ENOBUFS), _) => self.on_empty_pool(slot),
            (Err(Errno::ECANCELED | Errno::EINTR | Errno::EAGAIN), _) => {}
            (Err(error), _) => self.on_broken(slot, Phase::Receive, Cause::of(error)),
        }
        if let Some(received) = received {
            self.buffers.give_back(received, &mut self.ring);
        }
        let connection = &self.connections[slot as usize];
        let idle = connection.receiving == Asked::Idle;
        if idle && connection.state == State::Standing && done.outcome() != Err(Errno::ENOBUFS) {
            self.arm_receive(slot);
        }
        self.advance(slot);
    }

    fn on_bytes(&mut self, slot: u32, bytes: u32, received: &Received) {
        self.account.now().bytes_received += u64::from(bytes);
        let served = self.is_served(slot);
        let connection = &mut self.connections[slot as usize];
        if connection.state != State::Standing && !served {
            return; // It was lost, or the run is over: nothing is owed any more.
        }
        if self.share.plan.verify {
            let (stream, asked) = (Stream::new(self.key, connection.number), connection.handed());
            let verdict = connection.verifier.received(stream, asked, self.buffers.bytes(received));
            if let Verdict::Wrong(wrong) = verdict {
                return self.on_wrong(slot, *wrong);
            }
        } else {
            connection.verifier.skipped(u64::from(bytes));
        }
        while self.connections[slot as usize].outstanding() > 0 && self.answered(slot) {}
    }

    /// Whether the oldest message on its way has come back whole; counts it if it has.
    fn answered(&mut self, slot: u32) -> bool {
        let connection = &self.connections[slot as usize];
        if connection.verifier.count() < connection.answer_end {
            return false;
        }
        let next = if connection.outstanding() > 1 {
            self.size(connection.number, connection.answered + 1)
        } else {
            0 // Set when it is begun.
        };
        let connection = &mut self.connections[slot as usize];
        let message = connection.answered;
        let place = connection.outstanding() == u64::from(self.depth);
        connection.answered += 1;
        connection.answer_end += next;
        if place {
            connection.free_since = self.now;
        }
        self.outstanding -= 1;
        let counts = message >= connection.first_counted;
        if counts {
            self.finished += 1;
        }
        if if self.counted { counts } else { self.account.inside() } {
            connection.messages += 1;
        }
        self.account.messages(counts).messages += 1;
        self.sample(slot, message, counts);
        self.succeeded_at = self.now;
        if self.churns {
            self.connections[slot as usize].failed = 0;
            self.end(slot, Then::Next);
        }
        true
    }

    fn sample(&mut self, slot: u32, message: u64, counts: bool) {
        // Nobody waits for a message of a stream.
        if self.depth == 0 || !self.share.plan.latency {
            return;
        }
        let place = slot as usize * self.depth as usize + (message % u64::from(self.depth)) as usize;
        let stamp = self.stamps[place];
        let open = matches!(self.order, Loop::Open(_));
        if let Some(interval) = self.account.samples(stamp.intended, counts) {
            interval.service.record(self.now.saturating_sub(stamp.sent));
            if open {
                interval.response.record(self.now.saturating_sub(stamp.intended));
            }
        }
    }

    fn on_wrong(&mut self, slot: u32, wrong: Wrong) {
        self.ended.wrong_connections += 1;
        if self.ended.wrong.len() < WRONG_MAX {
            self.ended.wrong.push(wrong);
        }
        if self.is_served(slot) {
            // It is ending already, and its message has been counted; its life does not count.
            self.account.now().troubles.count(Phase::Receive, Cause::WrongBytes);
            self.connections[slot as usize].failed = 1;
            return;
        }
        // Its stream cannot be trusted any more.
        self.lose(slot, Phase::Receive, Cause::WrongBytes);
    }

    /// Whether the connection churns and has had its one answer: it is being closed, and whatever still
    /// comes was not asked for.
    pub(super) fn is_served(&self, slot: u32) -> bool {
        let connection = &self.connections[slot as usize];
        let answered = connection.asked > 0 && connection.outstanding() == 0;
        self.churns && answered && connection.state == State::Ending && connection.failed == 0
    }

    /// The server has closed. Nobody asked it to.
    fn on_finished(&mut self, slot: u32) {
        if self.connections[slot as usize].broken != 0 {
            return self.on_broken(slot, Phase::Receive, Cause::ClosedEarly);
        }
        let stands = self.connections[slot as usize].state == State::Standing;
        if stands && !self.is_wrong_at_end(slot, Ending::Closed) {
            self.lose(slot, Phase::Receive, Cause::ClosedEarly);
        }
    }

    /// The connection has ended by an error: bytes that were wrong before weigh more than that.
    pub(super) fn on_broken(&mut self, slot: u32, phase: Phase, cause: Cause) {
        let Connection { state, broken, .. } = self.connections[slot as usize];
        if !(state == State::Standing && self.is_wrong_at_end(slot, Ending::Closed)) {
            // Whoever met it first tells what it was.
            match broken {
                0 => self.lose(slot, phase, cause),
                error => self.lose(slot, Phase::Send, Cause::of(Errno::from_raw(error.into()))),
            }
        }
    }

    /// Nothing more comes: whether what did come turns out to be wrong. The connection is lost then. That
    /// bytes are owed is not wrong here: the caller has its own word for it.
    pub(super) fn is_wrong_at_end(&mut self, slot: u32, ending: Ending) -> bool {
        let connection = &mut self.connections[slot as usize];
        let (stream, asked) = (Stream::new(self.key, connection.number), connection.handed());
        if !self.share.plan.verify {
            return false;
        }
        match connection.verifier.ended(stream, asked, ending) {
            None => false,
            Some(wrong) if matches!(wrong.kind, Kind::EndedEarly { .. } | Kind::Stalled { .. }) => false,
            Some(wrong) => {
                self.on_wrong(slot, *wrong);
                true
            }
        }
    }

    fn on_empty_pool(&mut self, slot: u32) {
        self.ring.found_no_buffer();
        self.ended.empty_pool += 1;
        if self.connections[slot as usize].state == State::Standing {
            self.starved.push_back(slot);
        }
    }

    /// Arms the receives that found no buffer: whatever came in this batch has been given back. Nobody is
    /// left for the next batch, in which a slot could have another life.
    pub(super) fn rearm_starved(&mut self) {
        while let Some(slot) = self.starved.pop_front() {
            let connection = &self.connections[slot as usize];
            if connection.state == State::Standing && connection.receiving == Asked::Idle {
                self.arm_receive(slot);
            }
        }
    }
}
