//! Groups of spans that one send takes together: for each connection a buffer ring of its own (a send
//! bundle takes the next buffers of a group, so a group can serve one stream only). Needs Linux 6.10, and
//! a locked page for each group.
//!
//! What is in a group belongs to one send, from the push to its last completion. Where that took less than
//! everything, kernels differ in which entries they then take for used: they are asked how far they have
//! come, and the rest is forgotten. Nothing is ever resumed from what an earlier send left.
//!
//! Leaves out what the spans hold, and when the kernel is done with their bytes: that is the caller's.

use super::buffer_ring::GROUP;
use super::{Memory, Pages, Span};
use io_uring::types::BufRingEntry;
use std::io;
use std::os::fd::RawFd;
use std::sync::atomic::{AtomicU16, Ordering};

/// Spans that one send may take. The kernel looks at no more than 256 at a time, and has an answer of its
/// own for each such part; with fewer there is one answer. They lie in one page, the smallest there is.
pub(super) const SPANS: u16 = 64;
/// Marks a buffer number in the completion of such a send: no buffer that is received into has it.
pub(super) const MARK: u16 = 1 << 15;
/// `IORING_REGISTER_PBUF_STATUS` (Linux 6.8).
const REGISTER_PBUF_STATUS: libc::c_uint = 26;

/// The argument of [`REGISTER_PBUF_STATUS`], as the kernel has it.
#[repr(C)]
#[derive(Default)]
struct Status {
    group: u32,
    head: u32,
    reserved: [u32; 8],
}

/// One buffer ring for each group.
pub(super) struct Lent {
    pages: Pages,
    /// Bytes from one group to the next: a page, which the kernel locks and where a group has to begin.
    stride: u64,
    ring: RawFd,
    /// Where the spans lie.
    memory: Memory,
    /// By group: how many spans it was ever given, less what was taken back.
    tails: Box<[u16]>,
}

impl Lent {
    /// Registers `groups` empty groups with the ring of this descriptor, for spans of `memory`.
    ///
    /// # Errors
    /// The kernel's: `ENOMEM` when no more memory may be locked, `EINVAL` where there are no buffer rings.
    pub(super) fn new(
        submitter: &io_uring::Submitter<'_>,
        ring: RawFd,
        memory: Memory,
        groups: u32,
    ) -> io::Result<Self> {
        Self::laid_out(submitter, ring, memory, groups, Pages::size_of_one())
    }

    /// The same where a page has `stride` bytes.
    fn laid_out(
        submitter: &io_uring::Submitter<'_>,
        ring: RawFd,
        memory: Memory,
        groups: u32,
        stride: u64,
    ) -> io::Result<Self> {
        assert!(groups <= crate::features::GROUPS_MAX, "a group is named by 16 bits");
        let pages = Pages::new(u64::from(groups) * stride)?;
        let this = Self { pages, stride, ring, memory, tails: vec![0; groups as usize].into() };
        for group in 0..groups {
            let address = this.entries(group) as u64;
            super::setup::patiently(|| {
                // SAFETY: page-aligned memory of the registered size. The kernel pins the page until the
                // ring is gone: unmapping it earlier takes nothing from it.
                unsafe { submitter.register_buf_ring_with_flags(address, SPANS, number(group), 0) }
            })?;
        }
        Ok(this)
    }

    fn entries(&self, group: u32) -> *mut BufRingEntry {
        assert!((group as usize) < self.tails.len(), "there is no group {group}");
        self.pages.memory().base.as_ptr().wrapping_add((u64::from(group) * self.stride) as usize).cast()
    }

    /// Puts a span behind those that are in the group. The send that is pushed next takes them.
    pub(super) fn lend(&mut self, group: u32, span: Span) {
        assert!(span.offset + u64::from(span.length) <= self.memory.length, "a span outside the memory");
        let tail = self.tails[group as usize];
        let index = tail & (SPANS - 1);
        // SAFETY: `index` is below `SPANS`, and the group's page holds as many entries.
        let entry = unsafe { self.entries(group).add(usize::from(index)) };
        // SAFETY: mapped, aligned, zeroed at first; the kernel reads only entries below the tail it was
        // shown. None of the setters touches the tail, which is the last field of entry 0.
        let entry = unsafe { &mut *entry };
        entry.set_addr(self.memory.base.as_ptr() as u64 + span.offset);
        entry.set_len(span.length);
        entry.set_bid(MARK | index);
        self.show(group, tail.wrapping_add(1));
    }

    /// The send is over, and has left some of what was in the group: it is empty again.
    ///
    /// # Panics
    /// When the kernel does not know the group that it registered.
    pub(super) fn take_back(&mut self, group: u32) {
        let head = self.head(group).expect("the kernel tells how far it has come in a group it has");
        self.show(group, head);
    }

    /// How many entries the kernel has taken for used.
    fn head(&self, group: u32) -> io::Result<u16> {
        let mut status = Status { group: number(group).into(), ..Status::default() };
        // SAFETY: the argument has the kernel's own layout, and outlives the call; the ring is open.
        let answer = unsafe {
            libc::syscall(libc::SYS_io_uring_register, self.ring, REGISTER_PBUF_STATUS, &raw mut status, 1)
        };
        if answer < 0 { Err(io::Error::last_os_error()) } else { Ok(status.head as u16) }
    }

    /// Shows the kernel that the group reaches up to `tail`.
    fn show(&mut self, group: u32, tail: u16) {
        // SAFETY: the first entry of the group's page, mapped and initialised.
        let place = unsafe { BufRingEntry::tail(self.entries(group)) };
        // SAFETY: a valid, aligned u16 that the kernel only reads, and this thread only stores.
        let place = unsafe { AtomicU16::from_ptr(place.cast_mut()) };
        // Release: the entries are seen before the tail that covers them.
        place.store(tail, Ordering::Release);
        self.tails[group as usize] = tail;
    }
}

/// The number of a group in the kernel's table. The first one there is received into.
pub(super) const fn number(group: u32) -> u16 {
    GROUP + 1 + group as u16
}

#[cfg(test)]
mod tests {
    use super::super::probe::probe;
    use super::*;
    use crate::features::Capability;
    use io_uring::{IoUring, opcode, types};
    use std::io::Read;
    use std::os::fd::AsRawFd;
    use std::os::unix::net::UnixStream;

    const GROUPS: u32 = 3;
    /// Bytes after which the pattern begins anew, and the most in one span.
    const KINDS: u64 = 251;
    const LONGEST: u64 = 3;

    fn byte(place: u64) -> u8 {
        (place % KINDS) as u8
    }

    /// A ring with some groups, and a connection that their spans are sent over.
    struct Line {
        // The ring is dropped first: the kernel reads no more.
        ring: IoUring,
        lent: Lent,
        _pattern: Pages,
        ours: UnixStream,
        theirs: UnixStream,
        /// Bytes sent so far.
        place: u64,
    }

    impl Line {
        /// With groups a page apart, or `stride` bytes. `None` where the kernel has no such sends.
        fn new(stride: Option<u64>) -> Option<io::Result<Self>> {
            let answers = probe();
            let barred = answers.barred.is_some();
            if barred || answers.refused.iter().any(|(what, _)| *what == Capability::SendBundle) {
                return None;
            }
            let pattern = Pages::new(KINDS + LONGEST).unwrap();
            for place in 0..KINDS + LONGEST {
                // SAFETY: within the mapping.
                let at = unsafe { pattern.memory().base.add(place as usize) };
                // SAFETY: mapped, writable, and nobody else's yet.
                unsafe { at.write(byte(place)) };
            }
            let ring = IoUring::new(8).unwrap();
            let (submitter, descriptor, memory) = (ring.submitter(), ring.as_raw_fd(), pattern.memory());
            let lent = match stride {
                None => Lent::new(&submitter, descriptor, memory, GROUPS),
                Some(stride) => Lent::laid_out(&submitter, descriptor, memory, GROUPS, stride),
            };
            let (ours, theirs) = UnixStream::pair().unwrap();
            Some(lent.map(|lent| Self { ring, lent, _pattern: pattern, ours, theirs, place: 0 }))
        }

        /// Lends so many spans of different lengths; how many bytes they have together.
        fn lend(&mut self, group: u32, spans: u16) -> u64 {
            let mut bytes = 0;
            for number in 0..spans {
                let length = 1 + u64::from(number) % LONGEST;
                let offset = (self.place + bytes) % KINDS;
                self.lent.lend(group, Span { offset, length: length as u32 });
                bytes += length;
            }
            bytes
        }

        /// Sends so many spans of a group, and expects them and nothing else at the other end.
        fn send(&mut self, group: u32, spans: u16) {
            let bytes = self.lend(group, spans);
            let entry = opcode::SendBundle::new(types::Fd(self.ours.as_raw_fd()), number(group)).build();
            // SAFETY: what it reads is lent from the pattern, which outlives the ring.
            unsafe { self.ring.submission().push(&entry) }.unwrap();
            self.ring.submit_and_wait(1).unwrap();
            let done = self.ring.completion().next().unwrap();
            assert_eq!(done.result(), bytes as i32, "at {} of group {group}", self.place);
            let mut got = vec![0; bytes as usize];
            self.theirs.read_exact(&mut got).unwrap();
            let sent: Vec<u8> = (self.place..self.place + bytes).map(byte).collect();
            assert_eq!(got, sent, "at {} of group {group}", self.place);
            self.place += bytes;
        }
    }

    #[test]
    fn a_group_goes_round_past_65536_spans_and_what_was_taken_back_is_never_sent() {
        let Some(line) = Line::new(None) else { return };
        let mut line = line.unwrap();
        let (mut lends, mut rounds) = (0u32, 0u16);
        while lends < 2 * 65_536 + 1_000 {
            let spans = 1 + rounds % SPANS;
            line.send(1, spans);
            (lends, rounds) = (lends + u32::from(spans), rounds + 1);
            if rounds.is_multiple_of(3) {
                line.lend(1, 1 + rounds % 50);
                line.lent.take_back(1);
            }
            assert_eq!((line.lent.tails[1], line.lent.head(1).unwrap()), (lends as u16, lends as u16));
        }
        assert_eq!((line.lent.tails[0], line.lent.tails[2]), (0, 0));
    }

    /// What a host with larger pages needs, which this one cannot show otherwise.
    #[test]
    fn groups_lie_a_page_apart_however_large_it_is() {
        let page = Pages::size_of_one();
        for stride in [None, Some(page), Some(4 * page), Some(16 * page)] {
            let Some(line) = Line::new(stride) else { return };
            let mut line = line.unwrap();
            let apart = line.lent.entries(2) as u64 - line.lent.entries(1) as u64;
            assert_eq!(apart, stride.unwrap_or(page));
            for round in 1..=10 {
                (0..GROUPS).for_each(|group| line.send(group, round));
            }
        }
        let narrow = Line::new(Some(page / 2)).expect("it was just offered");
        let refused = narrow.err().and_then(|error| error.raw_os_error());
        assert_eq!(refused, Some(libc::EINVAL), "a group that does not begin with a page");
    }
}
