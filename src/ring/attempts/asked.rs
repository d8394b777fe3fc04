//! What a kernel says it has: by IORING_REGISTER_QUERY (Linux 6.18), by IORING_REGISTER_PROBE (5.6) and
//! by the features word of the set-up. None of them knows flags of single operations: those can only be
//! tried.

use super::Found;
use super::hand::{HandRing, Place, register};

const REGISTER_PROBE: u32 = 8;
const REGISTER_QUERY: u32 = 35;

/// How a kernel can be asked for a feature.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ask {
    /// Whether it knows this request opcode.
    Opcode(u8),
    /// Whether it knows this register opcode.
    Register(u32),
    /// Whether this bit stands in its features word.
    Feature(u32),
    /// Whether it knows this bit of the set-up flags.
    Setup(u32),
    /// Whether it knows this bit of the flags of enter.
    Enter(u32),
    /// Whether it knows this bit of the flags of an entry.
    Entry(u32),
    /// Not at all: only a try tells.
    Nothing,
}

/// What a kernel said about everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Asked {
    /// The answer to IORING_REGISTER_QUERY, where it exists.
    pub query: Option<Query>,
    /// The opcodes IORING_REGISTER_PROBE has marked.
    pub probe: Option<Vec<bool>>,
    /// The features word.
    pub features: Option<u32>,
}

/// The answer to IORING_REGISTER_QUERY: counts and masks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Query {
    /// Request opcodes it knows.
    pub requests: u32,
    /// Register opcodes it knows.
    pub registers: u32,
    /// Its features word.
    pub features: u64,
    /// The set-up flags it knows.
    pub setup: u64,
    /// The flags of enter it knows.
    pub enter: u64,
    /// The flags of an entry it knows.
    pub entry: u64,
}

/// One answer: by what it was given, and whether it was yes; `None` where nothing could be asked.
pub type Said = Option<(&'static str, bool)>;

/// Asks the kernel of this machine.
#[must_use]
pub fn ask() -> Asked {
    let ring = HandRing::new(0).ok();
    Asked {
        query: query().ok(),
        probe: ring.as_ref().and_then(|ring| probe(ring).ok()),
        features: ring.map(|ring| ring.params.features),
    }
}

impl Asked {
    /// What the kernel said about one feature, by the best way there is.
    #[must_use]
    pub fn said(&self, ask: Ask) -> Said {
        let bit = |mask: u64, bit: u32| mask >> bit & 1 == 1;
        let query = self.query.as_ref();
        match ask {
            Ask::Opcode(opcode) => match (query, &self.probe) {
                (Some(query), _) => Some(("QUERY", u32::from(opcode) < query.requests)),
                (None, Some(probe)) => {
                    Some(("PROBE", probe.get(usize::from(opcode)).copied().unwrap_or(false)))
                }
                (None, None) => None,
            },
            Ask::Feature(number) => match (query, self.features) {
                (Some(query), _) => Some(("QUERY", bit(query.features, number))),
                (None, Some(features)) => Some(("FEATURES", bit(features.into(), number))),
                (None, None) => None,
            },
            Ask::Register(opcode) => query.map(|query| ("QUERY", opcode < query.registers)),
            Ask::Setup(number) => query.map(|query| ("QUERY", bit(query.setup, number))),
            Ask::Enter(number) => query.map(|query| ("QUERY", bit(query.enter, number))),
            Ask::Entry(number) => query.map(|query| ("QUERY", bit(query.entry, number))),
            Ask::Nothing => None,
        }
    }
}

/// IORING_REGISTER_QUERY, which needs no ring.
pub(super) fn query() -> Found<Query> {
    // The head (where the next one is, where the answer goes, what is asked, its size, the result), then
    // the answer.
    const ANSWER: usize = 64;
    const SIZE: u32 = 48;
    let place = Place::new(ANSWER + SIZE as usize)?;
    place.put(8, place.address(ANSWER));
    place.put(20, SIZE);
    register(-1, REGISTER_QUERY, Some(&place), 0)?;
    let result = place.u32_at(24) as i32;
    if result < 0 {
        return Err(std::io::Error::from_raw_os_error(-result).into());
    }
    Ok(Query {
        requests: place.u32_at(ANSWER),
        registers: place.u32_at(ANSWER + 4),
        features: place.u64_at(ANSWER + 8),
        setup: place.u64_at(ANSWER + 16),
        enter: place.u64_at(ANSWER + 24),
        entry: place.u64_at(ANSWER + 32),
    })
}

/// IORING_REGISTER_PROBE: for every opcode whether it is supported.
pub(super) fn probe(ring: &HandRing) -> Found<Vec<bool>> {
    const OPCODES: usize = 256;
    const HEAD: usize = 16;
    let place = Place::new(HEAD + OPCODES * 8)?;
    ring.register(REGISTER_PROBE, Some(&place), OPCODES as u32)?;
    let told = usize::from(place.read(1, 1)[0]);
    Ok((0..told).map(|opcode| place.read(HEAD + opcode * 8 + 2, 1)[0] & 1 == 1).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_query_goes_before_the_probe_and_what_nobody_knows_is_not_guessed() {
        let query = Query { requests: 40, registers: 36, setup: 1 << 13, ..Query::default() };
        let mut asked = Asked { query: Some(query), probe: Some(vec![true; 60]), features: Some(1 << 5) };
        assert_eq!(asked.said(Ask::Opcode(39)), Some(("QUERY", true)));
        assert_eq!(asked.said(Ask::Opcode(40)), Some(("QUERY", false)));
        assert_eq!(asked.said(Ask::Register(36)), Some(("QUERY", false)));
        assert_eq!(asked.said(Ask::Setup(13)), Some(("QUERY", true)));
        assert_eq!(asked.said(Ask::Feature(5)), Some(("QUERY", false)));
        asked.query = None;
        assert_eq!(asked.said(Ask::Opcode(40)), Some(("PROBE", true)));
        assert_eq!(asked.said(Ask::Opcode(60)), Some(("PROBE", false)));
        assert_eq!(asked.said(Ask::Feature(5)), Some(("FEATURES", true)));
        assert_eq!(asked.said(Ask::Setup(13)), None);
        assert_eq!(Asked::default().said(Ask::Opcode(1)), None);
        assert_eq!(asked.said(Ask::Nothing), None);
    }
}
