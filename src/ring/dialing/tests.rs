//! A client over the kernel's own ring and over epoll, against servers of loopback that do what they
//! are told: every test runs on all kinds there are.

use super::super::readiness::Readiness;
use super::super::trial::{Client, End, Task, memory_needed};
use super::super::{Dialing, Entered, Operation, Pages, Token};
use super::*;
use nix::sys::eventfd::EventFd;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, Ipv6Addr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::time::Duration;

/// What a client may run on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Ring,
    Direct,
    Readiness,
}

const KINDS: [Kind; 3] = [Kind::Ring, Kind::Direct, Kind::Readiness];

/// A kernel of one kind, for one test.
struct Bench {
    kind: Kind,
    targets: Vec<SocketAddr>,
    buffers: u16,
    buffer_size: u32,
    origin: Instant,
    waker: EventFd,
}

impl Bench {
    fn new(kind: Kind, targets: &[SocketAddr]) -> Self {
        let waker = EventFd::new().unwrap();
        let origin = Instant::now();
        Self { kind, targets: targets.into(), buffers: 16, buffer_size: 4096, origin, waker }
    }

    /// Runs `test` with a kernel for `task`; nothing where this machine has no such kernel.
    fn with(&self, task: &Task, test: impl FnOnce(&mut dyn Dialing, super::Memory)) {
        let pages = Pages::new(memory_needed(task, self.buffers, self.buffer_size)).unwrap();
        let setup = Setup {
            targets: &self.targets,
            connections: task.connections,
            direct: self.kind == Kind::Direct,
            buffer_count: self.buffers,
            buffer_size: self.buffer_size,
            origin: self.origin,
        };
        if self.kind == Kind::Readiness {
            let mut readiness = Readiness::new(&setup, pages.memory(), self.waker.as_fd()).unwrap();
            test(&mut readiness, pages.memory());
        } else {
            let Ok(offered) = offered() else { return };
            let mut dialer = Dialer::new(&offered, &setup).unwrap();
            let mut ring = dialer.ring(pages.memory(), self.waker.as_fd()).unwrap();
            test(&mut ring, pages.memory());
        }
        // The kernel ends a ring in its own time.
        std::mem::forget(pages);
    }

    /// The ends of all rounds of `task`.
    fn ends(&self, task: &Task) -> Vec<End> {
        let mut ends = Vec::new();
        self.with(task, |ring, memory| {
            ends = Client::new(ring, memory, self.buffers, self.buffer_size, task.clone()).run();
        });
        ends
    }
}

fn task(connections: u32, messages: u32, size: u32) -> Task {
    Task {
        connections,
        rounds: 1,
        messages,
        size,
        targets: 1,
        source: None,
        limit: None,
        shuts: false,
        until: Duration::from_secs(20),
    }
}

/// A listener of loopback whose connections are each given to `serve`, on threads of their own. They
/// end with the process, or when their client closes.
fn serving(address: impl Into<IpAddr>, serve: fn(TcpStream)) -> SocketAddr {
    let listener = TcpListener::bind((address.into(), 0)).unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            std::thread::spawn(move || serve(stream));
        }
    });
    address
}

fn echo(mut stream: TcpStream) {
    let mut bytes = vec![0; 64 * 1024];
    while let Ok(count @ 1..) = stream.read(&mut bytes) {
        if stream.write_all(&bytes[..count]).is_err() {
            return;
        }
    }
}

fn local() -> Ipv4Addr {
    Ipv4Addr::LOCALHOST
}

/// A reset instead of an end.
fn reset(stream: &TcpStream) {
    socket2::SockRef::from(stream).set_linger(Some(Duration::ZERO)).unwrap();
}

#[test]
fn every_byte_comes_back_over_many_connections_and_rounds() {
    for kind in KINDS {
        let bench = Bench::new(kind, &[serving(local(), echo)]);
        let task = Task { rounds: 3, ..task(20, 5, 100) };
        assert_eq!(bench.ends(&task), vec![End::Done; 60], "{kind:?}");
    }
}

#[test]
fn a_message_that_fills_the_socket_goes_out_as_room_comes() {
    for kind in KINDS {
        // It reads nothing for a while, so that the client meets a full socket.
        let target = serving(local(), |stream| {
            std::thread::sleep(Duration::from_millis(100));
            echo(stream);
        });
        let (bench, task) = (Bench::new(kind, &[target]), task(2, 1, 8 << 20));
        bench.with(&task, |ring, memory| {
            let mut client = Client::new(ring, memory, bench.buffers, bench.buffer_size, task.clone());
            assert_eq!(client.run(), [End::Done; 2], "{kind:?}");
            assert!(client.short_sends > 0, "{kind:?}: the socket was never full");
        });
    }
}

#[test]
fn buffers_that_run_out_are_told_of_and_nothing_is_lost() {
    for kind in KINDS {
        let mut bench = Bench::new(kind, &[serving(local(), echo)]);
        (bench.buffers, bench.buffer_size) = (2, 64);
        let task = task(30, 3, 3000);
        bench.with(&task, |ring, memory| {
            let mut client = Client::new(ring, memory, bench.buffers, bench.buffer_size, task.clone());
            assert_eq!(client.run(), [End::Done; 30], "{kind:?}");
            assert!(client.empty_pool > 0, "{kind:?}: two buffers were enough");
        });
    }
}

#[test]
fn a_receive_ends_by_itself_at_its_limit_where_that_is_obeyed() {
    for kind in KINDS {
        let bench = Bench::new(kind, &[serving(local(), echo)]);
        let task = Task { limit: Some(u32::MAX), rounds: 4, ..task(5, 1, 1000) };
        bench.with(&task, |ring, memory| {
            let obeys = ring.obeys_limit();
            let mut client = Client::new(ring, memory, bench.buffers, bench.buffer_size, task.clone());
            assert_eq!(client.run(), [End::Done; 20], "{kind:?}");
            if obeys {
                assert_eq!(client.limits_reached, 20, "{kind:?}");
            }
        });
    }
}

#[test]
fn our_fin_is_answered_after_everything_that_is_owed() {
    for kind in KINDS {
        let bench = Bench::new(kind, &[serving(local(), echo)]);
        let task = Task { shuts: true, ..task(4, 3, 1000) };
        assert_eq!(bench.ends(&task), [End::Done; 4], "{kind:?}");
    }
}

#[test]
fn nobody_listening_is_a_refusal() {
    for kind in KINDS {
        let target = TcpListener::bind((local(), 0)).unwrap().local_addr().unwrap();
        let refused = End::Unconnected(Errno::ECONNREFUSED);
        assert_eq!(Bench::new(kind, &[target]).ends(&task(3, 1, 10)), [refused; 3], "{kind:?}");
    }
}

#[test]
fn what_came_before_an_early_end_or_a_reset_is_still_received() {
    for kind in KINDS {
        let ends = serving(local(), |mut stream| {
            let mut bytes = [0; 100];
            stream.read_exact(&mut bytes).unwrap();
            stream.write_all(&bytes[..99]).unwrap();
        });
        assert_eq!(Bench::new(kind, &[ends]).ends(&task(5, 1, 100)), [End::Finished(99); 5], "{kind:?}");
        let resets = serving(local(), |mut stream| {
            let mut bytes = [0; 100];
            stream.read_exact(&mut bytes).unwrap();
            stream.write_all(&bytes[..99]).unwrap();
            std::thread::sleep(Duration::from_millis(50));
            reset(&stream);
        });
        let broken = End::Broken(Errno::ECONNRESET, 99);
        assert_eq!(Bench::new(kind, &[resets]).ends(&task(5, 1, 100)), [broken; 5], "{kind:?}");
    }
}

#[test]
fn a_server_that_says_nothing_is_given_up_when_the_time_runs_out() {
    for kind in KINDS {
        let target = serving(local(), |mut stream| {
            let _ = stream.read(&mut [0; 1]);
            std::thread::sleep(Duration::from_secs(1));
        });
        let task = Task { until: Duration::from_millis(200), ..task(4, 1, 100) };
        let begun = Instant::now();
        assert_eq!(Bench::new(kind, &[target]).ends(&task), [End::Owed(0); 4], "{kind:?}");
        assert!(begun.elapsed() >= Duration::from_millis(200), "{kind:?}");
    }
}

#[test]
fn a_connect_that_nobody_answers_can_be_cancelled() {
    for kind in KINDS {
        // A queue of one that is full: what comes after it is not answered.
        let listener = socket2::Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        listener.bind(&SocketAddr::from((local(), 0)).into()).unwrap();
        listener.listen(0).unwrap();
        let target = listener.local_addr().unwrap().as_socket().unwrap();
        let _fill = TcpStream::connect(target).unwrap();
        let task = Task { until: Duration::from_millis(100), ..task(3, 1, 100) };
        let ends = Bench::new(kind, &[target]).ends(&task);
        assert_eq!(ends, [End::Owed(0); 3], "{kind:?}");
    }
}

#[test]
fn a_source_is_used_and_one_that_is_not_ours_is_refused() {
    for kind in KINDS {
        let target = serving(local(), |mut stream| {
            let from = stream.peer_addr().unwrap().ip();
            if from == Ipv4Addr::new(127, 0, 0, 77) {
                echo(stream);
            } else {
                let _ = stream.write_all(b"wrong source");
            }
        });
        let from = |last| Some(IpAddr::from(last));
        let bench = Bench::new(kind, &[target]);
        let ours = Task { source: from([127, 0, 0, 77]), ..task(3, 1, 100) };
        assert_eq!(bench.ends(&ours), [End::Done; 3], "{kind:?}");
        let theirs = Task { source: from([192, 0, 2, 1]), ..task(1, 1, 100) };
        assert_eq!(bench.ends(&theirs), [End::Unopened(Errno::EADDRNOTAVAIL)], "{kind:?}");
    }
}

#[test]
fn a_socket_sends_at_once_and_has_no_port_before_its_connect() {
    let target = SockAddr::from(SocketAddr::from((local(), 9)));
    let socket = unconnected(&target, Some(local().into()), Type::STREAM).unwrap();
    assert!(socket.tcp_nodelay().unwrap());
    assert_eq!(socket.local_addr().unwrap().as_socket(), Some(SocketAddr::from((local(), 0))));
}

#[test]
fn several_targets_and_both_families_are_served() {
    for kind in KINDS {
        let targets = [serving(local(), echo), serving(Ipv6Addr::LOCALHOST, echo), serving(local(), echo)];
        let task = Task { targets: 3, ..task(9, 2, 50) };
        assert_eq!(Bench::new(kind, &targets).ends(&task), [End::Done; 9], "{kind:?}");
        let task = Task { source: Some(Ipv6Addr::LOCALHOST.into()), ..self::task(2, 2, 50) };
        assert_eq!(Bench::new(kind, &targets[1..2]).ends(&task), [End::Done; 2], "{kind:?}");
    }
}

#[test]
fn wake_ups_are_reported_again_and_again() {
    for kind in KINDS {
        let bench = Bench::new(kind, &[serving(local(), echo)]);
        let task = task(1, 1, 1);
        bench.with(&task, |ring, memory| {
            let mut client = Client::new(ring, memory, bench.buffers, bench.buffer_size, task.clone());
            for wakes in 1..4 {
                bench.waker.write(1).unwrap();
                while client.wakes < wakes {
                    assert!(client.turn());
                }
            }
        });
    }
}

#[test]
fn a_table_of_slots_has_a_last_one_and_a_slot_that_came_back_is_used_again() {
    let bench = Bench::new(Kind::Direct, &[serving(local(), echo)]);
    let task = task(1, 1, 1);
    bench.with(&task, |ring, _| {
        let mut sockets: Vec<Socket> = (0..=SLOTS_MARGIN).map(|_| ring.open(0, None).unwrap()).collect();
        assert_eq!(ring.open(0, None).unwrap_err().raw_os_error(), Some(libc::EMFILE));
        let socket = sockets.pop().unwrap();
        ring.push(Operation::Close { socket }, Token(7));
        let _ = ring.enter(1, None);
        let closed = ring.next_completion().unwrap();
        assert_eq!((closed.token, closed.result), (Token(7), 0));
        ring.closed(socket);
        assert_eq!(ring.open(0, None).unwrap(), socket);
    });
}

#[test]
fn the_clock_counts_from_the_origin_that_was_given() {
    for kind in KINDS {
        let mut bench = Bench::new(kind, &[serving(local(), echo)]);
        bench.origin -= Duration::from_secs(5);
        let task = task(1, 1, 1);
        bench.with(&task, |ring, _| {
            assert!(ring.now() >= Duration::from_secs(5) && ring.now() <= bench.origin.elapsed());
            // Nothing happens: the time runs out, and not early.
            let until = ring.now() + Duration::from_micros(20_500);
            let mut entered = ring.enter(1, Some(until));
            while entered == Entered::Interrupted {
                entered = ring.enter(1, Some(until));
            }
            assert_eq!(entered, Entered::Done, "{kind:?}");
            assert!(ring.now() >= until, "{kind:?}: it came {:?} early", until.saturating_sub(ring.now()));
            assert!(ring.now() < until + Duration::from_secs(5), "{kind:?}");
        });
    }
}
