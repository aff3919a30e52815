//! Records of any form as names and values: `train.model.hidden` → `[256, 256]`.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::{
    html::{Html, html},
    parts::{Column, code, table},
};

/// Leaves of a record that are shown.
const LEAVES_MAX: usize = 1000;
/// Characters of a value that are shown.
const VALUE_LEN_MAX: usize = 400;

/// Every leaf by its path, in order. Lists of plain values are one leaf.
pub(crate) fn leaves(value: &Value) -> Vec<(String, String)> {
    let mut found = Vec::new();
    collect(value, String::new(), &mut found);
    found
}

fn collect(value: &Value, path: String, found: &mut Vec<(String, String)>) {
    if LEAVES_MAX <= found.len() {
        return;
    }
    let below = |key: &str| if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") };
    match value {
        Value::Object(map) if !map.is_empty() => {
            for (key, value) in map {
                collect(value, below(key), found);
            }
        }
        Value::Array(list) if list.iter().any(|it| it.is_object() || it.is_array()) => {
            for (i, value) in list.iter().enumerate() {
                collect(value, below(&(i + 1).to_string()), found);
            }
        }
        Value::Null => {}
        Value::String(text) => found.push((path, clipped(text))),
        other => found.push((path, clipped(&other.to_string().replace(',', ", ")))),
    }
}

fn clipped(text: &str) -> String {
    match text.char_indices().nth(VALUE_LEN_MAX) {
        None => text.to_owned(),
        Some((end, _)) => format!("{}…", &text[..end]),
    }
}

/// The leaves as a table; nothing when there are none.
pub(crate) fn leaf_table(caption: &str, leaves: &[(String, String)]) -> Html {
    if leaves.is_empty() {
        return Html::default();
    }
    let rows = leaves.iter().map(|(path, value)| vec![code(path), code(value)]).collect();
    table(caption, &[Column::Text("key"), Column::Text("value")], rows)
}

/// Leaves of several records side by side: those that differ, then how many are the same.
pub(crate) fn difference_table(
    caption: &str,
    heads: &[String],
    records: &[Vec<(String, String)>],
) -> Html {
    let mut paths: Vec<&String> = Vec::new();
    let maps: Vec<BTreeMap<&String, &String>> =
        records.iter().map(|it| it.iter().map(|(path, value)| (path, value)).collect()).collect();
    for (path, _) in records.iter().flatten() {
        if !paths.contains(&path) {
            paths.push(path);
        }
    }
    let cells = |path: &String| maps.iter().map(|it| it.get(path).copied()).collect::<Vec<_>>();
    let (differing, same): (Vec<&String>, Vec<&String>) =
        paths.into_iter().partition(|path| cells(path).windows(2).any(|pair| pair[0] != pair[1]));
    let same = match same.len() {
        0 => Html::default(),
        1 => html!("<p class=\"lead\">1 more is the same in all.</p>\n"),
        n => html!("<p class=\"lead\">{} more are the same in all.</p>\n", n),
    };
    if differing.is_empty() {
        return html!("<p>Nothing differs.</p>\n{}", same);
    }
    let mut columns = vec![Column::Text("key")];
    columns.extend(heads.iter().map(|it| Column::Text(it)));
    let row = |path: &String| {
        let values = cells(path).into_iter().map(|it| it.map_or_else(|| html!("–"), code));
        std::iter::once(code(path)).chain(values).collect()
    };
    html!("{}{}", table(caption, &columns, differing.into_iter().map(row).collect()), same)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{LEAVES_MAX, difference_table, leaves};

    #[test]
    fn records_become_paths_and_values() {
        let record = json!({
            "train": { "hidden": [8, 8], "label": null, "name": "a" },
            "rules": [{ "min": 0.5 }, { "max": 1 }],
            "empty": {},
        });
        let found = leaves(&record);
        let shown: Vec<_> = found.iter().map(|(a, b)| (a.as_str(), b.as_str())).collect();
        assert_eq!(
            shown,
            [
                ("empty", "{}"),
                ("rules.1.min", "0.5"),
                ("rules.2.max", "1"),
                ("train.hidden", "[8, 8]"),
                ("train.name", "a"),
            ]
        );
        let long = json!((0..5000).map(|i| json!({ "i": i })).collect::<Vec<_>>());
        assert_eq!(leaves(&long).len(), LEAVES_MAX);
    }

    #[test]
    fn only_what_differs_is_listed() {
        let records = [json!({ "a": 1, "b": 2 }), json!({ "a": 1, "b": 3, "c": 4 })];
        let records = records.map(|it| leaves(&it));
        let heads = ["one".to_owned(), "two".to_owned()];
        let shown = difference_table("differences", &heads, &records).into_string();
        assert!(
            !shown.contains("<code>a</code>") && shown.contains("1 more is the same"),
            "{shown}"
        );
        assert!(shown.contains("<code>b</code>") && shown.contains("<td>–</td>"), "{shown}");
    }
}
