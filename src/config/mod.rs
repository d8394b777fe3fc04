//! What runs: every setting once, with default, bounds and reason. [`Typed`] is what somebody wrote,
//! [`Config`] what runs; between them every problem is found and reported, not the first.
//!
//! Needs facts of the host and the kernel's answers as values, so that all of it is pure.

mod addresses;
mod check;
#[cfg(test)]
mod for_tests;
mod settings;

pub use addresses::LISTEN_DEFAULT;
pub use check::{Checked, resolve};
pub use settings::{SETTINGS, Setting, Unit};

use crate::features::{Answers, Epoll, Spread, Uring};
use std::net::SocketAddr;
use std::time::Duration;

/// Which of the two servers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backend {
    /// By completion.
    Uring,
    /// By readiness.
    Epoll,
}

impl Backend {
    /// As it is typed.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Uring => "uring",
            Self::Epoll => "epoll",
        }
    }
}

/// What is printed, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// For people.
    Text,
    /// One object a line.
    Json,
}

/// The settings as somebody wrote them: nothing is checked yet.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Typed {
    /// `--backend`.
    pub backend: Option<String>,
    /// `--listen`, each.
    pub listen: Vec<String>,
    /// `--workers`.
    pub workers: Option<String>,
    /// `--cpus`.
    pub cpus: Option<String>,
    /// `--max-connections`.
    pub max_connections: Option<String>,
    /// `--idle-timeout`.
    pub idle_timeout: Option<String>,
    /// `--write-timeout`.
    pub write_timeout: Option<String>,
    /// `--drain-timeout`.
    pub drain_timeout: Option<String>,
    /// `--backlog`.
    pub backlog: Option<String>,
    /// `--unsent-limit`.
    pub unsent_limit: Option<String>,
    /// `--spill-limit`.
    pub spill_limit: Option<String>,
    /// `--recv-buffer`.
    pub recv_buffer: Option<String>,
    /// `--keepalive`.
    pub keepalive: Option<String>,
    /// `--user-timeout`.
    pub user_timeout: Option<String>,
    /// `--congestion`.
    pub congestion: Option<String>,
    /// `--stats-every`.
    pub stats_every: Option<String>,
    /// `--format`.
    pub format: Option<String>,
    /// `--uring`, each.
    pub uring: Vec<String>,
    /// `--epoll`, each.
    pub epoll: Vec<String>,
    /// How many `-v`, or -1 for `-q`.
    pub verbosity: i8,
}

/// What the host and the kernel said. `None` is "n/a" or "no limit": nothing is checked against it.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// The CPUs of the affinity mask, ascending.
    pub cpus: Vec<usize>,
    /// Descriptors this process may have.
    pub descriptors: Option<u64>,
    /// Bytes of memory there are.
    pub memory: Option<u64>,
    /// Bytes this user may lock.
    pub locked_memory: Option<u64>,
    /// Bytes of a page.
    pub page: u64,
    /// The largest backlog the kernel keeps.
    pub backlog_max: Option<u64>,
    /// The congestion controls that are loaded.
    pub congestion_controls: Option<Vec<String>>,
    /// What the kernel said about rings.
    pub answers: Answers,
}

/// What the server runs with; nothing is left to decide.
#[derive(Clone, Debug)]
pub struct Config {
    /// Which of the two servers.
    pub backend: Backend,
    /// Where to listen; port 0 is the kernel's choice.
    pub listen: Vec<SocketAddr>,
    /// Worker threads.
    pub workers: usize,
    /// The CPUs workers are pinned to, round robin; empty: not pinned.
    pub cpus: Vec<usize>,
    /// Connections served at once, over all workers.
    pub max_connections: u32,
    /// See [`crate::conn::Limits`]; `None` is never.
    pub idle_timeout: Option<Duration>,
    /// See [`crate::conn::Limits`]; `None` is never.
    pub write_timeout: Option<Duration>,
    /// How long a stop may take before connections are cut.
    pub drain_timeout: Duration,
    /// Asked of listen(2); the kernel caps it at net.core.somaxconn.
    pub backlog: u32,
    /// TCP_NOTSENT_LOWAT of every connection, bytes.
    pub unsent_limit: u32,
    /// Bytes of stuck peers held in the spill areas of all workers together.
    pub spill_limit: u64,
    /// SO_RCVBUF of every connection, bytes; `None` leaves it to the kernel.
    pub recv_buffer: Option<u32>,
    /// Idle time before the first keepalive probe; `None` is off.
    pub keepalive: Option<Duration>,
    /// TCP_USER_TIMEOUT; `None` is the kernel's.
    pub user_timeout: Option<Duration>,
    /// TCP_CONGESTION; `None` is the kernel's.
    pub congestion: Option<String>,
    /// How often statistics are printed; `None` is never.
    pub stats_every: Option<Duration>,
    /// What is printed, and how.
    pub format: Format,
    /// -1 quiet, 0 normal, 1 and above verbose.
    pub verbosity: i8,
    /// What a uring worker runs with.
    pub uring: Uring,
    /// What an epoll worker runs with.
    pub epoll: Epoll,
}

impl Config {
    /// Whether one worker accepts for all, and hands connections on to the others.
    #[must_use]
    pub fn hands_on(&self) -> bool {
        self.backend == Backend::Uring && self.uring.spread == Spread::MsgRing
    }
}
