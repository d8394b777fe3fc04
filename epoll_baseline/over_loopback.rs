//! The loops over the real kernel, with peers on 127.0.0.1. What needs the built binary is tested in
//! `tests/`; what needs every legal answer of a kernel, by `sim`.

use super::{COUNTERS, Own, Shared, run};
use crate::config::{Backend, Config};
use crate::conn::{Admission, CloseReason};
use crate::counters::{Counter, Counters};
use crate::features::{Epoll, Read, Threads, Trigger};
use crate::stop::{Phase, Stop};
use crate::worker::{self, Ending, Worker};
use std::io::{self, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::thread;
use std::time::{Duration, Instant};

fn config(trigger: Trigger, read: Read) -> Config {
    Config {
        backend: Backend::Epoll,
        max_connections: 200,
        backlog: 1000,
        spill_limit: 16 * 1024 * 1024,
        epoll: Epoll { trigger, read, threads: Threads::PerCore, busy_poll: None, buffer_size: 16 * 1024 },
        ..Config::for_tests()
    }
}

struct Server<'a> {
    address: SocketAddr,
    counters: &'a [Counters],
    stop: &'a Stop,
    admission: &'a Admission,
}

impl Server<'_> {
    /// A counter's sum over all threads.
    fn sum(&self, counter: impl Fn(&Counters) -> &Counter) -> u64 {
        self.counters.iter().fold(0, |sum, counters| sum.wrapping_add(counter(counters).get()))
    }

    fn own(&self, what: Own) -> u64 {
        self.sum(|counters| counters.own.at(what as usize))
    }

    fn closed(&self, reason: CloseReason) -> u64 {
        self.sum(|counters| counters.closed.at(reason as usize))
    }
}

/// Runs the workers, has `test` talk to them, stops them, and gives back how they ended.
fn with_server(config: &Config, test: impl FnOnce(&Server<'_>)) -> Ending {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let address = listener.local_addr().unwrap();
    let admission = Admission::new(config.max_connections);
    let counters: Vec<_> = (0..config.workers).map(|_| worker::counters(COUNTERS)).collect();
    let stop = Stop::new(config.workers).unwrap();
    let mut listeners = vec![listener];
    let is_shared = config.epoll.threads == Threads::Shared;
    let shared = is_shared.then(|| Shared::new(config, std::mem::take(&mut listeners)).unwrap());
    let server = Server { address, counters: &counters, stop: &stop, admission: &admission };
    let ending = thread::scope(|scope| {
        let mut spawn = |index| {
            let listeners = std::mem::take(&mut listeners);
            let worker = Worker::for_tests(config, &admission, &counters[index], &stop);
            let worker = Worker { index, listeners, ..worker };
            let shared = &shared;
            scope.spawn(move || match shared {
                Some(shared) => shared.run(worker).unwrap(),
                None => run(worker).unwrap(),
            })
        };
        let threads: Vec<_> = (0..config.workers).map(&mut spawn).collect();
        // A test that fails has to end the threads, or it would hang instead.
        let tested = catch_unwind(AssertUnwindSafe(|| test(&server)));
        stop.advance(if tested.is_ok() { Phase::Draining } else { Phase::Cut });
        if let Err(panic) = tested {
            resume_unwind(panic);
        }
        let endings: Vec<_> = threads.into_iter().map(|thread| thread.join().unwrap()).collect();
        assert!(endings.iter().all(|&ending| ending == endings[0]));
        endings[0]
    });
    let gauges = (server.sum(|counters| &counters.open), server.sum(|counters| &counters.spilled));
    assert_eq!((gauges, admission.open()), ((0, 0), 0));
    let closed: u64 = counters.iter().flat_map(|one| one.closed.iter()).map(|(_, count)| count).sum();
    assert_eq!(closed, server.sum(|counters| &counters.accepted));
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
            test(shared(config(trigger, read)));
        }
    }
}

/// The same with 17 threads over one instance.
fn shared(mut config: Config) -> Config {
    config.epoll.threads = Threads::Shared;
    config.workers = 17;
    config
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
            let calls = server.sum(|counters| &counters.system_calls);
            let waits = server.own(Own::Waits);
            (0..1000).for_each(|_| exchange());
            let calls = server.sum(|counters| &counters.system_calls) - calls;
            let waits = server.own(Own::Waits) - waits;
            // One-shot watches cost an epoll_ctl a message.
            let per_message = if config.epoll.threads == Threads::Shared { 3 } else { 2 };
            // Threads that start late count their first wait only now.
            let waits_most = 1001 + config.workers as u64;
            assert!(
                calls - waits <= per_message * 1001 && waits <= waits_most,
                "{calls} calls, {waits} waits"
            );
            assert_eq!(server.own(Own::InterestChanges), 0);
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
            assert!((1..=128 * 1024).contains(&server.sum(|counters| &counters.spilled)));
            let waits = server.own(Own::Waits);
            thread::sleep(Duration::from_millis(100));
            let more = server.own(Own::Waits) - waits;
            assert!(more < 5, "{more} waits in 100 ms in which nothing could be done");
            stream.set_nonblocking(false).unwrap();
            stream.shutdown(Shutdown::Write).unwrap();
            let mut echoed = Vec::new();
            (&stream).read_to_end(&mut echoed).unwrap();
            assert_eq!(echoed.len(), written);
            assert_eq!(server.sum(|counters| &counters.spilled), 0);
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
            assert_eq!(server.closed(CloseReason::PeerReset), 2);
        });
    });
}

#[test]
fn beyond_the_limit_peers_wait_until_somebody_leaves() {
    each_way(|mut config| {
        config.max_connections = 3;
        with_server(&config, |server| {
            let streams: Vec<_> = (0..6).map(|_| TcpStream::connect(server.address).unwrap()).collect();
            for mut stream in streams {
                stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
                stream.write_all(b"x").unwrap();
                stream.read_exact(&mut [0]).unwrap();
                assert!(server.admission.open() <= 3);
            }
            assert_eq!(server.sum(|counters| &counters.accepted), 6);
            assert!(server.own(Own::AcceptPauses) > 0);
        });
    });
}

#[test]
fn the_silent_are_closed_at_the_idle_timeout_and_the_busy_are_not() {
    each_way(|mut config| {
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
            assert_eq!(server.closed(CloseReason::IdleTimeout), 1);
        });
    });
}

#[test]
fn at_a_stop_everything_that_had_arrived_comes_back_and_then_our_fin() {
    each_way(|config| {
        let mut peers = Vec::new();
        let ending = with_server(&config, |server| {
            for _ in 0..20 {
                let peer = TcpStream::connect(server.address).unwrap();
                (&peer).write_all(&[3; 100_000]).unwrap();
                peers.push(peer);
            }
            // Nobody reads yet, so some of it stands in our sockets and copies.
            eventually("accepted", || server.admission.open() == 20);
        });
        assert_eq!(ending, Ending::Drained);
        for mut peer in peers {
            let mut echoed = Vec::new();
            peer.read_to_end(&mut echoed).unwrap();
            assert!(echoed.len() <= 100_000 && echoed.iter().all(|&byte| byte == 3));
        }
    });
}

/// Sends as fast as it can until it cannot, and reads at the same time. True when it read our FIN.
fn flood(stream: &TcpStream) -> bool {
    let mut stream = stream;
    thread::scope(|scope| {
        scope.spawn(move || while { stream }.write_all(&[5; 65_536]).is_ok() {});
        let mut buffer = vec![0; 65_536];
        loop {
            match stream.read(&mut buffer) {
                Ok(0) => return true,
                Ok(bytes) => assert!(buffer[..bytes].iter().all(|&byte| byte == 5)),
                Err(_) => return false,
            }
        }
    })
}

#[test]
fn at_a_stop_who_goes_on_sending_gets_our_fin_and_is_discarded_for_a_second() {
    // A second each: not every way.
    for config in [config(Trigger::Level, Read::Drain), shared(config(Trigger::Edge, Read::Once))] {
        let mut peers = Vec::new();
        let ending = with_server(&config, |server| {
            let connected: Vec<_> = (0..8).map(|_| TcpStream::connect(server.address).unwrap()).collect();
            peers.extend(connected.into_iter().map(|peer| thread::spawn(move || flood(&peer))));
            eventually("traffic", || server.sum(|counters| &counters.receives) > 500);
        });
        assert_eq!(ending, Ending::Drained);
        let polite = peers.into_iter().map(|peer| peer.join().unwrap());
        // One of whom nothing had arrived at that instant is closed at once, and resets itself.
        let polite = polite.filter(|&polite| polite).count();
        assert!(polite >= 4, "only {polite} of 8 read our FIN");
    }
}

#[test]
fn a_cut_does_not_wait() {
    each_way(|config| {
        let start = Instant::now();
        let mut stuck = None;
        let ending = with_server(&config, |server| {
            let peer = TcpStream::connect(server.address).unwrap();
            peer.set_nonblocking(true).unwrap();
            while (&peer).write(&[0; 65_536]).is_ok() {
                thread::sleep(Duration::from_millis(1));
            }
            stuck = Some(peer);
            server.stop.advance(Phase::Cut);
        });
        assert_eq!(ending, Ending::Cut);
        assert!(start.elapsed() < Duration::from_secs(5));
    });
}
