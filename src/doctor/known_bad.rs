//! What is publicly known to be broken in releases of Linux: by release, for want of anything better. A
//! try can pass on a kernel that loses bytes once in a million; a release that is named here is named in
//! the report. A distribution may have ported the fix back: that does not show in the number.
//!
//! Left out: what nobody has reported in public, what was reported once and never confirmed, and what is
//! fixed in releases that nobody has named.

use crate::result::doctor::KnownBad;

/// A release as a number: `6.18.44-something` is (6, 18, 44).
pub(super) type Release = (u32, u32, u32);

/// Reads a release.
pub(super) fn release(text: &str) -> Option<Release> {
    let plain = text.split(|sign: char| !sign.is_ascii_digit() && sign != '.').next()?;
    let mut numbers = plain.split('.').map(|number| number.parse().ok());
    Some((numbers.next()??, numbers.next()??, numbers.next().flatten().unwrap_or(0)))
}

/// What is known to be wrong with a feature in a release.
pub(super) fn known_bad(feature: &str, release: Release) -> Option<KnownBad> {
    let row = ROWS.iter().find(|row| row.features.contains(&feature) && row.holds(release))?;
    Some(KnownBad { problem: row.problem.into(), address: row.address.into() })
}

struct Row {
    /// The features it spoils.
    features: &'static [&'static str],
    /// The releases: from, and before what. Several, where stable branches were fixed apart.
    releases: &'static [(Release, Release)],
    problem: &'static str,
    address: &'static str,
}

impl Row {
    fn holds(&self, release: Release) -> bool {
        self.releases.iter().any(|&(from, before)| from <= release && release < before)
    }
}

const MULTISHOT: &[&str] = &["multishot receive"];
const BUNDLES: &[&str] = &["receive bundle", "multishot receive bundle"];
const INCREMENTAL: &[&str] = &["incremental buffers", "incremental buffers, least left over"];

const ROWS: &[Row] = &[
    Row {
        features: MULTISHOT,
        releases: &[((6, 1, 7), (6, 1, 8))],
        problem: "a storm of ENOBUFS",
        address: "https://github.com/axboe/liburing/issues/778",
    },
    Row {
        features: MULTISHOT,
        releases: &[((6, 0, 0), (6, 8, 0))],
        problem: "one connection that floods starves all others, unless the fix was ported back",
        address: "https://github.com/axboe/liburing/issues/1043",
    },
    Row {
        features: &["multishot accept", "multishot accept into free slots"],
        releases: &[((6, 6, 1), (6, 8, 0))],
        problem: "an accept answers with 195, which is no descriptor, when the completion queue overflows",
        address: "https://github.com/axboe/liburing/issues/1062",
    },
    Row {
        features: BUNDLES,
        releases: &[((6, 13, 11), (6, 14, 0)), ((6, 14, 0), (6, 14, 9))],
        problem: "data comes out of order after a short transfer",
        address: "https://github.com/axboe/liburing/issues/1409",
    },
    Row {
        features: &["buffer ring"],
        releases: &[((6, 14, 0), (6, 15, 0))],
        problem: "suspected to corrupt data where connections share it (seen with Ubuntu's kernel)",
        address: "https://github.com/axboe/liburing/issues/1447",
    },
    Row {
        features: INCREMENTAL,
        releases: &[((6, 14, 0), (6, 14, 12))],
        problem: "more of a buffer is consumed than was filled",
        address: "https://github.com/axboe/liburing/issues/1423",
    },
    Row {
        features: INCREMENTAL,
        releases: &[((6, 19, 4), (6, 19, 5))],
        problem: "at the end of a connection it is not told that a buffer goes on",
        address: "https://github.com/axboe/liburing/issues/1545",
    },
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ring::attempts;

    #[test]
    fn a_release_is_read_whatever_a_distribution_writes_behind_it() {
        assert_eq!(release("6.18.44-fc-v669"), Some((6, 18, 44)));
        assert_eq!(release("6.1.0-18-amd64"), Some((6, 1, 0)));
        assert_eq!(release("6.8-rc3"), Some((6, 8, 0)));
        assert_eq!(release("7.1"), Some((7, 1, 0)));
        assert_eq!(release("6.6.13+rpt"), Some((6, 6, 13)));
        assert_eq!(release("five"), None);
        assert_eq!(release(""), None);
    }

    #[test]
    fn a_bad_release_is_told_from_those_before_and_after_it() {
        let bad = |feature: &str, text: &str| known_bad(feature, release(text).unwrap()).is_some();
        for (text, expected) in
            [("6.13.10", false), ("6.13.11", true), ("6.14.0", true), ("6.14.8", true), ("6.14.9", false)]
        {
            assert_eq!(bad("receive bundle", text), expected, "{text}");
        }
        for (text, expected) in [("6.6.0", false), ("6.6.1", true), ("6.7.12", true), ("6.8.0", false)] {
            assert_eq!(bad("multishot accept", text), expected, "{text}");
        }
        assert!(bad("incremental buffers", "6.14.11") && !bad("incremental buffers", "6.15.0"));
        assert!(bad("incremental buffers", "6.19.4-arch1") && !bad("incremental buffers", "6.19.5"));
        assert!(bad("multishot receive", "6.1.7") && !bad("multishot receive", "6.8.0"));
    }

    #[test]
    fn the_worse_of_two_faults_is_told_and_each_has_a_public_address() {
        let told = known_bad("multishot receive", (6, 1, 7)).unwrap();
        assert!(told.address.ends_with("/778"), "{told:?}");
        assert!(known_bad("multishot receive", (6, 1, 8)).unwrap().address.ends_with("/1043"));
        assert!(ROWS.iter().all(|row| row.address.starts_with("https://")));
    }

    #[test]
    fn every_feature_that_is_called_bad_is_one() {
        let names: Vec<&str> = attempts::all().map(|(_, feature)| feature.name).collect();
        for feature in ROWS.iter().flat_map(|row| row.features) {
            assert!(names.contains(feature), "{feature}");
        }
    }

    #[test]
    fn a_new_kernel_is_not_accused() {
        for (_, feature) in attempts::all() {
            assert_eq!(known_bad(feature.name, (6, 18, 44)), None, "{}", feature.name);
        }
    }
}
