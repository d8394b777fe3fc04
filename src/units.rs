//! Quantities as people write them: times (`50us`, `10ms`, `5s`, `1m`, `2h`), counts (`10k`, `1m`) and bytes
//! (`4Ki`, `1Mi`). Whole numbers only; what does not fit is refused, never rounded or wrapped. Lists of CPUs
//! (`0,2-3`), and signs of comparison. And lists of what would do, in a sentence, and sentences over several lines.
//!
//! Absent on purpose: bounds. Which values make sense is known where the setting is.

mod cpus;
mod relation;

pub use cpus::{parse_cpus, print_cpus};
pub use relation::Relation;

use std::fmt::Write as _;
use std::time::Duration;

/// Why a text is not a quantity, as the end of a sentence that begins with the text.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Reason {
    /// It is written otherwise.
    #[error("is not {what}; written like {examples}")]
    Form {
        /// What it should be.
        what: &'static str,
        /// How that is written.
        examples: &'static str,
    },
    /// It does not fit. Who knows a smaller bound names that instead.
    #[error("is too large for {what}; the largest is {largest}")]
    TooLarge {
        /// What it should be.
        what: &'static str,
        /// The largest there is.
        largest: String,
    },
}

const TIMES: &[(&str, u64)] =
    &[("us", 1), ("ms", 1_000), ("s", 1_000_000), ("m", 60_000_000), ("h", 3_600_000_000)];
const COUNTS: &[(&str, u64)] = &[("", 1), ("k", 1_000), ("m", 1_000_000)];
const BYTES: &[(&str, u64)] = &[("", 1), ("Ki", 1 << 10), ("Mi", 1 << 20), ("Gi", 1 << 30)];

/// A time: a whole number and `us`, `ms`, `s`, `m` (minutes) or `h`; a bare `0` is 0.
///
/// # Errors
/// Why the text is not a time, with what would do.
pub fn parse_time(text: &str) -> Result<Duration, Reason> {
    if text == "0" {
        return Ok(Duration::ZERO);
    }
    parse(text, TIMES, "a time", "50us, 10ms, 5s, 1m").map(Duration::from_micros)
}

/// A count: a whole number, with `k` (thousand) or `m` (million) or nothing after it.
///
/// # Errors
/// Why the text is not a count, with what would do.
pub fn parse_count(text: &str) -> Result<u64, Reason> {
    parse(text, COUNTS, "a count", "500, 10k, 1m")
}

/// Bytes: a whole number, with `Ki`, `Mi` or `Gi` (powers of 1024) or nothing after it.
///
/// # Errors
/// Why the text is not a number of bytes, with what would do.
pub fn parse_bytes(text: &str) -> Result<u64, Reason> {
    parse(text, BYTES, "a number of bytes", "4096, 4Ki, 1Mi")
}

fn parse(
    text: &str,
    units: &[(&str, u64)],
    what: &'static str,
    examples: &'static str,
) -> Result<u64, Reason> {
    let end = text.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(text.len());
    let (digits, unit) = text.split_at(end);
    let factor = units.iter().find(|(name, _)| *name == unit).map(|(_, factor)| *factor);
    let (Some(factor), false) = (factor, digits.is_empty()) else {
        return Err(Reason::Form { what, examples });
    };
    // Only digits are left, so the one way to fail is to be too large.
    let number = digits.parse::<u64>().ok().and_then(|number| number.checked_mul(factor));
    number.ok_or_else(|| {
        let (unit, factor) = units[units.len() - 1];
        Reason::TooLarge { what, largest: format!("{}{unit}", u64::MAX / factor) }
    })
}

/// Names of which one would do, as a sentence has them: `a`, `a or b`, `a, b or c`.
#[must_use]
pub fn alternatives<S: AsRef<str>>(names: &[S]) -> String {
    match names {
        [] => String::new(),
        [only] => only.as_ref().into(),
        [first @ .., last] => {
            let first: Vec<&str> = first.iter().map(AsRef::as_ref).collect();
            format!("{} or {}", first.join(", "), last.as_ref())
        }
    }
}

/// A text over as many lines of this width as it takes: the first begins with `head`, the others below the
/// text. A word that is longer stands alone.
#[must_use]
pub fn wrapped(head: &str, text: &str, width: usize) -> Vec<String> {
    let indent = " ".repeat(head.chars().count());
    let (mut lines, mut line, mut empty) = (Vec::new(), head.to_string(), true);
    for word in text.split_whitespace() {
        let length = line.chars().count() + word.chars().count() + usize::from(!empty);
        if length > width && !empty {
            lines.push(std::mem::replace(&mut line, indent.clone()));
            empty = true;
        }
        if !empty {
            line.push(' ');
        }
        line.push_str(word);
        empty = false;
    }
    lines.push(line);
    lines
}

/// A time in the largest unit that is exact: `90s`, `1m`, `1500us`. Below a microsecond is cut off.
#[must_use]
pub fn print_time(time: Duration) -> String {
    let micros = time.as_micros();
    if micros == 0 {
        return "0".into();
    }
    print(micros, TIMES)
}

/// Bytes in the largest unit that is exact: `4Ki`, `1Mi`, `1000`.
#[must_use]
pub fn print_bytes(bytes: u64) -> String {
    print(u128::from(bytes), BYTES)
}

/// A count in full: `10000`.
#[must_use]
pub fn print_count(count: u64) -> String {
    count.to_string()
}

/// A count in full for a person, thousands apart: `10,000`.
#[must_use]
pub fn whole(count: u64) -> String {
    let digits = count.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Bytes for a person, rounded down to a tenth: `17.4 MiB`.
#[must_use]
pub fn approximate_bytes(bytes: u64) -> String {
    let (unit, size) = match bytes {
        0..1024 => return format!("{bytes} B"),
        1024..0x10_0000 => ("KiB", 1u64 << 10),
        0x10_0000..0x4000_0000 => ("MiB", 1 << 20),
        _ => ("GiB", 1 << 30),
    };
    let tenths = u128::from(bytes) * 10 / u128::from(size);
    let mut text = (tenths / 10).to_string();
    if tenths % 10 != 0 {
        let _ = write!(text, ".{}", tenths % 10);
    }
    format!("{text} {unit}")
}

fn print(amount: u128, units: &[(&str, u64)]) -> String {
    let exact = |(_, factor): &&(&str, u64)| {
        amount >= u128::from(*factor) && amount.is_multiple_of(u128::from(*factor))
    };
    let (name, factor) = units.iter().rev().find(exact).unwrap_or(&units[0]);
    format!("{}{name}", amount / u128::from(*factor))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_sentence_goes_on_below_where_it_began() {
        assert_eq!(wrapped("- ", "one two three", 9), ["- one two", "  three"]);
        assert_eq!(wrapped("", "unbreakable a", 5), ["unbreakable", "a"]);
        assert_eq!(wrapped("- ", "", 9), ["- "]);
    }

    #[test]
    fn quantities_are_read_as_they_are_written_in_the_manual() {
        assert_eq!(parse_time("50us"), Ok(Duration::from_micros(50)));
        assert_eq!(parse_time("10ms"), Ok(Duration::from_millis(10)));
        assert_eq!(parse_time("5s"), Ok(Duration::from_secs(5)));
        assert_eq!(parse_time("1m"), Ok(Duration::from_secs(60)));
        assert_eq!(parse_time("0"), Ok(Duration::ZERO));
        assert_eq!(parse_count("10k"), Ok(10_000));
        assert_eq!(parse_count("1m"), Ok(1_000_000));
        assert_eq!(parse_bytes("4Ki"), Ok(4096));
        assert_eq!(parse_bytes("1Mi"), Ok(1 << 20));
        assert_eq!(parse_bytes("17"), Ok(17));
    }

    #[test]
    fn what_is_not_a_quantity_is_refused_with_an_example() {
        for text in ["", "5", "s", "-5s", "+5s", "5 s", "5S", "1.5s", "5ss", "٣s", "0x5s", "5s "] {
            assert!(parse_time(text).unwrap_err().to_string().contains("10ms"), "{text:?}");
        }
        for text in ["", "k", "-1", "+1", "1K", "1.5k", "ten", "1kk", "1_000"] {
            assert!(parse_count(text).unwrap_err().to_string().contains("10k"), "{text:?}");
        }
        for text in ["", "Ki", "4K", "4ki", "4KB", "-4Ki", "4 Ki"] {
            assert!(parse_bytes(text).unwrap_err().to_string().contains("4Ki"), "{text:?}");
        }
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        assert_eq!(parse_count("18446744073709551615"), Ok(u64::MAX));
        for text in ["18446744073709551616", "18446744073709551615k", "99999999999999999999999999m"] {
            let said = parse_count(text).unwrap_err().to_string();
            assert!(said.contains("too large") && said.ends_with("the largest is 18446744073709m"), "{said}");
        }
        assert!(parse_time("18446744073709551615h").unwrap_err().to_string().contains("too large"));
        assert!(parse_bytes("18014398509481985Ki").unwrap_err().to_string().contains("too large"));
    }

    #[test]
    fn what_is_printed_reads_back_as_the_same() {
        let mut random = fastrand::Rng::with_seed(1);
        for _ in 0..20_000 {
            let amount = random.u64(..) >> random.u32(..64);
            assert_eq!(parse_bytes(&print_bytes(amount)), Ok(amount));
            assert_eq!(parse_count(&print_count(amount)), Ok(amount));
            let time = Duration::from_micros(amount);
            assert_eq!(parse_time(&print_time(time)), Ok(time));
        }
    }

    #[test]
    fn no_text_makes_the_parser_panic() {
        let mut random = fastrand::Rng::with_seed(crate::seeds::one(2));
        let alphabet: Vec<char> = "0123456789usmhkKiMG.-+ é\u{0}٣".chars().collect();
        for _ in 0..50_000 {
            let text: String = (0..random.usize(..12)).map(|_| *random.choice(&alphabet).unwrap()).collect();
            let _ = (parse_time(&text), parse_count(&text), parse_bytes(&text));
        }
    }

    #[test]
    fn a_list_reads_as_in_a_sentence() {
        assert_eq!(alternatives(&["a"]), "a");
        assert_eq!(alternatives(&["a", "b"]), "a or b");
        assert_eq!(alternatives(&["a", "b", "c"]), "a, b or c");
    }

    #[test]
    fn sizes_for_people_are_short() {
        assert_eq!(approximate_bytes(0), "0 B");
        assert_eq!(approximate_bytes(1536), "1.5 KiB");
        assert_eq!(approximate_bytes(1 << 20), "1 MiB");
        assert_eq!(approximate_bytes(u64::MAX), "17179869183.9 GiB");
    }
}
