//! From [`Typed`] to [`Plan`]: every setting read, bounded, held against the others and against the host,
//! and the command that repeats the load. All problems are reported, each naming flag, value and what
//! would do. The host's facts come in as values and functions, so that all of it is pure.

mod capacity;
mod quantities;
mod repeat;
mod sources;
mod target;
#[cfg(test)]
mod tests;

use super::condition::Condition;
use super::plan::{Arrivals, End, Engine, Format, Outputs, Plan, Spacing, StatsFrom, Workload};
use super::typed::Typed;
use capacity::Sockets;
use quantities::{HOUR, Reader};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

/// What the host and the kernel said. `None` is "n/a" or "no limit": nothing is checked against it.
pub struct Facts<'a> {
    /// The CPUs of the affinity mask, ascending.
    pub cpus: Vec<usize>,
    /// Descriptors this process may have, once the soft limit is raised.
    pub descriptors: Option<u64>,
    /// The first and the last port the kernel gives to who connects.
    pub ports: Option<(u16, u16)>,
    /// Bytes of memory there are.
    pub memory: Option<u64>,
    /// Why there is no io_uring here, a sentence; `None` where there is.
    pub uring_unavailable: Option<String>,
    /// The seed where none is typed.
    pub seed: u64,
    /// The addresses of a name, the one to use first.
    pub lookup: &'a dyn Fn(&str, u16) -> io::Result<Vec<SocketAddr>>,
    /// Whether an address is this host's.
    pub owns: &'a dyn Fn(IpAddr) -> bool,
}

/// A load that can run, and what is to be done with what it comes to.
#[derive(Clone, Debug)]
pub struct Checked {
    /// What runs.
    pub plan: Plan,
    /// Where the result goes.
    pub outputs: Outputs,
    /// What must not hold at the end.
    pub fail_if: Vec<Condition>,
    /// What must hold at the rate that is searched.
    pub find_rate: Option<Condition>,
    /// Whether a suspect measurement fails.
    pub strict: bool,
    /// The command that repeats it, every default resolved.
    pub command: String,
    /// What was decided otherwise than by default, a sentence each.
    pub notes: Vec<String>,
}

/// Why a load cannot run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// Every problem, a sentence each.
    pub problems: Vec<String>,
    /// Whether it lies in this kernel alone and not in what was typed.
    pub unavailable: bool,
}

/// Message identities have 28 bits for the connection.
const CONNECTIONS_MAX: u64 = (1 << 28) - 1;
const DEPTH_MAX: u64 = 4096;
const THREADS_MAX: u64 = 1024;
/// Messages a second at most: one each nanosecond is more than the clock tells apart.
const RATE_MAX: u64 = 100_000_000;
const SHORTEST: Duration = Duration::from_millis(10);
const DAY: Duration = Duration::from_secs(24 * 3600);
const PERCENTILES: [f64; 5] = [50.0, 90.0, 99.0, 99.9, 99.99];

/// Checks everything.
///
/// # Errors
/// All problems.
pub fn check(typed: &Typed, facts: &Facts<'_>) -> Result<Checked, Refused> {
    let mut check = Check { typed, facts, read: Reader::default(), notes: Vec::new(), unavailable: None };
    let workload = check.workload();
    let plan = check.plan(workload);
    let outputs = check.outputs(workload);
    let fail_if = typed.fail_if.iter().filter_map(|text| check.condition("--fail-if", text)).collect();
    let find_rate = typed.find_rate.as_ref().and_then(|text| check.condition("--find-rate", text));
    check.together(workload);
    let Check { mut read, notes, unavailable, .. } = check;
    let only_missing = read.problems.is_empty() && unavailable.is_some();
    read.problems.extend(unavailable);
    if !read.problems.is_empty() {
        return Err(Refused { problems: read.problems, unavailable: only_missing });
    }
    let mut checked =
        Checked { plan, outputs, fail_if, find_rate, strict: typed.strict, command: String::new(), notes };
    checked.command = repeat::command(&checked);
    Ok(checked)
}

struct Check<'a> {
    typed: &'a Typed,
    facts: &'a Facts<'a>,
    read: Reader,
    notes: Vec<String>,
    /// What this kernel does not offer, a sentence.
    unavailable: Option<String>,
}

impl Check<'_> {
    fn condition(&mut self, flag: &str, text: &str) -> Option<Condition> {
        Condition::parse(text).map_err(|sentence| self.read.wrong(format!("{flag}: {sentence}"))).ok()
    }

    fn workload(&mut self) -> Workload {
        let choices = [
            ("pingpong", Workload::PingPong),
            ("stream", Workload::Stream),
            ("churn", Workload::Churn),
            ("idle", Workload::Idle),
        ];
        if self.typed.workload.is_none() && self.typed.agent.is_none() {
            self.read.wrong("WORKLOAD: none was given; pingpong, stream, churn or idle would do");
        }
        // What is wrong is reported; the rest is checked as if it were the plainest one.
        self.read.choice("WORKLOAD", &self.typed.workload, &choices).unwrap_or(Workload::PingPong)
    }

    fn plan(&mut self, workload: Workload) -> Plan {
        let typed = self.typed;
        let target = self.target();
        let connections = self.connections(workload);
        let depth = self.read.count("--depth", &typed.depth, 1..=DEPTH_MAX).unwrap_or(1) as u32;
        let engine = self.engine();
        let cpus = self.cpus();
        let sockets = self.sockets(connections, engine, &cpus);
        let every = self.read.time("--every", &typed.every, SHORTEST..=HOUR).unwrap_or(EVERY);
        self.memory(connections, depth);
        let connect_rate = Self::auto(&typed.connect_rate);
        Plan {
            workload,
            target,
            connections,
            size: self.read.size(&typed.size).unwrap_or(default_size(workload)),
            depth,
            arrivals: self.arrivals(workload, connections, every),
            end: self.end(workload, every),
            warmup: self.warmup(workload),
            grace: self.read.time("--grace", &typed.grace, Duration::ZERO..=HOUR).unwrap_or(GRACE),
            threads: sockets.threads,
            cpus,
            engine,
            direct: sockets.direct,
            sources: self.sources(workload, target, connections),
            connect_rate: self
                .read
                .count("--connect-rate", &connect_rate, 1..=RATE_MAX)
                .map(|rate| rate as f64),
            connect_timeout: self
                .read
                .time("--connect-timeout", &typed.connect_timeout, SHORTEST..=HOUR)
                .unwrap_or(CONNECT_TIMEOUT),
            verify: !typed.no_verify,
            latency: !typed.no_latency,
            seed: self.seed(),
            interval: self.read.time("--interval", &typed.interval, SHORTEST..=HOUR).unwrap_or(INTERVAL),
            server_stats: self.server_stats(),
        }
    }

    /// Where `auto` is the same as nothing.
    fn auto(typed: &Option<String>) -> Option<String> {
        typed.clone().filter(|text| text != "auto")
    }

    fn target(&mut self) -> SocketAddr {
        let text = self.typed.target.as_deref().unwrap_or(target::TARGET_DEFAULT);
        target::target(text, self.facts.lookup).unwrap_or_else(|sentence| {
            self.read.wrong(sentence);
            SocketAddr::from(([127, 0, 0, 1], 1))
        })
    }

    fn connections(&mut self, workload: Workload) -> u32 {
        let typed = self.read.count("--connections", &self.typed.connections, 1..=CONNECTIONS_MAX);
        let one_a_thread = || {
            let threads = self.typed.threads.as_deref()?;
            crate::units::parse_count(threads).ok().filter(|threads| (1..=THREADS_MAX).contains(threads))
        };
        let default = || match workload {
            Workload::PingPong => 100,
            Workload::Stream => 16,
            // The client of the original study: 17 threads with a connection each.
            Workload::Churn => one_a_thread().unwrap_or(17),
            Workload::Idle => 10_000,
        };
        typed.unwrap_or_else(default) as u32
    }

    fn arrivals(&mut self, workload: Workload, connections: u32, every: Duration) -> Arrivals {
        let spacings = [("poisson", Spacing::Poisson), ("uniform", Spacing::Uniform)];
        let spacing = self.read.choice("--arrival", &self.typed.arrival, &spacings);
        let rate = self.read.count("--rate", &self.typed.rate, 1..=RATE_MAX);
        let spacing = spacing.unwrap_or(Spacing::Poisson);
        match rate {
            _ if workload == Workload::Idle => Arrivals::Open {
                rate: f64::from(connections) / every.as_secs_f64(),
                spacing: Spacing::Uniform,
            },
            Some(rate) => Arrivals::Open { rate: rate as f64, spacing },
            // A place for the spacing; the search sets the rate.
            None if self.typed.find_rate.is_some() => Arrivals::Open { rate: FIND_RATE_FIRST, spacing },
            None => Arrivals::Closed,
        }
    }

    fn end(&mut self, workload: Workload, every: Duration) -> End {
        let duration = self.read.time("--duration", &self.typed.duration, SHORTEST..=7 * DAY);
        let messages = self.read.count("--messages", &self.typed.messages, 1..=u64::MAX);
        let default = match workload {
            _ if self.typed.find_rate.is_some() => STEP,
            // Each connection has to echo once.
            Workload::Idle => DURATION.max(every),
            _ => DURATION,
        };
        match messages {
            Some(messages) => End::Messages(messages),
            None => End::After(duration.unwrap_or(default)),
        }
    }

    fn warmup(&mut self, workload: Workload) -> Duration {
        let default = match workload {
            Workload::Idle => Duration::ZERO,
            _ if self.typed.messages.is_some() => Duration::ZERO,
            _ if self.typed.find_rate.is_some() => STEP_WARMUP,
            _ => WARMUP,
        };
        self.read.time("--warmup", &self.typed.warmup, Duration::ZERO..=HOUR).unwrap_or(default)
    }

    fn cpus(&mut self) -> Vec<usize> {
        let Some(text) = &self.typed.cpus else { return Vec::new() };
        crate::units::parse_cpus(text, &self.facts.cpus).unwrap_or_else(|reasons| {
            reasons.into_iter().for_each(|reason| self.read.wrong(format!("--cpus: {reason}")));
            Vec::new()
        })
    }

    fn engine(&mut self) -> Engine {
        let choices = [("auto", None), ("uring", Some(Engine::Uring)), ("epoll", Some(Engine::Epoll))];
        let typed = self.read.choice("--engine", &self.typed.engine, &choices).flatten();
        match (typed, &self.facts.uring_unavailable) {
            (Some(Engine::Uring), Some(why)) => {
                self.unavailable =
                    Some(format!("--engine: uring cannot run here: {why} --engine epoll would do"));
                Engine::Uring
            }
            (Some(engine), _) => engine,
            (None, None) => Engine::Uring,
            (None, Some(why)) => {
                self.notes.push(format!("--engine auto took epoll: uring cannot run here: {why}"));
                Engine::Epoll
            }
        }
    }

    fn sockets(&mut self, connections: u32, engine: Engine, cpus: &[usize]) -> Sockets {
        let choices = [("auto", None), ("on", Some(true)), ("off", Some(false))];
        let asked = capacity::Asked {
            connections,
            engine,
            direct: self.read.choice("--direct", &self.typed.direct, &choices).flatten(),
            threads: self.read.count("--threads", &self.typed.threads, 1..=THREADS_MAX),
            cpus: if cpus.is_empty() { self.facts.cpus.len() } else { cpus.len() },
            descriptors: self.facts.descriptors,
        };
        let sockets = capacity::sockets(&asked);
        self.read.problems.extend(sockets.problems.iter().cloned());
        self.notes.extend(sockets.notes.iter().cloned());
        sockets
    }

    fn memory(&mut self, connections: u32, depth: u32) {
        let Some(memory) = self.facts.memory else { return };
        let sentence = capacity::memory(connections, depth, memory);
        self.read.problems.extend(sentence);
    }

    fn sources(&mut self, workload: Workload, target: SocketAddr, connections: u32) -> Vec<IpAddr> {
        let asked = sources::Asked {
            typed: self.typed.source.as_deref(),
            target,
            connections,
            workload,
            ports: self.facts.ports.unwrap_or(PORTS),
            owns: self.facts.owns,
        };
        sources::sources(&asked).unwrap_or_else(|problems| {
            self.read.problems.extend(problems);
            Vec::new()
        })
    }

    fn seed(&mut self) -> u64 {
        self.read.count("--seed", &self.typed.seed, 0..=u64::MAX).unwrap_or(self.facts.seed)
    }

    fn server_stats(&mut self) -> StatsFrom {
        let Some(text) = self.typed.server_stats.as_deref() else { return StatsFrom::None };
        if text == "auto" {
            return StatsFrom::Auto;
        }
        if let Some(pid) = text.parse::<u32>().ok().filter(|pid| (1..=i32::MAX as u32).contains(pid)) {
            return StatsFrom::Pid(pid);
        }
        match text.parse::<SocketAddr>() {
            Ok(address) if address.port() != 0 => return StatsFrom::Agent(address),
            _ => {}
        }
        self.read.wrong(format!(
            "--server-stats: {text:?} is neither auto, nor the PID of a process, nor the ADDR:PORT of an agent; auto \
             or 10.0.0.2:8889 would do"
        ));
        StatsFrom::None
    }

    fn outputs(&mut self, workload: Workload) -> Outputs {
        let typed = self.typed;
        let formats = [
            ("text", Format::Text),
            ("json", Format::Json),
            ("ndjson", Format::Ndjson),
            ("csv", Format::Csv),
        ];
        let format = self.read.choice("--format", &typed.format, &formats).unwrap_or_default();
        let searches = typed.find_rate.is_some();
        let mut file = |flag: &str, text: &Option<String>| {
            if text.as_deref() == Some("") {
                self.read.wrong(format!("{flag}: is empty; the name of a file would do"));
            }
            text.clone().map(PathBuf::from)
        };
        Outputs {
            format,
            // The original study's client prints its open connections each second; so does this one.
            interval_lines: !searches
                && (typed.interval.is_some() || (workload == Workload::Churn && !typed.quiet)),
            quiet: typed.quiet,
            file: file("--output", &typed.output).filter(|path| path.as_os_str() != "-"),
            hdr: file("--hdr", &typed.hdr),
            hlog: file("--hlog", &typed.hlog),
            percentiles: self.read.percentiles(&typed.percentiles).unwrap_or(PERCENTILES.to_vec()),
        }
    }

    /// Settings that exclude each other, or mean nothing to the workload.
    fn together(&mut self, workload: Workload) {
        use Workload::{Churn, Idle, PingPong, Stream};
        let typed = self.typed;
        let (name, search) = (workload.name(), typed.find_rate.is_some());
        let depth = typed.depth.as_deref().filter(|depth| *depth != "1");
        let open = typed.rate.is_some() || search;
        // What was typed, whether it cannot be, and why, with what would do.
        let rules: [(bool, String); 12] = [
            (
                search && typed.hlog.is_some(),
                "--hlog: does not go with --find-rate; --hdr, the percentiles at the highest rate, would do"
                    .into(),
            ),
            (
                typed.duration.is_some() && typed.messages.is_some(),
                "--duration: does not go with --messages, each ends the measurement; one would do".into(),
            ),
            (
                search && typed.rate.is_some(),
                "--rate: does not go with --find-rate, which sets it; one would do".into(),
            ),
            (
                search && typed.messages.is_some(),
                "--messages: does not go with --find-rate; --duration, the length of a step, would do".into(),
            ),
            (
                search && workload != PingPong,
                format!("--find-rate: {name} has no rate to search; pingpong would do"),
            ),
            (
                typed.rate.is_some() && workload == Idle,
                "--rate: idle has its own, connections over --every; --every would do".into(),
            ),
            (
                typed.rate.is_some() && workload == Stream,
                "--rate: stream sends without pause; pingpong or churn would do".into(),
            ),
            (
                typed.arrival.is_some() && !open,
                "--arrival: says how the times of a --rate lie; --rate with it would do".into(),
            ),
            (
                typed.every.is_some() && workload != Idle,
                format!("--every: is the trickle of idle, not of {name}; --rate would do"),
            ),
            (
                typed.connect_rate.as_deref().is_some_and(|rate| rate != "auto") && workload == Churn,
                "--connect-rate: churn connects all the time, as often as the server lets it; --rate, so many \
                 connections a second, would do"
                    .into(),
            ),
            (
                search && typed.no_latency,
                "--no-latency: does not go with --find-rate, which goes by latency; one would do".into(),
            ),
            (
                depth.is_some() && workload != PingPong,
                format!("--depth: {} does not go with {name}; pingpong would do", depth.unwrap_or_default()),
            ),
        ];
        rules.into_iter().filter(|(broken, _)| *broken).for_each(|(_, sentence)| self.read.wrong(sentence));
        if typed.messages.is_some() && matches!(workload, Stream | Idle) {
            self.read.wrong(format!("--messages: {name} is measured by time; --duration would do"));
        }
        if typed.agent.is_some() {
            self.read.wrong("--agent: makes no load of its own; --agent without the rest would do");
        }
    }
}

const EVERY: Duration = Duration::from_secs(10);
const DURATION: Duration = Duration::from_secs(10);
const WARMUP: Duration = Duration::from_secs(2);
const GRACE: Duration = Duration::from_secs(2);
/// A SYN that a full backlog dropped is sent again after 1 s and after 3 s.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const INTERVAL: Duration = Duration::from_secs(1);
/// A step of a search.
const STEP: Duration = Duration::from_secs(3);
const STEP_WARMUP: Duration = Duration::from_secs(1);
/// Where a search begins, messages a second.
pub(super) const FIND_RATE_FIRST: f64 = 1_000.0;
/// The kernel's own default, where /proc cannot be read.
const PORTS: (u16, u16) = (32_768, 60_999);

fn default_size(workload: Workload) -> RangeInclusive<u32> {
    match workload {
        Workload::PingPong | Workload::Idle => 64..=64,
        Workload::Stream => 65_536..=65_536,
        Workload::Churn => 1024..=1024,
    }
}
