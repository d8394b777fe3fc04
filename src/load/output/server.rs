//! The line about the server: what it took, and whatever is not as it should be in its own account.

use super::figures;
use crate::result::Named;
use crate::result::server_stats::{AccountChange, ServerStats};

/// What a healthy server counts too; everything else is worth a word when it is not zero.
const ORDINARY: &[&str] = &[
    "accepted",
    "bytes_received",
    "bytes_sent",
    "receives",
    "sends",
    "system_calls",
    "enters",
    "completions",
    "waits",
    "events",
    "would_blocks",
    "rearmed",
    "receives_armed",
    "accepts_armed",
    "deadline_steps",
    "peer_finished",
    "peer_reset",
    "stopped",
];

/// One line for a person.
pub(super) fn line(stats: &ServerStats) -> String {
    let mut parts = vec![
        stats.source.clone(),
        format!("{:.2} CPUs", stats.cpus_busy),
        format!("{} threads", figures::whole(stats.threads)),
        format!(
            "{} switches ({} taken away)",
            figures::whole(stats.voluntary_switches + stats.involuntary_switches),
            figures::whole(stats.involuntary_switches)
        ),
    ];
    parts.extend(stats.resident_bytes.map(|bytes| format!("{} resident", figures::bytes(bytes as f64))));
    if stats.kernel_workers > 0 {
        parts.push(format!("{} workers of the kernel", figures::whole(stats.kernel_workers)));
    }
    parts.extend(stats.account.as_ref().map(remarkable).filter(|remarkable| !remarkable.is_empty()));
    parts.join("   ")
}

fn remarkable(account: &AccountChange) -> String {
    let groups: [&Named<u64>; 3] = [&account.counters, &account.closed, &account.refused];
    let numbers = groups.into_iter().flat_map(|group| &group.0);
    let some = numbers.filter(|(name, value)| *value != 0 && !ORDINARY.contains(&name.as_str()));
    let said: Vec<String> = some.map(|(name, value)| format!("{name} {}", figures::whole(*value))).collect();
    said.join("   ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_ordinary_is_named_and_nothing_else() {
        let named = |values: &[(&str, u64)]| {
            Named(values.iter().map(|&(name, value)| (name.into(), value)).collect())
        };
        let mut stats = ServerStats {
            source: "process 7".into(),
            cpus_busy: 1.5,
            voluntary_switches: 1200,
            involuntary_switches: 34,
            threads: 3,
            ..ServerStats::default()
        };
        assert_eq!(line(&stats), "process 7   1.50 CPUs   3 threads   1,234 switches (34 taken away)");
        stats.account = Some(AccountChange {
            counters: named(&[("bytes_sent", 5), ("empty_pool", 2), ("overflows", 0)]),
            closed: named(&[("peer_finished", 9), ("write_timeout", 1)]),
            refused: named(&[("refused_full", 4)]),
            ..AccountChange::default()
        });
        assert!(
            line(&stats).ends_with("   empty_pool 2   write_timeout 1   refused_full 4"),
            "{}",
            line(&stats)
        );
    }
}
