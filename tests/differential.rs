//! The same behaviour: one seeded script of a client (sizes, pauses, half-close, reset, slow reading)
//! against every variant of the server and against a plain blocking server with a thread for each
//! connection. What came back and how it ended must be equal.
//!
//! A script is drawn so that its outcome depends on nothing but itself: it never has more on its way
//! than any buffer between the two ends holds, and reads what it wants before it resets.

use crate::client::{Ending, Peer, SMALL, Shape};
use crate::rows::{EVERYWHERE, Variant};
use crate::server::Launch;
use crate::skip::{Need, unless_missing};
use libtest_mimic::Trial;
use nix::sys::signal::Signal;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// One thing a peer does.
#[derive(Clone, Debug)]
enum Deed {
    /// Sends so many bytes.
    Send(u64),
    /// Reads so many bytes of what it is owed.
    Receive(u64),
    /// The same, a few bytes at a time.
    ReceiveSlowly(u64),
    /// Sends and receives at once.
    Exchange(u64),
    /// Does nothing for so many microseconds.
    Pause(u64),
}

/// How a peer takes its leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Leave {
    /// Its FIN, then everything to the end.
    Finish,
    /// A reset.
    Reset,
    /// A close with its echo unread, which the kernel makes a reset.
    Drop,
}

#[derive(Clone, Debug)]
struct Script {
    small: bool,
    deeds: Vec<Deed>,
    leave: Leave,
}

/// What a peer saw: bytes that came back and were right, and the server's ending, if it waited for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Seen {
    verified: u64,
    ending: Option<Ending>,
}

/// Less than any buffer between the two ends: whoever sends it is never blocked for ever.
const ON_ITS_WAY: u64 = 16 * 1024;
const SCRIPTS: usize = 60;
const AT_ONCE: usize = 12;

/// The trials: one for each variant.
pub fn trials() -> Vec<Trial> {
    let seed = match std::env::var("C10K_SEED") {
        Ok(text) => text.parse().expect("C10K_SEED is a number"),
        Err(_) => SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_nanos() as u64,
    };
    let mut trials: Vec<Trial> = EVERYWHERE.iter().map(|&variant| trial(variant, seed)).collect();
    trials.push(Trial::test("the_comparison_notices_a_server_that_ends_early", || {
        let scripts = draw(1);
        let (honest, early) = (run_all(plain(usize::MAX), &scripts), run_all(plain(5_000), &scripts));
        assert_ne!(honest, early);
        Ok(())
    }));
    trials
}

fn trial(variant: Variant, seed: u64) -> Trial {
    let needs: Vec<Need> = variant.is_ring().then_some(Need::Uring).into_iter().collect();
    let name = format!("the_same_as_a_plain_server::{}", variant.name());
    unless_missing(name, &needs, move || {
        let scripts = draw(seed);
        let server = Launch::new(variant.command()).start().unwrap_or_else(|ended| panic!("{ended:?}"));
        let expected = run_all(plain(usize::MAX), &scripts);
        let seen = run_all(server.address(), &scripts);
        for ((script, expected), seen) in scripts.iter().zip(expected).zip(seen) {
            assert_eq!(seen, expected, "C10K_SEED={seed} replays it: {script:?}");
        }
        server.wait_until("all are gone", |account| account.get("open") == 0);
        assert_eq!(server.terminate(Signal::SIGTERM).code, Some(0));
        Ok(())
    })
}

fn draw(seed: u64) -> Vec<Script> {
    let mut random = fastrand::Rng::with_seed(seed);
    (0..SCRIPTS).map(|_| draw_one(&mut random)).collect()
}

fn draw_one(random: &mut fastrand::Rng) -> Script {
    let mut owed = 0;
    let mut deeds = Vec::new();
    for _ in 0..random.usize(0..12) {
        let size = 1 << random.u32(0..14);
        let deed = match random.u8(0..6) {
            0 | 1 if owed < ON_ITS_WAY => Deed::Send(random.u64(1..=(ON_ITS_WAY - owed).min(size))),
            2 if owed > 0 => Deed::Receive(random.u64(1..=owed)),
            3 if owed > 0 => Deed::ReceiveSlowly(random.u64(1..=owed).min(2_000)),
            4 => Deed::Exchange(random.u64(1..200_000)),
            _ => Deed::Pause(random.u64(0..5_000)),
        };
        match deed {
            Deed::Send(count) => owed += count,
            Deed::Receive(count) | Deed::ReceiveSlowly(count) => owed -= count,
            // It leaves nothing on its way.
            Deed::Exchange(_) => owed = 0,
            Deed::Pause(_) => {}
        }
        deeds.push(deed);
    }
    let leave = [Leave::Finish, Leave::Finish, Leave::Reset, Leave::Drop][random.usize(0..4)];
    Script { small: random.bool(), deeds, leave }
}

fn run_all(address: SocketAddr, scripts: &[Script]) -> Vec<Seen> {
    let mut seen = Vec::new();
    for group in scripts.chunks(AT_ONCE) {
        thread::scope(|scope| {
            let peers: Vec<_> = group.iter().map(|script| scope.spawn(|| run(address, script))).collect();
            seen.extend(
                peers
                    .into_iter()
                    .map(|peer| peer.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))),
            );
        });
    }
    seen
}

/// Plays one script. An ending where more was owed is what it saw, not a failure of its own.
fn run(address: SocketAddr, script: &Script) -> Seen {
    let mut peer = Peer::connect_as(address, if script.small { SMALL } else { Shape::default() });
    for deed in &script.deeds {
        if let Err(ending) = play(&mut peer, deed) {
            return Seen { verified: peer.verified, ending: Some(ending) };
        }
    }
    let verified = peer.verified;
    match script.leave {
        Leave::Finish => {
            peer.finish();
            let ending = peer.receive_to_end();
            Seen { verified: peer.verified, ending: Some(ending) }
        }
        Leave::Reset => {
            peer.reset();
            Seen { verified, ending: None }
        }
        Leave::Drop => Seen { verified, ending: None },
    }
}

fn play(peer: &mut Peer, deed: &Deed) -> Result<(), Ending> {
    match *deed {
        Deed::Send(count) => peer.try_send(count).map_err(|_| Ending::Reset),
        Deed::Receive(count) => receive(peer, count, usize::MAX),
        Deed::ReceiveSlowly(count) => receive(peer, count, 61),
        Deed::Exchange(count) => {
            let owed = peer.sent - peer.verified;
            crate::client::try_exchange(std::slice::from_mut(peer), count, ON_ITS_WAY.max(owed))
                .map_err(|_| Ending::Reset)
        }
        Deed::Pause(microseconds) => {
            thread::sleep(Duration::from_micros(microseconds));
            Ok(())
        }
    }
}

fn receive(peer: &mut Peer, count: u64, piece: usize) -> Result<(), Ending> {
    let target = peer.verified + count;
    while peer.verified < target {
        let limit = piece.min((target - peer.verified) as usize);
        if let Some(ending) = peer.receive_some(limit).expect("bytes, or an end") {
            return Err(ending);
        }
        if piece < 100 {
            thread::sleep(Duration::from_micros(50));
        }
    }
    Ok(())
}

/// The oracle: a blocking thread for each connection, and nothing clever. It ends a connection after
/// `limit` bytes.
fn plain(limit: usize) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("bound");
    // It serves one run of the scripts; no connection comes after them.
    thread::spawn(move || {
        for stream in listener.incoming().take(SCRIPTS).flatten() {
            thread::spawn(move || echo(stream, limit));
        }
    });
    address
}

fn echo(mut stream: TcpStream, limit: usize) {
    let mut bytes = [0; 8192];
    let mut echoed = 0;
    while let Ok(count @ 1..) = stream.read(&mut bytes) {
        echoed += count;
        if echoed > limit || stream.write_all(&bytes[..count]).is_err() {
            return;
        }
    }
    let _ = stream.shutdown(Shutdown::Write);
}
