//! What the fake kernel may legally answer, and how often it did.

/// Declares the outcomes once: the enum, and their names for the table.
macro_rules! outcomes {
    ($($name:ident,)*) => {
        /// Something a kernel may legally do, or a peer.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(in crate::epoll_baseline) enum Outcome { $($name,)* }
        const NAMES: &[&str] = &[$(stringify!($name),)*];
    };
}

outcomes! {
    SpuriousIn,
    SpuriousOut,
    SpuriousWakeup,
    StaleEvent,
    BatchCutShort,
    BatchOutOfOrder,
    WaitInterrupted,
    InWithRdhup,
    RdhupBeforeDataRead,
    HupWithoutOut,
    ErrWithIn,
    Urgent,
    OneShotDisarmed,
    EdgeReported,
    LevelReportedAgain,
    ReceiveAll,
    ReceiveLimited,
    ReceiveStopsAtUrgentMark,
    ReceiveWouldBlock,
    ReceiveEnd,
    ReceiveReset,
    ReceiveTimedOut,
    DataArrivesDuringReceive,
    FinArrivesDuringReceive,
    ResetDuringReceive,
    SendAll,
    SendPartial,
    SendWouldBlockFull,
    SendWouldBlockShortOfMemory,
    SendReset,
    SendBrokenPipe,
    ResetDuringSend,
    AcceptDone,
    AcceptNobody,
    AcceptReusesDescriptor,
    AcceptOutOfDescriptors,
    AcceptOutOfMemory,
    AcceptAborted,
    AcceptNetworkDown,
    AcceptInterrupted,
    AcceptUnknownError,
    WatchOutOfMemory,
    ArrivedCountsTooMany,
    ShutdownDone,
    ShutdownNotConnected,
    CloseWithUnreadBytes,
    CloseClean,
    FinTogetherWithData,
    FinAlone,
    PeerHalfCloses,
    PeerResets,
    PeerBlocked,
    RoomReported,
}

/// How often each outcome was drawn.
#[derive(Clone, Debug)]
pub(in crate::epoll_baseline) struct Coverage([u64; NAMES.len()]);

impl Default for Coverage {
    fn default() -> Self {
        Self([0; NAMES.len()])
    }
}

impl Coverage {
    pub(in crate::epoll_baseline) fn note(&mut self, outcome: Outcome) {
        self.0[outcome as usize] += 1;
    }

    pub(in crate::epoll_baseline) fn merge(&mut self, other: &Self) {
        self.0.iter_mut().zip(other.0).for_each(|(sum, count)| *sum += count);
    }

    /// The outcomes drawn fewer than `least` times.
    pub(in crate::epoll_baseline) fn below(&self, least: u64) -> Vec<(&'static str, u64)> {
        NAMES.iter().copied().zip(self.0).filter(|&(_, count)| count < least).collect()
    }

    /// One line each.
    pub(in crate::epoll_baseline) fn table(&self) -> String {
        let line = |(name, count): (&&str, u64)| format!("{count:>10}  {name}\n");
        NAMES.iter().zip(self.0).map(line).collect()
    }
}
