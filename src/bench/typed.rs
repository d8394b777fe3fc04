//! What somebody typed after `c10k bench`, as it was written: nothing is checked yet. What it means is
//! decided in `check`.

/// The settings as somebody wrote them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Typed {
    /// The suite, the first word.
    pub suite: Option<String>,
    /// `--variant`, each.
    pub variants: Vec<String>,
    /// `--workload`, each.
    pub workloads: Vec<String>,
    /// `--pace`.
    pub pace: Option<String>,
    /// `--server-cpus`.
    pub server_cpus: Option<String>,
    /// `--client-cpus`.
    pub client_cpus: Option<String>,
    /// `--budget`.
    pub budget: Option<String>,
    /// `--seed`.
    pub seed: Option<String>,
    /// `--fail-if`, each.
    pub fail_if: Vec<String>,
    /// `--strict`.
    pub strict: bool,
    /// `-o`.
    pub output: Option<String>,
    /// `--resume`.
    pub resume: Option<String>,
    /// `--format`.
    pub format: Option<String>,
    /// `-q`.
    pub quiet: bool,
}
