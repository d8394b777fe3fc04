//! Every feature of io_uring that concerns networking, and how to try it: a ring of its own, a loopback
//! connection, some bytes that are compared. What the kernel *says* it has stands beside it (`asked`).
//!
//! Needs the loopback interface for most of them. Every wait is bounded; a kernel that crashes or hangs
//! all the same is the caller's to survive: it tries in another process. Does not know what a server
//! makes of a feature, and holds no release to be good or bad.

mod accept;
mod asked;
mod buffers;
mod hand;
mod messages;
mod receive;
mod registration;
mod send;
mod setup;
mod sockets;
#[cfg(test)]
mod tests;
mod tools;
mod waiting;

pub use asked::{Ask, Asked, Said, ask};

use nix::errno::Errno;
use std::io;

/// A feature, and how it is asked for and tried.
#[derive(Clone, Copy, Debug)]
pub struct Feature {
    /// What it is called; no other has this name.
    pub name: &'static str,
    /// The value of a dimension of ours that uses it, as it is typed.
    pub carries: Option<&'static str>,
    /// The release of Linux it came with.
    pub since: &'static str,
    /// How a kernel can be asked whether it has it.
    pub ask: Ask,
    attempt: Attempt,
}

/// What came of a try: what was seen, or why it failed.
type Found<T> = Result<T, Trouble>;
type Attempt = fn() -> Found<String>;

/// Features of one kind.
#[derive(Clone, Copy, Debug)]
pub struct Group {
    /// What they have in common.
    pub name: &'static str,
    /// In the order they are tried.
    pub features: &'static [Feature],
}

/// All of them, in the order they are printed.
pub const GROUPS: &[Group] = &[
    Group { name: "receive", features: receive::FEATURES },
    Group { name: "provided buffers", features: buffers::FEATURES },
    Group { name: "send", features: send::FEATURES },
    Group { name: "accept", features: accept::FEATURES },
    Group { name: "sockets", features: sockets::FEATURES },
    Group { name: "messages, cancel, poll, timeout", features: messages::FEATURES },
    Group { name: "set-up flags", features: setup::FEATURES },
    Group { name: "enter and wait", features: waiting::FEATURES },
    Group { name: "registration", features: registration::FEATURES },
];

/// How many features there are.
#[must_use]
pub fn count() -> usize {
    GROUPS.iter().map(|group| group.features.len()).sum()
}

/// Every feature with its group, in order.
pub fn all() -> impl Iterator<Item = (&'static str, &'static Feature)> {
    GROUPS.iter().flat_map(|group| group.features.iter().map(move |feature| (group.name, feature)))
}

/// What came of trying a feature.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It did what it promises; what was seen.
    Works(String),
    /// The kernel refused, with this errno.
    Refused(String),
    /// Something other than the kernel's age forbids it or leaves no room: a filter, a right, a limit.
    Blocked {
        /// The errno.
        errno: String,
        /// What forbids it, and what would allow it.
        why: String,
    },
    /// It was accepted, and did something else.
    Wrong(String),
    /// It was not tried, and why.
    NotTried(String),
}

impl Feature {
    /// Tries it.
    #[must_use]
    pub fn attempt(&self) -> Outcome {
        match (self.attempt)() {
            Ok(seen) => Outcome::Works(seen),
            Err(Trouble::Refused(errno)) => refused(errno),
            Err(Trouble::Wrong(text)) => Outcome::Wrong(text),
            Err(Trouble::Untried(text)) => Outcome::NotTried(text),
        }
    }
}

/// What io_uring_setup answers where it refuses the plainest ring; `None` where it makes one.
#[must_use]
pub fn setup_refusal() -> Option<Errno> {
    match hand::HandRing::new(0) {
        Err(Trouble::Refused(errno)) => Some(errno),
        _ => None,
    }
}

/// Why a try failed.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Trouble {
    /// The kernel said no.
    Refused(Errno),
    /// It said yes and did otherwise.
    Wrong(String),
    /// Something around the try was missing.
    Untried(String),
}

impl Trouble {
    /// What a failure around the try becomes.
    fn untried(what: &str) -> impl Fn(io::Error) -> Self {
        move |error| Self::Untried(format!("{what} ({error})"))
    }
}

impl From<io::Error> for Trouble {
    fn from(error: io::Error) -> Self {
        match error.raw_os_error() {
            Some(number) => Self::Refused(Errno::from_raw(number)),
            None => Self::Wrong(error.to_string()),
        }
    }
}

/// Tells a refusal of the kernel from something in its way.
fn refused(errno: Errno) -> Outcome {
    let name = format!("{errno:?}");
    let why = match errno {
        Errno::EPERM | Errno::EACCES if crate::host::seccomp_filtered() == Some(true) => {
            "a seccomp filter, or a right that is missing; allow io_uring_setup, io_uring_enter and \
             io_uring_register in the profile"
        }
        Errno::EPERM | Errno::EACCES => "a right is missing, or a security module forbids it; try as root",
        Errno::ENOMEM => "the locked memory of this user is used up; raise it with ulimit -l",
        Errno::EMFILE => "the descriptors of this process are used up; raise the limit with ulimit -n",
        Errno::ENFILE => "the descriptors of this machine are used up; raise fs.file-max",
        _ => return Outcome::Refused(name),
    };
    Outcome::Blocked { errno: name, why: why.into() }
}
