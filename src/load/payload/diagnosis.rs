//! The name of a fault, from the stretches of what came. A name is given as soon as no other would fit;
//! where two faults follow one another, it is the first one's.
//!
//! Lost bytes and the first half of a swap look alike until the other half comes or does not: what
//! came too early is followed for [`PATIENCE`] bytes. Doubled bytes and old bytes in place of new ones look
//! alike until the doubled ones are over.

use super::evidence::{Evidence, FIRST, Place, Shortage, Stretch};
use super::words::Stream;
use super::{Kind, NAMEABLE};

/// Bytes a stretch is followed before what might still come is given up.
pub(super) const PATIENCE: u64 = 1 << 20;
/// Bytes of no known origin that are looked through before they are called garbage.
const GARBAGE: u64 = 1 << 16;
/// Bytes beyond a copy that show that the stream goes on behind it.
const SURE: u64 = 8;
/// A stretch may seem this much longer than it is: the next bytes can be equal by accident.
const BLUR: u64 = 2;

/// The fault's name, once there is no doubt; at the end always.
pub(super) fn name(evidence: &Evidence, stream: Stream, end: Option<Shortage>) -> Option<Kind> {
    match *evidence.stretches() {
        [] => None,
        [first] => one(evidence, stream, first, end),
        [first, second, ref rest @ ..] => more(evidence, stream, first, second, rest.first().copied(), end),
    }
}

/// There is one stretch so far.
fn one(evidence: &Evidence, stream: Stream, only: Stretch, end: Option<Shortage>) -> Option<Kind> {
    let length = evidence.reached() - only.begin;
    let patient = end.is_none() && length < PATIENCE;
    match only.place {
        Place::There { connection, offset } => Some(Kind::Foreign { connection, offset }),
        Place::Here { shift: 0 } => Some(Kind::Early),
        Place::Here { shift: shift @ 1.. } => (!patient).then_some(Kind::Lost { bytes: shift as u64 }),
        Place::Here { shift } => {
            let bytes = shift.unsigned_abs();
            match end {
                None => (!patient || length >= bytes + SURE).then_some(Kind::Duplicated { bytes }),
                Some(Shortage::Excess(excess)) if excess >= bytes => Some(Kind::Duplicated { bytes }),
                Some(_) if length > bytes => Some(Kind::Duplicated { bytes }),
                Some(_) => Some(elsewhere(evidence, shift, length)),
            }
        }
        Place::Unknown => match end {
            None => (length >= GARBAGE).then_some(Kind::Garbage { bytes: length }),
            Some(_) if evidence.unasked() => Some(Kind::Extra { bytes: length }),
            Some(_) => Some(in_place(evidence, stream, length)),
        },
    }
}

/// There are two stretches or three.
fn more(
    evidence: &Evidence,
    stream: Stream,
    first: Stretch,
    second: Stretch,
    third: Option<Stretch>,
    end: Option<Shortage>,
) -> Option<Kind> {
    let length = second.begin - first.begin;
    match (first.place, second.place) {
        (Place::Unknown, Place::Here { shift: 0 }) => Some(in_place(evidence, stream, length)),
        (Place::Unknown, Place::Here { shift: shift @ ..0 }) => {
            inserted(evidence, stream, shift.unsigned_abs(), second, third, end)
        }
        (Place::Unknown, Place::Here { shift }) => Some(Kind::Lost { bytes: shift as u64 }),
        (Place::Unknown, Place::There { connection, offset }) => Some(Kind::Foreign { connection, offset }),
        (Place::Here { shift: shift @ 1.. }, _) => {
            ahead(evidence, stream, shift as u64, (second, third), end)
        }
        (Place::Here { shift: shift @ ..0 }, Place::Here { shift: 0 }) => {
            Some(elsewhere(evidence, shift, length))
        }
        (Place::Here { shift: 0 }, _) => Some(Kind::Early),
        (Place::Here { shift }, _) if length + BLUR >= shift.unsigned_abs() => {
            Some(Kind::Duplicated { bytes: shift.unsigned_abs() })
        }
        (Place::Here { shift }, _) => Some(elsewhere(evidence, shift, length)),
        // Named as soon as they were seen; two unknown stretches in a row are one.
        (Place::There { .. } | Place::Unknown, _) => one(evidence, stream, first, end),
    }
}

/// Bytes came that belong `shift` further on, and then something else.
fn ahead(
    evidence: &Evidence,
    stream: Stream,
    shift: u64,
    (second, third): (Stretch, Option<Stretch>),
    end: Option<Shortage>,
) -> Option<Kind> {
    let length = second.begin - evidence.offset();
    let lost = Kind::Lost { bytes: shift };
    let swapped = |both: u64| Kind::Swapped { first: shift, second: both - shift };
    match second.place {
        Place::Here { shift: 0 } => {
            // The other half can be so short that it seems to belong to the first one.
            let begin = stream.eight(evidence.offset());
            let begin = &begin[..begin.len().min(shift as usize)];
            let seems = shift <= BLUR && length > shift;
            let same = seems && stream.matching(second.begin, begin) == begin.len();
            Some(if same { swapped(length) } else { elsewhere(evidence, shift as i64, length) })
        }
        Place::Here { shift: back @ ..0 } if back.unsigned_abs().abs_diff(length) <= BLUR => {
            Some(swapped(shift + back.unsigned_abs()))
        }
        // Too few to be traced: the other half of a swap where they are as many as were passed over.
        Place::Unknown => {
            let over = match (third, end) {
                (Some(Stretch { begin, place: Place::Here { shift: 0 } }), _) => begin,
                // A swap changes no count.
                (None, Some(Shortage::Even)) => evidence.reached(),
                (None, None) => return None,
                _ => return Some(lost),
            };
            let enough = (over - second.begin).abs_diff(shift) <= BLUR;
            Some(if enough { swapped(over - evidence.offset()) } else { lost })
        }
        _ => Some(lost),
    }
}

/// Bytes of no known origin came, and behind them the stream `count` bytes late: they were put in. Or they
/// are the second of two swapped stretches, too few to be traced.
fn inserted(
    evidence: &Evidence,
    stream: Stream,
    count: u64,
    second: Stretch,
    third: Option<Stretch>,
    end: Option<Shortage>,
) -> Option<Kind> {
    let extra = Kind::Extra { bytes: count };
    if count > NAMEABLE {
        return Some(extra);
    }
    let over = match third {
        Some(Stretch { begin, place: Place::Here { shift: 0 } }) => begin,
        Some(_) => return Some(extra),
        // A swap changes no count.
        None if matches!(end, Some(Shortage::Excess(_))) => return Some(extra),
        None if end.is_some() => evidence.reached(),
        None => return (evidence.reached() - second.begin >= PATIENCE).then_some(extra),
    };
    let moved = &evidence.first()[..evidence.first().len().min(count as usize)];
    let from = |blur| over.checked_sub(count + blur).filter(|&from| from > evidence.offset());
    let swapped = (0..=BLUR)
        .filter_map(from)
        .find(|&from| moved.len() as u64 == count && stream.matching(from, moved) == moved.len());
    Some(swapped.map_or(extra, |from| Kind::Swapped { first: from - evidence.offset(), second: count }))
}

/// `length` bytes of no known origin stand in place of the right ones.
fn in_place(evidence: &Evidence, stream: Stream, length: u64) -> Kind {
    let first = evidence.first();
    if length as usize > FIRST.min(first.len()) {
        return Kind::Garbage { bytes: length };
    }
    let got = &first[..length as usize];
    if let Some(swap) = rotation(stream, evidence.offset(), got) {
        return swap;
    }
    let expected =
        got.iter().zip(evidence.offset()..).map(|(byte, at)| (byte ^ stream.byte(at)).count_ones());
    let bits: u32 = expected.sum();
    if bits <= 8 { Kind::Flipped { bits } } else { Kind::Garbage { bytes: length } }
}

/// Whether two neighbouring stretches of a few bytes changed places. Their outermost bytes may be equal by
/// accident, and then do not differ: they are tried on either side.
fn rotation(stream: Stream, offset: u64, got: &[u8]) -> Option<Kind> {
    let mut expected = [0; FIRST + 2 * BLUR as usize];
    let mut came = expected;
    for (before, behind) in [(0, 0), (0, 1), (1, 0), (1, 1), (0, 2), (2, 0), (1, 2), (2, 1), (2, 2)] {
        let Some(begin) = offset.checked_sub(before) else { continue };
        let length = got.len() + (before + behind) as usize;
        let (expected, came) = (&mut expected[..length], &mut came[..length]);
        stream.fill(begin, expected);
        came.copy_from_slice(expected);
        came[before as usize..][..got.len()].copy_from_slice(got);
        let swap = (1..length).find(|&first| {
            let (one, other) = expected.split_at(first);
            came[..other.len()] == *other && came[other.len()..] == *one
        });
        if let Some(first) = swap {
            return Some(Kind::Swapped { first: first as u64, second: (length - first) as u64 });
        }
    }
    None
}

fn elsewhere(evidence: &Evidence, shift: i64, bytes: u64) -> Kind {
    Kind::Elsewhere { offset: evidence.offset().wrapping_add_signed(shift), bytes }
}
