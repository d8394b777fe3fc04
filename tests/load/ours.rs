//! The load generator against our own servers, on both backends: what it says it has done, the server's
//! account says too.

use super::run::{ENGINES, Engine, load, run};
use crate::rows::Variant;
use crate::server::{Account, Launch, Server};
use crate::skip::{Need, unless_missing};
use libtest_mimic::Trial;

const SERVERS: [Variant; 2] = [Variant::Uring, Variant::Epoll];

/// A name and what is tried with each engine against each server.
type Row = (&'static str, fn(Engine, &Server));

/// The trials.
pub fn trials() -> Vec<Trial> {
    let rows: [Row; 13] = [
        ("as_many_messages_as_were_asked_for", exact),
        ("an_open_loop_sends_what_its_schedule_says", open_loop),
        ("a_churn_makes_the_connections_it_counts", churn),
        ("a_churn_makes_the_connections_its_schedule_says", churn_by_schedule),
        ("a_churn_of_many_at_once_ends_as_it_should", churn_of_many),
        ("no_time_is_recorded_where_none_is_wanted", no_latency),
        ("every_idle_connection_echoes", idle),
        ("sizes_are_drawn_from_their_range", sizes),
        ("sixteen_messages_are_on_their_way", depth),
        ("both_directions_are_full", stream),
        ("thousands_of_connections_stand_and_echo", thousands),
        ("connections_are_made_at_a_given_rate", connect_rate),
        ("connections_come_from_the_addresses_they_are_told", sources),
    ];
    let mut trials = Vec::new();
    for (name, body) in rows {
        for (engine, server) in ENGINES.into_iter().flat_map(|engine| SERVERS.map(|server| (engine, server)))
        {
            trials.push(trial(name, engine, server, body));
        }
    }
    for server in SERVERS {
        trials.push(trial("sockets_may_be_slots", Engine::Uring, server, direct));
    }
    trials
}

fn trial(name: &str, engine: Engine, variant: Variant, body: fn(Engine, &Server)) -> Trial {
    let mut needs = engine.needs();
    needs.extend(variant.is_ring().then_some(Need::Uring));
    let name = format!("load::{name}::{}_against_{}", engine.name(), variant.name());
    unless_missing(name, &needs, move || {
        let server = Launch::new(variant.command()).start().unwrap_or_else(|ended| panic!("{ended:?}"));
        body(engine, &server);
        // The client has left nothing behind.
        everybody_gone(&server);
        Ok(())
    })
}

/// The account when nobody is connected any more: before, the server may not have heard that its last bytes
/// were sent.
fn everybody_gone(server: &Server) -> Account {
    server.wait_until("everybody has gone", |account| account.get("open") == 0)
}

/// Not one more and not one fewer, and no byte beside them.
fn exact(engine: Engine, server: &Server) {
    let mut before = 0;
    for (words, messages, size) in [
        ("-c 7 -s 64 -n 1000 -t 2", 1000, 64),
        ("-c 100 -s 10 -n 33 -t 2", 33, 10),
        ("-c 3 -s 5000 -P 4 -n 101 -t 3", 101, 5000),
        ("-c 1 -s 1 -n 1", 1, 1),
    ] {
        let ran = run(load(engine, "pingpong", server.address(), words)).code(0);
        ran.is_clean();
        assert_eq!(ran.number("rates/messages"), messages, "{words}");
        assert_eq!(ran.number("service_latency_us/samples"), messages, "{words}");
        assert_eq!(ran.number("verification/bytes"), messages * size, "{words}");
        let account = everybody_gone(server);
        assert_eq!(account.get("bytes_received") - before, messages * size, "{words}");
        assert_eq!(account.get("bytes_sent"), account.get("bytes_received"), "{words}");
        before = account.get("bytes_received");
    }
}

/// What was due in the window is sent and comes back, however late, and no more than that.
fn open_loop(engine: Engine, server: &Server) {
    for (words, spread) in [("--arrival uniform", 0.0), ("--arrival poisson", 200.0)] {
        let words = format!("-c 10 -R 2000 -d 1s -w 0 --grace 20s {words}");
        let ran = run(load(engine, "pingpong", server.address(), &words)).code(0);
        ran.is_clean();
        let samples = ran.float("response_latency_us/samples");
        // Poisson: the deviation of the count is its root, 45; four of them and more.
        assert!((samples - 2000.0).abs() <= spread, "{words}: {samples} messages were sent");
        assert_eq!((ran.number("rates/unsent"), ran.number("rates/unanswered")), (0, 0), "{words}");
        assert_eq!(ran.float("plan/intended_messages_per_second"), 2000.0);
        assert_eq!(ran.float("service_latency_us/samples"), samples);
        let (response, service) =
            (ran.float("response_latency_us/mean"), ran.float("service_latency_us/mean"));
        assert!(response >= 0.99 * service, "{words}: response {response} us, service {service} us");
    }
}

fn churn(engine: Engine, server: &Server) {
    let ran = run(load(engine, "churn", server.address(), "-c 8 -s 1024 -n 500 -t 2")).code(0);
    ran.is_clean();
    assert_eq!(ran.number("rates/messages"), 500);
    assert_eq!(ran.number("verification/bytes"), 500 * 1024);
    let account = everybody_gone(server);
    assert_eq!(account.get("accepted"), 500, "{}", account.0);
    assert_eq!(account.get("bytes_received"), 500 * 1024);
    for latency in ["connect", "service"] {
        assert_eq!(ran.number(&format!("{latency}_latency_us/samples")), 500, "{latency}");
    }
    // Those that were closed when the last message had come back belong to no window any more.
    let closed = ran.number("rates/connections");
    assert!((490..=500).contains(&closed), "{closed} of 500 connections were made, used and closed");
}

/// So many lives in step that closes are answered in the turn that asks for them.
fn churn_of_many(engine: Engine, server: &Server) {
    let ran = run(load(engine, "churn", server.address(), "-c 1000 -t 1 -s 64 -n 5000")).code(0);
    ran.is_clean();
    assert_eq!(ran.number("rates/messages"), 5_000);
}

/// A connection for every time of the schedule, however late, and its response counts from there.
fn churn_by_schedule(engine: Engine, server: &Server) {
    let words = "-c 8 -t 2 -s 100 -R 400 --arrival uniform -d 1s -w 0 --grace 20s";
    let ran = run(load(engine, "churn", server.address(), words)).code(0);
    ran.is_clean();
    let account = everybody_gone(server);
    assert_eq!(account.get("accepted"), 400, "{}", account.0);
    assert_eq!(account.get("bytes_received"), 400 * 100);
    assert_eq!(ran.number("response_latency_us/samples"), 400);
    assert_eq!(ran.number("service_latency_us/samples"), 400);
    // The connect is part of the response, and none of the service.
    let mean = |of: &str| ran.float(&format!("{of}_latency_us/mean"));
    assert!(mean("response") > mean("service"), "{}", ran.result);
    assert_eq!(
        (ran.at("plan/loop"), ran.float("plan/intended_messages_per_second")),
        (&"open".into(), 400.0)
    );
    // It ends by number, too.
    let ran = run(load(engine, "churn", server.address(), "-c 3 -t 1 -R 2k -n 100 --grace 20s")).code(0);
    ran.is_clean();
    assert_eq!((ran.number("rates/messages"), ran.number("response_latency_us/samples")), (100, 100));
}

fn no_latency(engine: Engine, server: &Server) {
    for (workload, words) in [("churn", "-c 4 -n 50 -R 2k"), ("pingpong", "-c 4 -n 500")] {
        let words = format!("{words} -t 1 --no-latency");
        let ran = run(load(engine, workload, server.address(), &words)).code(0);
        ran.is_clean();
        for times in ["response", "service", "connect", "close"] {
            assert_eq!(
                ran.at(&format!("{times}_latency_us")),
                &serde_json::Value::Null,
                "{workload}: {times}"
            );
        }
        assert_eq!(ran.at("schedule_lag_us"), &serde_json::Value::Null);
        assert_eq!(ran.at("ramp/connect_latency_us"), &serde_json::Value::Null);
    }
}

fn idle(engine: Engine, server: &Server) {
    let ran = run(load(engine, "idle", server.address(), "-c 300 --every 500ms -d 1s --grace 20s")).code(0);
    ran.is_clean();
    assert_eq!(
        (ran.number("spread/connections"), ran.number("spread/silent")),
        (300, 0),
        "{}",
        ran.at("spread")
    );
    assert_eq!(ran.number("ramp/connected"), 300);
    // Two of each, however late.
    assert_eq!(ran.number("response_latency_us/samples"), 600);
}

fn sizes(engine: Engine, server: &Server) {
    let ran = run(load(engine, "pingpong", server.address(), "-c 9 -s 1..10000 -n 2000 -P 3")).code(0);
    ran.is_clean();
    assert_eq!(ran.number("rates/messages"), 2000);
    let bytes = ran.number("verification/bytes");
    assert_eq!(everybody_gone(server).get("bytes_received"), bytes);
    // 2,000 draws of a mean of 5,000 and a deviation of 2,887: five deviations of the sum.
    assert!(bytes.abs_diff(10_001_000) < 650_000, "{bytes} bytes of 2,000 messages");
}

fn depth(engine: Engine, server: &Server) {
    let ran = run(load(engine, "pingpong", server.address(), "-c 20 -P 16 -s 100 -n 20k")).code(0);
    ran.is_clean();
    assert_eq!(ran.number("rates/messages"), 20_000);
    // Sixteen of them go out in one send: the server receives far more seldom than there are messages.
    let receives = everybody_gone(server).get("receives");
    assert!(receives < 15_000, "{receives} receives of 20,000 messages");
}

fn stream(engine: Engine, server: &Server) {
    let ran = run(load(engine, "stream", server.address(), "-c 4 -d 1s -w 0 --grace 30s")).code(0);
    ran.is_clean();
    assert_eq!(ran.at("response_latency_us"), &serde_json::Value::Null);
    assert_eq!(
        ran.at("service_latency_us"),
        &serde_json::Value::Null,
        "nobody waits for a message of a stream"
    );
    assert!(ran.float("rates/bytes_received_per_second") > 0.0);
    let account = everybody_gone(server);
    assert!(account.get("bytes_received") >= ran.number("rates/bytes_sent"), "{}", account.0);
}

fn thousands(engine: Engine, server: &Server) {
    let ran = run(load(engine, "pingpong", server.address(), "-c 3000 -n 9k --grace 20s")).code(0);
    ran.is_clean();
    assert_eq!((ran.number("ramp/connected"), ran.number("ramp/given_up")), (3000, 0));
    assert_eq!(ran.number("rates/messages"), 9000);
    assert_eq!(server.stats().get("accepted"), 3000);
}

fn connect_rate(engine: Engine, server: &Server) {
    let ran = run(load(engine, "pingpong", server.address(), "-c 100 --connect-rate 200 -n 200")).code(0);
    ran.is_clean();
    // 100 of them at 200 a second: never faster, and how much slower is the machine's business.
    let took = ran.float("ramp/took_us");
    assert!(took > 0.45e6, "the ramp took {took} us");
}

fn sources(engine: Engine, server: &Server) {
    let words = "-c 40 -n 400 --source 127.0.0.2-127.0.0.4,127.9.9.9";
    let ran = run(load(engine, "pingpong", server.address(), words)).code(0);
    ran.is_clean();
    assert_eq!(ran.number("plan/sources"), 4);
    assert_eq!(ran.number("ramp/connected"), 40);
}

fn direct(engine: Engine, server: &Server) {
    for (workload, words) in [
        ("pingpong", "-c 500 -n 5k -P 2 --direct on"),
        ("churn", "-c 20 -n 300 --direct on"),
        ("stream", "-c 3 -d 1s -w 0 --direct on --grace 30s"),
        ("idle", "-c 200 --every 200ms -d 400ms --direct on --grace 20s"),
    ] {
        let ran = run(load(engine, workload, server.address(), words)).code(0);
        ran.is_clean();
        assert_eq!(ran.at("plan/direct"), true);
    }
}
