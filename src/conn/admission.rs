//! How many connections may be served at once, over all workers: one shared count, exact.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

/// The permits of `--max-connections`, shared by all workers.
///
/// A worker that finds no permit stops accepting and calls [`wait`](Self::wait); whoever gives a
/// permit back learns from [`leave`](Self::leave) that somebody waits, and wakes the others.
#[derive(Debug)]
pub struct Admission {
    open: AtomicU32,
    limit: u32,
    waiting: AtomicBool,
}

impl Admission {
    /// Permits for `limit` connections.
    #[must_use]
    pub const fn new(limit: u32) -> Self {
        Self { open: AtomicU32::new(0), limit, waiting: AtomicBool::new(false) }
    }

    /// Takes a permit; false when all are taken.
    pub fn try_enter(&self) -> bool {
        self.open
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |open| (open < self.limit).then_some(open + 1))
            .is_ok()
    }

    /// Gives a permit back. True when a worker waits for one: wake the others then, once.
    #[must_use]
    pub fn leave(&self) -> bool {
        let before = self.open.fetch_sub(1, Ordering::AcqRel);
        assert!(before > 0, "a connection left that never entered");
        // SeqCst on both sides of `waiting`: the one who waits stores it and then reads `open`,
        // the one who leaves stores `open` and then reads it. One of the two sees the other.
        std::sync::atomic::fence(Ordering::SeqCst);
        self.waiting.load(Ordering::Relaxed) && self.waiting.swap(false, Ordering::SeqCst)
    }

    /// Says that a worker has stopped accepting. Ask [`is_full`](Self::is_full) again afterwards: a
    /// permit may have come back in between.
    pub fn wait(&self) {
        self.waiting.store(true, Ordering::SeqCst);
        std::sync::atomic::fence(Ordering::SeqCst);
    }

    /// Whether every permit is taken at this moment.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.open.load(Ordering::Acquire) >= self.limit
    }

    /// Connections that hold a permit.
    #[must_use]
    pub fn open(&self) -> u32 {
        self.open.load(Ordering::Acquire)
    }

    /// The number of permits there are.
    #[must_use]
    pub const fn limit(&self) -> u32 {
        self.limit
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_is_exact_over_threads() {
        let admission = Admission::new(100);
        let entered: u32 = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4)
                .map(|_| scope.spawn(|| (0..100).map(|_| u32::from(admission.try_enter())).sum::<u32>()))
                .collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).sum()
        });
        assert_eq!(entered, 100);
        assert!(admission.is_full());
    }

    #[test]
    fn who_leaves_learns_once_that_somebody_waits() {
        let admission = Admission::new(2);
        assert!(admission.try_enter() && admission.try_enter() && !admission.try_enter());
        admission.wait();
        assert!(admission.leave());
        assert!(!admission.leave());
    }
}
