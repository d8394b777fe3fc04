//! A ring by hand: set up, submitted to and read with the three system calls and nothing else, so that
//! every flag, field and register call of the kernel can be tried, also those the `io-uring` crate has no
//! name for. Small and slow on purpose; nothing is served with it.
//!
//! What the kernel reads and writes lies in a [`Place`], which is never freed: an operation that outlives
//! its ring then writes to nothing that is used again.

use super::{Found, Trouble};
use crate::ring::Pages;
use nix::errno::Errno;
use std::io;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// How long one answer may take that should be there at once, also on a crowded machine.
pub(super) const PATIENCE: Duration = Duration::from_secs(3);

pub(super) const ENTER_GETEVENTS: u32 = 1 << 0;
const ENTER_SQ_WAKEUP: u32 = 1 << 1;
pub(super) const ENTER_EXT_ARG: u32 = 1 << 3;
const ENTER_REGISTERED_RING: u32 = 1 << 4;

pub(super) const SETUP_SQPOLL: u32 = 1 << 1;
pub(super) const SETUP_NO_MMAP: u32 = 1 << 14;
pub(super) const SETUP_REGISTERED_FD_ONLY: u32 = 1 << 15;
const SETUP_SQE128: u32 = 1 << 10;
const SETUP_CQE32: u32 = 1 << 11;
pub(super) const SETUP_NO_SQARRAY: u32 = 1 << 16;
pub(super) const SETUP_SQ_REWIND: u32 = 1 << 20;

/// A completion of 32 bytes on a ring that mixes sizes; and one that only fills the end of the queue.
const CQE_32: u32 = 1 << 15;
const CQE_SKIP: u32 = 1 << 5;
/// On the opcode of a register call: the descriptor is the index of a registered ring.
const REGISTERED_RING: u32 = 1 << 31;

const OFFSET_RINGS: i64 = 0;
const OFFSET_ENTRIES: i64 = 0x1000_0000;

/// One entry of the submission queue, as the kernel has it.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Sqe {
    pub(super) opcode: u8,
    pub(super) flags: u8,
    pub(super) ioprio: u16,
    pub(super) fd: i32,
    pub(super) off: u64,
    pub(super) addr: u64,
    pub(super) len: u32,
    pub(super) op_flags: u32,
    pub(super) user_data: u64,
    pub(super) buffer: u16,
    pub(super) personality: u16,
    pub(super) file_index: u32,
    pub(super) addr3: u64,
    pub(super) pad: u64,
}

const _: () = assert!(size_of::<Sqe>() == 64, "an entry of the submission queue has 64 bytes");

/// One completion.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Cqe {
    pub(super) user_data: u64,
    pub(super) result: i32,
    pub(super) flags: u32,
}

impl Cqe {
    /// Whether more completions of the same operation follow.
    pub(super) const fn more(self) -> bool {
        self.flags & 1 << 1 != 0
    }

    /// Whether it is the second completion of a zero-copy send.
    pub(super) const fn is_notice(self) -> bool {
        self.flags & 1 << 3 != 0
    }

    /// Whether more is left in the socket.
    pub(super) const fn socket_has_more(self) -> bool {
        self.flags & 1 << 2 != 0
    }

    /// Whether its buffer goes on with the next one.
    pub(super) const fn buffer_has_more(self) -> bool {
        self.flags & 1 << 4 != 0
    }

    /// The buffer it brought.
    pub(super) fn buffer(self) -> Found<u16> {
        if self.flags & 1 == 0 {
            return Err(Trouble::Wrong(format!("a completion ({}) without a buffer", self.result)));
        }
        Ok((self.flags >> 16) as u16)
    }

    /// Its result, an errno told apart.
    pub(super) fn count(self) -> Found<u32> {
        u32::try_from(self.result).map_err(|_| Trouble::Refused(Errno::from_raw(-self.result)))
    }
}

#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct SqOffsets {
    head: u32,
    tail: u32,
    ring_mask: u32,
    ring_entries: u32,
    flags: u32,
    dropped: u32,
    array: u32,
    resv1: u32,
    pub(super) user_addr: u64,
}

#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct CqOffsets {
    head: u32,
    tail: u32,
    ring_mask: u32,
    ring_entries: u32,
    overflow: u32,
    cqes: u32,
    flags: u32,
    resv1: u32,
    pub(super) user_addr: u64,
}

/// What a ring is set up with, and what it then is.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Params {
    pub(super) sq_entries: u32,
    pub(super) cq_entries: u32,
    pub(super) flags: u32,
    pub(super) sq_thread_cpu: u32,
    pub(super) sq_thread_idle: u32,
    pub(super) features: u32,
    pub(super) wq_fd: u32,
    pub(super) resv: [u32; 3],
    pub(super) sq_off: SqOffsets,
    pub(super) cq_off: CqOffsets,
}

impl Params {
    /// As the kernel left them at the start of a place.
    pub(super) fn of(place: &Place) -> Self {
        assert!(size_of::<Self>() <= place.length);
        // SAFETY: within the mapping, by the assertion above; every bit pattern is a value.
        unsafe { place.base.cast::<Self>().read_unaligned() }
    }
}

/// Zeroed memory for the kernel and us, never freed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    base: NonNull<u8>,
    length: usize,
}

impl Place {
    pub(super) fn new(bytes: usize) -> Found<Self> {
        let pages = Pages::new(bytes as u64).map_err(Trouble::untried("there is no memory"))?;
        let memory = pages.memory();
        // Leaked on purpose: what is in flight when a ring is closed may still be written.
        std::mem::forget(pages);
        Ok(Self { base: memory.base, length: memory.length as usize })
    }

    /// With one value in it.
    pub(super) fn of<T: Copy>(value: T) -> Found<Self> {
        let place = Self::new(size_of::<T>())?;
        place.put(0, value);
        Ok(place)
    }

    pub(super) fn address(&self, offset: usize) -> u64 {
        assert!(offset <= self.length);
        self.base.as_ptr() as u64 + offset as u64
    }

    pub(super) fn put<T: Copy>(&self, offset: usize, value: T) -> u64 {
        assert!(offset + size_of::<T>() <= self.length);
        // SAFETY: within the mapping, by the assertion above.
        let place = unsafe { self.base.add(offset) }.cast::<T>();
        // SAFETY: mapped and writable for good; alignment is not needed.
        unsafe { place.write_unaligned(value) };
        self.address(offset)
    }

    pub(super) fn write(&self, offset: usize, bytes: &[u8]) {
        bytes.iter().enumerate().for_each(|(index, &byte)| {
            self.put(offset + index, byte);
        });
    }

    pub(super) fn read(&self, offset: usize, length: usize) -> Vec<u8> {
        assert!(offset + length <= self.length);
        (offset..offset + length)
            .map(|at| {
                // SAFETY: within the mapping, by the assertion above.
                let place = unsafe { self.base.add(at) };
                // SAFETY: mapped for good; the kernel may have written it, so it is read anew.
                unsafe { place.read_volatile() }
            })
            .collect()
    }

    pub(super) fn u32_at(&self, offset: usize) -> u32 {
        u32::from_ne_bytes(self.read(offset, 4).try_into().expect("four bytes"))
    }

    pub(super) fn u64_at(&self, offset: usize) -> u64 {
        u64::from_ne_bytes(self.read(offset, 8).try_into().expect("eight bytes"))
    }

    /// Stores 16 bits that the kernel looks at meanwhile: what was written before is seen before.
    pub(super) fn publish_u16(&self, offset: usize, value: u16) {
        std::sync::atomic::fence(Ordering::Release);
        self.put(offset, value);
    }
}

/// `io_uring_register` with `count` things in `argument`, for ring `fd` (-1 for none).
pub(super) fn register(fd: i32, opcode: u32, argument: Option<&Place>, count: u32) -> io::Result<u32> {
    let address = argument.map_or(0, |place| place.address(0));
    // SAFETY: what the kernel reads and writes lies in a place, which holds at least a page; no argument
    // of these calls is longer.
    let answer = unsafe { libc::syscall(libc::SYS_io_uring_register, fd, opcode, address, count) };
    u32::try_from(answer).map_err(|_| io::Error::last_os_error())
}

/// A ring.
pub(super) struct HandRing {
    /// Its descriptor, or its index where it has none.
    pub(super) fd: i32,
    pub(super) params: Params,
    rings: Mapping,
    entries: Mapping,
    /// Pushed and not yet taken by the kernel.
    pending: u32,
    /// Flags of every enter.
    always: u32,
    /// The index it is registered under, used instead of the descriptor.
    index: Option<u32>,
}

impl HandRing {
    pub(super) fn new(flags: u32) -> Found<Self> {
        Self::with(8, Params { flags, ..Params::default() })
    }

    /// # Errors
    /// The kernel's, when it refuses the set-up.
    pub(super) fn with(entries: u32, asked: Params) -> Found<Self> {
        let (fd, params) = crate::ring::setup::patiently(|| {
            let mut params = asked;
            // SAFETY: the parameters are the kernel's own struct, and live until the call returns.
            let fd = unsafe { libc::syscall(libc::SYS_io_uring_setup, entries, &raw mut params) };
            let fd = i32::try_from(fd).ok().filter(|&fd| fd >= 0).ok_or_else(io::Error::last_os_error)?;
            Ok((fd, params))
        })?;
        let (rings, entries) = Mapping::both(fd, &params).inspect_err(|_| close(fd))?;
        let unnamed = params.flags & SETUP_REGISTERED_FD_ONLY != 0;
        let always = if params.flags & SETUP_SQPOLL != 0 { ENTER_SQ_WAKEUP } else { 0 };
        let index = unnamed.then_some(fd as u32);
        Ok(Self { fd, params, rings, entries, pending: 0, always, index })
    }

    /// Names the ring by a registered index from now on.
    pub(super) fn use_index(&mut self, index: Option<u32>) {
        self.index = index;
    }

    pub(super) fn push(&mut self, entry: Sqe) {
        let stride = if self.params.flags & SETUP_SQE128 != 0 { 128 } else { 64 };
        let rewinds = self.params.flags & SETUP_SQ_REWIND != 0;
        let tail = if rewinds { self.pending } else { self.rings.load(self.params.sq_off.tail) };
        let index = tail & (self.params.sq_entries - 1);
        assert!(self.pending < self.params.sq_entries, "a try pushes no more than fits");
        self.entries.put(index * stride, entry);
        if self.params.flags & (SETUP_NO_SQARRAY | SETUP_SQ_REWIND) == 0 {
            self.rings.store(self.params.sq_off.array + index * 4, index);
        }
        if !rewinds {
            self.rings.store(self.params.sq_off.tail, tail.wrapping_add(1));
        }
        self.pending += 1;
    }

    /// One enter: submits what is pending, and waits as told. `argument` is the address the kernel takes
    /// it from, of something that lives until the call returns.
    pub(super) fn enter(&mut self, wait_for: u32, flags: u32, argument: u64, size: usize) -> io::Result<u32> {
        let (fd, named) = match self.index {
            Some(index) => (index as i32, ENTER_REGISTERED_RING),
            None => (self.fd, 0),
        };
        let flags = flags | self.always | named;
        // SAFETY: entries and argument lead to places or to what lives until the call returns.
        let answer = unsafe {
            libc::syscall(libc::SYS_io_uring_enter, fd, self.pending, wait_for, flags, argument, size)
        };
        let taken = u32::try_from(answer).map_err(|_| io::Error::last_os_error())?;
        self.pending -= taken.min(self.pending);
        Ok(taken)
    }

    /// Submits what is pending, without waiting; completion work runs.
    pub(super) fn submit(&mut self) -> Found<()> {
        self.enter(0, ENTER_GETEVENTS, 0, 0)?;
        Ok(())
    }

    /// Submits what is pending and waits for the next completion, a bounded time.
    pub(super) fn answer(&mut self) -> Found<Cqe> {
        let waited = self.answer_within(PATIENCE)?;
        waited.ok_or_else(|| Trouble::Wrong(format!("no completion within {PATIENCE:?}")))
    }

    /// The next completion, or `None` when none came in time.
    pub(super) fn answer_within(&mut self, patience: Duration) -> Found<Option<Cqe>> {
        let time = [patience.as_secs() as i64, i64::from(patience.subsec_nanos())];
        let argument = [0, 0, time.as_ptr() as u64];
        loop {
            if let Some(done) = self.next() {
                return Ok(Some(done));
            }
            let address = argument.as_ptr() as u64;
            match self.enter(1, ENTER_GETEVENTS | ENTER_EXT_ARG, address, size_of_val(&argument)) {
                Err(error) if error.raw_os_error() == Some(libc::ETIME) => return Ok(self.next()),
                Err(error) if error.raw_os_error() == Some(libc::EINTR) => {}
                other => _ = other?,
            }
        }
    }

    /// The result of the next completion.
    pub(super) fn count(&mut self) -> Found<u32> {
        self.answer()?.count()
    }

    /// Does one thing and waits for its result.
    pub(super) fn perform(&mut self, entry: Sqe) -> Found<u32> {
        self.push(entry);
        self.count()
    }

    /// The next completion that is there.
    pub(super) fn next(&mut self) -> Option<Cqe> {
        let offsets = self.params.cq_off;
        let stride = if self.params.flags & SETUP_CQE32 != 0 { 32 } else { 16 };
        loop {
            let head = self.rings.load(offsets.head);
            if head == self.rings.load(offsets.tail) {
                return None;
            }
            let at = offsets.cqes + (head & (self.params.cq_entries - 1)) * stride;
            let user_data = u64::from(self.rings.load(at)) | u64::from(self.rings.load(at + 4)) << 32;
            let (result, flags) = (self.rings.load(at + 8) as i32, self.rings.load(at + 12));
            let length = if stride == 16 && flags & CQE_32 != 0 { 2 } else { 1 };
            self.rings.store(offsets.head, head.wrapping_add(length));
            if flags & CQE_SKIP == 0 {
                return Some(Cqe { user_data, result, flags });
            }
        }
    }

    /// A register call for this ring.
    pub(super) fn register(&self, opcode: u32, argument: Option<&Place>, count: u32) -> Found<u32> {
        let (fd, opcode) = match self.index {
            Some(index) => (index as i32, opcode | REGISTERED_RING),
            None => (self.fd, opcode),
        };
        Ok(crate::ring::setup::patiently(|| register(fd, opcode, argument, count))?)
    }

    /// Maps the queues anew, after the kernel has made others.
    pub(super) fn remap(&mut self, params: Params) -> Found<()> {
        // What the call does not tell stays as it was.
        self.params = Params { features: self.params.features, flags: self.params.flags, ..params };
        (self.rings, self.entries) = Mapping::both(self.fd, &self.params)?;
        Ok(())
    }
}

impl Drop for HandRing {
    fn drop(&mut self) {
        if self.params.flags & SETUP_REGISTERED_FD_ONLY == 0 {
            close(self.fd);
        }
    }
}

pub(super) fn close(fd: i32) {
    let _ = nix::unistd::close(fd);
}

/// Memory shared with the kernel: the queues, or the entries.
struct Mapping {
    base: NonNull<u8>,
    length: usize,
    /// Whether it is ours to unmap.
    mapped: bool,
}

impl Mapping {
    /// The queues and the entries of a ring.
    fn both(fd: i32, params: &Params) -> io::Result<(Self, Self)> {
        let completion = if params.flags & SETUP_CQE32 != 0 { 32 } else { 16 };
        let entry = if params.flags & SETUP_SQE128 != 0 { 128 } else { 64 };
        let queues = (params.sq_off.array + params.sq_entries * 4)
            .max(params.cq_off.cqes + params.cq_entries * completion) as usize;
        let entries = (params.sq_entries * entry) as usize;
        if params.flags & SETUP_NO_MMAP != 0 {
            return Ok((
                Self::at(params.cq_off.user_addr, queues),
                Self::at(params.sq_off.user_addr, entries),
            ));
        }
        Ok((Self::new(fd, OFFSET_RINGS, queues)?, Self::new(fd, OFFSET_ENTRIES, entries)?))
    }

    /// Memory of a place.
    fn at(address: u64, length: usize) -> Self {
        let base = NonNull::new(address as *mut u8).expect("a place has an address");
        Self { base, length, mapped: false }
    }

    pub(super) fn new(fd: i32, offset: i64, length: usize) -> io::Result<Self> {
        let (access, kind) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED);
        // SAFETY: a new mapping at an address of the kernel's choice; nothing else refers to it.
        let base = unsafe { libc::mmap(std::ptr::null_mut(), length, access, kind, fd, offset) };
        if base == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let base = NonNull::new(base.cast()).expect("the kernel maps nothing at address 0 unasked");
        Ok(Self { base, length, mapped: true })
    }

    fn word(&self, offset: u32) -> &AtomicU32 {
        assert!(offset as usize + 4 <= self.length && offset.is_multiple_of(4));
        // SAFETY: within the mapping, by the assertion above.
        let word = unsafe { self.base.add(offset as usize) }.cast::<u32>();
        // SAFETY: mapped and aligned for as long as `self`; both sides use it as an atomic.
        unsafe { AtomicU32::from_ptr(word.as_ptr()) }
    }

    fn load(&self, offset: u32) -> u32 {
        self.word(offset).load(Ordering::Acquire)
    }

    fn store(&self, offset: u32, value: u32) {
        self.word(offset).store(value, Ordering::Release);
    }

    fn put(&self, offset: u32, entry: Sqe) {
        assert!(offset as usize + size_of::<Sqe>() <= self.length);
        // SAFETY: within the mapping, by the assertion above.
        let place = unsafe { self.base.add(offset as usize) }.cast::<Sqe>();
        // SAFETY: mapped, aligned, and behind the tail the kernel was shown: it does not look yet.
        unsafe { place.write(entry) };
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        if self.mapped {
            // SAFETY: exactly the mapping made in `new`; nothing refers to it any more.
            unsafe { libc::munmap(self.base.as_ptr().cast(), self.length) };
        }
    }
}

/// A buffer ring that the kernel allocated, as it maps it: for the one try that fills it.
pub(super) fn map_buffer_ring(fd: i32, group: u16, bytes: usize) -> Found<Place> {
    const OFFSET: i64 = 0x8000_0000;
    let mapping = Mapping::new(fd, OFFSET | i64::from(group) << 16, bytes)?;
    let place = Place { base: mapping.base, length: mapping.length };
    // Never unmapped, like every place.
    std::mem::forget(mapping);
    Ok(place)
}
