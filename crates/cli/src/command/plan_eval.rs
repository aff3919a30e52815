//! `karat plan-eval`: how many labelled rows a comparison needs, and which rows are worth a label.

use karat_core::{Exit, Failure, metric::Metric, thousands};
use karat_pipeline::{Baseline, Case, EvalPlan, PlanOptions, pick_gate};
use serde_json::json;

use crate::{args::PlanEvalArgs, context::Session, render::table::TextTable};

/// Rows worth a label that are shown; all of them are in `--out`.
const WORTH_SHOWN: usize = 5;

pub(crate) fn run(session: &Session, args: &PlanEvalArgs) -> Result<Exit, Failure> {
    refuse_other_format(args)?;
    let project = &session.project_to_compute()?;
    let policy = &session.policy()?;
    let (gate, candidate) = super::gate::parse(&args.what)?;
    let gate = pick_gate(policy, gate.as_ref())?;
    let schema = session.schema(project, &project.train.dataset)?;
    let workshop = session.open_existing()?;
    let lab = session.lab(&workshop);
    let candidate = &match candidate {
        Some(reference) => lab.resolve(&reference)?,
        None => lab.newest(&project.train.name)?,
    };
    let baseline = &match &args.baseline {
        Some(reference) => Baseline::Given(lab.resolve(reference)?),
        None => Baseline::AsDeclared,
    };
    let mut observer = session.observer();
    let frozen = &lab.freeze(&mut observer, project.dataset(&project.train.dataset)?, schema)?;
    let checked = &lab.check(&mut observer, project, frozen)?;
    let case = Case { project, policy, gate, frozen, checked, candidate, baseline };
    let options = PlanOptions {
        metric: args.metric,
        detect: args.detect,
        margin: args.margin,
        power: args.power,
        label_noise: args.label_noise,
    };
    let plan = lab.plan_eval(&mut observer, &case, &options)?;
    let mut written = None;
    if let Some(out) = &args.out {
        let path = session.path(out);
        karat_store::write_durably(&path, plan.unlabeled.to_csv().as_bytes())?;
        written = Some(path.display().to_string());
    }
    session.text(&render(&plan, written.as_deref()));
    session.json(&json!({ "event": "planned", "plan": plan, "out": written }));
    Ok(Exit::Pass)
}

fn refuse_other_format(args: &PlanEvalArgs) -> Result<(), Failure> {
    match &args.out {
        Some(out) if out.extension().is_none_or(|it| !it.eq_ignore_ascii_case("csv")) => {
            Err(Failure::new(
                "out-format",
                Exit::Usage,
                format!(
                    "`{}` does not end in `.csv`: rows worth a label are written as CSV",
                    out.display()
                ),
            ))
        }
        _ => Ok(()),
    }
}

fn render(plan: &EvalPlan, written: Option<&str>) -> String {
    let EvalPlan { candidate, baseline, split, metric, .. } = plan;
    let effect = |x: f64| match metric {
        Metric::Accuracy => format!("{} pp", trimmed(100.0 * x)),
        _ => trimmed(x),
    };
    let mut lines = vec![format!(
        "{candidate} against {baseline}, split `{split}`: {} labelled rows",
        thousands(plan.n_rows)
    )];
    if let Some(share) = plan.disagreement {
        let n = (share * plan.n_rows as f64).round() as u64;
        lines.push(format!(
            "they predict another class for {} % of them ({} rows)",
            trimmed(100.0 * share),
            thousands(n)
        ));
    }
    if 0.0 < plan.label_noise {
        lines.push(format!(
            "{} % of labels are taken to be wrong: {} times the rows",
            trimmed(100.0 * plan.label_noise),
            trimmed((1.0 - 2.0 * plan.label_noise).powi(-2))
        ));
    }
    if let Some(seen) = plan.effect_seen {
        lines.push(format!(
            "these rows show a difference in {metric} from {} on, at reliability {} and power {}",
            effect(seen),
            plan.reliability,
            plan.power
        ));
    }
    lines.push(String::new());
    let mut table = TextTable::new(&["difference", "rows to see it", "rows to rule it out", ""]);
    let rows = |n: Option<u64>| n.map_or_else(|| "-".to_owned(), thousands);
    let sizes = plan.sizes.iter().chain(&plan.margin);
    for (at, size) in sizes.enumerate() {
        let is_margin = plan.sizes.len() <= at;
        let remark = match (is_margin, size.is_asked) {
            (true, _) => "--margin".to_owned(),
            (false, true) => format!("--detect; {}", missing(size.n_better, plan.n_rows)),
            (false, false) => String::new(),
        };
        table.row(vec![effect(size.effect), rows(size.n_better), rows(size.n_not_worse), remark]);
    }
    lines.extend(table.lines());
    lines.push(String::new());
    lines.extend(worth(plan, written));
    lines.join("\n")
}

/// What the asked difference needs beside what is there.
fn missing(needed: Option<u64>, there: u64) -> String {
    match needed {
        None => "larger than the models' disagreement".to_owned(),
        Some(needed) if needed <= there => "the labelled rows are enough".to_owned(),
        Some(needed) => format!("{} more labelled rows", thousands(needed - there)),
    }
}

fn worth(plan: &EvalPlan, written: Option<&str>) -> Vec<String> {
    let rest = &plan.unlabeled;
    if rest.n_rows == 0 {
        return vec![format!("every row of split `{}` has a label", plan.split)];
    }
    let mut lines = vec![format!(
        "worth a label: {} of {} unlabelled rows, which the two predict differently; on the others both are right or both are wrong",
        thousands(rest.worth.len() as u64),
        thousands(rest.n_rows)
    )];
    let mut table = TextTable::new(&[&rest.key, &plan.baseline, &plan.candidate, "difference"]);
    for it in rest.worth.iter().take(WORTH_SHOWN) {
        let difference = format!("{:.4}", it.difference);
        table.row(vec![it.row.clone(), it.baseline.clone(), it.candidate.clone(), difference]);
    }
    if !rest.worth.is_empty() {
        lines.extend(table.lines());
    }
    lines.push(match written {
        Some(path) => format!("rows     {path}"),
        None => "next     --out rows.csv   writes all of them".to_owned(),
    });
    lines
}

/// Three significant digits, without zeros that say nothing.
fn trimmed(x: f64) -> String {
    let digits = (2.0 - x.abs().max(1e-9).log10().floor()).clamp(0.0, 9.0) as usize;
    let text = format!("{x:.digits$}");
    match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.').to_owned(),
        false => text,
    }
}

#[cfg(test)]
mod tests {
    use super::{missing, trimmed};

    #[test]
    fn numbers_are_short_and_true() {
        let found = [0.5, 0.05, 12.345, 1234.5, 0.001_234_5, 1.0].map(trimmed);
        assert_eq!(found, ["0.5", "0.05", "12.3", "1234", "0.00123", "1"]);
        assert_eq!(missing(Some(12_364), 3_000), "9,364 more labelled rows");
        assert_eq!(missing(Some(10), 10), "the labelled rows are enough");
        assert_eq!(missing(None, 10), "larger than the models' disagreement");
    }
}
