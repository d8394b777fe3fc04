//! The load generator against servers that lie, that are awkward, that vanish, and against our own: its
//! command line, exit code, sentences and result, as its users see them.

mod awkward;
mod liar;
mod lies;
mod ours;
mod outputs;
mod run;
mod troubles;

use libtest_mimic::Trial;

/// All of them.
pub fn trials() -> Vec<Trial> {
    let groups = [lies::trials(), awkward::trials(), troubles::trials(), outputs::trials(), ours::trials()];
    groups.into_iter().flatten().collect()
}
