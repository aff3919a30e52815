//! Encoded rows: their numbers, and that every way of asking gives the same.

use karat_core::{Batch, port::Tables as _};

use super::{Asked, Desk, check, first_number, name, predicate};
use crate::{rows, snapshot::Order};

const COLUMNS: &str = "id int key, x float feature, kind text feature, at time feature, w float weight, late bool label";

/// `n` rows in two files; some without a label, a number or a kind.
fn desk(n: u32) -> Desk {
    let desk = Desk::new(COLUMNS);
    let row = |i: u32| {
        let x = if i % 11 == 3 { String::new() } else { format!("{}.25", i * 7 % 13) };
        let kind = ["a", "b", "c", ""][(i % 4) as usize];
        let at = if i % 9 == 4 {
            String::new()
        } else {
            format!("2013-{:02}-{:02}", i % 12 + 1, i % 28 + 1)
        };
        let late = ["true", "false", ""][(i * 5 % 7 % 3) as usize];
        format!("{i},{x},{kind},{at},{}.5,{late}\n", i % 3)
    };
    let head = "id,x,kind,at,w,late\n".to_owned();
    desk.write("in/a.csv", head.clone() + &(0..n / 3).map(row).collect::<String>());
    desk.write("in/b.csv", head + &(n / 3..n).map(row).collect::<String>());
    desk.with_split("train", predicate("id % 5 <> 0")).with_split("rest", predicate("id % 5 = 0"))
}

#[test]
fn numbers_slots_flags_labels_and_weights() {
    let text = "id,x,kind,at,w,late\n\
        1,1,b,2013-01-01,1,true\n2,3,a,2013-01-01T06:00:00Z,2,false\n3,,,,0.5,true\n\
        104,2,zebra,,1,\n105,2,zebra,2013-07-01,1,false\n";
    let desk = Desk::csv(COLUMNS, text)
        .with_split("train", predicate("id < 100"))
        .with_split("eval", predicate("id >= 100"));
    let plan = desk.fit("train");
    let train = desk.encode("train", &plan);
    assert_eq!((train.n_rows, train.n_numeric, train.n_categorical), (3, 11, 1));
    // x, is x missing, then sine and cosine of month, day, weekday (a Tuesday) and hour, is the date missing.
    let row = |i: usize| &train.numeric[i * 11..(i + 1) * 11];
    assert_eq!(row(0)[..6], [-1.0, 0.0, 0.0, 1.0, 0.0, 1.0]);
    let tuesday = std::f32::consts::TAU / 7.0;
    assert!((row(0)[6] - tuesday.sin()).abs() < 1e-6 && (row(0)[7] - tuesday.cos()).abs() < 1e-6);
    assert_eq!(row(0)[8..], [0.0, 1.0, 0.0]);
    assert!((row(1)[8] - 1.0).abs() < 1e-6 && row(1)[9].abs() < 1e-6, "six o'clock");
    assert_eq!(row(2), [0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0]);
    assert_eq!(train.categorical, [3, 2, 0], "b, a, missing");
    assert_eq!(train.label, [1.0, 0.0, 1.0]);
    assert_eq!(train.weight, [1.0, 2.0, 0.5]);
    let eval = desk.encode("eval", &plan);
    assert_eq!(
        (eval.n_rows, &eval.categorical[..]),
        (1, &[1][..]),
        "unknown; the other row has no label"
    );
}

#[test]
fn labels_of_regression_are_standardised() {
    let desk = Desk::csv("x float feature, y float label", "x,y\n1,1\n2,3\n3,5\n")
        .with_split("all", predicate("true"));
    let plan = desk.fit("all");
    let batch = desk.encode("all", &plan);
    let spread = (8.0_f32 / 3.0).sqrt();
    for (found, expected) in batch.label.iter().zip([-2.0 / spread, 0.0, 2.0 / spread]) {
        assert!((found - expected).abs() < 1e-6, "{:?}", batch.label);
    }
}

#[test]
fn random_access_and_streaming_give_the_same_rows() {
    let desk = desk(500);
    let plan = desk.fit("train");
    let all = desk.encode("train", &plan);
    let mut rows = desk.tables().encode(&desk.locate(), &name("train"), &plan).expect("rows");
    assert_eq!(rows.n_rows(), all.n_rows as u64);
    let mut one = Batch::default();
    for at in (0..all.n_rows).rev() {
        rows.fetch(&[at as u64], &mut one).expect("a row");
        let (m, k) = (all.n_numeric, all.n_categorical);
        assert_eq!(one.numeric, all.numeric[at * m..(at + 1) * m]);
        assert_eq!(one.categorical, all.categorical[at * k..(at + 1) * k]);
        assert_eq!((one.label[0], one.weight[0]), (all.label[at], all.weight[at]));
    }
    // Scoring streams all rows of the split; those with a label are the same rows in the same order.
    let mut streamed = Vec::new();
    let asked = Asked { split: Some("train"), ..Asked::into("out.csv") };
    let _ = desk
        .try_score(&plan, &asked, &mut |batch| {
            streamed.extend_from_slice(&batch.numeric);
            Ok(first_number(batch))
        })
        .expect("scored");
    let mut at = 0;
    for row in streamed.chunks_exact(all.n_numeric) {
        if all.numeric[at * all.n_numeric..].starts_with(row) {
            at += 1;
        }
        if at == all.n_rows {
            break;
        }
    }
    assert_eq!(at, all.n_rows, "every labelled row came by, in order");
    check(rows.fetch(&[all.n_rows as u64], &mut one), "internal", 3, &["this is a bug"]);
}

#[test]
fn rows_do_not_depend_on_threads_or_on_where_they_are_kept() {
    let mut desk = desk(2_000);
    let plan = desk.fit("train");
    let all = desk.encode("train", &plan);
    for threads in [1, 4] {
        desk.threads = threads;
        assert_eq!(desk.encode("train", &plan), all);
    }
    let located = desk.locate();
    let tables = desk.tables();
    let files = tables.verified.files(&located, Order::Snapshot).expect("files");
    let scratch = desk.path("scratch");
    let encode =
        |memory_max| rows::encode(&located, &files, &name("train"), &plan, 2, &scratch, memory_max);
    let mut spilled = encode(10_000).expect("rows in a file");
    assert_eq!(std::fs::read_dir(&scratch).expect("it was made").count(), 1);
    let order: Vec<u64> = (0..all.n_rows as u64).collect();
    let mut batch = Batch::default();
    spilled.fetch(&order, &mut batch).expect("rows");
    assert_eq!(batch, all);
    drop(spilled);
    assert_eq!(
        std::fs::read_dir(&scratch).expect("it was made").count(),
        0,
        "nothing is left behind"
    );
    desk.write("file", "no folder");
    let no_folder = desk.path("file");
    let result = rows::encode(&located, &files, &name("train"), &plan, 2, &no_folder, 10);
    check(result.map(|_| ()), "spill-failed", 3, &["file"]);
}

#[test]
fn weights_and_classes_that_cannot_be_used_say_where() {
    let columns = "id int key, x float feature, w float weight, y text label";
    let text = "id,x,w,y\n1,1,1,a\n2,2,2,b\n3,3,-1,a\n4,3,1,c\n";
    let desk = Desk::csv(columns, text)
        .with_split("train", predicate("id < 3"))
        .with_split("negative", predicate("id = 3"))
        .with_split("unseen", predicate("id = 4"));
    let plan = desk.fit("train");
    check(desk.try_encode("negative", &plan), "weight-invalid", 2, &["`w`", "-1", "row 3"]);
    check(desk.try_encode("unseen", &plan), "label-class-unseen", 2, &["`c`", "row 4", "`a`, `b`"]);
    let desk = Desk {
        schema: super::schema("id int key, x text feature, w float weight, y text label"),
        ..desk
    };
    check(desk.try_encode("train", &plan), "model-schema-mismatch", 2, &["`x`", "float", "text"]);
}
