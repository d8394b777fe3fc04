//! A server to be measured, as it is typed: `uring`, `epoll:trigger=edge`, `"uring --workers 4"`.

use std::convert::Infallible;
use std::fmt;
use std::str::FromStr;

/// What a server is started with.
#[derive(Clone, Debug)]
pub struct Variant {
    name: String,
    arguments: String,
}

impl Variant {
    /// The variants every claim has to hold for.
    pub fn all() -> Vec<Self> {
        ["uring", "uring:files=direct", "epoll", "epoll:threads=shared"].map(Self::of).to_vec()
    }

    /// The variant of this name.
    pub fn of(name: &str) -> Self {
        let (first, rest) = name.split_once(' ').unwrap_or((name, ""));
        let (backend, features) = first.split_once(':').unwrap_or((first, ""));
        let arguments = match (backend, features) {
            ("uring" | "epoll", "") => format!("--backend {backend} {rest}"),
            ("uring" | "epoll", _) => format!("--backend {backend} --{backend} {features} {rest}"),
            _ => name.to_string(),
        };
        Self { name: name.to_string(), arguments }
    }

    /// The arguments of c10k, a blank between each.
    pub fn arguments(&self) -> &str {
        &self.arguments
    }
}

impl FromStr for Variant {
    type Err = Infallible;

    fn from_str(name: &str) -> Result<Self, Infallible> {
        Ok(Self::of(name))
    }
}

impl fmt::Display for Variant {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(&self.name)
    }
}
