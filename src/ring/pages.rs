//! Page-aligned memory from the kernel, for what the kernel itself reads or writes. Zeroed, private,
//! resident only where touched. Does not know what it holds.

use super::Memory;
use crate::host;
use std::io;
use std::ptr::NonNull;

/// An anonymous mapping; unmapped when dropped.
#[derive(Debug)]
pub struct Pages {
    base: NonNull<u8>,
    length: usize,
}

impl Pages {
    /// Bytes of one page of this host, which the kernel locks as a whole and wants ring memory to begin with.
    #[must_use]
    pub fn size_of_one() -> u64 {
        host::page_bytes()
    }

    /// At least `bytes` (and at least one page), rounded up to whole pages.
    ///
    /// # Errors
    /// `ENOMEM` when the address space or the overcommit limit is used up.
    pub fn new(bytes: u64) -> io::Result<Self> {
        let length = (bytes.max(1) as usize).next_multiple_of(Self::size_of_one() as usize);
        let access = libc::PROT_READ | libc::PROT_WRITE;
        let kind = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
        // SAFETY: a new mapping at an address of the kernel's choice; nothing else refers to it.
        let base = unsafe { libc::mmap(std::ptr::null_mut(), length, access, kind, -1, 0) };
        if base == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let base = NonNull::new(base.cast()).expect("the kernel maps nothing at address 0 unasked");
        Ok(Self { base, length })
    }

    /// Makes the first `bytes` resident, on the memory node of the calling thread.
    pub fn touch(&self, bytes: u64) {
        assert!(bytes <= self.length as u64);
        for offset in (0..bytes as usize).step_by(Self::size_of_one() as usize) {
            // SAFETY: within the mapping, by the assertion above.
            let page = unsafe { self.base.add(offset) };
            // SAFETY: mapped and writable; nobody else uses the memory before it is handed out.
            unsafe { page.write_volatile(0) };
        }
    }

    /// The memory, for a ring. The caller keeps `self` alive for as long as the ring.
    #[must_use]
    pub const fn memory(&self) -> Memory {
        Memory { base: self.base, length: self.length as u64 }
    }
}

impl Drop for Pages {
    fn drop(&mut self) {
        // SAFETY: exactly the mapping made in `new`; whoever used it (a ring) is gone by contract.
        unsafe { libc::munmap(self.base.as_ptr().cast(), self.length) };
    }
}
