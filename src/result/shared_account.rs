//! The account of a running server as another process reads it: a file that begins with a description of
//! itself and holds one block of words for each worker. The server writes the description once, before
//! its ready line; the words are its counters themselves. Pure: bytes in, numbers out.
//!
//! Bytes 0–7 are [`MAGIC`], 8–11 the version, 12–15 the length of the description, then the description
//! as JSON. All numbers are in the byte order of the machine: only a process of the same one can read it.

use super::{Named, Share};
use serde::{Deserialize, Serialize};

/// The name of the server's memory file; it appears as `/memfd:c10k-account (deleted)` in `/proc/PID/fd`.
pub const NAME: &str = "c10k-account";
/// What a file begins with.
pub const MAGIC: u64 = u64::from_be_bytes(*b"c10k-acc");
/// The version of what follows.
pub const VERSION: u32 = 1;
/// Bytes before the description.
const HEAD: usize = 16;
/// No description is as long; what claims to be is damaged.
const DESCRIPTION_MOST: usize = 64 << 10;
/// No account is as long: some ten thousand workers.
const FILE_MOST: u64 = 16 << 20;

/// Which word is what. All places are bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Description {
    /// `uring` or `epoll`.
    pub backend: String,
    /// The addresses, with the real ports.
    pub listen: Vec<String>,
    /// Blocks, one for each worker.
    pub workers: u64,
    /// Where the first block begins.
    pub begin: u64,
    /// From one block to the next.
    pub stride: u64,
    /// Whether workers close each other's connections, so that a gauge means nothing for one of them.
    pub shared: bool,
    /// What only grows, by place in a block.
    pub counters: Named<u64>,
    /// Connections closed, by place in a block.
    pub closed: Named<u64>,
    /// Connections refused, by place in a block.
    pub refused: Named<u64>,
    /// What there is now, by place in a block.
    pub gauges: Named<u64>,
}

/// The numbers at one moment, summed over the workers as the server's own lines are.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sums {
    /// What only grows.
    pub counters: Named<u64>,
    /// Connections closed, by reason.
    pub closed: Named<u64>,
    /// Connections refused, by cause.
    pub refused: Named<u64>,
    /// What there is now.
    pub gauges: Named<u64>,
    /// Each worker's share.
    pub workers: Vec<Share>,
}

impl Description {
    /// The beginning of the file.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let text = serde_json::to_vec(self).expect("names and numbers are always JSON");
        let length = u32::try_from(text.len()).expect("a few kilobytes");
        [&MAGIC.to_ne_bytes()[..], &VERSION.to_ne_bytes(), &length.to_ne_bytes(), &text].concat()
    }

    /// From the beginning of a file, or all of it.
    ///
    /// # Errors
    /// A sentence: what it is instead, or which version would be needed.
    pub fn decode(file: &[u8]) -> Result<Self, String> {
        let damaged = || "the server's account is damaged".to_string();
        if word(file, 0) != Some(MAGIC) {
            return Err("the memory file of that name is not the account of a c10k server".into());
        }
        let half = |at: usize| Some(u32::from_ne_bytes(file.get(at..at + 4)?.try_into().ok()?));
        let (version, length) = half(8).zip(half(12)).ok_or_else(damaged)?;
        if version != VERSION {
            return Err(format!(
                "the server's account has version {version} and this c10k reads version {VERSION}: use the same \
                 release of c10k on both sides"
            ));
        }
        let length = usize::try_from(length).ok().filter(|&length| length <= DESCRIPTION_MOST);
        let text = file.get(HEAD..HEAD + length.ok_or_else(damaged)?).ok_or_else(damaged)?;
        let description: Self = serde_json::from_slice(text).map_err(|_| damaged())?;
        description.length().filter(|&end| end <= FILE_MOST).ok_or_else(damaged)?;
        Ok(description)
    }

    /// Bytes of the whole file, as far as anything stands in it; `None` beyond all bounds.
    #[must_use]
    pub fn length(&self) -> Option<u64> {
        self.workers.checked_mul(self.stride)?.checked_add(self.begin)
    }

    /// The numbers in the whole file.
    ///
    /// # Errors
    /// A sentence, when a word that is described is not there.
    pub fn sums(&self, file: &[u8]) -> Result<Sums, String> {
        let mut sums = Sums::default();
        for worker in 0..self.workers {
            let block = self.begin + worker * self.stride;
            let value = |place: u64| {
                let at = block.checked_add(place).and_then(|at| usize::try_from(at).ok());
                at.and_then(|at| word(file, at)).ok_or("the server's account is shorter than it says")
            };
            let groups = [
                (&self.counters, &mut sums.counters),
                (&self.closed, &mut sums.closed),
                (&self.refused, &mut sums.refused),
                (&self.gauges, &mut sums.gauges),
            ];
            for (places, sums) in groups {
                for (name, place) in &places.0 {
                    sums.add(name, value(*place)?);
                }
            }
            let of = |places: &Named<u64>, name| places.get(name).map(|&place| value(place)).transpose();
            let open = if self.shared { None } else { of(&self.gauges, "open")? };
            sums.workers.push(Share { accepted: of(&self.counters, "accepted")?.unwrap_or(0), open });
        }
        Ok(sums)
    }
}

fn word(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_ne_bytes(bytes.get(at..at.checked_add(8)?)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn description() -> Description {
        let named = |name: &str, place| Named(vec![(name.to_string(), place)]);
        Description {
            backend: "uring".into(),
            listen: vec!["127.0.0.1:8888".into()],
            workers: 2,
            begin: 1024,
            stride: 64,
            shared: false,
            counters: named("accepted", 0),
            closed: named("peer_finished", 8),
            refused: named("refused_full", 16),
            gauges: named("open", 24),
        }
    }

    fn file(words: [[u64; 4]; 2]) -> Vec<u8> {
        let mut file = description().encode();
        for (worker, words) in words.iter().enumerate() {
            file.resize(1024 + worker * 64, 0);
            words.iter().for_each(|word| file.extend(word.to_ne_bytes()));
        }
        file
    }

    #[test]
    fn what_was_written_is_read_and_summed_over_the_workers() {
        let file = file([[3, 1, 0, 5], [4, 1, 2, 1u64.wrapping_neg()]]);
        let read = Description::decode(&file).unwrap();
        assert_eq!(read, description());
        let sums = read.sums(&file).unwrap();
        assert_eq!(sums.counters.get("accepted"), Some(&7));
        assert_eq!(sums.closed.get("peer_finished"), Some(&2));
        assert_eq!(sums.refused.get("refused_full"), Some(&2));
        assert_eq!(sums.gauges.get("open"), Some(&4), "one worker is below zero");
        assert_eq!(sums.workers[0], Share { accepted: 3, open: Some(5) });
    }

    #[test]
    fn workers_that_share_connections_have_no_gauge_each() {
        let file = file([[3, 0, 0, 5], [0; 4]]);
        let sums = Description { shared: true, ..description() }.sums(&file).unwrap();
        assert_eq!(sums.workers[0], Share { accepted: 3, open: None });
        assert_eq!(sums.gauges.get("open"), Some(&5));
    }

    #[test]
    fn a_file_that_is_something_else_damaged_or_of_another_version_is_told_apart() {
        let whole = file([[0; 4]; 2]);
        let said = |file: &[u8]| Description::decode(file).unwrap_err();
        assert!(said(b"").contains("not the account"));
        assert!(said(&[0; 64]).contains("not the account"));
        assert!(said(&whole[..40]).contains("damaged"));
        let mut newer = whole.clone();
        newer[8..12].copy_from_slice(&2u32.to_ne_bytes());
        assert!(said(&newer).contains("version 2") && said(&newer).contains("same release"));
        let mut endless = whole.clone();
        endless[12..16].copy_from_slice(&u32::MAX.to_ne_bytes());
        assert!(said(&endless).contains("damaged"));
        assert!(description().sums(&whole[..1050]).unwrap_err().contains("shorter"));
    }

    #[test]
    fn a_description_that_asks_for_all_memory_is_damaged() {
        for (workers, stride, begin) in
            [(u64::MAX, 2, 0), (2, u64::MAX, 0), (1 << 20, 1 << 20, 0), (1, 1, u64::MAX)]
        {
            let encoded = Description { workers, stride, begin, ..description() }.encode();
            assert!(Description::decode(&encoded).unwrap_err().contains("damaged"));
        }
    }

    #[test]
    fn a_place_beyond_all_bounds_is_no_panic() {
        let mut wild = description();
        wild.gauges.0[0].1 = u64::MAX;
        assert!(wild.sums(&file([[0; 4]; 2])).is_err());
    }
}
