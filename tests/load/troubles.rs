//! What goes wrong around a load: no server, a wrong address, nothing left to connect with, a server that
//! stops, dies, resets or keeps silent. Each has its sentence, with cause and remedy, and its exit code.

use super::liar::{Edit, Liar, Manner, Then, Victim};
use super::run::{ENGINES, Engine, end, load, load_as, refused, run, running};
use crate::rows::{Variant, own_address};
use crate::server::{Launch, Server};
use crate::skip::{Need, unless_missing};
use libtest_mimic::Trial;
use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::Signal;
use rustix::process::{Pid, Resource, Rlimit, prlimit};
use serde_json::Value;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::Command;
use std::thread;
use std::time::Duration;

/// A name, what is tried, and what it needs.
type Row<Body> = (&'static str, Body, &'static [Need]);

/// The trials.
pub fn trials() -> Vec<Trial> {
    let everywhere: [Row<fn(Engine)>; 15] = [
        ("nobody_listening_is_explained", nobody_listens, &[]),
        ("a_server_that_dies_ends_the_load", server_dies, &[]),
        ("a_server_that_stops_for_three_seconds_shows_in_an_open_loop", stopped_open, &[]),
        ("a_server_that_stops_for_good_leaves_messages_unsent_and_counted", stopped_for_good, &[]),
        ("a_server_that_is_too_slow_leaves_messages_unsent_and_nobody_stuck", too_slow, &[]),
        ("a_closed_loop_says_that_it_is_one", stopped_closed, &[]),
        ("a_server_that_never_answers_leaves_named_connections", never_answers, &[]),
        ("a_server_that_resets_is_told_apart", resets, &[]),
        ("a_server_that_closes_at_once_is_told_apart", closes_at_once, &[]),
        ("a_churn_goes_on_after_what_went_wrong", churn_goes_on, &[]),
        ("descriptors_that_run_out_on_the_way_are_explained", descriptors_run_out, &[]),
        ("ports_that_do_not_suffice_are_refused", too_few_ports, &[Need::Root, Need::IpCommand]),
        ("ports_that_run_out_on_the_way_are_explained", ports_run_out, &[Need::Root, Need::IpCommand]),
        ("a_churn_that_uses_up_its_ports_says_so", churn_of_ports, &[Need::Root, Need::IpCommand]),
        ("an_address_without_a_way_is_explained", no_way, &[Need::Root, Need::IpCommand]),
    ];
    let pairs = everywhere.iter().flat_map(|row| ENGINES.map(|engine| (row, engine)));
    let pairs = pairs.map(|(&(name, body, needs), engine)| {
        let needs = [needs, &engine.needs()].concat();
        unless_missing(format!("load::{name}::{}", engine.name()), &needs, move || {
            body(engine);
            Ok(())
        })
    });
    let once: [Row<fn()>; 3] = [
        ("a_wrong_address_is_a_usage_error", wrong_addresses, &[]),
        ("too_few_descriptors_for_epoll_are_refused", too_few_descriptors, &[Need::Prlimit]),
        ("sockets_become_slots_where_descriptors_do_not_suffice", slots, &[Need::Prlimit, Need::Uring]),
    ];
    let once = once.map(|(name, body, needs)| {
        unless_missing(format!("load::{name}"), needs, move || {
            body();
            Ok(())
        })
    });
    pairs.chain(once).collect()
}

/// A server of ours, by readiness, as a process that can be stopped and killed.
fn server() -> Server {
    Launch::new(Variant::Epoll.command()).start().unwrap_or_else(|ended| panic!("{ended:?}"))
}

fn nobody_listens(engine: Engine) {
    let address = format!("{}:0", own_address());
    let free = TcpListener::bind(&address).expect("an address").local_addr().expect("bound");
    for (workload, words) in [("pingpong", "-c 100"), ("churn", "-c 3"), ("idle", "-c 5"), ("stream", "-c 1")]
    {
        let ran = run(load(engine, workload, free, words)).code(1);
        let ran = ran.says(&[&format!("nobody listens on {free}"), "c10k --backend"]);
        assert!(ran.errors("connect", "ECONNREFUSED") > 0, "{workload}: {}", ran.at("errors"));
        // At once, and not after a second for every attempt.
        assert!(ran.ended.ran < Duration::from_secs(10), "{workload}: took {:?}", ran.ended.ran);
    }
}

/// No DNS is asked: `.invalid` is never there, and a machine without a network says so too.
fn wrong_addresses() {
    for (text, word) in [
        ("nobody.invalid:8888", "nobody.invalid"),
        ("127.0.0.1", "127.0.0.1:8888"),
        ("127.0.0.1:0", "port 0"),
        ("127.0.0.1:70000", "65535"),
        ("127.0.0.1:http", "65535"),
        ("1.2.3.4.5:80", "1.2.3.4.5"),
        ("300.1.1.1:80", "300.1.1.1"),
        ("::1", "brackets"),
        (":8888", "127.0.0.1:8888"),
        ("0.0.0.0:8888", "127.0.0.1:8888"),
        ("224.0.0.1:8888", "many"),
        ("", "127.0.0.1:8888"),
    ] {
        let ended = Launch::new(["load", "pingpong", text]).end();
        refused(&ended, 2, &["HOST:PORT", word, "would do"]);
        assert!(ended.lines.is_empty(), "a result of nothing: {ended:?}");
    }
}

fn server_dies(engine: Engine) {
    let server = server();
    let load = running(engine, "pingpong", server.address(), "-c 20 -d 60s -w 0");
    server.signal(Signal::SIGKILL);
    let ran = end(load).code(1);
    let lost = ran.errors("receive", "closed_early")
        + ran.errors("receive", "ECONNRESET")
        + ran.errors("send", "ECONNRESET")
        + ran.errors("send", "EPIPE");
    assert_eq!(lost, 20, "{}", ran.at("errors"));
    assert_eq!(ran.number("verification/wrong_connections"), 0, "{}", ran.at("verification"));
    assert_eq!(ran.at("interrupted"), false);
    assert!(ran.number("rates/messages") > 0, "what was measured until then is lost");
    // The load does not wait for the rest of its minute.
    assert!(ran.ended.ran < Duration::from_secs(30), "took {:?}", ran.ended.ran);
    ran.says(&["server"]);
}

const STOPPED: Duration = Duration::from_secs(3);

/// Stops the server in the middle of a load that is running.
fn stop_and_go_on(server: &Server) {
    server.signal(Signal::SIGSTOP);
    thread::sleep(STOPPED);
    server.signal(Signal::SIGCONT);
}

/// A message that should have been sent while the server stood still has waited as long as that took,
/// whether it was sent or not.
fn stopped_open(engine: Engine) {
    let server = server();
    let words = "-c 20 -R 1000 --arrival uniform -d 4s -w 0 --grace 20s";
    let load = running(engine, "pingpong", server.address(), words);
    stop_and_go_on(&server);
    let ran = end(load);
    assert_eq!(ran.ended.code, Some(0), "{}", ran.ended.said());
    let (max, p99) = (ran.float("response_latency_us/max"), ran.float("response_latency_us/p99"));
    assert!(max >= 2.9e6, "the longest response was {max} us: {}", ran.result);
    // Of 4 s of messages those of the first second that it stood still had more than 2 s to wait.
    assert!(p99 >= 2.0e6, "p99 of the response was {p99} us");
    let p90 = ran.float("response_latency_us/p90");
    assert!(p90 >= 2.0e6, "three quarters of the messages were due while it stood still; p90 was {p90} us");
    assert_eq!(ran.number("response_latency_us/samples"), 4000, "each message that was due, however late");
    assert_eq!((ran.number("rates/unsent"), ran.number("rates/unanswered")), (0, 0));
    // The few that were on their way at that time are all that the other latency sees.
    assert!(ran.float("service_latency_us/max") >= 2.9e6, "{}", ran.result);
    assert_eq!(ran.at("plan/loop"), "open");
}

/// Nothing more comes back, and nothing more can be sent: what should have been is in the response all the
/// same, with the time it waited in vain.
fn stopped_for_good(engine: Engine) {
    let server = server();
    let words = "-c 4 -t 1 -R 1000 --arrival uniform -d 2s -w 0 --grace 500ms";
    let load = running(engine, "pingpong", server.address(), words);
    server.signal(Signal::SIGSTOP);
    let ran = end(load).code(1);
    server.signal(Signal::SIGCONT);
    let (unsent, unanswered) = (ran.number("rates/unsent"), ran.number("rates/unanswered"));
    assert!(unsent > 0, "{}", ran.at("rates"));
    assert_eq!(unanswered, 4, "the messages that were on their way: {}", ran.at("rates"));
    let came_back = ran.number("service_latency_us/samples");
    assert_eq!(came_back + unsent + unanswered, 2000, "{}", ran.at("rates"));
    assert_eq!(ran.number("response_latency_us/samples"), 2000);
    // They were due for 2 s and waited 500 ms longer; how long the server ran before is the machine's business.
    let waited = (unsent + unanswered) as f64 * 1e3;
    let max = ran.float("response_latency_us/max");
    assert!(max >= 0.9 * (waited + 0.5e6), "the longest wait was {max} us of {waited}");
    assert_eq!(ran.at("verdict/word"), "suspect");
    let reasons = ran.at("verdict/reasons").to_string();
    assert!(reasons.contains(&format!("{unsent} messages")) && reasons.contains("--grace"), "{reasons}");
}

/// A server that does answer, and too slowly: it is owed nothing in the end but what was never sent.
fn too_slow(engine: Engine) {
    let delivery = super::liar::Delivery::AfterAPause(Duration::from_millis(20));
    let liar = Liar::start(Manner { delivery, ..Manner::default() });
    // Two connections with an answer every 20 ms at best: 50 a second each, at most.
    let words = "-c 2 -t 1 -R 2000 --arrival uniform -d 1s -w 0 --grace 1s";
    let ran = run(load(engine, "pingpong", liar.address, words)).code(0);
    ran.is_clean();
    let unsent = ran.number("rates/unsent");
    assert!(unsent >= 1700, "{unsent} of 2000 messages were not sent");
    assert_eq!(ran.number("service_latency_us/samples") + unsent, 2000, "{}", ran.at("rates"));
    assert_eq!(ran.number("response_latency_us/samples"), 2000);
    // Half of them had more than half the window and the grace to wait.
    let p50 = ran.float("response_latency_us/p50");
    assert!(p50 >= 1.4e6, "p50 was {p50} us");
    assert_eq!(ran.at("verdict/word"), "suspect");
}

/// The same stop in a closed loop: one sample for each connection and no more. So it says what it is.
fn stopped_closed(engine: Engine) {
    let server = server();
    let text = load_as("text", engine, "pingpong", server.address(), "-c 2 -d 200ms -w 0").end();
    assert_eq!(text.code, Some(0), "{}", text.said());
    assert!(text.lines.join("\n").contains("closed-loop round trip"), "{}", text.said());
    let load = running(engine, "pingpong", server.address(), "-c 20 -d 4s -w 0 --grace 20s");
    stop_and_go_on(&server);
    let ran = end(load).code(0);
    assert_eq!(ran.at("plan/loop"), "closed");
    assert_eq!(ran.at("response_latency_us"), &Value::Null, "a closed loop has no schedule");
    assert!(ran.float("service_latency_us/max") >= 2.9e6, "{}", ran.result);
}

/// Every connection is treated so, when so many bytes have come.
fn everybody(at: u64, then: Then) -> Manner {
    let gives = Box::new(|_: &[u8], _: &_| Some(Vec::new()));
    let edit = Edit { at, takes: 0, needs: at, after: Duration::ZERO, gives, then };
    Manner { lie: Some((Victim::Everybody, edit)), ..Manner::default() }
}

fn never_answers(engine: Engine) {
    let liar = Liar::start(everybody(0, Then::Silence));
    for (workload, words, owed) in [("pingpong", "-P 3 -s 100", 300), ("churn", "-s 1000", 1000)] {
        let words = format!("-c 5 -t 1 -d 100ms -w 0 --grace 200ms {words}");
        let ran = run(load(engine, workload, liar.address, &words)).code(1);
        assert_eq!(ran.number("stuck/count"), 5, "{workload}: {}", ran.result);
        assert_eq!(ran.errors("receive", "stuck"), 5, "{workload}: {}", ran.at("errors"));
        let first = ran.at("stuck/first").as_array().expect("a list");
        let mut named: Vec<(u64, u64)> = first
            .iter()
            .map(|one| (one["connection"].as_u64().unwrap(), one["owed_bytes"].as_u64().unwrap()))
            .collect();
        named.sort_unstable();
        let all: Vec<(u64, u64)> = (0..5).map(|number| (number, owed)).collect();
        assert_eq!(named, all, "{workload}");
        assert_eq!(ran.number("rates/messages"), 0);
        ran.says(&["5 connections are still owed bytes", "--grace", "connection "]);
    }
}

fn resets(engine: Engine) {
    let liar = Liar::start(everybody(64, Then::Reset));
    let ran = run(load(engine, "pingpong", liar.address, "-c 6 -d 5s -w 0")).code(1);
    let count =
        ran.errors("receive", "ECONNRESET") + ran.errors("send", "ECONNRESET") + ran.errors("send", "EPIPE");
    assert_eq!(count, 6, "{}", ran.at("errors"));
    let explained = ran.at("errors/0/explanation").as_str().expect("a sentence");
    assert!(explained.contains("reset"), "{explained}");
    assert!(!ran.at("errors/0/remedy").as_str().expect("a sentence").is_empty());
    assert!(ran.ended.ran < Duration::from_secs(5), "it waited for nobody: {:?}", ran.ended.ran);
}

fn closes_at_once(engine: Engine) {
    let liar = Liar::start(everybody(0, Then::Close));
    let ran = run(load(engine, "pingpong", liar.address, "-c 6 -d 5s -w 0")).code(1);
    // What the client had sent by then may be answered by a reset.
    let all = ["closed_early", "ECONNRESET", "EPIPE", "ENOTCONN"];
    let count: u64 =
        all.iter().flat_map(|cause| ["receive", "send"].map(|phase| ran.errors(phase, cause))).sum();
    assert_eq!(count, 6, "{}", ran.at("errors"));
    assert_eq!(ran.number("verification/wrong_connections"), 0);
}

/// A server that resets one of the lives of a slot costs that life and no more. There is one slot: of
/// several, one can use up all the messages before another's life is drawn.
fn churn_goes_on(engine: Engine) {
    let gives = Box::new(|_: &[u8], _: &_| Some(Vec::new()));
    let edit = Edit { at: 10, takes: 0, needs: 100, after: Duration::ZERO, gives, then: Then::Reset };
    let liar = Liar::start(Manner { lie: Some((Victim::Number(7, 3), edit)), ..Manner::default() });
    let ran = run(load(engine, "churn", liar.address, "-c 1 -s 100 --seed 3 -n 60")).code(1);
    assert_eq!(
        ran.errors("receive", "ECONNRESET") + ran.errors("receive", "closed_early"),
        1,
        "{}",
        ran.at("errors")
    );
    assert_eq!(ran.number("rates/messages"), 59, "{}", ran.at("rates"));
}

fn too_few_descriptors() {
    let liar = Liar::start(Manner::default());
    let launch = load(Engine::Epoll, "pingpong", liar.address, "-c 500 -n 10");
    let ended = launch.through(&["prlimit", "--nofile=200:200"]).end();
    refused(&ended, 2, &["--connections", "500", "200 descriptors", "--engine uring", "ulimit -Hn"]);
    // One connection less than that does fit.
    let ended = load(Engine::Epoll, "pingpong", liar.address, "-c 100 -t 1 -n 300");
    run(ended.through(&["prlimit", "--nofile=50:200"])).code(0).is_clean();
}

fn slots() {
    let server = server();
    let launch = load(Engine::Uring, "pingpong", server.address(), "-c 500 -n 2000");
    let ran = run(launch.through(&["prlimit", "--nofile=200:200"])).code(0);
    ran.is_clean();
    assert_eq!(ran.at("plan/direct"), true);
    assert!(ran.number("plan/threads") >= 4, "{}", ran.at("plan"));
    assert_eq!(ran.number("ramp/connected"), 500);
    assert_eq!(ran.number("rates/messages"), 2000);
}

/// The limit sinks under a churn that runs.
fn descriptors_run_out(engine: Engine) {
    let server = server();
    let process = running(engine, "churn", server.address(), "-w 0 -c 20 -d 2s --direct off");
    let limit = Rlimit { current: Some(8), maximum: Some(8) };
    prlimit(Pid::from_raw(process.pid.as_raw()), Resource::Nofile, limit).expect("our own child's limit");
    let ran = end(process).code(1);
    assert!(ran.errors("open", "EMFILE") > 0, "{}", ran.at("errors"));
    let errors = ran.at("errors").as_array().expect("a list");
    let error = errors.iter().find(|error| error["errno"] == "EMFILE").expect("counted above");
    assert!(error["explanation"].as_str().expect("a sentence").contains("descriptors"), "{error}");
    assert!(error["remedy"].as_str().expect("a sentence").contains("ulimit -Hn"), "{error}");
}

/// Runs in a network of its own, in which connections have ten ports to come from.
fn with_ten_ports(body: impl FnOnce(Liar) + Send) {
    let range = "/proc/sys/net/ipv4/ip_local_port_range";
    let before = std::fs::read_to_string(range).expect("procfs");
    // A thread that leaves the network of this process for good, and what it starts with it.
    let ran = thread::scope(|scope| {
        scope
            .spawn(|| {
                unshare(CloneFlags::CLONE_NEWNET).expect("root may");
                let status = Command::new("ip").args(["link", "set", "lo", "up"]).status().expect("ip(8)");
                assert!(status.success(), "no loopback device in the new network");
                // Its port is none of the ten.
                let liar = Liar::start(Manner::default());
                std::fs::write(range, "40000 40009").expect("root may, in its own network");
                body(liar);
            })
            .join()
    });
    assert_eq!(std::fs::read_to_string(range).expect("procfs"), before, "the ports of all were changed");
    ran.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
}

fn too_few_ports(engine: Engine) {
    with_ten_ports(|liar| {
        let ended = load(engine, "pingpong", liar.address, "-c 11 -n 100 --source any").end();
        refused(&ended, 2, &["--connections", "11", "10 ports", "40000 40009", "--source auto", "-c 10"]);
        run(load(engine, "pingpong", liar.address, "-c 10 -n 100 --source any")).code(0).is_clean();
        let ran = run(load(engine, "pingpong", liar.address, "-c 45 -n 300 --source 127.0.0.11-127.0.0.15"));
        ran.code(0).is_clean();
    });
}

/// Somebody else holds some of the ports: what fits is connected, the rest is given up with the reason.
fn ports_run_out(engine: Engine) {
    with_ten_ports(|liar| {
        let held: Vec<TcpStream> =
            (0..6).map(|_| TcpStream::connect(liar.address).expect("a port")).collect();
        let ran = run(load(engine, "pingpong", liar.address, "-c 8 -n 100 --source any")).code(1);
        assert_eq!((ran.number("ramp/connected"), ran.number("ramp/given_up")), (4, 4), "{}", ran.result);
        let tries = ran.errors("connect", "EADDRNOTAVAIL") + ran.errors("open", "EADDRNOTAVAIL");
        assert!(tries >= 4, "{}", ran.at("errors"));
        let error = ran.at("errors/0");
        assert!(error["explanation"].as_str().expect("a sentence").contains("port"), "{error}");
        assert!(error["remedy"].as_str().expect("a sentence").contains("--source auto"), "{error}");
        ran.says(&["4 of 8 connections could not be made"]);
        drop(held);
    });
}

/// The client closes first, and so its ports rest: with ten of them a churn is soon at its end. It goes
/// on to its other addresses, counts what failed, and says what it was.
fn churn_of_ports(engine: Engine) {
    with_ten_ports(|liar| {
        let ran =
            run(load(engine, "churn", liar.address, "-c 2 -s 100 -d 1s -w 0 --source 127.0.0.1-127.0.0.4"));
        let tries = ran.errors("connect", "EADDRNOTAVAIL") + ran.errors("open", "EADDRNOTAVAIL");
        assert!(tries > 0, "{}", ran.result);
        let error = ran.at("errors/0");
        assert!(error["explanation"].as_str().expect("a sentence").contains("TIME_WAIT"), "{error}");
        // Every address was used.
        assert!(ran.number("rates/connections") >= 40, "{}", ran.at("rates"));
        assert_eq!(ran.number("verification/wrong_connections"), 0);
    });
}

fn no_way(engine: Engine) {
    with_ten_ports(|_| {
        let address = SocketAddr::from(([192, 0, 2, 1], 8888));
        let ran = run(load(engine, "pingpong", address, "-c 3 -n 10")).code(1);
        assert!(ran.errors("connect", "ENETUNREACH") > 0, "{}", ran.at("errors"));
        ran.says(&["there is no way to 192.0.2.1:8888", "ip route get 192.0.2.1"]);
    });
}
