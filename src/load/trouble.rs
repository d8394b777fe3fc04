//! What can go wrong with a connection, told apart by phase and cause, and what to do about it. Pure.

use nix::errno::Errno;

/// What the connection was doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Phase {
    /// Its socket was being made and bound.
    Open,
    /// It was being connected.
    Connect,
    /// It was sending.
    Send,
    /// It was receiving, or waiting to.
    Receive,
    /// It was being closed.
    Close,
}

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Cause {
    /// The kernel answered with an error.
    Errno(i32),
    /// The server closed the connection while it owed bytes, or though nobody had asked it to.
    ClosedEarly,
    /// It was not connected in time.
    TimedOut,
    /// It was owed bytes when the grace was over.
    Stuck,
    /// Bytes were wrong; see the list of them.
    WrongBytes,
}

/// How often each pair of phase and cause happened.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Troubles {
    counts: Vec<(Phase, Cause, u64)>,
}

impl Troubles {
    /// One more.
    pub fn count(&mut self, phase: Phase, cause: Cause) {
        self.count_many(phase, cause, 1);
    }

    /// `count` more.
    pub fn count_many(&mut self, phase: Phase, cause: Cause, count: u64) {
        match self.counts.iter_mut().find(|(other, why, _)| (*other, *why) == (phase, cause)) {
            Some((.., sum)) => *sum += count,
            None => self.counts.push((phase, cause, count)),
        }
    }

    /// Adds all of `other`.
    pub fn add(&mut self, other: &Self) {
        other.counts.iter().for_each(|&(phase, cause, count)| self.count_many(phase, cause, count));
    }

    /// Each pair and how often, the most frequent first.
    #[must_use]
    pub fn most_first(&self) -> Vec<(Phase, Cause, u64)> {
        let mut counts = self.counts.clone();
        counts.sort_by(|one, other| other.2.cmp(&one.2).then(one.cmp(other)));
        counts
    }

    /// How many there were.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.counts.iter().map(|(.., count)| count).sum()
    }
}

impl Cause {
    /// An error of the kernel's.
    #[must_use]
    pub const fn of(errno: Errno) -> Self {
        Self::Errno(errno as i32)
    }
}
