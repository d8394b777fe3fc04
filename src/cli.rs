//! What may be typed. Values are taken as they are and checked in `config`, so that every problem is
//! reported at once; only what is no flag at all is refused here.

mod bench;
mod doctor;
mod load;
mod refusal;
mod report;

pub use refusal::sentence;

use crate::config::Typed;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{ArgAction, Args, Parser, Subcommand};
use std::ffi::OsString;
use std::sync::LazyLock;

/// What somebody wants done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Asked {
    /// To serve.
    Serve(Box<Typed>),
    /// To load a server.
    Load(Box<crate::load::Typed>),
    /// To report what a bench came to.
    Report(Box<crate::report::Typed>),
    /// To find out what this machine allows.
    Doctor(crate::doctor::Typed),
    /// To compare servers.
    Bench(Box<crate::bench::Typed>),
    /// To be a child of such a comparison.
    Held(Vec<String>),
    /// To read about the dimensions of `--uring`.
    UringHelp,
    /// To read about the dimensions of `--epoll`.
    EpollHelp,
}

/// Reads an argument list, the program's name first.
///
/// # Errors
/// Usage errors, for which [`sentence`] has the words, and the texts of `--help` and `--version`: print
/// it and exit with its code.
pub fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Asked, clap::Error> {
    let arguments: Vec<OsString> = arguments.into_iter().collect();
    let command = Command::try_parse_from(&arguments).map_err(|mut answer| {
        // Which one it was, clap does not say.
        let text_of_none = arguments.iter().find(|argument| argument.to_str().is_none());
        if let (ErrorKind::InvalidUtf8, Some(argument)) = (answer.kind(), text_of_none) {
            answer.insert(ContextKind::InvalidArg, ContextValue::String(argument.to_string_lossy().into()));
        }
        answer
    })?;
    let serve = match command.verb {
        Some(Verb::Serve(serve)) => *serve,
        Some(Verb::Doctor(doctor)) => return Ok(Asked::Doctor(doctor.typed())),
        Some(Verb::Load(load)) => return Ok(Asked::Load(Box::new(load.typed()))),
        Some(Verb::Report(report)) => return Ok(Asked::Report(Box::new(report.typed()))),
        Some(Verb::Bench(bench)) => return Ok(Asked::Bench(Box::new(bench.typed()))),
        Some(Verb::Held(held)) => return Ok(Asked::Held(held.words)),
        None => command.serve,
    };
    let asks_help = |texts: &[String]| texts.iter().any(|text| text == "help");
    Ok(match serve {
        serve if asks_help(&serve.uring) => Asked::UringHelp,
        serve if asks_help(&serve.epoll) => Asked::EpollHelp,
        serve => Asked::Serve(Box::new(serve.typed())),
    })
}

const EXAMPLES: &str = "\
Examples:
  c10k                              uring where the kernel allows it, else epoll; 127.0.0.1:8888
  c10k --backend epoll --listen 127.0.0.1:0 --workers 2
  c10k --backend uring --uring recv=single,taskrun=coop
  c10k --uring help                 what can be chosen, and what this kernel says to it
  c10k doctor                       what this kernel and these limits allow, tried
  c10k load pingpong                a client that measures and verifies; c10k load --help
  c10k bench                        uring against epoll, one minute, one verdict; c10k bench --help
  c10k report DIR                   what a bench came to; c10k report --help";

const AFTER: &str = "\
Times are written 50us, 10ms, 5s, 1m; counts 10k, 1m; bytes 4Ki, 1Mi.

Signals: SIGTERM or SIGINT stops in order, a second one at once; SIGUSR1 prints the account.

Exit codes: 0 done; 1 failed; 2 wrong usage or configuration; 6 the backend or a feature is not
available here; 7 the drain time ran out, or a second signal came, and connections were cut.";

/// A TCP echo server written twice: by completion (io_uring) and by readiness (epoll).
#[derive(Debug, Parser)]
#[command(
    name = "c10k",
    version = env!("CARGO_PKG_VERSION"),
    long_version = long_version(),
    before_long_help = EXAMPLES,
    after_long_help = AFTER,
    args_conflicts_with_subcommands = true,
    disable_help_subcommand = true,
    allow_negative_numbers = true,
    max_term_width = 110
)]
struct Command {
    #[command(subcommand)]
    verb: Option<Verb>,
    #[command(flatten)]
    serve: Serve,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Serve; the same as no verb at all.
    #[command(before_long_help = EXAMPLES, after_long_help = AFTER, allow_negative_numbers = true)]
    Serve(Box<Serve>),
    /// Load a server that echoes, and measure and verify what comes back.
    #[command(before_long_help = load::EXAMPLES, after_long_help = load::AFTER, allow_negative_numbers = true)]
    Load(Box<load::Load>),
    /// Report what a bench came to, or lay several results side by side.
    #[command(before_long_help = report::EXAMPLES, after_long_help = report::AFTER)]
    Report(Box<report::Report>),
    /// Find out what this kernel and these limits allow: every feature is tried.
    #[command(after_long_help = doctor::AFTER)]
    Doctor(doctor::Doctor),
    /// Compare servers, and say which costs less.
    #[command(before_long_help = bench::EXAMPLES, after_long_help = bench::AFTER)]
    Bench(Box<bench::Bench>),
    #[command(hide = true, name = crate::bench::HELD)]
    Held(bench::Held),
}

#[derive(Debug, Default, Args)]
struct Serve {
    /// Which server: auto (uring where the kernel allows it, else epoll), uring, or epoll.
    #[arg(long, value_name = "BACKEND", help_heading = "What runs")]
    backend: Option<String>,
    /// Features of the uring server, as DIMENSION=VALUE,...; `help` lists them.
    #[arg(long, value_name = "FEATURES", action = ArgAction::Append, help_heading = "What runs")]
    uring: Vec<String>,
    /// Features of the epoll server, as DIMENSION=VALUE,...; `help` lists them.
    #[arg(long, value_name = "FEATURES", action = ArgAction::Append, help_heading = "What runs")]
    epoll: Vec<String>,
    /// Worker threads [default: the CPUs of the affinity mask, or of --cpus].
    #[arg(long, value_name = "COUNT", help_heading = "What runs")]
    workers: Option<String>,
    /// Pin the workers to these CPUs in turn, as 0,2-3.
    #[arg(long, value_name = "CPUS", help_heading = "What runs")]
    cpus: Option<String>,

    /// Where to listen; IPv4, or IPv6 in brackets; port 0 is the kernel's choice; may be repeated [default: 127.0.0.1:8888].
    #[arg(long, value_name = "ADDR:PORT", action = ArgAction::Append, help_heading = "Sockets")]
    listen: Vec<String>,
    /// Connections that may wait to be accepted; the kernel caps it [default: 65535].
    #[arg(long, value_name = "COUNT", help_heading = "Sockets")]
    backlog: Option<String>,
    /// Bytes of a connection the kernel may hold unsent [default: 64Ki].
    #[arg(long, value_name = "BYTES", help_heading = "Sockets")]
    unsent_limit: Option<String>,
    /// Receive buffer of a connection in the kernel [default: grows by itself].
    #[arg(long, value_name = "BYTES", help_heading = "Sockets")]
    recv_buffer: Option<String>,
    /// Ask a silent peer after this time whether it is still there [default: off].
    #[arg(long, value_name = "TIME", help_heading = "Sockets")]
    keepalive: Option<String>,
    /// Give a peer up that acknowledges nothing for this time [default: the kernel's].
    #[arg(long, value_name = "TIME", help_heading = "Sockets")]
    user_timeout: Option<String>,
    /// Congestion control [default: the kernel's].
    #[arg(long, value_name = "NAME", help_heading = "Sockets")]
    congestion: Option<String>,

    /// Connections served at once [default: the hard descriptor limit less 64, at most 65536].
    #[arg(long, value_name = "COUNT", help_heading = "Limits")]
    max_connections: Option<String>,
    /// Close a connection that is silent for this time [default: off].
    #[arg(long, value_name = "TIME", help_heading = "Limits")]
    idle_timeout: Option<String>,
    /// Close a connection that takes nothing of what it is owed for this time [default: 1m].
    #[arg(long, value_name = "TIME", help_heading = "Limits")]
    write_timeout: Option<String>,
    /// How long a stop may take before connections are cut [default: 10s].
    #[arg(long, value_name = "TIME", help_heading = "Limits")]
    drain_timeout: Option<String>,
    /// Bytes held for peers that do not read, all together [default: 64Mi].
    #[arg(long, value_name = "BYTES", help_heading = "Limits")]
    spill_limit: Option<String>,

    /// Print the account this often [default: off].
    #[arg(long, value_name = "TIME", help_heading = "Output")]
    stats_every: Option<String>,
    /// text, or json: one object a line.
    #[arg(long, value_name = "FORMAT", help_heading = "Output")]
    format: Option<String>,
    /// Say more on standard error.
    #[arg(short, long, action = ArgAction::Count, conflicts_with = "quiet", help_heading = "Output")]
    verbose: u8,
    /// Say nothing on standard error but why it failed.
    #[arg(short, long, help_heading = "Output")]
    quiet: bool,
}

impl Serve {
    fn typed(self) -> Typed {
        Typed {
            backend: self.backend,
            listen: self.listen,
            workers: self.workers,
            cpus: self.cpus,
            max_connections: self.max_connections,
            idle_timeout: self.idle_timeout,
            write_timeout: self.write_timeout,
            drain_timeout: self.drain_timeout,
            backlog: self.backlog,
            unsent_limit: self.unsent_limit,
            spill_limit: self.spill_limit,
            recv_buffer: self.recv_buffer,
            keepalive: self.keepalive,
            user_timeout: self.user_timeout,
            congestion: self.congestion,
            stats_every: self.stats_every,
            format: self.format,
            uring: self.uring,
            epoll: self.epoll,
            verbosity: if self.quiet { -1 } else { self.verbose.min(9) as i8 },
        }
    }
}

/// The version with what the build script found out.
fn long_version() -> &'static str {
    static TEXT: LazyLock<String> = LazyLock::new(build_facts);
    &TEXT
}

fn build_facts() -> String {
    let fact = |fact: Option<&str>| fact.filter(|fact| !fact.is_empty()).unwrap_or("n/a").to_string();
    format!(
        "{}\ncommit:  {}\nprofile: {}\ntarget:  {}\nbuilt by {}",
        env!("CARGO_PKG_VERSION"),
        fact(option_env!("C10K_COMMIT")),
        fact(option_env!("C10K_PROFILE")),
        fact(option_env!("C10K_TARGET")),
        fact(option_env!("C10K_RUSTC")),
    )
}

#[cfg(test)]
mod tests;
