//! Whose time comes when: a heap of times with the slots they belong to, each slot at most once. What
//! the time means, the slot's state tells: its next message is due, or it may try to connect again.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

#[derive(Debug)]
pub(super) struct Times {
    heap: BinaryHeap<Reverse<(u64, u32)>>,
}

impl Times {
    /// For `slots`, without another allocation.
    pub(super) fn new(slots: u32) -> Self {
        Self { heap: BinaryHeap::with_capacity(slots as usize) }
    }

    /// The slot must not be in the heap.
    #[inline]
    pub(super) fn push(&mut self, time: u64, slot: u32) {
        self.heap.push(Reverse((time, slot)));
    }

    /// The slot whose time came first, if it has come.
    #[inline]
    pub(super) fn pop(&mut self, now: u64) -> Option<u32> {
        let &Reverse((time, slot)) = self.heap.peek()?;
        if time > now {
            return None;
        }
        self.heap.pop();
        Some(slot)
    }

    pub(super) fn next(&self) -> Option<u64> {
        self.heap.peek().map(|&Reverse((time, _))| time)
    }

    /// Forgets all; the slots, for their flags.
    pub(super) fn drain(&mut self) -> impl Iterator<Item = u32> + '_ {
        self.heap.drain().map(|Reverse((_, slot))| slot)
    }
}
