//! What lies in the kernel between the peers of a row and its server, by `/proc/net/tcp`: an event to wait
//! for where bytes must have arrived before something else happens. Over loopback they mostly have when the
//! send returns; on a crowded machine a thread of the kernel delivers them when its turn comes.
//!
//! IPv4 only, in the network of the calling thread.

use crate::client::Peer;
use crate::server::GUARD;
use std::collections::HashSet;
use std::net::{SocketAddr, SocketAddrV4};
use std::thread;
use std::time::{Duration, Instant};

/// One socket.
struct Socket {
    local: String,
    remote: String,
    /// Bytes sent that the other side's kernel has not acknowledged.
    unacknowledged: u64,
    /// Bytes that have arrived and were not read.
    unread: u64,
}

/// An address as the file has it.
fn name(address: SocketAddr) -> String {
    let SocketAddr::V4(address) = address else { panic!("{address} is not in this file") };
    let number = |address: SocketAddrV4| u32::from_ne_bytes(address.ip().octets());
    format!("{:08X}:{:04X}", number(address), address.port())
}

fn sockets() -> Vec<Socket> {
    let text = std::fs::read_to_string("/proc/thread-self/net/tcp").expect("procfs");
    let socket = |line: &str| {
        let mut words = line.split_whitespace().skip(1);
        let (local, remote) = (words.next()?.into(), words.next()?.into());
        let (sent, received) = words.nth(1)?.split_once(':')?;
        let bytes = |text| u64::from_str_radix(text, 16).ok();
        Some(Socket { local, remote, unacknowledged: bytes(sent)?, unread: bytes(received)? })
    };
    text.lines().skip(1).filter_map(socket).collect()
}

#[track_caller]
fn wait_until(what: &str, shown: impl Fn(&[Socket]) -> bool) {
    let from = Instant::now();
    while !shown(&sockets()) {
        assert!(from.elapsed() < GUARD, "never came: {what}");
        thread::sleep(Duration::from_millis(1));
    }
}

/// Waits until everything that these peers have sent lies in the server's sockets, or has been read there.
#[track_caller]
pub fn wait_until_arrived(peers: &[Peer]) {
    let pair = |peer: &Peer| {
        let (local, remote) = (peer.stream.local_addr(), peer.stream.peer_addr());
        (name(local.expect("a connected socket")), name(remote.expect("a connected socket")))
    };
    let pairs: HashSet<(String, String)> = peers.iter().map(pair).collect();
    let theirs = |socket: &Socket| pairs.contains(&(socket.local.clone(), socket.remote.clone()));
    wait_until("all bytes have arrived", |sockets| {
        let theirs = || sockets.iter().filter(|socket| theirs(socket));
        theirs().count() == pairs.len() && theirs().all(|socket| socket.unacknowledged == 0)
    });
}

/// Waits until so many connections to this address hold bytes that the server has not read.
#[track_caller]
pub fn wait_until_unread(server: SocketAddr, connections: usize) {
    let server = name(server);
    wait_until("each has bytes that were not read", |sockets| {
        let holds = |socket: &&Socket| socket.local == server && !socket.is_listener() && socket.unread > 0;
        sockets.iter().filter(holds).count() >= connections
    });
}

impl Socket {
    /// Its remote side is nobody; what it holds are connections, not bytes.
    fn is_listener(&self) -> bool {
        self.remote.ends_with(":0000")
    }
}
