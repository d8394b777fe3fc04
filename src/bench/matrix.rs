//! Many comparisons on one page: a line each with both ratios, the verdict and what weakens it, and a few
//! sentences on what they say together. Where there are few, `text` has a table for each. Pure.

use super::text::number;
use super::variant::short;
use super::words::{
    interval, is_client_limited, is_client_near, is_disturbed, is_drifting, is_suspect, judged_blocks, metric,
};
use crate::result::bench::{Cell, Comparison, Judgement, Ratio};
use crate::result::mark::{self, Mark, letters};
use crate::statistics::paired::{CONFIDENCE, Rule, median};
use crate::units::wrapped;

/// Up to so many comparisons have a table each.
pub const FULL_MAX: usize = 4;
/// How wide a line may be.
pub const WIDTH: usize = 100;
/// Names that are longer stand on a line of their own.
const NAME_MAX: usize = 46;
/// A sentence names so many; the others stand in the matrix.
const NAMED_MAX: usize = 8;

/// The matrix of what was run, with its legend.
#[must_use]
pub fn matrix(run: &[&Comparison], same_band: f64) -> Vec<String> {
    let one_pair = is_one_pair(run);
    let rows: Vec<Row> = run.iter().map(|one| Row::of(one, one_pair)).collect();
    let name = rows.iter().map(|row| length(&row.name)).filter(|&long| long <= NAME_MAX).max().unwrap_or(0);
    let wide = |of: fn(&Row) -> &String, head: &str| {
        rows.iter().map(|row| length(of(row))).max().unwrap_or(0).max(length(head))
    };
    let (server, total) = (wide(|row| &row.server, "server CPU"), wide(|row| &row.total, "with client's"));
    let line = |label: &str, one: &str, other: &str, word: &str, marks: &str| {
        let line = format!("  {label:name$}  {one:>server$}  {other:>total$}  {word:9}  {marks}");
        line.trim_end().to_string()
    };
    let mut lines = vec![String::new(), line("", "server CPU", "with client's", "verdict", "marks")];
    let mut group = "";
    for row in &rows {
        if row.group != group {
            lines.push(row.group.clone());
            group = &row.group;
        }
        let mut label = row.name.as_str();
        if length(label) > NAME_MAX {
            lines.push(format!("  {label}"));
            label = "";
        }
        lines.push(line(label, &row.server, &row.total, row.word, &row.marks));
    }
    lines.extend(legend(run, &rows, same_band));
    lines.extend(memory(run, one_pair));
    lines
}

/// What was left out: the names under each reason.
#[must_use]
pub fn left_out(comparisons: &[&Comparison]) -> Vec<String> {
    let one_pair = is_one_pair(comparisons);
    let mut reasons: Vec<(&str, Vec<String>)> = Vec::new();
    for one in comparisons {
        let why = one.cell.left_out.as_deref().unwrap_or("n/a");
        let (_, name) = place(&one.cell, one_pair);
        match reasons.iter_mut().find(|(known, _)| *known == why) {
            Some((_, names)) => names.push(name),
            None => reasons.push((why, vec![name])),
        }
    }
    let told = reasons.into_iter().map(|(why, names)| format!("{}: {why}", names.join(", ")));
    told.flat_map(|text| wrapped("  ", &text, WIDTH)).collect()
}

/// What many comparisons say together, a few sentences without their stops.
#[must_use]
pub fn summary(comparisons: &[Comparison], kernel: Option<&str>) -> Vec<String> {
    let (out, run): (Vec<&Comparison>, Vec<&Comparison>) =
        comparisons.iter().partition(|one| one.verdict == Judgement::LeftOut);
    let of = |word: Judgement| -> Vec<&Comparison> {
        run.iter().copied().filter(|one| one.verdict == word).collect()
    };
    let (better, worse, same) = (of(Judgement::Better), of(Judgement::Worse), of(Judgement::Same));
    let undecided = of(Judgement::Undecided);
    let place = kernel.map_or("here".into(), |kernel| format!("on Linux {kernel}"));
    let about = match run.first().map(|one| &one.cell.workload) {
        Some(first) if run.iter().all(|one| one.cell.workload == *first) => format!(", for {}", first.words),
        _ => String::new(),
    };
    let mut sentences = vec![format!(
        "{place}{about}, of {} comparisons {} cost less, {} more, {} the same, and {} are undecided{}",
        run.len(),
        better.len(),
        worse.len(),
        same.len(),
        undecided.len(),
        if out.is_empty() { String::new() } else { format!("; {} were left out", out.len()) }
    )];
    let decided = [("cost less: ", &better), ("cost more: ", &worse), ("the same within the band: ", &same)];
    for (word, which) in decided.into_iter().filter(|(_, which)| !which.is_empty()) {
        sentences.push(format!("{word}{}", names(which, true)));
    }
    sentences.extend(open(&undecided));
    if better.len() + worse.len() > 0 {
        sentences.push(format!(
            "of {} intervals of 95 % about {:.0} miss the truth by chance: what is to be acted on is worth asking \
             again alone, with --variant and a longer --budget",
            2 * run.len(),
            (2 * run.len()) as f64 * (1.0 - CONFIDENCE)
        ));
    }
    sentences
}

/// Why those that are undecided are.
fn open(undecided: &[&Comparison]) -> Option<String> {
    let of = |why: Why| -> Vec<&Comparison> {
        undecided.iter().copied().filter(|one| Why::of(one) == why).collect()
    };
    let told = [
        (Why::Noise, "clear of 1, and by no more than the band"),
        (Why::Opposed, "cheaper for one end and dearer for the other"),
        (Why::Short, "with fewer than 6 sound blocks"),
        (Why::Open, "with 1 in an interval"),
    ];
    let parts: Vec<String> = told
        .into_iter()
        .map(|(why, words)| (of(why), words, why))
        .filter(|(which, ..)| !which.is_empty())
        .map(|(which, words, why)| match why {
            // Those are worth a second look.
            Why::Noise | Why::Opposed => format!("{} {words} ({})", which.len(), names(&which, false)),
            Why::Short | Why::Open => format!("{} {words}", which.len()),
        })
        .collect();
    (!parts.is_empty())
        .then(|| format!("undecided: {}; a longer --budget, or a quiet machine, would do", parts.join(", ")))
}

/// Why a comparison is undecided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Why {
    Short,
    Noise,
    Opposed,
    Open,
}

impl Why {
    fn of(comparison: &Comparison) -> Self {
        let (Some(server), Some(total)) =
            (ratio(comparison, "server_cpu_ns"), ratio(comparison, "total_cpu_ns"))
        else {
            return Self::Short;
        };
        if is_short(comparison) || server.confidence < CONFIDENCE {
            return Self::Short;
        }
        let side = |ratio: &Ratio| i32::from(ratio.high < 1.0) - i32::from(ratio.low > 1.0);
        match side(server) * side(total) {
            1 => Self::Noise,
            -1 => Self::Opposed,
            _ => Self::Open,
        }
    }
}

/// A line of the matrix.
struct Row {
    group: String,
    name: String,
    server: String,
    total: String,
    word: &'static str,
    marks: String,
}

impl Row {
    fn of(comparison: &Comparison, one_pair: bool) -> Self {
        let (group, name) = place(&comparison.cell, one_pair);
        let cell = |name| ratio(comparison, name).map_or("-".into(), plain);
        Self {
            group,
            name,
            server: cell("server_cpu_ns"),
            total: cell("total_cpu_ns"),
            word: match comparison.verdict {
                Judgement::Better => "better",
                Judgement::Worse => "worse",
                Judgement::Same => "same",
                Judgement::Undecided => "undecided",
                Judgement::LeftOut => "left out",
            },
            marks: letters(&marks(comparison)),
        }
    }
}

/// What weakens a comparison.
#[must_use]
pub fn marks(comparison: &Comparison) -> Vec<Mark> {
    let holds = |mark: &Mark| match mark {
        Mark::Short => is_short(comparison),
        Mark::Noise => comparison.verdict == Judgement::Undecided && Why::of(comparison) == Why::Noise,
        Mark::Disturbed => is_disturbed(comparison) && !is_suspect(comparison),
        Mark::Suspect => is_suspect(comparison),
        Mark::Drifting => is_drifting(comparison),
        Mark::Invalid => comparison.invalid > 0,
        Mark::ClientLimit => is_client_limited(comparison),
        Mark::ClientNear => is_client_near(comparison) && !is_client_limited(comparison),
    };
    Mark::ALL.into_iter().filter(holds).collect()
}

fn is_short(comparison: &Comparison) -> bool {
    judged_blocks(comparison) < Rule::default().blocks_min
}

fn ratio<'a>(comparison: &'a Comparison, name: &str) -> Option<&'a Ratio> {
    metric(comparison, name).and_then(|metric| metric.ratio.as_ref())
}

/// A ratio without how sure it is, for which there is a mark.
fn plain(ratio: &Ratio) -> String {
    match ratio.pairs.len() {
        1 => interval(ratio),
        _ => format!("{:.2} ({:.2}–{:.2})", ratio.median, ratio.low, ratio.high),
    }
}

fn legend(run: &[&Comparison], rows: &[Row], same_band: f64) -> Vec<String> {
    let mut bands: Vec<f64> = run.iter().map(|one| one.band * 100.0).collect();
    bands.sort_by(f64::total_cmp);
    let (Some(low), Some(high), Some(middle)) = (bands.first(), bands.last(), median(&bands)) else {
        return Vec::new();
    };
    let mut texts = vec![
        "ratios with their 95 % intervals, variant over reference: below 1 it costs less".to_string(),
        format!(
            "band: differences below {:.1} % are none, nor those below what this machine puts a thing beside \
             itself: {low:.1} to {high:.1} %, {middle:.1} % in the middle",
            same_band * 100.0
        ),
    ];
    if rows.iter().any(|row| row.name.ends_with(']')) {
        texts.push("[…]: what both sides have, because it takes that".into());
    }
    let used: Vec<Mark> = run.iter().flat_map(|one| marks(one)).collect();
    texts.extend(mark::legend(&used));
    std::iter::once(String::new()).chain(texts.iter().flat_map(|text| wrapped("  ", text, WIDTH))).collect()
}

/// What it takes besides CPU, where that was looked at: cost and memory of both sides.
fn memory(run: &[&Comparison], one_pair: bool) -> Vec<String> {
    let looked = |one: &&&Comparison| metric(one, "kernel_bytes_per_connection").is_some();
    if run.iter().find(looked).is_none() {
        return Vec::new();
    }
    let columns = ["server_cpu_ns", "server_resident_bytes", "kernel_bytes_per_connection"];
    let mut table = comfy_table::Table::new();
    table.load_style(comfy_table::presets::NOTHING);
    table.set_header([
        "variant / reference",
        "CPU of a unit, ns",
        "memory of the server, KiB",
        "kernel, B a connection",
    ]);
    for one in run {
        let side = |value: Option<f64>, scale: f64| value.map_or("-".into(), |value| number(value / scale));
        let both = |name: &&str| {
            let scale = if *name == "server_resident_bytes" { 1024.0 } else { 1.0 };
            metric(one, name).map_or("-".into(), |found| {
                format!("{} / {}", side(found.variant, scale), side(found.reference, scale))
            })
        };
        let name = std::iter::once(place(&one.cell, one_pair).1);
        table.add_row(name.chain(columns.iter().map(both)).collect::<Vec<String>>());
    }
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(comfy_table::CellAlignment::Right);
    }
    let lines = table.lines().map(|line| format!(" {}", line.trim_end()));
    std::iter::once(String::new()).chain(lines).collect()
}

/// Names in a sentence, with the first ratio where it says something.
fn names(which: &[&Comparison], with_ratio: bool) -> String {
    let one_pair = is_one_pair(which);
    let told = which.iter().take(NAMED_MAX).map(|one| {
        let (group, name) = place(&one.cell, one_pair);
        let name = match &one.cell.question {
            Some(_) => format!("{} {name}", base(&group)),
            None => name,
        };
        match ratio(one, "server_cpu_ns").filter(|_| with_ratio) {
            Some(ratio) => format!("{name} {}", plain(ratio)),
            None => name,
        }
    });
    let mut text = told.collect::<Vec<_>>().join(", ");
    if which.len() > NAMED_MAX {
        text.push_str(&format!(" and {} more", which.len() - NAMED_MAX));
    }
    text
}

/// The group a comparison stands in, and what it is called there.
fn place(cell: &Cell, one_pair: bool) -> (String, String) {
    if let Some(question) = &cell.question {
        let at = [" + ", " with "].iter().filter_map(|word| Some(question.find(word)? + word.len())).min();
        let (base, change) = question.split_at(at.unwrap_or(0));
        let name = change.replacen(" (", " [", 1).replace(" on both sides) (", ", ");
        return (
            format!("{}: {}", cell.workload.words, base.trim_end()),
            name.replace(" on both sides)", "]"),
        );
    }
    let pair = format!("{} / {}", short(&cell.variant), short(&cell.reference));
    match one_pair {
        true => (pair, cell.workload.name.clone()),
        false => (cell.workload.words.clone(), pair),
    }
}

/// `baseline +` of a group of questions.
fn base(group: &str) -> &str {
    group.rsplit(": ").next().unwrap_or(group)
}

/// Whether workloads are all that tells these apart.
fn is_one_pair(run: &[&Comparison]) -> bool {
    let pair = |one: &Comparison| (one.cell.variant.name.clone(), one.cell.reference.name.clone());
    let mut workloads: Vec<&str> = run.iter().map(|one| one.cell.workload.name.as_str()).collect();
    workloads.sort_unstable();
    workloads.dedup();
    run.iter().all(|one| pair(one) == pair(run[0])) && workloads.len() == run.len()
}

fn length(text: &str) -> usize {
    text.chars().count()
}

#[cfg(test)]
mod tests;
