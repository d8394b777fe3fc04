//! The directory of a bench: `plan.json`, `slices.ndjson`, a line for each slice, on disk before the next one
//! begins, and `result.json`. What it holds is enough to go on.

use crate::result::bench::{BenchPlan, BenchResult, Cell, RawSlice};
use serde::Serialize;
use std::fs::{self, File, OpenOptions};
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};

const PLAN: &str = "plan.json";
const SLICES: &str = "slices.ndjson";
const RESULT: &str = "result.json";

/// A directory that is written.
#[derive(Debug)]
pub struct Store {
    directory: PathBuf,
    slices: File,
}

/// What earlier sittings did.
#[derive(Debug, Default)]
pub struct Done {
    /// Every slice, in the order they were measured.
    pub slices: Vec<RawSlice>,
    /// The cells as they were at the end of the last sitting that came to one.
    pub cells: Vec<Cell>,
}

impl Store {
    /// A new one, with its plan.
    ///
    /// # Errors
    /// A sentence: it cannot be written, or holds a bench already.
    pub fn create(directory: &Path, plan: &BenchPlan) -> Result<Self, String> {
        let shown = directory.display();
        if directory.join(PLAN).exists() {
            return Err(format!(
                "--output: {shown} holds a bench already; --resume {shown}, or another directory, would do"
            ));
        }
        let unwritable = |error: std::io::Error| {
            format!("--output: {shown} cannot be written ({error}); another directory would do")
        };
        fs::create_dir_all(directory).map_err(unwritable)?;
        write(&directory.join(PLAN), plan).map_err(unwritable)?;
        let slices = File::create(directory.join(SLICES)).map_err(unwritable)?;
        Ok(Self { directory: directory.into(), slices })
    }

    /// The plan of one that was begun.
    ///
    /// # Errors
    /// A sentence: there is none, or it cannot be read.
    pub fn plan(directory: &Path) -> Result<BenchPlan, String> {
        let shown = directory.display();
        let text = fs::read_to_string(directory.join(PLAN)).map_err(|error| {
            format!("--resume: {shown} holds no bench ({error}); a directory that -o named would do")
        })?;
        serde_json::from_str(&text).map_err(|error| {
            format!("--resume: {shown}/{PLAN} is not understood ({error}); a new bench would do")
        })
    }

    /// One that was begun, to go on with, and the slices it holds. A last line that a kill cut short is
    /// taken away: its slice is measured again.
    ///
    /// # Errors
    /// A sentence.
    pub fn resume(directory: &Path) -> Result<(Self, Done), String> {
        let path = directory.join(SLICES);
        let unreadable =
            |error: std::io::Error| format!("--resume: {} cannot be used ({error})", path.display());
        let (mut read, mut sound) = (Vec::new(), 0);
        let mut reader = BufReader::new(File::open(&path).map_err(unreadable)?);
        loop {
            let mut line = String::new();
            let length = reader.read_line(&mut line).map_err(unreadable)? as u64;
            if length == 0 {
                break;
            }
            match serde_json::from_str(&line) {
                Ok(slice) if line.ends_with('\n') => read.push(slice),
                _ if reader.fill_buf().is_ok_and(<[u8]>::is_empty) => break,
                Ok(_) => break,
                Err(error) => {
                    let at = read.len() + 1;
                    return Err(format!(
                        "--resume: line {at} of {} is not understood ({error}); a new bench would do",
                        path.display()
                    ));
                }
            }
            sound += length;
        }
        let slices = OpenOptions::new().append(true).open(&path).map_err(unreadable)?;
        slices.set_len(sound).map_err(unreadable)?;
        // A sitting that was killed came to no result; what is missing then is found out anew.
        let result = fs::read(directory.join(RESULT)).ok();
        let result = result.and_then(|text| serde_json::from_slice::<BenchResult>(&text).ok());
        let cells = result.map_or_else(Vec::new, |result| result.plan.cells);
        Ok((Self { directory: directory.into(), slices }, Done { slices: read, cells }))
    }

    /// Where it is.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Puts a slice on disk.
    ///
    /// # Errors
    /// A sentence.
    pub fn keep(&mut self, slice: &RawSlice) -> Result<(), String> {
        let mut line = serde_json::to_string(slice).map_err(|error| error.to_string())?;
        line.push('\n');
        let kept = self.slices.write_all(line.as_bytes()).and_then(|()| self.slices.sync_data());
        kept.map_err(|error| format!("{}/{SLICES} cannot be written ({error})", self.directory.display()))
    }

    /// Writes what it came to.
    ///
    /// # Errors
    /// A sentence.
    pub fn finish(&self, result: &BenchResult) -> Result<(), String> {
        write(&self.directory.join(RESULT), result)
            .map_err(|error| format!("{}/{RESULT} cannot be written ({error})", self.directory.display()))
    }
}

/// Whole or not at all: a kill leaves the old file or the new one.
fn write(path: &Path, value: &impl Serialize) -> std::io::Result<()> {
    let mut text = serde_json::to_string_pretty(value)?;
    text.push('\n');
    let draft = path.with_extension("new");
    let mut file = File::create(&draft)?;
    file.write_all(text.as_bytes())?;
    file.sync_data()?;
    fs::rename(draft, path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::check::{self, Facts};
    use crate::bench::compare::tests::{cell, slice};
    use crate::bench::typed::Typed;
    use crate::result::bench::{BenchEnvironment, Purpose, Side};

    fn plan() -> BenchPlan {
        let environment = BenchEnvironment { cpus: vec![0, 1], ..BenchEnvironment::default() };
        let facts = Facts { environment, seed: 7, now: 1.0 };
        check::check(&Typed::default(), &facts).unwrap().plan
    }

    fn raw(position: u8) -> RawSlice {
        let slice = slice(Purpose::Cost, 0, position, Side::A, 1.0);
        let features = Some([("recv".to_string(), "single".to_string())].into());
        RawSlice { slice, features, client: "c10k load".into(), load: None, histogram: None }
    }

    /// A directory that is gone at the end.
    struct Gone(PathBuf);

    impl Drop for Gone {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn what_was_kept_is_there_again_whole_and_in_its_order_and_a_line_cut_short_is_not() {
        let place = Gone(std::env::temp_dir().join(format!("c10k-store-test-{}", std::process::id())));
        let mut store = Store::create(&place.0, &plan()).unwrap();
        (0..3).for_each(|position| store.keep(&raw(position)).unwrap());
        let kept = fs::read_to_string(place.0.join(SLICES)).unwrap();
        fs::write(place.0.join(SLICES), format!("{kept}{{\"slice\":{{\"cell\":\"ping")).unwrap();
        let (mut store, done) = Store::resume(&place.0).unwrap();
        assert_eq!(done.slices, [raw(0), raw(1), raw(2)]);
        assert!(done.cells.is_empty(), "no sitting came to a result");
        store.keep(&raw(3)).unwrap();
        let cells = vec![Cell { left_out: Some("it did not start".into()), ..cell() }];
        let result = BenchResult {
            version: 1,
            plan: BenchPlan { cells: cells.clone(), ..plan() },
            took_us: 1,
            interrupted: true,
            verdict: vec![],
            comparisons: vec![],
            gates: vec![],
            caveats: vec![],
            exit_code: 130,
        };
        store.finish(&result).unwrap();
        let (_, done) = Store::resume(&place.0).unwrap();
        assert_eq!((done.slices.len(), done.cells), (4, cells));
        assert!(Store::create(&place.0, &plan()).unwrap_err().contains("--resume"));
    }
}
