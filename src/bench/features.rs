//! The cells of `c10k bench features`: a baseline with each feature of io_uring added, and the recommended
//! server with each of its features left out. Made from the table of features, so that none is
//! forgotten. Pure: what this kernel refuses is known when the server does not start.

use super::{suite, variant};
use crate::features::table::{self, Dimension, Form, Value};
use crate::result::bench::{Cell, Workload};

/// The baseline, where it is not the first value of a dimension: what io_uring is without its features.
const BASELINE: &[(&str, &str)] = &[
    ("accept", "single"),
    ("recv", "single"),
    ("buffers", "owned"),
    ("taskrun", "default"),
    ("ring-fd", "plain"),
    ("sqarray", "on"),
];

/// What a feature cannot be without: both sides have it, so that the difference is the feature's alone.
const NEEDS: &[(&str, &str, &str, &str)] = &[
    ("recv", "multishot", "buffers", "ring"),
    ("bundle", "recv", "buffers", "ring"),
    ("bundle", "send", "buffers", "ring"),
    ("bundle", "both", "buffers", "ring"),
    ("recv", "poll", "buffers", "ring"),
    ("send", "zc", "buffers", "ring"),
    ("recv-cap", "", "recv", "multishot"),
    ("recv-cap", "", "buffers", "ring"),
    ("buffers", "owned", "recv", "single"),
];

/// An amount to try where a value is one.
const AMOUNTS: &[(&str, &str)] = &[("wait", "min:16:50us"), ("recv-cap", "16Ki"), ("napi", "50us")];

/// What makes no difference on loopback, and why.
const LEFT_OUT: &[(&str, &str)] = &[("napi", "loopback has no network card to poll")];
/// What makes none where the server has one CPU, and why.
const NEEDS_CPUS: (&str, &str) =
    ("spread", "where the server has one CPU there is one worker, and nobody to hand a connection to");

/// One feature against its absence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    /// In words: `baseline + recv=multishot`.
    pub words: String,
    /// With it, or, of a recommended one, without it: dimensions and values.
    pub variant: Choice,
    /// The other.
    pub reference: Choice,
    /// Why it is not run.
    pub left_out: Option<String>,
}

type Choice = Vec<(&'static str, String)>;

impl Question {
    /// Its cell on a workload, served on these CPUs.
    ///
    /// # Errors
    /// A sentence, when the table does not know what this file asks for.
    pub fn cell(&self, workload: &Workload, cpus: &[usize]) -> Result<Cell, String> {
        let variant = variant::parse(&name(&self.variant), cpus)?;
        let reference = variant::parse(&name(&self.reference), cpus)?;
        let cell = suite::cell(workload, &variant, &reference);
        let differs = |name: &str| {
            let typed = |choice: &Choice| choice.iter().find(|(other, _)| *other == name).cloned();
            typed(&self.variant) != typed(&self.reference)
        };
        let alone = (cpus.len() < 2 && differs(NEEDS_CPUS.0)).then(|| NEEDS_CPUS.1.to_string());
        Ok(Cell {
            id: format!("{} {}", workload.name, self.words),
            question: Some(self.words.clone()),
            left_out: cell.left_out.clone().or_else(|| self.left_out.clone()).or(alone),
            ..cell
        })
    }
}

fn name(choice: &Choice) -> String {
    let chosen: Vec<String> = choice.iter().map(|(name, value)| format!("{name}={value}")).collect();
    if chosen.is_empty() { "uring".into() } else { format!("uring:{}", chosen.join(",")) }
}

/// Every question of the suite: those of the baseline, then those of the recommended server.
#[must_use]
pub fn questions() -> Vec<Question> {
    let mut questions = Vec::new();
    let baseline = baseline();
    for (dimension, value) in values() {
        let text = amount(dimension, value);
        if in_force(&baseline, dimension) != text {
            questions.push(question("baseline + ", dimension, value, text, &baseline));
        }
    }
    for &(name, value) in BASELINE {
        let Some(dimension) = table::find(table::URING, name) else { continue };
        let Some(value) = dimension.values.iter().find(|one| one.form.name() == value) else { continue };
        if dimension.values[0] != *value {
            let text = value.form.name().to_string();
            questions.push(question("recommended with ", dimension, value, text, &Vec::new()));
        }
    }
    questions
}

fn question(
    prefix: &str,
    dimension: &'static Dimension,
    value: &Value,
    text: String,
    base: &Choice,
) -> Question {
    let mut reference = base.clone();
    let mut with: Vec<String> = Vec::new();
    let needed = NEEDS.iter().filter(|(name, when, ..)| {
        *name == dimension.name && (*when == text || (when.is_empty() && value.form.name() != "off"))
    });
    for &(_, _, name, needs) in needed {
        if in_force(&reference, table::find(table::URING, name).unwrap_or(dimension)) != needs {
            set(&mut reference, name, needs);
            with.push(format!("{name}={needs}"));
        }
    }
    let mut variant = reference.clone();
    set(&mut variant, dimension.name, &text);
    let on_loopback = LEFT_OUT.iter().find(|(name, _)| *name == dimension.name);
    let left_out = on_loopback.map(|(_, reason)| (*reason).to_string());
    let with = match with.as_slice() {
        [] => String::new(),
        both => format!(" ({} on both sides)", both.join(", ")),
    };
    let words = format!("{prefix}{}={text}{with}", dimension.name);
    Question { words, variant, reference, left_out }
}

/// Every dimension and value but sizes, which are no features.
fn values() -> impl Iterator<Item = (&'static Dimension, &'static Value)> {
    let all = table::URING
        .iter()
        .flat_map(|dimension| dimension.values.iter().map(move |value| (dimension, value)));
    all.filter(|(dimension, _)| matches!(dimension.values[0].form, Form::Word(_)))
}

fn amount(dimension: &Dimension, value: &Value) -> String {
    match value.form {
        Form::Word(word) => word.into(),
        _ => AMOUNTS.iter().find(|(name, _)| *name == dimension.name).map_or("", |(_, text)| text).into(),
    }
}

/// What the baseline types.
fn baseline() -> Choice {
    BASELINE.iter().map(|&(name, value)| (name, value.to_string())).collect()
}

fn in_force(choice: &Choice, dimension: &Dimension) -> String {
    let typed = choice.iter().find(|(name, _)| *name == dimension.name);
    typed.map_or_else(|| dimension.values[0].form.name().into(), |(_, value)| value.clone())
}

fn set(choice: &mut Choice, name: &'static str, value: &str) {
    match choice.iter_mut().find(|(other, _)| *other == name) {
        Some((_, old)) => *old = value.into(),
        None => choice.push((name, value.into())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::workload::workload;

    #[test]
    fn each_question_differs_in_one_dimension() {
        let questions = questions();
        assert!(questions.len() > 10, "{}", questions.len());
        for question in &questions {
            let both: Vec<_> = table::URING
                .iter()
                .filter(|one| in_force(&question.variant, one) != in_force(&question.reference, one))
                .collect();
            assert_eq!(both.len(), 1, "{question:?}");
        }
    }

    #[test]
    fn every_built_value_is_asked_about_once_above_the_baseline() {
        let questions = questions();
        for (dimension, value) in values() {
            let text = amount(dimension, value);
            let asked = |prefix: &str| {
                let words = format!("{prefix}{}={text}", dimension.name);
                questions
                    .iter()
                    .filter(|one| one.words == words || one.words.starts_with(&format!("{words} (")))
                    .count()
            };
            let in_baseline = in_force(&baseline(), dimension) == text;
            assert_eq!(asked("baseline + "), usize::from(!in_baseline), "{}={text}", dimension.name);
        }
    }

    #[test]
    fn whatever_is_asked_can_be_typed() {
        for question in questions() {
            let cell = question.cell(&workload("pingpong", 64, 100, 1), &[0]).unwrap();
            if !question.variant.is_empty() {
                let typed = crate::features::Typed::parse(
                    "--uring",
                    table::URING,
                    &[name(&question.variant)["uring:".len()..].to_string()],
                );
                assert!(typed.is_ok(), "{}", cell.id);
            }
        }
    }

    #[test]
    fn what_needs_several_workers_is_compared_where_there_are_several_and_left_out_by_name_else() {
        let mut questions = questions().into_iter();
        let question = questions.find(|one| one.words.contains("spread=msg-ring")).unwrap();
        let left_out =
            |cpus: &[usize]| question.cell(&workload("pingpong", 64, 100, 1), cpus).unwrap().left_out;
        assert!(left_out(&[0]).is_some_and(|reason| reason.contains("one worker")));
        assert_eq!(left_out(&[0, 1]), None);
    }

    #[test]
    fn on_a_kernel_that_offers_everything_no_question_types_what_does_not_go_together() {
        for question in questions().into_iter().filter(|question| question.left_out.is_none()) {
            for side in [&question.variant, &question.reference] {
                let text = name(side)["uring".len()..].trim_start_matches(':').to_string();
                let texts = if text.is_empty() { Vec::new() } else { vec![text] };
                let typed = crate::features::Typed::parse("--uring", table::URING, &texts).unwrap();
                let resolved = crate::features::uring(&typed, &crate::features::Answers::default(), 1_000);
                assert!(resolved.is_ok(), "{}: {:?}", question.words, resolved.err());
            }
        }
    }
}
