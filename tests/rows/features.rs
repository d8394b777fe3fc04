//! Rows that try every feature that can be typed, with one body that touches the whole contract.

use super::{Case, Row, Variant, is_long, row, scaled, served};
use crate::client::{Ending, Peer, SMALL, Shape, crowd, exchange, finish_cleanly};
use nix::sys::signal::Signal;
use std::time::Duration;

const URING: &[Variant] = &[Variant::Uring];
const EPOLL: &[Variant] = &[Variant::Epoll];

/// What is tried alone, and in pairs: values that are not the default.
const VALUES: [&str; 9] = [
    "accept=single",
    "recv=single",
    "files=direct",
    "taskrun=coop",
    "taskrun=default",
    "ring-fd=plain",
    "sqarray=on",
    "buffer-count=2",
    "sq=4,cq=4",
];

/// What is tried alone, and in pairs only at full size.
const MORE_VALUES: [&str; 17] = [
    "spread=msg-ring",
    "recv=poll",
    "buffers=owned",
    "buffers=classic",
    "buffers=incremental",
    "bundle=recv",
    "bundle=send",
    "bundle=both",
    "send=zc",
    "cqe-skip=on",
    "taskrun=sqpoll",
    "wait=min:8:200us",
    "poll-first=on",
    "recv-cap=1Ki",
    "no-iowait=on",
    "napi=20us",
    "buffer-size=1Ki",
];

/// Pairs that are refused by name.
const EXCLUDED: [(&str, &str); 26] = [
    ("recv=poll", "files=direct"),
    ("recv=poll", "poll-first=on"),
    ("recv=poll", "buffers=owned"),
    ("recv=poll", "buffers=classic"),
    ("recv=poll", "bundle=recv"),
    ("recv=poll", "buffers=incremental"),
    ("bundle=recv", "buffers=incremental"),
    ("bundle=recv", "buffers=owned"),
    ("bundle=recv", "buffers=classic"),
    ("recv=poll", "bundle=send"),
    ("bundle=send", "buffers=owned"),
    ("bundle=send", "send=zc"),
    ("recv=poll", "bundle=both"),
    ("bundle=both", "buffers=incremental"),
    ("bundle=both", "buffers=owned"),
    ("bundle=both", "buffers=classic"),
    ("bundle=both", "send=zc"),
    ("send=zc", "recv=poll"),
    ("send=zc", "buffers=owned"),
    ("send=zc", "buffers=incremental"),
    ("taskrun=sqpoll", "wait=min:8:200us"),
    ("recv=poll", "cqe-skip=on"),
    ("send=zc", "cqe-skip=on"),
    ("taskrun=sqpoll", "cqe-skip=on"),
    ("buffers=owned", "buffer-count=2"),
    // There is no room for so many completions.
    ("wait=min:8:200us", "sq=4,cq=4"),
];

/// Values of the other backend that are not the default: alone and in pairs.
const EPOLL_VALUES: [&str; 5] =
    ["trigger=edge", "read=drain", "threads=shared", "busy-poll=20us", "buffer-size=1Ki"];

/// The rows.
pub fn rows() -> Vec<Row> {
    let mut rows = vec![row!(what_does_not_go_together_is_refused_by_name).on(URING).starts_its_own()];
    let values: Vec<&str> = VALUES.into_iter().chain(MORE_VALUES).collect();
    for (index, first) in values.iter().enumerate() {
        rows.push(row!(each_feature_keeps_the_contract).named(first).features(first).on(URING));
        let others = values[index + 1..].iter().filter(|second| {
            let is_more = MORE_VALUES.contains(first) || MORE_VALUES.contains(second);
            dimension(first) != dimension(second) && !excludes(first, second) && (!is_more || is_long())
        });
        for second in others {
            let both = format!("{first},{second}");
            rows.push(row!(each_pair_of_features_keeps_the_contract).named(&both).features(&both).on(URING));
        }
    }
    for (index, first) in EPOLL_VALUES.iter().enumerate() {
        rows.push(row!(each_feature_keeps_the_contract).named(first).features(first).on(EPOLL));
        for second in &EPOLL_VALUES[index + 1..] {
            let both = format!("{first},{second}");
            rows.push(row!(each_pair_of_features_keeps_the_contract).named(&both).features(&both).on(EPOLL));
        }
    }
    for bundle in ["bundle=send", "bundle=both"] {
        let row = row!(buffers_that_wait_together_go_out_in_one_send).named(bundle).features(bundle);
        rows.push(row.features("buffer-size=64").workers(1).on(URING));
    }
    rows
}

fn excludes(first: &str, second: &str) -> bool {
    EXCLUDED.iter().any(|&pair| pair == (first, second) || pair == (second, first))
}

fn dimension(value: &str) -> &str {
    value.split('=').next().expect("a dimension")
}

/// F84 and the table of features: order, half-close, pressure, reset, many at once.
fn each_feature_keeps_the_contract(case: &mut Case) {
    let address = case.server().address();
    let mut peers = crowd(address, scaled(200, 2_000));
    exchange(&mut peers, 100, 10);
    exchange(&mut peers[..20], 200_000, 50_000);
    peers.drain(..50).for_each(Peer::reset);
    finish_cleanly(peers);
    contract_in_small(case);
}

/// F84: what is left out of the pairs is left out with a reason.
fn what_does_not_go_together_is_refused_by_name(case: &mut Case) {
    for (first, second) in EXCLUDED {
        let ended = case.launch(&["--uring", &format!("{first},{second}")]).end();
        assert!(matches!(ended.code, Some(2 | 6)), "{first},{second}: {ended:?}");
        let named =
            [first, second].iter().any(|value| ended.stderr.contains(&format!("{}=", dimension(value))));
        assert!(named, "{first},{second}: {}", ended.stderr);
    }
}

/// F84: every pair starts and serves.
fn each_pair_of_features_keeps_the_contract(case: &mut Case) {
    contract_in_small(case);
}

/// What arrived while the server was held fills many buffers at once: far fewer sends than receives bring it
/// back, in order.
fn buffers_that_wait_together_go_out_in_one_send(case: &mut Case) {
    const BYTES: u64 = 16 * 1024;
    let mut peers = served(case.server(), 4);
    let server = case.server();
    let before = server.wait_until("all are counted", |account| account.get("bytes_sent") == 4 * 64);
    for _ in 0..4 {
        server.signal(Signal::SIGSTOP);
        peers.iter_mut().for_each(|peer| peer.send(BYTES));
        server.signal(Signal::SIGCONT);
        peers.iter_mut().for_each(|peer| peer.receive(BYTES));
    }
    let total = 4 * 64 + 4 * 4 * BYTES;
    let after = server.wait_until("all are counted", |account| account.get("bytes_sent") == total);
    let more = |name| after.get(name) - before.get(name);
    // A receive brings a buffer: 64 bytes at most.
    assert!(more("receives") >= 4 * 4 * BYTES / 64, "{} receives", more("receives"));
    assert!(4 * more("sends") < more("receives"), "{} sends, {} receives", more("sends"), more("receives"));
    finish_cleanly(peers);
}

fn contract_in_small(case: &mut Case) {
    let address = case.server().address();
    // Not the smallest buffer: what is sent into that without a copy closes the window again and again, and
    // waits for the kernel's own timer each time (0.2 s for every 2 KB; measured).
    let shape = Shape { receive_buffer: Some(16 * 1024), ..SMALL };
    let mut stuck = Peer::connect_as(address, shape);
    let taken = stuck.send_until_stuck(4 * 1024 * 1024, Duration::from_millis(50));
    let mut peers = crowd(address, 20);
    exchange(&mut peers, 5_000, 1_000);
    peers.drain(..5).for_each(Peer::reset);
    finish_cleanly(peers);
    stuck.finish();
    assert_eq!(stuck.receive_to_end(), Ending::Clean);
    assert_eq!(stuck.verified, taken);
}
