//! A client's kernel by readiness: epoll behind the seam of the rings, so that the load generator has one
//! engine. Operations are done in the enter that takes them, or as soon as there are many, or wait here for
//! epoll's word.
//!
//! Every socket is watched once, edge-triggered, and never again: what was said is remembered per socket.
//! A send that is taken whole has no completion, as on a ring that skips them: one wait and one receive
//! and one send a message are all the system calls there are.
//!
//! Needs Linux 4.5; from 5.11 on (epoll_pwait2) waits are exact, before they are rounded up to
//! milliseconds. Left out: direct descriptors, and everything a server does.

pub(in crate::ring) mod pool;

use super::dialing::{Setup, system_calls, unconnected};
use super::{Completion, Dialing, Entered, Memory, Name, Operation, Ring, Socket, Span, Token};
use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use pool::Pool;
use rustix::net::{SendFlags, Shutdown};
use socket2::{SockAddr, Type};
use std::collections::VecDeque;
use std::io;
use std::net::IpAddr;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::time::{Duration, Instant};

/// Receives from one socket in one turn, so that one that always has more does not keep out the others.
const RECEIVES_MAX: u32 = 8;
/// Events of one wait at most.
const EVENTS: usize = 512;
/// Operations that are kept until they are done together.
const QUEUE: usize = 512;
/// What epoll says of the waker; a socket says its index.
const WAKER: u64 = u64::MAX;

/// One thread's epoll instance and its sockets.
pub struct Readiness<'a> {
    epoll: Epoll,
    /// Kept so that it is open while it is watched.
    _waker: BorrowedFd<'a>,
    targets: Box<[SockAddr]>,
    origin: Instant,
    pool: Pool,
    /// By the index that a socket is named by: descriptors would be those of all threads.
    sockets: Vec<Option<Watched>>,
    free: Vec<u32>,
    /// Pushed, and not taken yet.
    queue: Vec<(Pushed, Token)>,
    completions: VecDeque<Completion>,
    /// Sockets with an armed receive that may have bytes, first come first served.
    ready: VecDeque<u32>,
    events: Vec<EpollEvent>,
    wakeups: Option<Token>,
    /// A wake-up came that nobody has been told of.
    woken: bool,
    /// Whether the kernel has epoll_pwait2.
    exact: bool,
    pushed: u64,
    taken: u64,
    answered: u64,
    calls: u64,
}

/// Something that was asked for.
#[derive(Clone, Copy)]
enum Pushed {
    Operation(Operation),
    /// The end of an operation of this socket.
    Cancel(Socket, Token),
}

/// A socket, what waits on it, and what epoll last said of it. Kept small: there is one for each connection.
struct Watched {
    socket: socket2::Socket,
    /// Bytes that may still be received before the receive ends.
    left: u32,
    /// The token of the connect or, after it, of the receive that waits.
    token: Token,
    waits: Waits,
    /// True while somebody is told of room, and whom.
    awaiting_room: bool,
    room: Token,
    /// There may be bytes, an end or an error to receive.
    readable: bool,
    /// There is an end or an error behind the bytes: a short receive does not mean that nothing is left.
    over: bool,
    /// No send has found it full since epoll said that there is room.
    writable: bool,
    /// It is in `ready`.
    queued: bool,
}

/// What a socket's token stands for. A connection is not received from before it stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Waits {
    Nothing,
    Connect,
    Receive,
}

impl Watched {
    fn new(socket: socket2::Socket) -> Self {
        Self {
            socket,
            left: 0,
            token: Token(0),
            waits: Waits::Nothing,
            awaiting_room: false,
            room: Token(0),
            readable: false,
            over: false,
            writable: false,
            queued: false,
        }
    }

    fn wait(&mut self, what: Waits, token: Token) {
        assert!(self.waits == Waits::Nothing, "a socket is to wait for two things");
        (self.waits, self.token) = (what, token);
    }

    /// Nobody waits for this any more; who did.
    fn take(&mut self, what: Waits) -> Option<Token> {
        (self.waits == what).then(|| {
            self.waits = Waits::Nothing;
            self.token
        })
    }

    /// Whether the operation waited, and does no more.
    fn forget(&mut self, target: Token) -> bool {
        if self.waits != Waits::Nothing && self.token == target {
            self.waits = Waits::Nothing;
            return true;
        }
        self.room == target && std::mem::take(&mut self.awaiting_room)
    }
}

impl<'a> Readiness<'a> {
    /// An instance over `memory`, which must outlive it. `waker` is an eventfd whose writes are reported;
    /// it is never read.
    ///
    /// # Errors
    /// A sentence with the remedy, when descriptors or memory are out.
    pub fn new(setup: &Setup<'_>, memory: Memory, waker: BorrowedFd<'a>) -> Result<Self, String> {
        assert!(!setup.direct, "epoll watches descriptors");
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).and_then(|epoll| {
            let on = EpollFlags::EPOLLIN | EpollFlags::EPOLLET;
            epoll.add(waker, EpollEvent::new(on, WAKER)).map(|()| epoll)
        });
        let epoll = epoll.map_err(|errno| {
            format!(
                "the kernel refuses an epoll instance: {errno}; raise `ulimit -n`, or use fewer threads (-t)"
            )
        })?;
        Ok(Self {
            epoll,
            _waker: waker,
            targets: setup.targets.iter().map(|&target| SockAddr::from(target)).collect(),
            origin: setup.origin,
            pool: Pool::new(memory, setup.buffer_count, setup.buffer_size),
            sockets: Vec::with_capacity(setup.connections as usize),
            free: Vec::with_capacity(setup.connections as usize),
            queue: Vec::with_capacity(QUEUE),
            completions: VecDeque::new(),
            ready: VecDeque::new(),
            events: vec![EpollEvent::empty(); EVENTS],
            wakeups: None,
            woken: false,
            exact: true,
            pushed: 0,
            taken: 0,
            answered: 0,
            calls: 0,
        })
    }

    /// What it works with, by the names it has in the server. A readable socket is read to its end, but for
    /// others that wait.
    #[must_use]
    pub fn in_force(&self) -> Vec<(&'static str, String)> {
        let (count, size) = self.pool.sizes();
        vec![
            ("trigger", "edge".into()),
            ("read", "drain".into()),
            ("buffer-count", count.to_string()),
            ("buffer-size", size.to_string()),
        ]
    }

    fn post(&mut self, token: Token, result: Result<u32, Errno>) {
        let result = result.map_or_else(|errno| -(errno as i32), |result| result as i32);
        self.completions.push_back(Completion::bare(token, result, false));
    }

    fn post_more(&mut self, token: Token) {
        self.completions.push_back(Completion::bare(token, 1, true));
    }

    fn watched(&mut self, socket: Socket) -> (u32, &mut Watched) {
        let Name::Slot(index) = socket.0 else { unreachable!("it gave out no descriptor") };
        let watched = self.sockets.get_mut(index as usize).and_then(Option::as_mut);
        (index, watched.expect("the caller closes a socket last"))
    }

    #[inline]
    fn enqueue(&mut self, pushed: Pushed, token: Token) {
        if self.queue.len() == QUEUE {
            self.submit();
        }
        self.queue.push((pushed, token));
        self.pushed += 1;
    }

    /// Does everything that was pushed, as far as it can be done now.
    fn submit(&mut self) {
        let mut queue = std::mem::take(&mut self.queue);
        for (pushed, token) in queue.drain(..) {
            self.taken += 1;
            match pushed {
                Pushed::Operation(operation) => self.start(operation, token),
                Pushed::Cancel(socket, target) => self.cancel_of(socket, target, token),
            }
        }
        // Its room is used again.
        self.queue = queue;
    }

    fn start(&mut self, operation: Operation, token: Token) {
        match operation {
            Operation::Send { socket, span } => self.send(socket, span, token),
            Operation::Receive { socket, limit } => self.receive(socket, limit, token),
            Operation::Connect { socket, target } => self.connect(socket, target, token),
            Operation::Close { socket } => self.close(socket, token),
            Operation::AwaitRoom { socket } => self.await_room(socket, token),
            Operation::Cancel { target } => self.cancel_wakeups(target, token),
            Operation::Shutdown { socket } => {
                self.calls += 1;
                let done = rustix::net::shutdown(&self.watched(socket).1.socket, Shutdown::Write);
                self.post(token, done.map(|()| 0).map_err(errno));
            }
            Operation::Wakeups => {
                self.wakeups = Some(token);
                if std::mem::take(&mut self.woken) {
                    self.post_more(token);
                }
            }
            other => unreachable!("a client asks for no {other:?}"),
        }
    }

    fn connect(&mut self, socket: Socket, target: usize, token: Token) {
        self.calls += 1;
        let address = self.targets[target].clone();
        let (index, watched) = self.watched(socket);
        let connected = match watched.socket.connect(&address) {
            Err(error) if error.raw_os_error() == Some(libc::EINPROGRESS) => Ok(false),
            Err(error) => Err(errno_of(&error)),
            Ok(()) => Ok(true),
        };
        // Watched from here on: before, it would be reported as closed.
        let outcome = connected.and_then(|connected| self.watch(index).map(|()| connected));
        match outcome {
            Ok(true) => self.post(token, Ok(0)),
            Ok(false) => {
                self.watched(socket).1.wait(Waits::Connect, token);
            }
            Err(errno) => self.post(token, Err(errno)),
        }
    }

    fn watch(&mut self, index: u32) -> Result<(), Errno> {
        self.calls += 1;
        let on = EpollFlags::EPOLLIN | EpollFlags::EPOLLOUT | EpollFlags::EPOLLRDHUP | EpollFlags::EPOLLET;
        let watched = self.sockets[index as usize].as_ref().expect("the caller looked it up");
        self.epoll.add(&watched.socket, EpollEvent::new(on, u64::from(index)))
    }

    fn send(&mut self, socket: Socket, span: Span, token: Token) {
        self.calls += 1;
        // Not by `watched`: the pool is borrowed beside it.
        let Name::Slot(index) = socket.0 else { unreachable!("it gave out no descriptor") };
        let watched = self.sockets[index as usize].as_mut().expect("the caller closes a socket last");
        let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
        let sent = rustix::net::send(&watched.socket, self.pool.lent(span), flags).map_err(errno);
        match sent {
            Ok(bytes) if bytes == span.length as usize => return,
            Ok(_) | Err(Errno::EAGAIN) => watched.writable = false,
            Err(_) => {}
        }
        self.post(token, sent.map(|bytes| bytes as u32));
    }

    fn await_room(&mut self, socket: Socket, token: Token) {
        let watched = self.watched(socket).1;
        (watched.awaiting_room, watched.room) = (true, token);
        if watched.writable {
            self.post_more(token);
        }
    }

    fn receive(&mut self, socket: Socket, limit: u32, token: Token) {
        let (index, watched) = self.watched(socket);
        watched.wait(Waits::Receive, token);
        watched.left = limit;
        self.serve_later(index);
    }

    fn serve_later(&mut self, index: u32) {
        let watched = self.sockets[index as usize].as_mut().expect("the caller looked it up");
        if watched.readable && watched.waits == Waits::Receive && !watched.queued {
            watched.queued = true;
            self.ready.push_back(index);
        }
    }

    fn cancel_of(&mut self, socket: Socket, target: Token, token: Token) {
        let found = self.watched(socket).1.forget(target);
        self.cancelled(found, target, token);
    }

    /// The one operation that is no socket's.
    fn cancel_wakeups(&mut self, target: Token, token: Token) {
        let found = self.wakeups.take_if(|waiting| *waiting == target).is_some();
        self.cancelled(found, target, token);
    }

    fn cancelled(&mut self, found: bool, target: Token, token: Token) {
        if found {
            self.post(target, Err(Errno::ECANCELED));
        }
        self.post(token, if found { Ok(0) } else { Err(Errno::ENOENT) });
    }

    fn close(&mut self, socket: Socket, token: Token) {
        self.calls += 1;
        let (index, watched) = self.watched(socket);
        let waits = watched.waits != Waits::Nothing || watched.awaiting_room;
        assert!(!waits, "a socket was closed that somebody waits for");
        // Dropped, and with it its place in epoll. It may still stand in `ready`, and then say nothing.
        self.sockets[index as usize] = None;
        self.post(token, Ok(0));
    }

    fn on_event(&mut self, event: EpollEvent) {
        if event.data() == WAKER {
            match self.wakeups {
                Some(token) => self.post_more(token),
                None => self.woken = true,
            }
            return;
        }
        let index = event.data() as u32;
        let (flags, ended) =
            (event.events(), EpollFlags::EPOLLRDHUP | EpollFlags::EPOLLHUP | EpollFlags::EPOLLERR);
        if flags.intersects(EpollFlags::EPOLLOUT | EpollFlags::EPOLLHUP | EpollFlags::EPOLLERR) {
            self.on_connectable(index);
            self.on_writable(index);
        }
        let watched = self.sockets[index as usize].as_mut().expect("what is closed is not watched");
        watched.readable |= flags.intersects(EpollFlags::EPOLLIN | ended);
        watched.over |= flags.intersects(ended);
        self.serve_later(index);
    }

    /// The connection stands, or does not come about.
    fn on_connectable(&mut self, index: u32) {
        let watched = self.sockets[index as usize].as_mut().expect("what is closed is not watched");
        let Some(token) = watched.take(Waits::Connect) else { return };
        self.calls += 1;
        let outcome = match watched.socket.take_error() {
            Ok(None) => Ok(0),
            Ok(Some(error)) | Err(error) => Err(errno_of(&error)),
        };
        self.post(token, outcome);
    }

    fn on_writable(&mut self, index: u32) {
        let watched = self.sockets[index as usize].as_mut().expect("what is closed is not watched");
        if !std::mem::replace(&mut watched.writable, true) && watched.awaiting_room {
            let token = watched.room;
            self.post_more(token);
        }
    }

    /// Receives from everybody who may have bytes, from each so much and no more.
    fn serve(&mut self) {
        for _ in 0..self.ready.len() {
            let Some(index) = self.ready.pop_front() else { return };
            let more = (0..RECEIVES_MAX).all(|_| self.on_readable(index));
            if let Some(watched) = self.sockets[index as usize].as_mut() {
                watched.queued = false;
            }
            if more {
                self.serve_later(index);
            }
        }
    }

    /// One receive. False when there is nothing more to do for this socket now.
    fn on_readable(&mut self, index: u32) -> bool {
        let Some(watched) = self.sockets[index as usize].as_mut() else { return false };
        if watched.waits != Waits::Receive || !watched.readable {
            return false;
        }
        let token = watched.token;
        let received = match self.pool.receive(&watched.socket, watched.left as usize) {
            Ok(Some(received)) => received,
            Ok(None) => return self.end_receive(index, Ok(0)),
            Err(Errno::EAGAIN) => {
                watched.readable = false;
                return false;
            }
            Err(Errno::EINTR) => return true,
            Err(errno) => return self.end_receive(index, Err(errno)),
        };
        watched.left -= received.bytes;
        // A short receive has emptied the socket; what comes later is news.
        watched.readable = received.whole || watched.over;
        let more = watched.left > 0;
        if !more {
            watched.waits = Waits::Nothing;
        }
        self.completions.push_back(received.completion(token, more));
        more
    }

    fn end_receive(&mut self, index: u32, result: Result<u32, Errno>) -> bool {
        let watched = self.sockets[index as usize].as_mut().expect("the caller looked it up");
        let token = watched.take(Waits::Receive).expect("the caller looked it up");
        self.post(token, result);
        false
    }

    /// Waits, and says how many events came.
    fn wait(&mut self, until: Option<Duration>) -> Result<usize, Errno> {
        self.calls += 1;
        let left = until.map(|until| until.saturating_sub(self.origin.elapsed()));
        match left {
            None => self.epoll.wait(&mut self.events, EpollTimeout::NONE),
            Some(Duration::ZERO) => self.epoll.wait(&mut self.events, EpollTimeout::ZERO),
            Some(left) if self.exact => match self.wait_exactly(left) {
                // Not there, or forbidden by a filter that does not know it.
                Err(Errno::ENOSYS | Errno::EPERM) => {
                    self.exact = false;
                    self.wait(until)
                }
                done => done,
            },
            // Rounded up: a timeout of 0.4 ms that became 0 would spin until its time has come.
            Some(left) => {
                let milliseconds = i32::try_from(left.as_nanos().div_ceil(1_000_000)).unwrap_or(i32::MAX);
                let timeout = EpollTimeout::try_from(milliseconds).unwrap_or(EpollTimeout::MAX);
                self.epoll.wait(&mut self.events, timeout)
            }
        }
    }

    fn wait_exactly(&mut self, left: Duration) -> Result<usize, Errno> {
        let time = libc::timespec {
            tv_sec: left.as_secs().try_into().unwrap_or(libc::time_t::MAX),
            tv_nsec: left.subsec_nanos().into(),
        };
        let (epoll, events) = (self.epoll.0.as_raw_fd(), self.events.as_mut_ptr());
        let no_mask = std::ptr::null::<libc::sigset_t>();
        // SAFETY: `events` has room for EVENTS of the kernel's own type, and `time` outlives the call.
        let result = unsafe {
            libc::syscall(libc::SYS_epoll_pwait2, epoll, events, EVENTS, &raw const time, no_mask, 0)
        };
        Errno::result(result).map(|count| count as usize)
    }
}

pub(super) fn errno(error: rustix::io::Errno) -> Errno {
    Errno::from_raw(error.raw_os_error())
}

fn errno_of(error: &io::Error) -> Errno {
    Errno::from_raw(error.raw_os_error().unwrap_or(libc::EIO))
}

impl Ring for Readiness<'_> {
    #[inline]
    fn push(&mut self, operation: Operation, token: Token) {
        self.enqueue(Pushed::Operation(operation), token);
    }

    fn enter(&mut self, wait_for: u32, until: Option<Duration>) -> Entered {
        self.submit();
        loop {
            // Everybody is looked at in every turn, also when somebody has more to say.
            let enough = self.completions.len() >= wait_for as usize || !self.ready.is_empty();
            let count = match self.wait(if enough { Some(Duration::ZERO) } else { until }) {
                Ok(count) => count,
                Err(Errno::EINTR) => return Entered::Interrupted,
                Err(error) => return Entered::Failed(error),
            };
            for index in 0..count {
                self.on_event(self.events[index]);
            }
            self.serve();
            let timed_out = count == 0 && until.is_some_and(|until| self.origin.elapsed() >= until);
            if enough || timed_out || self.completions.len() >= wait_for as usize {
                return Entered::Done;
            }
        }
    }

    #[inline]
    fn next_completion(&mut self) -> Option<Completion> {
        let next = self.completions.pop_front();
        if next.is_none() {
            self.answered = self.taken;
        }
        next
    }

    #[inline]
    fn provide(&mut self, buffer: u16) {
        self.pool.provide(buffer);
    }

    #[inline]
    fn publish(&mut self) {
        self.pool.publish();
    }

    fn now(&mut self) -> Duration {
        self.origin.elapsed()
    }

    fn obeys_limit(&self) -> bool {
        true
    }

    fn skips_sent(&self) -> bool {
        true
    }

    #[inline]
    fn pushed(&self) -> u64 {
        self.pushed
    }

    #[inline]
    fn answered(&mut self) -> u64 {
        self.answered
    }

    fn overflows(&self) -> u64 {
        0
    }

    /// System calls of every kind.
    fn enters(&self) -> u64 {
        self.calls + self.pool.calls()
    }
}

impl Dialing for Readiness<'_> {
    fn open(&mut self, target: usize, source: Option<IpAddr>) -> io::Result<Socket> {
        self.calls += system_calls(source);
        let socket = unconnected(&self.targets[target], source, Type::STREAM.nonblocking())?;
        let index = self.free.pop().unwrap_or_else(|| {
            self.sockets.push(None);
            self.sockets.len() as u32 - 1
        });
        self.sockets[index as usize] = Some(Watched::new(socket));
        Ok(Socket(Name::Slot(index)))
    }

    fn cancel(&mut self, socket: Socket, target: Token, token: Token) {
        self.enqueue(Pushed::Cancel(socket, target), token);
    }

    fn closed(&mut self, socket: Socket) {
        let Name::Slot(index) = socket.0 else { unreachable!("it gave out no descriptor") };
        self.free.push(index);
    }
}

#[cfg(test)]
mod tests;
