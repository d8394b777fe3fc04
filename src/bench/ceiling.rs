//! Whether the client could have done more than was measured: its ceiling, held against the rate. Pure.
//!
//! The rule asks for a run of the client against a minimal sink with the same pinning, and for a ceiling of at
//! least 1.5 times what was measured. Nothing answers a client with less work than an echo server that does
//! nothing else, so the sink here is the faster of the two servers in a closed loop, and what the client reached
//! against it is a rate that it demonstrably can do: on this machine, with this pinning, for this workload,
//! every byte compared. Its true ceiling is that or higher, so the proof can only fail where it might have
//! succeeded. Each comparison at half of the capacity begins with such slices.
//!
//! Where there are none (a typed rate, `--pace closed`, streams, churn), the ceiling is reckoned: the rate of a
//! slice over the share of time its busiest thread was busy. A thread that is busier finds more answers at each
//! look and pays less for each, so what it reckons is rather too low; but it is an extrapolation, and is called
//! one. A closed loop that drives its client to the limit comes out at little more than 1: that is the finding,
//! and no fault of the reckoning. There the rate is as much the client's as the server's, while the costs, which
//! are what decides, are those at that rate.

use super::compare::settled;
use crate::result::bench::{Cell, ClientCeiling, Numbers, Purpose, Side, Slice, Unit};
use crate::statistics::paired::median;

/// So many times the measured rate the ceiling has to be.
pub const TIMES: f64 = 1.5;
/// How a ceiling is known that was reached, and one that was reckoned.
pub const REACHED: &str = "reached";
/// See [`REACHED`].
pub const RECKONED: &str = "reckoned";

/// The client's ceiling in a cell with these slices; `None` where nothing was measured, or no rate is.
#[must_use]
pub fn ceiling(cell: &Cell, slices: &[Slice]) -> Option<ClientCeiling> {
    if cell.workload.unit == Unit::IdleSecond {
        return None;
    }
    let rate = |one: &Numbers| Some(one.units_per_second).filter(|rate| *rate > 0.0);
    let measured = faster(slices, Purpose::Cost, rate)?;
    let (units_per_second, known) = match faster(slices, Purpose::Capacity, rate) {
        Some(reached) => (reached, REACHED),
        None => (slower(slices, Purpose::Cost, reckoned)?, RECKONED),
    };
    let times = units_per_second / measured;
    Some(ClientCeiling {
        units_per_second,
        known: known.into(),
        measured_units_per_second: measured,
        times,
        enough: times >= TIMES,
    })
}

/// What the busiest thread would come to if it were busy all the time.
fn reckoned(one: &Numbers) -> Option<f64> {
    (one.client_busy > 0.0 && one.units_per_second > 0.0)
        .then(|| one.units_per_second / one.client_busy.min(1.0))
}

fn faster(slices: &[Slice], purpose: Purpose, read: fn(&Numbers) -> Option<f64>) -> Option<f64> {
    sides(slices, purpose, read).max_by(f64::total_cmp)
}

fn slower(slices: &[Slice], purpose: Purpose, read: fn(&Numbers) -> Option<f64>) -> Option<f64> {
    sides(slices, purpose, read).min_by(f64::total_cmp)
}

/// The median of what was read of each side's sound slices.
fn sides(slices: &[Slice], purpose: Purpose, read: fn(&Numbers) -> Option<f64>) -> impl Iterator<Item = f64> {
    [Side::A, Side::B].into_iter().filter_map(move |side| {
        let sound = settled(slices)
            .filter(|one| one.purpose == purpose && one.side == side && one.invalid.is_empty());
        let values: Vec<f64> = sound.filter_map(|one| read(one.numbers.as_ref()?)).collect();
        median(&values)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::compare::tests::{block, cell};

    /// A block for a purpose, each side at its rate, the client so busy.
    fn at(purpose: Purpose, variant: f64, reference: f64, busy: f64) -> Vec<Slice> {
        let mut slices: Vec<Slice> = block(purpose, 0, 1.0, 1.0).into();
        for slice in &mut slices {
            let numbers = slice.numbers.as_mut().unwrap();
            numbers.units_per_second = if slice.side == Side::A { variant } else { reference };
            numbers.client_busy = busy;
        }
        slices
    }

    #[test]
    fn what_the_client_reached_in_a_closed_loop_is_its_ceiling_at_half_of_it() {
        let mut slices = at(Purpose::Capacity, 80e3, 110e3, 0.97);
        slices.extend(at(Purpose::Cost, 40e3, 40e3, 0.45));
        let found = ceiling(&cell(), &slices).unwrap();
        assert_eq!((found.units_per_second, found.known.as_str()), (110e3, REACHED));
        assert_eq!((found.measured_units_per_second, found.times, found.enough), (40e3, 2.75, true));
        // Reached is what counts, however busy it says it was.
        slices.extend(at(Purpose::Cost, 80e3, 80e3, 0.1));
        slices.drain(4..8);
        assert!(!ceiling(&cell(), &slices).unwrap().enough);
    }

    #[test]
    fn without_a_closed_loop_before_it_is_reckoned_by_the_busier_side_and_called_so() {
        let mut slices = at(Purpose::Cost, 30e3, 30e3, 0.5);
        let found = ceiling(&cell(), &slices).unwrap();
        assert_eq!((found.units_per_second, found.known.as_str(), found.enough), (60e3, RECKONED, true));
        for slice in slices.iter_mut().filter(|slice| slice.side == Side::B) {
            slice.numbers.as_mut().unwrap().client_busy = 0.8;
        }
        let found = ceiling(&cell(), &slices).unwrap();
        assert_eq!((found.units_per_second, found.times, found.enough), (37_500.0, 1.25, false));
    }

    #[test]
    fn what_does_not_count_is_no_ceiling_and_idle_connections_have_no_rate() {
        let mut slices = at(Purpose::Capacity, 90e3, 90e3, 0.9);
        slices.iter_mut().for_each(|slice| slice.invalid.push("the client failed".into()));
        slices.extend(at(Purpose::Cost, 40e3, 40e3, 0.4));
        assert_eq!(ceiling(&cell(), &slices).unwrap().known, RECKONED);
        let mut idle = cell();
        idle.workload.unit = Unit::IdleSecond;
        assert_eq!(ceiling(&idle, &slices), None);
        assert_eq!(ceiling(&cell(), &slices[..4]), None);
    }
}
