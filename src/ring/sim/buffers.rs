//! The ring of provided buffers and who owns each of them, and the memory itself: the one place of
//! the fake kernel that reads and writes the caller's bytes.

use super::super::{Memory, Span, stride};
use std::collections::VecDeque;

/// Whose a buffer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Owner {
    /// The caller's: never provided, or handed over with a completion that was taken.
    Caller,
    /// Written into the ring, but not shown to the kernel yet.
    Written,
    /// The kernel's, free to be filled.
    Kernel,
    /// Handed over with a completion that was not taken yet.
    Posted,
}

/// All buffers. Buffer `b` begins `b` strides from the start of the memory.
#[derive(Debug)]
pub struct Buffers {
    memory: Memory,
    size: u32,
    owners: Vec<Owner>,
    written: VecDeque<u16>,
    /// Published, and not seen by the kernel yet.
    unseen: VecDeque<u16>,
    free: VecDeque<u16>,
    /// Filled bit by bit: how far the kernel has come in each, and how much of that the caller was told of.
    incremental: bool,
    filled: Vec<u32>,
    told: Vec<u32>,
}

/// A buffer in a completion, and whether the kernel goes on filling it.
pub(super) type Picked = (u16, bool);

impl Buffers {
    /// Of `size` bytes each, all of them the caller's.
    ///
    /// # Panics
    /// Where they do not fit in the memory.
    #[must_use]
    pub fn new(memory: Memory, count: u16, size: u32, incremental: bool) -> Self {
        assert!(u64::from(count) * stride(size) <= memory.length, "the buffers exceed the memory");
        Self {
            memory,
            size,
            owners: vec![Owner::Caller; usize::from(count)],
            written: VecDeque::new(),
            unseen: VecDeque::new(),
            free: VecDeque::new(),
            incremental,
            filled: vec![0; usize::from(count)],
            told: vec![0; usize::from(count)],
        }
    }

    pub(super) fn size(&self) -> u32 {
        self.size
    }

    /// An entry at the tail, unseen by the kernel.
    pub(super) fn provide(&mut self, buffer: u16) -> Result<(), String> {
        match self.owners.get_mut(usize::from(buffer)) {
            None => Err(format!("I8: buffer {buffer} does not exist")),
            Some(owner @ Owner::Caller) => {
                *owner = Owner::Written;
                self.filled[usize::from(buffer)] = 0;
                self.told[usize::from(buffer)] = 0;
                self.written.push_back(buffer);
                Ok(())
            }
            Some(owner) => Err(format!("I9: buffer {buffer} was provided while {owner:?} owns it")),
        }
    }

    /// What was provided is the kernel's, though it may not know yet; how many that are.
    pub(super) fn publish(&mut self) -> usize {
        let count = self.written.len();
        self.written.iter().for_each(|&buffer| self.owners[usize::from(buffer)] = Owner::Kernel);
        self.unseen.append(&mut self.written);
        count
    }

    /// The kernel sees the next `count` of those.
    pub(super) fn show(&mut self, count: usize) {
        self.free.extend(self.unseen.drain(..count));
    }

    /// How many are the kernel's to be filled, whether it sees them or not.
    pub(super) fn published(&self) -> usize {
        self.free.len() + self.unseen.len()
    }

    /// How many the kernel may fill.
    pub(super) fn free(&self) -> usize {
        self.free.len()
    }

    /// Bytes that fit behind what is in the buffer at the head of the ring.
    pub(super) fn room(&self) -> u32 {
        self.free.front().map_or(self.size, |&buffer| self.size - self.filled[usize::from(buffer)])
    }

    /// The buffer at the head of the ring, now in a completion with so many bytes.
    pub(super) fn pick(&mut self, bytes: u32) -> Option<Picked> {
        let buffer = *self.free.front()?;
        let filled = &mut self.filled[usize::from(buffer)];
        *filled += bytes;
        let keeps = self.incremental && *filled < self.size;
        if !keeps {
            self.free.pop_front();
            self.owners[usize::from(buffer)] = Owner::Posted;
        }
        Some((buffer, keeps))
    }

    pub(super) fn taken(&mut self, (buffer, keeps): Picked, bytes: u32) {
        self.told[usize::from(buffer)] += bytes;
        if !keeps {
            self.owners[usize::from(buffer)] = Owner::Caller;
        }
    }

    /// Whether a buffer, or the part of it that a span reaches, is the caller's.
    fn is_callers(&self, buffer: u64, end: u64) -> bool {
        let told = u64::from(self.told[buffer as usize]);
        match self.owners[buffer as usize] {
            Owner::Caller => true,
            Owner::Kernel | Owner::Posted => self.incremental && end <= buffer * stride(self.size) + told,
            Owner::Written => false,
        }
    }

    pub(super) fn count(&self, owner: Owner) -> usize {
        self.owners.iter().filter(|&&one| one == owner).count()
    }

    /// The buffers a span lies in, none where it lies behind them.
    pub(super) fn within(&self, span: Span) -> std::ops::Range<u64> {
        let stride = stride(self.size);
        let end = (span.offset + u64::from(span.length)).div_ceil(stride);
        (span.offset / stride).min(self.owners.len() as u64)..end.min(self.owners.len() as u64)
    }

    /// The buffer of which this is the beginning, if it is one that may be filled.
    pub(super) fn free_buffer(&self, room: &[u8]) -> Result<u16, String> {
        let span = self.span_of(room)?;
        let buffer = span.offset / stride(self.size);
        let fits = span.offset.is_multiple_of(stride(self.size)) && span.length <= self.size;
        match self.free.iter().find(|&&free| u64::from(free) == buffer) {
            Some(&free) if fits => Ok(free),
            _ => Err(format!("I8: {span:?} is received into, and is no free buffer")),
        }
    }

    /// A free buffer has been filled.
    pub(super) fn post(&mut self, buffer: u16) {
        self.free.retain(|&free| free != buffer);
        self.owners[usize::from(buffer)] = Owner::Posted;
    }

    /// Where bytes lie that the caller names by themselves.
    pub(super) fn span_of(&self, bytes: &[u8]) -> Result<Span, String> {
        let offset = (bytes.as_ptr() as u64).wrapping_sub(self.memory.base.as_ptr() as u64);
        let end = offset.checked_add(bytes.len() as u64);
        if end.is_some_and(|end| end <= self.memory.length) && !bytes.is_empty() {
            Ok(Span { offset, length: bytes.len() as u32 })
        } else {
            Err(format!("I8: {} bytes that are none of the memory", bytes.len()))
        }
    }

    /// Whether the caller may have the kernel read these bytes.
    pub(super) fn check_sendable(&self, span: Span) -> Result<(), String> {
        if span.length == 0 || span.offset + u64::from(span.length) > self.memory.length {
            return Err(format!("{span:?} is empty or outside of the memory"));
        }
        let end = span.offset + u64::from(span.length);
        match self.within(span).find(|&buffer| !self.is_callers(buffer, end)) {
            None => Ok(()),
            Some(buffer) => {
                let owner = self.owners[buffer as usize];
                Err(format!("I8: {span:?} is sent from buffer {buffer} while {owner:?} owns it"))
            }
        }
    }

    /// Takes the buffers of a span, which the caller wants to be received into.
    pub(super) fn lend_to_kernel(&mut self, span: Span) -> Result<(), String> {
        self.check_sendable(span)?;
        if self.within(span).is_empty() {
            return Err(format!("I8: {span:?} is received into, and is no buffer"));
        }
        self.within(span).for_each(|buffer| self.owners[buffer as usize] = Owner::Kernel);
        Ok(())
    }

    /// They are the caller's again.
    pub(super) fn give_back(&mut self, span: Span) {
        self.within(span).for_each(|buffer| self.owners[buffer as usize] = Owner::Caller);
    }

    /// Fills the next `length` bytes of the buffer at the head of the ring, now in a completion.
    pub(super) fn fill(&mut self, length: u32, byte: impl FnMut(u64) -> u8) -> Option<Picked> {
        assert!(length <= self.room());
        let buffer = *self.free.front()?;
        let start = u64::from(buffer) * stride(self.size) + u64::from(self.filled[usize::from(buffer)]);
        self.write(start, length, byte);
        self.pick(length)
    }

    /// Writes `length` bytes from `offset` on.
    ///
    /// # Panics
    /// Where they lie outside of the memory.
    pub fn write(&mut self, offset: u64, length: u32, mut byte: impl FnMut(u64) -> u8) {
        assert!(offset + u64::from(length) <= self.memory.length);
        for index in 0..length as usize {
            // SAFETY: in the memory, by the line above; it outlives the ring.
            let place = unsafe { self.memory.base.add(offset as usize + index) };
            // SAFETY: the buffer is the kernel's now, so the caller holds no reference into it.
            unsafe { place.write(byte(index as u64)) };
        }
    }

    /// The byte at `index` of a span that is lent to the kernel.
    ///
    /// # Panics
    /// Where it lies outside of the span or of the memory.
    #[must_use]
    pub fn read(&self, span: Span, index: u32) -> u8 {
        assert!(index < span.length && span.offset + u64::from(span.length) <= self.memory.length);
        // SAFETY: in the memory, by the line above.
        let place = unsafe { self.memory.base.add((span.offset + u64::from(index)) as usize) };
        // SAFETY: the caller lent it until the completion.
        unsafe { place.read() }
    }
}
