//! The limits of this machine, this user and this process that many connections meet, and what the
//! kernel's memory for sockets comes to. Read-only.

use super::number;
use nix::sys::resource::{RLIM_INFINITY, Resource, getrlimit};
use std::fs;

/// What bounds the number of connections. `None` is: could not be read, but where said otherwise.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// Descriptors of this process: in force, and what it may raise that to.
    pub descriptors: Option<(u64, u64)>,
    /// The most any process may be allowed (fs.nr_open).
    pub descriptors_max: Option<u64>,
    /// Open files of the machine: in use, and at most (fs.file-max).
    pub files: Option<(u64, u64)>,
    /// Bytes this user may lock; `None` without a limit or where this process is exempt.
    pub locked_memory: Option<u64>,
    /// Connections a listener may have waiting (net.core.somaxconn).
    pub backlog: Option<u64>,
    /// Half-open connections a listener may have (net.ipv4.tcp_max_syn_backlog).
    pub half_open: Option<u64>,
    /// Whether half-open ones beyond that are answered all the same (net.ipv4.tcp_syncookies).
    pub syn_cookies: bool,
    /// Ports a client may use with one address and one server.
    pub ports: Option<u64>,
    /// Connections a firewall may track; `None` where nothing tracks them.
    pub tracked: Option<u64>,
    /// Bytes of memory that could be used, within this control group.
    pub memory: Option<u64>,
    /// Bytes that all TCP buffers together may take (the last of net.ipv4.tcp_mem).
    pub tcp_memory: Option<u64>,
}

/// The limits as they are now.
#[must_use]
pub fn limits() -> Limits {
    let files = fs::read_to_string("/proc/sys/fs/file-nr").ok();
    let files = files.and_then(|text| {
        let numbers: Vec<u64> = text.split_whitespace().filter_map(|word| word.parse().ok()).collect();
        Some((*numbers.first()?, *numbers.get(2)?))
    });
    let tcp = fs::read_to_string("/proc/sys/net/ipv4/tcp_mem").ok();
    let tcp = tcp.and_then(|text| text.split_whitespace().nth(2)?.parse::<u64>().ok());
    Limits {
        descriptors: getrlimit(Resource::RLIMIT_NOFILE).ok(),
        descriptors_max: number("/proc/sys/fs/nr_open"),
        files,
        locked_memory: super::locked_memory().filter(|&limit| limit != RLIM_INFINITY),
        backlog: super::backlog_max(),
        half_open: number("/proc/sys/net/ipv4/tcp_max_syn_backlog"),
        syn_cookies: number("/proc/sys/net/ipv4/tcp_syncookies").is_some_and(|mode| mode > 0),
        ports: super::local_ports().map(|(first, last)| u64::from(last.saturating_sub(first)) + 1),
        tracked: number("/proc/sys/net/netfilter/nf_conntrack_max"),
        memory: memory(),
        tcp_memory: tcp.map(|pages| pages.saturating_mul(super::page_bytes())),
    }
}

/// Bytes that could be used without swapping: of the machine, or what this control group still may.
fn memory() -> Option<u64> {
    let available = memory_field("MemAvailable:")?;
    Some(control_group().map_or(available, |left| left.min(available)))
}

/// A field of /proc/meminfo, in bytes.
fn memory_field(name: &str) -> Option<u64> {
    let text = fs::read_to_string("/proc/meminfo").ok()?;
    super::field(&text, name)?.parse::<u64>().ok()?.checked_mul(1024)
}

/// What this control group may still take (version 2 only).
fn control_group() -> Option<u64> {
    let groups = fs::read_to_string("/proc/self/cgroup").ok()?;
    let path = groups.lines().find_map(|line| line.strip_prefix("0::"))?;
    let folder = format!("/sys/fs/cgroup{}", path.trim_end_matches('/'));
    let most = number(&format!("{folder}/memory.max"))?;
    Some(most.saturating_sub(number(&format!("{folder}/memory.current"))?))
}

/// What the kernel has for sockets: bytes, and how they are known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SocketMemory {
    /// The caches of sockets, their inodes, files and names (/proc/slabinfo), each in bytes.
    Caches([u64; CACHES.len()]),
    /// All of the kernel's small structures together (Slab in /proc/meminfo), in bytes.
    Slab(u64),
}

/// The caches a connection takes from.
pub const CACHES: [&str; 5] = ["TCP", "sock_inode_cache", "filp", "dentry", "tcp_bind2_bucket"];

/// Looks at the kernel's memory for sockets. The caches can be read by root only.
#[must_use]
pub fn socket_memory() -> Option<SocketMemory> {
    let caches = fs::read_to_string("/proc/slabinfo").ok().and_then(|text| parse_caches(&text));
    caches.map(SocketMemory::Caches).or_else(|| memory_field("Slab:").map(SocketMemory::Slab))
}

/// Bytes in use in each cache. The first two must be there; a kernel may merge the others away.
fn parse_caches(text: &str) -> Option<[u64; CACHES.len()]> {
    let bytes = |name: &str| {
        let line = text.lines().find(|line| line.split_whitespace().next() == Some(name))?;
        let numbers: Vec<u64> = line.split_whitespace().skip(1).map_while(|word| word.parse().ok()).collect();
        numbers.first()?.checked_mul(*numbers.get(2)?)
    };
    let found = CACHES.map(bytes);
    found[..2].iter().all(Option::is_some).then(|| found.map(Option::unwrap_or_default))
}

/// Pages of memory all TCP buffers together have (/proc/net/sockstat).
#[must_use]
pub fn tcp_pages() -> Option<u64> {
    parse_tcp_pages(&fs::read_to_string("/proc/net/sockstat").ok()?)
}

fn parse_tcp_pages(text: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix("TCP:"))?;
    let words: Vec<&str> = line.split_whitespace().collect();
    words.chunks(2).find(|pair| pair[0] == "mem")?.get(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_caches_are_counted_in_bytes_and_one_that_is_merged_away_as_none() {
        let text = "slabinfo - version: 2.1\n# name <active_objs> <num_objs> <objsize>\n\
                    TCPv6 5 5 2496 1 1\nTCP 10 20 2368 13 8 : tunables 0\nsock_inode_cache 20 20 832 1 1\n\
                    dentry 3 4 192 21 1\n";
        assert_eq!(parse_caches(text), Some([23_680, 16_640, 0, 576, 0]));
        assert_eq!(parse_caches("TCP 10 20 2368\n"), None);
    }

    #[test]
    fn the_pages_of_tcp_stand_behind_their_name() {
        let text = "sockets: used 22\nTCP: inuse 1 orphan 0 tw 0 alloc 1 mem 61\nUDP: inuse 0 mem 7\n";
        assert_eq!(parse_tcp_pages(text), Some(61));
        assert_eq!(parse_tcp_pages("UDP: inuse 0 mem 7\n"), None);
    }
}
