//! Types and roles proposed for files that nobody has described yet.

use karat_core::{ColumnType, Role};

use super::{Desk, check};

/// `name type role` of every column.
fn inferred(desk: &Desk, label: Option<&str>) -> Vec<String> {
    let role = |role: Role| format!("{role:?}").to_lowercase();
    desk.infer(label)
        .expect("a schema")
        .columns
        .iter()
        .map(|it| format!("{} {} {}", it.name, it.ty.word(), role(it.role)))
        .collect()
}

/// 40 rows with one column of every kind.
fn text() -> String {
    let mut text = "order_id,created_at,zip,channel,note,price,gift,version,paid\n".to_owned();
    for i in 0..40 {
        let channel = ["web", "shop"][i % 2];
        let gift = if i % 8 == 0 { "" } else { "true" };
        let gift = if i % 3 == 1 { "false" } else { gift };
        text += &format!(
            "{i},2024-01-{:02},0{},{channel},words {i},{}.5,{gift},1,{}\n",
            i % 28 + 1,
            1000 + i,
            i * 3 % 17,
            i % 5 == 0
        );
    }
    text
}

#[test]
fn roles_follow_names_and_values() {
    let desk = Desk::csv("order_id int key", &text());
    assert_eq!(
        inferred(&desk, Some("paid")),
        [
            "order_id int key",
            "created_at time time",
            // Leading zeros make a code, and every row has its own.
            "zip text ignore",
            "channel text feature",
            "note text ignore",
            "price float feature",
            "gift bool feature",
            "version int ignore",
            "paid bool label",
        ]
    );
    // The label is never guessed.
    assert!(inferred(&desk, None).iter().all(|it| !it.ends_with("label")));
}

#[test]
fn the_missing_share_seen_becomes_a_bound() {
    let desk = Desk::csv("order_id int key", &text());
    let schema = desk.infer(Some("paid")).expect("a schema");
    let bound = |name: &str| schema.column(name).and_then(|it| it.missing_max);
    assert_eq!(bound("price"), None);
    let bound = bound("gift").expect("a bound");
    assert!((0.05..0.14).contains(&bound), "{bound}");
}

#[test]
fn a_schema_that_was_inferred_reads_its_own_file() {
    let desk = Desk::csv("order_id int key", &text());
    let schema = desk.infer(Some("paid")).expect("a schema");
    let again = karat_core::schema::read(
        &karat_core::Document::parse("schema.toml", schema.to_toml()).expect("TOML"),
    )
    .expect("a schema");
    assert_eq!(again, schema);
    let desk = Desk { schema, ..desk };
    let profile = desk.measure();
    assert!(profile.columns.iter().all(|it| it.wrong_type.n == 0));
    assert!(profile.absent.is_empty() && profile.unnamed.is_empty());
}

#[test]
fn types_come_from_values_in_text_and_from_the_file_elsewhere() {
    for (values, ty) in [
        ("1\n2\nNA", ColumnType::Int),
        ("1\n2.5", ColumnType::Float),
        ("1\n1e3", ColumnType::Float),
        ("true\nFALSE", ColumnType::Bool),
        ("2024-01-01\n2024-01-02 05:00:00", ColumnType::Time),
        ("1\nx", ColumnType::Text),
        ("007\n123", ColumnType::Text),
        ("12345678901234567890\n1", ColumnType::Text),
        ("NA\nNA", ColumnType::Text),
    ] {
        let desk =
            Desk::csv("a int feature", &format!("a,b\n{},0\n", values.replace('\n', ",0\n")));
        assert_eq!(desk.infer(None).expect("a schema").columns[0].ty, ty, "{values}");
    }
}

#[test]
fn a_column_that_some_files_lack_is_missing_there() {
    let desk = Desk::new("a int feature");
    desk.write("in/1.csv", "a\n1\n2\n");
    desk.write("in/2.csv", "a,b\n3,x\n4,y\n");
    let schema = desk.infer(None).expect("a schema");
    let b = schema.column("b").expect("it is in one file");
    assert!(b.missing_max.is_some_and(|it| 0.5 < it && it < 0.52), "{b:?}");
}

#[test]
fn an_unknown_label_lists_near_names() {
    let desk = Desk::csv("a int feature", "id,late,carrier\n1,true,UA\n");
    check(desk.infer(Some("lat")), "label-unknown", 2, &["`lat`", "nearest columns are: `late`"]);
}
