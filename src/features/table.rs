//! The table of features: every dimension, every value, and what each needs of the kernel. What is typed,
//! stored, probed, helped with and refused all comes from these rows.

use super::answers::Capability;

/// Something about a server that can be one way or another.
#[derive(Debug, PartialEq, Eq)]
pub struct Dimension {
    /// How it is typed.
    pub name: &'static str,
    /// What it decides, for `help`.
    pub about: &'static str,
    /// What it may be; the first is the default where nothing speaks against it.
    pub values: &'static [Value],
}

/// One of the ways.
#[derive(Debug, PartialEq, Eq)]
pub struct Value {
    /// How it is typed.
    pub form: Form,
    /// What it means, for `help`.
    pub about: &'static str,
    /// What the kernel must be able to do for it.
    pub needs: Option<Capability>,
    /// The release of Linux it came with, where that is above the floor of the backend.
    pub since: Option<&'static str>,
}

/// How a value is typed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// This word.
    Word(&'static str),
    /// A count within these bounds, a power of two where the last says so.
    Count(u64, u64, bool),
    /// Bytes within these bounds.
    Bytes(u64, u64),
    /// A time within these bounds, microseconds.
    Time(u64, u64),
    /// `min:COUNT:TIME`, with at most so many completions and microseconds.
    MinimumWait(u64, u64),
}

impl Form {
    /// How the value is named in `help` and in sentences.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Word(word) => word,
            Self::Count(..) => "COUNT",
            Self::Bytes(..) => "BYTES",
            Self::Time(..) => "TIME",
            Self::MinimumWait(..) => "min:COUNT:TIME",
        }
    }
}

const fn plain(word: &'static str, about: &'static str) -> Value {
    Value { form: Form::Word(word), about, needs: None, since: None }
}

const fn needing(word: &'static str, needs: Capability, about: &'static str) -> Value {
    amount(Form::Word(word), needs, about)
}

const fn amount(form: Form, needs: Capability, about: &'static str) -> Value {
    Value { form, about, needs: Some(needs), since: Some(needs.since()) }
}

const fn size(form: Form, about: &'static str) -> Value {
    Value { form, about, needs: None, since: None }
}

/// Entries of a submission queue at most, as the kernel has it.
pub const SQ_MAX: u64 = 32_768;
/// Entries of a completion queue at most, as the kernel has it.
pub const CQ_MAX: u64 = 65_536;
/// Buffers of a buffer ring at most, as the kernel has it.
pub const BUFFERS_MAX: u64 = 32_768;
/// Buffer groups at most that a ring has for connections: they are named by 16 bits, and one is received into.
pub const GROUPS_MAX: u32 = 65_535;
/// Connections at most: the slots an id can tell apart (24 bits, less the reserved ones).
pub const CONNECTIONS_MAX: u64 = (1 << 24) - 16;
/// The longest time a worker may be told to wait for more, or to poll: one second. A stop waits for it.
const TIME_MAX: u64 = 1_000_000;
/// The longest time the kernel polls a card for a ring (Linux 7.1 cuts what is longer).
const NAPI_MAX: u64 = 10_000;
/// Bytes of one buffer: at least a small message, at most what one receive can usefully bring.
const BUFFER_BYTES: Form = Form::Bytes(64, 16 << 20);

/// The dimensions of the server by completion, in the order they are printed.
pub const URING: &[Dimension] = &[
    Dimension {
        name: "accept",
        about: "how connections are accepted",
        values: &[
            needing("multishot", Capability::MultishotAccept, "one request for all connections"),
            plain("single", "one request for each connection"),
        ],
    },
    Dimension {
        name: "recv",
        about: "how bytes are received",
        values: &[
            needing("multishot", Capability::MultishotReceive, "one request until it ends"),
            plain("single", "one request for each receive"),
            needing("poll", Capability::MultishotPoll, "poll, then plain receives and sends"),
        ],
    },
    Dimension {
        name: "buffers",
        about: "where received bytes go",
        values: &[
            needing("ring", Capability::BufferRing, "a ring of buffers the kernel picks from"),
            needing("incremental", Capability::IncrementalBuffers, "a ring whose buffers fill bit by bit"),
            needing("classic", Capability::ClassicBuffers, "buffers provided by requests"),
            plain("owned", "one buffer for each connection"),
        ],
    },
    Dimension {
        name: "bundle",
        about: "several buffers in one completion",
        values: &[
            plain("off", "one buffer each"),
            needing("recv", Capability::ReceiveBundle, "receives"),
            needing("send", Capability::SendBundle, "sends; locks a page per connection"),
            needing("both", Capability::BothBundles, "receives and sends"),
        ],
    },
    Dimension {
        name: "send",
        about: "how bytes are sent",
        values: &[
            plain("plain", "copied into the socket"),
            needing("zc", Capability::ZeroCopySend, "zero-copy, one at a time of a connection"),
        ],
    },
    Dimension {
        name: "cqe-skip",
        about: "no completion for a send that succeeds",
        values: &[
            // Off first: it costs 0.95 of the server's CPU where there is time to spare, and the same where
            // there is none: docs/figures.md.
            plain("off", "every send completes"),
            needing("on", Capability::SkipSent, "only failures and short sends do"),
        ],
    },
    Dimension {
        name: "files",
        about: "what a connection is named by",
        values: &[
            plain("normal", "a descriptor of the process"),
            needing("direct", Capability::DirectDescriptors, "a slot in the ring's own table"),
        ],
    },
    Dimension {
        name: "taskrun",
        about: "when the kernel runs completion work",
        values: &[
            needing("defer", Capability::DeferTaskrun, "when the worker enters and waits"),
            needing("coop", Capability::CoopTaskrun, "when the worker next enters the kernel"),
            plain("default", "at once, by interrupting the worker"),
            needing("sqpoll", Capability::SubmissionThread, "in a kernel thread, asleep after 100ms"),
        ],
    },
    Dimension {
        name: "wait",
        about: "when a waiting worker wakes",
        values: &[
            plain("one", "at the first completion"),
            amount(
                Form::MinimumWait(CQ_MAX, TIME_MAX),
                Capability::MinimumWait,
                "at COUNT completions or after TIME",
            ),
        ],
    },
    Dimension {
        name: "poll-first",
        about: "wait before the first try to receive",
        values: &[plain("off", "try at once"), needing("on", Capability::PollFirst, "wait first")],
    },
    Dimension {
        name: "recv-cap",
        about: "most bytes in one completion of a receive",
        values: &[
            plain("off", "a buffer"),
            amount(Form::Bytes(1, 16 << 20), Capability::ReceiveLimit, "this many"),
        ],
    },
    Dimension {
        name: "no-iowait",
        about: "waiting is not accounted as waiting for a disk",
        values: &[plain("off", "it is"), needing("on", Capability::NoIowait, "it is not")],
    },
    Dimension {
        name: "napi",
        about: "poll the network card while waiting",
        values: &[
            plain("off", "no"),
            amount(Form::Time(1, NAPI_MAX), Capability::Napi, "for this long, at most 10ms"),
        ],
    },
    Dimension {
        name: "ring-fd",
        about: "how an enter names the ring",
        values: &[
            needing("registered", Capability::RegisteredRingFd, "by a registered index"),
            plain("plain", "by its descriptor"),
        ],
    },
    Dimension {
        name: "sqarray",
        about: "an index array in the submission queue",
        values: &[needing("off", Capability::NoSqarray, "left out"), plain("on", "kept")],
    },
    Dimension {
        name: "spread",
        about: "how connections are spread over workers",
        values: &[
            plain("reuseport", "each worker listens, the kernel spreads"),
            needing("msg-ring", Capability::HandOn, "one ring accepts and hands on"),
        ],
    },
    Dimension {
        name: "sq",
        about: "entries of the submission queue",
        values: &[size(Form::Count(1, SQ_MAX, true), "a power of two")],
    },
    Dimension {
        name: "cq",
        about: "entries of the completion queue",
        values: &[size(Form::Count(1, CQ_MAX, true), "a power of two, at least sq")],
    },
    Dimension {
        name: "buffer-count",
        about: "buffers of a worker",
        values: &[size(Form::Count(2, BUFFERS_MAX, true), "a power of two")],
    },
    Dimension {
        name: "buffer-size",
        about: "bytes of a buffer",
        values: &[size(BUFFER_BYTES, "64 to 16Mi")],
    },
];

/// The dimensions of the server by readiness, in the order they are printed.
pub const EPOLL: &[Dimension] = &[
    Dimension {
        name: "trigger",
        about: "when a readable socket is reported",
        values: &[plain("level", "while it is readable"), plain("edge", "when it becomes so")],
    },
    Dimension {
        name: "read",
        about: "how much is read at an event",
        values: &[plain("once", "one receive"), plain("drain", "until there is no more")],
    },
    Dimension {
        name: "threads",
        about: "who waits on what",
        values: &[
            plain("per-core", "each worker on an instance of its own"),
            plain("shared", "all workers on one instance, one-shot"),
        ],
    },
    Dimension {
        name: "busy-poll",
        about: "poll the network card while waiting",
        values: &[
            plain("off", "no"),
            Value {
                form: Form::Time(1, TIME_MAX),
                about: "for this long, at most 1s",
                // Asked for when the instance is made: no ring is needed for it.
                needs: None,
                since: Some("6.9"),
            },
        ],
    },
    Dimension {
        name: "buffer-size",
        about: "bytes a worker receives into",
        values: &[size(BUFFER_BYTES, "64 to 16Mi")],
    },
];

/// The dimension of this name.
#[must_use]
pub fn find(table: &'static [Dimension], name: &str) -> Option<&'static Dimension> {
    table.iter().find(|dimension| dimension.name == name)
}
