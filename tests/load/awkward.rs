//! Honest servers that are awkward: whatever the pieces and pauses in which the right bytes come, and
//! however a server treats a connection that is over, nothing is found wrong.

use super::liar::{Delivery, Liar, Manner};
use super::run::{ENGINES, Engine, load, run};
use crate::skip::unless_missing;
use libtest_mimic::Trial;
use std::time::Duration;

/// A name and what is tried with each engine.
type Row = (&'static str, fn(Engine));

/// The trials.
pub fn trials() -> Vec<Trial> {
    let rows: [Row; 5] = [
        ("bytes_may_come_one_at_a_time", one_at_a_time),
        ("bytes_may_come_all_at_once_after_a_pause", after_a_pause),
        ("a_server_may_take_little_at_a_time", tiny_receive_buffer),
        ("a_server_need_not_close_what_a_churn_has_closed", never_closes),
        ("every_size_of_message_comes_back", every_size),
    ];
    let pairs = rows.iter().flat_map(|row| ENGINES.map(|engine| (row, engine)));
    let trial = |(&(name, body), engine): (&Row, Engine)| {
        unless_missing(format!("load::{name}::{}", engine.name()), &engine.needs(), move || {
            body(engine);
            Ok(())
        })
    };
    pairs.map(trial).collect()
}

fn one_at_a_time(engine: Engine) {
    let liar = Liar::start(Manner { delivery: Delivery::OneByOne, ..Manner::default() });
    for (workload, words) in [
        ("pingpong", "-c 4 -s 1..200 -n 100"),
        ("pingpong", "-c 2 -P 5 -s 40 -n 60"),
        ("churn", "-c 2 -s 300 -n 10"),
    ] {
        let ran = run(load(engine, workload, liar.address, words)).code(0);
        ran.is_clean();
    }
}

fn after_a_pause(engine: Engine) {
    let pause = Delivery::AfterAPause(Duration::from_millis(10));
    let liar = Liar::start(Manner { delivery: pause, ..Manner::default() });
    for (workload, words) in [
        ("pingpong", "-c 5 -P 8 -s 1..3000 -n 200"),
        ("stream", "-c 2 -s 16Ki -d 1s -w 0"),
        ("churn", "-c 5 -s 5000 -n 40"),
    ] {
        let ran = run(load(engine, workload, liar.address, words)).code(0);
        ran.is_clean();
    }
}

/// The client's sends are taken in part, and it has to wait for room.
fn tiny_receive_buffer(engine: Engine) {
    let liar = Liar::start(Manner { receive_buffer: Some(2304), ..Manner::default() });
    for (workload, words) in [
        ("pingpong", "-c 3 -s 300000 -n 9"),
        ("stream", "-c 2 -s 64Ki -d 1s -w 0 --grace 10s"),
        ("churn", "-c 2 -s 100000 -n 6"),
    ] {
        let ran = run(load(engine, workload, liar.address, words)).code(0);
        ran.is_clean();
    }
}

fn never_closes(engine: Engine) {
    let liar = Liar::start(Manner { never_closes: true, ..Manner::default() });
    let ran = run(load(engine, "churn", liar.address, "-c 7 -s 100 -n 200")).code(0);
    ran.is_clean();
    assert_eq!(ran.number("rates/messages"), 200);
    assert_eq!(liar.stop().accepted, 200);
}

fn every_size(engine: Engine) {
    for (sizes, messages) in [("1", 500), ("7..9", 500), ("1..20000", 300), ("1Mi", 6)] {
        let liar = Liar::start(Manner::default());
        let words = format!("-c 5 -s {sizes} -n {messages}");
        let ran = run(load(engine, "pingpong", liar.address, &words)).code(0);
        ran.is_clean();
        assert_eq!(ran.number("rates/messages"), messages);
        let notes = liar.stop();
        // What was asked for went out, and all of it was compared.
        assert_eq!(ran.number("verification/bytes"), notes.received, "sizes of {sizes}");
        assert_eq!(ran.number("rates/bytes_sent"), notes.received, "sizes of {sizes}");
    }
}
