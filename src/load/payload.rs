//! The bytes of a load, and what is wrong with those that come back. Every aligned word of a connection's
//! stream is an invertible keyed mix of (connection, index of the word), so that a wrong word tells where
//! it came from. Constant memory per connection. Pure.

/// What the payload of one run is mixed with. Of the run's seed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Key(pub u64);

/// Bytes that were wrong, and what became of them as far as it can be told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wrong {
    /// The connection's number.
    pub connection: u32,
    /// The first wrong byte, from the beginning of the connection's stream.
    pub offset: u64,
    /// The eight bytes that belong there.
    pub expected: [u8; 8],
    /// What came, at most eight bytes.
    pub got: Vec<u8>,
    /// What it was.
    pub kind: Kind,
}

/// What became of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// So many bits differ, and the stream goes on right.
    Flipped {
        /// How many.
        bits: u32,
    },
}
