//! Connections as pairs of byte streams, the queue of each listener, and the tables of numbers that
//! sockets are named by. A stream's payload is a function of its key and the offset, so nothing is
//! stored, and a byte on the wrong connection or at the wrong place is seen.

use super::super::Name;
use nix::errno::Errno;
use std::collections::VecDeque;

/// The byte a peer with this key sends at this offset, and expects back there.
pub(super) fn payload(key: u64, offset: u64) -> u8 {
    let mut word = key ^ (offset / 8).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    (word ^ (word >> 31)).to_le_bytes()[(offset % 8) as usize]
}

/// One connection, as the kernel sees it. Times are microseconds of the virtual clock.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) key: u64,
    pub(super) peer: usize,
    /// What the loop calls it, from accept to close.
    pub(super) name: Option<Name>,

    /// Bytes the peer wrote, and those of them the loop received.
    pub(super) written: u64,
    pub(super) read: u64,
    /// How many may be written and not received.
    pub(super) inbound_room: u64,
    /// The peer sent its FIN.
    pub(super) finished: bool,
    /// The peer's socket is gone: what is sent to it breaks the connection.
    pub(super) peer_gone: bool,

    /// Bytes the kernel took from the loop, and those of them the peer read.
    pub(super) echoed: u64,
    pub(super) peer_read: u64,
    /// How many may be taken and not read.
    pub(super) outbound_room: u64,
    /// When our FIN went out.
    pub(super) shut_at: Option<u64>,

    /// Of both, what the loop has been told.
    pub(super) read_taken: u64,
    pub(super) echoed_taken: u64,

    pub(super) broken: Option<Errno>,
    pub(super) ending: Ending,
    pub(super) dialed: Dialed,

    /// Operations whose last completion the loop has not taken, by kind.
    pub(super) in_flight: u32,
    pub(super) receiving: u32,
    pub(super) sending: u32,
    /// Sends that were answered, and whose bytes the kernel still reads.
    pub(super) kept: u32,
    /// Receives asked for so far.
    pub(super) receives: u64,

    /// Whether it was given to another worker.
    pub(super) handed: Handed,

    /// Where the peer sends an urgent byte, which is none of the others: a call receives up to there, or
    /// from there on.
    pub(super) urgent: Option<u64>,
    /// What its watch has told.
    pub(super) heard: Heard,
    /// A call found nothing to receive, and no watch has spoken since.
    pub(super) dry: bool,

    /// The loop knows that the peer finished, or that the connection failed.
    pub(super) end_taken: bool,
    pub(super) error_taken: bool,
    /// When the loop last took bytes or the connection, and when it last heard that bytes were sent.
    pub(super) active_at: u64,
    pub(super) progress_at: u64,
    /// The enter in which bytes were last received.
    pub(super) received_in: u64,
    pub(super) ever_received: bool,
    /// The last send found no room.
    pub(super) full: bool,
    /// The loop has cancelled its receive, and armed none since.
    pub(super) receive_cancelled: bool,
    /// By then it had taken nothing of what it was owed for the write timeout: what it takes while the loop
    /// closes it changes nothing.
    pub(super) stuck_at_cancel: bool,
    /// The loop has been told that less was taken than it offered.
    pub(super) was_blocked: bool,
    /// Bytes that had been written when the server was told to stop.
    pub(super) written_at_stop: Option<u64>,
}

/// What a watch has told of a connection, and does not tell again.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Heard {
    /// Bytes the peer had written then.
    pub(super) written: u64,
    /// Its FIN.
    pub(super) end: bool,
    /// That the connection is broken.
    pub(super) error: bool,
}

/// Whether a connection was given to another worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Handed {
    /// No.
    Not,
    /// Yes; a slot here names it too until that is closed.
    Away,
    /// The other's table holds it, and nobody there knows.
    Stranded,
}

/// How far the loop's side has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    /// Waiting in a listener's queue.
    Queued,
    /// Accepted, not closed.
    Open,
    /// A close is on its way.
    Closing,
    /// Gone.
    Closed,
}

/// How far the connection of a socket has come. One that was accepted stands from the beginning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Dialed {
    /// Opened, not connected.
    Fresh,
    /// What will become of the connect, and when.
    Connecting { at: u64, fate: Option<Errno> },
    /// It stands, and the caller has not heard of it.
    Standing,
    /// It stands, and the caller knows.
    Known,
    /// It did not come about.
    Failed,
}

impl Connection {
    pub(super) fn new(key: u64, peer: usize, inbound_room: u64, outbound_room: u64, now: u64) -> Self {
        Self {
            key,
            peer,
            name: None,
            written: 0,
            read: 0,
            inbound_room,
            finished: false,
            peer_gone: false,
            echoed: 0,
            peer_read: 0,
            outbound_room,
            shut_at: None,
            read_taken: 0,
            echoed_taken: 0,
            broken: None,
            ending: Ending::Queued,
            dialed: Dialed::Known,
            in_flight: 0,
            kept: 0,
            receiving: 0,
            sending: 0,
            receives: 0,
            handed: Handed::Not,
            urgent: None,
            heard: Heard::default(),
            dry: false,
            end_taken: false,
            error_taken: false,
            active_at: now,
            progress_at: now,
            received_in: 0,
            ever_received: false,
            full: false,
            receive_cancelled: false,
            stuck_at_cancel: false,
            was_blocked: false,
            written_at_stop: None,
        }
    }

    pub(super) fn unread(&self) -> u64 {
        self.written - self.read
    }

    pub(super) fn readable(&self) -> bool {
        self.unread() > 0 || self.finished || self.broken.is_some()
    }

    pub(super) fn room_to_write(&self) -> u64 {
        self.inbound_room.saturating_sub(self.unread())
    }

    pub(super) fn room_to_echo(&self) -> u64 {
        self.outbound_room.saturating_sub(self.echoed - self.peer_read)
    }

    /// Whether something that had arrived when the server was told to stop was not echoed.
    pub(super) fn owes_what_had_arrived(&self) -> bool {
        self.written_at_stop.is_some_and(|written| self.echoed < written)
    }

    pub(super) fn stands(&self) -> bool {
        matches!(self.dialed, Dialed::Standing | Dialed::Known)
    }

    pub(super) fn is_closed(&self) -> bool {
        self.ending == Ending::Closed
    }
}

/// Numbers for sockets: the lowest free one is given out, and one given back is used again at once.
#[derive(Debug)]
pub(super) struct Numbers {
    first: u32,
    holders: Vec<Option<usize>>,
    limit: usize,
    /// The enter in which each was last given back.
    freed_in: Vec<u64>,
}

impl Numbers {
    pub(super) fn new(first: u32, limit: u32) -> Self {
        Self { first, holders: Vec::new(), limit: limit as usize, freed_in: Vec::new() }
    }

    pub(super) fn is_full(&self) -> bool {
        self.holders.len() >= self.limit && self.holders.iter().all(Option::is_some)
    }

    /// The number, and whether it was given back in this enter.
    pub(super) fn take(&mut self, connection: usize, enter: u64) -> Option<(u32, bool)> {
        let index = match self.holders.iter().position(Option::is_none) {
            Some(index) => index,
            None if self.holders.len() < self.limit => {
                self.holders.push(None);
                self.freed_in.push(u64::MAX);
                self.holders.len() - 1
            }
            None => return None,
        };
        self.holders[index] = Some(connection);
        Some((self.first + index as u32, self.freed_in[index] == enter))
    }

    pub(super) fn holder(&self, number: u32) -> Option<usize> {
        *self.holders.get(number.checked_sub(self.first)? as usize)?
    }

    /// The number of a connection, if it has one here.
    pub(super) fn number_of(&self, connection: usize) -> Option<u32> {
        let index = self.holders.iter().position(|holder| *holder == Some(connection))?;
        Some(self.first + index as u32)
    }

    pub(super) fn give_back(&mut self, number: u32, enter: u64) {
        let index = (number - self.first) as usize;
        assert!(self.holders[index].take().is_some());
        self.freed_in[index] = enter;
    }

    pub(super) fn held(&self) -> usize {
        self.holders.iter().flatten().count()
    }
}

/// A listener: connections that have arrived and were not accepted.
#[derive(Debug, Default)]
pub(super) struct Listener {
    pub(super) queue: VecDeque<usize>,
    pub(super) closed: bool,
    /// An attempt to accept failed for want of a descriptor since the stop.
    pub(super) starved: bool,
}

/// Everything the kernel knows of the network.
#[derive(Debug)]
pub(super) struct Network {
    pub(super) connections: Vec<Connection>,
    pub(super) listeners: Vec<Listener>,
    pub(super) descriptors: Numbers,
    pub(super) slots: Numbers,
}

impl Network {
    pub(super) fn numbers(&mut self, name: Name) -> (&mut Numbers, u32) {
        match name {
            Name::Descriptor(number) => (&mut self.descriptors, number as u32),
            Name::Slot(number) => (&mut self.slots, number),
        }
    }

    /// Who is called `name` now.
    pub(super) fn find(&self, name: Name) -> Option<usize> {
        match name {
            Name::Descriptor(number) => self.descriptors.holder(u32::try_from(number).ok()?),
            Name::Slot(number) => self.slots.holder(number),
        }
    }

    pub(super) fn open(&self) -> usize {
        self.descriptors.held() + self.slots.held()
    }
}
