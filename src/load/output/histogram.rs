//! The two file forms of HdrHistogram: the text of percentiles (`.hgrm`) that plotters read, and the log
//! of interval histograms (V2, compressed) that its tools read. Values are nanoseconds; the text is in
//! milliseconds, as its readers expect.

use crate::statistics::Latencies;
use hdrhistogram::serialization::V2DeflateSerializer;
use hdrhistogram::serialization::interval_log::{IntervalLogWriter, IntervalLogWriterBuilder};
use std::io::{self, Write};
use std::time::{Duration, SystemTime};

const NANOSECONDS_PER_MILLISECOND: f64 = 1e6;

/// Writes the percentiles of a distribution.
///
/// # Errors
/// When it cannot be written.
pub(super) fn percentiles(latencies: &Latencies, out: &mut dyn Write) -> io::Result<()> {
    /// Lines for each halving of the distance to 100 %.
    const TICKS: u32 = 5;
    let histogram = latencies.histogram();
    writeln!(out, "{:>12} {:>14} {:>10} {:>14}\n", "Value", "Percentile", "TotalCount", "1/(1-Percentile)")?;
    let mut count = 0;
    for step in histogram.iter_quantiles(TICKS) {
        count += step.count_since_last_iteration();
        let value = step.value_iterated_to() as f64 / NANOSECONDS_PER_MILLISECOND;
        let quantile = step.quantile_iterated_to();
        match quantile < 1.0 {
            true => {
                writeln!(out, "{value:12.6} {quantile:14.12} {count:10} {:14.2}", 1.0 / (1.0 - quantile))?
            }
            false => writeln!(out, "{value:12.6} {quantile:14.12} {count:10}")?,
        }
    }
    let (mean, deviation) = (histogram.mean(), histogram.stdev());
    let (mean, deviation) = (mean / NANOSECONDS_PER_MILLISECOND, deviation / NANOSECONDS_PER_MILLISECOND);
    let max = latencies.max().unwrap_or(0) as f64 / NANOSECONDS_PER_MILLISECOND;
    writeln!(out, "#[Mean    = {mean:12.6}, StdDeviation   = {deviation:12.6}]")?;
    writeln!(out, "#[Max     = {max:12.6}, Total count    = {:12}]", histogram.len())?;
    // Three significant digits need 2,048 values in a bucket.
    writeln!(out, "#[Buckets = {:12}, SubBuckets     = {:12}]", histogram.buckets(), 2048)
}

/// A log of interval histograms, being written.
pub(super) struct Log<'a> {
    writer: IntervalLogWriter<'a, 'a, Box<dyn Write>, V2DeflateSerializer>,
}

/// What a log is written with.
pub(super) struct LogParts {
    out: Box<dyn Write>,
    serializer: V2DeflateSerializer,
}

impl LogParts {
    /// To be written to `out`.
    pub(super) fn new(out: Box<dyn Write>) -> Self {
        Self { out, serializer: V2DeflateSerializer::new() }
    }
}

impl<'a> Log<'a> {
    /// Begins a log of a run that begins at `origin`.
    ///
    /// # Errors
    /// When it cannot be written.
    pub(super) fn begin(parts: &'a mut LogParts, origin: SystemTime, command: &str) -> io::Result<Self> {
        let writer = IntervalLogWriterBuilder::new()
            .add_comment(&format!("[{command}]"))
            .add_comment("[values are nanoseconds, Interval_Max is milliseconds]")
            .with_start_time(origin)
            .with_base_time(origin)
            .with_max_value_divisor(NANOSECONDS_PER_MILLISECOND)
            .begin_log_with(&mut parts.out, &mut parts.serializer)?;
        Ok(Self { writer })
    }

    /// Adds the histogram of an interval, whose edges are nanoseconds since the origin.
    ///
    /// # Errors
    /// Why it cannot be written.
    pub(super) fn interval(&mut self, begin: u64, end: u64, latencies: &Latencies) -> Result<(), String> {
        let (begin, end) = (Duration::from_nanos(begin), Duration::from_nanos(end));
        let length = end.saturating_sub(begin);
        self.writer
            .write_histogram(latencies.histogram(), begin, length, None)
            .map_err(|error| error.to_string())
    }
}

/// Bars, a line for each doubling of the time: where the samples lie. None without samples.
pub(super) fn bars(latencies: &Latencies) -> Vec<(u64, u64)> {
    let histogram = latencies.histogram();
    let mut bars: Vec<(u64, u64)> = Vec::new();
    for step in histogram.iter_recorded() {
        let ceiling = step.value_iterated_to().max(1).next_power_of_two();
        match bars.last_mut() {
            Some((last, count)) if *last == ceiling => *count += step.count_at_value(),
            _ => bars.push((ceiling, step.count_at_value())),
        }
    }
    bars
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::for_tests::Shared;
    use hdrhistogram::Histogram;
    use hdrhistogram::serialization::Deserializer;
    use hdrhistogram::serialization::interval_log::{IntervalLogIterator, LogEntry};

    fn sample() -> Latencies {
        let mut latencies = Latencies::new();
        (1..=100_000).for_each(|number| latencies.record(number * 1_000));
        latencies
    }

    #[test]
    fn the_text_of_percentiles_says_what_the_histogram_says() {
        let latencies = sample();
        let mut out = Vec::new();
        percentiles(&latencies, &mut out).unwrap();
        let text = String::from_utf8(out).unwrap();
        let rows: Vec<Vec<f64>> = text
            .lines()
            .skip(2)
            .filter(|line| !line.starts_with('#'))
            .map(|line| line.split_whitespace().map(|word| word.parse().unwrap()).collect())
            .collect();
        let half = rows.iter().find(|row| row[1] == 0.5).unwrap();
        assert!(
            (half[0] - 50.0).abs() < 0.1 && (half[2] - 50_000.0).abs() < 100.0 && half[3] == 2.0,
            "{half:?}"
        );
        let last = rows.last().unwrap();
        assert_eq!((last.len(), last[1], last[2]), (3, 1.0, 100_000.0));
        assert!(rows.windows(2).all(|pair| pair[0][0] <= pair[1][0] && pair[0][2] <= pair[1][2]));
        assert!(text.contains("Total count    =       100000]"), "{text}");
    }

    #[test]
    fn a_log_reads_back_as_the_intervals_that_were_written() {
        let shared = Shared::default();
        let mut parts = LogParts::new(Box::new(shared.clone()));
        let mut log = Log::begin(&mut parts, SystemTime::UNIX_EPOCH, "c10k load").unwrap();
        log.interval(2_000_000_000, 3_000_000_000, &sample()).unwrap();
        log.interval(3_000_000_000, 3_500_000_000, &Latencies::new()).unwrap();
        let bytes = shared.0.lock().unwrap().clone();
        let intervals: Vec<_> = IntervalLogIterator::new(&bytes)
            .filter_map(|entry| match entry.unwrap() {
                LogEntry::Interval(interval) => Some(interval),
                _ => None,
            })
            .collect();
        assert_eq!(intervals.len(), 2);
        assert_eq!(intervals[0].start_timestamp(), Duration::from_secs(2));
        assert_eq!(intervals[1].duration(), Duration::from_millis(500));
        assert!((intervals[0].max() - 100.0).abs() < 0.1, "{}", intervals[0].max());
        let decoded = decode(intervals[0].encoded_histogram());
        assert_eq!(decoded, *sample().histogram());
    }

    /// Base64, then the compressed V2 form.
    fn decode(text: &str) -> Histogram<u64> {
        const LETTERS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
        let values = text.bytes().filter_map(|byte| LETTERS.iter().position(|letter| *letter == byte));
        let (mut bytes, mut bits, mut held) = (Vec::new(), 0u32, 0u32);
        for value in values {
            (held, bits) = (held << 6 | value as u32, bits + 6);
            if bits >= 8 {
                bits -= 8;
                bytes.push((held >> bits) as u8);
                held &= (1 << bits) - 1;
            }
        }
        Deserializer::new().deserialize(&mut bytes.as_slice()).unwrap()
    }

    #[test]
    fn bars_hold_every_sample_once() {
        let latencies = sample();
        let bars = bars(&latencies);
        assert_eq!(bars.iter().map(|(_, count)| count).sum::<u64>(), latencies.samples());
        assert!(bars.windows(2).all(|pair| pair[0].0 * 2 == pair[1].0), "{bars:?}");
    }
}
