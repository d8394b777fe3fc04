//! By what factor one set of positive numbers lies above another when the two were not taken in pairs:
//! ratios measured on different machines, kernels or days. Hodges and Lehmann's estimate, the median of all
//! quotients, with the interval of Mann and Whitney's test; both are order statistics, so nothing is
//! assumed of how the numbers are distributed but that the two sets differ by a factor. Pure.

/// A factor with its interval.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Factor {
    /// The median of all quotients.
    pub median: f64,
    /// The lower end of the interval.
    pub low: f64,
    /// The upper end of the interval.
    pub high: f64,
    /// How often such an interval covers the truth, at least: 0.95, less where there are too few numbers
    /// for that and the whole range is given.
    pub confidence: f64,
}

/// What the interval is to cover.
const CONFIDENCE: f64 = 0.95;
/// Up to so many numbers a side the distribution is counted out; above, the normal one is as good.
const EXACT: usize = 30;

/// By what factor `later` lies above `earlier`. `None` where a side has fewer than two numbers, or one
/// that is not positive.
#[must_use]
pub fn factor(later: &[f64], earlier: &[f64]) -> Option<Factor> {
    let sound = |numbers: &[f64]| {
        numbers.len() >= 2 && numbers.iter().all(|number| number.is_finite() && *number > 0.0)
    };
    if !sound(later) || !sound(earlier) {
        return None;
    }
    let mut quotients: Vec<f64> =
        later.iter().flat_map(|later| earlier.iter().map(move |earlier| later / earlier)).collect();
    quotients.sort_by(f64::total_cmp);
    let (cut, confidence) = cut(later.len(), earlier.len());
    let middle = quotients.len() / 2;
    let median = match quotients.len() % 2 {
        1 => quotients[middle],
        // The geometric mean, so that swapping the sides inverts the factor.
        _ => (quotients[middle - 1] * quotients[middle]).sqrt(),
    };
    Some(Factor { median, low: quotients[cut], high: quotients[quotients.len() - 1 - cut], confidence })
}

/// How many quotients may be left out at each end, and what the interval then covers.
fn cut(later: usize, earlier: usize) -> (usize, f64) {
    let tail = (1.0 - CONFIDENCE) / 2.0;
    if later.max(earlier) > EXACT {
        let product = later as f64 * earlier as f64;
        let deviation = (product * (later + earlier + 1) as f64 / 12.0).sqrt();
        return ((product / 2.0 - 1.96 * deviation - 0.5).max(0.0) as usize, CONFIDENCE);
    }
    let probabilities = mann_whitney(later, earlier);
    let mut below = 0.0;
    let mut cut = 0;
    while below + probabilities[cut] <= tail {
        below += probabilities[cut];
        cut += 1;
    }
    // With `cut` values left out, the interval misses where U is below `cut`; with none, where it is 0.
    match cut {
        0 => (0, 1.0 - 2.0 * probabilities[0]),
        cut => (cut - 1, 1.0 - 2.0 * below),
    }
}

/// The probability of each value of Mann and Whitney's U where both sides are alike: the largest number
/// of all belongs to one side or the other, and what is left is the same question for one number less.
fn mann_whitney(later: usize, earlier: usize) -> Vec<f64> {
    // Row by row: the distributions for `left` numbers of the one side and 0, 1, … of the other.
    let mut row: Vec<Vec<f64>> = vec![vec![1.0]; earlier + 1];
    for left in 1..=later {
        let mut next = vec![vec![1.0]];
        for right in 1..=earlier {
            let mut sum = vec![0.0; left * right + 1];
            let share = left as f64 / (left + right) as f64;
            for (value, probability) in row[right].iter().enumerate() {
                sum[value + right] += share * probability;
            }
            for (value, probability) in next[right - 1].iter().enumerate() {
                sum[value] += (1.0 - share) * probability;
            }
            next.push(sum);
        }
        row = next;
    }
    row.swap_remove(earlier)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_distribution_is_the_one_of_the_tables() {
        // Three against three: 20 orders, of which 1, 1, 2, 3, 3, 3, 3, 2, 1, 1 have U = 0, 1, …
        let counts: Vec<f64> = mann_whitney(3, 3).iter().map(|share| (share * 20.0).round()).collect();
        assert_eq!(counts, [1.0, 1.0, 2.0, 3.0, 3.0, 3.0, 3.0, 2.0, 1.0, 1.0]);
        let sum: f64 = mann_whitney(30, 7).iter().sum();
        assert!((sum - 1.0).abs() < 1e-9);
    }

    #[test]
    fn the_interval_is_the_one_of_the_tables() {
        // The critical value of U at 5 %, two-sided, for 6 and 6 is 5, for 10 and 10 it is 23, for 5 and 8 it is 6.
        for (sides, critical) in [((6, 6), 5), ((10, 10), 23), ((5, 8), 6)] {
            let (cut, confidence) = cut(sides.0, sides.1);
            assert_eq!(cut, critical, "{sides:?}");
            assert!((0.95..0.975).contains(&confidence), "{sides:?}: {confidence}");
        }
        // Three against three cannot reach 95 %.
        let (cut, confidence) = cut(3, 3);
        assert_eq!((cut, (confidence * 100.0).round()), (0, 90.0));
    }

    #[test]
    fn where_counting_ends_the_normal_distribution_goes_on() {
        let (exact, _) = cut(30, 30);
        let (normal, _) = cut(31, 31);
        assert!(exact.abs_diff(normal) < 40 && normal > exact, "{exact} {normal}");
    }

    #[test]
    fn a_factor_is_found_and_swapping_the_sides_inverts_it() {
        let earlier = [0.98, 1.0, 1.01, 0.99, 1.02, 1.0];
        let later: Vec<f64> = earlier.iter().map(|ratio| ratio * 0.9).collect();
        let found = factor(&later, &earlier).unwrap();
        assert!((found.median - 0.9).abs() < 1e-9 && found.low < 0.9 && found.high > 0.9, "{found:?}");
        assert!(found.high < 1.0, "a tenth less is seen: {found:?}");
        let back = factor(&earlier, &later).unwrap();
        assert!((back.median * found.median - 1.0).abs() < 1e-9);
        assert!((back.low * found.high - 1.0).abs() < 1e-9);
    }

    #[test]
    fn the_interval_covers_the_truth_as_often_as_it_says() {
        let mut random = fastrand::Rng::with_seed(7);
        let mut draw = |count: usize, centre: f64| -> Vec<f64> {
            (0..count).map(|_| centre * (0.08 * (random.f64() - random.f64())).exp()).collect()
        };
        let mut missed = 0;
        for _ in 0..2_000 {
            let found = factor(&draw(8, 0.87), &draw(11, 0.93)).unwrap();
            let truth = 0.87 / 0.93;
            missed += u32::from(truth < found.low || truth > found.high);
        }
        // 5 % would be 100.
        assert!((40..=115).contains(&missed), "{missed} of 2000");
    }

    #[test]
    fn what_is_no_ratio_gives_no_factor() {
        for wrong in [&[1.0][..], &[], &[1.0, 0.0], &[1.0, f64::NAN], &[1.0, -1.0]] {
            assert_eq!(factor(wrong, &[1.0, 1.0]), None, "{wrong:?}");
            assert_eq!(factor(&[1.0, 1.0], wrong), None, "{wrong:?}");
        }
    }
}
