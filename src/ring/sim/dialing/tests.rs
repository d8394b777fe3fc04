//! The fake kernel held against a client that keeps the rules, seed by seed: honest servers lose nothing,
//! whatever goes wrong is told by its errno, every lie shows, and every outcome is drawn. And against
//! clients that break a rule: each is caught.

use super::super::super::trial::{Client as Trial, End, Task, memory_needed};
use super::super::{External, Facts, Lie, Plant, Standing};
use super::*;
use crate::ring::{Operation, Pages, Ring, Span, Token, stride};
use std::time::Duration;

const SEEDS: u64 = 500;

/// How one seed ended.
struct Ran {
    ends: Vec<(Option<usize>, End)>,
    coverage: Coverage,
    facts: Facts,
    standing: Standing,
    told: Vec<Told>,
    task: Task,
}

fn task(seed: u64) -> Task {
    let mut random = Rng::with_seed(seed ^ 0x7a5c);
    let connections = random.u32(1..=12);
    // Half of them are cut short, wherever they are then.
    let until_most = if random.bool() { 20_000 } else { 150_000_000 };
    Task {
        connections,
        rounds: random.u32(1..=3),
        messages: random.u32(1..=5),
        size: [1, 20, 100, 400][random.usize(0..4)],
        targets: 2,
        source: random.bool().then_some(IpAddr::from([127, 0, 0, 1])),
        limit: random.bool().then(|| random.u32(1..200)),
        shuts: random.u8(0..4) == 0,
        until: Duration::from_micros(random.u64(0..until_most)),
    }
}

fn run(task: Task, client: Client, plan: impl FnOnce(&Sim)) -> Ran {
    let (buffers, size, seed) = (client.buffers, client.buffer_size, client.seed);
    let pages = Pages::new(memory_needed(&task, buffers, size)).unwrap();
    let mut sim = client.kernel(pages.memory());
    plan(&sim);
    let mut random = Rng::with_seed(seed ^ 0x3a4e);
    for _ in 0..random.u8(0..4) {
        let at = random.u64(0..20_000);
        // Two at one moment: they may be told of together.
        sim.at(at, || External::Wake);
        sim.at(at, || External::Wake);
    }
    let view = sim.clone();
    let mut trial = Trial::new(&mut sim, pages.memory(), buffers, size, task.clone());
    let ends = trial.run();
    let ends = trial.sockets.iter().copied().zip(ends).collect();
    // What was provided last is shown to the kernel.
    trial.ring.publish();
    Ran {
        ends,
        coverage: view.coverage(),
        facts: view.facts(),
        standing: view.standing(),
        told: view.told(),
        task,
    }
}

/// What must hold whatever happened.
fn look_at_the_end(seed: u64, ran: &Ran) {
    let replay = "C10K_TRACE=1 prints every question and answer";
    assert!(ran.facts.violations.is_empty(), "seed {seed}: {:?}\n{replay}", ran.facts.violations);
    let rounds = (ran.task.connections * ran.task.rounds) as usize;
    assert_eq!(ran.ends.len(), rounds, "seed {seed}: {:?}\n{replay}", ran.ends);
    let Standing { outstanding, lent, open, .. } = ran.standing;
    // The watch for wake-ups is never ended.
    assert_eq!((outstanding, lent, open), (1, 0, 0), "seed {seed}: {replay}");
    assert_eq!(ran.facts.accepted, ran.facts.closed, "seed {seed}: {replay}");
}

#[test]
fn every_byte_comes_back_from_honest_servers_and_every_lie_shows() {
    let mut coverage = Coverage::of(Side::Client);
    let (mut bytes, mut lies) = (0, 0);
    let seeds = crate::seeds::several(SEEDS);
    let count = seeds.end - seeds.start;
    for seed in seeds {
        // The honest ones have most to say.
        let honest = seed.is_multiple_of(3).then(|| honest(seed));
        let rough = (0..4).map(|more| rough(seed * 4 + more));
        for ran in honest.into_iter().chain(rough).chain([lied_to(seed)]) {
            coverage.merge(&ran.coverage);
            bytes += ran.facts.received;
            lies += ran.told.len();
        }
    }
    println!("{count} seeds: {bytes} bytes came back, {lies} lies\n{}", coverage.table());
    if count >= SEEDS {
        let missed = coverage.below(100);
        assert!(missed.is_empty(), "drawn fewer than 100 times: {missed:#?}");
    }
}

fn honest(seed: u64) -> Ran {
    let task = Task { until: Duration::from_secs(100), ..task(seed) };
    let client = Client::draw(seed, task.connections);
    let ran = run(task, client, |_| {});
    look_at_the_end(seed, &ran);
    assert!(ran.ends.iter().all(|(_, end)| *end == End::Done), "seed {seed}: {:?}", ran.ends);
    ran
}

fn rough(seed: u64) -> Ran {
    let task = task(seed);
    // Sometimes fewer sockets than the client would have.
    let fewer = u32::from(seed.is_multiple_of(3));
    let client = Client::draw(seed, task.connections.saturating_sub(fewer)).rough();
    let ran = run(task, client, |sim| {
        if seed.is_multiple_of(2) {
            sim.at(seed * 20, || External::Heal);
        }
    });
    look_at_the_end(seed, &ran);
    for &(socket, end) in &ran.ends {
        let legal = match end {
            End::Done | End::Finished(_) | End::Owed(_) => true,
            End::Unopened(errno) => {
                socket.is_none()
                    && [Errno::EMFILE, Errno::EADDRNOTAVAIL, Errno::ENOBUFS, Errno::ENOMEM].contains(&errno)
            }
            End::Unconnected(errno) => errno != Errno::ECANCELED,
            End::Broken(errno, _) => [Errno::ECONNRESET, Errno::ETIMEDOUT, Errno::EPIPE].contains(&errno),
            End::Wrong(_) => false,
        };
        assert!(legal, "seed {seed}: socket {socket:?} ended with {end:?}");
    }
    ran
}

fn lied_to(seed: u64) -> Ran {
    let mut random = Rng::with_seed(seed ^ 0x11e5);
    // One round: who is lied to by silence has no time for another.
    let task = Task { until: Duration::from_secs(100), rounds: 1, shuts: false, ..task(seed) };
    let mut client = Client::draw(seed, task.connections);
    let whole = u64::from(task.messages * task.size);
    let bytes = random.u32(1..40);
    for connection in 0..(task.connections * task.rounds) as usize {
        let Some(lie) = Lie::draw(&mut random, 16, bytes) else { continue };
        let offset = if random.bool() { 0 } else { random.u64(0..whole) };
        client.scene.plants.push(Plant { connection, offset, lie });
    }
    let ran = run(task, client, |_| {});
    look_at_the_end(seed, &ran);
    for &(socket, end) in &ran.ends {
        let told = ran.told.iter().find(|told| Some(told.connection) == socket);
        let shows = match (told, end) {
            (None, end) => end == End::Done,
            (Some(Told { offset, lie, .. }), end) => is_shown(*offset, *lie, end, whole),
        };
        assert!(shows, "seed {seed}: socket {socket:?}, {told:?} of {whole}, ended with {end:?}");
    }
    ran
}

/// Whether `end` is what a client that compares must come to.
fn is_shown(offset: u64, lie: Lie, end: End, whole: u64) -> bool {
    let within = |bytes: u32, at: u64| (offset..offset + u64::from(bytes)).contains(&at);
    match (lie, end) {
        (Lie::Flip { .. }, End::Wrong(at)) => at == offset,
        (Lie::Swap { bytes } | Lie::Cross { bytes }, End::Wrong(at)) => within(bytes, at),
        (Lie::Drop { .. }, End::Wrong(at)) => at >= offset,
        (Lie::Drop { .. }, End::Owed(_)) => true,
        (Lie::Double { bytes } | Lie::Extra { bytes }, End::Wrong(at)) => {
            at >= offset && at <= whole + u64::from(bytes)
        }
        // It had everything, and was gone before the rest came.
        (Lie::Double { bytes }, End::Done) => offset + u64::from(bytes) >= whole,
        (Lie::Extra { .. }, End::Done) => offset >= whole,
        (Lie::Stall, End::Owed(at)) | (Lie::Finish, End::Finished(at)) => at == offset,
        // The end was met by a send.
        (Lie::Finish, End::Broken(Errno::ECONNRESET | Errno::EPIPE, _)) => true,
        _ => false,
    }
}

#[test]
fn a_seed_ends_the_same_way_twice() {
    for seed in [3, 18, 101] {
        let (one, other) = (rough(seed), rough(seed));
        assert_eq!(one.ends, other.ends);
        assert_eq!(one.coverage.table(), other.coverage.table());
    }
}

/// A kernel in which nothing is drawn that would be in the way, and a socket.
fn calm(change: impl FnOnce(&mut Client)) -> (Pages, Sim, Socket) {
    let pages = Pages::new(1 << 16).unwrap();
    let mut client =
        Client { buffers: 4, buffer_size: 64, sq: 64, cq: 64, direct: true, ..Client::draw(0, 4) };
    change(&mut client);
    let mut sim = client.kernel(pages.memory());
    sim.kernel.borrow_mut().odds.heal();
    (0..4).for_each(|buffer| sim.provide(buffer));
    sim.publish();
    let socket = sim.open(0, None).unwrap();
    (pages, sim, socket)
}

/// Enters until there is a completion.
fn answer(sim: &mut Sim) -> crate::ring::Completion {
    for _ in 0..100 {
        let _ = sim.enter(1, Some(Duration::from_secs(1000)));
        if let Some(done) = sim.next_completion() {
            return done;
        }
    }
    panic!("no answer: {:?}", sim.facts().violations);
}

fn violation(sim: &Sim) -> String {
    sim.facts().violations.first().cloned().unwrap_or_default()
}

#[test]
fn a_client_that_breaks_a_rule_is_caught() {
    let span = Span { offset: 4 * stride(64), length: 1 };
    // Nothing is sent before the connection is known to stand.
    let (_pages, mut sim, socket) = calm(|_| {});
    sim.push(Operation::Send { socket, span }, Token(1));
    assert!(violation(&sim).contains("Fresh"), "{}", violation(&sim));
    // Nor connected twice.
    let (_pages, mut sim, socket) = calm(|_| {});
    sim.push(Operation::Connect { socket, target: 0 }, Token(1));
    assert_eq!(answer(&mut sim).result, 0);
    sim.push(Operation::Connect { socket, target: 0 }, Token(2));
    assert!(violation(&sim).contains("Known"), "{}", violation(&sim));
    // A slot is given back after the close was answered, and once.
    let (_pages, mut sim, socket) = calm(|_| {});
    sim.push(Operation::Close { socket }, Token(1));
    sim.closed(socket);
    assert!(violation(&sim).contains("given back"), "{}", violation(&sim));
    let (_pages, mut sim, socket) = calm(|_| {});
    sim.push(Operation::Close { socket }, Token(1));
    assert_eq!(answer(&mut sim).result, 0);
    sim.closed(socket);
    assert_eq!(violation(&sim), "");
    sim.closed(socket);
    assert!(violation(&sim).contains("given back"), "{}", violation(&sim));
    // It does not wait for what nobody will say.
    let (_pages, mut sim, _) = calm(|_| {});
    let _ = sim.enter(1, None);
    assert!(violation(&sim).contains("I16"), "{}", violation(&sim));
}

#[test]
fn a_slot_that_is_not_given_back_is_not_used_again() {
    let (_pages, mut sim, socket) = calm(|client| client.descriptors = 1);
    sim.push(Operation::Close { socket }, Token(1));
    assert_eq!(answer(&mut sim).result, 0);
    assert_eq!(sim.open(0, None).unwrap_err().raw_os_error(), Some(Errno::EMFILE as i32));
    sim.closed(socket);
    assert_eq!(sim.open(0, None).unwrap(), socket);
}

#[test]
fn what_a_test_plans_for_quiet_happens_while_connections_are_held() {
    let (_pages, mut sim, socket) = calm(|_| {});
    sim.push(Operation::Connect { socket, target: 0 }, Token(1));
    assert_eq!(answer(&mut sim).result, 0);
    sim.push(Operation::Wakeups, Token(2));
    sim.when_quiet(|| External::Wake);
    let _ = sim.enter(1, None);
    assert_eq!(sim.next_completion().map(|done| done.token), Some(Token(2)));
    assert_eq!(violation(&sim), "");
}
