//! A load from its first connection to its last word: the threads, the phases, the window, the signals.
//! The main thread conducts; the load threads are told by [`Control`] and woken, and tell by reports.
//!
//! It needs the plan and nothing that was typed. It leaves out what the numbers mean (`judge`) and how
//! they are shown: an [`Observer`] is told while it runs, and the caller gets the [`Outcome`].

mod conductor;
mod thread;

use super::control::Control;
use super::outcome::{Observer, Outcome};
use super::plan::{End, Plan};
use super::server_stats::Lookout;
use crate::stop::{self, Stop};
use conductor::Conductor;
use std::sync::mpsc;
use std::time::Instant;

/// Runs the load to its end: by its window, by a failure, or by a signal. Blocks the signals of
/// [`stop::signals`] in the calling thread: call it before any other thread starts.
#[must_use]
pub fn run(plan: &Plan, observer: &mut dyn Observer) -> Outcome {
    let messages = match plan.end {
        End::Messages(messages) => messages,
        End::After(_) => 0,
    };
    let control = Control::new(Instant::now(), messages);
    let mut conductor = Conductor::new(plan, &control, observer);
    let prepared = (|| {
        let signals = stop::signals().map_err(|error| format!("the signals cannot be taken: {error}"))?;
        let stop = Stop::new(plan.threads)
            .map_err(|error| format!("no descriptor for a thread's wake-ups: {error}; raise `ulimit -n`"))?;
        let lookout = Lookout::attach(plan.server_stats, plan.target)
            .map_err(|sentence| format!("--server-stats: {sentence}"))?;
        Ok::<_, String>((signals, stop, thread::Kernel::of(plan)?, lookout))
    })();
    let (signals, stop, kernel) = match prepared {
        Ok((signals, stop, kernel, lookout)) => {
            conductor.lookout = lookout;
            (signals, stop, kernel)
        }
        Err(sentence) => return conductor.give_up(sentence),
    };
    std::thread::scope(|scope| {
        let (sender, reports) = mpsc::channel();
        for number in 0..plan.threads {
            let (sender, control, stop, kernel) = (sender.clone(), &control, &stop, &kernel);
            let spares = conductor.next_spares();
            let begun =
                std::thread::Builder::new().name(format!("load-{number}")).spawn_scoped(scope, move || {
                    thread::run(number, plan, control, stop, kernel, sender, spares)
                });
            if let Err(error) = begun {
                conductor.thread_missing(format!("a thread could not be started: {error}; use fewer (-t)"));
            }
        }
        drop(sender);
        conductor.conduct(&reports, &signals, &stop);
    });
    conductor.outcome()
}
