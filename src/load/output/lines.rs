//! The forms for programs: JSON, one object or one a line, and CSV with the same columns for intervals
//! and the result.

use crate::result::load::{Interval, LoadLine, LoadResult};
use std::io::{self, Write};

/// One object a line.
///
/// # Errors
/// When it cannot be written.
pub(super) fn ndjson(line: &LoadLine, out: &mut dyn Write) -> io::Result<()> {
    serde_json::to_writer(&mut *out, line)?;
    writeln!(out)?;
    out.flush()
}

/// One object, indented.
///
/// # Errors
/// When it cannot be written.
pub(super) fn json(result: &LoadResult, out: &mut dyn Write) -> io::Result<()> {
    let line = LoadLine::Result(Box::new(result.clone()));
    serde_json::to_writer_pretty(&mut *out, &line)?;
    writeln!(out)?;
    out.flush()
}

/// The names of the columns.
const COLUMNS: [&str; 18] = [
    "event",
    "begin_us",
    "length_us",
    "messages",
    "messages_per_second",
    "bytes_sent",
    "bytes_received",
    "connections",
    "open",
    "errors",
    "p50_us",
    "p90_us",
    "p99_us",
    "p99_9_us",
    "p99_99_us",
    "max_us",
    "mean_us",
    "verdict",
];

/// The line of names.
///
/// # Errors
/// When it cannot be written.
pub(super) fn csv_names(out: &mut dyn Write) -> io::Result<()> {
    writeln!(out, "{}", COLUMNS.join(","))
}

/// An interval's values.
///
/// # Errors
/// When it cannot be written.
pub(super) fn csv_interval(interval: &Interval, out: &mut dyn Write) -> io::Result<()> {
    let number = |value: Option<f64>| value.map_or_else(String::new, |value| value.to_string());
    let values: [String; COLUMNS.len()] = [
        "interval".into(),
        interval.begin_us.to_string(),
        interval.length_us.to_string(),
        interval.messages.to_string(),
        interval.messages_per_second.to_string(),
        interval.bytes_sent.to_string(),
        interval.bytes_received.to_string(),
        interval.connections.to_string(),
        interval.open.to_string(),
        interval.errors.to_string(),
        number(interval.p50_us),
        String::new(),
        number(interval.p99_us),
        String::new(),
        String::new(),
        number(interval.max_us),
        String::new(),
        String::new(),
    ];
    writeln!(out, "{}", values.join(","))?;
    out.flush()
}

/// The result's values.
///
/// # Errors
/// When it cannot be written.
pub(super) fn csv_result(result: &LoadResult, out: &mut dyn Write) -> io::Result<()> {
    let number = |value: Option<f64>| value.map_or_else(String::new, |value| value.to_string());
    let latency = result.response_latency_us.as_ref().or(result.service_latency_us.as_ref());
    let latency = latency.cloned().unwrap_or_default();
    let (rates, last) = (&result.rates, result.intervals.last());
    let word = serde_json::to_value(result.verdict.word)?;
    let values: [String; COLUMNS.len()] = [
        "result".into(),
        "0".into(),
        result.window.measured_us.to_string(),
        rates.messages.to_string(),
        rates.messages_per_second.to_string(),
        rates.bytes_sent.to_string(),
        rates.bytes_received.to_string(),
        rates.connections.to_string(),
        last.map_or_else(String::new, |interval| interval.open.to_string()),
        result.errors.iter().map(|trouble| trouble.count).sum::<u64>().to_string(),
        number(latency.p50),
        number(latency.p90),
        number(latency.p99),
        number(latency.p99_9),
        number(latency.p99_99),
        number(latency.max),
        number(latency.mean),
        word.as_str().unwrap_or_default().into(),
    ];
    writeln!(out, "{}", values.join(","))?;
    out.flush()
}
