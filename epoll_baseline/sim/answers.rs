//! What the calls on a socket answer, each drawn among what is legal at that moment.

use super::{Closed, Outcome, Socket, Source, World};
use nix::errno::Errno;

impl World {
    /// The connection behind a socket. A number that is closed, or another's by now, is the server's
    /// mistake.
    pub(super) fn connection(&mut self, socket: &Socket, what: &str) -> Option<usize> {
        let named = self.descriptors.get(socket.descriptor as usize).copied().flatten();
        if named != Some(socket.serial) {
            self.violate(format!("I10: {what} on a socket that is closed: {socket:?}, now {named:?}"));
            return None;
        }
        named
    }

    pub(super) fn receive(&mut self, serial: usize, into: &mut [u8]) -> Result<usize, Errno> {
        if self.happens(self.odds.meanwhile) {
            self.meanwhile(serial);
        }
        if self.connections[serial].broken {
            return Err(self.broken(serial, Outcome::ReceiveReset));
        }
        let now = self.now;
        let one = &mut self.connections[serial];
        if one.unread() == 0 {
            let (answer, outcome) = if one.fin_arrived {
                one.end_seen = true;
                (Ok(0), Outcome::ReceiveEnd)
            } else {
                (Err(Errno::EAGAIN), Outcome::ReceiveWouldBlock)
            };
            self.note(outcome);
            return answer;
        }
        let mut length = (into.len() as u64).min(one.unread());
        let mut outcome = if length == one.unread() { Outcome::ReceiveAll } else { Outcome::ReceiveLimited };
        if let Some(mark) = one.urgent.filter(|&mark| mark < one.received + length) {
            if mark > one.received {
                length = mark - one.received;
                outcome = Outcome::ReceiveStopsAtUrgentMark;
            } else {
                one.urgent = None;
            }
        }
        for (offset, byte) in (one.received..).zip(&mut into[..length as usize]) {
            *byte = one.byte(offset);
        }
        if one.owed() == 0 {
            one.progress_at = now;
        }
        one.received += length;
        one.active_at = now;
        self.facts.received += length;
        if one.our_fin {
            one.discarded += length;
            self.facts.discarded += length;
        }
        self.note(outcome);
        Ok(length as usize)
    }

    pub(super) fn send(&mut self, serial: usize, bytes: &[u8]) -> Result<usize, Errno> {
        // More often behind a FIN: few sends come there.
        let share = if self.connections[serial].fin_arrived { 1 } else { 8 };
        if self.happens(self.odds.meanwhile / share) && self.may_reset(serial) {
            self.reset(serial);
            self.note(Outcome::ResetDuringSend);
        }
        if self.connections[serial].our_fin {
            self.violate("bytes are sent after our FIN".into());
        }
        if self.connections[serial].broken {
            return Err(self.broken(serial, Outcome::SendReset));
        }
        let memory = self.happens(self.odds.memory);
        let partial = self.happens(self.odds.partial);
        let free = self.connections[serial].free();
        if free == 0 || memory {
            let one = &mut self.connections[serial];
            one.no_space = true;
            one.short_of_memory |= free > 0;
            let full =
                if free == 0 { Outcome::SendWouldBlockFull } else { Outcome::SendWouldBlockShortOfMemory };
            self.note(full);
            return Err(Errno::EAGAIN);
        }
        let mut length = free.min(bytes.len() as u64);
        if partial {
            length = self.random.u64(1..=length);
        }
        self.take(serial, &bytes[..length as usize]);
        let one = &mut self.connections[serial];
        if length < bytes.len() as u64 {
            one.no_space = true;
            one.short_of_memory |= one.free() > 0;
            self.note(Outcome::SendPartial);
        } else {
            self.note(Outcome::SendAll);
        }
        Ok(length as usize)
    }

    /// Takes bytes to the peer: they must be what it wrote, in order (I1).
    pub(super) fn take(&mut self, serial: usize, bytes: &[u8]) {
        let now = self.now;
        let one = &mut self.connections[serial];
        let wrong = (one.taken..).zip(bytes).find(|&(offset, &byte)| byte != one.byte(offset));
        let (taken, received) = (one.taken + bytes.len() as u64, one.received);
        one.taken = taken;
        one.progress_at = now;
        self.facts.taken += bytes.len() as u64;
        if let Some((offset, _)) = wrong {
            self.violate(format!("I1: a wrong byte at {offset} of connection {serial}"));
        }
        if taken > received {
            self.violate(format!("I1: {taken} bytes sent of {received} received, connection {serial}"));
        }
    }

    /// What a call on a reset connection answers.
    pub(super) fn broken(&mut self, serial: usize, outcome: Outcome) -> Errno {
        let one = &mut self.connections[serial];
        let again = std::mem::replace(&mut one.error_seen, true);
        // After the peer's FIN, and after the first answer, the kernel says "broken pipe" to a send.
        if outcome == Outcome::SendReset && (again || one.fin_arrived) {
            self.note(Outcome::SendBrokenPipe);
            return Errno::EPIPE;
        }
        if outcome == Outcome::ReceiveReset && self.random.u8(0..4) == 0 {
            self.note(Outcome::ReceiveTimedOut);
            return Errno::ETIMEDOUT;
        }
        self.note(outcome);
        Errno::ECONNRESET
    }

    pub(super) fn accept(&mut self, index: usize) -> Result<Socket, Errno> {
        if let Some((outcome, error)) = self.accept_fault(index) {
            self.note(outcome);
            return Err(error);
        }
        let Some(descriptor) = self.descriptors.iter().position(Option::is_none) else {
            self.note(Outcome::AcceptOutOfDescriptors);
            return Err(Errno::EMFILE);
        };
        let Some(serial) = self.queues[index].waiting.pop_front() else {
            self.note(Outcome::AcceptNobody);
            return Err(Errno::EAGAIN);
        };
        self.descriptors[descriptor] = Some(serial);
        self.facts.accepted += 1;
        let descriptor = descriptor as u32;
        if descriptor < self.descriptors_used {
            self.note(Outcome::AcceptReusesDescriptor);
        }
        self.descriptors_used = self.descriptors_used.max(descriptor + 1);
        let now = self.now;
        let one = &mut self.connections[serial];
        one.descriptor = Some(descriptor);
        (one.active_at, one.progress_at) = (now, now);
        self.note(Outcome::AcceptDone);
        Ok(Socket { descriptor, serial })
    }

    pub(super) fn accept_fault(&mut self, index: usize) -> Option<(Outcome, Errno)> {
        if !self.happens(self.odds.accept) {
            return None;
        }
        let fault = [
            (Outcome::AcceptOutOfDescriptors, Errno::ENFILE),
            (Outcome::AcceptOutOfMemory, Errno::ENOMEM),
            (Outcome::AcceptOutOfMemory, Errno::ENOBUFS),
            (Outcome::AcceptAborted, Errno::ECONNABORTED),
            (Outcome::AcceptAborted, Errno::EPROTO),
            (Outcome::AcceptNetworkDown, Errno::ENETDOWN),
            (Outcome::AcceptNetworkDown, Errno::EHOSTUNREACH),
            (Outcome::AcceptInterrupted, Errno::EINTR),
            (Outcome::AcceptUnknownError, Errno::EIO),
        ][self.random.usize(0..9)];
        if fault.0 == Outcome::AcceptAborted {
            let serial = self.queues[index].waiting.pop_front()?;
            self.connections[serial].done = true;
            self.connections[serial].closed = true;
        }
        Some(fault)
    }

    pub(super) fn close(&mut self, socket: &Socket) {
        let Some(serial) = self.connection(socket, "close") else { return };
        self.descriptors[socket.descriptor as usize] = None;
        self.facts.closed += 1;
        self.ready.retain(|&source| source != Source::Connection(serial));
        let now = self.now;
        let one = &mut self.connections[serial];
        one.closed = true;
        one.done = true;
        let watch = one.watch.take();
        self.closed_lately.push(Closed {
            served: watch.is_some(),
            complete: one.end_seen && one.owed() == 0,
            error_seen: one.error_seen,
            owed: one.owed(),
            unread: one.unread(),
            promise_kept: one.promised.is_none_or(|promised| one.taken >= promised),
            told: one.promised.is_some(),
            our_fin: one.our_fin,
            silent: now - one.active_at,
            stuck: now - one.progress_at,
            lingering: now - one.fin_at,
        });
        let outcome = if one.unread() > 0 { Outcome::CloseWithUnreadBytes } else { Outcome::CloseClean };
        self.gone.extend(watch.map(|watch| watch.token));
        self.note(outcome);
    }

    pub(super) fn shutdown(&mut self, serial: usize) -> Result<(), Errno> {
        // Few shutdowns come at all.
        if self.odds.meanwhile > 0 && self.may_reset(serial) && self.random.u8(0..4) > 0 {
            self.reset(serial);
        }
        let now = self.now;
        let one = &mut self.connections[serial];
        if one.broken {
            one.error_seen = true;
            self.note(Outcome::ShutdownNotConnected);
            return Err(Errno::ENOTCONN);
        }
        if one.our_fin {
            self.violate("two FINs".into());
            return Ok(());
        }
        one.our_fin = true;
        one.fin_at = now;
        self.note(Outcome::ShutdownDone);
        self.list(Source::Connection(serial));
        Ok(())
    }
}
