//! The buffers that are received into, and the caller's bytes: where [`super::Readiness`] touches the
//! memory it was set up with, and nowhere else. Does not know who holds a buffer: the caller does.

use super::super::{Memory, Span, stride};

/// Buffers that may be filled.
pub(in crate::ring) struct Pool {
    memory: Memory,
    count: u16,
    size: u32,
    /// The last one provided is filled first: it is the one that the caches still hold.
    free: Vec<u16>,
    /// Provided, and not to be filled before they are published.
    written: Vec<u16>,
}

impl Pool {
    /// For `count` buffers of `size` bytes at the start of `memory`, none of them free.
    pub(in crate::ring) fn new(memory: Memory, count: u16, size: u32) -> Self {
        assert!(u64::from(count) * stride(size) <= memory.length, "the buffers exceed the memory");
        let list = || Vec::with_capacity(usize::from(count));
        Self { memory, count, size, free: list(), written: list() }
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

    /// The buffer to be filled next, and its room.
    pub(in crate::ring) fn head(&mut self) -> Option<(u16, &mut [u8])> {
        let buffer = *self.free.last()?;
        // SAFETY: `provide` checked that there is such a buffer, and `new` that all lie in the memory.
        let start = unsafe { self.memory.base.add(usize::from(buffer) * stride(self.size) as usize) };
        // SAFETY: mapped for as long as this pool lives; the caller gave the buffer away when it provided
        // it, and gets it back with a completion, after this borrow.
        let room = unsafe { std::slice::from_raw_parts_mut(start.as_ptr(), self.size as usize) };
        Some((buffer, room))
    }

    /// The buffer of [`head`](Self::head) is filled.
    pub(in crate::ring) fn take(&mut self) {
        self.free.pop();
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
