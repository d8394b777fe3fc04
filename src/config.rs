//! What runs: every setting once (stub: defaults, bounds and checks follow).

use crate::features::{Epoll, Uring};
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

/// What is printed, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// For people.
    Text,
    /// One object a line.
    Json,
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
