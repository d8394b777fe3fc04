//! What is printed: the table, the forms for programs and their schema, and what becomes of outputs that
//! cannot be written.

use super::*;
use crate::load::for_tests::{self, Shared};
use crate::load::outcome::Outcome;
use crate::load::verdict;
use crate::result::load as result;

fn result_of(checked: &Checked, outcome: &Outcome) -> LoadResult {
    let judged = verdict::judge(checked, outcome, None);
    let environment = result::Environment {
        kernel: Some("6.18.0".into()),
        cpus: vec![0, 1],
        local_ports: Some((32_768, 60_999)),
        load_average: Some([0.5, 0.25, 0.125]),
        loopback: true,
        ..result::Environment::default()
    };
    summary::result(checked, outcome, environment, judged)
}

/// Everything that is printed of a run, intervals first.
fn printed(arguments: &str, outcome: impl FnOnce(&Checked) -> Outcome) -> String {
    let checked = for_tests::checked(arguments);
    let outcome = outcome(&checked);
    let shared = Shared::default();
    let mut files = Files::to(Box::new(shared.clone()));
    let mut printer = Printer::new(&checked, &mut files);
    printer.ramping(1, 0);
    printer.passing(None, 100);
    for (number, row) in outcome.rows.iter().enumerate() {
        printer.interval(row, &for_tests::interval(number as u64, false));
    }
    printer.snapshot(Duration::from_secs(2), &outcome.total);
    let result = result_of(&checked, &outcome);
    printer.finish(&result, verdict::main_latency(&outcome)).unwrap();
    let text = shared.0.lock().unwrap().clone();
    String::from_utf8(text).unwrap()
}

/// The words of the line that begins with this one.
fn line<'a>(text: &'a str, begin: &str) -> &'a str {
    let found = text.lines().find(|line| line.trim_start().starts_with(begin));
    found.unwrap_or_else(|| panic!("no {begin} in\n{text}"))
}

#[test]
fn the_table_says_what_was_measured() {
    let text = printed("pingpong -c 100 -R 10k -d 4s", for_tests::outcome);
    assert!(text.starts_with("c10k "), "{text}");
    for (begin, named) in [
        ("CONNECT", "100 in 410 ms   244/s"),
        ("response (from the schedule)", "5.10 ms  9.10 ms  10.0 ms  10.1 ms       -  10.1 ms"),
        ("service (from the send)", "5.00 ms"),
        ("lag", "40,000"),
        ("RATE", "target 10.0 k msg/s   achieved 10.0 k msg/s (100.0 %)   worst interval 10.0 k"),
        ("RATE", "640 kB/s out  640 kB/s in"),
        ("so far 2.00 s", "40,000 messages, 20.0 k msg/s, p50 5.10 ms"),
        ("COST", "server 37.5 us   client 40.0 us   machine 180 us"),
        ("system calls per message", "server 0.11   client 0.20"),
        (
            "SERVER",
            "process 4711   0.38 CPUs   2 threads   12 switches (2 taken away)   5.24 MB resident   overflows 3",
        ),
        ("the server was looked at late", ""),
        ("SHAPE", "how many took how long: response (from the schedule)"),
        ("ENGINE", "uring: cqe-skip=on files=normal"),
        ("SPREAD", "least 390   mean 400   most 410   Jain 1.000   silent 0"),
        ("ERRORS", "none; 2.56 MB verified, none wrong"),
        ("HEALTH", "VALID   client 40.0 % busy   steal 0.4 %"),
        ("repeat", "c10k load pingpong 127.0.0.1:8888 -c 100 "),
    ] {
        let line = line(&text, begin);
        assert!(line.contains(named), "{named:?} is not in {line:?} of\n{text}");
    }
    assert!(!text.contains("closed-loop") && !text.contains("FAILED"), "{text}");
    // As wide as a terminal, the command aside.
    let wide = text.lines().find(|line| line.chars().count() > 120 && !line.contains("c10k load"));
    assert_eq!(wide, None, "{text}");
}

#[test]
fn a_queue_that_overflowed_and_buffers_that_ran_out_are_told_apart() {
    let text = printed("stream -d 4s", |checked| {
        let mut outcome = for_tests::outcome(checked);
        (outcome.overflows, outcome.empty_pool) = (3, 500_000);
        outcome
    });
    let health = line(&text, "HEALTH");
    assert!(health.contains("SUSPECT") && health.contains("overflows of its queue 3 "), "{text}");
    assert!(health.contains("receives without a buffer 500,000"), "{text}");
    assert!(text.contains("completion queue overflowed 3 times"), "{text}");
}

#[test]
fn what_was_not_sent_and_what_was_not_answered_is_told() {
    let text = printed("pingpong -R 10k -d 4s", |checked| {
        let mut outcome = for_tests::outcome(checked);
        (outcome.total.unsent, outcome.total.unanswered) = (12_345, 6);
        outcome
    });
    assert!(
        line(&text, "12,345 due messages NOT SENT").contains("6 sent messages NOT ANSWERED; in"),
        "{text}"
    );
    assert!(line(&text, "HEALTH").contains("SUSPECT"), "{text}");
    // The line may be broken there.
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(text.contains("12345 messages, 30.9 % of the schedule, were due in the window"), "{text}");
}

#[test]
fn a_churn_by_a_schedule_says_what_it_asked_for() {
    let text = printed("churn -R 10k -d 4s", for_tests::outcome);
    assert!(line(&text, "c10k").contains("10.0 k conn/s open loop (Poisson)"), "{text}");
    assert!(
        line(&text, "RATE").contains("target 10.0 k conn/s   0.00 connections/s (100.0 %, 0 made"),
        "{text}"
    );
    assert!(line(&text, "COST").contains("CPU per connection: "), "{text}");
}

#[test]
fn a_closed_loop_is_called_one_and_has_no_response() {
    let text = printed("pingpong -d 4s", for_tests::outcome);
    assert!(line(&text, "closed-loop round trip").contains("40,000"), "{text}");
    assert!(!text.contains("response (") && !text.contains("target"), "{text}");
}

#[test]
fn a_percentile_that_too_few_samples_back_is_a_dash() {
    let text = printed("pingpong -d 4s --percentiles 50,99.99,99.999", for_tests::outcome);
    // 40,000 samples: 4 beyond p99.99.
    let words: Vec<&str> = line(&text, "closed-loop round trip").split_whitespace().collect();
    assert_eq!(words[3..7], ["5.00", "ms", "-", "-"], "{text}");
}

#[test]
fn a_bad_run_reads_otherwise_at_once() {
    let text = printed("pingpong -R 10k -d 4s --fail-if p99>1ms --fail-if errors>100", for_tests::broken);
    for (begin, named) in [
        ("CONNECT", "3 GIVEN UP"),
        ("ERRORS", "BYTES WERE WRONG on 1 connections"),
        ("3 x connect ECONNREFUSED", "nobody listens on 127.0.0.1:8888; start a server there"),
        ("2 x receive ECONNRESET", "the server reset connections"),
        ("1 x receive stuck", "(--grace)"),
        ("connection 5, byte 1,234,567", "expected 0102030405060708, got ff02: 7 bits were flipped"),
        ("connection 42", "owed 17 bytes"),
        ("FAIL-IF   p99>1ms", "BREACHED (p99 is 10.0 ms)"),
        ("FAIL-IF   errors>100", "passed (errors is 6.00)"),
        ("FAILED", "3 of 100 connections could not be made"),
    ] {
        let line = line(&text, begin);
        assert!(line.contains(named), "{named:?} is not in {line:?} of\n{text}");
    }
    let text = printed("pingpong -R 10k -d 4s", |checked| {
        let mut outcome = for_tests::outcome(checked);
        outcome.threads[0].cpu = Duration::from_millis(3_900);
        outcome.interrupted = Some(2);
        outcome
    });
    assert!(line(&text, "HEALTH").contains("SUSPECT   client 97.5 % busy"), "{text}");
    assert!(text.contains("INTERRUPTED"), "{text}");
}

#[test]
fn interval_lines_stand_where_they_were_asked_for() {
    let lines = |text: &str| text.lines().filter(|line| line.contains("10.0 k msg ")).count();
    assert_eq!(lines(&printed("pingpong -i 1s", for_tests::outcome)), 4);
    assert_eq!(lines(&printed("pingpong", for_tests::outcome)), 0);
    let churn = printed("churn", for_tests::outcome);
    assert!(line(&churn, "1.0 s").contains(" 100 "), "open connections each second:\n{churn}");
}

#[test]
fn a_run_that_measured_nothing_prints_no_numbers() {
    let text = printed("pingpong", |checked| {
        let mut outcome = for_tests::broken(checked);
        (outcome.window, outcome.rows) = ((0, 0), Vec::new());
        outcome.failure = Some("nobody listens on 127.0.0.1:8888; start one".into());
        outcome
    });
    assert!(!text.contains("RATE") && !text.contains("LATENCY") && !text.contains("HEALTH"), "{text}");
    assert!(line(&text, "FAILED").contains("nobody listens"), "{text}");
}

#[test]
fn a_long_sentence_goes_on_in_its_column() {
    let mut out = Vec::new();
    let text = "word ".repeat(40);
    super::text::wrapped(" HEAD  ", text.trim(), &mut out).unwrap();
    let text = String::from_utf8(out).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), 2, "{text}");
    assert!(lines[1].starts_with("       word") && lines.iter().all(|line| line.len() <= 110), "{text}");
    assert_eq!(text.split_whitespace().filter(|word| *word == "word").count(), 40);
}

fn schema() -> serde_json::Value {
    serde_json::to_value(schemars::schema_for!(LoadLine)).unwrap()
}

/// `C10K_WRITE_SCHEMA=1 cargo test schema` writes it anew.
#[test]
fn the_schema_in_the_repository_is_that_of_the_types() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("schema/load.json");
    let text = serde_json::to_string_pretty(&schema()).unwrap() + "\n";
    if std::env::var_os("C10K_WRITE_SCHEMA").is_some() {
        std::fs::write(&path, &text).unwrap();
    }
    let committed = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(committed == text, "schema/load.json is not what the types say; C10K_WRITE_SCHEMA=1 writes it");
}

fn validated(line: &str) -> serde_json::Value {
    let value: serde_json::Value =
        serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
    let validator = jsonschema::validator_for(&schema()).unwrap();
    let errors: Vec<String> =
        validator.iter_errors(&value).map(|error| format!("{}: {error}", error.instance_path())).collect();
    assert!(errors.is_empty(), "{errors:#?}\n{line}");
    value
}

#[test]
fn what_is_printed_as_json_obeys_the_schema_and_reads_back() {
    type Make = fn(&Checked) -> Outcome;
    for make in [for_tests::outcome as Make, for_tests::broken] {
        let text = printed("pingpong -R 10k --format json --percentiles 50,75 --fail-if p99>1ms", make);
        let value = validated(&text);
        assert_eq!(value["event"], "result");
        assert_eq!(value["response_latency_us"]["more"]["p75"], 7_602.175);
        let LoadLine::Result(read) = serde_json::from_str(&text).unwrap() else { panic!("{text}") };
        assert_eq!(read.rates.messages, 40_000);
        assert_eq!(serde_json::to_value(LoadLine::Result(read)).unwrap(), value);
    }
    // The schema is no formality: it knows what has to be there.
    let validator = jsonschema::validator_for(&schema()).unwrap();
    assert!(!validator.is_valid(&serde_json::json!({"event": "result", "version": 1})));
    assert!(!validator.is_valid(&serde_json::json!({"event": "surprise"})));
}

#[test]
fn a_line_is_an_object_for_each_interval_the_snapshot_and_the_result() {
    let text = printed("pingpong --format ndjson", for_tests::outcome);
    let events: Vec<String> =
        text.lines().map(|line| validated(line)["event"].as_str().unwrap().to_string()).collect();
    assert_eq!(events, ["interval", "interval", "interval", "interval", "snapshot", "result"]);
    let first = validated(text.lines().next().unwrap());
    assert_eq!((&first["begin_us"], &first["messages_per_second"]), (&0.into(), &10_000.0.into()));
}

#[test]
fn every_line_of_csv_has_a_value_for_every_name() {
    let text = printed("pingpong -R 10k --format csv", for_tests::outcome);
    let rows: Vec<Vec<&str>> = text.lines().map(|line| line.split(',').collect()).collect();
    assert_eq!(rows.len(), 1 + 4 + 1);
    assert!(rows.iter().all(|row| row.len() == rows[0].len()), "{text}");
    let column = |name: &str| rows[0].iter().position(|other| *other == name).unwrap();
    assert_eq!(rows[5][column("event")], "result");
    assert_eq!(rows[5][column("messages")], "40000");
    assert_eq!(rows[5][column("verdict")], "valid");
    let time = |name: &str| rows[5][column(name)].parse::<f64>().unwrap();
    assert!((9_090.0..9_110.0).contains(&time("p90_us")) && (5_090.0..5_110.0).contains(&time("mean_us")));
    assert!(time("p99_9_us") > 10_080.0 && time("max_us") > 10_090.0, "{text}");
    assert_eq!(rows[2][column("begin_us")], "1000000");
}

/// Takes so many bytes and no more.
struct Full(usize);

impl Write for Full {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let taken = bytes.len().min(self.0);
        self.0 -= taken;
        if taken == 0 { Err(io::ErrorKind::StorageFull.into()) } else { Ok(taken) }
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_full_file_is_a_failure_and_a_closed_stream_is_none() {
    let checked = for_tests::checked("pingpong");
    let outcome = for_tests::outcome(&checked);
    for is_file in [true, false] {
        for room in [0, 10, 700] {
            let mut files = Files { is_file, ..Files::to(Box::new(Full(room))) };
            let printer = Printer::new(&checked, &mut files);
            let finished = printer.finish(&result_of(&checked, &outcome), &outcome.total.service);
            assert_eq!(finished.is_err(), is_file, "{room}: {finished:?}");
        }
    }
    let mut files = Files { hdr: Some(Box::new(Full(10))), ..Files::to(Box::new(Shared::default())) };
    let printer = Printer::new(&checked, &mut files);
    let finished = printer.finish(&result_of(&checked, &outcome), &outcome.total.service);
    assert!(finished.unwrap_err().starts_with("--hdr: cannot be written"));
}

#[test]
fn a_file_that_cannot_be_written_is_known_before_the_load() {
    let outputs = Outputs {
        file: Some("/nowhere/result".into()),
        hdr: Some("/nowhere/hdr".into()),
        hlog: Some("/nowhere/hlog".into()),
        ..Outputs::default()
    };
    let problems = Files::open(&outputs).err().unwrap();
    assert_eq!(problems.len(), 3);
    assert!(problems[0].starts_with("--output: /nowhere/result cannot be written"), "{problems:?}");
}
