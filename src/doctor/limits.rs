//! The limits that would stop ten thousand, a hundred thousand and a million connections: what there is,
//! what is needed, and the command that changes it. Pure: the facts come in as values.
//!
//! What is needed is needed by a server, one end of every connection; where a limit counts the whole
//! machine and the client runs on it too, that is said in its row. What a connection holds while bytes
//! are on their way is not counted: `--unsent-limit` and the peers decide that.

use crate::features::{self, Answers};
use crate::host;
use crate::host::limits::Limits;
use crate::result::doctor::{IdleConnection, Limit, Scale, Sufficiency};

/// The numbers of connections.
pub(super) const SCALES: [u64; 3] = [10_000, 100_000, 1_000_000];
/// Descriptors the server keeps for itself.
const OWN_DESCRIPTORS: u64 = 64;
/// The most workers a server can have.
const WORKERS_MAX: u64 = 1024;
/// The longest backlog the server asks for.
const BACKLOG: u64 = 65_535;

/// What connections need beside a descriptor each.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Needs {
    /// Bytes of locked memory of the rings of all workers, for each number of connections; `None` where
    /// uring would not run.
    locked: [Option<u64>; SCALES.len()],
    /// Bytes of kernel memory for an idle connection, both ends.
    kernel: Option<f64>,
    /// Of that, bytes that net.ipv4.tcp_mem counts.
    tcp: Option<f64>,
}

impl Needs {
    /// With the server's defaults, and what was measured.
    pub(super) fn of(answers: &Answers, idle: &IdleConnection) -> Self {
        let (page, workers) = (host::page_bytes(), host::cpus().len() as u64);
        let locked = |connections: u64| {
            let connections = u32::try_from(connections).unwrap_or(u32::MAX);
            let resolved = features::uring(&features::Typed::default(), answers, connections).ok()?;
            Some(resolved.features.locked_bytes(page) * workers)
        };
        Self { locked: SCALES.map(locked), kernel: idle.kernel_bytes, tcp: idle.tcp_mem_bytes }
    }
}

/// Every limit against every number of connections.
pub(super) fn all(limits: &Limits, needs: &Needs) -> Vec<Limit> {
    let mut all = vec![
        descriptors(limits),
        descriptors_max(limits),
        files(limits),
        locked_memory(limits, needs),
        backlog(limits),
        half_open(limits),
        ports(limits),
        memory(limits, needs),
        tcp_memory(limits, needs),
    ];
    // Only where a firewall tracks connections at all.
    if limits.tracked.is_some() {
        all.push(tracked(limits));
    }
    all
}

/// A row. `needed` of connections, and what to do where there is less.
fn row(
    name: &str,
    unit: &str,
    about: &str,
    found: Option<u64>,
    needed: impl Fn(u64) -> Option<u64>,
    remedy: impl Fn(u64, u64) -> (Sufficiency, String),
) -> Limit {
    let scale = |connections: u64| {
        let needed = needed(connections);
        let (verdict, remedy) = match (needed, found) {
            (Some(needed), Some(found)) if found < needed => {
                let (verdict, remedy) = remedy(connections, needed);
                (verdict, Some(remedy))
            }
            (Some(_), Some(_)) => (Sufficiency::Enough, None),
            _ => (Sufficiency::Unknown, None),
        };
        Scale { connections, needed, verdict, remedy }
    };
    Limit {
        name: name.into(),
        about: about.into(),
        unit: unit.into(),
        found,
        scales: SCALES.map(scale).into(),
    }
}

fn descriptors(limits: &Limits) -> Limit {
    let max = limits.descriptors_max;
    let hard = limits.descriptors.map(|(_, hard)| hard);
    // With direct descriptors the limit bounds the table of each worker.
    let table = hard.map_or(0, |hard| hard.saturating_sub(OWN_DESCRIPTORS));
    row(
        "descriptors of the process",
        "descriptors",
        "the hard limit, to which c10k raises its own; with files=direct it bounds each worker instead",
        hard,
        |connections| Some(connections + OWN_DESCRIPTORS),
        |connections, needed| {
            let first = match max {
                Some(max) if max < needed => format!("sysctl -w fs.nr_open={needed}; "),
                _ => String::new(),
            };
            // As many workers as can be typed, each with a table; what is open at once is typed too, since
            // 65,536 is the most where it is not.
            let workers = if table > 0 { connections.div_ceil(table) } else { u64::MAX };
            let direct = match workers <= WORKERS_MAX {
                true => format!(
                    ", or c10k --uring files=direct --workers {workers} --max-connections {connections}"
                ),
                false => String::new(),
            };
            let command =
                format!("{first}ulimit -n {needed} (as root, or LimitNOFILE={needed} of its unit){direct}");
            (Sufficiency::Short, command)
        },
    )
}

fn descriptors_max(limits: &Limits) -> Limit {
    row(
        "descriptors of any process",
        "descriptors",
        "fs.nr_open: no limit can be raised above it",
        limits.descriptors_max,
        |connections| Some(connections + OWN_DESCRIPTORS),
        |_, needed| (Sufficiency::Short, format!("sysctl -w fs.nr_open={needed}")),
    )
}

fn files(limits: &Limits) -> Limit {
    let (used, _) = limits.files.unwrap_or_default();
    row(
        "open files of the machine",
        "descriptors",
        "fs.file-max less those in use; twice the connections where the client runs here too",
        limits.files.map(|(used, most)| most.saturating_sub(used)),
        |connections| Some(connections + OWN_DESCRIPTORS),
        |_, needed| (Sufficiency::Short, format!("sysctl -w fs.file-max={}", used + 2 * needed)),
    )
}

fn locked_memory(limits: &Limits, needs: &Needs) -> Limit {
    let about = match limits.locked_memory {
        Some(_) => {
            "ulimit -l: the queues of all rings of this user; where short, the server takes shorter ones"
        }
        None => "without a limit: for this user, or because it may lock memory (root, CAP_IPC_LOCK)",
    };
    let needed = |connections| {
        let scale = SCALES.iter().position(|&scale| scale == connections)?;
        needs.locked[scale]
    };
    let mut limit = row("locked memory", "bytes", about, limits.locked_memory, needed, |_, needed| {
        let kibibytes = needed.div_ceil(1024);
        (
            Sufficiency::Slower,
            format!("ulimit -l {kibibytes} (as root, or LimitMEMLOCK={kibibytes}K of its unit)"),
        )
    });
    if limits.locked_memory.is_none() {
        limit.scales.iter_mut().for_each(|scale| scale.verdict = Sufficiency::Enough);
    }
    limit
}

fn backlog(limits: &Limits) -> Limit {
    row(
        "backlog of a listener",
        "connections",
        "net.core.somaxconn: how many may arrive before one is accepted; more wait a second and try again",
        limits.backlog,
        |connections| Some(connections.min(BACKLOG)),
        |_, needed| (Sufficiency::Slower, format!("sysctl -w net.core.somaxconn={needed}")),
    )
}

fn half_open(limits: &Limits) -> Limit {
    let about = if limits.syn_cookies {
        "net.ipv4.tcp_max_syn_backlog: half-open ones; beyond it SYN cookies answer"
    } else {
        "net.ipv4.tcp_max_syn_backlog: half-open ones; beyond it they are dropped and try again"
    };
    let cookies = limits.syn_cookies;
    row(
        "half-open connections",
        "connections",
        about,
        limits.half_open,
        // With cookies the burst is answered all the same.
        |connections| Some(if cookies { 0 } else { connections.min(BACKLOG) }),
        |_, needed| (Sufficiency::Slower, format!("sysctl -w net.ipv4.tcp_max_syn_backlog={needed}")),
    )
}

fn ports(limits: &Limits) -> Limit {
    let ports = limits.ports.unwrap_or(1).max(1);
    row(
        "ports of a client",
        "ports",
        "net.ipv4.ip_local_port_range: connections from one address to one server",
        limits.ports,
        Some,
        |connections, _| {
            let (here, widened) = (connections.div_ceil(ports), connections.div_ceil(64_511));
            let remedy = format!(
                "{here} source addresses (on loopback c10k load takes them by itself, else --source \
                 ADDRESSES); or sysctl -w net.ipv4.ip_local_port_range=\"1024 65534\" and {widened} of them"
            );
            (Sufficiency::Short, remedy)
        },
    )
}

fn memory(limits: &Limits, needs: &Needs) -> Limit {
    row(
        "memory",
        "bytes",
        "MemAvailable, or what this control group may still take, against idle connections, both ends here",
        limits.memory,
        |connections| Some((needs.kernel? * connections as f64).ceil() as u64),
        |_, needed| {
            (Sufficiency::Short, format!("{} of memory, or the client elsewhere", super::text::bytes(needed)))
        },
    )
}

fn tcp_memory(limits: &Limits, needs: &Needs) -> Limit {
    let page = host::page_bytes();
    row(
        "memory of all TCP buffers",
        "bytes",
        "net.ipv4.tcp_mem: idle connections hold next to none of it, a peer that does not read does",
        limits.tcp_memory,
        |connections| Some((needs.tcp? * connections as f64).ceil() as u64),
        |_, needed| {
            let pages = needed.div_ceil(page);
            (Sufficiency::Short, format!("sysctl -w net.ipv4.tcp_mem=\"{pages} {pages} {pages}\""))
        },
    )
}

fn tracked(limits: &Limits) -> Limit {
    row(
        "connections a firewall tracks",
        "connections",
        "net.netfilter.nf_conntrack_max: beyond it connections are dropped",
        limits.tracked,
        Some,
        |_, needed| (Sufficiency::Short, format!("sysctl -w net.netfilter.nf_conntrack_max={needed}")),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits() -> Limits {
        Limits {
            descriptors: Some((1024, 20_000)),
            descriptors_max: Some(1_048_576),
            files: Some((1_000, 2_000_000)),
            locked_memory: Some(8 << 20),
            backlog: Some(4096),
            half_open: Some(2048),
            syn_cookies: true,
            ports: Some(28_232),
            tracked: None,
            memory: Some(4 << 30),
            tcp_memory: Some(1 << 30),
        }
    }

    fn needs() -> Needs {
        Needs { locked: [Some(1 << 20), Some(8 << 20), Some(9 << 20)], kernel: Some(7000.0), tcp: Some(0.0) }
    }

    fn verdicts(name: &str, limits: &Limits) -> [Sufficiency; 3] {
        let all = all(limits, &needs());
        let limit = all.iter().find(|limit| limit.name == name).unwrap_or_else(|| panic!("no {name}"));
        [0, 1, 2].map(|scale| limit.scales[scale].verdict)
    }

    fn remedy(name: &str, scale: usize, limits: &Limits) -> String {
        let all = all(limits, &needs());
        let limit = all.iter().find(|limit| limit.name == name).unwrap();
        limit.scales[scale].remedy.clone().unwrap_or_default()
    }

    #[test]
    fn each_number_of_connections_is_held_against_what_there_is() {
        use Sufficiency::{Enough, Short, Slower};
        let limits = limits();
        assert_eq!(verdicts("descriptors of the process", &limits), [Enough, Short, Short]);
        assert_eq!(verdicts("descriptors of any process", &limits), [Enough; 3]);
        assert_eq!(verdicts("open files of the machine", &limits), [Enough; 3]);
        // Exactly as much as is needed is enough.
        assert_eq!(verdicts("locked memory", &limits), [Enough, Enough, Slower]);
        assert_eq!(verdicts("backlog of a listener", &limits), [Slower; 3]);
        assert_eq!(verdicts("half-open connections", &limits), [Enough; 3]);
        assert_eq!(verdicts("ports of a client", &limits), [Enough, Short, Short]);
        assert_eq!(verdicts("memory", &limits), [Enough, Enough, Short]);
        assert_eq!(verdicts("memory of all TCP buffers", &limits), [Enough; 3]);
    }

    #[test]
    fn the_command_names_the_number_that_is_needed_and_what_stands_above_it() {
        let mut limits = limits();
        let descriptors = remedy("descriptors of the process", 1, &limits);
        assert!(descriptors.starts_with("ulimit -n 100064 "), "{descriptors}");
        // 19,936 slots in each table: five workers would hold 99,680.
        assert!(descriptors.ends_with("or c10k --uring files=direct --workers 6 --max-connections 100000"));
        // Nobody can start more than 1,024 workers.
        limits.descriptors = Some((300, 400));
        let few = remedy("descriptors of the process", 2, &limits);
        assert!(few.ends_with("LimitNOFILE=1000064 of its unit)"), "{few}");
        assert!(remedy("descriptors of the process", 0, &limits).contains("--workers 30 "));
        limits.descriptors_max = Some(500_000);
        let both = remedy("descriptors of the process", 2, &limits);
        assert!(both.starts_with("sysctl -w fs.nr_open=1000064; ulimit -n 1000064"), "{both}");
        limits.files = Some((1_000, 50_000));
        assert_eq!(remedy("open files of the machine", 1, &limits), "sysctl -w fs.file-max=201128");
        assert!(remedy("locked memory", 2, &limits).starts_with("ulimit -l 9216 "));
        assert_eq!(remedy("backlog of a listener", 2, &limits), "sysctl -w net.core.somaxconn=65535");
        let ports = remedy("ports of a client", 2, &limits);
        assert!(ports.starts_with("36 source addresses") && ports.ends_with("and 16 of them"), "{ports}");
    }

    #[test]
    fn what_cannot_be_known_is_said_and_what_has_no_limit_is_enough() {
        let nothing = Limits::default();
        assert_eq!(verdicts("descriptors of the process", &nothing), [Sufficiency::Unknown; 3]);
        assert_eq!(verdicts("memory", &nothing), [Sufficiency::Unknown; 3]);
        assert_eq!(verdicts("locked memory", &nothing), [Sufficiency::Enough; 3]);
        let unmeasured = Needs { kernel: None, ..needs() };
        let all = all(&limits(), &unmeasured);
        let memory = all.iter().find(|limit| limit.name == "memory").unwrap();
        assert!(memory.scales.iter().all(|scale| scale.verdict == Sufficiency::Unknown));
    }

    #[test]
    fn a_firewall_that_tracks_has_a_row_and_cookies_make_the_half_open_enough() {
        let limits = Limits { tracked: Some(65_536), syn_cookies: false, ..limits() };
        assert_eq!(
            verdicts("connections a firewall tracks", &limits),
            [Sufficiency::Enough, Sufficiency::Short, Sufficiency::Short]
        );
        assert_eq!(verdicts("half-open connections", &limits), [Sufficiency::Slower; 3]);
    }
}
