//! The search for the highest rate at which a condition holds: doubled until it fails, then halved
//! in ratio until the last rate that held and the first that failed are 2 % apart. A rate that failed
//! is measured once more before it is believed: one disturbance must not decide the answer. Pure; it
//! only says what to measure next.

/// A search in progress.
#[derive(Clone, Debug)]
pub struct Search {
    steps: Vec<Step>,
    /// The highest rate that held.
    held: Option<f64>,
    /// The lowest rate that failed for good.
    failed: Option<f64>,
    next: Option<f64>,
}

/// One measurement.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Step {
    /// Messages a second that were asked for.
    pub rate: f64,
    /// Whether the condition held.
    pub held: bool,
}

/// What a search came to.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Knee {
    /// The condition holds at `held`, and no longer at `failed`, at most 2 % above it.
    Between {
        /// Messages a second.
        held: f64,
        /// Messages a second.
        failed: f64,
    },
    /// The condition still held at the highest rate that was tried, messages a second.
    Above(f64),
    /// The condition did not even hold at the lowest rate that was tried, messages a second.
    Below(f64),
}

impl Search {
    /// How near to each other the two rates of the answer are.
    pub const PRECISION: f64 = 1.02;
    /// Measurements, at most.
    pub const STEPS: usize = 48;
    /// The rates that are tried, messages a second.
    pub const RATES: (f64, f64) = (1.0, 1e9);

    /// A search that begins with this rate, messages a second.
    #[must_use]
    pub fn from(rate: f64) -> Self {
        let rate = rate.clamp(Self::RATES.0, Self::RATES.1);
        Self { steps: Vec::new(), held: None, failed: None, next: Some(rate) }
    }

    /// The rate to measure now, messages a second; `None` when the search is over.
    #[must_use]
    pub const fn next(&self) -> Option<f64> {
        self.next
    }

    /// The measurement of [`Self::next`] is made. `held` is false also where the rate was not reached.
    ///
    /// # Panics
    /// When the search is over.
    pub fn answer(&mut self, held: bool) {
        let rate = self.next.take().expect("the search is not over");
        let again = self.steps.last().is_some_and(|last| last.rate == rate);
        self.steps.push(Step { rate, held });
        // As long as nothing has held, the edge is not near.
        let doubtful = !held && !again && (self.held.is_some() || self.failed.is_none());
        if held {
            self.held = Some(rate);
        } else if !doubtful {
            self.failed = Some(rate);
        }
        let next = if doubtful { Some(rate) } else { self.further() };
        self.next = next.filter(|_| self.steps.len() < Self::STEPS);
    }

    /// What was measured, in order.
    #[must_use]
    pub fn steps(&self) -> &[Step] {
        &self.steps
    }

    /// What came out; before the search is over, what is known so far. `None` without a measurement.
    #[must_use]
    pub fn knee(&self) -> Option<Knee> {
        match (self.held, self.failed) {
            (Some(held), Some(failed)) => Some(Knee::Between { held, failed }),
            (Some(held), None) => Some(Knee::Above(held)),
            (None, Some(failed)) => Some(Knee::Below(failed)),
            (None, None) => self.steps.first().map(|step| Knee::Below(step.rate)),
        }
    }

    fn further(&self) -> Option<f64> {
        let (least, most) = Self::RATES;
        match (self.held, self.failed) {
            (Some(held), None) => (held < most).then(|| (held * 2.0).min(most)),
            (None, Some(failed)) => (failed > least).then(|| (failed / 2.0).max(least)),
            (Some(held), Some(failed)) if failed / held > Self::PRECISION => Some((held * failed).sqrt()),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs a search against a server that holds up to a rate, disturbed at some measurements.
    fn run(begin: f64, holds: impl Fn(f64) -> bool, disturbed: &[usize]) -> Search {
        let mut search = Search::from(begin);
        for measurement in 0.. {
            let Some(rate) = search.next() else { break };
            search.answer(holds(rate) && !disturbed.contains(&measurement));
        }
        search
    }

    fn assert_knee(search: &Search, edge: f64) {
        let Some(Knee::Between { held, failed }) = search.knee() else { panic!("{search:?}") };
        assert!(held <= edge && edge < failed && failed / held <= Search::PRECISION, "{search:?}");
    }

    #[test]
    fn the_knee_is_found_to_two_per_cent_from_wherever_the_search_begins() {
        for edge in [1.5, 777.0, 123_456.0, 8e6] {
            for begin in [1.0, 1_000.0, 1e6, 1e9] {
                let search = run(begin, |rate| rate <= edge, &[]);
                assert_knee(&search, edge);
                assert!(search.steps().len() < Search::STEPS, "{}", search.steps().len());
            }
        }
    }

    #[test]
    fn no_rate_is_measured_more_than_twice_and_one_that_held_never_again() {
        let search = run(10_000.0, |rate| rate <= 123_456.0, &[]);
        for step in search.steps() {
            let times = search.steps().iter().filter(|other| other.rate == step.rate).count();
            assert_eq!(times, if step.held { 1 } else { 2 }, "{step:?}");
        }
        // Halved in ratio: a per cent is a per cent at either end.
        assert!(
            search.steps().iter().any(|step| (step.rate - 80_000.0 * 2.0f64.sqrt()).abs() < 1.0),
            "{search:?}"
        );
        // 4 doublings, a failure twice, and 6 halvings of at most two measurements each.
        assert!(search.steps().len() <= 4 + 2 + 12, "{}", search.steps().len());
    }

    #[test]
    fn one_disturbance_does_not_move_the_knee() {
        let edge = 123_456.0;
        let steps = run(10_000.0, |rate| rate <= edge, &[]).steps().len();
        for disturbed in 0..steps {
            assert_knee(&run(10_000.0, |rate| rate <= edge, &[disturbed]), edge);
        }
    }

    #[test]
    fn a_search_that_begins_far_too_high_wastes_no_second_look_on_the_way_down() {
        let search = run(1e6, |rate| rate <= 20_000.0, &[]);
        let rates: Vec<f64> = search.steps().iter().take(5).map(|step| step.rate).collect();
        assert_eq!(rates, [1e6, 1e6, 5e5, 2.5e5, 1.25e5]);
        assert_knee(&search, 20_000.0);
    }

    #[test]
    fn what_always_or_never_holds_has_no_knee_and_an_end() {
        assert_eq!(run(1_000.0, |_| true, &[]).knee(), Some(Knee::Above(1e9)));
        assert_eq!(run(1_000.0, |_| false, &[]).knee(), Some(Knee::Below(1.0)));
        assert_eq!(Search::from(5.0).knee(), None);
        let mut search = Search::from(5.0);
        search.answer(false);
        assert_eq!((search.knee(), search.next()), (Some(Knee::Below(5.0)), Some(5.0)));
    }

    #[test]
    fn a_server_that_answers_at_random_is_let_go_after_a_bounded_number_of_steps() {
        for seed in 0..200 {
            let mut random = fastrand::Rng::with_seed(seed);
            let mut search = Search::from(1e5);
            while search.next().is_some() {
                search.answer(random.bool());
            }
            assert!(search.steps().len() <= Search::STEPS);
            if let Some(Knee::Between { held, failed }) = search.knee() {
                assert!(held < failed, "{search:?}");
            }
        }
    }
}
