//! Rows about peers that do not take what they are owed: what they hold is bounded, they take nothing
//! from others, and everything comes when they read at last.

use super::{Case, Row, row, scaled, served};
use crate::client::{Peer, SMALL, Shape, exchange, finish_cleanly};
use crate::server::{GUARD, Server};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// The rows.
pub fn rows() -> Vec<Row> {
    vec![
        row!(who_reads_only_after_writing_gets_everything),
        row!(a_peer_that_never_reads_is_closed_and_disturbs_nobody).with("--write-timeout 500ms"),
        row!(stuck_peers_hold_no_shared_buffers),
        row!(beyond_the_spill_limit_the_longest_stuck_are_closed).with("--spill-limit 64Ki"),
        row!(a_flooding_peer_starves_nobody),
        row!(a_flooding_peer_that_never_reads_starves_nobody),
        row!(a_short_send_goes_on_at_the_right_byte).with("--unsent-limit 4Ki"),
    ]
}

/// A peer that takes nothing for this long is stuck: the server has stopped reading it.
const QUIET: Duration = Duration::from_millis(200);
const MEBIBYTE: u64 = 1024 * 1024;

/// F05: writes until the server stops reading, and reads only then.
fn who_reads_only_after_writing_gets_everything(case: &mut Case) {
    let server = case.server();
    let mut peer = Peer::connect(server.address());
    let taken = peer.send_until_stuck(64 * MEBIBYTE, QUIET);
    assert!(taken < 64 * MEBIBYTE, "the server took everything a peer sent that reads nothing");
    let account = server.stats();
    let held = account.get("bytes_received") - account.get("bytes_sent");
    assert!(held <= 256 * 1024, "{held} bytes are held for one peer");
    peer.receive(taken);
    peer.exchange(MEBIBYTE, 64 * 1024);
    peer.finish_cleanly();
}

/// F06: peers that write until blocked and never read, beside healthy ones.
fn a_peer_that_never_reads_is_closed_and_disturbs_nobody(case: &mut Case) {
    let server = case.server();
    let count = scaled(50, 1_000);
    let from = Instant::now();
    let mut healthy = served(server, 10);
    let mut stuck = never_readers(server, count);
    loop {
        push(&mut stuck);
        exchange(&mut healthy, 64 * 10, 64);
        let account = server.stats();
        if (account.get("write_timeout") + account.get("spill_full")) as usize == count {
            break;
        }
        assert!(from.elapsed() < GUARD, "not all stuck peers were closed: {}", account.0);
    }
    finish_cleanly(healthy);
    drop(stuck);
}

/// Peers that never read, for [`push`].
fn never_readers(server: &Server, count: usize) -> Vec<Peer> {
    let peers: Vec<Peer> = (0..count).map(|_| Peer::connect_as(server.address(), SMALL)).collect();
    peers.iter().for_each(|peer| peer.stream.set_nonblocking(true).expect("a socket"));
    peers
}

/// Each sends whatever the kernel takes now; an end is no news.
fn push(peers: &mut [Peer]) {
    for peer in peers {
        let _ = peer.try_send(MEBIBYTE);
    }
}

/// F06, F55: more stuck peers than there are shared buffers for; all of it comes in the end.
fn stuck_peers_hold_no_shared_buffers(case: &mut Case) {
    let server = case.server();
    let count = scaled(300, 1_000);
    let mut stuck = never_readers(server, count);
    let mut healthy = served(server, 20);
    for _ in 0..10 {
        push(&mut stuck);
        exchange(&mut healthy, 64 * 20, 64);
    }
    finish_cleanly(healthy);
    for peer in &mut stuck {
        peer.stream.set_nonblocking(false).expect("a socket");
        peer.receive(peer.sent);
    }
    finish_cleanly(stuck);
}

/// Beyond the spill area somebody has to go, and it is counted; everybody else has it all.
fn beyond_the_spill_limit_the_longest_stuck_are_closed(case: &mut Case) {
    let server = case.server();
    let from = Instant::now();
    let mut healthy = served(server, 10);
    let mut stuck = never_readers(server, scaled(60, 500));
    let mut closed = 0;
    while closed == 0 {
        push(&mut stuck);
        exchange(&mut healthy, 64, 64);
        let account = server.stats();
        assert!(account.get("spilled") <= 64 * 1024, "the spill area is over its limit");
        assert!(from.elapsed() < GUARD, "nobody was closed for it: {}", account.0);
        closed = account.get("spill_full");
    }
    finish_cleanly(healthy);
    drop(stuck);
}

/// F55: one peer at full speed beside a hundred with one message each on its way.
fn a_flooding_peer_starves_nobody(case: &mut Case) {
    flooded(case, |peer| {
        peer.try_send(64 * 1024).is_ok() && {
            let before = peer.verified;
            while peer.verified < before + 32 * 1024 {
                match peer.receive_some(usize::MAX) {
                    Ok(None) => {}
                    _ => return false,
                }
            }
            true
        }
    });
}

/// F55: the same, and the flooder never reads.
fn a_flooding_peer_that_never_reads_starves_nobody(case: &mut Case) {
    flooded(case, |peer| {
        peer.send_until_stuck(64 * MEBIBYTE, Duration::from_millis(50));
        true
    });
}

/// Every healthy connection completes its exchanges while the flooder runs; that is the gate.
fn flooded(case: &mut Case, flood: impl Fn(&mut Peer) -> bool + Sync) {
    let server = case.server();
    let mut healthy = served(server, 100);
    let done = AtomicBool::new(false);
    let turns = [AtomicUsize::new(0), AtomicUsize::new(0)];
    thread::scope(|scope| {
        for turns in &turns {
            let (done, flood) = (&done, &flood);
            scope.spawn(move || {
                let mut peer = Peer::connect(server.address());
                while !done.load(Ordering::Relaxed) {
                    assert!(flood(&mut peer), "the flooder was thrown out");
                    turns.fetch_add(1, Ordering::Relaxed);
                }
                peer.receive(peer.sent - peer.verified);
                peer.finish_cleanly();
            });
        }
        // Until both have had a turn: before that nobody floods.
        let from = Instant::now();
        let result = loop {
            let result = crate::client::try_exchange(&mut healthy, 64 * scaled(50, 2_000) as u64, 64);
            let flooded = turns.iter().all(|turns| turns.load(Ordering::Relaxed) > 0);
            if result.is_err() || flooded || from.elapsed() > GUARD {
                break result;
            }
        };
        done.store(true, Ordering::Relaxed);
        result.unwrap_or_else(|wrong| panic!("beside a flooder: {wrong}"));
    });
    assert!(turns.into_iter().all(|turns| turns.into_inner() > 0), "a flooder never ran");
    finish_cleanly(healthy);
}

/// F36: slow readers with tiny buffers, so that the kernel takes only a part, again and again.
fn a_short_send_goes_on_at_the_right_byte(case: &mut Case) {
    let server = case.server();
    let shape = Shape { receive_buffer: Some(2048), send_buffer: None };
    let mut peers: Vec<Peer> = (0..20).map(|_| Peer::connect_as(server.address(), shape)).collect();
    exchange(&mut peers, 300_000, 256 * 1024);
    for peer in &mut peers {
        peer.send_until_stuck(MEBIBYTE, Duration::from_millis(20));
    }
    for peer in &mut peers {
        while peer.verified < peer.sent {
            assert_eq!(peer.receive_some(777).expect("bytes"), None);
        }
    }
    assert!(server.stats().get("short_sends") > 0, "no send was short: the row shows nothing");
    finish_cleanly(peers);
}
