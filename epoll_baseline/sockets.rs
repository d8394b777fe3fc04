//! The seam between the readiness loops and the kernel: [`Sockets`]. The loops ask for readiness,
//! bytes and time here and nowhere else; [`Kernel`] is the real one, `sim` a fake one for tests.
//!
//! Interest and readiness are epoll's own flags: this server is about what epoll can do, so nothing
//! of it is folded away. Absent on purpose: connections. A token is a number the caller chose.

use crate::conn::ConnId;
use crate::stop::Stop;
use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollTimeout};
use nix::sys::eventfd::{EfdFlags, EventFd};
use rustix::net::{RecvFlags, SendFlags, Shutdown, SocketFlags};
use std::net::TcpListener;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

pub use nix::sys::epoll::EpollFlags;

/// A kernel, real or fake, as the readiness loops see it. Nothing but [`wait`](Self::wait) blocks.
/// By shared reference throughout, because `threads=shared` uses one instance from many threads.
pub trait Sockets {
    /// A connected socket. Opaque: whoever drops it has called [`close`](Self::close).
    type Socket;
    /// A listening socket.
    type Listener;

    /// Monotonic time since an origin of the kernel's own.
    fn now(&self) -> Duration;

    /// Waits until something is ready or `until` has come, on the clock of [`now`](Self::now), and
    /// fills `events`; `None` is for ever, a time that has passed is not at all.
    ///
    /// # Errors
    /// `EINTR`; any other is our own mistake.
    fn wait(&self, events: &mut Events, until: Option<Duration>) -> Result<(), Errno>;

    /// Watches a listener.
    ///
    /// # Errors
    /// When the kernel has no memory or no room for another watch.
    fn watch_listener(&self, listener: &Self::Listener, token: Token, on: EpollFlags) -> Result<(), Errno>;

    /// Takes the next connection that is queued.
    ///
    /// # Errors
    /// `EAGAIN` when none is; else see `accepting`.
    fn accept(&self, listener: &Self::Listener) -> Result<Self::Socket, Errno>;

    /// Watches a socket.
    ///
    /// # Errors
    /// When the kernel has no memory or no room for another watch.
    fn watch(&self, socket: &Self::Socket, token: Token, on: EpollFlags) -> Result<(), Errno>;

    /// Receives at most as many bytes as `into` holds; 0 is the end.
    ///
    /// # Errors
    /// As recv(2).
    fn receive(&self, socket: &Self::Socket, into: &mut [u8]) -> Result<usize, Errno>;

    /// Sends, and says how many bytes the kernel took.
    ///
    /// # Errors
    /// As send(2).
    fn send(&self, socket: &Self::Socket, bytes: &[u8]) -> Result<usize, Errno>;

    /// Watches a socket for something else, or arms a one-shot watch again. What is ready already is
    /// reported.
    ///
    /// # Errors
    /// When the kernel has no memory.
    fn watch_again(&self, socket: &Self::Socket, token: Token, on: EpollFlags) -> Result<(), Errno>;

    /// The same for a listener.
    ///
    /// # Errors
    /// When the kernel has no memory.
    fn watch_listener_again(
        &self,
        listener: &Self::Listener,
        token: Token,
        on: EpollFlags,
    ) -> Result<(), Errno>;

    /// Bytes that have arrived and were not received (SIOCINQ).
    fn arrived(&self, socket: &Self::Socket) -> u32;

    /// Sends our FIN.
    ///
    /// # Errors
    /// When the connection is gone.
    fn shutdown_write(&self, socket: &Self::Socket) -> Result<(), Errno>;

    /// Closes a socket; its watch ends with it.
    fn close(&self, socket: Self::Socket);

    /// Closes a listener. What is still queued on it is reset.
    fn close_listener(&self, listener: Self::Listener);

    /// Wakes the other workers: a permit or a descriptor is free.
    fn wake_others(&self);

    /// Wakes every thread that waits here, now and from now on: it is over. For `threads=shared`.
    fn wake_for_good(&self);
}

/// What an event is about: the 64 bits that epoll carries for us, `kind 8 | the rest 56`. A
/// connection's token holds its whole id, so that an event for one that is gone is told from one for
/// its successor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Token {
    /// A connection.
    Connection(ConnId),
    /// The listener of this index.
    Listener(usize),
    /// The stop, or another worker, wants to be heard.
    Waker,
}

const KIND_SHIFT: u32 = 56;

impl Token {
    /// As epoll carries it.
    #[must_use]
    pub const fn to_bits(self) -> u64 {
        match self {
            Self::Connection(id) => id.to_bits(),
            Self::Listener(index) => (1 << KIND_SHIFT) | index as u64,
            Self::Waker => 2 << KIND_SHIFT,
        }
    }

    /// Back from [`to_bits`](Self::to_bits).
    #[must_use]
    pub const fn from_bits(bits: u64) -> Self {
        match bits >> KIND_SHIFT {
            0 => Self::Connection(ConnId::from_bits(bits)),
            1 => Self::Listener((bits & ((1 << KIND_SHIFT) - 1)) as usize),
            _ => Self::Waker,
        }
    }
}

/// One batch of events, laid out once.
#[derive(Debug)]
pub struct Events {
    buffer: Vec<EpollEvent>,
    length: usize,
}

impl Events {
    /// Room for `capacity` events.
    #[must_use]
    pub fn new(capacity: usize) -> Self {
        Self { buffer: vec![EpollEvent::empty(); capacity], length: 0 }
    }

    /// The most events a batch can hold.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.buffer.len()
    }

    /// How many there are.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.length
    }

    /// Whether there is none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// The event at `index`, and what is ready.
    #[must_use]
    pub fn at(&self, index: usize) -> (Token, EpollFlags) {
        let event = &self.buffer[..self.length][index];
        (Token::from_bits(event.data()), event.events())
    }

    /// Forgets them all.
    pub fn clear(&mut self) {
        self.length = 0;
    }

    /// Adds one; false when there is no room. For fakes: the kernel writes the buffer itself.
    pub fn push(&mut self, token: Token, ready: EpollFlags) -> bool {
        let room = self.length < self.buffer.len();
        if room {
            self.buffer[self.length] = EpollEvent::new(ready, token.to_bits());
            self.length += 1;
        }
        room
    }
}

/// The real kernel: one epoll instance.
#[derive(Debug)]
pub struct Kernel<'a> {
    epoll: Epoll,
    origin: Instant,
    wakes: Wakes<'a>,
}

/// Who is woken by this instance.
#[derive(Debug)]
enum Wakes<'a> {
    /// The other workers, which have instances of their own.
    Others(&'a Stop, usize),
    /// All who wait here, when it is over: level-triggered and never read, so that each who is woken
    /// leaves it for the next.
    All(EventFd),
}

impl<'a> Kernel<'a> {
    /// The instance of one worker.
    ///
    /// # Errors
    /// When descriptors or memory are out.
    pub fn of_worker(stop: &'a Stop, worker: usize) -> Result<Self, Errno> {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        let this = Self { epoll, origin: Instant::now(), wakes: Wakes::Others(stop, worker) };
        this.hear(stop.waker(worker))?;
        Ok(this)
    }

    /// An instance for many threads. Each of them has it [`hear`](Self::hear) its own waker.
    ///
    /// # Errors
    /// When descriptors or memory are out.
    pub fn of_all() -> Result<Self, Errno> {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        let end = EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?;
        epoll.add(&end, EpollEvent::new(EpollFlags::EPOLLIN, Token::Waker.to_bits()))?;
        Ok(Self { epoll, origin: Instant::now(), wakes: Wakes::All(end) })
    }

    /// Reports the wake-ups of `waker`: edge-triggered and never read, each write is an event.
    ///
    /// # Errors
    /// When the kernel has no memory.
    pub fn hear(&self, waker: BorrowedFd<'_>) -> Result<(), Errno> {
        let on = EpollFlags::EPOLLIN | EpollFlags::EPOLLET;
        self.epoll.add(waker, EpollEvent::new(on, Token::Waker.to_bits()))
    }

    /// The instance itself.
    pub(super) fn descriptor(&self) -> BorrowedFd<'_> {
        self.epoll.0.as_fd()
    }

    /// Rounded up: a timeout of 0.4 ms that became 0 would spin until its time has come.
    fn timeout(&self, until: Option<Duration>) -> EpollTimeout {
        let Some(until) = until else { return EpollTimeout::NONE };
        if until.is_zero() {
            return EpollTimeout::ZERO;
        }
        let milliseconds = until.saturating_sub(self.now()).as_nanos().div_ceil(1_000_000);
        i32::try_from(milliseconds).unwrap_or(i32::MAX).try_into().unwrap_or(EpollTimeout::MAX)
    }
}

/// Two libraries, one number.
fn errno(error: rustix::io::Errno) -> Errno {
    Errno::from_raw(error.raw_os_error())
}

impl Sockets for Kernel<'_> {
    type Socket = OwnedFd;
    type Listener = TcpListener;

    #[inline]
    fn now(&self) -> Duration {
        self.origin.elapsed()
    }

    #[inline]
    fn wait(&self, events: &mut Events, until: Option<Duration>) -> Result<(), Errno> {
        events.length = 0;
        events.length = self.epoll.wait(&mut events.buffer, self.timeout(until))?;
        Ok(())
    }

    fn watch_listener(&self, listener: &TcpListener, token: Token, on: EpollFlags) -> Result<(), Errno> {
        self.epoll.add(listener, EpollEvent::new(on, token.to_bits()))
    }

    fn accept(&self, listener: &TcpListener) -> Result<OwnedFd, Errno> {
        rustix::net::accept_with(listener, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK).map_err(errno)
    }

    fn watch(&self, socket: &OwnedFd, token: Token, on: EpollFlags) -> Result<(), Errno> {
        self.epoll.add(socket, EpollEvent::new(on, token.to_bits()))
    }

    #[inline]
    fn receive(&self, socket: &OwnedFd, into: &mut [u8]) -> Result<usize, Errno> {
        rustix::net::recv(socket, into, RecvFlags::DONTWAIT).map(|(bytes, _)| bytes).map_err(errno)
    }

    #[inline]
    fn send(&self, socket: &OwnedFd, bytes: &[u8]) -> Result<usize, Errno> {
        rustix::net::send(socket, bytes, SendFlags::DONTWAIT | SendFlags::NOSIGNAL).map_err(errno)
    }

    fn watch_again(&self, socket: &OwnedFd, token: Token, on: EpollFlags) -> Result<(), Errno> {
        self.epoll.modify(socket, &mut EpollEvent::new(on, token.to_bits()))
    }

    fn watch_listener_again(
        &self,
        listener: &TcpListener,
        token: Token,
        on: EpollFlags,
    ) -> Result<(), Errno> {
        self.epoll.modify(listener, &mut EpollEvent::new(on, token.to_bits()))
    }

    fn arrived(&self, socket: &OwnedFd) -> u32 {
        // It fails only for what is not a connected socket.
        let bytes = rustix::io::ioctl_fionread(socket).unwrap_or(0);
        u32::try_from(bytes).unwrap_or(u32::MAX)
    }

    fn shutdown_write(&self, socket: &OwnedFd) -> Result<(), Errno> {
        rustix::net::shutdown(socket, Shutdown::Write).map_err(errno)
    }

    fn close(&self, socket: OwnedFd) {
        drop(socket);
    }

    fn close_listener(&self, listener: TcpListener) {
        drop(listener);
    }

    fn wake_others(&self) {
        if let Wakes::Others(stop, worker) = self.wakes {
            stop.wake_others(worker);
        }
    }

    fn wake_for_good(&self) {
        if let Wakes::All(end) = &self.wakes {
            // It fails only at a count of 2^64 - 2.
            let _ = end.write(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_comes_back_as_it_went() {
        for token in [
            Token::Connection(ConnId { slot: (1 << 24) - 17, generation: u32::MAX }),
            Token::Connection(ConnId { slot: 0, generation: 0 }),
            Token::Listener(3),
            Token::Waker,
        ] {
            assert_eq!(Token::from_bits(token.to_bits()), token);
        }
    }

    #[test]
    fn timeouts_are_rounded_up() {
        let stop = Stop::new(1).unwrap();
        let kernel = Kernel::of_worker(&stop, 0).unwrap();
        assert_eq!(kernel.timeout(None), EpollTimeout::NONE);
        assert_eq!(kernel.timeout(Some(Duration::ZERO)), EpollTimeout::ZERO);
        let soon = kernel.timeout(Some(kernel.now() + Duration::from_micros(100)));
        assert!(matches!(i32::from(soon), 0 | 1));
        let later = i32::from(kernel.timeout(Some(kernel.now() + Duration::from_micros(99_900))));
        assert!((99..=100).contains(&later), "{later} ms");
    }
}
