//! The laboratory: which of two servers costs less, on this machine, for a workload. Servers and clients are
//! child processes, pinned apart; they take turns in blocks A B B A, and every number is on disk before the
//! next slice begins.
//!
//! What decides is the server's CPU time for a unit, and the server's and the client's together: on loopback
//! much of what a server saves or wastes lands on its client. Ping-pong is offered at a rate that is the same
//! for both sides, half of what the slower one manages in a closed loop (`--pace` says otherwise). On one
//! machine the client of a closed loop works more than its server for every message (it pays for the same
//! sockets, and compares bytes), so that it would be the limit of nearly every slice; at half the rate it is
//! not, both sides do the same work in the same time, and the same slices say what latencies are. Streams and
//! churn take no rate: their costs hold, and where the client was busy all the time, their rate is called the
//! client's.
//!
//! It leaves out what a server or a load does: it sees both as processes and as what they print.

pub mod canary;
pub mod ceiling;
pub mod check;
pub mod child;
pub mod client;
mod command;
pub mod compare;
pub mod conduct;
pub mod disturbance;
pub mod environment;
pub mod features;
pub mod gate;
pub mod histogram;
pub mod matrix;
pub mod measure;
pub mod order;
pub mod pace;
pub mod progress;
pub mod server;
pub mod store;
pub mod suite;
pub mod text;
mod typed;
pub mod variant;
pub mod words;
pub mod workload;

pub use child::{HELD, held};
pub use command::bench;
pub use typed::Typed;
