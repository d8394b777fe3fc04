//! The server by completion (stub: the loop follows).

use crate::worker::{Ending, Failure, Worker};

/// What only this backend counts.
pub const COUNTERS: &[&str] = &[];

/// Serves until told to stop.
///
/// # Errors
/// When the ring cannot be set up, or the kernel lost completions.
pub fn run(_worker: Worker<'_>) -> Result<Ending, Failure> {
    Err(Failure::Unavailable("not built yet".into()))
}
