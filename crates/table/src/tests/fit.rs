//! Plans are fitted on the labelled rows of one split and on nothing else.

use karat_core::{
    Encoding, FeatureKind, LabelPlan, Task,
    port::{FitRequest, Tables as _},
};

use super::{Desk, check, name, predicate};

const COLUMNS: &str = "id int key, x float feature, y int feature, kind text feature, at time feature, late bool label";
const TEXT: &str = "id,x,y,kind,at,late\n\
    1,1,5,b,2013-07-01,true\n\
    2,3,5,a,2013-07-02,false\n\
    3,,5,,2013-07-03,true\n\
    4,999,5,unlabelled,,\n\
    50,100,6,z,,true\n";

fn desk() -> Desk {
    Desk::csv(COLUMNS, TEXT)
        .with_split("train", predicate("id < 50"))
        .with_split("eval", predicate("id >= 50"))
}

#[test]
fn numbers_words_dates_and_missing_flags() {
    let plan = desk().fit("train");
    let encodings: Vec<&Encoding> = plan.features.iter().map(|it| &it.encoding).collect();
    assert_eq!(
        encodings,
        [
            &Encoding::Numeric { mean: 2.0, std: 1.0, missing_flag: true },
            // Constant in training: its spread counts as 1.
            &Encoding::Numeric { mean: 5.0, std: 1.0, missing_flag: false },
            &Encoding::Categorical { vocabulary: vec!["a".to_owned(), "b".to_owned()] },
            &Encoding::Date { missing_flag: false },
        ]
    );
    assert_eq!(
        plan.label,
        LabelPlan::Binary {
            column: "late".to_owned(),
            classes: vec!["false".to_owned(), "true".to_owned()],
            counts: vec![1, 2],
        }
    );
}

#[test]
fn rows_outside_the_split_change_nothing() {
    let before = desk().fit("train");
    let other = Desk::csv(COLUMNS, &TEXT.replace("50,100,6,z", "50,-7,8,q"))
        .with_split("train", predicate("id < 50"));
    assert_eq!(other.fit("train"), before);
}

#[test]
fn plans_do_not_depend_on_threads() {
    let mut desk = desk();
    let before = desk.fit("train").digest();
    for threads in [1, 3] {
        desk.threads = threads;
        assert_eq!(desk.fit("train").digest(), before);
    }
}

#[test]
fn a_declared_kind_is_used() {
    let mut desk = desk();
    desk.column("y").kind = Some(FeatureKind::Categorical);
    let plan = desk.fit("train");
    assert_eq!(
        plan.features[1].encoding,
        Encoding::Categorical { vocabulary: vec!["5".to_owned()] }
    );
    desk.column("kind").kind = Some(FeatureKind::Numeric);
    check(desk.try_fit("train"), "feature-kind", 2, &["`kind`", "`numeric`", "`text`"]);
}

/// A label column of text or numbers, and the label plan it gives.
fn label(
    ty: &str,
    values: &[&str],
    request: &FitRequest,
) -> Result<LabelPlan, karat_core::Failure> {
    let rows: String = values.iter().map(|it| format!("1,{it}\n")).collect();
    let columns = format!("x int feature, y {ty} label");
    let desk = Desk::csv(&columns, &format!("x,y\n{rows}")).with_split("all", predicate("true"));
    Ok(desk.tables().fit(&desk.try_locate()?, &name("all"), request)?.label)
}

#[test]
fn tasks_follow_the_label() {
    let any = FitRequest { task: None, positive: None };
    let classes = |ty: &str, values: &[&str]| {
        let plan = label(ty, values, &any).expect("a plan");
        format!("{:?} {}", plan.task(), plan.classes().join(" "))
    };
    assert_eq!(classes("bool", &["true", "false"]), "Binary false true");
    assert_eq!(classes("text", &["yes", "no", "no"]), "Binary no yes");
    assert_eq!(classes("text", &["yes", "zero"]), "Binary zero yes");
    assert_eq!(classes("int", &["0", "1"]), "Binary 0 1");
    assert_eq!(classes("text", &["c", "a", "b"]), "Multiclass a b c");
    assert_eq!(classes("int", &["10", "9", "2"]), "Multiclass 10 2 9");
    assert_eq!(classes("float", &["1", "2", "4.5"]), "Regression ");
    let positive = FitRequest { task: None, positive: Some("no".to_owned()) };
    let plan = label("text", &["yes", "no"], &positive).expect("a plan");
    assert_eq!(plan.classes(), ["yes", "no"]);
    let regression = FitRequest { task: Some(Task::Regression), positive: None };
    let plan = label("int", &["1", "3"], &regression).expect("a plan");
    assert_eq!(plan, LabelPlan::Regression { column: "y".to_owned(), mean: 2.0, std: 1.0 });
}

#[test]
fn labels_that_cannot_be_learnt_are_refused() {
    let any = FitRequest { task: None, positive: None };
    let ask = |task| FitRequest { task: Some(task), positive: None };
    check(label("bool", &["", ""], &any), "label-missing", 2, &["`y`", "2 rows"]);
    check(label("bool", &["true", "true"], &any), "label-constant", 2, &["`y`", "`true`"]);
    check(label("text", &["a", "b", "c"], &ask(Task::Binary)), "label-classes", 2, &["3", "`a`"]);
    check(label("text", &["a", "b"], &ask(Task::Multiclass)), "label-classes", 2, &["2 classes"]);
    check(label("text", &["a", "b"], &ask(Task::Regression)), "label-type", 2, &["text"]);
    let positive = FitRequest { task: None, positive: Some("yse".to_owned()) };
    check(label("text", &["yes", "no"], &positive), "positive-unknown", 2, &["`yse`", "`yes`"]);
}

#[test]
fn schemas_that_cannot_be_learnt_from_are_refused() {
    let fit = |columns: &str| {
        Desk::csv(columns, "x,y\n1,true\n2,false\n")
            .with_split("all", predicate("true"))
            .try_fit("all")
    };
    check(fit("x int feature, y bool ignore"), "label-absent", 2, &[]);
    check(fit("x int ignore, y bool label"), "no-features", 2, &[]);
    let desk = Desk::csv("x int feature, y bool label", "x,y\n1,true\n")
        .with_split("none", predicate("x > 5"));
    check(desk.try_fit("none"), "split-empty", 5, &["`none`", "none of 1 rows"]);
    let mut desk = Desk::csv("x int feature, y bool label", "x,y\n1,true\n2,false\n")
        .with_split("all", predicate("true"));
    desk.column("x").known_after = true;
    check(desk.try_fit("all"), "feature-known-after", 2, &["`x`"]);
}

#[test]
fn a_column_with_no_value_in_training_is_named() {
    let desk = Desk::csv(
        "id int key, x float feature, z text feature, y bool label",
        "id,x,z,y\n1,,a,true\n2,,b,false\n3,4,c,true\n",
    )
    .with_split("train", predicate("id < 3"));
    check(desk.try_fit("train"), "column-all-missing", 2, &["`x`", "`train`", "2 rows"]);
}
