//! Where the rules that findings name are written, for outputs that point into files of the repository.

use std::collections::BTreeMap;

use karat_core::{Finding, Outcome, summary::RunSummary};

/// The files of the project as a reviewer sees them: paths relative to the repository, with `/`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Places {
    /// The policy: `gate.toml`, `models/flights/gate.toml`.
    pub policy: String,
    /// The project file: `karat.toml`. Findings of checks point there.
    pub project: String,
    /// Line of each rule of the gate in the policy, by the rule's name, from 1.
    pub lines: BTreeMap<String, u32>,
}

/// A finding that does not simply hold, and where it is written.
pub(crate) struct Placed<'a> {
    /// `gate release`, or `check`.
    pub(crate) step: String,
    /// The finding.
    pub(crate) finding: &'a Finding,
    /// What it means to whoever reads the step's exit code: an inconclusive finding that the policy lets through
    /// only warns.
    pub(crate) outcome: Outcome,
    /// The file.
    pub(crate) file: &'a str,
    /// The line, when it is known.
    pub(crate) line: Option<u32>,
}

impl Places {
    /// Everything that does not simply hold, worst first; of equals the gate before the checks, in their own order.
    pub(crate) fn unmet<'a>(&'a self, summary: &'a RunSummary) -> Vec<Placed<'a>> {
        let of_gate = summary.verdict.iter().flat_map(|verdict| {
            verdict.findings.iter().map(|finding| Placed {
                step: format!("gate {}", verdict.gate),
                finding,
                outcome: match finding.outcome {
                    Outcome::Inconclusive if verdict.inconclusive_is_allowed => Outcome::Warn,
                    outcome => outcome,
                },
                file: &self.policy,
                line: self.lines.get(&finding.rule).copied(),
            })
        });
        let of_checks = summary.checks.iter().map(|finding| Placed {
            step: "check".to_owned(),
            finding,
            outcome: finding.outcome,
            file: &self.project,
            line: None,
        });
        let mut unmet: Vec<Placed<'_>> =
            of_gate.chain(of_checks).filter(|it| it.outcome != Outcome::Pass).collect();
        unmet.sort_by_key(|it| std::cmp::Reverse(it.outcome));
        unmet
    }
}
