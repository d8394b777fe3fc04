//! Healthy clients beside peers that write until they are blocked and never read: what those peers
//! cost the server in memory, and the healthy ones in rate.
//!
//! Slices alternate: A without the peers, B with them, A after they have left, and so on, so that a
//! drift of the machine shows; each B is held against the mean of its neighbours. The peers are
//! blocked while a rate is taken: nothing more is taken from any of them, and the server's count of
//! received bytes stands still.
//!
//! The send buffers of the peers are bounded: on this machine they count against the same TCP memory
//! as the server's sockets, and a thousand peers that fill two megabytes each exhaust it by themselves
//! (`--send-buffer 0` shows that). Peers elsewhere would hold them elsewhere.

use crate::Variant;
use crate::client::Client;
use crate::compare::Spread;
use crate::connect::Options;
use crate::memory::{self, Resident, mebibytes};
use crate::server::{Server, available};
use crate::stream::Streams;
use serde_json::Value;
use std::io;
use std::time::{Duration, Instant};

/// What may be typed.
#[derive(clap::Args)]
pub struct Arguments {
    /// The servers; none: uring (normal and direct descriptors) and epoll (per core and shared).
    variants: Vec<Variant>,
    /// Peers that never read.
    #[arg(long, default_value_t = 1_000)]
    peers: usize,
    /// Healthy connections, 64-byte messages in a closed loop.
    #[arg(long, default_value_t = 100)]
    healthy: usize,
    /// SO_SNDBUF of the peers, bytes; 0 leaves it to the kernel.
    #[arg(long, default_value_t = 64 * 1024)]
    send_buffer: usize,
    /// Slices with the peers.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Seconds of a slice.
    #[arg(long, default_value_t = 2.0)]
    seconds: f64,
}

/// The figures: bytes more than without the peers, and the share of the rate that is left.
const GROWTH_MAX: u64 = 8 << 20;
const RATE_MIN: f64 = 0.90;
/// How long the server may take to have no more to do with the peers.
const SETTLE_MAX: Duration = Duration::from_secs(20);

/// What the peers held while they were blocked.
struct Held {
    resident: u64,
    tcp: u64,
    spilled: u64,
    /// Bytes each peer got rid of.
    written: u64,
    /// Peers that were closed before they were let go.
    closed: u64,
}

struct Outcome {
    before: u64,
    /// Healthy messages per second without the peers, one more than with them.
    without: Vec<f64>,
    with: Vec<f64>,
    held: Vec<Held>,
}

/// Measures and prints one line per server and size of the peers' receive buffers.
pub fn run(arguments: &Arguments) -> io::Result<()> {
    let chosen = &arguments.variants;
    let variants = if chosen.is_empty() { Variant::all() } else { chosen.clone() };
    println!(
        "{} peers write and never read, {} healthy connections go on; two workers; resident memory may grow by \
         {:.0} MiB, the healthy rate may fall to {RATE_MIN}\n",
        arguments.peers,
        arguments.healthy,
        mebibytes(GROWTH_MAX)
    );
    println!(
        "{:<24} {:>9} {:>8} {:>8} {:>8} {:>9} {:>7} {:>6} {:>24}  figure",
        "variant",
        "SO_RCVBUF",
        "before",
        "growth",
        "spilled",
        "KiB each",
        "TCP MiB",
        "closed",
        "healthy rate"
    );
    for variant in &variants {
        for receive_buffer in [Some(4096), None] {
            let send_buffer = Some(arguments.send_buffer).filter(|&bytes| bytes > 0);
            let outcome = measure(variant, arguments, Options { receive_buffer, send_buffer });
            let Some(outcome) = available(variant, outcome)? else { break };
            print(variant, receive_buffer, &outcome);
        }
    }
    Ok(())
}

fn measure(variant: &Variant, arguments: &Arguments, options: Options) -> io::Result<Outcome> {
    let server = Server::start(&format!("{} --workers 2", variant.arguments()))?;
    let mut healthy = Client::new(server.address, arguments.healthy, 64)?;
    let time = Duration::from_secs_f64(arguments.seconds);
    rate(&mut healthy, time.min(Duration::from_millis(500)))?;
    let mut outcome = Outcome {
        before: Resident::of(server.id())?.total,
        without: Vec::new(),
        with: Vec::new(),
        held: Vec::new(),
    };
    outcome.without.push(rate(&mut healthy, time)?);
    for _ in 0..arguments.rounds.max(1) {
        let tcp_before = memory::tcp()?;
        let mut peers = Streams::open(server.address, arguments.peers, options)?;
        peers.write_until_blocked(u64::MAX)?;
        await_stats(&server, "the peers are not blocked", |before, now| {
            before["counters"]["bytes_received"] == now["counters"]["bytes_received"]
        })?;
        let at_first = Resident::of(server.id())?.total;
        outcome.with.push(rate(&mut healthy, time)?);
        let stats = server.stats()?;
        let open = stats["gauges"]["open"].as_u64().unwrap_or(0);
        outcome.held.push(Held {
            resident: at_first.max(Resident::of(server.id())?.total),
            tcp: memory::tcp()?.saturating_sub(tcp_before),
            spilled: stats["gauges"]["spilled"].as_u64().unwrap_or(0),
            written: peers.progress().iter().map(|peer| peer.written()).sum::<u64>() / arguments.peers as u64,
            closed: (arguments.healthy + arguments.peers) as u64 - open,
        });
        drop(peers);
        await_stats(&server, "the peers were not let go", |_, now| {
            now["gauges"]["open"] == arguments.healthy
        })?;
        outcome.without.push(rate(&mut healthy, time)?);
    }
    Ok(outcome)
}

fn rate(client: &mut Client, time: Duration) -> io::Result<f64> {
    let start = Instant::now();
    Ok(client.run(time)? as f64 / start.elapsed().as_secs_f64())
}

/// Asks for the account every 200 ms until two in a row are as `settled` says.
fn await_stats(server: &Server, else_what: &str, settled: impl Fn(&Value, &Value) -> bool) -> io::Result<()> {
    let end = Instant::now() + SETTLE_MAX;
    let mut before = server.stats()?;
    while Instant::now() < end {
        std::thread::sleep(Duration::from_millis(200));
        let now = server.stats()?;
        if settled(&before, &now) {
            return Ok(());
        }
        before = now;
    }
    Err(io::Error::other(format!("{else_what} after {SETTLE_MAX:?}")))
}

fn print(variant: &Variant, receive_buffer: Option<usize>, outcome: &Outcome) {
    let most = |of: fn(&Held) -> u64| outcome.held.iter().map(of).max().unwrap_or(0);
    let growth = most(|held| held.resident).saturating_sub(outcome.before);
    let neighbours = outcome.without.windows(2).map(|pair| f64::midpoint(pair[0], pair[1]));
    let ratio = Spread::of(outcome.with.iter().zip(neighbours).map(|(with, without)| with / without));
    let reached = growth <= GROWTH_MAX && ratio.median >= RATE_MIN && most(|held| held.closed) == 0;
    println!(
        "{variant:<24} {:>9} {:>8.1} {:>8.2} {:>8.2} {:>9.1} {:>7.0} {:>6} {ratio:>24}  {}",
        receive_buffer.map_or("default".into(), |bytes| bytes.to_string()),
        mebibytes(outcome.before),
        mebibytes(growth),
        mebibytes(most(|held| held.spilled)),
        most(|held| held.written) as f64 / 1024.0,
        mebibytes(most(|held| held.tcp)),
        most(|held| held.closed),
        if reached { "reached" } else { "MISSED" }
    );
    let whole = |rates: &[f64]| rates.iter().map(|rate| format!("{rate:.0}")).collect::<Vec<_>>().join(" ");
    println!(
        "{:<24} healthy messages/s without: {}; with: {}",
        "",
        whole(&outcome.without),
        whole(&outcome.with)
    );
}
