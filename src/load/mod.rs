//! The load generator: connections that send, receive and compare, paced, measured and judged. Its own
//! engine over the same seam to the kernel as the server's, and nothing else of the server: what it finds
//! wrong it did not write itself.
//!
//! It needs a target that echoes. It leaves out what a verdict between two servers needs: that is `bench`.

pub mod condition;
pub mod control;
pub mod outcome;
pub mod draw;
pub mod judge;
pub mod pace;
pub mod payload;
pub mod plan;
pub mod search;
pub mod tally;
pub mod trouble;
