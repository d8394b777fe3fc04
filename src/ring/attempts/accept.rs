//! Tries of accepting: once, again and again, into descriptors and into slots of the ring's table. What
//! was accepted has to bring the bytes of who was meant.

use super::hand::{HandRing, Place, Sqe, close};
use super::tools::{ENTRY_FIXED_FILE, Host, OP_ACCEPT, ensure, message, receive, same};
use super::{Ask, Feature, Found};
use nix::errno::Errno;
use std::io::Write;

const MULTISHOT: u16 = 1 << 0;
const DONTWAIT: u16 = 1 << 1;
const POLL_FIRST: u16 = 1 << 2;
/// The kernel chooses the slot.
const ANY_SLOT: u32 = u32::MAX;

pub(super) const FEATURES: &[Feature] = &[
    Feature {
        name: "accept",
        carries: Some("accept=single"),
        since: "5.5",
        ask: Ask::Opcode(13),
        attempt: once,
    },
    Feature {
        name: "multishot accept",
        carries: Some("accept=multishot"),
        since: "5.19",
        ask: Ask::Nothing,
        attempt: multishot,
    },
    Feature {
        name: "accept into a chosen slot",
        carries: None,
        since: "5.15",
        ask: Ask::Nothing,
        attempt: chosen_slot,
    },
    Feature {
        name: "accept into a free slot",
        carries: Some("files=direct"),
        since: "5.19",
        ask: Ask::Nothing,
        attempt: free_slot,
    },
    Feature {
        name: "multishot accept into free slots",
        carries: Some("files=direct"),
        since: "5.19",
        ask: Ask::Nothing,
        attempt: multishot_slots,
    },
    Feature {
        name: "a full table is told",
        carries: Some("files=direct"),
        since: "5.19",
        ask: Ask::Nothing,
        attempt: full_table,
    },
    Feature {
        name: "accept without waiting",
        carries: None,
        since: "6.10",
        ask: Ask::Nothing,
        attempt: without_waiting,
    },
    Feature {
        name: "accept, poll first",
        carries: None,
        since: "6.10",
        ask: Ask::Nothing,
        attempt: poll_first,
    },
    Feature {
        name: "told that more wait to be accepted",
        carries: None,
        since: "6.10",
        ask: Ask::Nothing,
        attempt: nonempty,
    },
];

fn accept(host: &Host) -> Sqe {
    Sqe { opcode: OP_ACCEPT, fd: host.fd(), op_flags: libc::SOCK_CLOEXEC as u32, ..Sqe::default() }
}

/// A slot of the ring's table has no close-on-exec flag: the kernel refuses it.
fn accept_slot(host: &Host, slot: u32) -> Sqe {
    Sqe { op_flags: 0, file_index: slot, ..accept(host) }
}

/// A client of this number, which says so; what was accepted must bring that.
struct Client {
    stream: std::net::TcpStream,
    said: Vec<u8>,
}

impl Client {
    fn new(host: &Host, number: usize) -> Found<Self> {
        Ok(Self { stream: host.dial()?, said: message(20 + number) })
    }

    fn speak(&mut self) -> Found<()> {
        let spoken = self.stream.write_all(&self.said);
        spoken.map_err(super::Trouble::untried("the peer cannot send"))
    }

    /// The accepted descriptor brings what this client says; it is closed whether it does or not.
    fn is_heard_and_closed(&mut self, ring: &mut HandRing, accepted: u32) -> Found<()> {
        let heard = self.is_heard(ring, accepted, false);
        close(accepted as i32);
        heard
    }

    /// The accepted socket, a descriptor or a slot, brings what this client says.
    fn is_heard(&mut self, ring: &mut HandRing, name: u32, slot: bool) -> Found<()> {
        self.speak()?;
        let place = Place::new(64)?;
        let flags = if slot { ENTRY_FIXED_FILE } else { 0 };
        let count = ring.perform(Sqe { flags, user_data: 99, ..receive(name as i32, &place, 64) })?;
        same(&place.read(0, count as usize), &self.said)
    }
}

fn once() -> Found<String> {
    let (mut ring, host) = (HandRing::new(0)?, Host::new()?);
    ring.push(accept(&host));
    ring.submit()?;
    let mut client = Client::new(&host, 0)?;
    let accepted = ring.count()?;
    client.is_heard_and_closed(&mut ring, accepted)?;
    Ok("a connection that brings its bytes".into())
}

fn multishot() -> Found<String> {
    let (mut ring, host) = (HandRing::new(0)?, Host::new()?);
    ring.push(Sqe { ioprio: MULTISHOT, ..accept(&host) });
    ring.submit()?;
    for number in 0..3 {
        let mut client = Client::new(&host, number)?;
        let done = ring.answer()?;
        let accepted = done.count()?;
        client.is_heard_and_closed(&mut ring, accepted)?;
        ensure(done.more(), || "it ended after one connection".into())?;
    }
    Ok("3 connections to one request".into())
}

fn chosen_slot() -> Found<String> {
    let (mut ring, host) = (HandRing::new(0)?, Host::new()?);
    super::registration::register_slots(&ring, 4)?;
    let mut client = Client::new(&host, 0)?;
    // Slots are counted from one here.
    let answer = ring.perform(accept_slot(&host, 2 + 1))?;
    ensure(answer == 0, || format!("{answer} instead of 0"))?;
    client.is_heard(&mut ring, 2, true)?;
    Ok("slot 2 brings its bytes".into())
}

fn free_slot() -> Found<String> {
    let (mut ring, host) = (HandRing::new(0)?, Host::new()?);
    super::registration::register_slots(&ring, 4)?;
    for number in 0..2 {
        let mut client = Client::new(&host, number)?;
        let slot = ring.perform(accept_slot(&host, ANY_SLOT))?;
        ensure(slot < 4, || format!("slot {slot} of 4"))?;
        client.is_heard(&mut ring, slot, true)?;
    }
    Ok("2 slots that bring their bytes".into())
}

fn multishot_slots() -> Found<String> {
    let (mut ring, host) = (HandRing::new(0)?, Host::new()?);
    super::registration::register_slots(&ring, 4)?;
    ring.push(Sqe { ioprio: MULTISHOT, ..accept_slot(&host, ANY_SLOT) });
    ring.submit()?;
    for number in 0..3 {
        let mut client = Client::new(&host, number)?;
        let done = ring.answer()?;
        let slot = done.count()?;
        ensure(slot < 4 && done.more(), || format!("slot {slot} of 4, and it ended"))?;
        client.is_heard(&mut ring, slot, true)?;
    }
    Ok("3 connections in slots to one request".into())
}

fn full_table() -> Found<String> {
    let (mut ring, host) = (HandRing::new(0)?, Host::new()?);
    super::registration::register_slots(&ring, 1)?;
    let _clients = [host.dial()?, host.dial()?];
    ring.perform(accept_slot(&host, ANY_SLOT))?;
    ring.push(accept_slot(&host, ANY_SLOT));
    let done = ring.answer()?;
    ensure(done.result == -(Errno::ENFILE as i32), || format!("{} instead of ENFILE", done.result))?;
    Ok("ENFILE, and the peer is dropped".into())
}

fn without_waiting() -> Found<String> {
    let (mut ring, host) = (HandRing::new(0)?, Host::new()?);
    ring.push(Sqe { ioprio: DONTWAIT, ..accept(&host) });
    let done = ring.answer()?;
    if done.result != -(Errno::EAGAIN as i32) {
        done.count()?;
        return Err(super::Trouble::Wrong(format!("{} instead of EAGAIN", done.result)));
    }
    let mut client = Client::new(&host, 0)?;
    let accepted = ring.perform(Sqe { ioprio: DONTWAIT, ..accept(&host) })?;
    client.is_heard_and_closed(&mut ring, accepted)?;
    Ok("EAGAIN with nobody there, then a connection".into())
}

fn poll_first() -> Found<String> {
    let (mut ring, host) = (HandRing::new(0)?, Host::new()?);
    ring.push(Sqe { ioprio: POLL_FIRST, ..accept(&host) });
    ring.submit()?;
    let mut client = Client::new(&host, 0)?;
    let accepted = ring.count()?;
    client.is_heard_and_closed(&mut ring, accepted)?;
    Ok("it waited, then brought a connection".into())
}

fn nonempty() -> Found<String> {
    let (mut ring, host) = (HandRing::new(0)?, Host::new()?);
    let _clients = [host.dial()?, host.dial()?];
    let mut told = Vec::new();
    for _ in 0..2 {
        ring.push(accept(&host));
        let done = ring.answer()?;
        close(done.count()? as i32);
        told.push(done.socket_has_more());
    }
    ensure(told == [true, false], || format!("of 2 that wait it told {told:?}"))?;
    Ok("it said so while one waited".into())
}
