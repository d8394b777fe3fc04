//! What may be typed after `c10k load`. Values are taken as they are and checked in `load::check`.

use crate::load::Typed;
use clap::{ArgAction, Args};

pub(super) const EXAMPLES: &str = "\
Examples:
  c10k load pingpong                        100 connections, 64 bytes, to 127.0.0.1:8888, for 10 s
  c10k load pingpong HOST:8888 -c 10k -R 200k --fail-if 'p99>1ms'
  c10k load pingpong --find-rate 'p99<1ms'  the highest rate that still holds
  c10k load stream -c 16 -s 64Ki            both directions full
  c10k load churn -t 17 -s 1024             connect, send, receive, close, again and again
  c10k load idle -c 10k --every 10s         connections that are held, and still echo";

pub(super) const AFTER: &str = "\
Times are written 50us, 10ms, 5s, 1m; counts 10k, 1m; bytes 4Ki, 1Mi. Every byte is verified.

Signals: SIGINT or SIGTERM stops and reports what there is, a second one ends at once; SIGUSR1
prints a snapshot.

Exit codes: 0 done (also: suspect); 1 failed, or connections were left waiting; 2 wrong usage;
3 a --fail-if was met; 4 the measurement is not valid (with --strict also: suspect); 5 bytes were
wrong; 6 the engine is not available here; 130, 143 interrupted, with what there was.
Where several hold, the first of 5, 1, 4, 3.";

#[derive(Debug, Default, Args)]
pub(super) struct Load {
    /// pingpong: a message, its echo, the next; stream: both directions full; churn: connect, send,
    /// receive, close; idle: connections held that echo now and then.
    #[arg(value_name = "WORKLOAD", help_heading = "What is done")]
    workload: Option<String>,
    /// The server, any that echoes [default: 127.0.0.1:8888].
    #[arg(value_name = "HOST:PORT", help_heading = "What is done")]
    target: Option<String>,
    /// Connections held at once [default: pingpong 100, stream 16, churn one a thread or 17, idle 10k].
    #[arg(short, long, value_name = "COUNT", help_heading = "What is done")]
    connections: Option<String>,
    /// Bytes of a message, or a range of them, as 64..4Ki [default: 64, stream 64Ki, churn 1024].
    #[arg(short, long, value_name = "BYTES", help_heading = "What is done")]
    size: Option<String>,
    /// Messages a connection may have on their way at once (pingpong) [default: 1].
    #[arg(short = 'P', long, value_name = "COUNT", help_heading = "What is done")]
    depth: Option<String>,
    /// Time between two messages of a connection (idle) [default: 10s].
    #[arg(long, value_name = "TIME", help_heading = "What is done")]
    every: Option<String>,

    /// Messages (churn: connections) a second over all connections: an open loop, with latency counted from
    /// the schedule [default: a closed loop, the server sets the pace; pingpong, churn].
    #[arg(short = 'R', long, value_name = "RATE", help_heading = "How fast, how long")]
    rate: Option<String>,
    /// How the times of an open loop lie: poisson (as independent users would) or uniform.
    #[arg(long, value_name = "SPACING", help_heading = "How fast, how long")]
    arrival: Option<String>,
    /// Search the highest rate at which this still holds, as 'p99<1ms'.
    #[arg(long, value_name = "CONDITION", help_heading = "How fast, how long")]
    find_rate: Option<String>,
    /// How long is measured; with --find-rate, each step [default: 10s; idle at least --every; a step 3s].
    #[arg(short, long, value_name = "TIME", help_heading = "How fast, how long")]
    duration: Option<String>,
    /// Measure so many messages instead, over all connections.
    #[arg(short = 'n', long, value_name = "COUNT", help_heading = "How fast, how long")]
    messages: Option<String>,
    /// Load before the measurement [default: 2s; a step 1s; idle and with -n 0].
    #[arg(short, long, value_name = "TIME", help_heading = "How fast, how long")]
    warmup: Option<String>,
    /// How long the last answers are awaited before their connections count as stuck; an open loop also
    /// sends in it what was due and had to wait [default: 2s].
    #[arg(long, value_name = "TIME", help_heading = "How fast, how long")]
    grace: Option<String>,

    /// Threads [default: the CPUs of the affinity mask, or of --cpus; more where sockets need more rings].
    #[arg(short, long, value_name = "COUNT", help_heading = "What does it")]
    threads: Option<String>,
    /// Pin the threads to these CPUs in turn, as 0,2-3.
    #[arg(long, value_name = "CPUS", help_heading = "What does it")]
    cpus: Option<String>,
    /// auto (uring where the kernel allows it, else epoll), uring, or epoll.
    #[arg(long, value_name = "ENGINE", help_heading = "What does it")]
    engine: Option<String>,
    /// Sockets as slots of the rings instead of descriptors: auto (where descriptors do not suffice), on, off.
    #[arg(long, value_name = "WHEN", help_heading = "What does it")]
    direct: Option<String>,
    /// Addresses to connect from: auto (127.0.0.x where one has too few ports), any (the kernel's choice),
    /// or a list, as 10.0.0.5,10.0.1.1-10.0.1.9,10.0.2.0/26.
    #[arg(long, value_name = "ADDRESSES", help_heading = "What does it")]
    source: Option<String>,
    /// New connections a second [default: auto, as fast as the server takes them].
    #[arg(long, value_name = "RATE", help_heading = "What does it")]
    connect_rate: Option<String>,
    /// How long one connection may take to be made [default: 5s].
    #[arg(long, value_name = "TIME", help_heading = "What does it")]
    connect_timeout: Option<String>,
    /// Do not compare what comes back; to measure what comparing costs.
    #[arg(long, help_heading = "What does it")]
    no_verify: bool,
    /// Record no latencies; to measure what recording costs.
    #[arg(long, help_heading = "What does it")]
    no_latency: bool,
    /// What payload and schedule are drawn from [default: a new one each time, told in the result].
    #[arg(long, value_name = "NUMBER", help_heading = "What does it")]
    seed: Option<String>,

    /// Also what the server spent in the window: auto (who listens there), the PID of a process of this
    /// host, or the ADDR:PORT of a `c10k load --agent` on the server's.
    #[arg(long, value_name = "PROCESS", help_heading = "The server's own account")]
    server_stats: Option<String>,
    /// No load: answer others that ask for --server-stats of processes of this host.
    #[arg(
        long,
        value_name = "ADDR:PORT",
        num_args = 0..=1,
        default_missing_value = "127.0.0.1:8889",
        help_heading = "The server's own account"
    )]
    agent: Option<String>,

    /// Fail (exit 3) if this holds, as 'p99>1ms'; may be repeated.
    #[arg(long, value_name = "CONDITION", action = ArgAction::Append, help_heading = "Judging")]
    fail_if: Vec<String>,
    /// A suspect measurement fails too (exit 4).
    #[arg(long, help_heading = "Judging")]
    strict: bool,

    /// Time between two lines of progress; typed, the lines are printed [default: 1s].
    #[arg(short, long, value_name = "TIME", help_heading = "Output")]
    interval: Option<String>,
    /// text, json (one object), ndjson (one a line: intervals, then the result), or csv.
    #[arg(long, value_name = "FORMAT", help_heading = "Output")]
    format: Option<String>,
    /// Percentiles [default: 50,90,99,99.9,99.99].
    #[arg(long, value_name = "LIST", help_heading = "Output")]
    percentiles: Option<String>,
    /// Write the result here instead of to standard output (-).
    #[arg(short, long, value_name = "FILE", help_heading = "Output")]
    output: Option<String>,
    /// Write the latency's percentiles, as HdrHistogram prints them.
    #[arg(long, value_name = "FILE", help_heading = "Output")]
    hdr: Option<String>,
    /// Write the histogram of each interval, as an HdrHistogram V2 log.
    #[arg(long, value_name = "FILE", help_heading = "Output")]
    hlog: Option<String>,
    /// Say nothing on standard error but why it failed.
    #[arg(short, long, help_heading = "Output")]
    quiet: bool,
}

impl Load {
    pub(super) fn typed(self) -> Typed {
        Typed {
            workload: self.workload,
            target: self.target,
            connections: self.connections,
            size: self.size,
            depth: self.depth,
            rate: self.rate,
            arrival: self.arrival,
            find_rate: self.find_rate,
            every: self.every,
            duration: self.duration,
            messages: self.messages,
            warmup: self.warmup,
            grace: self.grace,
            threads: self.threads,
            cpus: self.cpus,
            engine: self.engine,
            direct: self.direct,
            source: self.source,
            connect_rate: self.connect_rate,
            connect_timeout: self.connect_timeout,
            no_verify: self.no_verify,
            no_latency: self.no_latency,
            seed: self.seed,
            server_stats: self.server_stats,
            agent: self.agent,
            strict: self.strict,
            fail_if: self.fail_if,
            interval: self.interval,
            format: self.format,
            percentiles: self.percentiles,
            output: self.output,
            hdr: self.hdr,
            hlog: self.hlog,
            quiet: self.quiet,
        }
    }
}
