//! Every fault a server can have, 1,000 times, at random places of random streams: a server's output is
//! made from what it was sent, each byte with the input it needs, and delivered in random pieces to a client
//! that sends when its depth allows. The first wrong byte is known by comparing; the verifier must find that
//! very byte, and give the fault its name.
//!
//! An instance is drawn again where it would be no fault of its kind: where nothing wrong reaches the client,
//! or where other faults of the same size give the very same bytes (a swap of equal bytes, extra bytes
//! that repeat those before them).

use super::{Ending, Key, Kind, NAMEABLE, Stream, Verdict, Verifier, Wrong};
use crate::load::draw::message_size;
use crate::seeds;
use fastrand::Rng;

const INSTANCES: u64 = 1_000;
/// Seeds that are tried for so many instances.
const SEEDS: u64 = 100 * INSTANCES;

/// The most bytes a server answers too many, and too early.
const BEYOND: u64 = 64;

/// A byte as the server sends it.
#[derive(Clone, Copy)]
struct Sent {
    byte: u8,
    /// Bytes the server must have received before.
    needs: u64,
}

/// One connection: what it asks for, and in which pieces.
struct Scene {
    stream: Stream,
    /// The right bytes, and [`BEYOND`] more than it asks for.
    right: Vec<u8>,
    /// The ends of its messages.
    ends: Vec<u64>,
    depth: usize,
    random: Rng,
}

/// What the client saw.
struct Seen {
    wrong: Option<Wrong>,
    /// The first byte that came though it was not asked for, or that was not the right one.
    first: Option<u64>,
}

impl Scene {
    fn draw(seed: u64) -> Self {
        let mut random = Rng::with_seed(seed);
        let stream = Stream::new(Key::of(random.u64(..)), random.u32(0..100_000));
        let most = [1, 16, 64, 1_000, 20_000][random.usize(..5)];
        let sizes = random.u32(1..=most)..=most;
        let messages = random.u64(1..=(40_000 / u64::from(most)).clamp(1, 60));
        let mut end = 0;
        let ends = (0..messages).map(|message| {
            end += u64::from(message_size(seed, &sizes, stream.connection, message));
            end
        });
        let ends: Vec<u64> = ends.collect();
        let depth = if random.bool() { usize::MAX } else { random.usize(1..5) };
        let mut right = vec![0; (ends[ends.len() - 1] + BEYOND) as usize];
        stream.fill(0, &mut right);
        Self { stream, right, ends, depth, random }
    }

    fn total(&self) -> u64 {
        *self.ends.last().expect("at least one message")
    }

    /// What an honest server sends.
    fn honest(&self) -> Vec<Sent> {
        (0..self.total()).map(|offset| self.sent(offset)).collect()
    }

    fn sent(&self, offset: u64) -> Sent {
        Sent { byte: self.byte(offset), needs: offset + 1 }
    }

    fn byte(&self, offset: u64) -> u8 {
        self.right.get(offset as usize).copied().unwrap_or_else(|| self.stream.byte(offset))
    }

    /// The byte that belongs at `offset`, replaced.
    fn instead(offset: u64, byte: u8) -> Sent {
        Sent { byte, needs: offset + 1 }
    }

    /// A place for a stretch of at most `most` bytes, with `before` bytes before it: offset and length.
    fn place(&mut self, before: u64, least: u64, most: u64) -> Option<(u64, u64)> {
        let room = self.total().checked_sub(before)?;
        let most = most.min(room);
        let length = self.random.u64(least..=most.max(least));
        let free = room.checked_sub(length)?;
        // The edges are places like all others, only rarer.
        let at = match self.random.u8(..8) {
            0 => 0,
            1 => free,
            _ => self.random.u64(0..=free),
        };
        Some((before + at, length))
    }

    /// A length, small or large.
    fn length(&mut self, most: u64) -> u64 {
        let most = [1, 2, 8, 40, 1_000, most][self.random.usize(..6)].min(most);
        self.random.u64(1..=most)
    }

    /// Delivers what the server sends. `ending` is what the client sees when nothing more comes.
    fn deliver(&mut self, output: &[Sent], ending: Ending) -> Seen {
        let mut verifier = Verifier::new();
        let largest = [1, 2, 30, 300, 5_000, 100_000][self.random.usize(..6)];
        let (mut at, mut messages, mut first) = (0, 0, None);
        loop {
            let done = self.ends.partition_point(|&end| end <= at as u64);
            messages = self.ends.len().min(done.saturating_add(self.depth)).max(messages);
            let asked = self.ends[messages - 1];
            let ready = output[at..].iter().take(largest).take_while(|sent| sent.needs <= asked).count();
            if ready == 0 {
                let wrong = verifier.ended(self.stream, asked, ending).map(|wrong| *wrong);
                return Seen { wrong, first };
            }
            let count = self.random.usize(1..=ready);
            let bytes: Vec<u8> = output[at..at + count].iter().map(|sent| sent.byte).collect();
            first = first.or_else(|| {
                let wrong = |offset: u64| {
                    offset >= asked || bytes[(offset - at as u64) as usize] != self.byte(offset)
                };
                (at as u64..(at + count) as u64).find(|&offset| wrong(offset))
            });
            if let Verdict::Wrong(wrong) = verifier.received(self.stream, asked, &bytes) {
                return Seen { wrong: Some(*wrong), first };
            }
            at += count;
        }
    }
}

/// Draws instances of a fault until there are enough. `plant` gives what the server sends and the fault's
/// name, or `None` where this scene has no room for it.
fn each(name: &str, plant: impl Fn(&mut Scene) -> Option<(Vec<Sent>, Kind)>) {
    each_ending(name, Ending::Silent, plant);
}

fn each_ending(name: &str, ending: Ending, plant: impl Fn(&mut Scene) -> Option<(Vec<Sent>, Kind)>) {
    let mut instances = 0;
    let seeds = seeds::several(SEEDS);
    for seed in seeds.clone() {
        let mut scene = Scene::draw(seed);
        let Some((output, kind)) = plant(&mut scene) else { continue };
        let seen = scene.deliver(&output, ending);
        // A client that waits for an answer may never see the fault.
        let Some(first) = seen.first else { continue };
        let context = format!("{name}, seed {seed}");
        let wrong = seen.wrong.unwrap_or_else(|| panic!("{context}: not found, {kind:?} at {first}"));
        assert_eq!((wrong.offset, wrong.kind), (first, kind), "{context}: {wrong}");
        assert_eq!(wrong.connection, scene.stream.connection, "{context}");
        assert_eq!(wrong.expected, scene.stream.eight(first), "{context}");
        let got: Vec<u8> = output[first as usize..].iter().take(8).map(|sent| sent.byte).collect();
        assert!(!wrong.got.is_empty() && got.starts_with(&wrong.got), "{context}: got {:?}", wrong.got);
        instances += 1;
        if instances == INSTANCES {
            return;
        }
    }
    // Fewer seeds are fewer instances only when somebody asked for fewer.
    assert!(seeds != (0..SEEDS), "{name}: only {instances} instances");
}

#[test]
fn an_honest_server_is_believed_however_awkward_it_is() {
    for seed in seeds::several(INSTANCES) {
        let mut scene = Scene::draw(seed);
        let output = scene.honest();
        let seen = scene.deliver(&output, Ending::Closed);
        assert_eq!((seen.wrong, seen.first), (None, None), "seed {seed}");
    }
}

#[test]
fn one_flipped_bit_is_found() {
    each("one bit", |scene| {
        let mut output = scene.honest();
        let at = scene.random.usize(..output.len());
        output[at].byte ^= 1 << scene.random.u8(..8);
        Some((output, Kind::Flipped { bits: 1 }))
    });
}

#[test]
fn several_flipped_bits_near_each_other_are_found() {
    each("several bits", |scene| {
        let mut output = scene.honest();
        let at = scene.random.usize(..output.len());
        let mut all = 0;
        let bits = scene.random.u32(2..=8);
        while all != bits {
            let end = output.len().min(at + 8);
            let mask = 1 << scene.random.u8(..8);
            let flipped = &mut output[scene.random.usize(at..end)].byte;
            *flipped ^= mask;
            all = (at..end).map(|at| (output[at].byte ^ scene.byte(at as u64)).count_ones()).sum();
        }
        Some((output, Kind::Flipped { bits }))
    });
}

#[test]
fn lost_bytes_and_buffers_are_found() {
    each("lost", |scene| {
        let most = scene.length(10_000);
        let (at, bytes) = scene.place(0, most, most)?;
        let mut output = scene.honest();
        output.drain(at as usize..(at + bytes) as usize);
        Some((output, Kind::Lost { bytes }))
    });
}

#[test]
fn doubled_bytes_and_buffers_are_found() {
    each("doubled", |scene| {
        let most = scene.length(10_000);
        let (at, bytes) = scene.place(0, most, most)?;
        let end = (at + bytes) as usize;
        let mut output = scene.honest();
        let mut copy = output[at as usize..end].to_vec();
        // The copy goes out behind the original.
        copy.iter_mut().for_each(|sent| sent.needs = end as u64);
        output.splice(end..end, copy);
        // Beyond the end it may be the byte that comes next: then it answers early just as well.
        let ambiguous =
            (end as u64..).take(8).zip(&output[end..]).all(|(at, sent)| scene.sent(at).byte == sent.byte);
        (!ambiguous).then_some((output, Kind::Duplicated { bytes }))
    });
}

#[test]
fn swapped_bytes_and_buffers_are_found() {
    each("swapped", |scene| {
        let (first, second) = match scene.random.u8(..3) {
            0 => (1, 1),
            1 => (scene.length(20_000), scene.length(20_000)),
            _ => [(4_096, 4_096), (1_024, 1_024), (16, 16)][scene.random.usize(..3)],
        };
        let (at, length) = scene.place(0, first + second, first + second)?;
        let (at, length) = (at as usize, length as usize);
        let mut output = scene.honest();
        let honest: Vec<u8> = output.iter().map(|sent| sent.byte).collect();
        output[at..at + length].rotate_left(first as usize);
        // The stretch that went out late needs no less than the one that went out before it.
        output[at..at + length].iter_mut().for_each(|sent| sent.needs = (at + length) as u64);
        let swapped = &honest[at..at + length];
        let same = |other: usize| {
            let other = swapped[other..].iter().chain(&swapped[..other]);
            other.eq(swapped[first as usize..].iter().chain(&swapped[..first as usize]))
        };
        let edges = output[at].byte != honest[at] && output[at + length - 1].byte != honest[at + length - 1];
        let unique = length > 64 || (0..length).filter(|&other| same(other)).count() == 1;
        (edges && unique).then_some((output, Kind::Swapped { first, second }))
    });
}

#[test]
fn bytes_of_another_connection_are_found_and_named() {
    each("foreign", |scene| {
        let (at, bytes) = scene.place(0, NAMEABLE, 5_000)?;
        let connection = (scene.stream.connection + scene.random.u32(1..100_000)) % (1 << 28);
        let other = Stream { connection, ..scene.stream };
        let most = [1, 100, 1 << 30][scene.random.usize(..3)];
        let from = scene.random.u64(0..most);
        let mut output = scene.honest();
        if scene.random.bool() {
            // In place of the right ones.
            (0..bytes).for_each(|past| output[(at + past) as usize].byte = other.byte(from + past));
        } else {
            let foreign = (0..bytes).map(|past| Sent { byte: other.byte(from + past), needs: at });
            output.splice(at as usize..at as usize, foreign);
        }
        // Where the first ones are equal by accident, the rest must still be long enough.
        let past = (0..bytes).find(|past| output[(at + past) as usize].byte != scene.sent(at + past).byte)?;
        let kind = Kind::Foreign { connection, offset: from + past };
        (bytes - past >= NAMEABLE && other.byte(from) != scene.byte(at)).then_some((output, kind))
    });
}

#[test]
fn old_bytes_in_place_of_new_ones_are_found_and_traced() {
    each("stale", |scene| {
        let (at, bytes) = scene.place(NAMEABLE, NAMEABLE, 9_000)?;
        let back = scene.random.u64(bytes.min(at)..=at);
        let bytes = bytes.min(back);
        let mut output = scene.honest();
        for past in 0..bytes {
            output[(at + past) as usize] = Scene::instead(at + past, scene.byte(at + past - back));
        }
        let differs = |place: u64| scene.byte(place) != scene.byte(place - back);
        let end = at + bytes;
        let kind = Kind::Elsewhere { offset: at - back, bytes };
        (differs(at) && differs(end - 1) && differs(end) && bytes >= NAMEABLE).then_some((output, kind))
    });
}

#[test]
fn overwritten_bytes_are_found() {
    each("garbage", |scene| {
        let (at, bytes) = scene.place(0, 9, 5_000)?;
        let mut output = scene.honest();
        (at..at + bytes).for_each(|place| output[place as usize].byte = scene.random.u8(..));
        let differs = |place: u64| output[place as usize].byte != scene.byte(place);
        (differs(at) && differs(at + bytes - 1)).then_some((output, Kind::Garbage { bytes }))
    });
}

#[test]
fn extra_bytes_are_found() {
    each("extra", |scene| {
        let bytes = scene.length(5_000);
        let at = scene.random.u64(0..=scene.total());
        let mut output = scene.honest();
        let extra: Vec<Sent> = (0..bytes).map(|_| Sent { byte: scene.random.u8(..), needs: at }).collect();
        output.splice(at as usize..at as usize, extra);
        let begin = (at..).find(|&place| output[place as usize].byte != scene.sent(place).byte)?;
        // Equal to the bytes before it, it is those, sent twice; equal to what comes next, it came early.
        let copy = begin.checked_sub(bytes).is_some_and(|from| {
            output[begin as usize..]
                .iter()
                .zip(from..)
                .take(8)
                .all(|(sent, from)| sent.byte == scene.sent(from).byte)
        });
        (begin == at && !copy).then_some((output, Kind::Extra { bytes }))
    });
}

#[test]
fn an_answer_before_the_question_is_found() {
    each("early", |scene| {
        // From somewhere on the server answers so many bytes before it could know them.
        let ahead = scene.random.u64(2..=BEYOND);
        let from = scene.random.u64(0..=scene.total()) as usize;
        let mut output = scene.honest();
        let total = scene.total();
        output.extend((total..total + ahead).map(|offset| scene.sent(offset)));
        output[from..].iter_mut().for_each(|sent| sent.needs = sent.needs.saturating_sub(ahead));
        Some((output, Kind::Early))
    });
}

#[test]
fn of_two_faults_the_first_is_named() {
    let stream = Stream::new(Key::of(8), 8);
    let mut honest = vec![0; 10_000];
    stream.fill(0, &mut honest);
    let mut noise = [0; 77];
    Stream::new(Key::of(9), 9).fill(0, &mut noise);
    let mut other = [0; 100];
    Stream { connection: 9, ..stream }.fill(0, &mut other);
    let faults: [(&str, Kind, Vec<&[u8]>); 7] = [
        (
            "a loss, then doubled bytes",
            Kind::Lost { bytes: 5 },
            vec![&honest[..100], &honest[105..5_000], &honest[4_000..]],
        ),
        (
            "a loss, then another",
            Kind::Lost { bytes: 5 },
            vec![&honest[..100], &honest[105..5_000], &honest[5_001..]],
        ),
        (
            "a loss, then garbage",
            Kind::Lost { bytes: 5 },
            vec![&honest[..100], &honest[105..5_000], &noise, &honest[5_077..]],
        ),
        (
            "doubled bytes, then a loss",
            Kind::Duplicated { bytes: 100 },
            vec![&honest[..100], &honest[..5_000], &honest[6_000..]],
        ),
        (
            "fewer bytes of no known origin in place of more",
            Kind::Lost { bytes: 30 },
            vec![&honest[..100], &noise[..20], &honest[150..]],
        ),
        (
            "bytes of no known origin, then another connection from its beginning",
            Kind::Foreign { connection: 9, offset: 0 },
            vec![&honest[..100], &noise[..20], &other, &honest[220..]],
        ),
        (
            "garbage, then a loss",
            Kind::Garbage { bytes: 20 },
            vec![&honest[..100], &noise[..20], &honest[120..5_000], &honest[5_001..]],
        ),
    ];
    for (name, kind, pieces) in faults {
        let came = pieces.concat();
        let mut verifier = Verifier::new();
        let verdict = verifier.received(stream, 10_000, &came[..came.len().min(10_000)]);
        let wrong = match verdict {
            Verdict::Wrong(wrong) => Some(wrong),
            _ => verifier.ended(stream, 10_000, Ending::Silent),
        };
        let wrong = wrong.unwrap_or_else(|| panic!("{name}: not found"));
        assert_eq!((wrong.offset, wrong.kind), (100, kind), "{name}");
    }
}

/// A loss is known by the right bytes that follow it too early. Where something else comes before there are
/// enough of them, they say nothing: the limit, so that nobody promises more.
#[test]
fn a_gap_shows_by_the_bytes_behind_it_and_too_few_of_them_are_garbage() {
    let stream = Stream::new(Key::of(8), 8);
    let mut honest = vec![0; 10_000];
    stream.fill(0, &mut honest);
    let mut noise = [0; 77];
    Stream::new(Key::of(9), 9).fill(0, &mut noise);
    for (lost, behind, shows) in
        [(5, 8, true), (14, 8, true), (5, 7, false), (14, 7, false), (1_000, 15, true), (1_000, 7, false)]
    {
        let right = &honest[100 + lost..100 + lost + behind];
        let came = [&honest[..100], right, &noise, &honest[100 + behind + noise.len()..]].concat();
        let mut verifier = Verifier::new();
        let Verdict::Wrong(wrong) = verifier.received(stream, 10_000, &came) else {
            panic!("{lost} lost, {behind} behind: not found")
        };
        let kind = if shows {
            Kind::Lost { bytes: lost as u64 }
        } else {
            Kind::Garbage { bytes: (behind + noise.len()) as u64 }
        };
        assert_eq!((wrong.offset, wrong.kind), (100, kind), "{lost} lost, {behind} behind");
    }
}

#[test]
fn an_early_end_is_found_and_counted() {
    for seed in seeds::several(INSTANCES) {
        let mut scene = Scene::draw(seed);
        let mut output = scene.honest();
        let bytes = if seed % 2 == 0 { 1 } else { scene.random.u64(1..=scene.total()) };
        output.truncate(output.len() - bytes as usize);
        let end = output.len() as u64;
        let done = scene.ends.partition_point(|&message| message <= end);
        let asked = scene.ends[scene.ends.len().min(done.saturating_add(scene.depth)) - 1];
        for (ending, kind) in [
            (Ending::Closed, Kind::EndedEarly { bytes: asked - end }),
            (Ending::Silent, Kind::Stalled { bytes: asked - end }),
        ] {
            let wrong = scene.deliver(&output, ending).wrong.expect("bytes are owed");
            assert_eq!((wrong.offset, wrong.kind, wrong.got), (end, kind, vec![]), "seed {seed}");
        }
    }
}
