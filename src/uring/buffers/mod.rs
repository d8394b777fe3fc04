//! Memory of a worker and who holds it. A pool buffer is with the kernel, or leased to one
//! connection, never both; a spill chunk is free, or holds bytes of one stuck connection.
//!
//! The life of a received buffer: 1. [`Buffers::lease`] when its completion arrives, always;
//! 2. [`Buffers::append`] to the connection's queue; 3. sent from the front, [`Buffers::advance`] as
//! the kernel takes bytes; 4. given back when empty: provided to the ring, and shown to the kernel
//! by the publish at the end of the batch. A connection that gets stuck has its buffers copied to
//! chunks by [`Buffers::spill`], so that they return to the pool whatever the peer does.
//!
//! No allocation after [`Buffers::new`]: a queue is a list through the buffers themselves. Does not
//! know what a connection is.

mod arena;
mod kind;
mod pieces;
#[cfg(test)]
mod tests;

pub use arena::Arena;
pub use kind::{Incremental, Owned, Ownership, Room, Shared};

use crate::ring::{Completion, Operation, Ring, Socket, Span};
use pieces::Pieces;
use std::marker::PhantomData;

/// Bytes of a spill chunk. Only the pages that bytes reach become resident.
pub const CHUNK: u32 = 16 * 1024;
const NONE: u32 = u32::MAX;

/// Bytes of one connection in one buffer. Whoever has it must queue it or give it back.
#[derive(Debug)]
#[must_use]
pub struct Lease {
    holder: u32,
    start: u32,
    length: u32,
    /// In which buffer.
    buffer: u32,
}

/// The leases of one connection, in the order of their bytes.
#[derive(Debug)]
pub struct LeaseQueue {
    head: u32,
    tail: u32,
}

impl LeaseQueue {
    /// No leases.
    pub const EMPTY: Self = Self { head: NONE, tail: NONE };

    /// Whether there are none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.head == NONE
    }

    /// Whether there is more than one.
    #[must_use]
    pub const fn has_several(&self) -> bool {
        self.head != self.tail
    }
}

/// What a pool buffer or a chunk holds. Numbered together: buffers first, then chunks.
#[derive(Clone, Copy, Debug)]
struct Holder {
    start: u32,
    length: u32,
    next: u32,
    /// True from lease to give-back (a buffer), or while it holds bytes of a connection (a chunk).
    leased: bool,
    /// True while the kernel may read bytes of it that a send without a copy took.
    kept: bool,
    /// True when it was given back while it was kept.
    spent: bool,
}

/// The pool and the spill area of one worker.
#[derive(Debug)]
pub struct Buffers<'a, K = Shared> {
    arena: &'a Arena,
    holders: Vec<Holder>,
    free_chunks: Vec<u32>,
    lent: u32,
    kept: u32,
    spilled: u64,
    pieces: Pieces,
    kind: PhantomData<K>,
}

impl<'a, K: Ownership> Buffers<'a, K> {
    /// All buffers leased to nobody and not yet with the kernel: [`Self::provide_all`] is next.
    #[must_use]
    pub fn new(arena: &'a Arena) -> Self {
        let total = arena.buffers() + arena.chunks();
        let pieces = if K::PIECES { Pieces::count(arena.buffers()) } else { 0 };
        let nothing = Holder { start: 0, length: 0, next: NONE, leased: false, kept: false, spent: false };
        Self {
            arena,
            holders: vec![nothing; (total + pieces) as usize],
            // The lowest chunks are used first and again, so that few of them become resident.
            free_chunks: (arena.buffers()..total).rev().collect(),
            lent: 0,
            kept: 0,
            spilled: 0,
            pieces: if K::PIECES { Pieces::new(arena.buffers(), total) } else { Pieces::default() },
            kind: PhantomData,
        }
    }

    /// Bytes of the lists for `arena`, beside its own memory.
    #[must_use]
    pub fn bytes(arena: &Arena) -> u64 {
        let pieces = if K::PIECES { 2 * Pieces::count(arena.buffers()) } else { 0 };
        let total = u64::from(arena.buffers() + arena.chunks() + pieces);
        total * (size_of::<Holder>() + size_of::<u32>()) as u64
    }

    /// Gives the kernel every buffer, once, at the start.
    pub fn provide_all(&self, ring: &mut impl Ring) {
        if K::OWN {
            return;
        }
        (0..self.arena.buffers()).for_each(|buffer| ring.provide(buffer as u16));
        ring.publish();
    }

    /// Pool buffers that are not leased: the kernel has them, or they are in completions not yet seen.
    #[must_use]
    pub const fn free(&self) -> u32 {
        self.arena.buffers() - self.lent
    }

    /// Pool buffers that are leased.
    #[must_use]
    pub const fn lent(&self) -> u32 {
        self.lent
    }

    /// Bytes in the spill area.
    #[must_use]
    pub const fn spilled(&self) -> u64 {
        self.spilled
    }

    /// Whether a connection in `slot` has room to receive into.
    #[must_use]
    pub fn room_for(&self, slot: u32) -> Room {
        match K::OWN {
            true if self.holders[slot as usize].leased => Room::Held,
            false if self.free() == 0 => Room::Short,
            _ => Room::Free,
        }
    }

    /// The operation that receives for the connection in `slot`, which has room: until something comes, or
    /// without waiting for it.
    #[must_use]
    pub fn receive(&self, slot: u32, socket: Socket, limit: u32, waits: bool) -> Operation {
        if K::OWN {
            let length = limit.min(self.arena.buffer_size());
            let span = Span { offset: self.arena.offset(slot), length };
            return Operation::ReceiveInto { socket, span, waits };
        }
        if waits { Operation::Receive { socket, limit } } else { Operation::ReceiveNow { socket, limit } }
    }

    /// What a receive for the connection in `slot` brought; a buffer of its own only with bytes.
    pub fn received(&mut self, slot: u32, done: &Completion, ring: &mut impl Ring) -> Option<Lease> {
        let length = done.result.max(0) as u32;
        if K::PIECES {
            return self.lend_piece(done.buffer?.into(), done, ring);
        }
        if K::OWN {
            return (length > 0).then(|| self.lend(slot, length));
        }
        done.buffer.map(|buffer| self.lease(buffer, length))
    }

    /// Takes `buffer`, in which the kernel put `length` bytes.
    ///
    /// # Panics
    /// When it was not with the kernel: then its bytes belong to somebody already.
    pub fn lease(&mut self, buffer: u16, length: u32) -> Lease {
        self.lend(u32::from(buffer), length)
    }

    fn lend(&mut self, buffer: u32, length: u32) -> Lease {
        assert!(buffer < self.arena.buffers(), "the kernel named a buffer there is not");
        assert!(length <= self.arena.buffer_size(), "the kernel put more in a buffer than it holds");
        let holder = &mut self.holders[buffer as usize];
        assert!(!holder.leased, "buffer {buffer} was given out twice");
        holder.leased = true;
        self.lent += 1;
        Lease { holder: buffer, start: 0, length, buffer }
    }

    /// Returns a lease whose bytes nobody needs any more.
    pub fn give_back(&mut self, lease: Lease, ring: &mut impl Ring) {
        if K::PIECES {
            return self.give_back_piece(lease.holder, lease.buffer, ring);
        }
        self.release(lease.holder, ring);
    }

    fn release(&mut self, number: u32, ring: &mut impl Ring) {
        if self.is_piece(number) {
            return self.give_back_piece(number, self.pieces.buffer_of(number), ring);
        }
        let holder = &mut self.holders[number as usize];
        assert!(holder.leased, "buffer {number} was given back twice");
        if holder.kept {
            holder.spent = true;
            return;
        }
        holder.leased = false;
        if number < self.arena.buffers() {
            self.lent -= 1;
            if !K::OWN {
                ring.provide(number as u16);
            }
        } else {
            self.spilled -= u64::from(holder.length);
            self.free_chunks.push(number);
        }
    }

    /// Whether chunk `number`, and not a buffer or a piece of one.
    fn is_chunk(&self, number: u32) -> bool {
        number >= self.arena.buffers() && !self.is_piece(number)
    }

    /// Where the bytes of a buffer, a piece or a chunk are counted from.
    fn offset(&self, number: u32) -> u64 {
        self.arena.offset(if self.is_piece(number) { self.pieces.buffer_of(number) } else { number })
    }

    /// Puts `lease` at the end of `queue`. False when there was no room to note it, which can happen only
    /// where buffers are filled piece by piece: the connection cannot go on.
    #[must_use]
    pub fn append(&mut self, queue: &mut LeaseQueue, lease: Lease, ring: &mut impl Ring) -> bool {
        assert!(lease.length > 0, "an empty lease in a queue");
        if K::PIECES {
            return self.append_piece(queue, lease, ring);
        }
        let holder = &mut self.holders[lease.holder as usize];
        (holder.start, holder.length) = (lease.start, lease.length);
        self.link(queue, lease.holder);
        true
    }

    fn link(&mut self, queue: &mut LeaseQueue, number: u32) {
        self.holders[number as usize].next = NONE;
        match queue.tail {
            NONE => queue.head = number,
            tail => self.holders[tail as usize].next = number,
        }
        queue.tail = number;
    }

    /// The bytes to send next.
    #[must_use]
    pub fn front(&self, queue: &LeaseQueue) -> Option<Span> {
        if queue.is_empty() {
            return None;
        }
        let holder = self.holders[queue.head as usize];
        let offset = self.offset(queue.head) + u64::from(holder.start);
        Some(Span { offset, length: holder.length })
    }

    /// The bytes to send next and those behind them, lease by lease.
    pub fn spans(&self, queue: &LeaseQueue) -> impl Iterator<Item = Span> + '_ {
        let mut number = queue.head;
        std::iter::from_fn(move || {
            let holder = self.holders.get(number as usize)?;
            let offset = self.offset(number) + u64::from(holder.start);
            number = holder.next;
            Some(Span { offset, length: holder.length })
        })
    }

    /// Whether the kernel may go on reading the front of `queue` after it took bytes of it: for a buffer of
    /// the pool, while it does so with less than half of them. Who never reads keeps no more from others.
    #[must_use]
    pub fn may_be_kept(&self, queue: &LeaseQueue) -> bool {
        !K::PIECES && !K::OWN && queue.head < self.arena.buffers() && 2 * self.kept < self.arena.buffers()
    }

    /// The front of `queue` is kept for the kernel until [`Self::kept_no_more`] for what this returns.
    pub fn keep(&mut self, queue: &LeaseQueue) -> u32 {
        let holder = &mut self.holders[queue.head as usize];
        assert!(holder.leased && !holder.kept, "buffer {} is kept twice", queue.head);
        holder.kept = true;
        self.kept += 1;
        queue.head
    }

    /// The kernel reads it no more; where it was given back meanwhile, it goes back now.
    pub fn kept_no_more(&mut self, number: u32, ring: &mut impl Ring) {
        let holder = &mut self.holders[number as usize];
        assert!(holder.kept, "buffer {number} is not kept");
        holder.kept = false;
        self.kept -= 1;
        if std::mem::take(&mut holder.spent) {
            self.release(number, ring);
        }
    }

    /// The kernel took `bytes` from the front of `queue`, of one lease or of several; what is empty goes back.
    pub fn advance(&mut self, queue: &mut LeaseQueue, bytes: u32, ring: &mut impl Ring) {
        let mut left = bytes;
        while left > 0 {
            assert!(!queue.is_empty(), "more was sent than there was");
            let some = left.min(self.holders[queue.head as usize].length);
            self.advance_front(queue, some, ring);
            left -= some;
        }
    }

    /// The kernel took `bytes` of the first lease.
    fn advance_front(&mut self, queue: &mut LeaseQueue, bytes: u32, ring: &mut impl Ring) {
        let number = queue.head;
        let holder = &mut self.holders[number as usize];
        holder.start += bytes;
        holder.length -= bytes;
        let (empty, next) = (holder.length == 0, holder.next);
        if number >= self.arena.buffers() && !self.is_piece(number) {
            self.spilled -= u64::from(bytes);
        }
        if empty {
            queue.head = next;
            if next == NONE {
                queue.tail = NONE;
            }
            self.release(number, ring);
        }
    }

    /// Gives back everything in `queue` but the leases of the first `kept` bytes, which the kernel reads.
    pub fn clear(&mut self, queue: &mut LeaseQueue, kept: u32, ring: &mut impl Ring) {
        let (mut number, mut last, mut left) = (queue.head, NONE, kept);
        while left > 0 && number != NONE {
            left = left.saturating_sub(self.holders[number as usize].length);
            (last, number) = (number, self.holders[number as usize].next);
        }
        if last == NONE {
            *queue = LeaseQueue::EMPTY;
        } else {
            queue.tail = last;
            self.holders[last as usize].next = NONE;
        }
        while number != NONE {
            let next = self.holders[number as usize].next;
            self.release(number, ring);
            number = next;
        }
    }

    /// Copies what `queue` holds in pool buffers to chunks, in place, and gives the buffers back.
    /// False when the chunks ran out: the rest stays where it is. No pool buffer of the queue may be
    /// with the kernel.
    pub fn spill(&mut self, queue: &mut LeaseQueue, ring: &mut impl Ring) -> bool {
        let mut number = std::mem::replace(queue, LeaseQueue::EMPTY).head;
        let mut room = true;
        while number != NONE {
            let next = self.holders[number as usize].next;
            let pooled = !self.is_chunk(number);
            if pooled && room {
                room = self.copy_out(queue, number);
            }
            if pooled && room {
                self.release(number, ring);
            } else {
                self.link(queue, number);
            }
            number = next;
        }
        room
    }

    /// Moves the bytes of pool buffer `number` to chunks at the end of `queue`; false when the
    /// chunks ran out first, with the rest still in the buffer.
    fn copy_out(&mut self, queue: &mut LeaseQueue, number: u32) -> bool {
        let from = self.holders[number as usize];
        let copied = self.copy_to_chunks(queue, self.offset(number) + u64::from(from.start), from.length);
        self.holders[number as usize].start += copied;
        self.holders[number as usize].length -= copied;
        copied == from.length
    }

    /// Copies bytes of a buffer to chunks at the end of `queue`, as many as there is room for.
    fn copy_to_chunks(&mut self, queue: &mut LeaseQueue, source: u64, length: u32) -> u32 {
        let mut copied = 0;
        while copied < length {
            let Some(chunk) = self.chunk_with_room(queue) else { break };
            let to = self.holders[chunk as usize];
            let end = to.start + to.length;
            let some = (length - copied).min(CHUNK - end);
            let target = self.arena.offset(chunk) + u64::from(end);
            self.arena.copy(source + u64::from(copied), target, some);
            self.holders[chunk as usize].length += some;
            self.spilled += u64::from(some);
            copied += some;
        }
        copied
    }

    /// The last chunk of `queue` if there is room behind its bytes, else a new one. The kernel may
    /// be sending from it: it reads only the bytes it was offered, and those stay.
    fn chunk_with_room(&mut self, queue: &mut LeaseQueue) -> Option<u32> {
        if queue.tail != NONE && self.is_chunk(queue.tail) {
            let last = self.holders[queue.tail as usize];
            if last.start + last.length < CHUNK {
                return Some(queue.tail);
            }
        }
        let chunk = self.free_chunks.pop()?;
        self.holders[chunk as usize] =
            Holder { start: 0, length: 0, next: NONE, leased: true, kept: false, spent: false };
        self.link(queue, chunk);
        Some(chunk)
    }
}
