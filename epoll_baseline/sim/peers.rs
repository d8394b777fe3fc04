//! What happens at the other ends and on the way: one small step at a time, drawn from the seed.

use super::network::{Connection, Ending, Reading};
use super::{EpollFlags, Odds, Outcome, Source, World};

impl World {
    /// The faults are over: everybody reads, and comes to an end.
    pub(in crate::epoll_baseline) fn heal(&mut self) {
        self.odds = Odds::NONE;
        self.to_come.iter_mut().for_each(|(at, _)| *at = 0);
        self.connections.iter_mut().for_each(|one| one.peer.heal());
    }

    /// Bytes and ends that are still to come, a measure for the steps it may take.
    pub(in crate::epoll_baseline) fn outstanding(&self) -> u64 {
        let bytes = |one: &Connection| one.peer.total - one.received + one.owed() + one.taken - one.read;
        let open = self.connections.iter().filter(|one| !one.closed);
        open.map(|one| 10 + bytes(one)).sum::<u64>() + 2000 * self.to_come.len() as u64
    }

    /// When something will happen by itself, if ever: now (0), or later.
    pub(in crate::epoll_baseline) fn next_step(&self) -> Option<u64> {
        let connect = self.to_come.front().map(|&(at, _)| at);
        let act = self.connections.iter().filter_map(|one| self.next_act(one)).min();
        [connect, act].into_iter().flatten().min()
    }

    fn next_act(&self, one: &Connection) -> Option<u64> {
        let on_the_way = !one.closed && (one.written > one.arrived || one.finished != one.fin_arrived);
        if one.short_of_memory || (on_the_way && !one.broken) {
            return Some(0);
        }
        if one.done || one.broken {
            return None;
        }
        let acts = self.can_write(one) || self.can_read(one) || self.can_end(one);
        acts.then_some(one.peer.rests_until)
    }

    fn can_write(&self, one: &Connection) -> bool {
        one.written < one.peer.total && one.written - one.received < one.inbound && !one.finished
    }

    fn can_read(&self, one: &Connection) -> bool {
        one.taken > one.read
            && match one.peer.reading {
                Reading::Eager | Reading::Slow => true,
                Reading::Afterwards => one.written == one.peer.total,
                Reading::Never => false,
            }
    }

    fn can_end(&self, one: &Connection) -> bool {
        match one.peer.ending {
            Ending::HalfClose => one.written == one.peer.total && !one.finished,
            Ending::AwaitEcho => {
                one.written == one.peer.total && (one.read == one.written || one.our_fin) && !one.finished
            }
            Ending::Reset(at) => one.written >= at,
            // When our FIN comes, it does not stay.
            Ending::Stay => one.our_fin && !one.finished,
        }
    }

    /// One thing happens, if anything can.
    pub(in crate::epoll_baseline) fn step(&mut self) {
        if self.to_come.front().is_some_and(|&(at, _)| at <= self.now) && self.random.bool() {
            return self.connect();
        }
        let count = self.connections.len();
        if count == 0 {
            return;
        }
        if self.happens(self.odds.spurious) {
            // A wake-up without news: an edge for what was known.
            let serial = self.random.usize(0..count);
            self.list(Source::Connection(serial));
            self.note(Outcome::SpuriousWakeup);
        }
        // From anywhere on, the first that can: nobody is starved, nobody is favoured.
        let first = self.random.usize(0..count);
        for serial in (first..count).chain(0..first) {
            let due = self.next_act(&self.connections[serial]);
            if due.is_some_and(|at| at <= self.now) {
                return self.act(serial);
            }
        }
    }

    fn connect(&mut self) {
        let Some((_, listener)) = self.to_come.pop_front() else { return };
        let key = self.random.u64(..);
        let mut one = Connection::new(key, &mut self.random, self.now);
        let serial = self.connections.len();
        if self.odds == Odds::NONE {
            one.peer.heal();
        }
        if self.happens(self.odds.urgent) {
            one.urgent = Some(self.random.u64(0..=one.peer.total));
        }
        if self.queues[listener].closed {
            one.done = true;
            one.closed = true;
        } else {
            self.queues[listener].waiting.push_back(serial);
        }
        self.connections.push(one);
        self.list(Source::Listener(listener));
    }

    fn act(&mut self, serial: usize) {
        let one = &mut self.connections[serial];
        if one.short_of_memory {
            one.short_of_memory = false;
            return self.room(serial);
        }
        let on_the_way = one.written > one.arrived || (one.finished && !one.fin_arrived);
        let (write, read, end) = {
            let one = &self.connections[serial];
            let acts = !one.done && !one.broken && one.peer.rests_until <= self.now;
            (acts && self.can_write(one), acts && self.can_read(one), acts && self.can_end(one))
        };
        // One of those that are possible, at random.
        let mut choice = self
            .random
            .usize(0..usize::from(on_the_way) + usize::from(write) + usize::from(read) + usize::from(end));
        for (possible, act) in [
            (on_the_way, Self::arrive as fn(&mut Self, usize)),
            (write, Self::write),
            (read, Self::read),
            (end, Self::end),
        ] {
            if possible {
                if choice == 0 {
                    return act(self, serial);
                }
                choice -= 1;
            }
        }
    }

    /// Some of what is on its way arrives; a FIN only behind the last byte, perhaps along with it.
    fn arrive(&mut self, serial: usize) {
        let one = &mut self.connections[serial];
        let coming = one.written - one.arrived;
        let bytes = if coming > 0 { self.random.u64(1..=coming) } else { 0 };
        one.arrived += bytes;
        let fin = one.finished && one.arrived == one.written && (bytes == 0 || self.random.bool());
        one.fin_arrived = fin;
        if fin {
            self.note(if bytes > 0 { Outcome::FinTogetherWithData } else { Outcome::FinAlone });
        }
        self.list(Source::Connection(serial));
    }

    fn write(&mut self, serial: usize) {
        let one = &mut self.connections[serial];
        let room = one.inbound - (one.written - one.received);
        let most = (one.peer.total - one.written).min(room).min(one.peer.piece);
        one.written += self.random.u64(1..=most);
        let blocked = room == most && one.written < one.peer.total;
        if one.peer.rest > 0 {
            one.peer.rests_until = self.now + self.random.u64(0..one.peer.rest);
        }
        if blocked {
            self.note(Outcome::PeerBlocked);
        }
    }

    fn read(&mut self, serial: usize) {
        let one = &mut self.connections[serial];
        let most = one.taken - one.read;
        let most = if one.peer.reading == Reading::Slow { most.min(5) } else { most };
        one.read += self.random.u64(1..=most);
        if one.peer.reading == Reading::Slow && one.peer.rest > 0 {
            one.peer.rests_until = self.now + self.random.u64(0..one.peer.rest);
        }
        self.room(serial);
    }

    /// Room came free: reported where somebody was refused.
    fn room(&mut self, serial: usize) {
        let one = &mut self.connections[serial];
        if one.no_space && one.is_writable() && !one.closed {
            one.no_space = false;
            self.note(Outcome::RoomReported);
            self.list_for(serial, EpollFlags::EPOLLOUT);
        }
    }

    /// Puts a connection on the ready list, if what happened interests its watch.
    fn list_for(&mut self, serial: usize, what: EpollFlags) {
        if self.connections[serial].watch.is_some_and(|watch| watch.interest.intersects(what)) {
            self.list(Source::Connection(serial));
        }
    }

    fn end(&mut self, serial: usize) {
        if matches!(self.connections[serial].peer.ending, Ending::Reset(_)) {
            self.note(Outcome::PeerResets);
            return self.reset(serial);
        }
        self.connections[serial].finished = true;
        self.note(Outcome::PeerHalfCloses);
    }

    pub(super) fn may_reset(&self, serial: usize) -> bool {
        !self.connections[serial].broken
    }

    pub(super) fn reset(&mut self, serial: usize) {
        let one = &mut self.connections[serial];
        one.broken = true;
        one.done = true;
        self.list(Source::Connection(serial));
    }

    /// Something happens between the event and the receive it announced.
    pub(super) fn meanwhile(&mut self, serial: usize) {
        if self.may_reset(serial) && self.random.u8(0..16) == 0 {
            self.reset(serial);
            return self.note(Outcome::ResetDuringReceive);
        }
        let one = &self.connections[serial];
        if !one.done && self.can_write(one) {
            self.write(serial);
        }
        let one = &self.connections[serial];
        if !one.done && self.can_end(one) && !matches!(one.peer.ending, Ending::Reset(_)) {
            self.end(serial);
        }
        let coming = |one: &Connection| one.written > one.arrived || (one.finished && !one.fin_arrived);
        let all = self.random.bool();
        let whole = !self.connections[serial].broken;
        while whole && coming(&self.connections[serial]) {
            let had_fin = self.connections[serial].fin_arrived;
            self.arrive(serial);
            let fin = self.connections[serial].fin_arrived && !had_fin;
            self.note(if fin { Outcome::FinArrivesDuringReceive } else { Outcome::DataArrivesDuringReceive });
            if !all {
                return;
            }
        }
    }
}
