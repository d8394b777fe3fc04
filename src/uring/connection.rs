//! One connection: the policy's part, and what only a completion server has to know of it. Part of the
//! event loop, which keeps it.

use super::buffers::LeaseQueue;
use crate::conn::{Machine, Tick};
use crate::ring::Socket;

/// Whether the kernel watches for room in a socket, until further notice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Watching {
    /// No.
    Idle,
    /// The watch is armed.
    Armed,
    /// It is armed and its cancel is under way.
    Cancelling,
}

/// What the kernel has been asked of what a connection receives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Receiving {
    /// Nothing.
    Idle,
    /// A receive is armed.
    Armed,
    /// A receive is armed and its cancel is under way.
    Cancelling,
    /// To count what has arrived by the stop; nothing is received meanwhile.
    Counting,
}

/// Whether the kernel may read a buffer that a send without a copy is from; at most one of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kept {
    /// It reads none.
    Nothing,
    /// That send is in flight, from the buffer of this number.
    Sending(u32),
    /// It took bytes of the buffer of this number, and has not said that it is done with them.
    Taken(u32),
}

/// How far a connection has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// It is served.
    Serving,
    /// Our FIN has been asked for.
    Finishing,
    /// Its operations are cancelled in order to close it; it stands in no queue.
    Ending {
        /// Whether a send, perhaps from the spill area, was still in flight when that began.
        holds_chunk: bool,
    },
    /// Its close has been asked for.
    Closing,
}

/// One connection: the policy's part, and what only a completion server has to know.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) machine: Machine,
    pub(super) socket: Socket,
    pub(super) queue: LeaseQueue,
    /// Bytes of the send in flight that the kernel has not taken yet.
    pub(super) offered: u32,
    /// Operations the kernel has not finished answering. The slot is free again only after the
    /// close has been answered, and the close is asked for only at 0.
    pub(super) in_flight: u8,
    pub(super) receiving: Receiving,
    /// The watch for room in the socket, from the first time it was full.
    pub(super) room: Watching,
    /// True from the moment a send is submitted until it is over.
    pub(super) sending: bool,
    /// Whether that send is of several leases, lent to the ring under the number of the slot.
    pub(super) lends: bool,
    /// The send whose bytes the kernel may go on reading.
    pub(super) kept: Kept,
    /// True once the kernel refused to send without a copy, or several buffers at once: the plain way is left.
    pub(super) copies: bool,
    /// True from the moment the kernel took less than it was offered until it reports room.
    pub(super) full: bool,
    /// The number of the send in flight among all operations pushed; see `Silent`.
    pub(super) send_number: u64,
    pub(super) stage: Stage,
    /// True while it is among those to be looked at after the batch.
    pub(super) touched: bool,
}

impl Connection {
    pub(super) const fn new(socket: Socket, now: Tick) -> Self {
        Self {
            machine: Machine::new(now),
            socket,
            queue: LeaseQueue::EMPTY,
            offered: 0,
            in_flight: 0,
            receiving: Receiving::Idle,
            room: Watching::Idle,
            sending: false,
            lends: false,
            kept: Kept::Nothing,
            copies: false,
            full: false,
            send_number: 0,
            stage: Stage::Serving,
            touched: false,
        }
    }

    /// Operations in flight that do not stand in the way of a close: the kernel may read a buffer for as long
    /// as the peer does not read, and only the close may end that.
    pub(super) const fn awaits_notice(&self) -> u8 {
        matches!(self.kept, Kept::Taken(_)) as u8
    }

    pub(super) const fn is_ending(&self) -> bool {
        matches!(self.stage, Stage::Ending { .. } | Stage::Closing)
    }
}
