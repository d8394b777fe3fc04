//! The load generator: connections that send, receive and compare, paced, measured and judged. Its own
//! engine over the same seam to the kernel as the server's, and nothing else of the server: what it finds
//! wrong it did not write itself.
//!
//! It needs a target that echoes. It leaves out what a verdict between two servers needs: that is `bench`.

pub mod agent;
#[allow(unsafe_code)] // The bytes the kernel writes and reads: one of the rooms of `unsafe`.
pub mod buffers;
pub mod check;
mod command;
pub mod condition;
pub mod control;
pub mod draw;
pub mod engine;
mod find_rate;
#[cfg(test)]
pub(crate) mod for_tests;
pub mod judge;
pub mod outcome;
pub mod output;
pub mod pace;
pub mod payload;
pub mod plan;
pub mod run;
pub mod search;
pub mod sentences;
pub mod server_stats;
pub mod summary;
pub mod tally;
pub mod trouble;
mod typed;
pub mod verdict;

pub use command::load;
pub use typed::Typed;
