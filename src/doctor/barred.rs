//! What keeps io_uring from running, told apart: a seccomp filter, the switch of the kernel, a kernel that
//! has none or too little, a limit. The sentence is the probe's, which the server says too; here it gets a
//! cause by name and a remedy.

use crate::features::{Answers, Capability};
use crate::host;
use crate::result::doctor::{BarredBy, Barrier};
use crate::ring::attempts;
use nix::errno::Errno;

/// What keeps io_uring from running here; `None` where nothing does.
pub(super) fn barrier(answers: &Answers) -> Option<Barrier> {
    let sentence = answers.unavailable()?;
    let facts = Facts {
        switch: host::io_uring_disabled(),
        filtered: host::seccomp_filtered() == Some(true),
        errno: if answers.barred.is_some() { attempts::setup_refusal() } else { floor_refusal(answers) },
    };
    Some(judge(sentence, &facts))
}

/// What the first thing of the floor that is missing was answered with: a filter that lets a ring be made
/// may still forbid what is done with it.
fn floor_refusal(answers: &Answers) -> Option<Errno> {
    let answer = Capability::FLOOR.iter().find_map(|&needed| answers.refusal(needed))?;
    let forbids = [Errno::EPERM, Errno::EACCES, Errno::ENOSYS, Errno::ENOMEM, Errno::EMFILE, Errno::ENFILE];
    // Any other is how an old kernel answers.
    forbids.into_iter().find(|errno| format!("{errno:?}") == answer).or(Some(Errno::EINVAL))
}

/// What shows of the cause.
struct Facts {
    /// kernel.io_uring_disabled; a kernel that has it has io_uring.
    switch: Option<u64>,
    /// Whether a seccomp filter is on this process.
    filtered: bool,
    /// What io_uring_setup answered, or the first thing that is missing.
    errno: Option<Errno>,
}

fn judge(mut sentence: String, facts: &Facts) -> Barrier {
    let by = match facts.errno {
        Some(Errno::EPERM | Errno::EACCES) if facts.switch.is_some_and(|level| level > 0) => BarredBy::Sysctl,
        Some(Errno::EPERM | Errno::EACCES) if facts.filtered => BarredBy::Seccomp,
        // A kernel with the switch has io_uring: it is not the kernel that does not know the call.
        Some(Errno::ENOSYS) if facts.filtered && facts.switch.is_some() => {
            sentence =
                "a seccomp filter hides io_uring here (io_uring_setup answered ENOSYS, and the kernel \
                        has it)."
                    .into();
            BarredBy::Seccomp
        }
        Some(Errno::ENOSYS | Errno::EINVAL) => BarredBy::Kernel,
        Some(Errno::ENOMEM | Errno::EMFILE | Errno::ENFILE) => BarredBy::Limit,
        _ => BarredBy::Unknown,
    };
    Barrier { by, remedy: remedy(by, facts).into(), sentence }
}

fn remedy(by: BarredBy, facts: &Facts) -> &'static str {
    match by {
        BarredBy::Seccomp => {
            "seccomp: allow io_uring_setup, io_uring_enter and io_uring_register in the profile of the \
             container (docker run --security-opt seccomp=PROFILE.json)"
        }
        BarredBy::Sysctl if facts.switch == Some(1) => {
            "sysctl: sysctl -w kernel.io_uring_disabled=0, or a group of yours in kernel.io_uring_group \
             (sysctl -w kernel.io_uring_group=GID)"
        }
        BarredBy::Sysctl => "sysctl: sysctl -w kernel.io_uring_disabled=0",
        BarredBy::Kernel if facts.filtered => {
            "kernel: Linux 6.0 or later, built with CONFIG_IO_URING; or the seccomp profile of the \
             container, if it is that which hides it"
        }
        BarredBy::Kernel => "kernel: Linux 6.0 or later, built with CONFIG_IO_URING",
        BarredBy::Limit => "limits: raise ulimit -l (locked memory) and ulimit -n (descriptors)",
        BarredBy::Unknown => "a security module (SELinux, AppArmor, Landlock) may forbid it: see its log",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn by(errno: Errno, switch: Option<u64>, filtered: bool) -> BarredBy {
        judge("x.".into(), &Facts { switch, filtered, errno: Some(errno) }).by
    }

    #[test]
    fn seccomp_the_switch_and_a_missing_kernel_are_told_apart() {
        assert_eq!(by(Errno::EPERM, Some(0), true), BarredBy::Seccomp);
        assert_eq!(by(Errno::EACCES, None, true), BarredBy::Seccomp);
        assert_eq!(by(Errno::ENOSYS, Some(0), true), BarredBy::Seccomp);
        assert_eq!(by(Errno::EPERM, Some(2), true), BarredBy::Sysctl);
        assert_eq!(by(Errno::EPERM, Some(1), false), BarredBy::Sysctl);
        assert_eq!(by(Errno::ENOSYS, None, false), BarredBy::Kernel);
        assert_eq!(by(Errno::ENOSYS, Some(0), false), BarredBy::Kernel);
        assert_eq!(by(Errno::ENOMEM, Some(0), false), BarredBy::Limit);
        assert_eq!(by(Errno::EPERM, Some(0), false), BarredBy::Unknown);
    }

    #[test]
    fn each_has_a_remedy_of_its_own() {
        let remedy = |errno, switch, filtered| {
            judge("x.".into(), &Facts { switch, filtered, errno: Some(errno) }).remedy
        };
        assert!(remedy(Errno::EPERM, None, true).contains("seccomp="));
        assert!(remedy(Errno::EPERM, Some(1), false).contains("io_uring_group"));
        assert!(!remedy(Errno::EPERM, Some(2), false).contains("io_uring_group"));
        assert!(remedy(Errno::ENOSYS, None, false).contains("CONFIG_IO_URING"));
        // Before Linux 6.6 there is no switch to tell by: both are named.
        assert!(remedy(Errno::ENOSYS, None, true).contains("seccomp profile"));
    }

    #[test]
    fn a_ring_without_the_floor_is_an_old_kernel_or_a_filter_that_lets_only_rings_be_made() {
        let without = |answer: &str| {
            let refused = vec![(Capability::MultishotReceive, answer.to_string())];
            floor_refusal(&Answers { refused, ..Answers::default() })
        };
        assert_eq!(without("EINVAL"), Some(Errno::EINVAL));
        assert_eq!(without("one completion instead of several"), Some(Errno::EINVAL));
        assert_eq!(by(Errno::EINVAL, Some(0), true), BarredBy::Kernel);
        assert_eq!(without("EPERM"), Some(Errno::EPERM));
        assert_eq!(without("ENOMEM"), Some(Errno::ENOMEM));
    }
}
