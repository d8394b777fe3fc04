//! How connections end: whatever the kernel does for one is ended first, then it is closed, and its slot
//! is free when the close is answered. Part of the engine.

use super::super::payload::Ending;
use super::super::trouble::{Cause, Phase};
use super::connection::{Asked, State, Then};
use super::stages::Stage;
use super::token::Kind;
use super::{Engine, Loop};
use crate::ring::{Completion, Dialing, Operation};
use std::sync::atomic::Ordering;

/// Connections that are told to end in one turn, when all are.
const CLOSED_AT_ONCE: u32 = 256;
/// Stuck connections that are named.
const NAMED: usize = 8;

impl<R: Dialing> Engine<'_, R> {
    /// The connection came to a bad end: what it had on its way never comes.
    pub(super) fn lose(&mut self, slot: u32, phase: Phase, cause: Cause) {
        let connection = &mut self.connections[slot as usize];
        if connection.state != State::Standing {
            return; // It is ending already, and that is what the kernel tells of.
        }
        connection.failed = connection.failed.saturating_add(1);
        self.account.now().troubles.count(phase, cause);
        self.forget_messages(slot);
        self.forget_schedule(slot);
        self.end(slot, if self.churns { Then::Next } else { Then::Leave });
    }

    /// Nobody waits for its messages any more. They stay unanswered, and are counted so at the end.
    fn forget_messages(&mut self, slot: u32) {
        let connection = &mut self.connections[slot as usize];
        let lost = connection.outstanding();
        let first = connection.answered.max(connection.first_counted);
        self.finished += connection.asked.saturating_sub(first);
        self.outstanding -= lost;
    }

    /// Nobody waits for what it still has to send. A slot that churns sends it in another life.
    fn forget_schedule(&mut self, slot: u32) {
        let due = self.connections[slot as usize].due;
        if self.stage == Stage::Grace && !self.churns && self.is_due(due) {
            self.behind -= 1;
        }
    }

    /// Ends what is in flight, then closes.
    pub(super) fn end(&mut self, slot: u32, then: Then) {
        let connection = &mut self.connections[slot as usize];
        let before = std::mem::replace(&mut connection.state, State::Ending);
        connection.then = then;
        let in_flight = connection.in_flight;
        match before {
            State::Standing => {
                self.open -= 1;
                self.share.control.connected.fetch_sub(1, Ordering::Relaxed);
                if self.stage == Stage::Leaving {
                    return; // In its turn.
                }
                self.cancel_all(slot);
            }
            State::Connecting => {
                self.delist(slot);
                // A connect that has been answered is over.
                if in_flight > 0 {
                    self.cancel(Kind::Connect, slot);
                }
            }
            other => panic!("a connection that is {other:?} cannot end"),
        }
        self.close_if_quiet(slot);
    }

    fn cancel_all(&mut self, slot: u32) {
        let connection = &mut self.connections[slot as usize];
        let receiving = connection.receiving == Asked::Armed;
        let watching = connection.room == Asked::Armed;
        if receiving {
            connection.receiving = Asked::Cancelling;
            self.cancel(Kind::Receive, slot);
        }
        if watching {
            self.connections[slot as usize].room = Asked::Cancelling;
            self.cancel(Kind::Room, slot);
        }
    }

    pub(super) fn close_if_quiet(&mut self, slot: u32) {
        if self.connections[slot as usize].in_flight > 0 {
            return;
        }
        if self.is_served(slot) {
            // Nothing more can come: what came behind the answer, if anything did, gets its name.
            self.is_wrong_at_end(slot, Ending::Closed);
        }
        let began = self.stamp();
        let connection = &mut self.connections[slot as usize];
        connection.state = State::Closing;
        connection.began = began;
        let socket = connection.socket.expect("a connection that ends has a socket");
        self.push(Operation::Close { socket }, Kind::Close, slot);
    }

    pub(super) fn on_closed(&mut self, slot: u32, done: Completion) {
        let connection = &mut self.connections[slot as usize];
        let socket = connection.socket.take().expect("it had one until now");
        self.ring.closed(socket);
        if let Err(error) = done.outcome() {
            self.account.now().troubles.count(Phase::Close, Cause::of(error));
        }
        match connection.then {
            Then::Leave => connection.state = State::Gone,
            Then::TryAgain => self.try_again(slot),
            Then::Next => self.on_life_over(slot),
        }
    }

    /// A life of a churning slot is over; the next one begins.
    fn on_life_over(&mut self, slot: u32) {
        let connection = &mut self.connections[slot as usize];
        let began = connection.began;
        let (failed, counts) = (connection.failed, connection.counts());
        let answered = connection.answered > 0;
        // Of all lives of all slots each has a number of its own, until the numbers are used up.
        let number = connection.number.wrapping_add(self.share.plan.connections) & super::NUMBERS;
        connection.permitted = false;
        connection.renew(number);
        if failed == 0 {
            self.account.messages(counts).connections += 1;
            let latency = self.share.plan.latency;
            if let Some(interval) = self.account.samples(began, counts).filter(|_| latency) {
                // Operations can be answered in the turn that asks for them, and `began` is as late as the
                // last stamp.
                interval.close.record(self.sending_at - began);
            }
        }
        if answered && matches!(self.order, Loop::Open(_)) {
            self.connections[slot as usize].free_since = self.now;
            self.set_due(slot);
        }
        if failed > 0 {
            // What was not answered is asked again at the same time of the schedule: whoever waits, waits on.
            return self.try_again(slot);
        }
        self.connect(slot);
    }

    /// Begins to close everything: the run is over. What of it is owed is told now, of all at one time; their
    /// operations are ended a few in each turn.
    pub(super) fn close_all(&mut self) {
        self.dialer.stop();
        for slot in 0..self.connections.len() as u32 {
            let connection = &mut self.connections[slot as usize];
            connection.then = Then::Leave;
            match connection.state {
                State::Waiting => connection.state = State::Gone,
                State::Connecting => self.end(slot, Then::Leave),
                State::Standing => {
                    if !self.is_wrong_at_end(slot, Ending::Silent) {
                        self.name_stuck(slot);
                        self.forget_messages(slot);
                        self.end(slot, Then::Leave);
                    }
                    // Also where a churning slot would go on.
                    self.connections[slot as usize].then = Then::Leave;
                }
                State::Ending | State::Closing | State::Gone => {}
            }
        }
    }

    /// Whether there are connections that still have to be told to end, everything being closed.
    pub(super) fn has_to_close(&self) -> bool {
        self.stage == Stage::Leaving && (self.closing as usize) < self.connections.len()
    }

    /// Tells the next few of them. All at once would be two answers for each, in one batch.
    pub(super) fn close_some(&mut self) {
        if !self.has_to_close() {
            return;
        }
        let slots = self.closing..(self.connections.len() as u32).min(self.closing + CLOSED_AT_ONCE);
        self.closing = slots.end;
        for slot in slots {
            if self.connections[slot as usize].state == State::Ending {
                self.cancel_all(slot);
                self.close_if_quiet(slot);
            }
        }
    }

    /// Counts the connection if it is still owed bytes.
    fn name_stuck(&mut self, slot: u32) {
        let connection = &self.connections[slot as usize];
        if connection.outstanding() == 0 || self.account.window().0 == u64::MAX {
            return;
        }
        let stuck = &mut self.ended.stuck;
        stuck.count += 1;
        if stuck.first.len() < NAMED {
            stuck.first.push((connection.number, connection.owed()));
        }
        self.account.now().troubles.count(Phase::Receive, Cause::Stuck);
    }
}
