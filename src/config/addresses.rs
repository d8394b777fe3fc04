//! Lists that are typed: addresses to listen on, CPUs to run on.

use crate::features::Problem;
use crate::units;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

/// Where the server listens unless told otherwise: this machine only.
pub const LISTEN_DEFAULT: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), PORT_DEFAULT);
const PORT_DEFAULT: u16 = 8888;
/// Addresses at most: each costs a listener in every worker.
const ADDRESSES_MAX: usize = 64;

pub(super) fn listen(typed: &[String], problems: &mut Vec<Problem>) -> Vec<SocketAddr> {
    let mut addresses: Vec<SocketAddr> = Vec::new();
    for text in typed {
        match address(text) {
            Ok(address) => match addresses.iter().find(|other| overlap(**other, address)) {
                Some(other) if *other == address => {
                    problems.push(Problem::usage(format!("--listen: {text} is given twice; once would do")));
                }
                Some(other) => problems.push(Problem::usage(format!(
                    "--listen: {text} and {other} overlap, one is every address of the other's port; one of them would do"
                ))),
                None => addresses.push(address),
            },
            Err(reason) => problems.push(Problem::usage(format!("--listen: {text:?} {reason}"))),
        }
    }
    if addresses.len() > ADDRESSES_MAX {
        let count = addresses.len();
        problems
            .push(Problem::usage(format!("--listen: {count} addresses; at most {ADDRESSES_MAX} would do")));
        addresses.truncate(ADDRESSES_MAX);
    }
    if addresses.is_empty() { vec![LISTEN_DEFAULT] } else { addresses }
}

/// Whether two addresses cannot be listened on at once. Port 0 is a different one each time.
fn overlap(left: SocketAddr, right: SocketAddr) -> bool {
    let (one, other) = (left.ip(), right.ip());
    let same = one == other || one.is_unspecified() || other.is_unspecified();
    left.port() != 0 && left.port() == right.port() && left.is_ipv4() == right.is_ipv4() && same
}

fn address(text: &str) -> Result<SocketAddr, String> {
    if let Ok(address) = text.parse::<SocketAddr>() {
        return match address.ip() {
            ip if ip.is_multicast() => Err(format!("is a multicast address; {LISTEN_DEFAULT} would do")),
            _ => Ok(address),
        };
    }
    let examples = "127.0.0.1:8888 or [::1]:8888";
    if text.is_empty() {
        return Err(format!("is empty; {examples} would do"));
    }
    // An address without brackets that goes on with a port is, to the letter, another address; brackets
    // are what both need, and the port is what was meant.
    if let Some((Ok(ip @ IpAddr::V6(_)), Ok(port))) =
        text.rsplit_once(':').map(|(host, port)| (host.parse::<IpAddr>(), port.parse::<u16>()))
    {
        return Err(format!("needs brackets; {} would do", SocketAddr::new(ip, port)));
    }
    let bare = text.trim_start_matches('[').trim_end_matches(']');
    if let Ok(ip) = bare.parse::<IpAddr>() {
        return Err(format!("has no port; {} would do", SocketAddr::new(ip, PORT_DEFAULT)));
    }
    let Some((host, port)) = text.rsplit_once(':') else {
        return Err(format!("is not ADDR:PORT; {examples} would do"));
    };
    let ip = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    match (ip, port.parse::<u16>()) {
        (Ok(_), Err(_)) => {
            Err(format!("has no port from 0 to 65535 (0 is the kernel's choice); {examples} would do"))
        }
        (Err(_), _) if host.is_empty() => Err(format!("has no address; {examples} would do")),
        (Err(_), _) if host.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.') => {
            Err(format!("is no IPv4 address; {examples} would do"))
        }
        (Err(_), _) => Err(format!("names a host, and only addresses are taken; {examples} would do")),
        (Ok(_), Ok(_)) => Err(format!("is not ADDR:PORT; {examples} would do")),
    }
}

/// CPUs as `0,2-3`: every one once, and in the affinity mask.
pub(super) fn cpus(typed: Option<&str>, mask: &[usize], problems: &mut Vec<Problem>) -> Vec<usize> {
    let Some(text) = typed else { return Vec::new() };
    units::parse_cpus(text, mask).unwrap_or_else(|reasons| {
        problems.extend(reasons.into_iter().map(|reason| Problem::usage(format!("--cpus: {reason}"))));
        Vec::new()
    })
}
