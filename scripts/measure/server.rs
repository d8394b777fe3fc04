//! A server under measurement: a child process of the release build. Its standard output is read by
//! a thread for as long as it lives, so that it never waits for us.

use crate::Variant;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use std::io::{self, BufRead, BufReader};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// A running server; ended when dropped.
pub struct Server {
    child: Option<Child>,
    id: u32,
    /// Where it listens.
    pub address: SocketAddr,
    /// Its ready line.
    pub ready: Value,
    lines: Receiver<Value>,
}

/// How a server is started.
#[derive(Clone, Debug, Default)]
pub struct Launch {
    /// The arguments of c10k, a blank between each.
    pub arguments: String,
    /// What starts it, as `prlimit --nofile=1024:20000`; empty: nothing.
    pub launcher: Vec<String>,
    /// The program; `None`: the release build beside this one.
    pub binary: Option<PathBuf>,
}

/// A server that has been told to stop.
pub struct Stopping {
    waiter: JoinHandle<io::Result<(ExitStatus, Instant)>>,
    lines: Receiver<Value>,
    since: Instant,
}

/// A server that has stopped.
pub struct Stopped {
    /// Its exit code, or 128 + the signal that ended it.
    pub code: i32,
    /// From the signal to the end of the process.
    pub time: Duration,
    /// The last line it printed.
    pub summary: Value,
}

/// How long an answer on standard output may take.
const ANSWER_MAX: Duration = Duration::from_secs(20);
/// Its exit code where a backend or a feature is not available.
const UNAVAILABLE: i32 = 6;

/// What was measured; `None`, said visibly, where a variant is not available here.
pub fn available<T>(variant: &Variant, result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.kind() == io::ErrorKind::Unsupported => {
            println!("{variant:<24} skipped: {error}");
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// The release build that stands beside this program, or the one that `C10K_BINARY` names.
pub fn binary() -> io::Result<PathBuf> {
    if let Ok(path) = std::env::var("C10K_BINARY") {
        return Ok(path.into());
    }
    let path = std::env::current_exe()?;
    let release = path.parent().and_then(|examples| examples.parent());
    let binary = release.map(|folder| folder.join("c10k")).filter(|path| path.exists());
    binary.ok_or_else(|| io::Error::other("c10k is not built: cargo build --release"))
}

impl Server {
    /// Starts `c10k` with `arguments`, one word each between blanks, on a free port of loopback.
    pub fn start(arguments: &str) -> io::Result<Self> {
        Self::launch(&Launch { arguments: arguments.to_string(), ..Launch::default() })
    }

    /// Starts it as `launch` says, on a free port of loopback, and waits until it is ready.
    pub fn launch(launch: &Launch) -> io::Result<Self> {
        let binary = launch.binary.clone().map_or_else(binary, Ok)?;
        let mut command = match launch.launcher.as_slice() {
            [] => Command::new(binary),
            [program, words @ ..] => {
                let mut command = Command::new(program);
                command.args(words).arg(binary);
                command
            }
        };
        command.args(launch.arguments.split_whitespace());
        command.args(["--listen", "127.0.0.1:0", "--format", "json", "-q"]);
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?;
        let (sender, lines) = channel();
        let stdout = child.stdout.take().expect("piped");
        std::thread::spawn(move || read_lines(stdout, &sender));
        let id = child.id();
        let mut this = Self {
            child: Some(child),
            id,
            address: SocketAddr::from(([127, 0, 0, 1], 0)),
            ready: Value::Null,
            lines,
        };
        this.ready = this.next("ready").map_err(|error| this.not_ready(&launch.arguments, &error))?;
        let address = this.ready["listen"][0].as_str().and_then(|address| address.parse().ok());
        this.address = address.ok_or_else(|| io::Error::other("the ready line names no address"))?;
        Ok(this)
    }

    fn not_ready(&mut self, arguments: &str, error: &io::Error) -> io::Error {
        // It closes its output a moment before it has ended.
        std::thread::sleep(Duration::from_millis(100));
        let code =
            self.child.as_mut().and_then(|child| child.try_wait().ok()?).and_then(|status| status.code());
        let kind = if code == Some(UNAVAILABLE) { io::ErrorKind::Unsupported } else { io::ErrorKind::Other };
        io::Error::new(kind, format!("c10k {arguments} did not get ready: {error}"))
    }

    fn next(&self, event: &str) -> io::Result<Value> {
        await_line(&self.lines, event)
    }

    /// The process.
    pub fn id(&self) -> u32 {
        self.id
    }

    /// Its account at this moment.
    pub fn stats(&self) -> io::Result<Value> {
        self.signal(Signal::SIGUSR1)?;
        self.next("stats")
    }

    fn signal(&self, signal: Signal) -> io::Result<()> {
        Ok(kill(Pid::from_raw(self.id as i32), signal)?)
    }

    /// Nanoseconds on a CPU of all its threads, kernel workers included.
    pub fn cpu(&self) -> io::Result<u64> {
        let mut total = 0;
        for task in std::fs::read_dir(format!("/proc/{}/task", self.id))? {
            let text = std::fs::read_to_string(task?.path().join("schedstat"))?;
            total += text.split_whitespace().next().and_then(|word| word.parse::<u64>().ok()).unwrap_or(0);
        }
        Ok(total)
    }

    /// Takes all its threads off their CPUs until [`stop`](Self::stop).
    pub fn freeze(&self) -> io::Result<()> {
        self.signal(Signal::SIGSTOP)
    }

    /// Sends SIGTERM, lets it go on if it was frozen, and returns at once; the end is awaited by [`Stopping::wait`].
    pub fn stop(mut self) -> io::Result<Stopping> {
        let lines = std::mem::replace(&mut self.lines, channel().1);
        let since = Instant::now();
        self.signal(Signal::SIGTERM)?;
        self.signal(Signal::SIGCONT)?;
        let child = self.child.take();
        let waiter = std::thread::spawn(move || {
            let status = child.expect("stopped once").wait()?;
            Ok((status, Instant::now()))
        });
        Ok(Stopping { waiter, lines, since })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

impl Stopping {
    /// Waits for the end of the process.
    pub fn wait(self) -> io::Result<Stopped> {
        use std::os::unix::process::ExitStatusExt;
        let (status, end) = self.waiter.join().expect("it does nothing but wait")?;
        let code = status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0));
        let summary = await_line(&self.lines, "summary").unwrap_or(Value::Null);
        Ok(Stopped { code, time: end - self.since, summary })
    }
}

fn read_lines(stdout: ChildStdout, sender: &Sender<Value>) {
    for line in BufReader::new(stdout).lines() {
        let Ok(line) = line else { return };
        // What is no object is passed on as text; who waits for an event skips it.
        let value = serde_json::from_str(&line).unwrap_or(Value::String(line));
        // Nobody listens any more once the measurement is over; the pipe is emptied all the same.
        let _ = sender.send(value);
    }
}

fn await_line(lines: &Receiver<Value>, event: &str) -> io::Result<Value> {
    loop {
        match lines.recv_timeout(ANSWER_MAX) {
            Ok(line) if line["event"] == event => return Ok(line),
            Ok(_) => {}
            Err(_) => return Err(io::Error::other(format!("the server printed no \"{event}\" line"))),
        }
    }
}
