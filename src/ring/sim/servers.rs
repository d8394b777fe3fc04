//! The other ends of a client: echo servers, each connection with a temper of its own, that read and
//! write in what pieces and with what pauses they like, break off where they are to, and tell lies where
//! a test plants them. What they do arrives as events of the virtual clock.
//!
//! The bytes are the client's own, so they are kept on their way; what comes back is exactly what was
//! sent, but for a lie, and every lie is written down.

use super::network::{Connection, Network};
use super::odds::happens;
use super::outcome::Outcome;
use super::peers::World;
use fastrand::Rng;
use nix::errno::Errno;
use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

/// What a client finds. Chances are in a thousand.
#[derive(Clone, Debug, Default)]
pub struct Scene {
    /// That a connect is refused, reset, answered as unreachable or not at all, or finds no port.
    pub connect_fails: u32,
    /// That a socket cannot be opened, for want of memory or because its source is no address of ours.
    pub open_fails: u32,
    /// That a connection is reset, finished early, or said nothing on any more, by its server; and
    /// whether connections may be lost by nobody's doing.
    pub breaks: u32,
    /// Lies.
    pub plants: Vec<Plant>,
}

/// A lie that a server is to tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plant {
    /// To whom: the number of the socket, as they are opened, from 0.
    pub connection: usize,
    /// After how many bytes that were echoed; a little later where the lie cannot be told just there.
    pub offset: u64,
    /// Which.
    pub lie: Lie,
}

/// What a server may do wrong. Where it has fewer bytes at hand it takes what it has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lie {
    /// One bit of a byte is turned over.
    Flip {
        /// Which, from 0.
        bit: u8,
    },
    /// So many bytes are left out.
    Drop {
        /// How many.
        bytes: u32,
    },
    /// So many bytes come twice, one after the other.
    Double {
        /// How many.
        bytes: u32,
    },
    /// Two neighbours of so many bytes change places.
    Swap {
        /// How many.
        bytes: u32,
    },
    /// So many bytes that another connection sent come instead.
    Cross {
        /// How many.
        bytes: u32,
    },
    /// So many bytes that nobody sent come in between; before any was received where the offset is 0.
    Extra {
        /// How many.
        bytes: u32,
    },
    /// Nothing comes any more, and nothing is read, though the connection stands.
    Stall,
    /// The FIN comes though more is owed.
    Finish,
}

impl Lie {
    /// One of the eight, each as likely as any other number below `of`; `None` for the other numbers.
    /// What takes bytes takes `bytes`.
    #[must_use]
    pub fn draw(random: &mut Rng, of: u8, bytes: u32) -> Option<Self> {
        Some(match random.u8(0..of) {
            0 => Self::Flip { bit: random.u8(0..8) },
            1 => Self::Drop { bytes },
            2 => Self::Double { bytes },
            3 => Self::Swap { bytes },
            4 => Self::Cross { bytes },
            5 => Self::Extra { bytes },
            6 => Self::Stall,
            7 => Self::Finish,
            _ => return None,
        })
    }
}

/// A lie that was told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Told {
    /// To whom: the number of the socket.
    pub connection: usize,
    /// The place in the stream that comes back from which on it may be wrong, bytes.
    pub offset: u64,
    /// As it was told: with the bytes that it took.
    pub lie: Lie,
}

/// How a connection breaks off without a lie.
#[derive(Clone, Copy, Debug)]
enum Break {
    Reset,
    Finish,
    Stall,
}

/// How a server treats a connection. Times are microseconds.
#[derive(Clone, Copy, Debug)]
struct Temper {
    /// Bytes it reads, and writes, in one step.
    reads: u64,
    writes: u64,
    /// From one step to the next.
    every: u64,
    /// From the first byte after a silence to the first step.
    holds: u64,
    /// When it breaks off, after so many bytes echoed.
    breaks: Option<(u64, Break)>,
}

/// One connection, as its server sees it.
#[derive(Debug)]
struct Served {
    temper: Temper,
    plant: Option<Plant>,
    /// Taken by the kernel from the client, read by the server, and written but not yet received.
    outbound: VecDeque<u8>,
    pending: VecDeque<u8>,
    inbound: VecDeque<u8>,
    /// Some that it read, to be told to others.
    recent: Vec<u8>,
    /// Bytes of the client's stream that were written back.
    echoed: u64,
    /// The client has sent its FIN.
    shut: bool,
    /// A step is scheduled.
    steps: bool,
    /// Nothing will happen here any more.
    over: bool,
}

/// Bytes of one connection that may be told to another.
const RECENT: usize = 64;

/// All of them.
#[derive(Debug)]
pub(super) struct Servers {
    pub(super) scene: Scene,
    /// By the number of the socket.
    served: Vec<Served>,
    events: BinaryHeap<Reverse<(u64, u64, usize)>>,
    sequence: u64,
    pub(super) told: Vec<Told>,
    /// The longest pauses of this run, microseconds.
    slowness: u64,
    pub(super) healed: bool,
}

impl Servers {
    pub(super) fn draw(random: &mut Rng, scene: Scene) -> Self {
        Self {
            scene,
            served: Vec::new(),
            events: BinaryHeap::new(),
            sequence: 0,
            told: Vec::new(),
            slowness: [20, 500, 5_000, 50_000][random.usize(0..4)],
            healed: false,
        }
    }

    pub(super) fn next_at(&self) -> Option<u64> {
        self.events.peek().map(|Reverse((at, ..))| *at)
    }

    fn schedule(&mut self, at: u64, number: usize) {
        self.sequence += 1;
        self.events.push(Reverse((at, self.sequence, number)));
    }

    /// A socket was opened.
    pub(super) fn on_opened(&mut self, random: &mut Rng) {
        let number = self.served.len();
        let plant = self.scene.plants.iter().find(|plant| plant.connection == number).copied();
        let mut temper = Temper::draw(random, self.slowness);
        // Who tells a lie lives to tell it.
        if plant.is_none() && happens(random, self.scene.breaks) {
            let kind = [Break::Reset, Break::Finish, Break::Stall][random.usize(0..3)];
            let most = [1, 100, 5_000][random.usize(0..3)];
            temper.breaks = Some((random.u64(0..most), kind));
        }
        self.served.push(Served::new(temper, plant));
        if self.healed {
            self.served[number].heal();
        }
    }

    /// How long a connect takes, microseconds, and what becomes of it.
    pub(super) fn dial(&self, random: &mut Rng) -> (u64, Option<Errno>) {
        let soon = random.u64(0..=self.slowness);
        if !happens(random, self.scene.connect_fails) {
            return (soon, None);
        }
        let (time, errno) = match random.u8(0..5) {
            0 => (soon, Errno::ECONNREFUSED),
            1 => (soon, Errno::ECONNRESET),
            2 => (soon, Errno::EHOSTUNREACH),
            3 => (0, Errno::EADDRNOTAVAIL),
            // As long as the kernel tries.
            _ => ([3_000_000, 3_000_000, 127_000_000][random.usize(0..3)], Errno::ETIMEDOUT),
        };
        (time, Some(errno))
    }

    /// Something of this socket's own, such as its connect, will happen then.
    pub(super) fn remind(&mut self, at: u64, number: usize) {
        self.schedule(at, number);
    }

    /// The connection stands.
    pub(super) fn on_connected(&mut self, number: usize, now: u64) {
        if self.served[number].plant.is_some_and(|plant| plant.offset == 0) {
            self.schedule(now, number); // Before anything can have been received.
        }
        self.wake(number, now);
    }

    fn wake(&mut self, number: usize, now: u64) {
        let served = &mut self.served[number];
        if !served.steps && !served.over {
            served.steps = true;
            let at = now + served.temper.holds;
            self.schedule(at, number);
        }
    }

    /// The kernel took bytes from the client.
    pub(super) fn on_sent(&mut self, number: usize, byte: impl Iterator<Item = u8>) {
        self.served[number].outbound.extend(byte);
    }

    /// Called when the kernel has accounted for what it took.
    pub(super) fn on_echoed(&mut self, number: usize, now: u64) {
        self.wake(number, now);
    }

    /// The client receives a byte.
    pub(super) fn receive(&mut self, number: usize) -> u8 {
        self.served[number].inbound.pop_front().expect("what is unread was written")
    }

    /// It received some: there is room again.
    pub(super) fn on_received(&mut self, number: usize, now: u64) {
        if !self.served[number].pending.is_empty() {
            self.wake(number, now);
        }
    }

    /// The client's FIN.
    pub(super) fn on_shut(&mut self, number: usize, now: u64) {
        self.served[number].shut = true;
        self.wake(number, now);
    }

    pub(super) fn on_closed(&mut self, number: usize) {
        self.served[number].over = true;
    }

    /// From now on everything is read and echoed at once, and nothing goes wrong that has not yet.
    pub(super) fn heal(&mut self, now: u64, network: &mut Network) {
        self.healed = true;
        self.slowness = 20;
        self.scene = Scene::default();
        for number in 0..self.served.len() {
            self.served[number].heal();
            let connection = &mut network.connections[number];
            (connection.inbound_room, connection.outbound_room) = (1 << 16, 1 << 16);
            if connection.stands() {
                self.served[number].steps = false;
                self.wake(number, now);
            }
        }
    }

    /// Lets everything happen that is due by `now`.
    pub(super) fn advance(&mut self, now: u64, world: &mut World<'_>) {
        while self.next_at().is_some_and(|at| at <= now) {
            let Some(Reverse((_, _, number))) = self.events.pop() else { return };
            self.step(number, now, world);
        }
    }

    fn step(&mut self, number: usize, now: u64, world: &mut World<'_>) {
        // Two events may come for one step: a reminder is none.
        self.served[number].steps = false;
        let connection = &world.network.connections[number];
        let over = self.served[number].over || connection.is_closed() || connection.broken.is_some();
        if over || !connection.stands() {
            return;
        }
        self.read(number, world);
        self.write(number, world);
        let (served, connection) = (&mut self.served[number], &mut world.network.connections[number]);
        if served.shut && !served.over && served.outbound.is_empty() && served.pending.is_empty() {
            world.coverage.note(Outcome::ServerFinishes);
            connection.finished = true;
            served.over = true;
        }
        let writes = !served.pending.is_empty() && connection.room_to_write() > 0;
        if !served.pending.is_empty() && connection.room_to_write() == 0 {
            world.coverage.note(Outcome::ServerBlocked);
        }
        if !served.over && (writes || !served.outbound.is_empty()) {
            served.steps = true;
            let at = now + served.temper.every;
            self.schedule(at, number);
        }
    }

    fn read(&mut self, number: usize, world: &mut World<'_>) {
        let served = &mut self.served[number];
        let bytes = served.temper.reads.min(served.outbound.len() as u64) as usize;
        let first = served.pending.len();
        served.pending.extend(served.outbound.drain(..bytes));
        world.network.connections[number].peer_read += bytes as u64;
        if bytes > 0 {
            let last = served.pending.len();
            served.recent = served.pending.range(first.max(last.saturating_sub(RECENT))..).copied().collect();
        }
    }

    fn write(&mut self, number: usize, world: &mut World<'_>) {
        let mut room =
            world.network.connections[number].room_to_write().min(self.served[number].temper.writes);
        loop {
            let served = &mut self.served[number];
            if let Some((_, kind)) = served.temper.breaks.take_if(|(at, _)| *at <= served.echoed) {
                return served.break_off(kind, &mut world.network.connections[number], world.coverage);
            }
            if served.plant.is_some_and(|plant| plant.offset <= served.echoed) && self.lie(number, world) {
                continue;
            }
            let served = &mut self.served[number];
            // Up to where something else is to happen.
            let ends = served.temper.breaks.map(|(at, _)| at).into_iter();
            let next = ends.chain(served.plant.map(|plant| plant.offset)).min().unwrap_or(u64::MAX);
            let honest = next.saturating_sub(served.echoed).max(1);
            let bytes = room.min(served.pending.len() as u64).min(honest);
            if bytes == 0 || served.over {
                return;
            }
            if bytes == 1 && served.pending.len() > 1 {
                world.coverage.note(Outcome::ServerByte);
            }
            served.inbound.extend(served.pending.drain(..bytes as usize));
            served.echoed += bytes;
            world.network.connections[number].written += bytes;
            room -= bytes;
        }
    }

    /// Tells the lie that is due. False when it cannot be told here: then later.
    fn lie(&mut self, number: usize, world: &mut World<'_>) -> bool {
        let stranger = self.stranger(number, world.random);
        let served = &mut self.served[number];
        let plant = served.plant.take().expect("the caller saw one");
        let connection = &mut world.network.connections[number];
        let Some((lie, outcome)) = served.tell(plant.lie, &stranger, connection, world.random) else {
            served.plant = Some(plant);
            return false;
        };
        world.coverage.note(outcome);
        self.told.push(Told { connection: number, offset: served.echoed, lie });
        true
    }

    /// Bytes of some other connection.
    fn stranger(&self, number: usize, random: &mut Rng) -> Vec<u8> {
        let others = self.served.iter().enumerate();
        let others: Vec<_> =
            others.filter(|(other, served)| *other != number && !served.recent.is_empty()).collect();
        match others.len() {
            0 => Vec::new(),
            count => others[random.usize(0..count)].1.recent.clone(),
        }
    }
}

impl Served {
    fn new(temper: Temper, plant: Option<Plant>) -> Self {
        Self {
            temper,
            plant,
            outbound: VecDeque::new(),
            pending: VecDeque::new(),
            inbound: VecDeque::new(),
            recent: Vec::new(),
            echoed: 0,
            shut: false,
            steps: false,
            over: false,
        }
    }

    fn heal(&mut self) {
        self.temper = Temper { reads: u64::MAX, writes: u64::MAX, every: 1, holds: 1, breaks: None };
        self.plant = None;
    }

    fn break_off(&mut self, kind: Break, connection: &mut Connection, coverage: &mut super::Coverage) {
        self.over = true;
        match kind {
            Break::Reset => {
                coverage.note(Outcome::ServerResets);
                connection.broken = Some(Errno::ECONNRESET);
            }
            Break::Finish => {
                coverage.note(Outcome::ServerFinishesEarly);
                (connection.finished, connection.peer_gone) = (true, true);
            }
            Break::Stall => coverage.note(Outcome::ServerStalls),
        }
    }

    /// Tells a lie at the front of what is pending, and says what it came to.
    fn tell(
        &mut self,
        lie: Lie,
        stranger: &[u8],
        connection: &mut Connection,
        random: &mut Rng,
    ) -> Option<(Lie, Outcome)> {
        let at_hand = self.pending.len().min(u32::MAX as usize) as u32;
        let some = |bytes: u32, most: u32| Some(bytes.min(most)).filter(|&bytes| bytes > 0);
        let told = match lie {
            Lie::Flip { bit } => {
                *self.pending.front_mut()? ^= 1 << bit;
                (lie, Outcome::LieFlip)
            }
            Lie::Drop { bytes } => {
                let bytes = some(bytes, at_hand)?;
                self.pending.drain(..bytes as usize);
                (Lie::Drop { bytes }, Outcome::LieDrop)
            }
            Lie::Double { bytes } => {
                let bytes = some(bytes, at_hand)?;
                // Always the last of them, which moves up: in the end all stand before themselves.
                for _ in 0..bytes {
                    self.pending.push_front(self.pending[bytes as usize - 1]);
                }
                (Lie::Double { bytes }, Outcome::LieDouble)
            }
            Lie::Swap { bytes } => {
                let bytes = some(bytes, at_hand / 2)?;
                let length = bytes as usize;
                (0..length).for_each(|index| self.pending.swap(index, index + length));
                if (0..length).all(|index| self.pending[index] == self.pending[index + length]) {
                    return None;
                }
                (Lie::Swap { bytes }, Outcome::LieSwap)
            }
            Lie::Cross { bytes } => {
                let bytes = some(bytes, at_hand.min(stranger.len() as u32))?;
                let theirs = stranger[..bytes as usize].iter().copied();
                if theirs.clone().eq(self.pending.iter().copied().take(bytes as usize)) {
                    return None;
                }
                theirs.enumerate().for_each(|(index, byte)| self.pending[index] = byte);
                (Lie::Cross { bytes }, Outcome::LieCross)
            }
            Lie::Extra { bytes } => {
                self.inbound.extend((0..bytes).map(|_| random.u8(..)));
                connection.written += u64::from(bytes);
                (lie, if connection.peer_read == 0 { Outcome::LieEarly } else { Outcome::LieExtra })
            }
            Lie::Stall => {
                self.over = true;
                (lie, Outcome::LieStall)
            }
            Lie::Finish => {
                self.over = true;
                (connection.finished, connection.peer_gone) = (true, true);
                (lie, Outcome::LieFinish)
            }
        };
        Some(told)
    }
}

impl Temper {
    fn draw(random: &mut Rng, slowness: u64) -> Self {
        let pieces = |random: &mut Rng| match random.u8(0..6) {
            // Awkward.
            0 => 1,
            1 => random.u64(1..50),
            2 => random.u64(1..1000),
            _ => u64::MAX,
        };
        let pause = |random: &mut Rng| match random.u8(0..3) {
            0 => 1,
            1 => random.u64(1..=slowness.min(500)),
            _ => random.u64(1..=slowness),
        };
        let (reads, writes) = (pieces(random), pieces(random));
        // Byte by byte it must not take for ever.
        let every = if reads.min(writes) < 50 { random.u64(1..10) } else { pause(random) };
        Self { reads, writes, every, holds: pause(random), breaks: None }
    }
}
