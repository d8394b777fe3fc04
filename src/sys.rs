//! The few calls no crate offers safely: values that lie in a file of memory, so that another process can
//! read them while they change, and how an epoll instance polls. Does not know what they mean.

use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr::NonNull;

/// Moves `values` into the file, one after another from `begin` on (a multiple of the page size), and
/// lends them for the rest of the process. From then on nobody can write to the file or change its length,
/// whoever opens it: it is sealed, which only a memfd made for sealing can be. Needs Linux 5.1.
///
/// # Errors
/// When the file is too short, cannot be sealed, or is not mapped. It may be sealed in part then.
pub fn place<T: Sync + 'static>(file: &File, begin: u64, values: Vec<T>) -> io::Result<&'static [T]> {
    assert!(align_of::<T>() <= 4096, "a mapping is aligned to a page and no further");
    // First of all, so that the length that is looked at next stays what it is.
    seal(file, SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_GROW)?;
    let bytes = size_of::<T>() * values.len();
    if bytes == 0 || file.metadata()?.len() < begin.saturating_add(bytes as u64) {
        return Err(io::Error::from_raw_os_error(libc::EINVAL));
    }
    let access = libc::PROT_READ | libc::PROT_WRITE;
    let begin = libc::off_t::try_from(begin).map_err(io::Error::other)?;
    let (kind, descriptor) = (libc::MAP_SHARED, file.as_raw_fd());
    // SAFETY: a new mapping at an address of the kernel's choice, inside a file that keeps its length.
    let base = unsafe { libc::mmap(std::ptr::null_mut(), bytes, access, kind, descriptor, begin) };
    if base == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    // Mappings that were made before may still write; this one is the first, or the seal above had
    // failed. On an error the mapping stays, unused: it is the end of the attempt, once in a process.
    seal(file, SealFlag::F_SEAL_FUTURE_WRITE | SealFlag::F_SEAL_SEAL)?;
    let base = NonNull::new(base.cast::<T>()).expect("the kernel maps nothing at address 0 unasked");
    let count = values.len();
    for (index, value) in values.into_iter().enumerate() {
        // SAFETY: within the mapping, which has room for all of them.
        let place = unsafe { base.add(index) };
        // SAFETY: mapped, writable and aligned; nobody has a reference to it yet.
        unsafe { place.write(value) };
    }
    // SAFETY: every value has just been written, nothing but these references can write, and the mapping
    // is never undone.
    Ok(unsafe { std::slice::from_raw_parts(base.as_ptr(), count) })
}

/// Has an epoll instance poll the network card for `time` microseconds whenever it is waited on
/// (EPIOCSPARAMS, Linux 6.9). Interrupts of the card stay on.
///
/// # Errors
/// `ENOTTY` before Linux 6.9, `EOPNOTSUPP` where the kernel was built without polling.
pub fn poll_card(epoll: BorrowedFd<'_>, time: u32) -> io::Result<()> {
    // A budget of 0 is the kernel's own.
    let parameters = EpollParameters { time, budget: 0, prefer: 0, padding: 0 };
    let (descriptor, request) = (epoll.as_raw_fd(), EPIOCSPARAMS as libc::Ioctl);
    // SAFETY: the request reads a struct of this size, which outlives the call.
    match unsafe { libc::ioctl(descriptor, request, &raw const parameters) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// `struct epoll_params`.
#[repr(C)]
struct EpollParameters {
    /// Microseconds.
    time: u32,
    /// Packets in one go.
    budget: u16,
    /// Whether interrupts are put off.
    prefer: u8,
    padding: u8,
}

/// `_IOW(0x8A, 1, struct epoll_params)`.
const EPIOCSPARAMS: u64 = 0x4008_8a01;

fn seal(file: &File, seals: SealFlag) -> io::Result<()> {
    fcntl(file, FcntlArg::F_ADD_SEALS(seals))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::sys::memfd::{MFdFlags, memfd_create};
    use std::os::unix::fs::FileExt;
    use std::sync::atomic::{AtomicU64, Ordering};

    fn memory(bytes: u64, flags: MFdFlags) -> File {
        let file = File::from(memfd_create("test", flags | MFdFlags::MFD_CLOEXEC).unwrap());
        file.set_len(bytes).unwrap();
        file
    }

    fn values() -> Vec<AtomicU64> {
        vec![AtomicU64::new(7), AtomicU64::new(8)]
    }

    #[test]
    fn what_is_stored_in_a_placed_value_is_read_from_the_file_and_nobody_else_can_write_it() {
        let file = memory(8192, MFdFlags::MFD_ALLOW_SEALING);
        let placed = place(&file, 4096, values()).unwrap();
        placed[1].fetch_add(1, Ordering::Relaxed);
        let mut words = [0; 16];
        file.read_exact_at(&mut words, 4096).unwrap();
        assert_eq!(words[..8], 7u64.to_ne_bytes());
        assert_eq!(words[8..], 9u64.to_ne_bytes());
        assert!(file.write_at(&[1], 4096).is_err(), "written from outside");
        assert!(file.set_len(0).is_err(), "shortened");
        assert!(place(&file, 4096, values()).is_err(), "placed twice");
    }

    #[test]
    fn an_epoll_instance_is_told_to_poll_and_nothing_else_is() {
        use nix::sys::epoll::{Epoll, EpollCreateFlags};
        use std::os::fd::AsFd;
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).unwrap();
        let answer = poll_card(epoll.0.as_fd(), 50).map_err(|error| error.raw_os_error());
        // An older kernel does not know the request; ours asked for nothing it would find wrong.
        assert!(matches!(answer, Ok(()) | Err(Some(libc::ENOTTY | libc::EOPNOTSUPP))), "{answer:?}");
        let file = memory(4096, MFdFlags::empty());
        assert!(poll_card(file.as_fd(), 50).is_err());
    }

    #[test]
    fn a_file_that_is_too_short_or_cannot_be_sealed_is_refused() {
        assert!(place(&memory(4096 + 15, MFdFlags::MFD_ALLOW_SEALING), 4096, values()).is_err());
        assert!(place(&memory(8192, MFdFlags::empty()), 4096, values()).is_err());
    }
}
