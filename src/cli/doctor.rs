//! What may be typed after `c10k doctor`. The value is taken as it is and checked in `doctor`.

use crate::doctor::Typed;
use clap::Args;

pub(super) const AFTER: &str = "\
Every feature of io_uring for networking is asked for and then tried over loopback; the limits are held
against 10,000, 100,000 and 1,000,000 connections. Nothing on the machine is changed.

Exit codes: 0 uring would run here; 2 wrong usage; 6 only epoll would.";

#[derive(Debug, Default, Args)]
pub(super) struct Doctor {
    /// text, or json: one object.
    #[arg(long, value_name = "FORMAT", help_heading = "Output")]
    format: Option<String>,
    /// Not for people: the process that tries.
    #[arg(long, value_name = "COUNT", hide = true)]
    tries_from: Option<usize>,
}

impl Doctor {
    pub(super) fn typed(self) -> Typed {
        Typed { format: self.format, tries_from: self.tries_from }
    }
}
