//! What is typed wrong gets a sentence with flag, value and remedy; what is typed right runs; nothing
//! that can be typed panics.

use super::Asked;
use crate::config::{Backend, Checked, Config, Facts, Format, Typed, resolve};
use crate::features::{Answers, Capability, Kind, Problem, Taskrun, Threads, Trigger};
use std::time::Duration;

/// A host with two CPUs, 20,000 descriptors, 4 GiB, no limit of locked memory, and every feature.
fn facts() -> Facts {
    Facts {
        cpus: vec![0, 1],
        descriptors: Some(20_000),
        memory: Some(4 << 30),
        locked_memory: None,
        page: 4096,
        backlog_max: Some(4096),
        congestion_controls: Some(vec!["cubic".into(), "reno".into()]),
        answers: Answers { release: "6.18.0".into(), ..Answers::default() },
    }
}

fn typed(arguments: &str) -> Typed {
    let words = std::iter::once("c10k").chain(arguments.split_whitespace());
    match super::parse(words.map(Into::into)) {
        Ok(Asked::Serve(typed)) => *typed,
        other => panic!("{arguments}: {other:?}"),
    }
}

fn with(arguments: &str, facts: &Facts) -> Result<Checked, Vec<Problem>> {
    resolve(&typed(arguments), facts)
}

fn run(arguments: &str) -> Config {
    with(arguments, &facts()).expect(arguments).config
}

#[test]
fn every_wrong_value_gets_a_sentence_with_flag_value_and_remedy() {
    // What is typed, the flag the sentence begins with, and what it names.
    let table = [
        ("--backend fast", "--backend", "\"fast\""),
        ("--backend URING", "--backend", "auto, uring or epoll"),
        ("--listen localhost:8888", "--listen", "\"localhost:8888\" names a host"),
        ("--listen 127.0.0.1", "--listen", "127.0.0.1:8888 would do"),
        ("--listen ::1", "--listen", "[::1]:8888 would do"),
        ("--listen [::1]", "--listen", "[::1]:8888 would do"),
        ("--listen ::1:8888", "--listen", "needs brackets; [::1]:8888 would do"),
        ("--listen ::1:80x", "--listen", "would do"),
        ("--listen fe80::1%eth0:80", "--listen", "would do"),
        ("--listen 127.0.0.1:65536", "--listen", "0 to 65535"),
        ("--listen 127.0.0.1:-1", "--listen", "0 to 65535"),
        ("--listen 127.0.0.1:", "--listen", "0 to 65535"),
        ("--listen 300.0.0.1:80", "--listen", "no IPv4 address"),
        ("--listen :80", "--listen", "has no address"),
        ("--listen 80", "--listen", "ADDR:PORT"),
        ("--listen 224.0.0.1:80", "--listen", "multicast"),
        ("--listen 127.0.0.1:80 --listen 127.0.0.1:80", "--listen", "given twice"),
        ("--listen 127.0.0.1:80 --listen 0.0.0.0:80", "--listen", "overlap"),
        ("--workers 0", "--workers", "1 to 1024"),
        ("--workers -1", "--workers", "\"-1\""),
        ("--workers 1.5", "--workers", "\"1.5\""),
        ("--workers 1025", "--workers", "1 to 1024"),
        ("--workers 99999999999999999999", "--workers", "is too large; 1 to 1024 would do"),
        ("--cpus 2", "--cpus", "0-1 would do"),
        ("--cpus 0,0", "--cpus", "named twice"),
        ("--cpus 1-0", "--cpus", "0-1 would do"),
        ("--cpus 0,", "--cpus", "written like 0,2-3"),
        ("--cpus x", "--cpus", "\"x\""),
        ("--cpus 0-99999999999999999999", "--cpus", "0 to 1023"),
        ("--cpus 0-5000", "--cpus", "0 to 1023"),
        ("--max-connections 0", "--max-connections", "1 to 16777200"),
        ("--max-connections 17m", "--max-connections", "1 to 16777200"),
        ("--max-connections 20k", "--max-connections", "19936 or less would do"),
        ("--idle-timeout 5", "--idle-timeout", "written like"),
        ("--idle-timeout 10us", "--idle-timeout", "1ms to"),
        ("--write-timeout 9999h", "--write-timeout", "or off"),
        ("--drain-timeout off", "--drain-timeout", "\"off\""),
        ("--backlog 0", "--backlog", "1 to"),
        ("--backlog 3000000000", "--backlog", "1 to"),
        ("--unsent-limit 0", "--unsent-limit", "1 to 1Gi"),
        ("--unsent-limit 64K", "--unsent-limit", "\"64K\""),
        ("--spill-limit 8Gi", "--spill-limit", "8Gi is more than"),
        ("--recv-buffer 1Ki", "--recv-buffer", "2304 to 1Gi"),
        ("--keepalive 500ms", "--keepalive", "1s to 9h"),
        ("--keepalive 1500ms", "--keepalive", "1s or 2s would do"),
        ("--user-timeout 1us", "--user-timeout", "1ms to 35m"),
        ("--congestion warp", "--congestion", "cubic or reno would do"),
        ("--congestion ../../../../../etc", "--congestion", "no name"),
        ("--stats-every 1ms", "--stats-every", "10ms to"),
        ("--format xml", "--format", "text or json would do"),
        ("--uring recv=some", "--uring", "recv=some"),
        ("--epoll trigger=never", "--epoll", "trigger=never"),
        ("--backend epoll --uring recv=single", "--uring", "--backend uring would do"),
        ("--backend uring --epoll read=once", "--epoll", "--backend epoll would do"),
        ("--uring recv=single --epoll read=once", "--uring", "would do"),
        ("--uring sq=8,cq=4", "--uring", "cq=8 would do"),
        ("--uring sq=8 --uring cq=4", "--uring", "cq=8 would do"),
        ("--uring buffer-count=32768,buffer-size=16Mi", "--uring", "512 GiB"),
        ("--epoll buffer-size=16Mi --workers 1024", "--epoll", "fewer --workers would do"),
    ];
    for (arguments, flag, named) in table {
        let problems = with(arguments, &facts()).expect_err(arguments);
        assert_eq!(problems.len(), 1, "{arguments}: {problems:?}");
        let Problem { kind, text } = &problems[0];
        assert_eq!(*kind, Kind::Usage, "{arguments}");
        assert!(text.starts_with(&format!("{flag}: ")), "{arguments}: {text}");
        assert!(text.contains(named), "{arguments}: {text}");
        let remedy = ["would do", "written like", "raise it", "too large", "did you mean"];
        assert!(remedy.iter().any(|remedy| text.contains(remedy)), "{arguments}: {text}");
    }
}

/// The sentence for this command line, which cannot be read.
fn told(arguments: &str) -> String {
    let words = std::iter::once("c10k").chain(arguments.split(' '));
    let answer = super::parse(words.map(Into::into)).expect_err(arguments);
    assert_eq!(answer.exit_code(), 2, "{arguments}");
    super::sentence(&answer).expect(arguments)
}

#[test]
fn what_cannot_be_read_is_named_with_what_would_do() {
    let lists = "; --help lists what there is";
    for (arguments, sentence) in [
        ("--port=80", "--port: there is no such option; --listen 127.0.0.1:PORT would do"),
        ("--lisen", "--lisen: there is no such option; did you mean --listen?"),
        ("--xyzzy", "--xyzzy: there is no such option"),
        ("-vx", "-x: there is no such option"),
        ("srve", "srve: there is no such verb; did you mean serve?"),
        ("frobnicate", "frobnicate: there is no such verb"),
        ("help", "help: there is no such verb; --help would do"),
        ("9999", "9999: there is no such verb; --listen 127.0.0.1:9999 would do"),
        ("--workers 2 extra", "extra: there is no such verb"),
        ("serve [::1]:80", "[::1]:80: no word is expected here; --listen [::1]:80 would do"),
        ("--workers", "--workers: its value is missing; a count like 100 or 10k would do"),
        ("--backend --workers 2", "--backend: its value is missing; auto, uring or epoll would do"),
        ("--quiet=yes", "--quiet: \"yes\" is one value too many, it takes none; --quiet alone would do"),
        ("--backend epoll --backend uring", "--backend: it is given more than once; once would do"),
        ("-q -q", "--quiet: it is given more than once; once would do"),
        ("-v -q", "--verbose: it excludes --quiet; one of them would do"),
        ("--backend epoll serve", "--backend: it stands before the verb; c10k serve --backend would do"),
    ] {
        assert_eq!(told(arguments), format!("{sentence}{lists}"), "{arguments}");
    }
    for text in ["--help", "-h", "--version", "serve --help"] {
        let words = std::iter::once("c10k").chain(text.split(' '));
        assert_eq!(super::sentence(&super::parse(words.map(Into::into)).unwrap_err()), None, "{text}");
    }
}

#[test]
fn an_argument_that_is_no_text_is_named() {
    use std::os::unix::ffi::OsStringExt;
    let argument = std::ffi::OsString::from_vec(b"--listen=\xff".to_vec());
    let answer = super::parse(["c10k".into(), "-v".into(), argument]).unwrap_err();
    let sentence = super::sentence(&answer).unwrap();
    assert!(sentence.starts_with("--listen=\u{fffd}: it is not UTF-8; plain ASCII would do"), "{sentence}");
}

#[test]
fn every_option_without_its_value_says_what_would_do() {
    let command = <super::Command as clap::CommandFactory>::command();
    let load = command.find_subcommand("load").unwrap();
    let takes_value = |option: &&clap::Arg| {
        let one_or_none = option.get_num_args().is_some_and(|count| count.min_values() == 0);
        option.get_action().takes_values() && !option.is_positional() && !one_or_none
    };
    for (verb, command) in [("", &command), ("load ", load)] {
        let options: Vec<_> = command.get_arguments().filter(takes_value).collect();
        assert!(options.len() > 15, "{options:?}");
        for option in options {
            let sentence = told(&format!("{verb}--{}", option.get_long().unwrap()));
            assert!(sentence.contains(": its value is missing; "), "{sentence}");
            assert!(!sentence.contains("one after it would do"), "no example: {sentence}");
        }
    }
}

#[test]
fn what_cannot_follow_load_is_told_in_the_words_of_load() {
    for (arguments, begin) in [
        (
            "load pingpong --port 80",
            "--port: there is no such option; 127.0.0.1:PORT as the second word would do",
        ),
        ("load pingpong a:1 b:2", "b:2: one word too many; WORKLOAD and HOST:PORT would do"),
        (
            "load pingpong --connection 5",
            "--connection: there is no such option; did you mean --connections?",
        ),
        ("load -c 5 -c 6", "--connections: it is given more than once; once would do"),
    ] {
        let sentence = told(arguments);
        assert!(sentence.starts_with(begin), "{sentence}");
    }
}

#[test]
fn the_help_of_load_has_examples_headings_and_exit_codes() {
    let help = super::parse(["c10k", "load", "--help"].map(Into::into)).unwrap_err().to_string();
    for part in
        ["Examples:\n", "How fast, how long:", "Judging:", "Exit codes:", "c10k load churn -t 17 -s 1024"]
    {
        assert!(help.contains(part), "{part} is not in\n{help}");
    }
    assert!(help.find("Examples:") < help.find("Usage:"), "{help}");
}

#[test]
fn every_problem_is_reported_not_the_first() {
    let problems =
        with("--workers 0 --backlog 0 --listen x --uring recv=x,sq=3 --format y --cpus 9", &facts())
            .unwrap_err();
    assert_eq!(problems.len(), 7, "{problems:#?}");
}

#[test]
fn nothing_typed_is_the_design() {
    let config = run("");
    assert_eq!(config.backend, Backend::Uring);
    assert_eq!(config.listen, ["127.0.0.1:8888".parse().unwrap()]);
    assert_eq!((config.workers, config.cpus.as_slice()), (2, [].as_slice()));
    assert_eq!(config.max_connections, 19_936);
    assert_eq!(config.idle_timeout, None);
    assert_eq!(config.write_timeout, Some(Duration::from_secs(60)));
    assert_eq!(config.drain_timeout, Duration::from_secs(10));
    assert_eq!(config.backlog, 65_535);
    assert_eq!((config.keepalive, config.user_timeout, config.stats_every), (None, None, None));
    assert_eq!((config.recv_buffer, config.congestion), (None, None));
    assert_eq!((config.format, config.verbosity), (Format::Text, 0));
    assert_eq!((config.epoll.trigger, config.epoll.threads), (Trigger::Level, Threads::PerCore));
}

#[test]
fn what_is_typed_right_runs() {
    let config = run(
        "serve --backend uring --listen [::1]:0 --listen 127.0.0.1:0 --listen 127.0.0.1:0 --workers 3 --cpus 0-1 \
         --max-connections 10k --idle-timeout 5m --write-timeout off --drain-timeout 0 --backlog 128 \
         --unsent-limit 16Ki --spill-limit 0 --recv-buffer 64Ki --keepalive 30s --user-timeout 10s \
         --congestion reno --stats-every 1s --format json --uring taskrun=coop --uring sq=4,cq=4 -vv",
    );
    assert_eq!(config.listen.len(), 3);
    assert_eq!((config.workers, config.cpus), (3, vec![0, 1]));
    assert_eq!(config.max_connections, 10_000);
    assert_eq!(config.idle_timeout, Some(Duration::from_secs(300)));
    assert_eq!((config.write_timeout, config.drain_timeout), (None, Duration::ZERO));
    assert_eq!((config.unsent_limit, config.spill_limit, config.recv_buffer), (16_384, 0, Some(65_536)));
    assert_eq!(config.congestion.as_deref(), Some("reno"));
    assert_eq!((config.uring.taskrun, config.uring.sq, config.uring.cq), (Taskrun::Coop, 4, 4));
    assert!(config.uring.sizes_typed);
    assert_eq!((config.format, config.verbosity), (Format::Json, 2));
    assert_eq!(run("-q").verbosity, -1);
}

#[test]
fn workers_follow_the_cpus_that_were_named() {
    assert_eq!(run("--cpus 1").workers, 1);
    assert_eq!(run("--cpus 0-1 --workers 5").workers, 5);
}

#[test]
fn auto_takes_epoll_only_where_uring_cannot_run_and_says_why() {
    let barred = Answers { barred: Some("a seccomp filter forbids it.".into()), ..Answers::default() };
    let barred = Facts { answers: barred, ..facts() };
    let checked = with("", &barred).unwrap();
    assert_eq!(checked.config.backend, Backend::Epoll);
    assert!(checked.notes.iter().any(|note| note.contains("a seccomp filter forbids it.")));
    // With a feature of it typed, or by name, it is refused instead.
    for arguments in ["--uring recv=single", "--backend uring", "--backend auto --uring files=direct"] {
        let problems = with(arguments, &barred).unwrap_err();
        assert_eq!(problems[0].kind, Kind::Unavailable, "{arguments}");
        assert!(problems[0].text.contains("a seccomp filter forbids it."), "{}", problems[0].text);
    }
    assert_eq!(with("--epoll trigger=edge", &facts()).unwrap().config.backend, Backend::Epoll);
    let notes = |arguments| with(arguments, &facts()).unwrap().notes;
    assert_eq!(notes(""), ["--backend auto took uring: this kernel allows it"]);
    assert!(notes("--backend uring").is_empty());
}

#[test]
fn what_is_missing_here_and_what_is_wrong_are_told_together() {
    let answers = Answers {
        release: "6.0.9".into(),
        barred: None,
        refused: vec![(Capability::DeferTaskrun, "EINVAL".into())],
    };
    let old = Facts { answers, ..facts() };
    let problems = with("--uring taskrun=defer --workers 0", &old).unwrap_err();
    let kinds: Vec<Kind> = problems.iter().map(|problem| problem.kind).collect();
    assert!(kinds.contains(&Kind::Usage) && kinds.contains(&Kind::Unavailable), "{problems:?}");
    let checked = with("", &old).unwrap();
    assert!(checked.in_force.contains(&("taskrun", "coop".to_string())));
    assert!(checked.notes.iter().any(|note| note.contains("Linux 6.1")), "{:?}", checked.notes);
}

#[test]
fn a_low_descriptor_limit_lowers_the_default_and_is_said() {
    let low = Facts { descriptors: Some(1024), ..facts() };
    let checked = with("", &low).unwrap();
    assert_eq!(checked.config.max_connections, 960);
    let said = |note: &String| note.contains("the hard limit is 1024 descriptors");
    assert!(checked.notes.iter().any(said), "{:?}", checked.notes);
    assert_eq!(with("--workers 100", &low).unwrap().config.max_connections, 1024 - 16 - 300);
    let none = Facts { descriptors: Some(64), ..facts() };
    assert!(with("", &none).unwrap_err()[0].text.contains("raise it"));
    let unknown = Facts { descriptors: None, ..facts() };
    assert_eq!(with("", &unknown).unwrap().config.max_connections, 65_536);
}

#[test]
fn direct_descriptors_are_bounded_for_each_worker_by_itself() {
    let most = |text: &str| with(text, &facts()).map(|checked| checked.config.max_connections);
    let direct = "--backend uring --workers 6 --uring files=direct --max-connections";
    assert_eq!(most(&format!("{direct} 100k")).unwrap(), 100_000);
    let problems = most(&format!("{direct} 120k")).unwrap_err();
    assert!(
        problems[0].text.contains("119616 or less") && problems[0].text.contains("--workers"),
        "{problems:?}"
    );
    let problems = most("--backend uring --workers 6 --max-connections 100k").unwrap_err();
    assert!(problems[0].text.contains("files=direct"), "{problems:?}");
}

#[test]
fn untyped_queues_shrink_until_they_fit_into_locked_memory() {
    let locked = |bytes| Facts { locked_memory: Some(bytes), ..facts() };
    for limit in [8 << 20, 1 << 20, 256 << 10, 64 << 10, 48 << 10] {
        let checked = with("--workers 2", &locked(limit)).unwrap();
        let features = &checked.config.uring;
        assert!(features.locked_bytes(4096) * 2 <= limit, "{limit}: {features:?}");
        assert!(features.cq >= features.sq && features.cq.is_power_of_two(), "{features:?}");
        let shrunk = features.cq < run("--workers 2").uring.cq;
        assert_eq!(
            shrunk,
            checked.notes.iter().any(|note| note.contains("ulimit -l")),
            "{:?}",
            checked.notes
        );
        assert!(checked.in_force.contains(&("cq", features.cq.to_string())));
    }
    let refused = with("--backend uring --workers 16", &locked(64 << 10)).unwrap_err();
    assert!(refused[0].text.contains("fewer --workers"), "{}", refused[0].text);
    let checked = with("--workers 16", &locked(64 << 10)).unwrap();
    assert_eq!(checked.config.backend, Backend::Epoll);
    assert!(checked.notes[0].contains("auto took epoll, because uring does not fit"), "{:?}", checked.notes);
    assert!(checked.in_force.iter().any(|(name, _)| *name == "trigger"));
}

#[test]
fn a_typed_queue_does_not_shrink() {
    let small = Facts { locked_memory: Some(256 << 10), ..facts() };
    let refused = with("--uring cq=65536", &small).unwrap_err();
    for told in ["cq=65536", "256 KiB", "would do"] {
        assert!(refused[0].text.contains(told), "{}", refused[0].text);
    }
    // The other one, which was not typed, may.
    assert_eq!(with("--uring sq=512 --workers 1", &small).unwrap().config.uring.sq, 512);
}

#[test]
fn no_command_line_makes_the_parser_panic() {
    let mut random = fastrand::Rng::with_seed(crate::seeds::one(3));
    let flags: Vec<&str> = "--backend --listen --workers --cpus --max-connections --idle-timeout --write-timeout \
        --drain-timeout --backlog --unsent-limit --spill-limit --recv-buffer --keepalive --user-timeout --congestion \
        --stats-every --format --uring --epoll -v -q serve --nothing --"
        .split_whitespace()
        .collect();
    let values: Vec<&str> = "uring epoll auto 0 1 -1 2 3 18446744073709551615 18446744073709551616 10k 1m 4Ki 16Mi 5s 0s \
        off 99999h 127.0.0.1:0 [::1]:0 0.0.0.0:0 localhost:1 :: 0,1 0-1 1-0 , = == recv=single recv= =single sq=4,cq=4 \
        sq=32768 cq=1 buffer-count=32768 buffer-size=16Mi taskrun=coop wait=min:1:1us wait=min:: trigger=edge \
        threads=shared json text cubic é % \u{7f}"
        .split_whitespace()
        .collect();
    let facts = [
        facts(),
        Facts { descriptors: Some(0), locked_memory: Some(0), memory: Some(0), cpus: vec![5], ..facts() },
        Facts { page: 4096, cpus: vec![0], ..Facts::default() },
    ];
    let mut accepted = 0;
    for round in 0..100_000 {
        let words = (0..random.usize(..8)).map(|_| random_word(&mut random, &flags, &values));
        let words: Vec<_> = std::iter::once("c10k".into()).chain(words).collect();
        if let Ok(Asked::Serve(typed)) = super::parse(words) {
            accepted += usize::from(resolve(&typed, &facts[round % facts.len()]).is_ok());
        }
    }
    // Else the strings never come past the first check, and the test would say nothing.
    assert!(accepted > 1000, "{accepted}");
}

fn random_word(random: &mut fastrand::Rng, flags: &[&str], values: &[&str]) -> std::ffi::OsString {
    use std::os::unix::ffi::OsStringExt;
    match random.u32(..10) {
        0..5 => (*random.choice(flags).unwrap()).into(),
        5..9 => (*random.choice(values).unwrap()).into(),
        _ => {
            let bytes = (0..random.usize(..9)).map(|_| random.u8(1..)).collect();
            std::ffi::OsString::from_vec(bytes)
        }
    }
}
