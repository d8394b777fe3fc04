//! Many connections at once: every connect is begun before any is awaited.

use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use socket2::{Domain, Socket, Type};
use std::io;
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

/// How connections are opened.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    /// SO_RCVBUF of the client's side, bytes; `None` leaves it to the kernel.
    pub receive_buffer: Option<usize>,
    /// SO_SNDBUF of the client's side, bytes; `None` leaves it to the kernel.
    pub send_buffer: Option<usize>,
}

/// A source address holds about 28,000 ports; nearly full ones are slow.
const PER_SOURCE: usize = 9_000;
/// How long all connects together may take.
const OPEN_MAX: Duration = Duration::from_secs(60);

/// Opens `count` connections; they are non-blocking and do not delay small messages.
pub fn open_all(address: SocketAddr, count: usize, options: Options) -> io::Result<Vec<TcpStream>> {
    let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
    let mut streams = Vec::with_capacity(count);
    for number in 0..count {
        let stream = begin(address, number, options)?;
        let interest = EpollFlags::EPOLLOUT | EpollFlags::EPOLLONESHOT;
        epoll.add(&stream, EpollEvent::new(interest, number as u64))?;
        streams.push(stream);
    }
    await_all(&epoll, &streams)?;
    for stream in &streams {
        epoll.delete(stream)?;
    }
    Ok(streams)
}

fn begin(address: SocketAddr, number: usize, options: Options) -> io::Result<TcpStream> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    socket.set_tcp_nodelay(true)?;
    if let Some(bytes) = options.receive_buffer {
        // Before the handshake: the window scale is fixed there.
        socket.set_recv_buffer_size(bytes)?;
    }
    if let Some(bytes) = options.send_buffer {
        socket.set_send_buffer_size(bytes)?;
    }
    if address.is_ipv4() && number >= PER_SOURCE {
        let source = SocketAddr::from(([127, 0, 1, (number / PER_SOURCE) as u8], 0));
        socket.bind(&source.into())?;
    }
    match socket.connect(&address.into()) {
        Err(error) if error.raw_os_error() != Some(libc::EINPROGRESS) => Err(error),
        _ => Ok(socket.into()),
    }
}

fn await_all(epoll: &Epoll, streams: &[TcpStream]) -> io::Result<()> {
    let guard = Instant::now() + OPEN_MAX;
    let mut events = vec![EpollEvent::empty(); 1024];
    let mut pending = streams.len();
    while pending > 0 {
        let count = epoll.wait(&mut events, EpollTimeout::from(1000u16))?;
        for event in &events[..count] {
            if let Some(error) = streams[event.data() as usize].take_error()? {
                return Err(io::Error::other(format!("a connection was refused: {error}")));
            }
            pending -= 1;
        }
        if Instant::now() > guard {
            return Err(io::Error::other(format!("{pending} connections were not open after {OPEN_MAX:?}")));
        }
    }
    Ok(())
}
