//! Whose a buffer is that a connection receives into. A type, so that a worker that runs one kind pays
//! nothing for the others.

/// Whether connections share buffers.
pub trait Ownership {
    /// Whether each connection has one of its own, at the place of its slot, that only it receives into.
    const OWN: bool;
}

/// Buffers that the kernel, or the ring for it, picks for whoever receives.
#[derive(Debug)]
pub struct Shared;

/// One buffer for each connection: it receives again when what came before has been sent or spilled.
#[derive(Debug)]
pub struct Owned;

impl Ownership for Shared {
    const OWN: bool = false;
}

impl Ownership for Owned {
    const OWN: bool = true;
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
