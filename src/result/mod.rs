//! The versioned types of every line the program prints as JSON. A field is never given another
//! meaning under the same version.

pub mod bench;
pub mod doctor;
pub mod gate;
pub mod load;
pub mod mark;
pub mod report;
pub mod server_stats;
pub mod shared_account;

use crate::units;
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde::ser::{Serialize, Serializer};
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;

/// Bytes as a person types them, exact: `4Ki`, `1000`.
#[must_use]
pub fn bytes_exactly(bytes: u64) -> String {
    units::print_bytes(bytes)
}

/// Bytes as a person reads them, rounded down to a tenth: `17.4 MiB`.
#[must_use]
pub fn bytes_roughly(bytes: u64) -> String {
    units::approximate_bytes(bytes)
}

/// The version of the lines below.
pub const VERSION: u32 = 1;

/// One line of the server.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// Everything is laid out and every worker accepts. The first line.
    Ready(Ready),
    /// The account so far.
    Stats(Account),
    /// The account at the end. The last line.
    Summary(Summary),
}

/// What runs.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Ready {
    /// The version of this line.
    pub version: u32,
    /// `uring` or `epoll`.
    pub backend: String,
    /// The addresses, with the real ports.
    pub listen: Vec<String>,
    /// Worker threads.
    pub workers: usize,
    /// Every dimension of the backend and the value in force.
    pub features: Named<String>,
    /// The limits in force.
    pub limits: Limits,
    /// Bytes over all workers, as `NAME_bytes`: what was laid out at the start with its sum,
    /// `total_bytes`, and `spill_bytes`, which slow readers may take besides.
    pub memory: Named<u64>,
    /// Sizes in force, where they could differ from what was planned.
    pub sizes: Named<u64>,
    /// What was decided otherwise than by default, and which limits bite.
    pub notes: Vec<String>,
    /// The process.
    pub pid: u32,
}

/// The limits in force. Times are microseconds; `null` is none.
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Limits {
    /// Connections served at once.
    pub max_connections: u32,
    /// Descriptors of the process; `null` where it cannot be read.
    pub descriptors: Option<u64>,
    /// Connections that may wait to be accepted, for each listener.
    pub backlog: u64,
    /// Bytes of a connection the kernel holds unsent.
    pub unsent_limit_bytes: u32,
    /// Bytes of stuck peers the server holds.
    pub spill_limit_bytes: u64,
    /// Silence after which a connection is closed.
    pub idle_timeout_us: Option<u64>,
    /// Time after which a peer that takes nothing is closed.
    pub write_timeout_us: Option<u64>,
    /// Time a stop may take.
    pub drain_timeout_us: u64,
}

/// What happened so far.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Account {
    /// The version of this line.
    pub version: u32,
    /// Microseconds since the ready line.
    pub uptime_us: u64,
    /// What only grows, over all workers, with the backend's own names at the end.
    pub counters: Named<u64>,
    /// Connections closed, by reason.
    pub closed: Named<u64>,
    /// Connections refused, by cause.
    pub refused: Named<u64>,
    /// What there is now.
    pub gauges: Named<u64>,
    /// Each worker's share.
    pub workers: Vec<Share>,
    /// Lines of output that were dropped because nobody took them.
    pub lines_dropped: u64,
}

/// One worker's share.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Share {
    /// Connections it accepted.
    pub accepted: u64,
    /// Connections it has open; not there where workers close each other's connections.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub open: Option<u64>,
}

/// The account at the end.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Summary {
    /// `drained`: every connection had what it was owed; `cut`: not so; `failed`: a worker failed.
    pub ended: String,
    /// Microseconds from the first stop signal, or the failure, to the end.
    #[serde(default)]
    pub stop_us: Option<u64>,
    /// Why it failed, a sentence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<String>,
    /// What happened.
    #[serde(flatten)]
    pub account: Account,
}

/// Values by name, as one object, in an order that means something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Named<T>(pub Vec<(String, T)>);

impl<T> Default for Named<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T> Named<T> {
    /// The value of this name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&T> {
        self.0.iter().find(|(other, _)| other == name).map(|(_, value)| value)
    }
}

impl Named<u64> {
    /// Adds to the value of this name, new at the end. Wrapping, so that gauges of workers of which
    /// one went below zero sum up right.
    pub fn add(&mut self, name: &str, amount: u64) {
        match self.0.iter_mut().find(|(other, _)| other == name) {
            Some((_, value)) => *value = value.wrapping_add(amount),
            None => self.0.push((name.to_string(), amount)),
        }
    }
}

impl<T: Serialize> Serialize for Named<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(name, value)| (name, value)))
    }
}

impl<T: JsonSchema> JsonSchema for Named<T> {
    fn schema_name() -> Cow<'static, str> {
        BTreeMap::<String, T>::schema_name()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        BTreeMap::<String, T>::json_schema(generator)
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Named<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Entries<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for Entries<T> {
            type Value = Named<T>;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut entries = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    entries.push(entry);
                }
                Ok(Named(entries))
            }
        }
        deserializer.deserialize_map(Entries(PhantomData))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn account() -> Account {
        let named = |names: &[&str]| Named(names.iter().map(|name| (name.to_string(), 7)).collect());
        Account {
            version: VERSION,
            uptime_us: 1,
            counters: named(&["accepted", "bytes_received"]),
            closed: named(&["peer_finished"]),
            refused: named(&["refused_full"]),
            gauges: named(&["open", "lent"]),
            workers: vec![Share { accepted: 7, open: Some(7) }, Share { accepted: 7, open: None }],
            lines_dropped: 0,
        }
    }

    #[test]
    fn a_line_reads_back_as_what_was_written_in_the_same_order() {
        let account = account();
        let summary = Event::Summary(Summary {
            ended: "drained".into(),
            stop_us: Some(7),
            failure: None,
            account: account.clone(),
        });
        for event in [Event::Stats(account), summary] {
            let line = serde_json::to_string(&event).unwrap();
            assert!(!line.contains('\n'));
            assert_eq!(serde_json::from_str::<Event>(&line).unwrap(), event);
        }
    }

    #[test]
    fn a_line_begins_with_what_it_is() {
        let line = serde_json::to_string(&Event::Stats(account())).unwrap();
        assert!(
            line.starts_with(r#"{"event":"stats","version":1,"uptime_us":1,"counters":{"accepted":7,"#),
            "{line}"
        );
    }

    #[test]
    fn gauges_that_went_below_zero_in_one_worker_sum_up_right() {
        let mut gauges = Named::default();
        gauges.add("open", 3);
        gauges.add("open", 1u64.wrapping_neg());
        assert_eq!(gauges.get("open"), Some(&2));
    }
}
