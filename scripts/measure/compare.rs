//! CPU per message of two servers, side by side: both are alive, slices alternate A B B A, each pair
//! of neighbours gives one ratio. The median of the ratios, with all of them shown.

use crate::client::Client;
use crate::server::Server;
use nix::sched::{CpuSet, sched_setaffinity};
use nix::time::{ClockId, clock_gettime};
use nix::unistd::Pid;
use std::io;
use std::time::Duration;

struct Side {
    server: Server,
    client: Client,
}

/// Nanoseconds of CPU per message.
#[derive(Clone, Copy)]
struct Slice {
    server: f64,
    client: f64,
    rate: f64,
}

/// `A B [CONNECTIONS [SIZE [PAIRS [SECONDS]]]]`.
pub fn run(words: &[String]) -> io::Result<()> {
    let number = |index: usize, default: f64| words.get(index).map_or(Ok(default), |word| word.parse());
    let invalid = |_| io::Error::other("a number was expected");
    let connections = number(2, 100.0).map_err(invalid)? as usize;
    let size = number(3, 64.0).map_err(invalid)? as usize;
    let pairs = number(4, 9.0).map_err(invalid)? as usize;
    let time = Duration::from_secs_f64(number(5, 1.0).map_err(invalid)?);
    pin(1)?;
    let mut sides = Vec::new();
    for arguments in &words[..2] {
        let server = Server::start(&format!("{arguments} --workers 1 --cpus 0"))?;
        let mut client = Client::new(server.address, connections, size)?;
        client.run(Duration::from_millis(300))?;
        sides.push(Side { server, client });
    }
    println!("A: c10k {}\nB: c10k {}", words[0], words[1]);
    println!(
        "{connections} connections, {size} bytes, closed loop; {pairs} pairs of {time:?}; server on CPU 0, client on CPU 1"
    );
    let mut rows = Vec::new();
    for pair in 0..pairs {
        // A B, then B A: a drift of the machine lands on both sides alike.
        let order = if pair % 2 == 0 { [0, 1] } else { [1, 0] };
        let mut slices = [None; 2];
        for side in order {
            slices[side] = Some(slice(&mut sides[side], time)?);
        }
        rows.push([slices[0].expect("measured"), slices[1].expect("measured")]);
    }
    report(&rows);
    Ok(())
}

/// Keeps this thread on `cpu`.
pub fn pin(cpu: usize) -> io::Result<()> {
    let mut set = CpuSet::new();
    set.set(cpu)?;
    Ok(sched_setaffinity(Pid::from_raw(0), &set)?)
}

fn slice(side: &mut Side, time: Duration) -> io::Result<Slice> {
    let own = || clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).map(Duration::from);
    let (server, client) = (side.server.cpu()?, own()?);
    let start = std::time::Instant::now();
    let messages = side.client.run(time)? as f64;
    let elapsed = start.elapsed().as_secs_f64();
    let client = own()? - client;
    Ok(Slice {
        server: (side.server.cpu()? - server) as f64 / messages,
        client: client.as_nanos() as f64 / messages,
        rate: messages / elapsed,
    })
}

fn report(rows: &[[Slice; 2]]) {
    println!(
        "{:>5} {:>10} {:>10} {:>10} {:>10} {:>9} {:>9} {:>8} {:>8}",
        "pair", "A ns", "B ns", "A+client", "B+client", "A msg/s", "B msg/s", "A/B", "A/B all"
    );
    for (pair, [a, b]) in rows.iter().enumerate() {
        println!(
            "{:>5} {:>10.0} {:>10.0} {:>10.0} {:>10.0} {:>9.0} {:>9.0} {:>8.3} {:>8.3}",
            pair + 1,
            a.server,
            b.server,
            a.server + a.client,
            b.server + b.client,
            a.rate,
            b.rate,
            a.server / b.server,
            (a.server + a.client) / (b.server + b.client)
        );
    }
    let ratios = |ratio: fn(&[Slice; 2]) -> f64| {
        let mut ratios: Vec<f64> = rows.iter().map(ratio).collect();
        ratios.sort_by(f64::total_cmp);
        ratios
    };
    let line = |name: &str, ratios: &[f64]| {
        let (low, high) = (ratios[0], ratios[ratios.len() - 1]);
        println!("{name}: median {:.3}, {low:.3} to {high:.3}", ratios[ratios.len() / 2]);
    };
    line("server CPU per message, A/B", &ratios(|[a, b]| a.server / b.server));
    line(
        "server + client CPU per message, A/B",
        &ratios(|[a, b]| (a.server + a.client) / (b.server + b.client)),
    );
    line("messages per second, A/B", &ratios(|[a, b]| a.rate / b.rate));
}
