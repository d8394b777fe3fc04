//! The server by completion: one ring per worker, driven by [`event_loop`]. A buffer belongs to the
//! kernel while it waits; a slow reader costs shared buffers, so its bytes are moved out of them; a
//! slot is used again only after the kernel has answered everything.

mod accepting;
#[cfg(any(test, feature = "sim"))]
pub mod audit;
#[allow(unsafe_code)] // The bytes the kernel writes: one of the rooms of `unsafe`.
pub mod buffers;
mod connection;
mod ending;
pub mod event_loop;
mod handing;
mod run;
mod sending;
#[cfg(test)]
mod simulation;
pub mod token;

pub use crate::ring::neighbours::Rings;
pub use event_loop::COUNTERS;
pub use run::run;
