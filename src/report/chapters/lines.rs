//! Many comparisons in few lines: one for each, with both ratios, the verdict and what weakens it, as the
//! bench prints them at its end; then what the letters mean. For the form that is read in a terminal.

use super::Matter;
use crate::report::compare::{self, Group, SERVER, TOTAL};
use crate::report::numbers;
use crate::report::text::WIDTH;
use crate::result::bench::{Comparison, Judgement, Ratio};
use crate::result::mark::{Mark, legend, letters};
use crate::units::wrapped;

/// Names that are longer stand on a line of their own.
const NAME_MAX: usize = 46;

/// A line of the matrix.
struct Row {
    group: String,
    name: String,
    server: String,
    total: String,
    word: &'static str,
    /// `?` where the result does not tell.
    marks: String,
}

/// The lines; those that were left out by their reasons.
pub(super) fn lines(matter: &Matter<'_>) -> Vec<String> {
    let ran = || members(matter).filter(|(_, _, one)| one.verdict != Judgement::LeftOut);
    let rows: Vec<Row> = ran().map(|(group, source, one)| row(matter, group, source, one)).collect();
    let mut lines = matrix(&rows);
    lines.push(String::new());
    let all: Vec<Mark> = ran().filter_map(|(_, _, one)| one.marks.as_ref()).flatten().copied().collect();
    let mut texts =
        vec!["ratios with their 95 % intervals, variant over reference: below 1 it costs less".to_string()];
    if rows.iter().any(|row| row.name.ends_with(']')) {
        texts.push("[…]: what both sides have, because it takes that".into());
    }
    texts.extend(legend(&all));
    if rows.iter().any(|row| row.marks == "?") {
        texts.push("?: this result is from a program that marked nothing; --details has its reasons".into());
    }
    lines.extend(texts.iter().flat_map(|text| wrapped("  ", text, WIDTH)));
    lines.extend(left_out(matter));
    lines
}

fn members<'a>(matter: &'a Matter<'a>) -> impl Iterator<Item = (&'a Group<'a>, usize, &'a Comparison)> {
    matter
        .groups
        .iter()
        .flat_map(|group| group.members.iter().map(move |&(source, one)| (group, source, one)))
}

fn row(matter: &Matter<'_>, group: &Group<'_>, source: usize, one: &Comparison) -> Row {
    let (place, name) = match matter.several() {
        true => (group.title(), matter.sources[source].label.clone()),
        false => place(group, one),
    };
    let ratio = |name| compare::ratio(one, name).map_or("–".into(), plain);
    Row {
        group: place,
        name,
        server: ratio(SERVER),
        total: ratio(TOTAL),
        word: numbers::word(one.verdict),
        marks: one.marks.as_ref().map_or("?".into(), |marks| letters(marks)),
    }
}

/// The group a comparison stands in, and what it is called there: `baseline +` and `recv=single [buffers=ring]`.
fn place(group: &Group<'_>, one: &Comparison) -> (String, String) {
    let cell = &one.cell;
    let Some(question) = &cell.question else {
        let [variant, reference] = group.sides();
        return (cell.workload.words.clone(), format!("{variant} / {reference}"));
    };
    let at = [" + ", " with "].iter().filter_map(|word| Some(question.find(word)? + word.len())).min();
    let (base, change) = question.split_at(at.unwrap_or(0));
    let name = match change.split_once(" (") {
        Some((change, both)) => {
            let both = both.trim_end_matches(')').trim_end_matches(" on both sides");
            format!("{change} [{}]", both.replace(" on both sides) (", ", "))
        }
        None => change.to_string(),
    };
    let group = match base.trim_end() {
        "" => cell.workload.words.clone(),
        base => format!("{}: {base}", cell.workload.words),
    };
    (group, name)
}

/// Two decimals: how sure it is has a mark.
fn plain(ratio: &Ratio) -> String {
    match ratio.pairs.len() {
        1 => format!("{:.2} (one pair)", ratio.median),
        _ => format!("{:.2} ({:.2}–{:.2})", ratio.median, ratio.low, ratio.high),
    }
}

fn matrix(rows: &[Row]) -> Vec<String> {
    let long = |text: &str| text.chars().count();
    let name = rows.iter().map(|row| long(&row.name)).filter(|&long| long <= NAME_MAX).max().unwrap_or(0);
    let wide = |of: fn(&Row) -> &String, head: &str| {
        rows.iter().map(|row| long(of(row))).max().unwrap_or(0).max(long(head))
    };
    let (server, total) = (wide(|row| &row.server, "server CPU"), wide(|row| &row.total, "with client's"));
    let line = |label: &str, one: &str, other: &str, word: &str, marks: &str| {
        let line = format!("  {label:name$}  {one:>server$}  {other:>total$}  {word:9}  {marks}");
        line.trim_end().to_string()
    };
    let mut lines = vec![line("", "server CPU", "with client's", "verdict", "marks")];
    let mut group = "";
    for row in rows {
        if row.group != group {
            lines.extend(wrapped("", &row.group, WIDTH));
            group = &row.group;
        }
        let mut label = row.name.as_str();
        if long(label) > NAME_MAX {
            lines.extend(wrapped("  ", label, WIDTH));
            label = "";
        }
        lines.push(line(label, &row.server, &row.total, row.word, &row.marks));
    }
    lines
}

/// The names under each reason.
fn left_out(matter: &Matter<'_>) -> Vec<String> {
    let mut reasons: Vec<(&str, Vec<String>)> = Vec::new();
    for (group, source, one) in members(matter).filter(|(_, _, one)| one.verdict == Judgement::LeftOut) {
        let why = one.cell.left_out.as_deref().unwrap_or("no reason is known");
        let name = matter.of(&one.cell.question.clone().unwrap_or_else(|| group.title()), source);
        match reasons.iter_mut().find(|(known, _)| *known == why) {
            Some((_, names)) => names.push(name),
            None => reasons.push((why, vec![name])),
        }
    }
    if reasons.is_empty() {
        return Vec::new();
    }
    let told = reasons.into_iter().map(|(why, names)| format!("{}: {why}", names.join(", ")));
    let head = [String::new(), "Left out:".into()];
    head.into_iter().chain(told.flat_map(|text| wrapped("  ", &text, WIDTH))).collect()
}
