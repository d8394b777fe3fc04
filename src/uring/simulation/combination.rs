//! Which values of the dimensions a seed runs with: any that go together, by the word of the program
//! itself ([`features::uring`]), and how often each two of them were drawn together.
//!
//! Left out: what a loop cannot see through the seam ([`UNSEEN`]), and sizes, which the scenario draws.

use crate::features::table::URING;
use crate::features::{self, Answers, Typed};
use fastrand::Rng;
use std::collections::BTreeMap;
use std::sync::OnceLock;

/// One value of one dimension, and how often it is drawn among those of its dimension.
struct Drawn {
    dimension: &'static str,
    value: &'static str,
    weight: u32,
}

const fn drawn(dimension: &'static str, value: &'static str, weight: u32) -> Drawn {
    Drawn { dimension, value, weight }
}

/// What the fake kernel knows, dimension by dimension. Most seeds run with what is the default, where
/// the other value takes something away that is to be seen often.
const DRAWN: [Drawn; 27] = [
    drawn("accept", "multishot", 3),
    drawn("accept", "single", 1),
    drawn("recv", "multishot", 3),
    drawn("recv", "single", 1),
    drawn("recv", "poll", 2),
    drawn("buffers", "ring", 5),
    drawn("buffers", "incremental", 1),
    drawn("buffers", "classic", 1),
    drawn("buffers", "owned", 1),
    drawn("bundle", "off", 5),
    drawn("bundle", "recv", 1),
    drawn("bundle", "send", 1),
    drawn("bundle", "both", 1),
    drawn("send", "plain", 5),
    drawn("send", "zc", 1),
    drawn("cqe-skip", "on", 1),
    drawn("cqe-skip", "off", 1),
    drawn("files", "normal", 1),
    drawn("files", "direct", 1),
    drawn("taskrun", "defer", 8),
    drawn("taskrun", "sqpoll", 1),
    drawn("wait", "one", 5),
    drawn("wait", "min:2:50us", 1),
    drawn("recv-cap", "off", 5),
    drawn("recv-cap", "64", 1),
    drawn("spread", "reuseport", 1),
    drawn("spread", "msg-ring", 1),
];

/// Values that a loop cannot tell from others: they are settings of the ring or of an entry.
const UNSEEN: [&str; 12] = [
    "taskrun=coop",
    "taskrun=default",
    "poll-first=on",
    "poll-first=off",
    "no-iowait=on",
    "no-iowait=off",
    "napi=TIME",
    "napi=off",
    "ring-fd=registered",
    "ring-fd=plain",
    "sqarray=off",
    "sqarray=on",
];

/// The dimensions that are sizes.
const SIZES: [&str; 4] = ["sq", "cq", "buffer-count", "buffer-size"];

/// A value of every dimension of [`DRAWN`]; all of them go together.
#[derive(Clone, Debug)]
pub(super) struct Combination(Vec<usize>);

impl Combination {
    /// The dimensions one after the other, in any order; each takes a value that goes with those before.
    pub(super) fn draw(random: &mut Rng) -> Self {
        let mut dimensions = dimensions();
        random.shuffle(&mut dimensions);
        let mut chosen: Vec<usize> = Vec::new();
        for dimension in dimensions {
            let legal: Vec<usize> = (0..DRAWN.len())
                .filter(|&one| DRAWN[one].dimension == dimension)
                .filter(|&one| chosen.iter().all(|&other| go_together(one, other)))
                .collect();
            let mut left = random.u32(0..legal.iter().map(|&one| DRAWN[one].weight).sum());
            let found = legal.into_iter().find(|&one| {
                let weight = DRAWN[one].weight;
                let here = left < weight;
                left = left.saturating_sub(weight);
                here
            });
            chosen.push(found.expect("a value below the sum of the weights"));
        }
        Self(chosen)
    }

    /// Whether this value is among them.
    pub(super) fn has(&self, text: &str) -> bool {
        self.0.iter().any(|&one| name(one) == text)
    }

    /// As somebody would type it.
    fn text(&self) -> String {
        self.0.iter().map(|&one| name(one)).collect::<Vec<_>>().join(",")
    }
}

fn name(one: usize) -> String {
    format!("{}={}", DRAWN[one].dimension, DRAWN[one].value)
}

fn dimensions() -> Vec<&'static str> {
    let mut dimensions: Vec<_> = DRAWN.iter().map(|one| one.dimension).collect();
    dimensions.dedup();
    dimensions
}

/// Whether two values are of different dimensions and accepted together. Asked once for each pair.
fn go_together(one: usize, other: usize) -> bool {
    static ANSWERS: OnceLock<Vec<bool>> = OnceLock::new();
    let ask = |number: usize| {
        let (one, other) = (number / DRAWN.len(), number % DRAWN.len());
        DRAWN[one].dimension != DRAWN[other].dimension
            && is_accepted(&format!("{},{}", name(one), name(other)))
    };
    ANSWERS.get_or_init(|| (0..DRAWN.len() * DRAWN.len()).map(ask).collect())[one * DRAWN.len() + other]
}

/// Whether the program takes this on a kernel that can do everything.
fn is_accepted(text: &str) -> bool {
    let typed = Typed::parse("--uring", URING, &[text.into()]).expect("values of the table");
    features::uring(&typed, &Answers::default(), 100).is_ok()
}

/// How often each two values were drawn together.
#[derive(Default)]
pub(super) struct Pairs(BTreeMap<(usize, usize), u64>);

impl Pairs {
    pub(super) fn note(&mut self, combination: &Combination) {
        for &one in &combination.0 {
            for &other in combination.0.iter().filter(|&&other| one < other) {
                *self.0.entry((one, other)).or_default() += 1;
            }
        }
    }

    /// All pairs that go together, with their counts.
    fn legal(&self) -> impl Iterator<Item = (usize, usize, u64)> {
        let all = (0..DRAWN.len()).flat_map(|one| (one + 1..DRAWN.len()).map(move |other| (one, other)));
        all.filter(|&(one, other)| go_together(one, other))
            .map(|(one, other)| (one, other, self.0.get(&(one, other)).copied().unwrap_or(0)))
    }

    /// One line per pair that goes together.
    pub(super) fn table(&self) -> String {
        let line = |(one, other, count)| format!("{count:>10}  {} with {}\n", name(one), name(other));
        self.legal().map(line).collect()
    }

    /// Pairs that go together and were drawn fewer than `times` times.
    pub(super) fn below(&self, times: u64) -> Vec<String> {
        let few = self.legal().filter(|&(_, _, count)| count < times);
        few.map(|(one, other, _)| format!("{} with {}", name(one), name(other))).collect()
    }
}

#[test]
fn every_value_is_drawn_or_cannot_be_seen() {
    let values = URING
        .iter()
        .filter(|dimension| !SIZES.contains(&dimension.name))
        .flat_map(|dimension| dimension.values.iter().map(|value| (dimension.name, value.form.name())));
    for (dimension, value) in values {
        let kind = |text: &str| text.split(':').next().unwrap_or_default().to_owned();
        let is_drawn = DRAWN.iter().any(|one| {
            one.dimension == dimension
                && (kind(one.value) == kind(value) || (value == "BYTES" && one.value == "64"))
        });
        let text = format!("{dimension}={value}");
        assert!(is_drawn || UNSEEN.contains(&text.as_str()), "{text} is neither drawn nor among UNSEEN");
    }
}

#[test]
fn what_is_drawn_goes_together_as_a_whole() {
    for seed in 0..2_000 {
        let combination = Combination::draw(&mut Rng::with_seed(seed));
        assert!(is_accepted(&combination.text()), "{}", combination.text());
    }
}
