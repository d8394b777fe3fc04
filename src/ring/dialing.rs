//! A client's set-up of the kernel's own ring, and [`Dialing`] on it. Which features are used follows
//! from the probe: of each the first that this kernel accepts; a client has none that are typed.
//!
//! Needs what the server's ring needs (Linux 6.0). [`super::readiness`] does the same work where that is
//! not to be had, from the same [`Setup`].

use super::entry::Builder;
use super::probe::{barred, probe};
use super::real::RealRing;
use super::{Dialing, Memory, Name, Socket, setup};
use crate::features::{self, Answers, Capability, Files, Typed, Uring};
use io_uring::IoUring;
use nix::errno::Errno;
use nix::sys::socket::{setsockopt, sockopt};
use socket2::{Domain, SockAddr, Type};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsRawFd, BorrowedFd, IntoRawFd};
use std::time::Instant;

/// What a client's kernel is set up with, one for each thread.
#[derive(Clone, Copy, Debug)]
pub struct Setup<'a> {
    /// Where to connect to; operations name a target by its index.
    pub targets: &'a [SocketAddr],
    /// Sockets that are open at once, at most. Bounds the table of direct descriptors; the queues follow it.
    pub connections: u32,
    /// Whether sockets are slots of the ring's table instead of descriptors. By completion only.
    pub direct: bool,
    /// Buffers received into, a power of two, at most 32,768. They lie at the start of the memory,
    /// [`stride`](super::stride) bytes apart.
    pub buffer_count: u16,
    /// Bytes of each.
    pub buffer_size: u32,
    /// What [`Ring::now`](super::Ring::now) counts from.
    pub origin: Instant,
}

/// What this kernel offers a client. Asked for once; every thread sets itself up from it.
#[derive(Clone, Debug)]
pub struct Offered(Answers);

/// Asks this kernel, which takes a few milliseconds.
///
/// # Errors
/// A sentence, when there is no io_uring here or it lacks what a client cannot do without.
pub fn offered() -> Result<Offered, String> {
    let answers = probe();
    match answers.unavailable() {
        Some(sentence) => Err(format!("{sentence} --engine epoll would do")),
        None => Ok(Offered(answers)),
    }
}

impl Offered {
    /// Why sockets cannot be slots of the ring's table, a sentence without its full stop; `None` where
    /// they can.
    #[must_use]
    pub fn missing_direct(&self) -> Option<String> {
        self.0.missing(Capability::DirectDescriptors)
    }
}

/// The ring of one client thread, and what it was made with. Made on the thread that uses it, after that was
/// pinned: the kernel binds the ring to it.
pub struct Dialer {
    io_uring: IoUring,
    features: Uring,
    targets: Box<[SockAddr]>,
    slots: u32,
    origin: Instant,
}

/// Slots beyond the connections: a socket is opened before the one in whose place it comes is closed.
const SLOTS_MARGIN: u64 = 64;

impl Dialer {
    /// Makes the ring, and its table of sockets where they are direct.
    ///
    /// # Errors
    /// A sentence with the remedy, when the kernel refuses it.
    pub fn new(offered: &Offered, setup: &Setup<'_>) -> Result<Self, String> {
        let resolved = features::uring(&Typed::default(), &offered.0, setup.connections);
        let mut resolved = resolved.map_err(|problems| sentences(&problems))?;
        let features = &mut resolved.features;
        features.buffer_count = u32::from(setup.buffer_count);
        features.buffer_size = setup.buffer_size;
        // A send says nothing new: its echo does.
        features.cqe_skip = offered.0.offers(Capability::SkipSent);
        features.files = if setup.direct { Files::Direct } else { Files::Normal };
        let io_uring = setup::make_as_long_as_fits(features)
            .map_err(|error| format!("{} --engine epoll would do", barred(&error)))?;
        let slots = if setup.direct { register_slots(&io_uring, setup.connections)? } else { 0 };
        let targets = setup.targets.iter().map(|&target| SockAddr::from(target)).collect();
        Ok(Self { io_uring, features: resolved.features, targets, slots, origin: setup.origin })
    }

    /// The ring, over `memory`, which must outlive it and, where operations are in flight at its end, the
    /// thread: the kernel ends a ring in its own time. `waker` is an eventfd whose writes are reported.
    ///
    /// # Errors
    /// A sentence with the remedy, when the kernel does not register the buffers.
    pub fn ring<'a>(&'a mut self, memory: Memory, waker: BorrowedFd<'a>) -> Result<RealRing<'a>, String> {
        let mut builder = Builder::new(&self.features, memory, Vec::new(), waker.as_raw_fd());
        builder.targets = self.targets.clone();
        let mut ring = RealRing::over(&mut self.io_uring, &self.features, builder).map_err(|error| {
            format!(
                "the kernel refuses the buffer ring or the registered ring descriptor: {error}. Raise \
                 `ulimit -l`, or use --engine epoll"
            )
        })?;
        ring.origin = self.origin;
        // The lowest is used first.
        ring.free_slots = (0..self.slots).rev().collect();
        Ok(ring)
    }

    /// The features and sizes in force, by the names they have in the server.
    #[must_use]
    pub fn in_force(&self) -> Vec<(&'static str, String)> {
        let features = &self.features;
        let on = |on: bool| if on { "on" } else { "off" }.to_string();
        vec![
            ("recv", format!("{:?}", features.recv).to_lowercase()),
            ("buffers", format!("{:?}", features.buffers).to_lowercase()),
            ("cqe-skip", on(features.cqe_skip)),
            ("files", if features.files == Files::Direct { "direct" } else { "normal" }.into()),
            ("taskrun", format!("{:?}", features.taskrun).to_lowercase()),
            ("ring-fd", if features.ring_fd_registered { "registered" } else { "plain" }.into()),
            ("sqarray", on(features.sqarray)),
            ("sq", features.sq.to_string()),
            ("cq", features.cq.to_string()),
            ("buffer-count", features.buffer_count.to_string()),
            ("buffer-size", features.buffer_size.to_string()),
        ]
    }
}

fn sentences(problems: &[features::Problem]) -> String {
    problems.iter().map(|problem| problem.text.as_str()).collect::<Vec<_>>().join("; ")
}

/// Registers the table, and says how many slots it has.
fn register_slots(ring: &IoUring, connections: u32) -> Result<u32, String> {
    let limit = setup::slots_max();
    if u64::from(connections) > limit {
        return Err(format!(
            "{connections} direct descriptors do not fit in one ring: its table is bounded by the limit of open \
             files, {limit}. Use more threads (-t), or raise `ulimit -n`"
        ));
    }
    let slots = (u64::from(connections) + SLOTS_MARGIN).min(limit) as u32;
    setup::register_slots(ring, slots)
        .map_err(|error| {
            format!("the kernel refuses a table of {slots} direct descriptors: {error}; use descriptors")
        })
        .map(|()| slots)
}

impl Dialing for RealRing<'_> {
    fn open(&mut self, target: usize, source: Option<IpAddr>) -> io::Result<Socket> {
        let slot = match (self.builder.direct, self.free_slots.last()) {
            (false, _) => None,
            (true, Some(&slot)) => Some(slot),
            (true, None) => return Err(Errno::EMFILE.into()),
        };
        // It blocks, as a ring wants it: with O_NONBLOCK the kernel answers a connect and a receive with
        // EINPROGRESS and EAGAIN at once instead of waiting for them.
        let socket = unconnected(&self.builder.targets[target], source, Type::STREAM)?;
        self.enters += system_calls(source);
        let Some(slot) = slot else { return Ok(Socket(Name::Descriptor(socket.into_raw_fd()))) };
        // The table holds the socket from here on; the descriptor is closed at the end of this function.
        self.enters += 2;
        self.submitter.register_files_update(slot, &[socket.as_raw_fd()])?;
        self.free_slots.pop();
        Ok(Socket(Name::Slot(slot)))
    }

    fn closed(&mut self, socket: Socket) {
        if let Name::Slot(slot) = socket.0 {
            self.free_slots.push(slot);
        }
    }
}

/// A socket for `target`, bound to `source`.
pub(super) fn unconnected(
    target: &SockAddr,
    source: Option<IpAddr>,
    kind: Type,
) -> io::Result<socket2::Socket> {
    let socket = socket2::Socket::new(Domain::from(i32::from(target.family())), kind, None)?;
    // Without it a message that goes out in pieces waits 40 ms for a delayed acknowledgement.
    socket.set_tcp_nodelay(true)?;
    if let Some(source) = source {
        // The port is chosen when the target is known: one port may then serve several of them.
        setsockopt(&socket, sockopt::IpBindAddressNoPort, &true)?;
        socket.bind(&SocketAddr::new(source, 0).into())?;
    }
    Ok(socket)
}

/// System calls that [`unconnected`] makes.
pub(super) const fn system_calls(source: Option<IpAddr>) -> u64 {
    if source.is_some() { 4 } else { 2 }
}

#[cfg(test)]
mod tests;
