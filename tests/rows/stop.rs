//! Rows about the stop: what had arrived is echoed, whoever goes on is cut by a limit, and the exit
//! code says which it was.

use super::{Case, Row, account_is_whole, row, scaled, served};
use crate::client::{Ending, Peer, SMALL, crowd, exchange};
use crate::queues::{wait_until_arrived, wait_until_unread};
use crate::server::{Ended, GUARD, Server};
use nix::sys::signal::Signal;
use std::io::ErrorKind;
use std::net::Shutdown;
use std::thread;
use std::time::{Duration, Instant};

/// The rows.
pub fn rows() -> Vec<Row> {
    vec![
        row!(a_stop_under_load_loses_nothing_that_had_arrived),
        row!(a_stop_while_peers_stream_resets_nobody_who_reads),
        row!(a_peer_that_never_closes_is_cut_at_the_linger_limit),
        row!(queued_connections_are_served_before_the_listener_closes),
        row!(idle_connections_end_at_once),
        // Longer than the linger limit: a healthy peer that is slow to close is not cut.
        row!(a_peer_that_never_reads_is_cut_at_the_drain_timeout).with("--drain-timeout 1500ms"),
        row!(a_second_sigterm_ends_it_at_once).with("--drain-timeout 10m"),
        row!(sigint_after_sigterm_ends_it_at_once).with("--drain-timeout 10m"),
        row!(sigint_drains_like_sigterm),
    ]
}

/// F87: messages have arrived when the signal comes, and every one is echoed.
fn a_stop_under_load_loses_nothing_that_had_arrived(case: &mut Case) {
    let mut peers = served(case.server(), scaled(100, 1_000));
    for peer in &mut peers {
        peer.send(4_000);
    }
    wait_until_arrived(&peers);
    let server = case.take();
    server.signal(Signal::SIGTERM);
    for peer in &mut peers {
        assert_eq!(peer.receive_to_end(), Ending::Clean);
        assert_eq!(peer.verified, peer.sent, "bytes had arrived before the stop and never came back");
    }
    drop(peers);
    let ended = server.wait();
    account_is_whole(&ended);
    assert_eq!(ended.code, Some(0));
    let summary = ended.summary();
    assert_eq!(summary.0["ended"], "drained");
    assert_eq!(summary.get("bytes_sent"), summary.get("bytes_received"));
}

/// F20: peers stream while the signal comes. Each reads everything the server counted as sent, then
/// the server's FIN; no reset destroys it, though unread bytes go on arriving.
fn a_stop_while_peers_stream_resets_nobody_who_reads(case: &mut Case) {
    let ended = stopped_while_they_stream(case, 20, |_| {});
    assert_eq!(ended.summary().0["ended"], "drained");
}

/// F21: they go on sending after our FIN; that is discarded for the linger limit, then cut and counted.
fn a_peer_that_never_closes_is_cut_at_the_linger_limit(case: &mut Case) {
    let from = Instant::now();
    let ended = stopped_while_they_stream(case, 5, |peer| {
        // Sends without end, until nobody is there.
        while !matches!(peer.try_send(1000), Err(error) if error.kind() != ErrorKind::WouldBlock) {
            assert!(from.elapsed() < GUARD, "it was never cut");
            thread::sleep(Duration::from_millis(1));
        }
    });
    let summary = ended.summary();
    assert!(summary.get("linger_timeout") > 0, "nobody was cut: {}", summary.0);
    assert!(summary.get("bytes_discarded") > 0, "{}", summary.0);
    assert!(from.elapsed() >= Duration::from_millis(900), "cut before the linger limit");
}

/// Stops the server while `count` peers stream; `afterwards` is what each does after the server's FIN.
fn stopped_while_they_stream(case: &mut Case, count: usize, afterwards: impl Fn(&mut Peer) + Sync) -> Ended {
    let mut peers = served(case.server(), count);
    let server = case.take();
    let afterwards = &afterwards;
    let verified: u64 = thread::scope(|scope| {
        let stream = |peer: &mut Peer| {
            stream_to_end(peer);
            afterwards(peer);
            let _ = peer.stream.shutdown(Shutdown::Both);
            peer.verified
        };
        let streams: Vec<_> = peers.iter_mut().map(|peer| scope.spawn(move || stream(peer))).collect();
        server.wait_until("all stream", |account| account.get("bytes_sent") > count as u64 * 50_000);
        // They stream into a stopped process, until something has arrived of each when it learns of its end.
        server.signal(Signal::SIGSTOP);
        wait_until_unread(server.address(), count);
        server.signal(Signal::SIGTERM);
        server.signal(Signal::SIGCONT);
        streams.into_iter().map(|stream| stream.join().expect("no panic")).sum()
    });
    let ended = server.wait();
    account_is_whole(&ended);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert_eq!(verified, ended.summary().get("bytes_sent"), "sent and never received");
    ended
}

/// Sends all the time and reads everything, up to the server's FIN.
fn stream_to_end(peer: &mut Peer) {
    peer.stream.set_nonblocking(true).expect("a socket");
    let from = Instant::now();
    loop {
        assert!(from.elapsed() < GUARD, "no end came");
        let room = (256 * 1024u64).saturating_sub(peer.sent - peer.verified).min(16 * 1024);
        let _ = peer.try_send(room);
        match peer.receive_some(usize::MAX) {
            Ok(None) => {}
            Ok(Some(ending)) => {
                assert_eq!(ending, Ending::Clean, "a reset destroyed what was on its way");
                return;
            }
            Err(_) => thread::sleep(Duration::from_micros(200)),
        }
    }
}

/// F30: the handshake is done and bytes have arrived, the server has not looked: it serves them.
fn queued_connections_are_served_before_the_listener_closes(case: &mut Case) {
    let server = case.take();
    server.signal(Signal::SIGSTOP);
    let mut peers = crowd(server.address(), 50);
    for peer in &mut peers {
        peer.send(1000);
    }
    wait_until_arrived(&peers);
    server.signal(Signal::SIGTERM);
    server.signal(Signal::SIGCONT);
    for peer in &mut peers {
        assert_eq!(peer.receive_to_end(), Ending::Clean, "a queued connection was reset");
        assert_eq!(peer.verified, 1000, "bytes had arrived before the stop and never came back");
    }
    drop(peers);
    let ended = server.wait();
    account_is_whole(&ended);
    assert_eq!((ended.code, ended.summary().get("accepted")), (Some(0), 50));
}

/// Nothing arrived and nothing owed: closed at once, cleanly.
fn idle_connections_end_at_once(case: &mut Case) {
    let peers = served(case.server(), scaled(1_000, 4_000));
    // Idle is who has been for more than the moment in which its last bytes are delivered.
    thread::sleep(Duration::from_millis(300));
    let count = peers.len() as u64;
    let ended = case.end(Signal::SIGTERM);
    assert_eq!(ended.code, Some(0));
    assert_eq!(ended.summary().get("stopped"), count);
    for mut peer in peers {
        assert_eq!(peer.receive_to_end(), Ending::Clean);
    }
}

/// A connection that is owed something and takes nothing. A server that had no time for a moment owes nothing
/// yet.
fn stuck(server: &Server) -> Peer {
    let mut peer = Peer::connect_as(server.address(), SMALL);
    server.wait_until("it is owed something", |_| {
        peer.send_until_stuck(64 * 1024 * 1024, Duration::from_millis(200));
        let account = server.stats();
        account.get("bytes_received") > account.get("bytes_sent")
    });
    peer
}

/// F88: the drain time runs out: exit 7, and who was cut is counted.
fn a_peer_that_never_reads_is_cut_at_the_drain_timeout(case: &mut Case) {
    let stuck = stuck(case.server());
    let mut healthy = served(case.server(), 5);
    healthy.iter_mut().for_each(|peer| peer.send(1000));
    wait_until_arrived(&healthy);
    let server = case.take();
    let from = Instant::now();
    server.signal(Signal::SIGTERM);
    for peer in &mut healthy {
        assert_eq!((peer.receive_to_end(), peer.verified), (Ending::Clean, 1064));
    }
    drop(healthy);
    let ended = server.wait();
    assert!(from.elapsed() >= Duration::from_millis(1_490), "cut before the drain timeout");
    account_is_whole(&ended);
    assert_eq!(ended.code, Some(7), "{ended:?}");
    let summary = ended.summary();
    assert_eq!((&summary.0["ended"], summary.get("cut")), (&"cut".into(), 1));
    drop(stuck);
}

/// F89: the second signal does not wait for the drain time.
fn a_second_sigterm_ends_it_at_once(case: &mut Case) {
    ended_by_a_second(case, Signal::SIGTERM);
}

/// F89: the same with SIGINT.
fn sigint_after_sigterm_ends_it_at_once(case: &mut Case) {
    ended_by_a_second(case, Signal::SIGINT);
}

fn ended_by_a_second(case: &mut Case, second: Signal) {
    let stuck = stuck(case.server());
    let server = case.take();
    server.signal(Signal::SIGTERM);
    // The first has been obeyed when nobody is let in any more.
    let from = Instant::now();
    while std::net::TcpStream::connect(server.address()).is_ok() {
        assert!(from.elapsed() < GUARD, "the listener stayed open");
        thread::sleep(Duration::from_millis(2));
    }
    assert!(server.is_alive(), "it did not wait for the one it owes");
    let from = Instant::now();
    let ended = server.terminate(second);
    assert!(from.elapsed() < Duration::from_secs(2), "{:?} after the second signal", from.elapsed());
    account_is_whole(&ended);
    assert_eq!(ended.code, Some(7), "{ended:?}");
    assert_eq!((&ended.summary().0["ended"], ended.summary().get("cut")), (&"cut".into(), 1));
    drop(stuck);
}

/// SIGINT is SIGTERM.
fn sigint_drains_like_sigterm(case: &mut Case) {
    let mut peers = served(case.server(), 5);
    exchange(&mut peers, 1000, 1000);
    let ended = case.end(Signal::SIGINT);
    assert_eq!((ended.code, &ended.summary().0["ended"]), (Some(0), &"drained".into()));
}
