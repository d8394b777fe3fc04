//! What a test needs beyond a kernel and a loopback device, asked once, and the sentence when it is
//! missing. A test that lacks something is listed as ignored with that sentence; run by force, it
//! fails with it.

use crate::server::Launch;
use crate::times;
use libtest_mimic::{Failed, Trial};
use std::net::{Ipv6Addr, TcpListener};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

/// Something that may be missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// io_uring.
    Uring,
    /// A ring that sends and receives several buffers at once, and the locked memory for it.
    Bundles,
    /// An IPv6 loopback address.
    Ipv6,
    /// User 0, with the rights to drop capabilities and to make namespaces.
    Root,
    /// util-linux: prlimit(1).
    Prlimit,
    /// iproute2: ip(8).
    Ip,
    /// iproute2: ip(8).
    IpCommand,
    /// The browser.
    Chromium,
}

impl Need {
    /// Why it is not to be had here, if it is not.
    pub fn missing(self) -> Option<String> {
        match self {
            Need::Uring => uring(),
            Need::Bundles => bundles(),
            Need::Ipv6 => TcpListener::bind((Ipv6Addr::LOCALHOST, 0))
                .err()
                .map(|error| format!("no IPv6 loopback address ({error})")),
            Need::Root => root(),
            Need::Ip => (!runs(&["ip", "-V"])).then(|| "ip(8) is not installed".into()),
            Need::Prlimit => (!runs(&["prlimit", "--version"])).then(|| "prlimit(1) is not installed".into()),
            Need::Chromium => (!runs(&["chromium", "--version"])).then(|| "chromium is not installed".into()),
            Need::IpCommand => (!runs(&["ip", "-V"])).then(|| "ip(8) is not installed".into()),
        }
    }

    /// The variable that, set to 1, makes it a failure that it is missing.
    fn requirement(self) -> Option<&'static str> {
        match self {
            Need::Uring => Some("C10K_REQUIRE_URING"),
            Need::Chromium => Some("C10K_REQUIRE_CHROMIUM"),
            _ => None,
        }
    }
}

fn uring() -> Option<String> {
    static ANSWER: OnceLock<Option<String>> = OnceLock::new();
    let ask = || {
        let launch = Launch::new(["--backend", "uring", "--listen", "127.0.0.1:0", "--format", "json"]);
        match launch.start() {
            Ok(_) => None,
            Err(ended) if ended.code == Some(6) => Some(one_line(&ended.stderr)),
            // Any other end is for the tests to report.
            Err(_) => None,
        }
    };
    ANSWER.get_or_init(ask).clone()
}

fn bundles() -> Option<String> {
    static ANSWER: OnceLock<Option<String>> = OnceLock::new();
    let ask = || {
        let words = ["--uring", "bundle=both", "--listen", "127.0.0.1:0", "--format", "json"];
        match Launch::new(words).start() {
            // Not offered, or not enough memory may be locked.
            Err(ended) if matches!(ended.code, Some(2 | 6)) => Some(one_line(&ended.stderr)),
            _ => None,
        }
    };
    ANSWER.get_or_init(ask).clone()
}

fn root() -> Option<String> {
    static ANSWER: OnceLock<Option<String>> = OnceLock::new();
    let ask = || {
        let able = nix::unistd::geteuid().is_root()
            && runs(&["setpriv", "--bounding-set=-all", "--inh-caps=-all", "true"])
            && runs(&["unshare", "-n", "true"]);
        (!able).then(|| "needs root, setpriv(1) and unshare(1)".into())
    };
    ANSWER.get_or_init(ask).clone()
}

fn runs(words: &[&str]) -> bool {
    let mut command = Command::new(words[0]);
    command.args(&words[1..]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The test, or its place in the list of skips.
pub fn unless_missing(
    name: String,
    needs: &[Need],
    body: impl FnOnce() -> Result<(), Failed> + Send + 'static,
) -> Trial {
    let Some((need, reason)) = needs.iter().find_map(|need| Some((*need, need.missing()?))) else {
        let row = name.clone();
        return Trial::test(name, move || {
            let _running = times::begin(row);
            body()
        });
    };
    let is_set = |name| std::env::var_os(name).is_some_and(|value| value == "1");
    let required = need.requirement().is_some_and(is_set);
    let sentence = reason.clone();
    Trial::test(name, move || Err(Failed::from(sentence)))
        .with_kind(format!("skipped: {reason}"))
        .with_ignored_flag(!required)
}
