//! The matrix: every cell with its intervals, as a picture and in numbers.

use super::Matter;
use crate::report::compare::{self, Group, SERVER, TOTAL};
use crate::report::document::{Figure, Part, Table, Verdict};
use crate::report::numbers;
use crate::report::pictures::ratios::{self, Frame, Row};
use crate::result::bench::{Comparison, Judgement, Unit};
use crate::result::mark::{Mark, legend, letters};

pub(super) fn parts(matter: &Matter<'_>) -> Vec<Part> {
    let mut parts = Vec::new();
    let rows = rows(matter);
    if !rows.is_empty() {
        parts.push(Part::Figure(matrix(matter, &rows)));
    }
    let mut told = legend(&marks(matter));
    let all = || matter.groups.iter().flat_map(|group| &group.members);
    if all().any(|(_, comparison)| ran(comparison) && comparison.marks.is_none()) {
        told.push(
            "?: this result is from a program that marked nothing; its reasons stand cell by cell".into(),
        );
    }
    if !told.is_empty() {
        parts.push(Part::List { items: told });
    }
    let changes = change_rows(matter);
    if !changes.is_empty() {
        parts.push(Part::heading("From the first result to the later ones"));
        parts.push(Part::Figure(change_figure(matter, &changes)));
    }
    let sentences = sentences(matter);
    if !sentences.is_empty() {
        parts.push(Part::heading("Cell by cell"));
        parts.push(Part::Verdicts { items: sentences });
    }
    parts
}

fn ran(comparison: &Comparison) -> bool {
    comparison.verdict != Judgement::LeftOut
}

/// What weakens any of them.
fn marks(matter: &Matter<'_>) -> Vec<Mark> {
    let all = matter.groups.iter().flat_map(|group| &group.members);
    let ran = all.filter(|(_, comparison)| ran(comparison));
    ran.filter_map(|(_, comparison)| comparison.marks.as_ref()).flatten().copied().collect()
}

/// A row for each result of each cell that ran. Cells of one workload stand together under its name.
fn rows(matter: &Matter<'_>) -> Vec<Row> {
    let mut rows = Vec::new();
    let mut last = String::new();
    for group in &matter.groups {
        for (position, &(source, comparison)) in group.members.iter().enumerate() {
            if !ran(comparison) {
                continue;
            }
            let heading = match matter.several() {
                true if position == 0 => Some(group.title()),
                true => None,
                false => {
                    let words = &comparison.cell.workload.words;
                    let new = *words != last;
                    last.clone_from(words);
                    new.then(|| words.clone())
                }
            };
            rows.push(row(matter, source, comparison, heading));
        }
    }
    rows
}

fn row(matter: &Matter<'_>, source: usize, comparison: &Comparison, heading: Option<String>) -> Row {
    let cell = &comparison.cell;
    let pair = format!("{} / {}", cell.variant.name, cell.reference.name);
    let (label, note) = match (matter.several(), &cell.question) {
        (true, _) => {
            let result = &matter.sources[source];
            (result.label.clone(), numbers::date(result.result.plan.began_unix_seconds))
        }
        // What both sides have is said below; their names are longer than the picture is wide.
        (false, Some(question)) => match question.split_once(" (") {
            Some((question, both)) => {
                (question.into(), both.trim_end_matches(')').replace(" on both sides) (", ", "))
            }
            None => (question.clone(), String::new()),
        },
        (false, None) => (pair, String::new()),
    };
    let server = compare::metric(comparison, SERVER);
    Row {
        heading,
        label,
        note,
        server: server.and_then(|metric| metric.ratio.clone()),
        total: compare::ratio(comparison, TOTAL).cloned(),
        floor: server.and_then(|metric| metric.floor.clone()),
        word: numbers::word(comparison.verdict).into(),
    }
}

fn matrix(matter: &Matter<'_>, rows: &[Row]) -> Figure {
    let band = matter.sources.iter().map(|source| source.result.plan.same_band).fold(0.0, f64::max);
    let title = "CPU for a unit of work, variant over reference";
    let description = "Each row has the median ratio of server CPU (disc) and of server + client CPU (diamond) \
         with its interval; left of 1 the variant costs less. The grey band is called the same, the \
         hatched part is this machine against itself, small strokes are single blocks.";
    let frame = Frame { id: "matrix", title, description, band, sides: ("costs less", "costs more") };
    Figure {
        id: "matrix".into(),
        title: title.into(),
        description: description.into(),
        svg: ratios::svg(&frame, rows),
        drawing: ratios::letters(&frame, rows),
        table: table(matter),
    }
}

fn table(matter: &Matter<'_>) -> Table {
    let columns = [
        "cell",
        "verdict",
        "marks",
        "#server CPU",
        "#server + client CPU",
        "#variant, ns",
        "#reference, ns",
        "#floor",
        "#blocks",
    ];
    // What all have in common is said once.
    let common = common(matter);
    let of = common.map_or("a unit".into(), |group| of_what(group));
    let caption = format!("Server CPU for {of}, and the ratios with their intervals");
    let mut table = Table::new(caption, &columns);
    for group in &matter.groups {
        for &(source, comparison) in group.members.iter().filter(|(_, comparison)| ran(comparison)) {
            let server = compare::metric(comparison, SERVER);
            let floor = server.and_then(|metric| metric.floor.as_ref());
            table.row(vec![
                matter.of(&name(group, common.is_none()), source),
                numbers::word(comparison.verdict).into(),
                comparison.marks.as_ref().map_or("?".into(), |marks| letters(marks)),
                numbers::ratio(compare::ratio(comparison, SERVER)),
                numbers::ratio(compare::ratio(comparison, TOTAL)),
                numbers::plain(server.and_then(|metric| metric.variant)),
                numbers::plain(server.and_then(|metric| metric.reference)),
                numbers::ratio(floor),
                comparison.blocks.to_string(),
            ]);
        }
    }
    table
}

/// The workload of all that ran, where there is but one and more than one cell of it.
fn common<'a>(matter: &'a Matter<'a>) -> Option<&'a Group<'a>> {
    let ran = |group: &&Group<'_>| group.members.iter().any(|(_, comparison)| ran(comparison));
    let workload = |group: &Group<'_>| group.first().cell.workload.name.clone();
    let mut groups = matter.groups.iter().filter(ran);
    let first = groups.next()?;
    let mut others = groups.peekable();
    others.peek()?;
    others.all(|group| workload(group) == workload(first)).then_some(first)
}

/// `a message of pingpong:64:100`.
fn of_what(group: &Group<'_>) -> String {
    let workload = &group.first().cell.workload;
    let unit = unit(workload.unit);
    let article = if unit.starts_with('i') { "an" } else { "a" };
    format!("{article} {unit} of {}", workload.name)
}

/// A cell as short as it can be named, with its workload and what its costs are counted for unless all have
/// the same.
fn name(group: &Group<'_>, in_full: bool) -> String {
    let cell = &group.first().cell;
    let pair = || format!("{} / {}", cell.variant.name, cell.reference.name);
    let name = cell.question.clone().unwrap_or_else(pair);
    match in_full {
        true => format!("{}, {name}, per {}", cell.workload.name, unit(cell.workload.unit)),
        false => name,
    }
}

/// What costs are counted for, in a word.
fn unit(unit: Unit) -> &'static str {
    match unit {
        Unit::Message => "message",
        Unit::Mebibyte => "MiB",
        Unit::Connection => "connection",
        Unit::IdleSecond => "idle second",
    }
}

fn change_rows(matter: &Matter<'_>) -> Vec<Row> {
    let changes = matter.report.changes.iter().filter(|change| change.server_cpu.is_some());
    let row = |change: &crate::result::report::CellChange| Row {
        heading: None,
        label: change.workload.clone(),
        note: format!(
            "{} / {}, {} over {}",
            change.variant,
            change.reference,
            matter.sources[change.to].label,
            matter.sources[change.from].label
        ),
        server: change.server_cpu.clone(),
        total: change.total_cpu.clone(),
        floor: None,
        word: match change.verdict {
            Judgement::Better => "cheaper".into(),
            Judgement::Worse => "dearer".into(),
            other => numbers::word(other).into(),
        },
    };
    changes.map(row).collect()
}

fn change_figure(matter: &Matter<'_>, rows: &[Row]) -> Figure {
    let band = matter.sources.iter().map(|source| source.result.plan.same_band).fold(0.0, f64::max);
    let title = "How the ratio changed: the later ratio over the first";
    let description = "Left of 1 the variant has become cheaper, measured by its reference on the same machine. \
         Medians of all quotients of single blocks, with the interval of Mann and Whitney's test.";
    let sides = ("became cheaper", "became dearer");
    let frame = Frame { id: "changes", title, description, band, sides };
    let columns = ["workload", "sides", "#server CPU", "#server + client CPU", "#confidence", "verdict"];
    let mut table = Table::new("Ratios of ratios with their intervals", &columns);
    for row in rows {
        let confidence = row
            .server
            .as_ref()
            .map_or("–".into(), |ratio| numbers::plain(Some(ratio.confidence * 100.0)) + " %");
        table.row(vec![
            row.label.clone(),
            row.note.clone(),
            numbers::ratio(row.server.as_ref()),
            numbers::ratio(row.total.as_ref()),
            confidence,
            row.word.clone(),
        ]);
    }
    Figure {
        id: "changes".into(),
        title: title.into(),
        description: description.into(),
        svg: ratios::svg(&frame, rows),
        drawing: ratios::letters(&frame, rows),
        table,
    }
}

/// Each cell's own sentence with what weakens it, also of those that were left out.
fn sentences(matter: &Matter<'_>) -> Vec<Verdict> {
    let mut items = Vec::new();
    for group in &matter.groups {
        for &(source, comparison) in &group.members {
            let mut text = match &comparison.cell.left_out {
                Some(why) => format!("{}: {why}", group.title()),
                None => comparison.sentence.clone(),
            };
            for reason in &comparison.reasons {
                text.push_str(if text.ends_with('.') { " " } else { "; " });
                text.push_str(reason);
            }
            if ran(comparison) {
                text.push_str(&how(comparison));
            }
            let word = matter.of(numbers::word(comparison.verdict), source);
            items.push(Verdict { word, text });
        }
    }
    items
}

/// How it was come by.
fn how(comparison: &Comparison) -> String {
    let ended = match comparison.ended.as_str() {
        "narrow_enough" => "ended because the interval was narrow enough",
        "plain" => "ended because the difference is plain",
        "budget_spent" => "ended because its time was spent",
        "interrupted" => "was interrupted",
        other => other,
    };
    let interval = compare::ratio(comparison, SERVER).map_or(String::new(), |ratio| {
        format!("{} by {}; ", numbers::backing(ratio), ratio.method.replace('_', " "))
    });
    let Comparison { repeated, invalid, band, disturbances, .. } = comparison;
    let band = numbers::plain(Some(band * 100.0));
    let told: Vec<String> =
        disturbances.iter().map(|(kind, count)| format!("{} {count}", kind.replace('_', " "))).collect();
    let disturbed =
        if told.is_empty() { String::new() } else { format!(", disturbed: {}", told.join(" and ")) };
    format!(
        " ({interval}{ended}; the same is within {band} %; slices repeated: {repeated}{disturbed}, invalid: {invalid}.)"
    )
}
