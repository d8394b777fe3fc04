//! No allocation on the path of a message, counted: a million of them through the real engine, every byte
//! compared and every time recorded, over a ring that allocates nothing itself. Also where the pool runs
//! empty, a send has to wait, and a message is late.
//!
//! It leaves out the edge of an interval, where the numbers change hands: there the main thread is told.

use super::super::super::plan::Spacing;
use super::*;
use crate::ring::{Entered, Memory, Ring, Socket, Span, Token, sim, stride};
use nix::errno::Errno;
use std::io;
use std::net::IpAddr;

const CONNECTIONS: u32 = 64;
const BUFFERS: u16 = 48;
const MESSAGE: u32 = 64;
const DEPTH: u32 = 4;
const MESSAGES: u64 = 1_000_000;
/// Nanoseconds from one enter to the next, by the ring's clock.
const TURN: u64 = 10_000;

/// One server's end of a connection: what came, in order, until it goes back.
#[derive(Clone, Copy)]
struct Peer {
    receive: Option<Token>,
    send: Option<(Token, Span)>,
    room: Option<Token>,
    /// True from a refused send until room is reported.
    full: bool,
    bytes: [u8; (MESSAGE * DEPTH) as usize],
    held: usize,
}

/// A kernel of fixed size, and servers that echo.
struct Still {
    peers: Vec<Peer>,
    opened: u32,
    memory: sim::Buffers,
    free: VecDeque<u16>,
    completions: VecDeque<Completion>,
    events: u64,
    enters: u64,
    echoed: u64,
    empty_pools: u64,
    refused: u64,
    /// Whether a send that is taken whole is answered by silence.
    silent: bool,
    pushed: u64,
    answered: u64,
}

impl Still {
    fn new(memory: Memory, silent: bool) -> Self {
        let peer = Peer { receive: None, send: None, room: None, full: false, bytes: [0; 256], held: 0 };
        Self {
            peers: vec![peer; CONNECTIONS as usize],
            opened: 0,
            memory: sim::Buffers::new(memory, BUFFERS, MESSAGE * DEPTH, false),
            free: VecDeque::with_capacity(BUFFERS.into()),
            completions: VecDeque::with_capacity(8 * CONNECTIONS as usize),
            events: 0,
            enters: 0,
            echoed: 0,
            empty_pools: 0,
            refused: 0,
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
            self.refused += 1;
            return self.answer(token, -(Errno::EAGAIN as i32), false, None);
        }
        let Peer { bytes, held, .. } = &mut self.peers[number];
        (0..span.length).for_each(|index| bytes[*held + index as usize] = self.memory.read(span, index));
        *held += span.length as usize;
        if !self.silent {
            self.answer(token, span.length as i32, false, None);
        }
    }

    fn receive(&mut self, number: usize) {
        let Peer { receive: Some(token), held, bytes, .. } = self.peers[number] else { return };
        if held == 0 {
            return;
        }
        let Some(buffer) = self.free.pop_front() else {
            self.peers[number].receive = None;
            self.empty_pools += 1;
            return self.answer(token, -(Errno::ENOBUFS as i32), false, None);
        };
        let place = u64::from(buffer) * stride(MESSAGE * DEPTH);
        self.memory.write(place, held as u32, |index| bytes[index as usize]);
        self.peers[number].held = 0;
        self.echoed += held as u64 / u64::from(MESSAGE);
        self.answer(token, held as i32, true, Some(buffer));
    }
}

fn number(socket: Socket) -> usize {
    (0..CONNECTIONS).find(|&slot| sim::slot(slot) == socket).expect("one of ours") as usize
}

impl Ring for Still {
    fn push(&mut self, operation: Operation, token: Token) {
        self.pushed += 1;
        match operation {
            Operation::Connect { .. } => self.answer(token, 0, false, None),
            Operation::Receive { socket, .. } => self.peers[number(socket)].receive = Some(token),
            Operation::Send { socket, span } => self.peers[number(socket)].send = Some((token, span)),
            Operation::AwaitRoom { socket } => self.peers[number(socket)].room = Some(token),
            Operation::Wakeups => {}
            other => panic!("a healthy connection needs no {other:?}"),
        }
    }

    fn enter(&mut self, _: u32, _: Option<Duration>) -> Entered {
        self.enters += 1;
        self.answered = self.pushed;
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
        Duration::from_nanos(self.enters * TURN)
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

impl Dialing for Still {
    fn open(&mut self, _: usize, _: Option<IpAddr>) -> io::Result<Socket> {
        self.opened += 1;
        Ok(sim::slot(self.opened - 1))
    }

    fn closed(&mut self, _: Socket) {}
}

#[test]
fn a_million_messages_of_a_closed_loop_allocate_nothing() {
    count_allocations(Arrivals::Closed, false);
}

#[test]
fn a_million_messages_whose_sends_are_silent_allocate_nothing() {
    count_allocations(Arrivals::Closed, true);
}

#[test]
fn a_million_messages_of_a_schedule_allocate_nothing() {
    // A little less than the servers can do: some of them are late, and most are not.
    count_allocations(Arrivals::Open { rate: 6e6, spacing: Spacing::Poisson }, true);
}

fn count_allocations(arrivals: Arrivals, silent: bool) {
    const HOUR: Duration = Duration::from_secs(3600);
    let plan = Plan {
        workload: Workload::PingPong,
        connections: CONNECTIONS,
        size: MESSAGE..=MESSAGE,
        depth: DEPTH,
        arrivals,
        end: End::After(HOUR),
        warmup: Duration::ZERO,
        interval: HOUR,
        connect_rate: None,
        ..Scenario::draw(0, World::Honest).plan
    };
    let arena = Arena::new(BUFFERS, MESSAGE * DEPTH, 16 * 1024).unwrap();
    let control = Control::new(Instant::now(), 0);
    let (sender, reports) = channel();
    let share = Share::of_all(&plan, &control, sender);
    let mut engine = Engine::new(Still::new(arena.memory(), silent), &arena, share, channel().1);
    while reports.try_recv().is_err() {
        assert_eq!(engine.turn(), None);
    }
    control.open(engine.now + TURN, engine.now + HOUR.as_nanos() as u64);
    control.advance(Phase::Load);
    // Everything has happened once.
    (0..1_000).for_each(|_| assert_eq!(engine.turn(), None));
    let before = engine.ring.echoed;
    let allocations = allocation_counter::measure(|| {
        while engine.ring.echoed < before + MESSAGES {
            assert_eq!(engine.turn(), None);
        }
    });
    let Still { echoed, empty_pools, refused, .. } = engine.ring;
    let total = engine.account.close();
    println!("{echoed} messages, {empty_pools} empty pools, {refused} refused sends: {allocations:?}");
    assert_eq!(allocations.count_total, 0);
    assert!(empty_pools > 1_000 && refused > 1_000, "the rarer paths were taken too");
    assert_eq!((total.troubles.total(), engine.ended.wrong_connections), (0, 0));
    // What was counted was recorded: everything but what came back last.
    let Ok(Report::Interval { interval, .. }) = reports.try_recv() else { panic!("no interval") };
    assert!(interval.messages >= MESSAGES && interval.service.samples() == interval.messages);
    assert_eq!(interval.response.samples() > 0, arrivals != Arrivals::Closed);
}
