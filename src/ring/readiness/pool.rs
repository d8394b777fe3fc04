//! The buffers that are received into, and the caller's bytes: where [`super::Readiness`] and the ring that
//! only notifies touch the memory they were set up with, and nowhere else. Does not know who holds a
//! buffer: the caller does.

use super::super::{Completion, Memory, Span, Token, stride};
use super::errno;
use nix::errno::Errno;
use rustix::net::RecvFlags;
use std::os::fd::AsFd;

/// Buffers that may be filled.
pub(in crate::ring) struct Pool {
    memory: Memory,
    count: u16,
    size: u32,
    /// The last one provided is filled first: it is the one that the caches still hold.
    free: Vec<u16>,
    /// Provided, and not to be filled before they are published.
    written: Vec<u16>,
    calls: u64,
}

/// Bytes, and the buffer they are in.
pub(in crate::ring) struct Received {
    pub(in crate::ring) bytes: u32,
    /// As much as was asked for: there may be more.
    pub(in crate::ring) whole: bool,
    buffer: u16,
}

impl Received {
    pub(in crate::ring) const fn completion(&self, token: Token, more: bool) -> Completion {
        let buffer = Some(self.buffer);
        Completion { token, result: self.bytes as i32, more, buffer, keeps_buffer: false }
    }
}

impl Pool {
    /// For `count` buffers of `size` bytes at the start of `memory`, none of them free.
    pub(in crate::ring) fn new(memory: Memory, count: u16, size: u32) -> Self {
        assert!(u64::from(count) * stride(size) <= memory.length, "the buffers exceed the memory");
        let list = || Vec::with_capacity(usize::from(count));
        Self { memory, count, size, free: list(), written: list(), calls: 0 }
    }

    /// How many buffers there are, and how many bytes each has.
    pub(in crate::ring) const fn sizes(&self) -> (u16, u32) {
        (self.count, self.size)
    }

    pub(in crate::ring) fn provide(&mut self, buffer: u16) {
        assert!(buffer < self.count, "there is no buffer {buffer}");
        self.written.push(buffer);
    }

    pub(in crate::ring) fn publish(&mut self) {
        self.free.append(&mut self.written);
    }

    /// One recv(2) of at most `most` bytes into the buffer to be filled next, without waiting; `None` at the
    /// end. The buffer is the caller's when bytes came.
    ///
    /// # Errors
    /// `ENOBUFS` without a call where no buffer is free; else as recv(2).
    pub(in crate::ring) fn receive(
        &mut self,
        socket: impl AsFd,
        most: usize,
    ) -> Result<Option<Received>, Errno> {
        self.receive_by(most, |room| {
            let (bytes, _) = rustix::net::recv(socket, room, RecvFlags::DONTWAIT).map_err(errno)?;
            Ok(bytes)
        })
    }

    /// The same by a call of the caller's own, which is given the room to fill and says how many bytes came.
    ///
    /// # Errors
    /// `ENOBUFS` without a call where no buffer is free; else what `call` says.
    pub(in crate::ring) fn receive_by(
        &mut self,
        most: usize,
        call: impl FnOnce(&mut [u8]) -> Result<usize, Errno>,
    ) -> Result<Option<Received>, Errno> {
        let Some((buffer, room)) = self.head() else { return Err(Errno::ENOBUFS) };
        let wanted = room.len().min(most);
        let received = call(&mut room[..wanted]);
        self.calls += 1;
        let bytes = received?;
        if bytes == 0 {
            return Ok(None);
        }
        self.free.pop();
        Ok(Some(Received { bytes: bytes as u32, whole: bytes == wanted, buffer }))
    }

    /// System calls so far.
    pub(in crate::ring) const fn calls(&self) -> u64 {
        self.calls
    }

    /// The buffer to be filled next, and its room.
    fn head(&mut self) -> Option<(u16, &mut [u8])> {
        let buffer = *self.free.last()?;
        // SAFETY: `provide` checked that there is such a buffer, and `new` that all lie in the memory.
        let start = unsafe { self.memory.base.add(usize::from(buffer) * stride(self.size) as usize) };
        // SAFETY: mapped for as long as this pool lives; the caller gave the buffer away when it provided
        // it, and gets it back with a completion, after this borrow.
        let room = unsafe { std::slice::from_raw_parts_mut(start.as_ptr(), self.size as usize) };
        Some((buffer, room))
    }

    /// The bytes of a send.
    pub(in crate::ring) fn lent(&self, span: Span) -> &[u8] {
        assert!(span.offset + u64::from(span.length) <= self.memory.length, "a span outside the memory");
        // SAFETY: in the memory, by the line above.
        let start = unsafe { self.memory.base.add(span.offset as usize) };
        // SAFETY: mapped for as long as this pool lives; the caller lends the span until the send is over.
        unsafe { std::slice::from_raw_parts(start.as_ptr(), span.length as usize) }
    }
}
