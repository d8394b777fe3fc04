//! An echo server with a known fault: `burner ADDR PERCENT` spends so many per cent more CPU on every receive
//! than the rest of it takes. The bench is held against it (`scripts/truth`): 5 must be called worse, 0 must
//! not. One thread, epoll, level-triggered; what cannot be sent at once is waited for, which is enough for
//! ping-pong and for nothing else.

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::time::{ClockId, clock_gettime};
use std::collections::HashMap;
use std::hint::black_box;
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::time::Duration;

/// Receives between two looks at what they cost.
const LOOK: u64 = 1_000;

fn main() -> io::Result<()> {
    let usage = || io::Error::other("burner ADDR PERCENT");
    let mut arguments = std::env::args().skip(1);
    let address = arguments.next().ok_or_else(usage)?;
    let percent = arguments.next().and_then(|text| text.parse::<f64>().ok()).ok_or_else(usage)?;
    serve(&TcpListener::bind(address)?, Burner::new(percent))
}

fn serve(listener: &TcpListener, mut burner: Burner) -> io::Result<()> {
    const LISTENER: u64 = u64::MAX;
    listener.set_nonblocking(true)?;
    let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
    epoll.add(listener, EpollEvent::new(EpollFlags::EPOLLIN, LISTENER))?;
    let mut peers: HashMap<u64, TcpStream> = HashMap::new();
    let mut events = [EpollEvent::empty(); 256];
    let mut scratch = vec![0; 65_536];
    loop {
        let count = match epoll.wait(&mut events, EpollTimeout::NONE) {
            Err(nix::errno::Errno::EINTR) => continue,
            other => other?,
        };
        for event in &events[..count] {
            if event.data() == LISTENER {
                while let Ok((peer, _)) = listener.accept() {
                    peer.set_nonblocking(true)?;
                    peer.set_nodelay(true)?;
                    let number = peer.as_raw_fd() as u64;
                    epoll.add(&peer, EpollEvent::new(EpollFlags::EPOLLIN, number))?;
                    peers.insert(number, peer);
                }
            } else if let Some(peer) = peers.get_mut(&event.data()) {
                let goes_on = echo(peer, &mut scratch).unwrap_or(false);
                burner.received();
                if !goes_on {
                    // Closed, it leaves the epoll instance by itself.
                    peers.remove(&event.data());
                }
            }
        }
    }
}

/// Whether the peer may send more.
fn echo(peer: &mut TcpStream, scratch: &mut [u8]) -> io::Result<bool> {
    let count = match peer.read(scratch) {
        Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(true),
        other => other?,
    };
    let mut rest = &scratch[..count];
    while !rest.is_empty() {
        match peer.write(rest) {
            Ok(sent) => rest = &rest[sent..],
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                let _ = poll(&mut [PollFd::new(peer.as_fd(), PollFlags::POLLOUT)], PollTimeout::NONE)?;
            }
            Err(error) => return Err(error),
        }
    }
    Ok(count > 0)
}

/// What burns: so many turns of a loop for each receive, adjusted to what receives cost without it.
struct Burner {
    percent: f64,
    turns_per_nanosecond: f64,
    turns: u64,
    receives: u64,
    /// CPU time at the last look, nanoseconds.
    cpu: f64,
}

impl Burner {
    fn new(percent: f64) -> Self {
        const TURNS: u64 = 20_000_000;
        let begun = cpu();
        spin(TURNS);
        let turns_per_nanosecond = TURNS as f64 / (cpu() - begun).max(1.0);
        Self { percent, turns_per_nanosecond, turns: 0, receives: 0, cpu: cpu() }
    }

    fn received(&mut self) {
        spin(self.turns);
        self.receives += 1;
        if self.receives.is_multiple_of(LOOK) {
            let now = cpu();
            let burnt = self.turns as f64 / self.turns_per_nanosecond;
            let own = ((now - self.cpu) / LOOK as f64 - burnt).max(0.0);
            let target = own * self.percent / 100.0 * self.turns_per_nanosecond;
            // Slowly, so that one disturbed look does not count for much.
            self.turns = (self.turns as f64).mul_add(0.8, target * 0.2).round() as u64;
            self.cpu = now;
        }
    }
}

fn spin(turns: u64) {
    for turn in 0..turns {
        black_box(turn);
    }
}

fn cpu() -> f64 {
    let time = clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).map_or(Duration::ZERO, Duration::from);
    time.as_nanos() as f64
}
