//! Statistics without a room: distributions of latencies and what may be said about them, evenness. Pure;
//! it knows no clock and no file.

mod evenness;
mod independent;
mod latencies;

pub use evenness::{in_flight, jain};
pub use independent::{Factor, factor};
pub use latencies::Latencies;
