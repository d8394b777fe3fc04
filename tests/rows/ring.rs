//! Rows about a ring with hardly any room: queues of four, a pool of two. Everything is served, only
//! slower, and nobody waits for ever or spins.

use super::{Case, RINGS, Row, row, scaled, served};
use crate::client::{Peer, crowd, exchange, finish_cleanly};
use nix::sys::signal::Signal;
use std::thread;
use std::time::Duration;

/// The rows.
pub fn rows() -> Vec<Row> {
    let tiny_queues = "sq=4,cq=4";
    let tiny_pool = "buffer-count=2,buffer-size=64";
    let on_rings = |row: Row| row.on(RINGS);
    [
        row!(a_terminal_accept_with_a_connection_is_served).features(tiny_queues),
        row!(an_overflowing_completion_queue_loses_nothing).features(tiny_queues),
        row!(a_tiny_submission_queue_drops_nothing).features("sq=1,cq=2"),
        row!(thousands_are_served_through_queues_of_four).features(tiny_queues),
        row!(an_empty_pool_starves_nobody).features(tiny_pool),
        row!(an_empty_pool_does_not_spin).features(tiny_pool),
        row!(endings_with_an_empty_pool_free_everything).features("buffer-count=2"),
        row!(everything_tiny_at_once_still_echoes).features("sq=4,cq=4,buffer-count=2"),
    ]
    .map(on_rings)
    .into()
}

/// F28: the accepts' completions do not fit: the last one of a multishot may carry a connection.
fn a_terminal_accept_with_a_connection_is_served(case: &mut Case) {
    let server = case.server();
    server.signal(Signal::SIGSTOP);
    let mut peers = crowd(server.address(), 200);
    server.signal(Signal::SIGCONT);
    exchange(&mut peers, 100, 100);
    assert_eq!(server.stats().get("accepted"), 200);
    finish_cleanly(peers);
}

/// F48: a burst from hundreds, and a stop under load, with a completion queue of four.
fn an_overflowing_completion_queue_loses_nothing(case: &mut Case) {
    let server = case.server();
    let mut peers = served(server, 500);
    for _ in 0..scaled(2, 20) {
        server.signal(Signal::SIGSTOP);
        for peer in &mut peers {
            peer.send(100);
        }
        // Bytes were sent to a stopped process: they have arrived, for loopback delivers at once.
        server.signal(Signal::SIGCONT);
        peers.iter_mut().for_each(|peer| peer.receive(100));
    }
    exchange(&mut peers, 20_000, 8_000);
    assert!(server.stats().get("overflows") > 0, "nothing overflowed: the row shows nothing");
    finish_cleanly(peers);
}

/// F52: a submission queue that is full at every push.
fn a_tiny_submission_queue_drops_nothing(case: &mut Case) {
    let mut peers = crowd(case.server().address(), 200);
    exchange(&mut peers, 10_000, 3_000);
    finish_cleanly(peers);
}

/// F48, F52: thousands of connections through queues of four.
fn thousands_are_served_through_queues_of_four(case: &mut Case) {
    let server = case.server();
    let mut peers = served(server, scaled(2_000, 4_000));
    exchange(&mut peers, 500, 200);
    assert_eq!(server.stats().get("open") as usize, peers.len());
    finish_cleanly(peers);
}

/// F53: two buffers of 64 bytes, hundreds of connections.
fn an_empty_pool_starves_nobody(case: &mut Case) {
    let server = case.server();
    let mut peers = served(server, scaled(500, 2_000));
    exchange(&mut peers, 1_000, 500);
    finish_cleanly(peers);
}

/// F53, F54: nearly everybody is silent, and some talk through two buffers. The silent ones cost no
/// calls, not even while they wait for a buffer with nothing to receive.
fn an_empty_pool_does_not_spin(case: &mut Case) {
    let server = case.server();
    let silent = crowd(server.address(), 490);
    let mut busy = served(server, 10);
    let before = server.stats();
    exchange(&mut busy, 20_000, 4_000);
    let after = server.stats();
    let chunks = 10 * 20_000 / 64;
    let calls = after.get("system_calls") - before.get("system_calls");
    assert!(calls <= 20 * chunks, "{calls} system calls for {chunks} chunks of 64 bytes");
    thread::sleep(Duration::from_millis(300));
    let quiet = server.stats().get("system_calls") - after.get("system_calls");
    assert!(quiet <= 40, "{quiet} system calls with nothing to do");
    finish_cleanly(busy);
    finish_cleanly(silent);
}

/// F56: halves, resets and closes by peers that wait for a buffer, or just got one.
fn endings_with_an_empty_pool_free_everything(case: &mut Case) {
    let server = case.server();
    let mut random = fastrand::Rng::with_seed(56);
    let count = scaled(400, 4_000);
    let mut peers = crowd(server.address(), count);
    for peer in &mut peers {
        peer.send(random.u64(1..20_000));
    }
    for mut peer in peers {
        match random.u8(0..5) {
            0 => peer.reset(),
            1 => drop(peer),
            2 => {
                peer.finish();
                peer.reset();
            }
            3 => {
                peer.receive(random.u64(1..=peer.sent));
                peer.reset();
            }
            _ => peer.finish_cleanly(),
        }
    }
    server.wait_until("all are gone", |account| account.closed() as usize == count);
}

/// F48, F52, F53 together.
fn everything_tiny_at_once_still_echoes(case: &mut Case) {
    let mut peers: Vec<Peer> = served(case.server(), 300);
    exchange(&mut peers, 10_000, 5_000);
    finish_cleanly(peers);
}
