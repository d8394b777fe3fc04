//! The policy of a connection: pure values, no sockets, no clock, no kernel. Both servers ask the
//! same questions of the same types here, so that what is left to differ between them is mechanism.
//!
//! Absent on purpose: operations in flight, buffers, interest masks. Those exist in one server only
//! and live there, as the side data of [`table::Table`].

pub mod accepting;
pub mod admission;
pub mod deadlines;
pub mod handover;
pub mod machine;
pub mod queue;
pub mod table;

pub use accepting::Accepting;
pub use admission::Admission;
pub use deadlines::Deadlines;
pub use handover::Handover;
pub use machine::{CloseReason, Limits, Machine, Step};
pub use queue::Queue;
pub use table::{ConnId, Table};

/// Milliseconds of the monotonic clock, counted from any origin. 64 bits, so that it never wraps.
pub type Tick = u64;
