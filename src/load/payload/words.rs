//! The words of a stream: how they are made, read back, written to memory and compared with it.
//!
//! A word is mixed from 28 bits of the connection's number and 36 bits of its index: after 2^28 connections
//! and after 512 GiB on one of them the words repeat. They are compared all the same; only what is
//! read back from a wrong one is then the same place of an earlier turn.

use super::super::draw::draw;

/// What the payload of one run is mixed with. Of the run's seed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Key(pub u64);

/// The bytes a connection sends, from its first to its last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stream {
    /// The key of the run.
    pub key: Key,
    /// The connection's number.
    pub connection: u32,
}

/// Where a word belongs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Origin {
    /// The connection's number, less than 2^28.
    pub connection: u32,
    /// Words before it in the connection's stream, less than 2^36.
    pub index: u64,
}

/// Bytes of a word.
const WORD: usize = 8;
/// Words compared before somebody asks how it went: a cache line.
const LINE: usize = 8;
const INDEX_BITS: u32 = 36;
const INDEX_MASK: u64 = (1 << INDEX_BITS) - 1;
const CONNECTION_MASK: u32 = (1 << (u64::BITS - INDEX_BITS)) - 1;
// Odd, so that each has an inverse. The finish of MurmurHash3.
const FIRST: u64 = 0xff51_afd7_ed55_8ccd;
const SECOND: u64 = 0xc4ce_b9fe_1a85_ec53;
const FIRST_INVERSE: u64 = inverse(FIRST);
const SECOND_INVERSE: u64 = inverse(SECOND);

impl Key {
    /// The key of a run with this seed.
    #[must_use]
    pub const fn of(seed: u64) -> Self {
        Self(draw(seed, 0, 0))
    }

    /// The word of a connection at an index, as a number; its bytes go out least first.
    #[inline]
    #[must_use]
    pub const fn word(self, connection: u32, index: u64) -> u64 {
        let place = ((connection & CONNECTION_MASK) as u64) << INDEX_BITS | index & INDEX_MASK;
        mix(place ^ self.0)
    }

    /// Where a word belongs. Every word belongs somewhere: one that was drawn at random, at a random place.
    #[must_use]
    pub const fn origin(self, word: u64) -> Origin {
        let place = unmix(word) ^ self.0;
        Origin { connection: (place >> INDEX_BITS) as u32, index: place & INDEX_MASK }
    }
}

impl Stream {
    /// The stream of a connection.
    #[must_use]
    pub const fn new(key: Key, connection: u32) -> Self {
        Self { key, connection }
    }

    /// Writes the bytes from `offset` on.
    #[inline]
    pub fn fill(self, offset: u64, bytes: &mut [u8]) {
        let (mut index, bytes) = (offset / WORD as u64, self.fill_head(offset, bytes));
        index += u64::from(!offset.is_multiple_of(WORD as u64));
        let (words, tail) = bytes.as_chunks_mut::<WORD>();
        let (lines, rest) = words.as_chunks_mut::<LINE>();
        for line in lines {
            for (at, word) in line.iter_mut().enumerate() {
                *word = self.word(index + at as u64);
            }
            index += LINE as u64;
        }
        for word in rest {
            *word = self.word(index);
            index += 1;
        }
        if !tail.is_empty() {
            tail.copy_from_slice(&self.word(index)[..tail.len()]);
        }
    }

    /// How many of `bytes`, from the first on, are those from `offset` on.
    #[inline]
    #[must_use]
    pub fn matching(self, offset: u64, bytes: &[u8]) -> usize {
        let head = head(offset, bytes.len());
        let right = self.matching_few(offset, &bytes[..head]);
        if right < head {
            return right;
        }
        let mut index = (offset + head as u64) / WORD as u64;
        let (words, tail) = bytes[head..].as_chunks::<WORD>();
        let (lines, rest) = words.as_chunks::<LINE>();
        let mut right = head;
        for line in lines {
            let mut difference = 0;
            for (at, word) in line.iter().enumerate() {
                difference |= u64::from_le_bytes(*word) ^ self.number(index + at as u64);
            }
            if difference != 0 {
                return right + self.matching_few(offset + right as u64, line.as_flattened());
            }
            index += LINE as u64;
            right += LINE * WORD;
        }
        for word in rest {
            let difference = u64::from_le_bytes(*word) ^ self.number(index);
            if difference != 0 {
                return right + difference.trailing_zeros() as usize / 8;
            }
            index += 1;
            right += WORD;
        }
        right + self.matching_few(offset + right as u64, tail)
    }

    /// The byte at `offset`.
    #[must_use]
    pub const fn byte(self, offset: u64) -> u8 {
        self.word(offset / WORD as u64)[(offset % WORD as u64) as usize]
    }

    /// The eight bytes from `offset` on.
    #[must_use]
    pub fn eight(self, offset: u64) -> [u8; 8] {
        let mut bytes = [0; 8];
        self.fill(offset, &mut bytes);
        bytes
    }

    /// Fills up to the first whole word; what is left.
    #[inline]
    fn fill_head(self, offset: u64, bytes: &mut [u8]) -> &mut [u8] {
        let (first, rest) = bytes.split_at_mut(head(offset, bytes.len()));
        if !first.is_empty() {
            let from = (offset % WORD as u64) as usize;
            first.copy_from_slice(&self.word(offset / WORD as u64)[from..from + first.len()]);
        }
        rest
    }

    /// [`Self::matching`], byte by byte.
    fn matching_few(self, offset: u64, bytes: &[u8]) -> usize {
        let right = |(byte, at): (&u8, u64)| *byte == self.byte(at);
        bytes.iter().zip(offset..).take_while(|&pair| right(pair)).count()
    }

    #[inline]
    const fn number(self, index: u64) -> u64 {
        self.key.word(self.connection, index)
    }

    #[inline]
    const fn word(self, index: u64) -> [u8; WORD] {
        self.number(index).to_le_bytes()
    }
}

impl Origin {
    /// The word's first byte in the connection's stream.
    #[must_use]
    pub const fn offset(self) -> u64 {
        self.index * WORD as u64
    }

    /// Whether this is the connection, as far as a word can tell.
    #[must_use]
    pub const fn is_of(self, connection: u32) -> bool {
        self.connection == connection & CONNECTION_MASK
    }

    /// Bytes after which a stream repeats itself, as a power of two.
    pub const TURN_BITS: u32 = INDEX_BITS + 3;
}

/// Bytes before the first whole word.
#[inline]
fn head(offset: u64, length: usize) -> usize {
    let past = (offset % WORD as u64) as usize;
    length.min((WORD - past) % WORD)
}

/// A word that tells nothing of its place, and every place another.
#[inline]
const fn mix(place: u64) -> u64 {
    fold(fold(place.wrapping_mul(FIRST)).wrapping_mul(SECOND))
}

const fn unmix(word: u64) -> u64 {
    fold(fold(word).wrapping_mul(SECOND_INVERSE)).wrapping_mul(FIRST_INVERSE)
}

/// Lets the upper half decide about the lower. Its own inverse.
#[inline]
const fn fold(number: u64) -> u64 {
    number ^ (number >> 32)
}

/// The number that undoes a multiplication by an odd one, modulo 2^64: each of Newton's steps doubles the
/// right bits, and an odd number is its own inverse in the lowest three.
const fn inverse(odd: u64) -> u64 {
    let mut inverse = odd;
    let mut step = 0;
    while step < 5 {
        inverse = inverse.wrapping_mul(2u64.wrapping_sub(odd.wrapping_mul(inverse)));
        step += 1;
    }
    inverse
}

#[cfg(test)]
mod tests {
    use super::*;
    use fastrand::Rng;

    #[test]
    fn every_word_is_read_back_to_its_place() {
        let mut random = Rng::with_seed(1);
        for _ in 0..100_000 {
            let key = Key::of(random.u64(..));
            let (connection, index) = (random.u32(..=CONNECTION_MASK), random.u64(..=INDEX_MASK));
            assert_eq!(key.origin(key.word(connection, index)), Origin { connection, index });
        }
        let key = Key::of(0);
        let last = Origin { connection: (1 << 28) - 1, index: (1 << 36) - 1 };
        assert_eq!(key.origin(key.word(last.connection, last.index)), last);
    }

    #[test]
    fn a_stream_is_the_same_from_any_offset_and_in_pieces_of_any_length() {
        let stream = Stream::new(Key::of(5), 77);
        let whole: Vec<u8> = (0..3_000).map(|offset| stream.byte(offset)).collect();
        assert_eq!(whole[..8], stream.key.word(77, 0).to_le_bytes());
        assert_eq!(whole[2_000..2_008], stream.eight(2_000));
        for offset in [0, 1, 5, 7, 8, 9, 63, 64, 65, 1_001] {
            for length in (0..80).chain([127, 128, 129, 1_000, 1_999]) {
                let mut bytes = vec![0; length];
                stream.fill(offset as u64, &mut bytes);
                assert!(bytes == whole[offset..offset + length], "{length} from {offset}");
                assert_eq!(stream.matching(offset as u64, &bytes), length, "{length} from {offset}");
            }
        }
    }

    #[test]
    fn the_first_wrong_byte_is_found_wherever_it_lies() {
        let stream = Stream::new(Key::of(6), 3);
        for offset in [0u64, 3, 8, 1_021] {
            for length in [1usize, 7, 64, 65, 200, 211] {
                let mut bytes = vec![0; length];
                stream.fill(offset, &mut bytes);
                for at in 0..length {
                    for mask in [1, 0x80] {
                        bytes[at] ^= mask;
                        assert_eq!(stream.matching(offset, &bytes), at, "{at} of {length} from {offset}");
                        bytes[at] ^= mask;
                    }
                }
            }
        }
    }

    #[test]
    fn the_bytes_look_drawn() {
        // Neighbouring bytes, words and connections: each pair of bytes is equal once in 256 times.
        let (one, other) = (Stream::new(Key::of(9), 1), Stream::new(Key::of(9), 2));
        let mut bytes = vec![0; 1 << 16];
        one.fill(0, &mut bytes);
        let mut foreign = vec![0; 1 << 16];
        other.fill(0, &mut foreign);
        for shift in [1, 2, 3, 4, 5, 6, 7, 8, 16, 64, 1024] {
            let equal = bytes.iter().zip(&bytes[shift..]).filter(|(one, other)| one == other).count();
            // 256 are expected; five standard deviations.
            assert!(equal.abs_diff(256) < 80, "{equal} equal pairs at a distance of {shift}");
        }
        let equal = bytes.iter().zip(&foreign).filter(|(one, other)| one == other).count();
        assert!(equal.abs_diff(256) < 80, "{equal} bytes are equal in two connections");
        let ones: u32 = bytes.iter().map(|byte| byte.count_ones()).sum();
        assert!(ones.abs_diff(1 << 18) < 1_900, "{ones} bits are set");
    }

    #[test]
    fn two_seeds_share_nothing() {
        let (one, other) = (Stream::new(Key::of(1), 1), Stream::new(Key::of(2), 1));
        assert!((0..1_000).all(|offset| one.eight(offset) != other.eight(offset)));
        let origin = other.key.origin(u64::from_le_bytes(one.eight(0)));
        assert_ne!(origin, Origin { connection: 1, index: 0 });
    }

    #[test]
    fn a_stream_goes_on_after_its_last_index() {
        let stream = Stream::new(Key::of(4), u32::MAX);
        let turn = 1u64 << Origin::TURN_BITS;
        let mut bytes = [0; 64];
        stream.fill(turn - 13, &mut bytes);
        assert_eq!(bytes[13..21], stream.eight(0));
        assert_eq!(stream.matching(turn - 13, &bytes), 64);
    }
}
