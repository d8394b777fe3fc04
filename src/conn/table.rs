//! The table of connections: slots with a generation each, so that an event for a connection that is
//! gone can be told from one for its successor in the same slot.

/// Names one connection for as long as the program runs: 24 bits of slot, 32 of generation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ConnId {
    /// The index in the table, below 2^24.
    pub slot: u32,
    /// How many connections had this slot before, modulo 2^32.
    pub generation: u32,
}

const SLOT_BITS: u32 = 24;

/// The largest number of slots an id can tell apart; the highest few are left to callers as
/// reserved numbers (listener, stop).
pub const SLOTS_MAX: u32 = (1 << SLOT_BITS) - 16;

impl ConnId {
    /// The id in the low 56 bits: `slot 24 | generation 32`. The high 8 bits are the caller's.
    #[must_use]
    pub const fn to_bits(self) -> u64 {
        ((self.slot as u64) << 32) | self.generation as u64
    }

    /// Back from [`to_bits`](Self::to_bits); the high 8 bits are ignored.
    #[must_use]
    pub const fn from_bits(bits: u64) -> Self {
        Self { slot: (bits >> 32) as u32 & ((1 << SLOT_BITS) - 1), generation: bits as u32 }
    }
}

#[derive(Debug)]
struct Slot<T> {
    generation: u32,
    value: Option<T>,
}

/// Connections by id. Freed slots are used again before new ones are touched, so the memory in use
/// follows the largest number of connections there ever was at once.
#[derive(Debug)]
pub struct Table<T> {
    slots: Vec<Slot<T>>,
    free: Vec<u32>,
    capacity: u32,
}

impl<T> Table<T> {
    /// Room for `capacity` connections. Reserved here, touched when first used.
    ///
    /// # Panics
    /// When `capacity` is above [`SLOTS_MAX`]; the configuration bounds it.
    #[must_use]
    pub fn new(capacity: u32) -> Self {
        assert!(capacity <= SLOTS_MAX);
        Self {
            slots: Vec::with_capacity(capacity as usize),
            free: Vec::with_capacity(capacity as usize),
            capacity,
        }
    }

    /// Bytes reserved for a table of `capacity`.
    #[must_use]
    pub const fn bytes(capacity: u32) -> u64 {
        capacity as u64 * (size_of::<Slot<T>>() + size_of::<u32>()) as u64
    }

    /// Puts a connection in; gives it back when the table is full.
    ///
    /// # Errors
    /// The value itself, when there is no slot left.
    pub fn insert(&mut self, value: T) -> Result<ConnId, T> {
        let slot = match self.free.pop() {
            Some(slot) => slot,
            None if self.slots.len() < self.capacity as usize => {
                self.slots.push(Slot { generation: 0, value: None });
                self.slots.len() as u32 - 1
            }
            None => return Err(value),
        };
        let entry = &mut self.slots[slot as usize];
        assert!(entry.value.is_none(), "slot {slot} was free and taken at once");
        entry.value = Some(value);
        Ok(ConnId { slot, generation: entry.generation })
    }

    /// The connection `id`, unless it is gone.
    pub fn get_mut(&mut self, id: ConnId) -> Option<&mut T> {
        let slot = self.slots.get_mut(id.slot as usize)?;
        if slot.generation == id.generation { slot.value.as_mut() } else { None }
    }

    /// The connection `id`, unless it is gone.
    #[must_use]
    pub fn get(&self, id: ConnId) -> Option<&T> {
        let slot = self.slots.get(id.slot as usize)?;
        if slot.generation == id.generation { slot.value.as_ref() } else { None }
    }

    /// The id of whoever is in `slot` now.
    #[must_use]
    pub fn id_at(&self, slot: u32) -> Option<ConnId> {
        let entry = self.slots.get(slot as usize)?;
        entry.value.as_ref().map(|_| ConnId { slot, generation: entry.generation })
    }

    /// Takes the connection out; the slot's next one has another generation.
    pub fn remove(&mut self, id: ConnId) -> Option<T> {
        let slot = self.slots.get_mut(id.slot as usize)?;
        if slot.generation != id.generation {
            return None;
        }
        let value = slot.value.take()?;
        slot.generation = slot.generation.wrapping_add(1);
        self.free.push(id.slot);
        Some(value)
    }

    /// How many connections there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// One more than the highest slot ever used: the bound of a walk by [`id_at`](Self::id_at).
    #[must_use]
    pub fn high_water(&self) -> u32 {
        self.slots.len() as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_survives_packing() {
        let id = ConnId { slot: SLOTS_MAX - 1, generation: 0xdead_beef };
        assert_eq!(ConnId::from_bits(0xff << 56 | id.to_bits()), id);
    }

    #[test]
    fn a_reused_slot_is_not_mistaken_for_the_old_connection() {
        let mut table = Table::new(1);
        let first = table.insert("first").unwrap();
        assert_eq!(table.insert("second"), Err("second"));
        assert_eq!(table.remove(first), Some("first"));
        let second = table.insert("second").unwrap();
        assert_eq!((first.slot, second.slot), (0, 0));
        assert!(table.get_mut(first).is_none() && table.remove(first).is_none());
        assert_eq!(table.get(second), Some(&"second"));
        assert_eq!(table.len(), 1);
    }

    #[test]
    fn memory_follows_the_largest_number_at_once() {
        let mut table = Table::new(1000);
        for round in 0..50 {
            let ids: Vec<_> = (0..10).map(|n| table.insert(n + round).unwrap()).collect();
            assert!(ids.into_iter().all(|id| table.remove(id).is_some()));
        }
        assert_eq!((table.high_water(), table.len()), (10, 0));
    }
}
