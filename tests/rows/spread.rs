//! Rows about one ring that accepts for all workers and hands connections on: they are spread evenly, no
//! socket is lost on its way, and none is left open.

use super::{Case, Row, Variant, row, scaled, served};
use crate::client::{Ending, Peer, crowd, exchange, finish_cleanly};
use crate::queues::wait_until_arrived;
use crate::server::Account;
use crate::skip::Need;
use nix::sys::signal::Signal;

/// The rows.
pub fn rows() -> Vec<Row> {
    let ways: [(&str, &'static [Variant]); 3] = [
        ("spread=msg-ring", &[Variant::Uring]),
        ("spread=msg-ring", &[Variant::UringDirect]),
        ("spread=msg-ring,taskrun=default", &[Variant::Uring]),
    ];
    let mut rows = Vec::new();
    for (features, variants) in ways {
        let on = |row: Row| row.named(features).features(features).on(variants);
        rows.push(on(row!(each_of_four_workers_has_a_quarter)).workers(4));
        rows.push(on(row!(who_comes_goes_to_whoever_has_the_fewest)).workers(3));
        rows.push(on(row!(a_stop_while_connections_are_handed_on_loses_none)).workers(4));
        rows.push(on(row!(a_single_worker_hands_nothing_on)).workers(1));
        let limited = on(row!(the_limit_is_one_over_all_workers)).with("--max-connections 20");
        rows.push(limited.workers(4));
    }
    let full = row!(through_a_full_table_they_come_to_a_worker_with_room).features("spread=msg-ring");
    rows.push(full.workers(2).on(&[Variant::UringDirect]).starts_its_own().needs(Need::Prlimit));
    rows
}

/// Connections of each worker: those it has accepted, and those that are open.
fn each(account: &Account, what: &str) -> Vec<u64> {
    let workers = account.0["workers"].as_array().expect("a share of each worker");
    workers.iter().map(|share| share[what].as_u64().expect("a number")).collect()
}

fn each_of_four_workers_has_a_quarter(case: &mut Case) {
    let peers = served(case.server(), 100);
    // The one who accepts may hear that the last is handed on after the other has served it.
    let account = case.server().wait_until("all are open, and counted", |account| {
        account.get("open") == 100 && account.get("handed_on") >= 75
    });
    let open = each(&account, "open");
    assert!(open.len() == 4 && open.iter().all(|open| open.abs_diff(25) <= 1), "{open:?}");
    assert_eq!(account.get("handed_on"), 75, "{}", account.0);
    assert_eq!(account.get("hands_failed"), 0, "{}", account.0);
    finish_cleanly(peers);
}

/// Whoever was alone with peers that stayed would fill up in turn.
fn who_comes_goes_to_whoever_has_the_fewest(case: &mut Case) {
    let mut peers = served(case.server(), 30);
    // Every third is with the same worker: it keeps none.
    let mut index = 0;
    peers.retain(|_| {
        index += 1;
        index % 3 != 0
    });
    case.server().wait_until("ten have left", |account| account.get("open") == 20);
    peers.extend(served(case.server(), 10));
    let account = case.server().wait_until("all are open", |account| account.get("open") == 30);
    let open = each(&account, "open");
    assert!(open.iter().all(|open| open.abs_diff(10) <= 1), "{open:?}");
    exchange(&mut peers, 1_000, 100);
    finish_cleanly(peers);
}

/// They are queued, accepted and on their way in the moment of the signal; each has sent already.
fn a_stop_while_connections_are_handed_on_loses_none(case: &mut Case) {
    for _ in 0..scaled(3, 20) {
        let server = case.take();
        server.signal(Signal::SIGSTOP);
        let mut peers = crowd(server.address(), 200);
        peers.iter_mut().for_each(|peer| peer.send(1_000));
        wait_until_arrived(&peers);
        // The first are served, and the others come while the stop begins.
        server.signal(Signal::SIGCONT);
        peers[0].receive(1_000);
        server.signal(Signal::SIGTERM);
        for peer in &mut peers {
            assert_eq!(peer.receive_to_end(), Ending::Clean);
            assert_eq!(peer.verified, peer.sent, "bytes had arrived before the stop and never came back");
        }
        let ended = server.wait();
        super::account_is_whole(&ended);
        let summary = ended.summary();
        assert_eq!((ended.code, summary.get("accepted"), summary.refused()), (Some(0), 200, 0));
        case.start();
    }
}

/// Each of the two workers has a table for 136, and all 272 are there. Then only the second has room.
fn through_a_full_table_they_come_to_a_worker_with_room(case: &mut Case) {
    const EACH: u64 = 136;
    let launch = case.launch(&["--max-connections", "272"]);
    case.adopt(launch.through(&["prlimit", "--nofile=200:200"]).start());
    let server = case.server();
    // One after the other: every second one is with the second worker.
    let (mut first, mut second) = (Vec::new(), Vec::new());
    for _ in 0..EACH {
        first.extend(served(server, 1));
        second.extend(served(server, 1));
    }
    for _ in 0..scaled(3, 50) {
        let full = server.wait_until("both are full", |account| each(account, "open") == [EACH; 2]);
        finish_cleanly(second.split_off(EACH as usize - 40));
        server.wait_until("forty have left", |account| each(account, "open") == [EACH, EACH - 40]);
        second.extend(served(server, 40));
        let account = server.wait_until("forty have come", |account| each(account, "open") == [EACH; 2]);
        assert_eq!((account.get("accepted") - full.get("accepted"), account.refused()), (40, 0));
    }
    first.append(&mut second);
    exchange(&mut first, 1_000, 100);
    finish_cleanly(first);
}

fn a_single_worker_hands_nothing_on(case: &mut Case) {
    let peers = served(case.server(), 20);
    assert_eq!(case.server().stats().get("handed_on"), 0);
    finish_cleanly(peers);
}

/// Who is beyond the limit is refused or waits; who leaves any worker lets the next one in.
fn the_limit_is_one_over_all_workers(case: &mut Case) {
    let mut peers = served(case.server(), 20);
    for _ in 0..scaled(20, 200) {
        peers.remove(0).finish_cleanly();
        case.server().wait_until("one has left", |account| account.get("open") == 19);
        let mut peer = Peer::connect(case.server().address());
        peer.exchange(100, 100);
        peers.push(peer);
        assert!(case.server().stats().get("open") <= 20);
    }
    finish_cleanly(peers);
}
