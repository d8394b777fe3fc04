//! Ten thousand connections at once, on default settings with two workers and a soft descriptor limit
//! of 1,024: whether all are served, and what the server then keeps in memory.
//!
//! Once as whoever calls this, and once as a user without capabilities: root is not charged for the
//! locked memory of a ring, that user is. The second part needs root, `setpriv` and a copy of the
//! program where that user may execute it (made in the temporary folder and removed again).

use crate::Variant;
use crate::client::Client;
use crate::memory::{Resident, mebibytes};
use crate::server::{Launch, Server, available, binary};
use serde_json::Value;
use std::fs::Permissions;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// What may be typed.
#[derive(clap::Args)]
pub struct Arguments {
    /// The servers; none: uring (normal and direct descriptors) and epoll (per core and shared).
    variants: Vec<Variant>,
    /// Connections.
    #[arg(long, default_value_t = 10_000)]
    connections: usize,
}

/// The figure: this much, and so much per connection, bytes.
const FIXED_MAX: u64 = 24 << 20;
const EACH_MAX: u64 = 512;
/// What the server is told it may open, softly and at most.
const DESCRIPTORS: &str = "--nofile=1024:20000";
/// The user without capabilities, `nobody` on most systems.
const NOBODY: &str = "65534";

struct Outcome {
    echoed: u64,
    time: Duration,
    at_first: Resident,
    full: Resident,
    stats: Value,
    ready: Value,
}

/// Measures and prints one line per server.
pub fn run(arguments: &Arguments) -> io::Result<()> {
    let chosen = &arguments.variants;
    let variants = if chosen.is_empty() { Variant::all() } else { chosen.clone() };
    println!(
        "{} connections at once, 64 bytes each; two workers, descriptors {DESCRIPTORS}\n\
         resident memory of the server in MiB, the most is 24 MiB + 512 B x connections = {:.1}\n",
        arguments.connections,
        mebibytes(resident_max(arguments.connections))
    );
    println!(
        "{:<24} {:<10} {:>7} {:>7} {:>8} {:>8} {:>8} {:>7} {:>10} {:>6}  figure",
        "variant", "user", "echoed", "refused", "seconds", "at first", "resident", "rings", "anonymous", "cq"
    );
    if !runs("prlimit", &["--version"]) {
        println!("skipped: there is no prlimit (util-linux) to lower the soft descriptor limit with");
        return Ok(());
    }
    let prlimit = vec!["prlimit".to_string(), DESCRIPTORS.to_string()];
    for variant in &variants {
        let launch = launch(variant, prlimit.clone(), None);
        if let Some(outcome) = available(variant, measure(&launch, arguments.connections))? {
            print(variant, "caller", &outcome, arguments.connections);
        }
    }
    let copy = match unprivileged() {
        Ok(copy) => copy,
        Err(reason) => {
            println!("skipped without capabilities: {reason}");
            return Ok(());
        }
    };
    let launcher = [prlimit.as_slice(), &setpriv()].concat();
    for variant in &variants {
        let launch = launch(variant, launcher.clone(), Some(copy.program.clone()));
        if let Some(outcome) = available(variant, measure(&launch, arguments.connections))? {
            print(variant, NOBODY, &outcome, arguments.connections);
        }
    }
    Ok(())
}

fn resident_max(connections: usize) -> u64 {
    FIXED_MAX + EACH_MAX * connections as u64
}

fn launch(variant: &Variant, launcher: Vec<String>, binary: Option<PathBuf>) -> Launch {
    Launch { arguments: format!("{} --workers 2", variant.arguments()), launcher, binary }
}

fn setpriv() -> Vec<String> {
    let words = ["--clear-groups", "--inh-caps=-all", "--bounding-set=-all", "--no-new-privs"];
    let user = [format!("--reuid={NOBODY}"), format!("--regid={NOBODY}")];
    std::iter::once("setpriv".to_string()).chain(user).chain(words.map(String::from)).collect()
}

fn measure(launch: &Launch, connections: usize) -> io::Result<Outcome> {
    let server = Server::launch(launch)?;
    let at_first = Resident::of(server.id())?;
    let start = Instant::now();
    let mut client = Client::silent(server.address, connections, 64)?;
    let echoed = client.run(Duration::ZERO)?;
    let time = start.elapsed();
    Ok(Outcome {
        echoed,
        time,
        at_first,
        full: Resident::of(server.id())?,
        stats: server.stats()?,
        ready: server.ready.clone(),
    })
}

fn print(variant: &Variant, user: &str, outcome: &Outcome, connections: usize) {
    let refused: u64 = outcome.stats["refused"]
        .as_object()
        .map_or(0, |causes| causes.values().filter_map(Value::as_u64).sum());
    let within = outcome.echoed == connections as u64
        && refused == 0
        && outcome.stats["gauges"]["open"] == connections
        && outcome.full.total <= resident_max(connections);
    println!(
        "{variant:<24} {user:<10} {:>7} {refused:>7} {:>8.2} {:>8.1} {:>8.1} {:>7.1} {:>10.1} {:>6}  {}",
        outcome.echoed,
        outcome.time.as_secs_f64(),
        mebibytes(outcome.at_first.total),
        mebibytes(outcome.full.total),
        mebibytes(outcome.full.rings),
        mebibytes(outcome.full.anonymous),
        outcome.ready["sizes"]["cq"].as_u64().map_or("-".into(), |entries| entries.to_string()),
        if within { "reached" } else { "MISSED" }
    );
    let notes = outcome.ready["notes"].as_array();
    for note in notes.into_iter().flatten().filter_map(Value::as_str) {
        println!("{:<24} said at the start: {note}", "");
    }
}

/// A copy of the program that everybody may execute; removed when dropped.
struct Copy {
    folder: PathBuf,
    program: PathBuf,
}

impl Drop for Copy {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// What the part without capabilities needs, or why it cannot be.
fn unprivileged() -> Result<Copy, String> {
    if !nix::unistd::geteuid().is_root() {
        return Err("only root can become another user (the caller is one without already)".into());
    }
    let [setpriv, words @ ..] = &setpriv()[..] else { unreachable!("it has words") };
    let mut words: Vec<&str> = words.iter().map(String::as_str).collect();
    words.push("true");
    if !runs(setpriv, &words) {
        return Err("there is no setpriv (util-linux) here, or it is not allowed".into());
    }
    copy().map_err(|error| format!("no copy of c10k for that user: {error}"))
}

fn copy() -> io::Result<Copy> {
    let folder = std::env::temp_dir().join(format!("c10k-measure-{}", std::process::id()));
    std::fs::create_dir(&folder)?;
    let copy = Copy { program: folder.join("c10k"), folder };
    std::fs::set_permissions(&copy.folder, Permissions::from_mode(0o755))?;
    std::fs::copy(binary()?, &copy.program)?;
    std::fs::set_permissions(&copy.program, Permissions::from_mode(0o755))?;
    Ok(copy)
}

fn runs(program: &str, arguments: &[&str]) -> bool {
    let command = Command::new(program).args(arguments).stdout(Stdio::null()).stderr(Stdio::null()).status();
    command.is_ok_and(|status| status.success())
}
