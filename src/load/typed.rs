//! What somebody typed after `c10k load`, as it was written: nothing is checked yet. What it means is
//! decided in `check`.

/// The settings as somebody wrote them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Typed {
    /// The workload, the first word.
    pub workload: Option<String>,
    /// The target, the second one.
    pub target: Option<String>,
    /// `-c`.
    pub connections: Option<String>,
    /// `-s`.
    pub size: Option<String>,
    /// `-P`.
    pub depth: Option<String>,
    /// `-R`.
    pub rate: Option<String>,
    /// `--arrival`.
    pub arrival: Option<String>,
    /// `--find-rate`.
    pub find_rate: Option<String>,
    /// `--every`.
    pub every: Option<String>,
    /// `-d`.
    pub duration: Option<String>,
    /// `-n`.
    pub messages: Option<String>,
    /// `-w`.
    pub warmup: Option<String>,
    /// `--grace`.
    pub grace: Option<String>,
    /// `-t`.
    pub threads: Option<String>,
    /// `--cpus`.
    pub cpus: Option<String>,
    /// `--engine`.
    pub engine: Option<String>,
    /// `--direct`.
    pub direct: Option<String>,
    /// `--source`.
    pub source: Option<String>,
    /// `--connect-rate`.
    pub connect_rate: Option<String>,
    /// `--connect-timeout`.
    pub connect_timeout: Option<String>,
    /// `--no-verify`.
    pub no_verify: bool,
    /// `--no-latency`.
    pub no_latency: bool,
    /// `--seed`.
    pub seed: Option<String>,
    /// `--server-stats`.
    pub server_stats: Option<String>,
    /// `--agent`, with the address or the default one.
    pub agent: Option<String>,
    /// `--strict`.
    pub strict: bool,
    /// `--fail-if`, each.
    pub fail_if: Vec<String>,
    /// `-i`.
    pub interval: Option<String>,
    /// `--format`.
    pub format: Option<String>,
    /// `--percentiles`.
    pub percentiles: Option<String>,
    /// `-o`.
    pub output: Option<String>,
    /// `--hdr`.
    pub hdr: Option<String>,
    /// `--hlog`.
    pub hlog: Option<String>,
    /// `-q`.
    pub quiet: bool,
}
