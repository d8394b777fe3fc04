//! What a kernel said when it was asked for each thing the rings can use: values, so that the rest of
//! this room is pure. The asking is done in `ring::probe`.

/// Something a kernel can do for a ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Capability {
    /// Promise that one thread submits.
    SingleIssuer,
    /// Submit what follows an entry that failed.
    SubmitAll,
    /// Completion work when the owner asks.
    DeferTaskrun,
    /// Completion work at any transition to the kernel.
    CoopTaskrun,
    /// A submission queue without index array.
    NoSqarray,
    /// A ring named by a registered index.
    RegisteredRingFd,
    /// A ring of provided buffers.
    BufferRing,
    /// A receive that answers many times.
    MultishotReceive,
    /// An accept that answers many times.
    MultishotAccept,
    /// A table of sockets in the ring.
    DirectDescriptors,
    /// A multishot receive that ends after a number of bytes.
    ReceiveLimit,
    /// No completion for a send that succeeds, and one for a send that comes short.
    SkipSent,
    /// Ask a socket, through the ring, how much has arrived.
    CountArrived,
    /// A kernel thread that submits.
    SubmissionThread,
    /// Buffers provided by requests.
    ClassicBuffers,
    /// A watch of a socket that answers many times.
    MultishotPoll,
    /// A receive that fills several buffers, in order.
    ReceiveBundle,
    /// A send from several buffers, in order, and what is left of one that comes short.
    SendBundle,
    /// Both kinds of bundles.
    BothBundles,
    /// Buffers that are filled bit by bit, in order.
    IncrementalBuffers,
    /// A send that reads the caller's memory until it says that it is done.
    ZeroCopySend,
    /// A receive that waits before its first try.
    PollFirst,
    /// Waiting that does not count as waiting for a disk.
    NoIowait,
    /// Polling of the network card while waiting.
    Napi,
    /// A wait that ends at several completions or after a time.
    MinimumWait,
    /// Give a socket to another ring.
    HandOn,
}

impl Capability {
    /// All of them, in the order they are asked for.
    pub const ALL: [Self; 26] = [
        Self::SingleIssuer,
        Self::SubmitAll,
        Self::DeferTaskrun,
        Self::CoopTaskrun,
        Self::NoSqarray,
        Self::RegisteredRingFd,
        Self::BufferRing,
        Self::MultishotReceive,
        Self::MultishotAccept,
        Self::DirectDescriptors,
        Self::ReceiveLimit,
        Self::SkipSent,
        Self::CountArrived,
        Self::SubmissionThread,
        Self::ClassicBuffers,
        Self::MultishotPoll,
        Self::ZeroCopySend,
        Self::PollFirst,
        Self::NoIowait,
        Self::Napi,
        Self::MinimumWait,
        Self::SendBundle,
        Self::HandOn,
        // These come last: each has buffers of its own registered in place of the others'.
        Self::ReceiveBundle,
        Self::BothBundles,
        Self::IncrementalBuffers,
    ];
    /// What the server by completion cannot do without (Linux 6.0).
    pub const FLOOR: [Self; 3] = [Self::SingleIssuer, Self::BufferRing, Self::MultishotReceive];

    /// Its name in a sentence.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::SingleIssuer => "a ring with a single issuer",
            Self::SubmitAll => "submitting past a failed entry",
            Self::DeferTaskrun => "deferred task work",
            Self::CoopTaskrun => "cooperative task work",
            Self::NoSqarray => "a submission queue without index array",
            Self::RegisteredRingFd => "a registered ring descriptor",
            Self::BufferRing => "a ring of provided buffers",
            Self::MultishotReceive => "multishot receive",
            Self::MultishotAccept => "multishot accept",
            Self::DirectDescriptors => "direct descriptors",
            Self::ReceiveLimit => "a limit for multishot receive",
            Self::SkipSent => "leaving out the completion of a send",
            Self::CountArrived => "asking a socket through the ring how much has arrived",
            Self::SubmissionThread => "a kernel thread that submits",
            Self::ClassicBuffers => "providing buffers by requests",
            Self::MultishotPoll => "a watch of a socket that goes on",
            Self::ReceiveBundle => "a receive into several buffers, in order",
            Self::SendBundle => "a send from several buffers, in order",
            Self::BothBundles => "receives into and sends from several buffers, in order",
            Self::IncrementalBuffers => "a ring whose buffers are filled bit by bit, in order",
            Self::ZeroCopySend => "sending without a copy",
            Self::PollFirst => "waiting before the first try to receive",
            Self::NoIowait => "waiting that is not accounted as waiting for a disk",
            Self::Napi => "polling the network card while waiting",
            Self::HandOn => "giving a socket to another ring",
            Self::MinimumWait => "waiting for several completions, and after a time for one",
        }
    }

    /// The release of Linux it came with.
    #[must_use]
    pub const fn since(self) -> &'static str {
        match self {
            Self::SkipSent => "5.17",
            Self::SubmitAll | Self::RegisteredRingFd => "5.18",
            Self::ClassicBuffers => "5.7",
            Self::SubmissionThread | Self::MultishotPoll => "5.13",
            Self::CoopTaskrun
            | Self::BufferRing
            | Self::MultishotAccept
            | Self::DirectDescriptors
            | Self::PollFirst => "5.19",
            Self::SingleIssuer | Self::MultishotReceive | Self::ZeroCopySend | Self::HandOn => "6.0",
            Self::DeferTaskrun => "6.1",
            Self::NoSqarray => "6.6",
            Self::CountArrived => "6.7",
            Self::Napi => "6.9",
            Self::ReceiveBundle | Self::SendBundle | Self::BothBundles => "6.10",
            Self::MinimumWait | Self::IncrementalBuffers => "6.12",
            Self::NoIowait => "6.15",
            Self::ReceiveLimit => "6.17",
        }
    }
}

/// What this kernel said.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Answers {
    /// Its release, as it names itself; empty when it could not be read.
    pub release: String,
    /// Why there is no io_uring at all, a sentence with the remedy.
    pub barred: Option<String>,
    /// What it refused, and what it answered. What is not here was tried and works.
    pub refused: Vec<(Capability, String)>,
}

impl Answers {
    /// What the kernel answered when it refused this.
    #[must_use]
    pub fn refusal(&self, capability: Capability) -> Option<&str> {
        self.refused.iter().find(|(refused, _)| *refused == capability).map(|(_, answer)| answer.as_str())
    }

    /// Whether it can be used.
    #[must_use]
    pub fn offers(&self, capability: Capability) -> bool {
        self.barred.is_none() && self.refusal(capability).is_none()
    }

    /// That it is missing, as a sentence without its full stop; `None` when it is there.
    #[must_use]
    pub fn missing(&self, capability: Capability) -> Option<String> {
        let answer = self.refusal(capability)?;
        Some(format!(
            "{} is not offered by this kernel ({}answered {answer}; it came with Linux {})",
            capability.name(),
            if self.release.is_empty() { String::new() } else { format!("{}, ", self.release) },
            capability.since()
        ))
    }

    /// Why the server by completion cannot run here, a sentence; `None` when it can.
    #[must_use]
    pub fn unavailable(&self) -> Option<String> {
        let below = || Capability::FLOOR.iter().find_map(|&needed| self.missing(needed));
        self.barred.clone().or_else(|| below().map(|missing| format!("{missing}.")))
    }
}
