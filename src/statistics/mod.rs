//! Statistics without a room: distributions of latencies and what may be said about them. Pure; it
//! knows no clock and no file.

mod latencies;

pub use latencies::Latencies;
