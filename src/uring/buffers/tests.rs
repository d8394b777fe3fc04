//! Random use of the buffers against a plain model: queues of bytes. What is in a queue comes out in
//! order, whatever was spilled in between, and every buffer is with the kernel, leased, or neither.

use super::*;
use crate::ring::{Completion, Entered, Operation, Token, stride};
use std::collections::VecDeque;
use std::time::Duration;

/// The kernel's side of the pool, and nothing else of a ring.
struct Pool(VecDeque<u16>);

impl Ring for Pool {
    fn provide(&mut self, buffer: u16) {
        assert!(!self.0.contains(&buffer), "buffer {buffer} was provided twice");
        self.0.push_back(buffer);
    }
    fn publish(&mut self) {}
    fn push(&mut self, _: Operation, _: Token) {
        unreachable!()
    }
    fn enter(&mut self, _: u32, _: Option<Duration>) -> Entered {
        unreachable!()
    }
    fn next_completion(&mut self) -> Option<Completion> {
        unreachable!()
    }
    fn now(&mut self) -> Duration {
        unreachable!()
    }
    fn obeys_limit(&self) -> bool {
        unreachable!()
    }
    fn overflows(&self) -> u64 {
        unreachable!()
    }
    fn enters(&self) -> u64 {
        unreachable!()
    }
}

const BUFFERS: u32 = 16;
const SIZE: u32 = 24 * 1024; // More than a chunk, so that one buffer can fill two.

fn write(arena: &Arena, offset: u64, bytes: &[u8]) {
    for (index, byte) in bytes.iter().enumerate() {
        // SAFETY: the test stays within the arena.
        let target = unsafe { arena.memory().base.add(offset as usize + index) };
        // SAFETY: mapped, and nobody else uses it.
        unsafe { target.write(*byte) };
    }
}

fn read(arena: &Arena, span: Span) -> Vec<u8> {
    (0..u64::from(span.length))
        .map(|index| {
            // SAFETY: the span lies within the arena.
            let source = unsafe { arena.memory().base.add((span.offset + index) as usize) };
            // SAFETY: mapped, and nobody else uses it.
            unsafe { source.read() }
        })
        .collect()
}

#[test]
fn bytes_come_out_in_order_whatever_is_spilled() {
    for seed in 0..40 {
        let mut random = fastrand::Rng::with_seed(seed);
        let chunks = random.u64(0..6);
        let arena = Arena::new(BUFFERS, SIZE, chunks * u64::from(CHUNK)).unwrap();
        let mut buffers = Buffers::<Shared>::new(&arena);
        let mut pool = Pool(VecDeque::new());
        buffers.provide_all(&mut pool);
        let mut queues = [LeaseQueue::EMPTY, LeaseQueue::EMPTY, LeaseQueue::EMPTY];
        let mut models: [VecDeque<u8>; 3] = Default::default();
        for _ in 0..600 {
            let index = random.usize(0..3);
            let (queue, model) = (&mut queues[index], &mut models[index]);
            match random.u8(0..8) {
                0..=2 if !pool.0.is_empty() => {
                    let buffer = pool.0.pop_front().unwrap();
                    let bytes: Vec<u8> = (0..random.u32(1..=SIZE)).map(|_| random.u8(..)).collect();
                    write(&arena, arena.offset(u32::from(buffer)), &bytes);
                    let lease = buffers.lease(buffer, bytes.len() as u32);
                    assert!(buffers.append(queue, lease, &mut pool));
                    model.extend(bytes);
                }
                3..=5 if !queue.is_empty() => {
                    let span = buffers.front(queue).unwrap();
                    let taken = random.u32(1..=span.length);
                    let expected: Vec<u8> = model.drain(..taken as usize).collect();
                    assert_eq!(read(&arena, Span { length: taken, ..span }), expected, "seed {seed}");
                    buffers.advance(queue, taken, &mut pool);
                }
                6 => {
                    let complete = buffers.spill(queue, &mut pool);
                    let pool = u64::from(BUFFERS) * stride(SIZE);
                    let spilled = buffers.front(queue).is_none_or(|span| span.offset >= pool);
                    assert!(spilled || !complete, "seed {seed}: said to be complete");
                }
                7 if random.u8(0..10) == 0 => {
                    buffers.clear(queue, 0, &mut pool);
                    model.clear();
                }
                _ => {}
            }
            assert_eq!(queue.is_empty(), model.is_empty(), "seed {seed}");
            assert_eq!(buffers.free() as usize, pool.0.len(), "seed {seed}");
        }
        for queue in &mut queues {
            buffers.clear(queue, 0, &mut pool);
        }
        assert_eq!((buffers.lent(), buffers.spilled()), (0, 0), "seed {seed}");
        assert_eq!((pool.0.len(), buffers.free_chunks.len()), (BUFFERS as usize, chunks as usize));
    }
}

#[test]
fn what_is_sent_of_several_gives_back_those_that_are_empty() {
    let arena = Arena::new(4, 4096, 0).unwrap();
    let mut buffers = Buffers::<Shared>::new(&arena);
    let mut pool = Pool(VecDeque::new());
    let mut queue = LeaseQueue::EMPTY;
    for (buffer, length) in [(2, 10), (0, 20), (3, 30)] {
        let lease = buffers.lease(buffer, length);
        assert!(buffers.append(&mut queue, lease, &mut pool));
    }
    let spans = |buffers: &Buffers<'_>, queue: &LeaseQueue| {
        buffers.spans(queue).map(|span| (span.offset, span.length)).collect::<Vec<_>>()
    };
    assert_eq!(
        spans(&buffers, &queue),
        [(arena.offset(2), 10), (arena.offset(0), 20), (arena.offset(3), 30)]
    );
    buffers.advance(&mut queue, 25, &mut pool);
    assert_eq!(pool.0.make_contiguous(), &mut [2][..]);
    assert_eq!(spans(&buffers, &queue), [(arena.offset(0) + 15, 5), (arena.offset(3), 30)]);
    // The kernel reads into the second: both stay.
    buffers.clear(&mut queue, 6, &mut pool);
    assert_eq!(buffers.lent(), 2);
    buffers.advance(&mut queue, 35, &mut pool);
    assert!(queue.is_empty() && buffers.spans(&queue).next().is_none());
    assert_eq!(pool.0.make_contiguous(), &mut [2, 0, 3][..]);
}

#[test]
fn what_the_kernel_reads_stays_when_the_rest_is_given_back() {
    let arena = Arena::new(4, 4096, 0).unwrap();
    let mut buffers = Buffers::<Shared>::new(&arena);
    let mut pool = Pool(VecDeque::new());
    let mut queue = LeaseQueue::EMPTY;
    for buffer in 0..3 {
        let lease = buffers.lease(buffer, 10);
        assert!(buffers.append(&mut queue, lease, &mut pool));
    }
    buffers.clear(&mut queue, 5, &mut pool);
    assert_eq!((buffers.lent(), pool.0.make_contiguous()), (1, &mut [1, 2][..]));
    buffers.clear(&mut queue, 0, &mut pool);
    assert_eq!(buffers.lent(), 0);
}

#[test]
#[should_panic(expected = "given out twice")]
fn a_buffer_the_kernel_gives_out_twice_stops_the_program() {
    let arena = Arena::new(2, 4096, 0).unwrap();
    let mut buffers = Buffers::<Shared>::new(&arena);
    let first = buffers.lease(1, 10);
    let second = buffers.lease(1, 10);
    drop((first, second));
}

/// What a receive of `length` bytes into `buffer` brings.
fn brought(buffer: u16, length: u32, keeps_buffer: bool) -> Completion {
    Completion { token: Token(0), result: length as i32, more: true, buffer: Some(buffer), keeps_buffer }
}

#[test]
fn pieces_of_buffers_come_out_in_order_whatever_is_spilled() {
    const SIZE: u32 = 2048;
    for seed in 0..40 {
        let mut random = fastrand::Rng::with_seed(seed);
        let chunks = random.u64(0..6);
        let arena = Arena::new(4, SIZE, chunks * u64::from(CHUNK)).unwrap();
        let mut buffers = Buffers::<Incremental>::new(&arena);
        let mut pool = Pool(VecDeque::new());
        buffers.provide_all(&mut pool);
        let mut queues = [LeaseQueue::EMPTY, LeaseQueue::EMPTY, LeaseQueue::EMPTY];
        let mut models: [VecDeque<u8>; 3] = Default::default();
        // How far the kernel has come in the buffer at the head of the pool.
        let mut filled = 0;
        for _ in 0..3_000 {
            let index = random.usize(0..3);
            let (queue, model) = (&mut queues[index], &mut models[index]);
            match random.u8(0..16) {
                0..=8 if !pool.0.is_empty() => {
                    let buffer = pool.0[0];
                    let length = random.u32(1..=(SIZE - filled).min(200));
                    let bytes: Vec<u8> = (0..length).map(|_| random.u8(..)).collect();
                    write(&arena, arena.offset(u32::from(buffer)) + u64::from(filled), &bytes);
                    filled += length;
                    let keeps = filled < SIZE;
                    if !keeps {
                        pool.0.pop_front();
                        filled = 0;
                    }
                    let lease = buffers.received(0, &brought(buffer, length, keeps), &mut pool).unwrap();
                    if random.u8(0..8) == 0 {
                        buffers.give_back(lease, &mut pool);
                    } else {
                        assert!(buffers.append(queue, lease, &mut pool));
                        model.extend(bytes);
                    }
                }
                9 if !pool.0.is_empty() => {
                    let ended = buffers.received(0, &brought(pool.0[0], 0, true), &mut pool);
                    assert!(ended.is_none(), "seed {seed}");
                }
                10..=13 if !queue.is_empty() => {
                    let span = buffers.front(queue).unwrap();
                    let taken = random.u32(1..=span.length);
                    let expected: Vec<u8> = model.drain(..taken as usize).collect();
                    assert_eq!(read(&arena, Span { length: taken, ..span }), expected, "seed {seed}");
                    buffers.advance(queue, taken, &mut pool);
                }
                14 => {
                    buffers.spill(queue, &mut pool);
                }
                15 if random.u8(0..10) == 0 => {
                    buffers.clear(queue, 0, &mut pool);
                    model.clear();
                }
                _ => {}
            }
            assert_eq!(queue.is_empty(), model.is_empty(), "seed {seed}");
            assert_eq!(buffers.free() as usize, pool.0.len(), "seed {seed}");
        }
        for queue in &mut queues {
            buffers.clear(queue, 0, &mut pool);
        }
        assert_eq!((buffers.free_chunks.len(), buffers.spilled()), (chunks as usize, 0), "seed {seed}");
        assert_eq!(buffers.lent(), 0, "seed {seed}");
    }
}

#[test]
fn a_message_without_a_piece_left_goes_to_a_chunk_and_without_a_chunk_the_connection_is_told() {
    let arena = Arena::new(2, 4096, u64::from(CHUNK)).unwrap();
    let mut buffers = Buffers::<Incremental>::new(&arena);
    let mut pool = Pool(VecDeque::new());
    buffers.provide_all(&mut pool);
    let mut queues = [LeaseQueue::EMPTY, LeaseQueue::EMPTY];
    // Two connections in turn, a byte each: no two pieces of one touch.
    for turn in 0..1024 {
        let lease = buffers.received(0, &brought(0, 1, true), &mut pool).unwrap();
        assert!(buffers.append(&mut queues[turn % 2], lease, &mut pool));
    }
    assert_eq!(buffers.spilled(), 0);
    for (queue, fits) in [(0, true), (1, false), (0, true)] {
        let lease = buffers.received(0, &brought(0, 1, true), &mut pool).unwrap();
        assert_eq!(buffers.append(&mut queues[queue], lease, &mut pool), fits, "queue {queue}");
    }
    assert_eq!(buffers.spilled(), 2);
    queues.iter_mut().for_each(|queue| buffers.clear(queue, 0, &mut pool));
    // The kernel is not done with the buffer: it is not provided before.
    assert_eq!(pool.0, [0, 1]);
    pool.0.pop_front();
    assert!(buffers.received(0, &brought(0, 0, false), &mut pool).is_none());
    assert_eq!((pool.0.make_contiguous(), buffers.lent()), (&mut [1, 0][..], 0));
}

#[test]
fn a_buffer_of_a_connections_own_is_held_until_its_bytes_are_sent_or_spilled() {
    let arena = Arena::untouched(3, 4096, u64::from(CHUNK)).unwrap();
    let mut buffers = Buffers::<Owned>::new(&arena);
    let mut pool = Pool(VecDeque::new());
    buffers.provide_all(&mut pool);
    let done = Completion { buffer: None, ..brought(0, 100, false) };
    for spilled in [false, true] {
        assert_eq!((buffers.room_for(1), buffers.room_for(2)), (Room::Free, Room::Free));
        let mut queue = LeaseQueue::EMPTY;
        let lease = buffers.received(2, &done, &mut pool).unwrap();
        assert!(buffers.append(&mut queue, lease, &mut pool));
        assert_eq!((buffers.room_for(1), buffers.room_for(2)), (Room::Free, Room::Held));
        assert_eq!(buffers.front(&queue).unwrap().offset, arena.offset(2));
        if spilled {
            assert!(buffers.spill(&mut queue, &mut pool));
            assert_eq!(buffers.room_for(2), Room::Free);
        }
        buffers.advance(&mut queue, 100, &mut pool);
        assert_eq!((buffers.room_for(2), buffers.lent()), (Room::Free, 0));
    }
    assert!(pool.0.is_empty(), "the kernel was given buffers to pick from");
}

#[test]
fn a_buffer_that_the_kernel_still_reads_goes_back_when_it_does_no_more() {
    let arena = Arena::new(4, 4096, 0).unwrap();
    let mut buffers = Buffers::<Shared>::new(&arena);
    let mut pool = Pool(VecDeque::new());
    let mut queues: [LeaseQueue; 3] = [LeaseQueue::EMPTY, LeaseQueue::EMPTY, LeaseQueue::EMPTY];
    for (buffer, queue) in queues.iter_mut().enumerate() {
        let lease = buffers.lease(buffer as u16, 10);
        assert!(buffers.append(queue, lease, &mut pool));
    }
    let kept = [0, 1].map(|index| {
        assert!(buffers.may_be_kept(&queues[index]));
        buffers.keep(&queues[index])
    });
    assert!(!buffers.may_be_kept(&queues[2]), "half of the buffers are kept");
    buffers.advance(&mut queues[0], 10, &mut pool);
    assert!(queues[0].is_empty() && pool.0.is_empty(), "it was given back while the kernel read it");
    buffers.kept_no_more(kept[0], &mut pool);
    assert_eq!(pool.0, [0]);
    buffers.kept_no_more(kept[1], &mut pool);
    assert_eq!(pool.0, [0], "it was given back with bytes that are owed");
    buffers.advance(&mut queues[1], 10, &mut pool);
    assert_eq!((pool.0.make_contiguous(), buffers.lent()), (&mut [0, 1][..], 1));
}
