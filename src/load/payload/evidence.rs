//! What came from the first wrong byte of a connection on, in constant memory: stretches, each with the
//! place its bytes belong to. A stretch whose place is known is followed by comparing, however long it is;
//! where it ends, the next bytes are gathered in a window until they tell where they belong.

use super::diagnosis;
use super::words::{Origin, Stream};
use super::{Kind, NAMEABLE};

/// Bytes gathered before anybody asks where they belong: room for a stretch too short to be traced, and
/// behind it for one that is long enough.
const WINDOW: usize = 32;
/// Bytes in a row that are no accident where the place was guessed from the neighbourhood: 2^-64.
const SURE: usize = 8;
/// Bytes in a row that are no accident where the place was read back from eight of them: 2^-32.
const SURE_READ_BACK: usize = 12;
/// Places so near, in bytes, are tried without a word that leads there.
const NEAR: i64 = 40;
/// Stretches that matter: with three of them every fault has its name.
const STRETCHES: usize = 3;

/// What is known of a fault.
#[derive(Debug)]
pub(super) struct Evidence {
    /// The first wrong byte.
    offset: u64,
    /// Bytes the connection had sent when it came.
    asked: u64,
    /// Bytes received.
    position: u64,
    /// The first bytes from `offset` on.
    first: [u8; FIRST],
    /// Bytes up to `position` that belong to no stretch yet.
    window: [u8; WINDOW],
    first_length: u8,
    window_length: u8,
    stretch_count: u8,
    stretches: [Stretch; STRETCHES],
}

/// First bytes that are kept: as many as can come without being traced, and what is printed.
pub(super) const FIRST: usize = NAMEABLE as usize + 1;

/// Bytes that came in a row from one place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stretch {
    /// Its first byte, in what was received.
    pub begin: u64,
    /// Where it belongs.
    pub place: Place,
}

/// Where bytes belong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// Nobody knows.
    Unknown,
    /// In the same connection's stream, so far from where they came: behind it (they came too early)
    /// where positive.
    Here {
        /// Bytes.
        shift: i64,
    },
    /// In another's.
    There {
        /// Its number.
        connection: u32,
        /// The first byte's offset in its stream.
        offset: u64,
    },
}

/// How what was received compares with what was asked for, once nothing more comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shortage {
    /// Nothing is owed.
    Even,
    /// So many bytes did not come.
    Owed(u64),
    /// So many bytes were too many.
    Excess(u64),
}

/// Bytes of the window whose place is known.
#[derive(Clone, Copy, Debug)]
struct Found {
    begin: usize,
    length: usize,
    place: Place,
}

impl Shortage {
    pub(super) const fn of(asked: u64, received: u64) -> Self {
        if asked > received {
            Self::Owed(asked - received)
        } else if received > asked {
            Self::Excess(received - asked)
        } else {
            Self::Even
        }
    }
}

impl Evidence {
    /// The byte at `offset` is wrong, or right and not asked for; nothing from there on was seen yet.
    pub(super) const fn new(offset: u64, asked: u64) -> Self {
        Self {
            offset,
            asked,
            position: offset,
            first: [0; FIRST],
            window: [0; WINDOW],
            first_length: 0,
            window_length: 0,
            stretch_count: 0,
            stretches: [Stretch { begin: 0, place: Place::Unknown }; STRETCHES],
        }
    }

    /// The first wrong byte.
    pub(super) const fn offset(&self) -> u64 {
        self.offset
    }

    /// The first bytes from there on.
    pub(super) fn first(&self) -> &[u8] {
        &self.first[..usize::from(self.first_length)]
    }

    /// Whether the first byte was wrong only because nobody had asked for it.
    pub(super) const fn unasked(&self) -> bool {
        self.offset >= self.asked
    }

    /// What came, in order.
    pub(super) fn stretches(&self) -> &[Stretch] {
        &self.stretches[..usize::from(self.stretch_count)]
    }

    /// Where the last stretch ends for now.
    pub(super) const fn reached(&self) -> u64 {
        self.position - self.window_length as u64
    }

    /// The next bytes came. The fault's name, once there is no doubt.
    pub(super) fn received(&mut self, stream: Stream, bytes: &[u8]) -> Option<Kind> {
        self.keep_first(bytes);
        let mut bytes = bytes;
        while !bytes.is_empty() {
            let followed = self.follow(stream, bytes);
            bytes = &bytes[followed..];
            if let Some(kind) = diagnosis::name(self, stream, None) {
                return Some(kind);
            }
            let taken = self.gather(bytes);
            bytes = &bytes[taken..];
            if usize::from(self.window_length) == WINDOW {
                self.trace(stream, None);
            }
        }
        diagnosis::name(self, stream, None)
    }

    /// Nothing more comes: the best name there is.
    pub(super) fn settle(&mut self, stream: Stream, shortage: Shortage) -> Kind {
        while self.window_length > 0 {
            self.trace(stream, Some(shortage));
        }
        diagnosis::name(self, stream, Some(shortage)).expect("at the end every fault has a name")
    }

    fn keep_first(&mut self, bytes: &[u8]) {
        let kept = usize::from(self.first_length);
        let more = bytes.len().min(FIRST - kept);
        self.first[kept..kept + more].copy_from_slice(&bytes[..more]);
        self.first_length += more as u8;
    }

    /// Passes over the bytes that go on where the last stretch ends; how many there are.
    fn follow(&mut self, stream: Stream, bytes: &[u8]) -> usize {
        let Some(&last) = self.stretches().last() else { return 0 };
        if self.window_length > 0 {
            return 0;
        }
        let followed = matching(stream, last.place, self.position - last.begin, self.position, bytes);
        self.position += followed as u64;
        followed
    }

    /// Takes bytes into the window, as many as fit; how many that was.
    fn gather(&mut self, bytes: &[u8]) -> usize {
        let held = usize::from(self.window_length);
        let taken = bytes.len().min(WINDOW - held);
        self.window[held..held + taken].copy_from_slice(&bytes[..taken]);
        self.window_length += taken as u8;
        self.position += taken as u64;
        taken
    }

    /// Finds out where the window belongs, and empties it as far as that is known. `end` is given when
    /// nothing more comes: then the window is all there is.
    fn trace(&mut self, stream: Stream, end: Option<Shortage>) {
        let at = self.reached();
        let length = usize::from(self.window_length);
        match self.find(stream, end) {
            Some(found) => {
                if found.begin > 0 {
                    self.push(Stretch { begin: at, place: Place::Unknown });
                }
                self.push(Stretch { begin: at + found.begin as u64, place: found.place });
                self.drop_front(found.begin + found.length);
            }
            None => {
                self.push(Stretch { begin: at, place: Place::Unknown });
                // The last bytes may be the beginning of something that can be traced.
                let kept = if end.is_some() { 0 } else { FIRST };
                self.drop_front(length - kept);
            }
        }
    }

    /// One more stretch. Unknown bytes behind unknown ones are the same stretch; what does not fit
    /// is not needed.
    fn push(&mut self, stretch: Stretch) {
        let count = usize::from(self.stretch_count);
        let goes_on = stretch.place == Place::Unknown
            && self.stretches().last().is_some_and(|last| last.place == Place::Unknown);
        if !goes_on && count < STRETCHES {
            self.stretches[count] = stretch;
            self.stretch_count += 1;
        }
    }

    fn drop_front(&mut self, count: usize) {
        let length = usize::from(self.window_length);
        self.window.copy_within(count..length, 0);
        self.window_length = (length - count) as u8;
    }

    /// The known place whose bytes begin first in the window; among equals, the one that needs least
    /// believing.
    fn find(&self, stream: Stream, end: Option<Shortage>) -> Option<Found> {
        let hinted = self.hinted(stream, end).into_iter().flatten();
        let near = (-NEAR..=NEAR).filter_map(|shift| self.earliest(stream, Place::Here { shift }, SURE));
        hinted.chain(near).chain(self.read_back(stream)).min_by_key(|found| found.begin)
    }

    /// Places that follow from what is known already. At the end a window may be too short to be sure by
    /// itself; a place that explains it down to its last byte, and the count too, is believed.
    fn hinted(&self, stream: Stream, end: Option<Shortage>) -> [Option<Found>; 2] {
        let right = Place::Here { shift: 0 };
        let by_count = match end {
            Some(Shortage::Owed(bytes)) => Some(bytes as i64),
            Some(Shortage::Excess(bytes)) => Some(-(bytes as i64)),
            _ => None,
        };
        let last = |place| end.and_then(|_| self.to_the_end(stream, place));
        [last(right), by_count.and_then(|shift| last(Place::Here { shift }))]
    }

    /// The earliest run of at least `sure` bytes from this place.
    fn earliest(&self, stream: Stream, place: Place, sure: usize) -> Option<Found> {
        let mut begin = 0;
        while begin + sure <= self.window().len() {
            let length = self.run(stream, place, begin);
            if length >= sure {
                return Some(Found { begin, length, place });
            }
            begin += length + 1;
        }
        None
    }

    /// The run from this place that reaches to the end of the window.
    fn to_the_end(&self, stream: Stream, place: Place) -> Option<Found> {
        let window = self.window();
        let mut begin = 0;
        while begin < window.len() {
            let length = self.run(stream, place, begin);
            if begin + length == window.len() {
                return Some(Found { begin, length, place });
            }
            begin += length + 1;
        }
        None
    }

    /// The places that the words of the window name, each with all its bytes around the word.
    fn read_back(&self, stream: Stream) -> impl Iterator<Item = Found> {
        let at = self.reached();
        self.window().windows(8).enumerate().filter_map(move |(from, word)| {
            let word = u64::from_le_bytes(word.try_into().expect("eight bytes"));
            let origin = stream.key.origin(word);
            let place = if origin.is_of(stream.connection) {
                // The offset is known modulo a turn of the stream; the nearest is meant.
                let unused = u64::BITS - Origin::TURN_BITS;
                let ahead = origin.offset().wrapping_sub(at + from as u64);
                Place::Here { shift: ((ahead << unused) as i64) >> unused }
            } else {
                // The window may begin before the other stream does.
                Place::There {
                    connection: origin.connection,
                    offset: origin.offset().wrapping_sub(from as u64),
                }
            };
            let begin = (0..from).rev().take_while(|&before| self.run(stream, place, before) > from - before);
            let begin = begin.last().unwrap_or(from);
            let length = self.run(stream, place, begin);
            let place = match place {
                Place::There { connection, offset } => {
                    Place::There { connection, offset: offset.wrapping_add(begin as u64) }
                }
                other => other,
            };
            (length >= SURE_READ_BACK).then_some(Found { begin, length, place })
        })
    }

    /// How many bytes of the window, from `begin` on, are those of a place whose first byte is the
    /// window's.
    fn run(&self, stream: Stream, place: Place, begin: usize) -> usize {
        let at = self.reached() + begin as u64;
        matching(stream, place, begin as u64, at, &self.window()[begin..])
    }

    fn window(&self) -> &[u8] {
        &self.window[..usize::from(self.window_length)]
    }
}

/// How many of `bytes` come from this place, where the first of them is the stretch's byte number `past`
/// and stands at `position` of what was received.
fn matching(stream: Stream, place: Place, past: u64, position: u64, bytes: &[u8]) -> usize {
    match place {
        Place::Unknown => 0,
        Place::Here { shift } => {
            position.checked_add_signed(shift).map_or(0, |offset| stream.matching(offset, bytes))
        }
        Place::There { connection, offset } => {
            // Before its beginning a stream is what it is before it repeats itself.
            let offset = offset.wrapping_add(past) % (1 << Origin::TURN_BITS);
            Stream { connection, ..stream }.matching(offset, bytes)
        }
    }
}
