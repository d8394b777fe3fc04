//! One connection of the load, as the engine sees it: who it is, what it has sent and got back, and what
//! the kernel is doing for it. Small and of one size: a hundred thousand of them are held at once.
//!
//! One life: waiting for its turn, connecting, standing, ending (its operations are cancelled), closing.
//! A slot that churns lives many lives, each with a number of its own, which its payload is made of.

use super::super::payload::Verifier;
use super::token::Id;
use crate::ring::Socket;

/// Where in its life a connection is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// It has no socket and waits for its turn, or for the time at which it tries again.
    Waiting,
    /// It has a socket, and a connect is under way.
    Connecting,
    /// It is connected.
    Standing,
    /// Nothing new is asked of it; it is closed when nothing is in flight.
    Ending,
    /// Its close is under way.
    Closing,
    /// It has no socket and gets none any more.
    Gone,
}

/// Whether the kernel has been asked for something that goes on until it ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asked {
    /// No.
    Idle,
    /// It is armed.
    Armed,
    /// It is armed and its cancel is under way.
    Cancelling,
}

/// What follows the close of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Then {
    /// Nothing.
    Leave,
    /// Another attempt at the same connection.
    TryAgain,
    /// The next connection of the slot.
    Next,
}

#[derive(Debug)]
pub(super) struct Connection {
    pub(super) socket: Option<Socket>,
    /// Which life of the slot.
    pub(super) life: u32,
    /// What its payload is made of.
    pub(super) number: u32,
    /// Bytes the kernel took.
    pub(super) sent: u64,
    /// Messages begun, and where the last of them ends, bytes from the connection's first one.
    pub(super) asked: u64,
    pub(super) asked_end: u64,
    /// Messages answered, and where the oldest unanswered one ends.
    pub(super) answered: u64,
    pub(super) answer_end: u64,
    /// The first message that counts where their number ends the run.
    pub(super) first_counted: u64,
    /// When its next message is due, in an open loop.
    pub(super) due: u64,
    /// When a place for another message became free.
    pub(super) free_since: u64,
    /// When its connect or its close began.
    pub(super) began: u64,
    pub(super) verifier: Verifier,
    /// The number of the send in flight among all operations pushed; see `Silent`.
    pub(super) send_number: u32,
    /// Who began to connect before it and behind it, where it connects itself; see `Dialer`.
    pub(super) before: u32,
    pub(super) behind: u32,
    /// Bytes of the send in flight.
    pub(super) offered: u32,
    /// Messages of the window that came back.
    pub(super) messages: u32,
    pub(super) state: State,
    pub(super) then: Then,
    /// Operations the kernel has not finished answering, at most seven.
    pub(super) in_flight: u8,
    pub(super) receiving: Asked,
    /// The watch for room in the socket, from the first time it was full.
    pub(super) room: Asked,
    /// The error of the send that found the connection broken, 0 while none has: it is lost when everything
    /// that came before has been received.
    pub(super) broken: u8,
    /// Attempts in a row that failed: to connect, or lives that came to a bad end.
    pub(super) failed: u8,
    /// True from the moment a send is pushed until it is over.
    pub(super) sending: bool,
    /// True from the moment the kernel took less than it was offered until it reports room.
    pub(super) full: bool,
    /// True while it is among those to be looked at.
    pub(super) touched: bool,
    /// True while its time stands in the heap.
    pub(super) scheduled: bool,
    /// True from the moment a place among the counted messages was taken for a life of a churning slot
    /// until its message was sent.
    pub(super) permitted: bool,
}

impl Connection {
    pub(super) const fn new(number: u32) -> Self {
        Self {
            socket: None,
            life: 0,
            number,
            sent: 0,
            asked: 0,
            asked_end: 0,
            answered: 0,
            answer_end: 0,
            first_counted: u64::MAX,
            due: 0,
            free_since: 0,
            began: 0,
            verifier: Verifier::new(),
            send_number: 0,
            before: u32::MAX,
            behind: u32::MAX,
            offered: 0,
            messages: 0,
            state: State::Waiting,
            then: Then::Leave,
            in_flight: 0,
            receiving: Asked::Idle,
            room: Asked::Idle,
            broken: 0,
            failed: 0,
            sending: false,
            full: false,
            touched: false,
            scheduled: false,
            permitted: false,
        }
    }

    /// Begins another life in the slot: nothing sent, nothing received.
    pub(super) fn renew(&mut self, number: u32) {
        assert!(self.in_flight == 0 && self.socket.is_none(), "a slot is renewed while it is in use");
        *self = Self {
            life: self.life.wrapping_add(1),
            due: self.due,
            messages: self.messages,
            failed: self.failed,
            touched: self.touched,
            scheduled: self.scheduled,
            permitted: self.permitted,
            first_counted: if self.permitted { self.first_counted } else { u64::MAX },
            ..Self::new(number)
        };
    }

    pub(super) const fn id(&self, slot: u32) -> Id {
        Id { slot, life: self.life }
    }

    /// Whether the message it begins next, or began last, is one of those whose number ends the run.
    pub(super) const fn counts(&self) -> bool {
        self.first_counted <= self.asked
    }

    /// Whether it has ended for good, or is about to.
    pub(super) fn is_leaving(&self) -> bool {
        let ending = matches!(self.state, State::Ending | State::Closing);
        self.state == State::Gone || (ending && self.then == Then::Leave)
    }

    /// Messages on their way; of a connection that was lost, those that were.
    pub(super) const fn outstanding(&self) -> u64 {
        self.asked - self.answered
    }

    /// Bytes that were handed to the kernel, taken or not.
    pub(super) const fn handed(&self) -> u64 {
        self.sent + self.offered as u64
    }

    /// Bytes it is owed.
    pub(super) const fn owed(&self) -> u64 {
        self.asked_end.saturating_sub(self.verifier.count())
    }
}

/// When a message should have been sent and when it was.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Stamp {
    /// In a closed loop the same as `sent`.
    pub(super) intended: u64,
    pub(super) sent: u64,
}
