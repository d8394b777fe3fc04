//! A server under measurement: a child process of the release build, its ready line, its CPU time.

use std::io::{self, BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};

/// A running server; ended when dropped.
pub struct Server {
    child: Child,
    /// Where it listens.
    pub address: SocketAddr,
}

/// The release build that stands beside this program.
fn binary() -> io::Result<std::path::PathBuf> {
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
        Self::start_with(arguments, &[])
    }

    /// The same, started by the words of `launcher` (as `prlimit --nofile=1024:20000`).
    pub fn start_with(arguments: &str, launcher: &[&str]) -> io::Result<Self> {
        let binary = binary()?;
        let mut command = match launcher {
            [] => Command::new(binary),
            [program, words @ ..] => {
                let mut command = Command::new(program);
                command.args(words).arg(binary);
                command
            }
        };
        command.args(arguments.split_whitespace());
        command.args(["--listen", "127.0.0.1:0", "--format", "json", "-q"]);
        let mut child = command.stdout(Stdio::piped()).spawn()?;
        let mut line = String::new();
        BufReader::new(child.stdout.take().expect("piped")).read_line(&mut line)?;
        let ready: serde_json::Value = serde_json::from_str(&line)
            .map_err(|_| io::Error::other(format!("c10k {arguments} did not get ready: {line}")))?;
        let address = ready["listen"][0].as_str().and_then(|address| address.parse().ok());
        let address = address.ok_or_else(|| io::Error::other("the ready line names no address"))?;
        Ok(Self { child, address })
    }

    /// The process.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Nanoseconds on a CPU of all its threads, kernel workers included.
    pub fn cpu(&self) -> io::Result<u64> {
        let mut total = 0;
        for task in std::fs::read_dir(format!("/proc/{}/task", self.id()))? {
            let text = std::fs::read_to_string(task?.path().join("schedstat"))?;
            total += text.split_whitespace().next().and_then(|word| word.parse::<u64>().ok()).unwrap_or(0);
        }
        Ok(total)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
