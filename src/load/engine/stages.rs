//! The stages of a thread: ramp, ready, load, grace, leaving. What the main thread says and what the
//! clock says move it on, never back. Part of the engine.

use super::super::control::{self, Report};
use super::super::tally::{Ended, Spread};
use super::connection::{Connection, State};
use super::token::{self, Kind};
use super::{Ending, Engine, Loop};
use crate::ring::{Dialing, Operation};
use std::sync::atomic::Ordering;

/// How far a thread has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Stage {
    /// Its connections are being made.
    Ramping,
    /// They stand or were given up; it waits for the others.
    Ready,
    /// Messages are begun.
    Loading,
    /// Answers are awaited. Of an open loop, what was due in the window is still sent; nothing else is.
    Grace,
    /// Everything is being closed.
    Leaving,
}

impl<R: Dialing> Engine<'_, R> {
    /// Whether messages may be begun.
    pub(super) fn may_begin(&self) -> bool {
        self.stage == Stage::Loading || self.catches_up()
    }

    /// Whether somebody's time may come.
    pub(super) fn takes_times(&self) -> bool {
        matches!(self.stage, Stage::Ramping | Stage::Loading) || self.catches_up()
    }

    /// Whether what was due in the window is sent after it.
    fn catches_up(&self) -> bool {
        let open = matches!(self.order, Loop::Open(_));
        open && self.stage == Stage::Grace && self.now < self.grace_ends()
    }

    /// Whether a time of the schedule lies before the end of the window.
    pub(super) fn is_due(&self, time: u64) -> bool {
        let scheduled = matches!(self.order, Loop::Open(_)) && self.load_began != u64::MAX;
        scheduled && time < self.account.window().1
    }

    /// Whether something that was due in the window can still be sent.
    fn is_behind(&self) -> bool {
        // Where their number ends the run, there may be none left to be sent.
        let left = !self.counted || self.permits > 0 || self.share.control.left().0 > 0;
        self.behind > 0 && left && self.catches_up()
    }

    /// When the stage ends by the clock.
    pub(super) fn stage_ends(&self) -> u64 {
        match self.stage {
            Stage::Loading => self.account.window().1,
            // Also what was sent late is awaited for so long.
            Stage::Grace if self.now >= self.grace_ends() => {
                let last = self.caught_up_at.saturating_add(self.share.plan.grace.as_nanos() as u64);
                last.max(self.grace_ends())
            }
            Stage::Grace => self.grace_ends(),
            Stage::Ramping | Stage::Ready | Stage::Leaving => u64::MAX,
        }
    }

    /// Until when something may be sent.
    fn grace_ends(&self) -> u64 {
        self.account.window().1.saturating_add(self.share.plan.grace.as_nanos() as u64)
    }

    /// Whether the run cannot go on.
    pub(super) const fn has_failed(&self) -> bool {
        self.ended.failure.is_some()
    }

    /// Passes the edges of the window that lie behind, and moves on to the stage of the time.
    pub(super) fn obey(&mut self) -> Option<Ending> {
        let phase = self.share.control.phase();
        if phase == control::Phase::Over {
            return Some(Ending::Cut);
        }
        if phase >= control::Phase::Load && self.stage != Stage::Leaving {
            self.account.set_window(self.share.control);
        }
        let (ring, share) = (&self.ring, &self.share);
        self.account.pass(self.now, self.open, || Self::cost(ring, share));
        if self.stage == Stage::Ramping && self.stage_is_over() {
            self.stage = Stage::Ready;
            let (thread, ramp) = (self.share.thread, self.account.ramp_so_far());
            // The main thread may have left.
            let _ = self.share.reports.send(Report::Ramped { thread, ramp });
        }
        if self.stage < Stage::Loading && phase == control::Phase::Load {
            self.begin_load();
        }
        if self.stage < Stage::Grace && (phase == control::Phase::Grace || self.now >= self.stage_ends()) {
            self.begin_grace();
        }
        let over = self.stage == Stage::Grace && (self.stage_is_over() || self.now >= self.stage_ends());
        if self.stage != Stage::Leaving && (over || self.has_failed()) {
            self.leave();
        }
        (self.stage == Stage::Leaving && self.stage_is_over()).then_some(Ending::Closed)
    }

    /// Whether the stage is over by what has happened in it, whatever the clock says.
    pub(super) fn stage_is_over(&self) -> bool {
        match self.stage {
            Stage::Ramping => self.dialer.done() || self.has_failed(),
            Stage::Ready | Stage::Loading => self.has_failed(),
            Stage::Grace => self.outstanding == 0 && !self.is_behind(),
            Stage::Leaving => !self.has_to_close() && self.in_flight == 0 && self.in_flight_other == 0,
        }
    }

    fn begin_load(&mut self) {
        self.stage = Stage::Loading;
        let begin = self.account.window().0;
        self.load_began = begin.saturating_sub(self.share.plan.warmup.as_nanos() as u64);
        for slot in 0..self.connections.len() as u32 {
            self.set_due_first(slot);
            match self.connections[slot as usize].state {
                State::Standing => self.touch(slot),
                State::Waiting if self.churns => self.connect(slot),
                _ => {}
            }
        }
    }

    fn begin_grace(&mut self) {
        self.stage = Stage::Grace;
        self.dialer.stop();
        if matches!(self.order, Loop::Open(_)) {
            let behind = |one: &&Connection| !one.is_leaving() && self.is_due(one.due);
            self.behind = self.connections.iter().filter(behind).count() as u32;
            return;
        }
        let slots: Vec<u32> = self.times.drain().collect();
        slots.into_iter().for_each(|slot| self.connections[slot as usize].scheduled = false);
    }

    fn leave(&mut self) {
        self.count_missed();
        self.stage = Stage::Leaving;
        self.close_all();
        self.push_other(Operation::Cancel { target: token::of(Kind::Wakeups, token::NOBODY) });
    }

    fn push_other(&mut self, operation: Operation) {
        self.in_flight_other += 1;
        self.ring.push(operation, token::of(Kind::CancelWakeups, token::NOBODY));
    }

    /// Tells how many counted messages have come to an end since the last time.
    pub(super) fn say_finished(&mut self) {
        if self.finished > 0 {
            self.share.control.finish(self.finished, self.now);
            self.finished = 0;
        }
    }

    /// Its last word.
    pub(super) fn finish(&mut self) -> Ended {
        self.say_finished();
        if self.stage != Stage::Leaving {
            self.count_missed(); // Cut off: it did not come to its leave.
        }
        let mut ended = std::mem::take(&mut self.ended);
        ended.after = self.account.close();
        ended.ramp = std::mem::take(&mut self.account.ramp);
        ended.cpu = self.account.spent.cpu;
        ended.system_calls = self.account.spent.enters;
        ended.overflows += self.ring.overflows();
        self.connections.iter().for_each(|connection| add(&mut ended.spread, u64::from(connection.messages)));
        self.share.control.connected.fetch_sub(self.open, Ordering::Relaxed);
        ended
    }
}

/// Counts a connection with so many messages.
fn add(spread: &mut Spread, messages: u64) {
    spread.least = if spread.connections == 0 { messages } else { spread.least.min(messages) };
    spread.most = spread.most.max(messages);
    spread.connections += 1;
    spread.silent += u64::from(messages == 0);
    spread.sum += messages as f64;
    spread.sum_of_squares += (messages as f64).powi(2);
}
