//! What the kernel says about a running process: CPU time, context switches, memory, threads. Read-only,
//! and without a word to the process. Everything but its existence may be missing.

use nix::sys::time::TimeValLike;
use nix::time::{ClockId, clock_getcpuclockid, clock_gettime};
use nix::unistd::{Pid, SysconfVar, sysconf};
use serde::{Deserialize, Serialize};
use std::fs;
use std::io;

/// One look at a process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Process {
    /// Its number.
    pub pid: u32,
    /// When it was started, in ticks since the machine was: with the number, who it is.
    pub started: u64,
    /// CPU time of all its threads, those that have ended and the kernel's workers included. Nanoseconds.
    pub cpu_ns: u64,
    /// How that is known.
    pub cpu_from: CpuFrom,
    /// Bytes of memory it has resident.
    pub resident_bytes: Option<u64>,
    /// The most it ever had.
    pub resident_peak_bytes: Option<u64>,
    /// Its threads, in the order of their numbers.
    pub threads: Vec<Thread>,
}

/// How the CPU time of a process is known, the best first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CpuFrom {
    /// Its CPU clock: exact, and nothing is lost when a thread ends.
    Clock,
    /// `/proc/PID/stat`: in ticks, 10 ms as a rule.
    Ticks,
}

/// One thread of a process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Thread {
    /// Its number.
    pub id: u32,
    /// Whether the kernel made it to work for a ring.
    pub kernel: bool,
    /// Its CPU time, nanoseconds; at most a tick behind. Not there where the kernel keeps no such account.
    pub cpu_ns: Option<u64>,
    /// Times it gave up its CPU.
    pub voluntary_switches: u64,
    /// Times its CPU was taken away.
    pub involuntary_switches: u64,
}

/// Nanoseconds of the monotonic clock of this machine.
#[must_use]
pub fn monotonic() -> u64 {
    nanoseconds(ClockId::CLOCK_MONOTONIC).unwrap_or(0)
}

/// Looks at a process. Its CPU time is read first of all, the threads last.
///
/// # Errors
/// A sentence: there is no such process, it has ended, or it may not be looked at.
pub fn look(pid: u32) -> Result<Process, String> {
    let cpu = cpu_clock(pid);
    let stat = read(pid, "stat").map_err(|error| explain(pid, &error))?;
    let stat =
        Stat::parse(&stat).ok_or_else(|| format!("what /proc says about process {pid} is not understood"))?;
    if stat.has_ended {
        return Err(format!("process {pid} has ended"));
    }
    let status = read(pid, "status").unwrap_or_default();
    let leader = super::field(&status, "Tgid:").and_then(|text| text.parse().ok()).unwrap_or(pid);
    if leader != pid {
        return Err(format!("{pid} is a thread of process {leader}: give that number"));
    }
    let kibibytes = |name| super::field(&status, name)?.parse::<u64>().ok()?.checked_mul(1024);
    Ok(Process {
        pid,
        started: stat.started,
        cpu_ns: cpu.unwrap_or(stat.ticks * nanoseconds_per_tick()),
        cpu_from: if cpu.is_some() { CpuFrom::Clock } else { CpuFrom::Ticks },
        resident_bytes: kibibytes("VmRSS:"),
        resident_peak_bytes: kibibytes("VmHWM:"),
        threads: threads(pid),
    })
}

/// Nobody needs a right for this, and the kernel brings what is running up to date first.
fn cpu_clock(pid: u32) -> Option<u64> {
    let pid = Pid::from_raw(i32::try_from(pid).ok().filter(|&pid| pid > 0)?);
    nanoseconds(clock_getcpuclockid(pid).ok()?)
}

fn nanoseconds(clock: ClockId) -> Option<u64> {
    u64::try_from(clock_gettime(clock).ok()?.num_nanoseconds()).ok()
}

fn nanoseconds_per_tick() -> u64 {
    let ticks = sysconf(SysconfVar::CLK_TCK).ok().flatten().and_then(|ticks| u64::try_from(ticks).ok());
    1_000_000_000 / ticks.filter(|&ticks| ticks > 0).unwrap_or(100)
}

fn read(pid: u32, file: &str) -> io::Result<String> {
    fs::read_to_string(format!("/proc/{pid}/{file}"))
}

fn explain(pid: u32, error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => format!("there is no process {pid}"),
        io::ErrorKind::PermissionDenied => {
            format!("process {pid} belongs to another user, and /proc hides it: run as that user or as root")
        }
        // A process that ends while it is looked at.
        _ if error.raw_os_error() == Some(nix::errno::Errno::ESRCH as i32) => {
            format!("process {pid} has ended")
        }
        _ => format!("process {pid} cannot be looked at: {error}"),
    }
}

/// The threads there are; one that ends meanwhile is left out.
fn threads(pid: u32) -> Vec<Thread> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let numbers = tasks.filter_map(|task| task.file_name().to_str()?.parse().ok());
    let mut threads: Vec<Thread> = numbers.filter_map(|id| thread(pid, id)).collect();
    threads.sort_by_key(|thread| thread.id);
    threads
}

fn thread(pid: u32, id: u32) -> Option<Thread> {
    let status = read(pid, &format!("task/{id}/status")).ok()?;
    let number = |name| super::field(&status, name).and_then(|text| text.parse().ok()).unwrap_or(0);
    let name = super::field(&status, "Name:").unwrap_or_default();
    Some(Thread {
        id,
        kernel: name.starts_with("iou-wrk-") || name.starts_with("iou-sqp-"),
        cpu_ns: read(pid, &format!("task/{id}/schedstat")).ok().and_then(|text| first_number(&text)),
        voluntary_switches: number("voluntary_ctxt_switches:"),
        involuntary_switches: number("nonvoluntary_ctxt_switches:"),
    })
}

fn first_number(text: &str) -> Option<u64> {
    text.split_whitespace().next()?.parse().ok()
}

/// What is needed of `/proc/PID/stat`.
#[derive(Debug, PartialEq, Eq)]
struct Stat {
    has_ended: bool,
    /// User and system time.
    ticks: u64,
    started: u64,
}

impl Stat {
    /// The name of the program stands in brackets and may hold anything, brackets too: fields are counted
    /// from the last one.
    fn parse(text: &str) -> Option<Self> {
        let fields: Vec<&str> = text[text.rfind(')')? + 1..].split_whitespace().collect();
        // The state is field 3 of proc_pid_stat(5), the first after the name.
        let number = |field: usize| fields.get(field - 3)?.parse::<u64>().ok();
        Some(Self {
            has_ended: matches!(*fields.first()?, "Z" | "X"),
            ticks: number(14)? + number(15)?,
            started: number(22)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::hint::black_box;
    use std::process::{Command, Stdio};
    use std::time::{Duration, Instant};

    #[test]
    fn a_programs_name_may_hold_brackets_and_blanks() {
        let rest = "S 1 1 1 0 -1 4194560 1 2 3 4 21 34 0 0 20 0 4 0 987 1 1";
        let read = Stat::parse(&format!("12 (a ) Z (b) {rest}")).unwrap();
        assert_eq!(read, Stat { has_ended: false, ticks: 55, started: 987 });
        assert!(Stat::parse(&format!("12 (x) Z{}", &rest[1..])).unwrap().has_ended);
        assert_eq!(Stat::parse("12 (x) S 1"), None);
        assert_eq!(Stat::parse(""), None);
    }

    #[test]
    fn cpu_time_of_a_thread_that_has_ended_is_not_lost() {
        let own = std::process::id();
        let before = look(own).unwrap();
        let spent = std::thread::spawn(|| {
            let begun = ClockId::CLOCK_THREAD_CPUTIME_ID.now().unwrap();
            let spent = || (ClockId::CLOCK_THREAD_CPUTIME_ID.now().unwrap() - begun).num_nanoseconds() as u64;
            while spent() < 20_000_000 {
                black_box((0..1000).sum::<u64>());
            }
            spent()
        });
        let spent = spent.join().unwrap();
        let after = look(own).unwrap();
        assert_eq!((before.cpu_from, after.started), (CpuFrom::Clock, before.started));
        assert!(after.cpu_ns - before.cpu_ns >= spent, "{} of {spent}", after.cpu_ns - before.cpu_ns);
        assert!(after.resident_bytes.unwrap() > 100_000);
        assert!(after.threads.iter().any(|thread| thread.id == own && !thread.kernel));
    }

    #[test]
    fn a_process_that_waits_switches_and_one_that_has_ended_is_said_to() {
        let mut child = Command::new("cat").stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
        let pid = child.id();
        let begun = Instant::now();
        while look(pid).unwrap().threads[0].voluntary_switches == 0 {
            assert!(begun.elapsed() < Duration::from_secs(30));
            std::thread::sleep(Duration::from_millis(1));
        }
        drop(child.stdin.take());
        while look(pid).is_ok() {
            assert!(begun.elapsed() < Duration::from_secs(30));
            std::thread::sleep(Duration::from_millis(1));
        }
        assert_eq!(look(pid).unwrap_err(), format!("process {pid} has ended"));
        child.wait().unwrap();
        assert_eq!(look(pid).unwrap_err(), format!("there is no process {pid}"));
        assert!(look(u32::MAX).unwrap_err().contains("no process"));
    }

    #[test]
    fn a_thread_is_told_from_its_process() {
        let (tell, told) = std::sync::mpsc::channel();
        let (end, ended) = std::sync::mpsc::channel::<()>();
        let thread = std::thread::spawn(move || {
            tell.send(nix::unistd::gettid().as_raw() as u32).unwrap();
            let _ = ended.recv();
        });
        let id = told.recv().unwrap();
        let own = std::process::id();
        assert_eq!(look(id).unwrap_err(), format!("{id} is a thread of process {own}: give that number"));
        drop(end);
        thread.join().unwrap();
    }
}
