//! The fake kernel on the other side: sockets that are opened and connected, to servers of its own. Made
//! from a [`Client`]; everything else, operations, buffers, queues, clock, is the same kernel.

use super::kernel::{InFlight, Kernel};
use super::network::{Connection, Dialed, Ending};
use super::odds::{Odds, happens};
use super::operations::failure;
use super::outcome::{Coverage, Outcome, Side};
use super::peers::Peers;
use super::servers::{Scene, Servers, Told};
use super::{Setup, Sim};
use crate::ring::{Dialing, Memory, Name, Socket};
use fastrand::Rng;
use nix::errno::Errno;
use std::cell::RefCell;
use std::io;
use std::io::Write as _;
use std::net::IpAddr;
use std::rc::Rc;

/// What a fake kernel for a client is made with. [`draw`](Self::draw) draws what the seed decides; a test
/// changes what it is about.
///
/// A test plans what happens from outside ([`Sim::at`], [`Sim::when_quiet`]), such as the wake-up at which
/// the client finds that it is told to end, gives the kernel to the client, and judges at the end: what
/// the client says of itself against [`Sim::told`], [`Sim::facts`] (its `violations` are the client's
/// breaches of the seam) and [`Sim::standing`] (nothing outstanding, lent or open). A client that waits for
/// what will never come breaks a rule (I16) unless something is planned for when it is quiet.
#[derive(Clone, Debug)]
pub struct Client {
    /// Everything drawn follows from it.
    pub seed: u64,
    /// Buffers, a power of two.
    pub buffers: u16,
    /// Bytes in each.
    pub buffer_size: u32,
    /// Entries of the submission queue, at least 1.
    pub sq: usize,
    /// Entries of the completion queue, at least 1.
    pub cq: usize,
    /// Descriptors, or slots where sockets are direct: sockets open at once, at most.
    pub descriptors: u32,
    /// Whether sockets are named by slots.
    pub direct: bool,
    /// Whether one receive brings many buffers.
    pub receive_multishot: bool,
    /// Whether the limit of a multishot receive is obeyed.
    pub obeys_limit: bool,
    /// Whether a send has no completion when all of it is taken.
    pub skips_sent: bool,
    /// Whether a receive wants a buffer when it is armed, not only when bytes come.
    pub buffers_at_arming: bool,
    /// What the client finds.
    pub scene: Scene,
    /// Enters after which it is taken to be stuck.
    pub enters_max: u64,
    /// Told everything that is asked and answered, a line each.
    pub trace: Option<fn(&str)>,
}

impl Client {
    /// A kernel for `connections` sockets at once, at most, and servers that echo everything, in whatever
    /// pieces and at whatever pace. Sizes are small, so that everything that can run out does.
    #[must_use]
    pub fn draw(seed: u64, connections: u32) -> Self {
        // Another stream of numbers than the kernel's.
        let mut random = Rng::with_seed(seed ^ 0x00d1_a100_0000_0000);
        let random = &mut random;
        Self {
            seed,
            buffers: 2 << random.u32(0..7).saturating_sub(1),
            buffer_size: [16, 17, 32, 64, 100, 256][random.usize(0..6)],
            sq: [1, 2, 4, 8, 64, 256][random.usize(0..6)],
            cq: [2, 3, 4, 8, 16, 64, 512][random.usize(0..7)],
            descriptors: connections,
            direct: random.bool(),
            receive_multishot: random.u8(0..8) > 0,
            obeys_limit: random.bool(),
            skips_sent: random.bool(),
            buffers_at_arming: random.u8(0..8) > 0,
            scene: Scene::default(),
            enters_max: 200_000,
            trace: std::env::var_os("C10K_TRACE").is_some().then_some(|line| {
                // A trace is for whoever reads along.
                let _ = writeln!(std::io::stderr(), "{line}");
            }),
        }
    }

    /// The same with connects that fail, sockets that cannot be opened and connections that break.
    #[must_use]
    pub fn rough(mut self) -> Self {
        let mut random = Rng::with_seed(self.seed ^ 0x0020_0612_0000_0000);
        let chance = |random: &mut Rng| [0, 100, 400][random.usize(0..3)];
        self.scene.connect_fails = chance(&mut random);
        self.scene.open_fails = chance(&mut random);
        self.scene.breaks = chance(&mut random);
        self
    }

    /// The kernel, over `memory`: buffer `b` begins `b` strides from its start, and what lies behind the
    /// buffers is the caller's.
    #[must_use]
    pub fn kernel(self, memory: Memory) -> Sim {
        assert!(self.sq >= 1 && self.cq >= 1);
        let mut random = Rng::with_seed(self.seed);
        let mut odds = Odds::draw(&mut random);
        if self.scene.breaks == 0 {
            (odds.lost, odds.at_the_end) = (0, 0);
        }
        let peers = Peers::serving(Servers::draw(&mut random, self.scene.clone()));
        let kernel = Kernel::with(self.setup(memory), random, odds, Coverage::of(Side::Client), peers);
        Sim { kernel: Rc::new(RefCell::new(kernel)) }
    }

    fn setup(self, memory: Memory) -> Setup {
        Setup {
            seed: self.seed,
            memory,
            buffers: self.buffers,
            buffer_size: self.buffer_size,
            sq: self.sq,
            cq: self.cq,
            descriptors: self.descriptors,
            direct: self.direct,
            receive_multishot: self.receive_multishot,
            obeys_limit: self.obeys_limit,
            skips_sent: self.skips_sent,
            buffers_at_arming: self.buffers_at_arming,
            enters_max: self.enters_max,
            trace: self.trace,
            // What is a server's.
            incremental: false,
            classic: false,
            bundle: false,
            receive_most: None,
            keeps_sent: false,
            lends: 0,
            minimum_wait: None,
            thread_submits: false,
            notifies_only: false,
            accept_multishot: false,
            arrived_known: false,
            counts_arrived: false,
            listeners: 0,
            peers: 0,
            idle_timeout: None,
            write_timeout: None,
            linger: 0,
            drain_timeout: 0,
            spill_bounded: false,
        }
    }
}

impl Sim {
    /// The lies that were told, in order. Where the kernel was made for a client.
    #[must_use]
    pub fn told(&self) -> Vec<Told> {
        let kernel = self.kernel.borrow();
        kernel.peers.servers.as_ref().map_or_else(Vec::new, |servers| servers.told.clone())
    }

    /// The number of an open socket, as a [`Plant`](super::Plant) names it.
    #[must_use]
    pub fn number(&self, socket: Socket) -> Option<usize> {
        self.kernel.borrow().network.find(socket.0)
    }
}

impl Dialing for Sim {
    fn open(&mut self, _target: usize, source: Option<IpAddr>) -> io::Result<Socket> {
        Ok(Socket(self.kernel.borrow_mut().open(source.is_some())?))
    }

    fn closed(&mut self, socket: Socket) {
        self.kernel.borrow_mut().closed(socket.0);
    }
}

impl Kernel {
    fn servers(&mut self) -> &mut Servers {
        self.peers.servers.as_mut().expect("a kernel for a server dials nobody")
    }

    fn open(&mut self, bound: bool) -> Result<Name, Errno> {
        self.call();
        let fails = self.servers().scene.open_fails;
        if happens(&mut self.random, fails) {
            if bound && self.random.bool() {
                self.coverage.note(Outcome::OpenSource);
                return Err(Errno::EADDRNOTAVAIL);
            }
            self.coverage.note(Outcome::OpenMemory);
            return Err(if self.random.bool() { Errno::ENOBUFS } else { Errno::ENOMEM });
        }
        let numbers = if self.setup.direct { &self.network.slots } else { &self.network.descriptors };
        if numbers.is_full() {
            self.coverage.note(Outcome::OpenDescriptors);
            return Err(Errno::EMFILE);
        }
        let number = self.network.connections.len();
        let mut room = |least: u64| [least, 200, 2_000, 1 << 16][self.random.usize(0..4)];
        let mut connection = Connection::new(0, 0, room(8), room(4), self.now);
        connection.dialed = Dialed::Fresh;
        self.network.connections.push(connection);
        let name = self.name(number, self.setup.direct).expect("a number was seen to be free");
        self.coverage.note(Outcome::OpenDone);
        self.facts.accepted += 1;
        let servers = self.peers.servers.as_mut().expect("asked for above");
        servers.on_opened(&mut self.random);
        self.trace(|| format!("open: socket {number} is {name:?}"));
        Ok(name)
    }

    /// A slot is free again when the caller says so, a descriptor when it is closed.
    pub(super) fn gives_back_at_close(&self, name: Name) -> bool {
        self.peers.servers.is_none() || matches!(name, Name::Descriptor(_))
    }

    fn closed(&mut self, name: Name) {
        self.call();
        let Name::Slot(slot) = name else { return };
        let number = self.network.find(name);
        let ending = number.map(|number| {
            let connection = &self.network.connections[number];
            (connection.ending, connection.in_flight)
        });
        if ending == Some((Ending::Closed, 0)) {
            self.network.slots.give_back(slot, self.enters);
        } else {
            self.violation(format!("slot {slot} was given back while it is {ending:?}"));
        }
    }

    /// What becomes of a connect is decided when it begins.
    pub(super) fn start_connect(&mut self, index: usize) {
        let number = self.flying[index].connection.expect("a connect names a socket");
        let servers = self.peers.servers.as_mut().expect("a kernel for a server dials nobody");
        let (time, fate) = servers.dial(&mut self.random);
        let at = self.now + time;
        servers.remind(at, number);
        self.network.connections[number].dialed = Dialed::Connecting { at, fate };
    }

    pub(super) fn run_connect(&mut self, op: &InFlight) {
        let number = op.connection.expect("a connect names a socket");
        let Dialed::Connecting { at, fate } = self.network.connections[number].dialed else {
            unreachable!("a connect is checked when it is pushed");
        };
        let late = op.doomed && at <= self.now && happens(&mut self.random, self.odds.cancel_late);
        if op.doomed && !late {
            self.coverage.note(Outcome::ConnectCancelled);
            return self.fail_connect(op.id, number, Errno::ECANCELED);
        }
        if let Some(errno) = fate {
            self.coverage.note(match errno {
                Errno::ECONNREFUSED => Outcome::ConnectRefused,
                Errno::ECONNRESET => Outcome::ConnectReset,
                Errno::EHOSTUNREACH => Outcome::ConnectUnreachable,
                Errno::EADDRNOTAVAIL => Outcome::ConnectPorts,
                _ => Outcome::ConnectTimedOut,
            });
            return self.fail_connect(op.id, number, errno);
        }
        let outcome = if late { Outcome::ConnectCancelledStands } else { Outcome::ConnectStands };
        self.coverage.note(outcome);
        self.network.connections[number].dialed = Dialed::Standing;
        let now = self.now;
        self.servers().on_connected(number, now);
        self.post(op.id, 0, false, None);
    }

    fn fail_connect(&mut self, id: u64, number: usize, errno: Errno) {
        self.network.connections[number].dialed = Dialed::Failed;
        self.post(id, failure(errno), false, None);
    }
}

#[cfg(test)]
mod tests;
