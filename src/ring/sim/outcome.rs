//! Everything the fake kernel may answer, by name, and how often each was drawn. A simulation that
//! never draws an outcome proves nothing about it, so the counts are asserted.

macro_rules! outcomes {
    ($($(#[$doc:meta])* $variant:ident = $name:literal,)*) => {
        /// One thing the kernel may legally do.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Outcome {
            $($(#[$doc])* #[doc = concat!("`", $name, "`")] $variant,)*
        }

        impl Outcome {
            /// All of them, in the order of the table.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The name in the table.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }
        }
    };
}

outcomes! {
    AcceptMore = "accept: a socket, more follow",
    AcceptOnce = "accept: a socket, as asked for one",
    AcceptEnds = "accept: a socket in the last completion",
    AcceptQueueFull = "accept: a socket in the last completion, as the queue was full",
    AcceptResetPeer = "accept: a socket whose peer has reset it",
    AcceptDataWaiting = "accept: a socket with bytes waiting",
    AcceptNumberReused = "accept: a number given back in the same batch",
    AcceptAborted = "accept: ECONNABORTED",
    AcceptProtocol = "accept: EPROTO",
    AcceptMemory = "accept: ENOMEM",
    AcceptDescriptorsIdle = "accept: EMFILE with nobody waiting",
    AcceptDescriptorsQueued = "accept: EMFILE with somebody waiting",
    AcceptTableDrops = "accept: ENFILE, the connection dropped",
    AcceptCancelled = "accept: ECANCELED",
    AcceptCancelledSocket = "accept: cancelled, and a socket all the same",

    ReceiveMore = "receive: bytes, more follow",
    ReceiveOnce = "receive: bytes, as asked for once",
    ReceiveEnds = "receive: bytes in the last completion",
    ReceiveQueueFull = "receive: bytes in the last completion, as the queue was full",
    ReceiveLimit = "receive: ended at its limit",
    ReceiveLimitPassed = "receive: ended beyond its limit",
    ReceiveByte = "receive: one byte of several",
    ReceiveWhole = "receive: a whole buffer",
    ReceiveSeveral = "bundle: a buffer of several that one receive fills",
    ReceiveNoBuffersArming = "receive: ENOBUFS at once",
    ReceiveNoBuffersData = "receive: ENOBUFS when bytes came",
    ReceiveIdleArmed = "receive: armed on an idle peer, nothing taken",
    ReceiveEnd = "receive: the end",
    ReceiveEndBuffer = "receive: the end, with a buffer",
    ReceiveEndWithData = "receive: bytes and the end in one enter",
    ReceiveReset = "receive: ECONNRESET",
    ReceiveTimedOut = "receive: ETIMEDOUT",
    ReceiveCancelled = "receive: ECANCELED",
    ReceiveCancelledData = "receive: cancelled, and bytes all the same",
    ReceiveCancelledEnd = "receive: cancelled, and the end all the same",

    KeptMore = "kept: a send was answered, and its bytes are still read",
    KeptNot = "kept: a send was answered, and that was all",
    KeptNotice = "kept: they are read no more",
    PieceMore = "piece: of a buffer, and more of it to come",
    PieceLast = "piece: of a buffer, the last",

    ReceiveNowData = "receive now: bytes",
    ReceiveNowEmpty = "receive now: EAGAIN",
    ReceiveNowEnd = "receive now: the end",
    ReceiveNowEndBuffer = "receive now: the end, with a buffer",
    ReceiveNowNoBuffers = "receive now: ENOBUFS",
    ReceiveNowReset = "receive now: ECONNRESET",

    SendWhole = "send: whole",
    SendSkipped = "send: all of it, and no completion",
    SendShort = "send: short",
    SendFull = "send: EAGAIN",
    SendInterrupted = "send: EINTR",
    SendCancelledUnasked = "send: ECANCELED, which nobody asked for",
    SendBroken = "send: EPIPE",
    SendReset = "send: ECONNRESET",

    LentMore = "lent: some of it, more follows",
    LentWhole = "lent: all of it",
    LentSkipped = "lent: all of it, and no completion",
    LentBetween = "lent: ended between two spans",
    LentWithin = "lent: ended within a span",
    LentFull = "lent: EAGAIN",
    LentFullLater = "lent: EAGAIN after some of it",

    RoomMore = "room: there is some, more news may follow",
    RoomEnds = "room: there is some, and this was the last news",
    RoomSpurious = "room: news of nothing",
    RoomCancelled = "room: ECANCELED",

    WatchMore = "watch: news, and more may follow",
    WatchEnds = "watch: news, and these were the last",
    WatchQueueFull = "watch: news in the last completion, as the queue was full",
    WatchEndWithData = "watch: bytes and the end in one",
    WatchUrgent = "watch: an urgent mark, and bytes behind it",
    WatchFailed = "watch: an error",
    WatchStale = "watch: bytes that were taken meanwhile",
    WatchSpurious = "watch: news of nothing",
    WatchMemory = "watch: ENOMEM, and it never begins",
    WatchCancelled = "watch: ECANCELED",
    WatchCancelledNews = "watch: cancelled, and news all the same",

    CallReceiveData = "call: receive, all that there is",
    CallReceivePart = "call: receive, a part, and the rest arrives later",
    CallReceiveUpToMark = "call: receive, up to an urgent mark, and more lies behind it",
    CallReceiveEmpty = "call: receive, EAGAIN",
    CallReceiveEarly = "call: receive, EAGAIN, and bytes arrive right after it",
    CallReceiveEnd = "call: receive, the end",
    CallReceiveInterrupted = "call: receive, EINTR",
    CallReceiveFailed = "call: receive, an error",
    CallSendWhole = "call: send, whole",
    CallSendShort = "call: send, short",
    CallSendFull = "call: send, EAGAIN",
    CallSendInterrupted = "call: send, EINTR",
    CallSendFailed = "call: send, an error",

    CancelDoneBefore = "cancel: 0 before the target's last",
    CancelDoneAfter = "cancel: 0 after the target's last",
    CancelMissingBefore = "cancel: ENOENT before the target's last",
    CancelMissingAfter = "cancel: ENOENT after the target's last",
    CancelBusyBefore = "cancel: EALREADY before the target's last",
    CancelBusyAfter = "cancel: EALREADY after the target's last",

    CountExact = "count: as many as have arrived",
    CountNothing = "count: nothing",
    CountTooMany = "count: more than can be received",
    CountUnsupported = "count: EOPNOTSUPP",
    CountFailed = "count: EINVAL",

    HandGiven = "hand: a descriptor, and it was closed there",
    HandShared = "hand: a slot, and it was closed there",
    HandOverflow = "hand: EOVERFLOW, nothing given",
    HandStranded = "hand: EOVERFLOW, given and not told of",
    HandDisabled = "hand: EBADFD",
    HandMemory = "hand: ENOMEM",
    HandOwnerGone = "hand: EOWNERDEAD",
    HandTableFull = "hand: ENFILE",
    HandAtStop = "hand: answered when the server stops",

    Arrival = "arrival: a socket",
    ArrivalQueueFull = "arrival: a socket, while the queue was full",
    ArrivalAtStop = "arrival: while the server stops",
    ArrivalTableFull = "arrival: none, as no slot is free",
    ArrivalStranded = "arrival: a socket in a slot, and no word of it",
    ArrivalFails = "arrival: none, as the message failed",

    ShutdownDone = "shutdown: 0",
    ShutdownUnconnected = "shutdown: ENOTCONN",
    CloseClean = "close: nothing unread",
    CloseUnread = "close: unread bytes, the peer is reset",

    WakeupMore = "wake-up: more follow",
    WakeupEnds = "wake-up: the last",
    WakeupsMerged = "wake-up: several in one",

    EnterBusy = "enter: EBUSY",
    EnterInterrupted = "enter: EINTR, all submitted",
    EnterInterruptedPart = "enter: EINTR, a part submitted",
    EnterTimedOut = "enter: the time ran out",
    EnterMinimumNone = "wait: for several, and nothing came",
    EnterMinimumFew = "wait: for several, and fewer came",
    EnterMinimumMet = "wait: for several, and they came",
    ThreadLate = "wait: the thread took what was pushed later",
    QueueOverflowed = "completion queue: overflow kept",
    QueueFlushed = "completion queue: overflow flushed",
    PushSubmits = "push: the full queue was submitted",
    PushWaits = "push: the operation waits for a place",

    OpenDone = "open: a socket",
    OpenNumberReused = "open: a number given back in the same batch",
    OpenDescriptors = "open: EMFILE",
    OpenSource = "open: EADDRNOTAVAIL",
    OpenMemory = "open: ENOBUFS or ENOMEM",
    ConnectStands = "connect: it stands",
    ConnectRefused = "connect: ECONNREFUSED",
    ConnectReset = "connect: ECONNRESET",
    ConnectUnreachable = "connect: EHOSTUNREACH",
    ConnectPorts = "connect: EADDRNOTAVAIL",
    ConnectTimedOut = "connect: ETIMEDOUT",
    ConnectCancelled = "connect: ECANCELED",
    ConnectCancelledStands = "connect: cancelled, and it stands all the same",
    ServerByte = "server: writes one byte of several",
    ServerBlocked = "server: the client does not read",
    ServerFinishes = "server: finishes after the client",
    ServerFinishesEarly = "server: finishes early",
    ServerResets = "server: resets",
    ServerStalls = "server: says nothing any more",
    LieFlip = "lie: a bit turned over",
    LieDrop = "lie: bytes left out",
    LieDouble = "lie: bytes twice",
    LieSwap = "lie: neighbours swapped",
    LieCross = "lie: bytes of another connection",
    LieExtra = "lie: bytes that nobody sent",
    LieEarly = "lie: bytes before anything was received",
    LieStall = "lie: nothing any more",
    LieFinish = "lie: the end though more is owed",

    PeerResets = "peer: resets",
    PeerFinishesWithData = "peer: FIN together with bytes",
    PeerBlocked = "peer: the server does not read",
    BurstOfConnects = "peer: several connect at one moment",
}

/// On which side of a connection the caller is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Side {
    /// It accepts.
    #[default]
    Server,
    /// It connects.
    Client,
}

impl Outcome {
    /// Whether it can be drawn for a caller on this side. By the word it begins with; what is on no list
    /// is for both.
    #[must_use]
    pub fn is_for(self, side: Side) -> bool {
        const SERVER: [&str; 13] = [
            "accept",
            "arrival",
            "hand",
            "receive now",
            "count",
            "peer",
            "wait",
            "piece",
            "kept",
            "lent",
            "bundle",
            "watch",
            "call",
        ];
        const CLIENT: [&str; 4] = ["open", "connect", "server", "lie"];
        let begins = |words: &[&str]| words.contains(&self.name().split(':').next().unwrap_or(""));
        match side {
            Side::Server => !begins(&CLIENT),
            Side::Client => !begins(&SERVER),
        }
    }
}

/// How often each outcome was drawn, of those that can be.
#[derive(Clone, Debug)]
pub struct Coverage {
    side: Side,
    counts: [u64; Outcome::ALL.len()],
}

impl Default for Coverage {
    fn default() -> Self {
        Self::of(Side::default())
    }
}

impl Coverage {
    /// Nothing drawn yet, for a caller on this side.
    #[must_use]
    pub const fn of(side: Side) -> Self {
        Self { side, counts: [0; Outcome::ALL.len()] }
    }

    fn outcomes(&self) -> impl Iterator<Item = Outcome> {
        Outcome::ALL.iter().copied().filter(|one| one.is_for(self.side))
    }

    pub(super) fn note(&mut self, outcome: Outcome) {
        self.counts[outcome as usize] += 1;
    }

    /// How often `outcome` was drawn.
    #[must_use]
    pub fn count(&self, outcome: Outcome) -> u64 {
        self.counts[outcome as usize]
    }

    /// Adds the counts of another run.
    pub fn merge(&mut self, other: &Self) {
        self.counts.iter_mut().zip(other.counts).for_each(|(count, more)| *count += more);
    }

    /// One line per outcome.
    #[must_use]
    pub fn table(&self) -> String {
        self.outcomes().map(|one| format!("{:>10}  {}\n", self.count(one), one.name())).collect()
    }

    /// Outcomes drawn fewer than `times` times.
    #[must_use]
    pub fn below(&self, times: u64) -> Vec<&'static str> {
        self.outcomes().filter(|&one| self.count(one) < times).map(Outcome::name).collect()
    }
}
