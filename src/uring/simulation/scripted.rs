//! A kernel that answers what the test says and nothing else: for what a seed meets too seldom, or
//! what is over before a random run looks at it. It keeps no rules; `sim` does.

mod handing;

use super::scenario::Scenario;
use crate::config::Config;
use crate::conn::machine::{CloseReason, Phase, Refusal};
use crate::conn::{Admission, Limits};
use crate::counters::Counters;
use crate::ring::{Completion, Entered, Listening, Operation, Ring, Socket, Token, sim};
use crate::stop::{self, Stop};
use crate::uring::buffers::{Arena, Buffers, CHUNK, Shared};
use crate::uring::event_loop::EventLoop;
use crate::uring::token::{self, Kind};
use crate::worker::Worker;
use nix::errno::Errno;
use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::time::Duration;

/// What the test and the ring share.
#[derive(Default)]
struct State {
    /// Asked for and not yet answered for the last time.
    asked: Vec<(Operation, Token)>,
    answers: VecDeque<Completion>,
    /// Milliseconds.
    now: u64,
    /// Until when the loop last meant to sleep, and for how many completions.
    until: Option<u64>,
    wait_for: u32,
    /// Connections in the listener's queue, and those taken from there; whether it is closed.
    queued: u32,
    taken: u32,
    listener_closed: bool,
    /// Whether what has arrived can be counted through the ring.
    counts_arrived: bool,
    /// Whether a send may go on reading what it took.
    keeps_sent: bool,
    /// How often the loop said that a receive found no buffer.
    empty_pools: u32,
}

/// A handle; clones are the same kernel.
#[derive(Clone, Default)]
struct Scripted(Rc<RefCell<State>>);

impl Scripted {
    /// Answers the oldest operation that `is` meant, in the next turn.
    #[track_caller]
    fn answer(&self, is: impl Fn(&Operation) -> bool, result: i32, more: bool, buffer: Option<u16>) {
        let state = &mut *self.0.borrow_mut();
        let index = state.asked.iter().position(|(operation, _)| is(operation));
        let index = index.unwrap_or_else(|| panic!("not asked for: {:?}", state.asked));
        let token = state.asked[index].1;
        if !more {
            state.asked.remove(index);
        }
        state.answers.push_back(Completion { token, result, more, buffer, keeps_buffer: false });
    }

    fn is_asked(&self, is: impl Fn(&Operation) -> bool) -> bool {
        self.count_asked(is) > 0
    }

    fn count_asked(&self, is: impl Fn(&Operation) -> bool) -> usize {
        self.0.borrow().asked.iter().filter(|(operation, _)| is(operation)).count()
    }

    fn accept(&self, socket: i32) {
        self.answer(|one| matches!(one, Operation::Accept { .. }), socket, true, None);
    }

    fn receive(&self, number: u32, bytes: i32, buffer: Option<u16>) {
        let more = bytes > 0;
        self.answer(|one| is_receive(one, number), bytes, more, buffer);
    }

    /// A socket from another worker.
    fn arrive(&self, socket: i32) {
        let arrival = token::of_listener(Kind::Arrival, 0);
        self.0.borrow_mut().answers.push_back(Completion::bare(arrival, socket, false));
    }

    fn send(&self, number: u32, result: i32) {
        self.answer(|one| is_send(one, number), result, false, None);
    }
}

fn is_receive(operation: &Operation, number: u32) -> bool {
    matches!(operation, Operation::Receive { socket, .. } if *socket == sim::slot(number))
}

fn is_accept(operation: &Operation) -> bool {
    matches!(operation, Operation::Accept { .. })
}

fn is_cancel(operation: &Operation) -> bool {
    matches!(operation, Operation::Cancel { .. })
}

fn is_send(operation: &Operation, number: u32) -> bool {
    matches!(operation, Operation::Send { socket, .. } if *socket == sim::slot(number))
}

impl Ring for Scripted {
    fn push(&mut self, operation: Operation, token: Token) {
        self.0.borrow_mut().asked.push((operation, token));
    }

    fn enter(&mut self, wait_for: u32, until: Option<Duration>) -> Entered {
        self.0.borrow_mut().until = until.map(|until| until.as_millis() as u64);
        self.0.borrow_mut().wait_for = wait_for;
        Entered::Done
    }

    fn next_completion(&mut self) -> Option<Completion> {
        self.0.borrow_mut().answers.pop_front()
    }

    fn provide(&mut self, _: u16) {}

    fn publish(&mut self) {}

    fn found_no_buffer(&mut self) {
        self.0.borrow_mut().empty_pools += 1;
    }

    fn now(&mut self) -> Duration {
        Duration::from_millis(self.0.borrow().now)
    }

    fn obeys_limit(&self) -> bool {
        true
    }

    fn keeps_sent(&self) -> bool {
        self.0.borrow().keeps_sent
    }

    fn overflows(&self) -> u64 {
        0
    }

    fn enters(&self) -> u64 {
        0
    }
}

impl Listening for Scripted {
    fn accepted(&self, result: u32) -> Socket {
        sim::slot(result)
    }

    fn accept_queued(&mut self, _: usize) -> Result<Socket, Errno> {
        let state = &mut *self.0.borrow_mut();
        state.queued = state.queued.checked_sub(1).ok_or(Errno::EAGAIN)?;
        state.taken += 1;
        Ok(sim::slot(1000 + state.taken))
    }

    fn close_listener(&mut self, _: usize) {
        self.0.borrow_mut().listener_closed = true;
    }

    fn arrived(&mut self, _: Socket) -> Option<u32> {
        None
    }

    fn counts_arrived(&self) -> bool {
        self.0.borrow().counts_arrived
    }

    fn wake_others(&mut self) {}
}

/// A loop over a scripted kernel.
struct Stage<'w> {
    kernel: Scripted,
    event_loop: EventLoop<'w, Scripted>,
    counters: &'w Counters,
    stop: &'w Stop,
}

impl Stage<'_> {
    fn turn(&mut self) {
        assert!(self.event_loop.turn().unwrap().is_none());
    }

    /// Goes to a time: a turn in which it is noticed, one in which it counts, and the next sleep.
    fn at(&mut self, now: u64) {
        self.kernel.0.borrow_mut().now = now;
        (0..3).for_each(|_| self.turn());
    }

    /// Until when it means to sleep.
    fn sleeps_until(&self) -> Option<u64> {
        self.kernel.0.borrow().until
    }

    /// Whether the connection in the slot ends for this reason.
    fn ends(&self, slot: u32, reason: CloseReason) -> bool {
        self.event_loop.audit().any(|one| one.id.slot == slot && one.phase == Phase::Closing(reason))
    }
}

/// Two buffers, and limits of the test's own.
fn on_stage(idle_timeout: u64, write_timeout: u64, play: impl FnOnce(&mut Stage<'_>)) {
    on_stage_with_room(1000, idle_timeout, write_timeout, play);
}

/// The same for a worker that can hold so many of the 1,000 connections.
fn on_stage_with_room(room: u32, idle_timeout: u64, write_timeout: u64, play: impl FnOnce(&mut Stage<'_>)) {
    let scenario = Scenario { max_connections: 1000, ..Scenario::draw(0) };
    let arena = Arena::new(2, 64, 16 * u64::from(CHUNK)).unwrap();
    let config = Config { backlog: BACKLOG, ..scenario.config() };
    let counters = scenario.counters();
    let (admission, stop): (Rc<Admission>, Stop) = (scenario.admission(), scenario.stop());
    let worker = Worker { room, ..Worker::for_tests(&config, &admission, &counters, &stop) };
    let kernel = Scripted::default();
    let mut event_loop = EventLoop::new(kernel.clone(), Buffers::<Shared>::new(&arena), &worker, 1);
    event_loop.limits = Limits {
        window: 4_000,
        window_at_first: 4_000,
        trust_after: 0,
        idle_timeout,
        write_timeout,
        linger: 1_000,
    };
    play(&mut Stage { kernel, event_loop, counters: &counters, stop: &stop });
}

/// More than is taken from a queue in one turn.
const BACKLOG: u32 = 300;
const WOULD_BLOCK: i32 = -(Errno::EAGAIN as i32);
const CANCELLED: i32 = -(Errno::ECANCELED as i32);
const NO_BUFFERS: i32 = -(Errno::ENOBUFS as i32);

#[test]
fn who_was_stuck_longer_than_the_idle_timeout_is_still_idled_out_after_it() {
    on_stage(100, 0, |stage| {
        stage.kernel.accept(0);
        stage.turn();
        stage.kernel.receive(0, 10, Some(0));
        stage.turn();
        stage.kernel.send(0, WOULD_BLOCK);
        stage.turn();
        // Its time comes while it is stuck, and without a write timeout that means nothing.
        stage.at(300);
        assert_eq!(stage.sleeps_until(), None, "there is nothing to wake for");
        stage.kernel.answer(|one| matches!(one, Operation::AwaitRoom { .. }), 1, true, None);
        stage.turn();
        stage.kernel.send(0, 10);
        stage.turn();
        stage.at(399);
        assert!(!stage.ends(0, CloseReason::IdleTimeout));
        assert!(stage.sleeps_until().is_some(), "it stands in no wheel");
        stage.at(500);
        assert!(stage.ends(0, CloseReason::IdleTimeout));
    });
}

#[test]
fn who_waits_for_a_buffer_is_not_idled_out_meanwhile() {
    on_stage(100, 0, |stage| {
        for socket in 0..3 {
            stage.kernel.accept(socket);
        }
        stage.turn();
        // Two have both buffers, and their sends take a while; the third meets an empty pool.
        stage.kernel.receive(0, 10, Some(0));
        stage.kernel.receive(1, 10, Some(1));
        stage.kernel.receive(2, NO_BUFFERS, None);
        stage.at(50);
        assert_eq!(stage.counters.waiting.get(), 1);
        stage.at(140);
        assert!(!stage.ends(2, CloseReason::IdleTimeout), "it waits for us");
        // In the turn in which it is armed again the kernel has not yet been asked for its bytes.
        stage.kernel.send(0, 10);
        stage.at(400);
        assert!(stage.kernel.is_asked(|one| is_receive(one, 2)));
        assert!(!stage.ends(2, CloseReason::IdleTimeout), "it was just asked");
        stage.at(490);
        assert!(!stage.ends(2, CloseReason::IdleTimeout));
        stage.at(540);
        assert!(stage.ends(2, CloseReason::IdleTimeout), "from here on it was silent itself");
    });
}

/// The ring gives the kernel more buffers for it: an accept that finds no memory says the same word.
#[test]
fn only_a_receive_says_that_the_pool_is_empty() {
    on_stage(0, 0, |stage| {
        stage.kernel.accept(0);
        stage.turn();
        stage.kernel.answer(is_accept, NO_BUFFERS, false, None);
        stage.kernel.receive(0, 10, Some(0));
        stage.turn();
        stage.kernel.send(0, NO_BUFFERS);
        stage.turn();
        assert_eq!(stage.kernel.0.borrow().empty_pools, 0);
    });
    on_stage(0, 0, |stage| {
        stage.kernel.accept(0);
        stage.turn();
        stage.kernel.receive(0, NO_BUFFERS, None);
        stage.turn();
        assert_eq!(stage.kernel.0.borrow().empty_pools, 1);
    });
}

#[test]
fn a_queue_that_never_ends_is_left_after_as_many_as_could_have_been_in_it_at_the_stop() {
    on_stage(0, 0, |stage| {
        stage.turn();
        stage.kernel.0.borrow_mut().queued = u32::MAX;
        stage.stop.advance(stop::Phase::Draining);
        stage.turn();
        stage.kernel.answer(|one| matches!(one, Operation::Accept { .. }), CANCELLED, false, None);
        stage.turn();
        let taken = stage.kernel.0.borrow().taken;
        assert!((1..=BACKLOG).contains(&taken), "{taken} taken at once keep everybody waiting");
        stage.turn();
        assert_eq!(stage.kernel.0.borrow().wait_for, 0, "somebody is queued, and it sleeps");
        assert_eq!(stage.kernel.0.borrow().taken, BACKLOG + 1);
        assert!(stage.kernel.0.borrow().listener_closed);
    });
}

#[test]
fn at_the_stop_who_is_queued_waits_for_the_permit_of_any_worker() {
    on_stage(0, 0, |stage| {
        stage.turn();
        // All of them are with another worker.
        let admission = stage.event_loop.worker.admission;
        (0..admission.limit()).for_each(|_| assert!(admission.try_enter()));
        stage.kernel.0.borrow_mut().queued = 1;
        stage.stop.advance(stop::Phase::Draining);
        stage.turn();
        stage.kernel.answer(is_accept, CANCELLED, false, None);
        (0..2).for_each(|_| stage.turn());
        assert_eq!((stage.kernel.0.borrow().taken, stage.kernel.0.borrow().listener_closed), (0, false));
        assert_eq!(stage.kernel.0.borrow().wait_for, 1, "it spins");
        assert!(admission.leave(), "nobody would wake it");
        stage.turn();
        let refused = stage.counters.refused.iter().map(|(_, count)| count).sum::<u64>();
        assert_eq!((stage.counters.accepted.get(), refused), (1, 0));
        // The next is still waited for, until it is known that there is none.
        assert!(!stage.kernel.0.borrow().listener_closed);
        assert!(admission.leave(), "nobody would wake it");
        stage.turn();
        assert!(stage.kernel.0.borrow().listener_closed);
    });
}

#[test]
fn at_the_stop_who_is_queued_waits_for_a_place_of_a_worker_that_is_full() {
    on_stage_with_room(1, 0, 0, |stage| {
        stage.kernel.accept(0);
        stage.turn();
        stage.kernel.0.borrow_mut().queued = 1;
        stage.stop.advance(stop::Phase::Draining);
        stage.turn();
        stage.kernel.answer(is_accept, CANCELLED, false, None);
        (0..2).for_each(|_| stage.turn());
        assert_eq!(stage.kernel.0.borrow().taken, 0, "there is no place for it");
        // The accept's, and the receive's.
        (0..2).for_each(|_| stage.kernel.answer(is_cancel, 0, false, None));
        stage.kernel.receive(0, 0, None);
        stage.turn();
        stage.kernel.answer(|one| matches!(one, Operation::Close { .. }), 0, false, None);
        stage.turn();
        let refused = stage.counters.refused.iter().map(|(_, count)| count).sum::<u64>();
        assert_eq!((stage.kernel.0.borrow().taken, stage.counters.accepted.get(), refused), (1, 2, 0));
    });
}

#[test]
fn a_worker_whose_table_is_full_takes_nobody_until_somebody_leaves() {
    on_stage_with_room(2, 0, 0, |stage| {
        stage.turn();
        (0..3).for_each(|socket| stage.kernel.accept(socket));
        stage.turn();
        let refused = |stage: &Stage<'_>| stage.counters.refused.at(Refusal::Descriptors as usize).get();
        assert_eq!((stage.event_loop.connections.len(), refused(stage)), (2, 1));
        assert!(stage.kernel.is_asked(|one| matches!(one, Operation::Cancel { .. })), "others may have room");
        stage.kernel.answer(is_accept, CANCELLED, false, None);
        stage.turn();
        assert!(!stage.kernel.is_asked(is_accept));
        stage.kernel.answer(|one| matches!(one, Operation::Close { .. }), 0, false, None);
        stage.kernel.answer(|one| matches!(one, Operation::Cancel { .. }), 0, false, None);
        stage.kernel.receive(0, 0, None);
        (0..2).for_each(|_| stage.turn());
        stage.kernel.answer(|one| matches!(one, Operation::Close { .. }), 0, false, None);
        (0..2).for_each(|_| stage.turn());
        assert!(stage.kernel.is_asked(is_accept), "one has left");
    });
}

/// Why the worker on the stage refuses whom it is offered now, and nothing else happens.
fn cause_of_refusal(stage: &mut Stage<'_>) -> &'static str {
    let counts = |stage: &Stage<'_>| stage.counters.refused.iter().collect::<Vec<_>>();
    let (served, before) = (stage.event_loop.connections.len(), counts(stage));
    stage.event_loop.admit(sim::slot(2_000));
    assert_eq!(stage.event_loop.connections.len(), served);
    let more: Vec<_> = counts(stage).into_iter().zip(before).filter(|(now, before)| now != before).collect();
    assert_eq!(more.len(), 1, "{more:?}");
    more[0].0.0
}

#[test]
fn who_is_refused_is_counted_under_what_was_lacking() {
    for (room, permits_left, stopping, cause) in [
        (1000, 0, false, "refused_full"),
        (1, 999, false, "refused_descriptors"),
        (1, 0, false, "refused_full"),
        (1000, 0, true, "refused_stopping"),
        (1, 999, true, "refused_descriptors"),
        (1, 0, true, "refused_stopping"),
    ] {
        on_stage_with_room(room, 0, 0, |stage| {
            stage.kernel.accept(0);
            stage.turn();
            let admission = stage.event_loop.worker.admission;
            (0..999 - permits_left).for_each(|_| assert!(admission.try_enter()));
            if stopping {
                stage.stop.advance(stop::Phase::Draining);
                stage.turn();
            }
            assert_eq!(cause_of_refusal(stage), cause, "{room} {permits_left} {stopping}");
            assert_eq!(admission.open(), 1000 - permits_left, "a permit was lost");
        });
    }
}

/// No order of events can be scripted between two looks at the permits. With one look there is none: that
/// is tried for as long as another thread gives the last of them back and takes it again.
#[test]
fn a_permit_that_comes_free_elsewhere_gives_no_place_in_a_full_worker() {
    on_stage_with_room(1, 0, 0, |stage| {
        stage.kernel.accept(0);
        stage.turn();
        let admission = stage.event_loop.worker.admission;
        (1..admission.limit()).for_each(|_| assert!(admission.try_enter()));
        std::thread::scope(|scope| {
            let other = scope.spawn(|| {
                for _ in 0..1_000_000 {
                    let _ = admission.leave();
                    let _ = admission.try_enter();
                }
            });
            while !other.is_finished() {
                stage.event_loop.admit(sim::slot(2_000));
                stage.kernel.0.borrow_mut().asked.clear();
            }
        });
        assert_eq!((stage.event_loop.connections.len(), admission.open()), (1, 1000));
    });
}

#[test]
fn a_shortage_pauses_longer_each_time_and_who_leaves_ends_it() {
    on_stage(0, 0, |stage| {
        stage.turn();
        let mut now = 0;
        for (error, pause) in [(Errno::EMFILE, 1000), (Errno::ENFILE, 2000), (Errno::ENOMEM, 4000)] {
            stage.kernel.answer(is_accept, -(error as i32), false, None);
            (0..2).for_each(|_| stage.turn());
            now += pause;
            assert_eq!(stage.sleeps_until(), Some(now), "{error}");
            assert!(!stage.kernel.is_asked(is_accept));
            stage.at(now);
            assert!(stage.kernel.is_asked(is_accept), "{error}");
        }
        let refused = |name| stage.counters.refused.iter().find(|one| one.0 == name).expect("a cause").1;
        assert_eq!((refused("refused_descriptors"), refused("refused_memory")), (2, 1));
        // Somebody is served, and a descriptor comes free when that one leaves.
        stage.kernel.accept(0);
        stage.turn();
        stage.kernel.answer(is_accept, -(Errno::EMFILE as i32), false, None);
        stage.turn();
        assert!(!stage.kernel.is_asked(is_accept));
        stage.kernel.receive(0, 0, None);
        stage.turn();
        stage.kernel.answer(|one| matches!(one, Operation::Close { .. }), 0, false, None);
        stage.turn();
        assert!(stage.kernel.is_asked(is_accept), "it waits for what is there");
    });
}

/// A connection in the ring's own table is told of the stop, up to the question how much has arrived.
fn stopped_in_mid_flow(stage: &mut Stage<'_>) {
    stage.kernel.accept(0);
    stage.turn();
    stage.kernel.receive(0, 10, Some(0));
    stage.turn();
    stage.kernel.send(0, 10);
    stage.stop.advance(stop::Phase::Draining);
    stage.turn();
    stage.kernel.answer(|one| is_receive(one, 0), CANCELLED, false, None);
    stage.turn();
}

fn is_count(operation: &Operation) -> bool {
    matches!(operation, Operation::CountArrived { .. })
}

fn is_receive_now(operation: &Operation) -> bool {
    matches!(operation, Operation::ReceiveNow { .. })
}

#[test]
fn at_the_stop_a_direct_socket_is_read_as_far_as_had_arrived_and_no_further() {
    on_stage(0, 0, |stage| {
        stage.kernel.0.borrow_mut().counts_arrived = true;
        stopped_in_mid_flow(stage);
        assert!(!stage.kernel.is_asked(is_receive_now), "nothing is read before it is counted");
        stage.kernel.answer(is_count, 20, false, None);
        stage.turn();
        stage.kernel.answer(|one| matches!(one, Operation::ReceiveNow { limit: 20, .. }), 20, false, Some(1));
        stage.turn();
        stage.kernel.send(0, 20);
        stage.turn();
        assert!(!stage.kernel.is_asked(is_receive_now), "what came later is not echoed");
        assert!(stage.kernel.is_asked(|one| matches!(one, Operation::Shutdown { .. })));
    });
}

#[test]
fn where_it_cannot_be_counted_reading_ends_at_would_block() {
    for counts_arrived in [true, false] {
        on_stage(0, 0, |stage| {
            stage.kernel.0.borrow_mut().counts_arrived = counts_arrived;
            stopped_in_mid_flow(stage);
            assert_eq!(stage.kernel.is_asked(is_count), counts_arrived);
            if counts_arrived {
                stage.kernel.answer(is_count, -(Errno::EOPNOTSUPP as i32), false, None);
                stage.turn();
            }
            for _ in 0..3 {
                stage.kernel.answer(is_receive_now, 20, false, Some(1));
                stage.turn();
                stage.kernel.send(0, 20);
                stage.turn();
            }
            stage.kernel.answer(is_receive_now, WOULD_BLOCK, false, None);
            stage.turn();
            assert!(!stage.kernel.is_asked(is_receive_now));
            assert!(stage.kernel.is_asked(|one| matches!(one, Operation::Shutdown { .. })));
        });
    }
}

/// The kernel reads what a send without a copy took for as long as the peer does not: the close does not
/// wait for that, and the buffer does.
#[test]
fn a_close_does_not_wait_for_bytes_that_the_kernel_still_reads() {
    on_stage(0, 0, |stage| {
        let kernel = stage.kernel.clone();
        let is_kept = |one: &Operation| matches!(one, Operation::SendKept { .. });
        kernel.0.borrow_mut().keeps_sent = true;
        kernel.accept(0);
        stage.turn();
        kernel.receive(0, 10, Some(0));
        stage.turn();
        kernel.answer(is_kept, 10, true, None);
        stage.turn();
        kernel.receive(0, 0, None);
        stage.turn();
        kernel.answer(|one| matches!(one, Operation::Close { .. }), 0, false, None);
        stage.turn();
        assert_eq!((stage.counters.open.get(), stage.counters.lent.get()), (0, 1));
        kernel.answer(is_kept, 0, false, None);
        stage.turn();
        assert_eq!((stage.counters.lent.get(), stage.counters.stale_events.get()), (0, 0));
    });
}
