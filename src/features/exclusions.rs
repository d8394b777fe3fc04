//! Values that do not go together, and numbers that would change nothing: what is refused by name although
//! the kernel offers each of it.

use super::table::Form;
use super::{Kind, Problem, Typed};
use crate::units;

/// Two values that do not go together.
pub(super) struct Exclusion {
    pub(super) one: (&'static str, &'static str),
    pub(super) other: (&'static str, &'static str),
    /// What the other dimension takes where it was not typed.
    pub(super) instead: &'static str,
    /// Whose fault it is where both were.
    pub(super) kind: Kind,
    pub(super) why: &'static str,
}

const NO_KERNEL_PICKS: &str = "its receives are system calls, and the server picks their buffers itself";

const FROM_A_RING: &str = "a bundle takes its buffers from a ring";
const ONE_BUFFER: &str = "a send without a copy takes one buffer";
const ORDER_WAS_LOST: &str = "kernels lost the order of bytes with both until 2026, and may not say that no \
                              buffer is left (axboe/liburing issue 1320)";

/// All such pairs. In each the other is a value that can be in force without having been typed, or one
/// that cannot go with the first.
pub(super) const EXCLUSIONS: &[Exclusion] = &[
    Exclusion {
        one: ("taskrun", "sqpoll"),
        other: ("cqe-skip", "on"),
        instead: "off",
        kind: Kind::Usage,
        why: "the kernel thread that submits does not say when it is done with a send that says nothing",
    },
    Exclusion {
        one: ("taskrun", "sqpoll"),
        other: ("wait", "min:COUNT:TIME"),
        instead: "one",
        kind: Kind::Unavailable,
        why: "with both, kernels wait for the whole time whatever has come (axboe/liburing issue 1477)",
    },
    Exclusion {
        one: ("buffers", "owned"),
        other: ("recv", "multishot"),
        instead: "single",
        kind: Kind::Usage,
        why: "a multishot receive takes its buffers from those of all",
    },
    Exclusion {
        one: ("recv", "poll"),
        other: ("cqe-skip", "on"),
        instead: "off",
        kind: Kind::Usage,
        why: "its sends are system calls, which have no completion to leave out",
    },
    Exclusion {
        one: ("recv", "poll"),
        other: ("files", "direct"),
        instead: "normal",
        kind: Kind::Usage,
        why: "its receives and sends are system calls, which know no slots of a ring",
    },
    Exclusion {
        one: ("recv", "poll"),
        other: ("poll-first", "on"),
        instead: "off",
        kind: Kind::Usage,
        why: "it never receives before it was told that there is something",
    },
    Exclusion {
        one: ("recv", "poll"),
        other: ("buffers", "classic"),
        instead: "ring",
        kind: Kind::Usage,
        why: NO_KERNEL_PICKS,
    },
    Exclusion {
        one: ("recv", "poll"),
        other: ("buffers", "owned"),
        instead: "ring",
        kind: Kind::Usage,
        why: NO_KERNEL_PICKS,
    },
    Exclusion {
        one: ("recv", "poll"),
        other: ("buffers", "incremental"),
        instead: "ring",
        kind: Kind::Usage,
        why: NO_KERNEL_PICKS,
    },
    Exclusion {
        one: ("send", "zc"),
        other: ("cqe-skip", "on"),
        instead: "off",
        kind: Kind::Usage,
        why: "a send without a copy has a completion, and says later when it is done",
    },
    Exclusion {
        one: ("send", "zc"),
        other: ("recv", "poll"),
        instead: "multishot",
        kind: Kind::Usage,
        why: "its sends are system calls",
    },
    Exclusion {
        one: ("send", "zc"),
        other: ("buffers", "owned"),
        instead: "ring",
        kind: Kind::Usage,
        why: "a buffer of its own must be free for the next connection at once",
    },
    Exclusion {
        one: ("send", "zc"),
        other: ("buffers", "incremental"),
        instead: "ring",
        kind: Kind::Usage,
        why: "a piece that the kernel still reads would hold up its whole buffer",
    },
    Exclusion {
        one: ("bundle", "recv"),
        other: ("buffers", "incremental"),
        instead: "ring",
        kind: Kind::Unavailable,
        why: ORDER_WAS_LOST,
    },
    Exclusion {
        one: ("bundle", "recv"),
        other: ("recv", "poll"),
        instead: "multishot",
        kind: Kind::Usage,
        why: "a plain receive fills one buffer",
    },
    Exclusion {
        one: ("bundle", "recv"),
        other: ("buffers", "classic"),
        instead: "ring",
        kind: Kind::Usage,
        why: FROM_A_RING,
    },
    Exclusion {
        one: ("bundle", "recv"),
        other: ("buffers", "owned"),
        instead: "ring",
        kind: Kind::Usage,
        why: FROM_A_RING,
    },
    Exclusion {
        one: ("bundle", "send"),
        other: ("recv", "poll"),
        instead: "multishot",
        kind: Kind::Usage,
        why: "its sends are system calls",
    },
    Exclusion {
        one: ("bundle", "send"),
        other: ("buffers", "owned"),
        instead: "ring",
        kind: Kind::Usage,
        why: "a connection with one buffer never has several to send",
    },
    Exclusion {
        one: ("bundle", "send"),
        other: ("send", "zc"),
        instead: "plain",
        kind: Kind::Usage,
        why: ONE_BUFFER,
    },
    Exclusion {
        one: ("bundle", "both"),
        other: ("buffers", "incremental"),
        instead: "ring",
        kind: Kind::Unavailable,
        why: ORDER_WAS_LOST,
    },
    Exclusion {
        one: ("bundle", "both"),
        other: ("recv", "poll"),
        instead: "multishot",
        kind: Kind::Usage,
        why: "its receives and sends are system calls",
    },
    Exclusion {
        one: ("bundle", "both"),
        other: ("buffers", "classic"),
        instead: "ring",
        kind: Kind::Usage,
        why: FROM_A_RING,
    },
    Exclusion {
        one: ("bundle", "both"),
        other: ("buffers", "owned"),
        instead: "ring",
        kind: Kind::Usage,
        why: FROM_A_RING,
    },
    Exclusion {
        one: ("bundle", "both"),
        other: ("send", "zc"),
        instead: "plain",
        kind: Kind::Usage,
        why: ONE_BUFFER,
    },
];

/// What was typed and would change nothing, a problem each.
pub(super) fn without_effect(typed: &Typed, cq: u32, buffer_size: u32) -> Vec<Problem> {
    let mut problems = Vec::new();
    if let Some([count, _]) = typed.amounts("wait").filter(|&[count, _]| count > cq) {
        problems.push(format!(
            "--uring: wait=min:{count}: there is room for {cq} completions only; wait=min:{cq} or \
             cq={} would do",
            count.next_power_of_two()
        ));
    }
    let owned = typed.get("buffers").is_some_and(|entry| entry.value.form == Form::Word("owned"));
    if owned && typed.get("buffer-count").is_some() {
        problems.push(
            "--uring: buffer-count: with buffers=owned there is one buffer for each of --max-connections; \
             leaving it out would do"
                .into(),
        );
    }
    if let Some([cap, _]) = typed.amounts("recv-cap").filter(|&[cap, _]| cap > buffer_size) {
        let print = |bytes: u32| units::print_bytes(bytes.into());
        problems.push(format!(
            "--uring: recv-cap={} is above the {} of a buffer (buffer-size); recv-cap={} would do",
            print(cap),
            print(buffer_size),
            print(buffer_size)
        ));
    }
    problems.into_iter().map(Problem::usage).collect()
}
