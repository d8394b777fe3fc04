//! From a number to a place on an axis, and the numbers that are written along it. Pure.

/// A logarithmic axis.
#[derive(Clone, Copy, Debug)]
pub(super) struct Scale {
    /// The numbers at its ends, both positive, the first the smaller.
    numbers: (f64, f64),
    /// Where they stand.
    pixels: (f64, f64),
}

/// The numbers a ratio's axis may show.
const RATIOS: [f64; 31] = [
    0.01, 0.02, 0.05, 0.1, 0.2, 0.25, 0.33, 0.4, 0.5, 0.6, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95, 1.0, 1.05, 1.1,
    1.15, 1.2, 1.25, 1.33, 1.5, 1.75, 2.0, 2.5, 3.0, 4.0, 5.0, 10.0,
];

impl Scale {
    pub(super) fn new(numbers: (f64, f64), pixels: (f64, f64)) -> Self {
        assert!(numbers.0 > 0.0 && numbers.1 > numbers.0, "an axis from {} to {}", numbers.0, numbers.1);
        Self { numbers, pixels }
    }

    /// Where a positive number stands; one beyond an end, at that end.
    pub(super) fn at(&self, number: f64) -> f64 {
        let (low, high) = self.numbers;
        let share = (number.clamp(low, high) / low).ln() / (high / low).ln();
        self.pixels.0 + share * (self.pixels.1 - self.pixels.0)
    }

    pub(super) fn holds(&self, number: f64) -> bool {
        number >= self.numbers.0 && number <= self.numbers.1
    }

    /// Ratios to write along it, 1 always among them, none nearer to the next than `apart` pixels.
    pub(super) fn ratios(&self, apart: f64) -> Vec<f64> {
        let mut ticks = vec![1.0];
        // Round ones first, so that a crowded axis keeps those.
        let mut candidates: Vec<f64> = RATIOS.into_iter().filter(|ratio| self.holds(*ratio)).collect();
        candidates.sort_by_key(|ratio| RATIO_RANKS.iter().position(|round| round == ratio).unwrap_or(99));
        for ratio in candidates {
            if ticks.iter().all(|tick| (self.at(*tick) - self.at(ratio)).abs() >= apart) {
                ticks.push(ratio);
            }
        }
        ticks.sort_by(f64::total_cmp);
        ticks
    }

    /// 1, 2 and 5 times powers of ten; those powers alone where that is too many, and every digit where
    /// it is too few.
    pub(super) fn decades(&self, apart: f64) -> Vec<f64> {
        let numbers = |steps: &[f64]| -> Vec<f64> {
            let from = self.numbers.0.log10().floor() as i32;
            let to = self.numbers.1.log10().ceil() as i32;
            (from..=to)
                .flat_map(|power| steps.iter().map(move |step| step * 10f64.powi(power)))
                .filter(|number| self.holds(*number))
                .collect()
        };
        let room = (self.pixels.1 - self.pixels.0).abs();
        let fits = |numbers: &[f64]| numbers.len() as f64 * apart <= room;
        let (usual, every) = (numbers(&[1.0, 2.0, 5.0]), numbers(&DIGITS));
        match usual.len() {
            0..3 if fits(&every) => every,
            _ if fits(&usual) => usual,
            _ => numbers(&[1.0]),
        }
    }
}

const DIGITS: [f64; 10] = [1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0];
/// The roundest ratios, in that order.
const RATIO_RANKS: [f64; 12] = [1.0, 0.5, 2.0, 0.8, 1.25, 0.9, 1.1, 0.1, 10.0, 0.25, 4.0, 0.7];

/// An axis for ratios: all of these with some air, 0.9 to 1.1 at least.
pub(super) fn of_ratios(numbers: impl Iterator<Item = f64>, pixels: (f64, f64)) -> Scale {
    let (low, high) = numbers.fold((0.9f64, 1.1f64), |(low, high), ratio| (low.min(ratio), high.max(ratio)));
    let air = (high / low).powf(0.05);
    Scale::new((low / air, high * air), pixels)
}

/// An axis for amounts; `None` where there is none.
pub(super) fn of_amounts(numbers: impl Iterator<Item = f64>, pixels: (f64, f64)) -> Option<Scale> {
    let sound = numbers.filter(|number| number.is_finite() && *number > 0.0);
    let ends = sound.fold(None, |ends: Option<(f64, f64)>, number| {
        let (low, high) = ends.unwrap_or((number, number));
        Some((low.min(number), high.max(number)))
    });
    let (low, high) = ends?;
    let air = (high / low).powf(0.06).max(1.1);
    Some(Scale::new((low / air, high * air), pixels))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_stands_in_the_middle_of_an_axis_that_is_even_on_both_sides() {
        let scale = Scale::new((0.5, 2.0), (100.0, 300.0));
        assert!((scale.at(1.0) - 200.0).abs() < 1e-9);
        assert!((scale.at(0.01) - 100.0).abs() < 1e-9, "what lies beyond stands at the end");
    }

    #[test]
    fn numbers_along_an_axis_keep_their_distance_and_one_is_there() {
        for ends in [(0.85, 1.2), (0.98, 1.02), (0.05, 20.0), (0.9, 1.1)] {
            let scale = Scale::new(ends, (0.0, 400.0));
            let ticks = scale.ratios(40.0);
            assert!(ticks.contains(&1.0), "{ends:?}: {ticks:?}");
            assert!(ticks.windows(2).all(|pair| scale.at(pair[1]) - scale.at(pair[0]) >= 40.0), "{ticks:?}");
        }
    }

    #[test]
    fn an_axis_of_amounts_takes_one_number_and_refuses_none() {
        let scale = of_amounts([5.0].into_iter(), (0.0, 100.0)).unwrap();
        assert!((scale.at(5.0) - 50.0).abs() < 1e-6 && scale.decades(20.0).contains(&5.0));
        assert!(of_amounts([0.0, f64::NAN].into_iter(), (0.0, 1.0)).is_none());
        let narrow = of_amounts([4_649.0, 8_904.0].into_iter(), (0.0, 176.0)).unwrap();
        assert_eq!(narrow.decades(22.0), [5_000.0, 6_000.0, 7_000.0, 8_000.0, 9_000.0]);
    }
}
