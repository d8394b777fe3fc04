//! The client is tried against servers that lie: a check that cannot fail shows nothing. Each lie is
//! told by a thread of this process, and the client must find it and say what it is.

use crate::client::{Payload, Peer};
use libtest_mimic::{Failed, Trial};
use socket2::SockRef;
use std::cell::Cell;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread;
use std::time::Duration;

/// What a server does with what it received, in place of echoing it.
type Lie = fn(&mut TcpStream, &mut Vec<u8>);

/// Each lie, and a word the client must find for it.
const LIES: [(&str, Lie, &str); 8] = [
    ("a_flipped_bit_is_found", |_, bytes| bytes[777] ^= 4, "wrong at byte 777"),
    ("a_lost_byte_is_found", |_, bytes| _ = bytes.remove(500), "wrong at byte 50"),
    ("a_doubled_byte_is_found", |_, bytes| bytes.insert(500, bytes[500]), "wrong at byte 50"),
    ("two_swapped_halves_are_found", |_, bytes| bytes.rotate_left(512), "wrong at byte 0"),
    ("foreign_bytes_are_named", |_, bytes| Payload::next().fill(64, bytes), "those of connection"),
    ("a_missing_last_byte_is_found", |_, bytes| bytes.truncate(1023), "ended after 1023"),
    ("extra_bytes_are_found", |_, bytes| bytes.extend([7; 8]), "wrong at byte 1024"),
    ("a_reset_instead_of_an_end_is_found", reset, "reset"),
];

fn reset(stream: &mut TcpStream, bytes: &mut Vec<u8>) {
    SockRef::from(&*stream).set_linger(Some(Duration::ZERO)).expect("a socket");
    bytes.clear();
}

/// The trials.
pub fn trials() -> Vec<Trial> {
    let mut trials = vec![
        trial("the_client_believes_an_honest_server", || told(|_, _| {})),
        trial("the_payload_is_the_same_from_any_offset", any_offset),
    ];
    trials.extend(LIES.map(|(name, lie, word)| trial(name, move || found(lie, word))));
    trials
}

fn trial(name: &str, body: impl FnOnce() + Send + 'static) -> Trial {
    Trial::test(format!("client::{name}"), move || {
        body();
        Ok::<(), Failed>(())
    })
}

/// One peer sends 1,024 bytes and its FIN to a server that tells this lie.
fn told(lie: Lie) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("bound");
    let server = thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("a peer");
        let mut bytes = vec![0; 1024];
        stream.read_exact(&mut bytes).expect("what was sent");
        lie(&mut stream, &mut bytes);
        let _ = stream.write_all(&bytes);
        // A close with the peer's FIN unread would be a reset.
        if !bytes.is_empty() {
            let _ = stream.shutdown(std::net::Shutdown::Write);
            let _ = stream.read(&mut [0; 1]);
        }
    });
    let mut peer = Peer::connect(address);
    peer.exchange(1024, 1024);
    peer.finish_cleanly();
    server.join().expect("no panic");
}

thread_local! {
    /// True while a panic of this thread is what the test waits for.
    static EXPECTING: Cell<bool> = const { Cell::new(false) };
}

/// Keeps expected panics out of the output.
pub fn hide_expected_panics() {
    let print = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        if !EXPECTING.get() {
            print(panic);
        }
    }));
}

fn found(lie: Lie, word: &str) {
    EXPECTING.set(true);
    let outcome = catch_unwind(AssertUnwindSafe(|| told(lie)));
    EXPECTING.set(false);
    let panic = outcome.expect_err("the client believed it");
    let text = panic.downcast_ref::<String>().cloned().unwrap_or_default();
    assert!(text.contains(word), "found, and called: {text}");
}

fn any_offset() {
    let payload = Payload::next();
    let mut whole = vec![0; 10_000];
    payload.fill(0, &mut whole);
    for offset in [0usize, 1, 7, 8, 9, 4095, 4096, 4097] {
        for length in [1usize, 2, 7, 8, 9, 64, 5000] {
            let mut part = vec![0; length];
            payload.fill(offset as u64, &mut part);
            assert!(part == whole[offset..offset + length], "{length} bytes from {offset}");
            payload.check(offset as u64, &part).expect("its own bytes");
        }
    }
    assert!(payload.check(1, &whole[..64]).is_err());
}
