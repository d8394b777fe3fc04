//! Operations of the seam as entries of the submission queue. The only place that knows whether an
//! accept or a receive is multishot, and what a socket is named by.

use super::buffer_ring::GROUP;
use super::lent;
use super::neighbours::Rings;
use super::{Memory, Name, Operation, Socket, Span, Token};
use crate::features::{Accept, Files, Recv, Uring};
use io_uring::squeue::{Entry, Flags};
use io_uring::types::{CancelBuilder, Fd, Fixed};
use io_uring::{opcode, types};
use socket2::SockAddr;
use std::os::fd::RawFd;
use std::sync::Arc;

/// `IORING_RECVSEND_POLL_FIRST`, in the `ioprio` field.
const POLL_FIRST: u16 = 1;
/// `IORING_RECVSEND_BUNDLE`, in the `ioprio` field.
const BUNDLE: u16 = 1 << 4;
/// `IORING_RECV_MULTISHOT`, in the `ioprio` field.
const RECV_MULTISHOT: u16 = 1 << 1;
/// Where `optlen` lies in an entry: the total of a multishot receive (Linux 6.17). The crate has no
/// setter for it.
const OPTLEN: usize = 44;

/// `SOCKET_URING_OP_SIOCINQ`: a command to a socket, answered with the bytes in its receive queue.
const SOCKET_SIOCINQ: u32 = 0;

/// What entries are built from.
pub(super) struct Builder {
    pub(super) accept_multishot: bool,
    pub(super) receive_multishot: bool,
    pub(super) direct: bool,
    pub(super) receive_limit: bool,
    /// The most bytes of one completion of a receive, at most a buffer.
    pub(super) receive_most: u32,
    pub(super) poll_first: bool,
    pub(super) bundle: bool,
    pub(super) zero_copy: bool,
    pub(super) counts_arrived: bool,
    pub(super) skip_sent: bool,
    pub(super) memory: Memory,
    pub(super) listeners: Vec<RawFd>,
    /// Where a client connects to. The kernel reads an address when it takes the entry.
    pub(super) targets: Box<[SockAddr]>,
    pub(super) waker: RawFd,
    /// Where sockets are handed to.
    pub(super) neighbours: Arc<Rings>,
}

/// Calls `$build` with the socket as the crate wants it, which is a type of its own for each kind.
macro_rules! with_name {
    ($socket:expr, |$name:ident| $build:expr) => {
        match $socket.0 {
            Name::Descriptor(descriptor) => {
                let $name = Fd(descriptor);
                $build
            }
            Name::Slot(slot) => {
                let $name = Fixed(slot);
                $build
            }
        }
    };
}

impl Builder {
    pub(super) fn new(features: &Uring, memory: Memory, listeners: Vec<RawFd>, waker: RawFd) -> Self {
        Self {
            accept_multishot: features.accept == Accept::Multishot,
            receive_multishot: features.recv == Recv::Multishot,
            direct: features.files == Files::Direct,
            receive_limit: features.receive_limit,
            // A bundle may go on in the next buffer.
            receive_most: match (features.receive_cap, features.bundle_receive) {
                (None, true) => u32::MAX,
                (cap, _) => cap.unwrap_or(u32::MAX).min(features.buffer_size),
            },
            poll_first: features.poll_first,
            bundle: features.bundle_receive,
            zero_copy: features.zero_copy,
            counts_arrived: features.counts_arrived,
            skip_sent: features.cqe_skip,
            memory,
            listeners,
            targets: Box::default(),
            waker,
            neighbours: Arc::default(),
        }
    }

    /// The socket an accept answered with.
    pub(super) const fn accepted(&self, result: u32) -> Socket {
        Socket(if self.direct { Name::Slot(result) } else { Name::Descriptor(result as i32) })
    }

    #[inline]
    pub(super) fn build(&self, operation: Operation) -> Entry {
        match operation {
            Operation::Send { socket, span } => self.send(socket, span),
            Operation::Receive { socket, limit } if self.receive_multishot => {
                self.receive_multishot(socket, limit)
            }
            Operation::Receive { socket, limit } => self.receive(socket, limit, 0, self.picking(0)),
            Operation::ReceiveNow { socket, limit } => self.receive(socket, limit, libc::MSG_DONTWAIT, 0),
            Operation::SendKept { socket, span } => self.send_kept(socket, span),
            Operation::SendLent { socket, group } => self.send_lent(socket, group),
            Operation::ReceiveInto { socket, span, waits } => self.receive_into(socket, span, waits),
            Operation::Accept { listener } => self.accept(self.listeners[listener]),
            Operation::Cancel { target } => {
                opcode::AsyncCancel2::new(CancelBuilder::user_data(target.0)).build()
            }
            Operation::Connect { socket, target } => {
                let address = &self.targets[target];
                with_name!(socket, |name| opcode::Connect::new(name, address.as_ptr().cast(), address.len())
                    .build())
            }
            Operation::CountArrived { socket } => {
                with_name!(socket, |name| opcode::UringCmd16::new(name, SOCKET_SIOCINQ).build())
            }
            Operation::Hand { socket, worker, arrival } => {
                self.hand(socket, self.neighbours.of(worker), arrival)
            }
            Operation::Shutdown { socket } => {
                with_name!(socket, |name| opcode::Shutdown::new(name, libc::SHUT_WR).build())
            }
            Operation::Close { socket } => with_name!(socket, |name| opcode::Close::new(name).build()),
            // Multishot polls are edge-triggered: what stays true is reported once.
            Operation::AwaitRoom { socket } => {
                with_name!(socket, |name| opcode::PollAdd::new(name, libc::POLLOUT as u32)
                    .multi(true)
                    .build())
            }
            Operation::Watch { socket } => {
                let events = libc::POLLIN | libc::POLLOUT | libc::POLLRDHUP | libc::POLLPRI;
                with_name!(socket, |name| opcode::PollAdd::new(name, events as u32).multi(true).build())
            }
            // Each wake-up is an event of its own, and nobody reads.
            Operation::Wakeups => {
                opcode::PollAdd::new(Fd(self.waker), libc::POLLIN as u32).multi(true).build()
            }
        }
    }

    /// Where a span begins.
    fn start_of(&self, span: Span) -> *mut u8 {
        assert!(span.offset + u64::from(span.length) <= self.memory.length, "a span outside the memory");
        self.memory.base.as_ptr().wrapping_add(span.offset as usize)
    }

    fn receive_into(&self, socket: Socket, span: Span, waits: bool) -> Entry {
        let (start, length) = (self.start_of(span), span.length.min(self.receive_most));
        let (flags, priority) = if waits { (0, self.priority(0)) } else { (libc::MSG_DONTWAIT, 0) };
        with_name!(socket, |name| opcode::Recv::new(name, start, length)
            .ioprio(priority)
            .flags(flags)
            .build())
    }

    /// The kernel adds MSG_NOSIGNAL itself. MSG_DONTWAIT keeps it from waiting for room. With
    /// MSG_WAITALL a short send counts as a failure, so that it is not skipped.
    const fn sending(&self) -> (i32, Flags) {
        if self.skip_sent {
            (libc::MSG_DONTWAIT | libc::MSG_WAITALL, Flags::SKIP_SUCCESS)
        } else {
            (libc::MSG_DONTWAIT, Flags::empty())
        }
    }

    /// All that lies in a group. MSG_WAITALL is implied.
    fn send_lent(&self, socket: Socket, group: u32) -> Entry {
        let (flags, skip) = self.sending();
        with_name!(socket, |name| opcode::SendBundle::new(name, lent::number(group)).flags(flags).build())
            .flags(skip)
    }

    fn send(&self, socket: Socket, span: Span) -> Entry {
        let start = self.start_of(span).cast_const();
        let (flags, skip) = self.sending();
        with_name!(socket, |name| opcode::Send::new(name, start, span.length).flags(flags).build())
            .flags(skip)
    }

    /// The `ioprio` of a receive that may wait.
    const fn priority(&self, flags: u16) -> u16 {
        if self.poll_first { flags | POLL_FIRST } else { flags }
    }

    /// The same, where buffers are picked.
    const fn picking(&self, flags: u16) -> u16 {
        self.priority(if self.bundle { flags | BUNDLE } else { flags })
    }

    fn send_kept(&self, socket: Socket, span: Span) -> Entry {
        let start = self.start_of(span).cast_const();
        with_name!(socket, |name| opcode::SendZc::new(name, start, span.length)
            .flags(libc::MSG_DONTWAIT)
            .build())
    }

    /// A descriptor is the process's: its number is all the other worker needs. A slot is this ring's: the
    /// kernel puts what it names into a free one of the other's, and tells that one which.
    fn hand(&self, socket: Socket, ring: RawFd, arrival: Token) -> Entry {
        match socket.0 {
            Name::Descriptor(descriptor) => {
                opcode::MsgRingData::new(Fd(ring), descriptor, arrival.0, None).build()
            }
            Name::Slot(slot) => {
                let free = types::DestinationSlot::auto_target();
                opcode::MsgRingSendFd::new(Fd(ring), Fixed(slot), free, arrival.0).build()
            }
        }
    }

    fn receive(&self, socket: Socket, limit: u32, flags: i32, priority: u16) -> Entry {
        let length = limit.min(self.receive_most);
        with_name!(socket, |name| opcode::Recv::new(name, std::ptr::null_mut(), length)
            .ioprio(priority)
            .flags(flags)
            .buf_group(GROUP)
            .build())
        .flags(Flags::BUFFER_SELECT)
    }

    fn receive_multishot(&self, socket: Socket, limit: u32) -> Entry {
        // Before Linux 6.17 both the length and the total must be 0.
        let (length, total) = if self.receive_limit { (limit.min(self.receive_most), limit) } else { (0, 0) };
        let entry = with_name!(socket, |name| opcode::Recv::new(name, std::ptr::null_mut(), length)
            .ioprio(self.picking(RECV_MULTISHOT))
            .buf_group(GROUP)
            .build())
        .flags(Flags::BUFFER_SELECT);
        with_optlen(entry, total)
    }

    fn accept(&self, listener: RawFd) -> Entry {
        // A slot of the ring's table has no close-on-exec flag: the kernel refuses it.
        let flags = if self.direct { 0 } else { libc::SOCK_CLOEXEC };
        if self.accept_multishot {
            return opcode::AcceptMulti::new(Fd(listener))
                .allocate_file_index(self.direct)
                .flags(flags)
                .build();
        }
        let slot = self.direct.then(types::DestinationSlot::auto_target);
        opcode::Accept::new(Fd(listener), std::ptr::null_mut(), std::ptr::null_mut())
            .file_index(slot)
            .flags(flags)
            .build()
    }
}

const _: () = assert!(size_of::<Entry>() == 64, "an entry of the submission queue has 64 bytes");

/// The entry with its total set.
pub(super) fn with_optlen(entry: Entry, total: u32) -> Entry {
    // SAFETY: `Entry` is a C struct of 64 bytes without padding, by the assertion above.
    let mut bytes: [u8; 64] = unsafe { std::mem::transmute(entry) };
    bytes[OPTLEN..OPTLEN + 4].copy_from_slice(&total.to_ne_bytes());
    // SAFETY: the same struct; every bit pattern is an entry.
    unsafe { std::mem::transmute(bytes) }
}
