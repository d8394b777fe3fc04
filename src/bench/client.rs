//! A client: a load that runs against a server for one slice, and its result. Also the load that holds idle
//! connections beside it.

use super::child::{Child, Log};
use super::server::Server;
use crate::result::bench::Workload;
use crate::result::load::{LoadLine, LoadResult};
use crate::units::{print_bytes, print_cpus, print_time};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use std::fs;
use std::io::Read as _;
use std::os::fd::AsFd as _;
use std::path::Path;
use std::process::{ChildStdout, Stdio};
use std::time::{Duration, Instant};

/// The signals that end a bench, as a descriptor.
#[derive(Debug)]
pub struct Signals {
    descriptor: SignalFd,
    /// The first that came.
    came: Option<Signal>,
}

impl Signals {
    /// Takes them, in this thread and those it starts. Children get them back: [`super::child::held`].
    ///
    /// # Errors
    /// When the descriptor cannot be made.
    pub fn take() -> nix::Result<Self> {
        let set: SigSet = [Signal::SIGINT, Signal::SIGTERM].into_iter().collect();
        set.thread_block()?;
        let flags = SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK;
        Ok(Self { descriptor: SignalFd::with_flags(&set, flags)?, came: None })
    }

    /// The signal that came, if one did.
    pub fn came(&mut self) -> Option<Signal> {
        if self.came.is_none()
            && let Ok(Some(info)) = self.descriptor.read_signal()
        {
            self.came = Signal::try_from(info.ssi_signo as i32).ok();
        }
        self.came
    }
}

/// What a load is to do.
#[derive(Clone, Debug)]
pub struct Task<'a> {
    /// What.
    pub workload: &'a Workload,
    /// On which CPUs.
    pub cpus: &'a [usize],
    /// Messages a second; `None`: a closed loop.
    pub rate: Option<f64>,
    /// How long before it is measured.
    pub warmup: Duration,
    /// How long is measured.
    pub window: Duration,
    /// What payload and schedule are drawn from.
    pub seed: u64,
    /// Where the histograms go.
    pub histograms: &'a Path,
}

/// What came of a load.
#[derive(Clone, Debug, Default)]
pub struct Ran {
    /// Its command, without the server's number.
    pub command: String,
    /// Its result; `None`: it gave none.
    pub result: Option<Box<LoadResult>>,
    /// What it wrote to standard error.
    pub said: String,
    /// Its histograms, as [`crate::result::bench::RawSlice`] has them.
    pub histogram: Option<String>,
    /// The most bytes of slabs the kernel had meanwhile, where that was asked for.
    pub slabs: Option<u64>,
}

/// Longer than its warm-up and window: ramp, grace, start and end on a crowded machine.
const BEYOND: Duration = Duration::from_secs(60);
/// How long idle connections may take to stand.
const HELD: Duration = Duration::from_secs(600);
/// How often memory is looked at where it is.
const LOOK: Duration = Duration::from_millis(50);

/// Runs a load to its end; `None` where a signal ended the bench. `look` is asked for memory meanwhile.
///
/// # Errors
/// A sentence, when it cannot be started.
pub fn run(
    task: &Task<'_>,
    server: &Server,
    signals: &mut Signals,
    log: &Log,
    look: Option<fn() -> Option<u64>>,
) -> Result<Option<Ran>, String> {
    let words = task.words(server);
    let mut child = Child::start(&words, &[], Stdio::piped(), log)?;
    let Some(mut stdout) = child.process.stdout.take() else { return Err("a load without output".into()) };
    let limit = task.warmup + task.window + BEYOND;
    let between = if look.is_some() { LOOK } else { limit };
    let mut slabs = None;
    let looked = |_: &[u8]| {
        slabs = slabs.max(look.and_then(|look| look()));
        false
    };
    let Some(text) = output(&mut stdout, signals, limit, between, looked) else { return Ok(None) };
    child.end();
    let result = match serde_json::from_slice(&text) {
        Ok(LoadLine::Result(result)) => Some(result),
        _ => None,
    };
    let histogram = fs::read_to_string(task.histograms).ok().and_then(|text| blobs(&text));
    let _ = fs::remove_file(task.histograms);
    Ok(Some(Ran { command: words.join(" "), result, said: child.said(log), histogram, slabs }))
}

/// What a child writes until it closes its output, is late, or is `enough`, which is asked after every part and
/// whenever so much time went by; `None` where a signal ended the bench.
fn output(
    stdout: &mut ChildStdout,
    signals: &mut Signals,
    limit: Duration,
    between: Duration,
    mut enough: impl FnMut(&[u8]) -> bool,
) -> Option<Vec<u8>> {
    let deadline = Instant::now() + limit;
    let mut text = Vec::new();
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        if signals.came().is_some() {
            return None;
        }
        if left.is_zero() || enough(&text) {
            return Some(text);
        }
        let wait = PollTimeout::try_from(left.min(between)).unwrap_or(PollTimeout::MAX);
        let mut polled = [
            PollFd::new(stdout.as_fd(), PollFlags::POLLIN),
            PollFd::new(signals.descriptor.as_fd(), PollFlags::POLLIN),
        ];
        if poll(&mut polled, wait).is_ok() && polled[0].any() == Some(true) {
            let mut part = [0; 65_536];
            match stdout.read(&mut part) {
                Ok(0) | Err(_) => return Some(text),
                Ok(count) => text.extend_from_slice(&part[..count]),
            }
        }
    }
}

impl Task<'_> {
    fn words(&self, server: &Server) -> Vec<String> {
        let Workload { kind, connections, size_bytes, depth, .. } = self.workload;
        let mut words: Vec<String> = ["c10k", "load", kind].map(String::from).into();
        words.push(server.address.to_string());
        let mut option = |flag: &str, value: String| words.extend([flag.to_string(), value]);
        option("-c", connections.to_string());
        option("-s", print_bytes((*size_bytes).into()));
        match kind.as_str() {
            "pingpong" => option("-P", depth.to_string()),
            // None is due within the window.
            "idle" => option("--every", "1h".into()),
            _ => {}
        }
        if let Some(rate) = self.rate {
            option("-R", format!("{rate:.0}"));
        }
        option("-d", print_time(self.window));
        option("-w", print_time(self.warmup));
        // Halves, so that a slice that had not settled shows.
        option("-i", print_time(self.window / 2));
        option("-t", self.cpus.len().to_string());
        option("--cpus", print_cpus(self.cpus));
        option("--seed", self.seed.to_string());
        option("--server-stats", server.pid.to_string());
        option("--format", "json".into());
        if kind == "pingpong" {
            option("--hlog", self.histograms.display().to_string());
        }
        words.push("-q".into());
        words
    }
}

/// The histograms of an interval log, a blank between them.
fn blobs(text: &str) -> Option<String> {
    let lines = text.lines().filter(|line| line.starts_with(|letter: char| letter.is_ascii_digit()));
    let blobs: Vec<&str> = lines.filter_map(|line| line.rsplit(',').next()).collect();
    (!blobs.is_empty()).then(|| blobs.join(" "))
}

/// Connections that are held and send nothing, for as long as this lives.
#[derive(Debug)]
pub struct Idle {
    _child: Child,
}

impl Idle {
    /// Connects them, and waits until all stand; `None` where a signal ended the bench.
    ///
    /// # Errors
    /// A sentence.
    pub fn hold(
        connections: u32,
        server: &Server,
        cpus: &[usize],
        signals: &mut Signals,
        log: &Log,
    ) -> Result<Option<Self>, String> {
        let words = format!(
            "c10k load idle {} -c {connections} --every 1h -d 2h -w 0 -i 100ms -t {} --cpus {} --format ndjson -q",
            server.address,
            cpus.len(),
            print_cpus(cpus)
        );
        let words: Vec<String> = words.split(' ').map(String::from).collect();
        let mut child = Child::start(&words, &[], Stdio::piped(), log)?;
        let Some(mut stdout) = child.process.stdout.take() else {
            return Err("a load without output".into());
        };
        // The first interval begins when the ramp is over. One that fails prints its result, or ends.
        let is_line = |text: &[u8]| text.contains(&b'\n');
        let Some(text) = output(&mut stdout, signals, HELD, HELD, is_line) else { return Ok(None) };
        std::thread::spawn(move || std::io::copy(&mut stdout, &mut std::io::sink()));
        let line = text.split(|&byte| byte == b'\n').next().unwrap_or_default();
        match serde_json::from_slice(line) {
            Ok(LoadLine::Interval(interval)) if interval.open == connections => {
                Ok(Some(Self { _child: child }))
            }
            _ => Err(format!("{connections} idle connections could not be held: {}", child.said(log))),
        }
    }
}

/// A verified load of odd sizes, before a server that is not ours is measured. It passes, too, where a signal ends
/// the bench: whoever goes on from here hears of that.
///
/// # Errors
/// What it did wrong, and whether that was to send wrong bytes.
pub fn gate(server: &Server, cpus: &[usize], signals: &mut Signals, log: &Log) -> Result<(), (String, bool)> {
    const WRONG_BYTES: i32 = 5;
    let words = format!(
        "c10k load pingpong {} -c 4 -s 1..16Ki -n 400 -w 0 -t 1 --cpus {} --format json -q",
        server.address,
        print_cpus(&cpus[..1])
    );
    let words: Vec<String> = words.split(' ').map(String::from).collect();
    let mut child = Child::start(&words, &[], Stdio::piped(), log).map_err(|sentence| (sentence, false))?;
    let stdout = child.process.stdout.as_mut().expect("it was just piped");
    if output(stdout, signals, BEYOND, BEYOND, |_| false).is_none() {
        return Ok(());
    }
    child.end();
    let status = child.process.wait().map_err(|error| (error.to_string(), false))?;
    match status.code() {
        Some(0) => Ok(()),
        code => {
            Err((format!("it does not echo as it should: {}", child.said(log)), code == Some(WRONG_BYTES)))
        }
    }
}
