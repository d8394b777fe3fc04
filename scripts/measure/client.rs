//! A closed-loop client on one thread: every connection has one message on its way, all the time.
//! Bytes are checked. Readiness by epoll, level-triggered.

use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

/// Connections to one server.
pub struct Client {
    epoll: Epoll,
    connections: Vec<Connection>,
    scratch: Vec<u8>,
    message: Vec<u8>,
}

struct Connection {
    stream: TcpStream,
    /// Bytes of the current message still to be sent, and to be received.
    unsent: usize,
    unread: usize,
    messages: u64,
}

/// Source addresses hold about 28,000 ports each; nearly full ones are slow.
const PER_SOURCE: usize = 9_000;

fn connect(address: SocketAddr, number: usize) -> io::Result<TcpStream> {
    let socket = socket2::Socket::new(socket2::Domain::for_address(address), socket2::Type::STREAM, None)?;
    if address.is_ipv4() && number >= PER_SOURCE {
        let source = SocketAddr::from(([127, 0, 1, (number / PER_SOURCE) as u8], 0));
        socket.bind(&source.into())?;
    }
    socket.connect(&address.into())?;
    socket.set_tcp_nodelay(true)?;
    Ok(socket.into())
}

impl Client {
    /// Opens `count` connections and echoes one message of `size` bytes on each.
    pub fn new(address: SocketAddr, count: usize, size: usize) -> io::Result<Self> {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        let message: Vec<u8> = (0..size).map(|index| (index * 31 % 251) as u8).collect();
        let mut connections = Vec::with_capacity(count);
        for number in 0..count {
            let stream = connect(address, number)?;
            stream.set_nonblocking(true)?;
            epoll.add(&stream, EpollEvent::new(EpollFlags::EPOLLIN, number as u64))?;
            connections.push(Connection { stream, unsent: 0, unread: 0, messages: 0 });
        }
        let mut this = Self { epoll, connections, scratch: vec![0; 1 << 18], message };
        this.run(Duration::ZERO)?;
        Ok(this)
    }

    /// Keeps one message on its way per connection for `time`, then waits for every answer. Returns
    /// the messages that came back.
    pub fn run(&mut self, time: Duration) -> io::Result<u64> {
        let before = self.messages();
        for number in 0..self.connections.len() {
            self.start(number)?;
        }
        let (end, mut under_way) = (Instant::now() + time, self.connections.len());
        let guard = end + Duration::from_secs(30);
        let mut events = vec![EpollEvent::empty(); 256];
        let mut going_on = true;
        while under_way > 0 {
            let count = self.epoll.wait(&mut events, EpollTimeout::from(1000u16))?;
            let now = Instant::now();
            going_on = going_on && now < end;
            if now > guard {
                return Err(io::Error::other(format!("{under_way} connections got no answer in 30 s")));
            }
            for event in &events[..count] {
                let number = event.data() as usize;
                if self.progress(number)? {
                    if going_on { self.start(number)? } else { under_way -= 1 }
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
        (connection.unsent, connection.unread) = (self.message.len(), self.message.len());
        self.send(number)
    }

    fn send(&mut self, number: usize) -> io::Result<()> {
        let connection = &mut self.connections[number];
        while connection.unsent > 0 {
            let rest = &self.message[self.message.len() - connection.unsent..];
            match connection.stream.write(rest) {
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
                let start = self.message.len() - connection.unread;
                let expected = self.message.get(start..start + bytes);
                if expected != Some(&self.scratch[..bytes]) {
                    return Err(io::Error::other("the server sent wrong bytes"));
                }
                connection.unread -= bytes;
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
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
