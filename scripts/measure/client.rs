//! A closed-loop client on one thread: every connection has one message on its way, all the time.
//! Each connection's message is its own and is checked. Readiness by epoll, level-triggered.

use crate::connect::{self, Options};
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

/// Connections to one server.
pub struct Client {
    epoll: Epoll,
    connections: Vec<Connection>,
    scratch: Vec<u8>,
    /// Random bytes; the message of a connection starts at its number.
    bytes: Vec<u8>,
    size: usize,
}

struct Connection {
    stream: TcpStream,
    /// Bytes of the current message still to be sent, and to be received.
    unsent: usize,
    unread: usize,
    messages: u64,
}

/// How long an answer may take.
const ANSWER_MAX: Duration = Duration::from_secs(30);

impl Client {
    /// Opens `count` connections and echoes one message of `size` bytes on each.
    pub fn new(address: SocketAddr, count: usize, size: usize) -> io::Result<Self> {
        let mut this = Self::silent(address, count, size)?;
        this.run(Duration::ZERO)?;
        Ok(this)
    }

    /// Opens `count` connections and sends nothing yet.
    pub fn silent(address: SocketAddr, count: usize, size: usize) -> io::Result<Self> {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        let mut random = fastrand::Rng::with_seed(10_000);
        let bytes = (0..size + count).map(|_| random.u8(..)).collect();
        let mut connections = Vec::with_capacity(count);
        for (number, stream) in connect::open_all(address, count, Options::default())?.into_iter().enumerate()
        {
            epoll.add(&stream, EpollEvent::new(EpollFlags::EPOLLIN, number as u64))?;
            connections.push(Connection { stream, unsent: 0, unread: 0, messages: 0 });
        }
        Ok(Self { epoll, connections, scratch: vec![0; 1 << 18], bytes, size })
    }

    /// Keeps one message on its way per connection for `time`, then waits for every answer. Returns
    /// the messages that came back.
    pub fn run(&mut self, time: Duration) -> io::Result<u64> {
        let end = Instant::now() + time;
        self.exchange(|now, _| now < end)
    }

    /// Echoes `messages` on each connection, one after the other.
    pub fn run_messages(&mut self, messages: u64) -> io::Result<u64> {
        let target = self.connections.first().map_or(0, |connection| connection.messages) + messages;
        self.exchange(|_, done| done < target)
    }

    /// Starts one message on each connection, and another one whenever `again` says so, given the
    /// time and the messages this connection has done.
    fn exchange(&mut self, again: impl Fn(Instant, u64) -> bool) -> io::Result<u64> {
        let before = self.messages();
        for number in 0..self.connections.len() {
            self.start(number)?;
        }
        let mut under_way = self.connections.len();
        let mut events = vec![EpollEvent::empty(); 256];
        let mut progressed = Instant::now();
        while under_way > 0 {
            let count = self.epoll.wait(&mut events, EpollTimeout::from(1000u16))?;
            let now = Instant::now();
            if count > 0 {
                progressed = now;
            } else if now > progressed + ANSWER_MAX {
                return Err(io::Error::other(format!("{under_way} connections got no answer in 30 s")));
            }
            for event in &events[..count] {
                let number = event.data() as usize;
                if self.progress(number)? {
                    if again(now, self.connections[number].messages) {
                        self.start(number)?;
                    } else {
                        under_way -= 1;
                    }
                }
            }
        }
        Ok(self.messages() - before)
    }

    fn messages(&self) -> u64 {
        self.connections.iter().map(|connection| connection.messages).sum()
    }

    fn start(&mut self, number: usize) -> io::Result<()> {
        let connection = &mut self.connections[number];
        (connection.unsent, connection.unread) = (self.size, self.size);
        self.send(number)
    }

    fn send(&mut self, number: usize) -> io::Result<()> {
        let connection = &mut self.connections[number];
        let message = &self.bytes[number..number + self.size];
        while connection.unsent > 0 {
            match connection.stream.write(&message[self.size - connection.unsent..]) {
                Ok(bytes) => connection.unsent -= bytes,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Reads what is there; true when the message is complete.
    fn progress(&mut self, number: usize) -> io::Result<bool> {
        let connection = &mut self.connections[number];
        match connection.stream.read(&mut self.scratch) {
            Ok(0) => return Err(io::Error::other("the server closed a connection")),
            Ok(bytes) => {
                let message = &self.bytes[number..number + self.size];
                let start = self.size - connection.unread;
                if message.get(start..start + bytes) != Some(&self.scratch[..bytes]) {
                    return Err(io::Error::other("the server sent wrong bytes"));
                }
                connection.unread -= bytes;
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
            Err(error) => return Err(error),
        }
        if connection.unsent > 0 {
            self.send(number)?;
        }
        let connection = &mut self.connections[number];
        let complete = connection.unread == 0 && connection.unsent == 0;
        connection.messages += u64::from(complete);
        Ok(complete)
    }
}
