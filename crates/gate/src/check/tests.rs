//! Cases for `check`. Each breaks one thing in a sound profile and shows what is said about it, as text, so the API may
//! change without touching them. `UPDATE_EXPECT=1 cargo test -p karat-gate` rewrites the right-hand sides.

use std::{collections::BTreeMap, fmt::Write as _};

use expect_test::{Expect, expect};
use karat_core::{
    CheckLevel, CheckSetting, Column, ColumnType, Digest, Finding, Outcome, Profile, Role, Schema,
    Task,
    profile::{Association, ColumnProfile, Offender, Offenders, Overlap, Repeats, SplitProfile},
};

use super::{CHECKS, Context, check as ask, names};

mod leaks;

/// Everything a check looks at.
struct Case {
    schema: Schema,
    profile: Profile,
    settings: BTreeMap<String, CheckSetting>,
}

impl Case {
    fn schema(&mut self, name: &str) -> &mut Column {
        self.schema.columns.iter_mut().find(|it| it.name == name).expect("a column")
    }

    fn column(&mut self, name: &str) -> &mut ColumnProfile {
        self.profile.columns.iter_mut().find(|it| it.name == name).expect("a column")
    }

    fn split(&mut self, name: &str) -> &mut SplitProfile {
        self.profile.splits.get_mut(name).expect("a split")
    }

    fn set(&mut self, check: &str, level: Option<CheckLevel>, bound: Option<f64>) {
        self.settings.insert(check.to_owned(), CheckSetting { level, bound });
    }

    fn findings(&self) -> Vec<Finding> {
        let context = Context { train: "train", eval: "eval", holdout: "holdout" };
        ask(&self.profile, &self.schema, &self.settings, &context)
    }
}

/// 10,000 customers, of whom one in five left; nothing is wrong with them.
fn sound() -> Case {
    let mut id = Column::new("id", ColumnType::Int, Role::Key);
    id.unique = true;
    let mut age = Column::new("age", ColumnType::Int, Role::Feature);
    (age.min, age.max, age.missing_max) = (Some(18.0), Some(120.0), Some(0.02));
    let mut country = Column::new("country", ColumnType::Text, Role::Feature);
    country.domain = Some(["DE", "FR", "IT"].map(str::to_owned).to_vec());
    let schema = Schema {
        columns: vec![
            id,
            age,
            country,
            Column::new("since", ColumnType::Time, Role::Time),
            Column::new("left", ColumnType::Text, Role::Label),
        ],
    };
    let column = |it: &Column| ColumnProfile {
        name: it.name.clone(),
        ty: it.ty,
        n_missing: 0,
        n_not_finite: 0,
        n_distinct: if it.name == "left" { 2 } else { 80 },
        distinct_is_exact: true,
        min: None,
        max: None,
        mean: None,
        std: None,
        top: vec![("44".to_owned(), 5_000)],
        wrong_type: Offenders::default(),
        out_of_range: Offenders::default(),
        out_of_domain: Offenders::default(),
        repeated: Offenders::default(),
        image: None,
    };
    let split = |n: u64| SplitProfile {
        n_rows: n,
        n_labeled: n,
        label_counts: [("no".to_owned(), n - n / 5), ("yes".to_owned(), n / 5)].into(),
        label_mean: None,
    };
    let splits = [("train", 7_000), ("eval", 1_000), ("holdout", 2_000)];
    let overlap = |a: &str, b: &str| Overlap {
        a: a.to_owned(),
        b: b.to_owned(),
        n_same_row: 0,
        n_same_key: 0,
        n_same_features: 0,
    };
    let profile = Profile {
        snapshot: Digest::of(b"snapshot"),
        n_rows: 10_000,
        columns: schema.columns.iter().map(column).collect(),
        absent: Vec::new(),
        unnamed: Vec::new(),
        key: Some(Repeats::default()),
        duplicates: Repeats::default(),
        splits: splits.iter().map(|(name, n)| ((*name).to_owned(), split(*n))).collect(),
        overlaps: vec![
            overlap("eval", "holdout"),
            overlap("eval", "train"),
            overlap("holdout", "train"),
        ],
        associations: vec![
            classes("age", [[400.0, 100.0], [400.0, 100.0], [320.0, 80.0]]),
            classes("country", [[500.0, 100.0], [300.0, 100.0], [320.0, 80.0]]),
        ],
    };
    Case { schema, profile, settings: BTreeMap::new() }
}

/// The same cells in each of five folds: (no, yes) by bin, the first bin "missing".
fn classes(column: &str, cells: [[f64; 2]; 3]) -> Association {
    let n: f64 = cells.iter().flatten().sum();
    Association {
        column: column.to_owned(),
        task: Task::Binary,
        n_rows: 5 * n as u64,
        bins: ["missing", "low", "high"].map(str::to_owned).to_vec(),
        classes: ["no", "yes"].map(str::to_owned).to_vec(),
        cells: vec![cells.map(|it| it.to_vec()).to_vec(); 5],
    }
}

fn offenders(n: u64, value: &str) -> Offenders {
    let at = |row| Offender { file: "part-7.csv".to_owned(), row, value: value.to_owned() };
    Offenders { n, examples: vec![at(88_213), at(88_219)] }
}

fn shown<'a>(findings: impl IntoIterator<Item = &'a Finding>) -> String {
    let mut text = String::new();
    for it in findings {
        let _ =
            writeln!(text, "{}: {} ({}): {}", it.outcome.word(), it.rule, it.subject, it.message);
        for example in &it.examples {
            let _ = writeln!(text, "    {example}");
        }
        if let Some(advice) = &it.advice {
            let _ = writeln!(text, "    {advice}");
        }
    }
    text
}

/// The only place that knows how `check` is called. Shows everything that does not pass.
#[track_caller]
fn check(breaks: impl FnOnce(&mut Case), expected: Expect) {
    let mut case = sound();
    breaks(&mut case);
    let findings = case.findings();
    expected.assert_eq(&shown(findings.iter().filter(|it| it.outcome != Outcome::Pass)));
}

#[test]
fn a_sound_snapshot_passes_and_every_check_says_what_it_looked_at() {
    let findings = sound().findings();
    assert!(findings.iter().all(|it| it.outcome == Outcome::Pass));
    assert_eq!(findings.iter().map(|it| it.rule.as_str()).collect::<Vec<_>>(), names());
    expect![[r#"
        pass: schema.columns (all): asked of 5 columns
        pass: schema.rows (all): 10,000 rows
        pass: schema.type (all): asked of 5 columns
        pass: schema.empty (all): asked of 3 columns
        pass: schema.null (all): asked of 1 column with a limit
        pass: schema.finite (all): asked of 5 columns
        pass: schema.range (all): asked of 1 column
        pass: schema.domain (all): asked of 1 column
        pass: schema.unique (all): asked of 1 column
        pass: schema.key (all): key (id) is there and unique
        pass: vary.constant (all): asked of 2 features
        pass: vary.duplicate (all): 0 of 10,000 rows (0 %) repeat an earlier row in every column
        pass: split.size (all): train 7,000, eval 1,000, holdout 2,000
        pass: split.disjoint (all): asked of 3 pairs
        pass: split.duplicate (all): asked of 3 pairs
        pass: leak.after (all): asked of 2 features
        pass: leak.target (all): asked of 2 features; the most telling is `country` at 0.5574
        pass: label.constant (all): the label varies in all 3 splits
        pass: label.new (all): `train` has all 2 classes
        pass: label.balance (all): rarest classes: train 20 % `yes`, eval 20 % `yes`, holdout 20 % `yes`
        pass: label.missing (all): rows without a label: train 0 %, eval 0 %, holdout 0 %
    "#]].assert_eq(&shown(&findings));
}

#[test]
fn names_are_unique_and_have_a_group() {
    let mut seen = names();
    seen.sort_unstable();
    seen.dedup();
    assert_eq!(seen.len(), CHECKS.len());
    assert!(seen.iter().all(|it| it.split_once('.').is_some()));
}

#[test]
fn absent_columns_fail_and_unnamed_ones_warn() {
    check(
        |it| {
            it.profile.absent = vec!["age".to_owned()];
            it.profile.unnamed = vec!["Age".to_owned(), "plan".to_owned()];
            it.profile.columns.remove(1);
            it.profile.associations.remove(0);
        },
        expect![[r#"
            fail: schema.columns (age): column `age` is in the schema and in no file
                the files have `Age`, `plan`, which the schema does not name
            warn: schema.columns (Age): column `Age` is in the files and not in the schema, so nothing uses or checks it
            warn: schema.columns (plan): column `plan` is in the files and not in the schema, so nothing uses or checks it
        "#]],
    );
}

#[test]
fn too_few_rows_fail() {
    check(
        |it| it.set("schema.rows", None, Some(20_000.0)),
        expect![[r#"
        fail: schema.rows (all): 10,000 rows, must be at least 20,000 rows
    "#]],
    );
}

#[test]
fn single_rows_that_break_a_constraint_are_counted_and_shown() {
    check(
        |it| {
            it.column("age").wrong_type = offenders(3, "forty");
            it.column("age").out_of_range = offenders(1_204, "-4");
            it.column("country").out_of_domain = offenders(5, "XK");
            it.column("id").repeated = offenders(2, "17");
            it.column("age").n_not_finite = 9;
        },
        expect![[r#"
            fail: schema.type (age): 3 of 10,000 rows (0.03 %) do not parse, expected int; first at part-7.csv row 88,213: forty
                part-7.csv row 88,213: forty
                part-7.csv row 88,219: forty
            fail: schema.finite (age): 9 of 10,000 rows (0.09 %) are NaN or infinite, must be finite in all but 0 %
                write missing values as missing: NaN counts as a value that is broken
            fail: schema.range (age): 1,204 of 10,000 rows (12 %) are outside the range, allowed is 18 to 120; first at part-7.csv row 88,213: -4
                part-7.csv row 88,213: -4
                part-7.csv row 88,219: -4
            fail: schema.domain (country): 5 of 10,000 rows (0.05 %) are not in the schema's set, allowed are `DE`, `FR`, `IT`; first at part-7.csv row 88,213: XK
                part-7.csv row 88,213: XK
                part-7.csv row 88,219: XK
            fail: schema.unique (id): 2 of 10,000 rows (0.02 %) repeat an earlier value, allowed is each value once; first at part-7.csv row 88,213: 17
                part-7.csv row 88,213: 17
                part-7.csv row 88,219: 17
        "#]],
    );
}

#[test]
fn a_bound_says_what_share_may() {
    check(
        |it| {
            it.column("age").out_of_range = offenders(100, "-4");
            it.set("schema.range", None, Some(0.01));
        },
        expect![[""]],
    );
    check(
        |it| {
            it.column("age").out_of_range = offenders(101, "-4");
            it.set("schema.range", None, Some(0.01));
        },
        expect![[r#"
            fail: schema.range (age): 101 of 10,000 rows (1.01 %) are outside the range, allowed is 18 to 120; first at part-7.csv row 88,213: -4
                part-7.csv row 88,213: -4
                part-7.csv row 88,219: -4
        "#]],
    );
}

#[test]
fn missing_values_have_the_columns_own_limit_or_the_projects() {
    check(
        |it| {
            it.column("age").n_missing = 201;
            it.column("country").n_missing = 5_000;
        },
        expect![[r#"
            fail: schema.null (age): 201 of 10,000 rows (2.01 %) have no value, allowed at most 2 %
        "#]],
    );
    check(
        |it| {
            it.column("country").n_missing = 5_000;
            it.set("schema.null", None, Some(0.1));
        },
        expect![[r#"
            fail: schema.null (country): 5,000 of 10,000 rows (50 %) have no value, allowed at most 10 %
        "#]],
    );
}

#[test]
fn an_all_missing_column_is_named() {
    check(
        |it| {
            let age = it.column("age");
            (age.n_missing, age.n_distinct) = (10_000, 0);
            age.top.clear();
            it.schema("age").missing_max = None;
        },
        expect![[r#"
            fail: schema.empty (age): none of 10,000 rows has a value
                `role = "ignore"` for `age` takes it out of the model
        "#]],
    );
}

#[test]
fn keys_that_repeat_or_are_missing_fail_and_uncounted_keys_are_not_applied() {
    check(
        |it| {
            let examples = offenders(0, "17").examples;
            it.profile.key = Some(Repeats { n_repeated: 12, n_missing: 1, examples });
        },
        expect![[r#"
            fail: schema.key (id): 12 of 10,000 rows have the key of an earlier row, allowed at most 0 rows; first at part-7.csv row 88,213: 17
                part-7.csv row 88,213: 17
                part-7.csv row 88,219: 17
            fail: schema.key (id): 1 of 10,000 rows have no key, allowed at most 0 rows; first at part-7.csv row 88,213: 17
                part-7.csv row 88,213: 17
                part-7.csv row 88,219: 17
        "#]],
    );
    check(
        |it| it.profile.key = None,
        expect![[r#"
        not applied: schema.key (id): the key was not counted: a key column is absent
    "#]],
    );
}

#[test]
fn a_constant_feature_fails_and_a_nearly_constant_one_warns() {
    check(
        |it| it.column("age").top = vec![("44".to_owned(), 10_000)],
        expect![[r#"
        fail: vary.constant (age): all 10,000 rows have `44`
            `role = "ignore"` for `age` takes it out of the model
    "#]],
    );
    check(
        |it| it.column("age").top = vec![("44".to_owned(), 9_995)],
        expect![[r#"
            warn: vary.constant (age): 9,995 of 10,000 rows (99.95 %) have `44`, should be below 99.9 %
        "#]],
    );
}

#[test]
fn repeated_rows_warn_and_very_many_fail() {
    let repeats = |n_repeated| Repeats { n_repeated, ..Repeats::default() };
    check(|it| it.profile.duplicates = repeats(500), expect![[""]]);
    check(
        |it| it.profile.duplicates = repeats(501),
        expect![[r#"
            warn: vary.duplicate (all): 501 of 10,000 rows (5.01 %) repeat an earlier row in every column, allowed at most 5 %
                a file read twice, or a join that multiplies rows, looks like this
        "#]],
    );
    check(
        |it| it.profile.duplicates = repeats(3_001),
        expect![[r#"
            fail: vary.duplicate (all): 3,001 of 10,000 rows (30 %) repeat an earlier row in every column, allowed at most 5 %
                a file read twice, or a join that multiplies rows, looks like this
        "#]],
    );
}

#[test]
fn splits_that_share_rows_or_keys_fail() {
    check(
        |it| {
            it.profile.overlaps[1].n_same_row = 3;
            it.profile.overlaps[2].n_same_key = 40;
        },
        expect![[r#"
            fail: split.disjoint (eval, train): 3 rows lie in both `eval` and `train`, allowed at most 0 rows
                the rules of the two splits overlap
            fail: split.disjoint (holdout, train): 40 rows share a key or group across both `holdout` and `train`, allowed at most 0 rows
                split by `hash`: it keeps keys and groups on one side
        "#]],
    );
    check(
        |it| it.profile.overlaps[2].n_same_features = 900,
        expect![[r#"
            warn: split.duplicate (holdout, train): 900 of 7,000 rows (12.9 %) of `train` have the features and the label of a row of `holdout`, allowed at most 5 % of the rows
        "#]],
    );
    check(
        |it| drop(it.profile.overlaps.pop()),
        expect![[r#"
        not applied: split.disjoint (all): only 2 pairs of the 3 splits were compared
    "#]],
    );
}

#[test]
fn splits_without_rows_fail_and_undeclared_ones_warn() {
    check(
        |it| {
            *it.split("eval") = SplitProfile::default();
            let holdout = it.profile.splits.remove("holdout").expect("a split");
            it.profile.splits.insert("hold_out".to_owned(), holdout);
        },
        expect![[r#"
            fail: split.size (eval): split `eval` has 0 rows, must be at least 1 rows
            warn: split.size (holdout): the holdout split `holdout` is not declared: declared are `hold_out`, `eval`, `train`
        "#]],
    );
}

#[test]
fn a_label_that_does_not_vary_fails() {
    check(
        |it| {
            it.column("left").n_distinct = 1;
            for split in it.profile.splits.values_mut() {
                split.label_counts = [("no".to_owned(), split.n_rows)].into();
            }
        },
        expect![[r#"
            fail: label.constant (left): the label has 1 distinct values in all rows
        "#]],
    );
    check(
        |it| {
            it.split("train").label_counts = [("no".to_owned(), 7_000)].into();
            it.split("holdout").n_labeled = 0;
            it.split("holdout").label_counts.clear();
        },
        expect![[r#"
            fail: label.constant (train): all 7,000 labelled rows of split `train` are `no`
            warn: label.constant (holdout): no row of split `holdout` has a label, of 2,000
            fail: label.new (eval): 200 rows of split `eval` have a class that `train` has not: `yes` (200); allowed at most 0 rows
            warn: label.missing (holdout): 2,000 of 2,000 rows (100 %) of `holdout` have no label, allowed at most 5 %
        "#]],
    );
}

#[test]
fn a_class_unseen_in_training_fails() {
    check(
        |it| {
            it.split("holdout").label_counts.insert("maybe".to_owned(), 60);
        },
        expect![[r#"
            fail: label.new (holdout): 60 rows of split `holdout` have a class that `train` has not: `maybe` (60); allowed at most 0 rows
        "#]],
    );
    check(
        |it| it.split("holdout").label_counts.clear(),
        expect![[r#"
        fail: label.new (holdout): split `holdout` has too many classes to be counted, `train` has 2
    "#]],
    );
    check(
        |it| it.split("train").label_counts.clear(),
        expect![[r#"
        not applied: label.new (train): the classes of `train` were too many to be counted
    "#]],
    );
}

#[test]
fn a_rare_class_and_missing_labels_warn() {
    check(
        |it| {
            it.split("eval").label_counts.insert("yes".to_owned(), 49);
            it.split("holdout").n_labeled = 1_800;
        },
        expect![[r#"
            warn: label.balance (eval): the rarest class of split `eval`, `yes`, has 49 of 1,000 rows (4.9 %), should be at least 50 rows
            warn: label.missing (holdout): 200 of 2,000 rows (10 %) of `holdout` have no label, allowed at most 5 %
        "#]],
    );
}

#[test]
fn an_absent_label_is_not_applied() {
    check(
        |it| {
            it.profile.absent = vec!["left".to_owned()];
            it.profile.columns.retain(|it| it.name != "left");
            it.profile.associations.clear();
            for split in it.profile.splits.values_mut() {
                split.n_labeled = 0;
                split.label_counts.clear();
            }
        },
        expect![[r#"
            fail: schema.columns (left): column `left` is in the schema and in no file
            not applied: leak.target (left): the label column is absent
            not applied: label.constant (left): the label column is absent
            warn: label.missing (left): the label column is absent
        "#]],
    );
}

#[test]
fn a_level_turns_errors_into_warnings_and_back() {
    check(
        |it| {
            it.column("age").wrong_type = offenders(3, "forty");
            it.set("schema.type", Some(CheckLevel::Warn), None);
            it.profile.duplicates.n_repeated = 600;
            it.set("vary.duplicate", Some(CheckLevel::Error), None);
            it.profile.key = None;
            it.set("schema.key", Some(CheckLevel::Warn), None);
            it.split("eval").label_counts.insert("yes".to_owned(), 49);
            it.set("label.balance", Some(CheckLevel::Error), None);
        },
        expect![[r#"
            warn: schema.type (age): 3 of 10,000 rows (0.03 %) do not parse, expected int; first at part-7.csv row 88,213: forty
                part-7.csv row 88,213: forty
                part-7.csv row 88,219: forty
            warn: schema.key (id): the key was not counted: a key column is absent
            fail: vary.duplicate (all): 600 of 10,000 rows (6 %) repeat an earlier row in every column, allowed at most 5 %
                a file read twice, or a join that multiplies rows, looks like this
            fail: label.balance (eval): the rarest class of split `eval`, `yes`, has 49 of 1,000 rows (4.9 %), should be at least 50 rows
        "#]],
    );
}

#[test]
fn a_check_that_is_off_says_so() {
    let mut case = sound();
    case.column("age").wrong_type = offenders(3, "forty");
    case.set("schema.type", Some(CheckLevel::Off), None);
    let findings = case.findings();
    let off = findings.iter().filter(|it| it.rule == "schema.type");
    expect![[r#"
        pass: schema.type (project): switched off by name, so nobody looked: every value parses as its type
    "#]].assert_eq(&shown(off));
}

#[test]
fn a_bound_that_is_no_number_is_met_by_nothing() {
    check(
        |it| {
            it.column("age").out_of_range = offenders(1, "-4");
            it.set("schema.range", None, Some(f64::NAN));
            it.set("schema.rows", None, Some(f64::NAN));
            it.set("leak.target", None, Some(f64::NAN));
        },
        expect![[r#"
            fail: schema.rows (all): 10,000 rows, must be at least 0 rows
            fail: schema.range (age): 1 of 10,000 rows (0.01 %) are outside the range, allowed is 18 to 120; first at part-7.csv row 88,213: -4
                part-7.csv row 88,213: -4
                part-7.csv row 88,219: -4
            fail: leak.target (age): `age` alone predicts `left`: 0.5000 AUC on 7,000 rows, must be below NaN
                if `age` is known only afterwards, mark it `known_after = true` and `role = "ignore"`; if it is truly known before, `[check."leak.target"]` with a higher `bound` says so
            fail: leak.target (country): `country` alone predicts `left`: 0.5574 AUC on 7,000 rows, must be below NaN
                if `country` is known only afterwards, mark it `known_after = true` and `role = "ignore"`; if it is truly known before, `[check."leak.target"]` with a higher `bound` says so
        "#]],
    );
}

#[test]
fn a_schema_without_label_key_or_splits_has_nothing_to_ask_there() {
    let mut case = sound();
    case.schema.columns.retain(|it| !matches!(it.role, Role::Label | Role::Key));
    case.profile.columns.retain(|it| !matches!(it.name.as_str(), "left" | "id"));
    (case.profile.key, case.profile.associations) = (None, Vec::new());
    case.profile.splits.clear();
    case.profile.overlaps.clear();
    let findings = case.findings();
    assert!(findings.iter().all(|it| it.outcome == Outcome::Pass), "{}", shown(&findings));
}

#[test]
fn many_findings_are_cut_short_and_counted() {
    let mut case = sound();
    case.profile.unnamed = (0..40).map(|it| format!("extra_{it:02}")).collect();
    case.profile.absent = vec!["age".to_owned()];
    let findings: Vec<Finding> =
        case.findings().into_iter().filter(|it| it.rule == "schema.columns").collect();
    assert_eq!(findings.len(), super::FINDINGS_MAX + 1);
    assert_eq!(findings[0].outcome, Outcome::Fail, "the worst comes first");
    expect![[r#"
        warn: schema.columns (the rest): and 21 more of the same: extra_19, extra_20, extra_21, extra_22, extra_23, …
    "#]].assert_eq(&shown(findings.last()));
}
