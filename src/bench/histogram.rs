//! The latencies of many slices as one curve: histograms are added up, percentiles never averaged.

use crate::result::bench::{Curve, CurvePoint};
use crate::statistics::Latencies;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hdrhistogram::Histogram;
use hdrhistogram::serialization::Deserializer;

/// Where a curve has its points.
const PERCENTILES: [f64; 16] =
    [1.0, 10.0, 25.0, 50.0, 75.0, 90.0, 95.0, 97.5, 99.0, 99.5, 99.75, 99.9, 99.95, 99.99, 99.995, 99.999];

/// The curve of these slices' histograms, as they are kept. Those that cannot be read are left out.
#[must_use]
pub fn curve<'a>(kept: impl Iterator<Item = &'a str>) -> Curve {
    let mut sum = Latencies::new();
    for blob in kept.flat_map(str::split_whitespace) {
        let decoded = STANDARD.decode(blob).ok();
        let read: Option<Histogram<u64>> =
            decoded.and_then(|bytes| Deserializer::new().deserialize(&mut bytes.as_slice()).ok());
        let Some(read) = read else { continue };
        for step in read.iter_recorded() {
            sum.record_many(step.value_iterated_to(), step.count_at_value());
        }
    }
    let points = PERCENTILES.iter().filter_map(|&percentile| {
        let us = sum.percentile(percentile)? as f64 / 1e3;
        Some(CurvePoint { percentile, us })
    });
    Curve { samples: sum.samples(), points: points.collect() }
}
