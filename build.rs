//! Facts about the build for `--version`. What cannot be found out is left out.

use std::process::Command;

fn main() {
    for path in ["build.rs", "src", "epoll_baseline", "Cargo.toml", "Cargo.lock"] {
        println!("cargo:rerun-if-changed={path}");
    }
    let profile = std::env::var("PROFILE").unwrap_or_default();
    tell("PROFILE", &profile);
    tell("TARGET", &std::env::var("TARGET").unwrap_or_default());
    let rustc = std::env::var("RUSTC").unwrap_or_else(|_| "rustc".into());
    tell("RUSTC", &output(&rustc, &["--version"]).unwrap_or_default());
    // Only where it is worth a rebuild after each commit.
    if profile == "release" {
        tell("COMMIT", &commit().unwrap_or_default());
    }
}

/// The commit, `+` when the sources differ from it. None when this is not the top of a checkout, such as
/// an unpacked package inside somebody else's.
fn commit() -> Option<String> {
    if !output("git", &["rev-parse", "--show-prefix"])?.is_empty() {
        return None;
    }
    let log = output("git", &["rev-parse", "--git-path", "logs/HEAD"])?;
    if std::path::Path::new(&log).exists() {
        println!("cargo:rerun-if-changed={log}");
    }
    let commit = output("git", &["rev-parse", "--short=12", "HEAD"])?;
    let sources =
        ["status", "--porcelain", "--", "build.rs", "src", "epoll_baseline", "Cargo.toml", "Cargo.lock"];
    let changed = !output("git", &sources)?.is_empty();
    Some(format!("{commit}{}", if changed { "+" } else { "" }))
}

fn tell(name: &str, value: &str) {
    println!("cargo:rustc-env=C10K_{name}={value}");
}

fn output(program: &str, arguments: &[&str]) -> Option<String> {
    let output = Command::new(program).args(arguments).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_string())
}
