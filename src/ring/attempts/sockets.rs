//! Tries of what is done with sockets beside bytes: made, connected, bound, asked, shut, closed, by the
//! ring.

use super::hand::{HandRing, Place, Sqe, close};
use super::registration::register_slots;
use super::tools::{ENTRY_FIXED_FILE, Host, OP_ACCEPT, OP_CLOSE, Pair, ensure, message, same, send};
use super::{Ask, Feature, Found, Trouble};
use crate::features::Capability;
use std::io::Read;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};

const OP_CONNECT: u8 = 16;
const OP_SHUTDOWN: u8 = 34;
const OP_SOCKET: u8 = 45;
const OP_URING_CMD: u8 = 46;
const OP_FIXED_FD_INSTALL: u8 = 54;
const OP_BIND: u8 = 56;
const OP_LISTEN: u8 = 57;
const COMMAND_GETSOCKOPT: u64 = 2;
const COMMAND_SETSOCKOPT: u64 = 3;

pub(super) const FEATURES: &[Feature] = &[
    Feature { name: "socket", carries: None, since: "5.19", ask: Ask::Opcode(45), attempt: socket },
    Feature {
        name: "socket in a slot",
        carries: None,
        since: "5.19",
        ask: Ask::Opcode(45),
        attempt: socket_slot,
    },
    Feature { name: "connect", carries: None, since: "5.5", ask: Ask::Opcode(16), attempt: connect },
    Feature {
        name: "bind and listen",
        carries: None,
        since: "6.11",
        ask: Ask::Opcode(56),
        attempt: bind_listen,
    },
    Feature { name: "shutdown", carries: None, since: "5.11", ask: Ask::Opcode(34), attempt: shutdown },
    Feature { name: "close", carries: None, since: "5.6", ask: Ask::Opcode(19), attempt: close_descriptor },
    Feature {
        name: "close a slot",
        carries: Some("files=direct"),
        since: "5.15",
        ask: Ask::Nothing,
        attempt: close_slot,
    },
    Feature {
        name: "descriptor of a slot",
        carries: None,
        since: "6.8",
        ask: Ask::Opcode(54),
        attempt: install,
    },
    Feature { name: "setsockopt", carries: None, since: "6.7", ask: Ask::Nothing, attempt: set_option },
    Feature { name: "getsockopt", carries: None, since: "6.7", ask: Ask::Nothing, attempt: get_option },
    Feature {
        name: "how much has arrived",
        carries: None,
        since: "6.7",
        ask: Ask::Nothing,
        attempt: arrived,
    },
    Feature { name: "time of sending", carries: None, since: "6.17", ask: Ask::Nothing, attempt: timestamp },
];

fn new_socket(slot: u32) -> Sqe {
    Sqe {
        opcode: OP_SOCKET,
        fd: libc::AF_INET,
        off: libc::SOCK_STREAM as u64,
        file_index: slot,
        ..Sqe::default()
    }
}

/// `sockaddr_in` of a place on loopback.
fn address_of(address: SocketAddr) -> Found<Place> {
    let place = Place::new(16)?;
    place.put(0, libc::AF_INET as u16);
    place.put(2, address.port().to_be_bytes());
    place.put(4, Ipv4Addr::LOCALHOST.octets());
    Ok(place)
}

/// Connects a socket, a descriptor or a slot, and sends over it.
fn connect_and_send(ring: &mut HandRing, name: i32, flags: u8) -> Found<()> {
    let host = Host::new()?;
    let address = address_of(host.address)?;
    ring.perform(Sqe {
        opcode: OP_CONNECT,
        flags,
        fd: name,
        addr: address.address(0),
        off: 16,
        ..Sqe::default()
    })?;
    let (place, sent) = (Place::new(64)?, message(30));
    place.write(0, &sent);
    let count = ring.perform(Sqe { flags, ..send(name, &place, 30) })? as usize;
    let (accepted, _) = host.listener.accept().map_err(Trouble::untried("nothing can be accepted"))?;
    heard(accepted, &sent[..count])
}

fn heard(mut stream: TcpStream, expected: &[u8]) -> Found<()> {
    let mut got = vec![0; expected.len()];
    let read =
        stream.set_read_timeout(Some(super::hand::PATIENCE)).and_then(|()| stream.read_exact(&mut got));
    read.map_err(|error| Trouble::Wrong(format!("the bytes did not arrive ({error})")))?;
    same(&got, expected)
}

fn socket() -> Found<String> {
    let mut ring = HandRing::new(0)?;
    let name = ring.perform(new_socket(0))? as i32;
    let connected = connect_and_send(&mut ring, name, 0);
    close(name);
    connected?;
    Ok("a socket that connects and sends".into())
}

fn socket_slot() -> Found<String> {
    let mut ring = HandRing::new(0)?;
    register_slots(&ring, 2)?;
    let answer = ring.perform(new_socket(1 + 1))?;
    ensure(answer == 0, || format!("{answer} instead of 0"))?;
    connect_and_send(&mut ring, 1, ENTRY_FIXED_FILE)?;
    Ok("slot 1 connects and sends".into())
}

fn connect() -> Found<String> {
    let mut ring = HandRing::new(0)?;
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None)
        .map_err(Trouble::untried("no socket can be made"))?;
    connect_and_send(&mut ring, std::os::fd::AsRawFd::as_raw_fd(&socket), 0)?;
    Ok("connected, 30 bytes arrived".into())
}

fn bind_listen() -> Found<String> {
    let mut ring = HandRing::new(0)?;
    register_slots(&ring, 2)?;
    // A port nobody has: the one a listener had that is gone. Taken in between, it is tried again.
    ring.perform(new_socket(1))?;
    let mut bound = Err(Trouble::Untried("no port is free".into()));
    let mut address = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    for _ in 0..5 {
        address = Host::new()?.address;
        let place = address_of(address)?;
        let entry = Sqe { opcode: OP_BIND, addr: place.address(0), off: 16, ..in_slot(0) };
        bound = ring.perform(entry);
        if bound != Err(Trouble::Refused(nix::errno::Errno::EADDRINUSE)) {
            break;
        }
    }
    bound?;
    ring.perform(Sqe { opcode: OP_LISTEN, len: 4, ..in_slot(0) })?;
    let mut client = TcpStream::connect_timeout(&address, super::hand::PATIENCE)
        .map_err(|error| Trouble::Wrong(format!("nobody listens there ({error})")))?;
    ring.perform(Sqe { opcode: OP_ACCEPT, file_index: 1 + 1, ..in_slot(0) })?;
    let (place, sent) = (Place::new(64)?, message(30));
    std::io::Write::write_all(&mut client, &sent).map_err(Trouble::untried("the peer cannot send"))?;
    let entry = super::tools::receive(1, &place, 64);
    let count = ring.perform(Sqe { flags: ENTRY_FIXED_FILE, ..entry })? as usize;
    same(&place.read(0, count), &sent)?;
    Ok("a listener in a slot, and a connection to it".into())
}

fn in_slot(slot: i32) -> Sqe {
    Sqe { fd: slot, flags: ENTRY_FIXED_FILE, ..Sqe::default() }
}

fn shutdown() -> Found<String> {
    let (mut ring, mut pair) = (HandRing::new(0)?, Pair::new()?);
    ring.perform(Sqe { opcode: OP_SHUTDOWN, fd: pair.fd(), len: libc::SHUT_WR as u32, ..Sqe::default() })?;
    let end = pair.theirs.read(&mut [0; 8]);
    ensure(matches!(end, Ok(0)), || format!("the peer sees {end:?} instead of the end"))?;
    // The other direction is still open.
    let sent = message(20);
    pair.feed(&sent)?;
    let place = Place::new(64)?;
    let count = ring.perform(super::tools::receive(pair.fd(), &place, 64))? as usize;
    same(&place.read(0, count), &sent)?;
    Ok("the peer saw the end, and could still send".into())
}

fn close_descriptor() -> Found<String> {
    let (mut ring, pair) = (HandRing::new(0)?, Pair::new()?);
    let Pair { ours, mut theirs } = pair;
    let name = std::os::fd::IntoRawFd::into_raw_fd(ours);
    let closed = ring.perform(Sqe { opcode: OP_CLOSE, fd: name, ..Sqe::default() });
    if closed.is_err() {
        close(name);
    }
    closed?;
    let end = theirs.read(&mut [0; 8]);
    ensure(matches!(end, Ok(0)), || format!("the peer sees {end:?} instead of the end"))?;
    Ok("the peer saw the end".into())
}

/// A socket of a pair in slot 0, and nowhere else, so that closing the slot closes it.
fn slot_only(ring: &HandRing) -> Found<TcpStream> {
    register_slots(ring, 1)?;
    let pair = Pair::new()?;
    super::registration::update_slot(ring, 0, pair.fd())?;
    Ok(pair.theirs)
}

fn close_slot() -> Found<String> {
    let mut ring = HandRing::new(0)?;
    let mut theirs = slot_only(&ring)?;
    // Slots are counted from one here.
    ring.perform(Sqe { opcode: OP_CLOSE, file_index: 1, ..Sqe::default() })?;
    let end = theirs.read(&mut [0; 8]);
    ensure(matches!(end, Ok(0)), || format!("the peer sees {end:?} instead of the end"))?;
    Ok("the peer saw the end".into())
}

fn install() -> Found<String> {
    let mut ring = HandRing::new(0)?;
    let theirs = slot_only(&ring)?;
    let name = ring.perform(Sqe { opcode: OP_FIXED_FD_INSTALL, ..in_slot(0) })? as i32;
    let sent = message(25);
    let wrote = nix::unistd::write(borrowed(name), &sent);
    close(name);
    let wrote = wrote.map_err(|errno| Trouble::Wrong(format!("its descriptor takes no bytes ({errno})")))?;
    heard(theirs, &sent[..wrote])?;
    Ok("a descriptor that takes bytes".into())
}

/// A descriptor the ring has just given us.
fn borrowed(name: i32) -> std::os::fd::BorrowedFd<'static> {
    // SAFETY: open until the caller closes it, after the call this is for.
    unsafe { std::os::fd::BorrowedFd::borrow_raw(name) }
}

fn command(fd: i32, what: u64) -> Sqe {
    Sqe { opcode: OP_URING_CMD, fd, off: what, ..Sqe::default() }
}

/// The fields of the commands that set and get: the level and the option, the length and the value.
fn option(fd: i32, what: u64, value: &Place) -> Sqe {
    let (level, name) = (libc::SOL_SOCKET as u64, libc::SO_KEEPALIVE as u64);
    Sqe { addr: level | name << 32, file_index: 4, addr3: value.address(0), ..command(fd, what) }
}

fn set_option() -> Found<String> {
    let (mut ring, pair) = (HandRing::new(0)?, Pair::new()?);
    let value = Place::of(1u32)?;
    ring.perform(option(pair.fd(), COMMAND_SETSOCKOPT, &value))?;
    let set = socket2::SockRef::from(&pair.ours).keepalive();
    ensure(set.map_err(Trouble::untried("the option cannot be read"))?, || "it is not set".into())?;
    Ok("the option is set".into())
}

fn get_option() -> Found<String> {
    let (mut ring, pair) = (HandRing::new(0)?, Pair::new()?);
    let value = Place::of(1u32)?;
    ring.perform(option(pair.fd(), COMMAND_SETSOCKOPT, &value))?;
    value.put(0, 0u32);
    let length = ring.perform(option(pair.fd(), COMMAND_GETSOCKOPT, &value))?;
    let got = value.u32_at(0);
    ensure(length == 4 && got == 1, || format!("{got} in {length} bytes where 1 is set"))?;
    Ok("it told the option that was set".into())
}

/// As the server asks: the probe has that try.
fn arrived() -> Found<String> {
    match crate::ring::probe::probe().refusal(Capability::CountArrived) {
        None => Ok("0 and 32 bytes were told of".into()),
        Some(answer) => Err(by_name(answer)),
    }
}

/// The errno of a name the probe wrote.
fn by_name(answer: &str) -> Trouble {
    let known = (1..134).map(nix::errno::Errno::from_raw).find(|errno| format!("{errno:?}") == answer);
    known.map_or_else(|| Trouble::Wrong(answer.into()), Trouble::Refused)
}

fn timestamp() -> Found<String> {
    Err(Trouble::Untried("it brings no bytes, and an echo server has no use for it".into()))
}
