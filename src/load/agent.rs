//! `c10k load --agent`: stands on the server's machine and tells a load generator on another one what the
//! server spent and counted. Reads only, tells numbers only, serves a few clients at once; on the loopback
//! address unless asked otherwise, because it asks nobody for a password.
//!
//! Leaves out everything that would change the machine: no server is started or stopped here.

mod command;
pub mod protocol;

pub use command::command;

use super::server_stats::{Watched, only};
use crate::host::listening;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use protocol::{Lines, NoLine, Reply, Request, VERSION, line};
use std::io::{self, Write as _};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

/// Where it listens unless asked otherwise.
pub const DEFAULT_ADDRESS: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 8889);

/// Clients at once.
const CLIENTS_MOST: usize = 8;
/// Bytes of a request; the longest is some sixty.
const REQUEST_MOST: usize = 512;
/// What one client may ask wrongly before it is taken for a stranger.
const MISTAKES_MOST: usize = 8;
/// A client that asks nothing for so long is closed; it comes back when it needs to.
const SILENCE: Duration = Duration::from_secs(600);
/// A request that has begun, and an answer that nobody takes.
const PATIENCE: Duration = Duration::from_secs(5);
/// Without descriptors or threads, the next client is tried after this.
const PAUSE: Duration = Duration::from_millis(100);

/// An agent that listens.
#[derive(Debug)]
pub struct Agent {
    listener: TcpListener,
    address: SocketAddr,
}

impl Agent {
    /// Listens.
    ///
    /// # Errors
    /// A sentence: the address is in use, not of this machine, or not allowed.
    pub fn listen(address: SocketAddr) -> Result<Self, String> {
        let explain = |error: io::Error| match error.kind() {
            io::ErrorKind::AddrInUse => {
                format!("{address} is in use, perhaps by another agent: give --agent another port")
            }
            io::ErrorKind::AddrNotAvailable => format!("{address} is not an address of this machine"),
            io::ErrorKind::PermissionDenied => format!("{address} needs root: ports below 1024 do"),
            _ => format!("the agent cannot listen on {address}: {error}"),
        };
        let listener = TcpListener::bind(address).map_err(explain)?;
        // A client may be gone between the news of it and the accept.
        listener.set_nonblocking(true).map_err(explain)?;
        let address = listener.local_addr().map_err(explain)?;
        Ok(Self { listener, address })
    }

    /// Where, with the real port.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// What whoever starts it should know, if anything: who can reach it.
    #[must_use]
    pub fn remark(&self) -> Option<String> {
        (!self.address.ip().is_loopback()).then(|| {
            format!(
                "whoever can reach {} learns the CPU time, memory and threads of any process of this machine, and \
                 the account of c10k servers",
                self.address
            )
        })
    }

    /// Serves until `stop` can be read (a descriptor of signals, or of events). Conversations that are
    /// under way go on until the process ends or their client does.
    ///
    /// # Errors
    /// A sentence, when it cannot wait for clients.
    pub fn serve(&self, stop: BorrowedFd<'_>) -> Result<(), String> {
        let seats = Arc::new(());
        loop {
            let awaited = [stop, self.listener.as_fd()];
            let mut awaited = awaited.map(|descriptor| PollFd::new(descriptor, PollFlags::POLLIN));
            match poll(&mut awaited, PollTimeout::NONE) {
                Ok(_) | Err(Errno::EINTR) => {}
                Err(errno) => return Err(format!("the agent cannot wait for clients: {}", errno.desc())),
            }
            if awaited[0].any().unwrap_or(false) {
                return Ok(());
            }
            match self.listener.accept() {
                // Each conversation holds a copy, and here is the first.
                Ok((stream, _)) if Arc::strong_count(&seats) <= CLIENTS_MOST => seat(stream, seats.clone()),
                Ok((stream, _)) => refuse(stream),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(_) => thread::sleep(PAUSE),
            }
        }
    }
}

/// Gives a client a thread of its own.
fn seat(stream: TcpStream, seat: Arc<()>) {
    let talk = move || {
        // However it ended, the client knows as much.
        let _ = converse(stream);
        drop(seat);
    };
    if thread::Builder::new().name("c10k-agent".into()).spawn(talk).is_err() {
        thread::sleep(PAUSE);
    }
}

fn refuse(mut stream: TcpStream) {
    let sentence =
        format!("{CLIENTS_MOST} clients are being served, which is the most: try again when one has ended");
    // It fits into the socket's buffer; nobody waits for it.
    let _ = stream
        .set_nonblocking(true)
        .and_then(|()| stream.write_all(line(&Reply::Error(sentence)).as_bytes()));
}

fn converse(mut stream: TcpStream) -> Result<(), NoLine> {
    let mut lines = Lines::new(prepare(&stream).map_err(NoLine::Failed)?, REQUEST_MOST);
    let mut tell = |reply: &Reply| stream.write_all(line(reply).as_bytes()).map_err(NoLine::Failed);
    tell(&Reply::Hello { c10k_agent: VERSION, release: env!("CARGO_PKG_VERSION").into() })?;
    let mut watched = None;
    let mut mistakes = 0;
    while mistakes < MISTAKES_MOST {
        let request = match lines.next(SILENCE, PATIENCE) {
            Ok(request) => request,
            Err(NoLine::TooLong) => {
                tell(&Reply::Error(format!("a request is one line of at most {REQUEST_MOST} bytes")))?;
                return Err(NoLine::TooLong);
            }
            Err(other) => return Err(other),
        };
        let reply = answer(&request, &mut watched).unwrap_or_else(Reply::Error);
        mistakes += usize::from(matches!(reply, Reply::Error(_)));
        tell(&reply)?;
    }
    Ok(())
}

/// The other end of the stream, to read from. Accepted sockets wait, as they should.
fn prepare(stream: &TcpStream) -> io::Result<TcpStream> {
    stream.set_nonblocking(false)?;
    stream.set_nodelay(true)?;
    stream.set_write_timeout(Some(PATIENCE))?;
    stream.try_clone()
}

fn answer(request: &str, watched: &mut Option<Watched>) -> Result<Reply, String> {
    let request = serde_json::from_str(request).map_err(|_| {
        format!(
            "not a request: {}, {} and {} are",
            line(&Request::Find { ip: None, port: 8888 }).trim(),
            line(&Request::Pid(4711)).trim(),
            line(&Request::Snapshot {}).trim()
        )
    })?;
    let pid = match request {
        Request::Find { ip, port } => find(ip, port)?,
        Request::Pid(pid) => pid,
        Request::Snapshot {} => {
            let watched = watched.as_ref().ok_or("whom? first ask to find a port, or give a pid")?;
            return Ok(Reply::Snapshot(Box::new(watched.snapshot()?)));
        }
    };
    *watched = Some(Watched::open(pid)?);
    Ok(Reply::Watching { pid })
}

/// Who listens on the address the client uses, or else on the port: between two machines addresses may be
/// translated.
fn find(ip: Option<IpAddr>, port: u16) -> Result<u32, String> {
    let exactly = ip.and_then(|ip| listening::listeners(SocketAddr::new(ip, port)).ok());
    let found = match exactly {
        Some(found) => found,
        None => listening::listeners_on_port(port)?,
    };
    only(&found, &format!("port {port}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::plan::StatsFrom;
    use crate::load::server_stats::Lookout;
    use nix::sys::eventfd::EventFd;
    use std::io::{BufRead as _, BufReader, Read as _};
    use std::time::Instant;

    /// An agent on a thread, stopped and waited for when dropped.
    struct Running {
        address: SocketAddr,
        stop: Arc<EventFd>,
        thread: Option<thread::JoinHandle<Result<(), String>>>,
    }

    fn agent() -> Running {
        let agent = Agent::listen("127.0.0.1:0".parse().unwrap()).unwrap();
        assert_eq!(agent.remark(), None);
        let stop = Arc::new(EventFd::new().unwrap());
        let (address, read) = (agent.address(), stop.clone());
        Running { address, stop, thread: Some(thread::spawn(move || agent.serve(read.as_fd()))) }
    }

    impl Drop for Running {
        fn drop(&mut self) {
            self.stop.write(1).unwrap();
            self.thread.take().unwrap().join().unwrap().unwrap();
        }
    }

    struct Client(BufReader<TcpStream>);

    impl Client {
        fn to(agent: &Running) -> Self {
            let stream = TcpStream::connect(agent.address).unwrap();
            stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
            Self(BufReader::new(stream))
        }

        fn hears(&mut self) -> Reply {
            let mut text = String::new();
            self.0.read_line(&mut text).unwrap();
            serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text:?}"))
        }

        fn says(&mut self, text: &str) -> Reply {
            self.0.get_mut().write_all(text.as_bytes()).unwrap();
            self.hears()
        }

        fn is_closed(&mut self) -> bool {
            // What was sent too much and not read makes a reset of the end.
            !matches!(self.0.read(&mut [0; 1]), Ok(1..))
        }
    }

    #[test]
    fn a_client_is_greeted_and_told_the_numbers_of_the_process_it_asked_for() {
        let agent = agent();
        let mut client = Client::to(&agent);
        assert!(matches!(client.hears(), Reply::Hello { c10k_agent: VERSION, .. }));
        assert!(matches!(client.says("{\"snapshot\":{}}\n"), Reply::Error(text) if text.contains("whom?")));
        let own = std::process::id();
        let port = agent.address.port();
        assert_eq!(client.says(&format!("{{\"find\":{{\"port\":{port}}}}}\n")), Reply::Watching { pid: own });
        assert_eq!(client.says(&format!("{{\"pid\":{own}}}\n")), Reply::Watching { pid: own });
        let Reply::Snapshot(one) = client.says("{\"snapshot\":{}}\n") else { panic!("no snapshot") };
        let Reply::Snapshot(two) = client.says("{\"snapshot\":{}}\n") else { panic!("no snapshot") };
        assert!(one.process.pid == own && one.process.cpu_ns < two.process.cpu_ns && one.at_ns < two.at_ns);
        assert!(
            matches!(client.says("{\"pid\":4294967295}\n"), Reply::Error(text) if text.contains("no process"))
        );
        let found = client.says("{\"find\":{\"port\":1}}\n");
        assert!(matches!(found, Reply::Error(text) if text.contains("listens on port 1")));
    }

    #[test]
    fn garbage_is_answered_with_what_may_be_asked_and_ends_after_a_few() {
        let agent = agent();
        let mut client = Client::to(&agent);
        client.hears();
        for garbage in [
            "\n",
            "{}\n",
            "GET / HTTP/1.1\n",
            "\u{0}\n",
            "{\"pid\":-1}\n",
            "{\"pid\":1,\"x\":2}\n",
            "[[[\n",
            "\"\n",
        ] {
            assert!(matches!(client.says(garbage), Reply::Error(text) if text.contains("{\"snapshot\":{}}")));
        }
        assert!(client.is_closed());
        let mut endless = Client::to(&agent);
        endless.hears();
        assert!(
            matches!(endless.says(&"x".repeat(1 << 16)), Reply::Error(text) if text.contains("512 bytes"))
        );
        assert!(endless.is_closed());
        assert!(matches!(Client::to(&agent).hears(), Reply::Hello { .. }), "the next one is served");
    }

    #[test]
    fn more_clients_than_seats_are_told_so_and_a_seat_that_is_left_is_free() {
        let agent = agent();
        let mut seated: Vec<Client> = (0..CLIENTS_MOST).map(|_| Client::to(&agent)).collect();
        seated.iter_mut().for_each(|client| assert!(matches!(client.hears(), Reply::Hello { .. })));
        assert!(matches!(Client::to(&agent).hears(), Reply::Error(text) if text.contains("8 clients")));
        seated.pop();
        let begun = Instant::now();
        while !matches!(Client::to(&agent).hears(), Reply::Hello { .. }) {
            assert!(begun.elapsed() < Duration::from_secs(30), "the seat stays taken");
            thread::sleep(Duration::from_millis(5));
        }
    }

    #[test]
    fn a_lookout_takes_a_window_through_an_agent_as_it_does_without() {
        let agent = agent();
        // The server is this process, found by a listener of its own.
        let server = TcpListener::bind("127.0.0.1:0").unwrap();
        let target = server.local_addr().unwrap();
        let lookout = Lookout::attach(StatsFrom::Agent(agent.address), target).unwrap().unwrap();
        lookout.begin(Instant::now());
        thread::sleep(Duration::from_millis(50));
        lookout.end(Instant::now());
        let stats = lookout.finish().unwrap();
        assert_eq!(
            stats.source,
            format!("process {}, through the agent at {}", std::process::id(), agent.address)
        );
        assert!(stats.window_us + stats.late_begin_us >= 49_998, "{stats:?}");
        assert!(stats.round_trip_us.is_some() && stats.threads > 1, "{stats:?}");
    }

    #[test]
    fn an_address_that_is_taken_or_not_ours_is_refused_with_what_would_do() {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let _holder = TcpListener::bind(taken).unwrap();
        assert!(Agent::listen(taken).unwrap_err().contains("another port"));
        assert!(Agent::listen("192.0.2.1:1".parse().unwrap()).unwrap_err().contains("not an address"));
        let open = Agent::listen("0.0.0.0:0".parse().unwrap()).unwrap();
        assert!(open.remark().unwrap().contains("whoever can reach"));
    }
}
