//! `--find-rate`: runs at one rate after another, as the search asks, and the best of them.

use super::condition::{Condition, Metric, Value};
use super::judge;
use super::outcome::{Observer, Outcome, ServerCost};
use super::output::figures;
use super::plan::{Arrivals, End, Plan};
use super::search::{Knee, Search};
use super::summary;
use super::verdict;
use crate::result::load::{FindRate, Step};
use crate::statistics::Latencies;

/// What a search came to.
pub(super) struct Found {
    /// The plan of the run that stands for all: with the highest rate that held, or the last one.
    pub(super) plan: Plan,
    /// That run.
    pub(super) outcome: Outcome,
    /// The search.
    pub(super) find_rate: FindRate,
}

/// Searches the highest rate at which `condition` holds. `run` makes one measurement.
pub(super) fn find(
    plan: &Plan,
    condition: &Condition,
    first: f64,
    observer: &mut dyn Observer,
    mut run: impl FnMut(&Plan, &mut dyn Observer) -> Outcome,
) -> Found {
    let mut search = Search::from(first.max(least_rate(condition, plan)));
    let mut steps = Vec::new();
    let mut best: Option<(Plan, Outcome)> = None;
    let mut last = None;
    while let Some(rate) = search.next() {
        let plan = at(plan, rate);
        let outcome = run(&plan, observer);
        let held = holds(condition, &plan, &outcome, rate);
        let step = step(&plan, &outcome, rate, held);
        observer.notice(&said(&step));
        steps.push(step);
        let over =
            outcome.interrupted.is_some() || outcome.failure.is_some() || outcome.wrong_connections > 0;
        if over {
            // What ended it is what has to be told.
            best = None;
            last = Some((plan, outcome));
            break;
        }
        search.answer(held);
        let better = held && best.as_ref().is_none_or(|(best, _)| rate_of(best) < rate);
        *(if better { &mut best } else { &mut last }) = Some((plan, outcome));
    }
    let (highest, lowest_failed) = match search.knee() {
        Some(Knee::Between { held, failed }) => (Some(held), Some(failed)),
        Some(Knee::Above(held)) => (Some(held), None),
        Some(Knee::Below(failed)) => (None, Some(failed)),
        None => (None, None),
    };
    let found = best.is_some();
    let (plan, mut outcome) = best.or(last).expect("a search makes at least one step");
    if !found && outcome.interrupted.is_none() && outcome.failure.is_none() && outcome.wrong_connections == 0
    {
        let least = least_rate(condition, &plan);
        outcome.failure = Some(if rate_of(&plan) < least {
            format!(
                "{condition} holds at no rate that was tried, and below {least:.0} messages a second a step has too \
                 few samples to tell; a longer step (-d) would do"
            )
        } else {
            format!("{condition} holds at no rate that was tried")
        });
    }
    let find_rate = FindRate {
        condition: condition.to_string(),
        highest_messages_per_second: highest,
        lowest_failed_messages_per_second: lowest_failed,
        steps,
    };
    Found { plan, outcome, find_rate }
}

/// The rate below which a step has too few samples for the percentile that is asked for: it would look as
/// if the condition did not hold. With a tenth more, since what comes by chance may be less.
fn least_rate(condition: &Condition, plan: &Plan) -> f64 {
    let (Metric::Time(_, Value::Percentile(percent)), End::After(time)) = (condition.metric, &plan.end)
    else {
        return 0.0;
    };
    let samples = Latencies::BEYOND as f64 / (1.0 - percent / 100.0).max(f64::EPSILON);
    1.1 * samples / time.as_secs_f64().max(1e-9)
}

fn at(plan: &Plan, rate: f64) -> Plan {
    let mut plan = plan.clone();
    if let Arrivals::Open { rate: of_plan, .. } = &mut plan.arrivals {
        *of_plan = rate;
    }
    plan
}

fn rate_of(plan: &Plan) -> f64 {
    match plan.arrivals {
        Arrivals::Open { rate, .. } => rate,
        Arrivals::Closed => 0.0,
    }
}

fn holds(condition: &Condition, plan: &Plan, outcome: &Outcome, rate: f64) -> bool {
    let holds = condition.holds(|metric| verdict::look_up(outcome, metric)) == Some(true);
    // A rate that was not reached was not held, whatever the latencies were.
    let reached = judge::reached(outcome.rate(), rate, outcome.measured(), verdict::is_random(plan));
    holds && reached && summary::failures(plan, outcome).is_empty()
}

fn step(plan: &Plan, outcome: &Outcome, rate: f64, held: bool) -> Step {
    let messages = outcome.total.messages as f64;
    let each = |nanoseconds: u128| (messages > 0.0).then(|| nanoseconds as f64 / messages);
    let server = outcome.server.as_ref().and_then(ServerCost::cpu);
    Step {
        intended_messages_per_second: rate,
        achieved_messages_per_second: outcome.rate(),
        held,
        verdict: verdict::verdict(plan, outcome).word,
        response_latency_us: summary::latency(&outcome.total.response, &[]),
        client_cpu_ns_per_message: each(outcome.cpu().as_nanos()),
        server_cpu_ns_per_message: server.and_then(|cpu| each(cpu.as_nanos())),
    }
}

fn said(step: &Step) -> String {
    format!(
        "{} msg/s: p99 {}, {} reached: {}",
        figures::amount(step.intended_messages_per_second),
        figures::time(step.response_latency_us.p99),
        figures::share(step.achieved_messages_per_second / step.intended_messages_per_second),
        if step.held { "holds" } else { "does not hold" }
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::for_tests::{checked, outcome};
    use crate::load::outcome::Unobserved;

    /// Runs whose rate is reached up to `capacity`, and whose latency is low up to `knee`.
    fn search(capacity: f64, knee: f64, damage: impl Fn(f64, &mut Outcome)) -> (Found, usize) {
        let checked = checked("pingpong --find-rate p99<20ms");
        let mut runs = 0;
        let found =
            find(&checked.plan, checked.find_rate.as_ref().unwrap(), 1_000.0, &mut Unobserved, |plan, _| {
                runs += 1;
                let mut outcome = outcome(&checked);
                let rate = rate_of(plan);
                outcome.total.messages = (rate.min(capacity) * 4.0) as u64;
                if rate > knee {
                    (0..100_000).for_each(|_| outcome.total.response.record(50_000_000));
                }
                damage(rate, &mut outcome);
                outcome
            });
        (found, runs)
    }

    #[test]
    fn the_knee_is_where_the_latency_stops_to_hold_or_the_rate_to_be_reached() {
        for (capacity, knee, expected) in [(1e9, 50_000.0, 50_000.0), (30_000.0, 1e9, 30_000.0)] {
            let (found, runs) = search(capacity, knee, |_, _| {});
            let highest = found.find_rate.highest_messages_per_second.unwrap();
            // Up to the 1 % by which a rate may be missed, and what chance may do.
            assert!((expected * 0.97..=expected * 1.02).contains(&highest), "{highest} {expected}");
            assert!(found.find_rate.lowest_failed_messages_per_second.unwrap() > highest);
            assert_eq!(rate_of(&found.plan), highest);
            assert_eq!(found.find_rate.steps.len(), runs);
            assert!(found.outcome.failure.is_none());
        }
    }

    #[test]
    fn chance_does_not_end_a_search_at_a_low_rate() {
        // Of 3,000 messages a second over 4 s, 2 % fewer are nothing unusual.
        let (found, _) = search(1e9, 50_000.0, |rate, outcome| {
            if rate < 3_000.0 {
                outcome.total.messages = (rate * 4.0 * 0.98) as u64;
            }
        });
        assert!(found.find_rate.highest_messages_per_second.unwrap() > 48_000.0);
    }

    #[test]
    fn a_search_begins_where_a_step_has_samples_for_its_percentile() {
        let first = |condition: &str| {
            let checked = checked(&format!("pingpong -d 4s --find-rate {condition}"));
            least_rate(checked.find_rate.as_ref().unwrap(), &checked.plan)
        };
        // Ten beyond it and a tenth more: 11,000 in 4 s.
        assert!((first("p99.9<20ms") - 2_750.0).abs() < 1.0, "{}", first("p99.9<20ms"));
        assert!((first("p50<20ms") - 5.5).abs() < 0.01);
        assert!(first("max<20ms") == 0.0);
    }

    #[test]
    fn a_condition_that_never_holds_is_a_failure() {
        let (found, _) = search(1e9, 0.0, |_, _| {});
        assert_eq!(found.find_rate.highest_messages_per_second, None);
        assert!(found.outcome.failure.unwrap().starts_with("p99<20ms holds at no rate"));
    }

    #[test]
    fn what_ends_a_step_ends_the_search() {
        let (found, _) = search(1e9, 50_000.0, |rate, outcome| {
            if rate > 5_000.0 {
                outcome.interrupted = Some(2);
            }
        });
        assert_eq!(found.outcome.interrupted, Some(2));
        assert_eq!(found.find_rate.steps.len(), 4);
        assert_eq!(found.find_rate.highest_messages_per_second, Some(4_000.0));
        let (found, runs) = search(1e9, 50_000.0, |_, outcome| outcome.failure = Some("refused".into()));
        assert_eq!((found.outcome.failure.as_deref(), runs), (Some("refused"), 1));
    }
}
