//! The form for a terminal: 100 columns, pictures in letters, everything but the single slices; of many
//! comparisons a line each, unless all of it is asked for.

use super::document::{Column, Command, Document, Figure, Part, Table, Verdict};
use crate::units::wrapped;
use comfy_table::presets::NOTHING;
use comfy_table::{CellAlignment, ColumnConstraint, ContentArrangement, Width};

/// How wide a line may be.
pub const WIDTH: usize = 100;

/// The verdict and a line for each comparison, where there are many; otherwise the whole report.
#[must_use]
pub fn brief(document: &Document) -> String {
    let verdict = document.chapters.first().filter(|_| !document.lines.is_empty());
    let Some(verdict) = verdict else { return render(document) };
    let mut out = head(document);
    out.push(String::new());
    out.extend(document.lines.iter().cloned());
    out.push(String::new());
    out.push(verdict.title.to_uppercase());
    verdict.parts.iter().for_each(|part| render_part(&mut out, part));
    out.push(String::new());
    let rest = "--details prints the pictures and every table; so do --format markdown and --format html, with every \
                block and slice.";
    wrap(&mut out, "", rest);
    joined(&out)
}

/// The whole report.
#[must_use]
pub fn render(document: &Document) -> String {
    let mut out = head(document);
    for chapter in &document.chapters {
        out.push(String::new());
        out.push(chapter.title.to_uppercase());
        if chapter.parts.iter().all(|part| matches!(part, Part::Details { .. })) {
            let text = "Not in this form: --format markdown and --format html have every block and slice, and \
                        slices.ndjson beside the result has all that was measured in them.";
            wrap(&mut out, "", text);
            continue;
        }
        for part in &chapter.parts {
            render_part(&mut out, part);
        }
    }
    joined(&out)
}

fn head(document: &Document) -> Vec<String> {
    let mut out = Vec::new();
    wrap(&mut out, "", &document.title);
    out.push("=".repeat(document.title.chars().count().min(WIDTH)));
    document.lead.iter().for_each(|line| wrap(&mut out, "", line));
    out
}

fn joined(out: &[String]) -> String {
    let lines: Vec<&str> = out.iter().map(|line| line.trim_end()).collect();
    lines.join("\n") + "\n"
}

fn render_part(out: &mut Vec<String>, part: &Part) {
    match part {
        Part::Verdicts { items } => items.iter().for_each(|item| verdict(out, item)),
        Part::Paragraph { text } => wrap(out, "", text),
        Part::List { items } => items.iter().for_each(|item| wrap(out, "- ", item)),
        Part::Heading { text } => {
            out.push(String::new());
            wrap(out, "", text);
            out.push("-".repeat(text.chars().count().min(WIDTH)));
        }
        Part::Table(table) => render_table(out, table),
        Part::Figure(figure) => render_figure(out, figure),
        Part::Commands { items } => items.iter().for_each(|item| command(out, item)),
        Part::Details { .. } => {}
    }
}

fn verdict(out: &mut Vec<String>, item: &Verdict) {
    match item.word.as_str() {
        "" => wrap(out, "> ", &item.text),
        word => wrap(out, "> ", &format!("{}: {}", word.to_uppercase(), item.text)),
    }
}

fn render_figure(out: &mut Vec<String>, figure: &Figure) {
    out.push(String::new());
    wrap(out, "", &figure.title);
    if !figure.drawing.is_empty() {
        out.push(String::new());
        out.extend(figure.drawing.iter().cloned());
    }
    wrap(out, "", &figure.description);
    render_table(out, &figure.table);
}

fn render_table(out: &mut Vec<String>, table: &Table) {
    let mut drawn = comfy_table::Table::new();
    drawn.load_style(NOTHING);
    drawn.set_content_arrangement(ContentArrangement::Dynamic);
    drawn.set_width(WIDTH as u16);
    drawn.set_header(table.columns.iter().map(|column| column.name.clone()));
    for row in &table.rows {
        let cells = row.iter().zip(&table.columns);
        drawn.add_row(cells.map(|(cell, column)| if column.numeric { folded(cell) } else { cell.clone() }));
    }
    let widths = widths(table);
    // Numbers keep together where they leave room for names.
    let fits = widths.iter().sum::<usize>() <= WIDTH - 20;
    for ((column, names), width) in drawn.column_iter_mut().zip(&table.columns).zip(widths) {
        column.set_padding((0, 2));
        if names.numeric {
            column.set_cell_alignment(CellAlignment::Right);
            if fits {
                column.set_constraint(ColumnConstraint::LowerBoundary(Width::Fixed(width as u16)));
            }
        }
    }
    out.push(String::new());
    wrap(out, "", &format!("{}:", table.caption));
    out.extend(drawn.lines().map(|line| line.trim_end().to_string()));
}

/// A ratio with its interval below it: half as wide.
fn folded(cell: &str) -> String {
    cell.replacen(" (", "\n(", 1)
}

/// How wide the columns of numbers have to be; of others nothing is said.
fn widths(table: &Table) -> Vec<usize> {
    let column = |(index, column): (usize, &Column)| {
        let lines = table.rows.iter().flat_map(|row| row[index].split(" ("));
        let widest = lines.map(|line| line.chars().count() + 1).max().unwrap_or(0);
        if column.numeric { widest + 2 } else { 0 }
    };
    table.columns.iter().enumerate().map(column).collect()
}

/// A command stands on one line, however long: it is there to be copied.
fn command(out: &mut Vec<String>, item: &Command) {
    wrap(out, "", &format!("{}:", item.what));
    out.push(format!("    {}", item.line));
}

fn wrap(out: &mut Vec<String>, head: &str, text: &str) {
    out.extend(wrapped(head, text, WIDTH));
}
