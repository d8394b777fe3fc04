//! That the simulation sees: mistakes are planted by an adapter between the loops and the fake
//! kernel (production code has no hook), and each must be found within the seeds that `cargo test`
//! runs. What is planted stands for a mistake of ours: an offset, a generation, a FIN, a re-arm.

use super::super::sim::{Listener, Sim, Socket};
use super::super::sockets::{EpollFlags, Events, Sockets, Token};
use super::{SEEDS, run_seed};
use crate::conn::ConnId;
use nix::errno::Errno;
use std::cell::Cell;
use std::time::Duration;

/// A mistake. Each is made now and then, not always: most turns are as they should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Bug {
    /// An event is swallowed.
    SwallowedEvent,
    /// A short send is remembered one byte too short.
    ShiftedOffset,
    /// What was received is dropped, and the next received in its place.
    DroppedBytes,
    /// Bytes are taken, and the answer is "not now".
    WouldBlockAfterTaking,
    /// An event carries another generation.
    RewrittenGeneration,
    /// A FIN that came with data is hidden: the event lacks RDHUP and HUP.
    HiddenFin,
    /// An urgent mark is hidden: the event lacks PRI.
    HiddenMark,
    /// A watch is not armed again.
    ForgottenRearm,
    /// A listener is not armed again.
    ForgottenListener,
    /// Room is not asked for when bytes are left.
    RoomNotAskedFor,
    /// A socket's number is closed twice.
    ClosedTwice,
    /// A socket is never closed.
    NeverClosed,
    /// The end is not told to the threads that sleep.
    UntoldEnd,
    /// The end of the stream is reported while bytes are still to come.
    EarlyEnd,
    /// What had arrived at the stop is not asked for.
    NothingArrived,
}

struct Planted {
    sim: Sim,
    bug: Bug,
    /// Occasions so far.
    occasions: Cell<u32>,
}

impl Planted {
    /// True at every third occasion for `bug`, if it is the one that is planted.
    fn strikes(&self, bug: Bug) -> bool {
        if bug == self.bug {
            self.occasions.set(self.occasions.get() + 1);
        }
        bug == self.bug && self.occasions.get().is_multiple_of(3)
    }

    /// The event as the loop gets it; `None` is not at all.
    fn distort(&self, token: Token, ready: EpollFlags) -> Option<(Token, EpollFlags)> {
        let Token::Connection(id) = token else { return Some((token, ready)) };
        if self.strikes(Bug::SwallowedEvent) {
            return None;
        }
        if self.strikes(Bug::RewrittenGeneration) {
            let id = ConnId { generation: id.generation.wrapping_add(1), ..id };
            return Some((Token::Connection(id), ready));
        }
        let ends = EpollFlags::EPOLLRDHUP | EpollFlags::EPOLLHUP;
        if ready.contains(EpollFlags::EPOLLIN) && ready.intersects(ends) && self.strikes(Bug::HiddenFin) {
            return Some((token, ready - ends));
        }
        if ready.contains(EpollFlags::EPOLLPRI) && self.strikes(Bug::HiddenMark) {
            return Some((token, ready - EpollFlags::EPOLLPRI));
        }
        Some((token, ready))
    }
}

impl Sockets for Planted {
    type Socket = Socket;
    type Listener = Listener;

    fn now(&self) -> Duration {
        self.sim.now()
    }

    fn wait(&self, events: &mut Events, until: Option<Duration>) -> Result<(), Errno> {
        self.sim.wait(events, until)?;
        let all: Vec<_> = (0..events.len()).map(|index| events.at(index)).collect();
        events.clear();
        for (token, ready) in all.into_iter().filter_map(|(token, ready)| self.distort(token, ready)) {
            events.push(token, ready);
        }
        Ok(())
    }

    fn watch_listener(&self, listener: &Listener, token: Token, on: EpollFlags) -> Result<(), Errno> {
        self.sim.watch_listener(listener, token, on)
    }

    fn accept(&self, listener: &Listener) -> Result<Socket, Errno> {
        self.sim.accept(listener)
    }

    fn watch(&self, socket: &Socket, token: Token, on: EpollFlags) -> Result<(), Errno> {
        let room =
            if self.strikes(Bug::RoomNotAskedFor) { EpollFlags::EPOLLOUT } else { EpollFlags::empty() };
        self.sim.watch(socket, token, on - room)
    }

    fn receive(&self, socket: &Socket, into: &mut [u8]) -> Result<usize, Errno> {
        let received = self.sim.receive(socket, into)?;
        if received > 0 && self.strikes(Bug::DroppedBytes) {
            return self.sim.receive(socket, into);
        }
        if received > 0 && self.strikes(Bug::WouldBlockAfterTaking) {
            return Err(Errno::EAGAIN);
        }
        if received > 0 && self.strikes(Bug::EarlyEnd) {
            return Ok(0);
        }
        Ok(received)
    }

    fn send(&self, socket: &Socket, bytes: &[u8]) -> Result<usize, Errno> {
        let sent = self.sim.send(socket, bytes)?;
        let shifted = sent > 1 && sent < bytes.len() && self.strikes(Bug::ShiftedOffset);
        Ok(sent - usize::from(shifted))
    }

    fn watch_again(&self, socket: &Socket, token: Token, on: EpollFlags) -> Result<(), Errno> {
        if self.strikes(Bug::ForgottenRearm) {
            return Ok(());
        }
        let room = if on.contains(EpollFlags::EPOLLOUT) && self.strikes(Bug::RoomNotAskedFor) {
            EpollFlags::EPOLLOUT
        } else {
            EpollFlags::empty()
        };
        self.sim.watch_again(socket, token, on - room)
    }

    fn watch_listener_again(&self, listener: &Listener, token: Token, on: EpollFlags) -> Result<(), Errno> {
        if self.strikes(Bug::ForgottenListener) {
            return Ok(());
        }
        self.sim.watch_listener_again(listener, token, on)
    }

    fn arrived(&self, socket: &Socket) -> u32 {
        let arrived = self.sim.arrived(socket);
        if arrived > 0 && self.strikes(Bug::NothingArrived) { 0 } else { arrived }
    }

    fn shutdown_write(&self, socket: &Socket) -> Result<(), Errno> {
        self.sim.shutdown_write(socket)
    }

    fn close(&self, socket: Socket) {
        if self.strikes(Bug::NeverClosed) {
            return;
        }
        let twice = self.strikes(Bug::ClosedTwice);
        if twice {
            self.sim.close(socket.duplicate());
        }
        self.sim.close(socket);
    }

    fn close_listener(&self, listener: Listener) {
        self.sim.close_listener(listener);
    }

    fn wake_others(&self) {
        self.sim.wake_others();
    }

    fn wake_for_good(&self) {
        if self.bug != Bug::UntoldEnd {
            self.sim.wake_for_good();
        }
    }
}

/// How many seeds it takes until `bug` is found.
#[track_caller]
fn found(bug: Bug) {
    let plant = |sim| Planted { sim, bug, occasions: Cell::new(0) };
    let first = (0..SEEDS).find_map(|seed| run_seed(seed, plant).fault);
    let fault = first.unwrap_or_else(|| panic!("{bug:?} was not found in {SEEDS} seeds"));
    println!("{bug:?}: {}", fault.lines().next().unwrap_or_default());
}

#[test]
fn planted_bugs_are_found() {
    for bug in [
        Bug::SwallowedEvent,
        Bug::ShiftedOffset,
        Bug::DroppedBytes,
        Bug::WouldBlockAfterTaking,
        Bug::RewrittenGeneration,
        Bug::HiddenFin,
        Bug::HiddenMark,
        Bug::ForgottenRearm,
        Bug::ForgottenListener,
        Bug::RoomNotAskedFor,
        Bug::ClosedTwice,
        Bug::NeverClosed,
        Bug::UntoldEnd,
        Bug::EarlyEnd,
        Bug::NothingArrived,
    ] {
        found(bug);
    }
}
