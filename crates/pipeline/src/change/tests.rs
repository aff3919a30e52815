//! A change edits what would judge it; the base's words stand, and the edit is named.

use karat_core::{
    Column, ColumnType, Digest, Document, FeatureKind, Outcome, Project, Role, Schema, Snapshot,
    SnapshotFile,
};

use super::{Pointer, data_since_base, project_under_base, refuse_stale, schema_under_base};

const BASE: &str = r#"
version = 1
[project]
name = "churn"
[dataset.churn]
files = "churn.csv"
[dataset.other]
files = "other.csv"
[split.churn]
train = { hash = [0, 70] }
eval = { hash = [70, 80] }
holdout = { hash = [80, 100] }
[slice]
region = { values = "region" }
[check."leak.target"]
level = "error"
[train]
dataset = "churn"
hidden = [8]
seed = 7
[score]
split = "holdout"
"#;

fn project(text: &str) -> Project {
    Project::read(&Document::parse("karat.toml", text).expect("TOML")).expect("a project")
}

#[test]
fn a_change_trains_as_it_likes() {
    let text = BASE.replace("hidden = [8]", "hidden = [16, 16]").replace("seed = 7", "seed = 8");
    let (judged, found) = project_under_base(&project(BASE), &project(&text)).expect("runs");
    assert_eq!(judged, project(&text));
    assert_eq!(found, []);
}

#[test]
fn nothing_that_judges_is_taken_from_the_change() {
    for (from, to, key) in [
        ("name = \"churn\"", "name = \"fresh\"", "project.name"),
        ("seed = 7", "name = \"fresh\"", "train.name"),
        ("dataset = \"churn\"", "dataset = \"other\"", "train.dataset"),
        ("seed = 7", "task = \"regression\"", "train.task"),
        ("seed = 7", "positive = \"no\"", "train.positive"),
        ("holdout = { hash = [80, 100] }", "holdout = { hash = [99, 100] }", "split.churn.holdout"),
        ("train = { hash = [0, 70] }", "train = { hash = [0, 100] }", "split.churn.train"),
        ("split = \"holdout\"", "split = \"train\"", "score.split"),
        ("split = \"holdout\"", "quarantine_max = 0.9", "score.quarantine_max"),
        ("region = { values = \"region\" }", "", "slice.region"),
        ("region = { values", "area = { values", "slice.area"),
        ("level = \"error\"", "level = \"off\"", "check.\"leak.target\""),
        (
            "files = \"churn.csv\"",
            "files = \"churn.csv\"\nschema = \"mine.toml\"",
            "dataset.churn.schema",
        ),
    ] {
        let text = BASE.replacen(from, to, 1);
        assert_ne!(text, BASE, "{from}");
        let change = project(&text);
        let (judged, found) = project_under_base(&project(BASE), &change).expect(key);
        let mut expected = project(BASE);
        expected.train.seed = change.train.seed;
        assert_eq!(judged, expected, "{key}");
        let named = found.iter().find(|it| it.message.contains(&format!("(`{key}`)")));
        assert_eq!(named.map(|it| it.outcome), Some(Outcome::Warn), "{key}: {found:?}");
    }
}

#[test]
fn a_change_names_no_files_outside_unless_the_base_does() {
    for outside in ["/etc/passwd", "../secrets.csv", "a/../../b.csv", "C:\\x.csv", "\\\\host\\x"] {
        let text = BASE.replace("churn.csv", &outside.replace('\\', "\\\\"));
        let failure = project_under_base(&project(BASE), &project(&text)).expect_err(outside);
        assert_eq!(failure.code.as_str(), "path-outside");
        assert!(project_under_base(&project(&text), &project(&text)).is_ok(), "the base names it");
    }
}

fn column(name: &str, role: Role) -> Column {
    Column::new(name, ColumnType::Float, role)
}

#[test]
fn the_base_says_what_is_predicted_and_what_is_demanded() {
    let mut spend = column("spend", Role::Feature);
    spend.max = Some(100.0);
    let mut refund = column("refund", Role::Ignore);
    refund.known_after = true;
    let base = Schema {
        columns: vec![
            column("id", Role::Key),
            spend.clone(),
            refund.clone(),
            column("late", Role::Label),
            column("old", Role::Feature),
        ],
    };
    let mut loose = spend.clone();
    (loose.max, loose.kind, loose.role) = (None, Some(FeatureKind::Categorical), Role::Ignore);
    let open = column("refund", Role::Feature);
    let change = Schema {
        columns: vec![
            loose,
            open,
            column("late", Role::Feature),
            column("easy", Role::Label),
            column("fresh", Role::Feature),
        ],
    };
    let (judged, found) = schema_under_base(&base, &change);
    let spend = judged.column("spend").expect("kept");
    assert_eq!((spend.max, spend.role), (Some(100.0), Role::Ignore));
    assert_eq!(spend.kind, Some(FeatureKind::Categorical), "how it is encoded is the change's");
    let refund = judged.column("refund").expect("kept");
    assert!(refund.known_after && refund.role == Role::Feature, "for `leak.after` to refuse");
    assert_eq!(judged.label().map(|it| it.name.as_str()), Some("late"));
    assert_eq!(judged.column("easy").map(|it| it.role), Some(Role::Ignore));
    assert_eq!(judged.column("fresh").map(|it| it.role), Some(Role::Feature));
    assert_eq!(judged.keys().map(|it| it.name.as_str()).collect::<Vec<_>>(), ["id"]);
    assert_eq!(judged.column("old"), None, "a change may do without a feature");
    let subjects: Vec<&str> = found.iter().map(|it| it.subject.as_str()).collect();
    assert_eq!(subjects, ["spend", "refund", "late", "easy", "id", "old"]);
    assert_eq!(schema_under_base(&base, &base), (base.clone(), Vec::new()));
}

fn snapshot(files: &[(&str, u64)]) -> Snapshot {
    let files: Vec<SnapshotFile> = files
        .iter()
        .map(|(content, n_rows)| SnapshotFile {
            path: format!("{content}.csv"),
            digest: Digest::of(content.as_bytes()),
            n_bytes: 0,
            n_rows: *n_rows,
        })
        .collect();
    let n_rows = files.iter().map(|it| it.n_rows).sum();
    let dataset = "churn".parse().expect("a name");
    Snapshot { dataset, files, n_rows, schema: Digest::of(b"schema") }
}

#[test]
fn files_may_be_added_and_none_altered() {
    let base = snapshot(&[("jan", 10), ("feb", 20)]);
    let grown = data_since_base(&base, &snapshot(&[("feb", 20), ("jan", 10), ("mar", 1500)]));
    assert_eq!(grown.outcome, Outcome::Pass, "{grown:?}");
    assert!(grown.message.contains("1 added with 1,500 rows"), "{}", grown.message);
    for now in [snapshot(&[("jan", 10), ("FEB", 20)]), snapshot(&[("jan", 10)])] {
        let altered = data_since_base(&base, &now);
        assert_eq!(
            (altered.outcome, &altered.examples[..]),
            (Outcome::Fail, &["feb.csv".to_owned()][..])
        );
    }
    let twice = snapshot(&[("jan", 10), ("jan", 10)]);
    assert_eq!(data_since_base(&twice, &base).outcome, Outcome::Fail, "each copy counts");
}

#[test]
fn a_pointer_reads_back_and_a_stale_one_is_refused() {
    let written = snapshot(&[("jan", 10), ("feb", 20)]);
    let read = |text: &str| {
        Document::parse("snapshots/churn.toml", text).and_then(|it| Pointer::read(&it))
    };
    let pointer = read(&crate::pointer_file(&written)).expect("our own file");
    let pointed = pointer.snapshot(&written.dataset, written.schema);
    let mut sorted = written.clone();
    sorted.files.sort_by_key(|it| it.digest);
    assert_eq!(pointed.digest(), sorted.digest());
    assert!(refuse_stale(&pointed, &written).is_ok());
    let other = snapshot(&[("jan", 10), ("mar", 20)]);
    let failure = refuse_stale(&pointed, &other).expect_err("another file");
    assert_eq!(failure.code.as_str(), "pointer-stale");
    assert!(failure.details[0].contains("feb.csv") && failure.details[1].contains("mar.csv"));
    for bad in
        ["version = 2\n", "version = 1\n[[file]]\npath = \"a\"\ndigest = \"x\"\nn_rows = 1\n"]
    {
        assert!(read(bad).is_err(), "{bad}");
    }
}
