//! What a comparison says in words: its sentence, why it is weak, what has to be said beside every number.
//! Pure.

use super::text::number;
use super::variant::short;
use super::{ceiling, workload};
use crate::result::bench::{
    Cell, ClientCeiling, Comparison, Judgement, Metric, Numbers, Purpose, Ratio, Slice,
};
use crate::statistics::paired::{BAND_MAX, Rule};

/// What has to be said beside every number taken on one machine.
pub const CAVEATS: [&str; 3] = [
    "loopback: no network card, no wire, an MTU of 65,536; a receiver's TCP work runs on its sender's account, so \
     that server and client CPU belong together",
    "both ends share caches, memory and ports: only ratios of neighbouring slices mean something, and only on \
     this machine",
    "an echo server does no work of its own: whatever is saved is a larger share here than in a server that does",
];

/// What has to be said where servers live as long as the comparison.
pub const ONE_PROCESS: &str = "one process of each server ran throughout: what luck it had with where its memory lies is in the numbers; \
     with --variant or --workload each block has fresh ones";

/// The verdict as a sentence with its numbers.
#[must_use]
pub fn sentence(comparison: &Comparison, kernel: Option<&str>) -> String {
    let cell = &comparison.cell;
    let place = kernel.map_or("here".into(), |kernel| format!("on Linux {kernel}"));
    let (variant, reference) = names(cell);
    let about = format!("{place}, for {}", cell.workload.words);
    if let Some(reason) = &cell.left_out {
        return format!("{about}, {variant} against {reference} was left out: {reason}");
    }
    let unit = workload::unit(cell.workload.unit);
    let headline = |name: &str| metric(comparison, name).and_then(|metric| metric.ratio.as_ref());
    let (Some(server), Some(total)) = (headline("server_cpu_ns"), headline("total_cpu_ns")) else {
        let nothing = metric(comparison, "server_cpu_ns")
            .is_some_and(|one| one.variant == Some(0.0) && one.reference == Some(0.0));
        return match nothing {
            true => format!("{about}, neither {variant} nor {reference} took CPU that could be measured"),
            false => format!("{about}, nothing can be said of {variant} against {reference}"),
        };
    };
    let numbers = format!(
        "{variant} costs {} of {reference}'s CPU per {unit}, and {} with the client's counted",
        interval(server),
        interval(total)
    );
    let verdict = match comparison.verdict {
        Judgement::Better => format!("{variant} is the cheaper one"),
        Judgement::Worse => format!("{reference} is the cheaper one"),
        Judgement::Same => format!("they cost the same within {:.1} %", comparison.band * 100.0),
        Judgement::Undecided | Judgement::LeftOut => "which is cheaper cannot be said".into(),
    };
    format!("{about}, {numbers}: {verdict}")
}

/// What both sides are called: by the question, where it is one of a suite.
#[must_use]
pub fn names(cell: &Cell) -> (&str, &str) {
    match &cell.question {
        Some(question) => (question, question.split(' ').next().unwrap_or("reference")),
        None => (short(&cell.variant), short(&cell.reference)),
    }
}

/// Why it is undecided, or what weakens it.
#[must_use]
pub fn reasons(comparison: &Comparison, rule: Rule) -> Vec<String> {
    let mut reasons = Vec::new();
    if comparison.cell.left_out.is_some() {
        return reasons;
    }
    let blocks = judged_blocks(comparison);
    let nought = (comparison.blocks as usize).saturating_sub(blocks);
    if nought > 0 {
        reasons.push(format!("sound blocks in which a side took no CPU that could be measured: {nought}"));
    }
    if blocks < rule.blocks_min {
        reasons.push(format!(
            "sound blocks: {blocks}, and fewer than {} make no 95 % interval; a longer --budget would do",
            rule.blocks_min
        ));
    }
    if comparison.band > rule.band {
        reasons.push(format!(
            "this machine puts a thing up to {:.1} % beside itself, so smaller differences count as none",
            comparison.band * 100.0
        ));
    }
    if comparison.verdict == Judgement::Undecided && blocks >= rule.blocks_min {
        reasons.extend(undecided(comparison));
    }
    let invalid = |slice: &&Slice| !slice.invalid.is_empty();
    if let Some(first) = comparison.slices.iter().find(invalid) {
        reasons.push(format!(
            "{} of {} slices counted nowhere; the first because {}",
            comparison.invalid,
            comparison.slices.len(),
            first.invalid[0]
        ));
    }
    let counted = super::compare::settled(&comparison.slices).filter(|one| one.invalid.is_empty());
    let disturbed: Vec<_> = counted.filter(|one| !one.disturbed.is_empty()).collect();
    if let Some(first) = disturbed.first() {
        reasons.push(format!(
            "{}{} slices count though they were disturbed whenever they were tried: {}",
            if is_suspect(comparison) { "suspect: " } else { "" },
            disturbed.len(),
            first.disturbed[0]
        ));
    }
    let drifted = drifted(&comparison.slices);
    if is_drifting(comparison) {
        reasons.push(format!(
            "it had not settled: in {drifted} slices the rate changed by more than {:.0} % from the first half to \
             the second",
            DRIFT * 100.0
        ));
    }
    reasons.extend(client_limit(comparison));
    reasons
}

/// Blocks that a verdict rests on: those in which each headline has a ratio.
#[must_use]
pub fn judged_blocks(comparison: &Comparison) -> usize {
    let pairs = |name: &str| {
        let ratio = metric(comparison, name).and_then(|metric| metric.ratio.as_ref());
        ratio.map_or(0, |ratio| ratio.pairs.len())
    };
    pairs("server_cpu_ns").min(pairs("total_cpu_ns"))
}

/// How much the rate may change from the first half of a slice to the second, beside what chance may add.
const DRIFT: f64 = 0.10;
/// Standard deviations that are left to chance, where a schedule draws when messages are sent.
const CHANCE: f64 = 3.0;
/// The share of the slices that may drift: others on a machine stop and start within a slice, too.
const DRIFTING: f64 = 0.25;

/// Slices that count and whose rate was not the same in both halves.
#[must_use]
pub fn drifted(slices: &[Slice]) -> usize {
    let counted = super::compare::settled(slices).filter(|one| one.invalid.is_empty());
    counted.filter_map(|one| one.numbers.as_ref()).filter(|numbers| has_drifted(numbers)).count()
}

fn has_drifted(numbers: &Numbers) -> bool {
    let chance = match numbers.offered_per_second {
        // Two halves of so many messages differ by the root of twice their number.
        Some(_) => CHANCE * (2.0 / (numbers.units / 2.0).max(1.0)).sqrt(),
        None => 0.0,
    };
    numbers.second_half.is_some_and(|ratio| (ratio - 1.0).abs() > DRIFT + chance)
}

/// Whether so many slices drifted that it was no accident.
#[must_use]
pub fn is_drifting(comparison: &Comparison) -> bool {
    let counted = super::compare::settled(&comparison.slices).filter(|one| one.invalid.is_empty());
    f64::from(comparison.drifted) > counted.count() as f64 * DRIFTING
}

fn undecided(comparison: &Comparison) -> Option<String> {
    let headline = |name: &str| metric(comparison, name).and_then(|metric| metric.ratio.as_ref());
    let (server, total) = (headline("server_cpu_ns")?, headline("total_cpu_ns")?);
    let side = |ratio: &Ratio| (ratio.high < 1.0) as i8 - (ratio.low > 1.0) as i8;
    Some(match (side(server), side(total)) {
        _ if comparison.band > BAND_MAX => {
            "the machine is too noisy to call anything the same; a quiet one would do".into()
        }
        (server, total) if server * total < 0 => {
            "server CPU and server + client CPU point to different sides: what one saves, the other pays"
                .into()
        }
        (0, 0) => "both intervals contain 1; a longer --budget would narrow them".into(),
        (server, total) if server * total == 0 => {
            "only one of server CPU and server + client CPU is clear of 1; a longer --budget may decide"
                .into()
        }
        _ => format!(
            "both are clear of 1, and the server's by no more than the {:.1} % that count as none",
            comparison.band * 100.0
        ),
    })
}

/// How busy a client is that is the limit.
const CLIENT_BUSY: f64 = 0.95;

/// A closed loop whose client was busy all the time, or a client that was near its limit.
fn client_limit(comparison: &Comparison) -> Option<String> {
    if is_client_limited(comparison) {
        return Some(format!(
            "in this closed loop the client was the limit ({:.0} % busy): the rate is the client's, the cost is \
             the server's at that rate",
            busiest_in_closed_loops(&comparison.slices, Purpose::Cost) * 100.0
        ));
    }
    is_client_near(comparison).then(|| {
        format!(
            "it is not proved that the client was not the limit: {}, and {} times would prove it; costs hold, \
             rates and latencies are in doubt",
            comparison.client_ceiling.as_ref().map_or(String::new(), ceiling_in_words),
            ceiling::TIMES
        )
    })
}

/// Whether the client's ceiling is nearer to what was measured than it may be.
#[must_use]
pub fn is_client_near(comparison: &Comparison) -> bool {
    comparison.client_ceiling.as_ref().is_some_and(|one| !one.enough)
}

/// The client's ceiling beside what was measured.
#[must_use]
pub fn ceiling_in_words(one: &ClientCeiling) -> String {
    let known = match one.known.as_str() {
        ceiling::REACHED => "reached in a closed loop",
        _ => "reckoned from how busy it was",
    };
    format!(
        "the client can do {} a second ({known}), {:.2} times the {} that were measured",
        number(one.units_per_second),
        one.times,
        number(one.measured_units_per_second)
    )
}

/// Whether cost was measured in a closed loop whose client was busy all the time.
#[must_use]
pub fn is_client_limited(comparison: &Comparison) -> bool {
    client_was_the_limit(&comparison.slices, Purpose::Cost)
}

/// Whether a closed loop for this purpose had a client that was busy all the time.
#[must_use]
pub fn client_was_the_limit(slices: &[Slice], purpose: Purpose) -> bool {
    busiest_in_closed_loops(slices, purpose) >= CLIENT_BUSY
}

fn busiest_in_closed_loops(slices: &[Slice], purpose: Purpose) -> f64 {
    let numbers = slices.iter().filter(|one| one.purpose == purpose).filter_map(|one| one.numbers.as_ref());
    let closed = numbers.filter(|one| one.offered_per_second.is_none());
    closed.map(|one| one.client_busy).fold(0.0, f64::max)
}

/// Whether a slice that counts was disturbed whenever it was tried.
#[must_use]
pub fn is_disturbed(comparison: &Comparison) -> bool {
    super::compare::settled(&comparison.slices).any(|one| one.invalid.is_empty() && !one.disturbed.is_empty())
}

/// Whether so many of the slices that count stayed disturbed that its numbers are those of a busy machine.
#[must_use]
pub fn is_suspect(comparison: &Comparison) -> bool {
    const SHARE: f64 = 0.25;
    let counted = || super::compare::settled(&comparison.slices).filter(|one| one.invalid.is_empty());
    let disturbed = counted().filter(|one| !one.disturbed.is_empty()).count();
    disturbed as f64 > counted().count() as f64 * SHARE
}

/// A metric by name.
#[must_use]
pub fn metric<'a>(comparison: &'a Comparison, name: &str) -> Option<&'a Metric> {
    comparison.metrics.iter().find(|metric| metric.name == name)
}

/// `0.87 (0.84–0.90)`; with the confidence, where that is not 95 %.
#[must_use]
pub fn interval(ratio: &Ratio) -> String {
    let confidence = match ratio.confidence {
        _ if ratio.pairs.len() == 1 => return format!("{:.2} (one pair)", ratio.median),
        enough if enough >= 0.95 => String::new(),
        less => format!(", {:.0} % sure", less * 100.0),
    };
    format!("{:.2} ({:.2}–{:.2}{confidence})", ratio.median, ratio.low, ratio.high)
}
