//! Prints the figures this project claims, on the machine it runs on: `cargo run --release --example
//! measure -- VERB`. Each verb starts the release build of `c10k` itself, on loopback, and stops it.
//! Nothing else should run meanwhile: where CPU time is compared, the server has CPU 0 and the client
//! CPU 1 for itself.
//!
//! Not a test: nothing here fails because a number is large (a wrong or missing byte does end it).
//! The clients of the server's own figures are not the load generator: they know a closed loop and a
//! plain stream, and no latency.

mod buffers;
mod client;
mod compare;
mod connect;
mod load;
mod memory;
mod never_reading;
mod ping;
mod server;
mod sockets;
mod spread;
mod stop;
mod stream;
mod ten_thousand;
mod variant;

use clap::{Parser, Subcommand};
use std::io;
use std::process::ExitCode;
use variant::Variant;

/// Prints the figures this project claims, on the machine it runs on.
///
/// A VARIANT is `uring` or `epoll`, with features after a colon and further arguments of c10k after
/// a blank: `uring`, `uring:files=direct`, `"epoll:threads=shared --workers 4"`.
#[derive(Parser)]
#[command(name = "measure")]
struct Command {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// CPU per message of several servers, in interleaved slices; the last one is the reference.
    Compare(compare::Arguments),
    /// Ten thousand connections at once, and what they cost in memory.
    TenThousand(ten_thousand::Arguments),
    /// Healthy clients beside peers that write and never read.
    NeverReading(never_reading::Arguments),
    /// How connections spread over the workers.
    Spread(spread::Arguments),
    /// How long a stop takes, and whether it loses anything that had arrived.
    Stop(stop::Arguments),
    /// How many buffers circulate, and how large, at small and at large messages.
    Buffers(buffers::Arguments),
    /// The figures of `c10k load`.
    Load(load::Arguments),
    /// Connects, prints `ready`, and sends messages to a running server once a line comes in.
    Ping(ping::Arguments),
}

fn main() -> ExitCode {
    let command = Command::parse();
    let result = raise_descriptor_limit().and_then(|()| match command.verb {
        Verb::Compare(arguments) => compare::run(&arguments),
        Verb::TenThousand(arguments) => ten_thousand::run(&arguments),
        Verb::NeverReading(arguments) => never_reading::run(&arguments),
        Verb::Spread(arguments) => spread::run(&arguments),
        Verb::Stop(arguments) => stop::run(&arguments),
        Verb::Buffers(arguments) => buffers::run(&arguments),
        Verb::Load(arguments) => load::run(&arguments),
        Verb::Ping(arguments) => ping::run(&arguments),
    });
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("measure: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Both ends of every connection are on this machine; this is for the client's.
fn raise_descriptor_limit() -> io::Result<()> {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    Ok(setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?)
}
