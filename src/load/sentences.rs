//! What a trouble means and what to do about it, in words: one explanation and one remedy for each pair
//! of phase and cause. Pure.

use super::plan::{Plan, Workload};
use super::trouble::{Cause, Phase};
use nix::errno::Errno;
use std::fmt;

/// A trouble in words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sentence {
    /// What it means.
    pub explanation: String,
    /// What would do.
    pub remedy: String,
}

/// Both in one breath.
impl fmt::Display for Sentence {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}; {}", self.explanation, self.remedy)
    }
}

impl Phase {
    /// Its name in results.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Connect => "connect",
            Self::Send => "send",
            Self::Receive => "receive",
            Self::Close => "close",
        }
    }
}

impl Cause {
    /// Its name in results.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Errno(_) => "errno",
            Self::ClosedEarly => "closed_early",
            Self::TimedOut => "timed_out",
            Self::Stuck => "stuck",
            Self::WrongBytes => "wrong_bytes",
        }
    }

    /// The name of the kernel's error, where it was one.
    #[must_use]
    pub fn errno_name(self) -> Option<String> {
        let Self::Errno(number) = self else { return None };
        match Errno::from_raw(number) {
            Errno::UnknownErrno => Some(format!("errno {number}")),
            errno => Some(format!("{errno:?}")),
        }
    }
}

/// The words for a trouble.
#[must_use]
pub fn sentence(phase: Phase, cause: Cause, plan: &Plan) -> Sentence {
    let (explanation, remedy) = match cause {
        Cause::Errno(number) => kernel(phase, Errno::from_raw(number), number, plan),
        Cause::ClosedEarly => (
            "the server closed connections that it still owed bytes, or that nobody had asked it to close".into(),
            "look at its log; a server that stops, or limits its connections or their time, does that".into(),
        ),
        Cause::TimedOut => (
            format!(
                "no connection was made within {} (--connect-timeout): the SYN or its answer was lost",
                crate::units::print_time(plan.connect_timeout)
            ),
            "its backlog may be full (nstat TcpExtListenDrops there): a lower --connect-rate; or a firewall drops \
             it: another address"
                .into(),
        ),
        Cause::Stuck => (
            format!(
                "answers had not come whole {} after the window (--grace)",
                crate::units::print_time(plan.grace)
            ),
            "if the server is only slow, a longer --grace or a lower -R; if not, it has lost them".into(),
        ),
        Cause::WrongBytes => (
            "bytes came back that were not sent there".into(),
            "the list of wrong bytes says which and where they came from".into(),
        ),
    };
    Sentence { explanation, remedy }
}

fn kernel(phase: Phase, errno: Errno, number: i32, plan: &Plan) -> (String, String) {
    let target = plan.target;
    match (phase, errno) {
        (_, Errno::ECONNREFUSED) => (
            format!("nobody listens on {target}"),
            "start a server there, as c10k --backend uring, or give the HOST:PORT of one".into(),
        ),
        (Phase::Open | Phase::Connect, Errno::EADDRNOTAVAIL) => no_address(plan),
        (_, Errno::EMFILE) => (
            "this process has no descriptors left".into(),
            "fewer -c, --direct on, or a higher hard limit (ulimit -Hn)".into(),
        ),
        (_, Errno::ENFILE) => {
            ("this machine has no open files left".into(), "fewer -c, or a higher fs.file-max".into())
        }
        (_, Errno::ENOBUFS | Errno::ENOMEM) => (
            "the kernel had no memory for it".into(),
            "fewer -c, smaller -s, or a larger net.ipv4.tcp_mem or locked-memory limit (ulimit -l)".into(),
        ),
        (Phase::Connect, Errno::ECONNRESET | Errno::ECONNABORTED) => (
            "the server reset connections that were just being made".into(),
            "it is at its limit of connections, or its backlog is full: fewer -c or a lower --connect-rate"
                .into(),
        ),
        (_, Errno::ECONNRESET | Errno::EPIPE) => (
            "the server reset connections: it closed them with bytes unread, or it died".into(),
            "see whether it still runs; at its limit of connections it refuses so too: fewer -c".into(),
        ),
        (_, Errno::ETIMEDOUT) => (
            "the other host did not answer any more".into(),
            "see whether it still runs and can be reached".into(),
        ),
        (_, Errno::EHOSTUNREACH | Errno::ENETUNREACH | Errno::ENETDOWN | Errno::EHOSTDOWN) => (
            format!("there is no way to {target}"),
            format!("ip route get {} shows what is missing; or another address", target.ip()),
        ),
        (_, Errno::EACCES | Errno::EPERM) => (
            format!("a rule of this machine (firewall, security module) forbids connections to {target}"),
            "allow it, or another target".into(),
        ),
        (Phase::Open | Phase::Connect, Errno::EINVAL) => (
            format!("{target} cannot be reached from the source addresses"),
            "other addresses as --source, or any".into(),
        ),
        (_, Errno::UnknownErrno) => (
            format!("the kernel answered with error number {number}, which has no name"),
            "please report it with the command".into(),
        ),
        _ => (
            format!("the kernel answered: {}", errno.desc()),
            "nobody has met this here yet: please report it with the command".into(),
        ),
    }
}

fn no_address(plan: &Plan) -> (String, String) {
    let why = match plan.workload {
        Workload::Churn => {
            "every port of the source addresses is in use or rests after its last connection (TIME_WAIT)"
        }
        _ => "every port of the source addresses towards the target is in use",
    };
    let loopback = plan.target.is_ipv4() && plan.target.ip().is_loopback();
    let remedy = match loopback {
        true => "--source auto, or more addresses of 127.0.0.0/8; fewer -c",
        false => {
            "more addresses of this host as --source, a wider net.ipv4.ip_local_port_range, or fewer -c; an \
             address that is not this host's gives the same answer"
        }
    };
    (why.into(), remedy.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::plan::{Arrivals, End, Engine, StatsFrom};
    use std::time::Duration;

    fn plan() -> Plan {
        Plan {
            workload: Workload::PingPong,
            target: "127.0.0.1:8888".parse().unwrap(),
            connections: 1,
            size: 64..=64,
            depth: 1,
            arrivals: Arrivals::Closed,
            end: End::After(Duration::from_secs(1)),
            warmup: Duration::ZERO,
            grace: Duration::from_secs(2),
            threads: 1,
            cpus: Vec::new(),
            engine: Engine::Uring,
            direct: false,
            sources: Vec::new(),
            connect_rate: None,
            connect_timeout: Duration::from_secs(5),
            verify: true,
            latency: true,
            seed: 1,
            interval: Duration::from_secs(1),
            server_stats: StatsFrom::None,
        }
    }

    #[test]
    fn every_trouble_has_a_cause_and_a_remedy() {
        let phases = [Phase::Open, Phase::Connect, Phase::Send, Phase::Receive, Phase::Close];
        let causes = [Cause::ClosedEarly, Cause::TimedOut, Cause::Stuck, Cause::WrongBytes];
        let causes = causes.into_iter().chain((-1..140).map(Cause::Errno));
        for (cause, phase) in causes.flat_map(|cause| phases.map(|phase| (cause, phase))) {
            let Sentence { explanation, remedy } = sentence(phase, cause, &plan());
            assert!(explanation.len() > 15 && remedy.len() > 15, "{phase:?} {cause:?}");
            assert!(!explanation.ends_with('.') && !remedy.ends_with('.'), "{phase:?} {cause:?}");
            assert!(!explanation.contains("errno"), "{explanation}");
        }
    }

    #[test]
    fn the_frequent_ones_name_what_would_do() {
        let plan = plan();
        let remedy = |phase, errno| sentence(phase, Cause::of(errno), &plan).remedy;
        let explanation = |phase, errno| sentence(phase, Cause::of(errno), &plan).explanation;
        assert_eq!(explanation(Phase::Connect, Errno::ECONNREFUSED), "nobody listens on 127.0.0.1:8888");
        assert!(remedy(Phase::Connect, Errno::ECONNREFUSED).contains("c10k --backend uring"));
        assert!(remedy(Phase::Connect, Errno::EADDRNOTAVAIL).contains("--source auto"));
        assert!(remedy(Phase::Open, Errno::EMFILE).contains("ulimit -Hn"));
        let elsewhere = Plan { target: "10.0.0.1:1".parse().unwrap(), ..plan.clone() };
        let ports = sentence(Phase::Connect, Cause::of(Errno::EADDRNOTAVAIL), &elsewhere);
        assert!(ports.remedy.contains("ip_local_port_range"), "{}", ports.remedy);
        let slow = sentence(Phase::Connect, Cause::TimedOut, &plan).explanation;
        assert!(slow.contains("5s") && slow.contains("--connect-timeout"), "{slow}");
    }
}
