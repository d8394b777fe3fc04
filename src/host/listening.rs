//! Which process listens on a TCP address: from the address to the socket's inode (`/proc/net/tcp`), from
//! the inode to the process that has it open (`/proc/PID/fd`). Only sockets of this network namespace,
//! and only processes this one may look into.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;

/// The processes that listen on this address, or on every address at its port. The exact address goes
/// first: where there is one, the others are not looked at.
///
/// # Errors
/// A sentence: nobody listens there, or whoever does belongs to another user.
pub fn listeners(address: SocketAddr) -> Result<Vec<u32>, String> {
    let all = sockets();
    let at_port = || all.iter().filter(|socket| socket.address.port() == address.port());
    let exactly = at_port().any(|socket| socket.address == address);
    let inodes = at_port().filter(|socket| {
        if exactly { socket.address == address } else { everywhere(socket.address.ip(), address.ip()) }
    });
    processes(inodes.map(|socket| socket.inode).collect(), &address.to_string())
}

/// The processes that listen on this port, on whatever address.
///
/// # Errors
/// As for [`listeners`].
pub fn listeners_on_port(port: u16) -> Result<Vec<u32>, String> {
    let inodes = sockets().into_iter().filter(|socket| socket.address.port() == port);
    processes(inodes.map(|socket| socket.inode).collect(), &format!("port {port}"))
}

/// Whether a listener on this address takes what comes for `target`. An IPv6 one may take IPv4 as well;
/// whether it does is not said in /proc.
fn everywhere(listener: IpAddr, target: IpAddr) -> bool {
    listener.is_unspecified() && (listener.is_ipv6() || target.is_ipv4())
}

fn processes(inodes: BTreeSet<u64>, what: &str) -> Result<Vec<u32>, String> {
    if inodes.is_empty() {
        return Err(format!(
            "no process of this machine listens on {what} (or it does so in another network namespace)"
        ));
    }
    let (found, hidden) = holders(&inodes);
    if found.is_empty() {
        let why = if hidden { "a process of another user" } else { "a process that cannot be found" };
        return Err(format!(
            "{why} listens on {what}: run as its user or as root, or name it by its process id"
        ));
    }
    Ok(found)
}

/// Who has one of these sockets open, and whether there were processes that could not be looked into.
fn holders(inodes: &BTreeSet<u64>) -> (Vec<u32>, bool) {
    let mut found = Vec::new();
    let mut hidden = false;
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        match holds(&entry.path().join("fd"), inodes) {
            Ok(true) => found.push(pid),
            Ok(false) => {}
            Err(error) => hidden |= error.kind() == io::ErrorKind::PermissionDenied,
        }
    }
    found.sort_unstable();
    (found, hidden)
}

fn holds(descriptors: &Path, inodes: &BTreeSet<u64>) -> io::Result<bool> {
    let links = fs::read_dir(descriptors)?.flatten().filter_map(|entry| fs::read_link(entry.path()).ok());
    let mut sockets = links
        .filter_map(|link| link.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.parse::<u64>().ok());
    Ok(sockets.any(|inode| inodes.contains(&inode)))
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Listening {
    address: SocketAddr,
    inode: u64,
}

fn sockets() -> Vec<Listening> {
    let read = |path| fs::read_to_string(path).unwrap_or_default();
    let text = ["/proc/net/tcp", "/proc/net/tcp6"].map(read).concat();
    text.lines().filter_map(parse).collect()
}

/// One line: `sl: local_address rem_address st tx:rx tr:when retrnsmt uid timeout inode …`, with state 0A
/// for a socket that listens.
fn parse(line: &str) -> Option<Listening> {
    let fields: Vec<&str> = line.split_whitespace().collect();
    if *fields.get(3)? != "0A" {
        return None;
    }
    let (ip, port) = fields[1].split_once(':')?;
    // An IPv6 socket bound to an IPv4 address is meant by the IPv4 one.
    let address = SocketAddr::new(parse_ip(ip)?.to_canonical(), u16::from_str_radix(port, 16).ok()?);
    Some(Listening { address, inode: fields.get(9)?.parse().ok()? })
}

/// Words of 32 bits, each printed as a number of this machine although it holds an address in the
/// network's order.
fn parse_ip(text: &str) -> Option<IpAddr> {
    let words = text.as_bytes().chunks(8).map(|word| {
        let word = u32::from_str_radix(std::str::from_utf8(word).ok()?, 16).ok()?;
        Some(word.to_ne_bytes())
    });
    let bytes = words.collect::<Option<Vec<_>>>()?.concat();
    match bytes.len() {
        4 => Some(Ipv4Addr::from(<[u8; 4]>::try_from(bytes).ok()?).into()),
        16 => Some(Ipv6Addr::from(<[u8; 16]>::try_from(bytes).ok()?).into()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    #[test]
    #[cfg(target_endian = "little")]
    fn a_line_of_the_table_is_read_and_only_listeners_count() {
        let line = |state| {
            format!(
                "   0: 0100007F:22B8 00000000:0000 {state} 00000000:00000000 00:00000000 00000000     0        0 \
                 4242 1 0000000000000000 100 0 0 10 0"
            )
        };
        let expected = Listening { address: "127.0.0.1:8888".parse().unwrap(), inode: 4242 };
        assert_eq!(parse(&line("0A")), Some(expected));
        assert_eq!(parse(&line("01")), None);
        assert_eq!(parse("  sl  local_address rem_address   st tx_queue"), None);
        let six = "0: 00000000000000000000000001000000:0050 0:0 0A 0:0 00:0 0 0 0 7 1";
        assert_eq!(parse(six).unwrap().address, "[::1]:80".parse().unwrap());
    }

    #[test]
    fn the_process_that_listens_is_found_by_its_exact_address_and_by_every_address() {
        let own = std::process::id();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        assert_eq!(listeners(address), Ok(vec![own]));
        assert_eq!(listeners_on_port(address.port()), Ok(vec![own]));
        let other = SocketAddr::new([127, 0, 0, 2].into(), address.port());
        assert!(
            listeners(other).unwrap_err().starts_with("no process of this machine listens on 127.0.0.2:")
        );
        drop(listener);
        assert!(listeners(address).is_err());
    }

    #[test]
    fn a_listener_on_every_address_takes_its_own_family_and_ipv6_perhaps_both() {
        let ip = |text: &str| text.parse::<IpAddr>().unwrap();
        assert!(everywhere(ip("0.0.0.0"), ip("127.0.0.1")));
        assert!(!everywhere(ip("0.0.0.0"), ip("::1")));
        assert!(everywhere(ip("::"), ip("127.0.0.1")) && everywhere(ip("::"), ip("::1")));
        assert!(!everywhere(ip("127.0.0.1"), ip("127.0.0.2")));
    }
}
