//! What may be typed after `c10k report`. Values are taken as they are and checked in `report`.

use crate::report::Typed;
use clap::{ArgAction, Args};

pub(super) const EXAMPLES: &str = "\
Examples:
  c10k report bench-1                          what a bench came to, 100 columns of text
  c10k report bench-1 --details                with every table, where it compared many things
  c10k report bench-1 -o report.html           one page that needs nothing outside itself
  c10k report old new --fail-if 'change>1.02'  two kernels, machines or days, side by side";

pub(super) const AFTER: &str = "\
A condition of --fail-if is held against the ratio of server CPU, and met only where its whole interval
meets it, and is 95 % sure: VARIANT/REFERENCE>NUMBER in each result, change>NUMBER for the ratio in a later result over
that in the first, cell by cell.

Exit codes: 0 done; 1 a result is damaged, or the report cannot be written; 2 wrong usage, or no result
of a bench that this program reads; 3 a --fail-if was met; 4 one was held against nothing that was
measured. Of 3 and 4 it is 4.";

#[derive(Debug, Default, Args)]
pub(super) struct Report {
    /// Folders that `c10k bench` wrote, or the result.json in them; several are compared.
    #[arg(value_name = "RESULT")]
    results: Vec<String>,

    /// text, markdown, html, or json [default: by the name of --output, else text].
    #[arg(long, value_name = "FORMAT", help_heading = "Output")]
    format: Option<String>,
    /// Write the report here instead of to standard output (-).
    #[arg(short, long, value_name = "FILE", help_heading = "Output")]
    output: Option<String>,
    /// Print all of many comparisons, not a line of each; the other forms have everything anyway.
    #[arg(long, help_heading = "Output")]
    details: bool,
    /// Say nothing on standard error but why it failed.
    #[arg(short, long, help_heading = "Output")]
    quiet: bool,

    /// Fail (exit 3) if this holds, as 'uring/epoll>1.00' or 'change>1.02'; may be repeated.
    #[arg(long, value_name = "CONDITION", action = ArgAction::Append, help_heading = "Judging")]
    fail_if: Vec<String>,
}

impl Report {
    pub(super) fn typed(self) -> Typed {
        Typed {
            results: self.results,
            format: self.format,
            output: self.output,
            fail_if: self.fail_if,
            details: self.details,
            quiet: self.quiet,
        }
    }
}
