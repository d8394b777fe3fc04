//! The machine as this process sees it: CPUs, limits, kernel, pinning. Read-only but for two things a
//! process may do to itself: raise its soft descriptor limit, and pin a thread.
//!
//! Everything that comes from /proc is an `Option`: where it cannot be read (a chroot, hidepid) the
//! answer is "n/a", never an error.

pub mod limits;
pub mod listening;
pub mod process;

use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::sys::resource::{RLIM_INFINITY, Resource, getrlimit, setrlimit};
use nix::time::{ClockId, clock_gettime};
use nix::unistd::Pid;
use std::fs;
use std::time::Duration;

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

/// Lets the calling thread's timers fire when they are due, instead of up to 50 microseconds later.
pub fn sharpen_timers() {
    // Refused nowhere that is known; without it the schedule's lag tells.
    let _ = nix::sys::prctl::set_timerslack(1);
}

/// CPU time of the calling thread so far; softirq work that ran in its time included, stolen time not.
#[must_use]
pub fn thread_cpu() -> Duration {
    cpu_clock(ClockId::CLOCK_THREAD_CPUTIME_ID)
}

/// CPU time of this process so far, all its threads.
#[must_use]
pub fn process_cpu() -> Duration {
    cpu_clock(ClockId::CLOCK_PROCESS_CPUTIME_ID)
}

fn cpu_clock(clock: ClockId) -> Duration {
    clock_gettime(clock)
        .map_or(Duration::ZERO, |time| Duration::new(time.tv_sec().unsigned_abs(), time.tv_nsec() as u32))
}

/// What all CPUs together did since the machine started, in ticks of the kernel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CpuTimes {
    /// Everything below and the rest of what was busy.
    pub total: u64,
    /// Nothing to do, or waiting for a disk.
    pub idle: u64,
    /// Soft interrupts, such as the loopback's.
    pub softirq: u64,
    /// Given to others by the hypervisor.
    pub steal: u64,
    /// CPUs that are counted.
    pub cpus: usize,
}

/// What all CPUs together did so far (/proc/stat).
#[must_use]
pub fn cpu_times() -> Option<CpuTimes> {
    parse_cpu_times(&fs::read_to_string("/proc/stat").ok()?)
}

fn parse_cpu_times(text: &str) -> Option<CpuTimes> {
    let all = text.lines().find_map(|line| line.strip_prefix("cpu "))?;
    // user nice system idle iowait irq softirq steal, then guest times, which user and nice include.
    let ticks: Vec<u64> =
        all.split_whitespace().take(8).map(|word| word.parse().ok()).collect::<Option<_>>()?;
    let &[_, _, _, idle, iowait, _, softirq, steal] = &ticks[..] else { return None };
    let is_cpu = |line: &&str| {
        line.strip_prefix("cpu").is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
    };
    let cpus = text.lines().filter(is_cpu).count();
    Some(CpuTimes { total: ticks.iter().sum(), idle: idle + iowait, softirq, steal, cpus })
}

/// Tasks that run or are ready to run at this moment, over all CPUs, the one that asks among them.
#[must_use]
pub fn runnable() -> Option<u32> {
    parse_runnable(&fs::read_to_string("/proc/loadavg").ok()?)
}

fn parse_runnable(text: &str) -> Option<u32> {
    text.split_whitespace().nth(3)?.split('/').next()?.parse().ok()
}

/// How long some task of this machine has waited for a CPU so far (pressure stall information).
#[must_use]
pub fn cpu_pressure() -> Option<Duration> {
    parse_pressure(&fs::read_to_string("/proc/pressure/cpu").ok()?)
}

fn parse_pressure(text: &str) -> Option<Duration> {
    let some = text.lines().find_map(|line| line.strip_prefix("some "))?;
    let total = some.split_whitespace().find_map(|word| word.strip_prefix("total="))?;
    Some(Duration::from_micros(total.parse().ok()?))
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
    fn the_times_of_all_cpus_are_read_without_those_that_are_counted_twice() {
        let text = "cpu  100 20 30 400 50 6 70 8 9 10\ncpu0 1 2 3 4\ncpu1 1 2 3 4\nintr 5\n";
        let expected = CpuTimes { total: 684, idle: 450, softirq: 70, steal: 8, cpus: 2 };
        assert_eq!(parse_cpu_times(text), Some(expected));
        assert_eq!(parse_cpu_times("cpu  1 2 3\n"), None);
        let now = cpu_times().expect("/proc/stat is there");
        assert!(now.total > now.idle && now.cpus >= 1);
    }

    #[test]
    fn pressure_is_the_total_of_the_tasks_that_waited() {
        let text = "some avg10=0.00 avg60=0.12 avg300=0.05 total=1234567\nfull avg10=0.00 total=99\n";
        assert_eq!(parse_pressure(text), Some(Duration::from_micros(1_234_567)));
        assert_eq!(parse_pressure("full avg10=0.00 total=99\n"), None);
    }

    #[test]
    fn whoever_asks_how_many_run_is_one_of_them() {
        assert_eq!(parse_runnable("0.31 0.22 0.15 3/412 9000\n"), Some(3));
        assert_eq!(parse_runnable("0.31 0.22 0.15"), None);
        assert!(runnable().expect("/proc/loadavg is there") >= 1);
    }

    #[test]
    fn the_clock_of_a_thread_counts_its_own_work_only() {
        let begun = thread_cpu();
        std::thread::spawn(|| while thread_cpu() < Duration::from_millis(20) {}).join().unwrap();
        let own = thread_cpu() - begun;
        assert!(own < Duration::from_millis(20), "{own:?}");
        assert!(process_cpu() >= Duration::from_millis(20));
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
