//! `c10k`: a TCP echo server written twice, by completion ([`uring`]) and by readiness
//! ([`epoll_baseline`]), behind one switch.
//!
//! What the two have in common is data: the policy of a connection ([`conn`]), the account
//! ([`counters`]), the stop ([`stop`]), the settings ([`config`]). What differs is mechanism:
//!
//! | | uring | epoll |
//! |---|---|---|
//! | who owns the buffer while waiting | the kernel | nobody (there is none) |
//! | what a slow reader costs | shared leases, moved to a spill area | private copies |
//! | stop reading | a receive that ends at its limit, or cancel and count | do not call receive |
//! | when a slot may be used again | after the last completion | at once |
//! | batching of system calls | by design | none for receive and send |
//! | what can run out | buffers, both queues | memory, descriptors |
//!
//! Absent on purpose: an async runtime; a `Backend` trait; heap allocation per message (a slow epoll
//! reader's copy is the counted exception); logging per message; a silent fall-back; shared mutable
//! state between workers but counters, permits and the stop.
#![deny(missing_docs, unreachable_pub, unsafe_code)]

pub mod bench;
pub mod cli;
pub mod config;
pub mod conn;
pub mod counters;
pub mod doctor;
pub mod features;
pub mod host;
pub mod load;
pub mod report;
pub mod result;
#[allow(unsafe_code)] // The kernel interface: one of the rooms of `unsafe`.
pub mod ring;
#[cfg(test)]
mod seeds;
pub mod server;
pub mod statistics;
pub mod stop;
#[allow(unsafe_code)] // The few calls no crate offers safely: one of the rooms of `unsafe`.
pub mod sys;
pub mod units;
pub mod uring;
pub mod worker;

/// The same server by readiness. It lives beside `src` because it is the yardstick, not the product:
/// read its event loop next to the one in `src/uring`.
#[path = "../epoll_baseline/mod.rs"]
pub mod epoll_baseline;
