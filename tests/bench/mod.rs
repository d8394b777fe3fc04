//! The laboratory as its users see it: a bench of a few seconds against the built binary, its files, its
//! exit codes, its signals, and going on after a kill. Nothing here depends on who wins.

use crate::server::{Ended, GUARD, Launch, Process};
use crate::skip::unless_missing;
use libtest_mimic::Trial;
use nix::sys::signal::{SigSet, SigmaskHow, Signal};
use serde_json::Value;
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// All of them.
pub fn trials() -> Vec<Trial> {
    let rows: [(&str, fn()); 9] = [
        ("a_short_bench_writes_what_its_schema_says", short),
        ("a_killed_bench_leaves_no_child_and_is_resumed", resumed),
        ("a_signal_ends_it_with_what_there_is", interrupted),
        ("another_server_is_measured_by_its_command", foreign),
        ("a_server_that_is_not_ours_can_be_told_to_end", told_to_end),
        ("a_server_that_sends_wrong_bytes_ends_it", wrong_bytes),
        ("a_server_that_does_not_start_is_left_out_with_its_sentence", does_not_start),
        ("a_directory_that_is_taken_is_refused", taken),
        ("what_is_wrong_is_refused_at_once", refused),
    ];
    let trial = |(name, body): (&str, fn())| {
        unless_missing(format!("bench::{name}"), &[], move || {
            body();
            Ok(())
        })
    };
    rows.into_iter().map(trial).collect()
}

/// A directory of its own, gone at the end.
struct Directory(PathBuf);

impl Directory {
    fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("c10k-bench-test-{}-{number}", std::process::id());
        Self(std::env::temp_dir().join(name))
    }

    fn path(&self) -> &str {
        self.0.to_str().expect("a plain name")
    }

    fn read(&self, file: &str) -> Value {
        let text = fs::read_to_string(self.0.join(file)).unwrap_or_else(|error| panic!("{file}: {error}"));
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{file}: {error}"))
    }

    fn slices(&self) -> Vec<Value> {
        let text = fs::read_to_string(self.0.join("slices.ndjson")).unwrap_or_default();
        text.lines().map(|line| serde_json::from_str(line).expect("a JSON line")).collect()
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// epoll against itself, few connections, a rate any machine keeps.
const SHORT: &str = "--workload pingpong:64:4 --pace 500 --seed 7 -q";
const SAME: [&str; 4] = ["--variant", "epoll", "--variant", "epoll:read=drain"];

fn bench(directory: &Directory, variants: &[&str], words: &str) -> Launch {
    let words = words.split_whitespace();
    let fixed = ["bench", "-o", directory.path()];
    Launch::new(fixed.into_iter().chain(variants.iter().copied()).chain(words))
}

fn schema_of(name: &str) -> jsonschema::Validator {
    let mut schema: Value = serde_json::from_str(include_str!("../../schema/bench.json")).expect("JSON");
    let parts = schema["$defs"].take();
    let one = serde_json::json!({"$ref": format!("#/$defs/{name}"), "$defs": parts});
    jsonschema::validator_for(&one).expect("a schema")
}

#[track_caller]
fn obeys(schema: &jsonschema::Validator, value: &Value) {
    let problems: Vec<String> =
        schema.iter_errors(value).map(|error| format!("{error} at {}", error.instance_path())).collect();
    assert!(problems.is_empty(), "{problems:?}");
}

#[track_caller]
fn ended_with(ended: &Ended, code: i32) {
    assert_eq!((ended.code, ended.signal), (Some(code), None), "{}", ended.said());
    assert!(!ended.stderr.contains("panicked"), "{}", ended.stderr);
}

/// A machine that is busy with other tests may leave nothing sound, which is an end too.
#[track_caller]
fn ended_in_order(ended: &Ended) {
    ended_with(ended, if ended.code == Some(4) { 4 } else { 0 });
}

fn short() {
    let directory = Directory::new();
    let ended = bench(&directory, &SAME, &format!("{SHORT} --budget 6s --format json")).end();
    ended_in_order(&ended);
    let result = directory.read("result.json");
    assert_eq!(serde_json::from_str::<Value>(&ended.lines.join("\n")).expect("JSON"), result);
    obeys(&schema_of("BenchResult"), &result);
    obeys(&schema_of("BenchPlan"), &directory.read("plan.json"));
    let slices = directory.slices();
    assert!(slices.len() >= 4, "{} slices", slices.len());
    slices.iter().for_each(|slice| obeys(&schema_of("RawSlice"), slice));
    assert!(!schema_of("BenchResult").is_valid(&serde_json::json!({"version": 1})), "it takes anything");

    let comparison = &result["comparisons"][0];
    assert_eq!(comparison["slices"].as_array().map(Vec::len), Some(slices.len()));
    assert_eq!(comparison["cell"]["variant"]["features"]["trigger"], "level");
    assert_eq!(comparison["cell"]["reference"]["features"]["read"], "drain");
    assert!(
        ["narrow_enough", "plain", "budget_spent"].contains(&comparison["ended"].as_str().expect("a text"))
    );
    // Each block is A B B A or B A A B.
    let sides: Vec<&str> = slices
        .iter()
        .filter(|raw| raw["slice"]["block"] == 0 && raw["slice"]["attempt"] == 0)
        .map(|raw| raw["slice"]["side"].as_str().expect("a side"))
        .collect();
    assert!(sides == ["a", "b", "b", "a"] || sides == ["b", "a", "a", "b"], "{sides:?}");
    for raw in slices.iter().filter(|raw| !raw["slice"]["numbers"].is_null()) {
        let numbers = &raw["slice"]["numbers"];
        let (server, total) = (numbers["server_cpu_ns"].as_f64(), numbers["total_cpu_ns"].as_f64());
        assert!(server > Some(0.0) && total > server, "{numbers}");
    }
    for raw in &slices {
        let before = &raw["slice"]["before"];
        let canaries = before["canaries"].as_array().expect("a list");
        assert!(
            !canaries.is_empty() && canaries.iter().all(|one| one["cpu_us"].as_f64() > Some(0.0)),
            "{before}"
        );
        assert!(before["runnable_others"].is_u64(), "{before}");
        // A slice is told in halves, and not in more.
        let halves = raw["load"]["intervals"].as_array().map_or(0, Vec::len);
        assert!(raw["load"].is_null() || halves == 2, "{}", raw["load"]["intervals"]);
    }
}

fn resumed() {
    let directory = Directory::new();
    let process = bench(&directory, &SAME, &format!("{SHORT} --budget 1h")).spawn();
    wait_for_slices(&process, &directory, 3);
    let children = children(&process);
    assert!(children.len() >= 2, "two servers at least: {children:?}");
    let padded: Vec<u64> = children.iter().filter_map(|pid| padding(pid)).collect();
    for raw in directory.slices() {
        let told = raw["slice"]["server_padding_bytes"].as_u64().expect("a number");
        assert!(padded.contains(&told), "{told} is none of what the children have: {padded:?}");
    }
    process.signal(Signal::SIGKILL);
    process.wait();
    let from = Instant::now();
    while children.iter().any(|pid| Path::new(&format!("/proc/{pid}/exe")).exists()) {
        assert!(from.elapsed() < GUARD, "children outlive the bench");
        thread::sleep(Duration::from_millis(2));
    }
    let before = directory.slices().len();
    // What a kill cut short is taken away, and measured again.
    let path = directory.0.join("slices.ndjson");
    let mut text = fs::read_to_string(&path).expect("slices");
    text.push_str("{\"slice\":{\"cell\":\"pingp");
    fs::write(&path, text).expect("written");

    let other = Launch::new(["bench", "--resume", directory.path(), "--variant", "uring"]).end();
    ended_with(&other, 2);
    assert!(other.stderr.contains("--variant: --resume goes on with the plan"), "{}", other.stderr);
    let process = Launch::new(["bench", "--resume", directory.path(), "-q", "--strict"]).spawn();
    wait_for_slices(&process, &directory, before + 3);
    process.signal(Signal::SIGTERM);
    ended_with(&process.wait(), 143);
    let slices = directory.slices();
    let places: Vec<[&Value; 3]> =
        slices.iter().map(|raw| ["purpose", "block", "position"].map(|name| &raw["slice"][name])).collect();
    let fresh = |index: &usize| slices[*index]["slice"]["attempt"] == 0;
    for index in (0..places.len()).filter(fresh) {
        assert!(!places[..index].contains(&places[index]), "{:?} was measured twice", places[index]);
    }
    let began: Vec<u64> =
        slices.iter().map(|raw| raw["slice"]["began_us"].as_u64().expect("a time")).collect();
    assert!(began.is_sorted(), "{began:?}");
}

fn interrupted() {
    for (signal, code) in [(Signal::SIGINT, 130), (Signal::SIGTERM, 143)] {
        let directory = Directory::new();
        let process = bench(&directory, &SAME, &format!("{SHORT} --budget 1h")).spawn();
        wait_for_slices(&process, &directory, 1);
        process.signal(signal);
        ended_with(&process.wait(), code);
        let result = directory.read("result.json");
        assert_eq!((&result["interrupted"], &result["exit_code"]), (&Value::Bool(true), &Value::from(code)));
        assert_eq!(result["comparisons"][0]["ended"], "interrupted");
        says_the_same_when_resumed(&directory, &result);
    }
}

/// With no time left nothing is measured, and what was is neither lost nor counted twice.
#[track_caller]
fn says_the_same_when_resumed(directory: &Directory, before: &Value) {
    let kept = fs::read_to_string(directory.0.join("slices.ndjson")).expect("slices");
    let ended = Launch::new(["bench", "--resume", directory.path(), "--budget", "2s", "-q"]).end();
    ended_in_order(&ended);
    let after = directory.read("result.json");
    let text = fs::read_to_string(directory.0.join("slices.ndjson")).expect("slices");
    assert!(text.starts_with(&kept), "what was kept has changed");
    let (one, other) = (&before["comparisons"][0], &after["comparisons"][0]);
    assert_eq!(other["slices"].as_array().map(Vec::len), Some(text.lines().count()));
    for side in ["variant", "reference"] {
        // Who had not had a turn before the signal has one now, and only then says what it ran with.
        if one["cell"][side]["features"].is_object() {
            assert_eq!(one["cell"][side], other["cell"][side], "what really ran");
        }
        assert!(other["cell"][side]["features"].is_object(), "{}", other["cell"]);
    }
    if text == kept {
        assert_eq!((&one["metrics"], &one["blocks"]), (&other["metrics"], &other["blocks"]));
    }
}

fn foreign() {
    let directory = Directory::new();
    let binary = crate::server::binary().into_string().expect("a plain name");
    let other = format!("other={binary} serve --backend epoll --workers 1 -q --listen {{addr}}");
    let words = format!("{SHORT} --budget 6s --fail-if other/epoll<0.0001 --fail-if other/epoll>1000");
    ended_in_order(&bench(&directory, &["--variant", &other, "--variant", "epoll"], &words).end());
    let result = directory.read("result.json");
    let comparison = &result["comparisons"][0];
    assert_eq!(comparison["cell"]["variant"]["features"], Value::Null);
    assert!(comparison["sentence"].as_str().expect("a text").contains("other"), "{comparison}");
    assert_eq!(result["gates"].as_array().map(Vec::len), Some(2));
    // The account is read by the process that listens, whoever started it.
    let mut sides = result["comparisons"][0]["slices"].as_array().expect("a list").iter();
    assert!(
        sides.any(|slice| slice["side"] == "a" && slice["numbers"]["server_cpu_ns"].as_f64() > Some(0.0))
    );
}

fn told_to_end() {
    // As the bench has it: in the thread that starts children the signal is blocked.
    let terminate: SigSet = [Signal::SIGTERM].into_iter().collect();
    let before = terminate.thread_swap_mask(SigmaskHow::SIG_BLOCK).expect("a mask");
    let ended = Command::new(crate::server::binary())
        .args(["child-of-bench", &std::process::id().to_string(), "", "sh", "-c"])
        .arg("kill -TERM $$; echo it goes on")
        .output();
    before.thread_set_mask().expect("a mask");
    let ended = ended.expect("it starts");
    assert_eq!(ended.status.signal(), Some(Signal::SIGTERM as i32), "{ended:?}");
    assert_eq!(ended.stdout, b"");
}

fn wrong_bytes() {
    let directory = Directory::new();
    let this = std::env::current_exe().expect("known").into_os_string().into_string().expect("a plain name");
    let liar = format!("liar={this} {LIAR} {{addr}}");
    let words = format!("{SHORT} --budget 5s");
    let ended = bench(&directory, &["--variant", &liar, "--variant", "epoll"], &words).end();
    ended_with(&ended, 5);
    assert!(ended.stderr.contains("liar: it does not echo as it should"), "{}", ended.stderr);
    assert_eq!(directory.read("result.json")["exit_code"], 5);
}

/// How this test program is asked to be a server that flips a bit of everything.
const LIAR: &str = "--be-a-liar";

/// Is that server, if this is what the program was started for.
pub fn be_a_liar_if_asked() {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, asked, address] = arguments.as_slice() else { return };
    if asked != LIAR {
        return;
    }
    let listener = TcpListener::bind(address).expect("the port is free");
    for mut peer in listener.incoming().flatten() {
        thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(count @ 1..) = peer.read(&mut bytes) {
                bytes[0] ^= 1;
                let _ = peer.write_all(&bytes[..count]);
            }
        });
    }
}

fn does_not_start() {
    let directory = Directory::new();
    let words = format!("{SHORT} --budget 5s");
    let ended =
        bench(&directory, &["--variant", "gone=/nowhere/at-all {port}", "--variant", "epoll"], &words).end();
    ended_with(&ended, 1);
    let result = directory.read("result.json");
    assert_eq!(result["comparisons"][0]["verdict"], "left_out");
    let reason = result["comparisons"][0]["cell"]["left_out"].as_str().expect("a reason").to_owned();
    assert!(reason.contains("/nowhere/at-all could not be started"), "{reason}");
    // Long lines are broken.
    let words: Vec<&str> = ended.lines.iter().flat_map(|line| line.split_whitespace()).collect();
    assert!(words.join(" ").contains(&reason), "{}", ended.said());
}

fn taken() {
    let directory = Directory::new();
    fs::create_dir_all(&directory.0).expect("made");
    fs::write(directory.0.join("plan.json"), "{}").expect("written");
    let ended = bench(&directory, &SAME, SHORT).end();
    ended_with(&ended, 2);
    assert!(ended.stderr.contains("holds a bench already; --resume"), "{}", ended.stderr);
    let ended = Launch::new(["bench", "--resume", directory.path()]).end();
    ended_with(&ended, 2);
    assert!(ended.stderr.contains("plan.json is not understood"), "{}", ended.stderr);
}

fn refused() {
    let ended = Launch::new(["bench", "quik", "--variant", "urin", "--budget", "0", "--fail-if", "x"]).end();
    ended_with(&ended, 2);
    for flag in ["SUITE", "--variant", "--budget", "--fail-if"] {
        assert!(ended.stderr.contains(&format!("{flag}: ")), "{flag}: {}", ended.stderr);
    }
}

#[track_caller]
fn wait_for_slices(process: &Process, directory: &Directory, count: usize) {
    let from = Instant::now();
    let lines =
        || fs::read_to_string(directory.0.join("slices.ndjson")).map_or(0, |text| text.lines().count());
    while lines() < count {
        assert!(from.elapsed() < GUARD && process.is_alive(), "no slices: {}", process.stderr());
        thread::sleep(Duration::from_millis(5));
    }
}

/// The length of the variable that is there for its length.
fn padding(pid: &str) -> Option<u64> {
    let environment = fs::read_to_string(format!("/proc/{pid}/environ")).ok()?;
    let value = environment.split('\0').find_map(|one| one.strip_prefix("C10K_BENCH_PADDING="))?;
    Some(value.len() as u64)
}

/// The processes that a process started and that still run.
fn children(process: &Process) -> Vec<String> {
    let text = fs::read_to_string(format!("/proc/{0}/task/{0}/children", process.pid)).unwrap_or_default();
    text.split_whitespace().map(String::from).collect()
}
