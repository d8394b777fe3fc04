//! The machine as this process sees it: CPUs, limits, kernel, pinning. Read-only but for two things a
//! process may do to itself: raise its soft descriptor limit, and pin a thread.
//!
//! Everything that comes from /proc is an `Option`: where it cannot be read (a chroot, hidepid) the
//! answer is "n/a", never an error.

pub mod listening;
pub mod process;

use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::sys::resource::{RLIM_INFINITY, Resource, getrlimit, setrlimit};
use nix::unistd::Pid;
use std::fs;

/// The kernel's release as it names itself, such as `6.18.44`.
#[must_use]
pub fn kernel_release() -> Option<String> {
    Some(nix::sys::utsname::uname().ok()?.release().to_string_lossy().into_owned())
}

/// The CPUs this thread may run on, in ascending order. At least one; where the mask cannot be read,
/// as many as the standard library counts.
#[must_use]
pub fn cpus() -> Vec<usize> {
    let Ok(set) = sched_getaffinity(Pid::from_raw(0)) else {
        return (0..std::thread::available_parallelism().map_or(1, usize::from)).collect();
    };
    (0..CpuSet::count()).filter(|&cpu| set.is_set(cpu).unwrap_or(false)).collect()
}

/// Pins the calling thread to one CPU.
///
/// # Errors
/// A sentence, when the CPU is outside what this process may use.
pub fn pin(cpu: usize) -> Result<(), String> {
    let mut set = CpuSet::new();
    set.set(cpu)
        .and_then(|()| sched_setaffinity(Pid::from_raw(0), &set))
        .map_err(|errno| format!("cannot run on CPU {cpu} ({errno}); it runs unpinned"))
}

/// Raises the soft limit of descriptors to the hard one. The limit then in force; `None` when it
/// cannot be read.
#[must_use]
pub fn raise_descriptors() -> Option<u64> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).ok()?;
    match setrlimit(Resource::RLIMIT_NOFILE, hard, hard) {
        Ok(()) => Some(hard),
        Err(_) => Some(soft),
    }
}

/// Bytes of memory this user may lock, over all its processes; `None` without a limit, or when this
/// process is exempt from it (CAP_IPC_LOCK).
#[must_use]
pub fn locked_memory() -> Option<u64> {
    const CAP_IPC_LOCK: u32 = 14;
    let (soft, _) = getrlimit(Resource::RLIMIT_MEMLOCK).ok()?;
    (soft != RLIM_INFINITY && !has_capability(CAP_IPC_LOCK)).then_some(soft)
}

/// Whether this process has a capability in the first user namespace; those of another count nothing
/// for limits of the machine.
fn has_capability(bit: u32) -> bool {
    let initial = || {
        let map = fs::read_to_string("/proc/self/uid_map").ok()?;
        Some(map.split_whitespace().eq(["0", "0", "4294967295"]))
    };
    let effective = status("CapEff:").and_then(|text| u64::from_str_radix(&text, 16).ok());
    effective.is_some_and(|set| set >> bit & 1 == 1) && initial().unwrap_or(true)
}

/// Bytes of a page of memory.
#[must_use]
pub fn page_bytes() -> u64 {
    let size = nix::unistd::sysconf(nix::unistd::SysconfVar::PAGE_SIZE);
    size.ok().flatten().and_then(|size| u64::try_from(size).ok()).unwrap_or(4096)
}

/// Bytes of memory there are.
#[must_use]
pub fn memory_bytes() -> Option<u64> {
    let text = fs::read_to_string("/proc/meminfo").ok()?;
    field(&text, "MemTotal:")?.parse::<u64>().ok()?.checked_mul(1024)
}

/// What the kernel makes of a longer backlog (net.core.somaxconn).
#[must_use]
pub fn backlog_max() -> Option<u64> {
    number("/proc/sys/net/core/somaxconn")
}

/// What the kernel makes of a larger SO_RCVBUF (net.core.rmem_max), bytes.
#[must_use]
pub fn receive_buffer_max() -> Option<u64> {
    number("/proc/sys/net/core/rmem_max")
}

/// How large a receive buffer grows by itself (the last of net.ipv4.tcp_rmem), bytes.
#[must_use]
pub fn receive_buffer_auto_max() -> Option<u64> {
    fs::read_to_string("/proc/sys/net/ipv4/tcp_rmem").ok()?.split_whitespace().nth(2)?.parse().ok()
}

/// The congestion controls that are loaded.
#[must_use]
pub fn congestion_controls() -> Option<Vec<String>> {
    let text = fs::read_to_string("/proc/sys/net/ipv4/tcp_available_congestion_control").ok()?;
    Some(text.split_whitespace().map(str::to_string).collect())
}

/// The first and the last port the kernel gives to who connects without one
/// (net.ipv4.ip_local_port_range).
#[must_use]
pub fn local_ports() -> Option<(u16, u16)> {
    let text = fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").ok()?;
    let mut ports = text.split_whitespace().map(|port| port.parse().ok());
    Some((ports.next()??, ports.next()??))
}

/// What the first processor calls itself.
#[must_use]
pub fn cpu_model() -> Option<String> {
    let text = fs::read_to_string("/proc/cpuinfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("model name"))?;
    Some(line.split_once(':')?.1.trim().to_string())
}

/// Tasks that run or wait, averaged over 1, 5 and 15 minutes.
#[must_use]
pub fn load_average() -> Option<[f64; 3]> {
    let text = fs::read_to_string("/proc/loadavg").ok()?;
    let mut numbers = text.split_whitespace().map(|number| number.parse().ok());
    Some([numbers.next()??, numbers.next()??, numbers.next()??])
}

/// The switch that keeps io_uring from some (1) or all (2); absent before Linux 6.6.
#[must_use]
pub fn io_uring_disabled() -> Option<u64> {
    number("/proc/sys/kernel/io_uring_disabled")
}

/// Whether a seccomp filter is on this process.
#[must_use]
pub fn seccomp_filtered() -> Option<bool> {
    status("Seccomp:").map(|mode| mode == "2")
}

fn number(path: &str) -> Option<u64> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

fn status(name: &str) -> Option<String> {
    field(&fs::read_to_string("/proc/self/status").ok()?, name)
}

/// The first word after `name` at the start of a line.
fn field(text: &str, name: &str) -> Option<String> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    Some(line.split_whitespace().next()?.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_is_found_at_the_start_of_its_line_only() {
        let text = "Name:\tSeccomp: 9\nSeccomp:\t2\nSeccomp_filters:\t1\nEmpty:\n";
        assert_eq!(field(text, "Seccomp:").as_deref(), Some("2"));
        assert_eq!(field(text, "Empty:"), None);
        assert_eq!(field(text, "Missing:"), None);
    }

    #[test]
    fn a_thread_can_be_pinned_to_a_cpu_of_the_mask_and_to_no_other() {
        let first = cpus()[0];
        std::thread::spawn(move || {
            pin(first).unwrap();
            assert_eq!(cpus(), [first]);
            assert!(pin(CpuSet::count() - 1).unwrap_err().contains("unpinned"));
            assert!(pin(usize::MAX).is_err());
        })
        .join()
        .unwrap();
    }
}
