//! Tries of what is between operations: messages from ring to ring, cancelling, polls, timeouts.

use super::hand::{HandRing, PATIENCE, Place, Sqe, register};
use super::registration::{register_slots, update_slot};
use super::tools::{ENTRY_FIXED_FILE, OP_POLL_ADD, OP_RECV, Pair, ensure, message, receive, same};
use super::{Ask, Feature, Found, Trouble};
use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags};
use std::time::Duration;

const OP_TIMEOUT: u8 = 11;
const OP_ASYNC_CANCEL: u8 = 14;
const OP_LINK_TIMEOUT: u8 = 15;
const OP_MSG_RING: u8 = 40;
const OP_EPOLL_WAIT: u8 = 59;
const ENTRY_LINK: u8 = 1 << 2;
const POLL_MULTISHOT: u32 = 1;
const TIMEOUT_MULTISHOT: u32 = 1 << 6;
const CANCEL_ALL: u32 = 1 << 0;
const CANCEL_FD: u32 = 1 << 1;
const CANCEL_ANY: u32 = 1 << 2;
const CANCEL_OP: u32 = 1 << 5;
const REGISTER_SYNC_CANCEL: u32 = 24;
const REGISTER_SEND_MSG_RING: u32 = 31;
/// The tokens of what is cancelled, of who cancels, and of a message.
const TARGET: u64 = 70;
const CANCEL: u64 = 80;
const TOKEN: u64 = 0x1234_5678_9abc;

pub(super) const FEATURES: &[Feature] = &[
    Feature { name: "message to a ring", carries: None, since: "5.18", ask: Ask::Opcode(40), attempt: data },
    Feature {
        name: "socket to another ring",
        carries: Some("spread=msg-ring"),
        since: "6.0",
        ask: Ask::Nothing,
        attempt: descriptor,
    },
    Feature {
        name: "message to a ring without one's own",
        carries: None,
        since: "6.13",
        ask: Ask::Register(31),
        attempt: without_ring,
    },
    Feature {
        name: "cancel by token",
        carries: None,
        since: "5.5",
        ask: Ask::Opcode(14),
        attempt: cancel_token,
    },
    Feature {
        name: "cancel by descriptor, all",
        carries: None,
        since: "5.19",
        ask: Ask::Nothing,
        attempt: cancel_descriptor,
    },
    Feature { name: "cancel anything", carries: None, since: "5.19", ask: Ask::Nothing, attempt: cancel_any },
    Feature {
        name: "cancel by opcode",
        carries: None,
        since: "6.6",
        ask: Ask::Nothing,
        attempt: cancel_opcode,
    },
    Feature {
        name: "cancel and wait for it",
        carries: None,
        since: "6.0",
        ask: Ask::Register(24),
        attempt: cancel_now,
    },
    Feature { name: "poll", carries: None, since: "5.1", ask: Ask::Opcode(6), attempt: poll_once },
    Feature {
        name: "multishot poll",
        carries: Some("recv=poll"),
        since: "5.13",
        ask: Ask::Nothing,
        attempt: poll_multishot,
    },
    Feature {
        name: "wait for epoll",
        carries: None,
        since: "6.15",
        ask: Ask::Opcode(59),
        attempt: epoll_wait,
    },
    Feature { name: "timeout", carries: None, since: "5.4", ask: Ask::Opcode(11), attempt: timeout },
    Feature {
        name: "multishot timeout",
        carries: None,
        since: "6.4",
        ask: Ask::Nothing,
        attempt: timeout_multishot,
    },
    Feature {
        name: "timeout of another operation",
        carries: None,
        since: "5.5",
        ask: Ask::Opcode(15),
        attempt: timeout_linked,
    },
];

fn to_ring(target: &HandRing) -> Sqe {
    Sqe { opcode: OP_MSG_RING, fd: target.fd, off: TOKEN, len: 42, user_data: 1, ..Sqe::default() }
}

/// The message has come.
fn is_heard(target: &mut HandRing) -> Found<()> {
    let done = target.answer()?;
    ensure(done.user_data == TOKEN && done.result == 42, || {
        format!("{} with token {:#x} instead of 42 with {TOKEN:#x}", done.result, done.user_data)
    })
}

fn data() -> Found<String> {
    let (mut ring, mut target) = (HandRing::new(0)?, HandRing::new(0)?);
    ring.perform(to_ring(&target))?;
    is_heard(&mut target)?;
    Ok("a number and a token arrived".into())
}

fn descriptor() -> Found<String> {
    const SEND_FD: u64 = 1;
    let (mut ring, mut target) = (HandRing::new(0)?, HandRing::new(0)?);
    register_slots(&ring, 2)?;
    register_slots(&target, 4)?;
    let Pair { ours, mut theirs } = Pair::new()?;
    update_slot(&ring, 1, std::os::fd::AsRawFd::as_raw_fd(&ours))?;
    drop(ours);
    // From slot 1 here to slot 3 there, which is counted from one.
    ring.perform(Sqe { addr: SEND_FD, addr3: 1, file_index: 3 + 1, len: 0, ..to_ring(&target) })?;
    let told = target.answer()?;
    ensure(told.user_data == TOKEN, || "the token of the message did not come".into())?;
    let sent = message(30);
    std::io::Write::write_all(&mut theirs, &sent).map_err(Trouble::untried("the peer cannot send"))?;
    let place = Place::new(64)?;
    let count = target.perform(Sqe { flags: ENTRY_FIXED_FILE, ..receive(3, &place, 64) })?;
    same(&place.read(0, count as usize), &sent)?;
    Ok("a connection that brings its bytes there".into())
}

fn without_ring() -> Found<String> {
    let mut target = HandRing::new(0)?;
    let argument = Place::of(Sqe { user_data: 0, ..to_ring(&target) })?;
    register(-1, REGISTER_SEND_MSG_RING, Some(&argument), 1)?;
    is_heard(&mut target)?;
    Ok("a number and a token arrived".into())
}

/// A receive that waits, `cancel` against it, and what both are answered: the number the cancel has to
/// tell, and ECANCELED.
fn cancels(cancel: impl Fn(&Pair) -> Sqe, told: u32) -> Found<String> {
    let (mut ring, mut pair) = (HandRing::new(0)?, Pair::new()?);
    let place = Place::new(64)?;
    ring.push(Sqe { user_data: TARGET, ..receive(pair.fd(), &place, 64) });
    ring.submit()?;
    ring.push(Sqe { opcode: OP_ASYNC_CANCEL, user_data: CANCEL, ..cancel(&pair) });
    let (first, second) = (ring.answer()?, ring.answer()?);
    let (target, answer) = if first.user_data == TARGET { (first, second) } else { (second, first) };
    ensure(answer.count()? == told, || format!("it told {} instead of {told}", answer.result))?;
    ensure(target.user_data == TARGET && target.result == -(Errno::ECANCELED as i32), || {
        format!("{} instead of ECANCELED", target.result)
    })?;
    // What is sent now must stay in the socket.
    let sent = message(20);
    pair.feed(&sent)?;
    let count = ring.perform(receive(pair.fd(), &place, 64))?;
    same(&place.read(0, count as usize), &sent)?;
    Ok("a receive ended, and took nothing".into())
}

fn cancel_token() -> Found<String> {
    cancels(|_| Sqe { fd: -1, addr: TARGET, ..Sqe::default() }, 0)
}

fn cancel_descriptor() -> Found<String> {
    cancels(|pair| Sqe { fd: pair.fd(), op_flags: CANCEL_FD | CANCEL_ALL, ..Sqe::default() }, 1)
}

fn cancel_any() -> Found<String> {
    cancels(|_| Sqe { fd: -1, op_flags: CANCEL_ANY, ..Sqe::default() }, 1)
}

fn cancel_opcode() -> Found<String> {
    let flags = CANCEL_OP | CANCEL_ALL;
    cancels(|_| Sqe { fd: -1, op_flags: flags, len: u32::from(OP_RECV), ..Sqe::default() }, 1)
}

fn cancel_now() -> Found<String> {
    let (mut ring, pair) = (HandRing::new(0)?, Pair::new()?);
    let place = Place::new(64)?;
    ring.push(Sqe { user_data: TARGET, ..receive(pair.fd(), &place, 64) });
    ring.submit()?;
    // What is cancelled, by its token; how long that may take; the rest stays empty.
    let argument = Place::new(64)?;
    argument.put(0, TARGET);
    argument.put(8, -1i32);
    argument.put(16, [PATIENCE.as_secs(), 0]);
    ring.register(REGISTER_SYNC_CANCEL, Some(&argument), 1)?;
    let done = ring.answer()?;
    ensure(done.result == -(Errno::ECANCELED as i32), || format!("{} instead of ECANCELED", done.result))?;
    Ok("a receive ended".into())
}

fn poll(fd: i32) -> Sqe {
    Sqe { opcode: OP_POLL_ADD, fd, op_flags: libc::POLLIN as u32, ..Sqe::default() }
}

fn poll_once() -> Found<String> {
    let (mut ring, mut pair) = (HandRing::new(0)?, Pair::new()?);
    ring.push(poll(pair.fd()));
    ring.submit()?;
    pair.feed(b"x")?;
    let events = ring.count()?;
    ensure(events & libc::POLLIN as u32 != 0, || format!("{events:#x} instead of POLLIN"))?;
    Ok("told that there are bytes".into())
}

fn poll_multishot() -> Found<String> {
    let (mut ring, mut pair) = (HandRing::new(0)?, Pair::new()?);
    ring.push(Sqe { len: POLL_MULTISHOT, ..poll(pair.fd()) });
    ring.submit()?;
    let sent = message(40);
    for part in sent.chunks(20) {
        pair.feed(part)?;
        let done = ring.answer()?;
        ensure(done.count()? & libc::POLLIN as u32 != 0, || format!("{:#x} instead of POLLIN", done.result))?;
        ensure(done.more(), || "it ended after one event".into())?;
        let mut got = vec![0; part.len()];
        std::io::Read::read_exact(&mut pair.ours, &mut got)
            .map_err(|error| Trouble::Wrong(format!("told of bytes, and there are none ({error})")))?;
        same(&got, part)?;
    }
    Ok("2 events to one request, each with its bytes".into())
}

fn epoll_wait() -> Found<String> {
    let (mut ring, mut pair) = (HandRing::new(0)?, Pair::new()?);
    let made = || {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        epoll.add(&pair.ours, EpollEvent::new(EpollFlags::EPOLLIN, TOKEN))?;
        Ok::<_, Errno>(epoll)
    };
    let epoll = made().map_err(|errno| Trouble::Untried(format!("there is no epoll ({errno})")))?;
    let events = Place::new(64)?;
    let fd = std::os::fd::AsRawFd::as_raw_fd(&epoll.0);
    ring.push(Sqe { opcode: OP_EPOLL_WAIT, fd, addr: events.address(0), len: 4, ..Sqe::default() });
    ring.submit()?;
    pair.feed(b"x")?;
    let count = ring.count()?;
    // The data of an event stands behind its flags; only on x86 without a gap.
    let data = if cfg!(target_arch = "x86_64") { 4 } else { 8 };
    ensure(count == 1 && events.u64_at(data) == TOKEN, || format!("{count} events, and not the one"))?;
    Ok("an event of an epoll instance".into())
}

fn times(time: Duration) -> Found<Place> {
    Place::of([time.as_secs(), u64::from(time.subsec_nanos())])
}

fn timeout() -> Found<String> {
    let mut ring = HandRing::new(0)?;
    let time = times(Duration::from_millis(1))?;
    ring.push(Sqe { opcode: OP_TIMEOUT, fd: -1, addr: time.address(0), len: 1, ..Sqe::default() });
    let done = ring.answer()?;
    ensure(done.result == -(Errno::ETIME as i32), || format!("{} instead of ETIME", done.result))?;
    Ok("ETIME after 1 ms".into())
}

fn timeout_multishot() -> Found<String> {
    let mut ring = HandRing::new(0)?;
    let time = times(Duration::from_millis(1))?;
    let entry = Sqe { opcode: OP_TIMEOUT, fd: -1, addr: time.address(0), len: 1, ..Sqe::default() };
    ring.push(Sqe { op_flags: TIMEOUT_MULTISHOT, off: 3, ..entry });
    for left in [true, true, false] {
        let done = ring.answer()?;
        if done.result != -(Errno::ETIME as i32) {
            done.count()?;
        }
        ensure(done.more() == left, || "it did not come three times".into())?;
    }
    Ok("3 times to one request".into())
}

fn timeout_linked() -> Found<String> {
    let (mut ring, pair) = (HandRing::new(0)?, Pair::new()?);
    let (place, time) = (Place::new(64)?, times(Duration::from_millis(1))?);
    ring.push(Sqe { user_data: TARGET, flags: ENTRY_LINK, ..receive(pair.fd(), &place, 64) });
    ring.push(Sqe { opcode: OP_LINK_TIMEOUT, fd: -1, addr: time.address(0), len: 1, ..Sqe::default() });
    for _ in 0..2 {
        let done = ring.answer()?;
        if done.user_data == TARGET {
            ensure(done.result == -(Errno::ECANCELED as i32), || {
                format!("the receive was answered {} instead of ECANCELED", done.result)
            })?;
        }
    }
    Ok("a receive ended after 1 ms".into())
}
