//! One row for each setting that is a quantity: its flag, its bounds, its default, and why they are so.
//! The help text and the checks read the same rows.

use crate::units::{self, Reason};
use std::time::Duration;

/// What kind of quantity a setting is; its numbers are counts, bytes or microseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Things.
    Count,
    /// Bytes.
    Bytes,
    /// Microseconds.
    Time,
}

/// One row.
#[derive(Clone, Copy, Debug)]
pub struct Setting {
    /// How it is typed.
    pub flag: &'static str,
    /// What its number counts.
    pub unit: Unit,
    /// The least it may be; 0 is allowed besides where it means "off".
    pub least: u64,
    /// The most it may be.
    pub most: u64,
    /// Whether 0 and `off` mean that there is none.
    pub off: bool,
    /// What it is when it is not typed; `None` is off, or follows the host.
    pub default: Option<u64>,
    /// Why the bounds and the default are what they are.
    pub reason: &'static str,
}

const SECOND: u64 = 1_000_000;
const MINUTE: u64 = 60 * SECOND;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;

const fn row(flag: &'static str, unit: Unit, least: u64, most: u64, reason: &'static str) -> Setting {
    Setting { flag, unit, least, most, off: false, default: None, reason }
}

const fn time(
    flag: &'static str,
    least: u64,
    most: u64,
    default: Option<u64>,
    reason: &'static str,
) -> Setting {
    Setting { flag, unit: Unit::Time, least, most, off: true, default, reason }
}

/// Every setting that is a quantity.
pub const SETTINGS: &[Setting] = &[
    row("--workers", Unit::Count, 1, 1024, "the CPUs of the affinity mask; a ring or an epoll instance each"),
    row(
        "--max-connections",
        Unit::Count,
        1,
        crate::features::table::CONNECTIONS_MAX,
        "descriptors less what the server itself needs, at most 65536 unless asked; an id has 24 bits of slot",
    ),
    time("--idle-timeout", 1_000, 30 * DAY, None, "kept in milliseconds"),
    time(
        "--write-timeout",
        1_000,
        30 * DAY,
        Some(60 * SECOND),
        "kept in milliseconds; a peer that takes nothing for a minute is not coming back",
    ),
    Setting {
        off: false,
        ..time(
            "--drain-timeout",
            0,
            DAY,
            Some(10 * SECOND),
            "0 cuts at once; a supervisor kills after 10s or more",
        )
    },
    Setting {
        default: Some(65_535),
        ..row(
            "--backlog",
            Unit::Count,
            1,
            i32::MAX as u64,
            "an int of listen(2), which the kernel caps by itself",
        )
    },
    Setting {
        // A buffer of the server by completion: what one receive brought is taken by one send.
        default: Some(64 << 10),
        ..row(
            "--unsent-limit",
            Unit::Bytes,
            1,
            1 << 30,
            "without it one peer that never reads holds 3 to 4 MB",
        )
    },
    Setting {
        // A buffer each for a thousand peers that are stuck at once.
        default: Some(64 << 20),
        ..row("--spill-limit", Unit::Bytes, 0, 1 << 40, "beyond it the longest stuck peers are closed")
    },
    row("--recv-buffer", Unit::Bytes, 2304, 1 << 30, "the kernel's own least; untyped it grows by itself"),
    time(
        "--keepalive",
        SECOND,
        9 * HOUR,
        None,
        "whole seconds, as the kernel has it, which takes up to 32767 of them",
    ),
    time(
        "--user-timeout",
        1_000,
        35 * MINUTE,
        None,
        "milliseconds; the kernel itself gives a peer up after some 15 minutes",
    ),
    time("--stats-every", 10_000, DAY, None, "more often than every 10ms measures the printing"),
];

impl Setting {
    /// The row of a flag.
    ///
    /// # Panics
    /// When there is none: our own mistake.
    #[must_use]
    pub fn of(flag: &str) -> &'static Self {
        SETTINGS.iter().find(|row| row.flag == flag).expect("every quantity has a row")
    }

    /// Reads what was typed; `Ok(None)` is "off".
    ///
    /// # Errors
    /// The sentence: flag, value, what would do.
    pub fn read(&self, text: &str) -> Result<Option<u64>, String> {
        if self.off && (text == "off" || text == "0") {
            return Ok(None);
        }
        let amount = match self.unit {
            Unit::Count => units::parse_count(text),
            Unit::Bytes => units::parse_bytes(text),
            Unit::Time => {
                units::parse_time(text).map(|time| u64::try_from(time.as_micros()).unwrap_or(u64::MAX))
            }
        };
        let amount = amount.map_err(|reason| match reason {
            Reason::TooLarge { .. } => {
                format!("{}: {text} is too large; {} would do", self.flag, self.bounds())
            }
            reason => format!("{}: {text:?} {reason}", self.flag),
        })?;
        if (self.least..=self.most).contains(&amount) {
            return Ok(Some(amount));
        }
        Err(format!("{}: {text} is out of bounds; {} would do", self.flag, self.bounds()))
    }

    /// Its bounds, for sentences and help.
    #[must_use]
    pub fn bounds(&self) -> String {
        let off = if self.off { ", or off" } else { "" };
        format!("{} to {}{off}", self.print(self.least), self.print(self.most))
    }

    /// An amount in its unit.
    #[must_use]
    pub fn print(&self, amount: u64) -> String {
        match self.unit {
            Unit::Count => units::print_count(amount),
            Unit::Bytes => units::print_bytes(amount),
            Unit::Time => units::print_time(Duration::from_micros(amount)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_default_is_within_its_bounds_and_every_bound_can_be_typed() {
        for row in SETTINGS {
            assert!(row.least <= row.most, "{}", row.flag);
            assert!(
                row.default.is_none_or(|default| (row.least..=row.most).contains(&default)),
                "{}",
                row.flag
            );
            for bound in [row.least.max(1), row.most] {
                assert_eq!(row.read(&row.print(bound)).map(|read| read.is_some()), Ok(bound >= row.least));
            }
            assert!(row.read(&row.print(row.most + 1)).unwrap_err().contains(&row.bounds()), "{}", row.flag);
        }
    }

    #[test]
    fn zero_is_off_only_where_off_makes_sense() {
        for row in SETTINGS {
            let zero = row.read("0");
            match (row.off, row.least) {
                (true, _) => assert_eq!(zero, Ok(None), "{}", row.flag),
                (false, 0) => assert_eq!(zero, Ok(Some(0)), "{}", row.flag),
                (false, _) => assert!(zero.unwrap_err().contains("would do"), "{}", row.flag),
            }
            assert_eq!(row.read("off").is_ok(), row.off, "{}", row.flag);
        }
    }
}
