//! Rows about what a peer sends and when: bytes of any kind, size and pace come back, in order.

use super::{Case, Row, Variant, row, scaled, served};
use crate::client::{Peer, crowd, exchange, finish_cleanly};
use crate::server::Account;
use nix::sys::signal::Signal;
use socket2::{SockRef, TcpKeepalive};
use std::io::{Read, Write};
use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, Instant};

/// The rows.
pub fn rows() -> Vec<Row> {
    vec![
        row!(echoes_in_order),
        row!(a_silent_peer_costs_no_buffer_and_is_closed_at_the_idle_timeout).with("--idle-timeout 1s"),
        row!(a_peer_that_connects_and_leaves_leaves_nothing_behind),
        row!(single_bytes_come_back_in_order),
        row!(a_large_burst_comes_back_whole),
        row!(a_stream_longer_than_four_gibibytes_is_counted_right),
        row!(keepalive_probes_and_empty_sends_are_no_events).with("--keepalive 1s"),
        row!(bytes_behind_an_urgent_one_come_back_with_those_before_it).on(TOLD_OF_MARKS),
        row!(hostile_content_is_only_bytes),
        row!(a_reused_slot_gets_no_byte_of_the_last_peer),
    ]
}

/// F14: many messages of 1 to 70,000 bytes without waiting.
fn echoes_in_order(case: &mut Case) {
    let mut sizes = fastrand::Rng::with_seed(14);
    let mut peer = Peer::connect(case.server().address());
    let messages: Vec<u64> = (0..scaled(300, 10_000)).map(|_| sizes.u64(1..=70_000)).collect();
    let total = messages.iter().sum();
    let mut writer = Peer { stream: peer.stream.try_clone().expect("a descriptor"), ..peer };
    thread::scope(|scope| {
        scope.spawn(|| messages.iter().for_each(|&size| writer.send(size)));
        peer.receive(total);
    });
    peer.sent = total;
    peer.finish_cleanly();
}

/// F01: connect, send nothing, stay. Not closed early, holds no buffer, disturbs nobody.
fn a_silent_peer_costs_no_buffer_and_is_closed_at_the_idle_timeout(case: &mut Case) {
    let server = case.server();
    let count = scaled(200, 4_000);
    let mut active = Peer::connect(server.address());
    let from = Instant::now();
    let mut silent = Vec::new();
    while silent.len() < count {
        silent.extend(crowd(server.address(), 50.min(count - silent.len())));
        active.exchange(10, 10);
    }
    let closed = |account: &Account| account.get("idle_timeout") as usize;
    server.wait_until("all are open, or closed since", |account| {
        active.exchange(10, 10);
        account.get("open") as usize + closed(account) == count + 1
    });
    // The active one may have its echo before the server has its buffer back.
    server.wait_until("no silent peer holds a buffer", |account| account.get("lent") == 0);
    server.wait_until("all silent peers are closed", |account| {
        active.exchange(10, 10);
        closed(account) == count
    });
    for peer in &mut silent {
        assert_eq!(peer.receive_to_end(), crate::client::Ending::Clean);
    }
    // A tick is a millisecond and may have begun just before.
    assert!(from.elapsed() >= Duration::from_millis(998), "closed before the idle timeout");
    active.exchange(1000, 1000);
    active.finish_cleanly();
}

/// F02: connect, then close at once.
fn a_peer_that_connects_and_leaves_leaves_nothing_behind(case: &mut Case) {
    let server = case.server();
    let count = scaled(2_000, 100_000);
    for _ in 0..count {
        drop(Peer::connect(server.address()));
    }
    let account = server.wait_until("all were accepted and are gone", |account| {
        (account.get("accepted") + account.refused()) as usize == count && account.get("open") == 0
    });
    assert_eq!(account.closed(), account.get("accepted"));
    assert_eq!(server.stderr(), "", "a peer that leaves is not worth a line");
}

/// F03: one byte at a time.
fn single_bytes_come_back_in_order(case: &mut Case) {
    let mut peers = crowd(case.server().address(), scaled(50, 500));
    // Alone and waited for, then many single bytes on their way.
    exchange(&mut peers, 50, 1);
    for _ in 0..scaled(200, 1_000) {
        peers.iter_mut().for_each(|peer| peer.send(1));
    }
    let sent = peers[0].sent;
    peers.iter_mut().for_each(|peer| peer.receive(sent - peer.verified));
    let account = case.server().wait_until("no buffer is held", |account| account.get("lent") == 0);
    assert_eq!(account.get("spilled"), 0);
    finish_cleanly(peers);
}

/// F04: a burst with a concurrent reader, while others go on.
fn a_large_burst_comes_back_whole(case: &mut Case) {
    let bytes = scaled(8, 64) as u64 * 1024 * 1024;
    let mut others = served(case.server(), 10);
    let mut peer = Peer::connect(case.server().address());
    thread::scope(|scope| {
        scope.spawn(|| exchange(&mut others, 64 * 500, 64));
        peer.exchange(bytes, u64::MAX);
    });
    peer.finish_cleanly();
    finish_cleanly(others);
}

/// F19: more than 4 GiB on one connection, in the long tests; a large part of a window otherwise.
fn a_stream_longer_than_four_gibibytes_is_counted_right(case: &mut Case) {
    let bytes = scaled(4, 4608) as u64 * 1024 * 1024;
    let mut peer = Peer::connect(case.server().address());
    peer.exchange(bytes, 1024 * 1024);
    peer.finish_cleanly();
    let account = case.server().wait_until("it is gone", |account| account.get("open") == 0);
    assert_eq!((account.get("bytes_received"), account.get("bytes_sent")), (bytes, bytes));
}

/// F16: keepalive probes from both sides and sends of nothing bring no event and close nothing.
fn keepalive_probes_and_empty_sends_are_no_events(case: &mut Case) {
    let server = case.server();
    let mut peer = served(server, 1).remove(0);
    let keepalive =
        TcpKeepalive::new().with_time(Duration::from_secs(1)).with_interval(Duration::from_secs(1));
    SockRef::from(&peer.stream).set_tcp_keepalive(&keepalive).expect("a connected socket");
    let before = server.stats();
    // The probes are the kernel's: there is no event to wait for, only their interval.
    for _ in 0..scaled(3, 10) {
        assert_eq!(peer.stream.write(&[]).expect("a connected socket"), 0);
        thread::sleep(Duration::from_millis(800));
    }
    let after = server.stats();
    assert_eq!(after.get("receives"), before.get("receives"));
    assert_eq!(after.get("open"), 1);
    peer.exchange(1000, 1000);
    peer.finish_cleanly();
}

/// Who hears of an urgent mark, or asks again after every receive. A multishot receive of the kernel does not: it
/// takes its connection for empty where the mark stands, and what lies behind waits for the next byte, or the end.
const TOLD_OF_MARKS: &[Variant] =
    &[Variant::UringOwned, Variant::UringPoll, Variant::Epoll, Variant::EpollShared];

/// F15: a receive ends before an urgent byte, and what lies behind it is echoed with no further byte sent.
/// The urgent byte itself is none of the stream's.
fn bytes_behind_an_urgent_one_come_back_with_those_before_it(case: &mut Case) {
    let server = case.server();
    let mut peer = served(server, 1).remove(0);
    for round in 0..scaled(20, 1_000) {
        // Where the server is stopped all of it has arrived before it looks; else as it happens.
        let stopped = round % 2 == 0;
        if stopped {
            server.signal(Signal::SIGSTOP);
        }
        peer.stream.write_all(b"ab").expect("a connected socket");
        SockRef::from(&peer.stream).send_out_of_band(b"!").expect("a connected socket");
        peer.stream.write_all(b"def").expect("a connected socket");
        if stopped {
            server.signal(Signal::SIGCONT);
        }
        let mut echo = [0; 5];
        peer.stream.read_exact(&mut echo).expect("what lies behind the mark is echoed, too");
        assert_eq!(&echo, b"abdef");
    }
    peer.finish_cleanly();
}

/// F18: whatever it looks like, it is echoed, and none of it is printed.
fn hostile_content_is_only_bytes(case: &mut Case) {
    let server = case.server();
    let every_byte: Vec<u8> = (0..=255).collect();
    let contents: [&[u8]; 6] = [
        b"GET / HTTP/1.0\r\nHost: c10k-secret\r\n\r\n",
        b"\x16\x03\x01\x00\x05\x01\x00\x00\x01\x00c10k-secret",
        &every_byte,
        &vec![0; scaled(1, 256) * 1024 * 1024],
        b"%s%n%x c10k-secret \x1b[2J \xff\xfe\x80",
        b"\x04\x03SIGTERM\nquit\nshutdown\n",
    ];
    for content in contents {
        assert!(raw_echo(server.address(), content) == content, "it was not only bytes");
    }
    assert!(!server.stderr().contains("secret"), "payload was printed");
    let ended = case.end(Signal::SIGTERM);
    assert_eq!(ended.code, Some(0));
    assert!(!ended.said().contains("secret"), "payload was printed");
}

fn raw_echo(address: SocketAddr, content: &[u8]) -> Vec<u8> {
    let mut peer = Peer::connect(address);
    let mut writer = peer.stream.try_clone().expect("a descriptor");
    let mut echoed = Vec::new();
    thread::scope(|scope| {
        scope.spawn(move || {
            writer.write_all(content).expect("the server reads");
            writer.shutdown(std::net::Shutdown::Write).expect("a connected socket");
        });
        peer.stream.read_to_end(&mut echoed).expect("the echo, then the end");
    });
    echoed
}

/// F33: reconnects as fast as possible, many of them ended with an echo still under way.
fn a_reused_slot_gets_no_byte_of_the_last_peer(case: &mut Case) {
    let address = case.server().address();
    let (threads, rounds) = (4, scaled(500, 20_000));
    thread::scope(|scope| {
        for thread in 0..threads {
            scope.spawn(move || {
                let mut random = fastrand::Rng::with_seed(33 + thread);
                for _ in 0..rounds {
                    let mut peer = Peer::connect(address);
                    peer.send(random.u64(1..5_000));
                    match random.u8(0..4) {
                        0 => peer.reset(),
                        1 => drop(peer),
                        2 => peer.receive(random.u64(1..=peer.sent)),
                        _ => peer.finish_cleanly(),
                    }
                }
            });
        }
    });
    let accepted = threads * rounds as u64;
    case.server().wait_until("all are gone", |account| {
        account.get("accepted") + account.refused() == accepted && account.closed() == account.get("accepted")
    });
}
