//! What a completion carries home: which operation, for which connection. Packed in the 64 bits the
//! kernel hands back:
//!
//! ```text
//! | operation 8 | slot 24 | generation 32 |
//! ```
//!
//! The generation makes a late completion for a connection that is gone harmless: it is counted.

use crate::conn::ConnId;
use crate::ring::Token;

/// Which operation a completion answers. For the ones that belong to a listener the slot is the
/// listener's index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// Accept on a listener.
    Accept = 1,
    /// Receive, of either sort.
    Receive,
    /// Send.
    Send,
    /// Send whose bytes the kernel may go on reading.
    SendKept,
    /// News of room in a socket that was full.
    Room,
    /// Cancel of a connection's receive, or of its watch for room.
    Cancel,
    /// Count of what has arrived.
    Count,
    /// Our FIN.
    Shutdown,
    /// Close of a connection.
    Close,
    /// Close of a socket that never became a connection.
    CloseRefused,
    /// Cancel of a listener's accept, or of the wake-ups.
    CancelOther,
    /// Wake-ups of this worker.
    Wakeups,
    /// Giving a socket to another worker, or ending one that was lost on its way. The slot is that of the
    /// worker's list of such sockets.
    Hand,
    /// A socket that another worker gave to this one.
    Arrival,
}

const KINDS: [Kind; 14] = [
    Kind::Accept,
    Kind::Receive,
    Kind::Send,
    Kind::SendKept,
    Kind::Room,
    Kind::Cancel,
    Kind::Count,
    Kind::Shutdown,
    Kind::Close,
    Kind::CloseRefused,
    Kind::CancelOther,
    Kind::Wakeups,
    Kind::Hand,
    Kind::Arrival,
];

/// The token of an operation for a connection.
#[inline]
pub fn of(kind: Kind, id: ConnId) -> Token {
    Token((kind as u64) << 56 | id.to_bits())
}

/// The token of an operation for a listener, or for nobody (index 0).
#[inline]
pub fn of_listener(kind: Kind, index: usize) -> Token {
    of(kind, ConnId { slot: index as u32, generation: 0 })
}

/// What the token says. `None` for a number that [`of`] never makes.
#[inline]
pub fn read(token: Token) -> Option<(Kind, ConnId)> {
    let kind = KINDS.get((token.0 >> 56).wrapping_sub(1) as usize)?;
    Some((*kind, ConnId::from_bits(token.0)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_comes_back_as_it_went() {
        for kind in KINDS {
            let id = ConnId { slot: 0x00ab_cdef, generation: u32::MAX };
            assert_eq!(read(of(kind, id)), Some((kind, id)));
        }
        assert_eq!((read(Token(0)), read(Token(u64::MAX))), (None, None));
    }
}
