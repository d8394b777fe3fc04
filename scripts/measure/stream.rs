//! Connections that carry an endless stream each. What is sent depends on the connection and on the
//! position alone, so that every byte that comes back is checked. How far each one is can be read
//! from another thread.

use crate::connect::{self, Options};
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Connections to one server.
pub struct Streams {
    streams: Vec<Stream>,
    progress: Arc<[Progress]>,
    bytes: Vec<u8>,
    scratch: Vec<u8>,
}

struct Stream {
    /// `None` from its end on.
    socket: Option<TcpStream>,
    /// The server takes no more; what it owes may still come.
    refuses: bool,
}

/// How far one connection is.
#[derive(Debug)]
pub struct Progress {
    /// Its own address.
    pub local: SocketAddr,
    written: AtomicU64,
    read: AtomicU64,
    /// How it ended: an [`End`] as a number.
    end: AtomicU64,
}

/// How a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
pub enum End {
    /// It has not.
    Open = 0,
    /// The server finished.
    Finished = 1,
    /// The server reset it.
    Reset = 2,
}

/// How a stream flows.
#[derive(Clone, Copy, Debug)]
pub struct Flow {
    /// The most that may be written and not read back yet, bytes.
    pub window: u64,
    /// The most that is written at all, bytes.
    pub total: u64,
    /// Whether the end of every connection is awaited; else every byte that was written.
    pub to_the_end: bool,
}

/// A prime, so that streams whose positions differ by a power of two never look alike.
const PERIOD: usize = 65_521;
/// Bytes of one write or read.
const PIECE: usize = 64 * 1024;
/// How long nothing at all may happen.
const SILENCE_MAX: Duration = Duration::from_secs(30);
/// Without a byte taken for this long, a writer is blocked.
const BLOCKED_AFTER: Duration = Duration::from_millis(300);

impl Progress {
    /// Bytes the kernel took.
    pub fn written(&self) -> u64 {
        self.written.load(Ordering::Acquire)
    }

    /// Bytes that came back, all of them right.
    pub fn read(&self) -> u64 {
        self.read.load(Ordering::Acquire)
    }

    /// How it ended.
    pub fn end(&self) -> End {
        match self.end.load(Ordering::Acquire) {
            0 => End::Open,
            1 => End::Finished,
            _ => End::Reset,
        }
    }
}

impl Streams {
    /// Opens `count` connections and sends nothing yet.
    pub fn open(address: SocketAddr, count: usize, options: Options) -> io::Result<Self> {
        let sockets = connect::open_all(address, count, options)?;
        let progress = sockets.iter().map(|socket| {
            let zero = AtomicU64::default;
            Ok(Progress { local: socket.local_addr()?, written: zero(), read: zero(), end: zero() })
        });
        let progress = progress.collect::<io::Result<_>>()?;
        let streams = sockets.into_iter().map(|socket| Stream { socket: Some(socket), refuses: false });
        let mut random = fastrand::Rng::with_seed(65_521);
        let mut bytes: Vec<u8> = (0..PERIOD).map(|_| random.u8(..)).collect();
        bytes.extend_from_within(..);
        bytes.extend_from_within(..PIECE);
        Ok(Self { streams: streams.collect(), progress, bytes, scratch: vec![0; PIECE] })
    }

    /// How far each connection is; to be read from any thread.
    pub fn progress(&self) -> Arc<[Progress]> {
        Arc::clone(&self.progress)
    }

    /// Writes on every connection until none takes any more, or has taken `total`; reads nothing.
    pub fn write_until_blocked(&mut self, total: u64) -> io::Result<()> {
        let mut moved = Instant::now();
        while moved.elapsed() < BLOCKED_AFTER {
            for number in 0..self.streams.len() {
                if self.write(number, total)? > 0 {
                    moved = Instant::now();
                }
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(())
    }

    /// Reads, checks and writes on every connection as `flow` says.
    pub fn flow(&mut self, flow: Flow) -> io::Result<()> {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        let interest =
            EpollFlags::EPOLLIN | EpollFlags::EPOLLOUT | EpollFlags::EPOLLRDHUP | EpollFlags::EPOLLET;
        let mut pending = 0;
        for (number, stream) in self.streams.iter().enumerate() {
            if let Some(socket) = &stream.socket {
                epoll.add(socket, EpollEvent::new(interest, number as u64))?;
                pending += 1;
            }
        }
        let mut events = vec![EpollEvent::empty(); 256];
        while pending > 0 {
            let count = epoll.wait(&mut events, EpollTimeout::try_from(SILENCE_MAX).expect("it fits"))?;
            if count == 0 {
                return Err(io::Error::other(format!("nothing came on {pending} connections for 30 s")));
            }
            for event in &events[..count] {
                let number = event.data() as usize;
                if self.streams[number].socket.is_some() && self.go_on(number, flow)? {
                    pending -= 1;
                    if let Some(socket) = &self.streams[number].socket {
                        epoll.delete(socket)?;
                    }
                }
            }
        }
        Ok(())
    }

    /// Moves what can be moved; true when this connection is done. Edge-triggered: it reads and
    /// writes until neither goes on.
    fn go_on(&mut self, number: usize, flow: Flow) -> io::Result<bool> {
        loop {
            let read = self.read(number)?;
            let progress = &self.progress[number];
            if progress.end() != End::Open {
                return Ok(true);
            }
            let until = flow.total.min(progress.read().saturating_add(flow.window));
            if self.write(number, until)? + read == 0 {
                let progress = &self.progress[number];
                return Ok(!flow.to_the_end && progress.read() >= flow.total);
            }
        }
    }

    fn place(&self, number: usize, position: u64) -> usize {
        ((position + 251 * number as u64) % PERIOD as u64) as usize
    }

    /// Writes up to the position `until`, or until the kernel takes no more. Returns the bytes.
    fn write(&mut self, number: usize, until: u64) -> io::Result<u64> {
        let before = self.progress[number].written();
        let mut written = before;
        while written < until && !self.streams[number].refuses {
            let start = self.place(number, written);
            let piece = PIECE.min((until - written) as usize);
            let stream = &mut self.streams[number];
            let Some(socket) = &mut stream.socket else { break };
            match socket.write(&self.bytes[start..start + piece]) {
                Ok(bytes) => written += bytes as u64,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if is_reset(&error) => stream.refuses = true,
                Err(error) => return Err(error),
            }
            self.progress[number].written.store(written, Ordering::Release);
        }
        Ok(written - before)
    }

    /// Reads and checks one piece at most. Returns the bytes.
    fn read(&mut self, number: usize) -> io::Result<u64> {
        let position = self.progress[number].read();
        let start = self.place(number, position);
        let stream = &mut self.streams[number];
        let Some(socket) = &mut stream.socket else { return Ok(0) };
        let end = match socket.read(&mut self.scratch) {
            Ok(0) => End::Finished,
            Ok(bytes) => {
                if self.scratch[..bytes] != self.bytes[start..start + bytes] {
                    return Err(io::Error::other("the server sent wrong bytes"));
                }
                self.progress[number].read.store(position + bytes as u64, Ordering::Release);
                return Ok(bytes as u64);
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(0),
            Err(error) if is_reset(&error) => End::Reset,
            Err(error) => return Err(error),
        };
        stream.socket = None;
        self.progress[number].end.store(end as u64, Ordering::Release);
        Ok(0)
    }
}

fn is_reset(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe)
}
