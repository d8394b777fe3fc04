//! What a run is worth: the facts the judge needs, the numbers conditions ask for, and the exit code.
//! Pure.

use super::check::Checked;
use super::condition::{Condition, Distribution, Metric, Value};
use super::judge;
use super::outcome::{Outcome, Row, per_second};
use super::output::figures;
use super::plan::{Arrivals, End, Plan, Spacing, Workload};
use super::summary::{self, Judged};
use crate::result::load::{FindRate, Gate, Verdict, VerdictWord};
use crate::statistics::Latencies;
use std::time::Duration;

/// What the program exits with; DESIGN.md has the list.
pub const FAILED: u8 = 1;
/// What was typed cannot be.
pub const USAGE: u8 = 2;
/// A `--fail-if` holds.
pub const BREACHED: u8 = 3;
/// The measurement says nothing, or with `--strict` is suspect.
pub const NOT_VALID: u8 = 4;
/// Bytes were wrong.
pub const WRONG_BYTES: u8 = 5;
/// The kernel does not offer what was typed.
pub const UNAVAILABLE: u8 = 6;
/// A signal that ended it is added to this.
pub const SIGNALLED: u8 = 128;

/// The latency that matters most: of the response where there is a schedule, else of the service.
#[must_use]
pub fn main_latency(outcome: &Outcome) -> &Latencies {
    let total = &outcome.total;
    if total.response.samples() > 0 { &total.response } else { &total.service }
}

/// Judges a run and its gates. `find_rate` is the search it is the best step of.
#[must_use]
pub fn judge(checked: &Checked, outcome: &Outcome, find_rate: Option<FindRate>) -> Judged {
    let gates: Vec<Gate> = checked.fail_if.iter().map(|condition| gate(condition, outcome)).collect();
    let mut verdict = verdict(&checked.plan, outcome);
    for gate in gates.iter().filter(|gate| gate.measured.is_none()) {
        verdict.word = VerdictWord::Invalid;
        verdict.reasons.push(format!(
            "--fail-if {} cannot be decided: too few samples; a longer -d, or a lower percentile, would do",
            gate.condition
        ));
    }
    let exit_code = exit_code(checked, outcome, verdict.word, &gates);
    Judged { verdict, gates, find_rate, exit_code }
}

/// How far the numbers of a run can be believed.
#[must_use]
pub fn verdict(plan: &Plan, outcome: &Outcome) -> Verdict {
    if outcome.total.messages == 0 && outcome.total.bytes_received == 0 {
        let reason = "nothing came back in the window, so there is nothing to judge; the errors say why, or a \
                      longer -d would do";
        return Verdict { word: VerdictWord::Invalid, reasons: vec![reason.into()] };
    }
    let verdict = judge::judge(&facts(plan, outcome));
    Verdict {
        word: if verdict.is_valid() { VerdictWord::Valid } else { VerdictWord::Suspect },
        reasons: verdict.doubts.iter().map(ToString::to_string).collect(),
    }
}

fn facts(plan: &Plan, outcome: &Outcome) -> judge::Facts {
    let total = &outcome.total;
    // Where a number of messages ends the run, the last ones have the connections to themselves.
    let full = matches!(
        (plan.workload, plan.arrivals, plan.end),
        (Workload::PingPong, Arrivals::Closed, End::After(_))
    );
    judge::Facts {
        window: outcome.measured(),
        threads: outcome.threads.iter().map(|thread| thread.cpu).collect(),
        rate: outcome.rate(),
        messages: total.messages,
        intended: match plan.arrivals {
            Arrivals::Open { rate, .. } => Some(rate),
            Arrivals::Closed => None,
        },
        random: is_random(plan),
        unsent: total.unsent,
        overflows: outcome.overflows,
        stale: outcome.stale,
        mean_service: total.service.mean(),
        places: full.then(|| u64::from(outcome.connected) * u64::from(plan.depth)),
        lag_p99: total.lag.percentile(99.0),
        lag_max: total.lag.max(),
        response_p99: total.response.percentile(99.0),
        steal: outcome.machine.map(|machine| machine.steal),
        pressure: outcome.machine.and_then(|machine| machine.pressure),
        halves: halves(plan, &outcome.rows),
    }
}

/// Whether chance decides how many messages a window has.
#[must_use]
pub fn is_random(plan: &Plan) -> bool {
    matches!(plan.arrivals, Arrivals::Open { spacing: Spacing::Poisson, .. })
}

/// The rates of the first and the second half of the window, by its whole intervals; those of a stream
/// in bytes. The one in the middle of an odd number belongs to neither.
fn halves(plan: &Plan, rows: &[Row]) -> Option<(f64, f64)> {
    let length = |row: &Row| Duration::from_nanos(row.end.saturating_sub(row.begin));
    let whole: Vec<&Row> = rows.iter().filter(|row| length(row) >= plan.interval.mul_f64(0.99)).collect();
    let half = whole.len() / 2;
    let rate = |rows: &[&Row]| {
        let count = |row: &&Row| {
            if plan.workload == Workload::Stream { row.bytes_received } else { row.messages }
        };
        per_second(rows.iter().map(count).sum(), rows.iter().map(|row| length(row)).sum())
    };
    (half > 0).then(|| (rate(&whole[..half]), rate(&whole[whole.len() - half..])))
}

/// A measured number in the units of [`Condition::bound`]; `None` where too few samples back it.
#[must_use]
pub fn look_up(outcome: &Outcome, metric: Metric) -> Option<f64> {
    let (total, measured) = (&outcome.total, outcome.measured());
    match metric {
        Metric::Time(distribution, value) => {
            let latencies = match distribution {
                Distribution::Main => main_latency(outcome),
                Distribution::Response => &total.response,
                Distribution::Service => &total.service,
                Distribution::Connect if total.connect.samples() > 0 => &total.connect,
                Distribution::Connect => &outcome.ramp.connect,
                Distribution::Close => &total.close,
                Distribution::Lag => &total.lag,
            };
            match value {
                Value::Percentile(percent) => latencies.percentile(percent).map(|time| time as f64),
                Value::Mean => latencies.mean(),
                Value::Max => latencies.max().map(|time| time as f64),
            }
        }
        Metric::Rate => Some(outcome.rate()),
        Metric::Throughput => Some(per_second(total.bytes_received, measured)),
        Metric::ConnectionRate => Some(per_second(total.connections, measured)),
        Metric::Errors => Some(outcome.troubles().total() as f64),
        Metric::Stuck => Some(outcome.stuck.count as f64),
    }
}

fn gate(condition: &Condition, outcome: &Outcome) -> Gate {
    let number = look_up(outcome, condition.metric);
    let say = |number: f64| match condition.metric {
        Metric::Time(..) => figures::nanoseconds(Some(number)),
        Metric::Throughput => format!("{}/s", figures::bytes(number)),
        _ => figures::amount(number),
    };
    Gate {
        condition: condition.to_string(),
        measured: number.map(|number| format!("{} is {}", condition.metric, say(number))),
        breached: condition.holds(|_| number) == Some(true),
    }
}

/// Wrong bytes before anything else, since no other number counts then; then that it was interrupted,
/// failed, is not valid, met a gate.
fn exit_code(checked: &Checked, outcome: &Outcome, word: VerdictWord, gates: &[Gate]) -> u8 {
    if outcome.wrong_connections > 0 {
        return WRONG_BYTES;
    }
    if let Some(signal) = outcome.interrupted {
        return SIGNALLED + signal as u8;
    }
    if !summary::failures(&checked.plan, outcome).is_empty() {
        return FAILED;
    }
    match word {
        VerdictWord::Invalid => return NOT_VALID,
        VerdictWord::Suspect if checked.strict => return NOT_VALID,
        _ => {}
    }
    if gates.iter().any(|gate| gate.breached) { BREACHED } else { 0 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::for_tests::{broken, checked, outcome};
    use crate::load::trouble::{Cause, Phase};
    use nix::errno::Errno;

    fn exit(arguments: &str, damage: impl FnOnce(&mut Outcome)) -> u8 {
        let checked = checked(arguments);
        let mut outcome = outcome(&checked);
        damage(&mut outcome);
        judge(&checked, &outcome, None).exit_code
    }

    #[test]
    fn the_exit_code_is_the_gravest_of_what_happened() {
        let busy = |outcome: &mut Outcome| outcome.threads[0].cpu = Duration::from_secs(4);
        let stuck = |outcome: &mut Outcome| outcome.stuck.count = 1;
        assert_eq!(exit("pingpong", |_| {}), 0);
        assert_eq!(exit("pingpong --fail-if p99>1ms", |_| {}), 3);
        assert_eq!(exit("pingpong --fail-if p99>1s", |_| {}), 0);
        assert_eq!(exit("pingpong --fail-if p99>1ms", busy), 3);
        assert_eq!(exit("pingpong", busy), 0);
        assert_eq!(exit("pingpong --strict --fail-if p99>1ms", busy), 4);
        assert_eq!(exit("pingpong --strict", stuck), 1);
        assert_eq!(exit("pingpong", |outcome| outcome.interrupted = Some(15)), 143);
        assert_eq!(exit("pingpong", |outcome| outcome.failure = Some("no".into())), 1);
        assert_eq!(
            exit("pingpong", |outcome| {
                stuck(outcome);
                outcome.wrong_connections = 1;
                outcome.interrupted = Some(2);
            }),
            5
        );
        let checked = checked("pingpong");
        assert_eq!(judge(&checked, &broken(&checked), None).exit_code, 5);
    }

    #[test]
    fn a_gate_that_cannot_be_decided_does_not_pass() {
        // 40,000 samples say nothing of p99.999.
        assert_eq!(exit("pingpong --fail-if p99.999>1s", |_| {}), 4);
        assert_eq!(exit("pingpong --fail-if response_p99>1s", |_| {}), 4);
    }

    #[test]
    fn a_run_in_which_nothing_came_back_is_not_valid() {
        assert_eq!(exit("pingpong", |outcome| outcome.total = crate::load::tally::Interval::default()), 4);
    }

    #[test]
    fn connections_that_are_lost_are_a_failure_and_a_port_that_was_tried_again_is_none() {
        let with = |phase, cause| exit("pingpong", |outcome| outcome.total.troubles.count(phase, cause));
        assert_eq!(with(Phase::Receive, Cause::of(Errno::ECONNRESET)), 1);
        assert_eq!(with(Phase::Receive, Cause::ClosedEarly), 1);
        assert_eq!(with(Phase::Connect, Cause::of(Errno::EADDRNOTAVAIL)), 0);
        assert_eq!(with(Phase::Close, Cause::of(Errno::ECONNRESET)), 0);
        let ramp = |cause| exit("pingpong", |outcome| outcome.ramp.troubles.count(Phase::Connect, cause));
        assert_eq!(ramp(Cause::TimedOut), 0);
    }

    #[test]
    fn what_was_due_and_not_sent_makes_a_run_suspect() {
        let suspect = |unsent| {
            let checked = checked("pingpong -R 10k");
            let mut outcome = outcome(&checked);
            outcome.total.unsent = unsent;
            verdict(&checked.plan, &outcome).word == VerdictWord::Suspect
        };
        assert_eq!((suspect(0), suspect(1)), (false, true));
    }

    #[test]
    fn a_completion_that_must_not_come_makes_a_run_suspect() {
        let word = |stale| {
            let checked = checked("pingpong -R 10k -d 4s");
            let mut outcome = outcome(&checked);
            outcome.stale = stale;
            verdict(&checked.plan, &outcome).word
        };
        assert_eq!((word(0), word(1)), (VerdictWord::Valid, VerdictWord::Suspect));
    }

    #[test]
    fn a_queue_that_overflowed_makes_a_run_suspect_and_buffers_that_ran_out_do_not() {
        let word = |overflows, empty_pool| {
            let checked = checked("stream -d 4s");
            let outcome = Outcome { overflows, empty_pool, ..outcome(&checked) };
            verdict(&checked.plan, &outcome).word
        };
        assert_eq!((word(0, 500_000), word(1, 0)), (VerdictWord::Valid, VerdictWord::Suspect));
    }

    #[test]
    fn the_messages_of_a_stream_are_those_that_the_engine_counted() {
        let checked = checked("stream -s 64..4Ki");
        let outcome = outcome(&checked);
        assert_eq!(facts(&checked.plan, &outcome).messages, outcome.total.messages);
    }

    #[test]
    fn littles_law_is_asked_of_full_closed_loops_only() {
        let places = |arguments| {
            let checked = checked(arguments);
            facts(&checked.plan, &outcome(&checked)).places
        };
        assert_eq!(places("pingpong -c 10 -P 3"), Some(30));
        for arguments in ["pingpong -R 5k", "pingpong -n 5k", "churn", "stream"] {
            assert_eq!(places(arguments), None, "{arguments}");
        }
    }

    #[test]
    fn the_two_halves_of_the_window_are_told_apart() {
        let checked = checked("pingpong");
        let mut outcome = outcome(&checked);
        outcome.rows[2].messages = 20_000;
        outcome.rows[3].messages = 20_000;
        assert_eq!(halves(&checked.plan, &outcome.rows), Some((10_000.0, 20_000.0)));
        // The middle one of three, and one that was cut short, count nowhere.
        assert_eq!(halves(&checked.plan, &outcome.rows[..3]), Some((10_000.0, 20_000.0)));
        outcome.rows[3].end -= 500_000_000;
        assert_eq!(halves(&checked.plan, &outcome.rows[1..]), Some((10_000.0, 20_000.0)));
        assert_eq!(halves(&checked.plan, &outcome.rows[..1]), None);
    }
}
