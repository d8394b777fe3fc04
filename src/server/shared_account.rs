//! Where the workers' numbers lie: in a memory file that a process of the same user, or root, opens
//! through `/proc/PID/fd` and reads, without a word to the server and at no cost to the workers. Where no
//! such file is to be had, in ordinary memory; then nobody reads along.

use super::shares_listeners;
use crate::config::Config;
use crate::counters::Counters;
use crate::result::Named;
use crate::result::shared_account::{Description, NAME};
use crate::{host, sys};
use nix::errno::Errno;
use nix::fcntl::{FallocateFlags, fallocate};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::resource::{Resource, getrlimit};
use std::fs::File;
use std::io;
use std::net::SocketAddr;
use std::os::fd::IntoRawFd;
use std::os::unix::fs::FileExt;

/// One account for each worker, all zero, made by `new`; and a sentence, when nobody will be able to read
/// them from outside.
pub(super) fn lay_out(
    config: &Config,
    listen: &[SocketAddr],
    new: impl Fn() -> Counters,
) -> (&'static [Counters], Option<String>) {
    let all = || (0..config.workers).map(|_| new()).collect::<Vec<_>>();
    match share(config, listen, all()) {
        Ok(counters) => (counters, None),
        Err(error) => {
            let note = format!("the account cannot be read by `c10k load --server-stats` ({error})");
            (all().leak(), Some(note))
        }
    }
}

/// Places the counters in a new memory file, which stays open for as long as the process lives.
fn share(config: &Config, listen: &[SocketAddr], counters: Vec<Counters>) -> io::Result<&'static [Counters]> {
    let mut description = describe(config, listen, &counters);
    // The longest this number can become, so that the text is not longer with the real one.
    description.begin = u64::from(u32::MAX);
    description.begin = (description.encode().len() as u64).next_multiple_of(host::page_bytes());
    let bytes = description.length().expect("a few pages");
    let file = memory(bytes)?;
    file.write_all_at(&description.encode(), 0)?;
    let counters = sys::place(&file, description.begin, counters)?;
    // The open descriptor is what others find.
    let _ = file.into_raw_fd();
    Ok(counters)
}

fn describe(config: &Config, listen: &[SocketAddr], counters: &[Counters]) -> Description {
    let places = counters[0].places();
    let named = |places: &[(&'static str, u64)]| {
        Named(places.iter().map(|&(name, place)| (name.to_string(), place)).collect())
    };
    Description {
        backend: config.backend.name().into(),
        listen: listen.iter().map(SocketAddr::to_string).collect(),
        workers: counters.len() as u64,
        begin: 0,
        stride: size_of::<Counters>() as u64,
        shared: shares_listeners(config),
        counters: named(&places.counters),
        closed: named(&places.closed),
        refused: named(&places.refused),
        gauges: named(&places.gauges),
    }
}

/// A memory file with all its pages there: a page that were missing later would end the process.
fn memory(bytes: u64) -> io::Result<File> {
    // Growing a file beyond this limit ends the process with a signal.
    if getrlimit(Resource::RLIMIT_FSIZE).is_ok_and(|(soft, _)| soft < bytes) {
        return Err(io::Error::other("the limit on the size of files, ulimit -f, is lower than it needs"));
    }
    let flags = MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING;
    // Some hosts allow only memory files that say they will never be executed; Linux before 6.3 does not
    // know how to say it.
    let never_executed = MFdFlags::from_bits_retain(libc::MFD_NOEXEC_SEAL);
    let file = match memfd_create(NAME, flags | never_executed) {
        Err(Errno::EINVAL) => memfd_create(NAME, flags),
        answer => answer,
    }?;
    let length = libc::off_t::try_from(bytes).map_err(io::Error::other)?;
    fallocate(&file, FallocateFlags::empty(), 0, length)?;
    Ok(file.into())
}

#[cfg(test)]
mod tests {
    use super::super::tests::config;
    use super::*;
    use crate::result::shared_account::Sums;
    use crate::server::account::account;
    use crate::worker;
    use std::time::Duration;

    /// Reads the account of this process as another one would: by its name in /proc.
    fn read() -> Vec<Vec<u8>> {
        let links = std::fs::read_dir("/proc/self/fd").unwrap().flatten().map(|entry| entry.path());
        let name = format!("/memfd:{NAME} (deleted)");
        let ours =
            links.filter(|link| std::fs::read_link(link).is_ok_and(|to| to.as_os_str() == name.as_str()));
        ours.map(|link| std::fs::read(link).unwrap()).collect()
    }

    #[test]
    fn what_the_workers_count_is_read_from_outside_as_the_servers_own_lines_say_it() {
        let config = config(&["--backend", "epoll", "--workers", "3", "--epoll", "threads=shared"]);
        let address = "127.0.0.1:1".parse().unwrap();
        let own = crate::epoll_baseline::COUNTERS;
        let (counters, note) = lay_out(&config, &[address], || worker::counters(own));
        assert_eq!(note, None);
        let mut amount = 1;
        for worker in counters {
            for (name, place) in all_places(worker) {
                assert!(place < size_of::<Counters>() as u64, "{name}");
                amount += 1;
            }
            worker.accepted.add(amount);
            worker.open.subtract(amount);
            (0..own.len()).for_each(|index| worker.own.at(index).add(amount + index as u64));
            worker.closed.at(1).add(amount * 2);
            worker.refused.at(2).add(amount * 3);
        }
        let file = read().pop().expect("its own memory file");
        let description = Description::decode(&file).unwrap();
        assert_eq!((description.backend.as_str(), &description.listen[0][..]), ("epoll", "127.0.0.1:1"));
        let Sums { counters: sums, closed, refused, gauges, workers } = description.sums(&file).unwrap();
        let said = account(counters, true, Duration::ZERO, 0);
        assert_eq!((sums, closed, refused), (said.counters, said.closed, said.refused));
        assert_eq!((gauges, workers), (said.gauges, said.workers));
    }

    fn all_places(worker: &Counters) -> Vec<(&'static str, u64)> {
        let places = worker.places();
        [places.counters, places.closed, places.refused, places.gauges].concat()
    }
}
