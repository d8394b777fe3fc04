//! Rows about the start: what is refused, with which exit code and which words; addresses and
//! restarts. Everything here ends before it serves, or serves where it said.

use super::{Case, Row, Variant, account_is_whole, canary, own_address, row, scaled, served};
use crate::client::{Ending, Peer, Shape, exchange, finish_cleanly};
use crate::server::{Ended, Launch};
use crate::skip::Need;
use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::Signal;
use socket2::{Domain, Socket, Type};
use std::ffi::OsString;
use std::io::ErrorKind;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::ffi::OsStringExt;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

/// What does not depend on the backend is tried on one.
const ONCE: &[Variant] = &[Variant::Epoll];
const URING: &[Variant] = &[Variant::Uring];

/// The rows.
pub fn rows() -> Vec<Row> {
    vec![
        row!(an_address_in_use_is_refused_with_its_name).starts_its_own(),
        row!(an_address_that_becomes_free_in_time_is_taken).starts_its_own(),
        row!(who_connects_before_the_ready_line_is_served).workers(8).starts_its_own(),
        row!(two_servers_never_share_an_address),
        // So few connections that what each has locked is not what is missing.
        row!(a_privileged_port_is_explained).with("--max-connections 100").starts_its_own().needs(Need::Root),
        row!(a_wrong_address_is_a_usage_error).starts_its_own().on(ONCE),
        row!(an_address_of_nobody_here_is_refused).starts_its_own(),
        row!(several_addresses_are_served).with("--listen 127.0.0.1:0 --listen 127.0.0.1:0"),
        row!(ipv6_is_served).with("--listen [::1]:0 --listen 127.0.0.1:0").needs(Need::Ipv6),
        row!(an_ipv6_listener_takes_no_ipv4).starts_its_own().needs(Need::Ipv6),
        row!(where_there_is_only_ipv6_it_serves)
            .starts_its_own()
            .needs(Need::Root)
            .needs(Need::Ipv6)
            .needs(Need::IpCommand),
        row!(without_ipv6_it_says_so).starts_its_own().needs(Need::Root),
        row!(a_wrong_number_is_a_usage_error).starts_its_own().on(ONCE),
        row!(all_problems_are_reported_at_once).starts_its_own().on(ONCE),
        row!(a_wrong_size_is_refused_before_the_kernel_sees_it).starts_its_own().on(URING),
        row!(options_that_exclude_each_other_are_refused).starts_its_own().on(ONCE),
        row!(what_is_unknown_is_a_usage_error).starts_its_own().on(ONCE),
        row!(after_a_mass_close_the_same_port_binds_again).starts_its_own(),
        row!(after_a_kill_the_same_port_binds_again).starts_its_own(),
    ]
}

/// Refused with this code, with words for a person that contain all of these.
#[track_caller]
fn refused(ended: &Ended, code: i32, words: &[&str]) {
    assert_eq!((ended.code, ended.signal), (Some(code), None), "{ended:?}");
    for word in words {
        assert!(ended.stderr.contains(word), "{word:?} is not in: {}", ended.stderr);
    }
    assert!(!ended.stderr.contains("panicked"), "{}", ended.stderr);
    assert!(ended.stderr.contains(' '), "no sentence: {}", ended.stderr);
}

/// F78: refused, with the address, after trying for a second.
fn an_address_in_use_is_refused_with_its_name(case: &mut Case) {
    let holder = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = holder.local_addr().expect("bound").to_string();
    let ended = case.launch(&["--listen", &address]).end();
    refused(&ended, 1, &[&address]);
    assert!(ended.ran >= Duration::from_millis(900), "it was not retried");
    drop(holder);
}

/// F78, F90: a killed server's sockets close late; an address free within the second is taken.
fn an_address_that_becomes_free_in_time_is_taken(case: &mut Case) {
    let holder = TcpListener::bind((own_address().as_str(), 0)).expect("a port");
    let address = holder.local_addr().expect("bound").to_string();
    let process = own(case, &address).spawn();
    while !process.stderr().contains(&address) {
        assert!(process.is_alive(), "it gave up: {}", process.stderr());
        thread::sleep(Duration::from_millis(5));
    }
    drop(holder);
    let ready = process.next_line().expect("the ready line");
    assert!(ready.contains(&address), "{ready}");
    // Not earlier: until the server has the address, a connection may still reach the holder, which a
    // process that another test is just starting has inherited and not yet closed; it is reset then.
    let mut peer = Peer::connect(address.parse().expect("an address"));
    peer.exchange(1000, 1000);
    peer.finish_cleanly();
    process.signal(Signal::SIGTERM);
    assert_eq!(process.wait().code, Some(0));
}

/// The first listener listens while the others join it and the workers lay out what they need.
/// Whoever got a connection by then keeps it, and has bytes echoed.
fn who_connects_before_the_ready_line_is_served(case: &mut Case) {
    let address = free_address();
    let ready = AtomicBool::new(false);
    let (server, mut peers) = thread::scope(|scope| {
        let early = scope.spawn(|| {
            let mut peers = Vec::new();
            // Also a few after the line: a machine that is busy may have let nobody in before.
            while !ready.load(Ordering::Relaxed) || peers.len() < 50 {
                match Peer::try_connect(address, Shape::default()) {
                    Ok(peer) if peers.len() < 1_000 => peers.push(peer),
                    Ok(peer) => peer.finish_cleanly(),
                    Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionRefused, "{error}"),
                }
            }
            peers
        });
        let server = own(case, &address.to_string()).start();
        ready.store(true, Ordering::Relaxed);
        (server.unwrap_or_else(|ended| panic!("{ended:?}")), early.join().expect("all were let in"))
    });
    exchange(&mut peers, 2_000, 500);
    finish_cleanly(peers);
    let ended = server.terminate(Signal::SIGTERM);
    account_is_whole(&ended);
    assert_eq!((ended.code, ended.summary().refused()), (Some(0), 0), "{ended:?}");
}

/// An address of its own that is free, and that nobody listens on.
fn free_address() -> SocketAddr {
    let socket = Socket::new(Domain::IPV4, Type::STREAM.cloexec(), None).expect("a socket");
    let address = SocketAddr::new(own_address().parse().expect("an address"), 0);
    socket.bind(&address.into()).expect("a port");
    socket.local_addr().ok().and_then(|address| address.as_socket()).expect("bound")
}

/// The row's command line on this address only.
fn own(case: &Case, address: &str) -> Launch {
    let mut words = case.command.clone();
    let at = words.iter().position(|word| word == "--listen").expect("a listen address");
    words[at + 1] = address.into();
    Launch::new(words)
}

/// F99: SO_REUSEPORT between the workers lets no second server in.
fn two_servers_never_share_an_address(case: &mut Case) {
    let address = case.server().address().to_string();
    refused(&own(case, &address).end(), 1, &[&address]);
}

/// F79: without the right to it, port 7 is refused with what would do.
fn a_privileged_port_is_explained(case: &mut Case) {
    let drop_rights = ["setpriv", "--bounding-set=-all", "--inh-caps=-all"];
    let ended = own(case, "127.0.0.1:7").through(&drop_rights).end();
    refused(&ended, 1, &["127.0.0.1:7", "1024"]);
}

/// F80: not an address.
fn a_wrong_address_is_a_usage_error(_: &mut Case) {
    let wrong = [
        "",
        "127.0.0.1",
        "127.0.0.1:65536",
        "127.0.0.1:-1",
        "localhost:8888",
        "1.2.3.4.5:1",
        ":::1",
        "[::1]",
        "8888",
    ];
    for address in wrong {
        let ended = Launch::new(["--listen", address]).end();
        refused(&ended, 2, &["--listen", address]);
    }
}

/// F80: an address no interface of this machine has (a documentation network).
fn an_address_of_nobody_here_is_refused(case: &mut Case) {
    refused(&own(case, "192.0.2.1:0").end(), 1, &["192.0.2.1"]);
}

/// `--listen` twice.
fn several_addresses_are_served(case: &mut Case) {
    let server = case.server();
    assert_eq!(server.listen.len(), 2);
    assert_ne!(server.listen[0], server.listen[1]);
    for &address in &server.listen {
        let mut peers = crate::client::crowd(address, 20);
        exchange(&mut peers, 5_000, 500);
        finish_cleanly(peers);
    }
}

/// F81: both families.
fn ipv6_is_served(case: &mut Case) {
    assert!(case.server().listen[0].is_ipv6() && case.server().listen[1].is_ipv4());
    several_addresses_are_served(case);
}

/// F81: a wildcard of IPv6 is remarked on, and V6ONLY.
fn an_ipv6_listener_takes_no_ipv4(case: &mut Case) {
    case.adopt(own(case, "[::]:0").start());
    let server = case.server();
    let port = server.address().port();
    Peer::connect(SocketAddr::from((std::net::Ipv6Addr::LOCALHOST, port))).finish_cleanly();
    // On an address of its own: the port is free for IPv4, and another test may have it on 127.0.0.1.
    let ipv4 = TcpStream::connect((own_address().as_str(), port));
    assert!(ipv4.is_err(), "an IPv6 listener took an IPv4 peer: {ipv4:?}");
    let notes = server.ready["notes"].to_string() + &server.stderr();
    assert!(notes.contains("[::]"), "a wildcard address is remarked on: {notes}");
    // The harness's own canary asks the first address, which is the wildcard: it is IPv6's own.
}

/// F81: a network of its own in which there is nothing but ::1.
fn where_there_is_only_ipv6_it_serves(case: &mut Case) {
    // A thread that leaves the network of this process for good, and what it starts with it.
    let alone = |case: &mut Case| {
        unshare(CloneFlags::CLONE_NEWNET).expect("root may");
        for words in ["link set lo up", "address delete 127.0.0.1/8 dev lo"] {
            let status = Command::new("ip").args(words.split(' ')).status().expect("ip(8)");
            assert!(status.success(), "ip {words}");
        }
        assert!(TcpListener::bind("127.0.0.1:0").is_err(), "there is IPv4: the row shows nothing");
        refused(&own(case, "127.0.0.1:0").end(), 1, &["127.0.0.1", "[::1]:0 would do"]);
        case.adopt(own(case, "[::1]:0").start());
        let mut peers = served(case.server(), 50);
        exchange(&mut peers, 20_000, 5_000);
        finish_cleanly(peers);
        case.close();
    };
    let ran = thread::scope(|scope| scope.spawn(|| alone(case)).join());
    ran.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
}

/// F81: a namespace in which IPv6 is off.
fn without_ipv6_it_says_so(case: &mut Case) {
    let script =
        "echo 1 > /proc/sys/net/ipv6/conf/all/disable_ipv6; ip link set lo up 2>/dev/null; exec \"$@\"";
    let launcher = ["unshare", "-n", "sh", "-c", script, "sh"];
    let ended = own(case, "[::1]:0").through(&launcher).end();
    refused(&ended, 1, &["[::1]"]);
}

/// F82: numbers that are none, too small, too large or overflow; the flag and the value are named.
fn a_wrong_number_is_a_usage_error(_: &mut Case) {
    let numbers = ["--workers", "--max-connections", "--backlog"];
    let wrong = ["-1", "abc", "", "99999999999999999999", "1.5.2", "0x10"];
    let mut cases: Vec<(&str, &str)> = Vec::new();
    for flag in numbers {
        cases.extend(wrong.map(|value| (flag, value)));
    }
    for flag in [
        "--idle-timeout",
        "--write-timeout",
        "--drain-timeout",
        "--stats-every",
        "--user-timeout",
        "--keepalive",
    ] {
        cases.extend(["-1s", "5 parsecs", "", "99999999999999999999s", "s"].map(|value| (flag, value)));
    }
    for flag in ["--spill-limit", "--unsent-limit", "--recv-buffer"] {
        cases.extend(["-1", "4Xi", "", "99999999999999Gi"].map(|value| (flag, value)));
    }
    cases.extend([
        ("--workers", "0"),
        ("--workers", "100000"),
        ("--max-connections", "0"),
        ("--cpus", "0-"),
        ("--cpus", "99999"),
    ]);
    for (flag, value) in cases {
        let argument = format!("{flag}={value}");
        let ended = Launch::new([argument.as_str(), "--listen=127.0.0.1:0", "--backend=epoll"]).end();
        refused(&ended, 2, &[flag, value]);
    }
}

/// All problems at once, not the first.
fn all_problems_are_reported_at_once(_: &mut Case) {
    let arguments = ["--workers=0", "--max-connections=0", "--epoll=trigger=sideways", "--backend=epoll"];
    let ended = Launch::new(arguments.into_iter().chain(["--listen=127.0.0.1:0"])).end();
    refused(&ended, 2, &["--workers", "--max-connections", "sideways"]);
}

/// F82, F83: sizes the kernel would answer with EINVAL, or that no memory could hold.
fn a_wrong_size_is_refused_before_the_kernel_sees_it(_: &mut Case) {
    let wrong = [
        "buffer-count=3000",
        "buffer-count=0",
        "buffer-count=65536",
        "buffer-size=0",
        "buffer-size=-1",
        "sq=65536",
        "sq=0",
        "cq=0",
        "cq=1048576",
        "sq=8,cq=4",
        "buffer-size=1Gi,buffer-count=32768",
        "sq=99999999999999999999",
    ];
    for features in wrong {
        let ended = Launch::new(["--backend=uring", "--listen=127.0.0.1:0", "--uring", features]).end();
        let name = features.split(['=', ',']).next().expect("a name");
        refused(&ended, 2, &[name]);
    }
}

/// F84: what excludes each other is said.
fn options_that_exclude_each_other_are_refused(_: &mut Case) {
    let cases: [(&[&str], i32, &str); 6] = [
        (&["--backend=epoll", "--uring=recv=single"], 2, "--uring"),
        (&["--backend=uring", "--epoll=read=once"], 2, "--epoll"),
        (&["--backend=uring", "--uring=recv=single,recv=multishot"], 2, "recv"),
        (&["--backend=uring", "--uring=taskrun=sideways"], 2, "taskrun"),
        (&["--backend=uring", "--uring=nonsense=on"], 2, "nonsense"),
        (&["--backend=neither"], 2, "neither"),
    ];
    for (arguments, code, word) in cases {
        let ended = Launch::new(arguments.iter().chain(&["--listen=127.0.0.1:0"])).end();
        refused(&ended, code, &[word]);
    }
}

/// F85: unknown, doubled, not UTF-8, very long.
fn what_is_unknown_is_a_usage_error(_: &mut Case) {
    let long = "x".repeat(100 * 1024);
    let cases: [Vec<OsString>; 6] = [
        vec!["--no-such-option".into()],
        vec!["no-such-verb".into()],
        vec!["--backend=epoll".into(), "--backend=uring".into()],
        vec![OsString::from_vec(b"--listen=\xff\xfe".to_vec())],
        vec![OsString::from_vec(b"\xff\xfe".to_vec())],
        vec!["--listen".into(), long.into()],
    ];
    for arguments in cases {
        let ended = Launch::new(&arguments).end();
        assert_eq!(
            (ended.code, ended.signal),
            (Some(2), None),
            "{}",
            &ended.stderr[..ended.stderr.len().min(500)]
        );
        assert!(!ended.stderr.contains("panicked"));
    }
}

/// F43: the server closes many connections at its stop; their TIME_WAIT keeps nobody off the port.
fn after_a_mass_close_the_same_port_binds_again(case: &mut Case) {
    case.adopt(own(case, &format!("{}:0", own_address())).start());
    let address = case.server().address().to_string();
    let peers = served(case.server(), scaled(500, 4_000));
    let ended = case.end(Signal::SIGTERM);
    assert_eq!(ended.code, Some(0));
    for mut peer in peers {
        assert_eq!(peer.receive_to_end(), Ending::Clean);
    }
    case.adopt(own(case, &address).start());
    canary(case.server());
}

/// F90: killed under load and started again on the same port; clients see an end and nothing else.
fn after_a_kill_the_same_port_binds_again(case: &mut Case) {
    let mut address = format!("{}:0", own_address());
    for _ in 0..scaled(3, 100) {
        case.adopt(own(case, &address).start());
        address = case.server().address().to_string();
        let mut peers = served(case.server(), 50);
        for peer in &mut peers {
            peer.send(20_000);
        }
        let server = case.take();
        server.signal(Signal::SIGKILL);
        assert_eq!(server.wait().signal, Some(Signal::SIGKILL as i32));
        // Whatever still came was right: that is checked while it is received.
        peers.iter_mut().for_each(|peer| _ = peer.receive_to_end());
    }
    case.adopt(own(case, &address).start());
}
