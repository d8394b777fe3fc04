//! What this kernel allows, found by doing it: a small ring for each set-up flag, a real receive and a
//! real accept for the operations. Release numbers say nothing reliable (distributions port features
//! back, containers take them away), so they are never looked at here.
//!
//! Needs a few descriptors and pages for a moment. Runs before any worker starts.

mod order;

use super::buffer_ring::{BufferRing, GROUP};
use super::entry::Builder;
use super::neighbours::Rings;
use super::{LOOPBACK, Memory, Name, Operation, Pages, Socket, Span, Token};
use crate::features::{Answers, Capability};
use crate::host;
use io_uring::{EnterFlags, IoUring, cqueue, opcode, squeue, types};
use nix::errno::Errno;
use socket2::SockRef;
use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::ops::RangeInclusive;
use std::os::fd::{AsRawFd, RawFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
use std::ptr::NonNull;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

/// What this kernel answers to everything. It is asked once in the life of the program, which takes a few
/// milliseconds.
#[must_use]
pub fn probe() -> Answers {
    static ANSWERS: OnceLock<Answers> = OnceLock::new();
    ANSWERS.get_or_init(ask).clone()
}

fn ask() -> Answers {
    let release = host::kernel_release().unwrap_or_default();
    // One ring where possible: a closed ring gives its locked memory back late, and the budget may be
    // small.
    let (ring, mut refused) = match everything().build(ENTRIES) {
        Ok(ring) => (ring, Vec::new()),
        Err(_) => match IoUring::new(ENTRIES) {
            Ok(ring) => (ring, flags_refused()),
            Err(error) => return Answers { release, barred: Some(barred(&error)), refused: Vec::new() },
        },
    };
    let mut trial = Trial { ring, number: 0 };
    for &capability in &Capability::ALL {
        if let Err(error) = trial.attempt(capability) {
            refused.push((capability, describe(&error)));
        }
    }
    Answers { release, barred: None, refused }
}

const ENTRIES: u32 = 8;
/// How long a trial may wait for an answer that should be there at once.
const PATIENCE: Duration = Duration::from_secs(1);

/// Every flag the server may set. Deferred and cooperative task work go together, though the second
/// has nothing left to do then.
fn everything() -> io_uring::Builder {
    let mut ring = IoUring::builder();
    ring.setup_single_issuer().setup_submit_all().setup_no_sqarray();
    ring.setup_defer_taskrun().setup_coop_taskrun();
    ring
}

/// The flags that this kernel refuses, one by one.
fn flags_refused() -> Vec<(Capability, String)> {
    let tried = Capability::ALL.iter().map(|&capability| {
        let mut ring: io_uring::Builder = IoUring::builder();
        match capability {
            Capability::SingleIssuer => ring.setup_single_issuer(),
            Capability::SubmitAll => ring.setup_submit_all(),
            Capability::DeferTaskrun => ring.setup_single_issuer().setup_defer_taskrun(),
            Capability::CoopTaskrun => ring.setup_coop_taskrun(),
            Capability::NoSqarray => ring.setup_no_sqarray(),
            _ => return (capability, Ok(())),
        };
        (capability, super::setup::patiently(|| ring.build(ENTRIES)).map(drop))
    });
    tried.filter_map(|(capability, result)| Some((capability, describe(&result.err()?)))).collect()
}

/// Why there is no io_uring here, told from the errno and from what the host shows.
#[must_use]
pub(crate) fn barred(error: &io::Error) -> String {
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

/// The ring that operations are tried on.
struct Trial {
    ring: IoUring,
    /// The token of the trial that runs: what comes late from the one before is not its answer.
    number: u64,
}

impl Trial {
    fn attempt(&mut self, capability: Capability) -> io::Result<()> {
        self.number += 1;
        match capability {
            Capability::RegisteredRingFd => self.registered_ring_fd(),
            Capability::BufferRing => self.buffer_ring(),
            Capability::MultishotReceive => self.receive(false, false),
            Capability::MultishotAccept => self.accept(false),
            Capability::DirectDescriptors => self.accept(true),
            Capability::ReceiveLimit => self.receive(true, false),
            Capability::SkipSent => self.skip_sent(),
            Capability::CountArrived => self.count_arrived(),
            Capability::ClassicBuffers => self.classic_buffers(),
            Capability::MultishotPoll => self.watch(),
            Capability::ZeroCopySend => self.zero_copy(),
            Capability::ReceiveBundle => order::of_bundles(self),
            Capability::SendBundle => order::of_send_bundles(self),
            Capability::BothBundles => order::of_bundles(self).and_then(|()| order::of_send_bundles(self)),
            Capability::IncrementalBuffers => order::of_incremental_buffers(self),
            Capability::PollFirst => self.receive(false, true),
            Capability::Napi => self.napi(),
            Capability::NoIowait => self.no_iowait(),
            Capability::MinimumWait => self.minimum_wait(),
            Capability::HandOn => self.hand_on(),
            Capability::SubmissionThread => submission_thread(),
            // Flags, answered when the ring was made.
            _ => Ok(()),
        }
    }

    fn registered_ring_fd(&mut self) -> io::Result<()> {
        let (mut submitter, ..) = self.ring.split();
        submitter.register_ring_fd()?;
        submitter.submit()?;
        submitter.unregister_ring_fd()
    }

    /// Registers the buffers that the receives after it use.
    fn buffer_ring(&mut self) -> io::Result<()> {
        let pages = Pages::new(u64::from(BUFFERS) * u64::from(HALF))?;
        let mut buffers = BufferRing::new(pages.memory(), BUFFERS, HALF)?;
        buffers.register(&self.ring.submitter(), false)?;
        (0..BUFFERS).for_each(|buffer| buffers.provide(buffer));
        buffers.publish();
        // Leaked on purpose: a closed ring may end its last receive a moment later. Two pages, once in
        // the life of the program.
        std::mem::forget((pages, buffers));
        Ok(())
    }

    /// A multishot receive over a socket pair, fed twice: the second answer is what tells it from a
    /// single one. With a limit it must be the last as well.
    fn receive(&mut self, limited: bool, poll_first: bool) -> io::Result<()> {
        let (mut ours, theirs) = UnixStream::pair()?;
        let builder = Builder { receive_limit: limited, poll_first, ..builder(Vec::new()) };
        let socket = Socket(Name::Descriptor(theirs.as_raw_fd()));
        self.push(builder.build(Operation::Receive { socket, limit: 2 * HALF }))?;
        for last in [false, true] {
            ours.write_all(&[1; HALF as usize])?;
            let received = self.next()?;
            if received.result() != HALF as i32 || cqueue::more(received.flags()) == (limited && last) {
                return Err(unexpected(&received));
            }
        }
        Ok(())
    }

    /// A multishot accept that takes two connections, into descriptors or into the ring's table. Over
    /// a Unix socket: the loopback interface may be down.
    fn accept(&mut self, direct: bool) -> io::Result<()> {
        if direct {
            super::setup::register_slots(&self.ring, 4)?;
        }
        let moment = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default().as_nanos();
        let name = format!("c10k-probe-{}-{moment}-{direct}", std::process::id());
        let address = SocketAddr::from_abstract_name(name)?;
        let listener = UnixListener::bind_addr(&address)?;
        let builder = Builder { direct, ..builder(vec![listener.as_raw_fd()]) };
        self.push(builder.build(Operation::Accept { listener: 0 }))?;
        for _ in 0..2 {
            let _peer = UnixStream::connect_addr(&address)?;
            let accepted = self.next()?;
            if accepted.result() >= 0 && !direct {
                let _ = nix::unistd::close(accepted.result());
            }
            if accepted.result() < 0 || !cqueue::more(accepted.flags()) {
                return Err(unexpected(&accepted));
            }
        }
        Ok(())
    }

    /// Fills a TCP socket of loopback with sends that skip their completion, until one has one, and
    /// holds what the kernel said against what arrived: the server counts on nothing else.
    fn skip_sent(&mut self) -> io::Result<()> {
        let listener = TcpListener::bind(&LOOPBACK[..])?;
        let ours = TcpStream::connect(listener.local_addr()?)?;
        let (mut theirs, _) = listener.accept()?;
        let pages = Pages::new(u64::from(SENT))?;
        let builder = Builder { memory: pages.memory(), skip_sent: true, ..builder(Vec::new()) };
        let socket = Socket(Name::Descriptor(ours.as_raw_fd()));
        let span = Span { offset: 0, length: SENT };
        let mut sent = 0;
        let last = loop {
            self.push(builder.build(Operation::Send { socket, span }))?;
            self.ring.submit()?;
            match self.ring.completion().find(|done| done.user_data() == self.number) {
                Some(completion) => break completion,
                None => sent += u64::from(SENT),
            }
            if sent > SENT_MAX {
                return Err(io::Error::other("a full socket is not reported"));
            }
        };
        if last.result() > 0 {
            sent += last.result() as u64;
        }
        drop(ours);
        theirs.set_read_timeout(Some(PATIENCE))?;
        let arrived = io::copy(&mut theirs, &mut io::sink())?;
        let told = last.result() < SENT as i32 && arrived == sent;
        if told { Ok(()) } else { Err(io::Error::other(format!("{sent} bytes told of, {arrived} arrived"))) }
    }

    /// A send without a copy: how much was taken, then that the kernel is done with it.
    fn zero_copy(&mut self) -> io::Result<()> {
        let (ours, mut theirs) = connection()?;
        let pages = Pages::new(u64::from(HALF))?;
        let builder = Builder { memory: pages.memory(), ..builder(Vec::new()) };
        let socket = Socket(Name::Descriptor(ours.as_raw_fd()));
        self.push(builder.build(Operation::SendKept { socket, span: Span { offset: 0, length: HALF } }))?;
        let sent = self.next()?;
        if sent.result() != HALF as i32 {
            return Err(unexpected(&sent));
        }
        // Also frees what the kernel would otherwise keep for the peer.
        theirs.read_exact(&mut [0; HALF as usize])?;
        if cqueue::more(sent.flags()) {
            let done = self.next()?;
            if !cqueue::notif(done.flags()) || cqueue::more(done.flags()) {
                return Err(unexpected(&done));
            }
        }
        Ok(())
    }

    /// A descriptor's number to another ring that is set up like this one, and what a slot of the table
    /// names where there is a table.
    fn hand_on(&mut self) -> io::Result<()> {
        let made = || everything().build(ENTRIES).or_else(|_| IoUring::new(ENTRIES));
        let mut other = super::setup::patiently(made)?;
        let arrived = self.hand(&mut other, Socket(Name::Descriptor(SENT as i32)))?;
        if arrived != SENT as i32 {
            return Err(io::Error::other(format!("{arrived} arrived instead of {SENT}")));
        }
        let (ours, _theirs) = UnixStream::pair()?;
        if self.ring.submitter().register_files_update(0, &[ours.as_raw_fd()]).is_err() {
            return Ok(()); // There is no table, and so nothing in it to be handed on.
        }
        super::setup::register_slots(&other, 4)?;
        (0..2).try_for_each(|slot| match self.hand(&mut other, Socket(Name::Slot(0)))? {
            arrived if arrived == slot => Ok(()),
            arrived => Err(io::Error::other(format!("slot {arrived} was told of instead of {slot}"))),
        })
    }

    /// What arrives at the other ring.
    fn hand(&mut self, other: &mut IoUring, socket: Socket) -> io::Result<i32> {
        let neighbours = Rings::new(1);
        neighbours.open(0, other.as_raw_fd());
        let builder = Builder { neighbours: Arc::new(neighbours), ..builder(Vec::new()) };
        let arrival = Token(self.number);
        self.push(builder.build(Operation::Hand { socket, worker: 0, arrival }))?;
        self.ring.submit()?;
        let patience = types::Timespec::from(PATIENCE);
        let told = other.submitter().submit_with_args(1, &types::SubmitArgs::new().timespec(&patience));
        let answer = self.next()?;
        if answer.result() < 0 {
            return Err(unexpected(&answer));
        }
        told?;
        let arrived = other.completion().next().filter(|told| told.user_data() == arrival.0);
        arrived.map(|told| told.result()).ok_or_else(|| io::Error::other("nothing arrived"))
    }

    /// Counts what lies in a TCP socket of loopback, before and after something has arrived there.
    fn count_arrived(&mut self) -> io::Result<()> {
        let listener = TcpListener::bind(&LOOPBACK[..])?;
        let mut ours = TcpStream::connect(listener.local_addr()?)?;
        let (theirs, _) = listener.accept()?;
        theirs.set_read_timeout(Some(PATIENCE))?;
        let socket = Socket(Name::Descriptor(theirs.as_raw_fd()));
        for expected in [0, HALF as i32] {
            if expected > 0 {
                ours.write_all(&[1; HALF as usize])?;
                theirs.peek(&mut [0])?;
            }
            self.push(builder(Vec::new()).build(Operation::CountArrived { socket }))?;
            let counted = self.next()?.result();
            if counted < 0 {
                return Err(io::Error::from_raw_os_error(-counted));
            }
            if counted != expected {
                return Err(io::Error::other(format!("{counted} bytes counted of {expected}")));
            }
        }
        Ok(())
    }

    /// Provides a buffer by a request, to a group that nobody receives into, and takes it back.
    fn classic_buffers(&mut self) -> io::Result<()> {
        let page = Pages::new(u64::from(HALF))?;
        let (start, group) = (page.memory().base.as_ptr(), GROUP + 1);
        self.push(opcode::ProvideBuffers::new(start, HALF as i32, 1, group, 0).build())?;
        let provided = self.next()?;
        self.push(opcode::RemoveBuffers::new(1, group).build())?;
        let removed = self.next()?;
        match (provided.result(), removed.result()) {
            (0.., 1) => Ok(()),
            (0.., _) => Err(unexpected(&removed)),
            _ => Err(unexpected(&provided)),
        }
    }

    /// Watches a socket: it is told that there is room, and then, by the same watch, that bytes came.
    fn watch(&mut self) -> io::Result<()> {
        let (mut ours, theirs) = UnixStream::pair()?;
        let socket = Socket(Name::Descriptor(theirs.as_raw_fd()));
        self.push(builder(Vec::new()).build(Operation::Watch { socket }))?;
        for expected in [libc::POLLOUT, libc::POLLIN] {
            let told = self.next()?;
            if told.result() & i32::from(expected) == 0 || !cqueue::more(told.flags()) {
                return Err(unexpected(&told));
            }
            ours.write_all(&[1])?;
        }
        Ok(())
    }

    /// Polls the network card for a microsecond while waiting, from here on and no more.
    fn napi(&mut self) -> io::Result<()> {
        let submitter = self.ring.submitter();
        submitter.register_napi(&mut types::Napi::new().set_busy_poll_timeout(1))?;
        submitter.unregister_napi(&mut types::Napi::new())
    }

    /// An enter that waits for something that has happened, and says that it is no wait for a disk.
    fn no_iowait(&mut self) -> io::Result<()> {
        self.push(opcode::Nop::new().build())?;
        let flags = (EnterFlags::GETEVENTS | EnterFlags::NO_IOWAIT).bits();
        // SAFETY: no argument is passed.
        unsafe { self.ring.submitter().enter::<libc::sigset_t>(1, 1, flags, None)? };
        self.next().map(drop)
    }

    /// Waits for two completions when one has come: it must end by itself, long before the patience. A
    /// kernel that does not know the field takes it for an error or for nothing.
    fn minimum_wait(&mut self) -> io::Result<()> {
        self.push(opcode::Nop::new().build())?;
        let patience = types::Timespec::from(PATIENCE);
        let arguments = types::SubmitArgs::new().timespec(&patience).min_wait_usec(100);
        let begun = Instant::now();
        self.ring.submitter().submit_with_args(2, &arguments)?;
        if begun.elapsed() >= PATIENCE {
            return Err(io::Error::other("it waits for the whole time"));
        }
        self.next().map(drop)
    }

    fn push(&mut self, entry: squeue::Entry) -> io::Result<()> {
        self.push_as(entry, self.number)
    }

    fn push_as(&mut self, entry: squeue::Entry, token: u64) -> io::Result<()> {
        let entry = entry.user_data(token);
        // SAFETY: what the entry points to, if anything, is the buffer ring, which is never freed; the
        // socket it names is open.
        let pushed = unsafe { self.ring.submission().push(&entry) };
        pushed.map_err(io::Error::other)
    }

    /// Submits what is queued and waits for the next completion of this trial.
    fn next(&mut self) -> io::Result<cqueue::Entry> {
        self.next_of(self.number..=self.number)
    }

    /// The same, of these tokens.
    fn next_of(&mut self, tokens: RangeInclusive<u64>) -> io::Result<cqueue::Entry> {
        let patience = types::Timespec::from(PATIENCE);
        loop {
            if let Some(completion) = self.ring.completion().next() {
                if tokens.contains(&completion.user_data()) {
                    return Ok(completion);
                }
                continue;
            }
            self.ring.submitter().submit_with_args(1, &types::SubmitArgs::new().timespec(&patience))?;
        }
    }
}

/// A ring whose entry is taken without an enter for it.
fn submission_thread() -> io::Result<()> {
    let mut builder = IoUring::builder();
    builder.setup_single_issuer().setup_sqpoll(1);
    let ring = super::setup::patiently(|| builder.build(ENTRIES))?;
    let mut trial = Trial { ring, number: 1 };
    trial.push(opcode::Nop::new().build())?;
    trial.next().map(drop)
}

/// Two ends of a connection of loopback, whose ports are free again when it is closed: there may be few, and
/// a client that starts wants them.
fn connection() -> io::Result<(TcpStream, TcpStream)> {
    let listener = TcpListener::bind(&LOOPBACK[..])?;
    let ours = TcpStream::connect(listener.local_addr()?)?;
    let (theirs, _) = listener.accept()?;
    for end in [&ours, &theirs] {
        SockRef::from(end).set_linger(Some(Duration::ZERO))?;
        end.set_nodelay(true)?;
        end.set_write_timeout(Some(PATIENCE))?;
        end.set_read_timeout(Some(PATIENCE))?;
    }
    Ok((ours, theirs))
}

/// Enough for every trial: none gives one back.
const BUFFERS: u16 = 8;
/// Bytes of one send of the send trial.
const SENT: u32 = 60_000;
/// Bytes after which a socket that nobody reads must be full: send and receive buffers are smaller.
const SENT_MAX: u64 = 1 << 30;
/// Bytes of one write of the receive trial, and of one buffer.
const HALF: u32 = 32;

/// Entries as the server has them: what is tried is what is used.
fn builder(listeners: Vec<RawFd>) -> Builder {
    Builder {
        accept_multishot: true,
        receive_multishot: true,
        direct: false,
        receive_limit: false,
        receive_most: HALF,
        poll_first: false,
        bundle: false,
        zero_copy: false,
        counts_arrived: true,
        skip_sent: false,
        // Only one trial sends, from memory of its own.
        memory: Memory { base: NonNull::dangling(), length: 0 },
        listeners,
        targets: Box::default(),
        waker: -1,
        neighbours: Arc::default(),
    }
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
        assert_eq!(ask(), ask());
    }
}
