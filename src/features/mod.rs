//! Features by name: the table of dimensions, what somebody typed, what the kernel answered, and what
//! runs in the end. Pure: the kernel's answers come in as values.
//!
//! A dimension that was typed is used or refused by name. One that was not takes the first of its
//! values this kernel accepts, and says so when that is not the first.

mod answers;
mod exclusions;
mod help;
mod resolve;
pub mod table;
mod typed;

pub use answers::{Answers, Capability};
pub use help::{epoll as help_epoll, uring as help_uring};
pub use resolve::{Resolved, epoll, uring};
pub use table::GROUPS_MAX;
pub use typed::Typed;

/// What is wrong with what was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Whose fault it is.
    pub kind: Kind,
    /// The sentence: where, what, what would do.
    pub text: String,
}

/// Whose fault a problem is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Of what was typed: exit 2.
    Usage,
    /// Of this kernel or this release of the program: exit 6.
    Unavailable,
}

impl Problem {
    /// A problem with what was typed.
    #[must_use]
    pub fn usage(text: String) -> Self {
        Self { kind: Kind::Usage, text }
    }

    /// A problem with what this kernel or this release offers.
    #[must_use]
    pub fn unavailable(text: String) -> Self {
        Self { kind: Kind::Unavailable, text }
    }
}

/// How connections are accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Accept {
    /// One request for all.
    Multishot,
    /// One request each.
    Single,
}
/// How bytes are received.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recv {
    /// One request until it ends.
    Multishot,
    /// One request each.
    Single,
    /// Polls through the ring, and plain receives and sends.
    Poll,
}
/// Where received bytes go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Buffers {
    /// Into buffers of a ring, picked when bytes come.
    Ring,
    /// Into buffers of a ring, one receive behind the other until a buffer is full.
    Incremental,
    /// Into buffers that were provided by requests, picked when bytes come.
    Classic,
    /// Into a buffer of the connection's own.
    Owned,
}
/// What a socket is named by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Files {
    /// A descriptor of the process.
    Normal,
    /// A slot in the ring's own table.
    Direct,
}
/// When the kernel runs completion work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taskrun {
    /// When the owner enters.
    Defer,
    /// At any transition to the kernel.
    Coop,
    /// By interrupting the owner.
    Default,
    /// In a kernel thread, which also submits.
    Sqpoll,
}
/// How connections are spread over workers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spread {
    /// Each worker listens, and the kernel spreads.
    Reuseport,
    /// One worker accepts, and hands connections on from ring to ring.
    MsgRing,
}
/// When a waiting worker wakes. Times are microseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// At the first completion.
    One,
    /// At `count` completions, or after `time` at the first.
    Minimum {
        /// How many.
        count: u32,
        /// How long they are waited for.
        time: u32,
    },
}

/// What a uring worker runs with, all decided.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Uring {
    /// See [`Accept`].
    pub accept: Accept,
    /// See [`Recv`].
    pub recv: Recv,
    /// See [`Buffers`].
    pub buffers: Buffers,
    /// Whether one completion of a receive may bring several buffers.
    pub bundle_receive: bool,
    /// Connections that have a buffer group of their own, from which several buffers are sent at once; 0
    /// where each buffer has a send of its own.
    pub groups: u32,
    /// Whether a send that succeeds at once has no completion.
    pub cqe_skip: bool,
    /// Whether the kernel may read what is sent until it says that it is done, instead of copying it.
    pub zero_copy: bool,
    /// See [`Files`].
    pub files: Files,
    /// See [`Taskrun`].
    pub taskrun: Taskrun,
    /// See [`Wait`].
    pub wait: Wait,
    /// See [`Spread`].
    pub spread: Spread,
    /// Whether a receive waits before its first try.
    pub poll_first: bool,
    /// The most bytes one completion of a receive brings; `None` is a buffer.
    pub receive_cap: Option<u32>,
    /// Whether waiting is kept out of the account of waiting for a disk.
    pub no_iowait: bool,
    /// How long the network card is polled while waiting, microseconds.
    pub napi: Option<u32>,
    /// Whether enters name the ring by a registered index.
    pub ring_fd_registered: bool,
    /// Whether the submission queue has its index array.
    pub sqarray: bool,
    /// Entries of the submission queue.
    pub sq: u32,
    /// Entries of the completion queue.
    pub cq: u32,
    /// Whether `sq` or `cq` was typed, so that it must not shrink.
    pub sizes_typed: bool,
    /// Buffers of a worker: a power of two, or one for each connection.
    pub buffer_count: u32,
    /// Bytes in each.
    pub buffer_size: u32,
    /// Whether the kernel takes a limit for a multishot receive (Linux 6.17). Not a dimension: flow
    /// control uses it where it is there.
    pub receive_limit: bool,
    /// Whether a socket can be asked through the ring how much has arrived (Linux 6.7). Not a
    /// dimension: the stop uses it where a socket is a slot of the ring.
    pub counts_arrived: bool,
}

/// How the kernel reports a readable socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trigger {
    /// While it is readable.
    Level,
    /// When it becomes so.
    Edge,
}
/// How much is read per event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Read {
    /// One receive.
    Once,
    /// Until there is no more.
    Drain,
}
/// Who waits on what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Threads {
    /// One instance per worker.
    PerCore,
    /// One instance for all.
    Shared,
}

/// What an epoll worker runs with, all decided.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Epoll {
    /// See [`Trigger`].
    pub trigger: Trigger,
    /// See [`Read`].
    pub read: Read,
    /// See [`Threads`].
    pub threads: Threads,
    /// How long the network card is polled while waiting, microseconds.
    pub busy_poll: Option<u32>,
    /// Bytes of the scratch buffer a worker receives into.
    pub buffer_size: u32,
}
