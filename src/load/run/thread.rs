//! One load thread: pinned, its memory and its kernel laid out, the engine run, its last word said.

use super::super::buffers::Arena;
use super::super::control::{Control, Report, Reports, Spares};
use super::super::engine::{self, Ending, Share};
use super::super::plan::{self, Engine, Plan, Workload};
use super::super::tally::Ended;
use crate::host;
use crate::ring::dialing::{self, Offered, Setup};
use crate::ring::readiness::Readiness;
use crate::stop::Stop;
use std::net::SocketAddr;
use std::os::fd::BorrowedFd;

/// What carries the messages, as found at the start.
pub(super) enum Kernel {
    Uring(Offered),
    Epoll,
}

impl Kernel {
    /// Asks the kernel where the plan needs it.
    pub(super) fn of(plan: &Plan) -> Result<Self, String> {
        match plan.engine {
            Engine::Uring => dialing::offered().map(Self::Uring),
            Engine::Epoll => Ok(Self::Epoll),
        }
    }
}

/// Loads, and reports until the last word.
pub(super) fn run(
    thread: usize,
    plan: &Plan,
    control: &Control,
    stop: &Stop,
    kernel: &Kernel,
    reports: Reports,
    spares: Spares,
) {
    if !plan.cpus.is_empty() {
        // Refused only for a CPU outside of the mask, which `check` looks at.
        let _ = host::pin(plan.cpus[thread % plan.cpus.len()]);
    }
    host::sharpen_timers();
    let connections = plan::share(plan.connections, plan.threads, thread);
    let share = Share { thread, plan, control, connections, reports: reports.clone(), cpu: host::thread_cpu };
    let last = load(share, spares, kernel, stop.waker(thread))
        .unwrap_or_else(|sentence| Ended { failure: Some(sentence), ..Ended::default() });
    // The main thread waits for it.
    let _ = reports.send(Report::Ended { thread, last: Box::new(last) });
}

/// Lays out the memory, then the kernel over it, then the engine over both; they end in the opposite
/// order.
fn load(share: Share<'_>, spares: Spares, kernel: &Kernel, waker: BorrowedFd<'_>) -> Result<Ended, String> {
    let (count, size) = buffers(share.plan);
    let arena = Arena::new(count, size, SCRATCH)
        .map_err(|error| format!("no memory for the buffers of a thread: {error}; use fewer threads (-t)"))?;
    let targets: [SocketAddr; 1] = [share.plan.target];
    let setup = Setup {
        targets: &targets,
        connections: share.connections.len() as u32,
        direct: share.plan.direct,
        buffer_count: count,
        buffer_size: size,
        origin: share.control.origin,
    };
    let features;
    let (ending, ended) = match kernel {
        Kernel::Uring(offered) => {
            let mut dialer = dialing::Dialer::new(offered, &setup)?;
            features = dialer.in_force();
            let ring = dialer.ring(arena.memory(), waker)?;
            engine::Engine::new(ring, &arena, share, spares).run()
        }
        Kernel::Epoll => {
            let ring = Readiness::new(&setup, arena.memory(), waker)?;
            features = ring.in_force();
            engine::Engine::new(ring, &arena, share, spares).run()
        }
    };
    if ending == Ending::Cut {
        // Operations may be in flight, and the kernel ends a ring in its own time: the memory is left to
        // the end of the process, which is near.
        std::mem::forget(arena);
    }
    Ok(Ended { features, ..ended })
}

/// Bytes that messages are written to: those of one turn, and near enough to stay in the cache.
const SCRATCH: u32 = 512 * 1024;

/// How many buffers to receive into, and their size. They are given back in the turn in which they came,
/// so a few hundred are plenty; long messages need large ones, or each costs many receives. Their bytes are
/// those of the thread and not of its connections: more connections than buffers find none now and then, and
/// are armed again in the same turn.
///
/// The echo of a stream comes back in pieces of about a message, however full its sockets are: buffers far larger
/// than that would be too few for what a hundred connections have in a turn.
fn buffers(plan: &Plan) -> (u16, u32) {
    let longest = match plan.workload {
        Workload::Stream => (u64::from(*plan.size.end()) * MESSAGES_OF_STREAM).max(SMALLEST_OF_STREAM),
        _ => u64::from(*plan.size.end()) * u64::from(plan.depth.max(1)),
    };
    let size = longest.min(u64::from(LARGEST)).next_power_of_two().max(4096) as u32;
    ((POOL / size).clamp(64, 512) as u16, size)
}

/// Messages of a stream that a buffer has room for, and the smallest such buffer.
const MESSAGES_OF_STREAM: u64 = 4;
const SMALLEST_OF_STREAM: u64 = 16 * 1024;

const LARGEST: u32 = 64 * 1024;
/// Bytes in all buffers of a thread, about.
const POOL: u32 = 4 * 1024 * 1024;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::for_tests::checked;

    #[test]
    fn a_hundred_connections_find_a_buffer_each_unless_messages_are_long_and_the_pool_grows_with_neither() {
        let of = |arguments: &str| buffers(&checked(arguments).plan);
        assert_eq!(of("stream -s 4Ki -c 100"), (256, 16 << 10));
        assert_eq!(of("stream -s 64 -c 100"), (256, 16 << 10));
        assert_eq!(of("stream -s 64Ki -c 16"), (64, 64 << 10));
        assert_eq!(of("pingpong -s 64 -c 100"), (512, 4 << 10));
        assert_eq!(of("pingpong -s 64Ki -P 16 -c 100"), (64, 64 << 10));
        for arguments in ["stream -s 4Ki -c 9000", "pingpong -s 1Ki -P 16 -c 9000", "churn -s 1..64Ki"] {
            let (count, size) = of(arguments);
            assert!(
                count.is_power_of_two() && u32::from(count) * size <= POOL,
                "{arguments}: {count} x {size}"
            );
        }
    }
}
