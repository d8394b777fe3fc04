//! One look at a server on this machine: its process, and its account where it is a c10k.

use crate::host::process::{self, Process};
use crate::result::shared_account::{Description, NAME, Sums};
use serde::{Deserialize, Serialize};
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::PathBuf;

/// What one look saw.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Snapshot {
    /// When, nanoseconds of the monotonic clock of the server's machine.
    pub at_ns: u64,
    /// What the kernel says.
    pub process: Process,
    /// What the server says; only of a c10k.
    pub account: Option<Sums>,
    /// Why the account of what may be a c10k could not be read, a sentence.
    pub unread: Option<String>,
}

/// A process that is looked at again and again.
#[derive(Debug)]
pub struct Watched {
    pid: u32,
    /// With the number, who it is: numbers are used again.
    started: u64,
    account: Account,
}

#[derive(Debug)]
enum Account {
    /// It is no c10k.
    None,
    /// It has one, or may have, and this is why it cannot be read.
    Unread(String),
    Open(File, Description),
}

impl Watched {
    /// Finds out what there is to look at. Slow with many descriptors: not in the measured window.
    ///
    /// # Errors
    /// A sentence, when there is no such process.
    pub fn open(pid: u32) -> Result<Self, String> {
        let started = process::look(pid)?.started;
        let account = match open_account(pid) {
            Ok(Some((file, description))) => Account::Open(file, description),
            Ok(None) => Account::None,
            Err(sentence) => Account::Unread(sentence),
        };
        Ok(Self { pid, started, account })
    }

    /// Its number.
    #[must_use]
    pub const fn pid(&self) -> u32 {
        self.pid
    }

    /// Looks.
    ///
    /// # Errors
    /// A sentence, when the process has ended.
    pub fn snapshot(&self) -> Result<Snapshot, String> {
        let at_ns = process::monotonic();
        let process = process::look(self.pid)?;
        if process.started != self.started {
            return Err(format!("process {} has ended, and another one has its number", self.pid));
        }
        let account = match &self.account {
            Account::Open(file, description) => read(file, description).map(Some),
            Account::None => Ok(None),
            Account::Unread(sentence) => Err(sentence.clone()),
        };
        let unread = account.as_ref().err().cloned();
        Ok(Snapshot { at_ns, process, account: account.ok().flatten(), unread })
    }
}

fn read(file: &File, description: &Description) -> Result<Sums, String> {
    let length = description.length().and_then(|length| usize::try_from(length).ok()).unwrap_or(0);
    let mut bytes = vec![0; length];
    file.read_exact_at(&mut bytes, 0)
        .map_err(|error| format!("the server's account cannot be read: {error}"))?;
    description.sums(&bytes)
}

/// The account of a process; `None` when it has none.
fn open_account(pid: u32) -> Result<Option<(File, Description)>, String> {
    let Some(link) = find(pid)? else { return Ok(None) };
    let unread = |error: io::Error| format!("the server's account cannot be opened: {error}");
    // Whatever stands there by now, opening it must not wait.
    let file = OpenOptions::new().read(true).custom_flags(nix::fcntl::OFlag::O_NONBLOCK.bits()).open(link);
    let file = file.map_err(unread)?;
    let mut beginning = vec![0; 128 << 10];
    let read = file.read_at(&mut beginning, 0).map_err(unread)?;
    Ok(Some((file, Description::decode(&beginning[..read])?)))
}

fn find(pid: u32) -> Result<Option<PathBuf>, String> {
    let descriptors = fs::read_dir(format!("/proc/{pid}/fd")).map_err(|error| match error.kind() {
        io::ErrorKind::PermissionDenied => {
            format!(
                "the account of process {pid} cannot be read: it belongs to another user; run as that user or as root"
            )
        }
        _ => format!("the descriptors of process {pid} cannot be read: {error}"),
    })?;
    let name = format!("/memfd:{NAME} (deleted)");
    let is_account = |link: &PathBuf| fs::read_link(link).is_ok_and(|to| to.to_str() == Some(name.as_str()));
    Ok(descriptors.flatten().map(|entry| entry.path()).find(is_account))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_that_is_no_c10k_has_cpu_time_and_no_account() {
        let mut child = std::process::Command::new("sleep").arg("30").spawn().unwrap();
        let watched = Watched::open(child.id()).unwrap();
        let snapshot = watched.snapshot().unwrap();
        assert_eq!((snapshot.process.pid, snapshot.account, snapshot.unread), (child.id(), None, None));
        assert!(snapshot.at_ns > 0);
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(watched.snapshot().unwrap_err().contains("no process"));
        assert!(Watched::open(child.id()).is_err());
    }

    #[test]
    fn another_process_with_the_same_number_is_not_the_same_server() {
        let own = Watched::open(std::process::id()).unwrap();
        let other = Watched { started: own.started + 1, ..own };
        assert!(other.snapshot().unwrap_err().contains("another one has its number"));
    }
}
