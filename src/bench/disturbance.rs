//! What can disturb a slice, so that it is measured again: each kind by a name and by how its sentence begins. A
//! result keeps the sentences; what a kind is called is found from them, in earlier results too. Pure.

use super::canary;
use super::pace::is_too_fast;
use crate::result::bench::Slice;
use std::collections::BTreeMap;

/// The hypervisor took CPU time.
pub const STEAL: &str = "the hypervisor gave";
/// Some task waited for a CPU.
pub const PRESSURE: &str = "tasks waited for a CPU";
/// Others had CPU time.
pub const OTHERS: &str = "other programs took";
/// Others were ready to run when it began.
pub const RUNNABLE: &str = "other tasks were ready to run";

const KINDS: [(&str, &str); 5] = [
    ("steal", STEAL),
    ("pressure", PRESSURE),
    ("other_programs", OTHERS),
    ("runnable", RUNNABLE),
    ("canary", canary::REASON),
];

/// Slices that were disturbed, by kind; one that was so for two reasons counts for both.
#[must_use]
pub fn counted(slices: &[Slice]) -> BTreeMap<String, u32> {
    let mut counts = BTreeMap::new();
    for slice in slices {
        let mut kinds: Vec<&str> = slice.disturbed.iter().map(|reason| kind(reason)).collect();
        kinds.sort_unstable();
        kinds.dedup();
        kinds.into_iter().for_each(|kind| *counts.entry(kind.to_string()).or_insert(0) += 1);
    }
    counts
}

fn kind(reason: &str) -> &'static str {
    KINDS.iter().find(|(_, begins)| reason.starts_with(begins)).map_or("other", |(name, _)| name)
}

/// Whether a slice is worth measuring again: it was disturbed, and what is wrong with it, if anything is, is what
/// a disturbance does. A client that gets no CPU keeps no rate.
#[must_use]
pub fn calls_for_repeat(slice: &Slice) -> bool {
    !slice.disturbed.is_empty() && slice.invalid.iter().all(|reason| is_too_fast(reason))
}

/// What is counted, in words: `canary 1, steal 3`; empty where nothing is.
#[must_use]
pub fn in_words(counts: &BTreeMap<String, u32>) -> String {
    let told: Vec<String> =
        counts.iter().map(|(kind, count)| format!("{} {count}", kind.replace('_', " "))).collect();
    told.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::compare::tests::block;
    use crate::bench::pace::RATE_MISSED;
    use crate::result::bench::Purpose;

    #[test]
    fn slices_are_counted_by_what_disturbed_them() {
        let mut slices = block(Purpose::Cost, 0, 1.0, 1.0);
        slices[0].disturbed = vec![format!("{STEAL} 2.1 % of the CPU time to others")];
        slices[1].disturbed = vec![
            format!("{}: CPU 0 took 1.30 times as long as it does mostly", canary::REASON),
            format!("{}: CPU 1 took 1.40 times as long as it does mostly", canary::REASON),
            format!("{STEAL} 1.2 % of the CPU time to others"),
        ];
        slices[2].disturbed = vec!["nobody knows".into()];
        let counts = counted(&slices);
        assert_eq!(in_words(&counts), "canary 1, other 1, steal 2");
        assert_eq!(in_words(&counted(&slices[3..])), "");
    }

    #[test]
    fn what_a_disturbance_explains_is_measured_again_and_nothing_else() {
        let [mut slice, ..] = block(Purpose::Cost, 0, 1.0, 1.0);
        assert!(!calls_for_repeat(&slice));
        slice.invalid = vec![format!("{RATE_MISSED}: 80 of 100 messages a second")];
        assert!(!calls_for_repeat(&slice));
        slice.disturbed = vec![format!("{STEAL} 40.0 % of the CPU time to others")];
        assert!(calls_for_repeat(&slice));
        slice.invalid.push("bytes were wrong: byte 7".into());
        assert!(!calls_for_repeat(&slice));
    }
}
