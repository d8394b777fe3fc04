//! Slices from results of loads that are made here.

use super::*;
use crate::bench::compare::tests::slice;
use crate::bench::workload;
use crate::result::Named;
use crate::result::bench::{Purpose, Side};
use crate::result::load::*;
use crate::result::server_stats::AccountChange;

const SECOND: u64 = 1_000_000;

/// A sound load: 100,000 messages in a second, 5 us of the server and 6 us of the client for each.
fn load() -> LoadResult {
    let named =
        |pairs: &[(&str, u64)]| Named(pairs.iter().map(|(name, count)| (name.to_string(), *count)).collect());
    let account = AccountChange {
        counters: named(&[
            ("receives", 100_000),
            ("system_calls", 50_000),
            ("enters", 50_000),
            ("completions", 100_000),
            ("overflows", 0),
            ("empty_pool", 3),
        ]),
        ..AccountChange::default()
    };
    let stats = ServerStats {
        window_us: SECOND,
        cpu_us: 500_000,
        cpus_busy: 0.5,
        voluntary_switches: 900,
        involuntary_switches: 100,
        resident_bytes: Some(7),
        account: Some(account),
        ..ServerStats::default()
    };
    let cost = Cost {
        client_cpu_us: 590_000,
        client_process_cpu_us: Some(600_000),
        client_threads_busy: vec![0.6],
        machine: Some(Machine { cpus: 2, busy: 0.56, ..Machine::default() }),
        server: Some(Server { stats: Some(stats), ..Server::default() }),
        ..Cost::default()
    };
    LoadResult {
        version: 1,
        program: String::new(),
        command: String::new(),
        began_unix_seconds: 0.0,
        verdict: Verdict { word: VerdictWord::Valid, reasons: vec![] },
        exit_code: 0,
        interrupted: false,
        failures: vec![],
        plan: Plan {
            workload: "pingpong".into(),
            target: String::new(),
            connections: 100,
            size_min_bytes: 64,
            size_max_bytes: 64,
            depth: 1,
            kind_of_loop: "open".into(),
            arrival: None,
            intended_messages_per_second: Some(100_000.0),
            duration_us: None,
            messages: None,
            warmup_us: 0,
            grace_us: 0,
            threads: 1,
            cpus: vec![],
            engine: String::new(),
            direct: false,
            sources: 0,
            verify: true,
            seed: 1,
        },
        environment: Environment::default(),
        ramp: Ramp::default(),
        window: Window { begin_us: 0, measured_us: SECOND },
        rates: Rates { messages: 100_000, messages_per_second: 1e5, ..Rates::default() },
        response_latency_us: None,
        service_latency_us: None,
        connect_latency_us: None,
        close_latency_us: None,
        schedule_lag_us: None,
        cost,
        spread: Spread::default(),
        errors: vec![],
        verification: Verification::default(),
        stuck: Stuck::default(),
        fail_if: vec![],
        find_rate: None,
        intervals: vec![],
    }
}

fn filled(variant: &str, change: impl Fn(&mut LoadResult)) -> (Slice, bool) {
    let mut result = load();
    change(&mut result);
    let ran = Ran { result: Some(Box::new(result)), ..Ran::default() };
    let mut slice = Slice { numbers: None, ..slice(Purpose::Cost, 0, 0, Side::A, 1.0) };
    let variant = variant::parse(variant, &[0]).unwrap();
    let wrong = fill(&mut slice, &workload::parse("pingpong").unwrap(), &variant, &ran);
    (slice, wrong)
}

fn server(load: &mut LoadResult) -> &mut ServerStats {
    load.cost.server.as_mut().unwrap().stats.as_mut().unwrap()
}

#[test]
fn costs_are_counted_for_a_unit() {
    let (slice, wrong) = filled("uring", |_| {});
    assert!(!wrong && slice.invalid.is_empty() && slice.disturbed.is_empty(), "{slice:?}");
    let numbers = slice.numbers.unwrap();
    assert_eq!((numbers.server_cpu_ns, numbers.total_cpu_ns), (5_000.0, 11_000.0));
    assert_eq!((numbers.server_system_calls, numbers.completions_per_enter), (Some(0.5), Some(2.0)));
    assert_eq!(numbers.server_context_switches, Some(0.01));
    assert_eq!(
        numbers.health,
        [("system_calls", 50_000), ("enters", 50_000), ("completions", 100_000), ("empty_pool", 3)]
            .map(|(name, count)| (name.to_string(), count))
            .into()
    );
}

#[test]
fn the_server_is_counted_over_its_own_window() {
    let (slice, _) = filled("uring", |load| server(load).window_us = 1_010_000);
    assert!((slice.numbers.unwrap().server_cpu_ns - 5_000.0 / 1.01).abs() < 1e-6);
}

#[test]
fn a_client_that_was_the_limit_makes_a_slice_invalid() {
    let (slice, _) = filled("uring", |load| load.rates.messages_per_second = 97_000.0);
    assert!(slice.invalid[0].starts_with(RATE_MISSED), "{:?}", slice.invalid);
    let (slice, _) = filled("uring", |load| load.cost.client_threads_busy = vec![0.3, 0.96]);
    assert!(slice.invalid[0].starts_with(CLIENT_FULL), "{:?}", slice.invalid);
    // As chance has it, a Poisson schedule has a few messages less.
    assert!(filled("uring", |load| load.rates.messages_per_second = 98_500.0).0.invalid.is_empty());
    // A closed loop has no rate to miss.
    let closed = |load: &mut LoadResult| {
        load.plan.intended_messages_per_second = None;
        load.cost.client_threads_busy = vec![1.0];
    };
    assert!(filled("uring", closed).0.invalid.is_empty());
}

#[test]
fn an_overflow_makes_a_slice_invalid_unless_it_was_asked_for() {
    let overflow = |load: &mut LoadResult| {
        server(load).account.as_mut().unwrap().counters.add("overflows", 4);
    };
    assert!(filled("uring", overflow).0.invalid[0].contains("overflowed 4 times"));
    assert!(filled("uring:cq=64", overflow).0.invalid.is_empty());
}

#[test]
fn a_client_whose_queue_overflowed_invalidates_and_one_whose_buffers_ran_out_is_shown() {
    let (slice, _) = filled("uring", |load| load.cost.client_queue_overflows = 2);
    assert_eq!(slice.invalid, ["the client's completion queue overflowed 2 times"]);
    // Whoever sized the server's queue has not sized the client's.
    let (slice, _) = filled("uring:cq=64", |load| load.cost.client_queue_overflows = 2);
    assert_eq!(slice.invalid.len(), 1, "{:?}", slice.invalid);
    let (slice, _) = filled("uring", |load| load.cost.client_empty_pool = 500_000);
    assert!(slice.invalid.is_empty() && slice.disturbed.is_empty(), "{slice:?}");
    let health = slice.numbers.unwrap().health;
    assert_eq!(
        (health.get("client_empty_pool"), health.get("client_queue_overflows")),
        (Some(&500_000), None)
    );
}

#[test]
fn wrong_bytes_and_failures_count_nowhere() {
    let (slice, wrong) = filled("uring", |load| load.exit_code = 5);
    assert!(wrong && slice.invalid[0].starts_with("bytes were wrong"), "{slice:?}");
    let (slice, wrong) = filled("uring", |load| {
        load.exit_code = 1;
        load.failures = vec!["connections broke".into()];
    });
    assert!(!wrong && slice.invalid[0].contains("connections broke"), "{slice:?}");
    let mut nothing = Slice { numbers: None, ..slice };
    nothing.invalid.clear();
    let ran = Ran { said: "no such option".into(), ..Ran::default() };
    let variant = variant::parse("uring", &[0]).unwrap();
    assert!(!fill(&mut nothing, &workload::parse("pingpong").unwrap(), &variant, &ran));
    assert!(nothing.invalid[0].contains("no such option"));
}

#[test]
fn the_halves_of_a_slice_are_held_against_each_other() {
    let halves = |messages: [u64; 2]| {
        let interval = |messages| Interval { length_us: SECOND / 2, messages, ..Interval::default() };
        filled("uring", |load| load.intervals = messages.map(interval).into()).0.numbers.unwrap().second_half
    };
    assert_eq!((halves([400, 500]), halves([500, 400])), (Some(1.25), Some(0.8)));
    assert_eq!((halves([0, 400]), filled("uring", |_| {}).0.numbers.unwrap().second_half), (None, None));
}

#[test]
fn what_disturbed_a_machine_before_is_not_forgotten() {
    let load = LoadResult { cost: Cost { machine: None, ..load().cost }, ..load() };
    let ran = Ran { result: Some(Box::new(load)), ..Ran::default() };
    let mut slice = slice(Purpose::Cost, 0, 0, Side::A, 1.0);
    slice.disturbed.push("a canary was slow".into());
    let variant = variant::parse("uring", &[0]).unwrap();
    fill(&mut slice, &workload::parse("pingpong").unwrap(), &variant, &ran);
    assert_eq!(slice.disturbed, ["a canary was slow"]);
}

#[test]
fn what_disturbs_a_machine_is_named_and_a_single_tick_is_not() {
    let disturbed = |change: &dyn Fn(&mut Machine)| {
        filled("uring", |load| change(load.cost.machine.as_mut().unwrap())).0.disturbed
    };
    assert!(disturbed(&|machine| machine.steal = 0.011)[0].contains("hypervisor"));
    assert!(disturbed(&|machine| machine.steal = 0.0051).is_empty());
    assert!(disturbed(&|machine| machine.pressure = Some(0.21))[0].contains("waited"));
    assert!(disturbed(&|machine| machine.busy = 0.8)[0].contains("other programs took 0.50 CPUs"));
    assert!(disturbed(&|machine| machine.busy = 0.6).is_empty());
}
