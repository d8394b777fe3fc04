//! What must hold after every turn, seen from the loop and from the kernel at once.

use super::scenario::Scenario;
use crate::conn::deadlines::GRANULARITY;
use crate::conn::machine::{CloseReason, Phase, Refusal};
use crate::ring::Listening;
use crate::ring::sim::Sim;
use crate::stop;
use crate::uring::audit::ConnectionAudit;
use crate::uring::buffers::Ownership;
use crate::uring::connection::Receiving;
use crate::uring::event_loop::{EventLoop, Own};
use crate::worker::Ending;

/// Compares what was counted on both sides.
macro_rules! same {
    ($rule:literal, $what:literal, $loop_side:expr, $kernel_side:expr) => {
        let (here, there) = (u64::from($loop_side), $kernel_side as u64);
        if here != there {
            return Err(format!("{}: {}: the loop says {here}, the kernel {there}", $rule, $what));
        }
    };
}

/// What has to be remembered from turn to turn.
#[derive(Default)]
pub(super) struct Watch {
    stopped: bool,
    spoken: [u64; 3],
    /// Who was in each slot after the last turn.
    before: Vec<Before>,
}

/// What is remembered of a connection.
#[derive(Clone, Copy, Default)]
struct Before {
    generation: u32,
    /// Whether it waited for a buffer.
    waited: bool,
    /// How many receives it had asked for.
    receives: u64,
}

impl Watch {
    pub(super) fn after_turn<R: Listening, K: Ownership>(
        &mut self,
        event_loop: &EventLoop<'_, R, K>,
        sim: &Sim,
        scenario: &Scenario,
    ) -> Result<(), String> {
        let (facts, standing) = (sim.facts(), sim.standing());
        let counters = event_loop.worker.counters;
        self.stopped |= event_loop.worker.stop.phase() != stop::Phase::Running;
        let (own, other) = event_loop.operations_in_flight();
        if !scenario.owned {
            same!("I8", "buffers lent", counters.lent.get(), standing.lent);
        }
        same!("I11", "operations in flight", own + other, standing.outstanding);
        same!("I3", "bytes received", counters.bytes_received.get(), facts.received);
        same!("I3", "bytes sent", counters.bytes_sent.get(), facts.sent);
        same!("I12", "overflows", counters.own.at(Own::Overflows as usize).get(), facts.overflows);
        same!("I15", "stale completions", counters.stale_events.get(), 0);
        let here = facts.accepted - facts.handed;
        same!("I10", "sockets accepted", sockets(event_loop), here);
        if counters.open.get() > u64::from(scenario.max_connections) {
            return Err(format!("{} connections at once", counters.open.get()));
        }
        if !self.stopped && !event_loop.accepting_paused() && !standing.accepting {
            return Err("I13: no accept is armed, though there is room".into());
        }
        let accepts = scenario.arrives.is_none();
        let full = accepts && !scenario.rival && event_loop.worker.admission.is_full();
        if !self.stopped && full && !event_loop.accepting_paused() {
            return Err("I13: it accepts beyond the limit".into());
        }
        // An enter that was cut short says nothing about silence.
        let spoken = [Own::Completions, Own::EntersInterrupted, Own::EntersBusy];
        let spoken = spoken.map(|own| counters.own.at(own as usize).get());
        let quiet = std::mem::replace(&mut self.spoken, spoken) == spoken;
        self.first_come_first_served(event_loop, sim)?;
        event_loop.audit().try_for_each(|one| {
            look_at(&one, sim, scenario, event_loop.ring.obeys_limit())
                .and_then(|()| look_inside(&one, event_loop, quiet))
                .map_err(|what| format!("{what}: {one:?}"))
        })
    }
}

impl Watch {
    /// I14: who asked for a receive in this turn without having waited came before nobody who waited
    /// all along.
    fn first_come_first_served<R: Listening, K: Ownership>(
        &mut self,
        event_loop: &EventLoop<'_, R, K>,
        sim: &Sim,
    ) -> Result<(), String> {
        let (mut pushed_in, mut waited_on, mut waits) = (None, None, false);
        for one in event_loop.audit() {
            let slot = one.id.slot as usize;
            self.before.resize(self.before.len().max(slot + 1), Before::default());
            let receives = sim.view(one.socket).map_or(0, |view| view.receives);
            let now = Before { generation: one.id.generation, waited: one.starved, receives };
            let before = std::mem::replace(&mut self.before[slot], now);
            let before = if before.generation == now.generation { before } else { Before::default() };
            if before.waited && one.phase == Phase::Closing(CloseReason::IdleTimeout) {
                return Err(format!("I14: it waited for a buffer, and was idled out: {one:?}"));
            }
            if !before.waited && receives > before.receives {
                pushed_in = Some(one.id);
            }
            if before.waited && one.starved && receives == before.receives {
                waited_on = Some(one.id);
            }
            waits |= one.starved;
        }
        sim.somebody_waits(waits);
        match (pushed_in, waited_on) {
            // The stop looks at everybody once, in the order of the table, and lets them queue anew.
            (Some(first), Some(other)) if !self.stopped => {
                Err(format!("I14: {first:?} came before {other:?}, who waited"))
            }
            _ => Ok(()),
        }
    }
}

/// Sockets the loop has taken from the kernel: to serve them, to refuse them, to send them on. An accept
/// that failed is counted as a refusal too, without a socket.
fn sockets<R: Listening, K: Ownership>(event_loop: &EventLoop<'_, R, K>) -> u64 {
    let counters = event_loop.worker.counters;
    let refused: u64 = (0..Refusal::NAMES.len()).map(|cause| counters.refused.at(cause).get()).sum();
    let refused = refused - counters.accept_errors.get();
    counters.accepted.get() + refused + event_loop.on_their_way()
}

/// One connection.
fn look_at(one: &ConnectionAudit, sim: &Sim, scenario: &Scenario, obeys_limit: bool) -> Result<(), String> {
    let closing = matches!(one.phase, Phase::Closing(_));
    if closing && one.in_flight == 0 {
        return Err("I16: it is closing and awaits nothing".into());
    }
    if closing && !one.receive_armed && !one.sending && !one.counting {
        return Ok(()); // Its close may be done, and its number somebody else's.
    }
    let Some(view) = sim.view(one.socket) else { return Err("I10: its socket is gone".into()) };
    if one.receive_armed != view.receiving || one.sending != view.sending {
        return Err(format!("I7: the kernel sees {view:?}"));
    }
    if closing {
        return Ok(());
    }
    if one.phase != Phase::Lingering && one.owed != view.received - view.sent {
        return Err(format!("I3: the kernel sees {view:?}"));
    }
    // Beyond the window: what a receive may bring after its limit.
    let several = if scenario.bundle { scenario.limits.window } else { 0 };
    let once = scenario.buffer_size.max(several);
    let most = u64::from(scenario.limits.window) + u64::from(once);
    if obeys_limit && one.owed > most {
        return Err(format!("I5: more than {most} bytes are owed"));
    }
    if one.owed > 0 && !one.sending && !one.unspilled && !one.awaits_room {
        return Err("I16: it is owed bytes, and nothing is being sent".into());
    }
    if one.credit > 0 && !one.receive_armed && !one.starved && !one.counting && !one.held {
        return Err("I14: it may receive, and neither does nor waits for a buffer".into());
    }
    let known = [one.receive_armed, one.sending, one.counting];
    if one.in_flight < known.into_iter().map(u8::from).sum() {
        return Err("I11: it has more in flight than it knows".into());
    }
    Ok(())
}

/// What only the loop knows of a connection: that it is told to stop receiving, and its time.
fn look_inside<R: Listening, K: Ownership>(
    one: &ConnectionAudit,
    event_loop: &EventLoop<'_, R, K>,
    quiet: bool,
) -> Result<(), String> {
    let connection = event_loop.connections.get(one.id).expect("it was just seen");
    let armed = connection.receiving == Receiving::Armed;
    if armed && one.credit == 0 && !event_loop.ring.obeys_limit() {
        return Err("I5: it may receive no more, and the kernel was not told".into());
    }
    // Looked at a bucket late, and only in a turn in which the kernel had nothing to say.
    let due = connection.machine.deadline(&event_loop.limits).map(|at| at + GRANULARITY);
    if quiet && due.is_some_and(|due| due < event_loop.now) {
        return Err("I16: its time has come, and it was not looked at".into());
    }
    Ok(())
}

/// What must hold when the loop has ended.
pub(super) fn at_the_end<R: Listening, K: Ownership>(
    event_loop: &EventLoop<'_, R, K>,
    sim: &Sim,
    scenario: &Scenario,
    ending: Ending,
) -> Result<(), String> {
    let (facts, standing) = (sim.facts(), sim.standing());
    let counters = event_loop.worker.counters;
    let closed = |reason: CloseReason| counters.closed.at(reason as usize).get();
    if ending == Ending::Drained {
        same!("I8", "buffers lent", counters.lent.get(), 0);
        same!("I8", "buffers", standing.free as u64, if scenario.owned { 0 } else { scenario.buffers });
        same!("I10", "sockets open", counters.open.get(), standing.open);
        same!("I10", "sockets", facts.accepted - facts.handed, facts.closed);
        same!("I10", "sockets handed on", counters.own.at(Own::HandedOn as usize).get(), facts.handed);
        same!("I11", "operations in flight", 0u64, standing.outstanding);
        same!("I3", "bytes spilled", counters.spilled.get(), 0);
        same!(
            "I10",
            "permits",
            event_loop.worker.admission.open(),
            rivals(scenario, event_loop, facts.elsewhere)
        );
    } else if scenario.cut_at.is_none() && scenario.stop_at.is_none() {
        return Err("it was cut, though nobody had anything left".into());
    }
    if let Some(rest) = facts.settled {
        // A buffer of a connection's own is the caller's whenever nothing is received into it.
        let (lent, free) = if scenario.owned { (scenario.buffers, 0) } else { (0, scenario.buffers) };
        same!("I8", "buffers at rest", lent, rest.lent);
        same!("I8", "buffers at rest", free, rest.free);
        same!("I10", "sockets at rest", 0u64, rest.open);
        if !rest.accepting {
            return Err("I13: at rest no accept is armed".into());
        }
    }
    if closed(CloseReason::PeerFinished) > facts.complete {
        return Err("I2: a peer that had finished was not paid in full".into());
    }
    if closed(CloseReason::SpillFull) < facts.excused_by_spill {
        return Err("a connection that could not be spilled was closed for another reason".into());
    }
    let never = [
        (CloseReason::Failed, true),
        (CloseReason::IdleTimeout, scenario.limits.idle_timeout == 0),
        (CloseReason::WriteTimeout, scenario.limits.write_timeout == 0),
        (CloseReason::SpillFull, scenario.spill_limit >= 64 * 16 * 1024),
        (CloseReason::Cut, ending == Ending::Drained),
    ];
    match never.iter().find(|(reason, barred)| *barred && closed(*reason) > 0) {
        Some((reason, _)) => Err(format!("{} were closed as {reason:?}", closed(*reason))),
        None => Ok(()),
    }
}

/// Permits another worker still holds.
fn rivals<R: Listening, K: Ownership>(
    scenario: &Scenario,
    event_loop: &EventLoop<'_, R, K>,
    elsewhere: u64,
) -> u64 {
    if scenario.rival { u64::from(event_loop.worker.admission.open()) } else { elsewhere }
}
