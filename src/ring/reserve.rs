//! How many of the free buffers the kernel is given. It takes them in the order they were given, so all
//! that it has go through its hands and through the cache: the fewer, the warmer. What it is not given
//! waits here, and who came last goes first. Measured with 64 KiB messages on 16 connections, where 8
//! instead of 128 took a fifth off the server's CPU time: docs/figures.md.
//!
//! Too few cost as well: a receive that finds none ends, and is armed again. So the number follows the
//! load: doubled where more than one receive in 64 found none, halved where that was seldom. Pure: it knows
//! neither the ring nor the memory.

use super::Completion;

/// Receives after which the number is looked at.
const PERIOD: u32 = 1024;
/// Receives in a period that may find no buffer.
const MISSES_MAX: u32 = PERIOD / 64;
/// The kernel is never given fewer, where there are as many.
const LEAST: u32 = 4;
/// Periods that have to go well before fewer are tried, at most: each time it turns out to be too few the
/// next try waits twice as long.
const PATIENCE_MAX: u32 = 64;

/// The free buffers that the kernel does not have.
#[derive(Debug)]
pub(super) struct Reserve {
    /// Whether the number follows the load.
    follows: bool,
    spare: Vec<u16>,
    count: u32,
    /// How many the kernel is to have, and how many it has, as far as is known.
    wanted: u32,
    given: u32,
    /// Receives of this period, and those that found no buffer.
    receives: u32,
    misses: u32,
    /// Periods that went well since the number was last changed, and how many have to.
    well: u32,
    patience: u32,
}

impl Reserve {
    /// Of `count` buffers, none of them free yet. The kernel is to have all of them.
    pub(super) fn new(count: u16) -> Self {
        let count = u32::from(count);
        Self {
            follows: false,
            spare: Vec::with_capacity(count as usize),
            count,
            wanted: count,
            given: 0,
            receives: 0,
            misses: 0,
            well: 0,
            patience: 1,
        }
    }

    /// From now on the kernel has as many as it needs. Not for a client: an answer that finds no buffer
    /// waits, and that would be told as the server's delay.
    pub(super) const fn follow_the_load(&mut self) {
        self.follows = true;
    }

    /// `buffer` is free.
    #[inline]
    pub(super) fn put(&mut self, buffer: u16) {
        self.spare.push(buffer);
    }

    /// The next to be given to the kernel, while it has too few.
    #[inline]
    pub(super) fn next(&mut self) -> Option<u16> {
        if self.given >= self.wanted {
            return None;
        }
        let buffer = self.spare.pop()?;
        self.given += 1;
        Some(buffer)
    }

    /// Learns from a completion. Whether it is that of a receive that found no buffer, it does not tell.
    #[inline]
    pub(super) fn note(&mut self, done: &Completion) {
        if done.buffer.is_some() && !done.keeps_buffer {
            self.took();
        }
    }

    /// The kernel has put bytes into a buffer, and does not go on with it.
    #[inline]
    fn took(&mut self) {
        self.given = self.given.saturating_sub(1);
        self.receives += 1;
        if self.receives >= PERIOD {
            self.period_passed();
        }
    }

    fn period_passed(&mut self) {
        (self.receives, self.misses) = (0, 0);
        self.well += 1;
        if self.follows && self.well >= self.patience {
            self.well = 0;
            self.wanted = (self.wanted / 2).max(LEAST.min(self.count));
        }
    }

    /// A receive found no buffer. At that moment the kernel had none, whatever was counted.
    #[cold]
    pub(super) fn missed(&mut self) {
        self.given = 0;
        self.misses += 1;
        if self.misses > MISSES_MAX {
            (self.receives, self.misses, self.well) = (0, 0, 0);
            self.wanted = (self.wanted * 2).min(self.count);
            self.patience = (self.patience * 2).min(PATIENCE_MAX);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A kernel that is given what the reserve gives, and takes from it in order.
    struct Kernel {
        reserve: Reserve,
        ring: std::collections::VecDeque<u16>,
        used: std::collections::BTreeSet<u16>,
        misses: u32,
    }

    impl Kernel {
        fn new(count: u16) -> Self {
            let mut this = Self { reserve: Reserve::new(count), ring: [].into(), used: [].into(), misses: 0 };
            this.reserve.follow_the_load();
            (0..count).for_each(|buffer| this.reserve.put(buffer));
            this.publish();
            this
        }

        fn publish(&mut self) {
            while let Some(buffer) = self.reserve.next() {
                assert!(!self.ring.contains(&buffer), "given twice");
                self.ring.push_back(buffer);
            }
        }

        /// So many receives at once, whose buffers come back before the next.
        fn batch(&mut self, receives: u32) {
            let mut taken = Vec::new();
            for _ in 0..receives {
                match self.ring.pop_front() {
                    Some(buffer) => {
                        self.reserve.took();
                        taken.push(buffer);
                    }
                    None => {
                        self.misses += 1;
                        self.reserve.missed();
                    }
                }
            }
            self.used.extend(&taken);
            taken.into_iter().for_each(|buffer| self.reserve.put(buffer));
            self.publish();
        }

        /// The same for a while; how many buffers were used, and how many receives in 1,000 found none.
        fn load(&mut self, receives: u32) -> (usize, u32) {
            (self.used, self.misses) = ([].into(), 0);
            let batches = 500_000 / receives;
            (0..batches).for_each(|_| self.batch(receives));
            (self.used.len(), self.misses * 1000 / (batches * receives))
        }
    }

    #[test]
    fn few_buffers_are_used_where_few_are_needed_and_many_where_many_are() {
        let mut kernel = Kernel::new(128);
        kernel.load(2);
        let (used, misses) = kernel.load(2);
        assert!(used <= 8 && misses == 0, "{used} buffers, {misses} misses in 1,000");
        for receives in [3, 20, 60, 100] {
            kernel.load(receives);
            let (used, misses) = kernel.load(receives);
            assert!(used >= receives as usize && misses <= 2, "{receives}: {used}, {misses} in 1,000");
        }
        kernel.load(2);
        let (used, misses) = kernel.load(2);
        assert!(used <= 8 && misses == 0, "{used} buffers, {misses} misses in 1,000");
    }

    #[test]
    fn a_burst_is_given_every_buffer_after_a_few_misses() {
        let mut kernel = Kernel::new(128);
        kernel.load(1);
        kernel.misses = 0;
        (0..8).for_each(|_| kernel.batch(128));
        assert_eq!(kernel.ring.len(), 128);
        assert!(kernel.misses < 4 * 128, "{}", kernel.misses);
        kernel.misses = 0;
        (0..100).for_each(|_| kernel.batch(128));
        assert_eq!(kernel.misses, 0);
    }

    #[test]
    fn who_finds_none_is_given_some_though_more_were_counted_than_there_are() {
        let mut reserve = Reserve::new(8);
        (0..8).for_each(|buffer| reserve.put(buffer));
        (0..4).for_each(|_| assert!(reserve.next().is_some()));
        // The four it was given have come back without having been seen to be taken.
        (0..4).for_each(|buffer| reserve.put(buffer));
        for _ in 0..4 {
            reserve.missed();
            assert!(reserve.next().is_some(), "somebody waits, and a buffer is free");
        }
    }

    /// Nothing was received there: a send, an accept or a request that provides buffers said so.
    #[test]
    fn want_of_memory_elsewhere_is_no_sign_of_an_empty_pool() {
        let mut kernel = Kernel::new(128);
        kernel.load(1);
        let shown = kernel.ring.len();
        let shortage = Completion::bare(crate::ring::Token(7), -libc::ENOBUFS, false);
        (0..10 * PERIOD).for_each(|_| kernel.reserve.note(&shortage));
        kernel.publish();
        assert_eq!(kernel.ring.len(), shown);
    }

    #[test]
    fn two_buffers_are_both_the_kernels() {
        let mut kernel = Kernel::new(2);
        kernel.load(1);
        assert_eq!(kernel.ring.len(), 2);
    }
}
