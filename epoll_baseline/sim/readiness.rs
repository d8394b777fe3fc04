//! Readiness as epoll has it: a socket joins the ready list when something happens to it, and what is
//! reported is what is true when the list is read. A level stays on the list, an edge leaves it, a
//! one-shot watch is disarmed.

use super::network::Watch;
use super::{EpollFlags, Events, Outcome, Source, Token, World};

impl World {
    pub(super) fn watch_of(&mut self, source: Source) -> Option<&mut Watch> {
        match source {
            Source::Connection(serial) => self.connections[serial].watch.as_mut(),
            Source::Listener(index) => self.queues[index].watch.as_mut(),
            Source::Waker => None,
        }
    }

    /// Puts a socket on the ready list, where its watch is armed.
    pub(super) fn list(&mut self, source: Source) {
        if source == Source::Waker {
            if !self.ready.contains(&source) {
                self.ready.push(source);
            }
            return;
        }
        if let Some(watch) = self.watch_of(source)
            && !watch.disarmed
            && !watch.listed
        {
            watch.listed = true;
            self.ready.push(source);
        }
    }

    /// What is true of a connection, as poll(2) has it.
    pub(super) fn poll(&mut self, serial: usize) -> EpollFlags {
        let one = &mut self.connections[serial];
        let mut flags = EpollFlags::empty();
        let mut set = |condition: bool, flag: EpollFlags| {
            if condition {
                flags |= flag;
            }
        };
        set(one.unread() > 0 || one.fin_arrived || one.broken, EpollFlags::EPOLLIN);
        set(one.fin_arrived || one.broken, EpollFlags::EPOLLRDHUP);
        set((one.fin_arrived && one.our_fin) || one.broken, EpollFlags::EPOLLHUP);
        set(one.broken && !one.error_seen, EpollFlags::EPOLLERR);
        set(one.is_writable() || one.broken, EpollFlags::EPOLLOUT);
        set(one.urgent.is_some_and(|mark| mark < one.arrived), EpollFlags::EPOLLPRI);
        if !flags.contains(EpollFlags::EPOLLOUT) {
            one.no_space = true;
        }
        flags
    }

    /// What epoll would report of a socket on the ready list.
    pub(super) fn report(&mut self, source: Source) -> EpollFlags {
        let always = EpollFlags::EPOLLHUP | EpollFlags::EPOLLERR;
        match source {
            Source::Waker => EpollFlags::EPOLLIN,
            Source::Listener(index) => match self.queues[index].watch {
                Some(watch) if !watch.disarmed && !self.queues[index].waiting.is_empty() => {
                    watch.interest & EpollFlags::EPOLLIN
                }
                _ => EpollFlags::empty(),
            },
            Source::Connection(serial) => match self.connections[serial].watch {
                Some(watch) if !watch.disarmed => self.poll(serial) & (watch.interest | always),
                _ => EpollFlags::empty(),
            },
        }
    }

    pub(super) fn harvest(&mut self, events: &mut Events) {
        let mut list = std::mem::take(&mut self.ready);
        if list.len() > 1 && self.random.bool() {
            self.random.shuffle(&mut list);
            self.note(Outcome::BatchOutOfOrder);
        }
        let mut room = events.capacity();
        if self.happens(self.odds.cut_short) {
            room = self.random.usize(1..=3).min(room);
        }
        for (index, &source) in list.iter().enumerate() {
            if room == 0 {
                self.note(Outcome::BatchCutShort);
                self.ready.extend(&list[index..]);
                return;
            }
            let ready = self.report(source);
            room -= usize::from(!ready.is_empty());
            self.deliver_event(source, ready, events);
        }
    }

    /// Reports one, and keeps on the list what stays on it.
    pub(super) fn deliver_event(&mut self, source: Source, ready: EpollFlags, events: &mut Events) {
        let Some(watch) = self.watch_of(source) else {
            if source == Source::Waker {
                events.push(Token::Waker, ready);
            }
            return;
        };
        watch.listed = false;
        if ready.is_empty() {
            return;
        }
        events.push(watch.token, ready);
        let (edge, one_shot) =
            (watch.interest.contains(EpollFlags::EPOLLET), watch.interest.contains(EpollFlags::EPOLLONESHOT));
        watch.disarmed = one_shot;
        if one_shot {
            self.note(Outcome::OneShotDisarmed);
        } else if edge {
            self.note(Outcome::EdgeReported);
        } else {
            watch.listed = true;
            self.ready.push(source);
            self.note(Outcome::LevelReportedAgain);
        }
        self.note_readiness(source, ready);
    }

    pub(super) fn note_readiness(&mut self, source: Source, ready: EpollFlags) {
        let Source::Connection(serial) = source else { return };
        let unread = self.connections[serial].unread() > 0;
        let mut note = |condition: bool, outcome| {
            if condition {
                self.coverage.note(outcome);
            }
        };
        let rdhup = ready.contains(EpollFlags::EPOLLRDHUP);
        note(rdhup && ready.contains(EpollFlags::EPOLLIN), Outcome::InWithRdhup);
        note(rdhup && unread, Outcome::RdhupBeforeDataRead);
        note(
            ready.contains(EpollFlags::EPOLLHUP) && !ready.contains(EpollFlags::EPOLLOUT),
            Outcome::HupWithoutOut,
        );
        note(ready.contains(EpollFlags::EPOLLERR | EpollFlags::EPOLLIN), Outcome::ErrWithIn);
        note(ready.contains(EpollFlags::EPOLLPRI), Outcome::Urgent);
    }

    /// Events for nothing, and for nobody.
    pub(super) fn mislead(&mut self, events: &mut Events) {
        if self.happens(self.odds.stale)
            && let Some(&token) = self.gone.get(self.random.usize(0..self.gone.len().max(1)))
            && events.push(token, EpollFlags::EPOLLIN | EpollFlags::EPOLLOUT)
        {
            self.facts.stale += 1;
            self.note(Outcome::StaleEvent);
        }
        if self.connections.is_empty() || !self.happens(self.odds.spurious) {
            return;
        }
        let serial = self.random.usize(0..self.connections.len());
        let (flag, outcome) = if self.random.bool() {
            (EpollFlags::EPOLLIN, Outcome::SpuriousIn)
        } else {
            (EpollFlags::EPOLLOUT, Outcome::SpuriousOut)
        };
        let Some(watch) = &mut self.connections[serial].watch else { return };
        if watch.disarmed || !watch.interest.contains(flag) || !events.push(watch.token, flag) {
            return;
        }
        watch.disarmed = watch.interest.contains(EpollFlags::EPOLLONESHOT);
        self.note(outcome);
    }

    pub(super) fn set_watch(&mut self, source: Source, token: Token, interest: EpollFlags) {
        let watch = Watch { token, interest, disarmed: false, listed: false };
        let listed = self.ready.contains(&source);
        match source {
            Source::Connection(serial) => self.connections[serial].watch = Some(Watch { listed, ..watch }),
            Source::Listener(index) => self.queues[index].watch = Some(Watch { listed, ..watch }),
            Source::Waker => {}
        }
        if !self.report(source).is_empty() {
            self.list(source);
        }
    }
}
