//! Which rows a slice has.

use karat_core::{ScoredRows, policy::SliceRef, scored::SliceColumn};

use crate::metric::NotMeasured;

/// The slice of all rows.
pub const ALL: &str = "all";

/// A slice that has a name and rows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SliceRows {
    /// `all`, `evening`, `carrier=UA`.
    pub label: String,
    /// Rows of the predictions file, ascending.
    pub rows: Vec<u32>,
}

/// Every slice the predictions declare: `all` first, then in declared order.
#[must_use]
pub fn every(rows: &ScoredRows) -> Vec<SliceRows> {
    std::iter::once(all(rows)).chain(rows.slices.iter().flat_map(of_column)).collect()
}

fn all(rows: &ScoredRows) -> SliceRows {
    SliceRows { label: ALL.to_owned(), rows: (0..rows.n_rows() as u32).collect() }
}

/// The slices a rule means: one for a name, any number for a family.
pub fn resolve(rows: &ScoredRows, slice: &SliceRef) -> Result<Vec<SliceRows>, NotMeasured> {
    let absent = |asked: &str| {
        let known = known(rows);
        let near = karat_core::nearest(asked, known.iter().map(String::as_str));
        NotMeasured::new(format!("no slice `{asked}`: the nearest are `{}`", near.join("`, `")))
    };
    let column = |name: &str, is_family: bool| {
        rows.slices.iter().find(|it| it.name == name && it.is_family == is_family)
    };
    let found = match slice {
        SliceRef::All => vec![all(rows)],
        SliceRef::Every(family) => {
            of_column(column(family, true).ok_or_else(|| absent(&slice.to_string()))?)
        }
        SliceRef::Named(name) => match name.split_once('=') {
            None => of_column(column(name, false).ok_or_else(|| absent(name))?),
            Some((family, _)) => of_column(column(family, true).ok_or_else(|| absent(name))?)
                .into_iter()
                .filter(|it| it.label == *name)
                .collect(),
        },
    };
    if found.iter().all(|it| it.rows.is_empty()) {
        return Err(match slice {
            SliceRef::Named(name) if name.contains('=') && found.is_empty() => absent(name),
            _ => NotMeasured::new(format!("slice `{slice}` has no labelled row")),
        });
    }
    Ok(found)
}

fn of_column(column: &SliceColumn) -> Vec<SliceRows> {
    let mut found: Vec<SliceRows> = column
        .values
        .iter()
        .map(|value| {
            let label = if column.is_family {
                format!("{}={value}", column.name)
            } else {
                column.name.clone()
            };
            SliceRows { label, rows: Vec::new() }
        })
        .collect();
    for (row, code) in column.codes.iter().enumerate() {
        if let Some(slice) = found.get_mut(*code as usize) {
            slice.rows.push(row as u32);
        }
    }
    found
}

fn known(rows: &ScoredRows) -> Vec<String> {
    let mut known = vec![ALL.to_owned()];
    for column in &rows.slices {
        if column.is_family {
            known.push(format!("{}=*", column.name));
            known.extend(column.values.iter().map(|it| format!("{}={it}", column.name)));
        } else {
            known.push(column.name.clone());
        }
    }
    known
}

#[cfg(test)]
mod tests {
    use karat_core::policy::SliceRef;

    use super::{every, resolve};
    use crate::testing::{binary, family};

    #[test]
    fn slices_are_found_and_absent_ones_name_the_nearest() {
        let mut rows = binary(vec![0.0, 1.0, 0.0], vec![0.1, 0.9, 0.4]);
        rows.slices.push(family("carrier", &["UA", "AA", "UA"]));
        let labels: Vec<String> = every(&rows).into_iter().map(|it| it.label).collect();
        assert_eq!(labels, ["all", "carrier=AA", "carrier=UA"]);
        let named = |text: &str| resolve(&rows, &SliceRef::Named(text.to_owned()));
        assert_eq!(named("carrier=UA").expect("declared")[0].rows, [0, 2]);
        let message = named("carrier=UB").expect_err("no such value").reason;
        assert!(message.starts_with("no slice `carrier=UB`: the nearest are `carrier=UA`"), "{message}");
        assert!(named("evening").is_err());
        let message = named("carrier").expect_err("a family, not a slice").reason;
        assert!(message.contains("carrier=*"), "{message}");
        assert_eq!(resolve(&rows, &SliceRef::Every("carrier".to_owned())).expect("family").len(), 2);
        rows.slices[0].codes = vec![0; 3];
        let message = resolve(&rows, &SliceRef::Named("carrier=UA".to_owned())).expect_err("empty");
        assert_eq!(message.reason, "slice `carrier=UA` has no labelled row");
    }
}
