//! Making a ring: the set-up flags, each with its reason, and the kernel's refusals in words.
//! Needs the choice of features; does not know what the ring is for.

use crate::features::{Taskrun, Uring};
use crate::host;
use io_uring::types::{Napi, NapiTracking};
use io_uring::{Builder, IoUring};
use std::io;
use std::time::{Duration, Instant};

/// Threads the kernel may start for operations it cannot do in the caller's context. Only our FIN at
/// a stop is such a one (IORING_OP_SHUTDOWN is always handed to io-wq); thousands of them together
/// would otherwise start a thread each.
const KERNEL_WORKERS: u32 = 4;

/// How long the kernel thread of `taskrun=sqpoll` looks for entries in vain before it sleeps, milliseconds.
const SUBMISSION_THREAD_IDLE: u32 = 100;

/// Makes a ring as `features` say, in the thread that will use it.
///
/// # Errors
/// The kernel's: `EPERM` and `ENOSYS` when io_uring is not allowed, `ENOMEM` when locked or
/// contiguous memory is out, `EINVAL` when a flag is unknown or polling the network card is.
pub fn make(features: &Uring) -> io::Result<IoUring> {
    let mut builder = IoUring::builder();
    // The completion queue is sized apart from the submission queue: every connection may have
    // completions waiting, but only one batch is submitted at a time.
    builder.setup_cqsize(features.cq);
    // One bad entry must not keep the rest of a batch from being submitted.
    builder.setup_submit_all();
    // One thread submits: the kernel leaves out the locking that several would need.
    builder.setup_single_issuer();
    match features.taskrun {
        // Completion work runs when this thread enters the kernel to wait, in batches, and never
        // interrupts it in between.
        Taskrun::Defer => builder.setup_defer_taskrun(),
        // Completion work waits for any transition to the kernel instead of interrupting.
        Taskrun::Coop => builder.setup_coop_taskrun().setup_taskrun_flag(),
        Taskrun::Default => &mut builder,
        // A kernel thread takes the entries and runs completion work, without being asked.
        Taskrun::Sqpoll => submission_thread(&mut builder),
    };
    if !features.sqarray {
        // Entries are taken in order anyway: the array of their indices is a cache line for nothing.
        builder.setup_no_sqarray();
    }
    let ring = patiently(|| builder.build(features.sq))?;
    // A kernel without this call has no limit to set; nothing depends on it but the thread count.
    let _ = ring.submitter().register_iowq_max_workers(&mut [KERNEL_WORKERS, KERNEL_WORKERS]);
    if let Some(time) = features.napi {
        let mut napi = Napi::new().set_busy_poll_timeout(time).set_tracking(NapiTracking::Dynamic);
        ring.submitter().register_napi(&mut napi)?;
    }
    Ok(ring)
}

/// Has a kernel thread submit. Where the worker is pinned, the thread runs on the same CPU: it is the
/// server's, and shall not take the time of whoever else was given a CPU of his own.
fn submission_thread(builder: &mut Builder) -> &mut Builder {
    builder.setup_sqpoll(SUBMISSION_THREAD_IDLE);
    match host::cpus()[..] {
        [cpu] => builder.setup_sqpoll_cpu(cpu as u32),
        _ => builder,
    }
}

/// Makes a ring, with a completion queue that nobody typed halved until it fits: `features` tell its size
/// then.
///
/// # Errors
/// As [`make`].
pub fn make_as_long_as_fits(features: &mut Uring) -> io::Result<IoUring> {
    /// Completion entries below which a queue that does not fit is given up instead of halved.
    const CQ_MIN: u32 = 256;
    loop {
        match make(features) {
            Err(error)
                if error.raw_os_error() == Some(libc::ENOMEM)
                    && !features.sizes_typed
                    && features.cq / 2 >= CQ_MIN.max(features.sq) =>
            {
                features.cq /= 2;
            }
            done => return done,
        }
    }
}

/// Tries again for a moment when there is no room: a ring that was closed, of the probe or of a server
/// that ran before, gives its locked memory back tens of milliseconds late.
pub(super) fn patiently<T>(attempt: impl Fn() -> io::Result<T>) -> io::Result<T> {
    const PATIENCE: Duration = Duration::from_millis(200);
    let begun = Instant::now();
    loop {
        match attempt() {
            Err(error) if error.raw_os_error() == Some(libc::ENOMEM) && begun.elapsed() < PATIENCE => {
                std::thread::sleep(Duration::from_millis(10));
            }
            done => return done,
        }
    }
}

/// The most slots a table of direct descriptors may have: the limit of open files, for each ring.
#[must_use]
pub fn slots_max() -> u64 {
    rustix::process::getrlimit(rustix::process::Resource::Nofile).current.unwrap_or(u64::MAX)
}

/// Registers a table of `slots` direct descriptors.
///
/// # Errors
/// `EMFILE` when `slots` is above [`slots_max`]; `ENOMEM`.
pub fn register_slots(ring: &IoUring, slots: u32) -> io::Result<()> {
    ring.submitter().register_files_sparse(slots)
}
