//! How likely the kernel and the peers do what they may: drawn anew for every seed, so that one run
//! never sees a short send and the next sees nothing else.

use fastrand::Rng;

/// Chances in a thousand, each asked where its name says.
#[derive(Clone, Debug)]
pub(super) struct Odds {
    /// That an operation that could go on does so in this enter.
    pub eager: u32,
    /// That a multishot operation ends with a result that could have had `more`.
    pub ends: u32,
    /// That a receive takes fewer bytes than there are.
    pub receive_short: u32,
    /// That the end comes with a buffer.
    pub end_buffer: u32,
    /// That a receive runs over its limit.
    pub limit_passed: u32,
    /// That a send takes fewer bytes than there is room for.
    pub send_short: u32,
    /// That a send is refused with `EAGAIN` though there is room.
    pub send_full: u32,
    /// That a watch for room reports without reason, in an enter.
    pub room_spurious: u32,
    /// That a send ends with `EINTR` or `ECANCELED`.
    pub send_interrupted: u32,
    /// That an accept fails for the network's reasons or for want of memory.
    pub accept_error: u32,
    /// That a socket cannot be handed on.
    pub hand_error: u32,
    /// That what is cancelled completes with a result instead of `ECANCELED`.
    pub cancel_late: u32,
    /// That counting what has arrived fails, or counts too much.
    pub count_fails: u32,
    pub count_more: u32,
    /// That a connection is lost without its peer's doing, in an enter.
    pub lost: u32,
    /// That a peer ends in the moment in which the loop ends something.
    pub at_the_end: u32,
    /// That an enter is interrupted.
    pub interrupted: u32,
    /// That an enter with an overflow answers busy.
    pub busy: u32,
    /// That a push into a full queue submits it.
    pub push_submits: u32,
    /// The most time that passes in an enter that does not wait, microseconds.
    pub enter_time: u64,
}

impl Odds {
    /// The odds of one seed.
    pub(super) fn draw(random: &mut Rng) -> Self {
        let mut rare = |most: u32| match random.u8(0..4) {
            0 => 0,
            1 => most / 10,
            2 => most / 3,
            _ => most,
        };
        Self {
            ends: rare(400),
            receive_short: rare(900),
            // Ends are few: most seeds are to see some of them.
            end_buffer: rare(1000).max(250),
            limit_passed: rare(500),
            send_short: rare(800),
            send_full: rare(300),
            room_spurious: rare(60),
            send_interrupted: rare(150),
            accept_error: rare(200),
            hand_error: 0,
            cancel_late: rare(900),
            count_fails: rare(900),
            count_more: rare(600),
            lost: rare(15),
            at_the_end: rare(900),
            interrupted: rare(200),
            busy: rare(900),
            push_submits: rare(1000),
            eager: 200 + random.u32(0..=800),
            enter_time: [5, 50, 500, 3_000][random.usize(0..4)],
        }
    }

    /// No more errors, and no more pieces smaller than need be.
    pub(super) fn heal(&mut self) {
        *self = Self {
            eager: self.eager.max(500),
            ends: 0,
            receive_short: 0,
            end_buffer: self.end_buffer,
            limit_passed: 0,
            send_short: 0,
            send_full: 0,
            room_spurious: 0,
            send_interrupted: 0,
            accept_error: 0,
            hand_error: 0,
            cancel_late: self.cancel_late,
            count_fails: 0,
            count_more: 0,
            lost: 0,
            at_the_end: 0,
            interrupted: 0,
            busy: 0,
            push_submits: self.push_submits,
            enter_time: self.enter_time,
        };
    }
}

/// Whether something with a chance of `odds` in a thousand happens.
pub(super) fn happens(random: &mut Rng, odds: u32) -> bool {
    odds > 0 && random.u32(0..1000) < odds
}
