//! Listeners: for each address one for every worker, joined by SO_REUSEPORT so that the kernel spreads
//! connections over them. Whatever a connection shall have is set here and inherited: a connection in
//! a ring's own table has no descriptor to set it on.
//!
//! The first listener of an address is bound and listens without SO_REUSEPORT: that is the proof that
//! nobody else has the address. Only then the option is set and the others join.

use crate::config::Config;
use crate::result;
use nix::errno::Errno;
use socket2::{Domain, Protocol, Socket, TcpKeepalive, Type};
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::time::{Duration, Instant};

/// Everything the server listens on.
pub(super) struct Listening {
    /// The addresses with their real ports, in the order they were asked for.
    pub(super) addresses: Vec<SocketAddr>,
    /// For each set of listeners (one for each worker, or one for all): one for each address.
    pub(super) sets: Vec<Vec<TcpListener>>,
    /// What is worth knowing, a sentence each.
    pub(super) notes: Vec<String>,
}

/// How long an address in use is tried again: the sockets of a killed ring close up to 200 ms late.
const PATIENCE: Duration = Duration::from_secs(1);
const BETWEEN_TRIES: Duration = Duration::from_millis(20);

/// Listens on every address, `sets` times each. `say` gets what a person should hear while it waits.
///
/// # Errors
/// The sentence: which address, what is wrong, what would do.
pub(super) fn listen(config: &Config, sets: usize, say: &dyn Fn(String)) -> Result<Listening, String> {
    let mut listening =
        Listening { addresses: Vec::new(), sets: (0..sets).map(|_| Vec::new()).collect(), notes: Vec::new() };
    for &asked in &config.listen {
        let first = exclusive(config, asked, say).map_err(|error| explain(asked, config, &error))?;
        let address = local_address(&first).map_err(|error| explain(asked, config, &error))?;
        listening.notes.extend(remarks(config, address, &first));
        let joined = (1..sets).map(|_| join(config, address));
        let sockets = std::iter::once(Ok(first)).chain(joined);
        for (set, socket) in listening.sets.iter_mut().zip(sockets) {
            set.push(socket.map_err(|error| explain(address, config, &error))?.into());
        }
        listening.addresses.push(address);
    }
    Ok(listening)
}

/// The first listener of an address, which nobody may share by accident.
fn exclusive(config: &Config, address: SocketAddr, say: &dyn Fn(String)) -> io::Result<Socket> {
    let begun = Instant::now();
    let mut said = false;
    loop {
        let attempt = bound(config, address, false).and_then(|socket| {
            socket.listen(backlog(config))?;
            socket.set_reuse_port(true)?;
            Ok(socket)
        });
        match attempt {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse && begun.elapsed() < PATIENCE => {
                if !said {
                    say(format!("{address} is in use; trying for {PATIENCE:?}"));
                }
                said = true;
                std::thread::sleep(BETWEEN_TRIES);
            }
            done => return done,
        }
    }
}

fn join(config: &Config, address: SocketAddr) -> io::Result<Socket> {
    let socket = bound(config, address, true)?;
    socket.listen(backlog(config))?;
    Ok(socket)
}

fn bound(config: &Config, address: SocketAddr, shared: bool) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM.nonblocking(), Some(Protocol::TCP))?;
    // Connections of a server that ran before may linger in TIME_WAIT; listeners still exclude.
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(shared)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    inherited(config, &socket)?;
    socket.bind(&address.into())?;
    Ok(socket)
}

/// What every accepted connection gets from its listener.
fn inherited(config: &Config, socket: &Socket) -> io::Result<()> {
    // Else a reply that goes out in pieces waits 40 ms for a delayed acknowledgement.
    socket.set_tcp_nodelay(true)?;
    socket.set_tcp_notsent_lowat(config.unsent_limit)?;
    if let Some(bytes) = config.recv_buffer {
        socket.set_recv_buffer_size(bytes as usize)?;
    }
    if let Some(time) = config.keepalive {
        socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(time))?;
    }
    if let Some(time) = config.user_timeout {
        socket.set_tcp_user_timeout(Some(time))?;
    }
    if let Some(name) = &config.congestion {
        socket.set_tcp_congestion(name.as_bytes()).map_err(|error| {
            io::Error::new(error.kind(), Congestion { name: name.clone(), errno: error.raw_os_error() })
        })?;
    }
    Ok(())
}

fn backlog(config: &Config) -> i32 {
    i32::try_from(config.backlog).unwrap_or(i32::MAX)
}

fn local_address(socket: &Socket) -> io::Result<SocketAddr> {
    socket.local_addr()?.as_socket().ok_or_else(|| io::Error::other("it is no internet address"))
}

fn remarks(config: &Config, address: SocketAddr, socket: &Socket) -> Vec<String> {
    let mut notes = Vec::new();
    if address.ip().is_unspecified() {
        notes.push(format!(
            "{address} is every address of this machine: whoever can reach it can use the server"
        ));
    }
    // The kernel doubles what was asked for, and caps it without a word.
    if let (Some(asked), Ok(doubled)) = (config.recv_buffer, socket.recv_buffer_size()) {
        let granted = doubled / 2;
        if granted < asked as usize {
            notes.push(format!(
                "receive buffers of {} instead of {}: net.core.rmem_max is {granted}",
                result::bytes_exactly(granted as u64),
                result::bytes_exactly(asked.into())
            ));
        }
    }
    notes
}

/// A congestion control that was not to be had; it must be told from an address that was not.
#[derive(Debug, thiserror::Error)]
#[error("--congestion: {name}: {}", match errno.map(Errno::from_raw) {
    Some(Errno::EPERM) => "only root may choose it here; one of net.ipv4.tcp_allowed_congestion_control would do",
    _ => "this kernel does not have it; one of net.ipv4.tcp_available_congestion_control would do",
})]
struct Congestion {
    name: String,
    errno: Option<i32>,
}

/// The sentence for a listener that could not be made.
fn explain(address: SocketAddr, config: &Config, error: &io::Error) -> String {
    if let Some(congestion) = error.get_ref().and_then(|inner| inner.downcast_ref::<Congestion>()) {
        return congestion.to_string();
    }
    let port = address.port();
    let reason = match Errno::from_raw(error.raw_os_error().unwrap_or(0)) {
        Errno::EADDRINUSE => format!(
            "is in use by another program (ss -ltnp 'sport = :{port}' shows which); another port, or port 0 for a \
             free one, would do"
        ),
        Errno::EACCES => format!(
            "needs a privilege: ports below net.ipv4.ip_unprivileged_port_start (1024 by default) are for root or \
             CAP_NET_BIND_SERVICE, and this is {port}; a higher port would do"
        ),
        Errno::EADDRNOTAVAIL => {
            let loopback = if address.ip() == Ipv4Addr::LOCALHOST { "[::1]" } else { "127.0.0.1" };
            format!("is no address of this machine (ip address lists them); {loopback}:{port} would do")
        }
        Errno::EAFNOSUPPORT if address.is_ipv6() => {
            "is IPv6, which this kernel or container does not have; an IPv4 \
             address would do"
                .into()
        }
        Errno::EMFILE | Errno::ENFILE => format!(
            "gets no descriptor: the limit is used up; fewer --workers than {}, or a higher ulimit -n, would do",
            config.workers
        ),
        _ => format!("cannot be listened on ({error}); another address would do"),
    };
    format!("--listen: {address} {reason}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read as _;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::thread;

    #[test]
    fn each_errno_of_a_listener_has_a_sentence_with_a_remedy() {
        let config = super::super::tests::config(&[]);
        let address: SocketAddr = "[::1]:80".parse().unwrap();
        for (errno, told) in [
            (Errno::EADDRINUSE, "in use"),
            (Errno::EACCES, "privilege"),
            (
                Errno::EADDRNOTAVAIL,
                "no address of this machine (ip address lists them); 127.0.0.1:80 would do",
            ),
            (Errno::EAFNOSUPPORT, "IPv6"),
            (Errno::EMFILE, "ulimit -n"),
            (Errno::ENOBUFS, "cannot be listened on"),
        ] {
            let sentence = explain(address, &config, &io::Error::from_raw_os_error(errno as i32));
            assert!(sentence.starts_with("--listen: [::1]:80 "), "{sentence}");
            assert!(sentence.contains(told) && sentence.contains("would do"), "{sentence}");
        }
    }

    #[test]
    fn all_workers_share_one_port_and_nobody_else_joins() {
        let config = super::super::tests::config(&["--listen", "127.0.0.1:0", "--workers", "3"]);
        let listening = listen(&config, 3, &|_| {}).unwrap();
        let ports: Vec<_> = listening.sets.iter().map(|set| set[0].local_addr().unwrap().port()).collect();
        assert_eq!(ports, [listening.addresses[0].port(); 3]);

        let again = Config { listen: listening.addresses.clone(), ..config };
        let said = std::cell::RefCell::new(Vec::new());
        let refused = listen(&again, 3, &|line| said.borrow_mut().push(line)).err().unwrap();
        assert!(refused.contains("is in use by another program"), "{refused}");
        assert_eq!(said.borrow().len(), 1);
    }

    #[test]
    fn whoever_connects_before_all_have_joined_stays_queued() {
        let config = super::super::tests::config(&["--listen", "127.0.0.1:0"]);
        let mut sockets = vec![exclusive(&config, config.listen[0], &|_| {}).unwrap()];
        let address = local_address(&sockets[0]).unwrap();
        let mut peers = Vec::new();
        for _ in 0..8 {
            peers.extend((0..20).map(|_| std::net::TcpStream::connect(address).unwrap()));
            sockets.push(join(&config, address).unwrap());
        }
        let accepted: Vec<_> =
            sockets.iter().flat_map(|socket| std::iter::from_fn(|| socket.accept().ok())).collect();
        assert_eq!(accepted.len(), peers.len());
        drop(accepted);
        // A FIN from who accepted it, not a reset from a queue that was dropped.
        assert!(peers.iter_mut().all(|peer| peer.read(&mut [0]).is_ok_and(|bytes| bytes == 0)));
    }

    /// A handshake that began with one listener ends with it, whoever has joined meanwhile: the kernel
    /// finds its request among the connections, not among the listeners.
    #[test]
    fn whoever_connects_while_others_join_is_accepted_by_somebody() {
        let config = super::super::tests::config(&["--listen", "127.0.0.1:0"]);
        let first = exclusive(&config, config.listen[0], &|_| {}).unwrap();
        let address = local_address(&first).unwrap();
        let joined = AtomicBool::new(false);
        let mut sockets = vec![first];
        let mut peers = thread::scope(|scope| {
            let connecting = scope.spawn(|| {
                let connect = || std::net::TcpStream::connect(address).unwrap();
                let going = || !joined.load(Ordering::Relaxed);
                std::iter::repeat_with(connect).take(500).take_while(|_| going()).collect::<Vec<_>>()
            });
            sockets.extend((0..64).map(|_| join(&config, address).unwrap()));
            joined.store(true, Ordering::Relaxed);
            connecting.join().unwrap()
        });
        peers.push(std::net::TcpStream::connect(address).unwrap());
        let accepted: Vec<_> =
            sockets.iter().flat_map(|socket| std::iter::from_fn(|| socket.accept().ok())).collect();
        // One more where the last was let go as soon as it stood.
        assert!((peers.len()..=peers.len() + 1).contains(&accepted.len()), "{}", accepted.len());
        drop(accepted);
        assert!(peers.iter_mut().all(|peer| peer.read(&mut [0]).is_ok_and(|bytes| bytes == 0)));
    }

    #[test]
    fn connections_are_spread_over_the_listeners_that_joined() {
        let config = super::super::tests::config(&["--listen", "127.0.0.1:0"]);
        let listening = listen(&config, 2, &|_| {}).unwrap();
        let peers: Vec<_> =
            (0..200).map(|_| std::net::TcpStream::connect(listening.addresses[0]).unwrap()).collect();
        let accepted: Vec<usize> =
            listening.sets.iter().map(|set| std::iter::from_fn(|| set[0].accept().ok()).count()).collect();
        assert_eq!(accepted.iter().sum::<usize>(), peers.len());
        // The chance that fewer than 20 of 200 fall to one side is below 1e-30.
        assert!(accepted.iter().all(|&count| count >= 20), "{accepted:?}");
    }
}
