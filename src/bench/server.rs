//! A server under measurement: started on a free port of loopback, waited for until it is ready, ended when
//! dropped.

use super::child::{Child, Log};
use super::variant;
use crate::host::listening;
use crate::result::Event;
use crate::result::bench::Variant;
use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::process::Stdio;
use std::sync::mpsc;
use std::time::{Duration, Instant};

/// How long a server may take to be ready.
const READY: Duration = Duration::from_secs(20);
/// How often is looked whether one that says nothing accepts.
const LOOK: Duration = Duration::from_millis(10);
/// The exit code of ours where this kernel or release does not offer what was asked for.
const UNAVAILABLE: i32 = 6;

/// A server that runs.
#[derive(Debug)]
pub struct Server {
    child: Child,
    /// Where it listens.
    pub address: SocketAddr,
    /// Whose CPU time is its.
    pub pid: u32,
    /// What its ready line said is in force; `None` of a server that is not ours.
    pub features: Option<BTreeMap<String, String>>,
    /// Bytes of padding in its environment.
    pub padding: u32,
}

/// Why a server does not run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotReady {
    /// A sentence.
    pub sentence: String,
    /// Whether this kernel or release does not offer it.
    pub unavailable: bool,
}

impl Server {
    /// Starts a variant on these CPUs, with so many bytes of padding in its environment.
    ///
    /// # Errors
    /// Why it is not ready.
    pub fn start(variant: &Variant, cpus: &[usize], padding: u32, log: &Log) -> Result<Self, NotReady> {
        let failed = |sentence| NotReady { sentence, unavailable: false };
        if variant::is_ours(variant) {
            let words = replaced(&variant.command, SocketAddr::from((Ipv4Addr::LOCALHOST, 0)));
            let child = Child::start_padded(&words, &[], Stdio::piped(), log, padding).map_err(failed)?;
            return ready(child, padding, log);
        }
        let port = free_port().map_err(|error| failed(format!("there is no free port: {error}")))?;
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let words = replaced(&variant.command, address);
        let child = Child::start_padded(&words, cpus, Stdio::null(), log, padding).map_err(failed)?;
        accepting(child, address, padding, log).map_err(failed)
    }

    /// Whether it still runs.
    pub fn is_alive(&mut self) -> bool {
        self.child.is_alive()
    }
}

fn replaced(command: &[String], address: SocketAddr) -> Vec<String> {
    let port = address.port().to_string();
    let place = |word: &String| word.replace("{addr}", &address.to_string()).replace("{port}", &port);
    command.iter().map(place).collect()
}

/// A port nobody has at this moment.
fn free_port() -> std::io::Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port())
}

/// Waits for the ready line. What is printed later is little, and stays in the pipe.
fn ready(mut child: Child, padding: u32, log: &Log) -> Result<Server, NotReady> {
    let Some(stdout) = child.process.stdout.take() else {
        return Err(NotReady { sentence: "the server has no standard output".into(), unavailable: false });
    };
    let (sender, lines) = mpsc::channel();
    std::thread::spawn(move || {
        let mut reader = BufReader::new(stdout);
        let mut line = String::new();
        let _ = reader.read_line(&mut line);
        let _ = sender.send(line);
        // Whatever follows is taken, so that the server never waits for a reader.
        let _ = std::io::copy(&mut reader, &mut std::io::sink());
    });
    let line = lines.recv_timeout(READY).unwrap_or_default();
    if let Ok(Event::Ready(ready)) = serde_json::from_str(&line)
        && let Some(address) = ready.listen.first().and_then(|text| text.parse().ok())
    {
        let features = Some(ready.features.0.into_iter().collect());
        return Ok(Server { child, address, pid: ready.pid, features, padding });
    }
    let status = child.process.try_wait().ok().flatten().or_else(|| {
        std::thread::sleep(Duration::from_millis(50));
        child.process.try_wait().ok().flatten()
    });
    let said = child.said(log);
    let sentence = if said.is_empty() { "the server said nothing, and was not ready".into() } else { said };
    Err(NotReady { sentence, unavailable: status.and_then(|one| one.code()) == Some(UNAVAILABLE) })
}

/// Waits until a server that prints nothing we know accepts; whose it is says the kernel, since a command
/// may start another.
fn accepting(mut child: Child, address: SocketAddr, padding: u32, log: &Log) -> Result<Server, String> {
    let started = Instant::now();
    while TcpStream::connect_timeout(&address, Duration::from_secs(1)).is_err() {
        if !child.is_alive() {
            return Err(format!("the server ended before it accepted on {address}: {}", child.said(log)));
        }
        if started.elapsed() > READY {
            return Err(format!("the server did not accept on {address} within {} s", READY.as_secs()));
        }
        std::thread::sleep(LOOK);
    }
    let pids = listening::listeners(address)?;
    let pid = pids.iter().find(|&&pid| pid == child.pid()).or(pids.first()).copied();
    pid.map(|pid| Server { child, address, pid, features: None, padding })
        .ok_or_else(|| "nobody listens".into())
}
