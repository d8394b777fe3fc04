//! The command that repeats a load, every default resolved: typed again, it is the same plan.

use super::{Checked, sources};
use crate::load::condition::Condition;
use crate::load::plan::{Arrivals, End, Engine, Format, Plan, Spacing, StatsFrom, Workload};
use crate::units::{print_bytes, print_cpus, print_time};
use std::fmt::Write as _;
use std::time::Duration;

/// The command.
pub(super) fn command(checked: &Checked) -> String {
    let plan = &checked.plan;
    let mut words = Words(format!("c10k load {} {}", plan.workload.name(), quoted(&plan.target.to_string())));
    words.option("-c", plan.connections.to_string());
    let (least, most) = (u64::from(*plan.size.start()), u64::from(*plan.size.end()));
    match least == most {
        true => words.option("-s", print_bytes(least)),
        false => words.option("-s", format!("{}..{}", print_bytes(least), print_bytes(most))),
    }
    words.pace(plan, checked.find_rate.as_ref());
    words.option("--grace", print_time(plan.grace));
    words.machinery(plan);
    words.judging(checked);
    words.outputs(checked);
    words.0
}

struct Words(String);

impl Words {
    fn option(&mut self, flag: &str, value: impl AsRef<str>) {
        // Writing to a string cannot fail.
        let _ = write!(self.0, " {flag} {}", quoted(value.as_ref()));
    }

    fn flag(&mut self, flag: &str, on: bool) {
        if on {
            let _ = write!(self.0, " {flag}");
        }
    }

    fn pace(&mut self, plan: &Plan, find_rate: Option<&Condition>) {
        if plan.workload == Workload::PingPong {
            self.option("-P", plan.depth.to_string());
        }
        match plan.arrivals {
            Arrivals::Open { rate, .. } if plan.workload == Workload::Idle => {
                let every = Duration::from_secs_f64(f64::from(plan.connections) / rate);
                let micros = (every.as_nanos() + 500) / 1000;
                self.option("--every", print_time(Duration::from_micros(micros as u64)));
            }
            Arrivals::Open { rate, spacing } => {
                match find_rate {
                    Some(condition) => self.option("--find-rate", condition.to_string()),
                    None => self.option("-R", format!("{rate}")),
                }
                self.option("--arrival", if spacing == Spacing::Poisson { "poisson" } else { "uniform" });
            }
            Arrivals::Closed => {}
        }
        match plan.end {
            End::After(duration) => self.option("-d", print_time(duration)),
            End::Messages(messages) => self.option("-n", messages.to_string()),
        }
        self.option("-w", print_time(plan.warmup));
    }

    fn machinery(&mut self, plan: &Plan) {
        self.option("-t", plan.threads.to_string());
        if !plan.cpus.is_empty() {
            self.option("--cpus", print_cpus(&plan.cpus));
        }
        self.option("--engine", if plan.engine == Engine::Uring { "uring" } else { "epoll" });
        self.option("--direct", if plan.direct { "on" } else { "off" });
        let sources = if plan.sources.is_empty() { "any".into() } else { sources::print(&plan.sources) };
        self.option("--source", sources);
        self.option(
            "--connect-rate",
            plan.connect_rate.map_or_else(|| "auto".into(), |rate| format!("{rate}")),
        );
        self.option("--connect-timeout", print_time(plan.connect_timeout));
        self.flag("--no-verify", !plan.verify);
        self.flag("--no-latency", !plan.latency);
        self.option("--seed", plan.seed.to_string());
    }

    fn judging(&mut self, checked: &Checked) {
        match checked.plan.server_stats {
            StatsFrom::None => {}
            StatsFrom::Pid(pid) => self.option("--server-stats", pid.to_string()),
            StatsFrom::Agent(address) => self.option("--server-stats", address.to_string()),
            StatsFrom::Auto => self.option("--server-stats", "auto"),
        }
        checked.fail_if.iter().for_each(|condition| self.option("--fail-if", condition.to_string()));
        self.flag("--strict", checked.strict);
    }

    /// What changes nothing in the load is repeated only where it is no default: the format, the files.
    fn outputs(&mut self, checked: &Checked) {
        let outputs = &checked.outputs;
        if outputs.interval_lines || checked.plan.interval != super::INTERVAL {
            self.option("-i", print_time(checked.plan.interval));
        }
        let format = match outputs.format {
            Format::Text => None,
            Format::Json => Some("json"),
            Format::Ndjson => Some("ndjson"),
            Format::Csv => Some("csv"),
        };
        if let Some(format) = format {
            self.option("--format", format);
        }
        if outputs.percentiles != super::PERCENTILES {
            let list: Vec<String> = outputs.percentiles.iter().map(f64::to_string).collect();
            self.option("--percentiles", list.join(","));
        }
        let files = [("-o", &outputs.file), ("--hdr", &outputs.hdr), ("--hlog", &outputs.hlog)];
        for (flag, path) in files {
            if let Some(path) = path {
                self.option(flag, path.to_string_lossy());
            }
        }
        self.flag("-q", outputs.quiet);
    }
}

/// A word as a shell takes it.
pub(super) fn quoted(word: &str) -> String {
    let plain = |letter: char| letter.is_ascii_alphanumeric() || "-_./:,+@%".contains(letter);
    match !word.is_empty() && word.chars().all(plain) {
        true => word.to_string(),
        false => format!("'{}'", word.replace('\'', "'\\''")),
    }
}
