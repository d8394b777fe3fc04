//! Statistics without a room: distributions of latencies and what may be said about them, evenness. Pure;
//! it knows no clock and no file.

mod evenness;
mod latencies;

pub use evenness::{in_flight, jain};
pub use latencies::Latencies;
