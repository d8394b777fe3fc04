//! What one thread does to one connection when something is ready: receive into the thread's
//! scratch buffer, send from it at once, copy what the kernel would not take. Both ways to use
//! threads share it.
//!
//! Absent on purpose: which events arrive and how they are asked for, tables, queues, locks.

use super::sockets::{EpollFlags, Sockets};
use super::unsent::{Spares, Unsent};
use super::{Own, counter};
use crate::conn::machine::Phase;
use crate::conn::{CloseReason, Limits, Machine, Step, Tick};
use crate::counters::Counters;
use crate::features::Read;
use nix::errno::Errno;

/// Receives per event while there is more: with the usual buffer about what a fast peer can have in
/// flight, and little enough that the next connection waits only microseconds.
const RECEIVES_PER_EVENT: u32 = 16;
/// Bytes per event after which the next connection has its turn.
const BYTES_PER_EVENT: usize = 256 * 1024;

/// What to read is announced by any of these: an end and an error are read, too.
const MAY_READ: EpollFlags = EpollFlags::EPOLLIN
    .union(EpollFlags::EPOLLRDHUP)
    .union(EpollFlags::EPOLLHUP)
    .union(EpollFlags::EPOLLERR)
    .union(EpollFlags::EPOLLPRI);
/// Whether to write is found out on any of these: a connection that is gone says so there.
const MAY_WRITE: EpollFlags = EpollFlags::EPOLLOUT.union(EpollFlags::EPOLLHUP).union(EpollFlags::EPOLLERR);
/// With one of these a short receive is not the last. A FIN that came with the bytes has no edge of
/// its own; a receive ends early before an urgent byte, though more may lie behind it.
const READ_TO_THE_END: EpollFlags = EpollFlags::EPOLLRDHUP
    .union(EpollFlags::EPOLLHUP)
    .union(EpollFlags::EPOLLERR)
    .union(EpollFlags::EPOLLPRI);

/// What a thread needs to serve a connection.
pub(super) struct Tools<'a, S> {
    pub(super) sockets: &'a S,
    pub(super) limits: Limits,
    pub(super) counters: &'a Counters,
    /// Where bytes are between a receive and the send that follows it.
    pub(super) scratch: Box<[u8]>,
    pub(super) spares: Spares,
    /// When the batch of events in hand arrived: all of it happens at that time.
    pub(super) now: Tick,
    receives_per_event: u32,
}

impl<'a, S: Sockets> Tools<'a, S> {
    pub(super) fn new(
        sockets: &'a S,
        limits: Limits,
        counters: &'a Counters,
        buffer_size: u32,
        read: Read,
    ) -> Self {
        let receives_per_event = if read == Read::Once { 1 } else { RECEIVES_PER_EVENT };
        Self {
            sockets,
            limits,
            counters,
            scratch: vec![0; buffer_size as usize].into(),
            spares: Spares::new(),
            now: sockets.now().as_millis() as Tick,
            receives_per_event,
        }
    }

    pub(super) fn count(&self, what: Own) {
        counter(self.counters, what).add(1);
    }

    /// Every entry into the kernel passes here.
    pub(super) fn call(&self) -> &'a S {
        self.counters.system_calls.add(1);
        self.sockets
    }
}

/// One connection: its policy, its socket, and what readiness adds.
#[derive(Debug)]
pub(super) struct Connection<Socket> {
    pub(super) machine: Machine,
    /// What is owed and the kernel would not take yet: there while the machine is stuck.
    unsent: Option<Box<Unsent>>,
    /// What the kernel was last asked to report.
    pub(super) interest: EpollFlags,
    /// True from a report of something to read until a receive showed that there is no more.
    readable: bool,
    /// True from a report of an end until a receive would block: a short receive is not the last.
    to_the_end: bool,
    pub(super) socket: Socket,
}

/// What became of a connection in [`Connection::on_ready`].
#[must_use]
pub(super) struct Served {
    pub(super) step: Step,
    /// Unsent bytes before.
    pub(super) unsent_before: usize,
    /// Unsent bytes now.
    pub(super) unsent: usize,
    /// Whether the kernel took some of the unsent bytes.
    pub(super) progress: bool,
}

/// What one event may still cost.
struct Budget {
    receives: u32,
    bytes: usize,
}

impl<Socket> Connection<Socket> {
    pub(super) fn new(socket: Socket, interest: EpollFlags, now: Tick) -> Self {
        Self {
            machine: Machine::new(now),
            unsent: None,
            interest,
            readable: false,
            to_the_end: false,
            socket,
        }
    }

    /// Does what the kernel says may be done now.
    pub(super) fn on_ready<S>(&mut self, ready: EpollFlags, tools: &mut Tools<'_, S>) -> Served
    where
        S: Sockets<Socket = Socket>,
    {
        let unsent_before = self.unsent_len();
        let mut budget = Budget { receives: tools.receives_per_event, bytes: BYTES_PER_EVENT };
        self.readable |= ready.intersects(MAY_READ);
        self.to_the_end |= ready.intersects(READ_TO_THE_END);
        let progress = ready.intersects(MAY_WRITE) && self.on_writable(tools);
        self.on_readable(tools, &mut budget);
        self.look_for_the_rest(tools);
        if self.machine.step() == Step::FinishWriting {
            self.finish_writing(tools);
            self.on_readable(tools, &mut budget);
        }
        Served { step: self.machine.step(), unsent_before, unsent: self.unsent_len(), progress }
    }

    /// The server stops: what has arrived by now is still echoed.
    pub(super) fn on_stop<S>(&mut self, tools: &mut Tools<'_, S>) -> Served
    where
        S: Sockets<Socket = Socket>,
    {
        if self.machine.phase() == Phase::Open {
            let arrived = tools.call().arrived(&self.socket);
            self.machine.stop(arrived, tools.now);
        }
        self.on_ready(EpollFlags::EPOLLIN, tools)
    }

    /// Its time had come by `at`. Its last bytes may be in the kernel still, behind those of others or
    /// in an event in another thread's hands: it is looked at once more, and ends if that changes
    /// nothing.
    pub(super) fn on_overdue<S>(&mut self, at: Tick, tools: &mut Tools<'_, S>) -> Served
    where
        S: Sockets<Socket = Socket>,
    {
        let served = self.on_ready(EpollFlags::EPOLLIN | EpollFlags::EPOLLOUT, tools);
        if let (Step::Continue, Some(reason)) = (served.step, self.machine.expired(at, &tools.limits)) {
            self.machine.close(reason);
        }
        Served { step: self.machine.step(), ..served }
    }

    /// Receives while there is something, credit and budget; echoes each receive at once.
    fn on_readable<S>(&mut self, tools: &mut Tools<'_, S>, budget: &mut Budget)
    where
        S: Sockets<Socket = Socket>,
    {
        while self.readable && budget.receives > 0 && budget.bytes > 0 {
            let limit = tools.scratch.len().min(self.machine.credit(&tools.limits) as usize);
            if limit == 0 {
                return;
            }
            budget.receives -= 1;
            match tools.call().receive(&self.socket, &mut tools.scratch[..limit]) {
                Ok(0) => {
                    self.readable = false;
                    self.machine.peer_finished();
                }
                Ok(bytes) => {
                    budget.bytes = budget.bytes.saturating_sub(bytes);
                    self.readable =
                        bytes == limit || self.to_the_end || self.machine.reads_only_what_arrived();
                    self.take(bytes, tools);
                }
                Err(Errno::EAGAIN) => {
                    tools.count(Own::WouldBlocks);
                    (self.readable, self.to_the_end) = (false, false);
                    self.machine.would_block();
                }
                Err(Errno::EINTR) => {}
                Err(error) => self.machine.close(CloseReason::of(error)),
            }
        }
    }

    /// A stop counts bytes that may not come (an urgent one is skipped), and nothing reports that
    /// there are none.
    fn look_for_the_rest<S>(&mut self, tools: &Tools<'_, S>)
    where
        S: Sockets<Socket = Socket>,
    {
        let awaits = self.machine.reads_only_what_arrived() && self.machine.credit(&tools.limits) > 0;
        if awaits && tools.call().arrived(&self.socket) == 0 {
            self.machine.would_block();
        }
    }

    /// The first `bytes` of the scratch buffer have arrived.
    fn take<S>(&mut self, bytes: usize, tools: &mut Tools<'_, S>)
    where
        S: Sockets<Socket = Socket>,
    {
        tools.counters.receives.add(1);
        tools.counters.bytes_received.add(bytes as u64);
        if self.machine.discards() {
            self.machine.discarded(bytes as u32);
            tools.counters.bytes_discarded.add(bytes as u64);
            return;
        }
        self.machine.received(bytes as u32, tools.now, &tools.limits);
        let sent = if self.unsent.is_none() { self.send(None, bytes, tools) } else { 0 };
        if sent < bytes && !matches!(self.machine.phase(), Phase::Closing(_)) {
            self.keep(sent..bytes, tools);
        }
    }

    /// The kernel would not take these bytes of the scratch buffer: they move to a copy of its own.
    fn keep<S>(&mut self, rest: std::ops::Range<usize>, tools: &mut Tools<'_, S>) {
        counter(tools.counters, Own::CopiedBytes).add(rest.len() as u64);
        let rest = &tools.scratch[rest];
        match &mut self.unsent {
            Some(unsent) => unsent.append(rest),
            None => {
                self.unsent = Some(tools.spares.copy(rest));
                let _ = self.machine.blocked(tools.now);
            }
        }
    }

    /// Sends the copied bytes as far as the kernel takes them; true when it took some.
    fn on_writable<S>(&mut self, tools: &mut Tools<'_, S>) -> bool
    where
        S: Sockets<Socket = Socket>,
    {
        let Some(mut unsent) = self.unsent.take() else { return false };
        let sent = self.send(Some(unsent.bytes()), unsent.len(), tools);
        unsent.consume(sent);
        if unsent.len() > 0 {
            self.unsent = Some(unsent);
        } else {
            tools.spares.take_back(unsent);
        }
        sent > 0
    }

    /// One send, of the first `length` bytes of the scratch buffer or of `copied`, and its account.
    fn send<S>(&mut self, copied: Option<&[u8]>, length: usize, tools: &mut Tools<'_, S>) -> usize
    where
        S: Sockets<Socket = Socket>,
    {
        loop {
            let bytes = copied.unwrap_or_else(|| &tools.scratch[..length]);
            match tools.call().send(&self.socket, bytes) {
                Ok(sent) => {
                    tools.counters.sends.add(1);
                    tools.counters.bytes_sent.add(sent as u64);
                    tools.counters.short_sends.add(u64::from(sent < length));
                    self.machine.sent(sent as u32, tools.now, &tools.limits);
                    return sent;
                }
                Err(Errno::EAGAIN) => {
                    tools.count(Own::WouldBlocks);
                    return 0;
                }
                // Not an answer: only after one that means "not now" does the kernel report room.
                Err(Errno::EINTR) => {}
                Err(error) => {
                    self.machine.close(CloseReason::of(error));
                    return 0;
                }
            }
        }
    }

    /// Our FIN. What the peer sent in the meantime has been reported, and is remembered.
    fn finish_writing<S>(&mut self, tools: &mut Tools<'_, S>)
    where
        S: Sockets<Socket = Socket>,
    {
        match tools.call().shutdown_write(&self.socket) {
            Ok(()) => self.machine.finished_writing(tools.now),
            Err(error) => self.machine.close(CloseReason::of(error)),
        }
    }

    /// Whether there may be something to read that no event will announce again.
    pub(super) fn has_more(&self, limits: &Limits) -> bool {
        self.readable && self.machine.credit(limits) > 0
    }

    /// Forgets what was reported: the kernel reports it again.
    pub(super) fn forget_readable(&mut self) {
        self.readable = false;
    }

    /// What is worth a report at this moment.
    pub(super) fn wanted(&self, limits: &Limits) -> EpollFlags {
        let mut wanted = EpollFlags::empty();
        if self.machine.credit(limits) > 0 {
            wanted |= EpollFlags::EPOLLIN | EpollFlags::EPOLLRDHUP;
        }
        if self.unsent.is_some() {
            wanted |= EpollFlags::EPOLLOUT;
        }
        wanted
    }

    /// Bytes in the copy of its own.
    pub(super) fn unsent_len(&self) -> usize {
        self.unsent.as_ref().map_or(0, |unsent| unsent.len())
    }

    /// Ends it: the socket is the caller's to close.
    pub(super) fn end(self, spares: &mut Spares) -> Socket {
        if let Some(unsent) = self.unsent {
            spares.take_back(unsent);
        }
        self.socket
    }
}
