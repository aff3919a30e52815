//! Which rows belong to a split.

use karat_core::{SplitSpec, Timestamp};

use super::{Desk, check, name, predicate, schema};

/// The ids of the rows of `split`, in snapshot order.
fn ids(desk: &Desk, split: &str) -> Vec<i64> {
    let located = desk.locate();
    let tables = desk.tables();
    let files = tables.verified.files(&located, crate::snapshot::Order::Path).expect("files");
    let spec = &desk.splits[&name(split)];
    let rule = crate::split::RowRule::compile(&name(split), spec, &desk.schema).expect("a rule");
    let mut wanted = crate::read::Wanted::default();
    wanted.add("id", karat_core::ColumnType::Int, crate::read::Need::As("id"));
    rule.want(&desk.schema, &mut wanted);
    let mut ids = Vec::new();
    for block in crate::read::RowStream::open(files.found, wanted, 2).expect("rows") {
        let block = block.expect("rows");
        let column = block.array("id").expect("ids");
        for i in rule.mask(&block).expect("a mask").set_indices() {
            let text = crate::text::value_text(column, i).expect("an id");
            ids.push(text.parse().expect("a number"));
        }
    }
    ids
}

fn time(from: Option<&str>, to: Option<&str>) -> SplitSpec {
    let at = |text: &str| Timestamp::parse(text).expect("a time");
    SplitSpec { time: Some((from.map(at), to.map(at))), ..SplitSpec::default() }
}

fn hash(from: f64, to: f64) -> SplitSpec {
    SplitSpec { hash: Some((from, to)), ..SplitSpec::default() }
}

#[test]
fn time_ranges_are_half_open_and_rows_without_a_time_are_in_none() {
    let text = "id,at\n1,2013-06-30\n2,2013-07-01\n3,2013-07-01T00:00:00.001Z\n4,2013-08-01\n5,\n";
    let desk = Desk::csv("id int key, at time time", text)
        .with_split("july", time(Some("2013-07-01"), Some("2013-08-01")))
        .with_split("before", time(None, Some("2013-07-01")))
        .with_split("after", time(Some("2013-08-01"), None));
    assert_eq!(ids(&desk, "july"), [2, 3]);
    assert_eq!(ids(&desk, "before"), [1]);
    assert_eq!(ids(&desk, "after"), [4]);
    let desk = Desk { schema: schema("id int key, at time ignore"), ..desk };
    check(desk.try_measure(), "split-time", 2, &["`after`"]);
}

#[test]
fn predicates_are_sql_over_columns_as_written() {
    let text = "id,Carrier,x,late\n1,UA,0.5,true\n2,AA,,false\n3,,2.5,\n4,UA,9,true\n";
    for (rule, expected) in [
        ("Carrier = 'UA'", vec![1, 4]),
        ("Carrier <> 'UA'", vec![2]),
        ("Carrier IS NULL OR x > 5", vec![3, 4]),
        ("late AND x < 1", vec![1]),
        ("NOT late", vec![2]),
        ("id BETWEEN 2 AND 3", vec![2, 3]),
        ("Carrier IN ('AA', 'DL')", vec![2]),
        ("id % 2 = 1", vec![1, 3]),
        ("\"Carrier\" LIKE 'U%' AND id > 1", vec![4]),
        ("lower(Carrier) = 'ua'", vec![1, 4]),
        ("true", vec![1, 2, 3, 4]),
    ] {
        let desk =
            Desk::csv("id int key, Carrier text feature, x float feature, late bool label", text)
                .with_split("some", predicate(rule));
        assert_eq!(ids(&desk, "some"), expected, "{rule}");
    }
}

#[test]
fn predicates_on_time_compare_with_times() {
    let desk =
        Desk::csv("id int key, at time time", "id,at\n1,2013-06-30\n2,2013-07-01T05:00:00Z\n")
            .with_split("july", predicate("at >= TIMESTAMP '2013-07-01 00:00:00'"));
    assert_eq!(ids(&desk, "july"), [2]);
}

#[test]
fn predicates_that_cannot_be_meant_are_refused() {
    for (rule, facts) in [
        ("regoin = 'x'", &["no column is called `regoin`", "`region`"][..]),
        ("region", &["has type Utf8"]),
        ("id +", &["`some`"]),
        ("random() < 0.5", &["random"]),
        ("at < now()", &["now"]),
        ("id IN (SELECT 1)", &["`some`"]),
        ("sum(id) > 1", &["`some`"]),
        ("row_number() over () > 1", &["`some`"]),
    ] {
        let desk =
            Desk::csv("id int key, region text feature, at time time", "id,region,at\n1,x,\n")
                .with_split("some", predicate(rule));
        check(desk.try_measure(), "predicate-invalid", 2, facts);
    }
}

#[test]
fn a_key_keeps_its_split_when_rows_come_and_go() {
    let line = |i: i64| format!("{i},k{}\n", i * 7 % 1000);
    let columns = "id int key, k text feature";
    let head = "id,k\n".to_owned();
    let few: String = head.clone() + &(0..500).map(line).collect::<String>();
    let many: String = head + &(0..2_000).rev().map(line).collect::<String>();
    let of = |text: &str, from, to| {
        let desk = Desk::csv(columns, text).with_split("part", hash(from, to));
        let mut ids = ids(&desk, "part");
        ids.sort_unstable();
        ids
    };
    let before = of(&few, 0.0, 80.0);
    let after: Vec<i64> = of(&many, 0.0, 80.0).into_iter().filter(|it| *it < 500).collect();
    assert_eq!(before, after);
    let rest = of(&few, 80.0, 100.0);
    assert_eq!(before.len() + rest.len(), 500);
    assert!(before.iter().all(|it| !rest.contains(it)));
    assert!((350..450).contains(&before.len()), "{}", before.len());
}

#[test]
fn rows_of_one_group_stay_together_whatever_their_keys() {
    let text: String = "id,house\n".to_owned()
        + &(0..600).map(|i| format!("{i},h{}\n", i % 60)).collect::<String>();
    let desk = Desk::csv("id int key, house text group", &text).with_split("part", hash(0.0, 50.0));
    let ids = ids(&desk, "part");
    let mut houses: Vec<i64> = ids.iter().map(|it| it % 60).collect();
    houses.sort_unstable();
    houses.dedup();
    assert_eq!(ids.len(), houses.len() * 10, "whole houses");
    assert!((15..45).contains(&houses.len()), "{}", houses.len());
}

#[test]
fn the_parts_of_a_rule_must_all_hold() {
    let text: String =
        "id,x\n".to_owned() + &(0..100).map(|i| format!("{i},{}\n", i % 2)).collect::<String>();
    let both = SplitSpec { hash: Some((0.0, 50.0)), ..predicate("x = 1") };
    let desk = Desk::csv("id int key, x int feature", &text)
        .with_split("both", both)
        .with_split("half", hash(0.0, 50.0));
    let odd: Vec<i64> = ids(&desk, "half").into_iter().filter(|it| it % 2 == 1).collect();
    assert_eq!(ids(&desk, "both"), odd);
}

#[test]
fn unknown_and_too_many_splits_are_refused() {
    let text = "id,x,y\n1,2,3\n2,3,4\n";
    let desk = Desk::csv("id int key, x float feature, y float label", text)
        .with_split("train", predicate("true"));
    check(desk.try_fit("trian"), "split-unknown", 2, &["`trian`", "`train`"]);
    let mut desk = desk;
    for i in 0..33 {
        desk = desk.with_split(&format!("s{i}"), predicate("true"));
    }
    check(desk.try_measure(), "splits-too-many", 2, &["34 splits", "at most 32"]);
}
