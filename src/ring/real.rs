//! The kernel's own ring. Needs Linux 6.0 (buffer ring, multishot receive, SINGLE_ISSUER). It lives
//! on the thread that made the ring; it borrows the `IoUring`, because a registered ring descriptor
//! is known to one `Submitter` only.

use super::buffer_ring::BufferRing;
use super::entry::Builder;
use super::lent::{self, Lent};
use super::neighbours::Rings;
use super::provided::{Bundle, Classic, Provided};
use super::reserve::Reserve;
use super::{Completion, Entered, Listening, Memory, Name, Operation, Ring, Socket, Span, Token};
use crate::features::{Buffers, Recv, Taskrun, Uring, Wait};
use io_uring::squeue::Entry;
use io_uring::types::{SubmitArgs, Timespec};
use io_uring::{CompletionQueue, EnterFlags, IoUring, SubmissionQueue, Submitter, cqueue};
use nix::errno::Errno;
use std::collections::VecDeque;
use std::io;
use std::net::TcpListener;
use std::os::fd::{AsRawFd, BorrowedFd, IntoRawFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long to leave a kernel alone that is out of memory for requests.
const SHORTAGE_PAUSE: Duration = Duration::from_millis(1);

/// One worker's ring.
pub struct RealRing<'a> {
    pub(super) submitter: Submitter<'a>,
    submissions: SubmissionQueue<'a>,
    completions: CompletionQueue<'a>,
    provided: Provided,
    bundle: Bundle,
    /// What is sent together, by connection, where that was asked for.
    lent: Option<Lent>,
    pub(super) builder: Builder,
    /// Operations that found the submission queue full, and the kernel unwilling to empty it.
    backlog: VecDeque<Entry>,
    listeners: Vec<Option<TcpListener>>,
    wake_others: &'a dyn Fn(),
    /// Slots of a client's table that name no socket.
    pub(super) free_slots: Vec<u32>,
    /// A kernel thread takes the entries.
    thread_submits: bool,
    wait: Wait,
    /// Of every enter.
    flags: EnterFlags,
    pub(super) origin: Instant,
    pub(super) enters: u64,
    overflows: u64,
    pushed: u64,
    /// Operations the kernel had taken after the last call, and those of which every completion that
    /// came with them has been returned since.
    taken: u64,
    answered: u64,
}

impl<'a> RealRing<'a> {
    /// Readies `ring` (just made, in this thread) to serve `listeners`, with `memory` to receive
    /// into. `waker` is an eventfd whose writes are reported, `wake_others` writes the others'.
    ///
    /// # Errors
    /// The kernel's, when it does not register the buffer ring, or the ring's descriptor where
    /// `features` ask for that.
    pub fn new(
        ring: &'a mut IoUring,
        features: &Uring,
        memory: Memory,
        listeners: Vec<TcpListener>,
        waker: BorrowedFd<'a>,
        wake_others: &'a dyn Fn(),
    ) -> io::Result<Self> {
        let descriptors = listeners.iter().map(AsRawFd::as_raw_fd).collect();
        let builder = Builder::new(features, memory, descriptors, waker.as_raw_fd());
        let mut this = Self::over(ring, features, builder)?;
        if let Provided::Ring(_, reserve) = &mut this.provided {
            reserve.follow_the_load();
        }
        this.listeners = listeners.into_iter().map(Some).collect();
        this.wake_others = wake_others;
        Ok(this)
    }

    /// The rings that sockets are handed to.
    pub fn beside(&mut self, neighbours: &Arc<Rings>) {
        self.builder.neighbours = Arc::clone(neighbours);
    }

    /// Readies `ring` for entries of `builder`: it serves nobody and dials nobody yet.
    pub(super) fn over(ring: &'a mut IoUring, features: &Uring, builder: Builder) -> io::Result<Self> {
        let descriptor = ring.as_raw_fd();
        let (mut submitter, submissions, completions) = ring.split();
        let provided = provided(features, builder.memory, &submitter)?;
        let lent = match features.groups {
            0 => None,
            groups => Some(Lent::new(&submitter, descriptor, builder.memory, groups)?),
        };
        if features.ring_fd_registered {
            submitter.register_ring_fd()?;
        }
        Ok(Self {
            submitter,
            submissions,
            completions,
            provided,
            bundle: Bundle::default(),
            lent,
            builder,
            backlog: VecDeque::new(),
            listeners: Vec::new(),
            wake_others: &|| {},
            free_slots: Vec::new(),
            thread_submits: features.taskrun == Taskrun::Sqpoll,
            wait: features.wait,
            flags: if features.no_iowait { EnterFlags::NO_IOWAIT } else { EnterFlags::empty() },
            origin: Instant::now(),
            enters: 0,
            overflows: 0,
            pushed: 0,
            taken: 0,
            answered: 0,
        })
    }

    /// Queues an entry; it waits in order where there is no place.
    #[inline]
    pub(super) fn queue(&mut self, entry: Entry) {
        if !(self.backlog.is_empty() && (self.put(&entry) || self.put_after_submitting(&entry))) {
            self.backlog.push_back(entry);
        }
        self.pushed += 1;
    }

    /// Whether an enter would submit anything.
    pub(super) fn has_queued(&mut self) -> bool {
        !self.backlog.is_empty() || !self.submissions.is_empty()
    }

    fn put(&mut self, entry: &Entry) -> bool {
        // SAFETY: every pointer in the entry leads into the memory the ring was set up with, which
        // outlives it, and the caller lends a span until the completion.
        unsafe { self.submissions.push(entry) }.is_ok()
    }

    #[cold]
    fn put_after_submitting(&mut self, entry: &Entry) -> bool {
        // Without GETEVENTS: completion work is left for the loop's own enter. An error shows there
        // again; here it only means that the entry has to wait.
        let _ = self.call(0, EnterFlags::empty(), None);
        self.put(entry)
    }

    /// One system call: submits, runs completion work, waits.
    fn call(&mut self, wait_for: u32, flags: EnterFlags, until: Option<Duration>) -> Entered {
        self.submissions.sync();
        let count = self.submissions.len() as u32;
        let flags = flags | self.flags;
        let result = if self.thread_submits {
            self.let_thread_submit(count, wait_for, flags, until)
        } else {
            self.system_call(count, wait_for, flags, until)
        };
        self.submissions.sync();
        self.completions.sync();
        if self.submissions.cq_overflow() {
            // Completions of what it took may wait behind the queue: nothing new is known.
            self.overflows += 1;
        } else {
            self.taken = self.pushed - (self.backlog.len() + self.submissions.len()) as u64;
        }
        if self.completions.overflow() != 0 {
            // A wait that also submitted something hides the error: the count does not.
            return Entered::CompletionsLost;
        }
        match result.map_err(|error| Errno::from_raw(error.raw_os_error().unwrap_or(0))) {
            Ok(_) | Err(Errno::ETIME) => Entered::Done,
            Err(Errno::EINTR) => Entered::Interrupted,
            Err(Errno::EBUSY) => Entered::Busy,
            Err(Errno::EBADR) => Entered::CompletionsLost,
            Err(Errno::EAGAIN | Errno::ENOMEM) => {
                self.relieve(count);
                Entered::Interrupted
            }
            Err(error) => Entered::Failed(error),
        }
    }

    /// One system call, without a look at the queues before and after.
    fn system_call(
        &mut self,
        count: u32,
        wait_for: u32,
        flags: EnterFlags,
        until: Option<Duration>,
    ) -> io::Result<usize> {
        self.enters += 1;
        let left = until.map(|until| until.saturating_sub(self.origin.elapsed()));
        let (wait_for, minimum) = self.patience(wait_for, left);
        if left.is_none() && minimum == 0 {
            // SAFETY: no argument is passed.
            return unsafe { self.submitter.enter::<libc::sigset_t>(count, wait_for, flags.bits(), None) };
        }
        let time = left.map(Timespec::from);
        let arguments = match &time {
            Some(time) => SubmitArgs::new().timespec(time),
            None => SubmitArgs::new(),
        };
        let arguments = arguments.min_wait_usec(minimum);
        let flags = (flags | EnterFlags::EXT_ARG).bits();
        // SAFETY: the arguments outlive the call, and their size is the kernel's own.
        unsafe { self.submitter.enter(count, wait_for, flags, Some(&arguments)) }
    }

    /// How many completions to wait for, and for how many microseconds before one is enough. The kernel
    /// would wait that long past an earlier end.
    fn patience(&self, wait_for: u32, left: Option<Duration>) -> (u32, u32) {
        let Wait::Minimum { count, time } = self.wait else { return (wait_for, 0) };
        let left = left.map_or(u128::MAX, |left| left.as_micros());
        match u128::from(time).min(left) as u32 {
            time @ 1.. if wait_for > 0 => (count.max(wait_for), time),
            _ => (wait_for, 0),
        }
    }

    /// Wakes the thread that submits, where it sleeps over `count` entries, and waits; no system call where
    /// neither is needed.
    fn let_thread_submit(
        &mut self,
        count: u32,
        wait_for: u32,
        mut flags: EnterFlags,
        until: Option<Duration>,
    ) -> io::Result<usize> {
        if count > 0 && self.submissions.need_wakeup() {
            flags |= EnterFlags::SQ_WAKEUP;
        }
        self.completions.sync();
        let asked = flags.intersects(EnterFlags::SQ_WAKEUP | EnterFlags::SQ_WAIT);
        let here = self.completions.len() >= wait_for as usize;
        if here && !asked && !self.submissions.cq_overflow() {
            return Ok(0);
        }
        self.system_call(count, wait_for, flags, until)
    }

    /// The kernel has no memory for another request. A failed submit runs no completion work, and that
    /// is what would free some: it is run without one, and then the kernel is left alone for a moment.
    #[cold]
    fn relieve(&mut self, submitted: u32) {
        if submitted > 0 {
            self.enters += 1;
            let flags = EnterFlags::GETEVENTS.bits();
            // SAFETY: no argument is passed. An error is the next enter's to report.
            let _ = unsafe { self.submitter.enter::<libc::sigset_t>(0, 0, flags, None) };
            self.completions.sync();
        }
        std::thread::sleep(SHORTAGE_PAUSE);
    }

    /// Submits a request for every buffer that is to be provided.
    fn request_all(&mut self) {
        while let Provided::Classic(buffers) = &mut self.provided
            && let Some(request) = buffers.next_request()
        {
            self.queue(request);
        }
    }

    /// Moves what waits in the backlog to the submission queue, as far as it goes.
    fn refill(&mut self) {
        while let Some(entry) = self.backlog.pop_front() {
            if !self.put(&entry) {
                self.backlog.push_front(entry);
                return;
            }
        }
    }
}

/// The buffers that the kernel picks from, where it does.
fn provided(features: &Uring, memory: Memory, submitter: &Submitter<'_>) -> io::Result<Provided> {
    let (count, size) = (features.buffer_count, features.buffer_size);
    Ok(match features.buffers {
        _ if features.recv == Recv::Poll => Provided::Nobody,
        Buffers::Owned => Provided::Nobody,
        Buffers::Classic => Provided::Classic(Classic::new(memory, count as u16, size)),
        Buffers::Ring | Buffers::Incremental => {
            let buffers = BufferRing::new(memory, count as u16, size)?;
            buffers.register(submitter, features.buffers == Buffers::Incremental)?;
            Provided::Ring(buffers, Reserve::new(count as u16))
        }
    })
}

impl Ring for RealRing<'_> {
    #[inline]
    fn push(&mut self, operation: Operation, token: Token) {
        self.queue(self.builder.build(operation).user_data(token.0));
    }

    fn enter(&mut self, wait_for: u32, until: Option<Duration>) -> Entered {
        // While operations wait for room in the queue nothing is waited for: they come first.
        while !self.backlog.is_empty() {
            self.refill();
            if self.backlog.is_empty() {
                break;
            }
            let before = self.backlog.len();
            // Where a thread submits, an enter alone makes no room.
            let room = if self.thread_submits { EnterFlags::SQ_WAIT } else { EnterFlags::empty() };
            let entered = self.call(0, EnterFlags::GETEVENTS | room, None);
            self.refill();
            if entered != Entered::Done || self.backlog.len() == before {
                return entered;
            }
        }
        self.call(wait_for, EnterFlags::GETEVENTS, until)
    }

    #[inline]
    fn next_completion(&mut self) -> Option<Completion> {
        if let Provided::Ring(buffers, reserve) = &mut self.provided
            && let Some(part) = self.bundle.next(buffers)
        {
            reserve.note(&part);
            return Some(part);
        }
        let Some(entry) = self.completions.next() else {
            // Everything that had come by the last call has been returned.
            self.answered = self.taken;
            // Shows the kernel that the entries are free; what arrives now is for the next turn, unless a full
            // submission queue makes a call before it.
            self.completions.sync();
            return None;
        };
        let done = Completion {
            token: Token(entry.user_data()),
            result: entry.result(),
            more: cqueue::more(entry.flags()),
            // What was lent for a send has a number too: nothing was received there.
            buffer: cqueue::buffer_select(entry.flags()).filter(|buffer| buffer & lent::MARK == 0),
            keeps_buffer: cqueue::buffer_more(entry.flags()),
        };
        match &mut self.provided {
            Provided::Ring(buffers, reserve) => {
                let done = if self.builder.bundle { self.bundle.part(done, buffers) } else { done };
                reserve.note(&done);
                Some(done)
            }
            Provided::Classic(buffers) if Classic::provides(done.token) => {
                buffers.provide(done.token.0 as u16);
                self.next_completion()
            }
            _ => Some(done),
        }
    }

    #[inline]
    fn provide(&mut self, buffer: u16) {
        match &mut self.provided {
            Provided::Ring(_, reserve) => reserve.put(buffer),
            Provided::Classic(buffers) => buffers.provide(buffer),
            Provided::Nobody => unreachable!("nobody picks buffers"),
        }
    }

    #[inline]
    fn publish(&mut self) {
        match &mut self.provided {
            Provided::Ring(buffers, reserve) => {
                while let Some(buffer) = reserve.next() {
                    buffers.provide(buffer);
                }
                buffers.publish();
            }
            Provided::Classic(_) => self.request_all(),
            Provided::Nobody => {}
        }
    }

    fn found_no_buffer(&mut self) {
        if let Provided::Ring(_, reserve) = &mut self.provided {
            reserve.missed();
        }
    }

    fn now(&mut self) -> Duration {
        self.origin.elapsed()
    }

    fn obeys_limit(&self) -> bool {
        self.builder.receive_limit || !self.builder.receive_multishot
    }

    fn skips_sent(&self) -> bool {
        self.builder.skip_sent
    }

    fn keeps_sent(&self) -> bool {
        self.builder.zero_copy
    }

    fn lends(&self) -> usize {
        if self.lent.is_some() { lent::SPANS.into() } else { 0 }
    }

    fn lend(&mut self, group: u32, span: Span) {
        self.lent.as_mut().expect("it was asked whether it lends").lend(group, span);
    }

    fn take_back(&mut self, group: u32) {
        self.enters += 1;
        self.lent.as_mut().expect("it was lent before").take_back(group);
    }

    #[inline]
    fn pushed(&self) -> u64 {
        self.pushed
    }

    #[inline]
    fn answered(&mut self) -> u64 {
        self.answered
    }

    fn overflows(&self) -> u64 {
        self.overflows
    }

    fn enters(&self) -> u64 {
        self.enters
    }
}

impl Listening for RealRing<'_> {
    fn accepted(&self, result: u32) -> Socket {
        self.builder.accepted(result)
    }

    fn accept_queued(&mut self, listener: usize) -> Result<Socket, Errno> {
        let listener = self.listeners[listener].as_ref().expect("the listener is open until it is closed");
        match listener.accept() {
            // An ordinary descriptor also where others are direct: the ring serves both.
            Ok((stream, _)) => Ok(Socket(Name::Descriptor(stream.into_raw_fd()))),
            Err(error) => Err(Errno::from_raw(error.raw_os_error().unwrap_or(0))),
        }
    }

    fn close_listener(&mut self, listener: usize) {
        self.listeners[listener] = None;
    }

    fn arrived(&mut self, socket: Socket) -> Option<u32> {
        let Name::Descriptor(descriptor) = socket.0 else { return None };
        // SAFETY: the loop closes a socket only when it is done with it, so it is open here.
        let borrowed = unsafe { BorrowedFd::borrow_raw(descriptor) };
        rustix::io::ioctl_fionread(borrowed).ok().map(|bytes| bytes.min(u64::from(u32::MAX)) as u32)
    }

    fn counts_arrived(&self) -> bool {
        self.builder.counts_arrived
    }

    fn wake_others(&mut self) {
        (self.wake_others)();
    }
}
