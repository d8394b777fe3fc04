//! Prints the figures this project claims, on the machine it runs on: `cargo run --release --example
//! measure -- VERB`. Each verb starts the release build of `c10k` itself, on loopback, and stops it.
//! Servers run on CPU 0 and the client on CPU 1, so nothing else should run meanwhile.
//!
//! Not a test: nothing here fails because a number is large. Not the load generator either: it knows
//! one workload, a closed loop over many connections, and no latency.

mod client;
mod compare;
mod server;

use std::process::ExitCode;

const USAGE: &str = "measure VERB
  compare A B [CONNECTIONS [SIZE [PAIRS [SECONDS]]]]
        CPU per message of two servers, in interleaved slices: A and B are the arguments of c10k in
        one word, as \"--backend uring\"";

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let result = match words.first().map(String::as_str) {
        Some("compare") if words.len() >= 3 => compare::run(&words[1..]),
        _ => {
            eprintln!("{USAGE}");
            return ExitCode::from(2);
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("measure: {error}");
            ExitCode::FAILURE
        }
    }
}
