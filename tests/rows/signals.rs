//! Rows about signals and outputs: nothing an operator or a broken pipe does ends the service.

use super::{Case, Row, own_address, row, scaled, served};
use crate::client::{Ending, Peer, crowd, exchange, finish_cleanly, try_exchange};
use crate::server::{GUARD, Launch, Output, Process};
use nix::sys::signal::{Signal, kill};
use serde_json::Value;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// The rows.
pub fn rows() -> Vec<Row> {
    vec![
        row!(storms_of_signals_disturb_nobody),
        row!(a_stop_of_the_process_times_nobody_out).with("--idle-timeout 1s"),
        row!(statistics_come_at_their_interval).with("--stats-every 50ms"),
        row!(a_closed_standard_output_stops_nothing).starts_its_own(),
        row!(a_full_standard_output_stops_nothing).starts_its_own(),
        row!(a_reader_that_leaves_after_the_first_line_stops_nothing).starts_its_own(),
        row!(a_pipe_that_nobody_reads_stops_nothing).starts_its_own(),
    ]
}

/// F92: every signal an operator may send, as fast as they can be sent, under load.
fn storms_of_signals_disturb_nobody(case: &mut Case) {
    let server = case.server();
    let storm = [
        Signal::SIGHUP,
        Signal::SIGUSR1,
        Signal::SIGUSR2,
        Signal::SIGPIPE,
        Signal::SIGQUIT,
        Signal::SIGWINCH,
        Signal::SIGCHLD,
        Signal::SIGCONT,
    ];
    let mut peers = served(server, 20);
    let (done, rounds) = (AtomicBool::new(false), AtomicUsize::new(0));
    thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                storm.iter().for_each(|&signal| kill(server.pid, signal).expect("the server is there"));
                rounds.fetch_add(1, Ordering::Relaxed);
                thread::sleep(Duration::from_millis(1));
            }
        });
        // Fewer are no storm, whichever of the two is faster.
        let (mut exchanges, from) = (0, Instant::now());
        let went_well = loop {
            let went_well = try_exchange(&mut peers, 64 * 500, 640);
            exchanges += 1;
            let enough = exchanges >= scaled(5, 50) && rounds.load(Ordering::Relaxed) > scaled(50, 500);
            if went_well.is_err() || enough || from.elapsed() > GUARD {
                break went_well;
            }
        };
        done.store(true, Ordering::Relaxed);
        went_well.unwrap_or_else(|wrong| panic!("in a storm: {wrong}"));
    });
    assert!(rounds.into_inner() > scaled(50, 500), "no storm");
    finish_cleanly(peers);
    server.wait_until("all are gone", |account| account.closed() == 20);
}

/// F91: stopped for longer than the idle timeout. Whose bytes arrived meanwhile is not timed out.
fn a_stop_of_the_process_times_nobody_out(case: &mut Case) {
    let server = case.server();
    // Some at a time, so that the first are not silent for long before the last have come.
    let mut peers = Vec::new();
    while peers.len() < 200 {
        peers.extend(crowd(server.address(), 20));
        exchange(&mut peers, 64, 64);
    }
    server.signal(Signal::SIGSTOP);
    peers.iter_mut().for_each(|peer| peer.send(500));
    thread::sleep(Duration::from_millis(scaled(2_000, 10_000) as u64));
    server.signal(Signal::SIGCONT);
    // Who was timed out for the server's absence has lost these; later silence is their own.
    peers.iter_mut().for_each(|peer| peer.receive(500));
}

/// `--stats-every`: lines come without being asked for.
fn statistics_come_at_their_interval(case: &mut Case) {
    let server = case.server();
    finish_cleanly(served(server, 10));
    // The harness has asked once; everything after that answer comes by itself. How fast it is read here
    // says nothing: lines may have been waiting.
    let uptime = |_| {
        let line = server.next_line().expect("a line that nobody asked for");
        let line: Value = serde_json::from_str(&line).expect("a JSON line");
        assert_eq!(line["event"], "stats", "{line}");
        line["uptime_us"].as_u64().expect("a time")
    };
    let times: Vec<u64> = (0..5).map(uptime).collect();
    assert!(times[4] - times[0] >= 100_000, "five lines at once: {times:?}");
}

/// A port of its own, for a server that cannot say where it listens.
fn launch(case: &Case) -> (SocketAddr, Launch) {
    let address = format!("{}:7007", own_address());
    let mut words = case.command.clone();
    let at = words.iter().position(|word| word == "--listen").expect("a listen address");
    words[at + 1] = address.clone();
    (address.parse().expect("an address"), Launch::new(words).output(Output::Elsewhere))
}

/// F93: standard output and standard error are closed.
fn a_closed_standard_output_stops_nothing(case: &mut Case) {
    let (address, launch) = launch(case);
    goes_on(address, launch.through(&["sh", "-c", "exec \"$@\" >&- 2>&-", "sh"]).spawn());
}

/// F93, F76: the disk is full.
fn a_full_standard_output_stops_nothing(case: &mut Case) {
    let (address, launch) = launch(case);
    goes_on(address, launch.through(&["sh", "-c", "exec \"$@\" >/dev/full 2>/dev/full", "sh"]).spawn());
}

/// F93: `c10k | head -1`.
fn a_reader_that_leaves_after_the_first_line_stops_nothing(case: &mut Case) {
    let (address, launch) = launch(case);
    goes_on(address, launch.output(Output::ClosedAfterFirstLine).spawn());
}

/// F93: nobody reads, and the pipe is full after some lines.
fn a_pipe_that_nobody_reads_stops_nothing(case: &mut Case) {
    let (address, launch) = launch(case);
    goes_on(address, launch.output(Output::NeverRead).spawn());
}

/// It serves while it is made to print more than a pipe holds, and ends when told to.
fn goes_on(address: SocketAddr, process: Process) {
    let mut peer = connect_when_there(address, &process);
    for _ in 0..200 {
        process.signal(Signal::SIGUSR1);
        peer.exchange(1000, 1000);
    }
    let mut late = Peer::connect(address);
    late.exchange(64 * 1024, u64::MAX);
    late.finish_cleanly();
    process.signal(Signal::SIGTERM);
    assert_eq!(peer.receive_to_end(), Ending::Clean);
    drop(peer);
    let ended = process.wait();
    assert_eq!((ended.code, ended.signal), (Some(0), None), "{ended:?}");
}

fn connect_when_there(address: SocketAddr, process: &Process) -> Peer {
    let from = Instant::now();
    loop {
        match Peer::try_connect(address, Default::default()) {
            Ok(mut peer) => {
                peer.exchange(1000, 1000);
                return peer;
            }
            Err(error) => {
                assert!(process.is_alive() && from.elapsed() < GUARD, "{error}; {}", process.stderr());
            }
        }
        thread::sleep(Duration::from_millis(5));
    }
}
