//! Rows about how a connection ends: by half, by reset, with something still owed.

use super::{Case, Row, row, scaled, served};
use crate::client::{Ending, Peer, SMALL, crowd, exchange};
use nix::sys::signal::Signal;
use std::io::Write;
use std::net::Shutdown;
use std::thread;
use std::time::Duration;

/// The rows.
pub fn rows() -> Vec<Row> {
    vec![
        row!(a_half_closed_peer_still_gets_its_bytes),
        row!(a_half_close_with_a_full_pipe_loses_nothing).with("--write-timeout 20s"),
        row!(a_peer_that_reads_no_more_and_writes_on_is_freed),
        row!(a_reset_while_idle_frees_the_connection),
        row!(a_reset_in_the_middle_of_a_send_frees_everything),
        row!(a_reset_before_the_accept_is_survived),
        row!(a_write_to_a_closed_peer_kills_nobody),
        row!(data_comes_before_the_end_and_the_end_is_noticed_once),
    ]
}

/// F07: any length, then our FIN; everything comes back, then the server's.
fn a_half_closed_peer_still_gets_its_bytes(case: &mut Case) {
    let address = case.server().address();
    let mut random = fastrand::Rng::with_seed(7);
    let powers = (9..=17).map(|bits| 1u64 << bits);
    let edges = powers.flat_map(|size| [size - 1, size, size + 1, 3 * size]);
    let largest = scaled(1, 10) as u64 * 1024 * 1024;
    let chosen = (0..10).map(|_| random.u64(0..largest));
    for length in [0, 1, 2].into_iter().chain(edges).chain(chosen) {
        let mut peer = Peer::connect(address);
        let stream = peer.stream.try_clone().expect("a descriptor");
        let mut writer = Peer { stream, payload: peer.payload, sent: 0, verified: 0 };
        thread::scope(|scope| {
            scope.spawn(move || {
                writer.send(length);
                writer.finish();
            });
            assert_eq!(peer.receive_to_end(), Ending::Clean, "{length} bytes, then our FIN");
        });
        assert_eq!(peer.verified, length, "bytes that were sent before our FIN never came back");
    }
}

/// F08: the FIN stands behind more than the server can pass on; it must not cancel what is owed.
fn a_half_close_with_a_full_pipe_loses_nothing(case: &mut Case) {
    let server = case.server();
    let mut peers: Vec<Peer> = (0..32).map(|_| Peer::connect_as(server.address(), SMALL)).collect();
    for (index, peer) in peers.iter_mut().enumerate() {
        // Some so little that the server has the FIN before it could send, some until blocked.
        let limit = if index % 2 == 0 { 100_000 } else { u64::from(u32::MAX) };
        peer.send_until_stuck(limit, Duration::from_millis(20));
        peer.finish();
    }
    // The server meets the FIN while the peer reads nothing. It has no event of its own for that.
    thread::sleep(Duration::from_millis(scaled(100, 1_000) as u64));
    // The last first: whoever waits for its turn behind those who do not read yet would wait for ever.
    for mut peer in peers.into_iter().rev() {
        assert_eq!(peer.receive_to_end(), Ending::Clean);
        assert_eq!(peer.verified, peer.sent, "the FIN cancelled what was owed");
    }
}

/// F09: SHUT_RD, 1 MiB more, close.
fn a_peer_that_reads_no_more_and_writes_on_is_freed(case: &mut Case) {
    let server = case.server();
    for _ in 0..10 {
        let mut peer = Peer::connect(server.address());
        peer.exchange(1000, 1000);
        peer.stream.shutdown(Shutdown::Read).expect("a connected socket");
        peer.send_until_stuck(1024 * 1024, Duration::from_millis(50));
    }
    server.wait_until("all are gone", |account| account.closed() == 10);
}

/// F10: a reset of a connection at rest is counted, not reported.
fn a_reset_while_idle_frees_the_connection(case: &mut Case) {
    let server = case.server();
    served(server, 50).into_iter().for_each(Peer::reset);
    server.wait_until("all are counted", |account| account.get("peer_reset") == 50);
    assert_eq!(server.stderr(), "", "a reset is not worth a line");
}

/// F11: a reset while the server sends.
fn a_reset_in_the_middle_of_a_send_frees_everything(case: &mut Case) {
    let server = case.server();
    let count = scaled(40, 500);
    for _ in 0..count {
        let mut peer = Peer::connect(server.address());
        peer.send_until_stuck(8 * 1024 * 1024, Duration::from_millis(5));
        peer.reset();
    }
    server.wait_until("all are counted", |account| account.get("peer_reset") as usize == count);
    assert_eq!(server.stderr(), "", "a reset is not worth a line");
}

/// F12: connected and reset before the server could look.
fn a_reset_before_the_accept_is_survived(case: &mut Case) {
    let server = case.server();
    server.signal(Signal::SIGSTOP);
    crowd(server.address(), 20).into_iter().for_each(Peer::reset);
    let mut alive = crowd(server.address(), 20);
    server.signal(Signal::SIGCONT);
    exchange(&mut alive, 1000, 1000);
    server.wait_until("all are accounted for", |account| {
        account.get("accepted") + account.get("refused_aborted") == 40 && account.get("open") == 20
    });
}

/// F13: the echo meets a closed socket. SIGPIPE kills by default, and so may a launcher leave it.
fn a_write_to_a_closed_peer_kills_nobody(case: &mut Case) {
    // Replaces the server of the row by one whose launcher put SIGPIPE back to its default.
    let ended = case.end(Signal::SIGTERM);
    assert_eq!(ended.code, Some(0));
    let launcher = ["env", "--default-signal=PIPE"];
    case.adopt(case.launch(&[]).through(&launcher).start());
    let server = case.server();
    let count = scaled(100, 2_000);
    for _ in 0..count {
        let mut peer = Peer::connect(server.address());
        peer.send(20_000);
        // What comes back meets no reader: a reset, and every further send is EPIPE.
    }
    server.wait_until("all are gone", |account| account.closed() as usize == count);
}

/// F35: the bytes and the FIN arrive together. All bytes first, then the end, and then quiet: at most
/// ten calls for the end of a connection.
fn data_comes_before_the_end_and_the_end_is_noticed_once(case: &mut Case) {
    let server = case.server();
    let count = 200;
    let peers = served(server, count);
    let before = server.stats().get("system_calls");
    for (index, mut peer) in peers.into_iter().enumerate() {
        let mut bytes = [0; 100];
        peer.payload.fill(peer.sent, &mut bytes);
        peer.stream.write_all(&bytes).expect("room for it");
        peer.sent += 100;
        peer.finish();
        if index % 2 == 0 {
            assert_eq!(peer.receive_to_end(), Ending::Clean);
            assert_eq!(peer.verified, peer.sent, "the end came before the bytes");
        } else {
            peer.reset();
        }
    }
    let account = server.wait_until("all are gone", |account| account.closed() as usize == count);
    let calls = account.get("system_calls") - before;
    assert!(calls <= 10 * count as u64, "{calls} system calls for {count} endings");
    // And nobody spins on a dead one.
    thread::sleep(Duration::from_millis(200));
    let later = server.stats().get("system_calls") - before;
    assert!(later <= calls + 20, "{} system calls with nobody connected", later - calls);
}
