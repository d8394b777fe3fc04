//! What this kernel allows, found by doing it: a small ring for each set-up flag, a real receive and a
//! real accept for the operations. Release numbers say nothing reliable (distributions port features
//! back, containers take them away), so they are never looked at here.
//!
//! Needs a few descriptors and pages for a moment. Runs before any worker starts.

use super::buffer_ring::BufferRing;
use super::entry::Builder;
use super::{Memory, Name, Operation, Pages, Socket};
use crate::features::{Answers, Capability};
use crate::host;
use io_uring::{IoUring, cqueue, squeue, types};
use nix::errno::Errno;
use std::io::{self, Write};
use std::os::fd::{AsRawFd, RawFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
use std::ptr::NonNull;
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
        Capability::MultishotReceive => receive(false),
        Capability::MultishotAccept => accept(false),
        Capability::DirectDescriptors => accept(true),
        Capability::ReceiveLimit => receive(true),
    }
}

fn set_up(flags: impl Fn(&mut io_uring::Builder) -> &mut io_uring::Builder) -> io::Result<()> {
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
fn receive(limited: bool) -> io::Result<()> {
    let (mut ring, memory) = ring_with_buffers()?;
    let (mut ours, theirs) = UnixStream::pair()?;
    let builder = Builder { receive_limit: limited, ..builder(memory, Vec::new()) };
    let socket = Socket(Name::Descriptor(theirs.as_raw_fd()));
    push(&mut ring, builder.build(Operation::Receive { socket, limit: 2 * HALF }))?;
    for last in [false, true] {
        ours.write_all(&[1; HALF as usize])?;
        let received = next(&mut ring)?;
        if received.result() != HALF as i32 || cqueue::more(received.flags()) == (limited && last) {
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
        super::setup::register_slots(&ring, 4)?;
    }
    let moment = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default().as_nanos();
    let name = format!("c10k-probe-{}-{moment}-{direct}", std::process::id());
    let address = SocketAddr::from_abstract_name(name)?;
    let listener = UnixListener::bind_addr(&address)?;
    let none = Memory { base: NonNull::dangling(), length: 0 };
    let builder = Builder { direct, ..builder(none, vec![listener.as_raw_fd()]) };
    push(&mut ring, builder.build(Operation::Accept { listener: 0 }))?;
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

const BUFFERS: u16 = 2;
/// Bytes of one write of the receive trial, and of one buffer.
const HALF: u32 = 32;

/// Entries as the server has them: what is tried is what is used.
fn builder(memory: Memory, listeners: Vec<RawFd>) -> Builder {
    Builder {
        accept_multishot: true,
        receive_multishot: true,
        direct: false,
        receive_limit: false,
        buffer_size: HALF,
        memory,
        listeners,
        waker: -1,
    }
}

/// A ring with a buffer ring of two buffers, and their memory.
fn ring_with_buffers() -> io::Result<(IoUring, Memory)> {
    let ring = IoUring::new(ENTRIES)?;
    let pages = Pages::new(u64::from(BUFFERS) * u64::from(HALF))?;
    let mut buffers = BufferRing::new(pages.memory(), BUFFERS, HALF)?;
    buffers.register(&ring.submitter())?;
    (0..BUFFERS).for_each(|buffer| buffers.provide(buffer));
    buffers.publish();
    let memory = pages.memory();
    // Leaked on purpose: a closed ring may end its last receive a moment later. Two pages for each of
    // three trials, once in the life of the program.
    std::mem::forget((pages, buffers));
    Ok((ring, memory))
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
}
