//! How long a stop takes, from SIGTERM to the end of the process, and whether anything is lost that
//! had arrived by then.
//!
//! What had arrived is known without asking the server: when nothing moves, what each client has
//! written is noted and the kernel's list of sockets is read. What a client has written and its kernel
//! does not hold any more (`tx_queue`, the same number as SIOCOUTQ) has been acknowledged, so it lies
//! in the server's socket or has gone further. Then comes the signal. Every such byte has to come
//! back, in order and unchanged, before the end of its connection; and all clients together must read
//! exactly what the server says it sent. What a client writes after the signal may be echoed or not.
//!
//! Three loads:
//! - `idle`: one message was echoed on each connection, then nothing.
//! - `held`: each client writes 256 KiB or until it is blocked, and reads nothing before the signal, so
//!   that bytes lie in every queue there is. After it, clients read and write no more.
//! - `flowing`: each client has up to 32 KiB on their way, all the time, and goes on after the signal
//!   until the server finishes. So that something is caught on its way, the server is frozen (SIGSTOP)
//!   in the middle; the clients run into it, nothing moves any more, SIGTERM is sent, and the server
//!   goes on with both before it. The time is taken from there.

use crate::Variant;
use crate::connect::Options;
use crate::memory::mebibytes;
use crate::server::{Server, Stopped, available};
use crate::sockets::Listing;
use crate::stream::{End, Flow, Progress, Streams};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

/// What may be typed.
#[derive(clap::Args)]
pub struct Arguments {
    /// The servers; none: uring (normal and direct descriptors) and epoll (per core and shared).
    variants: Vec<Variant>,
    /// Idle connections.
    #[arg(long, default_value_t = 10_000)]
    idle: usize,
    /// Loaded connections.
    #[arg(long, default_value_t = 1_000)]
    loaded: usize,
    /// Seconds a flowing load lasts before the signal.
    #[arg(long, default_value_t = 1.0)]
    seconds: f64,
}

/// The figures.
const IDLE_MAX: Duration = Duration::from_secs(1);
const LOADED_MAX: Duration = Duration::from_secs(2);
/// What a held client writes at most, bytes.
const HELD: u64 = 256 * 1024;
/// What a flowing client has on its way, bytes.
const WINDOW: u64 = 32 * 1024;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Load {
    Idle,
    Held,
    Flowing,
}

/// What had arrived at the server just before the signal.
struct Arrived {
    /// Bytes of each connection.
    each: Vec<u64>,
    /// Of the sum: not read by its client yet, all connections together.
    owed: u64,
    /// Of what is owed: unread in the server's sockets.
    in_server_sockets: u64,
}

/// Measures and prints one line per server and load.
pub fn run(arguments: &Arguments) -> io::Result<()> {
    let chosen = &arguments.variants;
    let variants = if chosen.is_empty() { Variant::all() } else { chosen.clone() };
    println!(
        "SIGTERM to the end of the process, two workers; figures: idle {IDLE_MAX:?}, loaded {LOADED_MAX:?}"
    );
    println!(
        "MiB at the signal: arrived; of it not read by its client; of that unread in the server's sockets\n"
    );
    println!(
        "{:<24} {:<8} {:>6} {:>8} {:>4} {:>8} {:>8} {:>8} {:>10} {:>9} {:>6}  figure",
        "variant",
        "load",
        "conns",
        "seconds",
        "exit",
        "arrived",
        "unread",
        "sockets",
        "lost bytes",
        "finished",
        "reset"
    );
    for variant in &variants {
        for (load, count) in
            [(Load::Idle, arguments.idle), (Load::Held, arguments.loaded), (Load::Flowing, arguments.loaded)]
        {
            let outcome = measure(variant, load, count, arguments.seconds);
            let Some((progress, arrived, stopped)) = available(variant, outcome)? else { break };
            print(variant, load, &progress, &arrived, &stopped);
        }
    }
    Ok(())
}

type Outcome = (Arc<[Progress]>, Arrived, Stopped);

fn measure(variant: &Variant, load: Load, count: usize, seconds: f64) -> io::Result<Outcome> {
    let server = Server::start(&format!("{} --workers 2", variant.arguments()))?;
    let mut streams = Streams::open(server.address, count, Options::default())?;
    let progress = streams.progress();
    let rest = Flow { window: 0, total: 0, to_the_end: true };
    let client: JoinHandle<io::Result<()>> = match load {
        Load::Idle => {
            streams.flow(Flow { window: 64, total: 64, to_the_end: false })?;
            std::thread::spawn(move || streams.flow(rest))
        }
        Load::Held => {
            streams.write_until_blocked(HELD)?;
            let arrived = arrived(server.address, &progress)?;
            let stopping = server.stop()?;
            streams.flow(rest)?;
            return Ok((progress, arrived, stopping.wait()?));
        }
        Load::Flowing => {
            let endless = Flow { window: WINDOW, total: u64::MAX, to_the_end: true };
            let client = std::thread::spawn(move || streams.flow(endless));
            std::thread::sleep(Duration::from_secs_f64(seconds));
            server.freeze()?;
            await_rest(&progress);
            client
        }
    };
    let arrived = arrived(server.address, &progress)?;
    let stopping = server.stop()?;
    client.join().expect("the client does not panic")?;
    Ok((progress, arrived, stopping.wait()?))
}

/// Waits until the clients neither write nor read any more.
fn await_rest(progress: &[Progress]) {
    let moved = || progress.iter().map(|one| one.written() + one.read()).sum::<u64>();
    let mut before = moved();
    loop {
        std::thread::sleep(Duration::from_millis(100));
        let now = moved();
        if now == before {
            return;
        }
        before = now;
    }
}

fn arrived(server: SocketAddr, progress: &[Progress]) -> io::Result<Arrived> {
    let written: Vec<u64> = progress.iter().map(Progress::written).collect();
    let listing = Listing::of(server)?;
    let each: Vec<u64> = progress
        .iter()
        .zip(written)
        .map(|(one, written)| {
            let queues = listing.clients.get(&one.local);
            queues.map_or(0, |queues| written.saturating_sub(queues.unacknowledged))
        })
        .collect();
    let owed = progress.iter().zip(&each).map(|(one, arrived)| arrived.saturating_sub(one.read())).sum();
    Ok(Arrived { each, owed, in_server_sockets: listing.server.values().map(|queues| queues.unread).sum() })
}

fn print(variant: &Variant, load: Load, progress: &[Progress], arrived: &Arrived, stopped: &Stopped) {
    let lost: u64 =
        progress.iter().zip(&arrived.each).map(|(one, arrived)| arrived.saturating_sub(one.read())).sum();
    let ended = |end| progress.iter().filter(|one| one.end() == end).count();
    let read: u64 = progress.iter().map(Progress::read).sum();
    let sent = stopped.summary["counters"]["bytes_sent"].as_u64();
    let most = if load == Load::Idle { IDLE_MAX } else { LOADED_MAX };
    let reached = lost == 0 && stopped.code == 0 && stopped.time <= most && sent == Some(read);
    println!(
        "{variant:<24} {:<8} {:>6} {:>8.3} {:>4} {:>8.1} {:>8.1} {:>8.1} {lost:>10} {:>9} {:>6}  {}",
        format!("{load:?}").to_lowercase(),
        progress.len(),
        stopped.time.as_secs_f64(),
        stopped.code,
        mebibytes(arrived.each.iter().sum()),
        mebibytes(arrived.owed),
        mebibytes(arrived.in_server_sockets),
        ended(End::Finished),
        ended(End::Reset),
        if reached { "reached" } else { "MISSED" }
    );
    if sent != Some(read) {
        println!("{:<24} the server says it sent {sent:?} bytes, the clients read {read}", "");
    }
    println!("{:<24} closed by the server: {}", "", reasons(stopped));
}

fn reasons(stopped: &Stopped) -> String {
    let closed = stopped.summary["closed"].as_object();
    let reasons = closed.into_iter().flatten().filter(|(_, count)| count.as_u64() != Some(0));
    let reasons: Vec<String> = reasons.map(|(reason, count)| format!("{reason} {count}")).collect();
    if reasons.is_empty() { "none".into() } else { reasons.join(", ") }
}
