//! The plausible summary in every format, byte for byte; open `tests/golden/report.html` to see it.

use expect_test::{expect, expect_file};
use karat_core::{Verdict, summary::RunSummary};
use karat_report::{
    code_quality, junit_xml, metrics_json, model_card, openmetrics, report_html, report_json,
    report_md, verdict_json,
};

use crate::{
    hostile::hostile,
    outputs::places,
    summaries::{empty, flights},
};

#[test]
fn report_md_is_as_pinned() {
    expect_file!["../golden/report.md"].assert_eq(&report_md(&flights()));
}

#[test]
fn report_html_is_as_pinned() {
    expect_file!["../golden/report.html"].assert_eq(&report_html(&flights()));
}

#[test]
fn junit_xml_is_as_pinned() {
    expect_file!["../golden/junit.xml"].assert_eq(&junit_xml(&flights()));
}

#[test]
fn code_quality_is_as_pinned() {
    let text = code_quality(&flights(), &places());
    expect_file!["../golden/code-quality.json"].assert_eq(&text);
}

/// Pinned for the readers of other people that `ci/interop.py` asks: what is hostile must be valid there too.
#[test]
fn hostile_files_for_machines_are_as_pinned() {
    let hostile = hostile();
    expect_file!["../golden/hostile-junit.xml"].assert_eq(&junit_xml(&hostile));
    expect_file!["../golden/hostile-metrics.txt"].assert_eq(&openmetrics(&hostile));
    let text = code_quality(&hostile, &places());
    expect_file!["../golden/hostile-code-quality.json"].assert_eq(&text);
}

#[test]
fn model_card_is_as_pinned() {
    expect_file!["../golden/MODEL_CARD.md"].assert_eq(&model_card(&flights()));
}

#[test]
fn openmetrics_is_as_pinned() {
    expect_file!["../golden/metrics.txt"].assert_eq(&openmetrics(&flights()));
}

#[test]
fn metrics_json_nests_slices_and_leaves_out_what_was_not_measured() {
    expect![[r#"
        {
          "auc": 0.6912,
          "log_loss": 0.5021,
          "operational": {
            "latency_p95_ms": 4.217,
            "model_size_mib": 0.3721,
            "replay_identical": 1.0,
            "robustness(noise=0.05)": 0.0312,
            "rows_per_second": 812345.6
          },
          "slices": {
            "carrier=UA": {
              "auc": 0.6702,
              "log_loss": 0.5313
            },
            "evening": {
              "auc": 0.6611
            }
          }
        }
    "#]]
    .assert_eq(&metrics_json(&flights()));
    assert_eq!(metrics_json(&empty()), "{}\n");
}

#[test]
fn json_parses_back_into_the_same_values_and_is_sorted() {
    let text = report_json(&flights());
    let back: RunSummary = serde_json::from_str(&text).expect("a summary");
    assert_eq!(back, flights());
    let keys: Vec<&str> = text
        .lines()
        .filter_map(|it| it.strip_prefix("  \"")?.split_once('"').map(|it| it.0))
        .collect();
    assert!(keys.is_sorted() && keys.contains(&"version"), "{keys:?}");

    let verdict = flights().verdict.expect("judged");
    let back: Verdict = serde_json::from_str(&verdict_json(&verdict)).expect("a verdict");
    assert_eq!(back, verdict);
}

#[test]
fn a_run_without_anything_still_renders_everywhere() {
    let summary = empty();
    expect![[r#"
        # nothing was decided: no check and no gate was asked

        ## Rows

        `flights@9f3c21ab`: 336,776 rows in 12 files

        ## Lineage

        | what | value |
        | --- | --- |
        | snapshot | `sha256:16a0eeb0791b6c92451fd284dd9f599e0a7dbe7f6ebea6e2d2d06c7f74aec112` |
        | code | not in a git work tree |
        | tool | `karat 0.1.0` |
    "#]]
    .assert_eq(&report_md(&summary));
    crate::xml::parse_html(&report_html(&summary));
    crate::xml::parse(&junit_xml(&summary));
    assert!(model_card(&summary).contains("never judged"));
    assert!(openmetrics(&summary).ends_with("# EOF\n"));
}
