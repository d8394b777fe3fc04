//! The buffers the kernel picks from, in one of its two ways: a ring of entries, or requests that provide
//! them. Also what turns a completion that filled several buffers into one for each.

use super::buffer_ring::{BufferRing, GROUP};
use super::reserve::Reserve;
use super::{Completion, Memory, Token, stride};
use io_uring::opcode;
use io_uring::squeue::{Entry, Flags};

/// Who has the buffers that are free.
pub(super) enum Provided {
    /// The kernel, which sees some of them in a ring.
    Ring(BufferRing, Reserve),
    /// The kernel, which was told of each by a request.
    Classic(Classic),
    /// Nobody: receives name their own memory.
    Nobody,
}

/// Buffers provided by requests (Linux 5.7).
pub(super) struct Classic {
    memory: Memory,
    size: u32,
    /// Provided by the caller, and the kernel not told yet.
    written: Vec<u16>,
}

/// The token of the request that provides a buffer: no caller has such a one.
const PROVIDES: u64 = 0xff << 56;

impl Classic {
    pub(super) fn new(memory: Memory, count: u16, size: u32) -> Self {
        assert!(u64::from(count) * stride(size) <= memory.length, "the buffers exceed the memory");
        Self { memory, size, written: Vec::with_capacity(usize::from(count)) }
    }

    pub(super) fn provide(&mut self, buffer: u16) {
        self.written.push(buffer);
    }

    /// The next request to be submitted. It says nothing when it succeeds.
    pub(super) fn next_request(&mut self) -> Option<Entry> {
        let buffer = self.written.pop()?;
        let offset = u64::from(buffer) * stride(self.size);
        let start = self.memory.base.as_ptr().wrapping_add(offset as usize);
        let request = opcode::ProvideBuffers::new(start, self.size as i32, 1, GROUP, buffer).build();
        Some(request.flags(Flags::SKIP_SUCCESS).user_data(PROVIDES | u64::from(buffer)))
    }

    /// Whether a completion is that of a request of ours. It failed, for want of memory: its buffer, the
    /// last 16 bits, is to be provided again.
    pub(super) const fn provides(token: Token) -> bool {
        token.0 & PROVIDES == PROVIDES
    }
}

/// A completion that filled several buffers, as far as it was told.
#[derive(Default)]
pub(super) struct Bundle {
    rest: Option<Completion>,
}

impl Bundle {
    /// The next part of what was begun.
    pub(super) fn next(&mut self, buffers: &BufferRing) -> Option<Completion> {
        let whole = self.rest.take()?;
        Some(self.part(whole, buffers))
    }

    /// The first buffer of a completion, with its bytes. The others follow, in the order of the ring.
    pub(super) fn part(&mut self, whole: Completion, buffers: &BufferRing) -> Completion {
        let size = buffers.size() as i32;
        let Some(buffer) = whole.buffer.filter(|_| whole.result > size) else { return whole };
        let rest = Completion { result: whole.result - size, buffer: Some(buffers.after(buffer)), ..whole };
        self.rest = Some(rest);
        Completion { result: size, more: true, ..whole }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Pages;
    use super::*;

    #[test]
    fn a_bundle_is_told_buffer_by_buffer_in_the_order_of_the_ring() {
        let pages = Pages::new(4 * stride(64)).unwrap();
        let mut ring = BufferRing::new(pages.memory(), 4, 64).unwrap();
        [2, 0, 3, 1].into_iter().for_each(|buffer| ring.provide(buffer));
        let mut bundle = Bundle::default();
        let whole =
            Completion { token: Token(7), result: 150, more: false, buffer: Some(0), keeps_buffer: false };
        let mut told = vec![bundle.part(whole, &ring)];
        told.extend(std::iter::from_fn(|| bundle.next(&ring)));
        let of = |part: &Completion| (part.result, part.buffer.unwrap(), part.more);
        assert_eq!(told.iter().map(of).collect::<Vec<_>>(), [(64, 0, true), (64, 3, true), (22, 1, false)]);
        // What is consumed may be provided again in between, and the order of what is left stays.
        ring.provide(0);
        ring.provide(2);
        assert_eq!((ring.after(3), ring.after(1), ring.after(0)), (1, 0, 2));
    }

    #[test]
    fn one_buffer_is_told_as_it_is() {
        let pages = Pages::new(4 * stride(64)).unwrap();
        let ring = BufferRing::new(pages.memory(), 4, 64).unwrap();
        for result in [64, 1, 0, -105] {
            let mut bundle = Bundle::default();
            let whole =
                Completion { token: Token(7), result, more: false, buffer: Some(0), keeps_buffer: false };
            assert_eq!(bundle.part(whole, &ring), whole);
            assert_eq!(bundle.next(&ring), None);
        }
    }
}
