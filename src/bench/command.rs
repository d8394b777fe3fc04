//! `c10k bench` from what was typed to the exit code: check, measure, judge, write, print.

use super::check::{self, Facts, Wishes};
use super::compare::{Material, compare};
use super::conduct::{Bench, Conducted, new_directory};
use super::environment::environment;
use super::progress::Progress;
use super::store::Store;
use super::typed::Typed;
use super::{text, words};
use crate::result::bench::{
    BENCH_VERSION, BenchGate, BenchPlan, BenchResult, Comparison, Judgement, RawSlice,
};
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
    let progress = Progress::new(wishes.quiet, Duration::from_micros(plan.budget_us));
    let conducted = match Bench::new(&plan, &mut store, &progress, done) {
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
    done: Vec<RawSlice>,
}

fn fresh(typed: &Typed, facts: &Facts) -> Result<Prepared, Vec<String>> {
    let checked = check::check(typed, facts)?;
    if !checked.wishes.quiet {
        checked.notes.iter().for_each(|note| complain(note));
    }
    let directory = checked.wishes.directory.clone().unwrap_or_else(|| new_directory(facts));
    let store = Store::create(&directory, &checked.plan).map_err(|sentence| vec![sentence])?;
    Ok(Prepared { plan: checked.plan, wishes: checked.wishes, store, done: Vec::new() })
}

fn resumed(typed: &Typed, directory: PathBuf, facts: &Facts) -> Result<Prepared, Vec<String>> {
    let plan = Store::plan(&directory).map_err(|sentence| vec![sentence])?;
    let (plan, wishes) = check::resume(typed, plan, facts)?;
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
            compare(&material, rule, &mut resamples)
        })
        .collect();
    let gates: Vec<BenchGate> =
        wishes.fail_if.iter().flat_map(|condition| condition.hold(&comparisons)).collect();
    let exit_code = exit_code(wishes, conducted, &comparisons, &gates);
    let cells = conducted.states.iter().map(|state| state.cell.clone()).collect();
    BenchResult {
        version: BENCH_VERSION,
        plan: BenchPlan { cells, ..plan.clone() },
        took_us: conducted.took.as_micros() as u64,
        interrupted: conducted.signal.is_some(),
        verdict: text::verdicts(&comparisons),
        comparisons,
        gates,
        caveats: words::CAVEATS.map(String::from).into(),
        exit_code,
    }
}

/// The first of 5, the signal's, 1, 6, 4, 3 that holds.
fn exit_code(wishes: &Wishes, conducted: &Conducted, comparisons: &[Comparison], gates: &[BenchGate]) -> u8 {
    let run: Vec<&Comparison> = comparisons.iter().filter(|one| one.verdict != Judgement::LeftOut).collect();
    let measured = run.iter().any(|one| one.blocks > 0);
    let undecided = run.iter().any(|one| one.verdict == Judgement::Undecided);
    if conducted.wrong_bytes {
        WRONG_BYTES
    } else if let Some(signal) = conducted.signal {
        SIGNALLED + signal as u8
    } else if conducted.failure.is_some() {
        FAILED
    } else if run.is_empty() {
        if conducted.unavailable { UNAVAILABLE } else { FAILED }
    } else if !measured || (wishes.strict && undecided) || gates.iter().any(|gate| gate.measured.is_none()) {
        NOT_VALID
    } else if gates.iter().any(|gate| gate.breached) {
        BREACHED
    } else {
        0
    }
}
