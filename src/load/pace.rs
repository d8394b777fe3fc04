//! When the messages of an open loop should be sent. Every connection has a schedule of its own, and all
//! of them together the rate: the state of a schedule is its last time, one number, and no queue is kept.
//! Times are nanoseconds since the load began. Pure.
//!
//! Uniform times are computed from the message's number, which follows from the time before it, so that
//! nothing adds up over hours. The gaps of the Poisson schedule are drawn by hashing the time before.

use super::draw::draw;
use super::plan::Spacing;

/// The schedules of all connections of a load.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Pace {
    spacing: Spacing,
    connections: u32,
    /// Nanoseconds between two messages of the whole load, in units of 2^-[`FRACTION`].
    gap: u128,
    /// Nanoseconds between two messages of a connection, on average.
    period: f64,
    seed: u64,
}

/// Bits behind the point: at 10^9 messages a second a day is off by less than a microsecond.
const FRACTION: u32 = 40;
/// The longest gap between two messages of a load, nanoseconds: 36 years. It keeps every product in range.
const LONGEST: f64 = (1u64 << 60) as f64;

impl Pace {
    /// `rate` messages a second, over so many connections.
    ///
    /// # Panics
    /// Where the rate is not a positive number, or there is no connection: `check` refuses both.
    #[must_use]
    pub fn new(rate: f64, spacing: Spacing, connections: u32, seed: u64) -> Self {
        assert!(rate > 0.0 && rate.is_finite(), "a rate of {rate} messages a second");
        assert!(connections > 0, "no connection to send on");
        let unit = (1u64 << FRACTION) as f64;
        let gap = ((1e9 / rate).min(LONGEST) * unit).round();
        let period = gap / unit * f64::from(connections);
        let gap = gap as u128;
        Self { spacing, connections, gap, period, seed }
    }

    /// When a connection should send its first message.
    #[must_use]
    pub fn first(&self, connection: u32) -> u64 {
        match self.spacing {
            Spacing::Uniform => self.uniform(connection, 0),
            Spacing::Poisson => self.poisson(connection, 0),
        }
    }

    /// When a connection should send the message after the one of `previous`, a time that
    /// [`Self::first`] or this gave. The end of time, [`u64::MAX`], is followed by itself.
    #[must_use]
    pub fn next(&self, connection: u32, previous: u64) -> u64 {
        match self.spacing {
            Spacing::Uniform => {
                // Half a period on either side is more than all rounding together, from a period of some
                // nanoseconds on.
                let since = previous.saturating_sub(self.uniform(connection, 0));
                let number = (since as f64 / self.period).round() as u64;
                // Below that a time may repeat, but it must not stay.
                self.uniform(connection, number.saturating_add(1)).max(previous.saturating_add(1))
            }
            Spacing::Poisson => self.poisson(connection, previous),
        }
    }

    /// Calls `each` with the times of a connection from `from`, one of its own, until `end`, and how many
    /// messages lie there: one by one for the first `most` of them; the others, however many, evenly over
    /// the rest of the time, as many as are to be expected there.
    pub fn walk(&self, connection: u32, from: u64, end: u64, most: usize, mut each: impl FnMut(u64, u64)) {
        let mut time = from;
        for _ in 0..most {
            if time >= end {
                return;
            }
            each(time, 1);
            time = self.next(connection, time);
        }
        if time >= end {
            return;
        }
        let count = ((end - time) as f64 / self.period).ceil() as u64;
        let parts = (most as u64).clamp(1, count);
        let share = |of: u64, part: u64| (u128::from(of) * u128::from(part) / u128::from(parts)) as u64;
        for part in 0..parts {
            each(time + share(end - time, part), share(count, part + 1) - share(count, part));
        }
    }

    /// The time of message `number` of a connection: the connections take turns.
    fn uniform(&self, connection: u32, number: u64) -> u64 {
        let turn = u128::from(number) * u128::from(self.connections) + u128::from(connection);
        // To the nearest: cut off, the message of a window's last edge would fall into the window.
        let time = turn.checked_mul(self.gap).and_then(|time| time.checked_add(1 << (FRACTION - 1)));
        time.and_then(|time| u64::try_from(time >> FRACTION).ok()).unwrap_or(u64::MAX)
    }

    fn poisson(&self, connection: u32, previous: u64) -> u64 {
        let drawn = draw(self.seed, u64::from(connection), previous);
        // More than 0 and at most 1, so that it has a logarithm.
        let share = ((drawn >> 11) + 1) as f64 / (1u64 << 53) as f64;
        let gap = (-share.ln() * self.period).round();
        // At least 1: the same time would draw the same gap for ever.
        previous.saturating_add((gap as u64).max(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: u64 = 3_600_000_000_000;

    /// The times of a connection in a window.
    fn times(pace: Pace, connection: u32, begin: u64, end: u64) -> impl Iterator<Item = u64> {
        let all = std::iter::successors(Some(pace.first(connection)), move |&time| {
            Some(pace.next(connection, time))
        });
        all.skip_while(move |&time| time < begin).take_while(move |&time| time < end)
    }

    fn uniform(rate: f64, connections: u32) -> Pace {
        Pace::new(rate, Spacing::Uniform, connections, 0)
    }

    fn poisson(rate: f64, connections: u32, seed: u64) -> Pace {
        Pace::new(rate, Spacing::Poisson, connections, seed)
    }

    #[test]
    fn uniform_connections_take_turns() {
        let pace = uniform(1_000.0, 4);
        assert_eq!(times(pace, 0, 0, 10_000_000).collect::<Vec<_>>(), [0, 4_000_000, 8_000_000]);
        assert_eq!(times(pace, 3, 0, 10_000_000).collect::<Vec<_>>(), [3_000_000, 7_000_000]);
    }

    #[test]
    fn a_window_holds_exactly_its_share_of_uniform_messages() {
        for (rate, connections) in [(1_000.0, 7), (30_000.0, 100), (77_777.0, 13), (3.0, 1)] {
            let pace = uniform(rate, connections);
            let count: usize = (0..connections).map(|one| times(pace, one, 0, 1_000_000_000).count()).sum();
            assert_eq!(count as f64, rate, "{rate} over {connections}");
        }
    }

    #[test]
    fn uniform_times_do_not_drift_over_hours() {
        // 1,000,003 a second: a period with no end in any number system.
        let pace = uniform(1_000_003.0, 1_000);
        let mut time = pace.first(5);
        let mut number = 0u64;
        while time < HOUR {
            number += 1;
            time = pace.next(5, time);
        }
        let exact = (u128::from(number) * 1_000 + 5) * 1_000_000_000 / 1_000_003;
        assert!(u128::from(time).abs_diff(exact) <= 2, "{time} instead of {exact}");
        // And ten hours later, from a time alone.
        let number = 36_000_108;
        let exact = |number: u64| ((u128::from(number) * 1_000 + 5) * 1_000_000_000 / 1_000_003) as u64;
        assert!(pace.next(5, exact(number)).abs_diff(exact(number + 1)) <= 2);
    }

    #[test]
    fn the_message_after_any_other_is_found_from_its_time_alone() {
        // Gaps of about a nanosecond and a half, ten hours on: the number has 45 bits.
        let pace = uniform(7e8, 1);
        for number in [0, 1, 1_000_000, 25_200_000_000_000] {
            assert_eq!(pace.next(0, pace.uniform(0, number)), pace.uniform(0, number + 1), "{number}");
        }
    }

    #[test]
    fn uniform_times_go_on_at_the_highest_rates() {
        let pace = uniform(1e9, 1);
        assert_eq!(times(pace, 0, 0, 1_000).count(), 1_000);
        let pace = uniform(1e12, 1);
        let mut all = times(pace, 0, 0, 1_000);
        let mut before = all.next().expect("a first time");
        assert!(all.all(|time| std::mem::replace(&mut before, time) < time));
    }

    #[test]
    fn poisson_gaps_have_the_mean_and_the_variance_of_an_exponential() {
        // 200 a second on each connection: a mean of 5 ms.
        let pace = poisson(2_000.0, 10, 42);
        let times: Vec<u64> = times(pace, 3, 0, HOUR / 6).collect();
        let gaps: Vec<f64> = times.windows(2).map(|pair| (pair[1] - pair[0]) as f64 / 5e6).collect();
        let count = gaps.len() as f64;
        let mean = gaps.iter().sum::<f64>() / count;
        let variance = gaps.iter().map(|gap| (gap - mean).powi(2)).sum::<f64>() / count;
        let long = gaps.iter().filter(|&&gap| gap > 3.0).count() as f64 / count;
        // Five standard deviations of 120,000 gaps: the variance of an exponential's variance is 8.
        assert!((mean - 1.0).abs() < 0.015, "{mean}");
        assert!((variance - 1.0).abs() < 0.041, "{variance}");
        assert!((long - (-3.0f64).exp()).abs() < 0.0032, "{long}");
    }

    #[test]
    fn a_poisson_gap_tells_nothing_of_the_next() {
        let pace = poisson(1_000.0, 1, 1);
        let times: Vec<u64> = times(pace, 0, 0, 100_000_000_000).collect();
        let gaps: Vec<f64> = times.windows(2).map(|pair| (pair[1] - pair[0]) as f64 / 1e6 - 1.0).collect();
        let product: f64 = gaps.windows(2).map(|pair| pair[0] * pair[1]).sum();
        assert!((product / gaps.len() as f64).abs() < 0.016, "{product}");
    }

    #[test]
    fn all_poisson_connections_together_are_poisson_again() {
        // 50 connections of 200 a second: 10 a millisecond, with a variance as large as the mean.
        let pace = poisson(10_000.0, 50, 9);
        let mut counts = vec![0u32; 20_000];
        for connection in 0..50 {
            times(pace, connection, 0, 20_000_000_000)
                .for_each(|time| counts[(time / 1_000_000) as usize] += 1);
        }
        let count = counts.len() as f64;
        let mean = counts.iter().copied().map(f64::from).sum::<f64>() / count;
        let variance = counts.iter().map(|&count| (f64::from(count) - mean).powi(2)).sum::<f64>() / count;
        assert!((mean - 10.0).abs() < 0.12, "{mean}");
        assert!((variance / mean - 1.0).abs() < 0.06, "{variance} of {mean}");
    }

    #[test]
    fn a_walk_meets_every_time_of_a_connection() {
        const SECOND: u64 = 1_000_000_000;
        for pace in [uniform(77_777.0, 13), poisson(50_000.0, 3, 5)] {
            let all: Vec<u64> = times(pace, 1, 0, SECOND).collect();
            let mut met = Vec::new();
            pace.walk(1, pace.first(1), SECOND, usize::MAX, |time, count| met.push((time, count)));
            assert!(met.iter().all(|&(_, count)| count == 1));
            assert_eq!(met.into_iter().map(|(time, _)| time).collect::<Vec<_>>(), all);
            pace.walk(1, SECOND, SECOND, usize::MAX, |time, _| panic!("{time} is no time before the end"));
        }
    }

    #[test]
    fn a_long_walk_meets_as_many_times_as_there_are_and_where_they_are() {
        const SECOND: u64 = 1_000_000_000;
        for (pace, off) in [(uniform(77_777.0, 13), 1), (poisson(50_000.0, 3, 5), 600)] {
            let mut met = Vec::new();
            pace.walk(1, pace.first(1), SECOND, 100, |time, count| met.push((time, count)));
            assert!(met.len() == 200 && met.is_sorted() && met[199].0 < SECOND, "{met:?}");
            let until = |end: u64| times(pace, 1, 0, end).count() as u64;
            for end in [SECOND / 2, SECOND] {
                let count: u64 = met.iter().filter(|(time, _)| *time < end).map(|(_, count)| count).sum();
                // A part of the walk lies on both sides of the half.
                assert!(
                    count.abs_diff(until(end)) <= off + until(SECOND) / 90,
                    "{pace:?}: {count} before {end}"
                );
            }
            let count: u64 = met.iter().map(|(_, count)| count).sum();
            assert!(count.abs_diff(until(SECOND)) <= off, "{pace:?}: {count} of {}", until(SECOND));
        }
    }

    #[test]
    fn a_seed_is_a_schedule() {
        let first = |seed| poisson(100.0, 2, seed).first(1);
        assert_eq!(first(1), first(1));
        assert_ne!(first(1), first(2));
        assert_ne!(poisson(100.0, 2, 1).first(0), poisson(100.0, 2, 1).first(1));
    }

    #[test]
    fn no_rate_and_no_number_of_connections_overflows() {
        for rate in [f64::MIN_POSITIVE, 1e-9, 1.0, 1e9, 1e30] {
            for connections in [1, u32::MAX] {
                for pace in [uniform(rate, connections), poisson(rate, connections, 0)] {
                    for connection in [0, connections - 1] {
                        let mut time = pace.first(connection);
                        for _ in 0..10 {
                            let next = pace.next(connection, time);
                            assert!(next > time || next == u64::MAX, "{pace:?}: {next} after {time}");
                            time = next;
                        }
                        assert_eq!(pace.next(connection, u64::MAX), u64::MAX, "{pace:?}");
                    }
                }
            }
        }
    }
}
