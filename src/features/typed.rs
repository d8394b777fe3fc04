//! From `dimension=value,dimension=value` to rows of the table, with a sentence for everything that
//! is not in it.

use super::Problem;
use super::table::{Dimension, Form, Value};
use crate::units::{self, Reason};
use std::time::Duration;

/// What somebody typed for one backend: checked against the table, not yet against a kernel.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Typed {
    entries: Vec<Entry>,
}

/// One `dimension=value`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Of which dimension.
    pub dimension: &'static Dimension,
    /// Which of its values.
    pub value: &'static Value,
    /// The number, where the value is one: a count, bytes or microseconds.
    pub amount: u64,
    /// The time beside the number, where there are two; microseconds.
    pub time: u64,
}

impl Entry {
    /// The value, as it could be typed.
    #[must_use]
    pub fn print(&self) -> String {
        match self.value.form {
            Form::Word(word) => word.into(),
            Form::Count(..) => units::print_count(self.amount),
            Form::Bytes(..) => units::print_bytes(self.amount),
            Form::Time(..) => print_micros(self.amount),
            Form::MinimumWait(..) => format!("min:{}:{}", self.amount, print_micros(self.time)),
        }
    }
}

impl Typed {
    /// Reads every text given to `flag`, and reports every problem in them.
    ///
    /// # Errors
    /// All that is wrong, a sentence each, naming the dimension, the value and what would do.
    pub fn parse(flag: &str, table: &'static [Dimension], texts: &[String]) -> Result<Self, Vec<Problem>> {
        let mut typed = Self::default();
        let mut problems = Vec::new();
        for item in texts.iter().flat_map(|text| text.split(',')) {
            match entry(flag, table, item) {
                Ok(new) if typed.get(new.dimension.name).is_some() => problems.push(Problem::usage(format!(
                    "{flag}: {} is given twice ({item}); once would do",
                    new.dimension.name
                ))),
                Ok(new) => typed.entries.push(new),
                Err(problem) => problems.push(problem),
            }
        }
        if problems.is_empty() { Ok(typed) } else { Err(problems) }
    }

    /// What was typed for the dimension of this name.
    #[must_use]
    pub fn get(&self, dimension: &str) -> Option<&Entry> {
        self.entries.iter().find(|entry| entry.dimension.name == dimension)
    }

    /// The amounts that were typed for the dimension of this name; `None` where a word was, or nothing.
    pub(super) fn amounts(&self, dimension: &str) -> Option<[u32; 2]> {
        let entry = self.get(dimension).filter(|entry| !matches!(entry.value.form, Form::Word(_)))?;
        Some([entry.amount, entry.time].map(|amount| amount as u32))
    }

    /// Whether nothing was typed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}

fn entry(flag: &str, table: &'static [Dimension], item: &str) -> Result<Entry, Problem> {
    let Some((name, text)) = item.split_once('=') else {
        let help = format!("{flag} help lists them");
        return Err(Problem::usage(match super::table::find(table, item) {
            Some(dimension) => format!("{flag}: {item} has no value; {} would do", choices(dimension)),
            None => format!("{flag}: {item:?} is not dimension=value; {help}"),
        }));
    };
    let Some(dimension) = super::table::find(table, name) else {
        let near = nearest(name, table.iter().map(|dimension| dimension.name));
        let near = near.map_or(String::new(), |near| format!("; did you mean {near}?"));
        return Err(Problem::usage(format!(
            "{flag}: there is no dimension {name:?} (in {item:?}){near}; {flag} help lists them"
        )));
    };
    let (value, [amount, time]) = value_of(flag, dimension, text)?;
    Ok(Entry { dimension, value, amount, time })
}

fn value_of(
    flag: &str,
    dimension: &'static Dimension,
    text: &str,
) -> Result<(&'static Value, Amounts), Problem> {
    let mut refusal = None;
    for value in dimension.values {
        match read(value.form, text) {
            Some(Ok(amount)) => return Ok((value, amount)),
            Some(Err(reason)) => refusal = Some(reason),
            None => {}
        }
    }
    let name = dimension.name;
    let words = dimension.values.iter().map(|value| value.form.name());
    let near = nearest(text, words).map_or(String::new(), |near| format!("; did you mean {near}?"));
    Err(Problem::usage(match refusal {
        Some(reason) => format!("{flag}: {name}={text}: {text:?} {reason}"),
        None => {
            format!("{flag}: {name}={text}: there is no such value; {} would do{near}", choices(dimension))
        }
    }))
}

/// The number of a value, and the time beside it.
type Amounts = [u64; 2];

/// The amounts, a reason why they are none, or `None` where the text is no attempt at this form.
fn read(form: Form, text: &str) -> Option<Result<Amounts, String>> {
    if let Form::MinimumWait(count_max, time_max) = form {
        return minimum_wait(text.strip_prefix("min:")?, count_max, time_max);
    }
    Some(number(form, text)?.map(|amount| [amount, 0]))
}

fn minimum_wait(text: &str, count_max: u64, time_max: u64) -> Option<Result<Amounts, String>> {
    let (count, time) = text.split_once(':')?;
    let count = within(units::parse_count(count), 1, count_max, units::print_count);
    let time = within(micros(time), 1, time_max, print_micros);
    Some(count.and_then(|count| Ok([count, time?])))
}

fn micros(text: &str) -> Result<u64, Reason> {
    units::parse_time(text).map(|time| time.as_micros() as u64)
}

fn print_micros(micros: u64) -> String {
    units::print_time(Duration::from_micros(micros))
}

fn number(form: Form, text: &str) -> Option<Result<u64, String>> {
    let number_like = text.starts_with(|letter: char| letter.is_ascii_digit() || letter == '-');
    match form {
        Form::Word(word) => (word == text).then_some(Ok(0)),
        Form::Count(least, most, power) => {
            let count = within(units::parse_count(text), least, most, units::print_count);
            Some(count.and_then(|count| if power { power_of_two(count) } else { Ok(count) }))
        }
        Form::Bytes(least, most) => Some(within(units::parse_bytes(text), least, most, units::print_bytes)),
        Form::Time(least, most) => number_like.then(|| within(micros(text), least, most, print_micros)),
        Form::MinimumWait(..) => None,
    }
}

fn within(read: Result<u64, Reason>, least: u64, most: u64, print: fn(u64) -> String) -> Result<u64, String> {
    let bounds = || format!("{} to {} would do", print(least), print(most));
    match read {
        Ok(amount) if (least..=most).contains(&amount) => Ok(amount),
        Ok(_) => Err(format!("is out of bounds; {}", bounds())),
        Err(Reason::TooLarge { .. }) => Err(format!("is too large; {}", bounds())),
        Err(reason) => Err(reason.to_string()),
    }
}

fn power_of_two(count: u64) -> Result<u64, String> {
    if count.is_power_of_two() {
        return Ok(count);
    }
    // Bounds are powers of two themselves, so both neighbours are within them.
    let above = count.next_power_of_two();
    Err(format!("is not a power of two; {} and {above} are", above / 2))
}

fn choices(dimension: &'static Dimension) -> String {
    let name = |value: &Value| format!("{}={}", dimension.name, value.form.name());
    units::alternatives(&dimension.values.iter().map(name).collect::<Vec<_>>())
}

/// The candidate that differs in the fewest letters, where that is few enough to be a slip.
fn nearest<'a>(text: &str, candidates: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    // Long texts are no slips, and the distance takes time in the product of the lengths.
    if text.len() > 32 {
        return None;
    }
    let scored = candidates.map(|candidate| (distance(text, candidate), candidate));
    scored.min().filter(|(edits, best)| *edits <= 1 + best.len() / 4).map(|(_, best)| best)
}

/// Levenshtein's distance.
fn distance(left: &str, right: &str) -> usize {
    let right: Vec<char> = right.chars().collect();
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (line, letter) in left.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = line + 1;
        for (column, other) in right.iter().enumerate() {
            let replaced = diagonal + usize::from(letter != *other);
            diagonal = row[column + 1];
            row[column + 1] = replaced.min(row[column] + 1).min(diagonal + 1);
        }
    }
    row[right.len()]
}

#[cfg(test)]
mod tests {
    use super::super::Kind;
    use super::super::table::{EPOLL, URING};
    use super::*;

    fn uring(text: &str) -> Result<Typed, Vec<Problem>> {
        Typed::parse("--uring", URING, &[text.to_string()])
    }

    #[test]
    fn a_variant_is_typed_as_one_string() {
        let typed = uring("recv=single,taskrun=coop,sq=4,buffer-size=4Ki").unwrap();
        assert_eq!(typed.get("recv").unwrap().value.form, Form::Word("single"));
        assert_eq!(typed.get("sq").unwrap().amount, 4);
        assert_eq!(typed.get("buffer-size").unwrap().amount, 4096);
        assert!(typed.get("cq").is_none());
    }

    #[test]
    fn what_was_typed_is_printed_as_it_could_be_typed() {
        for text in ["recv=single", "wait=min:16:50us", "napi=10ms", "recv-cap=4Ki", "sq=64"] {
            let typed = uring(text).unwrap();
            let entry = &typed.entries[0];
            assert_eq!(format!("{}={}", entry.dimension.name, entry.print()), text);
        }
    }

    #[test]
    fn what_is_wrong_is_named_with_its_value_and_what_would_do() {
        for (text, named) in [
            ("", "is not dimension=value"),
            ("recv", "recv=multishot, recv=single or recv=poll would do"),
            ("rcev=single", "did you mean recv?"),
            ("recv=singel", "did you mean single?"),
            ("recv=", "recv=multishot, recv=single or recv=poll would do"),
            ("recv=Single", "did you mean single?"),
            ("files=fast", "files=normal or files=direct would do"),
            ("sq=3", "2 and 4 are"),
            ("buffer-count=3000", "2048 and 4096 are"),
            ("buffer-count=1", "2 to 32768 would do"),
            ("buffer-count=65536", "2 to 32768 would do"),
            ("sq=65536", "1 to 32768 would do"),
            ("sq=0", "1 to 32768 would do"),
            ("sq=-1", "written like"),
            ("cq=131072", "1 to 65536 would do"),
            ("buffer-size=0", "64 to 16Mi would do"),
            ("buffer-size=99999999999999999999", "is too large; 64 to 16Mi would do"),
            ("napi=5x", "written like"),
            ("napi=0us", "1us to 10ms would do"),
            ("napi=1s", "1us to 10ms would do"),
            ("wait=min:0:50us", "1 to 65536 would do"),
            ("wait=min:16:2s", "1us to 1s would do"),
            ("wait=min:16", "wait=one or wait=min:COUNT:TIME would do"),
            ("recv-cap=0", "1 to 16Mi would do"),
            ("recv=single,recv=single", "given twice"),
            ("trigger=edge", "there is no dimension"),
        ] {
            let problems = uring(text).expect_err(text);
            assert_eq!(problems.len(), 1, "{text}");
            assert_eq!(problems[0].kind, Kind::Usage, "{text}");
            assert!(problems[0].text.contains(named), "{text}: {}", problems[0].text);
            assert!(problems[0].text.starts_with("--uring: "), "{text}");
        }
    }

    #[test]
    fn every_problem_is_reported_at_once() {
        assert_eq!(uring("recv=x,sq=3,nothing=1,files=direct").unwrap_err().len(), 3);
    }

    #[test]
    fn every_word_of_the_tables_can_be_typed() {
        for table in [URING, EPOLL] {
            for (dimension, value) in
                table.iter().flat_map(|row| row.values.iter().map(move |value| (row, value)))
            {
                let Form::Word(word) = value.form else { continue };
                let read = value_of("--x", dimension, word).map(|(found, _)| found);
                assert_eq!(read, Ok(value), "{}={word}", dimension.name);
            }
        }
    }
}
