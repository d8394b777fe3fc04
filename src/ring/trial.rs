//! A small client for the tests of the kernels a client may run on: connections that send, compare and
//! close, by the rules of the seam and nothing more. The same client over the real ring, over epoll and
//! over the fake kernel, so that what one of them answers otherwise shows.

use super::{Completion, Dialing, Entered, Memory, Operation, Socket, Span, Token, stride};
use nix::errno::Errno;
use std::collections::VecDeque;
use std::net::IpAddr;
use std::time::Duration;

/// What every connection does.
#[derive(Clone, Debug)]
pub(super) struct Task {
    pub(super) connections: u32,
    /// How often each place connects, talks and closes.
    pub(super) rounds: u32,
    /// Messages in one round, each sent when the one before has come back.
    pub(super) messages: u32,
    /// Bytes of a message.
    pub(super) size: u32,
    pub(super) targets: usize,
    pub(super) source: Option<IpAddr>,
    /// Limits a receive to so many bytes, and to those that are owed.
    pub(super) limit: Option<u32>,
    /// Whether it sends its FIN when it has sent everything, and awaits the other.
    pub(super) shuts: bool,
    /// When everything is given up, on the clock of the ring.
    pub(super) until: Duration,
}

/// How one round of a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// Every byte came back.
    Done,
    /// No socket, no connection.
    Unopened(Errno),
    Unconnected(Errno),
    /// The peer finished, or the connection broke, after so many bytes.
    Finished(u64),
    Broken(Errno, u64),
    /// The byte at this place was not the one that belongs there.
    Wrong(u64),
    /// The time ran out after so many bytes.
    Owed(u64),
}

const KINDS: [Kind; 8] = [
    Kind::Connect,
    Kind::Send,
    Kind::Receive,
    Kind::Room,
    Kind::Cancel,
    Kind::Shutdown,
    Kind::Close,
    Kind::Wakeups,
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Connect = 1,
    Send,
    Receive,
    Room,
    Cancel,
    Shutdown,
    Close,
    Wakeups,
}

/// A token: kind 8 | generation 24 | place 32.
fn token(kind: Kind, generation: u32, place: usize) -> Token {
    Token((kind as u64) << 56 | u64::from(generation & 0xff_ffff) << 32 | place as u64)
}

/// The byte that generation `generation` of `place` sends at `offset`.
pub(super) fn byte(place: usize, generation: u32, offset: u64) -> u8 {
    let word =
        (offset / 8 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ ((place as u64) << 20 | u64::from(generation));
    (word.wrapping_mul(0xbf58_476d_1ce4_e5b9) >> (offset % 8 * 7)) as u8
}

#[derive(Debug, Default)]
struct Place {
    socket: Option<Socket>,
    generation: u32,
    /// Which of all sockets, from 0.
    opened: usize,
    connected: bool,
    sent: u64,
    received: u64,
    /// Bytes of the send in flight, and its number.
    offered: u32,
    number: u64,
    sending: bool,
    full: bool,
    receiving: bool,
    watching: bool,
    in_flight: u32,
    end: Option<End>,
    shut: bool,
    cancelled: bool,
    closing: bool,
}

/// The client.
pub(super) struct Client<'a> {
    pub(super) ring: &'a mut dyn Dialing,
    task: Task,
    memory: Memory,
    buffer_size: u32,
    scratch: u64,
    places: Vec<Place>,
    starved: Vec<usize>,
    silent: VecDeque<(u64, usize)>,
    pub(super) ends: Vec<End>,
    /// The sockets of those ends, as they were opened.
    pub(super) sockets: Vec<Option<usize>>,
    opened: usize,
    pub(super) wakes: u32,
    pub(super) empty_pool: u32,
    pub(super) short_sends: u32,
    pub(super) limits_reached: u32,
}

/// Bytes of memory that a task needs with so many buffers of so many bytes.
pub(super) fn memory_needed(task: &Task, buffers: u16, size: u32) -> u64 {
    u64::from(buffers) * stride(size) + u64::from(task.connections) * u64::from(task.size)
}

impl<'a> Client<'a> {
    pub(super) fn new(
        ring: &'a mut dyn Dialing,
        memory: Memory,
        buffers: u16,
        size: u32,
        task: Task,
    ) -> Self {
        assert!(memory_needed(&task, buffers, size) <= memory.length);
        (0..buffers).for_each(|buffer| ring.provide(buffer));
        ring.publish();
        ring.push(Operation::Wakeups, token(Kind::Wakeups, 0, 0));
        let places = (0..task.connections).map(|_| Place::default()).collect();
        Self {
            ring,
            scratch: u64::from(buffers) * stride(size),
            task,
            memory,
            buffer_size: size,
            places,
            starved: Vec::new(),
            silent: VecDeque::new(),
            ends: Vec::new(),
            sockets: Vec::new(),
            opened: 0,
            wakes: 0,
            empty_pool: 0,
            short_sends: 0,
            limits_reached: 0,
        }
    }

    /// Runs the task to its end, and says how every round ended.
    pub(super) fn run(&mut self) -> Vec<End> {
        (0..self.places.len()).for_each(|place| self.open(place));
        while self.ends.len() < (self.task.connections * self.task.rounds) as usize {
            if !self.turn() {
                break;
            }
        }
        std::mem::take(&mut self.ends)
    }

    /// One turn. False when the kernel failed.
    pub(super) fn turn(&mut self) -> bool {
        self.ring.publish();
        for place in std::mem::take(&mut self.starved) {
            self.receive(place);
        }
        let over = self.ring.now() >= self.task.until;
        if over {
            for place in 0..self.places.len() {
                let received = self.places[place].received;
                self.end(place, End::Owed(received));
            }
        }
        let until = if over || !self.silent.is_empty() {
            self.ring.now() + Duration::from_millis(1)
        } else {
            self.task.until
        };
        match self.ring.enter(1, Some(until)) {
            Entered::Done | Entered::Interrupted | Entered::Busy => {}
            Entered::CompletionsLost | Entered::Failed(_) => return false,
        }
        while let Some(done) = self.ring.next_completion() {
            self.dispatch(done);
        }
        let answered = self.ring.answered();
        while self.silent.front().is_some_and(|&(number, _)| number < answered) {
            let (number, place) = self.silent.pop_front().expect("just seen");
            let one = &self.places[place];
            if one.sending && one.number == number {
                let bytes = one.offered;
                self.over(place);
                self.places[place].sending = false;
                self.on_taken(place, bytes);
            }
        }
        true
    }

    fn open(&mut self, place: usize) {
        let target = place % self.task.targets;
        let generation = self.places[place].generation + 1;
        self.places[place] = Place { generation, ..Place::default() };
        match self.ring.open(target, self.task.source) {
            Ok(socket) => {
                self.places[place].socket = Some(socket);
                self.places[place].opened = self.opened;
                self.opened += 1;
                self.push(place, Kind::Connect, Operation::Connect { socket, target });
            }
            Err(error) => {
                let errno = Errno::from_raw(error.raw_os_error().expect("an errno"));
                self.ends.push(End::Unopened(errno));
                self.sockets.push(None);
                self.next_round(place);
            }
        }
    }

    fn next_round(&mut self, place: usize) {
        if self.places[place].generation < self.task.rounds {
            self.open(place);
        }
    }

    fn push(&mut self, place: usize, kind: Kind, operation: Operation) {
        self.places[place].in_flight += 1;
        let token = token(kind, self.places[place].generation, place);
        self.ring.push(operation, token);
    }

    fn over(&mut self, place: usize) {
        self.places[place].in_flight -= 1;
    }

    fn dispatch(&mut self, done: Completion) {
        let kind = KINDS[(done.token.0 >> 56) as usize - 1];
        let place = done.token.0 as u32 as usize;
        if kind == Kind::Wakeups {
            self.wakes += 1;
            if !done.more {
                self.ring.push(Operation::Wakeups, done.token);
            }
            return;
        }
        let generation = self.places[place].generation & 0xff_ffff;
        assert_eq!(u64::from(generation), done.token.0 >> 32 & 0xff_ffff, "stale: {done:?}");
        if !done.more {
            self.over(place);
        }
        match kind {
            Kind::Connect => self.on_connected(place, done),
            Kind::Send => self.on_sent(place, done),
            Kind::Receive => self.on_received(place, done),
            Kind::Room => {
                let one = &mut self.places[place];
                one.full = false;
                one.watching = done.more;
            }
            Kind::Cancel => {
                assert!(matches!(done.outcome(), Ok(0) | Err(Errno::ENOENT | Errno::EALREADY)), "{done:?}")
            }
            // A connection that is broken says so to its receive.
            Kind::Shutdown => assert!(matches!(done.outcome(), Ok(0) | Err(Errno::ENOTCONN)), "{done:?}"),
            Kind::Close => return self.on_closed(place, done),
            Kind::Wakeups => unreachable!(),
        }
        self.advance(place);
    }

    fn on_connected(&mut self, place: usize, done: Completion) {
        match done.outcome() {
            Ok(result) => {
                assert_eq!(result, 0);
                self.places[place].connected = true;
                self.receive(place);
            }
            Err(errno) => self.end(place, End::Unconnected(errno)),
        }
    }

    fn receive(&mut self, place: usize) {
        let one = &mut self.places[place];
        if !one.connected || one.receiving || one.end.is_some() || one.closing {
            return;
        }
        one.receiving = true;
        let whole = u64::from(self.task.messages) * u64::from(self.task.size);
        let owed = (whole - one.received).max(1) as u32;
        let limit = self.task.limit.map_or(u32::MAX, |limit| limit.min(owed));
        let socket = one.socket.expect("it is open");
        self.push(place, Kind::Receive, Operation::Receive { socket, limit });
    }

    fn on_received(&mut self, place: usize, done: Completion) {
        if let Some(buffer) = done.buffer {
            if let Ok(bytes) = done.outcome() {
                self.compare(place, buffer, bytes);
            }
            self.ring.provide(buffer);
        }
        let one = &mut self.places[place];
        one.receiving = done.more;
        let received = one.received;
        match done.outcome() {
            Ok(0) if self.task.shuts && received >= self.whole() => self.end(place, End::Done),
            Ok(0) => self.end(place, End::Finished(received)),
            Ok(_) if !done.more && (self.task.shuts || received < self.whole()) => self.receive_again(place),
            Ok(_) => self.limits_reached += u32::from(!done.more),
            Err(Errno::ENOBUFS) => {
                self.ring.found_no_buffer();
                self.empty_pool += 1;
                self.starved.push(place);
            }
            Err(Errno::ECANCELED | Errno::EINTR) => self.receive_again(place),
            Err(errno) => self.end(place, End::Broken(errno, received)),
        }
    }

    /// At the next turn, when its buffer is with the kernel again.
    fn receive_again(&mut self, place: usize) {
        self.starved.push(place);
    }

    fn compare(&mut self, place: usize, buffer: u16, bytes: u32) {
        assert!(bytes <= self.buffer_size);
        let start = u64::from(buffer) * stride(self.buffer_size);
        for index in 0..u64::from(bytes) {
            // SAFETY: the buffer lies in the memory, which outlives the ring.
            let at = unsafe { self.memory.base.add((start + index) as usize) };
            // SAFETY: the kernel handed the buffer over with the completion.
            let got = unsafe { at.read() };
            let one = &self.places[place];
            let (generation, offset) = (one.generation, one.received);
            let asked = one.sent + u64::from(if one.sending { one.offered } else { 0 });
            if offset >= asked || got != byte(place, generation, offset) {
                self.end(place, End::Wrong(offset));
            }
            self.places[place].received += 1;
        }
    }

    fn whole(&self) -> u64 {
        u64::from(self.task.messages) * u64::from(self.task.size)
    }

    fn on_sent(&mut self, place: usize, done: Completion) {
        self.places[place].sending = false;
        match done.outcome() {
            Ok(bytes) => {
                let short = bytes < self.places[place].offered;
                self.short_sends += u32::from(short);
                self.places[place].full = short;
                self.on_taken(place, bytes);
            }
            Err(Errno::EAGAIN) => self.places[place].full = true,
            Err(Errno::EINTR | Errno::ECANCELED) => {}
            Err(errno) => {
                let received = self.places[place].received;
                self.end(place, End::Broken(errno, received));
            }
        }
    }

    fn on_taken(&mut self, place: usize, bytes: u32) {
        self.places[place].sent += u64::from(bytes);
        self.advance(place);
    }

    fn end(&mut self, place: usize, end: End) {
        let one = &mut self.places[place];
        if one.socket.is_some() && one.end.is_none() {
            one.end = Some(end);
            self.advance(place);
        }
    }

    /// What a connection can do next.
    fn advance(&mut self, place: usize) {
        let (whole, shuts) = (self.whole(), self.task.shuts);
        let one = &mut self.places[place];
        if one.connected && one.received >= whole && !shuts {
            one.end.get_or_insert(End::Done);
        }
        if one.end.is_some() {
            return self.close(place);
        }
        if !one.connected || one.sending {
            return;
        }
        if one.full {
            if !one.watching {
                one.watching = true;
                let socket = one.socket.expect("it is open");
                self.push(place, Kind::Room, Operation::AwaitRoom { socket });
            }
            return;
        }
        if one.sent >= whole && shuts && !one.shut {
            one.shut = true;
            let socket = one.socket.expect("it is open");
            return self.push(place, Kind::Shutdown, Operation::Shutdown { socket });
        }
        let size = u64::from(self.task.size);
        let due = whole.min((one.received / size + 1) * size);
        let length = due - one.sent;
        if length > 0 {
            self.send(place, length as u32);
        }
    }

    fn send(&mut self, place: usize, length: u32) {
        let offset = self.scratch + place as u64 * u64::from(self.task.size);
        let (generation, sent) = (self.places[place].generation, self.places[place].sent);
        for index in 0..u64::from(length) {
            // SAFETY: the scratch of this place lies in the memory, by the assertion in `new`.
            let at = unsafe { self.memory.base.add((offset + index) as usize) };
            // SAFETY: no send of this place is in flight.
            unsafe { at.write(byte(place, generation, sent + index)) };
        }
        let number = self.ring.pushed();
        let one = &mut self.places[place];
        (one.sending, one.offered, one.number) = (true, length, number);
        if self.ring.skips_sent() {
            self.silent.push_back((number, place));
        }
        let socket = self.places[place].socket.expect("it is open");
        self.push(place, Kind::Send, Operation::Send { socket, span: Span { offset, length } });
    }

    fn close(&mut self, place: usize) {
        let one = &mut self.places[place];
        if one.closing {
            return;
        }
        let (generation, socket) = (one.generation, one.socket.expect("it is open"));
        if !one.cancelled && (one.receiving || one.watching || !one.connected) && one.in_flight > 0 {
            one.cancelled = true;
            let mut targets = Vec::new();
            if one.receiving {
                targets.push(Kind::Receive);
            }
            if one.watching {
                targets.push(Kind::Room);
            }
            if !one.connected {
                targets.push(Kind::Connect);
            }
            for kind in targets {
                let (target, token) =
                    (token(kind, generation, place), token(Kind::Cancel, generation, place));
                self.places[place].in_flight += 1;
                self.ring.cancel(socket, target, token);
            }
        }
        if self.places[place].in_flight == 0 {
            self.places[place].closing = true;
            self.starved.retain(|&other| other != place);
            self.push(place, Kind::Close, Operation::Close { socket });
        }
    }

    fn on_closed(&mut self, place: usize, done: Completion) {
        assert_eq!(done.result, 0, "{done:?}");
        let one = &mut self.places[place];
        let socket = one.socket.take().expect("it was open");
        let (end, opened) = (one.end.take().expect("it had a reason to close"), one.opened);
        self.ring.closed(socket);
        self.ends.push(end);
        self.sockets.push(Some(opened));
        self.next_round(place);
    }
}
