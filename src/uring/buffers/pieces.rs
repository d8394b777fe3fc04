//! Buffers that are filled piece by piece: how far the kernel has come in each, which pieces of it somebody
//! still needs, and when it goes back. Numbers of pieces follow those of buffers and chunks.

use super::{Buffers, Lease, LeaseQueue, NONE, Ownership};
use crate::ring::{Completion, Ring};

/// Pieces for each buffer: of a buffer of 64 KiB filled with less than 128 bytes each time, some are
/// copied to spill chunks.
const PIECES_EACH: u32 = 512;

/// What is known of the buffers and their pieces.
#[derive(Debug, Default)]
pub(super) struct Pieces {
    /// By buffer.
    buffers: Vec<Filling>,
    /// By piece: in which buffer it lies.
    within: Vec<u32>,
    free: Vec<u32>,
    /// The number of the first piece.
    first: u32,
}

/// One buffer.
#[derive(Clone, Copy, Debug, Default)]
struct Filling {
    /// Bytes the kernel has put there.
    filled: u32,
    /// Leases of it that are not given back.
    leases: u32,
    /// The kernel is done with it.
    closed: bool,
}

impl Pieces {
    /// For so many buffers, with pieces numbered from `first`.
    pub(super) fn new(buffers: u32, first: u32) -> Self {
        let count = Self::count(buffers);
        Self {
            buffers: vec![Filling::default(); buffers as usize],
            within: vec![0; count as usize],
            free: (first..first + count).rev().collect(),
            first,
        }
    }

    /// How many pieces there are for so many buffers.
    pub(super) const fn count(buffers: u32) -> u32 {
        buffers * PIECES_EACH
    }

    /// The buffer in which a piece lies.
    pub(super) fn buffer_of(&self, piece: u32) -> u32 {
        self.within[(piece - self.first) as usize]
    }
}

impl<K: Ownership> Buffers<'_, K> {
    /// Takes the piece of a buffer that a completion brought. `None` where it brought no bytes.
    pub(super) fn lend_piece(
        &mut self,
        buffer: u32,
        done: &Completion,
        ring: &mut impl Ring,
    ) -> Option<Lease> {
        assert!(buffer < self.arena.buffers(), "the kernel named a buffer there is not");
        let length = done.result.max(0) as u32;
        let filling = &mut self.pieces.buffers[buffer as usize];
        assert!(!filling.closed, "buffer {buffer} was filled after the kernel was done with it");
        let start = filling.filled;
        filling.filled += length;
        assert!(filling.filled <= self.arena.buffer_size(), "the kernel put more in a buffer than it holds");
        if !done.keeps_buffer {
            filling.closed = true;
            self.lent += 1;
        }
        if length == 0 {
            self.reopen(buffer, ring);
            return None;
        }
        filling.leases += 1;
        let holder = self.pieces.free.pop().unwrap_or(NONE);
        if holder != NONE {
            self.pieces.within[(holder - self.pieces.first) as usize] = buffer;
            self.holders[holder as usize].leased = true;
        }
        Some(Lease { holder, start, length, buffer })
    }

    /// Puts a piece at the end of `queue`: into the piece before it where they touch, to a chunk where there
    /// is no piece left. False when there is no chunk left either: the bytes are lost to the connection.
    pub(super) fn append_piece(
        &mut self,
        queue: &mut LeaseQueue,
        lease: Lease,
        ring: &mut impl Ring,
    ) -> bool {
        let Lease { holder, start, length, buffer } = lease;
        let tail = queue.tail;
        if tail != NONE && self.is_piece(tail) && self.pieces.buffer_of(tail) == buffer {
            let before = &mut self.holders[tail as usize];
            if before.start + before.length == start {
                before.length += length;
                // One lease less, with the same bytes.
                self.give_back_piece(holder, buffer, ring);
                return true;
            }
        }
        if holder != NONE {
            let new = &mut self.holders[holder as usize];
            (new.start, new.length) = (start, length);
            self.link(queue, holder);
            return true;
        }
        let copied = self.copy_to_chunks(queue, self.arena.offset(buffer) + u64::from(start), length);
        self.give_back_piece(holder, buffer, ring);
        copied == length
    }

    pub(super) fn is_piece(&self, number: u32) -> bool {
        K::PIECES && number >= self.pieces.first
    }

    pub(super) fn give_back_piece(&mut self, piece: u32, buffer: u32, ring: &mut impl Ring) {
        if piece != NONE {
            let holder = &mut self.holders[piece as usize];
            assert!(holder.leased, "piece {piece} was given back twice");
            holder.leased = false;
            self.pieces.free.push(piece);
        }
        self.pieces.buffers[buffer as usize].leases -= 1;
        self.reopen(buffer, ring);
    }

    /// Gives a buffer to the kernel anew when it is done with it and nobody needs a byte of it.
    fn reopen(&mut self, buffer: u32, ring: &mut impl Ring) {
        let filling = &mut self.pieces.buffers[buffer as usize];
        if filling.closed && filling.leases == 0 {
            *filling = Filling::default();
            self.lent -= 1;
            ring.provide(buffer as u16);
        }
    }
}
