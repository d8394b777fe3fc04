//! What an enter that waits does: time passes, others act, until there is something to hear of. Whoever
//! would wait for ever has left somebody behind.

use super::super::Entered;
use super::kernel::{Kernel, STEPS_EACH};
use super::network::Connection;
use super::outcome::Outcome;
use nix::errno::Errno;

impl Kernel {
    /// Waits for completions, first for many where that was set up.
    pub(super) fn wait(&mut self, wait_for: usize, until: Option<u64>) -> Entered {
        if let Some((count, time)) = self.setup.minimum_wait.filter(|_| wait_for > 0) {
            let soon = self.now + time;
            let first = until.map_or(soon, |until| until.min(soon));
            let entered = self.wait_for(count.clamp(wait_for, self.setup.cq.max(wait_for)), Some(first));
            self.coverage.note(match self.completions.len() {
                0 => Outcome::EnterMinimumNone,
                some if some < count => Outcome::EnterMinimumFew,
                _ => Outcome::EnterMinimumMet,
            });
            if entered != Entered::Done || until.is_some_and(|until| until <= self.now) {
                return entered;
            }
        }
        self.wait_for(wait_for, until)
    }

    fn wait_for(&mut self, wait_for: usize, until: Option<u64>) -> Entered {
        while self.completions.len() < wait_for && self.facts.violations.is_empty() {
            if !self.submission.is_empty() && self.setup.thread_submits {
                self.coverage.note(Outcome::ThreadLate);
                let some = self.random.usize(1..=self.submission.len());
                self.submit(some);
                self.work(0);
                continue;
            }
            if self.run_somebody() || self.neighbour_accepts(1000) {
                continue;
            }
            if self.somebody_waits && (self.buffers.free() > 0 || !self.skipped.is_empty()) {
                self.violation("I14: it sleeps while somebody waits for a buffer and one is to be had");
                break;
            }
            let planned = self.planned.iter().filter_map(|one| one.at).min();
            let next = self.peers.next_at().into_iter().chain(planned).min();
            match (next, until) {
                (Some(next), until) if until.is_none_or(|until| next <= until) => {
                    self.now = self.now.max(next);
                    self.happen();
                }
                (_, Some(until)) => {
                    self.coverage.note(Outcome::EnterTimedOut);
                    self.accepts_in_vain = 0;
                    self.now = self.now.max(until);
                    self.happen();
                    break;
                }
                (_, None) => self.settle(),
            }
        }
        if self.facts.violations.is_empty() { Entered::Done } else { Entered::Failed(Errno::EIO) }
    }

    /// Nothing is scheduled any more and the caller would wait for ever: the next of what was planned
    /// for that moment happens, provided that nobody is left behind.
    fn settle(&mut self) {
        // A client holds its connections for as long as it is told to.
        let held = |one: &&Connection| !one.is_closed() && self.peers.servers.is_none();
        let left = self.network.connections.iter().filter(held).count();
        let planned = self.planned.iter().position(|one| one.at.is_none());
        match planned {
            Some(index) if left == 0 && self.peers.all_done() => {
                self.facts.settled = Some(self.standing());
                if let Some(most) = self.enters_max.take() {
                    self.facts.recovery = self.enters - (most - STEPS_EACH * self.facts.outstanding);
                }
                let planned = self.planned.remove(index);
                self.obey(planned);
            }
            _ => {
                let operations = self.flying.iter().map(|op| op.operation).collect::<Vec<_>>();
                self.violation(format!(
                    "I16: it waits for what nobody will post; {left} connections are open; armed: {operations:?}"
                ));
            }
        }
    }
}
