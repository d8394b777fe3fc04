//! The bytes themselves: pool buffers, then spill chunks, in one stretch of memory the ring knows.
//! Promises that a copy never leaves it. Does not know who holds what.

use super::CHUNK;
use crate::ring::{Memory, Pages, stride};
use std::io;

/// The memory of one worker. It must outlive the ring.
#[derive(Debug)]
pub struct Arena {
    pages: Pages,
    buffers: u32,
    buffer_size: u32,
    chunks: u32,
    /// Where the chunks begin, bytes from the start.
    spill: u64,
}

impl Arena {
    /// Room for `buffers` of `buffer_size` bytes, made resident now, and for `spill_limit` bytes of
    /// spill, which become resident when used.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub fn new(buffers: u32, buffer_size: u32, spill_limit: u64) -> io::Result<Self> {
        let this = Self::untouched(buffers, buffer_size, spill_limit)?;
        this.pages.touch(this.spill);
        Ok(this)
    }

    /// The same, but nothing becomes resident before it is used.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub fn untouched(buffers: u32, buffer_size: u32, spill_limit: u64) -> io::Result<Self> {
        let chunks = (spill_limit / u64::from(CHUNK)).min(u64::from(u32::MAX / 2)) as u32;
        // Chunks begin at a page, so that a short spill makes only one page resident.
        let pool = (u64::from(buffers) * stride(buffer_size)).next_multiple_of(4096);
        let pages = Pages::new(pool + u64::from(chunks) * u64::from(CHUNK))?;
        Ok(Self { pages, buffers, buffer_size, chunks, spill: pool })
    }

    /// How many pool buffers there are.
    #[must_use]
    pub const fn buffers(&self) -> u32 {
        self.buffers
    }

    /// Bytes in each of them.
    #[must_use]
    pub const fn buffer_size(&self) -> u32 {
        self.buffer_size
    }

    /// How many spill chunks there are.
    #[must_use]
    pub const fn chunks(&self) -> u32 {
        self.chunks
    }

    /// The memory, for the ring.
    #[must_use]
    pub const fn memory(&self) -> Memory {
        self.pages.memory()
    }

    /// Where buffer or chunk `number` begins, bytes from the start.
    #[must_use]
    pub const fn offset(&self, number: u32) -> u64 {
        if number < self.buffers {
            number as u64 * stride(self.buffer_size)
        } else {
            self.spill + (number - self.buffers) as u64 * CHUNK as u64
        }
    }

    /// Copies `length` bytes. The caller holds both ranges: the kernel writes neither now.
    pub(super) fn copy(&self, source: u64, target: u64, length: u32) {
        let (memory, bytes) = (self.memory(), u64::from(length));
        assert!(source + bytes <= memory.length && target + bytes <= memory.length);
        // SAFETY: `source` lies in the mapping, by the assertion.
        let from = unsafe { memory.base.add(source as usize) };
        // SAFETY: `target` lies in the mapping, by the assertion.
        let to = unsafe { memory.base.add(target as usize) };
        // SAFETY: both ranges lie in the mapping and are leased: only this thread touches them, and
        // the kernel at most reads. They may not overlap: one is a buffer, the other a chunk.
        unsafe { from.copy_to_nonoverlapping(to, length as usize) };
    }
}
