//! What MLflow takes, and how ours is made to fit: names, lengths, and how much goes into one request.
//!
//! Source: MLflow's REST API 2.0, `runs/log-batch`, and `mlflow/utils/validation.py`.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::Point;

/// Numbers in one request.
pub(crate) const METRICS_MAX: usize = 1_000;
/// Parameters in one request.
pub(crate) const PARAMS_MAX: usize = 100;
/// Tags in one request.
pub(crate) const TAGS_MAX: usize = 100;
/// Longest name, in characters.
const KEY_MAX: usize = 250;
/// Longest value of a parameter, in characters. Servers before 2.8 take 500.
const PARAM_MAX: usize = 500;
/// Longest value of a tag, in characters.
const TAG_MAX: usize = 5_000;
/// Digits of a digest in the place that MLflow has for one.
pub(crate) const DATASET_DIGEST_MAX: usize = 36;

/// A name as MLflow takes it: letters, digits and `_-./ `; no step up, no root.
pub(crate) fn key(name: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() || "_-./ ".contains(c) { c } else { '_' };
    let name: String = name.chars().map(plain).take(KEY_MAX).collect();
    let parts: Vec<&str> = name.split('/').filter(|it| !matches!(*it, "" | "." | "..")).collect();
    if parts.is_empty() { "_".to_owned() } else { parts.join("/") }
}

/// As much of a value as fits.
fn value(text: &str, max: usize) -> String {
    let is_long = text.chars().nth(max).is_some();
    if !is_long {
        return text.to_owned();
    }
    text.chars().take(max - 1).chain(['…']).collect()
}

/// Requests' worth of parameters.
pub(crate) fn params(params: &BTreeMap<String, String>) -> Vec<Vec<Value>> {
    pairs(params, PARAM_MAX, PARAMS_MAX)
}

/// Requests' worth of tags.
pub(crate) fn tags(tags: &BTreeMap<String, String>) -> Vec<Vec<Value>> {
    pairs(tags, TAG_MAX, TAGS_MAX)
}

fn pairs(all: &BTreeMap<String, String>, longest: usize, most: usize) -> Vec<Vec<Value>> {
    let one = |(name, text): (&String, &String)| json!({ "key": key(name), "value": value(text, longest) });
    all.iter().map(one).collect::<Vec<_>>().chunks(most).map(<[_]>::to_vec).collect()
}

/// One number. JSON has no NaN and no infinities: MLflow takes their names.
pub(crate) fn metric(point: &Point) -> Value {
    let value = match point.value {
        it if it.is_nan() => json!("NaN"),
        it if it.is_infinite() => json!(if 0.0 < it { "Infinity" } else { "-Infinity" }),
        it => json!(it),
    };
    json!({ "key": key(&point.key), "value": value, "timestamp": point.at.0, "step": point.step })
}

/// Tags that say which numbers are NaN somewhere: pages of the server break over them, and some stores change them.
pub(crate) fn nan_tags(points: &[Point]) -> BTreeMap<String, String> {
    let nan = points.iter().filter(|it| it.value.is_nan());
    nan.map(|it| (format!("{}_is_nan", it.key), "true".to_owned())).collect()
}

/// Whether MLflow takes an alias of this name.
pub(crate) fn is_alias(alias: &str) -> bool {
    let is_version =
        alias.strip_prefix('v').is_some_and(|it| it.bytes().all(|b| b.is_ascii_digit()));
    alias.len() <= 255 && alias != "latest" && !is_version
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use karat_core::Timestamp;

    use super::{is_alias, key, metric, nan_tags, params};
    use crate::Point;

    #[test]
    fn names_are_made_to_fit_and_lead_nowhere() {
        for (name, fits) in [
            ("auc", "auc"),
            ("auc/carrier=UA", "auc/carrier_UA"),
            ("../../etc/passwd", "etc/passwd"),
            ("/model//x", "model/x"),
            ("größe", "gr__e"),
            ("..", "_"),
            ("", "_"),
        ] {
            assert_eq!(key(name), fits);
        }
        assert_eq!(key(&"x".repeat(999)).len(), 250);
    }

    #[test]
    fn long_values_are_cut_and_many_are_split() {
        let many: BTreeMap<String, String> =
            (0..250).map(|it| (format!("p{it}"), "é".repeat(600))).collect();
        let requests = params(&many);
        assert_eq!(requests.iter().map(Vec::len).collect::<Vec<_>>(), [100, 100, 50]);
        let value = requests[0][0]["value"].as_str().expect("text");
        assert_eq!((value.chars().count(), value.chars().last()), (500, Some('…')));
    }

    #[test]
    fn numbers_that_json_does_not_have_go_by_name() {
        let of = |value| Point { key: "loss".to_owned(), value, step: 3, at: Timestamp(7) };
        assert_eq!(metric(&of(f64::NAN))["value"], "NaN");
        assert_eq!(metric(&of(f64::INFINITY))["value"], "Infinity");
        assert_eq!(metric(&of(f64::NEG_INFINITY))["value"], "-Infinity");
        assert_eq!(
            metric(&of(0.5)).to_string(),
            r#"{"key":"loss","step":3,"timestamp":7,"value":0.5}"#
        );
        assert_eq!(
            nan_tags(&[of(f64::NAN), of(1.0)]),
            [("loss_is_nan".to_owned(), "true".to_owned())].into()
        );
    }

    #[test]
    fn some_names_of_aliases_mean_something_else_there() {
        assert!(is_alias("champion") && is_alias("v2-old"));
        assert!(!is_alias("latest") && !is_alias("v12"));
    }
}
