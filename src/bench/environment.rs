//! Where a bench is done: what the machine says of itself. What cannot be read is left out.

use crate::host;
use crate::result::bench::BenchEnvironment;
use nix::sys::resource::{Resource, getrlimit};
use std::collections::BTreeMap;
use std::fs;

/// What the machine says.
#[must_use]
pub fn environment() -> BenchEnvironment {
    let text = |path: &str| fs::read_to_string(path).ok().map(|text| text.trim().to_string());
    let virtual_machine = text("/proc/cpuinfo").and_then(|text| {
        let flags = text.lines().find(|line| line.starts_with("flags"))?;
        Some(flags.split_whitespace().any(|flag| flag == "hypervisor"))
    });
    BenchEnvironment {
        kernel: host::kernel_release(),
        kernel_build: nix::sys::utsname::uname().ok().map(|name| name.version().to_string_lossy().into()),
        cpu_model: host::cpu_model(),
        cpus: host::cpus(),
        memory_bytes: host::memory_bytes(),
        clock_source: text("/sys/devices/system/clocksource/clocksource0/current_clocksource"),
        virtual_machine,
        mitigations: mitigations(),
        descriptors: getrlimit(Resource::RLIMIT_NOFILE).ok().map(|(_, hard)| hard),
        locked_bytes: host::locked_memory(),
        local_ports: host::local_ports(),
        backlog_max: host::backlog_max(),
        load_average: host::load_average(),
        build: build(),
    }
}

/// What the kernel does against faults of the processor; those it is not affected by are left out.
fn mitigations() -> BTreeMap<String, String> {
    let files = fs::read_dir("/sys/devices/system/cpu/vulnerabilities").into_iter().flatten().flatten();
    let read = files.filter_map(|file| {
        let text = fs::read_to_string(file.path()).ok()?;
        Some((file.file_name().to_str()?.to_string(), text.trim().to_string()))
    });
    read.filter(|(_, text)| text != "Not affected").collect()
}

fn build() -> BTreeMap<String, String> {
    let facts = [
        ("commit", option_env!("C10K_COMMIT")),
        ("profile", option_env!("C10K_PROFILE")),
        ("target", option_env!("C10K_TARGET")),
        ("compiler", option_env!("C10K_RUSTC")),
    ];
    let known =
        facts.into_iter().filter_map(|(name, fact)| Some((name, fact.filter(|fact| !fact.is_empty())?)));
    known.map(|(name, fact)| (name.to_string(), fact.to_string())).collect()
}

/// Bytes the kernel has in slabs: sockets among them.
#[must_use]
pub fn slab_bytes() -> Option<u64> {
    let text = fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("Slab:"))?;
    line.split_whitespace().next()?.parse::<u64>().ok()?.checked_mul(1024)
}
