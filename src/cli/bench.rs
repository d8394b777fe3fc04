//! What may be typed after `c10k bench`. Values are taken as they are and checked in `bench::check`.

use crate::bench::Typed;
use clap::{ArgAction, Args};

pub(super) const EXAMPLES: &str = "\
Examples:
  c10k bench                        uring against epoll, one minute, one verdict
  c10k bench features               io_uring features, added and left out, one at a time
  c10k bench --variant uring:recv=single --variant uring --workload pingpong:1Ki:1k
  c10k bench --variant 'tokio=./tokio-echo {port}' --variant epoll
  c10k bench --fail-if 'uring/epoll>1.00' -o results
  c10k bench --resume results --budget 2h";

pub(super) const AFTER: &str = "\
Times are written 50us, 10ms, 5s, 1m; counts 10k, 1m; bytes 4Ki, 1Mi. Every byte is verified.

What decides is CPU: the server's for a message, and the server's and the client's together.
Better and worse need both on the same side of 1, each with its whole 95 % interval, and the
server's further from 1 than 2 % and than this machine puts a thing beside itself; same needs
both intervals within that band, and the band within 5 %.

Signals: SIGINT or SIGTERM stops and says what is known; --resume goes on.

Exit codes: 0 done (also: undecided); 1 failed; 2 wrong usage; 3 a --fail-if was met, by the
whole interval; 4 nothing sound was measured (with --strict also: undecided); 5 bytes were
wrong; 6 no variant is available here; 130, 143 interrupted, with what there was. Where several
hold, the first of 5, 130, 143, 1, 6, 4, 3.";

#[derive(Debug, Default, Args)]
pub(super) struct Bench {
    /// quick: two workloads; workloads: all kinds and sizes; features: of io_uring, one at a time; scale:
    /// against the number of connections [default: quick].
    #[arg(value_name = "SUITE", help_heading = "What is compared")]
    suite: Option<String>,
    /// uring, epoll:trigger=edge, or 'NAME=COMMAND {port}'; repeated, the last one is the reference
    /// [default: uring, epoll].
    #[arg(long, value_name = "VARIANT", action = ArgAction::Append, help_heading = "What is compared")]
    variant: Vec<String>,
    /// `KIND[:SIZE[:CONNECTIONS[:DEPTH]]]`, as pingpong:1Ki:1k:16; kinds are those of `c10k load`; may be
    /// repeated [default: the suite's].
    #[arg(long, value_name = "WORKLOAD", action = ArgAction::Append, help_heading = "What is compared")]
    workload: Vec<String>,

    /// How fast ping-pong goes: half (of what the slower one manages, less where that cannot be kept), closed (the server sets the pace), or
    /// messages a second [default: half].
    #[arg(long, value_name = "PACE", help_heading = "How")]
    pace: Option<String>,
    /// CPUs of the servers, a worker each, as 0,2-3 [default: the first of the affinity mask].
    #[arg(long, value_name = "CPUS", help_heading = "How")]
    server_cpus: Option<String>,
    /// CPUs of the clients, a thread each [default: the second].
    #[arg(long, value_name = "CPUS", help_heading = "How")]
    client_cpus: Option<String>,
    /// How long it may take [default: quick 1m, scale 10m, features 15m, workloads 1h].
    #[arg(long, value_name = "TIME", help_heading = "How")]
    budget: Option<String>,
    /// What orders, loads and resamples are drawn from [default: a new one each time, told in the result].
    #[arg(long, value_name = "NUMBER", help_heading = "How")]
    seed: Option<String>,

    /// Fail (exit 3) if this holds with the whole interval, as 'uring/epoll>1.00'; may be repeated.
    #[arg(long, value_name = "CONDITION", action = ArgAction::Append, help_heading = "Judging")]
    fail_if: Vec<String>,
    /// What is undecided fails too (exit 4).
    #[arg(long, help_heading = "Judging")]
    strict: bool,

    /// Keep plan, slices and result here [default: a new c10k-bench-SECONDS].
    #[arg(short, long, value_name = "DIR", help_heading = "Output")]
    output: Option<String>,
    /// Go on with the bench that is kept here.
    #[arg(long, value_name = "DIR", help_heading = "Output")]
    resume: Option<String>,
    /// text, or json: one object.
    #[arg(long, value_name = "FORMAT", help_heading = "Output")]
    format: Option<String>,
    /// Say nothing on standard error but why it failed.
    #[arg(short, long, help_heading = "Output")]
    quiet: bool,
}

impl Bench {
    pub(super) fn typed(self) -> Typed {
        Typed {
            suite: self.suite,
            variants: self.variant,
            workloads: self.workload,
            pace: self.pace,
            server_cpus: self.server_cpus,
            client_cpus: self.client_cpus,
            budget: self.budget,
            seed: self.seed,
            fail_if: self.fail_if,
            strict: self.strict,
            output: self.output,
            resume: self.resume,
            format: self.format,
            quiet: self.quiet,
        }
    }
}

/// A child of a bench; see `bench::held`.
#[derive(Debug, Args)]
pub(super) struct Held {
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    pub(super) words: Vec<String>,
}
