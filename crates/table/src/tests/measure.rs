//! What is counted, row by row and by hand.

use karat_core::{Task, profile::Offenders};

use super::{Desk, predicate};

const COLUMNS: &str = "id int key, origin text feature, x float feature, late bool label";
const TEXT: &str = "id,origin,x,late\n\
    1,EWR,0.5,true\n\
    2,JFK,oops,false\n\
    3,XXX,9,true\n\
    3,LGA,,false\n\
    5,EWR,0.5,\n\
    1,EWR,0.5,true\n\
    7,,-1e-3,maybe\n";

/// `n: file row value, …`.
fn shown(offenders: &Offenders) -> String {
    let examples: Vec<String> = offenders
        .examples
        .iter()
        .map(|it| format!("{} {} {}", it.file, it.row, it.value))
        .collect();
    format!("{}: {}", offenders.n, examples.join(", "))
}

fn desk() -> Desk {
    let mut desk = Desk::csv(COLUMNS, TEXT)
        .with_split("train", predicate("id <= 3"))
        .with_split("eval", predicate("id >= 3"));
    desk.column("origin").domain = Some(["EWR", "JFK", "LGA"].map(str::to_owned).to_vec());
    desk.column("x").min = Some(0.0);
    desk.column("x").max = Some(5.0);
    desk.column("id").unique = true;
    desk
}

#[test]
fn every_column_is_counted() {
    let profile = desk().measure();
    assert_eq!(profile.n_rows, 7);
    let column = |name: &str| {
        profile.columns.iter().find(|it| it.name == name).unwrap_or_else(|| panic!("{name}"))
    };
    let x = column("x");
    assert_eq!(shown(&x.wrong_type), "1: in/rows.csv 2 oops");
    assert_eq!(x.n_missing, 1, "what does not parse is not missing");
    assert_eq!(shown(&x.out_of_range), "2: in/rows.csv 3 9, in/rows.csv 7 -0.001");
    assert_eq!((x.min, x.max), (Some(-0.001), Some(9.0)));
    assert_eq!((x.n_distinct, x.distinct_is_exact), (3, true));
    let mean = (0.5 + 9.0 + 0.5 + 0.5 - 0.001) / 5.0;
    assert!(x.mean.is_some_and(|it| (it - mean).abs() < 1e-12));

    let origin = column("origin");
    assert_eq!(shown(&origin.out_of_domain), "1: in/rows.csv 3 XXX");
    assert_eq!(origin.n_missing, 1);
    assert_eq!(origin.top[0], ("EWR".to_owned(), 3));
    assert_eq!(origin.top[1..].iter().map(|it| it.0.as_str()).collect::<String>(), "JFKLGAXXX");

    assert_eq!(shown(&column("id").repeated), "2: in/rows.csv 4 3, in/rows.csv 6 1");
    assert_eq!(shown(&column("late").wrong_type), "1: in/rows.csv 7 maybe");
    assert_eq!(column("late").n_missing, 1);
}

#[test]
fn keys_and_duplicate_rows_are_counted() {
    let profile = desk().measure();
    let key = profile.key.expect("a key is declared");
    assert_eq!((key.n_repeated, key.n_missing), (2, 0));
    assert_eq!(key.examples[0].row, 4);
    assert_eq!(profile.duplicates.n_repeated, 1);
    let example = &profile.duplicates.examples[0];
    assert_eq!((example.row, example.value.as_str()), (6, "1"));
    assert_eq!(Desk::csv("x int feature", "x\n1\n1\n").measure().key, None);
}

#[test]
fn splits_and_what_they_share_are_counted() {
    let profile = desk().measure();
    let train = &profile.splits["train"];
    assert_eq!((train.n_rows, train.n_labeled), (5, 5));
    assert_eq!((train.label_counts["true"], train.label_counts["false"]), (3, 2));
    let eval = &profile.splits["eval"];
    assert_eq!((eval.n_rows, eval.n_labeled), (4, 2));
    let [overlap] = &profile.overlaps[..] else { panic!("{:?}", profile.overlaps) };
    assert_eq!((overlap.a.as_str(), overlap.b.as_str()), ("eval", "train"));
    // Rows 3 and 4, which have key 3.
    assert_eq!((overlap.n_same_row, overlap.n_same_key, overlap.n_same_features), (2, 1, 2));
}

#[test]
fn copies_on_the_other_side_are_found_under_another_key() {
    let text = "id,x,late\n1,0.5,true\n2,0.7,false\n3,0.5,true\n4,0.5,false\n";
    let profile = Desk::csv("id int key, x float feature, late bool label", text)
        .with_split("a", predicate("id <= 2"))
        .with_split("b", predicate("id > 2"))
        .measure();
    let [overlap] = &profile.overlaps[..] else { panic!("{:?}", profile.overlaps) };
    assert_eq!((overlap.n_same_row, overlap.n_same_key, overlap.n_same_features), (0, 0, 1));
}

#[test]
fn groups_on_both_sides_are_found() {
    let text = "id,g,x,late\n1,a,1,true\n2,b,2,false\n3,a,3,true\n4,c,4,false\n";
    let profile = Desk::csv("id int key, g text group, x float feature, late bool label", text)
        .with_split("a", predicate("id <= 2"))
        .with_split("b", predicate("id > 2"))
        .measure();
    assert_eq!(profile.overlaps[0].n_same_key, 1);
}

#[test]
fn absent_and_unnamed_columns_are_listed() {
    let desk = Desk::new("id int key, x float feature, y float feature");
    desk.write("in/1.csv", "id,x,extra\n1,2,3\n");
    desk.write("in/2.csv", "id,x,y\n2,3,4\n");
    let profile = desk.measure();
    assert_eq!(profile.absent, ["y"]);
    assert_eq!(profile.unnamed, ["extra"]);
    assert_eq!(profile.columns[2].n_missing, 1);
    let profile = Desk::csv("id int key, gone int feature", "id\n1\n").measure();
    assert_eq!(profile.absent, ["gone"]);
    assert_eq!(profile.columns.len(), 1, "a column that no file has is not counted");
}

#[test]
fn floats_that_are_not_finite_are_neither_missing_nor_a_range() {
    let json = "{\"x\":\"inf\"}\n{\"x\":\"NaN\"}\n{\"x\":1}\n{\"x\":null}\n";
    let desk = Desk::new("x float feature");
    desk.write("in/rows.jsonl", json);
    let x = &desk.measure().columns[0];
    assert_eq!((x.n_not_finite, x.n_missing), (2, 1));
    assert_eq!((x.min, x.max), (Some(1.0), Some(1.0)));
}

/// 600 rows: `given` tells the label, `noise` does not.
fn leaking() -> Desk {
    let text: String = "id,given,noise,kind,late\n".to_owned()
        + &(0..600)
            .map(|i: u32| {
                let is_late = i.is_multiple_of(3);
                let given = if is_late { 100 + i % 7 } else { i % 7 };
                format!("{i},{given},{},{},{is_late}\n", i * 37 % 101, ["a", "b"][(i % 2) as usize])
            })
            .collect::<String>();
    Desk::csv(
        "id int key, given int feature, noise int feature, kind text feature, late bool label",
        &text,
    )
    .with_split("train", predicate("id < 500"))
}

#[test]
fn one_feature_against_the_label_is_counted_in_cells() {
    let desk = leaking();
    let located = desk.locate();
    let split = super::name("train");
    let profile =
        karat_core::port::Tables::measure(&desk.tables(), &located, Some(&split), &mut |_, _| {})
            .expect("a profile");
    let columns: Vec<&str> = profile.associations.iter().map(|it| it.column.as_str()).collect();
    assert_eq!(columns, ["given", "noise", "kind"]);
    for association in &profile.associations {
        assert_eq!((association.task, association.n_rows), (Task::Binary, 500));
        assert_eq!(association.classes, ["false", "true"]);
        assert_eq!(association.cells.len(), 5);
        assert!(association.cells.iter().all(|it| it.len() == association.bins.len()));
        let n: f64 = association.cells.iter().flatten().flatten().sum();
        assert_eq!(n.round() as u64, 500);
    }
    // Rows in bins where both classes occur.
    let n_mixed = |at: usize| -> f64 {
        let association = &profile.associations[at];
        (0..association.bins.len())
            .map(|bin| {
                let of = |class: usize| -> f64 {
                    association.cells.iter().map(|fold| fold[bin][class]).sum()
                };
                if 0.0 < of(0) && 0.0 < of(1) { of(0) + of(1) } else { 0.0 }
            })
            .sum()
    };
    assert!(n_mixed(0) < 0.5 && 400.0 < n_mixed(1), "{} {}", n_mixed(0), n_mixed(1));
}

#[test]
fn a_profile_does_not_depend_on_threads_and_reads_back_as_it_was() {
    let mut desk = leaking();
    let one = {
        desk.threads = 1;
        desk.measure()
    };
    for threads in [2, 7] {
        desk.threads = threads;
        assert_eq!(desk.measure(), one, "{threads} threads");
    }
    let text = serde_json::to_string(&one).expect("JSON");
    let again: karat_core::Profile = serde_json::from_str(&text).expect("a profile");
    assert_eq!(again, one);
}

#[test]
fn no_rows_is_a_profile_of_no_rows() {
    let profile =
        Desk::csv(COLUMNS, "id,origin,x,late\n").with_split("train", predicate("true")).measure();
    assert_eq!(profile.n_rows, 0);
    assert_eq!(profile.splits["train"].n_rows, 0);
    assert!(profile.associations.is_empty());
}
