//! What a report says, before it is text, Markdown or a page. A picture is never without its numbers: the
//! type has the table in it.

use serde::Serialize;

/// All of it, in the order it is read.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Document {
    /// What it is.
    pub title: String,
    /// What was measured where, a line each.
    pub lead: Vec<String>,
    /// The chapters.
    pub chapters: Vec<Chapter>,
    /// What was compared, a line each, where there is so much of it that a terminal has no room for more;
    /// otherwise empty.
    pub lines: Vec<String>,
}

/// A chapter.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Chapter {
    /// What names it within the page.
    pub id: String,
    /// Its heading.
    pub title: String,
    /// What it says.
    pub parts: Vec<Part>,
}

/// A part of a chapter.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Part {
    /// Sentences with a word before each: a verdict, the fate of a gate.
    Verdicts {
        /// Them.
        items: Vec<Verdict>,
    },
    /// A paragraph.
    Paragraph {
        /// Its text.
        text: String,
    },
    /// Sentences that stand for themselves.
    List {
        /// Them.
        items: Vec<String>,
    },
    /// A heading within the chapter.
    Heading {
        /// Its text.
        text: String,
    },
    /// Numbers.
    Table(Table),
    /// A picture with its numbers.
    Figure(Figure),
    /// What can be typed.
    Commands {
        /// Them.
        items: Vec<Command>,
    },
    /// What only few want to see.
    Details {
        /// What it is.
        summary: String,
        /// It.
        tables: Vec<Table>,
    },
}

/// A sentence under a word.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Verdict {
    /// One word, or two.
    pub word: String,
    /// The sentence.
    pub text: String,
}

/// Numbers in rows. The first column names the row.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Table {
    /// What it shows.
    pub caption: String,
    /// Its columns.
    pub columns: Vec<Column>,
    /// Its rows, as long as the columns are many.
    pub rows: Vec<Vec<String>>,
}

/// A column.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Column {
    /// Its heading.
    pub name: String,
    /// Whether it is set flush right.
    pub numeric: bool,
}

/// A picture.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Figure {
    /// What names it within the page.
    pub id: String,
    /// What it shows.
    pub title: String,
    /// How it is read, and what is to be seen, for who cannot see it too.
    pub description: String,
    /// The picture, SVG, everything in it escaped.
    pub svg: String,
    /// The picture in letters, where letters can draw it; otherwise empty.
    pub drawing: Vec<String>,
    /// Its numbers.
    pub table: Table,
}

/// A command.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Command {
    /// What it does.
    pub what: String,
    /// As it is typed.
    pub line: String,
}

impl Table {
    /// An empty table. A column whose name begins with `#` holds numbers; the sign is dropped.
    #[must_use]
    pub fn new(caption: impl Into<String>, columns: &[&str]) -> Self {
        let columns = columns.iter().map(|name| Column::new(name)).collect();
        Self { caption: caption.into(), columns, rows: Vec::new() }
    }

    /// Adds a column; see [`Self::new`].
    pub fn column(&mut self, name: &str) {
        self.columns.push(Column::new(name));
    }

    /// Adds a row.
    pub fn row(&mut self, cells: Vec<String>) {
        assert_eq!(cells.len(), self.columns.len(), "a row of {:?} is as long as its head", self.caption);
        self.rows.push(cells);
    }
}

impl Column {
    fn new(name: &str) -> Self {
        let plain = name.strip_prefix('#');
        Self { name: plain.unwrap_or(name).into(), numeric: plain.is_some() }
    }
}

impl Part {
    /// A paragraph.
    #[must_use]
    pub fn paragraph(text: impl Into<String>) -> Self {
        Self::Paragraph { text: text.into() }
    }

    /// A heading within a chapter.
    #[must_use]
    pub fn heading(text: impl Into<String>) -> Self {
        Self::Heading { text: text.into() }
    }
}
