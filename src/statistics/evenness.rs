//! How evenly something was shared, and how much of it there was at once.

/// Jain's index of fairness: 1 where all of `count` got the same, 1/`count` where one got everything.
/// From the sum of what they got and the sum of its squares; `None` where nobody got anything.
#[must_use]
pub fn jain(count: u64, sum: f64, sum_of_squares: f64) -> Option<f64> {
    (count > 0 && sum_of_squares > 0.0).then(|| sum * sum / (count as f64 * sum_of_squares))
}

/// How many were under way at once, on average: so many came a second, and each stayed so many seconds
/// (Little's law).
#[must_use]
pub fn in_flight(per_second: f64, seconds: f64) -> f64 {
    per_second * seconds
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(shares: &[f64]) -> Option<f64> {
        jain(shares.len() as u64, shares.iter().sum(), shares.iter().map(|share| share * share).sum())
    }

    #[test]
    fn jains_index_is_one_for_equal_shares_and_the_share_of_the_served_otherwise() {
        assert_eq!(of(&[5.0; 8]), Some(1.0));
        assert_eq!(of(&[0.0, 0.0, 0.0, 7.0]), Some(0.25));
        assert_eq!(of(&[1.0, 1.0, 0.0, 0.0]), Some(0.5));
        assert_eq!(of(&[1.0, 2.0, 3.0]), Some(36.0 / 42.0));
        assert_eq!(of(&[]), None);
        assert_eq!(of(&[0.0, 0.0]), None);
    }

    #[test]
    fn littles_law_counts_what_is_under_way() {
        assert_eq!(in_flight(2_000.0, 0.032), 64.0);
    }
}
