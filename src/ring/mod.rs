//! The seam between a completion loop and the kernel: [`Ring`], and what a server ([`Listening`]) or a
//! client ([`Dialing`]) needs of it beside. A loop says what it wants in operations of our own, and hears
//! back in completions; no pointer, clock or system call passes.
//!
//! [`real`] is the kernel's own ring, set up for a client by [`dialing`]; [`polled`] is a ring that only
//! notifies, and plain receives and sends beside it ([`calls`]); [`readiness`] is epoll, for a client where there is no
//! ring; `sim` is a fake kernel for tests, which obeys the same rules and draws
//! among everything the real one may legally do.
//!
//! Absent on purpose: connections and buffers. A token is a number the caller chose; a span is a
//! range of the memory the ring was set up with.

pub mod attempts;
mod buffer_ring;
pub mod calls;
pub mod dialing;
mod entry;
mod lent;
pub mod neighbours;
mod pages;
pub mod polled;
pub mod probe;
mod provided;
pub mod readiness;
pub mod real;
mod reserve;
pub mod setup;
#[cfg(any(test, feature = "sim"))]
pub mod sim;
#[cfg(test)]
mod trial;

pub use pages::Pages;

use nix::errno::Errno;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::ptr::NonNull;
use std::time::Duration;

/// Where whoever tries something of the kernel listens: any port of 127.0.0.1, or of `::1` where there is no
/// IPv4.
const LOOPBACK: [SocketAddr; 2] = [
    SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0),
    SocketAddr::new(IpAddr::V6(Ipv6Addr::LOCALHOST), 0),
];

/// What the caller wants to hear back with a completion. The ring never looks inside.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Token(pub u64);

/// A connected socket, as the kernel named it: a descriptor, or a slot in the ring's own table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Socket(pub(in crate::ring) Name);

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(in crate::ring) enum Name {
    Descriptor(i32),
    Slot(u32),
}

/// A range of the memory the ring was set up with, in bytes from its start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// The first byte.
    pub offset: u64,
    /// How many bytes; never 0.
    pub length: u32,
}

/// Memory the kernel may write to and read from while the ring lives. It must outlive the ring.
#[derive(Clone, Copy, Debug)]
pub struct Memory {
    /// Its first byte.
    pub base: NonNull<u8>,
    /// Its length, bytes.
    pub length: u64,
}

/// Bytes from the start of one buffer of a pool to the next. One cache line more than the buffer: the
/// first lines of all buffers, which short messages touch and nothing else, then fall into different
/// sets of the cache instead of the few that a power of two selects.
#[must_use]
pub const fn stride(buffer_size: u32) -> u64 {
    (buffer_size as u64).next_multiple_of(CACHE_LINE) + CACHE_LINE
}

const CACHE_LINE: u64 = 64;

/// Something to be done by the kernel. Every operation is answered by completions with its token:
/// exactly one without [`Completion::more`], which is its last, and any number with it before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Accept connections on the listener of this index. The result is an accepted socket.
    Accept {
        /// Index of the listener.
        listener: usize,
    },
    /// Receive into buffers of the ring. The result is the number of bytes, 0 at the end.
    Receive {
        /// From where.
        socket: Socket,
        /// About how many bytes may arrive before the operation ends by itself: at most `limit` and
        /// one receive. Obeyed where [`Ring::obeys_limit`] says so, or where it receives only once.
        limit: u32,
    },
    /// Receive once, without waiting: `EAGAIN` when nothing is there.
    ReceiveNow {
        /// From where.
        socket: Socket,
        /// The most bytes to take.
        limit: u32,
    },
    /// Receive once into memory of the caller's own. The result is the number of bytes, 0 at the end.
    ReceiveInto {
        /// From where.
        socket: Socket,
        /// Where to: the kernel's until the operation is over.
        span: Span,
        /// Whether it waits for something to come; else `EAGAIN` when nothing is there.
        waits: bool,
    },
    /// Send as much as fits now. The result is the number of bytes the kernel took: a full socket
    /// answers `EAGAIN`, and a nearly full one takes less. The kernel is done with it in the enter that
    /// submits the operation. Where [`Ring::skips_sent`] says so there is no completion if it took
    /// everything: the operation is over when [`Ring::answered`] has passed it.
    Send {
        /// Where to.
        socket: Socket,
        /// What: lent to the kernel until the operation is over.
        span: Span,
    },
    /// The same, where [`Ring::keeps_sent`] says so: a completion with [`Completion::more`] tells how many
    /// bytes were taken, and that the kernel goes on reading them in the span; the last one, without a
    /// result, tells that it does so no more. One without such a notice is its last.
    SendKept {
        /// Where to.
        socket: Socket,
        /// What: lent to the kernel until the last completion.
        span: Span,
    },
    /// The same, of everything that lies in the group ([`Ring::lend`]), in that order, in one send. A
    /// completion with [`Completion::more`] tells of bytes of the first spans, and others follow; the last
    /// one of the bytes since. Where [`Ring::skips_sent`] says so it is not there if that was all that was
    /// left. A result that is short says nothing about room: the kernel may also end between two spans.
    SendLent {
        /// Where to.
        socket: Socket,
        /// Which group: nobody else's until the operation is over.
        group: u32,
    },
    /// Report every time there is room again in a socket that was full, until further notice. It may
    /// report without reason: the peer's FIN counts as news for every poll of a ring.
    //
    // A send that waits in the kernel is not offered. Its poll would be ready for good once the peer
    // has finished; after 128 tries in vain the kernel makes it a blocking send on a thread of its own
    // (io-wq), of which there are few, and one stuck peer would hold up the others.
    AwaitRoom {
        /// Of which socket.
        socket: Socket,
    },
    /// Report whatever becomes ready in a socket, when it does, until further notice: the result is a mask of
    /// poll(2), of everything that was ready when it was written down. What stays as it is is reported once,
    /// and when the watch begins. For who makes the calls itself ([`calls::Calls`]).
    Watch {
        /// Of which socket.
        socket: Socket,
    },
    /// End the operation with this token. The result is 0, `ENOENT` or `EALREADY`; the target's own
    /// last completion comes before or after.
    Cancel {
        /// The operation to end.
        target: Token,
    },
    /// Connect a socket of [`Dialing::open`]. The result is 0 when the connection stands.
    Connect {
        /// The socket.
        socket: Socket,
        /// Where to: the index of the target the kernel was set up with.
        target: usize,
    },
    /// Count the bytes that have arrived and were not received (SIOCINQ), without waiting. The result is
    /// their number. For who is told by [`Listening::counts_arrived`] that it is offered.
    CountArrived {
        /// In which socket.
        socket: Socket,
    },
    /// Give a socket that was accepted to the ring of another worker, where it arrives as one completion
    /// with the token `arrival` and the result of an accept. What the result here means for the socket,
    /// [`Listening::handed`] says.
    Hand {
        /// Which socket. Nothing else may be in flight for it.
        socket: Socket,
        /// The index of the worker; another than this one.
        worker: usize,
        /// The token there.
        arrival: Token,
    },
    /// Send our FIN.
    Shutdown {
        /// Of which socket.
        socket: Socket,
    },
    /// Close. Nothing else may be in flight for the socket.
    Close {
        /// Which socket.
        socket: Socket,
    },
    /// Report every [`crate::stop`] wake-up of this worker, until further notice.
    Wakeups,
}

#[cfg(any(test, feature = "sim"))]
impl Operation {
    /// Whether it sends, in one way or another.
    const fn sends(self) -> bool {
        matches!(self, Self::Send { .. } | Self::SendKept { .. } | Self::SendLent { .. })
    }

    /// Whether it receives, in one way or another.
    const fn receives(self) -> bool {
        matches!(self, Self::Receive { .. } | Self::ReceiveNow { .. } | Self::ReceiveInto { .. })
    }

    /// The socket it is about, if it is about one.
    const fn socket(self) -> Option<Socket> {
        match self {
            Self::Receive { socket, .. }
            | Self::ReceiveNow { socket, .. }
            | Self::ReceiveInto { socket, .. }
            | Self::Send { socket, .. }
            | Self::SendKept { socket, .. }
            | Self::SendLent { socket, .. }
            | Self::AwaitRoom { socket }
            | Self::Watch { socket }
            | Self::Connect { socket, .. }
            | Self::CountArrived { socket }
            | Self::Hand { socket, .. }
            | Self::Shutdown { socket }
            | Self::Close { socket } => Some(socket),
            Self::Accept { .. } | Self::Cancel { .. } | Self::Wakeups => None,
        }
    }
}

/// What the kernel answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Completion {
    /// The token of the operation.
    pub token: Token,
    /// A count, an accepted socket's name, or a negative errno.
    pub result: i32,
    /// Whether more completions of the same operation follow. When not, the operation is over; that
    /// says nothing about success, and the completion may carry data or a socket all the same.
    pub more: bool,
    /// The buffer of the ring that is now the caller's.
    pub buffer: Option<u16>,
    /// Whether the kernel goes on filling that buffer behind what it put there now: only that is the
    /// caller's, and it must not provide the buffer again.
    pub keeps_buffer: bool,
}

impl Completion {
    /// One that brings no buffer.
    #[must_use]
    pub const fn bare(token: Token, result: i32, more: bool) -> Self {
        Self { token, result, more, buffer: None, keeps_buffer: false }
    }

    /// The result, errors told apart.
    ///
    /// # Errors
    /// What the kernel answered instead of a result.
    #[inline]
    pub fn outcome(&self) -> Result<u32, Errno> {
        if self.result >= 0 { Ok(self.result as u32) } else { Err(Errno::from_raw(-self.result)) }
    }
}

/// How an enter ended. In every case completions may have arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Entered {
    /// As asked, or the time ran out.
    Done,
    /// A signal, or a passing shortage of the kernel's: enter again.
    Interrupted,
    /// The completion queue is full: take completions before submitting more. Nothing was lost.
    Busy,
    /// The kernel had to drop completions (EBADR). What became of operations can no longer be known.
    CompletionsLost,
    /// An error that is our own mistake or a broken kernel.
    Failed(Errno),
}

/// A kernel, real or fake, as one worker or client sees it: what both sides need of it.
pub trait Ring {
    /// Queues an operation. Never fails: a full submission queue is submitted, or the operation
    /// waits in order until it can be.
    fn push(&mut self, operation: Operation, token: Token);

    /// Submits what is queued, and waits until `wait_for` completions are there or `until` has
    /// come, on the clock of [`now`](Self::now). Runs completion work even when it does not wait.
    fn enter(&mut self, wait_for: u32, until: Option<Duration>) -> Entered;

    /// The next completion that has arrived, in order.
    fn next_completion(&mut self) -> Option<Completion>;

    /// `buffer` is free: from the next publish on the kernel may have it.
    fn provide(&mut self, buffer: u16);

    /// Shows the kernel what was provided, or as much of it as it is likely to need: at least one whenever
    /// it was told of a receive that [`found_no_buffer`](Self::found_no_buffer).
    fn publish(&mut self);

    /// A receive was answered with `ENOBUFS`: the kernel had no buffer for it. Only the caller knows that it
    /// was a receive: a send or an accept says the same when the kernel has no memory.
    fn found_no_buffer(&mut self) {}

    /// Monotonic time since an origin of the ring's own.
    fn now(&mut self) -> Duration;

    /// Whether the kernel obeys the limit of [`Operation::Receive`].
    fn obeys_limit(&self) -> bool;

    /// Whether a send has no completion when the kernel took all of it.
    fn skips_sent(&self) -> bool {
        false
    }

    /// Whether [`Operation::SendKept`] is offered.
    fn keeps_sent(&self) -> bool {
        false
    }

    /// How many spans one [`Operation::SendLent`] may take; 0 where it is not offered.
    fn lends(&self) -> usize {
        0
    }

    /// Puts a span into a group, behind those that lie there. It is the kernel's until a completion of
    /// the [`Operation::SendLent`] that follows has told of its last byte, or that operation is over.
    fn lend(&mut self, _group: u32, _span: Span) {
        unreachable!("it sends one span at a time");
    }

    /// An [`Operation::SendLent`] is over, and left bytes of its group: nothing lies there any more.
    fn take_back(&mut self, _group: u32) {
        unreachable!("it sends one span at a time");
    }

    /// How many operations have been pushed.
    fn pushed(&self) -> u64 {
        0
    }

    /// Of how many operations, counted in the order of their pushes, it is known whether they were
    /// answered at once: the kernel has them, and every completion that it posted with them has been
    /// returned by [`next_completion`](Self::next_completion).
    fn answered(&mut self) -> u64 {
        0
    }

    /// Times the kernel had more completions than the queue could hold.
    fn overflows(&self) -> u64;

    /// Entries into the kernel so far, those of [`Dialing::open`] included.
    fn enters(&self) -> u64;
}

/// What became of a socket that was to be another worker's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Handed {
    /// It is.
    Given,
    /// It is, and this ring still names it too: that is to be closed.
    Shared,
    /// It is ours, as before.
    Kept,
    /// The other ring holds it and has not heard of it (`EOVERFLOW`: there was no memory to say so), and
    /// this ring still names it too. Nobody will serve it: what is left is to send our FIN, so that the
    /// peer does not wait for ever, and to close it.
    Stranded,
}

/// A kernel as a server sees it: connections come to it over listeners.
pub trait Listening: Ring {
    /// The socket in the result of an accept.
    fn accepted(&self, result: u32) -> Socket;

    /// What became of `socket` by the result of its [`Operation::Hand`].
    fn handed(&self, socket: Socket, outcome: Result<u32, Errno>) -> Handed {
        match (outcome, socket.0) {
            (Ok(_), Name::Descriptor(_)) => Handed::Given,
            (Ok(_), Name::Slot(_)) => Handed::Shared,
            (Err(Errno::EOVERFLOW), Name::Slot(_)) => Handed::Stranded,
            (Err(_), _) => Handed::Kept,
        }
    }

    /// Takes one connection that is queued on the listener, without waiting, outside the ring. For
    /// the stop only, when no accept is armed.
    ///
    /// # Errors
    /// `EAGAIN` when none is; else as accept(2).
    fn accept_queued(&mut self, listener: usize) -> Result<Socket, Errno>;

    /// Closes the listener. No accept may be armed.
    fn close_listener(&mut self, listener: usize);

    /// Bytes in the socket's receive queue (SIOCINQ), asked outside the ring; `None` where it cannot be
    /// asked so: a slot of the ring's table is no descriptor.
    fn arrived(&mut self, socket: Socket) -> Option<u32>;

    /// Whether [`Operation::CountArrived`] is offered.
    fn counts_arrived(&self) -> bool {
        false
    }

    /// Wakes the other workers: a permit or a descriptor is free.
    fn wake_others(&mut self);
}

/// A kernel as a client sees it: it makes sockets that are to be connected, and accepts none.
pub trait Dialing: Ring {
    /// Makes a socket to be connected to `target`, with TCP_NODELAY, and bound to `source` where one is
    /// given; the port is chosen at the connect (IP_BIND_ADDRESS_NO_PORT, Linux 4.2), so that one source
    /// port can serve several targets.
    ///
    /// # Errors
    /// `EMFILE` and `ENFILE` when descriptors or slots are out, `EADDRNOTAVAIL` when `source` is not an
    /// address of this machine, `ENOBUFS` and `ENOMEM`.
    fn open(&mut self, target: usize, source: Option<IpAddr>) -> io::Result<Socket>;

    /// Queues the end of the operation with the token `target`, which is one of `socket`: what
    /// [`Operation::Cancel`] does, for who has to know where to look.
    fn cancel(&mut self, socket: Socket, target: Token, token: Token) {
        let _ = socket;
        self.push(Operation::Cancel { target }, token);
    }

    /// The socket's close has been answered: what named it may be used again.
    fn closed(&mut self, socket: Socket);
}
