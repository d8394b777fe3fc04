//! The rows of the fault list. A row is one body that runs against every variant of the server; what
//! holds after every row (see [`Case::close`]) is checked here, so that no row can forget it.

mod account;
mod ending;
mod features;
mod limits;
mod peers;
mod pressure;
mod ring;
mod signals;
mod spread;
mod start;
mod stop;

use crate::client::{Peer, exchange};
use crate::server::{Ended, GAUGES, Launch, Server};
use crate::skip::{Need, unless_missing};
use libtest_mimic::Trial;
use nix::sys::signal::Signal;
use std::sync::atomic::{AtomicU8, Ordering};

/// The servers every row is tried on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Variant {
    /// By completion.
    Uring,
    /// By completion, sockets in the ring's own table.
    UringDirect,
    /// By completion, a buffer for each connection.
    UringOwned,
    /// Readiness told by a ring, plain receives and sends.
    UringPoll,
    /// By completion, several buffers in one receive and in one send.
    UringBundle,
    /// By completion, one ring accepts and hands on.
    UringHandOn,
    /// By readiness.
    Epoll,
    /// By readiness, 17 threads on one instance.
    EpollShared,
}

/// All of them.
pub const EVERYWHERE: &[Variant] = &[
    Variant::Uring,
    Variant::UringDirect,
    Variant::UringOwned,
    Variant::UringPoll,
    Variant::UringBundle,
    Variant::UringHandOn,
    Variant::Epoll,
    Variant::EpollShared,
];
/// Those with a ring that does everything, and a pool of buffers.
pub const RINGS: &[Variant] = &[Variant::Uring, Variant::UringDirect];

impl Variant {
    /// Its name in the name of a test.
    pub fn name(self) -> &'static str {
        match self {
            Variant::Uring => "uring",
            Variant::UringDirect => "uring_direct",
            Variant::UringOwned => "uring_owned",
            Variant::UringPoll => "uring_poll",
            Variant::UringBundle => "uring_bundle",
            Variant::UringHandOn => "uring_hand_on",
            Variant::Epoll => "epoll",
            Variant::EpollShared => "epoll_shared",
        }
    }

    /// The command line of a server of this variant with nothing else asked for.
    pub fn command(self) -> Vec<String> {
        Row::new("", |_| {}).command(self)
    }

    /// Whether it has a ring.
    pub fn is_ring(self) -> bool {
        !matches!(self, Variant::Epoll | Variant::EpollShared)
    }

    fn features(self) -> &'static str {
        match self {
            Variant::UringDirect => "files=direct",
            Variant::UringOwned => "recv=single,buffers=owned",
            Variant::UringPoll => "recv=poll",
            Variant::UringBundle => "bundle=both",
            Variant::UringHandOn => "spread=msg-ring",
            Variant::EpollShared => "threads=shared",
            Variant::Uring | Variant::Epoll => "",
        }
    }
}

/// One row: a name that is a sentence, a body, and what the server is started with.
pub struct Row {
    name: String,
    body: fn(&mut Case),
    variants: &'static [Variant],
    arguments: Vec<String>,
    features: Vec<String>,
    workers: Option<usize>,
    needs: Vec<Need>,
    /// False where the body starts its own.
    started: bool,
}

/// A [`Row`] with the name of its body.
macro_rules! row {
    ($body:ident) => {
        $crate::rows::Row::new(stringify!($body), $body)
    };
}
pub(crate) use row;

impl Row {
    /// On every variant, with nothing but the variant's own arguments.
    pub fn new(name: &str, body: fn(&mut Case)) -> Self {
        Self {
            name: name.into(),
            body,
            variants: EVERYWHERE,
            arguments: Vec::new(),
            features: Vec::new(),
            workers: None,
            needs: Vec::new(),
            started: true,
        }
    }

    /// Only on these.
    pub fn on(mut self, variants: &'static [Variant]) -> Self {
        self.variants = variants;
        self
    }

    /// With these arguments, separated by blanks.
    pub fn with(mut self, arguments: &str) -> Self {
        self.arguments.extend(arguments.split_whitespace().map(String::from));
        self
    }

    /// With these features of its backend.
    pub fn features(mut self, features: &str) -> Self {
        self.features.push(features.into());
        self
    }

    /// With so many workers.
    pub fn workers(mut self, workers: usize) -> Self {
        self.workers = Some(workers);
        self
    }

    /// Only where this is to be had.
    pub fn needs(mut self, need: Need) -> Self {
        self.needs.push(need);
        self
    }

    /// The body starts what it needs itself.
    pub fn starts_its_own(mut self) -> Self {
        self.started = false;
        self
    }

    /// Says more in the name, where one body makes several rows.
    pub fn named(mut self, addition: &str) -> Self {
        self.name = format!("{}[{addition}]", self.name);
        self
    }

    /// The command line on `variant`.
    fn command(&self, variant: Variant) -> Vec<String> {
        let (backend, dimension) =
            if variant.is_ring() { ("uring", "--uring") } else { ("epoll", "--epoll") };
        let mut words: Vec<String> = ["--backend", backend, "--format", "json"].map(String::from).into();
        if !self.arguments.iter().any(|argument| argument == "--listen") {
            words.extend(["--listen", "127.0.0.1:0"].map(String::from));
        }
        let features: Vec<&str> = [variant.features()]
            .into_iter()
            .chain(self.features.iter().map(String::as_str))
            .filter(|features| !features.is_empty())
            .collect();
        if !features.is_empty() {
            words.extend([dimension.into(), features.join(",")]);
        }
        let workers = self.workers.or((variant == Variant::EpollShared).then_some(17));
        words.extend(workers.into_iter().flat_map(|workers| ["--workers".into(), workers.to_string()]));
        words.extend(self.arguments.iter().cloned());
        words
    }

    fn trials(self) -> Vec<Trial> {
        self.variants.iter().map(|&variant| self.trial(variant)).collect()
    }

    fn trial(&self, variant: Variant) -> Trial {
        let mut needs = self.needs.clone();
        needs.extend(variant.is_ring().then_some(Need::Uring));
        let bundles =
            variant == Variant::UringBundle || self.features.iter().any(|one| one.contains("bundle="));
        needs.extend(bundles.then_some(Need::Bundles));
        let (body, command, started) = (self.body, self.command(variant), self.started);
        unless_missing(format!("{}::{}", self.name, variant.name()), &needs, move || {
            let mut case = Case { command, server: None, before: [0; GAUGES.len()], descriptors: 0 };
            if started {
                case.start();
            }
            body(&mut case);
            case.close();
            Ok(())
        })
    }
}

/// One row on one variant while it runs.
pub struct Case {
    /// Its command line.
    pub command: Vec<String>,
    server: Option<Server>,
    before: [u64; GAUGES.len()],
    descriptors: usize,
}

impl Case {
    /// The server.
    #[track_caller]
    pub fn server(&self) -> &Server {
        self.server.as_ref().expect("the row has ended its server")
    }

    /// The command line with more arguments.
    pub fn launch(&self, more: &[&str]) -> Launch {
        Launch::new(self.command.iter().map(String::as_str).chain(more.iter().copied()))
    }

    /// Starts the server of the row.
    #[track_caller]
    pub fn start(&mut self) {
        self.adopt(self.launch(&[]).start());
    }

    /// Takes a server the row has started itself; what holds after every row holds for it.
    #[track_caller]
    pub fn adopt(&mut self, started: Result<Server, Ended>) {
        let server = started.unwrap_or_else(|ended| panic!("it did not start: {ended:?}"));
        let account = server.stats();
        self.before = account.gauges();
        // What is open at a start cannot be a connection.
        assert_eq!(account.get("open"), 0);
        self.descriptors = server.descriptors();
        self.server = Some(server);
    }

    /// Waits until nothing of the row is left in the server.
    #[track_caller]
    pub fn settle(&self) {
        let server = self.server();
        server.wait_until("the gauges are back", |account| account.gauges() == self.before);
        let from = std::time::Instant::now();
        while server.descriptors() > self.descriptors {
            assert!(from.elapsed() < crate::server::GUARD, "descriptors were left open");
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
    }

    /// Ends the server, and expects the account to be whole.
    #[track_caller]
    pub fn end(&mut self, signal: Signal) -> Ended {
        let ended = self.take().terminate(signal);
        account_is_whole(&ended);
        ended
    }

    /// Gives the server away: the row ends it by itself.
    #[track_caller]
    pub fn take(&mut self) -> Server {
        self.server.take().expect("the row has ended its server")
    }

    /// After every row whose server still runs: a fresh connection echoes, the gauges and descriptors
    /// are back where they were, and the server ends well when told to.
    #[track_caller]
    fn close(&mut self) {
        if self.server.is_none() {
            return;
        }
        // Each worker has its own listener and takes what is hashed to it: one canary for most of them.
        for _ in 0..4 {
            self.settle();
            canary(self.server());
        }
        self.settle();
        let ended = self.end(Signal::SIGTERM);
        assert_eq!((ended.code, ended.signal), (Some(0), None), "{ended:?}");
        assert_eq!(ended.summary().0["ended"], "drained");
    }
}

/// A fresh connection echoes 64 KiB and ends cleanly.
#[track_caller]
pub fn canary(server: &Server) {
    let mut peer = Peer::connect(server.address());
    peer.exchange(64 * 1024, u64::MAX);
    peer.finish_cleanly();
}

/// Every connection that was accepted was closed for one reason, and nothing is left.
#[track_caller]
pub fn account_is_whole(ended: &Ended) {
    let summary = ended.summary();
    assert_eq!(summary.get("accepted"), summary.closed(), "accepted and closed: {}", summary.0);
    assert_eq!(summary.gauges(), [0; GAUGES.len()], "something was left: {}", summary.0);
    assert!(summary.get("bytes_sent") + summary.get("bytes_discarded") <= summary.get("bytes_received"));
}

/// Connects `count` peers and lets each have 64 bytes echoed, so that all of them are served.
#[track_caller]
pub fn served(server: &Server, count: usize) -> Vec<Peer> {
    let mut peers = crate::client::crowd(server.address(), count);
    exchange(&mut peers, 64, 64);
    peers
}

/// `small` in the suite, `full` in `scripts/long-tests`.
pub fn scaled(small: usize, full: usize) -> usize {
    if is_long() { full } else { small }
}

/// Descriptors that one row takes at most: rows run at once, and share those of this process.
pub fn descriptors_of_a_row() -> u64 {
    scaled(2_000, 4_000) as u64 + 200
}

/// Whether this is a run at full size.
pub fn is_long() -> bool {
    std::env::var_os("C10K_LONG").is_some_and(|value| value == "1")
}

/// An address of the loopback network that nothing else uses: whoever restarts a server on its port
/// must not find the port taken by another test's outgoing connection.
pub fn own_address() -> String {
    static NEXT: AtomicU8 = AtomicU8::new(1);
    let [low, high, ..] = std::process::id().to_le_bytes();
    format!("127.{}.{high}.{}", 100 + NEXT.fetch_add(1, Ordering::Relaxed) % 100, low.max(1))
}

/// All rows on all variants.
pub fn trials() -> Vec<Trial> {
    let groups = [
        peers::rows(),
        pressure::rows(),
        ending::rows(),
        ring::rows(),
        features::rows(),
        spread::rows(),
        limits::rows(),
        start::rows(),
        stop::rows(),
        signals::rows(),
        account::rows(),
    ];
    groups.into_iter().flatten().flat_map(Row::trials).collect()
}
