//! The ready line: what runs, where, within which limits, and what was laid out for it.

use crate::config::{Checked, Config, Facts};
use crate::result::{self, Limits, Named, Ready, VERSION};
use crate::worker::Laid;
use std::net::SocketAddr;
use std::time::Duration;

/// What was known before the workers started.
pub(super) struct Plan<'a> {
    pub(super) checked: &'a Checked,
    pub(super) facts: &'a Facts,
    pub(super) addresses: &'a [SocketAddr],
    pub(super) notes: Vec<String>,
}

impl Plan<'_> {
    pub(super) fn config(&self) -> &Config {
        &self.checked.config
    }

    /// With what every worker laid out, the line.
    pub(super) fn ready(&self, laid: &[Laid]) -> Ready {
        let config = self.config();
        let sizes = sizes(laid);
        let in_force = self.checked.in_force.iter().map(|(name, value)| {
            let laid = sizes.get(name).map(u64::to_string);
            ((*name).to_string(), laid.unwrap_or_else(|| value.clone()))
        });
        Ready {
            version: VERSION,
            backend: config.backend.name().into(),
            listen: self.addresses.iter().map(SocketAddr::to_string).collect(),
            workers: config.workers,
            features: Named(in_force.collect()),
            limits: self.limits(),
            memory: memory(laid),
            notes: self.notes(laid),
            sizes,
            pid: std::process::id(),
        }
    }

    fn limits(&self) -> Limits {
        let config = self.config();
        let micros = |time: Duration| time.as_micros() as u64;
        let backlog = u64::from(config.backlog);
        Limits {
            max_connections: config.max_connections,
            descriptors: self.facts.descriptors,
            backlog: self.facts.backlog_max.map_or(backlog, |most| most.min(backlog)),
            unsent_limit_bytes: config.unsent_limit,
            spill_limit_bytes: config.spill_limit,
            idle_timeout_us: config.idle_timeout.map(micros),
            write_timeout_us: config.write_timeout.map(micros),
            drain_timeout_us: micros(config.drain_timeout),
        }
    }

    fn notes(&self, laid: &[Laid]) -> Vec<String> {
        let mut notes: Vec<String> = Vec::new();
        for note in self.notes.iter().chain(laid.iter().flat_map(|laid| &laid.notes)) {
            // Workers lay out the same things and remark on them in the same words.
            if !notes.contains(note) {
                notes.push(note.clone());
            }
        }
        notes
    }
}

/// What is reserved, for slow readers and for connections that may come, and not laid out.
const UP_TO: [&str; 2] = ["spill_bytes", "own_buffers_bytes"];

/// Sums over workers, and the sum of what is laid out.
fn memory(laid: &[Laid]) -> Named<u64> {
    let mut memory = Named::default();
    for (name, bytes) in laid.iter().flat_map(|laid| &laid.memory) {
        memory.add(&format!("{name}_bytes"), *bytes);
    }
    let total =
        memory.0.iter().filter(|(name, _)| !UP_TO.contains(&name.as_str())).map(|(_, bytes)| bytes).sum();
    memory.add("total_bytes", total);
    memory
}

/// The least any worker has of each.
fn sizes(laid: &[Laid]) -> Named<u64> {
    let mut sizes: Named<u64> = Named::default();
    for (name, size) in laid.iter().flat_map(|laid| &laid.sizes) {
        match sizes.0.iter_mut().find(|(other, _)| other == name) {
            Some((_, least)) => *least = (*least).min(*size),
            None => sizes.0.push(((*name).to_string(), *size)),
        }
    }
    sizes
}

/// One line for a person: address first, then the features, then the limits.
pub(super) fn text(ready: &Ready) -> String {
    let choices = ready.features.0.iter();
    let choices: Vec<String> = choices.map(|(name, value)| format!("{name}={value}")).collect();
    let limits = &ready.limits;
    let total = ready.memory.get("total_bytes").copied().unwrap_or(0);
    format!(
        "c10k {} on {}, {} worker{}, {}, at most {} connections, backlog {}, {} MiB laid out, up to {} more for \
         slow readers",
        ready.backend,
        ready.listen.join(" "),
        ready.workers,
        if ready.workers == 1 { "" } else { "s" },
        choices.join(" "),
        limits.max_connections,
        limits.backlog,
        total.div_ceil(1 << 20),
        result::bytes_roughly(limits.spill_limit_bytes)
    )
}

/// One line for whoever wants to hear more: what was laid out for what, and the sizes.
pub(super) fn laid_out(ready: &Ready) -> String {
    let parts = ready.memory.0.iter().filter(|(name, _)| name != "total_bytes").map(|(name, bytes)| {
        let up_to = if UP_TO.contains(&name.as_str()) { "up to " } else { "" };
        format!("{} {up_to}{}", name.trim_end_matches("_bytes"), result::bytes_roughly(*bytes))
    });
    let mut text = format!("laid out: {}", parts.collect::<Vec<_>>().join(", "));
    let sizes: Vec<String> = ready.sizes.0.iter().map(|(name, size)| format!("{name}={size}")).collect();
    if !sizes.is_empty() {
        text.push_str(&format!("; {}", sizes.join(" ")));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_summed_over_workers_and_a_size_is_the_least_of_them() {
        let laid = |cq| Laid {
            memory: vec![("ring", 5), ("table", 7), ("spill", 9)],
            sizes: vec![("cq", cq)],
            ..Laid::default()
        };
        let laid = [laid(64), laid(32)];
        let memory = memory(&laid);
        assert_eq!(memory.get("ring_bytes"), Some(&10));
        assert_eq!(memory.get("spill_bytes"), Some(&18));
        assert_eq!(memory.get("total_bytes"), Some(&24));
        assert_eq!(sizes(&laid).get("cq"), Some(&32));
    }
}
