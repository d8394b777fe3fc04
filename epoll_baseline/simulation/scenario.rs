//! What one seed runs with: sizes, features, limits, and what happens from outside when.

use super::super::setting::Setting;
use crate::conn::Limits;
use crate::features::{Read, Trigger};
use fastrand::Rng;
use std::time::Duration;

/// All choices of a seed.
#[derive(Clone, Debug)]
pub(super) struct Scenario {
    pub(super) seed: u64,
    /// Threads over one instance; none is one loop of its own.
    pub(super) threads: Option<usize>,
    pub(super) setting: Setting,
    pub(super) descriptors: usize,
    pub(super) listeners: usize,
    pub(super) peers: usize,
    /// Whether another worker takes permits of the same limit.
    pub(super) rival: bool,
    /// The step at which the faults end.
    pub(super) heal_at: u64,
    /// The steps at which the server is told to stop, and to end at once.
    pub(super) stop_at: Option<u64>,
    pub(super) cut_at: Option<u64>,
    /// Microseconds that may pass in a step.
    pub(super) pace: u64,
}

impl Scenario {
    pub(super) fn draw(seed: u64) -> Self {
        // Another stream of numbers than the kernel's.
        let random = &mut Rng::with_seed(seed ^ 0x5eed_0000_0000_0000);
        let most = [4, 8, 16, 24][random.usize(0..4)];
        let peers = random.usize(1..=most);
        let max_connections = random.u32(1..=peers as u32 + 2);
        let heal_at = random.u64(10..2000);
        let stop_at = random.bool().then(|| random.u64(0..800));
        let cut_at = stop_at.filter(|_| random.u8(0..3) == 0).map(|at| at + random.u64(0..400));
        Self {
            seed,
            threads: random.bool().then(|| random.usize(1..=4)),
            setting: Setting {
                trigger: if random.bool() { Trigger::Edge } else { Trigger::Level },
                read: if random.bool() { Read::Once } else { Read::Drain },
                buffer_size: [1, 3, 16, 64, 300][random.usize(0..5)],
                max_connections,
                limits: limits(random),
                spill_limit: [0, 10, 60, 100_000, 100_000][random.usize(0..5)],
                drain_timeout: Duration::from_millis([20, 200, 5_000][random.usize(0..3)]),
                queued_max: [2, 100][random.usize(0..2)],
            },
            descriptors: if random.u8(0..3) == 0 {
                random.usize(1..=max_connections as usize)
            } else {
                max_connections as usize + 8
            },
            listeners: random.usize(1..=2),
            peers,
            rival: random.u8(0..3) == 0,
            heal_at,
            stop_at,
            cut_at,
            pace: [0, 20, 200, 2_000][random.usize(0..4)],
        }
    }
}

fn limits(random: &mut Rng) -> Limits {
    let window = [20, 100, 400, 4_000][random.usize(0..4)];
    let mut timeout = || if random.bool() { 0 } else { random.u64(50..400) };
    let (idle_timeout, write_timeout) = (timeout(), timeout());
    Limits {
        window,
        window_at_first: random.u32(1..=window),
        trust_after: random.u64(0..300),
        idle_timeout,
        write_timeout,
        linger: random.u64(30..80),
    }
}
