//! What the kernel said in its log while the tests ran: a warning of its own is a failure of the run,
//! whichever row provoked it. Needs a readable /dev/kmsg; says so where it is none.

use libtest_mimic::Trial;
use nix::errno::Errno;
use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::fs::OpenOptionsExt;

/// The kernel's log from a moment on.
pub struct KernelLog(Result<File, String>);

/// How the lines begin that the kernel writes when it found a fault of its own.
const ALARMS: [&str; 6] =
    ["WARNING: ", "BUG: ", "kernel BUG at ", "Oops", "general protection fault", "refcount_t: "];

impl KernelLog {
    /// From now on.
    pub fn from_now_on() -> Self {
        Self(open().map_err(|error| format!("/dev/kmsg cannot be read ({error})")))
    }

    /// The alarms since then.
    ///
    /// # Errors
    /// Why it is not known.
    pub fn alarms(self) -> Result<Vec<String>, String> {
        let mut log = self.0?;
        let mut alarms = Vec::new();
        // A read gives one record; 8 KiB is more than the kernel makes of any.
        let mut record = [0; 8192];
        loop {
            match log.read(&mut record) {
                Ok(0) => return Ok(alarms),
                Ok(length) => alarms.extend(alarm(&String::from_utf8_lossy(&record[..length]))),
                Err(error) => match error.raw_os_error().map(Errno::from_raw) {
                    Some(Errno::EAGAIN) => return Ok(alarms),
                    // Records were overwritten before we came; the next read goes on behind them.
                    Some(Errno::EPIPE | Errno::EINTR) => {}
                    _ => return Err(format!("/dev/kmsg cannot be read to its end ({error})")),
                },
            }
        }
    }
}

fn open() -> std::io::Result<File> {
    let mut log = OpenOptions::new().read(true).custom_flags(nix::libc::O_NONBLOCK).open("/dev/kmsg")?;
    log.seek(SeekFrom::End(0))?;
    Ok(log)
}

/// The text of a record that is an alarm. A record is `level,number,microseconds,flags;text`, and
/// lines about it that begin with a blank.
fn alarm(record: &str) -> Option<String> {
    let text = record.split_once(';')?.1.lines().next()?;
    ALARMS.iter().any(|alarm| text.starts_with(alarm)).then(|| text.into())
}

/// That an alarm is known from other lines.
pub fn trials() -> Vec<Trial> {
    let check = || {
        for text in [
            "WARNING: CPU: 1 PID: 77 at io_uring/net.c:123 io_recv+0x1/0x2",
            "BUG: kernel NULL pointer dereference, address: 0000000000000010",
            "Oops: Oops: 0002 [#1] SMP PTI",
            "kernel BUG at mm/slub.c:4",
            "refcount_t: underflow; use-after-free.",
        ] {
            assert_eq!(alarm(&format!("4,812,99,-;{text}\n SUBSYSTEM=x\n")).as_deref(), Some(text));
        }
        for text in ["TCP: request_sock_TCP: Possible SYN flooding", "a program wrote WARNING: x"] {
            assert_eq!(alarm(&format!("6,813,99,-;{text}\n")), None);
        }
        Ok(())
    };
    vec![Trial::test("an_alarm_of_the_kernel_is_known_from_other_lines", check)]
}
