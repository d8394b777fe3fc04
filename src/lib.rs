//! `c10k`: a TCP echo server written twice, by completion ([`uring`]) and by readiness
//! ([`epoll_baseline`]), behind one switch.
#![deny(missing_docs, unreachable_pub, unsafe_code)]

pub mod config;
pub mod conn;
pub mod counters;
pub mod features;
#[allow(unsafe_code)] // The kernel interface: one of the rooms of `unsafe`.
pub mod ring;
pub mod stop;
pub mod uring;
pub mod worker;

/// The same server by readiness. It lives beside `src` because it is the yardstick, not the product:
/// read its event loop next to the one in `src/uring`.
#[path = "../epoll_baseline/mod.rs"]
pub mod epoll_baseline;
