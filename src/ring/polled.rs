//! io_uring used as epoll: the ring tells which socket is ready, by one watch of each, and plain system
//! calls receive and send. Behind the seam of the rings, so that the server's loop, its buffers and its
//! policy stay the same, and what differs is how bytes are moved: the rest of a gain is notification.
//!
//! Accepts, wake-ups and cancels go through the ring as ever. A receive is armed here, and answered for
//! as long as the socket has bytes; a send is done when it is pushed, and its completion lies here until
//! the next turn. Watches are edge-triggered: what was said is remembered for each socket.
//!
//! Needs a kernel that does both ([`Calls`]): a real one, or a fake one for tests.
//!
//! Left out: sockets that are slots of the ring's table, which no system call knows, and buffers that the
//! kernel picks.

use super::calls::{self, Calls};
use super::readiness::pool::Pool;
use super::{Completion, Entered, Listening, Memory, Name, Operation, Ring, Socket, Span, Token};
use crate::features::Uring;
use nix::errno::Errno;
use std::collections::{HashMap, VecDeque};
use std::time::Duration;

/// Receives from one socket in one turn, so that one that always has more does not keep out the others.
const RECEIVES_MAX: u32 = 8;
/// The token of a watch, beside the descriptor. No caller has such a one.
const WATCH: u64 = 0x80 << 56;
/// The token of the cancel of a watch.
const UNWATCH: u64 = 0x81 << 56;
const KIND: u64 = 0xff << 56;
/// What leaves something to receive: bytes, the end, an error, or an urgent mark.
const READABLE: i32 = libc::POLLIN as i32 | BEHIND;
/// What lies behind the bytes, and is not reported again. A receive ends early before an urgent mark, though
/// more may lie behind it.
const BEHIND: i32 = (libc::POLLRDHUP | libc::POLLHUP | libc::POLLERR | libc::POLLPRI) as i32;
const WRITABLE: i32 = (libc::POLLOUT | libc::POLLHUP | libc::POLLERR) as i32;

/// One worker's ring and its sockets.
pub struct PolledRing<R> {
    ring: R,
    pool: Pool,
    /// The most bytes of one receive.
    receive_most: usize,
    /// By descriptor.
    sockets: Vec<Option<Watched>>,
    completions: VecDeque<Completion>,
    /// Descriptors with an armed receive that may have bytes, first come first served.
    ready: VecDeque<u32>,
    /// The sockets of operations that wait here, for those who cancel them.
    waiting: HashMap<Token, u32>,
    /// Everybody who was ready has been served in this turn.
    served: bool,
    /// The last enter was left out, because there was something to tell.
    left_out: bool,
    pushed: u64,
    calls: u64,
}

/// A socket, what waits on it, and what its watch last said.
#[derive(Default)]
struct Watched {
    /// The ring watches it.
    armed: bool,
    receiving: Option<Receiving>,
    awaiting_room: Option<Token>,
    /// It is closed as soon as its watch has ended.
    closing: Option<Token>,
    /// There may be bytes, an end or an error to receive.
    readable: bool,
    /// There is, or may be, something behind the bytes that a short receive brings: an end, an error, or
    /// more bytes behind an urgent mark. True until a receive would block.
    behind: bool,
    /// A send has found it full since the watch last said that there is room.
    full: bool,
    /// It is in `ready`.
    queued: bool,
}

#[derive(Clone, Copy)]
struct Receiving {
    token: Token,
    left: u32,
}

impl<R: Calls> PolledRing<R> {
    /// Sockets of `ring`, which picks no buffers, up to so many at once, with `memory` to receive into.
    #[must_use]
    pub fn new(ring: R, memory: Memory, features: &Uring, connections: u32) -> Self {
        let expected = connections as usize;
        Self {
            pool: Pool::new(memory, features.buffer_count as u16, features.buffer_size),
            receive_most: features.receive_cap.unwrap_or(features.buffer_size) as usize,
            ring,
            sockets: Vec::with_capacity(expected),
            // A send and what one turn receives of each; more than that is rare.
            completions: VecDeque::with_capacity(2 * expected),
            ready: VecDeque::with_capacity(2 * expected),
            // A receive and a watch for room of each, and space so that it is never moved.
            waiting: HashMap::with_capacity(4 * expected),
            served: false,
            left_out: false,
            pushed: 0,
            calls: 0,
        }
    }

    fn post(&mut self, token: Token, result: Result<u32, Errno>) {
        let result = result.map_or_else(|errno| -(errno as i32), |result| result as i32);
        self.completions.push_back(Completion::bare(token, result, false));
    }

    /// What is known of a socket; from the first time on it is watched.
    fn watched(&mut self, socket: Socket) -> (u32, &mut Watched) {
        let descriptor = descriptor(socket);
        let index = descriptor as usize;
        if index >= self.sockets.len() {
            self.sockets.resize_with(index + 1, || None);
        }
        if self.sockets[index].is_none() {
            self.sockets[index] = Some(Watched::default());
            self.watch(descriptor);
        }
        (descriptor, self.sockets[index].as_mut().expect("made above"))
    }

    fn watch(&mut self, descriptor: u32) {
        let token = Token(WATCH | u64::from(descriptor));
        self.ring.push(Operation::Watch { socket: named(descriptor) }, token);
        self.at(descriptor).armed = true;
    }

    fn at(&mut self, descriptor: u32) -> &mut Watched {
        self.sockets[descriptor as usize].as_mut().expect("what is closed is not watched")
    }

    fn send(&mut self, socket: Socket, span: Span, token: Token) {
        self.calls += 1;
        let sent = self.ring.send(socket, self.pool.lent(span));
        if matches!(sent, Err(Errno::EAGAIN)) || sent.is_ok_and(|bytes| bytes < span.length as usize) {
            self.watched(socket).1.full = true;
        }
        self.post(token, sent.map(|bytes| bytes as u32));
    }

    fn await_room(&mut self, socket: Socket, token: Token) {
        let (descriptor, watched) = self.watched(socket);
        watched.awaiting_room = Some(token);
        let news = !watched.full;
        self.waiting.insert(token, descriptor);
        if news {
            self.tell_of_room(token);
        }
    }

    fn tell_of_room(&mut self, token: Token) {
        self.completions.push_back(Completion::bare(token, 1, true));
    }

    fn receive(&mut self, socket: Socket, limit: u32, token: Token) {
        let (descriptor, watched) = self.watched(socket);
        assert!(watched.receiving.is_none(), "two receives of one socket");
        watched.receiving = Some(Receiving { token, left: limit });
        self.waiting.insert(token, descriptor);
        self.serve_later(descriptor);
    }

    fn receive_now(&mut self, socket: Socket, limit: u32, token: Token) {
        let most = (limit as usize).min(self.receive_most);
        match self.pool.receive_by(most, |room| self.ring.receive(socket, room)) {
            Ok(Some(received)) => self.completions.push_back(received.completion(token, false)),
            Ok(None) => self.post(token, Ok(0)),
            Err(errno) => self.post(token, Err(errno)),
        }
    }

    fn serve_later(&mut self, descriptor: u32) {
        let watched = self.at(descriptor);
        if watched.readable && watched.receiving.is_some() && !watched.queued {
            watched.queued = true;
            self.ready.push_back(descriptor);
        }
    }

    /// Ends what waits here; false where it waits in the ring.
    fn cancel(&mut self, target: Token, token: Token) -> bool {
        let Some(descriptor) = self.waiting.remove(&target) else { return false };
        let watched = self.at(descriptor);
        watched.receiving.take_if(|waiting| waiting.token == target);
        watched.awaiting_room.take_if(|waiting| *waiting == target);
        self.post(target, Err(Errno::ECANCELED));
        self.post(token, Ok(0));
        true
    }

    /// The watch holds the socket open: it ends first.
    fn close(&mut self, socket: Socket, token: Token) {
        let descriptor = descriptor(socket);
        let watched = self.sockets.get_mut(descriptor as usize).and_then(Option::as_mut);
        let Some(watched) = watched else { return self.close_now(descriptor, token) };
        assert!(watched.receiving.is_none(), "a socket was closed that somebody receives from");
        if !watched.armed {
            return self.close_now(descriptor, token);
        }
        watched.closing = Some(token);
        let target = Token(WATCH | u64::from(descriptor));
        self.ring.push(Operation::Cancel { target }, Token(UNWATCH));
    }

    fn close_now(&mut self, descriptor: u32, token: Token) {
        self.calls += 1;
        if let Some(place) = self.sockets.get_mut(descriptor as usize) {
            // It may still stand in `ready`, and then say nothing.
            *place = None;
        }
        let closed = self.ring.close(named(descriptor));
        self.post(token, closed.map(|()| 0));
    }

    fn on_event(&mut self, done: Completion) {
        let descriptor = done.token.0 as u32;
        let watched = self.at(descriptor);
        watched.armed = done.more;
        if !done.more {
            if let Some(token) = watched.closing {
                return self.close_now(descriptor, token);
            }
            // What happened between the end of the watch and the next one is not reported by either.
            self.watch(descriptor);
        }
        // A watch that failed or ended says nothing of what is ready: everything may be.
        let mask = if done.more && done.result > 0 { done.result } else { READABLE | WRITABLE };
        let watched = self.at(descriptor);
        watched.readable |= mask & READABLE != 0;
        watched.behind |= mask & BEHIND != 0;
        if mask & WRITABLE != 0
            && std::mem::take(&mut watched.full)
            && let Some(token) = watched.awaiting_room
        {
            self.tell_of_room(token);
        }
        self.serve_later(descriptor);
    }

    /// Receives from everybody who may have bytes, from each so much and no more.
    fn serve(&mut self) {
        for _ in 0..self.ready.len() {
            let Some(descriptor) = self.ready.pop_front() else { return };
            let more = (0..RECEIVES_MAX).all(|_| self.on_readable(descriptor));
            if let Some(watched) = self.sockets[descriptor as usize].as_mut() {
                watched.queued = false;
                if more {
                    self.serve_later(descriptor);
                }
            }
        }
    }

    /// One receive. False when there is nothing more to do for this socket now.
    fn on_readable(&mut self, descriptor: u32) -> bool {
        let Some(watched) = self.sockets[descriptor as usize].as_mut() else { return false };
        let Some(receiving) = watched.receiving.as_mut().filter(|_| watched.readable) else { return false };
        let token = receiving.token;
        let most = self.receive_most.min(receiving.left as usize);
        let socket = named(descriptor);
        let received = match self.pool.receive_by(most, |room| self.ring.receive(socket, room)) {
            Ok(Some(received)) => received,
            Ok(None) => return self.end_receive(descriptor, Ok(0)),
            Err(Errno::EAGAIN) => {
                (watched.readable, watched.behind) = (false, false);
                return false;
            }
            Err(Errno::EINTR) => return true,
            Err(errno) => return self.end_receive(descriptor, Err(errno)),
        };
        receiving.left -= received.bytes;
        // A short receive has emptied the socket, unless something stood behind; what comes later is news.
        watched.readable = received.whole || watched.behind;
        let more = receiving.left > 0;
        if !more {
            watched.receiving = None;
            self.waiting.remove(&token);
        }
        self.completions.push_back(received.completion(token, more));
        more
    }

    fn end_receive(&mut self, descriptor: u32, result: Result<u32, Errno>) -> bool {
        let receiving = self.at(descriptor).receiving.take().expect("the caller looked it up");
        self.waiting.remove(&receiving.token);
        self.post(receiving.token, result);
        false
    }
}

fn descriptor(socket: Socket) -> u32 {
    calls::descriptor(socket) as u32
}

const fn named(descriptor: u32) -> Socket {
    Socket(Name::Descriptor(descriptor as i32))
}

impl<R: Calls> Ring for PolledRing<R> {
    fn push(&mut self, operation: Operation, token: Token) {
        assert!(token.0 & WATCH == 0, "a token that is a watch's");
        self.pushed += 1;
        match operation {
            Operation::Send { socket, span } => self.send(socket, span, token),
            Operation::Receive { socket, limit } => self.receive(socket, limit, token),
            Operation::ReceiveNow { socket, limit } => self.receive_now(socket, limit, token),
            Operation::AwaitRoom { socket } => self.await_room(socket, token),
            Operation::Close { socket } => self.close(socket, token),
            Operation::Cancel { target } if self.cancel(target, token) => {}
            Operation::Shutdown { socket } => {
                self.calls += 1;
                let done = self.ring.shut_down(socket);
                self.post(token, done.map(|()| 0));
            }
            in_the_ring => self.ring.push(in_the_ring, token),
        }
    }

    fn enter(&mut self, wait_for: u32, until: Option<Duration>) -> Entered {
        self.served = false;
        let told = !self.completions.is_empty();
        // What is known already costs no enter; the next time the ring is asked again, whatever is known.
        if told && self.ready.is_empty() && !self.left_out && !self.ring.has_queued() {
            self.left_out = true;
            return Entered::Done;
        }
        self.left_out = false;
        let busy = told || !self.ready.is_empty();
        self.ring.enter(if busy { 0 } else { wait_for }, until)
    }

    #[inline]
    fn next_completion(&mut self) -> Option<Completion> {
        loop {
            if let Some(done) = self.completions.pop_front() {
                return Some(done);
            }
            match self.ring.next_completion() {
                Some(done) if done.token.0 & KIND == WATCH => self.on_event(done),
                Some(done) if done.token.0 & KIND == UNWATCH => {}
                Some(done) => return Some(done),
                None if self.served => return None,
                None => {
                    self.served = true;
                    self.serve();
                }
            }
        }
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
        self.ring.now()
    }

    fn obeys_limit(&self) -> bool {
        true
    }

    fn pushed(&self) -> u64 {
        self.pushed
    }

    fn overflows(&self) -> u64 {
        self.ring.overflows()
    }

    /// System calls of every kind.
    fn enters(&self) -> u64 {
        self.ring.enters() + self.calls + self.pool.calls()
    }
}

impl<R: Calls> Listening for PolledRing<R> {
    fn accepted(&self, result: u32) -> Socket {
        self.ring.accepted(result)
    }

    fn accept_queued(&mut self, listener: usize) -> Result<Socket, Errno> {
        self.ring.accept_queued(listener)
    }

    fn close_listener(&mut self, listener: usize) {
        self.ring.close_listener(listener);
    }

    fn arrived(&mut self, socket: Socket) -> Option<u32> {
        self.ring.arrived(socket)
    }

    fn wake_others(&mut self) {
        self.ring.wake_others();
    }
}
