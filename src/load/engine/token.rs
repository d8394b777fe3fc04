//! What a completion carries home: which operation, of which connection, in which of its lives. Packed
//! in the 64 bits the kernel hands back:
//!
//! ```text
//! | operation 8 | slot 24 | life 32 |
//! ```

use crate::ring::Token;

/// Which operation a completion answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Kind {
    Connect = 1,
    Receive,
    Send,
    /// News of room in a socket that was full.
    Room,
    /// Cancel of an operation of a connection.
    Cancel,
    Close,
    /// Wake-ups of this thread; no connection's.
    Wakeups,
    /// Cancel of the wake-ups.
    CancelWakeups,
}

const KINDS: [Kind; 8] = [
    Kind::Connect,
    Kind::Receive,
    Kind::Send,
    Kind::Room,
    Kind::Cancel,
    Kind::Close,
    Kind::Wakeups,
    Kind::CancelWakeups,
];

/// A connection: its slot, and which of the lives in that slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Id {
    pub(super) slot: u32,
    pub(super) life: u32,
}

/// Of operations that are no connection's.
pub(super) const NOBODY: Id = Id { slot: 0, life: 0 };

/// Connections a thread can have: what 24 bits number.
pub(super) const SLOTS_MAX: u32 = 1 << 24;

#[inline]
pub(super) fn of(kind: Kind, id: Id) -> Token {
    debug_assert!(id.slot < SLOTS_MAX);
    Token((kind as u64) << 56 | u64::from(id.slot) << 32 | u64::from(id.life))
}

/// What the token says. `None` for a number that [`of`] never makes.
#[inline]
pub(super) fn read(token: Token) -> Option<(Kind, Id)> {
    let kind = KINDS.get((token.0 >> 56).wrapping_sub(1) as usize)?;
    let slot = (token.0 >> 32) as u32 & (SLOTS_MAX - 1);
    Some((*kind, Id { slot, life: token.0 as u32 }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_comes_back_as_it_went() {
        for kind in KINDS {
            let id = Id { slot: SLOTS_MAX - 1, life: 0xdead_beef };
            assert_eq!(read(of(kind, id)), Some((kind, id)));
        }
        assert_eq!((read(Token(0)), read(Token(u64::MAX))), (None, None));
    }
}
