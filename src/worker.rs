//! What every event loop is given, whichever backend it belongs to, and what it says back. The two
//! `run` functions have one signature because of this type.

use crate::config::Config;
use crate::conn::accepting::Answer;
use crate::conn::machine::Refusal;
use crate::conn::{Admission, CloseReason, Handover, Limits};
use crate::counters::Counters;
use crate::stop::Stop;
use nix::errno::Errno;
use std::io;
use std::net::TcpListener;
use std::os::fd::BorrowedFd;
use std::time::Duration;

/// One worker's share of the server.
pub struct Worker<'a> {
    /// Its number, from 0.
    pub index: usize,
    /// What runs.
    pub config: &'a Config,
    /// Its own listeners, one per address, already listening and non-blocking.
    pub listeners: Vec<TcpListener>,
    /// The permits of `--max-connections`.
    pub admission: &'a Admission,
    /// Who holds how many, where one worker accepts for all.
    pub handover: Option<&'a Handover>,
    /// Connections this worker can hold, where a table of its own bounds them below the permits.
    pub room: u32,
    /// Its numbers; it is their only writer.
    pub counters: &'a Counters,
    /// How far the end has come.
    pub stop: &'a Stop,
    /// Called once, when everything is laid out and the worker accepts.
    pub ready: &'a (dyn Fn(Laid) + Sync),
    /// How an epoll instance is told to poll the network card.
    pub busy_poll: BusyPoll,
}

/// Has an epoll instance poll the network card for so many microseconds while it is waited on. It comes
/// from outside, because it is a system call that only one room may make.
pub type BusyPoll = fn(BorrowedFd<'_>, u32) -> io::Result<()>;

/// What a worker laid out at its start.
#[derive(Clone, Debug, Default)]
pub struct Laid {
    /// The worker's number.
    pub worker: usize,
    /// Bytes reserved, by what for.
    pub memory: Vec<(&'static str, u64)>,
    /// Sizes in force, by name (`sq`, `cq`, …), where they may differ from what was planned.
    pub sizes: Vec<(&'static str, u64)>,
    /// What had to be done otherwise than planned, a sentence each.
    pub notes: Vec<String>,
}

/// Why a worker ended before it was told to.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The backend, or a feature that was asked for, is not to be had here: exit 6.
    #[error("{0}")]
    Unavailable(String),
    /// Anything else: exit 1.
    #[error("{0}")]
    Failed(String),
}

/// How a worker ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// Every connection had what it was owed.
    Drained,
    /// The drain time ran out, or it was told to cut: exit 7.
    Cut,
}

/// Our FIN is followed by at most this much reading and discarding.
const LINGER: Duration = Duration::from_secs(1);
/// Bytes owed before a peer is read no further. Two full-size segments of loopback, so that one can
/// be on its way while the next is received.
const WINDOW: u32 = 128 * 1024;
/// The same before the peer has proved that it reads: one page, so that a thousand peers that never
/// read hold 4 MiB of ours.
const WINDOW_AT_FIRST: u32 = 4 * 1024;

/// The account of one worker: the connection policy's reasons and causes, and what only its backend
/// counts.
#[must_use]
pub fn counters(own: &'static [&'static str]) -> Counters {
    Counters::new(CloseReason::NAMES, Refusal::NAMES, own)
}

/// The permits all workers share.
#[must_use]
pub const fn admission(config: &Config) -> Admission {
    Admission::new(config.max_connections)
}

/// Where connections go, where one worker accepts for all.
#[must_use]
pub fn handover(config: &Config) -> Option<Handover> {
    config.hands_on().then(|| Handover::new(config.workers))
}

/// The policy's numbers. Four times the unsent limit, and at least 256 KiB, is more than the kernel
/// takes for a peer that never reads.
#[must_use]
pub fn limits(config: &Config) -> Limits {
    let milliseconds = |time: Option<Duration>| time.map_or(0, |time| time.as_millis() as u64);
    Limits {
        window: WINDOW,
        window_at_first: WINDOW_AT_FIRST,
        trust_after: (u64::from(config.unsent_limit) * 4).max(256 * 1024),
        idle_timeout: milliseconds(config.idle_timeout),
        write_timeout: milliseconds(config.write_timeout),
        linger: milliseconds(Some(LINGER)),
    }
}

/// What the kernel's error to an accept means, and its account.
#[must_use]
pub fn accept_failed(error: Errno, counters: &Counters) -> Answer {
    let answer = Answer::of(error);
    if let Answer::Next(Some(cause)) | Answer::Starved(cause) = answer {
        counters.accept_errors.add(1);
        counters.refused.at(cause as usize).add(1);
    }
    answer
}

/// Connections that may lie in a listener's queue: the kernel lets in one more than its backlog. So many
/// are taken from each at the stop; who comes later comes too late.
#[must_use]
pub const fn queued_max(config: &Config) -> u32 {
    config.backlog.saturating_add(1)
}

impl Worker<'_> {
    /// The policy's numbers for this worker.
    #[must_use]
    pub fn limits(&self) -> Limits {
        limits(self.config)
    }

    /// Bytes of stuck peers this worker may hold: its share of `--spill-limit`.
    #[must_use]
    pub fn spill_limit(&self) -> u64 {
        self.config.spill_limit / self.config.workers as u64
    }
}

#[cfg(test)]
impl<'a> Worker<'a> {
    /// The first worker, without listeners, and nobody hears when it is ready.
    pub(crate) fn for_tests(
        config: &'a Config,
        admission: &'a Admission,
        counters: &'a Counters,
        stop: &'a Stop,
    ) -> Self {
        let busy_poll = |_: BorrowedFd<'_>, _| Ok(());
        let (room, listeners) = (admission.limit(), Vec::new());
        let handover = None;
        Self {
            index: 0,
            config,
            listeners,
            admission,
            handover,
            room,
            counters,
            stop,
            ready: &|_| {},
            busy_poll,
        }
    }
}
