//! The fake kernel's state, its two queues, its clock, and what an enter does. What becomes of the
//! single operations is in [`super::operations`].

use super::super::{Entered, Name, Operation, Span, Token};
use super::arrivals::Neighbour;
use super::buffers::{Buffers, Owner};
use super::completions::Posted;
use super::handing::Elsewhere;
use super::judged::Asked;
use super::lent::Group;
use super::network::{Dialed, Ending, Handed, Listener, Network, Numbers};
use super::odds::{Odds, happens};
use super::outcome::{Coverage, Outcome};
use super::peers::{Peers, World};
use super::{External, Facts, Setup, Standing};
use fastrand::Rng;
use nix::errno::Errno;
use std::collections::{HashMap, VecDeque};
use std::rc::Rc;

/// Calls between two enters after which the caller is said to spin.
const CALLS_MAX: u64 = 1_000_000;

/// Enters that each outstanding thing may take once the faults have ended.
pub(super) const STEPS_EACH: u64 = 50;
/// Attempts to accept while no descriptor is free (F25).
const ACCEPTS_IN_VAIN_MAX: u32 = 20;

/// An operation the kernel has taken and not answered for the last time.
#[derive(Clone, Copy, Debug)]
pub(super) struct InFlight {
    pub(super) id: u64,
    pub(super) token: Token,
    pub(super) operation: Operation,
    pub(super) connection: Option<usize>,
    /// Bytes of a multishot receive so far.
    pub(super) received: u32,
    /// It was cancelled: its next completion is its last.
    pub(super) doomed: bool,
    /// A watch for room has said what there was to say.
    pub(super) told: bool,
    /// It ends in the enter that submitted it.
    pub(super) at_once: bool,
}

/// Something that happens from outside, at a time or when nothing else does.
pub(super) struct Planned {
    pub(super) at: Option<u64>,
    pub(super) action: Box<dyn FnOnce() -> External>,
}

/// The kernel.
pub(super) struct Kernel {
    pub(super) setup: Setup,
    pub(super) odds: Odds,
    pub(super) random: Rng,
    pub(super) coverage: Coverage,
    /// The virtual clock, microseconds.
    pub(super) now: u64,
    pub(super) network: Network,
    pub(super) peers: Peers,
    pub(super) buffers: Buffers,
    pub(super) flying: Vec<InFlight>,
    pub(super) facts: Facts,
    pub(super) planned: Vec<Planned>,
    /// What is being sent, from the push to the taking of the last completion.
    pub(super) sending: Vec<(usize, Span)>,
    /// What is sent together.
    pub(super) groups: HashMap<u32, Group>,
    pub(super) submission: VecDeque<(Operation, Token)>,
    /// Buffers that were published, how many at a time, and after how many pushes.
    requests: VecDeque<(u64, usize)>,
    pub(super) completions: VecDeque<Posted>,
    /// Operations pushed, taken from the submission queue, and known to be answered at once or not.
    pub(super) pushed: u64,
    pub(super) taken: u64,
    pub(super) answered: u64,
    /// What a loop has asked of a ring that only notifies, until it was told the last of it.
    pub(super) asked: Vec<Asked>,
    /// What was answered and the caller is not told of, until it asks.
    pub(super) skipped: Vec<Posted>,
    pub(super) overflow: VecDeque<Posted>,
    next_id: u64,
    pub(super) wakes: u64,
    ever_woken: bool,
    pub(super) enters: u64,
    calls: u64,
    /// Accepts that failed for want of a descriptor since one came free, somebody was woken, or the
    /// caller slept.
    pub(super) accepts_in_vain: u32,
    /// Somebody has no buffer and waits for one.
    pub(super) somebody_waits: bool,
    /// Operations pushed whose last completion was not taken.
    pub(super) outstanding: u64,
    /// When the server was told to stop.
    pub(super) stopped_at: Option<u64>,
    pub(super) cut: bool,
    /// What another worker does when a connection it was given leaves, and how many descriptors it has.
    pub(super) elsewhere: Option<Elsewhere>,
    pub(super) away: usize,
    /// The worker that accepts for all, where it is another one.
    pub(super) neighbour: Option<Rc<Neighbour>>,
    /// Where enters must have come to an end, once healed.
    pub(super) enters_max: Option<u64>,
}

impl Kernel {
    pub(super) fn new(setup: Setup) -> Self {
        let mut random = Rng::with_seed(setup.seed);
        let odds = Odds::draw(&mut random);
        let mut coverage = Coverage::default();
        let peers = Peers::draw(&mut random, &mut coverage, setup.peers, setup.listeners);
        Self::with(setup, random, odds, coverage, peers)
    }

    pub(super) fn with(setup: Setup, random: Rng, odds: Odds, coverage: Coverage, peers: Peers) -> Self {
        let (descriptors, slots) =
            if setup.direct { (64, setup.descriptors) } else { (setup.descriptors, 0) };
        Self {
            buffers: Buffers::new(setup.memory, setup.buffers, setup.buffer_size, setup.incremental),
            network: Network {
                connections: Vec::new(),
                listeners: (0..setup.listeners).map(|_| Listener::default()).collect(),
                descriptors: Numbers::new(5, descriptors),
                slots: Numbers::new(0, slots),
            },
            odds,
            random,
            coverage,
            peers,
            setup,
            now: 0,
            flying: Vec::new(),
            facts: Facts::default(),
            planned: Vec::new(),
            sending: Vec::new(),
            groups: HashMap::new(),
            submission: VecDeque::new(),
            requests: VecDeque::new(),
            completions: VecDeque::new(),
            pushed: 0,
            taken: 0,
            answered: 0,
            asked: Vec::new(),
            skipped: Vec::new(),
            overflow: VecDeque::new(),
            next_id: 0,
            wakes: 0,
            ever_woken: false,
            enters: 0,
            calls: 0,
            accepts_in_vain: 0,
            somebody_waits: false,
            outstanding: 0,
            stopped_at: None,
            cut: false,
            elsewhere: None,
            away: 0,
            neighbour: None,
            enters_max: None,
        }
    }

    /// Writes down that the caller broke a rule. From here on every enter fails.
    pub(super) fn violation(&mut self, what: impl Into<String>) {
        if self.facts.violations.len() < 20 {
            self.facts.violations.push(format!("enter {}: {}", self.enters, what.into()));
        }
    }

    pub(super) fn trace(&self, what: impl FnOnce() -> String) {
        if let Some(tell) = self.setup.trace {
            tell(&format!("{:>9} us, enter {}: {}", self.now, self.enters, what()));
        }
    }

    pub(super) fn call(&mut self) {
        self.calls += 1;
        assert!(self.calls < CALLS_MAX, "the caller spins without entering the kernel");
    }

    pub(super) fn push(&mut self, operation: Operation, token: Token) {
        self.call();
        self.trace(|| format!("push {operation:?} {:x}", token.0));
        let checked =
            if self.setup.notifies_only { self.check_notifying(operation) } else { self.check(operation) };
        if let Err(what) = checked {
            self.violation(what);
            return;
        }
        self.outstanding += u64::from(!self.setup.notifies_only);
        if self.submission.len() >= self.setup.sq {
            if happens(&mut self.random, self.odds.push_submits) {
                self.coverage.note(Outcome::PushSubmits);
                self.submit(self.submission.len());
                // Within a turn of the caller the clock stands still.
                self.work(0);
            } else {
                self.coverage.note(Outcome::PushWaits);
            }
        }
        self.submission.push_back((operation, token));
        self.pushed += 1;
    }

    pub(super) fn provide(&mut self, buffer: u16) {
        self.call();
        let lent = self.sending.iter().find(|(_, span)| self.buffers.within(*span).contains(&buffer.into()));
        if let Some((_, span)) = lent {
            self.violation(format!("I8: buffer {buffer} was provided while {span:?} is being sent"));
        } else if let Err(what) = self.buffers.provide(buffer) {
            self.violation(what);
        }
    }

    /// What was provided is the kernel's: at once, or when it takes the requests that say so.
    pub(super) fn publish(&mut self) {
        let count = self.buffers.publish();
        if self.setup.classic {
            self.requests.push_back((self.pushed, count));
        } else {
            self.buffers.show(count);
        }
    }

    /// Takes the requests that stand before the next operation in the submission queue.
    fn take_requests(&mut self) {
        while let Some(&(pushed, count)) = self.requests.front()
            && pushed <= self.taken
        {
            self.requests.pop_front();
            self.buffers.show(count);
        }
    }

    /// Holds an operation against the rules of the seam and counts it.
    pub(super) fn check(&mut self, operation: Operation) -> Result<(), String> {
        let socket = match operation {
            Operation::Receive { socket, limit } | Operation::ReceiveNow { socket, limit } => {
                if limit == 0 {
                    return Err(format!("{operation:?} asks for nothing"));
                }
                socket
            }
            Operation::ReceiveInto { socket, span, .. } => {
                self.check_receivable(span)?;
                socket
            }
            Operation::SendKept { .. } if !self.setup.keeps_sent => {
                return Err(format!("{operation:?} is not offered"));
            }
            Operation::Send { socket, span } | Operation::SendKept { socket, span } => {
                self.buffers.check_sendable(span)?;
                socket
            }
            Operation::SendLent { socket, group } => {
                self.check_lent(group)?;
                socket
            }
            Operation::CountArrived { .. } if !self.setup.counts_arrived => {
                return Err(format!("{operation:?} is not offered"));
            }
            Operation::Shutdown { socket }
            | Operation::Hand { socket, .. }
            | Operation::Connect { socket, .. }
            | Operation::Close { socket }
            | Operation::CountArrived { socket }
            | Operation::AwaitRoom { socket } => socket,
            Operation::Watch { .. } => return Err(format!("{operation:?} of a ring that receives itself")),
            Operation::Accept { listener } if self.network.listeners[listener].closed => {
                return Err("an accept on a closed listener".into());
            }
            Operation::Cancel { target } => {
                self.note_cancel(target);
                return Ok(());
            }
            Operation::Accept { .. } if self.accepts_in_vain > ACCEPTS_IN_VAIN_MAX => {
                return Err("accept spins: no descriptor has come free".into());
            }
            Operation::Accept { .. } | Operation::Wakeups => return Ok(()),
        };
        let number = self.network.find(socket.0).ok_or(format!("{operation:?}: no such socket"))?;
        if self.network.connections[number].handed != Handed::Not {
            return self.check_handed(number, operation);
        }
        let connection = &mut self.network.connections[number];
        if connection.ending != Ending::Open {
            return Err(format!("I10: {operation:?} on a socket that is being closed"));
        }
        let wanted =
            if matches!(operation, Operation::Connect { .. }) { Dialed::Fresh } else { Dialed::Known };
        if connection.dialed != wanted && !matches!(operation, Operation::Close { .. }) {
            return Err(format!("{operation:?} on a socket that is {:?}", connection.dialed));
        }
        match operation {
            Operation::Close { .. } if connection.in_flight > connection.kept => {
                return Err(format!("I6: {operation:?} with {} in flight", connection.in_flight));
            }
            Operation::Close { .. } => connection.ending = Ending::Closing,
            // A client finishes when it likes.
            Operation::Shutdown { .. }
                if self.peers.servers.is_none() && connection.owes_what_had_arrived() =>
            {
                return Err(format!("{operation:?}: the FIN goes out before what had arrived was echoed"));
            }
            Operation::Hand { .. } if connection.in_flight > 0 => {
                return Err(format!("I6: {operation:?} with {} in flight", connection.in_flight));
            }
            operation if operation.sends() && connection.sending > 0 => {
                return Err(format!("I4: {operation:?} beside another"));
            }
            operation if operation.sends() && connection.shut_at.is_some() => {
                return Err(format!("{operation:?} after the FIN"));
            }
            operation if operation.sends() && connection.full => {
                return Err(format!("{operation:?} spins: the socket was full, and nobody waits for it"));
            }
            Operation::SendKept { .. } if connection.kept > 0 => {
                return Err(format!("{operation:?} while the kernel reads for another"));
            }
            Operation::Send { span, .. } | Operation::SendKept { span, .. } => {
                connection.sending += 1;
                self.sending.push((number, span));
            }
            Operation::SendLent { group, .. } => {
                connection.sending += 1;
                self.sending.extend(self.groups[&group].spans().iter().map(|&span| (number, span)));
            }
            operation if operation.receives() && connection.receiving > 0 => {
                return Err(format!("I7: {operation:?} beside another"));
            }
            operation if operation.receives() => {
                connection.receiving += 1;
                connection.receives += 1;
                connection.receive_cancelled = false;
                connection.stuck_at_cancel = false;
            }
            _ => {}
        }
        connection.in_flight += 1;
        Ok(())
    }

    /// From here on the caller may have decided to close the connection: what still comes in does
    /// not change its reason.
    fn note_cancel(&mut self, target: Token) {
        let flying = self.flying.iter().find(|op| op.token == target).and_then(|op| op.connection);
        let queued = || {
            let (operation, _) = self.submission.iter().find(|(_, token)| *token == target)?;
            self.network.find(operation.socket().filter(|_| operation.receives())?.0)
        };
        let above = || self.asked.iter().find(|asked| asked.token == target)?.connection;
        // Its last completion may have been posted, and wait for the caller to take it.
        let posted = || {
            let mut posted = self.completions.iter().chain(&self.overflow);
            posted.find(|posted| posted.completion.token == target)?.connection
        };
        if let Some(number) = flying.or_else(queued).or_else(posted).or_else(above) {
            let stuck = self.is_stuck(number);
            let connection = &mut self.network.connections[number];
            connection.receive_cancelled = true;
            connection.stuck_at_cancel |= stuck;
        }
    }

    pub(super) fn enter(&mut self, wait_for: u32, until: Option<u64>) -> Entered {
        self.enters += 1;
        self.calls = 0;
        self.trace(|| format!("enter {wait_for} {until:?}"));
        if self.enters_max.is_some_and(|most| self.enters > most) {
            self.violation("I16: not finished within 50 steps for each outstanding thing after the faults");
        }
        if self.enters > self.setup.enters_max {
            self.violation("I16: no end in sight");
        }
        if !self.facts.violations.is_empty() {
            return Entered::Failed(Errno::EIO);
        }
        self.flush();
        if !self.overflow.is_empty() && happens(&mut self.random, self.odds.busy) {
            self.coverage.note(Outcome::EnterBusy);
            return Entered::Busy;
        }
        let interrupted = happens(&mut self.random, self.odds.interrupted);
        let all = self.submission.len();
        let late = self.setup.thread_submits && self.random.bool();
        let part = if interrupted || late { self.random.usize(0..=all) } else { all };
        self.submit(part);
        self.work(self.odds.enter_time);
        if interrupted {
            let kind = if part < all { Outcome::EnterInterruptedPart } else { Outcome::EnterInterrupted };
            self.coverage.note(kind);
            return Entered::Interrupted;
        }
        self.wait((wait_for as usize).min(self.setup.cq), until)
    }

    /// What stands where.
    pub(super) fn standing(&self) -> Standing {
        let open = |&listener: &usize| !self.network.listeners[listener].closed;
        Standing {
            outstanding: self.outstanding,
            lent: self.buffers.count(Owner::Caller),
            free: self.buffers.published(),
            open: self.network.open() - self.away,
            accepting: self.neighbour.is_some()
                || (0..self.setup.listeners).filter(open).all(|one| self.accept_is_out(one)),
        }
    }

    /// Lets everything happen that is due.
    pub(super) fn happen(&mut self) {
        while let Some(index) = self.planned.iter().position(|one| one.at.is_some_and(|at| at <= self.now)) {
            let planned = self.planned.remove(index);
            self.obey(planned);
        }
        let now = self.now;
        let (peers, mut world) = self.world();
        peers.advance(now, &mut world);
        self.neighbour_accepts(self.odds.eager / 4);
    }

    pub(super) fn world(&mut self) -> (&mut Peers, World<'_>) {
        let world = World {
            network: &mut self.network,
            random: &mut self.random,
            coverage: &mut self.coverage,
            key: self.setup.seed,
        };
        (&mut self.peers, world)
    }

    pub(super) fn obey(&mut self, planned: Planned) {
        let external = (planned.action)();
        self.trace(|| format!("{external:?}"));
        match external {
            External::Nothing => {}
            External::Wake => self.wake(),
            External::Left(number) => self.leave_elsewhere(number),
            External::NobodyComes => self.neighbour_ends(),
            External::Heal => self.heal(),
            External::Stop => {
                self.stopped_at = Some(self.now);
                for connection in self.network.connections.iter_mut().filter(|one| !one.is_closed()) {
                    connection.written_at_stop = Some(connection.written);
                }
                self.tell_neighbour();
                self.wake();
            }
            External::Cut => {
                self.cut = true;
                self.wake();
            }
        }
    }

    pub(super) fn wake(&mut self) {
        self.wakes += 1;
        self.ever_woken = true;
    }

    fn heal(&mut self) {
        self.odds.heal();
        self.peers.heal(self.now, &mut self.network);
        if self.peers.servers.is_some() {
            return; // A client asks for more for as long as it is told to.
        }
        let (peers, mut bytes) = self.peers.remaining();
        let connections = self.network.connections.iter().filter(|one| !one.is_closed());
        bytes += connections.map(|one| 2 * (one.written - one.echoed.min(one.written))).sum::<u64>();
        let chunks = bytes / u64::from(self.setup.buffer_size.min(16)) + bytes.min(peers);
        let outstanding = peers + chunks + (self.flying.len() + self.submission.len()) as u64 + 1;
        self.facts.outstanding = outstanding;
        self.enters_max = Some(self.enters + STEPS_EACH * outstanding);
    }

    /// Takes the first `count` operations of the submission queue.
    pub(super) fn submit(&mut self, count: usize) {
        for _ in 0..count {
            self.take_requests();
            let Some((operation, token)) = self.submission.pop_front() else { return };
            self.taken += 1;
            let connection = operation.socket().and_then(|socket| self.network.find(socket.0));
            let id = self.next_id;
            self.next_id += 1;
            let at_once = matches!(
                operation,
                Operation::ReceiveNow { .. }
                    | Operation::ReceiveInto { waits: false, .. }
                    | Operation::Send { .. }
                    | Operation::SendKept { .. }
                    | Operation::SendLent { .. }
                    | Operation::CountArrived { .. }
            );
            if operation == Operation::Wakeups && self.ever_woken {
                // The eventfd is never read, so it is ready whenever somebody begins to look.
                self.wakes = self.wakes.max(1);
            }
            self.flying.push(InFlight {
                id,
                token,
                operation,
                connection,
                received: 0,
                doomed: false,
                told: false,
                at_once,
            });
            self.arm(id);
        }
        self.take_requests();
    }

    /// What the kernel does of its own accord in an enter: some of what it could, in any order.
    /// It takes `time` at most.
    pub(super) fn work(&mut self, time: u64) {
        self.now += self.random.u64(0..=time);
        let odds = self.odds.clone();
        self.world().1.lose_somebody(&odds);
        self.happen();
        let mut ids: Vec<u64> = Vec::with_capacity(self.flying.len());
        for index in 0..self.flying.len() {
            let op = self.flying[index];
            let acts = op.at_once || (self.can_go_on(&op) && happens(&mut self.random, self.odds.eager));
            if acts || self.may_be_spurious(&op) {
                ids.push(op.id);
            }
        }
        self.random.shuffle(&mut ids);
        for id in ids {
            self.run(id);
            // A multishot operation may have more to say at once.
            while happens(&mut self.random, self.odds.eager / 2)
                && self.position(id).is_some_and(|index| self.can_go_on(&self.flying[index]))
            {
                self.run(id);
            }
        }
        assert!(self.flying.iter().all(|op| !op.at_once));
        self.neighbour_accepts(self.odds.eager);
    }

    pub(super) fn run_somebody(&mut self) -> bool {
        let ready: Vec<u64> = self.flying.iter().filter(|op| self.can_go_on(op)).map(|op| op.id).collect();
        if ready.is_empty() {
            return false;
        }
        let id = ready[self.random.usize(0..ready.len())];
        self.run(id);
        true
    }

    pub(super) fn position(&self, id: u64) -> Option<usize> {
        self.flying.iter().position(|op| op.id == id)
    }

    /// Whether the accept of this listener is with the kernel, or its last completion untaken.
    pub(super) fn accept_is_out(&self, listener: usize) -> bool {
        let is_ours = |operation: Operation| operation == Operation::Accept { listener };
        self.flying.iter().any(|op| is_ours(op.operation))
            || self.submission.iter().any(|&(operation, _)| is_ours(operation))
            || self.completions.iter().chain(&self.overflow).any(|posted| is_ours(posted.operation))
    }

    /// The name of a connection that was just given a number, if one was free.
    pub(super) fn name(&mut self, connection: usize, direct: bool) -> Option<Name> {
        let enter = self.enters;
        let numbers = if direct { &mut self.network.slots } else { &mut self.network.descriptors };
        let (number, reused) = numbers.take(connection, enter)?;
        if reused {
            let dialed = self.peers.servers.is_some();
            self.coverage.note(if dialed { Outcome::OpenNumberReused } else { Outcome::AcceptNumberReused });
        }
        let name = if direct { Name::Slot(number) } else { Name::Descriptor(number as i32) };
        self.network.connections[connection].name = Some(name);
        self.network.connections[connection].ending = Ending::Open;
        Some(name)
    }
}
