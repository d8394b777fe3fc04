//! A checked load and what it came to, for tests: invented, and the same each time.

use super::check::{self, Checked, Facts};
use super::outcome::{Machine, Outcome, Row, ServerCost, ThreadCost};
use super::payload::{Kind, Wrong};
use super::tally::{Interval, Spread, Stuck};
use super::trouble::{Cause, Phase};
use crate::result::Named;
use crate::result::server_stats::{AccountChange, ServerStats};
use nix::errno::Errno;
use std::io::{self, Write};
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::{Duration, UNIX_EPOCH};

const SECOND: u64 = 1_000_000_000;

/// Somewhere to write to whose bytes its clones can read.
#[derive(Clone, Default)]
pub(crate) struct Shared(pub(crate) Arc<Mutex<Vec<u8>>>);

impl Write for Shared {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What these words after `c10k load` are checked to, on a host with two CPUs.
pub(crate) fn checked(arguments: &str) -> Checked {
    let words = ["c10k", "load"].into_iter().chain(arguments.split_whitespace());
    let typed = match crate::cli::parse(words.map(Into::into)) {
        Ok(crate::cli::Asked::Load(typed)) => *typed,
        other => panic!("{arguments}: {other:?}"),
    };
    let lookup = |_: &str, _: u16| -> io::Result<Vec<SocketAddr>> { Err(io::Error::other("no names")) };
    let facts = Facts {
        cpus: vec![0, 1],
        descriptors: Some(20_000),
        ports: Some((32_768, 60_999)),
        memory: None,
        uring_unavailable: None,
        seed: 7,
        lookup: &lookup,
        owns: &|address: IpAddr| address.is_loopback(),
    };
    check::check(&typed, &facts).unwrap_or_else(|refused| panic!("{arguments}: {refused:?}"))
}

/// A healthy run of `checked` over four intervals of a second: 40,000 messages, evenly. The tests of what
/// is printed damage it.
pub(crate) fn outcome(checked: &Checked) -> Outcome {
    let plan = &checked.plan;
    let mut outcome = Outcome {
        began: UNIX_EPOCH + Duration::from_secs(1_800_000_000),
        ramp_took: Duration::from_millis(410),
        connected: plan.connections,
        given_up: 0,
        window: (3 * SECOND, 7 * SECOND),
        ramp: Interval::default(),
        total: Interval::default(),
        after: Interval::default(),
        rows: Vec::new(),
        threads: vec![ThreadCost { cpu: Duration::from_millis(1_600), system_calls: 8_000 }],
        process_cpu: Some(Duration::from_millis(1_610)),
        spread: Spread {
            connections: plan.connections.into(),
            silent: 0,
            least: 390,
            most: 410,
            sum: 40_000.0,
            sum_of_squares: 40_000.0 * 40_000.0 / f64::from(plan.connections),
        },
        stuck: Stuck::default(),
        wrong: Vec::new(),
        wrong_connections: 0,
        overflows: 0,
        empty_pool: 0,
        stale: 0,
        features: vec![("cqe-skip", "on".into()), ("files", "normal".into())],
        machine: Some(Machine { busy: 0.9, softirq: 0.3, steal: 0.004, pressure: Some(0.1), cpus: 2 }),
        server: Some(ServerCost {
            stats: Some(ServerStats {
                source: "process 4711".into(),
                pid: 4711,
                cpu_us: 1_500_000,
                cpus_busy: 0.375,
                threads: 2,
                voluntary_switches: 10,
                involuntary_switches: 2,
                resident_bytes: Some(5 << 20),
                account: Some(AccountChange {
                    counters: Named(vec![("system_calls".into(), 4_400), ("overflows".into(), 3)]),
                    ..AccountChange::default()
                }),
                notes: vec!["the server was looked at late".into()],
                ..ServerStats::default()
            }),
            missing: None,
        }),
        interrupted: None,
        failure: None,
    };
    (0..plan.connections).for_each(|number| outcome.ramp.connect.record(50_000 + u64::from(number)));
    for number in 0..4 {
        let interval = interval(number, plan.arrivals != super::plan::Arrivals::Closed);
        let begin = (3 + number) * SECOND;
        outcome.rows.push(Row::of(begin, begin + SECOND, &interval));
        outcome.total.add(&interval);
    }
    outcome
}

/// One second of it: latencies from 100 us to 10 ms.
pub(crate) fn interval(number: u64, open_loop: bool) -> Interval {
    let mut interval = Interval {
        number,
        messages: 10_000,
        bytes_sent: 640_000,
        bytes_received: 640_000,
        open: 100,
        ..Interval::default()
    };
    for sample in 1..=10_000 {
        interval.service.record(sample * 1_000);
        if open_loop {
            interval.response.record(sample * 1_000 + 100_000);
            interval.lag.record(20_000);
        }
    }
    interval
}

/// Everything goes wrong at once.
pub(crate) fn broken(checked: &Checked) -> Outcome {
    let mut outcome = outcome(checked);
    outcome.given_up = 3;
    outcome.ramp.troubles.count_many(Phase::Connect, Cause::of(Errno::ECONNREFUSED), 3);
    outcome.total.troubles.count_many(Phase::Receive, Cause::of(Errno::ECONNRESET), 2);
    outcome.after.troubles.count(Phase::Receive, Cause::Stuck);
    outcome.stuck = Stuck { count: 1, first: vec![(42, 17)] };
    outcome.wrong_connections = 1;
    outcome.wrong = vec![Wrong {
        connection: 5,
        offset: 1_234_567,
        expected: *b"\x01\x02\x03\x04\x05\x06\x07\x08",
        got: b"\xff\x02".to_vec(),
        kind: Kind::Flipped { bits: 7 },
    }];
    outcome
}
