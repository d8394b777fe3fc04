//! The other ends: each follows a script drawn from the seed, and reads what is echoed at a pace of
//! its own. What they do arrives as events of the virtual clock.

use super::network::{Connection, Ending, Network};
use super::odds::{Odds, happens};
use super::outcome::{Coverage, Outcome};
use super::servers::Servers;
use fastrand::Rng;
use nix::errno::Errno;
use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

/// One thing a peer does. Times are microseconds.
#[derive(Clone, Copy, Debug)]
enum Act {
    Send(u32),
    Pause(u64),
    /// Wait until everything sent has come back.
    AwaitEcho,
    Finish,
    Reset,
    Close,
}

#[derive(Clone, Copy, Debug)]
enum Reading {
    Never,
    Paced { bytes: u64, every: u64 },
}

#[derive(Debug)]
struct Peer {
    listener: usize,
    connection: Option<usize>,
    script: VecDeque<Act>,
    reading: Reading,
    inbound_room: u64,
    outbound_room: u64,
    /// An event to read on is scheduled.
    reads: bool,
    done: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Connect(usize),
    Act(usize),
    Read(usize),
}

/// All peers of one run, and what they will do when.
#[derive(Debug)]
pub(super) struct Peers {
    peers: Vec<Peer>,
    events: BinaryHeap<Reverse<(u64, u64, Event)>>,
    sequence: u64,
    healed: bool,
    /// Where the caller is a client: what it connects to, and nobody else is there.
    pub(super) servers: Option<Servers>,
}

impl Peers {
    /// Nobody but `servers`.
    pub(super) fn serving(servers: Servers) -> Self {
        Self {
            peers: Vec::new(),
            events: BinaryHeap::new(),
            sequence: 0,
            healed: false,
            servers: Some(servers),
        }
    }

    pub(super) fn draw(random: &mut Rng, coverage: &mut Coverage, count: usize, listeners: usize) -> Self {
        let mut all =
            Self { peers: Vec::new(), events: BinaryHeap::new(), sequence: 0, healed: false, servers: None };
        let mut connects_at = 0;
        let burst = random.u32(0..1000);
        let silent = [100, 300, 800][random.usize(0..3)];
        for index in 0..count {
            all.peers.push(Peer::draw(random, listeners, silent));
            if index > 0 && happens(random, burst) {
                coverage.note(Outcome::BurstOfConnects);
            } else {
                connects_at += random.u64(0..2_000);
            }
            all.schedule(connects_at, Event::Connect(index));
        }
        all
    }

    fn schedule(&mut self, at: u64, event: Event) {
        self.sequence += 1;
        self.events.push(Reverse((at, self.sequence, event)));
    }

    pub(super) fn next_at(&self) -> Option<u64> {
        let ours = self.events.peek().map(|Reverse((at, ..))| *at);
        ours.into_iter().chain(self.servers.as_ref().and_then(Servers::next_at)).min()
    }

    /// Whether every peer has come to its end.
    pub(super) fn all_done(&self) -> bool {
        self.peers.iter().all(|peer| peer.done)
    }

    /// Peers that have not come to their end, and the bytes they have still to send.
    pub(super) fn remaining(&self) -> (u64, u64) {
        let sends = |act: &Act| if let Act::Send(bytes) = act { u64::from(*bytes) } else { 0 };
        let open = self.peers.iter().filter(|peer| !peer.done);
        open.fold((0, 0), |(peers, bytes), peer| {
            (peers + 1, bytes + peer.script.iter().map(sends).sum::<u64>())
        })
    }

    /// Lets everything happen that is due by `now`.
    pub(super) fn advance(&mut self, now: u64, world: &mut World<'_>) {
        if let Some(servers) = &mut self.servers {
            return servers.advance(now, world);
        }
        while self.next_at().is_some_and(|at| at <= now) {
            let Some(Reverse((_, _, event))) = self.events.pop() else { return };
            match event {
                Event::Connect(peer) => self.connect(peer, now, world),
                Event::Act(peer) => self.act(peer, now, world),
                Event::Read(peer) => self.read(peer, now, world),
            }
        }
    }

    fn connect(&mut self, index: usize, now: u64, world: &mut World<'_>) {
        let peer = &mut self.peers[index];
        let listener = &mut world.network.listeners[peer.listener];
        if listener.closed {
            peer.done = true;
            return;
        }
        let number = world.network.connections.len();
        listener.queue.push_back(number);
        let key = world.key ^ (number as u64).wrapping_mul(0xd6e8_feb8_6659_fd93);
        let connection = Connection::new(key, index, peer.inbound_room, peer.outbound_room, now);
        world.network.connections.push(connection);
        peer.connection = Some(number);
        self.act(index, now, world);
    }

    fn act(&mut self, index: usize, now: u64, world: &mut World<'_>) {
        let peer = &mut self.peers[index];
        let Some(number) = peer.connection else { return };
        let connection = &mut world.network.connections[number];
        while !peer.done && !connection.is_closed() && connection.broken.is_none() {
            let Some(act) = peer.script.front_mut() else { return };
            match act {
                Act::Send(bytes) => {
                    let now_sent = connection.room_to_write().min(u64::from(*bytes));
                    connection.written += now_sent;
                    *bytes -= now_sent as u32;
                    if *bytes > 0 {
                        world.coverage.note(Outcome::PeerBlocked);
                        return;
                    }
                    if matches!(peer.script.get(1), Some(Act::Finish)) && connection.unread() > 0 {
                        world.coverage.note(Outcome::PeerFinishesWithData);
                    }
                }
                Act::Pause(time) => {
                    let at = now + if self.healed { 1 } else { *time };
                    peer.script.pop_front();
                    self.schedule(at, Event::Act(index));
                    return;
                }
                Act::AwaitEcho if connection.peer_read < connection.written => return,
                Act::AwaitEcho => {}
                Act::Finish => connection.finished = true,
                Act::Reset => {
                    world.coverage.note(Outcome::PeerResets);
                    connection.broken = Some(Errno::ECONNRESET);
                    peer.done = true;
                }
                Act::Close if connection.echoed > connection.peer_read => {
                    connection.broken = Some(Errno::ECONNRESET);
                    peer.done = true;
                }
                Act::Close => {
                    connection.finished = true;
                    connection.peer_gone = true;
                    peer.done = true;
                }
            }
            peer.script.pop_front();
        }
    }

    fn read(&mut self, index: usize, now: u64, world: &mut World<'_>) {
        let peer = &mut self.peers[index];
        peer.reads = false;
        let Some(number) = peer.connection else { return };
        let connection = &mut world.network.connections[number];
        let Reading::Paced { bytes, .. } = peer.reading else { return };
        let taken = bytes.min(connection.echoed - connection.peer_read);
        connection.peer_read += taken;
        self.on_echoed(number, now, world.network);
        self.act(index, now, world);
        self.on_closed(number, world.network);
    }

    /// Bytes were echoed: the peer reads them in its own time.
    pub(super) fn on_echoed(&mut self, number: usize, now: u64, network: &Network) {
        if let Some(servers) = &mut self.servers {
            return servers.on_echoed(number, now);
        }
        let connection = &network.connections[number];
        let peer = &mut self.peers[connection.peer];
        let Reading::Paced { every, .. } = peer.reading else { return };
        if !peer.reads && !peer.done && connection.peer_read < connection.echoed {
            peer.reads = true;
            let index = connection.peer;
            self.schedule(now + every, Event::Read(index));
        }
    }

    /// The loop received bytes: a blocked peer writes on.
    pub(super) fn on_received(&mut self, number: usize, now: u64, network: &Network) {
        if let Some(servers) = &mut self.servers {
            return servers.on_received(number, now);
        }
        let index = network.connections[number].peer;
        if matches!(self.peers[index].script.front(), Some(Act::Send(_))) {
            self.schedule(now, Event::Act(index));
        }
    }

    /// The loop closed the connection, or it broke: the peer's life ends when it has read all.
    pub(super) fn on_closed(&mut self, number: usize, network: &Network) {
        if let Some(servers) = &mut self.servers {
            return servers.on_closed(number);
        }
        let connection = &network.connections[number];
        let peer = &mut self.peers[connection.peer];
        let all_read = connection.peer_read == connection.echoed || matches!(peer.reading, Reading::Never);
        if connection.is_closed() && (all_read || connection.broken.is_some()) {
            peer.done = true;
        }
    }

    /// A peer says no more.
    pub(super) fn finish(&mut self, number: usize, network: &mut Network) {
        let connection = &mut network.connections[number];
        match &mut self.servers {
            Some(servers) => servers.on_closed(number),
            None => self.peers[connection.peer].script.clear(),
        }
        connection.finished = true;
    }

    /// Our FIN arrived: a peer that has nothing more to say answers with its own.
    pub(super) fn on_shut(&mut self, number: usize, now: u64, odds_of_answer: u32, world: &mut World<'_>) {
        if let Some(servers) = &mut self.servers {
            return servers.on_shut(number, now);
        }
        let index = world.network.connections[number].peer;
        if self.healed || happens(world.random, odds_of_answer) {
            self.peers[index].script.push_back(Act::Finish);
            self.schedule(now + world.random.u64(0..5_000), Event::Act(index));
        }
    }

    /// From now on everybody reads what there is, says the rest of what it has to say, and finishes.
    pub(super) fn heal(&mut self, now: u64, network: &mut Network) {
        self.healed = true;
        if let Some(servers) = &mut self.servers {
            return servers.heal(now, network);
        }
        for index in 0..self.peers.len() {
            let peer = &mut self.peers[index];
            peer.reading = Reading::Paced { bytes: u64::MAX, every: 1 };
            peer.script.retain(|act| !matches!(act, Act::Reset | Act::Close | Act::Finish));
            peer.script.push_back(Act::Finish);
            peer.inbound_room = 1 << 16;
            peer.outbound_room = 1 << 16;
            peer.reads = false;
            if let Some(number) = peer.connection {
                let connection = &mut network.connections[number];
                connection.inbound_room = 1 << 16;
                connection.outbound_room = 1 << 16;
                self.schedule(now, Event::Act(index));
                self.on_echoed(number, now, network);
                self.on_closed(number, network);
            }
        }
    }
}

/// What a peer acts upon.
pub(super) struct World<'a> {
    pub(super) network: &'a mut Network,
    pub(super) random: &'a mut Rng,
    pub(super) coverage: &'a mut Coverage,
    pub(super) key: u64,
}

impl World<'_> {
    /// Breaks an open connection now and then, for no fault of its peer.
    pub(super) fn lose_somebody(&mut self, odds: &Odds) {
        if self.network.connections.is_empty() || !happens(self.random, odds.lost) {
            return;
        }
        let number = self.random.usize(0..self.network.connections.len());
        let connection = &mut self.network.connections[number];
        if connection.ending != Ending::Closed && connection.broken.is_none() && connection.stands() {
            connection.broken = Some(if self.random.bool() { Errno::ECONNRESET } else { Errno::ETIMEDOUT });
        }
    }
}

impl Peer {
    fn draw(random: &mut Rng, listeners: usize, silent: u32) -> Self {
        let mut script = VecDeque::new();
        let chunk_most = [1, 20, 100, 400][random.usize(0..4)];
        match random.u8(0..7) {
            // Says nothing, now or ever.
            _ if happens(random, silent) => {}
            // Writes all it has and does not wait.
            0 => script.extend((0..random.u8(1..32)).map(|_| Act::Send(random.u32(1..=400)))),
            // Asks and awaits the answer.
            1..=3 => {
                for _ in 0..random.u8(1..16) {
                    script.push_back(Act::Send(random.u32(1..=chunk_most)));
                    script.push_back(Act::AwaitEcho);
                }
            }
            _ => {
                for _ in 0..random.u8(1..20) {
                    script.push_back(Act::Send(random.u32(1..=chunk_most)));
                    if random.bool() {
                        script.push_back(Act::Pause(random.u64(0..20_000)));
                    }
                }
            }
        }
        match random.u8(0..8) {
            _ if script.is_empty() && random.bool() => {}
            0 => script.extend([Act::Pause(random.u64(0..10_000)), Act::Reset]),
            1 => script.insert(random.usize(0..=script.len()), Act::Reset),
            2 => script.push_back(Act::Close),
            3 => {}
            4 => script.extend([Act::AwaitEcho, Act::Close]),
            _ => script.push_back(Act::Finish),
        }
        let reading = match random.u8(0..6) {
            0 => Reading::Never,
            1 => Reading::Paced { bytes: random.u64(1..50), every: random.u64(100..20_000) },
            _ => Reading::Paced { bytes: u64::MAX, every: random.u64(1..500) },
        };
        Self {
            listener: random.usize(0..listeners),
            connection: None,
            script,
            reading,
            inbound_room: [8, 200, 2_000, 1 << 16][random.usize(0..4)],
            outbound_room: [1, 50, 500, 1 << 16][random.usize(0..4)],
            reads: false,
            done: false,
        }
    }
}
