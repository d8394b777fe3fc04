//! CPU per message of several servers, side by side: all are alive at once, and each round gives
//! every one of them a slice, in an order drawn by a seed; the next round takes the same order
//! backwards, so that a drift of the machine lands on all alike. A round gives one ratio to the
//! reference per server; what counts is the median of the ratios, with their spread.

use crate::Variant;
use crate::client::Client;
use crate::server::Server;
use nix::sched::{CpuSet, sched_setaffinity};
use nix::time::{ClockId, clock_gettime};
use nix::unistd::Pid;
use std::io;
use std::time::{Duration, Instant};

/// What may be typed.
#[derive(clap::Args)]
pub struct Arguments {
    /// The servers; the last one is the reference.
    #[arg(required = true, num_args = 2..)]
    variants: Vec<Variant>,
    /// Connections to each.
    #[arg(long, default_value_t = 100)]
    connections: usize,
    /// Bytes of a message.
    #[arg(long, default_value_t = 64)]
    size: usize,
    /// Rounds of one slice each.
    #[arg(long, default_value_t = 9)]
    rounds: usize,
    /// Seconds of a slice.
    #[arg(long, default_value_t = 1.0)]
    seconds: f64,
    /// What the order is drawn from.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

/// One workload: a closed loop, one message on its way per connection.
#[derive(Clone, Copy, Debug)]
pub struct Workload {
    /// Connections to each server.
    pub connections: usize,
    /// Bytes of a message.
    pub size: usize,
}

/// How it is measured.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// Slices of each server.
    pub rounds: usize,
    /// How long a slice is.
    pub time: Duration,
    /// What the order is drawn from.
    pub seed: u64,
}

/// What one slice gave.
#[derive(Clone, Copy, Debug)]
pub struct Slice {
    /// Nanoseconds of the server's CPU per message.
    pub server: f64,
    /// Nanoseconds of the client's CPU per message.
    pub client: f64,
    /// Messages per second.
    pub rate: f64,
}

impl Slice {
    /// Both ends.
    pub fn both(self) -> f64 {
        self.server + self.client
    }
}

/// Median and ends of some ratios.
#[derive(Clone, Copy, Debug)]
pub struct Spread {
    /// The middle one, or the mean of the middle two.
    pub median: f64,
    /// The smallest.
    pub low: f64,
    /// The largest.
    pub high: f64,
}

impl Spread {
    /// Of at least one ratio.
    pub fn of(values: impl Iterator<Item = f64>) -> Self {
        let mut values: Vec<f64> = values.collect();
        values.sort_by(f64::total_cmp);
        let (lower, upper) = (values[(values.len() - 1) / 2], values[values.len() / 2]);
        Self { median: f64::midpoint(lower, upper), low: values[0], high: values[values.len() - 1] }
    }
}

impl std::fmt::Display for Spread {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.pad(&format!("{:.3} ({:.3} to {:.3})", self.median, self.low, self.high))
    }
}

/// Measures and prints.
pub fn run(arguments: &Arguments) -> io::Result<()> {
    let workload = Workload { connections: arguments.connections, size: arguments.size };
    let plan = Plan {
        rounds: arguments.rounds.max(1),
        time: Duration::from_secs_f64(arguments.seconds),
        seed: arguments.seed,
    };
    println!(
        "{} connections, {} bytes, closed loop; {} rounds of {:?} each, order drawn from {}; servers with one \
         worker on CPU 0, client on CPU 1; reference: {}",
        workload.connections,
        workload.size,
        plan.rounds,
        plan.time,
        plan.seed,
        arguments.variants[arguments.variants.len() - 1]
    );
    let rows = contest(&arguments.variants, workload, plan)?;
    report(&arguments.variants, &rows);
    Ok(())
}

/// Starts every variant and gives each its slices: one row per round, one column per variant.
pub fn contest(variants: &[Variant], workload: Workload, plan: Plan) -> io::Result<Vec<Vec<Slice>>> {
    check_descriptors(variants.len() * workload.connections)?;
    // Servers are started first: what they start on must not be the client's CPU only.
    let servers = variants
        .iter()
        .map(|variant| Server::start(&format!("{} --workers 1 --cpus 0", variant.arguments())))
        .collect::<io::Result<Vec<_>>>()?;
    pin(1)?;
    let mut sides = Vec::new();
    for server in servers {
        let mut client = Client::new(server.address, workload.connections, workload.size)?;
        client.run(plan.time.min(Duration::from_millis(300)))?;
        sides.push((server, client));
    }
    let mut random = fastrand::Rng::with_seed(plan.seed);
    let mut order: Vec<usize> = (0..sides.len()).collect();
    let mut rows = Vec::new();
    for round in 0..plan.rounds {
        if round % 2 == 0 {
            random.shuffle(&mut order)
        } else {
            order.reverse()
        }
        let mut row = vec![None; sides.len()];
        for &number in &order {
            let (server, client) = &mut sides[number];
            row[number] = Some(slice(server, client, plan.time)?);
        }
        rows.push(row.into_iter().map(|slice| slice.expect("every one has its turn")).collect());
    }
    unpin()?;
    Ok(rows)
}

/// All variants are connected at once, by this process.
fn check_descriptors(connections: usize) -> io::Result<()> {
    use nix::sys::resource::{Resource, getrlimit};
    let (limit, _) = getrlimit(Resource::RLIMIT_NOFILE)?;
    if connections as u64 + 64 > limit {
        return Err(io::Error::other(format!(
            "{connections} connections over all variants are more than this process may open ({limit}); compare \
             fewer variants at a time, or raise `ulimit -Hn`"
        )));
    }
    Ok(())
}

/// Pins the calling thread, and those it will start.
pub fn pin(cpu: usize) -> io::Result<()> {
    let mut set = CpuSet::new();
    set.set(cpu)?;
    Ok(sched_setaffinity(Pid::from_raw(0), &set)?)
}

/// For the servers of a next contest; the kernel leaves out the CPUs there are not.
fn unpin() -> io::Result<()> {
    let mut set = CpuSet::new();
    (0..CpuSet::count()).try_for_each(|cpu| set.set(cpu))?;
    Ok(sched_setaffinity(Pid::from_raw(0), &set)?)
}

fn slice(server: &Server, client: &mut Client, time: Duration) -> io::Result<Slice> {
    let own = || clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).map(Duration::from);
    let (server_before, own_before) = (server.cpu()?, own()?);
    let start = Instant::now();
    let messages = client.run(time)? as f64;
    let elapsed = start.elapsed().as_secs_f64();
    let own_time = own()? - own_before;
    Ok(Slice {
        server: (server.cpu()? - server_before) as f64 / messages,
        client: own_time.as_nanos() as f64 / messages,
        rate: messages / elapsed,
    })
}

fn report(variants: &[Variant], rows: &[Vec<Slice>]) {
    let reference = variants.len() - 1;
    println!("\nserver CPU per message, ratio to the reference, round by round");
    for (number, variant) in variants[..reference].iter().enumerate() {
        let ratios = rows.iter().map(|row| format!("{:.3}", row[number].server / row[reference].server));
        println!("  {variant}: {}", ratios.collect::<Vec<_>>().join(" "));
    }
    println!("\nmedian (lowest to highest) of the ratios, and the median of each slice");
    println!(
        "{:<44} {:>24} {:>24} {:>24} {:>10} {:>10} {:>9}",
        "variant", "server CPU", "server + client CPU", "messages/s", "server ns", "client ns", "1/s"
    );
    for (number, variant) in variants.iter().enumerate() {
        let ratio =
            |of: fn(Slice) -> f64| Spread::of(rows.iter().map(|row| of(row[number]) / of(row[reference])));
        let median = |of: fn(Slice) -> f64| Spread::of(rows.iter().map(|row| of(row[number]))).median;
        println!(
            "{variant:<44} {:>24} {:>24} {:>24} {:>10.0} {:>10.0} {:>9.0}",
            ratio(|slice| slice.server),
            ratio(Slice::both),
            ratio(|slice| slice.rate),
            median(|slice| slice.server),
            median(|slice| slice.client),
            median(|slice| slice.rate)
        );
    }
}
