//! `metrics.txt`: OpenMetrics text, for GitLab's metrics widget and whatever scrapes files.
//!
//! Every family is always there and outcomes are counted also when there are none, so that two runs differ only in
//! values.

use std::collections::BTreeSet;

use karat_core::{Finding, Outcome, summary::RunSummary, verdict::Cell};

use crate::{escape::line, number::machine};

const OUTCOMES: [Outcome; 6] = [
    Outcome::Pass,
    Outcome::Waived,
    Outcome::Warn,
    Outcome::Inconclusive,
    Outcome::NotApplied,
    Outcome::Fail,
];

/// The summary's numbers as OpenMetrics text, ending with `# EOF`.
#[must_use]
pub fn openmetrics(summary: &RunSummary) -> String {
    let verdict = summary.verdict.as_ref();
    let cells: &[Cell] = verdict.map_or(&[], |it| &it.report.cells);
    let mut out = Text::default();

    out.family("karat_run", "info", "What the numbers are about.");
    let run = [
        ("project", summary.project.as_str()),
        ("snapshot", &summary.data.snapshot),
        ("candidate", verdict.map_or("none", |it| &it.candidate)),
        ("baseline", verdict.map_or("none", |it| &it.baseline)),
        ("outcome", summary.outcome().map_or("none", Outcome::word)),
        ("tool", &summary.tool),
    ];
    out.sample("karat_run_info", &run, Some(1.0));

    out.family("karat_metric", "gauge", "Value of a metric on a slice.");
    for cell in cells {
        out.sample("karat_metric", &of(cell, ("role", "candidate")), cell.value);
        out.sample("karat_metric", &of(cell, ("role", "baseline")), cell.baseline);
    }
    out.family("karat_metric_interval", "gauge", "Ends of the interval of the candidate's value.");
    for cell in cells {
        out.interval("karat_metric_interval", cell, cell.interval);
    }
    out.family("karat_improvement", "gauge", "Candidate against baseline, positive is better.");
    for cell in cells {
        out.sample("karat_improvement", &of(cell, ("role", "candidate")), cell.improvement);
    }
    out.family("karat_improvement_interval", "gauge", "Ends of the interval of the improvement.");
    for cell in cells {
        out.interval("karat_improvement_interval", cell, cell.improvement_interval);
    }
    out.family("karat_slice_rows", "gauge", "Labelled rows of a slice.");
    for count in verdict.iter().flat_map(|it| &it.report.slices) {
        out.sample("karat_slice_rows", &[("slice", &count.slice)], Some(count.n_rows as f64));
    }
    out.family("karat_findings", "gauge", "Findings by step and outcome.");
    out.findings("check", &summary.checks);
    out.findings("gate", verdict.map_or(&[], |it| &it.findings));

    out.family("karat_operational", "gauge", "Operational measure as measured; yes is 1.");
    for (word, value) in verdict.iter().flat_map(|it| &it.operational) {
        out.sample("karat_operational", &[("measure", word)], Some(*value));
    }
    out.family("karat_seed_variance", "gauge", "Variance of a metric by where it comes from.");
    for seeds in verdict.iter().filter_map(|it| it.seeds.as_ref()) {
        for (from, value) in [("rows", seeds.item), ("seeds", seeds.seed), ("both", seeds.joint)] {
            let labels = [("metric", seeds.metric.word()), ("from", from)];
            out.sample("karat_seed_variance", &labels, Some(value));
        }
    }
    out.family("karat_ledger_uses", "gauge", "Verdicts shown on these rows, and how many may be.");
    for ledger in verdict.iter().filter_map(|it| it.ledger.as_ref()) {
        out.sample("karat_ledger_uses", &[("kind", "made")], Some(f64::from(ledger.n_uses)));
        let allowed = ledger.n_allowed.map(f64::from);
        out.sample("karat_ledger_uses", &[("kind", "allowed")], allowed);
    }

    out.family("karat_loss", "gauge", "Last loss of the training run.");
    if let Some(train) = &summary.train {
        for (split, points) in [("train", &train.losses), ("eval", &train.eval_losses)] {
            out.sample("karat_loss", &[("split", split)], points.last().map(|it| it[1]));
        }
    }
    out.text.push_str("# EOF\n");
    out.text
}

fn of<'a>(cell: &'a Cell, last: (&'a str, &'a str)) -> [(&'a str, &'a str); 3] {
    [("metric", cell.metric.word()), ("slice", &cell.slice), last]
}

#[derive(Default)]
struct Text {
    text: String,
    /// Names with labels that have a value: a second value of the same would make the whole text invalid.
    seen: BTreeSet<String>,
}

impl Text {
    fn family(&mut self, name: &str, kind: &str, help: &str) {
        self.text.push_str(&format!("# TYPE {name} {kind}\n# HELP {name} {help}\n"));
    }

    fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: Option<f64>) {
        let Some(value) = value.filter(|it| it.is_finite()) else { return };
        let labels: Vec<String> =
            labels.iter().map(|(key, value)| format!("{key}=\"{}\"", label(value))).collect();
        let sample = format!("{name}{{{}}}", labels.join(","));
        if self.seen.insert(sample.clone()) {
            self.text.push_str(&format!("{sample} {}\n", machine(value)));
        }
    }

    fn interval(&mut self, name: &str, cell: &Cell, interval: Option<[f64; 2]>) {
        if let Some([low, high]) = interval {
            self.sample(name, &of(cell, ("end", "low")), Some(low));
            self.sample(name, &of(cell, ("end", "high")), Some(high));
        }
    }

    fn findings(&mut self, step: &str, findings: &[Finding]) {
        for outcome in OUTCOMES {
            let n = findings.iter().filter(|it| it.outcome == outcome).count();
            let labels = [("step", step), ("outcome", outcome.word())];
            self.sample("karat_findings", &labels, Some(n as f64));
        }
    }
}

/// A label's value: one line, with the two characters that mean something inside quotes escaped.
fn label(text: &str) -> String {
    line(text).replace('\\', "\\\\").replace('"', "\\\"")
}
