//! The loops over the real kernel, with peers on 127.0.0.1. What needs the built binary is tested in
//! `tests/`; what needs every legal answer of a kernel, by `sim`.

use super::{COUNTERS, Own, run};
use crate::config::{Backend, Config, Format};
use crate::conn::machine::Refusal;
use crate::conn::{Admission, CloseReason};
use crate::counters::Counters;
use crate::features::{Accept, Epoll, Files, Read, Recv, Taskrun, Threads, Trigger, Uring};
use crate::stop::{Phase, Stop};
use crate::worker::{Ending, Worker};
use std::io::{self, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

fn config(trigger: Trigger, read: Read) -> Config {
    Config {
        backend: Backend::Epoll,
        listen: Vec::new(),
        workers: 1,
        cpus: Vec::new(),
        max_connections: 200,
        idle_timeout: None,
        write_timeout: Some(Duration::from_secs(60)),
        drain_timeout: Duration::from_secs(10),
        backlog: 1000,
        unsent_limit: 64 * 1024,
        spill_limit: 16 * 1024 * 1024,
        recv_buffer: None,
        keepalive: None,
        user_timeout: None,
        congestion: None,
        stats_every: None,
        format: Format::Text,
        verbosity: 0,
        uring: Uring {
            accept: Accept::Multishot,
            recv: Recv::Multishot,
            files: Files::Normal,
            taskrun: Taskrun::Defer,
            ring_fd_registered: true,
            sqarray: false,
            sq: 256,
            cq: 4096,
            sizes_typed: false,
            buffer_count: 64,
            buffer_size: 4096,
            receive_limit: false,
        },
        epoll: Epoll { trigger, read, threads: Threads::PerCore, buffer_size: 16 * 1024 },
    }
}

struct Server<'a> {
    address: SocketAddr,
    counters: &'a Counters,
    stop: &'a Stop,
    admission: &'a Admission,
}

/// Runs a worker, has `test` talk to it, stops it, and gives back how it ended.
fn with_server(config: &Config, test: impl FnOnce(&Server<'_>)) -> Ending {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let address = listener.local_addr().unwrap();
    let admission = Admission::new(config.max_connections);
    let counters = Counters::new(CloseReason::NAMES, Refusal::NAMES, COUNTERS);
    let stop = Stop::new(1).unwrap();
    let ending = thread::scope(|scope| {
        let worker = Worker {
            index: 0,
            config,
            listeners: vec![listener],
            admission: &admission,
            counters: &counters,
            stop: &stop,
            ready: &|_| {},
        };
        let server = scope.spawn(|| run(worker).unwrap());
        test(&Server { address, counters: &counters, stop: &stop, admission: &admission });
        stop.advance(Phase::Draining);
        server.join().unwrap()
    });
    assert_eq!((counters.open.get(), counters.spilled.get(), admission.open()), (0, 0, 0));
    let closed: u64 = counters.closed.iter().map(|(_, count)| count).sum();
    assert_eq!(closed, counters.accepted.get());
    ending
}

/// Waits for what must come; the time is only a guard.
#[track_caller]
fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < Duration::from_secs(10), "{what}: not within 10 s");
        thread::sleep(Duration::from_millis(2));
    }
}

fn each_way(test: impl Fn(Config)) {
    for trigger in [Trigger::Level, Trigger::Edge] {
        for read in [Read::Once, Read::Drain] {
            test(config(trigger, read));
        }
    }
}

/// Writes `length` bytes in pieces and shuts down, while another thread reads to the end.
fn exchange(address: SocketAddr, length: usize, seed: u64) {
    let stream = TcpStream::connect(address).unwrap();
    let sent: Vec<u8> = {
        let mut random = fastrand::Rng::with_seed(seed);
        (0..length).map(|_| random.u8(..)).collect()
    };
    let mut echoed = Vec::new();
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut random = fastrand::Rng::with_seed(seed);
            let mut rest = &sent[..];
            while !rest.is_empty() {
                let piece = random.usize(1..=70_000).min(rest.len());
                (&stream).write_all(&rest[..piece]).unwrap();
                rest = &rest[piece..];
            }
            stream.shutdown(Shutdown::Write).unwrap();
        });
        (&stream).read_to_end(&mut echoed).unwrap();
    });
    assert!(sent == echoed, "{} of {length} bytes came back, or others", echoed.len());
}

#[test]
fn bytes_come_back_in_order_and_then_our_fin() {
    each_way(|config| {
        let ending = with_server(&config, |server| {
            thread::scope(|scope| {
                for (seed, length) in
                    [0, 1, 4095, 4096, 4097, 16_384, 100_000, 3_000_000].into_iter().enumerate()
                {
                    scope.spawn(move || exchange(server.address, length, seed as u64));
                }
            });
        });
        assert_eq!(ending, Ending::Drained);
    });
}

#[test]
fn a_message_costs_one_receive_and_one_send_and_no_epoll_ctl() {
    each_way(|config| {
        with_server(&config, |server| {
            let mut stream = TcpStream::connect(server.address).unwrap();
            stream.set_nodelay(true).unwrap();
            let mut message = [7; 64];
            let mut exchange = || {
                stream.write_all(&message).unwrap();
                stream.read_exact(&mut message).unwrap();
            };
            exchange();
            let calls = server.counters.system_calls.get();
            let waits = server.counters.own.at(Own::Waits as usize).get();
            (0..1000).for_each(|_| exchange());
            let calls = server.counters.system_calls.get() - calls;
            let waits = server.counters.own.at(Own::Waits as usize).get() - waits;
            assert!(calls - waits <= 2001 && waits <= 1001, "{calls} calls, {waits} waits");
            assert_eq!(server.counters.own.at(Own::InterestChanges as usize).get(), 0);
        });
    });
}

#[test]
fn who_never_reads_is_read_no_further_and_gets_everything_once_it_does() {
    each_way(|config| {
        with_server(&config, |server| {
            let stream = TcpStream::connect(server.address).unwrap();
            stream.set_nonblocking(true).unwrap();
            let (mut written, mut still) = (0, Instant::now());
            while still.elapsed() < Duration::from_millis(300) {
                match (&stream).write(&[9; 10_000]) {
                    Ok(bytes) => (written, still) = (written + bytes, Instant::now()),
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                        thread::sleep(Duration::from_millis(5));
                    }
                    Err(error) => panic!("{error}"),
                }
            }
            assert!((1..=128 * 1024).contains(&server.counters.spilled.get()));
            let waits = server.counters.own.at(Own::Waits as usize).get();
            thread::sleep(Duration::from_millis(100));
            let more = server.counters.own.at(Own::Waits as usize).get() - waits;
            assert!(more < 5, "{more} waits in 100 ms in which nothing could be done");
            stream.set_nonblocking(false).unwrap();
            stream.shutdown(Shutdown::Write).unwrap();
            let mut echoed = Vec::new();
            (&stream).read_to_end(&mut echoed).unwrap();
            assert_eq!(echoed.len(), written);
            assert_eq!(server.counters.spilled.get(), 0);
        });
    });
}

#[test]
fn a_reset_frees_its_slot() {
    each_way(|config| {
        with_server(&config, |server| {
            for unread in [0, 1_000_000] {
                let stream = TcpStream::connect(server.address).unwrap();
                stream.set_nonblocking(true).unwrap();
                let _ = (&stream).write(&vec![1; unread]);
                eventually("accepted", || server.admission.open() == 1);
                socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
                drop(stream);
                eventually("freed", || server.admission.open() == 0);
            }
            assert_eq!(server.counters.closed.at(CloseReason::PeerReset as usize).get(), 2);
        });
    });
}

#[test]
fn beyond_the_limit_peers_wait_until_somebody_leaves() {
    let mut config = config(Trigger::Edge, Read::Drain);
    config.max_connections = 3;
    with_server(&config, |server| {
        let streams: Vec<_> = (0..6).map(|_| TcpStream::connect(server.address).unwrap()).collect();
        for mut stream in streams {
            stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
            stream.write_all(b"x").unwrap();
            stream.read_exact(&mut [0]).unwrap();
            assert!(server.admission.open() <= 3);
        }
        assert_eq!(server.counters.accepted.get(), 6);
        assert!(server.counters.own.at(Own::AcceptPauses as usize).get() > 0);
    });
}

#[test]
fn the_silent_are_closed_at_the_idle_timeout_and_the_busy_are_not() {
    let mut config = config(Trigger::Edge, Read::Drain);
    config.idle_timeout = Some(Duration::from_millis(200));
    with_server(&config, |server| {
        let mut silent = TcpStream::connect(server.address).unwrap();
        let mut busy = TcpStream::connect(server.address).unwrap();
        for _ in 0..10 {
            busy.write_all(b"x").unwrap();
            busy.read_exact(&mut [0]).unwrap();
            thread::sleep(Duration::from_millis(50));
        }
        assert_eq!(silent.read(&mut [0]).unwrap(), 0);
        assert_eq!(server.counters.closed.at(CloseReason::IdleTimeout as usize).get(), 1);
    });
}

#[test]
fn at_a_stop_what_had_arrived_comes_back_and_who_goes_on_sending_is_let_down_gently() {
    each_way(|config| {
        let mut clients = Vec::new();
        let ending = with_server(&config, |server| {
            for _ in 0..20 {
                let stream = TcpStream::connect(server.address).unwrap();
                clients.push(thread::spawn(move || {
                    let (mut sent, mut echoed) = (0u64, 0u64);
                    let mut buffer = [5; 1000];
                    loop {
                        match (&stream).write(&buffer) {
                            Ok(bytes) => sent += bytes as u64,
                            Err(_) => return (sent, echoed, false),
                        }
                        match (&stream).read(&mut buffer) {
                            Ok(0) => return (sent, echoed, true),
                            Ok(bytes) => echoed += bytes as u64,
                            Err(_) => return (sent, echoed, false),
                        }
                    }
                }));
            }
            eventually("traffic", || server.counters.receives.get() > 500);
            server.stop.advance(Phase::Draining);
        });
        assert_eq!(ending, Ending::Drained);
        for client in clients {
            let (sent, echoed, clean) = client.join().unwrap();
            assert!(clean && echoed <= sent, "{echoed} of {sent}, {clean}");
        }
    });
}

#[test]
fn a_cut_does_not_wait() {
    let mut ending = None;
    let config = config(Trigger::Level, Read::Drain);
    let start = Instant::now();
    let mut stream = None;
    ending.replace(with_server(&config, |server| {
        let peer = TcpStream::connect(server.address).unwrap();
        peer.set_nonblocking(true).unwrap();
        while (&peer).write(&[0; 65_536]).is_ok() {
            thread::sleep(Duration::from_millis(1));
        }
        server.stop.advance(Phase::Cut);
        stream = Some(peer);
    }));
    assert_eq!(ending, Some(Ending::Cut));
    assert!(start.elapsed() < Duration::from_secs(5));
}
