//! From two looks at a server to what it spent and counted in between. Pure.

use super::look::Snapshot;
use crate::host::process::{CpuFrom, Process, Thread};
use crate::result::Named;
use crate::result::server_stats::{AccountChange, ServerStats};
use crate::result::shared_account::Sums;

/// What happened between two looks at the same process. Where it came from, how late the looks were and
/// how long an answer took is for the caller to add.
#[must_use]
pub fn difference(before: &Snapshot, after: &Snapshot) -> ServerStats {
    let (first, last) = (&before.process, &after.process);
    let threads = threads(first, last);
    let window_ns = after.at_ns.saturating_sub(before.at_ns);
    let cpu_ns = last.cpu_ns.saturating_sub(first.cpu_ns);
    let account = before.account.as_ref().zip(after.account.as_ref());
    let mut notes = notes(first, last, &threads);
    notes.extend(after.unread.clone());
    ServerStats {
        pid: last.pid,
        window_us: window_ns / 1000,
        cpu_us: cpu_ns / 1000,
        cpu_from: if exact(first, last) { "clock" } else { "ticks" }.into(),
        cpus_busy: if window_ns == 0 { 0.0 } else { cpu_ns as f64 / window_ns as f64 },
        kernel_workers_cpu_us: threads.kernel_cpu_ns / 1000,
        voluntary_switches: threads.voluntary_switches,
        involuntary_switches: threads.involuntary_switches,
        threads: last.threads.len() as u64,
        threads_started: threads.started,
        threads_ended: threads.ended,
        kernel_workers: last.threads.iter().filter(|thread| thread.kernel).count() as u64,
        resident_begin_bytes: first.resident_bytes,
        resident_bytes: last.resident_bytes,
        resident_peak_bytes: last.resident_peak_bytes,
        account: account.map(|(before, after)| change(before, after)),
        notes,
        ..ServerStats::default()
    }
}

/// Sums over the threads there are at the end.
#[derive(Debug, Default)]
struct Threads {
    started: u64,
    ended: u64,
    kernel_cpu_ns: u64,
    voluntary_switches: u64,
    involuntary_switches: u64,
}

fn threads(first: &Process, last: &Process) -> Threads {
    let mut sums = Threads::default();
    for thread in &last.threads {
        let old = first.threads.iter().find(|old| old.id == thread.id).filter(|old| is_same(old, thread));
        sums.started += u64::from(old.is_none());
        // A thread that is new has done all it ever did since the first look.
        let since = |of: fn(&Thread) -> u64| of(thread) - old.map_or(0, of);
        sums.voluntary_switches += since(|thread| thread.voluntary_switches);
        sums.involuntary_switches += since(|thread| thread.involuntary_switches);
        if thread.kernel {
            sums.kernel_cpu_ns += since(|thread| thread.cpu_ns.unwrap_or(0));
        }
    }
    sums.ended = (first.threads.len() as u64 + sums.started).saturating_sub(last.threads.len() as u64);
    sums
}

/// Whether it is the thread it was, and not another one that was given its number: what a thread has done
/// never becomes less.
fn is_same(old: &Thread, new: &Thread) -> bool {
    old.kernel == new.kernel
        && old.cpu_ns.unwrap_or(0) <= new.cpu_ns.unwrap_or(0)
        && old.voluntary_switches <= new.voluntary_switches
        && old.involuntary_switches <= new.involuntary_switches
}

fn exact(first: &Process, last: &Process) -> bool {
    first.cpu_from == CpuFrom::Clock && last.cpu_from == CpuFrom::Clock
}

fn notes(first: &Process, last: &Process, threads: &Threads) -> Vec<String> {
    let mut notes = Vec::new();
    if !exact(first, last) {
        notes.push("the server's CPU time is counted in ticks of the kernel, 10 ms as a rule".into());
    }
    if threads.ended > 0 {
        notes.push(format!(
            "threads of the server that ended in the window: {}; their context switches are missing, their CPU time \
             is not",
            threads.ended
        ));
    }
    notes
}

/// Counters have grown, also past the largest number; gauges are what they are, with a sign.
fn change(before: &Sums, after: &Sums) -> AccountChange {
    let grown = |before: &Named<u64>, after: &Named<u64>| {
        let old = |name: &str| before.get(name).copied().unwrap_or(0);
        Named(after.0.iter().map(|(name, value)| (name.clone(), value.wrapping_sub(old(name)))).collect())
    };
    let signed = |gauges: &Named<u64>| {
        Named(gauges.0.iter().map(|(name, value)| (name.clone(), *value as i64)).collect())
    };
    AccountChange {
        counters: grown(&before.counters, &after.counters),
        closed: grown(&before.closed, &after.closed),
        refused: grown(&before.refused, &after.refused),
        gauges_begin: signed(&before.gauges),
        gauges: signed(&after.gauges),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn thread(id: u32, kernel: bool, milliseconds: u64, switches: u64) -> Thread {
        Thread {
            id,
            kernel,
            cpu_ns: Some(milliseconds * 1_000_000),
            voluntary_switches: switches,
            involuntary_switches: switches * 2,
        }
    }

    fn snapshot(at_ms: u64, cpu_ms: u64, threads: Vec<Thread>) -> Snapshot {
        let process = Process {
            pid: 7,
            started: 1,
            cpu_ns: cpu_ms * 1_000_000,
            cpu_from: CpuFrom::Clock,
            resident_bytes: Some(at_ms),
            resident_peak_bytes: None,
            threads,
        };
        Snapshot { at_ns: at_ms * 1_000_000, process, account: None, unread: None }
    }

    fn named(values: &[(&str, u64)]) -> Named<u64> {
        Named(values.iter().map(|&(name, value)| (name.to_string(), value)).collect())
    }

    #[test]
    fn cpu_time_switches_and_memory_are_what_came_between() {
        let before = snapshot(1000, 50, vec![thread(7, false, 40, 10), thread(8, true, 10, 1)]);
        let after = snapshot(3000, 1050, vec![thread(7, false, 840, 110), thread(8, true, 210, 5)]);
        let stats = difference(&before, &after);
        assert_eq!((stats.window_us, stats.cpu_us, stats.cpus_busy), (2_000_000, 1_000_000, 0.5));
        assert_eq!((stats.voluntary_switches, stats.involuntary_switches), (104, 208));
        assert_eq!((stats.kernel_workers, stats.kernel_workers_cpu_us), (1, 200_000));
        assert_eq!((stats.threads, stats.threads_started, stats.threads_ended), (2, 0, 0));
        assert_eq!((stats.resident_begin_bytes, stats.resident_bytes), (Some(1000), Some(3000)));
        assert_eq!((stats.account, stats.notes), (None, Vec::new()));
    }

    #[test]
    fn threads_that_come_and_go_are_counted_and_what_is_missing_is_said() {
        let before = snapshot(0, 0, vec![thread(7, false, 0, 10), thread(8, true, 50, 30)]);
        // Thread 8 has ended; 9 is new; 10 came with a history of its own.
        let after =
            snapshot(10, 70, vec![thread(7, false, 0, 11), thread(9, true, 5, 2), thread(10, false, 0, 4)]);
        let stats = difference(&before, &after);
        assert_eq!((stats.threads_started, stats.threads_ended), (2, 1));
        assert_eq!((stats.voluntary_switches, stats.kernel_workers_cpu_us), (1 + 2 + 4, 5000));
        assert_eq!(stats.cpu_us, 70_000, "of the process, whatever became of its threads");
        assert!(stats.notes[0].contains("ended in the window: 1;"), "{:?}", stats.notes);
    }

    #[test]
    fn a_threads_number_that_was_given_to_another_one_is_a_new_thread() {
        let before = snapshot(0, 0, vec![thread(7, false, 9, 50)]);
        let stats = difference(&before, &snapshot(1, 1, vec![thread(7, false, 9, 3)]));
        assert_eq!((stats.voluntary_switches, stats.threads_started, stats.threads_ended), (3, 1, 1));
    }

    #[test]
    fn counters_are_differences_also_past_the_largest_number_and_gauges_have_a_sign() {
        let sums = |calls, open| Sums {
            counters: named(&[("system_calls", calls)]),
            closed: named(&[("cut", 1)]),
            gauges: named(&[("open", open)]),
            ..Sums::default()
        };
        let (mut before, mut after) = (snapshot(0, 0, Vec::new()), snapshot(1, 0, Vec::new()));
        before.account = Some(sums(u64::MAX, 3));
        after.account = Some(sums(4, 1u64.wrapping_neg()));
        let account = difference(&before, &after).account.unwrap();
        assert_eq!(account.counters, named(&[("system_calls", 5)]));
        assert_eq!(account.closed, named(&[("cut", 0)]));
        assert_eq!((account.gauges_begin.get("open"), account.gauges.get("open")), (Some(&3), Some(&-1)));
        after.account = None;
        after.unread = Some("why".into());
        let stats = difference(&before, &after);
        assert_eq!((stats.account, stats.notes), (None, vec!["why".to_string()]));
    }

    #[test]
    fn ticks_are_said_and_nothing_is_divided_by_nothing() {
        let mut before = snapshot(5, 5, Vec::new());
        before.process.cpu_from = CpuFrom::Ticks;
        let stats = difference(&before, &before);
        assert_eq!((&stats.cpu_from[..], stats.cpus_busy), ("ticks", 0.0));
        assert!(stats.notes[0].contains("ticks"));
    }
}
