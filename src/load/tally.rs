//! What a load thread counts: one [`Interval`] after another while the window is open, and what it says
//! at its end. Merged by adding up. Pure.

use super::payload::Wrong;
use super::trouble::Troubles;
use crate::statistics::Latencies;
use std::time::Duration;

/// What happened in one interval, of one thread or of all.
#[derive(Clone, Debug, Default)]
pub struct Interval {
    /// Which interval, from 0 at the beginning of the window.
    pub number: u64,
    /// Messages whose last byte came back in it.
    pub messages: u64,
    /// Messages of the window that were due by the schedule (open loop) and had not been sent when the
    /// grace ended. Each is in `response` with the time it had waited when the run gave up.
    pub unsent: u64,
    /// Messages of the window that were sent and not answered when the run gave up, or whose connection was
    /// lost; of an open loop, each is in `response` with the time it had waited by then. A life of a churn
    /// that was lost is none: it is a trouble, and in an open loop is lived again.
    pub unanswered: u64,
    /// Bytes the kernel took.
    pub bytes_sent: u64,
    /// Bytes that came back, every one compared where verification is on.
    pub bytes_received: u64,
    /// Connections made and ended (churn).
    pub connections: u64,
    /// From the time a message should have been sent (open loop) to its last byte, or until the run
    /// gave up where that never came. In a closed loop the same as `service`, and not recorded.
    pub response: Latencies,
    /// From the time a message was sent to its last byte.
    pub service: Latencies,
    /// From the SYN to the connection that stands (ramp and churn).
    pub connect: Latencies,
    /// From the close to the kernel's answer (churn).
    pub close: Latencies,
    /// How late a message was sent although its connection was free: the client's own fault.
    pub lag: Latencies,
    /// Connections open at its end.
    pub open: u32,
    /// What went wrong.
    pub troubles: Troubles,
}

impl Interval {
    /// Adds what happened in `other`; `open` is added too: it is another thread's.
    pub fn add(&mut self, other: &Self) {
        self.messages += other.messages;
        self.unsent += other.unsent;
        self.unanswered += other.unanswered;
        self.bytes_sent += other.bytes_sent;
        self.bytes_received += other.bytes_received;
        self.connections += other.connections;
        self.response.add(&other.response);
        self.service.add(&other.service);
        self.connect.add(&other.connect);
        self.close.add(&other.close);
        self.lag.add(&other.lag);
        self.open += other.open;
        self.troubles.add(&other.troubles);
    }
}

impl Interval {
    /// Forgets everything, and keeps the memory for the next one: a new interval's distributions are a
    /// megabyte that the kernel would have to find page by page, under load.
    pub fn clear(&mut self) {
        let latencies =
            [&mut self.response, &mut self.service, &mut self.connect, &mut self.close, &mut self.lag];
        // Clearing what is empty would touch its memory all the same.
        latencies.into_iter().filter(|times| times.samples() > 0).for_each(Latencies::clear);
        (self.number, self.messages, self.connections, self.open) = (0, 0, 0, 0);
        (self.bytes_sent, self.bytes_received) = (0, 0);
        (self.unsent, self.unanswered) = (0, 0);
        self.troubles = Troubles::default();
    }
}

/// What a thread says at its end.
#[derive(Clone, Debug, Default)]
pub struct Ended {
    /// How long each connection of the ramp took, and what went wrong in it.
    pub ramp: Interval,
    /// What went wrong, and was finished, after the window: in the grace and while closing.
    pub after: Interval,
    /// CPU time of the thread in the window.
    pub cpu: Duration,
    /// System calls of the thread in the window.
    pub system_calls: u64,
    /// Messages of each connection in the window: fewest, most, and the sums of them and of their squares
    /// (Jain's index is sum squared over count times sum of squares).
    pub spread: Spread,
    /// Connections still owed bytes when the grace was over: their numbers, at most a few, and how many.
    pub stuck: Stuck,
    /// Bytes that were wrong: the first few, and how many connections had some.
    pub wrong: Vec<Wrong>,
    /// Connections on which bytes were wrong.
    pub wrong_connections: u64,
    /// Times completions did not fit in the queue.
    pub overflows: u64,
    /// Times a receive found no buffer.
    pub empty_pool: u64,
    /// Completions for connections that were over, which must not happen.
    pub stale: u64,
    /// What carried the messages: the features in force, by name.
    pub features: Vec<(&'static str, String)>,
    /// Why the thread gave up, a sentence, where it did.
    pub failure: Option<String>,
}

/// How evenly the connections were served.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Spread {
    /// Connections that count.
    pub connections: u64,
    /// Connections that finished no message.
    pub silent: u64,
    /// Fewest messages of a connection.
    pub least: u64,
    /// Most messages of a connection.
    pub most: u64,
    /// Sum of the messages.
    pub sum: f64,
    /// Sum of their squares.
    pub sum_of_squares: f64,
}

/// Connections that were still owed bytes at the end.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stuck {
    /// How many.
    pub count: u64,
    /// The first few: number of the connection, bytes owed.
    pub first: Vec<(u32, u64)>,
}
