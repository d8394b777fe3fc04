//! What a connection does next: how much may be received, when it is stuck, when it ends and why.
//! It counts bytes and decides; it owns no buffer and no socket.
//!
//! One life: `Open` until the peer finishes (`PeerFinished`), the server stops (`Draining`, then
//! `Finishing`, then `Lingering`) or something goes wrong; at last `Closing`.

use super::Tick;
use nix::errno::Errno;

/// The numbers of the policy, the same for every connection of a worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes that may be owed to a peer before it is read no further.
    pub window: u32,
    /// The same for a peer that has not yet taken [`trust_after`](Self::trust_after) bytes. What a
    /// peer that never reads holds of ours is bounded by this: the kernel takes the rest.
    pub window_at_first: u32,
    /// Bytes a peer must have been sent before it gets the full window: more than the kernel takes
    /// for a peer that never reads (its send buffer below the unsent limit, and the peer's receive
    /// buffer; measured: 70 to 160 KB with an unsent limit of 64 KiB).
    pub trust_after: u64,
    /// A connection on which nothing moved for this long is closed, milliseconds; 0 is never.
    pub idle_timeout: Tick,
    /// A peer that took nothing of what it is owed for this long is closed, milliseconds; 0 is never.
    pub write_timeout: Tick,
    /// How long a peer is read and discarded after our FIN, milliseconds.
    pub linger: Tick,
}

/// After this long without a byte, what the kernel took from us is with the peer, milliseconds: five
/// times a delayed acknowledgement, and the shortest retransmission.
const DELIVERED_AFTER: Tick = 200;

/// Why a connection was closed. The order is that of [`CloseReason::NAMES`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CloseReason {
    /// The peer finished and got everything it was owed.
    PeerFinished,
    /// The peer reset the connection, or is gone.
    PeerReset,
    /// Nothing moved for the idle timeout.
    IdleTimeout,
    /// The peer took nothing of what it is owed for the write timeout.
    WriteTimeout,
    /// The spill area was full and nobody had been stuck longer.
    SpillFull,
    /// The server stopped, and everything that had arrived was echoed.
    Stopped,
    /// The server stopped, and the peer went on sending until the linger limit.
    LingerTimeout,
    /// The server was told to stop at once, or its drain time ran out.
    Cut,
    /// An error the server does not know.
    Failed,
}

impl CloseReason {
    /// What an error of a receive or a send means: the peer's end, or the network's, unless it is one
    /// that nobody foresaw.
    #[must_use]
    pub const fn of(error: Errno) -> Self {
        match error {
            Errno::ECONNRESET
            | Errno::EPIPE
            | Errno::ENOTCONN
            | Errno::ECONNABORTED
            | Errno::ECONNREFUSED
            | Errno::ETIMEDOUT
            | Errno::EHOSTUNREACH
            | Errno::EHOSTDOWN
            | Errno::ENETUNREACH
            | Errno::ENETDOWN
            | Errno::ENETRESET => Self::PeerReset,
            _ => Self::Failed,
        }
    }

    /// The names in the account, by discriminant.
    pub const NAMES: &'static [&'static str] = &[
        "peer_finished",
        "peer_reset",
        "idle_timeout",
        "write_timeout",
        "spill_full",
        "stopped",
        "linger_timeout",
        "cut",
        "failed",
    ];
}

/// Why a connection was refused. The order is that of [`Refusal::NAMES`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// All of `--max-connections` were taken.
    Full,
    /// No descriptor was left; with direct descriptors the kernel dropped the peer.
    Descriptors,
    /// No memory was left.
    Memory,
    /// The connection ended before it was accepted, or the network failed it.
    Aborted,
    /// The server was stopping.
    Stopping,
}

impl Refusal {
    /// The names in the account, by discriminant.
    pub const NAMES: &'static [&'static str] =
        &["refused_full", "refused_descriptors", "refused_memory", "refused_aborted", "refused_stopping"];
}

/// Where a connection stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Both sides talk.
    Open,
    /// The peer has sent its FIN; what it is owed is still going out.
    PeerFinished,
    /// The server stops: this many bytes that had arrived by then are still to be read.
    Draining {
        /// Bytes still to be read.
        allowance: u32,
        /// Whether nothing has come and nothing was owed since the stop began.
        quiet: bool,
    },
    /// The server stops and has read what had arrived; what is owed is still going out.
    Finishing,
    /// Our FIN is out; what the peer goes on sending is discarded.
    Lingering,
    /// No more is asked of the socket; operations in flight are awaited.
    Closing(CloseReason),
}

/// What is to be done now, beside sending what is owed and receiving up to the credit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Step {
    /// Nothing.
    Continue,
    /// Shut down our writing side, then say [`Machine::finished_writing`].
    FinishWriting,
    /// Close, for this reason.
    Close(CloseReason),
}

/// The state of one connection: five numbers and a phase.
#[derive(Clone, Copy, Debug)]
pub struct Machine {
    received: u64,
    sent: u64,
    discarded: u64,
    active: Tick,
    /// When it became stuck or last made progress while stuck, or began to linger.
    since: Tick,
    phase: Phase,
    /// True from the moment the kernel took less than it was offered until nothing is owed.
    stuck: bool,
    /// True from the moment the window was full until half of it is free again.
    paused: bool,
}

impl Machine {
    /// A connection accepted at `now`.
    #[must_use]
    pub const fn new(now: Tick) -> Self {
        Self {
            received: 0,
            sent: 0,
            discarded: 0,
            active: now,
            since: now,
            phase: Phase::Open,
            stuck: false,
            paused: false,
        }
    }

    /// Bytes received and not yet sent.
    #[must_use]
    pub const fn owed(&self) -> u64 {
        self.received - self.sent - self.discarded
    }

    /// Where it stands.
    #[must_use]
    pub const fn phase(&self) -> Phase {
        self.phase
    }

    /// Whether the kernel took less than it was offered and something is still owed.
    #[must_use]
    pub const fn is_stuck(&self) -> bool {
        self.stuck
    }

    /// Whether bytes that arrive now are to be thrown away: our FIN is out, or it is closing.
    #[must_use]
    pub const fn discards(&self) -> bool {
        matches!(self.phase, Phase::Lingering | Phase::Closing(_))
    }

    /// Whether only what had arrived is to be read, without waiting for more.
    #[must_use]
    pub const fn reads_only_what_arrived(&self) -> bool {
        matches!(self.phase, Phase::Draining { .. })
    }

    /// How many bytes may be asked for now; 0 means that reading has stopped.
    #[must_use]
    pub fn credit(&self, limits: &Limits) -> u32 {
        let room = if self.paused { 0 } else { u64::from(self.window(limits)).saturating_sub(self.owed()) };
        match self.phase {
            Phase::Open => room as u32,
            Phase::Draining { allowance, .. } => allowance.min(room as u32),
            Phase::Lingering => limits.window,
            Phase::PeerFinished | Phase::Finishing | Phase::Closing(_) => 0,
        }
    }

    fn window(&self, limits: &Limits) -> u32 {
        if self.sent < limits.trust_after { limits.window_at_first } else { limits.window }
    }

    /// `bytes` arrived and are to be echoed. One store of the time: nothing else is touched for it.
    pub fn received(&mut self, bytes: u32, now: Tick, limits: &Limits) {
        assert!(!self.discards(), "bytes to echo after our FIN");
        self.received += u64::from(bytes);
        self.active = now;
        if self.owed() >= u64::from(self.window(limits)) {
            self.paused = true;
        }
        if let Phase::Draining { allowance, quiet } = &mut self.phase {
            *quiet = false;
            *allowance = allowance.saturating_sub(bytes);
            if *allowance == 0 {
                self.phase = Phase::Finishing;
            }
        }
    }

    /// `bytes` arrived and were thrown away.
    pub fn discarded(&mut self, bytes: u32) {
        assert!(self.discards(), "bytes thrown away while they are owed");
        self.received += u64::from(bytes);
        self.discarded += u64::from(bytes);
    }

    /// The kernel took `bytes` of what is owed.
    pub fn sent(&mut self, bytes: u32, now: Tick, limits: &Limits) {
        assert!(u64::from(bytes) <= self.owed(), "more was sent than was owed");
        self.sent += u64::from(bytes);
        if self.stuck {
            self.since = now;
            self.active = now;
            self.stuck = self.owed() > 0;
        }
        if self.paused && self.owed() <= u64::from(self.window(limits) / 2) {
            self.paused = false;
        }
    }

    /// The kernel took less than it was offered. True when that is new.
    pub fn blocked(&mut self, now: Tick) -> bool {
        assert!(self.owed() > 0, "blocked with nothing to send");
        if self.stuck {
            return false;
        }
        self.stuck = true;
        self.since = now;
        true
    }

    /// Until `now` it had to wait for something of ours: it is silent only from here on.
    pub fn kept_waiting(&mut self, now: Tick) {
        self.active = now;
    }

    /// The peer sent its FIN.
    pub fn peer_finished(&mut self) {
        self.phase = match self.phase {
            Phase::Open | Phase::Draining { .. } | Phase::Finishing => Phase::PeerFinished,
            Phase::Lingering => Phase::Closing(CloseReason::Stopped),
            phase @ (Phase::PeerFinished | Phase::Closing(_)) => phase,
        };
    }

    /// The server stops; up to `arrived` bytes are in the socket, unread.
    ///
    /// Nothing owed is not yet everything delivered: a close that meets bytes of the peer is a reset,
    /// and destroys what is still on its way. Who was active a moment ago gets our FIN first.
    pub fn stop(&mut self, arrived: u32, now: Tick) {
        if self.phase != Phase::Open {
            return;
        }
        let delivered = self.sent == 0 || now.saturating_sub(self.active) >= DELIVERED_AFTER;
        let quiet = self.owed() == 0 && delivered;
        self.phase = match arrived {
            0 if quiet => Phase::Closing(CloseReason::Stopped),
            0 => Phase::Finishing,
            allowance => Phase::Draining { allowance, quiet },
        };
    }

    /// There is nothing more to read at this moment.
    pub fn would_block(&mut self) {
        if let Phase::Draining { quiet, .. } = self.phase {
            self.phase = if quiet { Phase::Closing(CloseReason::Stopped) } else { Phase::Finishing };
        }
    }

    /// Our FIN is out.
    pub fn finished_writing(&mut self, now: Tick) {
        if self.phase == Phase::Finishing {
            self.phase = Phase::Lingering;
            self.since = now;
        }
    }

    /// Ends it for `reason`, unless it is ending already.
    pub fn close(&mut self, reason: CloseReason) {
        if !matches!(self.phase, Phase::Closing(_)) {
            self.phase = Phase::Closing(reason);
        }
    }

    /// What is to be done now.
    pub fn step(&self) -> Step {
        match self.phase {
            Phase::PeerFinished if self.owed() == 0 => Step::Close(CloseReason::PeerFinished),
            Phase::Finishing if self.owed() == 0 => Step::FinishWriting,
            Phase::Closing(reason) => Step::Close(reason),
            _ => Step::Continue,
        }
    }

    /// When [`expired`](Self::expired) may next have something to say, if ever. It may move later
    /// unnoticed; it moves earlier only when the connection becomes stuck or ceases to be, or begins
    /// to linger.
    #[must_use]
    pub fn deadline(&self, limits: &Limits) -> Option<Tick> {
        let (start, timeout) = match self.phase {
            Phase::Closing(_) => return None,
            Phase::Lingering => (self.since, limits.linger),
            _ if self.stuck => (self.since, limits.write_timeout),
            _ => (self.active, limits.idle_timeout),
        };
        (timeout > 0).then(|| start + timeout)
    }

    /// Why it is to be closed at `now`, if it is.
    #[must_use]
    pub fn expired(&self, now: Tick, limits: &Limits) -> Option<CloseReason> {
        if self.deadline(limits).is_none_or(|deadline| now < deadline) {
            return None;
        }
        Some(match self.phase {
            Phase::Lingering => CloseReason::LingerTimeout,
            _ if self.stuck => CloseReason::WriteTimeout,
            _ => CloseReason::IdleTimeout,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits {
        window: 1000,
        window_at_first: 100,
        trust_after: 500,
        idle_timeout: 50,
        write_timeout: 20,
        linger: 10,
    };

    #[test]
    fn a_full_window_stops_reading_until_half_of_it_is_free() {
        let mut conn = Machine::new(0);
        conn.received(100, 1, &LIMITS);
        assert_eq!(conn.credit(&LIMITS), 0);
        conn.sent(49, 1, &LIMITS);
        assert_eq!(conn.credit(&LIMITS), 0);
        conn.sent(1, 1, &LIMITS);
        assert_eq!(conn.credit(&LIMITS), 50);
    }

    #[test]
    fn who_has_taken_enough_gets_the_full_window() {
        let mut conn = Machine::new(0);
        for _ in 0..5 {
            assert_eq!(conn.credit(&LIMITS), 100);
            conn.received(100, 1, &LIMITS);
            conn.sent(100, 1, &LIMITS);
        }
        assert_eq!(conn.credit(&LIMITS), 1000);
    }

    #[test]
    fn a_half_closed_peer_still_gets_its_bytes() {
        let mut conn = Machine::new(0);
        conn.received(80, 1, &LIMITS);
        conn.peer_finished();
        assert_eq!((conn.step(), conn.credit(&LIMITS)), (Step::Continue, 0));
        conn.sent(80, 2, &LIMITS);
        assert_eq!(conn.step(), Step::Close(CloseReason::PeerFinished));
    }

    #[test]
    fn a_stop_closes_idle_peers_at_once_and_drains_the_others() {
        let mut idle = Machine::new(0);
        idle.stop(0, 1000);
        assert_eq!(idle.step(), Step::Close(CloseReason::Stopped));

        for (silence, step) in [(199, Step::FinishWriting), (200, Step::Close(CloseReason::Stopped))] {
            let mut recent = Machine::new(0);
            recent.received(10, 500, &LIMITS);
            recent.sent(10, 500, &LIMITS);
            recent.stop(0, 500 + silence);
            assert_eq!(recent.step(), step);
        }

        let mut busy = Machine::new(0);
        busy.stop(70, 1000);
        assert_eq!(busy.credit(&LIMITS), 70);
        busy.received(70, 1, &LIMITS);
        assert_eq!((busy.credit(&LIMITS), busy.step()), (0, Step::Continue));
        busy.sent(70, 1, &LIMITS);
        assert_eq!(busy.step(), Step::FinishWriting);
        busy.finished_writing(5);
        busy.discarded(300);
        assert_eq!(busy.expired(14, &LIMITS), None);
        assert_eq!(busy.expired(15, &LIMITS), Some(CloseReason::LingerTimeout));
        busy.peer_finished();
        assert_eq!(busy.step(), Step::Close(CloseReason::Stopped));
    }

    #[test]
    fn the_write_timeout_counts_from_the_last_progress() {
        let mut conn = Machine::new(0);
        conn.received(100, 0, &LIMITS);
        assert!(conn.blocked(10) && !conn.blocked(11));
        assert_eq!(conn.deadline(&LIMITS), Some(30));
        conn.sent(1, 25, &LIMITS);
        assert_eq!(
            (conn.expired(44, &LIMITS), conn.expired(45, &LIMITS)),
            (None, Some(CloseReason::WriteTimeout))
        );
        conn.sent(99, 45, &LIMITS);
        assert_eq!((conn.is_stuck(), conn.deadline(&LIMITS)), (false, Some(95)));
    }

    /// A ten-line model: what came in equals what went out, what is owed and what was thrown away;
    /// nothing is asked for beyond the window; nothing happens after `Close`.
    #[test]
    fn random_lives_keep_their_account() {
        for seed in 0..2_000 {
            let mut random = fastrand::Rng::with_seed(seed);
            let mut conn = Machine::new(0);
            let (mut owed, mut now) = (0u64, 0);
            while !matches!(conn.step(), Step::Close(_)) && now < 500 {
                now += 1;
                if conn.step() == Step::FinishWriting {
                    conn.finished_writing(now);
                }
                let credit = conn.credit(&LIMITS);
                match random.u8(0..12) {
                    0..=4 if credit > 0 => {
                        let bytes = random.u32(1..=credit);
                        if conn.discards() {
                            conn.discarded(bytes);
                        } else {
                            conn.received(bytes, now, &LIMITS);
                            owed += u64::from(bytes);
                        }
                    }
                    5..=8 if owed > 0 => {
                        let bytes = random.u64(1..=owed);
                        conn.sent(bytes as u32, now, &LIMITS);
                        owed -= bytes;
                    }
                    9 if owed > 0 => {
                        let _ = conn.blocked(now);
                    }
                    10 if random.u8(0..20) == 0 => conn.peer_finished(),
                    11 if random.u8(0..20) == 0 => conn.stop(random.u32(0..50), now),
                    _ => {}
                }
                assert_eq!(conn.owed(), owed, "seed {seed}");
                assert!(conn.owed() <= u64::from(LIMITS.window), "seed {seed}");
                assert!(!conn.is_stuck() || owed > 0, "seed {seed}");
            }
        }
    }
}
