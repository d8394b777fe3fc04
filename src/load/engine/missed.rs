//! What should have come back and did not, counted when the engine stops to wait: messages that were sent
//! and not answered and, in an open loop, those that were due in the window and never sent. A server that
//! stops must not look fast because nobody could ask it anything: each of them enters the response with
//! the time it had waited by then, which its true one exceeds. Part of the engine.

use super::{Engine, Loop};
use crate::ring::Dialing;

/// Messages of a thread whose times are looked up one by one, about: some tenths of a second.
const ONE_BY_ONE: usize = 1 << 22;

impl<R: Dialing> Engine<'_, R> {
    /// Called once, before anything is closed.
    pub(super) fn count_missed(&mut self) {
        // Nobody waits for a message of a stream.
        if self.depth == 0 || self.load_began == u64::MAX {
            return;
        }
        for slot in 0..self.connections.len() as u32 {
            self.count_unanswered(slot);
            self.count_unsent(slot);
        }
    }

    fn count_unanswered(&mut self, slot: u32) {
        let connection = &self.connections[slot as usize];
        let record = matches!(self.order, Loop::Open(_)) && self.share.plan.latency;
        for message in connection.answered..connection.asked {
            let place = slot as usize * self.depth as usize + (message % u64::from(self.depth)) as usize;
            let intended = self.stamps[place].intended;
            let counts = message >= connection.first_counted;
            let Some(interval) = self.account.samples(intended, counts) else { continue };
            interval.unanswered += 1;
            if record {
                interval.response.record(self.now.saturating_sub(intended));
            }
        }
    }

    /// Goes on in the schedule where the connection stopped, or would have begun.
    fn count_unsent(&mut self, slot: u32) {
        let Loop::Open(pace) = self.order.clone() else { return };
        let connection = &self.connections[slot as usize];
        if self.churns && connection.asked > 0 {
            self.set_due(slot); // The life of that time has sent.
        }
        let (began, due) = (self.load_began, self.connections[slot as usize].due);
        // A thread that failed leaves before the window is over.
        let end = self.account.window().1.min(self.now);
        let most = (ONE_BY_ONE / self.connections.len()).max(16);
        let index = self.share.connections.start + slot;
        pace.walk(index, due - began, end.saturating_sub(began), most, |time, count| {
            self.count_missing(slot, began + time, count);
        });
    }

    /// So many messages that were due at `time`, or about then, have not been sent.
    fn count_missing(&mut self, slot: u32, time: u64, count: u64) {
        // Where their number ends the run, no more of them than that.
        let count = if self.counted {
            (0..count).take_while(|_| self.is_missing(slot, time)).count() as u64
        } else {
            count
        };
        if count == 0 {
            return;
        }
        if let Some(interval) = self.account.samples(time, true) {
            interval.unsent += count;
            if self.share.plan.latency {
                interval.response.record_many(self.now.saturating_sub(time), count);
            }
        }
    }

    /// Whether it takes a place among the counted messages.
    fn is_missing(&mut self, slot: u32, time: u64) -> bool {
        time >= self.account.window().0 && self.permit(slot, time)
    }
}
