//! Every fault an echo server can have, twenty times over sockets: a load runs against a liar that lies to
//! one of its connections, once, at a place that was drawn. The load must find it, say on which connection
//! and at which byte, what should have come and what came, call it by its name, and exit accordingly.
//!
//! Bytes, places and lies are of the instance's number alone. What is not is time: where the load ended
//! before the connection had come so far, the instance runs again.

use super::liar::{Edit, Gives, Liar, Manner, Note, Notes, Then, Victim};
use super::run::{ENGINES, Engine, Ran, load, run};
use crate::skip::unless_missing;
use c10k::load::payload::{Key, Kind, NAMEABLE, Stream};
use fastrand::Rng;
use libtest_mimic::Trial;
use std::time::Duration;

/// Instances of each fault, over both engines.
const INSTANCES: u64 = 20;
/// How often an instance is tried whose lie was not told.
const TRIES: usize = 10;

/// A fault, and what the load must say of it; `None` where the scene has no room for it.
type Fault = fn(&mut Scene) -> Option<Planted>;

const FAULTS: [(&str, Fault); 13] = [
    ("one_flipped_bit_is_found", flipped),
    ("lost_bytes_and_buffers_are_found", lost),
    ("doubled_bytes_and_buffers_are_found", doubled),
    ("swapped_bytes_and_buffers_are_found", swapped),
    ("bytes_of_another_connection_are_found_and_named", foreign),
    ("bytes_put_between_from_another_connection_are_found", foreign_between),
    ("old_bytes_in_place_of_new_ones_are_found_and_traced", elsewhere),
    ("overwritten_bytes_are_found", garbage),
    ("extra_bytes_are_found", extra),
    ("wrong_bytes_before_a_reset_are_found", wrong_then_reset),
    ("an_answer_before_the_question_is_found", early),
    ("an_early_end_is_found", ended_early),
    ("a_stalled_connection_is_found_and_named", stalled),
];

/// The trials.
pub fn trials() -> Vec<Trial> {
    let pairs = FAULTS.iter().flat_map(|fault| ENGINES.map(|engine| (fault, engine)));
    let mut trials: Vec<Trial> = pairs
        .map(|(&(name, fault), engine)| {
            unless_missing(format!("load::{name}::{}", engine.name()), &engine.needs(), move || {
                // The engines share the instances.
                let first = engine as u64;
                (first..INSTANCES)
                    .step_by(ENGINES.len())
                    .for_each(|number| try_instance(name, fault, engine, number));
                Ok(())
            })
        })
        .collect();
    for engine in ENGINES {
        let trial = |name: &str, body: fn(Engine)| {
            unless_missing(format!("load::{name}::{}", engine.name()), &engine.needs(), move || {
                body(engine);
                Ok(())
            })
        };
        trials.push(trial("the_very_last_byte_counts", the_very_last_byte_counts));
        trials.push(trial("bytes_behind_the_answer_of_a_churn_are_found", extra_behind_a_churn));
        trials.push(trial("bytes_sent_while_nothing_is_asked_are_found", extra_while_idle));
        trials.push(trial("one_stalled_connection_of_a_thousand_is_named", one_of_a_thousand));
    }
    trials
}

/// What the client does, and where in it the server lies.
struct Scene {
    random: Rng,
    seed: u64,
    workload: &'static str,
    connections: u32,
    size: u32,
    depth: u32,
    threads: u32,
    /// The connection that is lied to.
    victim: u32,
    /// The stretch of its stream in which the server lies: what has surely been asked for when the
    /// client waits for any of it.
    begin: u64,
    end: u64,
}

/// A lie, and what the load must find.
struct Planted {
    edit: Edit,
    found: Found,
}

enum Found {
    /// Wrong bytes from an offset on.
    Wrong(u64, Kind),
    /// The connection was closed with bytes owed.
    Closed,
    /// So many bytes never came.
    Stuck(u64),
}

impl Scene {
    fn draw(random: Rng) -> Self {
        let mut random = random;
        let workload = ["pingpong", "pingpong", "pingpong", "stream", "churn"][random.usize(..5)];
        let connections = random.u32(2..6);
        let (size, depth) = match workload {
            "stream" => (random.u32(1_000..20_000), 1),
            "churn" => (random.u32(64..5_000), 1),
            _ => (
                [random.u32(8..65), random.u32(64..1_000), random.u32(1_000..20_000)][random.usize(..3)],
                [1, 1, random.u32(2..9)][random.usize(..3)],
            ),
        };
        let lives = if workload == "churn" { 3 } else { 1 };
        let victim = random.u32(..connections * lives);
        let message = if workload == "pingpong" && depth == 1 { random.u64(..3) } else { 0 };
        let begin = message * u64::from(size);
        let end = begin + u64::from(size) * u64::from(if workload == "stream" { 2 } else { depth });
        let seed = random.u64(..1 << 32);
        let threads = random.u32(1..=2);
        Self { random, seed, workload, connections, size, depth, threads, victim, begin, end }
    }

    /// The load. Who is owed something is awaited for as long as `grace`.
    fn command(&self, engine: Engine, liar: &Liar, grace: &str) -> crate::server::Launch {
        let Self { seed, workload, connections, size, depth, threads, .. } = self;
        let ends = match *workload {
            "stream" => "-d 100ms -w 0ms".into(),
            _ => format!("-n {}", connections * depth * 12),
        };
        let depth = if *depth > 1 { format!("-P {depth}") } else { String::new() };
        let words =
            format!("-c {connections} -s {size} {depth} -t {threads} --seed {seed} {ends} --grace {grace}");
        load(engine, workload, liar.address, &words)
    }

    fn stream(&self) -> Stream {
        Stream::new(Key::of(self.seed), self.victim)
    }

    fn byte(&self, offset: u64) -> u8 {
        self.stream().byte(offset)
    }

    /// Whether the client can have sent nothing beyond [`Self::end`] before it got everything up to it.
    fn waits(&self) -> bool {
        self.workload == "churn" || (self.workload == "pingpong" && self.depth == 1)
    }

    /// Whether a churn has taken so many bytes more by the time it has its answer: then they came with it, into
    /// one buffer. What comes later it need not wait for.
    fn is_seen(&self, more: u64) -> bool {
        self.workload != "churn" || u64::from(self.size) + more <= 4096
    }

    /// A length, small or large, at most `most`.
    fn length(&mut self, most: u64) -> u64 {
        let most = [1, 2, 8, 40, 1_000, u64::MAX][self.random.usize(..6)].min(most);
        self.random.u64(1..=most)
    }

    /// A place for `length` bytes, and `behind` bytes behind them.
    fn place(&mut self, length: u64, behind: u64) -> Option<u64> {
        let room = (self.end - self.begin).checked_sub(length + behind)?;
        Some(self.begin + self.random.u64(0..=room))
    }
}

/// What the input has at these places is sent.
fn copied(from: u64, length: u64) -> Gives {
    Box::new(move |input, _| Some(input[from as usize..(from + length) as usize].to_vec()))
}

fn fixed(bytes: Vec<u8>) -> Gives {
    Box::new(move |_, _| Some(bytes.clone()))
}

fn edit(at: u64, takes: u64, gives: Gives) -> Edit {
    Edit { at, takes, needs: at + takes, after: Duration::ZERO, gives, then: Then::GoOn }
}

fn planted(edit: Edit, offset: u64, kind: Kind) -> Option<Planted> {
    Some(Planted { edit, found: Found::Wrong(offset, kind) })
}

fn flipped(scene: &mut Scene) -> Option<Planted> {
    let at = scene.place(1, 0)?;
    let bit = scene.random.u8(..8);
    let gives: Gives = Box::new(move |input, _| Some(vec![input[at as usize] ^ 1 << bit]));
    planted(edit(at, 1, gives), at, Kind::Flipped { bits: 1 })
}

fn lost(scene: &mut Scene) -> Option<Planted> {
    let bytes = scene.length(10_000);
    // Bytes must follow, or nobody can tell that they will not come.
    let at = scene.place(bytes, 1)?;
    let differs = scene.byte(at) != scene.byte(at + bytes);
    differs.then(|| planted(edit(at, bytes, fixed(vec![])), at, Kind::Lost { bytes })).flatten()
}

fn doubled(scene: &mut Scene) -> Option<Planted> {
    let bytes = scene.length(10_000);
    let at = scene.place(bytes, 0)?;
    let end = at + bytes;
    let differs = scene.is_seen(bytes) && scene.byte(at) != scene.byte(end);
    differs.then(|| planted(edit(end, 0, copied(at, bytes)), end, Kind::Duplicated { bytes })).flatten()
}

fn swapped(scene: &mut Scene) -> Option<Planted> {
    let (first, second) = match scene.random.u8(..3) {
        0 => (1, 1),
        1 => (scene.length(5_000), scene.length(5_000)),
        _ => [(4_096, 4_096), (1_024, 1_024), (16, 16)][scene.random.usize(..3)],
    };
    let length = first + second;
    let at = scene.place(length, 0)?;
    let stream: Vec<u8> = (at..at + length).map(|offset| scene.byte(offset)).collect();
    let turned = |by: usize| [&stream[by..], &stream[..by]].concat();
    let moved = turned(first as usize);
    let edges = moved[0] != stream[0] && moved[length as usize - 1] != stream[length as usize - 1];
    // Two swaps of few bytes can come to the same.
    let unique = length > 64 || (1..length as usize).filter(|&by| turned(by) == moved).count() == 1;
    let gives: Gives = Box::new(move |input, _| {
        let mut bytes = input[at as usize..(at + length) as usize].to_vec();
        bytes.rotate_left(first as usize);
        Some(bytes)
    });
    (edges && unique).then(|| planted(edit(at, length, gives), at, Kind::Swapped { first, second })).flatten()
}

fn foreign(scene: &mut Scene) -> Option<Planted> {
    foreign_at(scene, true)
}

fn foreign_between(scene: &mut Scene) -> Option<Planted> {
    foreign_at(scene, false)
}

fn foreign_at(scene: &mut Scene, in_place: bool) -> Option<Planted> {
    // What another one sent in its first message: in a churn it may have gone since.
    let most = u64::from(scene.size);
    let bytes = scene.length(most).max(NAMEABLE);
    let from = scene.random.u64(0..=most.checked_sub(bytes)?);
    let at = scene.place(if in_place { bytes } else { 0 }, 0)?;
    let connection = (scene.victim + scene.random.u32(1..scene.connections)) % scene.connections;
    let other = Stream { connection, ..scene.stream() };
    let seen = in_place || scene.is_seen(bytes);
    let differs = seen && connection != scene.victim && other.byte(from) != scene.byte(at);
    let gives: Gives = Box::new(move |_, others| {
        let bytes = others.get(&connection)?.get(from as usize..(from + bytes) as usize)?;
        Some(bytes.to_vec())
    });
    let edit = edit(at, if in_place { bytes } else { 0 }, gives);
    differs.then(|| planted(edit, at, Kind::Foreign { connection, offset: from })).flatten()
}

fn elsewhere(scene: &mut Scene) -> Option<Planted> {
    let bytes = scene.length(9_000).max(NAMEABLE);
    let at = scene.place(bytes, 1)?;
    let back = scene.random.u64(bytes..=at.max(bytes));
    let from = at.checked_sub(back)?;
    let differs = |past: u64| scene.byte(at + past) != scene.byte(from + past);
    let told = differs(0) && differs(bytes - 1) && differs(bytes);
    told.then(|| planted(edit(at, bytes, copied(from, bytes)), at, Kind::Elsewhere { offset: from, bytes }))
        .flatten()
}

fn garbage(scene: &mut Scene) -> Option<Planted> {
    let bytes = scene.length(5_000).max(9);
    let at = scene.place(bytes, 0)?;
    let drawn: Vec<u8> = (0..bytes).map(|_| scene.random.u8(..)).collect();
    let differs = |past: u64| drawn[past as usize] != scene.byte(at + past);
    let told = differs(0) && differs(bytes - 1);
    told.then(|| planted(edit(at, bytes, fixed(drawn)), at, Kind::Garbage { bytes })).flatten()
}

fn extra(scene: &mut Scene) -> Option<Planted> {
    let bytes = scene.length(5_000);
    let at = scene.place(0, 0)?;
    let drawn: Vec<u8> = (0..bytes).map(|_| scene.random.u8(..)).collect();
    // As many bytes as came before it, and equal, are those, sent twice.
    let copy = at.checked_sub(bytes).is_some_and(|from| drawn[0] == scene.byte(from));
    let told = scene.is_seen(bytes) && drawn[0] != scene.byte(at) && !copy;
    told.then(|| planted(edit(at, 0, fixed(drawn)), at, Kind::Extra { bytes })).flatten()
}

/// The connection is reset behind the wrong bytes, whether they have their name by then or not: what was
/// wrong weighs more than the reset. So few bytes that the socket takes them all before it is reset.
fn wrong_then_reset(scene: &mut Scene) -> Option<Planted> {
    if scene.end - scene.begin > 20_000 {
        return None;
    }
    let faults: [Fault; 3] = [flipped, garbage, foreign];
    let Planted { edit, found } = faults[scene.random.usize(..3)](scene)?;
    Some(Planted { edit: Edit { then: Then::Reset, ..edit }, found })
}

fn early(scene: &mut Scene) -> Option<Planted> {
    let bytes = scene.random.u64(1..=64).min(u64::from(scene.size));
    let (at, stream) = (scene.end, scene.stream());
    let gives: Gives =
        Box::new(move |_, _| Some((at..at + bytes).map(|offset| stream.byte(offset)).collect()));
    // It needs nothing of what it answers.
    let edit = Edit { needs: at, ..edit(at, bytes, gives) };
    (scene.waits() && scene.is_seen(bytes)).then(|| planted(edit, at, Kind::Early)).flatten()
}

fn ended_early(scene: &mut Scene) -> Option<Planted> {
    let most = scene.end - scene.begin;
    let owed = if scene.random.bool() { 1 } else { scene.random.u64(1..=most) };
    let at = scene.end - owed;
    let edit = Edit { needs: scene.end, then: Then::Close, ..edit(at, 0, fixed(vec![])) };
    scene.waits().then_some(Planted { edit, found: Found::Closed })
}

fn stalled(scene: &mut Scene) -> Option<Planted> {
    let owed = scene.random.u64(1..=scene.end - scene.begin);
    let at = scene.end - owed;
    let edit = Edit { needs: scene.end, then: Then::Silence, ..edit(at, 0, fixed(vec![])) };
    scene.waits().then_some(Planted { edit, found: Found::Stuck(owed) })
}

/// Draws the instance of a fault with this number, and runs it.
fn try_instance(name: &str, fault: Fault, engine: Engine, number: u64) {
    let letters = name.bytes().fold(0u64, |sum, letter| sum.wrapping_mul(31).wrapping_add(letter.into()));
    let scenes = (0..).map(|attempt| Rng::with_seed(letters ^ number << 32 ^ attempt));
    let mut drawn = scenes.map(Scene::draw).find_map(|mut scene| {
        let before = scene.random.clone();
        fault(&mut scene).map(|_| (scene, before))
    });
    let (scene, before) = drawn.as_mut().expect("some scene has room for it");
    let context = format!("instance {number}");
    for _ in 0..TRIES {
        // The same lie again, from the same numbers.
        scene.random = before.clone();
        let planted = fault(scene).expect("it had room for it");
        let found = planted.found;
        let lie = Some((Victim::Number(scene.victim, scene.seed), planted.edit));
        // Honest connections shall have the time they need. Who is stuck is stuck for all of it, and so is
        // who is owed what was lost.
        let grace = if matches!(found, Found::Stuck(_)) { "500ms" } else { "1s" };
        let (ran, notes) = told(scene, engine, Manner { lie, ..Manner::default() }, grace);
        match notes.lies.as_slice() {
            [note] if note.told => return is_found(scene, &found, &ran, note, &context),
            // Nobody was lied to, and so nothing may be found.
            _ => assert_eq!(ran.ended.code, Some(0), "{context}: {}", ran.ended.said()),
        }
    }
    panic!("{context}: the lie was never told");
}

fn told(scene: &Scene, engine: Engine, manner: Manner, grace: &str) -> (Ran, Notes) {
    let liar = Liar::start(manner);
    let ran = run(scene.command(engine, &liar, grace));
    (ran, liar.stop())
}

#[track_caller]
fn is_found(scene: &Scene, found: &Found, ran: &Ran, note: &Note, context: &str) {
    let said = format!("{context}: {}", ran.ended.said());
    let code = if matches!(found, Found::Wrong(..)) { 5 } else { 1 };
    assert_eq!((ran.ended.code, ran.number("exit_code")), (Some(code), code as u64), "{said}");
    match *found {
        Found::Wrong(offset, kind) => is_named(scene, offset, kind, ran, note, &said),
        Found::Closed => {
            assert_eq!(ran.errors("receive", "closed_early"), 1, "{said}");
            assert_eq!(ran.number("verification/wrong_connections"), 0, "{said}");
        }
        Found::Stuck(owed) => is_stuck(scene.victim, owed, ran, &said),
    }
}

#[track_caller]
fn is_named(scene: &Scene, offset: u64, kind: Kind, ran: &Ran, note: &Note, said: &str) {
    assert_eq!(ran.number("verification/wrong_connections"), 1, "{said}");
    assert_eq!(ran.errors("receive", "wrong_bytes"), 1, "{said}");
    let wrong = ran.at("verification/wrong").as_array().expect("a list");
    assert_eq!(wrong.len(), 1, "{said}");
    assert_eq!(wrong[0]["connection"], scene.victim, "{kind:?} {said}");
    assert_eq!(wrong[0]["offset"], offset, "{kind:?} {said}");
    assert_eq!(wrong[0]["what"], kind.to_string(), "{said}");
    let from = |bytes: &[u8]| hex(&bytes[(offset as usize).min(bytes.len())..]);
    let text = |name: &str| wrong[0][name].as_str().expect("a text").to_owned();
    let (expected, got) = (text("expected"), text("got"));
    assert_eq!(expected, hex(&scene.stream().eight(offset)), "{said}");
    // As far as the liar has seen what should have come.
    assert!(expected.starts_with(&from(&note.input)), "the liar had received {}: {said}", from(&note.input));
    assert!(
        !got.is_empty() && from(&note.output).starts_with(&got),
        "the liar had sent {}: {said}",
        from(&note.output)
    );
}

#[track_caller]
fn is_stuck(victim: u32, owed: u64, ran: &Ran, said: &str) {
    assert_eq!(ran.number("stuck/count"), 1, "{said}");
    assert_eq!(ran.at("stuck/first/0/connection"), victim, "{said}");
    assert_eq!(ran.at("stuck/first/0/owed_bytes"), owed, "{said}");
    assert_eq!(ran.errors("receive", "stuck"), 1, "{said}");
    assert_eq!(ran.number("verification/wrong_connections"), 0, "{said}");
    assert!(ran.ended.stderr.contains(&format!("connection {victim} ({owed} bytes)")), "{said}");
}

/// At most eight bytes, as the result shows them.
fn hex(bytes: &[u8]) -> String {
    bytes.iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

/// One connection, three messages, and the last byte of them is wrong: nothing comes behind it.
fn the_very_last_byte_counts(engine: Engine) {
    let manner = || {
        let gives: Gives = Box::new(|input, _| Some(vec![input[191] ^ 0x10]));
        Manner { lie: Some((Victim::Everybody, edit(191, 1, gives))), ..Manner::default() }
    };
    for words in ["-n 3", "-n 3 --grace 0ms"] {
        let liar = Liar::start(manner());
        let ran = run(load(engine, "pingpong", liar.address, &format!("-c 1 {words}"))).code(5);
        assert_eq!(ran.at("verification/wrong/0/offset"), 191, "{}", ran.ended.said());
        assert_eq!(ran.at("verification/wrong/0/what"), &Kind::Flipped { bits: 1 }.to_string());
    }
}

/// Every life of a churn gets its answer, and more in the same breath.
fn extra_behind_a_churn(engine: Engine) {
    let drawn = Rng::with_seed(11).u64(..).to_le_bytes();
    for bytes in [1, 8] {
        // Its first byte is neither the next of the stream, which would be an early answer, nor the one before.
        let stream = Stream::new(Key::of(3), 0);
        let first = (0..).find(|byte| ![stream.byte(64), stream.byte(63)].contains(byte)).expect("a byte");
        let more: Vec<u8> = std::iter::once(first).chain(drawn).take(bytes).collect();
        let lie = Some((Victim::Number(0, 3), edit(64, 0, fixed(more))));
        let liar = Liar::start(Manner { lie, ..Manner::default() });
        let ran = run(load(engine, "churn", liar.address, "-c 1 -n 5 --seed 3")).code(5);
        let (wrong, said) = (ran.at("verification/wrong/0"), ran.ended.said());
        assert_eq!((&wrong["connection"], &wrong["offset"]), (&0.into(), &64.into()), "{said}");
        assert_eq!(wrong["what"], Kind::Extra { bytes: bytes as u64 }.to_string(), "{said}");
        assert_eq!(ran.number("verification/wrong_connections"), 1, "{said}");
        // The life does not count, and those behind it do.
        assert_eq!(ran.number("rates/messages"), 5, "{said}");
        // The last one may be closed when the run is over, and belongs to no window then.
        assert!((3..=4).contains(&ran.number("rates/connections")), "{said}");
    }
}

/// The client rests between two messages, and is sent something then.
fn extra_while_idle(engine: Engine) {
    let drawn = Rng::with_seed(7).u64(..).to_le_bytes().repeat(3);
    let lie = Edit { after: Duration::from_millis(10), ..edit(192, 0, fixed(drawn)) };
    let liar = Liar::start(Manner { lie: Some((Victim::Number(1, 5), lie)), ..Manner::default() });
    let words = "-c 3 --seed 5 -R 30 --arrival uniform -n 24 --grace 200ms";
    let ran = run(load(engine, "pingpong", liar.address, words)).code(5);
    let wrong = ran.at("verification/wrong/0");
    assert_eq!((&wrong["connection"], &wrong["offset"]), (&1.into(), &192.into()), "{wrong}");
    assert_eq!(wrong["what"], Kind::Extra { bytes: 24 }.to_string());
    let notes = liar.stop();
    assert!(notes.lies[0].told);
}

/// The others go on, and the one is not hidden in a mean.
fn one_of_a_thousand(engine: Engine) {
    let lie = Edit { then: Then::Silence, needs: 64, ..edit(10, 0, fixed(vec![])) };
    let liar = Liar::start(Manner { lie: Some((Victim::Number(617, 9), lie)), ..Manner::default() });
    let ran = run(load(engine, "pingpong", liar.address, "-c 1000 --seed 9 -d 2s -w 0ms --grace 2s")).code(1);
    is_stuck(617, 54, &ran, &ran.ended.said());
    assert_eq!(ran.number("spread/silent"), 1, "{}", ran.at("spread"));
}
