//! Distributions of latencies: percentiles along an axis on which each further nine is as wide as the one
//! before, 1/(1 − p), and times up a logarithmic one.

use super::scale::{self, Scale};
use super::svg::{Anchor, Svg, shortened};
use crate::report::numbers;
use crate::result::bench::CurvePoint;

/// One curve.
#[derive(Clone, Debug, PartialEq)]
pub struct Series {
    /// What it is called.
    pub name: String,
    /// Its points, percentiles rising.
    pub points: Vec<CurvePoint>,
}

const WIDTH: f64 = 920.0;
const HEIGHT: f64 = 330.0;
const PLOT: ((f64, f64), (f64, f64)) = ((64.0, 690.0), (288.0, 16.0));
const NAMED: [f64; 7] = [50.0, 90.0, 99.0, 99.9, 99.99, 99.999, 99.9999];

/// The picture.
#[must_use]
pub fn svg(id: &str, title: &str, description: &str, series: &[Series]) -> String {
    let ((left, right), (bottom, top)) = PLOT;
    let points = || series.iter().flat_map(|series| &series.points).filter(|point| sound(point));
    let mut picture = Svg::new();
    let Some(times) = scale::of_amounts(points().map(|point| point.us), (bottom, top)) else {
        picture.text("note", (left, top + 20.0), Anchor::Start, "no percentile has samples enough");
        return picture.finish(id, title, description, (WIDTH, 60.0));
    };
    let last = points().map(|point| nines(point.percentile)).fold(nines(90.0), f64::max);
    let across = |percentile: f64| left + nines(percentile) / last * (right - left);
    for tick in times.decades(26.0) {
        let y = times.at(tick);
        picture.line("grid", (left, y), (right, y));
        picture.text("tick", (left - 8.0, y + 4.0), Anchor::End, &time(tick));
    }
    for percentile in NAMED.into_iter().filter(|percentile| nines(*percentile) <= last + 1e-9) {
        let x = across(percentile);
        picture.line("grid", (x, bottom), (x, top));
        picture.text("tick", (x, bottom + 18.0), Anchor::Middle, &numbers::percentile(percentile));
    }
    picture.line("axis", (left, bottom), (right, bottom));
    for (index, series) in series.iter().enumerate() {
        curve(&mut picture, index, series, &times, &across);
    }
    names(&mut picture, series, &times);
    picture.finish(id, title, description, (WIDTH, HEIGHT - 16.0))
}

fn curve(picture: &mut Svg, index: usize, series: &Series, times: &Scale, across: &dyn Fn(f64) -> f64) {
    let points: Vec<&CurvePoint> = series.points.iter().filter(|point| sound(point)).collect();
    let places: Vec<(f64, f64)> =
        points.iter().map(|point| (across(point.percentile), times.at(point.us))).collect();
    picture.path(&format!("curve series-{}", index % 4), &places);
    // Many points need no mark each; those that have a name do.
    let few = points.len() <= 12;
    for (point, place) in points.iter().zip(&places) {
        if few || NAMED.contains(&point.percentile) {
            picture.mark(index, &format!("mark series-{}", index % 4), *place, 4.5);
        }
    }
}

/// The names at the ends of the curves, moved apart where they would touch.
fn names(picture: &mut Svg, series: &[Series], times: &Scale) {
    let ((_, right), (bottom, _)) = PLOT;
    let end = |series: &Series| series.points.iter().rfind(|point| sound(point)).map(|point| point.us);
    let mut ends: Vec<(f64, usize)> = series
        .iter()
        .enumerate()
        .filter_map(|(index, series)| Some((times.at(end(series)?), index)))
        .collect();
    ends.sort_by(|one, other| one.0.total_cmp(&other.0));
    for at in 1..ends.len() {
        ends[at].0 = ends[at].0.max(ends[at - 1].0 + 20.0);
    }
    let beyond = ends.last().map_or(0.0, |(y, _)| (y - bottom).max(0.0));
    for (y, index) in ends {
        let y = y - beyond;
        picture.line(&format!("curve series-{}", index % 4), (right + 10.0, y), (right + 36.0, y));
        picture.mark(index, &format!("mark series-{}", index % 4), (right + 23.0, y), 4.5);
        picture.text("label", (right + 44.0, y + 4.5), Anchor::Start, &shortened(&series[index].name, 24));
    }
}

fn sound(point: &CurvePoint) -> bool {
    (0.0..100.0).contains(&point.percentile) && point.us > 0.0 && point.us.is_finite()
}

/// How many nines a percentile has: 1 for 90, 2 for 99.
fn nines(percentile: f64) -> f64 {
    -(1.0 - percentile / 100.0).log10()
}

/// Microseconds with their unit.
fn time(us: f64) -> String {
    match us {
        us if us < 0.9995 => format!("{} ns", short(us * 1e3)),
        us if us < 999.5 => format!("{} µs", short(us)),
        us if us < 999_500.0 => format!("{} ms", short(us / 1e3)),
        us => format!("{} s", short(us / 1e6)),
    }
}

fn short(number: f64) -> String {
    format!("{:.0}", number)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn series(name: &str, points: &[(f64, f64)]) -> Series {
        let points = points.iter().map(|&(percentile, us)| CurvePoint { percentile, us }).collect();
        Series { name: name.into(), points }
    }

    #[test]
    fn each_further_nine_is_as_wide_as_the_one_before() {
        let steps: Vec<f64> =
            [90.0, 99.0, 99.9, 99.99].map(nines).windows(2).map(|two| two[1] - two[0]).collect();
        assert!(steps.iter().all(|step| (step - 1.0).abs() < 1e-6), "{steps:?}");
    }

    #[test]
    fn points_that_stand_nowhere_are_not_drawn_and_nothing_breaks() {
        let odd = series("a", &[(100.0, 5.0), (50.0, 0.0), (99.0, f64::INFINITY)]);
        assert!(svg("x", "t", "d", std::slice::from_ref(&odd)).contains("samples enough"));
        let text = svg("x", "t", "d", &[odd, series("<b>", &[(50.0, 80.0), (99.0, 120.0), (100.0, 1e9)])]);
        assert!(!text.contains("NaN") && !text.contains("inf") && text.contains("&lt;b&gt;"), "{text}");
        assert_eq!(text.matches("class=\"mark series-1\"").count(), 3, "two points and the key");
    }

    #[test]
    fn names_at_the_same_height_do_not_touch() {
        let alike = |name| series(name, &[(50.0, 80.0), (99.0, 120.0)]);
        let text = svg("x", "t", "d", &[alike("one"), alike("two"), alike("three")]);
        let heights: Vec<f64> = text
            .split("<text class=\"label\"")
            .skip(1)
            .map(|rest| rest.split("y=\"").nth(1).unwrap().split('"').next().unwrap().parse().unwrap())
            .collect();
        assert_eq!(heights.len(), 3);
        assert!(heights.windows(2).all(|two| two[1] - two[0] >= 19.9), "{heights:?}");
    }
}
