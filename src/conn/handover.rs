//! Where connections go when one worker accepts for all: who holds how many, who is on the way, and
//! whether anybody may still come. Shared by all workers, as the permits are.
//!
//! The next connection goes to whoever holds the fewest, not strictly in turn: peers stay for as long as
//! they like, and in turn the workers whose peers stay would end up with nearly all of them. Among equals
//! it goes round, so that short visits are spread as well.
//!
//! Absent on purpose: how a connection travels. Needs one worker that accepts; only that one chooses.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};

/// What one worker holds. A line of its own: each worker counts who leaves it.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Place {
    /// Connections it can hold; 0 until it is there.
    room: AtomicU32,
    /// Those it holds, and those on their way to it.
    held: AtomicU32,
    /// Those on their way.
    coming: AtomicU32,
}

/// The places of all workers.
#[derive(Debug)]
pub struct Handover {
    places: Box<[Place]>,
    /// Nobody is sent on his way any more.
    over: AtomicBool,
    /// Who is asked first the next time.
    next: AtomicUsize,
}

impl Handover {
    /// For so many workers, none of which is there yet.
    #[must_use]
    pub fn new(workers: usize) -> Self {
        let places = (0..workers).map(|_| Place::default()).collect();
        Self { places, over: AtomicBool::new(false), next: AtomicUsize::new(0) }
    }

    /// `worker` is there, and can hold `room` connections.
    pub fn open(&self, worker: usize, room: u32) {
        self.places[worker].room.store(room, Ordering::Release);
    }

    /// Who is to have the next connection: of those that are there and have room, one that holds the
    /// fewest; `home` where there is none.
    #[must_use]
    pub fn choose(&self, home: usize) -> usize {
        let first = self.next.load(Ordering::Relaxed);
        let count = self.places.len();
        let in_turn = (0..count).map(|step| (first + step) % count);
        let with_room = in_turn.filter(|&worker| self.has_room(worker));
        let chosen = with_room.min_by_key(|&worker| self.held(worker)).unwrap_or(home);
        self.next.store((chosen + 1) % count, Ordering::Relaxed);
        chosen
    }

    /// Whether a worker other than `home` is there and has room. It stays so until `home` sends somebody.
    #[must_use]
    pub fn has_room_beside(&self, home: usize) -> bool {
        (0..self.places.len()).any(|worker| worker != home && self.has_room(worker))
    }

    fn held(&self, worker: usize) -> u32 {
        self.places[worker].held.load(Ordering::Relaxed)
    }

    fn has_room(&self, worker: usize) -> bool {
        self.held(worker) < self.places[worker].room.load(Ordering::Acquire)
    }

    /// `worker` serves one that it accepted itself.
    pub fn stays(&self, worker: usize) {
        self.places[worker].held.fetch_add(1, Ordering::Relaxed);
    }

    /// One is sent on its way to `worker`.
    pub fn sent(&self, worker: usize) {
        self.places[worker].held.fetch_add(1, Ordering::Relaxed);
        self.places[worker].coming.fetch_add(1, Ordering::Relaxed);
    }

    /// It has arrived there.
    pub fn arrived(&self, worker: usize) {
        let before = self.places[worker].coming.fetch_sub(1, Ordering::AcqRel);
        assert!(before > 0, "a connection arrived that nobody sent");
    }

    /// It never will.
    pub fn turned_back(&self, worker: usize) {
        self.left(worker);
        self.arrived(worker);
    }

    /// One that `worker` held is gone.
    pub fn left(&self, worker: usize) {
        let before = self.places[worker].held.fetch_sub(1, Ordering::Relaxed);
        assert!(before > 0, "a connection left that never came");
    }

    /// Nobody is sent on his way from now on. Wake the others then: they may wait for nothing else.
    pub fn end(&self) {
        self.over.store(true, Ordering::Release);
    }

    /// Whether nobody is on the way to `worker`, and nobody will be.
    #[must_use]
    pub fn nobody_comes(&self, worker: usize) -> bool {
        // In this order: who was sent before the end is seen after it.
        self.over.load(Ordering::Acquire) && self.places[worker].coming.load(Ordering::Acquire) == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn opened(rooms: &[u32]) -> Handover {
        let handover = Handover::new(rooms.len());
        rooms.iter().enumerate().for_each(|(worker, &room)| handover.open(worker, room));
        handover
    }

    #[test]
    fn whoever_holds_the_fewest_has_the_next() {
        let handover = opened(&[100; 4]);
        for _ in 0..100 {
            handover.sent(handover.choose(0));
        }
        assert!(handover.places.iter().all(|place| place.held.load(Ordering::Relaxed) == 25));
        (0..5).for_each(|_| handover.left(2));
        for _ in 0..5 {
            let chosen = handover.choose(0);
            assert_eq!(chosen, 2);
            handover.sent(chosen);
        }
    }

    #[test]
    fn visits_that_end_at_once_go_round() {
        let handover = opened(&[100; 3]);
        let chosen = |_| {
            let chosen = handover.choose(0);
            handover.stays(chosen);
            handover.left(chosen);
            chosen
        };
        assert_eq!((0..6).map(chosen).collect::<Vec<_>>(), [0, 1, 2, 0, 1, 2]);
    }

    #[test]
    fn who_is_full_or_not_there_yet_gets_nobody() {
        let handover = opened(&[5, 1, 0]);
        for expected in [0, 1, 0, 0] {
            let chosen = handover.choose(0);
            assert_eq!(chosen, expected);
            handover.sent(chosen);
        }
        handover.open(2, 5);
        assert_eq!(handover.choose(0), 2);
        assert_eq!(Handover::new(2).choose(0), 0);
    }

    #[test]
    fn room_beside_is_that_of_the_others() {
        let handover = opened(&[5, 1, 0]);
        assert!(handover.has_room_beside(0));
        handover.sent(1);
        assert!(!handover.has_room_beside(0) && handover.has_room_beside(1));
        handover.left(1);
        assert!(handover.has_room_beside(0));
    }

    #[test]
    fn a_worker_waits_for_who_is_on_the_way_and_for_the_word_that_nobody_else_will_be() {
        let handover = opened(&[5, 5]);
        handover.sent(1);
        handover.sent(1);
        assert!(!handover.nobody_comes(0), "somebody may still be sent");
        handover.end();
        assert!(handover.nobody_comes(0) && !handover.nobody_comes(1));
        handover.arrived(1);
        handover.turned_back(1);
        assert!(handover.nobody_comes(1));
        handover.left(1);
    }

    #[test]
    #[should_panic(expected = "nobody sent")]
    fn an_arrival_out_of_nowhere_is_our_own_mistake() {
        opened(&[5]).arrived(0);
    }
}
