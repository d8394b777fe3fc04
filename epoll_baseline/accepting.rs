//! Whether connections are taken now, and what the kernel's answer to an accept means.
//!
//! A pause costs no system call: a listener's readiness is remembered, nobody asks while it lasts.

use crate::conn::machine::Refusal;
use crate::conn::{Admission, Tick};
use crate::counters::Counters;
use nix::errno::Errno;

/// Connections taken per listener and turn, so that a burst of new peers does not hold up the old.
pub(super) const ACCEPTS_PER_TURN: u32 = 64;
/// The first pause after a shortage of descriptors or memory, milliseconds. Somebody of this program
/// who leaves ends it at once; the time is for what other programs give back.
const PAUSE_AT_FIRST: Tick = 1000;
/// Pauses double up to this, milliseconds.
const PAUSE_MAX: Tick = 8000;

/// Whether connections are taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Accepting {
    /// Yes.
    Open,
    /// No: all permits are taken. Peers wait in the kernel's queue.
    Full,
    /// No: descriptors or memory ran out.
    Starved {
        /// When to try again in any case.
        retry: Tick,
        /// How long this pause is, milliseconds.
        pause: Tick,
        /// Connections that were open when it began: with fewer, a descriptor has come free.
        open: u32,
    },
}

impl Accepting {
    /// What follows a shortage at `now`. A pause after a pause in vain is longer.
    pub(super) fn starved(self, now: Tick, admission: &Admission) -> Self {
        let pause = match self {
            Self::Starved { pause, .. } => (pause * 2).min(PAUSE_MAX),
            Self::Open | Self::Full => PAUSE_AT_FIRST,
        };
        Self::Starved { retry: now + pause, pause, open: admission.open() }
    }

    /// Whether the pause is over. While it is not, whoever leaves is asked to wake us: it is asked
    /// first and the state looked at afterwards, so that nobody can leave in between unnoticed.
    pub(super) fn may_resume(self, now: Tick, admission: &Admission) -> bool {
        admission.wait();
        match self {
            Self::Open => true,
            Self::Full => !admission.is_full(),
            Self::Starved { retry, open, .. } => now >= retry || admission.open() < open,
        }
    }

    /// When to try again in any case, if a time is set.
    pub(super) fn retry(self) -> Option<Tick> {
        if let Self::Starved { retry, .. } = self { Some(retry) } else { None }
    }
}

/// What an error of accept means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// Nobody is queued.
    Nobody,
    /// That one failed: the next may not.
    Next(Option<Refusal>),
    /// The next would fail too, until something is given back.
    Starved(Refusal),
}

impl Answer {
    /// What an error means, and its account.
    pub(super) fn counted(error: Errno, counters: &Counters) -> Self {
        let answer = Self::of(error);
        if answer != Self::Nobody {
            counters.accept_errors.add(1);
        }
        if let Self::Next(Some(refusal)) | Self::Starved(refusal) = answer {
            counters.refused.at(refusal as usize).add(1);
        }
        answer
    }

    /// accept(2), "Error handling": what the network did to one connection says nothing about the
    /// next. What we do not know pauses like a shortage, because it must not spin.
    fn of(errno: Errno) -> Self {
        match errno {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ten_seconds_without_a_descriptor_cost_at_most_four_attempts() {
        let admission = Admission::new(10);
        let (mut attempts, mut accepting) = (0, Accepting::Open);
        for now in 0..10_000 {
            if accepting.may_resume(now, &admission) {
                attempts += 1;
                accepting = accepting.starved(now, &admission);
            }
        }
        assert_eq!(attempts, 4);
    }

    #[test]
    fn who_leaves_ends_a_pause_at_once() {
        let admission = Admission::new(2);
        assert!(admission.try_enter() && admission.try_enter());
        let starved = Accepting::Open.starved(0, &admission);
        assert!(!starved.may_resume(1, &admission) && !Accepting::Full.may_resume(1, &admission));
        assert!(admission.leave(), "somebody waits");
        assert!(starved.may_resume(2, &admission) && Accepting::Full.may_resume(2, &admission));
    }
}
