//! Ratios with their intervals, a row each: what a server costs beside another. The line at 1 is where
//! both cost the same, the grey band is what is called the same, and the hatched part of a row is how far
//! from 1 the machine puts a server against itself.

use super::scale::{self, Scale};
use super::svg::{Anchor, Svg, shortened};
use crate::report::numbers;
use crate::result::bench::Ratio;

/// A row.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Row {
    /// What stands above it, where a part of the picture begins.
    pub heading: Option<String>,
    /// What it is about.
    pub label: String,
    /// The same in smaller letters.
    pub note: String,
    /// The first headline.
    pub server: Option<Ratio>,
    /// The second.
    pub total: Option<Ratio>,
    /// The machine's own noise in the first.
    pub floor: Option<Ratio>,
    /// The verdict.
    pub word: String,
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
    /// Half the width of what is called the same.
    pub band: f64,
    /// What lies on the left of 1, and on its right.
    pub sides: (&'a str, &'a str),
}

const WIDTH: f64 = 920.0;
const PLOT: (f64, f64) = (292.0, 636.0);
/// From here to the word there is room for `10.06 (10.01–10.12, 94 %)` beside `undecided`.
const NUMBERS: f64 = 652.0;
const WORD: f64 = WIDTH;
const TOP: f64 = 62.0;
const ROW: f64 = 48.0;
const HEADING: f64 = 32.0;

/// The picture.
#[must_use]
pub fn svg(frame: &Frame<'_>, rows: &[Row]) -> String {
    let scale = scale_of(rows, frame.band, PLOT);
    let height: f64 = rows.iter().map(height_of).sum();
    let bottom = TOP + height;
    let mut picture = Svg::new();
    ground(&mut picture, &scale, frame, bottom);
    let mut top = TOP;
    for row in rows {
        if let Some(heading) = &row.heading {
            picture.text("heading", (0.0, top + 22.0), Anchor::Start, &shortened(heading, 118));
            top += HEADING;
        }
        draw_row(&mut picture, &scale, row, top);
        top += ROW;
    }
    picture.finish(frame.id, frame.title, frame.description, (WIDTH, bottom + 26.0))
}

fn height_of(row: &Row) -> f64 {
    ROW + if row.heading.is_some() { HEADING } else { 0.0 }
}

fn scale_of(rows: &[Row], band: f64, pixels: (f64, f64)) -> Scale {
    let ratios = rows.iter().flat_map(|row| [&row.server, &row.total, &row.floor]).flatten();
    let ends = ratios.flat_map(|ratio| [ratio.low, ratio.high]);
    scale::of_ratios(ends.chain([1.0 - band, 1.0 + band]).filter(|end| *end > 0.0), pixels)
}

/// The key, the band, the line at 1 and the axis.
fn ground(picture: &mut Svg, scale: &Scale, frame: &Frame<'_>, bottom: f64) {
    key(picture);
    let (low, high) = (scale.at((1.0 - frame.band).max(1e-6)), scale.at(1.0 + frame.band));
    picture.rectangle("band", (low, TOP - 8.0), (high - low, bottom - TOP + 8.0));
    for tick in scale.ratios(44.0) {
        let x = scale.at(tick);
        let class = if tick == 1.0 { "one" } else { "grid" };
        picture.line(class, (x, TOP - 8.0), (x, bottom));
        picture.text("tick", (x, bottom + 16.0), Anchor::Middle, &format!("{tick:.2}"));
    }
    let one = scale.at(1.0);
    picture.text("side", (one - 10.0, TOP - 16.0), Anchor::End, &format!("← {}", frame.sides.0));
    picture.text("side", (one + 10.0, TOP - 16.0), Anchor::Start, &format!("{} →", frame.sides.1));
}

fn key(picture: &mut Svg) {
    let y = 12.0;
    picture.line("interval server", (2.0, y), (30.0, y));
    picture.mark(0, "mark server", (16.0, y), 5.0);
    picture.text("key", (38.0, y + 4.0), Anchor::Start, "server CPU");
    picture.line("interval total", (130.0, y), (158.0, y));
    picture.mark(1, "mark total", (144.0, y), 4.5);
    picture.text("key", (166.0, y + 4.0), Anchor::Start, "server + client CPU");
    picture.rectangle("floor", (310.0, y - 7.0), (28.0, 14.0));
    picture.text("key", (346.0, y + 4.0), Anchor::Start, "this machine against itself");
    picture.rectangle("band", (530.0, y - 7.0), (28.0, 14.0));
    picture.text("key", (566.0, y + 4.0), Anchor::Start, "called the same");
    picture.line("pair", (690.0, y - 5.0), (690.0, y + 5.0));
    picture.text("key", (698.0, y + 4.0), Anchor::Start, "one block");
}

fn draw_row(picture: &mut Svg, scale: &Scale, row: &Row, top: f64) {
    let note = if row.note.is_empty() { 0.0 } else { 8.0 };
    let middle = top + ROW / 2.0;
    picture.text("label", (0.0, middle + 4.0 - note), Anchor::Start, &shortened(&row.label, 43));
    if !row.note.is_empty() {
        picture.text("note", (0.0, middle + 13.0), Anchor::Start, &shortened(&row.note, 50));
    }
    if let Some(floor) = &row.floor {
        let (low, high) = (scale.at(floor.low), scale.at(floor.high));
        picture.rectangle("floor", (low, top + 5.0), ((high - low).max(1.0), ROW - 10.0));
    }
    let lines = [(&row.server, 16.0, 0, "server", 5.0), (&row.total, 33.0, 1, "total", 4.5)];
    for (ratio, down, shape, class, radius) in lines {
        let Some(ratio) = ratio else { continue };
        let y = top + down;
        for pair in ratio.pairs.iter().filter(|pair| scale.holds(**pair)) {
            picture.line("pair", (scale.at(*pair), y - 5.0), (scale.at(*pair), y + 5.0));
        }
        let interval = format!("interval {class}");
        let (low, high) = (scale.at(ratio.low), scale.at(ratio.high));
        picture.line(&interval, (low, y), (high, y));
        for end in [low, high] {
            picture.line(&interval, (end, y - 4.0), (end, y + 4.0));
        }
        picture.mark(shape, &format!("mark {class}"), (scale.at(ratio.median), y), radius);
        picture.text(
            &format!("number {class}"),
            (NUMBERS, y + 4.5),
            Anchor::Start,
            &numbers::ratio(Some(ratio)),
        );
    }
    picture.text("word", (WORD, top + 20.5), Anchor::End, &row.word);
    picture.line("rule", (0.0, top + ROW), (WIDTH, top + ROW));
}

const LETTERS: usize = 36;
const LABEL: usize = 34;

/// The same in letters, in 100 columns: `o` and its dashes are the first headline, `x` the second.
#[must_use]
pub fn letters(frame: &Frame<'_>, rows: &[Row]) -> Vec<String> {
    let scale = scale_of(rows, frame.band, (0.0, (LETTERS - 1) as f64));
    let mut lines = Vec::new();
    for row in rows {
        if let Some(heading) = &row.heading {
            lines.push(shortened(heading, 98));
        }
        let headlines = [(&row.server, 'o', &row.label, row.word.as_str()), (&row.total, 'x', &row.note, "")];
        for (ratio, mark, label, word) in headlines {
            let Some(ratio) = ratio else {
                if mark == 'o' {
                    lines.push(format!("{:LABEL$} {}", shortened(label, LABEL), row.word));
                }
                continue;
            };
            let drawn = drawn(&scale, ratio, mark);
            let number = numbers::ratio(Some(ratio));
            let line = format!("{:LABEL$}|{drawn}| {number} {word}", shortened(label, LABEL));
            lines.push(line.trim_end().into());
        }
    }
    lines.push(axis(&scale));
    lines.push(format!("{:LABEL$} {} < 1 > {}", "", frame.sides.0, frame.sides.1));
    lines
}

fn drawn(scale: &Scale, ratio: &Ratio, mark: char) -> String {
    let column = |number: f64| (scale.at(number).round() as usize).min(LETTERS - 1);
    let mut letters = vec![' '; LETTERS];
    letters[column(1.0)] = ':';
    for letter in &mut letters[column(ratio.low)..=column(ratio.high)] {
        *letter = if *letter == ':' { '+' } else { '-' };
    }
    letters[column(ratio.median)] = mark;
    letters.into_iter().collect()
}

fn axis(scale: &Scale) -> String {
    let mut letters = vec![' '; LABEL + 1 + LETTERS + 4];
    for tick in scale.ratios(6.0) {
        let middle = LABEL + 1 + scale.at(tick).round() as usize;
        for (index, letter) in format!("{tick:.2}").chars().enumerate() {
            letters[middle + index - 1] = letter;
        }
    }
    let line: String = letters.into_iter().collect();
    line.trim_end().into()
}
