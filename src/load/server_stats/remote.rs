//! The client's side of an agent: a server on another machine is looked at as one of this machine is.

use super::look::Snapshot;
use crate::load::agent::protocol::{Lines, NoLine, Reply, Request, VERSION, line};
use std::io::Write as _;
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// How long anything may take: to connect, to be greeted, to be answered.
const PATIENCE: Duration = Duration::from_secs(5);
/// Bytes of an answer: some thousand threads, a hundred bytes each.
const ANSWER_MOST: usize = 4 << 20;

/// An agent that looks at one process.
#[derive(Debug)]
pub(super) struct Agent {
    address: SocketAddr,
    stream: TcpStream,
    lines: Lines,
    pid: u32,
}

impl Agent {
    /// Connects, and has the agent find the process behind `target`.
    ///
    /// # Errors
    /// A sentence: what is there instead of an agent, or the agent's own.
    pub(super) fn find(address: SocketAddr, target: SocketAddr) -> Result<Self, String> {
        Self::begin(address, &Request::Find { ip: Some(target.ip()), port: target.port() })
    }

    fn begin(address: SocketAddr, whom: &Request) -> Result<Self, String> {
        let (stream, lines) = connect(address)?;
        let mut agent = Self { address, stream, lines, pid: 0 };
        match agent.ask(whom)? {
            Reply::Watching { pid } => agent.pid = pid,
            other => return Err(agent.unexpected(&other)),
        }
        Ok(agent)
    }

    /// The process, by its number on the agent's machine.
    pub(super) const fn pid(&self) -> u32 {
        self.pid
    }

    /// Looks. An agent that has closed the connection, because nothing was asked for long, is connected
    /// to once more.
    ///
    /// # Errors
    /// A sentence.
    pub(super) fn snapshot(&mut self) -> Result<Snapshot, String> {
        let reply = match self.ask(&Request::Snapshot {}) {
            Err(_) => {
                *self = Self::begin(self.address, &Request::Pid(self.pid))?;
                self.ask(&Request::Snapshot {})?
            }
            Ok(reply) => reply,
        };
        match reply {
            Reply::Snapshot(snapshot) => Ok(*snapshot),
            other => Err(self.unexpected(&other)),
        }
    }

    fn ask(&mut self, request: &Request) -> Result<Reply, String> {
        let sent = self.stream.write_all(line(request).as_bytes());
        sent.map_err(|error| format!("the agent at {} is gone: {error}", self.address))?;
        receive(&mut self.lines, self.address)
    }

    fn unexpected(&self, reply: &Reply) -> String {
        match reply {
            Reply::Error(sentence) => format!("the agent at {} says: {sentence}", self.address),
            _ => stranger(self.address),
        }
    }
}

fn connect(address: SocketAddr) -> Result<(TcpStream, Lines), String> {
    let unreachable = |error| {
        format!(
            "no agent is reached at {address} ({error}): start `c10k load --agent {address}` on the server's machine, \
             and let nothing in between block the port"
        )
    };
    let stream = TcpStream::connect_timeout(&address, PATIENCE).map_err(unreachable)?;
    // A question is one small segment: it must not wait for anything.
    stream.set_nodelay(true).map_err(unreachable)?;
    stream.set_write_timeout(Some(PATIENCE)).map_err(unreachable)?;
    let mut lines = Lines::new(stream.try_clone().map_err(unreachable)?, ANSWER_MOST);
    match receive(&mut lines, address)? {
        Reply::Hello { c10k_agent: VERSION, .. } => Ok((stream, lines)),
        Reply::Hello { c10k_agent, release } => Err(format!(
            "the agent at {address} is of c10k {release} and speaks version {c10k_agent}, this c10k version \
             {VERSION}: use the same release on both machines"
        )),
        // An agent that has too much to do says so instead.
        Reply::Error(sentence) => Err(format!("the agent at {address} says: {sentence}")),
        _ => Err(stranger(address)),
    }
}

fn receive(lines: &mut Lines, address: SocketAddr) -> Result<Reply, String> {
    let text = lines.next(PATIENCE, PATIENCE).map_err(|why| match why {
        NoLine::Closed => format!("the agent at {address} has closed the connection"),
        NoLine::Failed(error) => format!("the connection to the agent at {address} failed: {error}"),
        NoLine::TooLate => format!("the agent at {address} did not answer within {PATIENCE:?}"),
        NoLine::TooLong => stranger(address),
    })?;
    serde_json::from_str(&text).map_err(|_| stranger(address))
}

fn stranger(address: SocketAddr) -> String {
    format!(
        "what answers at {address} is not an agent of c10k: start one with `c10k load --agent` and give its address, \
         not the server's"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;
    use std::thread;

    /// Somebody who says this to whoever connects, and goes.
    fn says(text: &'static str) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        thread::spawn(move || listener.accept().unwrap().0.write_all(text.as_bytes()).unwrap());
        address
    }

    fn found(address: SocketAddr) -> String {
        Agent::find(address, "127.0.0.1:8888".parse().unwrap()).unwrap_err()
    }

    #[test]
    fn whoever_is_no_agent_or_of_another_version_is_told_apart() {
        let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        assert!(found(nobody).contains("c10k load --agent"));
        assert!(found(says("SSH-2.0-OpenSSH\r\n")).contains("not an agent"));
        assert!(found(says("{\"watching\":{\"pid\":1}}\n")).contains("not an agent"));
        assert!(found(says("")).contains("closed the connection"));
        assert!(found(says("{\"error\":\"too many\"}\n")).ends_with("says: too many"));
        let newer = says("{\"hello\":{\"c10k_agent\":2,\"release\":\"9.0\",\"more\":1}}\n");
        assert!(found(newer).contains("of c10k 9.0 and speaks version 2"));
    }
}
