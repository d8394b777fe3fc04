//! What can weaken a comparison, each with the letter it has in a line and in words. Which of them hold is
//! found out by the bench, once, and stands in its result.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// One of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Mark {
    /// Fewer blocks than a 95 % interval takes.
    Short,
    /// Both ratios are clear of 1, the server's within the band.
    Noise,
    /// Some slices that count were disturbed.
    Disturbed,
    /// Many were.
    Suspect,
    /// Slices had not settled.
    Drifting,
    /// Some slices count nowhere.
    Invalid,
    /// The client was the limit.
    ClientLimit,
    /// The client was near its limit.
    ClientNear,
}

impl Mark {
    /// All of them, in the order they stand in.
    pub const ALL: [Self; 8] = [
        Self::Short,
        Self::Noise,
        Self::Disturbed,
        Self::Suspect,
        Self::Drifting,
        Self::Invalid,
        Self::ClientLimit,
        Self::ClientNear,
    ];

    /// Its letter.
    #[must_use]
    pub const fn letter(self) -> char {
        match self {
            Self::Short => 's',
            Self::Noise => 'n',
            Self::Disturbed => 'd',
            Self::Suspect => 'D',
            Self::Drifting => 'r',
            Self::Invalid => 'x',
            Self::ClientLimit => 'c',
            Self::ClientNear => 'h',
        }
    }

    /// What it says.
    #[must_use]
    pub const fn words(self) -> &'static str {
        match self {
            Self::Short => "short: fewer than 6 sound blocks, so the interval is less than 95 % sure",
            Self::Noise => "both ratios are clear of 1, the server's by no more than the band",
            Self::Disturbed => "some slices count though they were disturbed",
            Self::Suspect => "suspect: more than a quarter of the slices that count were disturbed",
            Self::Drifting => "in more than a quarter of the slices the rate was not the same in both halves",
            Self::Invalid => "some slices count nowhere: client at its limit, or an overflow",
            Self::ClientLimit => "the client was the limit: its rate, and the server's cost at that rate",
            Self::ClientNear => {
                "the client's ceiling is below 1.5 times the rate: costs hold, rates and latencies are in doubt"
            }
        }
    }
}

/// The letters of these.
#[must_use]
pub fn letters(marks: &[Mark]) -> String {
    marks.iter().map(|mark| mark.letter()).collect()
}

/// What each of these letters means, once, in their order: `s: short…`.
#[must_use]
pub fn legend(marks: &[Mark]) -> Vec<String> {
    let used = Mark::ALL.into_iter().filter(|mark| marks.contains(mark));
    used.map(|mark| format!("{}: {}", mark.letter(), mark.words())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_mark_has_a_letter_of_its_own_and_is_told_once() {
        let mut seen: Vec<char> = Mark::ALL.iter().map(|mark| mark.letter()).collect();
        seen.sort_unstable();
        seen.dedup();
        assert_eq!(seen.len(), Mark::ALL.len());
        let marks = [Mark::Invalid, Mark::Short, Mark::Invalid];
        assert_eq!(letters(&marks[..2]), "xs");
        let told = legend(&marks);
        assert!(told.len() == 2 && told[0].starts_with("s: short") && told[1].starts_with("x: "), "{told:?}");
    }
}
