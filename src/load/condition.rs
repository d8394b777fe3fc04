//! Conditions as people write them: `p99<1ms`, `service_p99.9<=500us`, `max<10ms`, `rate>100k`. Read here,
//! and held against numbers that somebody else looks up by name: `--find-rate` searches the highest rate at
//! which one holds, `--fail-if` ends with exit code 3 where one does. Pure.

use crate::units::{self, Relation};
use std::fmt;
use std::time::Duration;

/// A comparison of a measured number with a fixed one.
#[derive(Clone, Debug, PartialEq)]
pub struct Condition {
    /// What is compared.
    pub metric: Metric,
    /// How.
    pub relation: Relation,
    /// With what: nanoseconds for times, otherwise a count, a rate a second or bytes a second.
    pub bound: f64,
}

/// A measured number.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Metric {
    /// Of a distribution of times.
    Time(Distribution, Value),
    /// Messages a second.
    Rate,
    /// Bytes received a second.
    Throughput,
    /// Connections made and ended a second (churn).
    ConnectionRate,
    /// Whatever went wrong, of every kind.
    Errors,
    /// Connections owed bytes when the grace was over.
    Stuck,
}

/// A distribution of times.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Distribution {
    /// What the run is about: the response in an open loop, the round trip in a closed one.
    Main,
    /// From the time a message should have been sent.
    Response,
    /// From the time it was sent.
    Service,
    /// From the SYN to the connection that stands.
    Connect,
    /// From the close to the kernel's answer.
    Close,
    /// How late a message was sent though its connection was free.
    Lag,
}

/// What of a distribution.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Value {
    /// The time that so many per cent of the samples do not exceed.
    Percentile(f64),
    /// The mean.
    Mean,
    /// The longest.
    Max,
}

const DISTRIBUTIONS: [(&str, Distribution); 5] = [
    ("response", Distribution::Response),
    ("service", Distribution::Service),
    ("connect", Distribution::Connect),
    ("close", Distribution::Close),
    ("lag", Distribution::Lag),
];
const NUMBERS: [(&str, Metric); 5] = [
    ("rate", Metric::Rate),
    ("throughput", Metric::Throughput),
    ("connections", Metric::ConnectionRate),
    ("errors", Metric::Errors),
    ("stuck", Metric::Stuck),
];

impl Condition {
    /// Reads a condition. Spaces do not matter.
    ///
    /// # Errors
    /// A sentence that begins with the text, says what is wrong with it and what would do.
    pub fn parse(text: &str) -> Result<Self, String> {
        let position = text.find(['<', '>', '=', '!']);
        let Some((name, rest)) = position.map(|position| text.split_at(position)) else {
            return Err(format!("{text:?} compares nothing; write it like p99<1ms"));
        };
        let Some(relation) = Relation::leading(rest) else {
            return Err(format!("{text:?} compares in no known way; <, <=, > and >= would do"));
        };
        let metric = Metric::parse(name.trim()).map_err(|why| format!("{text:?}: {why}"))?;
        let bound =
            metric.bound(rest[relation.sign().len()..].trim()).map_err(|why| format!("{text:?}: {why}"))?;
        Ok(Self { metric, relation, bound })
    }

    /// Whether it holds, for the numbers that `look_up` knows, in the units of [`Self::bound`]; `None`
    /// where it does not know: a percentile without ten samples beyond it.
    pub fn holds(&self, look_up: impl FnOnce(Metric) -> Option<f64>) -> Option<bool> {
        let number = look_up(self.metric)?;
        Some(self.relation.holds(number, self.bound))
    }
}

impl Metric {
    fn parse(name: &str) -> Result<Self, String> {
        if let Some((_, metric)) = NUMBERS.iter().find(|(known, _)| *known == name) {
            return Ok(*metric);
        }
        let (distribution, value) = match name.split_once('_') {
            None => (Distribution::Main, name),
            Some((prefix, value)) => {
                let known = DISTRIBUTIONS.iter().find(|(known, _)| *known == prefix);
                let (_, distribution) = known.ok_or_else(|| {
                    let names: Vec<String> =
                        DISTRIBUTIONS.iter().map(|(name, _)| format!("{name}_")).collect();
                    format!(
                        "{prefix}_ is no latency that is measured; {} would do",
                        units::alternatives(&names)
                    )
                })?;
                (*distribution, value)
            }
        };
        let value = match value {
            "max" => Value::Max,
            "mean" => Value::Mean,
            _ => Value::Percentile(percent(value).ok_or_else(|| unknown(name))?),
        };
        Ok(Self::Time(distribution, value))
    }

    fn bound(self, text: &str) -> Result<f64, String> {
        let read = match self {
            Self::Time(..) => units::parse_time(text).map(|time: Duration| time.as_nanos() as f64),
            Self::Throughput => units::parse_bytes(text).map(|bytes| bytes as f64),
            _ => units::parse_count(text).map(|count| count as f64),
        };
        read.map_err(|reason| format!("{text:?} {reason}"))
    }
}

/// `p99.9` as 99.9. More than no sample must exceed it: `p100` is the maximum, which has its own name.
fn percent(name: &str) -> Option<f64> {
    let digits = name.strip_prefix('p')?;
    let plain = digits.starts_with(|letter: char| letter.is_ascii_digit())
        && digits.ends_with(|letter: char| letter.is_ascii_digit())
        && digits.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    let percent: f64 = digits.parse().ok().filter(|_| plain)?;
    (percent > 0.0 && percent < 100.0).then_some(percent)
}

fn unknown(name: &str) -> String {
    let numbers: Vec<&str> = NUMBERS.iter().map(|(name, _)| *name).collect();
    format!(
        "{name:?} is not measured; p50, p99.9 or any percentile above p0 and below p100, max, mean, {} would do",
        units::alternatives(&numbers)
    )
}

impl fmt::Display for Condition {
    fn fmt(&self, text: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(text, "{}{}", self.metric, self.relation.sign())?;
        match self.metric {
            Metric::Time(..) => text.write_str(&units::print_time(Duration::from_nanos(self.bound as u64))),
            Metric::Throughput => text.write_str(&units::print_bytes(self.bound as u64)),
            _ => text.write_str(&units::print_count(self.bound as u64)),
        }
    }
}

impl fmt::Display for Metric {
    fn fmt(&self, text: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some((name, _)) = NUMBERS.iter().find(|(_, other)| other == self) {
            return text.write_str(name);
        }
        let Self::Time(distribution, value) = self else { unreachable!("numbers have names") };
        if let Some((prefix, _)) = DISTRIBUTIONS.iter().find(|(_, other)| other == distribution) {
            write!(text, "{prefix}_")?;
        }
        match value {
            Value::Percentile(percent) => write!(text, "p{percent}"),
            Value::Mean => text.write_str("mean"),
            Value::Max => text.write_str("max"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conditions_are_read_as_they_are_written() {
        let time = |distribution, value| Metric::Time(distribution, value);
        for (text, metric, relation, bound) in [
            ("p99<1ms", time(Distribution::Main, Value::Percentile(99.0)), Relation::Below, 1e6),
            ("p99.9 <= 500us", time(Distribution::Main, Value::Percentile(99.9)), Relation::AtMost, 5e5),
            ("service_p50>2s", time(Distribution::Service, Value::Percentile(50.0)), Relation::Above, 2e9),
            ("response_mean>=1us", time(Distribution::Response, Value::Mean), Relation::AtLeast, 1e3),
            (" max < 1m ", time(Distribution::Main, Value::Max), Relation::Below, 6e10),
            ("connect_max<3s", time(Distribution::Connect, Value::Max), Relation::Below, 3e9),
            ("close_p90<1s", time(Distribution::Close, Value::Percentile(90.0)), Relation::Below, 1e9),
            ("lag_p99<1ms", time(Distribution::Lag, Value::Percentile(99.0)), Relation::Below, 1e6),
            ("rate>100k", Metric::Rate, Relation::Above, 1e5),
            ("throughput>=1Gi", Metric::Throughput, Relation::AtLeast, 1_073_741_824.0),
            ("connections<40k", Metric::ConnectionRate, Relation::Below, 4e4),
            ("errors>0", Metric::Errors, Relation::Above, 0.0),
            ("stuck>=1", Metric::Stuck, Relation::AtLeast, 1.0),
        ] {
            let condition = Condition::parse(text).unwrap_or_else(|why| panic!("{why}"));
            assert_eq!(condition, Condition { metric, relation, bound });
            assert_eq!(
                Condition::parse(&condition.to_string()),
                Ok(condition),
                "{text} printed and read again"
            );
        }
    }

    #[test]
    fn a_wrong_condition_gets_a_sentence_with_what_would_do() {
        for (text, words) in [
            ("", "write it like p99<1ms"),
            ("p99", "compares nothing"),
            ("p99=1ms", "<, <=, > and >= would do"),
            ("p99!=1ms", "<, <=, > and >= would do"),
            ("<1ms", "\"\" is not measured"),
            ("p0<1ms", "any percentile above p0 and below p100"),
            ("p100<1ms", "max, mean"),
            ("p9e1<1ms", "is not measured"),
            ("p.5<1ms", "is not measured"),
            ("p-1<1ms", "is not measured"),
            ("pinf<1ms", "is not measured"),
            ("P99<1ms", "is not measured"),
            ("speed>3", "rate, throughput, connections, errors or stuck would do"),
            ("wire_p99<1ms", "response_, service_, connect_, close_ or lag_ would do"),
            ("p99<1", "written like 50us, 10ms"),
            ("p99<0.5ms", "written like 50us, 10ms"),
            ("p99<<1ms", "written like 50us, 10ms"),
            ("p99<", "written like 50us, 10ms"),
            ("rate>1ms", "written like 500, 10k, 1m"),
            ("throughput>1k", "written like 4096, 4Ki, 1Mi"),
        ] {
            let why = Condition::parse(text).expect_err(text);
            assert!(why.starts_with(&format!("{text:?}")), "{why}");
            assert!(why.contains(words), "{text}: {why}");
        }
    }

    #[test]
    fn a_bound_itself_is_neither_below_nor_above_it() {
        for (text, below, at, above) in [
            ("rate<5", true, false, false),
            ("rate<=5", true, true, false),
            ("rate>5", false, false, true),
            ("rate>=5", false, true, true),
        ] {
            let condition = Condition::parse(text).expect("right");
            for (number, held) in [(4.9, below), (5.0, at), (5.1, above)] {
                assert_eq!(condition.holds(|_| Some(number)), Some(held), "{number} {text}");
            }
            assert_eq!(condition.holds(|_| None), None);
        }
    }

    #[test]
    fn the_number_that_was_named_is_looked_up() {
        let condition = Condition::parse("service_p99>1ms").expect("right");
        let looked_up = condition.holds(|metric| {
            assert_eq!(metric, Metric::Time(Distribution::Service, Value::Percentile(99.0)));
            Some(2e6)
        });
        assert_eq!(looked_up, Some(true));
    }
}
