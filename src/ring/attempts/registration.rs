//! Tries of what is registered with a ring beside buffers: tables of sockets, the ring itself, memory,
//! limits of its threads, what it may do; and of asking.

use super::asked;
use super::hand::{HandRing, Params, Place, SETUP_NO_SQARRAY, Sqe, register};
use super::tools::{ENTRY_FIXED_FILE, OP_RECV, OP_SEND, Pair, ensure, message, receive, same};
use super::{Ask, Feature, Found, Trouble};
use nix::errno::Errno;

const REGISTER_BUFFERS: u32 = 0;
const REGISTER_RESTRICTIONS: u32 = 11;
pub(super) const REGISTER_ENABLE_RINGS: u32 = 12;
const REGISTER_FILES2: u32 = 13;
const REGISTER_FILES_UPDATE: u32 = 6;
const REGISTER_IOWQ_AFF: u32 = 17;
const REGISTER_IOWQ_MAX_WORKERS: u32 = 19;
const REGISTER_RING_FDS: u32 = 20;
const UNREGISTER_RING_FDS: u32 = 21;
const REGISTER_FILE_ALLOC_RANGE: u32 = 25;
const REGISTER_NAPI: u32 = 27;
const REGISTER_CLONE_BUFFERS: u32 = 30;
const REGISTER_RESIZE_RINGS: u32 = 33;
const OP_READ_FIXED: u8 = 4;

pub(super) const SETUP_CQSIZE: u32 = 1 << 3;
pub(super) const SETUP_R_DISABLED: u32 = 1 << 6;
pub(super) const SETUP_SINGLE_ISSUER: u32 = 1 << 12;
pub(super) const SETUP_DEFER_TASKRUN: u32 = 1 << 13;

pub(super) const FEATURES: &[Feature] = &[
    Feature { name: "probe", carries: None, since: "5.6", ask: Ask::Register(8), attempt: probe },
    Feature { name: "query", carries: None, since: "6.18", ask: Ask::Register(35), attempt: query },
    Feature {
        name: "registered ring",
        carries: Some("ring-fd=registered"),
        since: "5.18",
        ask: Ask::Register(20),
        attempt: ring_fd,
    },
    Feature {
        name: "register calls over a registered ring",
        carries: None,
        since: "6.3",
        ask: Ask::Feature(13),
        attempt: ring_fd_registers,
    },
    Feature {
        name: "table of sockets, empty at first",
        carries: Some("files=direct"),
        since: "5.19",
        ask: Ask::Register(13),
        attempt: sparse_files,
    },
    Feature {
        name: "range of slots the kernel chooses from",
        carries: None,
        since: "6.0",
        ask: Ask::Register(25),
        attempt: alloc_range,
    },
    Feature {
        name: "clone registered memory",
        carries: None,
        since: "6.12",
        ask: Ask::Register(30),
        attempt: clone,
    },
    Feature { name: "resize rings", carries: None, since: "6.13", ask: Ask::Register(33), attempt: resize },
    Feature {
        name: "poll the network card",
        carries: Some("napi=TIME"),
        since: "6.9",
        ask: Ask::Register(27),
        attempt: napi,
    },
    Feature {
        name: "poll the network card, queues named",
        carries: None,
        since: "6.13",
        ask: Ask::Nothing,
        attempt: napi_static,
    },
    Feature {
        name: "CPUs of kernel threads",
        carries: None,
        since: "5.14",
        ask: Ask::Register(17),
        attempt: worker_cpus,
    },
    Feature {
        name: "limit of kernel threads",
        carries: None,
        since: "5.15",
        ask: Ask::Register(19),
        attempt: worker_limit,
    },
    Feature {
        name: "restrictions",
        carries: None,
        since: "5.10",
        ask: Ask::Register(11),
        attempt: restrictions,
    },
    Feature { name: "BPF filter", carries: None, since: "7.0", ask: Ask::Register(37), attempt: filter },
];

/// Registers a table of `slots` slots, all free.
pub(super) fn register_slots(ring: &HandRing, slots: u32) -> Found<()> {
    const SPARSE: u32 = 1;
    let argument = Place::new(32)?;
    argument.put(0, [slots, SPARSE]);
    ring.register(REGISTER_FILES2, Some(&argument), 32)?;
    Ok(())
}

/// Puts an open descriptor into a slot.
pub(super) fn update_slot(ring: &HandRing, slot: u32, fd: i32) -> Found<()> {
    let descriptor = Place::of(fd)?;
    let argument = Place::new(16)?;
    argument.put(0, slot);
    argument.put(8, descriptor.address(0));
    ring.register(REGISTER_FILES_UPDATE, Some(&argument), 1)?;
    Ok(())
}

fn probe() -> Found<String> {
    let marked = asked::probe(&HandRing::new(0)?)?;
    let (send, receive) = (marked.get(usize::from(OP_SEND)), marked.get(usize::from(OP_RECV)));
    ensure(send == Some(&true) && receive == Some(&true), || "send and receive are not marked".into())?;
    Ok(format!("{} opcodes are marked", marked.iter().filter(|&&marked| marked).count()))
}

fn query() -> Found<String> {
    let query = asked::query()?;
    let features = HandRing::new(0)?.params.features;
    ensure(query.features == u64::from(features), || {
        format!("its features word is {:#x}, and that of a ring {features:#x}", query.features)
    })?;
    Ok(format!("{} request and {} register opcodes", query.requests, query.registers))
}

/// Registers the ring for this thread; calls name it by its index from then on.
fn by_index(ring: &mut HandRing) -> Found<Place> {
    let argument = Place::new(16)?;
    argument.put(0, u32::MAX);
    argument.put(8, ring.fd as u64);
    ring.register(REGISTER_RING_FDS, Some(&argument), 1)?;
    ring.use_index(Some(argument.u32_at(0)));
    Ok(argument)
}

fn unregister(ring: &mut HandRing, argument: &Place) -> Found<()> {
    ring.use_index(None);
    argument.put(8, 0u64);
    ring.register(UNREGISTER_RING_FDS, Some(argument), 1)?;
    Ok(())
}

fn ring_fd() -> Found<String> {
    let (mut ring, mut pair) = (HandRing::new(0)?, Pair::new()?);
    let argument = by_index(&mut ring)?;
    let echoed = pair.echo(&mut ring);
    unregister(&mut ring, &argument)?;
    echoed?;
    Ok("48 bytes there and back over its index".into())
}

fn ring_fd_registers() -> Found<String> {
    let mut ring = HandRing::new(0)?;
    let argument = by_index(&mut ring)?;
    let registered = register_slots(&ring, 2);
    unregister(&mut ring, &argument)?;
    registered?;
    Ok("a table was registered over its index".into())
}

fn sparse_files() -> Found<String> {
    let (mut ring, mut pair) = (HandRing::new(0)?, Pair::new()?);
    register_slots(&ring, 8)?;
    update_slot(&ring, 5, pair.fd())?;
    let (place, sent) = (Place::new(64)?, message(30));
    pair.feed(&sent)?;
    let entry = Sqe { flags: ENTRY_FIXED_FILE, ..receive(5, &place, 64) };
    let count = ring.perform(entry)? as usize;
    same(&place.read(0, count), &sent)?;
    ring.push(Sqe { flags: ENTRY_FIXED_FILE, ..receive(4, &place, 64) });
    let done = ring.answer()?;
    ensure(done.result == -(Errno::EBADF as i32), || "a slot that is free can be received from".into())?;
    Ok("a slot brings bytes, a free one EBADF".into())
}

fn alloc_range() -> Found<String> {
    const OP_SOCKET: u8 = 45;
    let mut ring = HandRing::new(0)?;
    register_slots(&ring, 8)?;
    let argument = Place::of([6u32, 2])?;
    ring.register(REGISTER_FILE_ALLOC_RANGE, Some(&argument), 0)?;
    let (fd, off) = (libc::AF_INET, libc::SOCK_STREAM as u64);
    let slot = ring.perform(Sqe { opcode: OP_SOCKET, fd, off, file_index: u32::MAX, ..Sqe::default() })?;
    ensure((6..8).contains(&slot), || format!("slot {slot}, outside of 6 to 7"))?;
    Ok(format!("slot {slot} of 6 to 7"))
}

fn clone() -> Found<String> {
    let (source, mut ring, mut pair) = (HandRing::new(0)?, HandRing::new(0)?, Pair::new()?);
    let memory = Place::new(64)?;
    let vector = Place::of([memory.address(0), 64])?;
    source.register(REGISTER_BUFFERS, Some(&vector), 1)?;
    let argument = Place::new(32)?;
    argument.put(0, source.fd);
    ring.register(REGISTER_CLONE_BUFFERS, Some(&argument), 1)?;
    let sent = message(40);
    pair.feed(&sent)?;
    // A read, because a receive takes no registered memory.
    let entry = Sqe { opcode: OP_READ_FIXED, off: u64::MAX, ..receive(pair.fd(), &memory, 64) };
    let count = ring.perform(entry)? as usize;
    same(&memory.read(0, count), &sent)?;
    Ok("40 bytes into memory of another ring".into())
}

fn resize() -> Found<String> {
    // Without an index array: where it lies after the call, the kernel does not tell (seen on 6.18).
    let flags = SETUP_SINGLE_ISSUER | SETUP_DEFER_TASKRUN | SETUP_NO_SQARRAY;
    let (mut ring, mut pair) = (HandRing::new(flags)?, Pair::new()?);
    pair.echo(&mut ring)?;
    let argument =
        Place::of(Params { sq_entries: 32, cq_entries: 128, flags: SETUP_CQSIZE, ..Params::default() })?;
    ring.register(REGISTER_RESIZE_RINGS, Some(&argument), 1)?;
    let params = Params::of(&argument);
    ring.remap(params)?;
    ensure((params.sq_entries, params.cq_entries) == (32, 128), || {
        format!("{} and {} entries instead of 32 and 128", params.sq_entries, params.cq_entries)
    })?;
    pair.echo(&mut ring)?;
    Ok("bytes there and back before and after".into())
}

fn napi() -> Found<String> {
    napi_mode(0)?;
    Ok("accepted; loopback has no card to poll".into())
}

fn napi_static() -> Found<String> {
    const TRACKING_STATIC: u32 = 1;
    napi_mode(TRACKING_STATIC)?;
    Ok("accepted; loopback has no card to poll".into())
}

/// Registers busy polling for 50 us in this mode, and echoes with it.
fn napi_mode(mode: u32) -> Found<()> {
    let (mut ring, mut pair) = (HandRing::new(0)?, Pair::new()?);
    let argument = Place::new(16)?;
    argument.put(0, 50u32);
    argument.put(8, mode);
    ring.register(REGISTER_NAPI, Some(&argument), 1)?;
    pair.echo(&mut ring)
}

fn worker_cpus() -> Found<String> {
    let cpus = crate::host::cpus();
    let set = Place::new(128)?;
    let cpu = cpus[0];
    set.put(cpu / 8, 1u8 << (cpu % 8));
    HandRing::new(0)?.register(REGISTER_IOWQ_AFF, Some(&set), 128)?;
    Ok(format!("CPU {cpu} was accepted"))
}

fn worker_limit() -> Found<String> {
    let ring = HandRing::new(0)?;
    let argument = Place::of([3u32, 4])?;
    ring.register(REGISTER_IOWQ_MAX_WORKERS, Some(&argument), 2)?;
    argument.put(0, [0u32, 0]);
    ring.register(REGISTER_IOWQ_MAX_WORKERS, Some(&argument), 2)?;
    let told = (argument.u32_at(0), argument.u32_at(4));
    ensure(told == (3, 4), || format!("{told:?} instead of what was set"))?;
    Ok("the limits that were set were told".into())
}

/// A ring that may receive and nothing else.
fn restrictions() -> Found<String> {
    const SQE_OP: u16 = 1;
    let (mut ring, mut pair) = (HandRing::new(SETUP_R_DISABLED)?, Pair::new()?);
    let argument = Place::new(16)?;
    argument.put(0, SQE_OP);
    argument.put(2, OP_RECV);
    ring.register(REGISTER_RESTRICTIONS, Some(&argument), 1)?;
    ring.register(REGISTER_ENABLE_RINGS, None, 0)?;
    let (place, sent) = (Place::new(64)?, message(30));
    pair.feed(&sent)?;
    let count = ring.perform(receive(pair.fd(), &place, 64))?;
    same(&place.read(0, count as usize), &sent)?;
    ring.push(super::tools::send(pair.fd(), &place, count));
    let done = ring.answer()?;
    ensure(done.result == -(Errno::EACCES as i32), || format!("{} instead of EACCES", done.result))?;
    Ok("what is allowed works, a send is EACCES".into())
}

/// Whether the call is known: an argument that can never be right is EINVAL either way.
fn filter() -> Found<String> {
    const REGISTER_BPF_FILTER: u32 = 37;
    let known = asked::query()?.registers > REGISTER_BPF_FILTER;
    if known {
        return Err(Trouble::Untried(
            "a filter is a program of its own, and an echo server needs none".into(),
        ));
    }
    let ring = HandRing::new(SETUP_NO_SQARRAY)?;
    register(ring.fd, REGISTER_BPF_FILTER, None, 1)?;
    Err(Trouble::Wrong("it is said to be unknown, and was accepted".into()))
}
