//! How far a connection has come, and whether every byte of it was right.

use super::evidence::{Evidence, Shortage};
use super::words::Stream;
use super::{Kind, Wrong};

/// Compares what one connection receives with what it sent. 24 bytes while all is right; what was wrong
/// takes one allocation, for as long as it takes to name it.
#[derive(Debug, Default)]
pub struct Verifier {
    /// Bytes received.
    received: u64,
    state: State,
}

/// What may be said of bytes that were just received.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub enum Verdict {
    /// They are right.
    Right,
    /// Something is wrong, and it needs more bytes, or the end, to be named; or it was named before.
    /// Nothing of this connection counts from here on. Carry on as if nothing had happened until
    /// [`Verdict::Wrong`] comes, or call [`Verifier::ended`] when nothing more does.
    Open,
    /// Something was wrong, and this is what. Said once for a connection.
    Wrong(Box<Wrong>),
}

/// How a connection came to receive nothing more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// The server closed it, or it broke.
    Closed,
    /// It was waited for, and nothing came.
    Silent,
}

#[derive(Debug, Default)]
enum State {
    #[default]
    Right,
    /// Something was wrong; what is not clear yet.
    Open(Box<Evidence>),
    /// What was wrong has been said.
    Named,
}

impl Verifier {
    /// Nothing received yet.
    #[must_use]
    pub const fn new() -> Self {
        Self { received: 0, state: State::Right }
    }

    /// Bytes received so far, right or wrong.
    #[must_use]
    pub const fn count(&self) -> u64 {
        self.received
    }

    /// The next bytes came. `asked` is how many bytes the connection has sent so far, those in flight
    /// included: whatever the kernel may have taken.
    #[inline]
    pub fn received(&mut self, stream: Stream, asked: u64, bytes: &[u8]) -> Verdict {
        let begin = self.received;
        self.received += bytes.len() as u64;
        if matches!(self.state, State::Right)
            && self.received <= asked
            && stream.matching(begin, bytes) == bytes.len()
        {
            return Verdict::Right;
        }
        self.on_wrong(stream, asked, begin, bytes)
    }

    /// So many bytes came that nobody compares.
    pub const fn skipped(&mut self, bytes: u64) {
        self.received += bytes;
    }

    /// Nothing more comes: names what there is to name. `None` when everything that was asked for came,
    /// and nothing else, or when what was wrong has been said before.
    #[must_use]
    pub fn ended(&mut self, stream: Stream, asked: u64, ending: Ending) -> Option<Box<Wrong>> {
        match std::mem::replace(&mut self.state, State::Named) {
            State::Named => None,
            State::Right => {
                let owed = asked.checked_sub(self.received).filter(|&owed| owed > 0);
                if owed.is_none() {
                    self.state = State::Right;
                }
                owed.map(|bytes| {
                    let kind = match ending {
                        Ending::Closed => Kind::EndedEarly { bytes },
                        Ending::Silent => Kind::Stalled { bytes },
                    };
                    wrong(stream, self.received, &[], kind)
                })
            }
            State::Open(mut evidence) => {
                let kind = evidence.settle(stream, Shortage::of(asked, self.received));
                Some(wrong(stream, evidence.offset(), evidence.first(), kind))
            }
        }
    }

    #[cold]
    fn on_wrong(&mut self, stream: Stream, asked: u64, begin: u64, bytes: &[u8]) -> Verdict {
        let mut bytes = bytes;
        if matches!(self.state, State::Right) {
            // What was not asked for is wrong whatever it is.
            let owed = asked.saturating_sub(begin).min(bytes.len() as u64) as usize;
            let right = stream.matching(begin, &bytes[..owed]);
            bytes = &bytes[right..];
            if bytes.is_empty() {
                return Verdict::Right;
            }
            self.state = State::Open(Box::new(Evidence::new(begin + right as u64, asked)));
        }
        let State::Open(evidence) = &mut self.state else { return Verdict::Open };
        let Some(kind) = evidence.received(stream, bytes) else { return Verdict::Open };
        let wrong = wrong(stream, evidence.offset(), evidence.first(), kind);
        self.state = State::Named;
        Verdict::Wrong(wrong)
    }
}

fn wrong(stream: Stream, offset: u64, got: &[u8], kind: Kind) -> Box<Wrong> {
    let got = got[..got.len().min(8)].to_vec();
    Box::new(Wrong { connection: stream.connection, offset, expected: stream.eight(offset), got, kind })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::payload::Key;

    #[test]
    fn a_connection_is_verified_in_32_bytes_and_a_faulty_one_in_160_more() {
        assert!(size_of::<Verifier>() <= 32, "{}", size_of::<Verifier>());
        assert!(size_of::<Evidence>() <= 160, "{}", size_of::<Evidence>());
    }

    #[test]
    fn right_bytes_are_compared_without_an_allocation() {
        let stream = Stream::new(Key::of(1), 1);
        let mut bytes = vec![0; 10_000];
        stream.fill(0, &mut bytes);
        let mut verifier = Verifier::new();
        let counted = allocation_counter::measure(|| {
            for chunk in bytes.chunks(77) {
                assert_eq!(verifier.received(stream, 10_000, chunk), Verdict::Right);
            }
        });
        assert_eq!((counted.count_total, verifier.count()), (0, 10_000));
        assert_eq!(verifier.ended(stream, 10_000, Ending::Closed), None);
    }

    #[test]
    fn a_fault_is_said_once_and_nothing_counts_behind_it() {
        let stream = Stream::new(Key::of(1), 1);
        let mut bytes = vec![0; 1_000];
        stream.fill(0, &mut bytes);
        bytes[100] ^= 1;
        let mut verifier = Verifier::new();
        let Verdict::Wrong(wrong) = verifier.received(stream, 1_000, &bytes) else { panic!("not found") };
        assert_eq!((wrong.offset, wrong.kind), (100, Kind::Flipped { bits: 1 }));
        assert_eq!(wrong.expected, stream.eight(100));
        assert_eq!(wrong.got, bytes[100..108]);
        let mut more = vec![0; 100];
        stream.fill(1_000, &mut more);
        assert_eq!(verifier.received(stream, 1_100, &more), Verdict::Open);
        assert_eq!(verifier.ended(stream, 2_000, Ending::Closed), None);
    }

    #[test]
    fn silence_and_an_early_end_are_told_apart_and_neither_is_wrong_with_nothing_owed() {
        let stream = Stream::new(Key::of(1), 9);
        let mut bytes = [0; 63];
        stream.fill(0, &mut bytes);
        for (ending, kind) in
            [(Ending::Closed, Kind::EndedEarly { bytes: 1 }), (Ending::Silent, Kind::Stalled { bytes: 1 })]
        {
            let mut verifier = Verifier::new();
            assert_eq!(verifier.received(stream, 64, &bytes), Verdict::Right);
            assert_eq!(verifier.ended(stream, 63, ending), None);
            let wrong = verifier.ended(stream, 64, ending).expect("a byte is owed");
            assert_eq!((wrong.connection, wrong.offset, wrong.kind), (9, 63, kind));
            assert!(wrong.got.is_empty());
        }
    }
}
