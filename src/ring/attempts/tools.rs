//! What the tries have in common: connections over loopback, buffers the kernel picks from, bytes that
//! are compared, and entries with the fields most operations share.

use super::hand::{Cqe, HandRing, PATIENCE, Place, Sqe};
use super::{Found, Trouble};
use crate::ring::LOOPBACK;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsRawFd;

pub(super) const OP_POLL_ADD: u8 = 6;
pub(super) const OP_SENDMSG: u8 = 9;
pub(super) const OP_RECVMSG: u8 = 10;
pub(super) const OP_ACCEPT: u8 = 13;
pub(super) const OP_CLOSE: u8 = 19;
pub(super) const OP_SEND: u8 = 26;
pub(super) const OP_RECV: u8 = 27;

pub(super) const ENTRY_FIXED_FILE: u8 = 1 << 0;
pub(super) const ENTRY_BUFFER_SELECT: u8 = 1 << 5;

pub(super) const RECV_MULTISHOT: u16 = 1 << 1;

/// Both ends of a connection over loopback: ours for the ring, theirs for plain reads and writes.
pub(super) struct Pair {
    pub(super) ours: TcpStream,
    pub(super) theirs: TcpStream,
}

impl Pair {
    pub(super) fn new() -> Found<Self> {
        let made = || {
            let listener = TcpListener::bind(&LOOPBACK[..])?;
            let theirs = TcpStream::connect_timeout(&listener.local_addr()?, PATIENCE)?;
            let (ours, _) = listener.accept()?;
            for end in [&ours, &theirs] {
                end.set_nodelay(true)?;
                end.set_read_timeout(Some(PATIENCE))?;
                end.set_write_timeout(Some(PATIENCE))?;
            }
            Ok(Self { ours, theirs })
        };
        made().map_err(Trouble::untried("there is no connection over loopback"))
    }

    /// The descriptor of our end.
    pub(super) fn fd(&self) -> i32 {
        self.ours.as_raw_fd()
    }

    /// The peer sends.
    pub(super) fn feed(&mut self, bytes: &[u8]) -> Found<()> {
        self.theirs.write_all(bytes).map_err(Trouble::untried("the peer cannot send"))
    }

    /// The peer sends, and it has arrived.
    pub(super) fn feed_and_see(&mut self, bytes: &[u8]) -> Found<()> {
        self.feed(bytes)?;
        let mut seen = vec![0; bytes.len()];
        while self.ours.peek(&mut seen).map_err(Trouble::untried("nothing arrives"))? < bytes.len() {
            std::thread::yield_now();
        }
        Ok(())
    }

    /// The peer gets exactly these bytes.
    pub(super) fn delivers(&mut self, expected: &[u8]) -> Found<()> {
        let mut got = vec![0; expected.len()];
        match self.theirs.read_exact(&mut got) {
            Ok(()) => same(&got, expected),
            Err(error) => Err(Trouble::Wrong(format!("the bytes did not arrive ({error})"))),
        }
    }

    /// Bytes there and back over this ring.
    pub(super) fn echo(&mut self, ring: &mut HandRing) -> Found<()> {
        let place = Place::new(64)?;
        let sent = message(48);
        self.feed(&sent)?;
        let count = ring.perform(receive(self.fd(), &place, 64))?;
        same(&place.read(0, count as usize), &sent)?;
        let count = ring.perform(send(self.fd(), &place, count))?;
        self.delivers(&sent[..count as usize])
    }
}

/// Somebody to be accepted.
pub(super) struct Host {
    pub(super) listener: TcpListener,
    pub(super) address: SocketAddr,
}

impl Host {
    pub(super) fn new() -> Found<Self> {
        let made = || {
            let listener = TcpListener::bind(&LOOPBACK[..])?;
            let address = listener.local_addr()?;
            Ok(Self { listener, address })
        };
        made().map_err(Trouble::untried("nothing can listen on loopback"))
    }

    pub(super) fn fd(&self) -> i32 {
        self.listener.as_raw_fd()
    }

    /// Connects to it.
    pub(super) fn dial(&self) -> Found<TcpStream> {
        let made = || {
            let stream = TcpStream::connect_timeout(&self.address, PATIENCE)?;
            stream.set_read_timeout(Some(PATIENCE))?;
            Ok(stream)
        };
        made().map_err(Trouble::untried("nothing can be dialled on loopback"))
    }
}

/// Bytes none of which can be mistaken for a neighbour.
pub(super) fn message(length: usize) -> Vec<u8> {
    (0..length).map(|index| (index * 31 + 7) as u8).collect()
}

pub(super) fn same(got: &[u8], expected: &[u8]) -> Found<()> {
    ensure(got == expected, || {
        let at = got.iter().zip(expected).position(|(got, expected)| got != expected);
        let at = at.unwrap_or(got.len().min(expected.len()));
        format!(
            "{} bytes came where {} were sent, and they differ from byte {at} on",
            got.len(),
            expected.len()
        )
    })
}

/// A promise that is held, or what was seen instead.
pub(super) fn ensure(held: bool, otherwise: impl FnOnce() -> String) -> Found<()> {
    if held { Ok(()) } else { Err(Trouble::Wrong(otherwise())) }
}

/// A receive of at most `length` bytes into a place.
pub(super) fn receive(fd: i32, place: &Place, length: u32) -> Sqe {
    Sqe { opcode: OP_RECV, fd, addr: place.address(0), len: length, ..Sqe::default() }
}

/// A send of `length` bytes of a place.
pub(super) fn send(fd: i32, place: &Place, length: u32) -> Sqe {
    Sqe { opcode: OP_SEND, fd, addr: place.address(0), len: length, ..Sqe::default() }
}

/// A receive into a buffer the kernel picks from a group.
pub(super) fn receive_picked(fd: i32, group: u16, ioprio: u16) -> Sqe {
    Sqe { opcode: OP_RECV, fd, flags: ENTRY_BUFFER_SELECT, ioprio, buffer: group, ..Sqe::default() }
}

/// A group of buffers in a ring the kernel picks from.
pub(super) struct Buffers {
    /// The ring: entries of 16 bytes, with its tail in the first.
    pub(super) ring: Place,
    pub(super) memory: Place,
    pub(super) size: u32,
    group: u16,
    count: u16,
    tail: u16,
}

const REGISTER_PBUF_RING: u32 = 22;
pub(super) const BUFFERS_MMAP: u16 = 1;
pub(super) const BUFFERS_INCREMENTAL: u16 = 2;

impl Buffers {
    /// `count` buffers (a power of two) of `size` bytes, all provided, as group 3.
    pub(super) fn new(ring: &HandRing, count: u16, size: u32) -> Found<Self> {
        let mut buffers = Self::empty(ring, count, size, 0, 0)?;
        (0..count).for_each(|buffer| buffers.provide(buffer, size));
        Ok(buffers)
    }

    /// Registered, with nothing provided.
    pub(super) fn empty(ring: &HandRing, count: u16, size: u32, flags: u16, least: u32) -> Found<Self> {
        const GROUP: u16 = 3;
        let entries = Place::new(usize::from(count) * 16)?;
        let address = if flags & BUFFERS_MMAP != 0 { 0 } else { entries.address(0) };
        let argument = Place::new(64)?;
        argument.put(0, address);
        argument.put(8, u32::from(count));
        argument.put(12, GROUP);
        argument.put(14, flags);
        argument.put(16, least);
        ring.register(REGISTER_PBUF_RING, Some(&argument), 1)?;
        let ring = if flags & BUFFERS_MMAP != 0 {
            super::hand::map_buffer_ring(ring.fd, GROUP, usize::from(count) * 16)?
        } else {
            entries
        };
        let memory = Place::new(usize::from(count) * size as usize)?;
        Ok(Self { ring, memory, size, group: GROUP, count, tail: 0 })
    }

    pub(super) fn group(&self) -> u16 {
        self.group
    }

    /// Gives the first `length` bytes of a buffer to the kernel.
    pub(super) fn provide(&mut self, buffer: u16, length: u32) {
        let at = usize::from(self.tail & (self.count - 1)) * 16;
        self.ring.put(at, self.memory.address(usize::from(buffer) * self.size as usize));
        self.ring.put(at + 8, length);
        self.ring.put(at + 12, buffer);
        self.tail = self.tail.wrapping_add(1);
        self.ring.publish_u16(14, self.tail);
    }

    /// Fills a buffer and gives it to the kernel, to be sent.
    pub(super) fn provide_filled(&mut self, buffer: u16, bytes: &[u8]) {
        assert!(bytes.len() <= self.size as usize);
        self.memory.write(usize::from(buffer) * self.size as usize, bytes);
        self.provide(buffer, bytes.len() as u32);
    }

    /// The bytes a completion brought, `offset` bytes into its buffer.
    pub(super) fn read(&self, done: Cqe, offset: usize) -> Found<Vec<u8>> {
        let (buffer, count) = (done.buffer()?, done.count()? as usize);
        ensure(buffer < self.count, || format!("a completion names buffer {buffer}, which nobody gave"))?;
        ensure(offset + count <= self.size as usize, || {
            format!("{count} bytes in a buffer of {}", self.size)
        })?;
        Ok(self.memory.read(usize::from(buffer) * self.size as usize + offset, count))
    }
}
