//! The slices that a rule names.

use super::super::{RULE_SLICES_MAX, SliceRef};
use crate::{Document, Failure, Name};

/// Slices that are crossed with each other: beyond three, cells have no rows.
const CROSSED_MAX: usize = 3;

/// `slice` or `slices`; all rows when neither is given.
pub(super) fn slices(
    document: &Document,
    key: &str,
    one: Option<&str>,
    many: Option<&[String]>,
) -> Result<Vec<SliceRef>, Failure> {
    let (field, texts) = match (one, many) {
        (Some(_), Some(_)) => {
            return Err(document
                .refuse(&format!("{key}.slices"), "a rule has `slice` or `slices`, not both"));
        }
        (None, None) => return Ok(vec![SliceRef::All]),
        (Some(one), None) => ("slice", vec![one]),
        (None, Some(many)) => ("slices", many.iter().map(String::as_str).collect()),
    };
    let key = format!("{key}.{field}");
    if texts.is_empty() || RULE_SLICES_MAX < texts.len() {
        return Err(document.refuse(
            &key,
            format!("`slices` names {}, must be 1 to {RULE_SLICES_MAX}", texts.len()),
        ));
    }
    let mut slices: Vec<SliceRef> = Vec::with_capacity(texts.len());
    for text in texts {
        let slice = slice(text).ok_or_else(|| {
            let asked: String = text.chars().take(80).collect();
            document.refuse(
                &key,
                format!(
                    "`{asked}` is not a slice, must be `all`, a name as in `evening`, one value as in `carrier=UA`, \
                     every value as in `carrier=*`, or two or three of these crossed as in `evening & carrier=*`"
                ),
            )
        })?;
        if slices.contains(&slice) {
            return Err(document.refuse(&key, format!("slice `{slice}` is named twice")));
        }
        slices.push(slice);
    }
    Ok(slices)
}

fn slice(text: &str) -> Option<SliceRef> {
    if text == "all" {
        return Some(SliceRef::All);
    }
    let mut parts: Vec<SliceRef> =
        text.split(" & ").map(|it| part(it.trim())).collect::<Option<_>>()?;
    match parts.len() {
        1 => parts.pop(),
        2..=CROSSED_MAX => {
            // In one order, so that a slice has one name; crossed with itself it is itself, and a mistake.
            parts.sort_by_key(SliceRef::to_string);
            let is_repeated = parts.windows(2).any(|it| column(&it[0]) == column(&it[1]));
            (!is_repeated).then_some(SliceRef::Crossed(parts))
        }
        _ => None,
    }
}

fn part(text: &str) -> Option<SliceRef> {
    let (name, value) = match text.split_once('=') {
        Some((name, value)) => (name, Some(value)),
        None => (text, None),
    };
    if name.parse::<Name>().is_err() || name == "all" {
        return None;
    }
    Some(match value {
        Some("*") => SliceRef::Every(name.to_owned()),
        _ => SliceRef::Named(text.to_owned()),
    })
}

/// `carrier` of `carrier=UA` and of `carrier=*`: one row has one value.
fn column(slice: &SliceRef) -> String {
    let text = slice.to_string();
    text.split_once('=').map_or(text.clone(), |(name, _)| name.to_owned())
}
