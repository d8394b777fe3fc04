//! How the numbers are to be read, and what they do not show.

use super::Matter;
use crate::report::document::Part;

const READING: [&str; 8] = [
    "A ratio is variant over reference, and below 1 the variant costs less. It is the median of ratios taken \
     block by block; in a block the two take turns (A B B A or B A A B), so that a machine that drifts \
     drifts for both.",
    "An interval of 95 % covers the truth in 19 of 20 such measurements. Below 20 blocks it is made of order \
     statistics, above by a bootstrap; with fewer than six blocks it is the whole range, and less sure.",
    "Better and worse need both headlines on the same side of 1 with their whole intervals: server CPU, by more \
     than the band, and server + client CPU. On loopback a server can push work to its client's account; the \
     second ratio shows that.",
    "Below a cost stands its least slice. Other work on the machine can only add to CPU time, so that it is nearest \
     to the true cost; but a single lucky slice makes it, and no verdict rests on it.",
    "Each process of a server has an environment of a length of its own (padding), so that where its memory happens \
     to lie is not the same luck every time; all suites but quick start fresh ones for each block. The second half \
     is the rate of a slice's second half over that of its first: far from 1 it had not settled.",
    "The floor is the same server against itself, from the equal slices within the blocks. What differs by less \
     than the floor is not known to differ.",
    "Same: both intervals lie within the band, and the band within 5 %. Undecided: it cannot be said; a longer \
     bench might.",
    "Slices disturbed by other work, or begun on a CPU that was slow at a fixed piece of work, were repeated, within \
     a bound; those that stayed disturbed count, and are marked. Slices in which the client could not keep the \
     offered rate, bytes were wrong or a ring overflowed without being asked to count nowhere.",
];

const BETWEEN: &str = "Between results the ratios are compared, never the times: each has its own machine for a yardstick. \
     The factor is the median of all quotients of single blocks (Hodges and Lehmann), its interval that of \
     Mann and Whitney's test, counted out exactly up to 30 blocks a side.";

const LOOPBACK: [&str; 5] = [
    "Both ends ran on one machine, over loopback: there is no network card, no hardware interrupt and no wire, and \
     a packet may be 65,536 bytes long.",
    "The receiver's TCP work runs in the sender's softirq, so some of the server's work stands on the client's \
     account, and the other way round.",
    "Both ends share caches, memory and one pool of ports; kernel memory is counted for both ends.",
    "An echo server does no work of its own: what one side saves is a larger share here than in a server that does \
     something.",
    "A comparison between the two on this machine, and nothing else: no number here is the capacity of a network \
     server.",
];

pub(super) fn parts(matter: &Matter<'_>) -> Vec<Part> {
    let mut reading: Vec<String> = READING.map(String::from).into();
    if matter.several() {
        reading.push(BETWEEN.into());
    }
    // The bench knows where it ran; what it says of loopback goes before what is said here.
    let own = matter.sources.iter().flat_map(|source| &source.result.caveats);
    let told = own.clone().any(|caveat| caveat.contains("loopback"));
    let mut caveats: Vec<String> = if told { Vec::new() } else { LOOPBACK.map(String::from).into() };
    for caveat in own {
        if !caveats.contains(caveat) {
            caveats.push(caveat.clone());
        }
    }
    vec![Part::List { items: reading }, Part::heading("What it does not show"), Part::List { items: caveats }]
}
