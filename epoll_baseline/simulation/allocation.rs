//! That a healthy message allocates nothing, in either way to use threads: a million messages over
//! the smallest possible kernel, which allocates nothing itself, under a counting allocator.

use super::super::COUNTERS;
use super::super::event_loop::EventLoop;
use super::super::setting::Setting;
use super::super::shared::{State, Thread};
use super::super::sockets::{EpollFlags, Events, Sockets, Token};
use crate::conn::{Admission, Limits};
use crate::counters::Counters;
use crate::features::{Read, Trigger};
use crate::stop::Stop;
use crate::worker;
use nix::errno::Errno;
use std::cell::{Cell, RefCell};
use std::time::Duration;

const CONNECTIONS: usize = 64;
const MESSAGES: u64 = 1_000_000;

/// All connections have a message of 64 bytes at every wait, and take what they get.
struct Tiny {
    tokens: RefCell<Vec<Option<Token>>>,
    unread: RefCell<Vec<bool>>,
    accepted: Cell<usize>,
    echoed: Cell<u64>,
}

impl Sockets for Tiny {
    type Socket = usize;
    type Listener = ();

    fn now(&self) -> Duration {
        Duration::from_micros(self.echoed.get())
    }

    fn wait(&self, events: &mut Events, _until: Option<Duration>) -> Result<(), Errno> {
        events.clear();
        for (token, unread) in self.tokens.borrow().iter().zip(self.unread.borrow_mut().iter_mut()) {
            if let Some(token) = token
                && events.push(*token, EpollFlags::EPOLLIN)
            {
                *unread = true;
            }
        }
        // Whoever did not fit comes first at the next wait.
        self.tokens.borrow_mut().rotate_left(events.len() % CONNECTIONS);
        self.unread.borrow_mut().fill(true);
        if self.accepted.get() < CONNECTIONS {
            events.push(Token::Listener(0), EpollFlags::EPOLLIN);
        }
        Ok(())
    }

    fn watch_listener(&self, (): &(), _token: Token, _on: EpollFlags) -> Result<(), Errno> {
        Ok(())
    }

    fn accept(&self, (): &()) -> Result<usize, Errno> {
        let next = self.accepted.get();
        if next == CONNECTIONS {
            return Err(Errno::EAGAIN);
        }
        self.accepted.set(next + 1);
        Ok(next)
    }

    fn watch(&self, socket: &usize, token: Token, _on: EpollFlags) -> Result<(), Errno> {
        self.tokens.borrow_mut()[*socket] = Some(token);
        Ok(())
    }

    fn receive(&self, socket: &usize, into: &mut [u8]) -> Result<usize, Errno> {
        if !std::mem::take(&mut self.unread.borrow_mut()[*socket]) {
            return Err(Errno::EAGAIN);
        }
        into[..64].fill(7);
        Ok(64)
    }

    fn send(&self, _socket: &usize, bytes: &[u8]) -> Result<usize, Errno> {
        self.echoed.set(self.echoed.get() + 1);
        Ok(bytes.len())
    }

    fn watch_again(&self, _socket: &usize, _token: Token, _on: EpollFlags) -> Result<(), Errno> {
        Ok(())
    }

    fn watch_listener_again(&self, (): &(), _token: Token, _on: EpollFlags) -> Result<(), Errno> {
        Ok(())
    }

    fn arrived(&self, _socket: &usize) -> u32 {
        0
    }

    fn shutdown_write(&self, _socket: &usize) -> Result<(), Errno> {
        Ok(())
    }

    fn close(&self, _socket: usize) {}

    fn close_listener(&self, (): ()) {}

    fn wake_others(&self) {}

    fn wake_for_good(&self) {}
}

impl Tiny {
    fn new() -> Self {
        Self {
            tokens: RefCell::new(vec![None; CONNECTIONS]),
            unread: RefCell::new(vec![false; CONNECTIONS]),
            accepted: Cell::new(0),
            echoed: Cell::new(0),
        }
    }

    /// Turns until all are accepted, then counts allocations over a million messages.
    fn measure(&self, mut turn: impl FnMut()) {
        (0..200).for_each(|_| turn());
        assert_eq!(self.accepted.get(), CONNECTIONS);
        let until = self.echoed.get() + MESSAGES;
        let counted = allocation_counter::measure(|| {
            while self.echoed.get() < until {
                turn();
            }
        });
        assert_eq!((counted.count_total, counted.bytes_total), (0, 0), "{counted:?}");
    }
}

fn setting(trigger: Trigger, read: Read) -> Setting {
    Setting {
        trigger,
        read,
        buffer_size: 4096,
        max_connections: 100,
        limits: Limits {
            window: 65_536,
            window_at_first: 4096,
            trust_after: 262_144,
            // With both timeouts on, so that the wheel turns as well.
            idle_timeout: 500,
            write_timeout: 500,
            linger: 1000,
        },
        spill_limit: 1 << 20,
        drain_timeout: Duration::from_secs(1),
        queued_max: 100,
    }
}

fn each_way(test: impl Fn(Setting, &Counters, &Admission, &Stop)) {
    for trigger in [Trigger::Level, Trigger::Edge] {
        for read in [Read::Once, Read::Drain] {
            let counters = worker::counters(COUNTERS);
            test(setting(trigger, read), &counters, &Admission::new(100), &Stop::new(0).unwrap());
            assert!(counters.receives.get() >= MESSAGES);
            assert_eq!(counters.closed.iter().map(|(_, count)| count).sum::<u64>(), 0);
        }
    }
}

#[test]
fn a_million_messages_allocate_nothing_per_core() {
    each_way(|setting, counters, admission, stop| {
        let tiny = Tiny::new();
        let mut event_loop = EventLoop::new(&tiny, vec![()], &setting, admission, counters, stop).unwrap();
        tiny.measure(|| assert_eq!(event_loop.turn(), None));
    });
}

#[test]
fn a_million_messages_allocate_nothing_shared() {
    each_way(|setting, counters, admission, stop| {
        let tiny = Tiny::new();
        let state = State::new(&tiny, vec![()], setting).unwrap();
        let mut thread = Thread::new(&tiny, &state, 0, admission, counters, stop);
        tiny.measure(|| assert_eq!(thread.turn(), None));
    });
}
