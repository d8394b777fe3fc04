//! Bugs planted between the ring that only notifies and the fake kernel: what it is told, or believes to have
//! been told, of a socket. Each must be found within the seeds that `cargo test` runs.

use super::{Eyes, SEEDS, run_polled_seed};
use crate::ring::calls::Calls;
use crate::ring::sim::Sim;
use crate::ring::{Completion, Entered, Listening, Operation, Ring, Socket, Token};
use nix::errno::Errno;
use std::collections::{HashSet, VecDeque};
use std::time::Duration;

/// What is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Bug {
    /// Now and then news of bytes, of the end or of room is not remembered.
    EdgeForgotten,
    /// A watch that ended is not renewed.
    WatchNotRenewed,
    /// A watch that never began is not asked for again.
    WatchNotBegun,
    /// The end that comes in one with bytes is not seen behind them.
    EndBehindBytesForgotten,
    /// An urgent mark is not seen behind the bytes.
    UrgentMarkForgotten,
    /// News of room is not remembered.
    RoomForgotten,
    /// A receive that found nothing is not remembered, and tried again.
    EmptyForgotten,
    /// A receive that found nothing is taken for the end.
    EmptyTakenForEnd,
    /// An interrupted send is taken for a whole one.
    InterruptionTakenForSent,
    /// A socket is closed while it is still watched.
    ClosedBeforeUnwatched,
}

const ENDED: i32 = (libc::POLLRDHUP | libc::POLLHUP | libc::POLLERR) as i32;
const URGENT: i32 = libc::POLLPRI as i32;
const OUT: i32 = libc::POLLOUT as i32;
const CANCELLED: i32 = -(Errno::ECANCELED as i32);

/// A kernel that is misheard.
struct Misheard {
    kernel: Sim,
    bug: Bug,
    /// The tokens of watches.
    watches: HashSet<u64>,
    /// Completions made up.
    forged: VecDeque<Completion>,
    count: u64,
}

impl Misheard {
    fn new(kernel: Sim, bug: Bug) -> Self {
        Self { kernel, bug, watches: HashSet::new(), forged: VecDeque::new(), count: 0 }
    }

    /// True once in `every` times.
    fn now_and_then(&mut self, every: u64) -> bool {
        self.count += 1;
        self.count.is_multiple_of(every)
    }

    /// What a watch says as the bug has it; `None` when it swallows it.
    fn distort(&mut self, mut done: Completion) -> Option<Completion> {
        let bug = self.bug;
        match bug {
            Bug::EdgeForgotten if done.more && self.now_and_then(10) => return None,
            Bug::WatchNotRenewed if done.result > 0 => done.more = true,
            Bug::WatchNotBegun if done.result < 0 && done.result != CANCELLED => {
                (done.result, done.more) = (OUT, true);
            }
            Bug::EndBehindBytesForgotten if done.result > 0 => done.result &= !ENDED,
            Bug::UrgentMarkForgotten if done.result > 0 => done.result &= !URGENT,
            Bug::RoomForgotten if done.more => {
                done.result &= !OUT;
                return Some(done).filter(|done| done.result != 0);
            }
            _ => {}
        }
        Some(done)
    }
}

impl Ring for Misheard {
    fn push(&mut self, operation: Operation, token: Token) {
        match operation {
            Operation::Watch { .. } => {
                self.watches.insert(token.0);
            }
            Operation::Cancel { target }
                if self.bug == Bug::ClosedBeforeUnwatched && self.watches.contains(&target.0) =>
            {
                self.forged.push_back(Completion::bare(target, CANCELLED, false));
            }
            _ => {}
        }
        self.kernel.push(operation, token);
    }

    fn enter(&mut self, wait_for: u32, until: Option<Duration>) -> Entered {
        let wait_for = if self.forged.is_empty() { wait_for } else { 0 };
        self.kernel.enter(wait_for, until)
    }

    fn next_completion(&mut self) -> Option<Completion> {
        if let Some(forged) = self.forged.pop_front() {
            return Some(forged);
        }
        loop {
            let done = self.kernel.next_completion()?;
            if !self.watches.contains(&done.token.0) {
                return Some(done);
            }
            if let Some(done) = self.distort(done) {
                return Some(done);
            }
        }
    }

    fn provide(&mut self, _: u16) {
        unreachable!("the kernel picks no buffers");
    }

    fn publish(&mut self) {
        unreachable!("the kernel picks no buffers");
    }

    fn now(&mut self) -> Duration {
        self.kernel.now()
    }

    fn obeys_limit(&self) -> bool {
        self.kernel.obeys_limit()
    }

    fn overflows(&self) -> u64 {
        self.kernel.overflows()
    }

    fn enters(&self) -> u64 {
        self.kernel.enters()
    }
}

impl Listening for Misheard {
    fn accepted(&self, result: u32) -> Socket {
        self.kernel.accepted(result)
    }

    fn accept_queued(&mut self, listener: usize) -> Result<Socket, Errno> {
        self.kernel.accept_queued(listener)
    }

    fn close_listener(&mut self, listener: usize) {
        self.kernel.close_listener(listener);
    }

    fn arrived(&mut self, socket: Socket) -> Option<u32> {
        self.kernel.arrived(socket)
    }

    fn wake_others(&mut self) {
        self.kernel.wake_others();
    }
}

impl Calls for Misheard {
    fn receive(&mut self, socket: Socket, room: &mut [u8]) -> Result<usize, Errno> {
        match self.kernel.receive(socket, room) {
            Err(Errno::EAGAIN) if self.bug == Bug::EmptyTakenForEnd => Ok(0),
            Err(Errno::EAGAIN) if self.bug == Bug::EmptyForgotten => Err(Errno::EINTR),
            received => received,
        }
    }

    fn send(&mut self, socket: Socket, bytes: &[u8]) -> Result<usize, Errno> {
        match self.kernel.send(socket, bytes) {
            Err(Errno::EINTR) if self.bug == Bug::InterruptionTakenForSent => Ok(bytes.len()),
            sent => sent,
        }
    }

    fn shut_down(&mut self, socket: Socket) -> Result<(), Errno> {
        self.kernel.shut_down(socket)
    }

    fn close(&mut self, socket: Socket) -> Result<(), Errno> {
        self.kernel.close(socket)
    }

    fn has_queued(&mut self) -> bool {
        self.kernel.has_queued()
    }
}

/// The first seed that finds the bug by a rule whose text contains `rule`, and what it says.
#[track_caller]
fn found(bug: Bug, rule: &str) {
    let fault = |seed| run_polled_seed(seed, Eyes::Kernel, |sim| Misheard::new(sim, bug))?.fault;
    let first = (0..SEEDS).filter_map(fault).find(|fault| fault.contains(rule));
    let first = first.unwrap_or_else(|| panic!("{SEEDS} seeds do not find {bug:?} by {rule:?}"));
    println!("{bug:?}: {}", first.lines().next().unwrap_or_default());
}

/// One test for each bug, by the kernel's eyes alone.
macro_rules! is_found {
    ($($name:ident: $bug:ident, $rule:literal;)*) => {
        $(#[test]
        fn $name() {
            found(Bug::$bug, $rule);
        })*
    };
}

is_found! {
    a_forgotten_edge_is_found: EdgeForgotten, "I16";
    a_watch_that_ended_and_is_not_renewed_is_found: WatchNotRenewed, "I16";
    a_watch_that_never_began_and_is_not_renewed_is_found: WatchNotBegun, "I16";
    an_end_forgotten_behind_bytes_is_found: EndBehindBytesForgotten, "I16";
    an_urgent_mark_forgotten_behind_bytes_is_found: UrgentMarkForgotten, "I16";
    forgotten_news_of_room_is_found: RoomForgotten, "I16";
    an_empty_socket_that_is_not_remembered_is_found: EmptyForgotten, "received from once more";
    an_empty_socket_taken_for_an_ended_one_is_found: EmptyTakenForEnd, "I3";
    an_interrupted_call_taken_for_a_sent_one_is_found: InterruptionTakenForSent, "I3";
    a_socket_closed_while_it_is_watched_is_found: ClosedBeforeUnwatched, "while the ring watches it";
}
