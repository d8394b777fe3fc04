//! Workloads: `KIND[:SIZE[:CONNECTIONS[:DEPTH]]]`, in words, as arguments of a load, and whether they can be
//! held at once. Pure.

use crate::result::bench::{Unit, Workload};
use crate::units::{approximate_bytes, parse_bytes, parse_count, print_bytes, whole};

/// Bytes under way at once, over all connections, beyond which a workload is left out: more would measure
/// the machine's memory, and not be let in by the kernel's limit for TCP.
pub const IN_FLIGHT_MAX: u64 = 256 << 20;
/// What a connection of a stream has under way beside its message: what the kernel holds unsent of it at
/// the server's limit, and as much in the receiver's buffer.
const STREAM_BYTES: u64 = 128 << 10;
/// Connections a churn begins at once: as many as a listener's queue holds where nobody raised
/// `net.core.somaxconn` (4,096 since Linux 5.4).
const CHURN_MAX: u32 = 4096;
const SIZE_MAX: u64 = 16 << 20;
const CONNECTIONS_MAX: u64 = 1_000_000;
const DEPTH_MAX: u64 = 4096;

/// Reads a workload; what is not typed is the load's own default.
///
/// # Errors
/// A sentence without the flag.
pub fn parse(text: &str) -> Result<Workload, String> {
    const FORM: &str = "written like pingpong:64:100 or pingpong:1Ki:1k:16";
    let mut parts = text.split(':');
    let kind = parts.next().unwrap_or("");
    let (size, connections) = match kind {
        "pingpong" => (64, 100),
        "stream" => (64 << 10, 16),
        "churn" => (1024, 17),
        "idle" => (64, 10_000),
        _ => return Err(format!("{text:?} is none; pingpong, stream, churn or idle would do, {FORM}")),
    };
    let mut next = |usual: u64, most: u64, parse: fn(&str) -> Result<u64, crate::units::Reason>| {
        let Some(part) = parts.next() else { return Ok(usual) };
        match parse(part) {
            Ok(number) if (1..=most).contains(&number) => Ok(number),
            Ok(_) => Err(format!("{text}: {part} is out of bounds; 1 to {most} would do")),
            Err(reason) => Err(format!("{text}: {part:?} {reason}")),
        }
    };
    let size = next(size, SIZE_MAX, parse_bytes)?;
    let connections = next(connections, CONNECTIONS_MAX, parse_count)?;
    let depth = next(1, DEPTH_MAX, parse_count)?;
    if parts.next().is_some() || (depth > 1 && kind != "pingpong") {
        return Err(format!("{text:?} has one part too many; {FORM}"));
    }
    Ok(workload(kind, size as u32, connections as u32, depth as u32))
}

/// A workload, named and worded.
#[must_use]
pub fn workload(kind: &str, size: u32, connections: u32, depth: u32) -> Workload {
    let size_text = print_bytes(size.into());
    let mut name = format!("{kind}:{size_text}:{connections}");
    if depth > 1 {
        name.push_str(&format!(":{depth}"));
    }
    let on = if connections == 1 {
        "one connection".into()
    } else {
        format!("{} connections", whole(connections.into()))
    };
    let bytes = match size {
        size if size < 1024 => format!("{size}-byte"),
        size => approximate_bytes(size.into()).replace(' ', "-"),
    };
    let words = match kind {
        "stream" => format!("{bytes} streams on {on}"),
        "churn" => format!("{bytes} connect-echo-close, {} at once", whole(connections.into())),
        "idle" => format!("{on} that send nothing"),
        _ if depth > 1 => format!("{bytes} ping-pong, {depth} deep, on {on}"),
        _ => format!("{bytes} ping-pong on {on}"),
    };
    let unit = match kind {
        "stream" => Unit::Mebibyte,
        "churn" => Unit::Connection,
        "idle" => Unit::IdleSecond,
        _ => Unit::Message,
    };
    Workload {
        name,
        words,
        kind: kind.into(),
        connections,
        idle_connections: 0,
        size_bytes: size,
        depth,
        unit,
    }
}

/// The same with connections beside it that send nothing.
#[must_use]
pub fn beside_idle(workload: Workload, idle: u32) -> Workload {
    Workload {
        name: format!("{}+{idle}", workload.name),
        words: format!("{} beside {} idle ones", workload.words, whole(idle.into())),
        idle_connections: idle,
        ..workload
    }
}

/// Why a workload is not run: more would be under way at once than is reasonable.
#[must_use]
pub fn too_much(workload: &Workload) -> Option<String> {
    if workload.kind == "churn" && workload.connections > CHURN_MAX {
        return Some(format!(
            "{} connects at once, and a listener queues {CHURN_MAX}: what would be measured is the second \
             until a lost one is sent again",
            workload.connections
        ));
    }
    let message = u64::from(workload.size_bytes) * u64::from(workload.depth);
    let each = match workload.kind.as_str() {
        "stream" => message + STREAM_BYTES,
        "idle" => 0,
        _ => message,
    };
    let bytes = each * u64::from(workload.connections);
    (bytes > IN_FLIGHT_MAX).then(|| {
        format!(
            "{} would be under way at once, more than {}",
            approximate_bytes(bytes),
            approximate_bytes(IN_FLIGHT_MAX)
        )
    })
}

/// Whether its messages can be offered at a fixed rate.
#[must_use]
pub fn can_be_paced(workload: &Workload) -> bool {
    workload.kind == "pingpong"
}

/// What a cost is counted for, in words.
#[must_use]
pub const fn unit(unit: Unit) -> &'static str {
    match unit {
        Unit::Message => "message",
        Unit::Mebibyte => "MiB",
        Unit::Connection => "connection",
        Unit::IdleSecond => "idle connection and second",
    }
}

/// The same of several.
#[must_use]
pub const fn units(unit: Unit) -> &'static str {
    match unit {
        Unit::Message => "messages",
        Unit::Mebibyte => "MiB",
        Unit::Connection => "connections",
        Unit::IdleSecond => "seconds of idle connections",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_workload_reads_back_by_its_name() {
        for text in
            ["pingpong:64:100", "pingpong:1Ki:9000:16", "stream:64Ki:16", "churn:1Ki:17", "idle:64:9000"]
        {
            let read = parse(text).unwrap();
            assert_eq!(read.name, text);
        }
        assert_eq!(parse("pingpong").unwrap().name, "pingpong:64:100");
        assert_eq!(parse("stream").unwrap().unit, Unit::Mebibyte);
        assert_eq!(parse("pingpong:64Ki:9k").unwrap().words, "64-KiB ping-pong on 9,000 connections");
        assert_eq!(parse("pingpong").unwrap().words, "64-byte ping-pong on 100 connections");
    }

    #[test]
    fn what_is_no_workload_is_refused_with_what_would_do() {
        for text in [
            "",
            "ping",
            "pingpong:0",
            "pingpong:64:0",
            "pingpong:64:1:5000",
            "pingpong:x",
            "stream:1:1:2",
            "pingpong:1:1:1:1",
            "pingpong:17Mi",
        ] {
            assert!(
                parse(text).unwrap_err().contains("ould do")
                    || parse(text).unwrap_err().contains("written like"),
                "{text}"
            );
        }
    }

    #[test]
    fn more_than_256_mib_under_way_are_left_out() {
        let out = |text: &str| too_much(&parse(text).unwrap());
        assert_eq!(out("pingpong:16Ki:9000"), None);
        assert_eq!(out("pingpong:16Ki:1000:16"), None);
        assert_eq!(
            out("pingpong:64Ki:9000").unwrap(),
            "562.5 MiB would be under way at once, more than 256 MiB"
        );
        assert!(out("pingpong:64Ki:1000:16").is_some() && out("stream:64:9000").is_some());
        assert!(out("stream:64Ki:1000").is_none() && out("idle:64:1m").is_none());
    }
}
