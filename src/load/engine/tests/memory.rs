//! What a connection takes beside what the kernel takes for it: everything that the engine and the ring
//! or the epoll instance under it allocate, from the first connect to the last close, at its highest, counted
//! over real sockets. What does not grow with the connections falls out: it is the difference of two runs.
//!
//! Left out, since they do not grow either: the buffers and the scratch, which are mapped and not allocated.

use super::super::super::plan::{self, Plan, Spacing};
use super::*;
use crate::ring::dialing::{self, Setup};
use crate::ring::readiness::Readiness;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::eventfd::EventFd;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::fd::AsFd;
use std::thread::JoinHandle;

/// The kernel's account aside, a connection may take so many bytes.
const MOST: u64 = 256;
const FEW: u32 = 500;
/// Both ends of them are descriptors of this process.
const MANY: u32 = 6_500;
const HOUR: Duration = Duration::from_secs(3600);

/// Echoes on so many connections, until all of them are closed.
fn echo(connections: u32) -> (SocketAddr, JoinHandle<()>) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    let thread = std::thread::spawn(move || {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).unwrap();
        epoll.add(&listener, EpollEvent::new(EpollFlags::EPOLLIN, u64::MAX)).unwrap();
        let (mut streams, mut open) = (Vec::new(), connections);
        let (mut events, mut bytes) = ([EpollEvent::empty(); 256], [0; 4096]);
        while open > 0 {
            let count = epoll.wait(&mut events, EpollTimeout::NONE).unwrap();
            for event in &events[..count] {
                if event.data() == u64::MAX {
                    let (stream, _) = listener.accept().unwrap();
                    epoll.add(&stream, EpollEvent::new(EpollFlags::EPOLLIN, streams.len() as u64)).unwrap();
                    streams.push(Some(stream));
                    continue;
                }
                let place = &mut streams[event.data() as usize];
                let stream = place.as_mut().unwrap();
                match stream.read(&mut bytes) {
                    Ok(count @ 1..) => stream.write_all(&bytes[..count]).unwrap(),
                    _ => {
                        *place = None;
                        open -= 1;
                    }
                }
            }
        }
    });
    (address, thread)
}

/// The most that a run with so many connections had allocated at any time.
fn peak(engine: plan::Engine, connections: u32) -> Option<u64> {
    let offered = match engine {
        // Nothing to be measured where there is no such kernel.
        plan::Engine::Uring => Some(dialing::offered().ok()?),
        plan::Engine::Epoll => None,
    };
    let (address, server) = echo(connections);
    let plan = Plan {
        target: address,
        connections,
        size: 64..=64,
        depth: 1,
        workload: Workload::PingPong,
        // Of all loops the one that remembers most of a connection.
        arrivals: Arrivals::Open { rate: 20e3, spacing: Spacing::Uniform },
        end: End::After(HOUR),
        warmup: Duration::ZERO,
        interval: HOUR,
        grace: Duration::from_secs(60),
        connect_rate: None,
        connect_timeout: Duration::from_secs(60),
        sources: Vec::new(),
        ..Scenario::draw(0, World::Honest).plan
    };
    let arena = Arena::new(512, 4096, 512 * 1024).unwrap();
    let waker = EventFd::new().unwrap();
    let origin = Instant::now();
    let control = Control::new(origin, 0);
    let targets = [address];
    let setup = Setup {
        targets: &targets,
        connections,
        direct: false,
        buffer_count: arena.count(),
        buffer_size: arena.size(),
        origin,
    };
    let allocated = allocation_counter::measure(|| {
        let (sender, reports) = channel();
        let share = Share::of_all(&plan, &control, sender);
        let spares = channel().1;
        match &offered {
            Some(offered) => {
                let mut dialer = dialing::Dialer::new(offered, &setup).unwrap();
                let ring = dialer.ring(arena.memory(), waker.as_fd()).unwrap();
                live(Engine::new(ring, &arena, share, spares), &control, &reports, &waker);
            }
            None => {
                let ring = Readiness::new(&setup, arena.memory(), waker.as_fd()).unwrap();
                live(Engine::new(ring, &arena, share, spares), &control, &reports, &waker);
            }
        }
    });
    server.join().unwrap();
    Some(allocated.bytes_max)
}

/// From the first connect to the last close; in between every connection has had its turn.
fn live<R: Dialing>(
    mut engine: Engine<'_, R>,
    control: &Control,
    reports: &Receiver<Report>,
    waker: &EventFd,
) {
    while reports.try_recv().is_err() {
        assert_eq!(engine.turn(), None);
    }
    let begin = control.now();
    control.open(begin, begin + HOUR.as_nanos() as u64);
    control.advance(Phase::Load);
    waker.write(1).unwrap();
    while engine.connections.iter().any(|connection| connection.answered == 0) {
        assert_eq!(engine.turn(), None);
    }
    control.open(begin, control.now());
    control.advance(Phase::Grace);
    waker.write(1).unwrap();
    let ending = loop {
        if let Some(ending) = engine.turn() {
            break ending;
        }
    };
    assert_eq!(ending, Ending::Closed);
    let ended = engine.finish();
    assert_eq!((ended.stale, ended.wrong_connections, ended.stuck.count), (0, 0, 0));
    assert_eq!(ended.after.troubles.total(), 0, "{:?}", ended.after.troubles);
}

#[test]
fn a_connection_takes_at_most_256_bytes_over_either_engine() {
    let _ = crate::host::raise_descriptors();
    for engine in [plan::Engine::Uring, plan::Engine::Epoll] {
        let Some((few, many)) = peak(engine, FEW).zip(peak(engine, MANY)) else { continue };
        let each = many.saturating_sub(few) as f64 / f64::from(MANY - FEW);
        println!("{engine:?}: {each:.1} bytes a connection, {few} bytes with {FEW}, {many} with {MANY}");
        assert!(each <= MOST as f64, "{engine:?}: {each:.1} bytes a connection");
    }
}
