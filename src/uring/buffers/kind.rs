//! Whose a buffer is that a connection receives into, and how it is filled. A type, so that a worker that
//! runs one kind pays nothing for the others.

/// How connections come by the buffers they receive into.
pub trait Ownership {
    /// Whether each connection has one of its own, at the place of its slot, that only it receives into.
    const OWN: bool = false;
    /// Whether the kernel fills a buffer piece by piece, for one connection after the other.
    const PIECES: bool = false;
}

/// Buffers that the kernel, or the ring for it, picks for whoever receives.
#[derive(Debug)]
pub struct Shared;

/// One buffer for each connection: it receives again when what came before has been sent or spilled.
#[derive(Debug)]
pub struct Owned;

/// Buffers of all, filled piece by piece: one goes back to the kernel when it is full and every piece of it
/// has been sent or spilled.
#[derive(Debug)]
pub struct Incremental;

impl Ownership for Shared {}

impl Ownership for Owned {
    const OWN: bool = true;
}

impl Ownership for Incremental {
    const PIECES: bool = true;
}

/// Whether there is room to receive into.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Room {
    /// There is.
    Free,
    /// Every buffer is lent to somebody.
    Short,
    /// The connection's own buffer holds what it is still owed.
    Held,
}
