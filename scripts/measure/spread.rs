//! How connections spread over the workers. The kernel deals them out by a hash of their addresses
//! (SO_REUSEPORT), so few connections spread unevenly by chance: ten are tried five times.

use crate::Variant;
use crate::client::Client;
use crate::server::{Server, available};
use std::io;

/// What may be typed.
#[derive(clap::Args)]
pub struct Arguments {
    /// The servers.
    #[arg(default_values = ["uring", "epoll"])]
    variants: Vec<Variant>,
    /// Numbers of workers.
    #[arg(long, value_delimiter = ',', default_values_t = [2, 4])]
    workers: Vec<usize>,
    /// Numbers of connections.
    #[arg(long, value_delimiter = ',', default_values_t = [10, 1_000, 10_000])]
    connections: Vec<usize>,
}

/// Measures and prints one line per server that was started.
pub fn run(arguments: &Arguments) -> io::Result<()> {
    println!("share of the least and the most loaded worker; an even spread is 1 / workers");
    println!(
        "{:<24} {:>7} {:>11} {:>6} {:>9} {:>9}  open at each worker",
        "variant", "workers", "connections", "even", "least", "most"
    );
    'next_variant: for variant in &arguments.variants {
        for &workers in &arguments.workers {
            for &connections in &arguments.connections {
                let times = if connections < 100 { 5 } else { 1 };
                for _ in 0..times {
                    let open = available(variant, spread(variant, workers, connections))?;
                    let Some(open) = open else { continue 'next_variant };
                    line(variant, connections, &open);
                }
            }
        }
    }
    Ok(())
}

/// Connections open at each worker.
fn spread(variant: &Variant, workers: usize, connections: usize) -> io::Result<Vec<u64>> {
    let server = Server::start(&format!("{} --workers {workers}", variant.arguments()))?;
    // Every connection has been served once: it is at its worker.
    let _client = Client::new(server.address, connections, 64)?;
    let stats = server.stats()?;
    let open: Vec<u64> = stats["workers"]
        .as_array()
        .map(|workers| workers.iter().filter_map(held).collect())
        .unwrap_or_default();
    let sum: u64 = open.iter().sum();
    if open.len() != workers || sum != connections as u64 {
        return Err(io::Error::other(format!("{variant}: the workers hold {open:?}, not {connections}")));
    }
    Ok(open)
}

/// Connections of a worker. One that shares its instance has none of its own, only those it accepted.
fn held(worker: &serde_json::Value) -> Option<u64> {
    worker["open"].as_u64().or_else(|| worker["accepted"].as_u64())
}

fn line(variant: &Variant, connections: usize, open: &[u64]) {
    let share = |count: Option<&u64>| count.copied().unwrap_or(0) as f64 / connections as f64;
    println!(
        "{variant:<24} {:>7} {connections:>11} {:>6.2} {:>9.3} {:>9.3}  {open:?}",
        open.len(),
        1.0 / open.len() as f64,
        share(open.iter().min()),
        share(open.iter().max())
    );
}
