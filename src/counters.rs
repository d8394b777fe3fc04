//! The numbers of one worker. One thread writes them, any thread may read them: a plain store each,
//! no locked instruction on the path of a message.
//!
//! What both servers count has a field; what only one of them counts is its own list of names.

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

/// Counters by name.
#[derive(Debug)]
pub struct Group {
    names: &'static [&'static str],
    values: Box<[Counter]>,
}

impl Group {
    /// One counter per name.
    #[must_use]
    pub fn new(names: &'static [&'static str]) -> Self {
        Self { names, values: names.iter().map(|_| Counter::default()).collect() }
    }

    /// The counter at `index` of the names.
    #[must_use]
    pub fn at(&self, index: usize) -> &Counter {
        &self.values[index]
    }

    /// Names and values, in the order of the names.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
        self.names.iter().copied().zip(self.values.iter().map(Counter::get))
    }
}

/// The account of one worker. Counters only grow; gauges say how many there are now.
#[derive(Debug)]
#[repr(align(128))] // Two workers' numbers never share a cache line (lines are fetched in pairs).
pub struct Counters {
    /// Connections accepted and served.
    pub accepted: Counter,
    /// Connections closed, by reason.
    pub closed: Group,
    /// Connections refused, by cause.
    pub refused: Group,
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
    pub own: Group,
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
            closed: Group::new(closed),
            refused: Group::new(refused),
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
        }
    }

    /// The common counters, by the names of the account. Sums over workers are wrapping.
    #[must_use]
    pub fn totals(&self) -> [(&'static str, u64); 10] {
        [
            ("accepted", self.accepted.get()),
            ("accept_errors", self.accept_errors.get()),
            ("bytes_received", self.bytes_received.get()),
            ("bytes_sent", self.bytes_sent.get()),
            ("bytes_discarded", self.bytes_discarded.get()),
            ("receives", self.receives.get()),
            ("sends", self.sends.get()),
            ("short_sends", self.short_sends.get()),
            ("system_calls", self.system_calls.get()),
            ("stale_events", self.stale_events.get()),
        ]
    }

    /// The gauges, by the names of the account.
    #[must_use]
    pub fn gauges(&self) -> [(&'static str, u64); 5] {
        [
            ("open", self.open.get()),
            ("lent", self.lent.get()),
            ("in_flight", self.in_flight.get()),
            ("waiting", self.waiting.get()),
            ("spilled", self.spilled.get()),
        ]
    }
}
