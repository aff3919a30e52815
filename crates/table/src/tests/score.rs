//! Scoring: order, keys, batches, threads, quarantine, and what is left behind after a failure.

use karat_core::{
    Exit, Failure, FeaturePlan, SliceSpec,
    port::Tables as _,
    port::{ScoreRequest, Stop},
};

use super::{Asked, Desk, check, first_number, predicate};

pub(super) const COLUMNS: &str = "id int key, at time time, house text group, x float feature, kind text feature, late bool label";

/// `n` rows in three files. Some labels, numbers and kinds are missing.
pub(super) fn desk(n: u32) -> Desk {
    let desk = Desk::new(COLUMNS);
    let row = |i: u32| {
        let x = if i % 11 == 3 { String::new() } else { format!("{}.25", i * 7 % 13) };
        let kind = ["a", "b", "c", ""][(i % 4) as usize];
        let late = ["true", "false", ""][(i * 5 % 7 % 3) as usize];
        format!("{i},2013-07-{:02},h{},{x},{kind},{late}\n", i % 28 + 1, i % 6)
    };
    let head = "id,at,house,x,kind,late\n".to_owned();
    for (file, from, to) in [("c", 0, n / 5), ("b", n / 5, n / 2), ("a", n / 2, n)] {
        let rows: String = (from..to).map(row).collect();
        desk.write(&format!("in/{file}.csv"), head.clone() + &rows);
    }
    desk.with_split("train", predicate("id % 5 <> 0")).with_split("eval", predicate("id % 5 = 0"))
}

/// The `column`-th field of every line of a CSV file.
fn fields(desk: &Desk, file: &str, column: &str) -> Vec<String> {
    let text = desk.text(file);
    let mut lines = text.lines();
    let header: Vec<&str> = lines.next().expect("a header").split(',').collect();
    let at = header.iter().position(|it| *it == column).unwrap_or_else(|| panic!("{header:?}"));
    lines.map(|line| line.split(',').nth(at).expect("a field").to_owned()).collect()
}

#[test]
fn rows_keep_their_keys_and_the_order_of_their_files_by_name() {
    let desk = desk(50);
    let plan = desk.fit("train");
    let summary = desk.score(&plan, &Asked::into("out.csv")).expect("scored");
    assert_eq!((summary.n_rows, summary.n_quarantined), (50, 0));
    let ids: Vec<String> =
        (25..50).chain(10..25).chain(0..10).map(|it: u32| it.to_string()).collect();
    assert_eq!(fields(&desk, "out.csv", "id"), ids);
    let header = desk.text("out.csv");
    assert!(header.starts_with("id,at,house,late,score\n"), "{header}");
    // Each score is that of its own row.
    let scores: Vec<f64> =
        fields(&desk, "out.csv", "score").iter().map(|it| it.parse().expect("a number")).collect();
    let karat_core::Encoding::Numeric { mean, std, .. } = plan.features[0].encoding else {
        panic!("{plan:?}")
    };
    for (id, score) in ids.iter().zip(scores) {
        let id: u32 = id.parse().expect("a number");
        let x = if id % 11 == 3 { mean } else { f64::from(id * 7 % 13) + 0.25 };
        assert!((score - (x - mean) / std).abs() < 1e-6, "{id}: {score}");
    }
    let n_labeled = fields(&desk, "out.csv", "late").iter().filter(|it| !it.is_empty()).count();
    assert_eq!(summary.n_labeled, n_labeled as u64);
}

#[test]
fn a_split_is_scored_alone_and_independently_of_file_names() {
    let desk = desk(200);
    let plan = desk.fit("train");
    let asked = Asked { split: Some("eval"), ..Asked::into("out.csv") };
    let before = desk.score(&plan, &asked).expect("scored");
    assert_eq!(before.n_rows, 40);
    assert!(fields(&desk, "out.csv", "id").iter().all(|it| it.ends_with(['0', '5'])));
    let bytes = desk.bytes("out.csv");
    std::fs::rename(desk.path("in/a.csv"), desk.path("in/z.csv")).expect("renamed");
    assert_eq!(desk.score(&plan, &asked).expect("scored"), before);
    assert!(desk.bytes("out.csv") == bytes);
}

#[test]
fn no_byte_depends_on_threads_batches_or_the_run() {
    let mut desk = desk(3_000);
    let plan = desk.fit("train");
    let slices = [
        ("kind", SliceSpec::Values("kind".to_owned())),
        ("high", SliceSpec::Where("x > 5".to_owned())),
    ];
    for out in ["out.parquet", "out.csv", "out.jsonl"] {
        let mut first: Option<(Vec<u8>, _)> = None;
        for (threads, batch_size) in [(1, 8192), (2, 7), (5, 1), (2, 8192)] {
            desk.threads = threads;
            let asked =
                Asked { batch_size, slices: &slices, split: Some("train"), ..Asked::into(out) };
            let summary = desk.score(&plan, &asked).expect("scored");
            let bytes = desk.bytes(out);
            match &first {
                None => first = Some((bytes, summary)),
                Some((known, of)) => {
                    assert!(*known == bytes, "{out}: {threads} threads, batches of {batch_size}");
                    assert_eq!(*of, summary);
                }
            }
        }
    }
}

#[test]
fn batches_are_full_but_for_the_last_and_never_too_large() {
    let desk = desk(100);
    let plan = desk.fit("train");
    let mut sizes = Vec::new();
    let asked = Asked { batch_size: 32, ..Asked::into("out.csv") };
    let _ = desk
        .try_score(&plan, &asked, &mut |batch| {
            sizes.push(batch.n_rows);
            Ok(first_number(batch))
        })
        .expect("scored");
    assert_eq!(sizes, [32, 32, 32, 4]);
}

#[test]
fn rows_are_numbered_where_there_is_no_key() {
    let desk = Desk::csv("x float feature, y bool label", "x,y\n1,true\n2,false\n3,true\n")
        .with_split("all", predicate("true"));
    let plan = desk.fit("all");
    let _ = desk.score(&plan, &Asked::into("out.csv")).expect("scored");
    assert_eq!(fields(&desk, "out.csv", "row"), ["0", "1", "2"]);
}

#[test]
fn the_digest_of_rows_tells_same_rows_from_others() {
    let desk = desk(100);
    let plan = desk.fit("train");
    let rows = |split: Option<&str>, scorer: f32| {
        let asked = Asked { split, ..Asked::into("out.csv") };
        desk.try_score(&plan, &asked, &mut |batch| Ok(vec![scorer; batch.n_rows]))
            .expect("scored")
            .rows
    };
    assert_eq!(rows(Some("eval"), 0.25), rows(Some("eval"), 0.75), "scores are no part of it");
    assert_ne!(rows(Some("eval"), 0.25), rows(Some("train"), 0.25));
}

/// A desk with a plan, and rows of which the second and fourth cannot be scored.
fn mixed() -> (Desk, FeaturePlan) {
    let desk =
        Desk::csv("id int key, x float feature, y bool label", "id,x,y\n1,1,true\n2,2,false\n")
            .with_split("all", predicate("true"));
    let plan = desk.fit("all");
    desk.write("in/rows.csv", "id,x,y\n1,1,true\n2,one,false\n3,3,true\n4,2,\n5,5,false\n");
    (desk, plan)
}

/// NaN for the fourth row.
fn scores(batch: &karat_core::Batch) -> Result<Vec<f32>, Failure> {
    // The plan's mean is 1.5 and its spread 0.5: 2 becomes 1.
    Ok(first_number(batch)
        .iter()
        .map(|x| if (x - 1.0).abs() < 1e-6 { f32::NAN } else { *x })
        .collect())
}

#[test]
fn rows_that_cannot_be_scored_go_to_quarantine_with_their_reason() {
    let (desk, plan) = mixed();
    let asked = Asked { quarantine_max: 0.4, ..Asked::into("out.csv") };
    let summary =
        desk.try_score(&plan, &asked, &mut scores).expect("two of five are within the limit");
    assert_eq!((summary.n_rows, summary.n_quarantined, summary.n_labeled), (3, 2, 3));
    assert_eq!(fields(&desk, "out.csv", "id"), ["1", "3", "5"]);
    let lines: Vec<serde_json::Value> = desk
        .text("quarantine.jsonl")
        .lines()
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect();
    let [first, second] = &lines[..] else { panic!("{lines:?}") };
    assert_eq!(
        (&first["file"], &first["row"], &first["key"]),
        (&"in/rows.csv".into(), &2.into(), &"2".into())
    );
    assert_eq!(first["reason"], "column `x`: `one` is not of type float");
    assert_eq!(
        (&second["row"], &second["reason"]),
        (&4.into(), &"its score is not a finite number".into())
    );
}

#[test]
fn beyond_the_limit_there_are_no_predictions_and_the_quarantine_stays() {
    let (desk, plan) = mixed();
    for out in ["out.csv", "out.parquet", "out.jsonl"] {
        let asked = Asked { quarantine_max: 0.3, ..Asked::into(out) };
        check(
            desk.try_score(&plan, &asked, &mut scores),
            "quarantine-exceeded",
            1,
            &[
                "2 of 5 rows",
                "at most 30 %",
                "`in/rows.csv` row 2: column `x`: `one`",
                "no predictions",
            ],
        );
        assert!(!desk.path(out).exists(), "{out}");
        assert_eq!(desk.text("quarantine.jsonl").lines().count(), 2);
    }
    // A run without such rows takes the old file away.
    desk.write("in/rows.csv", "id,x,y\n1,1,true\n");
    let _ = desk.score(&plan, &Asked::into("out.csv")).expect("scored");
    assert!(!desk.path("quarantine.jsonl").exists());
}

#[test]
fn whatever_fails_nothing_half_written_is_left() {
    let desk = desk(100);
    let plan = desk.fit("train");
    let asked = Asked::into("out.parquet");
    let is_gone = || !desk.path("out.parquet").exists() && !desk.path("quarantine.jsonl").exists();

    let mut n = 0;
    let broken = desk.try_score(&plan, &asked, &mut |batch| {
        n += 1;
        if n < 5 {
            Ok(first_number(batch))
        } else {
            Err(Failure::new("device-lost", Exit::Run, "device lost"))
        }
    });
    check(broken, "device-lost", 3, &[]);
    assert!(is_gone());

    check(
        desk.try_score(&plan, &asked, &mut |_| Ok(Vec::new())),
        "internal",
        3,
        &["0 scores for 4 rows"],
    );
    assert!(is_gone());

    desk.write("in/c.csv", "id,at,house,x,kind,late\n1,2013-07-01,h1,1,a,true\n2,2\n");
    let located = desk.try_locate();
    check(located.map(|_| ()), "csv-ragged", 2, &["in/c.csv"]);
    assert!(is_gone());
}

struct Now;

impl Stop for Now {
    fn is_requested(&self) -> bool {
        true
    }
}

#[test]
fn a_stop_ends_early_and_says_what_is_still_true() {
    let desk = desk(100);
    let plan = desk.fit("train");
    let request = ScoreRequest {
        split: None,
        slices: Vec::new(),
        batch_size: 4,
        out: &desk.path("out.parquet"),
        quarantine: &desk.path("quarantine.jsonl"),
        quarantine_max: 0.0,
        metadata: Vec::new(),
    };
    let located = desk.locate();
    let result = desk.tables().score(
        &located,
        &plan,
        &request,
        &mut |batch| Ok(first_number(batch)),
        &mut |_, _| {},
        &Now,
    );
    check(result, "stopped", 130, &["after 0 rows", "no predictions were kept"]);
    assert!(!desk.path("out.parquet").exists());
}

#[test]
fn outputs_that_cannot_be_are_refused() {
    let desk = desk(20);
    let plan = desk.fit("train");
    check(
        desk.score(&plan, &Asked::into("out.txt")),
        "output-format",
        2,
        &["out.txt", "`.parquet`"],
    );
    check(
        desk.score(&plan, &Asked::into("no/out.csv")),
        "predictions-unwritable",
        3,
        &["no/out.csv"],
    );
    let desk = Desk::csv(
        "score int key, x float feature, y bool label",
        "score,x,y\n1,1,true\n2,2,false\n",
    )
    .with_split("all", predicate("true"));
    let plan = desk.fit("all");
    check(desk.score(&plan, &Asked::into("out.csv")), "output-column-repeated", 2, &["`score`"]);
}

#[test]
fn files_that_do_not_fit_the_model_are_refused_with_the_columns() {
    let desk = desk(20);
    let plan = desk.fit("train");
    for file in ["a", "b", "c"] {
        desk.write(&format!("in/{file}.csv"), "id,at,house,xx,late\n1,2013-07-01,h1,1,true\n");
    }
    check(
        desk.score(&plan, &Asked::into("out.csv")),
        "model-schema-mismatch",
        2,
        &["`x`, `kind`", "`xx`"],
    );
    assert!(!desk.path("out.csv").exists());
}

#[test]
fn new_rows_need_neither_label_nor_time_nor_group() {
    let desk = desk(20);
    let plan = desk.fit("train");
    for file in ["a", "b", "c"] {
        desk.write(&format!("in/{file}.csv"), "kind,x,id\nzebra,,7\n");
    }
    let summary = desk.score(&plan, &Asked::into("out.csv")).expect("scored");
    assert_eq!((summary.n_rows, summary.n_labeled), (3, 0));
    let asked = Asked { split: Some("train"), ..Asked::into("out.csv") };
    check(desk.score(&plan, &asked), "column-absent", 2, &["`house`", "the row's group"]);
    desk.write("in/a.csv", "kind,x\nzebra,\n");
    check(
        desk.score(&plan, &Asked::into("out.csv")),
        "column-absent",
        2,
        &["`id`", "the row's key"],
    );
}
