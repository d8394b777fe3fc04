//! The rings of the other workers, as a message to one of them names it: by its descriptor. Shared by
//! all workers; each writes its own place.

use std::os::fd::RawFd;
use std::sync::atomic::{AtomicI32, Ordering};

/// The descriptor of every worker's ring.
#[derive(Debug, Default)]
pub struct Rings(Box<[AtomicI32]>);

/// No descriptor: the kernel answers `EBADF`.
const NOBODY: RawFd = -1;

impl Rings {
    /// For so many workers, none of which has one yet.
    #[must_use]
    pub fn new(workers: usize) -> Self {
        Self((0..workers).map(|_| AtomicI32::new(NOBODY)).collect())
    }

    /// The ring of `worker` is there.
    pub fn open(&self, worker: usize, ring: RawFd) {
        self.0[worker].store(ring, Ordering::Release);
    }

    /// It is about to be closed, and its number to be used for something else.
    pub fn close(&self, worker: usize) {
        self.open(worker, NOBODY);
    }

    /// The descriptor of the ring of `worker`.
    pub(super) fn of(&self, worker: usize) -> RawFd {
        self.0.get(worker).map_or(NOBODY, |ring| ring.load(Ordering::Acquire))
    }
}
