//! Where the load goes: from `HOST:PORT` to an address. The resolver is given as a function.

use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};

/// Where it goes unless told otherwise.
pub(super) const TARGET_DEFAULT: &str = "127.0.0.1:8888";
const PORT_DEFAULT: u16 = 8888;

/// The address, or why there is none, a sentence.
pub(super) fn target(
    text: &str,
    lookup: &dyn Fn(&str, u16) -> io::Result<Vec<SocketAddr>>,
) -> Result<SocketAddr, String> {
    let wrong =
        |reason: &str, instead: String| Err(format!("HOST:PORT: {text:?} {reason}; {instead} would do"));
    let usual = || TARGET_DEFAULT.to_string();
    if let Ok(address) = text.parse::<SocketAddr>() {
        return usable(text, address);
    }
    let bare = text.trim_start_matches('[').trim_end_matches(']');
    if let Ok(ip) = bare.parse::<Ipv6Addr>() {
        return wrong(
            "is an IPv6 address without brackets and port",
            SocketAddr::new(ip.into(), PORT_DEFAULT).to_string(),
        );
    }
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        return wrong("has no host", format!("127.0.0.1:{text}"));
    }
    let Some((host, port)) = text.rsplit_once(':') else {
        return match text {
            "" => wrong("is empty", usual()),
            _ => wrong("has no port", format!("{text}:{PORT_DEFAULT}")),
        };
    };
    let Ok(port) = port.parse::<u16>() else {
        return wrong("has no port from 1 to 65535", usual());
    };
    if host.is_empty() {
        return wrong("has no host", format!("127.0.0.1:{port}"));
    }
    if host.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.') {
        return wrong("is no IPv4 address", usual());
    }
    let found = lookup(host, port).map_err(|error| {
        format!(
            "HOST:PORT: the name {host:?} is not known here ({error}); an address, as {TARGET_DEFAULT}, or a \
             name that `getent hosts` knows would do"
        )
    })?;
    match found.first() {
        Some(address) => usable(text, *address),
        None => wrong("is a name without an address", usual()),
    }
}

fn usable(text: &str, address: SocketAddr) -> Result<SocketAddr, String> {
    let address = SocketAddr::new(address.ip().to_canonical(), address.port());
    let (ip, port) = (address.ip(), address.port());
    let wrong =
        |reason: &str, instead: SocketAddr| Err(format!("HOST:PORT: {text:?} {reason}; {instead} would do"));
    let local = |port| SocketAddr::new(IpAddr::from([127, 0, 0, 1]), port);
    match ip {
        _ if port == 0 => wrong("has port 0, on which nobody listens", SocketAddr::new(ip, PORT_DEFAULT)),
        ip if ip.is_unspecified() => wrong("is an address to listen on, not to connect to", local(port)),
        ip if ip.is_multicast() || ip == IpAddr::from([255; 4]) => {
            wrong("is an address of many; TCP is for one", local(port))
        }
        _ => Ok(address),
    }
}
