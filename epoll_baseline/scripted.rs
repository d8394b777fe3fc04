//! The stop, step by step, where somebody is queued and there is no room: what a seed meets too seldom. Over
//! the real kernel, with every permit in the hands of another worker.

use super::COUNTERS;
use super::ending::Queue;
use super::event_loop::EventLoop;
use super::setting::Setting;
use super::shared::{State, Thread};
use super::sockets::Kernel;
use crate::conn::machine::Refusal;
use crate::conn::{Admission, CloseReason, Limits};
use crate::counters::Counters;
use crate::stop::{Phase, Stop};
use crate::worker::Ending;
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

/// Nobody is idled out, and no stop is cut.
const SETTING: Setting = Setting {
    limits: Limits { idle_timeout: 0, ..Setting::FOR_TESTS.limits },
    drain_timeout: Duration::from_secs(1000),
    queued_max: 100,
    ..Setting::FOR_TESTS
};

/// What both forms stand on.
struct Stage {
    admission: Admission,
    counters: Counters,
    stop: Stop,
    listeners: Vec<TcpListener>,
    /// One in each queue.
    _peers: Vec<TcpStream>,
}

impl Stage {
    /// The stop has begun, and nobody has looked yet.
    fn new(listeners: usize) -> Self {
        let listener = |_| {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            listener.set_nonblocking(true).unwrap();
            listener
        };
        let listeners: Vec<_> = (0..listeners).map(listener).collect();
        let connect = |listener: &TcpListener| TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let admission = Admission::new(SETTING.max_connections);
        (0..admission.limit()).for_each(|_| assert!(admission.try_enter()));
        let stop = Stop::new(2).unwrap();
        stop.advance(Phase::Draining);
        Self {
            admission,
            counters: Counters::new(CloseReason::NAMES, Refusal::NAMES, COUNTERS),
            stop,
            _peers: listeners.iter().map(connect).collect(),
            listeners,
        }
    }

    /// How many were accepted, and how many refused because of the stop.
    fn taken(&self) -> (u64, u64) {
        let refused = self.counters.refused.at(Refusal::Stopping as usize);
        (self.counters.accepted.get(), refused.get())
    }

    /// A loop of its own over these.
    fn with_loop(mut self, test: impl FnOnce(EventLoop<'_, Kernel<'_>>, &Self)) {
        let listeners = std::mem::take(&mut self.listeners);
        let kernel = Kernel::of_worker(&self.stop, 0).unwrap();
        let event_loop =
            EventLoop::new(&kernel, listeners, &SETTING, &self.admission, &self.counters, &self.stop);
        test(event_loop.unwrap(), &self);
    }

    /// Two threads over one instance of these; both have heard of the stop, and the first has begun it.
    fn with_threads(mut self, test: impl FnOnce([Thread<'_, Kernel<'_>>; 2], &Self)) {
        let listeners = std::mem::take(&mut self.listeners);
        let kernel = Kernel::of_all().unwrap();
        (0..2).for_each(|worker| kernel.hear(self.stop.waker(worker)).unwrap());
        let state = State::new(&kernel, listeners, SETTING).unwrap();
        let threads = [0, 1].map(|index| {
            let (admission, counters, stop) = (&self.admission, &self.counters, &self.stop);
            let mut thread = Thread::new(&kernel, &state, index, admission, counters, stop);
            assert_eq!(thread.look_after(), None);
            thread
        });
        test(threads, &self);
    }
}

#[test]
fn at_the_stop_who_is_queued_waits_for_the_permit_of_any_worker() {
    Stage::new(1).with_loop(|mut event_loop, stage| {
        assert_eq!(event_loop.obey_stop(), None);
        assert_eq!((event_loop.listeners.len(), stage.taken()), (1, (0, 0)));
        let deadline = event_loop.stopping.as_ref().map(|stopping| stopping.deadline);
        assert_eq!(event_loop.wake_at(), deadline, "it spins");
        assert!(stage.admission.leave(), "nobody would wake it");
        // The peer has sent nothing: it is served to its end at once, and nobody is queued behind it.
        assert_eq!(event_loop.obey_stop(), Some(Ending::Drained));
        assert_eq!(stage.taken(), (1, 0));
    });
}

#[test]
fn who_leaves_here_makes_room_for_a_queue_that_waits_here() {
    Stage::new(2).with_loop(|mut event_loop, stage| {
        assert_eq!(event_loop.obey_stop(), None);
        assert!(stage.admission.leave(), "nobody would wake it");
        // One queue is looked at again; who is in it comes and leaves, and wakes only others.
        assert_eq!(event_loop.empty_queue(0), Queue::Over);
        // Nothing else keeps it awake: every slot has been visited.
        event_loop.stopping.as_mut().unwrap().next = event_loop.connections.high_water();
        assert_eq!(event_loop.wake_at(), Some(Duration::ZERO), "it sleeps, and there is room");
    });
}

#[test]
fn who_still_waits_when_the_time_is_over_is_refused_by_the_account() {
    Stage::new(2).with_loop(|mut event_loop, stage| {
        assert_eq!(event_loop.obey_stop(), None);
        event_loop.stop.advance(Phase::Cut);
        assert_eq!(event_loop.obey_stop(), Some(Ending::Cut));
        assert_eq!(stage.taken(), (0, 2));
    });
    Stage::new(2).with_threads(|[mut first, mut second], stage| {
        stage.stop.advance(Phase::Cut);
        assert_eq!([second.look_after(), first.look_after()], [Some(Ending::Cut); 2]);
        assert_eq!(stage.taken(), (0, 2));
    });
}

#[test]
fn where_threads_share_everything_who_makes_room_looks_after_the_queue() {
    Stage::new(2).with_threads(|[mut first, mut second], stage| {
        assert_eq!(stage.taken(), (0, 0));
        assert!(first.wake_at() > Some(Duration::ZERO), "it spins");
        assert_eq!(second.wake_at(), None, "it spins, or both wake for one deadline");
        second.leave();
        assert_eq!(second.look_after(), Some(Ending::Drained));
        assert_eq!(stage.taken(), (2, 0));
    });
}

#[test]
fn where_threads_share_everything_whoever_is_woken_looks_after_the_queue() {
    Stage::new(1).with_threads(|[_, mut second], stage| {
        let mut turn = || {
            second.wait(Some(Duration::ZERO));
            while second.dispatch() {}
            second.look_after()
        };
        assert_eq!(turn(), None);
        assert!(stage.admission.leave(), "nobody would be woken");
        stage.stop.wake(1);
        assert_eq!(turn(), Some(Ending::Drained));
        assert_eq!(stage.taken(), (1, 0));
    });
}
