//! The numbers of one worker. One thread writes them, any thread may read them: a plain store each,
//! no locked instruction on the path of a message.
//!
//! What both servers count has a field; what only one of them counts is its own list of names. All of a
//! worker's numbers lie in one piece without a pointer among them, so that they can be placed in memory
//! which others read ([`Counters::places`]). Does not know who reads.

use std::sync::atomic::{AtomicU64, Ordering};

/// One number with one writer.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds. Only the worker that owns the counters calls this: two writers would lose counts.
    #[inline]
    pub fn add(&self, amount: u64) {
        self.0.store(self.0.load(Ordering::Relaxed).wrapping_add(amount), Ordering::Relaxed);
    }

    /// Subtracts, for gauges. A gauge of one worker may go below zero where another worker undoes
    /// what this one did; the sum over all workers is right, in wrapping arithmetic.
    #[inline]
    pub fn subtract(&self, amount: u64) {
        self.0.store(self.0.load(Ordering::Relaxed).wrapping_sub(amount), Ordering::Relaxed);
    }

    /// Sets, for gauges.
    #[inline]
    pub fn set(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }

    /// Reads.
    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Counters by name, at most `MOST` of them. In place, so that an index known at compile time costs
/// neither a check nor a pointer.
#[derive(Debug)]
pub struct Group<const MOST: usize> {
    values: [Counter; MOST],
    names: &'static [&'static str],
}

impl<const MOST: usize> Group<MOST> {
    /// One counter per name.
    #[must_use]
    pub fn new(names: &'static [&'static str]) -> Self {
        assert!(names.len() <= MOST, "{} names where {MOST} counters have room", names.len());
        Self { values: std::array::from_fn(|_| Counter::default()), names }
    }

    /// The counter at `index` of the names.
    #[must_use]
    #[inline]
    pub fn at(&self, index: usize) -> &Counter {
        debug_assert!(index < self.names.len(), "no name for counter {index}");
        &self.values[index]
    }

    /// Names and values, in the order of the names.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
        self.counters().map(|(name, counter)| (name, counter.get()))
    }

    fn counters(&self) -> impl Iterator<Item = (&'static str, &Counter)> {
        self.names.iter().copied().zip(&self.values)
    }
}

/// Reasons and causes there is room for, and numbers of a backend's own.
const REASONS_MOST: usize = 16;
const OWN_MOST: usize = 32;

/// The account of one worker. Counters only grow; gauges say how many there are now.
#[derive(Debug)]
// Two workers' numbers never share a cache line (lines are fetched in pairs); in the order they stand
// here, so that what every message touches lies together.
#[repr(C, align(128))]
pub struct Counters {
    /// Connections accepted and served.
    pub accepted: Counter,
    /// Attempts to accept that the kernel answered with an error, or re-armed because of one.
    pub accept_errors: Counter,
    /// Bytes received.
    pub bytes_received: Counter,
    /// Bytes the kernel took from us.
    pub bytes_sent: Counter,
    /// Bytes received after our FIN and thrown away.
    pub bytes_discarded: Counter,
    /// Receives that brought bytes.
    pub receives: Counter,
    /// Sends of which the kernel took something.
    pub sends: Counter,
    /// Sends of which the kernel took less than it was offered.
    pub short_sends: Counter,
    /// Entries into the kernel made by the event loop, of every kind.
    pub system_calls: Counter,
    /// Events for a connection that was gone.
    pub stale_events: Counter,
    /// Gauge: connections open.
    pub open: Counter,
    /// Gauge: shared buffers that hold bytes of a connection.
    pub lent: Counter,
    /// Gauge: operations the kernel has not answered yet, for connections.
    pub in_flight: Counter,
    /// Gauge: connections that wait for a buffer.
    pub waiting: Counter,
    /// Gauge: bytes that wait in the spill area for stuck peers.
    pub spilled: Counter,
    /// What only this backend counts.
    pub own: Group<OWN_MOST>,
    /// Connections closed, by reason.
    pub closed: Group<REASONS_MOST>,
    /// Connections refused, by cause.
    pub refused: Group<REASONS_MOST>,
}

impl Counters {
    /// All zero. `closed` and `refused` are the names of the connection policy's reasons, `own` the
    /// names of what only this backend counts.
    #[must_use]
    pub fn new(
        closed: &'static [&'static str],
        refused: &'static [&'static str],
        own: &'static [&'static str],
    ) -> Self {
        let zero = Counter::default;
        Self {
            accepted: zero(),
            accept_errors: zero(),
            bytes_received: zero(),
            bytes_sent: zero(),
            bytes_discarded: zero(),
            receives: zero(),
            sends: zero(),
            short_sends: zero(),
            system_calls: zero(),
            stale_events: zero(),
            open: zero(),
            lent: zero(),
            in_flight: zero(),
            waiting: zero(),
            spilled: zero(),
            own: Group::new(own),
            closed: Group::new(closed),
            refused: Group::new(refused),
        }
    }

    /// The common counters, by the names of the account. Sums over workers are wrapping.
    #[must_use]
    pub fn totals(&self) -> [(&'static str, u64); 10] {
        self.common().map(|(name, counter)| (name, counter.get()))
    }

    /// The gauges, by the names of the account.
    #[must_use]
    pub fn gauges(&self) -> [(&'static str, u64); 5] {
        self.present().map(|(name, counter)| (name, counter.get()))
    }

    /// Where each number lies, for a reader of the memory.
    #[must_use]
    pub fn places(&self) -> Places {
        let place = |(name, counter): (&'static str, &Counter)| {
            let begin = std::ptr::from_ref(self).addr();
            (name, (std::ptr::from_ref(counter).addr() - begin) as u64)
        };
        Places {
            counters: self.common().into_iter().chain(self.own.counters()).map(place).collect(),
            closed: self.closed.counters().map(place).collect(),
            refused: self.refused.counters().map(place).collect(),
            gauges: self.present().map(place).to_vec(),
        }
    }

    fn common(&self) -> [(&'static str, &Counter); 10] {
        [
            ("accepted", &self.accepted),
            ("accept_errors", &self.accept_errors),
            ("bytes_received", &self.bytes_received),
            ("bytes_sent", &self.bytes_sent),
            ("bytes_discarded", &self.bytes_discarded),
            ("receives", &self.receives),
            ("sends", &self.sends),
            ("short_sends", &self.short_sends),
            ("system_calls", &self.system_calls),
            ("stale_events", &self.stale_events),
        ]
    }

    fn present(&self) -> [(&'static str, &Counter); 5] {
        [
            ("open", &self.open),
            ("lent", &self.lent),
            ("in_flight", &self.in_flight),
            ("waiting", &self.waiting),
            ("spilled", &self.spilled),
        ]
    }
}

/// Byte offsets of the numbers of one worker from the beginning of its [`Counters`], by name, in the
/// order of the account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Places {
    /// What only grows.
    pub counters: Vec<(&'static str, u64)>,
    /// Connections closed, by reason.
    pub closed: Vec<(&'static str, u64)>,
    /// Connections refused, by cause.
    pub refused: Vec<(&'static str, u64)>,
    /// What there is now.
    pub gauges: Vec<(&'static str, u64)>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_number_has_a_place_of_its_own_inside_the_workers_memory() {
        let counters = Counters::new(&["finished", "reset"], &["full"], &["enters"]);
        let places = counters.places();
        let all = [&places.counters, &places.closed, &places.refused, &places.gauges];
        let offsets: Vec<u64> = all.into_iter().flatten().map(|&(_, offset)| offset).collect();
        assert_eq!(offsets.len(), 10 + 1 + 2 + 1 + 5);
        assert!(offsets.iter().all(|offset| offset % 8 == 0 && *offset < size_of::<Counters>() as u64));
        assert_eq!(offsets.iter().collect::<BTreeSet<_>>().len(), offsets.len());
    }

    #[test]
    #[should_panic(expected = "have room")]
    fn more_names_than_room_are_our_own_mistake() {
        let _ = Group::<1>::new(&["one", "two"]);
    }
}
