//! A first-come-first-served queue of table slots in which a slot stands at most once and can leave
//! from the middle. Linked by slot number, so that neither joining nor leaving allocates once the
//! links are laid out.

const NONE: u32 = u32::MAX;
/// `next` of a slot that is in no queue; `NONE` is the end of one.
const ABSENT: u32 = u32::MAX - 1;

#[derive(Clone, Copy, Debug)]
struct Link {
    previous: u32,
    next: u32,
}

/// The queue. Every operation is O(1).
#[derive(Debug)]
pub struct Queue {
    head: u32,
    tail: u32,
    length: u32,
    links: Vec<Link>,
}

impl Queue {
    /// An empty queue for slots below `capacity`. The memory is reserved, not touched.
    #[must_use]
    pub fn new(capacity: u32) -> Self {
        Self { head: NONE, tail: NONE, length: 0, links: Vec::with_capacity(capacity as usize) }
    }

    /// How many slots wait.
    #[must_use]
    pub const fn len(&self) -> u32 {
        self.length
    }

    /// Whether nobody waits.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// The slot that has waited longest.
    #[must_use]
    pub const fn front(&self) -> Option<u32> {
        if self.head == NONE { None } else { Some(self.head) }
    }

    /// Whether `slot` waits here.
    #[must_use]
    pub fn contains(&self, slot: u32) -> bool {
        self.links.get(slot as usize).is_some_and(|link| link.next != ABSENT)
    }

    /// Appends `slot`. Panics when it waits already: that would be our own mistake.
    pub fn push_back(&mut self, slot: u32) {
        assert!(!self.contains(slot), "slot {slot} joined a queue twice");
        let needed = slot as usize + 1;
        if self.links.len() < needed {
            self.links.resize(needed, Link { previous: NONE, next: ABSENT });
        }
        self.links[slot as usize] = Link { previous: self.tail, next: NONE };
        match self.tail {
            NONE => self.head = slot,
            tail => self.links[tail as usize].next = slot,
        }
        self.tail = slot;
        self.length += 1;
    }

    /// Takes the slot that has waited longest.
    pub fn pop_front(&mut self) -> Option<u32> {
        let slot = self.front()?;
        self.remove(slot);
        Some(slot)
    }

    /// Takes `slot` out, wherever it stands; false when it did not wait.
    pub fn remove(&mut self, slot: u32) -> bool {
        if !self.contains(slot) {
            return false;
        }
        let Link { previous, next } = self.links[slot as usize];
        match previous {
            NONE => self.head = next,
            previous => self.links[previous as usize].next = next,
        }
        match next {
            NONE => self.tail = previous,
            next => self.links[next as usize].previous = previous,
        }
        self.links[slot as usize].next = ABSENT;
        self.length -= 1;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::VecDeque;

    #[test]
    fn it_behaves_like_a_list_under_random_use() {
        let mut random = fastrand::Rng::with_seed(7);
        let mut queue = Queue::new(64);
        let mut model = VecDeque::new();
        for _ in 0..20_000 {
            let slot = random.u32(0..64);
            match random.u8(0..3) {
                0 if !model.contains(&slot) => {
                    queue.push_back(slot);
                    model.push_back(slot);
                }
                1 => assert_eq!(queue.pop_front(), model.pop_front()),
                _ => {
                    let stood = model.iter().position(|&other| other == slot);
                    assert_eq!(queue.remove(slot), stood.is_some());
                    stood.map(|index| model.remove(index));
                }
            }
            assert_eq!(queue.len() as usize, model.len());
            assert_eq!(queue.front(), model.front().copied());
        }
    }
}
