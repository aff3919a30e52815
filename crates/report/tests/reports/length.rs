//! `report.md` for a run with far more to say than a comment holds.

use karat_core::{Finding, Outcome, metric::Metric, verdict::Cell};
use karat_report::{REPORT_MD_LEN_MAX, model_card, report_html, report_md};

use crate::summaries::flights;

#[test]
fn a_huge_report_is_cut_where_it_says_so_and_keeps_every_section() {
    let mut summary = flights();
    let long = "`|<𝔘> ".repeat(80);
    let verdict = summary.verdict.as_mut().expect("judged");
    for i in 0..600 {
        let outcome = if i % 2 == 0 { Outcome::Pass } else { Outcome::Inconclusive };
        let mut finding = Finding::new(format!("rule {i}"), &long, outcome, &long, &long);
        finding.examples = vec![long.clone(); 4];
        finding.advice = Some(format!("advice {i} {long}"));
        finding.numbers = (0..4).map(|i| (format!("{i} {long}"), 1.0)).collect();
        summary.checks.push(finding.clone());
        verdict.findings.push(finding);
    }
    for metric in Metric::ALL {
        for i in 0..60 {
            verdict.report.cells.push(Cell {
                metric,
                slice: format!("{long}{i}"),
                ..verdict.report.cells[0].clone()
            });
        }
    }
    verdict.gate.clone_from(&long);
    let train = summary.train.as_mut().expect("trained");
    train.features = (0..600).map(|i| (format!("{long}{i}"), long.clone())).collect();
    train.spec = serde_json::json!(vec![long.clone(); 100]);
    summary.data.splits = vec![(long.clone(), 1, 1); 500];
    summary.promotion.as_mut().expect("asked for").reason.clone_from(&long);

    let report = report_md(&summary);
    for (text, titles) in [
        (
            &report,
            ["Rules", "Metrics", "By slice", "Checks", "Rows", "Training", "Lineage", "Next"]
                .as_slice(),
        ),
        (&model_card(&summary), &["What it is", "Features", "Evaluation", "Limits", "Lineage"]),
    ] {
        assert!(text.len() <= REPORT_MD_LEN_MAX, "{} bytes", text.len());
        assert!(REPORT_MD_LEN_MAX / 2 < text.len(), "{} bytes: the room is used", text.len());
        for title in titles {
            assert!(text.contains(&format!("\n## {title}\n")), "{title}");
        }
        assert!(text.contains("… and ") && text.contains(" more rows\n"));
        assert_eq!(text.matches("<details>").count(), text.matches("</details>").count());
    }
    // What fails is what a cut report still shows.
    assert!(report.contains("| **✗ fail** | 2 | `not worse anywhere` |"));
    assert!(report.contains("auc, slice carrier=UA: worse than allowed"));
    assert!(report.contains("| snapshot | `sha256:"), "lineage keeps its room");

    // Not only rows are cut: the tables of the last metrics have no room even for their heads.
    assert!(report.contains(" more parts, left out for length\n"));

    // HTML has no limit and leaves nothing out.
    let html = report_html(&summary);
    assert!(html.contains("rule 599") && !html.contains("more rows"));
    assert!(html.contains("more slices in the table"));
}

#[test]
fn a_report_that_fits_leaves_nothing_out() {
    assert!(!report_md(&flights()).contains("… and"));
}
