//! Two workers, of which the first accepts for both: what passes through the first, and what arrives at the
//! second.

use super::*;
use crate::conn::Handover;

/// One of two workers, of which the first accepts for both.
fn on_stage(index: usize, room: u32, play: impl FnOnce(&mut Stage<'_>, &Handover, &Admission)) {
    let scenario = Scenario { max_connections: 1000, ..Scenario::draw(0) };
    let arena = Arena::new(2, 64, 16 * u64::from(CHUNK)).unwrap();
    let (config, counters) = (scenario.config(), scenario.counters());
    let (admission, stop): (Rc<Admission>, Stop) = (scenario.admission(), scenario.stop());
    let handover = Handover::new(2);
    let tools = Worker::for_tests(&config, &admission, &counters, &stop);
    let worker = Worker { index, room, handover: Some(&handover), ..tools };
    let kernel = Scripted::default();
    let listeners = usize::from(index == 0);
    let event_loop = EventLoop::new(kernel.clone(), Buffers::<Shared>::new(&arena), &worker, listeners);
    play(&mut Stage { kernel, event_loop, counters: &counters, stop: &stop }, &handover, &admission);
}

/// The first of the two; its table is full, with two of its own. The other can hold `beside`.
fn on_stage_of_the_first(beside: u32, play: impl FnOnce(&mut Stage<'_>, &Handover)) {
    on_stage(0, 2, |stage, handover, _| {
        // The other is not there yet.
        (0..2).for_each(|socket| stage.kernel.accept(socket));
        stage.turn();
        assert_eq!(stage.event_loop.connections.len(), 2);
        handover.open(1, beside);
        play(stage, handover);
    });
}

fn is_hand(operation: &Operation) -> bool {
    matches!(operation, Operation::Hand { worker: 1, .. })
}

#[test]
fn a_full_table_lets_pass_whom_another_worker_has_room_for() {
    on_stage_of_the_first(2, |stage, _| {
        let refused = |stage: &Stage<'_>| stage.counters.refused.at(Refusal::Descriptors as usize).get();
        for socket in 2..4 {
            stage.kernel.accept(socket);
            stage.turn();
            assert_eq!((stage.kernel.count_asked(is_hand), refused(stage)), (1, 0));
            assert!(!stage.kernel.is_asked(is_cancel), "the other has room for more");
            stage.kernel.answer(is_hand, 0, false, None);
            stage.turn();
            let is_copy = |one: &Operation| *one == Operation::Close { socket: sim::slot(socket as u32) };
            assert!(stage.kernel.is_asked(is_copy), "its name here is to be used again");
        }
        stage.kernel.accept(4);
        stage.turn();
        assert_eq!((stage.kernel.count_asked(is_hand), refused(stage)), (0, 1), "nobody has room");
        assert!(stage.kernel.is_asked(is_cancel));
    });
}

#[test]
fn a_burst_through_a_full_table_is_paused_and_goes_on_when_some_have_passed() {
    on_stage_of_the_first(1000, |stage, _| {
        (2..42).for_each(|socket| stage.kernel.accept(socket));
        stage.turn();
        assert_eq!((stage.kernel.count_asked(is_hand), stage.counters.refused.at(1).get()), (40, 0));
        stage.kernel.answer(is_accept, CANCELLED, false, None);
        stage.kernel.answer(is_cancel, 0, false, None);
        stage.turn();
        assert!(!stage.kernel.is_asked(is_accept), "the kernel would drop whom the table cannot name");
        (0..8).for_each(|_| stage.kernel.answer(is_hand, 0, false, None));
        (0..2).for_each(|_| stage.turn());
        assert!(!stage.kernel.is_asked(is_accept));
        stage.kernel.answer(is_hand, 0, false, None);
        stage.turn();
        assert!(stage.kernel.is_asked(is_accept), "nobody has to leave for it, and no second to pass");
    });
}

#[test]
fn who_cannot_be_handed_on_through_a_full_table_is_refused() {
    on_stage_of_the_first(1000, |stage, handover| {
        stage.kernel.accept(2);
        stage.turn();
        stage.kernel.answer(is_hand, -(Errno::ENOMEM as i32), false, None);
        stage.turn();
        assert_eq!(stage.counters.refused.at(Refusal::Descriptors as usize).get(), 1);
        assert_eq!((stage.event_loop.connections.len(), stage.event_loop.worker.admission.open()), (2, 2));
        assert!(handover.has_room_beside(0));
    });
}

/// The second of the two.
fn on_stage_of_the_second(play: impl FnOnce(&mut Stage<'_>, &Handover, &Admission)) {
    on_stage(1, 1000, play);
}

#[test]
fn who_arrives_from_another_worker_is_served_like_one_of_its_own() {
    on_stage_of_the_second(|stage, handover, admission| {
        assert_eq!(handover.choose(0), 1, "it is there, and the other is not");
        assert!(admission.try_enter());
        handover.sent(1);
        stage.kernel.arrive(7);
        stage.turn();
        assert_eq!(stage.counters.accepted.get(), 1);
        assert!(stage.kernel.is_asked(|one| is_receive(one, 7)));
        handover.end();
        assert!(handover.nobody_comes(1));
    });
}

#[test]
fn a_worker_does_not_end_while_somebody_may_still_arrive() {
    on_stage_of_the_second(|stage, handover, admission| {
        let finishes =
            |stage: &Stage<'_>| stage.kernel.is_asked(|one| matches!(one, Operation::Cancel { .. }));
        assert!(admission.try_enter());
        handover.sent(1);
        stage.stop.advance(stop::Phase::Draining);
        stage.at(1);
        assert!(!finishes(stage), "the other worker may still send somebody");
        handover.end();
        stage.at(2);
        assert!(!finishes(stage), "somebody is on the way");
        stage.stop.advance(stop::Phase::Cut);
        stage.turn();
        stage.kernel.arrive(7);
        stage.turn();
        assert!(!finishes(stage), "it is not closed yet");
        stage.kernel.answer(|one| matches!(one, Operation::Close { .. }), 0, false, None);
        stage.turn();
        assert!(finishes(stage));
        assert_eq!(stage.counters.refused.at(Refusal::Stopping as usize).get(), 1);
        assert_eq!((admission.open(), stage.counters.accepted.get()), (0, 0));
    });
}
