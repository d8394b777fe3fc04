//! Rows about what runs out: connections, descriptors, slots of the direct table.

use super::{Case, Row, Variant, row, served};
use crate::client::{Peer, crowd, exchange, finish_cleanly};
use crate::server::Server;
use crate::skip::Need;
use rustix::process::{Pid, Resource, Rlimit, prlimit};
use std::io::{ErrorKind, Read};
use std::thread;
use std::time::Duration;

/// The rows.
pub fn rows() -> Vec<Row> {
    let starved = row!(without_descriptors_it_waits_and_does_not_spin).with("--max-connections 60");
    vec![
        row!(never_more_than_the_limit_are_served_at_once).with("--max-connections 100"),
        row!(a_limit_of_one_serves_one_after_the_other).with("--max-connections 1"),
        // Direct descriptors take none of the process. A ring's accept keeps the limit it was armed
        // under, so one worker only: when it is full, no accept is armed.
        starved.on(&[Variant::Uring, Variant::Epoll]).workers(1),
        row!(without_descriptors_it_waits_and_does_not_spin)
            .with("--max-connections 60")
            .on(&[Variant::EpollShared])
            .workers(5),
        row!(a_small_direct_table_refuses_by_the_account)
            .with("--max-connections 32")
            .on(&[Variant::UringDirect]),
        row!(slots_of_all_workers_together_exceed_the_descriptor_limit)
            .workers(2)
            .on(&[Variant::UringDirect])
            .starts_its_own()
            .needs(Need::Prlimit),
        row!(the_soft_descriptor_limit_is_raised).workers(2).starts_its_own().needs(Need::Prlimit),
        row!(a_low_descriptor_limit_lowers_the_connections_and_is_said)
            .workers(2)
            .starts_its_own()
            .needs(Need::Prlimit),
    ]
}

/// What became of a connection that was offered.
#[derive(Debug, PartialEq)]
enum Offered {
    Served,
    Refused,
    Waiting,
}

/// Asks for an echo of 10 bytes without insisting.
fn offered(peer: &mut Peer) -> Offered {
    peer.stream.set_read_timeout(Some(Duration::from_millis(1))).expect("a socket");
    if peer.verified == 0 && peer.sent == 0 && peer.try_send(10).is_err() {
        return Offered::Refused;
    }
    let mut bytes = [0; 10];
    match peer.stream.read(&mut bytes) {
        Ok(0) => Offered::Refused,
        Ok(count) => {
            peer.payload.check(0, &bytes[..count]).expect("its own bytes");
            assert_eq!(count, 10, "a message of ten bytes came in pieces");
            peer.verified = 10;
            peer.stream.set_read_timeout(Some(crate::server::GUARD)).expect("a socket");
            Offered::Served
        }
        Err(error) if [ErrorKind::WouldBlock, ErrorKind::Interrupted].contains(&error.kind()) => {
            Offered::Waiting
        }
        Err(_) => Offered::Refused,
    }
}

/// Sorts peers into served, and those that still wait; who was refused is dropped.
fn sort(peers: Vec<Peer>, served: &mut Vec<Peer>) -> Vec<Peer> {
    let mut waiting = Vec::new();
    for mut peer in peers {
        match offered(&mut peer) {
            Offered::Served => served.push(peer),
            Offered::Waiting => waiting.push(peer),
            Offered::Refused => {}
        }
    }
    waiting
}

/// F29: 300 come, 100 are served; of the others each is refused or waits. Whoever leaves makes room.
fn never_more_than_the_limit_are_served_at_once(case: &mut Case) {
    let server = case.server();
    let mut served = Vec::new();
    let mut waiting = crowd(server.address(), 300);
    while served.len() < 100 {
        waiting = sort(waiting, &mut served);
        assert!(served.len() + waiting.len() >= 100, "more were refused than there was no room for");
    }
    // One of those who wait would be served by now if there were room for it.
    assert_eq!(served.len(), 100, "more are served at once than may be");
    let account = server.stats();
    assert_eq!((account.get("open"), account.get("accepted")), (100, 100));
    // With one table for all threads a thread has no connections of its own.
    let workers = account.0["workers"].as_array().expect("workers");
    let open: Vec<u64> = workers.iter().filter_map(|worker| worker["open"].as_u64()).collect();
    assert!(open.is_empty() || open.iter().sum::<u64>() == 100, "{open:?}");
    exchange(&mut served, 1000, 100);
    let leaving: Vec<Peer> = served.drain(..50).collect();
    finish_cleanly(leaving);
    while served.len() < 100 {
        waiting = sort(waiting, &mut served);
        // Those who were refused come again.
        if waiting.len() + served.len() < 110 {
            waiting.push(Peer::connect(server.address()));
        }
    }
    assert_eq!(served.len(), 100, "more are served at once than may be");
    server.wait_until("150 were served", |account| account.get("accepted") == 150);
    drop(waiting);
    finish_cleanly(served);
}

/// F29 at its smallest.
fn a_limit_of_one_serves_one_after_the_other(case: &mut Case) {
    let server = case.server();
    let mut came = 0;
    for _ in 0..20 {
        let mut served = Vec::new();
        let mut waiting = crowd(server.address(), 3);
        came += 3;
        while served.is_empty() {
            waiting = sort(waiting, &mut served);
            if waiting.is_empty() {
                waiting.push(Peer::connect(server.address()));
                came += 1;
            }
        }
        assert_eq!(served.len(), 1, "more are served at once than may be");
        drop(waiting);
        finish_cleanly(served);
    }
    // Whoever still lies in the queue takes the one place for a moment, though he has left long ago.
    server.wait_until("all who came are gone", |account| {
        account.get("open") == 0 && account.get("accepted") + account.refused() == came
    });
}

/// F25: no descriptor is left, though connections are. The limit of the running server is lowered
/// below what it has open, so the kernel's answer to every accept is EMFILE until some are closed.
fn without_descriptors_it_waits_and_does_not_spin(case: &mut Case) {
    let server = case.server();
    // Full, so that a ring's accept is not armed: it keeps the limit it was armed under.
    let mut peers = served(server, 60);
    let descriptors = descriptors(server);
    let limit = descriptors[descriptors.len() - 30];
    set_descriptor_limit(server, Some(limit));
    // Thirty hold numbers above the limit. The last that came are among them; they leave, and nothing
    // below becomes free.
    let leaving = peers.split_off(50);
    let left = leaving.len();
    finish_cleanly(leaving);
    let open = (60 - left) as u64;
    let before = server.wait_until("they are gone", |account| account.get("open") == open);
    let taken = self::descriptors(server).into_iter().filter(|&number| number < limit).count() as u64;
    assert_eq!(taken, limit, "a descriptor is free: the row shows nothing");
    let mut waiting: Vec<Peer> = crowd(server.address(), 40);
    server.wait_until("an accept was tried", |account| account.get("accept_errors") > 0);
    thread::sleep(Duration::from_secs(1));
    let after = server.stats();
    let tried = after.get("accept_errors") - before.get("accept_errors");
    assert!(tried <= 20, "{tried} attempts while no descriptor was free");
    let calls = after.get("system_calls") - before.get("system_calls");
    assert!(calls <= 400, "{calls} system calls in a second with nothing to do");
    // Those who are in go on.
    exchange(&mut peers, 1000, 100);
    // As many as leave below the limit, so many come in.
    let accepted = after.get("accepted");
    finish_cleanly(std::mem::take(&mut peers));
    server.wait_until("descriptors were used again", |account| account.get("accepted") >= accepted + 10);
    set_descriptor_limit(server, None);
    waiting.iter_mut().for_each(|peer| peer.send(100));
    waiting.iter_mut().for_each(|peer| peer.receive(100));
    finish_cleanly(waiting);
}

/// Sets the soft limit of the running server; `None` is as high as it may go.
fn set_descriptor_limit(server: &Server, soft: Option<u64>) {
    // The server has inherited the hard limit of this process.
    let maximum = rustix::process::getrlimit(Resource::Nofile).maximum;
    let limit = Rlimit { current: soft.or(maximum), maximum };
    prlimit(Pid::from_raw(server.pid.as_raw()), Resource::Nofile, limit).expect("our own child's limit");
}

/// The descriptors of the server, in order.
fn descriptors(server: &Server) -> Vec<u64> {
    let names = std::fs::read_dir(format!("/proc/{}/fd", server.pid)).expect("procfs");
    let mut numbers: Vec<u64> =
        names.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()).collect();
    numbers.sort_unstable();
    numbers
}

/// F27: a table of direct descriptors for 32. The kernel drops whom a full table cannot take, so it
/// must never be full: served and refused are all that came.
fn a_small_direct_table_refuses_by_the_account(case: &mut Case) {
    let server = case.server();
    let mut served = Vec::new();
    let mut waiting = crowd(server.address(), 100);
    while served.len() < 32 {
        waiting = sort(waiting, &mut served);
        assert!(served.len() + waiting.len() >= 32, "more were refused than there was no room for");
    }
    exchange(&mut served, 1000, 100);
    assert_eq!(served.len(), 32, "more are served at once than may be");
    finish_cleanly(served);
    // Everybody who waits is served in the end, 32 at a time.
    while !waiting.is_empty() {
        let mut served = Vec::new();
        waiting = sort(waiting, &mut served);
        finish_cleanly(served);
    }
    let account = server.wait_until("all are gone", |account| account.get("open") == 0);
    assert_eq!(account.get("accepted") + account.refused(), 100, "{}", account.0);
    assert_eq!(account.get("refused_descriptors"), 0, "the table was full: the kernel dropped a peer");
}

/// Each of the two has a table as large as the limit allows. Of 210 connections the kernel's hash gives
/// neither more than its 136 but once in 50,000 times.
fn slots_of_all_workers_together_exceed_the_descriptor_limit(case: &mut Case) {
    let launch = case.launch(&["--max-connections", "250"]);
    case.adopt(launch.through(&["prlimit", "--nofile=200:200"]).start());
    let peers = served(case.server(), 210);
    assert_eq!(case.server().stats().get("open"), 210);
    finish_cleanly(peers);
}

/// F71: the soft limit is raised to the hard one.
fn the_soft_descriptor_limit_is_raised(case: &mut Case) {
    case.adopt(case.launch(&[]).through(&["prlimit", "--nofile=64:1024"]).start());
    let limits = &case.server().ready["limits"];
    assert_eq!(limits["descriptors"], 1024);
    assert_eq!(limits["max_connections"], 1024 - 64);
    finish_cleanly(served(case.server(), 100));
}

/// F71: what still bites is said at the start, and what is served is what was said.
fn a_low_descriptor_limit_lowers_the_connections_and_is_said(case: &mut Case) {
    case.adopt(case.launch(&[]).through(&["prlimit", "--nofile=128:128"]).start());
    let limits = case.server().ready["limits"].clone();
    assert_eq!((&limits["descriptors"], &limits["max_connections"]), (&128.into(), &64.into()));
    let mut served = Vec::new();
    let mut waiting = crowd(case.server().address(), 80);
    while served.len() < 64 {
        waiting = sort(waiting, &mut served);
    }
    assert_eq!(case.server().stats().get("open"), 64);
    drop(waiting);
    finish_cleanly(served);
}
