//! Signals, files, gates and verdicts of a load: what it prints and what it exits with.

use super::liar::{Edit, Liar, Manner, Then, Victim};
use super::run::{Engine, Ran, end, line, load, load_as, refused, run, running, running_until};
use super::run::{signal_and_see, wait_for_signals};
use crate::server::{Launch, Output};
use crate::skip::unless_missing;
use hdrhistogram::serialization::Deserializer;
use hdrhistogram::serialization::interval_log::{IntervalLogIterator, LogEntry};
use libtest_mimic::Trial;
use nix::sys::signal::Signal;
use serde_json::Value;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// What does not depend on the engine is tried on one.
const ENGINE: Engine = Engine::Epoll;

/// The trials.
pub fn trials() -> Vec<Trial> {
    let rows: [(&str, fn()); 21] = [
        ("a_first_signal_ends_the_measurement_and_reports", first_signal),
        ("a_signal_before_the_window_is_reported_too", signal_in_the_warmup),
        ("a_signal_before_the_load_is_reported_too", signal_in_the_ramp),
        ("a_second_signal_ends_it_at_once", second_signal),
        ("a_second_signal_leaves_the_account_of_a_schedule_whole", second_signal_of_a_schedule),
        ("sigusr1_prints_a_snapshot", snapshot),
        ("a_closed_standard_output_is_no_failure", closed_output),
        ("the_result_goes_to_a_file", to_a_file),
        ("a_file_that_cannot_be_written_is_refused_before_the_load", unwritable_file),
        ("a_full_disk_is_a_failure", full_disk),
        ("a_breached_gate_exits_with_3", gates),
        ("wrong_conditions_are_usage_errors", wrong_conditions),
        ("a_suspect_run_says_why_and_fails_when_strict", suspect),
        ("the_precedence_of_the_exit_codes_is_kept", precedence),
        ("histogram_files_are_read_by_hdrhistogram", histograms),
        ("every_json_line_is_of_the_schema", schema),
        ("csv_has_as_many_values_as_names", csv),
        ("the_printed_command_repeats_the_load", repeated),
        ("nothing_is_printed_on_standard_error_when_quiet", quiet),
        ("a_churn_prints_a_line_each_interval", churn_lines),
        ("a_search_ends_and_says_what_it_found", search),
    ];
    let trial = |(name, body): (&str, fn())| {
        unless_missing(format!("load::{name}"), &[], move || {
            body();
            Ok(())
        })
    };
    rows.into_iter().map(trial).collect()
}

fn honest() -> Liar {
    Liar::start(Manner::default())
}

fn first_signal() {
    let liar = honest();
    for (signal, code) in [(Signal::SIGINT, 130), (Signal::SIGTERM, 143)] {
        let load = running(ENGINE, "pingpong", liar.address, "-c 4 -d 60s -w 0");
        load.signal(signal);
        let ran = end(load).code(code);
        assert_eq!(ran.at("interrupted"), true);
        assert!(ran.number("rates/messages") > 0, "{}", ran.result);
        // The window ended with the signal, and the numbers are of it.
        let measured = ran.float("window/measured_us") / 1e6;
        assert!(measured < 30.0, "measured {measured} s");
        let rate = ran.number("rates/messages") as f64 / measured;
        assert!((ran.float("rates/messages_per_second") / rate - 1.0).abs() < 0.01, "{}", ran.at("rates"));
        assert_eq!(ran.at("errors"), &serde_json::json!([]));
    }
}

fn signal_in_the_warmup() {
    let liar = honest();
    let process = load(ENGINE, "pingpong", liar.address, "-c 4 -d 60s -w 60s").spawn();
    wait_for_signals(&process);
    process.signal(Signal::SIGINT);
    let ran = Ran::of(process.wait()).code(130);
    assert_eq!(ran.at("interrupted"), true);
    assert_eq!(ran.number("rates/messages"), 0, "{}", ran.at("rates"));
}

/// Twenty seconds of connecting: there is no window, and nothing is judged.
fn signal_in_the_ramp() {
    let liar = honest();
    let process = load(ENGINE, "pingpong", liar.address, "-c 100 --connect-rate 5 -R 100").spawn();
    wait_for_signals(&process);
    process.signal(Signal::SIGINT);
    let ran = Ran::of(process.wait()).code(130);
    assert_eq!((ran.at("interrupted"), ran.at("verdict/word")), (&true.into(), &"invalid".into()));
    assert_eq!((ran.number("window/measured_us"), ran.number("rates/unsent")), (0, 0), "{}", ran.result);
    assert!(ran.ended.ran < Duration::from_secs(15), "it went on connecting: {:?}", ran.ended.ran);
}

/// Cut off in the grace, every message of the schedule is still told of: as it came back, or as it waited.
fn second_signal_of_a_schedule() {
    let gives = Box::new(|_: &[u8], _: &_| Some(Vec::new()));
    let edit = Edit { at: 64, takes: 0, needs: 64, after: Duration::ZERO, gives, then: Then::Silence };
    let liar = Liar::start(Manner { lie: Some((Victim::Everybody, edit)), ..Manner::default() });
    let words = "-c 2 -t 1 -R 1000 --arrival uniform -d 60s -w 0 --grace 60s";
    // Both have had their one answer, and both have asked again: that was due within milliseconds.
    let load = running_until(2, ENGINE, "pingpong", liar.address, words);
    signal_and_see(&load, Signal::SIGINT);
    std::thread::sleep(Duration::from_millis(200));
    load.signal(Signal::SIGINT);
    let ran = end(load).code(130);
    let [unsent, unanswered] = ["unsent", "unanswered"].map(|what| ran.number(&format!("rates/{what}")));
    assert!(unsent > 0 && unanswered == 2, "{}", ran.at("rates"));
    // One came back on each connection before it fell silent.
    assert_eq!(ran.number("service_latency_us/samples"), 2, "{}", ran.result);
    assert_eq!(ran.number("response_latency_us/samples"), unsent + 4);
    let due = ran.float("window/measured_us") / 1e3;
    assert!((unsent as f64 + 4.0 - due).abs() <= 2.0, "{unsent} unsent of {due} that were due");
}

/// The server keeps silent, and the client would wait for it.
fn second_signal() {
    let gives = Box::new(|_: &[u8], _: &_| Some(Vec::new()));
    let edit = Edit { at: 64, takes: 0, needs: 64, after: Duration::ZERO, gives, then: Then::Silence };
    let liar = Liar::start(Manner { lie: Some((Victim::Everybody, edit)), ..Manner::default() });
    for (signal, code) in [(Signal::SIGINT, 130), (Signal::SIGTERM, 143)] {
        let load = running(ENGINE, "pingpong", liar.address, "-c 2 -d 60s -w 0 --grace 60s");
        signal_and_see(&load, signal);
        std::thread::sleep(Duration::from_millis(200));
        assert!(load.is_alive(), "it did not wait for the answers it is owed");
        load.signal(signal);
        let ended = load.wait();
        assert_eq!(ended.code, Some(code), "{}", ended.said());
        assert!(ended.ran < Duration::from_secs(30), "took {:?}", ended.ran);
    }
}

fn snapshot() {
    let liar = honest();
    let load = running(ENGINE, "pingpong", liar.address, "-c 2 -d 60s -w 0");
    load.signal(Signal::SIGUSR1);
    let snapshot = loop {
        let line = line(&load);
        if line["event"] != "interval" {
            break line;
        }
    };
    assert_eq!(snapshot["event"], "snapshot", "{snapshot}");
    assert!(snapshot["messages"].as_u64().expect("a number") > 0, "{snapshot}");
    assert!(snapshot["latency_us"]["samples"].as_u64().expect("a number") > 0, "{snapshot}");
    assert!(load.is_alive(), "the snapshot ended the load");
    load.signal(Signal::SIGINT);
    end(load).code(130);
    // Where the result is one object, the snapshot goes to who looks at the terminal.
    let process = self::load(ENGINE, "pingpong", liar.address, "-c 2 -d 1s -w 0 -i 50ms").spawn();
    wait_for_signals(&process);
    while process.stderr().is_empty() && process.is_alive() {
        process.signal(Signal::SIGUSR1);
        std::thread::sleep(Duration::from_millis(20));
    }
    let ran = Ran::of(process.wait()).code(0);
    assert!(ran.ended.stderr.contains("p99"), "{}", ran.ended.stderr);
}

fn closed_output() {
    let liar = honest();
    for format in ["text", "ndjson", "csv"] {
        let launch = load_as(format, ENGINE, "pingpong", liar.address, "-c 2 -d 300ms -w 0 -i 20ms");
        let ended = launch.output(Output::ClosedAfterFirstLine).end();
        assert_eq!((ended.code, ended.signal), (Some(0), None), "{format}: {}", ended.said());
        assert!(!ended.stderr.contains("panicked"), "{}", ended.stderr);
    }
}

/// A name in the folder for temporary files that nobody else has.
struct Scratch(PathBuf);

impl Scratch {
    fn new(ending: &str) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        Self(std::env::temp_dir().join(format!("c10k-test-{}-{number}.{ending}", std::process::id())))
    }

    fn read(&self) -> Vec<u8> {
        std::fs::read(&self.0).unwrap_or_else(|error| panic!("{}: {error}", self.0.display()))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

fn to_a_file() {
    let (liar, file) = (honest(), Scratch::new("json"));
    let ended = load(ENGINE, "pingpong", liar.address, &format!("-c 2 -n 50 -o {}", file.0.display())).end();
    assert_eq!(ended.code, Some(0), "{}", ended.said());
    assert!(ended.lines.is_empty(), "printed besides: {ended:?}");
    let result: Value = serde_json::from_slice(&file.read()).expect("JSON");
    assert_eq!(result["rates"]["messages"], 50);
}

fn unwritable_file() {
    let liar = honest();
    for flag in ["-o", "--hdr", "--hlog"] {
        let words = format!("-c 2 -n 50 {flag} /nonexistent/file");
        let ended = load(ENGINE, "pingpong", liar.address, &words).end();
        refused(&ended, 2, &["/nonexistent/file", "cannot be written", "would do"]);
    }
    assert_eq!(liar.stop().accepted, 0, "it has loaded the server for nothing");
}

fn full_disk() {
    let liar = honest();
    for flag in ["-o", "--hdr", "--hlog"] {
        let ended = load(ENGINE, "pingpong", liar.address, &format!("-c 2 -n 50 {flag} /dev/full")).end();
        refused(&ended, 1, &["cannot be written"]);
    }
}

fn gates() {
    let liar = honest();
    let with =
        |conditions: &str| run(load(ENGINE, "pingpong", liar.address, &format!("-c 2 -n 2000 {conditions}")));
    let ran = with("--fail-if p99>1us").code(3);
    assert_eq!(ran.at("fail_if/0/breached"), true);
    assert_eq!(ran.at("fail_if/0/condition"), "p99>1us");
    let ran = with("--fail-if p99>1h --fail-if rate<1 --fail-if errors>0").code(0);
    let breached = |number: usize| ran.at(&format!("fail_if/{number}/breached")).as_bool();
    assert_eq!([breached(0), breached(1), breached(2)], [Some(false); 3], "{}", ran.at("fail_if"));
    let ran = with("--fail-if p99>1h --fail-if rate>1").code(3);
    assert_eq!(ran.at("fail_if/1/breached"), true);
}

fn wrong_conditions() {
    for flag in ["--fail-if", "--find-rate"] {
        for condition in ["p99", "p99<", "p101<1ms", "speed<1", "p99<1 parsec", "", "<1ms"] {
            let ended =
                Launch::new(["load", "pingpong", "127.0.0.1:1", &format!("{flag}={condition}")]).end();
            refused(&ended, 2, &[flag, condition]);
        }
    }
}

/// More messages a second than any client sends.
const TOO_MUCH: &str = "-c 4 -R 50m -d 300ms -w 0 --grace 2s";

fn suspect() {
    let liar = honest();
    let ran = run(load(ENGINE, "pingpong", liar.address, TOO_MUCH)).code(0);
    assert_eq!(ran.at("verdict/word"), "suspect");
    let reasons = ran.at("verdict/reasons").as_array().expect("a list");
    assert!(
        !reasons.is_empty()
            && reasons.iter().all(|reason| reason.as_str().is_some_and(|text| text.len() > 30))
    );
    let ran = run(load(ENGINE, "pingpong", liar.address, &format!("{TOO_MUCH} --strict"))).code(4);
    assert_eq!(ran.at("verdict/word"), "suspect");
}

/// 5, 1, 4, 3.
fn precedence() {
    let strict = format!("{TOO_MUCH} --strict --fail-if rate>1");
    let liar = honest();
    run(load(ENGINE, "pingpong", liar.address, &strict)).code(4);
    // One of the connections keeps silent: the run has failed, whatever else it is.
    let edit = |then, gives: Vec<u8>| {
        let takes = gives.len() as u64;
        let gives = Box::new(move |_: &[u8], _: &_| Some(gives.clone()));
        Edit { at: 64, takes, needs: 64 + takes, after: Duration::ZERO, gives, then }
    };
    let lie = Some((Victim::Number(1, 3), edit(Then::Silence, vec![])));
    let silent = Liar::start(Manner { lie, ..Manner::default() });
    let brief = strict.replace("--grace 2s", "--grace 500ms --seed 3");
    run(load(ENGINE, "pingpong", silent.address, &brief)).code(1);
    let lie = Some((Victim::Number(1, 3), edit(Then::Silence, vec![0; 32])));
    let wrong = Liar::start(Manner { lie, ..Manner::default() });
    run(load(ENGINE, "pingpong", wrong.address, &brief)).code(5);
}

fn histograms() {
    let (liar, hdr, hlog) = (honest(), Scratch::new("hgrm"), Scratch::new("hlog"));
    let files = format!("--hdr {} --hlog {}", hdr.0.display(), hlog.0.display());
    let words = format!("-c 3 -R 2000 -d 1500ms -w 0 -i 100ms --grace 10s {files}");
    let ran = run(load(ENGINE, "pingpong", liar.address, &words)).code(0);
    let samples = ran.number("response_latency_us/samples");
    assert!(samples > 0);
    let (mut count, mut longest, mut intervals) = (0, 0, 0);
    let mut deserializer = Deserializer::new();
    let log = hlog.read();
    for entry in IntervalLogIterator::new(&log) {
        let LogEntry::Interval(interval) = entry.unwrap_or_else(|error| panic!("{error:?}")) else {
            continue;
        };
        let text = interval.encoded_histogram();
        let bytes = base64_decoded(text);
        let histogram: hdrhistogram::Histogram<u64> =
            deserializer.deserialize(&mut &bytes[..]).expect("a histogram");
        (count, longest, intervals) = (count + histogram.len(), longest.max(histogram.max()), intervals + 1);
    }
    assert_eq!(count, samples, "the log has other samples than the result");
    // As many as there was time for: a thread that was kept waiting passes several edges at once.
    assert!(intervals >= 5, "{intervals} intervals");
    let max = ran.float("response_latency_us/max") * 1e3;
    assert!((longest as f64 / max - 1.0).abs() < 0.01, "longest {longest} ns, by the result {max}");
    percentiles(&String::from_utf8(hdr.read()).expect("text"), samples, &ran);
}

/// The lines of numbers run upwards, and the last one counts every sample.
fn percentiles(text: &str, samples: u64, ran: &Ran) {
    let number =
        |line: &str| -> Option<Vec<f64>> { line.split_whitespace().map(|word| word.parse().ok()).collect() };
    let rows: Vec<Vec<f64>> = text.lines().filter_map(number).filter(|row| row.len() >= 3).collect();
    assert!(rows.len() > 10, "{text}");
    assert!(rows.windows(2).all(|pair| pair[0][0] <= pair[1][0] && pair[0][1] <= pair[1][1]), "{text}");
    let last = rows.last().expect("some");
    assert_eq!((last[1], last[2]), (1.0, samples as f64), "{text}");
    let max = ran.float("response_latency_us/max") / 1e3;
    assert!((last[0] / max - 1.0).abs() < 0.01, "longest {} ms, by the result {max}", last[0]);
    assert!(text.contains("#[Mean") && text.contains("#[Max") && text.contains("#[Buckets"), "{text}");
}

/// Base64 with padding, as the log has it.
fn base64_decoded(text: &str) -> Vec<u8> {
    const LETTERS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let digits: Vec<u8> = text.bytes().take_while(|&byte| byte != b'=').collect();
    let mut bytes = Vec::new();
    for four in digits.chunks(4) {
        let value = |letter| LETTERS.iter().position(|&other| other == letter).expect("base64") as u32;
        let bits = four.iter().fold(0, |bits, &letter| bits << 6 | value(letter)) << (6 * (4 - four.len()));
        bytes.extend(&bits.to_be_bytes()[1..four.len()]);
    }
    bytes
}

fn schema() {
    let text = include_str!("../../schema/load.json");
    let schema = jsonschema::validator_for(&serde_json::from_str(text).expect("JSON")).expect("a schema");
    let liar = honest();
    for (workload, words) in [
        ("pingpong", "-c 2 -R 1000 -d 200ms -w 0 -i 50ms --fail-if p50>1h"),
        ("pingpong", "-c 2 -n 100 --percentiles 50,75,99.5"),
        ("stream", "-c 2 -d 200ms -w 0"),
        ("churn", "-c 2 -n 20"),
        ("idle", "-c 20 --every 200ms -d 300ms"),
        ("pingpong", "-c 2 -n 4 --find-rate p50<1h"),
    ] {
        let words = words.replace("-n 4 --find-rate", "-d 50ms -w 0 --find-rate");
        let ended = load_as("ndjson", ENGINE, workload, liar.address, &words).end();
        assert_eq!(ended.code, Some(0), "{workload} {words}: {}", ended.said());
        assert!(!ended.lines.is_empty());
        for line in &ended.lines {
            let value: Value = serde_json::from_str(line).expect("a JSON line");
            let problems: Vec<String> = schema
                .iter_errors(&value)
                .map(|error| format!("{error} at {}", error.instance_path()))
                .collect();
            assert!(problems.is_empty(), "{workload}: {problems:?} in {line}");
        }
        let last: Value = serde_json::from_str(ended.lines.last().expect("some")).expect("JSON");
        assert_eq!(last["event"], "result");
    }
    assert!(!schema.is_valid(&serde_json::json!({"event": "result"})), "the schema takes anything");
}

fn csv() {
    let liar = honest();
    let ended = load_as("csv", ENGINE, "pingpong", liar.address, "-c 2 -d 300ms -w 0 -i 50ms").end();
    assert_eq!(ended.code, Some(0), "{}", ended.said());
    let columns: Vec<usize> =
        ended.lines.iter().filter(|line| !line.is_empty()).map(|line| line.split(',').count()).collect();
    assert!(columns.len() >= 3 && columns.iter().all(|&count| count == columns[0]), "{:#?}", ended.lines);
    assert!(columns[0] > 3);
}

/// It names every setting: what it prints when it is run is the same command again.
fn repeated() {
    let liar = honest();
    let first =
        run(load(ENGINE, "pingpong", liar.address, "-c 3 -s 10..200 -n 90 --fail-if p99>10m --strict -P 2"));
    let command = first.at("command").as_str().expect("a text").to_owned();
    let words: Vec<String> = command.replace('\'', "").split_whitespace().skip(1).map(String::from).collect();
    assert_eq!(words[0], "load", "{command}");
    let second = Ran::of(Launch::new(words).end());
    assert_eq!(second.at("command"), first.at("command"));
    assert_eq!(second.at("plan"), first.at("plan"));
    // Of the same seed, the same sizes.
    assert_eq!(second.number("rates/messages"), 90);
}

fn quiet() {
    let liar = honest();
    let ended = load(ENGINE, "pingpong", liar.address, "-c 2 -n 50 -q").end();
    assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""), "{}", ended.said());
}

/// The client of the original study: 17 at a time, and what is open, line by line.
fn churn_lines() {
    let liar = honest();
    let launch = load_as("text", ENGINE, "churn", liar.address, "-t 17 -s 1024 -d 1s -w 0 -i 100ms");
    let ended = launch.end();
    assert_eq!(ended.code, Some(0), "{}", ended.said());
    let text = ended.lines.join("\n");
    assert!(text.contains("17 connections") && text.contains("1Ki bytes"), "{text}");
    let numbers =
        |line: &&String| line.split_whitespace().next().is_some_and(|word| word.parse::<f64>().is_ok());
    let lines = ended.lines.iter().filter(numbers).count();
    // As many as the machine had time for: a thread that was kept waiting passes several edges at once.
    assert!(lines >= 2, "a line each 100 ms of a second: {text}");
}

/// A condition that no server meets, and one that every server meets at the first rates.
fn search() {
    let liar = honest();
    let words = "-c 4 -d 50ms -w 0 --grace 5s --find-rate p50<1us";
    let ran = run(load(ENGINE, "pingpong", liar.address, words));
    assert_eq!(ran.at("find_rate/highest_messages_per_second"), &Value::Null, "{}", ran.at("find_rate"));
    assert_eq!(ran.at("find_rate/condition"), "p50<1us");
    let steps = ran.at("find_rate/steps").as_array().expect("a list");
    assert!((1..60).contains(&steps.len()) && steps.iter().all(|step| step["held"] == false), "{steps:?}");
    let ran = run(load(ENGINE, "pingpong", liar.address, &words.replace("p50<1us", "p50<1s")));
    let highest = ran.float("find_rate/highest_messages_per_second");
    let steps = ran.at("find_rate/steps").as_array().expect("a list");
    let held = steps.iter().filter(|step| step["held"] == true);
    let best = held.filter_map(|step| step["intended_messages_per_second"].as_f64()).fold(0.0, f64::max);
    assert!(best > 0.0 && highest == best, "{highest} is not the best of {steps:?}");
}
