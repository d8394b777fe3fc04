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
                    buffers.clear(queue, false, &mut pool);
                    model.clear();
                }
                _ => {}
            }
            assert_eq!(queue.is_empty(), model.is_empty(), "seed {seed}");
            assert_eq!(buffers.free() as usize, pool.0.len(), "seed {seed}");
        }
        for queue in &mut queues {
            buffers.clear(queue, false, &mut pool);
        }
        assert_eq!((buffers.lent(), buffers.spilled()), (0, 0), "seed {seed}");
        assert_eq!((pool.0.len(), buffers.free_chunks.len()), (BUFFERS as usize, chunks as usize));
    }
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
    buffers.clear(&mut queue, true, &mut pool);
    assert_eq!((buffers.lent(), pool.0.make_contiguous()), (1, &mut [1, 2][..]));
    buffers.clear(&mut queue, false, &mut pool);
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
