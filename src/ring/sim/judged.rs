//! What a loop asks and hears where a ring that only notifies stands between it and the fake kernel: held
//! against the same rules as if the kernel itself had been asked, and entered in the same accounts. That
//! ring and the kernel settle among themselves how it is done; see `calls`.

use super::super::{Completion, Entered, Listening, Operation, Ring, Socket, Span, Token};
use super::Sim;
use super::completions::Posted;
use super::kernel::Kernel;
use nix::errno::Errno;
use std::time::Duration;

/// Something a loop has asked for and was not answered for the last time.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asked {
    pub(super) token: Token,
    pub(super) operation: Operation,
    pub(super) connection: Option<usize>,
}

impl Kernel {
    /// A loop asks for something. False where that breaks a rule.
    fn hear(&mut self, operation: Operation, token: Token) -> bool {
        self.call();
        self.trace(|| format!("asked for {operation:?} {:x}", token.0));
        if let Err(what) = self.check(operation) {
            self.violation(what);
            return false;
        }
        self.outstanding += 1;
        let connection = operation.socket().and_then(|socket| self.network.find(socket.0));
        self.asked.push(Asked { token, operation, connection });
        true
    }

    /// A loop is told something.
    fn tell(&mut self, completion: Completion) {
        if self.neighbour.as_ref().is_some_and(|neighbour| neighbour.arrival == completion.token) {
            self.facts.accepted += 1;
            return;
        }
        let Some(index) = self.asked.iter().position(|asked| asked.token == completion.token) else {
            return self.violation(format!("{completion:x?} answers nothing that was asked for"));
        };
        let Asked { operation, connection, .. } = self.asked[index];
        if !completion.more {
            self.asked.remove(index);
        }
        self.hand_over(&Posted { completion, operation, connection, notice: false });
        let waits = matches!(operation, Operation::Receive { .. });
        if waits && completion.outcome() == Err(Errno::EAGAIN) {
            self.violation(format!("{operation:?} waits, and was answered by EAGAIN"));
        }
        if let Some(number) = connection {
            self.check_account(number);
        }
    }

    /// Whether what a loop was told of a connection is true.
    fn check_account(&mut self, number: usize) {
        let connection = &self.network.connections[number];
        let wrong = match () {
            () if connection.read_taken > connection.read => "more bytes than were received",
            () if connection.echoed_taken > connection.echoed => "more bytes than were sent",
            () if connection.end_taken && !connection.finished => "an end that has not come",
            () if connection.error_taken && connection.broken.is_none() => "an error that did not happen",
            () => return,
        };
        self.violation(format!("I3: the loop was told of {wrong} on connection {number}"));
    }
}

/// A ring over the fake kernel, and a judge before it.
pub struct Judged<R> {
    ring: R,
    sim: Sim,
}

impl<R: Listening> Judged<R> {
    /// For `ring`, which was set up over `sim`.
    #[must_use]
    pub fn new(ring: R, sim: Sim) -> Self {
        Self { ring, sim }
    }
}

impl<R: Listening> Ring for Judged<R> {
    fn push(&mut self, operation: Operation, token: Token) {
        if self.sim.kernel.borrow_mut().hear(operation, token) {
            self.ring.push(operation, token);
        }
    }

    fn enter(&mut self, wait_for: u32, until: Option<Duration>) -> Entered {
        self.ring.enter(wait_for, until)
    }

    fn next_completion(&mut self) -> Option<Completion> {
        let done = self.ring.next_completion()?;
        self.sim.kernel.borrow_mut().tell(done);
        Some(done)
    }

    fn provide(&mut self, buffer: u16) {
        self.sim.kernel.borrow_mut().provide(buffer);
        self.ring.provide(buffer);
    }

    fn publish(&mut self) {
        self.sim.kernel.borrow_mut().publish();
        self.ring.publish();
    }

    fn now(&mut self) -> Duration {
        self.ring.now()
    }

    fn obeys_limit(&self) -> bool {
        self.ring.obeys_limit()
    }

    fn skips_sent(&self) -> bool {
        self.ring.skips_sent()
    }

    fn keeps_sent(&self) -> bool {
        self.ring.keeps_sent()
    }

    fn lends(&self) -> usize {
        self.ring.lends()
    }

    fn lend(&mut self, group: u32, span: Span) {
        self.ring.lend(group, span);
    }

    fn take_back(&mut self, group: u32) {
        self.ring.take_back(group);
    }

    fn pushed(&self) -> u64 {
        self.ring.pushed()
    }

    fn answered(&mut self) -> u64 {
        self.ring.answered()
    }

    fn overflows(&self) -> u64 {
        self.ring.overflows()
    }

    fn enters(&self) -> u64 {
        self.ring.enters()
    }
}

impl<R: Listening> Listening for Judged<R> {
    fn accepted(&self, result: u32) -> Socket {
        self.ring.accepted(result)
    }

    fn accept_queued(&mut self, listener: usize) -> Result<Socket, Errno> {
        self.ring.accept_queued(listener)
    }

    fn close_listener(&mut self, listener: usize) {
        self.ring.close_listener(listener);
    }

    fn arrived(&mut self, socket: Socket) -> Option<u32> {
        self.ring.arrived(socket)
    }

    fn counts_arrived(&self) -> bool {
        self.ring.counts_arrived()
    }

    fn wake_others(&mut self) {
        self.ring.wake_others();
    }
}
