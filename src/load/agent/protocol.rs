//! What an agent and its client say to each other: one JSON object a line, over TCP. The agent begins, with
//! a greeting that names its version; then the client asks and the agent answers, one for one.

use crate::load::server_stats::Snapshot;
use serde::{Deserialize, Serialize};
use std::io::{self, Read};
use std::net::{IpAddr, TcpStream};
use std::time::{Duration, Instant};

/// The version of all this. It changes when an old client could misunderstand a new agent.
pub const VERSION: u32 = 1;

/// What a client asks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Request {
    /// Look at the process that listens there: on this address if one does, else on the port.
    Find {
        /// The address the client knows it by.
        #[serde(default)]
        ip: Option<IpAddr>,
        /// The port.
        port: u16,
    },
    /// Look at this process.
    Pid(u32),
    /// Look now.
    Snapshot {},
}

/// What the agent answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reply {
    /// The first line.
    Hello {
        /// See [`VERSION`].
        c10k_agent: u32,
        /// The release of c10k.
        release: String,
    },
    /// This process is looked at from now on.
    Watching {
        /// Its number.
        pid: u32,
    },
    /// What the look saw.
    Snapshot(Box<Snapshot>),
    /// Why not, and what would do.
    Error(String),
}

/// A message as a line.
#[must_use]
pub fn line(message: &impl Serialize) -> String {
    serde_json::to_string(message).expect("names and numbers are always JSON") + "\n"
}

/// The other side's lines, bounded in length and in time.
#[derive(Debug)]
pub struct Lines {
    stream: TcpStream,
    received: Vec<u8>,
    most: usize,
}

/// Why no line came.
#[derive(Debug)]
pub enum NoLine {
    /// The other side has closed the connection.
    Closed,
    /// The line was longer than allowed.
    TooLong,
    /// It did not come in time.
    TooLate,
    /// The connection failed.
    Failed(io::Error),
}

impl Lines {
    /// Lines of at most `most` bytes.
    #[must_use]
    pub const fn new(stream: TcpStream, most: usize) -> Self {
        Self { stream, received: Vec::new(), most }
    }

    /// Waits for the next line: `silence` for its first byte, and `patience` more for the rest.
    ///
    /// # Errors
    /// Why none came; the connection is of no use then.
    pub fn next(&mut self, silence: Duration, patience: Duration) -> Result<String, NoLine> {
        let mut until = Instant::now() + if self.received.is_empty() { silence } else { patience };
        let mut searched = 0;
        loop {
            if let Some(end) = self.received[searched..].iter().position(|&byte| byte == b'\n') {
                let line: Vec<u8> = self.received.drain(..=searched + end).collect();
                return Ok(String::from_utf8_lossy(&line).trim().to_string());
            }
            searched = self.received.len();
            if searched > self.most {
                return Err(NoLine::TooLong);
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(NoLine::TooLate);
            }
            self.read(left)?;
            if searched == 0 && !self.received.is_empty() {
                until = Instant::now() + patience;
            }
        }
    }

    /// Waits at most `left` for some more bytes.
    fn read(&mut self, left: Duration) -> Result<(), NoLine> {
        // A time that the kernel rounds to zero would mean for ever.
        let left = left.max(Duration::from_millis(1));
        self.stream.set_read_timeout(Some(left)).map_err(NoLine::Failed)?;
        let mut bytes = [0; 4096];
        match self.stream.read(&mut bytes) {
            Ok(0) => Err(NoLine::Closed),
            Ok(count) => {
                self.received.extend(&bytes[..count]);
                Ok(())
            }
            Err(error) if is_for_later(error.kind()) => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => Err(NoLine::Closed),
            Err(error) => Err(NoLine::Failed(error)),
        }
    }
}

fn is_for_later(kind: io::ErrorKind) -> bool {
    matches!(kind, io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut | io::ErrorKind::Interrupted)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::net::TcpListener;

    const LONG: Duration = Duration::from_secs(30);
    const SHORT: Duration = Duration::from_millis(20);

    fn pair(most: usize) -> (TcpStream, Lines) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let near = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        (near, Lines::new(listener.accept().unwrap().0, most))
    }

    #[test]
    fn a_request_is_written_as_the_documentation_says() {
        let find = Request::Find { ip: Some([10, 0, 0, 1].into()), port: 8888 };
        assert_eq!(line(&find), "{\"find\":{\"ip\":\"10.0.0.1\",\"port\":8888}}\n");
        assert_eq!(line(&Request::Pid(7)), "{\"pid\":7}\n");
        assert_eq!(line(&Request::Snapshot {}), "{\"snapshot\":{}}\n");
        let short: Request = serde_json::from_str(r#"{"find":{"port":1}}"#).unwrap();
        assert_eq!(short, Request::Find { ip: None, port: 1 });
        let hello = Reply::Hello { c10k_agent: VERSION, release: "0".into() };
        assert_eq!(line(&hello), "{\"hello\":{\"c10k_agent\":1,\"release\":\"0\"}}\n");
    }

    #[test]
    fn lines_come_one_by_one_however_they_were_cut() {
        let (mut near, mut lines) = pair(16);
        near.write_all(b"one\r\ntw").unwrap();
        assert_eq!(lines.next(LONG, LONG).unwrap(), "one");
        near.write_all(b"o\n\xff\n").unwrap();
        assert_eq!(lines.next(LONG, LONG).unwrap(), "two");
        assert_eq!(lines.next(LONG, LONG).unwrap(), "\u{fffd}");
        drop(near);
        assert!(matches!(lines.next(LONG, LONG), Err(NoLine::Closed)));
    }

    #[test]
    fn a_line_that_is_too_long_too_slow_or_never_comes_is_given_up() {
        let (mut near, mut lines) = pair(16);
        assert!(matches!(lines.next(SHORT, LONG), Err(NoLine::TooLate)));
        near.write_all(b"half").unwrap();
        assert!(matches!(lines.next(LONG, SHORT), Err(NoLine::TooLate)));
        near.write_all(&[b'x'; 20]).unwrap();
        assert!(matches!(lines.next(LONG, LONG), Err(NoLine::TooLong)));
    }
}
