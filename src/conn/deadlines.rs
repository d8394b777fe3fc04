//! When to look at a connection again. A lazy wheel: a connection stands in the bucket of a time at
//! which it *may* have expired; activity does not touch the wheel, it is noticed when the bucket
//! comes due and the connection is put back at its true deadline.
//!
//! So a message costs one store (in [`super::Machine`]), and a connection is looked at no more than
//! once per timeout or once per turn of the wheel, whichever is shorter.

use super::Tick;

const BUCKETS: usize = 256;
const WORDS: usize = BUCKETS / 64;
const NONE: u32 = u32::MAX;
/// Milliseconds per bucket. 32 ms × 256 = 8.2 s per turn of the wheel.
pub const GRANULARITY: Tick = 32;
/// Turns of the event loop for which a due deadline waits until the kernel has nothing more to say.
const DEFERRALS_MAX: u32 = 1000;

#[derive(Clone, Copy, Debug)]
struct Entry {
    previous: u32,
    next: u32,
    /// The absolute number of the bucket it stands in; `Tick::MAX` when in none.
    bucket: Tick,
}

/// The wheel, by table slot.
#[derive(Debug)]
pub struct Deadlines {
    heads: [u32; BUCKETS],
    /// A bit for each bucket in which somebody stands, so that the next is found in a few words.
    taken: [u64; WORDS],
    entries: Vec<Entry>,
    /// The bucket looked at next; every entry stands in `cursor..cursor + BUCKETS`.
    cursor: Tick,
    scheduled: u32,
    deferrals: u32,
    steps: u64,
}

impl Deadlines {
    /// A wheel for slots below `capacity`, reserved but not touched, starting at `now`.
    #[must_use]
    pub fn new(capacity: u32, now: Tick) -> Self {
        Self {
            heads: [NONE; BUCKETS],
            taken: [0; WORDS],
            entries: Vec::with_capacity(capacity as usize),
            cursor: now / GRANULARITY,
            scheduled: 0,
            deferrals: 0,
            steps: 0,
        }
    }

    /// Looks at `slot` no earlier than `due`, and no later than a bucket after it. Where it stands
    /// already for an earlier time, it stays.
    pub fn schedule(&mut self, slot: u32, due: Tick) {
        let bucket = due.div_ceil(GRANULARITY).clamp(self.cursor, self.cursor + BUCKETS as Tick - 1);
        let needed = slot as usize + 1;
        if self.entries.len() < needed {
            self.entries.resize(needed, Entry { previous: NONE, next: NONE, bucket: Tick::MAX });
        }
        if self.entries[slot as usize].bucket <= bucket {
            return;
        }
        self.remove(slot);
        let index = bucket as usize % BUCKETS;
        self.taken[index / 64] |= 1 << (index % 64);
        let head = &mut self.heads[index];
        self.entries[slot as usize] = Entry { previous: NONE, next: *head, bucket };
        if *head != NONE {
            self.entries[*head as usize].previous = slot;
        }
        *head = slot;
        self.scheduled += 1;
    }

    /// Forgets `slot`, if it is scheduled.
    pub fn remove(&mut self, slot: u32) {
        let Some(&Entry { previous, next, bucket }) = self.entries.get(slot as usize) else { return };
        if bucket == Tick::MAX {
            return;
        }
        let index = bucket as usize % BUCKETS;
        match previous {
            NONE => self.heads[index] = next,
            previous => self.entries[previous as usize].next = next,
        }
        if next != NONE {
            self.entries[next as usize].previous = previous;
        }
        if self.heads[index] == NONE {
            self.taken[index / 64] &= !(1 << (index % 64));
        }
        self.entries[slot as usize].bucket = Tick::MAX;
        self.scheduled -= 1;
    }

    /// When the event loop has to wake for this wheel, if ever. Asked every turn.
    #[must_use]
    pub fn next(&self) -> Option<Tick> {
        let start = self.cursor as usize % BUCKETS;
        // Once around, from the bits at and above the cursor to those below it in the same word.
        let distance = (0..=WORDS).find_map(|step| {
            let word = (start / 64 + step) % WORDS;
            let mask = match step {
                0 => u64::MAX << (start % 64),
                WORDS => !(u64::MAX << (start % 64)),
                _ => u64::MAX,
            };
            let found = self.taken[word] & mask;
            let index = word * 64 + found.trailing_zeros() as usize;
            (found != 0).then(|| (index + BUCKETS - start) % BUCKETS)
        })?;
        Some((self.cursor + distance as Tick) * GRANULARITY)
    }

    /// Whether [`pop`](Self::pop) may be asked now. `quiet` says that the kernel had nothing to
    /// report this turn: after the process was stopped for a while, the bytes that arrived in the
    /// meantime are read first, so that nobody is timed out for our absence.
    pub fn ripe(&mut self, now: Tick, quiet: bool) -> bool {
        let due = self.next().is_some_and(|next| next <= now);
        if due && !quiet && self.deferrals < DEFERRALS_MAX {
            self.deferrals += 1;
            return false;
        }
        self.deferrals = 0;
        due
    }

    /// Takes out the next slot whose time has come by `now`. The caller asks its connection, and
    /// either closes it or schedules it again.
    pub fn pop(&mut self, now: Tick) -> Option<u32> {
        if self.scheduled == 0 {
            self.cursor = self.cursor.max(now / GRANULARITY);
            return None;
        }
        while self.cursor <= now / GRANULARITY {
            let head = self.heads[self.cursor as usize % BUCKETS];
            if head != NONE {
                self.remove(head);
                self.steps += 1;
                return Some(head);
            }
            self.cursor += 1;
        }
        None
    }

    /// How many times a connection was looked at, ever: the cost of expiry.
    #[must_use]
    pub const fn steps(&self) -> u64 {
        self.steps
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_never_fires_early_and_at_most_a_bucket_late() {
        let mut random = fastrand::Rng::with_seed(3);
        let mut wheel = Deadlines::new(1000, 5);
        let mut due = vec![None; 1000];
        for now in (5..200_000).step_by(7) {
            let slot = random.u32(0..1000);
            match random.u8(0..4) {
                0 if due[slot as usize].is_none() => {
                    let at = now + random.u64(0..20_000);
                    due[slot as usize] = Some(at);
                    wheel.schedule(slot, at);
                }
                1 => {
                    wheel.remove(slot);
                    due[slot as usize] = None;
                }
                _ => {}
            }
            let heads = (wheel.cursor..wheel.cursor + BUCKETS as Tick)
                .find(|&bucket| wheel.heads[bucket as usize % BUCKETS] != NONE);
            assert_eq!(wheel.next(), heads.map(|bucket| bucket * GRANULARITY));
            while let Some(slot) = wheel.pop(now) {
                let at = due[slot as usize].expect("a slot that was not scheduled came due");
                if at > now {
                    wheel.schedule(slot, at);
                } else {
                    assert!(now - at <= GRANULARITY + 7, "{} ms late", now - at);
                    due[slot as usize] = None;
                }
            }
            assert!(due.iter().flatten().all(|&at| at + GRANULARITY + 7 > now), "one was forgotten");
        }
    }

    #[test]
    fn looking_after_100_000_busy_connections_costs_a_step_per_turn_of_the_wheel() {
        let (connections, idle_timeout, hour) = (100_000u32, 60_000, 3_600_000);
        let mut wheel = Deadlines::new(connections, 0);
        for slot in 0..connections {
            wheel.schedule(slot, idle_timeout);
        }
        let mut now = 0;
        while now < hour {
            now = wheel.next().unwrap();
            while let Some(slot) = wheel.pop(now) {
                // Every connection was active a moment ago.
                wheel.schedule(slot, now + idle_timeout);
            }
        }
        let turns = hour / (GRANULARITY * (BUCKETS as Tick - 1)) + 2;
        println!("{} steps for {connections} connections in an hour", wheel.steps());
        assert!(wheel.steps() <= u64::from(connections) * turns);
    }

    #[test]
    fn a_due_deadline_waits_until_the_kernel_is_quiet_but_not_for_ever() {
        let mut wheel = Deadlines::new(1, 0);
        wheel.schedule(0, 10);
        assert!(!wheel.ripe(31, true));
        assert!(!wheel.ripe(40, false));
        assert!(wheel.ripe(40, true));
        let turns = (0..).take_while(|_| !wheel.ripe(40, false)).count();
        assert_eq!(turns, DEFERRALS_MAX as usize);
    }
}
