//! Rows about the account as others read it: from the server's memory file, without a word to the server.

use super::{Case, EVERYWHERE, Row, row, served};
use crate::client::{exchange, finish_cleanly};
use crate::server::{Account, Server};
use crate::skip::Need;
use c10k::load::server_stats::{self, Watched};
use c10k::result::shared_account::Sums;
use serde_json::{Value, json};
use std::time::Instant;

/// The rows.
pub fn rows() -> Vec<Row> {
    vec![
        row!(what_is_read_from_outside_is_what_the_server_says).on(EVERYWHERE),
        row!(over_a_window_exactly_what_was_exchanged_in_it_is_counted),
        row!(without_a_memory_file_it_serves_all_the_same).starts_its_own().needs(Need::Prlimit),
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
        assert!(from.elapsed() < crate::server::GUARD, "a server with nothing to do goes on counting");
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
    let stderr = server.stderr();
    assert!(stderr.contains("--server-stats") && stderr.contains("ulimit -f"), "{stderr}");
    let watched = Watched::open(u32::try_from(server.pid.as_raw()).expect("a pid")).expect("it runs");
    assert_eq!(watched.snapshot().expect("it runs").account, None);
}
