//! What a unit costs against the number of connections: above, both servers in nanoseconds; below, the
//! ratio with its interval.

use super::scale::{self, Scale};
use super::svg::{Anchor, Svg, shortened};
use crate::report::numbers;
use crate::result::bench::Ratio;

/// What was measured at one number of connections.
#[derive(Clone, Debug, PartialEq)]
pub struct Count {
    /// Connections, the idle ones too.
    pub connections: u32,
    /// Nanoseconds of the variant for a unit.
    pub variant: Option<f64>,
    /// The same of the reference.
    pub reference: Option<f64>,
    /// Variant over reference.
    pub ratio: Option<Ratio>,
}

/// What the whole picture has.
#[derive(Clone, Debug, PartialEq)]
pub struct Frame<'a> {
    /// What names it within the page.
    pub id: &'a str,
    /// What it shows.
    pub title: &'a str,
    /// What is seen.
    pub description: &'a str,
    /// The names of the variant and the reference.
    pub names: (&'a str, &'a str),
    /// Half the width of what is called the same.
    pub band: f64,
}

const WIDTH: f64 = 920.0;
const ACROSS: (f64, f64) = (64.0, 690.0);
const COSTS: (f64, f64) = (210.0, 34.0);
const RATIOS: (f64, f64) = (390.0, 260.0);

/// The picture.
#[must_use]
pub fn svg(frame: &Frame<'_>, counts: &[Count]) -> String {
    let mut picture = Svg::new();
    let connections = counts.iter().map(|count| f64::from(count.connections));
    let Some(across) = scale::of_amounts(connections, ACROSS) else {
        return picture.finish(frame.id, frame.title, frame.description, (WIDTH, 20.0));
    };
    for count in counts {
        let x = across.at(count.connections.into());
        picture.line("grid", (x, RATIOS.0), (x, COSTS.1));
        let name = numbers::whole(count.connections.into());
        picture.text("tick", (x, RATIOS.0 + 18.0), Anchor::Middle, &name);
    }
    costs(&mut picture, frame, counts, &across);
    ratios(&mut picture, frame, counts, &across);
    let middle = f64::midpoint(ACROSS.0, ACROSS.1);
    picture.text("side", (middle, RATIOS.0 + 38.0), Anchor::Middle, "connections");
    picture.finish(frame.id, frame.title, frame.description, (WIDTH, RATIOS.0 + 48.0))
}

fn costs(picture: &mut Svg, frame: &Frame<'_>, counts: &[Count], across: &Scale) {
    let both = counts.iter().flat_map(|count| [count.variant, count.reference]).flatten();
    picture.text("side", (0.0, COSTS.1 - 16.0), Anchor::Start, "server CPU, ns");
    let Some(up) = scale::of_amounts(both, COSTS) else { return };
    for tick in up.decades(22.0) {
        picture.line("grid", (ACROSS.0, up.at(tick)), (ACROSS.1, up.at(tick)));
        picture.text("tick", (ACROSS.0 - 8.0, up.at(tick) + 4.0), Anchor::End, &numbers::plain(Some(tick)));
    }
    let place = |count: &Count, cost: f64| (across.at(count.connections.into()), up.at(cost));
    let variant: Vec<_> =
        counts.iter().filter_map(|count| Some(place(count, drawable(count.variant)?))).collect();
    let reference: Vec<_> =
        counts.iter().filter_map(|count| Some(place(count, drawable(count.reference)?))).collect();
    for (index, places, name) in [(0, variant, frame.names.0), (1, reference, frame.names.1)] {
        picture.path(&format!("curve series-{index}"), &places);
        for at in &places {
            picture.mark(index, &format!("mark series-{index}"), *at, 4.5);
        }
        let y = COSTS.1 + 10.0 + 22.0 * index as f64;
        picture.line(&format!("curve series-{index}"), (ACROSS.1 + 10.0, y), (ACROSS.1 + 36.0, y));
        picture.mark(index, &format!("mark series-{index}"), (ACROSS.1 + 23.0, y), 4.5);
        picture.text("label", (ACROSS.1 + 44.0, y + 4.5), Anchor::Start, &shortened(name, 24));
    }
}

/// What has a place on a logarithmic axis.
fn drawable(cost: Option<f64>) -> Option<f64> {
    cost.filter(|cost| cost.is_finite() && *cost > 0.0)
}

fn ratios(picture: &mut Svg, frame: &Frame<'_>, counts: &[Count], across: &Scale) {
    let ends =
        counts.iter().filter_map(|count| count.ratio.as_ref()).flat_map(|ratio| [ratio.low, ratio.high]);
    let up = scale::of_ratios(ends, RATIOS);
    picture.text("side", (0.0, RATIOS.1 - 14.0), Anchor::Start, "ratio, with its interval");
    let (high, low) = (up.at(1.0 + frame.band), up.at((1.0 - frame.band).max(1e-6)));
    picture.rectangle("band", (ACROSS.0, high), (ACROSS.1 - ACROSS.0, low - high));
    for tick in up.ratios(22.0) {
        let class = if tick == 1.0 { "one" } else { "grid" };
        picture.line(class, (ACROSS.0, up.at(tick)), (ACROSS.1, up.at(tick)));
        picture.text("tick", (ACROSS.0 - 8.0, up.at(tick) + 4.0), Anchor::End, &format!("{tick:.2}"));
    }
    let with: Vec<(f64, &Ratio)> = counts
        .iter()
        .filter_map(|count| Some((across.at(count.connections.into()), count.ratio.as_ref()?)))
        .collect();
    let medians: Vec<(f64, f64)> = with.iter().map(|(x, ratio)| (*x, up.at(ratio.median))).collect();
    picture.path("curve thin", &medians);
    for (x, ratio) in with {
        picture.line("interval server", (x, up.at(ratio.low)), (x, up.at(ratio.high)));
        for end in [ratio.low, ratio.high] {
            picture.line("interval server", (x - 4.0, up.at(end)), (x + 4.0, up.at(end)));
        }
        picture.mark(0, "mark server", (x, up.at(ratio.median)), 5.0);
    }
    picture.text("note", (ACROSS.1 + 10.0, up.at(1.0) - 6.0), Anchor::Start, "↑ costs more");
    picture.text("note", (ACROSS.1 + 10.0, up.at(1.0) + 16.0), Anchor::Start, "↓ costs less");
}
