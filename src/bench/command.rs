//! `c10k bench` from what was typed to the exit code: check, measure, judge, write, print.

use super::check::{self, Facts, Wishes};
use super::compare::{Material, compare};
use super::conduct::{Bench, Conducted, new_directory};
use super::environment::environment;
use super::gate;
use super::progress::Progress;
use super::store::{Done, Store};
use super::typed::Typed;
use super::{suite, text, words};
use crate::result::bench::{BENCH_VERSION, BenchGate, BenchPlan, BenchResult, Comparison, Judgement};
use crate::result::gate::is_one_unmeasured;
use crate::statistics::paired::{Resamples, Rule};
use std::io::{self, Write as _};
use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// What the program exits with; DESIGN.md has the list.
const FAILED: u8 = 1;
const USAGE: u8 = 2;
const BREACHED: u8 = 3;
const NOT_VALID: u8 = 4;
const WRONG_BYTES: u8 = 5;
const UNAVAILABLE: u8 = 6;
const SIGNALLED: u8 = 128;

/// Does what was typed. The exit code.
#[must_use]
pub fn bench(typed: &Typed) -> u8 {
    let facts = facts();
    let prepared = match &typed.resume {
        Some(directory) => resumed(typed, PathBuf::from(directory), &facts),
        None => fresh(typed, &facts),
    };
    let Prepared { plan, wishes, mut store, done } = match prepared {
        Ok(prepared) => prepared,
        Err(problems) => {
            problems.iter().for_each(|problem| complain(problem));
            return USAGE;
        }
    };
    let budget = wishes.budget.unwrap_or(Duration::from_micros(plan.budget_us));
    let progress = Progress::new(wishes.quiet, budget);
    let conducted = match Bench::new(&plan, budget, &mut store, &progress, done) {
        Ok(bench) => bench.conduct(),
        Err(sentence) => {
            complain(&sentence);
            return FAILED;
        }
    };
    progress.finish();
    if let Some(sentence) = &conducted.failure {
        complain(sentence);
    }
    let result = result(&plan, &wishes, &conducted);
    let written = store.finish(&result);
    print(&result, &wishes, &store.directory().display().to_string());
    match written {
        Ok(()) => result.exit_code,
        Err(sentence) => {
            complain(&sentence);
            if result.exit_code == WRONG_BYTES { WRONG_BYTES } else { FAILED }
        }
    }
}

struct Prepared {
    plan: BenchPlan,
    wishes: Wishes,
    store: Store,
    done: Done,
}

fn fresh(typed: &Typed, facts: &Facts) -> Result<Prepared, Vec<String>> {
    let checked = check::check(typed, facts)?;
    if !checked.wishes.quiet {
        checked.notes.iter().for_each(|note| complain(note));
    }
    let directory = checked.wishes.directory.clone().unwrap_or_else(|| new_directory(facts));
    let store = Store::create(&directory, &checked.plan).map_err(|sentence| vec![sentence])?;
    Ok(Prepared { plan: checked.plan, wishes: checked.wishes, store, done: Done::default() })
}

fn resumed(typed: &Typed, directory: PathBuf, facts: &Facts) -> Result<Prepared, Vec<String>> {
    let plan = Store::plan(&directory).map_err(|sentence| vec![sentence])?;
    let wishes = check::resume(typed, &plan, facts)?;
    let (store, done) = Store::resume(&directory).map_err(|sentence| vec![sentence])?;
    Ok(Prepared { plan, wishes, store, done })
}

fn facts() -> Facts {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    // Short enough to be typed again.
    let seed = u64::from(now.subsec_nanos() ^ now.as_secs() as u32);
    Facts { environment: environment(), seed, now: now.as_secs_f64() }
}

/// A sentence on standard error. One that is closed has no reader.
fn complain(sentence: &str) {
    let _ = writeln!(io::stderr(), "c10k: {sentence}");
}

fn print(result: &BenchResult, wishes: &Wishes, directory: &str) {
    let printed = match wishes.json {
        true => serde_json::to_string_pretty(result).unwrap_or_default() + "\n",
        false => text::text(result, directory),
    };
    // A closed or full standard output loses this and nothing else: it stands in the directory.
    let _ = io::stdout().write_all(printed.as_bytes());
}

fn result(plan: &BenchPlan, wishes: &Wishes, conducted: &Conducted) -> BenchResult {
    let rule = Rule { band: plan.same_band, ..Rule::default() };
    let mut resamples = Resamples::new(plan.seed);
    let comparisons: Vec<Comparison> = conducted
        .states
        .iter()
        .map(|state| {
            let material = Material {
                cell: &state.cell,
                slices: &state.slices,
                histograms: &state.histograms,
                ended: state.ended.unwrap_or("failed"),
                kernel: plan.environment.kernel.as_deref(),
            };
            let mut compared = compare(&material, rule, &mut resamples);
            compared.reasons.extend(state.broke_off.clone());
            compared
        })
        .collect();
    let gates = gate::hold(&wishes.fail_if, &comparisons);
    let exit_code = exit_code(wishes, conducted, &comparisons, &gates);
    let cells = conducted.states.iter().map(|state| state.cell.clone()).collect();
    BenchResult {
        version: BENCH_VERSION,
        plan: BenchPlan { cells, ..plan.clone() },
        took_us: conducted.took.as_micros() as u64,
        interrupted: conducted.signal.is_some(),
        verdict: text::verdicts(&comparisons, plan.environment.kernel.as_deref()),
        comparisons,
        gates,
        caveats: caveats(plan),
        exit_code,
    }
}

fn caveats(plan: &BenchPlan) -> Vec<String> {
    let one_process = suite::keeps_servers(&plan.suite).then_some(words::ONE_PROCESS);
    words::CAVEATS.into_iter().chain(one_process).map(String::from).collect()
}

/// The first of 5, the signal's, 1, 6, 4, 3 that holds.
fn exit_code(wishes: &Wishes, conducted: &Conducted, comparisons: &[Comparison], gates: &[BenchGate]) -> u8 {
    let run: Vec<&Comparison> = comparisons.iter().filter(|one| one.verdict != Judgement::LeftOut).collect();
    let measured = run.iter().any(|one| one.blocks > 0);
    let weak = run.iter().any(|one| one.verdict == Judgement::Undecided || words::is_suspect(one));
    if conducted.wrong_bytes {
        WRONG_BYTES
    } else if let Some(signal) = conducted.signal {
        SIGNALLED + signal as u8
    } else if conducted.failure.is_some() {
        FAILED
    } else if run.is_empty() {
        if conducted.unavailable { UNAVAILABLE } else { FAILED }
    } else if !measured || (wishes.strict && weak) || is_one_unmeasured(gates) {
        NOT_VALID
    } else if gates.iter().any(|gate| gate.breached) {
        BREACHED
    } else {
        0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::compare::tests::{block, cell};
    use crate::result::bench::{Cell, Purpose};
    use std::slice::from_ref;

    fn compared(cost: f64, blocks: u32, left_out: Option<&str>) -> Comparison {
        let cell = Cell { left_out: left_out.map(String::from), ..cell() };
        let slices: Vec<_> = (0..blocks).flat_map(|number| block(Purpose::Cost, number, cost, 1.0)).collect();
        let material =
            Material { cell: &cell, slices: &slices, histograms: &[], ended: "plain", kernel: None };
        compare(&material, Rule::default(), &mut Resamples::new(7))
    }

    fn code(comparisons: &[Comparison], gate: &str, change: impl Fn(&mut Wishes, &mut Conducted)) -> u8 {
        let cells: Vec<Cell> = comparisons.iter().map(|one| one.cell.clone()).collect();
        let mut wishes = Wishes { fail_if: vec![gate::parse(gate, &cells).unwrap()], ..Wishes::default() };
        let mut conducted = Conducted::default();
        change(&mut wishes, &mut conducted);
        let gates = gate::hold(&wishes.fail_if, comparisons);
        exit_code(&wishes, &conducted, comparisons, &gates)
    }

    #[test]
    fn the_exit_code_is_the_first_of_5_the_signals_1_6_4_3_that_holds() {
        const KEPT: &str = "uring/epoll>2";
        const BREACHED_BY_BOTH: &str = "uring/epoll>0.1";
        let plain = |_: &mut Wishes, _: &mut Conducted| {};
        let (sound, few, out) =
            (compared(0.5, 8, None), compared(0.5, 3, None), compared(1.0, 0, Some("gone")));
        assert_eq!(code(from_ref(&sound), KEPT, plain), 0);
        assert_eq!(code(from_ref(&sound), BREACHED_BY_BOTH, plain), 3);
        // Three blocks are no 95 %: they breach nothing, and fail only where that is asked for.
        assert_eq!(code(from_ref(&few), BREACHED_BY_BOTH, plain), 0);
        assert_eq!(code(&[few], KEPT, |wishes, _| wishes.strict = true), 4);
        assert_eq!(code(&[sound.clone(), out.clone()], BREACHED_BY_BOTH, plain), 3);
        assert_eq!(code(&[sound.clone(), compared(1.0, 0, None)], BREACHED_BY_BOTH, plain), 4);
        assert_eq!(code(from_ref(&out), KEPT, plain), 1);
        assert_eq!(code(&[out], KEPT, |_, conducted| conducted.unavailable = true), 6);
        let failed = |_: &mut Wishes, conducted: &mut Conducted| conducted.failure = Some("x".into());
        assert_eq!(code(from_ref(&sound), BREACHED_BY_BOTH, failed), 1);
        let signalled = |_: &mut Wishes, conducted: &mut Conducted| {
            conducted.failure = Some("x".into());
            conducted.signal = Some(nix::sys::signal::Signal::SIGINT);
        };
        assert_eq!(code(from_ref(&sound), KEPT, signalled), 130);
        let wrong = |_: &mut Wishes, conducted: &mut Conducted| {
            conducted.signal = Some(nix::sys::signal::Signal::SIGINT);
            conducted.wrong_bytes = true;
        };
        assert_eq!(code(&[sound], KEPT, wrong), 5);
    }

    #[test]
    fn a_gate_on_what_was_only_left_out_is_not_kept() {
        let mut out = compared(1.0, 0, Some("gone"));
        out.cell.variant.name = "uring:recv=single".into();
        let both = [compared(0.5, 8, None), out];
        assert_eq!(code(&both, "uring:recv=single/epoll>2", |_, _| {}), 4);
    }
}
