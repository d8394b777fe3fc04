//! Lines to standard output and standard error, written by a thread each. Whoever reads them, or does
//! not, never delays the server: when a pipe is full, lines are dropped and counted; when it is closed
//! they go nowhere. `println!` would panic there.

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

/// Where lines go.
#[derive(Clone, Copy, Debug)]
pub(super) enum Stream {
    /// What the program says.
    Output,
    /// What is to be said about it.
    Error,
}

/// A stream and the thread that writes it.
#[derive(Debug)]
pub(super) struct Printer {
    lines: SyncSender<String>,
    done: Receiver<()>,
    dropped: AtomicU64,
}

/// Lines that may wait for a reader.
const WAITING_MAX: usize = 64;

impl Printer {
    /// Starts the thread.
    ///
    /// # Errors
    /// When no thread can be started.
    pub(super) fn start(stream: Stream) -> io::Result<Self> {
        let (lines, waiting) = sync_channel::<String>(WAITING_MAX);
        let (over, done) = sync_channel(1);
        let name = match stream {
            Stream::Output => "c10k-output",
            Stream::Error => "c10k-error",
        };
        thread::Builder::new().name(name.into()).stack_size(64 << 10).spawn(move || {
            for line in waiting {
                match stream {
                    Stream::Output => write_all(io::stdout().as_fd(), line.as_bytes()),
                    Stream::Error => write_all(io::stderr().as_fd(), line.as_bytes()),
                }
            }
            let _ = over.send(());
        })?;
        Ok(Self { lines, done, dropped: AtomicU64::new(0) })
    }

    /// Hands a line over, without its end; never waits.
    pub(super) fn line(&self, mut line: String) {
        line.push('\n');
        if self.lines.try_send(line).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Lines nobody took.
    pub(super) fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    /// Hands the last line over and waits until everything is written, or until `until`.
    pub(super) fn finish(self, last: Option<String>, until: Instant) {
        if let Some(line) = last {
            let mut line = line + "\n";
            while let Err(TrySendError::Full(back)) = self.lines.try_send(line) {
                if Instant::now() >= until {
                    break;
                }
                line = back;
                thread::sleep(Duration::from_millis(1));
            }
        }
        drop(self.lines);
        let _ = self.done.recv_timeout(until.saturating_duration_since(Instant::now()));
    }
}

/// Writes everything, or as much as can be: there is nobody to tell of an error.
fn write_all(descriptor: BorrowedFd<'_>, mut bytes: &[u8]) {
    while !bytes.is_empty() {
        match nix::unistd::write(descriptor, bytes) {
            Ok(written) => bytes = &bytes[written..],
            Err(Errno::EINTR) => {}
            // Somebody who shares the stream has made it non-blocking.
            Err(Errno::EAGAIN) => {
                let _ = poll(&mut [PollFd::new(descriptor, PollFlags::POLLOUT)], PollTimeout::NONE);
            }
            Err(_) => return,
        }
    }
}
