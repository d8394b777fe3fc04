//! The other end of the connection: payload that proves itself, one peer, and a crowd of peers driven
//! by one thread. Blocking calls have [`GUARD`] as their limit; nothing here knows the server.

use crate::server::GUARD;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use socket2::{Domain, SockRef, Socket, Type};
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// The stream of one connection: every eight bytes name the connection and the place in it, so that
/// what is lost, doubled, moved or another's is not only noticed but named.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Payload {
    connection: u64,
}

/// 2^40 words for each connection.
const WORDS_BITS: u32 = 40;
static CONNECTIONS: AtomicU64 = AtomicU64::new(1);

impl Payload {
    /// A stream nobody else has in this run.
    pub fn next() -> Self {
        Self { connection: CONNECTIONS.fetch_add(1, Ordering::Relaxed) }
    }

    fn word(self, index: u64) -> [u8; 8] {
        mix((self.connection << WORDS_BITS) + index).to_le_bytes()
    }

    /// The bytes from `offset` on.
    pub fn fill(self, offset: u64, bytes: &mut [u8]) {
        let head = bytes.len().min((8 - offset as usize % 8) % 8);
        let (first, rest) = bytes.split_at_mut(head);
        first.copy_from_slice(&self.word(offset / 8)[offset as usize % 8..][..head]);
        for (index, chunk) in (offset.div_ceil(8)..).zip(rest.chunks_mut(8)) {
            chunk.copy_from_slice(&self.word(index)[..chunk.len()]);
        }
    }

    /// Whether `bytes` are those at `offset`.
    ///
    /// # Errors
    /// A sentence that says where they are wrong, and whose they are.
    pub fn check(self, offset: u64, bytes: &[u8]) -> Result<(), String> {
        let mut expected = [0; 4096];
        for (index, chunk) in bytes.chunks(expected.len()).enumerate() {
            let start = offset + (index * expected.len()) as u64;
            let expected = &mut expected[..chunk.len()];
            self.fill(start, expected);
            // Compared as a whole first: gigabytes come through here.
            let differs = || chunk.iter().zip(expected.iter()).position(|(got, want)| got != want);
            if chunk != expected
                && let Some(at) = differs()
            {
                let place = start + at as u64;
                let owner = owner(&chunk[at..]).map_or("nobody's".into(), |(connection, offset)| {
                    format!("those of connection {connection} at {offset}")
                });
                return Err(format!(
                    "connection {}: wrong at byte {place}; the bytes are {owner}",
                    self.connection
                ));
            }
        }
        Ok(())
    }
}

/// Whose bytes these are, by the first words that can be read back: (connection, offset).
fn owner(bytes: &[u8]) -> Option<(u64, u64)> {
    let known = 1..CONNECTIONS.load(Ordering::Relaxed);
    (0..8usize).find_map(|shift| {
        let word = bytes.get(shift..shift + 8)?.try_into().ok()?;
        let state = unmix(u64::from_le_bytes(word));
        let (connection, index) = (state >> WORDS_BITS, state & ((1 << WORDS_BITS) - 1));
        // No test moves more than 2^36 words, so a chance match is out of the question.
        (known.contains(&connection) && index < 1 << 36)
            .then(|| (connection, (index * 8).saturating_sub(shift as u64)))
    })
}

/// The finisher of SplitMix64: a permutation of 64 bits that looks random.
fn mix(mut word: u64) -> u64 {
    word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ (word >> 31)
}

/// Back from [`mix`].
fn unmix(mut word: u64) -> u64 {
    word = (word ^ (word >> 31) ^ (word >> 62)).wrapping_mul(0x3196_42b2_d24d_8ec3);
    word = (word ^ (word >> 27) ^ (word >> 54)).wrapping_mul(0x96de_1b17_3f11_9089);
    word ^ (word >> 30) ^ (word >> 60)
}

/// How the server ended a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Ending {
    /// By its FIN.
    Clean,
    /// By a reset.
    Reset,
}

/// How a peer's socket is set up before it connects.
#[derive(Clone, Copy, Debug, Default)]
pub struct Shape {
    /// SO_RCVBUF, bytes.
    pub receive_buffer: Option<usize>,
    /// SO_SNDBUF, bytes.
    pub send_buffer: Option<usize>,
}

/// A peer that takes little: the smallest receive buffer the kernel gives.
pub const SMALL: Shape = Shape { receive_buffer: Some(4096), send_buffer: Some(16 * 1024) };

/// One connection, and how far its stream is.
pub struct Peer {
    /// The socket.
    pub stream: TcpStream,
    /// Its bytes.
    pub payload: Payload,
    /// Bytes the kernel took from us.
    pub sent: u64,
    /// Bytes that came back and were right.
    pub verified: u64,
}

impl Peer {
    /// Connects.
    #[track_caller]
    pub fn connect(address: SocketAddr) -> Self {
        Self::connect_as(address, Shape::default())
    }

    /// Connects with a socket of this shape.
    #[track_caller]
    pub fn connect_as(address: SocketAddr, shape: Shape) -> Self {
        Self::try_connect(address, shape).unwrap_or_else(|error| panic!("connect to {address}: {error}"))
    }

    /// Connects.
    ///
    /// # Errors
    /// The kernel's.
    pub fn try_connect(address: SocketAddr, shape: Shape) -> io::Result<Self> {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM.cloexec(), None)?;
        shape.receive_buffer.map_or(Ok(()), |bytes| socket.set_recv_buffer_size(bytes))?;
        shape.send_buffer.map_or(Ok(()), |bytes| socket.set_send_buffer_size(bytes))?;
        socket.set_tcp_nodelay(true)?;
        socket.set_read_timeout(Some(GUARD))?;
        socket.set_write_timeout(Some(GUARD))?;
        socket.connect(&address.into())?;
        Ok(Self { stream: socket.into(), payload: Payload::next(), sent: 0, verified: 0 })
    }

    /// Sends the next `count` bytes, waiting as long as the server makes it wait.
    #[track_caller]
    pub fn send(&mut self, count: u64) {
        self.try_send(count).unwrap_or_else(|error| panic!("send after {} bytes: {error}", self.sent));
    }

    /// Sends the next `count` bytes.
    ///
    /// # Errors
    /// The kernel's; what it took before is counted.
    pub fn try_send(&mut self, count: u64) -> io::Result<()> {
        let target = self.sent + count;
        let mut bytes = [0; 16 * 1024];
        while self.sent < target {
            let length = bytes.len().min((target - self.sent) as usize);
            self.payload.fill(self.sent, &mut bytes[..length]);
            match self.stream.write(&bytes[..length]) {
                Ok(count) => self.sent += count as u64,
                // A socket with a time limit answers so after the process was stopped and continued.
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Receives the next `count` bytes and checks them.
    #[track_caller]
    pub fn receive(&mut self, count: u64) {
        let target = self.verified + count;
        while self.verified < target {
            match self.receive_some((target - self.verified) as usize) {
                Ok(None) => {}
                other => panic!("ended with {other:?} after {} of {target} bytes", self.verified),
            }
        }
    }

    /// One read of at most `limit` bytes, checked: `None` where it is not the end.
    ///
    /// # Errors
    /// Whatever is not an ending: a timeout, for example.
    #[track_caller]
    pub fn receive_some(&mut self, limit: usize) -> io::Result<Option<Ending>> {
        let mut bytes = [0; 64 * 1024];
        let length = bytes.len().min(limit);
        match self.stream.read(&mut bytes[..length]) {
            Ok(0) => Ok(Some(Ending::Clean)),
            Ok(count) => {
                self.payload.check(self.verified, &bytes[..count]).unwrap_or_else(|wrong| panic!("{wrong}"));
                self.verified += count as u64;
                Ok(None)
            }
            Err(error) if error.kind() == ErrorKind::ConnectionReset => Ok(Some(Ending::Reset)),
            Err(error) if error.kind() == ErrorKind::Interrupted => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Receives everything up to the end, and says how it ended.
    #[track_caller]
    pub fn receive_to_end(&mut self) -> Ending {
        loop {
            match self.receive_some(usize::MAX) {
                Ok(None) => {}
                Ok(Some(ending)) => return ending,
                Err(error) => panic!("no end after {} bytes: {error}", self.verified),
            }
        }
    }

    /// Sends our FIN.
    pub fn finish(&self) {
        self.stream.shutdown(Shutdown::Write).expect("a connected socket");
    }

    /// Sends our FIN, receives the rest and expects the server's FIN after the last byte.
    #[track_caller]
    pub fn finish_cleanly(mut self) {
        self.finish();
        assert_eq!(self.receive_to_end(), Ending::Clean);
        assert_eq!(self.verified, self.sent, "bytes that were sent and never came back");
    }

    /// Ends the connection by a reset.
    pub fn reset(self) {
        SockRef::from(&self.stream).set_linger(Some(Duration::ZERO)).expect("a socket");
    }

    /// Sends without reading until the server has taken nothing for `quiet`, or `limit` bytes went.
    pub fn send_until_stuck(&mut self, limit: u64, quiet: Duration) -> u64 {
        self.stream.set_write_timeout(Some(quiet)).expect("a socket");
        let before = self.sent;
        let _ = self.try_send(limit);
        self.stream.set_write_timeout(Some(GUARD)).expect("a socket");
        self.sent - before
    }

    /// Sends and receives until `count` more bytes came back, at most `window` on their way.
    #[track_caller]
    pub fn exchange(&mut self, count: u64, window: u64) {
        exchange(std::slice::from_mut(self), count, window);
    }

    /// Sends and receives as far as it goes without waiting.
    fn turn(&mut self, target: u64, window: u64, scratch: &mut [u8]) -> Result<(), String> {
        loop {
            let mut moved = false;
            while self.sent < target && self.sent - self.verified < window {
                let room = (target - self.sent).min(window - (self.sent - self.verified));
                let length = scratch.len().min(room as usize);
                self.payload.fill(self.sent, &mut scratch[..length]);
                match self.stream.write(&scratch[..length]) {
                    Ok(count) => self.sent += count as u64,
                    Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                    Err(error) => return Err(format!("send after {} bytes: {error}", self.sent)),
                }
                moved = true;
            }
            match self.stream.read(scratch) {
                Ok(0) => return Err(format!("ended after {} of {target} bytes", self.verified)),
                Ok(count) => {
                    self.payload.check(self.verified, &scratch[..count])?;
                    self.verified += count as u64;
                    moved = self.verified < target;
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(error) => return Err(format!("receive after {} bytes: {error}", self.verified)),
            }
            if !moved {
                return Ok(());
            }
        }
    }
}

/// Connects `count` peers.
#[track_caller]
pub fn crowd(address: SocketAddr, count: usize) -> Vec<Peer> {
    (0..count).map(|_| Peer::connect(address)).collect()
}

/// Every peer sends `count` more bytes and gets them back, at most `window` of each on their way:
/// one message is a ping-pong, many are a stream. All at once, from one thread.
#[track_caller]
pub fn exchange(peers: &mut [Peer], count: u64, window: u64) {
    if let Err(wrong) = try_exchange(peers, count, window) {
        panic!("{wrong}");
    }
}

/// As [`exchange`].
///
/// # Errors
/// What went wrong, with whom.
pub fn try_exchange(peers: &mut [Peer], count: u64, window: u64) -> Result<(), String> {
    let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).expect("an epoll instance");
    let interest = EpollFlags::EPOLLIN | EpollFlags::EPOLLOUT | EpollFlags::EPOLLRDHUP | EpollFlags::EPOLLET;
    let targets: Vec<u64> = peers.iter().map(|peer| peer.sent + count).collect();
    for (index, peer) in peers.iter().enumerate() {
        peer.stream.set_nonblocking(true).expect("a socket");
        epoll.add(&peer.stream, EpollEvent::new(interest, index as u64)).expect("room for it");
    }
    let mut scratch = vec![0; 64 * 1024];
    let mut events = [EpollEvent::empty(); 256];
    let mut missing = peers.iter().zip(&targets).filter(|(peer, target)| peer.verified < **target).count();
    let mut moved = Instant::now();
    while missing > 0 {
        let came = match epoll.wait(&mut events, EpollTimeout::from(1000u16)) {
            Ok(count) => count,
            Err(nix::errno::Errno::EINTR) => 0,
            Err(error) => panic!("epoll_wait: {error}"),
        };
        if came > 0 {
            moved = Instant::now();
        } else if moved.elapsed() > GUARD {
            let late = peers.iter().zip(&targets).find(|(peer, target)| peer.verified < **target);
            let (peer, target) = late.expect("somebody is missing");
            return Err(format!(
                "{missing} stuck; one sent {} and got {} of {target}",
                peer.sent, peer.verified
            ));
        }
        for event in &events[..came] {
            let index = event.data() as usize;
            let (peer, target) = (&mut peers[index], targets[index]);
            if peer.verified < target {
                peer.turn(target, window, &mut scratch)?;
                missing -= usize::from(peer.verified >= target);
            }
        }
    }
    for peer in peers.iter() {
        peer.stream.set_nonblocking(false).expect("a socket");
    }
    Ok(())
}

/// Every peer sends its FIN and expects the rest and the server's.
#[track_caller]
pub fn finish_cleanly(peers: Vec<Peer>) {
    peers.iter().for_each(Peer::finish);
    for mut peer in peers {
        assert_eq!(peer.receive_to_end(), Ending::Clean);
        assert_eq!(peer.verified, peer.sent, "bytes that were sent and never came back");
    }
}
