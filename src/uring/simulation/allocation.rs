//! No allocation on the path of a message, counted: a million of them through the real loop, over a
//! ring that allocates nothing itself. Also where the pool runs empty, a multishot receive ends at
//! its limit, and a send has to wait.

use super::scenario::Scenario;
use crate::ring::{Completion, Entered, Listening, Operation, Ring, Socket, Span, Token, sim};
use crate::uring::buffers::{Arena, Buffers, CHUNK, Incremental, Owned, Ownership, Shared};
use crate::uring::event_loop::EventLoop;
use crate::worker::Worker;
use nix::errno::Errno;
use std::collections::VecDeque;
use std::time::Duration;

const CONNECTIONS: u32 = 64;
const BUFFERS: u32 = 128;
const MESSAGE: u32 = 64;
const MESSAGES: u64 = 1_000_000;

/// What one peer has asked of it: it sends a message whenever the last one came back.
#[derive(Clone, Copy)]
struct Peer {
    receive: Option<(Token, u32)>,
    /// That receive is into memory of the loop's own.
    into: bool,
    send: Option<(Token, Span)>,
    room: Option<Token>,
    /// True from a refused send until room is reported.
    full: bool,
    owed: u32,
}

/// A kernel of fixed size. Sockets are 0 to `CONNECTIONS` - 1; every accept is answered at once.
struct Still {
    peers: [Peer; CONNECTIONS as usize],
    accept: Option<Token>,
    accepted: u32,
    free: VecDeque<u16>,
    completions: VecDeque<Completion>,
    events: u64,
    enters: u64,
    /// Whether a send that is taken whole is answered by silence.
    silent: bool,
    pushed: u64,
    answered: u64,
}

impl Still {
    fn new(silent: bool) -> Self {
        Self {
            peers: [Peer { receive: None, into: false, send: None, room: None, full: false, owed: 0 };
                CONNECTIONS as usize],
            accept: None,
            accepted: 0,
            free: VecDeque::with_capacity(BUFFERS as usize),
            completions: VecDeque::with_capacity(4 * CONNECTIONS as usize),
            events: 0,
            enters: 0,
            silent,
            pushed: 0,
            answered: 0,
        }
    }

    fn answer(&mut self, token: Token, result: i32, more: bool, buffer: Option<u16>) {
        assert!(self.completions.len() < self.completions.capacity());
        self.completions.push_back(Completion { token, result, more, buffer, keeps_buffer: false });
    }

    /// True once in `every` times.
    fn now_and_then(&mut self, every: u64) -> bool {
        self.events += 1;
        self.events.is_multiple_of(every)
    }

    fn send(&mut self, number: usize) {
        if let Some(token) = self.peers[number].room.filter(|_| self.peers[number].full) {
            self.peers[number].full = false;
            self.answer(token, 1, true, None);
        }
        let Some((token, span)) = self.peers[number].send.take() else { return };
        if self.now_and_then(97) {
            self.peers[number].full = true;
            return self.answer(token, -(Errno::EAGAIN as i32), false, None);
        }
        self.peers[number].owed -= span.length;
        if !self.silent {
            self.answer(token, span.length as i32, false, None);
        }
    }

    fn receive(&mut self, number: usize) {
        let Some((token, limit)) = self.peers[number].receive else { return };
        if self.peers[number].owed > 0 {
            return;
        }
        if self.peers[number].into {
            (self.peers[number].receive, self.peers[number].owed) = (None, MESSAGE);
            return self.answer(token, MESSAGE as i32, false, None);
        }
        let buffer = if self.now_and_then(89) { None } else { self.free.pop_front() };
        let more = buffer.is_some() && limit > MESSAGE;
        self.peers[number].receive = more.then_some((token, limit.saturating_sub(MESSAGE)));
        match buffer {
            None => self.answer(token, -(Errno::ENOBUFS as i32), false, None),
            Some(_) => {
                self.peers[number].owed = MESSAGE;
                self.answer(token, MESSAGE as i32, more, buffer);
            }
        }
    }
}

fn number(socket: Socket) -> usize {
    (0..CONNECTIONS).find(|&slot| sim::slot(slot) == socket).expect("one of ours") as usize
}

impl Ring for Still {
    fn push(&mut self, operation: Operation, token: Token) {
        self.pushed += 1;
        match operation {
            Operation::Accept { .. } => self.accept = Some(token),
            Operation::Receive { socket, limit } => {
                self.peers[number(socket)].receive = Some((token, limit));
            }
            Operation::ReceiveInto { socket, span, waits: true } => {
                let peer = &mut self.peers[number(socket)];
                (peer.receive, peer.into) = (Some((token, span.length)), true);
            }
            Operation::Send { socket, span } => self.peers[number(socket)].send = Some((token, span)),
            Operation::AwaitRoom { socket } => self.peers[number(socket)].room = Some(token),
            Operation::Wakeups => {}
            other => panic!("a healthy peer needs no {other:?}"),
        }
    }

    fn enter(&mut self, _: u32, _: Option<Duration>) -> Entered {
        self.enters += 1;
        self.answered = self.pushed;
        if let Some(token) = self.accept.filter(|_| self.accepted < CONNECTIONS) {
            self.answer(token, self.accepted as i32, true, None);
            self.accepted += 1;
        }
        for number in 0..CONNECTIONS as usize {
            self.send(number);
            self.receive(number);
        }
        Entered::Done
    }

    fn next_completion(&mut self) -> Option<Completion> {
        self.completions.pop_front()
    }

    fn provide(&mut self, buffer: u16) {
        self.free.push_back(buffer);
    }

    fn publish(&mut self) {}

    fn now(&mut self) -> Duration {
        Duration::from_micros(self.enters * 10)
    }

    fn obeys_limit(&self) -> bool {
        true
    }

    fn skips_sent(&self) -> bool {
        self.silent
    }

    fn pushed(&self) -> u64 {
        self.pushed
    }

    fn answered(&mut self) -> u64 {
        self.answered
    }

    fn overflows(&self) -> u64 {
        0
    }

    fn enters(&self) -> u64 {
        self.enters
    }
}

impl Listening for Still {
    fn accepted(&self, result: u32) -> Socket {
        sim::slot(result)
    }

    fn accept_queued(&mut self, _: usize) -> Result<Socket, Errno> {
        Err(Errno::EAGAIN)
    }

    fn close_listener(&mut self, _: usize) {}

    fn arrived(&mut self, _: Socket) -> Option<u32> {
        None
    }

    fn wake_others(&mut self) {}
}

#[test]
fn a_million_messages_allocate_nothing() {
    count_allocations::<Shared>(false);
}

#[test]
fn a_million_messages_whose_sends_are_silent_allocate_nothing() {
    count_allocations::<Shared>(true);
}

#[test]
fn a_million_messages_into_pieces_of_buffers_allocate_nothing() {
    count_allocations::<Incremental>(true);
}

#[test]
fn a_million_messages_into_buffers_of_their_own_allocate_nothing() {
    count_allocations::<Owned>(true);
}

fn count_allocations<K: Ownership>(silent: bool) {
    let scenario = Scenario { max_connections: CONNECTIONS + 1, ..Scenario::draw(0) };
    let arena = Arena::new(BUFFERS, MESSAGE, 16 * u64::from(CHUNK)).unwrap();
    let (config, counters) = (scenario.config(), scenario.counters());
    let (admission, stop) = (scenario.admission(), scenario.stop());
    let worker = Worker::for_tests(&config, &admission, &counters, &stop);
    let mut event_loop = EventLoop::new(Still::new(silent), Buffers::<K>::new(&arena), &worker, 1);
    for _ in 0..2 * CONNECTIONS {
        assert!(event_loop.turn().unwrap().is_none());
    }
    assert_eq!(counters.open.get(), u64::from(CONNECTIONS), "all have come");
    let (before, goal) = (counters.sends.get(), counters.sends.get() + MESSAGES);
    let allocations = allocation_counter::measure(|| {
        while counters.sends.get() < goal {
            assert!(event_loop.turn().unwrap().is_none());
        }
    });
    let own = |name| counters.own.iter().find(|one| one.0 == name).expect("a counter").1;
    println!(
        "{} messages, {} empty pools, {} bytes spilled: {} allocations",
        counters.sends.get() - before,
        own("empty_pool"),
        own("bytes_spilled"),
        allocations.count_total
    );
    assert_eq!(allocations.count_total, 0);
    assert!(
        (K::OWN || own("empty_pool") > 1000) && own("bytes_spilled") > 1000,
        "the rarer paths were taken too"
    );
}
