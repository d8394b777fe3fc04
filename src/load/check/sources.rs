//! The addresses connections come from. One address has only so many ports towards one target, and
//! filling them slows the kernel's search: on loopback, where every 127.x.y.z is ours, connections are
//! spread over as many as they need.

use crate::load::plan::Workload;
use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// Connections from one address at most, where we choose: from there on each connect searches long.
pub(super) const PER_SOURCE: u32 = 9_000;
/// Addresses a churn on loopback comes from: a port that was closed rests for a second there, at least.
const CHURN_SOURCES: u32 = 8;
/// Addresses at most.
const SOURCES_MAX: usize = 65_536;
const TOO_MANY: u128 = SOURCES_MAX as u128 + 1;

/// What the choice depends on.
pub(super) struct Asked<'a> {
    pub(super) typed: Option<&'a str>,
    pub(super) target: SocketAddr,
    pub(super) connections: u32,
    pub(super) workload: Workload,
    /// net.ipv4.ip_local_port_range.
    pub(super) ports: (u16, u16),
    /// Whether an address is this host's.
    pub(super) owns: &'a dyn Fn(IpAddr) -> bool,
}

/// The addresses, in turn; none: the kernel's choice.
///
/// # Errors
/// Every problem, a sentence each.
pub(super) fn sources(asked: &Asked<'_>) -> Result<Vec<IpAddr>, Vec<String>> {
    let spread = asked.connections > PER_SOURCE || asked.workload == Workload::Churn;
    let loopback = matches!(asked.target.ip(), IpAddr::V4(ip) if ip.is_loopback());
    let sources = match asked.typed {
        None | Some("auto") if loopback && spread => loopback_sources(asked),
        None | Some("auto" | "any") => Vec::new(),
        Some(text) => list(text, asked)?,
    };
    enough(asked, &sources)?;
    Ok(sources)
}

fn loopback_sources(asked: &Asked<'_>) -> Vec<IpAddr> {
    let needed = asked.connections.div_ceil(PER_SOURCE.min(ports(asked)));
    let count = if asked.workload == Workload::Churn { needed.max(CHURN_SOURCES) } else { needed };
    let first = u32::from(Ipv4Addr::LOCALHOST);
    (0..count).map(|offset| Ipv4Addr::from(first + offset).into()).collect()
}

/// Ports of one source address towards the target.
fn ports(asked: &Asked<'_>) -> u32 {
    u32::from(asked.ports.1.saturating_sub(asked.ports.0)) + 1
}

fn enough(asked: &Asked<'_>, sources: &[IpAddr]) -> Result<(), Vec<String>> {
    let (ports, connections) = (ports(asked), asked.connections);
    let there = sources.len().max(1) as u64;
    if u64::from(connections) <= there * u64::from(ports) {
        return Ok(());
    }
    let (low, high) = asked.ports;
    let needed = connections.div_ceil(ports);
    let loopback = asked.target.ip().is_loopback();
    let remedy = match asked.target.ip() {
        IpAddr::V4(_) if loopback => "--source auto".to_string(),
        IpAddr::V6(_) if loopback => format!("127.0.0.1:{} as the target", asked.target.port()),
        _ => format!("--source with {needed} addresses of this host"),
    };
    Err(vec![format!(
        "--connections: {connections} from {there} source {} to {} do not fit: {ports} ports each \
         (net.ipv4.ip_local_port_range is {low} {high}), so they need {needed}; {remedy}, or -c {} would do",
        if there == 1 { "address" } else { "addresses" },
        asked.target,
        there * u64::from(ports)
    )])
}

/// Addresses as `A,B-C,D/26`, each once, of the target's family, and ours.
fn list(text: &str, asked: &Asked<'_>) -> Result<Vec<IpAddr>, Vec<String>> {
    let (mut sources, mut problems, mut seen) = (Vec::new(), Vec::new(), BTreeSet::new());
    for part in text.split(',') {
        match item(part) {
            Ok((first, count)) => {
                let added = (0..count).filter_map(|offset| nth(first, offset));
                sources.extend(added.filter(|address| seen.insert(*address)));
            }
            Err(reason) => problems.push(format!("--source: {part:?} {reason}")),
        }
        if sources.len() > SOURCES_MAX {
            problems.push(format!("--source: more than {SOURCES_MAX} addresses; fewer would do"));
            return Err(problems);
        }
    }
    let family = if asked.target.is_ipv4() { "IPv4" } else { "IPv6" };
    if let Some(other) = sources.iter().find(|source| source.is_ipv4() != asked.target.is_ipv4()) {
        problems.push(format!(
            "--source: {other} cannot reach {}: the families differ; {family} addresses would do",
            asked.target
        ));
    } else if let Some(stranger) = sources.iter().find(|source| !(asked.owns)(**source)) {
        problems.push(format!(
            "--source: {stranger} is no address of this host; those that `ip address` lists, or auto, would do"
        ));
    }
    if problems.is_empty() { Ok(sources) } else { Err(problems) }
}

/// The first address and how many follow: one, a range, or the hosts of a network.
fn item(text: &str) -> Result<(IpAddr, u128), String> {
    const FORM: &str = "written like auto, any, 10.0.0.5, 10.0.0.5-10.0.0.9 or 127.0.0.0/26";
    let address = |text: &str| text.parse::<IpAddr>().map_err(|_| format!("is no address; {FORM}"));
    if let Some((first, last)) = text.split_once('-') {
        let (first, last) = (address(first)?, address(last)?);
        if first.is_ipv4() != last.is_ipv4() || number(first) > number(last) {
            return Err(format!("does not run upwards; {FORM}"));
        }
        let count = (number(last) - number(first)).min(TOO_MANY - 1) + 1;
        return Ok((first, count));
    }
    let Some((network, bits)) = text.split_once('/') else { return Ok((address(text)?, 1)) };
    let network = address(network)?;
    let width = if network.is_ipv4() { 32 } else { 128 };
    let bits = bits.parse::<u32>().ok().filter(|bits| *bits <= width);
    let Some(bits) = bits else { return Err(format!("has no prefix length from 0 to {width}; {FORM}")) };
    let free = width - bits;
    let size = 1u128.checked_shl(free).unwrap_or(u128::MAX);
    let begin = number(network) & !(size - 1);
    // The first address of an IPv4 network is its name, the last one its broadcast.
    let hosts = if network.is_ipv4() && free >= 2 { (begin + 1, size - 2) } else { (begin, size) };
    let first = if network.is_ipv4() { v4(hosts.0) } else { Ipv6Addr::from(hosts.0).into() };
    Ok((first, hosts.1.min(TOO_MANY)))
}

fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(ip) => u32::from(ip).into(),
        IpAddr::V6(ip) => ip.into(),
    }
}

fn v4(number: u128) -> IpAddr {
    Ipv4Addr::from(number as u32).into()
}

fn nth(first: IpAddr, offset: u128) -> Option<IpAddr> {
    let sum = number(first).checked_add(offset)?;
    match first {
        IpAddr::V4(_) => (sum <= u32::MAX.into()).then(|| v4(sum)),
        IpAddr::V6(_) => Some(Ipv6Addr::from(sum).into()),
    }
}

/// Addresses as they are typed, runs drawn together.
pub(super) fn print(sources: &[IpAddr]) -> String {
    let mut runs: Vec<(IpAddr, IpAddr)> = Vec::new();
    for &source in sources {
        match runs.last_mut() {
            Some((_, last)) if nth(*last, 1) == Some(source) => *last = source,
            _ => runs.push((source, source)),
        }
    }
    let run = |(first, last)| if first == last { format!("{first}") } else { format!("{first}-{last}") };
    runs.into_iter().map(run).collect::<Vec<_>>().join(",")
}
