//! Connections as the fake kernel sees them: two streams of bytes of which only the lengths are kept,
//! because the byte at each offset is known; and the peers that follow their scripts.

use fastrand::Rng;

/// Reading at the other end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reading {
    Eager,
    Slow,
    /// Only when everything is written.
    Afterwards,
    Never,
}

/// How the other end comes to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    /// It shuts down its writing side when everything is written, and reads to the end.
    HalfClose,
    /// The same, once everything came back.
    AwaitEcho,
    /// It resets when this much is written.
    Reset(u64),
    /// It stays.
    Stay,
}

/// The other end's script.
#[derive(Clone, Debug)]
pub(super) struct Peer {
    /// Bytes it will write.
    pub(super) total: u64,
    /// The most it writes at once.
    pub(super) piece: u64,
    pub(super) reading: Reading,
    pub(super) ending: Ending,
    /// It does nothing before this time, microseconds.
    pub(super) rests_until: u64,
    /// Microseconds it may rest after writing.
    pub(super) rest: u64,
}

impl Peer {
    pub(super) fn draw(random: &mut Rng) -> Self {
        let most = [0, 1, 40, 300, 1500][random.usize(0..5)];
        let total = random.u64(0..=most);
        Self {
            total,
            piece: [1, 7, 64, 1000][random.usize(0..4)],
            reading: [
                Reading::Eager,
                Reading::Eager,
                Reading::Slow,
                Reading::Slow,
                Reading::Afterwards,
                Reading::Never,
            ][random.usize(0..6)],
            ending: match random.u8(0..8) {
                0..=2 => Ending::HalfClose,
                3..=4 => Ending::AwaitEcho,
                5..=6 => Ending::Reset(random.u64(0..=total)),
                _ => Ending::Stay,
            },
            rests_until: 0,
            rest: [0, 0, 500, 20_000][random.usize(0..4)],
        }
    }

    /// The faults are over: it reads, and comes to an end.
    pub(super) fn heal(&mut self) {
        self.rest = 0;
        self.rests_until = 0;
        self.reading = Reading::Eager;
        if self.ending == Ending::Stay {
            self.ending = Ending::HalfClose;
        }
    }
}

/// What an instance of epoll knows of a socket.
#[derive(Clone, Copy, Debug)]
pub(super) struct Watch {
    pub(super) token: super::Token,
    pub(super) interest: super::EpollFlags,
    /// True from a one-shot report until it is armed again.
    pub(super) disarmed: bool,
    /// Whether it stands in the ready list.
    pub(super) listed: bool,
}

/// One connection. All counts are of bytes since the beginning.
#[derive(Clone, Debug)]
pub(super) struct Connection {
    key: u64,
    pub(super) peer: Peer,
    pub(super) watch: Option<Watch>,
    pub(super) descriptor: Option<u32>,
    /// The server has closed it.
    pub(super) closed: bool,
    /// Whether the other end has nothing more to do.
    pub(super) done: bool,

    /// Written by the peer, arrived here, received by the server.
    pub(super) written: u64,
    pub(super) arrived: u64,
    pub(super) received: u64,
    /// Received after our FIN.
    pub(super) discarded: u64,
    /// The most that can be on its way or unread.
    pub(super) inbound: u64,
    pub(super) finished: bool,
    pub(super) fin_arrived: bool,
    /// The server has received the end.
    pub(super) end_seen: bool,
    /// Before this byte a receive stops once.
    pub(super) urgent: Option<u64>,

    /// Reset by the peer.
    pub(super) broken: bool,
    /// The server was told of the reset.
    pub(super) error_seen: bool,

    /// Taken from the server, read by the peer.
    pub(super) taken: u64,
    pub(super) read: u64,
    /// The most that can be taken and unread.
    pub(super) outbound: u64,
    pub(super) our_fin: bool,
    /// Somebody wants to know of room.
    pub(super) no_space: bool,
    /// The kernel is short of memory for this socket.
    pub(super) short_of_memory: bool,

    /// Bytes the server must echo because they had arrived when it stopped.
    pub(super) promised: Option<u64>,
    /// When bytes were last received; when the server's send last brought something or there was
    /// first something owed; when our FIN went out. Microseconds.
    pub(super) active_at: u64,
    pub(super) progress_at: u64,
    pub(super) fin_at: u64,
}

impl Connection {
    pub(super) fn new(key: u64, random: &mut Rng, now: u64) -> Self {
        Self {
            key,
            peer: Peer::draw(random),
            watch: None,
            descriptor: None,
            closed: false,
            done: false,
            written: 0,
            arrived: 0,
            received: 0,
            discarded: 0,
            inbound: [4, 100, 2000][random.usize(0..3)],
            finished: false,
            fin_arrived: false,
            end_seen: false,
            urgent: None,
            broken: false,
            error_seen: false,
            taken: 0,
            read: 0,
            outbound: [1, 10, 100, 2000][random.usize(0..4)],
            our_fin: false,
            no_space: false,
            short_of_memory: false,
            promised: None,
            active_at: now,
            progress_at: now,
            fin_at: 0,
        }
    }

    /// The byte the peer writes at this offset.
    pub(super) fn byte(&self, offset: u64) -> u8 {
        let mixed =
            (self.key ^ offset.wrapping_mul(0x9e37_79b9_7f4a_7c15)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        (mixed >> 56) as u8
    }

    pub(super) fn unread(&self) -> u64 {
        self.arrived - self.received
    }

    /// What the server owes.
    pub(super) fn owed(&self) -> u64 {
        self.received - self.discarded - self.taken
    }

    pub(super) fn free(&self) -> u64 {
        self.outbound - (self.taken - self.read)
    }

    /// As the kernel judges it: a third of the room is free.
    pub(super) fn is_writable(&self) -> bool {
        !self.short_of_memory && self.free() >= (self.outbound / 3).max(1)
    }
}
