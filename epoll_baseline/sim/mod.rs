//! A fake kernel behind the seam of [`super::sockets`], for tests. Everything it does is drawn from a
//! seed, among all that the real one may legally do: see [`Outcome`]. It knows every byte, so it
//! judges the server by itself: what is sent must be what was received, a socket is closed once.
//!
//! Edge, level and one-shot are the kernel's own: a ready list which a socket joins when something
//! happens to it, and on which only a level stays.
//!
//! Absent on purpose: time passes only when the test says so ([`Sim::advance`]), and `wait` never
//! blocks: the test asks [`Sim::would_report`] which thread the kernel would wake.

mod network;
mod outcome;
mod peers;

pub(super) use super::sockets::{EpollFlags, Events, Sockets, Token};
pub(super) use outcome::{Coverage, Outcome};

use fastrand::Rng;
use network::{Connection, Watch};
use nix::errno::Errno;
use std::cell::{Ref, RefCell, RefMut};
use std::collections::VecDeque;
use std::rc::Rc;
use std::time::Duration;

/// A handle to the fake kernel; all clones are the same one.
#[derive(Clone)]
pub(super) struct Sim(Rc<RefCell<World>>);

/// A connected socket. The number is what the real kernel would know it by.
#[derive(Debug)]
pub(super) struct Socket {
    pub(super) descriptor: u32,
    serial: usize,
}

impl Socket {
    /// The same number once more: a mistake, to be planted.
    pub(super) fn duplicate(&self) -> Self {
        Self { ..*self }
    }
}

/// A listening socket.
#[derive(Debug)]
pub(super) struct Listener(usize);

/// How likely the faults are, per mille; drawn per seed, so that a run can have none or many.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Odds {
    spurious: u32,
    stale: u32,
    interrupted: u32,
    cut_short: u32,
    accept: u32,
    watch: u32,
    memory: u32,
    partial: u32,
    meanwhile: u32,
    urgent: u32,
}

impl Odds {
    fn draw(random: &mut Rng) -> Self {
        let mut one = || [0, 10, 60, 300][random.usize(0..4)];
        Self {
            spurious: one(),
            stale: one(),
            interrupted: one(),
            cut_short: one(),
            accept: one(),
            watch: one() / 4,
            memory: one(),
            partial: one(),
            meanwhile: one() * 2,
            urgent: one() * 2,
        }
    }

    const NONE: Self = Self {
        spurious: 0,
        stale: 0,
        interrupted: 0,
        cut_short: 0,
        accept: 0,
        watch: 0,
        memory: 0,
        partial: 0,
        meanwhile: 0,
        urgent: 0,
    };
}

struct Queue {
    waiting: VecDeque<usize>,
    closed: bool,
    watch: Option<Watch>,
}

/// Something an event can be about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Source {
    Connection(usize),
    Listener(usize),
    Waker,
}

/// What is known of a connection when it is closed.
#[derive(Clone, Debug)]
pub(super) struct Closed {
    /// Whether it was ever watched: served, not refused.
    pub(super) served: bool,
    pub(super) complete: bool,
    pub(super) error_seen: bool,
    pub(super) owed: u64,
    pub(super) promise_kept: bool,
    pub(super) our_fin: bool,
    /// Microseconds since bytes were received, since progress in sending, since our FIN.
    pub(super) silent: u64,
    pub(super) stuck: u64,
    pub(super) lingering: u64,
}

/// Sums the loop's own are held against.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Facts {
    pub(super) received: u64,
    pub(super) taken: u64,
    pub(super) discarded: u64,
    pub(super) accepted: u64,
    pub(super) closed: u64,
}

pub(super) struct World {
    random: Rng,
    odds: Odds,
    coverage: Coverage,
    /// Microseconds.
    now: u64,
    connections: Vec<Connection>,
    /// Peers that have not connected yet: when, and to which listener.
    to_come: VecDeque<(u64, usize)>,
    queues: Vec<Queue>,
    descriptors: Vec<Option<usize>>,
    descriptors_used: u32,
    ready: Vec<Source>,
    over: bool,
    gone: Vec<Token>,
    facts: Facts,
    closed_lately: Vec<Closed>,
    violation: Option<String>,
}

impl Sim {
    pub(super) fn new(seed: u64, peers: usize, listeners: usize, descriptors: usize) -> Self {
        let mut random = Rng::with_seed(seed);
        let odds = Odds::draw(&mut random);
        let mut at = 0;
        let to_come = (0..peers)
            .map(|_| {
                at += if random.bool() { 0 } else { random.u64(0..5_000) };
                (at, random.usize(0..listeners))
            })
            .collect();
        let queue = || Queue { waiting: VecDeque::new(), closed: false, watch: None };
        Self(Rc::new(RefCell::new(World {
            random,
            odds,
            coverage: Coverage::default(),
            now: 0,
            connections: Vec::new(),
            to_come,
            queues: (0..listeners).map(|_| queue()).collect(),
            descriptors: vec![None; descriptors],
            descriptors_used: 0,
            ready: Vec::new(),
            over: false,
            gone: Vec::new(),
            facts: Facts::default(),
            closed_lately: Vec::new(),
            violation: None,
        })))
    }

    pub(super) fn listeners(&self) -> Vec<Listener> {
        (0..self.world().queues.len()).map(Listener).collect()
    }

    pub(super) fn world(&self) -> Ref<'_, World> {
        self.0.borrow()
    }

    pub(super) fn world_mut(&self) -> RefMut<'_, World> {
        self.0.borrow_mut()
    }

    /// A write to a waker's eventfd.
    pub(super) fn wake(&self) {
        self.world_mut().wake();
    }

    /// Whether a thread that waits would be woken now.
    pub(super) fn would_report(&self) -> bool {
        let mut world = self.world_mut();
        world.over || world.ready.clone().into_iter().any(|source| !world.report(source).is_empty())
    }
}

impl World {
    fn happens(&mut self, per_mille: u32) -> bool {
        per_mille > 0 && self.random.u32(0..1000) < per_mille
    }

    fn note(&mut self, outcome: Outcome) {
        self.coverage.note(outcome);
    }

    pub(super) fn violate(&mut self, what: String) {
        self.violation.get_or_insert(what);
    }

    pub(super) fn violation(&self) -> Option<&String> {
        self.violation.as_ref()
    }

    pub(super) fn coverage(&self) -> &Coverage {
        &self.coverage
    }

    pub(super) fn facts(&self) -> Facts {
        self.facts
    }

    pub(super) fn now(&self) -> u64 {
        self.now
    }

    pub(super) fn advance(&mut self, to: u64) {
        self.now = self.now.max(to);
    }

    /// Connections the server has open, and what they are owed together, and the most one is owed.
    pub(super) fn standing(&self) -> (u64, u64, u64) {
        let open = self.connections.iter().filter(|one| !one.closed && one.watch.is_some());
        open.fold((0, 0, 0), |(count, sum, most), one| (count + 1, sum + one.owed(), one.owed().max(most)))
    }

    /// Whether every peer has come and gone.
    pub(super) fn all_done(&self) -> bool {
        self.to_come.is_empty() && self.connections.iter().all(|one| one.closed)
    }

    /// While nobody is awake and nothing will be reported: somebody for whom something could be done.
    pub(super) fn left_behind(&self) -> Option<String> {
        let behind = |one: &&Connection| {
            let end = one.fin_arrived && !one.end_seen;
            let to_read = one.unread() > 0 || end;
            !one.closed
                && one.watch.is_some()
                && ((one.broken && !one.error_seen)
                    || (!one.broken && to_read && (one.owed() == 0 || one.our_fin))
                    || (!one.broken && one.owed() > 0 && one.is_writable()))
        };
        self.connections.iter().find(behind).map(|one| format!("I16: nobody will be told of {one:?}"))
    }

    /// Whether somebody is queued on a listener who could be accepted.
    pub(super) fn could_accept(&self) -> bool {
        self.queues.iter().any(|queue| !queue.closed && !queue.waiting.is_empty())
            && self.descriptors.iter().any(Option::is_none)
    }

    pub(super) fn descriptors_open(&self) -> usize {
        self.descriptors.iter().flatten().count()
    }

    pub(super) fn take_closed(&mut self) -> Vec<Closed> {
        std::mem::take(&mut self.closed_lately)
    }

    fn wake(&mut self) {
        self.list(Source::Waker);
    }

    fn watch_of(&mut self, source: Source) -> Option<&mut Watch> {
        match source {
            Source::Connection(serial) => self.connections[serial].watch.as_mut(),
            Source::Listener(index) => self.queues[index].watch.as_mut(),
            Source::Waker => None,
        }
    }

    /// Puts a socket on the ready list, where its watch is armed.
    fn list(&mut self, source: Source) {
        if source == Source::Waker {
            if !self.ready.contains(&source) {
                self.ready.push(source);
            }
            return;
        }
        if let Some(watch) = self.watch_of(source)
            && !watch.disarmed
            && !watch.listed
        {
            watch.listed = true;
            self.ready.push(source);
        }
    }

    /// What is true of a connection, as poll(2) has it.
    fn poll(&mut self, serial: usize) -> EpollFlags {
        let one = &mut self.connections[serial];
        let mut flags = EpollFlags::empty();
        let mut set = |condition: bool, flag: EpollFlags| {
            if condition {
                flags |= flag;
            }
        };
        set(one.unread() > 0 || one.fin_arrived || one.broken, EpollFlags::EPOLLIN);
        set(one.fin_arrived || one.broken, EpollFlags::EPOLLRDHUP);
        set((one.fin_arrived && one.our_fin) || one.broken, EpollFlags::EPOLLHUP);
        set(one.broken && !one.error_seen, EpollFlags::EPOLLERR);
        set(one.is_writable() || one.broken, EpollFlags::EPOLLOUT);
        set(one.urgent.is_some_and(|mark| mark < one.arrived), EpollFlags::EPOLLPRI);
        if !flags.contains(EpollFlags::EPOLLOUT) {
            one.no_space = true;
        }
        flags
    }

    /// What epoll would report of a socket on the ready list.
    fn report(&mut self, source: Source) -> EpollFlags {
        let always = EpollFlags::EPOLLHUP | EpollFlags::EPOLLERR;
        match source {
            Source::Waker => EpollFlags::EPOLLIN,
            Source::Listener(index) => match self.queues[index].watch {
                Some(watch) if !watch.disarmed && !self.queues[index].waiting.is_empty() => {
                    watch.interest & EpollFlags::EPOLLIN
                }
                _ => EpollFlags::empty(),
            },
            Source::Connection(serial) => match self.connections[serial].watch {
                Some(watch) if !watch.disarmed => self.poll(serial) & (watch.interest | always),
                _ => EpollFlags::empty(),
            },
        }
    }

    fn harvest(&mut self, events: &mut Events) {
        let mut list = std::mem::take(&mut self.ready);
        if list.len() > 1 && self.random.bool() {
            self.random.shuffle(&mut list);
            self.note(Outcome::BatchOutOfOrder);
        }
        let mut room = events.capacity();
        if self.happens(self.odds.cut_short) {
            room = self.random.usize(1..=3).min(room);
        }
        for (index, &source) in list.iter().enumerate() {
            if room == 0 {
                self.note(Outcome::BatchCutShort);
                self.ready.extend(&list[index..]);
                return;
            }
            let ready = self.report(source);
            room -= usize::from(!ready.is_empty());
            self.deliver_event(source, ready, events);
        }
    }

    /// Reports one, and keeps on the list what stays on it.
    fn deliver_event(&mut self, source: Source, ready: EpollFlags, events: &mut Events) {
        let Some(watch) = self.watch_of(source) else {
            if source == Source::Waker {
                events.push(Token::Waker, ready);
            }
            return;
        };
        watch.listed = false;
        if ready.is_empty() {
            return;
        }
        events.push(watch.token, ready);
        let (edge, one_shot) =
            (watch.interest.contains(EpollFlags::EPOLLET), watch.interest.contains(EpollFlags::EPOLLONESHOT));
        watch.disarmed = one_shot;
        if one_shot {
            self.note(Outcome::OneShotDisarmed);
        } else if edge {
            self.note(Outcome::EdgeReported);
        } else {
            watch.listed = true;
            self.ready.push(source);
            self.note(Outcome::LevelReportedAgain);
        }
        self.note_readiness(source, ready);
    }

    fn note_readiness(&mut self, source: Source, ready: EpollFlags) {
        let Source::Connection(serial) = source else { return };
        let unread = self.connections[serial].unread() > 0;
        let mut note = |condition: bool, outcome| {
            if condition {
                self.coverage.note(outcome);
            }
        };
        let rdhup = ready.contains(EpollFlags::EPOLLRDHUP);
        note(rdhup && ready.contains(EpollFlags::EPOLLIN), Outcome::InWithRdhup);
        note(rdhup && unread, Outcome::RdhupBeforeDataRead);
        note(
            ready.contains(EpollFlags::EPOLLHUP) && !ready.contains(EpollFlags::EPOLLOUT),
            Outcome::HupWithoutOut,
        );
        note(ready.contains(EpollFlags::EPOLLERR | EpollFlags::EPOLLIN), Outcome::ErrWithIn);
        note(ready.contains(EpollFlags::EPOLLPRI), Outcome::Urgent);
    }

    /// Events for nothing, and for nobody.
    fn mislead(&mut self, events: &mut Events) {
        if self.happens(self.odds.stale)
            && let Some(&token) = self.gone.get(self.random.usize(0..self.gone.len().max(1)))
            && events.push(token, EpollFlags::EPOLLIN | EpollFlags::EPOLLOUT)
        {
            self.note(Outcome::StaleEvent);
        }
        if self.connections.is_empty() || !self.happens(self.odds.spurious) {
            return;
        }
        let serial = self.random.usize(0..self.connections.len());
        let (flag, outcome) = if self.random.bool() {
            (EpollFlags::EPOLLIN, Outcome::SpuriousIn)
        } else {
            (EpollFlags::EPOLLOUT, Outcome::SpuriousOut)
        };
        let Some(watch) = &mut self.connections[serial].watch else { return };
        if watch.disarmed || !watch.interest.contains(flag) || !events.push(watch.token, flag) {
            return;
        }
        watch.disarmed = watch.interest.contains(EpollFlags::EPOLLONESHOT);
        self.note(outcome);
    }

    fn set_watch(&mut self, source: Source, token: Token, interest: EpollFlags) {
        let watch = Watch { token, interest, disarmed: false, listed: false };
        let listed = self.ready.contains(&source);
        match source {
            Source::Connection(serial) => self.connections[serial].watch = Some(Watch { listed, ..watch }),
            Source::Listener(index) => self.queues[index].watch = Some(Watch { listed, ..watch }),
            Source::Waker => {}
        }
        if !self.report(source).is_empty() {
            self.list(source);
        }
    }

    /// The connection behind a socket. A number that is closed, or another's by now, is the server's
    /// mistake.
    fn connection(&mut self, socket: &Socket, what: &str) -> Option<usize> {
        let named = self.descriptors.get(socket.descriptor as usize).copied().flatten();
        if named != Some(socket.serial) {
            self.violate(format!("I10: {what} on a socket that is closed: {socket:?}, now {named:?}"));
            return None;
        }
        named
    }

    fn receive(&mut self, serial: usize, into: &mut [u8]) -> Result<usize, Errno> {
        if self.happens(self.odds.meanwhile) {
            self.meanwhile(serial);
        }
        if self.connections[serial].broken {
            return Err(self.broken(serial, Outcome::ReceiveReset));
        }
        let now = self.now;
        let one = &mut self.connections[serial];
        if one.unread() == 0 {
            let (answer, outcome) = if one.fin_arrived {
                one.end_seen = true;
                (Ok(0), Outcome::ReceiveEnd)
            } else {
                (Err(Errno::EAGAIN), Outcome::ReceiveWouldBlock)
            };
            self.note(outcome);
            return answer;
        }
        let mut length = (into.len() as u64).min(one.unread());
        let mut outcome = if length == one.unread() { Outcome::ReceiveAll } else { Outcome::ReceiveLimited };
        if let Some(mark) = one.urgent.filter(|&mark| mark < one.received + length) {
            if mark > one.received {
                length = mark - one.received;
                outcome = Outcome::ReceiveStopsAtUrgentMark;
            } else {
                one.urgent = None;
            }
        }
        for (offset, byte) in (one.received..).zip(&mut into[..length as usize]) {
            *byte = one.byte(offset);
        }
        if one.owed() == 0 {
            one.progress_at = now;
        }
        one.received += length;
        one.active_at = now;
        self.facts.received += length;
        if one.our_fin {
            one.discarded += length;
            self.facts.discarded += length;
        }
        self.note(outcome);
        Ok(length as usize)
    }

    fn send(&mut self, serial: usize, bytes: &[u8]) -> Result<usize, Errno> {
        // More often behind a FIN: few sends come there.
        let share = if self.connections[serial].fin_arrived { 1 } else { 8 };
        if self.happens(self.odds.meanwhile / share) && self.may_reset(serial) {
            self.reset(serial);
            self.note(Outcome::ResetDuringSend);
        }
        if self.connections[serial].our_fin {
            self.violate("bytes are sent after our FIN".into());
        }
        if self.connections[serial].broken {
            return Err(self.broken(serial, Outcome::SendReset));
        }
        let memory = self.happens(self.odds.memory);
        let partial = self.happens(self.odds.partial);
        let free = self.connections[serial].free();
        if free == 0 || memory {
            let one = &mut self.connections[serial];
            one.no_space = true;
            one.short_of_memory |= free > 0;
            let full =
                if free == 0 { Outcome::SendWouldBlockFull } else { Outcome::SendWouldBlockShortOfMemory };
            self.note(full);
            return Err(Errno::EAGAIN);
        }
        let mut length = free.min(bytes.len() as u64);
        if partial {
            length = self.random.u64(1..=length);
        }
        self.take(serial, &bytes[..length as usize]);
        let one = &mut self.connections[serial];
        if length < bytes.len() as u64 {
            one.no_space = true;
            one.short_of_memory |= one.free() > 0;
            self.note(Outcome::SendPartial);
        } else {
            self.note(Outcome::SendAll);
        }
        Ok(length as usize)
    }

    /// Takes bytes to the peer: they must be what it wrote, in order (I1).
    fn take(&mut self, serial: usize, bytes: &[u8]) {
        let now = self.now;
        let one = &mut self.connections[serial];
        let wrong = (one.taken..).zip(bytes).find(|&(offset, &byte)| byte != one.byte(offset));
        let (taken, received) = (one.taken + bytes.len() as u64, one.received);
        one.taken = taken;
        one.progress_at = now;
        self.facts.taken += bytes.len() as u64;
        if let Some((offset, _)) = wrong {
            self.violate(format!("I1: a wrong byte at {offset} of connection {serial}"));
        }
        if taken > received {
            self.violate(format!("I1: {taken} bytes sent of {received} received, connection {serial}"));
        }
    }

    /// What a call on a reset connection answers.
    fn broken(&mut self, serial: usize, outcome: Outcome) -> Errno {
        let one = &mut self.connections[serial];
        let again = std::mem::replace(&mut one.error_seen, true);
        // After the peer's FIN, and after the first answer, the kernel says "broken pipe" to a send.
        if outcome == Outcome::SendReset && (again || one.fin_arrived) {
            self.note(Outcome::SendBrokenPipe);
            return Errno::EPIPE;
        }
        if outcome == Outcome::ReceiveReset && self.random.u8(0..4) == 0 {
            self.note(Outcome::ReceiveTimedOut);
            return Errno::ETIMEDOUT;
        }
        self.note(outcome);
        Errno::ECONNRESET
    }

    fn accept(&mut self, index: usize) -> Result<Socket, Errno> {
        if let Some((outcome, error)) = self.accept_fault(index) {
            self.note(outcome);
            return Err(error);
        }
        let Some(descriptor) = self.descriptors.iter().position(Option::is_none) else {
            self.note(Outcome::AcceptOutOfDescriptors);
            return Err(Errno::EMFILE);
        };
        let Some(serial) = self.queues[index].waiting.pop_front() else {
            self.note(Outcome::AcceptNobody);
            return Err(Errno::EAGAIN);
        };
        self.descriptors[descriptor] = Some(serial);
        self.facts.accepted += 1;
        let descriptor = descriptor as u32;
        if descriptor < self.descriptors_used {
            self.note(Outcome::AcceptReusesDescriptor);
        }
        self.descriptors_used = self.descriptors_used.max(descriptor + 1);
        let now = self.now;
        let one = &mut self.connections[serial];
        one.descriptor = Some(descriptor);
        (one.active_at, one.progress_at) = (now, now);
        self.note(Outcome::AcceptDone);
        Ok(Socket { descriptor, serial })
    }

    fn accept_fault(&mut self, index: usize) -> Option<(Outcome, Errno)> {
        if !self.happens(self.odds.accept) {
            return None;
        }
        let fault = [
            (Outcome::AcceptOutOfDescriptors, Errno::ENFILE),
            (Outcome::AcceptOutOfMemory, Errno::ENOMEM),
            (Outcome::AcceptOutOfMemory, Errno::ENOBUFS),
            (Outcome::AcceptAborted, Errno::ECONNABORTED),
            (Outcome::AcceptAborted, Errno::EPROTO),
            (Outcome::AcceptNetworkDown, Errno::ENETDOWN),
            (Outcome::AcceptNetworkDown, Errno::EHOSTUNREACH),
            (Outcome::AcceptInterrupted, Errno::EINTR),
            (Outcome::AcceptUnknownError, Errno::EIO),
        ][self.random.usize(0..9)];
        if fault.0 == Outcome::AcceptAborted {
            let serial = self.queues[index].waiting.pop_front()?;
            self.connections[serial].done = true;
            self.connections[serial].closed = true;
        }
        Some(fault)
    }

    fn close(&mut self, socket: &Socket) {
        let Some(serial) = self.connection(socket, "close") else { return };
        self.descriptors[socket.descriptor as usize] = None;
        self.facts.closed += 1;
        self.ready.retain(|&source| source != Source::Connection(serial));
        let now = self.now;
        let one = &mut self.connections[serial];
        one.closed = true;
        one.done = true;
        let watch = one.watch.take();
        self.closed_lately.push(Closed {
            served: watch.is_some(),
            complete: one.end_seen && one.owed() == 0,
            error_seen: one.error_seen,
            owed: one.owed(),
            promise_kept: one.promised.is_none_or(|promised| one.taken >= promised),
            our_fin: one.our_fin,
            silent: now - one.active_at,
            stuck: now - one.progress_at,
            lingering: now - one.fin_at,
        });
        let outcome = if one.unread() > 0 { Outcome::CloseWithUnreadBytes } else { Outcome::CloseClean };
        self.gone.extend(watch.map(|watch| watch.token));
        self.note(outcome);
    }

    fn shutdown(&mut self, serial: usize) -> Result<(), Errno> {
        // Few shutdowns come at all.
        if self.odds.meanwhile > 0 && self.may_reset(serial) && self.random.u8(0..4) > 0 {
            self.reset(serial);
        }
        let now = self.now;
        let one = &mut self.connections[serial];
        if one.broken {
            one.error_seen = true;
            self.note(Outcome::ShutdownNotConnected);
            return Err(Errno::ENOTCONN);
        }
        if one.our_fin {
            self.violate("two FINs".into());
            return Ok(());
        }
        one.our_fin = true;
        one.fin_at = now;
        self.note(Outcome::ShutdownDone);
        self.list(Source::Connection(serial));
        Ok(())
    }
}

impl Sockets for Sim {
    type Socket = Socket;
    type Listener = Listener;

    fn now(&self) -> Duration {
        Duration::from_micros(self.world().now)
    }

    fn wait(&self, events: &mut Events, _until: Option<Duration>) -> Result<(), Errno> {
        let world = &mut *self.world_mut();
        events.clear();
        if world.happens(world.odds.interrupted) {
            world.note(Outcome::WaitInterrupted);
            return Err(Errno::EINTR);
        }
        world.harvest(events);
        world.mislead(events);
        if world.over {
            events.push(Token::Waker, EpollFlags::EPOLLIN);
        }
        Ok(())
    }

    fn watch_listener(&self, listener: &Listener, token: Token, on: EpollFlags) -> Result<(), Errno> {
        self.world_mut().set_watch(Source::Listener(listener.0), token, on);
        Ok(())
    }

    fn accept(&self, listener: &Listener) -> Result<Socket, Errno> {
        self.world_mut().accept(listener.0)
    }

    fn watch(&self, socket: &Socket, token: Token, on: EpollFlags) -> Result<(), Errno> {
        let mut world = self.world_mut();
        let Some(serial) = world.connection(socket, "watch") else { return Err(Errno::EBADF) };
        let odds = world.odds.watch;
        if world.happens(odds) {
            world.note(Outcome::WatchOutOfMemory);
            return Err(Errno::ENOMEM);
        }
        world.set_watch(Source::Connection(serial), token, on);
        Ok(())
    }

    fn receive(&self, socket: &Socket, into: &mut [u8]) -> Result<usize, Errno> {
        let mut world = self.world_mut();
        let Some(serial) = world.connection(socket, "receive") else { return Err(Errno::EBADF) };
        assert!(!into.is_empty(), "a receive of nothing would look like the end");
        world.receive(serial, into)
    }

    fn send(&self, socket: &Socket, bytes: &[u8]) -> Result<usize, Errno> {
        let mut world = self.world_mut();
        let Some(serial) = world.connection(socket, "send") else { return Err(Errno::EBADF) };
        assert!(!bytes.is_empty(), "a send of nothing");
        world.send(serial, bytes)
    }

    fn watch_again(&self, socket: &Socket, token: Token, on: EpollFlags) -> Result<(), Errno> {
        let mut world = self.world_mut();
        let Some(serial) = world.connection(socket, "watch again") else { return Err(Errno::EBADF) };
        world.set_watch(Source::Connection(serial), token, on);
        Ok(())
    }

    fn watch_listener_again(&self, listener: &Listener, token: Token, on: EpollFlags) -> Result<(), Errno> {
        let mut world = self.world_mut();
        let odds = world.odds.watch;
        if world.happens(odds) {
            world.note(Outcome::WatchOutOfMemory);
            return Err(Errno::ENOMEM);
        }
        world.set_watch(Source::Listener(listener.0), token, on);
        Ok(())
    }

    fn arrived(&self, socket: &Socket) -> u32 {
        let mut world = self.world_mut();
        let Some(serial) = world.connection(socket, "arrived") else { return 0 };
        let one = &mut world.connections[serial];
        one.promised = Some(one.arrived);
        one.unread() as u32
    }

    fn shutdown_write(&self, socket: &Socket) -> Result<(), Errno> {
        let mut world = self.world_mut();
        let Some(serial) = world.connection(socket, "shutdown") else { return Err(Errno::EBADF) };
        world.shutdown(serial)
    }

    fn close(&self, socket: Socket) {
        self.world_mut().close(&socket);
    }

    fn close_listener(&self, listener: Listener) {
        let world = &mut *self.world_mut();
        let queue = &mut world.queues[listener.0];
        if std::mem::replace(&mut queue.closed, true) {
            world.violate(format!("listener {} is closed twice", listener.0));
            return;
        }
        queue.watch = None;
        for serial in std::mem::take(&mut queue.waiting) {
            world.connections[serial].done = true;
            world.connections[serial].closed = true;
        }
    }

    fn wake_others(&self) {}

    fn wake_for_good(&self) {
        self.world_mut().over = true;
    }
}
