//! Tries of buffers the kernel picks from: rings of them, whole or filled bit by bit, and the older way
//! by requests.

use super::hand::{HandRing, Place, Sqe};
use super::tools::{
    BUFFERS_INCREMENTAL, BUFFERS_MMAP, Buffers, Pair, RECV_MULTISHOT, ensure, message, receive_picked, same,
};
use super::{Ask, Feature, Found};
use nix::errno::Errno;

const OP_PROVIDE_BUFFERS: u8 = 31;
const REGISTER_PBUF_STATUS: u32 = 26;
const SIZE: u32 = 64;

pub(super) const FEATURES: &[Feature] = &[
    Feature {
        name: "buffers provided by requests",
        carries: Some("buffers=classic"),
        since: "5.7",
        ask: Ask::Opcode(31),
        attempt: classic,
    },
    Feature {
        name: "buffer ring",
        carries: Some("buffers=ring"),
        since: "5.19",
        ask: Ask::Register(22),
        attempt: ring,
    },
    Feature {
        name: "an empty buffer ring is told",
        carries: None,
        since: "5.19",
        ask: Ask::Register(22),
        attempt: empty,
    },
    Feature {
        name: "buffer ring in memory of the kernel",
        carries: None,
        since: "6.4",
        ask: Ask::Nothing,
        attempt: mapped,
    },
    Feature {
        name: "incremental buffers",
        carries: Some("buffers=incremental"),
        since: "6.12",
        ask: Ask::Nothing,
        attempt: incremental,
    },
    Feature {
        name: "incremental buffers, least left over",
        carries: None,
        // And ported back to the stable releases of earlier ones, 6.18.44 for one: what is tried counts.
        since: "7.1",
        ask: Ask::Nothing,
        attempt: incremental_least,
    },
    Feature {
        name: "state of a buffer ring",
        carries: None,
        since: "6.8",
        ask: Ask::Register(26),
        attempt: status,
    },
];

fn classic() -> Found<String> {
    const GROUP: u16 = 5;
    let (mut ring, mut pair) = (HandRing::new(0)?, Pair::new()?);
    let memory = Place::new(2 * SIZE as usize)?;
    ring.perform(Sqe {
        opcode: OP_PROVIDE_BUFFERS,
        fd: 2,
        addr: memory.address(0),
        len: SIZE,
        buffer: GROUP,
        ..Sqe::default()
    })?;
    for _ in 0..2 {
        let sent = message(40);
        pair.feed(&sent)?;
        ring.push(Sqe { len: SIZE, ..receive_picked(pair.fd(), GROUP, 0) });
        let done = ring.answer()?;
        let buffer = usize::from(done.buffer()?);
        ensure(buffer < 2, || format!("a completion names buffer {buffer}, which nobody gave"))?;
        same(&memory.read(buffer * SIZE as usize, done.count()? as usize), &sent)?;
    }
    Ok("2 receives into 2 buffers".into())
}

fn ring() -> Found<String> {
    let mut ring = HandRing::new(0)?;
    let buffers = Buffers::new(&ring, 4, SIZE)?;
    fill(&mut ring, &buffers)?;
    Ok("4 receives into 4 buffers".into())
}

/// Receives once into each of four buffers.
fn fill(ring: &mut HandRing, buffers: &Buffers) -> Found<()> {
    let mut pair = Pair::new()?;
    let mut seen = [false; 4];
    for length in 30..34 {
        let sent = message(length);
        pair.feed(&sent)?;
        ring.push(receive_picked(pair.fd(), buffers.group(), 0));
        let done = ring.answer()?;
        same(&buffers.read(done, 0)?, &sent)?;
        let buffer = usize::from(done.buffer()?);
        ensure(!seen[buffer], || format!("buffer {buffer} was given out twice"))?;
        seen[buffer] = true;
    }
    Ok(())
}

fn empty() -> Found<String> {
    let (mut ring, mut pair) = (HandRing::new(0)?, Pair::new()?);
    let mut buffers = Buffers::empty(&ring, 4, SIZE, 0, 0)?;
    let sent = message(30);
    pair.feed_and_see(&sent)?;
    ring.push(receive_picked(pair.fd(), buffers.group(), RECV_MULTISHOT));
    let done = ring.answer()?;
    ensure(done.result == -(Errno::ENOBUFS as i32), || format!("{} instead of ENOBUFS", done.result))?;
    ensure(!done.more(), || "it goes on without buffers".into())?;
    buffers.provide(2, SIZE);
    ring.push(receive_picked(pair.fd(), buffers.group(), 0));
    let done = ring.answer()?;
    same(&buffers.read(done, 0)?, &sent)?;
    Ok("ENOBUFS, and the bytes with the next buffer".into())
}

fn mapped() -> Found<String> {
    let mut ring = HandRing::new(0)?;
    let mut buffers = Buffers::empty(&ring, 4, SIZE, BUFFERS_MMAP, 0)?;
    (0..4).for_each(|buffer| buffers.provide(buffer, SIZE));
    fill(&mut ring, &buffers)?;
    Ok("4 receives into 4 buffers".into())
}

fn incremental() -> Found<String> {
    let (mut ring, mut pair) = (HandRing::new(0)?, Pair::new()?);
    let mut buffers = Buffers::empty(&ring, 2, SIZE, BUFFERS_INCREMENTAL, 0)?;
    buffers.provide(1, SIZE);
    ring.push(receive_picked(pair.fd(), buffers.group(), RECV_MULTISHOT));
    let sent = message(SIZE as usize);
    let mut offset = 0;
    for length in [10, 30, 24] {
        let part = &sent[offset..offset + length];
        pair.feed(part)?;
        let done = ring.answer()?;
        same(&buffers.read(done, offset)?, part)?;
        offset += length;
        let left = offset < sent.len();
        ensure(done.buffer_has_more() == left, || {
            format!(
                "{offset} of 64 bytes are used, and it says that {} is",
                if left { "all" } else { "less" }
            )
        })?;
    }
    same(&buffers.memory.read(SIZE as usize, sent.len()), &sent)?;
    Ok("3 messages one behind the other in one buffer".into())
}

/// A kernel that does not know the field refuses what is not zero there. One that took it and ignored it
/// would go on with the buffer, as it does where nothing must be left over.
fn incremental_least() -> Found<String> {
    judge_least(goes_on(20)?, goes_on(0)?)
}

/// Whether the kernel goes on with a buffer of 64 bytes when 30 of them are used, and when 50 are, where
/// `least` must be left over.
fn goes_on(least: u32) -> Found<[bool; 2]> {
    let (mut ring, mut pair) = (HandRing::new(0)?, Pair::new()?);
    let mut buffers = Buffers::empty(&ring, 2, SIZE, BUFFERS_INCREMENTAL, least)?;
    buffers.provide(0, SIZE);
    ring.push(receive_picked(pair.fd(), buffers.group(), RECV_MULTISHOT));
    let (mut offset, mut goes_on) = (0, [false; 2]);
    for (length, goes_on) in [30, 20].into_iter().zip(&mut goes_on) {
        let sent = message(length);
        pair.feed(&sent)?;
        let done = ring.answer()?;
        same(&buffers.read(done, offset)?, &sent)?;
        offset += length;
        *goes_on = done.buffer_has_more();
    }
    Ok(goes_on)
}

/// What was seen where 20 bytes must be left over, and where none must.
pub(super) fn judge_least(asked: [bool; 2], unasked: [bool; 2]) -> Found<String> {
    ensure(asked[0] && unasked == [true; 2], || "a buffer is given up that has enough left".into())?;
    ensure(!asked[1], || "20 bytes must be left over, 14 are, and the kernel goes on".into())?;
    Ok("a buffer with 14 bytes left was given up, and kept where none must be".into())
}

fn status() -> Found<String> {
    let (mut ring, mut pair) = (HandRing::new(0)?, Pair::new()?);
    let buffers = Buffers::new(&ring, 4, SIZE)?;
    let argument = Place::new(40)?;
    argument.put(0, u32::from(buffers.group()));
    for expected in [0, 1] {
        ring.register(REGISTER_PBUF_STATUS, Some(&argument), 1)?;
        let head = argument.u32_at(4);
        ensure(head == expected, || format!("{head} buffers are told as used, and {expected} are"))?;
        pair.feed(b"x")?;
        ring.perform(receive_picked(pair.fd(), buffers.group(), 0))?;
    }
    Ok("it told that one buffer was used".into())
}
