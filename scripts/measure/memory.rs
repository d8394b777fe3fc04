//! What a process keeps in memory, and what TCP does, as the kernel counts it.

use std::io;

/// Resident memory of one process, bytes.
#[derive(Clone, Copy, Debug)]
pub struct Resident {
    /// All of it, as VmRSS.
    pub total: u64,
    /// Of it: queues shared with the kernel (the rings' mappings).
    pub rings: u64,
    /// Of it: memory that no file stands behind (buffers, tables, stacks).
    pub anonymous: u64,
}

impl Resident {
    /// Of the process `id`.
    pub fn of(id: u32) -> io::Result<Self> {
        let status = std::fs::read_to_string(format!("/proc/{id}/status"))?;
        let field = |name| {
            let line = status.lines().find_map(|line: &str| line.strip_prefix(name));
            line.and_then(kibibytes).ok_or_else(|| io::Error::other("/proc/PID/status is incomplete"))
        };
        let maps = std::fs::read_to_string(format!("/proc/{id}/smaps"))?;
        Ok(Self { total: field("VmRSS:")?, rings: rings(&maps), anonymous: field("RssAnon:")? })
    }
}

fn kibibytes(text: &str) -> Option<u64> {
    text.split_whitespace().next()?.parse::<u64>().ok().map(|number| number * 1024)
}

/// The resident part of every mapping of a ring. A mapping opens with its addresses and ends with
/// its name; its numbers follow, a name and a colon each.
fn rings(maps: &str) -> u64 {
    let (mut inside, mut sum) = (false, 0);
    for line in maps.lines() {
        if let Some(rest) = line.strip_prefix("Rss:") {
            sum += if inside { kibibytes(rest).unwrap_or(0) } else { 0 };
        } else if line.split_whitespace().next().is_some_and(|word| !word.ends_with(':')) {
            inside = line.ends_with("[io_uring]");
        }
    }
    sum
}

/// Pages of memory all TCP sockets of this network namespace hold, as bytes.
pub fn tcp() -> io::Result<u64> {
    let text = std::fs::read_to_string("/proc/net/sockstat")?;
    let line = text.lines().find(|line| line.starts_with("TCP:")).unwrap_or_default();
    let mut words = line.split_whitespace().skip_while(|word| *word != "mem");
    let pages = words.nth(1).and_then(|word| word.parse::<u64>().ok());
    pages.map(|pages| pages * 4096).ok_or_else(|| io::Error::other("/proc/net/sockstat names no TCP memory"))
}

/// Bytes as mebibytes, for people.
pub fn mebibytes(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}
