//! Two bench results with invented numbers: every verdict, latency curves, cells over numbers of
//! connections, on two kernels. They stand as files in `tests/fixtures/` for the tests of the program.

use super::read::{Client, Source};
use crate::result::bench::*;
use crate::result::mark::Mark;
use std::collections::BTreeMap;

/// The result of the first, newer kernel.
pub(super) fn newer() -> BenchResult {
    let cells = [
        Sketch { workload: ("pingpong", 64, 100, 1), ratio: 0.87, verdict: Judgement::Better, ..PLAIN },
        Sketch { workload: ("stream", 65_536, 16, 1), ratio: 1.003, verdict: Judgement::Same, ..PLAIN },
        Sketch { workload: ("pingpong", 64, 1_000, 1), ratio: 0.915, verdict: Judgement::Better, ..PLAIN },
        Sketch { workload: ("pingpong", 64, 9_000, 1), ratio: 0.965, verdict: Judgement::Undecided, ..PLAIN },
        Sketch {
            workload: ("churn", 1_024, 17, 1),
            ratio: 1.18,
            verdict: Judgement::Worse,
            latency: false,
            ..PLAIN
        },
        Sketch {
            workload: ("pingpong", 64, 100, 1),
            variant: "uring:recv=single",
            ratio: 0.93,
            question: Some("recommended - recv=multishot"),
            verdict: Judgement::Better,
            latency: false,
            ..PLAIN
        },
        Sketch {
            workload: ("idle", 64, 9_000, 1),
            left_out: Some(
                "9,000 connections need 18,064 descriptors, and 4,096 are allowed; ulimit -n 18064",
            ),
            verdict: Judgement::LeftOut,
            ..PLAIN
        },
    ];
    result("6.18.44", 1_795_332_240.0, 7, &cells)
}

/// The result of the second, older kernel: fewer cells, other ratios.
pub(super) fn older() -> BenchResult {
    let cells = [
        Sketch { workload: ("pingpong", 64, 100, 1), ratio: 0.98, verdict: Judgement::Undecided, ..PLAIN },
        Sketch { workload: ("stream", 65_536, 16, 1), ratio: 1.01, verdict: Judgement::Same, ..PLAIN },
        Sketch { workload: ("pingpong", 64, 1_000, 1), ratio: 1.0, verdict: Judgement::Undecided, ..PLAIN },
    ];
    let mut result = result("6.12.9", 1_795_418_640.0, 11, &cells);
    result.interrupted = true;
    result.exit_code = 130;
    for comparison in &mut result.comparisons {
        let features = comparison.cell.variant.features.as_mut().expect("c10k tells");
        features.insert("taskrun".into(), "coop".into());
    }
    result
}

/// A result as it is after reading.
pub(super) fn source(result: BenchResult) -> Source {
    let label = result.plan.environment.kernel.clone().unwrap_or_default();
    let clients = vec![Client {
        cell: "c0".into(),
        side: Side::A,
        purpose: Purpose::Cost,
        command: "c10k load pingpong 127.0.0.1:40123 -c 100 -s 64 --seed 7".into(),
    }];
    Source { name: format!("results/{label}"), label, result, clients }
}

/// Both, labelled as the program labels them.
pub(super) fn both() -> Vec<Source> {
    let mut sources = vec![source(older()), source(newer())];
    super::read::label(&mut sources);
    sources
}

/// What is told of a cell; the rest follows from it.
#[derive(Clone, Copy)]
struct Sketch {
    /// Kind, bytes, connections, depth.
    workload: (&'static str, u32, u32, u32),
    variant: &'static str,
    question: Option<&'static str>,
    left_out: Option<&'static str>,
    ratio: f64,
    verdict: Judgement,
    latency: bool,
}

const PLAIN: Sketch = Sketch {
    workload: ("pingpong", 64, 100, 1),
    variant: "uring",
    question: None,
    left_out: None,
    ratio: 1.0,
    verdict: Judgement::Undecided,
    latency: true,
};

fn result(kernel: &str, began: f64, seed: u64, sketches: &[Sketch]) -> BenchResult {
    let mut dice = Dice(seed);
    let comparisons: Vec<Comparison> = sketches
        .iter()
        .enumerate()
        .map(|(index, sketch)| comparison(format!("c{index}"), sketch, &mut dice))
        .collect();
    let cells = comparisons.iter().map(|comparison| comparison.cell.clone()).collect();
    BenchResult {
        version: BENCH_VERSION,
        plan: plan(kernel, began, seed, cells),
        took_us: 58_230_000,
        interrupted: false,
        verdict: vec![
            format!(
                "On Linux {kernel}, for 64-byte ping-pong on 100 connections, uring costs {:.2} of epoll's CPU per message.",
                sketches[0].ratio
            ),
            "For 65536-byte stream on 16 connections the two cost the same.".into(),
        ],
        comparisons,
        gates: vec![BenchGate {
            condition: "uring/epoll>1.00".into(),
            cell: Some("c0".into()),
            measured: Some("0.87 (0.84–0.90)".into()),
            breached: false,
        }],
        caveats: vec!["These numbers are invented, for tests of the report.".into()],
        exit_code: 0,
    }
}

fn plan(kernel: &str, began: f64, seed: u64, cells: Vec<Cell>) -> BenchPlan {
    BenchPlan {
        version: BENCH_VERSION,
        program: "c10k 0.1.0".into(),
        command: format!("c10k bench quick --seed {seed} --budget 1m --server-cpus 0 --client-cpus 1"),
        suite: "quick".into(),
        began_unix_seconds: began,
        seed,
        budget_us: 60_000_000,
        pace: "half".into(),
        server_cpus: vec![0],
        client_cpus: vec![1],
        same_band: 0.02,
        environment: BenchEnvironment {
            kernel: Some(kernel.into()),
            kernel_build: Some("#1 SMP PREEMPT_DYNAMIC".into()),
            cpu_model: Some("Invented Processor 9000".into()),
            cpus: vec![0, 1],
            memory_bytes: Some(24 << 30),
            clock_source: Some("tsc".into()),
            virtual_machine: Some(true),
            mitigations: BTreeMap::from([("spectre_v2".into(), "Retpolines".into())]),
            descriptors: Some(20_000),
            locked_bytes: None,
            local_ports: Some((32_768, 60_999)),
            backlog_max: Some(4_096),
            load_average: Some([0.31, 0.22, 0.15]),
            build: BTreeMap::from([("profile".into(), "release".into())]),
        },
        cells,
    }
}

fn comparison(id: String, sketch: &Sketch, dice: &mut Dice) -> Comparison {
    let cell = cell(id, sketch);
    let ran = sketch.left_out.is_none();
    let metrics = if ran { metrics(sketch, dice) } else { Vec::new() };
    let slices = if ran { slices(&cell.id, &metrics, dice) } else { Vec::new() };
    let health = |names: &[(&str, u64)]| -> BTreeMap<String, u64> {
        names.iter().map(|&(name, count)| (name.into(), count)).collect()
    };
    let messages = 1_204_331 + u64::from(sketch.workload.2);
    Comparison {
        verdict: sketch.verdict,
        sentence: format!("{}: {} is {}.", cell.workload.words, cell.variant.name, word(sketch.verdict)),
        reasons: match sketch.verdict {
            Judgement::Undecided => vec!["The interval crosses the edge of the band.".into()],
            _ => Vec::new(),
        },
        marks: ran.then(|| if sketch.workload.0 == "stream" { vec![Mark::ClientNear] } else { Vec::new() }),
        ended: if ran { "budget_spent" } else { "left_out" }.into(),
        band: 0.04,
        blocks: if ran { 8 } else { 0 },
        repeated: u32::from(ran),
        drifted: 0,
        disturbances: match ran {
            true => BTreeMap::from([("canary".into(), 1), ("steal".into(), 1)]),
            false => BTreeMap::new(),
        },
        invalid: u32::from(ran),
        client_ceiling: ran.then(|| ceiling(sketch)),
        latency: (ran && sketch.latency).then(|| latency(sketch)),
        variant_health: match ran {
            true => health(&[("enters", messages / 18), ("messages", messages), ("pool_empty", 3)]),
            false => BTreeMap::new(),
        },
        reference_health: match ran {
            true => health(&[("messages", messages), ("recv_calls", 2 * messages), ("waits", messages / 9)]),
            false => BTreeMap::new(),
        },
        cell,
        metrics,
        slices,
    }
}

/// A stream drives its client to the limit, the others do not.
fn ceiling(sketch: &Sketch) -> ClientCeiling {
    let (known, times) = match sketch.workload.0 {
        "stream" => ("reckoned", 1.04),
        _ => ("reached", 2.0),
    };
    ClientCeiling {
        units_per_second: short(170_000.0 * times),
        known: known.into(),
        measured_units_per_second: 170_000.0,
        times,
        enough: times >= 1.5,
    }
}

fn word(verdict: Judgement) -> &'static str {
    super::numbers::word(verdict)
}

fn cell(id: String, sketch: &Sketch) -> Cell {
    let (kind, size_bytes, connections, depth) = sketch.workload;
    let features = |pairs: &[(&str, &str)]| {
        Some(pairs.iter().map(|&(dimension, value)| (dimension.into(), value.into())).collect())
    };
    let command = |backend: &str| {
        ["c10k", "serve", "--backend", backend, "--listen", "127.0.0.1:0"].map(String::from).into()
    };
    Cell {
        id,
        workload: Workload {
            name: format!("{kind}:{size_bytes}:{connections}"),
            words: format!("{size_bytes}-byte {kind} on {connections} connections"),
            kind: kind.into(),
            connections,
            idle_connections: 0,
            size_bytes,
            depth,
            unit: match kind {
                "stream" => Unit::Mebibyte,
                "churn" => Unit::Connection,
                "idle" => Unit::IdleSecond,
                _ => Unit::Message,
            },
        },
        variant: Variant {
            name: sketch.variant.into(),
            command: command("uring"),
            features: features(&[("recv", "multishot"), ("taskrun", "defer")]),
        },
        reference: Variant {
            name: "epoll".into(),
            command: command("epoll"),
            features: features(&[("trigger", "level")]),
        },
        question: sketch.question.map(String::from),
        left_out: sketch.left_out.map(String::from),
    }
}

fn metrics(sketch: &Sketch, dice: &mut Dice) -> Vec<Metric> {
    let cost = 5_304.0 + f64::from(sketch.workload.2) * 0.4;
    let mut both = |name: &str, words: &str, reference: f64, centre: f64, less: Option<bool>| Metric {
        name: name.into(),
        words: words.into(),
        less_is_better: less,
        variant: Some(short(reference * centre)),
        reference: Some(reference),
        variant_least: name.ends_with("_cpu_ns").then(|| short(reference * centre * 0.93)),
        reference_least: name.ends_with("_cpu_ns").then(|| short(reference * 0.91)),
        ratio: Some(ratio(centre, dice)),
        floor: Some(ratio(1.0, dice)),
    };
    let mut metrics = vec![
        both("server_cpu_ns", "server CPU per message, ns", cost, sketch.ratio, Some(true)),
        both(
            "total_cpu_ns",
            "server + client CPU per message, ns",
            cost * 2.1,
            f64::midpoint(1.0, sketch.ratio),
            Some(true),
        ),
        both("units_per_second", "messages per second", 171_250.0, 1.04, Some(false)),
        both("server_system_calls", "system calls per message", 2.11, 0.06, None),
        both("server_resident_bytes", "server memory, bytes", 5_242_880.0, 1.6, Some(true)),
        both("kernel_bytes_per_connection", "kernel memory per connection, bytes", 6_963.0, 0.99, Some(true)),
    ];
    metrics.push(Metric {
        name: "completions_per_enter".into(),
        words: "completions or events per wait".into(),
        less_is_better: None,
        variant: Some(18.4),
        reference: None,
        variant_least: None,
        reference_least: None,
        ratio: None,
        floor: None,
    });
    metrics
}

fn ratio(centre: f64, dice: &mut Dice) -> Ratio {
    let pairs: Vec<f64> = (0..8).map(|_| short(centre * dice.around_one(0.05))).collect();
    let mut sorted = pairs.clone();
    sorted.sort_by(f64::total_cmp);
    Ratio {
        median: short(f64::midpoint(sorted[3], sorted[4])),
        low: sorted[0],
        high: sorted[7],
        confidence: 0.992_187_5,
        method: "order_statistics".into(),
        pairs,
    }
}

fn latency(sketch: &Sketch) -> LatencyComparison {
    let curve = |factor: f64| {
        let percentiles = [50.0, 75.0, 90.0, 95.0, 99.0, 99.5, 99.9, 99.99];
        let times = [88.0, 104.0, 131.0, 158.0, 310.0, 402.0, 1_020.0, 3_100.0];
        let point = |(percentile, us): (f64, f64)| CurvePoint { percentile, us: (us * factor).round() };
        Curve { samples: 1_999_412, points: percentiles.into_iter().zip(times).map(point).collect() }
    };
    let crowd = f64::from(sketch.workload.2) / 100.0;
    LatencyComparison {
        offered_per_second: 85_000.0,
        variant: curve(sketch.ratio * crowd.sqrt()),
        reference: curve(crowd.sqrt()),
    }
}

fn slices(cell: &str, metrics: &[Metric], dice: &mut Dice) -> Vec<Slice> {
    let mut slices = Vec::new();
    for block in 0..8 {
        for position in 0..4u8 {
            let side = if matches!(position, 0 | 3) { Side::A } else { Side::B };
            let of = |metric: &Metric| if side == Side::A { metric.variant } else { metric.reference };
            let noise = dice.around_one(0.04);
            slices.push(Slice {
                cell: cell.into(),
                block,
                position,
                side,
                purpose: Purpose::Cost,
                attempt: 0,
                began_us: u64::from(block) * 2_000_000 + u64::from(position) * 500_000,
                measured_us: 400_000,
                before: Some(Before {
                    canaries: vec![Canary { cpu: 0, cpu_us: short(2_000.0 * noise), took_us: 2_100.0 }],
                    runnable_others: Some(0),
                }),
                server_padding_bytes: Some(17 * (block + 1)),
                invalid: Vec::new(),
                disturbed: Vec::new(),
                numbers: Some(Numbers {
                    units: 68_000.0,
                    units_per_second: short(170_000.0 / noise),
                    server_cpu_ns: short(of(&metrics[0]).unwrap_or_default() * noise),
                    total_cpu_ns: short(of(&metrics[1]).unwrap_or_default() * noise),
                    client_busy: 0.71,
                    server_busy: 0.96,
                    steal: Some(0.002),
                    second_half: Some(short(0.9 + 0.1 * noise)),
                    ..Numbers::default()
                }),
            });
        }
    }
    slices[5].disturbed = vec!["the hypervisor gave 2.1 % of the CPU time to others".into()];
    slices[6].disturbed = vec!["a canary was slow: CPU 0 took 1.31 times as long as it does mostly".into()];
    slices[9].invalid = vec!["the client was the limit: 99 % busy".into()];
    slices[13].numbers = None;
    slices
}

/// Four digits behind the point are enough for a file that people read, and read back as they were.
fn short(number: f64) -> f64 {
    (number * 10_000.0).round() / 10_000.0
}

/// The same throws each time.
struct Dice(u64);

impl Dice {
    /// Between 1 − spread and 1 + spread.
    fn around_one(&mut self, spread: f64) -> f64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let share = (self.0 >> 40) as f64 / (1u64 << 24) as f64;
        short(1.0 + spread * (2.0 * share - 1.0))
    }
}
