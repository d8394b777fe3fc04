//! The same server by readiness: epoll says that something may be done, plain `recv` and `send` do
//! it. Written as somebody who believes in epoll would: one receive and one send per message, one
//! wait per batch, no `epoll_ctl` between accept and close.
//!
//! `event_loop` is one thread with an instance, a table and listeners of its own; `shared` is one
//! instance served by many threads. Both do to a connection what `connection` says, ask the kernel
//! through `sockets`, and leave every decision to [`crate::conn`].
//!
//! Absent on purpose: the ring; buffers that outlive an event, but for the private copies of stuck
//! peers (`unsent`).

mod accepting;
mod connection;
mod ending;
mod event_loop;
#[cfg(test)]
mod over_loopback;
#[cfg(test)]
mod scripted;
mod setting;
mod shared;
#[cfg(test)]
mod sim;
#[cfg(test)]
mod simulation;
pub mod sockets;
mod unsent;

pub use event_loop::run;
pub use shared::Shared;

use crate::counters::{Counter, Counters};
use crate::worker::{BusyPoll, Failure, Worker};
use nix::errno::Errno;
use sockets::Kernel;

/// What only this backend counts.
pub const COUNTERS: &[&str] = &[
    "waits",
    "events",
    "would_blocks",
    "interest_changes",
    "copied_bytes",
    "ready_list",
    "deadline_steps",
    "accept_pauses",
    "rearmed",
    "locks_awaited",
];

/// The index of a name in [`COUNTERS`].
#[derive(Clone, Copy, Debug)]
enum Own {
    /// Times epoll was asked.
    Waits,
    /// Events it reported.
    Events,
    /// Receives and sends that were answered by "not now".
    WouldBlocks,
    /// Times the kernel was told to report something else about a connection.
    InterestChanges,
    /// Bytes copied because the kernel would not take them.
    CopiedBytes,
    /// Turns of connections that had more to read than one event may cost.
    ReadyList,
    /// Connections looked at for their deadline.
    DeadlineSteps,
    /// Times accepting paused, for want of permits, descriptors or memory.
    AcceptPauses,
    /// One-shot watches that were armed again (`threads=shared`).
    Rearmed,
    /// Times a connection was in another thread's hands (`threads=shared`).
    LocksAwaited,
}

fn counter(counters: &Counters, what: Own) -> &Counter {
    counters.own.at(what as usize)
}

fn cannot_be_set_up(error: Errno) -> Failure {
    Failure::Failed(format!(
        "epoll cannot be set up: {}. Raise the limits on open files and on memory, or lower --max-connections",
        error.desc()
    ))
}

/// Sets the instance of a worker, or that of all, up as it was asked for.
fn tune(kernel: &Kernel<'_>, worker: &Worker<'_>) -> Result<(), Failure> {
    busy_poll(kernel, worker.config.epoll.busy_poll, worker.busy_poll)
}

/// Has `kernel` poll the network card while it is waited on, where that was asked for.
fn busy_poll(kernel: &Kernel<'_>, time: Option<u32>, set: BusyPoll) -> Result<(), Failure> {
    let Some(time) = time else { return Ok(()) };
    set(kernel.descriptor(), time).map_err(|error| {
        Failure::Unavailable(format!(
            "--epoll: busy-poll: the kernel refuses to poll the network card for an epoll instance ({error}); \
             it came with Linux 6.9. busy-poll=off would do"
        ))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_instance_polls_the_card_where_that_was_typed_and_a_refusal_says_what_would_do() {
        let kernel = Kernel::of_all().unwrap();
        let refuses: BusyPoll = |_, time| Err(std::io::Error::from_raw_os_error(time as i32));
        assert!(busy_poll(&kernel, None, refuses).is_ok());
        let Err(Failure::Unavailable(told)) = busy_poll(&kernel, Some(Errno::ENOTTY as u32), refuses) else {
            panic!("not refused");
        };
        assert!(told.contains("Linux 6.9") && told.ends_with("busy-poll=off would do"), "{told}");
    }

    #[test]
    fn every_counter_has_its_name() {
        assert_eq!(COUNTERS[Own::Waits as usize], "waits");
        assert_eq!(COUNTERS[Own::AcceptPauses as usize], "accept_pauses");
        assert_eq!(COUNTERS[Own::LocksAwaited as usize], "locks_awaited");
        assert_eq!(COUNTERS.len(), Own::LocksAwaited as usize + 1);
    }
}
