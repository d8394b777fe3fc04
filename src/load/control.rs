//! What the main thread and the load threads tell each other: the phase of the run and the edges of the
//! window one way, numbers the other. All times are nanoseconds since the origin of the run, one for all
//! threads.

use super::tally::Interval;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender};
use std::time::Instant;

/// How far the run has come. It never goes back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Phase {
    /// Connections are being made; nothing is sent on those that stand.
    Ramp = 0,
    /// Load; what is measured is decided by the window.
    Load = 1,
    /// No new message; answers are awaited until the grace ends.
    Grace = 2,
    /// Every thread closes what it has and ends, whatever it is owed.
    Over = 3,
}

/// Shared by all threads of a run. The main thread is the only writer of phase and window.
#[derive(Debug)]
pub struct Control {
    /// What all times count from.
    pub origin: Instant,
    phase: AtomicU8,
    /// The window's first and last edge. The last one is [`u64::MAX`] while it is open.
    begin: AtomicU64,
    end: AtomicU64,
    /// Connections that stand.
    pub connected: AtomicU32,
    /// Connections that were given up during the ramp.
    pub given_up: AtomicU32,
    /// Whether a connection has ever stood.
    pub stood: AtomicBool,
    /// Where a number of messages ends the run: those nobody has taken on yet, those that have not come
    /// to an end, and when the last one did.
    permits: AtomicU64,
    unfinished: AtomicU64,
    finished_at: AtomicU64,
}

impl Control {
    /// For a run that begins now.
    #[must_use]
    pub fn new(origin: Instant, messages: u64) -> Self {
        Self {
            origin,
            phase: AtomicU8::new(Phase::Ramp as u8),
            begin: AtomicU64::new(u64::MAX),
            end: AtomicU64::new(u64::MAX),
            connected: AtomicU32::new(0),
            given_up: AtomicU32::new(0),
            stood: AtomicBool::new(false),
            permits: AtomicU64::new(messages),
            unfinished: AtomicU64::new(messages),
            finished_at: AtomicU64::new(u64::MAX),
        }
    }

    /// Takes on at most `most` of the messages whose number ends the run, fewer near the end, so that
    /// all of `threads` have some; 0 where none is left.
    pub fn take_permits(&self, most: u64, threads: u64) -> u64 {
        let share = |left: u64| most.min(left / (2 * threads) + 1).min(left);
        let took = self.permits.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| {
            if left == 0 { None } else { Some(left - share(left)) }
        });
        took.map_or(0, share)
    }

    /// So many of those messages have come to an end, good or bad, by `now`.
    pub fn finish(&self, messages: u64, now: u64) {
        if self.unfinished.fetch_sub(messages, Ordering::AcqRel) == messages {
            self.finished_at.store(now, Ordering::Release);
        }
    }

    /// When the last of those messages came to its end; `None` while some have not.
    #[must_use]
    pub fn finished_at(&self) -> Option<u64> {
        let at = self.finished_at.load(Ordering::Acquire);
        (at != u64::MAX).then_some(at)
    }

    /// Those messages that nobody has taken on yet, and those that have not come to an end.
    #[must_use]
    pub fn left(&self) -> (u64, u64) {
        (self.permits.load(Ordering::Relaxed), self.unfinished.load(Ordering::Acquire))
    }

    /// How far the run has come.
    #[must_use]
    pub fn phase(&self) -> Phase {
        match self.phase.load(Ordering::Acquire) {
            0 => Phase::Ramp,
            1 => Phase::Load,
            2 => Phase::Grace,
            _ => Phase::Over,
        }
    }

    /// Moves on, never back. Whoever calls it also wakes the threads ([`crate::stop::Stop`]).
    pub fn advance(&self, phase: Phase) {
        self.phase.fetch_max(phase as u8, Ordering::AcqRel);
    }

    /// Nanoseconds from the origin until now.
    #[must_use]
    pub fn now(&self) -> u64 {
        self.origin.elapsed().as_nanos() as u64
    }

    /// Sets the window; a later call may bring the end forward.
    pub fn open(&self, begin: u64, end: u64) {
        self.end.store(end, Ordering::Release);
        self.begin.store(begin, Ordering::Release);
    }

    /// The window: a message belongs to it by the time it was, or should have been, sent.
    #[must_use]
    pub fn window(&self) -> (u64, u64) {
        (self.begin.load(Ordering::Acquire), self.end.load(Ordering::Acquire))
    }
}

/// What a thread sends to the main thread.
#[derive(Debug)]
pub enum Report {
    /// All its connections stand or were given up.
    Ramped {
        /// Its number.
        thread: usize,
        /// How long its connections took, and what went wrong.
        ramp: Box<Interval>,
    },
    /// An interval of the window is over.
    Interval {
        /// Its number.
        thread: usize,
        /// What happened in it.
        interval: Box<Interval>,
    },
    /// It has ended; this is its last report.
    Ended {
        /// Its number.
        thread: usize,
        /// What it has to say that belongs to no interval.
        last: Box<super::tally::Ended>,
    },
}

/// Where a thread reports to.
pub type Reports = Sender<Report>;

/// Intervals that the main thread has added up and cleared, for the thread to use again.
pub type Spares = Receiver<Box<Interval>>;
