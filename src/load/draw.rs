//! Numbers that are drawn and yet need no memory: each is a function of the run's seed, what it is drawn
//! for and how often that was asked before, so that whoever needs one again draws it again. Pure. Not for
//! secrets.

use std::ops::RangeInclusive;

/// A number, every bit as likely 0 as 1, for a purpose of this seed.
#[must_use]
pub const fn draw(seed: u64, one: u64, other: u64) -> u64 {
    scramble(scramble(scramble(seed) ^ one).wrapping_add(other))
}

/// The bytes of a connection's message, by its number on the connection, from 0. All sizes of the range
/// are equally likely.
#[must_use]
pub fn message_size(seed: u64, sizes: &RangeInclusive<u32>, connection: u32, message: u64) -> u32 {
    let (least, most) = (*sizes.start(), *sizes.end());
    if least == most {
        return least;
    }
    let choices = u128::from(most - least) + 1;
    let drawn = u128::from(draw(seed ^ SIZES, u64::from(connection), message));
    least + ((drawn * choices) >> 64) as u32
}

/// So that sizes and times of one seed have nothing to do with each other.
const SIZES: u64 = 0x5349_5a45_5349_5a45;

/// SplitMix64: one step of its counter, and its finish.
const fn scramble(number: u64) -> u64 {
    let number = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ (number >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_known_answers_of_splitmix64_come_out() {
        // The first numbers of the published generator with seed 0.
        assert_eq!(scramble(0), 0xe220_a839_7b1d_cdaf);
        assert_eq!(scramble(0x9e37_79b9_7f4a_7c15), 0x6e78_9e6a_a1b9_65f4);
    }

    #[test]
    fn every_size_of_a_range_is_drawn_equally_often() {
        let mut counts = [0u32; 4];
        for message in 0..40_000 {
            counts[message_size(7, &(64..=67), 3, message) as usize - 64] += 1;
        }
        // Five standard deviations of 40,000 draws of one in four.
        assert!(counts.iter().all(|count| count.abs_diff(10_000) < 433), "{counts:?}");
        assert_eq!(message_size(7, &(9..=9), 3, 5), 9);
        assert!((0..1000).all(|message| message_size(1, &(1..=u32::MAX), 0, message) >= 1));
    }

    #[test]
    fn neither_seed_nor_connection_nor_number_repeats_another() {
        let mut all = std::collections::BTreeSet::new();
        for seed in 0..20 {
            for one in 0..20 {
                all.extend((0..20).map(|other| draw(seed, one, other)));
            }
        }
        assert_eq!(all.len(), 8_000);
    }
}
