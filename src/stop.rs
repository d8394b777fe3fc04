//! How the server is told to end: signals become values in the main thread, and a phase with one
//! eventfd per worker carries the news to the loops. Nothing runs in a signal handler.

use nix::sys::eventfd::{EfdFlags, EventFd};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::{AtomicU8, Ordering};

/// How far the end has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Phase {
    /// Serving.
    Running = 0,
    /// No new connections; what had arrived is echoed, then every connection is closed.
    Draining = 1,
    /// Every connection is closed now, whatever it is owed.
    Cut = 2,
}

/// The phase, and a way to wake every worker. Shared by all threads.
#[derive(Debug)]
pub struct Stop {
    phase: AtomicU8,
    wakers: Vec<EventFd>,
}

impl Stop {
    /// For `workers` workers, all running.
    ///
    /// # Errors
    /// When an eventfd cannot be made (descriptors or memory are out).
    pub fn new(workers: usize) -> io::Result<Self> {
        let waker = || EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK);
        Ok(Self {
            phase: AtomicU8::new(Phase::Running as u8),
            wakers: (0..workers).map(|_| waker()).collect::<Result<_, _>>()?,
        })
    }

    /// How far the end has come.
    #[must_use]
    pub fn phase(&self) -> Phase {
        match self.phase.load(Ordering::Acquire) {
            0 => Phase::Running,
            1 => Phase::Draining,
            _ => Phase::Cut,
        }
    }

    /// Moves on to `phase`, never back, and wakes every worker.
    pub fn advance(&self, phase: Phase) {
        self.phase.fetch_max(phase as u8, Ordering::AcqRel);
        (0..self.wakers.len()).for_each(|worker| self.wake(worker));
    }

    /// Wakes `worker`. Its eventfd is edge-triggered on the other side and never read: each write is
    /// an event of its own.
    pub fn wake(&self, worker: usize) {
        // The only error is a counter at its maximum of 2^64 - 2: it would take centuries.
        let _ = self.wakers[worker].write(1);
    }

    /// Wakes every worker but `worker`.
    pub fn wake_others(&self, worker: usize) {
        (0..self.wakers.len()).filter(|&other| other != worker).for_each(|other| self.wake(other));
    }

    /// What `worker` waits on, beside its sockets.
    #[must_use]
    pub fn waker(&self, worker: usize) -> BorrowedFd<'_> {
        self.wakers[worker].as_fd()
    }
}

/// The signals the server answers, as a descriptor to poll. SIGTERM and SIGINT stop it, SIGUSR1
/// prints statistics; SIGHUP, SIGUSR2, SIGQUIT and SIGWINCH are taken and ignored, so that none of them ends
/// it by its default action. SIGPIPE is ignored by the Rust runtime from the start.
///
/// Call it in the main thread before any other thread starts: threads inherit the blocked set, and a
/// signal that some thread does not block would end the process there.
///
/// # Errors
/// When the mask cannot be set or the descriptor cannot be made.
pub fn signals() -> io::Result<SignalFd> {
    let taken = [
        Signal::SIGTERM,
        Signal::SIGINT,
        Signal::SIGUSR1,
        Signal::SIGUSR2,
        Signal::SIGHUP,
        Signal::SIGQUIT,
        Signal::SIGWINCH,
    ];
    let set: SigSet = taken.into_iter().collect();
    set.thread_block()?;
    Ok(SignalFd::with_flags(&set, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_phase_never_goes_back() {
        let stop = Stop::new(2).unwrap();
        stop.advance(Phase::Cut);
        stop.advance(Phase::Draining);
        assert_eq!(stop.phase(), Phase::Cut);
    }
}
