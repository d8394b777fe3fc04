//! From a worker's share to a running loop: memory, ring, loop, in the order that lets them end in
//! the opposite one. It runs on the worker's own thread, after pinning: the kernel binds the ring to
//! the thread that makes it, and memory lands where it is first touched.

use super::buffers::{Arena, Buffers, Incremental, Owned, Ownership, Shared};
use super::event_loop::EventLoop;
use super::handing::PASSAGE;
use crate::features::{self, Files, Recv, Uring};
use crate::ring::neighbours::Rings;
use crate::ring::polled::PolledRing;
use crate::ring::probe::barred;
use crate::ring::real::RealRing;
use crate::ring::{Listening, Pages, setup, stride};
use crate::worker::{Ending, Failure, Laid, Worker};
use io_uring::IoUring;
use std::io;
use std::os::fd::AsRawFd;
use std::sync::Arc;

/// Slots of a direct-descriptor table beyond the connection limit: a full table makes the kernel
/// drop peers, and a burst of accepts can overshoot the limit before it is cancelled.
const SLOTS_MARGIN: u32 = 1024;
/// What is left of the margin where the descriptor limit, which bounds each table, is nearer than the
/// permits: then this worker serves nobody in its last slots, and only passes on who comes.
const SLOTS_MARGIN_LEAST: u32 = PASSAGE;

/// Serves until told to stop; `rings` are those of all workers.
///
/// # Errors
/// When the ring cannot be set up as asked, or the kernel lost completions.
pub fn run(mut worker: Worker<'_>, rings: &Arc<Rings>) -> Result<Ending, Failure> {
    let mut laid = Laid { worker: worker.index, ..Laid::default() };
    let features = &worker.config.uring;
    let arena = arena(features, &worker).map_err(|error| {
        failed("memory for the buffers", &error, "choose a smaller buffer-count= or buffer-size=")
    })?;
    let (mut io_uring, mut features) = make_ring(features, &mut laid)?;
    worker.room = register_slots(&io_uring, &features, &worker)?;
    features.groups = features.groups.min(worker.room);
    let listeners = std::mem::take(&mut worker.listeners);
    let (stop, index, count) = (worker.stop, worker.index, listeners.len());
    let wake_others = move || stop.wake_others(index);
    let descriptor = io_uring.as_raw_fd();
    let mut ring =
        RealRing::new(&mut io_uring, &features, arena.memory(), listeners, stop.waker(index), &wake_others)
            .map_err(|error| refused(given(&features), &error))?;
    ring.beside(rings);
    rings.open(index, descriptor);
    describe(&mut laid, &features, &worker, &arena);
    let ending = match (features.recv, features.buffers) {
        (Recv::Poll, _) => {
            let ring = PolledRing::new(ring, arena.memory(), &features, worker.room);
            serve(ring, Buffers::<Shared>::new(&arena), &worker, count, laid)
        }
        (_, features::Buffers::Owned) => serve(ring, Buffers::<Owned>::new(&arena), &worker, count, laid),
        (_, features::Buffers::Incremental) => {
            serve(ring, Buffers::<Incremental>::new(&arena), &worker, count, laid)
        }
        _ => serve(ring, Buffers::<Shared>::new(&arena), &worker, count, laid),
    };
    rings.close(index);
    drop(io_uring);
    if !matches!(ending, Ok(Ending::Drained)) {
        // Operations may be in flight, and the kernel ends a ring in its own time: the memory is
        // left to the end of the process, which is near.
        std::mem::forget(arena);
    }
    ending
}

/// The loop, from the word that it accepts to its end. What it was given is gone after it, the ring first.
fn serve<R: Listening, K: Ownership>(
    ring: R,
    buffers: Buffers<'_, K>,
    worker: &Worker<'_>,
    listeners: usize,
    laid: Laid,
) -> Result<Ending, Failure> {
    let mut event_loop = EventLoop::new(ring, buffers, worker, listeners);
    (worker.ready)(laid);
    event_loop.run()
}

/// Buffers of all are made resident; those of connections that may never come are not.
fn arena(features: &Uring, worker: &Worker<'_>) -> io::Result<Arena> {
    let make = if features.buffers == features::Buffers::Owned { Arena::untouched } else { Arena::new };
    make(features.buffer_count, features.buffer_size, worker.spill_limit())
}

/// Makes the ring; says so when its completion queue had to be halved.
fn make_ring(wanted: &Uring, laid: &mut Laid) -> Result<(IoUring, Uring), Failure> {
    let mut features = wanted.clone();
    match setup::make_as_long_as_fits(&mut features) {
        Ok(ring) => {
            if features.cq < wanted.cq {
                laid.notes.push(format!(
                    "worker {}: the completion queue has {} entries instead of {}: no more memory may be \
                     locked (raise `ulimit -l`, or type a smaller cq=)",
                    laid.worker, features.cq, wanted.cq
                ));
            }
            Ok((ring, features))
        }
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => Err(refused("the ring", &error)),
        Err(error) => Err(Failure::Unavailable(format!("{} --backend epoll would do", barred(&error)))),
    }
}

/// How many connections there is room for.
fn register_slots(ring: &IoUring, features: &Uring, worker: &Worker<'_>) -> Result<u32, Failure> {
    let limit = worker.admission.limit();
    if features.files == Files::Normal {
        return Ok(limit);
    }
    let slots = u64::from(limit + SLOTS_MARGIN).min(setup::slots_max()) as u32;
    setup::register_slots(ring, slots)
        .map_err(|error| refused(&format!("a table of {slots} direct descriptors"), &error))?;
    Ok(limit.min(slots.saturating_sub(SLOTS_MARGIN_LEAST)))
}

fn describe(laid: &mut Laid, features: &Uring, worker: &Worker<'_>, arena: &Arena) {
    let pool = u64::from(features.buffer_count) * stride(features.buffer_size);
    let holders = match features.buffers {
        features::Buffers::Incremental => Buffers::<Incremental>::bytes(arena),
        _ => Buffers::<Shared>::bytes(arena),
    };
    let lists = u64::from(features.buffer_count) * 16 + holders;
    let owned = features.buffers == features::Buffers::Owned;
    laid.memory = vec![
        ("buffers", if owned { lists } else { pool + lists }),
        // 64 and 16 bytes an entry: struct io_uring_sqe and struct io_uring_cqe.
        ("queues", u64::from(features.sq) * 64 + u64::from(features.cq) * 16),
        ("tables", EventLoop::<RealRing<'_>>::table_bytes(worker.room)),
        ("spill", worker.spill_limit()),
    ];
    if worker.handover.is_some() {
        laid.memory.push(("leaving", EventLoop::<RealRing<'_>>::leaving_bytes(worker)));
    }
    if owned {
        laid.memory.push(("own_buffers", pool));
    }
    if features.groups > 0 {
        laid.memory.push(("groups", u64::from(features.groups) * Pages::size_of_one()));
    }
    laid.sizes = vec![("sq", u64::from(features.sq)), ("cq", u64::from(features.cq))];
}

/// What a ring is given before it serves.
const fn given(features: &Uring) -> &'static str {
    match features.groups {
        0 => "the buffer ring or the registered ring descriptor",
        _ => {
            "a buffer group for each of --max-connections (bundle), the buffer ring or the registered ring descriptor"
        }
    }
}

/// The sentence for what the kernel refuses of a ring where it has io_uring and allows it.
fn refused(what: &str, error: &io::Error) -> Failure {
    let remedy = match error.raw_os_error() {
        Some(libc::ENOMEM) => {
            "no more memory may be locked by this user; raise `ulimit -l`, choose a smaller cq= or \
             buffer-count=, or use --backend epoll"
        }
        Some(libc::EMFILE) => "RLIMIT_NOFILE bounds it; raise `ulimit -n`, or lower --max-connections",
        Some(libc::EINVAL) => {
            "this kernel does not know a feature that is in force (`--uring help` tells which); \
             choose another, or use --backend epoll"
        }
        _ => "use --backend epoll",
    };
    Failure::Unavailable(format!("the kernel refuses {what}: {error}. {remedy}"))
}

fn failed(what: &str, error: &io::Error, remedy: &str) -> Failure {
    Failure::Failed(format!("no {what}: {error}; {remedy}"))
}
