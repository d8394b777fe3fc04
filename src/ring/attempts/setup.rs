//! Tries of the flags a ring is set up with: a ring with the flag, bytes there and back over it, and what
//! the flag promises.

use super::hand::{
    HandRing, Params, Place, SETUP_NO_MMAP, SETUP_NO_SQARRAY, SETUP_REGISTERED_FD_ONLY, SETUP_SQ_REWIND,
    SETUP_SQPOLL, Sqe,
};
use super::registration::{
    REGISTER_ENABLE_RINGS, SETUP_CQSIZE, SETUP_DEFER_TASKRUN, SETUP_R_DISABLED, SETUP_SINGLE_ISSUER,
};
use super::tools::{Pair, ensure, message, send};
use super::{Ask, Feature, Found, Trouble};
use nix::errno::Errno;

const CLAMP: u32 = 1 << 4;
const ATTACH_WQ: u32 = 1 << 5;
const SUBMIT_ALL: u32 = 1 << 7;
const COOP_TASKRUN: u32 = 1 << 8;
const TASKRUN_FLAG: u32 = 1 << 9;
const SQE128: u32 = 1 << 10;
const CQE32: u32 = 1 << 11;
const CQE_MIXED: u32 = 1 << 18;
const SQE_MIXED: u32 = 1 << 19;

/// A flag whose try is a ring that echoes.
macro_rules! flag {
    ($name:literal, $bit:literal, $since:literal, $attempt:expr) => {
        flag!($name, $bit, $since, $attempt, None)
    };
    ($name:literal, $bit:literal, $since:literal, $attempt:expr, $carries:expr) => {
        Feature { name: $name, carries: $carries, since: $since, ask: Ask::Setup($bit), attempt: $attempt }
    };
}

pub(super) const FEATURES: &[Feature] = &[
    flag!("completion queue of its own size", 3, "5.5", queue_size, Some("cq=COUNT")),
    flag!("sizes cut to what is allowed", 4, "5.6", clamp),
    flag!("kernel threads of another ring", 5, "5.6", attach),
    flag!("ring that starts disabled", 6, "5.10", disabled),
    flag!("kernel thread submits", 1, "5.13", polled, Some("taskrun=sqpoll")),
    flag!("submit past a failed entry", 7, "5.18", submit_all),
    flag!("cooperative task work", 8, "5.19", || echoes(COOP_TASKRUN), Some("taskrun=coop")),
    flag!("told that task work waits", 9, "5.19", || echoes(COOP_TASKRUN | TASKRUN_FLAG)),
    flag!("entries of 128 bytes", 10, "5.19", || echoes(SQE128)),
    flag!("completions of 32 bytes", 11, "5.19", || echoes(CQE32)),
    flag!("single issuer", 12, "6.0", single_issuer),
    flag!("deferred task work", 13, "6.1", deferred, Some("taskrun=defer")),
    flag!("queues in memory of the program", 14, "6.5", own_memory),
    flag!("ring without a descriptor", 15, "6.5", index_only),
    flag!("no index array", 16, "6.6", || echoes(SETUP_NO_SQARRAY), Some("sqarray=off")),
    flag!("hybrid polling", 17, "6.13", hybrid),
    flag!("completions of mixed sizes", 18, "6.18", completions_mixed),
    flag!("entries of mixed sizes", 19, "6.19", || echoes(SQE_MIXED)),
    flag!("entries taken from the start each time", 20, "7.0", || echoes(SETUP_SQ_REWIND | SETUP_NO_SQARRAY)),
];

/// A ring with these flags echoes.
fn echoes(flags: u32) -> Found<String> {
    echoes_on(HandRing::new(flags)?)
}

/// This ring echoes, more often than its queues are long.
fn echoes_on(mut ring: HandRing) -> Found<String> {
    let mut pair = Pair::new()?;
    for _ in 0..10 {
        pair.echo(&mut ring)?;
    }
    Ok("10 messages there and back".into())
}

fn queue_size() -> Found<String> {
    let ring = HandRing::with(8, Params { flags: SETUP_CQSIZE, cq_entries: 64, ..Params::default() })?;
    let entries = ring.params.cq_entries;
    ensure(entries == 64, || format!("{entries} entries instead of 64"))?;
    echoes_on(ring)
}

fn clamp() -> Found<String> {
    let flags = SETUP_CQSIZE | CLAMP;
    let ring = HandRing::with(8, Params { flags, cq_entries: 1 << 20, ..Params::default() })?;
    let entries = ring.params.cq_entries;
    echoes_on(ring)?;
    Ok(format!("{entries} entries where {} were asked for", 1 << 20))
}

fn attach() -> Found<String> {
    let first = HandRing::new(0)?;
    echoes_on(HandRing::with(8, Params { flags: ATTACH_WQ, wq_fd: first.fd as u32, ..Params::default() })?)
}

fn disabled() -> Found<String> {
    let mut ring = HandRing::new(SETUP_R_DISABLED)?;
    let refused = ring.submit();
    ensure(refused == Err(Trouble::Refused(Errno::EBADFD)), || "it can be entered all the same".into())?;
    ring.register(REGISTER_ENABLE_RINGS, None, 0)?;
    echoes_on(ring)
}

fn polled() -> Found<String> {
    echoes_on(HandRing::with(8, Params { flags: SETUP_SQPOLL, sq_thread_idle: 10, ..Params::default() })?)
}

fn submit_all() -> Found<String> {
    let (mut ring, mut pair) = (HandRing::new(SUBMIT_ALL)?, Pair::new()?);
    let (place, sent) = (Place::new(64)?, message(30));
    place.write(0, &sent);
    ring.push(Sqe { opcode: u8::MAX, user_data: 1, ..Sqe::default() });
    ring.push(Sqe { user_data: 2, ..send(pair.fd(), &place, 30) });
    ring.submit()?;
    pair.delivers(&sent)?;
    Ok("what followed a bad entry was sent".into())
}

fn single_issuer() -> Found<String> {
    let mut ring = HandRing::new(SETUP_SINGLE_ISSUER)?;
    let mut pair = Pair::new()?;
    pair.echo(&mut ring)?;
    let fd = ring.fd;
    let other = std::thread::spawn(move || super::hand::register(fd, REGISTER_ENABLE_RINGS, None, 0));
    let answer = other.join().map_err(|_| Trouble::Untried("the other thread did not end well".into()))?;
    let errno = answer.err().and_then(|error| error.raw_os_error()).map(Errno::from_raw);
    ensure(errno == Some(Errno::EEXIST), || {
        format!("another thread is answered {errno:?} instead of EEXIST")
    })?;
    Ok("bytes there and back; another thread: EEXIST".into())
}

fn deferred() -> Found<String> {
    let mut ring = HandRing::new(SETUP_SINGLE_ISSUER | SETUP_DEFER_TASKRUN)?;
    let mut pair = Pair::new()?;
    let place = Place::new(64)?;
    ring.push(super::tools::receive(pair.fd(), &place, 64));
    ring.submit()?;
    let sent = message(20);
    // It stays in the socket until the ring is entered.
    pair.feed_and_see(&sent)?;
    ensure(ring.next().is_none(), || "a completion came before it was asked for".into())?;
    let count = ring.count()? as usize;
    super::tools::same(&place.read(0, count), &sent)?;
    echoes_on(ring)
}

/// Memory for the queues: the completions, then the entries.
fn with_own_memory(flags: u32) -> Found<HandRing> {
    let (queues, entries) = (Place::new(4096)?, Place::new(4096)?);
    let mut params = Params { flags: SETUP_NO_MMAP | flags, ..Params::default() };
    params.cq_off.user_addr = queues.address(0);
    params.sq_off.user_addr = entries.address(0);
    HandRing::with(8, params)
}

fn own_memory() -> Found<String> {
    echoes_on(with_own_memory(0)?)
}

fn index_only() -> Found<String> {
    echoes_on(with_own_memory(SETUP_REGISTERED_FD_ONLY)?)
}

fn hybrid() -> Found<String> {
    Err(Trouble::Untried("it is for storage: a ring with it has no sockets".into()))
}

fn completions_mixed() -> Found<String> {
    const NOP_CQE32: u32 = 1 << 5;
    const IS_32: u32 = 1 << 15;
    let (mut ring, mut pair) = (HandRing::new(CQE_MIXED)?, Pair::new()?);
    for _ in 0..10 {
        ring.push(Sqe { op_flags: NOP_CQE32, ..Sqe::default() });
        let long = ring.answer()?;
        long.count()?;
        ensure(long.flags & IS_32 != 0, || "a long completion is not marked".into())?;
        pair.echo(&mut ring)?;
    }
    Ok("long and short completions in turn".into())
}
