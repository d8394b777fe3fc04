//! What a loop runs with: the numbers, all decided. Both ways to use threads read it.

use super::connection::Connection;
use crate::config::Config;
use crate::conn::{Limits, Table};
use crate::features::{Read, Trigger};
use crate::worker::{Laid, queued_max};
use std::os::fd::OwnedFd;
use std::time::Duration;

/// The numbers of a loop.
#[derive(Clone, Debug)]
pub(super) struct Setting {
    /// How the kernel reports.
    pub(super) trigger: Trigger,
    /// How much is read per event.
    pub(super) read: Read,
    /// Bytes of the scratch buffer of a thread.
    pub(super) buffer_size: u32,
    /// Connections the table holds.
    pub(super) max_connections: u32,
    /// The policy of a connection.
    pub(super) limits: Limits,
    /// Bytes of stuck peers that are held at most.
    pub(super) spill_limit: u64,
    /// How long a stop may take.
    pub(super) drain_timeout: Duration,
    /// Connections taken at most from each listener when the server stops: no queue was longer when it
    /// began.
    pub(super) queued_max: u32,
}

#[cfg(test)]
impl Setting {
    /// A small one over the real kernel.
    pub(super) const FOR_TESTS: Self = Self {
        trigger: Trigger::Edge,
        read: Read::Once,
        buffer_size: 64,
        max_connections: 8,
        limits: Limits {
            window: 1000,
            window_at_first: 1000,
            trust_after: 0,
            idle_timeout: 50,
            write_timeout: 0,
            linger: 50,
        },
        spill_limit: 0,
        drain_timeout: Duration::from_secs(1),
        queued_max: 2,
    };
}

impl Setting {
    /// Whether sockets are watched once and for all, and report what is new.
    pub(super) fn is_edge(&self) -> bool {
        self.trigger == Trigger::Edge
    }

    pub(super) fn of(config: &Config, limits: Limits, spill_limit: u64) -> Self {
        Self {
            trigger: config.epoll.trigger,
            read: config.epoll.read,
            buffer_size: config.epoll.buffer_size,
            max_connections: config.max_connections,
            limits,
            spill_limit,
            drain_timeout: config.drain_timeout,
            queued_max: queued_max(config),
        }
    }

    /// What a loop that has a table of its own lays out.
    pub(super) fn laid(&self, worker: usize, events: usize) -> Laid {
        let slots = u64::from(self.max_connections);
        Laid {
            worker,
            memory: vec![
                ("connections", Table::<Connection<OwnedFd>>::bytes(self.max_connections)),
                // Two queues of 8 bytes a slot and a wheel of 16.
                ("queues", slots * (2 * 8 + 16)),
                ("buffers", self.buffers(events)),
                ("spill", self.spill_limit),
            ],
            sizes: vec![("events", events as u64)],
            notes: Vec::new(),
        }
    }

    /// The scratch buffer and the batch of events of a thread, bytes.
    pub(super) fn buffers(&self, events: usize) -> u64 {
        u64::from(self.buffer_size) + (events * size_of::<nix::sys::epoll::EpollEvent>()) as u64
    }
}
