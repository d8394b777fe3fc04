//! What one seed runs with: a plan, a kernel, the servers behind it, and when a signal comes.

use super::super::super::plan::{Arrivals, End, Engine, Plan, Spacing, StatsFrom, Workload};
use crate::ring::sim::{Client, Lie, Plant};
use fastrand::Rng;
use std::time::Duration;

/// What kind of servers there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum World {
    /// They echo, in whatever pieces and at whatever pace.
    Honest,
    /// Connects fail, connections break, sockets cannot be had.
    Rough,
    /// They tell lies, one to a connection at most.
    Lying,
}

/// All choices of a seed. Times are microseconds.
#[derive(Clone, Debug)]
pub(super) struct Scenario {
    pub(super) plan: Plan,
    pub(super) client: Client,
    /// Bytes of scratch.
    pub(super) scratch: u32,
    /// When a signal ends the measurement.
    pub(super) interrupted_at: Option<u64>,
    /// When the main thread gives up on messages that never come back.
    pub(super) given_up_at: u64,
}

impl Scenario {
    pub(super) fn draw(seed: u64, world: World) -> Self {
        let mut random = Rng::with_seed(seed ^ 0x0e61_4e00_0000_0000);
        let random = &mut random;
        let plan = plan(random, seed, world);
        // Sometimes fewer sockets than connections.
        let fewer = u32::from(world == World::Rough && random.u8(0..8) == 0);
        let mut client = Client::draw(seed, plan.connections.saturating_sub(fewer).max(1));
        match world {
            World::Honest => {}
            World::Rough => client = client.rough(),
            World::Lying => client.scene.plants = plants(random, &plan),
        }
        client.enters_max = 2_000_000;
        let scratch = [64, 256, 4096][random.usize(0..3)];
        let most = if random.bool() { 20_000 } else { 400_000 };
        let interrupted = world != World::Lying && random.u8(0..5) == 0;
        let interrupted_at = interrupted.then(|| random.u64(0..most));
        Self {
            plan,
            client,
            scratch,
            interrupted_at,
            given_up_at: if world == World::Honest { 100_000_000 } else { 2_000_000 },
        }
    }
}

fn plan(random: &mut Rng, seed: u64, world: World) -> Plan {
    let workload = match random.u8(0..8) {
        0 | 1 => Workload::Stream,
        // Who lies to the lives of a churning slot is not told apart by the number of the socket.
        2 | 3 if world != World::Lying => Workload::Churn,
        4 => Workload::Idle,
        _ => Workload::PingPong,
    };
    let connections = random.u32(1..=8);
    let least = random.u32(1..100);
    let most = if random.bool() { least } else { least + random.u32(0..400) };
    let rate = [200.0, 2_000.0, 50_000.0][random.usize(0..3)];
    let spacing = if random.bool() { Spacing::Uniform } else { Spacing::Poisson };
    let open = workload == Workload::Idle || (workload != Workload::Stream && random.bool());
    let timed = random.bool();
    // What a stream leaves in the pipes the servers give back byte by byte, if they like.
    let longest = if workload == Workload::Stream { 2_000 } else { 20_000 };
    let time = Duration::from_micros(random.u64(1..longest));
    // Honest servers may take their time: nobody is stuck for that.
    let grace = if world == World::Rough { random.u64(1..100) } else { 3_600_000 };
    Plan {
        workload,
        target: "127.0.0.1:8888".parse().expect("an address"),
        connections,
        size: least..=most,
        depth: if workload == Workload::Churn { 1 } else { random.u32(1..=4) },
        arrivals: if open { Arrivals::Open { rate, spacing } } else { Arrivals::Closed },
        end: if timed { End::After(time) } else { End::Messages(random.u64(1..100)) },
        warmup: Duration::from_micros([0, 500, longest / 4][random.usize(0..3)]),
        grace: Duration::from_millis(grace),
        threads: 1,
        cpus: Vec::new(),
        engine: Engine::Uring,
        direct: false,
        sources: if random.bool() { Vec::new() } else { vec!["127.0.0.1".parse().expect("an address")] },
        connect_rate: (random.u8(0..4) == 0).then_some(2_000.0),
        connect_timeout: Duration::from_millis(if world == World::Rough {
            random.u64(1..50)
        } else {
            60_000
        }),
        verify: true,
        latency: records(seed),
        seed,
        interval: Duration::from_micros(if timed { random.u64(1_000..8_000) } else { 200_000 }),
        server_stats: StatsFrom::None,
    }
}

/// Whether the times of a seed are recorded.
fn records(seed: u64) -> bool {
    seed % 8 != 5
}

fn plants(random: &mut Rng, plan: &Plan) -> Vec<Plant> {
    let mut plants = Vec::new();
    for connection in 0..plan.connections as usize {
        let bytes = random.u32(1..40);
        let Some(lie) = Lie::draw(random, 12, bytes) else { continue };
        let offset = if random.bool() { 0 } else { random.u64(0..400) };
        plants.push(Plant { connection, offset, lie });
    }
    plants
}
