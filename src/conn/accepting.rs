//! Whether connections are taken now, and what the kernel's answer to an accept means. Both servers
//! pause for the same reasons, as long, and try again at the same moments.
//!
//! Absent on purpose: how accepting stops and goes on. One server cancels what it asked for, the other
//! does not ask.

use super::machine::Refusal;
use super::{Admission, Tick};
use nix::errno::Errno;

/// The first pause after a shortage of descriptors or memory, milliseconds. Somebody of this program
/// who leaves ends it at once; the time is for what other programs give back.
const PAUSE_AT_FIRST: Tick = 1000;
/// Pauses double up to this, milliseconds.
const PAUSE_MAX: Tick = 8000;
/// Failures of the network in a row that pause like a shortage: one that fails every connection shall
/// not keep us busy.
const FAILURES_MAX: u32 = 64;

/// What an error of accept means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Nobody is queued.
    Nobody,
    /// That one failed, for this cause if it is lost: the next may not.
    Next(Option<Refusal>),
    /// The next would fail too, until something is given back.
    Starved(Refusal),
}

impl Answer {
    /// accept(2), "Error handling": what the network did to one connection says nothing about the
    /// next. What we do not know pauses like a shortage, because it must not spin.
    ///
    /// A peer is refused for want of descriptors where the kernel takes it first and drops it (direct
    /// descriptors, `ENFILE`); else it waits in the queue, and the attempt is counted all the same.
    #[must_use]
    pub const fn of(error: Errno) -> Self {
        match error {
            Errno::EAGAIN => Self::Nobody,
            Errno::EINTR => Self::Next(None),
            Errno::EMFILE | Errno::ENFILE => Self::Starved(Refusal::Descriptors),
            Errno::ECONNABORTED
            | Errno::EPROTO
            | Errno::EPERM
            | Errno::ENETDOWN
            | Errno::ENOPROTOOPT
            | Errno::EHOSTDOWN
            | Errno::ENONET
            | Errno::EHOSTUNREACH
            | Errno::EOPNOTSUPP
            | Errno::ENETUNREACH
            | Errno::ETIMEDOUT => Self::Next(Some(Refusal::Aborted)),
            _ => Self::Starved(Refusal::Memory),
        }
    }
}

/// Why connections are, or last were, not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cause {
    /// For no reason: the last attempt went well.
    None,
    /// All permits are taken. Peers wait in the kernel's queue.
    Full,
    /// Descriptors or memory ran out.
    Shortage {
        /// When to try again in any case.
        retry: Tick,
        /// How long this pause is, milliseconds.
        pause: Tick,
        /// Connections that were open when it began: with fewer, a descriptor has come free.
        open: u32,
    },
}

/// Whether connections are taken.
#[derive(Debug)]
pub struct Accepting {
    cause: Cause,
    paused: bool,
    /// Connections in a row that the network failed.
    failures: u32,
}

impl Accepting {
    /// They are.
    #[must_use]
    pub const fn new() -> Self {
        Self { cause: Cause::None, paused: false, failures: 0 }
    }

    /// Whether nobody is to be taken now.
    #[must_use]
    pub const fn is_paused(&self) -> bool {
        self.paused
    }

    /// When to try again in any case, if a time is set.
    #[must_use]
    pub const fn retry(&self) -> Option<Tick> {
        match self.cause {
            Cause::Shortage { retry, .. } if self.paused => Some(retry),
            _ => None,
        }
    }

    /// Somebody was taken, or nobody is queued.
    pub const fn went_well(&mut self) {
        self.failures = 0;
        if !self.paused {
            self.cause = Cause::None;
        }
    }

    /// The kernel answered with an error. True when that begins a pause.
    pub fn failed(&mut self, answer: Answer, now: Tick, admission: &Admission) -> bool {
        match answer {
            Answer::Nobody => self.went_well(),
            Answer::Next(_) if self.failures + 1 < FAILURES_MAX => self.failures += 1,
            Answer::Next(_) | Answer::Starved(_) => return self.starved(now, admission),
        }
        false
    }

    /// No permit is free. True when that begins a pause.
    pub fn full(&mut self, now: Tick, admission: &Admission) -> bool {
        self.pause(Cause::Full, now, admission)
    }

    /// The kernel has no descriptor, no memory or no room. True when that begins a pause: one after a
    /// pause in vain is longer.
    pub fn starved(&mut self, now: Tick, admission: &Admission) -> bool {
        self.failures = 0;
        let pause = match self.cause {
            Cause::Shortage { pause, .. } => (pause * 2).min(PAUSE_MAX),
            Cause::None | Cause::Full => PAUSE_AT_FIRST,
        };
        self.pause(Cause::Shortage { retry: now + pause, pause, open: admission.open() }, now, admission)
    }

    fn pause(&mut self, cause: Cause, now: Tick, admission: &Admission) -> bool {
        if self.paused {
            return false; // What was under way when it began.
        }
        (self.cause, self.paused) = (cause, true);
        // Who left since the attempt did not know that somebody waits: look again.
        !self.resume(now, admission)
    }

    /// Ends the pause if its reason is gone; true when connections are taken. While they are not,
    /// whoever leaves is asked to wake us: it is asked first and the state looked at afterwards, so that
    /// nobody can leave in between unnoticed. Where a shortage is over and all permits are taken by then,
    /// a permit is what is waited for.
    pub fn resume(&mut self, now: Tick, admission: &Admission) -> bool {
        if self.paused {
            admission.wait();
            self.paused = match self.cause {
                Cause::None => false,
                Cause::Full => admission.is_full(),
                Cause::Shortage { retry, open, .. } => now < retry && admission.open() >= open,
            };
            if !self.paused && admission.is_full() {
                (self.cause, self.paused) = (Cause::Full, true);
            }
        }
        !self.paused
    }

    /// Some of what was short has come free: a pause for want of it has lasted long enough.
    pub const fn relieved(&mut self) {
        if let Cause::Shortage { retry, .. } = &mut self.cause {
            *retry = 0;
        }
    }

    /// The server stops: the end of a pause would be waited for in vain.
    pub const fn stop(&mut self) {
        *self = Self::new();
    }
}

impl Default for Accepting {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ten_seconds_without_a_descriptor_cost_at_most_four_attempts() {
        let admission = Admission::new(10);
        let (mut attempts, mut accepting) = (0, Accepting::new());
        for now in 0..10_000 {
            if accepting.resume(now, &admission) {
                attempts += 1;
                assert!(accepting.failed(Answer::of(Errno::EMFILE), now, &admission));
            }
        }
        assert_eq!(attempts, 4);
    }

    #[test]
    fn a_pause_is_as_short_as_the_first_once_somebody_was_taken() {
        let admission = Admission::new(10);
        let mut accepting = Accepting::new();
        assert!(accepting.starved(0, &admission) && accepting.resume(1000, &admission));
        assert!(accepting.starved(1000, &admission));
        assert_eq!(accepting.retry(), Some(3000));
        // What was under way when it began changes nothing.
        assert!(!accepting.starved(1001, &admission));
        accepting.went_well();
        assert_eq!(accepting.retry(), Some(3000));
        assert!(accepting.resume(3000, &admission));
        accepting.went_well();
        assert!(accepting.starved(3000, &admission));
        assert_eq!(accepting.retry(), Some(4000));
    }

    #[test]
    fn who_leaves_ends_a_pause_at_once() {
        let admission = Admission::new(2);
        assert!(admission.try_enter() && admission.try_enter());
        let (mut starved, mut full) = (Accepting::new(), Accepting::new());
        assert!(starved.starved(0, &admission) && full.full(0, &admission));
        assert!(!starved.resume(1, &admission) && !full.resume(1, &admission));
        assert!(admission.leave(), "somebody waits");
        assert!(starved.resume(2, &admission) && full.resume(2, &admission));
        assert!(!full.full(3, &admission), "somebody has left since the attempt");
    }

    #[test]
    fn what_comes_free_ends_a_pause_for_want_of_it_and_no_other() {
        let (admission, taken) = (Admission::new(1), Admission::new(1));
        assert!(taken.try_enter());
        let (mut starved, mut full) = (Accepting::new(), Accepting::new());
        assert!(starved.starved(5, &admission) && full.full(5, &taken));
        starved.relieved();
        full.relieved();
        assert_eq!((starved.retry(), full.retry()), (Some(0), None));
        assert!(starved.resume(6, &admission) && !full.resume(6, &taken));
    }

    #[test]
    fn a_shortage_that_is_over_when_all_permits_are_taken_waits_for_one_of_them() {
        let admission = Admission::new(1);
        let mut accepting = Accepting::new();
        assert!(accepting.starved(5, &admission));
        assert!(admission.try_enter());
        assert!(!accepting.resume(1005, &admission), "nobody could be let in");
        assert_eq!(accepting.retry(), None);
        assert!(admission.leave(), "nobody would wake it");
        assert!(accepting.resume(1006, &admission));
    }

    #[test]
    fn a_network_that_fails_every_connection_pauses_like_a_shortage() {
        let admission = Admission::new(2);
        let mut accepting = Accepting::new();
        let aborted = Answer::of(Errno::ECONNABORTED);
        for _ in 0..2 {
            let many = (1..FAILURES_MAX).all(|_| !accepting.failed(aborted, 0, &admission));
            assert!(many, "one after the other");
            accepting.went_well();
        }
        assert!((1..FAILURES_MAX).all(|_| !accepting.failed(aborted, 0, &admission)));
        assert!(accepting.failed(aborted, 0, &admission));
    }

    #[test]
    fn what_runs_out_is_told_apart_and_what_nobody_knows_pauses() {
        for (error, answer) in [
            (Errno::EMFILE, Answer::Starved(Refusal::Descriptors)),
            (Errno::ENFILE, Answer::Starved(Refusal::Descriptors)),
            (Errno::ENOBUFS, Answer::Starved(Refusal::Memory)),
            (Errno::ENOMEM, Answer::Starved(Refusal::Memory)),
            (Errno::EPROTO, Answer::Next(Some(Refusal::Aborted))),
            (Errno::EIO, Answer::Starved(Refusal::Memory)),
        ] {
            assert_eq!(Answer::of(error), answer, "{error}");
        }
    }
}
