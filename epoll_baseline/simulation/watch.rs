//! What must hold after every step, seen from the loops and from the kernel at once.

use super::super::sim::Closed;
use super::Run;
use crate::conn::CloseReason;
use crate::conn::deadlines::GRANULARITY;
use crate::conn::machine::Refusal;
use crate::counters::{Counter, Counters};
use crate::stop::Phase;
use crate::worker::Ending;

const REASONS: [CloseReason; 9] = [
    CloseReason::PeerFinished,
    CloseReason::PeerReset,
    CloseReason::IdleTimeout,
    CloseReason::WriteTimeout,
    CloseReason::SpillFull,
    CloseReason::Stopped,
    CloseReason::LingerTimeout,
    CloseReason::Cut,
    CloseReason::Failed,
];

/// What has to be remembered from step to step.
pub(super) struct Watch<'a> {
    run: &'a Run<'a>,
    closed: [u64; REASONS.len()],
    /// Permits that another worker holds.
    rivals: u32,
    /// Steps of loops since anything was achieved, and what had been achieved by then.
    vain: u32,
    progress: u64,
    /// When it was first seen that the server was told to stop, microseconds.
    stopped_at: Option<u64>,
}

/// Steps of loops without any effect that are still no spinning: turns that find nothing, in every
/// thread, with interruptions and events that mean nothing.
const VAIN_MAX: u32 = 400;

/// With this for what may be queued, nobody is left because so many were taken.
const QUEUED_AT_MOST: u32 = 100;

/// Compares what was counted on both sides.
fn same(rule: &str, what: &str, here: u64, there: u64) -> Result<(), String> {
    if here == there {
        return Ok(());
    }
    Err(format!("{rule}: {what}: the loops say {}, the kernel {there}", here as i64))
}

impl<'a> Watch<'a> {
    pub(super) fn new(run: &'a Run<'a>) -> Self {
        Self { run, closed: [0; REASONS.len()], rivals: 0, vain: 0, progress: 0, stopped_at: None }
    }

    fn sum(&self, counter: impl Fn(&Counters) -> &Counter) -> u64 {
        self.run.counters.iter().fold(0, |sum, one| sum.wrapping_add(counter(one).get()))
    }

    /// Another worker's connection comes, if there is a permit, or goes.
    pub(super) fn rival(&mut self, comes: bool) {
        if comes {
            self.rivals += u32::from(self.run.admission.try_enter());
        } else if self.rivals > 0 {
            self.rivals -= 1;
            if self.run.admission.leave() {
                self.run.sim.wake();
            }
        }
    }

    /// The faults are over: nobody else holds permits any more.
    pub(super) fn healed(&mut self) {
        while self.rivals > 0 {
            self.rival(false);
        }
    }

    /// A loop was awake.
    pub(super) fn for_nothing(&mut self) -> Result<(), String> {
        let progress = self.run.sim.world().progress();
        self.vain = if progress == self.progress { self.vain + 1 } else { 0 };
        self.progress = progress;
        if self.vain > VAIN_MAX { Err("I16: they spin".into()) } else { Ok(()) }
    }

    /// Nobody is awake, and time will pass.
    pub(super) fn asleep(&mut self) -> Result<(), String> {
        self.vain = 0;
        let setting = &self.run.scenario.setting;
        let now = self.run.sim.world().now();
        if self.run.stop.phase() != Phase::Running {
            let since = *self.stopped_at.get_or_insert(now);
            let limit = setting.drain_timeout.as_micros() as u64 + self.lateness();
            if now > since + limit {
                return Err(format!("the stop began {} us ago", now - since));
            }
        }
        let behind = self.run.sim.world().left_behind(&setting.limits, self.lateness());
        behind.map_or(Ok(()), Err)
    }

    /// Microseconds by which a deadline may be met late: a bucket of the wheel, and a batch.
    fn lateness(&self) -> u64 {
        (GRANULARITY + 2) * 1000 + self.slack()
    }

    /// Whether some loop `ends` decides what may be left.
    pub(super) fn after_step(&mut self, ends: bool) -> Result<(), String> {
        if let Some(violation) = self.run.sim.world().violation() {
            return Err(violation.clone());
        }
        let facts = self.run.sim.world().facts();
        let (open, owed, most) = self.run.sim.world().standing();
        let setting = &self.run.scenario.setting;
        same("I3", "bytes received", self.sum(|one| &one.bytes_received), facts.received)?;
        same("I3", "bytes sent", self.sum(|one| &one.bytes_sent), facts.taken)?;
        same("I3", "bytes discarded", self.sum(|one| &one.bytes_discarded), facts.discarded)?;
        same("I3", "bytes unsent", self.sum(|one| &one.spilled), owed)?;
        same("I10", "connections open", self.sum(|one| &one.open), open)?;
        if owed > setting.spill_limit {
            return Err(format!("I5: {owed} bytes are unsent, and the limit is {}", setting.spill_limit));
        }
        if most > u64::from(setting.limits.window) {
            return Err(format!("I5: {most} bytes are owed to one"));
        }
        if open + u64::from(self.rivals) > u64::from(setting.max_connections) {
            return Err(format!("{open} connections are open"));
        }
        self.look_at_queues(ends)?;
        self.look_at_closed()
    }

    /// Who is queued at the stop is served, as long as somebody may leave: unless everything is cut, or as many
    /// as could have been queued were taken.
    fn look_at_queues(&self, ends: bool) -> Result<(), String> {
        let left = self.run.sim.world_mut().take_left_queued();
        if ends {
            return Ok(());
        }
        let refused = self.sum(|one| one.refused.at(Refusal::Stopping as usize));
        if refused > 0 {
            return Err(format!("I16: {refused} who were queued are refused, and nothing is cut"));
        }
        let may_leave = left.map_or(0, |open| open + self.rivals as usize);
        if may_leave > 0 && self.run.scenario.setting.queued_max >= QUEUED_AT_MOST {
            return Err(format!("I16: somebody queued is left, and {may_leave} may still leave"));
        }
        Ok(())
    }

    /// Every close needs its reason, and the reason has to be true.
    fn look_at_closed(&mut self) -> Result<(), String> {
        let closed: Vec<Closed> = self.run.sim.world_mut().take_closed();
        let served: Vec<&Closed> = closed.iter().filter(|one| one.served).collect();
        let mut reasons = Vec::new();
        for (index, &reason) in REASONS.iter().enumerate() {
            let count = self.sum(|one| one.closed.at(reason as usize));
            reasons.extend((self.closed[index]..count).map(|_| reason));
            self.closed[index] = count;
        }
        same("I10", "connections closed", reasons.len() as u64, served.len() as u64)?;
        // Of several closed in one step it is not known which had which reason, unless it was the same.
        let Some(&reason) = reasons.first() else { return Ok(()) };
        if reasons.iter().any(|&other| other != reason) {
            return Ok(());
        }
        match served.iter().find(|one| !self.is_true(reason, one)) {
            Some(one) => Err(format!("closed as {reason:?}: {one:?}")),
            None => Ok(()),
        }
    }

    fn is_true(&self, reason: CloseReason, one: &Closed) -> bool {
        let limits = &self.run.scenario.setting.limits;
        let phase = self.run.stop.phase();
        let after = |timeout: u64, passed: u64| timeout > 0 && passed + self.slack() >= timeout * 1000;
        match reason {
            CloseReason::PeerFinished => one.complete, // I2
            CloseReason::PeerReset => one.error_seen,
            CloseReason::IdleTimeout => {
                after(limits.idle_timeout, one.silent) && one.owed == 0 && one.unread == 0
            }
            CloseReason::WriteTimeout => after(limits.write_timeout, one.stuck) && one.owed > 0,
            CloseReason::SpillFull => one.owed > 0,
            CloseReason::Stopped => phase != Phase::Running && one.owed == 0 && one.promise_kept,
            CloseReason::LingerTimeout => {
                one.our_fin && after(limits.linger, one.lingering) && one.promise_kept
            }
            // When the time to drain ran out, whoever is cut was told to end, and could not.
            CloseReason::Cut => {
                phase == Phase::Cut || (phase == Phase::Draining && (one.told || one.owed > 0))
            }
            CloseReason::Failed => false,
        }
    }

    /// Microseconds by which a loop's time may be behind: a batch happens when it arrived, and while
    /// one thread works through its batch the others may have as many steps.
    pub(super) fn slack(&self) -> u64 {
        let scenario = self.run.scenario;
        let steps = scenario.threads.map_or(1, |threads| 20 * threads as u64);
        2_000 + scenario.pace * steps
    }

    /// When all loops have ended.
    pub(super) fn at_the_end(&self, endings: impl Iterator<Item = Ending>) -> Result<(), String> {
        let world = self.run.sim.world();
        let endings: Vec<Ending> = endings.collect();
        if endings.iter().any(|&ending| ending != endings[0]) {
            return Err(format!("they ended in different ways: {endings:?}"));
        }
        same("I10", "descriptors open", 0, world.descriptors_open() as u64)?;
        same("I10", "sockets", world.facts().accepted, world.facts().closed)?;
        same("I10", "permits", u64::from(self.run.admission.open()), u64::from(self.rivals))?;
        if self.sum(|one| &one.stale_events) < world.facts().stale {
            return Err("I15: an event of one that is gone was taken for its successor's".into());
        }
        let cut = self.sum(|one| one.closed.at(CloseReason::Cut as usize));
        match endings[0] {
            Ending::Drained if cut > 0 => Err(format!("drained, but {cut} were cut")),
            _ if self.run.stop.phase() == Phase::Running => Err("it ended by itself".into()),
            _ => Ok(()),
        }
    }
}
