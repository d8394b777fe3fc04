//! The bytes of a load, and what is wrong with those that come back. Every aligned word of a connection's
//! stream is an invertible keyed mix of (connection, index of the word), so that a wrong word tells where
//! it came from. Constant memory per connection. Pure.
//!
//! [`words`](Stream) makes the bytes and compares them; the [`Verifier`] knows how far a connection has
//! come. Bytes that are wrong are collected as evidence (`evidence`: stretches of what came, each with the
//! place it comes from), and the pattern of the stretches names the fault (`diagnosis`).
//!
//! What it cannot tell: an exchange of equal bytes is no fault; fewer than [`NAMEABLE`] bytes that belong
//! elsewhere are found, and called garbage or flipped bits, and so is a whole byte that was replaced; bytes
//! lost at the very end of what was asked for are bytes that have not come yet, until the connection ends. Of
//! two faults within a mebibyte the first is named, by what it looks like up to the second: where that follows
//! so soon that fewer than eight bytes behind a gap are right (fewer than [`NAMEABLE`] where more than 40
//! were lost), nothing shows that it was a gap. It is called garbage then, or by the second one's name.

mod diagnosis;
mod evidence;
mod verifier;
mod words;

#[cfg(test)]
mod faults;

pub use verifier::{Ending, Verdict, Verifier};
pub use words::{Key, Origin, Stream};

use std::fmt;

/// So many bytes in a row are always traced back to where they belong: any stretch of this length holds a
/// whole aligned word, and seven bytes more to believe it.
pub const NAMEABLE: u64 = 15;

/// Bytes that were wrong, and what became of them as far as it can be told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wrong {
    /// The connection's number.
    pub connection: u32,
    /// The first wrong byte, from the beginning of the connection's stream.
    pub offset: u64,
    /// The eight bytes that belong there.
    pub expected: [u8; 8],
    /// What came, at most eight bytes; none where the connection ended or was silent.
    pub got: Vec<u8>,
    /// What it was.
    pub kind: Kind,
}

/// What became of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// At most eight bits differ, near each other, and the stream goes on right.
    Flipped {
        /// How many.
        bits: u32,
    },
    /// Bytes are missing, and the stream goes on behind them.
    Lost {
        /// How many.
        bytes: u64,
    },
    /// The bytes before came a second time, and the stream goes on where it was.
    Duplicated {
        /// How many.
        bytes: u64,
    },
    /// Two neighbouring stretches came in the wrong order.
    Swapped {
        /// Bytes of the stretch that belongs first.
        first: u64,
        /// Bytes of the stretch that belongs behind it and came first.
        second: u64,
    },
    /// Bytes of another connection.
    Foreign {
        /// Its number.
        connection: u32,
        /// Where in its stream they belong.
        offset: u64,
    },
    /// Bytes of the same connection's stream stood in place of the right ones.
    Elsewhere {
        /// Where they belong.
        offset: u64,
        /// How many.
        bytes: u64,
    },
    /// The right bytes, before they were sent: no echo can know them.
    Early,
    /// Bytes that nobody sent came between those that were, or behind them.
    Extra {
        /// How many.
        bytes: u64,
    },
    /// The server closed the connection with bytes owed.
    EndedEarly {
        /// How many.
        bytes: u64,
    },
    /// Nothing came any more, with bytes owed.
    Stalled {
        /// How many.
        bytes: u64,
    },
    /// Bytes of no known origin stood in place of the right ones.
    Garbage {
        /// How many, as far as they were looked at.
        bytes: u64,
    },
}

impl fmt::Display for Kind {
    fn fmt(&self, text: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Flipped { bits: 1 } => write!(text, "one bit was flipped"),
            Self::Flipped { bits } => write!(text, "{bits} bits were flipped"),
            Self::Lost { bytes } => write!(text, "{} lost", were(bytes)),
            Self::Duplicated { bytes } => write!(text, "{} sent twice", were(bytes)),
            Self::Swapped { first, second } => {
                write!(text, "the first {first} and the next {second} bytes were swapped")
            }
            Self::Foreign { connection, offset } => {
                write!(text, "the bytes are those of connection {connection} from byte {offset} on")
            }
            Self::Elsewhere { offset, bytes } => {
                write!(text, "{} those of the same connection from byte {offset} on", were(bytes))
            }
            Self::Early => write!(text, "the server answered before it was asked"),
            Self::Extra { bytes } => write!(text, "{} sent that nobody had asked for", were(bytes)),
            Self::EndedEarly { bytes } => write!(text, "the server closed with {} owed", count(bytes)),
            Self::Stalled { bytes } => write!(text, "the server stayed silent with {} owed", count(bytes)),
            Self::Garbage { bytes } => {
                write!(text, "{} overwritten with bytes of no known origin", were(bytes))
            }
        }
    }
}

impl fmt::Display for Wrong {
    fn fmt(&self, text: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { connection, offset, kind, .. } = self;
        write!(text, "connection {connection}, byte {offset}: {kind} (expected {}, ", hex(&self.expected))?;
        match self.got.as_slice() {
            [] => write!(text, "got nothing)"),
            got => write!(text, "got {})", hex(got)),
        }
    }
}

fn count(bytes: u64) -> String {
    if bytes == 1 { "1 byte".into() } else { format!("{bytes} bytes") }
}

fn were(bytes: u64) -> String {
    format!("{} {}", count(bytes), if bytes == 1 { "was" } else { "were" })
}

fn hex(bytes: &[u8]) -> String {
    let digits: Vec<String> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    digits.join(" ")
}
