//! The queues of every socket of one server, both ends, as /proc/net/tcp lists them. Its `tx_queue`
//! is what SIOCOUTQ gives (written and not yet acknowledged by the other end), its `rx_queue` what
//! SIOCINQ gives (arrived and not yet read).

use std::collections::HashMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};

/// One end of one connection, bytes.
#[derive(Clone, Copy, Debug, Default)]
pub struct Queues {
    /// Written and not acknowledged.
    pub unacknowledged: u64,
    /// Arrived and not read.
    pub unread: u64,
}

/// Both ends of the connections to one server, by the client's address.
#[derive(Debug, Default)]
pub struct Listing {
    /// The client's ends.
    pub clients: HashMap<SocketAddr, Queues>,
    /// The server's ends.
    pub server: HashMap<SocketAddr, Queues>,
}

impl Listing {
    /// Everything connected to `server` over IPv4, now. It is read line by line while the kernel goes
    /// on: each line is true at its own moment.
    pub fn of(server: SocketAddr) -> io::Result<Self> {
        let text = std::fs::read_to_string("/proc/net/tcp")?;
        let mut listing = Self::default();
        for line in text.lines().skip(1) {
            let mut words = line.split_whitespace().skip(1);
            let mut word = || words.next().unwrap_or_default();
            let (local, remote, _state, queues) = (address(word()), address(word()), word(), word());
            let (Some(local), Some(remote), Some(queues)) = (local, remote, parse(queues)) else { continue };
            if remote == server {
                listing.clients.insert(local, queues);
            } else if local == server && remote.port() != 0 {
                listing.server.insert(remote, queues);
            }
        }
        Ok(listing)
    }
}

/// `0100007F:22B8`: the address as a number in this machine's order, the port in hexadecimal.
fn address(text: &str) -> Option<SocketAddr> {
    let (address, port) = text.split_once(':')?;
    let address = u32::from_str_radix(address, 16).ok()?;
    let port = u16::from_str_radix(port, 16).ok()?;
    Some(SocketAddrV4::new(Ipv4Addr::from(address.to_ne_bytes()), port).into())
}

fn parse(text: &str) -> Option<Queues> {
    let (unacknowledged, unread) = text.split_once(':')?;
    let number = |text| u64::from_str_radix(text, 16).ok();
    Some(Queues { unacknowledged: number(unacknowledged)?, unread: number(unread)? })
}
