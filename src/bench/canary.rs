//! A canary before each slice: the same small work on every CPU of servers and clients, timed. A CPU that is slow
//! at it is slow at everything, whoever is to blame: a hypervisor that does not say what it takes, a neighbour on
//! the same core, a clock that went down. The kernel's own accounts (steal, pressure, what others took) see none
//! of these.
//!
//! What is judged is the CPU time of the work, and not how long it took by the clock: a kernel thread that polls
//! for a server shares its CPU with the canary, and belongs to what is measured; time the hypervisor says it took
//! is another reason already. Both are kept. A canary is held against the median of all canaries of its CPU so
//! far, and against nothing while there are few.

use crate::host;
use crate::result::bench::{Canary, Slice};
use crate::statistics::paired::median;
use std::hint::black_box;
use std::time::Instant;

/// Steps of the work: about two milliseconds, less than a hundredth of a slice.
const STEPS: u32 = 1_000_000;
/// Those that wake a sleeping CPU up, and are not timed.
const FIRST_STEPS: u32 = 100_000;
/// So much longer than the median is slow.
const SLOW: f64 = 1.25;
/// Without so many earlier ones nothing is slow.
const KNOWN_MIN: usize = 8;
/// How the reason begins.
pub const REASON: &str = "a canary was slow";

/// One on each of these CPUs, all at once.
#[must_use]
pub fn canaries(cpus: &[usize]) -> Vec<Canary> {
    let mut cpus = cpus.to_vec();
    cpus.sort_unstable();
    cpus.dedup();
    std::thread::scope(|scope| {
        let sent: Vec<_> = cpus.into_iter().map(|cpu| scope.spawn(move || canary(cpu))).collect();
        sent.into_iter().filter_map(|one| one.join().ok().flatten()).collect()
    })
}

/// `None` where the CPU is not to be had.
fn canary(cpu: usize) -> Option<Canary> {
    host::pin(cpu).ok()?;
    black_box(work(FIRST_STEPS));
    let (began, before) = (Instant::now(), host::thread_cpu());
    black_box(work(STEPS));
    let (cpu_time, time) = (host::thread_cpu().saturating_sub(before), began.elapsed());
    Some(Canary { cpu, cpu_us: cpu_time.as_nanos() as f64 / 1e3, took_us: time.as_nanos() as f64 / 1e3 })
}

/// Each step needs the one before it: no compiler and no CPU does two at once.
fn work(steps: u32) -> u64 {
    let mut state = black_box(0x9e37_79b9_7f4a_7c15_u64);
    for _ in 0..steps {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
    }
    state
}

/// Which of these are slow beside the canaries of the slices before, a sentence each.
#[must_use]
pub fn slow<'a>(now: &[Canary], before: impl Iterator<Item = &'a Slice> + Clone) -> Vec<String> {
    now.iter().filter_map(|one| is_slow(one, before.clone())).collect()
}

fn is_slow<'a>(one: &Canary, before: impl Iterator<Item = &'a Slice>) -> Option<String> {
    let earlier = before.filter_map(|slice| slice.before.as_ref()).flat_map(|before| &before.canaries);
    let known: Vec<f64> = earlier.filter(|other| other.cpu == one.cpu).map(|other| other.cpu_us).collect();
    let usual = median(&known).filter(|usual| known.len() >= KNOWN_MIN && *usual > 0.0)?;
    let times = one.cpu_us / usual;
    (times > SLOW)
        .then(|| format!("{REASON}: CPU {} took {times:.2} times as long as it does mostly", one.cpu))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::compare::tests::slice;
    use crate::result::bench::{Before, Purpose, Side};

    fn of(cpu: usize, cpu_us: f64) -> Canary {
        Canary { cpu, cpu_us, took_us: cpu_us * 3.0 }
    }

    fn slices(times: &[f64]) -> Vec<Slice> {
        let begun = |&us: &f64| Slice {
            before: Some(Before { canaries: vec![of(0, us), of(1, us * 2.0)], runnable_others: None }),
            ..slice(Purpose::Cost, 0, 0, Side::A, 1.0)
        };
        times.iter().map(begun).collect()
    }

    #[test]
    fn a_cpu_is_slow_beside_its_own_median_and_not_beside_anothers() {
        // One that was slow before moves no median.
        let before = slices(&[100.0, 101.0, 99.0, 100.0, 900.0, 100.0, 102.0, 100.0]);
        assert_eq!(slow(&[of(0, 124.0), of(1, 249.0)], before.iter()), Vec::<String>::new());
        let said = slow(&[of(0, 130.0), of(1, 200.0)], before.iter());
        assert_eq!(said, ["a canary was slow: CPU 0 took 1.30 times as long as it does mostly"]);
        assert_eq!(slow(&[of(0, 130.0), of(1, 260.0)], before.iter()).len(), 2);
        assert_eq!(slow(&[of(2, 1e9)], before.iter()), Vec::<String>::new(), "nothing is known of this CPU");
    }

    #[test]
    fn while_little_is_known_nothing_is_slow_and_earlier_results_have_no_canaries() {
        let mut before = slices(&[100.0; 7]);
        before.extend([slice(Purpose::Cost, 0, 0, Side::A, 1.0), slice(Purpose::Cost, 0, 1, Side::B, 1.0)]);
        assert_eq!(slow(&[of(0, 1e9)], before.iter()), Vec::<String>::new());
        before.extend(slices(&[100.0]));
        assert_eq!(slow(&[of(0, 1e9)], before.iter()).len(), 1);
    }

    #[test]
    fn every_cpu_has_one_and_it_took_time() {
        let cpus = host::cpus();
        let twice: Vec<usize> = cpus.iter().chain(&cpus).copied().collect();
        let sent = canaries(&twice);
        assert_eq!(sent.iter().map(|one| one.cpu).collect::<Vec<_>>(), cpus);
        assert!(sent.iter().all(|one| one.cpu_us > 0.0 && one.took_us > 0.0), "{sent:?}");
        assert!(canaries(&[usize::MAX]).is_empty());
    }
}
