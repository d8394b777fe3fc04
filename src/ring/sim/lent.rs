//! Sends of several spans: what lies in each group, how the kernel takes it (a part at a time, all of it,
//! up to any byte), and what is the caller's again with each answer.

use super::super::Span;
use super::kernel::{InFlight, Kernel};
use super::odds::happens;
use super::operations::failure;
use super::outcome::Outcome;
use nix::errno::Errno;

/// One group.
#[derive(Debug, Default)]
pub(super) struct Group {
    spans: Vec<Span>,
    /// Bytes of them that the kernel took, and those the caller was told of.
    taken: u32,
    told: u32,
    /// A send takes them.
    flying: bool,
    /// A send is over and did not take them all.
    left: bool,
}

impl Group {
    fn total(&self) -> u32 {
        self.spans.iter().map(|span| span.length).sum()
    }

    /// Where each span ends, bytes from the start of the first.
    fn ends(&self) -> impl Iterator<Item = u32> + '_ {
        self.spans.iter().scan(0, |end, span| {
            *end += span.length;
            Some(*end)
        })
    }

    pub(super) fn spans(&self) -> &[Span] {
        &self.spans
    }

    pub(super) fn is_taken(&self) -> bool {
        self.taken == self.total()
    }

    /// The next `bytes` behind those that were taken, span by span.
    fn pieces(&self, bytes: u32) -> Vec<Span> {
        let (from, to) = (self.taken, self.taken + bytes);
        let pieces = self.spans.iter().zip(self.ends()).filter_map(|(span, end)| {
            let begin = end - span.length;
            let (first, last) = (from.max(begin), to.min(end));
            let piece =
                Span { offset: span.offset + u64::from(first - begin), length: last.checked_sub(first)? };
            (piece.length > 0).then_some(piece)
        });
        pieces.collect()
    }
}

impl Kernel {
    pub(super) fn lend(&mut self, group: u32, span: Span) {
        self.call();
        self.trace(|| format!("lend {span:?} to {group}"));
        if let Err(what) = self.buffers.check_sendable(span) {
            return self.violation(what);
        }
        let most = self.setup.lends;
        let group = self.groups.entry(group).or_default();
        let wrong = match () {
            () if group.flying => "a span was lent beside the send of its group",
            () if group.left => "a span was lent behind what an earlier send left",
            () if group.spans.len() >= most => "more spans were lent than a send may take",
            () => return group.spans.push(span),
        };
        self.violation(wrong);
    }

    pub(super) fn take_back(&mut self, group: u32) {
        self.call();
        let group = self.groups.entry(group).or_default();
        if group.flying || !group.left {
            return self.violation("a group was taken back that no send had left anything in");
        }
        *group = Group::default();
    }

    /// Begins the send of a group.
    pub(super) fn check_lent(&mut self, group: u32) -> Result<(), String> {
        match self.groups.get_mut(&group) {
            Some(one) if one.flying || one.left => Err(format!("I4: group {group} is being sent already")),
            Some(one) if !one.spans.is_empty() => {
                one.flying = true;
                Ok(())
            }
            _ => Err(format!("nothing lies in group {group}")),
        }
    }

    pub(super) fn run_lent(&mut self, op: &InFlight, group: u32) {
        while self.position(op.id).is_some() {
            self.take_some(op, group);
        }
    }

    fn take_some(&mut self, op: &InFlight, group: u32) {
        let number = op.connection.expect("a send names a socket");
        if let Some((outcome, errno)) = self.refusal(number) {
            let later = self.groups[&group].taken > 0;
            self.found_full(number);
            self.coverage.note(match (errno, later) {
                (Errno::EAGAIN, true) => Outcome::LentFullLater,
                (Errno::EAGAIN, false) => Outcome::LentFull,
                _ => outcome,
            });
            self.post(op.id, failure(errno), false, None);
            return;
        }
        let one = &self.groups[&group];
        let (taken, total) = (one.taken, one.total());
        let room = self.network.connections[number].room_to_echo();
        let most = room.min(u64::from(total - taken)) as u32;
        let short = most > 1 && happens(&mut self.random, self.odds.send_short);
        let bytes = if short { self.random.u32(1..most) } else { most };
        let between: Vec<u32> =
            one.ends().filter(|&end| end > taken && end <= taken + bytes && end < total).collect();
        // No fault: a kernel may answer part by part at any time.
        if !between.is_empty() && self.random.u8(0..8) > 0 {
            let end = between[self.random.usize(0..between.len())];
            return self.take_bytes(op, number, group, end - taken, true);
        }
        self.take_bytes(op, number, group, bytes, false);
    }

    fn take_bytes(&mut self, op: &InFlight, number: usize, group: u32, bytes: u32, more: bool) {
        for piece in self.groups[&group].pieces(bytes) {
            self.look_at(number, piece, piece.length);
            self.network.connections[number].echoed += u64::from(piece.length);
        }
        let one = self.groups.get_mut(&group).expect("it was just there");
        one.taken += bytes;
        let (whole, between) = (one.is_taken(), one.ends().any(|end| end == one.taken));
        self.coverage.note(match () {
            () if more && !self.queue_is_full() => Outcome::LentMore,
            () if whole => Outcome::LentWhole,
            () if between => Outcome::LentBetween,
            () => Outcome::LentWithin,
        });
        if !whole {
            self.found_full(number);
        }
        let connection = &mut self.network.connections[number];
        if connection.peer_gone {
            connection.broken = Some(Errno::ECONNRESET);
        }
        self.peers.on_echoed(number, self.now, &self.network);
        self.post(op.id, bytes as i32, more, None);
    }

    /// The caller is told of so many bytes: the spans that end there are its own again, and all of them with
    /// the last answer. Says whether some were left then.
    pub(super) fn told_of_lent(&mut self, number: usize, group: u32, bytes: u32, more: bool) -> bool {
        let one = self.groups.get_mut(&group).expect("a send of it was answered");
        let before = one.told;
        one.told += bytes;
        let over = one.spans.iter().zip(one.ends());
        let over = over.filter(|&(_, end)| end > before && (!more || end <= one.told));
        for (span, _) in over {
            let place = self.sending.iter().position(|sent| sent == &(number, *span));
            self.sending.swap_remove(place.expect("it is being sent"));
        }
        let left = one.told < one.total();
        if !more {
            *one = if left { Group { left, ..Group::default() } } else { Group::default() };
        }
        left && !more
    }
}
