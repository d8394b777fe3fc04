//! Tries of receiving: once, again and again, bounded, in bundles. Leaves out where the bytes go: that is
//! `buffers`.

use super::hand::{Cqe, HandRing, Place, Sqe};
use super::tools::{
    Buffers, OP_RECVMSG, Pair, RECV_MULTISHOT, ensure, message, receive, receive_picked, same,
};
use super::{Ask, Feature, Found, Trouble};

const POLL_FIRST: u16 = 1 << 0;
const BUNDLE: u16 = 1 << 4;
/// Bytes of a buffer, and of a message that fits into one.
const SIZE: u32 = 64;

pub(super) const FEATURES: &[Feature] = &[
    Feature {
        name: "receive",
        carries: Some("recv=single"),
        since: "5.6",
        ask: Ask::Opcode(27),
        attempt: once,
    },
    Feature {
        name: "receive without a kernel thread",
        carries: None,
        since: "5.7",
        ask: Ask::Feature(5),
        attempt: fast_poll,
    },
    Feature {
        name: "multishot receive",
        carries: Some("recv=multishot"),
        since: "6.0",
        ask: Ask::Nothing,
        attempt: multishot,
    },
    Feature {
        name: "multishot receive, most bytes at once",
        carries: Some("recv-cap=BYTES"),
        since: "6.17",
        ask: Ask::Nothing,
        attempt: multishot_cap,
    },
    Feature {
        name: "multishot receive, most bytes in all",
        carries: None,
        since: "6.17",
        ask: Ask::Nothing,
        attempt: multishot_limit,
    },
    Feature {
        name: "multishot recvmsg",
        carries: None,
        since: "6.0",
        ask: Ask::Nothing,
        attempt: message_multishot,
    },
    Feature {
        name: "receive bundle",
        carries: Some("bundle=recv"),
        since: "6.10",
        ask: Ask::Feature(14),
        attempt: bundle,
    },
    Feature {
        name: "multishot receive bundle",
        carries: Some("bundle=recv"),
        since: "6.10",
        ask: Ask::Feature(14),
        attempt: bundle_multishot,
    },
    Feature {
        name: "receive, poll first",
        carries: Some("poll-first=on"),
        since: "5.19",
        ask: Ask::Nothing,
        attempt: poll_first,
    },
    Feature {
        name: "told that more is in the socket",
        carries: None,
        since: "5.19",
        ask: Ask::Nothing,
        attempt: nonempty,
    },
    Feature {
        name: "zero-copy receive",
        carries: None,
        since: "6.15",
        ask: Ask::Opcode(58),
        attempt: zero_copy,
    },
];

fn once() -> Found<String> {
    let (mut ring, mut pair) = (HandRing::new(0)?, Pair::new()?);
    pair.echo(&mut ring)?;
    Ok("48 bytes there and back".into())
}

/// A receive that has to wait must not be handed to a thread: none of ours may be one of the kernel's.
fn fast_poll() -> Found<String> {
    let (mut ring, mut pair) = (HandRing::new(0)?, Pair::new()?);
    let place = Place::new(SIZE as usize)?;
    ring.push(receive(pair.fd(), &place, SIZE));
    ring.submit()?;
    ensure(!has_kernel_worker(), || "a receive that waits is given to a kernel thread".into())?;
    let sent = message(20);
    pair.feed(&sent)?;
    let count = ring.count()? as usize;
    same(&place.read(0, count), &sent)?;
    Ok("it waited for its bytes in no thread".into())
}

/// Whether the calling thread has made the kernel start a worker for a ring (they are named so).
fn has_kernel_worker() -> bool {
    let named = format!("iou-wrk-{}", nix::unistd::gettid());
    let tasks = std::fs::read_dir("/proc/self/task").into_iter().flatten().flatten();
    tasks
        .filter_map(|task| std::fs::read_to_string(task.path().join("comm")).ok())
        .any(|name| name.trim_end() == named)
}

fn multishot() -> Found<String> {
    let (mut ring, mut pair) = (HandRing::new(0)?, Pair::new()?);
    let buffers = Buffers::new(&ring, 4, SIZE)?;
    ring.push(receive_picked(pair.fd(), buffers.group(), RECV_MULTISHOT));
    let sent = message(60);
    for part in sent.chunks(20) {
        pair.feed(part)?;
        let done = ring.answer()?;
        same(&buffers.read(done, 0)?, part)?;
        ensure(done.more(), || "it ended after one message".into())?;
    }
    Ok("3 messages to one request".into())
}

fn multishot_cap() -> Found<String> {
    let (mut ring, mut pair) = (HandRing::new(0)?, Pair::new()?);
    let buffers = Buffers::new(&ring, 8, SIZE)?;
    let sent = message(50);
    pair.feed_and_see(&sent)?;
    ring.push(Sqe { len: 20, ..receive_picked(pair.fd(), buffers.group(), RECV_MULTISHOT) });
    let mut got = Vec::new();
    while got.len() < sent.len() {
        let done = ring.answer()?;
        ensure(done.count()? <= 20, || format!("{} bytes where at most 20 were asked for", done.result))?;
        got.extend(buffers.read(done, 0)?);
    }
    same(&got, &sent)?;
    Ok("50 bytes, never more than 20 at once".into())
}

fn multishot_limit() -> Found<String> {
    let (mut ring, mut pair) = (HandRing::new(0)?, Pair::new()?);
    let buffers = Buffers::new(&ring, 8, 32)?;
    let sent = message(96);
    pair.feed_and_see(&sent)?;
    let total = 64;
    ring.push(Sqe {
        len: 32,
        file_index: total,
        ..receive_picked(pair.fd(), buffers.group(), RECV_MULTISHOT)
    });
    let mut got = Vec::new();
    loop {
        let done = ring.answer()?;
        got.extend(buffers.read(done, 0)?);
        if !done.more() {
            break;
        }
        ensure(got.len() < total as usize, || format!("it goes on after {} of 64 bytes", got.len()))?;
    }
    same(&got, &sent[..total as usize])?;
    Ok("it ended by itself after 64 of 96 bytes".into())
}

fn message_multishot() -> Found<String> {
    /// `struct io_uring_recvmsg_out` before the bytes.
    const HEAD: usize = 16;
    let (mut ring, mut pair) = (HandRing::new(0)?, Pair::new()?);
    let buffers = Buffers::new(&ring, 4, SIZE)?;
    let header = Place::new(64)?;
    ring.push(Sqe {
        opcode: OP_RECVMSG,
        addr: header.address(0),
        len: 1,
        ..receive_picked(pair.fd(), buffers.group(), RECV_MULTISHOT)
    });
    let sent = message(40);
    for part in sent.chunks(20) {
        pair.feed(part)?;
        let done = ring.answer()?;
        let got = buffers.read(done, 0)?;
        ensure(got.len() >= HEAD, || format!("{} bytes, less than its head", got.len()))?;
        same(&got[HEAD..], part)?;
        ensure(done.more(), || "it ended after one message".into())?;
    }
    Ok("2 messages to one request".into())
}

/// What a bundle brought: its bytes lie in the buffer it names and in those provided after it.
fn unbundle(buffers: &Buffers, done: Cqe) -> Found<Vec<u8>> {
    let (first, count) = (usize::from(done.buffer()?), done.count()? as usize);
    ensure(first + count.div_ceil(SIZE as usize) <= 8, || format!("{count} bytes from buffer {first} on"))?;
    // Provided in the order of their numbers, and no longer than they are apart.
    Ok(buffers.memory.read(first * SIZE as usize, count))
}

fn bundle() -> Found<String> {
    let (mut ring, mut pair) = (HandRing::new(0)?, Pair::new()?);
    let buffers = Buffers::new(&ring, 8, SIZE)?;
    let sent = message(150);
    pair.feed_and_see(&sent)?;
    let (mut got, mut completions) = (Vec::new(), 0);
    // How much one receive takes is the kernel's choice; that nothing is lost or turned round is not.
    while got.len() < sent.len() {
        ring.push(receive_picked(pair.fd(), buffers.group(), BUNDLE));
        got.extend(unbundle(&buffers, ring.answer()?)?);
        completions += 1;
    }
    same(&got, &sent)?;
    Ok(format!("150 bytes of 3 buffers with {completions} completions, in order"))
}

fn bundle_multishot() -> Found<String> {
    let (mut ring, mut pair) = (HandRing::new(0)?, Pair::new()?);
    let buffers = Buffers::new(&ring, 8, SIZE)?;
    ring.push(receive_picked(pair.fd(), buffers.group(), BUNDLE | RECV_MULTISHOT));
    ring.submit()?;
    let sent = message(300);
    let (mut got, mut completions) = (Vec::new(), 0);
    for part in sent.chunks(150) {
        pair.feed(part)?;
        let expected = got.len() + part.len();
        while got.len() < expected {
            let done = ring.answer()?;
            got.extend(unbundle(&buffers, done)?);
            completions += 1;
            ensure(done.more() || got.len() == sent.len(), || "it ended early".into())?;
        }
    }
    same(&got, &sent)?;
    Ok(format!("300 bytes with {completions} completions, in order"))
}

fn poll_first() -> Found<String> {
    let (mut ring, mut pair) = (HandRing::new(0)?, Pair::new()?);
    let place = Place::new(SIZE as usize)?;
    ring.push(Sqe { ioprio: POLL_FIRST, ..receive(pair.fd(), &place, SIZE) });
    ring.submit()?;
    let sent = message(30);
    pair.feed(&sent)?;
    let count = ring.count()? as usize;
    same(&place.read(0, count), &sent)?;
    Ok("it waited, then brought 30 bytes".into())
}

fn nonempty() -> Found<String> {
    let (mut ring, mut pair) = (HandRing::new(0)?, Pair::new()?);
    let place = Place::new(SIZE as usize)?;
    let sent = message(30);
    pair.feed_and_see(&sent)?;
    for (length, left) in [(20, true), (10, false)] {
        ring.push(receive(pair.fd(), &place, length));
        let done = ring.answer()?;
        ensure(done.count()? == length, || format!("{} bytes of {length}", done.result))?;
        // With the socket emptied exactly the kernel need not have looked again.
        ensure(done.socket_has_more() || !left, || "10 bytes are left, and it does not say so".into())?;
    }
    Ok("it said so while 10 bytes were left".into())
}

fn zero_copy() -> Found<String> {
    Err(Trouble::Untried(
        "it needs a network card that splits headers from data, a receive queue of it, and root".into(),
    ))
}
