//! Numbers and dates as a report prints them. Pure.

use crate::result::bench::{Judgement, Ratio};
pub use crate::units::whole;

/// A number with four digits that say something: `12,346`, `123.5`, `1.234`, `0.0123`; a dash where
/// there is none.
#[must_use]
pub fn plain(number: Option<f64>) -> String {
    let Some(number) = number else { return "–".into() };
    match number.abs() {
        0.0 => "0".into(),
        size if size >= 999.95 => thousands(number),
        size if size >= 99.995 => format!("{number:.1}"),
        size if size >= 9.9995 => format!("{number:.2}"),
        size if size >= 0.1 => format!("{number:.3}"),
        size if size >= 0.0001 => format!("{number:.4}"),
        _ => format!("{number:.1e}"),
    }
}

fn thousands(number: f64) -> String {
    let rounded = number.abs().round();
    if rounded >= 1e15 {
        return format!("{number:.3e}");
    }
    let sign = if number < 0.0 { "−" } else { "" };
    format!("{sign}{}", whole(rounded as u64))
}

/// A ratio with its interval: `0.87 (0.84–0.90)`; three decimals where two would hide the interval, and
/// how sure it is where that is less than 95 %: `1.11 (1.09–1.18, 75 %)`. A single pair has no interval.
#[must_use]
pub fn ratio(ratio: Option<&Ratio>) -> String {
    let Some(ratio) = ratio else { return "–".into() };
    let decimals = decimals(ratio);
    let Ratio { median, low, high, confidence, pairs, .. } = ratio;
    if pairs.len() == 1 {
        return format!("{median:.decimals$} (one pair)");
    }
    let sure = match *confidence < 0.95 {
        true => format!(", {:.0} %", confidence * 100.0),
        false => String::new(),
    };
    format!("{median:.decimals$} ({low:.decimals$}–{high:.decimals$}{sure})")
}

/// What the interval rests on: `95 %, 24 blocks`.
#[must_use]
pub fn backing(ratio: &Ratio) -> String {
    format!("{} %, {} blocks", plain_percent(ratio.confidence), ratio.pairs.len())
}

fn plain_percent(share: f64) -> String {
    let text = format!("{:.1}", share * 100.0);
    text.strip_suffix(".0").map_or(text.clone(), String::from)
}

fn decimals(ratio: &Ratio) -> usize {
    if ratio.high - ratio.low < 0.03 { 3 } else { 2 }
}

/// A percentile: `p50`, `p99.9`.
#[must_use]
pub fn percentile(percentile: f64) -> String {
    format!("p{percentile}")
}

/// A duration in microseconds as a person says it: `58.2 s`, `3 min 20 s`.
#[must_use]
pub fn duration(microseconds: u64) -> String {
    let seconds = microseconds as f64 / 1e6;
    if seconds < 119.95 {
        return format!("{seconds:.1} s");
    }
    let seconds = seconds.round() as u64;
    match (seconds / 3_600, seconds / 60 % 60, seconds % 60) {
        (0, minutes, seconds) => format!("{minutes} min {seconds} s"),
        (hours, minutes, _) => format!("{hours} h {minutes} min"),
    }
}

/// The day and time, UTC: `2026-11-22 07:44 UTC`.
#[must_use]
pub fn date(unix_seconds: f64) -> String {
    // Beyond these years somebody's clock, or file, is wrong.
    if !(0.0..253_402_300_800.0).contains(&unix_seconds) {
        return "at no known time".into();
    }
    let seconds = unix_seconds as u64;
    let (mut days, mut year) = (seconds / 86_400, 1970);
    while days >= days_of(year) {
        days -= days_of(year);
        year += 1;
    }
    let february = if days_of(year) == 366 { 29 } else { 28 };
    let mut month = 1;
    for length in [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30] {
        if days < length {
            break;
        }
        days -= length;
        month += 1;
    }
    let (hour, minute) = (seconds / 3_600 % 24, seconds / 60 % 60);
    format!("{year}-{month:02}-{:02} {hour:02}:{minute:02} UTC", days + 1)
}

fn days_of(year: u64) -> u64 {
    let leap = year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    if leap { 366 } else { 365 }
}

/// A verdict in one word.
#[must_use]
pub fn word(judgement: Judgement) -> &'static str {
    match judgement {
        Judgement::Better => "better",
        Judgement::Worse => "worse",
        Judgement::Same => "same",
        Judgement::Undecided => "undecided",
        Judgement::LeftOut => "left out",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_keep_four_digits() {
        for (number, text) in [
            (0.0, "0"),
            (5_304_321.4, "5,304,321"),
            (999.96, "1,000"),
            (123.45, "123.5"),
            (18.404, "18.40"),
            (1.2345, "1.234"),
            (0.11, "0.110"),
            (0.0123, "0.0123"),
            (0.000_01, "1.0e-5"),
            (-2_410.0, "−2,410"),
        ] {
            assert_eq!(plain(Some(number)), text);
        }
        assert_eq!(plain(None), "–");
    }

    #[test]
    fn a_ratio_shows_its_interval() {
        let narrow = |low, high| Ratio {
            median: 0.8712,
            low,
            high,
            confidence: 0.9687,
            method: "order_statistics".into(),
            pairs: vec![0.87; 6],
        };
        assert_eq!(ratio(Some(&narrow(0.84, 0.9))), "0.87 (0.84–0.90)");
        assert_eq!(ratio(Some(&narrow(0.869, 0.873))), "0.871 (0.869–0.873)");
        let unsure = Ratio { confidence: 0.75, ..narrow(0.84, 0.9) };
        assert_eq!(ratio(Some(&unsure)), "0.87 (0.84–0.90, 75 %)");
        let single = Ratio { pairs: vec![0.87], confidence: 0.0, ..narrow(0.87, 0.87) };
        assert_eq!((ratio(None), ratio(Some(&single))), ("–".into(), "0.871 (one pair)".into()));
        assert_eq!(backing(&narrow(0.8, 0.9)), "96.9 %, 6 blocks");
    }

    #[test]
    fn days_are_counted_over_leap_years() {
        for (seconds, text) in [
            (0.0, "1970-01-01 00:00 UTC"),
            (951_782_400.0, "2000-02-29 00:00 UTC"),
            (1_735_689_599.9, "2024-12-31 23:59 UTC"),
            (1_795_332_240.0, "2026-11-22 07:24 UTC"),
            (4_107_542_400.0, "2100-03-01 00:00 UTC"),
            (-1.0, "at no known time"),
            (f64::NAN, "at no known time"),
        ] {
            assert_eq!(date(seconds), text, "{seconds}");
        }
    }

    #[test]
    fn durations_are_said_as_a_person_would() {
        for (us, text) in [(58_230_000, "58.2 s"), (200_000_000, "3 min 20 s"), (7_260_000_000, "2 h 1 min")]
        {
            assert_eq!(duration(us), text);
        }
    }
}
