//! What this kernel allows, found by doing it: a small ring for each set-up flag, a real receive and a
//! real accept for the operations. Release numbers say nothing reliable (distributions port features
//! back, containers take them away), so they are never looked at here.
//!
//! Needs a few descriptors and pages for a moment. Runs before any worker starts.

use crate::features::{Answers, Capability};
use crate::host;
use io_uring::{Builder, IoUring, cqueue, opcode, squeue, types};
use nix::errno::Errno;
use std::io::{self, Write};
use std::os::fd::AsRawFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
use std::time::Duration;

/// Asks this kernel for everything. Takes a few milliseconds.
#[must_use]
pub fn probe() -> Answers {
    let release = host::kernel_release().unwrap_or_default();
    if let Err(error) = IoUring::new(ENTRIES) {
        return Answers { release, barred: Some(barred(&error)), refused: Vec::new() };
    }
    let tried = Capability::ALL.iter().map(|&capability| (capability, attempt(capability)));
    let refused =
        tried.filter_map(|(capability, result)| Some((capability, describe(&result.err()?)))).collect();
    Answers { release, barred: None, refused }
}

const ENTRIES: u32 = 8;
/// How long a trial may wait for an answer that should be there at once.
const PATIENCE: Duration = Duration::from_secs(1);

/// Why there is no io_uring here, told from the errno and from what the host shows.
fn barred(error: &io::Error) -> String {
    let answer = describe(error);
    match Errno::from_raw(error.raw_os_error().unwrap_or(0)) {
        Errno::ENOSYS => format!(
            "this kernel or this container has no io_uring (io_uring_setup answered {answer}): it needs \
             Linux 6.0 built with CONFIG_IO_URING, and a container profile that allows its three system calls."
        ),
        Errno::EPERM | Errno::EACCES => match (host::io_uring_disabled(), host::seccomp_filtered()) {
            (Some(level @ 1..), _) => format!(
                "io_uring is switched off on this host (kernel.io_uring_disabled is {level}, io_uring_setup \
                 answered {answer}); root can allow it with sysctl kernel.io_uring_disabled=0."
            ),
            (_, Some(true)) => format!(
                "a seccomp filter forbids io_uring here (io_uring_setup answered {answer}), as containers do \
                 by default; allow io_uring_setup, io_uring_enter and io_uring_register in its profile."
            ),
            _ => format!(
                "io_uring is forbidden here (io_uring_setup answered {answer}): by a seccomp filter, a \
                 security module or kernel.io_uring_disabled; allow it there."
            ),
        },
        Errno::ENOMEM => format!(
            "there is no room for a ring (io_uring_setup answered {answer}): the locked-memory limit of this \
             user is used up; raise it with ulimit -l."
        ),
        Errno::EMFILE | Errno::ENFILE => format!(
            "there is no descriptor left for a ring (io_uring_setup answered {answer}); raise the limit with \
             ulimit -n."
        ),
        _ => format!("io_uring_setup answered {answer}."),
    }
}

/// The errno by name, without the sentence of the C library.
fn describe(error: &io::Error) -> String {
    match error.raw_os_error() {
        Some(number) if Errno::from_raw(number) != Errno::UnknownErrno => {
            format!("{:?}", Errno::from_raw(number))
        }
        _ => error.to_string(),
    }
}

fn attempt(capability: Capability) -> io::Result<()> {
    match capability {
        Capability::SingleIssuer => set_up(|ring| ring.setup_single_issuer()),
        Capability::SubmitAll => set_up(|ring| ring.setup_submit_all()),
        Capability::DeferTaskrun => set_up(|ring| ring.setup_single_issuer().setup_defer_taskrun()),
        Capability::CoopTaskrun => set_up(|ring| ring.setup_coop_taskrun()),
        Capability::NoSqarray => set_up(|ring| ring.setup_no_sqarray()),
        Capability::RegisteredRingFd => registered_ring_fd(),
        Capability::BufferRing => ring_with_buffers().map(drop),
        Capability::MultishotReceive => receive(0),
        Capability::MultishotAccept => accept(false),
        Capability::DirectDescriptors => accept(true),
        Capability::ReceiveLimit => receive(2 * HALF as u32),
    }
}

fn set_up(flags: impl Fn(&mut Builder) -> &mut Builder) -> io::Result<()> {
    flags(&mut IoUring::builder()).build(ENTRIES).map(drop)
}

fn registered_ring_fd() -> io::Result<()> {
    let mut ring = IoUring::new(ENTRIES)?;
    let (mut submitter, ..) = ring.split();
    submitter.register_ring_fd()?;
    submitter.submit()?;
    submitter.unregister_ring_fd()
}

/// A multishot receive over a socket pair, fed twice: the second answer is what tells it from a
/// single one. With a limit it must be the last as well.
fn receive(limit: u32) -> io::Result<()> {
    let mut ring = ring_with_buffers()?;
    let (mut ours, theirs) = UnixStream::pair()?;
    let entry = opcode::RecvMulti::new(types::Fd(theirs.as_raw_fd()), GROUP).build();
    push(&mut ring, if limit > 0 { with_receive_limit(entry, limit) } else { entry })?;
    for last in [false, true] {
        ours.write_all(&[1; HALF])?;
        let received = next(&mut ring)?;
        if received.result() != HALF as i32 || cqueue::more(received.flags()) != (limit == 0 || !last) {
            return Err(unexpected(&received));
        }
    }
    Ok(())
}

/// A multishot accept that takes two connections, into descriptors or into the ring's table. Over a
/// Unix socket: the loopback interface may be down.
fn accept(direct: bool) -> io::Result<()> {
    let mut ring = IoUring::new(ENTRIES)?;
    if direct {
        ring.submitter().register_files_sparse(4)?;
    }
    let moment = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default().as_nanos();
    let name = format!("c10k-probe-{}-{moment}-{direct}", std::process::id());
    let address = SocketAddr::from_abstract_name(name)?;
    let listener = UnixListener::bind_addr(&address)?;
    let entry = opcode::AcceptMulti::new(types::Fd(listener.as_raw_fd())).allocate_file_index(direct);
    push(&mut ring, entry.build())?;
    for _ in 0..2 {
        let _peer = UnixStream::connect_addr(&address)?;
        let accepted = next(&mut ring)?;
        if accepted.result() >= 0 && !direct {
            let _ = nix::unistd::close(accepted.result());
        }
        if accepted.result() < 0 || !cqueue::more(accepted.flags()) {
            return Err(unexpected(&accepted));
        }
    }
    Ok(())
}

const GROUP: u16 = 0;
const BUFFERS: u16 = 2;
/// Bytes of one write of the receive trial, and of one buffer.
const HALF: usize = 32;

/// Aligned as the kernel wants a buffer ring.
#[repr(C, align(4096))]
struct Pages {
    entries: [u8; 4096],
    buffers: [[u8; HALF]; BUFFERS as usize],
}

/// A ring with a buffer ring of two buffers.
fn ring_with_buffers() -> io::Result<IoUring> {
    let ring = IoUring::new(ENTRIES)?;
    // Leaked on purpose: a closed ring may end its last receive a moment later. Three trials of two
    // pages each, once in the life of the program.
    let pages = Box::leak(Box::new(Pages { entries: [0; 4096], buffers: [[0; HALF]; BUFFERS as usize] }));
    let buffers = pages.buffers.as_mut_ptr();
    let entries = pages.entries.as_mut_ptr().cast::<types::BufRingEntry>();
    for index in 0..BUFFERS {
        // SAFETY: two entries of 16 bytes fit in the page, which is aligned for them and all zero, a
        // valid value of theirs; nobody else has a reference to it.
        let entry = unsafe { &mut *entries.add(usize::from(index)) };
        entry.set_addr(buffers.wrapping_add(usize::from(index)) as u64);
        entry.set_len(HALF as u32);
        entry.set_bid(index);
    }
    // SAFETY: `entries` is the start of the page, where the crate expects the first entry.
    let tail = unsafe { types::BufRingEntry::tail(entries) };
    // SAFETY: the tail lies in the first entry; the kernel does not know the page yet.
    unsafe { tail.cast_mut().write(BUFFERS) };
    // SAFETY: the pages are never freed, and used for nothing else.
    unsafe { ring.submitter().register_buf_ring_with_flags(entries as u64, BUFFERS, GROUP, 0)? };
    Ok(ring)
}

/// The entry of a multishot receive, ending after about `limit` bytes. The crate cannot set the field
/// (`optlen`: four bytes at offset 44 of the 64 the kernel reads).
#[must_use]
pub(in crate::ring) fn with_receive_limit(entry: squeue::Entry, limit: u32) -> squeue::Entry {
    const OPTLEN: usize = 44;
    const { assert!(size_of::<squeue::Entry>() == 64) };
    // SAFETY: an entry is 64 bytes of plain integers without padding, laid out as the kernel's.
    let mut bytes: [u8; 64] = unsafe { std::mem::transmute(entry) };
    bytes[OPTLEN..OPTLEN + 4].copy_from_slice(&limit.to_ne_bytes());
    // SAFETY: as above; any integer is valid in that field.
    unsafe { std::mem::transmute(bytes) }
}

fn push(ring: &mut IoUring, entry: squeue::Entry) -> io::Result<()> {
    // SAFETY: what the entry points to, if anything, is the buffer ring, which is never freed; the
    // socket it names is open.
    let pushed = unsafe { ring.submission().push(&entry) };
    pushed.map_err(io::Error::other)
}

/// Submits what is queued and waits for the next completion.
fn next(ring: &mut IoUring) -> io::Result<cqueue::Entry> {
    let patience = types::Timespec::from(PATIENCE);
    ring.submitter().submit_with_args(1, &types::SubmitArgs::new().timespec(&patience))?;
    let completion = ring.completion().next();
    completion.ok_or_else(|| io::Error::other("no completion"))
}

fn unexpected(completion: &cqueue::Entry) -> io::Error {
    match completion.result() {
        result @ ..0 => io::Error::from_raw_os_error(-result),
        _ => io::Error::other("one completion instead of several"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_errno_is_told_by_its_name() {
        assert_eq!(describe(&io::Error::from_raw_os_error(nix::libc::EINVAL)), "EINVAL");
    }

    #[test]
    fn the_sentence_tells_missing_from_forbidden_from_no_room() {
        let sentence = |errno: Errno| barred(&io::Error::from_raw_os_error(errno as i32));
        assert!(sentence(Errno::ENOSYS).contains("CONFIG_IO_URING"));
        assert!(sentence(Errno::EPERM).contains("allow"));
        assert!(sentence(Errno::ENOMEM).contains("ulimit -l"));
        assert!(sentence(Errno::EMFILE).contains("ulimit -n"));
    }

    #[test]
    fn what_is_asked_twice_is_answered_the_same() {
        // Whatever this kernel says: the trials leave nothing behind that changes the answer.
        assert_eq!(probe(), probe());
    }

    #[test]
    fn the_limit_stands_where_the_kernel_reads_it() {
        let plain = opcode::RecvMulti::new(types::Fd(7), GROUP).build();
        let limited = with_receive_limit(plain.clone(), 0x0102_0304);
        assert_eq!(format!("{:?}", limited), format!("{:?}", plain));
        // SAFETY: as in `with_receive_limit`.
        let bytes: [u8; 64] = unsafe { std::mem::transmute(limited) };
        // SAFETY: as in `with_receive_limit`.
        let before: [u8; 64] = unsafe { std::mem::transmute(plain) };
        let changed: Vec<usize> = (0..64).filter(|&index| bytes[index] != before[index]).collect();
        assert_eq!(changed, [44, 45, 46, 47]);
    }
}
