//! Statistics without a room: distributions of latencies and what may be said about them, evenness, and
//! two things measured in turns ([`paired`]). Pure;
//! it knows no clock and no file.

mod evenness;
mod independent;
mod latencies;
pub mod paired;

pub use evenness::{in_flight, jain};
pub use independent::{Factor, factor};
pub use latencies::Latencies;
