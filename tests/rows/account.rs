//! Rows about the account as others read it: from the server's memory file, without a word to the server.

use super::{Case, EVERYWHERE, Row, Variant, row, served};
use crate::client::{exchange, finish_cleanly};
use crate::server::{Account, Ended, GUARD, Launch, Server};
use crate::skip::Need;
use c10k::load::server_stats::{self, Watched};
use c10k::result::shared_account::Sums;
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use std::fs;
use std::process::{Child, Command, Stdio};
use std::time::Instant;

/// The rows.
pub fn rows() -> Vec<Row> {
    vec![
        row!(what_is_read_from_outside_is_what_the_server_says).on(EVERYWHERE),
        row!(over_a_window_exactly_what_was_exchanged_in_it_is_counted),
        row!(without_a_memory_file_it_serves_all_the_same).starts_its_own().needs(Need::Prlimit),
        row!(a_load_says_what_the_server_spent_in_its_window),
        row!(a_load_that_cannot_learn_of_the_server_does_not_begin),
        row!(two_hosts_work_as_one_does)
            .on(&[Variant::Uring, Variant::Epoll])
            .with("--listen 10.99.0.1:8888")
            .starts_its_own()
            .needs(Need::Root)
            .needs(Need::Ip),
    ]
}

fn read(server: &Server) -> Sums {
    let watched = Watched::open(u32::try_from(server.pid.as_raw()).expect("a pid")).expect("it runs");
    let snapshot = watched.snapshot().expect("it runs");
    assert_eq!(snapshot.unread, None);
    snapshot.account.expect("it is a c10k")
}

/// Groups and names in the same order, the same numbers, each worker's share.
#[track_caller]
fn assert_same(sums: &Sums, said: &Account) {
    let sums: Value = json!({
        "counters": sums.counters, "closed": sums.closed, "refused": sums.refused, "gauges": sums.gauges,
        "workers": sums.workers,
    });
    for (group, numbers) in sums.as_object().expect("an object") {
        assert_eq!(numbers.to_string(), said.0[group].to_string(), "{group}");
    }
}

/// Read, asked for, read again: what did not change in between must be what was said.
fn what_is_read_from_outside_is_what_the_server_says(case: &mut Case) {
    let mut peers = served(case.server(), 40);
    let gone = peers.split_off(30);
    finish_cleanly(gone);
    let server = case.server();
    server.wait_until("ten have gone", |account| account.closed() == 10);
    let from = Instant::now();
    loop {
        let before = read(server);
        let said = server.stats();
        if before == read(server) {
            assert_same(&before, &said);
            assert_eq!(before.counters.get("accepted"), Some(&40));
            assert_eq!(before.gauges.get("open"), Some(&30));
            assert_eq!(before.closed.get("peer_finished"), Some(&10));
            break;
        }
        assert!(from.elapsed() < GUARD, "a server with nothing to do goes on counting");
    }
    finish_cleanly(peers);
}

/// Found by its address, looked at at both edges.
fn over_a_window_exactly_what_was_exchanged_in_it_is_counted(case: &mut Case) {
    let mut peers = served(case.server(), 20);
    let server = case.server();
    server.wait_until("all are counted", |account| account.get("bytes_sent") == 20 * 64);
    let pid = server_stats::find(server.address()).expect("it listens");
    assert_eq!(pid.to_string(), server.pid.to_string());
    let watched = Watched::open(pid).expect("it runs");
    let before = watched.snapshot().expect("it runs");
    exchange(&mut peers, 4096, 64);
    server.wait_until("all are counted", |account| account.get("bytes_sent") == 20 * (64 + 4096));
    let stats = server_stats::difference(&before, &watched.snapshot().expect("it runs"));
    let account = stats.account.expect("it is a c10k");
    assert_eq!(account.counters.get("bytes_received"), Some(&(20 * 4096)));
    assert_eq!(account.counters.get("accepted"), Some(&0));
    assert_eq!((account.gauges_begin.get("open"), account.gauges.get("open")), (Some(&20), Some(&20)));
    let calls = *account.counters.get("system_calls").expect("a name of the account");
    assert!(calls > 0 && calls <= 20 * 64 * 4, "{calls} system calls for 1,280 messages");
    assert!(stats.cpu_us > 0 && stats.cpu_from == "clock", "{} us by {}", stats.cpu_us, stats.cpu_from);
    assert!(stats.window_us > 0 && stats.threads > 1 && stats.resident_bytes > Some(1 << 20));
    finish_cleanly(peers);
}

/// Under a limit on the size of files the kernel would end the process with a signal.
fn without_a_memory_file_it_serves_all_the_same(case: &mut Case) {
    let started = case.launch(&["-v"]).through(&["prlimit", "--fsize=100"]).start();
    case.adopt(started);
    let server = case.server();
    server.stderr_with("--server-stats");
    server.stderr_with("ulimit -f");
    let watched = Watched::open(u32::try_from(server.pid.as_raw()).expect("a pid")).expect("it runs");
    assert_eq!(watched.snapshot().expect("it runs").account, None);
}

const LOAD: &str = "-c 10 -d 500ms -w 100ms --format json -q";

/// A load against this address.
fn load(launcher: &[&str], workload: &str, address: &str, from: &str) -> Ended {
    let words = ["load", workload, address, "--server-stats", from];
    Launch::new(words.into_iter().chain(LOAD.split(' '))).through(launcher).end()
}

/// What the result of a load says of the server, and of the load itself.
#[track_caller]
fn result(ended: &Ended) -> (Value, Value) {
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let result: Value = serde_json::from_str(&ended.lines.join("\n")).expect("one JSON object");
    (result["cost"]["server"].clone(), result)
}

/// What a server must have spent and counted in a window in which so many bytes came back.
#[track_caller]
fn assert_plausible(server: &Value, result: &Value) {
    let number = |value: &Value| value.as_u64().unwrap_or_else(|| panic!("no number in {server}"));
    assert!(number(&server["cpu_us"]) > 0 && server["cpu_from"] == "clock", "{server}");
    assert!(number(&server["system_calls"]) > 0 && server["missing"].is_null(), "{server}");
    let seconds = number(&server["window_us"]) as f64 / 1e6;
    let echoed = number(&server["account"]["counters"]["bytes_sent"]) as f64 / seconds;
    let received = result["rates"]["bytes_received_per_second"].as_f64().expect("a rate");
    // Both count the same bytes, over windows that are the same but for the time of an answer.
    assert!((0.5..2.0).contains(&(echoed / received)), "{echoed} and {received} bytes a second: {server}");
    assert_eq!(server["account"]["gauges_begin"]["open"], 10, "{server}");
    assert_eq!(server["account"]["counters"]["accepted"], 0, "{server}");
}

/// On one machine, found by the address of the load.
fn a_load_says_what_the_server_spent_in_its_window(case: &mut Case) {
    let address = case.server().address().to_string();
    for (workload, from) in [("pingpong", "auto".to_string()), ("stream", case.server().pid.to_string())] {
        let (server, whole) = result(&load(&[], workload, &address, &from));
        assert_eq!(server["source"], format!("process {}", case.server().pid));
        assert_plausible(&server, &whole);
        assert!(server["round_trip_us"].is_null());
    }
}

/// Found out before, not after an hour of load.
fn a_load_that_cannot_learn_of_the_server_does_not_begin(case: &mut Case) {
    let address = case.server().address().to_string();
    let before = case.server().stats().get("accepted");
    for (from, words) in
        [("4194304", "there is no process 4194304"), ("127.0.0.1:1", "c10k load --agent 127.0.0.1:1")]
    {
        let ended = load(&[], "pingpong", &address, from);
        assert_eq!(ended.code, Some(1), "{ended:?}");
        assert!(ended.stderr.contains("--server-stats") && ended.stderr.contains(words), "{ended:?}");
    }
    assert_eq!(case.server().stats().get("accepted"), before);
}

/// A network namespace, for as long as this value lives.
struct Host(Child);

impl Host {
    fn new() -> Self {
        let nowhere = || Stdio::null();
        let mut command = Command::new("unshare");
        command.args(["--net", "sleep", "300"]).stdin(nowhere()).stdout(nowhere());
        let host = Self(command.spawn().expect("unshare(1)"));
        let namespace = |process: &str| fs::read_link(format!("/proc/{process}/ns/net")).ok();
        let from = Instant::now();
        while namespace(&host.number()) == namespace("self") {
            assert!(from.elapsed() < GUARD, "no namespace of its own");
            std::thread::sleep(std::time::Duration::from_millis(2));
        }
        host
    }

    fn number(&self) -> String {
        self.0.id().to_string()
    }

    /// Runs ip(8) there.
    #[track_caller]
    fn ip(&self, words: &str) {
        let inside = ["-n", "-t", &self.number(), "ip"].map(String::from);
        let status =
            Command::new("nsenter").args(inside).args(words.split(' ')).status().expect("nsenter(1)");
        assert!(status.success(), "ip {words}");
    }

    fn up(&self, address: &str) {
        self.ip(&format!("address add {address}/24 dev wire"));
        self.ip("link set wire up");
        self.ip("link set lo up");
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Server and agent in one network namespace, the load in another, a wire between them.
fn two_hosts_work_as_one_does(case: &mut Case) {
    let (one, other) = (Host::new(), Host::new());
    one.ip(&format!("link add wire type veth peer name wire netns {}", other.number()));
    one.up("10.99.0.1");
    other.up("10.99.0.2");
    let (one, other) = (one.number(), other.number());
    let (here, there) = (["nsenter", "-n", "-t", &one], ["nsenter", "-n", "-t", &other]);
    let server = case.launch(&[]).through(&here).start().expect("it starts");
    let early = load(&there, "pingpong", "10.99.0.1:8888", "10.99.0.1:8889");
    assert!(early.code == Some(1) && early.stderr.contains("no agent is reached"), "{early:?}");
    let local = load(&there, "pingpong", "10.99.0.1:8888", "auto");
    assert!(local.code == Some(1) && local.stderr.contains("another network namespace"), "{local:?}");

    let agent = Launch::new(["load", "--agent", "10.99.0.1:8889"]).through(&here).spawn();
    assert_eq!(agent.next_line().as_deref(), Some("c10k agent on 10.99.0.1:8889"));
    let ended = load(&there, "pingpong", "10.99.0.1:8888", "10.99.0.1:8889");
    let (stats, whole) = result(&ended);
    let source = format!("process {}, through the agent at 10.99.0.1:8889", server.pid);
    assert_eq!(stats["source"], source);
    assert_plausible(&stats, &whole);
    assert!(stats["round_trip_us"].as_u64() > Some(0), "{stats}");

    agent.signal(Signal::SIGHUP);
    agent.signal(Signal::SIGTERM);
    let ended = agent.wait();
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(ended.stderr.contains("whoever can reach 10.99.0.1:8889"), "{ended:?}");
    assert_eq!(server.terminate(Signal::SIGTERM).code, Some(0));
}
