//! The server's own numbers over exactly the measured window: CPU time, context switches and memory from
//! the kernel, and its account where it is a c10k. From this machine, or through an [agent](super::agent)
//! from another one. Costs the server nothing; needs the rights of its user, or root's.
//!
//! Leaves out system calls of a server that is no c10k: the kernel does not count them.

mod difference;
mod look;
mod remote;

pub use difference::difference;
pub use look::{Snapshot, Watched};

use super::plan::StatsFrom;
use crate::host::{listening, process};
use crate::result::server_stats::ServerStats;
use remote::Agent;
use std::net::SocketAddr;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// Whoever looks at a server at both edges of a window, on a thread of its own, so that nobody waits for
/// an answer.
#[derive(Debug)]
pub struct Lookout {
    orders: Sender<Order>,
    thread: JoinHandle<Result<ServerStats, String>>,
    whom: String,
}

#[derive(Clone, Copy, Debug)]
enum Order {
    Begin(Instant),
    End(Instant),
}

impl Lookout {
    /// Finds the server and looks at it once, to see that it can be done. Before the ramp: it may take a
    /// while. `target` is the address the load goes to.
    ///
    /// # Errors
    /// A sentence: there is no such process, nobody listens, no agent answers, or the right is missing.
    pub fn attach(from: StatsFrom, target: SocketAddr) -> Result<Option<Self>, String> {
        let place = match from {
            StatsFrom::None => return Ok(None),
            StatsFrom::Pid(pid) => Place::Here(Watched::open(pid)?),
            StatsFrom::Auto => Place::Here(Watched::open(find(target)?)?),
            StatsFrom::Agent(address) => Place::There(Box::new(Agent::find(address, target)?), address),
        };
        let mut source = Source { place, round_trip: None };
        source.practise()?;
        let whom = source.name();
        let (orders, waiting) = channel();
        let observe = move || Observation::new(source).until_the_end(&waiting);
        let thread = thread::Builder::new().name("c10k-lookout".into()).spawn(observe);
        let thread = thread.map_err(|error| format!("no thread to look at the server: {error}"))?;
        Ok(Some(Self { orders, thread, whom }))
    }

    /// Whom it looks at, such as `process 4711, through the agent at 10.0.0.2:8889`.
    #[must_use]
    pub fn whom(&self) -> &str {
        &self.whom
    }

    /// The window begins then. Forgets a window that was before.
    pub fn begin(&self, edge: Instant) {
        // The thread lives until this value is gone.
        let _ = self.orders.send(Order::Begin(edge));
    }

    /// The window ends then. May be said again with another time, as long as it has not ended.
    pub fn end(&self, edge: Instant) {
        let _ = self.orders.send(Order::End(edge));
    }

    /// The numbers. A look that was not due yet is taken now.
    ///
    /// # Errors
    /// A sentence, when the server ended, the agent is gone, or there was no window.
    pub fn finish(self) -> Result<ServerStats, String> {
        drop(self.orders);
        self.thread.join().unwrap_or_else(|_| Err("the thread that looks at the server failed".into()))
    }
}

/// The one process behind an address of this machine.
///
/// # Errors
/// A sentence: nobody, more than one, or somebody else's.
pub fn find(target: SocketAddr) -> Result<u32, String> {
    only(&listening::listeners(target)?, &target.to_string())
}

/// The process, if it is only one.
pub(super) fn only(found: &[u32], what: &str) -> Result<u32, String> {
    match found {
        [pid] => Ok(*pid),
        several => {
            let numbers: Vec<String> = several.iter().map(u32::to_string).collect();
            Err(format!(
                "processes {} all listen on {what}: name one of them with --server-stats PID",
                numbers.join(", ")
            ))
        }
    }
}

/// Where the server is.
#[derive(Debug)]
enum Place {
    Here(Watched),
    There(Box<Agent>, SocketAddr),
}

#[derive(Debug)]
struct Source {
    place: Place,
    /// The shortest time from a question to the agent's answer.
    round_trip: Option<Duration>,
}

/// A look, and when it was taken at the latest.
#[derive(Clone, Debug)]
struct Taken {
    snapshot: Snapshot,
    at: Instant,
}

impl Source {
    fn look(&mut self) -> Result<Taken, String> {
        match &mut self.place {
            Place::Here(watched) => {
                let snapshot = watched.snapshot()?;
                // It bears its own time: what comes after it in the look is slow and does not matter.
                let ago = Duration::from_nanos(process::monotonic().saturating_sub(snapshot.at_ns));
                Ok(Taken { snapshot, at: Instant::now() - ago })
            }
            Place::There(agent, _) => Ok(Taken { snapshot: agent.snapshot()?, at: Instant::now() }),
        }
    }

    /// Looks a few times without need: it shows whether it can be done, how long the way is, and that the
    /// next time is not slowed down by being the first.
    fn practise(&mut self) -> Result<(), String> {
        for _ in 0..3 {
            let asked = Instant::now();
            self.look()?;
            let took = asked.elapsed();
            if matches!(self.place, Place::There(..)) {
                self.round_trip = Some(self.round_trip.map_or(took, |least| least.min(took)));
            }
        }
        Ok(())
    }

    fn name(&self) -> String {
        match &self.place {
            Place::Here(watched) => format!("process {}", watched.pid()),
            Place::There(agent, address) => {
                format!("process {}, through the agent at {address}", agent.pid())
            }
        }
    }
}

/// An edge of the window.
#[derive(Debug, Default)]
struct Edge {
    due: Option<Instant>,
    taken: Option<Result<Taken, String>>,
}

impl Edge {
    fn waits_for(&self) -> Option<Instant> {
        self.due.filter(|_| self.taken.is_none())
    }
}

#[derive(Debug)]
struct Observation {
    source: Source,
    begin: Edge,
    end: Edge,
}

impl Observation {
    fn new(source: Source) -> Self {
        Self { source, begin: Edge::default(), end: Edge::default() }
    }

    fn until_the_end(mut self, orders: &Receiver<Order>) -> Result<ServerStats, String> {
        loop {
            let next = [&self.begin, &self.end].into_iter().filter_map(Edge::waits_for).min();
            let order = match next {
                // So far away that nobody waits for it.
                None => orders.recv_timeout(Duration::from_secs(1 << 30)),
                Some(due) => orders.recv_timeout(due.saturating_duration_since(Instant::now())),
            };
            match order {
                Ok(Order::Begin(edge)) if self.begin.taken.is_some() => {
                    self.end = Edge::default();
                    self.begin = Edge { due: Some(edge), taken: None };
                }
                Ok(Order::Begin(edge)) => self.begin.due = Some(edge),
                Ok(Order::End(edge)) => self.end.due = Some(edge),
                Err(RecvTimeoutError::Timeout) => self.take_due(Instant::now()),
                Err(RecvTimeoutError::Disconnected) => return self.finish(),
            }
        }
    }

    fn take_due(&mut self, now: Instant) {
        for edge in [&mut self.begin, &mut self.end] {
            if edge.waits_for().is_some_and(|due| due <= now) {
                edge.taken = Some(self.source.look());
            }
        }
    }

    fn finish(mut self) -> Result<ServerStats, String> {
        if self.begin.due.is_some() && self.end.taken.is_none() {
            self.end.due = Some(self.end.due.map_or_else(Instant::now, |due| due.min(Instant::now())));
            self.take_due(Instant::now());
        }
        let (Edge { due: Some(began), taken: Some(first) }, Edge { due: Some(ended), taken: Some(last) }) =
            (self.begin, self.end)
        else {
            return Err(NO_WINDOW.into());
        };
        if ended <= began {
            return Err(NO_WINDOW.into());
        }
        let (first, last) = (first?, last?);
        let mut stats = difference(&first.snapshot, &last.snapshot);
        let microseconds = |time: Duration| time.as_micros() as u64;
        stats.source = self.source.name();
        stats.round_trip_us = self.source.round_trip.map(microseconds);
        stats.late_begin_us = microseconds(first.at.saturating_duration_since(began));
        stats.late_end_us = microseconds(last.at.saturating_duration_since(ended));
        let window = microseconds(ended.saturating_duration_since(began));
        stats.notes.extend(late("beginning", stats.late_begin_us, window));
        stats.notes.extend(late("end", stats.late_end_us, window));
        Ok(stats)
    }
}

const NO_WINDOW: &str = "the load ended before its window began: there is nothing to say about the server";

/// What to say about a look that came late.
fn late(edge: &str, late_us: u64, window_us: u64) -> Option<String> {
    (late_us > window_us / 100).then(|| {
        format!(
            "the server was looked at {:.1} ms after the {edge} of the window, more than 1 % of it: its numbers belong \
             to a window that is shifted so far",
            late_us as f64 / 1e3
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    const NOWHERE: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 1);

    fn own() -> Lookout {
        Lookout::attach(StatsFrom::Pid(std::process::id()), NOWHERE).unwrap().unwrap()
    }

    #[test]
    fn a_window_is_looked_at_at_both_its_edges_and_the_end_may_come_earlier() {
        let lookout = own();
        let begin = Instant::now() + Duration::from_millis(20);
        lookout.begin(begin);
        lookout.end(begin + Duration::from_secs(3600));
        thread::sleep(Duration::from_millis(120));
        let end = Instant::now();
        lookout.end(end);
        thread::sleep(Duration::from_secs(1));
        let stats = lookout.finish().unwrap();
        assert_eq!(stats.source, format!("process {}", std::process::id()));
        assert!(stats.threads >= 2 && stats.account.is_none() && stats.round_trip_us.is_none());
        // However late the looks were, they say how late.
        let window = (end - begin).as_micros() as u64;
        assert!(stats.window_us + stats.late_begin_us >= window - 2, "{window} {stats:?}");
        let most = window + stats.late_end_us + 500_000;
        assert!(stats.window_us < most, "the end was not brought forward: {window} {stats:?}");
    }

    #[test]
    fn a_second_window_takes_the_place_of_the_first() {
        let lookout = own();
        let first = Instant::now();
        lookout.begin(first);
        lookout.end(first);
        thread::sleep(Duration::from_millis(60));
        lookout.begin(Instant::now());
        thread::sleep(Duration::from_millis(60));
        let stats = lookout.finish().unwrap();
        assert!(stats.window_us + stats.late_begin_us >= 59_998, "of the second one, up to now: {stats:?}");
    }

    #[test]
    fn without_a_window_there_is_nothing_to_say() {
        assert!(own().finish().unwrap_err().contains("before its window began"));
        assert!(Lookout::attach(StatsFrom::None, NOWHERE).unwrap().is_none());
    }

    #[test]
    fn a_server_that_ended_in_the_window_is_said_to() {
        let mut child = std::process::Command::new("sleep").arg("30").spawn().unwrap();
        let lookout = Lookout::attach(StatsFrom::Pid(child.id()), NOWHERE).unwrap().unwrap();
        lookout.begin(Instant::now());
        thread::sleep(Duration::from_millis(50));
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(lookout.finish().unwrap_err(), format!("there is no process {}", child.id()));
    }

    #[test]
    fn the_server_is_found_by_the_address_of_the_load() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let target = listener.local_addr().unwrap();
        let lookout = Lookout::attach(StatsFrom::Auto, target).unwrap().unwrap();
        assert_eq!(lookout.whom(), format!("process {}", std::process::id()));
        drop(listener);
        assert!(Lookout::attach(StatsFrom::Auto, target).unwrap_err().contains("no process of this machine"));
        assert!(only(&[3, 4], "port 1").unwrap_err().starts_with("processes 3, 4 all listen on port 1"));
    }

    #[test]
    fn a_look_is_late_beyond_a_hundredth_of_the_window() {
        assert_eq!(late("end", 10_000, 1_000_000), None);
        assert!(late("end", 10_001, 1_000_000).unwrap().contains("10.0 ms after the end"));
        assert!(late("beginning", 1, 0).is_some());
    }
}
