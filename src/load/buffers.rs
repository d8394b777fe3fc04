//! The memory of one load thread: buffers the kernel receives into, then scratch that messages are
//! written to and sent from. A buffer is with the kernel, or taken by the engine, never both; scratch is
//! the engine's, and the kernel only reads what it was lent of it. Promises that no slice leaves the
//! memory. Does not know what a connection is.

use crate::ring::{Memory, Pages, Ring, Span, stride};
use std::io;

/// The memory itself. It must outlive the ring.
#[derive(Debug)]
pub struct Arena {
    pages: Pages,
    count: u16,
    size: u32,
    scratch: u64,
    scratch_size: u32,
}

impl Arena {
    /// Room for `count` buffers of `size` bytes, and `scratch_size` bytes of scratch; resident now.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub fn new(count: u16, size: u32, scratch_size: u32) -> io::Result<Self> {
        let scratch = (u64::from(count) * stride(size)).next_multiple_of(4096);
        let length = scratch + u64::from(scratch_size);
        let pages = Pages::new(length)?;
        pages.touch(length);
        Ok(Self { pages, count, size, scratch, scratch_size })
    }

    /// The memory, for a ring.
    #[must_use]
    pub const fn memory(&self) -> Memory {
        self.pages.memory()
    }

    /// How many buffers there are.
    #[must_use]
    pub const fn count(&self) -> u16 {
        self.count
    }

    /// Bytes in each of them.
    #[must_use]
    pub const fn size(&self) -> u32 {
        self.size
    }
}

/// A buffer that is the engine's, and how many bytes the kernel put in it. Whoever has it gives it back.
#[derive(Debug)]
#[must_use]
pub struct Received {
    buffer: u16,
    length: u32,
}

/// Who has what of an [`Arena`].
#[derive(Debug)]
pub struct Buffers<'a> {
    arena: &'a Arena,
    taken: Vec<bool>,
    /// Scratch before this offset is lent to the kernel.
    used: u32,
    /// Spans that are lent.
    lent: u32,
}

impl<'a> Buffers<'a> {
    /// All buffers shown to the kernel, all scratch free.
    pub fn new(arena: &'a Arena, ring: &mut impl Ring) -> Self {
        (0..arena.count).for_each(|buffer| ring.provide(buffer));
        ring.publish();
        Self { arena, taken: vec![false; usize::from(arena.count)], used: 0, lent: 0 }
    }

    /// Takes `buffer`, in which the kernel put `length` bytes.
    ///
    /// # Panics
    /// When the kernel did not have it.
    pub fn take(&mut self, buffer: u16, length: u32) -> Received {
        assert!(length <= self.arena.size, "the kernel put more in a buffer than it holds");
        let taken = &mut self.taken[usize::from(buffer)];
        assert!(!*taken, "buffer {buffer} was given out twice");
        *taken = true;
        Received { buffer, length }
    }

    /// The bytes.
    #[must_use]
    pub fn bytes(&self, received: &Received) -> &[u8] {
        let offset = u64::from(received.buffer) * stride(self.arena.size);
        // SAFETY: the buffer lies in the mapping: its number is below the count, by `take`.
        let start = unsafe { self.arena.memory().base.add(offset as usize) };
        // SAFETY: initialised (mappings are zeroed); the kernel writes nothing here until `give_back`,
        // which needs `self` for itself.
        unsafe { std::slice::from_raw_parts(start.as_ptr().cast_const(), received.length as usize) }
    }

    /// Shows the buffer to the kernel again, at the next publish.
    pub fn give_back(&mut self, received: Received, ring: &mut impl Ring) {
        self.taken[usize::from(received.buffer)] = false;
        ring.provide(received.buffer);
    }

    /// Lends the kernel a span of scratch of at most `length` bytes, written by `write` before. `None`
    /// where no scratch is free: there is some when every span has been [returned](Self::returned).
    pub fn lend(&mut self, length: u64, write: impl FnOnce(&mut [u8])) -> Option<Span> {
        let free = self.arena.scratch_size - self.used;
        let length = length.min(u64::from(free)) as u32;
        if length == 0 {
            return None;
        }
        let offset = self.arena.scratch + u64::from(self.used);
        // SAFETY: scratch begins in the mapping and has `scratch_size` bytes, of which `used` and
        // `length` are no more.
        let start = unsafe { self.arena.memory().base.add(offset as usize) };
        // SAFETY: initialised, and lent to nobody: what is lent lies below `used`.
        let span = unsafe { std::slice::from_raw_parts_mut(start.as_ptr(), length as usize) };
        write(span);
        // The next span begins a word further on, so that words are written aligned.
        self.used = (self.used + length).next_multiple_of(8).min(self.arena.scratch_size);
        self.lent += 1;
        Some(Span { offset, length })
    }

    /// The kernel is done with one span.
    pub fn returned(&mut self) {
        self.lent -= 1;
        if self.lent == 0 {
            self.used = 0;
        }
    }

    /// Spans that are lent.
    #[must_use]
    pub const fn lent(&self) -> u32 {
        self.lent
    }
}
