//! Explanations whose numbers anybody can recompute.

use karat_core::{
    Digest, Document, Explanation, ScoredRows,
    policy::{Gate, Measure, Policy},
    summary::CodeVersion,
    verdict::Judged,
};

use super::explain;
use crate::{
    GateInput, decide,
    parallel::Serial,
    testing::{binary, family, flights},
};

fn gate(text: &str) -> Gate {
    let text = format!("version = 1\n[gate.release]\n{text}\n");
    let policy = Document::parse("gate.toml", text).and_then(|it| Policy::read(&it));
    let policy = policy.unwrap_or_else(|failure| panic!("{failure:?}"));
    policy.gates.into_values().next().expect("one gate")
}

fn judged() -> Judged {
    let digest = |text: &str| Digest::of(text.as_bytes());
    Judged {
        candidate: digest("flights@2"),
        baseline: Some(digest("flights@1")),
        snapshot: digest("snapshot"),
        rows: digest("rows"),
        predictions: digest("predictions"),
        baseline_predictions: Some(digest("baseline predictions")),
        anchor: None,
        anchor_predictions: None,
        policy: digest("policy"),
        tool: "test".to_owned(),
        binary: None,
        code: CodeVersion::default(),
    }
}

#[track_caller]
fn text(explanation: &Explanation, title: &str, name: &str) -> String {
    let part = explanation.parts.iter().find(|it| it.title == title);
    let line = part.and_then(|part| part.lines.iter().find(|it| it.name == name));
    line.unwrap_or_else(|| panic!("no `{name}` of `{title}`:\n{explanation}")).text.clone()
}

/// n = 50, b = 12, c = 2: Tango's published interval −, and everything else by hand.
fn fifty() -> (ScoredRows, ScoredRows) {
    let label = vec![1.0; 50];
    // Rows 0 to 11 are right only now, 12 and 13 only before, 14 to 40 always, the others never.
    let score = |right: &dyn Fn(usize) -> bool| {
        (0..50).map(|row| if right(row) { 0.9 } else { 0.1 }).collect::<Vec<f32>>()
    };
    let new = binary(label.clone(), score(&|row| row < 12 || (14..41).contains(&row)));
    let old = binary(label, score(&|row| (12..41).contains(&row)));
    (new, old)
}

#[test]
fn every_number_of_a_paired_accuracy_follows_by_hand() {
    let (new, old) = fifty();
    let gate = gate(
        r#"reliability = 0.975
        rule = [{ name = "not worse", metric = "accuracy", max_regression = { absolute = 0.05 } }]"#,
    );
    let input = GateInput {
        baseline: Some(&old),
        baseline_label: "flights@1".to_owned(),
        ..GateInput::new(&new, judged(), "2026-06-15")
    };
    let found = explain(&gate, "not worse", &input, &Serial).expect("a rule");
    let of = |line: &str| text(&found, "accuracy, slice all", line);
    assert_eq!(text(&found, "the level", "α asked"), "1 − 0.975 = 0.025000");
    assert_eq!(
        text(&found, "the level", "z"),
        "Φ⁻¹(1 − α) = 1.95996; the interval is two-sided at 1 − 2α = 95 %"
    );
    assert_eq!(text(&found, "the level", "power"), "0.8: z_β = 0.841621");
    assert_eq!(of("rows"), "50 rows");
    assert_eq!(
        of("flips"),
        "b = 12 wrong → right, c = 2 right → wrong, D = b + c = 14, ψ = D/n = 0.280000"
    );
    // 39 and 29 of 50.
    assert_eq!(of("estimate"), "0.780000 − 0.580000 = 0.200000");
    // The interval of the published example.
    assert_eq!(
        of("interval"),
        "Tango: where (b − c − nλ)/√(n(2q̂ + λ(1 − λ))) = ±z with b = 12, c = 2, n = 50, z = 1.95996: 0.061112 to \
         0.344709"
    );
    // Mid-p of 2 of 14: 2 (1 + 14)/2¹⁴ + 91/2¹⁴ = 121/16384.
    assert_eq!(
        of("P"),
        format!(
            "of \"no difference\", two-sided: {:.6} (Tango; P by McNemar mid-p)",
            121.0 / 16384.0
        )
    );
    // The δ that solves (1.95996 √.28 + 0.841621 √(.28 − δ²))² = 50 δ².
    let effect = of("effect seen");
    let delta: f64 = effect.rsplit(' ').next().and_then(|it| it.parse().ok()).expect("a number");
    let root = 1.959_964 * 0.28_f64.sqrt() + 0.841_621 * (0.28 - delta * delta).sqrt();
    assert!((root * root / (delta * delta) - 50.0).abs() < 0.01, "{effect}");
    // (1.959964 + 0.841621)² × .28 / .05² = 879.06…
    assert_eq!(
        of("rows needed"),
        "if equal: (z_α + z_β)² ψ/Δ² = (1.95996 + 0.841621)² × 0.280000 / 0.050000² = 880"
    );
    assert_eq!(
        of("compared"),
        "passes if L = 0.061112 > -0.05: yes; fails if U = 0.344709 < -0.05: no"
    );
    assert_eq!(of("outcome"), "pass");
    // Row 12 is the first that was right and is not: names are file rows, from 1.
    assert!(of("examples").contains("right to wrong: row 13"), "{}", of("examples"));
}

#[test]
fn a_share_and_a_budget_follow_by_hand() {
    let (new, _) = fifty();
    let gate = gate(
        r#"baseline = "none"
        budget = { uses = 4, adaptivity = "none", reveal = "numbers" }
        rule = [{ name = "floor", metric = "accuracy", min = 0.9 }]"#,
    );
    let input = GateInput::new(&new, judged(), "2026-06-15");
    let found = explain(&gate, "floor", &input, &Serial).expect("a rule");
    // Wilson of 39/50 at z = 1.644854: centre .78 + .027055 = .807055, half 1.644854 √(.1716/50 + .000270554) = .100077,
    // all over 1.054111.
    let low = (0.78 + 2.705_543 / 100.0
        - 1.644_854 * (0.1716_f64 / 50.0 + 2.705_543 / 10_000.0).sqrt())
        / (1.0 + 2.705_543 / 50.0);
    let interval = text(&found, "accuracy, slice all", "interval");
    assert!(interval.contains("p̂ = 39/50, z = 1.64485"), "{interval}");
    assert!(interval.contains(&format!(": {low:.6} to ")), "{low} {interval}");
    assert_eq!(
        text(&found, "the level", "budget"),
        "4 uses, numbers shown: uses are counted, reuse is not bounded, α stays"
    );
    assert_eq!(text(&found, "accuracy, slice all", "outcome"), "fail");
}

#[test]
fn what_is_explained_is_what_was_decided() {
    let names: Vec<String> = (0..6).map(|at| format!("{at}")).collect();
    let with_origins = |mut rows: ScoredRows| {
        let of_row: Vec<&str> = (0..rows.n_rows()).map(|row| names[row % 6].as_str()).collect();
        rows.slices.push(family("origin", &of_row));
        rows
    };
    let new = with_origins(flights(1_200, "new", 0.9));
    let old = with_origins(flights(1_200, "old", 1.0));
    let first = with_origins(flights(1_200, "first", 1.4));
    let gate = gate(
        r#"anchor = "flights@1"
        n_resamples = 1999
        rule = [
            { name = "other", metric = "auc", min = 0.5 },
            { name = "log", metric = "log_loss", slices = ["all", "origin=*", "night"], max_regression = { relative = 0.02 }, n_rows_min = 100 },
            { metric = "clean_git" },
        ]
        waiver = [{ rule = "clean_git", until = 2026-12-31, by = "ana", reason = "import" }]"#,
    );
    let mut input = GateInput {
        baseline: Some(&old),
        anchor: Some(&first),
        ..GateInput::new(&new, judged(), "2026-06-15")
    };
    input.operational.insert(Measure::CleanGit, Ok(0.0));
    let verdict = decide(&gate, &input, &Serial);
    let found = explain(&gate, "log", &input, &Serial).expect("a rule");
    let mine: Vec<_> = verdict.findings.iter().filter(|it| it.rule == "log").collect();
    // All rows, six origins and the empty slice; the same again for the anchor.
    assert_eq!(mine.len(), 16);
    for finding in mine {
        assert_eq!(text(&found, &finding.subject, "outcome"), finding.outcome.word());
        if let Some([low, high]) = finding.interval {
            let ends = format!(": {} to {}", super::precise(low), super::precise(high));
            let told = text(&found, &finding.subject, "interval");
            assert!(told.ends_with(&ends), "{told} {ends}");
        }
    }
    let many: Vec<&str> = found
        .parts
        .iter()
        .map(|it| it.title.as_str())
        .filter(|it| it.starts_with("all 7 slices"))
        .collect();
    assert_eq!(many.len(), 2);
    let value = explain(&gate, "clean_git", &input, &Serial).expect("a rule");
    assert_eq!(text(&value, "rule `clean_git` of gate `release`", "outcome"), "waived");

    let failure = explain(&gate, "lag", &input, &Serial).expect_err("unknown");
    assert_eq!(failure.code.as_str(), "rule-unknown");
    assert_eq!(
        failure.message,
        "gate `release` has no rule `lag`: the nearest are `log`, `other`, `clean_git`"
    );
    assert!(
        found.to_string().contains("\nthe level\n  α asked          1 − 0.95 = 0.050000\n"),
        "{found}"
    );
}

#[test]
fn what_must_stay_unseen_is_not_explained() {
    let (new, old) = fifty();
    let gate = gate(
        r#"budget = { uses = 2, adaptivity = "full", reveal = "verdict" }
        rule = [{ name = "not worse", metric = "accuracy", max_regression = { absolute = 0.05 } }]"#,
    );
    let mut input =
        GateInput { baseline: Some(&old), ..GateInput::new(&new, judged(), "2026-06-15") };
    let found = explain(&gate, "not worse", &input, &Serial).expect("a rule");
    // 2² transcripts: .05 / 4.
    assert_eq!(text(&found, "the level", "α of one verdict"), "α / transcripts = 0.012500");
    assert!(text(&found, "the answer", "numbers").starts_with("stay unseen"));
    assert_eq!(found.parts.len(), 3);
    input.budget_left = false;
    let found = explain(&gate, "not worse", &input, &Serial).expect("a rule");
    assert_eq!(text(&found, "the answer", "outcome"), "inconclusive");
}
