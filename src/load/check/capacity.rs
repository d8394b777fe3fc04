//! Whether so many sockets fit: descriptors, slots of the rings' tables, threads, memory.

use crate::load::plan::Engine;
use crate::units;

/// What the decision depends on.
pub(super) struct Asked {
    pub(super) connections: u32,
    pub(super) engine: Engine,
    /// `--direct`; `None` is auto.
    pub(super) direct: Option<bool>,
    /// `-t`.
    pub(super) threads: Option<u64>,
    /// CPUs a thread each may run on.
    pub(super) cpus: usize,
    /// Descriptors of the process, `None` without a limit.
    pub(super) descriptors: Option<u64>,
}

/// What was decided.
pub(super) struct Sockets {
    pub(super) threads: usize,
    pub(super) direct: bool,
    pub(super) problems: Vec<String>,
    pub(super) notes: Vec<String>,
}

/// Slots of a ring's table that are left free: a socket is a descriptor before it is a slot, and those
/// that are being closed still hold theirs.
const SLOTS_SPARE: u64 = 64;
/// Descriptors for files, signals and streams; and for each thread its ring or epoll instance, its
/// wake-up, and a few sockets on their way.
const DESCRIPTORS_OWN: u64 = 64;
const DESCRIPTORS_PER_THREAD: u64 = 8;
const RAISE: &str = "raise it with ulimit -Hn or prlimit --nofile";

/// Decides threads and kind of sockets.
pub(super) fn sockets(asked: &Asked) -> Sockets {
    let connections = u64::from(asked.connections);
    let by_cpus = (asked.cpus.max(1) as u64).min(connections);
    let mut decided = Sockets { threads: 1, direct: false, problems: Vec::new(), notes: Vec::new() };
    let mut threads = asked.threads.unwrap_or(by_cpus);
    if threads > connections {
        decided.problems.push(format!(
            "--threads: {threads} are more than the {connections} connections; 1 to {connections} would do"
        ));
    }
    let limit = asked.descriptors.unwrap_or(u64::MAX);
    let own = |threads: u64| DESCRIPTORS_OWN + DESCRIPTORS_PER_THREAD * threads;
    let suffice = connections <= limit.saturating_sub(own(threads));
    if asked.engine == Engine::Epoll && asked.direct == Some(true) {
        decided
            .problems
            .push("--direct: epoll knows descriptors only; --engine uring, or off, would do".into());
    } else if asked.engine == Engine::Uring && asked.direct.unwrap_or(!suffice) {
        decided.direct = true;
        threads = rings(asked, threads, limit, &mut decided);
    } else if !suffice {
        let room = limit.saturating_sub(own(threads));
        let slots = match asked.engine {
            Engine::Uring => "--direct auto",
            Engine::Epoll => "--engine uring, which needs none for a connection",
        };
        decided.problems.push(format!(
            "--connections: {connections} do not fit into the hard limit of {limit} descriptors; {slots}, or -c {room}, \
             would do, or {RAISE}"
        ));
    }
    decided.threads = threads as usize;
    decided
}

/// Threads so many that their rings' tables hold all connections. A table has at most as many slots as
/// a process may have descriptors.
fn rings(asked: &Asked, threads: u64, limit: u64, decided: &mut Sockets) -> u64 {
    let connections = u64::from(asked.connections);
    let slots = limit.saturating_sub(SLOTS_SPARE);
    if slots == 0 {
        decided
            .problems
            .push(format!("--connections: the hard limit of {limit} descriptors leaves no slots; {RAISE}"));
        return threads;
    }
    let needed = connections.div_ceil(slots);
    if needed <= threads {
        return threads;
    }
    match asked.threads {
        Some(typed) => decided.problems.push(format!(
            "--threads: {typed} rings hold {} of {connections} connections, since a ring has at most as many slots as \
             a process may have descriptors ({limit}); {needed} would do",
            slots * typed
        )),
        None => decided.notes.push(format!(
            "{needed} threads: {connections} connections are slots of {needed} rings, at most {slots} each, since the \
             hard limit is {limit} descriptors"
        )),
    }
    needed
}

/// Whether what is kept of the connections fits into the memory there is; why not, a sentence.
pub(super) fn memory(connections: u32, depth: u32, memory: u64) -> Option<String> {
    /// Of a connection, and of each message it may have on its way: what the engine's test of its memory
    /// allows, 256 bytes at a depth of one.
    const CONNECTION: u64 = 240;
    const MESSAGE: u64 = 16;
    let bytes = u64::from(connections) * (CONNECTION + MESSAGE * u64::from(depth));
    (bytes > memory / 2).then(|| {
        format!(
            "--connections: {connections} of --depth {depth} take {}, more than half of the {} of memory there are; \
             fewer would do",
            units::approximate_bytes(bytes),
            units::approximate_bytes(memory)
        )
    })
}
