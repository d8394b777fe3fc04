//! The plain system calls beside a ring that only notifies: what [`super::polled`] needs of a kernel, real
//! or fake, beyond the ring itself.
//!
//! Left out: which socket is worth a call, which is all that [`super::polled`] is about, and where the bytes
//! lie, which its pool knows.

use super::readiness::errno;
use super::real::RealRing;
use super::{Listening, Name, Socket};
use nix::errno::Errno;
use rustix::net::{RecvFlags, SendFlags, Shutdown};
use std::os::fd::{BorrowedFd, RawFd};

/// A ring that can watch a socket ([`Operation::Watch`](super::Operation::Watch)), and calls that are
/// answered at once. Sockets are descriptors.
pub trait Calls: Listening {
    /// Receives as much as is there, at most as much as `room` holds: how many bytes, 0 at the end.
    ///
    /// # Errors
    /// `EAGAIN` when nothing is there; else as recv(2).
    fn receive(&mut self, socket: Socket, room: &mut [u8]) -> Result<usize, Errno>;

    /// Sends as much as fits now: how many of the bytes the kernel took.
    ///
    /// # Errors
    /// `EAGAIN` when nothing fits; else as send(2).
    fn send(&mut self, socket: Socket, bytes: &[u8]) -> Result<usize, Errno>;

    /// Sends our FIN.
    ///
    /// # Errors
    /// As shutdown(2).
    fn shut_down(&mut self, socket: Socket) -> Result<(), Errno>;

    /// Closes a socket that the ring does not watch: a watch would hold it open.
    ///
    /// # Errors
    /// As close(2). The descriptor is gone in any case.
    fn close(&mut self, socket: Socket) -> Result<(), Errno>;

    /// Whether an enter would submit anything.
    fn has_queued(&mut self) -> bool;
}

impl Calls for RealRing<'_> {
    #[inline]
    fn receive(&mut self, socket: Socket, room: &mut [u8]) -> Result<usize, Errno> {
        let (bytes, _) = rustix::net::recv(borrowed(socket), room, RecvFlags::DONTWAIT).map_err(errno)?;
        Ok(bytes)
    }

    #[inline]
    fn send(&mut self, socket: Socket, bytes: &[u8]) -> Result<usize, Errno> {
        let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
        rustix::net::send(borrowed(socket), bytes, flags).map_err(errno)
    }

    fn shut_down(&mut self, socket: Socket) -> Result<(), Errno> {
        rustix::net::shutdown(borrowed(socket), Shutdown::Write).map_err(errno)
    }

    fn close(&mut self, socket: Socket) -> Result<(), Errno> {
        nix::unistd::close(descriptor(socket))
    }

    fn has_queued(&mut self) -> bool {
        Self::has_queued(self)
    }
}

/// The number of a socket.
pub(super) fn descriptor(socket: Socket) -> RawFd {
    let Name::Descriptor(descriptor) = socket.0 else { unreachable!("it gave out no slot") };
    descriptor
}

fn borrowed<'a>(socket: Socket) -> BorrowedFd<'a> {
    // SAFETY: the loop closes a socket last, so it is open here.
    unsafe { BorrowedFd::borrow_raw(descriptor(socket)) }
}
