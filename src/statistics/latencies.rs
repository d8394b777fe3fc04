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

    /// Records `count` samples of the same time, nanoseconds.
    pub fn record_many(&mut self, nanoseconds: u64, count: u64) {
        self.histogram.saturating_record_n(nanoseconds, count);
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

#[cfg(test)]
mod tests {
    use super::*;
    use fastrand::Rng;

    fn of(samples: impl IntoIterator<Item = u64>) -> Latencies {
        let mut latencies = Latencies::new();
        samples.into_iter().for_each(|sample| latencies.record(sample));
        latencies
    }

    /// Whether a time is the exact one, as far as three digits go.
    fn is_about(got: Option<u64>, exact: u64) -> bool {
        got.is_some_and(|got| got.abs_diff(exact) as f64 <= exact as f64 / 1_000.0)
    }

    #[test]
    fn percentiles_are_those_of_the_sorted_list() {
        let mut random = Rng::with_seed(3);
        let mut sample = || {
            let most = 1 << random.u32(10..33);
            1_000 + random.u64(0..most)
        };
        let mut samples: Vec<u64> = (0..100_000).map(|_| sample()).collect();
        let latencies = of(samples.iter().copied());
        samples.sort_unstable();
        for (percent, rank) in
            [(50.0, 50_000), (90.0, 90_000), (99.0, 99_000), (99.9, 99_900), (99.99, 99_990)]
        {
            let (got, exact) = (latencies.percentile(percent), samples[rank - 1]);
            assert!(is_about(got, exact), "p{percent}: {got:?} instead of {exact}");
        }
        assert!(is_about(latencies.max(), samples[99_999]));
        let mean = samples.iter().map(|&sample| sample as f64).sum::<f64>() / 1e5;
        assert!((latencies.mean().expect("samples") / mean - 1.0).abs() < 0.001);
    }

    #[test]
    fn many_samples_of_a_time_are_so_many_samples() {
        let (mut many, mut one_by_one) = (of([1_000]), of([1_000]));
        many.record_many(5_000_000, 99);
        (0..99).for_each(|_| one_by_one.record(5_000_000));
        assert_eq!(many.histogram(), one_by_one.histogram());
    }

    #[test]
    fn a_percentile_needs_ten_samples_beyond_it() {
        for (percent, enough) in [(50.0, 20), (90.0, 100), (99.0, 1_000), (99.9, 10_000), (99.99, 100_000)] {
            assert!(of(1..=enough).percentile(percent).is_some(), "p{percent} of {enough}");
            assert_eq!(of(1..enough).percentile(percent), None, "p{percent} of {}", enough - 1);
        }
        assert_eq!(of(1..=1_000_000).percentile(100.0), None);
        assert_eq!(Latencies::new().percentile(0.0), None);
    }

    #[test]
    fn without_samples_there_is_nothing_to_say() {
        let mut latencies = of([5]);
        latencies.clear();
        assert_eq!((latencies.samples(), latencies.max(), latencies.mean()), (0, None, None));
    }

    #[test]
    fn distributions_of_threads_add_up_to_that_of_all_samples() {
        // One thread fast, one slow: the mean of their percentiles would be neither.
        let (fast, slow) = (10_000..20_000u64, 1_000_000..1_002_000u64);
        let mut sum = of(fast.clone());
        sum.add(&of(slow.clone()));
        let all = of(fast.chain(slow));
        assert_eq!(sum.histogram(), all.histogram());
        assert!(is_about(sum.percentile(50.0), 16_000));
        assert!(is_about(sum.percentile(90.0), 1_000_800));
    }

    #[test]
    fn what_is_longer_than_an_hour_counts_as_an_hour() {
        let latencies = of([0, u64::MAX]);
        assert_eq!(latencies.samples(), 2);
        assert!(is_about(latencies.max(), Latencies::MAX));
    }
}
