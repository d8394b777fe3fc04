//! Private copies of what the kernel would not take. A connection has one only while it is stuck;
//! emptied ones are kept for the next, so that a peer who is now and then slow costs no allocation.
//!
//! Absent on purpose: the limit on their sum, which is the business of whoever owns the connections.

/// The bytes owed to one stuck peer, in order. Never empty.
#[derive(Debug, Default)]
pub(super) struct Unsent {
    bytes: Vec<u8>,
    /// Where the first byte not yet sent stands.
    start: usize,
}

impl Unsent {
    /// What is still to be sent.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes[self.start..]
    }

    /// How many bytes are still to be sent.
    pub(super) fn len(&self) -> usize {
        self.bytes.len() - self.start
    }

    /// Adds bytes at the end. The sent ones in front are dropped when room is needed.
    pub(super) fn append(&mut self, more: &[u8]) {
        if self.start > 0 && self.bytes.len() + more.len() > self.bytes.capacity() {
            self.bytes.drain(..self.start);
            self.start = 0;
        }
        // Exact: a doubling buffer would hold twice what the limit counts.
        self.bytes.reserve_exact(more.len());
        self.bytes.extend_from_slice(more);
    }

    /// The kernel took the first `count` of them.
    pub(super) fn consume(&mut self, count: usize) {
        self.start += count;
        assert!(self.start <= self.bytes.len(), "more was sent than there was");
    }
}

/// How many emptied copies are kept.
const SPARES_MAX: usize = 16;

/// Emptied copies, to be used again.
#[derive(Debug)]
#[expect(clippy::vec_box, reason = "the box is what a connection holds, so that a healthy one stays small")]
pub(super) struct Spares(Vec<Box<Unsent>>);

impl Spares {
    /// None yet.
    pub(super) fn new() -> Self {
        Self(Vec::with_capacity(SPARES_MAX))
    }

    /// A copy of `bytes`.
    pub(super) fn copy(&mut self, bytes: &[u8]) -> Box<Unsent> {
        let mut unsent = self.0.pop().unwrap_or_default();
        unsent.append(bytes);
        unsent
    }

    /// Takes one back whose bytes are sent, or will never be.
    pub(super) fn take_back(&mut self, mut unsent: Box<Unsent>) {
        if self.0.len() < SPARES_MAX {
            unsent.bytes.clear();
            unsent.start = 0;
            self.0.push(unsent);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::VecDeque;

    #[test]
    fn it_behaves_like_a_queue_of_bytes() {
        let mut random = fastrand::Rng::with_seed(1);
        let mut spares = Spares::new();
        for _ in 0..200 {
            let mut model: VecDeque<u8> = (0..random.usize(1..100)).map(|_| random.u8(..)).collect();
            let mut unsent = spares.copy(model.make_contiguous());
            while !model.is_empty() {
                if random.bool() && model.len() < 1000 {
                    let more: Vec<u8> = (0..random.usize(0..50)).map(|_| random.u8(..)).collect();
                    unsent.append(&more);
                    model.extend(more);
                } else {
                    let count = random.usize(0..=model.len());
                    unsent.consume(count);
                    model.drain(..count);
                }
                assert_eq!(unsent.bytes(), model.make_contiguous());
                assert_eq!(unsent.len(), model.len());
            }
            spares.take_back(unsent);
        }
    }
}
