//! What tests begin with, where they are not about the configuration itself.

use super::{Config, Facts, Typed, resolve};

impl Facts {
    /// A host with one CPU, no limits, and a kernel that can do everything.
    pub(crate) fn for_tests() -> Self {
        Self { cpus: vec![0], page: 4096, ..Self::default() }
    }
}

impl Config {
    /// What runs there when nothing is typed: one worker of the uring server.
    pub(crate) fn for_tests() -> Self {
        resolve(&Typed::default(), &Facts::for_tests()).expect("the defaults run").config
    }
}
