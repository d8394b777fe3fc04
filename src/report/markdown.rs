//! The form for issues and pull requests: tables, pictures in letters, single slices folded away.

use super::document::{Document, Figure, Part, Table};
use std::fmt::Write as _;

/// The whole report.
#[must_use]
pub fn render(document: &Document) -> String {
    let mut out = format!("# {}\n\n", escaped(&document.title));
    for line in &document.lead {
        let _ = writeln!(out, "{}  ", escaped(line));
    }
    for chapter in &document.chapters {
        let _ = writeln!(out, "\n## {}\n", escaped(&chapter.title));
        for part in &chapter.parts {
            render_part(&mut out, part);
        }
    }
    out
}

fn render_part(out: &mut String, part: &Part) {
    // Writing to a string cannot fail.
    let _ = match part {
        Part::Verdicts { items } => items.iter().try_for_each(|item| match item.word.as_str() {
            "" => writeln!(out, "> {}\n", escaped(&item.text)),
            word => writeln!(out, "> **{}** {}\n", escaped(word), escaped(&item.text)),
        }),
        Part::Paragraph { text } => writeln!(out, "{}\n", escaped(text)),
        Part::List { items } => {
            items.iter().for_each(|item| out.push_str(&format!("- {}\n", escaped(item))));
            writeln!(out)
        }
        Part::Heading { text } => writeln!(out, "### {}\n", escaped(text)),
        Part::Table(table) => {
            render_table(out, table);
            Ok(())
        }
        Part::Figure(figure) => {
            render_figure(out, figure);
            Ok(())
        }
        Part::Commands { items } => items
            .iter()
            .try_for_each(|item| writeln!(out, "{}:\n\n{}\n", escaped(&item.what), code(&item.line))),
        Part::Details { summary, tables } => {
            let _ = writeln!(out, "<details><summary>{}</summary>\n", escaped(summary));
            tables.iter().for_each(|table| render_table(out, table));
            writeln!(out, "</details>\n")
        }
    };
}

fn render_figure(out: &mut String, figure: &Figure) {
    let _ = writeln!(out, "### {}\n", escaped(&figure.title));
    if !figure.drawing.is_empty() {
        let _ = writeln!(out, "{}\n", code(&figure.drawing.join("\n")));
    }
    let _ = writeln!(out, "{}\n", escaped(&figure.description));
    render_table(out, &figure.table);
}

fn render_table(out: &mut String, table: &Table) {
    let row = |cells: Vec<String>| format!("| {} |\n", cells.join(" | "));
    let _ = writeln!(out, "{}:\n", escaped(&table.caption));
    out.push_str(&row(table.columns.iter().map(|column| escaped(&column.name)).collect()));
    let rules = table.columns.iter().map(|column| if column.numeric { "---:" } else { "---" }.to_string());
    out.push_str(&row(rules.collect()));
    for cells in &table.rows {
        out.push_str(&row(cells.iter().map(|cell| escaped(cell)).collect()));
    }
    out.push('\n');
}

/// Lines as they are. The fence is longer than any in them.
fn code(text: &str) -> String {
    let longest = text.split(|letter| letter != '`').map(str::len).max().unwrap_or(0);
    let fence = "`".repeat(longest.max(2) + 1);
    format!("{fence}text\n{text}\n{fence}")
}

/// Text that is nothing but text: neither an element nor emphasis, a link or the end of a table's cell.
fn escaped(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '<' => safe.push_str("&lt;"),
            '&' => safe.push_str("&amp;"),
            '\n' | '\r' => safe.push(' '),
            '|' | '`' | '*' | '[' | ']' | '\\' => {
                safe.push('\\');
                safe.push(letter);
            }
            letter => safe.push(letter),
        }
    }
    safe
}
