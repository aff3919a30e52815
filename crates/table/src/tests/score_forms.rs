//! The three forms of predictions, what their footer says, and reading them back.

use std::fs::File;

use karat_core::{Batch, SliceSpec, Task, port::Tables as _};
use parquet::file::reader::{FileReader as _, SerializedFileReader};

use super::{Asked, Desk, check, predicate, score::desk};

fn slices() -> [(&'static str, SliceSpec); 3] {
    [
        ("kind", SliceSpec::Values("kind".to_owned())),
        ("high", SliceSpec::Where("x > 5".to_owned())),
        ("none", SliceSpec::Where("x > 500".to_owned())),
    ]
}

/// A score between 0 and 1.
fn probabilities(batch: &Batch) -> Vec<f32> {
    super::first_number(batch).iter().map(|x| 1.0 / (1.0 + (-x).exp())).collect()
}

#[test]
fn the_footer_names_model_task_classes_keys_and_rows() {
    let desk = desk(100);
    let plan = desk.fit("train");
    let slices = slices();
    let asked = Asked { slices: &slices, ..Asked::into("out.parquet") };
    let summary = desk.score(&plan, &asked).expect("scored");
    let reader = SerializedFileReader::new(File::open(desk.path("out.parquet")).expect("a file"))
        .expect("Parquet");
    let metadata = reader.metadata().file_metadata();
    assert_eq!(metadata.num_rows(), 100);
    let pairs: Vec<String> = metadata
        .key_value_metadata()
        .expect("pairs")
        .iter()
        .map(|it| format!("{}={}", it.key, it.value.as_deref().unwrap_or_default()))
        .collect();
    assert_eq!(
        pairs,
        [
            "karat.model=sha256:00".to_owned(),
            "karat.task=binary".to_owned(),
            "karat.classes=[\"false\",\"true\"]".to_owned(),
            "karat.keys=[\"id\"]".to_owned(),
            "karat.slices=[\"slice.kind\",\"slice.high\",\"slice.none\"]".to_owned(),
            "karat.label=late".to_owned(),
            "karat.group=house".to_owned(),
            format!("karat.rows={}", summary.rows),
        ]
    );
    let columns: Vec<String> =
        metadata.schema_descr().columns().iter().map(|it| it.name().to_owned()).collect();
    assert_eq!(
        columns,
        ["id", "at", "house", "late", "score", "slice.kind", "slice.high", "slice.none"]
    );
}

#[test]
fn csv_and_json_lines_hold_the_same_values() {
    let desk = desk(40);
    let plan = desk.fit("train");
    let slices = slices();
    for out in ["out.csv", "out.jsonl"] {
        let asked = Asked { slices: &slices, ..Asked::into(out) };
        let _ = desk.score(&plan, &asked).expect("scored");
    }
    let (csv, json) = (desk.text("out.csv"), desk.text("out.jsonl"));
    let mut lines = csv.lines();
    let header: Vec<&str> = lines.next().expect("a header").split(',').collect();
    let mut n = 0;
    for (line, object) in lines.zip(json.lines()) {
        let object: serde_json::Value = serde_json::from_str(object).expect("JSON");
        for (name, field) in header.iter().zip(line.split(',')) {
            match &object[*name] {
                serde_json::Value::Null => assert_eq!(field, "", "{name}: {line}"),
                serde_json::Value::String(text) => assert_eq!(field, text, "{name}"),
                serde_json::Value::Number(number) => {
                    let (a, b): (f64, f64) =
                        (field.parse().expect("a number"), number.as_f64().expect("a number"));
                    assert!((a - b).abs() < 1e-9, "{name}: {field} {number}");
                }
                other => assert_eq!(field, other.to_string(), "{name}"),
            }
        }
        n += 1;
    }
    assert_eq!((n, json.lines().count()), (40, 40));
    assert!(csv.contains(",2013-07-12T00:00:00Z,"), "{csv}");
}

#[test]
fn predictions_can_be_scored_again_as_input() {
    let desk = desk(40);
    let plan = desk.fit("train");
    let _ = desk.score(&plan, &Asked::into("in/out.parquet")).expect("scored");
    let schema = Desk { files: vec!["in/out.parquet".to_owned()], ..desk }
        .infer(Some("late"))
        .expect("a schema");
    let columns: Vec<String> =
        schema.columns.iter().map(|it| format!("{} {}", it.name, it.ty.word())).collect();
    assert_eq!(columns, ["id int", "at time", "house text", "late bool", "score float"]);
}

#[test]
fn labelled_rows_come_back_as_the_gate_wants_them() {
    let desk = desk(100);
    let plan = desk.fit("train");
    let slices = slices();
    let asked = Asked { slices: &slices, split: Some("eval"), ..Asked::into("out.parquet") };
    let mut scores = Vec::new();
    let summary = desk
        .try_score(&plan, &asked, &mut |batch| {
            let found = probabilities(batch);
            scores.extend_from_slice(&found);
            Ok(found)
        })
        .expect("scored");
    let rows = desk.tables().read_scored(&desk.path("out.parquet")).expect("predictions");
    assert_eq!(
        (rows.task, &rows.classes[..]),
        (Task::Binary, &["false".to_owned(), "true".to_owned()][..])
    );
    assert_eq!(rows.rows, summary.rows);
    assert_eq!(rows.n_rows() as u64, summary.n_labeled);
    assert!(rows.n_rows() < 20, "some rows have no label");
    let group = rows.group.as_ref().expect("the schema has a group");
    for (i, id) in rows.names.iter().enumerate() {
        let id: u32 = id.parse().expect("a key");
        assert_eq!(id % 5, 0);
        let label = [1.0, 0.0][(id * 5 % 7 % 3) as usize];
        assert_eq!(rows.label[i].to_bits(), f32::to_bits(label), "{id}");
        assert!(scores.iter().any(|it| it.to_bits() == rows.score[i].to_bits()));
        let same: Vec<bool> =
            rows.names.iter().map(|it| it.parse::<u32>().expect("a key") % 6 == id % 6).collect();
        assert!(
            same.iter().zip(group).all(|(is_same, code)| *is_same == (*code == group[i])),
            "{id}"
        );
        let kind = ["a", "b", "c", ""][(id % 4) as usize];
        let code = rows.slices[0].codes[i];
        let shown = rows.slices[0].values.get(code as usize).map_or("", String::as_str);
        assert_eq!(shown, kind, "{id}");
        let is_high = id % 11 != 3 && 5 <= id * 7 % 13;
        assert_eq!(rows.slices[1].codes[i] == 0, is_high, "{id}");
    }
    let shown: Vec<String> = rows
        .slices
        .iter()
        .map(|it| format!("{} {} {}", it.name, it.is_family, it.values.join(",")))
        .collect();
    assert_eq!(shown, ["kind true a,b,c", "high false ", "none false "]);
    assert!(rows.slices[2].codes.iter().all(|it| *it == karat_core::scored::SliceColumn::NONE));
}

#[test]
fn three_classes_have_a_score_each_and_a_prediction() {
    let text = "id,x,y\n1,1,c\n2,2,a\n3,3,b\n4,4,\n";
    let desk = Desk::csv("id int key, x float feature, y text label", text)
        .with_split("all", predicate("true"));
    let plan = desk.fit("all");
    let ask = |out: &str| {
        desk.try_score(&plan, &Asked::into(out), &mut |batch| {
            Ok((0..batch.n_rows).flat_map(|_| [0.2_f32, 0.5, 0.3]).collect())
        })
    };
    let _ = ask("out.csv").expect("scored");
    assert_eq!(desk.text("out.csv").lines().next(), Some("id,y,score_a,score_b,score_c,predicted"));
    assert!(desk.text("out.csv").lines().skip(1).all(|it| it.ends_with(",0.2,0.5,0.3,b")));
    let _ = ask("out.parquet").expect("scored");
    let rows = desk.tables().read_scored(&desk.path("out.parquet")).expect("predictions");
    assert_eq!((rows.n_rows(), rows.n_outputs(), rows.score.len()), (3, 3, 9));
    assert_eq!(rows.label, [2.0, 0.0, 1.0]);
    let rest = desk.tables().read_unlabeled(&desk.path("out.parquet")).expect("predictions");
    assert_eq!((rest.n_rows(), &rest.score[..]), (1, &[0.2, 0.5, 0.3][..]));
}

#[test]
fn values_come_back_in_their_own_unit() {
    let desk = Desk::csv(
        "id int key, x float feature, y float label",
        "id,x,y\n1,1,10\n2,2,30\n3,3,20.5\n4,4,\n",
    )
    .with_split("all", predicate("true"));
    let plan = desk.fit("all");
    let _ = desk.score(&plan, &Asked::into("out.parquet")).expect("scored");
    let rows = desk.tables().read_scored(&desk.path("out.parquet")).expect("predictions");
    assert_eq!((rows.task, &rows.label[..]), (Task::Regression, &[10.0, 30.0, 20.5][..]));
    assert!(rows.slices.is_empty() && rows.group.is_none());
    let rest = desk.tables().read_unlabeled(&desk.path("out.parquet")).expect("predictions");
    assert_eq!((rest.names.as_slice(), rest.score.len()), (&["4".to_owned()][..], 1));
    assert!(rest.label.iter().all(|it| it.is_nan()) && rest.n_rows() == 1);
}

#[test]
fn other_files_are_not_taken_for_predictions() {
    let desk = desk(30);
    let plan = desk.fit("train");
    let read = |name: &str| desk.tables().read_scored(&desk.path(name));
    check(read("in/a.csv"), "predictions-unreadable", 2, &["a.csv"]);
    check(read("none.parquet"), "predictions-unreadable", 2, &["none.parquet"]);
    let _ = desk.score(&plan, &Asked::into("out.parquet")).expect("scored");
    let bytes = desk.bytes("out.parquet");
    desk.write("cut.parquet", &bytes[..bytes.len() / 2]);
    check(read("cut.parquet"), "predictions-unreadable", 2, &["cut.parquet"]);
    let batch = arrow::array::RecordBatch::new_empty(std::sync::Arc::new(
        arrow::datatypes::Schema::empty(),
    ));
    super::formats::parquet(
        &desk,
        "plain.parquet",
        &batch,
        parquet::file::properties::WriterProperties::default(),
    );
    check(read("plain.parquet"), "predictions-unreadable", 2, &["plain.parquet", "`karat.task`"]);
}
