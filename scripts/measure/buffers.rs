//! How many buffers circulate, and how large, at small and at large messages: every size of a grid
//! against the default of its backend, in interleaved slices (see `compare`). For epoll the same with
//! the scratch buffer of a worker.

use crate::Variant;
use crate::compare::{Plan, Slice, Spread, Workload, contest};
use crate::memory::mebibytes;
use std::io;
use std::time::{Duration, Instant};

/// What may be typed.
#[derive(clap::Args)]
pub struct Arguments {
    /// Seconds of all slices together.
    #[arg(long, default_value_t = 240.0)]
    budget: f64,
    /// Slices of each variant at each workload.
    #[arg(long, default_value_t = 7)]
    rounds: usize,
    /// Numbers of buffers in the ring.
    #[arg(long, value_delimiter = ',', default_values_t = [64, 256, 1024, 4096])]
    counts: Vec<u64>,
    /// Bytes of a buffer in the ring.
    #[arg(long, value_delimiter = ',', default_values_t = [4096, 16384, 65536])]
    sizes: Vec<u64>,
    /// Bytes of the scratch buffer of an epoll worker.
    #[arg(long, value_delimiter = ',', default_values_t = [4096, 16384, 65536, 262_144])]
    scratch: Vec<u64>,
    /// What the order is drawn from.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

const WORKLOADS: [Workload; 4] = [
    Workload { connections: 100, size: 64 },
    Workload { connections: 1_000, size: 64 },
    Workload { connections: 16, size: 64 * 1024 },
    Workload { connections: 100, size: 64 * 1024 },
];
/// Pools above this are left out: all servers are alive at once.
const POOL_MAX: u64 = 64 << 20;
/// Slices below this measure their own ends.
const SLICE_MIN: Duration = Duration::from_millis(100);

/// Measures and prints, one table per backend and workload.
pub fn run(arguments: &Arguments) -> io::Result<()> {
    let groups = [uring_variants(arguments), epoll_variants(arguments)];
    let slices = groups.iter().map(Vec::len).sum::<usize>() * WORKLOADS.len() * arguments.rounds.max(1);
    let time = Duration::from_secs_f64(arguments.budget / slices as f64).max(SLICE_MIN);
    println!(
        "{slices} slices of {time:.0?}; ratio of server CPU per message to the first line, by rounds; order \
         drawn from {}; servers with one worker on CPU 0, client on CPU 1",
        arguments.seed
    );
    let plan = Plan { rounds: arguments.rounds.max(1), time, seed: arguments.seed };
    for variants in &groups {
        let mut medians = Vec::new();
        for workload in WORKLOADS {
            let start = Instant::now();
            let rows = contest(variants, workload, plan)?;
            println!(
                "\n{} connections, {} bytes ({:.0?} with the set-up)",
                workload.connections,
                workload.size,
                start.elapsed()
            );
            medians.push(report(variants, &rows));
        }
        overall(variants, &medians);
    }
    Ok(())
}

/// The default first: it is the reference.
fn uring_variants(arguments: &Arguments) -> Vec<Variant> {
    let grid =
        arguments.counts.iter().flat_map(|&count| arguments.sizes.iter().map(move |&size| (count, size)));
    let (kept, left_out): (Vec<_>, Vec<_>) = grid.partition(|(count, size)| count * size <= POOL_MAX);
    for (count, size) in left_out {
        println!(
            "left out: {count} buffers of {size} bytes ({:.0} MiB, the most is {:.0})",
            mebibytes(count * size),
            mebibytes(POOL_MAX)
        );
    }
    let name = |(count, size)| format!("uring:buffer-count={count},buffer-size={size}");
    let names = kept.into_iter().map(name);
    std::iter::once("uring".to_string()).chain(names).map(|name| Variant::of(&name)).collect()
}

fn epoll_variants(arguments: &Arguments) -> Vec<Variant> {
    let names = arguments.scratch.iter().map(|size| format!("epoll:buffer-size={size}"));
    std::iter::once("epoll".to_string()).chain(names).map(|name| Variant::of(&name)).collect()
}

/// Prints one workload; returns the median ratio of each variant.
fn report(variants: &[Variant], rows: &[Vec<Slice>]) -> Vec<f64> {
    println!("{:<44} {:>24} {:>24} {:>10}", "variant", "server CPU", "server + client CPU", "server ns");
    let mut medians = Vec::new();
    for (number, variant) in variants.iter().enumerate() {
        let server = Spread::of(rows.iter().map(|row| row[number].server / row[0].server));
        let both = Spread::of(rows.iter().map(|row| row[number].both() / row[0].both()));
        let nanoseconds = Spread::of(rows.iter().map(|row| row[number].server)).median;
        println!("{variant:<44} {server:>24} {both:>24} {nanoseconds:>10.0}");
        medians.push(server.median);
    }
    best(variants, &medians);
    medians
}

/// One setting has to do for every workload: the geometric mean of the medians, and the worst one.
fn overall(variants: &[Variant], medians: &[Vec<f64>]) {
    println!("\nall workloads, server CPU per message");
    println!("{:<44} {:>24} {:>24}", "variant", "geometric mean", "worst");
    let mut means = Vec::new();
    for (number, variant) in variants.iter().enumerate() {
        let ratios = medians.iter().map(|workload| workload[number]);
        let mean = (ratios.clone().map(f64::ln).sum::<f64>() / medians.len() as f64).exp();
        let worst = ratios.fold(0.0, f64::max);
        println!("{variant:<44} {mean:>24.3} {worst:>24.3}");
        means.push(mean);
    }
    best(variants, &means);
}

fn best(variants: &[Variant], ratios: &[f64]) {
    let best = variants.iter().zip(ratios).min_by(|(_, one), (_, other)| one.total_cmp(other));
    if let Some((variant, ratio)) = best {
        println!("least: {variant}, {ratio:.3}");
    }
}
