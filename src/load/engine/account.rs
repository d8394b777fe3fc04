//! The account of one load thread: which numbers belong to the window and to which interval of it. A
//! message belongs to the window by the time it was sent (closed loop) or should have been (open loop),
//! also when it comes back in the grace; what an interval counts is what came back in it.

use super::super::control::{Control, Report, Reports, Spares};
use super::super::tally::Interval;
use std::time::Duration;

/// What a thread reads at both edges of the window.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Cost {
    pub(super) cpu: Duration,
    pub(super) enters: u64,
}

#[derive(Debug)]
pub(super) struct Account {
    thread: usize,
    reports: Reports,
    spares: Spares,
    /// Length of an interval.
    length: u64,
    /// The window, as far as it is known.
    begin: u64,
    end: u64,
    /// Whether a number of messages ends the window, not a time.
    counted: bool,
    /// Where the current interval ends.
    edge: u64,
    /// True between the two edges of the window.
    inside: bool,
    current: Box<Interval>,
    /// Before the window: the ramp and the load before the measurement. After it: the grace.
    aside: Interval,
    pub(super) ramp: Interval,
    at_begin: Cost,
    pub(super) spent: Cost,
}

impl Account {
    pub(super) fn new(
        thread: usize,
        reports: Reports,
        spares: Spares,
        length: Duration,
        counted: bool,
    ) -> Self {
        Self {
            thread,
            reports,
            spares,
            length: (length.as_nanos() as u64).max(1),
            begin: u64::MAX,
            end: u64::MAX,
            counted,
            edge: u64::MAX,
            inside: false,
            current: Box::default(),
            aside: Interval::default(),
            ramp: Interval::default(),
            at_begin: Cost::default(),
            spent: Cost::default(),
        }
    }

    /// Takes the window over from the main thread, which may also have brought its end forward.
    pub(super) fn set_window(&mut self, control: &Control) {
        (self.begin, self.end) = control.window();
    }

    pub(super) const fn window(&self) -> (u64, u64) {
        (self.begin, self.end)
    }

    /// The next time at which something has to be done here.
    pub(super) fn next(&self) -> u64 {
        if self.inside {
            self.edge.min(self.end)
        } else if self.edge == u64::MAX {
            self.begin
        } else {
            u64::MAX
        }
    }

    /// Passes the edges that lie before `now`. Called before what has come is counted.
    pub(super) fn pass(&mut self, now: u64, open: u32, cost: impl FnOnce() -> Cost) {
        if now < self.next() {
            return;
        }
        let cost = cost();
        if self.edge == u64::MAX {
            self.ramp = std::mem::take(&mut self.aside);
            self.at_begin = cost;
            self.inside = true;
            self.edge = self.begin.saturating_add(self.length);
        }
        if self.inside && now >= self.end {
            self.inside = false;
            self.edge = self.end;
            self.current.open = open;
            let enters = cost.enters - self.at_begin.enters;
            self.spent = Cost { cpu: cost.cpu.saturating_sub(self.at_begin.cpu), enters };
        } else if self.inside && now >= self.edge {
            self.roll(now, open);
        }
    }

    /// Reports the interval that is over and begins the one `now` lies in.
    fn roll(&mut self, now: u64, open: u32) {
        let number = (now - self.begin) / self.length;
        // The main thread gives back in time what it got; where it is late, memory is asked for.
        let mut next = self.spares.try_recv().unwrap_or_default();
        next.number = number;
        let mut over = std::mem::replace(&mut self.current, next);
        over.open = open;
        self.report(over);
        self.edge = self.begin.saturating_add((number + 1).saturating_mul(self.length));
    }

    fn report(&self, interval: Box<Interval>) {
        // The main thread may have left; nobody needs the numbers then.
        let _ = self.reports.send(Report::Interval { thread: self.thread, interval });
    }

    /// Reports the last interval, when nothing that belongs to it can come any more; gives what lay
    /// outside of the window.
    pub(super) fn close(&mut self) -> Interval {
        if self.edge != u64::MAX {
            let last = std::mem::take(&mut self.current);
            self.report(last);
        } else {
            self.ramp = std::mem::take(&mut self.aside);
        }
        std::mem::take(&mut self.aside)
    }

    /// What has been counted before the window.
    pub(super) fn ramp_so_far(&self) -> Box<Interval> {
        Box::new(self.aside.clone())
    }

    /// Whether the window is open.
    #[inline]
    pub(super) const fn inside(&self) -> bool {
        self.inside
    }

    /// Where what happens now is counted.
    #[inline]
    pub(super) const fn now(&mut self) -> &mut Interval {
        if self.inside { &mut self.current } else { &mut self.aside }
    }

    /// Where a sample goes that is placed in time by `key`; `None` when that lies outside the window.
    /// `counts` says whether it is of one of those messages whose number ends the run.
    #[inline]
    pub(super) fn samples(&mut self, key: u64, counts: bool) -> Option<&mut Interval> {
        let inside = if self.counted { counts } else { self.begin <= key && key < self.end };
        inside.then_some(&mut self.current)
    }

    /// Where a message is counted that came back now; `counts` says whether it is one of those whose
    /// number ends the run.
    #[inline]
    pub(super) const fn messages(&mut self, counts: bool) -> &mut Interval {
        let inside = if self.counted { counts } else { self.inside };
        if inside { &mut self.current } else { &mut self.aside }
    }
}
