//! The versioned types of what `c10k doctor --format json` prints: one object. Units stand in the names:
//! `_bytes`. What could not be found out is `null`. The schema of all of it is `schema/doctor.json`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The version of the object below. A field is never given another meaning under the same version.
pub const DOCTOR_VERSION: u32 = 1;

/// What this kernel and these limits allow.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Doctor {
    /// The version of this object.
    pub version: u32,
    /// The program and its version.
    pub program: String,
    /// The kernel's release, as it names itself.
    pub kernel: Option<String>,
    /// What the program exits with: 0 where uring would run, 6 where only epoll would.
    pub exit_code: u8,
    /// The server that `--backend auto` takes here: `uring` or `epoll`.
    pub backend: String,
    /// The verdict, a sentence.
    pub verdict: String,
    /// What keeps io_uring from running; `null` where it runs.
    pub barrier: Option<Barrier>,
    /// Whether the kernel answered IORING_REGISTER_QUERY (Linux 6.18).
    pub query: Option<Query>,
    /// Every feature, in groups.
    pub features: Vec<Feature>,
    /// Every limit that would stop many connections.
    pub limits: Vec<Limit>,
    /// What an idle connection costs here.
    pub idle_connection: IdleConnection,
    /// What would change what is refused or short, a sentence or a command each.
    pub remedies: Vec<String>,
}

/// What keeps io_uring from running.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Barrier {
    /// What it is.
    pub by: BarredBy,
    /// How it shows, a sentence.
    pub sentence: String,
    /// What would allow it.
    pub remedy: String,
}

/// What keeps io_uring from running.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum BarredBy {
    /// A seccomp filter, as containers have by default.
    Seccomp,
    /// kernel.io_uring_disabled.
    Sysctl,
    /// The kernel is too old or was built without it.
    Kernel,
    /// A limit of this user or process.
    Limit,
    /// Something that does not show.
    Unknown,
}

/// What IORING_REGISTER_QUERY said.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Query {
    /// Request opcodes the kernel knows.
    pub request_opcodes: u32,
    /// Register opcodes it knows.
    pub register_opcodes: u32,
    /// Its features, a mask.
    pub features: u64,
    /// The set-up flags it knows, a mask.
    pub setup_flags: u64,
    /// The flags of enter it knows, a mask.
    pub enter_flags: u64,
    /// The flags of an entry it knows, a mask.
    pub entry_flags: u64,
}

/// One feature of io_uring.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Feature {
    /// What it belongs to.
    pub group: String,
    /// What it is called.
    pub name: String,
    /// The value of a dimension of the server that uses it, as `recv=multishot`.
    pub dimension: Option<String>,
    /// The release of Linux it came with.
    pub since: String,
    /// How the kernel was asked: `query`, `probe`, `features`; `null` where only a try tells.
    pub asked_by: Option<String>,
    /// What it said.
    pub said: Option<bool>,
    /// What came of it.
    #[serde(flatten)]
    pub tried: Tried,
    /// What is known to be wrong with it in this release, whatever the try gave.
    pub known_bad: Option<KnownBad>,
}

/// What came of trying a feature.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Tried {
    /// In a word.
    pub outcome: Outcome,
    /// The errno, where the kernel refused.
    pub errno: Option<String>,
    /// What was seen, or why not.
    pub detail: String,
}

/// What came of trying a feature, in a word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It did what it promises, and its bytes were compared.
    Works,
    /// The kernel refused.
    Refused,
    /// A filter, a right or a limit forbids it.
    Blocked,
    /// It was accepted, and did something else.
    Wrong,
    /// This release is known to have it broken, whatever the try gave.
    KnownBad,
    /// It was not tried.
    NotTried,
}

/// What is known to be wrong with a feature in a release.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct KnownBad {
    /// What happens.
    pub problem: String,
    /// The public report of it.
    pub address: String,
}

/// One limit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Limit {
    /// What it is called.
    pub name: String,
    /// What it bounds.
    pub about: String,
    /// What `found` and `needed` count: `bytes`, or things.
    pub unit: String,
    /// What there is; `null` where nothing bounds it, or where it could not be read: `about` says which.
    pub found: Option<u64>,
    /// Whether it suffices, for each number of connections.
    pub scales: Vec<Scale>,
}

/// A limit against a number of connections.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Scale {
    /// How many.
    pub connections: u64,
    /// What they need.
    pub needed: Option<u64>,
    /// Whether there is enough.
    pub verdict: Sufficiency,
    /// The command that changes it, where it does not suffice.
    pub remedy: Option<String>,
}

/// Whether a limit suffices.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Sufficiency {
    /// It does.
    Enough,
    /// It does not, and things go slower.
    Slower,
    /// It does not.
    Short,
    /// It could not be found out.
    Unknown,
}

/// What an idle connection over loopback costs this machine, both ends together.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct IdleConnection {
    /// Connections that were opened to see; 0 where it could not be measured.
    pub connections: u32,
    /// Bytes of kernel memory for one, both ends.
    pub kernel_bytes: Option<f64>,
    /// Of that, bytes the limit net.ipv4.tcp_mem counts.
    pub tcp_mem_bytes: Option<f64>,
    /// How it was measured, or why not.
    pub how: String,
}
