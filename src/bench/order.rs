//! In which order things are measured, drawn from the seed: blocks A B B A or B A A B, so that a drift of
//! the machine falls on both sides alike, and the blocks of several cells mixed. Pure.

use crate::result::bench::{Purpose, Side};
use fastrand::Rng;

/// Slices of a block.
pub const SLICES: u8 = 4;

/// The sides of a block's four slices. It depends on nothing that happened before, so that a bench that is
/// resumed goes on as it would have.
#[must_use]
pub fn sides(seed: u64, cell: usize, purpose: Purpose, block: u32) -> [Side; 4] {
    match generator(seed, cell, purpose, block).bool() {
        true => [Side::A, Side::B, Side::B, Side::A],
        false => [Side::B, Side::A, Side::A, Side::B],
    }
}

/// What the clients of a block draw payload and schedule from: both sides get the same.
#[must_use]
pub fn client_seed(seed: u64, cell: usize, purpose: Purpose, block: u32) -> u64 {
    generator(seed ^ 0x5eed, cell, purpose, block).u64(..) >> 32
}

/// Bytes of padding in the environment of a server, the `start`th one.
#[must_use]
pub fn padding(seed: u64, start: u32) -> u32 {
    generator(seed ^ 0xf00d, 0, Purpose::Cost, start).u32(..PADDING_MAX)
}

/// A page: beyond it only the page moves.
const PADDING_MAX: u32 = 4096;

/// The order in which these cells get their next block.
#[must_use]
pub fn mixed(seed: u64, round: u32, mut cells: Vec<usize>) -> Vec<usize> {
    generator(seed ^ 0x0c11, 0, Purpose::Cost, round).shuffle(&mut cells);
    cells
}

fn generator(seed: u64, cell: usize, purpose: Purpose, block: u32) -> Rng {
    let purpose = match purpose {
        Purpose::Cost => 0,
        Purpose::Latency => 1,
        Purpose::Capacity => 2,
    };
    let mut first = Rng::with_seed(seed);
    let place = (cell as u64) << 34 | u64::from(block) << 2 | purpose;
    Rng::with_seed(first.u64(..) ^ place.wrapping_mul(0x9e37_79b9_7f4a_7c15))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_is_balanced_and_both_orders_occur_equally_often() {
        let orders: Vec<[Side; 4]> = (0..1000).map(|block| sides(7, 3, Purpose::Cost, block)).collect();
        assert!(
            orders.iter().all(|order| order[0] == order[3] && order[1] == order[2] && order[0] != order[1])
        );
        let first = orders.iter().filter(|order| order[0] == Side::A).count();
        // Four standard deviations of a thousand coins.
        assert!(first.abs_diff(500) < 64, "{first}");
        assert_ne!(orders[..20], (0..20).map(|block| sides(8, 3, Purpose::Cost, block)).collect::<Vec<_>>());
        assert_ne!(orders[..20], (0..20).map(|block| sides(7, 4, Purpose::Cost, block)).collect::<Vec<_>>());
    }

    #[test]
    fn the_same_seed_draws_the_same_and_both_sides_get_the_same_load() {
        assert_eq!(sides(7, 1, Purpose::Cost, 5), sides(7, 1, Purpose::Cost, 5));
        assert_eq!(client_seed(7, 1, Purpose::Cost, 5), client_seed(7, 1, Purpose::Cost, 5));
        assert_ne!(client_seed(7, 1, Purpose::Cost, 5), client_seed(7, 1, Purpose::Cost, 6));
    }

    #[test]
    fn every_server_has_its_own_padding_and_none_is_beyond_a_page() {
        let lengths: Vec<u32> = (0..100).map(|start| padding(7, start)).collect();
        assert!(lengths.iter().all(|&length| length < PADDING_MAX));
        let distinct: std::collections::BTreeSet<&u32> = lengths.iter().collect();
        assert!(distinct.len() > 90, "{lengths:?}");
        // Both halves of the page, also of what is called alignment.
        assert!(lengths.iter().filter(|&&length| length < PADDING_MAX / 2).count().abs_diff(50) < 20);
        assert!(
            lengths.iter().any(|length| length % 64 < 32) && lengths.iter().any(|length| length % 64 >= 32)
        );
        assert_eq!(lengths, (0..100).map(|start| padding(7, start)).collect::<Vec<_>>());
    }

    #[test]
    fn every_cell_has_its_turn_in_every_round() {
        let mut all = mixed(7, 2, (0..20).collect());
        assert_ne!(all, (0..20).collect::<Vec<_>>());
        assert_ne!(all, mixed(7, 3, (0..20).collect()));
        all.sort_unstable();
        assert_eq!(all, (0..20).collect::<Vec<_>>());
    }
}
