//! The built server as a child process: started, asked, signalled, ended. It is seen only through
//! its command line, its two outputs, its sockets and `/proc`, as its users see it.
//!
//! A wait here is a wait for an event. [`GUARD`] only bounds how long a failure takes.

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use std::ffi::{OsStr, OsString};
use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

/// How long anything may take before the test is given up: never a measure, only a guard.
pub const GUARD: Duration = Duration::from_secs(40);

/// Where the server's standard output goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Output {
    /// Read, line by line.
    Read,
    /// Read up to the ready line, then closed.
    ClosedAfterFirstLine,
    /// A pipe that nobody reads.
    NeverRead,
    /// The launcher's business: nothing is captured.
    Elsewhere,
}

/// A command line to be started.
#[derive(Clone, Debug)]
pub struct Launch {
    launcher: Vec<OsString>,
    arguments: Vec<OsString>,
    output: Output,
}

/// The built binary; `C10K_BINARY` names another one, a release build for example.
pub fn binary() -> OsString {
    std::env::var_os("C10K_BINARY").unwrap_or_else(|| env!("CARGO_BIN_EXE_c10k").into())
}

impl Launch {
    /// Exactly these arguments.
    pub fn new<A: AsRef<OsStr>>(arguments: impl IntoIterator<Item = A>) -> Self {
        let arguments = arguments.into_iter().map(|argument| argument.as_ref().to_owned()).collect();
        Self { launcher: Vec::new(), arguments, output: Output::Read }
    }

    /// Through another program that ends by executing its arguments (`prlimit`, `setpriv` …).
    pub fn through(mut self, launcher: &[&str]) -> Self {
        self.launcher = launcher.iter().map(OsString::from).collect();
        self
    }

    /// See [`Output`].
    pub fn output(mut self, output: Output) -> Self {
        self.output = output;
        self
    }

    /// Starts it and waits for the ready line.
    ///
    /// # Errors
    /// How it ended, where it ended instead.
    pub fn start(self) -> Result<Server, Ended> {
        let process = self.spawn();
        let first = match process.next_line() {
            Some(line) => line,
            None => return Err(process.wait()),
        };
        let ready: Value = serde_json::from_str(&first)
            .unwrap_or_else(|error| panic!("the first line is not JSON ({error}): {first}"));
        assert_eq!(ready["event"], "ready", "the first line is not the ready line: {first}");
        assert_eq!(ready["pid"], process.pid.as_raw(), "the ready line names another process");
        let listen: Vec<SocketAddr> = ready["listen"]
            .as_array()
            .expect("`listen` is a list")
            .iter()
            .map(|address| address.as_str().and_then(|text| text.parse().ok()).expect("an address"))
            .collect();
        assert!(listen.iter().all(|address| address.port() != 0), "port 0 is not the real one");
        Ok(Server { process, ready, listen })
    }

    /// Starts it and waits until it has ended.
    pub fn end(self) -> Ended {
        self.spawn().wait()
    }

    /// Starts it.
    pub fn spawn(self) -> Process {
        let mut words = self.launcher.clone();
        words.push(binary());
        words.extend(self.arguments);
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]).stdin(Stdio::null()).stderr(Stdio::piped());
        command.stdout(if self.output == Output::Elsewhere { Stdio::null() } else { Stdio::piped() });
        let started = Instant::now();
        let mut child = command.spawn().unwrap_or_else(|error| panic!("{words:?}: {error}"));
        let stderr = Arc::new(Mutex::new(String::new()));
        let errors = child.stderr.take().expect("a pipe");
        let sink = stderr.clone();
        thread::spawn(move || collect(errors, sink));
        let (sender, lines) = channel();
        let held = match (self.output, child.stdout.take()) {
            (Output::NeverRead, Some(pipe)) => Some(pipe),
            (output, Some(pipe)) => {
                thread::spawn(move || {
                    let limit = if output == Output::Read { usize::MAX } else { 1 };
                    for line in BufReader::new(pipe).lines().take(limit) {
                        if line.is_err() || sender.send(line.expect("checked")).is_err() {
                            return;
                        }
                    }
                });
                None
            }
            (_, None) => None,
        };
        let pid = Pid::from_raw(i32::try_from(child.id()).expect("a pid"));
        Process { child: Mutex::new(child), pid, lines: Mutex::new(lines), stderr, started, _held: held }
    }
}

/// Reads it to the end, and holds on to the sink until then.
fn collect(mut errors: impl Read, sink: Arc<Mutex<String>>) {
    let mut bytes = [0; 4096];
    while let Ok(count @ 1..) = errors.read(&mut bytes) {
        sink.lock().expect("never poisoned").push_str(&String::from_utf8_lossy(&bytes[..count]));
    }
}

/// A started program, killed when dropped.
pub struct Process {
    child: Mutex<Child>,
    /// Its process id; not reused before this value is dropped.
    pub pid: Pid,
    lines: Mutex<Receiver<String>>,
    stderr: Arc<Mutex<String>>,
    started: Instant,
    _held: Option<std::process::ChildStdout>,
}

impl Process {
    /// The next line of its standard output; `None` at the end.
    pub fn next_line(&self) -> Option<String> {
        match self.lines.lock().expect("never poisoned").recv_timeout(GUARD) {
            Ok(line) => Some(line),
            Err(RecvTimeoutError::Disconnected) => None,
            Err(RecvTimeoutError::Timeout) => panic!("no line within {GUARD:?}; stderr: {}", self.stderr()),
        }
    }

    /// What it has written to standard error so far.
    pub fn stderr(&self) -> String {
        self.stderr.lock().expect("never poisoned").clone()
    }

    /// Waits until standard error holds these words: it is read beside standard output, so a line
    /// written before the ready line may be seen after it.
    #[track_caller]
    pub fn stderr_with(&self, words: &str) -> String {
        let from = Instant::now();
        loop {
            let stderr = self.stderr();
            if stderr.contains(words) {
                return stderr;
            }
            assert!(from.elapsed() < GUARD, "{words:?} never came: {stderr}");
            thread::sleep(Duration::from_millis(2));
        }
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        kill(self.pid, signal).expect("the server is there");
    }

    /// Whether it runs.
    pub fn is_alive(&self) -> bool {
        self.child.lock().expect("never poisoned").try_wait().expect("our child").is_none()
    }

    /// Waits for its end.
    #[track_caller]
    pub fn wait(self) -> Ended {
        let from = Instant::now();
        let status = loop {
            let status = self.child.lock().expect("never poisoned").try_wait().expect("our child");
            match status {
                Some(status) => break status,
                None => assert!(from.elapsed() < GUARD, "did not end; stderr: {}", self.stderr()),
            }
            thread::sleep(Duration::from_millis(2));
        };
        let mut lines = Vec::new();
        while let Ok(line) = self.lines.lock().expect("never poisoned").recv_timeout(GUARD) {
            lines.push(line);
        }
        // Its reader drops its handle at the end of the pipe, and what was read before that is there then.
        while Arc::strong_count(&self.stderr) > 1 && from.elapsed() < GUARD {
            thread::sleep(Duration::from_millis(1));
        }
        let stderr = self.stderr();
        Ended { code: status.code(), signal: status.signal(), lines, stderr, ran: self.started.elapsed() }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let mut child = self.child.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let _ = child.kill();
        let _ = child.wait();
    }
}

/// How a program ended.
#[derive(Debug)]
pub struct Ended {
    /// The exit code, unless a signal ended it.
    pub code: Option<i32>,
    /// The signal that ended it.
    pub signal: Option<i32>,
    /// The lines of its standard output after the ready line.
    pub lines: Vec<String>,
    /// Its standard error.
    pub stderr: String,
    /// From its start to its end.
    pub ran: Duration,
}

impl Ended {
    /// The account it closed with: the last line, and the only summary.
    #[track_caller]
    pub fn summary(&self) -> Account {
        let last = self.lines.last().unwrap_or_else(|| panic!("no summary: {self:?}"));
        let account: Value = serde_json::from_str(last).expect("a JSON line");
        assert_eq!(account["event"], "summary", "the last line is not the summary: {last}");
        let summaries = self.lines.iter().filter(|line| line.contains(r#""event":"summary""#)).count();
        assert_eq!(summaries, 1, "one summary, once");
        Account(account)
    }

    /// Everything it said, for a reader.
    pub fn said(&self) -> String {
        format!("{}\n{}", self.stderr, self.lines.join("\n"))
    }
}

/// A server that is ready.
pub struct Server {
    process: Process,
    /// The ready line.
    pub ready: Value,
    /// Where it listens.
    pub listen: Vec<SocketAddr>,
}

impl std::ops::Deref for Server {
    type Target = Process;
    fn deref(&self) -> &Process {
        &self.process
    }
}

impl Server {
    /// The first address it listens on.
    pub fn address(&self) -> SocketAddr {
        self.listen[0]
    }

    /// The account, asked for with SIGUSR1.
    #[track_caller]
    pub fn stats(&self) -> Account {
        let lines = self.lines.lock().expect("never poisoned");
        while lines.try_recv().is_ok() {}
        kill(self.pid, Signal::SIGUSR1).expect("the server is there");
        match lines.recv_timeout(GUARD) {
            Ok(line) => {
                let account: Value = serde_json::from_str(&line).expect("a JSON line");
                assert_eq!(account["event"], "stats", "SIGUSR1 was answered by {line}");
                Account(account)
            }
            Err(error) => panic!("SIGUSR1 was not answered ({error}); stderr: {}", self.stderr()),
        }
    }

    /// Waits until the account shows what is awaited.
    #[track_caller]
    pub fn wait_until(&self, what: &str, mut shown: impl FnMut(&Account) -> bool) -> Account {
        let from = Instant::now();
        loop {
            let account = self.stats();
            if shown(&account) {
                return account;
            }
            assert!(from.elapsed() < GUARD, "never came: {what}; {}; stderr: {}", account.0, self.stderr());
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// How many descriptors its process holds.
    pub fn descriptors(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/fd", self.pid)).expect("procfs").count()
    }

    /// Signals it and waits for its end.
    #[track_caller]
    pub fn terminate(self, signal: Signal) -> Ended {
        self.signal(signal);
        self.process.wait()
    }

    /// Waits for its end; somebody has signalled it.
    #[track_caller]
    pub fn wait(self) -> Ended {
        self.process.wait()
    }
}

/// A `stats` or `summary` line.
#[derive(Clone, Debug)]
pub struct Account(pub Value);

/// The gauges that are back at their baseline when nobody is connected.
pub const GAUGES: [&str; 5] = ["open", "lent", "in_flight", "waiting", "spilled"];

impl Account {
    /// A number by its name, wherever it stands.
    ///
    /// # Panics
    /// Where there is none: a test that asks for a number the server lacks cannot pass.
    #[track_caller]
    pub fn get(&self, name: &str) -> u64 {
        ["counters", "closed", "refused", "gauges"]
            .iter()
            .find_map(|group| self.0[group][name].as_u64())
            .unwrap_or_else(|| panic!("no number {name:?} in {}", self.0))
    }

    /// The gauges of [`GAUGES`], in that order.
    #[track_caller]
    pub fn gauges(&self) -> [u64; GAUGES.len()] {
        GAUGES.map(|name| self.get(name))
    }

    /// Connections closed, for any reason.
    pub fn closed(&self) -> u64 {
        sum(&self.0["closed"])
    }

    /// Connections refused, for any cause.
    pub fn refused(&self) -> u64 {
        sum(&self.0["refused"])
    }
}

#[track_caller]
fn sum(group: &Value) -> u64 {
    group
        .as_object()
        .expect("a group of numbers")
        .values()
        .map(|value| value.as_u64().expect("a number"))
        .sum()
}
