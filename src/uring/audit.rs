//! What the invariants of the simulation need to see of the loop, and production code does not.

use super::buffers::{Ownership, Room};
use super::connection::{Receiving, Watching};
use super::event_loop::EventLoop;
use crate::conn::ConnId;
use crate::conn::machine::Phase;
use crate::ring::{Listening, Socket};

/// One connection, as the loop believes it to be.
#[derive(Clone, Debug)]
pub struct ConnectionAudit {
    /// Its name.
    pub id: ConnId,
    /// Its socket.
    pub socket: Socket,
    /// Where it stands.
    pub phase: Phase,
    /// Bytes received and not yet sent.
    pub owed: u64,
    /// Operations not yet answered.
    pub in_flight: u8,
    /// Whether a receive is armed.
    pub receive_armed: bool,
    /// Whether the kernel counts what has arrived.
    pub counting: bool,
    /// Whether a send is in flight.
    pub sending: bool,
    /// Whether its socket is full, and the kernel watches for room.
    pub awaits_room: bool,
    /// Whether it waits for a buffer.
    pub starved: bool,
    /// Whether it waits for room in the spill area.
    pub unspilled: bool,
    /// Whether its own buffer holds what it is owed, so that it cannot receive.
    pub held: bool,
    /// How much may be asked for now.
    pub credit: u32,
}

impl<R: Listening, K: Ownership> EventLoop<'_, R, K> {
    /// Every connection in the table.
    pub fn audit(&self) -> impl Iterator<Item = ConnectionAudit> + '_ {
        (0..self.connections.high_water()).filter_map(|slot| {
            let id = self.connections.id_at(slot)?;
            let connection = self.connections.get(id)?;
            Some(ConnectionAudit {
                id,
                socket: connection.socket,
                phase: connection.machine.phase(),
                owed: connection.machine.owed(),
                in_flight: connection.in_flight,
                receive_armed: matches!(connection.receiving, Receiving::Armed | Receiving::Cancelling),
                counting: connection.receiving == Receiving::Counting,
                sending: connection.sending,
                awaits_room: connection.full && connection.room != Watching::Idle,
                starved: self.starved.contains(slot),
                unspilled: self.unspilled.contains(slot),
                held: self.buffers.room_for(slot) == Room::Held,
                credit: connection.machine.credit(&self.limits),
            })
        })
    }

    /// Operations in flight for connections, and for everything else.
    pub fn operations_in_flight(&self) -> (u64, u64) {
        (self.in_flight, self.in_flight_other)
    }

    /// Sockets that were accepted and are on their way to other workers.
    pub fn on_their_way(&self) -> u64 {
        let leaving = (0..self.leaving.high_water()).filter_map(|slot| self.leaving.id_at(slot));
        leaving.filter(|&id| self.leaving.get(id).is_some_and(|one| !one.is_stranded())).count() as u64
    }

    /// Whether accepting is paused.
    pub fn accepting_paused(&self) -> bool {
        self.entrance.accepting.is_paused()
    }

    /// The ring, to step the fake kernel behind it.
    pub fn ring_mut(&mut self) -> &mut R {
        &mut self.ring
    }
}
