//! The tries, in a process of their own: this program again, told to try the features and to print what
//! came of each, a line at a time. Where one of them ends the process, or stops it, the row says so, and
//! another process goes on behind it.

use crate::result::doctor::{Outcome, Tried};
use crate::ring::attempts;
use serde::{Deserialize, Serialize};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

/// How long a try may take before its process is ended: each waits three seconds at most, a few times.
const PATIENCE: Duration = Duration::from_secs(30);
/// Names the argument of the process of the tries.
const ARGUMENT: &str = "--tries-from";

/// What a try gave, as it is printed from process to process.
#[derive(Serialize, Deserialize)]
struct Line {
    outcome: Outcome,
    errno: Option<String>,
    detail: String,
}

/// Tries every feature from the `first` on, and prints a line for each. The exit code.
pub(super) fn child(first: usize) -> u8 {
    // Whoever asked may end first; nobody else would end this process then.
    let _ = nix::sys::prctl::set_pdeathsig(nix::sys::signal::Signal::SIGKILL);
    for (_, feature) in attempts::all().skip(first) {
        let Tried { outcome, errno, detail } = tried(feature.attempt());
        let line = serde_json::to_string(&Line { outcome, errno, detail }).expect("plain data");
        if writeln!(io::stdout(), "{line}").and_then(|()| io::stdout().flush()).is_err() {
            return 1;
        }
    }
    0
}

/// Tries every feature in other processes.
pub(super) fn by_child() -> Vec<attempts::Outcome> {
    let mut outcomes = Vec::new();
    while outcomes.len() < attempts::count() {
        let Some(mut process) = Process::start(outcomes.len()) else {
            // No program to start again, as in a chroot without it: here, then.
            outcomes.extend(attempts::all().skip(outcomes.len()).map(|(_, feature)| feature.attempt()));
            break;
        };
        while outcomes.len() < attempts::count() {
            match process.next() {
                Ok(outcome) => outcomes.push(outcome),
                Err(end) => {
                    outcomes.push(attempts::Outcome::Wrong(end));
                    break;
                }
            }
        }
    }
    outcomes
}

/// That nothing was tried, and why.
pub(super) fn none(why: &str) -> Vec<attempts::Outcome> {
    let outcome = attempts::Outcome::NotTried(format!("io_uring is not available: {why}"));
    vec![outcome; attempts::count()]
}

/// As it is reported.
pub(super) fn tried(outcome: attempts::Outcome) -> Tried {
    use attempts::Outcome as Of;
    let (outcome, errno, detail) = match outcome {
        Of::Works(seen) => (Outcome::Works, None, seen),
        Of::Refused(errno) => {
            let detail = format!("the kernel answered {errno}");
            (Outcome::Refused, Some(errno), detail)
        }
        Of::Blocked { errno, why } => (Outcome::Blocked, Some(errno), why),
        Of::Wrong(seen) => (Outcome::Wrong, None, seen),
        Of::NotTried(why) => (Outcome::NotTried, None, why),
    };
    Tried { outcome, errno, detail }
}

impl Line {
    /// What the process meant.
    fn outcome(self) -> attempts::Outcome {
        use attempts::Outcome as Of;
        match (self.outcome, self.errno) {
            (Outcome::Works, _) => Of::Works(self.detail),
            (Outcome::Refused, Some(errno)) => Of::Refused(errno),
            (Outcome::Blocked, Some(errno)) => Of::Blocked { errno, why: self.detail },
            (Outcome::NotTried, _) => Of::NotTried(self.detail),
            _ => Of::Wrong(self.detail),
        }
    }
}

/// The process that tries; ended when dropped.
struct Process {
    child: Child,
    lines: Receiver<String>,
}

impl Process {
    fn start(first: usize) -> Option<Self> {
        let mut command = Command::new(std::env::current_exe().ok()?);
        command.args(["doctor", ARGUMENT, &first.to_string()]);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().ok()?;
        let output = child.stdout.take()?;
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        Some(Self { child, lines })
    }

    /// What came of the next try, or how the process ended in it.
    fn next(&mut self) -> Result<attempts::Outcome, String> {
        match self.lines.recv_timeout(PATIENCE) {
            Ok(line) => match serde_json::from_str::<Line>(&line) {
                Ok(line) => Ok(line.outcome()),
                Err(_) => Err("the try printed something else than its result".into()),
            },
            Err(RecvTimeoutError::Timeout) => Err(format!("the try did not end within {PATIENCE:?}")),
            Err(RecvTimeoutError::Disconnected) => Err(self.end()),
        }
    }

    /// How it ended, in its own last words where it had any.
    fn end(&mut self) -> String {
        let mut words = String::new();
        if let Some(errors) = self.child.stderr.take() {
            let _ = errors.take(4096).read_to_string(&mut words);
        }
        let status = self.child.wait().map_or_else(|error| error.to_string(), |status| status.to_string());
        let words: String = words.split_whitespace().collect::<Vec<_>>().join(" ");
        if words.is_empty() {
            format!("the try ended its process ({status})")
        } else {
            format!("the try ended its process ({status}: {words})")
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
