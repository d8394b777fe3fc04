//! From [`Typed`] to a plan: every setting read, bounded, held against the others and the host, and the
//! command that repeats it. All problems are reported, each naming flag, value and what would do. Pure.

use super::gate;
use super::suite::{self, Suite};
use super::typed::Typed;
use super::{variant, workload};
use crate::result::bench::{BENCH_VERSION, BenchEnvironment, BenchPlan, Cell, Variant, Workload};
use crate::result::gate::Condition;
use crate::units::{self, parse_count, parse_cpus, parse_time, print_cpus, print_time};
use std::path::PathBuf;
use std::time::Duration;

/// A bench that can run, and what is to be done with what it comes to.
#[derive(Clone, Debug)]
pub struct Checked {
    /// What is measured.
    pub plan: BenchPlan,
    /// Everything else.
    pub wishes: Wishes,
    /// What is to be known before it begins, a sentence each.
    pub notes: Vec<String>,
}

/// What may differ from one sitting of a bench to the next.
#[derive(Clone, Debug, Default)]
pub struct Wishes {
    /// Where it is kept; `None`: a new directory here.
    pub directory: Option<PathBuf>,
    /// A budget for all sittings together, in place of the plan's.
    pub budget: Option<Duration>,
    /// What must not hold at the end.
    pub fail_if: Vec<Condition>,
    /// Whether what is undecided fails.
    pub strict: bool,
    /// Whether the result is printed as JSON.
    pub json: bool,
    /// Whether nothing moves on standard error.
    pub quiet: bool,
}

/// What the host said.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// Where it is done.
    pub environment: BenchEnvironment,
    /// The seed where none is typed.
    pub seed: u64,
    /// Seconds since 1970.
    pub now: f64,
}

/// The shortest in which anything can be said of one cell.
const BUDGET_MIN: Duration = Duration::from_secs(2);
const BUDGET_MAX: Duration = Duration::from_secs(7 * 24 * 3600);
const RATE_MAX: u64 = 100_000_000;
/// A difference within this is none: what a machine at rest shows between equal things in a minute.
const SAME_BAND: f64 = 0.02;

/// Checks everything.
///
/// # Errors
/// All problems, a sentence each.
pub fn check(typed: &Typed, facts: &Facts) -> Result<Checked, Vec<String>> {
    let mut check = Check { facts, problems: Vec::new(), notes: Vec::new() };
    let suite = check.suite(typed);
    let (server_cpus, client_cpus) = check.cpus(typed);
    let variants = check.variants(typed, suite, &server_cpus);
    let workloads = check.workloads(typed, suite);
    let budget = check.budget(typed.budget.as_deref()).unwrap_or(Duration::from_secs(60 * suite.minutes()));
    let seed = check.number("--seed", typed.seed.as_deref(), u64::MAX).unwrap_or(facts.seed);
    let pace = check.pace(typed.pace.as_deref());
    let cells = suite::cells(suite, &variants, &workloads, &server_cpus)
        .map_err(|sentence| check.problems.push(sentence))
        .unwrap_or_default();
    let wishes = check.wishes(typed, &cells);
    if !check.problems.is_empty() {
        return Err(check.problems);
    }
    let custom = suite == Suite::Quick && (!typed.variants.is_empty() || !typed.workloads.is_empty());
    let mut plan = BenchPlan {
        version: BENCH_VERSION,
        program: concat!("c10k ", env!("CARGO_PKG_VERSION")).into(),
        command: String::new(),
        suite: if custom { "custom".into() } else { suite.name().into() },
        began_unix_seconds: facts.now,
        seed,
        budget_us: budget.as_micros() as u64,
        pace,
        server_cpus,
        client_cpus,
        same_band: SAME_BAND,
        environment: facts.environment.clone(),
        cells,
    };
    plan.command = command(&plan, suite, &variants, &workloads, &wishes);
    Ok(Checked { plan, wishes, notes: check.notes })
}

/// What may be said anew when a bench is resumed; its plan stands in its directory.
///
/// # Errors
/// All problems: also what belongs to the plan and was typed.
pub fn resume(typed: &Typed, plan: &BenchPlan, facts: &Facts) -> Result<Wishes, Vec<String>> {
    let mut check = Check { facts, problems: Vec::new(), notes: Vec::new() };
    for (flag, is_typed) in [
        ("SUITE", typed.suite.is_some()),
        ("--variant", !typed.variants.is_empty()),
        ("--workload", !typed.workloads.is_empty()),
        ("--pace", typed.pace.is_some()),
        ("--server-cpus", typed.server_cpus.is_some()),
        ("--client-cpus", typed.client_cpus.is_some()),
        ("--seed", typed.seed.is_some()),
        ("--output", typed.output.is_some()),
    ] {
        if is_typed {
            check.problems.push(format!(
                "{flag}: --resume goes on with the plan that stands in the directory; without {flag} would do"
            ));
        }
    }
    if plan.version != BENCH_VERSION {
        check.problems.push(format!(
            "--resume: the plan has version {} and this program writes {BENCH_VERSION}; the program that began it would do",
            plan.version
        ));
    }
    let (then, now) = (&plan.environment, &facts.environment);
    if (&then.kernel, &then.cpu_model) != (&now.kernel, &now.cpu_model) {
        let shown = |value: &Option<String>| value.clone().unwrap_or_else(|| "n/a".into());
        check.problems.push(format!(
            "--resume: it was begun on Linux {} and {}, and this is Linux {} and {}; a new bench would do",
            shown(&then.kernel),
            shown(&then.cpu_model),
            shown(&now.kernel),
            shown(&now.cpu_model)
        ));
    }
    let wishes = check.wishes(typed, &plan.cells);
    let wishes = Wishes { budget: check.budget(typed.budget.as_deref()), ..wishes };
    if check.problems.is_empty() { Ok(wishes) } else { Err(check.problems) }
}

struct Check<'a> {
    facts: &'a Facts,
    problems: Vec<String>,
    notes: Vec<String>,
}

impl Check<'_> {
    fn suite(&mut self, typed: &Typed) -> Suite {
        let Some(text) = &typed.suite else { return Suite::Quick };
        let found = Suite::ALL.iter().find(|(name, _)| name == text);
        found.map_or_else(
            || {
                let names = units::alternatives(&Suite::ALL.map(|(name, _)| name));
                self.problems.push(format!("SUITE: {text:?} is none; {names} would do"));
                Suite::Quick
            },
            |(_, suite)| *suite,
        )
    }

    /// The server's CPUs and the client's: the first and the second where nothing is typed.
    fn cpus(&mut self, typed: &Typed) -> (Vec<usize>, Vec<usize>) {
        let mask = self.facts.environment.cpus.clone();
        let mut read = |flag: &str, text: &Option<String>| {
            let text = text.as_deref()?;
            parse_cpus(text, &mask)
                .map_err(|problems| self.problems.extend(problems.iter().map(|one| format!("{flag}: {one}"))))
                .ok()
        };
        let server = read("--server-cpus", &typed.server_cpus);
        let client = read("--client-cpus", &typed.client_cpus);
        let first_but = |taken: &Option<Vec<usize>>| {
            let taken = taken.as_deref().unwrap_or_default();
            mask.iter()
                .find(|cpu| !taken.contains(cpu))
                .or(mask.first())
                .map_or_else(Vec::new, |&cpu| vec![cpu])
        };
        let server = server.unwrap_or_else(|| first_but(&client));
        let client = client.unwrap_or_else(|| first_but(&Some(server.clone())));
        if let Some(cpu) = server.iter().find(|cpu| client.contains(cpu)) {
            self.notes.push(format!(
                "server and client share CPU {cpu}: each waits for the other, so costs hold and latencies do not; \
                 two CPUs, --server-cpus and --client-cpus, would do"
            ));
        }
        (server, client)
    }

    fn variants(&mut self, typed: &Typed, suite: Suite, cpus: &[usize]) -> Vec<Variant> {
        if suite == Suite::Features {
            if !typed.variants.is_empty() {
                self.problems.push(
                    "--variant: the suite features has variants of its own; c10k bench --variant … without it \
                     would do"
                        .into(),
                );
            }
            return Vec::new();
        }
        let texts: Vec<&str> = match typed.variants.as_slice() {
            [] => vec!["uring", "epoll"],
            [one] if one == "epoll" => {
                self.problems.push(
                    "--variant: epoll is what it would be held against; a second --variant would do".into(),
                );
                Vec::new()
            }
            [one] => vec![one, "epoll"],
            several => several.iter().map(String::as_str).collect(),
        };
        let mut read = |text: &&str| {
            variant::parse(text, cpus)
                .map_err(|sentence| self.problems.push(format!("--variant: {sentence}")))
                .ok()
        };
        texts.iter().filter_map(&mut read).collect()
    }

    fn workloads(&mut self, typed: &Typed, suite: Suite) -> Vec<Workload> {
        if typed.workloads.is_empty() {
            return suite.workloads();
        }
        let mut read = |text: &String| {
            workload::parse(text)
                .map_err(|sentence| self.problems.push(format!("--workload: {sentence}")))
                .ok()
        };
        typed.workloads.iter().filter_map(&mut read).collect()
    }

    fn budget(&mut self, text: Option<&str>) -> Option<Duration> {
        let text = text?;
        let would_do = || format!("{} to {} would do", print_time(BUDGET_MIN), print_time(BUDGET_MAX));
        match parse_time(text) {
            Ok(time) if (BUDGET_MIN..=BUDGET_MAX).contains(&time) => return Some(time),
            Ok(_) => self.problems.push(format!("--budget: {text} is out of bounds; {}", would_do())),
            Err(reason) => self.problems.push(format!("--budget: {text:?} {reason}")),
        }
        None
    }

    fn number(&mut self, flag: &str, text: Option<&str>, most: u64) -> Option<u64> {
        let text = text?;
        match parse_count(text) {
            Ok(number) if number <= most => return Some(number),
            Ok(_) => self.problems.push(format!("{flag}: {text} is too large; the largest is {most}")),
            Err(reason) => self.problems.push(format!("{flag}: {text:?} {reason}")),
        }
        None
    }

    fn pace(&mut self, text: Option<&str>) -> String {
        let text = text.unwrap_or("half");
        if matches!(text, "half" | "closed") {
            return text.into();
        }
        match parse_count(text) {
            Ok(rate) if (1..=RATE_MAX).contains(&rate) => rate.to_string(),
            _ => {
                self.problems
                    .push(format!("--pace: {text:?} is none; half, closed or a rate like 50k would do"));
                "half".into()
            }
        }
    }

    fn wishes(&mut self, typed: &Typed, cells: &[Cell]) -> Wishes {
        let mut fail_if = Vec::new();
        for text in &typed.fail_if {
            match gate::parse(text, cells) {
                Ok(condition) => fail_if.push(condition),
                Err(sentence) => self.problems.push(format!("--fail-if: {sentence}")),
            }
        }
        let json = match typed.format.as_deref() {
            None | Some("text") => false,
            Some("json") => true,
            Some(other) => {
                self.problems
                    .push(format!("--format: {other:?} is none of its values; text or json would do"));
                false
            }
        };
        Wishes {
            directory: typed.output.as_ref().map(PathBuf::from),
            budget: None,
            fail_if,
            strict: typed.strict,
            json,
            quiet: typed.quiet,
        }
    }
}

/// The command that repeats it, every default resolved.
fn command(
    plan: &BenchPlan,
    suite: Suite,
    variants: &[Variant],
    workloads: &[Workload],
    wishes: &Wishes,
) -> String {
    let mut words = format!("c10k bench {}", suite.name());
    let mut option = |flag: &str, value: &str| words.push_str(&format!(" {flag} {}", quoted(value)));
    variants.iter().for_each(|variant| option("--variant", &variant.name));
    // One with idle connections beside it cannot be typed: it stands for its suite.
    if workloads.iter().all(|workload| workload.idle_connections == 0) {
        workloads.iter().for_each(|workload| option("--workload", &workload.name));
    }
    option("--pace", &plan.pace);
    option("--server-cpus", &print_cpus(&plan.server_cpus));
    option("--client-cpus", &print_cpus(&plan.client_cpus));
    option("--budget", &print_time(Duration::from_micros(plan.budget_us)));
    option("--seed", &plan.seed.to_string());
    wishes.fail_if.iter().for_each(|condition| option("--fail-if", &condition.text));
    if wishes.strict {
        words.push_str(" --strict");
    }
    words
}

fn quoted(text: &str) -> String {
    let plain = |letter: char| letter.is_ascii_alphanumeric() || "-_.,:=+/@%".contains(letter);
    match !text.is_empty() && text.chars().all(plain) {
        true => text.into(),
        false => format!("'{}'", text.replace('\'', r"'\''")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts() -> Facts {
        let environment =
            BenchEnvironment { cpus: vec![0, 1], kernel: Some("6.18".into()), ..BenchEnvironment::default() };
        Facts { environment, seed: 7, now: 1.0 }
    }

    #[test]
    fn nothing_typed_is_uring_against_epoll_for_a_minute_on_two_cpus() {
        let plan = check(&Typed::default(), &facts()).unwrap().plan;
        assert_eq!((plan.suite.as_str(), plan.budget_us, plan.cells.len()), ("quick", 60_000_000, 2));
        assert_eq!((plan.server_cpus, plan.client_cpus), (vec![0], vec![1]));
        assert_eq!(
            plan.command,
            "c10k bench quick --variant uring --variant epoll --workload pingpong:64:100 --workload \
             pingpong:64Ki:16 --pace half --server-cpus 0 --client-cpus 1 --budget 1m --seed 7"
        );
    }

    #[test]
    fn one_cpu_is_shared_and_that_is_said() {
        let mut facts = facts();
        facts.environment.cpus = vec![3];
        let checked = check(&Typed::default(), &facts).unwrap();
        assert_eq!((checked.plan.server_cpus, checked.plan.client_cpus), (vec![3], vec![3]));
        assert!(checked.notes[0].contains("share CPU 3"), "{:?}", checked.notes);
    }

    #[test]
    fn every_problem_is_reported_with_what_would_do() {
        let text = |text: &str| Some(text.to_string());
        let typed = Typed {
            suite: text("quik"),
            variants: vec!["urin".into(), "epoll".into()],
            workloads: vec!["ping".into()],
            pace: text("fast"),
            server_cpus: text("9"),
            budget: text("1s"),
            seed: text("x"),
            fail_if: vec!["faster".into()],
            format: text("html"),
            ..Typed::default()
        };
        let problems = check(&typed, &facts()).unwrap_err();
        let flags = [
            "SUITE",
            "--server-cpus",
            "--variant",
            "--workload",
            "--budget",
            "--seed",
            "--pace",
            "--fail-if",
            "--format",
        ];
        for flag in flags {
            assert!(problems.iter().any(|one| one.starts_with(&format!("{flag}: "))), "{flag}: {problems:?}");
        }
        assert_eq!(problems.len(), flags.len(), "{problems:?}");
    }

    #[test]
    fn the_same_command_is_the_same_plan_and_a_resumed_one_takes_no_other() {
        let plan = check(&Typed { seed: Some("9".into()), ..Typed::default() }, &facts()).unwrap().plan;
        assert!(resume(&Typed::default(), &plan, &facts()).is_ok());
        let other = Typed { seed: Some("9".into()), variants: vec!["uring".into()], ..Typed::default() };
        assert_eq!(resume(&other, &plan, &facts()).unwrap_err().len(), 2);
        let mut elsewhere = facts();
        elsewhere.environment.kernel = Some("6.1".into());
        assert!(resume(&Typed::default(), &plan, &elsewhere).unwrap_err()[0].contains("6.18"));
    }
}
