//! What only epoll behind the seam has to prove; what it has in common with the ring stands in
//! `ring/dialing/tests`.

use super::super::{Pages, stride};
use super::*;
use nix::sys::eventfd::EventFd;
use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;

const BUFFERS: u16 = 64;
const SIZE: u32 = 1024;

/// Runs `test` with an instance whose buffers are all provided, and a listener to connect to.
fn with(test: impl FnOnce(&mut Readiness<'_>, &TcpListener)) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let targets: [SocketAddr; 1] = [listener.local_addr().unwrap()];
    let pages = Pages::new(u64::from(BUFFERS) * stride(SIZE)).unwrap();
    let waker = EventFd::new().unwrap();
    let setup = Setup {
        targets: &targets,
        connections: 10,
        direct: false,
        buffer_count: BUFFERS,
        buffer_size: SIZE,
        origin: Instant::now(),
    };
    let mut readiness = Readiness::new(&setup, pages.memory(), waker.as_fd()).unwrap();
    (0..BUFFERS).for_each(|buffer| readiness.provide(buffer));
    readiness.publish();
    test(&mut readiness, &listener);
}

/// A connection, and its other end.
fn connected(readiness: &mut Readiness<'_>, listener: &TcpListener) -> (Socket, TcpStream) {
    let socket = readiness.open(0, None).unwrap();
    readiness.push(Operation::Connect { socket, target: 0 }, Token(99));
    assert_eq!(readiness.enter(1, None), Entered::Done);
    let done = readiness.next_completion().unwrap();
    assert_eq!((done.token, done.result), (Token(99), 0));
    (socket, listener.accept().unwrap().0)
}

fn completions(readiness: &mut Readiness<'_>) -> Vec<Completion> {
    std::iter::from_fn(|| readiness.next_completion()).collect()
}

#[test]
fn one_that_has_much_to_say_does_not_keep_out_the_others() {
    with(|readiness, listener| {
        let (loud, mut loud_peer) = connected(readiness, listener);
        let (quiet, mut quiet_peer) = connected(readiness, listener);
        loud_peer.write_all(&vec![1; 40 * SIZE as usize]).unwrap();
        quiet_peer.write_all(&[2]).unwrap();
        // Both have arrived.
        let arrived = |socket: Socket, readiness: &mut Readiness<'_>| {
            let (_, watched) = readiness.watched(socket);
            rustix::io::ioctl_fionread(&watched.socket).unwrap()
        };
        while arrived(loud, readiness) < 40 * u64::from(SIZE) || arrived(quiet, readiness) < 1 {
            std::thread::yield_now();
        }
        readiness.push(Operation::Receive { socket: loud, limit: u32::MAX }, Token(1));
        readiness.push(Operation::Receive { socket: quiet, limit: u32::MAX }, Token(2));
        let mut taken = 0;
        for turn in 0.. {
            assert_eq!(readiness.enter(1, None), Entered::Done);
            let done = completions(readiness);
            let loud = done.iter().filter(|done| done.token == Token(1)).count();
            assert!(loud <= 10, "{loud} in turn {turn}");
            assert!(turn > 0 || done.iter().any(|done| done.token == Token(2)));
            taken += loud;
            if taken == 40 {
                return;
            }
        }
    });
}

#[test]
fn waits_end_when_they_should_to_the_microsecond_where_the_kernel_can() {
    with(|readiness, _| {
        for exact in [true, false] {
            readiness.exact &= exact;
            let mut shortest = Duration::MAX;
            for _ in 0..50 {
                let until = readiness.now() + Duration::from_micros(200);
                let calls = readiness.enters();
                assert_eq!(readiness.enter(1, Some(until)), Entered::Done);
                assert!(readiness.enters() <= calls + 2, "it spins");
                let late = readiness.now().checked_sub(until).expect("not before its time");
                shortest = shortest.min(late);
            }
            // Rounded up, it takes a millisecond at least.
            assert!(!readiness.exact || shortest < Duration::from_micros(700), "{shortest:?}");
        }
    });
}

#[test]
fn what_is_not_there_cannot_be_cancelled() {
    with(|readiness, listener| {
        let (socket, _peer) = connected(readiness, listener);
        readiness.push(Operation::Receive { socket, limit: 1 }, Token(1));
        readiness.cancel(socket, Token(1), Token(2));
        readiness.cancel(socket, Token(1), Token(3));
        assert_eq!(readiness.enter(3, None), Entered::Done);
        let results: Vec<_> =
            completions(readiness).iter().map(|done| (done.token.0, done.outcome().err())).collect();
        assert_eq!(results, [(1, Some(Errno::ECANCELED)), (2, None), (3, Some(Errno::ENOENT))]);
    });
}

#[test]
fn a_wake_up_before_anybody_watches_is_not_lost() {
    let waker = EventFd::new().unwrap();
    let pages = Pages::new(stride(SIZE)).unwrap();
    let setup = Setup {
        targets: &[],
        connections: 1,
        direct: false,
        buffer_count: 1,
        buffer_size: SIZE,
        origin: Instant::now(),
    };
    let mut readiness = Readiness::new(&setup, pages.memory(), waker.as_fd()).unwrap();
    waker.write(1).unwrap();
    assert_eq!(readiness.enter(0, None), Entered::Done);
    assert_eq!(readiness.next_completion(), None);
    readiness.push(Operation::Wakeups, Token(5));
    assert_eq!(readiness.enter(1, None), Entered::Done);
    assert_eq!(readiness.next_completion().map(|done| (done.token, done.more)), Some((Token(5), true)));
}

#[test]
fn a_buffer_is_filled_only_when_it_was_published() {
    with(|readiness, listener| {
        let (socket, mut peer) = connected(readiness, listener);
        peer.write_all(&vec![1; (BUFFERS as usize + 1) * SIZE as usize]).unwrap();
        readiness.push(Operation::Receive { socket, limit: u32::MAX }, Token(1));
        let mut seen = Vec::new();
        let last = loop {
            assert_eq!(readiness.enter(1, None), Entered::Done);
            let done = completions(readiness);
            seen.extend(done.iter().filter_map(|done| done.buffer));
            if let Some(last) = done.last().filter(|done| !done.more) {
                break *last;
            }
        };
        assert_eq!(last.outcome(), Err(Errno::ENOBUFS));
        seen.sort_unstable();
        assert_eq!(seen, (0..BUFFERS).collect::<Vec<_>>(), "each buffer once");
        readiness.provide(7);
        readiness.push(Operation::Receive { socket, limit: u32::MAX }, Token(2));
        assert_eq!(readiness.enter(1, None), Entered::Done);
        assert_eq!(readiness.next_completion().unwrap().outcome(), Err(Errno::ENOBUFS));
        readiness.publish();
        readiness.push(Operation::Receive { socket, limit: u32::MAX }, Token(3));
        assert_eq!(readiness.enter(1, None), Entered::Done);
        assert_eq!(readiness.next_completion().unwrap().buffer, Some(7));
    });
}
