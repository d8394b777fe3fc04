//! Tries of sending: copied, zero-copy, from buffers of a group, from several places at once. Every byte
//! is compared by the peer.

use super::hand::{HandRing, Place, Sqe};
use super::tools::{Buffers, ENTRY_BUFFER_SELECT, OP_SEND, OP_SENDMSG, Pair, ensure, message, send};
use super::{Ask, Feature, Found, Trouble};
use crate::features::Capability;

const OP_SEND_ZC: u8 = 47;
const OP_SENDMSG_ZC: u8 = 48;
const FIXED_BUFFER: u16 = 1 << 2;
const REPORT_USAGE: u16 = 1 << 3;
const BUNDLE: u16 = 1 << 4;
const VECTORIZED: u16 = 1 << 5;
/// In the result of a notification: the bytes were copied after all.
const USAGE_COPIED: u32 = 1 << 31;
const REGISTER_BUFFERS: u32 = 0;
const LENGTH: usize = 3000;

pub(super) const FEATURES: &[Feature] = &[
    Feature { name: "send", carries: Some("send=plain"), since: "5.6", ask: Ask::Opcode(26), attempt: plain },
    Feature { name: "sendmsg", carries: None, since: "5.3", ask: Ask::Opcode(9), attempt: plain_message },
    Feature {
        name: "no completion for a send that succeeds",
        carries: Some("cqe-skip=on"),
        since: "5.17",
        ask: Ask::Feature(11),
        attempt: skipped,
    },
    Feature {
        name: "zero-copy send",
        carries: Some("send=zc"),
        since: "6.0",
        ask: Ask::Opcode(47),
        attempt: zero_copy,
    },
    Feature {
        name: "zero-copy send from registered memory",
        carries: None,
        since: "6.0",
        ask: Ask::Opcode(47),
        attempt: zero_copy_registered,
    },
    Feature {
        name: "zero-copy send tells whether it copied",
        carries: None,
        since: "6.2",
        ask: Ask::Nothing,
        attempt: zero_copy_usage,
    },
    Feature {
        name: "zero-copy sendmsg",
        carries: None,
        since: "6.1",
        ask: Ask::Opcode(48),
        attempt: zero_copy_message,
    },
    Feature {
        name: "send from a buffer of a group",
        carries: None,
        since: "6.10",
        ask: Ask::Feature(14),
        attempt: picked,
    },
    Feature {
        name: "send bundle",
        carries: Some("bundle=send"),
        since: "6.10",
        ask: Ask::Feature(14),
        attempt: bundle,
    },
    Feature {
        name: "send from several places",
        carries: None,
        since: "6.17",
        ask: Ask::Nothing,
        attempt: vectorized,
    },
];

fn plain() -> Found<String> {
    let (mut ring, mut pair) = (HandRing::new(0)?, Pair::new()?);
    let (place, sent) = filled()?;
    let count = ring.perform(send(pair.fd(), &place, LENGTH as u32))?;
    pair.delivers(&sent[..count as usize])?;
    Ok(format!("{count} bytes arrived"))
}

fn plain_message() -> Found<String> {
    let (mut ring, mut pair) = (HandRing::new(0)?, Pair::new()?);
    let (place, sent) = filled()?;
    let (header, _vector) = message_header(&[(place.address(0), 1000), (place.address(1000), 2000)])?;
    let entry = Sqe { opcode: OP_SENDMSG, addr: header.address(0), len: 1, ..send(pair.fd(), &place, 0) };
    let count = ring.perform(entry)?;
    pair.delivers(&sent[..count as usize])?;
    Ok(format!("{count} bytes arrived"))
}

fn filled() -> Found<(Place, Vec<u8>)> {
    let (place, sent) = (Place::new(LENGTH)?, message(LENGTH));
    place.write(0, &sent);
    Ok((place, sent))
}

/// As the server does it, until the socket is full: the probe has that try.
fn skipped() -> Found<String> {
    let answers = crate::ring::probe::probe();
    match answers.refusal(Capability::SkipSent) {
        None => Ok("a full socket was told of, what fitted was not".into()),
        Some(answer) => Err(Trouble::Wrong(answer.into())),
    }
}

fn zero_copy() -> Found<String> {
    send_zero_copy(0, false)?;
    Ok(format!("{LENGTH} bytes arrived, and its memory was given back"))
}

fn zero_copy_registered() -> Found<String> {
    send_zero_copy(0, true)?;
    Ok(format!("{LENGTH} bytes arrived, and its memory was given back"))
}

fn zero_copy_usage() -> Found<String> {
    let usage = send_zero_copy(REPORT_USAGE, false)?;
    let copied = usage & USAGE_COPIED != 0;
    Ok(if copied { "it said: copied, as loopback always does" } else { "it said: not copied" }.into())
}

/// Sends, and waits for both completions. What the second, the notification, said.
fn send_zero_copy(ioprio: u16, registered: bool) -> Found<u32> {
    let (mut ring, mut pair) = (HandRing::new(0)?, Pair::new()?);
    let (place, sent) = filled()?;
    if registered {
        let vector = Place::of([place.address(0), LENGTH as u64])?;
        ring.register(REGISTER_BUFFERS, Some(&vector), 1)?;
    }
    let fixed = if registered { FIXED_BUFFER } else { 0 };
    let entry = send(pair.fd(), &place, LENGTH as u32);
    ring.push(Sqe { opcode: OP_SEND_ZC, ioprio: ioprio | fixed, ..entry });
    notified(&mut ring, &mut pair, &sent)
}

/// The completion of a zero-copy send, its bytes at the peer, and then its notification.
fn notified(ring: &mut HandRing, pair: &mut Pair, sent: &[u8]) -> Found<u32> {
    let done = ring.answer()?;
    let count = done.count()? as usize;
    ensure(done.more(), || "no notification is promised".into())?;
    pair.delivers(&sent[..count])?;
    let notice = ring.answer()?;
    ensure(notice.is_notice() && !notice.more(), || "its second completion is no notification".into())?;
    Ok(notice.result as u32)
}

fn zero_copy_message() -> Found<String> {
    let (mut ring, mut pair) = (HandRing::new(0)?, Pair::new()?);
    let (place, sent) = filled()?;
    let (header, _vector) = message_header(&[(place.address(0), LENGTH)])?;
    ring.push(Sqe { opcode: OP_SENDMSG_ZC, addr: header.address(0), len: 1, ..send(pair.fd(), &place, 0) });
    notified(&mut ring, &mut pair, &sent)?;
    Ok(format!("{LENGTH} bytes arrived, and its memory was given back"))
}

/// A `msghdr` with these pieces, and the vector it points to.
fn message_header(pieces: &[(u64, usize)]) -> Found<(Place, Place)> {
    let (header, vector) = (Place::new(56)?, vector(pieces)?);
    header.put(16, vector.address(0));
    header.put(24, pieces.len() as u64);
    Ok((header, vector))
}

fn vector(pieces: &[(u64, usize)]) -> Found<Place> {
    let vector = Place::new(pieces.len() * 16)?;
    for (index, &(address, length)) in pieces.iter().enumerate() {
        vector.put(index * 16, [address, length as u64]);
    }
    Ok(vector)
}

fn picked() -> Found<String> {
    let (mut ring, mut pair) = (HandRing::new(0)?, Pair::new()?);
    let mut buffers = Buffers::empty(&ring, 2, 64, 0, 0)?;
    let sent = message(50);
    buffers.provide_filled(1, &sent);
    ring.push(send_picked(pair.fd(), buffers.group(), 0));
    let done = ring.answer()?;
    ensure(done.count()? == 50 && done.buffer()? == 1, || format!("{} of 50 bytes", done.result))?;
    pair.delivers(&sent)?;
    Ok("50 bytes arrived".into())
}

fn send_picked(fd: i32, group: u16, ioprio: u16) -> Sqe {
    Sqe { opcode: OP_SEND, fd, flags: ENTRY_BUFFER_SELECT, ioprio, buffer: group, ..Sqe::default() }
}

fn bundle() -> Found<String> {
    let (mut ring, mut pair) = (HandRing::new(0)?, Pair::new()?);
    let mut buffers = Buffers::empty(&ring, 4, 64, 0, 0)?;
    let sent = message(180);
    // Not in the order of their numbers: the order they are given in counts.
    for (buffer, part) in [2, 0, 3].into_iter().zip(sent.chunks(60)) {
        buffers.provide_filled(buffer, part);
    }
    ring.push(send_picked(pair.fd(), buffers.group(), BUNDLE));
    let mut count = 0;
    loop {
        let done = ring.answer()?;
        count += done.count()?;
        if !done.more() {
            break;
        }
    }
    ensure(count == 180, || format!("{count} of 180 bytes"))?;
    pair.delivers(&sent)?;
    Ok("180 bytes of 3 buffers arrived in order".into())
}

fn vectorized() -> Found<String> {
    let (mut ring, mut pair) = (HandRing::new(0)?, Pair::new()?);
    let (place, sent) = filled()?;
    let vector = vector(&[(place.address(0), 1000), (place.address(1000), LENGTH - 1000)])?;
    let count = ring.perform(Sqe {
        ioprio: VECTORIZED,
        addr: vector.address(0),
        len: 2,
        ..send(pair.fd(), &place, 0)
    })?;
    // A kernel that does not know the flag and does not refuse it sends the two addresses instead.
    ensure(count as usize == LENGTH, || format!("{count} of {LENGTH} bytes"))?;
    pair.delivers(&sent)?;
    Ok(format!("{LENGTH} bytes of 2 places arrived"))
}
