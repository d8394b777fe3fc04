//! The form for people: the verdict first, the features in groups, what there is to say about those that
//! do not work, the limits, and the remedies last. No line is longer than a terminal, and no colour is
//! needed to read it: none is used.

use crate::result::bytes_roughly;
use crate::result::doctor::{Doctor, Feature, Limit, Outcome, Scale, Sufficiency};
pub(super) use crate::units::whole;
use comfy_table::Table;
use comfy_table::presets::NOTHING;

/// The longest line.
const WIDTH: usize = 100;

/// Everything.
pub(super) fn page(doctor: &Doctor) -> String {
    let mut page = Page::default();
    page.wrapped("", &doctor.verdict);
    let kernel = doctor.kernel.as_deref().unwrap_or("n/a");
    let asked = if doctor.query.is_some() {
        "it answers IORING_REGISTER_QUERY"
    } else {
        "it answers no IORING_REGISTER_QUERY"
    };
    page.wrapped("", &format!("{}, Linux {kernel}; {asked}.", doctor.program));
    page.features(&doctor.features);
    page.details(&doctor.features);
    page.limits(&doctor.limits);
    page.idle(doctor);
    if !doctor.remedies.is_empty() {
        page.heading("remedies");
        doctor.remedies.iter().for_each(|remedy| page.wrapped("  ", remedy));
    }
    page.text
}

/// Bytes: `6.8 KiB`.
pub(super) fn bytes(bytes: u64) -> String {
    bytes_roughly(bytes)
}

#[derive(Default)]
struct Page {
    text: String,
}

impl Page {
    fn heading(&mut self, heading: &str) {
        self.text.push_str(&format!("\n{}\n", heading.to_uppercase()));
    }

    /// A sentence over as many lines as it takes, the later ones further in.
    fn wrapped(&mut self, indent: &str, sentence: &str) {
        let mut line = indent.to_string();
        for word in sentence.split_whitespace() {
            if line.trim().is_empty() {
                line.push_str(word);
            } else if line.chars().count() + 1 + word.chars().count() > WIDTH {
                self.text.push_str(&format!("{line}\n"));
                line = format!("{indent}  {word}");
            } else {
                line.push_str(&format!(" {word}"));
            }
        }
        self.text.push_str(&format!("{line}\n"));
    }

    fn table(&mut self, table: &Table) {
        for line in table.lines() {
            self.text.push_str(&format!("{}\n", line.trim_end()));
        }
    }

    fn features(&mut self, features: &[Feature]) {
        self.heading("features");
        let mut table = Table::new();
        table.load_style(NOTHING).set_header(["", "DIMENSION", "LINUX", "ASKED", "TRIED"]);
        let mut group = "";
        for feature in features {
            if feature.group != group {
                group = &feature.group;
                table.add_row([group]);
            }
            let said = match (&feature.asked_by, feature.said) {
                (Some(by), Some(said)) => format!("{by}: {}", if said { "yes" } else { "no" }),
                _ => "-".into(),
            };
            let dimension = feature.dimension.as_deref().unwrap_or("");
            let name = format!("  {}", feature.name);
            table.add_row([name.as_str(), dimension, &feature.since, &said, &tried(feature)]);
        }
        self.table(&table);
    }

    /// What is to be said about those that do not simply work.
    fn details(&mut self, features: &[Feature]) {
        let others: Vec<&Feature> =
            features.iter().filter(|feature| feature.tried.outcome != Outcome::Works).collect();
        if others.is_empty() {
            return;
        }
        self.heading("not simply working");
        // Where io_uring is barred they all have the same reason: once is enough.
        let first = &others[0].tried;
        let none_tried = first.outcome == Outcome::NotTried && others.len() == features.len();
        if none_tried && others.iter().all(|feature| feature.tried == *first) {
            self.wrapped("  ", &format!("none was tried: {}", first.detail));
            return;
        }
        for feature in others {
            let bad = feature.known_bad.as_ref().map_or(String::new(), |bad| {
                format!("; this release is known for it: {} ({})", bad.problem, bad.address)
            });
            self.wrapped("  ", &format!("{}: {}{bad}", feature.name, feature.tried.detail));
        }
    }

    fn limits(&mut self, limits: &[Limit]) {
        self.heading("limits");
        let mut table = Table::new();
        let scales = limits.first().map_or(&[][..], |limit| &limit.scales);
        let head = ["".to_string(), "THERE IS".into()].into_iter();
        table.load_style(NOTHING).set_header(head.chain(scales.iter().map(|scale| whole(scale.connections))));
        for limit in limits {
            let unbounded = limit.scales.iter().all(|scale| scale.verdict == Sufficiency::Enough);
            let none = if unbounded { "no limit" } else { "n/a" };
            let found = limit.found.map_or(none.into(), |found| amount(limit, found));
            let name = format!("  {}", limit.name);
            let scales = limit.scales.iter().map(|scale| sufficiency(limit, scale));
            table.add_row([name, found].into_iter().chain(scales));
        }
        self.table(&table);
        self.text.push('\n');
        limits.iter().for_each(|limit| self.wrapped("  ", &format!("{}: {}", limit.name, limit.about)));
    }

    fn idle(&mut self, doctor: &Doctor) {
        let idle = &doctor.idle_connection;
        self.heading("an idle connection");
        let costs = match idle.kernel_bytes {
            Some(cost) => format!(
                "costs {} of kernel memory here, both ends together ({} connections were opened; {}).",
                bytes(cost as u64),
                whole(idle.connections.into()),
                idle.how
            ),
            None => format!("what it costs is not known: {}.", idle.how),
        };
        self.wrapped("  ", &costs);
    }
}

fn tried(feature: &Feature) -> String {
    let tried = &feature.tried;
    let errno = tried.errno.as_ref().map_or(String::new(), |errno| format!(" {errno}"));
    let word = match tried.outcome {
        Outcome::Works => "works",
        Outcome::Refused => "refused",
        Outcome::Blocked => "blocked",
        Outcome::Wrong => "WRONG",
        Outcome::KnownBad => "KNOWN BAD",
        Outcome::NotTried => "not tried",
    };
    format!("{word}{errno}")
}

fn amount(limit: &Limit, amount: u64) -> String {
    if limit.unit == "bytes" { bytes(amount) } else { whole(amount) }
}

fn sufficiency(limit: &Limit, scale: &Scale) -> String {
    let needed = || scale.needed.map_or("?".into(), |needed| amount(limit, needed));
    match scale.verdict {
        Sufficiency::Enough => "enough".into(),
        Sufficiency::Slower => format!("slower: {}", needed()),
        Sufficiency::Short => format!("SHORT: {}", needed()),
        Sufficiency::Unknown => "n/a".into(),
    }
}
