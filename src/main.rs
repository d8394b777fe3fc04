//! The program: a verb, its function, an exit code.
#![deny(missing_docs, unsafe_code)]

use c10k::bench;
use c10k::cli::{self, Asked};
use c10k::doctor;
use c10k::features;
use c10k::load;
use c10k::report;
use c10k::server;
use std::io::Write as _;
use std::panic;
use std::process::{self, ExitCode};

fn main() -> ExitCode {
    abort_on_panic();
    match cli::parse(std::env::args_os()) {
        Ok(Asked::Serve(typed)) => server::serve(&typed).into(),
        Ok(Asked::Load(typed)) => load::load(&typed).into(),
        Ok(Asked::Report(typed)) => report::report(&typed).into(),
        Ok(Asked::Doctor(typed)) => doctor::doctor(&typed).into(),
        Ok(Asked::Bench(typed)) => bench::bench(&typed).into(),
        Ok(Asked::Held(words)) => bench::held(&words).into(),
        Ok(Asked::UringHelp) => page(&server::uring_help()),
        Ok(Asked::EpollHelp) => page(&features::help_epoll()),
        Err(answer) => {
            // Standard output or error may be closed; the exit code says it then.
            let _ = match cli::sentence(&answer) {
                Some(sentence) => writeln!(std::io::stderr(), "c10k: {sentence}"),
                None => answer.print(),
            };
            ExitCode::from(answer.exit_code() as u8)
        }
    }
}

/// A panic is a mistake of ours: it ends the program, not a thread of it, in builds that would unwind too.
fn abort_on_panic() {
    let print = panic::take_hook();
    panic::set_hook(Box::new(move |told| {
        print(told);
        process::abort();
    }));
}

fn page(text: &str) -> ExitCode {
    let _ = std::io::stdout().write_all(text.as_bytes());
    ExitCode::SUCCESS
}
