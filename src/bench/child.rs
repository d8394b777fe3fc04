//! Child processes that end with this one, however it ends. A child is started through this program itself
//! ([`held`]), which asks the kernel for a signal at the parent's end, pins itself, and becomes what was
//! asked for: that takes no `unsafe`, and the process keeps its number.

use crate::units::{parse_cpus, print_cpus};
use nix::sched::{CpuSet, sched_setaffinity};
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::{SigSet, Signal, kill};
use nix::unistd::{Pid, getppid};
use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Child as Process, Command, Stdio};
use std::time::{Duration, Instant};

/// The hidden verb under which this program starts its children.
pub const HELD: &str = "child-of-bench";

/// The variable that is there for its length.
pub const PADDING: &str = "C10K_BENCH_PADDING";

/// How long a child may take to end in order before it is killed.
const ENDING: Duration = Duration::from_secs(2);
/// How often is looked whether it has.
const LOOK: Duration = Duration::from_millis(2);

/// Where children write what goes wrong.
#[derive(Debug)]
pub struct Log {
    path: PathBuf,
}

impl Log {
    /// A file of this name.
    #[must_use]
    pub const fn new(path: PathBuf) -> Self {
        Self { path }
    }

    fn open(&self) -> io::Result<(File, u64)> {
        let mut file = OpenOptions::new().create(true).append(true).open(&self.path)?;
        let end = file.seek(SeekFrom::End(0))?;
        Ok((file, end))
    }

    /// What was written from there on, as one line.
    fn since(&self, from: u64) -> String {
        let mut text = String::new();
        let read = File::open(&self.path).and_then(|mut file| {
            file.seek(SeekFrom::Start(from))?;
            file.take(4096).read_to_string(&mut text)
        });
        if read.is_err() {
            text.clear();
        }
        text.lines().map(|line| line.strip_prefix("c10k: ").unwrap_or(line)).collect::<Vec<_>>().join("; ")
    }
}

/// A child process; ended when dropped.
#[derive(Debug)]
pub struct Child {
    /// The process.
    pub process: Process,
    log_from: u64,
}

impl Child {
    /// Starts a program, the first word, in a process group of its own, so that the terminal's Ctrl-C
    /// reaches this process alone. `cpus` pins it, where it does not pin itself.
    ///
    /// # Errors
    /// A sentence.
    pub fn start(words: &[String], cpus: &[usize], stdout: Stdio, log: &Log) -> Result<Self, String> {
        Self::start_padded(words, cpus, stdout, log, 0)
    }

    /// The same with a variable of so many bytes, [`PADDING`], in its environment. What stands there lies above
    /// the stack, and moves it: where memory happens to lie can cost more than what is compared, so each
    /// process is to have its own luck (Mytkowicz and others, 2009).
    ///
    /// # Errors
    /// A sentence.
    pub fn start_padded(
        words: &[String],
        cpus: &[usize],
        stdout: Stdio,
        log: &Log,
        padding: u32,
    ) -> Result<Self, String> {
        let start = || {
            let (file, log_from) = log.open()?;
            let process = Command::new(std::env::current_exe()?)
                .env(PADDING, "x".repeat(padding as usize))
                .args([HELD, &std::process::id().to_string(), &print_cpus(cpus)])
                .args(words)
                .stdin(Stdio::null())
                .stdout(stdout)
                .stderr(file)
                .process_group(0)
                .spawn()?;
            Ok::<_, io::Error>(Self { process, log_from })
        };
        start()
            .map_err(|error| format!("{} could not be started: {error}", words.first().map_or("", |one| one)))
    }

    /// Its number.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.process.id()
    }

    /// Whether it runs.
    pub fn is_alive(&mut self) -> bool {
        matches!(self.process.try_wait(), Ok(None))
    }

    /// What it wrote to standard error, as one line.
    #[must_use]
    pub fn said(&self, log: &Log) -> String {
        log.since(self.log_from)
    }

    /// Tells it to end.
    pub fn signal(&self, signal: Signal) {
        // One that has ended needs no telling; its number is ours until it was waited for.
        let _ = kill(Pid::from_raw(self.pid() as i32), signal);
    }

    /// Ends it in order, or by force.
    pub fn end(&mut self) {
        if !self.is_alive() {
            return;
        }
        self.signal(Signal::SIGTERM);
        let told = Instant::now();
        while self.is_alive() {
            if told.elapsed() > ENDING {
                let _ = self.process.kill();
                let _ = self.process.wait();
                return;
            }
            std::thread::sleep(LOOK);
        }
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        self.end();
    }
}

/// What the hidden verb does: `PARENT CPUS PROGRAM WORDS…`. Returns only where it fails, with the exit code.
#[must_use]
pub fn held(words: &[String]) -> u8 {
    let complain = |sentence: String| {
        let _ = writeln!(io::stderr(), "c10k: {sentence}");
        1
    };
    let [parent, cpus, program, rest @ ..] = words else {
        return complain(format!("{HELD}: it takes PARENT CPUS PROGRAM; it is for `c10k bench` alone"));
    };
    // It also ends where the parent was gone before the kernel was asked.
    if set_pdeathsig(Signal::SIGKILL).is_err() || getppid().to_string() != *parent {
        return complain(format!("{HELD}: the bench that started this has ended"));
    }
    if !cpus.is_empty()
        && let Err(sentence) = pin(cpus)
    {
        return complain(sentence);
    }
    // The bench takes its signals as a descriptor, and children get its mask: a server that knows nothing of that
    // could not be told to end.
    if let Err(errno) = SigSet::empty().thread_set_mask() {
        return complain(format!("{HELD}: the signal mask cannot be set: {errno}"));
    }
    let program = match program.as_str() {
        super::variant::OURS => std::env::current_exe().unwrap_or_else(|_| PathBuf::from(program)),
        _ => PathBuf::from(program),
    };
    let error = Command::new(&program).args(rest).exec();
    complain(format!("{} could not be started: {error}", program.display()))
}

fn pin(text: &str) -> Result<(), String> {
    let all: Vec<usize> = (0..CpuSet::count()).collect();
    let cpus = parse_cpus(text, &all).map_err(|problems| problems.join("; "))?;
    let mut set = CpuSet::new();
    let pinned = cpus.iter().try_for_each(|&cpu| set.set(cpu));
    pinned
        .and_then(|()| sched_setaffinity(Pid::from_raw(0), &set))
        .map_err(|errno| format!("cannot run on CPUs {text} ({errno})"))
}
