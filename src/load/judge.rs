//! Whether a run may be believed: was the server measured, or the client, or somebody else on the machine?
//! From numbers to a verdict, each doubt a sentence with its cause and what to do about it. Pure.
//!
//! | doubt | bound | why |
//! |---|---|---|
//! | client at its limit | open loop: a thread busy 80 % | a queue before a server that is busy 80 % is four times the work in it: latencies include the client's own |
//! | | closed loop: a thread busy 95 % | a closed loop always drives one side to its limit; where it is the client, its ceiling was measured. Below 95 % a client still waits for its server |
//! | rate not reached | 99 % of the intended, less three standard deviations where chance counts them | what was not sent was not measured |
//! | not sent | none of those that were due in the window may be left when the grace is over | how long they would have waited nobody knows: percentiles among them are lower bounds |
//! | late | p99 of the lag 1 ms and a tenth of the p99 of the response; or once 1 % of the window | the client's delay is part of every latency it prints; 1 % of the window is in every p99 |
//! | Little's law | closed loop: 5 % | connections x depth = rate x mean latency, or the clock or the count is wrong; not where the client thinks: only a full closed loop obeys |
//! | steal | 1 % | the hypervisor gave the CPU to others |
//! | pressure | 20 % | server, client or others waited for a CPU that another of them held: then who is measured is the scheduler |
//! | drift | 5 % between the halves, and what chance may add to it | the run had not settled, or something else began |
//! | overflow | none | completions that did not fit in the client's queue were kept elsewhere by the kernel, and told late and dearly |
//! | stale | none | an answer for a connection that is over means that somebody lost count |
//! | too short | fewer than 1,000 messages or 1 s | nothing to say about a tail |
//!
//! That a receive found no buffer raises no doubt, however often. The buffers of a turn are given back within
//! it, and whoever found none is armed again at its end: those bytes wait for the thread to be done with the
//! others, as they would have done in a buffer. It costs the client an operation, which is counted.
//!
//! A stream has no latency of the schedule, and a closed churn none: each is judged by what it has.

use crate::statistics::in_flight;
use std::fmt;
use std::time::Duration;

/// What a run is judged by. What is not known, or does not apply, is `None`, and raises no doubt.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Facts {
    /// Length of the window.
    pub window: Duration,
    /// CPU time of each thread of the client in the window.
    pub threads: Vec<Duration>,
    /// Messages a second that came back.
    pub rate: f64,
    /// Messages in the window.
    pub messages: u64,
    /// Messages a second that were intended: an open loop.
    pub intended: Option<f64>,
    /// Whether the number of those in the window is left to chance (Poisson).
    pub random: bool,
    /// Messages that were due in the window and had not been sent when the grace ended.
    pub unsent: u64,
    /// Times completions did not fit in the client's queue.
    pub overflows: u64,
    /// Completions for connections that were over.
    pub stale: u64,
    /// Mean of the service time, nanoseconds.
    pub mean_service: Option<f64>,
    /// Messages that can be under way at once, connections x depth: a closed loop that sends whenever it may.
    pub places: Option<u64>,
    /// Lag of the schedule, nanoseconds: how late messages were sent though their connection was free.
    pub lag_p99: Option<u64>,
    /// The longest lag, nanoseconds.
    pub lag_max: Option<u64>,
    /// 99th percentile of the response, nanoseconds.
    pub response_p99: Option<u64>,
    /// Share of the machine's time that the hypervisor gave to others.
    pub steal: Option<f64>,
    /// Share of the window in which some task waited for a CPU.
    pub pressure: Option<f64>,
    /// Messages a second in the first and in the second half of the window.
    pub halves: Option<(f64, f64)>,
}

/// Whether a run may be believed.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Verdict {
    /// Every doubt, the gravest kinds first; none: valid.
    pub doubts: Vec<Doubt>,
}

/// A reason not to believe a run. Printed as a sentence with its cause and its remedy.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Doubt {
    /// A thread of an open loop was too busy to keep its own delay out of the latencies.
    ClientBusy {
        /// Share of the window, of the busiest thread.
        busy: f64,
    },
    /// A closed loop measured how fast the client is.
    ClientLimit {
        /// Share of the window, of the busiest thread.
        busy: f64,
    },
    /// Fewer messages came back than were intended.
    RateMissed {
        /// Messages a second that came back.
        achieved: f64,
        /// Messages a second that were intended.
        intended: f64,
    },
    /// Messages that were due in the window were never sent.
    Unsent {
        /// How many.
        unsent: u64,
        /// Share of what the schedule asked for.
        share: f64,
    },
    /// The client sent late.
    Late {
        /// 99th percentile, nanoseconds; `None` where too few samples back it.
        p99: Option<u64>,
        /// The longest, nanoseconds.
        max: u64,
    },
    /// Rate and latency do not go together.
    Little {
        /// Messages that were under way by rate and latency.
        counted: f64,
        /// Messages that were.
        places: f64,
    },
    /// The hypervisor took time.
    Steal {
        /// Share of the machine's time.
        share: f64,
    },
    /// Tasks waited for a CPU.
    Pressure {
        /// Share of the window.
        share: f64,
    },
    /// The rate was not the same all the time.
    Drift {
        /// The second half's rate, compared with the first's.
        ratio: f64,
    },
    /// Completions did not fit in the client's queue.
    Overflow {
        /// How often.
        count: u64,
    },
    /// Completions came for connections that were over.
    Stale {
        /// How many.
        count: u64,
    },
    /// There is too little to say anything.
    Short {
        /// Messages.
        messages: u64,
        /// Length of the window.
        window: Duration,
    },
}

/// Busy shares of a client's thread, in an open and in a closed loop.
const BUSY_OPEN: f64 = 0.80;
const BUSY_CLOSED: f64 = 0.95;
/// Achieved of intended.
const REACHED: f64 = 0.99;
/// Lag that may be: nanoseconds, as a share of the response, and at once as a share of the window.
const LAG_P99: u64 = 1_000_000;
const LAG_SHARE: f64 = 0.1;
const LAG_STOOD_STILL: f64 = 0.01;
const LITTLE: f64 = 0.05;
const STEAL: f64 = 0.01;
const PRESSURE: f64 = 0.20;
const DRIFT: f64 = 0.05;
const MESSAGES: u64 = 1_000;
const WINDOW: Duration = Duration::from_secs(1);

/// The verdict on a run.
#[must_use]
pub fn judge(facts: &Facts) -> Verdict {
    let doubts = [
        client(facts),
        rate(facts),
        unsent(facts),
        lag(facts),
        little(facts),
        steal(facts),
        pressure(facts),
        drift(facts),
        overflow(facts),
        stale(facts),
        short(facts),
    ];
    Verdict { doubts: doubts.into_iter().flatten().collect() }
}

impl Verdict {
    /// Whether there is no doubt.
    #[must_use]
    pub fn is_valid(&self) -> bool {
        self.doubts.is_empty()
    }

    /// `valid` or `suspect`.
    #[must_use]
    pub fn word(&self) -> &'static str {
        if self.is_valid() { "valid" } else { "suspect" }
    }
}

impl Facts {
    /// Share of the window in which the busiest thread had the CPU.
    #[must_use]
    pub fn busy(&self) -> Option<f64> {
        let most = self.threads.iter().max()?;
        (!self.window.is_zero()).then(|| most.as_secs_f64() / self.window.as_secs_f64())
    }
}

fn client(facts: &Facts) -> Option<Doubt> {
    let busy = facts.busy()?;
    match facts.intended {
        Some(_) => (busy >= BUSY_OPEN).then_some(Doubt::ClientBusy { busy }),
        None => (busy >= BUSY_CLOSED).then_some(Doubt::ClientLimit { busy }),
    }
}

fn rate(facts: &Facts) -> Option<Doubt> {
    let (achieved, intended) = (facts.rate, facts.intended?);
    let reached = reached(achieved, intended, facts.window, facts.random);
    (!reached).then_some(Doubt::RateMissed { achieved, intended })
}

fn unsent(facts: &Facts) -> Option<Doubt> {
    let all = facts.intended? * facts.window.as_secs_f64();
    // The window may have been cut off before anything was due.
    let share = if all > 0.0 { (facts.unsent as f64 / all).min(1.0) } else { 1.0 };
    (facts.unsent > 0).then_some(Doubt::Unsent { unsent: facts.unsent, share })
}

/// Whether a rate, messages a second, was reached over this window. Where their number is left to chance
/// (Poisson), as few as three standard deviations below the intended are no miss.
#[must_use]
pub fn reached(achieved: f64, intended: f64, window: Duration, random: bool) -> bool {
    let seconds = window.as_secs_f64();
    let chance = if random && seconds > 0.0 { 3.0 * (intended / seconds).sqrt() } else { 0.0 };
    achieved >= intended * REACHED - chance
}

fn lag(facts: &Facts) -> Option<Doubt> {
    let (p99, max) = (facts.lag_p99, facts.lag_max?);
    // A server so slow that a millisecond does not show needs no faster client.
    let shows = |p99: u64| facts.response_p99.is_none_or(|response| p99 as f64 > response as f64 * LAG_SHARE);
    let stood_still = max as f64 > facts.window.as_nanos() as f64 * LAG_STOOD_STILL;
    (p99.is_some_and(|p99| p99 > LAG_P99 && shows(p99)) || stood_still).then_some(Doubt::Late { p99, max })
}

fn little(facts: &Facts) -> Option<Doubt> {
    let (places, mean) = (facts.places? as f64, facts.mean_service?);
    let counted = in_flight(facts.rate, mean / 1e9);
    ((counted - places).abs() > places * LITTLE).then_some(Doubt::Little { counted, places })
}

fn steal(facts: &Facts) -> Option<Doubt> {
    facts.steal.filter(|&share| share > STEAL).map(|share| Doubt::Steal { share })
}

fn pressure(facts: &Facts) -> Option<Doubt> {
    facts.pressure.filter(|&share| share > PRESSURE).map(|share| Doubt::Pressure { share })
}

fn drift(facts: &Facts) -> Option<Doubt> {
    let (first, second) = facts.halves.filter(|(first, _)| *first > 0.0)?;
    let ratio = second / first;
    // Messages that come by chance differ between the halves: by the root of their number, three times
    // of which is next to never.
    let half = facts.rate * facts.window.as_secs_f64() / 2.0;
    let chance = if facts.random && half > 0.0 { 3.0 * (2.0 / half).sqrt() } else { 0.0 };
    ((ratio - 1.0).abs() > DRIFT + chance).then_some(Doubt::Drift { ratio })
}

fn overflow(facts: &Facts) -> Option<Doubt> {
    (facts.overflows > 0).then_some(Doubt::Overflow { count: facts.overflows })
}

fn stale(facts: &Facts) -> Option<Doubt> {
    (facts.stale > 0).then_some(Doubt::Stale { count: facts.stale })
}

fn short(facts: &Facts) -> Option<Doubt> {
    let (messages, window) = (facts.messages, facts.window);
    (messages < MESSAGES || window < WINDOW).then_some(Doubt::Short { messages, window })
}

impl Doubt {
    /// What is wrong, as the beginning of a sentence.
    #[must_use]
    pub fn cause(&self) -> String {
        match *self {
            Self::ClientBusy { busy } => {
                format!("a client thread was {} busy, so the latencies include its own queue", percent(busy))
            }
            Self::ClientLimit { busy } => {
                format!(
                    "a client thread was {} busy, so this is the client's limit and not the server's",
                    percent(busy)
                )
            }
            Self::RateMissed { achieved, intended } => format!(
                "{achieved:.0} of {intended:.0} messages a second were reached ({}); the server, or the client, \
                 cannot do more",
                percent(achieved / intended)
            ),
            Self::Unsent { unsent, share } => format!(
                "{unsent} messages, {} of the schedule, were due in the window and not yet sent when the grace \
                 ended, because the server stopped or was too slow for so few connections; the response counts the time they waited \
                 until the run gave up, and their true one is longer",
                percent(share)
            ),
            Self::Late { p99, max } => format!(
                "the client sent late ({}at most {}) though connections were free",
                p99.map_or_else(String::new, |p99| format!("p99 {}, ", time(p99))),
                time(max)
            ),
            Self::Little { counted, places } => format!(
                "rate x mean latency makes {counted:.1} messages under way where {places:.0} were: connections were \
                 lost or idle in the window, or a clock is wrong"
            ),
            Self::Steal { share } => {
                format!("the hypervisor gave {} of the CPU time to other guests", percent(share))
            }
            Self::Pressure { share } => {
                format!("server, client or other programs waited for a CPU in {} of the time", percent(share))
            }
            Self::Drift { ratio } => {
                format!(
                    "the rate changed by {:+.1} % from the first half to the second",
                    (ratio - 1.0) * 100.0
                )
            }
            Self::Overflow { count } => format!(
                "the client's completion queue overflowed {count} times, so that answers reached it late and \
                 cost it more"
            ),
            Self::Stale { count } => format!(
                "{count} completions came for connections that were over, which must not happen: the client \
                 or the kernel lost count, and what it counted is in doubt"
            ),
            Self::Short { messages, window } => {
                format!("{messages} messages in {:.1} s say little", window.as_secs_f64())
            }
        }
    }

    /// What to do about it, as the end of a sentence.
    #[must_use]
    pub const fn remedy(&self) -> &'static str {
        match self {
            Self::ClientBusy { .. } => "lower -R, or add threads on CPUs of their own (-t, --cpus)",
            Self::ClientLimit { .. } => "add threads on CPUs of their own (-t, --cpus)",
            Self::RateMissed { .. } => "lower -R, or let --find-rate find what holds",
            Self::Unsent { .. } => {
                "lower -R, take more connections (-c, -P), or lengthen --grace until they are sent and measured"
            }
            Self::Late { .. } => "lower -R, pin the client with --cpus, or keep other programs off its CPUs",
            Self::Little { .. } => "see the errors and the silent connections",
            Self::Steal { .. } => "repeat the run when the host is quieter",
            Self::Pressure { .. } => {
                "give server and client CPUs of their own (--cpus on both), and stop what else runs"
            }
            Self::Drift { .. } => "lengthen the warm-up (-w) or the run (-d)",
            Self::Overflow { .. } => "add threads (-t), or take fewer connections (-c, -P)",
            Self::Stale { .. } => "repeat the run with the other --engine, and report it",
            Self::Short { .. } => "lengthen the run (-d)",
        }
    }
}

impl fmt::Display for Doubt {
    fn fmt(&self, text: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(text, "{}; {}", self.cause(), self.remedy())
    }
}

fn percent(share: f64) -> String {
    format!("{:.1} %", share * 100.0)
}

fn time(nanoseconds: u64) -> String {
    match nanoseconds {
        0..1_000_000 => format!("{} us", nanoseconds / 1_000),
        1_000_000..1_000_000_000 => format!("{:.1} ms", nanoseconds as f64 / 1e6),
        _ => format!("{:.1} s", nanoseconds as f64 / 1e9),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An open loop that nobody doubts.
    fn open() -> Facts {
        Facts {
            window: Duration::from_secs(10),
            threads: vec![Duration::from_secs(4), Duration::from_secs(7)],
            rate: 199_900.0,
            messages: 1_999_000,
            intended: Some(200_000.0),
            random: false,
            unsent: 0,
            overflows: 0,
            stale: 0,
            mean_service: Some(90_000.0),
            places: None,
            lag_p99: Some(20_000),
            lag_max: Some(3_000_000),
            response_p99: Some(400_000),
            steal: Some(0.004),
            pressure: Some(0.05),
            halves: Some((199_000.0, 200_800.0)),
        }
    }

    /// A closed loop that nobody doubts: 100 connections, 1 ms, 100,000 a second.
    fn closed() -> Facts {
        Facts {
            rate: 100_000.0,
            intended: None,
            places: Some(100),
            mean_service: Some(1_000_000.0),
            lag_p99: None,
            lag_max: None,
            response_p99: None,
            ..open()
        }
    }

    #[test]
    fn chance_excuses_few_messages_and_not_many() {
        let window = Duration::from_secs(4);
        // 4,000 messages: a standard deviation is 16 a second.
        assert!(reached(950.0, 1_000.0, window, true) && !reached(950.0, 1_000.0, window, false));
        assert!(!reached(935.0, 1_000.0, window, true));
        assert!(!reached(980_000.0, 1_000_000.0, window, true));
        assert!(reached(990.0, 1_000.0, window, false));
    }

    /// The one doubt about these facts.
    #[track_caller]
    fn doubt(facts: &Facts) -> Doubt {
        let verdict = judge(facts);
        assert_eq!((verdict.doubts.len(), verdict.word()), (1, "suspect"), "{verdict:?}");
        verdict.doubts[0]
    }

    #[track_caller]
    fn assert_valid(facts: &Facts) {
        let verdict = judge(facts);
        assert!(verdict.is_valid() && verdict.word() == "valid", "{verdict:?}");
    }

    #[test]
    fn a_run_that_nothing_disturbed_is_valid() {
        assert_valid(&open());
        assert_valid(&closed());
    }

    #[test]
    fn a_client_is_doubted_by_its_busiest_thread_and_by_its_loop() {
        let busy = |facts: Facts, milliseconds| Facts {
            threads: vec![Duration::ZERO, Duration::from_millis(milliseconds), Duration::ZERO],
            ..facts
        };
        assert_eq!(doubt(&busy(open(), 8_000)), Doubt::ClientBusy { busy: 0.8 });
        assert_valid(&busy(open(), 7_999));
        assert_eq!(doubt(&busy(closed(), 9_500)), Doubt::ClientLimit { busy: 0.95 });
        assert_valid(&busy(closed(), 9_499));
    }

    #[test]
    fn a_rate_must_be_reached_to_one_per_cent() {
        let missed = doubt(&Facts { rate: 197_999.0, ..open() });
        assert_eq!(missed, Doubt::RateMissed { achieved: 197_999.0, intended: 200_000.0 });
        assert_valid(&Facts { rate: 198_000.0, ..open() });
    }

    #[test]
    fn what_was_due_and_never_sent_is_a_doubt_however_little() {
        assert_eq!(
            doubt(&Facts { unsent: 1, ..open() }),
            Doubt::Unsent { unsent: 1, share: 1.0 / 2_000_000.0 }
        );
        // A run that was cut off at once.
        let Some(Doubt::Unsent { share, .. }) =
            unsent(&Facts { unsent: 7, window: Duration::ZERO, ..open() })
        else {
            panic!("no doubt")
        };
        assert_eq!(share, 1.0);
    }

    #[test]
    fn a_late_client_is_doubted_where_it_shows() {
        let late = Facts { lag_p99: Some(1_000_001), lag_max: Some(2_000_000), ..open() };
        assert_eq!(doubt(&late), Doubt::Late { p99: Some(1_000_001), max: 2_000_000 });
        assert_valid(&Facts { lag_p99: Some(1_000_000), ..late.clone() });
        assert_valid(&Facts { response_p99: Some(20_000_000), ..late.clone() });
        assert_eq!(judge(&Facts { response_p99: None, ..late }).doubts.len(), 1);
        // 1 % of ten seconds.
        assert!(matches!(doubt(&Facts { lag_max: Some(100_000_001), ..open() }), Doubt::Late { .. }));
        assert_valid(&Facts { lag_max: Some(100_000_000), ..open() });
    }

    #[test]
    fn rate_and_latency_of_a_closed_loop_must_account_for_every_place() {
        assert_eq!(
            doubt(&Facts { rate: 94_000.0, ..closed() }),
            Doubt::Little { counted: 94.0, places: 100.0 }
        );
        assert_eq!(
            doubt(&Facts { rate: 106_000.0, ..closed() }),
            Doubt::Little { counted: 106.0, places: 100.0 }
        );
        assert_valid(&Facts { rate: 96_000.0, ..closed() });
        assert_valid(&Facts { rate: 94_000.0, places: None, ..closed() });
    }

    #[test]
    fn a_disturbed_machine_is_named() {
        assert_eq!(doubt(&Facts { steal: Some(0.011), ..open() }), Doubt::Steal { share: 0.011 });
        assert_eq!(doubt(&Facts { pressure: Some(0.21), ..open() }), Doubt::Pressure { share: 0.21 });
        assert_valid(&Facts { steal: Some(0.01), pressure: Some(0.2), ..open() });
        assert_valid(&Facts { steal: None, pressure: None, ..open() });
    }

    #[test]
    fn a_rate_that_changes_or_a_run_that_hardly_was_says_little() {
        assert_eq!(doubt(&Facts { halves: Some((100.0, 90.0)), ..open() }), Doubt::Drift { ratio: 0.9 });
        assert_eq!(doubt(&Facts { halves: Some((100.0, 106.0)), ..open() }), Doubt::Drift { ratio: 1.06 });
        assert_valid(&Facts { halves: Some((100.0, 96.0)), ..open() });
        assert_valid(&Facts { halves: Some((0.0, 96.0)), ..open() });
        // 500 by chance are 500 and some 22 more or fewer.
        let rare = |random| Facts {
            rate: 100.0,
            intended: Some(100.0),
            random,
            halves: Some((100.0, 93.0)),
            ..open()
        };
        let window = Duration::from_secs(10);
        assert_eq!(drift(&Facts { window, ..rare(true) }), None);
        assert_eq!(drift(&Facts { window, ..rare(false) }), Some(Doubt::Drift { ratio: 0.93 }));
        let far = Facts { window, halves: Some((100.0, 70.0)), ..rare(true) };
        assert_eq!(drift(&far), Some(Doubt::Drift { ratio: 0.7 }));
        assert!(matches!(doubt(&Facts { messages: 999, ..open() }), Doubt::Short { .. }));
        let short = Duration::from_millis(999);
        let threads = vec![Duration::from_millis(500)];
        let facts = Facts { window: short, threads, ..open() };
        assert_eq!(doubt(&facts), Doubt::Short { messages: 1_999_000, window: short });
    }

    #[test]
    fn a_run_without_a_window_is_doubted_and_not_divided_by() {
        let verdict = judge(&Facts { threads: vec![Duration::ZERO], ..Facts::default() });
        assert!(matches!(verdict.doubts[..], [Doubt::Short { messages: 0, .. }]), "{verdict:?}");
    }

    #[test]
    fn every_doubt_is_a_sentence_with_its_remedy() {
        let second = Duration::from_secs(1);
        for (doubt, cause, remedy) in [
            (Doubt::ClientBusy { busy: 0.9712 }, "97.1 % busy", "lower -R"),
            (Doubt::ClientLimit { busy: 1.0 }, "client's limit", "-t"),
            (Doubt::RateMissed { achieved: 81.0, intended: 100.0 }, "81 of 100 messages", "--find-rate"),
            (Doubt::Unsent { unsent: 42, share: 0.21 }, "42 messages, 21.0 % of the schedule", "--grace"),
            (
                Doubt::Late { p99: Some(412_000_000), max: 2_000_000_000 },
                "p99 412.0 ms, at most 2.0 s",
                "--cpus",
            ),
            (Doubt::Late { p99: None, max: 2_000_000_000 }, "sent late (at most 2.0 s) though", "--cpus"),
            (Doubt::Little { counted: 94.0, places: 100.0 }, "94.0 messages", "silent connections"),
            (Doubt::Steal { share: 0.02 }, "2.0 % of the CPU time", "repeat"),
            (Doubt::Pressure { share: 0.5 }, "50.0 % of the time", "--cpus"),
            (Doubt::Drift { ratio: 0.9 }, "-10.0 %", "-w"),
            (Doubt::Overflow { count: 7 }, "overflowed 7 times", "-t"),
            (Doubt::Stale { count: 7 }, "7 completions", "--engine"),
            (Doubt::Short { messages: 3, window: second }, "3 messages in 1.0 s", "-d"),
        ] {
            let sentence = doubt.to_string();
            assert!(sentence.contains(cause) && sentence.contains(remedy), "{sentence}");
            assert!(!sentence.contains("  "), "{sentence}");
        }
    }
}
