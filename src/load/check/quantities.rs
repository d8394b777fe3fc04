//! Single settings, read and bounded: each wrong one becomes a sentence that names the flag, the value
//! and what would do. It leaves out what holds between settings.

use crate::units::{self, Reason};
use std::ops::RangeInclusive;
use std::time::Duration;

/// Collects sentences while it reads.
#[derive(Debug, Default)]
pub(super) struct Reader {
    pub(super) problems: Vec<String>,
}

pub(super) const HOUR: Duration = Duration::from_secs(3600);

impl Reader {
    pub(super) fn wrong(&mut self, sentence: impl Into<String>) {
        self.problems.push(sentence.into());
    }

    /// What was typed, if it was typed and right.
    fn keep<T>(&mut self, result: Result<T, String>) -> Option<T> {
        result.map_err(|sentence| self.wrong(sentence)).ok()
    }

    pub(super) fn count(
        &mut self,
        flag: &str,
        typed: &Option<String>,
        bounds: RangeInclusive<u64>,
    ) -> Option<u64> {
        let result = number(flag, typed.as_deref()?, units::parse_count, units::print_count, bounds);
        self.keep(result)
    }

    pub(super) fn time(
        &mut self,
        flag: &str,
        typed: &Option<String>,
        bounds: RangeInclusive<Duration>,
    ) -> Option<Duration> {
        let result = number(flag, typed.as_deref()?, units::parse_time, units::print_time, bounds);
        self.keep(result)
    }

    /// Bytes of a message: one number, or a range `64..4Ki`.
    pub(super) fn size(&mut self, typed: &Option<String>) -> Option<RangeInclusive<u32>> {
        const FLAG: &str = "--size";
        const BOUNDS: RangeInclusive<u64> = 1..=SIZE_MAX;
        let text = typed.as_deref()?;
        let bytes = |text: &str| number(FLAG, text, units::parse_bytes, units::print_bytes, BOUNDS);
        let Some((least, most)) = text.split_once("..") else {
            let one = self.keep(bytes(text))? as u32;
            return Some(one..=one);
        };
        let (least, most) = (self.keep(bytes(least)), self.keep(bytes(most)));
        let (least, most) = (least? as u32, most? as u32);
        if least > most {
            self.wrong(format!(
                "{FLAG}: {text} runs backwards; {}..{} would do",
                units::print_bytes(most.into()),
                units::print_bytes(least.into())
            ));
            return None;
        }
        Some(least..=most)
    }

    pub(super) fn choice<T: Copy>(
        &mut self,
        flag: &str,
        typed: &Option<String>,
        choices: &[(&str, T)],
    ) -> Option<T> {
        let text = typed.as_deref()?;
        if let Some((_, value)) = choices.iter().find(|(name, _)| *name == text) {
            return Some(*value);
        }
        let names: Vec<&str> = choices.iter().map(|(name, _)| *name).collect();
        let names = units::alternatives(&names);
        self.wrong(format!("{flag}: {text:?} is none of its values; {names} would do"));
        None
    }

    /// Percentiles as `50,99.9`, ascending and once each.
    pub(super) fn percentiles(&mut self, typed: &Option<String>) -> Option<Vec<f64>> {
        const FLAG: &str = "--percentiles";
        let text = typed.as_deref()?;
        let mut list = Vec::new();
        for part in text.split(',') {
            let plain = part.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
            match part.parse::<f64>().ok().filter(|percent| plain && (0.0..100.0).contains(percent)) {
                Some(percent) if percent > 0.0 => list.push(percent),
                _ => {
                    self.wrong(format!(
                        "{FLAG}: {part:?} is no percentile between 0 and 100; written like 50,99,99.9"
                    ));
                    return None;
                }
            }
        }
        if list.len() > PERCENTILES_MAX {
            self.wrong(format!("{FLAG}: {} of them; at most {PERCENTILES_MAX} would do", list.len()));
        }
        list.sort_by(f64::total_cmp);
        list.dedup();
        Some(list)
    }
}

/// Bytes of a message at most.
pub(super) const SIZE_MAX: u64 = 16 << 20;
const PERCENTILES_MAX: usize = 20;

fn number<T: PartialOrd + Copy>(
    flag: &str,
    text: &str,
    parse: impl Fn(&str) -> Result<T, Reason>,
    print: impl Fn(T) -> String,
    bounds: RangeInclusive<T>,
) -> Result<T, String> {
    let may = || format!("{} to {} would do", print(*bounds.start()), print(*bounds.end()));
    let amount = parse(text).map_err(|reason| match reason {
        Reason::TooLarge { .. } => format!("{flag}: {text} is too large; {}", may()),
        reason => format!("{flag}: {text:?} {reason}"),
    })?;
    match bounds.contains(&amount) {
        true => Ok(amount),
        false => Err(format!("{flag}: {text} is out of bounds; {}", may())),
    }
}
