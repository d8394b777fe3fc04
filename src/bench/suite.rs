//! What each suite compares: its cells, those that are left out among them, each with its reason. Pure.

use super::features;
use super::variant;
use super::workload::{beside_idle, too_much, workload};
use crate::result::bench::{Cell, Variant, Workload};

/// What is compared as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Suite {
    /// The first answer, in a minute.
    Quick,
    /// Workloads of all kinds and sizes.
    Workloads,
    /// Features of io_uring, one at a time.
    Features,
    /// Cost and memory against the number of connections.
    Scale,
}

impl Suite {
    /// All of them.
    pub const ALL: [(&'static str, Self); 4] = [
        ("quick", Self::Quick),
        ("workloads", Self::Workloads),
        ("features", Self::Features),
        ("scale", Self::Scale),
    ];

    /// How it is typed.
    #[must_use]
    pub fn name(self) -> &'static str {
        Self::ALL.iter().find(|(_, suite)| *suite == self).expect("all of them are named").0
    }

    /// Minutes it may take where nothing is typed.
    #[must_use]
    pub const fn minutes(self) -> u64 {
        match self {
            Self::Quick => 1,
            Self::Scale => 10,
            Self::Features => 15,
            Self::Workloads => 60,
        }
    }

    /// The workloads where none are typed.
    #[must_use]
    pub fn workloads(self) -> Vec<Workload> {
        match self {
            Self::Quick => vec![workload("pingpong", 64, 100, 1), workload("pingpong", 64 << 10, 16, 1)],
            Self::Features => vec![workload("pingpong", 64, 100, 1)],
            Self::Scale => SCALE.map(|connections| workload("pingpong", 64, connections, 1)).into(),
            Self::Workloads => grid(),
        }
    }
}

/// Whether servers live as long as the comparison, in a plan of this suite. Where cells are many, or something
/// was typed and its pair has the whole budget, each block has fresh ones: answers are to hold for the next
/// start of a server, too.
#[must_use]
pub fn keeps_servers(suite: &str) -> bool {
    suite == Suite::Quick.name()
}

/// Connections of `scale`: up to what one process may have with the usual limit of 20,000 descriptors.
const SCALE: [u32; 5] = [100, 1_000, 3_000, 9_000, 18_000];

fn grid() -> Vec<Workload> {
    const CONNECTIONS: [u32; 4] = [1, 100, 1_000, 9_000];
    const SIZES: [u32; 4] = [64, 1 << 10, 16 << 10, 64 << 10];
    let mut all = Vec::new();
    for (kind, depth) in [("pingpong", 1), ("pingpong", 16), ("stream", 1), ("churn", 1)] {
        for connections in CONNECTIONS {
            all.extend(SIZES.map(|size| workload(kind, size, connections, depth)));
        }
    }
    all.extend(SIZES.map(|size| beside_idle(workload("pingpong", size, 100, 1), 9_000)));
    all
}

/// The cells of a suite. `variants` are at least two, the last one the reference; `features` has its own.
///
/// # Errors
/// Sentences, for variants of the suite itself that cannot be.
pub fn cells(
    suite: Suite,
    variants: &[Variant],
    workloads: &[Workload],
    cpus: &[usize],
) -> Result<Vec<Cell>, String> {
    let mut cells = Vec::new();
    for workload in workloads {
        if suite == Suite::Features {
            for question in features::questions() {
                cells.push(question.cell(workload, cpus)?);
            }
            continue;
        }
        let Some((reference, others)) = variants.split_last() else { continue };
        cells.extend(others.iter().map(|other| cell(workload, other, reference)));
    }
    name_uniquely(&mut cells);
    Ok(cells)
}

/// A cell without a question.
#[must_use]
pub fn cell(workload: &Workload, variant: &Variant, reference: &Variant) -> Cell {
    Cell {
        id: format!("{} {} / {}", workload.name, variant::short(variant), variant::short(reference)),
        workload: workload.clone(),
        variant: variant.clone(),
        reference: reference.clone(),
        question: None,
        left_out: too_much(workload),
    }
}

/// A thing compared with itself twice has the same id twice.
fn name_uniquely(cells: &mut [Cell]) {
    for index in 1..cells.len() {
        let before = |id: &str| cells[..index].iter().any(|cell| cell.id == id);
        let id = cells[index].id.clone();
        if before(&id) {
            let free = (2..).map(|number| format!("{id} #{number}")).find(|id| !before(id));
            cells[index].id = free.expect("numbers do not end");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn variants(names: &[&str]) -> Vec<Variant> {
        names.iter().map(|name| variant::parse(name, &[0]).unwrap()).collect()
    }

    #[test]
    fn every_variant_is_held_against_the_last_one_on_every_workload() {
        let variants = variants(&["uring", "uring:recv=single", "epoll"]);
        let cells = cells(Suite::Quick, &variants, &Suite::Quick.workloads(), &[0]).unwrap();
        let ids: Vec<&str> = cells.iter().map(|cell| cell.id.as_str()).collect();
        assert_eq!(
            ids,
            [
                "pingpong:64:100 uring / epoll",
                "pingpong:64:100 uring:recv=single / epoll",
                "pingpong:64Ki:16 uring / epoll",
                "pingpong:64Ki:16 uring:recv=single / epoll",
            ]
        );
    }

    #[test]
    fn a_thing_can_be_compared_with_itself_and_ids_stay_unique() {
        let variants = variants(&["epoll", "epoll", "epoll"]);
        let cells = cells(Suite::Quick, &variants, &Suite::Features.workloads(), &[0]).unwrap();
        assert_eq!(cells[0].id, "pingpong:64:100 epoll / epoll");
        assert_eq!(cells[1].id, "pingpong:64:100 epoll / epoll #2");
    }

    #[test]
    fn the_workloads_leave_out_by_name_what_is_too_much_and_nothing_else() {
        let all = Suite::Workloads.workloads();
        assert_eq!(all.len(), 4 * 4 * 4 + 4);
        let out: Vec<&str> =
            all.iter().filter(|workload| too_much(workload).is_some()).map(|one| one.name.as_str()).collect();
        assert_eq!(
            out,
            [
                "pingpong:64Ki:9000",
                "pingpong:64Ki:1000:16",
                "pingpong:16Ki:9000:16",
                "pingpong:64Ki:9000:16",
                "stream:64:9000",
                "stream:1Ki:9000",
                "stream:16Ki:9000",
                "stream:64Ki:9000",
                "churn:64:9000",
                "churn:1Ki:9000",
                "churn:16Ki:9000",
                "churn:64Ki:9000",
            ]
        );
        assert_eq!(all.last().unwrap().idle_connections, 9_000);
    }
}
