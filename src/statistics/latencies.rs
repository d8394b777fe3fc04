//! A distribution of times, nanoseconds, in constant memory: an HDR histogram with three significant
//! digits. Distributions of several threads are added up, never averaged.

use hdrhistogram::Histogram;

/// Times, nanoseconds. What is longer than [`Latencies::MAX`] counts as that long.
#[derive(Clone, Debug)]
pub struct Latencies {
    histogram: Histogram<u64>,
}

impl Latencies {
    /// The longest time told apart: an hour, nanoseconds.
    pub const MAX: u64 = 3_600_000_000_000;
    /// Samples that must lie beyond a percentile before it says anything.
    pub const BEYOND: u64 = 10;

    /// None so far.
    #[must_use]
    pub fn new() -> Self {
        let histogram = Histogram::new_with_bounds(1, Self::MAX, 3).expect("the bounds are constants");
        Self { histogram }
    }

    /// One more sample, nanoseconds.
    #[inline]
    pub fn record(&mut self, nanoseconds: u64) {
        self.histogram.saturating_record(nanoseconds);
    }

    /// Adds all samples of `other`.
    pub fn add(&mut self, other: &Self) {
        self.histogram.add(&other.histogram).expect("both have the same bounds");
    }

    /// Forgets every sample.
    pub fn clear(&mut self) {
        self.histogram.reset();
    }

    /// How many samples there are.
    #[must_use]
    pub fn samples(&self) -> u64 {
        self.histogram.len()
    }

    /// The time, nanoseconds, that `percent` of the samples do not exceed; `None` when fewer than
    /// [`Self::BEYOND`] samples lie beyond it.
    #[must_use]
    pub fn percentile(&self, percent: f64) -> Option<u64> {
        let beyond = self.samples() as f64 * (1.0 - percent / 100.0);
        // The product is a binary fraction: 10,000 samples have 10 beyond p99.9, not 9.99999.
        let enough = beyond + 1e-6 >= Self::BEYOND as f64;
        enough.then(|| self.histogram.value_at_percentile(percent))
    }

    /// The longest sample, nanoseconds; `None` without samples.
    #[must_use]
    pub fn max(&self) -> Option<u64> {
        (self.samples() > 0).then(|| self.histogram.max())
    }

    /// The mean, nanoseconds; `None` without samples.
    #[must_use]
    pub fn mean(&self) -> Option<f64> {
        (self.samples() > 0).then(|| self.histogram.mean())
    }

    /// The histogram itself, for those who write it to a file.
    #[must_use]
    pub const fn histogram(&self) -> &Histogram<u64> {
        &self.histogram
    }
}

impl Default for Latencies {
    fn default() -> Self {
        Self::new()
    }
}
