//! What `c10k load` makes of what is typed: defaults, refusals with their remedies, and the command that
//! repeats it.

use super::*;
use crate::cli::Asked;
use std::collections::BTreeSet;

const V4: fn(u8) -> IpAddr = |last| IpAddr::from([10, 0, 0, last]);

fn lookup(host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    match host {
        "localhost" => Ok(vec![SocketAddr::from(([127, 0, 0, 1], port)), SocketAddr::from(([0; 16], port))]),
        "nowhere" => Ok(Vec::new()),
        _ => Err(io::Error::other("Name or service not known")),
    }
}

fn owns(address: IpAddr) -> bool {
    address.is_loopback() || (1..=9).any(|last| address == V4(last))
}

fn facts() -> Facts<'static> {
    Facts {
        cpus: vec![0, 1],
        descriptors: Some(20_000),
        ports: Some((32_768, 60_999)),
        memory: Some(16 << 30),
        uring_unavailable: None,
        seed: 7,
        lookup: &lookup,
        owns: &owns,
    }
}

fn words(line: &str) -> Vec<std::ffi::OsString> {
    // As a shell takes them: what is between single quotes is one word.
    let mut words: Vec<String> = vec![String::new()];
    let mut quoted = false;
    for letter in line.chars() {
        match letter {
            '\'' => quoted = !quoted,
            ' ' if !quoted => words.push(String::new()),
            letter => words.last_mut().unwrap().push(letter),
        }
    }
    words.into_iter().filter(|word| !word.is_empty()).map(Into::into).collect()
}

fn typed(arguments: &str) -> Typed {
    match crate::cli::parse(words(&format!("c10k load {arguments}"))) {
        Ok(Asked::Load(typed)) => *typed,
        other => panic!("{arguments}: {other:?}"),
    }
}

fn with(arguments: &str, facts: &Facts<'_>) -> Result<Checked, Refused> {
    check(&typed(arguments), facts)
}

fn run(arguments: &str) -> Checked {
    with(arguments, &facts()).unwrap_or_else(|refused| panic!("{arguments}: {refused:?}"))
}

fn plan(arguments: &str) -> Plan {
    run(arguments).plan
}

#[test]
fn nothing_typed_but_the_workload_is_the_design() {
    let plan = plan("pingpong");
    assert_eq!(plan.target, "127.0.0.1:8888".parse().unwrap());
    assert_eq!((plan.connections, plan.size, plan.depth), (100, 64..=64, 1));
    assert_eq!((plan.arrivals, plan.end), (Arrivals::Closed, End::After(Duration::from_secs(10))));
    assert_eq!((plan.warmup, plan.grace), (Duration::from_secs(2), Duration::from_secs(2)));
    assert_eq!((plan.threads, plan.cpus), (2, Vec::new()));
    assert_eq!((plan.engine, plan.direct, plan.sources), (Engine::Uring, false, Vec::new()));
    assert!(plan.verify);
    assert_eq!((plan.seed, plan.interval), (7, Duration::from_secs(1)));
    assert_eq!(plan.server_stats, StatsFrom::None);
}

#[test]
fn each_workload_has_defaults_of_its_own() {
    let stream = plan("stream");
    assert_eq!((stream.connections, stream.size), (16, 65_536..=65_536));
    let churn = run("churn -t 17 -s 1024");
    assert_eq!((churn.plan.connections, churn.plan.threads), (17, 17));
    assert_eq!(churn.plan.size, 1024..=1024);
    assert!(churn.outputs.interval_lines, "the live count of the original study's client");
    assert_eq!(plan("churn").connections, 17);
    assert_eq!(plan("churn -c 50 -t 2").connections, 50);
    let paced = plan("churn -R 5k --arrival uniform").arrivals;
    assert_eq!(paced, Arrivals::Open { rate: 5_000.0, spacing: Spacing::Uniform });
    let idle = plan("idle --every 30s");
    assert_eq!(idle.connections, 10_000);
    assert_eq!(idle.end, End::After(Duration::from_secs(30)));
    assert_eq!(idle.warmup, Duration::ZERO);
    match idle.arrivals {
        Arrivals::Open { rate, spacing: Spacing::Uniform } => assert!((rate - 10_000.0 / 30.0).abs() < 1e-9),
        other => panic!("{other:?}"),
    }
    assert_eq!(plan("pingpong -n 1m").end, End::Messages(1_000_000));
    assert_eq!(plan("pingpong -n 1m").warmup, Duration::ZERO);
    assert_eq!(
        plan("pingpong -R 200k").arrivals,
        Arrivals::Open { rate: 200_000.0, spacing: Spacing::Poisson }
    );
}

#[test]
fn every_wrong_value_gets_a_sentence_with_flag_value_and_remedy() {
    // What is typed, what the sentence begins with, and what it names.
    let table = [
        ("", "WORKLOAD", "pingpong, stream, churn or idle would do"),
        ("ping", "WORKLOAD", "\"ping\""),
        ("pingpong 8888", "HOST:PORT", "127.0.0.1:8888 would do"),
        ("pingpong :8888", "HOST:PORT", "127.0.0.1:8888 would do"),
        ("pingpong localhost", "HOST:PORT", "localhost:8888 would do"),
        ("pingpong 10.0.0.1", "HOST:PORT", "10.0.0.1:8888 would do"),
        ("pingpong ::1", "HOST:PORT", "[::1]:8888 would do"),
        ("pingpong 300.0.0.1:80", "HOST:PORT", "no IPv4 address"),
        ("pingpong 127.0.0.1:0", "HOST:PORT", "127.0.0.1:8888 would do"),
        ("pingpong 127.0.0.1:65536", "HOST:PORT", "1 to 65535"),
        ("pingpong 0.0.0.0:80", "HOST:PORT", "127.0.0.1:80 would do"),
        ("pingpong 224.0.0.1:80", "HOST:PORT", "would do"),
        ("pingpong wrong.example:80", "HOST:PORT", "not known here"),
        ("pingpong nowhere:80", "HOST:PORT", "without an address"),
        ("pingpong -c 0", "--connections", "1 to 268435455 would do"),
        ("pingpong -c ten", "--connections", "\"ten\""),
        ("pingpong -c 1.5k", "--connections", "500, 10k, 1m"),
        ("pingpong -s 0", "--size", "1 to 16Mi would do"),
        ("pingpong -s 64..", "--size", "\"\""),
        ("pingpong -s 4Ki..64", "--size", "64..4Ki would do"),
        ("pingpong -s 64K", "--size", "4Ki"),
        ("pingpong -P 0", "--depth", "1 to 4096 would do"),
        ("stream -P 2", "--depth", "pingpong would do"),
        ("pingpong -R 0", "--rate", "would do"),
        ("pingpong -R 99999999999999999999", "--rate", "is too large; 1 to"),
        ("idle -R 5", "--rate", "--every would do"),
        ("stream -R 5", "--rate", "pingpong or churn would do"),
        ("pingpong --arrival uniform", "--arrival", "--rate with it would do"),
        ("pingpong -R 5 --arrival normal", "--arrival", "poisson or uniform would do"),
        ("pingpong --every 1s", "--every", "--rate would do"),
        ("pingpong --find-rate p99<1ms -R 5", "--rate", "one would do"),
        ("pingpong --find-rate p99<1ms -n 5", "--messages", "would do"),
        ("stream --find-rate p99<1ms", "--find-rate", "pingpong would do"),
        ("pingpong --agent", "--agent", "without the rest would do"),
        ("-c 5 --agent 127.0.0.1:1", "--agent", "without the rest would do"),
        ("pingpong --fail-if p99", "--fail-if", "write it like p99<1ms"),
        ("pingpong --fail-if p99<1", "--fail-if", "written like"),
        ("pingpong --find-rate p0<1ms", "--find-rate", "would do"),
        ("pingpong --find-rate p99<1ms --hlog x", "--hlog", "--hdr"),
        ("pingpong -d 1ms", "--duration", "10ms to"),
        ("pingpong -d 5", "--duration", "written like"),
        ("pingpong -d 5s -n 5", "--duration", "one would do"),
        ("stream -n 5", "--messages", "--duration would do"),
        ("pingpong -n 0", "--messages", "would do"),
        ("pingpong -w 2h", "--warmup", "0 to 1h would do"),
        ("pingpong --grace x", "--grace", "written like"),
        ("pingpong -t 0", "--threads", "1 to 1024 would do"),
        ("pingpong -t 101", "--threads", "1 to 100 would do"),
        ("pingpong --cpus 2", "--cpus", "0-1 would do"),
        ("pingpong --engine fast", "--engine", "auto, uring or epoll would do"),
        ("pingpong --direct maybe", "--direct", "auto, on or off would do"),
        ("pingpong --engine epoll --direct on", "--direct", "--engine uring"),
        ("pingpong --engine epoll -c 20k", "--connections", "--engine uring"),
        ("pingpong --direct off -c 20k", "--connections", "--direct auto"),
        ("idle -c 100k -t 5", "--threads", "6 would do"),
        ("pingpong --source x", "--source", "written like"),
        ("pingpong --source 127.0.0.0/33", "--source", "0 to 32"),
        ("pingpong --source 127.0.0.9-127.0.0.1", "--source", "upwards"),
        ("pingpong --source ::1", "--source", "IPv4 addresses would do"),
        ("pingpong --source 10.1.0.1", "--source", "no address of this host"),
        ("pingpong --source ::-ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "--source", "fewer would do"),
        ("pingpong --connect-rate 0", "--connect-rate", "would do"),
        ("pingpong --connect-timeout 1us", "--connect-timeout", "10ms to"),
        ("pingpong --seed -1", "--seed", "\"-1\""),
        ("pingpong --server-stats 0", "--server-stats", "would do"),
        ("pingpong --server-stats host:1", "--server-stats", "would do"),
        ("pingpong -i 1ms", "--interval", "10ms to"),
        ("pingpong --format xml", "--format", "text, json, ndjson or csv would do"),
        ("pingpong --percentiles 50,100", "--percentiles", "50,99,99.9"),
        ("pingpong --percentiles 0", "--percentiles", "50,99,99.9"),
        ("pingpong --percentiles -1", "--percentiles", "50,99,99.9"),
        ("pingpong --percentiles 1e1", "--percentiles", "50,99,99.9"),
        ("pingpong --percentiles nan", "--percentiles", "50,99,99.9"),
    ];
    for (arguments, begin, named) in table {
        let refused = with(arguments, &facts()).expect_err(arguments);
        assert!(!refused.unavailable, "{arguments}");
        let found = refused.problems.iter().find(|text| text.starts_with(&format!("{begin}: ")));
        let text = found.unwrap_or_else(|| panic!("{arguments}: {:?}", refused.problems));
        assert!(text.contains(named), "{arguments}: {text}");
        let remedy = ["would do", "written like", "write it like"];
        assert!(remedy.iter().any(|remedy| text.contains(remedy)), "{arguments}: {text}");
        assert_eq!(refused.problems.len(), 1, "{arguments}: {:?}", refused.problems);
    }
}

#[test]
fn every_problem_is_reported_not_the_first() {
    let refused = with(
        "pong nowhere:1 -c 0 -s 0 -P 0 -d 1 -w x -t 0 --cpus 7 --engine x --source y --format z --percentiles 0",
        &facts(),
    )
    .unwrap_err();
    assert_eq!(refused.problems.len(), 13, "{:#?}", refused.problems);
}

#[test]
fn a_name_is_an_address() {
    assert_eq!(plan("pingpong localhost:80").target, "127.0.0.1:80".parse().unwrap());
    assert_eq!(plan("pingpong [::1]:80").target, "[::1]:80".parse().unwrap());
    assert_eq!(plan("pingpong [::ffff:127.0.0.1]:80").target, "127.0.0.1:80".parse().unwrap());
}

#[test]
fn many_connections_on_loopback_come_from_many_addresses() {
    assert_eq!(plan("pingpong -c 9000").sources, Vec::<IpAddr>::new());
    let sources = plan("pingpong -c 19k").sources;
    assert_eq!(sources, [1, 2, 3].map(|last| IpAddr::from([127, 0, 0, last])));
    let churn = plan("churn").sources;
    assert_eq!(churn.len(), 8);
    let million = plan("idle -c 1m").sources;
    assert_eq!(million.len(), 112);
    assert_eq!(million.iter().collect::<BTreeSet<_>>().len(), 112);
    // A typed list is taken as it is, each address once.
    let typed = plan("pingpong --source 127.0.0.5,127.0.0.8/30,127.0.0.5-127.0.0.6").sources;
    assert_eq!(typed, [5, 9, 10, 6].map(|last| IpAddr::from([127, 0, 0, last])));
}

#[test]
fn too_few_ports_are_told_with_the_arithmetic() {
    for (arguments, named) in [
        ("idle 10.0.0.1:8888 -c 1m", "need 36; --source with 36 addresses of this host"),
        ("idle [::1]:8888 -c 30k", "need 2; 127.0.0.1:8888 as the target"),
        ("idle -c 30k --source any", "--source auto"),
        ("idle -c 60k --source 127.0.0.1-127.0.0.2", "from 2 source addresses"),
    ] {
        let refused = with(arguments, &facts()).unwrap_err();
        let text = &refused.problems[0];
        assert!(text.contains("28232 ports") && text.contains("32768 60999"), "{text}");
        assert!(text.contains(named), "{text}");
        assert_eq!(refused.problems.len(), 1, "{:?}", refused.problems);
    }
    let nine = "idle 10.0.0.1:8888 -c 100k --source 10.0.0.1-10.0.0.9";
    assert_eq!(plan(nine).sources, (1..=9).map(V4).collect::<Vec<_>>());
}

#[test]
fn more_connections_than_descriptors_are_slots_of_enough_rings() {
    let checked = run("idle -c 100k");
    assert!(checked.plan.direct);
    assert_eq!(checked.plan.threads, 6);
    assert!(checked.notes[0].contains("6 rings"), "{:?}", checked.notes);
    assert!(!plan("idle -c 19k").direct);
    assert_eq!((plan("idle -c 19990").direct, plan("idle -c 19990").threads), (true, 2));
    assert_eq!(plan("idle -c 100k -t 9").threads, 9);
    assert!(plan("pingpong --direct on").direct);
    let unlimited = Facts { descriptors: None, ..facts() };
    assert!(!with("idle -c 100k", &unlimited).unwrap().plan.direct);
    // Every share of the connections fits into its ring's table.
    let shares = (0..6).map(|thread| crate::load::plan::share(100_000, 6, thread).len());
    assert!(shares.max().unwrap() <= 20_000 - 64);
    let tiny = Facts { descriptors: Some(64), ..facts() };
    assert!(with("pingpong", &tiny).unwrap_err().problems[0].contains("raise it"));
}

#[test]
fn the_engine_is_uring_where_it_can_run() {
    let barred = Facts { uring_unavailable: Some("a seccomp filter forbids it.".into()), ..facts() };
    let checked = with("pingpong", &barred).unwrap();
    assert_eq!(checked.plan.engine, Engine::Epoll);
    assert!(checked.notes[0].contains("a seccomp filter forbids it."), "{:?}", checked.notes);
    let refused = with("pingpong --engine uring", &barred).unwrap_err();
    assert!(refused.unavailable && refused.problems[0].contains("seccomp"), "{refused:?}");
    // With a mistake of one's own besides, it is that first.
    assert!(!with("pingpong --engine uring -c 0", &barred).unwrap_err().unavailable);
}

#[test]
fn threads_follow_cpus_and_connections() {
    assert_eq!(plan("pingpong --cpus 1").threads, 1);
    assert_eq!(plan("pingpong -c 1").threads, 1);
    assert_eq!(plan("pingpong -t 8").threads, 8);
}

#[test]
fn what_does_not_fit_into_memory_is_refused() {
    let small = Facts { memory: Some(1 << 30), ..facts() };
    let refused = with("idle -c 10m", &small).unwrap_err();
    assert!(refused.problems.iter().any(|text| text.contains("1 GiB of memory")), "{refused:?}");
}

#[test]
fn the_command_that_repeats_a_load_is_the_same_load() {
    for arguments in [
        "pingpong",
        "pingpong [::1]:80 -c 5 -s 64..4Ki -P 8 -R 200k --arrival uniform -d 1500ms -w 0 --grace 0",
        "pingpong -n 1m --cpus 1,0 -t 3 --engine epoll --no-verify --seed 18446744073709551615",
        "pingpong --find-rate 'p99<1ms' --strict",
        "pingpong --fail-if 'p99>1ms' --fail-if 'max>1s' --server-stats auto --connect-rate 5k",
        "stream -i 500ms --server-stats 10.0.0.2:8889 --percentiles 50,75,99.9",
        "churn -t 17 -s 1024 --server-stats 4711 --connect-timeout 1s",
        "churn -q",
        "churn -R 500 -n 1000",
        "idle -c 100k --every 7s --source 127.0.0.1-127.0.0.12",
        "idle -c 3 --every 10s --direct on -o 'a b.json' --format json --hdr h --hlog l",
    ] {
        let first = run(arguments);
        let command = &first.command;
        let again = command.strip_prefix("c10k load ").unwrap();
        // A new seed each time: what is not repeated would differ.
        let second = with(again, &Facts { seed: 8, cpus: vec![0, 1, 2], ..facts() }).expect(command);
        assert_eq!(second.plan, first.plan, "{command}");
        assert_eq!(second.outputs, first.outputs, "{command}");
        assert_eq!((&second.fail_if, &second.find_rate), (&first.fail_if, &first.find_rate));
        assert_eq!((&second.command, second.strict), (command, first.strict));
    }
    assert!(run("pingpong --fail-if 'p99>1ms'").command.contains("--fail-if 'p99>1ms'"));
    assert_eq!(super::repeat::quoted("it's"), r"'it'\''s'");
}

#[test]
fn no_command_line_makes_the_check_panic() {
    let mut random = fastrand::Rng::with_seed(crate::seeds::one(5));
    let flags: Vec<&str> = "-c -s -P -R -d -n -w -t -i -o --arrival --find-rate --engine --cpus --source --connect-rate \
        --connect-timeout --grace --every --server-stats --strict --fail-if --format --hdr --hlog --seed --no-verify \
        --direct --percentiles -q pingpong stream churn idle"
        .split_whitespace()
        .collect();
    let values: Vec<&str> = "pingpong idle 0 1 -1 2 17 18446744073709551615 10k 268m 4Ki 16Mi 64..4Ki .. 1..1 5s 0s 10ms \
        99999h 127.0.0.1:1 [::1]:2 localhost:3 0.0.0.0:0 :: 0,1 1-0 auto any off on uring epoll uniform poisson \
        127.0.0.0/8 0.0.0.0/0 ::/0 ::1 ::-ffff::ffff 127.0.0.1-127.0.0.9 p99<1ms json csv 50,99 100 é % \u{7f}"
        .split_whitespace()
        .collect();
    let facts = [
        facts(),
        Facts { descriptors: Some(0), ports: Some((9, 3)), memory: Some(0), ..facts() },
        Facts { cpus: Vec::new(), descriptors: None, ports: None, memory: None, ..facts() },
    ];
    let mut accepted = 0;
    for round in 0..10_000 {
        let mut line: Vec<std::ffi::OsString> = vec!["c10k".into(), "load".into()];
        for _ in 0..random.usize(..7) {
            let list = if random.bool() { &flags } else { &values };
            line.push((*random.choice(list).unwrap()).into());
        }
        if let Ok(Asked::Load(typed)) = crate::cli::parse(line) {
            accepted += usize::from(check(&typed, &facts[round % facts.len()]).is_ok());
        }
    }
    // Else nothing ever comes past the first check, and the test would say nothing.
    assert!(accepted > 50, "{accepted}");
}
