//! The provided-buffer ring: entries that tell the kernel where it may put received bytes. Entries
//! are written first and shown together by one release store of the tail. Needs Linux 5.19. Does not
//! know who holds a buffer: that table is the caller's.

use super::{Memory, Pages, stride};
use io_uring::types::BufRingEntry;
use std::io;
use std::sync::atomic::{AtomicU16, Ordering};

/// The only buffer group there is.
pub(super) const GROUP: u16 = 0;

/// `IOU_PBUF_RING_INC`.
const INCREMENTAL: u16 = 2;

/// The entries, in memory of their own.
pub(super) struct BufferRing {
    pages: Pages,
    count: u16,
    size: u32,
    buffers: u64,
    tail: u16,
    published: u16,
    /// By buffer: which was provided after it. That holds until it is provided again.
    successors: Box<[u16]>,
    /// The last one provided.
    last: Option<u16>,
}

impl BufferRing {
    /// For `count` buffers (a power of two) of `size` bytes at the start of `memory`, empty.
    pub(super) fn new(memory: Memory, count: u16, size: u32) -> io::Result<Self> {
        assert!(count.is_power_of_two());
        assert!(u64::from(count) * stride(size) <= memory.length);
        let pages = Pages::new(u64::from(count) * size_of::<BufRingEntry>() as u64)?;
        Ok(Self {
            pages,
            count,
            size,
            buffers: memory.base.as_ptr() as u64,
            tail: 0,
            published: 0,
            successors: vec![0; usize::from(count)].into(),
            last: None,
        })
    }

    /// Bytes of a buffer.
    pub(super) const fn size(&self) -> u32 {
        self.size
    }

    /// The buffer that lies behind this one in the ring.
    pub(super) fn after(&self, buffer: u16) -> u16 {
        self.successors[usize::from(buffer)]
    }

    fn entries(&self) -> *mut BufRingEntry {
        self.pages.memory().base.as_ptr().cast()
    }

    /// Tells the kernel of it. Where it is `incremental` the kernel fills a buffer bit by bit (Linux 6.12).
    pub(super) fn register(&self, submitter: &io_uring::Submitter<'_>, incremental: bool) -> io::Result<()> {
        let flags = if incremental { INCREMENTAL } else { 0 };
        let address = self.entries() as u64;
        super::setup::patiently(|| {
            // SAFETY: page-aligned memory of the registered size. The kernel pins the pages until the
            // ring is gone: unmapping them earlier, as the loop's end does, takes nothing from it.
            unsafe { submitter.register_buf_ring_with_flags(address, self.count, GROUP, flags) }
        })
    }

    /// Writes the entry for `buffer`, unseen by the kernel.
    pub(super) fn provide(&mut self, buffer: u16) {
        assert!(buffer < self.count, "there is no buffer {buffer}");
        let index = usize::from(self.tail & (self.count - 1));
        // SAFETY: `index` is below `count`, and the pages hold `count` entries.
        let entry = unsafe { self.entries().add(index) };
        // SAFETY: mapped, aligned, zeroed at first; the kernel reads only entries below the tail it
        // was shown. The entry's last field is the ring's tail for entry 0, and none of the three
        // setters touches it.
        let entry = unsafe { &mut *entry };
        entry.set_addr(self.buffers + u64::from(buffer) * stride(self.size));
        entry.set_len(self.size);
        entry.set_bid(buffer);
        self.tail = self.tail.wrapping_add(1);
        if let Some(last) = self.last.replace(buffer) {
            self.successors[usize::from(last)] = buffer;
        }
    }

    /// Shows the kernel everything provided so far.
    pub(super) fn publish(&mut self) {
        if self.tail == self.published {
            return;
        }
        // SAFETY: the first entry of the ring, mapped and initialised.
        let tail = unsafe { BufRingEntry::tail(self.entries()) };
        // SAFETY: a valid, aligned u16 that the kernel only reads, and this thread only stores.
        let tail = unsafe { AtomicU16::from_ptr(tail.cast_mut()) };
        // Release: the entries are seen before the tail that covers them.
        tail.store(self.tail, Ordering::Release);
        self.published = self.tail;
    }
}
